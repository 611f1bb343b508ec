//! A host that has run out of something: a call of create, exec or delete fails, one at a time, at the first, the second and
//! every later time that a process of the runtime makes it. Each command then says so and leaves nothing, or did without.

use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::leak::Left;
use crate::support::outcome::{Outcome, called_by};
use crate::support::{Bundle, is_root, wait_until};

/// Which calls fail, and how, and at most how many times in a row (steps apart) they are tried.
const FAULTS: &[(&str, &str, usize, usize)] = &[
    // (calls, error, the highest occurrence, step)
    ("openat", "EMFILE", 61, 6),
    ("openat2", "EMFILE", 16, 1),
    ("openat2", "ENOMEM", 15, 2),
    ("mkdirat", "ENOSPC", 14, 1),
    ("mknodat", "ENOSPC", 4, 1),
    ("symlinkat", "ENOSPC", 4, 1),
    ("write", "ENOSPC", 26, 2),
    ("fsopen", "ENOMEM", 8, 1),
    ("fsconfig", "ENOMEM", 16, 3),
    ("fsmount", "EMFILE", 8, 1),
    ("move_mount", "ENOSPC", 12, 2),
    ("open_tree", "ENOSPC", 10, 2),
    ("mount_setattr", "ENOMEM", 3, 1),
    ("clone3", "ENOMEM", 2, 1),
    ("clone3", "EAGAIN", 2, 1),
    ("socketpair", "EMFILE", 1, 1),
    ("sendmsg", "ENOBUFS", 2, 1),
    ("recvmsg", "ENOMEM", 3, 1),
    ("setsid", "ENOMEM", 1, 1),
    ("pivot_root", "ENOMEM", 1, 1),
    ("fcntl", "EMFILE", 13, 6),
    ("renameat", "ENOSPC", 4, 1),
    ("capset", "ENOMEM", 1, 1),
    ("setns", "ENOMEM", 1, 1),
];

/// The command under strace, which makes one call fail at its `when`th time in each process.
fn injected(bundle: &Bundle, args: &[String], call: &str, error: &str, when: usize) -> Command {
    let inner = bundle.command(args);
    let (log, trace) = (bundle.scratch("std-trace"), format!("--trace={call}"));
    let inject = format!("--inject={call}:error={error}:when={when}");
    called_by(&["strace", "-f", "-qq", "-o", log.to_str().unwrap(), &trace, &inject], &inner)
}

/// Whether a call was made to fail.
fn hit(bundle: &Bundle) -> bool {
    std::fs::read_to_string(bundle.scratch("std-trace")).is_ok_and(|trace| trace.contains("(INJECTED)"))
}

/// A failure is told; never is it a signal, a panic or silence.
#[track_caller]
fn told(outcome: Outcome) {
    if !outcome.status.success() {
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        outcome.fails();
    }
}

#[test]
fn create_out_of_everything() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut bundle = Bundle::new();
    let volume = bundle.scratch("volume");
    std::fs::create_dir(&volume).unwrap();
    bundle
        .writable()
        .mount(json!({"destination": "/mnt/new", "type": "bind", "source": volume, "options": ["rbind", "ro"]}))
        .write();
    let (mut hits, mut failed) = (0, 0);
    // `run` of a program that ends, so that strace ends as well.
    let args = bundle.with_bundle(&["run"]);
    for (call, error, most, step) in FAULTS {
        for when in (1..=*most).step_by(*step) {
            let outcome = bundle.finish(injected(&bundle, &args, call, error, when));
            if !hit(&bundle) {
                continue;
            }
            hits += 1;
            failed += usize::from(!outcome.status.success());
            let state = bundle.state_root().join(bundle.id());
            assert!(
                outcome.status.success() || (!state.exists() && bundle.left().is_nothing()),
                "{call} {error} at {when} left {:?}, state folder: {}: {outcome}",
                bundle.left(),
                state.exists()
            );
            told(outcome);
            // A container that did without is deleted by `run`, or could not be, and then that is possible now.
            if state.exists() {
                bundle.delete_force().ok();
            }
            bundle.assert_gone();
        }
    }
    println!("create: {hits} faults, {failed} of them fatal");
    assert!(hits > 80 && failed > 50, "{hits} {failed}");
}

#[test]
fn exec_out_of_everything() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut bundle = Bundle::new();
    bundle.up();
    let init = bundle.pid();
    let args = ["exec", bundle.id(), "true"].map(str::to_owned);
    let (mut hits, mut failed) = (0, 0);
    for (call, error, most, step) in FAULTS {
        for when in (1..=*most).step_by(*step) {
            let outcome = bundle.finish(injected(&bundle, &args, call, error, when));
            if !hit(&bundle) {
                break;
            }
            hits += 1;
            failed += usize::from(!outcome.status.success());
            told(outcome);
            let alone = || Left::of(bundle.id()).processes.iter().all(|(pid, _)| *pid == init);
            wait_until(&format!("{call} {error} at {when}: init is alone again"), alone);
        }
    }
    assert_eq!(bundle.status(), "running");
    println!("exec: {hits} faults, {failed} of them fatal");
    assert!(hits > 20 && failed > 10, "{hits} {failed}");
    bundle.finish_off();
}

/// Its terminal is the last that exec gets.
#[test]
fn exec_without_its_terminal_leaves_no_process() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut bundle = Bundle::new();
    bundle.up();
    let init = bundle.pid();
    // A program that would survive the end of its terminal, if it had the time to say so.
    let args = ["exec", "--tty", bundle.id(), "sh", "-c", "trap '' HUP; sleep 1000"].map(str::to_owned);
    for when in 1..=4 {
        bundle.finish(injected(&bundle, &args, "recvmsg", "ENOMEM:delay_exit=300000", when)).fails();
        let alone = || Left::of(bundle.id()).processes.iter().all(|(pid, _)| *pid == init);
        wait_until(&format!("recvmsg at {when}: init is alone again"), alone);
    }
    bundle.finish_off();
}

#[test]
fn delete_out_of_everything() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let bundle = Bundle::new();
    let args = ["delete", "--force", bundle.id()].map(str::to_owned);
    let faults: &[(&str, &str, usize, usize)] = &[
        ("openat", "EMFILE", 40, 5),
        ("openat", "ENOMEM", 40, 7),
        ("unlinkat", "EIO", 12, 1),
        ("read", "EIO", 12, 2),
        ("pidfd_send_signal", "EPERM", 1, 1),
        ("pidfd_open", "EMFILE", 1, 1),
    ];
    let (mut hits, mut failed) = (0, 0);
    for (call, error, most, step) in faults {
        for when in (1..=*most).step_by(*step) {
            bundle.create().ok();
            let outcome = bundle.finish(injected(&bundle, &args, call, error, when));
            hits += usize::from(hit(&bundle));
            failed += usize::from(!outcome.status.success());
            told(outcome);
            // What could not be deleted is deleted the next time.
            bundle.delete_force().ok();
            bundle.assert_gone();
        }
    }
    println!("delete: {hits} faults, {failed} of them fatal");
}
