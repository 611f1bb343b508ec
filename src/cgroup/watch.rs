//! Being told when a cgroup runs out of memory.
//!
//! On v1 the kernel raises an eventfd that is registered in `cgroup.event_control` (admin-guide/cgroup-v1/memory.rst);
//! on v2 it touches `memory.events`, which inotify sees, and whose counters tell what has happened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::Cgroup;
use super::group::{Directory, value};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{cgroupfs, event};

/// How scarce memory has become: the kernel's own levels on v1; on v2, which has none, what `memory.events` counts
/// comes nearest, and needs limits to be met. (`memory.pressure` of v2 would need PSI, which many kernels have off.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureLevel {
    /// The kernel takes back memory for new allocations. v2: `memory.high` or `memory.max` was met.
    Low,
    /// It swaps, or drops active caches. v2: `memory.max` was met.
    Medium,
    /// It is about to kill. v2: `memory.max` was met, and nothing could be taken back.
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

    /// The counters of `memory.events` that tell of it.
    fn counters(self) -> &'static [&'static str] {
        match self {
            PressureLevel::Low => &["high", "max"],
            PressureLevel::Medium => &["max"],
            PressureLevel::Critical => &["oom"],
        }
    }
}

/// The counter of processes that were killed.
const KILLS: &[&str] = &["oom_kill"];

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
    /// `memory.events`, which of its counters matter, and their sum when it was last read.
    V2 { events: OwnedFd, counters: &'static [&'static str], before: u64 },
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
            Source::V2 { events, counters, before } => {
                let Ok(text) = cgroupfs::read(events.as_fd(), 4096) else { return Ok(Told::Gone) };
                let now = sum(&text, counters);
                // The file changes for every counter in it.
                Ok(if now > std::mem::replace(before, now) { Told::Happened } else { Told::Nothing })
            }
        }
    }
}

/// What these counters have come to. One that the kernel does not have counts nothing.
pub(crate) fn sum(events: &str, counters: &[&str]) -> u64 {
    counters.iter().filter_map(|counter| value(events, counter)?.parse::<u64>().ok()).sum()
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
        self.watch_events(KILLS).doing("watch the cgroup for want of memory")
    }

    /// Watches for memory getting scarce.
    ///
    /// # Errors
    /// A cgroup without the memory controller.
    pub fn watch_memory_pressure(&self, level: PressureLevel) -> Result<Watch> {
        let doing = "watch the cgroup's memory pressure";
        match self.legacy("memory") {
            Some(directory) => watch_v1(directory, "memory.pressure_level", level.name()).doing(doing),
            None => self.watch_events(level.counters()).doing(doing),
        }
    }

    fn watch_events(&self, counters: &'static [&'static str]) -> Result<Watch> {
        let directory = self.v2();
        match directory.map(|directory| watch_v2(directory, counters)).transpose()?.flatten() {
            Some(watch) => Ok(watch),
            None => {
                Err(Error::new(Kind::Unsupported, "want of memory cannot be told: the cgroup has no memory controller"))
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
fn watch_v2(directory: &Directory, counters: &'static [&'static str]) -> Result<Option<Watch>> {
    let Ok(file) = cgroupfs::openat_read(directory.handle()?, "memory.events") else { return Ok(None) };
    let events = event::inotify_init()?;
    event::inotify_watch_changes(events.as_fd(), &directory.path.join("memory.events"))?;
    let before = sum(&cgroupfs::read(file.as_fd(), 4096)?, counters);
    Ok(Some(Watch { events, source: Source::V2 { events: file, counters, before } }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn counters_of_version_two() {
        let text = "low 1\nhigh 20\nmax 300\noom 4000\noom_kill 50000\noom_group_kill 600000\n";
        for (counters, expected) in [
            (PressureLevel::Low.counters(), 320),
            (PressureLevel::Medium.counters(), 300),
            (PressureLevel::Critical.counters(), 4000),
            (KILLS, 50000),
        ] {
            assert_eq!(sum(text, counters), expected, "{counters:?}");
            assert_eq!(sum("", counters), 0);
        }
    }
}
