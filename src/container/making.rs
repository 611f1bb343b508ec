//! A container under construction: its state directory, and the record of how far its creation has come.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use specconv::{Hooks, NamespaceKind};

use super::pid_file::PidFile;
use super::process::start_time;
use super::store::{Lock, StateDir};
use super::{Container, Phase, Record, Request, hooks, sockets};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::launch::{self, HookOutput, Launched, Milestone, Prepared};
use crate::namespaces::{self, Opened};
use crate::notify;
use crate::plan::Plan;
use crate::rdt::{self, Resctrl};
use crate::sys::file::OFlags;

/// A container under construction. Dropped before [`Making::done`], it is deleted as `delete --force` would.
pub(super) struct Making {
    /// `None` once the container stands.
    container: Option<Container>,
    /// Held until the container stands. Init has a copy of it, and lets go of it first thing.
    lock: Option<Lock>,
    pid_file: Option<PidFile>,
}

impl Making {
    /// Claims the id, and leaves what `delete --force` needs in case we are killed at any later point.
    pub(super) fn begin(request: &Request, plan: &Plan, config: &[u8], record: Record) -> Result<Self> {
        let dir = StateDir::create(&request.root, &request.id)?;
        let mut making = Making { container: Some(Container { dir, record }), lock: None, pid_file: None };
        let Making { container: Some(container), lock, .. } = &mut making else { return Err(already_done()) };
        *lock = Some(container.dir.lock(Duration::ZERO)?);
        container.dir.save_config(config)?;
        container.dir.make_fifo()?;
        if let Some(cgroup) = &plan.cgroup {
            container.record.set_cgroup(cgroup.forecast());
        }
        container.dir.write_record(&container.record)?;
        Ok(making)
    }

    /// What was made may be less than what was forecast: nobody who is not root gets all of it. Written with the pid.
    pub(super) fn note_cgroup(&mut self, cgroup: &Cgroup) -> Result<()> {
        self.container()?.record.set_cgroup(cgroup.saved());
        Ok(())
    }

    /// As for the cgroup: what was made is noted with the pid.
    pub(super) fn make_class(&mut self, resctrl: Resctrl, plan: &rdt::Plan) -> Result<rdt::Group> {
        let record = &mut self.container()?.record;
        let made = resctrl.make(plan);
        record.intel_rdt = made.as_ref().ok().map(|class| class.saved().clone());
        made
    }

    /// Makes the directory over which the program tells that it is ready.
    pub(super) fn make_notify_directory(&mut self) -> Result<()> {
        notify::make_directory(self.container()?.dir.dirfd())
    }

    /// Opens on the host what init will need.
    pub(super) fn prepare<'a>(
        &mut self,
        plan: &Plan,
        cgroup: Option<&'a mut Cgroup>,
        console: Option<OwnedFd>,
    ) -> Result<Prepared<'a>> {
        let namespaces = namespaces::open(&plan.namespaces.join)?;
        refuse_to_change_ours(plan, &namespaces)?;
        Ok(Prepared {
            cgroup,
            rdt: None,
            namespaces,
            gate: self.container()?.dir.open_fifo(OFlags::RDWR)?,
            console,
            bundle: hooks::open_bundle(&plan.bundle)?,
            hook_output: match has_hooks_before_the_program(&plan.hooks) {
                true => hooks::output(&plan.annotations)?,
                false => HookOutput::default(),
            },
            agent: sockets::agent(&plan.program)?,
        })
    }

    /// Launches init, and keeps the record of how far that has come.
    pub(super) fn launch(&mut self, plan: &Plan, prepared: Prepared<'_>, pid_file: Option<&Path>) -> Result<Launched> {
        let container = self.container.as_mut().ok_or_else(already_done)?;
        let has_poststop = !plan.hooks.poststop.is_empty();
        launch::create(plan, prepared, &mut |milestone| {
            let record = &mut container.record;
            match milestone {
                Milestone::Born(init, cgroup) => {
                    if let Some(cgroup) = cgroup {
                        record.set_cgroup(cgroup.saved());
                    }
                    let begun = start_time(init.pid).doing(HIDDEN)?;
                    record.set_init(init.pid, begun.unwrap_or_default());
                }
                Milestone::HooksBegin => record.poststop_armed = has_poststop,
                Milestone::Ready(init) => {
                    if record.owner != 0 {
                        // It hides from everybody like us by now.
                        start_time(init.pid).doing(HIDDEN)?;
                    }
                    record.phase = Phase::Created;
                    record.poststop_armed = has_poststop;
                    self.pid_file = pid_file.map(|path| PidFile::write(path, init.pid)).transpose()?;
                }
            }
            container.dir.write_record(&container.record)
        })
    }

    fn container(&mut self) -> Result<&mut Container> {
        self.container.as_mut().ok_or_else(already_done)
    }

    /// The container stands.
    pub(super) fn done(mut self) -> Result<Container> {
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

/// Init is our child and not reaped. If it cannot be found again, it would be taken for one that has ended, and left.
const HIDDEN: &str =
    "look at the container's init (a /proc with hidepid shows it to nobody but root, and to its group gid=)";

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

/// Without these nothing is opened: an annotation alone, which some engines take from their tenants, makes no file.
fn has_hooks_before_the_program(hooks: &Hooks) -> bool {
    let kinds = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container];
    kinds.iter().any(|hooks| !hooks.is_empty())
}

fn already_done() -> Error {
    Error::new(Kind::Other, "the container is already done")
}
