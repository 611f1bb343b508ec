#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::os::fd::AsFd;

use super::*;

/// A request as the kernel makes it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: Kind,
    major: u32,
    minor: u32,
    access: u8,
}

/// What the specification says, in the plainest words: right by right, the last rule that speaks decides.
fn means(rules: &Rules, asked: Asked) -> bool {
    [READ, WRITE, MKNOD].into_iter().filter(|right| asked.access & right != 0).all(|right| {
        let speaks = |rule: &&Rule| {
            let Devices { kind, major, minor } = rule.devices;
            rule.access & right != 0
                && kind.is_none_or(|kind| kind == asked.kind)
                && major.is_none_or(|major| major == asked.major)
                && minor.is_none_or(|minor| minor == asked.minor)
        };
        rules.0.iter().rev().find(speaks).is_some_and(|rule| rule.allow)
    })
}

/// Runs a program as the kernel does.
fn run(program: &[Instruction], asked: Asked) -> bool {
    let context = [u32::from(asked.access) << 16 | asked.kind as u32, asked.major, asked.minor];
    let mut registers = [0_u64; 11];
    let mut at = 0_usize;
    loop {
        let instruction = program[at];
        let (to, from) = (usize::from(instruction.destination()), usize::from(instruction.source()));
        let immediate = i64::from(instruction.immediate).cast_unsigned();
        at += 1;
        let jump = match instruction.code {
            0x61 => {
                assert_eq!(from, 1, "loads are from the context");
                registers[to] = u64::from(context[usize::try_from(instruction.offset).unwrap() / 4]);
                false
            }
            0xb7 => {
                registers[to] = immediate;
                false
            }
            0xbf => {
                registers[to] = registers[from];
                false
            }
            0x57 => {
                registers[to] &= immediate;
                false
            }
            0x77 => {
                registers[to] >>= immediate;
                false
            }
            0x15 => registers[to] == immediate,
            0x55 => registers[to] != immediate,
            0x95 => return registers[0] == 1,
            code => panic!("no such instruction: {code:#x}"),
        };
        if jump {
            at = at.checked_add_signed(isize::from(instruction.offset)).unwrap();
        }
    }
}

/// What a devices cgroup of v1 with these lines does (security/device_cgroup.c): match_exception for an allowing
/// list wants all rights in one exception, match_exception_partial for a denying one wants any.
fn v1_decides(writes: &[Write], asked: Asked) -> bool {
    let mut allow = true;
    let mut exceptions: Vec<(Devices, u8)> = Vec::new();
    for write in writes {
        let allowing = write.file == "devices.allow";
        if write.value.starts_with('a') {
            allow = allowing;
            exceptions.clear();
            continue;
        }
        let (devices, access) = parse(&write.value).unwrap().into_iter().next().unwrap();
        let known = exceptions.iter_mut().find(|(known, _)| *known == devices);
        match (allowing == allow, known) {
            (false, Some((_, known))) => *known |= access,
            (false, None) => exceptions.push((devices, access)),
            (true, Some((_, known))) => *known &= !access,
            (true, None) => {}
        }
    }
    let this = Devices { kind: Some(asked.kind), major: Some(asked.major), minor: Some(asked.minor) };
    let mut matching = exceptions.iter().filter(|(devices, _)| devices.covers(&this));
    if allow {
        !matching.any(|(_, access)| access & asked.access != 0)
    } else {
        matching.any(|(_, access)| asked.access & !access == 0)
    }
}

/// A small generator (xorshift64): tests must fail the same way twice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn number(&mut self, any: bool) -> Option<u32> {
        match self.roll(if any { 6 } else { 5 }) {
            0 => Some(1),
            1 => Some(3),
            2 => Some(5),
            3 => Some(136),
            4 => Some(0xffff_ffff),
            _ => None,
        }
    }

    fn rule(&mut self, index: usize) -> DeviceRule {
        let kind = match self.roll(5) {
            0 => None,
            1 | 2 => Some(DeviceKind::Char),
            _ => Some(DeviceKind::Block),
        };
        let (major, minor) = (self.number(true), self.number(true));
        let bits = self.roll(10);
        let access = DeviceAccess { read: bits & 1 != 0 || bits > 7, write: bits & 2 != 0, mknod: bits & 4 != 0 };
        if self.roll(8) == 0 {
            let access = DeviceAccess { read: true, write: true, mknod: true };
            return DeviceRule { index, allow: self.roll(2) == 0, kind: None, major: None, minor: None, access };
        }
        DeviceRule { index, allow: self.roll(2) == 0, kind, major, minor, access }
    }

    fn asked(&mut self) -> Asked {
        let kind = if self.roll(2) == 0 { Kind::Block } else { Kind::Char };
        let number = |dice: &mut Self| dice.number(false).filter(|number| *number < 4096).unwrap_or(7);
        let (major, minor) = (number(self), number(self));
        let access = u8::try_from(self.roll(7)).unwrap() + 1;
        Asked { kind, major, minor, access }
    }

    fn rules(&mut self) -> Rules {
        let count = usize::try_from(self.roll(9)).unwrap();
        let rules: Vec<DeviceRule> = (0..count).map(|index| self.rule(index)).collect();
        let mut rules = Rules::new(&rules).unwrap();
        if self.roll(2) == 0 {
            // Without the default ones, so that they do not hide what the others do.
            rules.0.truncate(count);
        }
        rules
    }
}

#[test]
fn program_says_what_the_rules_say() {
    let mut dice = Dice(0x5eed_0001);
    for _ in 0..2000 {
        let rules = dice.rules();
        let program = rules.program();
        for _ in 0..20 {
            let asked = dice.asked();
            assert_eq!(run(&program, asked), means(&rules, asked), "{rules:?} {asked:?}");
            assert!(!rules.allow_all() || means(&rules, asked), "{rules:?}");
        }
    }
}

#[test]
fn v1_says_what_the_rules_say_or_refuses() {
    let mut dice = Dice(0x5eed_0002);
    let (mut said, mut refused) = (0, 0);
    for _ in 0..2000 {
        let rules = dice.rules();
        let Ok(list) = rules.list() else {
            refused += 1;
            continue;
        };
        said += 1;
        let (writes, program) = (list.writes(), rules.program());
        for _ in 0..20 {
            let asked = dice.asked();
            let v1 = v1_decides(&writes, asked);
            // Never more than asked for; less only where two crossing wildcards share a request for two rights.
            assert!(!v1 || means(&rules, asked), "{rules:?} {asked:?} {writes:?}");
            if asked.access.count_ones() == 1 {
                assert_eq!(v1, run(&program, asked), "{rules:?} {asked:?} {writes:?}");
            }
        }
    }
    assert!(said > 400 && refused > 50, "{said} {refused}");
}

#[test]
fn v1_moves_from_one_list_to_another() {
    let mut dice = Dice(0x5eed_0003);
    let mut moved = 0;
    for _ in 0..2000 {
        let (Ok(old), Ok(new)) = (dice.rules().list(), dice.rules().list()) else { continue };
        let shown: String = if old.allow {
            "a *:* rwm\n".to_owned()
        } else {
            old.entries().map(|(devices, access)| format!("{devices} {}\n", letters(access))).collect()
        };
        let mut writes = old.writes();
        let step = new.writes_from(&shown);
        moved += usize::from(!old.allow && !new.allow);
        assert!(old.allow || new.allow || step.iter().all(|write| !write.value.starts_with('a')), "no reset");
        writes.extend(step);
        for _ in 0..10 {
            let asked = dice.asked();
            assert_eq!(v1_decides(&writes, asked), v1_decides(&new.writes(), asked), "{old:?} {new:?} {asked:?}");
        }
    }
    assert!(moved > 200, "{moved}");
}

fn rule(allow: bool, kind: Option<DeviceKind>, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
    let has = |letter| access.contains(letter);
    let access = DeviceAccess { read: has('r'), write: has('w'), mknod: has('m') };
    DeviceRule { index: 0, allow, kind, major, minor, access }
}

const CHAR: Option<DeviceKind> = Some(DeviceKind::Char);
const KMSG: Asked = Asked { kind: Kind::Char, major: 1, minor: 11, access: READ | WRITE };
const NULL: Asked = Asked { kind: Kind::Char, major: 1, minor: 3, access: READ | WRITE };

/// GHSA-g54h-m393-cpwq: an empty list, and one that only allows, deny the rest.
#[test]
fn t30_nothing_is_allowed_by_default() {
    for rules in [vec![], vec![rule(true, CHAR, Some(10), Some(229), "rwm")]] {
        let rules = Rules::new(&rules).unwrap();
        for decides in [run(&rules.program(), KMSG), v1_decides(&rules.list().unwrap().writes(), KMSG)] {
            assert!(!decides);
        }
        assert!(run(&rules.program(), NULL) && v1_decides(&rules.list().unwrap().writes(), NULL));
        assert!(!rules.allow_all());
    }
}

/// A rule that denies one right also stops a request for two (crun and older runc let it through).
#[test]
fn t30_a_denied_right_denies_the_request() {
    let rules = [rule(true, None, None, None, "rwm"), rule(false, CHAR, Some(1), Some(11), "w")];
    let rules = Rules::new(&rules).unwrap();
    assert!(!run(&rules.program(), KMSG));
    assert!(run(&rules.program(), Asked { access: READ, ..KMSG }));
    assert!(!v1_decides(&rules.list().unwrap().writes(), KMSG));
}

#[test]
fn privileged_needs_no_program() {
    let all = rule(true, None, None, None, "rwm");
    let none = rule(false, None, None, None, "rwm");
    assert!(Rules::new(&[none, all]).unwrap().allow_all());
    assert!(!Rules::new(&[all, none]).unwrap().allow_all());
    assert!(!Rules::new(&[all, rule(false, CHAR, Some(4), None, "r")]).unwrap().allow_all());
}

#[test]
fn lines_of_an_ordinary_container() {
    let rules = Rules::new(&[rule(false, None, None, None, "rwm"), rule(true, CHAR, Some(1), Some(5), "r")]).unwrap();
    let writes = rules.list().unwrap().writes();
    let lines: Vec<String> = writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect();
    assert_eq!(lines[0], "devices.deny a *:* rwm");
    assert!(lines.contains(&"devices.allow b *:* m".to_owned()));
    assert!(lines.contains(&"devices.allow c 136:* rwm".to_owned()));
    assert_eq!(lines.len(), 12);
}

/// runtime-tools looks for the config's rules at the head of devices.list, as they are.
#[test]
fn v1_shows_the_rules_in_their_order() {
    let block = Some(DeviceKind::Block);
    let rules = [
        rule(false, None, None, None, "rwm"),
        rule(true, CHAR, Some(10), Some(229), "rwm"),
        rule(true, block, Some(8), Some(20), "rw"),
        rule(true, block, Some(8), Some(21), "rw"),
        rule(false, block, Some(8), Some(21), "rw"),
        rule(true, block, Some(10), Some(200), "r"),
    ];
    let writes = Rules::new(&rules).unwrap().list().unwrap().writes();
    let lines: Vec<&str> = writes.iter().map(|write| write.value.as_str()).collect();
    assert_eq!(lines[..5], ["a *:* rwm", "c 10:229 rwm", "b 8:20 rw", "b 10:200 r", "c *:* m"]);
}

/// The kernel wants both rights of one open(2) in one line.
#[test]
fn v1_joins_the_rights_of_one_request() {
    let rules = [rule(true, CHAR, Some(4), Some(1), "r"), rule(true, CHAR, Some(4), None, "w")];
    let writes = Rules::new(&rules).unwrap().list().unwrap().writes();
    assert_eq!(writes[1].value, "c 4:1 rw");
    assert!(v1_decides(&writes, Asked { kind: Kind::Char, major: 4, minor: 1, access: READ | WRITE }));
}

#[test]
fn a_hole_in_a_wildcard_is_refused_on_v1() {
    let rules = [rule(true, CHAR, Some(4), None, "rw"), rule(false, CHAR, Some(4), Some(64), "r")];
    let rules = Rules::new(&rules).unwrap();
    let refused = rules.list().unwrap_err().to_string();
    assert!(refused.contains("cannot make a hole for \"c 4:64 r\" in \"c 4:* rw\""), "{refused}");
    assert!(!run(&rules.program(), Asked { kind: Kind::Char, major: 4, minor: 64, access: READ }));
    assert!(run(&rules.program(), Asked { kind: Kind::Char, major: 4, minor: 64, access: WRITE }));
}

#[test]
fn a_fifo_is_no_device() {
    let refused = Rules::new(&[rule(true, Some(DeviceKind::Fifo), None, None, "r")]).unwrap_err();
    assert!(refused.to_string().starts_with("linux.resources.devices[0].type: "));
}

/// The kernel's verifier takes what we write, up to many rules.
#[test]
fn the_verifier_accepts_the_programs() {
    if !crate::sys::bpf::missing_rights().is_empty() {
        return;
    }
    let mut dice = Dice(0x5eed_0004);
    for _ in 0..100 {
        let rules = dice.rules();
        crate::sys::bpf::prog_load_cgroup_device(&rules.program()).unwrap_or_else(|no| panic!("{no}: {rules:?}"));
    }
    let many: Vec<DeviceRule> = (0..300).map(|minor| rule(minor % 2 == 0, CHAR, Some(9), Some(minor), "rw")).collect();
    let program = crate::sys::bpf::prog_load_cgroup_device(&Rules::new(&many).unwrap().program()).unwrap();
    let _ = program.as_fd();
}
