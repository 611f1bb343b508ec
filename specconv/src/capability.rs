//! Capabilities by name (capabilities(7), include/uapi/linux/capability.h).

use crate::field::warn;
use crate::{Capabilities, Warning, spec};

/// Names by number.
pub(crate) const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The number of a capability, by its full name (`CAP_CHOWN` is 0).
pub fn capability(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).and_then(|number| u8::try_from(number).ok())
}

/// The name of a capability (0 is `CAP_CHOWN`).
pub fn capability_name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number)).copied()
}

/// `process.capabilities`. No object means none at all: the container must not inherit what the caller happened to have.
pub(crate) fn capabilities(sets: Option<spec::Capabilities>, warnings: &mut Vec<Warning>) -> Capabilities {
    let Some(sets) = sets else { return Capabilities::default() };
    let mut capabilities = Capabilities {
        bounding: set("bounding", sets.bounding, warnings),
        effective: set("effective", sets.effective, warnings),
        inheritable: set("inheritable", sets.inheritable, warnings),
        permitted: set("permitted", sets.permitted, warnings),
        ambient: set("ambient", sets.ambient, warnings),
    };
    // capset(2) and prctl(2) would refuse these; what cannot be granted MUST be a warning and SHOULD NOT be a failure
    // (config.md#linux-process), and runc's own example asked for it for years.
    let Capabilities { permitted, inheritable, .. } = capabilities;
    grant("effective", &mut capabilities.effective, permitted, "permitted", warnings);
    grant("ambient", &mut capabilities.ambient, permitted & inheritable, "permitted and inheritable", warnings);
    capabilities
}

fn grant(which: &str, set: &mut u64, allowed: u64, condition: &str, warnings: &mut Vec<Warning>) {
    let beyond = *set & !allowed;
    if beyond != 0 {
        warn(
            warnings,
            format_args!("process.capabilities.{which}"),
            format_args!("{} left out: it must be {condition} as well", names(beyond)),
        );
        *set &= allowed;
    }
}

/// An unknown name is warned about and left out (config.md#linux-process).
fn set(which: &str, list: Option<Vec<String>>, warnings: &mut Vec<Warning>) -> u64 {
    let mut bits = 0;
    for (index, name) in list.iter().flatten().enumerate() {
        match capability(name) {
            Some(number) => bits |= 1 << number,
            None => warn(
                warnings,
                format_args!("process.capabilities.{which}[{index}]"),
                format_args!("{name:?} is not a capability that this version knows; it is left out"),
            ),
        }
    }
    bits
}

fn names(bits: u64) -> String {
    let names: Vec<&str> = (0..64).filter(|n| bits & (1 << n) != 0).filter_map(capability_name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_SETFCAP", 31), ("CAP_BPF", 39)] {
            assert_eq!(capability(name), Some(number));
            assert_eq!(capability_name(number), Some(name));
        }
        assert_eq!(capability("CHOWN"), None);
        assert_eq!(capability("cap_chown"), None);
        assert_eq!(capability_name(41), None);
    }
}
