//! What the container may use (config-linux.md#control-groups).

use super::DeviceKind;

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
