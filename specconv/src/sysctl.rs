//! Kernel parameters (config-linux.md#sysctl): one canonical form, and only what a namespace keeps from the host.
//!
//! Validator and writer must mean the same file, so the key is turned into a path once, here (security.md T24).

use crate::field::refuse;
use crate::spec::Pairs;
use crate::{Invalid, NamespaceKind, Namespaces, Sysctl};

/// System V IPC, namespaced one by one.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// `linux.sysctl`, in the config's order.
pub(crate) fn sysctls(pairs: Pairs<String>, namespaces: &Namespaces) -> Result<Vec<Sysctl>, Invalid> {
    let mut sysctls: Vec<Sysctl> = Vec::with_capacity(pairs.0.len());
    for (key, value) in pairs.0 {
        let sysctl = match one(&key, namespaces) {
            Ok((path, namespace)) => Sysctl { key, path, value, namespace },
            Err(why) => return refuse(format_args!("linux.sysctl[{key:?}]"), why),
        };
        if let Some(earlier) = sysctls.iter().find(|earlier| earlier.path == sysctl.path) {
            return refuse(
                format_args!("linux.sysctl[{:?}]", sysctl.key),
                format_args!("it is the same parameter as {:?}", earlier.key),
            );
        }
        sysctls.push(sysctl);
    }
    Ok(sysctls)
}

fn one(key: &str, namespaces: &Namespaces) -> Result<(String, NamespaceKind), String> {
    let path = canonical(key)?;
    let namespace = namespace(&path)?;
    if !namespaces.has(namespace) {
        return Err(format!(
            "the container has no {} namespace of its own; this would change the host",
            namespace.name()
        ));
    }
    Ok((path, namespace))
}

/// The path below /proc/sys, with the rule of sysctl.d(5): the separator that comes first separates, and the other one
/// stands for itself exchanged (`net.ipv4.conf.eno2/100.forwarding`, `net/ipv4/conf/eno2.100/forwarding`).
fn canonical(key: &str) -> Result<String, String> {
    let dotted = key.find(['.', '/']).is_some_and(|at| key.as_bytes().get(at) == Some(&b'.'));
    let exchanged = |c: char| match c {
        '.' if dotted => '/',
        '/' if dotted => '.',
        c => c,
    };
    let path: String = key.chars().map(exchanged).collect();
    let sound = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(|c: char| c.is_control() || c == ' ')
    };
    if path.split('/').count() < 2 || !path.split('/').all(sound) {
        return Err("it is not the name of a kernel parameter".to_string());
    }
    Ok(path)
}

/// The namespace that keeps a parameter from being the host's.
fn namespace(path: &str) -> Result<NamespaceKind, String> {
    let (first, _) = path.split_once('/').unwrap_or((path, ""));
    match path {
        _ if first == "net" => Ok(NamespaceKind::Network),
        _ if first == "user" => Ok(NamespaceKind::User),
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Ok(NamespaceKind::Ipc),
        "kernel/domainname" => Ok(NamespaceKind::Uts),
        "kernel/hostname" => Err("it is not allowed as it conflicts with the OCI \"hostname\" field".to_string()),
        _ => Err("it is not in a separate kernel namespace".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t24_one_canonical_form() {
        let same = "net/ipv4/conf/eno2.100/forwarding";
        for key in [same, "net.ipv4.conf.eno2/100.forwarding"] {
            assert_eq!(canonical(key).as_deref(), Ok(same), "{key}");
        }
        assert_eq!(canonical("net.ipv4.ip_forward").as_deref(), Ok("net/ipv4/ip_forward"));
        assert_eq!(canonical("net/ipv4/ip_forward").as_deref(), Ok("net/ipv4/ip_forward"));
        for key in [
            "",
            "net",
            ".",
            "/",
            "..",
            "../x",
            "kernel..x",
            "net.",
            "net/",
            "/net/x",
            ".net.x",
            "net/../kernel/core_pattern",
            "net.ipv4.../../..",
            "net.//.kernel.core_pattern",
            "net/./x",
            "net.ipv4.a b",
            "net.ipv4.a\nb",
        ] {
            assert!(canonical(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn only_namespaced_parameters_pass() {
        assert_eq!(namespace("net/core/somaxconn"), Ok(NamespaceKind::Network));
        assert_eq!(namespace("fs/mqueue/msg_max"), Ok(NamespaceKind::Ipc));
        assert_eq!(namespace("kernel/shmmax"), Ok(NamespaceKind::Ipc));
        assert_eq!(namespace("kernel/domainname"), Ok(NamespaceKind::Uts));
        assert_eq!(namespace("user/max_user_namespaces"), Ok(NamespaceKind::User));
        for path in ["kernel/hostname", "kernel/core_pattern", "vm/overcommit_memory", "network/x", "fs/mqueuex/y"] {
            assert!(namespace(path).is_err(), "{path}");
        }
    }
}
