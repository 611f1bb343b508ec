//! How long a container takes: `cargo bench --bench start` (as root; `-- --runs 300` for more, `-- --runtime name=/path` for
//! other binaries than the release build of this tree, `/usr/bin/crun` and `/usr/sbin/runc`).
//!
//! Every runtime gets the same bundle: what `runc spec` writes, without a terminal and without seccomp, `/bin/true` of a
//! static busybox, cgroups by cgroupfs, in a private and pure cgroup v1 layout (crun refuses a hybrid one). The runs are
//! interleaved, so that a busy moment of the machine meets all of them. `-- --cgroup v2` takes a pure cgroup v2 tree instead, and
//! `-- --inside DIR` runtimes of another Debian, from a root that debootstrap made (`debootstrap --variant=minbase
//! --include=crun,runc,busybox-static`). The floor is a process that clones into the same
//! namespaces and executes the same program, and does nothing else: what the kernel itself takes. That of exec joins the
//! namespaces of a container and executes the program in a child.
//!
//! Prints medians, the 90th percentile, and how the medians stand to crun's and to the floor's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::CString;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

/// Makes the view of the cgroups that all runtimes get, and goes into another Debian's root where that is asked for: its
/// runtimes need its libraries. A chroot would not do, a runtime cannot pivot from one.
const ENTER: &str = r#"
if [ -n "$INSIDE" ]; then
  mount --bind "$INSIDE" "$INSIDE"
  for place in /proc /dev /sys; do mount --rbind $place "$INSIDE$place"; done
  mount -t tmpfs none "$INSIDE/run"
  mkdir "$INSIDE/run/host" "$INSIDE/run/tree"
  mount --rbind "$TREE" "$INSIDE/run/tree"
  cd "$INSIDE"
  pivot_root . run/host
  umount -l /run/host
fi
exec "$@""#;

/// Somebody who starts containers.
struct Runtime {
    name: String,
    binary: PathBuf,
    bundle: PathBuf,
    state: PathBuf,
}

impl Runtime {
    fn new(name: &str, binary: &Path, scratch: &Path) -> Runtime {
        let dir = scratch.join(name);
        let bundle = dir.join("bundle");
        for place in ["bin", "proc", "sys", "dev", "etc"] {
            std::fs::create_dir_all(bundle.join("rootfs").join(place)).unwrap();
        }
        std::fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox")).expect("Debian's busybox-static is needed");
        for applet in ["true", "sleep"] {
            symlink("busybox", bundle.join("rootfs/bin").join(applet)).unwrap();
        }
        Runtime { name: name.to_owned(), binary: binary.to_owned(), bundle, state: dir.join("state") }
    }

    fn configure(&self, args: &[&str]) {
        let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "noNewPrivileges": true,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
            },
            "root": {"path": "rootfs", "readonly": true},
            "hostname": "bench",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                    "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                    "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
            ],
            "linux": {
                "cgroupsPath": format!("/orlop-bench-{}", self.name),
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
                "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            }
        });
        std::fs::write(self.bundle.join("config.json"), config.to_string()).unwrap();
    }

    /// Runs a command of the runtime, and says how long it took.
    fn time(&self, args: &[&str]) -> Duration {
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.state).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        timed(&mut command)
    }

    fn bundled(&self, verb: &[&str]) -> Duration {
        let bundle = self.bundle.display().to_string();
        self.time(&[verb, &["--bundle", &bundle, &self.name]].concat())
    }

    fn pid_file(&self) -> String {
        self.bundle.join("pid").display().to_string()
    }

    fn version(&self) -> String {
        let output = Command::new(&self.binary).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().take(2).collect::<Vec<_>>().join(", ")
    }
}

/// Runs a command to its successful end.
fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.status().unwrap();
    let took = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

const NAMESPACES: libc::c_int =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;

/// The floor: clones into the namespaces of the bundle, and executes its program.
fn floor(root: &str) -> ! {
    bear(NAMESPACES, &format!("{root}/bin/true"))
}

/// The floor of exec: joins the namespaces of the container behind this init, and executes a program of its.
fn floor_of_exec(init: &str) -> ! {
    let init: libc::pid_t = init.parse().unwrap();
    // SAFETY: two calls that take numbers; what they return is looked at.
    unsafe {
        let handle = libc::syscall(libc::SYS_pidfd_open, init, 0);
        assert_eq!(libc::setns(handle as libc::c_int, NAMESPACES), 0, "{}", std::io::Error::last_os_error());
    }
    bear(0, "/bin/true")
}

/// Clones with these flags, executes the program, which is `true`, in the child, and ends as it ended.
fn bear(flags: libc::c_int, program: &str) -> ! {
    let program = CString::new(program).unwrap();
    let flags = flags | libc::SIGCHLD;
    let name = c"true";
    // SAFETY: without CLONE_VM and without a stack of its own this is a fork into new namespaces: the child goes on with
    // a copy of this single-threaded process. Its one call gets pointers that live in this frame.
    let status = unsafe {
        match libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0) {
            0 => {
                libc::execve(program.as_ptr(), [name.as_ptr(), std::ptr::null()].as_ptr(), [std::ptr::null()].as_ptr());
                libc::_exit(127)
            }
            child if child > 0 => {
                let mut status = 0;
                libc::waitpid(child as libc::pid_t, &mut status, 0);
                status
            }
            _ => 1,
        }
    };
    std::process::exit(i32::from(status != 0))
}

/// Durations of one thing done by one runtime.
#[derive(Default)]
struct Samples(Vec<Duration>);

impl Samples {
    fn at(&mut self, part: f64) -> f64 {
        self.0.sort_unstable();
        let index = ((self.0.len() - 1) as f64 * part).round() as usize;
        self.0[index].as_secs_f64() * 1e3
    }
}

/// Prints what was measured, with ratios to crun and to the floor where there are such rows.
fn report(title: &str, mut rows: Vec<(String, Samples)>) {
    let median = |rows: &mut Vec<(String, Samples)>, name: &str| {
        rows.iter_mut().find(|(row, _)| row == name).map(|(_, samples)| samples.at(0.5))
    };
    let (crun, lowest) = (median(&mut rows, "crun"), median(&mut rows, "floor"));
    println!("\n{title} (ms)\n{:<10} {:>8} {:>8} {:>8} {:>8}", "", "median", "p90", "/crun", "/floor");
    for (name, samples) in &mut rows {
        let middle = samples.at(0.5);
        let ratio = |to: Option<f64>| to.map_or("-".to_owned(), |to| format!("{:.2}", middle / to));
        println!("{name:<10} {middle:>8.2} {:>8.2} {:>8} {:>8}", samples.at(0.9), ratio(crun), ratio(lowest));
    }
}

/// Measures `what` for every name in turn, `runs` times.
fn interleave(names: Vec<String>, runs: usize, mut what: impl FnMut(usize) -> Duration) -> Vec<(String, Samples)> {
    let mut rows: Vec<(String, Samples)> = names.into_iter().map(|name| (name, Samples::default())).collect();
    let count = rows.len();
    for run in 0..runs + 3 {
        for turn in 0..count {
            // Each round begins with another one.
            let index = (turn + run) % count;
            let took = what(index);
            // The first rounds warm the caches.
            if run >= 3 {
                rows[index].1.0.push(took);
            }
        }
    }
    rows
}

/// The version of cgroups that is in view.
fn view() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" }
}

/// Goes into the view, and into the root of another Debian, and comes back to [`main`] there.
fn enter(args: &[String]) -> ! {
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let view = match option("--cgroup").map(String::as_str) {
        Some("v2") => include_str!("../tests/support/view/v2.sh"),
        None | Some("v1") => include_str!("../tests/support/view/v1.sh"),
        Some(other) => panic!("--cgroup v1 or v2, not {other}"),
    };
    let this = std::env::current_exe().unwrap();
    let orlop = Path::new(env!("CARGO_BIN_EXE_orlop"));
    let tree = orlop.parent().unwrap();
    let inside = option("--inside").map(|dir| std::fs::canonicalize(dir).unwrap());
    let (this, orlop) = match &inside {
        // This binary stands beneath the directory of the one that it measures.
        Some(_) => (in_tree(&this, tree), in_tree(orlop, tree)),
        None => (this, orlop.to_owned()),
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]).arg(format!("set -e\n{view}\n{ENTER}"));
    command.env("INSIDE", inside.unwrap_or_default()).env("TREE", tree).env("ORLOP", orlop);
    let error = command.arg("sh").arg(this).arg("--in-view").args(args).exec();
    panic!("unshare: {error}");
}

fn in_tree(file: &Path, tree: &Path) -> PathBuf {
    Path::new("/run/tree").join(file.strip_prefix(tree).unwrap())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--floor") => floor(&args[1]),
        Some("--floor-of-exec") => floor_of_exec(&args[1]),
        Some("--in-view") => {}
        _ => enter(&args),
    }
    let mut runs = 100;
    let mut wanted: Vec<(String, PathBuf)> = Vec::new();
    let mut words = args.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => runs = words.next().and_then(|count| count.parse().ok()).expect("--runs N"),
            "--runtime" => {
                let (name, path) = words.next().and_then(|word| word.split_once('=')).expect("--runtime NAME=PATH");
                wanted.push((name.to_owned(), PathBuf::from(path)));
            }
            "--cgroup" | "--inside" => drop(words.next()),
            // cargo bench says it.
            "--bench" => {}
            other => panic!("what is {other}?"),
        }
    }
    if wanted.is_empty() {
        wanted.push(("orlop".to_owned(), PathBuf::from(std::env::var_os("ORLOP").unwrap())));
        wanted.push(("crun".to_owned(), PathBuf::from("/usr/bin/crun")));
        wanted.push(("runc".to_owned(), PathBuf::from("/usr/sbin/runc")));
    }
    let scratch = std::env::temp_dir().join(format!("orlop-bench-{}", std::process::id()));
    let runtimes: Vec<Runtime> = wanted.iter().map(|(name, path)| Runtime::new(name, path, &scratch)).collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let cores = std::thread::available_parallelism().unwrap();
    println!(
        "{runs} runs each, interleaved; Linux {}, {cores} processors; cgroups by cgroupfs, {}",
        kernel.trim(),
        view()
    );
    for runtime in &runtimes {
        println!("{}: {} ({})", runtime.name, runtime.version(), runtime.binary.display());
        runtime.configure(&["true"]);
    }
    let names = || -> Vec<String> { runtimes.iter().map(|runtime| runtime.name.clone()).collect() };

    let this = std::env::current_exe().unwrap();
    let root = runtimes[0].bundle.join("rootfs");
    let everyone = || names().into_iter().chain(["floor".to_owned()]).collect();
    let rows = interleave(everyone(), runs, |index| match runtimes.get(index) {
        Some(runtime) => runtime.bundled(&["run"]),
        None => timed(Command::new(&this).arg("--floor").arg(&root)),
    });
    report("run of /bin/true", rows);

    // The three of them in one go, told apart afterwards.
    let mut split: Vec<[Samples; 3]> = runtimes.iter().map(|_| Default::default()).collect();
    interleave(names(), runs / 2, |index| {
        let runtime = &runtimes[index];
        let took = [
            runtime.bundled(&["create"]),
            runtime.time(&["start", &runtime.name]),
            runtime.time(&["delete", "--force", &runtime.name]),
        ];
        for (samples, took) in split[index].iter_mut().zip(took) {
            samples.0.push(took);
        }
        took.iter().sum()
    });
    for (part, title) in ["create", "start", "delete --force"].into_iter().enumerate() {
        let rows = split.iter_mut().map(|parts| std::mem::take(&mut parts[part]));
        report(title, names().into_iter().zip(rows).collect());
    }

    for runtime in &runtimes {
        runtime.configure(&["sleep", "1000"]);
        runtime.bundled(&["run", "--detach", "--pid-file", &runtime.pid_file()]);
    }
    let init = std::fs::read_to_string(runtimes[0].pid_file()).unwrap();
    let rows = interleave(everyone(), runs, |index| match runtimes.get(index) {
        Some(runtime) => runtime.time(&["exec", &runtime.name, "/bin/true"]),
        None => timed(Command::new(&this).arg("--floor-of-exec").arg(&init)),
    });
    report("exec of /bin/true", rows);
    for runtime in &runtimes {
        runtime.time(&["delete", "--force", &runtime.name]);
    }
    std::fs::remove_dir_all(&scratch).unwrap();
}
