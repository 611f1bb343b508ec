//! Every decision, no effects: what this host will do about what the config means.
//!
//! Each concern owns the type of its own instructions; this module, one rank above, fills them in. Nothing here
//! opens, makes or looks at anything: what has to be known of the host comes in as [`Facts`], what the caller wants
//! besides the config as [`Wishes`]. [`plan()`] decides about a container, [`plan_exec`] about a second process in one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use specconv::{Config, Hooks, NamespaceKind, NetDevice, Process, Sysctl};

use crate::cgroup::{self, Layout, Systemd};
use crate::error::{Error, Result};
use crate::hooks::{OCI_VERSION, OciState};
use crate::host::Host;
use crate::identity::Setgroups;
use crate::namespaces::{self, Mapping};
use crate::{rdt, rootfs};

mod delegation;
mod exec;
mod program;
mod root;

pub use exec::{ExecPlan, plan_exec};
pub use program::{ProgramPlan, ProgramWishes};

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
    /// Whether the runtime hides (non-dumpable) before it clones; without root's rights it could then not
    /// write its child's maps, and init hides later.
    pub hide_early: bool,
    /// Which steps of the story apply.
    pub script: Script,
    /// What was asked and does nothing on this host.
    pub warnings: Vec<specconv::Warning>,
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
    /// Who makes the cgroup.
    pub driver: cgroup::Driver,
    /// Whether errors of cgroups are tolerated.
    pub rootless_cgroups: bool,
    /// MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// What it asked for the program.
    pub program: ProgramWishes<'a>,
}

impl Plan {
    /// Takes out of the container's view the cgroups of v1 that could not be made: a runtime without rights over
    /// cgroups may do without them, and there is nothing to bind then. `made` are the directories that are there.
    ///
    /// A cgroup namespace shows what it shows without them, and on v2 the mount finds out by itself.
    pub fn see_only(&mut self, made: &BTreeMap<String, PathBuf>) {
        root::leave_out_missing(&mut self.rootfs.cgroup, made);
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
    let cgroup = cgroup_plan(&config, &process, facts, wishes)?;
    let rdt = config.intel_rdt.as_ref().map(|asked| rdt::plan(asked, wishes.program.id)).transpose()?;
    warnings.extend(root::drop_label_without_selinux(&mut config, facts.host));
    let rootfs = rootfs::Plan {
        procfs_is_lent: namespaces.bears_late(),
        ..root::plan(&config, facts, wishes.no_pivot, cgroup.as_ref())
    };
    let delegates = cgroup.as_ref().is_some_and(cgroup::Plan::delegates);
    let script = Script {
        lend: rootfs::lends(&rootfs) || !config.net_devices.is_empty() || delegates,
        runtime_hooks: needs_runtime_hooks(&config.hooks),
    };
    let denied = match &namespaces.ids {
        Some(ids) => ids.how == Mapping::OwnId || facts.host.setgroups_denied,
        None => facts.host.setgroups_denied,
    };
    let setgroups = if denied { Setgroups::Denied } else { Setgroups::Allowed };
    let mut program = program::plan(&config, process, setgroups, facts.host, &wishes.program, &mut warnings)?;
    // runc's default for init; exec keeps the inherited one.
    program.identity.umask.get_or_insert(0o022);
    Ok(Plan {
        id: wishes.program.id.to_owned(),
        bundle: facts.bundle.clone(),
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

/// Also where only `createContainer` hooks come: before they begin it is recorded that `poststop` hooks must follow.
fn needs_runtime_hooks(hooks: &Hooks) -> bool {
    let armed = !hooks.create_container.is_empty() && !hooks.poststop.is_empty();
    armed || !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty()
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

/// The container's cgroup; `None` where the caller asks for none, and then for no limits either.
fn cgroup_plan(
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
    wishes: &Wishes<'_>,
) -> Result<Option<cgroup::Plan>> {
    let delegated = delegation::below(config, process, facts.host);
    if wishes.driver == cgroup::Driver::Disabled {
        // A cgroup below one that the container does not have is no less than a limit.
        if let Some(below) = delegated {
            return Err(Error::invalid(below.field, "--cgroup-manager disabled asks for no cgroup"));
        }
        refuse_limits_without_cgroup(config)?;
        return Ok(None);
    }
    let request = cgroup::Request {
        id: wishes.program.id,
        cgroups_path: config.cgroups_path.as_deref(),
        driver: wishes.driver,
        resources: &config.resources,
        rootless: wishes.rootless_cgroups,
        in_user_namespace: facts.host.in_user_namespace,
        delegate_to: delegation::owner(config, process, facts.host),
        annotations: &config.annotations,
        systemd: facts.systemd,
        delegated: delegated.as_ref(),
    };
    cgroup::plan(&request, facts.layout).map(Some)
}

fn refuse_limits_without_cgroup(config: &Config) -> Result<()> {
    // Device rules are in every engine's config, and mean nothing without a cgroup to hold them.
    let resources = specconv::Resources { devices: Vec::new(), ..config.resources.clone() };
    if resources == specconv::Resources::default() {
        return Ok(());
    }
    Err(Error::invalid("linux.resources", "limits need a cgroup, and --cgroup-manager disabled asks for none"))
}
