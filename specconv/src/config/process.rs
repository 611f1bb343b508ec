//! What the container runs, and as whom (config.md#process).

use std::path::PathBuf;

/// One program (config.md#process); also what `exec --process` reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Whether it gets a pseudo-terminal.
    pub terminal: Option<Terminal>,
    /// Who it runs as.
    pub user: User,
    /// The program and its arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value` entries, without duplicates (the last one wins).
    pub env: Vec<String>,
    /// Absolute working directory.
    pub cwd: PathBuf,
    /// The five sets. Without a `capabilities` object all are empty (the specification's safe reading; runc leaves what
    /// the runtime itself has).
    pub capabilities: Capabilities,
    /// Resource limits; types are unique.
    pub rlimits: Vec<Rlimit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// AppArmor profile for the next execve.
    pub apparmor_profile: Option<String>,
    /// SELinux label for the next execve.
    pub selinux_label: Option<String>,
    /// oom_score_adj, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy (sched_setattr(2)).
    pub scheduler: Option<Scheduler>,
    /// I/O priority (ioprio_set(2)).
    pub io_priority: Option<IoPriority>,
    /// CPU affinity of processes that `exec` starts.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// A terminal, with its size where `consoleSize` gave one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Rows and columns; `None` keeps the kernel's.
    pub size: Option<TerminalSize>,
}

/// Size of a terminal in characters, both above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Ids as the container sees them (config.md#posix-platform-user).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask; `None`: 0022 for init, inherited for exec.
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// Capability sets as bit masks: bit N is capability number N (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Limit of what execve can grant.
    pub bounding: u64,
    /// What the process may use now.
    pub effective: u64,
    /// What execve of a file with inheritable bits keeps.
    pub inheritable: u64,
    /// Limit of effective.
    pub permitted: u64,
    /// What execve of an ordinary file keeps.
    pub ambient: u64,
}

/// One resource limit (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u32,
    /// Position in `process.rlimits`.
    pub index: usize,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Scheduling policy and its parameters, already checked against each other (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduler {
    /// SCHED_* number.
    pub policy: u32,
    /// For OTHER and BATCH: -20 to 19.
    pub nice: i32,
    /// For FIFO and RR: 1 to 99.
    pub priority: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// For DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For DEADLINE, nanoseconds.
    pub period: u64,
}

/// I/O priority (ioprio_set(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPriority {
    /// IOPRIO_CLASS_* number: 1 real time, 2 best effort, 3 idle.
    pub class: u16,
    /// 0 (highest) to 7.
    pub priority: u16,
}

/// CPU lists (cpuset(7) list format, parsed) for processes that `exec` starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecCpuAffinity {
    /// Before the process joins the container's cgroup.
    pub initial: Option<Vec<u32>>,
    /// After it.
    pub last: Option<Vec<u32>>,
}
