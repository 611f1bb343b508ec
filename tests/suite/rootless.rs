//! A container of somebody who is nobody: uid 1000 with one id to map, no capabilities, no cgroup of his own.

use std::os::unix::fs::chown;

use serde_json::json;

use crate::require;
use crate::support::filter;
use crate::support::outcome::Outcome;
use crate::support::{Bundle, binary, is_root, status_field};

/// A bundle as `runc spec --rootless` makes it, for uid 1000.
fn rootless(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.user_namespace(1000).no_mount("/sys/fs/cgroup");
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    bundle.edit(|spec| {
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.insert("uidMappings".into(), map.clone());
        linux.insert("gidMappings".into(), map);
        linux.remove("cgroupsPath");
        linux.remove("resources");
        let options = spec["mounts"][2]["options"].as_array_mut().unwrap();
        options.retain(|option| option != "gid=5");
    });
    std::fs::create_dir(bundle.state_root()).unwrap();
    chown(bundle.state_root(), Some(1000), Some(1000)).unwrap();
    bundle
}

/// Calls the runtime as uid 1000.
#[track_caller]
fn call(bundle: &Bundle, words: &[&str]) -> Outcome {
    let mut command = bundle.viewed("setpriv".as_ref());
    filter::as_asked(&mut command);
    command.args(["--reuid", "1000", "--regid", "1000", "--clear-groups"]).arg(binary()).arg("--root");
    command.arg(bundle.state_root()).args(words).env_remove("XDG_RUNTIME_DIR");
    bundle.finish(command)
}

#[test]
fn nobody_runs_a_container() {
    require!(is_root(), "root of the host");
    let bundle =
        rootless("id -u; cat /proc/self/uid_map; hostname; touch /tmp/x && echo wrote; echo hello > /dev/null; exit 3");
    let mut bundle = bundle;
    bundle.writable().write();
    let path = bundle.path().display().to_string();
    let outcome = call(&bundle, &["run", "--bundle", &path, bundle.id()]);
    assert_eq!(outcome.code(), 3, "{outcome}");
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "1000", "1", "orlop", "wrote"], "{outcome}");
    bundle.assert_gone();
}

#[test]
fn nobody_has_the_whole_lifecycle() {
    require!(is_root(), "root of the host");
    let bundle = rootless("exec sleep 1000");
    bundle.write();
    let path = bundle.path().display().to_string();
    call(&bundle, &["create", "--bundle", &path, bundle.id()]).ok();
    call(&bundle, &["start", bundle.id()]).ok();
    assert_eq!(status_field(&bundle.pid().to_string(), "Uid").unwrap().split_whitespace().next(), Some("1000"));
    let outcome = call(&bundle, &["exec", bundle.id(), "sh", "-c", "id -u; hostname"]).ok();
    assert_eq!(outcome.stdout, "0\norlop\n", "{outcome}");
    call(&bundle, &["kill", bundle.id(), "KILL"]).ok();
    bundle.wait_for_status("stopped");
    call(&bundle, &["delete", bundle.id()]).ok();
    bundle.assert_gone();
}

#[test]
fn a_limit_that_nobody_can_set_is_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless("true");
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"memory": {"limit": 10_000_000}})).write();
    let path = bundle.path().display().to_string();
    call(&bundle, &["run", "--bundle", &path, bundle.id()]).fails();
    bundle.assert_gone();
}

#[test]
fn nobody_has_no_second_group() {
    require!(is_root(), "root of the host");
    let mut bundle = rootless("true");
    bundle.edit(|spec| spec["process"]["user"]["additionalGids"] = json!([7])).write();
    let path = bundle.path().display().to_string();
    call(&bundle, &["run", "--bundle", &path, bundle.id()]).fails();
    bundle.assert_gone();
}
