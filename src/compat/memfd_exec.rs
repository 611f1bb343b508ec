//! needs    memfd_create(2) with MFD_EXEC, and F_SEAL_EXEC
//! since    Linux 6.3
//! instead  memfd_create(2) without them
//! loses    nothing: without the flag every memfd can be executed, and nobody inside can change its mode

use std::os::fd::{AsFd, OwnedFd};

use crate::sys::{Errno, Result, memfd};

/// A file in memory that can be executed.
pub fn create(name: &str) -> Result<OwnedFd> {
    match memfd::memfd_create_exec(name) {
        Err(refused) if refused.errno == Errno::EINVAL => memfd::memfd_create(name),
        other => other,
    }
}

/// Makes it final, its contents and its permission to be executed.
pub fn seal<F: AsFd>(file: &F) -> Result<()> {
    match memfd::seal_mode(file.as_fd()) {
        Err(refused) if refused.errno != Errno::EINVAL => return Err(refused),
        _ => {}
    }
    memfd::seal_contents(file.as_fd())
}
