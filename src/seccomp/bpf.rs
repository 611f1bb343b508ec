//! Classic BPF as the kernel runs it on a system call (seccomp(2), bpf(4) of BSD for the instructions).
//!
//! A program is written from its end to its beginning: then every target of a jump is already there, and its distance
//! known. Jumps go forward only, and a conditional one reaches 255 instructions; what lies further is reached by an
//! unconditional jump, or is a return and simply written again.

use seccompiler::sock_filter;

/// `BPF_LD | BPF_W | BPF_ABS`: a word of `struct seccomp_data` into the accumulator.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Comparisons of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Compare {
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`.
    Greater = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`.
    GreaterOrEqual = 0x35,
}

/// Offset of the number in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
/// Offset of the architecture.
pub(super) const ARCHITECTURE: u32 = 4;

/// Offset of the low word of an argument; every machine we compile for has its low word first.
pub(super) fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

/// Offset of the high word of an argument.
pub(super) fn high(argument: u32) -> u32 {
    low(argument) + 4
}

/// Where a comparison leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// An instruction already written, counted from the program's end.
    At(usize),
    /// A return with this action.
    Return(u32),
}

/// Where a range of values leads: from `start` to the start of the next segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// First value.
    pub start: u32,
    /// Where it leads.
    pub target: Target,
}

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// Last instruction first.
    reversed: Vec<sock_filter>,
    /// The most recent return of each action.
    returns: Vec<(u32, usize)>,
}

/// A jump reaches 255; some room is left for what [`Program::reach`] may have to write in between.
const REACH: usize = 250;

impl Program {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        self.reversed.push(sock_filter { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// How many instructions the next one would jump over to get there.
    fn distance(&self, at: usize) -> usize {
        self.reversed.len() - at - 1
    }

    /// The target, or something that leads there, within the reach of a conditional jump.
    fn reach(&mut self, target: Target) -> usize {
        match target {
            Target::Return(action) => {
                let known = self.returns.iter_mut().find(|(known, _)| *known == action);
                if let Some((_, at)) = &known
                    && self.reversed.len() - *at <= REACH
                {
                    return *at;
                }
                let at = self.reversed.len();
                match known {
                    Some((_, known)) => *known = at,
                    None => self.returns.push((action, at)),
                }
                self.push(RETURN, 0, 0, action)
            }
            Target::At(at) if self.distance(at) < REACH => at,
            Target::At(at) => self.push(JUMP, 0, 0, self.distance(at) as u32),
        }
    }

    /// Compares the accumulator, and goes one way or the other.
    pub(super) fn compare(&mut self, how: Compare, with: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.reach(yes);
        let no = self.reach(no);
        // Both are within reach plus one, so that the casts hold.
        Target::At(self.push(how as u16, self.distance(yes) as u8, self.distance(no) as u8, with))
    }

    /// Makes sure that the next instruction written falls through to `next`.
    fn fall_into(&mut self, next: Target) {
        match next {
            Target::At(at) if self.distance(at) == 0 => {}
            Target::At(at) => {
                self.push(JUMP, 0, 0, self.distance(at) as u32);
            }
            Target::Return(action) => {
                self.push(RETURN, 0, 0, action);
            }
        }
    }

    /// Loads the word at `offset`, then goes on with `next`.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.fall_into(next);
        Target::At(self.push(LOAD, 0, 0, offset))
    }

    /// Keeps only these bits of the accumulator, then goes on with `next`.
    pub(super) fn and(&mut self, mask: u32, next: Target) -> Target {
        self.fall_into(next);
        Target::At(self.push(AND, 0, 0, mask))
    }

    /// Finds the segment of the accumulator's value by halving. The segments are sorted, and the value is not below
    /// the first one's start.
    ///
    /// With no segment there is nothing to find: the answer is to kill.
    pub(super) fn search(&mut self, segments: &[Segment]) -> Target {
        match segments {
            [] => Target::Return(super::KILL_THREAD),
            [only] => only.target,
            [below, one, above] if below.target == above.target && above.start - one.start == 1 => {
                self.compare(Compare::Equal, one.start, one.target, below.target)
            }
            _ => {
                let (low, high) = segments.split_at(segments.len() / 2);
                let start = high.first().map_or(0, |segment| segment.start);
                let high = self.search(high);
                let low = self.search(low);
                self.compare(Compare::GreaterOrEqual, start, high, low)
            }
        }
    }

    /// Looks up the word at `offset` among segments that begin with 0.
    pub(super) fn look_up(&mut self, offset: u32, segments: &[Segment]) -> Target {
        let before = self.reversed.len();
        let found = self.search(segments);
        match found {
            // Nothing was asked of the accumulator.
            Target::At(at) if at < before => found,
            Target::Return(_) => found,
            Target::At(_) => self.load(offset, found),
        }
    }

    /// The finished program, which begins at `start`.
    pub(super) fn finish(mut self, start: Target) -> Vec<sock_filter> {
        self.fall_into(start);
        self.reversed.reverse();
        self.reversed
    }
}

/// Joins neighbours that lead to the same place.
pub(super) fn merge(segments: &mut Vec<Segment>) {
    segments.dedup_by(|next, before| next.target == before.target);
}

/// Lets `from..=to` lead to `target` instead of wherever it led.
pub(super) fn overlay(segments: &mut Vec<Segment>, from: u32, to: u32, target: Target) {
    let beyond = segments.iter().rev().find(|segment| Some(segment.start) <= to.checked_add(1)).copied();
    let at = segments.partition_point(|segment| segment.start < from);
    let end = segments.partition_point(|segment| segment.start <= to);
    let mut new = vec![Segment { start: from, target }];
    if let (Some(beyond), Some(start)) = (beyond, to.checked_add(1))
        && segments.get(end).is_none_or(|next| next.start != start)
    {
        new.push(Segment { start, ..beyond });
    }
    segments.splice(at..end, new);
}
