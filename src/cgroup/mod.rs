//! Cgroups: where, what to write, and a handle on one that exists.
//!
//! [`plan`] decides everything from a config and the host's [`Layout`] and touches nothing: which directories
//! ([`place`]), and which line goes into which file ([`v1`], [`v2`], [`devices`]) as rows of [`Write`]. A host in
//! hybrid mode takes each controller from where it is mounted, so a plan may hold rows of both versions.
//! [`make`] then makes the directories, and [`Cgroup`] is the handle through which all the rest is done: put a
//! process in, write the rows, freeze, kill, remove.

mod group;
pub mod layout;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use specconv::{Resources, Warning};

pub use group::{Cgroup, make};
pub use layout::{Hierarchy, Layout, Mode};

use crate::error::{Error, Result};

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
    /// without a cgroup, with a warning.
    pub rootless: bool,
    /// Whether the runtime itself runs in a user namespace other than the first: a device program that may not
    /// be loaded there is then a warning.
    pub in_user_namespace: bool,
}

/// Where the container goes and what is written there: all decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    driver: Driver,
    mode: Mode,
    places: Vec<Place>,
    writes: Vec<Write>,
    warnings: Vec<Warning>,
    /// Whether a refused mkdir leaves the container without a cgroup instead of failing.
    lenient: bool,
}

/// One directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the hierarchy is mounted.
    pub mount_point: PathBuf,
    /// Controllers of a hierarchy of v1; empty for v2.
    pub controllers: Vec<String>,
    /// The cgroup, relative to the mount point: clean components.
    pub path: String,
}

/// One line for one cgroup file, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which controller: of a hierarchy of v1, or of v2.
    pub controller: Controller,
    /// Name of the file.
    pub file: Cow<'static, str>,
    /// What is written, in one write(2).
    pub value: String,
    /// The field of `config.json`.
    pub field: Cow<'static, str>,
}

/// A controller, in the version of cgroups that has it on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Controller {
    /// In its hierarchy of cgroup v1.
    V1(&'static str),
    /// In the tree of cgroup v2.
    V2(Cow<'static, str>),
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
}

/// Decides where the container goes and what is written there. Pure.
///
/// # Errors
/// What this host or this version cannot do, with the field that asks for it.
pub fn plan(request: &Request<'_>, layout: &Layout) -> Result<Plan> {
    if request.driver == Driver::Systemd {
        return Err(Error::unsupported("--systemd-cgroup", "not supported yet by this version of orlop"));
    }
    Ok(Plan {
        driver: request.driver,
        mode: layout.mode,
        places: Vec::new(),
        writes: Vec::new(),
        warnings: Vec::new(),
        lenient: request.rootless && request.cgroups_path.is_none(),
    })
}

impl Plan {
    /// How the hierarchies lie on this host.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Every hierarchy with the container's directory in it, for the container's own cgroup mounts.
    pub fn view(&self) -> Vec<View> {
        Vec::new()
    }

    /// What was asked and does nothing on this host.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl Plan {
    /// What [`Cgroup::saved`] will say once [`make`] has made it: recorded before, so that a runtime that is killed in
    /// between leaves nothing that cannot be found.
    pub fn forecast(&self) -> Saved {
        let mut saved = Saved { manager: self.driver, ..Saved::default() };
        for view in self.view() {
            if !view.path.exists() {
                saved.made.push(view.path.clone());
            }
            if view.controllers.is_empty() {
                saved.paths.insert(String::new(), view.path);
                continue;
            }
            for controller in view.controllers {
                saved.paths.insert(controller, view.path.clone());
            }
        }
        saved
    }
}
