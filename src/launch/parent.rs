//! The parent's column of the table in [`super`].

use std::os::fd::{AsFd, OwnedFd};

use super::cursor::{Cursor, Side};
use super::rendezvous::{self, Link};
use super::{Launched, Milestone, Observer, Prepared, Step, Undo, spawn};
use crate::cgroup::{Cgroup, Entrance};
use crate::compat::pidfd;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, HookKind};
use crate::plan::{Plan, ProgramPlan};
use crate::sys::process::{self, Child};
use crate::{limits, namespaces, network, rootfs, seccomp};

/// Launches a container up to the point where init waits for `start`.
///
/// # Errors
/// Whatever failed on either side, with nothing of the container's processes left. What the caller made before
/// (state directory, cgroup) is the caller's to undo.
pub fn create(plan: &Plan, mut prepared: Prepared<'_>, observe: &mut Observer<'_>) -> Result<Launched> {
    let mut at = Cursor::of(Side::Parent);
    let (link, theirs) = rendezvous::pair()?;
    if plan.hide_early {
        process::set_dumpable(false).doing("hide from the container")?;
    }

    at.advance(Step::Spawn)?;
    let ushered = plan.namespaces.usher.is_some();
    let flags = if ushered { 0 } else { plan.namespaces.bear };
    let mut cgroup = prepared.cgroup.take();
    let is_made = plan.cgroup.as_ref().is_none_or(|cgroup| !cgroup.needs_process());
    let made = cgroup.as_deref().filter(|_| is_made);
    let entrance = spawn::entrance(made)?;
    let Some(born) = spawn::bear(flags, made.and_then(|cgroup| cgroup.fd()))? else {
        drop(link);
        // The agent is the parent's to talk to.
        spawn::live(plan, Prepared { agent: None, ..prepared }, entrance, theirs)
    };
    drop((theirs, entrance));
    let mut undo = Undo::default();
    end_on_failure(&mut undo, &born.child)?;

    at.advance(Step::Place)?;
    let first = &born.child;
    let doors = place(plan, cgroup.as_deref_mut(), &born)?;
    let cgroup = cgroup.as_deref();
    if let Some(class) = prepared.rdt {
        class.enter(first.pid)?;
    }
    limits::set_oom_score_adj(first.pid, &plan.program.limits)?;
    let doors: Vec<_> = doors.iter().flat_map(Entrance::doors).enumerate().collect();
    link.lend(Step::Place, &doors)?;

    at.advance(Step::MapIds)?;
    if let Some(ids) = &plan.namespaces.ids {
        if ushered {
            link.wait_for_done(Step::MapIds)?;
        }
        namespaces::map_ids(first.pid, ids)?;
        link.go(Step::MapIds)?;
    }

    at.advance(Step::Enter)?;
    let late = plan.namespaces.bears_late();
    let mut init = born.child;
    if ushered && !late {
        init = take_over(&link, Step::Enter, &init, &mut undo)?;
    }
    observe(Milestone::Born(&init, cgroup))?;

    at.advance(Step::Lend)?;
    if plan.script.lend {
        lend(plan, &prepared, &init, &link, &mut undo)?;
    }

    at.advance(Step::Limit)?;
    let mut passed = Vec::new();
    if !late {
        passed.extend(limit(plan, cgroup)?);
    }
    if let (Some(cgroup), Some(plan)) = (cgroup, &plan.cgroup) {
        cgroup.settle(plan, nix::unistd::Pid::from_raw(init.pid))?;
    }
    link.go(Step::Limit)?;

    at.advance(Step::RuntimeHooks)?;
    if plan.script.runtime_hooks {
        link.wait_for_done(Step::BuildRoot)?;
        observe(Milestone::HooksBegin)?;
        runtime_hooks(plan, &prepared, &init)?;
        link.go(Step::RuntimeHooks)?;
    }

    at.advance(Step::Become)?;
    if late {
        init = take_over(&link, Step::Become, &init, &mut undo)?;
        passed.extend(limit(plan, cgroup)?);
        observe(Milestone::Born(&init, cgroup))?;
    }
    if let Some(agent) = prepared.agent {
        pass_listener_on(&link, &init, &plan.program, agent, &plan.state("creating", init.pid))?;
    }

    at.advance(Step::Ready)?;
    let ready = link.wait_for_done(Step::Ready)?;
    if plan.program.user_namespace {
        limits::set_rlimits(init.pid, &plan.program.limits)?;
    }
    observe(Milestone::Ready(&init))?;
    undo.disarm();
    passed.extend(warnings(&ready.bytes));
    Ok(Launched { init, warnings: passed })
}

/// Puts the child into the cgroup where it was not born in it. Where the cgroup is only made now, around the child,
/// these are the doors of v1 that it has to walk through.
fn place(plan: &Plan, cgroup: Option<&mut Cgroup>, born: &spawn::Born) -> Result<Option<Entrance>> {
    let (Some(cgroup), Some(limits)) = (cgroup, &plan.cgroup) else { return Ok(None) };
    let child = nix::unistd::Pid::from_raw(born.child.pid);
    if limits.needs_process() {
        cgroup.make_unit(limits, child)?;
        return spawn::entrance(Some(cgroup));
    }
    if !born.placed {
        cgroup.attach_v2(child)?;
    }
    Ok(None)
}

/// What the user should know, a line each.
pub(super) fn warnings(ready: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(ready).lines().map(str::to_owned).collect()
}

/// Kills and reaps: the undo of every clone.
pub(super) fn end_on_failure(undo: &mut Undo<'_>, child: &Child) -> Result<()> {
    let pidfd = child.pidfd.try_clone().map_err(crate::sys::refused!("dup"))?;
    let child = Child { pid: child.pid, pidfd };
    undo.push(move || {
        let _ = pidfd::signal(&child, libc::SIGKILL);
        let _ = process::waitid(child.as_fd());
    });
    Ok(())
}

/// Sets the cgroup's limits, once there is nobody more to be borne. Answers with warnings.
fn limit(plan: &Plan, cgroup: Option<&Cgroup>) -> Result<Vec<String>> {
    let (Some(cgroup), Some(limits)) = (cgroup, &plan.cgroup) else { return Ok(Vec::new()) };
    let mut warnings: Vec<_> = cgroup.warnings().iter().map(ToString::to_string).collect();
    warnings.extend(cgroup.apply(limits)?.iter().map(ToString::to_string));
    Ok(warnings)
}

/// Takes over the init that this usher has borne, and waits for the usher's end.
pub(super) fn take_over(link: &Link, step: Step, usher: &Child, undo: &mut Undo<'_>) -> Result<Child> {
    let init = spawn::from_usher(link, step, usher)?;
    end_on_failure(undo, &init)?;
    process::waitid(usher.pidfd.as_fd()).doing("wait for the usher's end")?;
    Ok(init)
}

/// Takes the filter's listener from the child and sends it to the agent.
pub(super) fn pass_listener_on(
    link: &Link,
    child: &Child,
    plan: &ProgramPlan,
    agent: OwnedFd,
    state: &str,
) -> Result<()> {
    let Some(to) = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref()) else { return Ok(()) };
    let told = link.wait_for_done(Step::Become)?;
    let number = told.bytes.as_slice().try_into().map(i32::from_ne_bytes).unwrap_or(-1);
    let listener = match seccomp::listener::take(child.pidfd.as_fd(), number)? {
        Some(listener) => listener,
        None => {
            link.answer(Step::Become, &[SEND_IT])?;
            let sent = link.wait_for_done(Step::Become)?.fds.pop();
            sent.ok_or_else(|| Error::new(Kind::Other, "the seccomp listener did not come"))?
        }
    };
    seccomp::listener::hand_over(agent.as_fd(), &listener, to, child.pid, state)?;
    // The agent may read to the end before it answers.
    drop(agent);
    link.go(Step::Become)
}

/// The parent's word to the child that it must send the listener itself.
pub(super) const SEND_IT: u8 = 1;

fn lend(plan: &Plan, prepared: &Prepared<'_>, init: &Child, link: &Link, undo: &mut Undo<'_>) -> Result<()> {
    link.wait_for_done(Step::Enter)?;
    let user =
        plan.namespaces.user.then(|| namespaces::open_of(init.pid, specconv::NamespaceKind::User)).transpose()?;
    let owners = rootfs::Owners {
        user: user.as_ref().map(|user| user.as_fd()),
        pid: namespaces::opened(&prepared.namespaces, specconv::NamespaceKind::Pid),
    };
    let lent = rootfs::lend(&plan.rootfs, &owners)?;
    if !plan.net_devices.is_empty() {
        let net = namespaces::open_of(init.pid, specconv::NamespaceKind::Network)?;
        let moved = network::move_devices(&plan.net_devices, net.as_fd())?;
        // The container's namespace takes virtual devices with it when it ends.
        undo.push(move || drop(moved.give_back()));
    }
    let trees: Vec<_> = lent.iter().map(|lent| (lent.mount, lent.tree.as_fd())).collect();
    link.lend(Step::Lend, &trees)
}

fn runtime_hooks(plan: &Plan, prepared: &Prepared<'_>, init: &Child) -> Result<()> {
    // "creating" ends with step 2 of the lifecycle, the runtime environment, and hooks run at steps 3 to 5
    // (runtime.md#state, #lifecycle).
    let state = plan.state("created", init.pid);
    for (kind, hooks) in
        [(HookKind::Prestart, &plan.hooks.prestart), (HookKind::CreateRuntime, &plan.hooks.create_runtime)]
    {
        hooks::run(hooks, &prepared.moment(kind, &state))?;
    }
    Ok(())
}

impl Prepared<'_> {
    /// The circumstances of a hook in the runtime's namespaces.
    fn moment<'s>(&'s self, kind: HookKind, state: &'s str) -> hooks::Moment<'s> {
        hooks::Moment {
            kind,
            state,
            program_env: &[],
            directory: Some(self.bundle.as_fd()),
            output: self.hook_output.borrowed(),
        }
    }
}

impl super::HookOutput {
    /// The files as hooks take them.
    pub fn borrowed(&self) -> hooks::Output<'_> {
        hooks::Output {
            stdout: self.stdout.as_ref().map(|file| file.as_fd()),
            stderr: self.stderr.as_ref().map(|file| file.as_fd()),
        }
    }
}
