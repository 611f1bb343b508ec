//! Namespaces, the id maps of a user namespace, the offsets of a time namespace.

use std::fmt;

use oci_spec::runtime as oci;

use crate::field::{absolute, id, refuse, said};
use crate::spec::{self, Pairs};
use crate::{IdMap, Invalid, Namespace, NamespaceKind, Namespaces, TimeOffset};

/// Names of the kinds, sorted.
pub(crate) const KINDS: [(&str, NamespaceKind); 8] = [
    ("cgroup", NamespaceKind::Cgroup),
    ("ipc", NamespaceKind::Ipc),
    ("mount", NamespaceKind::Mount),
    ("network", NamespaceKind::Network),
    ("pid", NamespaceKind::Pid),
    ("time", NamespaceKind::Time),
    ("user", NamespaceKind::User),
    ("uts", NamespaceKind::Uts),
];

impl NamespaceKind {
    /// The name in `linux.namespaces[].type`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// `linux.namespaces` (config-linux.md#namespaces): a type MUST NOT be named twice, a path MUST be absolute.
pub(crate) fn namespaces(list: Vec<spec::Namespace>) -> Result<Namespaces, Invalid> {
    let mut namespaces = Namespaces(Vec::with_capacity(list.len()));
    for (index, namespace) in list.into_iter().enumerate() {
        let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == namespace.typ) else {
            return refuse(
                format_args!("linux.namespaces[{index}].type"),
                format_args!("{:?} is not a kind of namespace", namespace.typ),
            );
        };
        if let Some(first) = namespaces.get(*kind) {
            return refuse(
                format_args!("linux.namespaces[{index}].type"),
                format_args!("{:?} is already asked for by linux.namespaces[{}]", namespace.typ, first.index),
            );
        }
        let path = said(namespace.path);
        if let Some(path) = &path {
            absolute(format_args!("linux.namespaces[{index}].path"), path)?;
        }
        namespaces.0.push(Namespace { index, kind: *kind, path: path.map(Into::into) });
    }
    Ok(namespaces)
}

/// The kernel takes no more lines than this (user_namespaces(7), Linux 4.15).
const MAP_LINES: usize = 340;

/// One id map, checked as the kernel will check it: no empty line, no overflow, no overlap on either side.
pub(crate) fn id_maps(field: fmt::Arguments<'_>, list: &[oci::LinuxIdMapping]) -> Result<Vec<IdMap>, Invalid> {
    let maps =
        list.iter().map(|map| IdMap { container: map.container_id(), host: map.host_id(), size: map.size() }).collect();
    checked_id_maps(field, maps)
}

/// See [`id_maps`].
pub(crate) fn checked_id_maps(field: fmt::Arguments<'_>, maps: Vec<IdMap>) -> Result<Vec<IdMap>, Invalid> {
    if maps.len() > MAP_LINES {
        return refuse(field, format_args!("{} lines; the kernel takes {MAP_LINES}", maps.len()));
    }
    for (index, map) in maps.iter().enumerate() {
        if map.size == 0 {
            return refuse(format_args!("{field}[{index}].size"), "0 ids are no map");
        }
        for (side, first) in [("containerID", map.container), ("hostID", map.host)] {
            if first.checked_add(map.size).is_none() {
                return refuse(
                    format_args!("{field}[{index}].{side}"),
                    format_args!("{first} and {} ids from there reach beyond 4294967294", map.size),
                );
            }
        }
    }
    overlap(field, "containerID", maps.iter().map(|map| (map.container, map.size)).collect())?;
    overlap(field, "hostID", maps.iter().map(|map| (map.host, map.size)).collect())?;
    Ok(maps)
}

fn overlap(field: fmt::Arguments<'_>, side: &str, mut ranges: Vec<(u32, u32)>) -> Result<(), Invalid> {
    ranges.sort_unstable();
    for (one, next) in ranges.iter().zip(ranges.iter().skip(1)) {
        if one.0 + one.1 > next.0 {
            return refuse(field, format_args!("{side} {} is mapped twice", next.0));
        }
    }
    Ok(())
}

/// The host's id for the container's `id`; `None` where the maps have none.
pub fn to_host(maps: &[IdMap], id: u32) -> Option<u32> {
    let map = maps.iter().find(|map| id >= map.container && id - map.container < map.size)?;
    Some(map.host + (id - map.container))
}

/// An id that a container's user namespace has, or any if it has no map of its own.
pub(crate) fn mapped(field: fmt::Arguments<'_>, maps: &[IdMap], wanted: u32, what: &str) -> Result<(), Invalid> {
    id(field, wanted)?;
    if maps.is_empty() || to_host(maps, wanted).is_some() {
        return Ok(());
    }
    refuse(field, format_args!("{wanted} has no mapping in linux.{what}"))
}

/// `linux.timeOffsets` (config-linux.md#time-offsets).
pub(crate) fn time_offsets(pairs: Pairs<oci::LinuxTimeOffset>) -> Result<Vec<TimeOffset>, Invalid> {
    let mut offsets: Vec<TimeOffset> = Vec::with_capacity(pairs.0.len());
    for (name, offset) in pairs.0 {
        let Some(clock) = ["monotonic", "boottime"].into_iter().find(|clock| *clock == name) else {
            return refuse("linux.timeOffsets", format_args!("{name:?} is not \"monotonic\" or \"boottime\""));
        };
        if offsets.iter().any(|earlier| earlier.clock == clock) {
            return refuse("linux.timeOffsets", format_args!("{name:?} stands there twice"));
        }
        let nanosecs = offset.nanosecs().unwrap_or(0);
        if nanosecs > 999_999_999 {
            return refuse(
                format_args!("linux.timeOffsets.{name}.nanosecs"),
                format_args!("{nanosecs} is a second or more"),
            );
        }
        offsets.push(TimeOffset { clock, secs: offset.secs().unwrap_or(0), nanosecs });
    }
    Ok(offsets)
}
