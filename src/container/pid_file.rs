//! The file that tells a caller init's process id.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::refused;

/// A pid file that was written; taken back when dropped before [`PidFile::keep`].
#[derive(Debug)]
pub(super) struct PidFile {
    path: Option<PathBuf>,
}

impl PidFile {
    /// Writes the number, without a newline (callers parse the whole file), under a passing name first: who sees the
    /// file sees all of it.
    pub(super) fn write(path: &Path, pid: i32) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::new(Kind::Invalid, format!("--pid-file {}: is no name of a file", path.display())));
        };
        let draft = path.with_file_name(format!(".{}", name.to_string_lossy()));
        let open = || OpenOptions::new().write(true).create_new(true).open(&draft);
        let written = open()
            .or_else(|error| match error.kind() {
                // Left behind by a create that was killed.
                ErrorKind::AlreadyExists => std::fs::remove_file(&draft).and_then(|()| open()),
                _ => Err(error),
            })
            .and_then(|mut file| file.write_all(pid.to_string().as_bytes()))
            .and_then(|()| std::fs::rename(&draft, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written.map_err(refused!("write", "{path:?}")).doing("write the pid file")?;
        Ok(PidFile { path: Some(path.to_owned()) })
    }

    /// The process stands; so does the file.
    pub(super) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}
