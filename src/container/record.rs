//! What later commands must know of a container, as it stands in `state.json`.
//!
//! The keys are those of runc's file where runc has them (`id`, `init_process_pid`, `init_process_start`, `created`,
//! `rootless`, `cgroup_paths`, `namespace_paths`): other programs read them. How the container was asked for is not here
//! but in the copy of `config.json` beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::timestamp;
use crate::cgroup::Saved;
use crate::plan::Plan;
use crate::rdt;

/// The version of this layout; a record of a later one is refused, not guessed at.
pub const LAYOUT: u32 = 1;

/// Facts of one container's life. Unknown keys are ignored, so that a later orlop may add some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The container's id, the name of its directory.
    pub id: String,
    /// Init's process id on the host; 0 before it exists.
    pub init_process_pid: i32,
    /// When init was started, in clock ticks since boot (proc_pid_stat(5), field 22): with the id it names one process.
    pub init_process_start: u64,
    /// When the container was created: RFC 3339, UTC, nanoseconds.
    pub created: String,
    /// Whether errors of cgroups are tolerated, as `--rootless` decided.
    pub rootless: bool,
    /// The container's cgroup by controller (v1), or under the empty name (v2), as runc writes it.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// All of init's namespaces, also those that are the host's, by runc's names: `NEWPID` is `/proc/PID/ns/pid`.
    pub namespace_paths: BTreeMap<String, PathBuf>,
    /// [`LAYOUT`].
    pub layout: u32,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root filesystem, absolute.
    pub rootfs: PathBuf,
    /// How far creation has come.
    pub phase: Phase,
    /// Where the cgroup is and who made it; `None` where the container has none.
    #[serde(default)]
    pub cgroup: Option<Saved>,
    /// Its class of Intel RDT; `None` where the config asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<rdt::Saved>,
    /// Whether init has a pid namespace of its own: when init ends, everything in it ends.
    pub private_pid_namespace: bool,
    /// Whether there are `poststart` hooks. (Records did not say so once: then the config does.)
    #[serde(default = "unknown")]
    pub poststart: bool,
    /// Whether hooks have begun and there are `poststop` hooks, so that these must run at the end (runtime.md#lifecycle).
    pub poststop_armed: bool,
    /// Whether its mounts are made in the runtime's own mount namespace, below [`Record::rootfs`], where they have to
    /// be unmounted at the end.
    #[serde(default)]
    pub mounts_on_host: bool,
    /// User id of who created it.
    pub owner: u32,
}

fn unknown() -> bool {
    true
}

impl Record {
    /// What is known of a container of which nothing is made yet. `rootless`: whether errors of cgroups are tolerated;
    /// `owner`: who makes it.
    pub(super) fn of(plan: &Plan, rootless: bool, owner: u32) -> Record {
        Record {
            id: plan.id.clone(),
            init_process_pid: 0,
            init_process_start: 0,
            created: timestamp::now(),
            rootless,
            cgroup_paths: BTreeMap::new(),
            namespace_paths: BTreeMap::new(),
            layout: LAYOUT,
            bundle: plan.bundle.clone(),
            rootfs: plan.rootfs.path.clone(),
            phase: Phase::Creating,
            cgroup: None,
            intel_rdt: None,
            private_pid_namespace: plan.namespaces.new_pid,
            poststart: !plan.hooks.poststart.is_empty(),
            poststop_armed: false,
            mounts_on_host: plan.mounts_on_host(),
            owner,
        }
    }

    /// Notes where the cgroup is, also under runc's key.
    pub fn set_cgroup(&mut self, saved: Saved) {
        self.cgroup_paths = saved.paths.clone();
        self.cgroup = Some(saved);
    }

    /// Notes which process init is, also under runc's key for its namespaces.
    pub fn set_init(&mut self, pid: i32, start: u64) {
        self.init_process_pid = pid;
        self.init_process_start = start;
        self.namespace_paths = NAMESPACES
            .into_iter()
            .map(|(key, file)| (key.to_owned(), PathBuf::from(format!("/proc/{pid}/ns/{file}"))))
            .collect();
    }
}

/// runc's name of each kind of namespace, and its file in /proc/PID/ns.
const NAMESPACES: [(&str, &str); 8] = [
    ("NEWCGROUP", "cgroup"),
    ("NEWIPC", "ipc"),
    ("NEWNET", "net"),
    ("NEWNS", "mnt"),
    ("NEWPID", "pid"),
    ("NEWTIME", "time"),
    ("NEWUSER", "user"),
    ("NEWUTS", "uts"),
];

/// How far creation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// `create` is at work, or was killed at it.
    Creating,
    /// Init waits for `start`, or has been started.
    Created,
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    pub(crate) fn example() -> Record {
        Record {
            id: "web".into(),
            init_process_pid: 4711,
            init_process_start: 123_456,
            created: "2026-11-21T23:40:00.5Z".into(),
            rootless: false,
            cgroup_paths: BTreeMap::new(),
            namespace_paths: BTreeMap::new(),
            layout: LAYOUT,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            phase: Phase::Created,
            cgroup: None,
            intel_rdt: None,
            private_pid_namespace: true,
            poststart: false,
            poststop_armed: true,
            mounts_on_host: false,
            owner: 0,
        }
    }

    #[test]
    fn comes_back_as_written() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), example());
    }

    #[test]
    fn has_the_keys_that_others_read_in_runcs() {
        let mut record = example();
        record.set_cgroup(Saved {
            paths: BTreeMap::from([("memory".into(), "/sys/fs/cgroup/memory/web".into())]),
            ..Saved::default()
        });
        record.set_init(4711, 123_456);
        let value = serde_json::to_value(record).unwrap();
        assert_eq!(value["init_process_pid"], 4711);
        assert_eq!(value["init_process_start"], 123_456);
        assert_eq!(value["cgroup_paths"]["memory"], "/sys/fs/cgroup/memory/web");
        assert_eq!(value["namespace_paths"]["NEWPID"], "/proc/4711/ns/pid");
        assert_eq!(value["phase"], "created");
    }
}
