//! The binary interfaces of system calls that a filter tells apart, and what their calls are called.

use super::table::{NONE, SYSCALLS};
use crate::error::{Error, Result};

/// Bit of the number that marks a call of x32 (`__X32_SYSCALL_BIT`, asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// One interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Abi {
    /// What profiles call it.
    pub(super) name: &'static str,
    /// Its column in the table of numbers.
    column: usize,
    /// What the kernel calls it (`AUDIT_ARCH_*`, linux/audit.h).
    pub(super) audit: u32,
    /// Whether arguments have 64 bits; x32's have 32.
    pub(super) wide: bool,
    /// Bits that every number has.
    pub(super) base: u32,
    /// Number of the call that stands for all of sockets, where there is one.
    pub(super) socketcall: Option<u32>,
    /// Number of the call that stands for all of System V IPC.
    pub(super) ipc: Option<u32>,
}

const fn abi(name: &'static str, column: usize, audit: u32, wide: bool) -> Abi {
    Abi { name, column, audit, wide, base: 0, socketcall: None, ipc: None }
}

/// Those that we have numbers for: of the machines that orlop is built for, and what else those machines run.
pub(super) static ABIS: [Abi; 6] = [
    abi("SCMP_ARCH_X86_64", 0, 0xC000_003E, true),
    Abi { socketcall: Some(102), ipc: Some(117), ..abi("SCMP_ARCH_X86", 1, 0x4000_0003, false) },
    Abi { base: X32_BIT, ..abi("SCMP_ARCH_X32", 2, 0xC000_003E, false) },
    abi("SCMP_ARCH_AARCH64", 3, 0xC000_00B7, true),
    abi("SCMP_ARCH_ARM", 4, 0x4000_0028, false),
    abi("SCMP_ARCH_RISCV64", 5, 0xC000_00F3, true),
];

/// Architectures whose byte order is not ours.
const BIG_ENDIAN: [&str; 11] = [
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SHEB",
];

impl Abi {
    /// The interface of this name, where we have numbers for it.
    pub fn named(name: &str) -> Option<&'static Abi> {
        ABIS.iter().find(|abi| abi.name == name)
    }

    /// The interface that this program itself uses.
    ///
    /// # Errors
    /// On a machine that we have no numbers for.
    pub fn native() -> Result<&'static Abi> {
        let name = match std::env::consts::ARCH {
            "x86_64" => "SCMP_ARCH_X86_64",
            "aarch64" => "SCMP_ARCH_AARCH64",
            "riscv64" => "SCMP_ARCH_RISCV64",
            "x86" => "SCMP_ARCH_X86",
            "arm" => "SCMP_ARCH_ARM",
            _ => "",
        };
        Abi::named(name).ok_or_else(|| {
            let why = format!("this version of orlop has no system call filter for {}", std::env::consts::ARCH);
            Error::unsupported("linux.seccomp", why)
        })
    }

    /// The call's number, with [`Abi::base`].
    pub(super) fn number(&self, call: &Call) -> Option<u32> {
        let number = call.1.get(self.column).copied().filter(|number| *number != NONE)?;
        Some(number as u32 | self.base)
    }
}

/// Those that the profile is for: the native one always, the others in the order of their names there.
///
/// An architecture without numbers here is left out: it is another machine's, and none of its calls will ever be seen.
///
/// # Errors
/// Those with the other byte order, as in libseccomp: a profile that names one is not for this machine.
pub(super) fn chosen(names: &[String], native: &'static Abi) -> Result<Vec<&'static Abi>> {
    let mut chosen = vec![native];
    for (index, name) in names.iter().enumerate() {
        if BIG_ENDIAN.contains(&name.as_str()) {
            let why = format!("{name} has another byte order than this machine");
            return Err(Error::invalid(format_args!("linux.seccomp.architectures[{index}]"), why));
        }
        if let Some(abi) = Abi::named(name)
            && !chosen.contains(&abi)
        {
            chosen.push(abi);
        }
    }
    Ok(chosen)
}

/// A system call: its name and its numbers.
pub(super) type Call = (&'static str, [i32; ABIS.len()]);

/// The call of this name; a name of libseccomp's list that no machine of ours has is a call without numbers.
pub(super) fn call(name: &str) -> Option<&'static Call> {
    SYSCALLS.binary_search_by(|(known, _)| (*known).cmp(name)).ok().and_then(|at| SYSCALLS.get(at))
}

/// A call that is also made through another one, with its own number there as the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiplexed {
    /// Through socketcall(2) (linux/net.h).
    Socket(u32),
    /// Through ipc(2) (linux/ipc.h).
    Ipc(u32),
}

/// Whether, and as what, a call goes through socketcall or ipc where the architecture has these.
pub(super) fn multiplexed(name: &str) -> Option<Multiplexed> {
    use Multiplexed::{Ipc, Socket};
    Some(match name {
        "socket" => Socket(1),
        "bind" => Socket(2),
        "connect" => Socket(3),
        "listen" => Socket(4),
        "accept" => Socket(5),
        "getsockname" => Socket(6),
        "getpeername" => Socket(7),
        "socketpair" => Socket(8),
        "send" => Socket(9),
        "recv" => Socket(10),
        "sendto" => Socket(11),
        "recvfrom" => Socket(12),
        "shutdown" => Socket(13),
        "setsockopt" => Socket(14),
        "getsockopt" => Socket(15),
        "sendmsg" => Socket(16),
        "recvmsg" => Socket(17),
        "accept4" => Socket(18),
        "recvmmsg" => Socket(19),
        "sendmmsg" => Socket(20),
        "semop" => Ipc(1),
        "semget" => Ipc(2),
        "semctl" => Ipc(3),
        "semtimedop" => Ipc(4),
        "msgsnd" => Ipc(11),
        "msgrcv" => Ipc(12),
        "msgget" => Ipc(13),
        "msgctl" => Ipc(14),
        "shmat" => Ipc(21),
        "shmdt" => Ipc(22),
        "shmget" => Ipc(23),
        "shmctl" => Ipc(24),
        _ => return None,
    })
}

impl Abi {
    /// The number of the call of this name, if this interface has it.
    pub fn number_of(&self, name: &str) -> Option<u32> {
        call(name).and_then(|call| self.number(call))
    }

    /// What the kernel calls it (`AUDIT_ARCH_*`, linux/audit.h).
    pub fn audit(&self) -> u32 {
        self.audit
    }
}
