//! needs    faccessat2(2) with AT_EACCESS
//! since    Linux 5.8
//! instead  faccessat(2), which asks for the real ids: by then the effective ones are the same
//! loses    capabilities of other users than root: a file that only CAP_DAC_OVERRIDE lets execute is not found

use std::path::Path;

use super::Road;
use crate::sys::{Result, exec};

static ROAD: Road = Road::new();

/// Whether we may execute a file.
///
/// # Errors
/// EACCES; EPERM or ENOSYS where a filter of system calls refuses both questions.
pub fn may_execute(path: &Path) -> Result<()> {
    match ROAD.take(|| exec::may_execute(path), || exec::may_execute(Path::new("/")))? {
        Some(()) => Ok(()),
        None => exec::may_execute_by_real_ids(path),
    }
}
