//! What the controllers of cgroup v1 count (the kernel's admin-guide/cgroup-v1).

use super::{
    BlockIoEntry, BlockIoStats, CpuStats, CpusetStats, HugetlbStats, MemoryStats, MemoryUsage, number, parse, text,
};
use crate::cgroup::group::Directory;
use crate::error::Result;

/// `cpuacct.stat` counts in ticks of user space, of which every Linux has a hundred a second (time(7)).
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub(super) fn cpu_usage(directory: &Directory, cpu: &mut CpuStats) -> Result<()> {
    cpu.total = number(directory, "cpuacct.usage")?;
    let stat = text(directory, "cpuacct.stat")?.map(|text| parse::pairs(&text)).unwrap_or_default();
    let ticks = |key: &str| stat.get(key).copied().unwrap_or(0).saturating_mul(NANOSECONDS_PER_TICK);
    (cpu.user, cpu.kernel) = (ticks("user"), ticks("system"));
    cpu.percpu = text(directory, "cpuacct.usage_percpu")?.map(|text| parse::row(&text)).unwrap_or_default();
    let all = text(directory, "cpuacct.usage_all")?.map(|text| parse::usage_all(&text)).unwrap_or_default();
    (cpu.percpu_user, cpu.percpu_kernel) = all;
    Ok(())
}

pub(super) fn throttling(directory: &Directory, cpu: &mut CpuStats) -> Result<()> {
    let stat = text(directory, "cpu.stat")?.map(|text| parse::pairs(&text)).unwrap_or_default();
    let of = |key: &str| stat.get(key).copied().unwrap_or(0);
    cpu.throttling.periods = of("nr_periods");
    cpu.throttling.throttled_periods = of("nr_throttled");
    cpu.throttling.throttled_time = of("throttled_time");
    cpu.bursts.periods = of("nr_bursts");
    cpu.bursts.time = of("burst_time");
    Ok(())
}

pub(super) fn cpuset(directory: &Directory, stats: &mut CpusetStats) -> Result<()> {
    let list =
        |file| -> Result<Vec<u16>> { Ok(text(directory, file)?.map(|text| parse::list(&text)).unwrap_or_default()) };
    let flag = |file| number(directory, file);
    *stats = CpusetStats {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: flag("cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: flag("cpuset.mem_hardwall")?,
        mem_exclusive: flag("cpuset.mem_exclusive")?,
        memory_migrate: flag("cpuset.memory_migrate")?,
        memory_spread_page: flag("cpuset.memory_spread_page")?,
        memory_spread_slab: flag("cpuset.memory_spread_slab")?,
        memory_pressure: flag("cpuset.memory_pressure")?,
        sched_load_balance: flag("cpuset.sched_load_balance")?,
        sched_relax_domain_level: text(directory, "cpuset.sched_relax_domain_level")?
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0),
    };
    Ok(())
}

pub(super) fn memory(directory: &Directory, memory: &mut MemoryStats) -> Result<()> {
    memory.raw = text(directory, "memory.stat")?.map(|text| parse::pairs(&text)).unwrap_or_default();
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    memory.usage = usage(directory, "memory")?;
    memory.swap_usage = usage(directory, "memory.memsw")?;
    memory.kernel_usage = usage(directory, "memory.kmem")?;
    memory.kernel_tcp_usage = usage(directory, "memory.kmem.tcp")?;
    memory.use_hierarchy = number(directory, "memory.use_hierarchy")? == 1;
    Ok(())
}

fn usage(directory: &Directory, kind: &str) -> Result<MemoryUsage> {
    Ok(MemoryUsage {
        usage: number(directory, &format!("{kind}.usage_in_bytes"))?,
        max_usage: number(directory, &format!("{kind}.max_usage_in_bytes"))?,
        failcnt: number(directory, &format!("{kind}.failcnt"))?,
        limit: number(directory, &format!("{kind}.limit_in_bytes"))?,
    })
}

/// Who counts depends on the scheduler and how the kernel is built; the first who has counted anything is believed,
/// in runc's order: BFQ, CFQ, and the throttling below both.
pub(super) fn block_io(directory: &Directory, stats: &mut BlockIoStats) -> Result<()> {
    let read = |file: &str| -> Result<Vec<BlockIoEntry>> {
        Ok(text(directory, file)?.map(|text| parse::block_io(&text)).unwrap_or_default())
    };
    for prefix in ["blkio.bfq", "blkio"] {
        let serviced = read(&format!("{prefix}.io_serviced_recursive"))?;
        if serviced.is_empty() {
            continue;
        }
        *stats = BlockIoStats {
            serviced,
            service_bytes: read(&format!("{prefix}.io_service_bytes_recursive"))?,
            queued: read(&format!("{prefix}.io_queued_recursive"))?,
            service_time: read(&format!("{prefix}.io_service_time_recursive"))?,
            wait_time: read(&format!("{prefix}.io_wait_time_recursive"))?,
            merged: read(&format!("{prefix}.io_merged_recursive"))?,
            time: read(&format!("{prefix}.time_recursive"))?,
            sectors: read(&format!("{prefix}.sectors_recursive"))?,
            psi: None,
        };
        return Ok(());
    }
    for suffix in ["_recursive", ""] {
        stats.serviced = read(&format!("blkio.throttle.io_serviced{suffix}"))?;
        if !stats.serviced.is_empty() {
            stats.service_bytes = read(&format!("blkio.throttle.io_service_bytes{suffix}"))?;
            return Ok(());
        }
    }
    Ok(())
}

/// Reserved pages where the kernel counts those (Linux 5.7), as runc does.
pub(super) fn hugetlb(directory: &Directory, size: &str) -> Result<Option<HugetlbStats>> {
    for reserved in [".rsvd", ""] {
        let file = |name: &str| format!("hugetlb.{size}{reserved}.{name}");
        let Some(usage) = text(directory, &file("usage_in_bytes"))? else { continue };
        return Ok(Some(HugetlbStats {
            usage: parse::number(&usage),
            max_usage: number(directory, &file("max_usage_in_bytes"))?,
            failcnt: number(directory, &file("failcnt"))?,
        }));
    }
    Ok(None)
}
