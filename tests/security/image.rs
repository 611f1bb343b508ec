//! Objects that the image brought: nodes, configuration of libraries, programs, trees to copy.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::require;
use crate::support::{is_orlop, is_root};
use crate::trap::Trap;

/// T31: a node that the image brought is the device it should be, or is replaced, or the start fails.
#[test]
fn t31_nodes_of_the_image_are_checked() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::sh("stat -c '%F %t:%T' /dev/zero /dev/urandom");
    bundle.without_dev();
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
    let mut bundle = Trap::sh("echo fine");
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

/// T53: what tmpcopyup copies is the thing itself, never what a link points to.
#[test]
fn t53_copy_up_copies_links_as_links() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::sh(
        "cat /data/secret 2>/dev/null; readlink /data/secret; test -p /data/pipe && echo pipe; stat -c %a /data/suid; true",
    );
    std::fs::create_dir(bundle.rootfs("data")).unwrap();
    symlink(bundle.canary.path().join("target"), bundle.rootfs("data/secret")).unwrap();
    nix::unistd::mkfifo(&bundle.rootfs("data/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(bundle.rootfs("data/suid"), "").unwrap();
    std::fs::set_permissions(bundle.rootfs("data/suid"), PermissionsExt::from_mode(0o4755)).unwrap();
    bundle.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    let outcome = bundle.run();
    assert!(!outcome.stdout.contains("canary"), "{outcome}");
    if outcome.status.success() {
        assert!(outcome.stdout.contains("/outside/target") && outcome.stdout.contains("4755"), "{outcome}");
    }
}

/// T31: what the image has at the place of a device is that device, or the start fails; links and directories do not lead
/// its owner or mode anywhere.
#[test]
fn t31_places_of_devices_are_traps() {
    require!(is_root(), "root of the host");
    for kind in ["link", "dangling", "directory", "file", "fifo", "block"] {
        let mut trap = Trap::sh("stat -c '%F %t:%T %a %u:%g' /dev/fuse");
        trap.without_dev();
        let place = trap.rootfs("dev/fuse");
        match kind {
            "link" => symlink("../../outside/target", &place).unwrap(),
            "dangling" => symlink("../../outside/new", &place).unwrap(),
            "directory" => std::fs::create_dir(&place).unwrap(),
            "file" => std::fs::write(&place, "").unwrap(),
            "fifo" => nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            _ => nix::sys::stat::mknod(
                &place,
                nix::sys::stat::SFlag::S_IFBLK,
                nix::sys::stat::Mode::S_IRWXU,
                nix::sys::stat::makedev(10, 229),
            )
            .unwrap(),
        }
        trap.edit(|spec| {
            spec["linux"]["devices"] =
                json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 33, "gid": 44}]);
        });
        trap.survive().said(|text| assert_eq!(text, "character special file a:e5 640 33:44\n", "{kind}"));
    }
}

/// T29, T51: a mount point that a read-only bind lacks is not made in the bind's source (crun 1.31).
#[test]
fn t29_no_mount_point_is_made_in_a_readonly_source() {
    require!(is_root(), "root of the host");
    for (kind, below) in [("tmpfs", "new"), ("tmpfs", "dir/new/er"), ("bind", "newfile")] {
        let mut trap = Trap::new();
        let volume = trap.canary.path().to_owned();
        let file = trap.file("file", "");
        trap.mount(json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["rbind", "ro"]}));
        let destination = format!("/mnt/{below}");
        trap.mount(match kind {
            "tmpfs" => json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}),
            _ => json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
        });
        trap.survive();
    }
}

/// T53: what tmpcopyup meets in an image can be of any size and shape.
#[test]
fn t53_copy_up_ends() {
    require!(is_root(), "root of the host");
    for (shape, seen) in [
        ("sparse", "regular file 1099511627776 thing"),
        ("deep", "directory"),
        ("circle", "symbolic link 2 thing"),
        ("device", "character special file 0 thing"),
    ] {
        let mut trap = Trap::sh("cd /data && stat -c '%F %s %n' thing; true");
        let data = trap.rootfs("data");
        std::fs::create_dir(&data).unwrap();
        match shape {
            "sparse" => {
                let file = std::fs::File::create(data.join("thing")).unwrap();
                file.set_len(1 << 40).unwrap();
            }
            "deep" => {
                let mut here = std::os::fd::OwnedFd::from(std::fs::File::open(&data).unwrap());
                for _ in 0..2_000 {
                    rustix::fs::mkdirat(&here, "thing", rustix::fs::Mode::RWXU).unwrap();
                    here = rustix::fs::openat(&here, "thing", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                        .unwrap();
                }
            }
            "circle" => symlink("..", data.join("thing")).unwrap(),
            _ => nix::sys::stat::mknod(
                &data.join("thing"),
                nix::sys::stat::SFlag::S_IFCHR,
                nix::sys::stat::Mode::S_IRWXU,
                nix::sys::stat::makedev(1, 5),
            )
            .unwrap(),
        }
        trap.mount(
            json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=64m"]}),
        );
        // Neither descriptors nor the stack are the image's to exhaust: with 10,000 levels it overflowed.
        trap.prelude("ulimit -n $(ulimit -Hn)");
        let life = trap.survive();
        life.said(|text| assert!(text.starts_with(seen), "{shape}: {text}"));
        let copied =
            if shape == "deep" { life.run.stderr.contains("1000 directories deep") } else { life.run.status.success() };
        assert!(!is_orlop() || copied, "{}", life.run);
        // Longer than a path may be: not for remove_dir_all.
        crate::support::outcome::host(&trap.scratch(""), &["rm", "-rf", data.to_str().unwrap()]).ok();
    }
}

/// T60: what stands at /etc/passwd and /etc/group is read within bounds, and only where it is a file.
#[test]
fn t60_files_that_are_read_end() {
    require!(is_root(), "root of the host");
    for kind in ["fifo", "zero", "directory", "link to a fifo", "link to a descriptor", "long line", "sparse", "circle"]
    {
        let mut trap = Trap::sh("echo $HOME");
        trap.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
        for name in ["etc/passwd", "etc/group"] {
            let place = trap.rootfs(name);
            std::fs::remove_file(&place).unwrap();
            match kind {
                "fifo" => nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                "zero" => nix::sys::stat::mknod(
                    &place,
                    nix::sys::stat::SFlag::S_IFCHR,
                    nix::sys::stat::Mode::all(),
                    nix::sys::stat::makedev(1, 5),
                )
                .unwrap(),
                "directory" => std::fs::create_dir(&place).unwrap(),
                "link to a fifo" => {
                    symlink("/pipe", &place).unwrap();
                    let _ = nix::unistd::mkfifo(&trap.rootfs("pipe"), nix::sys::stat::Mode::S_IRWXU);
                }
                "link to a descriptor" => symlink("/proc/self/fd/0", &place).unwrap(),
                "long line" => std::fs::write(&place, "x".repeat(20 << 20)).unwrap(),
                "sparse" => std::fs::File::create(&place).unwrap().set_len(1 << 40).unwrap(),
                _ => symlink("passwd", &place).unwrap(),
            }
        }
        trap.survive().said(|text| assert_eq!(text.trim(), "/", "{kind}"));
    }
}
