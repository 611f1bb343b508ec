//! needs    `cgroup.kill` of cgroup v2
//! since    Linux 5.14
//! instead  the caller freezes the cgroup, signals each process and thaws it
//! loses    time; a process that cannot be frozen may bear a child that is missed

use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::{self, Errno, cgroupfs};

/// Kills every process in a cgroup of v2 and below it; `false` where the kernel cannot, or the cgroup is gone.
///
/// # Errors
/// Any other refusal.
pub fn kill(cgroup: BorrowedFd<'_>) -> sys::Result<bool> {
    let file = match cgroupfs::openat_write(cgroup, "cgroup.kill") {
        Ok(file) => file,
        Err(refused) if refused.errno == Errno::ENOENT => return Ok(false),
        Err(refused) => return Err(refused),
    };
    match cgroupfs::write(file.as_fd(), "1") {
        Ok(()) => Ok(true),
        // A threaded cgroup; or it has just gone.
        Err(refused) if matches!(refused.errno, Errno::EOPNOTSUPP | Errno::ENODEV) => Ok(false),
        Err(refused) => Err(refused),
    }
}
