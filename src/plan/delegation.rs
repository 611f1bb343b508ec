//! Who may divide the container's cgroup, and whether the program begins in one below it.

use std::path::Path;

use specconv::{Config, MountKind, NamespaceKind, Process};

use crate::cgroup;
use crate::compat::mount_setattr::attribute::RDONLY;
use crate::host::Host;

/// Who may divide the container's cgroup: the user of its program, where the config lets that user see the cgroup from
/// inside, writable, as a root of its own; runc's rule.
pub(super) fn owner(config: &Config, process: &Process, host: &Host) -> Option<u32> {
    let writable = config.mounts.iter().any(|mount| {
        let is_readonly = mount.attributes.set & RDONLY != 0;
        matches!(mount.kind, MountKind::Cgroup(_)) && mount.destination == Path::new("/sys/fs/cgroup") && !is_readonly
    });
    if !(writable && config.namespaces.is_new(NamespaceKind::Cgroup)) {
        return None;
    }
    owner_on_host(config, process, host)
}

/// crun's annotations for cgroups below the container's: the outer one, and the one in it. crun heeds the first under
/// systemd alone, and makes its limits anew there; here the limits stay above both.
const BELOW: [&str; 2] = ["run.oci.systemd.subgroup", "run.oci.delegate-cgroup"];

/// The cgroup below the container's in which the program begins; its user's, as who asks for one means to divide it.
pub(super) fn below(config: &Config, process: &Process, host: &Host) -> Option<cgroup::Delegated> {
    let asked = BELOW.iter().filter_map(|name| config.annotations.get_key_value(*name));
    let asked: Vec<_> = asked.filter(|(_, path)| !path.is_empty()).collect();
    let (field, _) = asked.last()?;
    let parts: Vec<&str> = asked.iter().map(|(_, path)| path.as_str()).collect();
    Some(cgroup::Delegated {
        path: parts.join("/"),
        field: format!("annotations[{field:?}]"),
        owner: owner_on_host(config, process, host),
    })
}

/// The program's user, as the host counts; `None` where nothing need or can be given away.
fn owner_on_host(config: &Config, process: &Process, host: &Host) -> Option<u32> {
    let uid = process.user.uid;
    let owner = match config.namespaces.get(NamespaceKind::User) {
        None => Some(uid),
        // The maps of a joined namespace are nobody's to know here.
        Some(namespace) if namespace.path.is_some() => None,
        Some(_) => specconv::to_host(&config.uid_mappings, uid),
    };
    // What we make is ours already, and an ordinary user has nothing to give away.
    owner.filter(|owner| *owner != host.uid && host.is_root())
}
