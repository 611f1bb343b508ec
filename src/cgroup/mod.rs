//! Cgroups: where, what to write, and a handle on one that exists.
