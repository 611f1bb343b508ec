//! What this version understands, for `features` (features.md of the specification): the tables the parser uses.

use crate::{capability, hooks, mount, namespace, placement, seccomp};

/// The lowest version of the specification that is understood.
pub const OCI_VERSION_MIN: &str = "1.0.0";

/// The highest version of the specification that is understood in full.
pub const OCI_VERSION_MAX: &str = "1.3.0";

/// Kinds of hook, in the order of the lifecycle.
pub fn hooks() -> &'static [&'static str] {
    &hooks::KINDS
}

/// Mount options, sorted; without those that are always refused.
pub fn mount_options() -> Vec<&'static str> {
    let known = mount::OPTIONS.iter().filter(|(_, word)| !matches!(word, mount::Word::Impossible));
    known.map(|(name, _)| *name).collect()
}

/// Kinds of namespace, sorted.
pub fn namespaces() -> Vec<&'static str> {
    namespace::KINDS.iter().map(|(name, _)| *name).collect()
}

/// Capabilities; the position is the number.
pub fn capabilities() -> &'static [&'static str] {
    &capability::NAMES
}

/// Modes of `linux.memoryPolicy`, sorted.
pub fn memory_policy_modes() -> Vec<&'static str> {
    placement::MEMORY_MODES.iter().map(|(name, _)| *name).collect()
}

/// Flags of `linux.memoryPolicy`, sorted.
pub fn memory_policy_flags() -> Vec<&'static str> {
    placement::MEMORY_FLAGS.iter().map(|(name, _)| *name).collect()
}

/// Actions of seccomp, sorted.
pub fn seccomp_actions() -> &'static [&'static str] {
    &seccomp::ACTIONS
}

/// Comparisons of seccomp, sorted.
pub fn seccomp_operators() -> Vec<&'static str> {
    seccomp::OPERATORS.iter().map(|(name, _)| *name).collect()
}

/// Architectures of seccomp, sorted.
pub fn seccomp_architectures() -> &'static [&'static str] {
    &seccomp::ARCHITECTURES
}

/// Flags of seccomp, sorted.
pub fn seccomp_flags() -> &'static [&'static str] {
    &seccomp::FLAGS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_as_runc_prints_them() {
        let lists = [
            mount_options(),
            namespaces(),
            memory_policy_modes(),
            memory_policy_flags(),
            seccomp_operators(),
            seccomp_actions().to_vec(),
            seccomp_architectures().to_vec(),
            seccomp_flags().to_vec(),
        ];
        for list in lists {
            assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "{list:?}");
        }
    }

    #[test]
    fn containerd_finds_what_it_looks_for() {
        assert!(mount_options().contains(&"rro"));
        assert!(namespaces().contains(&"user"));
        assert!(!mount_options().contains(&"rsync"));
    }
}
