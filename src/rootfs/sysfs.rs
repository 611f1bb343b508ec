//! The host's sysfs, where the container may not have one of its own: without its own network namespace in a user
//! namespace, the kernel refuses a new one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use specconv::Mount;

use super::mount::{Site, fresh_attributes};
use super::target::Target;
use super::{CgroupView, mask};
use crate::compat::mount_api::{Detached, Reach};
use crate::compat::mount_setattr::{Change, attribute};
use crate::compat::openat2::{Mounts, open_beneath};
use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::file::{CWD, Mode, OFlags};
use crate::sys::mount::{MountAttr, OpenTreeFlags};

/// Binds the host's /sys with all below it read-only, and hides the cgroups of others (CVE-2023-25809).
pub(super) fn borrow_host(site: Site<'_>, mount: &Mount, target: &Target) -> Result<OwnedFd> {
    let mut tree = Detached::copy(CWD, Path::new("/sys"), Reach::Tree, OpenTreeFlags::empty())
        .doing("bind the host's /sys in place of a sysfs")?;
    let safe = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    let what = MountAttr { set: safe, ..MountAttr::default() };
    tree.change(&Change { what, recursive: true }).doing("make the host's /sys read-only")?;
    let wanted = fresh_attributes(mount);
    if wanted & attribute::RDONLY == 0 {
        let what = MountAttr { set: wanted, clear: attribute::RDONLY, ..MountAttr::default() };
        match tree.change(&Change { what, recursive: false }) {
            // It was read-only on the host and is locked so.
            Err(refused) if refused.errno == Errno::EPERM => {}
            other => other.doing("set the options")?,
        }
    }
    let attached = site.attach(tree, target).doing("attach the mount")?;
    let place = open_beneath(
        attached.as_fd(),
        Path::new("fs/cgroup"),
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
        Mounts::Cross,
    );
    let place = match place {
        Err(refused) if refused.errno == Errno::ENOENT => return Ok(attached),
        other => Target::known(other?, target.path.join("fs/cgroup")),
    };
    let own = match &site.plan.cgroup {
        CgroupView::V2 { path, .. } => Detached::copy(CWD, path, Reach::Tree, OpenTreeFlags::empty()).ok(),
        CgroupView::V1 { .. } | CgroupView::None => None,
    };
    let cover = match own {
        Some(mut own) => {
            own.change(&Change { what, recursive: true }).doing("make the container's cgroup read-only")?;
            own
        }
        None => mask::empty_directory(site.plan.mount_label.as_ref())?,
    };
    site.attach(cover, &place).doing("hide the host's cgroups")?;
    Ok(attached)
}
