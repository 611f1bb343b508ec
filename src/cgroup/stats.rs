//! What a cgroup has used: libcontainer's `cgroups.Stats`, from the files of v1 and v2.
//!
//! Each controller is read where the container has it, so that on a hybrid host the numbers may come from both. A
//! file that is missing leaves its numbers at 0: the controller is off, or the kernel is older than the file.

mod parse;
mod v1;
mod v2;

#[cfg(any(test, fuzzing))]
pub(crate) use parse::all;

use std::collections::BTreeMap;
use std::path::Path;

use super::Cgroup;
use super::group::{Directory, is_gone};
use crate::error::{Context, Kind, Result};
use crate::sys::Errno;

/// What stands for no limit in [`MemoryUsage::limit`] where the kernel says `max`.
pub const UNLIMITED: u64 = u64::MAX;

/// Everything that the cgroup counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Which processors and memory nodes (cgroup v1).
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub block_io: BlockIoStats,
    /// Huge pages by size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// RDMA devices.
    pub rdma: RdmaStats,
    /// Resources of the misc controller by name (cgroup v2, Linux 5.13).
    pub misc: BTreeMap<String, MiscStats>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CpuStats {
    /// All of it.
    pub total: u64,
    /// On behalf of the processes, in the kernel.
    pub kernel: u64,
    /// In the processes.
    pub user: u64,
    /// By processor (cgroup v1).
    pub percpu: Vec<u64>,
    /// By processor, in the kernel (cgroup v1).
    pub percpu_kernel: Vec<u64>,
    /// By processor, in the processes (cgroup v1).
    pub percpu_user: Vec<u64>,
    /// What the quota did.
    pub throttling: Throttling,
    /// What of the quota was saved up and spent.
    pub bursts: Bursts,
    /// Stalls for want of a processor.
    pub psi: Option<Psi>,
}

/// What the quota did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// How long processes waited for it, nanoseconds.
    pub throttled_time: u64,
}

/// What of the quota was saved up and spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bursts {
    /// Periods with a burst.
    pub periods: u64,
    /// Time above the quota, nanoseconds.
    pub time: u64,
}

/// Which processors and memory nodes, and the flags of cgroup v1's cpusets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpusetStats {
    /// Processors.
    pub cpus: Vec<u16>,
    /// `cpuset.cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    pub mems: Vec<u16>,
    /// `cpuset.mem_hardwall`.
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`.
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`.
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`.
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`.
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`.
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryStats {
    /// Page cache (`cache` of v1, `file` of v2).
    pub cache: u64,
    /// Memory.
    pub usage: MemoryUsage,
    /// Memory and swap together, as v1 counts; on v2 the sum of both.
    pub swap_usage: MemoryUsage,
    /// Swap alone (cgroup v2).
    pub swap_only_usage: MemoryUsage,
    /// The kernel's memory (cgroup v1).
    pub kernel_usage: MemoryUsage,
    /// The kernel's memory for TCP (cgroup v1).
    pub kernel_tcp_usage: MemoryUsage,
    /// Whether cgroups below count too.
    pub use_hierarchy: bool,
    /// `memory.stat`, as the kernel has it.
    pub raw: BTreeMap<String, u64>,
    /// Stalls for want of memory.
    pub psi: Option<Psi>,
}

/// One kind of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUsage {
    /// Now.
    pub usage: u64,
    /// At most so far.
    pub max_usage: u64,
    /// How often the limit was met (cgroup v1).
    pub failcnt: u64,
    /// The limit; [`UNLIMITED`], or on v1 a number near 2^63, for none.
    pub limit: u64,
}

/// Tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// At most; 0 for no limit.
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockIoStats {
    /// Bytes moved.
    pub service_bytes: Vec<BlockIoEntry>,
    /// Requests.
    pub serviced: Vec<BlockIoEntry>,
    /// Requests that wait now (BFQ and CFQ of v1, as all below).
    pub queued: Vec<BlockIoEntry>,
    /// From dispatch to completion, nanoseconds.
    pub service_time: Vec<BlockIoEntry>,
    /// In the scheduler's queues, nanoseconds.
    pub wait_time: Vec<BlockIoEntry>,
    /// Requests merged into others.
    pub merged: Vec<BlockIoEntry>,
    /// The device's time, milliseconds.
    pub time: Vec<BlockIoEntry>,
    /// Sectors moved.
    pub sectors: Vec<BlockIoEntry>,
    /// Stalls for want of a device.
    pub psi: Option<Psi>,
}

/// One number of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Discard` and so on; empty where the kernel does not tell them apart.
    pub op: String,
    /// The number.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HugetlbStats {
    /// Now.
    pub usage: u64,
    /// At most so far (cgroup v1).
    pub max_usage: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// RDMA devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RdmaStats {
    /// What is used.
    pub current: Vec<RdmaEntry>,
    /// What may be used.
    pub limit: Vec<RdmaEntry>,
}

/// One RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles; `u32::MAX` for no limit.
    pub hca_handles: u32,
    /// Objects; `u32::MAX` for no limit.
    pub hca_objects: u32,
}

/// One resource of the misc controller, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MiscStats {
    /// Now.
    pub usage: u64,
    /// How often the limit was met.
    pub events: u64,
}

/// Pressure stall information (the kernel's accounting/psi.rst; Linux 4.20).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Psi {
    /// At least one task waited.
    pub some: PsiShare,
    /// All tasks waited.
    pub full: PsiShare,
}

/// Shares of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PsiShare {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last minute.
    pub avg60: f64,
    /// Per cent of the last five minutes.
    pub avg300: f64,
    /// In all, microseconds.
    pub total: u64,
}

impl Cgroup {
    /// What the cgroup has used.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.read_stats().doing("read the statistics of the cgroup")
    }

    fn read_stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        let v2 = self.v2();
        match (self.legacy("cpuacct"), v2) {
            (Some(directory), _) => v1::cpu_usage(directory, &mut stats.cpu)?,
            (None, Some(directory)) => v2::cpu(directory, &mut stats.cpu)?,
            (None, None) => {}
        }
        if let Some(directory) = self.legacy("cpu") {
            v1::throttling(directory, &mut stats.cpu)?;
        }
        if let Some(directory) = self.legacy("cpuset") {
            v1::cpuset(directory, &mut stats.cpuset)?;
        }
        match (self.legacy("memory"), v2) {
            (Some(directory), _) => v1::memory(directory, &mut stats.memory)?,
            (None, Some(directory)) => v2::memory(directory, &mut stats.memory)?,
            (None, None) => {}
        }
        if let Some(directory) = self.legacy("pids").or(v2) {
            pids(directory, &mut stats.pids)?;
        }
        match (self.legacy("blkio"), v2) {
            (Some(directory), _) => v1::block_io(directory, &mut stats.block_io)?,
            (None, Some(directory)) => v2::block_io(directory, &mut stats.block_io)?,
            (None, None) => {}
        }
        if let Some(directory) = self.legacy("rdma").or(v2) {
            rdma(directory, &mut stats.rdma)?;
        }
        for size in huge_page_sizes() {
            let found = match (self.legacy("hugetlb"), v2) {
                (Some(directory), _) => v1::hugetlb(directory, &size)?,
                (None, Some(directory)) => v2::hugetlb(directory, &size)?,
                (None, None) => None,
            };
            stats.hugetlb.extend(found.map(|found| (size, found)));
        }
        if let Some(directory) = v2 {
            v2::misc(directory, &mut stats.misc)?;
            stats.cpu.psi = psi(directory, "cpu.pressure")?;
            stats.memory.psi = psi(directory, "memory.pressure")?;
            stats.block_io.psi = psi(directory, "io.pressure")?;
        }
        Ok(stats)
    }
}

/// A file's text; `None` where there is no such file, or it has nothing to tell (PSI switched off).
fn text(directory: &Directory, file: &str) -> Result<Option<String>> {
    match directory.read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == Kind::NotFound || is_gone(error.errno()) => Ok(None),
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file's only number; 0 where there is no such file.
fn number(directory: &Directory, file: &str) -> Result<u64> {
    Ok(text(directory, file)?.map_or(0, |text| parse::number(&text)))
}

fn pids(directory: &Directory, stats: &mut PidsStats) -> Result<()> {
    stats.current = match text(directory, "pids.current")? {
        Some(text) => parse::number(&text),
        // The controller is off: whoever is in the cgroup is counted, as in runc.
        None => listed(directory)?,
    };
    stats.limit = match number(directory, "pids.max")? {
        UNLIMITED => 0,
        limit => limit,
    };
    Ok(())
}

/// How many processes are in the cgroup itself; of a threaded one, how many threads.
fn listed(directory: &Directory) -> Result<u64> {
    let list = match text(directory, "cgroup.procs")? {
        None => text(directory, "cgroup.threads")?,
        list => list,
    };
    Ok(list.map_or(0, |list| list.lines().count() as u64))
}

fn rdma(directory: &Directory, stats: &mut RdmaStats) -> Result<()> {
    stats.current = text(directory, "rdma.current")?.map(|text| parse::rdma(&text)).unwrap_or_default();
    stats.limit = text(directory, "rdma.max")?.map(|text| parse::rdma(&text)).unwrap_or_default();
    Ok(())
}

fn psi(directory: &Directory, file: &str) -> Result<Option<Psi>> {
    Ok(text(directory, file)?.and_then(|text| parse::psi(&text)))
}

/// The sizes of huge pages that this kernel has, as the names of files spell them.
fn huge_page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(Path::new("/sys/kernel/mm/hugepages")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut sizes: Vec<String> = names.filter_map(|name| parse::huge_page_size(&name)).collect();
    sizes.sort();
    sizes
}
