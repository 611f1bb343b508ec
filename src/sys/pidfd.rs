//! Processes by handle: what cannot be mistaken for another process later.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use super::{Errno, Refused, Result, fd, refused};

/// A handle on the process that has this id now.
///
/// pidfd_open(2), Linux 5.3.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let Some(target) = (if pid > 0 { Pid::from_raw(pid) } else { None }) else {
        return Err(Refused::new("pidfd_open", format_args!("{pid}"), Errno::ESRCH));
    };
    rustix::process::pidfd_open(target, PidfdFlags::empty()).map_err(refused!("pidfd_open", "{pid}"))
}

/// Sends a signal, by its number, to the process behind a handle.
///
/// pidfd_send_signal(2), Linux 5.1. The number is not checked beforehand: 0 only asks, real-time signals have no names.
pub fn pidfd_send_signal<F: AsFd>(pidfd: F, signal: i32) -> Result<()> {
    use std::os::fd::AsRawFd;
    let raw = pidfd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the length of the call, the info pointer may be null (the kernel
    // then fills in what kill(2) would), and the flags are 0; no memory of ours is touched.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, signal, std::ptr::null::<libc::siginfo_t>(), 0u32) };
    if done == 0 {
        return Ok(());
    }
    Err(Refused::new("pidfd_send_signal", format_args!("{}, {signal}", fd(&pidfd)), Errno::last()))
}

/// Waits until the process behind a handle has ended, at most this many milliseconds (negative: for ever).
/// `false`: it still lives.
///
/// poll(2) on a pidfd, Linux 5.3.
pub fn wait_for_end<F: AsFd>(pidfd: F, milliseconds: i64) -> Result<bool> {
    let limit = (milliseconds >= 0)
        .then(|| Timespec { tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000 });
    let mut asked = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut asked, limit.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(refused!("poll", "{}", fd(&pidfd))(errno)),
        }
    }
}
