//! User namespaces of containers that root makes, and runtimes that live in one themselves (security.md, part 5). What
//! every container with one has is in `namespaces.rs`, ordinary users are in `ordinary_user.rs`.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

use serde_json::json;

use crate::require;
use crate::support::{Bundle, is_orlop, is_root, wait_until};

/// Somebody has made a user namespace, in which root alone has an id, and our runtime lives in it.
struct Outer(Child);

impl Outer {
    fn new() -> Outer {
        let mut command = Command::new("unshare");
        let child = command.args(["--user", "--map-root-user", "sleep", "1000"]).spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        wait_until("it is in its namespace", || {
            std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep")
        });
        Outer(child)
    }

    /// Lets every command of the runtime run there, after this script outside.
    fn around(&self, bundle: &mut Bundle, before: &str) {
        let enter = format!("nsenter --user=/proc/{}/ns/user --preserve-credentials", self.0.id());
        bundle.prelude(&format!("{before}\nset -- {enter} -- \"$@\""));
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The container's own ids there.
fn own_id(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    bundle.namespace(json!({"type": "user"})).edit(|spec| {
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    });
}

/// Without a cgroup of its own, for which it has no right, and without groups that are not mapped.
fn nested(outer: &Outer) -> Bundle {
    let mut bundle = Bundle::new();
    outer.around(&mut bundle, "");
    bundle.edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
        let pts = spec["mounts"].as_array_mut().unwrap().iter_mut().find(|mount| mount["destination"] == "/dev/pts");
        pts.unwrap()["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    });
    bundle
}

/// Podman's containers of an ordinary user: podman has made the user namespace, and the container is to have none.
#[test]
fn a_runtime_in_a_user_namespace_needs_no_other() {
    require!(is_root(), "root of the host");
    let outer = Outer::new();
    let mut bundle = nested(&outer);
    bundle.args(&[
        "sh",
        "-c",
        "id -u; hostname; echo x > /dev/null && stat -c %t:%T /dev/null; stat -c %u /dev/mqueue /proc",
    ]);
    assert_eq!(bundle.output(), "0\norlop\n1:3\n0\n0");
    bundle.args(&["sleep", "1000"]).up();
    assert_eq!(bundle.exec("id -u; cat /proc/self/uid_map | tr -s ' '").ok().text(), "0\n 0 0 1");
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn a_user_namespace_is_made_in_another() {
    require!(is_root(), "root of the host");
    let outer = Outer::new();
    let mut bundle = nested(&outer);
    own_id(&mut bundle);
    bundle.args(&["sh", "-c", "id -u; cat /proc/self/setgroups; stat -c %u:%g /dev/mqueue /dev/shm /dev/pts"]);
    assert_eq!(bundle.output(), "0\ndeny\n0:0\n0:0\n0:0");
    bundle.args(&["sleep", "1000"]).up();
    assert_eq!(bundle.exec("id -u").ok().text(), "0");
    bundle.finish_off();
    // There are no groups to be had.
    bundle.edit(|spec| spec["process"]["user"]["additionalGids"] = json!([0, 7]));
    bundle.create().fails();
    bundle.assert_gone();
}

/// The kernel makes no procfs for who sees one with something mounted over it: there is no other way to the same, as that
/// would show what was covered.
#[test]
fn a_procfs_with_masks_begets_no_other() {
    require!(is_root(), "root of the host");
    let outer = Outer::new();
    let mut bundle = nested(&outer);
    own_id(&mut bundle);
    outer.around(&mut bundle, "mount -t tmpfs none /proc/sys");
    let outcome = bundle.create().fails();
    if is_orlop() {
        assert!(
            outcome.stderr.contains("mounts[0] (/proc)") && outcome.stderr.contains("mounted over it"),
            "{outcome}"
        );
    }
    bundle.assert_gone();
}

/// What root alone reaches is opened by root: the container's root is somebody else.
#[test]
fn a_source_that_only_root_reaches_is_bound() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/seen/file; ls /mnt/seen");
    let hidden = bundle.file("hidden/volume/file", "seen\n");
    let hidden = hidden.parent().unwrap();
    std::fs::set_permissions(hidden.parent().unwrap(), PermissionsExt::from_mode(0o700)).unwrap();
    bundle.user_namespace(100_000).mount(
        json!({"destination": "/mnt/seen", "type": "bind", "source": hidden, "options": ["bind", "ro", "nosuid", "nodev"]}),
    );
    bundle.writable();
    assert_eq!(bundle.output(), "seen\nfile");
}

/// What the host's mounts forbid is not for the container's root to allow again, whatever its capabilities in its own
/// user namespace.
#[test]
fn what_the_host_forbids_on_a_volume_stays_forbidden() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "for flag in rw suid,ro dev,ro exec,ro; do mount -o remount,bind,$flag /mnt 2>/dev/null && echo $flag; done; \
         mount -o remount,bind,rw /mnt/below 2>/dev/null && echo below; touch /mnt/x /mnt/below/x 2>&1; true",
    );
    let volume = bundle.scratch("volume");
    std::fs::create_dir(&volume).unwrap();
    let volume = volume.display();
    bundle.prelude(&format!(
        "mount -t tmpfs tmpfs {volume} && mkdir {volume}/below && mount -t tmpfs -o ro,mode=777 tmpfs {volume}/below && \
         chmod 777 {volume} && mount -o remount,bind,ro,nosuid,nodev,noexec {volume}"
    ));
    bundle
        .writable()
        .user_namespace(100_000)
        .all_capabilities()
        .mount(json!({"destination": "/mnt", "type": "bind", "source": volume.to_string(), "options": ["rbind"]}));
    let text = bundle.output();
    assert_eq!(text, "touch: /mnt/x: Read-only file system\ntouch: /mnt/below/x: Read-only file system");
}

#[test]
fn a_joined_user_namespace_has_the_maps_that_were_asked() {
    require!(is_root(), "root of the host");
    let mut first = Bundle::new();
    first.user_namespace(100_000).up();
    let path = format!("/proc/{}/ns/user", first.pid());
    let mut second = Bundle::sh("id -u; stat -c %u:%g /dev/mqueue /dev/shm; cat /proc/self/setgroups; id -G");
    second.user_namespace(100_000).no_namespace("user").namespace(json!({"type": "user", "path": path}));
    second.edit(|spec| spec["process"]["user"]["additionalGids"] = json!([5]));
    if is_orlop() {
        assert_eq!(second.output(), "0\n0:0\n0:0\nallow\n0 5");
    }
    second.edit(|spec| spec["linux"]["uidMappings"][0]["size"] = json!(7));
    second.create().fails_saying("linux.uidMappings");
    second.assert_gone();
    first.finish_off();
}

#[test]
fn more_lines_than_a_map_can_have_are_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.user_namespace(100_000);
    // 340 lines, and no more than a page of text (user_namespaces(7)).
    let lines =
        |count: u32| (0..count).map(|n| json!({"containerID": n, "hostID": 100_000 + 2 * n, "size": 1})).collect();
    bundle.edit(|spec| spec["linux"]["uidMappings"] = lines(200));
    bundle.run().ok();
    bundle.edit(|spec| spec["linux"]["uidMappings"] = lines(341));
    bundle.create().fails_saying("linux.uidMappings");
    bundle.assert_gone();
}

#[test]
fn groups_of_the_caller_are_kept_when_asked() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "run.oci.keep_original_groups");
    let mut bundle = Bundle::sh("id -G");
    bundle.prelude("set -- setpriv --groups 7,8 -- \"$@\"");
    assert_eq!(bundle.output(), "0");
    bundle.edit(|spec| spec["annotations"] = json!({"run.oci.keep_original_groups": "1"}));
    assert_eq!(bundle.output(), "0 7 8");
}

#[test]
fn a_host_that_allows_no_user_namespaces_is_named() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a hint at what forbids user namespaces");
    let outer = Outer::new();
    let mut bundle = nested(&outer);
    own_id(&mut bundle);
    // The number belongs to the user namespace that is to beget another.
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces";
    let mut command = Command::new("nsenter");
    let user = format!("--user=/proc/{}/ns/user", outer.0.id());
    assert!(command.args([&user, "--preserve-credentials", "sh", "-c", forbid]).status().unwrap().success());
    bundle.create().fails_with("user.max_user_namespaces");
    bundle.assert_gone();
}
