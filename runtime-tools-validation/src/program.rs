//! One program, one scratch directory, one time limit.

use crate::suite::{self, Program, Suite};
use crate::wrapper;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How a program reaches the runtime.
pub struct Launch {
    /// The runtime itself.
    pub runtime: PathBuf,
    /// What the program gets as RUNTIME in place of it, if anything.
    pub wrapper: Option<PathBuf>,
}

impl Launch {
    /// The program calls the runtime itself.
    pub fn bare(runtime: PathBuf) -> Launch {
        Launch { runtime, wrapper: None }
    }

    /// The program calls this very binary, which calls the runtime.
    pub fn wrapped(runtime: PathBuf) -> Result<Launch, String> {
        let own = std::env::current_exe().map_err(|e| format!("cannot find my own path: {e}"))?;
        Ok(Launch { runtime, wrapper: Some(own) })
    }
}

/// A directory of our own for one program: its working directory, with a `tmp` in it where its bundles go, so that
/// whatever lies there is known to be its.
pub struct Scratch {
    /// The working directory.
    pub path: PathBuf,
}

impl Scratch {
    /// Makes the directory and puts the suite's two files into it.
    pub fn make(suite: &Suite, program: &Program) -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("rtv-{}-{}", std::process::id(), program.name));
        let wrong = |e| format!("cannot set up {}: {e}", path.display());
        fs::create_dir(&path).map_err(wrong)?;
        let tmp = path.join("tmp");
        fs::create_dir(&tmp).map_err(wrong)?;
        for dir in [&path, &tmp] {
            // A container in a user namespace must be able to walk through both, whatever our umask is.
            fs::set_permissions(dir, Permissions::from_mode(0o755)).map_err(wrong)?;
        }
        fs::copy(&suite.rootfs, path.join(suite::rootfs_name())).map_err(wrong)?;
        fs::copy(&suite.runtimetest, path.join(suite::RUNTIMETEST)).map_err(wrong)?;
        Ok(Scratch { path })
    }
}

/// What a program did.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// What it printed; its TAP.
    pub stdout: String,
    /// What it printed beside that.
    pub stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It did not; it was killed after so long.
    TimedOut(Duration),
}

/// Runs `program` to its end, or to the end of its time.
pub fn run(program: &Program, scratch: &Scratch, launch: &Launch, timeout: Duration) -> Result<Run, String> {
    let wrong = |e: std::io::Error| format!("cannot run {}: {e}", program.path.display());
    // Files, not pipes: a container that outlives its program would hold a pipe open, and we would wait for it.
    let (out, err) = (scratch.path.join("stdout"), scratch.path.join("stderr"));
    let mut command = Command::new(&program.path);
    command
        .current_dir(&scratch.path)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/root")
        .env("TMPDIR", scratch.path.join("tmp"))
        .env("RUNTIME", launch.wrapper.as_ref().unwrap_or(&launch.runtime))
        .stdin(Stdio::null())
        .stdout(File::create(&out).map_err(wrong)?)
        .stderr(File::create(&err).map_err(wrong)?)
        // A group of its own, so that the time limit also ends the runtime it waits for.
        .process_group(0);
    if launch.wrapper.is_some() {
        command.env(wrapper::WRAPS, &launch.runtime);
    }
    let mut child = command.spawn().map_err(wrong)?;
    let ending = match wait(&mut child, timeout).map_err(wrong)? {
        Some(status) => match status.signal() {
            Some(signal) => Ending::Signaled(signal),
            None => Ending::Exited(status.code().unwrap_or(-1)),
        },
        None => Ending::TimedOut(timeout),
    };
    Ok(Run { ending, stdout: read(&out)?, stderr: read(&err)? })
}

/// Waits at most `timeout`, then kills the program's process group. `None` when it came to that.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= timeout {
            // The child is not reaped yet, so its id is still its own, and so is the group's.
            kill(&format!("-{}", child.id()));
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// SIGKILL to a process or, with a minus sign, to a group. The standard library has no call for either. That it is
/// gone already is no failure, so the answer is not looked at.
pub fn kill(target: &str) {
    let _ = Command::new("kill").args(["-KILL", "--", target]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
