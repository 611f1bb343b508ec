//! Facts about this machine and about who we are on it, read once, before any decision.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use specconv::Process;

use crate::error::{Context, Result};
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::refused;

/// What `plan` has to know of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Effective user id of the runtime.
    pub uid: u32,
    /// Effective group id of the runtime.
    pub gid: u32,
    /// Whether the runtime itself lives in a user namespace that somebody made.
    pub in_user_namespace: bool,
    /// Whether setgroups(2) is denied in the runtime's own user namespace.
    pub setgroups_denied: bool,
    /// Whether AppArmor is on. It is looked at only where there is a profile to apply ([`Host::look_at_modules`]),
    /// and is false until then.
    pub apparmor: bool,
    /// Whether SELinux is on. It is looked at only where there is a label to set ([`Host::look_at_modules`]), and is
    /// false until then.
    pub selinux: bool,
}

/// Inode of the first user namespace (PROC_USER_INIT_INO). The map of ids would not tell: systemd 260 makes
/// identity maps too.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

impl Host {
    /// Reads the facts.
    ///
    /// # Errors
    /// Where /proc is not mounted.
    pub fn observe() -> Result<Host> {
        let own = std::fs::metadata("/proc/self/ns/user")
            .map_err(refused!("stat", "\"/proc/self/ns/user\""))
            .doing("look at our own user namespace")?;
        let in_user_namespace = own.ino() != INITIAL_USER_NAMESPACE;
        let setgroups_denied = in_user_namespace
            && std::fs::read("/proc/self/setgroups")
                .map_err(refused!("read", "\"/proc/self/setgroups\""))
                .doing("look at our own user namespace")?
                .starts_with(b"deny");
        Ok(Host {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            in_user_namespace,
            setgroups_denied,
            apparmor: false,
            selinux: false,
        })
    }

    /// Looks at the security modules that are asked for a label, and at no other.
    pub fn look_at_modules(&mut self, process: Option<&Process>, mount_label: bool) {
        if process.is_some_and(|process| process.apparmor_profile.is_some()) {
            self.look_at_apparmor();
        }
        if mount_label || process.is_some_and(|process| process.selinux_label.is_some()) {
            self.look_at_selinux();
        }
    }

    /// Looks whether AppArmor is on: the module says so itself, where engines look too.
    fn look_at_apparmor(&mut self) {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        self.apparmor = enabled.is_ok_and(|answer| answer.starts_with(b"Y"));
    }

    /// Looks whether SELinux is on: its filesystem is mounted then, where it always is (selinux(8)).
    fn look_at_selinux(&mut self) {
        const SELINUX_MAGIC: u64 = 0xf97c_ff8c;
        let place = file::openat(CWD, Path::new("/sys/fs/selinux"), OFlags::PATH, Mode::empty());
        let found = place.and_then(|place| file::fstatfs(place.as_fd()));
        self.selinux = found.is_ok_and(|found| found.magic == SELINUX_MAGIC);
    }

    /// Whether the runtime may do what root may do, in its own user namespace at least.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}
