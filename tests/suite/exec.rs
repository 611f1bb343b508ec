//! `exec`: another process in a container that lives.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::require;
use crate::support::console::ConsoleSocket;
use crate::support::outcome::after;
use crate::support::{Bundle, cgroup, is_root, wait_until};

#[test]
fn output_input_and_exit_code_come_back() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let outcome = bundle.exec("echo out; echo err >&2; exit 7");
    assert_eq!((outcome.code(), outcome.text(), outcome.stderr.trim()), (7, "out", "err"), "{outcome}");
    let mut command = bundle.command(&["exec", bundle.id(), "cat"]);
    command.stdin(std::process::Stdio::piped());
    let mut running = bundle.spawn(command);
    std::io::Write::write_all(&mut running.stdin(), b"words\n").unwrap();
    assert_eq!(running.wait().ok().text(), "words");
    let outcome = bundle.exec("kill -9 $$");
    assert_eq!(outcome.code(), 137, "{outcome}");
    bundle.finish_off();
}

#[test]
fn the_process_is_in_the_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let init = bundle.pid();
    let text =
        bundle.exec("for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done; hostname; pwd").ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    for (line, kind) in lines.iter().zip(["pid", "net", "ipc", "uts", "mnt"]) {
        assert_eq!(*line, std::fs::read_link(format!("/proc/{init}/ns/{kind}")).unwrap().to_str().unwrap());
    }
    assert_eq!(&lines[5..], ["orlop", "/"]);
    // And in its cgroup, whichever hierarchies there are. (One that others mount for a moment is not the container's.)
    let ours = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains(bundle.id())).map(str::to_owned).collect()
    };
    let of_exec = ours(&bundle.exec("cat /proc/self/cgroup").ok().stdout);
    let of_init = ours(&std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap());
    assert!(!of_init.is_empty() && of_exec == of_init, "{of_exec:#?} are not {of_init:#?}");
    bundle.finish_off();
}

#[test]
fn options_make_the_process() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let options =
        ["--cwd", "/tmp", "--env", "ONE=1", "--env", "TWO=2", "--user", "1000:1001", "--additional-gids", "7"];
    let text = bundle.exec_with(&options, &["sh", "-c", "pwd; echo $ONE$TWO$TERM; id -u; id -g; id -G"]).ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..4], ["/tmp", "12xterm", "1000", "1001"]);
    assert!(lines[4].split(' ').any(|group| group == "7"), "{text}");
    bundle.finish_off();
}

#[test]
fn what_follows_the_id_belongs_to_the_program() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    assert_eq!(bundle.exec_with(&[], &["echo", "-n", "--cwd", "/x", "--", "-t"]).ok().stdout, "--cwd /x -- -t");
    bundle.finish_off();
}

#[test]
fn a_process_file_says_everything() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let process = json!({"args": ["sh", "-c", "id -u; pwd; echo $WORD; grep NoNewPrivs /proc/self/status"], "cwd": "/tmp",
        "env": ["PATH=/bin", "WORD=given"], "user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": false});
    let file = bundle.file("process.json", process.to_string());
    let outcome = bundle.call(&["exec", "--process", file.to_str().unwrap(), bundle.id()]).ok();
    assert_eq!(outcome.stdout, "1000\n/tmp\ngiven\nNoNewPrivs:\t0\n");
    bundle.finish_off();
}

/// A shell that tells of itself what a `process` object can ask for.
const TELL: &str = "grep -E 'Cap(Inh|Prm|Bnd|Amb)|Cpus_allowed_list' /proc/self/status; ulimit -n; umask; id -G; \
    cat /proc/self/oom_score_adj; awk '{print $41, $19}' /proc/self/stat; ionice -p $$";

#[test]
fn every_field_of_a_process_file_has_its_effect() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
    let capabilities: serde_json::Map<_, _> = sets.iter().map(|&set| (set.to_owned(), json!(["CAP_KILL"]))).collect();
    let process = json!({"args": ["sh", "-c", format!("stty size; pwd; echo $WORD; {TELL}")], "cwd": "/tmp",
        "env": ["PATH=/bin", "WORD=given"], "terminal": true, "consoleSize": {"height": 11, "width": 77},
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [7], "umask": 0o27}, "capabilities": capabilities,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}], "noNewPrivileges": true,
        "oomScoreAdj": 271, "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}, "execCPUAffinity": {"initial": "0", "final": "1"}});
    let file = bundle.file("process.json", process.to_string());
    let socket = ConsoleSocket::at(bundle.scratch("exec.sock"));
    let words = ["exec", "--detach", "--console-socket", socket.path().to_str().unwrap(), "--process"];
    let words = [&words[..], &[file.to_str().unwrap(), bundle.id()]].concat();
    let running = bundle.spawn(bundle.command(&words));
    let mut terminal = socket.terminal();
    running.wait().ok();
    let shown = terminal.read_until("best-effort: prio 7").replace('\r', "");
    let kill = "0000000000000020";
    let expected = format!(
        "11 77\n/tmp\ngiven\nCapInh:\t{kill}\nCapPrm:\t{kill}\nCapBnd:\t{kill}\nCapAmb:\t{kill}\n\
         Cpus_allowed_list:\t1\n100\n0027\n1001 7\n271\n3 5\nbest-effort: prio 7"
    );
    assert!(shown.contains(&expected), "{shown}\nis not\n{expected}");
    bundle.finish_off();
}

/// runc's rule; crun's for capabilities and labels. Engines leave out of the file what is as in the container.
#[test]
fn what_a_process_file_leaves_out_is_the_containers() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| {
        let process = &mut spec["process"];
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        process["oomScoreAdj"] = json!(271);
        process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 7});
        process["execCPUAffinity"] = json!({"initial": "0", "final": "1"});
    });
    bundle.up();
    let own = bundle.exec(TELL).ok().stdout;
    assert!(own.ends_with("271\n3 5\nbest-effort: prio 7\n"), "{own}");
    let process = json!({"args": ["sh", "-c", TELL], "cwd": "/", "env": ["PATH=/bin"]});
    let file = bundle.file("process.json", process.to_string());
    let outcome = bundle.call(&["exec", "--process", file.to_str().unwrap(), bundle.id()]).ok();
    assert_eq!(outcome.stdout, own);
    // What is there and empty is said.
    let process = json!({"args": ["grep", "Cap", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
        "capabilities": {}});
    let file = bundle.file("process.json", process.to_string());
    let outcome = bundle.call(&["exec", "--process", file.to_str().unwrap(), bundle.id()]).ok();
    for line in outcome.stdout.lines() {
        assert!(line.ends_with("\t0000000000000000"), "{outcome}");
    }
    bundle.finish_off();
}

#[test]
fn a_detached_exec_comes_back_and_leaves_its_pid() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let file = bundle.scratch("exec.pid");
    bundle.exec_with(&["--detach", "--pid-file", file.to_str().unwrap()], &["sleep", "500"]).ok();
    let pid = std::fs::read_to_string(&file).unwrap();
    assert!(pid.bytes().all(|byte| byte.is_ascii_digit()), "{pid:?}");
    let cmdline = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(cmdline, "sleep\x00500\x00");
    bundle.finish_off();
    wait_until("the exec'd process ends with its pid namespace", || {
        !std::path::Path::new(&format!("/proc/{pid}/root/bin")).exists()
    });
}

#[test]
fn a_failed_exec_is_255_and_says_so_also_when_detached() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    for options in [&[][..], &["--detach"]] {
        let outcome = bundle.exec_with(options, &["nosuchprogram"]).fails_with("executable file not found in");
        assert_eq!(outcome.code(), 255, "{outcome}");
        let outcome = bundle.exec_with(options, &["/no/such/program"]).fails_with("no such file or directory");
        assert_eq!(outcome.code(), 255, "{outcome}");
    }
    assert_eq!(bundle.status(), "running");
    bundle.finish_off();
}

#[test]
fn exec_wants_a_living_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.exec("true").fails_with("does not exist");
    bundle.args(&["sleep", "1000"]).create().ok();
    // Both runc and crun allow it before the start.
    assert_eq!(bundle.exec("echo early").ok().text(), "early");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.exec("true").fails_saying("cannot exec in a stopped container");
    bundle.delete().ok();
}

#[test]
fn exec_needs_no_bundle() {
    require!(is_root(), "root of the host");
    // runc reads the bundle's config.json again, and fails when it is gone or, worse, edited.
    let mut bundle = Bundle::new();
    bundle.up();
    std::fs::remove_file(bundle.path().join("config.json")).unwrap();
    assert_eq!(bundle.exec("echo alive").ok().text(), "alive");
    bundle.finish_off();
}

/// T21: CVE-2016-3697, CVE-2026-30892.
#[test]
fn a_user_is_a_number_and_nothing_else() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/:/bin/sh\nuser:x:0:0::/:/bin/sh\n\rbroken\n:::\n";
    std::fs::write(bundle.rootfs("etc/passwd"), passwd).unwrap();
    bundle.up();
    for (user, ids) in [("1", "1 0"), ("1000", "1000 0"), ("1000:1001", "1000 1001"), ("4294967294", "4294967294 0")] {
        let outcome = bundle.exec_with(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"]).ok();
        assert_eq!(outcome.text(), ids, "--user {user}");
    }
    for user in [
        "1:",
        ":1",
        "0x1",
        " 1",
        "1 ",
        "+1",
        "-1",
        "4294967295",
        "4294967296",
        "user",
        "root:root",
        "1:2:3",
        "1000:4294967295",
    ] {
        bundle.exec_with(&["--user", user], &["true"]).fails();
    }
    bundle.finish_off();
}

#[test]
fn a_terminal_goes_over_the_console_socket() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let socket = ConsoleSocket::at(bundle.scratch("exec.sock"));
    let options = ["--tty", "--detach", "--console-socket", socket.path().to_str().unwrap()];
    let running = {
        let mut words = vec!["exec"];
        words.extend(options);
        words.extend([
            bundle.id(),
            "sh",
            "-c",
            "tty; test -t 0 && test -t 1 && test -t 2 && echo all; read x; echo got $x",
        ]);
        bundle.spawn(bundle.command(&words))
    };
    let mut terminal = socket.terminal();
    running.wait().ok();
    terminal.read_until("all");
    std::io::Write::write_all(&mut terminal.master, b"words\n").unwrap();
    terminal.read_until("got words");
    bundle.finish_off();
}

#[test]
fn preserved_descriptors_go_in_and_others_do_not() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let script = "for i in 3 4 5 6 7; do test -e /proc/self/fd/$i && echo $i; done; cat <&3";
    let inner = bundle.command(&["exec", "--preserve-fds", "2", bundle.id(), "sh", "-c", script]);
    let file = bundle.file("given", "content\n");
    let script = format!("f={}; exec 3<$f 4<$f 5<$f 7<$f", file.display());
    assert_eq!(bundle.finish(after(&script, &inner)).ok().stdout, "3\n4\ncontent\n");
    bundle.finish_off();
}

#[test]
fn exec_goes_into_a_sub_cgroup_and_no_further() {
    require!(is_root(), "root of the host");
    let Some(pids) = cgroup::v1("pids") else {
        require!(false, "cgroup v1 pids controller");
        return;
    };
    let mut bundle = Bundle::new();
    bundle.up();
    let group = pids.join(bundle.id());
    std::fs::create_dir(group.join("inner")).unwrap();
    let outcome = bundle.exec_with(&["--cgroup", "pids:inner"], &["grep", "pids", "/proc/self/cgroup"]);
    let text = outcome.ok().stdout;
    assert!(text.trim().ends_with("/inner"), "{text}");
    // T25: a sibling whose name begins with ours is not below ours.
    let sibling = pids.join(format!("{}2", bundle.id()));
    std::fs::create_dir(&sibling).unwrap();
    let words = [
        format!("pids:../{}2", bundle.id()),
        "pids:..".to_owned(),
        "pids:/../..".to_owned(),
        "nosuch:inner".to_owned(),
    ];
    let outcomes: Vec<_> = words.iter().map(|word| bundle.exec_with(&["--cgroup", word], &["true"])).collect();
    std::fs::remove_dir(&sibling).unwrap();
    outcomes.into_iter().for_each(|outcome| drop(outcome.fails()));
    bundle.finish_off();
}

/// A path without a controller is for every hierarchy.
#[test]
fn exec_goes_into_a_sub_cgroup_of_all_hierarchies() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let groups = cgroup::named(bundle.id());
    groups.iter().for_each(|group| std::fs::create_dir(group.join("inner")).unwrap());
    // A cpuset of v1 begins empty, and takes nobody then.
    for (group, file) in groups.iter().flat_map(|group| ["cpuset.cpus", "cpuset.mems"].map(|file| (group, file))) {
        if group.join("tasks").exists() && group.join(file).exists() {
            std::fs::write(group.join("inner").join(file), std::fs::read(group.join(file)).unwrap()).unwrap();
        }
    }
    let own = bundle.exec("cat /proc/self/cgroup").ok().stdout;
    let all = bundle.exec_with(&["--cgroup", "/"], &["cat", "/proc/self/cgroup"]).ok().stdout;
    let inner = bundle.exec_with(&["--cgroup", "inner"], &["cat", "/proc/self/cgroup"]).ok().stdout;
    // Those of the container: others may mount one for a moment.
    let ours = |text: &str, end: &str| -> Vec<String> {
        let end = format!("/{}{end}", bundle.id());
        text.lines().filter_map(|line| line.strip_suffix(&end)).map(str::to_owned).collect()
    };
    assert_eq!((ours(&all, "").len(), ours(&all, "")), (groups.len(), ours(&own, "")), "{all}");
    assert_eq!(ours(&inner, "/inner"), ours(&own, ""), "{inner}");
    bundle.exec_with(&["--cgroup", ".."], &["true"]).fails();
    bundle.exec_with(&["--cgroup", "nosuch"], &["true"]).fails();
    bundle.finish_off();
}

#[test]
fn exec_keeps_seccomp_and_no_new_privileges() {
    require!(is_root(), "root of the host");
    // T38: a second process is under everything the first is under.
    let mut bundle = Bundle::new();
    bundle.up();
    let text = bundle.exec("cat /proc/self/status; cat /proc/1/status").ok().stdout;
    for name in ["NoNewPrivs", "Seccomp", "Seccomp_filters", "CapBnd"] {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{name}:"))).collect();
        assert_eq!((lines.len(), lines[0]), (2, lines[1]), "{name}");
    }
    bundle.finish_off();
}

#[test]
fn exec_creates_the_working_directory_like_create() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    std::fs::create_dir(bundle.rootfs("closed")).unwrap();
    std::fs::set_permissions(bundle.rootfs("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(bundle.rootfs("closed"), Some(1000), Some(1000)).unwrap();
    bundle.up();
    let outcome = bundle.exec_with(&["--cwd", "/closed", "--user", "1000"], &["pwd"]).ok();
    assert_eq!(outcome.text(), "/closed");
    bundle.exec_with(&["--cwd", "/no/such/dir"], &["pwd"]).fails();
    bundle.finish_off();
}
