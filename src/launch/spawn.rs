//! Who is born how: init by one clone, or an usher who bears it.

use std::os::fd::{AsFd, BorrowedFd};

use specconv::NamespaceKind;

use super::cursor::{self, Cursor};
use super::rendezvous::Link;
use super::{Prepared, Step, init};
use crate::cgroup::{Cgroup, Entrance};
use crate::compat;
use crate::error::{Context, Error, Kind, Result};
use crate::identity::capabilities::shed;
use crate::namespaces::Opened;
use crate::plan::{Plan, ProgramPlan};
use crate::sys::process::{self, Birth, Child, Pid, Side};
use crate::sys::sched::SELF;
use crate::sys::{Errno, namespace};
use crate::{limits, namespaces};

/// A child, and whether it was born in its cgroup.
pub(super) struct Born {
    pub(super) child: Child,
    pub(super) placed: bool,
}

/// Bears a child, in its cgroup where the kernel can do that; `None` is the child itself.
///
/// # Errors
/// Also where this process has threads: a fork would inherit their locks.
pub(super) fn bear(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Born>> {
    let threads = process::threads().doing("count our threads")?;
    if threads > 1 {
        return Err(Error::new(Kind::Other, format!("cannot fork a process with {threads} threads")));
    }
    let user = flags & namespaces::flag(NamespaceKind::User) != 0;
    let born = match compat::clone3::bear(Birth { flags, cgroup }) {
        Err(refused) if user && matches!(refused.errno, Errno::EPERM | Errno::EACCES | Errno::ENOSPC) => Err(refused)
            .doing(
                "user namespaces may be forbidden here (user.max_user_namespaces, kernel.unprivileged_userns_clone)",
            ),
        born => born.map_err(Error::from),
    };
    let (side, placed) = born.doing("make the container's first process")?;
    Ok(match side {
        Side::Child => None,
        Side::Parent(child) => Some(Born { child, placed }),
    })
}

/// The doors by which a child enters the cgroup's hierarchies of v1; `None` where there are none, or none yet.
///
/// # Errors
/// A cgroup that is gone.
pub(super) fn entrance(cgroup: Option<&Cgroup>) -> Result<Option<Entrance>> {
    Ok(cgroup.map(Cgroup::entrance).transpose()?.filter(|entrance| !entrance.is_empty()))
}

/// The first child's whole life: it goes to its place, lets go of the host, and walks on as usher or as init.
pub(super) fn live(plan: &Plan, prepared: Prepared<'_>, entrance: Option<Entrance>, link: Link) -> ! {
    let usher = plan.namespaces.usher.is_some();
    let mut at = Cursor::of(if usher { cursor::Side::Usher } else { cursor::Side::Init });
    let placed = at.advance(Step::Place).and_then(|()| {
        place(entrance, &link, &plan.program.limits)?;
        init::let_go_of_the_host(plan, &prepared, &link)
    });
    if let Err(error) = placed {
        link.failed(at.step(), &error);
        process::exit(1)
    }
    if usher { self::usher(plan, prepared, link, at) } else { init::run(plan, prepared, link, at) }
}

/// The child's first deeds: walk into the cgroup before it can use anything that is not accounted for, wait for what
/// the parent has to do about it, and take every processor that this place has.
pub(super) fn place(entrance: Option<Entrance>, link: &Link, limits: &limits::Plan) -> Result<()> {
    process::set_death_signal(libc::SIGKILL)?;
    if let Some(entrance) = entrance {
        entrance.enter()?;
    }
    // A cgroup that could only be made around us has its doors open by now.
    let lent = link.borrow(Step::Place)?;
    Entrance::lent(lent.into_iter().map(|(_, door)| door).collect()).enter()?;
    limits::reset_affinity(SELF, limits);
    limits::set_final_affinity(SELF, limits)
}

/// The usher's whole life: join, make the user and time namespaces, bear init, end. Where others live in the pid
/// namespace that init is born into, the usher first does all of init's work that has the host in its hands.
fn usher(plan: &Plan, mut prepared: Prepared<'_>, link: Link, mut at: Cursor) -> ! {
    let born = enter(plan, &mut prepared, &link, &mut at).and_then(|()| match plan.namespaces.bears_late() {
        true => Ok(()),
        false => bear_sibling(plan.namespaces.bear, &link, &mut at),
    });
    match born {
        Ok(()) => init::run(plan, prepared, link, at),
        Err(error) => {
            link.failed(at.step(), &error);
            process::exit(1)
        }
    }
}

fn enter(plan: &Plan, prepared: &mut Prepared<'_>, link: &Link, at: &mut Cursor) -> Result<()> {
    at.advance(Step::Enter)?;
    let usher = plan.namespaces.usher.clone().unwrap_or_default();
    let offsets = if usher.new_time { Some(namespaces::open_time_offsets()?) } else { None };
    let (later, now) = std::mem::take(&mut prepared.namespaces)
        .into_iter()
        .partition(|opened| usher.late && opened.kind() == NamespaceKind::Pid);
    prepared.namespaces = later;
    namespaces::join(now, |user| {
        if let Some(user) = user {
            namespace::setns(user, namespaces::flag(NamespaceKind::User)).doing("join the user namespace")?;
            namespaces::become_root()?;
            return match &usher.maps {
                Some((uids, gids)) => namespaces::check_maps(uids, gids),
                None => Ok(()),
            };
        }
        if usher.new_user {
            namespace::unshare(namespaces::flag(NamespaceKind::User)).doing("make the user namespace")?;
            link.done(Step::MapIds, &[], &[])?;
            link.wait_for_go(Step::MapIds)?;
            return namespaces::become_root();
        }
        Ok(())
    })?;
    if let Some(offsets) = offsets {
        namespaces::make_time(offsets, &usher.time_offsets)?;
    }
    // From here on somebody in a namespace that we joined could look at us.
    process::set_dumpable(false).doing("hide from the container")
}

/// Bears init as our own sibling: the runtime is its parent, and later whoever the runtime's orphans fall to. Returns in
/// init alone; the usher ends here.
///
/// Init waits until the parent knows it: it shares the usher's end of the link, and could be the faster one to speak.
fn bear_sibling(flags: u64, link: &Link, at: &mut Cursor) -> Result<()> {
    let (side, _) = compat::clone3::bear(Birth { flags: flags | libc::CLONE_PARENT as u64, cgroup: None })
        .doing("make the container's init")?;
    match side {
        Side::Child => {
            // It is not inherited.
            process::set_death_signal(libc::SIGKILL)?;
            at.become_init()?;
            link.wait_for_go(at.step())
        }
        Side::Parent(child) => match link.done(at.step(), &child.pid.to_ne_bytes(), &[child.pidfd.as_fd()]) {
            Ok(()) => process::exit(0),
            Err(error) => {
                process::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL)?;
                Err(error)
            }
        },
    }
}

/// Bears init late, in the pid namespace that was not joined before: hooks of createContainer, who have the host in view,
/// would have been born there as well.
pub(super) fn bear_late(program: &ProgramPlan, pid: Vec<Opened>, link: &Link, at: &mut Cursor) -> Result<()> {
    namespaces::join(pid, |_| Ok(()))?;
    bear_in_sight(program, link, at)
}

/// Bears init where others live already, whom nothing keeps from looking into it unless there is a user namespace: with
/// hardly more rights than the program will have.
pub(super) fn bear_in_sight(program: &ProgramPlan, link: &Link, at: &mut Cursor) -> Result<()> {
    if !program.user_namespace {
        shed(&program.identity.capabilities, program.needed_to_become())?;
    }
    bear_sibling(0, link, at)
}

/// Init's id and handle, as the usher sent them at this step; init may go on.
///
/// Init holds an end of the same link and lives beside others already: one with CAP_SYS_PTRACE can take that end from it
/// (pidfd_getfd(2)) and be faster than the usher. Whom we give limits, name in the pid file and kill must be our own
/// child: what its neighbours are, they can only say.
pub(super) fn from_usher(link: &Link, step: Step, usher: &Child) -> Result<Child> {
    // Init holds the usher's end of the link, too, so that it does not tell of an usher that died before it could speak.
    if process::poll_in(&[link.as_fd(), usher.as_fd()], None)?.first() == Some(&false) {
        return Err(Error::new(Kind::Other, format!("the usher died before step {step:?} was done")));
    }
    let mut parcel = link.wait_for_done(step)?;
    let pid = <[u8; size_of::<Pid>()]>::try_from(parcel.bytes.as_slice()).map(Pid::from_ne_bytes);
    let (Ok(pid), Some(pidfd)) = (pid, parcel.fds.pop()) else {
        return Err(Error::new(Kind::Other, "the usher did not tell who init is"));
    };
    let init = Child { pid, pidfd };
    if pid == usher.pid || !process::is_child(&init) {
        return Err(Error::new(Kind::Other, "who was said to be init is no child of ours: somebody has forged it"));
    }
    link.go(step).map(|()| init)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::fd::OwnedFd;

    use super::super::rendezvous;
    use super::*;

    fn handle(pid: Pid) -> OwnedFd {
        process::pidfd_open(pid).unwrap()
    }

    /// T13: whoever has stolen the link names the process that is to be killed with the container.
    #[test]
    fn t13_only_a_child_of_ours_is_believed_to_be_init() {
        let [mut usher, mut init] = ["true", "true"].map(|name| std::process::Command::new(name).spawn().unwrap());
        let [first, second] = [&usher, &init].map(|child| Pid::try_from(child.id()).unwrap());
        let (own, parent) = (process::getpid(), std::os::unix::process::parent_id() as Pid);
        let born = Child { pid: first, pidfd: handle(first) };
        for (pid, pidfd, is_init) in [
            (second, second, true),
            (1, second, false),
            (parent, second, false),
            (second, own, false),
            (own, own, false),
            (first, second, false),
            (0, second, false),
            (-1, second, false),
        ] {
            let (link, theirs) = rendezvous::pair().unwrap();
            theirs.done(Step::Enter, &pid.to_ne_bytes(), &[handle(pidfd).as_fd()]).unwrap();
            assert_eq!(from_usher(&link, Step::Enter, &born).is_ok(), is_init, "{pid} {pidfd}");
        }
        usher.wait().unwrap();
        init.wait().unwrap();
    }
}
