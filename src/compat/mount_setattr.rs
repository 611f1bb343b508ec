//! needs    mount_setattr(2)
//! since    Linux 5.12
//! instead  mount(2) on a trusted /proc/self/fd/N, with MS_REMOUNT or MS_PRIVATE and its kin, after attaching
//! loses    attributes of a whole tree (what is mounted below a read-only path stays as it is), idmapped mounts, a bind
//!          that is read-only from its first moment, and mounts lent by another namespace: with a user namespace, sources
//!          of binds that the container's root may not reach

use std::os::fd::BorrowedFd;

use super::own_fd::{Procfs, own};
use super::{Road, own_fd};
use crate::error::{Error, Result};
use crate::sys::mount::{self, MountAttr, MountFlags};
use crate::sys::{self, file};

pub(crate) static ROAD: Road = Road::new();

/// MOUNT_ATTR_* as mount_setattr(2) counts them.
pub mod attribute {
    /// MOUNT_ATTR_RDONLY.
    pub const RDONLY: u64 = 0x1;
    /// MOUNT_ATTR_NOSUID.
    pub const NOSUID: u64 = 0x2;
    /// MOUNT_ATTR_NODEV.
    pub const NODEV: u64 = 0x4;
    /// MOUNT_ATTR_NOEXEC.
    pub const NOEXEC: u64 = 0x8;
    /// MOUNT_ATTR__ATIME: a field, not a set of flags.
    pub const ATIME: u64 = 0x70;
    /// MOUNT_ATTR_NOATIME, a value of [`ATIME`].
    pub const NOATIME: u64 = 0x10;
    /// MOUNT_ATTR_STRICTATIME, a value of [`ATIME`].
    pub const STRICTATIME: u64 = 0x20;
    /// MOUNT_ATTR_NODIRATIME.
    pub const NODIRATIME: u64 = 0x80;
    /// MOUNT_ATTR_NOSYMFOLLOW.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    /// MOUNT_ATTR_IDMAP.
    pub const IDMAP: u64 = 0x10_0000;
}

/// MS_* of mount(2), ST_* of statfs(2), MOUNT_ATTR_* of mount_setattr(2).
const NAMES: [(u64, u64, u64); 6] = [
    (0x1, 0x1, attribute::RDONLY),
    (0x2, 0x2, attribute::NOSUID),
    (0x4, 0x4, attribute::NODEV),
    (0x8, 0x8, attribute::NOEXEC),
    (0x800, 0x800, attribute::NODIRATIME),
    (0x100, 0x2000, attribute::NOSYMFOLLOW),
];
const MS_NOATIME: u64 = 0x400;
const ST_NOATIME: u64 = 0x400;
const MS_RELATIME: u64 = 0x20_0000;
const ST_RELATIME: u64 = 0x1000;
const MS_STRICTATIME: u64 = 0x100_0000;
const MS_REC: u64 = 0x4000;
const MS_BIND: u64 = 0x1000;
const MS_REMOUNT: u64 = 0x20;

/// What to change, and how far down.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// The attributes, the propagation, the mapping.
    pub what: MountAttr<'a>,
    /// Also everything mounted below.
    pub recursive: bool,
}

/// Changes a mount by handle; `false` says that the road is closed and [`afterwards`] must do it on the attached
/// mount.
pub fn set(at: BorrowedFd<'_>, change: &Change<'_>) -> sys::Result<bool> {
    let done = ROAD.take(
        || mount::mount_setattr(at, change.recursive, &change.what),
        // Nothing is set and nothing is cleared: only a filter, or a kernel without the call, can refuse.
        || mount::mount_setattr(at, false, &MountAttr::default()),
    )?;
    Ok(done.is_some())
}

/// Whether a whole tree can be changed at once here; asked after the first use of the call.
pub fn reaches_trees() -> bool {
    !ROAD.is_closed()
}

/// Changes an attached mount, by whichever road is open.
pub fn set_attached(at: BorrowedFd<'_>, change: &Change<'_>, proc: &Procfs) -> Result<()> {
    if set(at, change)? { Ok(()) } else { afterwards(at, change, proc) }
}

/// The old road.
///
/// # Errors
/// `Unsupported` for a mapping, and for attributes of a whole tree: one mount after the other could be done only
/// by names.
pub fn afterwards(at: BorrowedFd<'_>, change: &Change<'_>, proc: &Procfs) -> Result<()> {
    let MountAttr { set, clear, propagation, user_namespace } = change.what;
    if user_namespace.is_some() {
        return Err(Error::unsupported("idmap", "idmapped mounts need Linux 5.12"));
    }
    if set | clear != 0 {
        if change.recursive {
            return Err(Error::unsupported("recursive mount options", "they need Linux 5.12"));
        }
        let flags = remount_flags(file::fstatfs(at)?.flags, set, clear);
        proc.within(|| mount::mount(None, &own_fd::own(at), None, MountFlags::from_bits_retain(flags as u32), None))?;
    }
    if propagation != 0 {
        let flags = propagation | if change.recursive { MS_REC } else { 0 };
        proc.within(|| mount::mount(None, &own(at), None, MountFlags::from_bits_retain(flags as u32), None))?;
    }
    Ok(())
}

/// The attributes that statfs(2) tells about a mount.
pub fn attributes_of(st_flags: u64) -> u64 {
    let mut attributes = 0;
    for (_, st, attribute) in NAMES {
        if st_flags & st != 0 {
            attributes |= attribute;
        }
    }
    attributes
        | if st_flags & ST_NOATIME != 0 {
            attribute::NOATIME
        } else if st_flags & ST_RELATIME != 0 {
            0
        } else {
            attribute::STRICTATIME
        }
}

/// A remount replaces all flags, so those that are to stay are said again.
fn remount_flags(st_flags: u64, set: u64, clear: u64) -> u64 {
    MS_BIND | MS_REMOUNT | mount_flags(attributes_of(st_flags) & !clear | set)
}

/// The MS_* flags that mean these attributes.
pub fn mount_flags(attributes: u64) -> u64 {
    let mut flags = 0;
    for (ms, _, attribute) in NAMES {
        if attributes & attribute != 0 {
            flags |= ms;
        }
    }
    flags
        | match attributes & attribute::ATIME {
            attribute::NOATIME => MS_NOATIME,
            attribute::STRICTATIME => MS_STRICTATIME,
            _ => MS_RELATIME,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remount_says_again_what_stays() {
        // nosuid, nodev, relatime stay; ro comes; noexec goes.
        let flags = remount_flags(0x2 | 0x4 | 0x8 | ST_RELATIME, attribute::RDONLY, attribute::NOEXEC);
        assert_eq!(flags, 0x1000 | 0x20 | 0x1 | 0x2 | 0x4 | MS_RELATIME);
    }

    #[test]
    fn access_time_is_one_field() {
        assert_eq!(attributes_of(0), attribute::STRICTATIME);
        assert_eq!(attributes_of(ST_RELATIME), 0);
        let flags = remount_flags(ST_RELATIME, attribute::NOATIME, attribute::ATIME);
        assert_eq!(flags, 0x1000 | 0x20 | MS_NOATIME);
    }
}
