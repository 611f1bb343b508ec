//! Finding, judging and making the place where something is mounted or made.
//!
//! A destination comes from the config, but what it leads to is the image's and the volumes' to say. So it is
//! resolved once, beneath the root's handle. The common case has no link in it and is one openat2(2); the
//! others are walked here, one name at a time on handles, links being read and followed as if the root were `/`
//! (CVE-2019-18837, CVE-2021-30465, CVE-2024-45310). Because the walk knows the names it really took, what a
//! destination leads to can be judged without asking anybody for its path.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::compat::openat2::{Mounts, open_beneath, try_beneath};
use crate::compat::own_fd::PROC_MAGIC;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, FileType, Mode, OFlags};
use crate::sys::{Errno, Refused};

/// As many links as the kernel follows in one lookup.
const LINKS: u32 = 40;
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// A place in the root filesystem, resolved.
#[derive(Debug)]
pub(super) struct Target {
    /// O_PATH handle of what is there.
    pub fd: OwnedFd,
    /// Where it is, beneath the root: no link, no `.`, no `..`, no leading `/`.
    pub path: PathBuf,
    /// Whether nothing was there, and we made it.
    pub made: bool,
}

impl Target {
    /// A place that was found as it is.
    pub fn known(fd: OwnedFd, path: PathBuf) -> Self {
        Target { fd, path, made: false }
    }

    /// Opens the same place again, which is what has meanwhile been mounted on it.
    pub fn again(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        Ok(open_beneath(root, &self.path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), Mounts::Cross)?)
    }
}

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// A directory, 0755.
    Directory,
    /// An empty file, 0644.
    File,
    /// Nothing: it is an error.
    Refuse,
}

/// What becomes of links on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// They are followed, beneath the root.
    Follow,
    /// The last component may be one and is then the target itself.
    KeepLast,
    /// There must be none, and a directory at the end.
    Refuse,
}

/// A path as written, without empty components, `.` and `..`: relative to the root, `..` never leaving it.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Resolves `path` beneath `root`; what is missing on the way is made, the last as `missing` says (it is asked
/// only then).
pub(super) fn resolve(
    root: BorrowedFd<'_>,
    path: &Path,
    links: Links,
    missing: impl Fn() -> Result<Missing>,
) -> Result<Target> {
    let path = clean(path);
    let flags = match links {
        Links::Follow => OFlags::PATH,
        Links::KeepLast => OFlags::PATH | OFlags::NOFOLLOW,
        Links::Refuse => OFlags::PATH | OFlags::DIRECTORY,
    };
    match try_beneath(root, &path, flags, Mode::empty(), Mounts::Cross) {
        Ok(fd) => Ok(Target::known(fd, path)),
        // No link stood before the missing name, or the answer had been ELOOP.
        Err(Errno::ENOENT) => match missing()? {
            Missing::Refuse => Err(refusal(&path, Errno::ENOENT)),
            Missing::Directory => match make_last(root, &path) {
                Some(fd) => Ok(Target { fd, path, made: true }),
                None => Walk::from(root, &path, links).run(&missing),
            },
            Missing::File => Walk::from(root, &path, links).run(&missing),
        },
        Err(Errno::ELOOP) if links != Links::Refuse => Walk::from(root, &path, links).run(&missing),
        Err(errno) => Err(refusal(&path, errno)),
    }
}

fn refusal(path: &Path, errno: Errno) -> Error {
    Refused::new("openat2", format_args!("{:?}, RESOLVE_IN_ROOT", Path::new("/").join(path)), errno).into()
}

/// The short way for the common case that only the last directory is missing. Where it does not work out, the
/// walk finds out why.
fn make_last(root: BorrowedFd<'_>, path: &Path) -> Option<OwnedFd> {
    let (parent, name) = (path.parent()?, Path::new(path.file_name()?));
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let parent = try_beneath(root, parent, directory, Mode::empty(), Mounts::Cross).ok()?;
    file::mkdirat(parent.as_fd(), name, DIRECTORY_MODE).ok()?;
    file::try_openat(parent.as_fd(), name, directory | OFlags::NOFOLLOW, Mode::empty()).ok()
}

/// Resolves the directory that holds the last name of `path`, making what is missing; returns that name too.
pub(super) fn parent_of(root: BorrowedFd<'_>, path: &Path) -> Result<(Target, OsString)> {
    let path = clean(path);
    let Some(name) = path.file_name() else {
        return Err(Error::new(Kind::Invalid, "the path is `/` itself"));
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    Ok((resolve(root, parent, Links::Follow, || Ok(Missing::Directory))?, name.to_owned()))
}

/// One name at a time. Each directory passed stays open, so that `..` is where we came from and not where
/// somebody has moved it to.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    links: Links,
    passed: Vec<(OwnedFd, OsString)>,
    /// What is still to come, the next one last.
    names: Vec<OsString>,
    followed: u32,
    /// Whether the last component was made by us.
    made: bool,
}

impl<'a> Walk<'a> {
    fn from(root: BorrowedFd<'a>, path: &Path, links: Links) -> Self {
        let mut walk = Walk { root, links, passed: Vec::new(), names: Vec::new(), followed: 0, made: false };
        walk.prepend(path);
        walk
    }

    fn prepend(&mut self, path: &Path) {
        self.names.extend(path.components().rev().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        }));
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.passed.last().map_or(self.root, |(fd, _)| fd.as_fd())
    }

    fn path(&self) -> PathBuf {
        self.passed.iter().map(|(_, name)| name).collect()
    }

    fn run(mut self, missing: &dyn Fn() -> Result<Missing>) -> Result<Target> {
        while let Some(name) = self.names.pop() {
            if name == ".." {
                self.passed.pop();
                continue;
            }
            let last = self.names.is_empty();
            let (fd, made) = self.open_or_make(&name, last, missing)?;
            self.made = made;
            let kind = FileType::from_raw_mode(file::fstat(fd.as_fd())?.st_mode);
            match kind {
                FileType::Symlink if !(last && self.links == Links::KeepLast) => self.follow(fd, &name)?,
                FileType::Directory => self.passed.push((fd, name)),
                _ if last && self.links != Links::Refuse => self.passed.push((fd, name)),
                _ => return Err(self.refuse(&name, Errno::ENOTDIR)),
            }
        }
        let path = self.path();
        let fd = match self.passed.pop() {
            Some((fd, _)) => fd,
            None => file::openat(self.root, Path::new("."), OFlags::PATH, Mode::empty())?,
        };
        Ok(Target { fd, path, made: self.made })
    }

    fn open_or_make(&self, name: &OsStr, last: bool, missing: &dyn Fn() -> Result<Missing>) -> Result<(OwnedFd, bool)> {
        let (here, path) = (self.here(), Path::new(name));
        let open = || file::try_openat(here, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let opened = |answer: std::result::Result<OwnedFd, Errno>| answer.map_err(|errno| self.refuse(name, errno));
        match open() {
            Err(Errno::ENOENT) => {}
            other => return Ok((opened(other)?, false)),
        }
        let what = if last { missing()? } else { missing().map(|what| what.on_the_way())? };
        let made = match what {
            Missing::Refuse => return Err(self.refuse(name, Errno::ENOENT)),
            Missing::Directory => file::mkdirat(here, path, DIRECTORY_MODE),
            Missing::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
                file::openat(here, path, flags, FILE_MODE).map(drop)
            }
        };
        match made {
            // Somebody else was faster: what they made is looked at like anything else on the way.
            Err(refused) if refused.errno != Errno::EEXIST => {
                Err(refused).doing_with(|| format!("make {:?}", self.path().join(name)))
            }
            _ => Ok((opened(open())?, true)),
        }
    }

    fn follow(&mut self, link: OwnedFd, name: &OsStr) -> Result<()> {
        self.followed += 1;
        if self.links == Links::Refuse || self.followed > LINKS {
            return Err(self.refuse(name, Errno::ELOOP));
        }
        let text = file::readlinkat(link.as_fd(), Path::new(""))?;
        let bytes = text.as_os_str().as_bytes();
        // /proc/self and its kin are honest links; /proc/PID/cwd and its kin are doors, and their text is not where
        // they lead.
        if (bytes.starts_with(b"/") || bytes.contains(&b':')) && file::fstatfs(link.as_fd())?.magic == PROC_MAGIC {
            return Err(self.refuse(name, Errno::ELOOP));
        }
        if text.is_absolute() {
            self.passed.clear();
        }
        self.prepend(&text);
        Ok(())
    }

    fn refuse(&self, name: &OsStr, errno: Errno) -> Error {
        Refused::new(
            "openat2",
            format_args!("{:?}, RESOLVE_IN_ROOT", Path::new("/").join(self.path()).join(name)),
            errno,
        )
        .into()
    }
}

impl Missing {
    /// What is made for a missing component before the last.
    fn on_the_way(self) -> Self {
        match self {
            Missing::Refuse => Missing::Refuse,
            Missing::Directory | Missing::File => Missing::Directory,
        }
    }
}

/// What is about to be mounted, as far as a judgement needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// A procfs, new or bound.
    Proc,
    /// Anything else.
    Other,
}

/// Whether a mount may stand at `path` (as resolved): not on `/`, and not where it would hide or forge what is
/// read from /proc (CVE-2019-16884, CVE-2025-52881).
pub(super) fn judge(path: &Path, guest: Guest) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(Error::new(Kind::Invalid, "nothing can be mounted on `/` itself"));
    }
    if path == Path::new("proc") && guest == Guest::Other {
        return Err(Error::new(Kind::Invalid, "only a procfs can be mounted on /proc"));
    }
    let whole = Path::new("/").join(path);
    let inside = path.starts_with("proc") && path != Path::new("proc");
    if inside && !specconv::PROC_FILES.iter().any(|file| Path::new(file) == whole) {
        let sentence = format!("{whole:?} cannot be mounted because it is inside /proc");
        return Err(Error::new(Kind::Invalid, sentence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn spellings_are_one() {
        for (written, meant) in [
            ("/a/b", "a/b"),
            ("a/b/", "a/b"),
            ("//a/./b/.", "a/b"),
            ("/a/../b", "b"),
            ("/..", ""),
            ("/", ""),
            (".", ""),
            ("", ""),
            ("/a/../../..", ""),
        ] {
            assert_eq!(clean(Path::new(written)), Path::new(meant), "{written}");
        }
    }

    #[test]
    fn what_lies_in_proc_is_refused() {
        assert!(judge(Path::new("proc"), Guest::Proc).is_ok());
        assert!(judge(Path::new("proc/meminfo"), Guest::Other).is_ok());
        assert!(judge(Path::new("processes"), Guest::Other).is_ok());
        for path in ["", "proc", "proc/sys", "proc/self/attr", "proc/12/attr", "proc/meminfo/x"] {
            assert!(judge(Path::new(path), Guest::Other).is_err(), "{path}");
        }
        assert!(judge(Path::new("proc/x"), Guest::Proc).is_err());
    }

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("orlop-target-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root/real")).unwrap();
            std::fs::create_dir_all(path.join("outside")).unwrap();
            Tree(path)
        }

        fn link(&self, name: &str, text: &str) {
            std::os::unix::fs::symlink(text, self.0.join("root").join(name)).unwrap();
        }

        fn root(&self) -> OwnedFd {
            file::openat(file::CWD, &self.0.join("root"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn t02_links_lead_nowhere_but_inside() {
        let tree = Tree::new("t02");
        let outside = tree.0.join("outside");
        tree.link("absolute", outside.to_str().unwrap());
        tree.link("relative", "../../../../../../../../outside");
        tree.link("dangling", "step");
        tree.link("step", "/new/place");
        for spelling in ["absolute", "absolute/", "./relative/.", "//dangling", "relative/deep/er"] {
            let target =
                resolve(tree.root().as_fd(), Path::new(spelling), Links::Follow, || Ok(Missing::Directory)).unwrap();
            let real = std::fs::canonicalize(tree.0.join("root").join(&target.path)).unwrap();
            assert!(real.starts_with(tree.0.join("root")), "{spelling} led to {real:?}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing may be made outside");
        assert!(tree.0.join("root/new/place").is_dir());
    }

    #[test]
    fn a_circle_of_links_ends() {
        let tree = Tree::new("circle");
        tree.link("a", "b");
        tree.link("b", "a");
        let error =
            resolve(tree.root().as_fd(), Path::new("a/x"), Links::Follow, || Ok(Missing::Directory)).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ELOOP));
    }

    #[test]
    fn links_can_be_kept_or_refused() {
        let tree = Tree::new("kept");
        tree.link("link", "real");
        let root = tree.root();
        let kept = resolve(root.as_fd(), Path::new("link/"), Links::KeepLast, || Ok(Missing::Refuse)).unwrap();
        assert_eq!(kept.path, Path::new("link"));
        for path in ["link", "link/x"] {
            let refused = resolve(root.as_fd(), Path::new(path), Links::Refuse, || Ok(Missing::Directory)).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::ELOOP), "{path}");
        }
    }

    #[test]
    fn files_and_their_folders_are_made() {
        let tree = Tree::new("files");
        let target =
            resolve(tree.root().as_fd(), Path::new("etc/app/conf"), Links::Follow, || Ok(Missing::File)).unwrap();
        assert_eq!(target.path, Path::new("etc/app/conf"));
        assert!(tree.0.join("root/etc/app/conf").is_file());
        let refused = resolve(tree.root().as_fd(), Path::new("etc/app/conf/x"), Links::Follow, || Ok(Missing::File));
        assert_eq!(refused.unwrap_err().errno(), Some(Errno::ENOTDIR));
    }

    #[test]
    fn doors_of_proc_are_refused() {
        let tree = Tree::new("doors");
        tree.link("door", "proc/self/cwd");
        let proc = file::openat(file::CWD, Path::new("/"), OFlags::PATH, Mode::empty()).unwrap();
        let refused = resolve(proc.as_fd(), Path::new("/proc/self/cwd/x"), Links::Follow, || Ok(Missing::Refuse));
        assert_eq!(refused.unwrap_err().errno(), Some(Errno::ELOOP));
        let honest = resolve(proc.as_fd(), Path::new("/proc/mounts"), Links::Follow, || Ok(Missing::Refuse)).unwrap();
        assert_eq!(honest.path, Path::new(&format!("proc/{}/mounts", std::process::id())));
    }
}
