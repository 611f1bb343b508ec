//! Lets a created container's init run the program.

use std::time::Duration;

use super::kill::KILL;
use super::{Container, PATIENCE, Status, Whom, oom_killed, wrong};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::launch::gate;
use crate::notify::{self, Relay};
use crate::sys::Errno;
use crate::sys::file::OFlags;

/// How long a process may take to die once it was chosen for want of memory.
const DYING: Duration = Duration::from_millis(100);

impl Container {
    /// Lets init run the program, and runs the `poststart` hooks.
    ///
    /// # Errors
    /// Where the container is not `created` (runtime.md#start), where a startContainer hook or the execve fails (in
    /// init's own words), and where a poststart hook fails: the container is then killed, as the specification asks.
    pub fn start(&mut self) -> Result<()> {
        let lock = self.dir.lock(PATIENCE)?;
        self.refresh()?;
        match self.status()? {
            Status::Created => {}
            Status::Stopped => {
                return Err(self.told_of_want_of_memory(wrong("cannot start a container that has stopped")));
            }
            Status::Running => return Err(wrong("cannot start an already running container")),
            Status::Paused => return Err(wrong("cannot start a container in the paused state")),
        }
        // A startContainer hook still sees a created container: [`Container::status`] asks whether the gate is there.
        self.open_gate()?;
        self.dir.remove_fifo()?;
        drop(lock);
        let Err(error) = self.run_poststart_hooks() else { return Ok(()) };
        self.kill(KILL, Whom::All)?;
        Err(error)
    }

    /// Listens for the program's word that it is ready, if the caller has a service manager to tell it
    /// (`NOTIFY_SOCKET`) and had it when the container was created. To be called before [`Container::start`]; then
    /// [`Relay::serve`], with init as it is found before.
    pub fn readiness(&self) -> Result<Option<Relay>> {
        match notify::requested() {
            Some(manager) => Relay::listen(self.dir.dirfd(), &manager),
            None => Ok(None),
        }
    }

    fn open_gate(&self) -> Result<()> {
        let writer = match self.dir.open_fifo(OFlags::WRONLY | OFlags::NONBLOCK) {
            Err(error) if error.errno() == Some(Errno::ENXIO) => {
                return Err(self.told_of_want_of_memory(gate::dead()));
            }
            opened => opened?,
        };
        gate::open(writer, || self.dir.open_fifo(OFlags::RDONLY | OFlags::NONBLOCK))
            .map_err(|error| self.told_of_want_of_memory(error))?;
        // An init that is killed in the middle of its execve falls silent just as one that has made it.
        let died =
            self.oom_kills() > 0 && self.init()?.is_none_or(|init| init.wait_for_end(Some(DYING)).unwrap_or(false));
        if died { Err(self.told_of_want_of_memory(gate::dead())) } else { Ok(()) }
    }

    fn oom_kills(&self) -> u64 {
        let cgroup = self.record.cgroup.as_ref().and_then(|saved| Cgroup::open(&saved.part("memory")).ok());
        cgroup.and_then(|cgroup| cgroup.oom_kill_count().ok()).unwrap_or(0)
    }

    /// An init that has died for want of memory says nothing itself.
    fn told_of_want_of_memory(&self, error: Error) -> Error {
        let its_silence = error.kind() == gate::dead().kind() || error.kind() == Kind::WrongState;
        if its_silence && self.oom_kills() > 0 { oom_killed(error) } else { error }
    }
}
