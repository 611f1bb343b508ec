//! The black-box suite asked of other runtimes: each question that a peer answers otherwise is a row, with its reason, in
//! `tests/expected_differences.toml`. Not part of a plain `cargo test`: `cargo peers`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

#[path = "support/again.rs"]
mod again;

#[derive(serde::Deserialize)]
struct Difference {
    test: String,
    runtime: String,
    reason: String,
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
    let rows = table.difference.iter().filter(|row| row.runtime == runtime);
    let known: Vec<_> =
        rows.map(|row| again::Known { test: &row.test, reason: &row.reason, sometimes: row.sometimes }).collect();
    again::run(runtime, &["suite", "security"], &[("ORLOP_UNDER_TEST", binary)], &known);
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
