//! Runs the validation programs of opencontainers/runtime-tools against an OCI runtime, one by one, and compares
//! what they say with a file that knows what they should say.
//!
//! The suite is a set of Go programs. Each makes a bundle, drives a runtime through `create`, `start`, `state`, `kill`
//! and `delete`, and prints its findings as TAP. Some of them cannot pass on any correct runtime: they compare two
//! pointers, or ask for a cgroup controller that new kernels do not have. A bare count says little then. What says
//! something is the count together with `expected.toml`, which holds, for each program, the outcome, the lines that
//! fail, and whose fault that is. This runner exits non-zero when a program does worse than the file says, and also
//! when it does better: then the file is out of date.
//!
//! | module     | what it does |
//! |------------|--------------|
//! | `args`     | the command line |
//! | `suite`    | finds the built programs and the two files they need beside them |
//! | `program`  | runs one program in its own scratch directory, with a time limit |
//! | `tap`      | reads what a program printed and turns it into a verdict |
//! | `wrapper`  | stands in front of the runtime and takes `linux.seccomp` out of each bundle |
//! | `leftovers`| finds and removes what a program left behind |
//! | `expected` | reads `expected.toml` and lists the differences |
//! | `table`    | prints |
//!
//! The binary has two faces. Called by a person it is the runner. Called with `RTV_WRAPS` in its environment, which
//! only the runner sets, it is the wrapper, and its arguments are the runtime's.

#![forbid(unsafe_code)]

mod args;
mod expected;
mod leftovers;
mod program;
mod suite;
mod table;
mod tap;
mod wrapper;

use args::{Asked, Command};
use expected::Expected;
use leftovers::Leftovers;
use program::{Launch, Scratch};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::process::ExitCode;
use suite::Suite;
use table::Row;

/// Two runs at a time would take each other's cgroups for their own, because the suite's cgroup names are fixed.
const LOCK: &str = "/run/runtime-tools-validation.lock";

fn main() -> ExitCode {
    if let Some(real) = std::env::var_os(wrapper::WRAPS) {
        return wrapper::stand_in_front_of(real.as_ref());
    }
    let mut out = std::io::stdout().lock();
    let answer = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => out.write_all(args::HELP.as_bytes()).map(|()| true).map_err(|e| e.to_string()),
        Ok(Command::Run(asked)) => validate(&asked, &mut out),
        Err(why) => Err(why),
    };
    match answer {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            complain(&why);
            ExitCode::from(2)
        }
    }
}

/// One line on stderr. When even that cannot be written, there is nobody left to tell.
fn complain(why: &str) {
    let _ = writeln!(std::io::stderr(), "runtime-tools-validation: {why}");
}

/// The whole run. `true` when everything is as expected, or, without a file of expectations, when everything passed.
fn validate(asked: &Asked, out: &mut impl Write) -> Result<bool, String> {
    let suite = Suite::find(&asked.suite, &asked.only)?;
    let runtime = suite::runtime(&asked.runtime)?;
    let expected = asked.expected.as_deref().map(Expected::read).transpose()?;
    let launch = if asked.without_seccomp { Launch::wrapped(runtime)? } else { Launch::bare(runtime) };
    let _lock = lock()?;

    let print = |e: std::io::Error| format!("cannot write the table: {e}");
    table::heading(out, &suite, &launch).map_err(print)?;
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for program in &suite.programs {
        let before = Leftovers::look();
        let scratch = Scratch::make(&suite, program)?;
        let run = program::run(program, &scratch, &launch, asked.timeout);
        notes.extend(before.sweep(&program.name, &launch.runtime, &scratch.path));
        let row = Row { program: program.name.clone(), verdict: tap::judge(&run?) };
        table::row(out, &row).map_err(print)?;
        rows.push(row);
    }

    let differences = expected.map(|e| e.differences(&rows, asked.only.is_empty()));
    table::summary(out, &rows, &notes, differences.as_deref()).map_err(print)?;
    Ok(match differences {
        Some(found) => found.is_empty(),
        None => rows.iter().all(|row| row.verdict.outcome == tap::Outcome::Pass),
    })
}

/// Held until the process ends. The kernel drops it then, so a killed run leaves no stale lock.
fn lock() -> Result<File, String> {
    let doing = |e| format!("cannot lock {LOCK}: {e}");
    let file = File::create(LOCK).map_err(doing)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            complain("another run is on; waiting for it");
            file.lock().map_err(doing)?;
            Ok(file)
        }
        Err(TryLockError::Error(e)) => Err(doing(e)),
    }
}
