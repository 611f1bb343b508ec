//! Sockets: pairs, messages with descriptors.
