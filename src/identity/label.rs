//! Labels of security modules that the program gets at execve (AppArmor, SELinux).
//!
//! Written in init and in the child of `exec`, by [`write()`], before a system call filter is in force, through a
//! procfs that the container cannot have tampered with: a real procfs file is not proof of the right one
//! (CVE-2019-16884, CVE-2025-52881). A label that cannot be had is an error, never left out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::compat::openat2::{self, Mounts};
use crate::compat::procfs;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, Mode, OFlags};
use crate::sys::{Errno, credential};

/// Labels for the next execve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// Name of a loaded AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux context.
    pub selinux: Option<String>,
}

const SELINUX: &str = "process.selinuxLabel";
const APPARMOR: &str = "process.apparmorProfile";

/// Asks for the labels at the next execve. `no_new_privileges`: whether that will be under no_new_privs, which bounds
/// what a confined runtime may ask AppArmor for.
///
/// # Errors
/// Names the field, and the file in backquotes, as podman looks for it.
pub fn write(labels: &Labels, no_new_privileges: bool) -> Result<()> {
    let field = match labels {
        Labels { apparmor: None, selinux: None } => return Ok(()),
        Labels { selinux: Some(_), .. } => SELINUX,
        Labels { apparmor: Some(_), .. } => APPARMOR,
    };
    let proc = trusted(field)?;
    // What our caller set binds us too.
    write_in(proc.as_fd(), labels, no_new_privileges || credential::no_new_privs()?)
}

/// Asks for the SELinux label on keys that we make: before the session keyring is made. It ends with execve.
///
/// # Errors
/// As [`write()`].
pub fn write_for_keys(labels: &Labels) -> Result<()> {
    let Some(context) = &labels.selinux else { return Ok(()) };
    write_selinux(trusted(SELINUX)?.as_fd(), "keycreate", context).at(|| SELINUX.to_owned())
}

fn trusted(field: &str) -> Result<OwnedFd> {
    procfs::open_of_processes().doing("find a procfs to be trusted").at(|| field.to_owned())
}

fn write_in(proc: BorrowedFd<'_>, labels: &Labels, no_new_privileges: bool) -> Result<()> {
    if let Some(context) = &labels.selinux {
        write_selinux(proc, "exec", context).at(|| SELINUX.to_owned())?;
    }
    if let Some(profile) = &labels.apparmor {
        write_apparmor(proc, profile, no_new_privileges)
            .doing("apparmor failed to apply profile")
            .at(|| APPARMOR.to_owned())?;
    }
    Ok(())
}

fn write_selinux(proc: BorrowedFd<'_>, attribute: &str, context: &str) -> Result<()> {
    match write_attribute(proc, attribute, context) {
        Err(refused) if matches!(refused.errno, Errno::EINVAL | Errno::ENOENT) => Err(Error::new(
            Kind::Unsupported,
            format!(
                "write to `/proc/thread-self/attr/{attribute}`: SELinux is not enabled here, or its policy does not \
                 have {context:?} ({refused})"
            ),
        )),
        other => other.doing_with(|| format!("write to `/proc/thread-self/attr/{attribute}`")),
    }
}

/// Since Linux 5.8 AppArmor has files of its own, which it need not share with another module.
fn write_apparmor(proc: BorrowedFd<'_>, profile: &str, no_new_privileges: bool) -> Result<()> {
    let (directory, confinement) = match read_attribute(proc, "apparmor/current") {
        Err(refused) if refused.errno == Errno::ENOENT => ("", read_attribute(proc, "current")),
        other => ("apparmor/", other),
    };
    let confinement = match confinement {
        // No module answers, or another one.
        Err(refused) if matches!(refused.errno, Errno::EINVAL | Errno::ENOENT) => {
            return Err(Error::new(Kind::Unsupported, format!("AppArmor is not enabled here ({refused})")));
        }
        other => other.doing("read our own profile")?,
    };
    let attribute = format!("{directory}exec");
    // Whoever is confined may under no_new_privs only add a profile to its own (apparmor(7)).
    let stacked = no_new_privileges && !is_unconfined(&confinement);
    let command = format!("{} {profile}", if stacked { "stack" } else { "exec" });
    match write_attribute(proc, &attribute, &command) {
        Err(refused) if refused.errno == Errno::ENOENT => Err(Error::new(
            Kind::Unsupported,
            format!("write to `/proc/thread-self/attr/{attribute}`: the profile {profile:?} is not loaded ({refused})"),
        )),
        other => other.doing_with(|| format!("write to `/proc/thread-self/attr/{attribute}`")),
    }
}

/// Whether the answer of attr/current is exactly `unconfined`; `unconfined_shop` is a profile, and so is every
/// answer with a mode behind it (`docker-default (enforce)`).
pub(crate) fn is_unconfined(current: &[u8]) -> bool {
    current.trim_ascii_end().strip_suffix(b"\0").unwrap_or(current.trim_ascii_end()) == b"unconfined"
}

/// The path of an attribute of this very thread. Only the procfs knows our number in its pid namespace.
fn attribute_path(proc: BorrowedFd<'_>, attribute: &str) -> crate::sys::Result<PathBuf> {
    let mut path = file::readlinkat(proc, Path::new("thread-self"))?;
    path.push("attr");
    path.push(attribute);
    Ok(path)
}

fn open_attribute(proc: BorrowedFd<'_>, attribute: &str, flags: OFlags) -> crate::sys::Result<OwnedFd> {
    openat2::open_beneath(proc, &attribute_path(proc, attribute)?, flags, Mode::empty(), Mounts::Stay)
}

fn read_attribute(proc: BorrowedFd<'_>, attribute: &str) -> crate::sys::Result<Vec<u8>> {
    file::read_all(open_attribute(proc, attribute, OFlags::RDONLY)?, 4096)
}

/// One write is one command.
fn write_attribute(proc: BorrowedFd<'_>, attribute: &str, command: &str) -> crate::sys::Result<()> {
    let file = open_attribute(proc, attribute, OFlags::WRONLY)?;
    file::write(&file.as_fd(), command.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// A tree that looks like a procfs with AppArmor, to see what is written where.
    struct Procfs(PathBuf);

    impl Procfs {
        fn new(name: &str, own_files: bool, confinement: &str) -> Self {
            let root = std::env::temp_dir().join(format!("orlop-label-{name}-{}", std::process::id()));
            let attr = root.join("7/task/7/attr");
            std::fs::create_dir_all(attr.join("apparmor")).unwrap();
            std::os::unix::fs::symlink("7/task/7", root.join("thread-self")).unwrap();
            let attr = if own_files { attr.join("apparmor") } else { attr };
            std::fs::write(attr.join("current"), confinement).unwrap();
            std::fs::write(attr.join("exec"), "").unwrap();
            Procfs(root)
        }

        fn write(&self, profile: &str, no_new_privileges: bool) -> Result<()> {
            let root = std::fs::File::open(&self.0).unwrap();
            write_in(root.as_fd(), &Labels { apparmor: Some(profile.to_owned()), selinux: None }, no_new_privileges)
        }

        fn read(&self, file: &str) -> String {
            std::fs::read_to_string(self.0.join("7/task/7/attr").join(file)).unwrap()
        }
    }

    impl Drop for Procfs {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_profile_is_written_where_apparmor_reads_it() {
        let new = Procfs::new("new", true, "unconfined\n");
        new.write("shop", true).unwrap();
        assert_eq!(new.read("apparmor/exec"), "exec shop");
        let old = Procfs::new("old", false, "unconfined\n");
        old.write("shop", false).unwrap();
        assert_eq!(old.read("exec"), "exec shop");
    }

    #[test]
    fn who_is_confined_stacks_under_no_new_privileges() {
        let confined = Procfs::new("confined", true, "outer (enforce)\n");
        confined.write("shop", true).unwrap();
        assert_eq!(confined.read("apparmor/exec"), "stack shop");
        let free = Procfs::new("free", true, "outer (enforce)\n");
        free.write("shop", false).unwrap();
        assert_eq!(free.read("apparmor/exec"), "exec shop");
    }

    #[test]
    fn unconfined_is_one_word_and_no_other() {
        assert!(is_unconfined(b"unconfined\n"));
        assert!(is_unconfined(b"unconfined\0"));
        for other in ["unconfined_shop (enforce)\n", "unconfined (enforce)", "", "un", "xunconfined"] {
            assert!(!is_unconfined(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn links_in_the_way_are_refused() {
        let trap = Procfs::new("trap", true, "unconfined\n");
        let exec = trap.0.join("7/task/7/attr/apparmor/exec");
        std::fs::remove_file(&exec).unwrap();
        std::os::unix::fs::symlink("current", &exec).unwrap();
        let error = trap.write("shop", false).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ELOOP));
        assert!(error.to_string().contains("`/proc/thread-self/attr/apparmor/exec`"), "{error}");
        assert_eq!(trap.read("apparmor/current"), "unconfined\n");
    }

    #[test]
    fn a_module_that_is_off_is_an_error() {
        // Hosts with a security module on answer otherwise.
        if std::fs::read("/sys/kernel/security/lsm")
            .is_ok_and(|list| list.windows(4).any(|word| word == b"armo" || word == b"seli"))
        {
            return;
        }
        let try_with = |apparmor: Option<&str>, selinux: Option<&str>| {
            let (apparmor, selinux) = (apparmor.map(str::to_owned), selinux.map(str::to_owned));
            write(&Labels { apparmor, selinux }, false)
        };
        let error = try_with(Some("docker-default"), None).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let sentence = "process.apparmorProfile: apparmor failed to apply profile: AppArmor is not enabled here";
        assert!(error.to_string().starts_with(sentence), "{error}");
        let error = try_with(None, Some("system_u:system_r:container_t:s0")).unwrap_err().to_string();
        assert!(
            error.starts_with("process.selinuxLabel: ") && error.contains("`/proc/thread-self/attr/exec`"),
            "{error}"
        );
    }
}
