//! The working directory: entered as root of the container or as the user, and never outside of the root.

use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::sys::{Errno, exec};

/// Whether container root could enter the working directory.
#[derive(Debug)]
#[must_use]
pub enum Entered {
    /// We are in it, and it is where it should be.
    Yes,
    /// Root may not go there; perhaps the user may ([`enter_cwd_as_user`]).
    NotAsRoot,
}

/// First try at the working directory, as root of the container.
///
/// A refusal for lack of rights (a FUSE or NFS volume that belongs to the user alone) is not final.
pub fn enter_cwd(cwd: &Path) -> Result<Entered> {
    match exec::chdir(cwd) {
        Ok(()) => verify_cwd(cwd).map(|()| Entered::Yes),
        Err(refused) if matches!(refused.errno, Errno::EACCES | Errno::EPERM) => Ok(Entered::NotAsRoot),
        Err(refused) => Err(refused).doing("enter working directory").at(|| "process.cwd".to_owned()),
    }
}

/// Second try, as the user; nothing to do where the first one succeeded.
pub fn enter_cwd_as_user(cwd: &Path, before: Entered) -> Result<()> {
    match before {
        Entered::Yes => Ok(()),
        Entered::NotAsRoot => {
            exec::chdir(cwd).doing("enter working directory").at(|| "process.cwd".to_owned())?;
            verify_cwd(cwd)
        }
    }
}

/// Refuses a working directory outside the container's root (CVE-2024-21626: `cwd` was `/proc/self/fd/7`).
///
/// The kernel's answer begins with `/` only for a directory that can be reached from the root.
fn verify_cwd(cwd: &Path) -> Result<()> {
    let outside = |seen: &dyn std::fmt::Debug| {
        Error::invalid(
            "process.cwd",
            format_args!("{cwd:?} is outside of the container's root ({seen:?}): possible container breakout"),
        )
    };
    match exec::getcwd() {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(path) => Err(outside(&path)),
        Err(refused) if refused.errno == Errno::ENOENT => Err(outside(&"it was deleted, or cannot be reached")),
        Err(refused) => Err(refused).doing("verify working directory").at(|| "process.cwd".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::identity::tests::{in_thread, is_root};

    #[test]
    fn a_working_directory_that_was_removed_is_refused() {
        let ((), _) = in_thread(|| {
            // A working directory of this thread's own.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            let dir = std::env::temp_dir().join(format!("orlop-cwd-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            assert!(matches!(enter_cwd(&dir).unwrap(), Entered::Yes));
            let handle = std::fs::File::open(&dir).unwrap();
            std::fs::remove_dir(&dir).unwrap();
            let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
            let error = enter_cwd(Path::new(&magic)).unwrap_err().to_string();
            assert!(error.starts_with("process.cwd: ") && error.contains("container breakout"), "{error}");
            let error = enter_cwd(&dir).unwrap_err().to_string();
            assert!(error.contains("no such file or directory"), "{error}");
        });
    }

    #[test]
    fn a_working_directory_outside_of_the_root_is_refused() {
        if !is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("orlop-root-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let outside = dir.clone();
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            // CVE-2024-21626: a handle of the host's in a process whose root is elsewhere.
            rustix::process::chroot(&outside).unwrap();
            enter_cwd(Path::new("..")).unwrap_err().to_string()
        });
        let error = thread.join().unwrap();
        std::fs::remove_dir(&dir).unwrap();
        assert!(error.contains("(unreachable)"), "{error}");
    }
}
