//! The state that the program begins in: groups, keys, descriptors, modes, and that `exec` gives no less care than `run`.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::outcome::{after, called_by};
use crate::support::{is_orlop, is_root};
use crate::trap::Trap;

/// A key that only its possessor sees, in a session keyring of the command's own.
fn with_a_key(command: &mut Command) {
    let plant = || {
        const JOIN_SESSION_KEYRING: libc::c_long = 1;
        const SETPERM: libc::c_long = 5;
        const SESSION: libc::c_long = -3;
        const POSSESSOR_ALL: libc::c_long = 0x3f00_0000;
        let (kind, name, value) = (c"user", c"orlop-canary-key", c"secret");
        // SAFETY: the strings live as long as the program; between fork and exec this makes three system calls and allocates
        // nothing.
        let planted = unsafe {
            libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>());
            let key = libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), value.as_ptr(), 6, SESSION);
            key >= 0 && libc::syscall(libc::SYS_keyctl, SETPERM, key, POSSESSOR_ALL) == 0
        };
        if planted { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: as the closure says itself.
    unsafe { command.pre_exec(plant) };
}

/// T34: the caller's keys stay the caller's.
#[test]
fn t34_the_callers_keys_do_not_go_in() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("cat /proc/keys; echo these; sleep 1000");
    trap.edit(|spec| spec["linux"]["maskedPaths"] = json!([])).write();
    for (flag, goes_in) in [(&["create"][..], false), (&["create", "--no-new-keyring"], true)] {
        let mut create = trap.command(&trap.with_bundle(flag));
        with_a_key(&mut create);
        let created = trap.finish(create).ok();
        trap.start().ok();
        let said = || std::fs::read_to_string(created.stdout_path()).unwrap();
        crate::support::wait_until("the list of keys", || said().ends_with("these\n"));
        assert_eq!(said().contains("orlop-canary-key"), goes_in, "{flag:?}: {}", said());
        if !goes_in {
            let mut exec = trap.command(&["exec", trap.id(), "cat", "/proc/keys"]);
            with_a_key(&mut exec);
            let outcome = trap.finish(exec).ok();
            assert!(!outcome.stdout.contains("orlop-canary-key"), "{outcome}");
        }
        trap.delete_force().ok();
    }
}

/// T33: groups of the caller are the caller's, in `run` and in `exec`, for root and for a user.
#[test]
fn t33_cve_2023_25173_groups_are_the_configs_alone() {
    require!(is_root(), "root of the host");
    for (user, expected) in [
        (json!({"uid": 0, "gid": 0}), "0"),
        (json!({"uid": 1000, "gid": 1000, "additionalGids": [50, 60]}), "50 60 1000"),
    ] {
        let mut trap = Trap::new();
        trap.args(&["sleep", "1000"]).edit(|spec| spec["process"]["user"] = user).write();
        let with_groups = |inner: Command| trap.finish(called_by(&["setpriv", "--groups", "7,8,9", "--"], &inner)).ok();
        with_groups(trap.command(&trap.with_bundle(&["run", "--detach"])));
        let script = "tr '\\n' ' ' </proc/1/status | sed 's/.*Groups:\\([0-9 \\t]*\\).*/\\1/'; id -G";
        let outcome = with_groups(trap.command(&["exec", trap.id(), "sh", "-c", script]));
        for line in outcome.stdout.lines() {
            let mut groups: Vec<u32> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
            groups.sort_unstable();
            groups.dedup();
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            // The list of init may lack the group that it has anyway.
            let groups = groups.join(" ");
            assert!(
                expected == groups
                    || (expected == "0" && groups.is_empty())
                    || expected.trim_end_matches(" 1000") == groups,
                "{expected}: {outcome}"
            );
        }
        trap.delete_force().ok();
    }
}

/// T38: CVE-2019-10144 and its kin in rkt (`enter` without cgroups, capabilities, filter), CVE-2022-29162: a second process
/// is under all that the first is under.
#[test]
fn t38_cve_2019_10144_exec_is_under_all_that_init_is_under() {
    require!(is_root(), "root of the host");
    const LOOK: &str = "p=PID; grep -e ^Uid -e ^Gid -e ^Groups -e ^Cap -e ^NoNewPrivs -e ^Seccomp -e ^Speculation -e ^NStgid /proc/$p/status \
        | grep -v NStgid; for n in cgroup ipc mnt net pid pid_for_children time user uts; do readlink /proc/$p/ns/$n; done; \
        cat /proc/$p/cgroup /proc/$p/oom_score_adj /proc/$p/limits /proc/$p/personality /proc/$p/uid_map; readlink /proc/$p/root; readlink /proc/$p/cwd";
    for user in [0, 1000] {
        let mut trap = Trap::new();
        trap.args(&["sleep", "1000"]).namespace(json!({"type": "cgroup"})).edit(|spec| {
            let process = &mut spec["process"];
            process["user"] = json!({"uid": user, "gid": user, "additionalGids": [50], "umask": 0o027});
            process["oomScoreAdj"] = json!(300);
            process["cwd"] = json!("/tmp");
            let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}]});
            spec["linux"]["seccomp"] = filter;
        });
        trap.up();
        let look = |pid: &str| trap.exec_with(&[], &["sh", "-c", &LOOK.replace("PID", pid)]);
        // As the same user: /proc/1 of a program that was executed may be looked at by its equals.
        let (init, own) = (look("1").ok().stdout, look("self").ok().stdout);
        let (init, own): (Vec<_>, Vec<_>) = (init.lines().collect(), own.lines().collect());
        assert!(init.len() > 30, "{init:?}");
        assert_eq!(own, init);
        let said = trap.exec("umask; grep Seccomp: /proc/self/status").ok().stdout;
        let lines: Vec<_> = said.lines().collect();
        assert!(!is_orlop() || lines[0] == "0027", "{said}");
        assert_eq!(lines[1].split_whitespace().last(), Some("2"), "{said}");
        trap.delete_force().ok();
    }
}

/// Lists the open descriptors of a fresh shell.
const LIST: &str = "cd /proc/self/fd; for f in $(seq 0 200); do [ -e $f ] && echo -n \"$f \"; done; echo";

/// T54: handles of namespaces, of an idmapped mount's user namespace, of cgroups and of lent mounts are gone.
#[test]
fn t54_cve_2024_21626_no_handle_of_the_launch_goes_in() {
    require!(is_root(), "root of the host");
    let ns = |kind: &str| {
        // SAFETY: gettid(2) takes nothing and cannot fail.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        json!({"type": kind, "path": format!("/proc/{}/task/{thread}/ns/{}", std::process::id(), if kind == "network" { "net" } else { kind })})
    };
    for how in ["joined", "user", "lent", "filtered"] {
        let mut trap = Trap::sh(LIST);
        let open = std::fs::File::open("/etc/hostname").unwrap();
        match how {
            "joined" => {
                for kind in ["network", "ipc", "uts"] {
                    trap.no_namespace(kind).namespace(ns(kind));
                }
                trap.edit(|spec| drop(spec.as_object_mut().unwrap().remove("hostname")));
                trap.no_mount("/dev/mqueue");
            }
            "user" => drop(trap.user_namespace(100_000).namespace(json!({"type": "cgroup"}))),
            "lent" => {
                let source = format!("/proc/{}/fd/{}", std::process::id(), open.as_raw_fd());
                trap.writable().mount(
                    json!({"destination": "/mnt/f", "type": "bind", "source": source, "options": ["bind", "ro"]}),
                );
            }
            _ => drop(trap.edit(|spec| {
                spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}]});
            })),
        }
        let life = trap.survive();
        assert!(!is_orlop() || life.run.status.success(), "{how}: {}", life.run);
        life.said(|text| assert_eq!(text.trim(), "0 1 2", "{how}"));
    }
}

/// T56, T31: the caller's mask has no say in the modes of devices, directories and mounts, nor in the program's; and the
/// modes of the image's directories have none in those of the filesystems mounted on them (crun 1.29.1).
#[test]
fn t56_modes_are_neither_the_callers_nor_the_images() {
    require!(is_root(), "root of the host");
    for mask in ["0", "0777"] {
        let mut trap = Trap::sh(
            "umask; stat -c '%a %n' /dev/null /dev/tty /proc /dev/shm /dev/mqueue /dev/pts /dev /new /new/cwd; stat -Lc '%a %n' /dev/ptmx",
        );
        for place in ["proc", "sys", "dev"] {
            std::fs::set_permissions(trap.rootfs(place), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }
        trap.writable().edit(|spec| spec["process"]["cwd"] = json!("/new/cwd")).write();
        let inner = trap.command(&trap.with_bundle(&["run"]));
        let text = trap.finish(after(&format!("umask {mask}"), &inner)).ok().stdout;
        trap.compare("run");
        let expected = "0022\n666 /dev/null\n666 /dev/tty\n555 /proc\n1777 /dev/shm\n1777 /dev/mqueue\n755 /dev/pts\n755 /dev\n\
            755 /new\n755 /new/cwd\n666 /dev/ptmx\n";
        assert_eq!(text, expected, "umask {mask}");
        std::fs::remove_dir(trap.rootfs("new/cwd")).unwrap();
        std::fs::remove_dir(trap.rootfs("new")).unwrap();
    }
}
