//! Paths that lead out of the rootfs before the container's root is entered: `/dev`, destinations and sources of mounts.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::{is_root, mountinfo};
use crate::trap::Trap;

/// T01: CVE-2026-41579, CVE-2026-47766. `/dev` of the image is a link to the host; both peers here are caught.
#[test]
fn t01_cve_2026_41579_dev_is_a_link() {
    require!(is_root(), "root of the host");
    for how in ["relative", "absolute"] {
        let mut bundle = Trap::new();
        bundle.without_dev();
        std::fs::remove_dir(bundle.rootfs("dev")).unwrap();
        let target = if how == "relative" { Path::new("../outside") } else { bundle.canary.path() };
        symlink(target, bundle.rootfs("dev")).unwrap();
        bundle.survive();
    }
}

/// T01, second half: a real /dev in which one entry is a link to the canary.
#[test]
fn t01_cve_2026_47766_entries_of_dev_are_traps() {
    require!(is_root(), "root of the host");
    for entry in ["ptmx", "fd", "stdin", "core", "null", "console", "zero"] {
        let mut bundle = Trap::new();
        bundle.without_dev();
        symlink(bundle.canary.path().join("target"), bundle.rootfs("dev").join(entry)).unwrap();
        bundle.survive();
    }
}

#[test]
fn t01_twin_a_real_dev_works() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::sh("echo works > /dev/null && echo works");
    bundle.without_dev();
    assert_eq!(bundle.output(), "works");
}

/// T02: CVE-2019-18837, moby#5656. The destination of a mount is a link out of the rootfs.
#[test]
fn t02_cve_2019_18837_destinations_are_links() {
    require!(is_root(), "root of the host");
    for target in ["../../outside/dir", "../../../../../../outside/dir", "/outside/dir", "absolute", "loop"] {
        for (kind, below) in [("tmpfs", ""), ("tmpfs", "/new/dir"), ("dir", ""), ("dir", "/new"), ("file", "/newfile")]
        {
            let mut bundle = Trap::new();
            match target {
                "absolute" => symlink(bundle.canary.path().join("dir"), bundle.rootfs("m")).unwrap(),
                "loop" => symlink("m", bundle.rootfs("m")).unwrap(),
                _ => symlink(target, bundle.rootfs("m")).unwrap(),
            }
            let destination = format!("/m{below}");
            let source = bundle.scratch("volume");
            std::fs::create_dir(&source).unwrap();
            let file = bundle.file("file", "x");
            bundle.writable().mount(match kind {
                "tmpfs" => json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}),
                "dir" => json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}),
                _ => json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
            });
            bundle.survive();
        }
    }
}

/// CVE-2015-3629: the payload plants the links, and the second container of the same rootfs meets them.
#[test]
fn t02_cve_2015_3629_the_second_start_meets_planted_links() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::new();
    std::fs::create_dir(bundle.rootfs("m")).unwrap();
    let outside = bundle.canary.path().join("dir");
    bundle.writable().args(&["sh", "-c", &format!("rmdir /m && ln -s {} /m && echo planted", outside.display())]);
    assert_eq!(bundle.output(), "planted");
    bundle.mount(json!({"destination": "/m/deep", "type": "tmpfs", "source": "tmpfs"})).args(&["true"]);
    bundle.survive();
}

/// T03: CVE-2021-30465, the deterministic form: a mounted volume holds the link that a later mount walks.
#[test]
fn t03_cve_2021_30465_a_volume_holds_the_link() {
    require!(is_root(), "root of the host");
    for target in
        ["/", "../../outside", "../../../../../../../outside", "/proc/self/cwd", "/proc/self/root", "/proc/1/root"]
    {
        let mut bundle = Trap::new();
        bundle.args(&["cat", "/proc/self/mountinfo"]);
        let volume = bundle.scratch("volume");
        std::fs::create_dir(&volume).unwrap();
        symlink(target, volume.join("b")).unwrap();
        bundle.writable().mount(json!({"destination": "/a", "type": "bind", "source": volume, "options": ["rbind"]}));
        bundle.mount(json!({"destination": "/a/b/c", "type": "tmpfs", "source": "canarytmpfs"}));
        let outcome = bundle.run();
        assert!(!volume.join("c").exists());
        if outcome.status.success() {
            let mounts = mountinfo::parse(&outcome.stdout);
            let ours = mounts.iter().find(|mount| mount.source == "canarytmpfs");
            assert!(ours.is_some(), "{target}: {outcome}");
        }
        bundle.survive();
    }
}

/// T07: CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc and /sys are real directories or nothing.
#[test]
fn t07_cve_2019_19921_proc_and_sys_are_not_links() {
    require!(is_root(), "root of the host");
    for place in ["proc", "sys"] {
        for kind in ["link", "file", "fifo"] {
            let bundle = Trap::new();
            std::fs::remove_dir(bundle.rootfs(place)).unwrap();
            std::fs::create_dir(bundle.rootfs("elsewhere")).unwrap();
            match kind {
                "link" => symlink("/elsewhere", bundle.rootfs(place)).unwrap(),
                "file" => std::fs::write(bundle.rootfs(place), "").unwrap(),
                _ => nix::unistd::mkfifo(&bundle.rootfs(place), nix::sys::stat::Mode::S_IRWXU).unwrap(),
            }
            bundle.create().fails();
            bundle.assert_gone();
        }
    }
}

/// T08: CVE-2015-3631, CVE-2025-52881: a destination that resolves into /proc. runc 1.1.5 and crun 1.8.1 mount there.
#[test]
fn t08_cve_2025_52881_destinations_that_lead_into_proc() {
    require!(is_root(), "root of the host");
    for target in ["/proc/sys", "/proc/self/attr", "../../proc/sys", "/proc/1/../sys"] {
        let mut bundle = Trap::sh("ls /proc/sys");
        symlink(target, bundle.rootfs("p")).unwrap();
        bundle.writable().mount(json!({"destination": "/p", "type": "tmpfs", "source": "tmpfs"}));
        bundle.run().fails();
        bundle.assert_gone();
    }
}

/// T09: what means the root itself is refused or defined; no later mount lands beside it.
#[test]
fn t09_destinations_that_are_the_root() {
    require!(is_root(), "root of the host");
    for destination in ["/", ".", "/..", "//", "/mnt/..", ""] {
        let mut bundle = Trap::new();
        bundle.mount(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}));
        bundle.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
        bundle.survive();
    }
}

/// T10: a magic link is a good source: Kubernetes' answer to CVE-2021-25741.
#[test]
fn t10_cve_2021_25741_a_source_may_be_a_magic_link() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::sh("cat /mnt/x");
    let file = bundle.file("secret", "through the descriptor");
    let open = std::fs::File::open(&file).unwrap();
    let source = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&open));
    bundle
        .writable()
        .mount(json!({"destination": "/mnt/x", "type": "bind", "source": source, "options": ["bind", "ro"]}));
    assert_eq!(bundle.output(), "through the descriptor");
}
