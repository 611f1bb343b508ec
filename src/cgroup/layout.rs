//! Which cgroup hierarchies this host has, and where in them the runtime itself runs.

use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::sys::cgroupfs;
use crate::sys::cgroupfs::CGROUP2_SUPER_MAGIC;
use crate::sys::mountinfo::{self, Mount};

/// Where a host of cgroup v2 mounts its only hierarchy, and one of v1 all of them.
const ROOT: &str = "/sys/fs/cgroup";

/// Longest file of /proc that is read here. A busy container host has some ten thousand mounts.
const LONGEST: usize = 16 << 20;

/// Facts about the host's cgroups, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// How the hierarchies lie.
    pub mode: Mode,
    /// All that are mounted, the one of v2 last.
    pub hierarchies: Vec<Hierarchy>,
}

/// How the hierarchies lie (cgroups(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// cgroup v2 alone.
    Unified,
    /// cgroup v1 alone.
    Legacy,
    /// Controllers in v1, and a v2 tree beside them.
    Hybrid,
    /// No hierarchy is mounted.
    Absent,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which cgroup shows at the mount point (`/`, but for a runtime in a container without a cgroup namespace).
    pub root: String,
    /// Its controllers as /proc/self/cgroup names them, `name=systemd` among them; empty for v2.
    pub controllers: Vec<String>,
    /// The runtime's own cgroup.
    pub own: String,
}

impl Hierarchy {
    /// Whether this is the hierarchy of cgroup v2.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Whether this is a hierarchy of v1 with this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

impl Layout {
    /// Looks at /proc/self/cgroup and, unless cgroup v2 alone is mounted, at /proc/self/mountinfo.
    ///
    /// # Errors
    /// A file of /proc that cannot be read. Hierarchies that are not mounted are no error here.
    pub fn observe() -> Result<Layout> {
        let own = read("/proc/self/cgroup")?;
        if cgroupfs::statfs_type(Path::new(ROOT)).is_ok_and(|kind| kind == CGROUP2_SUPER_MAGIC) {
            return Ok(Layout::unified(&own));
        }
        Ok(Layout::from_mounts(&own, &read("/proc/self/mountinfo")?))
    }

    /// The hierarchy of v1 that has this controller.
    pub fn legacy(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
    }

    /// The hierarchy of v2.
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_v2())
    }

    fn unified(own: &str) -> Layout {
        let own = memberships(own).find(|(controllers, _)| controllers.is_empty()).map_or("/", |(_, path)| path);
        let hierarchy = Hierarchy {
            mount_point: PathBuf::from(ROOT),
            root: "/".to_owned(),
            controllers: Vec::new(),
            own: own.to_owned(),
        };
        Layout { mode: Mode::Unified, hierarchies: vec![hierarchy] }
    }

    pub(crate) fn from_mounts(own: &str, table: &str) -> Layout {
        let near: Vec<Mount<'_>> = mountinfo::mounts(table.as_bytes()).filter(is_near).collect();
        let is_hierarchy = |mount: &&Mount<'_>| mount.fstype.starts_with(b"cgroup") && !is_covered(mount, &near);
        let mounts: Vec<&Mount<'_>> = near.iter().filter(is_hierarchy).collect();
        let mut hierarchies = Vec::new();
        let mut v2 = None;
        for (controllers, path) in memberships(own) {
            let is_v2 = controllers.is_empty();
            let first = controllers.split(',').next().unwrap_or_default();
            let is_ours = |mount: &Mount<'_>| if is_v2 { mount.fstype == b"cgroup2" } else { has(mount, first) };
            let ours = || mounts.iter().filter(|mount| is_ours(mount));
            // The same hierarchy may be mounted in many containers' root filesystems too. For v2, which every process
            // is in, that does not make it one of this host's: the usual place does, as for systemd, runc and crun.
            let usual = ours().find(|mount| mount.point.escaped().starts_with(ROOT));
            let Some(mount) = usual.or_else(|| ours().next().filter(|_| !is_v2)) else { continue };
            let hierarchy = Hierarchy {
                mount_point: mount.point.path(),
                root: mount.root.path().to_string_lossy().into_owned(),
                controllers: controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                own: path.to_owned(),
            };
            if is_v2 { v2 = Some(hierarchy) } else { hierarchies.push(hierarchy) }
        }
        let mode = match (hierarchies.is_empty(), v2.is_some()) {
            (true, true) => Mode::Unified,
            (true, false) => Mode::Absent,
            (false, true) => Mode::Hybrid,
            (false, false) => Mode::Legacy,
        };
        hierarchies.extend(v2);
        Layout { mode, hierarchies }
    }
}

/// Where in the v2 tree a process is, as a path of the host; `None` where that cannot be seen.
///
/// # Errors
/// A file of /proc that cannot be read.
pub fn v2_directory_of(pid: nix::unistd::Pid) -> Result<Option<PathBuf>> {
    let text = read(&format!("/proc/{pid}/cgroup"))?;
    let layout = Layout::observe()?;
    let Some(v2) = layout.v2() else { return Ok(None) };
    Ok(memberships(&text).find(|(controllers, _)| controllers.is_empty()).and_then(|(_, path)| {
        let below = Path::new(path).strip_prefix(&v2.root).ok()?;
        Some(v2.mount_point.join(below))
    }))
}

/// Whether it is the hierarchy of v1 with this controller.
fn has(mount: &Mount<'_>, controller: &str) -> bool {
    mount.fstype == b"cgroup" && mount.options.split(|byte| *byte == b',').any(|option| option == controller.as_bytes())
}

/// Whether it is a hierarchy, or may stand above one or over one in the usual place.
fn is_near(mount: &Mount<'_>) -> bool {
    let (root, own) = (Path::new(ROOT), mount.point.escaped());
    mount.fstype.starts_with(b"cgroup") || root.starts_with(own) || own.starts_with(root)
}

/// Whether another mount lies over it, or over a directory on the way to it: the path then leads elsewhere.
fn is_covered(mount: &Mount<'_>, near: &[Mount<'_>]) -> bool {
    // A mount on the very root of this one; or beside a mount on the way, at the same place or above it.
    if near.iter().any(|other| other.parent == mount.id && other.point == mount.point) {
        return true;
    }
    let mut step = mount;
    for _ in 0..near.len() {
        let over = |other: &&Mount<'_>| {
            other.parent == step.parent
                && other.id != step.id
                && other.point != step.point
                && step.point.escaped().starts_with(other.point.escaped())
        };
        if near.iter().any(|other| over(&other)) {
            return true;
        }
        match near.iter().find(|above| above.id == step.parent && above.id != step.id) {
            Some(above) => step = above,
            None => return false,
        }
    }
    false
}

/// The lines of /proc/self/cgroup: controllers (empty for v2) and path (cgroups(7)).
fn memberships(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    })
}

fn read(path: &str) -> Result<String> {
    let file = cgroupfs::openat_read(rustix::fs::CWD, path).doing("look at the host's cgroups")?;
    let text = cgroupfs::read(std::os::fd::AsFd::as_fd(&file), LONGEST).doing("look at the host's cgroups")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /var/lib/x/sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 /docker/x /sys/fs/cgroup/sys\\040temd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn hybrid() {
        let own = "9:name=systemd:/a\n1:cpu,cpuacct:/b:c\n7:pids:/not/mounted\n0::/user\n";
        let layout = Layout::from_mounts(own, HYBRID);
        assert_eq!(layout.mode, Mode::Hybrid);
        assert_eq!(layout.hierarchies.len(), 3);
        let cpu = layout.legacy("cpuacct").unwrap();
        assert_eq!(cpu.mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(cpu.own, "/b:c");
        let systemd = layout.legacy("name=systemd").unwrap();
        assert_eq!(
            (systemd.root.as_str(), systemd.mount_point.to_str().unwrap()),
            ("/docker/x", "/sys/fs/cgroup/sys temd")
        );
        assert_eq!(layout.v2().unwrap().own, "/user");
        assert!(layout.legacy("pids").is_none());
    }

    /// A second layout over the first: what lies below can be read of, but no longer be reached.
    #[test]
    fn covered_mounts_do_not_count() {
        let over = "78 31 0:58 / /sys/fs/cgroup rw,relatime - tmpfs cgroup rw,mode=755
60 78 0:29 / /sys/fs/cgroup/cpuset rw,relatime - cgroup none rw,cpu,cpuacct";
        let own = "9:name=systemd:/a\n1:cpu,cpuacct:/b:c\n0::/user\n";
        let layout = Layout::from_mounts(own, &format!("{HYBRID}\n{over}"));
        assert_eq!(layout.mode, Mode::Legacy);
        assert_eq!(layout.hierarchies.len(), 1);
        assert_eq!(layout.hierarchies[0].mount_point, Path::new("/sys/fs/cgroup/cpuset"));
        // As systemd mounts: tmpfs on sysfs on the root, each the child of the one before.
        let whole = "1 0 8:1 / / rw - ext4 /dev/sda rw\n23 1 0:20 / /sys rw - sysfs sysfs rw";
        assert_eq!(Layout::from_mounts(own, &format!("{whole}\n{HYBRID}")).hierarchies.len(), 3);
        let on_top = "79 41 0:38 / /sys/fs/cgroup/unified rw - cgroup2 again rw";
        let layout = Layout::from_mounts(own, &format!("{whole}\n{HYBRID}\n{on_top}"));
        assert_eq!(layout.mode, Mode::Hybrid, "the upper one of two in the same place");
    }

    #[test]
    fn other_modes() {
        assert_eq!(Layout::unified("3:misc:/x\n0::/own\n").hierarchies[0].own, "/own");
        assert_eq!(Layout::from_mounts("1:cpu:/\n0::/\n", HYBRID.lines().nth(1).unwrap()).mode, Mode::Legacy);
        assert_eq!(Layout::from_mounts("1:cpu:/\n0::/\n", "").mode, Mode::Absent);
        assert_eq!(Layout::from_mounts("0::/\n", HYBRID).mode, Mode::Unified);
    }

    /// A pure v1 host on which a container (or Cilium, at /run/cilium/cgroupv2) has mounted v2 for itself.
    #[test]
    fn v2_counts_in_its_usual_place_alone() {
        let elsewhere = "50 31 0:38 / /run/b/rootfs/sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
        let own = "1:cpu,cpuacct:/b\n0::/user\n";
        let v1 = HYBRID.lines().filter(|line| !line.contains("cgroup2")).collect::<Vec<_>>().join("\n");
        let layout = Layout::from_mounts(own, &format!("{v1}\n{elsewhere}"));
        assert_eq!((layout.mode, layout.hierarchies.len()), (Mode::Legacy, 1));
        assert_eq!(Layout::from_mounts(own, &format!("{HYBRID}\n{elsewhere}")).mode, Mode::Hybrid);
    }

    #[test]
    fn this_host() {
        assert!(!Layout::observe().unwrap().hierarchies.is_empty());
    }
}
