//! Calls that the kernel refuses in the middle: an error, never another road to the same effect (class S).

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::{is_orlop, is_root};
use crate::trap::Trap;

const CALLS: [&str; 7] = ["open_tree", "move_mount", "mount_setattr", "fsopen", "fsconfig", "fsmount", "openat2"];

/// T58: crun 2262, where move_mount(2) said ELOOP: the error was dropped and the mount was made by its path. Each call of the
/// mount API fails once, at each of its places.
#[test]
fn t58_a_refused_call_of_the_mount_api_is_an_error() {
    require!(is_root() && is_orlop(), "a runtime of many roads");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut trap = Trap::sh("echo works");
    let volume = trap.scratch("volume");
    std::fs::create_dir(&volume).unwrap();
    trap.mount(
        json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["rbind", "ro", "rprivate"]}),
    );
    // Of the first process we ask nothing: it seals the executable, and has other ways to do that.
    let (outcome, lines) = trap.traced(&["-e", &format!("trace={},pivot_root", CALLS.join(","))]);
    outcome.ok();
    let pid = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let init = pid(lines.iter().find(|line| line.contains("pivot_root(")).unwrap());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| pid(line) == init) {
        if let Some(call) = CALLS.iter().find(|call| line.contains(&format!(" {call}("))) {
            *counts.entry(call).or_default() += 1;
        }
    }
    assert!(counts["move_mount"] > 8 && counts["openat2"] > 4, "{counts:?}");
    let mut failed = 0;
    for (call, count) in counts {
        // All places take a minute; a few of each tell enough.
        for place in (1..=count).step_by(count.div_ceil(4)) {
            let inject = format!("inject={call}:error=ELOOP:when={place}");
            let (outcome, lines) = trap.traced(&["-e", &format!("trace=mount,{call}"), "-e", &inject]);
            let by_init = |line: &&String| line.contains("(INJECTED)") && pid(line) != pid(&lines[0]);
            if lines.iter().any(|line| by_init(&line)) {
                assert!(!outcome.status.success(), "{call} failed at its place {place}, and nobody minded: {outcome}");
                failed += 1;
            }
            let old: Vec<_> = lines.iter().filter(|line| line.contains(" mount(")).collect();
            assert!(old.is_empty(), "{call} failed at its place {place}, and mount(2) was called: {old:?}");
            trap.assert_gone();
        }
    }
    assert!(failed > 8, "{failed}");
}

/// T46: a rename storm makes openat2(2) say EAGAIN for ever; that ends in an error. crun tries for ever.
#[test]
fn t46_a_lookup_that_never_succeeds_ends() {
    require!(is_root(), "root of the host");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let trap = Trap::new();
    let (outcome, _) = trap.traced(&["-e", "trace=openat2", "-e", "inject=openat2:error=EAGAIN"]);
    assert!(!is_orlop() || outcome.fails().stderr.contains("EAGAIN"));
}
