//! Facts about this machine, read once.
