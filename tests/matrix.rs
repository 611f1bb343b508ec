//! The suite on kernels that have less: each family of calls answers ENOSYS, as an older kernel does, then EPERM, as an
//! engine's filter that is older than the calls; then all families at once, there with the traps of `tests/security` as
//! well. What is lost is a row in `tests/matrix.toml`, beside docs/kernel-features.md. Not part of a plain `cargo test`:
//! `cargo matrix` runs all of it, and `.ci/run` the last two.
//!
//! The filter is around the runtime and what it starts (tests/support/filter.rs), not around the engines that some tests
//! start: a C library of 2022 makes no thread where clone3 answers EPERM.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use again::Known;

#[path = "support/again.rs"]
mod again;

#[derive(serde::Deserialize)]
struct Family {
    name: String,
    calls: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Loss {
    test: String,
    /// Families that must be there for it.
    without: Vec<String>,
    /// `ENOSYS` or `EPERM`, where it is lost with one alone.
    only: Option<String>,
    /// `suite` where nothing is said, or `security`, which only the runs without all families have.
    program: Option<String>,
    reason: String,
}

#[derive(serde::Deserialize)]
struct Table {
    family: Vec<Family>,
    loss: Vec<Loss>,
}

/// Runs these test programs without the families of these names, with rows for any of them.
fn without(names: &[&str], errno: &str, programs: &[&str]) {
    let table: Table = toml::from_str(include_str!("matrix.toml")).unwrap();
    let mut calls = Vec::new();
    for name in names {
        let family = table.family.iter().find(|family| family.name == *name);
        calls.extend(family.unwrap_or_else(|| panic!("no family {name}")).calls.iter().map(String::as_str));
    }
    for loss in &table.loss {
        for name in &loss.without {
            assert!(table.family.iter().any(|family| family.name == *name), "{}: no family {name}", loss.test);
        }
    }
    let lost = |loss: &&Loss| {
        programs.contains(&loss.program.as_deref().unwrap_or("suite"))
            && loss.only.as_deref().is_none_or(|only| only == errno)
            && loss.without.iter().any(|name| names.contains(&name.as_str()))
    };
    let known: Vec<_> = table
        .loss
        .iter()
        .filter(lost)
        .map(|loss| Known { test: &loss.test, reason: &loss.reason, sometimes: false })
        .collect();
    let asked = format!("{errno} {}", calls.join(" "));
    again::run(&format!("{errno} {}", names.join(" ")), programs, &[("ORLOP_WITHOUT", &asked)], &known);
}

macro_rules! families {
    ($($family:ident $(except $spared:literal)?;)*) => {
        $(#[test]
        #[ignore = "takes minutes: cargo matrix"]
        fn $family() {
            for errno in ["ENOSYS", "EPERM"] {
                if true $(&& errno != $spared)? {
                    without(&[stringify!($family)], errno, &["suite"]);
                }
            }
        })*

        /// A kernel of 2019: nothing that is younger than the oldest that orlop runs on.
        #[test]
        #[ignore = "takes minutes: cargo matrix"]
        fn all_at_once_enosys() {
            without(&[$(stringify!($family)),*], "ENOSYS", &["suite", "security"]);
        }

        /// An engine whose filter is older than all of it.
        #[test]
        #[ignore = "takes minutes: cargo matrix"]
        fn all_at_once_eperm() {
            let families = [$((stringify!($family), false $(|| $spared == "EPERM")?)),*];
            let names: Vec<_> = families.iter().filter(|(_, spared)| !spared).map(|(name, _)| *name).collect();
            without(&names, "EPERM", &["suite", "security"]);
        }
    };
}

families! {
    openat2;
    mount_api;
    mount_setattr;
    close_range;
    clone3;
    pidfd;
    fchmodat2;
    faccessat2;
    statx;
    memfd_create;
    // Keys that we may not make are an error, and there is a flag for it: older_kernels::keyctl.
    keyctl except "EPERM";
}
