//! A second process in a living container: the story of [`super`] with fewer lines.
//!
//! ```text
//!   step      parent                                        child
//!   ------------------------------------------------------------------------------------------------------
//!    1 Spawn  clone                                         ->  usher: non-dumpable, with a death signal until Exec
//!    2 Place  OOM score; attaches the pid to v2 where           walks into the hierarchies of v1; affinity
//!             the clone did not, and to the class of RDT
//!    4 Enter                                                    usher: closes what is the host's; joins all of
//!                                                               init's namespaces at once; makes the terminal;
//!                                                               sheds rights; bears the child, ends;
//!                                                               child: session, keyring; terminal
//!   13 Become  passes the filter's listener on                  as init, the filter included
//!   14 Ready  rlimits; pid file                             <-  executable found
//!   16 Exec   hears the link's end: it was executed         <-  execve
//! ```
//!
//! A pid namespace is felt by children alone, so that who is born in it has the container's root, no descriptor of
//! the host's and nothing else to look at: whoever watches /proc in the container, with CAP_SYS_PTRACE even, never
//! sees a process that is still half on the host, nor (without a user namespace) one with many more rights than the
//! program's. A container without a pid namespace of its own needs no usher.
//!
//! All of init's care is repeated here but for the root filesystem: what `exec` left out has been a CVE each time
//! (CVE-2022-29162, CVE-2016-9962).

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Pid;

use super::cursor::{Cursor, Side};
use super::rendezvous::{self, Link};
use super::{Launched, Step, Undo, init, parent, spawn};
use crate::cgroup::{Cgroup, Entrance};
use crate::error::{Context, Error, Result};
use crate::identity::label;
use crate::plan::{ExecPlan, ProgramPlan};
use crate::program;
use crate::seccomp::Moment;
use crate::sys;
use crate::sys::process::{self, Child};
use crate::{compat, identity, limits, namespaces, rdt, signal, terminal};

/// What the parent opened on the host before there was a child.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The container's init.
    pub init: &'a Child,
    /// The container's cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// Whose cgroup is joined where the container's takes no process any more: init's. `None` where the user has
    /// named a cgroup.
    pub beside: Option<process::Pid>,
    /// The container's class of Intel RDT.
    pub rdt: Option<&'a rdt::Group>,
    /// The root filesystem of a container without a mount namespace.
    pub root: Option<OwnedFd>,
    /// Where the child sends its terminal's master.
    pub console: Option<OwnedFd>,
    /// The connection to the agent that answers the filter's notifications, and the container's state for it.
    pub agent: Option<(OwnedFd, String)>,
}

/// Starts a second process in the container; returns once its program was executed.
///
/// # Errors
/// Whatever failed on either side, the execve included, with no process left.
pub fn exec(plan: &ExecPlan, prepared: Prepared<'_>, ready: &mut dyn FnMut(&Child) -> Result<()>) -> Result<Launched> {
    let mut at = Cursor::of(Side::Parent);
    let (link, theirs) = rendezvous::pair()?;
    if plan.hide_early {
        process::set_dumpable(false).doing("hide from the container")?;
    }

    at.advance(Step::Spawn)?;
    let limits = &plan.program.limits;
    limits::set_initial_affinity(sys::sched::SELF, limits)?;
    let entrance = spawn::entrance(prepared.cgroup)?;
    let Some(born) = spawn::bear(0, prepared.cgroup.and_then(Cgroup::fd))? else {
        drop(link);
        run(plan, Prepared { agent: None, ..prepared }, entrance, theirs)
    };
    drop((theirs, entrance));
    let first = born.child;
    let mut undo = Undo::default();
    parent::end_on_failure(&mut undo, &first)?;

    at.advance(Step::Place)?;
    if let Some(cgroup) = prepared.cgroup
        && !born.placed
    {
        let child = Pid::from_raw(first.pid);
        match prepared.beside {
            Some(init) => cgroup.attach_v2_beside(child, Pid::from_raw(init))?,
            None => cgroup.attach_v2(child)?,
        }
    }
    if let Some(class) = prepared.rdt {
        class.enter(first.pid)?;
    }
    limits::set_oom_score_adj(first.pid, limits)?;
    link.go(Step::Place)?;

    at.advance(Step::Enter)?;
    let child = if plan.needs_usher() { parent::take_over(&link, Step::Enter, &first, &mut undo)? } else { first };

    at.advance(Step::Become)?;
    if let Some((agent, state)) = prepared.agent {
        parent::pass_listener_on(&link, &child, &plan.program, agent, &state)?;
    }

    at.advance(Step::Ready)?;
    let told = link.wait_for_done(Step::Ready)?;
    if plan.program.user_namespace {
        limits::set_rlimits(child.pid, limits)?;
    }
    ready(&child)?;

    at.advance(Step::Exec)?;
    link.go(Step::Exec)?;
    link.wait_for_end()?;
    undo.disarm();
    Ok(Launched { init: child, warnings: parent::warnings(&told.bytes) })
}

impl ExecPlan {
    /// Whether there is a pid namespace to join, which only a child of who joins it lives in.
    fn needs_usher(&self) -> bool {
        self.join & namespaces::flag(specconv::NamespaceKind::Pid) != 0
    }
}

/// The child's whole life before the program.
fn run(plan: &ExecPlan, prepared: Prepared<'_>, entrance: Option<Entrance>, link: Link) -> ! {
    let mut at = Cursor::of(if plan.needs_usher() { Side::Usher } else { Side::Init });
    let Err(error) = walk(plan, prepared, entrance, &link, &mut at);
    link.failed(at.step(), &error);
    process::exit(1)
}

fn walk(
    plan: &ExecPlan,
    mut prepared: Prepared<'_>,
    entrance: Option<Entrance>,
    link: &Link,
    at: &mut Cursor,
) -> Result<Infallible> {
    at.advance(Step::Place)?;
    spawn::place(entrance, link, &plan.program.limits)?;

    at.advance(Step::Enter)?;
    process::set_dumpable(false).doing("hide from the container")?;
    let_go_of_the_host(&plan.program, &prepared, link)?;
    sys::stop_naming_descriptors();
    join(plan, &mut prepared)?;
    let terminal = prepared.console.take().map(|console| make_terminal(&plan.program, console)).transpose()?;
    if plan.needs_usher() {
        spawn::bear_in_sight(&plan.program, link, at)?;
    }
    process::setsid()?;
    label::write_for_keys(&plan.program.labels)?;
    identity::join_session_keyring(&plan.program.identity)?;
    if let Some(peer) = terminal {
        terminal::adopt(peer)?;
    }

    at.advance(Step::Become)?;
    let (program, warnings) = init::become_program(&plan.program, link)?;

    at.advance(Step::Ready)?;
    compat::close_range::cloexec_from(3 + plan.program.preserve_fds)?;
    init::load_filter(&plan.program, Moment::Last, link)?;
    link.done(Step::Ready, warnings.join("\n").as_bytes(), &[])?;
    link.read_go(Step::Exec)?;

    at.advance(Step::Exec)?;
    process::set_death_signal(0)?;
    signal::reset_all();
    Err::<Infallible, Error>(program::execute(&program))
}

fn let_go_of_the_host(plan: &ProgramPlan, prepared: &Prepared<'_>, link: &Link) -> Result<()> {
    let kept = [
        Some(link.as_fd()),
        Some(prepared.init.as_fd()),
        prepared.root.as_ref().map(AsFd::as_fd),
        prepared.console.as_ref().map(AsFd::as_fd),
    ];
    let kept: Vec<_> = kept.into_iter().flatten().collect();
    sys::spawn::wipe_environment();
    compat::close_range::close_all_but(3 + plan.preserve_fds, &kept).doing("close what is the host's")
}

/// A terminal of the container's devpts: its master to whoever asked, its peer returned.
fn make_terminal(program: &ProgramPlan, console: OwnedFd) -> Result<OwnedFd> {
    let root = sys::file::openat(sys::file::CWD, "/".as_ref(), sys::file::OFlags::PATH, sys::file::Mode::empty())?;
    Ok(init::open_terminal(program, root.as_fd(), console)?.peer)
}

fn join(plan: &ExecPlan, prepared: &mut Prepared<'_>) -> Result<()> {
    if plan.join != 0 {
        compat::pidfd::join(prepared.init, plan.join).doing("join the container's namespaces")?;
    }
    if plan.program.user_namespace {
        namespaces::become_root()?;
        // New rights have made us as dumpable as fs.suid_dumpable says (proc_sys_fs(5)).
        process::set_dumpable(false).doing("hide from the container")?;
    }
    if let Some(root) = prepared.root.take() {
        sys::file::fchdir(root.as_fd())
            .and_then(|()| sys::file::chroot(".".as_ref()))
            .doing("enter the container's root")?;
    }
    Ok(())
}
