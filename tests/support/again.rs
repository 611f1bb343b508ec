//! The black-box tests once more under other circumstances, and what it is known to find there.

use std::collections::BTreeSet;
use std::process::Command;

/// A test that is known to fail.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub test: &'a str,
    /// Why; for people, and never empty.
    pub reason: &'a str,
    /// A race, or a matter of the machine: may pass as well.
    pub sometimes: bool,
}

/// Runs these test programs with these variables set. Exactly the `known` tests fail: any other is news, and one that passes is a
/// stale row.
pub fn run(name: &str, programs: &[&str], variables: &[(&str, &str)], known: &[Known<'_>]) {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--no-fail-fast"])
        .args(programs.iter().flat_map(|program| ["--test", program]))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ended = |how: &str| -> BTreeSet<&str> {
        text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(how)).map(str::trim).collect()
    };
    let (failed, passed) = (ended("... FAILED"), ended("... ok"));
    assert!(!passed.is_empty(), "the suite did not run:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{name}: {} passed, {} failed", passed.len(), failed.len());
    assert!(known.iter().all(|row| !row.reason.is_empty()));
    let news: Vec<_> = failed.iter().filter(|test| !known.iter().any(|row| row.test == **test)).collect();
    let stale: Vec<_> =
        known.iter().filter(|row| !row.sometimes && !failed.contains(row.test)).map(|row| row.test).collect();
    for test in &news {
        // What it said, up to the stack.
        let said = text.split_once(&format!("---- {test} stdout ----")).map_or("", |(_, after)| after);
        let said = said.split("\n---- ").next().unwrap_or_default();
        println!("---- {test}{}", said.split("stack backtrace").next().unwrap_or_default());
    }
    assert!(news.is_empty() && stale.is_empty(), "{name}: not in the table: {news:#?}; stale: {stale:#?}");
}
