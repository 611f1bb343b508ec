//! What libseccomp 2.5 makes of the rules for a call, and what it was to make of them.
//!
//! Its `db.c` keeps a tree of comparisons for each call. This is that tree with that library's faults, or without those
//! that one wants to do without ([`Faults`]): with all of them it answers as libseccomp does, with none as orlop does.
//! So no difference between the two is left to be judged by its looks.
//!
//! The comparisons of one level hang on each other; a call that none of them decides goes on where the level above was
//! left. Nodes are counted as libseccomp counts them, for what it removes depends on that.

use std::collections::BTreeMap;

use orlop::seccomp::Abi;
use specconv::{SeccompArg, SeccompOperator};

use crate::cbpf::Data;

/// What is wrong in libseccomp's `db.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `_db_rule_gen_64` lets the comparisons of a rule share what follows them. `_db_tree_add` then hangs one node
    /// into two levels, and what is added to the one place also stands in the other, where nobody asked for it.
    Shared,
    /// `_db_tree_add` writes the action of the narrower of two ranges below a value to the wrong member; put right on
    /// 2026-06-22 by commit 5404f5c2a6bf, in no release yet.
    Mistyped,
    /// `_db_tree_add` is done where the known rule decides all larger high words, and leaves out what the new one asks
    /// of the same high word.
    Shortened,
    /// `_db_tree_prune` compares the actions of two rules only where both end: a rule of several conditions passes for
    /// one that a known rule makes redundant, and is dropped, or takes rules with it that say something else.
    Pruned,
}

/// Which faults there are.
#[derive(Debug, Clone, Copy)]
pub struct Faults(u8);

impl Faults {
    pub const ALL: [Fault; 4] = [Fault::Shared, Fault::Mistyped, Fault::Shortened, Fault::Pruned];

    pub fn of(faults: &[Fault]) -> Faults {
        Faults(faults.iter().fold(0, |set, fault| set | 1 << *fault as u8))
    }

    fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u8 != 0
    }
}

/// Why there is no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Two rules contradict each other.
    Exists,
    /// It goes round in circles.
    Stuck,
    /// It uses memory that it has freed: nobody knows what comes of that.
    Freed,
}

/// A rule as libseccomp gets it: conditions that hold together, sorted by argument.
pub struct Rule<'a> {
    pub name: &'a str,
    pub action: u32,
    pub conditions: Vec<SeccompArg>,
}

/// The calls that there are rules for.
pub struct Database {
    /// By architecture and number.
    calls: BTreeMap<(u32, u32), Call>,
    /// Those that an interface does not have: they do nothing, but may not contradict each other.
    absent: Vec<Call>,
    default: u32,
}

impl Database {
    /// Adds the rules one by one, each for all interfaces.
    pub fn build(rules: &[Rule<'_>], interfaces: &[&str], default: u32, faults: Faults) -> Result<Database, Trouble> {
        let mut calls = BTreeMap::new();
        let mut absent = BTreeMap::new();
        for Rule { name, action, conditions } in rules {
            for interface in interfaces {
                let abi = Abi::named(interface).unwrap();
                let new = || Call::new(wide(interface), faults);
                let own = abi.number_of(name);
                let multiplexed = multiplexed(name).filter(|_| *interface == "SCMP_ARCH_X86");
                if let Some((number, which)) = multiplexed {
                    let which = SeccompArg { index: 0, value: which, value_two: 0, op: SeccompOperator::Equal };
                    let others = conditions.iter().filter(|asked| asked.index != 0);
                    let conditions: Vec<_> = std::iter::once(&which).chain(others).copied().collect();
                    calls.entry((abi.audit(), number)).or_insert_with(new).add(&conditions, *action)?;
                }
                match own {
                    Some(number) => calls.entry((abi.audit(), number)).or_insert_with(new).add(conditions, *action)?,
                    None if *interface == "SCMP_ARCH_X86" && multiplexed.is_none() => {}
                    None => absent.entry((*interface, *name)).or_insert_with(new).add(conditions, *action)?,
                }
            }
        }
        Ok(Database { calls, absent: absent.into_values().collect(), default })
    }

    /// What becomes of a call; `None` where no rule is about it, whatever it asks.
    pub fn answer(&self, data: &Data) -> Result<Option<u32>, Trouble> {
        let Some(call) = self.calls.get(&(data.arch, data.number)) else { return Ok(None) };
        Ok(Some(call.answer(data)?.unwrap_or(self.default)))
    }

    /// Whether the trees can be walked to their ends, as `gen_bpf.c` must, and freed.
    pub fn ends(&self) -> bool {
        let walked = |call: &Call| call.head.is_none_or(|head| call.size(head, &mut 20_000_000).is_ok());
        let freed = |call: &Call| {
            let mut call = Call { nodes: call.nodes.clone(), ..*call };
            call.put_level(call.head).is_ok()
        };
        self.calls.values().all(walked) && self.calls.values().chain(&self.absent).all(freed)
    }
}

/// Whether the arguments of an interface have 64 bits.
pub fn wide(interface: &str) -> bool {
    matches!(interface, "SCMP_ARCH_X86_64" | "SCMP_ARCH_AARCH64" | "SCMP_ARCH_RISCV64")
}

/// Through which call of x86, and as what, a call is made there too (linux/net.h, linux/ipc.h).
fn multiplexed(name: &str) -> Option<(u32, u64)> {
    let (call, which) = match name {
        "socket" => (102, 1),
        "bind" => (102, 2),
        "connect" => (102, 3),
        "accept" => (102, 5),
        "recvmmsg" => (102, 19),
        "semop" => (117, 1),
        "shmctl" => (117, 24),
        _ => return None,
    };
    Some((call, which))
}

type Id = usize;

/// What a node compares, and how its answer is found: `[no, yes]`.
#[derive(Debug, Clone)]
struct Node {
    argument: u32,
    high: bool,
    compare: Compare,
    mask: u32,
    datum: u32,
    origin: SeccompOperator,
    /// All of the value asked for.
    whole: u64,
    /// The smallest value asked for by a rule that ends with `yes`.
    bound: u64,
    decides: [bool; 2],
    action: [u32; 2],
    below: [Option<Id>; 2],
    before: Option<Id>,
    after: Option<Id>,
    references: usize,
    freed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Masked,
    Greater,
    GreaterOrEqual,
}

/// Who points to a level.
#[derive(Debug, Clone, Copy)]
enum Place {
    Top,
    Below(Id, bool),
}

/// The rules of one call.
struct Call {
    wide: bool,
    faults: Faults,
    nodes: Vec<Node>,
    head: Option<Id>,
    /// The action of a rule that asks nothing.
    always: Option<u32>,
    freed: usize,
    /// How many steps are left before this is taken for a circle.
    fuel: usize,
}

/// What follows a condition.
#[derive(Clone, Copy)]
enum Rest {
    Action(u32),
    Level(Id),
}

/// What `_db_tree_prune` has found out.
mod found {
    pub const MATCH: u32 = 1;
    pub const MATCHED_ONCE: u32 = 2;
    pub const KNOWN_ENDS: u32 = 4;
    pub const NEW_ENDS: u32 = 8;
    pub const KNOWN_BEGINS_EARLIER: u32 = 16;
    pub const NEW_BEGINS_EARLIER: u32 = 32;
}

impl Call {
    fn new(wide: bool, faults: Faults) -> Call {
        Call { wide, faults, nodes: Vec::new(), head: None, always: None, freed: 0, fuel: 20_000_000 }
    }

    /// `db_rule_add`.
    fn add(&mut self, conditions: &[SeccompArg], action: u32) -> Result<(), Trouble> {
        if self.always.is_some() {
            return Ok(());
        }
        let new = match self.chain(conditions, action) {
            Rest::Action(action) => {
                (self.head, self.always) = (None, Some(action));
                return Ok(());
            }
            Rest::Level(new) => new,
        };
        self.nodes[new].references = 1;
        if self.head.is_none() {
            self.head = Some(new);
            return Ok(());
        }
        if self.faults.has(Fault::Pruned) {
            let (mut state, before) = (0, self.freed);
            self.prune(self.head, Some(new), &mut state, action)?;
            let redundant = found::MATCH | found::KNOWN_ENDS | found::NEW_BEGINS_EARLIER;
            if self.freed > before && self.head.is_none() {
                self.head = Some(new);
                return Ok(());
            }
            if self.freed == before && state & redundant == redundant {
                return self.put_level(Some(new));
            }
        }
        self.merge(Place::Top, new)?;
        self.put_level(Some(new))
    }

    /// `_db_rule_gen_32` and `_db_rule_gen_64`: the comparisons of a rule.
    fn chain(&mut self, conditions: &[SeccompArg], action: u32) -> Rest {
        let Some((asked, rest)) = conditions.split_first() else { return Rest::Action(action) };
        let most = if self.wide { u64::MAX } else { 0xffff_ffff };
        if asked.op == SeccompOperator::MaskedEqual && asked.value & most == 0 {
            return self.chain(rest, action);
        }
        use SeccompOperator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
        let (compare, wanted) = match asked.op {
            Equal => (Compare::Equal, true),
            NotEqual => (Compare::Equal, false),
            MaskedEqual => (Compare::Masked, true),
            GreaterOrEqual => (Compare::GreaterOrEqual, true),
            Less => (Compare::GreaterOrEqual, false),
            Greater => (Compare::Greater, true),
            LessOrEqual => (Compare::Greater, false),
        };
        let first = self.chain(rest, action);
        let low = self.node(asked, false, compare);
        self.follow(low, wanted, first);
        if !self.wide {
            return Rest::Level(low);
        }
        let second = if self.faults.has(Fault::Shared) { first } else { self.chain(rest, action) };
        let same = self.node(asked, true, if compare == Compare::Masked { compare } else { Compare::Equal });
        self.follow(same, true, Rest::Level(low));
        Rest::Level(match asked.op {
            Equal | MaskedEqual => same,
            NotEqual => {
                self.follow(same, false, second);
                same
            }
            Less | LessOrEqual | Greater | GreaterOrEqual => {
                let more = self.node(asked, true, Compare::Greater);
                self.follow(if wanted { more } else { same }, wanted, second);
                self.follow(more, false, Rest::Level(same));
                more
            }
        })
    }

    fn node(&mut self, asked: &SeccompArg, high: bool, compare: Compare) -> Id {
        let masked = asked.op == SeccompOperator::MaskedEqual;
        let (mask, datum) = if masked { (asked.value, asked.value_two) } else { (u64::MAX, asked.value) };
        let word = |value: u64| if high { (value >> 32) as u32 } else { value as u32 };
        self.nodes.push(Node {
            argument: asked.index,
            high,
            compare,
            mask: word(mask),
            datum: word(datum) & word(mask),
            origin: asked.op,
            whole: datum,
            bound: u64::MAX,
            decides: [false; 2],
            action: [0; 2],
            below: [None; 2],
            before: None,
            after: None,
            references: 0,
            freed: false,
        });
        self.nodes.len() - 1
    }

    fn follow(&mut self, at: Id, answer: bool, rest: Rest) {
        let node = &mut self.nodes[at];
        match rest {
            Rest::Action(action) => {
                node.decides[usize::from(answer)] = true;
                node.action[usize::from(answer)] = action;
                if answer {
                    node.bound = node.whole;
                }
            }
            Rest::Level(level) => {
                node.below[usize::from(answer)] = Some(level);
                self.nodes[level].references += 1;
            }
        }
    }

    /// Goes to a node.
    fn step(&mut self, to: Id) -> Result<(), Trouble> {
        if self.nodes[to].freed {
            return Err(Trouble::Freed);
        }
        self.fuel = self.fuel.checked_sub(1).ok_or(Trouble::Stuck)?;
        Ok(())
    }

    fn same(&self, a: Id, b: Id) -> bool {
        let key = |id: Id| {
            let Node { argument, high, compare, datum, mask, .. } = self.nodes[id];
            (argument, high, compare, datum, mask)
        };
        key(a) == key(b)
    }

    /// Whether `a` is tried after `b`.
    fn later(&self, a: Id, b: Id) -> bool {
        use SeccompOperator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
        let rank = |id: Id| {
            let Node { argument, high, origin, datum, .. } = self.nodes[id];
            match origin {
                Equal | NotEqual | MaskedEqual => (argument, high, 3, datum),
                Less | LessOrEqual => (argument, high, 2, u32::MAX - datum),
                Greater | GreaterOrEqual => (argument, high, 1, datum),
            }
        };
        rank(a) < rank(b)
    }

    fn is_leaf(&self, id: Id) -> bool {
        self.nodes[id].below == [None; 2]
    }

    fn first(&mut self, mut id: Id) -> Result<Id, Trouble> {
        while let Some(before) = self.nodes[id].before {
            self.step(before)?;
            id = before;
        }
        Ok(id)
    }

    fn at(&self, place: Place) -> Option<Id> {
        match place {
            Place::Top => self.head,
            Place::Below(id, answer) => self.nodes[id].below[usize::from(answer)],
        }
    }

    fn set(&mut self, place: Place, to: Option<Id>) {
        match place {
            Place::Top => self.head = to,
            Place::Below(id, answer) => self.nodes[id].below[usize::from(answer)] = to,
        }
    }

    fn get(&mut self, id: Id) -> Option<Id> {
        self.nodes[id].references += 1;
        Some(id)
    }

    /// `_db_node_put`: where the node was freed, what its neighbours leave in its stead.
    fn put(&mut self, id: Option<Id>) -> Result<Option<Id>, Trouble> {
        let Some(id) = id else { return Ok(None) };
        self.step(id)?;
        self.nodes[id].references = self.nodes[id].references.wrapping_sub(1);
        if self.nodes[id].references > 0 {
            return Ok(Some(id));
        }
        let Node { before, after, below, .. } = self.nodes[id];
        if let Some(before) = before {
            self.nodes[before].after = None;
        }
        if let Some(after) = after {
            self.nodes[after].before = None;
        }
        let (before, after) = (self.put(before)?, self.put(after)?);
        if let Some(before) = before {
            self.nodes[before].after = after.and_then(|after| self.get(after));
        }
        if let Some(after) = after {
            self.nodes[after].before = before.and_then(|before| self.get(before));
        }
        self.put_level(below[1])?;
        self.put_level(below[0])?;
        self.nodes[id].freed = true;
        self.freed += 1;
        Ok(before.or(after))
    }

    /// `_db_tree_put`: a level that nobody points to any more goes whole.
    fn put_level(&mut self, id: Option<Id>) -> Result<(), Trouble> {
        let Some(left) = self.put(id)? else { return Ok(()) };
        let first = self.first(left)?;
        let mut at = Some(first);
        while let Some(id) = at {
            self.step(id)?;
            let Node { before, after, references, .. } = self.nodes[id];
            if references > usize::from(before.is_some()) + usize::from(after.is_some()) {
                return Ok(());
            }
            at = after;
        }
        let mut at = Some(first);
        while at.is_some() {
            at = self.put(at)?;
        }
        Ok(())
    }

    /// `_db_tree_remove`.
    fn remove(&mut self, place: Place, id: Id) -> Result<(), Trouble> {
        let Some(at) = self.at(place) else { return Ok(()) };
        let freed = self.freed;
        let mut at = self.first(at)?;
        loop {
            self.step(at)?;
            if at == id {
                break;
            }
            self.remove(Place::Below(at, true), id)?;
            self.remove(Place::Below(at, false), id)?;
            if self.is_leaf(at) && self.nodes[at].decides == [false; 2] {
                break;
            }
            match self.nodes[at].after {
                Some(after) if self.freed == freed => at = after,
                _ => return Ok(()),
            }
        }
        let (before, after) = (self.nodes[at].before.take(), self.nodes[at].after.take());
        if self.at(place) == Some(at) {
            self.set(place, before.or(after));
        }
        if let Some(before) = before {
            self.nodes[before].after = after;
        }
        if let Some(after) = after {
            self.nodes[after].before = before;
        }
        self.put(Some(at)).map(|_| ())
    }

    /// `_db_tree_act_check`: whether this level and all below has no other action.
    fn only(&mut self, level: Option<Id>, action: u32) -> Result<bool, Trouble> {
        let Some(id) = level else { return Ok(true) };
        let mut at = Some(self.first(id)?);
        while let Some(id) = at {
            self.step(id)?;
            let Node { decides, action: known, below, after, .. } = self.nodes[id];
            if (0..2).any(|answer| decides[answer] && known[answer] != action) {
                return Ok(false);
            }
            if !self.only(below[1], action)? || !self.only(below[0], action)? {
                return Ok(false);
            }
            at = after;
        }
        Ok(true)
    }

    /// `_db_tree_prune`: looks for rules of the same action of which one contains the other.
    fn prune(&mut self, known: Option<Id>, new: Option<Id>, state: &mut u32, action: u32) -> Result<(), Trouble> {
        let mut own = *state;
        if let (Some(known), Some(new)) = (known, new)
            && *state & (found::MATCH | found::MATCHED_ONCE) != found::MATCHED_ONCE
            && self.prune_level(known, new, *state, &mut own, action)?
        {
            own &= !found::MATCH;
        }
        if own & found::MATCH != 0 {
            *state |= own;
        } else {
            *state &= !found::MATCH;
        }
        Ok(())
    }

    /// Whether it went through all of the level.
    fn prune_level(&mut self, known: Id, new: Id, state: u32, own: &mut u32, action: u32) -> Result<bool, Trouble> {
        let mut at = Some(self.first(known)?);
        while let Some(known) = at {
            self.step(known)?;
            at = self.nodes[known].after;
            if self.same(known, new) {
                if self.prune_below_same(known, new, state, own, action)? {
                    return Ok(false);
                }
                continue;
            }
            let known_first = self.later(known, new);
            let (never, now, through) = if known_first {
                (found::NEW_BEGINS_EARLIER, found::KNOWN_BEGINS_EARLIER, known)
            } else {
                (found::KNOWN_BEGINS_EARLIER, found::NEW_BEGINS_EARLIER, new)
            };
            if state & never != 0 {
                return Ok(false);
            }
            let mut known = known;
            for answer in [1, 0] {
                let through = if known_first { known } else { through };
                let Some(below) = self.nodes[through].below[answer] else { continue };
                let mut next = state & !found::MATCH | now;
                self.get(known);
                let (x, n) = if known_first { (below, new) } else { (known, below) };
                self.prune(Some(x), Some(n), &mut next, action)?;
                let left = self.put(Some(known))?;
                if next & found::MATCH != 0 {
                    *own |= next;
                    return Ok(false);
                }
                match left {
                    Some(left) => known = left,
                    None => break,
                }
            }
        }
        Ok(true)
    }

    /// Whether there is nothing more to look for on this level.
    fn prune_below_same(
        &mut self,
        mut known: Id,
        new: Id,
        state: u32,
        own: &mut u32,
        action: u32,
    ) -> Result<bool, Trouble> {
        *own |= found::MATCH | found::MATCHED_ONCE;
        if self.is_leaf(new) {
            *own |= found::NEW_ENDS;
        }
        if self.is_leaf(known) {
            *own |= found::KNOWN_ENDS;
        }
        let (a, b) = (&self.nodes[known], &self.nodes[new]);
        let says = |node: &Node, answer: usize| node.decides[answer] || node.below[answer].is_some();
        if (0..2).any(|answer| says(a, answer) && !says(b, answer)) {
            return Ok(true);
        }
        let ends = found::NEW_ENDS | found::KNOWN_ENDS;
        if *own & ends == ends && (a.decides, a.action) != (b.decides, b.action) {
            return Ok(true);
        }
        for answer in [1, 0] {
            let Some(below) = self.nodes[new].below[answer] else { continue };
            let mut next = state | found::MATCH | found::MATCHED_ONCE;
            self.get(known);
            self.prune(self.nodes[known].below[answer], Some(below), &mut next, action)?;
            let left = self.put(Some(known))?;
            if next & found::MATCH != 0 {
                *own |= next;
            }
            match left {
                Some(left) => known = left,
                None => return Ok(false),
            }
        }
        let shorter = found::MATCH | found::NEW_ENDS | found::KNOWN_BEGINS_EARLIER;
        let longer = found::MATCH | found::KNOWN_ENDS | found::NEW_BEGINS_EARLIER;
        if !self.only(Some(known), action)? {
            return Ok(false);
        }
        if *own & shorter == shorter {
            self.remove(Place::Top, known)?;
            return Ok(self.head.is_none());
        }
        Ok(*own & longer == longer)
    }

    /// `_db_tree_add`.
    fn merge(&mut self, place: Place, new: Id) -> Result<(), Trouble> {
        let Some(mut known) = self.at(place) else { return Ok(()) };
        loop {
            self.step(known)?;
            if self.same(known, new) {
                return self.merge_same(known, new);
            }
            if self.later(known, new) {
                break;
            }
            match self.nodes[known].after {
                Some(after) => known = after,
                None => {
                    self.nodes[new].before = self.get(known);
                    self.nodes[known].after = self.get(new);
                    return Ok(());
                }
            }
        }
        match self.nodes[known].before {
            Some(before) => {
                self.nodes[before].after = self.get(new);
                self.nodes[new].before = Some(before);
                self.nodes[known].before = self.get(new);
                self.nodes[new].after = Some(known);
            }
            None => {
                self.nodes[known].before = self.get(new);
                self.nodes[new].after = self.get(known);
            }
        }
        if self.at(place) == Some(known) {
            let new = self.get(new);
            self.set(place, new);
            self.put(Some(known))?;
        }
        Ok(())
    }

    fn merge_same(&mut self, known: Id, new: Id) -> Result<(), Trouble> {
        let leaf = self.is_leaf(known) || self.is_leaf(new);
        let Node { decides, action, below, high, origin, whole, bound, .. } = self.nodes[new];
        let old = self.nodes[known].whole;
        self.nodes[known].bound = self.nodes[known].bound.min(bound);
        for answer in [1, 0] {
            if !decides[answer] {
                continue;
            }
            if !self.nodes[known].decides[answer] {
                if !self.only(self.nodes[known].below[answer], action[answer])? {
                    return Err(Trouble::Exists);
                }
                self.put(self.nodes[known].below[answer])?;
                let known = &mut self.nodes[known];
                known.below[answer] = None;
                known.action[answer] = action[answer];
                known.decides[answer] = true;
            } else if self.nodes[known].action[answer] != action[answer] {
                // Of two values to differ from, none is the narrower.
                let mistyped = self.faults.has(Fault::Mistyped);
                let narrower = match answer {
                    1 => whole > old,
                    _ => whole < old && (mistyped || origin != SeccompOperator::NotEqual),
                };
                if high && narrower {
                    let to = if mistyped { 1 } else { answer };
                    self.nodes[known].action[to] = action[to];
                }
                if leaf || self.is_leaf(known) {
                    return Err(Trouble::Exists);
                }
            }
        }
        for answer in [1, 0] {
            let Some(level) = below[answer] else { continue };
            let Node { decides, below, bound, .. } = self.nodes[known];
            if below[answer].is_some() {
                self.merge(Place::Below(known, answer == 1), level)?;
            } else if !decides[answer] {
                self.nodes[known].below[answer] = self.get(level);
            } else if self.faults.has(Fault::Shortened) || whole > bound {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the rules answer, where one of them matches.
    fn answer(&self, data: &Data) -> Result<Option<u32>, Trouble> {
        if self.always.is_some() {
            return Ok(self.always);
        }
        self.head.map_or(Ok(None), |head| self.answer_below(head, data, &mut 100_000))
    }

    fn answer_below(&self, level: Id, data: &Data, fuel: &mut usize) -> Result<Option<u32>, Trouble> {
        let mut at = Some(self.first_of(level, fuel)?);
        while let Some(id) = at {
            *fuel = fuel.checked_sub(1).ok_or(Trouble::Stuck)?;
            let Node { argument, high, compare, mask, datum, decides, action, below, after, .. } = self.nodes[id];
            let is = (data.args[argument as usize] >> if high { 32 } else { 0 }) as u32 & mask;
            let answer = usize::from(match compare {
                Compare::Equal | Compare::Masked => is == datum,
                Compare::Greater => is > datum,
                Compare::GreaterOrEqual => is >= datum,
            });
            if let Some(below) = below[answer] {
                if let Some(found) = self.answer_below(below, data, fuel)? {
                    return Ok(Some(found));
                }
            } else if decides[answer] {
                return Ok(Some(action[answer]));
            }
            at = after;
        }
        Ok(None)
    }

    fn first_of(&self, mut id: Id, fuel: &mut usize) -> Result<Id, Trouble> {
        while let Some(before) = self.nodes[id].before {
            *fuel = fuel.checked_sub(1).ok_or(Trouble::Stuck)?;
            id = before;
        }
        Ok(id)
    }

    /// Walks all of a level and what is below it, as often as something leads there.
    fn size(&self, level: Id, fuel: &mut usize) -> Result<(), Trouble> {
        let mut at = Some(self.first_of(level, fuel)?);
        while let Some(id) = at {
            *fuel = fuel.checked_sub(1).ok_or(Trouble::Stuck)?;
            let Node { below, after, .. } = self.nodes[id];
            below.into_iter().flatten().try_for_each(|below| self.size(below, fuel))?;
            at = after;
        }
        Ok(())
    }
}
