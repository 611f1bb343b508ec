//! needs    openat2(2)
//! since    Linux 5.6
//! instead  one openat(2) with O_PATH and O_NOFOLLOW per component
//! loses    with [`Mounts::Stay`], a bind of the very same filesystem is not noticed

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use super::Road;
use crate::sys::file::{self, Mode, OFlags, ResolveFlags};
use crate::sys::{Errno, Result, fd, refused};

pub(crate) static ROAD: Road = Road::new();

/// How often a lookup is tried again that collided with somebody's rename(2): a rename storm must end in an
/// error, not in a livelock.
const TRIES: u32 = 128;

/// Whether a lookup may pass from one mount to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// It may.
    Cross,
    /// It must stay on the mount of the directory it begins in.
    Stay,
}

/// Opens `path` beneath `dir`, without following a link of any kind.
///
/// `path` is relative to `dir` (a leading `/` means `dir`), and empty for `dir` itself; `..` is refused.
///
/// # Errors
/// `ELOOP` where there is a link (with O_PATH and O_NOFOLLOW the last component may be one: the link itself is
/// opened); `EXDEV` for `..` and for a mount that must not be crossed; `EAGAIN` in a rename storm.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode, mounts: Mounts) -> Result<OwnedFd> {
    try_beneath(dir, path, flags, mode, mounts).map_err(refused!(
        "openat2",
        "{}, {path:?}, {flags:?}, RESOLVE_BENEATH and no links",
        fd(&dir)
    ))
}

/// As [`open_beneath`], for lookups whose refusal is an answer: no words are made for it.
pub fn try_beneath(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> std::result::Result<OwnedFd, Errno> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if mounts == Mounts::Stay {
        resolve |= ResolveFlags::NO_XDEV;
    }
    let new = ROAD.take(
        || patiently(|| file::try_openat2(dir, relative, flags, mode, resolve)),
        || file::try_openat2(dir, Path::new("."), OFlags::PATH, Mode::empty(), ResolveFlags::empty()).map(drop),
    )?;
    match new {
        Some(opened) => Ok(opened),
        None => walk(dir, relative, flags, mode, mounts),
    }
}

fn patiently(open: impl Fn() -> std::result::Result<OwnedFd, Errno>) -> std::result::Result<OwnedFd, Errno> {
    let mut left = TRIES;
    loop {
        match open() {
            Err(Errno::EAGAIN) if left > 0 => left -= 1,
            other => return other,
        }
    }
}

fn walk(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    mounts: Mounts,
) -> std::result::Result<OwnedFd, Errno> {
    let device = |fd: BorrowedFd<'_>| file::fstat(fd).map(|stat| stat.st_dev).map_err(|refused| refused.errno);
    let home = device(dir)?;
    let mut names: Vec<&OsStr> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Errno::EXDEV),
        }
    }
    let Some((last, parents)) = names.split_last() else {
        return file::try_openat(dir, Path::new("."), flags, mode);
    };
    let mut held: Option<OwnedFd> = None;
    for name in parents {
        let here = held.as_ref().map_or(dir, |fd| fd.as_fd());
        // O_NOFOLLOW with O_DIRECTORY: a link answers ENOTDIR, as does a file. The link's own answer is wanted.
        match file::try_openat(
            here,
            Path::new(name),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Ok(next) => held = Some(next),
            Err(Errno::ENOTDIR) if is_link(here, name) => return Err(Errno::ELOOP),
            Err(errno) => return Err(errno),
        }
        if mounts == Mounts::Stay
            && let Some(next) = &held
            && device(next.as_fd())? != home
        {
            return Err(Errno::EXDEV);
        }
    }
    let here = held.as_ref().map_or(dir, |fd| fd.as_fd());
    let wants_the_link = flags.contains(OFlags::PATH | OFlags::NOFOLLOW);
    let opened = match file::try_openat(here, Path::new(last), flags | OFlags::NOFOLLOW, mode) {
        Err(Errno::ENOTDIR) if is_link(here, last) => return Err(Errno::ELOOP),
        other => other?,
    };
    let stat = file::fstat(opened.as_fd()).map_err(|refused| refused.errno)?;
    if file::FileType::from_raw_mode(stat.st_mode) == file::FileType::Symlink && !wants_the_link {
        return Err(Errno::ELOOP);
    }
    if mounts == Mounts::Stay && stat.st_dev != home {
        return Err(Errno::EXDEV);
    }
    Ok(opened)
}

fn is_link(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    file::fstatat(dir, Path::new(name))
        .is_ok_and(|stat| file::FileType::from_raw_mode(stat.st_mode) == file::FileType::Symlink)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// The same questions to both roads: they must not disagree.
    fn both(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> [std::result::Result<u64, Errno>; 2] {
        let ino = |fd: OwnedFd| file::fstat(fd.as_fd()).unwrap().st_ino;
        let new = open_beneath(dir, Path::new(path), flags, Mode::empty(), Mounts::Cross);
        let old = walk(dir, Path::new(path.trim_start_matches('/')), flags, Mode::empty(), Mounts::Cross);
        [new.map(ino).map_err(|r| r.errno), old.map(ino)]
    }

    #[test]
    fn both_roads_give_the_same_answers() {
        let folder = std::env::temp_dir().join(format!("orlop-openat2-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("a/b")).unwrap();
        std::fs::write(folder.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.join("a/out")).unwrap();
        std::os::unix::fs::symlink("b", folder.join("a/in")).unwrap();
        let dir = file::try_openat(file::CWD, &folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let path = OFlags::PATH;
        for (name, flags, refusal) in [
            ("a/b", path, None),
            ("/a/b", path, None),
            ("a/file", path, None),
            ("a/file", path | OFlags::DIRECTORY, Some(Errno::ENOTDIR)),
            ("a/out", path, Some(Errno::ELOOP)),
            ("a/in", path | OFlags::DIRECTORY, Some(Errno::ELOOP)),
            ("a/out/passwd", path, Some(Errno::ELOOP)),
            ("a/in", path | OFlags::NOFOLLOW, None),
            ("a/none", path, Some(Errno::ENOENT)),
            ("a/file/x", path, Some(Errno::ENOTDIR)),
            ("a/../../etc", path, Some(Errno::EXDEV)),
        ] {
            let [new, old] = both(dir.as_fd(), name, flags);
            assert_eq!(new.err(), refusal, "{name}");
            assert_eq!(old, new, "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
