//! needs    calls that take a handle alone: mount_setattr(2), setxattrat(2)
//! since    Linux 5.12, 6.13
//! instead  `self/fd/N` on a procfs that was opened before the container's own came into view
//! loses    nothing, as long as that procfs is the host's

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, Mode, OFlags};

/// PROC_SUPER_MAGIC (statfs(2)).
pub const PROC_MAGIC: u64 = 0x9fa0;

/// A procfs that nobody in the container has made (CVE-2026-115521).
#[derive(Debug)]
pub struct Procfs(Option<OwnedFd>);

impl Procfs {
    /// Takes hold of the host's. A host without /proc is no error before the handle is needed.
    pub fn hold() -> Self {
        let held = file::openat(file::CWD, Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .ok()
            .filter(|proc| file::fstatfs(proc.as_fd()).is_ok_and(|fs| fs.magic == PROC_MAGIC));
        Procfs(held)
    }

    /// Calls `act` in this procfs as working directory, where [`own`] names our descriptors: mount(2) takes no
    /// directory handle. The working directory is restored.
    pub fn within<T>(&self, act: impl FnOnce() -> crate::sys::Result<T>) -> Result<T> {
        let Some(proc) = &self.0 else {
            return Err(Error::new(Kind::Unsupported, "this kernel needs /proc on the host for it"));
        };
        let before = file::openat(file::CWD, Path::new("."), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        file::fchdir(proc.as_fd())?;
        let done = act();
        file::fchdir(before.as_fd()).doing("return to the working directory")?;
        Ok(done?)
    }
}

/// Name of a descriptor of ours within a procfs.
pub fn own(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("self/fd/{}", fd.as_raw_fd()))
}
