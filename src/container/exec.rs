//! A second process in a living container.

use std::os::fd::{AsFd, OwnedFd};

use specconv::Process as Program;

use super::pid_file::PidFile;
use super::{Container, ExecArguments, ExecProcess, ExecRequest, Process, Status, descriptors, sockets, wrong};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::launch::{self, exec::Prepared};
use crate::plan::{self, ProgramWishes};
use crate::sys::file::{self, Mode, OFlags};
use crate::sys::{refused, socket};
use crate::terminal;

/// A process that `exec` has started.
#[derive(Debug)]
pub struct Execed {
    /// The process.
    pub process: Process,
    /// The master of its terminal, where the caller is to serve it.
    pub foreground: Option<OwnedFd>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Container {
    /// Starts a second process in the container; returns once its program was executed.
    ///
    /// # Errors
    /// Where the container is stopped, or paused without [`ExecRequest::ignore_paused`]; for what the process asks
    /// and cannot be had; for whatever fails on the way, the execve included. No process is left then.
    pub fn exec(&self, request: &ExecRequest) -> Result<Execed> {
        let stopped = || wrong("cannot exec in a stopped container");
        let init = self.init()?.ok_or_else(stopped)?;
        if self.status_of(Some(&init))? == Status::Paused && !request.ignore_paused {
            return Err(wrong("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        let config = specconv::convert(&self.dir.config()?)?.config;
        let (program, mut warnings) = program(&config, &request.process)?;
        sockets::check_terminal(program.terminal.is_some(), request.detach, request.console_socket.is_some())?;
        let mut host = Host::observe()?;
        host.look_at_modules(Some(&program), false);
        let (preserve_fds, listen_env) = descriptors::handed_down(request.preserve_fds)?;
        let wishes = ProgramWishes {
            id: self.id(),
            no_new_keyring: false,
            preserve_fds,
            listen_env,
            seccomp_receiver: crate::seccomp::listener::receiver(),
        };
        let plan = plan::plan_exec(&config, program, &host, &wishes)?;

        let (foreground, console) = sockets::console(&plan.program, request.console_socket.as_deref())?;
        let receiver = sockets::pidfd_receiver(request.pidfd_socket.as_deref())?;
        let cgroup = self.cgroup_of_exec(&request.cgroup, init.pid())?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let open_root = || file::openat(file::CWD, &self.record.rootfs, flags, Mode::empty());
        let root = if plan.mount_namespace { None } else { Some(open_root().doing("open the root filesystem")?) };
        let told = || self.told_state(&config, "running", self.record.init_process_pid);
        let agent = sockets::agent(&plan.program)?.map(|agent| (agent, told()));
        // A class that somebody has removed binds nobody any more.
        let class = self.class_of_rdt()?;
        let beside = request.cgroup.is_empty().then_some(init.pid());
        let prepared =
            Prepared { init: init.child(), cgroup: cgroup.as_ref(), beside, rdt: class.as_ref(), root, console, agent };
        let killed = kills(cgroup.as_ref());
        let (mut pid_file, mut master) = (None, None);
        let launched = launch::exec::exec(&plan, prepared, &mut |child| {
            if let Some(receiver) = &receiver {
                socket::send_with_fds(receiver, b"setns", &[child.as_fd()]).doing("send the pidfd")?;
            }
            // Sent long ago. Where it cannot be had there is still nothing executed.
            master = foreground.as_ref().map(|socket| terminal::receive(socket.as_fd())).transpose()?;
            pid_file = request.pid_file.as_deref().map(|path| PidFile::write(path, child.pid)).transpose()?;
            Ok(())
        });
        let launched = launched.map_err(|error| told_of_kills(error, killed, cgroup.as_ref()))?;
        if let Some(file) = pid_file {
            file.keep();
        }
        warnings.extend(launched.warnings);
        Ok(Execed { process: Process::new(launched.init.pid, launched.init.pidfd), foreground: master, warnings })
    }
}

impl Container {
    /// The cgroup that a second process joins: the container's, or the one below it that was asked for.
    fn cgroup_of_exec(&self, asked: &[String], init: i32) -> Result<Option<Cgroup>> {
        let Some(saved) = &self.record.cgroup else {
            return match asked.is_empty() {
                true => Ok(None),
                false => Err(Error::new(Kind::Invalid, "--cgroup: the container has no cgroup of its own")),
            };
        };
        if asked.is_empty() {
            return Cgroup::open(&saved.beside(nix::unistd::Pid::from_raw(init))?).map(Some);
        }
        let inner = saved.inner(asked)?;
        // To a handle, a directory that is gone only means that the container has stopped.
        match inner.paths.values().find(|path| !path.is_dir()) {
            Some(gone) => Err(Error::new(Kind::Invalid, format!("--cgroup: there is no cgroup {}", gone.display()))),
            None => Cgroup::open(&inner).map(Some),
        }
    }
}

fn kills(cgroup: Option<&Cgroup>) -> u64 {
    cgroup.and_then(|cgroup| cgroup.oom_kill_count().ok()).unwrap_or(0)
}

/// Somebody in the container was killed for want of memory meanwhile; it may have been our child. runc's words.
fn told_of_kills(error: Error, before: u64, cgroup: Option<&Cgroup>) -> Error {
    if kills(cgroup) > before { error.doing("(possibly OOM-killed)") } else { error }
}

/// What is to run, and what the user should know about it.
fn program(config: &specconv::Config, asked: &ExecProcess) -> Result<(Program, Vec<String>)> {
    match asked {
        ExecProcess::File(path) => {
            let text = std::fs::read(path).map_err(refused!("open", "{path:?}")).doing("read the process")?;
            let own = config.process.as_ref();
            let (process, warnings) = specconv::convert_process(&text, own).at(|| path.display().to_string())?;
            Ok((process, warnings.iter().map(ToString::to_string).collect()))
        }
        ExecProcess::Arguments(arguments) => {
            let base = config.process.clone().ok_or_else(|| Error::invalid("process", "the container has none"))?;
            Ok((changed(base, arguments)?, Vec::new()))
        }
    }
}

/// The container's own process, as the command line changes it; runc's rules.
fn changed(mut process: Program, arguments: &ExecArguments) -> Result<Program> {
    process.args = arguments.args.clone();
    process.terminal = arguments.tty.then_some(specconv::Terminal { size: None });
    if let Some(cwd) = &arguments.cwd {
        if !cwd.starts_with('/') {
            return Err(Error::new(Kind::Invalid, "--cwd: is not an absolute path"));
        }
        process.cwd = cwd.into();
    }
    for entry in &arguments.env {
        if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(Error::new(Kind::Invalid, format!("--env {entry:?}: is not KEY=value")));
        }
    }
    process.env.extend(arguments.env.iter().cloned());
    process.env = specconv::environment(process.env)?;
    if let Some((uid, gid)) = arguments.user {
        process.user.uid = uid;
        if let Some(gid) = gid {
            process.user.gid = gid;
        }
    }
    process.user.additional_gids.extend(&arguments.additional_gids);
    if let Some(no_new_privileges) = arguments.no_new_privs {
        process.no_new_privileges = no_new_privileges;
    }
    if arguments.apparmor.is_some() {
        process.apparmor_profile = arguments.apparmor.clone();
    }
    if arguments.process_label.is_some() {
        process.selinux_label = arguments.process_label.clone();
    }
    for name in &arguments.caps {
        let Some(number) = specconv::capability(name) else {
            return Err(Error::new(Kind::Invalid, format!("--cap {name:?}: there is no such capability")));
        };
        let bit = 1_u64 << number;
        let sets = &mut process.capabilities;
        sets.bounding |= bit;
        sets.effective |= bit;
        sets.permitted |= bit;
        if sets.inheritable != 0 {
            sets.ambient |= bit;
        }
    }
    Ok(process)
}
