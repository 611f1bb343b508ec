//! Programs run beside us: clone with our memory lent, and exec.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::ptr;

use super::descriptor::{self, Progress, Watch};
use super::file::{self, CWD, Mode, OFlags};
use super::process::{Child, Ended, Pid};
use super::signal::{self, Set};
use super::{Errno, Refused, Result, fd, refused};

/// A program to run, with everything it gets.
#[derive(Debug)]
pub struct Program<'a> {
    /// Where it is; never searched in PATH.
    pub path: &'a CStr,
    /// Its arguments, the first being its name.
    pub args: &'a [CString],
    /// Its whole environment.
    pub env: &'a [CString],
    /// Its standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
}

/// Enough for what the child does before it executes: a few calls, and the text of one failure.
const STACK: usize = 64 * 1024;

struct Errand<'a, 'b> {
    stdio: [BorrowedFd<'a>; 3],
    prepare: &'a mut (dyn FnMut() -> Result<()> + 'b),
    path: &'a CStr,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    failure: Option<Refused>,
}

/// Runs a program. `prepare` is called in the child, last before the program is executed.
///
/// clone(2) with CLONE_VM and CLONE_VFORK (as posix_spawn(3) does it) and CLONE_PIDFD (Linux 5.2): no page table is
/// copied, and a failure of the child's reaches us through memory. Until the program runs the calling thread
/// waits, so `prepare` may use what it borrows, but it must not leave locks taken.
///
/// # Errors
/// The call that the child failed at, execve(2) included; then there is no child left.
pub fn spawn(program: &Program<'_>, prepare: &mut dyn FnMut() -> Result<()>) -> Result<Child> {
    // A pipe of ours may have landed on 0 to 2, where the child's dup2 would run it over.
    let lifted = lift(program.stdio)?;
    let mut stdio = program.stdio;
    for (place, high) in stdio.iter_mut().zip(&lifted) {
        if let Some(high) = high {
            *place = high.as_fd();
        }
    }
    let mut errand = Errand {
        stdio,
        prepare,
        path: program.path,
        args: pointers(program.args),
        env: pointers(program.env),
        failure: None,
    };
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // A handler of our caller's must not run in the child, on our memory.
    let mask = signal::set_mask(Set::ALL);
    // SAFETY: the stack is ours, 16-byte aligned, its end is passed as it grows down, and CLONE_VFORK keeps this
    // frame, `errand` and `pidfd` in place until the child has executed or exited, so it is the only user
    // of them meanwhile; `child` never returns through frames of ours. Descriptors, signal dispositions and the
    // working directory are the child's own copies (no CLONE_FILES, CLONE_SIGHAND, CLONE_FS).
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.capacity());
        libc::clone(child, top.cast(), flags, (&raw mut errand).cast(), &raw mut pidfd)
    };
    let errno = Errno::last();
    signal::set_mask(mask);
    if pid < 0 {
        return Err(refused!("clone", "flags={flags:#x}")(errno));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let child = Child { pid: pid as Pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } };
    match errand.failure.take() {
        None => Ok(child),
        Some(failure) => {
            super::process::waitid(child.as_fd())?;
            Err(failure)
        }
    }
}

/// How a program ended, and what it said until then.
#[derive(Debug)]
pub struct Output {
    /// Its end.
    pub ended: Ended,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// And to standard error.
    pub stderr: Vec<u8>,
}

/// Runs a program with nothing to read, until it and whoever else has its output have ended.
///
/// As std::process::Command does; but posix_spawn(3) takes EPERM of clone3(2), the word of a filter that is older than the
/// call, for the kernel's.
///
/// # Errors
/// As [`spawn`].
pub fn output(path: &CStr, args: &[CString], env: &[CString]) -> Result<Output> {
    let nothing = file::openat(CWD, Path::new("/dev/null"), OFlags::RDONLY, Mode::empty())?;
    let (stdout, their_stdout) = descriptor::pipe()?;
    let (stderr, their_stderr) = descriptor::pipe()?;
    let stdio = [nothing.as_fd(), their_stdout.as_fd(), their_stderr.as_fd()];
    let child = spawn(&Program { path, args, env, stdio }, &mut || {
        signal::reset_all();
        Ok(())
    })?;
    drop((their_stdout, their_stderr));
    let mut streams = [(Some(stdout), Vec::new()), (Some(stderr), Vec::new())];
    let mut buffer = [0; 4096];
    while streams.iter().any(|(end, _)| end.is_some()) {
        let watches =
            streams.each_ref().map(|(end, _)| end.as_ref().map_or(Watch::Nothing, |end| Watch::Read(end.as_fd())));
        let ready = descriptor::poll(&watches, None)?;
        for ((end, said), ready) in streams.iter_mut().zip(ready) {
            let Some(open) = end.as_ref().filter(|_| ready) else { continue };
            match descriptor::read(open, &mut buffer)? {
                Progress::Bytes(length) => said.extend(buffer.get(..length).unwrap_or_default()),
                Progress::Later => {}
                Progress::Over => *end = None,
            }
        }
    }
    let ended = super::process::waitid(child.as_fd())?;
    let [(_, stdout), (_, stderr)] = streams;
    Ok(Output { ended, stdout, stderr })
}

/// Copies those descriptors that are below 3 to above.
fn lift(stdio: [BorrowedFd<'_>; 3]) -> Result<[Option<OwnedFd>; 3]> {
    let mut lifted = [None, None, None];
    for (place, low) in lifted.iter_mut().zip(stdio) {
        if low.as_raw_fd() < 3 {
            *place = Some(rustix::io::fcntl_dupfd_cloexec(low, 3).map_err(refused!(
                "fcntl",
                "{}, F_DUPFD_CLOEXEC, 3",
                fd(&low)
            ))?);
        }
    }
    Ok(lifted)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

extern "C" fn child(errand: *mut c_void) -> c_int {
    // SAFETY: this is the `errand` of `spawn`, whose thread sleeps until we execute or exit.
    let errand = unsafe { &mut *errand.cast::<Errand<'_, '_>>() };
    if let Err(failure) = errand.run() {
        errand.failure = Some(failure);
    }
    // SAFETY: _exit runs nothing of the C library's, so our parent's buffers stay unflushed.
    unsafe { libc::_exit(127) }
}

impl Errand<'_, '_> {
    /// Returns only on failure.
    fn run(&mut self) -> Result<()> {
        for (place, source) in (0..).zip(self.stdio) {
            // SAFETY: dup2 takes two integers; what it closes at `place` are the child's copies of 0 to 2.
            let done = unsafe { libc::dup2(source.as_raw_fd(), place) };
            Errno::result(done).map_err(refused!("dup2", "{}, {place}", fd(&source)))?;
        }
        (self.prepare)()?;
        // SAFETY: path, and both arrays with the strings in them, are NUL-terminated and outlive the call.
        unsafe { libc::execve(self.path.as_ptr(), self.args.as_ptr(), self.env.as_ptr()) };
        Err(refused!("execve", "{:?}", self.path)(Errno::last()))
    }
}

/// Executes the file behind `executable` instead of this program. execveat(2), Linux 3.19.
///
/// With a `name` it is that file in the directory `executable`, which also becomes the name of the process;
/// without, the file itself (AT_EMPTY_PATH). Returns only on failure.
pub fn execveat(executable: BorrowedFd<'_>, name: &CStr, args: &[CString], env: &[CString]) -> Refused {
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: name, and both arrays with the strings in them, are NUL-terminated and outlive the call.
    unsafe {
        libc::syscall(libc::SYS_execveat, executable.as_raw_fd(), name.as_ptr(), argv.as_ptr(), envp.as_ptr(), flags)
    };
    refused!("execveat", "{}, {name:?}", fd(&executable))(Errno::last())
}

/// This process's environment, as a program that it executes gets it. environ(7).
pub fn environment() -> Vec<CString> {
    let entry = |(key, value): (OsString, OsString)| [key, value].join(OsStr::new("="));
    // They came from strings that end with NUL, so there is none in them.
    std::env::vars_os().filter_map(|variable| CString::new(entry(variable).into_vec()).ok()).collect()
}

/// Takes a variable out of this process's environment.
///
/// To be called while there is one thread, at the start of `main`.
pub fn unsetenv(name: &str) {
    // SAFETY: there is one thread (this is called before anything could start another), so nobody reads the
    // environment meanwhile.
    unsafe { std::env::remove_var(name) }
}

/// Wipes the environment that this process was executed with, which /proc/PID/environ shows and every child inherits.
///
/// To be called in a fork of a process with one thread.
pub fn wipe_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut c_char;
    }
    // SAFETY: there is one thread, so nobody reads or changes the environment meanwhile. `environ` is null or an array of
    // pointers that ends with null; each string ends with NUL, and it and its array may be written (environ(7)).
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
    }
}

/// Starts a process group led by this process. setpgid(2).
pub fn own_process_group() -> Result<()> {
    rustix::process::setpgid(None, None).map_err(refused!("setpgid", "0, 0"))
}
