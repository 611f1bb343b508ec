//! What to write for cgroup v2, as data (the kernel's admin-guide/cgroup-v2.rst).

use std::borrow::Cow;

use specconv::{BlockIo, Cpu, HugepageLimit, Limit, Memory, NetworkResources, RdmaLimit, Swap, ThrottleDevice};

use super::v1::{pids_max, rdma_max};
use super::write::{Absent, Controller, Rows, Write, above_zero, set};
use crate::error::{Error, Result};

/// What the kernel starts with (vm.swappiness); asking for it asks for nothing.
const DEFAULT_SWAPPINESS: u64 = 60;
/// Microseconds; what `cpu.max` starts with.
const DEFAULT_PERIOD: u64 = 100_000;

const fn controller(name: &'static str) -> Controller {
    Controller::V2(Cow::Borrowed(name))
}

fn number(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "max".to_owned(),
        Limit::Max(most) => most.to_string(),
    }
}

/// Memory and swap, which v2 counts apart.
///
/// # Errors
/// What v2 has no file for: `kernel`, `kernelTCP`, `swappiness` other than the default, `disableOOMKiller`
/// (config-linux.md#unified: "if the conversion is not possible").
pub fn memory(memory: &Memory, rows: &mut Rows) -> Result<()> {
    const MEMORY: Controller = controller("memory");
    let limit = set(memory.limit);
    let swap = match (memory.swap, limit) {
        // As on v1, where unlimited memory lifts the limit of both.
        (Some(Swap::Unlimited), _) | (None, Some(Limit::Unlimited)) => Some(Limit::Unlimited),
        (Some(Swap::Bytes(bytes)), _) => Some(Limit::Max(bytes)),
        (None, _) => None,
    };
    if let Some(swap) = swap {
        // A kernel that counts no swap gives no file; then there is none to limit or to forbid.
        let absent = Absent::already_so_if(matches!(swap, Limit::Unlimited | Limit::Max(0)));
        let field = "linux.resources.memory.swap";
        rows.push(Write::new(MEMORY, "memory.swap.max", number(swap), field).absent(absent));
    }
    if let Some(limit) = limit {
        rows.push(Write::new(MEMORY, "memory.max", number(limit), "linux.resources.memory.limit"));
    }
    if let Some(low) = set(memory.reservation) {
        rows.push(Write::new(MEMORY, "memory.low", number(low), "linux.resources.memory.reservation"));
    }
    for (field, limit) in [("kernel", memory.kernel), ("kernelTCP", memory.kernel_tcp)] {
        if matches!(set(limit), Some(Limit::Max(_))) {
            let why = "cgroup v2 counts the kernel's memory with the rest and has no limit for it alone";
            return Err(Error::unsupported(format!("linux.resources.memory.{field}"), why));
        }
    }
    match memory.swappiness {
        None => {}
        Some(DEFAULT_SWAPPINESS) => {
            rows.warn("linux.resources.memory.swappiness", "ignored: cgroup v2 has no swappiness of its own");
        }
        Some(_) => {
            let why = "cgroup v2 has no swappiness of its own";
            return Err(Error::unsupported("linux.resources.memory.swappiness", why));
        }
    }
    if memory.disable_oom_killer == Some(true) {
        let why = "cannot disable OOM killer with cgroup v2";
        return Err(Error::unsupported("linux.resources.memory.disableOOMKiller", why));
    }
    Ok(())
}

/// The weight of v2 (1 to 10000, default 100) for the shares of v1 (2 to 262144, default 1024).
///
/// A quadratic curve on the logarithms through both ends and both defaults, agreed on by runc, crun, youki and
/// systemd (opencontainers/cgroups, `ConvertCPUSharesToCgroupV2Value`).
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            #[allow(clippy::cast_precision_loss, reason = "18 bits")]
            let log = (shares as f64).log2();
            let power = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            let weight = power.ceil() as u64;
            weight
        }
        _ => 10_000,
    }
}

/// Processor time.
///
/// # Errors
/// Real time, which v2 does not divide.
pub fn cpu(cpu: &Cpu, rows: &mut Rows) -> Result<()> {
    const CPU: Controller = controller("cpu");
    if cpu.realtime_runtime.is_some_and(|runtime| runtime != 0) {
        return Err(Error::unsupported("linux.resources.cpu.realtimeRuntime", "cgroup v2 does not divide real time"));
    }
    if above_zero(cpu.realtime_period).is_some() {
        return Err(Error::unsupported("linux.resources.cpu.realtimePeriod", "cgroup v2 does not divide real time"));
    }
    if let Some(idle) = cpu.idle {
        let row = Write::new(CPU, "cpu.idle", idle.to_string(), "linux.resources.cpu.idle");
        rows.push(row.absent(Absent::already_so_if(idle == 0)));
    }
    if let Some(shares) = above_zero(cpu.shares) {
        let field = "linux.resources.cpu.shares";
        if cpu.idle == Some(1) {
            rows.warn(field, "ignored: an idle group has no weight");
        } else {
            rows.push(Write::new(CPU, "cpu.weight", weight(shares).to_string(), field));
        }
    }
    if let Some(burst) = cpu.burst {
        let row = Write::new(CPU, "cpu.max.burst", burst.to_string(), "linux.resources.cpu.burst");
        rows.push(row.absent(Absent::already_so_if(burst == 0)).again_last());
    }
    let (quota, period) = (set(cpu.quota), above_zero(cpu.period));
    if quota.is_some() || period.is_some() {
        let field = if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
        let value = format!("{} {}", number(quota.unwrap_or(Limit::Unlimited)), period.unwrap_or(DEFAULT_PERIOD));
        rows.push(Write::new(CPU, "cpu.max", value, field));
    }
    Ok(())
}

/// Which processors and memory nodes.
pub fn cpuset(cpu: &Cpu, rows: &mut Rows) {
    const CPUSET: Controller = controller("cpuset");
    if let Some(cpus) = cpu.cpus.as_deref().filter(|list| !list.is_empty()) {
        rows.push(Write::new(CPUSET, "cpuset.cpus", cpus, "linux.resources.cpu.cpus"));
    }
    if let Some(mems) = cpu.mems.as_deref().filter(|list| !list.is_empty()) {
        rows.push(Write::new(CPUSET, "cpuset.mems", mems, "linux.resources.cpu.mems"));
    }
}

/// Number of tasks.
pub fn pids(limit: Option<Limit>, rows: &mut Rows) {
    if let Some(limit) = limit {
        rows.push(Write::new(controller("pids"), "pids.max", pids_max(limit), "linux.resources.pids.limit"));
    }
}

/// The weight of `io.weight` (1 to 10000) for a weight of v1 and of BFQ (10 to 1000).
pub fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// Block devices. BFQ's weights have the scale of v1; `io.weight` has its own.
///
/// # Errors
/// `leafWeight`, which v2 does not have.
pub fn block_io(io: &BlockIo, rows: &mut Rows) -> Result<()> {
    const IO: Controller = controller("io");
    let no_leaf = |field: String| Error::unsupported(field, "cgroup v2 has no leaf weight");
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        let instead = Absent::Instead { file: "io.weight", value: io_weight(weight).to_string() };
        let field = "linux.resources.blockIO.weight";
        rows.push(Write::new(IO, "io.bfq.weight", weight.to_string(), field).absent(instead));
    }
    if io.leaf_weight.is_some_and(|weight| weight != 0) {
        return Err(no_leaf("linux.resources.blockIO.leafWeight".to_owned()));
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let field = format!("linux.resources.blockIO.weightDevice[{index}]");
        if device.leaf_weight.is_some_and(|weight| weight != 0) {
            return Err(no_leaf(format!("{field}.leafWeight")));
        }
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            let node = format!("{}:{}", device.major, device.minor);
            let instead = Absent::Instead { file: "io.weight", value: format!("{node} {}", io_weight(weight)) };
            let field = format!("{field}.weight");
            rows.push(Write::new(IO, "io.bfq.weight", format!("{node} {weight}"), field).absent(instead));
        }
    }
    let mut throttle = |devices: &[ThrottleDevice], key: &str, name: &str| {
        for (index, device) in devices.iter().enumerate() {
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            let line = format!("{}:{} {key}={rate}", device.major, device.minor);
            rows.push(Write::new(IO, "io.max", line, format!("linux.resources.blockIO.{name}[{index}]")));
        }
    };
    throttle(&io.throttle_read_bps, "rbps", "throttleReadBpsDevice");
    throttle(&io.throttle_write_bps, "wbps", "throttleWriteBpsDevice");
    throttle(&io.throttle_read_iops, "riops", "throttleReadIOPSDevice");
    throttle(&io.throttle_write_iops, "wiops", "throttleWriteIOPSDevice");
    Ok(())
}

/// Huge pages, used and (where the kernel counts those, Linux 5.7) reserved.
pub fn hugetlb(limits: &[HugepageLimit], rows: &mut Rows) {
    for (index, page) in limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{index}]");
        for (reserved, absent) in [("", Absent::IsAnError), (".rsvd", Absent::MeansAlreadySo)] {
            let file = format!("hugetlb.{}{reserved}.max", page.page_size);
            rows.push(Write::new(controller("hugetlb"), file, page.limit.to_string(), field.clone()).absent(absent));
        }
    }
}

/// RDMA devices.
pub fn rdma(limits: &[RdmaLimit], rows: &mut Rows) {
    for limit in limits.iter().filter(|limit| limit.hca_handles.is_some() || limit.hca_objects.is_some()) {
        let field = format!("linux.resources.rdma[{:?}]", limit.device);
        rows.push(Write::new(controller("rdma"), "rdma.max", rdma_max(limit), field));
    }
}

/// Class and priorities of packets.
///
/// # Errors
/// Any of them: v2 leaves packets to other tools.
pub fn network(network: &NetworkResources) -> Result<()> {
    let field = match network {
        NetworkResources { class_id: Some(class), .. } if *class != 0 => "linux.resources.network.classID",
        NetworkResources { priorities, .. } if !priorities.is_empty() => "linux.resources.network.priorities",
        _ => return Ok(()),
    };
    Err(Error::unsupported(field, "cgroup v2 has no classes and priorities of packets"))
}

/// Files named by the config itself, line by line: a cgroup file takes one command a write.
///
/// # Errors
/// A name that is not `CONTROLLER.PARAMETER` (it goes into a path: T25), or no value.
pub fn unified(files: &[(String, String)], rows: &mut Rows) -> Result<()> {
    for (file, value) in files {
        let field = format!("linux.resources.unified[{file:?}]");
        let Some((controller, parameter)) = file.split_once('.') else {
            return Err(Error::invalid(field, "must be in the form CONTROLLER.PARAMETER"));
        };
        if controller.is_empty() || parameter.is_empty() || file.contains(['/', '\0', '\n']) {
            return Err(Error::invalid(field, "must be a file name in the form CONTROLLER.PARAMETER (no slashes)"));
        }
        if value.trim().is_empty() {
            return Err(Error::invalid(field, "has no value"));
        }
        for line in value.lines().filter(|line| !line.trim().is_empty()) {
            let controller = Controller::V2(Cow::Owned(controller.to_owned()));
            rows.push(Write::new(controller, file.clone(), line, field.clone()));
        }
    }
    Ok(())
}
