//! A handle on a cgroup that exists.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use specconv::Warning;

use super::systemd::Unit;
use super::write::Controller;
use super::{Driver, Saved};
use crate::compat;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::cgroupfs::{self, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC};
use crate::sys::{self, fd};

/// Longest file that is read here: a list of a few hundred thousand pids.
pub(super) const LONGEST: usize = 4 << 20;

/// How long all removals of one cgroup may take: its last process may still be on its way out.
const REMOVAL: Duration = Duration::from_secs(2);

/// A cgroup that exists: one directory in every hierarchy, held open.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) manager: Driver,
    pub(super) directories: Vec<Directory>,
    pub(super) warnings: Vec<Warning>,
    /// The unit that systemd has made for it.
    pub(super) unit: Option<Unit>,
    /// Whether init begins in a cgroup below ([`super::delegated`]).
    pub(super) delegated: bool,
}

/// The cgroup's directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Directory {
    /// Controllers of v1; empty for v2.
    pub controllers: Vec<String>,
    /// Absolute path on the host.
    pub path: PathBuf,
    /// `None` where it is gone.
    pub handle: Option<OwnedFd>,
    /// Whether it was made for this container.
    pub made: bool,
    /// Whether it was made by the run of orlop that holds this handle, so that nothing has been written yet.
    pub fresh: bool,
}

/// The doors of a cgroup's hierarchies of v1, held open (close-on-exec).
///
/// Moving another process takes a lock against all forks of the machine, and with it a grace period of RCU: 3 to
/// 10 ms, busy or not. The kernel spares a thread that moves itself alone the lock (Linux 5.5,
/// `cgroup_procs_write_start`): it writes `0` into `tasks`, some 40 microseconds for each hierarchy. So the child
/// walks in by itself, first of all that it does.
#[derive(Debug)]
pub struct Entrance(Vec<OwnedFd>);

impl Entrance {
    /// The doors that another process has lent.
    pub fn lent(doors: Vec<OwnedFd>) -> Entrance {
        Entrance(doors)
    }

    /// The doors, to be lent.
    pub fn doors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// Whether there is nothing to walk through: no hierarchy of v1.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves the calling thread in. The process must have no other.
    ///
    /// # Errors
    /// The hierarchy that refuses it.
    pub fn enter(self) -> Result<()> {
        self.0.iter().try_for_each(|door| cgroupfs::write(door.as_fd(), "0")).doing("enter the cgroup")
    }
}

impl Directory {
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The handle.
    ///
    /// # Errors
    /// `cgroup not exist` where it is gone; a sentence of runc's.
    pub fn handle(&self) -> Result<BorrowedFd<'_>> {
        let gone = || Error::new(Kind::NotFound, format!("{}: cgroup not exist", self.path.display()));
        self.handle.as_ref().map(AsFd::as_fd).ok_or_else(gone)
    }

    pub fn read(&self, file: &str) -> Result<String> {
        Ok(read(self.handle()?, file)?)
    }

    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let file = cgroupfs::openat_write(self.handle()?, file)?;
        Ok(cgroupfs::write(file.as_fd(), text)?)
    }
}

/// All of one file of the directory.
pub(super) fn read(directory: BorrowedFd<'_>, file: &str) -> sys::Result<String> {
    let file = cgroupfs::openat_read(directory, file)?;
    cgroupfs::read(file.as_fd(), LONGEST)
}

/// Whether the directory is gone: a held one answers ENODEV to what was opened before, ENOENT to the rest.
pub(super) fn is_gone(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::ENOENT | Errno::ENODEV))
}

impl Cgroup {
    /// A handle on the cgroup of a record. Directories that are gone are no error: the container has stopped.
    ///
    /// # Errors
    /// A recorded path that is not a clean absolute one in a cgroup filesystem.
    pub fn open(saved: &Saved) -> Result<Cgroup> {
        let mut directories: Vec<Directory> = Vec::new();
        for (controller, path) in &saved.paths {
            if let Some(known) = directories.iter_mut().find(|known| known.path == *path) {
                known.controllers.push(controller.clone());
                continue;
            }
            let handle = open_recorded(path).doing("open the container's cgroup")?;
            directories.push(Directory {
                controllers: if controller.is_empty() { Vec::new() } else { vec![controller.clone()] },
                path: path.clone(),
                handle,
                made: saved.made.contains(path),
                fresh: false,
            });
        }
        Ok(Cgroup {
            manager: saved.manager,
            directories,
            warnings: Vec::new(),
            unit: saved.unit.clone(),
            delegated: saved.delegated,
        })
    }

    /// What the record keeps.
    pub fn saved(&self) -> Saved {
        let mut paths = BTreeMap::new();
        for directory in &self.directories {
            if directory.is_v2() {
                paths.insert(String::new(), directory.path.clone());
            }
            paths.extend(directory.controllers.iter().map(|name| (name.clone(), directory.path.clone())));
        }
        let made = self.directories.iter().filter(|directory| directory.made);
        let made = made.map(|directory| directory.path.clone()).collect();
        Saved { manager: self.manager, paths, made, unit: self.unit.clone(), delegated: self.delegated }
    }

    /// What [`super::make`] let pass for want of rights.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether it is in every hierarchy of the plan. One that nobody asked for may be left out where we have no right to make it.
    pub fn is_whole(&self, plan: &super::Plan) -> bool {
        self.directories.len() == plan.places.len()
    }

    /// The directory of v2, for CLONE_INTO_CGROUP (Linux 5.7): a process born into it needs no [`Cgroup::attach_v2`].
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2()?.handle.as_ref().map(AsFd::as_fd)
    }

    /// The doors of the hierarchies of v1, for a process that is yet to be born.
    ///
    /// # Errors
    /// A directory that is gone.
    pub fn entrance(&self) -> Result<Entrance> {
        let mut doors = Vec::new();
        for directory in self.directories.iter().filter(|directory| !directory.is_v2()) {
            let door = cgroupfs::openat_write(directory.handle()?, "tasks")
                .doing_with(|| format!("enter the cgroup {}", directory.path.display()))?;
            doors.push(door);
        }
        Ok(Entrance(doors))
    }

    /// Moves a process into the directory of v2, where there is one: what CLONE_INTO_CGROUP does on newer kernels.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach_v2(&self, pid: Pid) -> Result<()> {
        self.v2().map_or(Ok(()), |directory| attach(directory, pid))
    }

    /// As [`Cgroup::attach_v2`]; where the directory takes no process any more (the container has divided its cgroup,
    /// made it threaded, or another manager has moved it), the process goes where `init` is, as with runc.
    ///
    /// # Errors
    /// The kernel's refusal of both.
    pub fn attach_v2_beside(&self, pid: Pid, init: Pid) -> Result<()> {
        let Err(error) = self.attach_v2(pid) else { return Ok(()) };
        if let (Some(Errno::EACCES | Errno::EPERM), Some(unit)) = (error.errno(), &self.unit) {
            return unit.attach(&self.below_unit(unit), pid.as_raw().unsigned_abs());
        }
        let full = error.kind() == Kind::NotFound
            || is_gone(error.errno())
            || matches!(error.errno(), Some(Errno::EBUSY | Errno::EOPNOTSUPP));
        if !full {
            return Err(error);
        }
        let place = super::layout::v2_directory_of(init)?;
        let Some(handle) = place.as_deref().map(open_recorded).transpose()?.flatten() else { return Err(error) };
        let path = place.unwrap_or_default();
        let beside = Directory { controllers: Vec::new(), path, handle: Some(handle), made: false, fresh: false };
        attach(&beside, pid)
    }

    /// The directory of v2 as the unit that it lies in names it: `/` is the unit's own.
    fn below_unit(&self, unit: &Unit) -> String {
        let parts = self.v2().into_iter().flat_map(|directory| directory.path.components());
        let below: Vec<_> = parts.skip_while(|part| part.as_os_str() != unit.name.as_str()).skip(1).collect();
        format!("/{}", below.into_iter().collect::<PathBuf>().display())
    }

    /// Moves a process (all its threads) into the cgroup, in every hierarchy. This waits for every processor to
    /// have come by (some milliseconds); a process to be born enters by [`Cgroup::fd`] and [`Cgroup::entrance`].
    ///
    /// # Errors
    /// The hierarchy that refuses it.
    pub fn attach(&self, pid: Pid) -> Result<()> {
        self.directories.iter().try_for_each(|directory| attach(directory, pid))
    }

    /// Processes in it and in the cgroups below it, ascending, in the caller's pid namespace. Empty where the
    /// cgroup is gone.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(handle) = self.tracking().and_then(|directory| directory.handle.as_ref()) {
            collect(handle.as_fd(), &mut pids).doing("list the processes of the cgroup")?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills every process in it and below it, also a frozen one. They may still be dying at return.
    ///
    /// Version 2 does it in one write (`cgroup.kill`, Linux 5.14). Elsewhere the group is frozen, so that nobody
    /// can bear a child that is missed, signalled one by one, and thawed, so that they can die.
    ///
    /// # Errors
    /// Processes that keep appearing where there is no freezer.
    pub fn kill(&self) -> Result<()> {
        if let Some(handle) = self.fd() {
            let killed = compat::cgroup_kill::kill(handle).doing("kill the processes of the cgroup")?;
            if killed && self.directories.len() == 1 {
                return Ok(());
            }
        }
        // A process that died of a signal stays listed for a moment; a round that finds none ends it.
        for round in 0_u32..50 {
            let frozen = self.freeze_briefly().is_ok();
            let pids = self.pids()?;
            for pid in pids.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
                match cgroupfs::kill(pid) {
                    Err(refused) if refused.errno != Errno::ESRCH => {
                        let _ = self.thaw();
                        return Err(refused).doing("kill the processes of the cgroup");
                    }
                    _ => {}
                }
            }
            if let Err(error) = self.thaw()
                && !matches!(error.kind(), Kind::Unsupported | Kind::NotFound)
                && !is_gone(error.errno())
            {
                return Err(error);
            }
            if frozen || pids.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(u64::from(round.min(10))));
        }
        Err(Error::new(Kind::Other, "cannot kill the processes of the cgroup: new ones keep appearing"))
    }

    /// How many of its processes the kernel killed for want of memory; 0 where nobody counts.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn oom_kill_count(&self) -> Result<u64> {
        let (directory, file) = match self.legacy("memory") {
            Some(directory) => (directory, "memory.oom_control"),
            None => match self.v2() {
                Some(directory) => (directory, "memory.events"),
                None => return Ok(0),
            },
        };
        match directory.read(file) {
            Ok(text) => Ok(value(&text, "oom_kill").and_then(|count| count.parse().ok()).unwrap_or(0)),
            Err(error) if error.kind() == Kind::NotFound || is_gone(error.errno()) => Ok(0),
            Err(error) => Err(error).doing("count the processes killed for want of memory"),
        }
    }

    /// Removes the directories that were made for the container, with all cgroups below them. Parents stay, as
    /// runc leaves them; and so does a directory that was there before the container.
    ///
    /// # Errors
    /// A directory that still holds a process after about two seconds; systemd, where it has made the cgroup and does not
    /// end it. What else there is, is removed all the same.
    pub fn remove(&self) -> Result<()> {
        let is_gone = self.directories.iter().all(|directory| directory.handle.is_none());
        let mut first = match self.unit.as_ref().map(Unit::stop) {
            // A unit without a cgroup is over; that a systemd that is gone itself cannot say so is no reason to fail.
            Some(Err(error)) if !(is_gone && error.kind() == Kind::Unsupported) => Err(error),
            _ => Ok(()),
        };
        let deadline = Instant::now() + REMOVAL;
        for directory in self.directories.iter().filter(|directory| directory.made) {
            let done = remove(&directory.path, deadline)
                .doing_with(|| format!("remove the cgroup {}", directory.path.display()));
            first = first.and(done);
        }
        first
    }

    /// The directory in the hierarchy of v1 that has this controller.
    pub(super) fn legacy(&self, controller: &str) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.controllers.iter().any(|name| name == controller))
    }

    /// The directory of v2.
    pub(super) fn v2(&self) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.is_v2())
    }

    /// The directory that has this controller.
    pub(super) fn with(&self, controller: &Controller) -> Option<&Directory> {
        match controller {
            Controller::V1(name) => self.legacy(name),
            Controller::V2(_) => self.v2(),
        }
    }

    /// The directory whose processes are the container's: of v1 one that a process rarely leaves by itself.
    fn tracking(&self) -> Option<&Directory> {
        let usual = ["freezer", "devices", "pids"].into_iter().find_map(|controller| self.legacy(controller));
        usual.or_else(|| self.directories.first())
    }
}

/// The value of a `key value` line.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::trim)
}

/// A recorded directory, proved to be a cgroup; `None` where it is gone.
fn open_recorded(path: &Path) -> Result<Option<OwnedFd>> {
    let clean = path.is_absolute() && path.components().all(|part| !matches!(part, Component::ParentDir));
    if !clean {
        return Err(Error::new(Kind::Invalid, format!("{} is not the path of a cgroup", path.display())));
    }
    let handle = match cgroupfs::open_directory(path) {
        Ok(handle) => handle,
        Err(refused) if refused.errno == Errno::ENOENT => return Ok(None),
        Err(refused) => return Err(refused.into()),
    };
    prove(handle.as_fd())?;
    Ok(Some(handle))
}

/// Refuses a directory that is not in a cgroup filesystem.
pub(super) fn prove(handle: BorrowedFd<'_>) -> Result<()> {
    match cgroupfs::fstatfs_type(handle)? {
        CGROUP_SUPER_MAGIC | CGROUP2_SUPER_MAGIC => Ok(()),
        _ => Err(Error::new(Kind::Other, format!("{} is not in a cgroup filesystem", fd(&handle)))),
    }
}

pub(super) fn attach(directory: &Directory, pid: Pid) -> Result<()> {
    write_pid(directory, &pid.to_string())
        .doing_with(|| format!("put process {pid} into the cgroup {}", directory.path.display()))
}

fn write_pid(directory: &Directory, pid: &str) -> Result<()> {
    let procs = cgroupfs::openat_write(directory.handle()?, "cgroup.procs")?;
    let mut tries = 0_u64;
    loop {
        match cgroupfs::write(procs.as_fd(), pid) {
            // The task is still being born (TASK_NEW); runc meets it too.
            Err(refused) if refused.errno == Errno::EINVAL && tries < 5 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(tries * 5));
            }
            done => return Ok(done?),
        }
    }
}

/// All pids of a directory and those below it. A threaded cgroup lists its processes in its domain's.
fn collect(directory: BorrowedFd<'_>, pids: &mut Vec<i32>) -> sys::Result<()> {
    each_directory(directory, &mut |directory, _| {
        match read(directory, "cgroup.procs") {
            // 0 stands for a process that our pid namespace cannot see.
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0)),
            Err(refused) if refused.errno == Errno::EOPNOTSUPP || is_gone(Some(refused.errno)) => {}
            Err(refused) => return Err(refused),
        }
        Ok(())
    })
}

/// Visits every directory of a tree, with the names of those in it, the innermost first. What goes meanwhile is passed over.
///
/// A container that may divide its cgroup says how deep the tree is, and how it is called. So one descriptor serves for all
/// of it: no cgroup can be moved to another parent, and `..` leads back to where we came from.
fn each_directory(
    top: BorrowedFd<'_>,
    visit: &mut dyn FnMut(BorrowedFd<'_>, &[OsString]) -> sys::Result<()>,
) -> sys::Result<()> {
    let names = |directory: BorrowedFd<'_>| match cgroupfs::subdirectories(directory) {
        Err(refused) if is_gone(Some(refused.errno)) => Ok(Vec::new()),
        names => names,
    };
    let mut below: Option<OwnedFd> = None;
    // From the top down to where we are: what lies there, and how much of it was visited.
    let mut levels = vec![(names(top)?, 0)];
    while let Some((children, visited)) = levels.last_mut() {
        let here = below.as_ref().map_or(top, AsFd::as_fd);
        if let Some(name) = children.get(*visited) {
            *visited += 1;
            match cgroupfs::openat_directory(here, name) {
                Ok(child) => {
                    levels.push((names(child.as_fd())?, 0));
                    below = Some(child);
                }
                Err(refused) if is_gone(Some(refused.errno)) => {}
                Err(refused) => return Err(refused),
            }
            continue;
        }
        visit(here, children)?;
        levels.pop();
        below = if levels.len() > 1 { Some(cgroupfs::openat_directory(here, "..")?) } else { None };
    }
    Ok(())
}

/// Removes a directory and all below it.
fn remove(path: &Path, deadline: Instant) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(Kind::Invalid, format!("{} is not the path of a cgroup", path.display())));
    };
    let parent = match cgroupfs::open_directory(parent) {
        Ok(parent) => parent,
        Err(refused) if refused.errno == Errno::ENOENT => return Ok(()),
        Err(refused) => return Err(refused.into()),
    };
    prove(parent.as_fd())?;
    Ok(remove_below(parent.as_fd(), name, deadline)?)
}

fn remove_below(parent: BorrowedFd<'_>, name: &OsStr, deadline: Instant) -> sys::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        let refused = match cgroupfs::rmdirat(parent, name) {
            Ok(()) => return Ok(()),
            Err(refused) if refused.errno == Errno::ENOENT => return Ok(()),
            Err(refused) => refused,
        };
        let is_gone = || cgroupfs::openat_directory(parent, name).is_err_and(|answer| answer.errno == Errno::ENOENT);
        match refused.errno {
            Errno::EBUSY | Errno::ENOTEMPTY => {}
            // A tree that cannot be written says so before it looks whether there is anything.
            Errno::EROFS if is_gone() => return Ok(()),
            _ => return Err(refused),
        }
        let directory = cgroupfs::openat_directory(parent, name)?;
        let mut removed = false;
        each_directory(directory.as_fd(), &mut |directory, below| {
            for child in below {
                match cgroupfs::rmdirat(directory, child) {
                    Ok(()) => removed = true,
                    Err(refused) if matches!(refused.errno, Errno::ENOENT | Errno::EBUSY | Errno::ENOTEMPTY) => {}
                    Err(refused) => return Err(refused),
                }
            }
            Ok(())
        })?;
        if Instant::now() + pause > deadline {
            return Err(refused);
        }
        if !removed {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}
