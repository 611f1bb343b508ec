//! Descriptors by number: what happens to them at the next exec.

use std::os::fd::RawFd;

use super::{Errno, Result, refused};

/// Marks every descriptor from `first` upwards close-on-exec. close_range(2), CLOSE_RANGE_CLOEXEC, Linux 5.11.
pub fn close_range_cloexec(first: u32) -> Result<()> {
    // SAFETY: the call takes three integers, and closes nothing now.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(done).map(drop).map_err(refused!("close_range", "{first}, MAX, CLOEXEC"))
}

/// Sets whether a descriptor is close-on-exec. fcntl(2) F_SETFD.
///
/// # Errors
/// `EBADF` where there is none of that number.
pub fn set_cloexec(number: RawFd, on: bool) -> Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer and touches no memory.
    let done = unsafe { libc::fcntl(number, libc::F_SETFD, flags) };
    Errno::result(done).map(drop).map_err(refused!("fcntl", "{number}, F_SETFD, {flags}"))
}
