//! What a person reads: a heading, a row as each program ends, what was left behind, the differences, and the counts
//! on a line of their own at the very end.

use crate::program::Launch;
use crate::suite::Suite;
use crate::tap::{Outcome, Verdict};
use std::io::{Result, Write};

/// A program and what came of it.
pub struct Row {
    /// The program's name.
    pub program: String,
    /// What it said, judged.
    pub verdict: Verdict,
}

/// The longest name in the suite is `linux_process_apparmor_profile`.
const NAME_WIDTH: usize = 31;

/// Reasons carry the runtime's own words, which can be long.
const REASON_WIDTH: usize = 220;

/// Says what is run on what, and whether the bundles are as the suite made them.
pub fn heading(out: &mut impl Write, suite: &Suite, launch: &Launch) -> Result<()> {
    writeln!(out, "{} programs of {} on {}", suite.programs.len(), suite.root.display(), launch.runtime.display())?;
    match launch.wrapper {
        Some(_) => {
            writeln!(out, "with a wrapper in front of the runtime that takes linux.seccomp out of every bundle")?
        }
        None => writeln!(out, "with the bundles as the suite makes them, seccomp profile included")?,
    }
    writeln!(out, "\n{:NAME_WIDTH$} {:8} first reason", "program", "outcome")?;
    out.flush()
}

/// One program.
pub fn row(out: &mut impl Write, row: &Row) -> Result<()> {
    let reason: String = row.verdict.reason.chars().take(REASON_WIDTH).collect();
    let line = format!("{:NAME_WIDTH$} {:8} {reason}", row.program, row.verdict.outcome);
    writeln!(out, "{}", line.trim_end())?;
    out.flush()
}

/// All that follows the rows. `differences` is `None` when there was nothing to compare with.
pub fn summary(out: &mut impl Write, rows: &[Row], notes: &[String], differences: Option<&[String]>) -> Result<()> {
    section(out, "left behind", notes)?;
    match differences {
        Some([]) => writeln!(out, "\nall as expected")?,
        Some(found) => section(out, "not as expected", found)?,
        None => {}
    }
    let passed = rows.iter().filter(|row| row.verdict.outcome == Outcome::Pass).count();
    writeln!(out, "\n{passed} passed, {} failed", rows.len() - passed)?;
    out.flush()
}

fn section(out: &mut impl Write, title: &str, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}:")?;
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
