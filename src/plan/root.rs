//! The root filesystem, as this host will build it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use specconv::{Config, NamespaceKind};

use super::Facts;
use crate::cgroup::{self, Layout};
use crate::host::Host;
use crate::rootfs;

/// The root filesystem: what is mounted and made, and how it is entered.
pub(super) fn plan(config: &Config, facts: &Facts<'_>, no_pivot: bool, cgroup: Option<&cgroup::Plan>) -> rootfs::Plan {
    let own = config.namespaces.has(NamespaceKind::Mount);
    rootfs::Plan {
        path: facts.rootfs.clone(),
        bundle: facts.bundle.clone(),
        readonly: config.root.readonly,
        entry: match (own, no_pivot) {
            (false, _) => rootfs::Entry::Chroot,
            (true, true) => rootfs::Entry::MoveRoot,
            (true, false) => rootfs::Entry::Pivot,
        },
        propagation: config.rootfs_propagation,
        mounts: config.mounts.clone(),
        devices: config.devices.clone(),
        user_namespace: config.namespaces.has(NamespaceKind::User),
        privileged: facts.host.is_root(),
        procfs_is_lent: false,
        masked_paths: config.masked_paths.clone(),
        readonly_paths: config.readonly_paths.clone(),
        mount_label: config.mount_label.clone(),
        cgroup: cgroup_view(config, cgroup, facts.layout),
    }
}

/// What the container's own cgroup mounts show. What two concerns share travels as data.
fn cgroup_view(config: &Config, cgroup: Option<&cgroup::Plan>, layout: &Layout) -> rootfs::CgroupView {
    let namespaces = &config.namespaces;
    let namespace = namespaces.has(NamespaceKind::Cgroup);
    let shares = !namespace && !namespaces.has(NamespaceKind::User) && namespaces.is_new(NamespaceKind::Mount);
    let Some(plan) = cgroup else {
        return match layout.v2().filter(|_| shares).map(|v2| v2.mount_point.clone()) {
            Some(host) => rootfs::CgroupView::V2 { path: host.clone(), host: Some(host) },
            None => rootfs::CgroupView::None,
        };
    };
    let views = plan.view();
    match (plan.mode(), views.as_slice()) {
        (cgroup::Mode::Unified, [view, ..]) => {
            let host = shares.then(|| view.mount_point.clone());
            rootfs::CgroupView::V2 { path: view.path.clone(), host }
        }
        (cgroup::Mode::Unified, []) => rootfs::CgroupView::None,
        _ => rootfs::CgroupView::V1 { hierarchies: views.into_iter().map(hierarchy).collect(), namespace },
    }
}

fn hierarchy(view: cgroup::View) -> rootfs::Hierarchy {
    let name = view.mount_point.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    rootfs::Hierarchy {
        name,
        fstype: if view.controllers.is_empty() { "cgroup2" } else { "cgroup" },
        options: view.controllers,
        path: view.path,
    }
}

/// Leaves out the hierarchies whose directory is not among those that were made.
pub(super) fn leave_out_missing(view: &mut rootfs::CgroupView, made: &BTreeMap<String, PathBuf>) {
    if let rootfs::CgroupView::V1 { hierarchies, namespace: false } = view {
        hierarchies.retain(|hierarchy| made.values().any(|path| *path == hierarchy.path));
    }
}

/// A label of mounts protects nothing where nobody looks at labels, and the kernel takes no `context=` then. (A label
/// of the process is an error there: who asks for that one asks to be confined.)
pub(super) fn drop_label_without_selinux(config: &mut Config, host: &Host) -> Option<specconv::Warning> {
    if host.selinux {
        return None;
    }
    config.mount_label.take().map(|asked| specconv::Warning {
        field: "linux.mountLabel".to_owned(),
        what: format!("SELinux is off on this host; {:?} is not set", asked.label),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn host() -> Host {
        Host { uid: 0, gid: 0, in_user_namespace: false, setgroups_denied: false, apparmor: false, selinux: false }
    }

    fn labelled() -> Config {
        let text = br#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"mountLabel":"a:b"}}"#;
        specconv::convert(text).unwrap().config
    }

    #[test]
    fn cgroups_that_were_not_made_are_not_shown() {
        let named = |name: &str| rootfs::Hierarchy {
            name: name.to_owned(),
            fstype: "cgroup",
            options: vec![name.to_owned()],
            path: PathBuf::from(format!("/sys/fs/cgroup/{name}/web")),
        };
        let view = |namespace, names: &[&str]| rootfs::CgroupView::V1 {
            hierarchies: names.iter().map(|name| named(name)).collect(),
            namespace,
        };
        let made = BTreeMap::from([("pids".to_owned(), PathBuf::from("/sys/fs/cgroup/pids/web"))]);
        for (namespace, left) in [(false, &["pids"][..]), (true, &["memory", "pids"])] {
            let mut seen = view(namespace, &["memory", "pids"]);
            leave_out_missing(&mut seen, &made);
            assert_eq!(seen, view(namespace, left));
        }
    }

    #[test]
    fn a_mount_label_is_for_selinux() {
        let mut config = labelled();
        assert_eq!(drop_label_without_selinux(&mut config, &Host { selinux: true, ..host() }), None);
        assert_eq!(config.mount_label.as_ref().map(|asked| asked.label.as_str()), Some("a:b"));
        let warning = drop_label_without_selinux(&mut config, &host()).unwrap();
        assert_eq!(warning.to_string(), "linux.mountLabel: SELinux is off on this host; \"a:b\" is not set");
        assert_eq!(config.mount_label, None);
    }
}
