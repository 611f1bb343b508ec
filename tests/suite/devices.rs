//! Device nodes, the links of /dev, and who may use what (config-linux.md#devices, #default-devices).

use serde_json::json;

use crate::require;
use crate::support::{Bundle, View, cgroup, is_root};

#[test]
fn the_default_devices_and_links_are_there() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh(
        "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done; \
         for l in fd stdin stdout stderr ptmx core; do readlink /dev/$l || echo none; done",
    );
    let text = bundle.output();
    let numbers =
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")];
    for (name, number) in numbers {
        assert!(text.contains(&format!("/dev/{name} character special file {number} 666")), "{text}");
    }
    let links: Vec<&str> = text.lines().skip(6).collect();
    assert_eq!(&links[..5], ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]);
    assert!(["/proc/kcore", "none"].contains(&links[5]), "{text}");
}

#[test]
fn nodes_are_made_as_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c '%n %F %t:%T %a %u:%g' /dev/mine /dev/deep/er /dev/pipe /dev/disk");
    bundle.edit(|spec| {
        spec["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/deep/er", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/disk", "type": "b", "major": 7, "minor": 42, "fileMode": 0o660}
        ]);
    });
    let text = bundle.output();
    for line in [
        "/dev/mine character special file a:e5 640 7:8",
        "/dev/deep/er character special file 1:5 666 0:0",
        "/dev/pipe fifo 0:0 600 0:0",
        "/dev/disk block special file 7:2a 660 0:0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_node_may_have_a_mode_with_type_bits() {
    require!(is_root(), "root of the host");
    // Docker sends st_mode whole: 0o20666.
    let mut bundle = Bundle::sh("stat -c '%a' /dev/mine");
    bundle.edit(|spec| {
        spec["linux"]["devices"] =
            json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o20640}])
    });
    assert_eq!(bundle.output(), "640");
}

#[test]
fn ptmx_among_the_devices_stays_the_containers_own() {
    require!(is_root(), "root of the host");
    // Docker and containerd list all the host's devices for a privileged container.
    let mut bundle = Bundle::sh("readlink /dev/ptmx");
    bundle.edit(|spec| {
        spec["linux"]["devices"] =
            json!([{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666, "uid": 0, "gid": 0}])
    });
    assert_eq!(bundle.output(), "pts/ptmx");
}

#[test]
fn nodes_go_where_no_tmpfs_is() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c %t:%T /dev/null /dev/zero; readlink /dev/stdin");
    for place in ["/dev/shm", "/dev/pts", "/dev/mqueue", "/dev"] {
        bundle.no_mount(place);
    }
    bundle.writable();
    assert_eq!(bundle.output(), "1:3\n1:5\n/proc/self/fd/0");
    // The nodes stay in the rootfs: a second start meets them and is content.
    assert_eq!(bundle.output(), "1:3\n1:5\n/proc/self/fd/0");
}

/// What a payload with CAP_MKNOD may do with which device.
const PROBES: &str = "cd /tmp; for d in 'c 1 3' 'c 10 237' 'b 7 9' 'c 10 183'; do rm -f n; mknod n $d 2>/dev/null && echo \"made $d\"; \
    head -c 0 n 2>/dev/null && echo \"opened $d\"; done; head -c 1 /dev/zero >/dev/null && echo zero; true";

fn probe(view: View, rules: serde_json::Value) -> String {
    let mut bundle = Bundle::sh(PROBES);
    bundle.view(view).writable().mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    bundle.capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    bundle.edit(|spec| spec["linux"]["resources"]["devices"] = rules);
    bundle.output()
}

fn rules_hold(view: View) {
    // Default deny; mknod of anything is among the defaults that runc, crun and we allow.
    let text = probe(view, json!([{"allow": false, "access": "rwm"}]));
    assert!(text.contains("opened c 1 3") && text.contains("zero"), "{view:?}: {text}");
    assert!(!text.contains("opened c 10 237") && !text.contains("opened c 10 183"), "{view:?}: {text}");
    // A rule opens one device (loop-control) and nothing else.
    let allow = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rw"}]);
    let text = probe(view, allow);
    assert!(text.contains("opened c 10 237"), "{view:?}: {text}");
    // Order: the later rule wins.
    let denied = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rw"},
        {"allow": false, "type": "c", "major": 10, "minor": 237, "access": "rwm"}]);
    let text = probe(view, denied);
    assert!(!text.contains("opened c 10 237"), "{view:?}: the later rule wins: {text}");
}

#[test]
fn device_rules_hold_on_v1() {
    require!(is_root(), "root of the host");
    require!(cgroup::v1("devices").is_some(), "cgroup v1 devices controller");
    rules_hold(View::Host);
}

#[test]
fn device_rules_hold_on_v2() {
    require!(is_root(), "root of the host");
    rules_hold(View::V2);
}
