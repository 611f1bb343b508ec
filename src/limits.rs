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

const RLIMIT_NOFILE: u32 = 7;

fn rlimit_refused(pid: Pid, limit: &Rlimit, refused: Refused) -> Result<()> {
    if refused.errno == Errno::EPERM
        && let Ok(now) = sched::prlimit(pid, limit.resource, None)
        && limit.hard > now.hard
    {
        // The one limit that even the privileged have (do_prlimit, kernel/sys.c).
        let bound = if limit.resource == RLIMIT_NOFILE { ", and fs.nr_open to be as high" } else { "" };
        return Err(refused).doing_with(|| {
            format!(
                "raising the hard limit from {} to {} needs CAP_SYS_RESOURCE on the host{bound}",
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
    specconv::rlimit_name(resource).unwrap_or("unknown limit")
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
/// no failure (as in runc). An affinity that `exec` was asked for ([`set_initial_affinity`]) is not overwritten.
pub fn reset_affinity(pid: Pid, plan: &Plan) {
    /// 8192 CPUs, the most that Linux can be built for (CONFIG_NR_CPUS with MAXSMP).
    const ALL: [u64; 128] = [u64::MAX; 128];
    let asked = plan.cpu_affinity.as_ref().is_some_and(|affinity| affinity.initial.is_some());
    if plan.reset_affinity && !asked {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const RLIMIT_CORE: u32 = 4;

    fn with(limits: &[(u32, u64, u64)]) -> Plan {
        let rlimits = limits
            .iter()
            .enumerate()
            .map(|(index, &(resource, soft, hard))| Rlimit { resource, index, soft, hard })
            .collect();
        Plan { rlimits, ..Plan::default() }
    }

    /// A process to try limits on.
    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn limits_reach_another_process() {
        let mut child = sleeper();
        let pid = child.id() as Pid;
        let hard = sched::prlimit(pid, RLIMIT_NOFILE, None).unwrap().hard.min(500);
        set_rlimits(pid, &with(&[(RLIMIT_NOFILE, 64, hard), (RLIMIT_CORE, 0, 0)])).unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let words = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words("Max open files"), ["64".to_owned(), hard.to_string()]);
        assert_eq!(words("Max core file size"), ["0", "0"]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_error_names_the_entry_and_what_is_missing() {
        let error = set_rlimits(SELF, &with(&[(RLIMIT_NOFILE, 9, 8)])).unwrap_err().to_string();
        assert!(
            error.starts_with("process.rlimits[0] (RLIMIT_NOFILE): prlimit(0, 7, 9:8): invalid argument"),
            "{error}"
        );
        // fs.nr_open bounds even the privileged.
        let error = set_rlimits(SELF, &with(&[(RLIMIT_NOFILE, u64::MAX, u64::MAX)])).unwrap_err().to_string();
        assert!(error.contains("to unlimited needs CAP_SYS_RESOURCE on the host, and fs.nr_open"), "{error}");
    }

    #[test]
    fn names_of_limits_have_their_numbers() {
        // asm-generic/resource.h.
        assert_eq!(rlimit_name(0), "RLIMIT_CPU");
        assert_eq!(rlimit_name(7), "RLIMIT_NOFILE");
        assert_eq!(rlimit_name(8), "RLIMIT_MEMLOCK");
        assert_eq!(rlimit_name(15), "RLIMIT_RTTIME");
        assert_eq!(rlimit_name(99), "unknown limit");
    }

    #[test]
    fn a_mask_has_as_many_words_as_it_needs() {
        assert_eq!(mask(&[]), Vec::<u64>::new());
        assert_eq!(mask(&[0, 2]), [0b101]);
        assert_eq!(mask(&[63, 64]), [1 << 63, 1]);
        // More than the 1024 CPUs that other runtimes end at.
        assert_eq!(mask(&[2000]).len(), 32);
    }

    #[test]
    fn the_score_of_another_process_is_raised() {
        let mut child = sleeper();
        let pid = child.id() as Pid;
        let plan = Plan { oom_score_adj: Some(977), ..Plan::default() };
        set_oom_score_adj(pid, &plan).unwrap();
        // The same value again is never refused.
        set_oom_score_adj(pid, &plan).unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "977");
        let error = set_oom_score_adj(pid, &Plan { oom_score_adj: Some(1001), ..Plan::default() }).unwrap_err();
        assert!(error.to_string().starts_with("process.oomScoreAdj: "), "{error}");
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn affinity_is_set_and_forgotten() {
        let mut child = sleeper();
        let pid = child.id() as Pid;
        let allowed = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
        };
        // All that it may have: this test itself may have been given less.
        reset_affinity(pid, &Plan { reset_affinity: true, ..Plan::default() });
        let before = allowed();
        let affinity = |cpus: &[u32]| Plan {
            cpu_affinity: Some(ExecCpuAffinity { initial: Some(cpus.to_vec()), last: None }),
            reset_affinity: true,
            ..Plan::default()
        };
        set_initial_affinity(pid, &affinity(&[0])).unwrap();
        assert_eq!(allowed(), "0");
        set_final_affinity(pid, &affinity(&[0])).unwrap();
        reset_affinity(pid, &affinity(&[0]));
        assert_eq!(allowed(), "0", "what exec asked for stays");
        reset_affinity(pid, &Plan { reset_affinity: true, ..Plan::default() });
        assert_eq!(allowed(), before);
        let error = set_initial_affinity(pid, &affinity(&[8000])).unwrap_err().to_string();
        assert!(error.starts_with("process.execCPUAffinity.initial: none of the CPUs [8000]"), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_gets_what_it_asks_for_itself() {
        // Policy, I/O priority, personality and memory policy belong to the thread.
        let thread = std::thread::spawn(|| {
            let plan = Plan {
                scheduler: Some(Scheduler {
                    policy: 3, // SCHED_BATCH
                    nice: 5,
                    priority: 0,
                    flags: 0,
                    runtime: 0,
                    deadline: 0,
                    period: 0,
                }),
                io_priority: Some(IoPriority { class: 2, priority: 6 }),
                personality: Some(Personality::Linux32),
                memory_policy: Some(MemoryPolicy { mode: 2, flags: 0, nodes: vec![0] }), // MPOL_BIND
                ..Plan::default()
            };
            let outcome = in_init(&plan);
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let persona = std::fs::read_to_string("/proc/thread-self/personality").unwrap();
            let maps = std::fs::read_to_string("/proc/thread-self/numa_maps").unwrap_or_default();
            (outcome, stat, persona, maps)
        });
        let (outcome, stat, persona, maps) = thread.join().unwrap();
        match outcome {
            // A kernel without NUMA says so, after the other three were set.
            Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error}"),
            Ok(()) => assert!(maps.is_empty() || maps.contains("bind:0"), "{maps}"),
        }
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        assert_eq!(fields[16], "5", "nice: {stat}");
        assert_eq!(fields[38], "3", "policy: {stat}");
        assert_eq!(persona.trim(), "00000008");
    }

    #[test]
    fn a_refused_memory_policy_says_why() {
        let policy = MemoryPolicy { mode: 2, flags: 0, nodes: vec![500] };
        let plan = Plan { memory_policy: Some(policy), ..Plan::default() };
        let error = std::thread::spawn(move || in_init(&plan).unwrap_err()).join().unwrap().to_string();
        assert!(error.starts_with("linux.memoryPolicy: "), "{error}");
        assert!(error.contains("[500]") || error.contains("CONFIG_NUMA"), "{error}");
    }
}
