//! Where in a hierarchy the container goes.
//!
//! runc's rules, which the specification allows ("interpreted relative to a runtime-determined location"): an
//! absolute `cgroupsPath` lies below the mount point; a relative one, or the id where there is none, lies below
//! the runtime's own cgroup on v1, and *beside* it on v2 -- there the own cgroup has processes, so that nothing
//! below it could have controllers.

use std::path::{Path, PathBuf};

use super::layout::{Hierarchy, Mode};
use crate::error::{Error, Result};

const FIELD: &str = "linux.cgroupsPath";

/// Longest name of a directory (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// One directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the hierarchy is mounted.
    pub mount_point: PathBuf,
    /// Controllers of a hierarchy of v1, `name=systemd` among them; empty for v2.
    pub controllers: Vec<String>,
    /// The cgroup, relative to the mount point: clean components, at least one.
    pub path: String,
}

impl Place {
    /// Whether it lies in the hierarchy of cgroup v2.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The directory as an absolute path of the host.
    pub fn directory(&self) -> PathBuf {
        self.mount_point.join(&self.path)
    }
}

/// Whether a container joins this hierarchy: all controllers, v2, and of the hierarchies without controllers
/// only systemd's, which tells systemd that the process is not its own.
pub fn is_joined(hierarchy: &Hierarchy) -> bool {
    hierarchy.controllers.iter().all(|name| !name.starts_with("name=") || name == "name=systemd")
}

/// Where the container goes in one hierarchy.
///
/// # Errors
/// A path that names the hierarchy's root, or no possible directory; a relative one where the runtime's own
/// cgroup cannot be seen.
pub fn place(wish: Option<&str>, id: &str, hierarchy: &Hierarchy, mode: Mode) -> Result<Place> {
    let wish = wish.filter(|path| !path.is_empty());
    let inner = components(wish.unwrap_or(id), FIELD)?;
    if inner.is_empty() {
        return Err(is_root());
    }
    let mut path = Vec::new();
    if !wish.is_some_and(|path| path.starts_with('/')) {
        path = own(hierarchy)?;
        if hierarchy.is_v2() && mode == Mode::Hybrid {
            // runc's choice: beside v1 the tree of v2 serves only to be joined.
            path.clear();
        } else if hierarchy.is_v2() {
            path.pop();
        }
    }
    path.extend(inner);
    Ok(Place {
        mount_point: hierarchy.mount_point.clone(),
        controllers: hierarchy.controllers.clone(),
        path: path.join("/"),
    })
}

/// Where a unit of systemd's lies in one hierarchy, from its cgroup as /proc/PID/cgroup names it.
///
/// # Errors
/// A hierarchy of which this mount shows another part; its root, which is the slice `-.slice`.
pub fn place_of_unit(path: &str, hierarchy: &Hierarchy) -> Result<Place> {
    let below = Path::new(path).strip_prefix(&hierarchy.root).ok().and_then(Path::to_str);
    let below = below.filter(|path| !path.split('/').any(|component| component == "..")).ok_or_else(|| {
        let (mount_point, root) = (hierarchy.mount_point.display(), &hierarchy.root);
        Error::unsupported(
            FIELD,
            format!("systemd's cgroup {path:?} does not lie below {mount_point} (which shows {root:?})"),
        )
    })?;
    let path = clean(below).join("/");
    if path.is_empty() {
        return Err(is_root());
    }
    Ok(Place { mount_point: hierarchy.mount_point.clone(), controllers: hierarchy.controllers.clone(), path })
}

fn is_root() -> Error {
    Error::invalid(FIELD, "names the root of the cgroup hierarchy, where no container can be")
}

/// The components of a path that somebody asked for, as in [`clean`].
///
/// # Errors
/// One that cannot be the name of a directory.
pub(super) fn components<'a>(path: &'a str, field: &str) -> Result<Vec<&'a str>> {
    let components = clean(path);
    match components.iter().find(|name| name.len() > LONGEST_NAME || name.contains(['\n', '\0'])) {
        Some(name) => Err(Error::invalid(field, format!("{name:?} cannot be the name of a cgroup"))),
        None => Ok(components),
    }
}

/// The components of a path in which `..` never leads above the root (T25).
fn clean(path: &str) -> Vec<&str> {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    components
}

/// The runtime's own cgroup, below the mount point.
fn own(hierarchy: &Hierarchy) -> Result<Vec<&str>> {
    // Without a cgroup namespace a nested runtime reads the host's path of its cgroup, of which the mount shows
    // only the end.
    let below = Path::new(&hierarchy.own).strip_prefix(&hierarchy.root).ok().and_then(Path::to_str);
    below.filter(|path| !path.split('/').any(|component| component == "..")).map(clean).ok_or_else(|| {
        let why = format!(
            "the runtime's own cgroup {:?} does not lie below {} (which shows {:?}): give an absolute path",
            hierarchy.own,
            hierarchy.mount_point.display(),
            hierarchy.root
        );
        Error::unsupported(FIELD, why)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn hierarchy(controllers: &[&str], root: &str, own: &str) -> Hierarchy {
        Hierarchy {
            mount_point: PathBuf::from("/sys/fs/cgroup/x"),
            root: root.to_owned(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            own: own.to_owned(),
        }
    }

    fn path(wish: Option<&str>, hierarchy: &Hierarchy, mode: Mode) -> String {
        place(wish, "web", hierarchy, mode).unwrap().path
    }

    #[test]
    fn absolute_and_relative() {
        let v1 = hierarchy(&["memory"], "/", "/user/1");
        let v2 = hierarchy(&[], "/", "/user/1");
        let top = hierarchy(&[], "/", "/");
        assert_eq!(path(Some("/a/b"), &v1, Mode::Legacy), "a/b");
        assert_eq!(path(Some("/a/b"), &v2, Mode::Unified), "a/b");
        assert_eq!(path(Some("a/b"), &v1, Mode::Legacy), "user/1/a/b");
        assert_eq!(path(Some("a/b"), &v2, Mode::Unified), "user/a/b");
        assert_eq!(path(None, &v1, Mode::Legacy), "user/1/web");
        assert_eq!(path(Some(""), &v2, Mode::Unified), "user/web");
        assert_eq!(path(None, &top, Mode::Unified), "web");
        assert_eq!(path(None, &v2, Mode::Hybrid), "web");
    }

    #[test]
    fn nested_without_a_cgroup_namespace() {
        let nested = hierarchy(&["memory"], "/docker/x", "/docker/x/y");
        assert_eq!(path(None, &nested, Mode::Legacy), "y/web");
        let sibling = hierarchy(&["memory"], "/docker/x", "/docker/xx/y");
        assert!(place(None, "web", &sibling, Mode::Legacy).unwrap_err().to_string().contains("absolute path"));
        let outside = hierarchy(&[], "/", "/../other");
        assert!(place(None, "web", &outside, Mode::Unified).is_err());
        assert_eq!(path(Some("/web"), &outside, Mode::Unified), "web");
    }

    /// T25: no path leads out of the hierarchy, or out of the runtime's place in it.
    #[test]
    fn dots_lead_nowhere() {
        let v1 = hierarchy(&["memory"], "/", "/user/1");
        assert_eq!(path(Some("../../../foo"), &v1, Mode::Legacy), "user/1/foo");
        assert_eq!(path(Some("/../foo//./bar/../foo2/"), &v1, Mode::Legacy), "foo/foo2");
        for wish in ["/", "/..", "..", ".", "/a/..", "a\nb", &"x".repeat(256)] {
            let refused = place(Some(wish), "web", &v1, Mode::Legacy).unwrap_err();
            assert!(refused.to_string().starts_with("linux.cgroupsPath: "), "{wish:?}: {refused}");
        }
    }

    #[test]
    fn units_lie_below_the_mount_and_are_not_its_root() {
        let all = hierarchy(&[], "/", "/");
        let some = hierarchy(&[], "/docker/x", "/docker/x/y");
        assert_eq!(place_of_unit("/a.slice/b.scope", &all).unwrap().path, "a.slice/b.scope");
        assert_eq!(place_of_unit("/docker/x/b.scope", &some).unwrap().path, "b.scope");
        for (path, hierarchy) in
            [("/", &all), ("/docker/x", &some), ("/b.scope", &some), ("/docker/x/../b.scope", &some)]
        {
            assert!(place_of_unit(path, hierarchy).is_err(), "{path}");
        }
    }

    #[test]
    fn joined_hierarchies() {
        assert!(is_joined(&hierarchy(&["cpu", "cpuacct"], "/", "/")));
        assert!(is_joined(&hierarchy(&["name=systemd"], "/", "/")));
        assert!(is_joined(&hierarchy(&[], "/", "/")));
        assert!(!is_joined(&hierarchy(&["name=elogind"], "/", "/")));
    }
}
