//! Random profiles, the same everywhere for the same number.

use specconv::{Seccomp, SeccompAction, SeccompArg, SeccompRule};

use crate::reference::OPERATORS;

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

/// xorshift64*: small, and the same everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn thrown(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, most: usize) -> usize {
        ((self.roll() >> 33) as usize) % most
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
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
    pub fn profile(&mut self) -> Seccomp {
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
