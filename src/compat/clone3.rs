//! needs    clone3(2), and its CLONE_INTO_CGROUP
//! since    Linux 5.3, 5.7
//! instead  clone(2) with CLONE_PIDFD (Linux 5.2); the caller attaches the child to its cgroup afterwards
//! loses    the child lives for a moment in the runtime's cgroup; it waits for the parent then and allocates nothing

use super::Road;
use crate::sys::Result;
use crate::sys::process::{self, Birth, Side};

static ROAD: Road = Road::new();

/// Bears a child; answers on which side we are, and whether the child was born in its cgroup.
pub fn bear(birth: Birth<'_>) -> Result<(Side, bool)> {
    match ROAD.take(|| process::clone3(birth), process::clone3_probe) {
        Ok(Some(side)) => Ok((side, birth.cgroup.is_some())),
        Ok(None) => Ok((process::clone(birth.flags)?, false)),
        // Anything a cgroup may answer (no such flag, busy, threaded, no right to its ancestor) is left to the attach,
        // which asks for the same rights, and whose error then says what is wrong.
        Err(_) if birth.cgroup.is_some() => {
            let (side, _) = bear(Birth { cgroup: None, ..birth })?;
            Ok((side, false))
        }
        Err(refused) => Err(refused),
    }
}
