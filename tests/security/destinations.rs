//! Paths that lead out of the rootfs before the container's root is entered: `/dev`, destinations and sources of mounts.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::{is_root, mountinfo};
use crate::trap::{Plant, Trap};

/// T01: CVE-2026-41579, CVE-2026-47766. `/dev` of the image is a link to the host, or no directory at all.
#[test]
fn t01_cve_2026_41579_dev_is_a_link() {
    require!(is_root(), "root of the host");
    let links = ["../outside", "../outside/new", ".", "/"].map(Plant::Link);
    for plant in links.into_iter().chain([Plant::Out(""), Plant::File(b""), Plant::Fifo]) {
        let mut trap = Trap::new();
        trap.without_dev();
        trap.plant("dev", plant);
        trap.refused("/dev");
    }
}

/// T01, second half: a real /dev in which one entry is a link to the canary, a directory, or a FIFO.
#[test]
fn t01_cve_2026_47766_entries_of_dev_are_traps() {
    require!(is_root(), "root of the host");
    for entry in ["ptmx", "pts", "shm", "fd", "stdin", "core", "null", "console", "mqueue", "zero"] {
        for plant in [Plant::Out("target"), Plant::Directory, Plant::FullDirectory, Plant::Fifo] {
            let mut trap = Trap::new();
            trap.without_dev();
            trap.plant(&format!("dev/{entry}"), plant);
            trap.survive();
        }
    }
}

#[test]
fn t01_twin_a_real_dev_works() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("echo works > /dev/null && echo works");
    trap.without_dev();
    trap.works().said(|text| assert_eq!(text, "works\n"));
}

/// T02: CVE-2019-18837, moby#5656. The destination of a mount is a link out of the rootfs.
#[test]
fn t02_cve_2019_18837_destinations_are_links() {
    require!(is_root(), "root of the host");
    let all = [("tmpfs", ""), ("tmpfs", "/new/dir"), ("dir", ""), ("dir", "/new"), ("file", "/newfile"), ("proc", "")];
    for (target, kinds) in [
        ("absolute", &all[..]),
        ("../../../../../../outside/dir", &all[..]),
        ("../outside/dir", &all[1..2]),
        ("/outside/dir", &all[1..2]),
        ("loop", &all[1..2]),
        ("dangling", &all[..2]),
        ("dangling", &all[4..5]),
        ("long", &all[1..2]),
    ] {
        for (kind, below) in kinds {
            let mut trap = Trap::new();
            match target {
                "absolute" => symlink(trap.canary.path().join("dir"), trap.rootfs("m")).unwrap(),
                "loop" => symlink("m", trap.rootfs("m")).unwrap(),
                "dangling" => {
                    symlink("step", trap.rootfs("m")).unwrap();
                    symlink(trap.canary.path().join("new"), trap.rootfs("step")).unwrap();
                }
                "long" => {
                    // One link more than the kernel follows; the last leads out.
                    symlink("m1", trap.rootfs("m")).unwrap();
                    for at in 1..41 {
                        symlink(format!("m{}", at + 1), trap.rootfs(&format!("m{at}"))).unwrap();
                    }
                    symlink(trap.canary.path().join("dir"), trap.rootfs("m41")).unwrap();
                }
                _ => symlink(target, trap.rootfs("m")).unwrap(),
            }
            let destination = format!("/m{below}");
            let source = trap.scratch("volume");
            std::fs::create_dir(&source).unwrap();
            let file = trap.file("file", "x");
            trap.writable().mount(match *kind {
                "tmpfs" | "proc" => json!({"destination": destination, "type": kind, "source": kind}),
                "dir" => json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]}),
                _ => json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
            });
            trap.survive();
        }
    }
}

/// CVE-2015-3629: the payload plants the links, and the second container of the same rootfs meets them.
#[test]
fn t02_cve_2015_3629_the_second_start_meets_planted_links() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::new();
    std::fs::create_dir(trap.rootfs("m")).unwrap();
    let outside = trap.canary.path().join("dir");
    trap.writable().args(&["sh", "-c", &format!("rmdir /m && ln -s {} /m && echo planted", outside.display())]);
    assert_eq!(trap.output(), "planted");
    trap.mount(json!({"destination": "/m/deep", "type": "tmpfs", "source": "tmpfs"})).args(&["true"]);
    trap.survive();
}

/// T03: CVE-2021-30465, the deterministic form: a mounted volume holds the link that a later mount walks.
#[test]
fn t03_cve_2021_30465_a_volume_holds_the_link() {
    require!(is_root(), "root of the host");
    for target in
        ["/", "../../outside", "../../../../../../../outside", "/proc/self/cwd", "/proc/self/root", "/proc/1/root"]
    {
        let mut trap = Trap::new();
        trap.args(&["cat", "/proc/self/mountinfo"]);
        let volume = trap.scratch("volume");
        std::fs::create_dir(&volume).unwrap();
        symlink(target, volume.join("b")).unwrap();
        trap.writable().mount(json!({"destination": "/a", "type": "bind", "source": volume, "options": ["rbind"]}));
        trap.mount(json!({"destination": "/a/b/c", "type": "tmpfs", "source": "canarytmpfs"}));
        let outcome = trap.run();
        assert!(!volume.join("c").exists());
        if outcome.status.success() {
            let mounts = mountinfo::parse(&outcome.stdout);
            let ours = mounts.iter().find(|mount| mount.source == "canarytmpfs");
            assert!(ours.is_some(), "{target}: {outcome}");
        }
        trap.survive();
    }
}

/// T07: CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc and /sys are real directories or nothing.
#[test]
fn t07_cve_2019_19921_proc_and_sys_are_not_links() {
    require!(is_root(), "root of the host");
    for place in ["proc", "sys"] {
        for plant in
            [Plant::Link("/elsewhere"), Plant::Link("elsewhere/"), Plant::Out("dir"), Plant::File(b""), Plant::Fifo]
        {
            let mut trap = Trap::new();
            trap.writable();
            std::fs::create_dir(trap.rootfs("elsewhere")).unwrap();
            trap.plant(place, plant);
            trap.refused("");
        }
    }
}

/// T07: what the image has at the places of kernel files is not what gets written (CVE-2019-16884).
#[test]
fn t07_cve_2019_16884_a_planted_proc_is_not_written() {
    require!(is_root(), "root of the host");
    for mounted in [true, false] {
        let mut trap = Trap::sh("cat /proc/sys/net/ipv4/ip_forward");
        for name in ["proc/sys/net/ipv4/ip_forward", "proc/self/attr/exec", "proc/thread-self/attr/apparmor/exec"] {
            trap.plant(name, Plant::File(b"planted"));
        }
        if !mounted {
            trap.without_proc();
        }
        trap.writable().edit(|spec| spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
        trap.survive().said(|text| assert_eq!(text.trim(), if mounted { "1" } else { "planted" }));
        for name in ["proc/sys/net/ipv4/ip_forward", "proc/self/attr/exec", "proc/thread-self/attr/apparmor/exec"] {
            assert_eq!(std::fs::read_to_string(trap.rootfs(name)).unwrap(), "planted", "{name}");
        }
    }
}

/// T08: CVE-2015-3631, CVE-2025-52881: a destination that resolves into /proc. runc 1.1.5 and crun 1.8.1 mount there.
#[test]
fn t08_cve_2025_52881_destinations_that_lead_into_proc() {
    require!(is_root(), "root of the host");
    for target in ["/proc/sys", "/proc/self/attr", "../../proc/sys", "/proc/1/../sys", "proc/thread-self/attr/exec"] {
        for kind in ["tmpfs", "bind"] {
            let mut trap = Trap::sh("ls /proc/sys");
            symlink(target, trap.rootfs("p")).unwrap();
            let file = trap.file("file", "forged");
            trap.writable().mount(match kind {
                "tmpfs" => json!({"destination": "/p", "type": "tmpfs", "source": "tmpfs"}),
                _ => json!({"destination": "/p", "type": "bind", "source": file, "options": ["bind"]}),
            });
            trap.refused("");
        }
    }
}

#[test]
fn t08_twin_files_of_lxcfs_may_be_covered() {
    require!(is_root(), "root of the host");
    let files =
        "cpuinfo diskstats loadavg meminfo slabinfo stat swaps uptime sys/kernel/ns_last_pid sys/crypto/fips_enabled";
    let places: Vec<_> =
        files.split(' ').map(|name| format!("/proc/{name}")).filter(|at| Path::new(at).exists()).collect();
    assert!(places.len() > 7, "{places:?}");
    let mut trap = Trap::sh(&format!("cat {}", places.join(" ")));
    let file = trap.file("forged", "1.00 2.00\n");
    for at in &places {
        trap.mount(json!({"destination": at, "type": "bind", "source": file, "options": ["bind", "ro"]}));
    }
    trap.works().said(|text| assert_eq!(text, "1.00 2.00\n".repeat(places.len())));
}

/// T09: what means the root itself is refused or defined; no later mount lands beside it (crun 1.28).
#[test]
fn t09_destinations_that_are_the_root() {
    require!(is_root(), "root of the host");
    for destination in ["/", ".", "/..", "//", "/mnt/..", ""] {
        let mut trap = Trap::sh("cat /proc/self/mountinfo");
        trap.mount(json!({"destination": destination, "type": "tmpfs", "source": "overroot"}));
        trap.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "later"}));
        trap.survive();
        // A root that still works, so that the payload can say where the later mount is.
        let rootfs = trap.rootfs("");
        trap.edit(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            let over = mounts.iter_mut().find(|mount| mount["source"] == "overroot").unwrap();
            *over = json!({"destination": destination, "type": "bind", "source": rootfs, "options": ["rbind"]});
        });
        trap.survive().said(|text| {
            let mounts = mountinfo::parse(text);
            assert!(
                mounts.iter().any(|mount| mount.source == "later" && mount.at == "/mnt"),
                "{destination:?}: {text}"
            );
        });
    }
}

/// The root filesystem is a link itself: Incus and LXD in 2026 (CVE-2026-33711, CVE-2026-66897 and their kin).
#[test]
fn t02_cve_2026_33711_the_rootfs_is_a_link() {
    require!(is_root(), "root of the host");
    for target in ["outside", "absolute", "rootfs.real/../outside"] {
        let mut trap = Trap::new();
        let rootfs = trap.path().join("rootfs");
        std::fs::rename(&rootfs, trap.path().join("rootfs.real")).unwrap();
        let absolute = trap.canary.path().to_owned();
        symlink(if target == "absolute" { absolute.as_path() } else { Path::new(target) }, &rootfs).unwrap();
        trap.refused("root.path");
    }
    let mut trap = Trap::new();
    std::fs::rename(trap.rootfs(""), trap.path().join("rootfs.real")).unwrap();
    symlink("outside", trap.path().join("rootfs")).unwrap();
    trap.edit(|spec| spec["root"]["path"] = json!("rootfs/")).writable();
    trap.refused("root.path");
}

/// T10: a magic link is a good source: Kubernetes' answer to CVE-2021-25741.
#[test]
fn t10_cve_2021_25741_a_source_may_be_a_magic_link() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("cat /mnt/x");
    let file = trap.file("secret", "through the descriptor");
    let open = std::fs::File::open(&file).unwrap();
    let source = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&open));
    trap.writable()
        .mount(json!({"destination": "/mnt/x", "type": "bind", "source": source, "options": ["bind", "ro"]}));
    trap.works().said(|text| assert_eq!(text, "through the descriptor"));
    // The file that was opened, whatever has its name by now.
    std::fs::rename(&file, trap.scratch("moved")).unwrap();
    trap.file("secret", "swapped");
    trap.works().said(|text| assert_eq!(text, "through the descriptor"));
    drop(open);
    trap.refused(&source);
}
