//! Ids, groups, capabilities, keyrings.
//!
//! All of these change the calling thread alone (the kernel keeps credentials per thread; the C library's
//! wrappers that tell other threads are not used). Init has one thread.

use std::os::fd::BorrowedFd;

use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::{Errno, Result, fd, refused};

/// The serial number of a key (keyrings(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(i32);

/// The three sets that capset(2) changes; bit N is capability N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSets {
    /// What may be used now.
    pub effective: u64,
    /// Limit of effective.
    pub permitted: u64,
    /// What execve of a file with inheritable bits keeps.
    pub inheritable: u64,
}

/// To the calls below this number says "leave it as it is": taken for an id, it would leave the caller root.
const UNCHANGED: u32 = u32::MAX;

/// Sets the real, effective, saved and file system user id; EINVAL for -1, which is none.
///
/// setresuid(2), Linux 2.2.
pub fn setresuid(uid: u32) -> Result<()> {
    if uid == UNCHANGED {
        return Err(refused!("setresuid", "{uid}")(Errno::EINVAL));
    }
    let id = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(id, id, id).map_err(refused!("setresuid", "{uid}, {uid}, {uid}"))
}

/// Sets the real, effective, saved and file system group id; EINVAL for -1, which is none.
///
/// setresgid(2), Linux 2.2.
pub fn setresgid(gid: u32) -> Result<()> {
    if gid == UNCHANGED {
        return Err(refused!("setresgid", "{gid}")(Errno::EINVAL));
    }
    let id = rustix::process::Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(id, id, id).map_err(refused!("setresgid", "{gid}, {gid}, {gid}"))
}

/// Replaces the supplementary groups; EINVAL if -1, which is none, is among them.
///
/// setgroups(2), Linux 1.0.
pub fn setgroups(gids: &[u32]) -> Result<()> {
    if gids.contains(&UNCHANGED) {
        return Err(refused!("setgroups", "{gids:?}")(Errno::EINVAL));
    }
    let ids: Vec<_> = gids.iter().map(|&gid| rustix::process::Gid::from_raw(gid)).collect();
    rustix::thread::set_thread_groups(&ids).map_err(refused!("setgroups", "{gids:?}"))
}

/// The capability sets of the calling thread. capget(2), version 3, Linux 2.6.26.
pub fn capget() -> Result<CapSets> {
    let sets = rustix::thread::capabilities(None).map_err(refused!("capget", "0"))?;
    Ok(CapSets {
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    })
}

/// Sets the capability sets of the calling thread. capset(2), version 3, Linux 2.6.26.
///
/// Bits of capabilities that the kernel does not have are ignored by it.
pub fn capset(sets: CapSets) -> Result<()> {
    let CapSets { effective, permitted, inheritable } = sets;
    let set = CapabilitySet::from_bits_retain;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: set(effective), permitted: set(permitted), inheritable: set(inheritable) },
    )
    .map_err(refused!("capset", "effective={effective:#x}, permitted={permitted:#x}, inheritable={inheritable:#x}"))
}

/// Whether execve may still grant this capability; EINVAL: the kernel does not know it.
/// PR_CAPBSET_READ(2const), Linux 2.6.25.
pub fn capbset_read(capability: u8) -> Result<bool> {
    rustix::thread::capability_is_in_bounding_set(bit(capability))
        .map_err(refused!("prctl", "PR_CAPBSET_READ, {capability}"))
}

/// Takes a capability from the bounding set for good. PR_CAPBSET_DROP(2const), Linux 2.6.25.
///
/// Needs CAP_SETPCAP, also for a capability that is not in the set; EINVAL: the kernel does not know it.
pub fn capbset_drop(capability: u8) -> Result<()> {
    rustix::thread::remove_capability_from_bounding_set(bit(capability))
        .map_err(refused!("prctl", "PR_CAPBSET_DROP, {capability}"))
}

/// Adds a capability that is permitted and inheritable to the ambient set. PR_CAP_AMBIENT(2const), Linux 4.3.
pub fn cap_ambient_raise(capability: u8) -> Result<()> {
    rustix::thread::configure_capability_in_ambient_set(bit(capability), true)
        .map_err(refused!("prctl", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {capability}"))
}

/// Empties the ambient set. PR_CAP_AMBIENT(2const), Linux 4.3.
pub fn cap_ambient_clear_all() -> Result<()> {
    rustix::thread::clear_ambient_capability_set()
        .map_err(refused!("prctl", "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL"))
}

fn bit(capability: u8) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1_u64.checked_shl(capability.into()).unwrap_or(0))
}

/// Whether the permitted set survives a change from user 0 to another. PR_SET_KEEPCAPS(2const), Linux 2.2.18.
pub fn set_keepcaps(keep: bool) -> Result<()> {
    rustix::thread::set_keep_capabilities(keep).map_err(refused!("prctl", "PR_SET_KEEPCAPS, {}", u8::from(keep)))
}

/// The SECBIT_* bits. PR_GET_SECUREBITS(2const), Linux 2.6.26.
pub fn get_securebits() -> Result<u32> {
    Ok(rustix::thread::capabilities_secure_bits().map_err(refused!("prctl", "PR_GET_SECUREBITS"))?.bits())
}

/// Sets the SECBIT_* bits; needs CAP_SETPCAP, and locked bits stay. PR_SET_SECUREBITS(2const), Linux 2.6.26.
pub fn set_securebits(bits: u32) -> Result<()> {
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::from_bits_retain(bits))
        .map_err(refused!("prctl", "PR_SET_SECUREBITS, {bits:#x}"))
}

/// From now on execve grants nothing. PR_SET_NO_NEW_PRIVS(2const), Linux 3.5.
pub fn set_no_new_privs() -> Result<()> {
    rustix::thread::set_no_new_privs(true).map_err(refused!("prctl", "PR_SET_NO_NEW_PRIVS, 1"))
}

/// Whether execve grants nothing any more. PR_GET_NO_NEW_PRIVS(2const), Linux 3.5.
pub fn no_new_privs() -> Result<bool> {
    rustix::thread::no_new_privs().map_err(refused!("prctl", "PR_GET_NO_NEW_PRIVS"))
}

/// Gives an open file another owner; the group stays. EINVAL for -1, which is none. fchown(2).
pub fn fchown_user(file: BorrowedFd<'_>, uid: u32) -> Result<()> {
    if uid == UNCHANGED {
        return Err(refused!("fchown", "{}, {uid}, -1", fd(&file))(Errno::EINVAL));
    }
    rustix::fs::fchown(file, Some(rustix::process::Uid::from_raw(uid)), None).map_err(refused!(
        "fchown",
        "{}, {uid}, -1",
        fd(&file)
    ))
}

/// Joins the session keyring of this name, or makes it. `None`: it was our session keyring before.
/// KEYCTL_JOIN_SESSION_KEYRING(2const), Linux 2.6.10.
pub fn keyctl_join_session_keyring(name: &std::ffi::CStr) -> Result<Option<Key>> {
    // SAFETY: the operation reads one NUL-terminated string, which outlives the call, and keeps a copy of it.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr(), 0, 0, 0) };
    match i32::try_from(serial) {
        Ok(0) => Ok(None),
        Ok(serial) if serial > 0 => Ok(Some(Key(serial))),
        _ => Err(refused!("keyctl", "KEYCTL_JOIN_SESSION_KEYRING, {name:?}")(Errno::last())),
    }
}

/// What the kernel says of a key: `type;uid;gid;permissions;description`, permissions in hexadecimal.
/// KEYCTL_DESCRIBE(2const), Linux 2.6.10.
pub fn keyctl_describe(key: Key) -> Result<String> {
    // Names of keys end at 4096 bytes (KEY_MAX_DESC_SIZE).
    let mut text = [0_u8; 5120];
    // SAFETY: the kernel writes at most the length of `text` into it (keyctl_describe_key copies only when the
    // whole text fits, else it writes nothing), and it outlives the call.
    let length = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, key.0, text.as_mut_ptr(), text.len(), 0) };
    match usize::try_from(length) {
        Ok(length) => {
            let text = text.get(..length).unwrap_or_default();
            Ok(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
        }
        Err(_) => Err(refused!("keyctl", "KEYCTL_DESCRIBE, {}", key.0)(Errno::last())),
    }
}

/// Sets the permissions of a key. KEYCTL_SETPERM(2const), Linux 2.6.10.
pub fn keyctl_setperm(key: Key, permissions: u32) -> Result<()> {
    // SAFETY: the operation takes two integers and touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key.0, permissions, 0, 0) };
    if done < 0 {
        return Err(refused!("keyctl", "KEYCTL_SETPERM, {}, {permissions:#x}", key.0)(Errno::last()));
    }
    Ok(())
}

// <linux/keyctl.h>; the libc crate has them for one of its two layouts only.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const KEYCTL_SETPERM: libc::c_long = 5;
const KEYCTL_DESCRIBE: libc::c_long = 6;
