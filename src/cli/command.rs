//! One function for each command: from its flags to the library and back.

use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};

use super::args::{Delete, Events, Exec, Global, Kill, List, Making, Ps, Run, Spec, Update};
use super::log::Log;
use super::root::Root;
use super::{events, report};
use crate::cgroup::{self, Layout};
use crate::container::{
    self, Container, Created, Deletion, Driver, ExecArguments, ExecProcess, ExecRequest, Notice, Request, Status, Whom,
};
use crate::notify::Relay;
use crate::sys::Errno;
use crate::sys::pattern::Pattern;
use crate::sys::process::Child;
use crate::terminal::{Foreground, Guest};
use crate::{Kind, signal};

type Done = anyhow::Result<u8>;

pub(super) fn create(global: &Global, create: super::args::Create, operands: Vec<String>, log: &Log) -> Done {
    let request = request(global, create.making, operands, true)?;
    let Created { warnings, init, .. } = container::create(&request)?;
    tell(log, &warnings);
    log.debug(&format!("process {} waits for start", init.pid()));
    Ok(0)
}

pub(super) fn run(global: &Global, run: Run, operands: Vec<String>, log: &Log) -> Done {
    let adopts = !run.making.no_subreaper;
    let request = request(global, run.making, operands, run.detach)?;
    let mut foreground = if run.detach { None } else { Some(Foreground::begin()?) };
    if adopts && let Some(foreground) = &mut foreground {
        foreground.adopt_orphans()?;
    }
    let mut created = container::create(&request)?;
    tell(log, &created.warnings);
    log.debug(&format!("process {} waits for start", created.init.pid()));
    if let (Some(foreground), Some(master)) = (&mut foreground, created.foreground) {
        foreground.attach(master)?;
    }
    let ended = created.container.readiness().and_then(|readiness| {
        created.container.start()?;
        match (foreground, readiness) {
            (None, None) => Ok(None),
            (None, Some(relay)) => relay.serve(created.init.pid(), created.init.watched()?).map(|()| None),
            (Some(mut foreground), readiness) => {
                if let Some(relay) = readiness {
                    foreground.invite(Readiness(relay));
                }
                foreground.wait(created.init.child()).map(Some)
            }
        }
    });
    let leave = run.keep && ended.is_ok();
    if !(leave || matches!(ended, Ok(None))) {
        match container::delete(&request.root, &request.id, Deletion::Force) {
            Ok(warnings) => tell(log, &warnings),
            Err(error) if ended.is_ok() => return Err(error.into()),
            Err(error) => log.warning(&error.to_string()),
        }
    }
    exit_code(ended?.unwrap_or(0))
}

pub(super) fn start(global: &Global, operands: &[String]) -> Done {
    let mut container = load(global, operands)?;
    let readiness = container.readiness()?;
    let init = if readiness.is_some() { container.init()? } else { None };
    let served = match (&readiness, &init) {
        // Before the start: what cannot be waited for is refused while nothing runs.
        (Some(relay), Some(init)) => Some((relay, init.pid(), init.watched()?)),
        _ => None,
    };
    container.start()?;
    if let Some((relay, pid, end)) = served {
        relay.serve(pid, end)?;
    }
    Ok(0)
}

/// The service manager told while we stand in the foreground.
#[derive(Debug)]
struct Readiness(Relay);

impl Guest for Readiness {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    fn serve(&mut self, child: &Child) -> bool {
        // A service manager that cannot be told is no reason to leave the container alone.
        self.0.relay(child.pid).unwrap_or(true)
    }
}

pub(super) fn state(global: &Global, operands: &[String]) -> Done {
    let container = Container::look_at(&Root::of(global)?.path, first(operands)?)?;
    report::print(&report::state(&container.state()?)?)?;
    Ok(0)
}

pub(super) fn kill(global: &Global, kill: &Kill, operands: &[String]) -> Done {
    // An empty word is a signal that was not given, as in runc.
    let asked = operands.get(1).map(String::as_str).filter(|word| !word.is_empty());
    let signal = signal::parse(asked.unwrap_or("TERM"))?;
    let whom = if kill.all { Whom::All } else { Whom::Init };
    let root = Root::of(global)?.path;
    if !kill.regex {
        Container::load(&root, first(operands)?)?.kill(signal, whom)?;
        return Ok(0);
    }
    each(&root, first(operands)?, |id| match Container::load(&root, id)?.kill(signal, whom) {
        // One that has stopped is none of those meant.
        Err(error) if matches!(error.kind(), Kind::NotRunning | Kind::NotFound) => Ok(()),
        done => Ok(done?),
    })
}

pub(super) fn delete(global: &Global, delete: &Delete, operands: &[String], log: &Log) -> Done {
    let how = if delete.force { Deletion::Force } else { Deletion::Gentle };
    let root = Root::of(global)?.path;
    if !delete.regex {
        tell(log, &container::delete(&root, first(operands)?, how)?);
        return Ok(0);
    }
    each(&root, first(operands)?, |id| {
        tell(log, &container::delete(&root, id, how)?);
        Ok(())
    })
}

pub(super) fn exec(global: &Global, exec: Exec, operands: Vec<String>, log: &Log) -> Done {
    let container = load(global, &operands)?;
    let request = exec_request(exec, operands.into_iter().skip(1).collect())?;
    let mut foreground = if request.detach { None } else { Some(Foreground::begin()?) };
    let execed = container.exec(&request)?;
    tell(log, &execed.warnings);
    log.debug(&format!("process {} runs beside the container's init", execed.process.pid()));
    let Some(mut foreground) = foreground.take() else { return Ok(0) };
    if let Some(master) = execed.foreground {
        foreground.attach(master)?;
    }
    exit_code(foreground.wait(execed.process.child())?)
}

pub(super) fn list(global: &Global, list: &List) -> Done {
    if !list.quiet && list.format != "table" && list.format != "json" {
        bail!("invalid format option");
    }
    let root = Root::of(global)?;
    let found = match container::list(&root.path) {
        Err(error) if error.errno() == Some(Errno::ENOENT) && !root.named => Vec::new(),
        found => found.with_context(|| format!("cannot list {}", root.path.display()))?,
    };
    if list.quiet {
        report::print(&found.iter().map(|listed| format!("{}\n", listed.id)).collect::<String>())?;
        return Ok(0);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut states = Vec::with_capacity(found.len());
    for listed in found {
        match listed.container.and_then(|container| report::listed(&container, &accounts)) {
            Ok(state) => states.push(state),
            Err(error) => drop(writeln!(std::io::stderr(), "load container {}: {error}", listed.id)),
        }
    }
    report::print(&if list.format == "json" { report::list_json(&states)? } else { report::list_table(&states) })?;
    Ok(0)
}

pub(super) fn ps(global: &Global, ps: &Ps, operands: &[String]) -> Done {
    let json = match ps.format.as_str() {
        "json" => true,
        "table" => false,
        _ => bail!("invalid format option"),
    };
    let pids = load(global, operands)?.processes()?;
    let arguments = operands.get(1..).unwrap_or_default();
    report::print(&if json { report::ps_json(&pids)? } else { report::ps_table(&pids, arguments)? })?;
    Ok(0)
}

pub(super) fn pause(global: &Global, operands: &[String]) -> Done {
    load(global, operands)?.pause()?;
    Ok(0)
}

pub(super) fn resume(global: &Global, operands: &[String]) -> Done {
    load(global, operands)?.resume()?;
    Ok(0)
}

pub(super) fn update(global: &Global, update: &Update, operands: &[String], log: &Log) -> Done {
    let container = load(global, operands)?;
    let (asked, warnings) = super::limits::asked(update)?;
    tell(log, &warnings);
    let lines = super::limits::schemata(update)?;
    let before = if lines.is_empty() { None } else { Some(container.update_rdt(&lines)?) };
    match container.update(&asked) {
        Ok(warnings) => tell(log, &warnings),
        Err(error) => {
            // All or nothing, also where it is two filesystems.
            if let Some(Err(back)) = before.map(|before| container.update_rdt(&before)) {
                log.warning(&format!("cannot set the schemata of Intel RDT back: {back}"));
            }
            return Err(error.into());
        }
    }
    Ok(0)
}

pub(super) fn events(global: &Global, asked: &Events, operands: &[String], log: &Log) -> Done {
    let container = load(global, operands)?;
    let interval = super::quantity::duration(&asked.interval)?;
    if interval.is_zero() {
        bail!("duration interval must be greater than 0");
    }
    let id = container.id();
    if container.status()? == Status::Stopped {
        bail!("container with id {id} is not running");
    }
    if asked.stats {
        report::print(&events::stats(id, &container.stats()?, container.rdt_stats()?)?)?;
        return Ok(0);
    }
    let mut notices = match container.notify_oom() {
        Err(error) if error.kind() == Kind::Unsupported => {
            log.warning(&error.to_string());
            container.notify_end()?
        }
        notices => notices?,
    };
    let mut next = Instant::now() + interval;
    loop {
        match notices.wait(Some(next.saturating_duration_since(Instant::now())))? {
            Notice::Happened => report::print(&events::oom(id)?)?,
            Notice::TimeIsUp => {
                match container.stats() {
                    // It has stopped in this moment: its end comes next.
                    Err(error) if error.kind() == Kind::NotRunning => {}
                    stats => report::print(&events::stats(id, &stats?, container.rdt_stats()?)?)?,
                }
                next += interval;
            }
            Notice::Ended => return Ok(0),
        }
    }
}

pub(super) fn spec(spec: &Spec) -> Done {
    let path = spec.bundle.as_deref().unwrap_or(Path::new("")).join(&spec.file);
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let cgroup_v2 = Layout::observe()?.mode == cgroup::Mode::Unified;
    let text = specconv::example(specconv::ExampleFor { rootless: spec.rootless.then_some(ids), cgroup_v2 });
    let file = File::create_new(&path);
    if file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
        bail!("File {} exists. Remove it first", spec.file.display());
    }
    let doing = || format!("cannot write {}", path.display());
    file.with_context(doing)?.write_all(text.as_bytes()).with_context(doing)?;
    Ok(0)
}

pub(super) fn features() -> Done {
    report::print(&super::features::document()?)?;
    Ok(0)
}

fn first(operands: &[String]) -> anyhow::Result<&str> {
    operands.first().map(String::as_str).context("container id cannot be empty")
}

fn load(global: &Global, operands: &[String]) -> anyhow::Result<Container> {
    Ok(Container::load(&Root::of(global)?.path, first(operands)?)?)
}

fn tell(log: &Log, warnings: &[String]) {
    for warning in warnings {
        log.warning(warning);
    }
}

/// Does something to every container whose id a regular expression fits, and fails if it fails for one.
fn each(root: &Path, expression: &str, mut act: impl FnMut(&str) -> anyhow::Result<()>) -> Done {
    let pattern = Pattern::new(expression).with_context(|| format!("invalid regular expression {expression:?}"))?;
    let ids = match container::ids(root) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Vec::new(),
        ids => ids.with_context(|| format!("cannot list {}", root.display()))?,
    };
    let mut failures = Vec::new();
    for id in ids.iter().filter(|id| pattern.matches(id)) {
        if let Err(error) = act(id) {
            failures.push(format!("{id}: {error:#}"));
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(0)
}

fn exit_code(code: i32) -> Done {
    u8::try_from(code).with_context(|| format!("exit code {code} is out of range"))
}

/// An empty word for a path is a path that was not given, as in runc.
fn given(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn request(global: &Global, making: Making, operands: Vec<String>, detach: bool) -> anyhow::Result<Request> {
    let root = Root::of(global)?;
    root.prepare()?;
    let asked = if global.systemd_cgroup { Driver::Systemd } else { Driver::Cgroupfs };
    let driver = global.cgroup_manager.unwrap_or(asked);
    let bundle = given(Some(making.bundle)).unwrap_or_else(|| PathBuf::from("."));
    let bundle = std::path::absolute(&bundle).with_context(|| format!("cannot use bundle {}", bundle.display()))?;
    Ok(Request {
        root: root.path,
        id: operands.into_iter().next().context("container id cannot be empty")?,
        bundle,
        config: making.config,
        console_socket: given(making.console_socket),
        pidfd_socket: given(making.pidfd_socket),
        pid_file: given(making.pid_file),
        no_pivot: making.no_pivot,
        no_new_keyring: making.no_new_keyring,
        preserve_fds: making.preserve_fds,
        driver,
        rootless: global.rootless,
        detach,
    })
}

/// A supplementary group by its number; read as strictly as the user (CVE-2026-30892, T21).
fn group(text: &str) -> anyhow::Result<u32> {
    match specconv::parse_user(text) {
        Ok((gid, None)) => Ok(gid),
        _ => bail!("--additional-gids {text:?} is not a group id"),
    }
}

pub(super) fn exec_request(exec: Exec, args: Vec<String>) -> anyhow::Result<ExecRequest> {
    let process = match given(exec.process) {
        Some(file) => ExecProcess::File(file),
        None if args.is_empty() => bail!("process args cannot be empty"),
        None => ExecProcess::Arguments(ExecArguments {
            args,
            cwd: exec.cwd.filter(|cwd| !cwd.is_empty()),
            env: exec.env,
            user: exec.user.filter(|user| !user.is_empty()).as_deref().map(specconv::parse_user).transpose()?,
            additional_gids: exec.additional_gids.iter().map(|gid| group(gid)).collect::<Result<_, _>>()?,
            tty: exec.tty.unwrap_or(false),
            process_label: exec.process_label.filter(|label| !label.is_empty()),
            apparmor: exec.apparmor.filter(|profile| !profile.is_empty()),
            no_new_privs: exec.no_new_privs,
            caps: exec.cap,
        }),
    };
    Ok(ExecRequest {
        process,
        console_socket: given(exec.console_socket),
        pidfd_socket: given(exec.pidfd_socket),
        pid_file: given(exec.pid_file),
        detach: exec.detach,
        preserve_fds: exec.preserve_fds,
        cgroup: exec.cgroup,
        ignore_paused: exec.ignore_paused,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn t21_groups_are_numbers() {
        assert_eq!(group("7").unwrap(), 7);
        for bad in ["", "1:2", "0x1", " 1", "1 ", "+1", "-1", "01", "4294967295", "4294967296", "wheel"] {
            assert!(group(bad).is_err(), "{bad:?}");
        }
    }
}
