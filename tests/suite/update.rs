//! `update`: other limits for a living container.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::require;
use crate::support::{Bundle, cgroup, is_orlop, is_root};

/// The text of a file in the container's directory of a v1 hierarchy; `None` where the host has no such file.
fn file(bundle: &Bundle, controller: &str, name: &str) -> Option<String> {
    let path: PathBuf = cgroup::v1(controller)?.join(bundle.id()).join(name);
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[track_caller]
fn expect(bundle: &Bundle, files: &[(&str, &str, &str)]) {
    for (controller, name, expected) in files {
        let Some(found) = file(bundle, controller, name) else { continue };
        assert_eq!(found, *expected, "{name}");
    }
}

#[track_caller]
fn update(bundle: &Bundle, flags: &[&str]) -> crate::support::outcome::Outcome {
    let mut words = vec!["update"];
    words.extend(flags);
    words.push(bundle.id());
    bundle.call(&words)
}

#[track_caller]
fn update_with(bundle: &Bundle, resources: serde_json::Value) -> crate::support::outcome::Outcome {
    let file = bundle.file("resources.json", resources.to_string());
    update(bundle, &["--resources", file.to_str().unwrap()])
}

fn limited() -> Bundle {
    let mut bundle = Bundle::new();
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "reservation": 25_165_824});
        spec["linux"]["resources"]["cpu"] = json!({"shares": 100, "quota": 500_000, "period": 1_000_000, "cpus": "0"});
        spec["linux"]["resources"]["pids"] = json!({"limit": 20});
    });
    bundle.up();
    bundle
}

#[test]
fn every_flag_reaches_its_file() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let bundle = limited();
    let flags = [
        "--memory",
        "64m",
        "--memory-reservation",
        "32M",
        "--cpu-share=200",
        "--cpu-period",
        "900000",
        "--cpu-quota",
        "600000",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--pids-limit",
        "10",
    ];
    update(&bundle, &flags).ok();
    expect(
        &bundle,
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.shares", "200"),
            ("cpu", "cpu.cfs_period_us", "900000"),
            ("cpu", "cpu.cfs_quota_us", "600000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "10"),
        ],
    );
    update(&bundle, &["--memory=-1", "--pids-limit=-1", "--cpu-quota=-1"]).ok();
    expect(&bundle, &[("pids", "pids.max", "max"), ("cpu", "cpu.cfs_quota_us", "-1"), ("cpu", "cpu.shares", "200")]);
    let lifted = file(&bundle, "memory", "memory.limit_in_bytes").unwrap();
    assert!(lifted.len() > 15, "no limit any more: {lifted}");
    bundle.finish_off();
}

#[test]
fn resources_come_from_a_file_or_standard_input() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let bundle = limited();
    update_with(&bundle, json!({"memory": {"limit": 50_331_648}, "cpu": {"shares": 300}})).ok();
    let files = [("memory", "memory.limit_in_bytes", "50331648"), ("cpu", "cpu.shares", "300")];
    expect(&bundle, &files);
    // As containerd and cri-o call it.
    let wish = bundle.file("wish", json!({"cpu": {"shares": 400, "cpus": ""}, "devices": null}).to_string());
    let mut command = bundle.command(&["update", "--resources=-", bundle.id()]);
    command.stdin(std::fs::File::open(wish).unwrap());
    bundle.finish(command).ok();
    expect(&bundle, &[files[0], ("cpu", "cpu.shares", "400"), ("pids", "pids.max", "20")]);
    update(&bundle, &["--resources", "/nonexistent"]).fails();
    bundle.finish_off();
}

#[test]
fn an_update_starts_from_the_one_before() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("cpuset").is_some(), "cgroup v1 cpuset controller");
    let bundle = limited();
    update(&bundle, &["--cpu-quota", "300000"]).ok();
    expect(&bundle, &[("cpu", "cpu.cfs_quota_us", "300000"), ("cpu", "cpu.cfs_period_us", "1000000")]);
    update(&bundle, &["--cpu-period", "500000"]).ok();
    expect(&bundle, &[("cpu", "cpu.cfs_quota_us", "300000"), ("cpu", "cpu.cfs_period_us", "500000")]);
    // Swap counts memory too, so a limit of memory keeps the sum.
    if file(&bundle, "memory", "memory.memsw.limit_in_bytes").is_some() {
        update(&bundle, &["--memory", "32m", "--memory-swap", "96m"]).ok();
        update(&bundle, &["--memory", "64m"]).ok();
        expect(
            &bundle,
            &[("memory", "memory.limit_in_bytes", "67108864"), ("memory", "memory.memsw.limit_in_bytes", "100663296")],
        );
        update(&bundle, &["--memory", "128m"]).fails();
        expect(&bundle, &[("memory", "memory.limit_in_bytes", "67108864")]);
    }
    bundle.finish_off();
}

#[test]
fn a_refused_update_changes_nothing() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("cpuset").is_some(), "cgroup v1 cpuset controller");
    let bundle = limited();
    let before = [
        ("memory", "memory.limit_in_bytes", "33554432"),
        ("cpu", "cpu.shares", "100"),
        ("cpu", "cpu.cfs_quota_us", "500000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "20"),
    ];
    update(&bundle, &["--pids-limit=5", "--memory=64m", "--cpu-share=512", "--cpuset-cpus=4000"])
        .fails_saying("linux.resources.cpu.cpus");
    expect(&bundle, &before);
    // And nothing of it is remembered.
    update(&bundle, &["--cpu-share=200"]).ok();
    expect(&bundle, &[before[0], before[2], before[4], ("cpu", "cpu.shares", "200")]);
    update(&bundle, &["--memory=x"]).fails_with("invalid value for memory");
    bundle.finish_off();
}

#[test]
fn memory_below_what_is_used_is_refused_in_runcs_words() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::sh("x=$(head -c 20000000 /dev/zero | tr '\\0' x); touch /tmp/filled; sleep 1000; echo $x");
    bundle.writable().up();
    crate::support::wait_until("memory is filled", || bundle.rootfs("tmp/filled").exists());
    let limit = file(&bundle, "memory", "memory.limit_in_bytes").unwrap();
    update(&bundle, &["--memory=1m", "--memory-swap=1m", "--cpu-share=77"]).fails_with("unable to set memory limit to");
    expect(&bundle, &[("memory", "memory.limit_in_bytes", limit.as_str())]);
    assert_ne!(file(&bundle, "cpu", "cpu.shares").as_deref(), Some("77"));
    bundle.finish_off();
}

#[test]
fn device_rules_of_a_running_container_are_replaced() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("devices").is_some(), "cgroup v1 devices controller");
    require!(is_orlop(), "a runtime that updates device rules");
    let mut bundle = Bundle::new();
    bundle.all_capabilities().writable().up();
    let kmsg = "rm -f /tmp/k; mknod /tmp/k c 1 11 && head -c 0 /tmp/k";
    assert!(!bundle.exec(kmsg).status.success(), "not allowed at first");
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]);
    update_with(&bundle, json!({"devices": rules})).ok();
    bundle.exec(kmsg).ok();
    bundle.exec("head -c 1 /dev/zero").ok();
    // What says nothing of devices leaves them alone.
    update_with(&bundle, json!({"cpu": {"shares": 300}, "devices": []})).ok();
    bundle.exec(kmsg).ok();
    update_with(&bundle, json!({"devices": [{"allow": false, "access": "rwm"}]})).ok();
    assert!(!bundle.exec(kmsg).status.success(), "taken away again");
    bundle.finish_off();
}

#[test]
fn only_a_living_container_is_updated() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).create().ok();
    update(&bundle, &["--pids-limit=7"]).ok();
    expect(&bundle, &[("pids", "pids.max", "7")]);
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    update(&bundle, &["--pids-limit=9"]).fails_with("container not running");
    bundle.delete().ok();
    update(&bundle, &["--pids-limit=9"]).fails_with("container does not exist");
}

/// The kernel of most machines has no Intel RDT, and this one must say so; with it, the flags need a class to change.
#[test]
fn schemata_need_a_class() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that tells that there is no class of Intel RDT");
    let bundle = limited();
    let words = "linux.intelRdt: the container has no class of Intel RDT";
    update(&bundle, &["--l3-cache-schema", "L3:0=f", "--pids-limit=7"]).fails_with(words);
    expect(&bundle, &[("pids", "pids.max", "20")]);
    update(&bundle, &["--mem-bw-schema", "L3:0=f"]).fails_with("is not one line that starts with");
    bundle.finish_off();
}

#[test]
fn rdt_without_resctrl_is_an_error_before_anything_is_made() {
    require!(is_root(), "root of the host");
    require!(!Path::new("/sys/fs/resctrl/schemata").exists(), "a host without resctrl");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["intelRdt"] = json!({"closID": "gold", "schemata": ["L3:0=f"]}));
    bundle.create().fails_saying("linux.intelRdt: no resctrl filesystem is mounted");
    bundle.assert_gone();
}
