//! Limits, from `linux.resources` (config-linux.md#control-groups).
//!
//! This is the only place which knows that OCI's `memory.swap` counts memory *and* swap, while cgroup v2 and systemd
//! count swap alone: everything downstream gets the two apart, so that the drivers cannot disagree.
//!
//! Engines write 0 for what they leave unset (`shares: 0`, `weight: 0`, `limit: 0`); only `pids.limit` means it.

use std::fmt;

use oci_spec::runtime as oci;

use crate::device::rules;
use crate::field::{interface, list, refuse, said};
use crate::spec::{self, Pairs};
use crate::{
    BlockIo, Cpu, HugepageLimit, Invalid, Limit, Memory, NetworkResources, RdmaLimit, Resources, Swap, ThrottleDevice,
    WeightDevice,
};

/// The whole object.
pub(crate) fn resources(asked: spec::Resources) -> Result<Resources, Invalid> {
    Ok(Resources {
        devices: rules(&asked.devices.unwrap_or_default())?,
        memory: asked.memory.map(|memory| self::memory(&memory)).transpose()?.unwrap_or_default(),
        cpu: asked.cpu.map(|cpu| self::cpu(&cpu)).transpose()?.unwrap_or_default(),
        pids: asked.pids.and_then(|pids| pids.limit).map(|limit| match u64::try_from(limit) {
            Ok(limit) => Limit::Max(limit),
            Err(_) => Limit::Unlimited,
        }),
        block_io: asked.block_io.map(|block_io| self::block_io(&block_io)).transpose()?.unwrap_or_default(),
        hugepage_limits: hugepages(asked.hugepage_limits.unwrap_or_default())?,
        network: asked.network.map(|network| self::network(&network)).transpose()?.unwrap_or_default(),
        rdma: asked.rdma.map(rdma).transpose()?.unwrap_or_default(),
        unified: asked.unified.map(unified).transpose()?.unwrap_or_default(),
    })
}

/// Bytes: -1 is no limit, 0 says nothing.
fn bytes(field: &str, value: Option<i64>) -> Result<Option<Limit>, Invalid> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Limit::Unlimited)),
        Some(bytes) => match u64::try_from(bytes) {
            Ok(bytes) => Ok(Some(Limit::Max(bytes))),
            Err(_) => refuse(
                format_args!("linux.resources.memory.{field}"),
                format_args!("{bytes} is neither a number of bytes nor -1 (no limit)"),
            ),
        },
    }
}

fn memory(asked: &oci::LinuxMemory) -> Result<Memory, Invalid> {
    let limit = bytes("limit", asked.limit())?;
    let swappiness = asked.swappiness();
    if let Some(value) = swappiness.filter(|value| *value > 100) {
        return refuse("linux.resources.memory.swappiness", format_args!("{value} is not between 0 and 100"));
    }
    if asked.use_hierarchy() == Some(false) {
        return refuse("linux.resources.memory.useHierarchy", "the kernel knows no other way since Linux 5.11");
    }
    Ok(Memory {
        limit,
        swap: swap(limit, bytes("swap", asked.swap())?)?,
        reservation: bytes("reservation", asked.reservation())?,
        kernel: bytes("kernel", asked.kernel())?,
        kernel_tcp: bytes("kernelTCP", asked.kernel_tcp())?,
        swappiness,
        disable_oom_killer: asked.disable_oom_killer(),
        check_before_update: asked.check_before_update().unwrap_or(false),
    })
}

/// What may be swapped beyond memory, from the limit of memory and that of memory and swap together.
///
/// # Refuses
/// a total below the memory limit, and a total without one: what remains for swap would be unknowable.
fn swap(limit: Option<Limit>, total: Option<Limit>) -> Result<Option<Swap>, Invalid> {
    const FIELD: &str = "linux.resources.memory.swap";
    match (limit, total) {
        // cgroup v1 has lifted both when memory was lifted; engines rely on it.
        (Some(Limit::Unlimited), None) => Ok(Some(Swap::Unlimited)),
        (_, None) => Ok(None),
        (_, Some(Limit::Unlimited)) => Ok(Some(Swap::Unlimited)),
        (None | Some(Limit::Unlimited), Some(Limit::Max(_))) => {
            refuse(FIELD, "unable to set swap limit without memory limit")
        }
        (Some(Limit::Max(limit)), Some(Limit::Max(total))) => match total.checked_sub(limit) {
            Some(swap) => Ok(Some(Swap::Bytes(swap))),
            None => refuse(
                FIELD,
                format_args!(
                    "{total} counts memory and swap together, so it must not be below the memory limit, {limit}"
                ),
            ),
        },
    }
}

fn cpu(asked: &oci::LinuxCpu) -> Result<Cpu, Invalid> {
    let quota = match asked.quota() {
        None | Some(0) => None,
        Some(quota) => Some(u64::try_from(quota).map_or(Limit::Unlimited, Limit::Max)),
    };
    let burst = asked.burst();
    if let (Some(Limit::Max(quota)), Some(burst)) = (quota, burst)
        && burst > quota
    {
        return refuse("linux.resources.cpu.burst", format_args!("{burst} is above the quota, {quota}"));
    }
    let idle = asked.idle();
    if let Some(idle) = idle.filter(|idle| !(0..=1).contains(idle)) {
        return refuse("linux.resources.cpu.idle", format_args!("{idle} is neither 0 nor 1"));
    }
    let checked = |field: &str, text: &Option<String>| -> Result<Option<String>, Invalid> {
        let Some(text) = said(text.clone()) else { return Ok(None) };
        list(format_args!("linux.resources.cpu.{field}"), &text)?;
        Ok(Some(text))
    };
    Ok(Cpu {
        // The kernel of cgroup v1 pulls any number into this range without a word, and engines count on it.
        shares: asked.shares().filter(|shares| *shares != 0).map(|shares| shares.clamp(2, 262_144)),
        quota,
        period: asked.period().filter(|period| *period != 0),
        burst,
        realtime_runtime: asked.realtime_runtime().filter(|runtime| *runtime != 0),
        realtime_period: asked.realtime_period().filter(|period| *period != 0),
        cpus: checked("cpus", asked.cpus())?,
        mems: checked("mems", asked.mems())?,
        idle,
    })
}

const BLOCK_IO: &str = "linux.resources.blockIO";

/// A weight of block I/O: 10 to 1000, 0 says nothing.
fn weight(field: fmt::Arguments<'_>, weight: Option<u16>) -> Result<Option<u16>, Invalid> {
    match weight.filter(|weight| *weight != 0) {
        Some(weight) if !(10..=1000).contains(&weight) => {
            refuse(field, format_args!("{weight} is not between 10 and 1000"))
        }
        weight => Ok(weight),
    }
}

/// A device number of the kernel: 12 bits of major, 20 of minor.
pub(crate) fn device_number(field: fmt::Arguments<'_>, major: i64, minor: i64) -> Result<(u32, u32), Invalid> {
    let fits = |number: i64, bits: u32| u32::try_from(number).ok().filter(|number| *number < 1 << bits);
    match (fits(major, 12), fits(minor, 20)) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => refuse(field, format_args!("{major}:{minor} is not a device number (0:0 to 4095:1048575)")),
    }
}

fn block_io(asked: &oci::LinuxBlockIo) -> Result<BlockIo, Invalid> {
    let mut weight_device = Vec::new();
    for (index, device) in asked.weight_device().iter().flatten().enumerate() {
        let (major, minor) =
            device_number(format_args!("{BLOCK_IO}.weightDevice[{index}]"), device.major(), device.minor())?;
        if device.weight().is_none() && device.leaf_weight().is_none() {
            return refuse(
                format_args!("{BLOCK_IO}.weightDevice[{index}]"),
                "at least one of weight and leafWeight must be given",
            );
        }
        weight_device.push(WeightDevice {
            major,
            minor,
            weight: weight(format_args!("{BLOCK_IO}.weightDevice[{index}].weight"), device.weight())?,
            leaf_weight: weight(format_args!("{BLOCK_IO}.weightDevice[{index}].leafWeight"), device.leaf_weight())?,
        });
    }
    Ok(BlockIo {
        weight: weight(format_args!("{BLOCK_IO}.weight"), asked.weight())?,
        leaf_weight: weight(format_args!("{BLOCK_IO}.leafWeight"), asked.leaf_weight())?,
        weight_device,
        throttle_read_bps: throttle("throttleReadBpsDevice", asked.throttle_read_bps_device())?,
        throttle_write_bps: throttle("throttleWriteBpsDevice", asked.throttle_write_bps_device())?,
        throttle_read_iops: throttle("throttleReadIOPSDevice", asked.throttle_read_iops_device())?,
        throttle_write_iops: throttle("throttleWriteIOPSDevice", asked.throttle_write_iops_device())?,
    })
}

fn throttle(field: &str, devices: &Option<Vec<oci::LinuxThrottleDevice>>) -> Result<Vec<ThrottleDevice>, Invalid> {
    let one = |(index, device): (usize, &oci::LinuxThrottleDevice)| {
        let (major, minor) =
            device_number(format_args!("{BLOCK_IO}.{field}[{index}]"), device.major(), device.minor())?;
        Ok(ThrottleDevice { major, minor, rate: device.rate() })
    };
    devices.iter().flatten().enumerate().map(one).collect()
}

/// The name becomes part of a file's name, so its grammar is checked to the letter (GHSA-5g49-rx9x-qfc6).
fn hugepages(asked: Vec<spec::HugepageLimit>) -> Result<Vec<HugepageLimit>, Invalid> {
    let mut limits: Vec<HugepageLimit> = Vec::with_capacity(asked.len());
    for (index, limit) in asked.into_iter().enumerate() {
        let field = format_args!("linux.resources.hugepageLimits[{index}].pageSize");
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| limit.page_size.strip_suffix(unit)).unwrap_or_default();
        if number.is_empty() || number.starts_with('0') || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return refuse(field, format_args!("{:?} is not a size such as \"2MB\"", limit.page_size));
        }
        if limits.iter().any(|earlier| earlier.page_size == limit.page_size) {
            return refuse(field, format_args!("{:?} is already limited", limit.page_size));
        }
        limits.push(HugepageLimit { page_size: limit.page_size, limit: limit.limit });
    }
    Ok(limits)
}

fn network(asked: &oci::LinuxNetwork) -> Result<NetworkResources, Invalid> {
    let mut priorities = Vec::new();
    for (index, priority) in asked.priorities().iter().flatten().enumerate() {
        interface(format_args!("linux.resources.network.priorities[{index}].name"), priority.name())?;
        priorities.push((priority.name().clone(), priority.priority()));
    }
    Ok(NetworkResources { class_id: asked.class_id(), priorities })
}

fn rdma(asked: Pairs<oci::LinuxRdma>) -> Result<Vec<RdmaLimit>, Invalid> {
    let mut limits: Vec<RdmaLimit> = Vec::with_capacity(asked.0.len());
    for (device, limit) in asked.0 {
        let field = format_args!("linux.resources.rdma[{device:?}]");
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c == '/' || c == '=') {
            return refuse(field, "it is not the name of an RDMA device");
        }
        if limits.iter().any(|earlier| earlier.device == device) {
            return refuse(field, "it stands there twice");
        }
        let (hca_handles, hca_objects) = (limit.hca_handles(), limit.hca_objects());
        if hca_handles.is_none() && hca_objects.is_none() {
            return refuse(field, "at least one of hcaHandles and hcaObjects must be given");
        }
        limits.push(RdmaLimit { device, hca_handles, hca_objects });
    }
    Ok(limits)
}

/// The key is a file in the container's cgroup: `controller.parameter`, and nothing that could be a path (T25).
fn unified(asked: Pairs<String>) -> Result<Vec<(String, String)>, Invalid> {
    let mut files: Vec<(String, String)> = Vec::with_capacity(asked.0.len());
    for (key, value) in asked.0 {
        let field = format_args!("linux.resources.unified[{key:?}]");
        if key.contains('/') {
            return refuse(field, "it must be a file name (no slashes)");
        }
        let named = key.split_once('.').is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
        if !named || key.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return refuse(field, "it must be in the form CONTROLLER.PARAMETER");
        }
        if files.iter().any(|(earlier, _)| *earlier == key) {
            return refuse(field, "it stands there twice");
        }
        files.push((key, value));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn swap_is_what_remains_beyond_memory() {
        let of = |limit: i64, total: i64| {
            swap(bytes("limit", Some(limit)).unwrap(), bytes("swap", Some(total)).unwrap()).map_err(|_| ())
        };
        assert_eq!(of(0, 0), Ok(None));
        assert_eq!(of(100, 0), Ok(None));
        assert_eq!(of(100, 100), Ok(Some(Swap::Bytes(0))));
        assert_eq!(of(100, 250), Ok(Some(Swap::Bytes(150))));
        assert_eq!(of(100, -1), Ok(Some(Swap::Unlimited)));
        assert_eq!(of(0, -1), Ok(Some(Swap::Unlimited)));
        assert_eq!(of(-1, 0), Ok(Some(Swap::Unlimited)));
        assert_eq!(of(-1, -1), Ok(Some(Swap::Unlimited)));
        assert_eq!(of(-1, 250), Err(()));
        assert_eq!(of(100, 99), Err(()));
        assert_eq!(of(0, 100), Err(()));
        assert!(bytes("limit", Some(-2)).is_err());
    }
}
