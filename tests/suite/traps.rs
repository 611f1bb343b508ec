//! Traps from the history of container runtimes (security.md 1G): each with its number there, and the CVE that taught it.
//!
//! Each trap was seen to spring: which of Debian's runc 1.1.5 and crun 1.8.1 is caught is a row in
//! `tests/expected_differences.toml`. A canary tree beside the bundle betrays every touch, also of a command that failed.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::canary::Canary;
use crate::support::mountinfo;
use crate::support::{Bundle, is_root};

/// Runs the whole life of a container, whatever comes of it, and looks at the canary after each step.
#[track_caller]
fn survive(bundle: &mut Bundle, canary: &Canary) {
    for detached in [false, true] {
        if detached {
            bundle.create();
            canary.assert_untouched();
            bundle.start();
            canary.assert_untouched();
            bundle.exec("true");
        } else {
            bundle.run();
        }
        canary.assert_untouched();
        bundle.delete_force();
        canary.assert_untouched();
    }
}

fn canary(bundle: &Bundle) -> Canary {
    // Beside the rootfs, where `../../outside` of a link in the rootfs leads.
    Canary::plant(bundle.path().join("outside"))
}

fn no_dev(bundle: &mut Bundle) {
    for place in ["/dev/shm", "/dev/pts", "/dev/mqueue", "/dev"] {
        bundle.no_mount(place);
    }
    bundle.writable();
}

/// T01: CVE-2026-41579, CVE-2026-47766. `/dev` of the image is a link to the host; both peers here are caught.
#[test]
fn t01_dev_is_a_link() {
    require!(is_root(), "root of the host");
    for how in ["relative", "absolute"] {
        let mut bundle = Bundle::new();
        let canary = canary(&bundle);
        no_dev(&mut bundle);
        std::fs::remove_dir(bundle.rootfs("dev")).unwrap();
        let target = if how == "relative" { Path::new("../outside") } else { canary.path() };
        symlink(target, bundle.rootfs("dev")).unwrap();
        survive(&mut bundle, &canary);
    }
}

/// T01, second half: a real /dev in which one entry is a link to the canary.
#[test]
fn t01_entries_of_dev_are_links() {
    require!(is_root(), "root of the host");
    for entry in ["ptmx", "fd", "stdin", "core", "null", "console", "zero"] {
        let mut bundle = Bundle::new();
        let canary = canary(&bundle);
        no_dev(&mut bundle);
        symlink(canary.path().join("target"), bundle.rootfs("dev").join(entry)).unwrap();
        survive(&mut bundle, &canary);
    }
}

#[test]
fn t01_twin_a_real_dev_works() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("echo works > /dev/null && echo works");
    let canary = canary(&bundle);
    no_dev(&mut bundle);
    assert_eq!(bundle.output(), "works");
    canary.assert_untouched();
}

/// T02: CVE-2019-18837, moby#5656. The destination of a mount is a link out of the rootfs.
#[test]
fn t02_destinations_are_links() {
    require!(is_root(), "root of the host");
    for target in ["../../outside/dir", "../../../../../../outside/dir", "/outside/dir", "absolute", "loop"] {
        for (kind, below) in [("tmpfs", ""), ("tmpfs", "/new/dir"), ("dir", ""), ("dir", "/new"), ("file", "/newfile")]
        {
            let mut bundle = Bundle::new();
            let canary = canary(&bundle);
            match target {
                "absolute" => symlink(canary.path().join("dir"), bundle.rootfs("m")).unwrap(),
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
            survive(&mut bundle, &canary);
        }
    }
}

/// CVE-2015-3629: the payload plants the links, and the second container of the same rootfs meets them.
#[test]
fn t02_the_second_start_meets_planted_links() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let canary = canary(&bundle);
    std::fs::create_dir(bundle.rootfs("m")).unwrap();
    let outside = canary.path().join("dir");
    bundle.writable().args(&["sh", "-c", &format!("rmdir /m && ln -s {} /m && echo planted", outside.display())]);
    assert_eq!(bundle.output(), "planted");
    bundle.mount(json!({"destination": "/m/deep", "type": "tmpfs", "source": "tmpfs"})).args(&["true"]);
    survive(&mut bundle, &canary);
}

/// T03: CVE-2021-30465, the deterministic form: a mounted volume holds the link that a later mount walks.
#[test]
fn t03_a_volume_holds_the_link() {
    require!(is_root(), "root of the host");
    for target in
        ["/", "../../outside", "../../../../../../../outside", "/proc/self/cwd", "/proc/self/root", "/proc/1/root"]
    {
        let mut bundle = Bundle::new();
        bundle.args(&["cat", "/proc/self/mountinfo"]);
        let canary = canary(&bundle);
        let volume = bundle.scratch("volume");
        std::fs::create_dir(&volume).unwrap();
        symlink(target, volume.join("b")).unwrap();
        bundle.writable().mount(json!({"destination": "/a", "type": "bind", "source": volume, "options": ["rbind"]}));
        bundle.mount(json!({"destination": "/a/b/c", "type": "tmpfs", "source": "canarytmpfs"}));
        let outcome = bundle.run();
        canary.assert_untouched();
        assert!(!volume.join("c").exists());
        if outcome.status.success() {
            let mounts = mountinfo::parse(&outcome.stdout);
            let ours = mounts.iter().find(|mount| mount.source == "canarytmpfs");
            assert!(ours.is_some(), "{target}: {outcome}");
        }
        survive(&mut bundle, &canary);
    }
}

/// T07: CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc and /sys are real directories or nothing.
#[test]
fn t07_proc_and_sys_are_not_links() {
    require!(is_root(), "root of the host");
    for place in ["proc", "sys"] {
        for kind in ["link", "file", "fifo"] {
            let bundle = Bundle::new();
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
fn t08_destinations_that_lead_into_proc() {
    require!(is_root(), "root of the host");
    for target in ["/proc/sys", "/proc/self/attr", "../../proc/sys", "/proc/1/../sys"] {
        let mut bundle = Bundle::sh("ls /proc/sys");
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
        let mut bundle = Bundle::new();
        let canary = canary(&bundle);
        bundle.mount(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}));
        bundle.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}));
        survive(&mut bundle, &canary);
    }
}

/// T10: a magic link is a good source: Kubernetes' answer to CVE-2021-25741.
#[test]
fn t10_a_source_may_be_a_magic_link() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/x");
    let file = bundle.file("secret", "through the descriptor");
    let open = std::fs::File::open(&file).unwrap();
    let source = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&open));
    bundle
        .writable()
        .mount(json!({"destination": "/mnt/x", "type": "bind", "source": source, "options": ["bind", "ro"]}));
    assert_eq!(bundle.output(), "through the descriptor");
}

/// T11: CVE-2024-21626: the working directory is a descriptor that leaked.
#[test]
fn t11_the_working_directory_stays_inside() {
    require!(is_root(), "root of the host");
    let script = "pwd; ls -d ../../../../../../../../etc/debian_version 2>/dev/null; true";
    for fd in 3..16 {
        let mut bundle = Bundle::sh(script);
        bundle.edit(|spec| spec["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}")));
        let outcome = bundle.run();
        assert!(!outcome.stdout.contains("debian_version"), "on the host: {outcome}");
        assert!(!outcome.status.success() || outcome.stdout.starts_with('/'), "outside of the root: {outcome}");
    }
    let mut bundle = Bundle::new();
    for (name, target) in [("fd7", "/proc/self/fd/7"), ("cwd1", "/proc/1/cwd"), ("up", "/proc/self/root/..")] {
        symlink(target, bundle.rootfs(name)).unwrap();
    }
    bundle.up();
    for cwd in ["/fd7", "/cwd1", "/up", "/proc/self/fd/8", "/proc/self/fd/3"] {
        let outcome = bundle.exec_with(&["--cwd", cwd], &["sh", "-c", script]);
        assert!(!outcome.stdout.contains("debian_version"), "{outcome}");
    }
    bundle.finish_off();
}

/// T14: CVE-2019-5736: the container runs the runtime's own binary and then writes to it.
#[test]
fn t14_the_binary_cannot_be_overwritten() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    // A copy of the runtime, so that a success does no harm.
    let copy = bundle.scratch("runtime");
    std::fs::copy(crate::support::binary(), &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let meta = |path: &Path| {
        std::fs::metadata(path).map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size())).unwrap()
    };
    let facts = meta(&copy);
    std::fs::write(bundle.rootfs("bin/self"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(bundle.rootfs("bin/self"), PermissionsExt::from_mode(0o755)).unwrap();
    // For two seconds: whoever's /proc/PID/exe is the runtime is opened for writing.
    let attack = "end=$(($(date +%s)+2)); while [ $(date +%s) -lt $end ]; do for p in /proc/[0-9]*; do \
        case $(readlink $p/exe) in *busybox*) ;; *) (echo overwritten > $p/exe) 2>/dev/null && echo HIT;; esac; done; done";
    bundle.all_capabilities().writable().args(&["sh", "-c", attack]).write();
    let running = bundle.spawn(bundle.command_of(&copy, &bundle.with_bundle(&["run"])));
    std::thread::sleep(std::time::Duration::from_millis(200));
    for args in [&["/proc/self/exe"][..], &["/bin/self"]] {
        for _ in 0..10 {
            let mut words = vec!["exec", bundle.id()];
            words.extend(args);
            bundle.finish(bundle.command_of(&copy, &words));
        }
    }
    let outcome = running.wait();
    assert!(std::fs::read(&copy).unwrap() == before, "the runtime was overwritten: {outcome}");
    assert_eq!(meta(&copy), facts, "{outcome}");
}

/// T15: CVE-2025-31133, CVE-2025-62161: the image's /dev/null is not what masks. runc 1.1.5 binds the hostname file, rw.
#[test]
fn t15_masks_are_made_of_the_real_null() {
    require!(is_root(), "root of the host");
    for kind in ["link", "file", "fifo", "zero", "dir", "missing"] {
        let mut bundle =
            Bundle::sh("stat -c '%F %t:%T' /proc/keys; cat /proc/keys | wc -c; grep /proc/keys /proc/self/mountinfo");
        no_dev(&mut bundle);
        let null = bundle.rootfs("dev/null");
        match kind {
            "link" => symlink("/proc/sys/kernel/hostname", &null).unwrap(),
            "file" => std::fs::write(&null, "fake").unwrap(),
            "fifo" => nix::unistd::mkfifo(&null, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "zero" => nix::sys::stat::mknod(
                &null,
                nix::sys::stat::SFlag::S_IFCHR,
                nix::sys::stat::Mode::S_IRWXU,
                nix::sys::stat::makedev(1, 5),
            )
            .unwrap(),
            "dir" => std::fs::create_dir(&null).unwrap(),
            _ => {}
        }
        bundle.edit(|spec| spec["linux"]["maskedPaths"] = json!(["/proc/keys"]));
        let outcome = bundle.run();
        if outcome.status.success() {
            assert!(outcome.stdout.starts_with("character special file 1:3\n0\n"), "{kind}: {outcome}");
        }
        bundle.assert_gone();
    }
}

/// T16: a masked path that is a link of the image is not a way out.
#[test]
fn t16_masked_and_readonly_paths_are_links() {
    require!(is_root(), "root of the host");
    for field in ["maskedPaths", "readonlyPaths"] {
        let mut bundle = Bundle::new();
        let canary = canary(&bundle);
        symlink(canary.path().join("dir"), bundle.rootfs("masked")).unwrap();
        symlink("../../outside/target", bundle.rootfs("up")).unwrap();
        bundle.writable().edit(|spec| spec["linux"][field] = json!(["/masked", "/up", "/masked"]));
        survive(&mut bundle, &canary);
    }
}

/// T18: CVE-2025-52565, CVE-2026-88264: dev/console of the image is a link. crun 1.8.1 makes the file on the host.
#[test]
fn t18_the_console_is_a_link() {
    require!(is_root(), "root of the host");
    for target in ["../../outside/new", "absolute", "../../outside/target"] {
        let mut bundle = Bundle::new();
        let canary = canary(&bundle);
        no_dev(&mut bundle);
        let absolute = canary.path().join("new");
        symlink(
            if target == "absolute" { absolute.as_path() } else { Path::new(target) },
            bundle.rootfs("dev/console"),
        )
        .unwrap();
        bundle.edit(|spec| spec["process"]["terminal"] = json!(true)).write();
        let socket = crate::support::console::ConsoleSocket::at(bundle.scratch("console.sock"));
        bundle.call(&bundle.with_bundle(&["create", "--console-socket", socket.path().to_str().unwrap()]));
        canary.assert_untouched();
        bundle.delete_force();
        canary.assert_untouched();
    }
}

/// T19: CVE-2026-88265, runc#3674: /dev/null of the image is a link to a file of a bound directory.
/// runc 1.1.5 hands the payload a writable descriptor of it, crun 1.8.1 chowns it.
#[test]
fn t19_null_leads_to_a_file_of_the_host() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("for i in 0 1 2; do readlink /proc/self/fd/$i; done; echo overwritten >&0; true");
    let canary = canary(&bundle);
    no_dev(&mut bundle);
    bundle.mount(json!({"destination": "/mnt", "type": "bind", "source": canary.path(), "options": ["bind"]}));
    symlink("/mnt/target", bundle.rootfs("dev/null")).unwrap();
    bundle.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    survive(&mut bundle, &canary);
}

/// T29: CVE-2026-115521: read-only without a mounted /proc, with a planted one.
#[test]
fn t29_readonly_needs_no_proc_of_the_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("touch /x 2>&1; touch /mnt/x 2>&1; true");
    bundle.no_mount("/proc");
    let from = bundle.scratch("volume");
    std::fs::create_dir(&from).unwrap();
    bundle.mount(json!({"destination": "/mnt", "type": "bind", "source": from, "options": ["bind", "ro"]}));
    bundle.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    std::fs::create_dir_all(bundle.rootfs("proc/self/fd")).unwrap();
    for fd in 3..64 {
        symlink("/tmp", bundle.rootfs(&format!("proc/self/fd/{fd}"))).unwrap();
    }
    let text = bundle.output();
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
}

/// T31: a node that the image brought is the device it should be, or is replaced, or the start fails.
#[test]
fn t31_nodes_of_the_image_are_checked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c '%F %t:%T' /dev/zero /dev/urandom");
    no_dev(&mut bundle);
    nix::sys::stat::mknod(
        &bundle.rootfs("dev/zero"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::S_IRWXU,
        nix::sys::stat::makedev(1, 1),
    )
    .unwrap();
    std::fs::write(bundle.rootfs("dev/urandom"), "not random").unwrap();
    let outcome = bundle.run();
    if outcome.status.success() {
        assert_eq!(outcome.text(), "character special file 1:5\ncharacter special file 1:9", "{outcome}");
    }
}

/// T36, T41, T60: nothing of the image is run or read that could hang or load something.
#[test]
fn t36_files_of_the_image_do_not_catch_the_runtime() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("echo fine");
    for name in ["etc/passwd", "etc/group", "etc/localtime", "etc/nsswitch.conf", "etc/ld.so.preload"] {
        let _ = std::fs::remove_file(bundle.rootfs(name));
        nix::unistd::mkfifo(&bundle.rootfs(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    for name in ["newuidmap", "newgidmap", "criu", "systemd-run"] {
        std::fs::write(bundle.rootfs(&format!("bin/{name}")), "#!/bin/sh\ntouch /caught\n").unwrap();
        std::fs::set_permissions(bundle.rootfs(&format!("bin/{name}")), PermissionsExt::from_mode(0o777)).unwrap();
    }
    bundle.user_namespace(100_000);
    let outcome = bundle.run();
    assert!(!bundle.rootfs("caught").exists());
    // A refusal is an answer; to hang on a FIFO is not.
    assert!(outcome.text() == "fine" || !outcome.status.success(), "{outcome}");
}

/// T40: ids and links in the state directory.
#[test]
fn t40_the_state_folder_is_a_link() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::new();
    let canary = canary(&bundle);
    std::fs::create_dir(bundle.state_root()).unwrap();
    let entry = bundle.state_root().join(bundle.id());
    symlink(canary.path(), &entry).unwrap();
    bundle.create();
    canary.assert_untouched();
    bundle.delete_force();
    canary.assert_untouched();
    let _ = std::fs::remove_file(&entry);
}

/// T53: what tmpcopyup copies is the thing itself, never what a link points to.
#[test]
fn t53_copy_up_copies_links_as_links() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "cat /data/secret 2>/dev/null; readlink /data/secret; test -p /data/pipe && echo pipe; stat -c %a /data/suid; true",
    );
    let canary = canary(&bundle);
    std::fs::create_dir(bundle.rootfs("data")).unwrap();
    symlink(canary.path().join("target"), bundle.rootfs("data/secret")).unwrap();
    nix::unistd::mkfifo(&bundle.rootfs("data/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(bundle.rootfs("data/suid"), "").unwrap();
    std::fs::set_permissions(bundle.rootfs("data/suid"), PermissionsExt::from_mode(0o4755)).unwrap();
    bundle.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    let outcome = bundle.run();
    assert!(!outcome.stdout.contains("canary"), "{outcome}");
    if outcome.status.success() {
        assert!(outcome.stdout.contains("/outside/target") && outcome.stdout.contains("4755"), "{outcome}");
    }
    canary.assert_untouched();
}

/// T57: the fifo is not in sight, and start works once.
#[test]
fn t57_the_fifo_is_the_runtimes_own() {
    require!(is_root(), "root of the host");
    let mut bundle =
        Bundle::sh("find / -xdev -type p 2>/dev/null; ls -l /proc/1/fd | grep -c -e fifo -e state; sleep 1000");
    bundle.args(&["sleep", "1000"]).create().ok();
    bundle.start().ok();
    bundle.wait_for_status("running");
    bundle.start().fails();
    assert_eq!(
        bundle
            .exec("find / -xdev -type p 2>/dev/null | wc -l; ls -l /proc/1/fd | grep -c -e fifo -e state; true")
            .ok()
            .stdout,
        "0\n0\n"
    );
    bundle.finish_off();
}
