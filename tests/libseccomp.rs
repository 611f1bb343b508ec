//! The filter compiler against libseccomp: random profiles, both programs run on the same calls; then what runc adds.
//!
//! libseccomp is driven through Python (tests/syscalls/reference.py), so that nothing has to be linked. Build errors
//! are compared too. `ORLOP_FUZZ_PROFILES` sets how many profiles, `ORLOP_FUZZ_SEED` where to begin. A difference passes
//! only where one of libseccomp's faults explains it ([`Fault`]): of each call, not of the profile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use orlop::seccomp::compiler::compile;
use orlop::seccomp::{Abi, Unknown, sock_filter};
use serde_json::{Value, json};
use specconv::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

#[path = "syscalls/cbpf.rs"]
mod cbpf;

use cbpf::Data;

const ARCHITECTURES: [&str; 6] =
    ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64"];

/// Calls that differ in where they exist, and in how.
const NAMES: [&str; 24] = [
    "read",
    "write",
    "openat",
    "clone",
    "personality",
    "socket",
    "bind",
    "connect",
    "accept",
    "recvmmsg",
    "semop",
    "shmctl",
    "socketcall",
    "ipc",
    "mmap",
    "mmap2",
    "waitpid",
    "ioctl",
    "arch_prctl",
    "set_tls",
    "futex_waitv",
    "execveat",
    "rt_sigaction",
    "riscv_flush_icache",
];

const OPERATORS: [(&str, SeccompOperator); 7] = [
    ("SCMP_CMP_NE", SeccompOperator::NotEqual),
    ("SCMP_CMP_LT", SeccompOperator::Less),
    ("SCMP_CMP_LE", SeccompOperator::LessOrEqual),
    ("SCMP_CMP_EQ", SeccompOperator::Equal),
    ("SCMP_CMP_GE", SeccompOperator::GreaterOrEqual),
    ("SCMP_CMP_GT", SeccompOperator::Greater),
    ("SCMP_CMP_MASKED_EQ", SeccompOperator::MaskedEqual),
];

/// Profiles on which the two once differed, or still do, each for a reason that has a name below.
const DIFFERED: [u64; 51] = [
    5050911, 1023159, 5001523, 5005278, 2860, 1990551, 1003065, 1028882, 1031081, 1041007, 1049592, 1059438, 1094147,
    1139043, 1213824, 1247381, 1264836, 1283624, 1284392, 1292506, 1299201, 1349639, 1358602, 1362941, 1384265,
    1386516, 1388205, 1410065, 1441093, 1486277, 1493585, 1498692, 1514045, 1547627, 1562246, 1631434, 1631702,
    1643888, 1647282, 1653822, 1709426, 1725365, 1750161, 1786421, 1820566, 1836830, 1850325, 1858756, 1957281,
    1960855, 1974802,
];

const EEXIST: &str = "-17";

/// Why an answer of libseccomp is not the one to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It goes round in circles.
    Stuck,
    /// The call comes by a comparison of the wrong word: [`confused`].
    Confused,
    /// No rule that matches has this answer, nor has the default where none does.
    Unfounded,
    /// [`mistyped`].
    Mistyped,
    /// [`forgotten`].
    Forgotten,
    /// [`tied`].
    Tied,
}

/// What [`Reference::build`] says when libseccomp never comes back.
const STUCK: &str = "stuck";

/// xorshift64*: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, most: usize) -> usize {
        ((self.roll() >> 33) as usize) % most
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn value(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            1,
            2,
            3,
            5,
            7,
            0xf,
            0x10,
            0x11,
            0xff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
            0x7e02_0000,
            13,
        ];
        match self.below(8) {
            0..=4 => self.of(&EDGES),
            5 => self.of(&EDGES) | 1 << 32,
            6 => self.of(&EDGES) << 32 | self.of(&EDGES) & 0xffff_ffff,
            _ => u64::MAX - self.of(&[0, 1, 2]),
        }
    }

    fn action(&mut self, mixed: bool) -> SeccompAction {
        use SeccompAction::*;
        if mixed {
            self.of(&[Errno(1), Errno(2), Errno(3), Allow, Log, Trap, KillProcess])
        } else {
            self.of(&[Allow, Errno(7)])
        }
    }

    /// A profile; `mixed` lets the rules of one call have several actions.
    fn profile(&mut self) -> Seccomp {
        let mixed = self.one_in(2);
        let names: Vec<_> = (0..1 + self.below(3)).map(|_| self.of(&NAMES)).collect();
        let action = self.action(true);
        let syscalls = (0..1 + self.below(6))
            .map(|_| SeccompRule {
                names: vec![self.of(&names).to_owned()],
                action: if mixed { self.action(true) } else { action },
                args: self.conditions(),
            })
            .collect();
        let architectures = match self.below(6) {
            0 => vec![],
            1 => vec!["SCMP_ARCH_X86"],
            2 => vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            3 => vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            4 => vec!["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"],
            _ => vec!["SCMP_ARCH_RISCV64", "SCMP_ARCH_X32"],
        };
        Seccomp {
            default_action: self.action(mixed),
            architectures: architectures.into_iter().map(str::to_owned).collect(),
            flags: Some(Vec::new()),
            syscalls,
            listener_path: None,
            listener_metadata: None,
        }
    }

    fn conditions(&mut self) -> Vec<SeccompArg> {
        let count = self.of(&[0, 1, 1, 1, 1, 2, 2, 3]);
        (0..count)
            .map(|_| SeccompArg {
                index: self.of(&[0, 0, 0, 1, 1, 2, 5]),
                value: self.value(),
                value_two: self.value(),
                op: self.of(&OPERATORS).1,
            })
            .collect()
    }
}

fn code(action: SeccompAction) -> u32 {
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
struct Reference {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    hello: Value,
}

impl Reference {
    /// Needs python3 and libseccomp.so.2; `./test` installs them.
    fn start() -> Reference {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/syscalls/reference.py");
        let mut child =
            Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        writeln!(to, "{}", json!(orlop::seccomp::names().collect::<Vec<_>>())).unwrap();
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let hello = serde_json::from_str(&line).expect("libseccomp.so.2 is there");
        Reference { child, to, from, hello }
    }

    /// What runc would ask of libseccomp for this profile.
    fn build(&mut self, profile: &Seccomp) -> Result<Vec<sock_filter>, String> {
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
            for name in &rule.names {
                if apart {
                    rules.extend(rule.args.iter().map(|arg| json!([code(rule.action), name, [words(arg)]])));
                } else {
                    rules.push(json!([code(rule.action), name, rule.args.iter().map(words).collect::<Vec<_>>()]));
                }
            }
        }
        let mut architectures = profile.architectures.clone();
        if !architectures.iter().any(|name| name == "SCMP_ARCH_X86_64") {
            architectures.push("SCMP_ARCH_X86_64".into());
        }
        let asked = json!({"default": code(profile.default_action), "architectures": architectures, "rules": rules});
        writeln!(self.to, "{asked}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        let line = line.trim();
        if line.is_empty() {
            *self = Reference::start();
            return Err(STUCK.to_owned());
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

fn native() -> &'static Abi {
    Abi::named("SCMP_ARCH_X86_64").unwrap()
}

/// Calls on the borders of what the profile asks.
fn inputs(dice: &mut Dice, profile: &Seccomp) -> Vec<Data> {
    let mut values = vec![0, 1, u64::MAX, 1 << 32, 0xffff_ffff];
    let mut numbers = vec![0, 1, 511, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    for rule in &profile.syscalls {
        for arg in &rule.args {
            for value in [arg.value, arg.value_two, arg.value & arg.value_two, !arg.value] {
                values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), value & 0xffff_ffff]);
                values.extend([value.wrapping_add(1 << 32), value ^ 1 << 63, value | 1 << 32]);
            }
        }
        for name in &rule.names {
            for abi in ARCHITECTURES {
                if let Some(number) = Abi::named(abi).unwrap().number_of(name) {
                    numbers.extend([number, number, number, number, number + 1, number ^ 0x4000_0000]);
                }
            }
        }
    }
    numbers.extend([102, 117]);
    (0..200)
        .map(|_| Data {
            number: dice.of(&numbers),
            arch: if dice.one_in(20) { 0x1234 } else { Abi::named(dice.of(&ARCHITECTURES)).unwrap().audit() },
            args: std::array::from_fn(|_| if dice.one_in(6) { dice.below(22) as u64 } else { dice.of(&values) }),
        })
        .collect()
}

/// The comparisons that look at the wrong word: at different ones, depending on the way to it, or at the architecture
/// where a number is meant.
///
/// libseccomp 2.5 shares blocks of instructions that rely on what an earlier block has loaded, and now and then
/// reaches them from one that has loaded something else, or nothing: it then compares the low word of an argument with
/// what was asked of the high one, or a call's number with the architecture.
fn confused(program: &[sock_filter], architectures: &[u32]) -> Vec<usize> {
    type Word = (u32, u32);
    let mut before: Vec<Vec<Word>> = vec![Vec::new(); program.len()];
    let mut confused = Vec::new();
    for (at, instruction) in program.iter().enumerate() {
        let sock_filter { code, jt, jf, k } = *instruction;
        let words = before[at].clone();
        if matches!(code, 0x15 | 0x25 | 0x35 | 0x45)
            && (words.len() > 1 || words[0].0 == 4 && !architectures.contains(&k))
        {
            confused.push(at);
        }
        let (next, words) = match code {
            0x20 => (vec![at + 1], vec![(k, u32::MAX)]),
            0x54 => (vec![at + 1], words.iter().map(|(offset, mask)| (*offset, mask & k)).collect()),
            0x05 => (vec![at + 1 + k as usize], words),
            0x06 => (vec![], words),
            _ => (vec![at + 1 + usize::from(jt), at + 1 + usize::from(jf)], words),
        };
        for next in next {
            for word in &words {
                if !before[next].contains(word) {
                    before[next].push(*word);
                }
            }
        }
    }
    confused
}

/// A rule as libseccomp gets it: conditions that hold together.
struct Rule<'a> {
    /// Where it stands among them.
    at: usize,
    name: &'a str,
    action: u32,
    conditions: Vec<SeccompArg>,
}

/// The rules of a profile in their order, those apart that a condition asked twice of one argument takes apart.
fn rules(profile: &Seccomp) -> Vec<Rule<'_>> {
    let mut rules = Vec::new();
    for SeccompRule { names, action, args } in
        profile.syscalls.iter().filter(|rule| rule.action != profile.default_action)
    {
        let twice = args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|other| other.index == arg.index));
        let together = if twice { 1 } else { args.len().max(1) };
        for conditions in args.chunks(together).chain(args.is_empty().then_some(&[][..])) {
            let mut conditions = conditions.to_vec();
            conditions.sort_by_key(|condition| condition.index);
            rules.push(Rule { at: rules.len(), name: &names[0], action: code(*action), conditions });
        }
    }
    rules
}

/// The rules that match a call, in their order, each with whether its arguments have 64 bits.
fn matching<'a>(profile: &'a Seccomp, data: &Data) -> Vec<(bool, Rule<'a>)> {
    let listed = |name: &str| name == "SCMP_ARCH_X86_64" || profile.architectures.iter().any(|known| known == name);
    let mut matching = Vec::new();
    for name in ARCHITECTURES.into_iter().filter(|name| listed(name)) {
        let abi = Abi::named(name).unwrap();
        let wide = matches!(name, "SCMP_ARCH_X86_64" | "SCMP_ARCH_AARCH64" | "SCMP_ARCH_RISCV64");
        let here = |rule: &Rule<'_>| abi.audit() == data.arch && abi.number_of(rule.name) == Some(data.number);
        let all = |rule: &Rule<'_>| rule.conditions.iter().all(|arg| holds(arg, data, wide));
        matching.extend(rules(profile).into_iter().filter(|rule| here(rule) && all(rule)).map(|rule| (wide, rule)));
    }
    matching
}

/// Whether an answer comes from a rule that matches, or from the default where none does.
fn explains(profile: &Seccomp, data: &Data, answer: u32) -> bool {
    // Multiplexed calls are another story.
    if data.arch == Abi::named("SCMP_ARCH_X86").unwrap().audit() && matches!(data.number, 102 | 117) {
        return true;
    }
    let matching = matching(profile, data);
    if matching.is_empty() {
        matches!(answer, 0) || answer == code(profile.default_action)
    } else {
        matching.iter().any(|(_, rule)| rule.action == answer)
    }
}

/// Whether both answers are those of rules with several conditions that match alike. libseccomp lets rules share parts
/// of its tree, and what is added to one then reaches the other: of such two, sometimes the other one wins there.
fn tied(profile: &Seccomp, data: &Data, mine: u32, reference: u32) -> bool {
    let matching = matching(profile, data);
    let several = |answer| matching.iter().any(|(_, rule)| rule.action == answer && rule.conditions.len() > 1);
    several(mine) && several(reference)
}

/// Whether the answers are those of two rules that ask for less than two values of one high word, the later one for
/// the smaller, and the argument's high word is below it.
///
/// In such a place the narrower rule is to have the answer. libseccomp writes it to the wrong member (`_db_tree_add`
/// in its db.c, put right on 2026-06-22 by commit 5404f5c2a6bf, in no release yet): the earlier rule keeps it.
fn mistyped(profile: &Seccomp, data: &Data, mine: u32, reference: u32) -> bool {
    let matching = matching(profile, data);
    let less = |rule: &Rule<'_>| {
        let real = rule.conditions.iter().rfind(|asked| asked.op != SeccompOperator::MaskedEqual || asked.value != 0);
        real.copied().filter(|asked| matches!(asked.op, SeccompOperator::Less | SeccompOperator::LessOrEqual))
    };
    matching.iter().enumerate().any(|(at, (wide, earlier))| {
        matching[at + 1..].iter().any(|(_, later)| {
            let (Some(a), Some(b)) = (less(earlier), less(later)) else { return false };
            let high = |value: u64| value >> 32;
            (earlier.action, later.action) == (reference, mine)
                && *wide
                && a.index == b.index
                && high(a.value) == high(b.value)
                && b.value < a.value
                && high(data.args[a.index as usize]) < high(a.value)
        })
    })
}

/// Whether libseccomp has forgotten the rule that answers, one of several conditions: not the first of them is the
/// opposite of what a rule before it asks, or one asks for more than a value, and a rule before it for more than a
/// larger one of the same high word, with the argument between them.
///
/// Of two words, `_db_tree_add` is done where the known rule decides larger high words, and leaves out what the new one
/// asks of the same high word. Where an argument is one word, two opposites are one comparison in libseccomp's tree, and `_db_tree_prune` takes the new
/// rule for one that the known one makes redundant before it sees that they want different answers of it.
fn forgotten(profile: &Seccomp, data: &Data, mine: u32) -> bool {
    let opposite = |a: &SeccompArg, b: &SeccompArg| {
        use SeccompOperator::*;
        let pair = [(Equal, NotEqual), (Less, GreaterOrEqual), (LessOrEqual, Greater)];
        a.index == b.index
            && a.value as u32 == b.value as u32
            && pair.iter().any(|(x, y)| (a.op == *x && b.op == *y) || (a.op == *y && b.op == *x))
    };
    let rest = |known: &SeccompArg, new: &SeccompArg| {
        let more = |asked: &SeccompArg| matches!(asked.op, SeccompOperator::Greater | SeccompOperator::GreaterOrEqual);
        more(known)
            && more(new)
            && known.index == new.index
            && known.value >> 32 == new.value >> 32
            && known.value >= new.value
            && !holds(known, data, true)
    };
    let rules = rules(profile);
    matching(profile, data).iter().any(|(wide, answers)| {
        let mut before = rules.iter().take(answers.at).filter(|rule| rule.name == answers.name);
        let new = answers.conditions.iter().enumerate();
        let several = answers.conditions.len() > 1 && answers.action == mine;
        several
            && before.any(|rule| {
                new.clone().any(|(at, new)| {
                    let same = |known: &SeccompArg| !wide && at > 0 && opposite(known, new);
                    rule.conditions.iter().any(same)
                        || *wide && rule.conditions.last().is_some_and(|known| rest(known, new))
                })
            })
    })
}

fn holds(arg: &SeccompArg, data: &Data, wide: bool) -> bool {
    let most = if wide { u64::MAX } else { 0xffff_ffff };
    let (is, value) = (data.args[arg.index as usize] & most, arg.value & most);
    match arg.op {
        SeccompOperator::NotEqual => is != value,
        SeccompOperator::Less => is < value,
        SeccompOperator::LessOrEqual => is <= value,
        SeccompOperator::Equal => is == value,
        SeccompOperator::GreaterOrEqual => is >= value,
        SeccompOperator::Greater => is > value,
        SeccompOperator::MaskedEqual => is & value == arg.value_two & value,
    }
}

fn told(profile: &Seccomp) -> String {
    let mut told = format!("  default {:?}, {:?}\n", profile.default_action, profile.architectures);
    for SeccompRule { names, action, args } in &profile.syscalls {
        let args: Vec<_> = args
            .iter()
            .map(|arg| format!("a{} {:?} {:#x}/{:#x}", arg.index, arg.op, arg.value, arg.value_two))
            .collect();
        told += &format!("  {}: {args:?} -> {action:?}\n", names.join(" "));
    }
    told
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// Which fault of libseccomp it is that the two answer a call differently.
fn fault(profile: &Seccomp, theirs: &[sock_filter], data: &Data, mine: u32, reference: u32) -> Option<Fault> {
    let confused = confused(theirs, &ARCHITECTURES.map(|name| Abi::named(name).unwrap().audit()));
    let mut passes = false;
    cbpf::walk(theirs, data, |at| passes |= confused.contains(&at));
    let faults = [
        (Fault::Unfounded, !explains(profile, data, reference)),
        (Fault::Confused, passes),
        (Fault::Mistyped, mistyped(profile, data, mine, reference)),
        (Fault::Forgotten, forgotten(profile, data, mine)),
        (Fault::Tied, tied(profile, data, mine, reference)),
    ];
    faults.into_iter().find(|(_, is)| *is).map(|(fault, _)| fault)
}

/// Whatever we answer is the action of a rule that matches, or the default where none does. Where libseccomp answers
/// otherwise, it is by one of its faults.
#[test]
fn libseccomp_decides_the_same() {
    let mut reference = Reference::start();
    let (profiles, seed) = (setting("ORLOP_FUZZ_PROFILES", 500), setting("ORLOP_FUZZ_SEED", 1));
    let (mut calls, mut errors, mut different) = (0u64, 0u64, 0u64);
    let mut faults = BTreeMap::<Fault, u64>::new();
    for seed in DIFFERED.into_iter().chain(seed..seed + profiles) {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let profile = dice.profile();
        let ours = compile(&profile, native(), Unknown::Default);
        let theirs = reference.build(&profile);
        let report = |what: String| eprintln!("seed {seed}: {what}\n{}", told(&profile));
        let mut found = BTreeSet::new();
        match (&ours, &theirs) {
            (_, Err(code)) if code == STUCK => {
                found.insert(Fault::Stuck);
                report("libseccomp does not come back".to_owned());
            }
            (Err(error), Err(code)) => {
                assert!(error.to_string().contains("EEXIST") && code == EEXIST, "{error}: {code}");
                errors += 1;
            }
            (Ok(ours), Ok(theirs)) => {
                for data in inputs(&mut dice, &profile) {
                    calls += 1;
                    let (mine, reference) = (cbpf::run(ours, &data).0, cbpf::run(theirs, &data).0);
                    let founded = explains(&profile, &data, mine);
                    if founded && mine == reference {
                        continue;
                    }
                    let fault = fault(&profile, theirs, &data, mine, reference).filter(|_| founded);
                    if fault.is_none_or(|fault| fault == Fault::Tied && found.insert(fault)) {
                        report(format!("{fault:?} {data:x?}: {mine:#x}, libseccomp {reference:#x}"));
                    }
                    let Some(fault) = fault else {
                        different += 1;
                        break;
                    };
                    found.insert(fault);
                }
            }
            (ours, theirs) => {
                different += 1;
                report(format!("{:?}, libseccomp {:?}", ours.as_ref().err(), theirs.as_ref().err()));
            }
        }
        for fault in found {
            *faults.entry(fault).or_default() += 1;
        }
    }
    eprintln!(
        "libseccomp {}: {profiles} profiles from seed {seed} and {}, {calls} calls, {errors} contradictions, \
         profiles that libseccomp gets wrong: {faults:?}, {different} different",
        reference.hello["version"],
        DIFFERED.len()
    );
    assert_eq!(different, 0);
    let ties = faults.get(&Fault::Tied).copied().unwrap_or_default();
    assert!(ties <= 1 + profiles.div_ceil(2000), "{ties}");
}

/// The second rule is not for nothing where the first one decides part of it, nor where the first asks the opposite:
/// libseccomp forgets the rest of the one, and all of the other.
#[test]
fn no_rule_is_forgotten() {
    let asked = |index, op, value| SeccompArg { index, value, value_two: 0, op };
    let rule = |action, args| SeccompRule { names: vec!["mmap".into()], action, args };
    let (more, less) = (SeccompOperator::GreaterOrEqual, SeccompOperator::Less);
    let mut profile = allowing(&[], &["SCMP_ARCH_X86"]);
    profile.default_action = SeccompAction::Allow;
    profile.syscalls = vec![
        rule(SeccompAction::Errno(1), vec![asked(0, more, 17)]),
        rule(SeccompAction::KillThread, vec![asked(0, more, 7), asked(1, less, 5)]),
    ];
    for (first, answer) in [(6, ALLOW), (7, KILL), (16, KILL), (17, EPERM), (1 << 32, EPERM)] {
        assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", 9, [first, 4, 0, 0, 0, 0]), answer, "{first}");
    }
    profile.syscalls = vec![
        rule(SeccompAction::Errno(1), vec![asked(5, less, 1)]),
        rule(SeccompAction::KillThread, vec![asked(0, more, 7), asked(5, more, 1)]),
    ];
    for (first, last, answer) in [(7, 0, EPERM), (7, 1, KILL), (6, 1, ALLOW)] {
        assert_eq!(decide(&profile, "SCMP_ARCH_X86", 90, [first, 0, 0, 0, 0, last]), answer, "{first} {last}");
    }
}

/// As libseccomp means it since commit 5404f5c2a6bf.
#[test]
fn of_two_bounds_the_closer_one_has_what_is_below() {
    let below = |value, action| SeccompRule {
        names: vec!["mmap".into()],
        action,
        args: vec![SeccompArg { index: 0, value, value_two: 0, op: SeccompOperator::Less }],
    };
    let mut profile = allowing(&[], &[]);
    profile.default_action = SeccompAction::Allow;
    let (far, close) = (below((1 << 32) + 9, SeccompAction::Errno(1)), below((1 << 32) + 5, SeccompAction::KillThread));
    for rules in [vec![far.clone(), close.clone()], vec![close, far]] {
        profile.syscalls = rules;
        for (value, answer) in [(0, KILL), (1 << 32, KILL), ((1 << 32) + 5, EPERM), ((1 << 32) + 9, ALLOW)] {
            assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", 9, [value, 0, 0, 0, 0, 0]), answer, "{value:#x}");
        }
    }
}

#[test]
fn libseccomp_has_the_same_numbers() {
    let reference = Reference::start();
    let mut compared = 0;
    for (arch, numbers) in reference.hello["numbers"].as_object().unwrap() {
        let abi = Abi::named(arch).unwrap();
        for (name, number) in numbers.as_object().unwrap() {
            let Ok(number) = u32::try_from(number.as_i64().unwrap()) else { continue };
            assert_eq!(abi.number_of(name), Some(number), "{arch} {name}");
            compared += 1;
        }
    }
    assert!(compared > 1500, "{compared}");
}

/// Runs a profile of these rules, with runc's stub, on a call.
fn decide(profile: &Seccomp, arch: &str, number: u32, args: [u64; 6]) -> u32 {
    let program = compile(profile, native(), Unknown::Enosys).unwrap();
    cbpf::run(&program, &Data { number, arch: Abi::named(arch).unwrap().audit(), args }).0
}

fn allowing(names: &[&str], architectures: &[&str]) -> Seccomp {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Seccomp {
        default_action: SeccompAction::Errno(1),
        architectures: own(architectures),
        flags: None,
        syscalls: vec![SeccompRule { names: own(names), action: SeccompAction::Allow, args: Vec::new() }],
        listener_path: None,
        listener_metadata: None,
    }
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0;
const NONE: [u64; 6] = [0; 6];

#[test]
fn what_the_profile_cannot_know_is_not_there() {
    let profile = allowing(&["read", "mount", "no_such_call"], &["SCMP_ARCH_X86"]);
    for (number, answer) in [(0, ALLOW), (1, EPERM), (165, ALLOW), (166, ENOSYS), (0x3fff_ffff, ENOSYS)] {
        assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", number, NONE), answer, "{number}");
    }
    // The numbers of x32 are of no known architecture; -1 is a tracer's.
    for (number, answer) in [(0x4000_0000, KILL), (0x8000_0000, ENOSYS), (0xc000_0000, KILL), (u32::MAX, EPERM)] {
        assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", number, NONE), answer, "{number:#x}");
    }
    for (number, answer) in [(3, ALLOW), (4, EPERM), (21, ALLOW), (22, ENOSYS), (u32::MAX, ENOSYS)] {
        assert_eq!(decide(&profile, "SCMP_ARCH_X86", number, NONE), answer, "{number}");
    }
    assert_eq!(decide(&profile, "SCMP_ARCH_AARCH64", 63, NONE), KILL, "not asked for");
}

#[test]
fn x32_has_its_own_largest_call() {
    let profile = allowing(&["read", "mount", "ioctl"], &["SCMP_ARCH_X32"]);
    let answers = [
        (0x4000_0000, ALLOW),
        (0x4000_0000 + 165, ALLOW),
        (0x4000_0000 + 16, EPERM),
        (0x4000_0000 + 514, ALLOW),
        (0x4000_0000 + 515, ENOSYS),
        (0x7fff_ffff, ENOSYS),
        (u32::MAX, ENOSYS),
        (166, ENOSYS),
    ];
    for (number, answer) in answers {
        assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", number, NONE), answer, "{number:#x}");
    }
}

#[test]
fn what_lets_pass_has_no_stub() {
    for action in [SeccompAction::Allow, SeccompAction::Log, SeccompAction::Trace(1)] {
        let mut profile = allowing(&[], &[]);
        profile.default_action = action;
        profile.syscalls[0] =
            SeccompRule { names: vec!["mount".into()], action: SeccompAction::Errno(1), args: vec![] };
        assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", 5000, NONE), code(action));
        assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", 165, NONE), EPERM);
    }
}

#[test]
fn sockets_of_32_bit_programs_come_through_one_call() {
    let mut profile = allowing(&["socket"], &["SCMP_ARCH_X86"]);
    profile.syscalls[0].args = vec![SeccompArg { index: 0, value: 2, value_two: 0, op: SeccompOperator::Equal }];
    let socket = |family| [family, 0, 0, 0, 0, 0];
    assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", 41, socket(2)), ALLOW);
    assert_eq!(decide(&profile, "SCMP_ARCH_X86_64", 41, socket(16)), EPERM);
    assert_eq!(decide(&profile, "SCMP_ARCH_X86", 359, socket(2)), ALLOW);
    // socketcall(SYS_SOCKET, pointer): for every family.
    assert_eq!(decide(&profile, "SCMP_ARCH_X86", 102, socket(1)), ALLOW);
    assert_eq!(decide(&profile, "SCMP_ARCH_X86", 102, socket(2)), EPERM);
}

#[test]
fn the_names_of_todays_profiles_are_known() {
    let known: std::collections::BTreeSet<_> = orlop::seccomp::names().collect();
    let lists = [include_str!("syscalls/named-by-docker.txt"), include_str!("syscalls/named-by-podman.txt")];
    for name in lists.iter().flat_map(|list| list.split_whitespace()) {
        assert!(known.contains(name), "{name}");
    }
}
