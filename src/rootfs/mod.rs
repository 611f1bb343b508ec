//! What the container sees as `/`: mounts, devices, masks, and the step into it (config.md#mounts,
//! config-linux.md#devices).
//!
//! The two halves: the parent [`lend`]s what only it may open; init [`build`]s the tree, steps into it with
//! [`Rootfs::enter`] and [`Rootfs::seal`]s it. Everything here goes by handle: the root is opened once, each
//! destination is resolved once, at its moment, beneath that handle, and mounts are complete before they are
//! attached. Nothing that the image or a volume holds can send us outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

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
    /// `linux.maskedPaths`.
    pub masked_paths: Vec<PathBuf>,
    /// `linux.readonlyPaths`.
    pub readonly_paths: Vec<PathBuf>,
    /// `linux.mountLabel`; `None` also where SELinux is off.
    pub mount_label: Option<String>,
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
    /// chroot(2) alone: the container has no mount namespace of its own. Nothing is mounted, and nobody's
    /// propagation is touched; `plan` has refused whatever would need a mount.
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
        /// Whether the container has a cgroup namespace of its own.
        namespace: bool,
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
    let _ = plan;
    false
}

/// Opens, in the host's namespaces, what init cannot open itself: bind sources for a user namespace, idmapped
/// mounts, and sources that name another process's descriptors.
///
/// `user_namespace` is the container's, for mounts that take its mapping.
///
/// # Errors
/// Names the mount; a missing source is `no such file or directory`.
pub fn lend(plan: &Plan, user_namespace: Option<BorrowedFd<'_>>) -> Result<Vec<Lent>> {
    let _ = (plan, user_namespace);
    Ok(Vec::new())
}

/// Builds the tree, in init's own mount namespace (step BuildRoot): propagation, the root attached on itself,
/// mounts in order, devices and links. It is not `/` yet.
///
/// # Errors
/// Name the mount or the device.
pub fn build(plan: &Plan, lent: Vec<Lent>) -> Result<Rootfs> {
    let _ = (plan, lent);
    Err(Error::unsupported("root", "not built yet"))
}

/// The root filesystem under construction.
#[derive(Debug)]
pub struct Rootfs {
    root: OwnedFd,
}

impl Rootfs {
    /// The root directory, O_PATH; it stays valid through [`Rootfs::enter`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Makes it `/` (step EnterRoot); the working directory is `/` afterwards, and the host's tree is gone.
    pub fn enter(&mut self) -> Result<()> {
        Err(Error::unsupported("root", "not built yet"))
    }

    /// Makes the working directory if it is missing (0755), beneath the root (step Furnish).
    pub fn make_cwd(&self, cwd: &Path) -> Result<()> {
        let _ = cwd;
        Err(Error::unsupported("process.cwd", "not built yet"))
    }

    /// Makes `/dev/console` and mounts the terminal's peer on it (step Furnish).
    pub fn attach_console(&self, peer: BorrowedFd<'_>) -> Result<()> {
        let _ = peer;
        Err(Error::unsupported("process.terminal", "not built yet"))
    }

    /// Read-only paths, masks, and what had to be filled before it could become read-only (step Seal).
    pub fn seal(self) -> Result<()> {
        Err(Error::unsupported("root", "not built yet"))
    }
}
