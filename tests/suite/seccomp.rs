//! The system call filter, as the payload and its agent meet it (config-linux.md#seccomp).

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;

use serde_json::{Value, json};

#[path = "../syscalls/docker.rs"]
mod docker;

use docker::docker;
use orlop::seccomp::Abi;

use crate::require;
use crate::support::{Bundle, executable, is_orlop, is_root, patience, status_field};

/// A filter that lets all pass but for these rules.
fn denying(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules})
}

/// Makes directories answer this errno.
fn no_mkdir(errno: i32) -> Value {
    denying(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]))
}

fn filtered(script: &str, profile: Value) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.writable().edit(|spec| spec["linux"]["seccomp"] = profile);
    bundle
}

/// The number that a call has on this machine.
fn number(name: &str) -> i64 {
    Abi::native().unwrap().number_of(name).unwrap().into()
}

/// A bundle whose program makes system calls by their numbers: `calls(&[(nr, a0, a1)])` prints a line each.
fn calling(calls: &[(i64, u64, u64)], profile: Value) -> Bundle {
    let mut bundle = Bundle::new();
    // Not by its path: who builds the tests anew meanwhile has removed that.
    std::fs::copy("/proc/self/exe", bundle.rootfs("caller")).unwrap();
    executable(&bundle.rootfs("caller"));
    let list: Vec<_> = calls.iter().map(|(number, a, b)| format!("{number},{a},{b}")).collect();
    bundle.args(&["/caller", "--exact", "seccomp::caller", "--ignored", "--nocapture", "--test-threads=1", "--quiet"]);
    bundle.edit(|spec| {
        spec["process"]["env"] = json!([format!("ORLOP_CALLS={}", list.join(" "))]);
        spec["linux"]["seccomp"] = profile;
    });
    bundle
}

/// What the calls answered: 0 or an errno each.
fn answers(bundle: &Bundle) -> Vec<i32> {
    let outcome = bundle.run().ok();
    let told = outcome.stdout.lines().filter_map(|line| line.strip_prefix("answer "));
    told.map(|errno| errno.parse().unwrap()).collect()
}

/// No test: the program of [`calling`].
#[test]
#[ignore = "run within a container by other tests"]
fn caller() {
    let Ok(calls) = std::env::var("ORLOP_CALLS") else { return };
    println!();
    for call in calls.split(' ') {
        let words: Vec<u64> = call.split(',').map(|word| word.parse().unwrap()).collect();
        // SAFETY: the tests ask for calls that take numbers, or fail on their null pointers.
        let done = unsafe { libc::syscall(words[0] as libc::c_long, words[1], words[2], 0, 0, 0, 0) };
        let errno = if done < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
        println!("answer {errno}");
    }
}

#[test]
fn the_payload_sees_the_errno() {
    require!(is_root(), "root of the host");
    let outcome = filtered("mkdir /tmp/x; echo end", no_mkdir(121)).run().ok();
    assert!(outcome.stderr.contains("Remote I/O error"), "{outcome}");
    assert_eq!(outcome.text(), "end");
    // Without errnoRet it is EPERM.
    let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    let outcome = filtered("mkdir /tmp/x", denying(rule)).run();
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome}");
}

#[test]
fn run_and_exec_are_under_one_filter_each() {
    require!(is_root(), "root of the host");
    let before: u32 = status_field("self", "Seccomp_filters").map_or(0, |count| count.trim().parse().unwrap());
    let ours = before + u32::from(std::env::var_os("ORLOP_WITHOUT").is_some());
    for no_new_privileges in [json!(null), json!(false), json!(true)] {
        let mut bundle = filtered("exec sleep 1000", no_mkdir(1));
        bundle.edit(|spec| {
            spec["process"]["noNewPrivileges"] = no_new_privileges.clone();
            if no_new_privileges.is_null() {
                spec["process"].as_object_mut().unwrap().remove("noNewPrivileges");
            }
        });
        bundle.run_detached().ok();
        let status = bundle.exec("cat /proc/self/status; cat /proc/1/status").ok().stdout;
        let values = |name: &str| -> Vec<String> {
            let lines = status.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(values("Seccomp"), ["2", "2"], "{no_new_privileges}");
        assert_eq!(values("Seccomp_filters"), [(ours + 1).to_string(), (ours + 1).to_string()]);
        let wanted = if no_new_privileges == json!(true) { "1" } else { "0" };
        assert_eq!(values("NoNewPrivs"), [wanted, wanted], "the filter does not set no_new_privs");
        bundle.exec("mkdir /tmp/y").fails_with("Operation not permitted");
        bundle.finish_off();
    }
}

#[test]
fn the_users_own_are_filtered_too() {
    require!(is_root(), "root of the host");
    for no_new_privileges in [false, true] {
        let mut bundle = filtered("mkdir /tmp/x 2>&1; grep Cap /proc/self/status", no_mkdir(38));
        bundle.capabilities(&[]).edit(|spec| {
            spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        });
        let text = bundle.output();
        assert!(text.contains("Function not implemented") && text.contains("CapEff:\t0000000000000000"), "{text}");
    }
}

/// Without no_new_privs the filter is there before the capabilities go; with it, after all that init does.
#[test]
fn no_new_privileges_decides_when_it_is_loaded() {
    require!(is_root(), "root of the host");
    let profile = denying(json!([{"names": ["capset"], "action": "SCMP_ACT_ERRNO", "errnoRet": 121}]));
    for (no_new_privileges, starts) in [(true, true), (false, false)] {
        let mut bundle = filtered("echo here", profile.clone());
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let outcome = bundle.run();
        assert_eq!(outcome.status.success(), starts, "{outcome}");
        if is_orlop() && !starts {
            assert!(outcome.stderr.contains("capset"), "{outcome}");
        }
        bundle.assert_gone();
    }
}

/// After an early load orlop itself is under the filter: what it still calls, a list for those who write profiles.
#[test]
fn few_calls_are_needed_after_an_early_load() {
    require!(is_root(), "root of the host");
    if !is_orlop() {
        return;
    }
    let ours = "prctl capset setgroups setresgid setresuid stat fstatat newfstatat close_range close read write getpid \
        rt_sigaction rt_sigprocmask execve";
    // A static program and its C library.
    let payloads = "arch_prctl set_tid_address set_robust_list rseq prlimit64 brk mmap mprotect getrandom readlinkat \
        getuid getgid exit exit_group";
    let names: Vec<&str> = ours.split_whitespace().chain(payloads.split_whitespace()).collect();
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
    let mut bundle = filtered("", profile);
    bundle.args(&["echo", "here"]).capabilities(&["CAP_KILL"]).edit(|spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5]});
        spec["process"]["noNewPrivileges"] = json!(false);
    });
    assert_eq!(bundle.output(), "here");
}

#[test]
fn killing_kills() {
    require!(is_root(), "root of the host");
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"] {
        let profile = denying(json!([{"names": ["mkdir", "mkdirat"], "action": action}]));
        let outcome = filtered("exec mkdir /tmp/x", profile).run();
        assert_eq!(outcome.code(), 128 + libc::SIGSYS, "{action}: {outcome}");
    }
}

#[test]
fn logging_lets_pass() {
    require!(is_root(), "root of the host");
    let mut profile = denying(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"}]));
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]);
    let outcome = filtered("mkdir /tmp/x && echo made", profile).run().ok();
    assert_eq!(outcome.text(), "made");
}

#[test]
fn dockers_profile_runs_a_shell() {
    require!(is_root(), "root of the host");
    for no_new_privileges in [false, true] {
        let mut bundle = filtered("echo a | cat; (mkdir /tmp/d && ls /tmp); unshare -U true 2>&1", docker());
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let outcome = bundle.run();
        assert!(
            outcome.stdout.starts_with("a\nd\n") && outcome.stdout.contains("Operation not permitted"),
            "{outcome}"
        );
        let mut bundle = filtered("sleep 1000", docker());
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(no_new_privileges));
        bundle.up();
        assert_eq!(bundle.exec("echo inside").ok().text(), "inside");
        bundle.finish_off();
    }
}

#[test]
fn arguments_and_newer_calls() {
    require!(is_root(), "root of the host");
    let (personality, socket) = (number("personality"), number("socket"));
    let calls = [
        (personality, 0xffff_ffff, 0),
        (personality, 0x1000, 0),
        (personality, 1 << 32 | 0xffff_ffff, 0),
        (socket, 1, 1),
        (socket, 12, 1),
        (socket, 1 << 32 | 1, 1),
        (number("mount"), 0, 0),
        (number("clone3"), 0, 0),
        (499, 0, 0),
        (5000, 0, 0),
    ];
    let answered = answers(&calling(&calls, docker()));
    // mount is denied; clone3 is asked to be unknown; what the profile's author could not know is unknown.
    assert_eq!(answered, [0, 1, 1, 0, 1, 1, 1, 38, 38, 38]);
}

#[test]
fn conditions_on_one_argument_twice_are_alternatives() {
    require!(is_root(), "root of the host");
    let umask = number("umask");
    let between = json!([{"index": 0, "value": 5, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 2, "op": "SCMP_CMP_LE"}]);
    let rule = json!([{"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": between}]);
    let bundle = calling(&[(umask, 1, 0), (umask, 3, 0), (umask, 9, 0)], denying(rule));
    assert_eq!(answers(&bundle), [99, 0, 99]);
    let outcome = bundle.run().ok();
    assert!(!is_orlop() || outcome.stderr.contains("linux.seccomp.syscalls[0].args"), "{outcome}");
}

/// In a list of what is forbidden, a name that nobody knows is a hole.
#[test]
fn unknown_names_are_told_where_they_matter() {
    require!(is_root(), "root of the host");
    let forbidding = denying(json!([{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]));
    let outcome = filtered("true", forbidding).run().ok();
    assert!(!is_orlop() || outcome.stderr.contains("no_such_call"), "{outcome}");
    let mut allowing = docker();
    allowing["syscalls"].as_array_mut().unwrap().push(json!({"names": ["no_such_call"], "action": "SCMP_ACT_ALLOW"}));
    let outcome = filtered("true", allowing).run().ok();
    assert!(!outcome.stderr.contains("no_such_call"), "{outcome}");
}

#[test]
fn what_cannot_be_is_refused() {
    require!(is_root(), "root of the host");
    let refused = |profile: Value, words: &str| {
        let mut bundle = filtered("true", profile);
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(true));
        bundle.create().fails_saying(words);
        bundle.assert_gone();
    };
    let one = |action: &str, errno: Value, value: u64| {
        json!({"names": ["umask"], "action": action, "errnoRet": errno,
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    refused(denying(json!([one("SCMP_ACT_ERRNO", json!(1), 5), one("SCMP_ACT_ERRNO", json!(2), 5)])), "EEXIST");
    let mut foreign = no_mkdir(1);
    foreign["architectures"] = json!(["SCMP_ARCH_S390X"]);
    refused(foreign, "linux.seccomp.architectures[0]");
    // Each rule asks of other arguments, so that nothing can be joined.
    let many: Vec<_> = (0..1200_u64)
        .map(|at| {
            let arg = |index: u64| json!({"index": index, "value": at * 7 + index, "op": "SCMP_CMP_EQ"});
            json!({"names": ["umask"], "action": "SCMP_ACT_ERRNO", "args": [arg(0), arg(1)]})
        })
        .collect();
    refused(denying(json!(many)), "the kernel takes 4096");
    let mut killable = no_mkdir(1);
    killable["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    // The kernel wants an agent with it, and the flag is not silently left out.
    refused(killable, "seccomp(");
}

/// An agent: takes one process's listener, answers every notification with EREMOTEIO, and tells what it was told.
fn agent(path: &Path) -> mpsc::Receiver<(Value, u32)> {
    let listener = UnixListener::bind(path).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let tell = tell.clone();
            std::thread::spawn(move || serve(connection.unwrap(), &tell));
        }
    });
    told
}

fn serve(mut connection: UnixStream, tell: &mpsc::Sender<(Value, u32)>) {
    let (mut text, listener) = receive(&connection);
    connection.read_to_end(&mut text).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    // struct seccomp_notif is 80 bytes, struct seccomp_notif_resp is 24 (linux/seccomp.h).
    const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
    const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
    loop {
        let mut notification = [0u8; 80];
        // SAFETY: the buffer is as large as the kernel's structure, and zeroed as it wants it.
        if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, notification.as_mut_ptr()) } < 0 {
            return;
        }
        let pid = u32::from_ne_bytes(notification[8..12].try_into().unwrap());
        let mut response = [0u8; 24];
        response[..8].copy_from_slice(&notification[..8]);
        response[16..20].copy_from_slice(&(-libc::EREMOTEIO).to_ne_bytes());
        let _ = tell.send((state.clone(), pid));
        // SAFETY: as above.
        unsafe { libc::ioctl(listener.as_raw_fd(), SEND, response.as_mut_ptr()) };
    }
}

fn receive(connection: &UnixStream) -> (Vec<u8>, OwnedFd) {
    use std::os::fd::FromRawFd;
    let mut text = vec![0; 64 * 1024];
    let mut parts = [std::io::IoSliceMut::new(&mut text)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = nix::sys::socket::recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        nix::sys::socket::MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let fd = message
        .cmsgs()
        .unwrap()
        .find_map(|control| match control {
            nix::sys::socket::ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
        .expect("the listener comes with the first bytes");
    let length = message.bytes;
    text.truncate(length);
    // SAFETY: the kernel has just made this descriptor for us.
    (text, unsafe { OwnedFd::from_raw_fd(fd) })
}

fn notifying(socket: &str) -> Value {
    let mut profile = denying(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
    profile["listenerPath"] = json!(socket);
    profile["listenerMetadata"] = json!("for the agent");
    profile
}

#[test]
fn an_agent_answers() {
    require!(is_root(), "root of the host");
    for no_new_privileges in [false, true] {
        let mut bundle = filtered("mkdir /tmp/x; sleep 1000", json!(null));
        let socket = bundle.scratch("agent");
        let told = agent(&socket);
        bundle.edit(|spec| {
            spec["linux"]["seccomp"] = notifying(&socket.display().to_string());
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            spec["annotations"] = json!({"a": "b"});
        });
        bundle.run_detached().ok();
        let (state, _) = told.recv_timeout(patience(10)).unwrap();
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for the agent");
        assert_eq!(state["pid"], bundle.pid());
        assert_eq!(state["state"]["pid"], bundle.pid());
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(state["state"]["id"], bundle.id());
        assert_eq!(state["state"]["annotations"]["a"], "b");
        assert!(state["ociVersion"].is_string() && state["state"]["bundle"].is_string(), "{state}");
        bundle.exec("mkdir /tmp/y").fails_with("Remote I/O error");
        let (state, _) = told.recv_timeout(patience(10)).unwrap();
        assert_eq!(state["state"]["status"], "running");
        assert_eq!(state["state"]["pid"], bundle.pid());
        assert_ne!(state["pid"], bundle.pid());
        bundle.finish_off();
    }
}

/// The runtime of an ordinary user may not look into its child, which hides: the child sends the listener itself.
#[test]
fn an_agent_of_an_ordinary_user_answers() {
    require!(is_root(), "root of the host");
    let user = 1234;
    let mut bundle = filtered("mkdir /tmp/x; true", json!(null));
    let folder = bundle.scratch("agents");
    std::fs::create_dir(&folder).unwrap();
    let socket = folder.join("agent");
    let told = agent(&socket);
    for path in [bundle.scratch(""), bundle.path(), bundle.rootfs(""), bundle.rootfs("tmp"), folder, socket.clone()] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    }
    bundle.prelude("set -- setpriv --reuid 1234 --regid 1234 --clear-groups -- \"$@\"");
    bundle.namespace(json!({"type": "user"})).edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        linux.remove("resources");
        linux.insert("uidMappings".into(), json!([{"containerID": 0, "hostID": user, "size": 1}]));
        linux.insert("gidMappings".into(), json!([{"containerID": 0, "hostID": user, "size": 1}]));
        linux.insert("seccomp".into(), notifying(&socket.display().to_string()));
        let pts = spec["mounts"].as_array_mut().unwrap().iter_mut().find(|mount| mount["destination"] == "/dev/pts");
        pts.unwrap()["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    });
    for no_new_privileges in [false, true] {
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let outcome = bundle.run().ok();
        assert!(outcome.stderr.contains("Remote I/O error"), "{outcome}");
        told.recv_timeout(patience(10)).unwrap();
    }
}

#[test]
fn an_agent_is_needed() {
    require!(is_root(), "root of the host");
    let refused = |profile: Value, words: &str| {
        let bundle = filtered("true", profile);
        bundle.create().fails_saying(words);
        bundle.assert_gone();
    };
    refused(notifying("/no/such/agent"), "linux.seccomp.listenerPath");
    refused(notifying("@no-such-agent"), "linux.seccomp.listenerPath");
    let mut without = notifying("");
    without.as_object_mut().unwrap().remove("listenerMetadata");
    refused(without, "listenerPath");
    let mut write = notifying("/no/such/agent");
    write["syscalls"][0]["names"] = json!(["write"]);
    refused(write, "write");
    let mut default = notifying("/no/such/agent");
    default["defaultAction"] = json!("SCMP_ACT_NOTIFY");
    refused(default, "linux.seccomp.defaultAction");
    // A path that no rule needs is not looked at.
    let mut unused = no_mkdir(1);
    unused["listenerPath"] = json!("/no/such/agent");
    filtered("true", unused).run().ok();
}

/// crun's words of before the specification had its own, and two that would load somebody's code.
#[test]
fn annotations_of_crun_are_understood_or_refused() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a reader of crun's annotations");
    let annotated = |mut profile: Value, name: &str, value: &str| {
        profile.as_object_mut().unwrap().remove("listenerPath");
        profile.as_object_mut().unwrap().remove("listenerMetadata");
        let mut bundle = filtered("mkdir /tmp/x; true", profile);
        bundle.edit(|spec| spec["annotations"] = json!({name: value}));
        bundle
    };
    let sockets = Bundle::new();
    let socket = sockets.scratch("agent").display().to_string();
    let asked = agent(socket.as_ref());
    let outcome = annotated(notifying(""), "run.oci.seccomp.receiver", &socket).run().ok();
    assert!(outcome.stderr.contains("Remote I/O error"), "{outcome}");
    assert!(asked.recv().is_ok());
    let relative = annotated(notifying(""), "run.oci.seccomp.receiver", "agent").run();
    relative.fails_with("run.oci.seccomp.receiver");

    // The variable is for who says nothing of it: neither in the profile nor in an annotation.
    let said_by_nobody = annotated(notifying(""), "a", "b");
    let run = |bundle: &Bundle, receiver: &str| {
        let mut command = bundle.write().command(&bundle.with_bundle(&["run"]));
        command.env("RUN_OCI_SECCOMP_RECEIVER", receiver);
        bundle.finish(command)
    };
    assert!(run(&said_by_nobody, &socket).ok().stderr.contains("Remote I/O error"));
    assert!(asked.recv().is_ok());
    run(&said_by_nobody, "agent").fails_with("RUN_OCI_SECCOMP_RECEIVER");
    run(&said_by_nobody, "/no/such/agent").fails_with("RUN_OCI_SECCOMP_RECEIVER");
    run(&said_by_nobody, "").fails_with("listenerPath");
    run(&annotated(notifying(""), "run.oci.seccomp.receiver", &socket), "/no/such/agent").ok();
    run(&filtered("mkdir /tmp/x; true", notifying(&socket)), "/no/such/agent").ok();
    run(&filtered("true", no_mkdir(1)), "/no/such/agent").ok();

    let unknown = denying(json!([{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]));
    let strict = "run.oci.seccomp_fail_unknown_syscall";
    annotated(unknown.clone(), strict, "1").run().fails_with("linux.seccomp.syscalls[0].names[1]");
    annotated(unknown, strict, "0").run().ok();
    annotated(no_mkdir(1), strict, "1").run().ok();
}
