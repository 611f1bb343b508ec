//! `expected.toml`: what each program should come to, and why.
//!
//! One table for each program:
//!
//! ```toml
//! [linux_cgroups_pids]
//! outcome = "fail"                              # pass, fail, timeout or crash
//! not_ok = ["pids limit is set correctly"]      # the lines that fail; exactly these
//! fault = "suite"                               # whose it is: suite, host or runtime
//! reason = "Compares two pointers, not the numbers they point to."
//! ```
//!
//! `says` holds the complaints of a program that fails nothing (see `tap`). Lists may be left out when empty, `fault` and
//! `reason` when the program passes. Anything else is refused: a misspelt key would compare nothing.
//!
//! Three programs are races: they compare the speed of two processes, and on a busy machine the other one wins. For
//! these, `or` holds an outcome that may come in place of the first, and `sometimes` the lines, of either sort, that may
//! come or not.

use crate::table::Row;
use crate::tap::Outcome;
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// Whose doing it may be that a program does not pass: the suite's own, that of the machine it runs on, or the
/// runtime's.
const FAULTS: [&str; 3] = ["suite", "host", "runtime"];

/// The whole file.
#[derive(Debug)]
pub struct Expected {
    programs: BTreeMap<String, Entry>,
}

/// One program's part.
#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    or: Option<Outcome>,
    not_ok: Vec<String>,
    says: Vec<String>,
    sometimes: Vec<String>,
    reason: String,
}

impl Expected {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Expected, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Expected::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Expected, String> {
        let table: Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        let mut programs = BTreeMap::new();
        for (name, value) in table {
            let entry = match value {
                Value::Table(fields) => Entry::parse(fields),
                _ => Err("not a table".to_owned()),
            };
            let entry = entry.map_err(|why| format!("[{name}]: {why}"))?;
            programs.insert(name, entry);
        }
        Ok(Expected { programs })
    }

    /// Everything that is not as the file says, better or worse. With `all`, programs that the file names and the
    /// suite does not have count too.
    pub fn differences(&self, rows: &[Row], all: bool) -> Vec<String> {
        let mut found = Vec::new();
        for row in rows {
            match self.programs.get(&row.program) {
                Some(entry) => found.extend(entry.differences(row).map(|what| format!("{}: {what}", row.program))),
                None => found.push(format!("{}: {}, and the file does not name it", row.program, row.verdict.outcome)),
            }
        }
        for name in self.programs.keys().filter(|name| all && !rows.iter().any(|row| row.program == **name)) {
            found.push(format!("{name}: the suite has no such program"));
        }
        found
    }
}

impl Entry {
    fn parse(fields: Table) -> Result<Entry, String> {
        let (mut outcome, mut or, mut fault, mut reason) = (None, None, None, String::new());
        let (mut not_ok, mut says, mut sometimes) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("outcome", Value::String(word)) => outcome = Some(named(&word)?),
                ("or", Value::String(word)) => or = Some(named(&word)?),
                ("fault", Value::String(word)) if FAULTS.contains(&word.as_str()) => fault = Some(word),
                ("fault", value) => return Err(format!("no such fault: {value:?}; one of {FAULTS:?}")),
                ("reason", Value::String(text)) => reason = text,
                ("not_ok", Value::Array(lines)) => not_ok = strings(lines)?,
                ("says", Value::Array(lines)) => says = strings(lines)?,
                ("sometimes", Value::Array(lines)) => sometimes = strings(lines)?,
                (key, _) => return Err(format!("unknown key, or not its type: {key}")),
            }
        }
        let outcome = outcome.ok_or("outcome is missing")?;
        if outcome != Outcome::Pass && (fault.is_none() || reason.is_empty()) {
            return Err("what does not pass needs a fault and a reason".to_owned());
        }
        Ok(Entry { outcome, or, not_ok, says, sometimes, reason })
    }

    /// At most one difference: when the outcome is another one, the lines are too, and need no second mention.
    fn differences(&self, row: &Row) -> Option<String> {
        let verdict = &row.verdict;
        let by_chance = self.or == Some(verdict.outcome);
        if verdict.outcome != self.outcome && !by_chance {
            let expected = match self.reason.as_str() {
                "" => self.outcome.to_string(),
                reason => format!("{} ({reason})", self.outcome),
            };
            return Some(format!("{}, expected {expected}", verdict.outcome));
        }
        for (what, got, expected) in [("not ok", &verdict.not_ok, &self.not_ok), ("says", &verdict.says, &self.says)] {
            // The lists go with the first outcome.
            let expected: &[String] = if by_chance { &[] } else { expected };
            let known = |line: &&String| expected.contains(line) || self.sometimes.contains(line);
            let more: Vec<_> = got.iter().filter(|line| !known(line)).collect();
            let less: Vec<_> = expected.iter().filter(|line| !got.contains(line)).collect();
            if !more.is_empty() || !less.is_empty() {
                return Some(format!("{what}: new {more:?}, gone {less:?}"));
            }
        }
        None
    }
}

fn named(word: &str) -> Result<Outcome, String> {
    let named = Outcome::ALL.iter().find(|(_, name)| *name == word);
    named.map(|(outcome, _)| *outcome).ok_or_else(|| format!("no such outcome: {word}"))
}

fn strings(items: Vec<Value>) -> Result<Vec<String>, String> {
    let text = |item| match item {
        Value::String(text) => Ok(text),
        other => Err(format!("not a string: {other:?}")),
    };
    items.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Verdict;

    const FILE: &str = r#"
        [good]
        outcome = "pass"
        [bad]
        outcome = "fail"
        not_ok = ["a"]
        fault = "suite"
        reason = "Its own."
    "#;

    fn row(program: &str, outcome: Outcome, not_ok: &[&str]) -> Row {
        let not_ok = not_ok.iter().map(|line| (*line).to_owned()).collect();
        let verdict = Verdict { outcome, not_ok, says: Vec::new(), reason: String::new() };
        Row { program: program.to_owned(), verdict }
    }

    fn differences(rows: &[Row], all: bool) -> Result<Vec<String>, String> {
        Ok(Expected::parse(FILE)?.differences(rows, all))
    }

    #[test]
    fn as_expected_is_no_difference() -> Result<(), String> {
        let rows = [row("good", Outcome::Pass, &[]), row("bad", Outcome::Fail, &["a"])];
        assert_eq!(differences(&rows, true)?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn worse_and_better_are_both_differences() -> Result<(), String> {
        let rows = [row("good", Outcome::Fail, &["x"]), row("bad", Outcome::Pass, &[])];
        assert_eq!(differences(&rows, true)?, ["good: fail, expected pass", "bad: pass, expected fail (Its own.)"]);
        Ok(())
    }

    #[test]
    fn failing_in_other_lines_is_a_difference() -> Result<(), String> {
        let rows = [row("bad", Outcome::Fail, &["b"])];
        assert_eq!(differences(&rows, false)?, [r#"bad: not ok: new ["b"], gone ["a"]"#]);
        Ok(())
    }

    #[test]
    fn what_comes_by_chance_is_no_difference_either_way() -> Result<(), String> {
        let expected = Expected::parse("[race]\noutcome = \"pass\"\nor = \"fail\"\nsometimes = [\"late\"]\n")?;
        for (outcome, not_ok) in [(Outcome::Pass, &[][..]), (Outcome::Pass, &["late"]), (Outcome::Fail, &["late"])] {
            assert_eq!(expected.differences(&[row("race", outcome, not_ok)], true), Vec::<String>::new());
        }
        for (outcome, not_ok) in [(Outcome::Fail, &["x"][..]), (Outcome::Crash, &[])] {
            assert_eq!(expected.differences(&[row("race", outcome, not_ok)], true).len(), 1);
        }
        Ok(())
    }

    #[test]
    fn file_and_suite_must_name_the_same_programs() -> Result<(), String> {
        let rows = [row("good", Outcome::Pass, &[]), row("new", Outcome::Pass, &[])];
        assert_eq!(
            differences(&rows, true)?,
            ["new: pass, and the file does not name it", "bad: the suite has no such program"]
        );
        Ok(())
    }

    #[test]
    fn a_file_that_would_compare_nothing_is_refused() {
        for text in [
            "a = 1",
            "[a]\n",
            "[a]\noutcome = \"fail\"\n",
            "[a]\noutcome = \"good\"\n",
            "[a]\noutcome = \"pass\"\nnotok = []\n",
            "[a]\noutcome = \"pass\"\nfault = \"me\"\n",
        ] {
            assert!(Expected::parse(text).is_err(), "{text}");
        }
    }
}
