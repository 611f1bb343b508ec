//! What the controllers of cgroup v2 count (the kernel's admin-guide/cgroup-v2.rst).

use std::collections::BTreeMap;

use super::{
    BlockIoStats, CpuStats, HugetlbStats, MemoryStats, MemoryUsage, MiscStats, UNLIMITED, number, parse, text,
};
use crate::cgroup::group::Directory;
use crate::error::Result;

/// v2 counts in microseconds, v1 and whoever reads us in nanoseconds.
const NANOSECONDS: u64 = 1000;

pub(super) fn cpu(directory: &Directory, cpu: &mut CpuStats) -> Result<()> {
    let stat = text(directory, "cpu.stat")?.map(|text| parse::pairs(&text)).unwrap_or_default();
    cpu_stat(&stat, cpu);
    Ok(())
}

fn cpu_stat(stat: &BTreeMap<String, u64>, cpu: &mut CpuStats) {
    let of = |key: &str| stat.get(key).copied().unwrap_or(0);
    let time = |key: &str| of(key).saturating_mul(NANOSECONDS);
    (cpu.total, cpu.user, cpu.kernel) = (time("usage_usec"), time("user_usec"), time("system_usec"));
    cpu.throttling.periods = of("nr_periods");
    cpu.throttling.throttled_periods = of("nr_throttled");
    cpu.throttling.throttled_time = time("throttled_usec");
    cpu.bursts.periods = of("nr_bursts");
    cpu.bursts.time = time("burst_usec");
}

pub(super) fn memory(directory: &Directory, memory: &mut MemoryStats) -> Result<()> {
    let Some(stat) = text(directory, "memory.stat")? else { return Ok(()) };
    memory.raw = parse::pairs(&stat);
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    memory.use_hierarchy = true;
    memory.usage = usage(directory, "memory")?;
    memory.swap_only_usage = usage(directory, "memory.swap")?;
    memory.swap_usage = both(memory.usage, memory.swap_only_usage);
    Ok(())
}

fn usage(directory: &Directory, kind: &str) -> Result<MemoryUsage> {
    Ok(MemoryUsage {
        usage: number(directory, &format!("{kind}.current"))?,
        max_usage: number(directory, &format!("{kind}.peak"))?,
        failcnt: 0,
        limit: number(directory, &format!("{kind}.max"))?,
    })
}

/// Memory and swap together, as v1 tells them. The two had their peaks at different times, so there is none of both.
fn both(memory: MemoryUsage, swap: MemoryUsage) -> MemoryUsage {
    let limited = memory.limit != UNLIMITED && swap.limit != UNLIMITED;
    MemoryUsage {
        usage: memory.usage.saturating_add(swap.usage),
        max_usage: 0,
        failcnt: 0,
        limit: if limited { memory.limit.saturating_add(swap.limit) } else { UNLIMITED },
    }
}

pub(super) fn block_io(directory: &Directory, stats: &mut BlockIoStats) -> Result<()> {
    if let Some(text) = text(directory, "io.stat")? {
        parse::io_stat(&text, stats);
    }
    Ok(())
}

pub(super) fn hugetlb(directory: &Directory, size: &str) -> Result<Option<HugetlbStats>> {
    for reserved in [".rsvd", ""] {
        let Some(usage) = text(directory, &format!("hugetlb.{size}{reserved}.current"))? else { continue };
        let events = text(directory, &format!("hugetlb.{size}.events"))?.map(|text| parse::pairs(&text));
        let failcnt = events.and_then(|events| events.get("max").copied()).unwrap_or(0);
        return Ok(Some(HugetlbStats { usage: parse::number(&usage), max_usage: 0, failcnt }));
    }
    Ok(None)
}

pub(super) fn misc(directory: &Directory, stats: &mut BTreeMap<String, MiscStats>) -> Result<()> {
    let Some(current) = text(directory, "misc.current")? else { return Ok(()) };
    let events = text(directory, "misc.events")?.map(|text| parse::pairs(&text)).unwrap_or_default();
    stats.extend(parse::pairs(&current).into_iter().map(|(name, usage)| {
        let events = events.get(&format!("{name}.max")).copied().unwrap_or(0);
        (name, MiscStats { usage, events })
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn time_is_told_in_nanoseconds() {
        let stat = parse::pairs(
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 3\nnr_throttled 2\nthrottled_usec 7\nnr_bursts 1\n\
             burst_usec 4\n",
        );
        let mut cpu = CpuStats::default();
        cpu_stat(&stat, &mut cpu);
        assert_eq!((cpu.total, cpu.user, cpu.kernel), (30_000, 20_000, 10_000));
        assert_eq!((cpu.throttling.periods, cpu.throttling.throttled_time, cpu.bursts.time), (3, 7_000, 4_000));
    }

    #[test]
    fn swap_is_told_with_memory() {
        let of = |usage, limit| MemoryUsage { usage, limit, max_usage: 9, failcnt: 0 };
        let expected = |usage, limit| MemoryUsage { usage, limit, max_usage: 0, failcnt: 0 };
        assert_eq!(both(of(10, 100), of(5, 50)), expected(15, 150));
        assert_eq!(both(of(10, 100), of(5, UNLIMITED)), expected(15, UNLIMITED));
        assert_eq!(both(of(10, UNLIMITED), of(5, 50)), expected(15, UNLIMITED));
    }
}
