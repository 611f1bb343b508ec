//! Namespaces: join, unshare, identify.
