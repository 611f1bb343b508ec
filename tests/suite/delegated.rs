//! A cgroup below the container's own in which its program begins (`run.oci.delegate-cgroup`), so that it may divide what
//! it has: in the tree of v2, a cgroup that gives controllers to others takes no process itself.

use std::path::PathBuf;

use serde_json::json;

use crate::cgroups::{COUNTS, stands_still};
use crate::require;
use crate::support::{Bundle, View, cgroup, is_orlop, is_root, wait_until};

/// A user of the host who has nothing, root in the container.
const USER: u32 = 100_000;

/// A container in the v2 view whose user sees its cgroups as a tree of its own, writable.
fn divisible() -> Bundle {
    let mut bundle = crate::cgroups::divisible();
    bundle.user_namespace(USER).args(&["sleep", "1000"]);
    bundle
}

fn delegating(path: &str) -> Bundle {
    let mut bundle = divisible();
    bundle.edit(|spec| spec["annotations"] = json!({"run.oci.delegate-cgroup": path}));
    bundle
}

/// The container's directory in the tree of v2, and a controller that is there.
fn v2(bundle: &Bundle) -> Option<(PathBuf, String)> {
    let at = cgroup::v2()?;
    let controllers = std::fs::read_to_string(at.join("cgroup.controllers")).ok()?;
    Some((at.join(bundle.id()), controllers.split_whitespace().next()?.to_owned()))
}

fn pids(bundle: &Bundle) -> Vec<i32> {
    serde_json::from_str(&bundle.call(&["ps", "--format", "json", bundle.id()]).ok().stdout).unwrap()
}

#[test]
fn a_user_may_divide_at_once() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "run.oci.delegate-cgroup");
    let mut bundle = delegating("payload/init");
    let Some((own, controller)) = v2(&bundle) else {
        require!(false, "a controller of cgroup v2");
        return;
    };
    let divide = format!(
        "echo +{controller} > /sys/fs/cgroup/cgroup.subtree_control && mkdir -p /sys/fs/cgroup/other && \
         echo $$ > /sys/fs/cgroup/other/cgroup.procs && cat /sys/fs/cgroup/other/cgroup.controllers"
    );
    bundle.up();
    let seen = bundle.exec("cat /proc/self/cgroup").ok();
    assert!(seen.stdout.lines().any(|line| line == "0::/payload/init"), "seen from its own root: {seen}");
    assert!(bundle.exec(&divide).ok().stdout.contains(&controller));
    let owner = |file: &str| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(own.join(file)).unwrap());
    for file in ["payload/init", "payload/init/cgroup.procs", "payload/init/cgroup.subtree_control", "cgroup.procs"] {
        assert_eq!(owner(file), USER, "{file}");
    }
    for file in ["cgroup.freeze", "cgroup.max.depth", "payload/init/cgroup.freeze"] {
        assert_eq!(owner(file), 0, "{file} is no part of what is given away");
    }
    let below = std::fs::read_to_string(own.join("payload/init/cgroup.controllers")).unwrap();
    assert!(below.contains(&controller), "what the container has goes down: {below}");
    bundle.finish_off();
    bundle.assert_gone();

    // Which is not to be had in the root, where its processes are.
    let mut bundle = divisible();
    bundle.up();
    let outcome = bundle.exec(&divide).fails();
    // A controller of threads can be given away, but the cgroup below then takes threads alone.
    let why = ["busy", "not supported"];
    assert!(why.iter().any(|words| outcome.stderr.contains(words)), "{outcome}");
    bundle.finish_off();
}

#[test]
fn every_command_reaches_below() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "run.oci.delegate-cgroup");
    for shares_pids in [false, true] {
        let mut bundle = delegating("init");
        require!(v2(&bundle).is_some(), "a controller of cgroup v2");
        let deep = "mkdir /sys/fs/cgroup/deep && (echo 0 > /sys/fs/cgroup/deep/cgroup.procs; exec sleep 998)";
        bundle.args(&["sh", "-c", &format!("{deep} & {COUNTS}")]).writable();
        if shares_pids {
            bundle.no_namespace("pid").no_mount("/proc");
            bundle.mount(json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}));
        }
        bundle.up();
        wait_until("init, its child and its sleep", || pids(&bundle).len() >= 3);
        stands_still(&bundle, || {
            assert!(pids(&bundle).len() >= 2, "ps sees the frozen");
            bundle.call(&["events", "--stats", bundle.id()]).ok();
        });
        bundle.call(&["pause", bundle.id()]).ok();
        bundle.kill("KILL").ok();
        bundle.wait_for_status("stopped");
        bundle.delete().ok();
        bundle.assert_gone();
    }
}

#[test]
fn a_delegated_cgroup_goes_with_its_container() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "run.oci.delegate-cgroup");
    let mut bundle = delegating("a/b");
    require!(v2(&bundle).is_some(), "a controller of cgroup v2");
    // Also where the container does not see its cgroups at all, and where it never ran.
    bundle.no_mount("/sys/fs/cgroup").no_namespace("cgroup").create().ok();
    let seen = |bundle: &Bundle| std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(seen(&bundle).contains(&format!("0::/{}/a/b\n", bundle.id())), "{}", seen(&bundle));
    bundle.delete().ok();
    bundle.assert_gone();
    // Two annotations make two levels; an empty one makes none.
    for (outer, expected) in [("outer", "outer/a/b"), ("", "a/b")] {
        bundle.edit(|spec| spec["annotations"]["run.oci.systemd.subgroup"] = json!(outer)).create().ok();
        assert!(seen(&bundle).contains(&format!("0::/{}/{expected}\n", bundle.id())), "{}", seen(&bundle));
        bundle.delete().ok();
    }
}

/// T25, and what v1 cannot do safely.
#[test]
fn no_path_leads_out() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "run.oci.delegate-cgroup");
    for path in ["..", "a/../../b", "/", "."] {
        delegating(path).create().fails_with("run.oci.delegate-cgroup");
    }
    require!(cgroup::v1("memory").is_some(), "cgroup v1 memory controller");
    let mut bundle = delegating("a");
    bundle.view(View::Host).create().fails_with("a cgroup can be delegated on a host of cgroup v2 only");
    bundle.assert_gone();
}
