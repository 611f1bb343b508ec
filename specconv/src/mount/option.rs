//! The options of a mount: the table of the words that are known, and what a list of them adds up to.
//!
//! The table [`OPTIONS`] is what `features` lists, too.

use crate::field::refuse;
use crate::namespace::{checked_id_maps, to_host};
use crate::{Attributes, FsOption, IdMap, Invalid, Propagation, PropagationKind};

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
    /// Switches a flag of the superblock on (the word is its name) or off.
    Superblock { flag: &'static str, word: &'static str },
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
const fn superblock(flag: &'static str, word: &'static str) -> Word {
    Word::Superblock { flag, word }
}
const fn propagation(kind: PropagationKind, recursive: bool) -> Word {
    Word::Propagation(Propagation { kind, recursive })
}

/// Every option of runc and of crun that is not data of a filesystem; sorted.
///
/// `acl` and `noacl` are missing on purpose: they belong to the filesystem (runc issue 3738).
pub(crate) const OPTIONS: &[(&str, Word)] = &[
    ("async", superblock("sync", "async")),
    ("atime", atime(Atime::Never, false)),
    ("bind", Word::Bind { recursive: false }),
    ("copy-symlink", Word::CopySymlink),
    ("defaults", Word::Nothing),
    ("dest-nofollow", Word::TargetNofollow),
    ("dev", attribute(MOUNT_ATTR_NODEV, false)),
    ("diratime", attribute(MOUNT_ATTR_NODIRATIME, false)),
    ("dirsync", superblock("dirsync", "dirsync")),
    ("exec", attribute(MOUNT_ATTR_NOEXEC, false)),
    ("idmap", Word::IdMap { recursive: false }),
    ("iversion", superblock("iversion", "iversion")),
    ("lazytime", superblock("lazytime", "lazytime")),
    ("loud", superblock("silent", "loud")),
    ("mand", superblock("mand", "mand")),
    ("noatime", atime(Atime::Never, true)),
    ("nodev", attribute(MOUNT_ATTR_NODEV, true)),
    ("nodiratime", attribute(MOUNT_ATTR_NODIRATIME, true)),
    ("noexec", attribute(MOUNT_ATTR_NOEXEC, true)),
    ("noiversion", superblock("iversion", "noiversion")),
    ("nolazytime", superblock("lazytime", "nolazytime")),
    ("nomand", superblock("mand", "nomand")),
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
    ("silent", superblock("silent", "silent")),
    ("slave", propagation(PropagationKind::Slave, false)),
    ("src-nofollow", Word::SourceNofollow),
    ("strictatime", atime(Atime::Strict, true)),
    ("suid", attribute(MOUNT_ATTR_NOSUID, false)),
    ("symfollow", attribute(MOUNT_ATTR_NOSYMFOLLOW, false)),
    ("sync", superblock("sync", "sync")),
    ("tmpcopyup", Word::CopyUp),
    ("unbindable", propagation(PropagationKind::Unbindable, false)),
];

pub(super) fn word(name: &str) -> Option<Word> {
    let found = OPTIONS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    OPTIONS.get(found).map(|(_, word)| *word)
}

/// Attributes while they are being collected; the access time is three wishes until the end.
#[derive(Default)]
pub(super) struct Collected {
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

    pub(super) fn finish(self) -> Attributes {
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
pub(super) struct Options {
    pub own: Collected,
    pub recursive: Collected,
    pub propagation: Vec<Propagation>,
    /// Flags of the superblock, each with the word that was said of it and the place of that.
    superblock: Vec<(&'static str, &'static str, usize)>,
    pub data: Vec<FsOption>,
    pub bind: Option<bool>,
    pub remount: bool,
    pub copy_up_at: Option<usize>,
    pub id_map: Option<(bool, Option<Ranges>)>,
    pub copy_symlink_at: Option<usize>,
    pub source_nofollow_at: Option<usize>,
    pub target_nofollow: bool,
}

impl Options {
    /// Flags of the superblock that are on, and where the first of them stands.
    pub fn superblock(&self) -> (Vec<&'static str>, Option<usize>) {
        let on = || self.superblock.iter().filter(|(flag, word, _)| flag == word);
        (on().map(|(flag, _, _)| *flag).collect(), on().map(|(_, _, at)| *at).next())
    }

    /// As [`Options::superblock`], and the words that switch one off: a new superblock has none of them on.
    pub fn superblock_changes(&self) -> Vec<&'static str> {
        self.superblock.iter().map(|(_, word, _)| *word).collect()
    }
}

/// User ids and group ids of a mount.
pub(super) type Ranges = (Vec<IdMap>, Vec<IdMap>);

/// Reads them in order; the later of two opposites wins.
pub(super) fn read_options(
    mount: usize,
    options: &[String],
    container: (&[IdMap], &[IdMap]),
) -> Result<Options, Invalid> {
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
            Word::Superblock { flag, word } => {
                read.superblock.retain(|(earlier, _, _)| *earlier != flag);
                read.superblock.push((flag, word, index));
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
                    format_args!("{text:?}: it is a flag of a filesystem, which no call sets for the mounts below"),
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
        // mount(2) has SELinux take these quotes off; fsconfig(2) does not.
        let value = match key {
            "context" | "fscontext" | "defcontext" | "rootcontext" => value.map(|value| value.trim_matches('"')),
            _ => value,
        };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn attributes(options: &[&str]) -> (Attributes, Attributes) {
        let options: Vec<String> = options.iter().map(|text| text.to_string()).collect();
        let read = read_options(0, &options, (&[], &[])).unwrap();
        (read.own.finish(), read.recursive.finish())
    }

    fn own(options: &[&str]) -> (u64, u64) {
        let (own, _) = attributes(options);
        (own.set, own.clear)
    }

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_later_of_two_opposites_wins() {
        assert_eq!(own(&["ro"]), (MOUNT_ATTR_RDONLY, 0));
        assert_eq!(own(&["ro", "rw"]), (0, MOUNT_ATTR_RDONLY));
        assert_eq!(own(&["rw", "ro"]), (MOUNT_ATTR_RDONLY, 0));
        assert_eq!(
            own(&["nosuid", "nodev", "noexec", "suid"]),
            (MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID)
        );
    }

    #[test]
    fn access_time_is_one_field() {
        let all = MOUNT_ATTR__ATIME;
        assert_eq!(own(&["noatime"]), (MOUNT_ATTR_NOATIME, all));
        assert_eq!(own(&["relatime"]), (0, all));
        assert_eq!(own(&["strictatime"]), (MOUNT_ATTR_STRICTATIME, all));
        assert_eq!(own(&["atime"]), (0, all));
        // As mount(2) with the same flags: strict before never before relative, whatever the order.
        assert_eq!(own(&["noatime", "relatime"]), (MOUNT_ATTR_NOATIME, all));
        assert_eq!(own(&["strictatime", "noatime"]), (MOUNT_ATTR_STRICTATIME, all));
        assert_eq!(own(&["noatime", "atime"]), (0, all));
        // To wish no longer is not to wish the contrary.
        assert_eq!(own(&["norelatime"]), (0, 0));
        assert_eq!(own(&["nostrictatime"]), (0, 0));
        assert_eq!(own(&["relatime", "norelatime"]), (0, 0));
        assert_eq!(own(&["nodiratime"]), (MOUNT_ATTR_NODIRATIME, 0));
    }

    #[test]
    fn attributes_for_the_tree_stand_apart() {
        let (own, tree) = attributes(&["rro", "nosuid", "rnosymfollow", "rnoatime", "rdev"]);
        assert_eq!((own.set, own.clear), (MOUNT_ATTR_NOSUID, 0));
        assert_eq!(tree.set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR_NOATIME);
        assert_eq!(tree.clear, MOUNT_ATTR__ATIME | MOUNT_ATTR_NODEV);
    }

    #[test]
    fn data_is_split_where_the_kernel_would_split_it() {
        let mut found = Vec::new();
        data(0, 7, r#"size=1m,mode=755,,context="a:b,c",lowerdir=/a\,b,nr"#, &mut found).unwrap();
        let found: Vec<_> = found.iter().map(|option| (option.key.as_str(), option.value.as_deref())).collect();
        let expected = [
            ("size", Some("1m")),
            ("mode", Some("755")),
            ("context", Some("a:b,c")),
            ("lowerdir", Some("/a\\,b")),
            ("nr", None),
        ];
        assert_eq!(found, expected);
        assert!(data(0, 0, "=x", &mut Vec::new()).is_err());
    }

    #[test]
    fn a_relative_range_is_looked_up_in_one_line() {
        let maps = [IdMap { container: 0, host: 100_000, size: 10 }, IdMap { container: 10, host: 5000, size: 10 }];
        assert_eq!(id_range("@0-5-3", &maps), Ok(IdMap { container: 0, host: 100_005, size: 3 }));
        assert_eq!(id_range("0-5-3", &maps), Ok(IdMap { container: 0, host: 5, size: 3 }));
        assert!(id_range("@0-9-2", &maps).is_err());
        assert!(id_range("@0-20-1", &maps).is_err());
        for bad in ["", "0-1", "0-1-2-3", "0-+1-2", "0-1-", "a-b-c", "0-1-4294967296"] {
            assert!(id_range(bad, &maps).is_err(), "{bad}");
        }
    }
}
