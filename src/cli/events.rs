//! What `events` prints: one JSON object a line, in runc's shape, key for key.
//!
//! A number that is 0 and a list that is empty are left out where runc leaves them out: its readers tell 0 from
//! nothing by that.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cgroup::stats::{self as used, Stats};
use crate::rdt;

/// The line of a want of memory.
pub(super) fn oom(id: &str) -> anyhow::Result<String> {
    line(&Event { kind: "oom", id, data: None })
}

/// The line of what a container has used.
pub(super) fn stats(id: &str, stats: &Stats, rdt: Option<rdt::Stats>) -> anyhow::Result<String> {
    let data = Data { intel_rdt: rdt.unwrap_or_default(), ..Data::from(stats) };
    line(&Event { kind: "stats", id, data: Some(data) })
}

fn line(event: &Event<'_>) -> anyhow::Result<String> {
    Ok(serde_json::to_string(event)? + "\n")
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct Data<'a> {
    cpu: Cpu<'a>,
    cpuset: Cpuset<'a>,
    memory: Memory<'a>,
    pids: Pids,
    blkio: Blkio<'a>,
    hugetlb: BTreeMap<&'a str, Hugetlb>,
    intel_rdt: rdt::Stats,
    /// Always null: runc does not fill it either.
    network_interfaces: (),
}

impl<'a> From<&'a Stats> for Data<'a> {
    fn from(stats: &'a Stats) -> Self {
        let hugetlb =
            |stats: &used::HugetlbStats| Hugetlb { usage: stats.usage, max: stats.max_usage, failcnt: stats.failcnt };
        Data {
            cpu: Cpu::from(&stats.cpu),
            cpuset: Cpuset::from(&stats.cpuset),
            memory: Memory::from(&stats.memory),
            pids: Pids { current: stats.pids.current, limit: stats.pids.limit },
            blkio: Blkio::from(&stats.block_io),
            hugetlb: stats.hugetlb.iter().map(|(size, stats)| (size.as_str(), hugetlb(stats))).collect(),
            intel_rdt: rdt::Stats::default(),
            network_interfaces: (),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Cpu<'a> {
    usage: CpuUsage<'a>,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct CpuUsage<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    percpu: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    percpu_kernel: &'a [u64],
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    percpu_user: &'a [u64],
    kernel: u64,
    user: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

impl<'a> From<&'a used::CpuStats> for Cpu<'a> {
    fn from(cpu: &'a used::CpuStats) -> Self {
        Cpu {
            usage: CpuUsage {
                total: cpu.total,
                percpu: &cpu.percpu,
                percpu_kernel: &cpu.percpu_kernel,
                percpu_user: &cpu.percpu_user,
                kernel: cpu.kernel,
                user: cpu.user,
            },
            throttling: Throttling {
                periods: cpu.throttling.periods,
                throttled_periods: cpu.throttling.throttled_periods,
                throttled_time: cpu.throttling.throttled_time,
            },
            psi: cpu.psi.map(Psi::from),
        }
    }
}

#[derive(Serialize)]
struct Psi {
    some: PsiShare,
    full: PsiShare,
}

#[derive(Serialize)]
struct PsiShare {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

impl From<used::Psi> for Psi {
    fn from(psi: used::Psi) -> Self {
        let share = |share: used::PsiShare| PsiShare {
            avg10: share.avg10,
            avg60: share.avg60,
            avg300: share.avg300,
            total: share.total,
        };
        Psi { some: share(psi.some), full: share(psi.full) }
    }
}

#[derive(Serialize)]
struct Cpuset<'a> {
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    cpus: &'a [u16],
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    mems: &'a [u16],
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

impl<'a> From<&'a used::CpusetStats> for Cpuset<'a> {
    fn from(stats: &'a used::CpusetStats) -> Self {
        Cpuset {
            cpus: &stats.cpus,
            cpu_exclusive: stats.cpu_exclusive,
            mems: &stats.mems,
            mem_hardwall: stats.mem_hardwall,
            mem_exclusive: stats.mem_exclusive,
            memory_migrate: stats.memory_migrate,
            memory_spread_page: stats.memory_spread_page,
            memory_spread_slab: stats.memory_spread_slab,
            memory_pressure: stats.memory_pressure,
            sched_load_balance: stats.sched_load_balance,
            sched_relax_domain_level: stats.sched_relax_domain_level,
        }
    }
}

#[derive(Serialize)]
struct Memory<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

impl<'a> From<&'a used::MemoryStats> for Memory<'a> {
    fn from(memory: &'a used::MemoryStats) -> Self {
        let entry = |usage: used::MemoryUsage| MemoryEntry {
            limit: usage.limit,
            usage: usage.usage,
            max: usage.max_usage,
            failcnt: usage.failcnt,
        };
        Memory {
            cache: memory.cache,
            usage: entry(memory.usage),
            swap: entry(memory.swap_usage),
            kernel: entry(memory.kernel_usage),
            kernel_tcp: entry(memory.kernel_tcp_usage),
            raw: &memory.raw,
            psi: memory.psi.map(Psi::from),
        }
    }
}

#[derive(Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_queue_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<BlkioEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Serialize)]
struct BlkioEntry<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

impl<'a> From<&'a used::BlockIoStats> for Blkio<'a> {
    fn from(stats: &'a used::BlockIoStats) -> Self {
        fn entries(list: &[used::BlockIoEntry]) -> Vec<BlkioEntry<'_>> {
            list.iter()
                .map(|entry| BlkioEntry { major: entry.major, minor: entry.minor, op: &entry.op, value: entry.value })
                .collect()
        }
        Blkio {
            io_service_bytes_recursive: entries(&stats.service_bytes),
            io_serviced_recursive: entries(&stats.serviced),
            io_queue_recursive: entries(&stats.queued),
            io_service_time_recursive: entries(&stats.service_time),
            io_wait_time_recursive: entries(&stats.wait_time),
            io_merged_recursive: entries(&stats.merged),
            io_time_recursive: entries(&stats.time),
            sectors_recursive: entries(&stats.sectors),
            psi: stats.psi.map(Psi::from),
        }
    }
}

#[derive(Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// What runc 1.1.5 and 1.3 print for a container that has used nothing.
    #[test]
    fn nothing_is_told_as_runc_tells_it() {
        let expected = concat!(
            r#"{"type":"stats","id":"web","data":{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#,
            r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"#,
            r#""memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"#,
            r#""sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"#,
            r#""kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"#,
            r#""hugetlb":{},"intel_rdt":{},"network_interfaces":null}}"#,
            "\n"
        );
        assert_eq!(stats("web", &Stats::default(), None).unwrap(), expected);
        assert_eq!(oom("web").unwrap(), "{\"type\":\"oom\",\"id\":\"web\"}\n");
    }

    #[test]
    fn everything_has_its_key() {
        let mut found = Stats::default();
        let entry = used::BlockIoEntry { major: 8, minor: 0, op: "Read".into(), value: 5 };
        found.cpu.psi = Some(used::Psi::default());
        found.cpu.percpu = vec![1, 2];
        found.cpu.throttling.throttled_time = 3;
        found.memory.raw = BTreeMap::from([("cache".to_owned(), 4)]);
        found.memory.usage.limit = used::UNLIMITED;
        found.block_io.queued = vec![entry.clone()];
        found.block_io.sectors = vec![entry];
        found.hugetlb.insert("2MB".to_owned(), used::HugetlbStats { usage: 1, max_usage: 2, failcnt: 3 });
        let line: serde_json::Value = serde_json::from_str(&stats("web", &found, None).unwrap()).unwrap();
        let at = |pointer: &str| line.pointer(&format!("/data/{pointer}")).unwrap().to_string();
        assert_eq!(at("cpu/psi/some"), r#"{"avg10":0.0,"avg300":0.0,"avg60":0.0,"total":0}"#);
        assert_eq!((at("cpu/usage/percpu"), at("cpu/throttling/throttledTime")), ("[1,2]".into(), "3".into()));
        assert_eq!(at("memory/usage/limit"), "18446744073709551615");
        assert_eq!(at("blkio/ioQueueRecursive"), r#"[{"major":8,"op":"Read","value":5}]"#);
        assert_eq!(at("blkio/sectorsRecursive"), r#"[{"major":8,"op":"Read","value":5}]"#);
        assert_eq!(at("hugetlb/2MB"), r#"{"failcnt":3,"max":2,"usage":1}"#);
    }
}
