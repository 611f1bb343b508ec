//! What may be done to a container.
