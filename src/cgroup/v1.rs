//! What to write for cgroup v1, as data (the kernel's admin-guide/cgroup-v1).

use specconv::{BlockIo, Cpu, HugepageLimit, Limit, Memory, NetworkResources, RdmaLimit, Swap, ThrottleDevice};

use super::write::{Absent, Controller, Rows, Write, above_zero, set};
use crate::error::{Error, Result};

/// `-1` is how v1 spells no limit.
fn number(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "-1".to_owned(),
        Limit::Max(most) => most.to_string(),
    }
}

/// Memory and swap.
///
/// The kernel wants `limit_in_bytes <= memsw.limit_in_bytes` at every moment, so which of the two goes first
/// depends on what stands there: the limit is tried first, and once more after the other.
///
/// # Errors
/// A limit of swap alone: v1 counts memory and swap together.
pub fn memory(memory: &Memory, rows: &mut Rows) -> Result<()> {
    const MEMORY: Controller = Controller::V1("memory");
    const SWAP: &str = "linux.resources.memory.swap";
    let limit = set(memory.limit);
    if let Some(limit) = limit {
        let field = "linux.resources.memory.limit";
        rows.push(Write::new(MEMORY, "memory.limit_in_bytes", number(limit), field).again_last());
    }
    let both = match (memory.swap, limit) {
        // Unlimited memory beside an old limit of memory and swap would be refused; runc lifts both.
        (Some(Swap::Unlimited), _) | (None, Some(Limit::Unlimited)) => Some(Limit::Unlimited),
        (Some(Swap::Bytes(swap)), Some(Limit::Max(memory))) => Some(Limit::Max(memory.saturating_add(swap))),
        (Some(Swap::Bytes(_)), _) => {
            return Err(Error::unsupported(SWAP, "cgroup v1 cannot limit swap where memory has no limit"));
        }
        (None, _) => None,
    };
    if let Some(both) = both {
        let absent = Absent::already_so_if(both == Limit::Unlimited);
        rows.push(Write::new(MEMORY, "memory.memsw.limit_in_bytes", number(both), SWAP).absent(absent));
    }
    if let Some(soft) = set(memory.reservation) {
        let field = "linux.resources.memory.reservation";
        rows.push(Write::new(MEMORY, "memory.soft_limit_in_bytes", number(soft), field));
    }
    if memory.disable_oom_killer == Some(true) {
        rows.push(Write::new(MEMORY, "memory.oom_control", "1", "linux.resources.memory.disableOOMKiller"));
    }
    if let Some(swappiness) = memory.swappiness {
        let field = "linux.resources.memory.swappiness";
        rows.push(Write::new(MEMORY, "memory.swappiness", swappiness.to_string(), field));
    }
    if set(memory.kernel).is_some() {
        // Linux 5.16 took it away; runc never sets it either.
        rows.warn("linux.resources.memory.kernel", "ignored: limits of kernel memory are obsolete");
    }
    if let Some(limit) = set(memory.kernel_tcp) {
        let field = "linux.resources.memory.kernelTCP";
        let row = Write::new(MEMORY, "memory.kmem.tcp.limit_in_bytes", number(limit), field);
        rows.push(row.absent(Absent::already_so_if(limit == Limit::Unlimited)));
    }
    Ok(())
}

/// What an update writes where it takes `disableOOMKiller` back: a new cgroup has its killer, and engines send `false`
/// with every config.
pub fn oom_killer_again(memory: &Memory, rows: &mut Rows) {
    if memory.disable_oom_killer == Some(false) {
        let field = "linux.resources.memory.disableOOMKiller";
        rows.push(Write::new(Controller::V1("memory"), "memory.oom_control", "0", field));
    }
}

/// Processor time.
///
/// Period and burst are tried before the quota, since a smaller quota may only fit once they are smaller, and
/// once more after it, since they may only fit once it is larger.
pub fn cpu(cpu: &Cpu, rows: &mut Rows) {
    const CPU: Controller = Controller::V1("cpu");
    // A process of real time may only enter a group that already has time of that kind.
    if let Some(period) = above_zero(cpu.realtime_period) {
        let field = "linux.resources.cpu.realtimePeriod";
        rows.push(Write::new(CPU, "cpu.rt_period_us", period.to_string(), field).before_entry().again_last());
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        let field = "linux.resources.cpu.realtimeRuntime";
        rows.push(Write::new(CPU, "cpu.rt_runtime_us", runtime.to_string(), field).before_entry());
    }
    if let Some(idle) = cpu.idle {
        let row = Write::new(CPU, "cpu.idle", idle.to_string(), "linux.resources.cpu.idle");
        rows.push(row.absent(Absent::already_so_if(idle == 0)));
    }
    if let Some(shares) = above_zero(cpu.shares) {
        let field = "linux.resources.cpu.shares";
        if cpu.idle == Some(1) {
            // The kernel refuses it with EINVAL.
            rows.warn(field, "ignored: an idle group has no weight");
        } else {
            rows.push(Write::new(CPU, "cpu.shares", shares.to_string(), field));
        }
    }
    if let Some(period) = above_zero(cpu.period) {
        let field = "linux.resources.cpu.period";
        rows.push(Write::new(CPU, "cpu.cfs_period_us", period.to_string(), field).again_last());
    }
    if let Some(burst) = cpu.burst {
        let row = Write::new(CPU, "cpu.cfs_burst_us", burst.to_string(), "linux.resources.cpu.burst");
        rows.push(row.absent(Absent::already_so_if(burst == 0)).again_last());
    }
    if let Some(quota) = set(cpu.quota) {
        rows.push(Write::new(CPU, "cpu.cfs_quota_us", number(quota), "linux.resources.cpu.quota"));
    }
}

/// Which processors and memory nodes: an empty set admits no process, so this comes first.
pub fn cpuset(cpu: &Cpu, rows: &mut Rows) {
    const CPUSET: Controller = Controller::V1("cpuset");
    if let Some(cpus) = cpu.cpus.as_deref().filter(|list| !list.is_empty()) {
        rows.push(Write::new(CPUSET, "cpuset.cpus", cpus, "linux.resources.cpu.cpus").before_entry());
    }
    if let Some(mems) = cpu.mems.as_deref().filter(|list| !list.is_empty()) {
        rows.push(Write::new(CPUSET, "cpuset.mems", mems, "linux.resources.cpu.mems").before_entry());
    }
}

/// Number of tasks. 0 is written as 1, as runc does: systemd cannot say 0, and for a group that holds a
/// process the two are the same.
pub fn pids_max(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "max".to_owned(),
        Limit::Max(most) => most.max(1).to_string(),
    }
}

/// Number of tasks.
pub fn pids(limit: Option<Limit>, rows: &mut Rows) {
    if let Some(limit) = limit {
        rows.push(Write::new(Controller::V1("pids"), "pids.max", pids_max(limit), "linux.resources.pids.limit"));
    }
}

/// Block devices. Weights go to the kernel's own scheduler where it has them, else to BFQ.
pub fn block_io(io: &BlockIo, rows: &mut Rows) {
    const BLKIO: Controller = Controller::V1("blkio");
    let either = |file, bfq, value: String, field: String| {
        Write::new(BLKIO, file, value.clone(), field).absent(Absent::Instead { file: bfq, value })
    };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        let field = "linux.resources.blockIO.weight".to_owned();
        rows.push(either("blkio.weight", "blkio.bfq.weight", weight.to_string(), field));
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        let field = "linux.resources.blockIO.leafWeight";
        rows.push(Write::new(BLKIO, "blkio.leaf_weight", weight.to_string(), field));
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let line = |weight| format!("{}:{} {weight}", device.major, device.minor);
        let field = |leaf: &str| format!("linux.resources.blockIO.weightDevice[{index}].{leaf}");
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            rows.push(either("blkio.weight_device", "blkio.bfq.weight_device", line(weight), field("weight")));
        }
        if let Some(weight) = device.leaf_weight.filter(|weight| *weight != 0) {
            rows.push(Write::new(BLKIO, "blkio.leaf_weight_device", line(weight), field("leafWeight")));
        }
    }
    let mut throttle = |devices: &[ThrottleDevice], file: &'static str, name: &str| {
        for (index, device) in devices.iter().enumerate() {
            let line = format!("{}:{} {}", device.major, device.minor, device.rate);
            rows.push(Write::new(BLKIO, file, line, format!("linux.resources.blockIO.{name}[{index}]")));
        }
    };
    throttle(&io.throttle_read_bps, "blkio.throttle.read_bps_device", "throttleReadBpsDevice");
    throttle(&io.throttle_write_bps, "blkio.throttle.write_bps_device", "throttleWriteBpsDevice");
    throttle(&io.throttle_read_iops, "blkio.throttle.read_iops_device", "throttleReadIOPSDevice");
    throttle(&io.throttle_write_iops, "blkio.throttle.write_iops_device", "throttleWriteIOPSDevice");
}

/// Huge pages, used and (where the kernel counts those, Linux 5.7) reserved.
pub fn hugetlb(limits: &[HugepageLimit], rows: &mut Rows) {
    for (index, page) in limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{index}]");
        for (reserved, absent) in [("", Absent::IsAnError), (".rsvd", Absent::MeansAlreadySo)] {
            let file = format!("hugetlb.{}{reserved}.limit_in_bytes", page.page_size);
            let row = Write::new(Controller::V1("hugetlb"), file, page.limit.to_string(), field.clone());
            rows.push(row.absent(absent));
        }
    }
}

/// One line of `rdma.max`, which both versions share.
pub fn rdma_max(limit: &RdmaLimit) -> String {
    let mut line = limit.device.clone();
    if let Some(handles) = limit.hca_handles {
        line.push_str(&format!(" hca_handle={handles}"));
    }
    if let Some(objects) = limit.hca_objects {
        line.push_str(&format!(" hca_object={objects}"));
    }
    line
}

/// RDMA devices.
pub fn rdma(limits: &[RdmaLimit], rows: &mut Rows) {
    for limit in limits.iter().filter(|limit| limit.hca_handles.is_some() || limit.hca_objects.is_some()) {
        let field = format!("linux.resources.rdma[{:?}]", limit.device);
        rows.push(Write::new(Controller::V1("rdma"), "rdma.max", rdma_max(limit), field));
    }
}

/// Class and priorities of packets.
pub fn network(network: &NetworkResources, rows: &mut Rows) {
    if let Some(class) = network.class_id.filter(|class| *class != 0) {
        let field = "linux.resources.network.classID";
        rows.push(Write::new(Controller::V1("net_cls"), "net_cls.classid", class.to_string(), field));
    }
    for (index, (interface, priority)) in network.priorities.iter().enumerate() {
        let field = format!("linux.resources.network.priorities[{index}]");
        let line = format!("{interface} {priority}");
        rows.push(Write::new(Controller::V1("net_prio"), "net_prio.ifpriomap", line, field));
    }
}
