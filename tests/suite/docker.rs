//! Debian's Docker drives the runtime with what it asks for when nobody asks for anything: its own seccomp profile, its
//! capabilities, masked paths, a cgroup.
//!
//! The daemon keeps everything in the scratch directory, makes no bridge, and touches no firewall.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::require;
use crate::support::outcome::{Outcome, Running};
use crate::support::{Bundle, binary, is_root, wait_until};

/// A dockerd with one image, and the bundle whose scratch directory and rootfs it uses.
struct Docker {
    daemon: Option<Running>,
    bundle: Bundle,
    socket: PathBuf,
}

impl Docker {
    fn start() -> Docker {
        let bundle = Bundle::new();
        let dir = |name: &str| bundle.scratch(name).display().to_string();
        let socket = bundle.scratch("d.sock");
        let config = bundle.file("daemon.json", "{}");
        let mut command = bundle.viewed("/usr/sbin/dockerd".as_ref());
        command
            .args([
                "--iptables=false",
                "--ip-forward=false",
                "--bridge=none",
                "--storage-driver=vfs",
                "--log-level=error",
            ])
            .args(["--exec-opt=native.cgroupdriver=cgroupfs", &format!("--cgroup-parent=/{}", bundle.id())])
            .args(["--data-root", &dir("data"), "--exec-root", &dir("exec"), "--pidfile", &dir("pid"), "--config-file"])
            .arg(config)
            .args(["--host", &format!("unix://{}", socket.display())])
            .arg(format!("--add-runtime=tested={}", binary().display()));
        let daemon = Some(bundle.spawn(command));
        let docker = Docker { daemon, bundle, socket };
        wait_until("dockerd answers", || docker.socket.exists() && docker.finish(&["version"]).status.success());
        // A file whose links suites beside us count up and down changes while tar(1) reads it.
        let busybox = docker.bundle.rootfs("bin/busybox");
        std::fs::remove_file(&busybox).unwrap();
        std::fs::copy("/bin/busybox", &busybox).unwrap();
        let image = docker.bundle.scratch("image.tar").display().to_string();
        let mut pack = Command::new("tar");
        pack.args(["--create", "--file", &image, "--directory"]).arg(docker.bundle.rootfs("")).arg(".");
        docker.bundle.finish(pack).ok();
        docker.finish(&["import", &image, "busybox"]).ok();
        docker
    }

    #[track_caller]
    fn finish(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new("/usr/bin/docker");
        command.arg("--host").arg(format!("unix://{}", self.socket.display())).args(args).stdin(Stdio::null());
        self.bundle.finish(command)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::SIGTERM);
            let outcome = daemon.wait();
            if std::thread::panicking() {
                println!("{outcome}");
            }
        }
        // Docker leaves the parent of its containers' cgroups.
        let parent = self.bundle.id();
        for entry in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            let _ = std::fs::remove_dir(entry.unwrap().path().join(parent));
        }
        let _ = std::fs::remove_dir(std::path::Path::new("/sys/fs/cgroup").join(parent));
    }
}

/// What /proc tells in the container, of `run` and of `exec`: the same as below runc.
#[test]
fn dockers_own_filter_is_in_force() {
    require!(is_root(), "root of the host");
    require!(std::path::Path::new("/usr/sbin/dockerd").exists(), "dockerd");
    let docker = Docker::start();
    let told = |runtime: &str| {
        let look =
            ["sh", "-c", "grep -E '^(Seccomp|NoNewPrivs|Cap)' /proc/self/status; unshare -U true 2>&1; mkdir /d"];
        let run = [&["run", "--rm", "--network=none", "--runtime", runtime, "busybox"][..], &look].concat();
        let run = docker.finish(&run).ok().stdout;
        let up = ["run", "--detach", "--network=none", "--name", runtime, "--runtime", runtime, "busybox"];
        docker.finish(&[&up[..], &["sleep", "1000"]].concat()).ok();
        let exec = docker.finish(&[&["exec", runtime][..], &look].concat()).ok().stdout;
        docker.finish(&["rm", "--force", runtime]).ok();
        (run, exec)
    };
    let ours = told("tested");
    for told in [&ours.0, &ours.1] {
        assert!(told.contains("Seccomp:\t2\nSeccomp_filters:\t1\n"), "{told}");
        assert!(told.contains("Operation not permitted"), "unshare is not in Docker's profile: {told}");
    }
    assert_eq!(ours, told("runc"));
}
