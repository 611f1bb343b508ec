//! One process of a container, by a handle that cannot come to mean another process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::compat::pidfd;
use crate::sys::Errno;
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::process::Child;
use crate::{Result, error::Context, sys};

/// A process that was alive, and the one meant, when the handle was made.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// A process whose handle is at hand, from the clone that made it.
    pub fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Process(Child { pid, pidfd })
    }

    /// Whoever has this id now.
    pub fn open(pid: i32) -> Option<Self> {
        if pid <= 0 {
            return None;
        }
        pidfd::open(pid).ok().map(|handle| Process::new(pid, handle))
    }

    /// The process with this id that was started then; `None` where it has ended, also where another process has its
    /// number now.
    ///
    /// # Errors
    /// Where /proc does not tell: a container that lives must not be taken for one that has stopped.
    pub fn find(pid: i32, start: u64) -> Result<Option<Self>> {
        if pid <= 0 {
            return Ok(None);
        }
        // The handle comes first: what the start time is read from then is the process behind the handle, or gone.
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            // EINVAL: the number is now that of a thread.
            Err(refused) if matches!(refused.errno, Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            Err(refused) => return Err(refused).doing(IDENTIFY),
        };
        let found = Process::new(pid, pidfd);
        match start_time(pid) {
            Ok(begun) => Ok((begun == Some(start)).then_some(found)),
            // It has ended since, or is somebody else's: whoever may act on the container may signal its init.
            Err(_) if found.wait_for_end(Some(Duration::ZERO))? || found.signal(0).is_err() => Ok(None),
            Err(refused) => Err(refused).doing(IDENTIFY),
        }
    }

    /// The handle as whoever waits for it wants it; only our own children can be waited for.
    pub fn child(&self) -> &Child {
        &self.0
    }

    /// Its id on the host.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// The handle as something that becomes readable at the process's end.
    ///
    /// # Errors
    /// `Unsupported` where the kernel has no such thing.
    pub fn watched(&self) -> Result<BorrowedFd<'_>> {
        pidfd::watched(self.0.pidfd.as_fd())
    }

    /// Sends a signal by number; `false` where the process has ended.
    pub fn signal(&self, number: i32) -> Result<bool> {
        match pidfd::signal(&self.0, number) {
            Ok(()) => Ok(true),
            Err(refused) if refused.errno == Errno::ESRCH => Ok(false),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Waits until it has ended, at most this long (`None`: for ever); `false` where it still lives. How it ended is told
    /// to its parent alone ([`crate::sys::process::waitid`]).
    pub fn wait_for_end(&self, at_most: Option<Duration>) -> Result<bool> {
        let milliseconds = at_most.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        Ok(pidfd::wait_for_end(self.0.pidfd.as_fd(), milliseconds)?)
    }
}

const IDENTIFY: &str = "see whether it is the container's init that has its number";

/// When a living process was started, in clock ticks since boot; `None` for one that has ended and was not reaped.
///
/// proc_pid_stat(5), fields 3 and 22.
///
/// # Errors
/// For a process that was reaped, or that /proc does not show us.
pub(super) fn start_time(pid: i32) -> sys::Result<Option<u64>> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let stat = file::openat(CWD, &path, OFlags::RDONLY, Mode::empty())?;
    // Some fifty numbers of at most twenty digits, given in one piece.
    let mut line = [0; 1200];
    let length = file::read(&stat, &mut line)?;
    Ok(parse_start_time(line.get(..length).unwrap_or_default()))
}

pub(crate) fn parse_start_time(stat: &[u8]) -> Option<u64> {
    // The name, in parentheses, may hold anything, parentheses and spaces included: the last one closes it.
    let after_name = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // The state was field 3.
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn start_time_is_field_22_whatever_the_name() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        assert_eq!(parse_start_time(format!("12 (sh) {tail}").as_bytes()), Some(987_654));
        assert_eq!(parse_start_time(format!("12 (a) Z 1 (b) {tail}").as_bytes()), Some(987_654));
        assert_eq!(parse_start_time(format!("12 (sh) {}", tail.replacen('S', "Z", 1)).as_bytes()), None);
        assert_eq!(parse_start_time(b"12 (sh"), None);
        assert_eq!(parse_start_time(b"12 (sh) S 1 2"), None);
    }

    #[test]
    fn t59_a_process_with_only_the_number_is_not_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let start = start_time(own).unwrap().unwrap();
        assert!(Process::find(own, start).unwrap().is_some());
        assert!(Process::find(own, start + 1).unwrap().is_none());
        assert!(Process::find(0, 0).unwrap().is_none());
        assert!(Process::find(-1, 0).unwrap().is_none());
    }

    #[test]
    fn an_ended_process_is_not_found_and_not_signalled() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = pidfd::open(pid).unwrap();
        let process = Process::new(pid, pidfd);
        assert!(process.wait_for_end(Some(Duration::from_secs(60))).unwrap());
        assert_eq!(start_time(pid).unwrap(), None);
        child.wait().unwrap();
        assert!(!process.signal(0).unwrap());
    }
}
