//! cgroups: where the container goes, what is written, what is seen from inside, and what is taken away.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::require;
use crate::support::outcome::called_by;
use crate::support::{Bundle, View, cgroup, is_orlop, is_root, wait_until};

/// The container's directory in a v1 hierarchy; `None` where the host has no such controller on v1.
fn v1(bundle: &Bundle, controller: &str) -> Option<PathBuf> {
    cgroup::v1(controller).map(|at| at.join(bundle.id()))
}

#[track_caller]
fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn the_container_is_in_its_cgroup_and_the_cgroup_goes_with_it() {
    require!(is_root(), "root of the host");
    for view in [View::Host, View::V1, View::V2] {
        if view == View::V1 && cgroup::v1("memory").is_none() {
            continue;
        }
        let mut bundle = Bundle::new();
        bundle.view(view).up();
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
        let path = format!(":/{}", bundle.id());
        // In the v2 view a pid is placed in the v2 tree alone; in the v1 view in every v1 hierarchy.
        let placed = groups.lines().filter(|line| line.ends_with(&path)).count();
        let expected = match view {
            View::V2 => 1,
            _ => cgroup::hierarchies().iter().filter(|hierarchy| !hierarchy.controllers.is_empty()).count().max(1),
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(placed >= expected, "{view:?}: {placed} of {expected} in\n{groups}\n{mounts}");
        bundle.finish_off();
        bundle.assert_gone();
    }
}

#[test]
fn a_deep_path_is_made_and_only_the_leaf_removed() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let parent = bundle.id().to_owned();
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/{parent}/deep/leaf"))).up();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(groups.contains(&format!(":/{parent}/deep/leaf\n")), "{groups}");
    bundle.finish_off();
    for dir in cgroup::named(&parent) {
        assert!(!dir.join("deep/leaf").exists(), "the leaf is ours");
        cgroup::remove(&dir);
    }
}

/// Who may divide its cgroup says how: names need not be text, and there may be more below each other than a process may
/// have open.
#[test]
fn what_a_container_makes_below_its_cgroup_is_seen_and_goes_with_it() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let hierarchy = cgroup::v1("freezer").or(cgroup::v2()).unwrap();
    let own = cgroup::named(bundle.id()).into_iter().find(|own| own.starts_with(&hierarchy)).unwrap();
    let mut below = own.join(std::ffi::OsStr::from_bytes(b"\xff"));
    std::fs::create_dir(&below).unwrap();
    for _ in 0..80 {
        below.push("a");
        std::fs::create_dir(&below).unwrap();
    }
    let pid = bundle.pid().to_string();
    std::fs::write(below.join("cgroup.procs"), &pid).unwrap();
    let with_few_files =
        |words: &[&str]| bundle.finish(called_by(&["prlimit", "--nofile=64", "--"], &bundle.command(words))).ok();
    assert!(with_few_files(&["ps", "--format", "json", bundle.id()]).text().contains(&pid));
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    with_few_files(&["delete", bundle.id()]);
    bundle.assert_gone();
}

#[test]
fn without_a_path_the_container_still_has_a_cgroup() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| drop(spec["linux"].as_object_mut().unwrap().remove("cgroupsPath"))).up();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(groups.contains(bundle.id()), "named after the container: {groups}");
    bundle.finish_off();
}

/// config-linux.md#cgroups-path: the same path is the same place.
#[test]
fn a_relative_path_is_the_same_place_each_time() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /proc/self/cgroup");
    let path = bundle.id().to_owned();
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    let place = bundle.output();
    assert!(place.lines().any(|line| line.ends_with(&format!("/{path}"))), "{place}");
    assert_eq!(bundle.output(), place);
}

/// config-linux.md#control-groups: one that others are in, and one where nothing runs.
#[test]
fn a_cgroup_that_is_not_fit_is_refused() {
    require!(is_root(), "root of the host");
    let mut first = Bundle::new();
    first.up();
    let path = format!("/{}", first.id());
    let mut second = Bundle::new();
    second.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    second.create().fails_saying("container's cgroup is not empty");
    assert_eq!(first.status(), "running");
    first.finish_off();

    let Some(freezer) = cgroup::v1("freezer") else {
        require!(false, "cgroup v1 freezer controller");
        return;
    };
    let bundle = Bundle::new();
    let frozen = freezer.join(bundle.id());
    std::fs::create_dir(&frozen).unwrap();
    std::fs::write(frozen.join("freezer.state"), "FROZEN").unwrap();
    let outcome = bundle.create();
    std::fs::write(frozen.join("freezer.state"), "THAWED").unwrap();
    cgroup::remove(&frozen);
    outcome.fails_saying("container's cgroup unexpectedly frozen");
}

/// config-linux.md#unified.
#[test]
fn unified_without_cgroup_v2_is_refused() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    for (view, file) in [(View::V1, "cgroup.max.depth"), (View::Host, "memory.high"), (View::V2, "nosuch.max")] {
        let mut bundle = Bundle::new();
        bundle.view(view).edit(|spec| spec["linux"]["resources"]["unified"] = json!({file: "1"}));
        let outcome = bundle.create().fails();
        let named = || ["linux.resources.unified", file].iter().all(|word| outcome.stderr.contains(word));
        assert!(!is_orlop() || named(), "{outcome}");
        bundle.assert_gone();
    }
}

fn limits() -> Value {
    json!({
        "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swappiness": 7},
        "cpu": {"shares": 512, "quota": 20_000, "period": 50_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
        "devices": [{"allow": false, "access": "rwm"}]
    })
}

#[test]
fn limits_are_written_on_v1() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"] = limits()).up();
    let expected = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "7"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "20000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "42"),
    ];
    for (controller, file, value) in expected {
        let Some(dir) = v1(&bundle, controller) else { continue };
        assert_eq!(read(&dir, file), value, "{file}");
    }
    bundle.finish_off();
}

#[test]
fn limits_without_their_controller_are_refused() {
    require!(is_root(), "root of the host");
    // In the v2 view of a hybrid host the controllers are held by v1: silence would be a lie.
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::new();
    bundle.view(View::V2).edit(|spec| spec["linux"]["resources"] = limits());
    bundle.create().fails_saying("linux.resources");
    bundle.assert_gone();
}

#[test]
fn swap_counts_memory_and_swap() {
    require!(is_root(), "root of the host");
    let Some(memory) = cgroup::v1("memory").filter(|at| at.join("memory.memsw.limit_in_bytes").exists()) else {
        require!(false, "cgroup v1 swap accounting");
        return;
    };
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 134_217_728})).up();
    assert_eq!(read(&memory.join(bundle.id()), "memory.memsw.limit_in_bytes"), "134217728");
    bundle.finish_off();
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 1024}));
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn a_limit_that_the_kernel_refuses_fails_the_create() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("cpuset").is_some(), "cgroup v1 cpuset controller");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["cpu"] = json!({"cpus": "4000"}));
    bundle.create().fails_saying("linux.resources.cpu.cpus");
    bundle.assert_gone();
}

#[test]
fn the_pids_limit_holds() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("pids").is_some(), "cgroup v1 pids controller");
    let mut bundle = Bundle::sh("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait");
    bundle.edit(|spec| spec["linux"]["resources"]["pids"] = json!({"limit": 4}));
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("fork"), "{outcome}");
    // And one process is room enough to start.
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["pids"] = json!({"limit": 1}));
    bundle.run().ok();
}

/// config-linux.md#pids: 0 is a limit, and what is absent is none.
#[test]
fn a_pids_limit_of_zero_is_one() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("pids").is_some(), "cgroup v1 pids controller");
    for (pids, forks) in [(json!({"limit": 0}), false), (json!({"limit": -1}), true), (json!({}), true)] {
        let mut bundle = Bundle::sh("(true) && echo forked");
        bundle.edit(|spec| spec["linux"]["resources"]["pids"] = pids.clone());
        let outcome = bundle.run();
        assert_eq!(outcome.stdout.contains("forked"), forks, "{pids}: {outcome}");
    }
}

#[test]
fn the_memory_limit_kills() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::sh("head -c 200000000 /dev/zero | tail -c 199999999 | wc -c; exit 5");
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000}));
    if !cgroup::v1("memory").unwrap().join("memory.memsw.limit_in_bytes").exists() {
        bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 20_000_000}));
    }
    let outcome = bundle.run();
    assert!(outcome.text() != "199999999", "{outcome}");
}

#[test]
fn a_small_memory_limit_is_enough_to_start() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    // opencontainers/runc#4021: the runtime's own memory must not be the container's trouble.
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 4_000_000}));
    bundle.run().ok();
}

/// A program whose running can be seen from outside.
pub const COUNTS: &str = "while :; do echo x >> /tmp/count; sleep 0.01; done";

/// The program, which [`COUNTS`], stands still while its container is paused, and only then. `in_between` looks at the
/// paused container.
#[track_caller]
pub fn stands_still(bundle: &Bundle, in_between: impl FnOnce()) {
    let count = || std::fs::metadata(bundle.rootfs("tmp/count")).map_or(0, |meta| meta.len());
    wait_until("it counts", || count() > 2);
    bundle.call(&["pause", bundle.id()]).ok();
    assert_eq!(bundle.status(), "paused");
    let frozen = count();
    std::thread::sleep(std::time::Duration::from_millis(80));
    assert_eq!(count(), frozen, "nothing runs");
    bundle.exec("true").fails_with("paused");
    in_between();
    bundle.call(&["resume", bundle.id()]).ok();
    assert_eq!(bundle.status(), "running");
    wait_until("it counts again", || count() > frozen);
}

fn pauses(view: View) {
    let mut bundle = Bundle::sh(COUNTS);
    bundle.writable().view(view).up();
    stands_still(&bundle, || drop(bundle.call(&["pause", bundle.id()]).fails()));
    bundle.call(&["resume", bundle.id()]).fails_saying("not paused");
    // A paused container can be killed: KILL thaws it.
    bundle.call(&["pause", bundle.id()]).ok();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

#[test]
fn pause_and_resume_on_v1() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("freezer").is_some(), "cgroup v1 freezer controller");
    pauses(View::Host);
}

/// Who may run for a thousandth of a second in each cannot come to rest before that.
#[test]
fn a_container_with_little_processor_time_is_paused() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("freezer").is_some() && cgroup::v1("cpu").is_some(), "cgroup v1 freezer controller");
    require!(is_orlop(), "a pause that waits");
    let mut bundle = Bundle::sh("while :; do :; done");
    bundle.up();
    bundle.call(&["update", "--cpu-period", "1000000", "--cpu-quota", "1000", bundle.id()]).ok();
    bundle.call(&["pause", bundle.id()]).ok();
    assert_eq!(bundle.status(), "paused");
    bundle.call(&["resume", bundle.id()]).ok();
    bundle.call(&["update", "--cpu-quota=-1", bundle.id()]).ok();
    bundle.finish_off();
}

#[test]
fn pause_and_resume_on_v2() {
    require!(is_root(), "root of the host");
    pauses(View::V2);
}

#[test]
fn a_paused_container_is_deleted_with_force() {
    require!(is_root(), "root of the host");
    for view in [View::Host, View::V2] {
        let mut bundle = Bundle::new();
        bundle.view(view).up();
        bundle.call(&["pause", bundle.id()]).ok();
        bundle.delete().fails();
        bundle.delete_force().ok();
        bundle.assert_gone();
    }
}

#[test]
fn kill_ends_everything_where_there_is_no_pid_namespace() {
    require!(is_root(), "root of the host");
    for view in [View::Host, View::V2] {
        let mut bundle = Bundle::sh("sleep 999 & sleep 998 & wait");
        bundle.view(view).no_namespace("pid").up();
        let ps = || -> Vec<i32> {
            serde_json::from_str(&bundle.call(&["ps", "--format", "json", bundle.id()]).ok().stdout).unwrap()
        };
        wait_until("three processes", || ps().len() == 3);
        bundle.kill("KILL").ok();
        bundle.wait_for_status("stopped");
        bundle.delete().ok();
        bundle.assert_gone();
    }
}

#[test]
fn kill_all_reaches_everything() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "trap 'got=1' TERM; (trap 'touch /tmp/child; exit' TERM; touch /tmp/ready; while :; do sleep 0.02; done) & \
         until [ \"$got\" ] && [ -e /tmp/child ]; do sleep 0.02; done",
    );
    bundle.writable().up();
    wait_until("the child's trap", || bundle.rootfs("tmp/ready").exists());
    bundle.call(&["kill", "--all", bundle.id(), "TERM"]).ok();
    wait_until("the child", || bundle.rootfs("tmp/child").exists());
    bundle.wait_for_status("stopped");
    // go-runc: --all makes it a success when nothing runs any more.
    bundle.call(&["kill", "--all", bundle.id(), "KILL"]).ok();
    bundle.delete().ok();
}

#[test]
fn ps_lists_what_runs() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let pid = bundle.pid();
    let json = bundle.call(&["ps", "--format", "json", bundle.id()]).ok().stdout;
    assert_eq!(json.trim(), format!("[{pid}]"));
    let table = bundle.call(&["ps", bundle.id()]).ok().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("PID"), "{table}");
    assert!(lines[1].split_whitespace().any(|word| word == pid.to_string()), "{table}");
    // The arguments of ps itself; docker top sends them, sometimes with an empty one.
    let table = bundle.call(&["ps", bundle.id(), "-o", "pid,args"]).ok().stdout;
    assert!(table.contains("sleep 1000"), "{table}");
    bundle.finish_off();
}

#[test]
fn the_container_sees_its_own_cgroup_readonly_on_v1() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("pids").is_some(), "cgroup v1 pids controller");
    for with_namespace in [false, true] {
        let mut bundle = Bundle::sh(
            "cat /sys/fs/cgroup/pids/cgroup.procs; ls /sys/fs/cgroup/pids | grep -c -e orlop -e process_api; echo 1 > /sys/fs/cgroup/pids/cgroup.procs; true",
        );
        bundle.view(View::V1).all_capabilities();
        if with_namespace {
            bundle.namespace(json!({"type": "cgroup"}));
        }
        let outcome = bundle.run().ok();
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert!(lines.contains(&"1"), "its own init: {outcome}");
        assert!(lines.contains(&"0"), "nobody else's: {outcome}");
        assert!(outcome.stderr.contains("Read-only file system"), "CVE-2022-0492: {outcome}");
    }
}

#[test]
fn the_container_sees_its_own_cgroup_readonly_on_v2() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "cat /sys/fs/cgroup/cgroup.procs; cat /proc/self/cgroup; ls /sys/fs/cgroup | grep -c -e orlop; echo 1 > /sys/fs/cgroup/cgroup.procs; true",
    );
    bundle.view(View::V2).all_capabilities().namespace(json!({"type": "cgroup"}));
    let outcome = bundle.run().ok();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines.contains(&"1") && lines.contains(&"0::/") && lines.contains(&"0"), "{outcome}");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome}");
}

/// `cgroup` shows what the host has; `cgroup2` is said of the one.
#[test]
fn a_cgroup2_is_the_unified_one_also_on_a_hybrid_host() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("pids").is_some() && cgroup::v2().is_some(), "cgroup v1 beside v2");
    for with_namespace in [false, true] {
        let mut bundle = Bundle::sh("cat /mnt/cgroup.procs; grep -o ' /mnt .*cgroup' /proc/self/mountinfo");
        bundle.mount(json!({"destination": "/mnt", "type": "cgroup2", "source": "cgroup", "options": ["ro"]}));
        if with_namespace {
            bundle.namespace(json!({"type": "cgroup"}));
        }
        let text = bundle.output();
        assert!(text.lines().any(|line| line.starts_with(" /mnt ro") && line.contains(" - cgroup2 ")), "{text}");
        // runc and crun show the whole tree to who has no namespace.
        assert!(!is_orlop() || text.lines().next() == Some("1"), "its own: {text}");
    }
}

#[test]
fn update_changes_limits() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["resources"] = limits()).up();
    bundle.call(&["update", "--pids-limit", "77", "--memory", "100M", bundle.id()]).ok();
    let (memory, pids) = (v1(&bundle, "memory").unwrap(), v1(&bundle, "pids").unwrap());
    assert_eq!(
        (read(&memory, "memory.limit_in_bytes").as_str(), read(&pids, "pids.max").as_str()),
        ("104857600", "77")
    );
    // What was not named stays.
    assert_eq!(read(&v1(&bundle, "cpu").unwrap(), "cpu.shares"), "512");
    let mut command = bundle.command(&["update", "--resources=-", bundle.id()]);
    command.stdin(std::process::Stdio::piped());
    let mut running = bundle.spawn(command);
    std::io::Write::write_all(&mut running.stdin(), br#"{"pids": {"limit": 99}, "cpu": {"shares": 1024}}"#).unwrap();
    running.wait().ok();
    assert_eq!(read(&pids, "pids.max"), "99");
    assert_eq!(read(&v1(&bundle, "cpu").unwrap(), "cpu.shares"), "1024");
    bundle.finish_off();
}

#[test]
fn cgroup_paths_do_not_climb() {
    require!(is_root(), "root of the host");
    // T25. `..` is refused or stays below the root.
    for path in ["/../../x", "../../../../x", "/a/../../x"] {
        let mut bundle = Bundle::new();
        let path = path.replace('x', bundle.id());
        bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path)).run();
        for hierarchy in cgroup::hierarchies() {
            assert!(!hierarchy.at.parent().unwrap().join(bundle.id()).exists());
        }
    }
}

#[test]
fn cgroup_manager_disabled_makes_no_cgroup() {
    require!(is_root(), "root of the host");
    require!(crate::support::flavour() != "runc", "--cgroup-manager");
    let mut bundle = Bundle::new();
    bundle.global("--cgroup-manager").global("disabled").edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
    });
    bundle.up();
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(!groups.contains(bundle.id()), "{groups}");
    bundle.finish_off();
}

#[test]
fn a_container_whose_limit_is_too_low_says_so() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut told = 0;
    for kilobytes in (64..2048).step_by(64) {
        let mut bundle = Bundle::new();
        let limit = kilobytes * 1024;
        bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit}));
        let outcome = bundle.create();
        if outcome.status.success() {
            bundle.delete_force().ok();
            break;
        }
        let oom = outcome.stderr.contains("container init was OOM-killed (memory limit too low?)");
        let busy = outcome.stderr.contains("unable to set memory limit to");
        assert!(oom || busy, "{kilobytes} KiB: {outcome}");
        told += 1;
        bundle.assert_gone();
    }
    assert!(told > 0, "64 KiB are not enough for anybody");
}

/// Between `create` and the program there is an execve, and it needs memory too.
#[test]
fn an_init_that_is_killed_at_its_start_says_why() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a start that tells of a want of memory");
    let Some(memory) = cgroup::v1("memory").filter(|at| at.join("memory.memsw.limit_in_bytes").exists()) else {
        require!(false, "cgroup v1 swap accounting");
        return;
    };
    let words = "container init was OOM-killed (memory limit too low?)";
    let (mut told, mut tries) = (0, 0);
    while told < 3 && tries < 50 {
        tries += 1;
        let mut bundle = Bundle::new();
        bundle.edit(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 67_108_864}));
        bundle.args(&["sleep", "1000"]).create().ok();
        // No page more than init has.
        let own = memory.join(bundle.id());
        let _ = std::fs::write(own.join("memory.force_empty"), "0");
        let limit = |bytes: u64| {
            let file = |name| std::fs::write(own.join(name), bytes.to_string());
            file("memory.limit_in_bytes").and_then(|()| file("memory.memsw.limit_in_bytes"))
        };
        let lowest = (0..4096).find(|pages| limit(pages * 4096).is_ok());
        assert!(lowest.is_some(), "16 MiB are enough for an init that waits");
        // What init gives back comes now and then just in time.
        let outcome = bundle.start();
        if !outcome.status.success() {
            assert!(outcome.stderr.contains(words), "{outcome}");
            bundle.wait_for_status("stopped");
            bundle.start().fails_with(words);
            told += 1;
        }
        bundle.delete_force().ok();
    }
    assert!(told > 0, "an execve needs memory");
}

/// A container in the v2 view that may divide its own cgroup.
pub fn divisible() -> Bundle {
    let mut bundle = Bundle::new();
    bundle.view(View::V2).no_mount("/sys/fs/cgroup").namespace(json!({"type": "cgroup"}));
    bundle.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "rw"]}));
    bundle
}

#[test]
fn a_cgroup_that_the_container_may_divide_is_its_own() {
    require!(is_root(), "root of the host");
    let Some(v2) = cgroup::v2() else {
        require!(false, "cgroup v2");
        return;
    };
    let owner = |bundle: &Bundle, file: &str| {
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(v2.join(bundle.id()).join(file)).unwrap())
    };
    let mut bundle = divisible();
    bundle.user_namespace(100_000).args(&["sleep", "1000"]).create().ok();
    for (file, expected) in [
        (".", 100_000),
        ("cgroup.procs", 100_000),
        ("cgroup.subtree_control", 100_000),
        ("cgroup.max.depth", 0),
        ("cgroup.freeze", 0),
    ] {
        assert_eq!(owner(&bundle, file), expected, "{file}");
    }
    bundle.start().ok();
    bundle.exec("mkdir /sys/fs/cgroup/below && echo $$ > /sys/fs/cgroup/below/cgroup.procs").ok();
    bundle.finish_off();
    // One that sees it read-only has nothing to divide.
    let mut bundle = divisible();
    bundle.no_mount("/sys/fs/cgroup").mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup",
        "source": "cgroup", "options": ["ro"]}));
    bundle.user_namespace(100_000).args(&["sleep", "1000"]).create().ok();
    assert_eq!(owner(&bundle, "."), 0);
    bundle.delete_force().ok();
    // Nor has one that sees the host's.
    let mut bundle = divisible();
    bundle.no_namespace("cgroup").edit(|spec| spec["process"]["user"]["uid"] = json!(1000));
    bundle.args(&["sleep", "1000"]).create().ok();
    assert_eq!(owner(&bundle, "."), 0);
    bundle.delete_force().ok();
}

#[test]
fn exec_follows_init_where_the_cgroup_is_divided() {
    require!(is_root(), "root of the host");
    let Some(v2) = cgroup::v2() else {
        require!(false, "cgroup v2");
        return;
    };
    let controllers = std::fs::read_to_string(v2.join("cgroup.controllers")).unwrap();
    let Some(controller) = controllers.split_whitespace().next().map(str::to_owned) else {
        require!(false, "a controller of cgroup v2");
        return;
    };
    std::fs::write(v2.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    let mut bundle = divisible();
    // With a controller for those below, a cgroup takes no process itself.
    let script = format!(
        "mkdir /sys/fs/cgroup/init && echo 1 > /sys/fs/cgroup/init/cgroup.procs && \
         echo +{controller} > /sys/fs/cgroup/cgroup.subtree_control && touch /tmp/divided; sleep 1000; :"
    );
    bundle.args(&["sh", "-c", &script]).writable().up();
    crate::support::wait_until("it has divided its cgroup", || bundle.rootfs("tmp/divided").exists());
    let outcome = bundle.exec("cat /proc/self/cgroup").ok();
    assert!(outcome.stdout.contains("0::/init\n"), "{outcome}");
    bundle.finish_off();
}

#[test]
fn a_container_that_shares_the_hosts_view_of_v2_sees_all_of_it() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("ls -d /sys/fs/cgroup/$ID && ! mkdir /sys/fs/cgroup/new 2>/dev/null");
    let id = bundle.id().to_owned();
    bundle.view(View::V2).edit(|spec| {
        spec["process"]["env"].as_array_mut().unwrap().push(json!(format!("ID={id}")));
    });
    assert_eq!(bundle.output().trim(), format!("/sys/fs/cgroup/{id}"));
}

/// A cgroup2 that is mounted from the first cgroup namespace gives its options to the one hierarchy that all share.
#[test]
fn the_hosts_cgroup2_keeps_its_options() {
    require!(is_root(), "root of the host");
    let options = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned)).unwrap_or_default()
    };
    let before = options();
    require!(before.contains("nsdelegate"), "a cgroup2 mount with options on the host");
    Bundle::new().run().ok();
    assert_eq!(options(), before);
    // Also one that has no cgroup.
    require!(is_orlop(), "--cgroup-manager");
    let mut bundle = Bundle::new();
    bundle.global("--cgroup-manager").global("disabled").edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
    });
    bundle.run().ok();
    assert_eq!(options(), before);
}
