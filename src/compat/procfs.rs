//! needs    fsopen(2) and fsmount(2), and the right to make a procfs of our pid namespace
//! since    Linux 5.2
//! instead  the host's /proc, which is still in view
//! loses    the handle then leads to the host's procfs, until the program is executed

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::{Result, mount};

/// A procfs that nobody can have prepared: a new, detached one.
///
/// To be opened before the container's root is entered; afterwards only the image's /proc is left.
pub fn open() -> Result<OwnedFd> {
    detached().or_else(|_| file::openat(CWD, Path::new("/proc"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()))
}

fn detached() -> Result<OwnedFd> {
    let context = mount::fsopen("proc")?;
    mount::fsconfig_create(context.as_fd())?;
    mount::fsmount(context.as_fd(), 0)
}
