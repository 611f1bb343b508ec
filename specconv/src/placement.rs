//! Where a container's work is done: NUMA memory policy, Intel RDT, and the execution domain.

use crate::field::{list, refuse, said, warn};
use crate::{IntelRdt, Invalid, MemoryPolicy, Personality, Warning, spec};

/// Modes and their numbers (set_mempolicy(2), include/uapi/linux/mempolicy.h), sorted.
pub(crate) const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags and their bits, sorted.
pub(crate) const MEMORY_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// `linux.memoryPolicy` (config-linux.md#memory-policy). Which flags go with which mode is left to the kernel.
pub(crate) fn memory_policy(asked: spec::MemoryPolicy) -> Result<MemoryPolicy, Invalid> {
    let Some((name, mode)) = MEMORY_MODES.iter().find(|(name, _)| *name == asked.mode) else {
        return refuse("linux.memoryPolicy.mode", format_args!("{:?} is not a memory policy", asked.mode));
    };
    let mut flags = 0;
    for (index, flag) in asked.flags.iter().flatten().enumerate() {
        let Some((_, bit)) = MEMORY_FLAGS.iter().find(|(name, _)| name == flag) else {
            return refuse(
                format_args!("linux.memoryPolicy.flags[{index}]"),
                format_args!("{flag:?} is not a flag of a memory policy"),
            );
        };
        flags |= bit;
    }
    let nodes =
        said(asked.nodes).map(|nodes| list("linux.memoryPolicy.nodes", &nodes)).transpose()?.unwrap_or_default();
    match (*name, nodes.is_empty()) {
        ("MPOL_DEFAULT" | "MPOL_LOCAL", false) => {
            refuse("linux.memoryPolicy.nodes", format_args!("{name} takes no nodes"))
        }
        ("MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED", _) | (_, false) => {
            Ok(MemoryPolicy { mode: *mode, flags, nodes })
        }
        (_, true) => refuse("linux.memoryPolicy.nodes", format_args!("{name} needs at least one node")),
    }
}

/// `linux.intelRdt` (config-linux.md#intelrdt). The class becomes a folder, and each schema a line of one write.
pub(crate) fn intel_rdt(asked: spec::IntelRdt, warnings: &mut Vec<Warning>) -> Result<IntelRdt, Invalid> {
    let clos_id = said(asked.clos_id);
    if let Some(class) = &clos_id {
        let folder = class == "/" || !(class == "." || class == ".." || class.contains(['/', '\n']));
        if !folder {
            return refuse("linux.intelRdt.closID", format_args!("{class:?} is not the name of a folder"));
        }
    }
    let fixed = rdt_schemata(asked.l3_cache_schema, asked.mem_bw_schema)?;
    let mut schemata = Vec::new();
    for (index, line) in asked.schemata.into_iter().flatten().enumerate() {
        if line.is_empty() || line.contains('\n') {
            return refuse(format_args!("linux.intelRdt.schemata[{index}]"), format_args!("{line:?} is not one line"));
        }
        schemata.push(line);
    }
    let mut enable_monitoring = asked.enable_monitoring.unwrap_or(false);
    let before = [("enableCMT", asked.enable_cmt), ("enableMBM", asked.enable_mbm)];
    for (field, _) in before.into_iter().filter(|(_, set)| *set == Some(true)) {
        warn(
            warnings,
            format_args!("linux.intelRdt.{field}"),
            "it is no longer in the specification; it is read as enableMonitoring",
        );
        enable_monitoring = true;
    }
    Ok(IntelRdt { clos_id, fixed, schemata, enable_monitoring })
}

/// The lines that `l3CacheSchema` and `memBwSchema` make (config-linux.md#intelrdt); an empty word is none.
///
/// # Errors
/// A schema of memory bandwidth that is not one line of that kind.
pub fn rdt_schemata(l3_cache: Option<String>, mem_bw: Option<String>) -> Result<Vec<String>, Invalid> {
    let mut lines = Vec::new();
    let bandwidth = said(mem_bw);
    if let Some(cache) = said(l3_cache) {
        // Where both are given, the bandwidth of memBwSchema stands.
        let cache = cache.lines().filter(|line| !line.is_empty());
        lines.extend(cache.filter(|line| bandwidth.is_none() || !line.starts_with("MB:")).map(str::to_string));
    }
    if let Some(bandwidth) = bandwidth {
        if !bandwidth.starts_with("MB:") || bandwidth.contains('\n') {
            return refuse(
                "linux.intelRdt.memBwSchema",
                format_args!("{bandwidth:?} is not one line that starts with \"MB:\""),
            );
        }
        lines.push(bandwidth);
    }
    Ok(lines)
}

/// Domains of the specification.
pub(crate) const PERSONALITIES: [(&str, Personality); 2] =
    [("LINUX", Personality::Linux), ("LINUX32", Personality::Linux32)];

/// `linux.personality` (config-linux.md#personality). The specification has no flags to put in `flags`, and what is not
/// supported MUST be an error (config.md#valid-values).
pub(crate) fn personality(asked: &spec::Personality) -> Result<Personality, Invalid> {
    let Some((_, domain)) = PERSONALITIES.iter().find(|(name, _)| *name == asked.domain) else {
        return refuse("linux.personality.domain", format_args!("{:?} is not \"LINUX\" or \"LINUX32\"", asked.domain));
    };
    match asked.flags.as_deref() {
        Some([flag, ..]) => refuse("linux.personality.flags[0]", format_args!("{flag:?}: no flag is supported")),
        _ => Ok(*domain),
    }
}
