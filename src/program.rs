//! The program: its environment, where it is found, and how it is executed.
//!
//! Everything is found and built before the first system call filter ([`Program::new`]); [`execute`] only calls
//! execve and, when that fails, finds out why. No C library looks anything up: user names, locales and loaders of
//! the image are never consulted (CVE-2019-14271); of the image's files `etc/passwd` alone is read, for HOME.

use std::borrow::Cow;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::exec::{self, Strings};
use crate::sys::{Errno, Words};

mod diagnosis;
mod passwd;

pub use passwd::home;

/// A program that only waits for execve.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Strings,
    envp: Strings,
}

impl Program {
    /// Finds `args[0]` and lays out all strings for the kernel.
    ///
    /// Inside the container, in the working directory, as the user: see [`find`].
    pub fn new(args: &[String], env: Vec<String>) -> Result<Self> {
        let name = args.first().ok_or_else(|| Error::invalid("process.args", "there is no program to run"))?;
        let path = find(name, search_path(&env))?;
        Ok(Program {
            path: c_string("process.args", path.into_os_string().as_bytes())?,
            argv: strings("process.args", args.iter())?,
            envp: strings("process.env", env.iter())?,
        })
    }
}

fn strings<'a>(field: &str, from: impl Iterator<Item = &'a String>) -> Result<Strings> {
    from.map(|text| c_string(field, text.as_bytes())).collect::<Result<Vec<_>>>().map(Strings::new)
}

fn c_string(field: &str, bytes: &[u8]) -> Result<CString> {
    CString::new(bytes)
        .map_err(|_| Error::invalid(field, format_args!("{:?} holds a NUL byte", String::from_utf8_lossy(bytes))))
}

/// The environment of the program: that of the config, then what the runtime adds (`LISTEN_FDS`), then HOME where
/// the config has none or an empty one.
///
/// `added` wins over the config's entries of the same name. `home` is asked only when it is needed, for it reads a
/// file ([`home`]).
pub fn environment(config: &[String], added: &[(&str, String)], home: impl FnOnce() -> String) -> Vec<String> {
    let mut env: Vec<String> = Vec::with_capacity(config.len() + added.len() + 1);
    env.extend(config.iter().filter(|entry| !added.iter().any(|(name, _)| value(entry, name).is_some())).cloned());
    env.extend(added.iter().map(|(name, value)| format!("{name}={value}")));
    match env.iter().position(|entry| value(entry, "HOME").is_some()) {
        Some(at) if env.get(at).is_some_and(|entry| entry == "HOME=") => {
            if let Some(entry) = env.get_mut(at) {
                *entry = format!("HOME={}", home());
            }
        }
        Some(_) => {}
        None => env.push(format!("HOME={}", home())),
    }
    env
}

/// The value of an entry, if it is the variable of this name.
fn value<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.strip_prefix(name)?.strip_prefix('=')
}

/// PATH of this environment; where it has none, what execvp of the C library would search (confstr(3), _CS_PATH).
fn search_path(env: &[String]) -> &str {
    env.iter().find_map(|entry| value(entry, "PATH")).unwrap_or("/bin:/usr/bin")
}

/// Where the program is: `name` itself if it has a slash, else the first executable file of that name in a
/// directory of `path` (execvp(3), as config.md#process asks).
///
/// Ask as the user, inside the container and in its working directory, before the filter is in force: a program
/// that is not there must fail `create`, not `start`.
///
/// # Errors
/// In the sentences that engines look for: `exec: "foo": executable file not found in $PATH`,
/// `exec: "/bin/foo": stat /bin/foo: no such file or directory`, `exec: "/bin/foo": permission denied`.
pub fn find(name: &str, path: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return match look(Path::new(name)) {
            Found::Executable => Ok(PathBuf::from(name)),
            Found::Directory => Err(says(name, "permission denied: it is a directory")),
            Found::NotExecutable => Err(says(name, "permission denied")),
            Found::Not(errno) => Err(says(name, format_args!("stat {name}: {}", Words(errno)))),
        };
    }
    let mut almost = None;
    for directory in path.split(':') {
        // An empty entry is the working directory (POSIX.1-2017, XBD 8.3).
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match look(&candidate) {
            Found::Executable if !name.is_empty() => return Ok(candidate),
            Found::NotExecutable => almost = almost.or(Some(candidate)),
            _ => {}
        }
    }
    // "permission denied" would turn the exit code 127, which engines give for this sentence, into 126.
    let hint = almost.map_or(Cow::Borrowed(""), |file| format!(" ({} may not be executed)", file.display()).into());
    Err(says(name, format_args!("executable file not found in $PATH{hint}")))
}

fn says(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Other, format!("exec: {name:?}: {why}"))
}

enum Found {
    Executable,
    Directory,
    NotExecutable,
    Not(Errno),
}

fn look(path: &Path) -> Found {
    match exec::stat_mode(path) {
        Err(refused) => Found::Not(refused.errno),
        Ok(mode) if mode & libc::S_IFMT == libc::S_IFDIR => Found::Directory,
        Ok(mode) => match exec::may_execute(path) {
            Ok(()) => Found::Executable,
            // A filter may refuse the question itself: then the mode answers (as in runc).
            Err(refused) if matches!(refused.errno, Errno::EPERM | Errno::ENOSYS) && mode & 0o111 != 0 => {
                Found::Executable
            }
            Err(_) => Found::NotExecutable,
        },
    }
}

/// Replaces init by the program; returns only to say why that failed.
///
/// Signal dispositions, the signal mask and descriptors are the caller's matter.
#[must_use]
pub fn execute(program: &Program) -> Error {
    let refused = exec::execve(&program.path, &program.argv, &program.envp);
    let path = Path::new(OsStr::from_bytes(program.path.as_bytes()));
    let hint = diagnosis::why(path, refused.errno);
    let failed = Err::<Infallible, _>(Error::from(refused));
    let failed = match hint {
        Some(hint) => failed.doing(hint),
        None => failed,
    };
    match failed.doing_with(|| format!("exec {}", path.display())) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
