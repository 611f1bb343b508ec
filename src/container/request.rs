//! What `create` and `exec` are asked for: the options of the command line, as data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Driver;

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The directory of all state directories, absolute.
    pub root: PathBuf,
    /// Id of the new container.
    pub id: String,
    /// The bundle; relative to the working directory.
    pub bundle: PathBuf,
    /// The config file; relative to the bundle.
    pub config: PathBuf,
    /// Socket that gets the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets init's process id; relative to the working directory of the command, not to the bundle.
    pub pid_file: Option<PathBuf>,
    /// Move the root mount instead of pivot_root(2), for a host whose root is an initramfs.
    pub no_pivot: bool,
    /// Keep the session keyring of the caller.
    pub no_new_keyring: bool,
    /// How many descriptors beyond 0, 1 and 2 the container inherits.
    pub preserve_fds: u32,
    /// Who makes the cgroup.
    pub driver: Driver,
    /// Whether errors of cgroups are tolerated.
    pub rootless: Rootless,
    /// Whether nobody waits for the container (always so in `create`).
    pub detach: bool,
}

impl Request {
    /// A container of the bundle, with everything else as the command line has it when nothing is said: detached, its
    /// cgroup made by orlop itself.
    pub fn new(root: impl Into<PathBuf>, id: impl Into<String>, bundle: impl Into<PathBuf>) -> Self {
        Request {
            root: root.into(),
            id: id.into(),
            bundle: bundle.into(),
            config: PathBuf::from("config.json"),
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            driver: Driver::default(),
            rootless: Rootless::default(),
            detach: true,
        }
    }
}

/// Whether errors of cgroups are tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Rootless {
    /// As the effective user says.
    #[default]
    Auto,
    /// Yes.
    Yes,
    /// No.
    No,
}

/// A second process in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What is to run.
    pub process: ExecProcess,
    /// Socket that gets the master of the terminal.
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the process id.
    pub pid_file: Option<PathBuf>,
    /// Whether nobody waits for it.
    pub detach: bool,
    /// How many descriptors beyond 0, 1 and 2 it inherits.
    pub preserve_fds: u32,
    /// Cgroups below the container's to run in: `[controller[,controller]:]path`.
    pub cgroup: Vec<String>,
    /// Whether a paused container is fine: the process then waits for `resume`.
    pub ignore_paused: bool,
}

impl ExecRequest {
    /// A program and its arguments, with everything else as the container's own process has it; detached.
    pub fn new(args: &[&str]) -> Self {
        let args = args.iter().map(|word| (*word).to_owned()).collect();
        ExecRequest {
            process: ExecProcess::Arguments(ExecArguments { args, ..ExecArguments::default() }),
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            detach: true,
            preserve_fds: 0,
            cgroup: Vec::new(),
            ignore_paused: false,
        }
    }
}

/// What `exec` is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecProcess {
    /// A file with a `process` object. What it does not say of rights and limits is as in the container
    /// ([`specconv::convert_process`]).
    File(PathBuf),
    /// The config's process, changed by the command line.
    Arguments(ExecArguments),
}

/// How the command line of `exec` changes the config's process. `None` keeps what the config has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExecArguments {
    /// The program and its arguments; replaces the config's.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// `KEY=value`, after the config's; the last one wins.
    pub env: Vec<String>,
    /// User, and group where it is given too.
    pub user: Option<(u32, Option<u32>)>,
    /// Groups besides the config's.
    pub additional_gids: Vec<u32>,
    /// Whether it gets a terminal; the config's wish does not count.
    pub tty: bool,
    /// SELinux label.
    pub process_label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: Option<bool>,
    /// Capabilities (`CAP_NET_ADMIN`) added to the bounding, effective and permitted sets, and to the ambient set if
    /// the config has inheritable ones.
    pub caps: Vec<String>,
}
