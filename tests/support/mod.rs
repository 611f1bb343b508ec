//! What every black-box test stands on: a bundle of its own, the runtime under test, and a look for leaks at the end.
//!
//! The binary under test is `$ORLOP_UNDER_TEST`, else the orlop that cargo built. Everything that a test makes carries
//! the bundle's token in its name (scratch directory, container id, cgroup), so that whatever is left behind is found
//! by looking for that word, and tests can run side by side.

// A topic that does not use all of it is no reason to have less of it.
#![allow(dead_code, unused_imports)]

pub mod bundle;
pub mod canary;
pub mod cgroup;
pub mod console;
pub mod filter;
pub mod leak;
pub mod mountinfo;
pub mod outcome;
pub mod skip;
pub mod systemd;

#[allow(unused_imports, reason = "as above")]
pub use bundle::{Bundle, View};

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The binary under test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ORLOP_UNDER_TEST") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_orlop")),
    })
}

/// Which runtime it is, by its file name: `orlop`, `runc`, `crun`.
pub fn flavour() -> &'static str {
    binary().file_name().and_then(|name| name.to_str()).unwrap_or("orlop")
}

/// Whether the runtime under test is ours; a test of what the specification leaves open asks only us.
pub fn is_orlop() -> bool {
    !matches!(flavour(), "runc" | "crun" | "youki")
}

/// How long to wait for what takes far less than so many seconds, before calling it a hang.
///
/// `$ORLOP_PATIENCE` is how many times slower this machine may be than one that has nothing else to do: tests/vm/run emulates
/// its processors. Waiting costs nothing where nothing hangs, so it is several times everywhere.
pub fn patience(seconds: u64) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor =
        *FACTOR.get_or_init(|| std::env::var("ORLOP_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(6));
    Duration::from_secs(seconds) * factor
}

/// Waits until `done` says so; panics with `what` when it has not for longer than [`patience`] bears.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < patience(10), "waited {:?} in vain: {what}", patience(10));
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Makes a program of a file that this process has just written.
///
/// A test beside this one that starts a program hands all our descriptors to the child until that executes, and what is open
/// for writing anywhere cannot be executed (ETXTBSY, execve(2)). So this waits until nobody has it open: only then can a
/// lease for reading be had (fcntl(2)).
#[track_caller]
pub fn executable(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    let file = std::fs::File::open(path).unwrap();
    wait_until(&format!("nobody writes {}", path.display()), || {
        // SAFETY: fcntl(2) with two numbers touches no memory of ours, and the descriptor is open.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 }
    });
}

/// Whether we run as the host's root, in its first user namespace.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
        && std::fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Whether this process holds the capability of that number.
pub fn has_capability(number: u32) -> bool {
    status_field("self", "CapEff")
        .is_some_and(|hex| u64::from_str_radix(&hex, 16).is_ok_and(|set| set >> number & 1 == 1))
}

/// A field of `/proc/PID/status`.
pub fn status_field(pid: &str, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}
