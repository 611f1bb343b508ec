//! Hooks: programs run at points of the lifecycle (config.md#posix-platform-hooks).

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use serde::Serialize;
use specconv::Hook;

use crate::error::{Error, Result};

/// The version of the specification that our states name.
pub const OCI_VERSION: &str = "1.3.0";

/// When a hook runs, by the name it has in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// Deprecated; with, and before, `createRuntime`.
    Prestart,
    /// In the runtime's namespaces, before pivot_root.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root.
    CreateContainer,
    /// In the container, at `start`.
    StartContainer,
    /// In the runtime's namespaces, after the program was started.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl HookKind {
    /// The key in `config.json`: `createRuntime`.
    pub fn name(self) -> &'static str {
        match self {
            HookKind::Prestart => "prestart",
            HookKind::CreateRuntime => "createRuntime",
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
            HookKind::Poststart => "poststart",
            HookKind::Poststop => "poststop",
        }
    }
}

/// The state of a container as the specification writes it (runtime.md#state).
///
/// Hooks read it on their standard input; `state` prints it; seccomp agents get it with their descriptor.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    /// Version of the specification: [`OCI_VERSION`].
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    /// Init's process id in the runtime's pid namespace; 0 where there is none (and then not written).
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: &'a str,
    /// The config's annotations; not written when empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl OciState<'_> {
    /// One line of JSON, slashes as they are: hooks written in shell search it with grep.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What all hooks of one kind share.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Which hooks these are.
    pub kind: HookKind,
    /// What they read on standard input: [`OciState::to_json`].
    pub state: &'a str,
    /// Environment of a hook whose config has no `env`: the process's for `startContainer`, else nothing.
    pub default_env: Option<&'a [String]>,
    /// Working directory; `None` keeps the caller's. Hooks of the runtime's namespaces get the bundle.
    pub directory: Option<BorrowedFd<'a>>,
    /// Where their output goes as well (crun's `run.oci.hooks.stdout` and `.stderr`).
    pub output: Output<'a>,
}

/// Files that get what hooks print, opened by the caller for appending.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output<'a> {
    /// `run.oci.hooks.stdout`.
    pub stdout: Option<BorrowedFd<'a>>,
    /// `run.oci.hooks.stderr`.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// Runs hooks one after the other and stops at the first that fails.
///
/// A hook gets exactly its own environment, standard input, output and error, default signal dispositions,
/// an empty signal mask and a process group of its own. It fails when it cannot be run, exits with anything
/// but 0 or outlives its timeout; then its process group is killed.
///
/// # Errors
/// `error running createRuntime hook #1: exit status 1, stdout: ..., stderr: ...`
pub fn run(hooks: &[Hook], moment: &Moment<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    Err(Error::unsupported(moment.kind.name(), "not built yet"))
}
