//! Processes: clone, pidfds, exec, prctl, wait.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, Refused, Result, fd, refused};

/// A process id as this process sees it.
pub type Pid = i32;

/// Bears the child in the cgroup behind `clone_args.cgroup` (linux/sched.h; libc's constant overflows).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a clone bears.
#[derive(Debug, Clone, Copy, Default)]
pub struct Birth<'a> {
    /// CLONE_NEW* and CLONE_PARENT.
    pub flags: u64,
    /// The cgroup (v2) to be born in: CLONE_INTO_CGROUP, Linux 5.7.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// On which side of a clone we are.
#[derive(Debug)]
pub enum Side {
    /// The one who called.
    Parent(Child),
    /// The one who was born.
    Child,
}

/// A child process, held by its pidfd.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's pid namespace.
    pub pid: Pid,
    /// The handle that no recycled id can take over.
    pub pidfd: OwnedFd,
}

/// Bears a child with a copy of this process's memory and a pidfd.
///
/// clone3(2), Linux 5.3. The caller must have one thread: locks that another thread holds stay locked in the
/// child for ever. (That is a deadlock, not undefined behaviour.)
pub fn clone3(birth: Birth<'_>) -> Result<Side> {
    let mut pidfd: i32 = -1;
    // With CLONE_PARENT the child inherits its exit signal, and naming one is refused.
    let siblings = birth.flags & libc::CLONE_PARENT as u64 != 0;
    // SAFETY: clone_args is a plain C structure of integers, for which all zeros is the documented default.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = birth.flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = if siblings { 0 } else { libc::SIGCHLD as u64 };
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child runs on a copy of this stack, so both sides return from here as from
    // fork(2); `args` and `pidfd` outlive the call and the size is that of the structure passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    born(pid, pidfd, || refused!("clone3", "flags={:#x}", args.flags)(Errno::last()))
}

/// Whether there is a clone3(2): `EINVAL`, which says that no structure came with the call, is a yes.
pub fn clone3_probe() -> Result<()> {
    // SAFETY: the kernel looks at the size, which is 0, before anything else, and refuses: there is never a child.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<libc::clone_args>(), 0_usize) };
    match Errno::result(pid) {
        Err(Errno::EINVAL) => Ok(()),
        other => other.map(drop).map_err(refused!("clone3", "null, 0")),
    }
}

/// The road without clone3: clone(2) with CLONE_PIDFD, Linux 5.2. It cannot place the child in a cgroup.
pub fn clone(flags: u64) -> Result<Side> {
    let mut pidfd: i32 = -1;
    let signal = if flags & libc::CLONE_PARENT as u64 != 0 { 0 } else { libc::SIGCHLD as u64 };
    let all = flags | libc::CLONE_PIDFD as u64 | signal;
    // SAFETY: as above; the stack is null (the child goes on with a copy of ours), the third argument is where
    // CLONE_PIDFD puts the descriptor on every architecture, and the two after it (whose order differs between
    // architectures) are 0 both. All are as wide as the kernel reads them.
    let pid = unsafe { libc::syscall(libc::SYS_clone, all, 0_usize, &raw mut pidfd, 0_usize, 0_usize) };
    born(pid, pidfd, || refused!("clone", "flags={all:#x}")(Errno::last()))
}

fn born(pid: i64, pidfd: i32, failure: impl FnOnce() -> Refused) -> Result<Side> {
    match pid {
        0 => Ok(Side::Child),
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        1.. => Ok(Side::Parent(Child { pid: pid as Pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
        _ => Err(failure()),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It returned this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

impl Ended {
    /// As shells tell it: 128 + signal for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exited(code) => write!(f, "exit status {code}"),
            Ended::Killed(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// Waits for a child's end and reaps it. waitid(2) with P_PIDFD, Linux 5.4.
pub fn waitid(child: BorrowedFd<'_>) -> Result<Ended> {
    wait(child, rustix::process::WaitIdOptions::EXITED).map(|ended| ended.unwrap_or(Ended::Exited(0)))
}

/// Reaps a child if it has ended; never blocks. waitid(2) with P_PIDFD and WNOHANG, Linux 5.4.
pub fn waitid_nohang(child: BorrowedFd<'_>) -> Result<Option<Ended>> {
    wait(child, rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG)
}

fn wait(child: BorrowedFd<'_>, options: rustix::process::WaitIdOptions) -> Result<Option<Ended>> {
    let status = rustix::io::retry_on_intr(|| rustix::process::waitid(rustix::process::WaitId::PidFd(child), options))
        .map_err(refused!("waitid", "P_PIDFD, {}", fd(&child)))?;
    Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Killed(signal),
        (None, None) => Ended::Exited(0),
    }))
}

/// Whether both the number and the handle are of children of ours, ended or not, that were not reaped. waitid(2) with
/// WNOWAIT.
pub fn is_child(process: &Child) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // rustix takes no negative number for an id.
    let Some(pid) = rustix::process::Pid::from_raw(process.pid.max(0)) else { return false };
    waitid(WaitId::Pid(pid), options).is_ok() && waitid(WaitId::PidFd(process.pidfd.as_fd()), options).is_ok()
}

/// A handle on a process that is not our child. pidfd_open(2), Linux 5.3.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    let Some(id) = rustix::process::Pid::from_raw(pid) else {
        return Err(refused!("pidfd_open", "{pid}")(Errno::ESRCH));
    };
    rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()).map_err(refused!("pidfd_open", "{pid}"))
}

/// Sends a signal to exactly this process. pidfd_send_signal(2), Linux 5.1.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the descriptor is borrowed for the length of the call, and a null siginfo is documented.
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    Errno::result(done).map(drop).map_err(refused!("pidfd_send_signal", "{}, {signal}", fd(&pidfd)))
}

/// A copy of a descriptor of another process, close-on-exec. pidfd_getfd(2), Linux 5.6.
///
/// Needs the right to ptrace that process.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: i32) -> Result<OwnedFd> {
    rustix::process::pidfd_getfd(pidfd, number, rustix::process::PidfdGetfdFlags::empty()).map_err(refused!(
        "pidfd_getfd",
        "{}, {number}",
        fd(&pidfd)
    ))
}

/// Whether other processes may look into this one (ptrace, /proc/PID/fd). prctl(2) PR_SET_DUMPABLE.
///
/// Off before anything is joined that a container shares: CVE-2016-9962.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    nix::sys::prctl::set_dumpable(dumpable).map_err(refused!("prctl", "PR_SET_DUMPABLE, {dumpable}"))
}

/// The signal this process gets when its parent dies; 0 is none. prctl(2) PR_SET_PDEATHSIG.
pub fn set_death_signal(signal: i32) -> Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes one integer and touches no memory of ours.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong, 0, 0, 0) };
    Errno::result(done).map(drop).map_err(refused!("prctl", "PR_SET_PDEATHSIG, {signal}"))
}

/// Makes orphaned descendants our children. prctl(2) PR_SET_CHILD_SUBREAPER, Linux 3.4.
pub fn set_child_subreaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(refused!("prctl", "PR_SET_CHILD_SUBREAPER, 1"))
}

/// Starts a session, away from the caller's terminal. setsid(2).
pub fn setsid() -> Result<()> {
    nix::unistd::setsid().map(drop).map_err(refused!("setsid"))
}

/// Our own id, in our own pid namespace. getpid(2).
pub fn getpid() -> Pid {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Ends this process at once, without running anything of the C library's. _exit(2).
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit takes one integer and does not return.
    unsafe { libc::_exit(code) }
}

/// How many threads this process has: /proc/self/task has two links and one for each thread.
pub fn threads() -> Result<u64> {
    let task = rustix::fs::stat("/proc/self/task").map_err(refused!("stat", "\"/proc/self/task\""))?;
    Ok((task.st_nlink as u64).saturating_sub(2))
}

/// Waits until one of the descriptors has something to tell, or the time is up (milliseconds; `None` is for
/// ever). Answers, in order, whether each is readable or has ended. poll(2).
pub fn poll_in(fds: &[BorrowedFd<'_>], timeout_ms: Option<u32>) -> Result<Vec<bool>> {
    let mut polled: Vec<_> =
        fds.iter().map(|fd| rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)).collect();
    let timeout = timeout_ms
        .map(|ms| rustix::event::Timespec { tv_sec: i64::from(ms / 1000), tv_nsec: i64::from(ms % 1000) * 1_000_000 });
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, timeout.as_ref())).map_err(refused!("poll"))?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Keeps the borrow of an owned handle short to write.
impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Reaps any one child that has ended; never blocks. waitpid(2) with -1 and WNOHANG.
///
/// For a subreaper, whose children are not only those it bore itself.
pub fn reap_any() -> Result<Option<(Pid, Ended)>> {
    match rustix::io::retry_on_intr(|| rustix::process::wait(rustix::process::WaitOptions::NOHANG)) {
        Ok(Some((pid, status))) => {
            let ended = match status.terminating_signal() {
                Some(signal) => Ended::Killed(signal),
                None => Ended::Exited(status.exit_status().unwrap_or_default()),
            };
            Ok(Some((pid.as_raw_nonzero().get(), ended)))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(errno) => Err(refused!("waitpid", "-1, WNOHANG")(errno)),
    }
}

/// The name that `/proc/PID/comm` shows, cut at 15 bytes. prctl(2) PR_SET_NAME.
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    nix::sys::prctl::set_name(name).map_err(refused!("prctl", "PR_SET_NAME, {name:?}"))
}

/// The real and the effective user id. getuid(2), geteuid(2).
pub fn user_ids() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::geteuid().as_raw())
}
