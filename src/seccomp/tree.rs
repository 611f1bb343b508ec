//! Rules for one system call that lead to different actions.
//!
//! Where two such rules match the same call, the kernel's interface says nothing and the specification says nothing:
//! what counts is what libseccomp does, for profiles were tested with it. It turns each condition into comparisons of
//! words, merges what rules have in common, and tries the comparisons of one level in an order of its own: arguments
//! from the last to the first, the high word before the low one, equality before less before greater, large values
//! first (small ones for less). A comparison that leads nowhere falls to its next sibling, then to the next sibling of
//! the level above. This module does the same, and refuses the same with `EEXIST`; a test compares the two.
//!
//! Accidents are not repeated (tests/syscalls/database.rs has each by its name):
//! - In libseccomp the parts of a rule share what follows them, so that adding to one place can change another.
//! - It forgets a rule's remainder where an earlier one decides part of it, and all of a rule of several conditions
//!   that it takes for one which an earlier rule makes needless.
//! - Of two rules that ask for less than two values of one high word, the one for the smaller value is to have what is
//!   below that word; before its commit 5404f5c2a6bf (June 2026) it was the earlier one, by a slip of the pen.
//! - Its programs now and then compare a word that they have not loaded.

use specconv::{SeccompArg, SeccompOperator};

use super::bpf::{self, Compare, Program, Target};
use super::condition::Conditions;

/// Two rules of which neither is the more special one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

/// A comparison of one word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    argument: u32,
    high: bool,
    compare: Compare,
    masked: bool,
    mask: u32,
    datum: u32,
    /// The condition it comes from.
    origin: SeccompOperator,
    /// The whole value, where that condition orders values.
    whole: u64,
}

/// What one answer of a test leads to.
#[derive(Debug, Clone, Default)]
enum Branch {
    /// The next sibling.
    #[default]
    Nothing,
    Action(u32),
    Level(Vec<Node>),
}

#[derive(Debug, Clone)]
struct Node {
    test: Test,
    yes: Branch,
    no: Branch,
    /// The smallest value for which a rule that ends here asks, where `yes` is an action.
    bound: u64,
}

/// The rules of one call, merged.
#[derive(Debug, Default)]
pub(super) struct Tree(Vec<Node>);

impl Tree {
    /// Adds a rule; it has at least one condition that is not vacuous.
    pub(super) fn add(&mut self, conditions: &Conditions, wide: bool, action: u32) -> Result<(), Contradiction> {
        match chain(conditions, wide, Branch::Action(action)) {
            Branch::Level(nodes) => nodes.into_iter().try_for_each(|node| insert(&mut self.0, node)),
            _ => Ok(()),
        }
    }

    /// Writes all of it.
    pub(super) fn write(&self, program: &mut Program, default: u32) -> Target {
        level(program, &self.0, Target::Return(default))
    }
}

/// The comparisons of a rule.
fn chain(conditions: &[SeccompArg], wide: bool, end: Branch) -> Branch {
    let Some((first, rest)) = conditions.split_first() else { return end };
    let rest = chain(rest, wide, end);
    if super::condition::vacuous(first, wide) {
        return rest;
    }
    Branch::Level(vec![if wide { two_words(first, rest) } else { one_word(first, rest) }])
}

fn node(test: Test, yes: Branch, no: Branch) -> Node {
    let bound = if matches!(yes, Branch::Action(_)) { test.whole } else { u64::MAX };
    Node { test, yes, no, bound }
}

/// `NE`, `LT` and `LE` are the other answer to `EQ`, `GE` and `GT`.
fn plain(op: SeccompOperator) -> (Compare, bool) {
    match op {
        SeccompOperator::Equal | SeccompOperator::MaskedEqual => (Compare::Equal, true),
        SeccompOperator::NotEqual => (Compare::Equal, false),
        SeccompOperator::GreaterOrEqual => (Compare::GreaterOrEqual, true),
        SeccompOperator::Less => (Compare::GreaterOrEqual, false),
        SeccompOperator::Greater => (Compare::Greater, true),
        SeccompOperator::LessOrEqual => (Compare::Greater, false),
    }
}

fn test(condition: &SeccompArg, high: bool, compare: Compare) -> Test {
    let masked = condition.op == SeccompOperator::MaskedEqual;
    let (mask, datum) = if masked { (condition.value, condition.value_two) } else { (u64::MAX, condition.value) };
    let orders = !matches!(condition.op, SeccompOperator::Equal | SeccompOperator::NotEqual) && !masked;
    let word = |value: u64| if high { (value >> 32) as u32 } else { value as u32 };
    Test {
        argument: condition.index,
        high,
        compare,
        masked,
        mask: word(mask),
        datum: word(datum) & word(mask),
        origin: condition.op,
        whole: if orders { datum } else { 0 },
    }
}

fn one_word(condition: &SeccompArg, rest: Branch) -> Node {
    let (compare, wanted) = plain(condition.op);
    let test = test(condition, false, compare);
    if wanted { node(test, rest, Branch::Nothing) } else { node(test, Branch::Nothing, rest) }
}

fn two_words(condition: &SeccompArg, rest: Branch) -> Node {
    let (compare, wanted) = plain(condition.op);
    let low = |yes, no| Branch::Level(vec![node(test(condition, false, compare), yes, no)]);
    let high = |compare| test(condition, true, compare);
    match (compare, wanted) {
        (Compare::Equal, true) => node(high(Compare::Equal), low(rest, Branch::Nothing), Branch::Nothing),
        (Compare::Equal, false) => node(high(Compare::Equal), low(Branch::Nothing, rest.clone()), rest),
        (_, true) => {
            let same = node(high(Compare::Equal), low(rest.clone(), Branch::Nothing), Branch::Nothing);
            node(high(Compare::Greater), rest, Branch::Level(vec![same]))
        }
        (_, false) => {
            let same = node(high(Compare::Equal), low(Branch::Nothing, rest.clone()), rest);
            node(high(Compare::Greater), Branch::Nothing, Branch::Level(vec![same]))
        }
    }
}

impl Test {
    fn same(&self, other: &Test) -> bool {
        (self.argument, self.high, self.compare, self.masked, self.mask, self.datum)
            == (other.argument, other.high, other.compare, other.masked, other.mask, other.datum)
    }

    /// Whether this one is tried after the other.
    fn after(&self, other: &Test) -> bool {
        let class = |op| match op {
            SeccompOperator::Equal | SeccompOperator::NotEqual | SeccompOperator::MaskedEqual => 3,
            SeccompOperator::Less | SeccompOperator::LessOrEqual => 2,
            SeccompOperator::Greater | SeccompOperator::GreaterOrEqual => 1,
        };
        let key = |test: &Test| (test.argument, test.high, class(test.origin));
        key(self) < key(other)
            || key(self) == key(other)
                && match self.origin {
                    SeccompOperator::Less | SeccompOperator::LessOrEqual => self.datum > other.datum,
                    _ => self.datum < other.datum,
                }
    }
}

fn insert(level: &mut Vec<Node>, new: Node) -> Result<(), Contradiction> {
    for (at, known) in level.iter_mut().enumerate() {
        if known.test.same(&new.test) {
            return known.merge(new);
        }
        if known.test.after(&new.test) {
            level.insert(at, new);
            return Ok(());
        }
    }
    level.push(new);
    Ok(())
}

impl Branch {
    /// Whether no other action than this one is below.
    fn only(&self, action: u32) -> bool {
        match self {
            Branch::Nothing => true,
            Branch::Action(known) => *known == action,
            Branch::Level(nodes) => nodes.iter().all(|node| node.yes.only(action) && node.no.only(action)),
        }
    }
}

impl Node {
    fn is_leaf(&self) -> bool {
        !matches!(self.yes, Branch::Level(_)) && !matches!(self.no, Branch::Level(_))
    }

    /// Adds what another rule does after the same comparison.
    fn merge(&mut self, new: Node) -> Result<(), Contradiction> {
        self.bound = self.bound.min(new.bound);
        let leaf = self.is_leaf() || new.is_leaf();
        let high = new.test.high;
        let (more, less) = (new.test.whole > self.test.whole, new.test.whole < self.test.whole);
        for (mine, theirs, wins) in [(&mut self.yes, &new.yes, more), (&mut self.no, &new.no, less)] {
            let Branch::Action(action) = theirs else { continue };
            match mine {
                Branch::Action(known) if known == action => {}
                // Of two ranges that begin in the same high word, the narrower one has what is beyond.
                Branch::Action(known) => {
                    if high && wins {
                        *known = *action;
                    }
                    if leaf {
                        return Err(Contradiction);
                    }
                }
                below if below.only(*action) => *below = Branch::Action(*action),
                _ => return Err(Contradiction),
            }
        }
        for (mine, theirs) in [(&mut self.yes, new.yes), (&mut self.no, new.no)] {
            let Branch::Level(nodes) = theirs else { continue };
            match mine {
                Branch::Level(known) => nodes.into_iter().try_for_each(|node| insert(known, node))?,
                Branch::Nothing => *mine = Branch::Level(nodes),
                // The known rule asks less: the new one has nothing to add, but what lies below the known bound.
                Branch::Action(_) if new.test.whole > self.bound => return Ok(()),
                Branch::Action(_) => {}
            }
        }
        Ok(())
    }
}

fn level(program: &mut Program, nodes: &[Node], missed: Target) -> Target {
    nodes.iter().rev().fold(missed, |next, node| {
        let yes = branch(program, &node.yes, next);
        let no = branch(program, &node.no, next);
        let Test { argument, high, compare, mask, datum, .. } = node.test;
        if mask == 0 {
            return yes;
        }
        let mut decided = program.compare(compare, datum, yes, no);
        if yes == no {
            return decided;
        }
        if mask != u32::MAX {
            decided = program.and(mask, decided);
        }
        program.load(if high { bpf::high(argument) } else { bpf::low(argument) }, decided)
    })
}

fn branch(program: &mut Program, branch: &Branch, missed: Target) -> Target {
    match branch {
        Branch::Nothing => missed,
        Branch::Action(action) => Target::Return(*action),
        Branch::Level(nodes) => level(program, nodes, missed),
    }
}
