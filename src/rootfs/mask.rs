//! Paths the container must not read, and paths it must not write (config-linux.md#masked-paths,
//! #readonly-paths). Both after the root was entered, by handles on it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use specconv::MountLabel;

use super::mount::Site;
use super::target::{self, Links, Missing, Target, clean};
use crate::compat::mount_api::{Detached, Reach, Recipe};
use crate::compat::mount_setattr::{self, Change, attribute};
use crate::compat::openat2::{Mounts, open_beneath};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::Errno;
use crate::sys::file::{self, FileType, Mode, OFlags};
use crate::sys::mount::{MountAttr, OpenTreeFlags};

/// /dev/null (devices.txt).
const NULL: (u32, u32) = (1, 3);

/// A directory with nothing in it, which stays so: a tmpfs of one block and one inode, read-only.
pub(super) fn empty_directory(label: Option<&MountLabel>) -> Result<Detached> {
    let make = |inodes| {
        let mut options = vec![("nr_blocks", Some("1")), ("nr_inodes", Some(inodes)), ("ro", None)];
        if let Some(label) = label {
            options.push((label.option, Some(label.label.as_str())));
        }
        let attributes = attribute::RDONLY;
        Detached::filesystem(&Recipe { fstype: "tmpfs", source: Some("tmpfs"), options, attributes })
    };
    // Some 5.4 kernels count the root twice.
    make("1").or_else(|error| if error.errno() == Some(Errno::ENOSPC) { make("2") } else { Err(error) })
}

/// Makes the listed paths read-only, with everything mounted below them (the root alone, as by `root.readonly`); what does
/// not exist is passed over.
pub(super) fn make_readonly(site: Site<'_>, paths: &[PathBuf]) -> Result<()> {
    for (index, path) in paths.iter().enumerate() {
        readonly(site, path).at(|| format!("linux.readonlyPaths[{index}] ({})", path.display()))?;
    }
    Ok(())
}

fn readonly(site: Site<'_>, path: &Path) -> Result<()> {
    let Some(target) = present(site, path)? else { return Ok(()) };
    if target.path.as_os_str().is_empty() {
        // A copy over the root would not be ours: we are below it.
        let what = MountAttr { set: attribute::RDONLY, ..MountAttr::default() };
        return mount_setattr::set_attached(site.root, &Change { what, recursive: false }, site.proc);
    }
    let mut tree = Detached::copy(target.fd.as_fd(), Path::new(""), Reach::Tree, OpenTreeFlags::empty())?;
    let what = MountAttr { set: attribute::RDONLY, ..MountAttr::default() };
    let recursive = mount_setattr::reaches_trees();
    tree.change(&Change { what, recursive })?;
    site.attach(tree, &target)?;
    Ok(())
}

/// Covers the listed paths; what does not exist is passed over.
pub(super) fn cover(site: Site<'_>, paths: &[PathBuf]) -> Result<()> {
    let mut covers = Covers { null: None, empty: None };
    let mut done: Vec<PathBuf> = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let cleaned = clean(path);
        if done.contains(&cleaned) {
            continue;
        }
        covers.cover(site, &cleaned).at(|| format!("linux.maskedPaths[{index}] ({})", path.display()))?;
        done.push(cleaned);
    }
    Ok(())
}

/// What is laid over masked paths: one object of each kind, however many paths there are.
struct Covers {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Covers {
    fn cover(&mut self, site: Site<'_>, path: &Path) -> Result<()> {
        let Some(target) = present(site, path)? else { return Ok(()) };
        if target.path.as_os_str().is_empty() {
            return Err(Error::new(Kind::Invalid, "it is the root of the container, which nothing can cover"));
        }
        let kind = FileType::from_raw_mode(file::fstat(target.fd.as_fd())?.st_mode);
        if kind != FileType::Directory {
            let null = match &self.null {
                Some(null) => null,
                None => self.null.insert(proved_null(site)?),
            };
            let copy = Detached::copy(null.as_fd(), Path::new(""), Reach::One, OpenTreeFlags::empty())?;
            return site.attach(copy, &target).map(drop);
        }
        match &self.empty {
            None => {
                let made = empty_directory(site.plan.mount_label.as_ref())?;
                self.empty = Some(site.attach(made, &target)?);
            }
            Some(empty) => {
                let copy = Detached::copy(empty.as_fd(), Path::new(""), Reach::One, OpenTreeFlags::empty())?;
                site.attach(copy, &target)?;
            }
        }
        Ok(())
    }
}

/// What is at a path of the container. Only the absence of the path itself excuses from covering it
/// (CVE-2025-31133).
fn present(site: Site<'_>, path: &Path) -> Result<Option<Target>> {
    match target::resolve(site.root, path, Links::Follow, || Ok(Missing::Refuse)) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The container's /dev/null, proved to be one: the image may have put anything there (CVE-2025-31133,
/// CVE-2025-62161).
fn proved_null(site: Site<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let null = open_beneath(site.root, Path::new("dev/null"), flags, Mode::empty(), Mounts::Cross)
        .doing("open /dev/null to cover a file with")?;
    let stat = file::fstat(null.as_fd())?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && file::device_number(stat.st_rdev) == NULL;
    if !is_null {
        return Err(Error::new(Kind::Invalid, "/dev/null of the container is not the null device"));
    }
    Ok(null)
}
