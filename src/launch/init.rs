//! Init's column of the table in [`super`].

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use specconv::NamespaceKind;

use super::cursor::Cursor;
use super::parent::SEND_IT;
use super::rendezvous::Link;
use super::{HookOutput, Prepared, Step, gate, spawn};
use crate::error::{Context, Result};
use crate::hooks::{self, HookKind};
use crate::identity::label;
use crate::plan::{Plan, ProgramPlan};
use crate::program::{self, Program};
use crate::seccomp::{self, Moment};
use crate::sys::sched::SELF;
use crate::sys::{self, namespace, process};
use crate::{compat, identity, limits, namespaces, network, rootfs, signal, sysctl, terminal};

/// Init's whole life before the program: walks the table, and tells whoever waits where it failed.
pub(super) fn run(plan: &Plan, prepared: Prepared<'_>, link: Link, mut at: Cursor) -> ! {
    let waiting = match create(plan, prepared, &link, &mut at) {
        Ok(waiting) => waiting,
        Err(error) => {
            link.failed(at.step(), &error);
            process::exit(1)
        }
    };
    drop(link);
    let Err(error) = start(plan, &waiting, &mut at);
    gate::fail(waiting.gate.as_fd(), &error);
    process::exit(1)
}

/// Steps 3 to 14; Place is over ([`spawn::live`]). Returns the gate behind which the program waits.
fn create(plan: &Plan, mut prepared: Prepared<'_>, link: &Link, at: &mut Cursor) -> Result<Waiting> {
    if plan.namespaces.usher.is_none() {
        at.advance(Step::MapIds)?;
        if plan.namespaces.ids.is_some() {
            link.wait_for_go(Step::MapIds)?;
            namespaces::become_root()?;
        }
    }
    process::set_dumpable(false).doing("hide from the container")?;

    at.advance(Step::Enter)?;
    if plan.namespaces.usher.is_none() {
        namespaces::join(std::mem::take(&mut prepared.namespaces), |_| Ok(()))?;
    }
    if plan.namespaces.unshare != 0 {
        namespace::unshare(plan.namespaces.unshare).doing("make the container's namespaces")?;
    }
    if plan.namespaces.new_cgroup {
        namespace::unshare(namespaces::flag(NamespaceKind::Cgroup)).doing("make the cgroup namespace")?;
    }
    process::setsid()?;
    label::write_for_keys(&plan.program.labels)?;
    identity::join_session_keyring(&plan.program.identity)?;

    at.advance(Step::Lend)?;
    let lent = if plan.script.lend {
        link.done(Step::Enter, &[], &[])?;
        link.borrow(Step::Lend)?.into_iter().map(|(mount, tree)| rootfs::Lent { mount, tree }).collect()
    } else {
        Vec::new()
    };

    at.advance(Step::BuildRoot)?;
    if plan.namespaces.new_network {
        network::bring_loopback_up()?;
    }
    let mut root = rootfs::build(&plan.rootfs, lent)?;

    if plan.script.runtime_hooks {
        link.done(Step::BuildRoot, &[], &[])?;
    }

    // From here on processes of others are born in the container.
    at.advance(Step::Limit)?;
    link.wait_for_go(Step::Limit)?;

    at.advance(Step::RuntimeHooks)?;
    if plan.script.runtime_hooks {
        link.wait_for_go(Step::RuntimeHooks)?;
    }

    at.advance(Step::ContainerHooks)?;
    // As for the runtime's hooks: what runs after step 2 of the lifecycle sees it created.
    let state = plan.state("created", process::getpid());
    hooks::run(
        &plan.hooks.create_container,
        &hooks::Moment {
            kind: HookKind::CreateContainer,
            state: &state,
            program_env: &[],
            directory: Some(root.fd()),
            output: prepared.hook_output.borrowed(),
        },
    )?;

    if plan.hooks.start_container.is_empty() {
        // Files of the host, which nobody in the container shall find in our hands.
        prepared.hook_output = HookOutput::default();
    }

    at.advance(Step::EnterRoot)?;
    let proc = if plan.sysctl.is_empty() { None } else { Some(compat::procfs::open()?) };
    sys::stop_naming_descriptors();
    root.enter()?;
    drop(prepared.bundle);

    at.advance(Step::Furnish)?;
    let console = prepared.console.take();
    let terminal = console.map(|console| furnish_terminal(plan, &root, console)).transpose()?;
    root.make_cwd(&plan.program.process.cwd)?;
    if let Some(hostname) = &plan.hostname {
        sysctl::set_hostname(hostname)?;
    }
    if let Some(domainname) = &plan.domainname {
        sysctl::set_domainname(domainname)?;
    }
    if let Some(proc) = proc {
        sysctl::write(proc.as_fd(), &plan.sysctl)?;
    }

    at.advance(Step::Seal)?;
    root.seal()?;

    at.advance(Step::Become)?;
    if plan.namespaces.bears_late() {
        spawn::bear_late(&plan.program, prepared.namespaces, link, at)?;
        process::setsid()?;
    }
    if let Some(peer) = terminal {
        terminal::adopt(peer)?;
    }
    signal::end_when_asked()?;
    let (program, warnings) = become_program(&plan.program, link)?;

    at.advance(Step::Ready)?;
    process::set_death_signal(0)?;
    compat::close_range::cloexec_from(3 + plan.program.preserve_fds)?;
    load_filter(&plan.program, Moment::Last, link)?;
    link.done(Step::Ready, warnings.join("\n").as_bytes(), &[])?;
    Ok(Waiting { gate: prepared.gate, program, hook_output: prepared.hook_output })
}

/// Closes what init inherited from the parent and does not need: the state directory with its lock, cgroups, sockets,
/// whatever the caller left open. Nothing of the host may be found through init (CVE-2016-9962, CVE-2024-21626).
///
/// Before any namespace is joined: somebody there could look at us, and its /proc could be anybody's.
pub(super) fn let_go_of_the_host(plan: &Plan, prepared: &Prepared<'_>, link: &Link) -> Result<()> {
    let kept: [Option<BorrowedFd<'_>>; 6] = [
        Some(link.as_fd()),
        Some(prepared.gate.as_fd()),
        Some(prepared.bundle.as_fd()),
        prepared.console.as_ref().map(AsFd::as_fd),
        prepared.hook_output.stdout.as_ref().map(AsFd::as_fd),
        prepared.hook_output.stderr.as_ref().map(AsFd::as_fd),
    ];
    // They go as they are joined, the last of a late usher's before init is born.
    let namespaces = prepared.namespaces.iter().map(AsFd::as_fd);
    let kept: Vec<_> = kept.into_iter().flatten().chain(namespaces).collect();
    sys::spawn::wipe_environment();
    compat::close_range::close_all_but(3 + plan.program.preserve_fds, &kept).doing("close what is the host's")
}

/// A terminal of the container's own devpts: its master to whoever asked, its peer on `/dev/console` and returned, for
/// the program.
fn furnish_terminal(plan: &Plan, root: &rootfs::Rootfs, console: OwnedFd) -> Result<OwnedFd> {
    let pair = open_terminal(&plan.program, root.fd(), console)?;
    root.attach_console(pair.peer.as_fd())?;
    Ok(pair.peer)
}

/// Opens a pair in the devpts beneath `root`, and sends the master to whoever asked.
pub(super) fn open_terminal(plan: &ProgramPlan, root: BorrowedFd<'_>, console: OwnedFd) -> Result<terminal::Pair> {
    let pair = terminal::open_pair(root)?;
    if let Some(size) = plan.process.terminal.and_then(|terminal| terminal.size) {
        pair.resize(size)?;
    }
    terminal::send(console.as_fd(), &pair)?;
    Ok(pair)
}

/// Step Become: from root of the container to the user of the program, which is found with that user's eyes.
pub(super) fn become_program(plan: &ProgramPlan, link: &Link) -> Result<(Program, Vec<String>)> {
    let (process, who) = (&plan.process, &plan.identity);
    // Before the limits: with a low RLIMIT_NOFILE no file can be opened any more.
    let env = program::environment(&process.env, &plan.listen_env, || program::home(who.uid));
    label::write(&plan.labels, who.no_new_privileges)?;
    limits::in_init(&plan.limits)?;
    if !plan.user_namespace {
        // With a user namespace this is the parent's: raising a limit needs the host's right.
        limits::set_rlimits(SELF, &plan.limits)?;
    }
    identity::set_umask(who);
    identity::set_no_new_privileges(who)?;
    let entered = identity::enter_cwd(&process.cwd)?;
    identity::own_stdio(who.uid)?;
    load_filter(plan, Moment::BeforeCapabilitiesGo, link)?;
    let warnings = identity::become_user(who)?;
    // Another user is as dumpable as fs.suid_dumpable says (proc_sys_fs(5)); its fellows are not to look at us, either.
    process::set_dumpable(false).doing("hide from the container")?;
    identity::enter_cwd_as_user(&process.cwd, entered)?;
    Ok((Program::new(&process.args, env)?, warnings))
}

/// Loads the filter if this is its moment, and lets the parent have its listener. From here on the filter binds us.
pub(super) fn load_filter(plan: &ProgramPlan, now: Moment, link: &Link) -> Result<()> {
    let Some(filter) = plan.seccomp.as_ref().filter(|filter| filter.moment == now) else { return Ok(()) };
    let Some(listener) = seccomp::load(filter)? else { return Ok(()) };
    link.done(Step::Become, &listener.as_raw_fd().to_ne_bytes(), &[])?;
    if link.read_go(Step::Become)?.contains(&SEND_IT) {
        link.done(Step::Become, &[], &[listener.as_fd()])?;
        link.read_go(Step::Become)?;
    }
    Ok(())
}

/// Init in front of the gate, with all that it needs behind it.
struct Waiting {
    gate: OwnedFd,
    program: Program,
    hook_output: HookOutput,
}

/// Steps 15 and 16.
fn start(plan: &Plan, waiting: &Waiting, at: &mut Cursor) -> Result<Infallible> {
    at.advance(Step::Wait)?;
    gate::wait(waiting.gate.as_fd())?;

    at.advance(Step::Exec)?;
    let state = plan.state("created", process::getpid());
    hooks::run(
        &plan.hooks.start_container,
        &hooks::Moment {
            kind: HookKind::StartContainer,
            state: &state,
            program_env: waiting.program.env(),
            directory: None,
            output: waiting.hook_output.borrowed(),
        },
    )?;
    signal::reset_all();
    Err(program::execute(&waiting.program))
}
