//! The program: its environment, where it is found, and how it is executed.
//!
//! Everything is found and built before the first system call filter ([`Program::new`]); [`execute`] only calls
//! execve and, when that fails, finds out why. No C library looks anything up: user names, locales and loaders of
//! the image are never consulted (CVE-2019-14271); of the image's files `etc/passwd` alone is read, for HOME.

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::compat;
use crate::error::{Error, Kind, Result};
use crate::sys::exec::{self, Strings};
use crate::sys::{Errno, Words};

mod diagnosis;
mod passwd;

#[cfg(any(test, fuzzing))]
pub(crate) use diagnosis::format_of;
pub use passwd::home;
#[cfg(any(test, fuzzing))]
pub(crate) use passwd::home_in;

/// A program that only waits for execve.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Strings,
    envp: Strings,
    env: Vec<String>,
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
            env,
        })
    }

    /// Its environment, HOME included: what hooks in the container get where they have none of their own, as in runc.
    pub fn env(&self) -> &[String] {
        &self.env
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
        Ok(mode) => match compat::faccessat2::may_execute(path) {
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
    let error = Error::from(refused);
    let error = match hint {
        Some(hint) => error.doing(hint),
        None => error,
    };
    error.doing(format!("exec {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn home_is_added_where_it_is_unset_or_empty() {
        let home = || "/home/web".to_owned();
        assert_eq!(environment(&[], &[], home), ["HOME=/home/web"]);
        assert_eq!(environment(&texts(&["HOME=", "A=1"]), &[], home), ["HOME=/home/web", "A=1"]);
        assert_eq!(environment(&texts(&["HOMER=x", "A=HOME="]), &[], home), ["HOMER=x", "A=HOME=", "HOME=/home/web"]);
        let untouched = environment(&texts(&["HOME=/x"]), &[], || panic!("passwd was read for nothing"));
        assert_eq!(untouched, ["HOME=/x"]);
    }

    #[test]
    fn what_the_runtime_adds_wins() {
        let env = texts(&["LISTEN_FDS=7", "LISTEN_FDS_X=1", "HOME=/"]);
        let env = environment(&env, &[("LISTEN_FDS", "2".to_owned()), ("LISTEN_PID", "1".to_owned())], String::new);
        assert_eq!(env, ["LISTEN_FDS_X=1", "HOME=/", "LISTEN_FDS=2", "LISTEN_PID=1"]);
    }

    /// A directory with one thing of each kind, and the path to it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("orlop-program-{name}-{}", std::process::id()));
            for dir in ["first/both", "second"] {
                std::fs::create_dir_all(root.join(dir)).unwrap();
            }
            let tree = Tree(root);
            tree.file("second/both", 0o755);
            tree.file("first/plain", 0o644);
            tree.file("second/only", 0o755);
            tree
        }

        fn file(&self, name: &str, mode: u32) {
            std::fs::write(self.0.join(name), "").unwrap();
            std::fs::set_permissions(self.0.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn at(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }

        fn path(&self) -> String {
            format!("{}:{}:{}", self.at("missing"), self.at("first"), self.at("second"))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn path_is_searched_past_directories_and_plain_files() {
        let tree = Tree::new("search");
        assert_eq!(find("both", &tree.path()).unwrap(), tree.0.join("second/both"));
        assert_eq!(find("only", &tree.path()).unwrap(), tree.0.join("second/only"));
        // With a slash PATH does not matter.
        assert_eq!(find(&tree.at("second/only"), "").unwrap(), tree.0.join("second/only"));
    }

    #[test]
    fn refusals_are_the_sentences_that_engines_look_for() {
        let tree = Tree::new("refusals");
        let said = |name: &str| find(name, &tree.path()).unwrap_err().to_string();
        assert_eq!(said("nothing"), "exec: \"nothing\": executable file not found in $PATH");
        assert_eq!(said(""), "exec: \"\": executable file not found in $PATH");
        let plain = said("plain");
        assert!(plain.starts_with("exec: \"plain\": executable file not found in $PATH ("), "{plain}");
        assert!(!plain.contains("permission denied"), "would turn 127 into 126: {plain}");
        assert_eq!(said("/no/such"), "exec: \"/no/such\": stat /no/such: no such file or directory (ENOENT)");
        assert!(said(&tree.at("first/plain")).ends_with("\": permission denied"));
        assert!(said(&tree.at("first")).ends_with("\": permission denied: it is a directory"));
        let below = said(&tree.at("first/plain/x"));
        assert!(below.contains(": not a directory"), "{below}");
    }

    #[test]
    fn without_path_the_standard_directories_are_searched() {
        assert_eq!(search_path(&texts(&["A=1"])), "/bin:/usr/bin");
        assert_eq!(search_path(&texts(&["PATH="])), "");
        assert_eq!(search_path(&texts(&["PATHS=/x", "PATH=/y:/z"])), "/y:/z");
        assert!(find("sh", search_path(&[])).is_ok());
    }

    #[test]
    fn strings_with_a_nul_byte_are_refused_by_name() {
        let error = Program::new(&texts(&["/bin/sh", "a\0b"]), vec![]).unwrap_err().to_string();
        assert!(error.starts_with("process.args: "), "{error}");
        let error = Program::new(&texts(&["/bin/sh"]), texts(&["A=\0"])).unwrap_err().to_string();
        assert!(error.starts_with("process.env: "), "{error}");
        assert!(Program::new(&[], vec![]).is_err());
    }

    #[test]
    fn a_failed_execve_says_what_is_missing() {
        let tree = Tree::new("execve");
        std::fs::write(tree.0.join("second/only"), "#!/no/such/shell\n").unwrap();
        let program = Program::new(&[tree.at("second/only")], vec![]).unwrap();
        let error = execute(&program);
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        let said = error.to_string();
        assert!(said.starts_with(&format!("exec {}: ", tree.at("second/only"))), "{said}");
        assert!(said.contains("\"/no/such/shell\"") && said.contains("no such file or directory"), "{said}");
    }
}
