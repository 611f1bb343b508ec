//! Signals: dispositions, masks, signalfd.

/// Sets every disposition to its default and empties the mask of the calling thread.
///
/// sigaction(2), sigprocmask(2). Signals that cannot be set (KILL, STOP) are left out; nothing here can fail.
pub fn reset_all() {
    // SAFETY: an all-zero sigaction is SIG_DFL with no flags and an empty mask, the pointers live through the
    // calls, and the default disposition runs no code of ours.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}
