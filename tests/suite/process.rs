//! `process`: who the program runs as, with what limits and capabilities, and how it is found.

use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::outcome::{after, called_by};
use crate::support::{Bundle, View, executable, has_capability, is_orlop, is_root, status_field};

#[test]
fn the_user_is_what_was_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("id -u; id -g; id -G; umask");
    bundle.edit(|spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 65534, 7000], "umask": 0o27})
    });
    let text = bundle.output();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("1000", "1001", "0027"));
    let mut groups: Vec<u32> = lines[2].split(' ').map(|group| group.parse().unwrap()).collect();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, [7, 1001, 7000, 65534]);
}

#[test]
fn the_umask_is_0022_when_none_is_asked() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("umask");
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    assert_eq!(bundle.finish(after("umask 077", &inner)).ok().text(), "0022");
}

/// T33: CVE-2014-8989 and its kin.
#[test]
fn groups_of_the_caller_do_not_go_in() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("grep Groups /proc/self/status");
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let groups = bundle.finish(called_by(&["setpriv", "--groups", "7,8,9"], &inner)).ok().text().to_owned();
    assert!(!["7", "8", "9"].iter().any(|group| groups.split_whitespace().any(|have| have == *group)), "{groups}");
}

#[test]
fn rlimits_are_what_was_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /proc/self/limits");
    bundle.edit(|spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
            {"type": "RLIMIT_NPROC", "soft": 111, "hard": 222}, {"type": "RLIMIT_STACK", "soft": 8_388_608, "hard": 16_777_216}]);
    });
    let text = bundle.output();
    let limit = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(limit("Max open files"), ["100", "200"]);
    assert_eq!(limit("Max core file size"), ["0", "4096"]);
    assert_eq!(limit("Max processes"), ["111", "222"]);
    assert_eq!(limit("Max stack size"), ["8388608", "16777216"]);
}

/// getrlimit(2), all of it.
#[test]
fn every_kind_of_limit_is_known() {
    require!(is_root(), "root of the host");
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    let kinds = [
        ("RLIMIT_AS", "Max address space"),
        ("RLIMIT_CORE", "Max core file size"),
        ("RLIMIT_CPU", "Max cpu time"),
        ("RLIMIT_DATA", "Max data size"),
        ("RLIMIT_FSIZE", "Max file size"),
        ("RLIMIT_LOCKS", "Max file locks"),
        ("RLIMIT_MEMLOCK", "Max locked memory"),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
        ("RLIMIT_NICE", "Max nice priority"),
        ("RLIMIT_NOFILE", "Max open files"),
        ("RLIMIT_NPROC", "Max processes"),
        ("RLIMIT_RSS", "Max resident set"),
        ("RLIMIT_RTPRIO", "Max realtime priority"),
        ("RLIMIT_RTTIME", "Max realtime timeout"),
        ("RLIMIT_SIGPENDING", "Max pending signals"),
        ("RLIMIT_STACK", "Max stack size"),
    ];
    let hard = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().nth(1).unwrap().to_owned()
    };
    // One less than the caller has tells them from what is only inherited.
    let wanted = kinds.map(|(kind, name)| {
        let limit = hard(&own, name).parse::<u64>().map_or(1 << 40, |limit| limit.saturating_sub(1));
        (kind, name, limit)
    });
    let mut bundle = Bundle::new();
    bundle.args(&["cat", "/proc/self/limits"]).edit(|spec| {
        let limits = wanted.map(|(kind, _, limit)| json!({"type": kind, "soft": limit, "hard": limit}));
        spec["process"]["rlimits"] = json!(limits);
    });
    let text = bundle.output();
    for (kind, name, limit) in wanted {
        assert_eq!(hard(&text, name), limit.to_string(), "{kind}");
    }
}

#[test]
fn a_low_limit_does_not_stop_the_start() {
    require!(is_root(), "root of the host");
    // Three descriptors are all the program gets; the mounts before it need more.
    let mut bundle = Bundle::new();
    bundle.args(&["true"]).edit(|spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 4, "hard": 4}, {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0}]);
    });
    bundle.run().ok();
}

#[test]
fn a_limit_is_listed_once() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let twice = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}, {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 200}]);
    bundle.edit(|spec| spec["process"]["rlimits"] = twice);
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn limits_above_the_callers_need_the_right() {
    require!(is_root(), "root of the host");
    require!(has_capability(24), "CAP_SYS_RESOURCE");
    let mut bundle = Bundle::sh("ulimit -Hn");
    bundle.edit(|spec| {
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1_000_000, "hard": 1_048_576}])
    });
    assert_eq!(bundle.output(), "1048576");
}

/// The five sets as /proc shows them.
fn sets(text: &str) -> Vec<u64> {
    let set = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(set).to_vec()
}

/// T22: what /proc/self/status says equals the request, for root and for others, in run and in exec.
#[test]
fn capabilities_are_exactly_what_was_asked() {
    require!(is_root(), "root of the host");
    let (kill, bind, chown) = (1 << 5, 1 << 10, 1 << 0);
    let mut bundle = Bundle::new();
    bundle.edit(|spec| {
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_CHOWN"],
            "effective": ["CAP_KILL", "CAP_NET_BIND_SERVICE"], "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE"]});
    });
    bundle.args(&["cat", "/proc/self/status"]);
    // With no_new_privs an execve gains nothing; without, root gains what the bounding set has.
    assert_eq!(sets(&bundle.output()), [0, kill | bind, kill | bind, kill | bind | chown, 0]);
    bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    assert_eq!(sets(&bundle.output()), [0, kill | bind | chown, kill | bind | chown, kill | bind | chown, 0]);
    bundle.edit(|spec| spec["process"]["user"]["uid"] = json!(1000));
    assert_eq!(sets(&bundle.output()), [0, 0, 0, kill | bind | chown, 0]);
    // Ambient capabilities survive the exec of somebody else.
    bundle.edit(|spec| {
        for set in ["inheritable", "ambient"] {
            spec["process"]["capabilities"][set] = json!(["CAP_NET_BIND_SERVICE"]);
        }
    });
    assert_eq!(sets(&bundle.output()), [bind, bind, bind, kill | bind | chown, bind]);
}

/// config.md#linux-process: a warning, and no failure.
#[test]
fn a_capability_that_cannot_be_granted_is_a_warning() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that starts without what it cannot grant");
    let mut bundle = Bundle::new();
    bundle.args(&["cat", "/proc/self/status"]).capabilities(&["CAP_KILL", "CAP_SYS_NICE", "CAP_NO_SUCH"]).write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let outcome = bundle.finish(called_by(&["setpriv", "--bounding-set", "-sys_nice"], &inner)).ok();
    assert_eq!(sets(&outcome.stdout), [0, 1 << 5, 1 << 5, 1 << 5, 0]);
    assert!(outcome.stderr.contains("CAP_SYS_NICE") && outcome.stderr.contains("CAP_NO_SUCH"), "{outcome}");
}

#[test]
fn no_capabilities_are_none() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["cat", "/proc/self/status"]).edit(|spec| spec["process"]["capabilities"] = json!({}));
    assert_eq!(sets(&bundle.output()), [0, 0, 0, 0, 0]);
    // Without the object as well: runc leaves everything it had itself.
    bundle.edit(|spec| drop(spec["process"].as_object_mut().unwrap().remove("capabilities")));
    assert_eq!(sets(&bundle.output()), [0, 0, 0, 0, 0]);
}

/// CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: exec filled the inheritable set.
#[test]
fn exec_has_the_capabilities_of_the_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let text = bundle.exec_with(&[], &["cat", "/proc/self/status"]).ok().stdout;
    let three = 1 << 29 | 1 << 5 | 1 << 10;
    assert_eq!(sets(&text), [0, three, three, three, 0]);
    let text = bundle.exec_with(&["--cap", "CAP_SYS_PTRACE"], &["cat", "/proc/self/status"]).ok().stdout;
    assert_eq!(sets(&text)[3], three | 1 << 19, "exec --cap adds");
    assert_eq!(sets(&text)[0], 0);
    bundle.finish_off();
}

#[test]
fn no_new_privileges_is_what_was_asked() {
    require!(is_root(), "root of the host");
    for (asked, shown) in [(true, "NoNewPrivs:\t1"), (false, "NoNewPrivs:\t0")] {
        let mut bundle = Bundle::new();
        bundle.args(&["cat", "/proc/self/status"]).edit(|spec| spec["process"]["noNewPrivileges"] = json!(asked));
        assert!(bundle.output().contains(shown), "{asked}");
    }
}

#[test]
fn the_oom_score_is_adjusted() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["cat", "/proc/self/oom_score_adj"]).edit(|spec| spec["process"]["oomScoreAdj"] = json!(314));
    assert_eq!(bundle.output(), "314");
    bundle.user_namespace(100_000);
    assert_eq!(bundle.output(), "314");
}

/// config.md#linux-process: MUST NOT be changed where it is not set.
#[test]
fn the_oom_score_of_the_caller_goes_in_when_none_is_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["cat", "/proc/self/oom_score_adj"]).write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    assert_eq!(bundle.finish(after("echo 271 > /proc/self/oom_score_adj", &inner)).ok().text(), "271");
    bundle.args(&["sleep", "1000"]).up();
    let inner = bundle.command(&["exec", bundle.id(), "cat", "/proc/self/oom_score_adj"]);
    assert_eq!(bundle.finish(after("echo 271 > /proc/self/oom_score_adj", &inner)).ok().text(), "271");
    bundle.finish_off();
}

#[test]
fn the_program_is_searched_in_the_containers_path() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    std::fs::create_dir_all(bundle.rootfs("opt/bin")).unwrap();
    std::fs::hard_link(bundle.rootfs("bin/busybox"), bundle.rootfs("opt/bin/echo")).unwrap();
    bundle.args(&["echo", "found"]).edit(|spec| spec["process"]["env"] = json!(["PATH=/no/such:/opt/bin"]));
    assert_eq!(bundle.output(), "found");
    // The caller's PATH has a sh; the container's does not.
    bundle.args(&["sh", "-c", "true"]);
    bundle.run().fails_with("executable file not found in");
    bundle.assert_gone();
}

/// What dockerd and podman turn into 127 and 126.
#[test]
fn a_program_that_cannot_run_fails_the_create_with_the_known_words() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    std::fs::write(bundle.rootfs("etc/data"), "data").unwrap();
    for (program, words) in [
        ("nosuchprogram", "executable file not found in"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/data", "permission denied"),
        ("/etc", "permission denied"),
    ] {
        let outcome = bundle.args(&[program]).create().fails();
        let directory = program == "/etc" && outcome.stderr.to_lowercase().contains("is a directory");
        assert!(outcome.stderr.to_lowercase().contains(words) || directory, "{program}: {words:?} not in {outcome}");
        assert!(outcome.stderr.contains(program), "{outcome}");
        bundle.assert_gone();
    }
}

#[test]
fn a_script_without_its_interpreter_is_explained() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    std::fs::write(bundle.rootfs("bin/script"), "#!/no/such/interpreter\n").unwrap();
    executable(&bundle.rootfs("bin/script"));
    let outcome = bundle.args(&["/bin/script"]).run().fails_with("no such file or directory");
    // opencontainers/runc#3237
    assert!(!is_orlop() || outcome.stderr.contains("/no/such/interpreter"), "{outcome}");
    bundle.assert_gone();
}

#[test]
fn the_environment_is_the_configs() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["env"]).edit(|spec| spec["process"]["env"] = json!(["PATH=/bin", "A=1", "B=x=y", "A=2", "EMPTY="]));
    bundle.write();
    let mut command = bundle.command(&bundle.with_bundle(&["run"]));
    command.env("CALLER", "secret");
    let text = bundle.finish(command).ok().stdout;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    // The last of two wins; HOME comes from /etc/passwd.
    assert_eq!(lines, ["A=2", "B=x=y", "EMPTY=", "HOME=/root", "PATH=/bin"]);
    bundle.edit(|spec| spec["process"]["user"]["uid"] = json!(1000));
    assert!(bundle.output().contains("HOME=/home/user"));
    bundle.edit(|spec| spec["process"]["user"]["uid"] = json!(4242));
    assert!(bundle.output().lines().any(|line| line == "HOME=/"));
}

#[test]
fn the_working_directory_is_made_and_entered() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("pwd; stat -c %u .");
    bundle.writable().edit(|spec| spec["process"]["cwd"] = json!("/new/deep/dir"));
    assert_eq!(bundle.output(), "/new/deep/dir\n0");
    // One that only its user may enter.
    std::fs::create_dir(bundle.rootfs("closed")).unwrap();
    std::fs::set_permissions(bundle.rootfs("closed"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(bundle.rootfs("closed"), Some(1000), Some(1000)).unwrap();
    bundle.edit(|spec| {
        spec["process"]["cwd"] = json!("/closed");
        spec["process"]["user"]["uid"] = json!(1000);
    });
    assert_eq!(bundle.output(), "/closed\n1000");
}

#[test]
fn a_relative_working_directory_is_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["process"]["cwd"] = json!("tmp"));
    let outcome = bundle.create().fails();
    assert!(outcome.stderr.to_lowercase().contains("cwd"), "{outcome}");
    bundle.assert_gone();
}

#[test]
fn scheduler_and_io_priority_are_what_was_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("awk '{print $41, $19}' /proc/1/stat; ionice -p 1");
    bundle.edit(|spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 7});
    });
    let text = bundle.output();
    assert!(text.starts_with("3 5\n") && text.contains("best-effort: prio 7"), "{text}");
    bundle.edit(|spec| spec["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "nice": 5}));
    bundle.create().fails();
    bundle.assert_gone();
    // What a scheduler does not say is 0, whatever the caller's is.
    for (policy, number) in [("SCHED_OTHER", 0), ("SCHED_BATCH", 3), ("SCHED_IDLE", 5)] {
        bundle.edit(|spec| {
            spec["process"]["scheduler"] = json!({"policy": policy});
            spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        });
        bundle.write();
        let inner = bundle.command(&bundle.with_bundle(&["run"]));
        let text = bundle.finish(called_by(&["nice", "-n", "10"], &inner)).ok().stdout;
        assert!(text.contains("idle"), "{text}");
        let nice = if policy == "SCHED_IDLE" { text.split_whitespace().nth(1).unwrap() } else { "0" };
        assert!(text.starts_with(&format!("{number} {nice}\n")), "{policy}: {text}");
    }
}

#[test]
fn a_real_time_policy_is_what_was_asked() {
    require!(is_root(), "root of the host");
    let given = Command::new("chrt").args(["-f", "1", "true"]).status().is_ok_and(|status| status.success());
    require!(given, "a cgroup with real time");
    // A cgroup of v1 has none until it is given some.
    for (policy, number) in [("SCHED_FIFO", "1"), ("SCHED_RR", "2")] {
        let mut bundle = Bundle::sh("awk '{print $41, $40}' /proc/1/stat");
        bundle.view(View::V2).edit(|spec| {
            spec["process"]["scheduler"] =
                json!({"policy": policy, "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        });
        assert_eq!(bundle.output(), format!("{number} 7"), "{policy}");
    }
}

#[test]
fn the_personality_is_linux32() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("uname -m; cat /proc/self/personality");
    bundle
        .capabilities(&["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"])
        .edit(|spec| spec["linux"]["personality"] = json!({"domain": "LINUX32"}));
    let text = bundle.output();
    // COMPAT_UTS_MACHINE of the architectures that we are built for.
    assert!(["i686", "i386", "armv8l", "riscv32"].iter().any(|name| text.starts_with(name)), "{text}");
}

#[test]
fn the_memory_policy_is_what_was_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("head -1 /proc/self/numa_maps");
    bundle.edit(|spec| spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"}));
    assert!(bundle.output().contains(" bind:0"), "{}", bundle.output());
    for (mode, nodes, flags, shown) in [
        ("MPOL_DEFAULT", "", json!([]), " default"),
        ("MPOL_LOCAL", "", json!([]), " local"),
        ("MPOL_PREFERRED", "0", json!([]), " prefer:0"),
        ("MPOL_INTERLEAVE", "0", json!(["MPOL_F_STATIC_NODES"]), " interleave=static:0"),
        ("MPOL_BIND", "0", json!(["MPOL_F_RELATIVE_NODES"]), " bind=relative:0"),
    ] {
        bundle.edit(|spec| {
            spec["linux"]["memoryPolicy"] = json!({"mode": mode, "nodes": nodes, "flags": flags});
        });
        let text = bundle.output();
        assert!(text.contains(shown), "{mode}: {text}");
    }
    bundle.edit(|spec| spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_NOSUCH"}));
    bundle.create().fails();
}

/// T34: the keyring is a new one, named after the container, unless the flag says not to.
#[test]
fn the_session_keyring_is_new() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /proc/keys");
    bundle.edit(|spec| spec["linux"]["maskedPaths"] = json!([])).write();
    let name = format!("_ses.{}", bundle.id());
    // In this order: the kernel takes a keyring away some time after its last user.
    let outcome = bundle.call(&bundle.with_bundle(&["run", "--no-new-keyring"])).ok();
    assert!(!outcome.stdout.contains(&name), "{outcome}");
    assert!(bundle.output().contains(&name));
}

#[test]
fn the_affinity_of_exec_is_what_was_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"})).up();
    let text = bundle.exec_with(&[], &["grep", "Cpus_allowed_list", "/proc/self/status"]).ok().stdout;
    assert_eq!(text.split_whitespace().last(), Some("1"));
    assert_ne!(status_field(&bundle.pid().to_string(), "Cpus_allowed_list").unwrap(), "1", "init is not touched");
    bundle.finish_off();
    // Without a final one nobody touches it again. The form of a list is that of the specification's schema.
    bundle.edit(|spec| spec["process"]["execCPUAffinity"] = json!({"initial": " 1, ", "final": ""})).up();
    let text = bundle.exec_with(&[], &["grep", "Cpus_allowed_list", "/proc/self/status"]).ok().stdout;
    assert_eq!(text.split_whitespace().last(), Some("1"));
    bundle.finish_off();
}

#[test]
fn the_affinity_of_the_caller_does_not_go_in() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("grep Cpus_allowed_list /proc/self/status");
    bundle.write();
    let all = status_field("1", "Cpus_allowed_list").unwrap();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let command = called_by(&["taskset", "-c", "0"], &inner);
    assert_eq!(bundle.finish(command).ok().text().split_whitespace().last(), Some(all.as_str()));
}

#[test]
fn signals_are_as_a_new_program_expects_them() {
    require!(is_root(), "root of the host");
    // A Rust program ignores SIGPIPE; what is ignored or blocked is inherited by execve.
    let bundle = Bundle::sh("grep -E 'Sig(Blk|Ign)' /proc/self/status; yes | head -1");
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    // grep's own shell waits with SIGINT and SIGQUIT as they were; the caller ignores some more.
    let text = bundle.finish(after("trap '' HUP USR1 PIPE", &inner)).ok().stdout;
    for line in text.lines().filter(|line| line.starts_with("Sig")) {
        let set = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // Signals 32 and 33 are the C library's own; what our caller did to them is not ours to say.
        assert_eq!(set & !(3 << 31), 0, "{text}");
    }
}
