//! Which descriptors the payload sees, and the terminals.

use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::console::ConsoleSocket;
use crate::support::filter::as_asked;
use crate::support::outcome::{after, called_by, on_terminal};
use crate::support::{Bundle, is_root};

/// Lists the open descriptors of a fresh shell; the directory's own is closed again when it is listed.
const LIST: &str = "cd /proc/self/fd; for f in $(seq 0 70) 1000; do [ -e $f ] && echo -n \"$f \"; done; true";

/// The command, started with descriptors 3 to 50 and 1000 open and inheritable.
fn with_open_descriptors(inner: &Command, script: &str) -> Command {
    let script = format!("for i in $(seq 3 50) 1000; do eval \"exec $i</etc/passwd\"; done; {script} exec \"$@\"");
    called_by(&["bash", "-c", &script, "bash"], inner)
}

/// T12: CVE-2024-21626.
#[test]
fn the_payload_sees_three_descriptors() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh(LIST);
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let outcome = bundle.finish(with_open_descriptors(&inner, "")).ok();
    assert_eq!(outcome.text(), "0 1 2");
    // With create and start, where the runtime that starts is another process.
    let inner = bundle.command(&bundle.with_bundle(&["create"]));
    let running = bundle.spawn(with_open_descriptors(&inner, ""));
    running.wait().ok();
    bundle.call(&["start", bundle.id()]).ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
}

#[test]
fn preserved_descriptors_are_counted_from_three() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh(LIST);
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run", "--preserve-fds", "3"]));
    assert_eq!(bundle.finish(with_open_descriptors(&inner, "")).ok().text(), "0 1 2 3 4 5");
    // One that is not open is an error, not a hole.
    let command = after("exec 3</dev/null 4</dev/null 5<&-", &inner);
    bundle.finish(command).fails();
    bundle.assert_gone();
}

#[test]
fn listen_fds_are_passed() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh(&format!("echo $LISTEN_FDS $LISTEN_PID; {LIST}"));
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let mut command = with_open_descriptors(&inner, "export LISTEN_FDS=2 LISTEN_PID=$$;");
    command.env_remove("LISTEN_FDNAMES");
    assert_eq!(bundle.finish(command).ok().text(), "2 1\n0 1 2 3 4");
}

#[test]
fn hooks_see_three_descriptors() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let out = bundle.file("out", "").display().to_string();
    let list = format!(
        "cd /proc/self/fd; for f in $(seq 0 70) 1000; do [ -e $f ] && echo -n \"$f \"; done >> {out}; echo >> {out}"
    );
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", list], "env": ["PATH=/bin:/usr/bin"]}]);
    bundle.edit(|spec| {
        spec["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "poststart": hook, "poststop": hook})
    });
    bundle.write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    bundle.finish(with_open_descriptors(&inner, "")).ok();
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
    for line in text.lines() {
        // The redirection of the shell itself may keep its old stdout at 10.
        let line = line.trim().trim_end_matches(" 10");
        assert_eq!(line, "0 1 2", "{text}");
    }
}

/// T20: no file of the runtime may land on 0, 1 or 2.
#[test]
fn closed_standard_descriptors_do_not_confuse() {
    require!(is_root(), "root of the host");
    let mut bundle =
        Bundle::sh("for i in 0 1 2; do readlink /proc/self/fd/$i || echo none; done > /tmp/out; exec sleep 1000");
    bundle.writable().write();
    let inner = bundle.command(&bundle.with_bundle(&["run", "--detach"]));
    let command = after("exec 0<&- 1>&- 2>&-", &inner);
    let outcome = bundle.finish(command);
    if outcome.status.success() {
        let read = || std::fs::read_to_string(bundle.rootfs("tmp/out")).unwrap_or_default();
        crate::support::wait_until("the program", || read().lines().count() >= 3);
        for line in read().lines().filter(|line| *line != "/tmp/out") {
            assert!(["none", "/dev/null"].contains(&line), "{}", read());
        }
        bundle.finish_off();
    }
    bundle.assert_gone();
}

/// T19: stdio is what the caller gave, and nobody's owner changes (runc#3674, CVE-2026-88265).
#[test]
fn standard_descriptors_are_the_callers_own() {
    require!(is_root(), "root of the host");
    let owner = |path: &std::path::Path| {
        let meta = std::fs::metadata(path).unwrap();
        (std::os::unix::fs::MetadataExt::uid(&meta), std::os::unix::fs::MetadataExt::mode(&meta))
    };
    let null = std::path::Path::new("/dev/null");
    let before = owner(null);
    let mut bundle =
        Bundle::sh("for i in 0 1 2; do stat -L -c '%d %i %F' /proc/self/fd/$i; done > /tmp/out; exec sleep 1000");
    bundle.writable().edit(|spec| spec["process"]["user"]["uid"] = json!(1000)).write();
    // The host's /dev/null, a regular file of somebody else, and a pipe.
    let file = bundle.file("mine", "");
    let inner = bundle.command(&bundle.with_bundle(&["run", "--detach"]));
    let words = ["sh", "-c", "f=$1; shift; \"$@\" </dev/null >$f 2>/dev/null", "sh", file.to_str().unwrap()];
    let command = called_by(&words, &inner);
    bundle.finish(command).ok();
    let read = || std::fs::read_to_string(bundle.rootfs("tmp/out")).unwrap_or_default();
    crate::support::wait_until("the program", || read().lines().count() == 3);
    let text = read();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("character special file") && lines[1].contains("regular"), "{text}");
    assert_eq!(owner(null), before, "the host's /dev/null was chowned");
    // A file or a pipe may change hands, as with runc and crun: the user must be able to open /dev/stdout again.
    bundle.finish_off();
}

#[test]
fn a_terminal_goes_over_the_console_socket() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "tty; stty size; stat -c %t:%T /dev/console; echo $(stat -L -c %i /proc/self/fd/0) ; read x; echo got $x; exit 0",
    );
    bundle.edit(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    });
    bundle.write();
    let socket = ConsoleSocket::at(bundle.scratch("console.sock"));
    let running = bundle.spawn(bundle.command(&bundle.with_bundle(&[
        "create",
        "--console-socket",
        socket.path().to_str().unwrap(),
    ])));
    let mut terminal = socket.terminal();
    running.wait().ok();
    bundle.start().ok();
    let text = terminal.read_until("33 77");
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
    std::io::Write::write_all(&mut terminal.master, b"words\n").unwrap();
    terminal.read_until("got words");
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
}

#[test]
fn a_terminal_needs_a_console_socket_when_detached() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    let outcome = bundle.create().fails();
    assert!(outcome.stderr.contains("console"), "{outcome}");
    bundle.assert_gone();
    bundle.run_detached().fails();
    bundle.assert_gone();
    // And a socket without a terminal is a mistake too.
    bundle.edit(|spec| spec["process"]["terminal"] = json!(false)).write();
    let socket = ConsoleSocket::at(bundle.scratch("console.sock"));
    bundle.call(&bundle.with_bundle(&["create", "--console-socket", socket.path().to_str().unwrap()])).fails();
    bundle.assert_gone();
}

#[test]
fn a_missing_console_socket_is_named() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true)).write();
    let outcome = bundle.call(&bundle.with_bundle(&["create", "--console-socket", "/no/such.sock"])).fails();
    assert!(
        outcome.stderr.contains("no such file or directory") || outcome.stderr.contains("No such file"),
        "{outcome}"
    );
    bundle.assert_gone();
}

/// What is no terminal gets the lines without the carriage returns of one.
#[test]
fn a_foreground_terminal_shown_on_a_pipe_has_plain_lines() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("test -t 1 && echo first; echo second");
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true)).write();
    assert_eq!(bundle.call(&bundle.with_bundle(&["run"])).ok().stdout, "first\nsecond\n");
}

/// `run` in the foreground with a terminal, itself on a terminal that script(1) makes.
#[test]
fn a_foreground_terminal_is_passed_through() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("tty; test -t 0 && test -t 1 && echo terminal; read line; echo got $line; exit 9");
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true)).write();
    let inner = bundle.command(&bundle.with_bundle(&["run"]));
    let mut command = on_terminal(&inner);
    as_asked(&mut command);
    command.stdin(std::process::Stdio::piped());
    let mut running = bundle.spawn(command);
    crate::support::wait_until("the terminal", || running.said().contains("terminal"));
    std::io::Write::write_all(&mut running.stdin(), b"words\n").unwrap();
    let outcome = running.wait();
    assert!(outcome.stdout.contains("got words"), "{outcome}");
    assert_eq!(outcome.code(), 9, "{outcome}");
    bundle.assert_gone();
}
