//! The end of a container: its processes, its cgroup, its directory, and then the `poststop` hooks.
//!
//! Whoever made a container may have been killed at it (go-runc's shim sets a death signal), so everything here
//! works on a half-made one: a directory without a record, a record without init, init without a program.

use std::path::Path;
use std::time::Duration;

use super::kill::KILL;
use super::store::{Lock, StateDir, does_not_exist};
use super::{Container, PATIENCE, Phase, Status};
use crate::rootfs;
use crate::{Error, Kind, Result, error::Context};

/// How a container is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Only a stopped or created one.
    Gentle,
    /// Whatever it is doing; one that does not exist is fine.
    Force,
}

/// How long `Force` waits for a command at work on a container whose processes it has killed. Then it goes on:
/// that command finds the directory gone and gives up.
const GRACE: Duration = Duration::from_secs(2);

/// How long init has to end after SIGKILL, as in runc.
const DYING: Duration = Duration::from_secs(10);

/// Removes a container with all it left. Returns what went wrong with its `poststop` hooks: that stops nothing
/// (runtime.md#lifecycle, step 13).
///
/// # Errors
/// `container does not exist` ([`Kind::NotFound`]), except with [`Deletion::Force`];
/// `cannot delete container X that is not stopped: running` ([`Kind::WrongState`]).
pub fn delete(root: &Path, id: &str, how: Deletion) -> Result<Vec<String>> {
    match (delete_found(root, id, how), how) {
        // Also where another command was faster.
        (Err(error), Deletion::Force) if error.kind() == Kind::NotFound => Ok(Vec::new()),
        (done, _) => done,
    }
}

fn delete_found(root: &Path, id: &str, how: Deletion) -> Result<Vec<String>> {
    let dir = StateDir::open(root, id)?;
    dir.check_owner()?;
    let Some(record) = dir.read_record()? else { return delete_without_record(root, dir, how) };
    let mut container = Container { dir, record };
    let _lock = match how {
        Deletion::Gentle => {
            let lock = container.dir.lock(PATIENCE)?;
            container.refresh()?;
            container.may_be_deleted()?;
            Some(lock)
        }
        Deletion::Force => {
            // Before the lock, which a hanging `create` would hold for ever.
            container.end_processes()?;
            let lock = lock_if_possible(&container.dir)?;
            container.refresh()?;
            lock
        }
    };
    container.end_processes()?;
    container.remove()
}

/// What is left of a `create` that was killed before its first record: nothing but the directory.
fn delete_without_record(root: &Path, dir: StateDir, how: Deletion) -> Result<Vec<String>> {
    let lock = match how {
        Deletion::Gentle => Some(dir.lock(Duration::ZERO).map_err(|_at_work_or_gone| does_not_exist())?),
        Deletion::Force => lock_if_possible(&dir)?,
    };
    if dir.read_record()?.is_some() {
        // Its maker lived after all.
        drop(lock);
        return delete_found(root, dir.id(), how);
    }
    dir.remove()?;
    Err(does_not_exist())
}

fn lock_if_possible(dir: &StateDir) -> Result<Option<Lock>> {
    match dir.lock(GRACE) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == Kind::WrongState => Ok(None),
        Err(error) => Err(error),
    }
}

impl Container {
    fn may_be_deleted(&self) -> Result<()> {
        match self.status()? {
            Status::Created | Status::Stopped => Ok(()),
            status => {
                let id = self.id();
                let sentence = format!("cannot delete container {id} that is not stopped: {status}");
                Err(Error::new(Kind::WrongState, sentence))
            }
        }
    }

    /// Kills what lives in the container, and waits until init has ended.
    fn end_processes(&self) -> Result<()> {
        let init = self.init()?;
        if let Some(init) = &init {
            init.signal(KILL).doing("kill the container's init")?;
        }
        // A pid namespace of its own ends with init; one that is shared does not, and a half-made container may
        // have processes that are not yet in it. Before init was born nobody of ours was in the cgroup: whoever is
        // there made `create` fail, and is none of our business.
        let born = self.record.init_process_pid != 0;
        let may_leave_others = born && (!self.record.private_pid_namespace || self.record.phase == Phase::Creating);
        if may_leave_others && let Some(cgroup) = self.cgroup()? {
            cgroup.kill().doing("kill all processes of the container")?;
        }
        let Some(init) = init else { return Ok(()) };
        self.thaw_to_die()?;
        if init.wait_for_end(Some(DYING))? {
            return Ok(());
        }
        Err(Error::new(Kind::Other, "container init still running"))
    }

    /// Undoes a creation that failed, as far as it can be undone.
    ///
    /// Not if somebody else has deleted the container meanwhile: its id, and with it its cgroup's path, may already
    /// be those of another container.
    pub(super) fn abandon(self) {
        if self.dir.is_there().unwrap_or(true) {
            // What failed before is what the user is told; what fails here as well can only be left to `delete`.
            let _ = self.end_processes();
            let _ = self.remove();
        }
    }

    fn remove(self) -> Result<Vec<String>> {
        // Read before the directory goes, run after it has gone (config.md#poststop).
        let poststop = self.poststop();
        if self.record.mounts_on_host {
            rootfs::unmount_below(&self.record.rootfs).doing("unmount what is below the root filesystem")?;
        }
        if let Some(cgroup) = self.cgroup()? {
            cgroup.remove().doing("unable to remove container's cgroup")?;
        }
        if let Some(class) = &self.record.intel_rdt {
            class.remove()?;
        }
        self.dir.remove()?;
        Ok(poststop.map_or_else(|error| vec![error.to_string()], |poststop| poststop.run(&self)))
    }
}
