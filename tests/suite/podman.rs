//! Podman drives the runtime: with cgroups of its own making, with systemd's (its default), and as an ordinary user.
//!
//! Each test has a storage of its own in the scratch directory, and an image made of the bundle's rootfs. Podman emulated
//! is slow: the stories are told in as few commands as will do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use crate::require;
use crate::support::outcome::Outcome;
use crate::support::{Bundle, binary, cgroup, is_root, wait_until};

const SYSTEMD: &str = "cgroup v2 with systemd";

fn systemd() -> bool {
    Path::new("/run/systemd/system").exists() && cgroup::v2_with("memory").is_some()
}

/// All podmans of a machine have one set of locks, `/dev/shm/libpod_lock`, and two that make it fail.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Podman {
    _alone: MutexGuard<'static, ()>,
    bundle: Bundle,
    manager: &'static str,
}

impl Podman {
    /// With the image `busybox`, whose `/bin/sh` is all there is to run.
    #[track_caller]
    fn new(manager: &'static str) -> Podman {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let podman = Podman { _alone: alone, bundle: Bundle::new(), manager };
        // What README.md tells to write there.
        let config = "[engine]\nruntime_supports_json = [\"orlop\", \"crun\", \"runc\"]\nevents_logger = \"none\"\n";
        podman.bundle.file("containers.conf", config);
        let image = podman.bundle.scratch("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&image).arg("-C").arg(podman.bundle.rootfs("")).arg(".");
        podman.bundle.finish(tar).ok();
        podman.call(&["import", "--quiet", image.to_str().unwrap(), "busybox"]).ok();
        podman
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Outcome {
        let scratch = |name: &str| self.bundle.scratch(name).display().to_string();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", scratch("containers.conf")).env("TMPDIR", scratch("."));
        command.args(["--root", &scratch("storage"), "--runroot", &scratch("run"), "--tmpdir", &scratch("tmp")]);
        command.args(["--storage-driver", "vfs", "--cgroup-manager", self.manager]).arg("--runtime").arg(binary());
        command.args(words);
        self.bundle.finish(command)
    }

    /// What a container without a network, of the image, with these options, says.
    #[track_caller]
    fn run(&self, options: &[&str], script: &str) -> Outcome {
        let mut words = vec!["run", "--network", "none"];
        words.extend(options);
        words.extend(["localhost/busybox", "/bin/sh", "-c", script]);
        self.call(&words)
    }

    /// The cgroup of a running container, which podman asks to be `name` or knows by its id.
    #[track_caller]
    fn cgroup(&self, name: &str) -> PathBuf {
        let pid = self.call(&["inspect", "--format", "{{.State.Pid}}", name]).ok().text().to_owned();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        cgroup::v2().unwrap().join(path)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // A container that a failed test leaves holds the storage.
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        // Copies of the rootfs may belong to subordinate ids.
        if !is_root() {
            self.call(&["system", "reset", "--force"]);
        }
    }
}

const LIMITS: [&str; 6] = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"];
const SHOW: &str = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max";

/// Run, limit, exec, update, pause, kill, remove; the cgroup must be named like `unit`.
fn story(podman: &Podman, unit: &str) {
    let mut options = vec!["--rm"];
    options.extend(LIMITS);
    let outcome = podman.run(&options, &format!("{SHOW}; exit 7"));
    assert_eq!((outcome.code(), outcome.text()), (7, "67108864\n50000 100000\n50"), "{outcome}");

    let mut options = vec!["--detach", "--name", "c"];
    options.extend(LIMITS);
    podman.run(&options, "sleep 1000").ok();
    let group = podman.cgroup("c");
    // conmon and podman may put the container into `container` below.
    assert!(group.display().to_string().contains(unit), "{}", group.display());
    assert_eq!(podman.call(&["exec", "c", "/bin/sh", "-c", SHOW]).ok().text(), "67108864\n50000 100000\n50");

    podman.call(&["update", "--memory", "128m", "--cpus", "0.25", "--pids-limit", "60", "c"]).ok();
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    assert_eq!(read("memory.max") + &read("cpu.max") + &read("pids.max"), "134217728\n25000 100000\n60\n");

    podman.call(&["pause", "c"]).ok();
    assert!(read("cgroup.events").contains("frozen 1"));
    podman.call(&["unpause", "c"]).ok();
    assert!(read("cgroup.events").contains("frozen 0"));
    podman.call(&["rm", "--force", "--time", "0", "c"]).ok();
    wait_until("the cgroup is gone", || !group.exists());
}

#[test]
fn podman_with_cgroups_of_its_own() {
    require!(is_root(), "root of the host");
    require!(systemd(), SYSTEMD);
    story(&Podman::new("cgroupfs"), "libpod-");
}

#[test]
fn podman_with_cgroups_of_systemd() {
    require!(is_root(), "root of the host");
    require!(systemd(), SYSTEMD);
    story(&Podman::new("systemd"), "machine.slice/libpod-");
}

#[test]
fn podman_tells_what_was_wrong() {
    require!(is_root(), "root of the host");
    require!(systemd(), SYSTEMD);
    let podman = Podman::new("cgroupfs");
    let outcome = podman.call(&["run", "--rm", "--network", "none", "localhost/busybox", "/no/such/program"]);
    assert_eq!(outcome.code(), 127, "{outcome}");
    assert!(outcome.stderr.contains("no such file or directory"), "{outcome}");
    let outcome = podman.run(
        &["--rm", "--memory", "20m", "--memory-swap", "20m"],
        "head -c 100000000 /dev/zero | tail -c 99999999 | wc -c",
    );
    assert_ne!(outcome.text(), "99999999", "{outcome}");
}

#[test]
fn podman_of_an_ordinary_user() {
    require!(!is_root(), "an ordinary user");
    require!(systemd(), SYSTEMD);
    let podman = Podman::new("systemd");
    let mut options = vec!["--rm"];
    options.extend(LIMITS);
    let outcome = podman.run(&options, &format!("{SHOW}; id -u; head -n 1 /proc/self/uid_map; exit 7"));
    let uid = rustix::process::geteuid().as_raw().to_string();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(outcome.code(), 7, "{outcome}");
    assert_eq!(lines[..4], ["67108864", "50000 100000", "50", "0"], "{outcome}");
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["0", &uid, "1"], "{outcome}");

    podman.run(&["--detach", "--name", "c", "--user", "1000:1000"], "sleep 1000").ok();
    let group = podman.cgroup("c");
    assert!(group.display().to_string().contains(&format!("user@{uid}.service/")), "{}", group.display());
    assert_eq!(podman.call(&["exec", "c", "/bin/sh", "-c", "id -u"]).ok().text(), "1000");
    podman.call(&["pause", "c"]).ok();
    podman.call(&["unpause", "c"]).ok();
    podman.call(&["rm", "--force", "--time", "0", "c"]).ok();
    wait_until("the cgroup is gone", || !group.exists());
}
