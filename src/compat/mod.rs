//! Older kernels, and engines that hide new calls: one file per feature we prefer, the new road and the old one
//! side by side.
//!
//! No `ENOSYS` is visible above this module. Each file begins with a header: what is *needed*, *since* when, what
//! happens *instead*, and what that *loses*.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::sys::{Errno, Refused};

pub mod bpf_replace;
pub mod cgroup_kill;
pub mod clone3;
pub mod close_range;
pub mod faccessat2;
pub mod magic_links;
pub mod memfd_exec;
pub mod memlock;
pub mod mount_api;
pub mod mount_setattr;
pub mod openat2;
pub mod own_fd;
pub mod pid_procfs;
pub mod pidfd;
pub mod procfs;
pub mod pty_peer;

const UNTRIED: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

/// A road that may be closed here; what was found out is remembered for the life of the process.
#[derive(Debug)]
pub struct Road(AtomicU8);

impl Road {
    /// A road nobody has tried yet.
    pub const fn new() -> Self {
        Road(AtomicU8::new(UNTRIED))
    }

    /// Whether it is known to be closed.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CLOSED
    }

    /// Whether it has been taken, and so is known to be open.
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OPEN
    }

    /// Closes it: a call that is needed further down the road is missing.
    pub fn close(&self) {
        self.0.store(CLOSED, Ordering::Relaxed);
    }

    /// Takes the road; `None` says that it is closed.
    ///
    /// `ENOSYS` closes it at once. `EPERM` is what old engines' seccomp profiles answer for calls they do not
    /// know, and also what the kernel answers for good reasons: it closes the road only if the same call on a
    /// `harmless` object gets the same answer. So a refusal that was meant never becomes another way in.
    pub fn take<T, E: Answer>(
        &self,
        go: impl FnOnce() -> Result<T, E>,
        harmless: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<T>, E> {
        let known = self.0.load(Ordering::Relaxed);
        if known == CLOSED {
            return Ok(None);
        }
        match go() {
            Ok(done) => {
                self.0.store(OPEN, Ordering::Relaxed);
                Ok(Some(done))
            }
            Err(refused) if refused.errno() == Errno::ENOSYS => {
                self.0.store(CLOSED, Ordering::Relaxed);
                Ok(None)
            }
            Err(refused) if refused.errno() == Errno::EPERM && known == UNTRIED => match harmless() {
                Err(probe) if matches!(probe.errno(), Errno::EPERM | Errno::ENOSYS) => {
                    self.0.store(CLOSED, Ordering::Relaxed);
                    Ok(None)
                }
                _ => {
                    self.0.store(OPEN, Ordering::Relaxed);
                    Err(refused)
                }
            },
            Err(refused) => Err(refused),
        }
    }
}

/// What a call answers when it refuses.
pub trait Answer {
    /// The kernel's word for it.
    fn errno(&self) -> Errno;
}

impl Answer for Errno {
    fn errno(&self) -> Errno {
        *self
    }
}

impl Answer for Refused {
    fn errno(&self) -> Errno {
        self.errno
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn refuse<T>(errno: Errno) -> Result<T, Refused> {
        Err(Refused::new("test", format_args!(""), errno))
    }

    #[test]
    fn a_missing_call_closes_the_road_for_good() {
        let road = Road::new();
        assert_eq!(road.take(|| refuse::<()>(Errno::ENOSYS), || panic!("not asked")).unwrap(), None);
        assert_eq!(road.take(|| Ok::<_, Errno>(1), || Ok(())).unwrap(), None, "it must not be tried again");
    }

    #[test]
    fn a_meant_refusal_leaves_the_road_open() {
        let road = Road::new();
        assert_eq!(road.take(|| refuse::<()>(Errno::EPERM), || Ok(())).unwrap_err().errno, Errno::EPERM);
        assert_eq!(road.take(|| Ok::<_, Errno>(1), || Ok(())).unwrap(), Some(1));
    }

    #[test]
    fn a_filter_that_refuses_everything_closes_it() {
        let road = Road::new();
        assert_eq!(road.take(|| refuse::<()>(Errno::EPERM), || refuse(Errno::EPERM)).unwrap(), None);
        assert!(road.is_closed());
    }

    #[test]
    fn other_refusals_say_nothing_about_the_road() {
        let road = Road::new();
        assert!(road.take(|| refuse::<()>(Errno::ENOENT), || panic!("not asked")).is_err());
        assert!(!road.is_closed());
    }
}
