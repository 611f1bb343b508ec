//! The session keyring (keyrings(7)): the container's own, out of reach of the caller's keys.

use std::ffi::CString;

use super::Plan;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{Errno, credential};

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
        // Already in it, as when our caller is a process of this very container.
        Ok(None) => return Ok(()),
        Ok(Some(key)) => key,
        Err(refused) => return Err(refused).doing("create session keyring"),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::identity::tests::{in_thread, plan, three};

    #[test]
    fn a_session_keyring_of_its_own() {
        let mut plan = plan(0, 0, &[], three(0));
        let name = format!("_ses.orlop-unit-{}", std::process::id());
        plan.keyring = Some(name.clone());
        let (first, _) = in_thread({
            let plan = plan.clone();
            move || {
                join_session_keyring(&plan).unwrap();
                // A second process finds the keyring by its name while the first one lives.
                let (second, _) = in_thread(move || {
                    join_session_keyring(&plan).unwrap();
                    std::fs::read_to_string("/proc/keys").unwrap_or_default()
                });
                second
            }
        });
        let ours: Vec<_> = first.lines().filter(|line| line.contains(&name)).collect();
        // Kernels without /proc/keys (or without keyrings) show nothing.
        if !first.is_empty() {
            assert_eq!(ours.len(), 1, "{first}");
            assert!(ours[0].contains(" 3f1b0000 ") || ours[0].contains(" 3f0b0000 "), "{}", ours[0]);
        }
    }

    #[test]
    fn permissions_are_the_fourth_field_of_a_key() {
        assert_eq!(permissions_of("keyring;0;0;3f1b0000;_ses.web"), Some(0x3f1b_0000));
        assert_eq!(permissions_of("keyring;0;0;3f130000;a;b"), Some(0x3f13_0000));
        assert_eq!(permissions_of("keyring;0;0"), None);
        assert_eq!(permissions_of(""), None);
    }
}
