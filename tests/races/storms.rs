//! T04, T05, T06, T59: what CVE-2021-30465 and CVE-2024-45310 won by luck. Processes swap directories for links in a volume that a
//! container is just being made of, as fast as they can, a bounded number of times; nothing outside may be touched.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use crate::require;
use crate::support::canary::Canary;
use crate::support::{Bundle, is_orlop, is_root, mountinfo};

/// Containers per storm, and how long one lasts at the most.
const CREATES: usize = 100;
const LONGEST: Duration = Duration::from_secs(20);

/// Pairs of names that are exchanged until it is dropped, in an order that a seed decides.
struct Storm {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Storm {
    fn begin(pairs: Vec<(PathBuf, PathBuf)>, seed: u64) -> Storm {
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            let mut state = seed | 1;
            while !stopped.load(Ordering::Relaxed) {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let (one, other) = &pairs[state as usize % pairs.len()];
                if renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Storm { stop, swaps, thread: Some(thread) }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.swaps.load(Ordering::Relaxed)
    }
}

/// A directory beside a link of the same parent that leads out, as relative and as absolute path in turn.
fn pair(at: &Path, out: &Path) -> (PathBuf, PathBuf) {
    let link = at.with_file_name(format!("{}.link", at.file_name().unwrap().to_str().unwrap()));
    symlink(out, &link).unwrap();
    (at.to_owned(), link)
}

/// Creates and deletes containers in the storm, and looks at the canary, at the host's mounts, and at the container's own.
fn weather(what: &str, bundle: &Bundle, canary: &Canary, pairs: Vec<(PathBuf, PathBuf)>) {
    let seed = std::env::var("ORLOP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) << 20 | u64::from(std::process::id())
    });
    let host = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours =
        |table: &str| table.lines().filter(|line| line.contains(bundle.id())).map(str::to_owned).collect::<Vec<_>>();
    let before = ours(&host());
    let storm = Storm::begin(pairs, seed);
    let (begin, mut created, mut count) = (Instant::now(), 0, 0);
    while count < CREATES && begin.elapsed() < LONGEST {
        count += 1;
        let outcome = bundle.run();
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        if outcome.status.success() {
            created += 1;
            // Where each bind of the volume comes from: never from outside of it.
            for mount in mountinfo::parse(&outcome.stdout) {
                // (A link that leads to its path beneath the container's own root is no way out.)
                let leads_out = mount.root.contains("/outside") && !mount.root.contains("/bundle/rootfs/");
                assert!(!leads_out, "seed {seed}: {} shows {}", mount.at, mount.root);
            }
        } else {
            bundle.delete_force();
        }
        assert_eq!(canary.touched(), Vec::<String>::new(), "seed {seed}, container {count}: {outcome}");
        assert_eq!(ours(&host()), before, "seed {seed}, container {count}: {outcome}");
    }
    let swaps = storm.end();
    println!("{what}: seed {seed}, {count} containers, {created} of them made, {swaps} swaps");
    assert!(count >= 10 && swaps > 1000, "no storm: {count} containers, {swaps} swaps");
}

fn stormy(bundle: &mut Bundle) -> (Canary, PathBuf) {
    let canary = Canary::plant(bundle.path().join("outside"));
    let volume = bundle.scratch("volume");
    std::fs::create_dir(&volume).unwrap();
    bundle.writable().args(&["cat", "/proc/self/mountinfo"]);
    bundle.mount(json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"]}));
    (canary, volume)
}

/// T04: the destinations of a tmpfs and of a bind, two levels deep in the volume, swapped for links to the host.
#[test]
fn t04_cve_2021_30465_destinations_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let (canary, volume) = stormy(&mut bundle);
    std::fs::create_dir_all(volume.join("a/b")).unwrap();
    std::fs::create_dir_all(volume.join("c/d")).unwrap();
    let source = bundle.scratch("source");
    std::fs::create_dir(&source).unwrap();
    bundle
        .mount(json!({"destination": "/vol/a/b", "type": "tmpfs", "source": "stormtmpfs"}))
        .mount(json!({"destination": "/vol/c/d", "type": "bind", "source": source, "options": ["bind"]}));
    let out = canary.path().join("dir");
    let pairs = vec![
        pair(&volume.join("a"), canary.path()),
        pair(&volume.join("a/b"), Path::new("../../../../../../../../../..")),
        pair(&volume.join("c/d"), &out),
        pair(&volume.join("c"), Path::new("/")),
    ];
    weather("t04", &bundle, &canary, pairs);
}

/// T05: six missing levels are made below a directory that is swapped; every second time they are missing again.
#[test]
fn t05_cve_2024_45310_missing_directories_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let (canary, volume) = stormy(&mut bundle);
    std::fs::create_dir_all(volume.join("a/fresh")).unwrap();
    std::fs::create_dir_all(volume.join("spare")).unwrap();
    bundle.mount(json!({"destination": "/vol/a/1/2/3/4/5/6", "type": "tmpfs", "source": "stormtmpfs"}));
    bundle.edit(|spec| spec["process"]["cwd"] = json!("/vol/a/7/8/9"));
    let mut pairs = vec![pair(&volume.join("a"), canary.path())];
    // The directory with the levels in it, and an empty one.
    pairs.push((volume.join("a"), volume.join("spare")));
    weather("t05", &bundle, &canary, pairs);
}

/// T06: a file is made for a bind of a file, where a dangling link to the host may be.
#[test]
fn t06_cve_2024_45310_missing_files_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let (canary, volume) = stormy(&mut bundle);
    let file = bundle.file("file", "x");
    std::fs::create_dir_all(volume.join("a")).unwrap();
    std::fs::write(volume.join("target"), "").unwrap();
    bundle
        .mount(json!({"destination": "/vol/a/made", "type": "bind", "source": file, "options": ["bind"]}))
        .mount(json!({"destination": "/vol/target", "type": "bind", "source": file, "options": ["bind", "ro"]}));
    let pairs =
        vec![pair(&volume.join("a"), canary.path()), pair(&volume.join("target"), &canary.path().join("not-there"))];
    weather("t06", &bundle, &canary, pairs);
}

/// The image itself is in a storm, /dev and masked paths too: a container of the same rootfs runs already.
#[test]
fn t04_cve_2021_30465_the_image_in_a_storm() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let canary = Canary::plant(bundle.path().join("outside"));
    for place in ["/dev/shm", "/dev/pts", "/dev/mqueue", "/dev"] {
        bundle.no_mount(place);
    }
    bundle.writable().args(&["cat", "/proc/self/mountinfo"]);
    for dir in ["dev/deep", "masked/below", "ro/below", "work"] {
        std::fs::create_dir_all(bundle.rootfs(dir)).unwrap();
    }
    bundle.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(["/masked/below", "/masked"]);
        spec["linux"]["readonlyPaths"] = json!(["/ro/below", "/ro"]);
        spec["linux"]["devices"] =
            json!([{"path": "/dev/deep/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 0, "gid": 0}]);
        spec["process"]["cwd"] = json!("/work/here");
    });
    let out = canary.path();
    let pairs = ["dev", "dev/deep", "masked", "masked/below", "ro/below", "work"]
        .map(|name| pair(&bundle.rootfs(name), if name.len() % 2 == 0 { out } else { Path::new("../../outside") }));
    weather("t04, the image", &bundle, &canary, pairs.to_vec());
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
