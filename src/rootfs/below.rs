//! What a container without a mount namespace of its own leaves below its root filesystem, and how it goes again.
//!
//! Its mounts are made in the runtime's own mount namespace, as runc and crun make them. Nobody but us will ever take
//! them away, so `delete` does, by what the kernel says is there: whoever made the container may have been killed at
//! it, and the container may have mounted more.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use specconv::{Propagation, PropagationKind};

use super::mount::spread;
use crate::compat::mount_setattr::set_attached;
use crate::compat::openat2::{Mounts, open_beneath};
use crate::compat::own_fd::{Procfs, own};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::mount::{UnmountFlags, umount2};
use crate::sys::mountinfo;

/// A mount below the root filesystem.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Below {
    /// Relative to the root filesystem.
    path: PathBuf,
    /// Whether it is a peer of a mount elsewhere.
    has_peer_outside: bool,
}

/// Mount points below `root` in our own mount namespace, without `root` itself.
///
/// # Errors
/// Where /proc is not mounted.
pub fn mounted_below(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(below(&mountinfo::read()?, root).into_iter().map(|mount| root.join(mount.path)).collect())
}

/// Unmounts everything below `root`, the innermost first, until nothing is there.
///
/// # Errors
/// For a mount that cannot be unmounted: after all others are.
pub fn unmount_below(root: &Path) -> Result<()> {
    if root == Path::new("/") {
        return Err(Error::new(Kind::Invalid, "the root filesystem is the host's; its mounts are not the container's"));
    }
    let mut before: Option<Vec<Below>> = None;
    loop {
        let there = below(&mountinfo::read()?, root);
        if there.is_empty() {
            return Ok(());
        }
        let refused = unmount_all(root, &there);
        // A mount may hide another one, so what is refused now may go in the next round.
        if before.as_ref() == Some(&there) {
            let left = there.first().map(|mount| root.join(&mount.path)).unwrap_or_default();
            return refused.and_then(|()| Err(Error::new(Kind::Other, format!("{left:?} stays mounted"))));
        }
        before = Some(there);
    }
}

/// Tries every mount; returns the first refusal.
fn unmount_all(root: &Path, mounts: &[Below]) -> Result<()> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let root = file::openat(CWD, root, directory, Mode::empty()).doing("open the root filesystem")?;
    let proc = Procfs::hold();
    let mut refused = Ok(());
    for mount in mounts {
        let done = unmount(&root, mount, &proc).doing_with(|| format!("unmount {:?}", mount.path));
        refused = refused.and(done);
    }
    refused
}

fn unmount(root: &OwnedFd, mount: &Below, proc: &Procfs) -> Result<()> {
    // By handle, and over no link: the names below are the container's, and may be others than mountinfo said.
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let at = open_beneath(root.as_fd(), &mount.path, flags, Mode::empty(), Mounts::Cross)?;
    if mount.has_peer_outside {
        // Else what is unmounted on this one would be unmounted on its peer, which is the host's.
        let alone = Propagation { kind: PropagationKind::Slave, recursive: false };
        set_attached(at.as_fd(), &spread(alone), proc).doing("cut it off from the host's")?;
    }
    proc.within(|| umount2(&own(at.as_fd()), UnmountFlags::DETACH))
}

/// Paths of the mounts below a directory, as a table tells them, for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn points_below(table: &[u8], root: &Path) -> Vec<PathBuf> {
    below(table, root).into_iter().map(|mount| mount.path).collect()
}

/// The mounts below `root`, the innermost first; of several at one place each.
fn below(table: &[u8], root: &Path) -> Vec<Below> {
    let is_inside = |point: &Path| point.starts_with(root) && point != root;
    let mounts = mountinfo::mounts(table).map(|mount| (mount.point.path(), mount.group));
    let (inside, outside): (Vec<_>, Vec<_>) = mounts.partition(|(point, _)| is_inside(point));
    let outside: BTreeSet<u32> = outside.into_iter().filter_map(|(_, group)| group).collect();
    let relative = |(point, group): (PathBuf, Option<u32>)| {
        let has_peer_outside = group.is_some_and(|group| outside.contains(&group));
        Some(Below { path: point.strip_prefix(root).ok()?.to_owned(), has_peer_outside })
    };
    let mut found: Vec<Below> = inside.into_iter().filter_map(relative).collect();
    found.sort_by_key(|mount| std::cmp::Reverse(mount.path.components().count()));
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn found(text: &str, root: &str) -> Vec<(String, bool)> {
        let plain = |mount: Below| (mount.path.to_str().unwrap().to_owned(), mount.has_peer_outside);
        below(text.as_bytes(), Path::new(root)).into_iter().map(plain).collect()
    }

    #[test]
    fn below_is_by_components_and_without_the_root() {
        let text = "\
21 1 0:1 / / rw shared:1 - ext4 x rw
22 21 0:2 / /b/rootfs rw shared:2 - overlay x rw
23 22 0:3 / /b/rootfs/dev rw - tmpfs x rw
24 23 0:4 / /b/rootfs/dev/pts rw shared:7 master:1 - devpts x rw
25 21 0:5 / /b/rootfs2/dev rw - tmpfs x rw
26 22 0:6 / /b/rootfs/a\\040b\\134 rw,nosuid master:2 shared:1 - tmpfs x rw
";
        let expected = [("dev/pts", false), ("dev", false), ("a b\\", true)];
        assert_eq!(found(text, "/b/rootfs"), expected.map(|(path, peer)| (path.to_owned(), peer)));
        assert_eq!(found(text, "/b/rootfs2/dev"), []);
    }

    #[test]
    fn the_hosts_root_is_never_emptied() {
        assert!(unmount_below(Path::new("/")).is_err());
    }
}
