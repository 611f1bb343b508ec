//! Skips are counted: a test that cannot run says what is missing, and `tests/skips.toml` must allow it on this machine.

use std::io::Write;
use std::sync::OnceLock;

/// Ends the test here when `$condition` does not hold, with one line about what is missing.
///
/// A skip that `tests/skips.toml` does not allow on this kind of machine is a failure: coverage does not vanish in silence.
#[macro_export]
macro_rules! require {
    ($condition:expr, $missing:expr) => {
        if !$condition {
            fn here() {}
            $crate::support::skip::skip(std::any::type_name_of_val(&here), $missing);
            return;
        }
    };
}

/// One row of `tests/skips.toml`.
#[derive(serde::Deserialize)]
struct Allowed {
    /// Words of `require!`.
    missing: String,
    /// Kinds of machine on which it may be missing.
    machines: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Allowances {
    skip: Vec<Allowed>,
}

/// In a row: whatever the machine, where the runtime under test is not orlop.
const PEER: &str = "peer";

/// What kind of machine this is: `root`, `root-no-resource` (no CAP_SYS_RESOURCE), `unprivileged`; `$ORLOP_MACHINE` overrules.
pub fn machine() -> String {
    if let Ok(machine) = std::env::var("ORLOP_MACHINE") {
        return machine;
    }
    let kind = match (super::is_root(), super::has_capability(24)) {
        (false, _) => "unprivileged",
        (true, false) => "root-no-resource",
        (true, true) => "root",
    };
    kind.to_owned()
}

/// Records a skip. `place` is the name of a function within the test.
#[track_caller]
pub fn skip(place: &str, missing: &str) {
    static ALLOWED: OnceLock<Allowances> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| toml::from_str(include_str!("../skips.toml")).unwrap());
    let test = place.trim_start_matches("suite::").trim_start_matches("security::").trim_end_matches("::here");
    let machine = machine();
    println!("SKIP {test}: {missing}");
    if let Some(list) = std::env::var_os("ORLOP_SKIPS") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        list.write_all(format!("{machine}\t{test}\t{missing}\n").as_bytes()).unwrap();
    }
    let allows = |row: &Allowed| {
        row.machines.contains(&machine) || (!super::is_orlop() && row.machines.iter().any(|kind| kind == PEER))
    };
    let listed = allowed.skip.iter().any(|row| row.missing == missing && allows(row));
    assert!(listed, "tests/skips.toml does not allow this skip on {machine:?}: {missing:?}");
}
