//! Signals for a container.

use super::{Container, Process, not_running};
use crate::{Result, error::Context};

/// SIGKILL (signal(7)).
pub(super) const KILL: i32 = 9;

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Init.
    Init,
    /// Every process of the container.
    All,
}

impl Container {
    /// Sends a signal, by number, to init, or to every process of the container.
    ///
    /// SIGKILL always ends the whole container: where init's end does not (its pid namespace is shared with others),
    /// everything in the cgroup is killed, also when init has ended already. A paused container is thawed to die.
    /// Takes no lock: a container whose creation hangs can be killed.
    ///
    /// # Errors
    /// `container not running` ([`crate::Kind::NotRunning`]) where nobody was there to get it; with [`Whom::All`]
    /// that is no error.
    pub fn kill(&self, signal: i32, whom: Whom) -> Result<()> {
        let init = self.init()?;
        let leaves_others = signal == KILL && !self.record.private_pid_namespace;
        let reached = if whom == Whom::All || leaves_others {
            self.signal_all(signal, init.as_ref())?
        } else {
            init.as_ref().map_or(Ok(false), |init| init.signal(signal)).doing("signal the container's init")?
        };
        if signal == KILL && reached {
            self.thaw_to_die()?;
        }
        if reached || whom == Whom::All { Ok(()) } else { Err(not_running()) }
    }

    /// A frozen process of cgroup v1 takes SIGKILL only once it is thawed.
    pub(super) fn thaw_to_die(&self) -> Result<()> {
        match self.cgroup()? {
            Some(cgroup) if cgroup.is_frozen()? => cgroup.thaw().doing("thaw the container to let it end"),
            _ => Ok(()),
        }
    }

    /// Whether anybody got it.
    fn signal_all(&self, signal: i32, init: Option<&Process>) -> Result<bool> {
        let Some(cgroup) = self.cgroup()? else {
            return init.map_or(Ok(false), |init| init.signal(signal)).doing("signal the container's init");
        };
        let pids = cgroup.pids().doing("list the container's processes")?;
        if signal == KILL {
            if !pids.is_empty() {
                cgroup.kill().doing("kill all processes of the container")?;
            }
            return Ok(!pids.is_empty());
        }
        let handles: Vec<Process> = pids.into_iter().filter_map(Process::open).collect();
        // Only who is still listed now is surely the one behind its handle: a number may have been given anew.
        let still = cgroup.pids().doing("list the container's processes")?;
        let mut reached = false;
        for process in handles.iter().filter(|process| still.contains(&process.pid())) {
            reached |= process.signal(signal).doing("signal the container's processes")?;
        }
        Ok(reached)
    }
}
