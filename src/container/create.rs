//! From a bundle to a container that waits for `start`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use specconv::{Hooks, NamespaceKind};

use super::pid_file::PidFile;
use super::process::start_time;
use super::store::{Lock, StateDir};
use super::{Container, Driver, Phase, Process, Record, Request, Rootless, timestamp};
use crate::cgroup::{self, Cgroup, Layout};
use crate::compat;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::launch::{self, HookOutput, Launched, Milestone, Prepared};
use crate::namespaces::{self, Opened};
use crate::notify;
use crate::plan::{self, Facts, Plan, ProgramPlan, ProgramWishes, Wishes};
use crate::rdt::{self, Resctrl};
use crate::rootfs;
use crate::seccomp;
use crate::sys::file::OFlags;
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
    let bundle = std::fs::canonicalize(&request.bundle)
        .map_err(refused!("realpath", "{:?}", request.bundle))
        .doing("find the bundle")?;
    let text = read_config(&bundle, &request.config)?;
    let mut converted = specconv::convert(&text)?;
    let notifies = notify::requested().is_some();
    if notifies {
        notify::show_in(&mut converted.config, &request.root.join(&request.id));
    }
    let mut warnings: Vec<String> = converted.warnings.iter().map(ToString::to_string).collect();
    let terminal = converted.config.process.as_ref().is_some_and(|process| process.terminal.is_some());
    check_terminal(terminal, request.detach, request.console_socket.is_some())?;

    let mut host = Host::observe()?;
    look_at_modules(&mut host, converted.config.process.as_ref(), converted.config.mount_label.is_some());
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
        rootfs: rootfs.clone(),
        bundle: bundle.clone(),
    };
    let (preserve_fds, listen_env) = super::descriptors::handed_down(request.preserve_fds)?;
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
    let mut plan = plan::plan(converted.config, &facts, &wishes)?;
    warnings.extend(plan.warnings.iter().map(ToString::to_string));
    if let Some(cgroup) = &plan.cgroup {
        warnings.extend(cgroup.warnings().iter().map(ToString::to_string));
    }

    if plan.mounts_on_host() {
        refuse_mounts_below(&rootfs)?;
    }
    let (foreground, console) = console(&plan.program, request.console_socket.as_deref())?;
    // crun has an annotation for it, runc a flag.
    let asked = plan.annotations.get("run.oci.pidfd_receiver").map(Path::new);
    let pidfd_receiver = request.pidfd_socket.as_deref().or(asked).map(terminal::connect).transpose()?;
    let resctrl = plan.rdt.as_ref().map(|_| Resctrl::find()).transpose()?;
    let mut record = record(&plan, &host, &wishes, rootfs);
    if let (Some(resctrl), Some(plan)) = (&resctrl, &plan.rdt) {
        record.intel_rdt = Some(resctrl.forecast(plan));
    }
    let mut making = Making::begin(request, &plan, &text, record)?;
    if notifies {
        making.make_notify_directory()?;
    }
    let mut cgroup = plan.cgroup.as_ref().map(cgroup::make).transpose()?;
    if let Some(cgroup) = &cgroup {
        making.note_cgroup(cgroup)?;
        if !cgroup.warnings().is_empty() {
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

/// Looks at the security modules that are asked for a label, and at no other.
pub(super) fn look_at_modules(host: &mut Host, process: Option<&specconv::Process>, mount_label: bool) {
    if process.is_some_and(|process| process.apparmor_profile.is_some()) {
        host.look_at_apparmor();
    }
    if mount_label || process.is_some_and(|process| process.selinux_label.is_some()) {
        host.look_at_selinux();
    }
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

/// runc's sentence, around what else is known.
pub(super) fn oom_killed(error: Error) -> Error {
    error.doing("container init was OOM-killed (memory limit too low?)")
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

/// A namespace that is listed, but is the host's by its path, keeps neither a kernel parameter nor a name from the host.
fn refuse_to_change_ours(plan: &Plan, namespaces: &[Opened]) -> Result<()> {
    let names = [("hostname", &plan.hostname), ("domainname", &plan.domainname)];
    let names =
        names.into_iter().filter(|(_, name)| name.is_some()).map(|(field, _)| (field.to_owned(), NamespaceKind::Uts));
    let parameters = plan.sysctl.iter().map(|one| (format!("linux.sysctl[{:?}]", one.key), one.namespace));
    for (field, kind) in names.chain(parameters) {
        if namespaces::is_ours(namespaces, kind)? {
            let why = format_args!("the {} namespace to join is the host's; this would change the host", kind.name());
            return Err(Error::invalid(field, why));
        }
    }
    Ok(())
}

/// runc's two rules about who gets the terminal, in its words.
pub(super) fn check_terminal(terminal: bool, detach: bool, console_socket: bool) -> Result<()> {
    let sentence = match (terminal, detach, console_socket) {
        (true, true, false) => "cannot allocate tty if runc will detach without setting console socket",
        (false, _, true) | (_, false, true) => "cannot use console socket if runc will not detach or allocate tty",
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Invalid, sentence))
}

fn rootless_cgroups(request: &Request, host: &Host) -> bool {
    match request.rootless {
        Rootless::Yes => true,
        Rootless::No => false,
        Rootless::Auto => !host.is_root() || host.in_user_namespace,
    }
}

fn record(plan: &Plan, host: &Host, wishes: &Wishes<'_>, rootfs: PathBuf) -> Record {
    Record {
        id: plan.id.clone(),
        init_process_pid: 0,
        init_process_start: 0,
        created: timestamp::now(),
        rootless: wishes.rootless_cgroups,
        cgroup_paths: BTreeMap::new(),
        namespace_paths: BTreeMap::new(),
        layout: super::record::LAYOUT,
        bundle: plan.bundle.clone(),
        rootfs,
        phase: Phase::Creating,
        cgroup: None,
        intel_rdt: None,
        private_pid_namespace: plan.namespaces.new_pid,
        poststart: !plan.hooks.poststart.is_empty(),
        poststop_armed: false,
        mounts_on_host: plan.mounts_on_host(),
        owner: host.uid,
    }
}

/// Where the terminal's master goes: our end, where we are to serve it in the foreground, and the end it is sent
/// into.
pub(super) fn console(plan: &ProgramPlan, socket: Option<&Path>) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if plan.process.terminal.is_none() {
        return Ok((None, None));
    }
    match socket {
        Some(path) => Ok((None, Some(terminal::connect(path)?))),
        None => {
            let (ours, theirs) = socket::socketpair_seqpacket().doing("make a socket for the terminal")?;
            Ok((Some(ours), Some(theirs)))
        }
    }
}

/// Connects to who answers the filter's notifications.
pub(super) fn agent(plan: &ProgramPlan) -> Result<Option<OwnedFd>> {
    plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref()).map(seccomp::listener::connect).transpose()
}

/// A container under construction. Dropped before [`Making::done`], it is deleted as `delete --force` would.
struct Making {
    /// `None` once the container stands.
    container: Option<Container>,
    /// Held until the container stands. Init has a copy of it, and lets go of it first thing.
    lock: Option<Lock>,
    pid_file: Option<PidFile>,
}

impl Making {
    /// Claims the id, and leaves what `delete --force` needs in case we are killed at any later point.
    fn begin(request: &Request, plan: &Plan, config: &[u8], record: Record) -> Result<Self> {
        let dir = StateDir::create(&request.root, &request.id)?;
        let mut making = Making { container: Some(Container { dir, record }), lock: None, pid_file: None };
        let Making { container: Some(container), lock, .. } = &mut making else { return Err(already_done()) };
        *lock = Some(container.dir.lock(Duration::ZERO)?);
        container.dir.save_config(config)?;
        container.dir.make_fifo()?;
        container.record.cgroup = plan.cgroup.as_ref().map(cgroup::Plan::forecast);
        container.record.cgroup_paths =
            container.record.cgroup.as_ref().map(|saved| saved.paths.clone()).unwrap_or_default();
        container.dir.write_record(&container.record)?;
        Ok(making)
    }

    /// What was made may be less than what was forecast: nobody who is not root gets all of it. Written with the pid.
    fn note_cgroup(&mut self, cgroup: &Cgroup) -> Result<()> {
        self.container.as_mut().ok_or_else(already_done)?.record.set_cgroup(cgroup.saved());
        Ok(())
    }

    /// As for the cgroup: what was made is noted with the pid.
    fn make_class(&mut self, resctrl: Resctrl, plan: &rdt::Plan) -> Result<rdt::Group> {
        let record = &mut self.container.as_mut().ok_or_else(already_done)?.record;
        let made = resctrl.make(plan);
        record.intel_rdt = made.as_ref().ok().map(|class| class.saved().clone());
        made
    }

    fn make_notify_directory(&self) -> Result<()> {
        notify::make_directory(self.container.as_ref().ok_or_else(already_done)?.dir.dirfd())
    }

    /// Opens on the host what init will need.
    fn prepare<'a>(
        &self,
        plan: &Plan,
        cgroup: Option<&'a mut Cgroup>,
        console: Option<OwnedFd>,
    ) -> Result<Prepared<'a>> {
        let container = self.container.as_ref().ok_or_else(already_done)?;
        let namespaces = namespaces::open(&plan.namespaces.join)?;
        refuse_to_change_ours(plan, &namespaces)?;
        Ok(Prepared {
            cgroup,
            rdt: None,
            namespaces,
            gate: container.dir.open_fifo(OFlags::RDWR)?,
            console,
            bundle: open_directory(&plan.bundle)?,
            hook_output: match has_hooks_before_the_program(&plan.hooks) {
                true => hook_output(&plan.annotations)?,
                false => HookOutput::default(),
            },
            agent: agent(&plan.program)?,
        })
    }

    fn launch(&mut self, plan: &Plan, prepared: Prepared<'_>, pid_file: Option<&Path>) -> Result<Launched> {
        let container = self.container.as_mut().ok_or_else(already_done)?;
        let has_poststop = !plan.hooks.poststop.is_empty();
        launch::create(plan, prepared, &mut |milestone| {
            let record = &mut container.record;
            match milestone {
                Milestone::Born(init, cgroup) => {
                    if let Some(cgroup) = cgroup {
                        record.set_cgroup(cgroup.saved());
                    }
                    record.set_init(init.pid, start_time(init.pid).unwrap_or_default());
                }
                Milestone::HooksBegin => record.poststop_armed = has_poststop,
                Milestone::Ready(init) => {
                    record.phase = Phase::Created;
                    record.poststop_armed = has_poststop;
                    self.pid_file = pid_file.map(|path| PidFile::write(path, init.pid)).transpose()?;
                }
            }
            container.dir.write_record(&container.record)
        })
    }

    fn done(mut self) -> Result<Container> {
        if let Some(file) = self.pid_file.take() {
            file.keep();
        }
        self.container.take().ok_or_else(already_done)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            container.abandon();
        }
    }
}

fn already_done() -> Error {
    Error::new(Kind::Other, "the container is already done")
}

/// Opens a directory of the host, as a working directory for hooks.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    File::open(path).map(OwnedFd::from).map_err(refused!("open", "{path:?}")).doing("open the bundle")
}

/// Without these nothing is opened: an annotation alone, which some engines take from their tenants, makes no file.
fn has_hooks_before_the_program(hooks: &Hooks) -> bool {
    let kinds = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container];
    kinds.iter().any(|hooks| !hooks.is_empty())
}

/// Opens the files that get the output of hooks (crun's annotations).
pub(super) fn hook_output(annotations: &BTreeMap<String, String>) -> Result<HookOutput> {
    let open = |key: &str| -> Result<Option<OwnedFd>> {
        let Some(path) = annotations.get(key) else { return Ok(None) };
        let file = File::options().append(true).create(true).open(path);
        file.map(|file| Some(file.into())).map_err(refused!("open", "{path:?}")).at(|| format!("annotations[{key:?}]"))
    };
    Ok(HookOutput { stdout: open("run.oci.hooks.stdout")?, stderr: open("run.oci.hooks.stderr")? })
}
