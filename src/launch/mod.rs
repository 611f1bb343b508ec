//! The story of a launch, and the only place that knows its order.
//!
//! Parent and init are the same program holding the same plan in memory: init is a fork, never a re-exec. So there
//! is no dispatch loop; there is this table, and two functions that read like its columns ([`parent`], [`init`]).
//!
//! ```text
//!   step             parent                                       usher (when needed) / init
//!   ---------------------------------------------------------------------------------------------------------------------
//!    0 Prepare       opens all it will need on the host; makes the state directory, Record{creating}, cgroup
//!    1 Spawn         clone: init itself, or an usher          ->  born non-dumpable, with a death signal until Ready
//!    2 Place         sets the OOM score; attaches the pid to
//!                    v2 where the clone did not, or has
//!                    systemd make the cgroup around it; and       walks into the hierarchies of v1; affinity; closes
//!                    to its class of Intel RDT                ->  what it inherited and is the host's
//!    3 MapIds        setgroups, uid_map, gid_map              <-  usher or init: alone in its new user namespace,
//!                                                                 then becomes its root
//!    4 Enter         Record{pid}                            <->   usher: joins, makes user and time namespaces,
//!                                                                 bears init (CLONE_PARENT), ends; init: joins and
//!                                                                 makes the rest, cgroup namespace, session, keyring
//!    5 Lend          mount sources and network devices      <->   kept as detached mounts
//!    6 BuildRoot                                                  loopback; mounts, devices, links: not yet /
//!    7 Limit         cgroup limits, device rules; moves it
//!                    into a delegated cgroup                  ->  waits
//!    8 RuntimeHooks  prestart, createRuntime                <->   waits
//!    9 ContainerHooks                                             createContainer
//!   10 EnterRoot                                                  pivot_root
//!   11 Furnish                                                    console, cwd made, hostname, sysctl
//!   12 Seal                                                       readonly paths and root, masks
//!   13 Become        Record{pid} and step 7, where late     <->   a late usher joins the pid namespace, sheds rights,
//!                                                                 bears init here, and ends; session and terminal;
//!                    takes the filter's listener by its      <-   labels; limits; no_new_privs, or else the filter;
//!                    number and sends it to the agent        ->   ids, groups, capabilities; program found; the
//!                                                                 filter, if no_new_privs
//!   14 Ready         rlimits; Record{created}; pid file       <-  all that can fail early is done; executable found
//!   15 Wait          (gone)                                       blocks at the gate until `start`
//!   16 Exec          `start` hears the gate's end             <-  startContainer hooks, close, execve
//! ```
//!
//! - Both sides pass through a `cursor::Cursor`, which knows the step; it is also the failpoint of the tests.
//! - Which steps apply is decided in `plan`, before Spawn, for both sides; a step that is skipped is skipped on both
//!   sides by the same `if`.
//! - Without a user namespace, a time namespace or a pid namespace to join there is no usher: one clone makes init
//!   with all its namespaces. Where others live in the pid namespace to join, and no user namespace keeps them from us,
//!   the usher is a late one ([`crate::namespaces::Usher::late`]): it walks init's column itself, outside of that pid
//!   namespace, until nothing of the host's is left in its hands. Its hooks get the usher's pid (docs/architecture.md
//!   tells why that does). A cgroup namespace is never in the clone: it would be rooted at the parent's cgroup.
//! - Moving another process into a cgroup of v1 makes the kernel wait for every processor, for milliseconds; one that
//!   moves itself is spared that ([`crate::cgroup::Entrance`]). So the first deed of the child is to walk in.
//! - systemd makes a scope around a process, so that there is no cgroup to be born in: the child waits in Place, in the
//!   runtime's own, has done nothing yet, and gets the doors of v1 over the link.
//! - The device program of v2 comes with the limits, while init builds its root. Until then only our own code runs in
//!   the cgroup, and what that does (mknod, and opening the default devices) every program of ours allows; the lines of
//!   v1 begin by denying all, and so are written before anybody enters. `exec` is born under what stands.
//! - oom_score_adj is set before MapIds (it needs the host's right); cgroup limits after the last clone (`pids.max` 1
//!   must not stop the usher, so a late one is spared them); rlimits last of all (a low NOFILE must not stop BuildRoot).
//! - The filter binds init itself from where it is loaded: without no_new_privs before the capabilities go, for the
//!   kernel asks for CAP_SYS_ADMIN then; with it last of all ([`crate::seccomp::Moment`]). From there on init uses few
//!   calls, and writes and reads the link without sendmsg and recvmsg.
//! - A failure on init's side travels as one bounded record, so that the parent shows the error that init had. After
//!   Ready the parent is gone, and a failure goes through the gate ([`crate::launch::gate`]).
//! - Every acquiring step pushes its reverse on [`Undo`]; Ready disarms it. Once a hook has begun, the caller's undo ends
//!   with the poststop hooks (runtime.md#lifecycle).
//!
//! `exec` is the same story with fewer lines ([`exec`]).

use std::os::fd::OwnedFd;

mod cursor;
pub mod exec;
pub mod gate;
pub mod init;
pub mod parent;
pub(crate) mod rendezvous;
mod spawn;

use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::namespaces::Opened;
use crate::rdt;
use crate::sys::process::Child;

pub use parent::create;
pub(crate) use rendezvous::{decode, encode};

/// The steps of the table, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table above tells")]
pub enum Step {
    Prepare = 0,
    Spawn = 1,
    Place = 2,
    MapIds = 3,
    Enter = 4,
    Lend = 5,
    BuildRoot = 6,
    Limit = 7,
    RuntimeHooks = 8,
    ContainerHooks = 9,
    EnterRoot = 10,
    Furnish = 11,
    Seal = 12,
    Become = 13,
    Ready = 14,
    Wait = 15,
    Exec = 16,
}

/// What the parent opened on the host before there was a child (step Prepare). Init inherits all of it.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The container's cgroup; `None` where the user asked for none. systemd's is made in step Place.
    pub cgroup: Option<&'a mut Cgroup>,
    /// The container's class of Intel RDT.
    pub rdt: Option<&'a rdt::Group>,
    /// Namespaces to join.
    pub namespaces: Vec<Opened>,
    /// The gate, open for reading and writing, so that opening it never blocks.
    pub gate: OwnedFd,
    /// Where init sends the terminal's master.
    pub console: Option<OwnedFd>,
    /// The bundle, working directory of the runtime's hooks.
    pub bundle: OwnedFd,
    /// Files for the output of hooks.
    pub hook_output: HookOutput,
    /// The connection to the agent that answers the filter's notifications.
    pub agent: Option<OwnedFd>,
}

/// Files for the output of hooks (crun's `run.oci.hooks.stdout` and `.stderr`), opened for appending.
#[derive(Debug, Default)]
pub struct HookOutput {
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// What has happened, for the one who keeps the record.
#[derive(Debug)]
pub enum Milestone<'a> {
    /// Init lives, in its cgroup; nothing else is there yet.
    Born(&'a Child, Option<&'a Cgroup>),
    /// Hooks are about to run: from now on an undo ends with the poststop hooks.
    HooksBegin,
    /// Init waits for `start`.
    Ready(&'a Child),
}

/// A launched init.
#[derive(Debug)]
pub struct Launched {
    /// The process.
    pub init: Child,
    /// What init wants the user to know.
    pub warnings: Vec<String>,
}

/// The reverse of what was done, last thing first, unless all went well.
#[derive(Default)]
pub struct Undo<'a>(Vec<Box<dyn FnOnce() + 'a>>);

impl<'a> Undo<'a> {
    /// Adds the reverse of what has just been done.
    pub fn push(&mut self, reverse: impl FnOnce() + 'a) {
        self.0.push(Box::new(reverse));
    }

    /// All went well.
    pub fn disarm(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(reverse) = self.0.pop() {
            reverse();
        }
    }
}

/// The one who keeps the record is told of each milestone, and may refuse to go on.
pub type Observer<'a> = dyn FnMut(Milestone<'_>) -> Result<()> + 'a;
