//! The life of a container where system calls are missing: on an older kernel (ENOSYS), and below an engine whose filter
//! refuses what it does not know (EPERM). A seccomp filter around the runtime plays both (security.md T45).

use serde_json::json;

use crate::require;
use crate::support::filter::without;
use crate::support::outcome::Outcome;
use crate::support::{Bundle, is_orlop, is_root};

/// A bundle that uses what has fallbacks: flags, binds, a terminal's devices, masks, a read-only root.
fn ambitious() -> Bundle {
    let mut bundle = Bundle::sh(
        "echo in; touch /x 2>/dev/null || echo ro; cat /mnt/v/f; touch /mnt/v/g 2>/dev/null || echo ro; sleep 1000",
    );
    std::fs::create_dir(bundle.scratch("volume")).unwrap();
    std::fs::create_dir(bundle.rootfs("mnt/v")).unwrap();
    bundle.file("volume/f", "volume\n");
    let source = bundle.scratch("volume");
    bundle
        .mount(json!({"destination": "/mnt/v", "type": "bind", "source": source, "options": ["bind", "ro", "nosuid"]}));
    bundle
}

#[track_caller]
fn lives_without(calls: &[&str], errno: i32) {
    let bundle = ambitious();
    bundle.write();
    let run = |words: &[&str]| -> Outcome {
        let mut command = bundle.command(words);
        without(&mut command, calls, errno);
        bundle.finish(command)
    };
    let path = bundle.path().display().to_string();
    let created = run(&["create", "--bundle", &path, bundle.id()]).ok();
    run(&["start", bundle.id()]).ok();
    bundle.wait_for_status("running");
    let outcome = run(&["exec", bundle.id(), "sh", "-c", "cat /mnt/v/f; ls /proc/self/fd | wc -l"]).ok();
    assert_eq!(outcome.stdout, "volume\n4\n", "{outcome}");
    let said = created.stdout_path();
    crate::support::wait_until("the program has spoken", || {
        std::fs::read_to_string(&said).is_ok_and(|text| text.lines().count() == 4)
    });
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "in\nro\nvolume\nro\n");
    run(&["kill", bundle.id(), "KILL"]).ok();
    bundle.wait_for_status("stopped");
    run(&["delete", bundle.id()]).ok();
    bundle.assert_gone();
}

macro_rules! calls {
    ($($test:ident: [$($call:ident),*],)*) => {
        $(#[test]
        fn $test() {
            require!(is_root(), "root of the host");
            require!(is_orlop(), "a runtime of many roads");
            lives_without(&[$(stringify!($call)),*], libc::ENOSYS);
            lives_without(&[$(stringify!($call)),*], libc::EPERM);
        })*
    };
}

calls! {
    openat2: [openat2],
    clone3: [clone3],
    pidfd: [pidfd_open, pidfd_send_signal, pidfd_getfd],
    close_range: [close_range],
    mount_setattr: [mount_setattr],
    mount_api: [fsopen, fsconfig, fsmount, fspick, open_tree, move_mount, mount_setattr],
    statx: [statx],
    fchmodat2: [fchmodat2],
    faccessat2: [faccessat2],
    memfd_create: [memfd_create],
}

/// Before Linux 5.12 the runtime cannot lend its mounts: what the container's root may reach, init opens.
#[test]
fn binds_go_into_a_user_namespace() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime of many roads");
    let mut bundle = ambitious();
    bundle.user_namespace(100_000).args(&["cat", "/mnt/v/f"]).write();
    let api = ["fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "move_mount", "mount_setattr"];
    for calls in [&api[..], &["mount_setattr"]] {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let mut command = bundle.command(&bundle.with_bundle(&["run"]));
            without(&mut command, calls, errno);
            assert_eq!(bundle.finish(command).ok().stdout, "volume\n");
        }
    }
}

/// A kernel without keyrings is one thing; keyrings that we may not make are another, and there is a flag for it.
#[test]
fn keyctl() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime of many roads");
    lives_without(&["keyctl"], libc::ENOSYS);
    let bundle = Bundle::sh("echo in");
    bundle.write();
    let run = |flags: &[&str]| -> Outcome {
        let mut command = bundle.command(&bundle.with_bundle(&[&["run"], flags].concat()));
        without(&mut command, &["keyctl"], libc::EPERM);
        bundle.finish(command)
    };
    run(&[]).fails_with("create session keyring");
    assert_eq!(run(&["--no-new-keyring"]).ok().text(), "in");
}
