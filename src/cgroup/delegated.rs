//! A cgroup below the container's own in which its program begins (crun's annotations `run.oci.systemd.subgroup` and
//! `run.oci.delegate-cgroup`).
//!
//! A cgroup of v2 whose controllers are given to those below it takes no process itself (cgroups(7), "no internal
//! processes"). So a program that begins in the root of its cgroups can divide nothing before it has moved away; one
//! that begins below finds the root empty. Limits, freezing, counting and removal stay with the container's cgroup,
//! above, and its owner is another matter ([`super::Request::delegate_to`]).
//!
//! Init goes down once it has its cgroup namespace, which is rooted at the container's cgroup then. A second process
//! goes where init is, or the root would not stay empty.

use nix::unistd::Pid;

use super::group::{Cgroup, Directory, attach, read};
use super::layout::v2_directory_of;
use super::make::{delegate, enable};
use super::place::components;
use super::{Mode, Plan, Saved};
use crate::error::{Context, Error, Result};
use crate::sys::cgroupfs;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Where, below the container's cgroup.
    pub path: String,
    /// Which annotation asks for it.
    pub field: String,
    /// Whose it becomes, by the host's user id; `None` leaves it root's.
    pub owner: Option<u32>,
}

/// Judges the path. Pure.
///
/// # Errors
/// A path that leads out (T25) or nowhere, and any on v1, which has no safe delegation (cgroups(7)).
pub(super) fn plan(asked: &Delegated, mode: Mode) -> Result<Delegated> {
    let field = &asked.field;
    if mode != Mode::Unified {
        return Err(Error::unsupported(field, "a cgroup can be delegated on a host of cgroup v2 only"));
    }
    if asked.path.split('/').any(|part| part == "..") {
        return Err(Error::invalid(field, format!("{:?} leads out of the container's cgroup", asked.path)));
    }
    let parts = components(&asked.path, field)?;
    if parts.is_empty() {
        return Err(Error::invalid(field, format!("{:?} is no cgroup below the container's", asked.path)));
    }
    Ok(Delegated { path: parts.join("/"), ..asked.clone() })
}

impl Plan {
    /// Whether init goes into a cgroup below the container's, once it has its cgroup namespace.
    pub fn delegates(&self) -> bool {
        self.delegated.is_some()
    }
}

impl Cgroup {
    /// Puts init into the delegated cgroup of the plan, where there is one, and gives that to its owner with all the
    /// controllers that the container has. With the container's cgroup it is removed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn settle(&self, plan: &Plan, init: Pid) -> Result<()> {
        let Some(delegated) = &plan.delegated else { return Ok(()) };
        let Some(directory) = self.v2() else { return Ok(()) };
        self.make_delegated(directory, delegated, init)
            .doing_with(|| format!("make the cgroup {}", directory.path.join(&delegated.path).display()))
            .at(|| delegated.field.clone())
    }

    fn make_delegated(&self, directory: &Directory, delegated: &Delegated, init: Pid) -> Result<()> {
        let above = directory.handle()?;
        let ends = delegated.path.match_indices('/').map(|(at, _)| at).chain([delegated.path.len()]);
        for path in ends.filter_map(|end| delegated.path.get(..end)) {
            match cgroupfs::mkdirat(above, path) {
                Err(refused) if refused.errno != crate::sys::Errno::EEXIST => return Err(refused.into()),
                _ => {}
            }
        }
        let handle = cgroupfs::openat_directory(above, &delegated.path)?;
        let path = directory.path.join(&delegated.path);
        let below = Directory { controllers: Vec::new(), path, handle: Some(handle), made: true, fresh: true };
        attach(&below, init)?;
        // Only once nobody is above.
        let controllers = read(above, "cgroup.controllers")?.split_whitespace().map(str::to_owned).collect();
        enable(&[], above, &delegated.path, controllers)?;
        match delegated.owner {
            Some(owner) => delegate(below.handle()?, owner).doing_with(|| format!("give the cgroup to user {owner}")),
            None => Ok(()),
        }
    }
}

impl Saved {
    /// Where a second process goes: with init, where init began in a delegated cgroup and is still below the
    /// container's.
    ///
    /// # Errors
    /// A file of /proc that cannot be read.
    pub fn beside(&self, init: Pid) -> Result<Saved> {
        let mut saved = self.clone();
        if let (true, Some(own)) = (self.delegated, saved.paths.get_mut(""))
            && let Some(place) = v2_directory_of(init)?
            && place.starts_with(&*own)
        {
            *own = place;
            saved.made.clear();
        }
        Ok(saved)
    }
}
