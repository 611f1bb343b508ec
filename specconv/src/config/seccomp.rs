//! Which system calls the container may make (config-linux.md#seccomp).

use std::path::PathBuf;

/// The system call filter (config-linux.md#seccomp), with names as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seccomp {
    /// What happens to a call without a rule.
    pub default_action: SeccompAction,
    /// `SCMP_ARCH_*`, as written.
    pub architectures: Vec<String>,
    /// `None`: absent (SPEC_ALLOW is then added where the kernel has it); empty: no flags.
    pub flags: Option<Vec<String>>,
    /// Rules in order.
    pub syscalls: Vec<SeccompRule>,
    /// Socket of the agent that gets the notifications.
    pub listener_path: Option<PathBuf>,
    /// Text for the agent.
    pub listener_metadata: Option<String>,
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompAction {
    /// SECCOMP_RET_KILL_THREAD.
    KillThread,
    /// SECCOMP_RET_KILL_PROCESS.
    KillProcess,
    /// SECCOMP_RET_TRAP.
    Trap,
    /// SECCOMP_RET_ERRNO with this errno.
    Errno(u16),
    /// SECCOMP_RET_TRACE with this message.
    Trace(u16),
    /// SECCOMP_RET_ALLOW.
    Allow,
    /// SECCOMP_RET_LOG.
    Log,
    /// SECCOMP_RET_USER_NOTIF.
    Notify,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompRule {
    /// Names of system calls.
    pub names: Vec<String>,
    /// What happens.
    pub action: SeccompAction,
    /// Conditions.
    pub args: Vec<SeccompArg>,
}

/// One condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u32,
    /// Value, or the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// Datum of `SCMP_CMP_MASKED_EQ`.
    pub value_two: u64,
    /// Comparison.
    pub op: SeccompOperator,
}

/// Comparisons of seccomp arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompOperator {
    /// `SCMP_CMP_NE`.
    NotEqual,
    /// `SCMP_CMP_LT`.
    Less,
    /// `SCMP_CMP_LE`.
    LessOrEqual,
    /// `SCMP_CMP_EQ`.
    Equal,
    /// `SCMP_CMP_GE`.
    GreaterOrEqual,
    /// `SCMP_CMP_GT`.
    Greater,
    /// `SCMP_CMP_MASKED_EQ`.
    MaskedEqual,
}
