//! What the command line can say, one struct for each command, and the table of the commands.
//!
//! The flags are the union of runc's and crun's. A flag that changes nothing here says so in its help.

use std::path::PathBuf;

use clap::{Args, Command};

use super::words::Flags;
use crate::cli::log::{Format, Level};
use crate::container::{Driver, Rootless};

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Tell more
    #[arg(long)]
    pub debug: bool,
    /// File for messages, besides standard error
    #[arg(long, short = 'l', value_name = "FILE")]
    pub log: Option<String>,
    /// How messages are written: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = format)]
    pub log_format: Format,
    /// What is told: error, warning or debug
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub log_level: Option<Level>,
    /// Directory of the containers' state (default /run/orlop, rootless $XDG_RUNTIME_DIR/orlop)
    #[arg(long, short = 'r', value_name = "DIR", value_parser = path)]
    pub root: Option<PathBuf>,
    /// Have systemd make the cgroup
    #[arg(long, short = 's')]
    pub systemd_cgroup: bool,
    /// Who makes the cgroup: cgroupfs, systemd or disabled
    #[arg(long, value_name = "WHO", value_parser = driver)]
    pub cgroup_manager: Option<Driver>,
    /// Whether errors of cgroups are tolerated: auto, true or false
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = rootless)]
    pub rootless: Rootless,
    /// Ignored: criu is found in PATH
    #[arg(long, hide = true, value_name = "FILE", value_parser = path)]
    pub criu: Option<PathBuf>,
}

/// How a container is made.
#[derive(Debug, Args)]
pub struct Making {
    /// Directory with config.json
    #[arg(long, short, value_name = "DIR", default_value = ".", value_parser = path)]
    pub bundle: PathBuf,
    /// The config, in the bundle
    #[arg(long, short = 'f', value_name = "FILE", default_value = "config.json", value_parser = path)]
    pub config: PathBuf,
    /// Socket that gets the master of the terminal
    #[arg(long, short = 'c', value_name = "SOCKET", value_parser = path)]
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the container's init
    #[arg(long, value_name = "SOCKET", value_parser = path)]
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the process id of the container's init
    #[arg(long, short = 'p', value_name = "FILE", value_parser = path)]
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root: for a root filesystem in memory
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// How many file descriptors beyond 0, 1 and 2 the container inherits
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Do not adopt orphans of the container
    #[arg(long)]
    pub no_subreaper: bool,
}

/// `create`
#[derive(Debug, Args)]
pub struct Create {
    /// How it is made
    #[command(flatten)]
    pub making: Making,
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    /// How it is made
    #[command(flatten)]
    pub making: Making,
    /// Return once the program runs
    #[arg(long, short)]
    pub detach: bool,
    /// Keep the container's state after its end
    #[arg(long)]
    pub keep: bool,
}

/// A command without flags.
#[derive(Debug, Args)]
pub struct Bare {}

/// `kill`
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal every process of the container, and do not mind one that has stopped
    #[arg(long, short)]
    pub all: bool,
    /// The id is a regular expression: signal every container that it fits
    #[arg(long, short)]
    pub regex: bool,
}

/// `delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// End the container first; a container that does not exist is fine
    #[arg(long, short)]
    pub force: bool,
    /// The id is a regular expression: delete every container that it fits
    #[arg(long, short)]
    pub regex: bool,
}

/// `exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// Socket that gets the master of the terminal
    #[arg(long, value_name = "SOCKET", value_parser = path)]
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET", value_parser = path)]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// A variable of the environment, KEY=VALUE
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal
    #[arg(long, short, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tty: Option<bool>,
    /// Ids to run as: `UID` or `UID:GID`
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// A supplementary group
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<String>,
    /// File with a process object, which says all about the process
    #[arg(long, short, value_name = "FILE", value_parser = path)]
    pub process: Option<PathBuf>,
    /// Return once the process runs
    #[arg(long, short)]
    pub detach: bool,
    /// File that gets the process id
    #[arg(long, value_name = "FILE", value_parser = path)]
    pub pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Let the process gain no privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_new_privs: Option<bool>,
    /// A capability besides those of the config
    #[arg(long, short, value_name = "CAP")]
    pub cap: Vec<String>,
    /// How many file descriptors beyond 0, 1 and 2 it inherits
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// A cgroup below the container's: `PATH`, on v1 also `CONTROLLER,CONTROLLER:PATH`
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Also in a paused container, where the process waits for resume
    #[arg(long)]
    pub ignore_paused: bool,
    /// Ignored: orphans of the process stay with the container's init
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

/// `list` and `ps`
#[derive(Debug, Args)]
pub struct List {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: String,
    /// Ids alone
    #[arg(long, short)]
    pub quiet: bool,
}

/// `ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: String,
}

/// `spec`
#[derive(Debug, Args)]
pub struct Spec {
    /// Directory of the file
    #[arg(long, short, value_name = "DIR", value_parser = path)]
    pub bundle: Option<PathBuf>,
    /// Name of the file
    #[arg(long, short, value_name = "FILE", default_value = "config.json", value_parser = path)]
    pub file: PathBuf,
    /// For a container of a user without privileges
    #[arg(long)]
    pub rootless: bool,
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// How long from one report of what is used to the next: 5s, 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub interval: String,
    /// Tell what is used once
    #[arg(long)]
    pub stats: bool,
}

/// `update`
#[derive(Debug, Args)]
pub struct Update {
    /// File with a resources object as in config.json, - for standard input; nothing else is then looked at
    #[arg(long, short, value_name = "FILE")]
    pub resources: Option<String>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<String>,
    /// Length of a period of processor time, microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<String>,
    /// Processor time in each period, microseconds
    #[arg(long, value_name = "US")]
    pub cpu_quota: Option<String>,
    /// Processor time that may be saved up, microseconds
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<String>,
    /// Share of processor time beside other containers
    #[arg(long, value_name = "SHARES", alias = "cpu-shares")]
    pub cpu_share: Option<String>,
    /// Length of a period of real time, microseconds
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<String>,
    /// Real time in each period, microseconds
    #[arg(long, value_name = "US")]
    pub cpu_rt_runtime: Option<String>,
    /// Processors to run on
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// 1 to run only where nobody else wants to, 0 as usual
    #[arg(long, value_name = "0|1")]
    pub cpu_idle: Option<String>,
    /// Memory: 512m, 2g, -1 for no limit
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Memory below which nothing is taken back
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<String>,
    /// Memory and swap together, -1 for no limit
    #[arg(long, value_name = "SIZE")]
    pub memory_swap: Option<String>,
    /// Number of tasks, -1 for no limit
    #[arg(long, value_name = "N")]
    pub pids_limit: Option<String>,
    /// Ignored: the kernel has no such limit any more
    #[arg(long, hide = true, value_name = "SIZE")]
    pub kernel_memory: Option<String>,
    /// Ignored: the kernel has no such limit any more
    #[arg(long, hide = true, value_name = "SIZE")]
    pub kernel_memory_tcp: Option<String>,
    /// Intel RDT: lines of schemata for the third level of cache (L3:0=ff)
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT: the line of schemata for memory bandwidth (MB:0=50)
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
}

/// How many operands a command takes, in runc's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Exactly(usize),
    /// So many or more.
    Least(usize),
    /// From the first to the second.
    Between(usize, usize),
}

/// One command.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What stands after the flags.
    pub operands: &'static str,
    /// How many of them.
    pub count: Count,
    /// Where its flags end.
    pub flags: Flags,
    /// Adds its flags.
    pub augment: fn(Command) -> Command,
}

/// Every command, in the order of the help.
pub const COMMANDS: &[Entry] = &[
    entry("create", "create a container", "<container-id>", Count::Exactly(1), Create::augment_args),
    entry("run", "create and run a container", "<container-id>", Count::Exactly(1), Run::augment_args),
    entry("start", "run the program of a created container", "<container-id>", Count::Exactly(1), Bare::augment_args),
    entry("state", "tell the state of a container", "<container-id>", Count::Exactly(1), Bare::augment_args),
    entry(
        "kill",
        "send a signal (default: SIGTERM) to the container's init process",
        "<container-id> [signal]",
        Count::Between(1, 2),
        Kill::augment_args,
    ),
    entry("delete", "delete what a container holds", "<container-id>", Count::Exactly(1), Delete::augment_args),
    Entry {
        flags: Flags::BeforeOperands,
        ..entry(
            "exec",
            "run a second process in a container",
            "<container-id> <command> [command options]  || -p process.json <container-id>",
            Count::Least(1),
            Exec::augment_args,
        )
    },
    entry("list", "list the containers of a root", "", Count::Exactly(0), List::augment_args),
    Entry {
        flags: Flags::BeforeOperands,
        ..entry(
            "ps",
            "list the processes of a container",
            "<container-id> [ps options]",
            Count::Least(1),
            Ps::augment_args,
        )
    },
    entry("pause", "suspend all processes of a container", "<container-id>", Count::Exactly(1), Bare::augment_args),
    entry("resume", "let a paused container go on", "<container-id>", Count::Exactly(1), Bare::augment_args),
    entry("update", "change the limits of a container", "<container-id>", Count::Exactly(1), Update::augment_args),
    entry(
        "events",
        "tell what a container uses, and when it runs out of memory",
        "<container-id>",
        Count::Exactly(1),
        Events::augment_args,
    ),
    entry("spec", "write an example of config.json", "", Count::Exactly(0), Spec::augment_args),
    entry("features", "tell what this runtime can do", "", Count::Exactly(0), Bare::augment_args),
];

/// Commands that a later version brings. They are known, so that nobody takes their absence for a typo.
pub const LATER: &[&str] = &["checkpoint", "restore", "mounts"];

const fn entry(
    name: &'static str,
    about: &'static str,
    operands: &'static str,
    count: Count,
    augment: fn(Command) -> Command,
) -> Entry {
    Entry { name, about, operands, count, flags: Flags::Anywhere, augment }
}

/// Any word, the empty one too: clap would refuse that, runc takes it for a flag that was not given.
#[expect(clippy::unnecessary_wraps, reason = "clap wants a parser that can fail")]
fn path(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" | "" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("invalid log-format: {text}")),
    }
}

fn level(text: &str) -> Result<Level, String> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(Level::Error),
        "warning" | "warn" | "info" => Ok(Level::Warning),
        "debug" | "trace" => Ok(Level::Debug),
        _ => Err(format!("invalid log-level: {text}")),
    }
}

fn driver(text: &str) -> Result<Driver, String> {
    match text {
        "cgroupfs" => Ok(Driver::Cgroupfs),
        "systemd" => Ok(Driver::Systemd),
        "disabled" => Ok(Driver::Disabled),
        _ => Err(format!("invalid cgroup-manager: {text}")),
    }
}

fn rootless(text: &str) -> Result<Rootless, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(Rootless::Auto),
        "true" | "t" | "1" => Ok(Rootless::Yes),
        "false" | "f" | "0" => Ok(Rootless::No),
        _ => Err("it is none of auto, true and false".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_table_builds() {
        for entry in COMMANDS {
            (entry.augment)(Command::new(entry.name)).debug_assert();
        }
        Global::augment_args(Command::new("orlop")).debug_assert();
    }
}
