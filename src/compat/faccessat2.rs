//! needs    faccessat2(2) with AT_EACCESS
//! since    Linux 5.8
//! instead  faccessat(2), which asks for the real ids: by then the effective ones are the same
//! loses    capabilities of other users than root: a file that only CAP_DAC_OVERRIDE lets execute is not found

use std::path::Path;

use crate::sys::{Errno, Result, exec};

/// Whether we may execute a file.
///
/// # Errors
/// EACCES; EPERM or ENOSYS where a filter of system calls refuses both questions.
pub fn may_execute(path: &Path) -> Result<()> {
    match exec::may_execute(path) {
        Err(refused) if refused.errno == Errno::ENOSYS => exec::may_execute_by_real_ids(path),
        answer => answer,
    }
}
