//! Other limits for a cgroup in use, and the way back when the kernel refuses one of them.
//!
//! Before anything is written, each file is read: what is written back after a failure is what really stood there,
//! whoever had set it, and also where nothing was ever asked for.

use std::borrow::Cow;

use super::systemd::property::{Property, of_rows};
use super::write::{Absent, Rows, Write};
use super::{Cgroup, Devices, Driver, Layout, Plan, Request, bind_devices, fill, own, usage_check, v1};
use crate::error::{Context, Error, Result};

/// Whether the device rules of a request count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceRules {
    /// They stay as they are, whatever the request has.
    Stay,
    /// Those of the request take their place.
    Change,
}

/// What stood in the files that an update writes.
#[derive(Debug)]
pub struct Before {
    rows: Vec<Write>,
    /// The same as systemd is to hear it.
    properties: Vec<Property>,
}

/// Decides what an update of a cgroup writes; where the cgroup is does not matter. Pure.
///
/// # Errors
/// As [`super::plan`], and a container without a cgroup of its own.
pub fn plan_update(request: &Request<'_>, devices: DeviceRules, layout: &Layout) -> Result<Plan> {
    if request.driver == Driver::Disabled {
        return Err(Error::unsupported("linux.resources", "cgroups are disabled for this container"));
    }
    let mut rows = Rows::default();
    fill(request.resources, layout, &mut rows)?;
    if layout.legacy("memory").is_some() {
        v1::oom_killer_again(&request.resources.memory, &mut rows);
    }
    let devices = match devices {
        DeviceRules::Stay => Devices::Unbound,
        DeviceRules::Change => bind_devices(request, layout, &mut rows)?,
    };
    let usage = if layout.legacy("memory").is_none() { usage_check(&request.resources.memory) } else { None };
    let properties = super::properties(request.driver, &devices, &mut rows)?;
    Ok(Plan {
        driver: request.driver,
        mode: layout.mode,
        places: Vec::new(),
        own: own(layout),
        writes: rows.writes,
        devices,
        usage,
        warnings: rows.warnings,
        lenient: false,
        lenient_devices: request.rootless || request.in_user_namespace,
        asked_devices: !request.resources.devices.is_empty(),
        delegate_to: None,
        unit: None,
        properties,
        delegated: None,
    })
}

impl Cgroup {
    /// Reads what stands in the files that the plan writes. A file that cannot be read will not be written back.
    pub fn before(&self, plan: &Plan) -> Before {
        let mut before: Vec<Write> = Vec::new();
        for row in plan.writes() {
            let Some(directory) = self.with(&row.controller) else { continue };
            let instead = match &row.absent {
                Absent::Instead { file, value } => Some((*file, value.as_str())),
                _ => None,
            };
            let there = [Some((row.file.as_ref(), row.value.as_str())), instead];
            let read = there.into_iter().flatten().find_map(|(file, value)| {
                directory.read(file).ok().map(|text| (file.to_owned(), undo(file, value, &text)))
            });
            if let Some((file, Some(value))) = read {
                before.push(Write::new(row.controller.clone(), Cow::Owned(file), value, row.field.clone()));
            }
        }
        let properties = if self.unit.is_some() { of_rows(&before).unwrap_or_default() } else { Vec::new() };
        Before { rows: before, properties }
    }

    /// Writes back what stood there, the last line first; one that does not fit yet goes again at the end.
    ///
    /// # Errors
    /// The first line that cannot be written at all; the others are written.
    pub fn write_back(&self, before: &Before) -> Result<()> {
        let write = |row: &Write| self.write_rows(std::iter::once(row));
        let told = self.set_properties(&before.properties).map(drop);
        let failed: Vec<&Write> = before.rows.iter().rev().filter(|row| write(row).is_err()).collect();
        let again = failed.into_iter().map(write).fold(Ok(()), Result::and);
        told.and(again).doing("set back the old limits")
    }

    /// Binds the device rules of a plan again, after those of another one failed half-way.
    ///
    /// # Errors
    /// As [`Cgroup::update`].
    pub fn bind_back(&self, plan: &Plan) -> Result<()> {
        let devices: Vec<Property> =
            plan.properties.iter().filter(|property| property.name.starts_with("Device")).cloned().collect();
        let told = self.set_properties(&devices).map(drop);
        told.and(self.bind_devices(plan).map(drop)).doing("set back the old device rules")
    }
}

/// What to write to take `value` back, from the text that stood in the file before; `None` where nothing can be.
/// Pure.
fn undo(file: &str, value: &str, old: &str) -> Option<String> {
    if file == "memory.oom_control" {
        return super::group::value(old, "oom_kill_disable").map(str::to_owned);
    }
    let keyed = value.contains(' ');
    if !keyed {
        // A weight stands in a list with those of devices, and under the name of `default`.
        let line = super::group::value(old, "default").or_else(|| old.lines().next()).unwrap_or_default().trim();
        // An empty cpuset of v2 means all of them; only a line end says so.
        return Some(if line.is_empty() { "\n".to_owned() } else { line.to_owned() });
    }
    let key = value.split(' ').next()?;
    let line = old.lines().find(|line| line.split(' ').next() == Some(key));
    if let Some(line) = line.filter(|_| key.contains(':') || old.lines().count() > 1) {
        return Some(line.to_owned());
    }
    if !key.contains(':') {
        // `cpu.max` and its kin: one line of several numbers.
        let mut lines = old.lines();
        return lines.next().filter(|_| lines.next().is_none()).map(|line| line.trim().to_owned());
    }
    match file {
        "io.max" => Some(format!("{key} rbps=max wbps=max riops=max wiops=max")),
        "io.weight" | "io.bfq.weight" => Some(format!("{key} default")),
        name if name.starts_with("blkio.") => Some(format!("{key} 0")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_line_has_a_way_back() {
        let cases = [
            ("pids.max", "5", "max\n", Some("max")),
            ("memory.limit_in_bytes", "5", "9223372036854771712\n", Some("9223372036854771712")),
            ("cpu.max", "2000 10000", "max 100000\n", Some("max 100000")),
            ("cpuset.cpus", "0", "\n", Some("\n")),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", Some("0")),
            ("blkio.throttle.read_bps_device", "8:0 5", "8:1 7\n", Some("8:0 0")),
            ("blkio.throttle.read_bps_device", "8:0 5", "8:1 7\n8:0 9\n", Some("8:0 9")),
            ("io.max", "8:0 rbps=5", "", Some("8:0 rbps=max wbps=max riops=max wiops=max")),
            ("io.max", "8:0 rbps=5", "8:0 rbps=1 wbps=max\n", Some("8:0 rbps=1 wbps=max")),
            ("io.weight", "200", "default 100\n8:0 50\n", Some("100")),
            ("io.weight", "8:1 200", "default 100\n8:0 50\n", Some("8:1 default")),
            (
                "rdma.max",
                "mlx hca_handle=3",
                "mlx hca_handle=max hca_object=1\n",
                Some("mlx hca_handle=max hca_object=1"),
            ),
            ("rdma.max", "mlx hca_handle=3", "a hca_handle=1\nmlx hca_handle=2\n", Some("mlx hca_handle=2")),
            ("net_prio.ifpriomap", "lo 5", "lo 0\neth0 0\n", Some("lo 0")),
            ("unknown.file", "8:0 x=1", "", None),
        ];
        for (file, value, old, expected) in cases {
            assert_eq!(undo(file, value, old).as_deref(), expected, "{file} {value:?} over {old:?}");
        }
    }
}
