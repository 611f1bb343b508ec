//! Signals: dispositions, masks, signalfd.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{Errno, Refused, Result, fd, refused};

/// Signals are numbered from 1 to this.
pub const LAST: i32 = 64;

/// The kernel's signal set: bit 0 is signal 1. (The C library's is larger, and hides 32 and 33.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(u64);

impl Set {
    /// No signal.
    pub const NONE: Set = Set(0);
    /// Every signal; the kernel leaves KILL and STOP out by itself.
    pub const ALL: Set = Set(u64::MAX);

    /// Without this one.
    pub const fn without(self, signal: i32) -> Set {
        if signal < 1 || signal > LAST { self } else { Set(self.0 & !(1 << (signal - 1))) }
    }

    /// Whether it is one of them.
    pub const fn has(self, signal: i32) -> bool {
        signal >= 1 && signal <= LAST && self.0 & (1 << (signal - 1)) != 0
    }
}

/// Sets the disposition of every signal to its default and empties the mask of the calling thread.
///
/// sigaction(2), sigprocmask(2), called raw: the C library refuses 32 and 33, which it keeps for itself, though
/// a caller may have left them ignored. KILL and STOP refuse, and nothing else can fail.
pub fn reset_all() {
    for signal in 1..=LAST {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            set_disposition(signal, libc::SIG_DFL);
        }
    }
    set_mask(Set::NONE);
}

/// Ignores a signal. sigaction(2).
pub fn ignore(signal: i32) {
    set_disposition(signal, libc::SIG_IGN);
}

/// Gives a signal its default disposition. sigaction(2).
pub fn take_by_default(signal: i32) {
    set_disposition(signal, libc::SIG_DFL);
}

/// Lets a signal end the process with 128 and its number, also the first one of a pid namespace, which the kernel spares
/// what signals do by default (pid_namespaces(7)). sigaction(2).
pub fn end_on(signal: i32) -> Result<()> {
    extern "C" fn end(signal: i32) {
        // SAFETY: _exit(2) touches no memory of ours and may be called from a handler (signal-safety(7)).
        unsafe { libc::_exit(128 + signal) }
    }
    let which = Signal::try_from(signal).map_err(refused!("sigaction", "{signal}"))?;
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler calls nothing but _exit, and never comes back to what it has interrupted.
    unsafe { sigaction(which, &action) }.map(drop).map_err(refused!("sigaction", "{signal}"))
}

fn set_disposition(signal: i32, disposition: libc::sighandler_t) {
    // The kernel's structure is the handler, then flags, (restorer) and mask: 32 bytes at most, here with room.
    let action: [usize; 8] = [disposition, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: `action` is larger than the kernel's structure on every architecture and lives through the call;
    // SIG_DFL and SIG_IGN run no code of ours, so flags and restorer may be zero; 8 is the size of its set.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), std::ptr::null_mut::<u8>(), 8_usize) };
}

/// Sets the calling thread's mask and returns the one before. sigprocmask(2); cannot fail with these arguments.
pub fn set_mask(mask: Set) -> Set {
    let mut before = Set::NONE;
    // SAFETY: both pointers are to 8 bytes that live through the call, and 8 is the size given.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask.0, &raw mut before.0, 8_usize)
    };
    before
}

/// A descriptor that tells which of these (blocked) signals came. signalfd(2), never blocks.
pub fn signalfd(set: Set) -> Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is 8 bytes that live through the call, and 8 is the size given.
    let made = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set.0, 8_usize, flags) };
    let made = Errno::result(made).map_err(refused!("signalfd", "{:#x}", set.0))?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(made as i32) })
}

/// The next signal that a signalfd has, if there is one.
pub fn next_signal(signals: BorrowedFd<'_>) -> Result<Option<i32>> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::retry_on_intr(|| rustix::io::read(signals, &mut info)) {
        // ssi_signo is the structure's first field.
        Ok(_) => Ok(info.first_chunk().map(|number| u32::from_ne_bytes(*number) as i32)),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(errno) => Err(refused!("read", "{}", fd(&signals))(errno)),
    }
}

/// Sends a signal to whoever has this number. kill(2).
pub fn kill(pid: super::process::Pid, signal: i32) -> Result<()> {
    if pid < 1 {
        // These are groups of processes.
        return Err(Refused::new("kill", format_args!("{pid}, {signal}"), Errno::EINVAL));
    }
    // SAFETY: kill takes two integers.
    let done = unsafe { libc::kill(pid, signal) };
    Errno::result(done).map(drop).map_err(refused!("kill", "{pid}, {signal}"))
}

/// Sends a signal to a process group. kill(2) with a negative id.
pub fn kill_group(leader: super::process::Pid, signal: i32) -> Result<()> {
    if leader <= 1 {
        // kill(-1) is everybody, and kill(0) is us.
        return Err(Refused::new("kill", format_args!("-{leader}, {signal}"), Errno::EINVAL));
    }
    // SAFETY: kill takes two integers.
    let done = unsafe { libc::kill(-leader, signal) };
    Errno::result(done).map(drop).map_err(refused!("kill", "-{leader}, {signal}"))
}
