//! create, start, state, kill, delete, run: their order, their statuses, and what they refuse.

use std::path::Path;

use serde_json::{Value, json};

use crate::require;
use crate::support::outcome::called_by;
use crate::support::{Bundle, is_orlop, is_root, wait_until};

#[test]
fn a_container_lives_through_all_four_commands() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("echo hello; exec sleep 1000");
    bundle.create().ok();
    let created = bundle.state();
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], bundle.id());
    assert_eq!(created["bundle"], bundle.path().to_str().unwrap());
    let pid = created["pid"].as_i64().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    bundle.start().ok();
    bundle.wait_for_status("running");
    assert_eq!(bundle.pid() as i64, pid, "start must not change the pid");
    bundle.kill("TERM").ok();
    // Pid 1 of a pid namespace ignores a TERM that it does not handle: the status stays.
    assert_eq!(bundle.status(), "running");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    assert_eq!(bundle.state()["pid"].as_i64().unwrap_or(0), 0);
    bundle.delete().ok();
    bundle.assert_gone();
    bundle.call(&["state", bundle.id()]).fails_with("does not exist");
}

/// Other programs find a container's namespaces in runc's state file: all of them, also those it shares with the host.
#[test]
fn the_state_file_names_every_namespace() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("sleep 1000");
    bundle.no_namespace("ipc").create().ok();
    let file = std::fs::read(bundle.state_root().join(bundle.id()).join("state.json")).unwrap();
    let record: Value = serde_json::from_slice(&file).unwrap();
    let pid = bundle.pid();
    assert_eq!(record["init_process_pid"], pid);
    for (key, name) in
        [("NEWCGROUP", "cgroup"), ("NEWIPC", "ipc"), ("NEWNS", "mnt"), ("NEWPID", "pid"), ("NEWUSER", "user")]
    {
        assert_eq!(record["namespace_paths"][key], format!("/proc/{pid}/ns/{name}"));
    }
    bundle.delete().ok();
}

#[test]
fn the_program_starts_only_with_start() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("echo started > /tmp/mark; exec sleep 1000");
    bundle.writable().create().ok();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!bundle.rootfs("tmp/mark").exists(), "create must not start the program");
    bundle.start().ok();
    wait_until("the program ran", || bundle.rootfs("tmp/mark").exists());
    bundle.finish_off();
}

/// runtime.md#lifecycle, step 2.
#[test]
fn later_changes_of_the_config_change_nothing() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("echo first > /tmp/mark; exec sleep 1000");
    let log = bundle.file("log", "");
    let hook =
        |word: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {word} >> {}", log.display())]}]);
    bundle.writable().edit(|spec| spec["hooks"] = json!({"poststart": hook("first"), "poststop": hook("first")}));
    bundle.create().ok();
    bundle.args(&["sh", "-c", "echo second > /tmp/mark"]);
    bundle.edit(|spec| spec["hooks"] = json!({"poststart": hook("second"), "poststop": hook("second")})).write();
    bundle.start().ok();
    wait_until("the program ran", || {
        std::fs::read_to_string(bundle.rootfs("tmp/mark")).is_ok_and(|text| text == "first\n")
    });
    std::fs::remove_file(bundle.path().join("config.json")).unwrap();
    bundle.finish_off();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "first\nfirst\n");
}

#[test]
fn every_operation_wants_an_id() {
    let bundle = Bundle::new();
    bundle.write();
    let path = bundle.path().display().to_string();
    for words in [&["state"][..], &["create", "--bundle", &path], &["start"], &["kill"], &["delete"]] {
        bundle.call(words).fails();
    }
}

#[test]
fn start_has_three_refusals() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.call(&["start", bundle.id()]).fails_with("does not exist");
    bundle.args(&["sleep", "1000"]).create().ok();
    bundle.start().ok();
    bundle.wait_for_status("running");
    bundle.start().fails();
    assert_eq!(bundle.status(), "running", "a refused start changes nothing");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.start().fails();
    bundle.delete().ok();
}

#[test]
fn an_id_is_used_once() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    let pid = bundle.pid();
    let words = if is_orlop() { "container with given ID already exists" } else { "exists" };
    bundle.create().fails_with(words);
    assert_eq!((bundle.status().as_str(), bundle.pid()), ("running", pid), "the first container is not touched");
    bundle.finish_off();
    // And free again after the delete.
    bundle.up().finish_off();
}

#[test]
fn ids_that_are_paths_are_refused() {
    let mut bundle = Bundle::new();
    if is_orlop() {
        // The id is looked at before anything is made of it, as the path of the cgroup.
        bundle.edit(|spec| drop(spec["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    }
    bundle.write();
    let path = bundle.path().display().to_string();
    let long = "a".repeat(4096);
    for id in ["", ".", "..", "../x", "a/b", "/abs", "a\nb", "a b", "ä", &long] {
        bundle.call(&["create", "--bundle", &path, id]).fails_saying("invalid container ID format");
        bundle.call(&["delete", "--force", id]);
        // crun 1.8.1 deletes the state root itself for an empty id, and its parent for `..`.
        assert!(bundle.path().exists(), "delete --force {id:?} removed what it was never given");
        assert!(!bundle.scratch("x").exists());
    }
    let left: Vec<_> =
        std::fs::read_dir(bundle.state_root()).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('a')), "state folders: {left:?}");
}

#[test]
fn a_running_container_is_not_deleted() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    bundle.delete().fails();
    assert_eq!(bundle.status(), "running");
    bundle.delete_force().ok();
    bundle.assert_gone();
}

#[test]
fn a_created_container_is_deleted_with_force() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::new();
    bundle.create().ok();
    bundle.delete_force().ok();
    bundle.assert_gone();
}

#[test]
fn delete_of_nothing_is_an_error_but_not_with_force() {
    let bundle = Bundle::new();
    bundle.delete().fails_with("does not exist");
    bundle.delete_force().ok();
    bundle.delete_force().ok();
}

#[test]
fn kill_wants_a_living_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.kill("KILL").fails_with("does not exist");
    bundle.up();
    bundle.kill("0").ok();
    bundle.kill("NOSUCH").fails();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.kill("KILL").fails_with("not running");
    bundle.delete().ok();
}

#[test]
fn kill_takes_every_spelling_of_a_signal() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "for s in HUP INT USR1 TERM; do trap \"echo $s >> /tmp/got\" $s; done; touch /tmp/ready; while :; do sleep 0.01; done",
    );
    bundle.writable().up();
    wait_until("the traps are set", || bundle.rootfs("tmp/ready").exists());
    let got = || std::fs::read_to_string(bundle.rootfs("tmp/got")).unwrap_or_default();
    for (count, (spelling, name)) in
        [("HUP", "HUP"), ("SIGINT", "INT"), ("10", "USR1"), ("TERM", "TERM")].iter().enumerate()
    {
        bundle.kill(spelling).ok();
        wait_until(&format!("signal {spelling}"), || got().lines().count() > count);
        assert_eq!(got().lines().last(), Some(*name), "{spelling}");
    }
    // Without a word it is TERM.
    bundle.call(&["kill", bundle.id()]).ok();
    wait_until("the default signal", || got().lines().count() > 4);
    assert!(got().ends_with("TERM\n"));
    bundle.finish_off();
}

#[test]
fn a_created_container_can_be_killed() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::new();
    bundle.create().ok();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.start().fails();
    bundle.delete().ok();
    bundle.assert_gone();
}

#[test]
fn the_pid_file_is_a_number_and_nothing_else() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let file = bundle.scratch("pid");
    bundle.call(&bundle.with_bundle(&["create", "--pid-file", file.to_str().unwrap()])).ok();
    // go-runc and buildkit parse it without trimming.
    assert_eq!(std::fs::read_to_string(&file).unwrap(), bundle.pid().to_string());
    bundle.delete_force().ok();
}

/// A create that was killed between writing the file and giving it its name leaves it under the passing one.
#[test]
fn the_draft_of_a_pid_file_is_in_nobodys_way() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.file(".init.pid", "4711");
    let file = bundle.scratch("init.pid");
    bundle.args(&["sleep", "1000"]).write();
    bundle.call(&bundle.with_bundle(&["create", "--pid-file", file.to_str().unwrap()])).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), bundle.pid().to_string());
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn a_relative_pid_file_is_relative_to_the_caller() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let mut command = bundle.command(&bundle.with_bundle(&["create", "--pid-file", "here.pid"]));
    command.current_dir(bundle.scratch(""));
    bundle.finish(command).ok();
    assert!(bundle.scratch("here.pid").exists());
    bundle.delete_force().ok();
}

#[test]
fn run_ends_with_the_code_of_the_program() {
    require!(is_root(), "root of the host");
    for code in [0, 1, 7, 126, 127, 255] {
        let bundle = Bundle::sh(&format!("echo out; echo err >&2; exit {code}"));
        let outcome = bundle.run();
        assert_eq!((outcome.code(), outcome.text(), outcome.stderr.trim()), (code, "out", "err"), "{outcome}");
        bundle.assert_gone();
    }
}

#[test]
fn run_ends_with_128_and_the_signal() {
    require!(is_root(), "root of the host");
    // A child of init, for init itself cannot be killed from inside.
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("INT", 130)] {
        let bundle = Bundle::new();
        let mut bundle = bundle;
        bundle.no_namespace("pid").args(&["sh", "-c", &format!("kill -{signal} $$")]);
        // Sharing the host's pids, the payload's own pid needs the container's /proc no more.
        let outcome = bundle.run();
        assert_eq!(outcome.code(), code, "{outcome}");
        bundle.assert_gone();
    }
}

#[test]
fn run_passes_signals_on() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("trap 'exit 42' TERM; touch /tmp/ready; while :; do sleep 0.01; done");
    bundle.writable().write();
    let running = bundle.spawn(bundle.command(&bundle.with_bundle(&["run"])));
    wait_until("the trap is set", || bundle.rootfs("tmp/ready").exists());
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait().code(), 42);
    bundle.assert_gone();
}

#[test]
fn run_passes_standard_input() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("read line; echo got $line");
    bundle.write();
    let mut command = bundle.command(&bundle.with_bundle(&["run"]));
    command.stdin(std::process::Stdio::piped());
    let mut running = bundle.spawn(command);
    std::io::Write::write_all(&mut running.stdin(), b"words\n").unwrap();
    assert_eq!(running.wait().ok().text(), "got words");
}

#[test]
fn run_detached_comes_back_while_the_program_runs() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]);
    bundle.run_detached().ok();
    bundle.wait_for_status("running");
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn run_keep_leaves_the_state() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("exit 3");
    bundle.write();
    let outcome = bundle.call(&bundle.with_bundle(&["run", "--keep"]));
    assert_eq!(outcome.code(), 3, "{outcome}");
    assert_eq!(bundle.status(), "stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

#[test]
fn the_end_of_the_program_is_seen() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["true"]).create().ok();
    bundle.start().ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

#[test]
fn commands_on_one_id_do_not_trip_over_each_other() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    // Eight creators: one wins, the others say so.
    let creators: Vec<_> = (0..8).map(|_| bundle.spawn(bundle.command(&bundle.with_bundle(&["create"])))).collect();
    let made = creators.into_iter().map(|creator| creator.wait()).filter(|outcome| outcome.status.success()).count();
    assert_eq!(made, 1, "one id, one container");
    let starters: Vec<_> = (0..8).map(|_| bundle.spawn(bundle.command(&["start", bundle.id()]))).collect();
    let started = starters.into_iter().map(|starter| starter.wait()).filter(|outcome| outcome.status.success()).count();
    assert_eq!(started, 1, "started once");
    bundle.wait_for_status("running");
    let deleters: Vec<_> = (0..4).map(|_| bundle.spawn(bundle.command(&["delete", "--force", bundle.id()]))).collect();
    deleters.into_iter().for_each(|deleter| drop(deleter.wait().ok()));
    bundle.assert_gone();
}

/// The kernel spares the first process of a pid namespace what signals do by default.
#[test]
fn a_created_container_ends_when_it_is_asked_to() {
    require!(is_root(), "root of the host");
    for signal in ["TERM", "INT", "HUP"] {
        let mut bundle = Bundle::new();
        bundle.args(&["sleep", "1000"]).create().ok();
        bundle.kill(signal).ok();
        bundle.wait_for_status("stopped");
        assert_ne!(bundle.start().code(), 0, "there is nobody to start");
        bundle.delete().ok();
        bundle.assert_gone();
    }
}

/// What the caller has blocked, init inherits.
#[test]
fn a_created_container_ends_also_where_its_caller_had_blocked_signals() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let inner = bundle.command(&bundle.with_bundle(&["create"]));
    bundle.finish(called_by(&["env", "--block-signal"], &inner)).ok();
    bundle.kill("TERM").ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

/// The kernel reaps the children of who ignores SIGCHLD, and that is inherited: nobody would hear how they ended.
#[test]
fn a_caller_who_ignores_the_end_of_children_hears_of_the_containers() {
    require!(is_root(), "root of the host");
    let ignoring = |inner| called_by(&["env", "--ignore-signal=CHLD"], &inner);
    let mut bundle = Bundle::sh("exit 3");
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]})).write();
    let outcome = bundle.finish(ignoring(bundle.command(&bundle.with_bundle(&["run"]))));
    assert_eq!(outcome.code(), 3, "{outcome}");
    let mut bundle = Bundle::new();
    bundle.up();
    let outcome = bundle.finish(ignoring(bundle.command(&["exec", bundle.id(), "sh", "-c", "exit 4"])));
    assert_eq!(outcome.code(), 4, "{outcome}");
    bundle.finish_off();
    bundle.assert_gone();
}

/// setrlimit(2): more than RLIMIT_FSIZE is SIGXFSZ before it is EFBIG, and who dies of it undoes nothing.
#[test]
fn a_state_that_is_larger_than_the_caller_may_write_is_an_error_that_leaves_nothing() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::new();
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["create"]));
    bundle.finish(called_by(&["prlimit", "--fsize=1000", "--"], &inner)).fails();
    bundle.assert_gone();
}

/// Whether it is the container's init that has its number, /proc alone tells. Where it does not, a living container is not
/// taken for a stopped one, and its directory is not removed.
#[test]
fn without_proc_no_container_is_taken_for_a_stopped_one() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.no_namespace("pid").up();
    let pid = bundle.pid();
    bundle.prelude("mount -t tmpfs tmpfs /proc");
    for command in [&["state"][..], &["delete"], &["delete", "--force"]] {
        bundle.call(&[command, &[bundle.id()]].concat()).fails_saying("see whether it is the container's init");
    }
    bundle.prelude("");
    assert_eq!((bundle.status().as_str(), bundle.pid()), ("running", pid));
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn a_create_killed_half_way_is_cleaned_up_by_delete_force() {
    require!(is_root(), "root of the host");
    // opencontainers/runc#4757: runc loses the container when it is killed before state.json is there.
    for step in 0..25 {
        let mut bundle = Bundle::new();
        bundle.args(&["sleep", "1000"]).write();
        let running = bundle.spawn(bundle.command(&bundle.with_bundle(&["create"])));
        std::thread::sleep(std::time::Duration::from_micros(300 * step));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        let killed = running.wait().code() == 137;
        bundle.delete_force().ok();
        bundle.assert_gone();
        if !killed {
            break;
        }
    }
}

#[test]
fn a_failed_create_leaves_nothing() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.args(&["/no/such/program"]).create().fails();
    bundle.assert_gone();
    bundle
        .args(&["true"])
        .mount(json!({"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}));
    bundle.create().fails();
    bundle.assert_gone();
    bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().truncate(3));
    bundle.edit(|spec| spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NO_SUCH", "soft": 1, "hard": 1}]));
    bundle.create().fails();
    bundle.assert_gone();
}

#[test]
fn state_shows_what_the_specification_asks() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["annotations"] = json!({"org.example.key": "value"})).up();
    let state = bundle.state();
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert_eq!(state["rootfs"], bundle.rootfs("").to_str().unwrap().trim_end_matches('/'));
    // go-runc parses it as RFC 3339.
    let created = state["created"].as_str().unwrap();
    assert!(created.len() >= 20 && created.ends_with('Z') && &created[10..11] == "T", "{created}");
    bundle.finish_off();
}

#[test]
fn the_bundle_is_the_current_directory_by_default() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("echo here");
    bundle.write();
    let mut command = bundle.command(&["run", bundle.id()]);
    command.current_dir(bundle.path());
    assert_eq!(bundle.finish(command).ok().text(), "here");
}
