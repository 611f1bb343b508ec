//! The kernel, thinly: the only module with unsafe code, and the only one that makes system calls.
//!
//! A function here is named exactly as the kernel names the call, cites its man page and the first Linux
//! that has it, takes borrowed descriptors and returns owned ones (always close-on-exec), and fails with
//! [`Refused`], which tells the call with its arguments. Calls that rustix or nix offer are made through
//! them; this layer then only adds the name and the arguments. No policy lives here: no retry with other
//! flags, no fallback (that is `crate::compat`).

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub mod bpf;
pub mod cgroupfs;
pub mod credential;
pub mod descriptor;
pub mod event;
pub mod exec;
pub mod file;
pub mod lock;
pub mod memfd;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod pattern;
pub mod process;
pub mod pty;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod uts;

pub use nix::errno::Errno;

/// What a wrapper of this layer returns.
pub type Result<T> = std::result::Result<T, Refused>;

/// A system call that failed, with its arguments.
///
/// Prints as `openat2([5]</run/rootfs>, "data"): no such file or directory (ENOENT)`. The text of the error
/// is lower-case, as Go prints it: engines look for `permission denied` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Name of the call.
    pub call: Cow<'static, str>,
    /// Its arguments, as text.
    pub args: String,
    /// What the kernel answered.
    pub errno: Errno,
}

impl Refused {
    /// A failure of `call` with these arguments.
    pub fn new(call: &'static str, args: fmt::Arguments<'_>, errno: impl Into<Refusal>) -> Self {
        Refused { call: Cow::Borrowed(call), args: args.to_string(), errno: errno.into().0 }
    }
}

/// An errno from whichever crate made the call.
pub struct Refusal(Errno);

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal(errno)
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(errno: rustix::io::Errno) -> Self {
        Refusal(Errno::from_raw(errno.raw_os_error()))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Refusal(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {}", self.call, self.args, Words(self.errno))
    }
}

impl std::error::Error for Refused {}

/// An errno as people read it: `no such file or directory (ENOENT)`.
pub struct Words(pub Errno);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.desc().chars();
        if let Some(first) = text.next() {
            write!(f, "{}", first.to_ascii_lowercase())?;
        }
        write!(f, "{} ({:?})", text.as_str(), self.0)
    }
}

/// Makes a [`Refused`] of a failed call: `.map_err(refused!("openat", "{}, {path:?}", Fd(&dir)))`.
///
/// The arguments are turned into text only when the call has failed.
#[macro_export]
#[doc(hidden)]
macro_rules! refused {
    ($call:literal) => {
        |errno| $crate::sys::Refused::new($call, format_args!(""), errno)
    };
    ($call:literal, $($args:tt)+) => {
        |errno| $crate::sys::Refused::new($call, format_args!($($args)+), errno)
    };
}
pub use crate::refused;

/// Whether `/proc/self/fd` may be asked for the paths of descriptors in messages. Init switches it off before
/// the container's own /proc (which anybody may have made) comes into view.
static NAMES_IN_SIGHT: AtomicBool = AtomicBool::new(true);

/// From now on descriptors are printed as numbers alone.
pub fn stop_naming_descriptors() {
    NAMES_IN_SIGHT.store(false, Ordering::Relaxed);
}

/// A descriptor in a message: `[5]</run/rootfs>`.
pub struct Fd<'a>(BorrowedFd<'a>);

/// Shows a descriptor in a message.
pub fn fd<F: AsFd>(fd: &F) -> Fd<'_> {
    Fd(fd.as_fd())
}

impl fmt::Display for Fd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.as_raw_fd();
        if number == rustix::fs::CWD.as_raw_fd() {
            return f.write_str("AT_FDCWD");
        }
        write!(f, "[{number}]")?;
        if NAMES_IN_SIGHT.load(Ordering::Relaxed)
            && let Ok(path) = std::fs::read_link(Path::new("/proc/self/fd").join(number.to_string()))
        {
            write!(f, "<{}>", path.display())?;
        }
        Ok(())
    }
}
