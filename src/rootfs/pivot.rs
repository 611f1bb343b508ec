//! The step into the root filesystem, and the propagation around it (pivot_root(2), mount_namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use specconv::{Propagation, PropagationKind};

use super::mount::spread;
use super::{Entry, Plan};
use crate::compat::mount_api::{self, Detached, Reach};
use crate::compat::mount_setattr::set_attached;
use crate::compat::openat2::{Mounts, open_beneath};
use crate::compat::own_fd::Procfs;
use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::mount::{self, OpenTreeFlags, UnmountFlags};
use crate::sys::mountinfo::{self, Mount};

const RSLAVE: Propagation = Propagation { kind: PropagationKind::Slave, recursive: true };

/// What the host's tree becomes in our copy of it: nothing of ours may travel back, unless that is asked for.
///
/// `unbindable` is for the container's root alone; a host tree of that kind could not even be bound from.
fn around(plan: &Plan) -> Propagation {
    match plan.propagation {
        Some(asked) if asked.kind != PropagationKind::Unbindable => asked,
        _ => RSLAVE,
    }
}

/// Whether every mount of our copy is cut off from the host's by [`around`].
fn is_cut_off(plan: &Plan) -> bool {
    let around = around(plan);
    around.recursive && matches!(around.kind, PropagationKind::Slave | PropagationKind::Private)
}

/// Attaches a copy of the root filesystem on itself, so that it is a mount of its own, private to us.
pub(super) fn attach_root(plan: &Plan, proc: &Procfs) -> Result<OwnedFd> {
    let host = host_root()?;
    // No link on the way: a root that is one itself leads where the image wants.
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let open = || open_beneath(host.as_fd(), &plan.path, directory, Mode::empty(), Mounts::Cross);
    let place = open().doing("open the root filesystem")?;
    if plan.entry == Entry::Chroot {
        return Ok(place);
    }
    set_attached(host.as_fd(), &spread(around(plan)), proc).doing("set the propagation of /")?;
    if !is_cut_off(plan) {
        part_from_peers(plan, proc)?;
    }
    // The copy is what its source now is: private, or a slave of the host's, never a peer.
    let copy = Detached::copy(place.as_fd(), Path::new(""), Reach::Tree, OpenTreeFlags::empty())
        .doing("copy the root filesystem's mount")?;
    copy.attach(place.as_fd(), proc, || Ok(open()?)).doing("attach the root filesystem on itself")
}

fn host_root() -> Result<OwnedFd> {
    Ok(file::openat(CWD, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?)
}

/// The mount that the root filesystem lies in must not be shared: what we attach would appear on the host, and
/// pivot_root(2) refuses. A slave of the host's it stays where that is asked for (config-linux.md#rootfs-mount-propagation;
/// runc makes it private). It is found by trying: a path that is no mount point answers EINVAL.
fn part_from_peers(plan: &Plan, proc: &Procfs) -> Result<()> {
    let is_slave = plan.propagation.is_some_and(|asked| asked.kind == PropagationKind::Slave);
    let kind = if is_slave { PropagationKind::Slave } else { PropagationKind::Private };
    for place in plan.path.ancestors() {
        let fd = file::openat(CWD, place, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        match set_attached(fd.as_fd(), &spread(Propagation { kind, recursive: false }), proc) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => {}
            other => return other.doing("part the mount around the root filesystem from the host's"),
        }
    }
    Ok(())
}

/// Makes `root` the root of this process and of its mount namespace.
pub(super) fn enter(plan: &Plan, root: BorrowedFd<'_>, proc: &Procfs) -> Result<()> {
    let here = Path::new(".");
    match plan.entry {
        Entry::Pivot => {
            let host = if is_cut_off(plan) { None } else { Some(host_root()?) };
            file::fchdir(root)?;
            // The old root is stacked upon the new one, and "." is then below it (pivot_root(2), NOTES).
            mount::pivot_root(here, here)?;
            if let Some(host) = host {
                set_attached(host.as_fd(), &spread(RSLAVE), proc).doing("cut the old root off")?;
            }
            mount::umount2(here, UnmountFlags::DETACH).doing("leave the old root")?;
        }
        Entry::MoveRoot => {
            if !is_cut_off(plan) {
                // Else what is unmounted here would go on the host as well.
                set_attached(host_root()?.as_fd(), &spread(RSLAVE), proc).doing("cut the host's tree off")?;
            }
            hide_kernel_views(&plan.path, proc)?;
            mount_api::move_over_root(root, proc).doing("move the root filesystem over /")?;
            file::fchdir(root)?;
            file::chroot(here)?;
        }
        Entry::Chroot => {
            file::fchdir(root)?;
            file::chroot(here)?;
        }
    }
    Ok(())
}

/// Gives the finished root the propagation that was asked for. Slave and private it has since [`attach_root`], and
/// saying so again to a whole tree would undo what single mounts asked for; of unbindable mounts nothing more could
/// be copied, so this comes last.
pub(super) fn spread_root(plan: &Plan, root: BorrowedFd<'_>, proc: &Procfs) -> Result<()> {
    let late = |asked: &Propagation| matches!(asked.kind, PropagationKind::Shared | PropagationKind::Unbindable);
    match plan.propagation.filter(late) {
        Some(asked) if plan.entry != Entry::Chroot => set_attached(root, &spread(asked), proc),
        _ => Ok(()),
    }
}

/// `--no-pivot` leaves the host's tree around us. A full procfs or sysfs in it could be found again by whoever
/// breaks out of the chroot, so those go, or are covered.
fn hide_kernel_views(rootfs: &Path, proc: &Procfs) -> Result<()> {
    for place in kernel_views(rootfs)? {
        match mount::umount2(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Err(refused) if matches!(refused.errno, Errno::EINVAL | Errno::EPERM) => {
                let at = file::openat(CWD, &place, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
                let cover = super::mask::empty_directory(None)?;
                cover
                    .attach(at.as_fd(), proc, || Ok(file::openat(CWD, &place, OFlags::PATH, Mode::empty())?))
                    .doing_with(|| format!("cover {place:?}"))?;
            }
            // It lay below another that is gone already.
            Err(refused) if refused.errno == Errno::ENOENT => {}
            other => other.doing_with(|| format!("unmount {place:?}"))?,
        }
    }
    Ok(())
}

/// Mount points of whole procfs and sysfs outside the root filesystem, the innermost first.
fn kernel_views(rootfs: &Path) -> Result<Vec<PathBuf>> {
    let table = mountinfo::read()?;
    let views = mountinfo::mounts(&table).filter_map(kernel_view);
    let mut places: Vec<PathBuf> = views.filter(|place| !place.starts_with(rootfs)).collect();
    places.reverse();
    Ok(places)
}

/// Where a mount is that shows a whole procfs or sysfs.
pub(crate) fn kernel_view(mount: Mount<'_>) -> Option<PathBuf> {
    let whole = mount.root.escaped() == Path::new("/") && matches!(mount.fstype, b"proc" | b"sysfs");
    whole.then(|| mount.point.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn whole_kernel_views_are_found() {
        let of = |line: &[u8]| mountinfo::mounts(line).find_map(kernel_view);
        let view = |line: &str| of(line.as_bytes()).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(view("22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw").as_deref(), Some("/proc"));
        assert_eq!(view("23 27 0:22 / /a\\040b/sys rw - sysfs sysfs rw").as_deref(), Some("/a b/sys"));
        assert_eq!(view("24 27 0:21 /sys /mnt rw - proc proc rw"), None, "a part of one is no way out");
        let strange = of(b"23 27 0:22 / /\xff rw - sysfs sysfs rw");
        assert_eq!(strange, Some(OsString::from_vec(b"/\xff".to_vec()).into()), "names are bytes");
        assert_eq!(view("25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw"), None);
    }
}
