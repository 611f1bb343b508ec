//! Facts about this machine and about who we are on it, read once, before any decision.

use std::os::unix::fs::MetadataExt;

use crate::error::{Context, Result};
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
        })
    }

    /// Whether the runtime may do what root may do, in its own user namespace at least.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}
