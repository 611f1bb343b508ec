//! A launch that fails, or whose processes are killed, at each step of each side: the caller hears why, and nothing is left;
//! where the caller itself was killed, `delete --force` leaves nothing.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::failpoint::{EXEC, Held, LATE, command_at, has_failpoints, processes_of};
use crate::require;
use crate::support::leak::Left;
use crate::support::{Bundle, is_root, wait_until};

/// Steps of the two sides, where there is no usher.
const TWO: &[&str] = &[
    "Parent:Spawn",
    "Init:Place",
    "Parent:Place",
    "Parent:MapIds",
    "Init:MapIds",
    "Parent:Enter",
    "Init:Enter",
    "Parent:Lend",
    "Init:Lend",
    "Init:BuildRoot",
    "Parent:Limit",
    "Init:Limit",
    "Parent:RuntimeHooks",
    "Init:RuntimeHooks",
    "Init:ContainerHooks",
    "Init:EnterRoot",
    "Init:Furnish",
    "Init:Seal",
    "Parent:Become",
    "Init:Become",
    "Init:Ready",
    "Parent:Ready",
];

/// What an usher that bears early adds.
const USHER: &[&str] = &["Usher:Place", "Usher:Enter", "Parent:Enter", "Init:Enter", "Init:BuildRoot", "Parent:Ready"];

/// Everything in the scratch directory but the outputs of commands.
fn files(bundle: &Bundle) -> Vec<String> {
    let listed = crate::support::outcome::host(
        &bundle.scratch(""),
        &["find", bundle.scratch("").to_str().unwrap(), "-not", "-name", "std*"],
    );
    let mut lines: Vec<_> = listed.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What a bundle's `create` may have left; the state's parent folder stays.
#[track_caller]
fn nothing_is_left(bundle: &Bundle, before: &[String], when: &str) {
    bundle.assert_gone();
    assert_eq!(files(bundle), before, "{when}: files were left");
}

/// Kills a process that was there a moment ago, and may have ended by itself.
fn end(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Whose number a pid file has.
fn number_in(file: &std::path::Path) -> i32 {
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

/// Lets `create` fail at each of the points in every way. Answers how many launches that were.
fn create_fails_everywhere(bundle: &Bundle, points: &[&str]) -> usize {
    let pid_file = bundle.scratch("pid");
    bundle.write();
    std::fs::create_dir_all(bundle.state_root()).unwrap();
    let before = files(bundle);
    let args = bundle.with_bundle(&["create", "--pid-file", pid_file.to_str().unwrap()]);
    let mut count = 0;
    for point in points {
        for action in ["fail", "kill"] {
            count += 1;
            let when = format!("{point}={action}");
            let outcome = bundle.finish(command_at(bundle, &args, &when));
            assert!(!outcome.status.success(), "{when} was not reached: {outcome}");
            if action == "fail" {
                let outcome = outcome.fails_with(&format!("the failpoint at {point}"));
                assert_eq!(outcome.code(), 1, "{outcome}");
            } else if point.starts_with("Parent") {
                bundle.delete_force().ok();
            } else {
                outcome.fails();
            }
            nothing_is_left(bundle, &before, &when);
        }
        // Each process that is there at that moment is killed in a launch of its own.
        for victim in 0.. {
            let running = bundle.spawn(command_at(bundle, &args, &format!("{point}=stop")));
            let parent = running.pid() as i32;
            let held = Held::wait(bundle, || false).unwrap();
            let mut there = processes_of(bundle.id());
            there.sort_by_key(|pid| (*pid != parent, *pid));
            let Some(&pid) = there.get(victim) else {
                held.release();
                running.wait().ok();
                bundle.delete_force().ok();
                let _ = std::fs::remove_file(&pid_file);
                break;
            };
            count += 1;
            let when = format!("{point}, number {victim} of {} killed", there.len());
            end(pid);
            held.release();
            let outcome = running.wait();
            if outcome.status.success() && pid == number_in(&pid_file) {
                // Init, which had said that it is ready, may as well have died a moment later.
                assert!(matches!(*point, "Parent:Become" | "Parent:Ready"), "{when}: {outcome}");
                bundle.wait_for_status("stopped");
            } else if outcome.status.success() {
                // An usher may have said its last word before it was killed, and a hook may have ended: nobody misses it.
                assert!(pid != parent && bundle.status() == "created", "{when}: {outcome}");
            }
            if pid == parent || outcome.status.success() {
                bundle.delete_force().ok();
                // Whoever writes a pid file and is killed cannot take it back.
                let _ = std::fs::remove_file(&pid_file);
            } else {
                outcome.fails();
            }
            nothing_is_left(bundle, &before, &when);
        }
    }
    count
}

#[test]
fn create_fails_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut bundle = Bundle::new();
    let hook = json!([{"path": "/bin/true"}]);
    bundle.writable().mount(json!({"destination": "/mnt/made", "type": "tmpfs", "source": "tmpfs"}));
    std::fs::create_dir(bundle.rootfs("mnt/made")).unwrap();
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "poststop": hook}));
    println!("{} launches without an usher", create_fails_everywhere(&bundle, TWO));
}

#[test]
fn create_with_an_usher_fails_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut bundle = Bundle::new();
    bundle.namespace(json!({"type": "time"}));
    println!("{} launches with an usher", create_fails_everywhere(&bundle, USHER));
}

#[test]
fn create_in_a_shared_pid_namespace_fails_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut sandbox = Bundle::new();
    sandbox.up();
    let mut bundle = Bundle::new();
    let path = format!("/proc/{}/ns/pid", sandbox.pid());
    bundle.no_namespace("pid").namespace(json!({"type": "pid", "path": path}));
    println!("{} launches with an usher that bears late", create_fails_everywhere(&bundle, LATE));
    sandbox.finish_off();
}

#[test]
fn create_in_a_user_namespace_fails_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut bundle = Bundle::new();
    bundle.user_namespace(100_000);
    let points = ["Parent:MapIds", "Init:MapIds", "Init:Enter", "Parent:Lend", "Init:Lend", "Init:Seal"];
    println!("{} launches with a user namespace", create_fails_everywhere(&bundle, &points));
}

#[test]
fn exec_fails_at_every_step() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut bundle = Bundle::new();
    bundle.up();
    let init = bundle.pid();
    let args = ["exec", bundle.id(), "sleep", "1000"].map(str::to_owned);
    let pid_file = bundle.scratch("pid");
    let mut count = 0;
    let as_before = |when: &str| {
        let alone = || Left::of(bundle.id()).processes.iter().all(|(pid, _)| *pid == init);
        wait_until(&format!("{when}: init is alone again"), alone);
        assert_eq!(bundle.status(), "running", "{when}");
    };
    let end_the_others = || {
        let left = Left::of(bundle.id()).processes;
        let others = left.iter().map(|(pid, _)| *pid).filter(|pid| *pid != init);
        others.filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()).count()
    };
    for point in EXEC {
        for action in ["fail", "kill"] {
            count += 1;
            let when = format!("{point}={action}");
            let outcome = bundle.finish(command_at(&bundle, &args, &when));
            // The end of the link after Ready is what execve leaves, too: it may as well have died a moment later.
            let unheard = when == "Init:Exec=kill";
            assert!(unheard || !outcome.status.success(), "{when}: {outcome}");
            if action == "fail" {
                outcome.fails_with(&format!("the failpoint at {point}"));
            } else if !point.starts_with("Parent") && !unheard {
                outcome.fails();
            }
            as_before(&when);
        }
        for victim in 0.. {
            let mut detached = args.to_vec();
            let words = ["--detach", "--pid-file", pid_file.to_str().unwrap()].map(str::to_owned);
            detached.splice(1..1, words);
            let running = bundle.spawn(command_at(&bundle, &detached, &format!("{point}=stop")));
            let parent = running.pid() as i32;
            let held = Held::wait(&bundle, || false).unwrap();
            let mut there: Vec<_> = processes_of(bundle.id()).into_iter().filter(|pid| *pid != init).collect();
            there.sort_by_key(|pid| (*pid != parent, *pid));
            let Some(&pid) = there.get(victim) else {
                there.into_iter().for_each(end);
                running.wait();
                break;
            };
            count += 1;
            let when = format!("{point}, number {victim} killed");
            end(pid);
            held.release();
            let outcome = running.wait();
            let was_ready = matches!(*point, "Parent:Become" | "Parent:Ready" | "Parent:Exec" | "Init:Exec");
            if pid == parent {
                // At its last step the child needs nobody any more.
                if *point == "Init:Exec" {
                    end_the_others();
                }
            } else if !outcome.status.success() {
                outcome.fails();
            } else if pid == number_in(&pid_file) {
                assert!(was_ready, "{when}: {outcome}");
            } else {
                // An usher may have said its last word before it was killed: then its child lives.
                assert_eq!(end_the_others(), 1, "{when}: {outcome}");
            }
            as_before(&when);
        }
    }
    println!("{count} times exec");
    bundle.finish_off();
}

/// After Ready init is alone: `start` tells what became of it.
#[test]
fn start_fails_on_either_side() {
    require!(is_root(), "root of the host");
    require!(has_failpoints(), "failpoints");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let args = bundle.with_bundle(&["create"]);
    for point in ["Init:Wait=fail", "Init:Wait=kill", "Init:Exec=fail", "Init:Exec=kill"] {
        bundle.finish(command_at(&bundle, &args, point)).ok();
        if point.starts_with("Init:Wait") {
            bundle.wait_for_status("stopped");
        }
        let outcome = bundle.start();
        // Without a word from init, its end is what execve leaves, too.
        if point != "Init:Exec=kill" {
            outcome.fails();
        }
        bundle.wait_for_status("stopped");
        bundle.delete().ok();
        bundle.assert_gone();
    }
    for action in ["fail", "kill"] {
        bundle.create().ok();
        let start = ["start", bundle.id()].map(str::to_owned);
        let outcome = bundle.finish(command_at(&bundle, &start, &format!("Parent:Exec={action}")));
        assert!(!outcome.status.success(), "{outcome}");
        assert_eq!(bundle.status(), "created");
        bundle.start().ok();
        bundle.finish_off();
        bundle.assert_gone();
    }
}
