//! Kernel parameters of the container's own namespaces.
