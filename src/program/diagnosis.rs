//! Why execve refused a file that is there.

use std::path::Path;

use crate::sys::Errno;

/// A sentence about the file that tells more than the errno; `None` where there is nothing to add.
pub(super) fn why(path: &Path, errno: Errno) -> Option<String> {
    let _ = (path, errno);
    None
}
