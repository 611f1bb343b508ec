//! Stopping all processes of a cgroup at one moment, and letting them go on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::group::{Cgroup, Directory, is_gone, value};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::cgroupfs;

/// How long a freeze may take: as runc, ten seconds. A process in uninterruptible sleep freezes when it wakes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take before a kill, which can do without: it looks for those it has missed.
const BRIEFLY: Duration = Duration::from_millis(300);

/// Tries of a freeze of v1 that follow each other at once; and after how many all are thawed for a moment, since it can be
/// stuck while processes are being born.
const AT_ONCE: u32 = 25;
const ROUND: u32 = 50;

/// Longest file that is read here.
const LONGEST: usize = 4096;

/// Where the freezer is.
pub(super) enum Freezer<'a> {
    /// `freezer.state`.
    V1(&'a Directory),
    /// `cgroup.freeze`, Linux 5.2.
    V2(&'a Directory),
}

impl Cgroup {
    /// Stops every process in it.
    ///
    /// # Errors
    /// No freezer, or processes that do not stop within ten seconds (all are thawed again).
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(PATIENCE)
    }

    /// As [`Cgroup::freeze`], where it can be done soon.
    pub(super) fn freeze_briefly(&self) -> Result<()> {
        self.freeze_within(BRIEFLY)
    }

    fn freeze_within(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let done = match self.freezer() {
            None => return Err(no_freezer()),
            Some(Freezer::V1(directory)) => freeze_v1(directory, deadline),
            Some(Freezer::V2(directory)) => freeze_v2(directory, deadline),
        };
        if done.is_err() {
            // Half frozen is worse than not at all.
            let _ = self.thaw();
        }
        done.doing("freeze the cgroup")
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// No freezer, or a refusal of the kernel's.
    pub fn thaw(&self) -> Result<()> {
        let done = match self.freezer() {
            None => return Err(no_freezer()),
            Some(Freezer::V1(directory)) => directory.write("freezer.state", "THAWED"),
            Some(Freezer::V2(directory)) => directory.write("cgroup.freeze", "0"),
        };
        done.doing("thaw the cgroup")
    }

    /// Whether it was asked to be frozen itself; a frozen parent does not count. False where there is no freezer,
    /// or no cgroup any more.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let read = match self.freezer() {
            None => return Ok(false),
            Some(Freezer::V1(directory)) => directory.read("freezer.self_freezing"),
            Some(Freezer::V2(directory)) => directory.read("cgroup.freeze"),
        };
        match read {
            Ok(text) => Ok(text.trim() == "1"),
            Err(error) if error.kind() == Kind::NotFound || is_gone(error.errno()) => Ok(false),
            Err(error) => Err(error).doing("ask whether the cgroup is frozen"),
        }
    }

    /// The freezer: that of v1 where it is mounted, since a hybrid host's other tools look there.
    pub(super) fn freezer(&self) -> Option<Freezer<'_>> {
        let v2 = || self.v2().map(Freezer::V2);
        self.legacy("freezer").map(Freezer::V1).or_else(v2)
    }
}

fn no_freezer() -> Error {
    Error::new(Kind::Unsupported, "cannot toggle freezer: cgroups not configured for container")
}

/// The kernel only promises to *begin*: until FROZEN is read it is to be asked again, and now and then thawed, or
/// a group whose processes fork never comes to rest. Who gets little processor time, by a limit or a busy machine, freezes
/// when it gets some, so the pauses between the tries grow.
fn freeze_v1(directory: &Directory, deadline: Instant) -> Result<()> {
    let handle = directory.handle()?;
    let write = cgroupfs::openat_write(handle, "freezer.state")?;
    let read = cgroupfs::openat_read(handle, "freezer.state")?;
    let longest = Duration::from_millis(10);
    let mut pause = Duration::from_micros(10);
    for tries in 1_u32.. {
        if tries % ROUND == 0 {
            cgroupfs::write(write.as_fd(), "THAWED")?;
            std::thread::sleep(longest);
        }
        cgroupfs::write(write.as_fd(), "FROZEN")?;
        if cgroupfs::read(read.as_fd(), LONGEST)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            break;
        }
        if tries >= AT_ONCE {
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }
    Err(Error::new(Kind::Other, "unable to freeze: processes keep appearing, or do not come to rest"))
}

fn freeze_v2(directory: &Directory, deadline: Instant) -> Result<()> {
    let handle = directory.handle()?;
    let events = cgroupfs::openat_read(handle, "cgroup.events")?;
    directory.write("cgroup.freeze", "1")?;
    loop {
        if value(&cgroupfs::read(events.as_fd(), LONGEST)?, "frozen") == Some("1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(Kind::Other, "unable to freeze: processes do not come to rest"));
        }
        cgroupfs::poll_changed(events.as_fd(), left)?;
    }
}
