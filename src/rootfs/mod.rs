//! What the container sees as `/`: mounts, devices, masks, and the step into it (config.md#mounts,
//! config-linux.md#devices).
//!
//! The two halves: the parent [`lend`]s what only it may open; init [`build`]s the tree, steps into it with
//! [`Rootfs::enter`] and [`Rootfs::seal`]s it. Everything here goes by handle: the root is opened once, each
//! destination is resolved once, at its moment, beneath that handle, and mounts are complete before they are
//! attached. Nothing that the image or a volume holds can send us outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::compat::mount_api::{Detached, Reach};
use crate::compat::mount_setattr::{self, Change, attribute};
use crate::compat::openat2::{Mounts, open_beneath};
use crate::compat::own_fd::Procfs;
use crate::error::{Context, Result};
use crate::sys::file::{self, Mode, OFlags};
use crate::sys::mount::{MountAttr, OpenTreeFlags};

mod below;
mod cgroup;
mod copy_up;
mod device;
mod lend;
mod mask;
mod mount;
mod pivot;
mod sysfs;
mod target;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use below::points_below;
pub use below::{mounted_below, unmount_below};
#[cfg(any(test, fuzzing))]
pub(crate) use pivot::kernel_view;

/// Everything that is decided about the root filesystem before the clone.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The root filesystem on the host: absolute, canonical (no link, no `.`, no `..`).
    pub path: PathBuf,
    /// The bundle: relative bind sources start here. Absolute.
    pub bundle: PathBuf,
    /// `root.readonly`.
    pub readonly: bool,
    /// How init steps into it.
    pub entry: Entry,
    /// `linux.rootfsPropagation`.
    pub propagation: Option<specconv::Propagation>,
    /// `mounts`, in order.
    pub mounts: Vec<specconv::Mount>,
    /// `linux.devices`; the default nodes and links are added here.
    pub devices: Vec<specconv::Device>,
    /// Whether the container has a user namespace of its own: mknod is refused in it, so devices are bound from
    /// the host.
    pub user_namespace: bool,
    /// Whether the parent may clone mounts of the host (CAP_SYS_ADMIN over its mount namespace). With a user
    /// namespace the bind sources then come lent, because the mapped root may not be able to reach them.
    pub privileged: bool,
    /// Whether the parent makes the procfs mounts: whoever builds the root is not in the container's pid namespace.
    pub procfs_is_lent: bool,
    /// `linux.maskedPaths`.
    pub masked_paths: Vec<PathBuf>,
    /// `linux.readonlyPaths`.
    pub readonly_paths: Vec<PathBuf>,
    /// `linux.mountLabel`; `None` also where SELinux is off.
    pub mount_label: Option<specconv::MountLabel>,
    /// What a mount of type `cgroup` shows.
    pub cgroup: CgroupView,
}

/// How init steps into the root filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// pivot_root(2).
    Pivot,
    /// `--no-pivot`: the tree is moved over `/`, for hosts whose root is an initramfs.
    MoveRoot,
    /// chroot(2) alone: the container has no mount namespace of its own. Its mounts are made in the runtime's, below
    /// the root filesystem and nowhere else; nobody's propagation is touched, and [`unmount_below`] takes them away.
    Chroot,
}

/// The container's cgroup as a mount of type `cgroup` shows it. Paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupView {
    /// The container has no cgroup of its own: a mount of type `cgroup` shows cgroup v2 where the kernel lets it.
    None,
    /// The unified hierarchy.
    V2 {
        /// The container's own cgroup (`/sys/fs/cgroup/orlop/web`); bound where the kernel refuses a new mount.
        path: PathBuf,
        /// The host's mount of the whole hierarchy, where the container shares the host's view of it (no cgroup
        /// namespace, no user namespace) and this very mount is to be bound.
        host: Option<PathBuf>,
    },
    /// One directory for each hierarchy, on a tmpfs.
    V1 {
        /// In the order of the host's mounts; on a hybrid host the unified one may be among them.
        hierarchies: Vec<Hierarchy>,
        /// Whether the container has a cgroup namespace of its own.
        namespace: bool,
    },
}

/// One hierarchy of [`CgroupView::V1`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Name of its directory, the last component of the host's mount point: `cpu,cpuacct`, `systemd`, `unified`.
    /// Where it joins several controllers by commas, each gets a link.
    pub name: String,
    /// `cgroup` or `cgroup2`.
    pub fstype: &'static str,
    /// Mount options that name it: `["cpu", "cpuacct"]`, `["name=systemd"]`; none for `cgroup2`.
    pub options: Vec<String>,
    /// The container's own cgroup in it, on the host.
    pub path: PathBuf,
}

/// The container's namespaces that mounts may belong to.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// The user namespace, for mounts that take its mapping.
    pub user: Option<BorrowedFd<'a>>,
    /// The pid namespace that is joined, for the procfs.
    pub pid: Option<BorrowedFd<'a>>,
}

/// A mount that the parent opened for init, detached.
#[derive(Debug)]
pub struct Lent {
    /// Position in [`Plan::mounts`].
    pub mount: usize,
    /// The detached tree.
    pub tree: OwnedFd,
}

/// Whether the parent has anything to lend (step Lend).
pub fn lends(plan: &Plan) -> bool {
    plan.mounts.iter().any(|mount| lend::concerns(plan, mount))
}

/// Opens, in the host's namespaces, what init cannot open itself: bind sources for a user namespace, idmapped
/// mounts, sources that name another process's descriptors, and the procfs of a pid namespace that init is not in yet.
///
/// # Errors
/// Names the mount; a missing source is `no such file or directory`.
pub fn lend(plan: &Plan, owners: &Owners<'_>) -> Result<Vec<Lent>> {
    lend::lend(plan, owners)
}

/// Builds the tree, in init's own mount namespace (step BuildRoot): propagation, the root attached on itself,
/// mounts in order, devices and links. It is not `/` yet.
///
/// # Errors
/// Name the mount or the device.
pub fn build(plan: &Plan, lent: Vec<Lent>) -> Result<Rootfs<'_>> {
    // Modes of what is made here are said, not masked.
    let mask = file::umask(Mode::empty());
    let built = build_unmasked(plan, lent);
    file::umask(mask);
    built
}

fn build_unmasked(plan: &Plan, mut lent: Vec<Lent>) -> Result<Rootfs<'_>> {
    let proc = Procfs::hold();
    let root = pivot::attach_root(plan, &proc).at(|| format!("root.path ({})", plan.path.display()))?;
    let mut rootfs = Rootfs { plan, proc, root, late: Vec::new() };
    for (position, mount) in plan.mounts.iter().enumerate() {
        let tree = lent.iter().position(|one| one.mount == position).map(|found| lent.swap_remove(found).tree);
        let late = mount::make(rootfs.site(), mount, tree)
            .at(|| format!("mounts[{}] ({})", mount.index, mount.destination.display()))?;
        rootfs.late.extend(late);
    }
    device::populate(rootfs.site())?;
    Ok(rootfs)
}

/// The root filesystem under construction.
#[derive(Debug)]
pub struct Rootfs<'a> {
    plan: &'a Plan,
    proc: Procfs,
    root: OwnedFd,
    late: Vec<mount::Late>,
}

impl Rootfs<'_> {
    /// The root directory, O_PATH; it stays valid through [`Rootfs::enter`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn site(&self) -> mount::Site<'_> {
        mount::Site { plan: self.plan, root: self.root.as_fd(), proc: &self.proc }
    }

    /// Makes it `/` (step EnterRoot); the working directory is `/` afterwards, and the host's tree is gone.
    pub fn enter(&mut self) -> Result<()> {
        pivot::enter(self.plan, self.root.as_fd(), &self.proc).doing("enter the root filesystem")
    }

    /// Makes the working directory if it is missing (0755), beneath the root (step Furnish).
    pub fn make_cwd(&self, cwd: &Path) -> Result<()> {
        if cwd == Path::new("/") {
            return Ok(());
        }
        let mask = file::umask(Mode::from_raw_mode(0o022));
        let made = target::resolve(self.root.as_fd(), cwd, target::Links::Follow, || Ok(target::Missing::Directory));
        file::umask(mask);
        made.at(|| format!("process.cwd ({})", cwd.display())).map(drop)
    }

    /// Makes `/dev/console` and mounts the terminal's peer on it (step Furnish).
    ///
    /// # Errors
    /// A link at `/dev/console` is refused, not followed (CVE-2025-52565, CVE-2026-88264).
    pub fn attach_console(&self, peer: BorrowedFd<'_>) -> Result<()> {
        let attach = || -> Result<()> {
            let dev = OFlags::PATH | OFlags::DIRECTORY;
            let dev = open_beneath(self.root.as_fd(), Path::new("dev"), dev, Mode::empty(), Mounts::Cross)?;
            let fd = device::file_at(dev.as_fd(), Path::new("console"))?;
            let at = target::Target::known(fd, PathBuf::from("dev/console"));
            let copy = Detached::copy(peer, Path::new(""), Reach::One, OpenTreeFlags::empty())?;
            self.site().attach(copy, &at).map(drop)
        };
        attach().doing("attach the terminal to /dev/console")
    }

    /// Read-only paths, masks, and what had to be filled before it could become read-only (step Seal).
    pub fn seal(self) -> Result<()> {
        let set_readonly = |mount: BorrowedFd<'_>, recursive| {
            let what = MountAttr { set: attribute::RDONLY, ..MountAttr::default() };
            mount_setattr::set_attached(mount, &Change { what, recursive }, &self.proc)
        };
        for late in &self.late {
            set_readonly(late.mount.as_fd(), late.recursive).doing("make a filled mount read-only")?;
        }
        mask::make_readonly(self.site(), &self.plan.readonly_paths)?;
        mask::cover(self.site(), &self.plan.masked_paths)?;
        if self.plan.readonly {
            set_readonly(self.root.as_fd(), false).at(|| "root.readonly".to_owned())?;
        }
        pivot::spread_root(self.plan, self.root.as_fd(), &self.proc).at(|| "linux.rootfsPropagation".to_owned())
    }
}
