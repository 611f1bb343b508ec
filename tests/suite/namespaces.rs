//! `linux.namespaces`: new ones, joined ones, none; user namespaces and time offsets.

use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::require;
use crate::support::{Bundle, is_orlop, is_root, status_field, wait_until};

/// The kinds by their name in config.json and in /proc/PID/ns.
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

/// The namespace of a process, as `readlink` shows it.
fn namespace(pid: &str, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

/// A process of the host in new namespaces of these kinds (flags of unshare(1)).
struct Neighbour(Child);

impl Neighbour {
    fn new(flags: &[&str]) -> Neighbour {
        // `--fork` is needed for a time namespace, which only a child is in; the child ends with its parent.
        let mut command = Command::new("unshare");
        command.args(flags).args(["sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        if !flags.contains(&"--fork") {
            wait_until("unshare is done", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
        }
        Neighbour(child)
    }

    fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_kind_is_new_when_asked_and_shared_when_not() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.namespace(json!({"type": "cgroup"}));
    bundle.up();
    let pid = bundle.pid().to_string();
    for (kind, file) in KINDS {
        let new = !matches!(*kind, "user" | "time");
        assert_eq!(namespace(&pid, file) != namespace("self", file), new, "{kind}");
    }
    bundle.finish_off();
    let mut bundle = Bundle::new();
    for kind in ["network", "ipc", "uts", "pid"] {
        bundle.no_namespace(kind);
    }
    // A hostname and a sysfs of one's own need namespaces of one's own.
    bundle
        .edit(|spec| drop(spec.as_object_mut().unwrap().remove("hostname")))
        .no_mount("/sys")
        .no_mount("/sys/fs/cgroup")
        .up();
    let pid = bundle.pid().to_string();
    for file in ["net", "ipc", "uts", "pid", "cgroup", "user"] {
        assert_eq!(namespace(&pid, file), namespace("self", file), "{file} is the host's");
    }
    bundle.finish_off();
}

#[test]
fn namespaces_are_joined_by_their_path() {
    require!(is_root(), "root of the host");
    let neighbour = Neighbour::new(&["--net", "--ipc", "--uts"]);
    let mut bundle = Bundle::new();
    bundle.edit(|spec| drop(spec.as_object_mut().unwrap().remove("hostname")));
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.no_namespace(kind).namespace(json!({"type": kind, "path": neighbour.path(file)}));
    }
    bundle.up();
    let pid = bundle.pid().to_string();
    for file in ["net", "ipc", "uts"] {
        assert_eq!(namespace(&pid, file), namespace(&neighbour.0.id().to_string(), file));
    }
    assert_ne!(namespace(&pid, "pid"), namespace("self", "pid"));
    bundle.finish_off();
}

#[test]
fn a_pid_namespace_is_joined() {
    require!(is_root(), "root of the host");
    let mut sandbox = Bundle::new();
    sandbox.up();
    let outer = sandbox.pid().to_string();
    let mut bundle = Bundle::sh("echo $$; read comm < /proc/1/comm; echo $comm");
    // Who bears init does not count.
    bundle.edit(|spec| spec["linux"]["resources"]["pids"] = json!({"limit": 1}));
    bundle.no_namespace("pid").namespace(json!({"type": "pid", "path": format!("/proc/{outer}/ns/pid")}));
    let text = bundle.output();
    let (pid, comm) = text.split_once('\n').unwrap();
    assert!(pid != "1" && comm == "sleep", "in the sandbox's pid namespace: {text}");
    // kill without a pid namespace of its own ends everything in the cgroup, and the sandbox lives on.
    let mut bundle = Bundle::sh("sleep 1000 & wait");
    bundle.no_namespace("pid").namespace(json!({"type": "pid", "path": format!("/proc/{outer}/ns/pid")})).up();
    assert_eq!(namespace(&bundle.pid().to_string(), "pid"), namespace(&outer, "pid"));
    bundle.finish_off();
    assert_eq!(sandbox.status(), "running");
    sandbox.finish_off();
}

#[test]
fn a_time_namespace_is_joined() {
    require!(is_root(), "root of the host");
    let neighbour = Neighbour::new(&["--time", "--boottime", "100000", "--fork", "--kill-child"]);
    let children = format!("/proc/{0}/task/{0}/children", neighbour.0.id());
    let child = || std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
    wait_until("unshare has forked", || !child().is_empty());
    let child = child();
    let mut bundle = Bundle::sh("cut -d. -f1 /proc/uptime");
    bundle.namespace(json!({"type": "time", "path": format!("/proc/{child}/ns/time")}));
    let uptime: u64 = bundle.output().parse().unwrap();
    assert!(uptime >= 100_000, "{uptime}");
}

#[test]
fn time_offsets_are_what_was_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    bundle.namespace(json!({"type": "time"}));
    bundle.edit(|spec| {
        spec["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 7}, "monotonic": {"secs": 2000}})
    });
    let text = bundle.output();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words[0].parse::<u64>().unwrap() >= 1_000_000, "{text}");
    assert_eq!(&words[1..], ["monotonic", "2000", "0", "boottime", "1000000", "7"]);
}

#[test]
fn time_offsets_without_a_time_namespace_are_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 10}}));
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn a_path_to_another_kind_is_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.no_namespace("network").namespace(json!({"type": "network", "path": "/proc/self/ns/uts"}));
    bundle.create().fails();
    bundle.assert_gone();
    let mut bundle = Bundle::new();
    bundle.no_namespace("network").namespace(json!({"type": "network", "path": "/etc/passwd"}));
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn a_missing_path_is_named() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.no_namespace("ipc").namespace(json!({"type": "ipc", "path": "/no/such/namespace"}));
    bundle.create().fails_with("/no/such/namespace");
    bundle.assert_gone();
}

#[test]
fn a_kind_is_listed_once_and_known() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.namespace(json!({"type": "ipc"}));
    bundle.create().fails();
    let mut bundle = Bundle::new();
    bundle.namespace(json!({"type": "nosuch"}));
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn hostname_and_domainname_are_the_containers() {
    require!(is_root(), "root of the host");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut bundle = Bundle::sh("hostname; cat /proc/sys/kernel/domainname");
    bundle.edit(|spec| {
        spec["hostname"] = json!("inner");
        spec["domainname"] = json!("example.org");
    });
    assert_eq!(bundle.output(), "inner\nexample.org");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    require!(is_root(), "root of the host");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut bundle = Bundle::new();
    bundle.no_namespace("uts").create().fails();
    if is_orlop() {
        bundle.namespace(json!({"type": "uts", "path": "/proc/self/ns/uts"}));
        bundle.create().fails_with("hostname: the uts namespace to join is");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
    bundle.assert_gone();
}

#[test]
fn the_loopback_device_is_up() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("ip link show lo | head -1; ip addr show lo | grep -c 127.0.0.1; ls /sys/class/net");
    let text = bundle.output();
    assert!(text.contains("UP") && text.ends_with("1\nlo"), "{text}");
}

#[test]
fn sysctls_are_set_inside_and_not_outside() {
    require!(is_root(), "root of the host");
    let host = || {
        ["kernel/msgmax", "net/ipv4/ip_forward", "fs/mqueue/msg_max"]
            .map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap())
    };
    let before = host();
    let mut bundle =
        Bundle::sh("cd /proc/sys; cat kernel/msgmax net/ipv4/ip_forward fs/mqueue/msg_max net/ipv4/conf/lo/forwarding");
    bundle.edit(|spec| {
        spec["linux"]["sysctl"] = json!({"kernel.msgmax": "65537", "net.ipv4.ip_forward": "1", "fs.mqueue.msg_max": "11",
            "net/ipv4/conf/lo/forwarding": "1"});
    });
    assert_eq!(bundle.output(), "65537\n1\n11\n1");
    assert_eq!(host(), before);
}

/// T24: what has no namespace, what leaves the tree, and the hostname that has a field of its own.
#[test]
fn sysctls_of_the_host_are_refused() {
    require!(is_root(), "root of the host");
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let keys = [
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel/core_pattern",
        "kernel..core_pattern",
        "net.ipv4.../../../kernel.core_pattern",
        "",
    ];
    for key in keys {
        let mut bundle = Bundle::new();
        bundle.edit(|spec| spec["linux"]["sysctl"] = json!({key: "canary"}));
        bundle.create().fails_saying("sysctl");
        bundle.assert_gone();
    }
    // A key of a namespace that is shared with the host.
    let mut bundle = Bundle::new();
    bundle
        .no_namespace("network")
        .no_mount("/sys")
        .edit(|spec| spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
    bundle.create().fails();
    // Also where it is shared by its path.
    // A runtime that does not refuse the second would change the host.
    let shared = if is_orlop() { "/proc/self/ns/net" } else { "/proc/1/ns/net" };
    for path in ["/proc/1/ns/net", shared] {
        bundle.no_namespace("network").namespace(json!({"type": "network", "path": path})).create().fails();
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

#[test]
fn a_user_namespace_maps_as_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /proc/self/uid_map /proc/self/gid_map; id -u; stat -c %u /; touch /mine");
    bundle.writable().user_namespace(100_000);
    let text = bundle.output();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "100000", "65536", "0", "0"]);
    assert_eq!(std::fs::metadata(bundle.rootfs("mine")).unwrap().uid(), 100_000);
    // config-linux.md#user-namespace-mappings: what was there keeps its owner.
    assert_eq!(std::fs::metadata(bundle.rootfs("bin/busybox")).unwrap().uid(), 0);
}

#[test]
fn several_ranges_are_mapped() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /proc/self/uid_map");
    bundle.user_namespace(100_000);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}, {"containerID": 1000, "hostID": 300_000, "size": 10}]);
    bundle.edit(|spec| {
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    });
    let text = bundle.output();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "1000", "1000", "300000", "10"]);
}

#[test]
fn the_objects_of_a_user_namespace_belong_to_its_root() {
    require!(is_root(), "root of the host");
    // The mqueue's root is made when the ipc namespace is: before the ids are mapped it would belong to nobody.
    let mut bundle =
        Bundle::sh("stat -c %u:%g /dev/mqueue /dev/shm /dev/pts /dev /proc/1/cmdline; cat /proc/sys/kernel/hostname");
    bundle.user_namespace(100_000);
    assert_eq!(bundle.output(), "0:0\n0:0\n0:0\n0:0\n0:0\norlop");
}

#[test]
fn devices_work_in_a_user_namespace() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "echo x > /dev/null && head -c 3 /dev/zero | wc -c; stat -c %t:%T /dev/null /dev/urandom; readlink /dev/ptmx",
    );
    bundle.user_namespace(100_000);
    assert_eq!(bundle.output(), "3\n1:3\n1:9\npts/ptmx");
}

#[test]
fn a_user_of_a_user_namespace_is_mapped() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle
        .user_namespace(100_000)
        .edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}))
        .up();
    let pid = bundle.pid().to_string();
    assert_eq!(status_field(&pid, "Uid").unwrap().split_whitespace().next(), Some("101000"));
    assert_eq!(status_field(&pid, "Gid").unwrap().split_whitespace().next(), Some("101001"));
    assert_eq!(status_field(&pid, "Groups").unwrap(), "100005 100006");
    bundle.finish_off();
}

#[test]
fn ids_without_a_mapping_are_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.user_namespace(100_000).edit(|spec| spec["process"]["user"]["uid"] = json!(70_000));
    bundle.create().fails();
    bundle.assert_gone();
    let mut bundle = Bundle::new();
    bundle.namespace(json!({"type": "user"}));
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn a_user_namespace_is_joined() {
    require!(is_root(), "root of the host");
    let mut first = Bundle::new();
    first.user_namespace(100_000).up();
    let pid = first.pid();
    let mut second = Bundle::sh("cat /proc/self/uid_map; readlink /proc/self/ns/user; id -u");
    second.user_namespace(100_000).edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    second.no_namespace("user").namespace(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    let text = second.output();
    assert!(
        text.contains("100000") && text.contains(&namespace(&pid.to_string(), "user")) && text.ends_with("\n0"),
        "{text}"
    );
    first.finish_off();
}

#[test]
fn a_hook_sees_the_pid_of_the_host() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let hook = bundle.host_script("hook", r#"cat > "$0.state""#);
    bundle
        .user_namespace(100_000)
        .edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": hook, "env": ["PATH=/bin:/usr/bin"]}]}));
    bundle.up();
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(hook.with_extension("state")).unwrap()).unwrap();
    assert_eq!(state["pid"].as_i64().unwrap() as i32, bundle.pid());
    bundle.finish_off();
}
