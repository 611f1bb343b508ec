//! What leaks in, and what the container can do with the runtime's own binary.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::{executable, is_orlop, is_root, wait_until};
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
    executable(&copy);
    let before = std::fs::read(&copy).unwrap();
    let meta = |path: &Path| {
        std::fs::metadata(path).map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size())).unwrap()
    };
    let facts = meta(&copy);
    std::fs::write(trap.rootfs("bin/self"), "#!/proc/self/exe\n").unwrap();
    executable(&trap.rootfs("bin/self"));
    // The file of whoever runs the runtime is held open, and again and again opened for writing: that succeeds once the last
    // process that executes it has ended, so the container is detached. A pass over all of /proc ends with a dot, and so
    // does a try.
    let attack = "until [ -e /tmp/over ] || [ -e /tmp/caught ]; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in \
        *busybox*|'') ;; *) ( exec 9<$p/exe; echo $p > /tmp/caught; until [ -e /tmp/over ]; do \
        true >> /proc/self/fd/9 && echo overwritten > /proc/self/fd/9; printf . >> /tmp/done; done ) 2>/dev/null & ;; esac; done; \
        printf . >> /tmp/done; done; wait";
    trap.all_capabilities().writable().args(&["sh", "-c", attack]).write();
    trap.finish(trap.command_of(&copy, &trap.with_bundle(&["run", "--detach"]))).ok();
    let caught = || trap.rootfs("tmp/caught").exists();
    let exec = |program: &str| drop(trap.finish(trap.command_of(&copy, &["exec", trap.id(), program])));
    for _ in 0..10 {
        exec("/proc/self/exe");
        exec("/bin/self");
    }
    if is_orlop() {
        wait_until("the attack sees something to attack", || {
            exec("/proc/self/exe");
            caught()
        });
    }
    // Nobody executes it any more: now is the time. By another binary, for the copy must not be in use.
    let count = || std::fs::metadata(trap.rootfs("tmp/done")).map_or(0, |file| file.len());
    let before_the_last = count();
    wait_until("some tries are made", || !caught() || count() > before_the_last + 20);
    std::fs::write(trap.rootfs("tmp/over"), "").unwrap();
    trap.wait_for_status("stopped");
    let outcome = trap.delete();
    assert!(std::fs::read(&copy).unwrap() == before, "the runtime was overwritten: {outcome}");
    assert_eq!(meta(&copy), facts, "{outcome}");
}
