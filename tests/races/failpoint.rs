//! The failpoints of a test build: which there are, and the process that stands at one.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{self, Bundle};

/// The environment variable that asks for one.
pub const VARIABLE: &str = "ORLOP_FAILPOINT";

/// Whether the binary under test has failpoints: release builds and other runtimes have none.
pub fn has_failpoints() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let bytes = std::fs::read(support::binary()).unwrap();
        bytes.windows(VARIABLE.len()).any(|window| window == VARIABLE.as_bytes())
    })
}

/// `verb` on the bundle with this failpoint: `Init:BuildRoot=stop`.
pub fn command_at(bundle: &Bundle, args: &[String], point: &str) -> Command {
    let mut command = bundle.command(args);
    command.env(VARIABLE, point);
    command
}

/// A process that stands at a failpoint.
#[derive(Debug)]
pub struct Held(pub i32);

impl Held {
    /// Waits until a process of this container's launch stands at its failpoint; `None` when `over` says that the launch
    /// is over and none did.
    pub fn wait(bundle: &Bundle, mut over: impl FnMut() -> bool) -> Option<Held> {
        let start = Instant::now();
        loop {
            let is_over = over();
            if let Some(pid) = processes_of(bundle.id()).into_iter().find(|pid| comm(*pid) == "failpoint") {
                return Some(Held(pid));
            }
            if is_over {
                return None;
            }
            assert!(start.elapsed() < support::patience(10), "nobody reached the failpoint");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets it go on.
    pub fn release(self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGCONT);
    }
}

/// Living processes of the runtime whose command line names this container.
pub fn processes_of(id: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != std::process::id() as i32 && String::from_utf8_lossy(&cmdline).contains(id) {
            found.push(pid);
        }
    }
    found
}

/// The short name of a process.
pub fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The steps of `create` where the usher bears late.
pub const LATE: &[&str] = &[
    "Parent:Spawn",
    "Usher:Place",
    "Parent:Place",
    "Parent:MapIds",
    "Usher:Enter",
    "Parent:Enter",
    "Parent:Lend",
    "Usher:Lend",
    "Usher:BuildRoot",
    "Usher:Limit",
    "Parent:Limit",
    "Usher:RuntimeHooks",
    "Parent:RuntimeHooks",
    "Usher:ContainerHooks",
    "Usher:EnterRoot",
    "Usher:Furnish",
    "Usher:Seal",
    "Usher:Become",
    "Init:Become",
    "Parent:Become",
    "Init:Ready",
    "Parent:Ready",
];

/// The steps of `exec`.
pub const EXEC: &[&str] = &[
    "Parent:Spawn",
    "Usher:Place",
    "Parent:Place",
    "Usher:Enter",
    "Init:Enter",
    "Parent:Enter",
    "Init:Become",
    "Parent:Become",
    "Init:Ready",
    "Parent:Ready",
    "Parent:Exec",
    "Init:Exec",
];
