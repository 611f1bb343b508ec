//! Files without a name: memfds, their seals, and copies into them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use super::{Errno, Result, fd, refused};

/// What makes a file's contents final: no writing, growing or shrinking, nor more seals.
const FINAL: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A file in memory that can be sealed and executed. memfd_create(2) with MFD_EXEC, Linux 6.3.
///
/// # Errors
/// `EINVAL` where the flag is not known; `EACCES` where executable ones are forbidden (sysctl `vm.memfd_noexec`).
pub fn memfd_create_exec(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::EXEC;
    rustix::fs::memfd_create(name, flags).map_err(refused!("memfd_create", "{name:?}, MFD_EXEC"))
}

/// The same before Linux 6.3, when every one could be executed. Linux 3.17.
pub fn memfd_create(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    rustix::fs::memfd_create(name, flags).map_err(refused!("memfd_create", "{name:?}"))
}

/// Makes the contents final. fcntl(2) F_ADD_SEALS, Linux 3.17.
pub fn seal_contents(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fcntl_add_seals(file, FINAL).map_err(refused!("fcntl", "{}, F_ADD_SEALS, {FINAL:?}", fd(&file)))
}

/// Makes the permission to execute final; before the contents are. fcntl(2) F_SEAL_EXEC, Linux 6.3.
pub fn seal_mode(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fcntl_add_seals(file, SealFlags::EXEC).map_err(refused!("fcntl", "{}, F_SEAL_EXEC", fd(&file)))
}

/// Whether the contents are final. fcntl(2) F_GET_SEALS; `false` for files that have no seals.
pub fn is_sealed(file: BorrowedFd<'_>) -> Result<bool> {
    match rustix::fs::fcntl_get_seals(file) {
        Ok(seals) => Ok(seals.contains(FINAL)),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(errno) => Err(refused!("fcntl", "{}, F_GET_SEALS", fd(&file))(errno)),
    }
}

/// A file on disk that never had a name. openat(2) O_TMPFILE, Linux 3.11.
pub fn open_tmpfile(directory: &Path) -> Result<OwnedFd> {
    rustix::fs::open(directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o700))
        .map_err(refused!("open", "{directory:?}, O_TMPFILE"))
}

/// Copies `length` bytes, in the kernel. sendfile(2).
///
/// # Errors
/// `EIO` where the source ended before.
pub fn copy<T: AsFd, S: AsFd>(to: &T, from: &S, length: u64) -> Result<()> {
    let mut left = length;
    while left > 0 {
        match rustix::io::retry_on_intr(|| {
            rustix::fs::sendfile(to, from, None, usize::try_from(left).unwrap_or(usize::MAX))
        }) {
            Ok(0) => return Err(refused!("sendfile", "{}, {}, {left}", fd(to), fd(from))(Errno::EIO)),
            Ok(sent) => left = left.saturating_sub(sent as u64),
            Err(errno) => return Err(refused!("sendfile", "{}, {}, {left}", fd(to), fd(from))(errno)),
        }
    }
    Ok(())
}
