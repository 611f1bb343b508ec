//! Resources in the kernel's own files, controller by controller, as far as this host mounts them.

use std::path::PathBuf;

use serde_json::json;

use crate::require;
use crate::support::{Bundle, View, cgroup, is_orlop, is_root};

/// The text of a file in the container's directory of a v1 hierarchy; `None` where the host has no such file.
fn file(bundle: &Bundle, below: &str, name: &str) -> Option<String> {
    let controller = name.split('.').next().unwrap();
    let path: PathBuf = cgroup::v1(controller)?.join(bundle.id()).join(below).join(name);
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[track_caller]
fn expect(bundle: &Bundle, below: &str, files: &[(&str, &str)]) {
    for (name, expected) in files {
        let Some(found) = file(bundle, below, name) else { continue };
        assert_eq!(found, *expected, "{name}");
    }
}

/// A disk of this host.
fn disk() -> Option<(u64, u64)> {
    let mut disks: Vec<PathBuf> =
        std::fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    disks.retain(|disk| disk.join("device").exists());
    disks.sort();
    let number = std::fs::read_to_string(disks.first()?.join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn time_of_every_kind() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("cpu").is_some(), "cgroup v1 cpu controller");
    let has = |name: &str| cgroup::v1("cpu").unwrap().join(name).exists();
    let mut bundle = Bundle::new();
    let path = format!("/{}/deep/leaf", bundle.id());
    bundle.edit(|spec| {
        let mut cpu = json!({"shares": 512, "quota": 20_000, "period": 50_000});
        if has("cpu.cfs_burst_us") {
            cpu["burst"] = json!(10_000);
        }
        if has("cpu.rt_runtime_us") {
            cpu["realtimeRuntime"] = json!(500);
            cpu["realtimePeriod"] = json!(900_000);
        }
        spec["linux"]["resources"]["cpu"] = cpu;
        spec["linux"]["cgroupsPath"] = json!(path);
    });
    bundle.args(&["sleep", "1000"]).create().ok();
    let real_time = [("cpu.rt_runtime_us", "500"), ("cpu.rt_period_us", "900000")];
    let all = [
        ("cpu.shares", "512"),
        ("cpu.cfs_quota_us", "20000"),
        ("cpu.cfs_period_us", "50000"),
        ("cpu.cfs_burst_us", "10000"),
    ];
    expect(&bundle, "deep/leaf", &all);
    // A group has real time only out of its parent's, and these parents are new.
    for below in ["", "deep", "deep/leaf"] {
        expect(&bundle, below, &real_time);
    }
    bundle.delete().ok();
    for dir in cgroup::named(bundle.id()) {
        cgroup::remove(&dir);
    }
}

#[test]
fn an_idle_group_has_no_shares() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "cpu.idle");
    require!(cgroup::v1("cpu").is_some(), "cgroup v1 cpu controller");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["cpu"] = json!({"idle": 1, "shares": 700}));
    bundle.args(&["sleep", "1000"]);
    let outcome = bundle.create().ok();
    assert!(outcome.stderr.contains("linux.resources.cpu.shares: ignored"), "{outcome}");
    expect(&bundle, "", &[("cpu.idle", "1")]);
    bundle.call(&["update", "--cpu-idle=0", "--cpu-share=200", bundle.id()]).ok();
    expect(&bundle, "", &[("cpu.idle", "0"), ("cpu.shares", "200")]);
    bundle.call(&["update", "--cpu-idle=1", "--cpu-share=300", bundle.id()]).ok();
    expect(&bundle, "", &[("cpu.idle", "1")]);
    bundle.delete().ok();
}

#[test]
fn disks() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("blkio").is_some(), "cgroup v1 blkio controller");
    let Some((major, minor)) = disk() else {
        require!(false, "a disk");
        return;
    };
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).create().ok();
    let weighs = file(&bundle, "", "blkio.bfq.weight").or_else(|| file(&bundle, "", "blkio.weight")).is_some();
    bundle.delete().ok();
    bundle.edit(|spec| {
        spec["linux"]["resources"]["blockIO"] = json!({
            "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
            "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)
        });
        if weighs {
            spec["linux"]["resources"]["blockIO"]["weight"] = json!(321);
        }
    });
    bundle.create().ok();
    let line = |rate: u64| format!("{major}:{minor} {rate}");
    expect(
        &bundle,
        "",
        &[
            ("blkio.throttle.read_bps_device", &line(1_048_576)),
            ("blkio.throttle.write_bps_device", &line(2_097_152)),
            ("blkio.throttle.read_iops_device", &line(300)),
            ("blkio.throttle.write_iops_device", &line(400)),
            ("blkio.bfq.weight", "321"),
            ("blkio.weight", "321"),
        ],
    );
    // 0 takes a limit back.
    let wish = bundle.file("wish", json!({"blockIO": {"throttleReadBpsDevice": rate(0)}}).to_string());
    bundle.call(&["update", "--resources", wish.to_str().unwrap(), bundle.id()]).ok();
    expect(&bundle, "", &[("blkio.throttle.read_bps_device", ""), ("blkio.throttle.read_iops_device", &line(300))]);
    bundle.delete().ok();
}

#[test]
fn the_oom_killer_is_put_off_and_back() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    require!(is_orlop(), "a runtime that takes disableOOMKiller back");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "disableOOMKiller": true, "swappiness": 0});
    });
    bundle.args(&["sleep", "1000"]).create().ok();
    expect(&bundle, "", &[("memory.swappiness", "0")]);
    let disabled = || file(&bundle, "", "memory.oom_control").unwrap().contains("oom_kill_disable 1");
    assert!(disabled());
    let update = |memory: serde_json::Value| {
        let wish = bundle.file("wish", json!({"memory": memory}).to_string());
        bundle.call(&["update", "--resources", wish.to_str().unwrap(), bundle.id()])
    };
    update(json!({"limit": 50_331_648})).ok();
    assert!(disabled(), "what an update does not name stays");
    update(json!({"disableOOMKiller": false})).ok();
    assert!(!disabled());
    bundle.delete().ok();
}

/// Frees controllers that were mounted for a moment: the kernel forgets a hierarchy at its last unmount, unless a cgroup
/// that was just removed is still on its way out; then it is to be mounted and unmounted once more.
struct Freed;

impl Drop for Freed {
    fn drop(&mut self) {
        for _ in 0..50 {
            let classes = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
            let held = |name: &str| {
                classes.lines().any(|line| line.starts_with(name) && !line.starts_with(&format!("{name}\t0\t")))
            };
            let held: Vec<_> = ["net_cls", "net_prio"].into_iter().filter(|name| held(name)).collect();
            if held.is_empty() {
                return;
            }
            let script =
                format!("for c in {}; do mount -t cgroup -o $c none /mnt && umount /mnt; done", held.join(" "));
            let _ = std::process::Command::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-c", &script])
                .status();
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// No hierarchy of this kind is mounted on most hosts: one is for this test, in a mount namespace of its own.
#[test]
fn packets_have_a_class_and_priorities() {
    require!(is_root(), "root of the host");
    let classes = std::fs::read_to_string("/proc/cgroups").unwrap();
    let there = |name: &str| classes.lines().any(|line| line.starts_with(&format!("{name}\t")));
    require!(there("net_cls") && there("net_prio"), "controllers net_cls and net_prio");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let _freed = Freed;
    let mut bundle =
        Bundle::sh("cat /sys/fs/cgroup/net_cls/net_cls.classid /sys/fs/cgroup/net_prio/net_prio.ifpriomap");
    bundle.view(View::V1).prelude(
        "for c in net_cls net_prio; do mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c none /sys/fs/cgroup/$c; done",
    );
    bundle.no_namespace("network").edit(|spec| {
        spec["linux"]["resources"]["network"] =
            json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]});
    });
    let output = bundle.output();
    assert!(output.starts_with("1048577\n") && output.lines().any(|line| line == "lo 5"), "{output}");
    // Where neither is mounted the field is an error.
    bundle.prelude("").run().fails();
    bundle.assert_gone();
}
