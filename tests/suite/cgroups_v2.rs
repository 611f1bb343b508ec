//! Limits, statistics and events on a v2 tree that holds the controllers: what each resource's file says.
//!
//! A host with a hybrid layout has these on v1 (`cgroups.rs`, `update.rs`, `events.rs`); there the test machine runs them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::require;
use crate::support::outcome::Outcome;
use crate::support::{Bundle, cgroup, is_orlop, is_root, wait_until};

const CONTROLLER: &str = "cgroup v2 memory controller";

fn directory(bundle: &Bundle) -> PathBuf {
    cgroup::v2().unwrap().join(bundle.id())
}

#[track_caller]
fn read(bundle: &Bundle, file: &str) -> String {
    let path = directory(bundle).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[track_caller]
fn expect(bundle: &Bundle, files: &[(&str, &str)]) {
    for (file, value) in files {
        assert_eq!(read(bundle, file), *value, "{file}");
    }
}

fn limited(resources: Value) -> Bundle {
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"] = resources).up();
    bundle
}

#[track_caller]
fn update(bundle: &Bundle, resources: Value) -> Outcome {
    let file = bundle.file("resources.json", resources.to_string());
    bundle.call(&["update", "--resources", file.to_str().unwrap(), bundle.id()])
}

fn limits() -> Value {
    json!({
        "memory": {"limit": 67_108_864, "swap": 100_663_296, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000, "burst": 10_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
        "devices": [{"allow": false, "access": "rwm"}]
    })
}

#[test]
fn limits_are_written() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let bundle = limited(limits());
    expect(
        &bundle,
        &[
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("cpu.weight", "59"),
            ("cpu.max", "20000 50000"),
            ("cpu.max.burst", "10000"),
            ("cpuset.cpus", "0"),
            ("cpuset.cpus.effective", "0"),
            ("cpuset.mems", "0"),
            ("pids.max", "42"),
        ],
    );
    // v2 counts swap alone; the config counts both.
    if directory(&bundle).join("memory.swap.max").exists() {
        expect(&bundle, &[("memory.swap.max", "33554432")]);
    }
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn what_is_unlimited_says_so() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let bundle = limited(json!({
        "memory": {"limit": -1, "swap": -1},
        "cpu": {"quota": -1, "period": 200_000},
        "pids": {"limit": -1}
    }));
    expect(&bundle, &[("memory.max", "max"), ("cpu.max", "max 200000"), ("pids.max", "max")]);
    bundle.finish_off();
}

#[test]
fn a_container_may_be_idle() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let bundle = limited(json!({"cpu": {"idle": 1}}));
    expect(&bundle, &[("cpu.idle", "1")]);
    bundle.finish_off();
}

/// `major:minor` of a whole disk.
fn disk() -> Option<String> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    let real = disks.into_iter().find(|disk| disk.path().join("device").exists())?;
    Some(std::fs::read_to_string(real.path().join("dev")).ok()?.trim().to_owned())
}

#[test]
fn block_devices_are_throttled_and_weighed() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let Some(disk) = disk() else {
        require!(false, "a disk");
        return;
    };
    let (major, minor) =
        disk.split_once(':').map(|(a, b)| (a.parse::<u32>().unwrap(), b.parse::<u32>().unwrap())).unwrap();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let bundle = limited(json!({"blockIO": {
        "weight": 500,
        "throttleReadBpsDevice": rate(1_048_576),
        "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(100),
        "throttleWriteIOPSDevice": rate(200)
    }}));
    expect(&bundle, &[("io.max", &format!("{disk} rbps=1048576 wbps=2097152 riops=100 wiops=200"))]);
    match directory(&bundle).join("io.bfq.weight").exists() {
        true => expect(&bundle, &[("io.bfq.weight", "default 500")]),
        false => expect(&bundle, &[("io.weight", "default 4950")]),
    }
    // A rate of 0 takes the limit away.
    update(&bundle, json!({"blockIO": {"throttleReadBpsDevice": rate(0)}})).ok();
    expect(&bundle, &[("io.max", &format!("{disk} rbps=max wbps=2097152 riops=100 wiops=200"))]);
    bundle.finish_off();
}

#[test]
fn huge_pages_are_limited_used_and_reserved() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    require!(cgroup::v2_with("hugetlb").is_some(), "cgroup v2 hugetlb controller");
    let bundle = limited(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
    expect(&bundle, &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")]);
    bundle.finish_off();
}

#[test]
fn files_named_by_the_config_are_written_last() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let bundle = limited(json!({
        "memory": {"limit": 67_108_864},
        "unified": {"memory.max": "50331648", "memory.high": "40000k", "memory.oom.group": "1", "cpu.max": "30000 60000"}
    }));
    expect(
        &bundle,
        &[
            ("memory.max", "50331648"),
            ("memory.high", "40960000"),
            ("memory.oom.group", "1"),
            ("cpu.max", "30000 60000"),
        ],
    );
    bundle.finish_off();
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"unified": {"memory.nothing": "1"}}));
    bundle.create().fails_saying("memory.nothing");
    bundle.assert_gone();
}

#[test]
fn what_v2_does_not_have_is_refused() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    for (resources, field) in [
        (json!({"memory": {"limit": 67_108_864, "swappiness": 7}}), "swappiness"),
        (json!({"memory": {"limit": 67_108_864, "disableOOMKiller": true}}), "disableOOMKiller"),
        (json!({"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 10_000}}), "realtime"),
        (json!({"network": {"classID": 1}}), "classID"),
        (json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}), "priorities"),
        (json!({"memory": {"kernel": 67_108_864}}), "kernel"),
        (json!({"memory": {"kernelTCP": 67_108_864}}), "kernelTCP"),
        (json!({"blockIO": {"leafWeight": 100}}), "leafWeight"),
    ] {
        let mut bundle = Bundle::new();
        bundle.edit(|spec| spec["linux"]["resources"] = resources);
        // The peers pass over some of it.
        let outcome = bundle.create();
        assert!(!is_orlop() || (!outcome.status.success() && outcome.stderr.contains(field)), "{field}: {outcome}");
    }
}

#[test]
fn controllers_are_enabled_all_the_way_down() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let mut bundle = Bundle::new();
    let top = directory(&bundle);
    let path = format!("/{}/deep/leaf", bundle.id());
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(path);
        spec["linux"]["resources"] = limits();
    });
    bundle.up();
    let pids = std::fs::read_to_string(top.join("deep/leaf/pids.max")).unwrap();
    let above = std::fs::read_to_string(top.join("deep/pids.max")).unwrap();
    assert_eq!((pids.trim(), above.trim()), ("42", "max"), "the leaf alone is limited");
    bundle.finish_off();
    cgroup::remove(&top);
}

#[test]
fn a_cgroup_with_processes_takes_no_container_below() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let mut bundle = Bundle::new();
    let top = directory(&bundle);
    std::fs::create_dir(&top).unwrap();
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(top.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let path = format!("/{}/leaf", bundle.id());
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(path);
        spec["linux"]["resources"] = limits();
    });
    let outcome = bundle.create().fails();
    let leaf = top.join("leaf").exists();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    cgroup::remove(&top);
    assert!(!leaf, "what a failed create had made is gone");
    assert!(!is_orlop() || outcome.stderr.contains("subtree_control"), "why? {outcome}");
}

#[test]
fn an_update_changes_what_it_names() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let bundle = limited(limits());
    let flags = ["--memory", "48m", "--memory-swap", "80m", "--memory-reservation", "24m", "--cpu-share", "1024"];
    let more = ["--cpu-quota", "30000", "--cpuset-cpus", "0-1", "--pids-limit", "77"];
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut words = vec!["update"];
    words.extend(flags);
    words.extend(if cores > 1 { &more[..] } else { &more[..2] });
    words.push(bundle.id());
    bundle.call(&words).ok();
    expect(
        &bundle,
        &[
            ("memory.max", "50331648"),
            ("memory.low", "25165824"),
            ("cpu.weight", "100"),
            ("cpu.max", "30000 50000"),
            ("cpu.max.burst", "10000"),
        ],
    );
    if cores > 1 {
        expect(&bundle, &[("cpuset.cpus", "0-1"), ("pids.max", "77")]);
    }
    if directory(&bundle).join("memory.swap.max").exists() {
        expect(&bundle, &[("memory.swap.max", "33554432")]);
    }
    bundle.call(&["update", "--pids-limit=-1", "--cpu-quota=-1", "--memory=-1", "--memory-swap=-1", bundle.id()]).ok();
    expect(&bundle, &[("pids.max", "max"), ("cpu.max", "max 50000"), ("memory.max", "max")]);
    bundle.finish_off();
}

#[test]
fn a_refused_update_changes_nothing() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    require!(is_orlop(), "a runtime whose update is all or nothing");
    let bundle = limited(limits());
    let outcome = update(
        &bundle,
        json!({"pids": {"limit": 7}, "memory": {"limit": 80_000_000, "swap": 100_663_296},
        "cpu": {"shares": 100, "cpus": "4000"}}),
    );
    let outcome = outcome.fails();
    assert!(outcome.stderr.contains("linux.resources.cpu.cpus"), "which field? {outcome}");
    expect(
        &bundle,
        &[
            ("pids.max", "42"),
            ("memory.max", "67108864"),
            ("cpu.weight", "59"),
            ("cpu.max", "20000 50000"),
            ("cpuset.cpus", "0"),
        ],
    );
    bundle.finish_off();
}

#[test]
fn device_rules_of_a_running_container_are_replaced() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    require!(is_orlop(), "a runtime that updates device rules");
    let mut bundle = Bundle::new();
    bundle.all_capabilities().writable().up();
    let kmsg = "rm -f /tmp/k; mknod /tmp/k c 1 11 && head -c 0 /tmp/k";
    bundle.exec(kmsg).fails();
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]);
    update(&bundle, json!({"devices": rules})).ok();
    bundle.exec(kmsg).ok();
    bundle.exec("head -c 1 /dev/zero").ok();
    update(&bundle, json!({"cpu": {"shares": 300}, "devices": []})).ok();
    bundle.exec(kmsg).ok();
    update(&bundle, json!({"devices": [{"allow": false, "access": "rwm"}]})).ok();
    bundle.exec(kmsg).fails();
    bundle.finish_off();
}

#[test]
fn the_pids_limit_holds() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("pids").is_some(), CONTROLLER);
    let mut bundle = Bundle::sh("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait");
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 4}}));
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("fork"), "{outcome}");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 1}}));
    bundle.run().ok();
}

#[test]
fn statistics_tell_what_the_kernel_counts() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let mut bundle = Bundle::sh("sleep 1000 & i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; : > /tmp/done; wait");
    bundle.edit(|spec| {
        spec["linux"]["resources"] =
            json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 42}, "cpu": {"quota": 50_000, "period": 100_000}});
    });
    bundle.writable().up();
    wait_until("it has worked", || bundle.rootfs("tmp/done").exists());
    // Periods are counted when they end, and memory.stat is brought up to date every two seconds.
    let stats = || -> Value {
        let outcome = bundle.call(&["events", "--stats", bundle.id()]).ok();
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let counted = |event: &Value, path: &str| event.pointer(path).and_then(Value::as_u64) > Some(0);
    wait_until("a period has ended, and memory is counted", || {
        let event = stats();
        counted(&event, "/data/cpu/throttling/periods") && counted(&event, "/data/memory/raw/anon")
    });
    let event = stats();
    let data = &event["data"];
    let number =
        |path: &str| data.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {event:#}"));
    assert_eq!(number("/memory/usage/limit"), 67_108_864);
    assert!(number("/memory/usage/usage") > 4096);
    assert!(number("/memory/raw/anon") > 0, "memory.stat: {event:#}");
    assert_eq!(data["pids"], json!({"current": 2, "limit": 42}));
    assert!(number("/cpu/usage/total") > 1_000_000, "nanoseconds: {event:#}");
    assert!(number("/cpu/throttling/periods") > 0, "{event:#}");
    if directory(&bundle).join("cpu.pressure").exists()
        && std::fs::read(directory(&bundle).join("cpu.pressure")).is_ok()
    {
        for resource in ["cpu", "memory", "blkio"] {
            for share in ["some", "full"] {
                assert!(data[resource]["psi"][share]["avg10"].is_number(), "{resource}: {event:#}");
            }
        }
        assert!(number("/cpu/psi/some/total") > 0, "half a processor makes it wait: {event:#}");
    }
    bundle.finish_off();
}

#[test]
fn a_want_of_memory_is_told_and_the_end_ends_it() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    let bundle = limited(json!({"memory": {"limit": 20_000_000, "swap": 20_000_000}}));
    let events = bundle.spawn(bundle.command(&["events", "--interval=100ms", bundle.id()]));
    wait_until("the first report", || events.said().contains("\"type\":\"stats\""));
    bundle.exec("head -c 100000000 /dev/zero | tail -c 99999999 | wc -c");
    wait_until("it is told", || events.said().contains("\"type\":\"oom\""));
    bundle.kill("KILL").ok();
    events.wait().ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
}

#[test]
fn a_container_whose_limit_is_too_low_says_so() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    require!(is_orlop(), "a runtime that tells why init died");
    let mut told = 0;
    for kilobytes in [64, 256, 512, 1024] {
        let mut bundle = Bundle::new();
        let limit = kilobytes * 1024;
        bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit}));
        let outcome = bundle.create();
        if outcome.status.success() {
            bundle.delete_force().ok();
            break;
        }
        assert!(
            outcome.stderr.contains("container init was OOM-killed (memory limit too low?)"),
            "{kilobytes} KiB: {outcome}"
        );
        told += 1;
        bundle.assert_gone();
    }
    assert!(told > 0, "64 KiB are not enough for anybody");
}

#[test]
fn a_small_memory_limit_is_enough_to_start() {
    require!(is_root(), "root of the host");
    require!(cgroup::v2_with("memory").is_some(), CONTROLLER);
    // opencontainers/runc#4021, and the cost of copying the binary into memory.
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 4_194_304}));
    bundle.run().ok();
}
