//! From what a program printed to a verdict.
//!
//! The programs print TAP 13, with three habits of their own:
//!
//! - A program may print two documents, one after the other. Each has its own plan.
//! - The hook programs never print `not ok`. What they find wrong stands in a diagnostic block, and the plan is `1..0`:
//!   whatever the runtime does, they pass. Such findings are kept as [`Verdict::says`], so that they can be compared
//!   all the same.
//! - The two programs that want `create` to fail print nothing when it does, and exit 0. So silence is a pass.

use crate::program::{Ending, Run};
use serde_json::Value;
use std::fmt;

/// How a program came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Whole: every line ok, the plan kept, exit status 0.
    Pass,
    /// Something was found wrong.
    Fail,
    /// It ran out of time.
    Timeout,
    /// The program itself broke down: a signal, or a Go panic.
    Crash,
}

impl Outcome {
    /// All of them, with their names in `expected.toml` and in the table.
    pub const ALL: [(Outcome, &str); 4] =
        [(Outcome::Pass, "pass"), (Outcome::Fail, "fail"), (Outcome::Timeout, "timeout"), (Outcome::Crash, "crash")];
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Outcome::ALL.iter().find(|(outcome, _)| outcome == self).map_or("?", |(_, name)| name))
    }
}

/// A program's outcome, and why.
#[derive(Debug)]
pub struct Verdict {
    /// How it came out.
    pub outcome: Outcome,
    /// The descriptions of the lines that are not ok, each once.
    pub not_ok: Vec<String>,
    /// What it complains of without failing.
    pub says: Vec<String>,
    /// One line for a person.
    pub reason: String,
}

/// Judges a run.
pub fn judge(run: &Run) -> Verdict {
    let tap = Tap::read(&run.stdout);
    let said = telling_line(&run.stderr);
    let (outcome, reason) = match run.ending {
        Ending::TimedOut(after) => (Outcome::Timeout, format!("killed after {} seconds", after.as_secs())),
        Ending::Signaled(signal) => (Outcome::Crash, format!("killed by signal {signal}")),
        Ending::Exited(status) => match panic_line(&run.stderr) {
            Some(panic) if status != 0 => (Outcome::Crash, panic.to_owned()),
            _ => tap.outcome(status, said),
        },
    };
    Verdict { outcome, reason: one_line(&reason), not_ok: tap.not_ok, says: tap.says }
}

/// What the TAP says, gathered over all documents.
#[derive(Debug, Default)]
struct Tap {
    not_ok: Vec<String>,
    says: Vec<String>,
    /// The first thing wrong with the plan, or a bail-out.
    broken: Option<String>,
    /// What stands below the first line that is not ok.
    first_detail: Option<String>,
    anything: bool,
}

/// One document while it is read.
#[derive(Default)]
struct Document {
    open: bool,
    tests: usize,
    plan: Option<usize>,
    complaints: Vec<String>,
}

impl Tap {
    fn read(stdout: &str) -> Tap {
        let mut tap = Tap::default();
        let mut document = Document::default();
        // The line below which we are: does a diagnostic here belong to a failure?
        let mut under_first_failure = false;
        let mut lines = stdout.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("TAP version") {
                tap.close(std::mem::take(&mut document));
                document.open = true;
            } else if let Some(plan) = line.strip_prefix("1..") {
                document.open = true;
                document.plan = plan.split_whitespace().next().and_then(|n| n.parse().ok());
            } else if let Some(test) = Test::read(line) {
                document.open = true;
                document.tests += 1;
                under_first_failure = !test.fine && tap.not_ok.is_empty();
                if !test.fine && !tap.not_ok.contains(&test.description) {
                    tap.not_ok.push(test.description);
                }
            } else if let Some(why) = line.strip_prefix("Bail out!") {
                document.open = true;
                tap.broken.get_or_insert_with(|| format!("bailed out:{why}"));
            } else if let Some(comment) = line.strip_prefix("# ") {
                if under_first_failure {
                    tap.first_detail.get_or_insert_with(|| comment.to_owned());
                }
            } else if line == "  ---" {
                let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "  ...").collect();
                if let Some(complaint) = complaint(&block.join("\n")) {
                    if under_first_failure {
                        tap.first_detail.get_or_insert_with(|| complaint.clone());
                    }
                    document.complaints.push(first_line(&complaint));
                }
            }
        }
        tap.close(document);
        tap
    }

    fn close(&mut self, document: Document) {
        if !document.open {
            return;
        }
        self.anything = true;
        match document.plan {
            Some(plan) if plan == document.tests => {}
            Some(plan) => {
                self.broken.get_or_insert_with(|| format!("planned {plan} lines, printed {}", document.tests));
            }
            None => {
                self.broken.get_or_insert_with(|| "printed no plan".to_owned());
            }
        }
        // In a document with results a diagnostic only explains them. In one without, it is all there is.
        if document.tests == 0 {
            self.says.extend(document.complaints);
        }
    }

    fn outcome(&self, status: i32, said: Option<&str>) -> (Outcome, String) {
        if let Some(first) = self.not_ok.first() {
            let detail = self.first_detail.as_deref().or(said).filter(|detail| detail != first);
            return (Outcome::Fail, detail.map_or_else(|| first.clone(), |detail| format!("{first}: {detail}")));
        }
        if status != 0 {
            return (Outcome::Fail, said.map_or_else(|| format!("exit status {status}"), str::to_owned));
        }
        if let Some(broken) = &self.broken {
            return (Outcome::Fail, broken.clone());
        }
        let remark = match self.says.first() {
            Some(says) => format!("no results, but it says: {says}"),
            None if !self.anything => "silent, as it should be".to_owned(),
            None => String::new(),
        };
        (Outcome::Pass, remark)
    }
}

/// One `ok` or `not ok` line.
struct Test {
    fine: bool,
    description: String,
}

impl Test {
    fn read(line: &str) -> Option<Test> {
        let (ok, rest) = match line.strip_prefix("not ok") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("ok")?),
        };
        if !rest.is_empty() && !rest.starts_with(' ') {
            return None;
        }
        let rest = rest.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        // Only a directive right after the number: the suite's library writes it there, and a description may hold
        // a `#` of its own.
        let excused = rest.strip_prefix("# ").is_some_and(|d| {
            let word = d.split_whitespace().next().unwrap_or_default();
            word.eq_ignore_ascii_case("todo") || word.eq_ignore_ascii_case("skip")
        });
        let description = rest.strip_prefix("- ").unwrap_or(rest).trim().to_owned();
        Some(Test { fine: ok || excused, description })
    }
}

/// The diagnostic blocks are JSON. The runtime's words are worth more than the exit status that came with them.
fn complaint(block: &str) -> Option<String> {
    let value: Value = serde_json::from_str(block).ok()?;
    let text = |key| value.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    if let Some(said) = text("stderr").or_else(|| text("error")) {
        return Some(message(said).to_owned());
    }
    let (expected, actual) = (value.get("expected")?, value.get("actual")?);
    Some(format!("expected {expected}, got {actual}"))
}

/// The first line of the program's stderr that is the runtime's and not the suite's own framing.
fn telling_line(stderr: &str) -> Option<&str> {
    let framing = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("failed to ") && !line.starts_with("exit status ")
    };
    stderr.lines().find(framing).map(|line| message(line.trim()))
}

/// runc logs `time=... level=... msg="..."`. Only the message tells two runs apart.
fn message(line: &str) -> &str {
    match line.split_once(" msg=") {
        Some((head, message)) if head.starts_with("time=") => message.trim_matches('"'),
        _ => line,
    }
}

fn panic_line(stderr: &str) -> Option<&str> {
    stderr.lines().find(|line| line.starts_with("panic: ") || line.starts_with("fatal error: "))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn judged(status: i32, stdout: &str, stderr: &str) -> Verdict {
        judge(&Run { ending: Ending::Exited(status), stdout: stdout.to_owned(), stderr: stderr.to_owned() })
    }

    #[test]
    fn a_whole_document_passes() {
        let verdict = judged(0, "TAP version 13\nok 1 - a\nok 2 # SKIP b\nnot ok 3 # TODO c\n1..3\n", "");
        assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Pass, ""));
    }

    #[test]
    fn a_line_that_is_not_ok_fails_with_what_stands_below_it() {
        let verdict = judged(
            0,
            "TAP version 13\nok 1 - a\n  ---\n  {\n \"error\": \"not this\"\n }\n  ...\nnot ok 2 - b\n  ---\n  {\n  \
             \"error\": \"exit status 1\",\n \"stderr\": \"no such\\nthing\"\n  }\n  ...\nnot ok 3 - b\n1..3\n",
            "",
        );
        assert_eq!(verdict.outcome, Outcome::Fail);
        assert_eq!(verdict.not_ok, ["b"]);
        assert_eq!(verdict.reason, "b: no such thing");
    }

    #[test]
    fn a_comment_explains_too() {
        let verdict = judged(0, "TAP version 13\nnot ok 1 - limit\n# expect: 1, actual: 2\n1..1\n", "");
        assert_eq!(verdict.reason, "limit: expect: 1, actual: 2");
    }

    #[test]
    fn the_exit_status_counts_whatever_the_lines_say() {
        let verdict = judged(1, "TAP version 13\n1..0\n", "failed to create the container\nno disk\nexit status 1\n");
        assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Fail, "no disk"));
    }

    #[test]
    fn each_document_keeps_its_own_plan() {
        let two = "TAP version 13\nok 1 - a\n1..1\nTAP version 13\n1..0\n";
        assert_eq!(judged(0, two, "").outcome, Outcome::Pass);
        let short = judged(0, "TAP version 13\nok 1 - a\n1..2\nTAP version 13\n1..0\n", "");
        assert_eq!((short.outcome, short.reason.as_str()), (Outcome::Fail, "planned 2 lines, printed 1"));
        assert_eq!(judged(0, "TAP version 13\nok 1 - a\n", "").reason, "printed no plan");
    }

    #[test]
    fn a_hook_program_passes_but_its_complaint_is_kept() {
        let verdict =
            judged(0, "TAP version 13\n  ---\n  {\n    \"error\": \"too early\\nRefer to: x\"\n  }\n  ...\n1..0\n", "");
        assert_eq!(verdict.outcome, Outcome::Pass);
        assert_eq!(verdict.says, ["too early"]);
    }

    #[test]
    fn of_a_log_line_the_message_is_kept() {
        let verdict = judged(1, "", "failed to create the container\ntime=\"12:00\" level=error msg=\"no disk\"\n");
        assert_eq!(verdict.reason, "no disk");
    }

    #[test]
    fn silence_passes() {
        let verdict = judged(0, "", "failed to create the container\nwrong rlimit value: RLIMIT_TEST\n");
        assert_eq!(verdict.outcome, Outcome::Pass);
    }

    #[test]
    fn a_breakdown_of_the_program_is_told_from_a_finding() {
        let verdict = judged(2, "TAP version 13\n", "panic: index out of range\n\ngoroutine 1 [running]:\n");
        assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Crash, "panic: index out of range"));
        let ending = Ending::TimedOut(Duration::from_secs(7));
        let verdict = judge(&Run { ending, stdout: String::new(), stderr: String::new() });
        assert_eq!((verdict.outcome, verdict.reason.as_str()), (Outcome::Timeout, "killed after 7 seconds"));
    }
}
