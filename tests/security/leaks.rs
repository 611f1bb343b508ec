//! What leaks in, and what the container can do with the runtime's own binary.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::{is_orlop, is_root};
use crate::trap::Trap;

/// T11: CVE-2024-21626: the working directory is a descriptor that leaked.
#[test]
fn t11_cve_2024_21626_the_working_directory_stays_inside() {
    require!(is_root(), "root of the host");
    let script = "pwd; ls -d ../../../../../../../../etc/debian_version 2>/dev/null; true";
    for fd in 3..16 {
        let mut trap = Trap::sh(script);
        trap.edit(|spec| spec["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}")));
        let outcome = trap.run();
        assert!(!outcome.stdout.contains("debian_version"), "on the host: {outcome}");
        assert!(!outcome.status.success() || outcome.stdout.starts_with('/'), "outside of the root: {outcome}");
    }
    let mut trap = Trap::new();
    for (name, target) in [("fd7", "/proc/self/fd/7"), ("cwd1", "/proc/1/cwd"), ("up", "/proc/self/root/..")] {
        symlink(target, trap.rootfs(name)).unwrap();
    }
    trap.up();
    for cwd in ["/fd7", "/cwd1", "/up", "/proc/self/fd/8", "/proc/self/fd/3"] {
        let outcome = trap.exec_with(&["--cwd", cwd], &["sh", "-c", script]);
        assert!(!outcome.stdout.contains("debian_version"), "{outcome}");
    }
    trap.finish_off();
}

/// T14: CVE-2019-5736: the container runs the runtime's own binary and then writes to it.
#[test]
fn t14_cve_2019_5736_the_binary_cannot_be_overwritten() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::new();
    // A copy of the runtime, so that a success does no harm.
    let copy = trap.scratch("runtime");
    std::fs::copy(crate::support::binary(), &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let meta = |path: &Path| {
        std::fs::metadata(path).map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size())).unwrap()
    };
    let facts = meta(&copy);
    std::fs::write(trap.rootfs("bin/self"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(trap.rootfs("bin/self"), PermissionsExt::from_mode(0o755)).unwrap();
    // The file of whoever runs the runtime is held open, and for three seconds opened again for writing: that succeeds once
    // the last process that executes it has ended, so the container is detached.
    let attack = "end=$(($(date +%s)+3)); while [ $(date +%s) -lt $end ] && [ ! -e /tmp/caught ]; do for p in /proc/[0-9]*; do \
        case $(readlink $p/exe) in *busybox*|'') ;; *) ( exec 9<$p/exe; echo $p > /tmp/caught; while [ $(date +%s) -lt $end ]; do \
        true >> /proc/self/fd/9 && echo overwritten > /proc/self/fd/9; done ) 2>/dev/null & ;; esac; done; done; wait";
    trap.all_capabilities().writable().args(&["sh", "-c", attack]).write();
    trap.finish(trap.command_of(&copy, &trap.with_bundle(&["run", "--detach"]))).ok();
    for args in [&["/proc/self/exe"][..], &["/bin/self"]] {
        for _ in 0..10 {
            let mut words = vec!["exec", trap.id()];
            words.extend(args);
            trap.finish(trap.command_of(&copy, &words));
        }
    }
    // By another binary: the copy must not be in use.
    trap.wait_for_status("stopped");
    let outcome = trap.delete();
    assert!(!is_orlop() || trap.rootfs("tmp/caught").exists(), "the attack saw nothing to attack");
    assert!(std::fs::read(&copy).unwrap() == before, "the runtime was overwritten: {outcome}");
    assert_eq!(meta(&copy), facts, "{outcome}");
}
