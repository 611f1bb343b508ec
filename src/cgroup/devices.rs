//! Which devices the container may use: the rules of the config, made into lines for cgroup v1 or a program for
//! cgroup v2.
//!
//! The rules are read as the specification has them, in order, from *nothing is allowed*: for every right that
//! is asked for (read, write, mknod) the last rule that matches the device and names the right decides. The
//! default rules come last, so that no config can take /dev/null from a container.
//!
//! Version 1 knows less: a mode (all or nothing) and a list of exceptions. What it cannot say -- a hole in a rule
//! with a wildcard, which the kernel would silently ignore -- is refused (GHSA-g54h-m393-cpwq is what comes of
//! guessing here). Version 2 runs a program, and the program says exactly what the rules say (T30).

use std::collections::BTreeMap;
use std::fmt;

use specconv::{DeviceAccess, DeviceKind, DeviceRule};

use super::write::{Controller, Write};
use crate::error::{Error, Result};
use crate::sys::bpf::Instruction;

/// The field of `config.json`.
pub const FIELD: &str = "linux.resources.devices";

/// Rights as the kernel numbers them (BPF_DEVCG_ACC_*): 1 mknod, 2 read, 4 write.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Kinds as the kernel numbers them (BPF_DEVCG_DEV_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// A set of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Devices {
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
}

/// A rule, as both versions read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    /// Position in the config; `None` for a default rule.
    index: Option<usize>,
    allow: bool,
    devices: Devices,
    access: u8,
}

/// The rules of one container, in order, the default ones at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// What every container may use, whatever the config says: making nodes of any kind; null, zero, full, random,
/// urandom, tty, ptmx, pseudo-terminals, tun (runc's list).
const DEFAULT: [(Kind, Option<u32>, Option<u32>, u8); 11] = [
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ALL),
    (Kind::Char, Some(1), Some(8), ALL),
    (Kind::Char, Some(1), Some(7), ALL),
    (Kind::Char, Some(5), Some(0), ALL),
    (Kind::Char, Some(1), Some(5), ALL),
    (Kind::Char, Some(1), Some(9), ALL),
    (Kind::Char, Some(136), None, ALL),
    (Kind::Char, Some(5), Some(2), ALL),
    (Kind::Char, Some(10), Some(200), ALL),
];

impl Rules {
    /// The rules of a config, with the default ones behind them.
    ///
    /// # Errors
    /// A rule about a FIFO, which is no device.
    pub fn new(rules: &[DeviceRule]) -> Result<Rules> {
        let mut all = Vec::with_capacity(rules.len() + DEFAULT.len());
        for rule in rules {
            let kind = match rule.kind {
                None => None,
                Some(DeviceKind::Char) => Some(Kind::Char),
                Some(DeviceKind::Block) => Some(Kind::Block),
                Some(DeviceKind::Fifo) => {
                    return Err(Error::invalid(format!("{FIELD}[{}].type", rule.index), "a FIFO is no device"));
                }
            };
            let devices = Devices { kind, major: rule.major, minor: rule.minor };
            all.push(Rule { index: Some(rule.index), allow: rule.allow, devices, access: bits(rule.access) });
        }
        all.extend(DEFAULT.map(|(kind, major, minor, access)| Rule {
            index: None,
            allow: true,
            devices: Devices { kind: Some(kind), major, minor },
            access,
        }));
        Ok(Rules(all))
    }

    /// The rules from the last one backwards, as far as they matter: up to one that speaks about everything.
    fn backwards(&self) -> impl Iterator<Item = &Rule> {
        let last = self.0.iter().rposition(Rule::is_about_all).unwrap_or(0);
        self.0.iter().skip(last).rev()
    }

    /// Whether everything is allowed, so that there is nothing to watch.
    pub fn allow_all(&self) -> bool {
        self.backwards().all(|rule| rule.allow) && self.backwards().last().is_some_and(Rule::is_about_all)
    }

    /// The program that decides as the rules do. It answers 1 to allow, 0 to deny.
    pub fn program(&self) -> Vec<Instruction> {
        let mut program = assembler::prologue();
        for rule in self.backwards().filter(|rule| rule.access != 0) {
            program.extend(assembler::rule(rule));
        }
        if !self.0.iter().any(Rule::is_about_all) {
            program.extend(assembler::answer(false));
        }
        program
    }

    /// The list of cgroup v1 that decides as the rules do.
    ///
    /// # Errors
    /// A rule that v1 cannot express.
    pub fn list(&self) -> Result<List> {
        let mut list = List::default();
        for rule in &self.0 {
            list.apply(rule)?;
        }
        Ok(list)
    }
}

impl Rule {
    fn is_about_all(&self) -> bool {
        let Devices { kind, major, minor } = self.devices;
        kind.is_none() && major.is_none() && minor.is_none() && self.access == ALL
    }
}

fn bits(access: DeviceAccess) -> u8 {
    let bit = |given: bool, bit: u8| if given { bit } else { 0 };
    bit(access.mknod, MKNOD) | bit(access.read, READ) | bit(access.write, WRITE)
}

impl Devices {
    fn covers(&self, other: &Devices) -> bool {
        fn within<T: PartialEq>(all: Option<T>, some: Option<T>) -> bool {
            all.is_none() || all == some
        }
        within(self.kind, other.kind) && within(self.major, other.major) && within(self.minor, other.minor)
    }

    fn meets(&self, other: &Devices) -> bool {
        fn both<T: PartialEq>(one: Option<T>, two: Option<T>) -> bool {
            one.is_none() || two.is_none() || one == two
        }
        both(self.kind, other.kind) && both(self.major, other.major) && both(self.minor, other.minor)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            None => 'a',
            Some(Kind::Block) => 'b',
            Some(Kind::Char) => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .into_iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

/// The state of a devices cgroup of v1: a mode, and exceptions from it. The default is to deny everything.
///
/// The exceptions stand in the order of the rules that made them, so that `devices.list` shows the config's rules
/// first and in order (config-linux.md#device-list: "MUST apply entries in the listed order").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    allow: bool,
    exceptions: Vec<(Devices, u8)>,
}

/// Devices that a list treats otherwise than by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Block devices, and not character devices.
    pub is_block: bool,
    /// `None` for all.
    pub major: Option<u32>,
    /// `None` for all.
    pub minor: Option<u32>,
    /// `r`, `w` and `m`, as far as they apply.
    pub access: String,
}

impl List {
    /// Whether what is not excepted is allowed.
    pub fn allows_by_default(&self) -> bool {
        self.allow
    }

    /// What is treated otherwise.
    pub fn exceptions(&self) -> impl Iterator<Item = Exception> + '_ {
        self.entries().map(|(devices, access)| Exception {
            is_block: devices.kind == Some(Kind::Block),
            major: devices.major,
            minor: devices.minor,
            access: letters(access),
        })
    }

    fn apply(&mut self, rule: &Rule) -> Result<()> {
        if rule.is_about_all() {
            *self = List { allow: rule.allow, exceptions: Vec::new() };
            return Ok(());
        }
        // The kernel takes `a` in a line for everything, whatever else the line says.
        for kind in [Kind::Char, Kind::Block] {
            if rule.devices.kind.is_none_or(|asked| asked == kind) && rule.access != 0 {
                let devices = Devices { kind: Some(kind), ..rule.devices };
                if rule.allow == self.allow {
                    self.fill(rule, devices)?;
                } else {
                    match self.exceptions.iter_mut().find(|(known, _)| *known == devices) {
                        Some((_, access)) => *access |= rule.access,
                        None => self.exceptions.push((devices, rule.access)),
                    }
                }
            }
        }
        Ok(())
    }

    /// A rule of the same mind as the mode takes exceptions away.
    fn fill(&mut self, rule: &Rule, devices: Devices) -> Result<()> {
        for (exception, access) in &mut self.exceptions {
            if devices.covers(exception) {
                *access &= !rule.access;
            } else if devices.meets(exception) && *access & rule.access != 0 {
                let place = rule.index.map_or_else(|| "the default rules".to_owned(), |at| format!("{FIELD}[{at}]"));
                let why = format!(
                    "cgroup v1 cannot make a hole for \"{devices} {}\" in \"{exception} {}\", an earlier rule with a \
                     wildcard",
                    letters(rule.access),
                    letters(*access)
                );
                return Err(Error::unsupported(place, why));
            }
        }
        self.exceptions.retain(|(_, access)| *access != 0);
        Ok(())
    }

    /// The exceptions as the kernel must hear them: it grants a request to read and write only where a single
    /// exception has both, so one that has one of them, and lies within a wider one with the other, gets both.
    /// mknod(2) asks for nothing but its own right.
    fn entries(&self) -> impl Iterator<Item = (&Devices, u8)> {
        const OPEN: u8 = READ | WRITE;
        self.exceptions.iter().map(|(devices, own)| {
            if own & OPEN == 0 || own & OPEN == OPEN {
                return (devices, *own);
            }
            let wider = self.exceptions.iter().filter(|(wider, _)| wider.covers(devices));
            (devices, wider.fold(*own, |access, (_, more)| access | more & OPEN))
        })
    }

    /// The lines for a cgroup that has just been made.
    pub fn writes(&self) -> Vec<Write> {
        let mut writes = vec![line(self.allow, "a *:* rwm".to_owned())];
        writes.extend(self.entries().map(|(devices, access)| exception(!self.allow, devices, access)));
        writes
    }

    /// The lines that bring a cgroup from what `devices.list` says to this list, with no moment in which more is
    /// denied or allowed than before or after.
    ///
    /// A cgroup that allows by default does not tell its exceptions; it is taken from the beginning.
    pub fn writes_from(&self, current: &str) -> Vec<Write> {
        let Some(old) = parse(current).filter(|_| !self.allow) else { return self.writes() };
        let new: BTreeMap<&Devices, u8> = self.entries().collect();
        let mut writes = Vec::new();
        for (devices, access) in self.entries() {
            let gained = access & !old.get(devices).copied().unwrap_or(0);
            if gained != 0 {
                writes.push(exception(true, devices, gained));
            }
        }
        for (devices, access) in &old {
            let lost = access & !new.get(devices).copied().unwrap_or(0);
            if lost != 0 {
                writes.push(exception(false, devices, lost));
            }
        }
        writes
    }
}

fn exception(allow: bool, devices: &Devices, access: u8) -> Write {
    line(allow, format!("{devices} {}", letters(access)))
}

fn line(allow: bool, value: String) -> Write {
    let file = if allow { "devices.allow" } else { "devices.deny" };
    Write::new(Controller::V1("devices"), file, value, FIELD)
}

/// Reads `devices.list`; `None` where it allows by default, or is not understood.
fn parse(list: &str) -> Option<BTreeMap<Devices, u8>> {
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse::<u32>().ok().map(Some) };
    let mut exceptions = BTreeMap::new();
    for line in list.lines() {
        let mut words = line.split([' ', ':']);
        let kind = match words.next()? {
            "c" => Kind::Char,
            "b" => Kind::Block,
            _ => return None,
        };
        let (major, minor) = (number(words.next()?)?, number(words.next()?)?);
        let access = words.next()?.chars().try_fold(0, |access, letter| match letter {
            'r' => Some(access | READ),
            'w' => Some(access | WRITE),
            'm' => Some(access | MKNOD),
            _ => None,
        })?;
        *exceptions.entry(Devices { kind: Some(kind), major, minor }).or_default() |= access;
    }
    Some(exceptions)
}

/// What is understood of a `devices.list`, as lines again: for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn understood(list: &str) -> Option<String> {
    Some(parse(list)?.iter().map(|(devices, access)| format!("{devices} {}\n", letters(*access))).collect())
}

/// The few instructions we need (the kernel's bpf/standardization/instruction-set.rst).
mod assembler {
    use super::{ALL, Instruction, Rule};

    const LOAD_WORD: u8 = 0x61;
    const MOVE: u8 = 0xb7;
    const MOVE_REGISTER: u8 = 0xbf;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const JUMP_IF_EQUAL: u8 = 0x15;
    const JUMP_IF_NOT_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;

    const ANSWER: u8 = 0;
    const CONTEXT: u8 = 1;
    const KIND: u8 = 2;
    /// Rights asked for on which no rule has decided yet.
    const OPEN: u8 = 3;
    const MAJOR: u8 = 4;
    const MINOR: u8 = 5;
    const SCRATCH: u8 = 1;

    /// A device number of Linux has 12 bits of major and 20 of minor.
    const LARGEST_MAJOR: u32 = 0xfff;
    const LARGEST_MINOR: u32 = 0xf_ffff;

    /// `struct bpf_cgroup_dev_ctx { access_type: (access << 16) | kind, major, minor }` into registers.
    pub fn prologue() -> Vec<Instruction> {
        vec![
            Instruction::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
            Instruction::new(AND, KIND, 0, 0, 0xffff),
            Instruction::new(LOAD_WORD, OPEN, CONTEXT, 0, 0),
            Instruction::new(SHIFT_RIGHT, OPEN, 0, 0, 16),
            Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
            Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        ]
    }

    pub fn answer(allow: bool) -> [Instruction; 2] {
        [Instruction::new(MOVE, ANSWER, 0, 0, i32::from(allow)), Instruction::new(EXIT, 0, 0, 0, 0)]
    }

    /// One rule, met on the way from the last one to the first: an allowing rule settles the rights it names,
    /// and allows once none is open; a denying one denies where a right that it names is still open.
    pub fn rule(rule: &Rule) -> Vec<Instruction> {
        let (major, minor) = (rule.devices.major, rule.devices.minor);
        if major.is_some_and(|major| major > LARGEST_MAJOR) || minor.is_some_and(|minor| minor > LARGEST_MINOR) {
            return Vec::new();
        }
        let mut decision = Vec::new();
        let access = i32::from(rule.access);
        if rule.access != ALL {
            if rule.allow {
                decision.push(Instruction::new(AND, OPEN, 0, 0, !access));
                decision.push(Instruction::new(JUMP_IF_NOT_EQUAL, OPEN, 0, 2, 0));
            } else {
                decision.push(Instruction::new(MOVE_REGISTER, SCRATCH, OPEN, 0, 0));
                decision.push(Instruction::new(AND, SCRATCH, 0, 0, access));
                decision.push(Instruction::new(JUMP_IF_EQUAL, SCRATCH, 0, 2, 0));
            }
        }
        decision.extend(answer(rule.allow));

        let tests = [
            (KIND, rule.devices.kind.map(|kind| kind as i32)),
            (MAJOR, major.map(u32::cast_signed)),
            (MINOR, minor.map(u32::cast_signed)),
        ];
        let mut block = decision;
        for (register, value) in tests.into_iter().rev() {
            if let Some(value) = value {
                let over = i16::try_from(block.len()).unwrap_or(i16::MAX);
                block.insert(0, Instruction::new(JUMP_IF_NOT_EQUAL, register, 0, over, value));
            }
        }
        block
    }
}

#[cfg(test)]
mod tests;
