//! The host's cgroup hierarchies, as they are now.

use std::path::PathBuf;

/// One mounted hierarchy.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub at: PathBuf,
    /// Controllers of a v1 hierarchy (`cpu`, `name=systemd`); empty for v2.
    pub controllers: Vec<String>,
}

/// Every hierarchy mounted in this mount namespace.
pub fn hierarchies() -> Vec<Hierarchy> {
    let mountinfo = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next().unwrap_or_default();
        let flags = filesystem.nth(1).unwrap_or_default();
        let at = PathBuf::from(mount.split(' ').nth(4).unwrap_or_default());
        if !at.starts_with("/sys/fs/cgroup") {
            // A container's, whose test runs at the same time.
            continue;
        }
        let controllers = match kind {
            "cgroup" => flags
                .split(',')
                .filter(|word| !matches!(*word, "rw" | "ro" | "none" | "xattr"))
                .map(str::to_owned)
                .collect(),
            "cgroup2" => Vec::new(),
            _ => continue,
        };
        // A hierarchy may be mounted twice; the first place is the usual one.
        if !found.iter().any(|other: &Hierarchy| other.controllers == controllers) {
            found.push(Hierarchy { at, controllers });
        }
    }
    found
}

/// Where a v1 controller is mounted on this host.
pub fn v1(controller: &str) -> Option<PathBuf> {
    hierarchies().into_iter().find(|h| h.controllers.iter().any(|c| c == controller)).map(|h| h.at)
}

/// Where the v2 tree is mounted on this host.
pub fn v2() -> Option<PathBuf> {
    hierarchies().into_iter().find(|h| h.controllers.is_empty()).map(|h| h.at)
}

/// Where the v2 tree is mounted, if it holds this controller.
pub fn v2_with(controller: &str) -> Option<PathBuf> {
    let at = v2()?;
    let controllers = std::fs::read_to_string(at.join("cgroup.controllers")).ok()?;
    controllers.split_whitespace().any(|name| name == controller).then_some(at)
}

/// Every directory of that name at the top of a hierarchy.
pub fn named(name: &str) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|h| h.at.join(name)).filter(|path| path.is_dir()).collect()
}

/// Removes a cgroup and what is below it; the processes in it must be gone.
pub fn remove(cgroup: &std::path::Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(cgroup);
}
