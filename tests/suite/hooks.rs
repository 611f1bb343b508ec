//! Hooks: six kinds, where each runs, what it is told, and what its failure undoes (config.md#posix-platform-hooks).

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::require;
use crate::support::leak::Left;
use crate::support::{Bundle, executable, is_orlop, is_root, wait_until};

const KINDS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A bundle in which every kind of hook appends a line to a log: its kind, and what the script adds.
fn logged(script: &str, kinds: &[&str]) -> (Bundle, PathBuf) {
    let mut bundle = Bundle::new();
    let log = bundle.file("log", "");
    std::fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    // startContainer runs in the container, so the log must be there under the same name.
    let place = log.display().to_string();
    bundle.mount(json!({"destination": place, "type": "bind", "source": place, "options": ["bind"]}));
    bundle.writable();
    for kind in kinds {
        let line = format!("{script}; echo \"{kind} $OUT\" >> {place}");
        bundle.edit(|spec| {
            spec["hooks"][*kind] =
                json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/bin:/usr/bin:/sbin"]}])
        });
    }
    (bundle, log)
}

fn lines(log: &PathBuf) -> Vec<String> {
    std::fs::read_to_string(log).unwrap().lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn each_kind_runs_at_its_time() {
    require!(is_root(), "root of the host");
    let (mut bundle, log) = logged("OUT=", KINDS);
    bundle.args(&["sleep", "1000"]).create().ok();
    assert_eq!(lines(&log), ["prestart", "createRuntime", "createContainer"]);
    bundle.start().ok();
    assert_eq!(&lines(&log)[3..], ["startContainer", "poststart"], "before start returns");
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    assert_eq!(lines(&log).len(), 5);
    bundle.delete().ok();
    assert_eq!(lines(&log)[5..], ["poststop"]);
}

#[test]
fn run_runs_all_of_them_once() {
    require!(is_root(), "root of the host");
    let (bundle, log) = logged("OUT=", KINDS);
    bundle.run().ok();
    assert_eq!(lines(&log), KINDS);
}

#[test]
fn hooks_of_a_kind_run_in_their_order() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let log = bundle.file("log", "");
    let hook =
        |word: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {word} >> {}", log.display())]});
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [hook("one"), hook("two"), hook("three")]}));
    bundle.run().ok();
    assert_eq!(lines(&log), ["one", "two", "three"]);
}

#[test]
fn hooks_are_told_the_state() {
    require!(is_root(), "root of the host");
    let (mut bundle, log) = logged("read -r OUT", KINDS);
    bundle.edit(|spec| spec["annotations"] = json!({"org.example/key": "a/value"}));
    bundle.up();
    let pid = bundle.pid();
    bundle.finish_off();
    let told = lines(&log);
    assert_eq!(told.len(), 6, "{told:?}");
    let statuses = ["created", "created", "created", "created", "running", "stopped"];
    for (line, status) in told.iter().zip(statuses) {
        let (kind, json) = line.split_once(' ').unwrap();
        // Shell hooks grep it: one line, and no escaped slashes.
        assert!(!json.contains("\\/"), "{line}");
        let state: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], bundle.id(), "{kind}");
        assert_eq!(state["bundle"], bundle.path().to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["org.example/key"], "a/value", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        // runtime.md#state: the pid as the hook's own namespaces have it.
        let expected = match kind {
            "poststop" => 0,
            "createContainer" | "startContainer" => 1,
            _ => pid,
        };
        assert_eq!(state["pid"].as_i64().unwrap_or(0) as i32, expected, "{kind}");
    }
}

#[test]
fn hooks_run_in_the_namespaces_of_their_kind() {
    require!(is_root(), "root of the host");
    let (mut bundle, log) = logged(
        "OUT=$(readlink /proc/self/ns/mnt /proc/self/ns/uts 2>&1 | tr '\\n' ' '; test -e /etc/debian_version && echo host)",
        &["createRuntime", "createContainer", "startContainer", "poststart"],
    );
    // busybox's readlink takes one name.
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let line = format!(
            "OUT=\"$(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) $(test -e /etc/debian_version && echo host)\"; echo \"{kind} $OUT\" >> {}",
            log.display()
        );
        bundle.edit(|spec| spec["hooks"][kind][0]["args"][2] = json!(line));
    }
    bundle.up();
    let pid = bundle.pid();
    let of =
        |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
    let (host, inner) =
        ([of("self", "mnt"), of("self", "uts")], [of(&pid.to_string(), "mnt"), of(&pid.to_string(), "uts")]);
    crate::support::wait_until("poststart", || lines(&log).len() == 4);
    for line in lines(&log) {
        let words: Vec<&str> = line.split(' ').collect();
        let expected: (&[String; 2], bool) = match words[0] {
            // The runtime's namespaces.
            "createRuntime" | "poststart" => (&host, true),
            // The container's namespaces, before pivot_root: the runtime's files.
            "createContainer" => (&inner, true),
            _ => (&inner, false),
        };
        assert_eq!(&words[1..3], expected.0, "{line}");
        assert_eq!(words.get(3) == Some(&"host"), expected.1, "{line}");
    }
    bundle.finish_off();
}

#[test]
fn a_hook_has_its_own_environment_and_arguments() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let script = bundle.host_script("hook", "{ echo \"$0 $# $1\"; /usr/bin/env; } > \"$1\"");
    let out = bundle.scratch("out").display().to_string();
    bundle.edit(|spec| {
        spec["hooks"] = json!({"createRuntime": [{"path": script, "args": ["name", out], "env": ["ONE=1", "TWO=a b"]}]})
    });
    bundle.write();
    let mut command = bundle.command(&bundle.with_bundle(&["run"]));
    command.env("CALLER_SECRET", "x");
    bundle.finish(command).ok();
    let text = std::fs::read_to_string(&out).unwrap();
    let variables = text.lines().skip(1).filter(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
    assert_eq!(variables.count(), 2, "its own and no other but the shell's: {text}");
    assert!(text.contains("ONE=1\n") && text.contains("TWO=a b\n"), "{text}");
    assert!(text.lines().next().unwrap().ends_with(&format!("1 {out}")), "{text}");
    assert!(!text.contains("CALLER_SECRET"), "T35: the caller's environment is not the hook's: {text}");
}

/// Many look for their helpers by PATH. Those of createContainer run among what the container has brought, and get nothing.
#[test]
fn a_hook_without_an_environment_has_the_runtimes() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let out = |kind: &str| bundle.scratch(kind).display().to_string();
    let hook = |kind: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("/usr/bin/env > {}", out(kind))]});
    let mut empty = hook("empty");
    empty["env"] = json!([]);
    let kinds = ["prestart", "createRuntime", "poststart", "poststop", "createContainer"];
    let mut hooks: serde_json::Map<_, _> =
        kinds.map(|kind| (kind.to_owned(), json!([hook(kind)]))).into_iter().collect();
    hooks["createRuntime"] = json!([hook("createRuntime"), empty]);
    bundle.edit(|spec| spec["hooks"] = Value::Object(hooks));
    bundle.write();
    let mut command = bundle.command(&bundle.with_bundle(&["run"]));
    command.env("OF_THE_CALLER", "x");
    bundle.finish(command).ok();
    let told = |kind: &str| std::fs::read_to_string(bundle.scratch(kind)).unwrap().contains("OF_THE_CALLER=x\n");
    for kind in &kinds[..4] {
        assert!(told(kind), "{kind}");
    }
    assert!(!told("createContainer") && !told("empty"));
}

#[test]
fn a_failing_hook_stops_the_create_and_leaves_nothing() {
    require!(is_root(), "root of the host");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new();
        bundle.edit(|spec| {
            spec["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 3"]}])
        });
        let outcome = bundle.create().fails();
        assert!(outcome.stderr.contains("hook"), "{kind}: {outcome}");
        if is_orlop() {
            assert!(outcome.stderr.contains(kind) && outcome.stderr.contains("the reason"), "{kind}: {outcome}");
        }
        bundle.assert_gone();
    }
}

#[test]
fn poststop_follows_a_failed_create_once_hooks_have_run() {
    require!(is_root(), "root of the host");
    // runtime.md#lifecycle: after a failed createRuntime hook, continue at step 12 (delete), then poststop.
    let (mut bundle, log) = logged("OUT=", &["createRuntime", "poststop"]);
    bundle.edit(|spec| spec["hooks"]["createContainer"] = json!([{"path": "/bin/false"}]));
    bundle.create().fails();
    assert_eq!(lines(&log), ["createRuntime", "poststop"]);
    bundle.assert_gone();
}

/// Also where the first of all fails: the container was made, and is to be unmade.
#[test]
fn poststop_follows_whichever_hook_fails() {
    require!(is_root(), "root of the host");
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let (mut bundle, log) = logged("OUT=", &["poststop"]);
        bundle
            .args(&["sleep", "1000"])
            .edit(|spec| spec["hooks"][kind] = json!([{"path": "/bin/false"}, {"path": "/bin/false"}]));
        if bundle.create().status.success() {
            bundle.start();
            bundle.wait_for_status("stopped");
            assert_eq!(lines(&log), [""; 0], "{kind}");
            bundle.delete().ok();
        }
        assert_eq!(lines(&log), ["poststop"], "{kind}");
        bundle.assert_gone();
    }
}

/// config.md#poststart: after the program is executed; no sooner.
#[test]
fn poststart_hooks_find_the_program_running() {
    require!(is_root(), "root of the host");
    let script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); OUT=$(cat /proc/$pid/comm)";
    let (mut bundle, log) = logged(script, &["poststart"]);
    bundle.up();
    assert_eq!(lines(&log), ["poststart sleep"]);
    bundle.finish_off();
}

/// Only this kind: it runs in the container. HOME is among it where the config has none.
#[test]
fn start_container_hooks_get_the_environment_of_the_program() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /tmp/seen");
    let script = "#!/bin/sh -eu\necho $GIVEN at $HOME > /tmp/seen\n";
    std::fs::write(bundle.rootfs("bin/look"), script).unwrap();
    executable(&bundle.rootfs("bin/look"));
    bundle.writable().edit(|spec| {
        spec["process"]["env"] = json!(["PATH=/bin", "GIVEN=words"]);
        spec["hooks"] = json!({"startContainer": [{"path": "/bin/look"}]});
    });
    assert_eq!(bundle.output(), "words at /root");
}

#[test]
fn a_failing_start_container_hook_stops_the_start() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("touch /tmp/ran");
    bundle.writable().edit(|spec| spec["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]}));
    bundle.create().ok();
    bundle.start();
    bundle.wait_for_status("stopped");
    assert!(!bundle.rootfs("tmp/ran").exists());
    bundle.delete().ok();
    bundle.assert_gone();
    let outcome = bundle.run();
    assert_ne!(outcome.code(), 0, "{outcome}");
    bundle.assert_gone();
}

/// What init had to say waits for `start` in a pipe, in which there is no room for more than a page.
#[test]
fn a_start_container_hook_that_says_much_is_heard() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let script = r#"i=0; while [ $i -lt 200 ]; do echo 'a "line" of forty characters or so, each' >&2; i=$((i + 1)); done
        echo the last word >&2; exit 5"#;
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle.edit(|spec| spec["hooks"] = json!({"startContainer": [hook]}));
    bundle.create().ok();
    let outcome = bundle.start().fails_saying("error running startContainer hook #0: exit status 5");
    assert!(!is_orlop() || outcome.stderr.contains("the last word"), "{outcome}");
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

/// runtime.md#lifecycle: where a poststart hook fails, the container is stopped, and that is more than init where the pid
/// namespace is the host's.
#[test]
fn a_failing_poststart_hook_ends_all_of_the_container() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("sleep 1000 & touch /tmp/ready; sleep 1000");
    bundle.writable().no_namespace("pid");
    let ready = bundle.rootfs("tmp/ready").display().to_string();
    let wait = format!("for i in $(seq 3000); do test -e {ready} && exit 3; sleep 0.01; done; exit 4");
    bundle.edit(|spec| {
        spec["hooks"] =
            json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", wait], "env": ["PATH=/usr/bin:/bin"]}]});
    });
    bundle.create().ok();
    let outcome = bundle.start().fails();
    assert!(!is_orlop() || outcome.stderr.contains("error running poststart hook #0: exit status 3"), "{outcome}");
    bundle.wait_for_status("stopped");
    wait_until("everybody has gone", || Left::of(bundle.id()).processes.is_empty());
    bundle.delete().ok();
    bundle.assert_gone();
}

/// Where others live in the pid namespace that is joined, init is born last of all, and hooks get the number of who bears
/// it: with the namespaces (but for pid itself) and the cgroup that init will have, which is what hooks enter.
#[test]
fn a_hook_can_enter_what_is_behind_its_pid_also_in_a_shared_pid_namespace() {
    require!(is_root(), "root of the host");
    let mut sandbox = Bundle::new();
    sandbox.up();
    let of = |pid: i32, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let kinds = ["mnt", "net", "ipc", "uts", "cgroup"];
    for shared in [false, true] {
        let mut bundle = Bundle::new();
        if shared {
            let path = format!("/proc/{}/ns/pid", sandbox.pid());
            bundle.no_namespace("pid").namespace(json!({"type": "pid", "path": path}));
        }
        let (log, told) = (bundle.file("log", ""), bundle.scratch("told"));
        let script = format!(
            "cat > {1}; pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' {1}); {{ for n in {2}; do readlink /proc/$pid/ns/$n; \
             done; cat /proc/$pid/cgroup; }} > {0}",
            log.display(),
            told.display(),
            kinds.join(" ")
        );
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]);
        // Elsewhere createContainer hooks are told a number of the container's, and see the /proc of the host.
        let kinds_of_hooks = ["prestart", "createRuntime", "createContainer"];
        for kind in kinds_of_hooks.into_iter().take(if shared && is_orlop() { 3 } else { 2 }) {
            bundle.edit(|spec| spec["hooks"] = json!({kind: hook}));
            bundle.up();
            let init = bundle.pid();
            let mut expected: String = kinds.iter().map(|kind| format!("{}\n", of(init, kind).display())).collect();
            // Hierarchies that others mount for a moment have nothing of the container's.
            let own = |text: &str| -> String {
                text.split_inclusive('\n')
                    .filter(|line| !line.starts_with(|c: char| c.is_ascii_digit()) || line.contains(bundle.id()))
                    .collect()
            };
            expected.push_str(&std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap());
            assert_eq!(own(&std::fs::read_to_string(&log).unwrap()), own(&expected), "{kind}, shared: {shared}");
            bundle.finish_off();
        }
    }
    sandbox.finish_off();
}

#[test]
fn failing_poststop_hooks_are_warnings() {
    require!(is_root(), "root of the host");
    let (mut bundle, log) = logged("OUT=", &["poststop"]);
    bundle.edit(|spec| {
        let hooks = spec["hooks"]["poststop"].as_array_mut().unwrap();
        hooks.insert(0, json!({"path": "/bin/false"}));
    });
    bundle.up();
    bundle.kill("KILL").ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    assert_eq!(lines(&log), ["poststop"], "the next hook runs all the same");
    bundle.assert_gone();
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| {
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]})
    });
    bundle.create().fails();
    bundle.assert_gone();
    // In the container, and after its end.
    let slow = json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    bundle.edit(|spec| spec["hooks"] = json!({"startContainer": slow, "poststop": slow})).create().ok();
    bundle.start();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

#[test]
fn a_missing_hook_is_named() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "/no/such/hook"}]}));
    bundle.create().fails_with("/no/such/hook");
    bundle.assert_gone();
}

#[test]
fn a_hook_may_ask_for_the_state_of_its_container() {
    require!(is_root(), "root of the host");
    // A lock held across the hooks would hang here.
    let mut bundle = Bundle::new();
    let binary = crate::support::binary().display().to_string();
    let root = bundle.state_root().display().to_string();
    let out = bundle.scratch("out").display().to_string();
    let call = format!("timeout 60 {binary} --root {root} state {} > {out} 2>&1; echo $? >> {out}", bundle.id());
    bundle.edit(|spec| {
        spec["hooks"] =
            json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", call], "env": ["PATH=/usr/bin:/bin"]}]});
    });
    bundle.up();
    crate::support::wait_until("poststart", || std::fs::read_to_string(&out).is_ok_and(|text| text.ends_with("0\n")));
    assert!(std::fs::read_to_string(&out).unwrap().contains("\"running\""));
    bundle.finish_off();
    let call = format!("timeout 60 {binary} --root {root} state {} > {out} 2>&1; echo ended $? >> {out}", bundle.id());
    bundle.edit(|spec| {
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", call], "env": ["PATH=/usr/bin:/bin"]}]});
    });
    bundle.up();
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(!text.ends_with("ended 124\n"), "state hung in a hook: {text}");
    // The four statuses of the specification's readers; podman refuses a fifth.
    assert!(!is_orlop() || text.contains("\"created\""), "{text}");
    bundle.finish_off();
}

/// crun's annotations: what hooks print goes to files, after what is there already.
#[test]
fn output_goes_to_the_files_of_the_annotations() {
    require!(is_root(), "root of the host");
    require!(crate::support::flavour() != "runc", "run.oci.hooks.stdout");
    let mut bundle = Bundle::new();
    let (out, err) = (bundle.file("out", "before\n"), bundle.file("err", ""));
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo words; echo wrong >&2"]});
    bundle.edit(|spec| {
        spec["annotations"] = json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err});
        spec["hooks"] = json!({"createRuntime": [hook], "createContainer": [hook], "poststop": [hook]});
    });
    bundle.run().ok();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "before\nwords\nwords\nwords\n");
    assert_eq!(std::fs::read_to_string(&err).unwrap(), "wrong\nwrong\nwrong\n");
}
