//! T04, T05, T06, T59: what CVE-2021-30465 and CVE-2024-45310 won by luck. Processes swap directories for links in a volume that a
//! container is just being made of, as fast as they can, a bounded number of times; nothing outside may be touched.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::require;
use crate::support::canary::Canary;
use crate::support::outcome::{Outcome, called_by};
use crate::support::{Bundle, is_orlop, is_root, mountinfo};

/// Containers per storm, and how long one lasts at the most.
const CREATES: usize = 100;
const LONGEST: Duration = Duration::from_secs(20);

/// Two names, of which one may be missing.
type Pair = (PathBuf, PathBuf);

/// Pairs of names that are exchanged until it is ended, in an order that a seed decides.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Storm {
    fn begin(pairs: Vec<Pair>, seed: u64) -> Storm {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut state, mut swaps) = (seed | 1, 0);
            while !stopped.load(Ordering::Relaxed) {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let (one, other) = &pairs[state as usize % pairs.len()];
                let swapped = [(one, other, RenameFlags::EXCHANGE), (one, other, NEW), (other, one, NEW)]
                    .into_iter()
                    .any(|(from, to, how)| renameat_with(CWD, from, CWD, to, how).is_ok());
                swaps += u64::from(swapped);
            }
            swaps
        });
        Storm { stop, thread }
    }

    /// How often it swapped two names.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

const NEW: RenameFlags = RenameFlags::NOREPLACE;

/// A directory, or a name that is missing, and a link of the same parent that leads out.
fn pair(at: &Path, out: &Path) -> Pair {
    symlink(out, beside(at)).unwrap();
    (at.to_owned(), beside(at))
}

/// Where the other one of a pair stands.
fn beside(at: &Path) -> PathBuf {
    at.with_extension("other")
}

/// `run` under strace(1), which holds each call that finds or makes something for a moment: what lies between two of them
/// is then long enough for the storm.
fn slowly(bundle: &Bundle) -> Outcome {
    let strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "--trace=openat,openat2,mkdirat,mknodat"];
    bundle.finish(called_by(&strace, &bundle.write().command(&bundle.with_bundle(&["run"]))))
}

/// A container that is made in a storm.
struct Weather {
    bundle: Bundle,
    canary: Canary,
    /// What the storm blows through: a volume, or places of the image. It is laid out anew for each container.
    places: Vec<PathBuf>,
}

impl Weather {
    /// A container with the volume `/vol`.
    fn over_a_volume() -> Weather {
        let mut bundle = Bundle::new();
        let canary = Canary::plant(bundle.path().join("outside"));
        let volume = bundle.scratch("volume");
        bundle.writable().args(&["cat", "/proc/self/mountinfo"]);
        bundle.mount(json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"]}));
        Weather { bundle, canary, places: vec![volume] }
    }

    fn volume(&self) -> PathBuf {
        self.places[0].clone()
    }

    /// Makes and deletes containers in the storm, and looks at the canary, at the host's mounts, and at the container's
    /// own. `lay_out` fills the places and says what is swapped; `inside` are the sources of mounts, or the ends of their
    /// roots, that a container must see where it was made: a mount that landed outside is gone from its sight.
    fn rages(self, what: &str, inside: &[&str], lay_out: impl Fn(&Weather) -> Vec<Pair>) {
        require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
        let bundle = &self.bundle;
        let seed = std::env::var("ORLOP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) << 20 | u64::from(std::process::id())
        });
        let ours = || -> Vec<String> {
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            table.lines().filter(|line| line.contains(bundle.id())).map(str::to_owned).collect()
        };
        let before = ours();
        let (begin, mut created, mut count, mut swaps) = (Instant::now(), 0, 0, 0);
        while count < 10 || count < CREATES && begin.elapsed() < LONGEST {
            count += 1;
            for place in &self.places {
                for name in [place, &beside(place)] {
                    // One of the two may be a link that leads out.
                    let _ = std::fs::remove_file(name).or_else(|_| std::fs::remove_dir_all(name));
                }
                std::fs::create_dir(place).unwrap();
            }
            let storm = Storm::begin(lay_out(&self), seed + count as u64);
            let outcome = slowly(bundle);
            swaps += storm.end();
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
            if outcome.status.success() {
                created += 1;
                let mounts = mountinfo::parse(&outcome.stdout);
                for mount in &mounts {
                    // (A link that leads to its path beneath the container's own root is no way out.)
                    let leads_out = mount.root.contains("/outside") && !mount.root.contains("/bundle/rootfs/");
                    assert!(!leads_out, "seed {seed}: {} shows {}", mount.at, mount.root);
                }
                for wanted in inside {
                    let there = mounts.iter().any(|mount| mount.source == *wanted || mount.root.ends_with(wanted));
                    assert!(there, "seed {seed}, container {count}: {wanted} was mounted elsewhere: {outcome}");
                }
            } else {
                bundle.delete_force();
            }
            assert_eq!(self.canary.touched(), Vec::<String>::new(), "seed {seed}, container {count}: {outcome}");
            assert_eq!(ours(), before, "seed {seed}, container {count}: {outcome}");
        }
        println!("{what}: seed {seed}, {count} containers, {created} of them made, {swaps} swaps");
        assert!(swaps > 1000, "no storm: {count} containers, {swaps} swaps");
    }
}

/// T04: the destinations of a tmpfs and of a bind: one lies in a directory that is swapped, the other is swapped itself.
#[test]
fn t04_cve_2021_30465_destinations_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut weather = Weather::over_a_volume();
    // Of each many, as each has its moment.
    let sources: Vec<String> = (0..8).flat_map(|number| [format!("tmpfs{number}"), format!("/bind{number}")]).collect();
    for source in &sources {
        weather.bundle.mount(match source.strip_prefix('/') {
            None => json!({"destination": "/vol/a/dir", "type": "tmpfs", "source": source}),
            Some(name) => {
                let source = weather.bundle.scratch(name);
                std::fs::create_dir(&source).unwrap();
                json!({"destination": "/vol/b", "type": "bind", "source": source, "options": ["bind"]})
            }
        });
    }
    let inside: Vec<&str> = sources.iter().map(String::as_str).collect();
    weather.rages("t04", &inside, |weather| {
        let volume = weather.volume();
        std::fs::create_dir_all(volume.join("a/dir")).unwrap();
        std::fs::create_dir(volume.join("b")).unwrap();
        vec![
            pair(&volume.join("a"), weather.canary.path()),
            pair(&volume.join("b"), Path::new("../../../../../../../../../..")),
        ]
    });
}

/// T05: six missing levels are made below a directory that is swapped for a link, and for another directory.
#[test]
fn t05_cve_2024_45310_missing_directories_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut weather = Weather::over_a_volume();
    weather.bundle.mount(json!({"destination": "/vol/a/1/2/3/4/5/6", "type": "tmpfs", "source": "stormtmpfs"}));
    weather.bundle.edit(|spec| spec["process"]["cwd"] = json!("/vol/a/7/8/9"));
    weather.rages("t05", &["stormtmpfs"], |weather| {
        let volume = weather.volume();
        for name in ["a", "spare"] {
            std::fs::create_dir(volume.join(name)).unwrap();
        }
        vec![pair(&volume.join("a"), weather.canary.path()), (volume.join("a"), volume.join("spare"))]
    });
}

/// T06: a file is made for a bind of a file: below a directory that is swapped, and where a dangling link to the host may
/// be, or nothing.
#[test]
fn t06_cve_2024_45310_missing_files_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut weather = Weather::over_a_volume();
    let file = weather.bundle.file("file", "x");
    for (destination, options) in [("/vol/a/made", json!(["bind"])), ("/vol/target", json!(["bind", "ro"]))] {
        weather.bundle.mount(json!({"destination": destination, "type": "bind", "source": file, "options": options}));
    }
    weather.rages("t06", &["/file"], |weather| {
        let (volume, out) = (weather.volume(), weather.canary.path());
        std::fs::create_dir(volume.join("a")).unwrap();
        vec![pair(&volume.join("a"), out), pair(&volume.join("target"), &out.join("not-there"))]
    });
}

/// T04 where the image itself is in a storm: the directory in which devices are made, and one that is a link's target.
#[test]
fn t04_cve_2021_30465_the_image_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let canary = Canary::plant(bundle.path().join("outside"));
    for place in ["/dev/shm", "/dev/pts", "/dev/mqueue", "/dev"] {
        bundle.no_mount(place);
    }
    bundle.writable().args(&["cat", "/proc/self/mountinfo"]);
    bundle.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(["/work/masked"]);
        spec["linux"]["readonlyPaths"] = json!(["/work/masked"]);
        spec["linux"]["devices"] =
            json!([{"path": "/dev/deep/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 0, "gid": 0}]);
        spec["process"]["cwd"] = json!("/work/here");
    });
    let places = ["dev", "work"].map(|name| bundle.rootfs(name)).to_vec();
    Weather { bundle, canary, places }.rages("t04, the image", &[], |weather| {
        let rootfs = weather.bundle.rootfs("");
        std::fs::create_dir(rootfs.join("work/masked")).unwrap();
        vec![pair(&rootfs.join("dev"), Path::new("../outside")), pair(&rootfs.join("work"), weather.canary.path())]
    });
}

/// T59: the number of a container's init has been given to another process: that is neither signalled nor entered.
#[test]
fn t59_a_recycled_pid_is_nobody() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that does not trust its own state folder");
    let mut bundle = Bundle::new();
    bundle.up();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let state = bundle.state_root().join(bundle.id()).join("state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    record["init_process_pid"] = json!(other.id());
    std::fs::write(&state, serde_json::to_vec(&record).unwrap()).unwrap();
    assert_eq!(bundle.status(), "stopped");
    bundle.kill("KILL").fails_with("container not running");
    bundle.exec("true").fails();
    for command in ["pause", "resume", "start", "ps", "update"] {
        bundle.call(&[command, bundle.id()]);
    }
    bundle.delete_force().ok();
    bundle.assert_gone();
    assert!(other.try_wait().unwrap().is_none(), "the process with that number was killed");
    other.kill().unwrap();
    other.wait().unwrap();
}
