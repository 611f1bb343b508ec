//! Entries of directories, by the handle of the directory.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawMode};

use super::{Result, fd, refused};

/// The working directory, as the start of a path from the command line.
pub use rustix::fs::CWD;

/// Opens `path`, which must be a directory and (its last part) no symbolic link, for use as a handle.
///
/// openat(2), Linux 2.6.16.
pub fn open_directory<F: AsFd>(dir: F, path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&dir, path, flags, Mode::empty()).map_err(refused!("openat", "{}, {path:?}", fd(&dir)))
}

/// Opens an entry of `dir` to read, without following a symbolic link and without waiting for a FIFO's other end.
///
/// openat(2), Linux 2.6.16.
pub fn open_entry<F: AsFd>(dir: F, name: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = rustix::fs::openat(&dir, name, flags, Mode::empty());
    Ok(opened.map_err(refused!("openat", "{}, {name:?}", fd(&dir)))?.into())
}

/// Opens an entry of `dir` with these `O_*` flags; close-on-exec and no-follow are added.
///
/// openat(2), Linux 2.6.16.
pub fn open_entry_with<F: AsFd>(dir: F, name: &str, flags: i32) -> Result<OwnedFd> {
    let all = OFlags::from_bits_retain(flags.cast_unsigned()) | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::openat(&dir, name, all, Mode::empty()).map_err(refused!("openat", "{}, {name:?}, {flags:#o}", fd(&dir)))
}

/// Makes a new file in `dir`; one that is there already is an error (EEXIST).
///
/// openat(2) with O_CREAT and O_EXCL, Linux 2.6.16.
pub fn create_entry<F: AsFd>(dir: F, name: impl AsRef<Path>, mode: u32) -> Result<File> {
    let name = name.as_ref();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(mode));
    Ok(opened.map_err(refused!("openat", "{}, {name:?}, O_CREAT|O_EXCL, {mode:#o}", fd(&dir)))?.into())
}

/// Makes a directory; the umask applies.
///
/// mkdirat(2), Linux 2.6.16.
pub fn mkdirat<F: AsFd>(dir: F, path: impl AsRef<Path>, mode: u32) -> Result<()> {
    let path = path.as_ref();
    rustix::fs::mkdirat(&dir, path, Mode::from_raw_mode(mode)).map_err(refused!(
        "mkdirat",
        "{}, {path:?}, {mode:#o}",
        fd(&dir)
    ))
}

/// Makes a FIFO; the umask applies.
///
/// mknodat(2) with S_IFIFO, Linux 2.6.16.
pub fn mkfifoat<F: AsFd>(dir: F, name: &str, mode: u32) -> Result<()> {
    rustix::fs::mknodat(&dir, name, FileType::Fifo, Mode::from_raw_mode(mode), 0).map_err(refused!(
        "mknodat",
        "{}, {name:?}, S_IFIFO|{mode:#o}",
        fd(&dir)
    ))
}

/// Gives a file this mode.
///
/// fchmod(2).
pub fn fchmod<F: AsFd>(file: F, mode: RawMode) -> Result<()> {
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(refused!("fchmod", "{}, {mode:#o}", fd(&file)))
}

/// Gives an entry of `dir` this mode; a symbolic link would be followed.
///
/// fchmodat(2), Linux 2.6.16.
pub fn fchmodat<F: AsFd>(dir: F, name: &str, mode: RawMode) -> Result<()> {
    rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(refused!(
        "fchmodat",
        "{}, {name:?}, {mode:#o}",
        fd(&dir)
    ))
}

/// Renames an entry within `dir`, replacing what has the new name.
///
/// renameat(2), Linux 2.6.16.
pub fn renameat<F: AsFd>(dir: F, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    rustix::fs::renameat(&dir, from, &dir, to).map_err(refused!("renameat", "{}, {from:?}, {to:?}", fd(&dir)))
}

/// Removes a name that is no directory.
///
/// unlinkat(2), Linux 2.6.16.
pub fn unlinkat<F: AsFd>(dir: F, name: impl AsRef<Path>) -> Result<()> {
    let name = name.as_ref();
    rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(refused!("unlinkat", "{}, {name:?}", fd(&dir)))
}

/// Removes an empty directory.
///
/// unlinkat(2) with AT_REMOVEDIR, Linux 2.6.16.
pub fn rmdirat<F: AsFd>(dir: F, name: impl AsRef<Path>) -> Result<()> {
    let name = name.as_ref();
    rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR).map_err(refused!(
        "unlinkat",
        "{}, {name:?}, AT_REMOVEDIR",
        fd(&dir)
    ))
}

/// Whether `dir` has an entry of this name, of whatever kind.
///
/// faccessat2 would do as well; newfstatat(2), Linux 2.6.16.
pub fn has_entry<F: AsFd>(dir: F, name: &str) -> Result<bool> {
    match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(refused!("newfstatat", "{}, {name:?}", fd(&dir))(errno)),
    }
}

/// Owner and number of links of an open file; a removed directory has no link.
///
/// fstat(2).
pub fn owner_and_links<F: AsFd>(file: F) -> Result<(u32, u64)> {
    let stat = rustix::fs::fstat(&file).map_err(refused!("fstat", "{}", fd(&file)))?;
    Ok((stat.st_uid, stat.st_nlink))
}

/// Names in a directory, `.` and `..` left out, and whether each is surely a directory.
///
/// getdents64(2), Linux 2.4. Where the filesystem does not tell kinds, everything is said to be no directory.
pub fn entries<F: AsFd>(dir: F) -> Result<Vec<(OsString, bool)>> {
    let listing = rustix::fs::Dir::read_from(&dir).map_err(refused!("getdents64", "{}", fd(&dir)))?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(refused!("getdents64", "{}", fd(&dir)))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsString::from_vec(name.to_vec()), entry.file_type() == FileType::Directory));
        }
    }
    Ok(names)
}

/// Takes the lock of an open file, alone or shared, if nobody holds it now. `false`: somebody does.
///
/// flock(2), Linux 2.0.
pub fn try_flock<F: AsFd>(file: F, how: Flock) -> Result<bool> {
    let operation = match how {
        Flock::Alone => FlockOperation::NonBlockingLockExclusive,
        Flock::Shared => FlockOperation::NonBlockingLockShared,
    };
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(refused!("flock", "{}, {how:?}", fd(&file))(errno)),
    }
}

/// Gives the lock back, also for every copy of the descriptor that a fork made.
///
/// flock(2) with LOCK_UN, Linux 2.0.
pub fn unlock<F: AsFd>(file: F) -> Result<()> {
    rustix::fs::flock(&file, FlockOperation::Unlock).map_err(refused!("flock", "{}, LOCK_UN", fd(&file)))
}

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flock {
    /// LOCK_EX.
    Alone,
    /// LOCK_SH.
    Shared,
}

/// A POSIX extended regular expression, compiled by the C library: what crun's `--regex` takes.
pub struct Pattern(Box<libc::regex_t>);

impl Pattern {
    /// Compiles an expression; `None` where it is none.
    ///
    /// regcomp(3) with REG_EXTENDED and REG_NOSUB.
    pub fn new(expression: &str) -> Option<Self> {
        let expression = CString::new(expression).ok()?;
        let mut compiled = Box::new(std::mem::MaybeUninit::<libc::regex_t>::zeroed());
        // SAFETY: the first argument points to writable memory of the right size, which regcomp initialises
        // when it returns 0; the second is a NUL-terminated string that outlives the call.
        let failed =
            unsafe { libc::regcomp(compiled.as_mut_ptr(), expression.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if failed != 0 {
            return None;
        }
        // SAFETY: regcomp returned 0, so it has initialised the whole value.
        Some(Pattern(unsafe { compiled.assume_init() }))
    }

    /// Whether the expression is found anywhere in `text`.
    ///
    /// regexec(3).
    pub fn matches(&self, text: &OsStr) -> bool {
        let Ok(text) = CString::new(text.as_encoded_bytes()) else { return false };
        // SAFETY: the pattern was compiled by regcomp and not freed; the text is NUL-terminated; no matches are
        // asked for, so the null array of length 0 is never written.
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp, freed once, never used again.
        unsafe { libc::regfree(&raw mut *self.0) }
    }
}

/// Another descriptor for the same open file.
///
/// fcntl(2) with F_DUPFD_CLOEXEC, Linux 2.6.24.
pub fn duplicate<F: AsFd>(file: F) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(&file, 0).map_err(refused!("fcntl", "{}, F_DUPFD_CLOEXEC", fd(&file)))
}
