//! Debian's containerd, with its own shim, drives the runtime: run, exec, kill, delete, a terminal, limits.
//!
//! Each test starts a containerd of its own, with everything it keeps in the scratch directory, in one of the three
//! views of the cgroups.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::require;
use crate::support::outcome::{Outcome, Running, on_terminal};
use crate::support::{Bundle, View, binary, cgroup, is_root, wait_until};

/// A containerd, and the bundle whose scratch directory and rootfs it uses.
struct Containerd {
    daemon: Option<Running>,
    bundle: Bundle,
    socket: PathBuf,
    /// Whether the containers have the bundle's config and not the one that ctr makes, which always asks for CPU shares.
    own_config: bool,
    log_uri: String,
}

/// The file that [`Containerd::log`] names.
const LOG: &str = "said";

impl Containerd {
    fn start(view: View) -> Containerd {
        let mut bundle = Bundle::new();
        bundle.view(view);
        let dir = |name: &str| bundle.scratch(name).display().to_string();
        let socket = bundle.scratch("c.sock");
        let config = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{}'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{}'\n",
            dir("containerd-root"),
            dir("containerd-state"),
            socket.display(),
            dir("opt"),
        );
        let config = bundle.file("containerd.toml", config);
        let mut command = bundle.viewed("/usr/bin/containerd".as_ref());
        command.args(["--log-level", "error", "--config"]).arg(config);
        let daemon = Some(bundle.spawn(command));
        let own_config = view == View::V2 && cgroup::v1("cpu").is_some();
        let log_uri = format!("file://{}", bundle.scratch(LOG).display());
        let containerd = Containerd { daemon, bundle, socket, own_config, log_uri };
        wait_until("containerd answers", || {
            containerd.socket.exists() && containerd.finish(&["version"]).status.success()
        });
        containerd
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", self.bundle.id()])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn finish(&self, args: &[&str]) -> Outcome {
        self.bundle.finish(self.command(args))
    }

    /// Words of `ctr run` with the runtime under test, options, and the program.
    fn run(&self, options: &[&str], program: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = ["run", "--runc-binary"].map(str::to_owned).to_vec();
        words.push(binary().display().to_string());
        words.extend(["--runc-root".to_owned(), self.bundle.scratch("runc").display().to_string()]);
        words.extend(options.iter().map(|&word| word.to_owned()));
        if self.own_config {
            let mut spec = self.bundle.spec.clone();
            spec["process"]["args"] = program.into();
            spec["root"] =
                serde_json::json!({"path": self.bundle.rootfs(""), "readonly": options.contains(&"--read-only")});
            let config = self.bundle.file("containerd.json", spec.to_string());
            words.extend(["--config".to_owned(), config.display().to_string(), "c1".to_owned()]);
        } else {
            if !options.contains(&"--cgroup") {
                words.extend(["--cgroup".to_owned(), format!("/{}", self.bundle.id())]);
            }
            words.extend(["--rootfs".to_owned(), self.bundle.rootfs("").display().to_string(), "c1".to_owned()]);
            words.extend(program.iter().map(|&word| word.to_owned()));
        }
        words
    }

    #[track_caller]
    fn finish_run(&self, options: &[&str], program: &[&str]) -> Outcome {
        let words = self.run(&[&self.log()[..], options].concat(), program);
        self.finish(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[track_caller]
    fn finish_exec(&self, program: &[&str]) -> Outcome {
        self.finish(&[&["task", "exec", "--exec-id", "e1"][..], &self.log(), &["c1"], program].concat())
    }

    /// Has the shim write what the program says into a file. Through ctr's pipes it may be lost: ctr stops opening them
    /// when it hears of the end, and with a quick program that can come first. In the file, what is said on standard error
    /// may be lost: the shim closes it for both when standard output ends.
    fn log(&self) -> [&str; 2] {
        ["--log-uri", &self.log_uri]
    }

    /// What the programs have said on standard output since this was asked last.
    fn said(&self) -> String {
        let file = self.bundle.scratch(LOG);
        let said = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        said
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(nix::sys::signal::Signal::SIGTERM);
            if std::thread::panicking() {
                println!("{}", daemon.wait());
            } else {
                daemon.wait();
            }
        }
    }
}

/// The whole story in one view.
fn story(view: View) {
    let containerd = Containerd::start(view);
    containerd.finish_run(&["--rm"], &["/bin/echo", "hello"]).ok();
    assert_eq!(containerd.said(), "hello\n");
    let outcome = containerd.finish_run(&["--rm"], &["/bin/sh", "-c", "exit 7"]);
    assert_eq!(outcome.code(), 7, "{outcome}");
    let outcome = containerd.finish_run(&["--rm", "--read-only"], &["/bin/sh", "-c", "exec touch /x 2>&1"]);
    assert_eq!(outcome.code(), 1, "{outcome}");
    let said = containerd.said();
    assert!(said.contains("Read-only file system"), "{said}");
    // A runtime's refusal reaches the user through the log file.
    let outcome = containerd.finish_run(&["--rm"], &["/no/such/program"]).fails();
    assert!(outcome.stderr.contains("no such file or directory"), "{outcome}");

    containerd.finish_run(&["--detach"], &["/bin/sleep", "1000"]).ok();
    let outcome = containerd.finish(&["task", "ls"]).ok();
    assert!(outcome.stdout.contains("RUNNING"), "{outcome}");
    let outcome = containerd.finish_exec(&["/bin/sh", "-c", "hostname; exit 5"]);
    assert_eq!(outcome.code(), 5, "{outcome}");
    let outcome = containerd.finish(&["task", "ps", "c1"]).ok();
    assert_eq!(outcome.stdout.lines().count(), 2, "{outcome}");
    containerd.finish(&["task", "pause", "c1"]).ok();
    assert!(containerd.finish(&["task", "ls"]).ok().stdout.contains("PAUSED"));
    containerd.finish(&["task", "resume", "c1"]).ok();
    containerd.finish(&["task", "kill", "--signal", "SIGKILL", "c1"]).ok();
    wait_until("the task stopped", || containerd.finish(&["task", "ls"]).ok().stdout.contains("STOPPED"));
    containerd.finish(&["task", "delete", "c1"]);
    containerd.finish(&["container", "delete", "c1"]).ok();
    assert!(!containerd.bundle.scratch("runc").join(containerd.bundle.id()).join("c1").exists());
}

#[test]
fn containerd_on_the_host() {
    require!(is_root(), "root of the host");
    story(View::Host);
}

#[test]
fn containerd_on_cgroup_v1() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    story(View::V1);
}

#[test]
fn containerd_on_cgroup_v2() {
    require!(is_root(), "root of the host");
    story(View::V2);
}

#[test]
fn containerd_sets_a_memory_limit() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let containerd = Containerd::start(View::Host);
    containerd.finish_run(&["--detach", "--memory-limit", "33554432"], &["/bin/sleep", "1000"]).ok();
    let group = cgroup::v1("memory").unwrap().join(containerd.bundle.id());
    assert_eq!(std::fs::read_to_string(group.join("memory.limit_in_bytes")).unwrap().trim(), "33554432");
    containerd.finish(&["task", "kill", "--signal", "SIGKILL", "c1"]).ok();
    wait_until("the task stopped", || containerd.finish(&["task", "ls"]).ok().stdout.contains("STOPPED"));
    containerd.finish(&["task", "delete", "c1"]);
    containerd.finish(&["container", "delete", "c1"]).ok();
}

/// What `SystemdCgroup = true` does: the path of the cgroup is SLICE:PREFIX:NAME, and systemd makes it.
#[test]
fn containerd_has_systemd_make_the_cgroup() {
    require!(is_root(), "root of the host");
    let systemd = std::path::Path::new("/run/systemd/system").exists();
    require!(systemd && cgroup::v2_with("memory").is_some(), "cgroup v2 with systemd");
    let containerd = Containerd::start(View::Host);
    let name = containerd.bundle.id();
    let unit = format!("system.slice:orlop:{name}");
    let limits = ["--memory-limit", "67108864", "--cpus", "0.5"];
    let run = |options: &[&str], program: &[&str]| {
        let mut words = vec!["--runc-systemd-cgroup", "--cgroup", &unit];
        words.extend(limits);
        words.extend(options);
        containerd.finish_run(&words, program)
    };
    run(&["--rm"], &["/bin/echo", "hello"]).ok();
    assert_eq!(containerd.said(), "hello\n");
    run(&["--detach"], &["/bin/sleep", "1000"]).ok();
    let group = cgroup::v2().unwrap().join(format!("system.slice/orlop-{name}.scope"));
    let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
    assert_eq!(read("memory.max") + &read("cpu.max"), "67108864\n50000 100000\n");
    containerd.finish(&["task", "pause", "c1"]).ok();
    assert!(read("cgroup.events").contains("frozen 1"));
    containerd.finish(&["task", "resume", "c1"]).ok();
    containerd.finish(&["task", "kill", "--signal", "SIGKILL", "c1"]).ok();
    wait_until("the task stopped", || containerd.finish(&["task", "ls"]).ok().stdout.contains("STOPPED"));
    containerd.finish(&["task", "delete", "c1"]);
    containerd.finish(&["container", "delete", "c1"]).ok();
    wait_until("the cgroup is gone", || !group.exists());
}

#[test]
fn containerd_gives_a_terminal() {
    require!(is_root(), "root of the host");
    let containerd = Containerd::start(View::Host);
    // ctr may end before it has shown everything (see `log`), so the program waits until its words have come.
    let script = "tty; test -t 0 && echo terminal; until test -e /tmp/shown; do sleep 0.05; done; exit 3";
    let words = containerd.run(&["--rm", "--tty"], &["/bin/sh", "-c", script]);
    let inner = containerd.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut command = on_terminal(&inner);
    command.stdin(Stdio::null());
    let running = containerd.bundle.spawn(command);
    wait_until("the words come", || running.said().contains("terminal"));
    std::fs::write(containerd.bundle.rootfs("tmp/shown"), "").unwrap();
    let outcome = running.wait();
    assert!(outcome.stdout.contains("/dev/pts/0"), "{outcome}");
    assert_eq!(outcome.code(), 3, "{outcome}");
}

/// `ctr run --seccomp` asks for containerd's own profile.
#[test]
fn containerds_own_filter_is_in_force() {
    require!(is_root(), "root of the host");
    let runc = Path::new("/usr/sbin/runc");
    require!(runc.exists(), "runc beside orlop");
    let containerd = Containerd::start(View::Host);
    let look = ["/bin/grep", "-E", "^(Seccomp|NoNewPrivs)", "/proc/self/status"];
    let told = |runtime: &Path| {
        let run = |how: &str, program: &[&str]| {
            let mut words = containerd.run(&[&containerd.log()[..], &[how, "--seccomp"]].concat(), program);
            words[2] = runtime.display().to_string();
            containerd.finish(&words.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        };
        run("--rm", &look);
        let first = containerd.said();
        run("--detach", &["/bin/sleep", "1000"]);
        containerd.finish_exec(&look).ok();
        let second = containerd.said();
        containerd.finish(&["task", "kill", "--signal", "SIGKILL", "c1"]).ok();
        wait_until("the task stopped", || containerd.finish(&["task", "ls"]).ok().stdout.contains("STOPPED"));
        containerd.finish(&["task", "delete", "c1"]);
        containerd.finish(&["container", "delete", "c1"]).ok();
        (first, second)
    };
    let ours = told(binary());
    for told in [&ours.0, &ours.1] {
        assert!(told.contains("Seccomp:\t2\n"), "{told}");
    }
    assert_eq!(ours, told(runc));
}
