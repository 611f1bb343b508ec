//! Writing what was planned: the only place in orlop that writes a limit.

use std::os::fd::{AsFd, OwnedFd};

use specconv::Warning;

use super::group::{Cgroup, Directory, read};
use super::systemd::property::{Property, without_few_tasks};
use super::write::{Absent, Refused, When, Write};
use super::{Devices, Plan, UsageCheck, devices, filter};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{Errno, cgroupfs};

/// The file that was written last, kept open for the next line: device rules are a dozen lines for one file.
#[derive(Default)]
struct Open<'a> {
    place: Option<(&'a Directory, &'a str)>,
    file: Option<OwnedFd>,
}

impl Cgroup {
    /// Writes the limits and device rules of the plan that made this cgroup, once every process that helps to
    /// make the container is born. Returns what had to be let pass.
    ///
    /// # Errors
    /// The field whose value the kernel refuses.
    pub fn apply(&self, plan: &Plan) -> Result<Vec<Warning>> {
        let (_, few) = without_few_tasks(&plan.properties);
        let mut passed = self.set_properties(&few)?;
        self.write_rows(plan.rows(When::Limit))?;
        if !self.binds_devices_early(plan) {
            passed.extend(self.bind_devices(plan)?);
        }
        Ok(passed)
    }

    /// Changes properties of the unit, where there is one.
    ///
    /// systemd writes all that it knows when it writes anything, the device rules of v1 among them, which it begins by
    /// denying everything: nobody may be awake to see that (runc's `freezeBeforeSet`).
    pub(super) fn set_properties(&self, properties: &[Property]) -> Result<Vec<Warning>> {
        let Some(unit) = self.unit.as_ref().filter(|_| !properties.is_empty()) else { return Ok(Vec::new()) };
        let freezes = self.legacy("devices").is_some() && self.freezer().is_some() && !self.is_frozen()?;
        if freezes {
            self.freeze()?;
        }
        let done = unit.set(properties);
        if freezes {
            self.thaw()?;
        }
        done
    }

    /// Writes the limits and device rules of a later plan (`update`) over those that stand.
    ///
    /// # Errors
    /// As [`Cgroup::apply`], and a limit below what is in use where `checkBeforeUpdate` asks for that.
    pub fn update(&self, plan: &Plan) -> Result<Vec<Warning>> {
        if let Some(check) = plan.usage {
            self.check_usage(check)?;
        }
        self.write_rows(plan.writes().iter())?;
        let mut passed = self.bind_devices(plan)?;
        // The kernel's word goes first: what it refuses, systemd is not told.
        passed.extend(self.set_properties(&plan.properties)?);
        Ok(passed)
    }

    /// Writes lines in their order; one that does not fit the old values goes again at the end.
    pub(super) fn write_rows<'a>(&'a self, rows: impl Iterator<Item = &'a Write>) -> Result<()> {
        let mut open = Open::default();
        let mut later = Vec::new();
        for row in rows {
            match self.write_row(row, &mut open) {
                Err(error) if row.refused == Refused::TryAgainLast && error.errno() == Some(Errno::EINVAL) => {
                    later.push(row);
                }
                done => done.at(|| row.field.clone().into_owned())?,
            }
        }
        later.into_iter().try_for_each(|row| self.write_row(row, &mut open).at(|| row.field.clone().into_owned()))
    }

    fn write_row<'a>(&'a self, row: &'a Write, open: &mut Open<'a>) -> Result<()> {
        let Some(directory) = self.with(&row.controller) else {
            let controller = row.controller.name();
            let why = format!("cannot set {controller} limit: container could not join or create cgroup");
            return Err(Error::new(Kind::Unsupported, why));
        };
        match write_line(directory, &row.file, &row.value, open) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => match &row.absent {
                Absent::MeansAlreadySo => Ok(()),
                Absent::Instead { file, value } => write_line(directory, file, value, open),
                Absent::IsAnError => Err(missing(directory, row, error)),
            },
            Err(error) if error.errno() == Some(Errno::EBUSY) && row.file == "memory.limit_in_bytes" => {
                Err(too_low(directory, row))
            }
            done => done,
        }
    }

    /// The lines of v1 begin with one that denies everything. Where nobody else can be in the cgroup they are written
    /// before anybody enters, or init, which makes its devices at the same time, would now and then be refused mknod.
    pub(super) fn bind_fresh_devices(&self, plan: &Plan) -> Result<Vec<Warning>> {
        if self.binds_devices_early(plan) { self.bind_devices(plan) } else { Ok(Vec::new()) }
    }

    fn binds_devices_early(&self, plan: &Plan) -> bool {
        matches!(plan.devices, Devices::V1(_)) && self.legacy("devices").is_some_and(|directory| directory.fresh)
    }

    pub(super) fn bind_devices(&self, plan: &Plan) -> Result<Vec<Warning>> {
        let done = match &plan.devices {
            Devices::Unbound => Ok(()),
            Devices::V1(list) => self.legacy("devices").map_or(Ok(()), |directory| {
                let writes = if directory.fresh {
                    list.writes()
                } else {
                    list.writes_from(&directory.read("devices.list").at(|| devices::FIELD.to_owned())?)
                };
                filter::explained_v1(self.write_rows(writes.iter()))
            }),
            Devices::V2(program) => self.v2().map_or(Ok(()), |directory| match (program, directory.fresh) {
                (None, true) => Ok(()),
                (Some(program), true) => filter::attach(directory.handle()?, program),
                (None, false) => filter::detach(directory.handle()?),
                (Some(program), false) => filter::replace(directory.handle()?, program),
            }),
        };
        match done {
            Err(error) if plan.lenient_devices && filter::is_forbidden(&error) => {
                let what = format!("not enforced: {error}");
                let warning = Warning { field: devices::FIELD.to_owned(), what };
                Ok(plan.asked_devices.then_some(warning).into_iter().collect())
            }
            done => done.map(|()| Vec::new()),
        }
    }

    /// Sentences of runc's. A cgroup that does not tell its usage is let pass, as runc does.
    fn check_usage(&self, check: UsageCheck) -> Result<()> {
        let Some(directory) = self.v2() else { return Ok(()) };
        let usage = |file| directory.read(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let Some(memory) = usage("memory.current") else { return Ok(()) };
        let total = memory.saturating_add(usage("memory.swap.current").unwrap_or(0));
        let refuse = |what, limit, usage| {
            let why = format!("rejecting {what} limit {limit} <= usage {usage}");
            Err(Error::new(Kind::Invalid, why)).at(|| "linux.resources.memory.checkBeforeUpdate".to_owned())
        };
        match (check.total, check.memory) {
            (Some(limit), _) if limit <= total => refuse("memory+swap", limit, total),
            (_, Some(limit)) if limit <= memory => refuse("memory", limit, memory),
            _ => Ok(()),
        }
    }
}

fn write_line<'a>(directory: &'a Directory, file: &'a str, value: &str, open: &mut Open<'a>) -> Result<()> {
    let same = open.place.is_some_and(|(old, name)| std::ptr::eq(old, directory) && name == file);
    if !same {
        open.place = None;
        open.file = Some(cgroupfs::openat_write(directory.handle()?, file)?);
        open.place = Some((directory, file));
    }
    match &open.file {
        Some(file) => Ok(cgroupfs::write(file.as_fd(), value)?),
        None => Ok(()),
    }
}

/// Names what is missing behind a missing file.
fn missing(directory: &Directory, row: &Write, error: Error) -> Error {
    let controller = row.controller.name();
    let path = directory.path.display();
    let off = directory.is_v2()
        && controller != "cgroup"
        && directory
            .handle()
            .ok()
            .and_then(|handle| read(handle, "cgroup.controllers").ok())
            .is_some_and(|available| !available.split_whitespace().any(|name| name == controller));
    if off {
        return Error::new(Kind::Unsupported, format!("controller {controller:?} not available in {path}"));
    }
    let why = format!("{path} has no file {:?}: this kernel does not have it, or has it switched off", row.file);
    error.doing(why)
}

/// The kernel's EBUSY: the group already uses more and cannot give it back. A sentence of runc's.
fn too_low(directory: &Directory, row: &Write) -> Error {
    let number = |file| directory.read(file).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
    let (usage, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
    let what = format!("unable to set memory limit to {} (current usage: {usage}, peak usage: {peak})", row.value);
    Error::new(Kind::Other, what)
}
