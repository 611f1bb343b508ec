//! Executing a program: its strings as the kernel wants them, its working directory, execve.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Errno, Refused, Result, refused};

/// Strings as execve takes them: an array of pointers with a null at its end.
///
/// Built ahead, so that nothing is allocated once a system call filter is in force.
pub struct Strings {
    /// Owns what `pointers` points to; a `CString`'s bytes stay where they are when it is moved.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// Takes over the strings.
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers = Vec::with_capacity(strings.len() + 1);
        pointers.extend(strings.iter().map(|string| string.as_ptr()));
        pointers.push(std::ptr::null());
        Strings { strings, pointers }
    }

    /// The strings, in order.
    pub fn as_slice(&self) -> &[CString] {
        &self.strings
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

/// Replaces this program by another; returns only to say why not. execve(2).
#[must_use]
pub fn execve(path: &CStr, argv: &Strings, envp: &Strings) -> Refused {
    // SAFETY: the path is NUL-terminated; both arrays end with a null pointer, and every other pointer in them is
    // to a NUL-terminated string that `Strings` owns and never changes. The kernel copies all before it lets go
    // of this memory.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    refused!("execve", "{path:?}")(Errno::last())
}

/// Changes the working directory. chdir(2).
pub fn chdir(path: &Path) -> Result<()> {
    rustix::process::chdir(path).map_err(refused!("chdir", "{path:?}"))
}

/// The working directory as the kernel tells it, without the C library's corrections: one that cannot be reached
/// from the root does not begin with `/` but with `(unreachable)`. getcwd(2), Linux 2.6.36 for that prefix.
pub fn getcwd() -> Result<CString> {
    rustix::process::getcwd(Vec::new()).map_err(refused!("getcwd"))
}

/// Type and permission bits of a file, links followed. statx(2), Linux 4.11, or stat(2).
pub fn stat_mode(path: &Path) -> Result<u32> {
    Ok(rustix::fs::stat(path).map_err(refused!("stat", "{path:?}"))?.st_mode)
}

/// Whether we may write to a file, by our real ids. access(2).
pub fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Whether we may execute a file, by our effective ids and capabilities. faccessat2(2), Linux 5.8.
///
/// A call of our own: rustix goes on by itself where it is missing, and asks for ids that a filter may refuse to tell.
pub fn may_execute(path: &Path) -> Result<()> {
    let failed = refused!("faccessat2", "AT_FDCWD, {path:?}, X_OK, AT_EACCESS");
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else { return Err(failed(Errno::EINVAL)) };
    // SAFETY: the name is a string that ends in NUL and outlives the call; nothing is written.
    let done =
        unsafe { libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, name.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
    Errno::result(done).map(drop).map_err(failed)
}

/// Whether we may execute a file, by our real ids. faccessat(2).
pub fn may_execute_by_real_ids(path: &Path) -> Result<()> {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(refused!("faccessat", "AT_FDCWD, {path:?}, X_OK"))
}
