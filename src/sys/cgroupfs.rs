//! Directories and small files of a cgroup filesystem, and of resctrl, which is built alike, by handle.
//!
//! Such a filesystem has no symbolic links and nobody but the host's root can mount on it, so a relative
//! path of clean components below a handle stays where it is. The calls refuse links all the same.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};

use super::{Result, fd, refused};

/// Filesystem type of cgroup v1 (statfs(2)).
pub const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
/// Filesystem type of cgroup v2 (statfs(2)).
pub const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// Filesystem type of resctrl (linux/magic.h).
pub const RDTGROUP_SUPER_MAGIC: u64 = 0x0765_5821;

/// Type of the filesystem that holds `path`. statfs(2).
pub fn statfs_type(path: &Path) -> Result<u64> {
    match rustix::fs::statfs(path) {
        Ok(facts) => Ok(facts.f_type.cast_unsigned()),
        Err(errno) => Err(refused!("statfs", "{path:?}")(errno)),
    }
}

/// Type of the filesystem that holds the open `dir`. fstatfs(2); on an O_PATH descriptor since Linux 3.6.
pub fn fstatfs_type(dir: BorrowedFd<'_>) -> Result<u64> {
    match rustix::fs::fstatfs(dir) {
        Ok(facts) => Ok(facts.f_type.cast_unsigned()),
        Err(errno) => Err(refused!("fstatfs", "{}", fd(&dir))(errno)),
    }
}

/// A handle (O_PATH) on the directory at `path`. open(2).
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(refused!("open", "{path:?}, O_PATH|O_DIRECTORY"))
}

/// A handle (O_PATH) on a directory below `dir`. openat(2); a link in the last place is refused.
pub fn openat_directory(dir: BorrowedFd<'_>, path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    rustix::fs::openat(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(refused!("openat", "{}, {path:?}, O_PATH|O_DIRECTORY|O_NOFOLLOW", fd(&dir)))
}

/// A file below `dir`, to be written. openat(2). It is never created and never truncated.
pub fn openat_write(dir: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    rustix::fs::openat(dir, path, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(refused!(
        "openat",
        "{}, {path:?}, O_WRONLY|O_NOFOLLOW",
        fd(&dir)
    ))
}

/// A file below `dir`, to be read. openat(2).
pub fn openat_read(dir: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).map_err(refused!(
        "openat",
        "{}, {path:?}, O_RDONLY|O_NOFOLLOW",
        fd(&dir)
    ))
}

/// One write of the whole of `text`; a cgroup file takes each write(2) as one command. write(2).
///
/// Fails with EIO where the kernel took only a part, which no cgroup file does.
pub fn write(file: BorrowedFd<'_>, text: &str) -> Result<()> {
    match rustix::io::write(file, text.as_bytes()) {
        Ok(written) if written == text.len() => Ok(()),
        Ok(_) => Err(refused!("write", "{}, {text:?}", fd(&file))(rustix::io::Errno::IO)),
        Err(errno) => Err(refused!("write", "{}, {text:?}", fd(&file))(errno)),
    }
}

/// All that a file of the kernel's holds, from its beginning: at most `limit` bytes. pread(2).
pub fn read(file: BorrowedFd<'_>, limit: usize) -> Result<String> {
    let mut text: Vec<u8> = Vec::new();
    let mut chunk = [0_u8; 4096];
    while text.len() < limit {
        let offset = u64::try_from(text.len()).unwrap_or(u64::MAX);
        match rustix::io::pread(file, &mut chunk, offset) {
            Ok(0) => break,
            Ok(taken) => text.extend(chunk.iter().take(taken)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(refused!("pread", "{}", fd(&file))(errno)),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Makes a directory below `dir`, mode 0755. mkdirat(2).
pub fn mkdirat(dir: BorrowedFd<'_>, path: &str) -> Result<()> {
    rustix::fs::mkdirat(dir, path, Mode::from_raw_mode(0o755)).map_err(refused!("mkdirat", "{}, {path:?}", fd(&dir)))
}

/// Makes a user the owner of a file below `dir`, or of `dir` itself (an empty path). fchownat(2).
pub fn fchownat(dir: BorrowedFd<'_>, path: &str, uid: u32) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let owner = rustix::fs::Uid::from_raw(uid);
    rustix::fs::chownat(dir, path, Some(owner), None, flags).map_err(refused!(
        "fchownat",
        "{}, {path:?}, {uid}, -1, AT_SYMLINK_NOFOLLOW|AT_EMPTY_PATH",
        fd(&dir)
    ))
}

/// Removes an empty directory below `dir`. unlinkat(2) with AT_REMOVEDIR.
pub fn rmdirat(dir: BorrowedFd<'_>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    rustix::fs::unlinkat(dir, path, AtFlags::REMOVEDIR).map_err(refused!(
        "unlinkat",
        "{}, {path:?}, AT_REMOVEDIR",
        fd(&dir)
    ))
}

/// Names of the directories in `dir`, which need not be UTF-8. getdents64(2).
pub fn subdirectories(dir: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let list = rustix::fs::openat(
        dir,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(refused!("openat", "{}, \".\", O_RDONLY|O_DIRECTORY", fd(&dir)))?;
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(&list, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(refused!("getdents64", "{}", fd(&dir)))?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}

/// Waits until the kernel says that a file of cgroup v2 has changed, or the time is over. poll(2), POLLPRI.
pub fn poll_changed(file: BorrowedFd<'_>, timeout: Duration) -> Result<()> {
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    let mut waiting = [PollFd::new(&file, PollFlags::PRI)];
    match rustix::event::poll(&mut waiting, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(refused!("poll", "{}, POLLPRI", fd(&file))(errno)),
    }
}

/// Sends SIGKILL to one process. kill(2).
pub fn kill(pid: rustix::process::Pid) -> Result<()> {
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(refused!(
        "kill",
        "{}, SIGKILL",
        pid.as_raw_nonzero()
    ))
}
