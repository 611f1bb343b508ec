//! Namespaces: join, unshare, identify.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, Result, fd, refused};

/// Joins the namespaces that `flags` names: one behind a namespace's descriptor, or several of a process behind
/// its pidfd (Linux 5.8). setns(2).
pub fn setns(target: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // SAFETY: setns takes a descriptor, borrowed for the length of the call, and an integer.
    let done = unsafe { libc::setns(target.as_raw_fd(), flags as i32) };
    Errno::result(done).map(drop).map_err(refused!("setns", "{}, {flags:#x}", fd(&target)))
}

/// Moves this process (for pid and time namespaces: its next child) to new namespaces. unshare(2).
pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: unshare takes an integer; none of the flags used here makes memory or descriptors shared or
    // unshared in a way that Rust could notice (no CLONE_FILES, no CLONE_VM).
    let done = unsafe { libc::unshare(flags as i32) };
    Errno::result(done).map(drop).map_err(refused!("unshare", "{flags:#x}"))
}

/// Which kind of namespace a descriptor is, as its CLONE_NEW* flag. ioctl_ns(2) NS_GET_NSTYPE, Linux 4.11.
///
/// # Errors
/// `ENOTTY` where it is no namespace at all.
pub fn ns_get_nstype(namespace: BorrowedFd<'_>) -> Result<u64> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: this request takes no argument and writes nothing.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) };
    Errno::result(kind).map(|kind| kind as u32 as u64).map_err(refused!("ioctl", "{}, NS_GET_NSTYPE", fd(&namespace)))
}
