//! Fakes: an image's `/dev/null`, console, procfs or masked path that is not what it says.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::is_root;
use crate::trap::Trap;

/// T15: CVE-2025-31133, CVE-2025-62161: the image's /dev/null is not what masks. runc 1.1.5 binds the hostname file, rw.
#[test]
fn t15_cve_2025_31133_masks_are_made_of_the_real_null() {
    require!(is_root(), "root of the host");
    for kind in ["link", "file", "fifo", "zero", "dir", "missing"] {
        let mut bundle =
            Trap::sh("stat -c '%F %t:%T' /proc/keys; cat /proc/keys | wc -c; grep /proc/keys /proc/self/mountinfo");
        bundle.without_dev();
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
        let mut bundle = Trap::new();
        symlink(bundle.canary.path().join("dir"), bundle.rootfs("masked")).unwrap();
        symlink("../../outside/target", bundle.rootfs("up")).unwrap();
        bundle.writable().edit(|spec| spec["linux"][field] = json!(["/masked", "/up", "/masked"]));
        bundle.survive();
    }
}

/// T18: CVE-2025-52565, CVE-2026-88264: dev/console of the image is a link. crun 1.8.1 makes the file on the host.
#[test]
fn t18_cve_2025_52565_the_console_is_a_link() {
    require!(is_root(), "root of the host");
    for target in ["../../outside/new", "absolute", "../../outside/target"] {
        let mut bundle = Trap::new();
        bundle.without_dev();
        let absolute = bundle.canary.path().join("new");
        symlink(
            if target == "absolute" { absolute.as_path() } else { Path::new(target) },
            bundle.rootfs("dev/console"),
        )
        .unwrap();
        bundle.edit(|spec| spec["process"]["terminal"] = json!(true)).write();
        let socket = crate::support::console::ConsoleSocket::at(bundle.scratch("console.sock"));
        bundle.call(&bundle.with_bundle(&["create", "--console-socket", socket.path().to_str().unwrap()]));
        bundle.delete_force();
    }
}

/// T19: CVE-2026-88265, runc#3674: /dev/null of the image is a link to a file of a bound directory.
/// runc 1.1.5 hands the payload a writable descriptor of it, crun 1.8.1 chowns it.
#[test]
fn t19_cve_2026_88265_null_leads_to_a_file_of_the_host() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::sh("for i in 0 1 2; do readlink /proc/self/fd/$i; done; echo overwritten >&0; true");
    bundle.without_dev();
    let source = bundle.canary.path().to_owned();
    bundle.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}));
    symlink("/mnt/target", bundle.rootfs("dev/null")).unwrap();
    bundle.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    bundle.survive();
}

/// T29: CVE-2026-115521: read-only without a mounted /proc, with a planted one.
#[test]
fn t29_cve_2026_115521_readonly_needs_no_proc_of_the_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Trap::sh("touch /x 2>&1; touch /mnt/x 2>&1; true");
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
