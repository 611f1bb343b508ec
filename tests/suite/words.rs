//! The command line: what engines say, and what they read (features.md 1.1 to 1.7).

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::require;
use crate::support::{Bundle, binary, is_orlop, is_root, wait_until};

#[test]
fn the_version_has_the_lines_that_engines_read() {
    let bundle = Bundle::new();
    let text = bundle.call(&["--version"]).ok().stdout;
    assert!(text.lines().next().unwrap().contains(" version "), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("commit: ")) && text.lines().any(|line| line.starts_with("spec: 1.")),
        "{text}"
    );
    assert_eq!(bundle.call(&["-v"]).ok().stdout, text);
}

#[test]
fn under_the_name_of_runc_it_says_runc() {
    require!(is_orlop(), "a runtime of many names");
    let bundle = Bundle::new();
    let link = bundle.scratch("runc");
    symlink(binary(), &link).unwrap();
    let text = bundle.finish(bundle.command_of(&link, &["--version"])).ok().stdout;
    // go-runc and moby want these very words.
    assert!(text.starts_with("runc version "), "{text}");
}

#[test]
fn help_is_no_error() {
    let bundle = Bundle::new();
    for words in [&["--help"][..], &["-h"], &["help"], &["create", "--help"], &["exec", "--help"]] {
        let outcome = bundle.call(words).ok();
        assert!(!outcome.stdout.is_empty(), "{outcome}");
    }
}

/// podman takes the success of this very call for the ability.
#[test]
fn checkpoint_has_help_only_where_there_is_checkpoint() {
    require!(is_orlop(), "a runtime of many names");
    let bundle = Bundle::new();
    let outcome = bundle.call(&["checkpoint", "nobody"]).fails();
    let supported = !outcome.stderr.contains("not supported");
    assert_eq!(bundle.call(&["checkpoint", "--help"]).status.success(), supported);
}

#[test]
fn unknown_words_are_errors() {
    let bundle = Bundle::new();
    bundle.call(&["nosuchcommand"]).fails();
    bundle.call(&["create", "--nosuchoption", bundle.id()]).fails();
    bundle.call(&["state"]).fails();
    bundle.call(&["state", "a", "b"]).fails();
    // containers/common probes `restore` for these words.
    bundle.call(&["create", "--pid-file"]).fails_with("flag needs an argument");
}

#[test]
fn features_are_what_engines_read() {
    let bundle = Bundle::new();
    let outcome = bundle.call(&["features"]).ok();
    let features: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."));
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let hooks = list(&features["hooks"]);
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert!(hooks.iter().any(|have| have == hook), "{hook}");
    }
    let options = list(&features["mountOptions"]);
    assert!(
        ["ro", "rro", "bind", "rbind", "rshared", "nosymfollow", "tmpcopyup"]
            .iter()
            .all(|word| options.iter().any(|have| have == word))
    );
    // containerd dereferences linux without a look.
    let namespaces = list(&features["linux"]["namespaces"]);
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts", "time"] {
        assert!(namespaces.iter().any(|have| have == kind), "{kind}");
    }
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
    assert!(features["linux"]["seccomp"]["enabled"].is_boolean());
}

#[test]
fn list_is_a_table_or_json() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let empty = bundle.call(&["list", "--format=json"]);
    assert!(!empty.status.success() || ["null", "[]"].contains(&empty.text()), "{empty}");
    bundle.up();
    let table = bundle.call(&["list"]).ok().stdout;
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(&header[1..4], ["PID", "STATUS", "BUNDLE"]);
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(&row[..4], [bundle.id(), &bundle.pid().to_string(), "running", bundle.path().to_str().unwrap()]);
    assert_eq!(bundle.call(&["list", "--quiet"]).ok().stdout, format!("{}\n", bundle.id()));
    let json: Value = serde_json::from_str(&bundle.call(&["list", "--format", "json"]).ok().stdout).unwrap();
    assert_eq!((json[0]["id"].as_str().unwrap(), json[0]["status"].as_str().unwrap()), (bundle.id(), "running"));
    assert_eq!(json[0]["pid"], bundle.pid());
    bundle.call(&["list", "--format", "nonsense"]).fails();
    bundle.finish_off();
}

#[test]
fn spec_writes_a_config_that_runs() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::new();
    let mut command = bundle.command(&["spec", "--bundle", bundle.path().to_str().unwrap()]);
    command.current_dir(bundle.path());
    bundle.finish(command).ok();
    let config = bundle.path().join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    assert_eq!((spec["process"]["args"][0].as_str(), spec["root"]["path"].as_str()), (Some("sh"), Some("rootfs")));
    // "shocker": CAP_DAC_READ_SEARCH opens any inode of the host.
    assert!(!spec["process"]["capabilities"].to_string().contains("DAC_READ_SEARCH"));
    bundle.call(&["spec", "--bundle", bundle.path().to_str().unwrap()]).fails_with("exists");
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["echo", "from spec"]);
    spec["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id()));
    std::fs::write(&config, spec.to_string()).unwrap();
    assert_eq!(bundle.call(&bundle.with_bundle(&["run"])).ok().text(), "from spec");
}

/// An empty word is a signal that was not given.
#[test]
fn no_signal_is_the_polite_one() {
    require!(is_root(), "root of the host");
    for words in [&[][..], &[""]] {
        let mut bundle = Bundle::sh("trap 'exit 7' TERM; touch /tmp/ready; while :; do sleep 0.05; done");
        bundle.writable().write();
        let running = bundle.spawn(bundle.command(&bundle.with_bundle(&["run"])));
        wait_until("it waits for a signal", || bundle.rootfs("tmp/ready").exists());
        let mut kill = vec!["kill", bundle.id()];
        kill.extend(words);
        bundle.call(&kill).ok();
        assert_eq!(running.wait().code(), 7, "{words:?}");
    }
}

#[test]
fn debug_tells_more() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.up();
    assert!(!bundle.exec("true").ok().stderr.contains("level=debug"));
    bundle.global("--debug");
    assert!(bundle.exec("true").ok().stderr.contains("level=debug"));
    let log = bundle.scratch("log").display().to_string();
    bundle.global("--log").global(&log).global("--log-format").global("json");
    assert_eq!(bundle.exec("true").ok().stderr, "", "what is no failure stands in the log alone");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["level"] == "debug"), "{text}");
    bundle.finish_off();
}

#[test]
fn go_runc_drives_it() {
    require!(is_root(), "root of the host");
    // The words of containerd's shim, one by one (features.md 1.7).
    let mut bundle = Bundle::new();
    let log = bundle.scratch("log.json").display().to_string();
    bundle.args(&["sleep", "1000"]).write();
    for word in ["--log", &log, "--log-format", "json"] {
        bundle.global(word);
    }
    let (path, pid, exec_pid) = (
        bundle.path().display().to_string(),
        bundle.scratch("init.pid").display().to_string(),
        bundle.scratch("exec.pid").display().to_string(),
    );
    let process = bundle.file(
        "process.json",
        json!({"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}).to_string(),
    );
    let id = bundle.id().to_owned();
    bundle.call(&["create", "--bundle", &path, "--pid-file", &pid, "--no-pivot", "--no-new-keyring", &id]).ok();
    bundle.call(&["start", &id]).ok();
    bundle.call(&["exec", "--process", process.to_str().unwrap(), "--detach", "--pid-file", &exec_pid, &id]).ok();
    let pids: Vec<u32> = serde_json::from_str(&bundle.call(&["ps", "--format", "json", &id]).ok().stdout).unwrap();
    assert_eq!(pids.len(), 2);
    bundle.call(&["list", "--format=json"]).ok();
    bundle.call(&["kill", &id, "15"]).ok();
    bundle.call(&["kill", "--all", &id, "9"]).ok();
    bundle.wait_for_status("stopped");
    bundle.call(&["delete", &id]).ok();
    bundle.call(&["delete", "--force", &id]).ok();
    bundle.call(&["features"]).ok();
}

#[test]
fn buildkit_drives_it() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("exit 4");
    bundle.write();
    let log = bundle.scratch("runc-log.json").display().to_string();
    for word in ["--log", &log, "--log-format", "json"] {
        bundle.global(word);
    }
    assert_eq!(bundle.call(&bundle.with_bundle(&["run", "--keep"])).code(), 4);
    bundle.call(&["delete", bundle.id()]).ok();
}

#[test]
fn spellings_of_runc_and_crun_are_understood() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "both spellings");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let path = bundle.path().display().to_string();
    // Single dashes (go-runc sends -no-subreaper), = forms, options after the id, crun's and runc's globals.
    for words in [
        vec!["run".to_owned(), "-no-subreaper".into(), format!("--bundle={path}"), "-d".into(), bundle.id().to_owned()],
        vec!["run".into(), bundle.id().to_owned(), "--detach=true".into(), "-b".into(), path.clone()],
        vec![
            "--rootless=false".into(),
            "run".into(),
            "-d".into(),
            "--no-new-keyring".into(),
            "-b".into(),
            path.clone(),
            bundle.id().to_owned(),
        ],
        vec![
            "--cgroup-manager=cgroupfs".into(),
            "run".into(),
            "-d".into(),
            "-f".into(),
            "config.json".into(),
            "-b".into(),
            path.clone(),
            bundle.id().to_owned(),
        ],
    ] {
        bundle.call(&words).ok();
        bundle.delete_force().ok();
    }
}

#[test]
fn the_default_root_is_not_needed_to_answer() {
    let bundle = Bundle::new();
    // state and features look, they do not make.
    bundle.call(&["state", "nobody"]).fails();
    bundle.call(&["features"]).ok();
    assert!(!is_orlop() || !bundle.state_root().exists(), "looking made a directory");
}
