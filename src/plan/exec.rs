//! A second process in a living container.

use specconv::{Config, NamespaceKind, Process};

use super::program::{self, ProgramPlan, ProgramWishes};
use crate::error::Result;
use crate::host::Host;
use crate::identity::Setgroups;
use crate::namespaces;

/// Everything that a second process in a living container will do.
#[derive(Debug)]
pub struct ExecPlan {
    /// The program.
    pub program: ProgramPlan,
    /// CLONE_NEW* flags of the namespaces to join, all behind init's pidfd.
    pub join: u64,
    /// Whether the container has a mount namespace; without one its root is a directory to change to.
    pub mount_namespace: bool,
    /// Whether the runtime hides (non-dumpable) before it clones.
    pub hide_early: bool,
}

/// Decides about a second process. `config` is the container's own, saved at its creation.
///
/// # Errors
/// As [`super::plan()`].
pub fn plan_exec(config: &Config, process: Process, host: &Host, wishes: &ProgramWishes<'_>) -> Result<ExecPlan> {
    specconv::user_is_mapped(config, &process)?;
    let own_id = !host.is_root()
        && config.uid_mappings.len() == 1
        && config.gid_mappings.iter().all(|map| map.size == 1 && map.host == host.gid);
    let setgroups = if own_id || host.setgroups_denied { Setgroups::Denied } else { Setgroups::Allowed };
    let affinity = process.exec_cpu_affinity.clone();
    // What is to be known of the container's filter was told when that was made.
    let mut program = program::plan(config, process, setgroups, host, wishes, &mut Vec::new())?;
    program.limits.reset_affinity = affinity.is_none();
    program.limits.cpu_affinity = affinity;
    Ok(ExecPlan {
        program,
        join: config.namespaces.0.iter().fold(0, |flags, namespace| flags | namespaces::flag(namespace.kind)),
        mount_namespace: config.namespaces.has(NamespaceKind::Mount),
        hide_early: host.is_root(),
    })
}
