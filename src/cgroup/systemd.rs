//! Cgroups made by systemd: which unit, where it lies, and the calls that make, change and end it.
//!
//! systemd owns the tree: it makes the directories, and writes into them what it knows of whenever it likes (at
//! every `daemon-reload`, say). So a container is a unit with the limits as its properties ([`property`]); what
//! systemd has no property for goes into the files as ever. Both come from the same lines ([`super::write::Write`]),
//! and cannot disagree.
//!
//! <https://systemd.io/CGROUP_DELEGATION>, org.freedesktop.systemd1(5), systemd.resource-control(5)

pub mod property;
pub mod variant;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use specconv::Warning;

use super::dbus::wire::{Message, Value};
use super::dbus::{Address, Connection, Failure, Method};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{Errno, cgroupfs};
use property::{Origin, Property};

const FIELD: &str = "linux.cgroupsPath";

/// How long systemd may take for a job, or for anything; runc's number.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cgroup that a systemd manages, as a unit: all others lie in it.
const ROOT_SLICE: &str = "-.slice";

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// Which systemd makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instance {
    /// The system's, process 1.
    System,
    /// The user's own (`systemd --user`).
    User,
}

/// Facts about the systemd that will make the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    /// Which one.
    pub instance: Instance,
    /// The cgroup that it manages, as /proc/PID/cgroup names it: `/`, or the one of `user@1000.service`.
    pub root: String,
}

/// A unit of ours, as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `runc-web.scope`.
    pub name: String,
    /// Whose it is.
    pub instance: Instance,
}

/// What StartTransientUnit is to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The unit.
    pub unit: Unit,
    /// The slice that it lies in.
    pub slice: String,
    /// The container's id, for people.
    pub id: String,
    /// What the container's own annotations ask for, last of all.
    pub annotated: Vec<Property>,
}

impl Systemd {
    /// Finds the systemd that a container of ours belongs to: root's is the system's, a user's their own. Root of a user
    /// namespace is either the root of a machine that is a container, or a user in disguise; who may talk to the system's
    /// systemd is the former.
    ///
    /// # Errors
    /// No systemd runs here, or none that talks to us.
    pub fn observe(uid: u32, in_user_namespace: bool) -> Result<Systemd> {
        let is_system = match (uid, in_user_namespace) {
            (0, false) => true,
            (0, true) => Connection::open(&private(), PATIENCE).is_ok(),
            _ => false,
        };
        if is_system {
            // sd_booted(3); runc's words.
            if !Path::new("/run/systemd/system").is_dir() {
                let why = "systemd not running on this host, cannot use systemd cgroups manager";
                return Err(Error::new(Kind::Unsupported, why));
            }
            return Ok(Systemd { instance: Instance::System, root: root_of_init() });
        }
        let property =
            Method { service: SERVICE, object: OBJECT, interface: "org.freedesktop.DBus.Properties", name: "Get" };
        let mut connection = connect(Instance::User)?;
        let answer = connection.call(property, &[Value::text(INTERFACE), Value::text("ControlGroup")]);
        let answer = answer.doing("ask the user's systemd for its cgroup")?;
        match answer.values.as_slice() {
            [Value::Variant(root)] => match root.as_ref() {
                Value::Text(root) => Ok(Systemd { instance: Instance::User, root: root.clone() }),
                _ => Err(connection.senseless("Get(ControlGroup)")),
            },
            _ => Err(connection.senseless("Get(ControlGroup)")),
        }
    }
}

/// The cgroup that process 1 manages: the one above its own `init.scope`.
fn root_of_init() -> String {
    let text = cgroupfs::openat_read(rustix::fs::CWD, "/proc/1/cgroup")
        .and_then(|file| cgroupfs::read(std::os::fd::AsFd::as_fd(&file), 1 << 16))
        .unwrap_or_default();
    managed(&text).to_owned()
}

fn managed(memberships: &str) -> &str {
    let own = memberships.lines().find_map(|line| line.split_once(":name=systemd:").or_else(|| line.split_once("::")));
    own.and_then(|(_, path)| path.strip_suffix("/init.scope")).unwrap_or_default()
}

/// The unit that `linux.cgroupsPath` names, and the slice it lies in. Pure; runc's rules.
///
/// `slice:prefix:name` is the scope `prefix-name.scope` in the slice, or the slice `name` itself where the name ends
/// in `.slice`. Without a path it is `runc-ID.scope`, as engines that look for it expect.
///
/// # Errors
/// A path of any other form; names that no unit can have.
pub fn unit(wish: Option<&str>, id: &str, instance: Instance) -> Result<(Unit, String)> {
    let (slice, prefix, name) = match wish.filter(|wish| !wish.is_empty()) {
        None => ("", "runc", id),
        Some(wish) => {
            let parts: Vec<&str> = wish.split(':').collect();
            let [slice, prefix, name] = parts.as_slice() else {
                let why = format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {wish:?} instead"
                );
                return Err(Error::invalid(FIELD, why));
            };
            (*slice, *prefix, *name)
        }
    };
    let default = if instance == Instance::User { "user.slice" } else { "system.slice" };
    let slice = if slice.is_empty() { default } else { slice };
    let name = if is_slice(name) {
        name.to_owned()
    } else if prefix.is_empty() {
        format!("{name}.scope")
    } else {
        format!("{prefix}-{name}.scope")
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    // systemd.unit(5): these characters, and 255 of them at the most. It also keeps the name one component of a path.
    if name.len() > 255 || !name.chars().all(fits) || name.starts_with('.') || name == ROOT_SLICE {
        return Err(Error::invalid(FIELD, format!("{name:?} cannot be the name of a unit of systemd")));
    }
    Ok((Unit { name, instance }, slice.to_owned()))
}

fn is_slice(name: &str) -> bool {
    name.ends_with(".slice")
}

/// Where a slice lies below systemd's root: `a-b.slice` in `a.slice/a-b.slice` (systemd.slice(5)). Pure.
///
/// # Errors
/// What is no name of a slice.
pub fn expand(slice: &str) -> Result<String> {
    let invalid = || Error::invalid(FIELD, format!("invalid slice name: {slice}"));
    let name =
        slice.strip_suffix(".slice").filter(|name| !name.is_empty() && !name.contains('/')).ok_or_else(invalid)?;
    if slice == ROOT_SLICE {
        return Ok(String::new());
    }
    let mut path = Vec::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() || part.starts_with('.') {
            return Err(invalid());
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Ok(path.join("/"))
}

impl Unit {
    /// The directory of the unit below systemd's root.
    ///
    /// # Errors
    /// As [`expand`].
    pub fn path(&self, slice: &str) -> Result<String> {
        let slice =
            if is_slice(&self.name) { expand(&self.name)? } else { format!("{}/{}", expand(slice)?, self.name) };
        Ok(slice.trim_start_matches('/').to_owned())
    }

    /// Whether it is a slice, which takes no process at its making.
    pub fn is_slice(&self) -> bool {
        is_slice(&self.name)
    }

    /// Makes the unit, with the process in it, and waits until it is made. Where a failed unit of that name is left
    /// over, it is cleared away first.
    ///
    /// # Errors
    /// [`Kind::Exists`] where the unit is there already, and so is nothing of ours; systemd's refusal; no answer in time,
    /// and then the unit is stopped again.
    pub fn start(&self, start: &Start, properties: &[Property], pid: u32) -> Result<Vec<Warning>> {
        let mut connection = connect(self.instance)?;
        connection.subscribe(SERVICE, OBJECT, INTERFACE, "JobRemoved");
        let mut all = start.frame(pid);
        all.extend(properties.iter().cloned());
        all.extend(start.annotated.iter().cloned());
        let mut passed = Vec::new();
        let mut reset = false;
        let answer = loop {
            let tried = with_known(&mut all, &mut passed, |properties| {
                let arguments = [
                    Value::text(&*self.name),
                    Value::text("replace"),
                    property::list(properties),
                    Value::Array(Cow::Borrowed("(sa(sv))"), Vec::new()),
                ];
                connection.call(manager("StartTransientUnit"), &arguments)
            });
            match tried {
                Err(Failure::Refused { ref name, .. }) if name.ends_with(".UnitExists") && !reset => {
                    reset = true;
                    let _ = connection.call(manager("ResetFailedUnit"), &[Value::text(&*self.name)]);
                }
                Err(Failure::Refused { ref name, .. }) if name.ends_with(".UnitExists") => {
                    let why = format!("systemd has a unit {} already, and it is not a failed one", self.name);
                    return Err(Error::new(Kind::Exists, why));
                }
                done => break done.doing_with(|| self.doing("make"))?,
            }
        };
        let done = self.job(&mut connection, &answer).doing_with(|| self.doing("make"));
        if done.is_err() {
            // A unit that comes late finds its process dead, and goes with it; of one that failed nothing is to stay.
            let _ = connection.call(manager("ResetFailedUnit"), &[Value::text(&*self.name)]);
        }
        done.map(|()| passed)
    }

    /// Changes properties of the unit, until it ends.
    ///
    /// # Errors
    /// systemd's refusal.
    pub fn set(&self, properties: &[Property]) -> Result<Vec<Warning>> {
        let mut passed = Vec::new();
        if properties.is_empty() {
            return Ok(passed);
        }
        let mut connection = connect(self.instance)?;
        let mut properties = properties.to_vec();
        with_known(&mut properties, &mut passed, |properties| {
            let arguments = [Value::text(&*self.name), Value::Bool(true), property::list(properties)];
            connection.call(manager("SetUnitProperties"), &arguments)
        })
        .doing_with(|| self.doing("change"))?;
        Ok(passed)
    }

    /// Has systemd move a process into the unit, or into a cgroup below it (`/` is the unit's own): what a user may not
    /// do alone where the way leads through a cgroup of somebody else's.
    ///
    /// # Errors
    /// systemd's refusal.
    pub fn attach(&self, below: &str, pid: u32) -> Result<()> {
        let mut connection = connect(self.instance)?;
        let pids = Value::Array(Cow::Borrowed("u"), vec![Value::U32(pid)]);
        let arguments = [Value::text(&*self.name), Value::text(below), pids];
        let done = connection.call(manager("AttachProcessesToUnit"), &arguments);
        done.map(drop).doing_with(|| format!("put process {pid} into the unit {} of systemd", self.name))
    }

    /// Ends the unit, waits until that is done, and has systemd forget a failure of it. One that is gone is no error.
    ///
    /// # Errors
    /// systemd's refusal, or no answer in time.
    pub fn stop(&self) -> Result<()> {
        let mut connection = connect(self.instance)?;
        connection.subscribe(SERVICE, OBJECT, INTERFACE, "JobRemoved");
        let name = [Value::text(&*self.name), Value::text("replace")];
        match connection.call(manager("StopUnit"), &name) {
            Err(Failure::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => return Ok(()),
            answer => {
                let answer = answer.doing_with(|| self.doing("stop"))?;
                // Whether it ended well does not matter: it is over, and what it may have left is forgotten.
                self.job(&mut connection, &answer).or_else(|error| match error.kind() {
                    Kind::WrongState => Ok(()),
                    _ => Err(error).doing_with(|| self.doing("stop")),
                })?;
            }
        }
        match connection.call(manager("ResetFailedUnit"), &[Value::text(&*self.name)]) {
            Err(Failure::Broken(error)) => Err(error).doing_with(|| self.doing("forget")),
            // It is gone already.
            _ => Ok(()),
        }
    }

    /// Waits for the end of the job that a call has answered with.
    fn job(&self, connection: &mut Connection, answer: &super::dbus::Answer) -> Result<()> {
        let [Value::Path(job), ..] = answer.values.as_slice() else {
            return Err(connection.senseless("a job"));
        };
        let ended = |signal: &Message| {
            let is_it = signal.path == OBJECT && signal.interface == INTERFACE && signal.member == "JobRemoved";
            match signal.values().filter(|_| is_it)?.as_slice() {
                [_, Value::Path(path), _, Value::Text(result)] if path == job => Some(result.clone()),
                _ => None,
            }
        };
        let result = connection.wait(&format!("the end of {}'s job", self.name), &answer.sender, ended)?;
        if result == "done" {
            return Ok(());
        }
        // `failed`, `timeout`, `canceled`, `dependency`, `skipped` (org.freedesktop.systemd1(5)); runc's words.
        Err(Error::new(Kind::WrongState, format!("systemd unit `{}`: got `{result}`", self.name)))
    }

    fn doing(&self, what: &str) -> String {
        format!("have systemd {what} the unit {}", self.name)
    }
}

impl Start {
    /// What makes the unit a container's, in runc's order; all systemds know these.
    fn frame(&self, pid: u32) -> Vec<Property> {
        let needed = |name, value| Property::new(name, value, Origin::Needed);
        let mut frame = vec![needed("Description", Value::text(format!("orlop container {}", self.id)))];
        if self.unit.is_slice() {
            frame.push(needed("Wants", Value::texts([self.slice.clone()])));
        } else {
            frame.push(needed("Slice", Value::text(&*self.slice)));
            frame.push(needed("Delegate", Value::Bool(true)));
            frame.push(needed("PIDs", Value::Array(Cow::Borrowed("u"), vec![Value::U32(pid)])));
        }
        for name in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            frame.push(needed(name, Value::Bool(true)));
        }
        frame.push(needed("DefaultDependencies", Value::Bool(false)));
        frame
    }
}

/// Calls with properties; one that this systemd does not know is left out, with a warning, where its value goes into a
/// file as well. So no version has to be asked for, and a systemd to which a distribution has added a property gets it.
fn with_known<T>(
    properties: &mut Vec<Property>,
    passed: &mut Vec<Warning>,
    mut call: impl FnMut(&[Property]) -> std::result::Result<T, Failure>,
) -> std::result::Result<T, Failure> {
    loop {
        match call(properties) {
            Err(Failure::Refused { name, message, call }) => match property::unknown(properties, &name, &message) {
                Some(at) => {
                    let property = properties.remove(at);
                    let what = format!(
                        "this systemd does not know {}: the value stands in the cgroup's file alone, and may be lost at \
                         its daemon-reload",
                        property.name
                    );
                    passed.push(Warning { field: property.field(), what });
                }
                None => return Err(Failure::Refused { name, message, call }),
            },
            done => return done,
        }
    }
}

fn manager(name: &str) -> Method<'_> {
    Method { service: SERVICE, object: OBJECT, interface: INTERFACE, name }
}

/// The system's systemd itself. Only root may talk to it there.
fn private() -> Address {
    Address { path: PathBuf::from("/run/systemd/private"), is_bus: false }
}

/// Connects to systemd: to itself if possible, as systemctl does, since that asks for fewer messages and for no bus
/// that may be missing, slow or full; else over the bus. A bus that the environment names for the system goes first.
fn connect(instance: Instance) -> Result<Connection> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let bus = |path: PathBuf| Address { path, is_bus: true };
    let mut addresses = Vec::new();
    match instance {
        Instance::System => {
            addresses.extend(variable("DBUS_SYSTEM_BUS_ADDRESS").iter().flat_map(|list| Address::parse(list)));
            addresses.push(private());
            addresses.push(bus("/run/dbus/system_bus_socket".into()));
        }
        Instance::User => {
            let uid = rustix::process::geteuid().as_raw();
            let runtime = variable("XDG_RUNTIME_DIR").map_or_else(|| format!("/run/user/{uid}").into(), PathBuf::from);
            addresses.push(Address { path: runtime.join("systemd/private"), is_bus: false });
            addresses.extend(variable("DBUS_SESSION_BUS_ADDRESS").iter().flat_map(|list| Address::parse(list)));
            addresses.push(bus(runtime.join("bus")));
        }
    }
    let mut why = Vec::new();
    for address in &addresses {
        match Connection::open(address, PATIENCE) {
            Ok(connection) => return Ok(connection),
            // Who listens and is too busy to answer is not faster by another road.
            Err(error) if matches!(error.errno(), Some(Errno::ETIMEDOUT | Errno::EAGAIN)) => return Err(error),
            Err(error) => why.push(error.to_string()),
        }
    }
    Err(Error::new(Kind::Unsupported, format!("cannot talk to systemd: {}", why.join("; "))))
}

#[cfg(test)]
mod tests;
