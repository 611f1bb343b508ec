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

use std::convert::Infallible;
use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::Path;

use specconv::Capabilities;

use crate::error::{Context, Error, Kind, Result};
use crate::sys::credential::{self, CapSets};
use crate::sys::{Errno, Refused, exec};

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

/// Gives the container a session keyring of its own (keyrings(7)), so that the caller's keys are out of reach.
///
/// Joins the keyring of that name, or makes it: `exec` thereby finds the one that init made. A kernel without
/// keyrings, or a filter of an outer container that hides them (EPERM of old engines' profiles is not tolerated,
/// ENOSYS is), leaves nothing to protect from.
///
/// # Errors
/// EDQUOT is said to be the quota of keys, which is the usual surprise in user namespaces.
pub fn join_session_keyring(plan: &Plan) -> Result<()> {
    /// KEY_USR_SEARCH: processes of the owner, such as a later `exec`, may find the keyring by its name.
    const OWNER_MAY_FIND: u32 = 0x0008_0000;

    let Some(name) = &plan.keyring else { return Ok(()) };
    let name = CString::new(name.as_str())
        .map_err(|_| Error::new(Kind::Invalid, "the name of the session keyring holds a NUL byte"))?;
    let key = match credential::keyctl_join_session_keyring(&name) {
        Err(refused) if refused.errno == Errno::ENOSYS => return Ok(()),
        Err(refused) if refused.errno == Errno::EDQUOT => {
            return Err(refused).doing(
                "create session keyring: the user's quota of keys is used up (/proc/key-users, kernel.keys.maxkeys; \
                 --no-new-keyring does without)",
            );
        }
        other => other.doing("create session keyring")?,
    };
    let description = credential::keyctl_describe(key).doing("read permissions of session keyring")?;
    let permissions = permissions_of(&description)
        .ok_or_else(|| Error::new(Kind::Other, format!("cannot understand the kernel's key {description:?}")))?;
    if permissions & OWNER_MAY_FIND != 0 {
        return Ok(());
    }
    credential::keyctl_setperm(key, permissions | OWNER_MAY_FIND).doing("set permissions of session keyring")
}

/// The fourth field of a key's description, hexadecimal.
fn permissions_of(description: &str) -> Option<u32> {
    u32::from_str_radix(description.split(';').nth(3)?, 16).ok()
}

/// Sets the file mode creation mask, where the plan has one.
pub fn set_umask(plan: &Plan) {
    if let Some(mask) = plan.umask {
        credential::umask(mask);
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
    let bounding = limit_bounding(plan.capabilities.bounding, &mut warnings)?;
    // Nothing is lost on the way from user 0 to user 0.
    let keep = plan.uid != 0;
    if keep {
        credential::set_keepcaps(true).doing("keep capabilities across the change of user")?;
    }
    set_groups(&plan.groups)?;
    credential::setresgid(plan.gid).map_err(id_refused).at(|| "process.user.gid".to_owned())?;
    credential::setresuid(plan.uid).map_err(id_refused).at(|| "process.user.uid".to_owned())?;
    if keep {
        credential::set_keepcaps(false).doing("stop keeping capabilities")?;
    }
    let granted = set_capabilities(&plan.capabilities, bounding, &mut warnings)?;
    set_ambient(plan.capabilities.ambient, granted, &mut warnings)?;
    Ok(warnings)
}

/// Takes everything but `wanted` from the bounding set, and returns what is left of it.
///
/// Asks about each capability by number until the kernel knows no more (EINVAL), so that no file need be read to
/// learn which is the last.
fn limit_bounding(wanted: u64, warnings: &mut Vec<String>) -> Result<u64> {
    const FIELD: &str = "process.capabilities.bounding";
    let mut bounding = 0;
    for capability in 0..=63_u8 {
        let bit = 1_u64 << capability;
        let outcome = if wanted & bit != 0 {
            credential::capbset_read(capability).map(|present| {
                if present {
                    bounding |= bit;
                } else {
                    warnings.push(cannot_grant(FIELD, bit));
                }
            })
        } else {
            credential::capbset_drop(capability)
        };
        match outcome {
            Ok(()) => {}
            Err(refused) if refused.errno == Errno::EINVAL => {
                let beyond = wanted & !(bit - 1);
                if beyond != 0 {
                    warnings.push(format!("{FIELD}: this kernel does not have {}", names(beyond)));
                }
                break;
            }
            // Without CAP_SETPCAP nothing can be dropped, and need not be where it is gone already.
            Err(refused) if refused.errno == Errno::EPERM && !credential::capbset_read(capability)? => {}
            Err(refused) => return Err(refused).doing_with(|| format!("drop {}", names(bit))).at(|| FIELD.to_owned()),
        }
    }
    Ok(bounding)
}

fn set_groups(groups: &Groups) -> Result<()> {
    match groups {
        Groups::Set(gids) => {
            credential::setgroups(gids).map_err(id_refused).at(|| "process.user.additionalGids".to_owned())
        }
        Groups::Keep | Groups::Denied => Ok(()),
    }
}

/// EINVAL of the calls that set ids has one meaning: the user namespace does not map the id.
fn id_refused(refused: Refused) -> Error {
    let unmapped = refused.errno == Errno::EINVAL;
    let failed = Err::<Infallible, _>(Error::from(refused));
    let failed = if unmapped { failed.doing("the id is not mapped in the container's user namespace") } else { failed };
    match failed {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// Sets permitted, effective and inheritable: as asked, or where the kernel refuses, what can be had of it.
fn set_capabilities(wanted: &Capabilities, bounding: u64, warnings: &mut Vec<String>) -> Result<CapSets> {
    let asked = CapSets { effective: wanted.effective, permitted: wanted.permitted, inheritable: wanted.inheritable };
    match credential::capset(asked) {
        Ok(()) => return Ok(asked),
        Err(refused) if refused.errno == Errno::EPERM => {}
        Err(refused) => return Err(refused).at(|| "process.capabilities".to_owned()),
    }
    let granted = grantable(asked, credential::capget()?, bounding);
    credential::capset(granted).at(|| "process.capabilities".to_owned())?;
    for (field, asked, granted) in [
        ("process.capabilities.permitted", asked.permitted, granted.permitted),
        ("process.capabilities.effective", asked.effective, granted.effective),
        ("process.capabilities.inheritable", asked.inheritable, granted.inheritable),
    ] {
        if asked & !granted != 0 {
            warnings.push(cannot_grant(field, asked & !granted));
        }
    }
    Ok(granted)
}

/// What capset(2) lets a process with the sets `have` and this bounding set take of what was asked
/// (cap_capset, security/commoncap.c).
fn grantable(asked: CapSets, have: CapSets, bounding: u64) -> CapSets {
    const CAP_SETPCAP: u64 = 1 << 8;
    let permitted = asked.permitted & have.permitted;
    let mut inheritable = asked.inheritable & (have.inheritable | bounding);
    if have.effective & CAP_SETPCAP == 0 {
        inheritable &= have.inheritable | have.permitted;
    }
    CapSets { effective: asked.effective & permitted, permitted, inheritable }
}

/// Makes the ambient set what was asked, as far as the other sets allow; what they do not is a warning.
fn set_ambient(wanted: u64, granted: CapSets, warnings: &mut Vec<String>) -> Result<()> {
    const FIELD: &str = "process.capabilities.ambient";
    // What capset took from permitted or inheritable left the ambient set with it (capabilities(7)); only what is
    // in both can have been inherited from our own caller.
    let possible = granted.permitted & granted.inheritable;
    if possible & !wanted != 0 {
        match credential::cap_ambient_clear_all() {
            // Linux before 4.3 has no ambient set to clear.
            Err(refused) if refused.errno == Errno::EINVAL => {}
            other => other.at(|| FIELD.to_owned())?,
        }
    }
    let mut missing = wanted & !possible;
    for capability in bits(wanted & possible) {
        if credential::cap_ambient_raise(capability).is_err() {
            missing |= 1 << capability;
        }
    }
    if missing != 0 {
        warnings.push(cannot_grant(FIELD, missing));
    }
    Ok(())
}

/// The warning of config.md#linux-process: "cannot be granted".
fn cannot_grant(field: &str, mask: u64) -> String {
    format!("{field}: cannot be granted here: {}", names(mask))
}

/// Names of the capabilities of a mask: `CAP_CHOWN, CAP_KILL`.
fn names(mask: u64) -> String {
    let known = caps::all();
    let mut text = String::new();
    for number in bits(mask) {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = match known.iter().find(|capability| capability.index() == number) {
            Some(name) => write!(text, "{separator}{name}"),
            None => write!(text, "{separator}capability {number}"),
        };
    }
    text
}

fn bits(mask: u64) -> impl Iterator<Item = u8> {
    (0..64_u8).filter(move |bit| mask & (1 << bit) != 0)
}

/// Whether container root could enter the working directory.
#[derive(Debug)]
#[must_use]
pub enum Entered {
    /// We are in it, and it is where it should be.
    Yes,
    /// Root may not go there; perhaps the user may ([`enter_cwd_as_user`]).
    NotAsRoot,
}

/// First try at the working directory, as root of the container.
///
/// A refusal for lack of rights (a FUSE or NFS volume that belongs to the user alone) is not final.
pub fn enter_cwd(cwd: &Path) -> Result<Entered> {
    match exec::chdir(cwd) {
        Ok(()) => verify_cwd(cwd).map(|()| Entered::Yes),
        Err(refused) if matches!(refused.errno, Errno::EACCES | Errno::EPERM) => Ok(Entered::NotAsRoot),
        Err(refused) => Err(refused).doing("enter working directory").at(|| "process.cwd".to_owned()),
    }
}

/// Second try, as the user; nothing to do where the first one succeeded.
pub fn enter_cwd_as_user(cwd: &Path, before: Entered) -> Result<()> {
    match before {
        Entered::Yes => Ok(()),
        Entered::NotAsRoot => {
            exec::chdir(cwd).doing("enter working directory").at(|| "process.cwd".to_owned())?;
            verify_cwd(cwd)
        }
    }
}

/// Refuses a working directory outside the container's root (CVE-2024-21626: `cwd` was `/proc/self/fd/7`).
///
/// The kernel's answer begins with `/` only for a directory that can be reached from the root.
fn verify_cwd(cwd: &Path) -> Result<()> {
    let outside = |seen: &dyn std::fmt::Debug| {
        Error::invalid(
            "process.cwd",
            format_args!("{cwd:?} is outside of the container's root ({seen:?}): possible container breakout"),
        )
    };
    match exec::getcwd() {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(path) => Err(outside(&path)),
        Err(refused) if refused.errno == Errno::ENOENT => Err(outside(&"it was deleted, or cannot be reached")),
        Err(refused) => Err(refused).doing("verify working directory").at(|| "process.cwd".to_owned()),
    }
}

/// Gives the user the standard streams that were made for this container, so that `/dev/stdout` can be opened
/// again by its name: pipes, sockets and pseudo-terminals.
///
/// Never a regular file of the host and never a device such as the host's `/dev/null`, which are no one
/// container's. The kind is that of the open file, never that of a path in the container (CVE-2026-88265). A
/// closed descriptor is none of ours, and as in runc a refusal leaves the stream as it is: EPERM (its owner is
/// not mapped), EINVAL (its group is not mapped), EROFS (a read-only devpts).
pub fn own_stdio(uid: u32) -> Result<()> {
    for stream in [rustix::stdio::stdin().as_fd(), rustix::stdio::stdout().as_fd(), rustix::stdio::stderr().as_fd()] {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
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

/// Pipes, sockets, and the majors of Unix98 pseudo-terminals (Documentation/admin-guide/devices.txt).
fn made_for_one_container(mode: u32, device: u64) -> bool {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::Fifo | rustix::fs::FileType::Socket => true,
        rustix::fs::FileType::CharacterDevice => (136..=143).contains(&rustix::fs::major(device)),
        _ => false,
    }
}
