//! `tmpcopyup`: a new tmpfs begins with what the directory below it holds.
//!
//! That directory is the image's, so nothing in it is trusted: links are copied as links, nodes as nodes, nothing
//! but regular files is opened, and everything goes by handle.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::{Context, Result};
use crate::sys::file::{self, FileType, Mode, OFlags, Stat};
use crate::sys::{Errno, Refused};

/// How many directories may lie in each other. Each costs two descriptors and a piece of the stack, neither of which an image
/// is to exhaust; no path has room for so many names of more than three letters.
const DEEPEST: u32 = 1000;

/// Copies what is in `from` into `to`. Owners and modes are kept; times and extended attributes are not.
///
/// # Errors
/// `ENAMETOOLONG` for more than [`DEEPEST`] directories in each other.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    level(from, to, DEEPEST)
}

fn level(from: BorrowedFd<'_>, to: BorrowedFd<'_>, deeper: u32) -> Result<()> {
    let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let listed = file::openat(from, Path::new("."), list, Mode::empty())?;
    let names = file::getdents(listed.as_fd())?;
    // Two descriptors on each level are enough.
    drop(listed);
    for (name, _) in names {
        let stat = file::fstatat(from, Path::new(&name))?;
        let copied = one(from, to, &name, &stat, deeper);
        // The whole way down to what failed would be a line of a thousand names.
        if deeper == DEEPEST { copied.doing_with(|| name.to_string_lossy().into_owned())? } else { copied? }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, stat: &Stat, deeper: u32) -> Result<()> {
    let name = Path::new(name);
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let kind = FileType::from_raw_mode(stat.st_mode);
    let copied = match kind {
        FileType::Directory => {
            let Some(deeper) = deeper.checked_sub(1) else {
                let args = format_args!("{name:?}, {DEEPEST} directories deep");
                return Err(Refused::new("mkdirat", args, Errno::ENAMETOOLONG).into());
            };
            let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let source = file::openat(from, name, directory, Mode::empty())?;
            file::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let made = file::openat(to, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            level(source.as_fd(), made.as_fd(), deeper)?;
            Some(made)
        }
        FileType::RegularFile => Some(content(from, to, name)?),
        FileType::Symlink => {
            file::symlinkat(&file::readlinkat(from, name)?, to, name)?;
            None
        }
        _ => {
            file::mknodat(to, name, kind, mode, file::device_number(stat.st_rdev))?;
            None
        }
    };
    match copied {
        Some(made) => {
            file::fchown(made.as_fd(), stat.st_uid, stat.st_gid)?;
            // After the owner: a change of owner takes away setuid.
            file::fchmod(made.as_fd(), mode)?;
        }
        None => {
            let made = file::openat(to, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
            file::fchown(made.as_fd(), stat.st_uid, stat.st_gid)?;
        }
    }
    Ok(())
}

/// Copies a regular file, holes as holes. O_NONBLOCK: it may have become a FIFO since it was looked at.
fn content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let source = file::openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let made = file::openat(to, name, create, Mode::from_raw_mode(0o600))?;
    if FileType::from_raw_mode(file::fstat(source.as_fd())?.st_mode) == FileType::RegularFile {
        file::copy_data(source.as_fd(), made.as_fd())?;
    }
    Ok(made)
}
