//! The filter compiler against libseccomp: random profiles, both programs run on the same calls; then what runc adds.
//!
//! Build errors are compared too. `ORLOP_FUZZ_PROFILES` sets how many profiles, `ORLOP_FUZZ_SEED` where to begin; for
//! many it is worth to build with optimisation.
//!
//! Every answer of ours is also compared with that of a second implementation ([`database`]), made after libseccomp's
//! source and without its faults. Where libseccomp answers otherwise, the same implementation with its faults, each of
//! which has a name, must say that it does; or else what its `gen_bpf.c` is known to do wrong ([`confused`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orlop::seccomp::compiler::compile;
use orlop::seccomp::{Abi, Unknown, sock_filter};
use specconv::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

#[path = "syscalls/cbpf.rs"]
mod cbpf;
#[path = "syscalls/database.rs"]
mod database;
#[path = "syscalls/dice.rs"]
mod dice;
#[path = "syscalls/docker.rs"]
mod docker;
#[path = "syscalls/reference.rs"]
mod reference;

use cbpf::Data;
use database::{Database, Fault, Faults, Rule, Trouble};
use dice::Dice;
use reference::{Reference, STUCK, code};

const ARCHITECTURES: [&str; 6] =
    ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64"];

/// Profiles on which the two once differed, or still do, each for a reason that has a name below.
const DIFFERED: [u64; 51] = [
    5050911, 1023159, 5001523, 5005278, 2860, 1990551, 1003065, 1028882, 1031081, 1041007, 1049592, 1059438, 1094147,
    1139043, 1213824, 1247381, 1264836, 1283624, 1284392, 1292506, 1299201, 1349639, 1358602, 1362941, 1384265,
    1386516, 1388205, 1410065, 1441093, 1486277, 1493585, 1498692, 1514045, 1547627, 1562246, 1631434, 1631702,
    1643888, 1647282, 1653822, 1709426, 1725365, 1750161, 1786421, 1820566, 1836830, 1850325, 1858756, 1957281,
    1960855, 1974802,
];

/// The same, found since other machines than x86_64 are compiled for too.
const SINCE: [u64; 11] =
    [7002817, 8004143, 8004555, 8008355, 30371369, 30419765, 30957655, 40000746, 40000787, 40003347, 40007773];

/// How many profiles libseccomp is asked for at once: their questions fit into a pipe, so that nobody waits in a circle.
const AHEAD: usize = 40;

/// What libseccomp says where two rules contradict each other.
const EEXIST: &str = "-17";

/// Why an answer of libseccomp is not the one to give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// Its `db.c` has these faults; without one of them it would say something else.
    Database(Vec<Fault>),
    /// Its `gen_bpf.c` compares the wrong word: [`confused`].
    Confused,
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

/// A part of what the kernel shows to a filter: where it begins, and which bits of it.
type Word = (u32, u32);

/// Which words each comparison may look at, depending on the way to it.
///
/// libseccomp 2.5 shares blocks of instructions that rely on what an earlier block has loaded, and loads it anew only
/// where the first block that it finds on the way to them has loaded something else (`_gen_bpf_build_bpf`: "do we need
/// to reload the accumulator?"). Reached from another one, they compare the low word of an argument with what was asked
/// of the high one, or a call's number with the architecture.
fn looked_at(program: &[sock_filter]) -> Vec<Vec<Word>> {
    let mut before: Vec<Vec<Word>> = vec![Vec::new(); program.len()];
    for (at, instruction) in program.iter().enumerate() {
        let words = before[at].clone();
        let (next, words) = match instruction.code {
            0x20 => (vec![at + 1], vec![(instruction.k, u32::MAX)]),
            0x54 => (vec![at + 1], words.iter().map(|(offset, mask)| (*offset, mask & instruction.k)).collect()),
            0x05 => (vec![at + 1 + instruction.k as usize], words),
            0x06 => (vec![], words),
            _ => (vec![at + 1 + usize::from(instruction.jt), at + 1 + usize::from(instruction.jf)], words),
        };
        for next in next {
            for word in &words {
                if !before[next].contains(word) {
                    before[next].push(*word);
                }
            }
        }
    }
    before
}

/// All that a program could answer if a comparison that is confused were to look at any of the words that it may.
fn confused(program: &[sock_filter], data: &Data) -> BTreeSet<u32> {
    let words = looked_at(program);
    let architectures = ARCHITECTURES.map(|name| Abi::named(name).unwrap().audit());
    let (mut answers, mut seen, mut ways) = (BTreeSet::new(), BTreeSet::new(), vec![0]);
    while let Some(at) = ways.pop() {
        if !seen.insert(at) {
            continue;
        }
        let sock_filter { code, jt, jf, k } = program[at];
        let mut branch = |word: u32| {
            let taken = match code {
                0x15 => word == k,
                0x25 => word > k,
                _ => word >= k,
            };
            ways.push(at + 1 + usize::from(if taken { jt } else { jf }));
        };
        match code {
            0x20 | 0x54 => ways.push(at + 1),
            0x05 => ways.push(at + 1 + k as usize),
            0x06 => drop(answers.insert(k)),
            _ => {
                words[at].iter().for_each(|(offset, mask)| branch(data.word(*offset) & mask));
                if words[at].iter().any(|(offset, _)| *offset == 4) && !architectures.contains(&k) {
                    branch(data.number);
                }
            }
        }
    }
    answers
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
            rules.push(Rule { name: &names[0], action: code(*action), conditions });
        }
    }
    rules
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

/// What is known of a profile besides what the two programs say.
struct Known<'a> {
    profile: &'a Seccomp,
    rules: Vec<Rule<'a>>,
    interfaces: Vec<&'a str>,
    /// Of each interface what the kernel calls it, and the number there of each rule's call.
    numbers: Vec<(u32, Vec<Option<u32>>)>,
    /// The database with all faults.
    theirs: Result<Database, Trouble>,
    /// And with none.
    meant: Result<Database, Trouble>,
}

impl<'a> Known<'a> {
    fn of(profile: &'a Seccomp, native: &'a str) -> Known<'a> {
        let others = profile.architectures.iter().map(String::as_str).filter(|name| *name != native);
        let (rules, interfaces) = (rules(profile), std::iter::once(native).chain(others).collect::<Vec<_>>());
        let build = |faults| Database::build(&rules, &interfaces, code(profile.default_action), faults);
        let (theirs, meant) = (build(Faults::of(&Faults::ALL)), build(Faults::of(&[])));
        let numbers = interfaces.iter().map(|name| {
            let abi = Abi::named(name).unwrap();
            (abi.audit(), rules.iter().map(|rule| abi.number_of(rule.name)).collect())
        });
        let numbers = numbers.collect();
        Known { profile, rules, interfaces, numbers, theirs, meant }
    }

    /// Whether an answer comes from a rule that matches, or from the default where none does.
    fn explains(&self, data: &Data, answer: u32) -> bool {
        // Multiplexed calls are another story.
        if data.arch == 0x4000_0003 && matches!(data.number, 102 | 117) {
            return true;
        }
        let mut matched = false;
        for (name, (audit, numbers)) in self.interfaces.iter().zip(&self.numbers) {
            for (rule, number) in self.rules.iter().zip(numbers) {
                let all = || rule.conditions.iter().all(|arg| holds(arg, data, database::wide(name)));
                if *audit == data.arch && *number == Some(data.number) && all() {
                    if rule.action == answer {
                        return true;
                    }
                    matched = true;
                }
            }
        }
        !matched && (answer == 0 || answer == code(self.profile.default_action))
    }

    /// The fewest faults with which the database behaves in this way.
    fn faults(&self, behaves: impl Fn(&Result<Database, Trouble>) -> bool) -> Option<Why> {
        self.faults_after(self.rules.len(), behaves)
    }

    /// The fewest with which it does so after this many rules.
    fn faults_after(&self, many: usize, behaves: impl Fn(&Result<Database, Trouble>) -> bool) -> Option<Why> {
        let mut sets: Vec<Vec<Fault>> = (1..1 << Faults::ALL.len())
            .map(|set| (0..).zip(Faults::ALL).filter(|(at, _)| set & 1 << at != 0).map(|(_, fault)| fault).collect())
            .collect();
        sets.sort_by_key(Vec::len);
        let default = code(self.profile.default_action);
        let build = |set: &Vec<Fault>| Database::build(&self.rules[..many], &self.interfaces, default, Faults::of(set));
        sets.into_iter().find(|set| behaves(&build(set))).map(Why::Database)
    }

    /// Why libseccomp has a program where we have none, or none where we have one, or none and we neither.
    fn of_build(&self, mine: bool, theirs: Option<&str>) -> Result<Option<Why>, String> {
        if mine != self.meant.is_ok() {
            return Err(format!("meant is {:?}", self.meant.as_ref().err()));
        }
        let stuck = |database: &Result<Database, Trouble>| match database {
            Ok(database) => !database.ends(),
            Err(trouble) => *trouble == Trouble::Stuck,
        };
        let exists = |database: &Result<Database, Trouble>| matches!(database, Err(Trouble::Exists));
        match theirs {
            // It makes a tree of all rules after each of them, and frees it.
            Some(STUCK) => {
                let stuck = (1..=self.rules.len()).find_map(|many| self.faults_after(many, stuck));
                stuck.map(Some).ok_or("should not be stuck".to_owned())
            }
            Some(_) if !exists(&self.theirs) => Err("should build".to_owned()),
            Some(_) if mine => Ok(self.faults(exists)),
            Some(_) => Ok(None),
            None if self.theirs.is_err() => Err(format!("should be {:?}", self.theirs.as_ref().err())),
            None if mine => Ok(None),
            None => Ok(self.faults(|database| database.is_ok())),
        }
    }

    /// Why libseccomp answers a call differently, if it does.
    fn of_call(&self, data: &Data, program: &[sock_filter], mine: u32, theirs: u32) -> Result<Option<Why>, String> {
        let answer = |database: &Result<Database, Trouble>| database.as_ref().ok()?.answer(data).ok();
        let meant = answer(&self.meant).ok_or("what is meant goes round in circles")?;
        if meant.is_some_and(|meant| meant != mine) {
            return Err(format!("meant is {meant:x?}"));
        }
        if !self.explains(data, mine) {
            return Err("our answer is that of no rule".to_owned());
        }
        if mine == theirs {
            return Ok(None);
        }
        let expected = answer(&self.theirs).flatten();
        if expected == Some(theirs) {
            return Ok(self.faults(|database| answer(database).flatten() == Some(theirs)));
        }
        if confused(program, data).contains(&expected.unwrap_or(mine)) {
            return Ok(Some(Why::Confused));
        }
        Err(format!("should be {expected:x?}"))
    }
}

/// A profile, and for what machine it is to be compiled.
fn rolled(seed: u64) -> (Dice, Seccomp, &'static str) {
    let mut dice = Dice::thrown(seed);
    let profile = dice.profile();
    let other = ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86_64", "SCMP_ARCH_RISCV64"];
    let native = if DIFFERED.contains(&seed) { other[0] } else { other[seed as usize % other.len()] };
    (dice, profile, native)
}

/// Whatever we answer is what is meant. Where libseccomp answers otherwise, it is by one of its faults.
#[test]
fn libseccomp_decides_the_same() {
    let mut reference = Reference::start();
    let (profiles, seed) = (setting("ORLOP_FUZZ_PROFILES", 500), setting("ORLOP_FUZZ_SEED", 1));
    let (mut done, mut calls, mut errors, mut different) = (0u64, 0u64, 0u64, 0u64);
    // Of each reason, how many profiles and how many calls.
    let mut reasons = BTreeMap::<Why, (u64, u64)>::new();
    let mut seeds = DIFFERED.into_iter().chain(SINCE).chain(seed..seed + profiles);
    // Always some ahead: the answers come while the ones before are looked at.
    let mut waiting = VecDeque::new();
    loop {
        while waiting.len() < AHEAD
            && let Some(seed) = seeds.next()
        {
            let (dice, profile, native) = rolled(seed);
            reference.ask(&profile, native, false);
            waiting.push_back((seed, dice, profile, native));
        }
        let Some((seed, mut dice, profile, native)) = waiting.pop_front() else { break };
        done += 1;
        if done.is_multiple_of(50_000) {
            eprintln!("{done} profiles, up to seed {seed}: {different} different");
        }
        let ours = compile(&profile, Abi::named(native).unwrap(), Unknown::Default);
        let theirs = reference.answer();
        let known = Known::of(&profile, native);
        let mut found = BTreeMap::<Why, u64>::new();
        let mut report = |what: String| {
            different += 1;
            eprintln!("seed {seed}, {native}: {what}\n{}", told(&profile));
        };
        if let Err(error) = &ours {
            assert!(error.to_string().contains("EEXIST"), "{error}");
        }
        if let Err(error) = &theirs {
            assert!(error == EEXIST || error == STUCK, "{error}");
        }
        match known.of_build(ours.is_ok(), theirs.as_ref().err().map(String::as_str)) {
            Ok(None) => {}
            Ok(Some(why)) => drop(found.insert(why, 0)),
            Err(what) => {
                report(format!("{:?}, libseccomp {:?}: {what}", ours.as_ref().err(), theirs.as_ref().err()));
            }
        }
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                for data in inputs(&mut dice, &profile) {
                    calls += 1;
                    let (mine, reference) = (cbpf::run(ours, &data).0, cbpf::run(theirs, &data).0);
                    match known.of_call(&data, theirs, mine, reference) {
                        Ok(None) => {}
                        Ok(Some(why)) => *found.entry(why).or_default() += 1,
                        Err(what) => {
                            report(format!("{data:x?}: {mine:#x}, libseccomp {reference:#x}: {what}"));
                            break;
                        }
                    }
                }
            }
            _ => errors += 1,
        }
        for (why, calls) in found {
            let (of_profiles, of_calls) = reasons.entry(why).or_default();
            *of_profiles += 1;
            *of_calls += calls;
        }
    }
    eprintln!(
        "libseccomp {}: {profiles} profiles from seed {seed} and {}, {calls} calls, {errors} without a program, \
         {different} different. Profiles and calls that libseccomp gets wrong: {reasons:#?}",
        reference.hello["version"],
        DIFFERED.len() + SINCE.len()
    );
    assert_eq!(different, 0);
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

/// What the kernel has there, and libseccomp 2.5.4 has not: the first is the other name of arm_sync_file_range.
const MORE: [(&str, &str); 2] = [("SCMP_ARCH_ARM", "sync_file_range2"), ("SCMP_ARCH_X32", "map_shadow_stack")];

#[test]
fn libseccomp_has_the_same_numbers() {
    let reference = Reference::start();
    let (mut compared, mut different) = (0, Vec::new());
    for (arch, numbers) in reference.hello["numbers"].as_object().unwrap() {
        let abi = Abi::named(arch).unwrap();
        for (name, number) in numbers.as_object().unwrap() {
            // -1 is a name that it does not know; what it knows of other architectures has a number below.
            let theirs = number.as_i64().filter(|number| *number != -1);
            let Some(theirs) = theirs else { continue };
            // What x86 also has through socketcall and ipc has a number of its own for that.
            let multiplexed = arch == "SCMP_ARCH_X86" && (-224..-100).contains(&theirs);
            let same = abi.number_of(name) == u32::try_from(theirs).ok();
            if !same && !multiplexed && !MORE.contains(&(arch, name)) {
                different.push(format!("{arch} {name}: {:?}, libseccomp {theirs}", abi.number_of(name)));
            }
            compared += 1;
        }
    }
    assert!(different.is_empty() && compared > 2800, "{compared} {different:#?}");
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

/// x86 has no accept but through socketcall; there the first of these rules decides alone, and yet libseccomp wants the
/// others not to contradict each other, whose words are the same where arguments have 32 bits.
#[test]
fn rules_for_a_call_that_is_not_there_may_not_contradict_each_other() {
    let rule = |op, index, value, action| SeccompRule {
        names: vec!["accept".into()],
        action,
        args: vec![SeccompArg { index, value, value_two: 0, op }],
    };
    let (different, below) = (SeccompOperator::NotEqual, SeccompOperator::Less);
    let mut profile = allowing(&[], &["SCMP_ARCH_X86"]);
    profile.syscalls = vec![
        rule(different, 0, 1, SeccompAction::Errno(2)),
        rule(below, 1, 0x1_0000_00fe, SeccompAction::Errno(2)),
        rule(below, 1, 0xfe, SeccompAction::KillThread),
    ];
    let error = compile(&profile, native(), Unknown::Default).unwrap_err();
    assert!(error.to_string().contains("EEXIST"), "{error}");
    profile.architectures.clear();
    compile(&profile, native(), Unknown::Default).unwrap();
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

/// Names of today's profiles that libseccomp 2.5.4 does not know, and the one machine that has them; all that are not
/// here every machine has, by one number.
const OF_ONE_MACHINE: [(&str, &[&str]); 2] =
    [("uretprobe", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]), ("riscv_hwprobe", &["SCMP_ARCH_RISCV64"])];

#[test]
fn the_names_of_todays_profiles_are_known() {
    let known: BTreeSet<_> = orlop::seccomp::names().collect();
    let lists = [include_str!("syscalls/named-by-docker.txt"), include_str!("syscalls/named-by-podman.txt")];
    let named: BTreeSet<_> = lists.iter().flat_map(|list| list.split_whitespace()).collect();
    let reference = Reference::start();
    for arch in ARCHITECTURES {
        let abi = Abi::named(arch).unwrap();
        let mut missing = Vec::new();
        for name in &named {
            assert!(known.contains(name), "{name}");
            if abi.number_of(name).is_some() {
                continue;
            }
            let theirs = reference.hello["numbers"][arch][name].as_i64().unwrap();
            let elsewhere = OF_ONE_MACHINE.iter().any(|(of_one, archs)| of_one == name && !archs.contains(&arch));
            assert!(theirs < -1 || elsewhere, "{arch} {name}: libseccomp has {theirs}");
            missing.push(*name);
        }
        eprintln!("{arch} has {} of {}; not {}", named.len() - missing.len(), named.len(), missing.join(" "));
    }
}

/// Instructions are what a call pays with: few where the number decides, and where arguments do, no more than
/// libseccomp needs.
#[test]
fn no_call_takes_more_instructions_than_with_libseccomp() {
    let mut reference = Reference::start();
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    for architectures in [&all[..], &all[..1]] {
        let profile = reference::docker(architectures);
        reference.ask(&profile, all[0], true);
        let theirs = reference.answer().unwrap();
        let ours = compile(&profile, native(), Unknown::Enosys).unwrap();
        let asking: BTreeSet<_> =
            profile.syscalls.iter().filter(|rule| !rule.args.is_empty()).map(|rule| rule.names[0].as_str()).collect();
        let values = profile.syscalls.iter().flat_map(|rule| &rule.args).flat_map(|arg| [arg.value, arg.value_two]);
        let values: BTreeSet<_> = values
            .chain([0, u64::MAX])
            .flat_map(|value| [value.wrapping_sub(1), value, value.wrapping_add(1), value | 1 << 32])
            .collect();
        for name in architectures {
            let abi = Abi::named(name).unwrap();
            let base = abi.number_of("read").unwrap() & 0x4000_0000;
            let with_arguments: BTreeSet<_> = asking.iter().filter_map(|call| abi.number_of(call)).collect();
            let (mut by_number, mut by_arguments, mut with_tree) = (0, 0, 0);
            for number in base..base + 600 {
                let steps = |program: &[sock_filter], first: u64| {
                    cbpf::run(program, &Data { number, arch: abi.audit(), args: [first, 0, 0, 0, 0, 0] }).1
                };
                if !with_arguments.contains(&number) {
                    by_number = by_number.max(steps(&ours, 0));
                    continue;
                }
                for first in &values {
                    by_arguments = by_arguments.max(steps(&ours, *first));
                    with_tree = with_tree.max(steps(&theirs, *first));
                }
            }
            eprintln!(
                "{name} of {}: {by_number} by number, {by_arguments} by arguments, libseccomp {with_tree}",
                architectures.len()
            );
            assert!(by_number <= 16 && by_arguments <= with_tree, "{name}: {by_number} {by_arguments} {with_tree}");
        }
    }
}
