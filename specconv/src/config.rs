//! What the container will be: `config.json` with every default resolved and every request checked.
//!
//! `Option<T>` here means *the container has no such thing*; it never means *the user did not say*.
//! Arrays keep the order and the items of `config.json`, so that a later failure can name the index
//! (`mounts[3]`). Nothing in this tree is serialised: later commands convert the saved `config.json` again.

use std::collections::BTreeMap;
use std::path::PathBuf;

mod mount;
mod process;
mod resources;
mod seccomp;

pub use mount::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;

/// A container, as `config.json` asks for it (config.md).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The root filesystem (config.md#root).
    pub root: Root,
    /// The program to run. `None` is legal for `create` in the specification's words, but nothing can be started.
    pub process: Option<Process>,
    /// Hostname in the container's UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name in the container's UTS namespace.
    pub domainname: Option<String>,
    /// Mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Programs of the host and the container to run at points of the lifecycle.
    pub hooks: Hooks,
    /// Free-form annotations.
    pub annotations: BTreeMap<String, String>,
    /// Which namespaces are new and which are joined; a kind that is not named is shared with the runtime.
    pub namespaces: Namespaces,
    /// User ids of a new user namespace.
    pub uid_mappings: Vec<IdMap>,
    /// Group ids of a new user namespace.
    pub gid_mappings: Vec<IdMap>,
    /// Offsets of a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
    /// Device nodes besides the default ones.
    pub devices: Vec<Device>,
    /// Network devices to move into the container's network namespace.
    pub net_devices: Vec<NetDevice>,
    /// Where the cgroup goes; how to read it depends on the driver.
    pub cgroups_path: Option<String>,
    /// Limits.
    pub resources: Resources,
    /// Intel RDT (config-linux.md#intelrdt).
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy (config-linux.md#memory-policy).
    pub memory_policy: Option<MemoryPolicy>,
    /// The system call filter.
    pub seccomp: Option<Seccomp>,
    /// Kernel parameters, in canonical form.
    pub sysctl: Vec<Sysctl>,
    /// Propagation of the container's root mount; `None` leaves it as pivot_root makes it (private slave).
    pub rootfs_propagation: Option<Propagation>,
    /// Paths that the container must not read.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that the container must not write.
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label of the mounts.
    pub mount_label: Option<MountLabel>,
    /// Execution domain (personality(2)).
    pub personality: Option<Personality>,
}

/// What SELinux is told of a new filesystem (config-linux.md#mount-label).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLabel {
    /// The option of mount(8) that takes it: `context`, or what crun's annotation `run.oci.mount_context_type` says:
    /// `fscontext`, `defcontext`, `rootcontext`.
    pub option: &'static str,
    /// The label, `system_u:object_r:container_file_t:s0:c1,c2`.
    pub label: String,
}

/// The root filesystem (config.md#root).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// As written: absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Whether the container sees it read-only.
    pub readonly: bool,
}

/// Hooks by kind, each in order (config.md#posix-platform-hooks).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Deprecated; runs with, and before, `create_runtime`.
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, before pivot_root.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before pivot_root.
    pub create_container: Vec<Hook>,
    /// In the container, at `start`.
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program was started.
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments, the first one being the program's name; empty: the path alone.
    pub args: Vec<String>,
    /// Environment; `None` where the config has no `env` (a `startContainer` hook then gets the process's).
    pub env: Option<Vec<String>>,
    /// Seconds after which it is killed.
    pub timeout: Option<u32>,
}

/// The eight kinds of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceKind {
    /// CLONE_NEWPID.
    Pid,
    /// CLONE_NEWNET.
    Network,
    /// CLONE_NEWNS.
    Mount,
    /// CLONE_NEWIPC.
    Ipc,
    /// CLONE_NEWUTS.
    Uts,
    /// CLONE_NEWUSER.
    User,
    /// CLONE_NEWCGROUP.
    Cgroup,
    /// CLONE_NEWTIME.
    Time,
}

/// One entry of `linux.namespaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Position in `linux.namespaces`.
    pub index: usize,
    /// Kind; unique in the list.
    pub kind: NamespaceKind,
    /// A namespace to join; `None` makes a new one.
    pub path: Option<PathBuf>,
}

/// The namespaces the container has of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces(pub Vec<Namespace>);

impl Namespaces {
    /// The entry of this kind.
    pub fn get(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.0.iter().find(|namespace| namespace.kind == kind)
    }

    /// Whether a new namespace of this kind is made.
    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        self.get(kind).is_some_and(|namespace| namespace.path.is_none())
    }

    /// Whether the container has a namespace of this kind of its own, new or joined.
    pub fn has(&self, kind: NamespaceKind) -> bool {
        self.get(kind).is_some()
    }
}

/// One line of uid_map or gid_map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many ids; above zero, neither end overflows.
    pub size: u32,
}

/// One line of timens_offsets (time_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: &'static str,
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, up to 999 999 999.
    pub nanosecs: u32,
}

/// One device node (config-linux.md#devices).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Position in `linux.devices`.
    pub index: usize,
    /// Absolute path in the container.
    pub path: PathBuf,
    /// Kind of node.
    pub kind: DeviceKind,
    /// Major number (0 for a FIFO).
    pub major: u32,
    /// Minor number (0 for a FIFO).
    pub minor: u32,
    /// Permission bits alone (0666 where the config has none).
    pub mode: u32,
    /// Owner as the container sees it.
    pub uid: u32,
    /// Group as the container sees it.
    pub gid: u32,
}

/// Kinds of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c` and `u`.
    Char,
    /// `b`.
    Block,
    /// `p`.
    Fifo,
}

/// One network device to move (config-linux.md#network-devices).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Name on the host.
    pub host: String,
    /// Name in the container (the same where the config has none); `eth%d` asks for a number that is free.
    pub name: String,
}

/// Intel Resource Director Technology (config-linux.md#intelrdt).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IntelRdt {
    /// Class of service; `None` is one of the container's own.
    pub clos_id: Option<String>,
    /// Lines of `l3CacheSchema` and `memBwSchema`, in order: what an existing class must have already.
    pub fixed: Vec<String>,
    /// Lines of `schemata`, written after those.
    pub schemata: Vec<String>,
    /// Whether a monitoring group is made.
    pub enable_monitoring: bool,
}

/// NUMA memory policy (set_mempolicy(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// MPOL_* number.
    pub mode: u32,
    /// MPOL_F_* bits.
    pub flags: u32,
    /// Nodes.
    pub nodes: Vec<u32>,
}

/// Execution domain (personality(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personality {
    /// PER_LINUX.
    Linux,
    /// PER_LINUX32.
    Linux32,
}

/// One kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// As written in the config, for messages.
    pub key: String,
    /// Canonical form: the path below /proc/sys, its components checked one by one.
    pub path: String,
    /// What is written.
    pub value: String,
    /// The namespace that keeps it from being the host's.
    pub namespace: NamespaceKind,
}
