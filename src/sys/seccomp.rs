//! Filters of system calls: seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd};

use seccompiler::sock_filter;

use super::{Errno, Result, refused};

/// `SECCOMP_FILTER_FLAG_*` (linux/seccomp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Log all actions but to allow. Linux 4.14.
    pub const LOG: Flags = Flags(1 << 1);
    /// No mitigation of speculative store bypass. Linux 4.17.
    pub const SPEC_ALLOW: Flags = Flags(1 << 2);
    /// A descriptor for an agent that answers notifications. Linux 5.0.
    pub const NEW_LISTENER: Flags = Flags(1 << 3);
    /// Who waits for an agent that has received the notification is woken by fatal signals only. Linux 5.19.
    pub const WAIT_KILLABLE_RECV: Flags = Flags(1 << 5);

    /// Whether all of these are among them.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Puts the calling thread under a filter, beside those that it is under already. seccomp(2),
/// SECCOMP_SET_MODE_FILTER, Linux 3.17.
///
/// Returns the listener where [`Flags::NEW_LISTENER`] asks for one; the kernel makes it close-on-exec. Needs
/// no_new_privs, or CAP_SYS_ADMIN in the user namespace.
pub fn set_mode_filter(program: &[sock_filter], flags: Flags) -> Result<Option<OwnedFd>> {
    let failed = refused!("seccomp", "SECCOMP_SET_MODE_FILTER, {:#x}, {} instructions", flags.0, program.len());
    let Ok(len) = u16::try_from(program.len()) else { return Err(failed(Errno::E2BIG)) };
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program is borrowed for the length of the call and `len` is its length; `sock_filter` is the
    // kernel's structure, repr(C) of a u16, two u8 and a u32; the kernel only reads it, and copies it.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0 as libc::c_ulong, &raw const program)
    };
    match Errno::result(done) {
        Err(errno) => Err(failed(errno)),
        // SAFETY: with this flag the kernel answers with a descriptor that it has just made for us.
        Ok(fd) if flags.contains(Flags::NEW_LISTENER) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        Ok(_) => Ok(None),
    }
}

/// Whether the kernel knows these flags: it looks at the program only after them, and there is none.
pub fn knows(flags: Flags) -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is refused with EFAULT before anything is changed.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0 as libc::c_ulong, nothing) };
    matches!(Errno::result(done), Err(Errno::EFAULT))
}
