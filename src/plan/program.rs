//! The program that a process of ours becomes, init or one that `exec` brings in: what holds for both.

use std::path::PathBuf;

use specconv::{Config, NamespaceKind, Process};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::identity::capabilities::{ON_THE_WAY, SYS_ADMIN};
use crate::identity::label::Labels;
use crate::identity::{Groups, Kept, Setgroups};
use crate::seccomp::Moment;
use crate::{identity, limits, seccomp};

/// The program that a process of ours becomes: init's, or one that `exec` brings in.
#[derive(Debug)]
pub struct ProgramPlan {
    /// What it is.
    pub process: Process,
    /// Who it is.
    pub identity: identity::Plan,
    /// Limits of the process itself.
    pub limits: limits::Plan,
    /// What security modules call it.
    pub labels: Labels,
    /// The filter it is put under.
    pub seccomp: Option<seccomp::Plan>,
    /// Whether it lives in a user namespace of the container's: raising limits is then the parent's.
    pub user_namespace: bool,
    /// How many descriptors beyond 0, 1 and 2 it inherits.
    pub preserve_fds: u32,
    /// LISTEN_FDS and its kin (sd_listen_fds(3)), where the caller handed descriptors down.
    pub listen_env: Vec<(&'static str, String)>,
}

/// What the caller asked for the program, besides the config.
#[derive(Debug, Clone)]
pub struct ProgramWishes<'a> {
    /// The container's id.
    pub id: &'a str,
    /// No new session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors beyond 0, 1 and 2 it inherits.
    pub preserve_fds: u32,
    /// Environment for descriptors of socket activation.
    pub listen_env: Vec<(&'static str, String)>,
    /// The seccomp agent's socket, for a profile that names none.
    pub seccomp_receiver: Option<PathBuf>,
}

impl ProgramPlan {
    /// Capabilities that step Become needs, whether or not the program is to have them.
    pub fn needed_to_become(&self) -> u64 {
        const REALTIME: u16 = 1; // IOPRIO_CLASS_RT
        let realtime = self.limits.io_priority.is_some_and(|io| io.class == REALTIME);
        let early = self.seccomp.as_ref().is_some_and(|filter| filter.moment == Moment::BeforeCapabilitiesGo);
        ON_THE_WAY | if realtime || early { SYS_ADMIN } else { 0 }
    }
}

/// Decides about a program. `setgroups`: what the user namespace will say of that call.
pub(super) fn plan(
    config: &Config,
    process: Process,
    setgroups: Setgroups,
    host: &Host,
    wishes: &ProgramWishes<'_>,
    warnings: &mut Vec<specconv::Warning>,
) -> Result<ProgramPlan> {
    Ok(ProgramPlan {
        identity: identity_plan(config, &process, setgroups, wishes)?,
        limits: limits_plan(config, &process),
        labels: labels_plan(&process, host)?,
        seccomp: seccomp_plan(config, &process, wishes, warnings)?,
        user_namespace: config.namespaces.has(NamespaceKind::User),
        preserve_fds: wishes.preserve_fds,
        listen_env: wishes.listen_env.clone(),
        process,
    })
}

fn identity_plan(
    config: &Config,
    process: &Process,
    setgroups: Setgroups,
    wishes: &ProgramWishes<'_>,
) -> Result<identity::Plan> {
    let keep = config.annotations.get("run.oci.keep_original_groups").is_some_and(|value| value != "0");
    let keep = if keep { Kept::Yes } else { Kept::No };
    let user = &process.user;
    Ok(identity::Plan {
        uid: user.uid,
        gid: user.gid,
        groups: Groups::decide(user.gid, &user.additional_gids, keep, setgroups)?,
        umask: user.umask,
        capabilities: process.capabilities,
        no_new_privileges: process.no_new_privileges,
        keyring: (!wishes.no_new_keyring).then(|| format!("_ses.{}", wishes.id)),
    })
}

fn limits_plan(config: &Config, process: &Process) -> limits::Plan {
    limits::Plan {
        rlimits: process.rlimits.clone(),
        oom_score_adj: process.oom_score_adj,
        scheduler: process.scheduler,
        io_priority: process.io_priority,
        personality: config.personality,
        memory_policy: config.memory_policy.clone(),
        cpu_affinity: None,
        reset_affinity: true,
    }
}

/// Labels of the process. A container must not run without the confinement that was asked for (runc's rule).
fn labels_plan(process: &Process, host: &Host) -> Result<Labels> {
    // Where AppArmor is off, this is what is.
    let apparmor = process.apparmor_profile.clone().filter(|profile| host.apparmor || profile != "unconfined");
    if apparmor.is_some() && !host.apparmor {
        let why = "apparmor failed to apply profile: AppArmor is not enabled on this host";
        return Err(Error::unsupported("process.apparmorProfile", why));
    }
    if process.selinux_label.is_some() && !host.selinux {
        let why = "selinux label is specified in config, but selinux is disabled or not supported";
        return Err(Error::unsupported("process.selinuxLabel", why));
    }
    Ok(Labels { apparmor, selinux: process.selinux_label.clone() })
}

fn seccomp_plan(
    config: &Config,
    process: &Process,
    wishes: &ProgramWishes<'_>,
    warnings: &mut Vec<specconv::Warning>,
) -> Result<Option<seccomp::Plan>> {
    let Some(profile) = &config.seccomp else { return Ok(None) };
    // crun's way to be strict.
    if config.annotations.get("run.oci.seccomp_fail_unknown_syscall").is_some_and(|value| value != "0") {
        seccomp::all_known(profile)?;
    }
    warnings.extend(seccomp::warnings(profile));
    seccomp::plan(profile, process.no_new_privileges, wishes.seccomp_receiver.as_deref()).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::error::Kind;

    fn host() -> Host {
        Host { uid: 0, gid: 0, in_user_namespace: false, setgroups_denied: false, apparmor: false, selinux: false }
    }

    #[test]
    fn a_label_that_nobody_enforces_is_refused() {
        let mut process = specconv::convert(
            br#"{"ociVersion":"1.0.2","root":{"path":"r"},
            "process":{"args":["true"],"cwd":"/","user":{"uid":0,"gid":0}}}"#,
        );
        let mut process = process.as_mut().unwrap().config.process.take().unwrap();
        assert_eq!(labels_plan(&process, &host()).unwrap(), Labels::default());
        process.apparmor_profile = Some("shop".to_owned());
        let error = labels_plan(&process, &host()).unwrap_err();
        assert!(error.to_string().starts_with("process.apparmorProfile: "), "{error}");
        assert_eq!(error.kind(), Kind::Unsupported);
        let labels = labels_plan(&process, &Host { apparmor: true, ..host() }).unwrap();
        assert_eq!(labels.apparmor.as_deref(), Some("shop"));
        process.apparmor_profile = Some("unconfined".to_owned());
        assert_eq!(labels_plan(&process, &host()).unwrap(), Labels::default());
        let labels = labels_plan(&process, &Host { apparmor: true, ..host() }).unwrap();
        assert_eq!(labels.apparmor.as_deref(), Some("unconfined"), "out of the profile that we may run in ourselves");
        process.selinux_label = Some("a:b:c".to_owned());
        let error = labels_plan(&process, &host()).unwrap_err();
        assert!(error.to_string().starts_with("process.selinuxLabel: "), "{error}");
        let labels = labels_plan(&process, &Host { selinux: true, ..host() }).unwrap();
        assert_eq!(labels.selinux.as_deref(), Some("a:b:c"));
    }
}
