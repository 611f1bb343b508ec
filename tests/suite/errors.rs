//! What is wrong with a config is said before anything happens, with its place, and leaves nothing behind.

use serde_json::{Value, json};

use crate::require;
use crate::support::{Bundle, is_orlop, is_root};

/// The config is refused, by create and by run; the error has these words; nothing is left.
#[track_caller]
fn refused(change: impl Fn(&mut Value), words: &[&str]) {
    let mut bundle = Bundle::new();
    bundle.edit(change);
    let outcome = bundle.create().fails();
    if is_orlop() {
        for word in words {
            assert!(outcome.stderr.contains(word), "error lacks {word:?}: {outcome}");
        }
    }
    bundle.assert_gone();
    bundle.run().fails();
    bundle.assert_gone();
}

#[test]
fn a_missing_config_is_named() {
    let bundle = Bundle::new();
    let outcome = bundle.call(&bundle.with_bundle(&["create"])).fails_with("config.json");
    assert!(
        !is_orlop() || outcome.stderr.contains("not found") || outcome.stderr.contains("no such file"),
        "{outcome}"
    );
    bundle.assert_gone();
}

#[test]
fn a_missing_bundle_is_named() {
    let bundle = Bundle::new();
    bundle.call(&["create", "--bundle", "/no/such/bundle", bundle.id()]).fails_with("/no/such/bundle");
    bundle.assert_gone();
}

#[test]
fn broken_json_is_located() {
    let bundle = Bundle::new();
    bundle.write();
    let text = "{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": {\"args\": [}\n}";
    std::fs::write(bundle.path().join("config.json"), text).unwrap();
    bundle.call(&bundle.with_bundle(&["create"])).fails_saying("line 3");
    bundle.assert_gone();
}

#[test]
fn a_wrong_type_is_located() {
    require!(is_root(), "root of the host");
    refused(|spec| spec["process"]["user"]["uid"] = json!("root"), &["process.user.uid"]);
    refused(|spec| spec["mounts"][2]["options"] = json!("ro"), &["mounts[2].options"]);
    refused(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": "10M"}), &["linux.resources.memory.limit"]);
}

#[test]
fn a_version_that_is_not_ours_is_refused() {
    require!(is_root(), "root of the host");
    for version in ["2.0.0", "0.9.0", "1.0", "01.0.0", "1.0.0-", "1.0.0+a_b", "nonsense", ""] {
        refused(|spec| spec["ociVersion"] = json!(version), &["ociVersion"]);
    }
    for version in ["1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.0", "1.3.0"] {
        let mut bundle = Bundle::new();
        bundle.edit(|spec| spec["ociVersion"] = json!(version)).run().ok();
    }
}

#[test]
fn unknown_properties_are_ignored() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("echo here");
    bundle.edit(|spec| {
        spec["org.example.unknown"] = json!({"a": [1, 2]});
        spec["process"]["unknown"] = json!(7);
        spec["linux"]["unknown"] = json!(null);
        spec["annotations"] = json!({"org.opencontainers.unknown": ""});
        // What is for other platforms.
        spec["process"]["commandLine"] = json!("cmd");
        spec["process"]["user"]["username"] = json!("nobody");
        spec["freebsd"] = json!({"devices": [{"path": "null"}]});
        spec["solaris"] = json!({"milestone": "svc:/milestone/container:default"});
        spec["vm"] = json!({"kernel": {"path": "/no/such/kernel"}});
        spec["windows"] = json!({"layerFolders": ["C:\\layer"]});
        spec["zos"] = json!({"namespaces": []});
    });
    assert_eq!(bundle.output(), "here");
}

#[test]
fn what_is_required_is_required() {
    require!(is_root(), "root of the host");
    refused(|spec| drop(spec.as_object_mut().unwrap().remove("root")), &["root"]);
    refused(|spec| spec["root"]["path"] = json!("/no/such/rootfs"), &["/no/such/rootfs"]);
    refused(|spec| spec["process"]["args"] = json!([]), &["process.args"]);
    refused(|spec| drop(spec["process"].as_object_mut().unwrap().remove("cwd")), &["cwd"]);
    refused(|spec| drop(spec.as_object_mut().unwrap().remove("ociVersion")), &["ociVersion"]);
}

#[test]
fn every_field_is_checked_before_anything_happens() {
    require!(is_root(), "root of the host");
    refused(
        |spec| spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]),
        &["process.rlimits[0]"],
    );
    refused(
        |spec| spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
        &["process.rlimits[0]"],
    );
    refused(|spec| spec["linux"]["rootfsPropagation"] = json!("sideways"), &["linux.rootfsPropagation"]);
    refused(|spec| spec["linux"]["devices"] = json!([{"path": "/dev/x", "type": "z"}]), &["linux.devices[0]"]);
    refused(
        |spec| spec["linux"]["devices"] = json!([{"path": "relative", "type": "c", "major": 1, "minor": 3}]),
        &["linux.devices[0]"],
    );
    refused(|spec| spec["hooks"] = json!({"createRuntime": [{"path": "relative"}]}), &["hooks.createRuntime[0]"]);
    refused(
        |spec| spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
        &["process.ioPriority"],
    );
    refused(|spec| spec["process"]["scheduler"] = json!({"policy": "SCHED_NOSUCH"}), &["process.scheduler"]);
    refused(|spec| spec["process"]["oomScoreAdj"] = json!(5000), &["process.oomScoreAdj"]);
    refused(|spec| spec["process"]["env"] = json!(["NOEQUALS"]), &["process.env[0]"]);
}

#[test]
fn nothing_that_was_asked_is_skipped_in_silence() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime without SELinux and AppArmor support to skip");
    // This host has no security module: a label that cannot be set is an error (T23), as is a filter that is not loaded.
    let lsm = |name: &str| std::fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.contains(name));
    if !lsm("apparmor") {
        refused(|spec| spec["process"]["apparmorProfile"] = json!("some-profile"), &["process.apparmorProfile"]);
    }
    if !lsm("selinux") {
        refused(
            |spec| spec["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0"),
            &["process.selinuxLabel"],
        );
    }
    refused(
        |spec| spec["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
        &["linux.personality.flags[0]"],
    );
    refused(
        |spec| spec["linux"]["resources"]["memory"] = json!({"useHierarchy": false}),
        &["linux.resources.memory.useHierarchy"],
    );
    // crun's, where it was built with them.
    for annotation in
        ["run.oci.handler", "run.oci.seccomp.plugins", "run.oci.seccomp_bpf_data", "run.oci.systemd.force_cgroup_v1"]
    {
        refused(|spec| spec["annotations"] = json!({annotation: "x"}), &[annotation]);
    }
}

/// Either the filter is loaded, or the config is refused: never a container without the filter it asked for.
#[test]
fn a_seccomp_filter_is_loaded_or_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status");
    bundle.writable().edit(|spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
    });
    let outcome = bundle.run();
    if outcome.status.success() {
        assert!(
            outcome.stdout.contains("Function not implemented") && outcome.stdout.contains("Seccomp:\t2"),
            "{outcome}"
        );
    } else {
        assert!(outcome.stderr.contains("linux.seccomp"), "{outcome}");
    }
    bundle.assert_gone();
}

#[test]
fn the_log_gets_one_record_in_json() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let log = bundle.scratch("log.json");
    bundle.args(&["/no/such/program"]);
    for word in ["--log", log.to_str().unwrap(), "--log-format", "json"] {
        bundle.global(word);
    }
    let outcome = bundle.create().fails_with("/no/such/program");
    let text = std::fs::read_to_string(&log).unwrap();
    // containerd reads it line by line and takes the last error.
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().unwrap().contains("/no/such/program") && last["time"].is_string(), "{text}");
    // podman decodes the file as one document.
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(outcome.stdout.is_empty());
    // On success the file is there and empty of errors.
    std::fs::remove_file(&log).unwrap();
    bundle.args(&["true"]).run().ok();
    assert!(!std::fs::read_to_string(&log).unwrap().contains("\"error\""));
}

#[test]
fn a_text_log_is_text() {
    let mut bundle = Bundle::new();
    let log = bundle.scratch("log");
    bundle.global("--log").global(log.to_str().unwrap());
    bundle.call(&["state", bundle.id()]).fails_with("does not exist");
    assert!(std::fs::read_to_string(&log).unwrap().contains("level=error"));
    bundle.global("--log-format").global("nonsense");
    bundle.call(&["list"]).fails();
}
