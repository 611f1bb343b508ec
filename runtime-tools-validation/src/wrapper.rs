//! The wrapper: what the suite's programs call as RUNTIME with `--without-seccomp`.
//!
//! Nearly all bundles of the suite carry the same seccomp profile, though only one program is about seccomp. A runtime
//! that does not have seccomp yet must refuse such a bundle, and would fail nearly everything for one reason. So on
//! `create` and `run` the wrapper takes `linux.seccomp` out of the bundle's `config.json`; then it becomes the runtime,
//! with the same arguments.

use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The environment variable that turns this binary into the wrapper. It holds the path of the runtime.
pub const WRAPS: &str = "RTV_WRAPS";

/// Options before the command that take the next argument as their value, in runc or crun. Without this list
/// `--root run create ...` would read as the command `run`.
const GLOBAL_WITH_VALUE: [&str; 7] = ["root", "log", "log-format", "log-level", "cgroup-manager", "rootless", "criu"];

/// Strips the bundle if there is one, then becomes the runtime. Returns only when that fails.
pub fn stand_in_front_of(runtime: &Path) -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(bundle) = bundle(&argv)
        && let Err(why) = strip(&bundle.join("config.json"))
    {
        // Said, but not the end: what is wrong with the file is the runtime's to judge.
        crate::complain(&why);
    }
    let why = Command::new(runtime).args(&argv).env_remove(WRAPS).exec();
    crate::complain(&format!("cannot run {}: {why}", runtime.display()));
    ExitCode::from(127)
}

/// The bundle of a `create` or `run`; `None` for any other command.
fn bundle(argv: &[OsString]) -> Option<PathBuf> {
    let mut args = argv.iter().map(|arg| arg.to_string_lossy());
    loop {
        let arg = args.next()?;
        match arg.strip_prefix('-') {
            Some(option) => {
                if GLOBAL_WITH_VALUE.contains(&option.trim_start_matches('-')) {
                    args.next();
                }
            }
            None if arg == "create" || arg == "run" => break,
            None => return None,
        }
    }
    while let Some(arg) = args.next() {
        // All spellings in use: `--bundle B`, `--bundle=B`, `-b B`, and `-bundle` and `-b=B` as runc takes them, and
        // `-bB` as crun does.
        let Some(option) = arg.strip_prefix('-') else { continue };
        let option = option.strip_prefix('-').unwrap_or(option);
        let value = match option.split_once('=') {
            Some(("bundle" | "b", value)) => Some(value.to_owned()),
            Some(_) => None,
            None if option == "bundle" || option == "b" => args.next().map(|value| value.into_owned()),
            None if !arg.starts_with("--") => option.strip_prefix('b').map(str::to_owned),
            None => None,
        };
        if let Some(value) = value {
            return Some(PathBuf::from(value));
        }
    }
    Some(PathBuf::from("."))
}

/// Takes `linux.seccomp` out of a `config.json`. A file without it stays as it is, to the byte.
fn strip(path: &Path) -> Result<(), String> {
    let wrong = |e: &dyn std::fmt::Display| format!("cannot take linux.seccomp out of {}: {e}", path.display());
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        // The suite asks for this: a runtime must refuse a bundle without config.json, and it is to do so itself.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(wrong(&e)),
    };
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(&e))?;
    if config.get_mut("linux").and_then(Value::as_object_mut).and_then(|linux| linux.remove("seccomp")).is_none() {
        return Ok(());
    }
    std::fs::write(path, config.to_string()).map_err(|e| wrong(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<String> {
        let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        bundle(&argv).map(|path| path.display().to_string())
    }

    #[test]
    fn every_spelling_of_the_bundle_is_found() {
        for line in [
            "create --bundle /b id",
            "create --bundle=/b id",
            "create -bundle /b id",
            "create -b /b id",
            "create -b=/b id",
            "create -b/b id",
            "create id --bundle /b",
            "run --pid-file p --bundle /b id",
            "--root run --debug create --bundle /b id",
            "--root=/r -log l run -b /b id",
        ] {
            assert_eq!(of(line).as_deref(), Some("/b"), "{line}");
        }
    }

    #[test]
    fn without_a_bundle_option_it_is_the_working_directory() {
        assert_eq!(of("create id").as_deref(), Some("."));
    }

    #[test]
    fn other_commands_have_no_bundle() {
        for line in ["", "state run", "--version", "kill create KILL", "--root create state id"] {
            assert_eq!(of(line), None, "{line}");
        }
    }
}
