//! The system call filter (config-linux.md#seccomp, seccomp(2)).
//!
//! The program is compiled before there is a child ([`plan`]), and loaded by the process that it is for, in init as in
//! `exec` ([`load`]): where `no_new_privs` is not asked for, before the capabilities go, since the kernel then wants
//! CAP_SYS_ADMIN; else last of all, so that it binds as little of ours as can be. What follows an early load
//! needs few calls: prctl, capset, setgroups, setresgid, setresuid, newfstatat, close_range, close, read, write, getpid,
//! rt_sigaction, rt_sigprocmask and execve; chdir and getcwd where root may not enter the working directory.
//!
//! What libseccomp and runc make of a profile is reproduced ([`compiler`]); the library itself would cost more than
//! ten milliseconds a start. Argument filters on sockets do not bind 32-bit programs, which call `socketcall` with
//! their arguments in memory: so it is with every runtime, and whoever needs it must leave SCMP_ARCH_X86 out.

use std::os::fd::OwnedFd;
use std::path::Path;

use specconv::{Seccomp, SeccompAction, Warning};

use crate::error::{Context, Error, Result};
use crate::sys::seccomp::{self, Flags};

mod abi;
mod bpf;
pub mod compiler;
mod condition;
pub mod listener;
mod table;
mod tree;

pub use abi::Abi;
pub use compiler::Unknown;
pub use listener::Listener;
pub use seccompiler::sock_filter;

/// The filter of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the kernel runs.
    pub program: Vec<sock_filter>,
    /// How it is loaded.
    pub flags: Flags,
    /// When.
    pub moment: Moment,
    /// Who answers notifications; then [`Flags::NEW_LISTENER`] is among the flags.
    pub listener: Option<Listener>,
}

/// When the filter is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// While there is CAP_SYS_ADMIN: without no_new_privs the kernel asks for it.
    BeforeCapabilitiesGo,
    /// After all that init does to become the program. As in runc this is still before `start`: a filter that cannot be
    /// loaded must fail `create`, and hooks of startContainer run under it.
    Last,
}

/// Decides about the filter; a pure function. `receiver` is the agent's socket for a profile that names none
/// ([`listener::receiver`]).
///
/// # Errors
/// What [`compiler::compile`] refuses; a rule that would notify of write(2), by which init tells the parent the
/// listener's number: nobody could answer yet.
pub fn plan(profile: &Seccomp, no_new_privileges: bool, receiver: Option<&Path>) -> Result<Plan> {
    let listener = listener::plan(profile, receiver)?;
    let mut flags = flags(profile);
    if listener.is_some() {
        flags = flags | Flags::NEW_LISTENER;
    }
    Ok(Plan {
        program: compiler::compile(profile, Abi::native()?, Unknown::Enosys)?,
        flags,
        moment: if no_new_privileges { Moment::Last } else { Moment::BeforeCapabilitiesGo },
        listener,
    })
}

/// The flags asked for. Where the config says nothing of flags, runc lets speculation be, and so do we: every kernel we
/// run on has that flag (4.17). TSYNC is about other threads, of which there is none when a filter is loaded.
fn flags(profile: &Seccomp) -> Flags {
    let Some(names) = &profile.flags else { return Flags::SPEC_ALLOW };
    names.iter().fold(Flags::default(), |flags, name| flags | flag(name).unwrap_or_default())
}

/// The flag of this name; none for TSYNC.
fn flag(name: &str) -> Option<Flags> {
    match name {
        "SECCOMP_FILTER_FLAG_LOG" => Some(Flags::LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Some(Flags::SPEC_ALLOW),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Some(Flags::WAIT_KILLABLE_RECV),
        _ => None,
    }
}

/// Whether this kernel takes the flag of this name; asking changes nothing.
pub fn supports(name: &str) -> bool {
    match flag(name) {
        // It is for those who wait for an agent, and not taken without one.
        Some(flag) if flag == Flags::WAIT_KILLABLE_RECV => seccomp::knows(flag | Flags::NEW_LISTENER),
        Some(flag) => seccomp::knows(flag),
        None => true,
    }
}

/// What the user should know: conditions that mean something else than they seem to, and names of calls that this version
/// does not know, where not knowing them opens a door. In a list of what is allowed an unknown name is only one call less.
pub fn warnings(profile: &Seccomp) -> Vec<Warning> {
    let opens = |action| matches!(action, SeccompAction::Allow | SeccompAction::Log);
    let mut warnings = Vec::new();
    for (entry, rule) in profile.syscalls.iter().enumerate() {
        if compiler::asks_twice(rule) {
            warnings.push(Warning {
                field: format!("linux.seccomp.syscalls[{entry}].args"),
                what: "an argument has two conditions, so that each condition here is enough by itself".to_owned(),
            });
        }
        if opens(rule.action) || !opens(profile.default_action) {
            continue;
        }
        for (index, name) in rule.names.iter().enumerate().filter(|(_, name)| abi::call(name).is_none()) {
            warnings.push(Warning {
                field: format!("linux.seccomp.syscalls[{entry}].names[{index}]"),
                what: format!("{name:?} is no system call that this version of orlop knows; the rule does nothing"),
            });
        }
    }
    warnings
}

/// Whether every name is that of a system call, on some machine.
///
/// # Errors
/// The first that is not.
pub fn all_known(profile: &Seccomp) -> Result<()> {
    for (entry, rule) in profile.syscalls.iter().enumerate() {
        if let Some((index, name)) = rule.names.iter().enumerate().find(|(_, name)| abi::call(name).is_none()) {
            let field = format!("linux.seccomp.syscalls[{entry}].names[{index}]");
            return Err(Error::invalid(field, format!("{name:?} is no system call that this version of orlop knows")));
        }
    }
    Ok(())
}

/// Puts this process under the filter, in its own name: no_new_privs stays as it is, and no flag is left out when the
/// kernel refuses it. Returns the listener where the plan has one.
///
/// # Errors
/// EACCES without no_new_privs and CAP_SYS_ADMIN; EINVAL for a flag that the kernel does not have; EBUSY where the
/// process has a listener already.
pub fn load(plan: &Plan) -> Result<Option<OwnedFd>> {
    seccomp::set_mode_filter(&plan.program, plan.flags).doing("load the seccomp filter")
}

/// `SECCOMP_RET_KILL_THREAD`: also what a call of an unknown architecture gets.
const KILL_THREAD: u32 = 0;

/// The value that a filter returns for an action (linux/seccomp.h).
pub(crate) fn code(action: SeccompAction) -> u32 {
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
