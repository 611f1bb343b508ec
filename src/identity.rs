//! Who the program is: ids, groups, capabilities, no_new_privs, session keyring.
//!
//! All of it happens in init (or in the child of `exec`), in the order that the kernel forces (capabilities(7)):
//!
//! | step | must precede | because |
//! |---|---|---|
//! | [`join_session_keyring`] | [`become_user`] | the keyring belongs to container root, whom `exec` can be again |
//! | [`enter_cwd`] | [`become_user`] | root may lack access where the user has it, and the other way round |
//! | [`own_stdio`] | [`become_user`] | a change of owner needs CAP_CHOWN |
//! | bounding set | capset | needs CAP_SETPCAP |
//! | groups, gid | uid | need CAP_SETGID |
//! | uid | capset | needs CAP_SETUID |
//! | capset | ambient | ambient must be permitted and inheritable, and a change of uid clears it |
//! | [`become_user`] | [`enter_cwd_as_user`] | and the check of the working directory is the last (CVE-2024-21626) |

use std::os::fd::AsFd;
use std::path::Path;

use specconv::Capabilities;

use crate::compat::openat2::{self, Mounts};
use crate::compat::procfs;
use crate::error::{Context, Error, Result};
use crate::sys::credential;
use crate::sys::file::{self, FileType, Mode, OFlags};
use crate::sys::{Errno, Refused, pty};

pub mod capabilities;
mod cwd;
mod keyring;
pub mod label;

pub use cwd::{Entered, enter_cwd, enter_cwd_as_user};
pub use keyring::join_session_keyring;

/// Who the program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// User id as the container sees it.
    pub uid: u32,
    /// Group id as the container sees it.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Groups,
    /// File mode creation mask; `None` keeps the inherited one.
    pub umask: Option<u32>,
    /// The five sets.
    pub capabilities: Capabilities,
    /// Whether execve must grant nothing any more.
    pub no_new_privileges: bool,
    /// Name of the session keyring (`_ses.<id>`); `None` keeps the inherited one (`--no-new-keyring`).
    pub keyring: Option<String>,
}

/// What becomes of the supplementary groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// Exactly these (also none at all); the caller's never leak in (CVE-2023-25173).
    Set(Vec<u32>),
    /// The caller's are kept: the annotation `run.oci.keep_original_groups`.
    Keep,
    /// The user namespace forbids setgroups (its `setgroups` file says `deny`): they stay, for they cannot go.
    Denied,
}

impl Groups {
    /// Decides what becomes of the groups of a process with the primary group `gid`.
    ///
    /// # Errors
    /// Groups that were asked for and cannot be had, in runc's words. The primary group is had in any case.
    pub fn decide(gid: u32, additional: &[u32], keep: Kept, setgroups: Setgroups) -> Result<Self> {
        match (setgroups, keep) {
            (Setgroups::Allowed, Kept::No) => Ok(Groups::Set(additional.to_vec())),
            (_, Kept::Yes) => Ok(Groups::Keep),
            (Setgroups::Denied, _) if additional.iter().any(|&group| group != gid) => Err(Error::unsupported(
                "process.user.additionalGids",
                "cannot set any additional groups in a rootless container: its user namespace forbids setgroups",
            )),
            (Setgroups::Denied, _) => Ok(Groups::Denied),
        }
    }
}

/// Whether the annotation `run.oci.keep_original_groups` asks for the caller's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What the user namespace of the container says of setgroups(2) (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setgroups {
    /// It may be called.
    Allowed,
    /// It may not: the maps were written without privilege.
    Denied,
}

/// Sets the file mode creation mask, where the plan has one.
pub fn set_umask(plan: &Plan) {
    if let Some(mask) = plan.umask {
        file::umask(Mode::from_raw_mode(mask));
    }
}

/// From now on execve grants nothing, where the plan says so (PR_SET_NO_NEW_PRIVS(2const)).
pub fn set_no_new_privileges(plan: &Plan) -> Result<()> {
    if !plan.no_new_privileges {
        return Ok(());
    }
    credential::set_no_new_privs().at(|| "process.noNewPrivileges".to_owned())
}

/// Turns root of the container into the user of the plan: bounding set, groups, ids, capabilities, ambient set.
///
/// The permitted set survives the change of user only for the time until capset; all securebits end as 0.
///
/// Returns warnings: a capability that cannot be granted here is no failure (config.md#linux-process), only a
/// sentence.
pub fn become_user(plan: &Plan) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    // Securebits of whoever started the runtime (systemd's SecureBits=) would change what setuid and execve do.
    if credential::get_securebits()? != 0 {
        credential::set_securebits(0).doing("clear the inherited securebits")?;
    }
    let bounding = capabilities::limit_bounding(plan.capabilities.bounding, &mut warnings)?;
    // Nothing is lost on the way from user 0 to user 0.
    let keep = plan.uid != 0;
    if keep {
        credential::set_keepcaps(true).doing("keep capabilities across the change of user")?;
    }
    set_groups(&plan.groups, plan.gid)?;
    credential::setresgid(plan.gid).map_err(id_refused).at(|| "process.user.gid".to_owned())?;
    credential::setresuid(plan.uid).map_err(id_refused).at(|| "process.user.uid".to_owned())?;
    if keep {
        credential::set_keepcaps(false).doing("stop keeping capabilities")?;
    }
    let granted = capabilities::set_capabilities(&plan.capabilities, bounding, &mut warnings)?;
    capabilities::set_ambient(plan.capabilities.ambient, granted, &mut warnings)?;
    Ok(warnings)
}

fn set_groups(groups: &Groups, gid: u32) -> Result<()> {
    let Groups::Set(gids) = groups else { return Ok(()) };
    match credential::setgroups(gids) {
        // What a user namespace forbids that we have joined can be seen only from inside.
        Err(refused) if refused.errno == Errno::EPERM && setgroups_denied()? => {
            Groups::decide(gid, gids, Kept::No, Setgroups::Denied).map(drop)
        }
        other => other.map_err(id_refused).at(|| "process.user.additionalGids".to_owned()),
    }
}

/// What the file `setgroups` of our user namespace says (user_namespaces(7)).
fn setgroups_denied() -> Result<bool> {
    let read = || -> Result<Vec<u8>> {
        let proc = procfs::open_of_processes()?;
        let path = file::readlinkat(proc.as_fd(), Path::new("self"))?.join("setgroups");
        let file = openat2::open_beneath(proc.as_fd(), &path, OFlags::RDONLY, Mode::empty(), Mounts::Stay)?;
        Ok(file::read_all(file, 16)?)
    };
    Ok(read().doing("ask whether the user namespace forbids setgroups")?.starts_with(b"deny"))
}

/// EINVAL of the calls that set ids has one meaning: the user namespace does not map the id.
fn id_refused(refused: Refused) -> Error {
    let unmapped = refused.errno == Errno::EINVAL;
    let error = Error::from(refused);
    if unmapped { error.doing("the id is not mapped in the container's user namespace") } else { error }
}

/// Gives the user the standard streams that were made for this container, so that `/dev/stdout` can be opened
/// again by its name: pipes, sockets and pseudo-terminals.
///
/// Never a regular file of the host and never a device such as the host's `/dev/null`, which are no one
/// container's. The kind is that of the open file, never that of a path in the container (CVE-2026-88265). A
/// closed descriptor is none of ours, and as in runc a refusal leaves the stream as it is: EPERM (its owner is
/// not mapped), EINVAL (its group is not mapped), EROFS (a read-only devpts).
pub fn own_stdio(uid: u32) -> Result<()> {
    for stream in file::stdio() {
        let Ok(stat) = file::fstat(stream) else { continue };
        if stat.st_uid == uid || !made_for_one_container(stat.st_mode, stat.st_rdev) {
            continue;
        }
        match credential::fchown_user(stream, uid) {
            Err(refused) if matches!(refused.errno, Errno::EPERM | Errno::EINVAL | Errno::EROFS) => {}
            other => other.doing("give the user the standard streams")?,
        }
    }
    Ok(())
}

/// Pipes, sockets and pseudo-terminals.
fn made_for_one_container(mode: u32, device: u64) -> bool {
    match FileType::from_raw_mode(mode) {
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => pty::is_peer(device),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::sys::credential::CapSets;

    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    const SETPCAP: u64 = 1 << 8;
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const NET_RAW: u64 = 1 << 13;

    pub(super) fn plan(uid: u32, gid: u32, groups: &[u32], capabilities: Capabilities) -> Plan {
        Plan {
            uid,
            gid,
            groups: Groups::Set(groups.to_vec()),
            umask: None,
            capabilities,
            no_new_privileges: false,
            keyring: None,
        }
    }

    /// All five sets the same but inheritable and ambient.
    pub(super) fn three(mask: u64) -> Capabilities {
        Capabilities { bounding: mask, effective: mask, permitted: mask, inheritable: 0, ambient: 0 }
    }

    /// Runs `work` in a thread of its own: the kernel keeps credentials by thread, so nothing of the test's changes.
    /// Returns what `work` returned and the thread's status file.
    pub(super) fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (T, String) {
        let thread = std::thread::spawn(|| {
            let outcome = work();
            (outcome, std::fs::read_to_string("/proc/thread-self/status").unwrap())
        });
        thread.join().unwrap()
    }

    fn line<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().collect()
    }

    fn set(status: &str, name: &str) -> u64 {
        u64::from_str_radix(line(status, name)[0], 16).unwrap()
    }

    pub(super) fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn a_user_has_its_ids_its_groups_and_nothing_else() {
        if !is_root() {
            return;
        }
        let plan = plan(1000, 1001, &[7, 8], three(CHOWN | KILL));
        let (warnings, status) = in_thread(move || {
            // The groups of whoever started the runtime must not leak in (CVE-2023-25173).
            credential::setgroups(&[4, 5, 6]).unwrap();
            become_user(&plan).unwrap()
        });
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(line(&status, "Uid"), ["1000"; 4]);
        assert_eq!(line(&status, "Gid"), ["1001"; 4]);
        assert_eq!(line(&status, "Groups"), ["7", "8"]);
        for (name, expected) in
            [("CapBnd", CHOWN | KILL), ("CapPrm", CHOWN | KILL), ("CapEff", CHOWN | KILL), ("CapInh", 0), ("CapAmb", 0)]
        {
            assert_eq!(set(&status, name), expected, "{name}");
        }
    }

    #[test]
    fn the_id_that_means_unchanged_does_not_leave_a_root() {
        // T21: 4294967295 is (uid_t)-1.
        for plan in
            [plan(u32::MAX, 0, &[], three(0)), plan(0, u32::MAX, &[], three(0)), plan(0, 0, &[u32::MAX], three(0))]
        {
            let (outcome, _) = in_thread(move || become_user(&plan));
            let error = outcome.unwrap_err().to_string();
            assert!(error.starts_with("process.user."), "{error}");
        }
    }

    #[test]
    fn root_without_capabilities_has_none() {
        if !is_root() {
            return;
        }
        let plan = plan(0, 0, &[], Capabilities::default());
        let ((), status) = in_thread(move || assert!(become_user(&plan).unwrap().is_empty()));
        for name in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(set(&status, name), 0, "{name}");
        }
        assert!(line(&status, "Groups").is_empty());
    }

    #[test]
    fn what_is_shed_does_not_come_back() {
        if !is_root() {
            return;
        }
        let capabilities = Capabilities { inheritable: KILL, ambient: KILL, ..three(KILL) };
        let plan = plan(1000, 1000, &[7], capabilities);
        let needed = capabilities::ON_THE_WAY;
        let (before, after) = in_thread(move || {
            capabilities::shed(&plan.capabilities, needed).unwrap();
            let before = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert_eq!(become_user(&plan).unwrap(), Vec::<String>::new(), "nothing was missing on the way");
            before
        });
        assert_eq!(set(&before, "CapBnd"), KILL);
        for name in ["CapPrm", "CapEff"] {
            assert_eq!(set(&before, name) & !(KILL | needed), 0, "{name}");
            assert_ne!(set(&before, name) & SETPCAP, 0, "{name}");
        }
        for name in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(set(&after, name), KILL, "{name}");
        }
    }

    #[test]
    fn ambient_capabilities_are_the_ones_asked_for() {
        if !is_root() {
            return;
        }
        let both = NET_BIND_SERVICE | KILL;
        let capabilities = Capabilities { inheritable: both, ambient: NET_BIND_SERVICE, ..three(both) };
        let plan = plan(1000, 1000, &[], capabilities);
        let ((), status) = in_thread(move || {
            // CVE-2016-8867: an ambient capability that somebody else raised.
            credential::capset(CapSets { inheritable: KILL, ..credential::capget().unwrap() }).unwrap();
            credential::cap_ambient_raise(5).unwrap();
            assert!(become_user(&plan).unwrap().is_empty());
        });
        assert_eq!(set(&status, "CapAmb"), NET_BIND_SERVICE);
        assert_eq!(set(&status, "CapInh"), both);
        assert_eq!(set(&status, "CapEff"), both);
    }

    #[test]
    fn an_ambient_capability_left_over_is_cleared_where_the_user_stays_root() {
        if !is_root() {
            return;
        }
        let plan = plan(0, 0, &[], Capabilities { inheritable: KILL, ..three(KILL) });
        let ((), status) = in_thread(move || {
            credential::capset(CapSets { inheritable: KILL, ..credential::capget().unwrap() }).unwrap();
            credential::cap_ambient_raise(5).unwrap();
            become_user(&plan).unwrap();
        });
        assert_eq!(set(&status, "CapAmb"), 0);
        assert_eq!(set(&status, "CapInh"), KILL);
    }

    #[test]
    fn securebits_of_the_caller_are_cleared() {
        if !is_root() {
            return;
        }
        let plan = plan(1000, 1000, &[], three(KILL));
        let (bits, status) = in_thread(move || {
            // SECBIT_NOROOT and SECBIT_NO_SETUID_FIXUP.
            credential::set_securebits(0b101).unwrap();
            become_user(&plan).unwrap();
            credential::get_securebits().unwrap()
        });
        assert_eq!(bits, 0);
        assert_eq!(set(&status, "CapEff"), KILL);
    }

    #[test]
    fn what_cannot_be_granted_is_a_warning() {
        if !is_root() {
            return;
        }
        let capabilities = Capabilities {
            bounding: CHOWN | NET_RAW | 1 << 63,
            effective: CHOWN | NET_RAW,
            permitted: CHOWN | NET_RAW,
            inheritable: 0,
            ambient: NET_RAW,
        };
        let plan = plan(1000, 1000, &[], capabilities);
        let (warnings, status) = in_thread(move || {
            credential::capbset_drop(13).unwrap();
            let have = credential::capget().unwrap();
            let less = |mask: u64| mask & !NET_RAW;
            credential::capset(CapSets {
                effective: less(have.effective),
                permitted: less(have.permitted),
                inheritable: less(have.inheritable),
            })
            .unwrap();
            become_user(&plan).unwrap()
        });
        assert_eq!(set(&status, "CapBnd"), CHOWN);
        assert_eq!(set(&status, "CapPrm"), CHOWN);
        assert_eq!(set(&status, "CapEff"), CHOWN);
        let all = warnings.join("\n");
        for field in ["bounding", "effective", "permitted", "ambient"] {
            assert!(
                all.contains(&format!("process.capabilities.{field}: cannot be granted here: CAP_NET_RAW")),
                "{all}"
            );
        }
        assert!(all.contains("this kernel does not have capability 63"), "{all}");
    }

    #[test]
    fn bounding_cannot_be_limited_without_cap_setpcap() {
        if !is_root() {
            return;
        }
        let (outcome, _) = in_thread(|| {
            let have = credential::capget().unwrap();
            credential::capset(CapSets { effective: have.effective & !SETPCAP, ..have }).unwrap();
            become_user(&plan(0, 0, &[], three(KILL)))
        });
        let error = outcome.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EPERM));
        assert!(error.to_string().starts_with("process.capabilities.bounding: drop CAP_"), "{error}");
    }

    #[test]
    fn no_new_privileges_is_set_only_where_asked() {
        let mut plan = plan(0, 0, &[], three(0));
        let ((), status) = in_thread({
            let plan = plan.clone();
            move || set_no_new_privileges(&plan).unwrap()
        });
        assert_eq!(line(&status, "NoNewPrivs"), ["0"]);
        plan.no_new_privileges = true;
        let ((), status) = in_thread(move || set_no_new_privileges(&plan).unwrap());
        assert_eq!(line(&status, "NoNewPrivs"), ["1"]);
    }

    #[test]
    fn groups_are_set_kept_or_refused() {
        use Kept::{No, Yes};
        use Setgroups::{Allowed, Denied};
        assert_eq!(Groups::decide(9, &[1, 2], No, Allowed).unwrap(), Groups::Set(vec![1, 2]));
        assert_eq!(Groups::decide(9, &[], No, Allowed).unwrap(), Groups::Set(vec![]));
        assert_eq!(Groups::decide(9, &[], Yes, Allowed).unwrap(), Groups::Keep);
        assert_eq!(Groups::decide(9, &[], No, Denied).unwrap(), Groups::Denied);
        assert_eq!(Groups::decide(9, &[1], Yes, Denied).unwrap(), Groups::Keep);
        assert_eq!(Groups::decide(9, &[9], No, Denied).unwrap(), Groups::Denied);
        let error = Groups::decide(9, &[9, 1], No, Denied).unwrap_err().to_string();
        assert!(error.contains("cannot set any additional groups in a rootless container"), "{error}");
    }

    #[test]
    fn streams_of_the_host_are_left_alone() {
        use rustix::fs::makedev;
        let kinds = libc::S_IFMT;
        assert!(made_for_one_container(libc::S_IFIFO | 0o600, 0));
        assert!(made_for_one_container(libc::S_IFSOCK | 0o777, 0));
        assert!(made_for_one_container(libc::S_IFCHR | 0o620, makedev(136, 3)));
        assert!(!made_for_one_container(libc::S_IFCHR | 0o666, makedev(1, 3)), "/dev/null");
        assert!(!made_for_one_container(libc::S_IFCHR | 0o620, makedev(4, 1)), "/dev/tty1");
        assert!(!made_for_one_container(libc::S_IFREG & kinds | 0o600, 0), "a log file of the host");
        assert!(!made_for_one_container(libc::S_IFBLK | 0o600, makedev(136, 0)));
    }
}
