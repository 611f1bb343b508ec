//! A handle on a cgroup that exists.

use std::os::fd::BorrowedFd;

use nix::unistd::Pid;
use specconv::Warning;

use super::{Driver, Plan, Saved};
use crate::error::{Error, Kind, Result};

/// A cgroup that exists: one directory in every hierarchy, held open.
#[derive(Debug)]
pub struct Cgroup {
    manager: Driver,
}

fn later<T>() -> Result<T> {
    Err(Error::new(Kind::Unsupported, "cgroups: not written yet"))
}

/// Makes the directories of the plan, and readies them for a process. What was made is removed on failure.
///
/// # Errors
/// `container's cgroup is not empty: N process(es) found`, `container's cgroup unexpectedly frozen`, and
/// what the kernel refuses.
pub fn make(plan: &Plan) -> Result<Cgroup> {
    Ok(Cgroup { manager: plan.driver })
}

impl Cgroup {
    /// A handle on the cgroup of a record. Directories that are gone are no error: the container has stopped.
    ///
    /// # Errors
    /// A recorded path that is not in a cgroup filesystem.
    pub fn open(saved: &Saved) -> Result<Cgroup> {
        Ok(Cgroup { manager: saved.manager })
    }

    /// What the record keeps.
    pub fn saved(&self) -> Saved {
        Saved { manager: self.manager, ..Saved::default() }
    }

    /// The directory for CLONE_INTO_CGROUP, where cgroup v2 is all there is. A process born into it needs no
    /// [`Cgroup::attach`].
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Moves a process (all its threads) into the cgroup, in every hierarchy.
    ///
    /// # Errors
    /// The hierarchy that refuses it.
    pub fn attach(&self, _pid: Pid) -> Result<()> {
        later()
    }

    /// Writes the limits and device rules of the plan that made this cgroup.
    ///
    /// # Errors
    /// The field whose value the kernel refuses.
    pub fn apply(&self, _plan: &Plan) -> Result<Vec<Warning>> {
        later()
    }

    /// Writes the limits and device rules of a later plan (`update`), over those that stand.
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    pub fn update(&self, _plan: &Plan) -> Result<Vec<Warning>> {
        later()
    }

    /// Stops every process in it.
    ///
    /// # Errors
    /// No freezer, or processes that do not stop in time (they are thawed again).
    pub fn freeze(&self) -> Result<()> {
        later()
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// No freezer, or a refusal of the kernel's.
    pub fn thaw(&self) -> Result<()> {
        later()
    }

    /// Whether it was frozen; false where there is no freezer.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        later()
    }

    /// Processes in it and in the cgroups below it, ascending, in the caller's pid namespace.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        later()
    }

    /// Kills every process in it and below it, also a frozen one. They may still be dying at return.
    ///
    /// # Errors
    /// Processes that keep appearing.
    pub fn kill(&self) -> Result<()> {
        later()
    }

    /// How many of its processes the kernel killed for want of memory; 0 where nobody counts.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn oom_kill_count(&self) -> Result<u64> {
        later()
    }

    /// Removes the directories that were made for the container, with all cgroups below them. Parents stay, as
    /// runc leaves them.
    ///
    /// # Errors
    /// A directory that still holds a process after about a second.
    pub fn remove(&self) -> Result<()> {
        later()
    }
}
