//! Containers without a mount namespace: their mounts are the host's for as long as they live, and not a moment longer.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::require;
use crate::support::leak::Left;
use crate::support::{Bundle, is_orlop, is_root, outcome, wait_until};

const ORLOP: &str = "a runtime that unmounts what it mounted on the host";

/// A container in the host's mount namespace, with what needs one of its own taken out.
fn on_the_host() -> Bundle {
    let mut bundle = Bundle::new();
    bundle.no_namespace("mount").writable().edit(|spec| {
        spec["linux"].as_object_mut().unwrap().remove("maskedPaths");
        spec["linux"].as_object_mut().unwrap().remove("readonlyPaths");
    });
    bundle
}

fn mounts(bundle: &Bundle) -> Vec<String> {
    Left::of(bundle.id()).mounts
}

/// What mountinfo says of the mount at `/`: its propagation is there.
fn host_root() -> String {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap().to_owned()
}

#[test]
fn mounts_on_the_host_go_with_the_container() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), ORLOP);
    let before = host_root();
    let mut bundle = on_the_host();
    bundle.up();
    assert_eq!(host_root(), before, "nobody's propagation is touched");
    let there = mounts(&bundle);
    for name in ["/proc", "/dev", "/dev/pts", "/sys"] {
        assert!(there.iter().any(|at| at.ends_with(&format!("rootfs{name}"))), "{name}: {there:?}");
    }
    assert_eq!(bundle.exec("cat /proc/1/comm; test -c /dev/null && ls / | grep -c home").ok().text(), "sleep\n1");
    bundle.finish_off();
    assert_eq!(mounts(&bundle), [""; 0]);
    assert_eq!(host_root(), before);
}

#[test]
fn mounts_on_the_host_go_when_create_fails() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), ORLOP);
    let mut bundle = on_the_host();
    bundle.args(&["/no/such/program"]).create().fails();
    assert_eq!(mounts(&bundle), [""; 0]);
    bundle.args(&["true"]).mount(json!({"destination": "/mnt", "type": "no-such-filesystem", "source": "none"}));
    bundle.create().fails_with("no-such-filesystem");
    assert_eq!(mounts(&bundle), [""; 0]);
}

#[test]
fn mounts_on_the_host_go_by_delete_when_create_was_killed() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), ORLOP);
    let mut bundle = on_the_host();
    let marker = bundle.scratch("hook-is-there");
    let script = format!("touch {0}; while [ -e {0} ]; do sleep 0.02; done", marker.display());
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]});
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [hook]})).write();
    let create = bundle.spawn(bundle.command(&bundle.with_bundle(&["create"])));
    wait_until("the hook", || marker.exists());
    create.signal(Signal::SIGKILL);
    assert_eq!(create.wait().code(), 137);
    std::fs::remove_file(&marker).unwrap();
    assert!(mounts(&bundle).len() > 3, "{:?}", mounts(&bundle));
    // Init dies of its parent's death, in its own time.
    wait_until("delete", || bundle.delete().status.success());
    assert_eq!(mounts(&bundle), [""; 0]);
    bundle.assert_gone();
}

/// A copy of a shared mount is a peer of it: unmounting below the copy would unmount below the source.
#[test]
fn the_sources_of_binds_stay_mounted() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), ORLOP);
    let mut bundle = on_the_host();
    let source = bundle.scratch("source");
    let (source, below) = (source.display().to_string(), source.join("below").display().to_string());
    let host = |words: &[&str]| drop(outcome::host(&bundle.scratch(""), words).ok());
    host(&["mkdir", &source]);
    host(&["mount", "-t", "tmpfs", "--make-shared", "none", &source]);
    host(&["mkdir", &below]);
    host(&["mount", "-t", "tmpfs", "none", &below]);
    let volume = json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"]});
    let inside = json!({"destination": "/mnt/inside", "type": "tmpfs", "source": "none"});
    bundle.mount(volume).mount(inside).args(&["grep", "-q", "/mnt/below ", "/proc/self/mountinfo"]);
    bundle.run().ok();
    assert_eq!(mounts(&bundle), [&source, &below].map(String::from));
    // What the container mounted was never seen at the source: only the directory is there.
    assert!(std::path::Path::new(&source).join("inside").is_dir());

    // A mount that is the host's own, below the root filesystem.
    let volume = bundle.rootfs("mnt").display().to_string();
    let host = |words: &[&str]| drop(outcome::host(&bundle.scratch(""), words).ok());
    host(&["mount", "--bind", &source, &volume]);
    bundle.run().fails_with("is mounted already");
    assert!(mounts(&bundle).contains(&volume));
    for place in [&volume, &below, &source] {
        host(&["umount", place]);
    }
}

#[test]
fn masks_need_a_mount_namespace() {
    require!(is_root(), "root of the host");
    for field in ["maskedPaths", "readonlyPaths"] {
        let mut bundle = on_the_host();
        bundle.edit(|spec| spec["linux"][field] = json!(["/proc/keys"]));
        let refused = bundle.create().fails();
        let said = refused.stderr.contains("unable to restrict sys entries without a private MNT namespace");
        assert!(!is_orlop() || said, "{refused}");
        assert_eq!(mounts(&bundle), [""; 0]);
    }
}
