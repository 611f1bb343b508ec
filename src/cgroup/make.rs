//! Making the directories of a plan, and undoing it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::group::{Cgroup, Directory, prove, read};
use super::systemd::property::without_few_tasks;
use super::write::{Controller, When, Write};
use super::{Driver, Mode, Place, Plan};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::cgroupfs;

/// Directories that were made, to be removed again unless all goes well.
#[derive(Default)]
struct Undo(Vec<(PathBuf, String)>);

impl Drop for Undo {
    fn drop(&mut self) {
        for (mount_point, path) in self.0.iter().rev() {
            // A parent that somebody else uses by now stays.
            if let Ok(mount) = cgroupfs::open_directory(mount_point) {
                let _ = cgroupfs::rmdirat(mount.as_fd(), path);
            }
        }
    }
}

/// Makes the directories of the plan, and readies them for a process. What was made is removed on failure.
///
/// # Errors
/// `container's cgroup is not empty: N process(es) found`, `container's cgroup unexpectedly frozen`, a
/// controller that is not available, and what the kernel refuses.
///
/// systemd makes a scope only around a process: [`Cgroup::make_unit`] is to follow.
pub fn make(plan: &Plan) -> Result<Cgroup> {
    let mut undo = Undo::default();
    let mut cgroup = Cgroup {
        manager: plan.driver,
        directories: Vec::new(),
        warnings: Vec::new(),
        unit: None,
        delegated: plan.delegates(),
    };
    match plan.driver {
        Driver::Disabled => return Ok(cgroup),
        Driver::Systemd => {
            cgroup.directories.extend(plan.places.iter().map(yet_to_be_made));
            // systemd would put the process into it all the same, and nobody would hear of it again.
            refuse_frozen(&Cgroup::open(&cgroup.saved())?)?;
            return Ok(cgroup);
        }
        Driver::Cgroupfs => {}
    }
    for place in &plan.places {
        let made = make_place(plan, place, &mut undo);
        match made {
            Ok(directory) => cgroup.directories.push(directory),
            Err(error) if plan.lenient && is_forbidden(&error) => do_without(plan, place, error)?,
            Err(error) => {
                return Err(error).doing_with(|| format!("make the cgroup {}", place.directory().display()));
            }
        }
    }
    refuse_occupied(&cgroup)?;
    cgroup.make_ready(plan, &undo.0)?;
    undo.0.clear();
    Ok(cgroup)
}

fn yet_to_be_made(place: &Place) -> Directory {
    let controllers = place.controllers.clone();
    Directory { controllers, path: place.directory(), handle: None, made: false, fresh: false }
}

impl Cgroup {
    /// Has systemd make the unit of the plan around a process, which waits meanwhile, and makes what systemd does not
    /// know of: hierarchies of v1 without a controller of its, controllers of v2. The process has still to walk through
    /// [`Cgroup::entrance`].
    ///
    /// What was made stands in [`Cgroup::saved`], also after a failure; [`Cgroup::remove`] undoes it.
    ///
    /// # Errors
    /// systemd's refusal, no answer in time, and what the kernel refuses.
    pub fn make_unit(&mut self, plan: &Plan, pid: Pid) -> Result<()> {
        let Some(start) = &plan.unit else { return Ok(()) };
        let (properties, _) = without_few_tasks(&plan.properties);
        let told = start.unit.start(start, &properties, pid.as_raw().unsigned_abs())?;
        self.warnings.extend(told);
        self.unit = Some(start.unit.clone());
        self.directories.clear();
        // The directories lie in the unit: removing the cgroup is undoing enough.
        let mut undo = Undo::default();
        for place in &plan.places {
            let made = || -> Result<Directory> {
                refuse_elsewhere(plan, place)?;
                make_place(plan, place, &mut undo)
            };
            let directory = { made }().doing_with(|| format!("make the cgroup {}", place.directory().display()))?;
            self.directories.push(Directory { made: true, ..directory });
        }
        let made = std::mem::take(&mut undo.0);
        self.make_ready(plan, &made)?;
        // A slice takes no process from systemd, and neither does a hierarchy that systemd does not know of.
        let is_outside = |directory: &Directory| directory.is_v2() && (directory.fresh || start.unit.is_slice());
        if self.directories.iter().any(is_outside) { self.attach_v2(pid) } else { Ok(()) }
    }

    /// What has to stand before anybody enters.
    fn make_ready(&mut self, plan: &Plan, made: &[(PathBuf, String)]) -> Result<()> {
        let cpuset = cpuset_above(plan, self)?;
        realtime_above(plan, made)?;
        self.write_rows(plan.rows(When::BeforeEntry))?;
        fill_cpuset(plan, self, &cpuset)?;
        let passed = self.bind_fresh_devices(plan)?;
        self.warnings.extend(passed);
        Ok(())
    }
}

/// systemd manages one hierarchy, and the unit must be where we look for it: another one's directory would hold nobody.
fn refuse_elsewhere(plan: &Plan, place: &Place) -> Result<()> {
    let is_systemds = match plan.mode {
        Mode::Unified => true,
        _ => place.controllers.iter().any(|name| name == "name=systemd"),
    };
    if !is_systemds || place.directory().is_dir() {
        return Ok(());
    }
    Err(Error::new(Kind::Other, "systemd has made the unit, but not here: is it another machine's systemd?"))
}

/// Without rights over cgroups a container that asks for nothing does without, as in runc; its sentences otherwise.
fn do_without(plan: &Plan, place: &Place, error: Error) -> Result<()> {
    let theirs = |controller: &Controller| match controller {
        Controller::V1(name) => place.controllers.iter().any(|own| own == name),
        Controller::V2(_) => place.is_v2(),
    };
    if let Some(row) = plan.writes.iter().find(|row| theirs(&row.controller)) {
        let why = if place.is_v2() {
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups".to_owned()
        } else {
            format!("cannot set {} limit: container could not join or create cgroup", row.controller.name())
        };
        return Err(error).doing(why).at(|| row.field.clone().into_owned());
    }
    Ok(())
}

fn is_forbidden(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES | Errno::EROFS))
}

fn make_place(plan: &Plan, place: &Place, undo: &mut Undo) -> Result<Directory> {
    let mount = cgroupfs::open_directory(&place.mount_point)?;
    prove(mount.as_fd())?;
    let available = if place.is_v2() { available(plan, mount.as_fd())? } else { Vec::new() };
    let fresh = make_path(mount.as_fd(), place, &place.path, undo)?;
    let handle = cgroupfs::openat_directory(mount.as_fd(), &place.path)?;
    if place.is_v2() {
        enable(&plan.writes, mount.as_fd(), &place.path, available)?;
        check_domain(plan, handle.as_fd(), fresh)?;
        if let Some(owner) = plan.delegate_to.filter(|_| fresh || plan.needs_process()) {
            delegate(handle.as_fd(), owner).doing_with(|| format!("give the cgroup to user {owner}"))?;
        }
    }
    Ok(Directory {
        controllers: place.controllers.clone(),
        path: place.directory(),
        handle: Some(handle),
        made: fresh,
        fresh,
    })
}

/// The files whose owner may divide a cgroup, where the kernel does not list them itself (before Linux 4.15).
const DELEGATED: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

/// Gives the directory and the files of the kernel's list away (cgroups(7), "Cgroup delegation"). The limits are not
/// among them.
pub(super) fn delegate(handle: BorrowedFd<'_>, owner: u32) -> Result<()> {
    let list = cgroupfs::openat_read(rustix::fs::CWD, "/sys/kernel/cgroup/delegate")
        .and_then(|list| cgroupfs::read(list.as_fd(), 4096))
        .unwrap_or_else(|_| DELEGATED.to_owned());
    for file in list.lines().filter(|file| !file.contains('/')) {
        match cgroupfs::fchownat(handle, file, owner) {
            // The controller is off here.
            Err(refused) if refused.errno == Errno::ENOENT => {}
            done => done?,
        }
    }
    Ok(cgroupfs::fchownat(handle, "", owner)?)
}

/// Makes a directory and its missing parents; false where it was there.
fn make_path(mount: BorrowedFd<'_>, place: &Place, path: &str, undo: &mut Undo) -> Result<bool> {
    match cgroupfs::mkdirat(mount, path) {
        Ok(()) => {
            undo.0.push((place.mount_point.clone(), path.to_owned()));
            Ok(true)
        }
        Err(refused) if refused.errno == Errno::EEXIST => Ok(false),
        Err(refused) if refused.errno == Errno::ENOENT => {
            let Some((parent, _)) = path.rsplit_once('/') else { return Err(refused.into()) };
            make_path(mount, place, parent, undo)?;
            make_path(mount, place, path, undo)
        }
        Err(refused) => Err(refused.into()),
    }
}

/// The controllers to enable on the way down: on a host of v2 all that there are, so that the container's use
/// can be counted also where it has no limit (as runc and crun do); beside v1 only those with a limit.
fn available(plan: &Plan, mount: BorrowedFd<'_>) -> Result<Vec<String>> {
    let needed = || plan.writes.iter().filter(|row| matches!(row.controller, Controller::V2(_)));
    if plan.mode == Mode::Hybrid && needed().next().is_none() {
        return Ok(Vec::new());
    }
    let text = read(mount, "cgroup.controllers")?;
    let mut available: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if let Some(row) = needed().find(|row| is_off(row.controller.name(), &available)) {
        let why = format!("controller {:?} not available on this host's cgroup v2", row.controller.name());
        return Err(Error::unsupported(&row.field, why));
    }
    if plan.mode == Mode::Hybrid {
        available.retain(|name| needed().any(|row| row.controller.name() == name));
    }
    Ok(available)
}

fn is_off(controller: &str, available: &[String]) -> bool {
    controller != "cgroup" && !available.iter().any(|name| name == controller)
}

/// Enables controllers in `top` and every directory from there down to the one above `path`. What cannot be enabled is
/// only an error where one of the lines needs it.
pub(super) fn enable(rows: &[Write], top: BorrowedFd<'_>, path: &str, mut wanted: Vec<String>) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let ends = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at));
    for end in ends {
        let level = path.get(..end).unwrap_or_default();
        let file = if level.is_empty() {
            "cgroup.subtree_control".to_owned()
        } else {
            format!("{level}/cgroup.subtree_control")
        };
        let text = read(top, &file)?;
        let missing = |wanted: &[String]| -> Vec<String> {
            wanted.iter().filter(|name| !text.split_whitespace().any(|on| on == *name)).cloned().collect()
        };
        let off = missing(&wanted);
        if off.is_empty() {
            continue;
        }
        let Some((lost, refused)) = switch_on(top, &file, &off)? else { continue };
        if let Some(row) = rows.iter().find(|row| {
            matches!(row.controller, Controller::V2(_)) && lost.iter().any(|name| name == row.controller.name())
        }) {
            let why = format!("controller {:?} cannot be enabled in the cgroup /{level}", row.controller.name());
            return Err(Error::from(refused)).doing(why).at(|| row.field.clone().into_owned());
        }
        wanted.retain(|name| !lost.contains(name));
    }
    Ok(())
}

/// Enables controllers, all at once or else one by one; returns those that cannot be, and why.
fn switch_on(
    mount: BorrowedFd<'_>,
    file: &str,
    controllers: &[String],
) -> Result<Option<(Vec<String>, crate::sys::Refused)>> {
    let control = match cgroupfs::openat_write(mount, file) {
        Ok(control) => control,
        Err(refused) => return Ok(Some((controllers.to_vec(), refused))),
    };
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    if cgroupfs::write(control.as_fd(), &all.join(" ")).is_ok() {
        return Ok(None);
    }
    let mut lost = Vec::new();
    let mut why = None;
    for (controller, word) in controllers.iter().zip(&all) {
        if let Err(refused) = cgroupfs::write(control.as_fd(), word) {
            lost.push(controller.clone());
            why = Some(refused);
        }
    }
    Ok(why.map(|why| (lost, why)))
}

/// A cgroup below one that holds threads admits no process until it is made threaded itself, and then it has only
/// the controllers that count threads.
fn check_domain(plan: &Plan, handle: BorrowedFd<'_>, fresh: bool) -> Result<()> {
    if !fresh || read(handle, "cgroup.type")?.trim() != "domain invalid" {
        return Ok(());
    }
    const THREADED: [&str; 5] = ["cgroup", "cpu", "cpuset", "perf_event", "pids"];
    if let Some(row) = plan
        .writes
        .iter()
        .find(|row| matches!(row.controller, Controller::V2(_)) && !THREADED.contains(&row.controller.name()))
    {
        let why =
            format!("the cgroup above is threaded, where the controller {:?} does not work", row.controller.name());
        return Err(Error::unsupported(&row.field, why));
    }
    let kind = cgroupfs::openat_write(handle, "cgroup.type")?;
    Ok(cgroupfs::write(kind.as_fd(), "threaded")?)
}

/// A directory that was there may be another container's. Sentences of runc's.
fn refuse_occupied(cgroup: &Cgroup) -> Result<()> {
    if cgroup.directories.iter().all(|directory| directory.fresh) {
        return Ok(());
    }
    let pids = cgroup.pids()?;
    if !pids.is_empty() {
        let why = format!("container's cgroup is not empty: {} process(es) found", pids.len());
        return Err(Error::new(Kind::Exists, why));
    }
    refuse_frozen(cgroup)
}

fn refuse_frozen(cgroup: &Cgroup) -> Result<()> {
    if cgroup.is_frozen()? {
        return Err(Error::new(Kind::WrongState, "container's cgroup unexpectedly frozen"));
    }
    Ok(())
}

/// A group of v1 has real time only out of its parent's, and a parent that we have just made has none.
fn realtime_above(plan: &Plan, made: &[(PathBuf, String)]) -> Result<()> {
    let rows = || plan.writes.iter().filter(|row| row.file.starts_with("cpu.rt_"));
    let place = plan.places.iter().find(|place| place.controllers.iter().any(|name| name == "cpu"));
    let (Some(place), true) = (place, rows().next().is_some()) else { return Ok(()) };
    let mount = cgroupfs::open_directory(&place.mount_point)?;
    let above = made.iter().filter(|(mount_point, path)| *mount_point == place.mount_point && *path != place.path);
    for (_, path) in above {
        for row in rows() {
            let file = format!("{path}/{}", row.file);
            cgroupfs::openat_write(mount.as_fd(), &file)
                .and_then(|file| cgroupfs::write(file.as_fd(), &row.value))
                .doing_with(|| format!("give real time to the cgroup /{path}"))
                .at(|| row.field.clone().into_owned())?;
        }
    }
    Ok(())
}

const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// What the parent's cpuset holds; an empty parent is filled from its own parent. A cpuset of v1 that is empty
/// admits neither a process nor a child that is not.
fn cpuset_above(plan: &Plan, cgroup: &Cgroup) -> Result<Vec<(&'static str, String)>> {
    if cgroup.legacy("cpuset").is_none() {
        return Ok(Vec::new());
    }
    let Some(place) = plan.places.iter().find(|place| place.controllers.iter().any(|name| name == "cpuset")) else {
        return Ok(Vec::new());
    };
    let mount = cgroupfs::open_directory(&place.mount_point)?;
    let mut above = Vec::new();
    for file in CPUSET {
        let value = inherit(mount.as_fd(), parent(&place.path), file)
            .doing_with(|| format!("fill the cpuset above {}", place.directory().display()))?;
        above.push((file, value));
    }
    Ok(above)
}

/// Gives the container's cpuset what the config left open. A kernel told to clone children has done it already;
/// writing the same once more does no harm.
fn fill_cpuset(plan: &Plan, cgroup: &Cgroup, above: &[(&'static str, String)]) -> Result<()> {
    let Some(directory) = cgroup.legacy("cpuset") else { return Ok(()) };
    for (file, value) in above {
        let asked = plan.writes.iter().any(|row| row.controller == Controller::V1("cpuset") && row.file == *file);
        if !asked && (directory.fresh || directory.read(file)?.trim().is_empty()) {
            directory.write(file, value).doing_with(|| format!("fill the cpuset of {}", directory.path.display()))?;
        }
    }
    Ok(())
}

fn inherit(mount: BorrowedFd<'_>, path: &str, file: &str) -> Result<String> {
    let name = if path.is_empty() { file.to_owned() } else { format!("{path}/{file}") };
    let own = read(mount, &name)?;
    if !own.trim().is_empty() || path.is_empty() {
        return Ok(own);
    }
    let above = inherit(mount, parent(path), file)?;
    let control = cgroupfs::openat_write(mount, &name)?;
    cgroupfs::write(control.as_fd(), &above)?;
    Ok(above)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
