//! Old roads: a defence must not be weaker where the kernel lacks a call.

use std::process::Command;

use crate::require;
use crate::support::{is_orlop, is_root};

/// T45: crun 1.29 lost O_NOFOLLOW where openat2 is missing. The traps of paths, sprung again on a kernel without it.
#[test]
fn t45_the_traps_of_paths_without_openat2() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime of many roads");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["destinations::", "fakes::"])
        .env("ORLOP_WITHOUT", "ENOSYS openat2")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let passed = said.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().ok());
    assert!(passed.is_some_and(|passed: u32| passed > 20), "{said}");
}
