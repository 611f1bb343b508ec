//! Descriptors by number: what happens to them at the next exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::{Errno, Result, fd, refused};

/// Marks every descriptor from `first` upwards close-on-exec. close_range(2), CLOSE_RANGE_CLOEXEC, Linux 5.11.
pub fn close_range_cloexec(first: u32) -> Result<()> {
    // SAFETY: the call takes three integers, and closes nothing now.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(done).map(drop).map_err(refused!("close_range", "{first}, MAX, CLOEXEC"))
}

/// Sets whether a descriptor is close-on-exec. fcntl(2) F_SETFD.
///
/// # Errors
/// `EBADF` where there is none of that number.
pub fn set_cloexec(number: RawFd, on: bool) -> Result<()> {
    let flags = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer and touches no memory.
    let done = unsafe { libc::fcntl(number, libc::F_SETFD, flags) };
    Errno::result(done).map(drop).map_err(refused!("fcntl", "{number}, F_SETFD, {flags}"))
}

/// Takes over the descriptor that whoever executed us has left under this number; it becomes close-on-exec. fcntl(2).
///
/// To be called once for a number, before anything else could have got it.
///
/// # Errors
/// `EBADF` where there is none, or it is one of standard input, output and error.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    if number < 3 {
        return Err(refused!("fcntl", "{number}, F_SETFD")(Errno::EBADF));
    }
    set_cloexec(number, true)?;
    // SAFETY: it is open, as fcntl has just said, and by the promise above nobody else in this program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A pipe: its reading and its writing end. pipe2(2).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(refused!("pipe2", "O_CLOEXEC"))
}

/// Makes reading and writing answer EAGAIN instead of waiting. fcntl(2) F_SETFL.
///
/// For what we have made ourselves: the flag belongs to the open file, which others may share.
pub fn set_nonblocking<F: AsFd>(file: &F) -> Result<()> {
    rustix::io::ioctl_fionbio(file, true).map_err(refused!("ioctl", "{}, FIONBIO", fd(file)))
}

/// What a read or a write that must not wait has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes went through.
    Bytes(usize),
    /// Nothing for now.
    Later,
    /// Nothing ever again: the end was reached, or the other side is gone.
    Over,
}

/// Reads what is there. read(2).
///
/// The end is 0 bytes, or EIO for a terminal's master whose last peer was closed.
pub fn read<F: AsFd>(file: &F, buffer: &mut [u8]) -> Result<Progress> {
    match rustix::io::retry_on_intr(|| rustix::io::read(file, &mut *buffer)) {
        Ok(0) | Err(rustix::io::Errno::IO) => Ok(Progress::Over),
        Ok(length) => Ok(Progress::Bytes(length)),
        Err(rustix::io::Errno::AGAIN) => Ok(Progress::Later),
        Err(errno) => Err(refused!("read", "{}", fd(file))(errno)),
    }
}

/// Writes what fits. write(2). Nobody left to read it is no failure but the end.
pub fn write<F: AsFd>(file: &F, data: &[u8]) -> Result<Progress> {
    match rustix::io::retry_on_intr(|| rustix::io::write(file, data)) {
        Ok(length) => Ok(Progress::Bytes(length)),
        Err(rustix::io::Errno::AGAIN) => Ok(Progress::Later),
        Err(rustix::io::Errno::PIPE | rustix::io::Errno::IO) => Ok(Progress::Over),
        Err(errno) => Err(refused!("write", "{}, {} bytes", fd(file), data.len())(errno)),
    }
}

/// Writes all of it, waiting as long as that takes.
///
/// # Errors
/// `EPIPE` where nobody is left to read it.
pub fn write_all<F: AsFd>(file: &F, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match write(file, data)? {
            Progress::Bytes(length) => data = data.get(length..).unwrap_or_default(),
            Progress::Later => {
                poll(&[Watch::Write(file.as_fd())], None)?;
            }
            Progress::Over => return Err(refused!("write", "{}", fd(file))(Errno::EPIPE)),
        }
    }
    Ok(())
}

/// What [`poll`] waits for.
#[derive(Debug, Clone, Copy)]
pub enum Watch<'a> {
    /// Something to read, or the end.
    Read(BorrowedFd<'a>),
    /// Room to write, or nobody left to read.
    Write(BorrowedFd<'a>),
    /// Nothing: keeps a place in the list.
    Nothing,
}

/// Waits until one of these has come, or the time is up (`None` is for ever). Answers for each in order. poll(2).
pub fn poll<const N: usize>(watches: &[Watch<'_>; N], timeout: Option<Duration>) -> Result<[bool; N]> {
    let mut polled = watches.map(|watch| match watch {
        Watch::Read(file) => libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        Watch::Write(file) => libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLOUT, revents: 0 },
        // poll(2) passes over negative descriptors.
        Watch::Nothing => libc::pollfd { fd: -1, events: 0, revents: 0 },
    });
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = left.map(|left| libc::timespec {
            // However wide it is on this machine: 68 years are for ever.
            tv_sec: left.as_secs().min(i32::MAX as u64) as _,
            tv_nsec: left.subsec_nanos().into(),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the array has N elements and, like the time, lives through the call; no mask is given.
        let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, time, std::ptr::null()) };
        match Errno::result(ready) {
            Ok(_) => return Ok(polled.map(|each| each.revents != 0)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(refused!("poll", "{N} descriptors")(errno)),
        }
    }
}

/// Closes every descriptor from `first` to `last`. close_range(2), Linux 5.9.
///
/// Whoever owns one of these in this process must never use or drop it again: init forgets everything it inherited,
/// and ends by execve(2) or _exit(2).
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: the call takes three integers; that no owner of these numbers is left is the caller's promise above.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(done).map(drop).map_err(refused!("close_range", "{first}, {last}"))
}

/// Closes one descriptor by its number; under the same promise as [`close_range`]. close(2).
pub fn close(number: RawFd) {
    // SAFETY: as above. Whether it was open does not matter.
    unsafe { libc::close(number) };
}

/// Whether there is a descriptor of this number. fcntl(2) F_GETFD.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument and touches no memory.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Waits until nobody holds the reading end of a pipe or FIFO. poll(2), POLLERR.
pub fn wait_for_no_reader<F: AsFd>(writer: &F) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut polled = [PollFd::new(writer, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut polled, None)).map(drop).map_err(refused!("poll", "{}", fd(writer)))
}
