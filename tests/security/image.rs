//! Objects that the image brought: nodes, configuration of libraries, programs, trees to copy.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use crate::require;
use crate::support::is_root;
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
