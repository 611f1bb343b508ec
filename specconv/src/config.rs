//! What the container will be: `config.json` with every default resolved and every request checked.
//!
//! `Option<T>` here means *the container has no such thing*; it never means *the user did not say*.
//! Arrays keep the order and the items of `config.json`, so that a later failure can name the index
//! (`mounts[3]`). Nothing in this tree is serialised: later commands convert the saved `config.json` again.

use std::collections::BTreeMap;
use std::path::PathBuf;

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

/// One program (config.md#process); also what `exec --process` reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Whether it gets a pseudo-terminal.
    pub terminal: Option<Terminal>,
    /// Who it runs as.
    pub user: User,
    /// The program and its arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value` entries, without duplicates (the last one wins).
    pub env: Vec<String>,
    /// Absolute working directory.
    pub cwd: PathBuf,
    /// The five sets. Without a `capabilities` object all are empty (the specification's safe reading; runc leaves what
    /// the runtime itself has).
    pub capabilities: Capabilities,
    /// Resource limits; types are unique.
    pub rlimits: Vec<Rlimit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// AppArmor profile for the next execve.
    pub apparmor_profile: Option<String>,
    /// SELinux label for the next execve.
    pub selinux_label: Option<String>,
    /// oom_score_adj, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy (sched_setattr(2)).
    pub scheduler: Option<Scheduler>,
    /// I/O priority (ioprio_set(2)).
    pub io_priority: Option<IoPriority>,
    /// CPU affinity of processes that `exec` starts.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// A terminal, with its size where `consoleSize` gave one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Rows and columns; `None` keeps the kernel's.
    pub size: Option<TerminalSize>,
}

/// Size of a terminal in characters, both above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Ids as the container sees them (config.md#posix-platform-user).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask; `None`: 0022 for init, inherited for exec.
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// Capability sets as bit masks: bit N is capability number N (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Limit of what execve can grant.
    pub bounding: u64,
    /// What the process may use now.
    pub effective: u64,
    /// What execve of a file with inheritable bits keeps.
    pub inheritable: u64,
    /// Limit of effective.
    pub permitted: u64,
    /// What execve of an ordinary file keeps.
    pub ambient: u64,
}

/// One resource limit (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u32,
    /// Position in `process.rlimits`.
    pub index: usize,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Scheduling policy and its parameters, already checked against each other (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduler {
    /// SCHED_* number.
    pub policy: u32,
    /// For OTHER and BATCH: -20 to 19.
    pub nice: i32,
    /// For FIFO and RR: 1 to 99.
    pub priority: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// For DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For DEADLINE, nanoseconds.
    pub period: u64,
}

/// I/O priority (ioprio_set(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPriority {
    /// IOPRIO_CLASS_* number: 1 real time, 2 best effort, 3 idle.
    pub class: u16,
    /// 0 (highest) to 7.
    pub priority: u16,
}

/// CPU lists (cpuset(7) list format, parsed) for processes that `exec` starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecCpuAffinity {
    /// Before the process joins the container's cgroup.
    pub initial: Option<Vec<u32>>,
    /// After it.
    pub last: Option<Vec<u32>>,
}

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

/// Limits (config-linux.md#control-groups). `None` and an empty list: nothing was asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resources {
    /// Device rules, in order; the default rules are not among them.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// Processor time and placement.
    pub cpu: Cpu,
    /// Number of tasks.
    pub pids: Option<Limit>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Class and priorities of packets (cgroup v1).
    pub network: NetworkResources,
    /// RDMA devices.
    pub rdma: Vec<RdmaLimit>,
    /// Files of cgroup v2, verbatim, in the config's order.
    pub unified: Vec<(String, String)>,
}

/// A limit, or the wish to have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `-1` in the config.
    Unlimited,
    /// This much.
    Max(u64),
}

/// One device rule (config-linux.md#allowed-device-list).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Position in `linux.resources.devices`.
    pub index: usize,
    /// Allow or deny.
    pub allow: bool,
    /// `None` is all kinds (`a`).
    pub kind: Option<DeviceKind>,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// What the rule is about.
    pub access: DeviceAccess,
}

/// Kinds of access to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceAccess {
    /// `r`.
    pub read: bool,
    /// `w`.
    pub write: bool,
    /// `m`.
    pub mknod: bool,
}

/// Memory limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// `limit`, bytes.
    pub limit: Option<Limit>,
    /// What may be swapped *beyond* memory. OCI counts memory and swap together; the subtraction is done here, once.
    pub swap: Option<Swap>,
    /// `reservation`, bytes.
    pub reservation: Option<Limit>,
    /// `kernel`, bytes: obsolete, accepted with a warning and ignored, as runc does.
    pub kernel: Option<Limit>,
    /// `kernelTCP`, bytes.
    pub kernel_tcp: Option<Limit>,
    /// `swappiness`, 0 to 100.
    pub swappiness: Option<u64>,
    /// `disableOOMKiller`.
    pub disable_oom_killer: Option<bool>,
    /// `checkBeforeUpdate`.
    pub check_before_update: bool,
}

/// How much swap the container may use beyond its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// No limit.
    Unlimited,
    /// Bytes of swap alone (cgroup v2 and systemd); v1 adds the memory limit again.
    Bytes(u64),
}

/// Processor limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cpu {
    /// Relative weight in v1's scale, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds a period.
    pub quota: Option<Limit>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds of real time a period (cgroup v1).
    pub realtime_runtime: Option<i64>,
    /// Microseconds (cgroup v1).
    pub realtime_period: Option<u64>,
    /// CPU list, as in cpuset(7), checked.
    pub cpus: Option<String>,
    /// Memory node list, checked.
    pub mems: Option<String>,
    /// SCHED_IDLE for the whole group: 0 or 1.
    pub idle: Option<i64>,
}

/// Block I/O limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000 (cgroup v1).
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read a second.
    pub throttle_read_bps: Vec<ThrottleDevice>,
    /// Bytes written a second.
    pub throttle_write_bps: Vec<ThrottleDevice>,
    /// Reads a second.
    pub throttle_read_iops: Vec<ThrottleDevice>,
    /// Writes a second.
    pub throttle_write_iops: Vec<ThrottleDevice>,
}

/// Weight of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000 (cgroup v1).
    pub leaf_weight: Option<u16>,
}

/// Rate of one device; 0 lifts the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Units a second.
    pub rate: u64,
}

/// Limit of one size of huge page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugepageLimit {
    /// `64KB`, `2MB`, `1GB`: as the kernel names the file, checked.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Network class and priorities (cgroup v1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkResources {
    /// Class of the packets.
    pub class_id: Option<u32>,
    /// Priority by interface.
    pub priorities: Vec<(String, u32)>,
}

/// Limit of one RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdmaLimit {
    /// Device.
    pub device: String,
    /// Handles.
    pub hca_handles: Option<u32>,
    /// Objects.
    pub hca_objects: Option<u32>,
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

/// The system call filter (config-linux.md#seccomp), with names as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seccomp {
    /// What happens to a call without a rule.
    pub default_action: SeccompAction,
    /// `SCMP_ARCH_*`, as written.
    pub architectures: Vec<String>,
    /// `None`: absent (SPEC_ALLOW is then added where the kernel has it); empty: no flags.
    pub flags: Option<Vec<String>>,
    /// Rules in order.
    pub syscalls: Vec<SeccompRule>,
    /// Socket of the agent that gets the notifications.
    pub listener_path: Option<PathBuf>,
    /// Text for the agent.
    pub listener_metadata: Option<String>,
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompAction {
    /// SECCOMP_RET_KILL_THREAD.
    KillThread,
    /// SECCOMP_RET_KILL_PROCESS.
    KillProcess,
    /// SECCOMP_RET_TRAP.
    Trap,
    /// SECCOMP_RET_ERRNO with this errno.
    Errno(u16),
    /// SECCOMP_RET_TRACE with this message.
    Trace(u16),
    /// SECCOMP_RET_ALLOW.
    Allow,
    /// SECCOMP_RET_LOG.
    Log,
    /// SECCOMP_RET_USER_NOTIF.
    Notify,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompRule {
    /// Names of system calls.
    pub names: Vec<String>,
    /// What happens.
    pub action: SeccompAction,
    /// Conditions.
    pub args: Vec<SeccompArg>,
}

/// One condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u32,
    /// Value, or the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// Datum of `SCMP_CMP_MASKED_EQ`.
    pub value_two: u64,
    /// Comparison.
    pub op: SeccompOperator,
}

/// Comparisons of seccomp arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompOperator {
    /// `SCMP_CMP_NE`.
    NotEqual,
    /// `SCMP_CMP_LT`.
    Less,
    /// `SCMP_CMP_LE`.
    LessOrEqual,
    /// `SCMP_CMP_EQ`.
    Equal,
    /// `SCMP_CMP_GE`.
    GreaterOrEqual,
    /// `SCMP_CMP_GT`.
    Greater,
    /// `SCMP_CMP_MASKED_EQ`.
    MaskedEqual,
}
