//! Cgroups made by systemd: scopes, limits, and that nothing is left.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::require;
use crate::support::systemd::{self, Systemd};
use crate::support::{Bundle, View, cgroup, is_orlop, is_root, wait_until};

/// Files in which limits stand, and which both drivers must leave alike.
const FILES: &[(&str, &[&str])] = &[
    ("memory", &["memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness", "memory.oom_control"]),
    ("cpu", &["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.idle"]),
    ("cpuset", &["cpuset.cpus", "cpuset.mems"]),
    ("pids", &["pids.max"]),
    ("devices", &["devices.list"]),
    (
        "",
        &[
            "memory.min",
            "memory.low",
            "memory.high",
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "cpu.weight",
            "cpu.max",
            "cpu.max.burst",
            "cpu.idle",
            "cpuset.cpus",
            "cpuset.mems",
            "io.weight",
            "pids.max",
            "hugetlb.2MB.max",
            "hugetlb.2MB.rsvd.max",
        ],
    ),
];

/// A bundle whose container is the scope `orlop-TOKEN.scope`.
fn bundle(systemd: &Systemd) -> Bundle {
    let mut bundle = Bundle::new();
    let path = format!("system.slice:orlop:{}", bundle.id());
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
    bundle.args(&["sleep", "1000"]).global("--systemd-cgroup").beside(systemd);
    able_to_make_devices(&mut bundle);
    bundle
}

fn able_to_make_devices(bundle: &mut Bundle) {
    bundle.writable().capabilities(&["CAP_MKNOD", "CAP_KILL"]);
}

fn scope(bundle: &Bundle) -> String {
    format!("orlop-{}.scope", bundle.id())
}

/// Whether a controller of v2 works where this systemd looks.
fn v2_has(systemd: &Systemd, controller: &str) -> bool {
    let text = systemd.says(&["cat", "/sys/fs/cgroup/cgroup.controllers"]);
    text.split_whitespace().any(|name| name == controller)
}

/// Limits for what works there.
fn limits(systemd: &Systemd, view: View) -> Value {
    let v1 = view != View::V2 && cgroup::v1("memory").is_some();
    if v1 {
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swappiness": 10},
            "cpu": {"quota": 12_345, "period": 50_000, "shares": 512, "cpus": "0", "mems": "0", "burst": 1000},
            "pids": {"limit": 50},
            "devices": device_rules()
        })
    } else if v2_has(systemd, "memory") {
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": 83_886_080},
            "cpu": {"quota": 12_345, "period": 50_000, "shares": 512, "cpus": "0", "mems": "0", "burst": 1000},
            "pids": {"limit": 50},
            "unified": {"memory.high": "60M", "memory.min": "4096"},
            "devices": device_rules()
        })
    } else {
        json!({"devices": device_rules()})
    }
}

fn device_rules() -> Value {
    json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": true, "type": "b", "major": 7, "access": "r"}
    ])
}

/// The text of every file of [`FILES`] that the container's cgroups have.
fn effective(cgroups: &[PathBuf]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for hierarchy in cgroup::hierarchies() {
        let files = FILES.iter().filter(|(controller, _)| {
            hierarchy.controllers.iter().any(|name| name == controller)
                || (controller.is_empty() && hierarchy.controllers.is_empty())
        });
        for file in files.flat_map(|(_, files)| files.iter()) {
            for directory in cgroups.iter().filter(|directory| directory.starts_with(&hierarchy.at)) {
                if let Ok(text) = std::fs::read_to_string(directory.join(file)) {
                    // The order of device rules, which exclude each other by now, is systemd's own.
                    let mut lines: Vec<&str> = text.lines().collect();
                    lines.sort_unstable();
                    found.insert((*file).to_owned(), lines.join("\n"));
                }
            }
        }
    }
    found
}

/// What the processes of the container may do with a device that asks for no capability (FUSE), and with memory.
fn devices(bundle: &Bundle) -> String {
    let script = "for d in 'c 10 229' 'c 1 1'; do rm -f /dev/d; mknod /dev/d $d; dd if=/dev/d of=/dev/null count=0 2>&1 | \
                  grep -o -e 'not permitted' -e 'No such' -e denied || echo opened; done";
    bundle.exec(script).ok().stdout
}

fn nothing_is_left(systemd: &Systemd, bundle: &Bundle) {
    assert_eq!(systemd.units(bundle.id()), Vec::<String>::new());
    assert_eq!(systemd.cgroups(bundle.id()), Vec::<PathBuf>::new());
}

#[test]
fn a_container_is_a_scope_and_the_scope_goes_with_it() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    for view in systemd::views() {
        let systemd = Systemd::start(view);
        let bundle = bundle(&systemd);
        bundle.create().ok();
        let scope = scope(&bundle);
        let property = |name| systemd.property(&scope, name);
        assert_eq!(property("ActiveState"), "active");
        assert_eq!(property("Slice"), "system.slice");
        assert_eq!(property("Delegate"), "yes");
        assert_eq!(property("ControlGroup"), format!("/system.slice/{scope}"));
        for name in ["MemoryAccounting", "CPUAccounting", "TasksAccounting"] {
            assert_eq!(property(name), "yes", "{name}");
        }
        bundle.start().ok();
        let memberships = bundle.exec("cat /proc/self/cgroup").ok().stdout;
        let init = systemd.run(&["cat", &format!("/proc/{}/cgroup", bundle.pid())]);
        let mine = |text: &str| text.lines().filter(|line| line.contains(&scope)).count();
        assert!(mine(&init) > 0, "{init}");
        assert_eq!(mine(&memberships), mine(&init), "exec joins every cgroup of init's: {memberships}");
        // Who made it stands in its record, and not in the flags of later commands.
        let mut plain = bundle.command_of(crate::support::binary(), &["delete", "--force", bundle.id()]);
        let flagless: Vec<_> =
            plain.get_args().filter(|word| *word != "--systemd-cgroup").map(ToOwned::to_owned).collect();
        plain = std::process::Command::new(plain.get_program());
        plain.args(flagless);
        bundle.finish(plain).ok();
        nothing_is_left(&systemd, &bundle);
    }
}

#[test]
fn both_drivers_leave_the_same_limits_also_after_a_reload() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    for view in systemd::views() {
        let systemd = Systemd::start(view);
        let limits = limits(&systemd, view);
        let mut scoped = bundle(&systemd);
        scoped.edit(|spec| spec["linux"]["resources"] = limits.clone());
        scoped.run_detached().ok();
        let mut plain = Bundle::new();
        // systemd counts processor time in percents; what it can say exactly is the same with both.
        let rounded = limits.to_string().replace("12345", "12500");
        plain.edit(|spec| {
            spec["linux"]["resources"] = serde_json::from_str(&rounded).unwrap();
            // Below a cgroup that is systemd's too.
            let path = spec["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
            spec["linux"]["cgroupsPath"] = json!(format!("/system.slice{path}"));
        });
        able_to_make_devices(&mut plain);
        plain.args(&["sleep", "1000"]).beside(&systemd).run_detached().ok();
        let of = |bundle: &Bundle| effective(&systemd.cgroups(bundle.id()));
        let (made, expected) = (of(&scoped), of(&plain));
        assert!(view == View::V2 || made.len() > 5, "{made:?}");
        assert_eq!(made, expected);
        let devices_before = devices(&scoped);
        assert_eq!(devices_before, devices(&plain));
        systemd.run(&["systemctl", "daemon-reload"]);
        assert_eq!(of(&scoped), expected, "after daemon-reload");
        assert_eq!(devices(&scoped), devices_before, "after daemon-reload");
        scoped.finish_off();
        plain.finish_off();
        nothing_is_left(&systemd, &scoped);
    }
}

#[test]
fn an_update_reaches_systemd_too_and_is_taken_back_from_it() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    for view in systemd::views() {
        let systemd = Systemd::start(view);
        let bundle = bundle(&systemd);
        let limits = limits(&systemd, view);
        if limits.get("memory").is_none() {
            continue;
        }
        let mut bundle = bundle;
        bundle.edit(|spec| spec["linux"]["resources"] = limits);
        bundle.run_detached().ok();
        let of = || effective(&systemd.cgroups(bundle.id()));
        let update = |words: &[&str]| {
            let mut all = vec!["update"];
            all.extend(words);
            all.push(bundle.id());
            bundle.call(&all)
        };
        update(&["--memory", "50331648", "--memory-swap", "50331648", "--pids-limit", "40", "--cpu-quota", "20000"])
            .ok();
        let (limit, tasks) = (of(), systemd.property(&scope(&bundle), "TasksMax"));
        assert_eq!(tasks, "40");
        let memory = ["MemoryLimit", "MemoryMax"].map(|name| systemd.property(&scope(&bundle), name));
        assert!(memory.iter().any(|limit| limit == "50331648"), "{memory:?}");
        systemd.run(&["systemctl", "daemon-reload"]);
        assert_eq!(of(), limit, "after daemon-reload");
        // A processor that this machine has not: nothing of the whole request stays.
        update(&["--pids-limit", "30", "--memory", "41943040", "--cpuset-cpus", "4095"]).fails();
        assert_eq!(of(), limit);
        assert_eq!(systemd.property(&scope(&bundle), "TasksMax"), "40");
        systemd.run(&["systemctl", "daemon-reload"]);
        assert_eq!(of(), limit, "after daemon-reload");
        bundle.finish_off();
        nothing_is_left(&systemd, &bundle);
    }
}

#[test]
fn device_rules_of_an_update_survive_a_reload() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    require!(is_orlop(), "a runtime that updates device rules");
    for view in systemd::views() {
        let systemd = Systemd::start(view);
        let bundle = bundle(&systemd);
        bundle.run_detached().ok();
        let before = devices(&bundle);
        let asked = json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
        ]});
        let file = bundle.file("resources.json", asked.to_string());
        bundle.call(&["update", "--resources", file.to_str().unwrap(), bundle.id()]).ok();
        let after = devices(&bundle);
        assert_ne!(before, after);
        systemd.run(&["systemctl", "daemon-reload"]);
        assert_eq!(devices(&bundle), after, "after daemon-reload");
        bundle.finish_off();
        nothing_is_left(&systemd, &bundle);
    }
}

#[test]
fn a_failed_unit_is_cleared_away_and_a_living_one_is_not_touched() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    let systemd = Systemd::start(systemd::views()[0]);
    let bundle = bundle(&systemd);
    let scope = scope(&bundle);
    let unit = format!("--unit={scope}");
    systemd.says(&["systemd-run", "--scope", "--quiet", "--property=RuntimeMaxSec=100ms", &unit, "sleep", "1000"]);
    wait_until("the unit to fail", || systemd.property(&scope, "ActiveState") == "failed");
    bundle.run_detached().ok();
    assert_eq!(systemd.property(&scope, "ActiveState"), "active");
    // Another container that asks for the same unit does not get it, nor ends it.
    let mut other = Bundle::new();
    let path = bundle.spec["linux"]["cgroupsPath"].clone();
    other.edit(|spec| spec["linux"]["cgroupsPath"] = path).global("--systemd-cgroup").beside(&systemd);
    other.create().fails();
    other.delete_force().ok();
    assert_eq!(systemd.property(&scope, "ActiveState"), "active");
    assert_eq!(bundle.status(), "running");
    bundle.finish_off();
    nothing_is_left(&systemd, &bundle);
}

/// systemd puts a process into it all the same, and `create` would wait for that one for ever.
#[test]
fn a_frozen_cgroup_that_is_there_is_refused() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    require!(is_orlop(), "a runtime that does not wait for the frozen");
    for view in systemd::views() {
        let systemd = Systemd::start(view);
        let bundle = bundle(&systemd);
        let v1 = cgroup::v1("freezer").filter(|_| view != View::V2);
        let (hierarchy, file, words) = match v1 {
            Some(hierarchy) => (hierarchy, "freezer.state", ["FROZEN", "THAWED"]),
            None => (cgroup::v2().unwrap(), "cgroup.freeze", ["1", "0"]),
        };
        let slice = systemd.root(&hierarchy).join("system.slice");
        let place = slice.join(scope(&bundle));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(file), words[0]).unwrap();
        bundle.create().fails_with("container's cgroup unexpectedly frozen");
        std::fs::write(place.join(file), words[1]).unwrap();
        std::fs::remove_dir(&place).unwrap();
        nothing_is_left(&systemd, &bundle);
    }
}

#[test]
fn a_failed_create_leaves_no_unit() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    for view in systemd::views() {
        let systemd = Systemd::start(view);
        let mut bundle = bundle(&systemd);
        let hook = bundle.host_script("hook", "exit 7");
        bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": hook}]}));
        bundle.create().fails();
        nothing_is_left(&systemd, &bundle);
        bundle.edit(|spec| {
            spec["hooks"] = json!({});
            spec["process"]["args"] = json!(["/no/such/program"]);
        });
        bundle.run().fails();
        nothing_is_left(&systemd, &bundle);
    }
}

#[test]
fn annotations_are_properties() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    let systemd = Systemd::start(systemd::views()[0]);
    let mut bundle = bundle(&systemd);
    bundle.edit(|spec| {
        spec["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.After": "['dbus.socket']"
        });
    });
    bundle.run_detached().ok();
    let property = |name| systemd.property(&scope(&bundle), name);
    assert_eq!(property("TimeoutStopUSec"), "7s");
    assert_eq!(property("CollectMode"), "inactive-or-failed");
    assert!(property("After").contains("dbus.socket"));
    bundle.finish_off();
    bundle.edit(|spec| spec["annotations"] = json!({"org.systemd.property.NoSuchThing": "true"}));
    let refused = bundle.create().fails();
    assert!(refused.stderr.contains("NoSuchThing"), "{refused}");
    nothing_is_left(&systemd, &bundle);
}

#[test]
fn a_path_that_names_no_unit_is_refused() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    let systemd = Systemd::start(systemd::views()[0]);
    let mut bundle = bundle(&systemd);
    for path in ["/a/b", "system.slice:orlop", "no-slice:orlop:x", "a--b.slice:orlop:x"] {
        bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
        bundle.create().fails();
    }
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!("/a/b"));
    bundle.create().fails_with("expected cgroupsPath to be of format");
    // Without one the unit is named after the container.
    bundle.edit(|spec| drop(spec["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    bundle.run_detached().ok();
    assert_eq!(systemd.units(bundle.id()).len(), 1);
    bundle.finish_off();
    nothing_is_left(&systemd, &bundle);
}

#[test]
fn without_a_systemd_it_is_said_and_nothing_made() {
    require!(is_root(), "root of the host");
    require!(!std::path::Path::new("/run/systemd/system").is_dir(), "a machine without systemd");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!("system.slice:orlop:nobody")).global("--systemd-cgroup");
    bundle.create().fails_with("systemd not running on this host, cannot use systemd cgroups manager");
    bundle.assert_gone();
}

/// The calls that reach the bus while `work` is done; 3 s are enough for dbus-monitor(1) to say that it listens.
fn calls(systemd: &Systemd, work: impl FnOnce()) -> Vec<String> {
    let own = Bundle::new();
    let mut monitor = systemd.command("dbus-monitor");
    monitor.args(["--system", "type='method_call'"]);
    let running = own.spawn(monitor);
    wait_until("the monitor to listen", || running.said().contains("NameAcquired"));
    work();
    systemd.says(&["busctl", "--system", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId"]);
    wait_until("the monitor to have seen all", || running.said().contains("member=GetId"));
    let said = running.said();
    running.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = running.wait();
    // systemd asks the bus for some things too: whoever says hello now is ours.
    let call = |line: &str| {
        let (sender, _) = line.strip_prefix("method call ")?.split_once("sender=")?.1.split_once(' ')?;
        Some((sender.to_owned(), line.split_once("member=")?.1.to_owned()))
    };
    let all: Vec<(String, String)> = said.lines().filter_map(call).collect();
    let said_hello = |sender: &String| all.iter().any(|(other, name)| other == sender && name == "Hello");
    let asked_for_id = |sender: &String| all.iter().any(|(other, name)| other == sender && name == "GetId");
    let ours = all.iter().filter(|(sender, _)| said_hello(sender) && !asked_for_id(sender));
    ours.map(|(_, name)| name.clone()).collect()
}

/// Two hundred containers, one after the other; then as many calls over the bus as there are, counted for one of them.
#[test]
fn two_hundred_containers_leave_nothing_and_call_no_more_than_crun() {
    require!(is_root(), "root of the host");
    require!(systemd::is_there(), "systemd");
    require!(is_orlop(), "a count for orlop alone");
    let systemd = Systemd::start(systemd::views()[0]);
    let mut many = bundle(&systemd);
    many.args(&["true"]);
    // Where processors are emulated a few must do.
    let most = if systemd.enter().is_empty() { 10 } else { 200 };
    for number in 0..most {
        let id = format!("{}-{number}", many.id());
        many.edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("system.slice:orlop:{id}"))).write();
        many.call(&["run", "--bundle", many.path().to_str().unwrap(), &id]).ok();
    }
    drop(many);
    assert_eq!(systemd.units("orlop-test"), Vec::<String>::new());
    assert_eq!(systemd.cgroups("orlop-test"), Vec::<PathBuf>::new());
    systemd.run(&["systemctl", "start", "dbus.service"]);
    wait_until("systemd to be on the bus", || {
        systemd.says(&["busctl", "--system", "list", "--no-pager"]).contains("org.freedesktop.systemd1")
    });
    let mut bundle = bundle(&systemd);
    bundle.args(&["true"]).write();
    let none = calls(&systemd, || drop(bundle.run().ok()));
    assert!(none.is_empty(), "systemd's own socket needs no bus: {none:?}");
    let mut over_bus = bundle.command(&bundle.with_bundle(&["run"]));
    over_bus.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket");
    let made = calls(&systemd, || drop(bundle.finish(over_bus).ok()));
    println!("calls over the bus: {made:?}");
    // crun 1.29, src/libcrun/cgroup-systemd.c: Hello, AddMatch, StartTransientUnit; Hello, AddMatch, StopUnit, ResetFailedUnit.
    assert!(made.iter().any(|name| name == "StartTransientUnit"), "{made:?}");
    assert!(made.len() <= 7, "{made:?}");
    nothing_is_left(&systemd, &bundle);
}

/// The ordinary user of the test machine, whose systemd lingers.
const USER: u32 = 1000;

/// The user's systemd has to ask the system's for the move into its tree, since the runtime comes from outside of it, as
/// after a login.
#[test]
fn a_users_own_systemd_makes_the_users_cgroup() {
    require!(is_root(), "root of the host");
    require!(std::path::Path::new("/run/user/1000/systemd/private").exists(), "systemd of a user");
    let mut bundle = Bundle::new();
    for dir in [bundle.scratch(""), bundle.path(), bundle.rootfs("")] {
        std::os::unix::fs::chown(dir, Some(USER), Some(USER)).unwrap();
    }
    let scope = scope(&bundle);
    let path = format!(":orlop:{}", bundle.id());
    let ids = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    bundle
        .args(&["sleep", "1000"])
        .global("--systemd-cgroup")
        .namespace(json!({"type": "user"}))
        .namespace(json!({"type": "cgroup"}))
        .prelude(
            "export XDG_RUNTIME_DIR=/run/user/1000; set -- setpriv --reuid 1000 --regid 1000 --clear-groups -- \"$@\"",
        );
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(path);
        spec["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50}});
        spec["linux"]["uidMappings"] = ids.clone();
        spec["linux"]["gidMappings"] = ids.clone();
        let pts = spec["mounts"].as_array_mut().unwrap().iter_mut().find(|mount| mount["destination"] == "/dev/pts");
        pts.unwrap()["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    });
    bundle.run_detached().ok();
    let directory =
        PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/{scope}"));
    let file = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap().trim().to_owned();
    assert_eq!(file("cgroup.procs"), bundle.pid().to_string());
    assert_eq!((file("memory.max").as_str(), file("pids.max").as_str()), ("67108864", "50"));
    bundle.exec("test $(cat /proc/1/cgroup) = $(cat /proc/self/cgroup)").ok();
    bundle.call(&["update", "--pids-limit", "40", bundle.id()]).ok();
    assert_eq!(file("pids.max"), "40");
    let told = |name: &str| {
        let mut ask = bundle.viewed(std::path::Path::new("systemctl"));
        ask.args(["--user", "show", "--value", "--property", name, &scope]);
        bundle.finish(ask).ok().text().to_owned()
    };
    assert_eq!((told("MemoryMax").as_str(), told("TasksMax").as_str()), ("67108864", "40"));
    bundle.finish_off();
    assert!(!directory.exists());
    assert_eq!(told("LoadState"), "not-found");
}
