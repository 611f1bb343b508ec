//! What the parent opens for init, in the host's namespaces.
//!
//! Bind sources for a user namespace, whose root may not reach them; idmapped mounts, which take the rights of the
//! host; sources that are another process's handles, which lie outside init's copy of the host's mounts; and the procfs
//! of a pid namespace that is joined, while init is not in it yet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use specconv::{IdMap, Mount, MountIdMap, MountIds, MountKind, Propagation, PropagationKind};

use super::mount::{fresh_attributes, is_door, open_source, recipe, spread};
use super::{Lent, Owners, Plan};
use crate::compat::mount_api::Detached;
use crate::compat::mount_setattr::{Change, attribute};
use crate::compat::{clone3, pid_procfs, pidfd};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::mount::MountAttr;
use crate::sys::process::{self, Birth, Child, Side};

/// Whether the parent opens this mount.
pub(super) fn concerns(plan: &Plan, mount: &Mount) -> bool {
    if mount.id_map.is_some() {
        return true;
    }
    match &mount.kind {
        MountKind::Bind(bind) => plan.privileged && (plan.user_namespace || is_door(&bind.source)),
        MountKind::Filesystem(fs) => plan.procfs_is_lent && fs.fstype == "proc",
        _ => false,
    }
}

/// Opens them all.
pub(super) fn lend(plan: &Plan, owners: &Owners<'_>) -> Result<Vec<Lent>> {
    let mut mappings = Mappings(Vec::new());
    let mut lent = Vec::new();
    for (position, mount) in plan.mounts.iter().enumerate() {
        if concerns(plan, mount) {
            let tree = match one(plan, mount, owners, &mut mappings) {
                // Before Linux 5.12: init opens it, if the container's root may.
                Err(error) if error.kind() == Kind::Unsupported && init_may_try(mount) => continue,
                tree => tree.at(|| format!("mounts[{}] ({})", mount.index, mount.destination.display()))?,
            };
            lent.push(Lent { mount: position, tree });
        }
    }
    Ok(lent)
}

/// Whether a mount is lent for nothing but its source, which init may reach as well.
fn init_may_try(mount: &Mount) -> bool {
    matches!(&mount.kind, MountKind::Bind(bind) if mount.id_map.is_none() && !is_door(&bind.source))
}

fn one<'a>(plan: &Plan, mount: &'a Mount, owners: &Owners<'_>, mappings: &mut Mappings<'a>) -> Result<OwnedFd> {
    let mut tree = match &mount.kind {
        MountKind::Bind(bind) => open_source(plan, bind)?,
        MountKind::Filesystem(fs) if fs.fstype == "proc" && plan.procfs_is_lent => {
            let of = owners.pid.ok_or_else(|| Error::unsupported("proc", "there is no pid namespace to join"))?;
            let recipe = recipe(plan, fs, fresh_attributes(mount), None);
            return pid_procfs::make(&recipe, of).doing("make a proc of the joined pid namespace");
        }
        MountKind::Filesystem(fs) if !matches!(fs.fstype.as_str(), "proc" | "sysfs" | "mqueue" | "devpts") => {
            // Init has still to fill a tmpfs, and makes it read-only then.
            let early = if fs.fstype == "tmpfs" { !attribute::RDONLY } else { u64::MAX };
            Detached::filesystem(&recipe(plan, fs, fresh_attributes(mount) & early, None))
                .doing_with(|| format!("make a {}", fs.fstype))?
        }
        _ => return Err(Error::unsupported("idmap", "only binds and ordinary filesystems can be idmapped")),
    };
    if plan.propagation.is_none_or(|asked| asked.kind != PropagationKind::Shared) {
        // A copy of a shared mount is its peer: what is mounted on it would appear on the host.
        let slave = Propagation { kind: PropagationKind::Slave, recursive: true };
        tree.change(&spread(slave)).doing("cut the mount off from the host's")?;
    }
    if let Some(MountIdMap { recursive, ids }) = &mount.id_map {
        let ids = match ids {
            MountIds::Container => owners
                .user
                .ok_or_else(|| Error::unsupported("idmap", "the container has no user namespace to take ids from"))?,
            MountIds::Explicit { uids, gids } => mappings.get(uids, gids)?,
        };
        let what = MountAttr { set: attribute::IDMAP, user_namespace: Some(ids), ..MountAttr::default() };
        tree.change(&Change { what, recursive: *recursive })
            .doing("map the ids of the mount (its filesystem must be able to)")?;
    }
    tree.lend()
}

/// User namespaces that exist for their mapping alone; equal mappings share one.
struct Mappings<'a>(Vec<(&'a [IdMap], &'a [IdMap], OwnedFd)>);

impl<'a> Mappings<'a> {
    fn get(&mut self, uids: &'a [IdMap], gids: &'a [IdMap]) -> Result<BorrowedFd<'_>> {
        let known = self.0.iter().position(|(u, g, _)| *u == uids && *g == gids);
        let position = match known {
            Some(position) => position,
            None => {
                let namespace = mapped_namespace(uids, gids).doing("make a user namespace with the mount's ids")?;
                self.0.push((uids, gids, namespace));
                self.0.len() - 1
            }
        };
        match self.0.get(position) {
            Some((_, _, namespace)) => Ok(namespace.as_fd()),
            None => Err(Error::unsupported("idmap", "no mapping")),
        }
    }
}

/// A user namespace with this mapping. A process must be in it while it is written; it does nothing but wait for
/// its end.
fn mapped_namespace(uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    let child = match clone3::bear(Birth { flags: libc::CLONE_NEWUSER as u64, cgroup: None })?.0 {
        Side::Parent(child) => child,
        Side::Child => loop {
            let _ = process::set_death_signal(libc::SIGKILL);
            let _ = process::poll_in(&[], None);
        },
    };
    let namespace = write_maps(&child, uids, gids);
    pidfd::signal(&child, libc::SIGKILL)?;
    process::waitid(child.as_fd())?;
    namespace
}

fn write_maps(child: &Child, uids: &[IdMap], gids: &[IdMap]) -> Result<OwnedFd> {
    let directory = format!("/proc/{}", child.pid);
    let directory = file::openat(CWD, Path::new(&directory), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    for (name, map) in [("uid_map", uids), ("gid_map", gids)] {
        let lines: String = map.iter().map(|m| format!("{} {} {}\n", m.container, m.host, m.size)).collect();
        let file = file::openat(directory.as_fd(), Path::new(name), OFlags::WRONLY, Mode::empty())?;
        file::write_all(file, lines.as_bytes()).doing_with(|| format!("write {name}"))?;
    }
    Ok(file::openat(directory.as_fd(), Path::new("ns/user"), OFlags::RDONLY, Mode::empty())?)
}
