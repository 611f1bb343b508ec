//! What leaks in, and what the container can do with the runtime's own binary.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::json;

use crate::require;
use crate::support::is_root;
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
    // For two seconds: whoever's /proc/PID/exe is the runtime is opened for writing.
    let attack = "end=$(($(date +%s)+2)); while [ $(date +%s) -lt $end ]; do for p in /proc/[0-9]*; do \
        case $(readlink $p/exe) in *busybox*) ;; *) (echo overwritten > $p/exe) 2>/dev/null && echo HIT;; esac; done; done";
    trap.all_capabilities().writable().args(&["sh", "-c", attack]).write();
    let running = trap.spawn(trap.command_of(&copy, &trap.with_bundle(&["run"])));
    std::thread::sleep(std::time::Duration::from_millis(200));
    for args in [&["/proc/self/exe"][..], &["/bin/self"]] {
        for _ in 0..10 {
            let mut words = vec!["exec", trap.id()];
            words.extend(args);
            trap.finish(trap.command_of(&copy, &words));
        }
    }
    let outcome = running.wait();
    assert!(std::fs::read(&copy).unwrap() == before, "the runtime was overwritten: {outcome}");
    assert_eq!(meta(&copy), facts, "{outcome}");
}

/// T14, the other half: the container's own program is the runtime (`/proc/self/exe`), and so is a script's interpreter.
#[test]
fn t14_cve_2019_5736_the_program_is_the_runtime() {
    require!(is_root(), "root of the host");
    for program in ["/proc/self/exe", "/bin/self"] {
        let mut trap = Trap::new();
        std::fs::write(trap.rootfs("bin/self"), "#!/proc/self/exe\n").unwrap();
        std::fs::set_permissions(trap.rootfs("bin/self"), PermissionsExt::from_mode(0o755)).unwrap();
        trap.all_capabilities().writable().args(&[program]);
        trap.survive();
    }
}
