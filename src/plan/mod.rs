//! Every decision, no effects: what this host will do about what the config means.
//!
//! Each concern owns the type of its own instructions; this module, one rank above, fills them in. Nothing here
//! opens, makes or looks at anything: what has to be known of the host comes in as [`Facts`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use specconv::{Config, Hooks, MountKind, NamespaceKind, NetDevice, Process, Sysctl};

use crate::cgroup::{self, Layout, Systemd};
use crate::compat::mount_setattr::attribute::RDONLY;
use crate::error::{Error, Kind, Result};
use crate::hooks::{OCI_VERSION, OciState};
use crate::host::Host;
use crate::identity::capabilities::{ON_THE_WAY, SYS_ADMIN};
use crate::identity::label::Labels;
use crate::identity::{Groups, Kept, Setgroups};
use crate::namespaces::{self, Mapping};
use crate::seccomp::Moment;
use crate::{identity, limits, rdt, rootfs, seccomp};

/// Everything that init and parent will do.
#[derive(Debug)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// Annotations, for the state that hooks read.
    pub annotations: BTreeMap<String, String>,
    /// Namespaces.
    pub namespaces: namespaces::Plan,
    /// The cgroup; `None` where the user asked for none.
    pub cgroup: Option<cgroup::Plan>,
    /// The class of Intel RDT; `None` leaves resctrl alone.
    pub rdt: Option<rdt::Plan>,
    /// The root filesystem.
    pub rootfs: rootfs::Plan,
    /// The program.
    pub program: ProgramPlan,
    /// Hooks.
    pub hooks: Hooks,
    /// Hostname.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Kernel parameters.
    pub sysctl: Vec<Sysctl>,
    /// Network devices to move in.
    pub net_devices: Vec<NetDevice>,
    /// Whether init has a pid namespace of its own and so is number 1 in it.
    pub new_pid: bool,
    /// Whether the runtime hides (non-dumpable) before it clones; without root's rights it could then not
    /// write its child's maps, and init hides later.
    pub hide_early: bool,
    /// Which steps of the story apply.
    pub script: Script,
    /// What was asked and does nothing on this host.
    pub warnings: Vec<specconv::Warning>,
}

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

impl ProgramPlan {
    /// Capabilities that step Become needs, whether or not the program is to have them.
    pub fn needed_to_become(&self) -> u64 {
        const REALTIME: u16 = 1; // IOPRIO_CLASS_RT
        let realtime = self.limits.io_priority.is_some_and(|io| io.class == REALTIME);
        let early = self.seccomp.as_ref().is_some_and(|filter| filter.moment == Moment::BeforeCapabilitiesGo);
        ON_THE_WAY | if realtime || early { SYS_ADMIN } else { 0 }
    }
}

/// Which steps apply that do not always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// The parent lends mounts, moves network devices, or moves init once that has its cgroup namespace.
    pub lend: bool,
    /// There are hooks to run in the runtime's namespaces.
    pub runtime_hooks: bool,
}

/// What has to be known to decide, besides the config.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The host.
    pub host: &'a Host,
    /// The cgroup hierarchies.
    pub layout: &'a Layout,
    /// The systemd that makes the cgroup, where one does.
    pub systemd: Option<&'a Systemd>,
    /// The setuid helpers, where the host has them.
    pub helpers: Option<Mapping>,
    /// Whether a procfs can be made for another pid namespace; asked only where one is to be joined.
    pub lending: bool,
    /// The root filesystem, absolute and without links.
    pub rootfs: PathBuf,
    /// The bundle, absolute.
    pub bundle: PathBuf,
}

/// What the caller asked for besides the config.
#[derive(Debug, Clone)]
pub struct Wishes<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Who makes the cgroup.
    pub driver: cgroup::Driver,
    /// Whether errors of cgroups are tolerated.
    pub rootless_cgroups: bool,
    /// MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// No new session keyring.
    pub no_new_keyring: bool,
    /// Descriptors beyond 0, 1 and 2.
    pub preserve_fds: u32,
    /// Environment for descriptors of socket activation.
    pub listen_env: Vec<(&'static str, String)>,
    /// The seccomp agent's socket, for a profile that names none.
    pub seccomp_receiver: Option<PathBuf>,
}

impl Plan {
    /// Takes out of the container's view the cgroups of v1 that could not be made: a runtime without rights over
    /// cgroups may do without them, and there is nothing to bind then. `made` are the directories that are there.
    ///
    /// A cgroup namespace shows what it shows without them, and on v2 the mount finds out by itself.
    pub fn see_only(&mut self, made: &BTreeMap<String, PathBuf>) {
        leave_out_missing(&mut self.rootfs.cgroup, made);
    }

    /// Whether the container's mounts are made in the runtime's own mount namespace.
    pub fn mounts_on_host(&self) -> bool {
        let mounts = !self.rootfs.mounts.is_empty() || self.program.process.terminal.is_some();
        self.rootfs.entry == rootfs::Entry::Chroot && mounts
    }

    /// The state that hooks read.
    pub fn state(&self, status: &str, pid: i32) -> String {
        OciState {
            oci_version: OCI_VERSION,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle.to_string_lossy(),
            annotations: &self.annotations,
        }
        .to_json()
    }
}

/// Decides everything.
///
/// # Errors
/// What the config asks for and this host, or this version of orlop, cannot do: with the field.
pub fn plan(mut config: Config, facts: &Facts<'_>, wishes: &Wishes<'_>) -> Result<Plan> {
    let mut warnings = Vec::new();
    let Some(process) = config.process.clone() else {
        return Err(Error::invalid("process", "there is no program to run"));
    };
    refuse_annotations(&config)?;
    let mapping = mapping(&config, facts)?;
    let namespaces = namespaces::plan(&config, mapping, facts.lending);
    check_ids(&config, &process)?;

    let cgroup = if wishes.driver == cgroup::Driver::Disabled {
        // A cgroup below one that the container does not have is no less than a limit.
        if let Some(below) = delegated(&config, &process, facts.host) {
            return Err(Error::invalid(below.field, "--cgroup-manager disabled asks for no cgroup"));
        }
        refuse_limits_without_cgroup(&config)?;
        None
    } else {
        Some(cgroup::plan(
            &cgroup::Request {
                id: wishes.id,
                cgroups_path: config.cgroups_path.as_deref(),
                driver: wishes.driver,
                resources: &config.resources,
                rootless: wishes.rootless_cgroups,
                in_user_namespace: facts.host.in_user_namespace,
                delegate_to: delegate_to(&config, &process, facts.host),
                annotations: &config.annotations,
                systemd: facts.systemd,
                delegated: delegated(&config, &process, facts.host).as_ref(),
            },
            facts.layout,
        )?)
    };
    let rdt = config.intel_rdt.as_ref().map(|asked| rdt::plan(asked, wishes.id)).transpose()?;
    warnings.extend(drop_label_without_selinux(&mut config, facts.host));
    let rootfs = rootfs::Plan {
        procfs_is_lent: namespaces.bears_late(),
        ..rootfs_plan(&config, facts, wishes, cgroup.as_ref())
    };
    let delegates = cgroup.as_ref().is_some_and(cgroup::Plan::delegates);
    let script = Script {
        lend: rootfs::lends(&rootfs) || !config.net_devices.is_empty() || delegates,
        runtime_hooks: !(config.hooks.prestart.is_empty() && config.hooks.create_runtime.is_empty()),
    };
    let denied = match &namespaces.ids {
        Some(ids) => ids.how == Mapping::OwnId || facts.host.setgroups_denied,
        None => facts.host.setgroups_denied,
    };
    let program = ProgramPlan {
        identity: identity::Plan {
            // runc's default for init; exec keeps the inherited one.
            umask: Some(process.user.umask.unwrap_or(0o022)),
            ..identity_plan(&config, &process, denied, wishes.id, wishes.no_new_keyring)?
        },
        limits: limits_plan(&config, &process),
        labels: labels_plan(&process, facts.host)?,
        seccomp: seccomp_plan(&config, &process, wishes, &mut warnings)?,
        user_namespace: namespaces.user,
        preserve_fds: wishes.preserve_fds,
        listen_env: wishes.listen_env.clone(),
        process,
    };
    Ok(Plan {
        id: wishes.id.to_owned(),
        bundle: facts.bundle.clone(),
        new_pid: config.namespaces.is_new(NamespaceKind::Pid),
        hide_early: facts.host.is_root(),
        annotations: config.annotations,
        namespaces,
        cgroup,
        rdt,
        rootfs,
        program,
        hooks: config.hooks,
        hostname: config.hostname,
        domainname: config.domainname,
        sysctl: config.sysctl,
        net_devices: config.net_devices,
        script,
        warnings,
    })
}

fn leave_out_missing(view: &mut rootfs::CgroupView, made: &BTreeMap<String, PathBuf>) {
    if let rootfs::CgroupView::V1 { hierarchies, namespace: false } = view {
        hierarchies.retain(|hierarchy| made.values().any(|path| *path == hierarchy.path));
    }
}

/// crun's annotations that ask for what is not here, and why: refused, never skipped.
const REFUSED: [(&str, &str); 4] = [
    ("run.oci.handler", "orlop executes programs and knows no other handler"),
    ("run.oci.seccomp.plugins", "orlop loads no library"),
    ("run.oci.seccomp_bpf_data", "orlop takes a profile in linux.seccomp, not its program"),
    ("run.oci.systemd.force_cgroup_v1", "orlop mounts no hierarchy of cgroup v1 that the host does not have"),
];

fn refuse_annotations(config: &Config) -> Result<()> {
    match REFUSED.iter().find(|(name, _)| config.annotations.contains_key(*name)) {
        Some((name, why)) => Err(Error::unsupported(format!("annotations[{name:?}]"), *why)),
        None => Ok(()),
    }
}

/// Who may divide the container's cgroup: the user of its program, where the config lets that user see the cgroup from
/// inside, writable, as a root of its own; runc's rule.
fn delegate_to(config: &Config, process: &Process, host: &Host) -> Option<u32> {
    let writable = config.mounts.iter().any(|mount| {
        let is_readonly = mount.attributes.set & RDONLY != 0;
        matches!(mount.kind, MountKind::Cgroup(_)) && mount.destination == Path::new("/sys/fs/cgroup") && !is_readonly
    });
    if !(writable && config.namespaces.is_new(NamespaceKind::Cgroup)) {
        return None;
    }
    owner_on_host(config, process, host)
}

/// crun's annotations for cgroups below the container's: the outer one, and the one in it. crun heeds the first under
/// systemd alone, and makes its limits anew there; here the limits stay above both.
const BELOW: [&str; 2] = ["run.oci.systemd.subgroup", "run.oci.delegate-cgroup"];

/// The cgroup below the container's in which the program begins; its user's, as who asks for one means to divide it.
fn delegated(config: &Config, process: &Process, host: &Host) -> Option<cgroup::Delegated> {
    let asked = BELOW.iter().filter_map(|name| config.annotations.get_key_value(*name));
    let asked: Vec<_> = asked.filter(|(_, path)| !path.is_empty()).collect();
    let (field, _) = asked.last()?;
    let parts: Vec<&str> = asked.iter().map(|(_, path)| path.as_str()).collect();
    Some(cgroup::Delegated {
        path: parts.join("/"),
        field: format!("annotations[{field:?}]"),
        owner: owner_on_host(config, process, host),
    })
}

/// The program's user, as the host counts; `None` where nothing need or can be given away.
fn owner_on_host(config: &Config, process: &Process, host: &Host) -> Option<u32> {
    let uid = process.user.uid;
    let owner = match config.namespaces.get(NamespaceKind::User) {
        None => Some(uid),
        // The maps of a joined namespace are nobody's to know here.
        Some(namespace) if namespace.path.is_some() => None,
        Some(_) => config.uid_mappings.iter().find_map(|map| {
            let offset = uid.checked_sub(map.container).filter(|offset| *offset < map.size)?;
            map.host.checked_add(offset)
        }),
    };
    // What we make is ours already, and an ordinary user has nothing to give away.
    owner.filter(|owner| *owner != host.uid && host.is_root())
}

/// A label of mounts protects nothing where nobody looks at labels, and the kernel takes no `context=` then. (A label
/// of the process is an error there: who asks for that one asks to be confined.)
fn drop_label_without_selinux(config: &mut Config, host: &Host) -> Option<specconv::Warning> {
    if host.selinux {
        return None;
    }
    config.mount_label.take().map(|asked| specconv::Warning {
        field: "linux.mountLabel".to_owned(),
        what: format!("SELinux is off on this host; {:?} is not set", asked.label),
    })
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

fn refuse_limits_without_cgroup(config: &Config) -> Result<()> {
    // Device rules are in every engine's config, and mean nothing without a cgroup to hold them.
    let resources = specconv::Resources { devices: Vec::new(), ..config.resources.clone() };
    if resources == specconv::Resources::default() {
        return Ok(());
    }
    Err(Error::invalid("linux.resources", "limits need a cgroup, and --cgroup-manager disabled asks for none"))
}

/// How the ids of a new user namespace get into the kernel.
fn mapping(config: &Config, facts: &Facts<'_>) -> Result<Option<Mapping>> {
    if !config.namespaces.is_new(NamespaceKind::User) {
        if !facts.host.is_root() && !config.namespaces.has(NamespaceKind::User) {
            return Err(Error::invalid(
                "linux.namespaces",
                "an unprivileged user can only make containers with a user namespace",
            ));
        }
        return Ok(None);
    }
    if facts.host.is_root() {
        return Ok(Some(Mapping::Direct));
    }
    let own = |maps: &[specconv::IdMap], id| matches!(maps, [map] if map.host == id && map.size == 1);
    if own(&config.uid_mappings, facts.host.uid) && own(&config.gid_mappings, facts.host.gid) {
        return Ok(Some(Mapping::OwnId));
    }
    match &facts.helpers {
        Some(helpers) => Ok(Some(helpers.clone())),
        None => Err(Error::unsupported(
            "linux.uidMappings",
            "an unprivileged user needs newuidmap and newgidmap for these, and they are not on PATH",
        )),
    }
}

/// Ids without a map would be refused by the kernel late, and without a word about the field.
fn check_ids(config: &Config, process: &Process) -> Result<()> {
    if !config.namespaces.is_new(NamespaceKind::User) {
        return Ok(());
    }
    let mapped = |maps: &[specconv::IdMap], id: u32| {
        maps.iter().any(|map| id >= map.container && u64::from(id) < u64::from(map.container) + u64::from(map.size))
    };
    let check = |field: &str, maps: &[specconv::IdMap], id: u32| {
        if mapped(maps, id) {
            return Ok(());
        }
        Err(Error::new(Kind::Invalid, format!("{field}: {id} is not mapped in the user namespace")))
    };
    check("process.user.uid", &config.uid_mappings, process.user.uid)?;
    check("process.user.gid", &config.gid_mappings, process.user.gid)?;
    for (index, gid) in process.user.additional_gids.iter().enumerate() {
        check(&format!("process.user.additionalGids[{index}]"), &config.gid_mappings, *gid)?;
    }
    Ok(())
}

fn identity_plan(
    config: &Config,
    process: &Process,
    setgroups_denied: bool,
    id: &str,
    no_new_keyring: bool,
) -> Result<identity::Plan> {
    let keep = config.annotations.get("run.oci.keep_original_groups").is_some_and(|value| value != "0");
    let keep = if keep { Kept::Yes } else { Kept::No };
    let setgroups = if setgroups_denied { Setgroups::Denied } else { Setgroups::Allowed };
    let user = &process.user;
    Ok(identity::Plan {
        uid: user.uid,
        gid: user.gid,
        groups: Groups::decide(user.gid, &user.additional_gids, keep, setgroups)?,
        umask: user.umask,
        capabilities: process.capabilities,
        no_new_privileges: process.no_new_privileges,
        keyring: (!no_new_keyring).then(|| format!("_ses.{id}")),
    })
}

fn seccomp_plan(
    config: &Config,
    process: &Process,
    wishes: &Wishes<'_>,
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

fn rootfs_plan(config: &Config, facts: &Facts<'_>, wishes: &Wishes<'_>, cgroup: Option<&cgroup::Plan>) -> rootfs::Plan {
    let own = config.namespaces.has(NamespaceKind::Mount);
    rootfs::Plan {
        path: facts.rootfs.clone(),
        bundle: facts.bundle.clone(),
        readonly: config.root.readonly,
        entry: match (own, wishes.no_pivot) {
            (false, _) => rootfs::Entry::Chroot,
            (true, true) => rootfs::Entry::MoveRoot,
            (true, false) => rootfs::Entry::Pivot,
        },
        propagation: config.rootfs_propagation,
        mounts: config.mounts.clone(),
        devices: config.devices.clone(),
        user_namespace: config.namespaces.has(NamespaceKind::User),
        privileged: facts.host.is_root(),
        procfs_is_lent: false,
        masked_paths: config.masked_paths.clone(),
        readonly_paths: config.readonly_paths.clone(),
        mount_label: config.mount_label.clone(),
        cgroup: cgroup_view(config, cgroup, facts.layout),
    }
}

/// What the container's own cgroup mounts show. What two concerns share travels as data.
fn cgroup_view(config: &Config, cgroup: Option<&cgroup::Plan>, layout: &Layout) -> rootfs::CgroupView {
    let namespaces = &config.namespaces;
    let namespace = namespaces.has(NamespaceKind::Cgroup);
    let shares = !namespace && !namespaces.has(NamespaceKind::User) && namespaces.is_new(NamespaceKind::Mount);
    let Some(plan) = cgroup else {
        return match layout.v2().filter(|_| shares).map(|v2| v2.mount_point.clone()) {
            Some(host) => rootfs::CgroupView::V2 { path: host.clone(), host: Some(host) },
            None => rootfs::CgroupView::None,
        };
    };
    let views = plan.view();
    match (plan.mode(), views.as_slice()) {
        (cgroup::Mode::Unified, [view, ..]) => {
            let host = shares.then(|| view.mount_point.clone());
            rootfs::CgroupView::V2 { path: view.path.clone(), host }
        }
        (cgroup::Mode::Unified, []) => rootfs::CgroupView::None,
        _ => rootfs::CgroupView::V1 { hierarchies: views.into_iter().map(hierarchy).collect(), namespace },
    }
}

fn hierarchy(view: cgroup::View) -> rootfs::Hierarchy {
    let name = view.mount_point.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    rootfs::Hierarchy {
        name,
        fstype: if view.controllers.is_empty() { "cgroup2" } else { "cgroup" },
        options: view.controllers,
        path: view.path,
    }
}

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
/// As [`plan`].
pub fn plan_exec(config: &Config, process: Process, host: &Host, wishes: &Wishes<'_>) -> Result<ExecPlan> {
    check_ids(config, &process)?;
    let kinds: Vec<_> = config.namespaces.0.iter().map(|namespace| namespace.kind).collect();
    let join = kinds.iter().fold(0, |flags, kind| flags | namespaces::flag(*kind));
    let own_id = !host.is_root()
        && config.uid_mappings.len() == 1
        && config.gid_mappings.iter().all(|map| map.size == 1 && map.host == host.gid);
    let mut limits = limits_plan(config, &process);
    limits.cpu_affinity = process.exec_cpu_affinity.clone();
    limits.reset_affinity = limits.cpu_affinity.is_none();
    Ok(ExecPlan {
        join,
        mount_namespace: kinds.contains(&NamespaceKind::Mount),
        hide_early: host.is_root(),
        program: ProgramPlan {
            identity: identity_plan(
                config,
                &process,
                own_id || host.setgroups_denied,
                wishes.id,
                wishes.no_new_keyring,
            )?,
            limits,
            labels: labels_plan(&process, host)?,
            // The container's own, and what is to be known of it was told when that was made.
            seccomp: seccomp_plan(config, &process, wishes, &mut Vec::new())?,
            user_namespace: kinds.contains(&NamespaceKind::User),
            preserve_fds: wishes.preserve_fds,
            listen_env: wishes.listen_env.clone(),
            process,
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn host() -> Host {
        Host { uid: 0, gid: 0, in_user_namespace: false, setgroups_denied: false, apparmor: false, selinux: false }
    }

    fn labelled() -> Config {
        let text = br#"{"ociVersion":"1.0.2","root":{"path":"r"},"linux":{"mountLabel":"a:b"}}"#;
        specconv::convert(text).unwrap().config
    }

    #[test]
    fn cgroups_that_were_not_made_are_not_shown() {
        let named = |name: &str| rootfs::Hierarchy {
            name: name.to_owned(),
            fstype: "cgroup",
            options: vec![name.to_owned()],
            path: PathBuf::from(format!("/sys/fs/cgroup/{name}/web")),
        };
        let view = |namespace, names: &[&str]| rootfs::CgroupView::V1 {
            hierarchies: names.iter().map(|name| named(name)).collect(),
            namespace,
        };
        let made = BTreeMap::from([("pids".to_owned(), PathBuf::from("/sys/fs/cgroup/pids/web"))]);
        for (namespace, left) in [(false, &["pids"][..]), (true, &["memory", "pids"])] {
            let mut seen = view(namespace, &["memory", "pids"]);
            leave_out_missing(&mut seen, &made);
            assert_eq!(seen, view(namespace, left));
        }
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

    #[test]
    fn a_mount_label_is_for_selinux() {
        let mut config = labelled();
        assert_eq!(drop_label_without_selinux(&mut config, &Host { selinux: true, ..host() }), None);
        assert_eq!(config.mount_label.as_ref().map(|asked| asked.label.as_str()), Some("a:b"));
        let warning = drop_label_without_selinux(&mut config, &host()).unwrap();
        assert_eq!(warning.to_string(), "linux.mountLabel: SELinux is off on this host; \"a:b\" is not set");
        assert_eq!(config.mount_label, None);
    }
}
