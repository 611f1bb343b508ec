//! Locks of open files.

use std::os::fd::BorrowedFd;

use rustix::fs::FlockOperation;

use super::{Result, fd, refused};

/// Takes the lock of an open file, alone or shared, if nobody holds it now. `false`: somebody does.
///
/// flock(2), Linux 2.0.
pub fn try_flock(file: BorrowedFd<'_>, how: Flock) -> Result<bool> {
    let operation = match how {
        Flock::Alone => FlockOperation::NonBlockingLockExclusive,
        Flock::Shared => FlockOperation::NonBlockingLockShared,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(refused!("flock", "{}, {how:?}", fd(&file))(errno)),
    }
}

/// Gives the lock back, also for every copy of the descriptor that a fork made.
///
/// flock(2) with LOCK_UN, Linux 2.0.
pub fn unlock(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::flock(file, FlockOperation::Unlock).map_err(refused!("flock", "{}, LOCK_UN", fd(&file)))
}

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flock {
    /// LOCK_EX.
    Alone,
    /// LOCK_SH.
    Shared,
}
