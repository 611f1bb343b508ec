//! What may be done to a container; the only module that reads and writes the state directory.
//!
//! A [`Container`] is what its directory says plus what is true now. Its status is computed each time and never
//! stored: other processes change containers at any moment, so every operation looks again under the container's
//! lock. Readers (`state`, `list`, `ps`) take no lock, `kill` and `delete --force` work while a create hangs.
//!
//! For who knows libcontainer:
//!
//! | there | here |
//! |---|---|
//! | `Create`, and `Start` of init | [`create()`] |
//! | `Exec` of init's program | [`Container::start`] |
//! | `Run` | [`create()`], then [`Container::start`] |
//! | `Start` of another process | [`Container::exec`] |
//! | `Load` | [`Container::load`]; [`Container::look_at`] only to read; [`list`] for all, [`ids`] for their ids |
//! | `ID`, `Status`, `OCIState`, `State` | [`Container::id`], [`Container::status`], [`Container::state`], [`Container::record`] |
//! | `Processes`, `Stats` | [`Container::processes`], [`Container::stats`], [`Container::rdt_stats`] |
//! | `Set` | [`Container::update`], [`Container::update_rdt`] |
//! | `Pause`, `Resume`, `Signal` | [`Container::pause`], [`Container::resume`], [`Container::kill`] |
//! | `NotifyOOM`, `NotifyMemoryPressure` | [`Container::notify_oom`], [`Container::notify_memory_pressure`] |
//! | `Destroy` | [`delete()`] |
//! | `Process.Pid`, `Signal`, `Wait` | [`Process::pid`], [`Process::signal`], [`Process::wait_for_end`]; how a child ended: [`waitid`](crate::sys::process::waitid) |
//! | `Checkpoint`, `Restore` | not yet |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod create;
mod delete;
pub mod deputy;
mod descriptors;
mod exec;
mod hooks;
mod kill;
mod making;
mod notice;
mod pid_file;
mod process;
mod record;
mod request;
mod sockets;
mod start;
mod store;
pub mod timestamp;
mod update;

pub use crate::cgroup::Driver;
pub use crate::cgroup::stats::Stats;
pub use crate::cgroup::watch::PressureLevel;
pub use create::{Created, create};
pub use delete::{Deletion, delete};
pub use deputy::Deputy;
#[cfg(any(test, fuzzing))]
pub(crate) use deputy::crosses_whole;
pub use descriptors::check_preserved;
pub use exec::Execed;
pub use kill::Whom;
pub use notice::{Notice, Notices};
pub use process::Process;
#[cfg(any(test, fuzzing))]
pub(crate) use process::parse_start_time;
pub use record::{LAYOUT, Phase, Record};
pub use request::{ExecArguments, ExecProcess, ExecRequest, Request, Rootless};
pub use store::ids;

use store::StateDir;

use crate::cgroup::Cgroup;
use crate::error::Context;
use crate::hooks::OCI_VERSION;
use crate::{Error, Kind, Result};

/// What a container is doing (runtime.md#state). `creating` is never told: to everybody else a container whose
/// creation has begun is created, and engines refuse a fifth status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Init waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Init has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state of a container (runtime.md#state), with runc's additions, in runc's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState {
    /// Version of the specification that this runtime follows, as in runc.
    pub oci_version: &'static str,
    /// The id.
    pub id: String,
    /// Init's process id on the host, 0 for a stopped container.
    pub pid: i32,
    /// What it is doing.
    pub status: Status,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The config's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who created it; only `list` fills it in.
    pub owner: String,
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    dir: StateDir,
    record: Record,
}

/// The field of the saved `config.json` that `state` shows.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Shown {
    annotations: Option<BTreeMap<String, String>>,
}

impl Container {
    /// Finds a container, to act on it.
    ///
    /// # Errors
    /// As [`Container::look_at`]; [`Kind::Invalid`] for one whose directory others can change.
    pub fn load(root: &Path, id: &str) -> Result<Self> {
        let container = Self::look_at(root, id)?;
        container.dir.check_owner()?;
        Ok(container)
    }

    /// Finds a container that may be somebody else's, to tell its state and no more.
    ///
    /// # Errors
    /// `container does not exist` ([`Kind::NotFound`]), also for one whose creation has not come as far as a record.
    pub fn look_at(root: &Path, id: &str) -> Result<Self> {
        let dir = StateDir::open(root, id)?;
        let record = dir.read_record()?.ok_or_else(store::does_not_exist)?;
        Ok(Container { dir, record })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.dir.id()
    }

    /// What was recorded of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// User id of who made it, and may act on it.
    pub fn owner(&self) -> Result<u32> {
        self.dir.owner()
    }

    /// Reads the record again: another process may have changed it.
    pub fn refresh(&mut self) -> Result<()> {
        self.record = self.dir.read_record()?.ok_or_else(store::does_not_exist)?;
        Ok(())
    }

    /// Init, if it lives. A process that only has its number is not it (T59).
    pub fn init(&self) -> Result<Option<Process>> {
        Process::find(self.record.init_process_pid, self.record.init_process_start)
    }

    /// The state that hooks and agents are told, as one line of JSON; `pid` is 0 where init has ended.
    fn told_state(&self, config: &specconv::Config, status: &str, pid: i32) -> String {
        crate::hooks::OciState {
            oci_version: OCI_VERSION,
            id: self.id(),
            status,
            pid,
            bundle: &self.record.bundle.to_string_lossy(),
            annotations: &config.annotations,
        }
        .to_json()
    }

    /// What the container is doing now.
    pub fn status(&self) -> Result<Status> {
        self.status_of(self.init()?.as_ref())
    }

    fn status_of(&self, init: Option<&Process>) -> Result<Status> {
        if init.is_none() {
            // Before init exists, only its maker's lock tells that one is coming.
            let coming = self.record.phase == Phase::Creating && self.record.init_process_pid == 0;
            return Ok(if coming && self.dir.is_locked()? { Status::Created } else { Status::Stopped });
        }
        if self.is_frozen()? {
            return Ok(Status::Paused);
        }
        let waits = self.record.phase == Phase::Creating || self.dir.has_fifo()?;
        Ok(if waits { Status::Created } else { Status::Running })
    }

    /// The state that `state` prints.
    pub fn state(&self) -> Result<OciState> {
        let status = self.status()?;
        let shown: Shown = serde_json::from_slice(&self.dir.config()?)
            .map_err(|why| Error::new(Kind::Other, format!("cannot read the saved config.json: {why}")))?;
        Ok(OciState {
            oci_version: OCI_VERSION,
            id: self.record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { self.record.init_process_pid },
            status,
            bundle: self.record.bundle.clone(),
            rootfs: self.record.rootfs.clone(),
            created: self.record.created.clone(),
            annotations: shown.annotations.unwrap_or_default(),
            owner: String::new(),
        })
    }

    /// The container's cgroup; `None` where it has none of its own.
    pub fn cgroup(&self) -> Result<Option<Cgroup>> {
        match &self.record.cgroup {
            // Without a directory of its own the container sits in ours: nothing there may be stopped or killed.
            Some(saved) if !saved.paths.is_empty() => {
                Ok(Some(Cgroup::open(saved).doing("open the container's cgroup")?))
            }
            _ => Ok(None),
        }
    }

    fn is_frozen(&self) -> Result<bool> {
        let Some(saved) = &self.record.cgroup else { return Ok(false) };
        Cgroup::open(&saved.part("freezer"))
            .and_then(|cgroup| cgroup.is_frozen())
            .doing("see whether the container is paused")
    }

    /// Stops every process of the container in its tracks.
    ///
    /// # Errors
    /// `container not running` ([`Kind::NotRunning`]) unless it is created or running.
    pub fn pause(&self) -> Result<()> {
        let _lock = self.dir.lock(PATIENCE)?;
        if !matches!(self.status()?, Status::Created | Status::Running) {
            return Err(not_running());
        }
        self.own_cgroup("paused")?.freeze().doing("pause the container")
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// `container not paused` ([`Kind::WrongState`]).
    pub fn resume(&self) -> Result<()> {
        let _lock = self.dir.lock(PATIENCE)?;
        if self.status()? != Status::Paused {
            return Err(wrong("container not paused"));
        }
        self.own_cgroup("resumed")?.thaw().doing("resume the container")
    }

    /// Ids, on the host, of the processes in the container's cgroup and those below it.
    pub fn processes(&self) -> Result<Vec<i32>> {
        self.own_cgroup("listed")?.pids().doing("list the container's processes")
    }

    fn own_cgroup(&self, done: &str) -> Result<Cgroup> {
        let none = || format!("the container's processes cannot be {done}: it has no cgroup of its own");
        self.cgroup()?.ok_or_else(|| Error::new(Kind::Unsupported, none()))
    }
}

/// How long a command waits for another one that is at work on the same container.
const PATIENCE: Duration = Duration::from_secs(10);

/// The error for a container without a living init.
fn not_running() -> Error {
    Error::new(Kind::NotRunning, "container not running")
}

/// An init that was killed for want of memory has no word of its own; runc's sentence, around what else is known.
fn oom_killed(error: Error) -> Error {
    error.doing("container init was OOM-killed (memory limit too low?)")
}

/// The container is not in the state that the request needs.
fn wrong(sentence: &'static str) -> Error {
    Error::new(Kind::WrongState, sentence)
}

/// Every container under a root, in the order of their ids, and why some could not be read.
///
/// # Errors
/// Where the root itself cannot be read; a root that is missing is `ENOENT`.
pub fn list(root: &Path) -> Result<Vec<Listed>> {
    Ok(store::ids(root)?.into_iter().map(|id| Listed { container: Container::look_at(root, &id), id }).collect())
}

/// One entry of [`list`].
#[derive(Debug)]
pub struct Listed {
    /// The id.
    pub id: String,
    /// The container, or why it cannot be told.
    pub container: Result<Container>,
}
