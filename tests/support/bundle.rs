//! A bundle in a scratch directory of its own, the container made from it, and the look for leaks when it goes.

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::leak::Left;
use super::outcome::{Outcome, Running};

/// How the runtime sees `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// As this host has it.
    Host,
    /// A pure cgroup v1 layout, in a private mount namespace.
    V1,
    /// A pure cgroup v2 tree, in a private mount namespace; only the controllers that no v1 hierarchy holds are there.
    V2,
}

/// A bundle, and everything needed to make one container of it.
pub struct Bundle {
    token: String,
    scratch: PathBuf,
    /// `config.json`; written when a container is made.
    pub spec: Value,
    view: View,
    globals: Vec<String>,
    prelude: String,
    enter: Vec<String>,
}

/// Makes a pure cgroup v2 tree in a private mount namespace.
const V2: &str = include_str!("view/v2.sh");

/// Makes a pure cgroup v1 layout in a private mount namespace.
const V1: &str = include_str!("view/v1.sh");

/// Programs of busybox that the tests' payloads use.
const APPLETS: &str = "sh ash cat ls echo true false sleep id env pwd stat mount umount touch mkdir rm rmdir mknod hostname \
    dnsdomainname readlink ln chmod chown kill ps head tail tr cut grep sed awk wc dd test [ printf tee find sort uniq seq \
    df mountpoint tty stty date nproc taskset chrt nice renice su dmesg sysctl ip ifconfig ping nc unshare setsid \
    mkfifo xxd od md5sum basename dirname realpath expr usleep sync which xargs cp mv uname ionice setpriv timeout nsenter ipcs";

impl Bundle {
    /// A bundle as `runc spec` makes it, without a terminal, whose program is `true`.
    pub fn new() -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // The time keeps a recycled pid from meeting what a killed run left behind.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos() >> 12;
        let token = format!("orlop-test-{}-{}-{now:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = std::env::temp_dir().join(&token);
        std::fs::create_dir_all(scratch.join("bundle")).unwrap();
        // Payloads with other user ids must be able to pass.
        for dir in [&scratch, &scratch.join("bundle")] {
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
        }
        fill_rootfs(&scratch.join("bundle/rootfs"));
        let spec = default_spec(&token);
        Bundle {
            token,
            scratch,
            spec,
            view: View::Host,
            globals: Vec::new(),
            prelude: String::new(),
            enter: Vec::new(),
        }
    }

    /// A bundle whose program is a shell script.
    pub fn sh(script: &str) -> Bundle {
        let mut bundle = Bundle::new();
        bundle.args(&["sh", "-c", script]);
        bundle
    }

    /// Changes `config.json`.
    pub fn edit(&mut self, change: impl FnOnce(&mut Value)) -> &mut Self {
        change(&mut self.spec);
        self
    }

    /// The program and its arguments.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.edit(|spec| spec["process"]["args"] = json!(args))
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: Value) -> &mut Self {
        self.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(mount))
    }

    /// Removes the mount at this destination.
    pub fn no_mount(&mut self, destination: &str) -> &mut Self {
        self.edit(|spec| spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != destination))
    }

    /// Adds a namespace.
    pub fn namespace(&mut self, namespace: Value) -> &mut Self {
        self.edit(|spec| spec["linux"]["namespaces"].as_array_mut().unwrap().push(namespace))
    }

    /// Removes a namespace, which is then shared with the host.
    pub fn no_namespace(&mut self, kind: &str) -> &mut Self {
        self.edit(|spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind)
        })
    }

    /// Makes the root writable.
    pub fn writable(&mut self) -> &mut Self {
        self.edit(|spec| spec["root"]["readonly"] = json!(false))
    }

    /// Gives the container a user namespace of 65536 ids from `host_id`, and lets its root own the rootfs.
    pub fn user_namespace(&mut self, host_id: u32) -> &mut Self {
        own_directories(&self.rootfs(""), host_id);
        let map = json!([{"containerID": 0, "hostID": host_id, "size": 65536}]);
        self.edit(|spec| {
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        });
        self.namespace(json!({"type": "user"}))
    }

    /// Every capability that this process has to give.
    pub fn all_capabilities(&mut self) -> &mut Self {
        let mine = caps::read(None, caps::CapSet::Permitted).unwrap();
        let all: Vec<String> = mine.into_iter().map(|capability| capability.to_string()).collect();
        self.capabilities(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// These capabilities in all sets but inheritable and ambient.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Self {
        self.edit(|spec| {
            spec["process"]["capabilities"] = json!({"bounding": names, "effective": names, "permitted": names})
        })
    }

    /// How the runtime sees the cgroups.
    pub fn view(&mut self, view: View) -> &mut Self {
        self.view = view;
        self
    }

    /// Runs every command of the runtime in a private mount namespace, after this shell script: for mounts of the host
    /// that a case needs and that must not touch the host. Each command gets its own, so it suits `run` best.
    pub fn prelude(&mut self, script: &str) -> &mut Self {
        self.prelude = script.to_owned();
        self
    }

    /// Runs every command of the runtime beside this systemd, which has to outlive the bundle.
    pub fn beside(&mut self, systemd: &super::systemd::Systemd) -> &mut Self {
        self.enter = systemd.enter();
        self
    }

    /// A global option, for every command.
    pub fn global(&mut self, option: &str) -> &mut Self {
        self.globals.push(option.to_owned());
        self
    }

    /// The container's id; also the name of its cgroup and of the scratch directory.
    pub fn id(&self) -> &str {
        &self.token
    }

    /// A path in the scratch directory, outside of the bundle.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The bundle directory.
    pub fn path(&self) -> PathBuf {
        self.scratch.join("bundle")
    }

    /// A path in the rootfs, seen from the host.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        self.scratch.join("bundle/rootfs").join(name.trim_start_matches('/'))
    }

    /// The directory given as `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.scratch.join("state")
    }

    /// Puts a file into the scratch directory.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Puts an executable shell script of the host into the scratch directory.
    pub fn host_script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.file(name, format!("#!/bin/sh\n{body}\n"));
        super::executable(&path);
        path
    }

    /// Writes `config.json` as `spec` has it.
    pub fn write(&self) -> &Self {
        std::fs::write(self.path().join("config.json"), serde_json::to_vec_pretty(&self.spec).unwrap()).unwrap();
        self
    }

    /// The runtime with `--root`, the global options and these arguments, ready to be given more.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.command_of(super::binary(), args)
    }

    /// As [`Bundle::command`], with another binary.
    pub fn command_of<S: AsRef<OsStr>>(&self, binary: &Path, args: &[S]) -> Command {
        let mut command = self.viewed(binary);
        if binary == super::binary() {
            super::filter::as_asked(&mut command);
        }
        command.arg("--root").arg(self.state_root()).args(&self.globals).args(args);
        command
    }

    /// A program of the host that sees the cgroups as this bundle's runtime does.
    pub fn viewed(&self, program: &Path) -> Command {
        let view = match self.view {
            // crun refuses the hybrid layout.
            View::Host if super::flavour() == "crun" && is_hybrid() => V1,
            View::Host => "",
            View::V1 => V1,
            // A new mount of it would give its own options to that of the host.
            View::V2 if super::cgroup::v2().is_some_and(|at| at == Path::new("/sys/fs/cgroup")) => "",
            View::V2 => V2,
        };
        let mut command = if !self.enter.is_empty() {
            let mut command = Command::new("nsenter");
            command.args(&self.enter).arg(program);
            command
        } else if view.is_empty() && self.prelude.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("unshare");
            let script = format!("set -e\n{view}\n{}\nexec \"$@\"", self.prelude);
            command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(program);
            command
        };
        command.stdin(Stdio::null());
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "RUN_OCI_SECCOMP_RECEIVER"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the container and gives what its program wrote to standard output.
    #[track_caller]
    pub fn output(&self) -> String {
        self.run().ok().text().to_owned()
    }

    /// Starts a command whose output goes to the scratch directory.
    pub fn spawn(&self, command: Command) -> Running {
        Running::start(command, &self.scratch)
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn finish(&self, command: Command) -> Outcome {
        self.spawn(command).wait()
    }

    /// Calls the runtime with these arguments, as they are.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        self.finish(self.command(args))
    }

    /// Arguments of `create` and `run`: the verb, the options, the bundle and the id.
    pub fn with_bundle(&self, verb: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = verb.iter().map(|&word| word.to_owned()).collect();
        args.extend(["--bundle".to_owned(), self.path().display().to_string(), self.token.clone()]);
        args
    }

    /// `create`.
    #[track_caller]
    pub fn create(&self) -> Outcome {
        self.write().call(&self.with_bundle(&["create"]))
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Outcome {
        self.call(&["start", &self.token])
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.write().call(&self.with_bundle(&["run"]))
    }

    /// `run --detach`.
    #[track_caller]
    pub fn run_detached(&self) -> Outcome {
        self.write().call(&self.with_bundle(&["run", "--detach"]))
    }

    /// A running container whose program sleeps, or does what the bundle says if it was told to.
    #[track_caller]
    pub fn up(&mut self) -> &mut Self {
        if self.spec["process"]["args"] == json!(["true"]) {
            self.args(&["sleep", "1000"]);
        }
        self.run_detached().ok();
        self
    }

    /// `kill` with a signal.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Outcome {
        self.call(&["kill", &self.token, signal])
    }

    /// `delete`.
    #[track_caller]
    pub fn delete(&self) -> Outcome {
        self.call(&["delete", &self.token])
    }

    /// `delete --force`.
    #[track_caller]
    pub fn delete_force(&self) -> Outcome {
        self.call(&["delete", "--force", &self.token])
    }

    /// `exec` with these options and words.
    #[track_caller]
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Outcome {
        let mut words = vec!["exec"];
        words.extend(options);
        words.push(&self.token);
        words.extend(args);
        self.call(&words)
    }

    /// `exec` of a shell script in the container.
    #[track_caller]
    pub fn exec(&self, script: &str) -> Outcome {
        self.exec_with(&[], &["sh", "-c", script])
    }

    /// What `state` prints.
    #[track_caller]
    pub fn state(&self) -> Value {
        let outcome = self.call(&["state", &self.token]).ok();
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
    }

    /// The status that `state` prints.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Pid of the container's init, on the host.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.state()["pid"].as_i64().unwrap()).unwrap()
    }

    /// Waits until the container has this status.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        super::wait_until(&format!("status {status}"), || self.status() == status);
    }

    /// Ends the container, waits for the end, and deletes it.
    #[track_caller]
    pub fn finish_off(&self) {
        self.kill("KILL").ok();
        self.wait_for_status("stopped");
        self.delete().ok();
    }

    /// What is left of it, given a moment: the kernel ends processes on its own time.
    pub fn left(&self) -> Left {
        let start = Instant::now();
        loop {
            let left = Left::of(&self.token);
            if left.is_nothing() || start.elapsed() > super::patience(5) {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Nothing is left of the container: no process, no mount, no cgroup, no state.
    #[track_caller]
    pub fn assert_gone(&self) {
        let state = self.state_root().join(&self.token);
        let left = self.left();
        assert!(!state.exists() && left.is_nothing(), "left behind: {left:?}, state folder: {}", state.exists());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let state = self.state_root().join(&self.token);
        let deleted = !state.exists() || self.call(&["delete", "--force", self.id()]).status.success();
        let left = if std::thread::panicking() { Left::of(&self.token) } else { self.left() };
        let clean = deleted && !state.exists() && left.is_nothing();
        let report = format!("left behind: {left:?}; deleted: {deleted}; state folder: {}", state.exists());
        left.sweep();
        // remove_dir_all would walk into a mount that is still there.
        if Left::of(&self.token).mounts.is_empty() {
            let _ = std::fs::remove_dir_all(&self.scratch);
        }
        assert!(clean || std::thread::panicking(), "{report}");
    }
}

/// Whether the host has cgroup v1 hierarchies beside a v2 tree.
fn is_hybrid() -> bool {
    super::cgroup::hierarchies().iter().any(|hierarchy| !hierarchy.controllers.is_empty())
}

/// A small Linux: busybox with its links, and the files that runtimes look into.
fn fill_rootfs(rootfs: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/user", "run", "mnt"] {
        std::fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    std::fs::set_permissions(rootfs, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    let busybox = rootfs.join("bin/busybox");
    if std::fs::hard_link(shared_busybox(), &busybox).is_err() {
        std::fs::copy(shared_busybox(), &busybox).unwrap();
        super::executable(&busybox);
    }
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    std::fs::write(rootfs.join("etc/passwd"), passwd).unwrap();
    std::fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}

/// Gives the directories of a tree to somebody; the files in `bin` are shared with other tests.
fn own_directories(dir: &Path, owner: u32) {
    std::os::unix::fs::chown(dir, Some(owner), Some(owner)).unwrap();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            own_directories(&entry.path(), owner);
        }
    }
}

/// A copy of the host's static busybox that may be linked to: not the host's own, which a broken runtime might spoil.
fn shared_busybox() -> PathBuf {
    let source = Path::new("/bin/busybox");
    let length = std::fs::metadata(source).expect("Debian's busybox-static is needed").len();
    let copy = std::env::temp_dir().join(format!("orlop-busybox-{}", rustix::process::geteuid().as_raw()));
    if std::fs::metadata(&copy).map(|copy| copy.len()).ok() != Some(length) {
        let fresh = copy.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::copy(source, &fresh).unwrap();
        super::executable(&fresh);
        std::fs::rename(&fresh, &copy).unwrap();
    }
    copy
}

/// What `runc spec` writes, without a terminal and with a cgroup of the test's own.
fn default_spec(token: &str) -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "orlop",
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
            "cgroupsPath": format!("/{token}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
