//! One command run to its end: exit status, output, and the words to fail with.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    line: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    stdout_file: std::path::PathBuf,
}

impl Outcome {
    /// Where its standard output went: a program that stays behind goes on writing there.
    pub fn stdout_path(&self) -> std::path::PathBuf {
        self.stdout_file.clone()
    }

    /// Exit code, or 128 and the signal, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// The command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// The command failed by itself (not by a signal), and said why on standard error.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(!self.status.success(), "should have failed: {self}");
        assert!(self.status.signal().is_none(), "died of a signal: {self}");
        assert!(!self.stderr.trim().is_empty(), "failed without a word: {self}");
        self
    }

    /// It failed, and these words are in its error.
    #[track_caller]
    pub fn fails_with(self, words: &str) -> Self {
        let outcome = self.fails();
        assert!(outcome.stderr.contains(words), "error lacks {words:?}: {outcome}");
        outcome
    }

    /// It failed; in these words where orlop was asked, as a peer has its own.
    #[track_caller]
    pub fn fails_saying(self, words: &str) -> Self {
        if super::is_orlop() { self.fails_with(words) } else { self.fails() }
    }

    /// Standard output without surrounding space.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n  ended: {}", self.line, self.status)?;
        write!(f, "\n--- stdout\n{}\n--- stderr\n{}\n---", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// A command that is still running.
pub struct Running {
    line: String,
    child: Child,
    stdout: std::path::PathBuf,
    stderr: std::path::PathBuf,
}

impl Running {
    /// Starts a command; its output goes to files below `scratch`, because a container that stays behind holds a
    /// pipe open for ever.
    pub fn start(mut command: Command, scratch: &Path) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (scratch.join(format!("stdout.{count}")), scratch.join(format!("stderr.{count}")));
        let line = shown(&command);
        let child = command
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        Running { line, child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, where the command was given a pipe.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// What it has written to standard output so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap()).into_owned()
    }

    /// Waits for its end; a command that hangs is killed and fails the test.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let start = Instant::now();
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > super::patience(30) {
                let group = nix::unistd::Pid::from_raw(self.child.id() as i32);
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
                let _ = self.child.wait();
                break None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        };
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
        match status {
            Some(status) => Outcome { line: self.line, status, stdout, stderr, stdout_file: self.stdout },
            None => panic!("{} hung\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.line),
        }
    }
}

/// The command as it is shown: without the shell script that makes a cgroup view.
fn shown(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    let script = words.iter().position(|word| word.starts_with("set -e\n")).map_or(0, |at| at + 2);
    words[script..].join(" ")
}

/// The command as another program of the host calls it, which has these words before it. What is around a `Command` is not
/// among its words, so the filter of `$ORLOP_WITHOUT` is put around that program.
pub fn called_by(words: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(inner.get_program()).args(inner.get_args());
    super::filter::as_asked(&mut command);
    command
}

/// The command as a shell calls it, after this script.
pub fn after(script: &str, inner: &Command) -> Command {
    called_by(&["sh", "-c", &format!("{script}; exec \"$@\""), "sh"], inner)
}

/// The command on a terminal that script(1) makes, which hands on the exit code.
pub fn on_terminal(inner: &Command) -> Command {
    // A shell takes the line apart again, so each word is quoted: a word may be a script of many lines.
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"));
    let line: Vec<String> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(quoted).collect();
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    command
}

/// Runs a program of the host to its end.
#[track_caller]
pub fn host(scratch: &Path, args: &[&str]) -> Outcome {
    let mut command = Command::new(args[0]);
    command.args(&args[1..]).stdin(Stdio::null());
    Running::start(command, scratch).wait()
}
