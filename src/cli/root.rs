//! Where the state directories are: `--root`, or the place that the user's privileges allow.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::args::Global;

/// The directory of all state directories.
pub struct Root {
    /// Absolute.
    pub path: PathBuf,
    /// Whether the user named it.
    pub named: bool,
    /// Whether it lies in XDG_RUNTIME_DIR, where cleaners of old files roam.
    in_runtime_dir: bool,
}

impl Root {
    /// `--root`, made absolute, or the default.
    ///
    /// # Errors
    /// `--root` means `/`.
    pub fn of(global: &Global) -> anyhow::Result<Self> {
        if let Some(root) = &global.root {
            // Of an empty word, too: runc takes it for the working directory.
            let named = if root.as_os_str().is_empty() { Path::new(".") } else { root };
            let path = std::path::absolute(named).with_context(|| format!("cannot use --root {}", root.display()))?;
            if is_slash(&path) {
                bail!("Option --root argument should not be set to /");
            }
            return Ok(Root { path, named: true, in_runtime_dir: false });
        }
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) if !is_real_root() => {
                Ok(Root { path: Path::new(&dir).join("orlop"), named: false, in_runtime_dir: true })
            }
            _ => Ok(Root { path: "/run/orlop".into(), named: false, in_runtime_dir: false }),
        }
    }

    /// Makes it ready for a new container. In XDG_RUNTIME_DIR it is made sticky, so that cleaners leave it (XDG Base
    /// Directory Specification); elsewhere the store makes it when it needs it.
    pub fn prepare(&self) -> anyhow::Result<()> {
        if self.in_runtime_dir {
            let doing = || format!("cannot make {}", self.path.display());
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).with_context(doing)?;
            let sticky = std::fs::Permissions::from_mode(0o1700);
            std::fs::set_permissions(&self.path, sticky).with_context(doing)?;
        }
        Ok(())
    }
}

fn is_slash(path: &Path) -> bool {
    use std::path::Component::{CurDir, Normal, ParentDir, Prefix, RootDir};
    let mut depth = 0_usize;
    for part in path.components() {
        match part {
            Normal(_) => depth += 1,
            ParentDir => depth = depth.saturating_sub(1),
            Prefix(_) | RootDir | CurDir => {}
        }
    }
    depth == 0
}

/// Root of the host, or one that says it is: in a user namespace only `USER=root` does.
fn is_real_root() -> bool {
    rustix::process::geteuid().is_root()
        && (!in_user_namespace() || std::env::var_os("USER").is_some_and(|user| user == "root"))
}

fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slash_by_other_names() {
        for path in ["/", "//", "/.", "/..", "/a/..", "/a/../../.."] {
            assert!(is_slash(Path::new(path)), "{path}");
        }
        for path in ["/a", "/a/../b", "/run/orlop"] {
            assert!(!is_slash(Path::new(path)), "{path}");
        }
    }
}
