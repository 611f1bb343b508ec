//! What hooks get, and what an annotation can do: both are names and words that a tenant may have chosen.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::require;
use crate::support::outcome::after;
use crate::support::{is_orlop, is_root};
use crate::trap::Trap;

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// What a hook tells of itself. Shells add PWD, OLDPWD, SHLVL and `_`.
const CONFESSION: &str = "tr '\\0' '\\n' </proc/self/environ | grep -v -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_= | sed 's/^/env /'; \
    echo umask $(umask); echo cwd $(readlink /proc/self/cwd); grep -e SigBlk -e SigIgn /proc/self/status; \
    echo stdin $(head -c 200 | tr -d '\\n ')";

/// T35: the hook of a runtime that ran with the image's LD_PRELOAD loaded the image's library as the host's root
/// (NVIDIA's toolkit). A hook has its own environment and nothing of the image's, nor of the caller's.
#[test]
fn t35_cve_2025_23266_a_hook_has_nothing_of_the_image() {
    require!(is_root(), "root of the host");
    for own in [false, true] {
        let mut trap = Trap::new();
        let log = trap.file("log", "");
        std::fs::set_permissions(&log, PermissionsExt::from_mode(0o666)).unwrap();
        let place = log.display().to_string();
        trap.mount(json!({"destination": place, "type": "bind", "source": place, "options": ["bind"]})).writable();
        for kind in KINDS {
            let script = format!("{{ echo kind {kind}; {CONFESSION}; }} >>{place} 2>&1");
            let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
            if own {
                hook["env"] = json!(["PATH=/bin:/usr/bin", "OWN=1"]);
            }
            trap.edit(|spec| spec["hooks"][kind] = json!([hook]));
        }
        trap.edit(|spec| {
            let env = json!(["PATH=/bin", "LD_PRELOAD=/image/evil.so", "IMAGE=1"]);
            spec["process"]["env"] = env;
        });
        trap.write();
        let inner = trap.command(&trap.with_bundle(&["run"]));
        let mut command = after("umask 0; trap '' HUP USR1 QUIT", &inner);
        command.env("CALLER_SECRET", "1").stdin(std::process::Stdio::null());
        trap.finish(command).ok();
        trap.compare("run");
        let text = std::fs::read_to_string(&log).unwrap();
        let hooks: Vec<&str> = text.split("kind ").skip(1).collect();
        assert_eq!(hooks.len(), KINDS.len(), "{text}");
        for hook in hooks {
            let kind = hook.lines().next().unwrap();
            let line = |word: &str| {
                hook.lines()
                    .find_map(|line| line.strip_prefix(word))
                    .unwrap_or_else(|| panic!("no {word}: {hook}"))
                    .trim()
            };
            let env: Vec<&str> = hook.lines().filter_map(|line| line.strip_prefix("env ")).collect();
            let expected: &[&str] = match (own, kind) {
                (true, _) => &["PATH=/bin:/usr/bin", "OWN=1"],
                // It runs in the container, under all that the program runs under (config.md#startcontainer-hooks).
                (false, "startContainer") => &["PATH=/bin", "LD_PRELOAD=/image/evil.so", "IMAGE=1"],
                (false, _) => &[],
            };
            let strangers: Vec<_> = env.iter().filter(|entry| !expected.contains(entry)).collect();
            let home = |entry: &&&&str| !entry.starts_with("HOME=");
            assert_eq!(strangers.iter().filter(home).count(), 0, "{kind}: {env:?}");
            assert_eq!(line("umask "), "0022", "{kind}");
            let cwd = match kind {
                "createContainer" => trap.rootfs(""),
                "startContainer" => "/".into(),
                _ => trap.path(),
            };
            assert_eq!(line("cwd ").trim_end_matches('/'), cwd.display().to_string().trim_end_matches('/'), "{kind}");
            for set in ["SigBlk:", "SigIgn:"] {
                let mask = u64::from_str_radix(line(set), 16).unwrap();
                // 32 and 33 are the C library's.
                assert_eq!(mask & !(3 << 31), 0, "{kind}: {hook}");
            }
            assert!(line("stdin ").starts_with("{\"ociVersion\""), "{kind}: {hook}");
        }
    }
}

/// T42: annotations that reach systemd, handlers, loaders or files in some runtime. None of them may touch the host.
#[test]
fn t42_cve_2024_3154_annotations_reach_nothing() {
    require!(is_root(), "root of the host");
    for (key, value) in [
        ("org.systemd.property.ExecStartPre", "[('/bin/sh', ['sh', '-c', 'touch CANARY/new'], false)]"),
        ("org.criu.config", "CANARY/target"),
        ("bundle", "CANARY"),
        ("run.oci.hooks.stdout", "CANARY/new"),
        ("run.oci.hooks.stderr", "CANARY/target"),
        ("run.oci.delegate-cgroup", "../../../CANARY"),
        ("run.oci.systemd.subgroup", "../../CANARY"),
        ("run.oci.seccomp_bpf_data", "AAAAAAAA"),
        ("run.oci.seccomp.receiver", "CANARY/socket"),
        ("run.oci.seccomp.plugins", "CANARY/target"),
        ("run.oci.pidfd_receiver", "CANARY/socket"),
        ("run.oci.handler", "../../CANARY/target"),
        ("run.oci.mount_context_type", "context"),
        ("module.wasm.image/variant", "compat"),
    ] {
        let mut trap = Trap::new();
        let value = value.replace("CANARY", &trap.canary.path().display().to_string());
        trap.edit(|spec| spec["annotations"] = json!({key: value}));
        trap.survive();
    }
}

/// T42, twin: with hooks whose output is to be kept, the file is made.
#[test]
fn t42_twin_the_output_of_a_hook_is_kept_where_there_is_one() {
    require!(is_root() && is_orlop(), "run.oci.hooks.stdout");
    let mut trap = Trap::new();
    let file = trap.scratch("out");
    trap.edit(|spec| {
        spec["annotations"] = json!({"run.oci.hooks.stdout": file});
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/echo", "args": ["echo", "said"]}]});
    });
    trap.run().ok();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "said\n");
}
