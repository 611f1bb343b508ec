//! Mounts: options to kind, attributes, propagation, id maps and what is left for the filesystem (config.md#mounts).
//!
//! The table [`OPTIONS`] is what `features` lists, too.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime as oci;

use crate::field::{refuse, warn};
use crate::namespace::{checked_id_maps, id_maps, to_host};
use crate::{
    Attributes, Bind, Filesystem, FsOption, IdMap, Invalid, Mount, MountIdMap, MountIds, MountKind, MountTarget,
    Propagation, PropagationKind, Warning,
};

/// Bits of [`Attributes`], as the kernel names them (mount_setattr(2), include/uapi/linux/mount.h).
#[allow(missing_docs, reason = "the manual page is the documentation")]
pub mod mount_attr {
    pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
    pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
    pub const MOUNT_ATTR_NODEV: u64 = 0x4;
    pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
    pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
    pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
    pub const MOUNT_ATTR__ATIME: u64 = 0x70;
    pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
    pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;
}
use mount_attr::*;

/// What an option does.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    /// Nothing: `defaults`, and what is so anyway.
    Nothing,
    /// Switches an attribute on or off.
    Attribute { bit: u64, on: bool, recursive: bool },
    /// Wishes, or no longer wishes, a way of updating access times.
    Atime { how: Atime, on: bool, recursive: bool },
    /// Switches a flag of the superblock on or off.
    Superblock { flag: &'static str, on: bool },
    /// Sets the propagation.
    Propagation(Propagation),
    /// `bind`, `rbind`.
    Bind { recursive: bool },
    /// `remount`.
    Remount,
    /// `tmpcopyup`.
    CopyUp,
    /// `idmap`, `ridmap`.
    IdMap { recursive: bool },
    /// `copy-symlink`.
    CopySymlink,
    /// `src-nofollow`.
    SourceNofollow,
    /// `dest-nofollow`.
    TargetNofollow,
    /// Known, and impossible: mount_setattr(2) has no attribute for a flag of the superblock.
    Impossible,
}

/// Ways of updating access times; with several, the kernel lets the later of this list win (fs/namespace.c, do_mount).
#[derive(Clone, Copy)]
pub(crate) enum Atime {
    Relative = 1,
    Never = 2,
    Strict = 4,
}

const fn attribute(bit: u64, on: bool) -> Word {
    Word::Attribute { bit, on, recursive: false }
}
const fn below(bit: u64, on: bool) -> Word {
    Word::Attribute { bit, on, recursive: true }
}
const fn atime(how: Atime, on: bool) -> Word {
    Word::Atime { how, on, recursive: false }
}
const fn atime_below(how: Atime, on: bool) -> Word {
    Word::Atime { how, on, recursive: true }
}
const fn superblock(flag: &'static str, on: bool) -> Word {
    Word::Superblock { flag, on }
}
const fn propagation(kind: PropagationKind, recursive: bool) -> Word {
    Word::Propagation(Propagation { kind, recursive })
}

/// Every option of runc and of crun that is not data of a filesystem; sorted.
///
/// `acl` and `noacl` are missing on purpose: they belong to the filesystem (runc issue 3738).
pub(crate) const OPTIONS: &[(&str, Word)] = &[
    ("async", superblock("sync", false)),
    ("atime", atime(Atime::Never, false)),
    ("bind", Word::Bind { recursive: false }),
    ("copy-symlink", Word::CopySymlink),
    ("defaults", Word::Nothing),
    ("dest-nofollow", Word::TargetNofollow),
    ("dev", attribute(MOUNT_ATTR_NODEV, false)),
    ("diratime", attribute(MOUNT_ATTR_NODIRATIME, false)),
    ("dirsync", superblock("dirsync", true)),
    ("exec", attribute(MOUNT_ATTR_NOEXEC, false)),
    ("idmap", Word::IdMap { recursive: false }),
    ("iversion", superblock("iversion", true)),
    ("lazytime", superblock("lazytime", true)),
    ("loud", superblock("silent", false)),
    ("mand", superblock("mand", true)),
    ("noatime", atime(Atime::Never, true)),
    ("nodev", attribute(MOUNT_ATTR_NODEV, true)),
    ("nodiratime", attribute(MOUNT_ATTR_NODIRATIME, true)),
    ("noexec", attribute(MOUNT_ATTR_NOEXEC, true)),
    ("noiversion", superblock("iversion", false)),
    ("nolazytime", superblock("lazytime", false)),
    ("nomand", superblock("mand", false)),
    ("norelatime", atime(Atime::Relative, false)),
    ("nostrictatime", atime(Atime::Strict, false)),
    ("nosuid", attribute(MOUNT_ATTR_NOSUID, true)),
    ("nosymfollow", attribute(MOUNT_ATTR_NOSYMFOLLOW, true)),
    ("private", propagation(PropagationKind::Private, false)),
    ("rasync", Word::Nothing),
    ("ratime", atime_below(Atime::Never, false)),
    ("rbind", Word::Bind { recursive: true }),
    ("rdev", below(MOUNT_ATTR_NODEV, false)),
    ("rdiratime", below(MOUNT_ATTR_NODIRATIME, false)),
    ("rdirsync", Word::Impossible),
    ("relatime", atime(Atime::Relative, true)),
    ("remount", Word::Remount),
    ("rexec", below(MOUNT_ATTR_NOEXEC, false)),
    ("ridmap", Word::IdMap { recursive: true }),
    ("rmand", Word::Impossible),
    ("rnoatime", atime_below(Atime::Never, true)),
    ("rnodev", below(MOUNT_ATTR_NODEV, true)),
    ("rnodiratime", below(MOUNT_ATTR_NODIRATIME, true)),
    ("rnoexec", below(MOUNT_ATTR_NOEXEC, true)),
    ("rnomand", Word::Nothing),
    ("rnorelatime", atime_below(Atime::Relative, false)),
    ("rnostrictatime", atime_below(Atime::Strict, false)),
    ("rnosuid", below(MOUNT_ATTR_NOSUID, true)),
    ("rnosymfollow", below(MOUNT_ATTR_NOSYMFOLLOW, true)),
    ("ro", attribute(MOUNT_ATTR_RDONLY, true)),
    ("rprivate", propagation(PropagationKind::Private, true)),
    ("rrelatime", atime_below(Atime::Relative, true)),
    ("rro", below(MOUNT_ATTR_RDONLY, true)),
    ("rrw", below(MOUNT_ATTR_RDONLY, false)),
    ("rshared", propagation(PropagationKind::Shared, true)),
    ("rslave", propagation(PropagationKind::Slave, true)),
    ("rstrictatime", atime_below(Atime::Strict, true)),
    ("rsuid", below(MOUNT_ATTR_NOSUID, false)),
    ("rsymfollow", below(MOUNT_ATTR_NOSYMFOLLOW, false)),
    ("rsync", Word::Impossible),
    ("runbindable", propagation(PropagationKind::Unbindable, true)),
    ("rw", attribute(MOUNT_ATTR_RDONLY, false)),
    ("shared", propagation(PropagationKind::Shared, false)),
    ("silent", superblock("silent", true)),
    ("slave", propagation(PropagationKind::Slave, false)),
    ("src-nofollow", Word::SourceNofollow),
    ("strictatime", atime(Atime::Strict, true)),
    ("suid", attribute(MOUNT_ATTR_NOSUID, false)),
    ("symfollow", attribute(MOUNT_ATTR_NOSYMFOLLOW, false)),
    ("sync", superblock("sync", true)),
    ("tmpcopyup", Word::CopyUp),
    ("unbindable", propagation(PropagationKind::Unbindable, false)),
];

/// The propagation that one of its eight names stands for.
pub(crate) fn propagation_named(name: &str) -> Option<Propagation> {
    match word(name) {
        Some(Word::Propagation(propagation)) => Some(propagation),
        _ => None,
    }
}

fn word(name: &str) -> Option<Word> {
    let found = OPTIONS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    OPTIONS.get(found).map(|(_, word)| *word)
}

/// Attributes while they are being collected; the access time is three wishes until the end.
#[derive(Default)]
struct Collected {
    set: u64,
    clear: u64,
    wishes: u8,
    /// `atime`: no `noatime`, whatever is there.
    updated: bool,
}

impl Collected {
    fn attribute(&mut self, bit: u64, on: bool) {
        let (to, from) = if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        *to |= bit;
        *from &= !bit;
    }

    fn atime(&mut self, how: Atime, on: bool) {
        if on {
            self.wishes |= how as u8;
        } else {
            self.wishes &= !(how as u8);
        }
        if matches!(how, Atime::Never) {
            self.updated = !on;
        }
    }

    fn finish(self) -> Attributes {
        let wished = |how: Atime| self.wishes & how as u8 != 0;
        let value = if wished(Atime::Strict) {
            Some(MOUNT_ATTR_STRICTATIME)
        } else if wished(Atime::Never) {
            Some(MOUNT_ATTR_NOATIME)
        } else if wished(Atime::Relative) || self.updated {
            Some(0)
        } else {
            None
        };
        match value {
            Some(value) => Attributes { set: self.set | value, clear: self.clear | MOUNT_ATTR__ATIME },
            None => Attributes { set: self.set, clear: self.clear },
        }
    }
}

/// What the options of one mount say.
#[derive(Default)]
struct Options {
    own: Collected,
    recursive: Collected,
    propagation: Vec<Propagation>,
    superblock: Vec<&'static str>,
    /// Where the first flag of the superblock stands.
    superblock_at: Option<usize>,
    data: Vec<FsOption>,
    bind: Option<bool>,
    remount: bool,
    copy_up_at: Option<usize>,
    id_map: Option<(bool, Option<Ranges>)>,
    copy_symlink_at: Option<usize>,
    source_nofollow_at: Option<usize>,
    target_nofollow: bool,
}

type Ranges = (Vec<IdMap>, Vec<IdMap>);

fn read_options(mount: usize, options: &[String], container: (&[IdMap], &[IdMap])) -> Result<Options, Invalid> {
    let mut read = Options::default();
    for (index, text) in options.iter().enumerate() {
        let Some(word) = word(text) else {
            if let Some((recursive, ranges)) = id_map_option(mount, index, text, container)? {
                read.id_map = Some((recursive, Some(ranges)));
            } else {
                data(mount, index, text, &mut read.data)?;
            }
            continue;
        };
        match word {
            Word::Nothing => {}
            Word::Attribute { bit, on, recursive: false } => read.own.attribute(bit, on),
            Word::Attribute { bit, on, recursive: true } => read.recursive.attribute(bit, on),
            Word::Atime { how, on, recursive: false } => read.own.atime(how, on),
            Word::Atime { how, on, recursive: true } => read.recursive.atime(how, on),
            Word::Superblock { flag, on } => {
                read.superblock.retain(|earlier| *earlier != flag);
                if on {
                    read.superblock.push(flag);
                    read.superblock_at.get_or_insert(index);
                }
            }
            Word::Propagation(propagation) => read.propagation.push(propagation),
            // Either order of `bind` and `rbind` is an rbind: for the kernel the second only adds a bit.
            Word::Bind { recursive } => read.bind = Some(read.bind == Some(true) || recursive),
            Word::Remount => read.remount = true,
            Word::CopyUp => read.copy_up_at = Some(index),
            Word::IdMap { recursive } => read.id_map = Some((recursive, None)),
            Word::CopySymlink => read.copy_symlink_at = Some(index),
            Word::SourceNofollow => read.source_nofollow_at = Some(index),
            Word::TargetNofollow => read.target_nofollow = true,
            Word::Impossible => {
                return refuse(
                    format_args!("mounts[{mount}].options[{index}]"),
                    format_args!("the kernel cannot set {:?} for the mounts below", &text[1..]),
                );
            }
        }
    }
    Ok(read)
}

/// What is not an option of ours is the filesystem's. mount(2) splits its data at commas, so one text may hold several
/// options; a comma in double quotes or behind a backslash belongs to a value (SELinux contexts, overlay's paths).
fn data(mount: usize, index: usize, text: &str, data: &mut Vec<FsOption>) -> Result<(), Invalid> {
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    let mut piece = |from: usize, to: usize| -> Result<(), Invalid> {
        let part = text.get(from..to).unwrap_or_default();
        let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
        if key.is_empty() {
            if value.is_none() {
                return Ok(()); // An empty option, which mount(2) passes over.
            }
            return refuse(
                format_args!("mounts[{mount}].options[{index}]"),
                format_args!("{text:?} has no name before its '='"),
            );
        }
        data.push(FsOption { index: Some(index), key: key.to_string(), value: value.map(str::to_string) });
        Ok(())
    };
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                piece(start, at)?;
                start = at + 1;
            }
            _ => {}
        }
    }
    piece(start, text.len())
}

/// crun's `idmap=uids=FS-HOST-LENGTH#…;gids=…`, also as `ridmap=`. A leading `@` makes HOST an id of the container's
/// user namespace, which is looked up in its map here.
fn id_map_option(
    mount: usize,
    index: usize,
    text: &str,
    container: (&[IdMap], &[IdMap]),
) -> Result<Option<(bool, Ranges)>, Invalid> {
    let Some((name @ ("idmap" | "ridmap"), value)) = text.split_once('=') else { return Ok(None) };
    let field = |why: String| refuse(format_args!("mounts[{mount}].options[{index}]"), why);
    let (mut uids, mut gids) = (None, None);
    for half in value.split(';').filter(|half| !half.is_empty()) {
        let (into, ranges, maps) = match half.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, ranges, container.0),
            Some(("gids", ranges)) => (&mut gids, ranges, container.1),
            _ => return field(format!("{half:?} is not \"uids=…\" or \"gids=…\"")),
        };
        let mut list = Vec::new();
        for range in ranges.split('#') {
            match id_range(range, maps) {
                Ok(map) => list.push(map),
                Err(why) => return field(format!("{range:?} {why}")),
            }
        }
        if into.replace(list).is_some() {
            return field(format!("{text:?} says one kind of id twice"));
        }
    }
    match (uids, gids) {
        (Some(uids), Some(gids)) => {
            let uids = checked_id_maps(format_args!("mounts[{mount}].options[{index}]: uids"), uids)?;
            let gids = checked_id_maps(format_args!("mounts[{mount}].options[{index}]: gids"), gids)?;
            Ok(Some((name == "ridmap", (uids, gids))))
        }
        _ => field(format!("{text:?} needs both uids and gids")),
    }
}

fn id_range(text: &str, container: &[IdMap]) -> Result<IdMap, &'static str> {
    let (relative, numbers) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let mut parts = numbers.split('-');
    let mut number = || {
        let part = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse::<u32>().ok()
    };
    let (Some(inside), Some(mut host), Some(size)) = (number(), number(), number()) else {
        return Err("is not three numbers such as 0-1000-1");
    };
    if parts.next().is_some() {
        return Err("is not three numbers such as 0-1000-1");
    }
    if relative {
        let last = size.checked_sub(1).and_then(|more| host.checked_add(more));
        let ends = last.and_then(|last| Some((to_host(container, host)?, to_host(container, last)?)));
        match ends {
            Some((first, last)) if last.checked_sub(first) == size.checked_sub(1) => host = first,
            _ => return Err("is not within one line of the container's id map"),
        }
    }
    Ok(IdMap { container: inside, host, size })
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
        if let Some(option) = read.data.first() {
            return refuse(
                at(option.index.unwrap_or(0)),
                format_args!("{:?}: bind mounts cannot have any filesystem-specific options applied", option.key),
            );
        }
        if let Some(option) = read.superblock_at.filter(|_| !read.superblock.is_empty()) {
            warn(
                warnings,
                at(option),
                format_args!("a bind mount has no filesystem of its own; {:?} has no effect", read.superblock),
            );
            read.superblock.clear();
        }
    }
    if (!is_bind || read.remount)
        && let Some(option) = read.copy_symlink_at.or(read.source_nofollow_at)
    {
        return refuse(at(option), "it is an option of bind mounts alone");
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
        if read.propagation.is_empty() || !read.data.is_empty() || !read.superblock.is_empty() {
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
        superblock_flags: std::mem::take(&mut read.superblock),
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
mod tests;
