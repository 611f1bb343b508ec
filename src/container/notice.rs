//! What a container has used, and being told what happens to it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::{Container, Process, Status, not_running};
use crate::cgroup::stats::Stats;
use crate::cgroup::watch::{PressureLevel, Told, Watch};
use crate::error::{Context, Result};
use crate::rdt;
use crate::sys::process::poll_in;

/// A stream of what happens to a container. Two descriptors to poll, no thread.
#[derive(Debug)]
pub struct Notices {
    init: Process,
    watch: Option<Watch>,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// What was asked for: a want of memory, or pressure. Several at once are one.
    Happened,
    /// The time that the caller gave is up.
    TimeIsUp,
    /// The container has stopped; nothing more will come.
    Ended,
}

impl Notices {
    /// The descriptors that become readable when [`Notices::wait`] has something to tell, for a caller with a poll
    /// loop of its own.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let watch = self.watch.as_ref().map(AsFd::as_fd);
        std::iter::once(self.init.child().as_fd()).chain(watch).collect()
    }

    /// Waits for the next notice, at most this long (`None`: for ever).
    ///
    /// # Errors
    /// A descriptor or file that cannot be read.
    pub fn wait(&mut self, at_most: Option<Duration>) -> Result<Notice> {
        let end = at_most.map(|at_most| Instant::now() + at_most);
        loop {
            // Rounded up, or the last millisecond would be spent spinning.
            let left = end.map(|end| end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000));
            let left = left.map(|milliseconds| u32::try_from(milliseconds).unwrap_or(u32::MAX));
            let ready = poll_in(&self.fds(), left).doing("wait for news of the container")?;
            // First what has happened: the last that is heard of a container may be that it was killed.
            if let Some(watch) = &mut self.watch {
                match watch.take()? {
                    Told::Happened => return Ok(Notice::Happened),
                    Told::Gone => self.watch = None,
                    Told::Nothing => {}
                }
            }
            if ready.first() == Some(&true) {
                return Ok(Notice::Ended);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(Notice::TimeIsUp);
            }
        }
    }
}

impl Container {
    /// What the container has used.
    ///
    /// # Errors
    /// `container not running` for a stopped one; one without a cgroup of its own.
    pub fn stats(&self) -> Result<Stats> {
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        self.own_cgroup("counted")?.stats().doing("read what the container has used")
    }

    /// What the container may use of caches and memory bandwidth, and has used; `None` where it has no class of Intel
    /// RDT.
    ///
    /// # Errors
    /// A file of resctrl that cannot be read.
    pub fn rdt_stats(&self) -> Result<Option<rdt::Stats>> {
        self.class_of_rdt()?.map(|class| class.stats()).transpose()
    }

    /// Tells of its end alone.
    ///
    /// # Errors
    /// `container not running`.
    pub fn notify_end(&self) -> Result<Notices> {
        let init = self.init()?.ok_or_else(not_running)?;
        init.watched()?;
        Ok(Notices { init, watch: None })
    }

    /// Tells when processes of the container are killed for want of memory, and of its end.
    ///
    /// # Errors
    /// `container not running`; a cgroup without the memory controller ([`crate::Kind::Unsupported`]).
    pub fn notify_oom(&self) -> Result<Notices> {
        Ok(Notices { watch: Some(self.own_cgroup("watched")?.watch_oom()?), ..self.notify_end()? })
    }

    /// Tells when the container's memory gets scarce, and of its end.
    ///
    /// # Errors
    /// `container not running`; a cgroup without the memory controller ([`crate::Kind::Unsupported`]).
    pub fn notify_memory_pressure(&self, level: PressureLevel) -> Result<Notices> {
        Ok(Notices { watch: Some(self.own_cgroup("watched")?.watch_memory_pressure(level)?), ..self.notify_end()? })
    }
}
