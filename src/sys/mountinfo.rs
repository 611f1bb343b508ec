//! The kernel's table of mounts, /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Result;
use super::file::{self, CWD, Mode, OFlags};

/// A line of the table. Names are bytes.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Its number.
    pub id: &'a [u8],
    /// The number of the mount that it lies on.
    pub parent: &'a [u8],
    /// What of its filesystem shows.
    pub root: Name<'a>,
    /// Where it is.
    pub point: Name<'a>,
    /// The peer group that it is shared in.
    pub group: Option<u32>,
    /// Type of the filesystem.
    pub fstype: &'a [u8],
    /// Options of the filesystem, separated by commas.
    pub options: &'a [u8],
}

/// A path as the table has it: space, tab, newline and backslash are written as three octal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

/// The table of our own mount namespace.
///
/// # Errors
/// Where /proc is not mounted.
pub fn read() -> Result<Vec<u8>> {
    let table = file::openat(CWD, Path::new("/proc/self/mountinfo"), OFlags::RDONLY, Mode::empty())?;
    file::read_all(table, u64::MAX)
}

/// The mounts of a table, in its order. What is no line of one is passed over.
pub fn mounts(table: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(Mount::parse)
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, parent, _device) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, point, _options) = (Name(fields.next()?), Name(fields.next()?), fields.next()?);
        // Optional fields, as many as there are, end with a dash.
        let mut group = None;
        loop {
            match fields.next()? {
                b"-" => break,
                field => group = group.or_else(|| number(field.strip_prefix(b"shared:")?)),
            }
        }
        let (fstype, _source) = (fields.next()?, fields.next());
        Some(Mount { id, parent, root, point, group, fstype, options: fields.next().unwrap_or_default() })
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl<'a> Name<'a> {
    /// As it is written, for comparisons with names that need no escape.
    pub fn escaped(self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.0))
    }

    /// The path itself.
    pub fn path(self) -> PathBuf {
        let mut plain = Vec::with_capacity(self.0.len());
        let mut rest = self.0;
        while let [first, more @ ..] = rest {
            let (byte, more) = match (first, more) {
                (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                    ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), more)
                }
                _ => (*first, more),
            };
            plain.push(byte);
            rest = more;
        }
        OsString::from_vec(plain).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_line_has_as_many_optional_fields_as_it_likes() {
        let only = |line: &'static str| mounts(line.as_bytes()).next().unwrap();
        let mount = only("26 22 0:6 /part /a\\040b\\134040 rw,nosuid master:2 shared:1 - cgroup  rw,cpu");
        assert_eq!((mount.id, mount.parent, mount.group), (&b"26"[..], &b"22"[..], Some(1)));
        assert_eq!((mount.root.path(), mount.point.path()), ("/part".into(), "/a b\\040".into()));
        assert_eq!((mount.fstype, mount.options), (&b"cgroup"[..], &b"rw,cpu"[..]), "the source has no name");
        assert_eq!(only("21 1 0:1 / / rw - ext4 x rw").group, None);
        assert_eq!(mounts(b"\n21 1 0:1 / / rw ext4\n").count(), 0);
    }
}
