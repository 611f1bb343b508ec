//! Older kernels: one file per feature we prefer, the new road and the old one side by side.

pub mod clone3;
pub mod close_range;
pub mod procfs;
