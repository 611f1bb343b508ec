//! Other limits for a living container.
//!
//! The config that made the container stays as it is; what an update makes of its resources is remembered in
//! `resources.json` beside it, in the same words, and the next update starts from there.

use std::collections::BTreeMap;

use super::{Container, PATIENCE, Status, not_running};
use crate::cgroup::{self, DeviceRules, Layout};
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::rdt;

impl Container {
    /// The resources that the container has now, as JSON (`linux.resources`, config-linux.md#control-groups): those of
    /// its config with every update since.
    ///
    /// # Errors
    /// A state directory that cannot be read.
    pub fn resources(&self) -> Result<Vec<u8>> {
        match self.dir.resources()? {
            Some(updated) => Ok(updated),
            None => Ok(specconv::resources_of_config(&self.dir.config()?)?),
        }
    }

    /// Changes the container's resources: `asked` is a `linux.resources` object as JSON. What it leaves out stays,
    /// the rules of [`specconv::update`] say how the rest is bound together. Returns what the user should know.
    ///
    /// Device rules take the place of the old ones, unless they are the same.
    ///
    /// # Errors
    /// `container not running` for a stopped container; the field that makes no sense or that the kernel refuses.
    /// Everything then stands as it did before, or the error says that it does not.
    pub fn update(&self, asked: &[u8]) -> Result<Vec<String>> {
        let _lock = self.dir.lock(PATIENCE)?;
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        let current = self.resources()?;
        let update = specconv::update(&current, asked)?;
        let cgroup = self.own_cgroup("limited")?;
        let layout = Layout::observe()?;
        let in_user_namespace = Host::observe()?.in_user_namespace;
        let plan = |resources, devices| {
            let request = cgroup::Request {
                id: self.id(),
                cgroups_path: None,
                driver: self.record.cgroup.as_ref().map(|saved| saved.manager).unwrap_or_default(),
                resources,
                rootless: self.record.rootless,
                in_user_namespace,
                delegate_to: None,
                annotations: &BTreeMap::new(),
                systemd: None,
                delegated: None,
            };
            cgroup::plan_update(&request, devices, &layout)
        };
        let rules = if update.devices_change { DeviceRules::Change } else { DeviceRules::Stay };
        let changes = plan(&update.changes, rules)?;
        let before = cgroup.before(&changes);
        let done = cgroup
            .update(&changes)
            .and_then(|passed| self.dir.save_resources(&update.remembered).map(|()| passed))
            .doing("update the container");
        match done {
            Ok(passed) => {
                let told = changes.warnings().iter().chain(&passed);
                Ok(told.map(ToString::to_string).collect())
            }
            Err(error) => {
                let mut back = cgroup.write_back(&before);
                if update.devices_change {
                    let old = specconv::convert_resources(&current)?;
                    back = back.and(plan(&old, rules).and_then(|old| cgroup.bind_back(&old)));
                }
                Err(told_of_failed_return(error, back))
            }
        }
    }
}

impl Container {
    /// Gives the container's class of Intel RDT other shares, and so every other container that shares it: lines of
    /// `schemata`. Returns the lines that stood there.
    ///
    /// # Errors
    /// `container not running`; a container without a class; the kernel's refusal, and then nothing has changed.
    pub fn update_rdt(&self, lines: &[String]) -> Result<Vec<String>> {
        let _lock = self.dir.lock(PATIENCE)?;
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        let none = || Error::unsupported("linux.intelRdt", "the container has no class of Intel RDT");
        self.class_of_rdt()?.ok_or_else(none)?.change(lines).doing("update the container")
    }

    pub(super) fn class_of_rdt(&self) -> Result<Option<rdt::Group>> {
        match &self.record.intel_rdt {
            Some(saved) => saved.open(),
            None => Ok(None),
        }
    }
}

/// The failure; and the one of its undoing, in runc's words.
fn told_of_failed_return(error: Error, back: Result<()>) -> Error {
    let Err(back) = back else { return error };
    error.doing(format!(
        "setting back cgroup configs failed ({back}), the saved resources and the actual ones might be inconsistent, after"
    ))
}
