//! Tells the binary which commit it is built from: Docker warns of a runtime that does not say.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=ORLOP_COMMIT");
    // What each commit appends to. A path that is missing would mean: build again every time.
    let log = ".git/logs/HEAD";
    println!("cargo:rerun-if-changed={}", if std::path::Path::new(log).exists() { log } else { "build.rs" });
    if std::env::var_os("ORLOP_COMMIT").is_some() {
        return;
    }
    // Outside of a git checkout nobody knows, and the version says so.
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    if let Ok(output) = asked
        && output.status.success()
        && let Ok(commit) = String::from_utf8(output.stdout)
    {
        println!("cargo:rustc-env=ORLOP_COMMIT={}", commit.trim());
    }
}
