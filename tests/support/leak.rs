//! What is left of a container: processes, mounts, cgroups. Everything of a test carries the test's token in its name.

use std::path::PathBuf;

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Left {
    pub processes: Vec<(i32, String)>,
    pub mounts: Vec<String>,
    pub cgroups: Vec<PathBuf>,
}

impl Left {
    /// Looks for everything that carries `token`.
    pub fn of(token: &str) -> Left {
        Left { processes: processes(token), mounts: mounts(token), cgroups: super::cgroup::named(token) }
    }

    /// Nothing is left.
    pub fn is_nothing(&self) -> bool {
        *self == Left::default()
    }

    /// Takes away what is left, so that one failed test does not spoil the machine for the others.
    pub fn sweep(self) {
        use nix::sys::signal::{Signal, kill};
        for (pid, _) in &self.processes {
            let _ = kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGKILL);
        }
        for cgroup in &self.cgroups {
            // A paused container does not die of SIGKILL before it is thawed (cgroup v1).
            let _ = std::fs::write(cgroup.join("freezer.state"), "THAWED");
            let _ = std::fs::write(cgroup.join("cgroup.freeze"), "0");
        }
        for mount in self.mounts.iter().rev() {
            let _ = rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
        for _ in 0..200 {
            self.cgroups.iter().for_each(|cgroup| super::cgroup::remove(cgroup));
            if !self.cgroups.iter().any(|cgroup| cgroup.is_dir()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Living processes whose cgroup, command line, root or working directory carries the token.
fn processes(token: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == std::process::id() as i32 {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let link = |name: &str| std::fs::read_link(entry.path().join(name)).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let carries = cmdline.contains(token)
            || String::from_utf8_lossy(&read("cgroup")).contains(token)
            || ["cwd", "root"].iter().any(|name| link(name).to_string_lossy().contains(token));
        let zombie = super::status_field(&pid.to_string(), "State").is_none_or(|state| state.starts_with(['Z', 'X']));
        if carries && !zombie {
            found.push((pid, cmdline));
        }
    }
    found
}

/// Mount points of this mount namespace that carry the token, in order.
fn mounts(token: &str) -> Vec<String> {
    // The thread's, not the process's: a test may have a mount namespace of its own.
    let mountinfo = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| at.contains(token))
        .map(str::to_owned)
        .collect()
}
