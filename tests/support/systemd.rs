//! A systemd to talk to: the machine's, where it runs one, else one of our own.
//!
//! One of our own is process 1 of a pid namespace, with a cgroup of the test's as its root. The host needs to have it
//! installed, not to run it. It sees no unit but its own few, and everything of it ends with the namespace. On a
//! hybrid host it manages cgroup v1 with limits; in the view of v2 there are the controllers that v1 has left.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{View, cgroup, wait_until};

const PROGRAM: &str = "/lib/systemd/systemd";

/// A systemd that runs.
pub struct Systemd {
    own: Option<Own>,
}

/// One of our own.
struct Own {
    name: String,
    units: PathBuf,
    outer: Child,
    pid: String,
}

/// Whether the machine runs one (sd_booted(3)).
fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether there is one, or one to start.
pub fn is_there() -> bool {
    is_booted() || (Path::new(PROGRAM).exists() && Path::new("/usr/bin/dbus-daemon").exists())
}

/// The ways in which systemds of this machine can see cgroups.
pub fn views() -> Vec<View> {
    if is_booted() { vec![View::Host] } else { vec![View::V1, View::V2] }
}

/// Into a cgroup of its own in every hierarchy; then the namespaces, from the outside to the inside.
const ENTER: &str = r#"set -e
name=$1 units=$2 view=$3
for hierarchy in $4; do
  mkdir "$hierarchy/$name"
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$hierarchy/$name/$file" ] || cat "$hierarchy/$file" >"$hierarchy/$name/$file" 2>/dev/null || true
  done
  echo $$ >"$hierarchy/$name/cgroup.procs"
done
exec unshare --cgroup --ipc --uts --mount --propagation private sh -c '
set -e
umount -R /sys/fs/cgroup
if [ "$2" = v2 ]; then
  mount -t cgroup2 none /sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
    mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c none /sys/fs/cgroup/$c
  done
  mkdir /sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd
fi
mount -t tmpfs -o mode=755 run /run
mount --bind "$1" /usr/lib/systemd/system
mount -t tmpfs none /etc/systemd/system
mount -t tmpfs none /usr/lib/systemd/system-generators
mount -t tmpfs none /usr/lib/systemd/system-environment-generators || true
exec unshare --pid --fork --kill-child --mount-proc --propagation private \
  env -i container=orlop-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=default.target --log-target=null --show-status=no
' sh "$units" "$view"
"#;

const UNITS: [(&str, &str); 3] = [
    ("default.target", "[Unit]\nDescription=the least that can be reached\n"),
    ("dbus.socket", "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n"),
    (
        "dbus.service",
        "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\n\
         ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n",
    ),
];

impl Systemd {
    /// One that sees cgroups this way: one of [`views`].
    pub fn start(view: View) -> Systemd {
        Systemd { own: (!is_booted()).then(|| Own::start(view)) }
    }

    /// The words for nsenter(1) that lead to it; none for the machine's.
    pub fn enter(&self) -> Vec<String> {
        self.own.as_ref().map(Own::enter).unwrap_or_default()
    }

    /// A program among systemd's own processes.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.own {
            Some(own) => {
                let mut command = Command::new("nsenter");
                command.args(own.enter()).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null());
        command
    }

    /// What a program there prints, whatever its status.
    pub fn says(&self, words: &[&str]) -> String {
        let done = self.command(words[0]).args(&words[1..]).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
    }

    /// As [`Systemd::says`], for a program that must succeed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let done = self.command(words[0]).args(&words[1..]).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&done.stderr));
        text
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }

    /// The units that carry this word, failed ones too.
    pub fn units(&self, word: &str) -> Vec<String> {
        let list = self.run(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full"]);
        let names = list.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.contains(word)).map(str::to_owned).collect()
    }

    /// The root of its part of a hierarchy, as a directory of the host.
    pub fn root(&self, hierarchy: &Path) -> PathBuf {
        self.own.as_ref().map_or_else(|| hierarchy.to_owned(), |own| hierarchy.join(&own.name))
    }

    /// Every cgroup of its tree that carries this word, as directories of the host.
    pub fn cgroups(&self, word: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo: Vec<PathBuf> = cgroup::hierarchies().iter().map(|hierarchy| self.root(&hierarchy.at)).collect();
        while let Some(directory) = todo.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if entry.file_name().to_string_lossy().contains(word) {
                        found.push(entry.path());
                    }
                    todo.push(entry.path());
                }
            }
        }
        found
    }
}

impl Own {
    fn start(view: View) -> Own {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orlop-test-systemd-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let units = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&units).unwrap();
        for (file, text) in UNITS {
            std::fs::write(units.join(file), text).unwrap();
        }
        let hierarchies: Vec<String> =
            cgroup::hierarchies().iter().map(|hierarchy| hierarchy.at.display().to_string()).collect();
        let view = if view == View::V2 { "v2" } else { "v1" };
        let outer = Command::new("sh")
            .args(["-c", ENTER, "sh", &name])
            .arg(&units)
            .args([view, &hierarchies.join(" ")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut own = Own { name, units, outer, pid: String::new() };
        wait_until("systemd's socket", || {
            let outer = own.outer.id();
            let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
            own.pid = children.trim().to_owned();
            !own.pid.is_empty() && Path::new(&format!("/proc/{}/root/run/systemd/private", own.pid)).exists()
        });
        wait_until("systemd to be up", || {
            let asked = Command::new("nsenter").args(own.enter()).args(["systemctl", "is-system-running"]).output();
            asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("running"))
        });
        own
    }

    fn enter(&self) -> Vec<String> {
        ["-t", &self.pid, "-m", "-p", "-C", "-i", "-u", "--"].map(str::to_owned).to_vec()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // unshare(1) takes its child along, and the namespace ends with that.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let own: Vec<PathBuf> = cgroup::hierarchies().iter().map(|hierarchy| hierarchy.at.join(&self.name)).collect();
        for _ in 0..200 {
            own.iter().for_each(|cgroup| cgroup::remove(cgroup));
            if !own.iter().any(|cgroup| cgroup.is_dir()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = std::fs::remove_dir_all(&self.units);
    }
}
