//! Namespaces: open, check, join, make, map ids, time offsets.
