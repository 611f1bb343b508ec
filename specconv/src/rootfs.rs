//! The root filesystem and the paths in it that are hidden or protected (config.md#root, config-linux.md).

use std::path::PathBuf;

use oci_spec::runtime as oci;

use crate::field::{absolute, refuse, said};
use crate::mount::propagation_named;
use crate::{Invalid, MountLabel, Propagation, Root};

/// `root`, which a Linux container must have.
pub(crate) fn root(root: Option<oci::Root>) -> Result<Root, Invalid> {
    let Some(root) = root else { return refuse("root", "it is missing") };
    if root.path().as_os_str().is_empty() {
        return refuse("root.path", "it is empty");
    }
    Ok(Root { path: root.path().clone(), readonly: root.readonly().unwrap_or(false) })
}

/// `linux.rootfsPropagation` (config-linux.md#rootfs-mount-propagation).
pub(crate) fn propagation(name: Option<String>) -> Result<Option<Propagation>, Invalid> {
    let Some(name) = said(name) else { return Ok(None) };
    match propagation_named(&name) {
        Some(propagation) => Ok(Some(propagation)),
        None => refuse("linux.rootfsPropagation", format_args!("{name:?} is not a propagation of mounts")),
    }
}

/// `linux.maskedPaths`, `linux.readonlyPaths`: absolute in the container.
pub(crate) fn paths(field: &str, paths: Option<Vec<String>>) -> Result<Vec<PathBuf>, Invalid> {
    let paths = paths.unwrap_or_default();
    for (index, path) in paths.iter().enumerate() {
        absolute(format_args!("{field}[{index}]"), path)?;
    }
    Ok(paths.into_iter().map(PathBuf::from).collect())
}

/// Options of mount(8) that give a filesystem a SELinux label; the first is the usual one.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// crun's annotation that says which of them `linux.mountLabel` is.
pub(crate) const CONTEXT_TYPE: &str = "run.oci.mount_context_type";

/// `linux.mountLabel`; `option` is the annotation [`CONTEXT_TYPE`].
pub(crate) fn mount_label(label: Option<String>, option: Option<&str>) -> Result<Option<MountLabel>, Invalid> {
    let [usual, ..] = CONTEXTS;
    let asked = option.unwrap_or(usual);
    let Some(option) = CONTEXTS.into_iter().find(|known| *known == asked) else {
        let known = CONTEXTS.join(", ");
        return refuse(format_args!("annotations[{CONTEXT_TYPE:?}]"), format_args!("{asked:?} is none of {known}"));
    };
    Ok(said(label).map(|label| MountLabel { option, label }))
}

/// `linux.cgroupsPath`. How to read it is the driver's matter, but no driver may climb (T25).
pub(crate) fn cgroups_path(path: Option<String>) -> Result<Option<String>, Invalid> {
    let Some(path) = said(path) else { return Ok(None) };
    if path.split(['/', ':']).any(|part| part == "..") {
        return refuse("linux.cgroupsPath", format_args!("{path:?} climbs with \"..\""));
    }
    if path.contains('\n') {
        return refuse(
            "linux.cgroupsPath",
            format_args!("{path:?} holds a newline, which /proc/PID/cgroup cannot show"),
        );
    }
    Ok(Some(path))
}
