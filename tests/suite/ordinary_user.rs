//! Containers of an ordinary user: the runtime has no right of root over anything, and no cgroup is its own.

use std::os::unix::fs::chown;

use serde_json::{Value, json};

use crate::require;
use crate::support::{Bundle, View, is_root};

const USER: u32 = 1234;

/// Every command of the runtime runs as the user.
const AS_USER: &str = "set -- setpriv --reuid 1234 --regid 1234 --clear-groups -- \"$@\"";

/// A bundle as `spec --rootless` makes it, and its owner is the user.
fn rootless(maps: &Value) -> Bundle {
    let mut bundle = Bundle::new();
    for dir in [bundle.scratch(""), bundle.path(), bundle.rootfs("")] {
        chown(dir, Some(USER), Some(USER)).unwrap();
    }
    bundle.prelude(AS_USER).namespace(json!({"type": "user"})).edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
        linux.insert("uidMappings".into(), maps.clone());
        linux.insert("gidMappings".into(), maps.clone());
        // Group 5 has no map.
        let pts = spec["mounts"].as_array_mut().unwrap().iter_mut().find(|mount| mount["destination"] == "/dev/pts");
        pts.unwrap()["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    });
    bundle
}

fn own_id() -> Value {
    json!([{"containerID": 0, "hostID": USER, "size": 1}])
}

#[track_caller]
fn lives_and_dies(bundle: &mut Bundle) {
    bundle.up();
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.exec("id -u; cat /proc/self/comm; test -w /dev/null && echo yes").ok().text(), "0\ncat\nyes");
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn an_ordinary_user_runs_a_container() {
    require!(is_root(), "root of the host");
    lives_and_dies(&mut rootless(&own_id()));
}

#[test]
fn an_ordinary_user_runs_a_container_on_cgroup_v1() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    bundle.view(View::V1);
    lives_and_dies(&mut bundle);
    // There is no cgroup to show: nothing of the host's is shown in its place.
    bundle.args(&["ls", "/sys/fs/cgroup"]);
    assert_eq!(bundle.output(), "");
}

#[test]
fn an_ordinary_user_runs_a_container_on_cgroup_v2() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    bundle.view(View::V2);
    lives_and_dies(&mut bundle);
    bundle.args(&["ls", "/sys/fs/cgroup"]);
    assert_eq!(bundle.output(), "");
}

#[test]
fn an_ordinary_user_has_subordinate_ids() {
    require!(is_root(), "root of the host");
    require!(
        ["newuidmap", "newgidmap"].iter().all(|name| std::path::Path::new("/usr/bin").join(name).exists()),
        "newuidmap"
    );
    let maps =
        json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200_000, "size": 100}]);
    let mut bundle = rootless(&maps);
    let range = bundle.file("subid", "1234:200000:65536\n").display().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap() + "orlop:x:1234:1234::/:/bin/sh\n";
    let passwd = bundle.file("passwd", passwd).display().to_string();
    bundle.prelude(&format!(
        "mount --bind {range} /etc/subuid; mount --bind {range} /etc/subgid; mount --bind {passwd} /etc/passwd\n{AS_USER}"
    ));
    bundle.edit(|spec| spec["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5, 10]}));
    lives_and_dies(&mut bundle);
    bundle.args(&["sh", "-c", "id -G; awk '{print $1, $2, $3}' /proc/self/uid_map"]);
    assert_eq!(bundle.output(), "0 5 10\n0 1234 1\n1 200000 100");

    // The maps are the helper's to grant.
    bundle.edit(|spec| spec["linux"]["uidMappings"][1]["hostID"] = json!(900_000));
    bundle.run().fails_with("newuidmap");
    bundle.assert_gone();
}
