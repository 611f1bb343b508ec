//! needs    pidfd_open(2), pidfd_send_signal(2), and setns(2) on a pidfd
//! since    Linux 5.3, 5.1, 5.8
//! instead  the directory of the process in /proc, which never comes to be another's: its namespaces are opened there, its
//!          end is looked for every 10 ms, and a signal goes by number after a look that the process lives
//! loses    a number could be given anew between that look and the signal; `events` and NOTIFY_SOCKET, which have to wait
//!          for several things at once, are refused

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Road;
use crate::error::{Context, Error};
use crate::sys::file::{self, CWD, FileType, Mode, OFlags};
use crate::sys::process::{self, Child, Pid};
use crate::sys::{Errno, Refused, Result, namespace, signal as by_number};

static OPEN: Road = Road::new();
static SIGNAL: Road = Road::new();

/// How often a process without a pidfd is looked at.
const OFTEN: Duration = Duration::from_millis(10);

/// A handle on a process that is not our child.
///
/// # Errors
/// `ESRCH` where there is none of this number.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    match OPEN.take(|| process::pidfd_open(pid), || process::pidfd_open(process::getpid()).map(drop))? {
        Some(pidfd) => Ok(pidfd),
        None => directory(pid),
    }
}

/// Sends a signal to exactly this process.
///
/// # Errors
/// `ESRCH` where it has ended.
pub fn signal(to: &Child, signal: i32) -> Result<()> {
    let harmless = || open(process::getpid()).and_then(|own| process::pidfd_send_signal(own.as_fd(), 0));
    match SIGNAL.take(|| process::pidfd_send_signal(to.as_fd(), signal), harmless)? {
        Some(()) => Ok(()),
        None if wait_for_end(to.as_fd(), Some(0))? => Err(gone(to.pid)),
        None => by_number::kill(to.pid, signal),
    }
}

/// Waits until a process has ended, at most this many milliseconds (`None`: for ever); `false` where it still lives.
pub fn wait_for_end(handle: BorrowedFd<'_>, milliseconds: Option<u32>) -> Result<bool> {
    if !is_directory(handle)? {
        return Ok(process::poll_in(&[handle], milliseconds)?.contains(&true));
    }
    let end = milliseconds.map(|milliseconds| Instant::now() + Duration::from_millis(milliseconds.into()));
    while lives(handle)? {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => return Ok(false),
            left => std::thread::sleep(left.map_or(OFTEN, |left| left.min(OFTEN))),
        }
    }
    Ok(true)
}

/// The handle as something that becomes readable at the end of the process.
///
/// # Errors
/// `Unsupported` on the old road.
pub fn watched(handle: BorrowedFd<'_>) -> crate::Result<BorrowedFd<'_>> {
    match is_directory(handle)? {
        false => Ok(handle),
        true => Err(Error::new(crate::Kind::Unsupported, "waiting for the container's end beside other things"))
            .doing("this takes pidfd_open(2) (Linux 5.3)"),
    }
}

/// Joins the namespaces of a process that `flags` name (CLONE_NEW*), as one; the user namespace first.
///
/// # Errors
/// `ESRCH` where it has ended.
pub fn join(of: &Child, flags: u64) -> Result<()> {
    if is_directory(of.as_fd())? {
        return join_each(of.as_fd(), flags);
    }
    match namespace::setns(of.as_fd(), flags) {
        // Before Linux 5.8 a pidfd is no namespace. Where EINVAL means something else, it is said again below.
        Err(refused) if refused.errno == Errno::EINVAL => {
            let directory = directory(of.pid)?;
            // Whose number it is has not changed while the process behind the pidfd lives.
            if wait_for_end(of.as_fd(), Some(0))? {
                return Err(gone(of.pid));
            }
            join_each(directory.as_fd(), flags)
        }
        done => done,
    }
}

/// All are opened before the first is joined: in the container's mount namespace this is another /proc.
fn join_each(directory: BorrowedFd<'_>, flags: u64) -> Result<()> {
    const FILES: [(&str, i32); 8] = [
        ("user", libc::CLONE_NEWUSER),
        ("mnt", libc::CLONE_NEWNS),
        ("uts", libc::CLONE_NEWUTS),
        ("ipc", libc::CLONE_NEWIPC),
        ("pid", libc::CLONE_NEWPID),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("net", libc::CLONE_NEWNET),
        ("time", libc::CLONE_NEWTIME),
    ];
    let asked = FILES.into_iter().map(|(name, flag)| (name, flag as u64)).filter(|(_, flag)| flags & flag != 0);
    let open = |name| file::openat(directory, &Path::new("ns").join(name), OFlags::RDONLY, Mode::empty());
    let opened = asked.map(|(name, flag)| Ok((open(name)?, flag))).collect::<Result<Vec<_>>>()?;
    opened.iter().try_for_each(|(namespace, flag)| namespace::setns(namespace.as_fd(), *flag))
}

fn directory(pid: Pid) -> Result<OwnedFd> {
    let path = PathBuf::from(format!("/proc/{pid}"));
    match file::openat(CWD, &path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        // A /proc that hides it, or is none, is no reason to take it for ended. Who may have the handle may signal it.
        Err(refused) if refused.errno == Errno::ENOENT && by_number::kill(pid, 0).is_err() => Err(gone(pid)),
        opened => opened,
    }
}

fn is_directory(handle: BorrowedFd<'_>) -> Result<bool> {
    Ok(FileType::from_raw_mode(file::fstat(handle)?.st_mode) == FileType::Directory)
}

/// Whether the process behind a directory of /proc is there, and not only waiting to be reaped (proc_pid_stat(5)).
fn lives(directory: BorrowedFd<'_>) -> Result<bool> {
    let stat = file::openat(directory, Path::new("stat"), OFlags::RDONLY, Mode::empty());
    match stat.and_then(|stat| file::read_all(stat, 4096)) {
        Err(refused) if matches!(refused.errno, Errno::ENOENT | Errno::ESRCH) => Ok(false),
        Err(refused) => Err(refused),
        // The name, in parentheses, may hold anything: the last one closes it.
        Ok(line) => {
            let state = line.iter().rposition(|byte| *byte == b')').and_then(|end| line.get(end + 2));
            Ok(!matches!(state, Some(b'Z' | b'X' | b'x') | None))
        }
    }
}

fn gone(pid: Pid) -> Refused {
    Refused::new("pidfd_open", format_args!("{pid}"), Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// A process, by the handle of either road.
    fn sleeper(open: fn(Pid) -> Result<OwnedFd>) -> (std::process::Child, Child) {
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        (child, Child { pid, pidfd: open(pid).unwrap() })
    }

    #[test]
    fn both_roads_tell_a_living_process_from_an_ended_one() {
        for open in [process::pidfd_open, directory] {
            let (mut child, handle) = sleeper(open);
            assert!(!wait_for_end(handle.as_fd(), Some(20)).unwrap());
            signal(&handle, libc::SIGKILL).unwrap();
            // Ended, and not reaped yet.
            assert!(wait_for_end(handle.as_fd(), Some(60_000)).unwrap());
            child.wait().unwrap();
            assert!(wait_for_end(handle.as_fd(), None).unwrap());
            assert_eq!(signal(&handle, 0).unwrap_err().errno, Errno::ESRCH);
            assert_eq!(open(handle.pid).unwrap_err().errno, Errno::ESRCH);
        }
    }

    #[test]
    fn what_cannot_be_watched_says_so() {
        let own = process::getpid();
        assert!(watched(process::pidfd_open(own).unwrap().as_fd()).is_ok());
        assert_eq!(watched(directory(own).unwrap().as_fd()).unwrap_err().kind(), crate::Kind::Unsupported);
    }
}
