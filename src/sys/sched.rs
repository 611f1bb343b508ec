//! Scheduling, priorities, affinity, limits, memory policy, personality.

use super::process::Pid;
use super::{Errno, Refused, Result, refused};

/// A pair of limits; `u64::MAX` is RLIM_INFINITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RlimitPair {
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// `struct sched_attr` without its size (sched_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedAttr {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub period: u64,
}

/// The calling thread, where a call takes a process id.
pub const SELF: Pid = 0;

/// Sets a limit of a process, and returns the one it had. prlimit(2), Linux 2.6.36.
pub fn prlimit(pid: Pid, resource: u32, new: Option<RlimitPair>) -> Result<RlimitPair> {
    let new64 = new.map(|RlimitPair { soft, hard }| libc::rlimit64 { rlim_cur: soft, rlim_max: hard });
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let new_pointer = new64.as_ref().map_or(std::ptr::null(), |limit| &raw const *limit);
    // SAFETY: both pointers are to rlimit64 structures (the layout of this call on every architecture) that
    // outlive the call, or null for the new limit, which then is not changed.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new_pointer, &raw mut old) };
    if done != 0 {
        let errno = Errno::last();
        return Err(match new {
            Some(new) => refused!("prlimit", "{pid}, {resource}, {}:{}", new.soft, new.hard)(errno),
            None => refused!("prlimit", "{pid}, {resource}, NULL")(errno),
        });
    }
    Ok(RlimitPair { soft: old.rlim_cur, hard: old.rlim_max })
}

/// Sets the scheduling policy of a thread. sched_setattr(2), Linux 3.14.
pub fn sched_setattr(pid: Pid, attr: SchedAttr) -> Result<()> {
    let raw = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: attr.policy,
        sched_flags: attr.flags,
        sched_nice: attr.nice,
        sched_priority: attr.priority,
        sched_runtime: attr.runtime,
        sched_deadline: attr.deadline,
        sched_period: attr.period,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that is exactly so large and outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const raw, 0) };
    done_or(done, refused!("sched_setattr", "{pid}, {attr:?}"))
}

/// Sets the CPUs that a thread may run on; bit N of the mask is CPU N. sched_setaffinity(2), Linux 2.5.8.
///
/// The kernel ignores CPUs that do not exist or that the cpuset forbids, as long as one remains.
pub fn sched_setaffinity(pid: Pid, mask: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads that many bytes from a slice which outlives the call; its words are unsigned longs,
    // and on the 64-bit targets that is what the slice holds.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size_of_val(mask), mask.as_ptr()) };
    done_or(done, refused!("sched_setaffinity", "{pid}, {} words", mask.len()))
}

/// Sets the I/O priority of one thread (0: the calling one). ioprio_set(2), Linux 2.6.13.
pub fn ioprio_set(pid: Pid, class: u16, priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = (u32::from(class) << IOPRIO_CLASS_SHIFT) | u32::from(priority);
    // SAFETY: three integers; no memory of ours is touched.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) };
    done_or(done, refused!("ioprio_set", "IOPRIO_WHO_PROCESS, {pid}, {value:#x}"))
}

/// Sets the NUMA memory policy of the calling thread; bit N of the mask is node N. set_mempolicy(2), Linux 2.6.7.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit less than the number it is told (get_nodes, mm/mempolicy.c).
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads bits-1 bits of a slice that has as many and outlives the call; with none it is told
    // a null pointer and no bits.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    done_or(done, refused!("set_mempolicy", "{mode:#x}, {nodes:x?}"))
}

/// Sets the execution domain. personality(2), Linux 1.1.20.
pub fn personality(persona: u32) -> Result<()> {
    // SAFETY: one integer; no memory of ours is touched.
    let before = unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) };
    done_or(before.min(0), refused!("personality", "{persona:#x}"))
}

fn done_or(done: libc::c_long, failure: impl FnOnce(Errno) -> Refused) -> Result<()> {
    if done == 0 { Ok(()) } else { Err(failure(Errno::last())) }
}
