//! needs    openat2(2) with RESOLVE_NO_MAGICLINKS
//! since    Linux 5.6
//! instead  openat(2)
//! loses    a file of the image that is a link to `/proc/self/fd/7` is followed

use std::os::fd::OwnedFd;
use std::path::Path;

use super::Road;
use crate::sys::Result;
use crate::sys::file::{self, CWD, Mode, OFlags, ResolveFlags};

static ROAD: Road = Road::new();

/// Opens a file of the root we are in. Its links are followed, which cannot lead out of the root, but not those of
/// procfs, which can.
pub fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let new = ROAD.take(
        || file::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS),
        || file::openat2(CWD, Path::new("."), OFlags::PATH, Mode::empty(), ResolveFlags::empty()).map(drop),
    )?;
    match new {
        Some(opened) => Ok(opened),
        None => file::openat(CWD, path, flags, Mode::empty()),
    }
}
