//! `events`: what a container uses, and when it runs out of memory.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::require;
use crate::support::{Bundle, View, cgroup, is_orlop, is_root, patience, wait_until};

#[track_caller]
fn stats(bundle: &Bundle) -> Value {
    let outcome = bundle.call(&["events", "--stats", bundle.id()]).ok();
    assert_eq!(outcome.stdout.lines().count(), 1, "one line: {outcome}");
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

/// The path of every value that is no object.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| keys(value, &format!("{path}/{key}"), found)),
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn stats_tell_what_the_kernel_counts() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::sh("sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; : > /tmp/done; wait");
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
        spec["linux"]["resources"]["pids"] = json!({"limit": 42});
    });
    bundle.writable().up();
    wait_until("it has worked", || bundle.rootfs("tmp/done").exists());
    let event = stats(&bundle);
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(bundle.id())));
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert_eq!(data["memory"]["raw"]["hierarchical_memory_limit"], 67_108_864);
    assert_eq!(data["pids"], json!({"current": 2, "limit": 42}));
    let usage = &data["cpu"]["usage"];
    assert!(usage["total"].as_u64().unwrap() > 1_000_000, "nanoseconds: {usage}");
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 4096);
    assert_eq!(data["network_interfaces"], Value::Null);
    bundle.finish_off();
}

/// A tree of v2 without the controller, as ordinary users often have it.
#[test]
fn processes_are_counted_also_where_nobody_counts_them() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.view(View::V2).up();
    assert_eq!(stats(&bundle)["data"]["pids"]["current"], 1);
    bundle.finish_off();
}

#[test]
fn stats_have_the_keys_of_runcs() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let runc = std::path::Path::new("/usr/sbin/runc");
    require!(runc.exists() && is_orlop(), "runc beside orlop");
    let mut of_orlop = BTreeSet::new();
    let mut of_runc = BTreeSet::new();
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 100_000})).up();
    // Enough that no number is 0 in one and not in the other.
    let work = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done";
    bundle.exec(work).ok();
    keys(&stats(&bundle), "", &mut of_orlop);
    bundle.finish_off();
    let call = |words: &[&str]| bundle.finish(bundle.command_of(runc, words));
    let bundle_path = bundle.path();
    call(&["run", "--detach", "--bundle", bundle_path.to_str().unwrap(), bundle.id()]).ok();
    call(&["exec", bundle.id(), "sh", "-c", work]).ok();
    let outcome = call(&["events", "--stats", bundle.id()]);
    call(&["delete", "--force", bundle.id()]).ok();
    keys(&serde_json::from_str(&outcome.ok().stdout).unwrap(), "", &mut of_runc);
    // Newer runcs have it too, where the kernel has it.
    of_orlop.retain(|key| !key.contains("/psi/"));
    of_runc.retain(|key| !key.contains("/psi/"));
    // runc looks at hugetlb of v1 only where v1 has anything.
    for chance in ["/data/hugetlb", "/data/memory/cache", "/data/blkio", "/data/cpu/throttling"] {
        of_orlop.retain(|key| !key.starts_with(chance));
        of_runc.retain(|key| !key.starts_with(chance));
    }
    assert_eq!(of_orlop, of_runc);
}

#[test]
fn a_want_of_memory_is_told_and_the_end_ends_it() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000}));
    bundle.up();
    let events = bundle.spawn(bundle.command(&["events", "--interval=100ms", bundle.id()]));
    wait_until("the first report", || events.said().contains("\"type\":\"stats\""));
    bundle.exec("head -c 100000000 /dev/zero | tail -c 99999999 | wc -c");
    wait_until("it is told", || events.said().contains("\"type\":\"oom\""));
    let several = events.said().lines().filter(|line| line.contains("\"type\":\"stats\"")).count();
    wait_until("more reports", || events.said().lines().filter(|line| line.contains("stats")).count() > several);
    bundle.kill("KILL").ok();
    let outcome = events.wait().ok();
    for line in outcome.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"].as_str(), Some(bundle.id()));
        assert_eq!(event.get("data").is_some(), event["type"] == "stats", "{line}");
    }
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
}

#[test]
fn a_stopped_container_has_no_events() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    bundle.call(&["events", "--interval", "0s", bundle.id()]).fails_with("duration interval must be greater than 0");
    bundle.call(&["events", "--interval", "soon", bundle.id()]).fails();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    let words = format!("container with id {} is not running", bundle.id());
    bundle.call(&["events", bundle.id()]).fails_with(&words);
    bundle.call(&["events", "--stats", bundle.id()]).fails_with(&words);
    bundle.delete().ok();
}

/// The library, in this process with its threads: being told forks nothing.
#[test]
fn the_library_tells_of_pressure_and_want() {
    use orlop::cgroup::watch::PressureLevel;
    use orlop::container::{Container, Notice};

    require!(is_root(), "root of the host");
    require!(is_orlop(), "the library");
    let v2 = cgroup::v2().map(|at| std::fs::read_to_string(at.join("cgroup.controllers")).unwrap());
    let counts = cgroup::v1("memory").is_some() || v2.is_some_and(|controllers| controllers.contains("memory"));
    require!(counts, "a memory controller");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000}));
    bundle.up();
    let container = Container::load(&bundle.state_root(), bundle.id()).unwrap();
    let levels = [PressureLevel::Low, PressureLevel::Medium, PressureLevel::Critical];
    let mut pressure = levels.map(|level| container.notify_memory_pressure(level).unwrap());
    let mut want = container.notify_oom().unwrap();
    let at_once = Some(std::time::Duration::ZERO);
    for quiet in pressure.iter_mut().chain([&mut want]) {
        assert_eq!(quiet.wait(at_once).unwrap(), Notice::TimeIsUp);
    }
    bundle.exec("head -c 100000000 /dev/zero | tail -c 99999999 | wc -c");
    let soon = Some(patience(20));
    for told in pressure.iter_mut().chain([&mut want]) {
        assert_eq!(told.wait(soon).unwrap(), Notice::Happened);
        assert_eq!(told.fds().len(), 2);
    }
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    for mut told in pressure.into_iter().chain([want]) {
        while told.wait(soon).unwrap() == Notice::Happened {}
        assert_eq!(told.wait(soon).unwrap(), Notice::Ended);
    }
    bundle.delete().ok();
}
