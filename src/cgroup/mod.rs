//! Cgroups: where, what to write, and a handle on one that exists.
//!
//! [`plan`] decides everything from a config and the host's [`Layout`] and touches nothing: which directories
//! ([`place`]), and which line goes into which file (`v1`, `v2`, `devices`) as rows of [`Write`]. A host in
//! hybrid mode takes each controller from where it is mounted, so a plan may hold rows of both versions.
//! [`make`] then makes the directories, and [`Cgroup`] is the handle through which all the rest is done: put a
//! process in, write the rows, freeze, kill, remove.
//!
//! The specification's driver-independent words are in config-linux.md#control-groups.

mod apply;
mod dbus;
mod delegated;
mod devices;
mod filter;
mod freeze;
mod group;
mod inner;
pub mod layout;
mod make;
pub mod place;
pub mod stats;
mod systemd;
mod update;
mod v1;
mod v2;
pub mod watch;
pub mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use specconv::{Limit, Memory, Resources, Swap, Warning};

#[cfg(any(test, fuzzing))]
pub(crate) use dbus::{Address, wire};
pub use delegated::Delegated;
#[cfg(any(test, fuzzing))]
pub(crate) use devices::understood;
pub use group::{Cgroup, Entrance};
pub use layout::{Hierarchy, Layout, Mode};
pub use make::make;
pub use place::Place;
pub use systemd::{Instance, Systemd};
#[cfg(any(test, fuzzing))]
pub(crate) use systemd::{expand, unit, variant};
pub use update::{Before, DeviceRules, plan_update};
pub use write::Write;

use crate::error::{Error, Kind, Result};
use crate::sys::bpf::Instruction;
use write::{Controller, Rows, When, set};

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// orlop itself, with mkdir.
    #[default]
    Cgroupfs,
    /// systemd, asked over D-Bus.
    Systemd,
    /// Nobody: the container stays in the runtime's own cgroup.
    Disabled,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's id, which names the cgroup where the config does not.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// Who makes it.
    pub driver: Driver,
    /// `linux.resources`.
    pub resources: &'a Resources,
    /// Whether the runtime has no right of root over cgroups. Without a path and without limits it may then do
    /// without a cgroup, and without device rules, with a warning where the config has some.
    pub rootless: bool,
    /// Whether the runtime itself (not the container) runs in a user namespace other than the first. The kernel
    /// takes device rules only from the first one; elsewhere their refusal is a warning.
    pub in_user_namespace: bool,
    /// Who may divide the cgroup further, by the host's user id: its directory and the files of the kernel's list become theirs (cgroup v2).
    pub delegate_to: Option<u32>,
    /// The container's annotations: some are for systemd.
    pub annotations: &'a BTreeMap<String, String>,
    /// The systemd that makes the cgroup; [`Driver::Systemd`] needs one.
    pub systemd: Option<&'a Systemd>,
    /// The cgroup below the container's in which the program begins.
    pub delegated: Option<&'a Delegated>,
}

/// Where the container goes and what is written there: all decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    driver: Driver,
    mode: Mode,
    /// Empty where there is to be no cgroup.
    places: Vec<Place>,
    /// Where the runtime itself is, for a container that stays there.
    own: Vec<View>,
    writes: Vec<Write>,
    devices: Devices,
    usage: Option<UsageCheck>,
    warnings: Vec<Warning>,
    /// Whether a refused mkdir leaves the container without that directory instead of failing.
    lenient: bool,
    /// Whether refused device rules are let pass.
    lenient_devices: bool,
    /// Whether some of the device rules are the config's own, so that there is a warning where they are let pass.
    asked_devices: bool,
    /// Who gets the container's directory and the files of the kernel's list (`/sys/kernel/cgroup/delegate`), so that
    /// it may make cgroups below. Only on v2: v1 has no safe delegation (cgroups(7)).
    delegate_to: Option<u32>,
    /// The unit to be made; `None` where systemd makes nothing.
    unit: Option<systemd::Start>,
    /// The lines and device rules as properties of the unit; empty where there is none.
    properties: Vec<systemd::property::Property>,
    /// The cgroup below the container's in which the program begins.
    delegated: Option<Delegated>,
}

/// What becomes of the device rules.
#[derive(Debug, Clone, PartialEq)]
enum Devices {
    /// There is no cgroup to bind them to.
    Unbound,
    /// Lines for the devices controller of v1.
    V1(devices::List),
    /// A program for v2; `None` allows everything.
    V2(Option<Vec<Instruction>>),
}

/// `memory.checkBeforeUpdate`: limits that are refused where more is in use. Version 1 refuses by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UsageCheck {
    /// Bytes of memory.
    memory: Option<u64>,
    /// Bytes of memory and swap together.
    total: Option<u64>,
}

/// One hierarchy as the container is to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Where the host has it mounted.
    pub mount_point: PathBuf,
    /// Controllers of a hierarchy of v1, `name=systemd` among them; empty for v2.
    pub controllers: Vec<String>,
    /// The container's directory in it, an absolute path of the host.
    pub path: PathBuf,
}

/// What the record keeps of a cgroup, shaped as runc's `cgroup_paths`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Who made it.
    pub manager: Driver,
    /// Absolute directory by controller; v2 is the empty name.
    pub paths: BTreeMap<String, PathBuf>,
    /// The directories among them that were made for this container; only these are removed.
    pub made: Vec<PathBuf>,
    /// The unit of systemd's that was made for this container; only this one is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<systemd::Unit>,
    /// Whether init began in a cgroup below, so that the cgroup itself is to stay empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delegated: bool,
}

impl Saved {
    /// The part that has this controller: one directory to open instead of a dozen.
    pub fn part(&self, controller: &str) -> Saved {
        let paths = [controller, ""].iter().find_map(|name| self.paths.get_key_value(*name));
        let paths = paths.map(|(name, path)| (name.clone(), path.clone())).into_iter().collect();
        Saved { manager: self.manager, paths, made: Vec::new(), unit: None, delegated: false }
    }
}

/// Decides where the container goes and what is written there. Pure.
///
/// # Errors
/// What this host or this version cannot do, with the field that asks for it.
pub fn plan(request: &Request<'_>, layout: &Layout) -> Result<Plan> {
    let mut rows = Rows::default();
    let mut plan = Plan {
        driver: request.driver,
        mode: layout.mode,
        places: Vec::new(),
        own: own(layout),
        writes: Vec::new(),
        devices: Devices::Unbound,
        usage: None,
        warnings: Vec::new(),
        lenient: request.rootless && request.cgroups_path.is_none_or(str::is_empty),
        lenient_devices: request.rootless || request.in_user_namespace,
        asked_devices: !request.resources.devices.is_empty(),
        delegate_to: request.delegate_to.filter(|_| layout.mode == Mode::Unified),
        unit: None,
        properties: Vec::new(),
        delegated: request.delegated.map(|asked| delegated::plan(asked, layout.mode)).transpose()?,
    };
    match request.driver {
        Driver::Disabled => {
            fill(request.resources, layout, &mut rows)?;
            if let Some(write) = rows.writes.first() {
                return Err(Error::unsupported(&write.field, "cgroups are disabled (--cgroup-manager disabled)"));
            }
            if !request.resources.devices.is_empty() {
                rows.warn(devices::FIELD, "ignored: cgroups are disabled (--cgroup-manager disabled)");
            }
        }
        Driver::Cgroupfs | Driver::Systemd => {
            if layout.mode == Mode::Absent {
                return Err(Error::unsupported("linux.cgroupsPath", "no cgroup hierarchy is mounted on this host"));
            }
            fill(request.resources, layout, &mut rows)?;
            let joined = layout.hierarchies.iter().filter(|hierarchy| place::is_joined(hierarchy));
            if request.driver == Driver::Systemd {
                let (start, path) = start(request, layout)?;
                for hierarchy in joined {
                    plan.places.push(place::place_of_unit(&path, hierarchy)?);
                }
                plan.unit = Some(start);
                plan.lenient = false;
            } else {
                for hierarchy in joined {
                    plan.places.push(place::place(request.cgroups_path, request.id, hierarchy, layout.mode)?);
                }
            }
            plan.devices = bind_devices(request, layout, &mut rows)?;
            plan.properties = properties(request.driver, &plan.devices, &mut rows)?;
            if plan.unit.is_some() {
                plan.properties.extend(systemd::property::oom_policy(&rows.writes));
            }
            if layout.legacy("memory").is_none() {
                plan.usage = usage_check(&request.resources.memory);
            }
        }
    }
    plan.writes = rows.writes;
    plan.warnings = rows.warnings;
    Ok(plan)
}

impl Plan {
    /// How the hierarchies lie on this host.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the cgroup can only be made around a process ([`Cgroup::make_unit`]).
    pub fn needs_process(&self) -> bool {
        self.unit.is_some()
    }

    /// The lines that will be written, without those about devices.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Every hierarchy with the container's directory in it, for the container's own cgroup mounts. Where cgroups
    /// are disabled this is the runtime's own directory.
    pub fn view(&self) -> Vec<View> {
        if self.places.is_empty() {
            return self.own.clone();
        }
        let view = |place: &Place| View {
            mount_point: place.mount_point.clone(),
            controllers: place.controllers.clone(),
            path: place.directory(),
        };
        self.places.iter().map(view).collect()
    }

    /// What was asked and does nothing on this host.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What [`Cgroup::saved`] will say once [`make`] has made it: recorded before, so that a runtime that is killed
    /// in between leaves nothing that cannot be found. Looks which directories are there already.
    pub fn forecast(&self) -> Saved {
        // A unit is noted when it is made, since until then it may turn out to be somebody else's. If we die in between,
        // its only process, which has a death signal, dies too, and systemd clears a scope away that is empty.
        let mut saved = Saved { manager: self.driver, delegated: self.delegates(), ..Saved::default() };
        for place in &self.places {
            let directory = place.directory();
            if !directory.exists() {
                saved.made.push(directory.clone());
            }
            if place.is_v2() {
                saved.paths.insert(String::new(), directory.clone());
            }
            saved.paths.extend(place.controllers.iter().map(|name| (name.clone(), directory.clone())));
        }
        saved
    }

    fn rows(&self, when: When) -> impl Iterator<Item = &Write> {
        self.writes.iter().filter(move |write| write.when == when)
    }
}

/// The unit that systemd is to make, and its cgroup's path as /proc/PID/cgroup will name it.
fn start(request: &Request<'_>, layout: &Layout) -> Result<(systemd::Start, String)> {
    let Some(manager) = request.systemd else {
        return Err(Error::new(Kind::Other, "nobody has looked for the systemd that is to make the cgroup"));
    };
    if manager.instance == Instance::User && layout.mode != Mode::Unified {
        // runc's words; v1 has no safe delegation (cgroups(7)).
        let why = "cannot use rootless systemd cgroups manager on cgroup v1";
        return Err(Error::unsupported("--systemd-cgroup", why));
    }
    let (unit, slice) = systemd::unit(request.cgroups_path, request.id, manager.instance)?;
    let path = format!("{}/{}", manager.root.trim_end_matches('/'), unit.path(&slice)?);
    let annotated = systemd::variant::annotated(request.annotations)?;
    Ok((systemd::Start { unit, slice, id: request.id.to_owned(), annotated }, path))
}

/// The lines and the device rules once more, for systemd; none for another driver.
fn properties(driver: Driver, devices: &Devices, rows: &mut Rows) -> Result<Vec<systemd::property::Property>> {
    if driver != Driver::Systemd {
        return Ok(Vec::new());
    }
    systemd::property::round_quotas(&mut rows.writes);
    let mut properties = systemd::property::of_rows(&rows.writes)?;
    if let Devices::V1(list) = devices {
        properties.extend(systemd::property::of_devices(list, rows));
    }
    Ok(properties)
}

fn own(layout: &Layout) -> Vec<View> {
    let view = |hierarchy: &Hierarchy| {
        // A cgroup outside of what the mount shows cannot be shown; the mount itself is the nearest.
        let below = Path::new(&hierarchy.own).strip_prefix(&hierarchy.root).unwrap_or(Path::new(""));
        View {
            mount_point: hierarchy.mount_point.clone(),
            controllers: hierarchy.controllers.clone(),
            path: hierarchy.mount_point.join(below),
        }
    };
    layout.hierarchies.iter().map(view).collect()
}

/// All rows, each controller's in the version that has it on this host.
fn fill(resources: &Resources, layout: &Layout, rows: &mut Rows) -> Result<()> {
    let legacy = |controller: &str| layout.v2().is_none() || layout.legacy(controller).is_some();
    if legacy("pids") {
        v1::pids(resources.pids, rows)
    } else {
        v2::pids(resources.pids, rows)
    }
    if legacy("memory") {
        v1::memory(&resources.memory, rows)?
    } else {
        v2::memory(&resources.memory, rows)?
    }
    if legacy("blkio") {
        v1::block_io(&resources.block_io, rows)
    } else {
        v2::block_io(&resources.block_io, rows)?
    }
    if legacy("cpu") {
        v1::cpu(&resources.cpu, rows)
    } else {
        v2::cpu(&resources.cpu, rows)?
    }
    if legacy("cpuset") {
        v1::cpuset(&resources.cpu, rows)
    } else {
        v2::cpuset(&resources.cpu, rows)
    }
    let pages = &resources.hugepage_limits;
    if legacy("hugetlb") {
        v1::hugetlb(pages, rows)
    } else {
        v2::hugetlb(pages, rows)
    }
    if legacy("rdma") {
        v1::rdma(&resources.rdma, rows)
    } else {
        v2::rdma(&resources.rdma, rows)
    }
    if layout.mode == Mode::Unified {
        v2::network(&resources.network)?;
    } else {
        v1::network(&resources.network, rows);
    }
    unified(resources, layout, rows)?;
    for write in &rows.writes {
        check(write, layout)?;
    }
    Ok(())
}

/// The config's own files of v2. They come last and win.
fn unified(resources: &Resources, layout: &Layout, rows: &mut Rows) -> Result<()> {
    let first = rows.writes.len();
    v2::unified(&resources.unified, rows)?;
    for write in rows.writes.iter().skip(first) {
        if layout.v2().is_none() {
            return Err(Error::unsupported(&write.field, "cannot use unified on cgroup v1"));
        }
        let controller = write.controller.name();
        if layout.legacy(if controller == "io" { "blkio" } else { controller }).is_some() {
            let why = format!("cannot use unified: the controller {controller:?} is mounted as cgroup v1");
            return Err(Error::unsupported(&write.field, why));
        }
    }
    Ok(())
}

/// A row must go to a hierarchy that is there, and its file must be one name (GHSA-5g49-rx9x-qfc6, T25).
fn check(write: &Write, layout: &Layout) -> Result<()> {
    if write.file.contains('/') {
        return Err(Error::invalid(&write.field, format!("{:?} is not the name of a file", write.file)));
    }
    if let Controller::V1(name) = write.controller
        && layout.legacy(name).is_none()
    {
        let why = format!("this host has no cgroup hierarchy with the controller {name:?}");
        return Err(Error::unsupported(&write.field, why));
    }
    Ok(())
}

fn bind_devices(request: &Request<'_>, layout: &Layout, rows: &mut Rows) -> Result<Devices> {
    let rules = devices::Rules::new(&request.resources.devices)?;
    if layout.legacy("devices").is_some() {
        Ok(Devices::V1(rules.list()?))
    } else if layout.v2().is_some() {
        Ok(Devices::V2(if rules.allow_all() { None } else { Some(rules.program()) }))
    } else if rules.allow_all() {
        Ok(Devices::Unbound)
    } else {
        let why = "this host has neither a devices controller of cgroup v1 nor cgroup v2";
        if !(request.rootless || request.in_user_namespace) {
            return Err(Error::unsupported(devices::FIELD, why));
        }
        rows.warn(devices::FIELD, format!("ignored: {why}"));
        Ok(Devices::Unbound)
    }
}

fn usage_check(memory: &Memory) -> Option<UsageCheck> {
    let bytes = |limit| if let Limit::Max(bytes) = limit { Some(bytes) } else { None };
    let limit = set(memory.limit).and_then(bytes);
    let total = match memory.swap {
        Some(Swap::Bytes(swap)) => limit.map(|limit| limit.saturating_add(swap)),
        _ => None,
    };
    memory.check_before_update.then_some(UsageCheck { memory: limit, total })
}

#[cfg(test)]
mod tests;
