//! Files and directories by handle.
//!
//! Everything takes a directory handle; [`CWD`] is for host paths alone. Metadata is changed through the handle
//! of the object itself (AT_EMPTY_PATH), never by its name.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

pub use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::{Errno, Result, fd, refused};

/// Opens `path` under the conditions of `resolve`.
///
/// openat2(2), Linux 5.6. O_CLOEXEC is added.
pub fn openat2(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode, resolve: ResolveFlags) -> Result<OwnedFd> {
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve).map_err(refused!(
        "openat2",
        "{}, {path:?}, {flags:?}, {resolve:?}",
        fd(&dir)
    ))
}

/// Opens `path`.
///
/// openat(2). O_CLOEXEC is added.
pub fn openat(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, mode).map_err(refused!(
        "openat",
        "{}, {path:?}, {flags:?}",
        fd(&dir)
    ))
}

/// As [`openat2`], for lookups whose refusal is an answer: no words are made for it.
pub fn try_openat2(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// As [`openat`], for lookups whose refusal is an answer: no words are made for it.
pub fn try_openat(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, mode).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// Makes a directory; the umask applies.
///
/// mkdirat(2).
pub fn mkdirat(dir: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<()> {
    rustix::fs::mkdirat(dir, name, mode).map_err(refused!("mkdirat", "{}, {name:?}, {mode:?}", fd(&dir)))
}

/// Makes a node; the umask applies.
///
/// mknodat(2).
pub fn mknodat(dir: BorrowedFd<'_>, name: &Path, kind: FileType, mode: Mode, (major, minor): (u32, u32)) -> Result<()> {
    rustix::fs::mknodat(dir, name, kind, mode, rustix::fs::makedev(major, minor)).map_err(refused!(
        "mknodat",
        "{}, {name:?}, {kind:?}, {mode:?}, {major}:{minor}",
        fd(&dir)
    ))
}

/// Makes a symbolic link with the text `text`.
///
/// symlinkat(2).
pub fn symlinkat(text: &Path, dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    rustix::fs::symlinkat(text, dir, name).map_err(refused!("symlinkat", "{text:?}, {}, {name:?}", fd(&dir)))
}

/// Reads the text of a symbolic link. An empty `name` reads the link that `dir` itself is a handle of.
///
/// readlinkat(2); the empty name since Linux 2.6.39.
pub fn readlinkat(dir: BorrowedFd<'_>, name: &Path) -> Result<PathBuf> {
    rustix::fs::readlinkat(dir, name, Vec::new())
        .map(|text: CString| PathBuf::from(OsString::from_vec(text.into_bytes())))
        .map_err(refused!("readlinkat", "{}, {name:?}", fd(&dir)))
}

/// Removes a name; AtFlags::REMOVEDIR for a directory.
///
/// unlinkat(2).
pub fn unlinkat(dir: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<()> {
    rustix::fs::unlinkat(dir, name, flags).map_err(refused!("unlinkat", "{}, {name:?}, {flags:?}", fd(&dir)))
}

/// Gives an entry of `dir` another name in it, replacing what has that name.
///
/// renameat(2).
pub fn renameat(dir: BorrowedFd<'_>, from: &Path, to: &Path) -> Result<()> {
    rustix::fs::renameat(dir, from, dir, to).map_err(refused!("renameat", "{}, {from:?}, {to:?}", fd(&dir)))
}

/// What the handle is about.
///
/// fstat(2); on O_PATH handles since Linux 3.6.
pub fn fstat(file: BorrowedFd<'_>) -> Result<Stat> {
    rustix::fs::fstat(file).map_err(refused!("fstat", "{}", fd(&file)))
}

/// What a name is about, without following it.
///
/// fstatat(2) with AT_SYMLINK_NOFOLLOW.
pub fn fstatat(dir: BorrowedFd<'_>, name: &Path) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refused!("fstatat", "{}, {name:?}", fd(&dir)))
}

/// The filesystem below a handle: its magic number and the ST_* flags of the mount.
///
/// fstatfs(2); on O_PATH handles since Linux 3.12.
pub fn fstatfs(file: BorrowedFd<'_>) -> Result<Filesystem> {
    let answer = rustix::fs::fstatfs(file).map_err(refused!("fstatfs", "{}", fd(&file)))?;
    // Both are small bit patterns; their C types differ between architectures.
    Ok(Filesystem { magic: answer.f_type as u64 & 0xffff_ffff, flags: answer.f_flags as u64 })
}

/// Answer of [`fstatfs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filesystem {
    /// `*_SUPER_MAGIC` (statfs(2)).
    pub magic: u64,
    /// ST_* bits of the mount.
    pub flags: u64,
}

/// Major and minor number of a device, from `st_rdev`.
pub fn device_number(rdev: u64) -> (u32, u32) {
    (rustix::fs::major(rdev), rustix::fs::minor(rdev))
}

/// Owner of what the handle is about, through the handle.
///
/// fchownat(2) with AT_EMPTY_PATH, Linux 2.6.39.
pub fn fchown(file: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    rustix::fs::chownat(
        file,
        c"",
        Some(rustix::fs::Uid::from_raw(uid)),
        Some(rustix::fs::Gid::from_raw(gid)),
        AtFlags::EMPTY_PATH,
    )
    .map_err(refused!("fchownat", "{}, \"\", {uid}, {gid}, AT_EMPTY_PATH", fd(&file)))
}

/// Mode of what the handle is about. The handle must not be O_PATH.
///
/// fchmod(2).
pub fn fchmod(file: BorrowedFd<'_>, mode: Mode) -> Result<()> {
    rustix::fs::fchmod(file, mode).map_err(refused!("fchmod", "{}, {mode:?}", fd(&file)))
}

/// Mode of what the name is about, following it: for names below a trusted /proc/self/fd alone.
///
/// fchmodat(2).
pub fn fchmodat(dir: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<()> {
    rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).map_err(refused!(
        "fchmodat",
        "{}, {name:?}, {mode:?}",
        fd(&dir)
    ))
}

/// Sets an extended attribute by path: for names below a trusted /proc/self/fd alone.
///
/// setxattr(2).
pub fn setxattr(path: &Path, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty())
        .map_err(refused!("setxattr", "{path:?}, {name}"))
}

/// Makes the directory the working directory.
///
/// fchdir(2); on O_PATH handles since Linux 3.5.
pub fn fchdir(dir: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(dir).map_err(refused!("fchdir", "{}", fd(&dir)))
}

/// Makes the directory the root directory. The working directory stays.
///
/// chroot(2).
pub fn chroot(path: &Path) -> Result<()> {
    rustix::process::chroot(path).map_err(refused!("chroot", "{path:?}"))
}

/// Sets the file mode creation mask; returns the one before.
///
/// umask(2).
pub fn umask(mask: Mode) -> Mode {
    rustix::process::umask(mask)
}

/// Reads up to a buffer full.
///
/// read(2).
pub fn read<F: AsFd>(file: &F, buffer: &mut [u8]) -> Result<usize> {
    rustix::io::read(file, buffer).map_err(refused!("read", "{}", fd(file)))
}

/// Reads what is left, up to `limit` bytes: a file that an image made may be endless.
///
/// read(2).
pub fn read_all(file: OwnedFd, limit: u64) -> Result<Vec<u8>> {
    // One read for a file of known size, and a page to begin with for those of /proc, whose size is 0.
    let size = u64::try_from(fstat(file.as_fd())?.st_size).unwrap_or(0).min(limit);
    let file = File::from(file);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1).max(4096));
    (&file).take(limit).read_to_end(&mut bytes).map_err(refused!("read", "{}", fd(&file)))?;
    Ok(bytes)
}

/// Writes all of it.
///
/// write(2).
pub fn write_all(file: OwnedFd, bytes: &[u8]) -> Result<()> {
    let mut file = File::from(file);
    file.write_all(bytes).map_err(refused!("write", "{}, {} bytes", fd(&file), bytes.len()))
}

/// Names in a directory and what they are, without `.` and `..`. The handle must not be O_PATH.
///
/// getdents64(2).
pub fn getdents(dir: BorrowedFd<'_>) -> Result<Vec<(OsString, FileType)>> {
    let entries = rustix::fs::Dir::read_from(dir).map_err(refused!("getdents64", "{}", fd(&dir)))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(refused!("getdents64", "{}", fd(&dir)))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsString::from_vec(name.to_vec()), entry.file_type()));
        }
    }
    Ok(names)
}

/// Reads up to a buffer full from this offset; less only at the end of the file.
///
/// pread(2), until the buffer is full.
pub fn pread(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(filled as u64);
        match rustix::io::pread(file, rest, at).map_err(refused!("pread", "{}, {at}", fd(&file)))? {
            0 => break,
            got => filled += got,
        }
    }
    Ok(filled)
}

/// Writes once, and tells how much was taken: for files of the kernel, where each write is a command.
///
/// write(2).
pub fn write<F: AsFd>(file: &F, bytes: &[u8]) -> Result<usize> {
    rustix::io::write(file, bytes).map_err(refused!("write", "{}, {} bytes", fd(file), bytes.len()))
}

/// The major number of a device.
pub fn major(device: u64) -> u32 {
    rustix::fs::major(device)
}

/// The three standard streams, as they are now. Any of them may be closed (EBADF of what is done with it).
pub fn stdio() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

/// Copies what a regular file holds to an empty one, leaving holes where there are holes.
///
/// lseek(2) with SEEK_DATA and SEEK_HOLE, Linux 3.1; sendfile(2).
pub fn copy_data(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    use rustix::fs::SeekFrom;
    let size = fstat(from)?.st_size;
    rustix::fs::ftruncate(to, size as u64).map_err(refused!("ftruncate", "{}, {size}", fd(&to)))?;
    let mut at = 0_u64;
    loop {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            // Behind the last piece of data.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            found => found.map_err(refused!("lseek", "{}, {at}, SEEK_DATA", fd(&from)))?,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).map_err(refused!(
            "lseek",
            "{}, {start}, SEEK_HOLE",
            fd(&from)
        ))?;
        rustix::fs::seek(to, SeekFrom::Start(start)).map_err(refused!("lseek", "{}, {start}", fd(&to)))?;
        let mut offset = start;
        while offset < end {
            let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(1 << 30);
            let sent = rustix::fs::sendfile(to, from, Some(&mut offset), length).map_err(refused!(
                "sendfile",
                "{}, {}, {length}",
                fd(&to),
                fd(&from)
            ))?;
            if sent == 0 {
                return Ok(());
            }
        }
        at = end;
    }
}
