//! Mounts: what is mounted, where, and for whose ids (config.md#mounts). The options are read by [`option`].

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime as oci;

use crate::field::{refuse, warn};
use crate::namespace::id_maps;
use crate::{
    Bind, Filesystem, IdMap, Invalid, Mount, MountIdMap, MountIds, MountKind, MountTarget, Propagation, Warning,
};

mod option;

pub use option::mount_attr;
pub(crate) use option::{OPTIONS, Word};
use option::{Options, Ranges, read_options, word};

/// The propagation that one of its eight names stands for.
pub(crate) fn propagation_named(name: &str) -> Option<Propagation> {
    match word(name) {
        Some(Word::Propagation(propagation)) => Some(propagation),
        _ => None,
    }
}

/// A path without `.`, `..`, doubled or trailing slashes, taken from `/`; as runc does, before anything is looked up
/// (openat(2) with O_NOFOLLOW follows `link/`: security.md T48).
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Files below /proc that lxcfs and friends provide; nothing else there may be covered (CVE-2015-3631, CVE-2019-16884).
pub const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Judges a destination by its words; what it resolves to in the rootfs is judged again when it is known.
fn destination(index: usize, destination: &Path, kind: &MountKind) -> Result<(), Invalid> {
    let field = format_args!("mounts[{index}].destination");
    if destination == Path::new("/") {
        return refuse(field, "the root of the container cannot be mounted over");
    }
    if destination == Path::new("/proc") {
        let allowed = match kind {
            MountKind::Filesystem(filesystem) => filesystem.fstype == "proc",
            MountKind::Cgroup(_) => false,
            MountKind::Bind(_) | MountKind::Remount(_) | MountKind::Propagate => true,
        };
        if !allowed {
            return refuse(field, "\"/proc\" cannot be mounted because it is not of type proc");
        }
    } else if destination.starts_with("/proc") && !PROC_FILES.iter().any(|file| destination == Path::new(file)) {
        return refuse(field, format_args!("{destination:?} cannot be mounted because it is inside /proc"));
    }
    Ok(())
}

/// One entry of `mounts`; `container` are the id maps of its user namespace.
pub(crate) fn mount(
    index: usize,
    asked: &oci::Mount,
    container: (&[IdMap], &[IdMap]),
    warnings: &mut Vec<Warning>,
) -> Result<Mount, Invalid> {
    let written = asked.destination();
    if written.as_os_str().is_empty() {
        return refuse(format_args!("mounts[{index}].destination"), "it is empty");
    }
    if !written.is_absolute() {
        warn(
            warnings,
            format_args!("mounts[{index}].destination"),
            format_args!("{written:?} is not absolute; it is taken from /"),
        );
    }
    let options = asked.options().as_deref().unwrap_or_default();
    let mut read = read_options(index, options, container)?;
    let id_map = id_map(index, asked, read.id_map.take())?;
    let kind = kind(index, asked, &mut read, warnings)?;
    if id_map.is_some() && !matches!(kind, MountKind::Bind(_) | MountKind::Filesystem(_)) {
        return refuse(format_args!("mounts[{index}]"), "only a bind mount or a new filesystem can be id-mapped");
    }
    let clean = cleaned(written);
    destination(index, &clean, &kind)?;
    Ok(Mount {
        index,
        destination: clean,
        kind,
        attributes: read.own.finish(),
        recursive: read.recursive.finish(),
        propagation: read.propagation,
        id_map,
        target: MountTarget { nofollow: read.target_nofollow },
    })
}

fn kind(
    index: usize,
    asked: &oci::Mount,
    read: &mut Options,
    warnings: &mut Vec<Warning>,
) -> Result<MountKind, Invalid> {
    let at = |option: usize| format!("mounts[{index}].options[{option}]");
    let fstype = asked.typ().as_deref().unwrap_or_default();
    let is_bind = read.bind.is_some() || fstype == "bind";
    let fstype = if is_bind { "bind" } else { fstype };
    if let Some(option) = read.copy_up_at.filter(|_| fstype != "tmpfs") {
        return refuse(at(option), "\"tmpcopyup\" is for a mount of type tmpfs alone");
    }
    if is_bind {
        // mount(2) ignores data on a bind, and configs have it; but a bare word is more likely an option misspelt.
        if let Some(option) = read.data.iter().find(|option| option.value.is_none()) {
            return refuse(
                at(option.index.unwrap_or(0)),
                format_args!("{:?}: bind mounts cannot have any filesystem-specific options applied", option.key),
            );
        }
        for option in std::mem::take(&mut read.data) {
            warn(
                warnings,
                at(option.index.unwrap_or(0)),
                format_args!("a bind mount has no filesystem of its own; {:?} has no effect", option.key),
            );
        }
        if let (flags, Some(option)) = read.superblock() {
            warn(
                warnings,
                at(option),
                format_args!("a bind mount has no filesystem of its own; {flags:?} has no effect"),
            );
        }
    }
    if (!is_bind || read.remount)
        && let Some(option) = read.copy_symlink_at.or(read.source_nofollow_at)
    {
        return refuse(at(option), "it is an option of bind mounts alone");
    }
    if let Some(option) = read.copy_symlink_at.filter(|_| read.source_nofollow_at.is_some() || read.target_nofollow) {
        return refuse(
            at(option),
            "\"copy-symlink\" makes a link, and nothing is mounted: \"src-nofollow\" and \"dest-nofollow\" are for mounts",
        );
    }
    let source = asked.source().as_ref().filter(|source| !source.as_os_str().is_empty());
    if is_bind && !read.remount {
        let Some(source) = source else {
            return refuse(format_args!("mounts[{index}].source"), "a bind mount needs one");
        };
        return Ok(MountKind::Bind(Bind {
            source: source.clone(),
            recursive: read.bind == Some(true),
            copy_symlink: read.copy_symlink_at.is_some(),
            source_nofollow: read.source_nofollow_at.is_some(),
        }));
    }
    let bare = matches!(fstype, "" | "none");
    if bare && !read.remount {
        if read.propagation.is_empty() || !read.data.is_empty() || !read.superblock().0.is_empty() {
            return refuse(
                format_args!("mounts[{index}].type"),
                "it is missing; without one the options need bind or rbind",
            );
        }
        return Ok(MountKind::Propagate);
    }
    let filesystem = Filesystem {
        fstype: fstype.to_string(),
        source: source.map(|source| source.to_string_lossy().into_owned()),
        data: std::mem::take(&mut read.data),
        superblock_flags: match (is_bind, read.remount) {
            (true, _) => Vec::new(),
            (false, true) => read.superblock_changes(),
            (false, false) => read.superblock().0,
        },
        copy_up: read.copy_up_at.is_some(),
    };
    Ok(match fstype {
        _ if read.remount => MountKind::Remount(filesystem),
        "cgroup" | "cgroup2" => MountKind::Cgroup(filesystem),
        _ => MountKind::Filesystem(filesystem),
    })
}

fn id_map(
    index: usize,
    asked: &oci::Mount,
    option: Option<(bool, Option<Ranges>)>,
) -> Result<Option<MountIdMap>, Invalid> {
    let uids = asked.uid_mappings().as_deref().unwrap_or_default();
    let gids = asked.gid_mappings().as_deref().unwrap_or_default();
    let fields = match (uids.is_empty(), gids.is_empty()) {
        (true, true) => None,
        (false, false) => Some((
            id_maps(format_args!("mounts[{index}].uidMappings"), uids)?,
            id_maps(format_args!("mounts[{index}].gidMappings"), gids)?,
        )),
        (true, false) => return refuse(format_args!("mounts[{index}].uidMappings"), "gidMappings needs it"),
        (false, true) => return refuse(format_args!("mounts[{index}].gidMappings"), "uidMappings needs it"),
    };
    let (recursive, ranges) = match (option, fields) {
        (None, None) => return Ok(None),
        (None, fields) => (false, fields),
        (Some((_, Some(_))), Some(_)) => {
            return refuse(
                format_args!("mounts[{index}].uidMappings"),
                "the options hold a mapping as well; one of the two must go",
            );
        }
        (Some((recursive, ranges)), fields) => (recursive, ranges.or(fields)),
    };
    let ids = ranges.map_or(MountIds::Container, |(uids, gids)| MountIds::Explicit { uids, gids });
    Ok(Some(MountIdMap { recursive, ids }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned_by_their_words() {
        for (written, clean) in
            [("/a/", "/a"), ("/a/.", "/a"), ("//x", "/x"), ("a/../../b", "/b"), ("/..", "/"), (".", "/")]
        {
            assert_eq!(cleaned(Path::new(written)), Path::new(clean), "{written}");
        }
    }
}
