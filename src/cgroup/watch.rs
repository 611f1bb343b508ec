//! Being told when a cgroup runs out of memory.
//!
//! On v1 the kernel raises an eventfd that is registered in `cgroup.event_control` (admin-guide/cgroup-v1/memory.rst);
//! on v2 it touches `memory.events`, which inotify sees, and whose counters tell what has happened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::Cgroup;
use super::group::{Directory, value};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{cgroupfs, event};

/// How scarce memory has become (cgroup v1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureLevel {
    /// The kernel takes back memory for new allocations.
    Low,
    /// It swaps, or drops active caches.
    Medium,
    /// It is about to kill.
    Critical,
}

impl PressureLevel {
    /// As the kernel spells it.
    pub fn name(self) -> &'static str {
        match self {
            PressureLevel::Low => "low",
            PressureLevel::Medium => "medium",
            PressureLevel::Critical => "critical",
        }
    }
}

/// Something of a cgroup that is watched. Its descriptor becomes readable when [`Watch::take`] has something to tell.
#[derive(Debug)]
pub struct Watch {
    events: OwnedFd,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// The file that was registered: it cannot be opened again once the cgroup is gone.
    V1 { directory: OwnedFd, file: &'static str },
    /// `memory.events`, and how many processes were killed when it was last read.
    V2 { counters: OwnedFd, kills: u64 },
}

/// What a watch has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing new.
    Nothing,
    /// It has happened, once or more often.
    Happened,
    /// The cgroup is gone: nothing more will happen.
    Gone,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Watch {
    /// What has happened since the last time.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn take(&mut self) -> Result<Told> {
        if !event::drain(self.events.as_fd())? {
            return Ok(Told::Nothing);
        }
        match &mut self.source {
            // The kernel raises the eventfd also when it removes the cgroup.
            Source::V1 { directory, file } => match cgroupfs::openat_read(directory.as_fd(), file) {
                Ok(_) => Ok(Told::Happened),
                Err(_) => Ok(Told::Gone),
            },
            Source::V2 { counters, kills } => {
                let Some(now) = killed(counters.as_fd()) else { return Ok(Told::Gone) };
                let before = std::mem::replace(kills, now);
                // The file changes for `high` and `max` too.
                Ok(if now > before { Told::Happened } else { Told::Nothing })
            }
        }
    }
}

/// The counter of kills; `None` where the cgroup is gone.
fn killed(counters: BorrowedFd<'_>) -> Option<u64> {
    let text = cgroupfs::read(counters, 4096).ok()?;
    value(&text, "oom_kill")?.parse().ok()
}

impl Cgroup {
    /// Watches for processes that are killed for want of memory (on v1: for the limit being met with nothing left to
    /// take back, which is also told where the killer is disabled).
    ///
    /// # Errors
    /// A cgroup without the memory controller.
    pub fn watch_oom(&self) -> Result<Watch> {
        if let Some(directory) = self.legacy("memory") {
            return watch_v1(directory, "memory.oom_control", "").doing("watch the cgroup for want of memory");
        }
        let directory = self.directories.iter().find(|directory| directory.is_v2());
        match directory.map(watch_v2) {
            Some(Ok(Some(watch))) => Ok(watch),
            Some(Err(error)) => Err(error).doing("watch the cgroup for want of memory"),
            _ => {
                Err(Error::new(Kind::Unsupported, "want of memory cannot be told: the cgroup has no memory controller"))
            }
        }
    }

    /// Watches for memory getting scarce.
    ///
    /// # Errors
    /// cgroup v2, which has no such levels: a reader of `memory.pressure` can wait for a share of time there.
    pub fn watch_memory_pressure(&self, level: PressureLevel) -> Result<Watch> {
        match self.legacy("memory") {
            Some(directory) => {
                watch_v1(directory, "memory.pressure_level", level.name()).doing("watch the cgroup's memory pressure")
            }
            None => {
                let why = "levels of memory pressure are told by cgroup v1 only (v2: a trigger in memory.pressure)";
                Err(Error::new(Kind::Unsupported, why))
            }
        }
    }
}

fn watch_v1(directory: &Directory, file: &'static str, arguments: &str) -> Result<Watch> {
    let events = event::eventfd()?;
    let handle = directory.handle()?;
    let watched = cgroupfs::openat_read(handle, file)?;
    let line = format!("{} {} {arguments}", events.as_raw_fd(), watched.as_raw_fd());
    directory.write("cgroup.event_control", line.trim_end())?;
    let directory = cgroupfs::openat_directory(handle, ".")?;
    Ok(Watch { events, source: Source::V1 { directory, file } })
}

/// `None` where the memory controller is off.
fn watch_v2(directory: &Directory) -> Result<Option<Watch>> {
    let Ok(counters) = cgroupfs::openat_read(directory.handle()?, "memory.events") else { return Ok(None) };
    let events = event::inotify_init()?;
    event::inotify_watch_changes(events.as_fd(), &directory.path.join("memory.events"))?;
    let kills = killed(counters.as_fd()).unwrap_or(0);
    Ok(Some(Watch { events, source: Source::V2 { counters, kills } }))
}
