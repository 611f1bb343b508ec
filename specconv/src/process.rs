//! `process`: who runs what, with which limits (config.md#process).

use std::collections::HashSet;
use std::fmt;

use oci_spec::runtime as oci;

use crate::capability::capabilities;
use crate::field::{absolute, id, list, refuse, said};
use crate::{
    ExecCpuAffinity, Invalid, IoPriority, Process, Rlimit, Scheduler, Terminal, TerminalSize, User, Warning, spec,
};

/// The whole object; fields are called `process.…` wherever it came from.
pub(crate) fn process(process: spec::Process, warnings: &mut Vec<Warning>) -> Result<Process, Invalid> {
    let args = process.args.unwrap_or_default();
    match args.first() {
        None => return refuse("process.args", "there is no program to run"),
        Some(program) if program.is_empty() => return refuse("process.args[0]", "the program's name is empty"),
        Some(_) => {}
    }
    let Some(cwd) = said(process.cwd) else {
        return refuse("process.cwd", "it is missing; it must be an absolute path");
    };
    absolute("process.cwd", &cwd)?;
    Ok(Process {
        terminal: terminal(process.terminal, process.console_size)?,
        user: user(process.user)?,
        args,
        env: environment(process.env.unwrap_or_default())?,
        cwd: cwd.into(),
        capabilities: capabilities(process.capabilities, warnings),
        rlimits: rlimits(&process.rlimits.unwrap_or_default())?,
        no_new_privileges: process.no_new_privileges.unwrap_or(false),
        apparmor_profile: said(process.apparmor_profile),
        selinux_label: said(process.selinux_label),
        oom_score_adj: oom_score_adj(process.oom_score_adj)?,
        scheduler: process.scheduler.map(|asked| scheduler(asked, warnings)).transpose()?,
        io_priority: process.io_priority.map(io_priority).transpose()?,
        exec_cpu_affinity: process.exec_cpu_affinity.map(affinity).transpose()?.flatten(),
    })
}

/// Rights and limits of a second process, where its file has none, are the container's own: who says nothing of them does
/// not mean to be freer than the container is.
pub(crate) fn take_over_what_is_not_said(process: &mut Process, own: &Process) {
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    process.apparmor_profile = process.apparmor_profile.take().or_else(|| own.apparmor_profile.clone());
    process.selinux_label = process.selinux_label.take().or_else(|| own.selinux_label.clone());
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.or(own.scheduler);
    process.io_priority = process.io_priority.or(own.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.take().or_else(|| own.exec_cpu_affinity.clone());
}

/// `consoleSize` without a terminal MUST be ignored; a zero in it is what Docker writes for "not known".
fn terminal(terminal: Option<bool>, size: Option<spec::ConsoleSize>) -> Result<Option<Terminal>, Invalid> {
    if terminal != Some(true) {
        return Ok(None);
    }
    let (height, width) = size.map_or((0, 0), |size| (size.height.unwrap_or(0), size.width.unwrap_or(0)));
    if height == 0 || width == 0 {
        return Ok(Some(Terminal { size: None }));
    }
    let (Ok(height), Ok(width)) = (u16::try_from(height), u16::try_from(width)) else {
        return refuse("process.consoleSize", format_args!("{height} by {width} does not fit 16 bits (ioctl_tty(2))"));
    };
    Ok(Some(Terminal { size: Some(TerminalSize { height, width }) }))
}

fn user(user: Option<oci::User>) -> Result<User, Invalid> {
    let Some(user) = user else {
        return Ok(User { uid: 0, gid: 0, umask: None, additional_gids: Vec::new() });
    };
    let umask = user.umask();
    if let Some(mask) = umask.filter(|mask| *mask > 0o777) {
        return refuse("process.user.umask", format_args!("{mask} is more than 511 (0777)"));
    }
    let additional_gids = user.additional_gids().clone().unwrap_or_default();
    // NGROUPS_MAX, since Linux 2.6.4 (setgroups(2)).
    if additional_gids.len() > 65_536 {
        return refuse(
            "process.user.additionalGids",
            format_args!("{} groups; the kernel takes 65536", additional_gids.len()),
        );
    }
    for (index, gid) in additional_gids.iter().enumerate() {
        id(format_args!("process.user.additionalGids[{index}]"), *gid)?;
    }
    Ok(User {
        uid: id("process.user.uid", user.uid())?,
        gid: id("process.user.gid", user.gid())?,
        umask,
        additional_gids,
    })
}

/// Reads the `--user` of `exec`: `uid` or `uid:gid`, in decimal digits and nothing else.
///
/// A sloppy reading once made `-u 1` root (CVE-2026-30892), so anything but plain digits is refused, and so is
/// 4294967295, which setresuid(2) reads as "leave it". `None` for the gid: the command line did not say one.
///
/// # Errors
/// Any other shape, with the field `user`.
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>), Invalid> {
    const SHAPE: &str = "\"uid\" or \"uid:gid\" in plain decimal numbers";
    match text.split_once(':') {
        None => Ok((plain_id("user", text, text, SHAPE)?, None)),
        Some((uid, gid)) => Ok((plain_id("user", uid, text, SHAPE)?, Some(plain_id("user", gid, text, SHAPE)?))),
    }
}

/// Reads one user or group id of the command line (`--additional-gids` of `exec`), as strictly as [`parse_user`].
///
/// # Errors
/// Anything but a plain decimal number up to 4294967294, with the field `id`.
pub fn parse_id(text: &str) -> Result<u32, Invalid> {
    plain_id("id", text, text, "a plain decimal number")
}

fn plain_id(field: &str, part: &str, whole: &str, shape: &str) -> Result<u32, Invalid> {
    let plain = !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_digit())
        // Elsewhere a leading zero means octal.
        && (part.len() == 1 || !part.starts_with('0'));
    match part.parse() {
        Ok(number) if plain => id(field, number),
        _ => refuse(field, format_args!("{whole:?} is not {shape}")),
    }
}

/// One `NAME=value`.
pub(crate) fn env_entry(field: fmt::Arguments<'_>, entry: &str) -> Result<(), Invalid> {
    match entry.find('=') {
        Some(0) => refuse(field, format_args!("{entry:?} has no name before its '='")),
        Some(_) => Ok(()),
        None => refuse(field, format_args!("{entry:?} has no '='")),
    }
}

/// Checks `NAME=value` entries and removes duplicates: the last one wins, and stays where it is. For `process.env`, and
/// for what `exec --env` adds to it.
///
/// # Errors
/// An entry without a name or without a `=`, or with a NUL byte, with the field `process.env[N]`.
pub fn environment(env: Vec<String>) -> Result<Vec<String>, Invalid> {
    for (index, entry) in env.iter().enumerate() {
        env_entry(format_args!("process.env[{index}]"), entry)?;
        if entry.contains('\0') {
            return refuse(format_args!("process.env[{index}]"), format_args!("{entry:?} holds a NUL byte"));
        }
    }
    let mut seen = HashSet::with_capacity(env.len());
    let keep: Vec<bool> =
        env.iter().rev().map(|entry| seen.insert(entry.split_once('=').map_or("", |(name, _)| name))).collect();
    if keep.iter().all(|keep| *keep) {
        return Ok(env);
    }
    Ok(env.into_iter().zip(keep.into_iter().rev()).filter_map(|(entry, keep)| keep.then_some(entry)).collect())
}

/// Names of the limits by their number on every architecture orlop is built for (asm-generic/resource.h).
pub(crate) const RLIMITS: [&str; 16] = [
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

/// The name of a limit as the specification writes it, by its number (getrlimit(2)).
pub fn rlimit_name(resource: u32) -> Option<&'static str> {
    RLIMITS.get(usize::try_from(resource).ok()?).copied()
}

/// A type that cannot be mapped, and one that stands there twice, MUST be errors (config.md#posix-process).
fn rlimits(list: &[spec::Rlimit]) -> Result<Vec<Rlimit>, Invalid> {
    let mut rlimits: Vec<Rlimit> = Vec::with_capacity(list.len());
    for (index, limit) in list.iter().enumerate() {
        let number = RLIMITS.iter().position(|name| *name == limit.typ).and_then(|n| u32::try_from(n).ok());
        let Some(resource) = number else {
            return refuse(
                format_args!("process.rlimits[{index}].type"),
                format_args!("{:?} is not a resource limit of Linux", limit.typ),
            );
        };
        if let Some(earlier) = rlimits.iter().find(|earlier| earlier.resource == resource) {
            return refuse(
                format_args!("process.rlimits[{index}].type"),
                format_args!("{:?} is already set by process.rlimits[{}]", limit.typ, earlier.index),
            );
        }
        if limit.soft > limit.hard {
            return refuse(
                format_args!("process.rlimits[{index}].soft"),
                format_args!("{} is above the hard limit, {}", limit.soft, limit.hard),
            );
        }
        rlimits.push(Rlimit { resource, index, soft: limit.soft, hard: limit.hard });
    }
    Ok(rlimits)
}

/// The range of proc_pid_oom_score_adj(5).
fn oom_score_adj(value: Option<i32>) -> Result<Option<i32>, Invalid> {
    match value {
        Some(value) if !(-1000..=1000).contains(&value) => {
            refuse("process.oomScoreAdj", format_args!("{value} is not between -1000 and 1000"))
        }
        value => Ok(value),
    }
}

/// Policies and their numbers (sched(7)). SCHED_ISO (4) is reserved and in no kernel.
pub(crate) const POLICIES: [(&str, u32); 6] = [
    ("SCHED_BATCH", 3),
    ("SCHED_DEADLINE", 6),
    ("SCHED_FIFO", 1),
    ("SCHED_IDLE", 5),
    ("SCHED_OTHER", 0),
    ("SCHED_RR", 2),
];

/// Flags and their bits (include/uapi/linux/sched.h).
pub(crate) const SCHEDULER_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
];

fn scheduler(asked: spec::Scheduler, warnings: &mut Vec<Warning>) -> Result<Scheduler, Invalid> {
    let name = asked.policy;
    let Some((_, policy)) = POLICIES.iter().find(|(known, _)| *known == name) else {
        return refuse("process.scheduler.policy", format_args!("{name:?} is not a scheduling policy of Linux"));
    };
    let mut flags = 0;
    for (index, flag) in asked.flags.iter().flatten().enumerate() {
        let Some((_, bit)) = SCHEDULER_FLAGS.iter().find(|(known, _)| known == flag) else {
            return refuse(
                format_args!("process.scheduler.flags[{index}]"),
                format_args!("{flag:?} is not a scheduler flag"),
            );
        };
        flags |= bit;
    }
    let (fair, real_time, deadline) = (matches!(policy, 0 | 3), matches!(policy, 1 | 2), *policy == 6);
    let nice = asked.nice.unwrap_or(0);
    if nice != 0 && !fair {
        // The kernel passes it over, and so do runc and crun.
        let what = format!("ignored: {name} has no nice value");
        warnings.push(Warning { field: "process.scheduler.nice".to_owned(), what });
    }
    if !(-20..=19).contains(&nice) {
        return refuse("process.scheduler.nice", format_args!("{nice} is not between -20 and 19"));
    }
    let priority = asked.priority.unwrap_or(0);
    let range = if real_time { 1..=99 } else { 0..=0 };
    let Some(priority) = u32::try_from(priority).ok().filter(|priority| range.contains(priority)) else {
        let why = if real_time { "needs a priority from 1 to 99" } else { "has no priority" };
        return refuse("process.scheduler.priority", format_args!("{priority}: {name} {why}"));
    };
    let (runtime, dead, period) = (asked.runtime.unwrap_or(0), asked.deadline.unwrap_or(0), asked.period.unwrap_or(0));
    if !deadline && (runtime, dead, period) != (0, 0, 0) {
        return refuse("process.scheduler", format_args!("{name} takes no runtime, deadline or period"));
    }
    // A period of 0 means the deadline (sched(7)); below 1024 ns the kernel cannot count.
    if deadline && !(1024 <= runtime && runtime <= dead && (period == 0 || dead <= period) && period >> 63 == 0) {
        return refuse(
            "process.scheduler",
            format_args!("SCHED_DEADLINE needs 1024 <= runtime ({runtime}) <= deadline ({dead}) <= period ({period})"),
        );
    }
    Ok(Scheduler { policy: *policy, nice, priority, flags, runtime, deadline: dead, period })
}

/// Classes and their numbers (ioprio_set(2)).
pub(crate) const IO_CLASSES: [(&str, u16); 3] =
    [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)];

fn io_priority(asked: spec::IoPriority) -> Result<IoPriority, Invalid> {
    let Some((_, class)) = IO_CLASSES.iter().find(|(name, _)| *name == asked.class) else {
        return refuse("process.ioPriority.class", format_args!("{:?} is not an I/O class", asked.class));
    };
    let priority = asked.priority.unwrap_or(0);
    match u16::try_from(priority) {
        Ok(priority) if priority <= 7 => Ok(IoPriority { class: *class, priority }),
        _ => refuse("process.ioPriority.priority", format_args!("{priority} is not between 0 and 7")),
    }
}

fn affinity(asked: spec::ExecCpuAffinity) -> Result<Option<ExecCpuAffinity>, Invalid> {
    let cpus = |field: &str, text: Option<String>| {
        said(text).map(|text| list(format_args!("process.execCPUAffinity.{field}"), &text)).transpose()
    };
    let affinity = ExecCpuAffinity { initial: cpus("initial", asked.initial)?, last: cpus("final", asked.last)? };
    Ok((affinity != ExecCpuAffinity::default()).then_some(affinity))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cve_2026_30892_a_user_is_plain_numbers() {
        assert_eq!(parse_user("0").unwrap(), (0, None));
        assert_eq!(parse_user("1").unwrap(), (1, None));
        assert_eq!(parse_user("1:1").unwrap(), (1, Some(1)));
        assert_eq!(parse_user("4294967294:0").unwrap(), (4_294_967_294, Some(0)));
        for bad in [
            "",
            ":",
            "1:",
            ":1",
            "01",
            "00",
            "0x1",
            " 1",
            "1 ",
            "+1",
            "-1",
            "1:+1",
            "1:-1",
            "1:01",
            "1:1:1",
            "1:1 ",
            "4294967295",
            "1:4294967295",
            "4294967296",
            "99999999999999999999",
            "root",
            "root:root",
            "1\n",
            "١",
        ] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
            assert!(parse_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_of_two_variables_wins_and_stays_in_place() {
        let of = |list: &[&str]| environment(list.iter().map(|text| text.to_string()).collect());
        assert_eq!(of(&["A=1", "B=2", "A=3"]).unwrap(), ["B=2", "A=3"]);
        assert_eq!(of(&["A=", "B=b=c"]).unwrap(), ["A=", "B=b=c"]);
        assert!(of(&["A"]).is_err());
        assert!(of(&["=A"]).is_err());
    }

    #[test]
    fn deadlines_are_in_order() {
        let ask = |runtime, deadline, period| {
            let asked = spec::Scheduler {
                policy: "SCHED_DEADLINE".into(),
                nice: None,
                priority: None,
                flags: None,
                runtime: Some(runtime),
                deadline: Some(deadline),
                period: Some(period),
            };
            scheduler(asked, &mut Vec::new())
        };
        assert!(ask(5000, 6000, 7000).is_ok());
        assert!(ask(5000, 6000, 0).is_ok());
        assert!(ask(5000, 4000, 7000).is_err());
        assert!(ask(5000, 8000, 7000).is_err());
        assert!(ask(0, 6000, 7000).is_err());
    }
}
