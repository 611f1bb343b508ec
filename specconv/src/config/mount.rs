//! What is mounted where (config.md#mounts).

use std::path::PathBuf;

use super::IdMap;

/// One mount (config.md#mounts).
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// Position in `mounts`.
    pub index: usize,
    /// Absolute path in the container (a relative one is taken from `/`, with a warning).
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Attributes of this mount alone.
    pub attributes: Attributes,
    /// Attributes of this mount and all below it (`rro`, `rnosuid`, ...).
    pub recursive: Attributes,
    /// Propagation to set once it is attached, in order.
    pub propagation: Vec<Propagation>,
    /// Ids of the mount (idmapped mounts).
    pub id_map: Option<MountIdMap>,
    /// What the target may be.
    pub target: MountTarget,
}

/// What is mounted. A kind is an enum so that `"bind"` as a type and as an option cannot disagree.
#[derive(Debug, Clone, PartialEq)]
pub enum MountKind {
    /// An existing tree.
    Bind(Bind),
    /// A new filesystem.
    Filesystem(Filesystem),
    /// The container's own cgroup, on whatever cgroup version this host has: `type: cgroup`, and `type: cgroup2`, which
    /// says the same on cgroup v2; `fstype` tells which was written.
    Cgroup(Filesystem),
    /// `remount`: new flags for what is already mounted at the destination. With `bind`, only the flags of the mount
    /// change and not those of its superblock; `fstype` is `bind` then.
    Remount(Filesystem),
    /// No mount at all: only the propagation (and attributes) of what is mounted at the destination changes
    /// (type empty or `none`, no `bind`, a propagation option).
    Propagate,
}

/// A bind mount.
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// Path on the host: absolute, or relative to the bundle.
    pub source: PathBuf,
    /// `rbind`: with everything mounted below.
    pub recursive: bool,
    /// `copy-symlink` (crun): a source that is a symbolic link is recreated, not followed.
    pub copy_symlink: bool,
    /// `src-nofollow` (crun): the source itself may be a symbolic link, which is mounted as such.
    pub source_nofollow: bool,
}

/// A new filesystem.
#[derive(Debug, Clone, PartialEq)]
pub struct Filesystem {
    /// Type, as in /proc/filesystems.
    pub fstype: String,
    /// Source: a device, or a name for show.
    pub source: Option<String>,
    /// Options of the filesystem, in order: `size=64k`, or a bare word.
    pub data: Vec<FsOption>,
    /// Flags of the superblock rather than of the mount: those that are set (`sync`, `dirsync`, `mand`, `lazytime`,
    /// `iversion`, `silent`), and in a remount also the words for those that no longer are (`async`).
    pub superblock_flags: Vec<&'static str>,
    /// `tmpcopyup`: the new tmpfs starts with what the directory below it holds.
    pub copy_up: bool,
}

/// One option of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsOption {
    /// Position in `mounts[].options`; `None` where the runtime adds it.
    pub index: Option<usize>,
    /// Word before `=`.
    pub key: String,
    /// Text after `=`.
    pub value: Option<String>,
}

/// What may stand at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountTarget {
    /// `dest-nofollow` (crun): a symbolic link at the destination is covered, not followed.
    pub nofollow: bool,
}

/// Attributes of a mount (mount_setattr(2)). `set` and `clear` are disjoint, both MOUNT_ATTR_* bits.
///
/// The access time is a field of three bits, not a set of flags: where one is asked for, `clear` holds all of
/// MOUNT_ATTR__ATIME (0x70) and `set` the wanted value (which is 0 for relatime).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// MOUNT_ATTR_* to switch on.
    pub set: u64,
    /// MOUNT_ATTR_* to switch off; what the user named (`rw`, `suid`), so that clearing a locked flag is an error.
    pub clear: u64,
}

/// Propagation of a mount (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// Kind.
    pub kind: PropagationKind,
    /// Also for everything mounted below.
    pub recursive: bool,
}

/// Kinds of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationKind {
    /// MS_SHARED.
    Shared,
    /// MS_SLAVE.
    Slave,
    /// MS_PRIVATE.
    Private,
    /// MS_UNBINDABLE.
    Unbindable,
}

/// Ids of an idmapped mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIdMap {
    /// `ridmap`: also for everything mounted below.
    pub recursive: bool,
    /// Where the mapping comes from.
    pub ids: MountIds,
}

/// Where the mapping of an idmapped mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountIds {
    /// `idmap` without a mapping: the container's user namespace.
    Container,
    /// `uidMappings`/`gidMappings` of the mount, or crun's `idmap=uids=..;gids=..`.
    Explicit {
        /// User ids: container id is the id in the filesystem, host id the one shown.
        uids: Vec<IdMap>,
        /// Group ids.
        gids: Vec<IdMap>,
    },
}
