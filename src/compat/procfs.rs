//! needs    fsopen(2) and fsmount(2), the right to make a procfs of our pid namespace, and its option `subset=pid`
//! since    Linux 5.2, 5.8
//! instead  the /proc in view: the host's, or after the container's root was entered the container's
//! loses    the handle may then lead to the host's procfs, until the program is executed; a label is written through
//!          the container's procfs, or is an error where there is none

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::own_fd::PROC_MAGIC;
use crate::error::{Error, Kind, Result};
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::{self, mount};

/// A procfs that nobody can have prepared: a new, detached one.
///
/// To be opened before the container's root is entered; afterwards only the image's /proc is left.
pub fn open() -> sys::Result<OwnedFd> {
    detached(false).or_else(|_| file::openat(CWD, Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()))
}

/// A procfs of processes alone, for what a process has to say about itself: without `sys` and all else that a
/// container must not see, so that it may be held where a container can look (CVE-2016-9962).
///
/// Needs nothing of the /proc in view where a new procfs can be had. In a user namespace whose /proc has masks, none
/// can; what is at /proc then must be the root of a procfs, and below that the caller crosses no mount.
///
/// # Errors
/// `Unsupported` where /proc is something else (CVE-2019-16884).
pub fn open_of_processes() -> Result<OwnedFd> {
    if let Ok(made) = detached(true) {
        return Ok(made);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let there = file::openat(CWD, Path::new("/proc"), flags, Mode::empty())?;
    prove(there.as_fd())?;
    Ok(there)
}

fn prove(there: BorrowedFd<'_>) -> Result<()> {
    match is_whole(there)? {
        true => Ok(()),
        false => {
            Err(Error::new(Kind::Unsupported, "no procfs of our own can be made here, and what is at /proc is none"))
        }
    }
}

/// Whether this is the root of a procfs, and not a part of one.
pub fn is_whole(there: BorrowedFd<'_>) -> sys::Result<bool> {
    /// Inode of the root of every procfs (PROC_ROOT_INO).
    const ROOT: u64 = 1;
    Ok(file::fstatfs(there)?.magic == PROC_MAGIC && file::fstat(there)?.st_ino == ROOT)
}

fn detached(processes_alone: bool) -> sys::Result<OwnedFd> {
    let context = mount::fsopen("proc")?;
    if processes_alone {
        mount::fsconfig_set_string(context.as_fd(), "subset", "pid")?;
    }
    mount::fsconfig_create(context.as_fd())?;
    mount::fsmount(context.as_fd(), 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// T23: not every directory is a procfs, and not every directory of a procfs its root.
    #[test]
    fn only_the_root_of_a_procfs_is_one() {
        let proof = |path: &str| prove(std::fs::File::open(path).unwrap().as_fd());
        proof("/proc").unwrap();
        for other in ["/", "/tmp", "/proc/self", "/proc/sys", "/sys"] {
            assert_eq!(proof(other).unwrap_err().kind(), Kind::Unsupported, "{other}");
        }
    }

    #[test]
    fn a_procfs_of_processes_has_us_and_no_sysctls() {
        let Ok(proc) = detached(true) else { return };
        let look = |path: &str| file::openat(proc.as_fd(), Path::new(path), OFlags::PATH, Mode::empty());
        prove(proc.as_fd()).unwrap();
        look("thread-self").unwrap();
        assert_eq!(look("sys").unwrap_err().errno, sys::Errno::ENOENT);
        assert_eq!(look("sysrq-trigger").unwrap_err().errno, sys::Errno::ENOENT);
    }
}
