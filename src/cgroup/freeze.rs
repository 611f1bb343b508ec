//! Stopping all processes of a cgroup at one moment, and letting them go on.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::group::{Cgroup, Directory, is_gone, value};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::cgroupfs;

/// How long a freeze may take: as runc, ten seconds. A process in uninterruptible sleep freezes when it wakes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a freeze of v1 is begun anew: it can be stuck while processes are being born.
const TRIES: u32 = 1000;

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
        let done = match self.freezer() {
            None => return Err(no_freezer()),
            Some(Freezer::V1(directory)) => freeze_v1(directory),
            Some(Freezer::V2(directory)) => freeze_v2(directory),
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
/// a group whose processes fork never comes to rest (runc's numbers, found by trying).
fn freeze_v1(directory: &Directory) -> Result<()> {
    let handle = directory.handle()?;
    let write = cgroupfs::openat_write(handle, "freezer.state")?;
    let read = cgroupfs::openat_read(handle, "freezer.state")?;
    let deadline = Instant::now() + PATIENCE;
    for round in 0..TRIES {
        if round % 50 == 49 {
            cgroupfs::write(write.as_fd(), "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        cgroupfs::write(write.as_fd(), "FROZEN")?;
        if round % 25 == 24 {
            std::thread::sleep(Duration::from_micros(10));
        }
        if cgroupfs::read(read.as_fd(), LONGEST)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            break;
        }
    }
    Err(Error::new(Kind::Other, "unable to freeze: processes keep appearing, or do not come to rest"))
}

fn freeze_v2(directory: &Directory) -> Result<()> {
    let handle = directory.handle()?;
    let events = cgroupfs::openat_read(handle, "cgroup.events")?;
    directory.write("cgroup.freeze", "1")?;
    let deadline = Instant::now() + PATIENCE;
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
