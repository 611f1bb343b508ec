//! The five sets of capabilities: what the program gets of them, and what nobody needs on the way to it.

use std::fmt::Write as _;

use specconv::Capabilities;

use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::credential::{self, CapSets};

/// What the way from root of the container to its program needs, whatever the program is to have: ids, groups and the
/// bounding set; standard streams to give away; a directory or passwd file that is not root's to read; scheduling and
/// limits. Nothing of it leads out of a container: CHOWN, DAC_OVERRIDE, SETGID, SETUID, SETPCAP, SYS_NICE, SYS_RESOURCE.
pub const ON_THE_WAY: u64 = 1 | 1 << 1 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 23 | 1 << 24;

/// Loads a system call filter without no_new_privs; until Linux 5.14 also a real-time priority for I/O.
pub const SYS_ADMIN: u64 = 1 << 21;

/// Gives up for good what neither the program is to have nor `needed` names.
///
/// Before we are born where others live: one of them with CAP_SYS_PTRACE can make us do whatever we may do, whoever we
/// are about to become (ptrace(2), process_vm_writev(2)).
///
/// # Errors
/// The kernel's refusal; without CAP_SETPCAP the bounding set cannot be limited.
pub fn shed(program: &Capabilities, needed: u64) -> Result<()> {
    // Else execve of anything, as root, would get it all back. What cannot be had is told later, by `become_user`.
    limit_bounding(program.bounding, &mut Vec::new())?;
    let have = credential::capget().doing("give capabilities up")?;
    let kept = have.permitted & (program.permitted | needed);
    let sets = CapSets { effective: have.effective & kept, permitted: kept, inheritable: 0 };
    credential::capset(sets).doing("give capabilities up")
}

/// Takes everything but `wanted` from the bounding set, and returns what is left of it.
///
/// Asks about each capability by number until the kernel knows no more (EINVAL), so that no file need be read to
/// learn which is the last.
pub(super) fn limit_bounding(wanted: u64, warnings: &mut Vec<String>) -> Result<u64> {
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

/// Sets permitted, effective and inheritable: as asked, or where the kernel refuses, what can be had of it.
pub(super) fn set_capabilities(wanted: &Capabilities, bounding: u64, warnings: &mut Vec<String>) -> Result<CapSets> {
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
pub(super) fn set_ambient(wanted: u64, granted: CapSets, warnings: &mut Vec<String>) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    const SETPCAP: u64 = 1 << 8;
    const NET_RAW: u64 = 1 << 13;

    #[test]
    fn the_grantable_is_what_the_kernel_would_take() {
        let asked =
            CapSets { effective: KILL | NET_RAW, permitted: KILL | NET_RAW | CHOWN, inheritable: NET_RAW | CHOWN };
        let have = CapSets { effective: 0, permitted: KILL | CHOWN, inheritable: 0 };
        let granted = grantable(asked, have, KILL | CHOWN | NET_RAW);
        assert_eq!(granted, CapSets { effective: KILL, permitted: KILL | CHOWN, inheritable: CHOWN });
        // With CAP_SETPCAP all of the bounding set may be made inheritable, but nothing beyond it.
        let have = CapSets { effective: SETPCAP, ..have };
        assert_eq!(grantable(asked, have, NET_RAW).inheritable, NET_RAW);
    }
}
