//! Notifications: an agent on the host decides about system calls (config-linux.md#seccomp, seccomp_unotify(2)).
//!
//! The kernel gives the listener to who loads the filter, and the agent lives on the host, so the parent stands between:
//! it connects before there is a child, takes the listener out of the child by its number, and sends it on. The number
//! comes by write(2), which is why a filter may not notify of that call.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::Serialize;
use specconv::{Seccomp, SeccompAction};

use crate::error::{Context, Error, Result};
use crate::sys::{Errno, process, socket};

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The agent's socket.
    pub path: PathBuf,
    /// What says so, for messages.
    pub said_by: &'static str,
    /// Text for the agent.
    pub metadata: Option<String>,
}

/// crun's variable for the agent's socket of profiles that name none.
const RECEIVER: &str = "RUN_OCI_SECCOMP_RECEIVER";

/// What the environment says of the agent's socket.
pub fn receiver() -> Option<PathBuf> {
    std::env::var_os(RECEIVER).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether the profile notifies, and whom: its own agent, or [`receiver`]. A path that no rule needs is not looked at.
pub(super) fn plan(profile: &Seccomp, receiver: Option<&Path>) -> Result<Option<Listener>> {
    let notifying = profile.syscalls.iter().enumerate().filter(|(_, rule)| rule.action == SeccompAction::Notify);
    for (index, rule) in notifying.clone() {
        if rule.names.iter().any(|name| name == "write") {
            return Err(Error::invalid(
                format_args!("linux.seccomp.syscalls[{index}]"),
                "SCMP_ACT_NOTIFY cannot be used for the write syscall: init reports by it before the agent can answer",
            ));
        }
    }
    let Some((first, _)) = notifying.clone().next() else { return Ok(None) };
    let (path, said_by) = match (&profile.listener_path, receiver) {
        (Some(path), _) => (path.as_path(), "linux.seccomp.listenerPath"),
        (None, Some(path)) if path.is_absolute() => (path, RECEIVER),
        (None, Some(path)) => return Err(Error::invalid(RECEIVER, format!("{path:?} is not an absolute path"))),
        (None, None) => {
            return Err(Error::invalid(
                format_args!("linux.seccomp.syscalls[{first}].action"),
                "SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath",
            ));
        }
    };
    let known = notifying.flat_map(|(_, rule)| &rule.names).any(|name| super::abi::call(name).is_some());
    Ok(known.then(|| Listener { path: path.to_owned(), said_by, metadata: profile.listener_metadata.clone() }))
}

/// Connects to the agent; one connection for one process.
///
/// # Errors
/// Where nobody listens: then there is no container either, for its calls would never be answered.
pub fn connect(listener: &Listener) -> Result<OwnedFd> {
    socket::connect_unix(&listener.path).doing("connect to the seccomp agent").at(|| listener.said_by.to_owned())
}

/// Takes the listener out of the process that loaded the filter; `None` where we cannot (a user without root's rights over
/// a child that hides), and the child has to send it.
pub fn take(child: BorrowedFd<'_>, number: i32) -> Result<Option<OwnedFd>> {
    match process::pidfd_getfd(child, number) {
        Ok(listener) => Ok(Some(listener)),
        // ENOSYS: before Linux 5.6.
        Err(refused) if matches!(refused.errno, Errno::EPERM | Errno::ENOSYS) => Ok(None),
        Err(refused) => Err(refused).doing("take the seccomp listener"),
    }
}

/// What the agent reads (runtime-linux.md, ContainerProcessState).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProcessState<'a> {
    /// Version of the specification.
    pub oci_version: &'a str,
    /// What the descriptors are: always `seccompFd`.
    pub fds: [&'a str; 1],
    /// The process, in the runtime's pid namespace.
    pub pid: i32,
    /// `listenerMetadata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a str>,
    /// The container's state.
    pub state: serde_json::Value,
}

/// Sends the listener to the agent, with the first byte of what it is about. `state` is the container's, as JSON.
pub fn hand_over(agent: BorrowedFd<'_>, listener: &OwnedFd, plan: &Listener, pid: i32, state: &str) -> Result<()> {
    let state: serde_json::Value = serde_json::from_str(state).unwrap_or_default();
    let told = ContainerProcessState {
        oci_version: state.get("ociVersion").and_then(|version| version.as_str()).unwrap_or_default(),
        fds: ["seccompFd"],
        pid,
        metadata: plan.metadata.as_deref(),
        state: state.clone(),
    };
    let text = serde_json::to_vec(&told).unwrap_or_default();
    let doing = "send the seccomp listener to its agent";
    let mut sent = socket::send_with_fds(&agent, &text, &[listener.as_fd()]).doing(doing)?;
    while let Some(rest) = text.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += socket::send_with_fds(&agent, rest, &[]).doing(doing)?;
    }
    Ok(())
}
