//! From a profile to the program that the kernel runs: a pure function.
//!
//! The numbers of all calls of an architecture are put in order, neighbours with the same fate joined, and the fate of
//! a number found by halving. What a call's arguments decide stands behind that search, so that a call which is
//! allowed whatever its arguments is reached by its number and architecture alone: such calls the kernel (5.11)
//! remembers in a bitmap, and runs no program for them.
//!
//! The rules of runc and libseccomp that profiles rely on:
//! - The native architecture is always among those filtered. A call of any other is answered by killing the thread.
//! - x32 shares its architecture with x86_64. Without x32 in the profile its numbers are of no known architecture;
//!   but -1, by which a tracer skips a call, has the default action.
//! - A rule with the default action is no rule. A name that an architecture does not have is no rule there.
//! - A condition asked twice of one argument makes each condition of the entry a rule of its own.
//! - Numbers above the largest call that the profile names answer `ENOSYS`, unless the default action lets calls pass:
//!   whoever wrote the profile did not know of them, and a C library goes back to older calls on `ENOSYS` only
//!   (runc's "patchbpf").

use std::borrow::Cow;

use seccompiler::sock_filter;
use specconv::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

use super::abi::{self, Abi, Call, Multiplexed, X32_BIT};
use super::bpf::{self, Compare, Program, Segment, Target};
use super::condition::{self, Conditions};
use super::tree::Tree;
use super::{KILL_THREAD, code};
use crate::error::{Error, Kind, Result};

/// Most instructions of one filter (`BPF_MAXINSNS`, linux/bpf_common.h).
const MOST: usize = 4096;

/// Whether unknown newer calls answer `ENOSYS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// As runc has it: where the default action is not to let calls pass.
    Enosys,
    /// The default action, as libseccomp alone has it.
    Default,
}

/// Compiles a profile for a machine.
///
/// # Errors
/// For an architecture of another byte order, for rules that contradict each other, and for a program that is longer
/// than the kernel takes.
pub fn compile(profile: &Seccomp, native: &'static Abi, unknown: Unknown) -> Result<Vec<sock_filter>> {
    let abis = abi::chosen(&profile.architectures, native)?;
    let calls = named(profile);
    let mut program = Program::default();
    let mut architectures: Vec<(u32, Target)> = Vec::new();
    for (index, abi) in abis.iter().enumerate() {
        if abis.iter().take(index).any(|earlier| earlier.audit == abi.audit) {
            continue;
        }
        let sharing: Vec<&Abi> = abis.iter().copied().filter(|other| other.audit == abi.audit).collect();
        let segments = numbers(&mut program, profile, &calls, &sharing, unknown)?;
        architectures.push((abi.audit, program.look_up(bpf::NUMBER, &segments)));
    }
    let mut start = Target::Return(KILL_THREAD);
    for (audit, target) in architectures.into_iter().rev() {
        start = program.compare(Compare::Equal, audit, target, start);
    }
    let start = program.load(bpf::ARCHITECTURE, start);
    let program = program.finish(start);
    if program.len() > MOST {
        let why = format!("the filter has {} instructions, and the kernel takes {MOST}", program.len());
        return Err(Error::new(Kind::Unsupported, format!("linux.seccomp: {why}")));
    }
    Ok(program)
}

/// What becomes of each number of one architecture.
fn numbers(
    program: &mut Program,
    profile: &Seccomp,
    calls: &[Named<'_>],
    sharing: &[&Abi],
    unknown: Unknown,
) -> Result<Vec<Segment>> {
    let default = code(profile.default_action);
    let to_default = Target::Return(default);
    let x86_64 = sharing.iter().any(|abi| abi.base == 0);
    let x32 = sharing.iter().find(|abi| abi.base == X32_BIT);
    let shared = sharing.iter().any(|abi| abi.name == "SCMP_ARCH_X86_64") || x32.is_some();
    let mut segments = vec![Segment { start: 0, target: to_default }];
    if !x86_64 {
        bpf::overlay(&mut segments, 0, X32_BIT - 1, Target::Return(KILL_THREAD));
    } else if shared && x32.is_none() {
        bpf::overlay(&mut segments, X32_BIT, u32::MAX - 1, Target::Return(KILL_THREAD));
    }
    for abi in sharing {
        let Rules { rules, absent, largest } = rules(profile, calls, abi);
        no_contradiction_among(absent, abi.wide)?;
        let mut at = 0;
        for of_one in rules.chunk_by(|a, b| a.number == b.number) {
            let Some(Rule { number, .. }) = of_one.first() else { continue };
            let target = fate(program, of_one, abi.wide, default)?;
            // Numbers only grow: no need to look for the place.
            if target != to_default {
                put(&mut segments, &mut at, *number, target);
            }
        }
        if let (Unknown::Enosys, false, Some(largest)) = (unknown, lets_pass(profile.default_action), largest) {
            let enosys = Target::Return(code(SeccompAction::Errno(libc::ENOSYS as u16)));
            for (from, to) in beyond(largest, abi.base, shared) {
                bpf::overlay(&mut segments, from, to, enosys);
            }
        }
    }
    bpf::merge(&mut segments);
    Ok(segments)
}

/// One number's fate. `at` is where the last one went.
fn put(segments: &mut Vec<Segment>, at: &mut usize, number: u32, target: Target) {
    while segments.get(*at + 1).is_some_and(|next| next.start <= number) {
        *at += 1;
    }
    let Some(around) = segments.get(*at).copied() else { return };
    let next = number.wrapping_add(1);
    let goes_on = segments.get(*at + 1).is_none_or(|segment| segment.start != next) && next != 0;
    let tail = goes_on.then_some(Segment { start: next, ..around });
    let one = Segment { start: number, target };
    let from = if around.start == number { *at } else { *at + 1 };
    let to = if around.start == number { *at + 1 } else { from };
    segments.splice(from..to, std::iter::once(one).chain(tail));
    *at = from;
}

/// The numbers that no profile of its time could know. Those of x32 and of x86_64 are told apart by their bit alone.
fn beyond(largest: u32, base: u32, shared: bool) -> Vec<(u32, u32)> {
    match (shared, base) {
        (false, _) => vec![(largest + 1, u32::MAX)],
        (true, 0) => vec![(largest + 1, X32_BIT - 1), (2 * X32_BIT, 3 * X32_BIT - 1)],
        (true, _) => vec![(largest + 1, 2 * X32_BIT - 1), (3 * X32_BIT, u32::MAX)],
    }
}

fn lets_pass(action: SeccompAction) -> bool {
    matches!(action, SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace(_))
}

/// A name of the profile that is a system call somewhere.
struct Named<'a> {
    call: &'static Call,
    /// The rule it stands in.
    rule: &'a SeccompRule,
    /// Where that rule stands, for messages.
    entry: usize,
}

/// The names, looked up once for all architectures. Those that nobody knows are left out.
fn named(profile: &Seccomp) -> Vec<Named<'_>> {
    let rules = profile.syscalls.iter().enumerate();
    let names = rules.flat_map(|(entry, rule)| rule.names.iter().map(move |name| (entry, rule, name)));
    names.filter_map(|(entry, rule, name)| abi::call(name).map(|call| Named { call, rule, entry })).collect()
}

/// A rule for one call.
struct Rule<'a> {
    number: u32,
    action: u32,
    conditions: Cow<'a, [SeccompArg]>,
    entry: usize,
    name: &'static str,
}

/// The rules of one interface.
struct Rules<'a> {
    /// By number, those of one number in their order.
    rules: Vec<Rule<'a>>,
    /// Those for calls that the interface does not have; their number is 0.
    absent: Vec<Rule<'a>>,
    /// The largest number named, whatever the rule.
    largest: Option<u32>,
}

fn rules<'a>(profile: &Seccomp, calls: &[Named<'a>], abi: &Abi) -> Rules<'a> {
    let default = code(profile.default_action);
    let mut found = Rules { rules: Vec::with_capacity(calls.len()), absent: Vec::new(), largest: None };
    for &Named { call, rule, entry } in calls {
        let name = call.0;
        let number = abi.number(call);
        let multiplexed = multiplexer(abi, call);
        // Where a call is multiplexed, runc's stub does not see its own number, and 0 is no number to it.
        if multiplexed.is_none() {
            found.largest = found.largest.max(number.filter(|number| *number != 0));
        }
        let action = code(rule.action);
        if action == default {
            continue;
        }
        for conditions in split(rule) {
            if let Some((number, which)) = multiplexed {
                found.rules.push(Rule { number, action, conditions: through(which, conditions).into(), entry, name });
            }
            let rule = Rule { number: number.unwrap_or(0), action, conditions: conditions.into(), entry, name };
            match number {
                Some(_) => found.rules.push(rule),
                // libseccomp keeps them, but those that x86 has in no way.
                None if abi.socketcall.is_none() || multiplexed.is_some() => found.absent.push(rule),
                None => {}
            }
        }
    }
    found.rules.sort_by_key(|rule| rule.number);
    found
}

/// Rules for a call that is not there do nothing, but may not contradict each other either.
fn no_contradiction_among(mut absent: Vec<Rule<'_>>, wide: bool) -> Result<()> {
    if absent.iter().all(|rule| rule.conditions.is_empty()) {
        return Ok(());
    }
    absent.sort_by_key(|rule| rule.name);
    absent.chunk_by(|a, b| a.name == b.name).try_for_each(|of_one| no_contradiction(of_one, wide))
}

/// Whether an entry has several conditions on one argument.
pub(super) fn asks_twice(rule: &SeccompRule) -> bool {
    let earlier = |at: usize, index: u32| rule.args.iter().take(at).any(|arg| arg.index == index);
    rule.args.iter().enumerate().any(|(at, arg)| earlier(at, arg.index))
}

/// An entry's conditions hold together, unless one argument is asked twice.
fn split(rule: &SeccompRule) -> impl Iterator<Item = &[SeccompArg]> {
    let together = if asks_twice(rule) { 1 } else { rule.args.len().max(1) };
    rule.args.chunks(together).chain(rule.args.is_empty().then_some(&[][..]))
}

fn multiplexer(abi: &Abi, call: &Call) -> Option<(u32, u32)> {
    abi.socketcall.or(abi.ipc)?;
    match abi::multiplexed(call.0)? {
        Multiplexed::Socket(which) => abi.socketcall.map(|number| (number, which)),
        Multiplexed::Ipc(which) => abi.ipc.map(|number| (number, which)),
    }
}

/// The first argument says which call it is, whatever was asked of it; the others are compared although they are now
/// pointers. That is what libseccomp does: conditions on sockets do not bind 32-bit programs.
fn through(which: u32, conditions: &[SeccompArg]) -> Vec<SeccompArg> {
    let call = SeccompArg { index: 0, value: u64::from(which), value_two: 0, op: SeccompOperator::Equal };
    std::iter::once(call).chain(conditions.iter().copied().filter(|condition| condition.index != 0)).collect()
}

/// What becomes of one call.
fn fate(program: &mut Program, rules: &[Rule<'_>], wide: bool, default: u32) -> Result<Target> {
    let (asking, always) = until_unconditional(rules, wide);
    let (Some(first), None) = (asking.first(), &always) else {
        no_contradiction(rules, wide)?;
        return Ok(Target::Return(always.map_or(default, |rule| rule.action)));
    };
    if asking.iter().all(|rule| rule.action == first.action) {
        let all: Vec<_> = asking.iter().map(conditions).collect();
        return Ok(condition::any_of(program, &all, wide, first.action, default));
    }
    Ok(tree(asking, wide)?.write(program, default))
}

/// A rule without conditions decides, whatever stands beside it; what comes after it is not looked at.
fn until_unconditional<'r, 'a>(rules: &'r [Rule<'a>], wide: bool) -> (&'r [Rule<'a>], Option<&'r Rule<'a>>) {
    let unconditional = |rule: &Rule<'_>| rule.conditions.iter().all(|asked| condition::vacuous(asked, wide));
    let at = rules.iter().position(unconditional);
    (rules.get(..at.unwrap_or(rules.len())).unwrap_or_default(), at.and_then(|at| rules.get(at)))
}

fn no_contradiction(rules: &[Rule<'_>], wide: bool) -> Result<()> {
    let (asking, _) = until_unconditional(rules, wide);
    if asking.iter().any(|rule| asking.first().is_some_and(|first| first.action != rule.action)) {
        tree(asking, wide)?;
    }
    Ok(())
}

/// The conditions in the order of the arguments.
fn conditions(rule: &Rule<'_>) -> Conditions {
    let mut sorted = rule.conditions.to_vec();
    sorted.sort_by_key(|condition| condition.index);
    sorted
}

fn tree(rules: &[Rule<'_>], wide: bool) -> Result<Tree> {
    let mut tree = Tree::default();
    for rule in rules {
        tree.add(&conditions(rule), wide, rule.action).map_err(|_| {
            let why = format!("{:?}: another rule for the same arguments has another action (EEXIST)", rule.name);
            Error::invalid(format_args!("linux.seccomp.syscalls[{}]", rule.entry), why)
        })?;
    }
    Ok(tree)
}
