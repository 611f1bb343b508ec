//! Hooks after the launch, poststart and poststop; and what hooks at any time need of the host.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::Container;
use crate::error::{Context, Result};
use crate::hooks::{self, HookKind, Moment};
use crate::launch::HookOutput;
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::refused;

impl Container {
    pub(super) fn run_poststart_hooks(&self) -> Result<()> {
        if !self.record.poststart {
            return Ok(());
        }
        let config = specconv::convert(&self.dir.config()?)?.config;
        let state = self.told_state(&config, "running", self.record.init_process_pid);
        let bundle = open_bundle(&self.record.bundle)?;
        let output = output(&config.annotations)?;
        let moment = Moment {
            kind: HookKind::Poststart,
            state: &state,
            program_env: &[],
            directory: Some(bundle.as_fd()),
            output: output.borrowed(),
        };
        hooks::run(&config.hooks.poststart, &moment)
    }

    /// Reads what the `poststop` hooks need, before the state directory goes.
    pub(super) fn poststop(&self) -> Result<Poststop> {
        if !self.record.poststop_armed {
            return Ok(Poststop::default());
        }
        let doing = "prepare the poststop hooks";
        let config = specconv::convert(&self.dir.config().doing(doing)?).doing(doing)?.config;
        let state = self.told_state(&config, "stopped", 0);
        // Hooks run even where their output has nowhere to go.
        let (output, unopened) = match output(&config.annotations) {
            Ok(output) => (output, None),
            Err(error) => (HookOutput::default(), Some(error.to_string())),
        };
        Ok(Poststop { state, hooks: config.hooks.poststop, output, unopened })
    }
}

/// The `poststop` hooks, with all that they need of a container that is about to go.
#[derive(Default)]
pub(super) struct Poststop {
    state: String,
    hooks: Vec<specconv::Hook>,
    output: HookOutput,
    unopened: Option<String>,
}

impl Poststop {
    /// Runs every hook, also after one that failed. Returns the failures.
    pub(super) fn run(self, container: &Container) -> Vec<String> {
        let bundle = &container.record.bundle;
        // A bundle that is gone already is no reason to run none.
        let directory = file::openat(CWD, bundle, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).ok();
        let moment = Moment {
            kind: HookKind::Poststop,
            state: &self.state,
            program_env: &[],
            directory: directory.as_ref().map(AsFd::as_fd),
            output: self.output.borrowed(),
        };
        let failed = hooks::run_all(&self.hooks, &moment);
        self.unopened.into_iter().chain(failed.iter().map(ToString::to_string)).collect()
    }
}

/// Opens the bundle, the working directory of hooks in the runtime's namespaces.
pub(super) fn open_bundle(path: &Path) -> Result<OwnedFd> {
    File::open(path).map(OwnedFd::from).map_err(refused!("open", "{path:?}")).doing("open the bundle")
}

/// Opens the files that get the output of hooks (crun's annotations).
pub(super) fn output(annotations: &BTreeMap<String, String>) -> Result<HookOutput> {
    let open = |key: &str| -> Result<Option<OwnedFd>> {
        let Some(path) = annotations.get(key) else { return Ok(None) };
        let file = File::options().append(true).create(true).open(path);
        file.map(|file| Some(file.into())).map_err(refused!("open", "{path:?}")).at(|| format!("annotations[{key:?}]"))
    };
    Ok(HookOutput { stdout: open("run.oci.hooks.stdout")?, stderr: open("run.oci.hooks.stderr")? })
}
