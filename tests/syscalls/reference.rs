//! libseccomp as the reference: driven through Python (`reference.py`), so that nothing has to be linked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use orlop::seccomp::sock_filter;
use serde_json::{Value, json};
use specconv::{Seccomp, SeccompAction, SeccompArg, SeccompOperator};

pub const OPERATORS: [(&str, SeccompOperator); 7] = [
    ("SCMP_CMP_NE", SeccompOperator::NotEqual),
    ("SCMP_CMP_LT", SeccompOperator::Less),
    ("SCMP_CMP_LE", SeccompOperator::LessOrEqual),
    ("SCMP_CMP_EQ", SeccompOperator::Equal),
    ("SCMP_CMP_GE", SeccompOperator::GreaterOrEqual),
    ("SCMP_CMP_GT", SeccompOperator::Greater),
    ("SCMP_CMP_MASKED_EQ", SeccompOperator::MaskedEqual),
];

/// What [`Reference::answer`] says when libseccomp never comes back.
pub const STUCK: &str = "stuck";

/// What it says when libseccomp dies of it.
pub const CRASHED: &str = "crashed";

/// The value that a filter returns for an action.
pub fn code(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 | u32::from(errno),
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace(message) => 0x7ff0_0000 | u32::from(message),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    }
}

/// libseccomp, in a process of its own.
pub struct Reference {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// Its version, and its numbers of all names that we know.
    pub hello: Value,
    /// What was asked and not yet answered.
    asked: VecDeque<String>,
}

impl Reference {
    /// Needs python3 and libseccomp.so.2; `./test` installs them.
    pub fn start() -> Reference {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/syscalls/reference.py");
        let mut child =
            Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        writeln!(to, "{}", json!(orlop::seccomp::names().collect::<Vec<_>>())).unwrap();
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let hello = serde_json::from_str(&line).expect("libseccomp.so.2 is there");
        Reference { child, to, from, hello, asked: VecDeque::new() }
    }

    /// Asks for what runc would ask of libseccomp for this profile, as a list of comparisons or as a tree (what runc
    /// takes for long profiles); [`Reference::answer`] has the answer.
    pub fn ask(&mut self, profile: &Seccomp, native: &str, tree: bool) {
        let mut rules = Vec::new();
        for rule in &profile.syscalls {
            if rule.action == profile.default_action {
                continue;
            }
            let words = |arg: &SeccompArg| {
                let op = OPERATORS.iter().find(|(_, op)| *op == arg.op).unwrap().0;
                json!([arg.index, op, arg.value, arg.value_two])
            };
            let mut counts = [0; 6];
            rule.args.iter().for_each(|arg| counts[arg.index as usize] += 1);
            let apart = counts.iter().any(|count| *count > 1);
            // runc leaves out what libseccomp does not know.
            for name in rule.names.iter().filter(|name| self.hello["numbers"]["SCMP_ARCH_X86_64"][name] != json!(-1)) {
                if apart {
                    rules.extend(rule.args.iter().map(|arg| json!([code(rule.action), name, [words(arg)]])));
                } else {
                    rules.push(json!([code(rule.action), name, rule.args.iter().map(words).collect::<Vec<_>>()]));
                }
            }
        }
        let mut architectures = profile.architectures.clone();
        if !architectures.iter().any(|name| name == native) {
            architectures.push(native.into());
        }
        let asked = json!({"default": code(profile.default_action), "architectures": architectures, "rules": rules, "tree": tree});
        writeln!(self.to, "{asked}").unwrap();
        self.asked.push_back(asked.to_string());
    }

    /// The program for the profile asked for first of those that have no answer yet, or why there is none.
    pub fn answer(&mut self) -> Result<Vec<sock_filter>, String> {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let line = line.trim();
        self.asked.pop_front();
        if line.is_empty() {
            let ended = self.child.wait().unwrap().signal();
            let asked = std::mem::take(&mut self.asked);
            *self = Reference::start();
            asked.iter().for_each(|asked| writeln!(self.to, "{asked}").unwrap());
            self.asked = asked;
            return Err(if ended == Some(libc::SIGPROF) { STUCK } else { CRASHED }.to_owned());
        }
        if line.starts_with('-') {
            return Err(line.to_owned());
        }
        let bytes: Vec<u8> =
            (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap()).collect();
        Ok(bytes
            .chunks_exact(8)
            .map(|b| sock_filter {
                code: u16::from_le_bytes([b[0], b[1]]),
                jt: b[2],
                jf: b[3],
                k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
            })
            .collect())
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Docker's profile for these architectures.
pub fn docker(architectures: &[&str]) -> specconv::Seccomp {
    let mut profile = crate::docker::docker();
    profile["architectures"] = json!(architectures);
    let config = json!({"ociVersion": "1.0.2", "root": {"path": "r"}, "linux": {"seccomp": profile}});
    specconv::convert(config.to_string().as_bytes()).unwrap().config.seccomp.unwrap()
}
