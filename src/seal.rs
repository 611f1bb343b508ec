//! The sealed executable (CVE-2019-5736).
//!
//! A process that enters a container can be found there, and `/proc/PID/exe` is a door to the file it runs: a
//! program of the image could open our executable through it and, once we have ended, write to it. So the commands
//! that enter containers run from something that nobody can write:
//!
//! 1. a read-only overlay over the executable's directory, which is mounted nowhere: nothing is copied, and as it
//!    has no upper layer no privilege makes it writable (needs CAP_SYS_ADMIN);
//! 2. else a sealed copy in memory;
//! 3. else, where executable memory is forbidden (`vm.memfd_noexec`), a nameless copy on disk, which is ours alone
//!    for this one run.
//!
//! Nothing of that is needed where the file is out of reach anyway: a rootless container has no more rights on the host
//! than its user, so what belongs to root and refuses that user is safe.
//!
//! The copy is told by an environment variable what it is, and believes it only after looking.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::compat::memfd_exec;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{CWD, Mode, OFlags, Stat, fchmod, fstat, fstatfs, openat, readlinkat};
use crate::sys::spawn::{environment, execveat, unsetenv};
use crate::sys::{exec, memfd, mount, process};

/// Says in which way the executable is sealed, and the identity of the file it then is.
const MARKER: &str = "_ORLOP_SEALED";

/// What `/proc/PID/comm` shows.
const NAME: &CStr = c"orlop";

const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
const ST_RDONLY: u64 = 1;
/// MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV.
const READ_ONLY: u32 = 1 | 2 | 4;

/// An overlay without an upper layer needs a second lower one. This directory is everywhere, holds no program, and
/// is neither above nor below the executable.
const SECOND_LAYER: &str = "/sys";

/// Makes sure that what `/proc/self/exe` names cannot be written, by executing a sealed copy if need be.
///
/// Called first by every command that enters containers, before any other descriptor is opened, by the only
/// thread. Returns in the sealed copy, or where none is needed; it never executes twice.
///
/// # Errors
/// When none of the ways is open, or when the variable that tells of a seal is set but there is none.
pub fn ensure_sealed() -> Result<()> {
    match std::env::var_os(MARKER) {
        None => become_sealed().doing("seal the executable"),
        Some(marker) => {
            unsetenv(MARKER);
            verify(&marker.to_string_lossy())
        }
    }
}

/// A way to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Overlay,
    Memory,
    Nameless,
}

impl Way {
    fn letter(self) -> char {
        match self {
            Way::Overlay => 'o',
            Way::Memory => 'm',
            Way::Nameless => 'n',
        }
    }

    fn of(letter: char) -> Option<Way> {
        [Way::Overlay, Way::Memory, Way::Nameless].into_iter().find(|way| way.letter() == letter)
    }
}

/// The marker of a copy: `o:2a:10042`.
fn marker(way: Way, is: &Stat) -> String {
    format!("{}:{:x}:{}", way.letter(), is.st_dev, is.st_ino)
}

/// Believes the marker only where `/proc/self/exe` is that very file, and is what the way makes.
fn verify(told: &str) -> Result<()> {
    let exe = openat(CWD, Path::new("/proc/self/exe"), OFlags::RDONLY, Mode::empty())?;
    let is = fstat(exe.as_fd())?;
    let way = told.chars().next().and_then(Way::of).filter(|way| marker(*way, &is) == told);
    let sealed = match way {
        None => false,
        Some(Way::Overlay) => {
            let on = fstatfs(exe.as_fd())?;
            on.magic == OVERLAYFS_SUPER_MAGIC && on.flags & ST_RDONLY != 0
        }
        Some(Way::Memory) => memfd::is_sealed(exe.as_fd())?,
        Some(Way::Nameless) => is.st_nlink == 0,
    };
    if !sealed {
        return Err(Error::new(
            Kind::Other,
            format!("{MARKER} is set to {told:?}, but this executable is not sealed so"),
        ));
    }
    if way != Some(Way::Overlay) {
        // Executed without a name, the process is called after the number of a descriptor.
        process::set_name(NAME)?;
    }
    Ok(())
}

/// Something that can be executed and not be written.
struct Sealed {
    way: Way,
    /// The file itself, or the directory it has a name in.
    base: OwnedFd,
    name: CString,
    is: Stat,
}

/// Whether neither we nor anybody whom an unprivileged user can become in a user namespace may write to the executable:
/// root's id is not among those (user_namespaces(7)), and without it no capability helps.
fn out_of_reach(original: &Stat) -> bool {
    let (real, effective) = process::user_ids();
    real != 0 && real == effective && original.st_uid == 0 && !exec::may_write(Path::new("/proc/self/exe"))
}

/// Executes a sealed copy where one is needed.
fn become_sealed() -> Result<()> {
    let exe = openat(CWD, Path::new("/proc/self/exe"), OFlags::RDONLY, Mode::empty())?;
    let original = fstat(exe.as_fd())?;
    if out_of_reach(&original) {
        return Ok(());
    }
    let arguments = std::env::args_os().map(c_string).collect::<Result<Vec<_>>>()?;
    let mut reasons = Vec::new();
    for make in [overlay, in_memory, nameless] {
        match make(&exe, &original).and_then(|sealed| execute(&sealed, &arguments)) {
            Ok(never) => match never {},
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(Error::new(Kind::Unsupported, reasons.join("; ")))
}

fn execute(sealed: &Sealed, arguments: &[CString]) -> Result<Infallible> {
    let mut environment = environment();
    environment.push(c_string(format!("{MARKER}={}", marker(sealed.way, &sealed.is)).into())?);
    Err(execveat(sealed.base.as_fd(), &sealed.name, arguments, &environment).into())
}

/// The first way: a view of the executable's directory that has no upper layer.
fn overlay(_: &OwnedFd, original: &Stat) -> Result<Sealed> {
    let path = readlinkat(CWD, Path::new("/proc/self/exe"))?;
    let (Some(directory), Some(name)) = (path.parent().and_then(Path::to_str), path.file_name()) else {
        return Err(Error::new(Kind::Other, format!("the path of the executable is {path:?}")));
    };
    let context = mount::fsopen("overlay")?;
    let layers = format!("{}:{SECOND_LAYER}", escaped(directory));
    mount::fsconfig_set_string(context.as_fd(), "lowerdir", &layers)?;
    mount::fsconfig_create(context.as_fd())?;
    let base = mount::fsmount(context.as_fd(), READ_ONLY)?;
    // Still the one that runs? It may have been replaced, and its path now be another's.
    let is = fstat(openat(base.as_fd(), Path::new(name), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?.as_fd())?;
    let identity = |stat: &Stat| (stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
    if identity(&is) != identity(original) {
        return Err(Error::new(Kind::Other, format!("{path:?} is not the executable that runs")));
    }
    Ok(Sealed { way: Way::Overlay, base, name: c_string(name.to_owned())?, is })
}

/// Colons part the layers; a backslash takes a character as it is.
fn escaped(directory: &str) -> String {
    directory.replace('\\', "\\\\").replace(':', "\\:")
}

/// The second way: a copy in memory.
fn in_memory(exe: &OwnedFd, original: &Stat) -> Result<Sealed> {
    let copy = memfd_exec::create("orlop")?;
    memfd::copy(&copy, exe, original.st_size as u64)?;
    memfd_exec::seal(&copy)?;
    let is = fstat(copy.as_fd())?;
    Ok(Sealed { way: Way::Memory, base: copy, name: CString::default(), is })
}

/// The third way: a copy on disk that has no name.
fn nameless(_: &OwnedFd, original: &Stat) -> Result<Sealed> {
    // The way before may have moved the offset of its own.
    let exe = openat(CWD, Path::new("/proc/self/exe"), OFlags::RDONLY, Mode::empty())?;
    let mut refusals = Vec::new();
    for directory in ["/run", "/var/tmp", "/tmp", "."] {
        match memfd::open_tmpfile(Path::new(directory)) {
            Ok(copy) => {
                memfd::copy(&copy, &exe, original.st_size as u64)?;
                fchmod(copy.as_fd(), Mode::from_raw_mode(0o500))?;
                // A file that somebody has open for writing cannot be executed.
                let again = format!("/proc/self/fd/{}", copy.as_raw_fd());
                let base = openat(CWD, Path::new(&again), OFlags::RDONLY, Mode::empty())?;
                let is = fstat(base.as_fd())?;
                return Ok(Sealed { way: Way::Nameless, base, name: CString::default(), is });
            }
            Err(refused) => refusals.push(refused.to_string()),
        }
    }
    Err(Error::new(Kind::Other, refusals.join("; ")))
}

fn c_string(text: OsString) -> Result<CString> {
    CString::new(text.into_vec()).map_err(|_| Error::new(Kind::Other, "a NUL in the arguments or the environment"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn this() -> (OwnedFd, Stat) {
        let exe = openat(CWD, Path::new("/proc/self/exe"), OFlags::RDONLY, Mode::empty()).unwrap();
        let stat = fstat(exe.as_fd()).unwrap();
        (exe, stat)
    }

    fn writable(sealed: &Sealed) -> bool {
        let path = format!("/proc/self/fd/{}", sealed.base.as_raw_fd());
        let path = Path::new(&path).join(sealed.name.to_str().unwrap());
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| std::io::Write::write(&mut file, b"x"))
            .is_ok()
    }

    #[test]
    fn what_is_sealed_has_the_same_bytes_and_cannot_be_written() {
        let (exe, stat) = this();
        for make in [overlay, in_memory] {
            let sealed = make(&exe, &stat).unwrap();
            assert_eq!(sealed.is.st_size, stat.st_size, "{:?}", sealed.way);
            assert!(!writable(&sealed), "{:?}", sealed.way);
        }
    }

    #[test]
    fn a_replaced_executable_is_noticed() {
        let (exe, mut stat) = this();
        stat.st_ino += 1;
        assert!(overlay(&exe, &stat).err().unwrap().to_string().contains("is not the executable that runs"));
    }

    #[test]
    fn a_marker_is_believed_only_of_what_it_tells() {
        let (_, stat) = this();
        for way in [Way::Overlay, Way::Memory, Way::Nameless] {
            assert!(verify(&marker(way, &stat)).is_err(), "{way:?}: this test is not sealed");
        }
        assert!(verify("").is_err() && verify("o:1:1").is_err() && verify("x").is_err());
    }

    #[test]
    fn layers_are_escaped() {
        assert_eq!(escaped(r"/a:b\c"), r"/a\:b\\c");
    }
}
