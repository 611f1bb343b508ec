//! `config.json` as written: oci-spec's types, and the lenient layer where they are not the specification.
//!
//! oci-spec carries what is a plain object of numbers and strings. Its other types are not used, because
//!
//! - its enums (capabilities, namespaces, architectures, device types, ...) refuse a name that the specification wants
//!   warned about, and refuse the others without our sentence;
//! - it loses order and presence: capabilities become sets; `sysctl`, `unified`, `rdma` and `netDevices` become hash
//!   maps; an absent `pids.limit`, `devices[].major` or rlimit becomes 0;
//! - its `Process` runs a regular expression over `execCPUAffinity`, and the regex engine would be most of our binary;
//! - its hugepage limit is signed, while the specification's reaches 2^64-1, and its `intelRdt` misspells two names.
//!
//! Every field that Go's encoder may write as `null` is an `Option`. Unknown properties are ignored (config.md#extensibility).

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use oci_spec::runtime as oci;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::Invalid;
use crate::field::{invalid, refuse};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub oci_version: Option<String>,
    pub root: Option<oci::Root>,
    pub process: Option<Process>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub mounts: Option<Vec<oci::Mount>>,
    pub hooks: Option<oci::Hooks>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub terminal: Option<bool>,
    pub console_size: Option<ConsoleSize>,
    pub user: Option<oci::User>,
    pub args: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    pub cwd: Option<String>,
    pub capabilities: Option<Capabilities>,
    pub rlimits: Option<Vec<Rlimit>>,
    pub no_new_privileges: Option<bool>,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

#[derive(Deserialize)]
pub(crate) struct ConsoleSize {
    pub height: Option<u64>,
    pub width: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct Capabilities {
    pub bounding: Option<Vec<String>>,
    pub effective: Option<Vec<String>>,
    pub inheritable: Option<Vec<String>>,
    pub permitted: Option<Vec<String>>,
    pub ambient: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    pub typ: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Deserialize)]
pub(crate) struct Scheduler {
    pub policy: String,
    pub nice: Option<i32>,
    pub priority: Option<i32>,
    pub flags: Option<Vec<String>>,
    pub runtime: Option<u64>,
    pub deadline: Option<u64>,
    pub period: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct IoPriority {
    pub class: String,
    pub priority: Option<i64>,
}

#[derive(Deserialize)]
pub(crate) struct ExecCpuAffinity {
    pub initial: Option<String>,
    #[serde(rename = "final")]
    pub last: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Linux {
    pub namespaces: Option<Vec<Namespace>>,
    pub uid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    pub gid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    pub time_offsets: Option<Pairs<oci::LinuxTimeOffset>>,
    pub devices: Option<Vec<Device>>,
    pub net_devices: Option<Pairs<oci::LinuxNetDevice>>,
    pub cgroups_path: Option<String>,
    pub resources: Option<Resources>,
    pub intel_rdt: Option<IntelRdt>,
    pub memory_policy: Option<MemoryPolicy>,
    pub seccomp: Option<Seccomp>,
    pub sysctl: Option<Pairs<String>>,
    pub rootfs_propagation: Option<String>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub mount_label: Option<String>,
    pub personality: Option<Personality>,
}

#[derive(Deserialize)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub typ: String,
    pub path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub path: String,
    #[serde(rename = "type")]
    pub typ: String,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    pub schemata: Option<Vec<String>>,
    #[serde(rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<String>,
    pub mem_bw_schema: Option<String>,
    pub enable_monitoring: Option<bool>,
    #[serde(rename = "enableCMT")]
    pub enable_cmt: Option<bool>,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: Option<bool>,
}

#[derive(Deserialize)]
pub(crate) struct MemoryPolicy {
    pub mode: String,
    pub nodes: Option<String>,
    pub flags: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(crate) struct Personality {
    pub domain: String,
    pub flags: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resources {
    pub devices: Option<Vec<DeviceRule>>,
    pub memory: Option<oci::LinuxMemory>,
    pub cpu: Option<oci::LinuxCpu>,
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: Option<oci::LinuxBlockIo>,
    pub hugepage_limits: Option<Vec<HugepageLimit>>,
    pub network: Option<oci::LinuxNetwork>,
    pub rdma: Option<Pairs<oci::LinuxRdma>>,
    pub unified: Option<Pairs<String>>,
}

#[derive(Deserialize)]
pub(crate) struct DeviceRule {
    pub allow: Option<bool>,
    #[serde(rename = "type")]
    pub typ: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub access: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Pids {
    pub limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HugepageLimit {
    pub page_size: String,
    pub limit: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seccomp {
    pub default_action: Option<String>,
    pub default_errno_ret: Option<u64>,
    pub architectures: Option<Vec<String>>,
    pub flags: Option<Vec<String>>,
    pub listener_path: Option<String>,
    pub listener_metadata: Option<String>,
    pub syscalls: Option<Vec<SeccompRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeccompRule {
    pub names: Vec<String>,
    pub action: String,
    pub errno_ret: Option<u64>,
    pub args: Option<Vec<SeccompArg>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeccompArg {
    pub index: u64,
    pub value: u64,
    pub value_two: Option<u64>,
    pub op: String,
}

/// A JSON object whose order matters.
pub(crate) struct Pairs<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0).min(1024));
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// Reads a document; `prefix` is what its root is called in a refusal.
///
/// Only a document that is refused pays for finding out where: it is read a second time, with the place noted.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], prefix: &str) -> Result<T, Invalid> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return refuse(prefix, "the document is not UTF-8");
    };
    // serde would read an array as the fields in their order.
    if text.trim_start().starts_with('[') {
        return refuse(prefix, "it is an array, not an object");
    }
    let read = match serde_json::from_str(text) {
        Ok(read) => read,
        Err(plain) => {
            return Err(located::<T>(text, prefix)
                .unwrap_or_else(|| invalid(prefix, format_args!("this is not JSON: {plain}"))));
        }
    };
    // A NUL would end a string early for the kernel and not for us (security.md, class E). It can only be there
    // in this spelling, since JSON forbids the byte itself; a fast search spares the walk.
    if text.contains("\\u0000") {
        refuse_nul(text, prefix)?;
    }
    Ok(read)
}

fn located<T: DeserializeOwned>(text: &str, prefix: &str) -> Option<Invalid> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let error = serde_path_to_error::deserialize::<_, T>(&mut deserializer).err()?;
    let path = error.path().to_string();
    if !error.inner().is_data() {
        return Some(invalid(prefix, format_args!("this is not JSON: {}", error.inner())));
    }
    Some(invalid(join(prefix, if path == "." { "" } else { &path }), error.inner()))
}

fn join(prefix: &str, path: &str) -> String {
    match (prefix, path) {
        ("", path) => path.to_string(),
        (prefix, "") => prefix.to_string(),
        (prefix, path) => format!("{prefix}.{path}"),
    }
}

/// What is interpreted; the rest of a document, annotations among it, may hold what it likes.
#[derive(Deserialize)]
struct Interpreted {
    root: Option<Value>,
    process: Option<Value>,
    hostname: Option<Value>,
    domainname: Option<Value>,
    mounts: Option<Value>,
    hooks: Option<Value>,
    linux: Option<Value>,
}

/// What cannot be searched (serde_json stops at 128 levels) is refused: nothing may hide there.
fn refuse_nul(text: &str, prefix: &str) -> Result<(), Invalid> {
    let unsearched =
        |why: serde_json::Error| invalid(prefix, format_args!("it cannot be searched for NUL bytes: {why}"));
    if !prefix.is_empty() {
        return refuse_nul_in(&serde_json::from_str(text).map_err(unsearched)?, prefix.to_string());
    }
    let document: Interpreted = serde_json::from_str(text).map_err(unsearched)?;
    let parts = [
        ("root", document.root),
        ("process", document.process),
        ("hostname", document.hostname),
        ("domainname", document.domainname),
        ("mounts", document.mounts),
        ("hooks", document.hooks),
        ("linux", document.linux),
    ];
    parts.into_iter().try_for_each(|(name, part)| part.map_or(Ok(()), |part| refuse_nul_in(&part, name.to_string())))
}

fn refuse_nul_in(value: &Value, path: String) -> Result<(), Invalid> {
    match value {
        Value::String(text) if text.contains('\0') => refuse(path, "the text holds a NUL byte"),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, item)| refuse_nul_in(item, format!("{path}[{i}]")))
        }
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            if key.contains('\0') {
                return refuse(&path, format_args!("the key {key:?} holds a NUL byte"));
            }
            refuse_nul_in(value, format!("{path}.{key}"))
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn what_is_ignored_may_be_as_deep_as_it_likes() {
        let text = format!(r#"{{"ociVersion": "1.3.0", "x": {}}}"#, nested(100_000));
        assert!(read::<Spec>(text.as_bytes(), "").is_ok());
        let text = format!(r#"{{"ociVersion": {}}}"#, nested(100_000));
        assert!(read::<Spec>(text.as_bytes(), "").is_err());
    }

    #[test]
    fn a_nul_cannot_hide() {
        let at = |text: &str| read::<Spec>(text.as_bytes(), "").err().map(|invalid| invalid.field);
        assert_eq!(at(r#"{"hostname": "a\u0000"}"#).as_deref(), Some("hostname"));
        assert_eq!(
            at(r#"{"mounts": [{"destination": "/a", "options": ["", "a\u0000"]}]}"#).as_deref(),
            Some("mounts[0].options[1]")
        );
        // Escaped, it is six letters; and no one reads what is unknown.
        assert_eq!(at(r#"{"hostname": "a\\u0000"}"#), None);
        assert_eq!(at(r#"{"x": "a\u0000", "annotations": {"a": "\u0000"}}"#), None);
        // Not behind what the search cannot enter.
        let deep = nested(200);
        assert_eq!(at(&format!(r#"{{"x": {deep}, "hostname": "a\u0000"}}"#)).as_deref(), Some("hostname"));
        assert_eq!(at(&format!(r#"{{"linux": {{"x": {deep}, "cgroupsPath": "a\u0000"}}}}"#)).as_deref(), Some(""));
    }
}
