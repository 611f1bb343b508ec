//! The `config.json` that `spec` writes: runc's, to the letter, but for two masks that engines have had since: `/proc/interrupts`,
//! and `/sys/devices/virtual/powercap` (GHSA-jq35-85cj-fj4p).

/// Where the example is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExampleFor {
    /// User and group id of a caller without privileges, to whom root of the container is mapped; `None` is root's.
    pub rootless: Option<(u32, u32)>,
    /// Whether the host has cgroup v2, where a container gets a cgroup namespace.
    pub cgroup_v2: bool,
}

const ROOTFUL: &str = include_str!("example.json");
const ROOTLESS: &str = include_str!("example-rootless.json");

/// The text of an example `config.json`: indented with tabs, without a newline at its end.
pub fn example(host: ExampleFor) -> String {
    let mut text = match host.rootless {
        None => ROOTFUL.to_string(),
        Some((uid, gid)) => ROOTLESS.replacen("\"hostID\": 0", &format!("\"hostID\": {uid}"), 1).replacen(
            "\"gidMappings\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": 0",
            &format!("\"gidMappings\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {gid}"),
            1,
        ),
    };
    if host.cgroup_v2 {
        // After mount, and in the rootless example before user: runc's order.
        let mount = "\t\t\t{\n\t\t\t\t\"type\": \"mount\"\n\t\t\t}";
        text = text.replacen(mount, &format!("{mount},\n{}", mount.replace("mount", "cgroup")), 1);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{IdMap, NamespaceKind, convert};

    #[test]
    fn each_example_is_accepted_without_a_warning() {
        for rootless in [None, Some((1000, 1001))] {
            for cgroup_v2 in [false, true] {
                let text = example(ExampleFor { rootless, cgroup_v2 });
                assert!(text.starts_with("{\n\t\"ociVersion\"") && text.ends_with("\n}"));
                let converted = convert(text.as_bytes()).unwrap();
                assert_eq!(converted.warnings, []);
                let config = converted.config;
                assert_eq!(config.namespaces.has(NamespaceKind::Cgroup), cgroup_v2);
                assert_eq!(config.namespaces.has(NamespaceKind::Network), rootless.is_none());
                if let Some((uid, gid)) = rootless {
                    assert_eq!(config.uid_mappings, [IdMap { container: 0, host: uid, size: 1 }]);
                    assert_eq!(config.gid_mappings, [IdMap { container: 0, host: gid, size: 1 }]);
                }
            }
        }
    }
}
