//! The command line, by hand: five options do not pay for a parser.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
Runs the built validation programs of opencontainers/runtime-tools against a runtime. Needs root.

Usage: runtime-tools-validation --suite DIR --runtime PATH [OPTIONS]

  --suite DIR         the runtime-tools tree, with the programs built in it
  --runtime PATH      the runtime to judge; a bare name is looked up in PATH
  --without-seccomp   take linux.seccomp out of each bundle, for a runtime that has no filters
  --only NAME         run this program only; may be given more than once
  --expected FILE     compare with this file; exit 1 on any difference, better or worse
  --timeout SECONDS   the longest a program may take (default 120)
  --help              this text

Exit status: 0 as expected (or, without --expected, all passed), 1 not so, 2 could not run.
";

/// The slowest program of the suite waits 14 seconds on purpose. This leaves room for a slow machine.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Print the help and stop.
    Help,
    /// Run the suite.
    Run(Asked),
}

/// The options of a run.
#[derive(Debug)]
pub struct Asked {
    /// The runtime-tools tree.
    pub suite: PathBuf,
    /// The runtime, as given.
    pub runtime: PathBuf,
    /// Leave the seccomp profile in the bundles.
    pub without_seccomp: bool,
    /// Names of programs; empty means all.
    pub only: Vec<String>,
    /// The file of expectations.
    pub expected: Option<PathBuf>,
    /// The time limit for each program.
    pub timeout: Duration,
}

/// Reads the arguments, without the name of the binary.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let (mut suite, mut runtime, mut expected) = (None, None, None);
    let (mut only, mut without_seccomp, mut timeout) = (Vec::new(), false, DEFAULT_TIMEOUT);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        let (name, attached) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        let mut value = || match attached.clone() {
            Some(value) => Ok(value),
            None => args.next().ok_or_else(|| format!("{name} needs a value")).and_then(text),
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--suite" => suite = Some(PathBuf::from(value()?)),
            "--runtime" => runtime = Some(PathBuf::from(value()?)),
            "--expected" => expected = Some(PathBuf::from(value()?)),
            "--only" => only.push(value()?),
            "--without-seccomp" => without_seccomp = true,
            "--timeout" => {
                let seconds = value()?;
                let seconds = seconds.parse().map_err(|_| format!("--timeout: not a number of seconds: {seconds}"))?;
                timeout = Duration::from_secs(seconds);
            }
            _ => return Err(format!("unknown option {name} (see --help)")),
        }
    }
    Ok(Command::Run(Asked {
        suite: suite.ok_or("--suite is missing (see --help)")?,
        runtime: runtime.ok_or("--runtime is missing (see --help)")?,
        without_seccomp,
        only,
        expected,
        timeout,
    }))
}

fn text(arg: OsString) -> Result<String, String> {
    arg.into_string().map_err(|arg| format!("not UTF-8: {}", arg.display()))
}
