//! The system call filter, its words checked (config-linux.md#seccomp). What a name or an architecture is on this
//! machine is not known here.

use std::fmt;

use crate::field::{refuse, said};
use crate::{Invalid, Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule, spec};

/// Actions, sorted.
pub(crate) const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Comparisons, sorted by name.
pub(crate) const OPERATORS: [(&str, SeccompOperator); 7] = [
    ("SCMP_CMP_EQ", SeccompOperator::Equal),
    ("SCMP_CMP_GE", SeccompOperator::GreaterOrEqual),
    ("SCMP_CMP_GT", SeccompOperator::Greater),
    ("SCMP_CMP_LE", SeccompOperator::LessOrEqual),
    ("SCMP_CMP_LT", SeccompOperator::Less),
    ("SCMP_CMP_MASKED_EQ", SeccompOperator::MaskedEqual),
    ("SCMP_CMP_NE", SeccompOperator::NotEqual),
];

/// Architectures of the specification, sorted.
pub(crate) const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Flags of seccomp(2) that the specification names, sorted.
pub(crate) const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// crun's annotation for what `listenerPath` says, of before there was one.
pub(crate) const RECEIVER: &str = "run.oci.seccomp.receiver";

/// The filter; no default action and no rules is none, as runc reads it. `receiver` is the annotation [`RECEIVER`].
/// Whether a rule of SCMP_ACT_NOTIFY has its agent is not known here: the environment may name it.
pub(crate) fn seccomp(asked: spec::Seccomp, receiver: Option<&str>) -> Result<Option<Seccomp>, Invalid> {
    let rules = asked.syscalls.unwrap_or_default();
    let Some(default) = said(asked.default_action) else {
        if rules.is_empty() {
            return Ok(None);
        }
        return refuse("linux.seccomp.defaultAction", "it is missing");
    };
    let default_action = action(
        format_args!("linux.seccomp.defaultAction"),
        &default,
        format_args!("linux.seccomp.defaultErrnoRet"),
        asked.default_errno_ret,
    )?;
    if default_action == SeccompAction::Notify {
        return refuse("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default action");
    }
    let architectures = asked.architectures.unwrap_or_default();
    for (index, name) in architectures.iter().enumerate() {
        if !ARCHITECTURES.contains(&name.as_str()) {
            return refuse(
                format_args!("linux.seccomp.architectures[{index}]"),
                format_args!("{name:?} is not an architecture of seccomp"),
            );
        }
    }
    for (index, name) in asked.flags.iter().flatten().enumerate() {
        if !FLAGS.contains(&name.as_str()) {
            return refuse(
                format_args!("linux.seccomp.flags[{index}]"),
                format_args!("{name:?} is not a flag of seccomp(2)"),
            );
        }
    }
    let syscalls =
        rules.into_iter().enumerate().map(|(index, asked)| rule(index, asked)).collect::<Result<Vec<_>, _>>()?;
    if receiver.is_some_and(|path| !path.starts_with('/')) {
        return refuse(format_args!("annotations[{RECEIVER:?}]"), "it is not an absolute path");
    }
    let listener_path = said(asked.listener_path).or_else(|| receiver.map(str::to_owned));
    let listener_metadata = said(asked.listener_metadata);
    if listener_metadata.is_some() && listener_path.is_none() {
        return refuse("linux.seccomp.listenerMetadata", "there is no listenerPath");
    }
    Ok(Some(Seccomp {
        default_action,
        architectures,
        flags: asked.flags,
        syscalls,
        listener_path: listener_path.map(Into::into),
        listener_metadata,
    }))
}

fn rule(index: usize, asked: spec::SeccompRule) -> Result<SeccompRule, Invalid> {
    let action = action(
        format_args!("linux.seccomp.syscalls[{index}].action"),
        &asked.action,
        format_args!("linux.seccomp.syscalls[{index}].errnoRet"),
        asked.errno_ret,
    )?;
    if asked.names.is_empty() {
        return refuse(format_args!("linux.seccomp.syscalls[{index}].names"), "there is no system call in it");
    }
    if let Some(name) = asked.names.iter().position(String::is_empty) {
        return refuse(format_args!("linux.seccomp.syscalls[{index}].names[{name}]"), "it is empty");
    }
    let args = asked.args.iter().flatten().enumerate().map(|(arg, asked)| condition(index, arg, asked));
    let args = args.collect::<Result<Vec<_>, _>>()?;
    Ok(SeccompRule { names: asked.names, action, args })
}

fn condition(rule: usize, arg: usize, asked: &spec::SeccompArg) -> Result<SeccompArg, Invalid> {
    let index = match u32::try_from(asked.index) {
        Ok(index) if index <= 5 => index,
        _ => {
            return refuse(
                format_args!("linux.seccomp.syscalls[{rule}].args[{arg}].index"),
                format_args!("{}: a system call has the arguments 0 to 5", asked.index),
            );
        }
    };
    let Some((_, op)) = OPERATORS.iter().find(|(name, _)| *name == asked.op) else {
        return refuse(
            format_args!("linux.seccomp.syscalls[{rule}].args[{arg}].op"),
            format_args!("{:?} is not a comparison of seccomp", asked.op),
        );
    };
    Ok(SeccompArg { index, value: asked.value, value_two: asked.value_two.unwrap_or(0), op: *op })
}

/// An errno on an action that returns none MUST be an error; where it is missing, EPERM stands.
fn action(
    field: fmt::Arguments<'_>,
    name: &str,
    errno_field: fmt::Arguments<'_>,
    errno: Option<u64>,
) -> Result<SeccompAction, Invalid> {
    let Ok(number) = u16::try_from(errno.unwrap_or(1)) else {
        return refuse(errno_field, format_args!("{} does not fit 16 bits", errno.unwrap_or(1)));
    };
    let action = match name {
        "SCMP_ACT_ERRNO" => return Ok(SeccompAction::Errno(number)),
        "SCMP_ACT_TRACE" => return Ok(SeccompAction::Trace(number)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_NOTIFY" => SeccompAction::Notify,
        other => return refuse(field, format_args!("{other:?} is not an action of seccomp")),
    };
    if errno.is_some() {
        return refuse(errno_field, format_args!("{name} returns no errno"));
    }
    Ok(action)
}
