//! T13: CVE-2016-9962. Root of a container with every capability (CAP_SYS_PTRACE among them) and no user namespace looks
//! through /proc and pidfds at each process of the runtime that comes into its pid namespace.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;

use crate::failpoint::{EXEC, Held, LATE, command_at, has_failpoints};
use crate::require;
use crate::support::canary::Canary;
use crate::support::console::ConsoleSocket;
use crate::support::outcome::Outcome;
use crate::support::{Bundle, executable, is_orlop, is_root, status_field, wait_until};

/// Only who calls the runtime has this.
const SECRET: &str = "callers-own-secret-word";

/// A hostile container that looks, and a copy of the runtime that it may try to overwrite.
struct Watch {
    bundle: Bundle,
    canary: Canary,
    runtime: std::path::PathBuf,
    before: Vec<u8>,
    said: std::path::PathBuf,
}

impl Watch {
    fn begin() -> Watch {
        let mut bundle = Bundle::new();
        let canary = Canary::plant(bundle.scratch("outside"));
        let runtime = bundle.scratch("orlop");
        std::fs::copy(crate::support::binary(), &runtime).unwrap();
        executable(&runtime);
        let looker = bundle.rootfs("bin/looker");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/races/looker.c");
        let built = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&looker).arg(source).status().unwrap();
        assert!(built.success(), "cc could not build the looker");
        let host = std::fs::metadata("/proc/self/ns/mnt").unwrap().ino().to_string();
        let backwards: String = SECRET.chars().rev().collect();
        let file = canary.path().join("target").display().to_string();
        bundle.writable().all_capabilities().args(&["looker", &file, &backwards, &host, "/passes"]);
        bundle.edit(|spec| {
            spec["process"]["noNewPrivileges"] = json!(false);
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
        });
        let said = bundle.run_detached().ok().stdout_path();
        let before = std::fs::read(&runtime).unwrap();
        let watch = Watch { bundle, canary, runtime, before, said };
        watch.two_passes();
        watch
    }

    /// Waits until the looker has looked once, from beginning to end, at what is there now.
    fn two_passes(&self) {
        let passes = self.bundle.rootfs("passes");
        let count = || {
            let mut bytes = [0; 8];
            let read = std::fs::File::open(&passes).and_then(|file| file.read_exact_at(&mut bytes, 0));
            read.map_or(0, |()| u64::from_ne_bytes(bytes))
        };
        let now = count();
        wait_until("the hostile container looks", || count() >= now + 2);
    }

    /// A container that joins the hostile one's pid namespace.
    fn victim(&self) -> Bundle {
        let mut victim = Bundle::new();
        let path = format!("/proc/{}/ns/pid", self.bundle.pid());
        victim.no_namespace("pid").namespace(json!({"type": "pid", "path": path}));
        victim
    }

    /// The runtime's copy with these words, called by somebody with a secret.
    fn command(&self, bundle: &Bundle, args: &[String]) -> Command {
        let mut command = bundle.command_of(&self.runtime, args);
        command.env("SECRET", SECRET);
        command
    }

    /// What the looker has seen of an orlop process, and what of the host.
    fn found(&self) -> (bool, Vec<String>) {
        let said = std::fs::read_to_string(&self.said).unwrap();
        (said.contains("SAW"), said.lines().filter(|line| line.starts_with("HOST")).map(str::to_owned).collect())
    }

    /// Forgets what the looker said: it says each thing once, so there must have been nothing of the host.
    #[track_caller]
    fn assert_blind(&self, when: &str) {
        let (_, host) = self.found();
        assert!(host.is_empty(), "{when}: the container reached {host:?}");
        assert!(std::fs::read(&self.runtime).unwrap() == self.before, "{when}: the runtime was overwritten");
        assert_eq!(self.canary.touched(), Vec::<String>::new(), "{when}");
    }

    #[track_caller]
    fn end(self) {
        self.assert_blind("at the end");
        self.bundle.finish_off();
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The looker is no blind man: it finds all that a process of that name has of the host.
#[test]
fn t13_twin_the_looker_sees() {
    require!(is_root(), "root of the host");
    let watch = Watch::begin();
    let decoy = watch.bundle.scratch("orlop-decoy");
    std::fs::copy("/bin/sleep", &decoy).unwrap();
    executable(&decoy);
    // A directory of the host is its descriptor 9.
    let script = "exec 9</usr; exec nsenter --pid --target $0 \"$1\" 1000";
    let mut command = Command::new("sh");
    command.args(["-c", script, &watch.bundle.pid().to_string()]).arg(&decoy);
    let mut decoy = command.env("SECRET", SECRET).current_dir("/usr").spawn().unwrap();
    wait_until("the looker saw it", || watch.found().0);
    watch.two_passes();
    let (_, host) = watch.found();
    for expected in ["root", "cwd", "fd of", "pidfd_getfd of", "environ", "process_vm_readv", "ns/mnt"] {
        let needle = format!("HOST {expected}");
        assert!(host.iter().any(|line| line.starts_with(&needle)), "{expected} is not in {host:?}");
    }
    // Who is in the pid namespace ends with it.
    watch.bundle.finish_off();
    decoy.wait().unwrap();
}

/// Holds `args` at each of the points, lets the container look, and goes on. Every point must be reached.
fn hold(watch: &Watch, bundle: &Bundle, args: &[String], points: &[&str], mut after: impl FnMut(&str, Outcome)) {
    for point in points {
        let mut command = watch.command(bundle, args);
        command.env(crate::failpoint::VARIABLE, format!("{point}=stop"));
        let running = bundle.spawn(command);
        let held = Held::wait(bundle, || false).unwrap();
        watch.two_passes();
        watch.assert_blind(point);
        held.release();
        after(point, running.wait());
        watch.two_passes();
        watch.assert_blind(point);
    }
}

#[test]
fn t13_cve_2016_9962_create_held_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let watch = Watch::begin();
    let mut victim = watch.victim();
    victim.args(&["sleep", "1000"]).write();
    let args = victim.with_bundle(&["create"]);
    hold(&watch, &victim, &args, LATE, |_, outcome| {
        outcome.ok();
        victim.delete_force().ok();
    });
    // Init goes on alone, after create has returned.
    for point in ["Init:Wait", "Init:Exec"] {
        victim.finish(command_at(&victim, &args, &format!("{point}=stop"))).ok();
        let starting = (point == "Init:Exec").then(|| victim.spawn(victim.command(&["start", victim.id()])));
        let held = Held::wait(&victim, || false).unwrap();
        watch.two_passes();
        watch.assert_blind(point);
        held.release();
        match starting {
            Some(starting) => starting.wait().ok(),
            None => victim.start().ok(),
        };
        victim.delete_force().ok();
    }
    assert!(watch.found().0, "the looker never saw the runtime");
    watch.end();
}

#[test]
fn t13_cve_2016_9962_exec_held_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let watch = Watch::begin();
    let args = words(&["exec", watch.bundle.id(), "true"]);
    hold(&watch, &watch.bundle, &args, EXEC, |_, outcome| drop(outcome.ok()));
    assert!(watch.found().0, "the looker never saw the runtime");
    watch.end();
}

/// Capability sets of a process: permitted, effective, bounding.
fn rights(pid: i32) -> u64 {
    let set = |name| u64::from_str_radix(&status_field(&pid.to_string(), name).unwrap(), 16).unwrap();
    ["CapPrm", "CapEff", "CapBnd"].into_iter().fold(0, |all, name| all | set(name))
}

/// Who has CAP_SYS_PTRACE can have another process of its pid namespace do whatever that may do. So who comes into it has no
/// right that leads out, and hardly one that the program has not: what CHOWN, DAC_OVERRIDE, SETGID, SETUID, SETPCAP,
/// SYS_NICE and SYS_RESOURCE are for; SYS_ADMIN only where a filter without no_new_privs has to be loaded.
#[test]
fn t13_nobody_comes_in_with_rights_that_lead_out() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let (sys_admin, on_the_way) = (1 << 21, 1 | 1 << 1 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 23 | 1 << 24);
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]});
    for (no_new_privileges, filtered) in [(true, true), (false, false), (false, true)] {
        let mut sandbox = Bundle::new();
        sandbox.capabilities(&["CAP_SYS_PTRACE"]).edit(|spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            if filtered {
                spec["linux"]["seccomp"] = filter.clone();
            }
        });
        sandbox.up();
        let program = rights(sandbox.pid());
        let allowed = program | on_the_way | if filtered && !no_new_privileges { sys_admin } else { 0 };
        let beyond = |when: &str, pid: i32| {
            let rights = rights(pid) & !allowed;
            assert_eq!(rights, 0, "{when}, no_new_privs {no_new_privileges}, filter {filtered}: {rights:#x} too much");
        };
        let exec = words(&["exec", sandbox.id(), "true"]);
        for point in ["Init:Enter", "Init:Become", "Init:Ready", "Init:Exec"] {
            let running = sandbox.spawn(command_at(&sandbox, &exec, &format!("{point}=stop")));
            let held = Held::wait(&sandbox, || false).unwrap();
            beyond(point, held.0);
            held.release();
            running.wait().ok();
        }
        let mut victim = Bundle::new();
        let path = format!("/proc/{}/ns/pid", sandbox.pid());
        victim.no_namespace("pid").namespace(json!({"type": "pid", "path": path})).capabilities(&["CAP_SYS_PTRACE"]);
        victim.edit(|spec| {
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            if filtered {
                spec["linux"]["seccomp"] = filter.clone();
            }
        });
        victim.write();
        for point in ["Init:Become", "Init:Ready"] {
            let create = command_at(&victim, &victim.with_bundle(&["create"]), &format!("{point}=stop"));
            let running = victim.spawn(create);
            let held = Held::wait(&victim, || false).unwrap();
            beyond(point, held.0);
            held.release();
            running.wait().ok();
            victim.delete_force().ok();
        }
        sandbox.finish_off();
    }
}

/// The terminal is made, and its master sent, before there is anybody to be looked at.
#[test]
fn t13_the_console_socket_stays_outside() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut bundle = Bundle::new();
    bundle.up();
    let socket = ConsoleSocket::at(bundle.scratch("exec.sock"));
    let exec = ["exec", "--tty", "--detach", "--console-socket", socket.path().to_str().unwrap(), bundle.id(), "true"];
    let running = bundle.spawn(command_at(&bundle, &words(&exec), "Init:Enter=stop"));
    let held = Held::wait(&bundle, || false).unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", held.0)).unwrap().flatten();
    let open: Vec<_> = open.map(|entry| std::fs::read_link(entry.path()).unwrap().display().to_string()).collect();
    let sockets = open.iter().filter(|name| name.starts_with("socket:")).count();
    assert_eq!(sockets, 1, "more than the link to the parent: {open:?}");
    assert!(!open.iter().any(|name| name.ends_with("/ptmx")), "{open:?}");
    held.release();
    let _terminal = socket.terminal();
    running.wait().ok();
    bundle.finish_off();
}

/// A file of the host for what hooks print is open no longer than there are hooks to print.
#[test]
fn t13_the_output_of_hooks_stays_outside() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let watch = Watch::begin();
    let mut victim = watch.victim();
    let output = victim.file("output", "");
    victim.args(&["sleep", "1000"]).edit(|spec| {
        spec["annotations"] = json!({"run.oci.hooks.stdout": output});
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    });
    victim.write();
    let args = victim.with_bundle(&["create"]);
    hold(&watch, &victim, &args, &["Usher:Become", "Init:Become", "Init:Ready"], |_, outcome| {
        outcome.ok();
        victim.delete_force().ok();
    });
    watch.end();
}

/// Hooks of createContainer have the host in view and all rights: they run where nobody looks.
#[test]
fn t13_hooks_of_create_container_stay_outside() {
    require!(is_root(), "root of the host");
    let watch = Watch::begin();
    let mut victim = watch.victim();
    let hook = victim.scratch("orlop-hook");
    std::fs::copy("/bin/sleep", &hook).unwrap();
    executable(&hook);
    let begun = victim.scratch("begun");
    let touch = json!({"path": "/bin/touch", "args": ["touch", begun]});
    victim.edit(|spec| spec["hooks"] = json!({"createContainer": [touch, {"path": hook, "args": ["hook", "1000"]}]}));
    victim.write();
    let running = victim.spawn(watch.command(&victim, &victim.with_bundle(&["create"])));
    wait_until("the hook runs", || begun.exists());
    watch.two_passes();
    watch.two_passes();
    watch.assert_blind("at createContainer");
    victim.delete_force().ok();
    running.wait().fails();
    watch.end();
}

/// Another user is as dumpable as fs.suid_dumpable says, which is the host's; with 1 there, fellows of that user in the
/// container could trace what has not loaded its filter yet.
#[test]
fn t13_a_change_of_user_does_not_show_us() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut bundle = Bundle::new();
    bundle.args(&["true"]).edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    bundle.write();
    let trace = bundle.scratch("std-trace");
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=setresuid,prctl,execve", "-o"]).arg(&trace);
    command.arg(inner.get_program()).args(inner.get_args());
    bundle.finish(command).ok();
    let trace = std::fs::read_to_string(&trace).unwrap();
    let (_, after) = trace.split_once("setresuid(1000").expect("the user changes");
    let (until, _) = after.split_once("execve(").expect("the program is executed");
    assert!(until.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"), "{until}");
}

/// So are the new rights that come with a user namespace: who is then born inside would be traced by the container's root.
#[test]
fn t13_a_joined_user_namespace_does_not_show_us() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut bundle = Bundle::new();
    bundle.user_namespace(100_000).args(&["sleep", "1000"]).up();
    let trace = bundle.scratch("std-trace");
    let inner = bundle.command(&["exec", bundle.id(), "true"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=setns,setresuid,prctl,clone,clone3", "-o"]).arg(&trace);
    command.arg(inner.get_program()).args(inner.get_args());
    bundle.finish(command).ok();
    let trace = std::fs::read_to_string(&trace).unwrap();
    let (_, after) = trace.split_once("setresuid(0").expect("the usher becomes root of the user namespace");
    let (until, _) = after.split_once("clone").expect("the usher bears who becomes the program");
    assert!(until.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE"), "{until}");
    bundle.finish_off();
}

/// Before Linux 6.18 the procfs is made by somebody in that pid namespace; what can be seen of the host is its namespaces.
#[test]
fn t13_cve_2016_9962_where_procfs_takes_no_pid_namespace() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that shows nothing to who has CAP_SYS_PTRACE");
    let watch = Watch::begin();
    let mut victim = watch.victim();
    victim.args(&["cat", "/proc/1/comm"]).write();
    for _ in 0..50 {
        let mut command = watch.command(&victim, &victim.with_bundle(&["run"]));
        refuse_descriptors(&mut command);
        assert_eq!(victim.finish(command).ok().text(), "looker");
    }
    let (_, host) = watch.found();
    assert!(host.iter().all(|line| line == "HOST ns/mnt"), "{host:?}");
    watch.bundle.finish_off();
}

/// Lets fsconfig(2) with FSCONFIG_SET_FD answer EINVAL, as for an option that does not exist.
fn refuse_descriptors(command: &mut Command) {
    const FSCONFIG_SET_FD: u32 = 5;
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, equal, answer) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
    // seccomp_data: the number is at offset 0, the second argument's low half at 24.
    let program = [
        instruction(load, 0, 0, 0),
        instruction(equal, 0, 3, libc::SYS_fsconfig as u32),
        instruction(load, 0, 0, 24),
        instruction(equal, 0, 1, FSCONFIG_SET_FD),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the filter and its instructions live until the call returns, and the kernel copies them. Between fork and
        // exec this closure makes one system call and allocates nothing.
        let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
        if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure is safe to run between fork and exec, as it says itself.
    unsafe { command.pre_exec(install) };
}

/// Without holding anything still: 1,000 tries.
#[test]
fn t13_cve_2016_9962_a_thousand_tries() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that shows nothing to who has CAP_SYS_PTRACE");
    let watch = Watch::begin();
    let mut victim = watch.victim();
    victim.args(&["true"]).write();
    for round in 0..500 {
        let exec = words(&["exec", watch.bundle.id(), "true"]);
        watch.bundle.finish(watch.command(&watch.bundle, &exec)).ok();
        let create = victim.with_bundle(&["run"]);
        victim.finish(watch.command(&victim, &create)).ok();
        watch.assert_blind(&format!("round {round}"));
    }
    assert!(watch.found().0, "the looker never saw the runtime");
    println!("1000 tries: 500 times exec, 500 times create and start");
    watch.end();
}
