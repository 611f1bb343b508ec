//! Mounts of type `cgroup`: the container's own cgroup, on whatever version of cgroups this host has.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use specconv::{Filesystem, Mount};

use super::mount::{Site, change_attached, directory_of, fresh_attributes};
use super::target::Target;
use super::{CgroupView, Hierarchy, mask};
use crate::compat::mount_api::{Detached, Reach, Recipe};
use crate::compat::mount_setattr::{self, Change, attribute};
use crate::error::{Context, Error, Result};
use crate::sys::Errno;
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::mount::{MountAttr, OpenTreeFlags};

/// Mounts the container's cgroup view at the destination.
pub(super) fn mount(site: Site<'_>, mount: &Mount, fs: &Filesystem) -> Result<OwnedFd> {
    let target = directory_of(site, mount)?;
    match &site.plan.cgroup {
        // The unified hierarchy alone, on a host that has others beside it.
        CgroupView::V1 { hierarchies, namespace } if fs.fstype == "cgroup2" => {
            match hierarchies.iter().find(|hierarchy| hierarchy.fstype == "cgroup2") {
                Some(own) if !namespace && fs.data.is_empty() => {
                    let tree = bound(&own.path, Reach::One, fresh_attributes(mount))?;
                    site.attach(tree, &target).doing("attach the mount")
                }
                own => unified_at(site, mount, fs, &target, own.map(|own| own.path.as_path())),
            }
        }
        CgroupView::V1 { .. } if !fs.data.is_empty() => {
            Err(Error::unsupported("options", "the filesystems of cgroup v1 take no options of their own here"))
        }
        CgroupView::V1 { hierarchies, namespace } => hierarchies_at(site, mount, &target, hierarchies, *namespace),
        CgroupView::V2 { host: Some(host), .. } if fs.data.is_empty() => {
            let tree = bound(host, Reach::One, fresh_attributes(mount))?;
            site.attach(tree, &target).doing("attach the mount")
        }
        CgroupView::V2 { path, .. } => unified_at(site, mount, fs, &target, Some(path)),
        CgroupView::None => unified_at(site, mount, fs, &target, None),
    }
}

fn unified_at(site: Site<'_>, mount: &Mount, fs: &Filesystem, target: &Target, path: Option<&Path>) -> Result<OwnedFd> {
    let options = fs.data.iter().map(|option| (option.key.as_str(), option.value.as_deref())).collect();
    let attributes = fresh_attributes(mount);
    let recipe = Recipe { fstype: "cgroup2", source: Some("cgroup"), options, attributes };
    // On the old road making and attaching are one call, and so is its refusal.
    let made = Detached::filesystem(&recipe).and_then(|tree| site.attach(tree, target));
    let own = match (made, path) {
        // A user namespace without a cgroup namespace of its own may not mount one; its own cgroup can be bound.
        (Err(error), Some(path)) if matches!(error.errno(), Some(Errno::EPERM | Errno::EBUSY)) => {
            bound(path, Reach::Tree, attributes)
        }
        (made, _) => return made.doing("make a cgroup2"),
    };
    let tree = match own {
        // The cgroup was made where this mount namespace cannot see it. Nothing is then to be seen.
        Err(error) if error.errno() == Some(Errno::ENOENT) => mask::empty_directory(site.plan.mount_label.as_ref()),
        other => other,
    }?;
    site.attach(tree, target).doing("attach the mount")
}

/// What the host has at a path. Made anew from the first cgroup namespace, a cgroup2 would take the options of that
/// mount for the whole host (`nsdelegate`, `memory_recursiveprot` would be lost), and wait for a grace period of RCU.
fn bound(path: &Path, reach: Reach, attributes: u64) -> Result<Detached> {
    let recursive = reach == Reach::Tree;
    let mut tree =
        Detached::copy(CWD, path, reach, OpenTreeFlags::empty()).doing_with(|| format!("bind the host's {path:?}"))?;
    let what = MountAttr { set: attributes, ..MountAttr::default() };
    tree.change(&Change { what, recursive }).doing("set the options")?;
    Ok(tree)
}

/// Version 1: a tmpfs with one directory for each hierarchy.
fn hierarchies_at(
    site: Site<'_>,
    mount: &Mount,
    target: &Target,
    hierarchies: &[Hierarchy],
    namespace: bool,
) -> Result<OwnedFd> {
    let safe = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    let mut options = vec![("mode", Some("755"))];
    if let Some(label) = &site.plan.mount_label {
        options.push((label.option, Some(label.label.as_str())));
    }
    let tmpfs = Recipe { fstype: "tmpfs", source: Some("tmpfs"), options, attributes: safe };
    let directory = site.attach(Detached::filesystem(&tmpfs)?, target).doing("attach the mount")?;
    for hierarchy in hierarchies {
        let name = Path::new(&hierarchy.name);
        hierarchy_at(site, mount, &directory, target, hierarchy, namespace).doing_with(|| hierarchy.name.clone())?;
        if hierarchy.name.contains(',') {
            for controller in hierarchy.name.split(',') {
                file::symlinkat(name, directory.as_fd(), Path::new(controller))?;
            }
        }
    }
    if fresh_attributes(mount) & attribute::RDONLY != 0 {
        let what = MountAttr { set: attribute::RDONLY, ..MountAttr::default() };
        mount_setattr::set_attached(directory.as_fd(), &Change { what, recursive: false }, site.proc)?;
    }
    Ok(directory)
}

fn hierarchy_at(
    site: Site<'_>,
    mount: &Mount,
    directory: &OwnedFd,
    target: &Target,
    hierarchy: &Hierarchy,
    namespace: bool,
) -> Result<()> {
    let name = Path::new(&hierarchy.name);
    file::mkdirat(directory.as_fd(), name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let fd = file::openat(directory.as_fd(), name, flags, Mode::empty())?;
    let place = Target::known(fd, target.path.join(name));
    let attributes = fresh_attributes(mount);
    if namespace {
        let options = hierarchy.options.iter().map(|option| match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        });
        let recipe =
            Recipe { fstype: hierarchy.fstype, source: Some("cgroup"), options: options.collect(), attributes };
        site.attach(Detached::filesystem(&recipe)?, &place)?;
        return Ok(());
    }
    let source = &hierarchy.path;
    let tree = Detached::copy(CWD, source, Reach::Tree, OpenTreeFlags::empty())
        .doing_with(|| format!("bind the container's cgroup {source:?}"))?;
    let attached = site.attach(tree, &place)?;
    change_attached(site, mount, attached.as_fd())
}
