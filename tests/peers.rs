//! The black-box suite asked of other runtimes: each question that a peer answers otherwise is a row, with its reason, in
//! `tests/expected_differences.toml`. Not part of a plain `cargo test`: `cargo peers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[derive(serde::Deserialize)]
struct Difference {
    test: String,
    runtime: String,
    /// Why; for people, and never empty.
    reason: String,
    /// A race, or a matter of the machine: may pass as well.
    #[serde(default)]
    sometimes: bool,
}

#[derive(serde::Deserialize)]
struct Differences {
    difference: Vec<Difference>,
}

fn compare(runtime: &str, binary: &str) {
    assert!(Path::new(binary).exists(), "{binary} is not installed");
    let table: Differences = toml::from_str(include_str!("expected_differences.toml")).unwrap();
    let rows: Vec<_> = table.difference.iter().filter(|row| row.runtime == runtime).collect();
    let output = Command::new(env!("CARGO"))
        .args(["test", "--test", "suite", "--test", "security", "--no-fail-fast"])
        .env("ORLOP_UNDER_TEST", binary)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ended = |how: &str| -> BTreeSet<&str> {
        text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(how)).map(str::trim).collect()
    };
    let (failed, passed) = (ended("... FAILED"), ended("... ok"));
    assert!(!passed.is_empty(), "the suite did not run:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{runtime}: {} passed, {} failed", passed.len(), failed.len());
    let unexpected: Vec<_> = failed.iter().filter(|test| !rows.iter().any(|row| row.test == **test)).collect();
    let stale: Vec<_> =
        rows.iter().filter(|row| !row.sometimes && !failed.contains(&*row.test)).map(|row| &row.test).collect();
    assert!(rows.iter().all(|row| !row.reason.is_empty()));
    assert!(
        unexpected.is_empty() && stale.is_empty(),
        "{runtime}: not in the table: {unexpected:#?}; stale: {stale:#?}"
    );
}

#[test]
#[ignore = "takes a minute: cargo peers"]
fn runc_differs_only_where_the_table_says_so() {
    compare("runc", "/usr/sbin/runc");
}

#[test]
#[ignore = "takes a minute: cargo peers"]
fn crun_differs_only_where_the_table_says_so() {
    compare("crun", "/usr/bin/crun");
}
