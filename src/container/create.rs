//! From a bundle to a container that waits for `start`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use specconv::NamespaceKind;

use super::making::Making;
use super::store::check_id;
use super::{Container, Driver, Process, Record, Request, Rootless, descriptors, oom_killed, sockets};
use crate::cgroup::{self, Cgroup, Layout};
use crate::compat;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::launch::{Launched, Prepared};
use crate::namespaces;
use crate::notify;
use crate::plan::{self, Facts, Plan, ProgramWishes, Wishes};
use crate::rdt::Resctrl;
use crate::rootfs;
use crate::seccomp;
use crate::sys::process::Child;
use crate::sys::{refused, socket};
use crate::terminal;

/// A container that was just created.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// Its init, which waits for [`Container::start`].
    pub init: Process,
    /// The master of its terminal, where the caller is to serve it.
    pub foreground: Option<OwnedFd>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Makes a container; its program does not run before [`Container::start`].
///
/// # Errors
/// For what the config asks and cannot be had: before any effect. For what fails on the way: with every effect
/// undone, the `poststop` hooks run if hooks had begun.
pub fn create(request: &Request) -> Result<Created> {
    check_id(&request.id)?;
    let Decided { config, mut plan, record, notifies, mut warnings } = decide(request)?;
    if plan.mounts_on_host() {
        refuse_mounts_below(&plan.rootfs.path)?;
    }
    let (foreground, console) = sockets::console(&plan.program, request.console_socket.as_deref())?;
    // crun has an annotation for it, runc a flag.
    let annotated = plan.annotations.get("run.oci.pidfd_receiver").map(Path::new);
    let pidfd_receiver = sockets::pidfd_receiver(request.pidfd_socket.as_deref().or(annotated))?;
    let resctrl = plan.rdt.as_ref().map(|_| Resctrl::find()).transpose()?;
    let forecast = resctrl.as_ref().zip(plan.rdt.as_ref()).map(|(resctrl, plan)| resctrl.forecast(plan));
    let mut making = Making::begin(request, &plan, &config, Record { intel_rdt: forecast, ..record })?;
    if notifies {
        making.make_notify_directory()?;
    }
    let mut cgroup = plan.cgroup.as_ref().map(cgroup::make).transpose()?;
    if let (Some(cgroup), Some(planned)) = (&cgroup, &plan.cgroup) {
        making.note_cgroup(cgroup)?;
        if !cgroup.is_whole(planned) {
            refuse_what_cannot_be_ended(&plan, cgroup)?;
            plan.see_only(&cgroup.saved().paths);
        }
    }
    let class = match (resctrl, &plan.rdt) {
        (Some(resctrl), Some(plan)) => Some(making.make_class(resctrl, plan)?),
        _ => None,
    };
    let prepared = Prepared { rdt: class.as_ref(), ..making.prepare(&plan, cgroup.as_mut(), console)? };
    let launched = making.launch(&plan, prepared, request.pid_file.as_deref());
    if let (Err(_), Some(cgroup)) = (&launched, &cgroup) {
        // What systemd has made by now is to be undone, and nothing else.
        making.note_cgroup(cgroup)?;
    }
    let launched = launched.map_err(|error| told_of_want_of_memory(error, cgroup.as_ref()))?;
    let Launched { init: Child { pid, pidfd }, warnings: told } = launched;
    if let Some(receiver) = pidfd_receiver {
        socket::send_with_fds(&receiver, b"standard", &[pidfd.as_fd()]).doing("send the pidfd")?;
    }
    let foreground = foreground.map(|socket| terminal::receive(socket.as_fd())).transpose()?;
    warnings.extend(told);
    Ok(Created { container: making.done()?, init: Process::new(pid, pidfd), foreground, warnings })
}

/// A container of which everything is decided and nothing is made.
struct Decided {
    /// The bytes of `config.json`.
    config: Vec<u8>,
    plan: Plan,
    /// What is known of it before there is anything.
    record: Record,
    /// Whether its program is to tell a service manager that it is ready.
    notifies: bool,
    warnings: Vec<String>,
}

/// Reads the bundle, looks at the host, and decides. Leaves both as they are.
fn decide(request: &Request) -> Result<Decided> {
    let bundle = std::fs::canonicalize(&request.bundle)
        .map_err(refused!("realpath", "{:?}", request.bundle))
        .doing("find the bundle")?;
    let config = read_config(&bundle, &request.config)?;
    let mut converted = specconv::convert(&config)?;
    let notifies = notify::requested().is_some();
    if notifies {
        notify::show_in(&mut converted.config, &request.root.join(&request.id));
    }
    let mut warnings: Vec<String> = converted.warnings.iter().map(ToString::to_string).collect();
    let process = converted.config.process.as_ref();
    let terminal = process.is_some_and(|process| process.terminal.is_some());
    sockets::check_terminal(terminal, request.detach, request.console_socket.is_some())?;

    let mut host = Host::observe()?;
    host.look_at_modules(process, converted.config.mount_label.is_some());
    let layout = Layout::observe()?;
    let rootfs = find_rootfs(&bundle.join(&converted.config.root.path)).at(|| "root.path".into())?;
    let helpers =
        if host.is_root() { None } else { std::env::var("PATH").ok().and_then(|path| namespaces::find_helpers(&path)) };
    let systemd = match request.driver {
        Driver::Systemd => Some(cgroup::Systemd::observe(host.uid, host.in_user_namespace)?),
        _ => None,
    };
    let joined = |kind| converted.config.namespaces.get(kind).is_some_and(|namespace| namespace.path.is_some());
    let facts = Facts {
        host: &host,
        layout: &layout,
        systemd: systemd.as_ref(),
        helpers,
        lending: joined(NamespaceKind::Pid) && compat::mount_api::can_lend(),
        rootfs,
        bundle,
    };
    let (preserve_fds, listen_env) = descriptors::handed_down(request.preserve_fds)?;
    let wishes = Wishes {
        driver: request.driver,
        rootless_cgroups: rootless_cgroups(request, &host),
        no_pivot: request.no_pivot,
        program: ProgramWishes {
            id: &request.id,
            no_new_keyring: request.no_new_keyring,
            preserve_fds,
            listen_env,
            seccomp_receiver: seccomp::listener::receiver(),
        },
    };
    let plan = plan::plan(converted.config, &facts, &wishes)?;
    warnings.extend(plan.warnings.iter().map(ToString::to_string));
    if let Some(cgroup) = &plan.cgroup {
        warnings.extend(cgroup.warnings().iter().map(ToString::to_string));
    }
    let record = Record::of(&plan, wishes.rootless_cgroups, host.uid);
    Ok(Decided { config, plan, record, notifies, warnings })
}

/// Without a cgroup nobody can tell the container's processes from the host's, once init has ended. (Who asks for no
/// cgroup with `--cgroup-manager disabled` has been told.)
fn refuse_what_cannot_be_ended(plan: &Plan, cgroup: &Cgroup) -> Result<()> {
    if !cgroup.saved().paths.is_empty() || plan.namespaces.kinds.contains(&specconv::NamespaceKind::Pid) {
        return Ok(());
    }
    let why = "the container would have neither a cgroup nor a pid namespace, and its processes could not be ended";
    Err(Error::invalid("linux.namespaces", why))
}

/// A limit too low for init itself ends it in the middle of a step; runc's sentence then says why.
fn told_of_want_of_memory(error: Error, cgroup: Option<&Cgroup>) -> Error {
    let killed = cgroup.and_then(|cgroup| cgroup.oom_kill_count().ok()).unwrap_or(0);
    if killed > 0 { oom_killed(error) } else { error }
}

fn read_config(bundle: &Path, config: &Path) -> Result<Vec<u8>> {
    let path = bundle.join(config);
    std::fs::read(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            // runc's sentence.
            return Error::new(Kind::Invalid, format!("JSON specification file {} not found", path.display()));
        }
        refused!("open", "{path:?}")(error).into()
    })
}

/// The root filesystem's real path. What `root.path` names may not be a link itself, as with runc: where an image is
/// unpacked into the bundle, the image would choose a directory of the host (CVE-2026-33711, CVE-2026-66897).
fn find_rootfs(path: &Path) -> Result<PathBuf> {
    // A slash at the end would have lstat(2) follow.
    let named: PathBuf = path.components().collect();
    let found = std::fs::symlink_metadata(&named).map_err(refused!("lstat", "{named:?}"))?;
    if found.is_symlink() {
        return Err(Error::new(Kind::Invalid, format!("{} is a symbolic link", named.display())));
    }
    Ok(std::fs::canonicalize(&named).map_err(refused!("realpath", "{named:?}"))?)
}

/// `delete` unmounts all that is below the root filesystem of a container without a mount namespace, so nothing of
/// anybody else may be there: a volume, another container's mounts, or (with `/` for a root) all of the host's.
fn refuse_mounts_below(rootfs: &Path) -> Result<()> {
    let Some(place) = rootfs::mounted_below(rootfs)?.pop() else { return Ok(()) };
    let why = format!(
        "{} is mounted already; without a mount namespace it could not be told from the container's mounts, and \
         would be unmounted with them",
        place.display()
    );
    Err(Error::invalid("root.path", why))
}

fn rootless_cgroups(request: &Request, host: &Host) -> bool {
    match request.rootless {
        Rootless::Yes => true,
        Rootless::No => false,
        Rootless::Auto => !host.is_root() || host.in_user_namespace,
    }
}
