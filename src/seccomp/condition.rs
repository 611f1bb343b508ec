//! Conditions on arguments, and rules for one system call that all lead to the same action.
//!
//! Arguments have 64 bits, the machine of the filter has 32: a comparison looks at the high word, and where that does
//! not decide, at the low one. All comparisons but the masked one ask whether a value lies in certain ranges, so that
//! rules which each ask one thing of the same argument become one set of ranges and one search (Docker's profile asks
//! twenty-six things of `socket`'s first).

use specconv::{SeccompArg, SeccompOperator};

use super::bpf::{self, Compare, Program, Segment, Target};

/// What one rule asks, all of it at once: sorted by argument, no argument twice.
pub(super) type Conditions = Vec<SeccompArg>;

/// Whether an argument lies in a set of values: from each value on, until the next one's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ranges(Vec<(u64, bool)>);

impl Ranges {
    /// The values for which the comparison is true; `None` for the masked one, whose values are no ranges.
    fn of(condition: &SeccompArg, most: u64) -> Option<Self> {
        let value = condition.value & most;
        let from = |value: u64| if value == 0 { vec![(0, true)] } else { vec![(0, false), (value, true)] };
        let above = |value: u64| if value == most { vec![(0, false)] } else { from(value + 1) };
        let one = |value: u64| {
            let mut one = from(value);
            if value != most {
                one.push((value + 1, false));
            }
            one
        };
        let not = |ranges: Vec<(u64, bool)>| ranges.into_iter().map(|(start, within)| (start, !within)).collect();
        Some(Ranges(match condition.op {
            SeccompOperator::Equal => one(value),
            SeccompOperator::NotEqual => not(one(value)),
            SeccompOperator::GreaterOrEqual => from(value),
            SeccompOperator::Less => not(from(value)),
            SeccompOperator::Greater => above(value),
            SeccompOperator::LessOrEqual => not(above(value)),
            SeccompOperator::MaskedEqual => return None,
        }))
    }

    fn contains(&self, value: u64) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= value);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, within)| *within)
    }

    /// Those of either.
    fn or(&self, other: &Ranges) -> Ranges {
        let mut starts: Vec<u64> = self.0.iter().chain(&other.0).map(|(start, _)| *start).collect();
        starts.sort_unstable();
        let mut joined: Vec<_> =
            starts.into_iter().map(|start| (start, self.contains(start) || other.contains(start))).collect();
        joined.dedup_by_key(|(_, within)| *within);
        Ranges(joined)
    }
}

/// Writes the rules for one call, any of which is enough, and finally what happens where none matches.
pub(super) fn any_of(program: &mut Program, rules: &[Conditions], wide: bool, action: u32, default: u32) -> Target {
    let most = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let matched = Target::Return(action);
    let mut missed = Target::Return(default);
    let mut sets: Vec<(u32, Ranges)> = Vec::new();
    for rule in rules.iter().rev() {
        match rule.as_slice() {
            [only] if let Some(ranges) = Ranges::of(only, most) => {
                match sets.iter_mut().find(|(of, _)| *of == only.index) {
                    Some((_, set)) => *set = set.or(&ranges),
                    None => sets.push((only.index, ranges)),
                }
            }
            all => missed = every(program, all, wide, matched, missed),
        }
    }
    for (argument, set) in &sets {
        missed = within(program, *argument, set, wide, matched, missed);
    }
    missed
}

/// Writes a rule: all conditions together.
fn every(program: &mut Program, conditions: &[SeccompArg], wide: bool, matched: Target, missed: Target) -> Target {
    let most = if wide { u64::MAX } else { u64::from(u32::MAX) };
    conditions.iter().rev().fold(matched, |next, condition| match Ranges::of(condition, most) {
        Some(ranges) => within(program, condition.index, &ranges, wide, next, missed),
        None => masked(program, condition, wide, next, missed),
    })
}

/// Whether a condition is always true: a mask that lets nothing through.
pub(super) fn vacuous(condition: &SeccompArg, wide: bool) -> bool {
    let mask = if wide { condition.value } else { condition.value & u64::from(u32::MAX) };
    condition.op == SeccompOperator::MaskedEqual && mask == 0
}

/// `SCMP_CMP_MASKED_EQ`: `value` is the mask, and the datum is masked too.
fn masked(program: &mut Program, condition: &SeccompArg, wide: bool, matched: Target, missed: Target) -> Target {
    let mut next = matched;
    let words = [(bpf::low(condition.index), 0), (bpf::high(condition.index), 32)];
    for (offset, shift) in words.into_iter().take(if wide { 2 } else { 1 }) {
        let mask = (condition.value >> shift) as u32;
        let datum = (condition.value_two >> shift) as u32 & mask;
        if mask == 0 {
            continue;
        }
        next = program.compare(Compare::Equal, datum, next, missed);
        if matches!(next, Target::At(_)) {
            if mask != u32::MAX {
                next = program.and(mask, next);
            }
            next = program.load(offset, next);
        }
    }
    next
}

fn within(program: &mut Program, argument: u32, set: &Ranges, wide: bool, yes: Target, no: Target) -> Target {
    let to = |within: bool| if within { yes } else { no };
    if !wide {
        let low: Vec<_> =
            set.0.iter().map(|(start, within)| Segment { start: *start as u32, target: to(*within) }).collect();
        return program.look_up(bpf::low(argument), &low);
    }
    let mut high: Vec<Segment> = Vec::new();
    let mut before = false;
    for changes in set.0.chunk_by(|(a, _), (b, _)| a >> 32 == b >> 32) {
        let (Some((first, _)), Some((_, after))) = (changes.first(), changes.last()) else { continue };
        let word = (first >> 32) as u32;
        let mut low: Vec<Segment> =
            changes.iter().map(|(start, within)| Segment { start: *start as u32, target: to(*within) }).collect();
        if *first as u32 != 0 {
            low.insert(0, Segment { start: 0, target: to(before) });
        }
        let decided_low = low.len() == 1;
        high.push(Segment { start: word, target: program.look_up(bpf::low(argument), &low) });
        if let (false, Some(start)) = (decided_low, word.checked_add(1)) {
            high.push(Segment { start, target: to(*after) });
        }
        before = *after;
    }
    // The next change may be in the very next word.
    let mut starts: Vec<Segment> = Vec::with_capacity(high.len());
    for segment in high {
        if starts.last().is_some_and(|last| last.start == segment.start) {
            starts.pop();
        }
        starts.push(segment);
    }
    bpf::merge(&mut starts);
    program.look_up(bpf::high(argument), &starts)
}
