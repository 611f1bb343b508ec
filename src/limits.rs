//! Limits of the process itself: rlimits, scheduling, I/O priority, affinity, memory policy, OOM score, personality.

use specconv::{ExecCpuAffinity, IoPriority, MemoryPolicy, Personality, Rlimit, Scheduler};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::process::Pid;
use crate::sys::sched::{self, RlimitPair, SELF, SchedAttr};
use crate::sys::{Errno, Refused, refused};

/// Limits of one process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// -1000 to 1000; `None` leaves it as it is.
    pub oom_score_adj: Option<i32>,
    /// Scheduling policy.
    pub scheduler: Option<Scheduler>,
    /// I/O priority.
    pub io_priority: Option<IoPriority>,
    /// Execution domain.
    pub personality: Option<Personality>,
    /// NUMA memory policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// For `exec`: CPUs before and after the process joins the container's cgroup.
    pub cpu_affinity: Option<ExecCpuAffinity>,
    /// Whether the mask of CPUs that the caller handed down (an engine's, systemd's) is forgotten, so that the
    /// process may use all that its cpuset allows.
    pub reset_affinity: bool,
}

/// Sets the resource limits of a process ([`SELF`]: our own).
///
/// Raising a hard limit needs CAP_SYS_RESOURCE in the *initial* user namespace, so with a user namespace of its own
/// this is the parent's matter. prlimit(2) on another process also needs its real, effective and saved ids to be
/// ours, or CAP_SYS_RESOURCE over it: call it before the user changes.
///
/// # Errors
/// Names the entry: `process.rlimits[2] (RLIMIT_NOFILE)`; where CAP_SYS_RESOURCE is missing, says so.
pub fn set_rlimits(pid: Pid, plan: &Plan) -> Result<()> {
    for limit in &plan.rlimits {
        let pair = RlimitPair { soft: limit.soft, hard: limit.hard };
        if let Err(refused) = sched::prlimit(pid, limit.resource, Some(pair)) {
            return rlimit_refused(pid, limit, refused)
                .at(|| format!("process.rlimits[{}] ({})", limit.index, rlimit_name(limit.resource)));
        }
    }
    Ok(())
}

fn rlimit_refused(pid: Pid, limit: &Rlimit, refused: Refused) -> Result<()> {
    if refused.errno == Errno::EPERM
        && let Ok(now) = sched::prlimit(pid, limit.resource, None)
        && limit.hard > now.hard
    {
        return Err(refused).doing_with(|| {
            format!(
                "raising the hard limit from {} to {} needs CAP_SYS_RESOURCE, which we do not have",
                show(now.hard),
                show(limit.hard)
            )
        });
    }
    Err(refused)?
}

fn show(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
}

/// The name of a limit as the specification writes it (getrlimit(2)).
fn rlimit_name(resource: u32) -> &'static str {
    // RLIMIT_* in the order of their numbers (asm-generic/resource.h); MIPS and SPARC differ and are not built for.
    const NAMES: [&str; 16] = [
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ];
    usize::try_from(resource).ok().and_then(|number| NAMES.get(number)).copied().unwrap_or("unknown limit")
}

/// Sets the score by which the OOM killer chooses (proc_pid_oom_score_adj(5)), where the plan has one.
///
/// Before the user namespace is entered and before the process is made non-dumpable: then its file in /proc belongs
/// to root of the host, and lowering needs CAP_SYS_RESOURCE there. A value that is the present one is no failure.
pub fn set_oom_score_adj(pid: Pid, plan: &Plan) -> Result<()> {
    let Some(score) = plan.oom_score_adj else { return Ok(()) };
    let path = if pid == SELF { "/proc/self/oom_score_adj".to_owned() } else { format!("/proc/{pid}/oom_score_adj") };
    let Err(error) = std::fs::write(&path, score.to_string()) else { return Ok(()) };
    let refused = refused!("write", "{path:?}, \"{score}\"")(error);
    let lacking = matches!(refused.errno, Errno::EACCES | Errno::EPERM);
    if lacking && std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == score.to_string()) {
        return Ok(());
    }
    let failed = Err(refused);
    if lacking {
        failed.doing("lowering the score needs CAP_SYS_RESOURCE").at(|| "process.oomScoreAdj".to_owned())
    } else {
        failed.at(|| "process.oomScoreAdj".to_owned())
    }
}

/// Lets a process ([`SELF`]: our own) run on all CPUs that its cpuset allows, where the plan says so.
///
/// Since Linux 6.2 a mask that was once set survives the move to another cpuset (commit da019032819a). The kernel
/// cuts the mask to what exists and what the cpuset allows. Being refused only leaves the inherited mask, so it is
/// no failure (as in runc).
pub fn reset_affinity(pid: Pid, plan: &Plan) {
    /// 8192 CPUs, the most that Linux can be built for (CONFIG_NR_CPUS with MAXSMP).
    const ALL: [u64; 128] = [u64::MAX; 128];
    if plan.reset_affinity {
        let _ = sched::sched_setaffinity(pid, &ALL);
    }
}

/// Sets the affinity that `exec` wants before its process joins the container's cgroup.
pub fn set_initial_affinity(pid: Pid, plan: &Plan) -> Result<()> {
    let cpus = plan.cpu_affinity.as_ref().and_then(|affinity| affinity.initial.as_deref());
    cpus.map_or(Ok(()), |cpus| set_affinity(pid, cpus).at(|| "process.execCPUAffinity.initial".to_owned()))
}

/// Sets the affinity that `exec` wants once its process is in the container's cgroup.
pub fn set_final_affinity(pid: Pid, plan: &Plan) -> Result<()> {
    let cpus = plan.cpu_affinity.as_ref().and_then(|affinity| affinity.last.as_deref());
    cpus.map_or(Ok(()), |cpus| set_affinity(pid, cpus).at(|| "process.execCPUAffinity.final".to_owned()))
}

fn set_affinity(pid: Pid, cpus: &[u32]) -> Result<()> {
    match sched::sched_setaffinity(pid, &mask(cpus)) {
        Err(refused) if refused.errno == Errno::EINVAL => {
            Err(refused).doing_with(|| format!("none of the CPUs {cpus:?} can be used here"))
        }
        other => Ok(other?),
    }
}

/// A bit mask of these numbers, as many words as it takes.
fn mask(numbers: &[u32]) -> Vec<u64> {
    let words = numbers.iter().max().map_or(0, |&most| most as usize / 64 + 1);
    let mut mask = vec![0_u64; words];
    for &number in numbers {
        if let Some(word) = mask.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }
    mask
}

/// Sets, in init, what a process sets for itself: scheduler, I/O priority, personality, memory policy.
///
/// Needs the capabilities that [`crate::identity`] is about to take: before the user changes.
pub fn in_init(plan: &Plan) -> Result<()> {
    if let Some(scheduler) = &plan.scheduler {
        set_scheduler(scheduler).at(|| "process.scheduler".to_owned())?;
    }
    if let Some(IoPriority { class, priority }) = plan.io_priority {
        sched::ioprio_set(SELF, class, priority).at(|| "process.ioPriority".to_owned())?;
    }
    if let Some(personality) = plan.personality {
        sched::personality(domain(personality)).at(|| "linux.personality".to_owned())?;
    }
    if let Some(policy) = &plan.memory_policy {
        set_memory_policy(policy).at(|| "linux.memoryPolicy".to_owned())?;
    }
    Ok(())
}

/// PER_* of <linux/personality.h>.
fn domain(personality: Personality) -> u32 {
    match personality {
        Personality::Linux => 0,
        Personality::Linux32 => 8,
    }
}

fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    const SCHED_DEADLINE: u32 = 6;
    let &Scheduler { policy, nice, priority, flags, runtime, deadline, period } = scheduler;
    let outcome = sched::sched_setattr(SELF, SchedAttr { policy, flags, nice, priority, runtime, deadline, period });
    match outcome {
        // sched(7): a deadline task must be able to run on all CPUs of its root domain.
        Err(refused) if policy == SCHED_DEADLINE && refused.errno == Errno::EPERM => Err(refused).doing(
            "SCHED_DEADLINE needs CAP_SYS_NICE, and neither a cpuset nor an affinity that leaves out CPUs \
             (linux.resources.cpu.cpus)",
        ),
        Err(refused) if policy == SCHED_DEADLINE && refused.errno == Errno::EBUSY => {
            Err(refused).doing("the CPUs have not that much time left for SCHED_DEADLINE")
        }
        Err(refused) if refused.errno == Errno::EPERM => Err(refused)
            .doing("needs CAP_SYS_NICE (and on cgroup v1 a cpu.rt_runtime_us above 0 for real-time policies)"),
        other => Ok(other?),
    }
}

fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    match sched::set_mempolicy(policy.mode | policy.flags, &mask(&policy.nodes)) {
        Err(refused) if refused.errno == Errno::ENOSYS => {
            Err(Error::new(Kind::Unsupported, "this kernel is built without NUMA (CONFIG_NUMA)"))
        }
        Err(refused) if refused.errno == Errno::EINVAL => Err(refused).doing_with(|| {
            format!("mode, flags and nodes do not go together, or none of the nodes {:?} can be used", policy.nodes)
        }),
        other => Ok(other?),
    }
}
