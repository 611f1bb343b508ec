//! What `features` prints (features.md of the specification): the tables the parser uses, and what this version does.
//!
//! Nothing is claimed that a container would not get: containerd and dockerd decide by this document. `linux` is
//! never absent (containerd reads on without a look), and `mountExtensions.idmap` is what allows user namespaces.

use std::collections::BTreeMap;

use serde::Serialize;
use specconv::features as known;

/// The document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: &'static [&'static str],
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: Vec<&'static str>,
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Debug, Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// Annotations that engines must not let a user set: a dot at the end means every name that begins so.
const UNSAFE: &[&str] = &["bundle", "org.systemd.property.", "org.criu.config", "run.oci."];

/// The document, indented by four spaces as runc's is.
///
/// # Errors
/// None in practice: it is all text and truth values.
pub(super) fn document() -> anyhow::Result<String> {
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    features().serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn features() -> Features {
    let on = || Enabled { enabled: true };
    Features {
        oci_version_min: known::OCI_VERSION_MIN,
        oci_version_max: known::OCI_VERSION_MAX,
        hooks: known::hooks(),
        mount_options: known::mount_options(),
        linux: Linux {
            namespaces: known::namespaces(),
            capabilities: known::capabilities(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: seccomp(),
            apparmor: on(),
            selinux: on(),
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy { modes: known::memory_policy_modes(), flags: known::memory_policy_flags() },
            mount_extensions: MountExtensions { idmap: on() },
            net_devices: on(),
        },
        annotations: BTreeMap::from([
            ("io.github.orlop.version", env!("CARGO_PKG_VERSION")),
            ("io.github.orlop.commit", super::report::COMMIT),
        ]),
        potentially_unsafe_config_annotations: UNSAFE,
    }
}

fn seccomp() -> Seccomp {
    let known_flags = known::seccomp_flags();
    Seccomp {
        enabled: crate::seccomp::Abi::native().is_ok(),
        actions: known::seccomp_actions(),
        operators: known::seccomp_operators(),
        archs: known::seccomp_architectures(),
        known_flags,
        supported_flags: known_flags.iter().copied().filter(|flag| crate::seccomp::supports(flag)).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn engines_find_what_they_look_for() {
        let text = document().unwrap();
        assert!(
            text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n    \"hooks\"")
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let has = |pointer: &str, word: &str| {
            value.pointer(pointer).unwrap().as_array().unwrap().iter().any(|item| item == word)
        };
        assert!(has("/mountOptions", "rro"), "containerd: RecursiveReadOnlyMounts");
        assert!(has("/linux/namespaces", "user"), "containerd: UserNamespaces");
        assert_eq!(value.pointer("/linux/mountExtensions/idmap/enabled").unwrap(), true);
        assert_eq!(value.pointer("/linux/seccomp/enabled").unwrap(), true);
        assert!(has("/linux/seccomp/supportedFlags", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"));
        assert_eq!(value.pointer("/linux/cgroup/systemdUser").unwrap(), true);
        assert!(has("/potentiallyUnsafeConfigAnnotations", "org.systemd.property."));
        assert_eq!(value["hooks"].as_array().unwrap().len(), 6);
    }
}
