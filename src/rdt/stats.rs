//! What a class of Intel RDT may use, and what its members have used.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::{Group, read};
use crate::error::{Context, Result};
use crate::sys::cgroupfs;

impl Group {
    /// What the class may use and what its members have used.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.read_stats().doing("read the statistics of Intel RDT")
    }

    fn read_stats(&self) -> Result<Stats> {
        let root = self.resctrl.root.as_fd();
        let there = |name: &str| cgroupfs::openat_directory(root, format!("info/{name}")).is_ok();
        let number = |file: &str| self.resctrl.number(&format!("info/{file}")).unwrap_or_default();
        let (all, own) = (read(root, "schemata")?, read(self.class.as_fd(), "schemata")?);
        let mut stats =
            Stats { schemata: own.lines().map(|line| line.trim().to_owned()).collect(), ..Stats::default() };
        if there("L3") {
            stats.l3_cache_info = Some(CacheInfo {
                cbm_mask: read(root, "info/L3/cbm_mask")?.trim().to_owned(),
                min_cbm_bits: number("L3/min_cbm_bits"),
                num_closids: number("L3/num_closids"),
            });
            (stats.l3_cache_schema_root, stats.l3_cache_schema) = (line_with(&all, "L3"), line_with(&own, "L3"));
        }
        if there("MB") {
            stats.mem_bw_info = Some(BandwidthInfo {
                bandwidth_gran: number("MB/bandwidth_gran"),
                delay_linear: number("MB/delay_linear"),
                min_bandwidth: number("MB/min_bandwidth"),
                num_closids: number("MB/num_closids"),
            });
            (stats.mem_bw_schema_root, stats.mem_bw_schema) = (line_with(&all, "MB"), line_with(&own, "MB"));
        }
        let counted = read(root, "info/L3_MON/mon_features").unwrap_or_default();
        let counts = |feature: &str| counted.lines().any(|line| line.trim() == feature);
        let data = self.monitor.as_ref().unwrap_or(&self.class).as_fd();
        if counts("mbm_total_bytes") || counts("mbm_local_bytes") {
            stats.mbm_stats = Some(domains(data, |domain| BandwidthUsed {
                mbm_total_bytes: counter(domain, "mbm_total_bytes"),
                mbm_local_bytes: counter(domain, "mbm_local_bytes"),
            })?);
        }
        if counts("llc_occupancy") {
            let used = |domain: BorrowedFd<'_>| CacheUsed { llc_occupancy: counter(domain, "llc_occupancy") };
            stats.cmt_stats = Some(domains(data, used)?);
        }
        Ok(stats)
    }
}

/// Statistics, under the names that runc gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// The processor's third level of cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// All of it, as a line of `schemata`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    /// The class's part of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// The processor's way to share memory bandwidth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<BandwidthInfo>,
    /// All of it, as a line of `schemata`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    /// The class's part of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// All lines of the class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Traffic with memory, by cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<BandwidthUsed>>,
    /// Cache occupied, by cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<CacheUsed>>,
}

/// What can be asked of the cache (`info/L3`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct CacheInfo {
    /// Every bit of a mask, in hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cbm_mask: String,
    /// Fewest bits of a mask.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_cbm_bits: u64,
    /// How many classes there may be.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// What can be asked of memory bandwidth (`info/MB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BandwidthInfo {
    /// In which steps, per cent.
    #[serde(skip_serializing_if = "is_zero")]
    pub bandwidth_gran: u64,
    /// Whether the delay is linear.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_linear: u64,
    /// The least, per cent.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_bandwidth: u64,
    /// How many classes there may be.
    #[serde(skip_serializing_if = "is_zero")]
    pub num_closids: u64,
}

/// Traffic with memory through one cache, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BandwidthUsed {
    /// All.
    pub mbm_total_bytes: u64,
    /// With the memory of the cache's own node.
    pub mbm_local_bytes: u64,
}

/// What of one cache is occupied, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CacheUsed {
    /// Of the last level.
    pub llc_occupancy: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One answer for each cache of `mon_data`, in the order of their numbers.
fn domains<T>(group: BorrowedFd<'_>, answer: impl Fn(BorrowedFd<'_>) -> T) -> Result<Vec<T>> {
    let data = cgroupfs::openat_directory(group, "mon_data")?;
    let mut names = cgroupfs::subdirectories(data.as_fd())?;
    names.retain(|name| name.as_bytes().starts_with(b"mon_L3_"));
    names.sort();
    let open = |name: &OsString| Ok(answer(cgroupfs::openat_directory(data.as_fd(), name)?.as_fd()));
    names.iter().map(open).collect()
}

/// A counter; 0 where the processor has no number to give now (`Unavailable`).
fn counter(domain: BorrowedFd<'_>, file: &str) -> u64 {
    read(domain, file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// The last line that speaks of this, as runc takes it.
pub(crate) fn line_with(schemata: &str, word: &str) -> String {
    schemata.lines().rfind(|line| line.contains(word)).unwrap_or_default().trim().to_owned()
}
