//! Hooks: programs run at points of the lifecycle (config.md#posix-platform-hooks).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use serde::Serialize;
use specconv::Hook;

use crate::compat::{close_range, pidfd};
use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use crate::sys::descriptor::{Progress, Watch, pipe, poll, read, set_nonblocking, write};
use crate::sys::file::{Mode, fchdir, umask};
use crate::sys::process::{Child, Ended, waitid};
use crate::sys::spawn::{Program, environment, own_process_group, spawn};

/// The version of the specification that our states name.
pub const OCI_VERSION: &str = "1.3.0";

/// When a hook runs, by the name it has in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// Deprecated; with, and before, `createRuntime`.
    Prestart,
    /// In the runtime's namespaces, before pivot_root.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root.
    CreateContainer,
    /// In the container, at `start`.
    StartContainer,
    /// In the runtime's namespaces, after the program was started.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl HookKind {
    /// The key in `config.json`: `createRuntime`.
    pub fn name(self) -> &'static str {
        match self {
            HookKind::Prestart => "prestart",
            HookKind::CreateRuntime => "createRuntime",
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
            HookKind::Poststart => "poststart",
            HookKind::Poststop => "poststop",
        }
    }
}

/// The state of a container as the specification writes it (runtime.md#state).
///
/// Hooks read it on their standard input; `state` prints it; seccomp agents get it with their descriptor.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    /// Version of the specification: [`OCI_VERSION`].
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'a str,
    /// Init's process id in the runtime's pid namespace; 0 where there is none (and then not written).
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: &'a str,
    /// The config's annotations; not written when empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl OciState<'_> {
    /// One line of JSON, slashes as they are: hooks written in shell search it with grep.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What all hooks of one kind share.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Which hooks these are.
    pub kind: HookKind,
    /// What they read on standard input: [`OciState::to_json`].
    pub state: &'a str,
    /// The environment of the container's program, which `startContainer` hooks have where their config has no `env`.
    pub program_env: &'a [String],
    /// Working directory; `None` keeps the caller's. Hooks of the runtime's namespaces get the bundle.
    pub directory: Option<BorrowedFd<'a>>,
    /// Where their output goes instead of into messages (crun's `run.oci.hooks.stdout` and `.stderr`).
    pub output: Output<'a>,
}

/// Files that get what hooks print, opened by the caller for appending.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output<'a> {
    /// `run.oci.hooks.stdout`.
    pub stdout: Option<BorrowedFd<'a>>,
    /// `run.oci.hooks.stderr`.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// Runs hooks one after the other and stops at the first that fails.
///
/// A hook gets exactly its own environment, three standard streams and no other descriptor, default signal
/// dispositions, an empty mask, the usual umask and a process group of its own. Where its config has no `env`, a hook in the
/// runtime's namespaces has the runtime's environment, one of `startContainer` that of the program, and one of `createContainer`
/// none, as in runc. It fails when it cannot be run, exits with anything but 0, or outlives its timeout, for which its whole
/// group is killed. What it leaves running in the background is left running.
///
/// # Errors
/// `error running createRuntime hook #1: exit status 1, stdout: ..., stderr: ...`, runc's words; counted from 0.
pub fn run(hooks: &[Hook], moment: &Moment<'_>) -> Result<()> {
    for (number, hook) in hooks.iter().enumerate() {
        run_one(hook, moment).doing_with(|| format!("error running {} hook #{number}", moment.kind.name()))?;
    }
    Ok(())
}

/// Runs hooks one after the other, also after one that fails: `poststop` (runtime.md#lifecycle, step 13). Returns
/// the failures, worded as those of [`run`].
pub fn run_all(hooks: &[Hook], moment: &Moment<'_>) -> Vec<Error> {
    let failed = |(number, hook)| {
        let done = run_one(hook, moment);
        done.doing_with(|| format!("error running {} hook #{number}", moment.kind.name())).err()
    };
    hooks.iter().enumerate().filter_map(failed).collect()
}

fn run_one(hook: &Hook, moment: &Moment<'_>) -> Result<()> {
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut running = Running::start(hook, moment)?;
    let ended = running.attend(moment.state.as_bytes(), deadline)?;
    let problem = match ended {
        Some(Ended::Exited(0)) => return Ok(()),
        Some(ended) => ended.to_string(),
        None => {
            format!("hook ran past specified timeout of {:.1}s", f64::from(hook.timeout.unwrap_or_default()))
        }
    };
    Err(Error::new(
        Kind::Other,
        format!("{problem}, stdout: {}, stderr: {}", running.stdout.text(), running.stderr.text()),
    ))
}

/// A hook at work. Dropped before its end, it is killed with its group.
struct Running {
    child: Option<Child>,
    stdin: Option<OwnedFd>,
    stdout: Captured,
    stderr: Captured,
}

impl Running {
    fn start(hook: &Hook, moment: &Moment<'_>) -> Result<Running> {
        let path = string(hook.path.as_os_str().as_bytes())?;
        let args = match hook.args.as_slice() {
            [] => vec![path.clone()],
            args => strings(args)?,
        };
        let env = match (&hook.env, moment.kind) {
            (Some(env), _) => strings(env)?,
            (None, HookKind::StartContainer) => strings(moment.program_env)?,
            (None, HookKind::CreateContainer) => Vec::new(),
            (None, _) => environment(),
        };
        // One that does not read its input must not kill us.
        sys::signal::ignore(libc::SIGPIPE);
        let (stdin, our_stdin) = pipe()?;
        let (stdout, stderr) = (Stream::open(moment.output.stdout)?, Stream::open(moment.output.stderr)?);
        let stdio = [stdin.as_fd(), stdout.theirs(), stderr.theirs()];
        let child = spawn(&Program { path: &path, args: &args, env: &env, stdio }, &mut || {
            own_process_group()?;
            if let Some(directory) = moment.directory {
                fchdir(directory)?;
            }
            umask(Mode::from_raw_mode(0o022));
            close_range::cloexec_from(3)?;
            sys::signal::reset_all();
            Ok(())
        })?;
        let running = Running {
            child: Some(child),
            stdin: Some(our_stdin),
            stdout: Captured::of(stdout),
            stderr: Captured::of(stderr),
        };
        for end in [&running.stdin, &running.stdout.pipe, &running.stderr.pipe].into_iter().flatten() {
            set_nonblocking(end)?;
        }
        Ok(running)
    }

    /// Feeds it its input and collects its output until it ends, or until the deadline (then `None`).
    fn attend(&mut self, mut input: &[u8], deadline: Option<Instant>) -> Result<Option<Ended>> {
        loop {
            let Some(child) = &self.child else { return Ok(None) };
            let watches = [
                Watch::Read(child.pidfd.as_fd()),
                self.stdin.as_ref().map_or(Watch::Nothing, |pipe| Watch::Write(pipe.as_fd())),
                self.stdout.watch(),
                self.stderr.watch(),
            ];
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let [ended, writable, out, err] = poll(&watches, left)?;
            if out || ended {
                self.stdout.collect()?;
            }
            if err || ended {
                self.stderr.collect()?;
            }
            if ended {
                let ended = waitid(child.pidfd.as_fd())?;
                self.child = None;
                return Ok(Some(ended));
            }
            if writable && let Some(pipe) = &self.stdin {
                match write(pipe, input)? {
                    Progress::Bytes(length) => input = input.get(length..).unwrap_or_default(),
                    Progress::Later => {}
                    Progress::Over => input = &[],
                }
                if input.is_empty() {
                    self.stdin = None;
                }
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // Not reaped yet, so neither id can have become another's.
            let _ = sys::signal::kill_group(child.pid, libc::SIGKILL);
            let _ = pidfd::signal(child, libc::SIGKILL);
            let _ = waitid(child.pidfd.as_fd());
        }
    }
}

/// Where one output stream of a hook goes.
enum Stream<'a> {
    /// To us: our end and the hook's.
    Pipe(OwnedFd, OwnedFd),
    File(BorrowedFd<'a>),
}

impl<'a> Stream<'a> {
    fn open(file: Option<BorrowedFd<'a>>) -> Result<Stream<'a>> {
        Ok(match file {
            Some(file) => Stream::File(file),
            None => {
                let (ours, theirs) = pipe()?;
                Stream::Pipe(ours, theirs)
            }
        })
    }

    fn theirs(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Pipe(_, theirs) => theirs.as_fd(),
            Stream::File(file) => *file,
        }
    }
}

/// How much of each stream a message shows; what is cut off is the beginning, as errors come last.
const SHOWN: usize = 4096;

/// What a hook has printed.
#[derive(Default)]
struct Captured {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    cut: bool,
}

impl Captured {
    /// Keeps our end and closes the hook's.
    fn of(stream: Stream<'_>) -> Captured {
        match stream {
            Stream::Pipe(ours, _) => Captured { pipe: Some(ours), ..Captured::default() },
            Stream::File(_) => Captured::default(),
        }
    }

    fn watch(&self) -> Watch<'_> {
        self.pipe.as_ref().map_or(Watch::Nothing, |pipe| Watch::Read(pipe.as_fd()))
    }

    /// Takes what is there, and no more than a pipe holds: one that never stops must not keep us.
    fn collect(&mut self) -> Result<()> {
        let mut buffer = [0; SHOWN];
        for _ in 0..16 {
            let Some(pipe) = &self.pipe else { break };
            match read(pipe, &mut buffer)? {
                Progress::Bytes(length) => self.keep(buffer.get(..length).unwrap_or_default()),
                Progress::Later => break,
                Progress::Over => self.pipe = None,
            }
        }
        Ok(())
    }

    fn keep(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        if let Some(surplus) = self.bytes.len().checked_sub(SHOWN).filter(|surplus| *surplus > 0) {
            self.bytes.drain(..surplus);
            self.cut = true;
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        format!("{}{}", if self.cut { "[...]" } else { "" }, text.trim_end())
    }
}

fn strings(texts: &[String]) -> Result<Vec<CString>> {
    texts.iter().map(|text| string(text.as_bytes())).collect()
}

fn string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes)
        .map_err(|_| Error::new(Kind::Invalid, format!("{:?} has a NUL in it", String::from_utf8_lossy(bytes))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use rustix::fs::OFlags;
    use std::path::PathBuf;

    fn shell(script: &str) -> Hook {
        Hook {
            path: PathBuf::from("/bin/sh"),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: None,
            timeout: None,
        }
    }

    fn at<'a>(kind: HookKind, state: &'a str) -> Moment<'a> {
        Moment { kind, state, program_env: &[], directory: None, output: Output::default() }
    }

    fn fails(hooks: &[Hook], state: &str) -> String {
        run(hooks, &at(HookKind::CreateRuntime, state)).unwrap_err().to_string()
    }

    #[test]
    fn state_is_one_line_with_plain_slashes() {
        let mut annotations = BTreeMap::new();
        let mut state = OciState {
            oci_version: OCI_VERSION,
            id: "web",
            status: "creating",
            pid: 0,
            bundle: "/run/b",
            annotations: &annotations.clone(),
        };
        let bare = r#"{"ociVersion":"1.3.0","id":"web","status":"creating","bundle":"/run/b"}"#;
        assert_eq!(state.to_json(), bare);
        annotations.insert("a/b".into(), "<c>&".into());
        state.pid = 7;
        state.annotations = &annotations;
        let full = r#"{"ociVersion":"1.3.0","id":"web","status":"creating","pid":7,"bundle":"/run/b","annotations":{"a/b":"<c>&"}}"#;
        assert_eq!(state.to_json(), full);
    }

    #[test]
    fn reads_its_state_and_fails_in_runcs_words() {
        let ok = shell(r#"read line; [ "$line" = state ]"#);
        run(std::slice::from_ref(&ok), &at(HookKind::Poststop, "state")).unwrap();
        let message = fails(&[ok, shell("echo out; echo err >&2; exit 3")], "state");
        assert_eq!(message, "error running createRuntime hook #1: exit status 3, stdout: out, stderr: err");
    }

    #[test]
    fn state_larger_than_a_pipe() {
        let state = "x".repeat(300_000);
        run(&[shell("[ $(wc -c) = 300000 ]")], &at(HookKind::Prestart, &state)).unwrap();
        // Neither one that does not read nor one that closes its input is a failure, or a standstill.
        run(&[shell("exec <&-; exit 0"), shell("exit 0")], &at(HookKind::Prestart, &state)).unwrap();
        // Much output while much input is pending.
        run(&[shell("head -c 200000 /dev/zero; cat >/dev/null")], &at(HookKind::Prestart, &state)).unwrap();
    }

    #[test]
    fn the_end_of_long_output_is_shown() {
        let message = fails(&[shell("head -c 100000 /dev/zero | tr '\\0' x; echo last; exit 1")], "");
        assert!(message.contains("stdout: [...]xxx") && message.contains("xxlast,"), "{message}");
        assert!(message.len() < 2 * SHOWN, "{}", message.len());
    }

    #[test]
    fn missing_program_names_the_call() {
        let mut hook = shell("");
        hook.path = "/nonexistent/hook".into();
        let message = fails(&[hook], "");
        assert_eq!(
            message,
            "error running createRuntime hook #0: execve(\"/nonexistent/hook\"): no such file or directory (ENOENT)"
        );
    }

    #[test]
    fn timeout_kills_the_group() {
        let fifo = fifo("timeout");
        let held = open_fifo(&fifo, OFlags::RDONLY).unwrap();
        let mut hook = shell(&format!("(sleep 1000 >{}) & sleep 1000", fifo.display()));
        hook.env = Some(vec!["PATH=/bin:/usr/bin".into()]);
        hook.timeout = Some(1);
        let message = fails(&[hook], "");
        assert!(message.contains("hook ran past specified timeout of 1.0s"), "{message}");
        // The hook's child does not outlive it: nobody has the fifo open for writing any more.
        eventually(|| rustix::io::read(&held, &mut [0; 1]) == Ok(0));
        std::fs::remove_file(&fifo).unwrap();
    }

    /// What may take a while on a machine that is busy, and never comes where something is wrong.
    #[track_caller]
    fn eventually(mut come: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !come() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn fifo(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("orlop-hook-{name}-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    /// Does not wait for the other side: who reads gets a descriptor, who writes ENXIO where nobody reads.
    fn open_fifo(path: &std::path::Path, mode: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(path, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, rustix::fs::Mode::empty())
    }

    #[test]
    fn a_child_in_the_background_does_not_keep_us() {
        let fifo = fifo("background");
        let mut hook = shell(&format!("timeout 60 cat {} & exit 0", fifo.display()));
        hook.env = Some(vec!["PATH=/bin:/usr/bin".into()]);
        run(&[hook], &at(HookKind::Poststart, "")).unwrap();
        // It is there still, and this ends it.
        eventually(|| open_fifo(&fifo, OFlags::WRONLY).is_ok());
        std::fs::remove_file(&fifo).unwrap();
    }

    #[test]
    fn gets_exactly_what_is_its_own() {
        // Shells add PWD, SHLVL, _ and OLDPWD, so ask the kernel.
        let environ = "tr '\\0' '\\n' </proc/$$/environ";
        let defaults = ["D=e".to_owned()];
        let told = |kind, env: Option<&[&str]>| {
            let mut hook = shell(&format!("{environ}; exit 1"));
            hook.env = env.map(|env| env.iter().map(|&entry| entry.to_owned()).collect());
            run(&[hook], &Moment { program_env: &defaults, ..at(kind, "") }).unwrap_err().to_string()
        };
        for kind in [HookKind::CreateRuntime, HookKind::CreateContainer, HookKind::StartContainer] {
            assert!(told(kind, Some(&["A=b c"])).contains("stdout: A=b c, "));
            assert!(told(kind, Some(&[])).contains("stdout: , "));
        }
        assert!(told(HookKind::StartContainer, None).contains("stdout: D=e, "));
        assert!(told(HookKind::CreateContainer, None).contains("stdout: , "));
        // cargo's, and ours.
        assert!(told(HookKind::CreateRuntime, None).contains("CARGO_PKG_NAME=orlop"));
    }

    #[test]
    fn clean_descriptors_signals_umask_and_directory() {
        // One that is open and not close-on-exec, as a careless caller leaves it.
        let leak = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 40).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        sys::signal::ignore(libc::SIGUSR1);
        let root = std::fs::File::open("/usr").unwrap();
        let script = "ls /proc/$$/fd; umask; grep -E '^Sig(Blk|Ign)' /proc/self/status; pwd; exit 1";
        let moment = Moment { directory: Some(root.as_fd()), ..at(HookKind::CreateRuntime, "") };
        let message = run(&[shell(script)], &moment).unwrap_err().to_string();
        let zero = "0000000000000000";
        assert_eq!(
            message.split_once("stdout: ").unwrap().1,
            format!("0\n1\n2\n0022\nSigBlk:\t{zero}\nSigIgn:\t{zero}\n/usr, stderr: ")
        );
        drop(leak);
    }

    #[test]
    fn output_goes_to_the_file_that_was_named() {
        use std::io::{Read, Seek};
        let path = std::env::temp_dir().join(format!("orlop-hook-output-{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let output = file.try_clone().unwrap();
        let output = Output { stdout: Some(output.as_fd()), stderr: None };
        let moment = Moment { output, ..at(HookKind::CreateRuntime, "") };
        run(&[shell("echo one"), shell("echo two")], &moment).unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }
}
