//! Containers of an ordinary user: the runtime has no right of root over anything, and no cgroup is its own.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::{Value, json};

use crate::require;
use crate::support::cgroup::v1;
use crate::support::{Bundle, View, is_orlop, is_root, wait_until};

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

/// That one, and a hundred more from newuidmap(1).
fn with_subordinate() -> Value {
    json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 200_000, "size": 100}])
}

fn has_helpers() -> bool {
    ["newuidmap", "newgidmap"].iter().all(|name| std::path::Path::new("/usr/bin").join(name).exists())
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
    let mut bundle = rootless(&own_id());
    lives_and_dies(&mut bundle);
    // Nor is anything said of the cgroup that nobody asked for.
    assert_eq!(bundle.args(&["true"]).run().ok().stderr, "");
}

#[test]
fn an_ordinary_user_runs_a_container_on_cgroup_v1() {
    require!(is_root(), "root of the host");
    require!(v1("memory").is_some(), "cgroup v1 memory controller");
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
    require!(has_helpers(), "newuidmap");
    let mut bundle = rootless(&with_subordinate());
    subordinate(&mut bundle, "--clear-groups");
    bundle.edit(|spec| spec["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5, 10]}));
    lives_and_dies(&mut bundle);
    bundle.args(&["sh", "-c", "id -G; awk '{print $1, $2, $3}' /proc/self/uid_map"]);
    assert_eq!(bundle.output(), "0 5 10\n0 1234 1\n1 200000 100");

    // The maps are the helper's to grant.
    bundle.edit(|spec| spec["linux"]["uidMappings"][1]["hostID"] = json!(900_000));
    bundle.run().fails_with("newuidmap");
    bundle.assert_gone();
}

/// CVE-2026-84042: a helper of the image ran as the host's. Here the image has one of each name, wherever the program's
/// PATH leads, on the host and in the container.
#[test]
fn t41_cve_2026_84042_helpers_are_the_hosts() {
    require!(is_root(), "root of the host");
    require!(has_helpers(), "newuidmap");
    let mut bundle = rootless(&with_subordinate());
    subordinate(&mut bundle, "--clear-groups");
    let caught = bundle.scratch("caught");
    std::fs::write(&caught, "").unwrap();
    chown(&caught, Some(USER), Some(USER)).unwrap();
    let helpers =
        ["newuidmap", "newgidmap", "criu", "pasta", "passt", "systemd-run", "sh.helper", "ld-linux-x86-64.so.2"];
    let directories = ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin", "work"];
    for directory in directories {
        for helper in helpers {
            let path = bundle.rootfs(directory).join(helper);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let script = format!("#!/bin/sh\necho $0 >>/caught\necho $0 >>{}\n", caught.display());
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    let inside = directories.map(|name| format!("/{name}")).join(":");
    let outside = directories.map(|name| bundle.rootfs(name).display().to_string()).join(":");
    bundle.edit(|spec| spec["process"]["env"] = json!([format!("PATH={outside}:{inside}")]));
    bundle.edit(|spec| spec["root"]["readonly"] = json!(false));
    lives_and_dies(&mut bundle);
    assert_eq!(std::fs::read_to_string(&caught).unwrap(), "");
    assert!(!bundle.rootfs("caught").exists());
}

/// Names with subordinate ids, in a private mount namespace: the host has none.
fn subordinate(bundle: &mut Bundle, groups: &str) {
    let range = bundle.file("subid", "1234:200000:65536\n").display().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap() + "orlop:x:1234:1234::/:/bin/sh\n";
    let passwd = bundle.file("passwd", passwd).display().to_string();
    bundle.prelude(&format!(
        "mount --bind {range} /etc/subuid; mount --bind {range} /etc/subgid; mount --bind {passwd} /etc/passwd\n{}",
        AS_USER.replace("--clear-groups", groups)
    ));
}

/// Podman's `--group-add keep-groups`: what is shared with a group of the host can be read inside.
#[test]
fn the_groups_of_an_ordinary_user_are_kept_when_asked() {
    require!(is_root(), "root of the host");
    require!(has_helpers(), "newuidmap");
    require!(is_orlop(), "run.oci.keep_original_groups");
    let mut bundle = rootless(&with_subordinate());
    subordinate(&mut bundle, "--groups 7,8");
    bundle.args(&["id", "-G"]);
    assert_eq!(bundle.output(), "0", "CVE-2023-25173: nobody's groups go in by themselves");
    bundle.edit(|spec| spec["annotations"] = json!({"run.oci.keep_original_groups": "1"}));
    assert_eq!(bundle.output(), "0 65534 65534");
    bundle.args(&["sleep", "1000"]).up();
    assert_eq!(bundle.exec("id -G").ok().text(), "0 65534 65534");
    bundle.finish_off();
    bundle.args(&["id", "-G"]).edit(|spec| spec["annotations"] = json!({"run.oci.keep_original_groups": "0"}));
    assert_eq!(bundle.output(), "0");
}

/// A process beside the container, which ends with the test.
struct Neighbour(std::process::Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A user namespace that its owner has made without any right forbids setgroups(2), and who joins it cannot ask outside.
#[test]
fn a_user_namespace_of_ones_own_is_joined() {
    require!(is_root(), "root of the host");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "1234", "--regid", "1234", "--clear-groups", "unshare", "--user", "--map-root-user"]);
    let neighbour = Neighbour(command.args(["sleep", "1000"]).spawn().unwrap());
    let comm = format!("/proc/{}/comm", neighbour.0.id());
    wait_until("it is in its namespace", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
    let path = format!("/proc/{}/ns/user", neighbour.0.id());
    let mut bundle = rootless(&own_id());
    bundle.no_namespace("user").namespace(json!({"type": "user", "path": path}));
    lives_and_dies(&mut bundle);
    // The maps are that namespace's, and may be said again, but not otherwise.
    bundle.edit(|spec| spec["linux"]["uidMappings"][0]["hostID"] = json!(4321));
    if is_orlop() {
        bundle.create().fails_with("linux.uidMappings");
    }
    bundle.edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        spec["process"]["user"]["additionalGids"] = json!([7]);
    });
    bundle.create().fails();
    bundle.assert_gone();
}

/// `--rootless` says whether errors of cgroups are borne; nobody else's business.
#[test]
fn rootless_is_what_bears_a_missing_cgroup() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    bundle.view(View::V2).args(&["true"]).write();
    let with = |option: &str| {
        let path = bundle.path().display().to_string();
        bundle.call(&[option, "run", "--bundle", &path, bundle.id()])
    };
    with("--rootless=auto").ok();
    with("--rootless=true").ok();
    with("--rootless=TRUE").ok();
    with("--rootless=false").fails();
    with("--rootless=maybe").fails();
    bundle.assert_gone();
    // Root bears them as well when it is told to: here in a tree that nobody can write.
    let mut bundle = Bundle::new();
    bundle.view(View::V2).prelude("mount -o remount,bind,ro /sys/fs/cgroup").no_mount("/sys/fs/cgroup");
    bundle.edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
    });
    bundle.run().fails();
    bundle.global("--rootless=true").run().ok();
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"unified": {"cgroup.max.depth": "1"}}));
    bundle.run().fails();
    bundle.assert_gone();
}

/// A cgroup that root has given away (cgroups(7), "Delegation Containment").
#[test]
fn an_ordinary_user_fills_a_cgroup_that_was_delegated() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    let given = format!("/sys/fs/cgroup/{}-given", bundle.id());
    bundle.view(View::V2).prelude(&format!(
        "mkdir -p {given}/runtime; for file in {given} {given}/runtime; do
            chown 1234:1234 $file $file/cgroup.procs $file/cgroup.subtree_control $file/cgroup.threads; done
        echo $$ > {given}/runtime/cgroup.procs; {AS_USER}"
    ));
    let path = format!("/{}-given/web", bundle.id());
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(path);
        spec["linux"]["resources"] = json!({"unified": {"cgroup.max.descendants": "3"}});
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    });
    let said = bundle.args(&["sleep", "1000"]).create().ok().stderr;
    assert!(!said.contains("linux.resources.devices"), "nobody asked for the rules that the user may not set: {said}");
    bundle.start().ok();
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(own.lines().any(|line| line == format!("0::{path}")), "{own}");
    let look = "cat /proc/self/cgroup | grep ^0:; cat /sys/fs/cgroup/cgroup.max.descendants; ls /sys/fs/cgroup | wc -l";
    let seen = bundle.exec(look).ok();
    assert!(seen.stdout.starts_with("0::/\n3\n"), "{seen}");
    bundle.finish_off();
    let tree = std::path::Path::new("/sys/fs/cgroup/unified");
    let tree = if tree.is_dir() { tree } else { std::path::Path::new("/sys/fs/cgroup") };
    let given = tree.join(format!("{}-given", bundle.id()));
    assert!(!given.join("web").exists(), "the container's cgroup goes with it");
    std::fs::remove_dir(given.join("runtime")).unwrap();
    std::fs::remove_dir(given).unwrap();
}

/// Without a cgroup and without a pid namespace nobody could end its processes.
#[test]
fn what_cannot_be_ended_is_not_begun() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that refuses what it cannot end");
    let mut bundle = rootless(&own_id());
    bundle.view(View::V2).no_namespace("pid").mount(json!({"destination": "/proc", "type": "bind", "source": "/proc",
        "options": ["rbind"]}));
    bundle.edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "proc");
    });
    bundle.create().fails_with("linux.namespaces");
    bundle.assert_gone();
    bundle.no_mount("/sys/fs/cgroup").global("--cgroup-manager=disabled").run().ok();
}

/// proc(5), hidepid: nobody but root sees then who cannot be looked into, and init is one of those. Without a look at it
/// nobody could tell later whether it lives: the container would be taken for a stopped one, and its init left.
#[test]
fn an_init_that_the_hosts_proc_hides_is_not_left_behind() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    bundle.prelude(&format!("mount -t proc -o hidepid=2 proc /proc\n{AS_USER}"));
    bundle.args(&["sleep", "1000"]);
    bundle.create().fails_saying("hidepid");
    bundle.assert_gone();
}

/// The host's /sys, where the network is the host's: read-only, and without the cgroups of others (CVE-2023-25809).
#[test]
fn t26_the_sysfs_of_the_host_is_borrowed_readonly_on_v2() {
    require!(is_root(), "root of the host");
    borrows_sysfs(View::V2);
}

#[test]
fn t26_the_sysfs_of_the_host_is_borrowed_readonly_on_v1() {
    require!(is_root(), "root of the host");
    require!(v1("memory").is_some(), "cgroup v1 memory controller");
    borrows_sysfs(View::V1);
}

#[track_caller]
fn borrows_sysfs(view: View) {
    let mut bundle = rootless(&own_id());
    bundle.view(view).no_namespace("network").no_mount("/sys/fs/cgroup");
    let readonly = "for place in $(awk '$5 ~ \"^/sys\" {print $5}' /proc/self/mountinfo); do
        awk -v place=$place '$5 == place {print $6}' /proc/self/mountinfo | tail -1 | grep -q '^ro' || echo \"$place can be written\"
    done; ls /sys/fs/cgroup; ls -d /sys/class/net";
    bundle.args(&["sh", "-c", readonly]);
    assert_eq!(bundle.output(), "/sys/class/net", "{view:?}");
}

/// config-linux.md#devices: the node that is bound from the host must be the one that was asked for.
#[test]
fn devices_of_an_ordinary_user_are_bound_and_proved() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    let device = |path: &str, minor: u32| json!([{"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}]);
    let before = std::fs::metadata("/dev/full").map(|node| (node.uid(), node.mode(), node.ctime_nsec())).unwrap();
    bundle.edit(|spec| spec["linux"]["devices"] = device("/dev/full", 7));
    bundle.args(&["sh", "-c", "stat -c %t:%T /dev/full; echo x 2>&1 > /dev/full | grep -o 'No space'"]);
    assert_eq!(bundle.output(), "1:7\nNo space");
    if is_orlop() {
        bundle.edit(|spec| spec["linux"]["devices"] = device("/dev/full", 5));
        bundle.create().fails_with("linux.devices[0]");
    }
    let after = std::fs::metadata("/dev/full").map(|node| (node.uid(), node.mode(), node.ctime_nsec())).unwrap();
    assert_eq!(before, after, "T19: the host's node is nobody's to change");
}

/// The options that a mount of the host has are locked in a user namespace: `rw` is borne, as engines write it on every
/// bind; what would take a protection away is an error.
#[test]
fn options_of_the_source_are_locked() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless(&own_id());
    let volume = bundle.file("volume/file", "x").parent().unwrap().display().to_string();
    let mounted = format!("mount -t tmpfs -o nosuid,nodev,noexec none {volume}; mount -o remount,bind,ro {volume}");
    bundle.prelude(&format!("{mounted}; {AS_USER}"));
    let with = |bundle: &mut Bundle, options: &[&str]| {
        bundle
            .no_mount("/mnt")
            .mount(json!({"destination": "/mnt", "type": "bind", "source": volume, "options": options}));
    };
    bundle.args(&["awk", "$5 == \"/mnt\" {print $6}", "/proc/self/mountinfo"]);
    with(&mut bundle, &["bind", "rw"]);
    assert_eq!(bundle.output(), "ro,nosuid,nodev,noexec,relatime");
    if is_orlop() {
        for option in ["suid", "dev", "exec"] {
            with(&mut bundle, &["bind", option]);
            bundle.create().fails_with("locked");
        }
    }
    bundle.assert_gone();
}
