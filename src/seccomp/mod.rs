//! The system call filter (config-linux.md#seccomp, seccomp(2)).
//!
//! The program is compiled before there is a child ([`plan`]), and loaded by the process that it is for, in init as in
//! `exec` ([`load`]): where `no_new_privs` is not asked for, before the capabilities go, since the kernel then wants
//! CAP_SYS_ADMIN; else right before execve, so that it binds as little of ours as can be. What follows an early load
//! needs few calls: prctl, capset, setgroups, setresgid, setresuid, chdir, getcwd, close_range, read, write and sendmsg
//! or its like for the link, openat and execve.
//!
//! What libseccomp and runc make of a profile is reproduced ([`compiler`]); the library itself would cost more than
//! ten milliseconds a start. Argument filters on sockets do not bind 32-bit programs, which call `socketcall` with
//! their arguments in memory: so it is with every runtime, and whoever needs it must leave SCMP_ARCH_X86 out.

use specconv::{Seccomp, SeccompAction};

use crate::error::{Context, Error, Result};
use crate::sys::seccomp::{self, Flags};

mod abi;
mod bpf;
pub mod compiler;
mod condition;
mod table;
mod tree;

pub use abi::Abi;
pub use compiler::Unknown;
pub use seccompiler::sock_filter;

/// `SECCOMP_RET_KILL_THREAD`: also what a call of an unknown architecture gets.
const KILL_THREAD: u32 = 0;

/// The value that a filter returns for an action (linux/seccomp.h).
fn code(action: SeccompAction) -> u32 {
    match action {
        SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 | u32::from(errno),
        SeccompAction::Notify => 0x7FC0_0000,
        SeccompAction::Trace(message) => 0x7FF0_0000 | u32::from(message),
        SeccompAction::Log => 0x7FFC_0000,
        SeccompAction::Allow => 0x7FFF_0000,
    }
}

/// The names of all system calls that profiles can name, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    table::SYSCALLS.iter().map(|(name, _)| *name)
}
