//! needs    clone3(2), and its CLONE_INTO_CGROUP
//! since    Linux 5.3, 5.7
//! instead  clone(2) with CLONE_PIDFD (Linux 5.2); the caller attaches the child to its cgroup afterwards
//! loses    the child lives for a moment in the runtime's cgroup; it waits for the parent then and allocates nothing

use crate::sys::process::{self, Birth, Side};
use crate::sys::{Errno, Result};

/// Bears a child; answers on which side we are, and whether the child was born in its cgroup.
pub fn bear(birth: Birth<'_>) -> Result<(Side, bool)> {
    match process::clone3(birth) {
        Ok(side) => Ok((side, birth.cgroup.is_some())),
        // ENOSYS: no such call. EPERM: what old engines' filters say of calls they do not know; where it is the
        // kernel's own answer, clone(2), which asks for the same, gets it too. Anything a cgroup may answer (busy, threaded, no right to its ancestor) is left to
        // the attach, whose error then says what is wrong.
        Err(refused) if matches!(refused.errno, Errno::ENOSYS | Errno::EPERM) => {
            Ok((process::clone(birth.flags)?, false))
        }
        Err(_) if birth.cgroup.is_some() => {
            let (side, _) = bear(Birth { cgroup: None, ..birth })?;
            Ok((side, false))
        }
        Err(refused) => Err(refused),
    }
}
