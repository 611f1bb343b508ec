//! From words to meaning: `config.json` to [`Config`].
//!
//! Pure: no file, no clock, no system call. Everything that can be said about a config without looking
//! at the host is said here, before any effect; what is refused names its field (`mounts[3].options[1]`).

#![forbid(unsafe_code)]

mod capability;
mod config;
mod device;
mod example;
pub mod features;
mod field;
mod hooks;
mod invalid;
mod mount;
mod namespace;
mod placement;
mod process;
mod resources;
mod rootfs;
mod rules;
mod seccomp;
mod spec;
mod sysctl;
mod update;

pub use capability::{capability, capability_name};
pub use config::*;
pub use example::{ExampleFor, example};
pub use invalid::{Invalid, Warning};
pub use mount::{PROC_FILES, mount_attr};
pub use namespace::to_host;
pub use placement::rdt_schemata;
pub use process::{environment, parse_id, parse_user, rlimit_name};
pub use rules::user_is_mapped;
pub use update::{Update, resources_of_config, update};

use field::{refuse, said};

/// A config and what its author should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// What the container will be.
    pub config: Config,
    /// What was passed over, in the order of its finding.
    pub warnings: Vec<Warning>,
}

/// Reads a `config.json`.
///
/// # Errors
/// The first thing that is refused, with its field.
pub fn convert(bytes: &[u8]) -> Result<Converted, Invalid> {
    let spec: spec::Spec = spec::read(bytes, "")?;
    let mut warnings = Vec::new();
    rules::version(spec.oci_version.as_deref())?;
    let annotations = spec.annotations.unwrap_or_default();
    if annotations.contains_key("") {
        return refuse("annotations", "a key is empty");
    }
    let root = rootfs::root(spec.root)?;
    let process = spec.process.map(|process| process::process(process, &mut warnings)).transpose()?;
    let linux = spec.linux.unwrap_or_default();
    let namespaces = namespace::namespaces(linux.namespaces.unwrap_or_default())?;
    let uid_mappings =
        namespace::id_maps(format_args!("linux.uidMappings"), linux.uid_mappings.as_deref().unwrap_or_default())?;
    let gid_mappings =
        namespace::id_maps(format_args!("linux.gidMappings"), linux.gid_mappings.as_deref().unwrap_or_default())?;
    let mounts = spec.mounts.unwrap_or_default();
    let mounts = mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| mount::mount(index, mount, (&uid_mappings, &gid_mappings), &mut warnings))
        .collect::<Result<Vec<_>, _>>()?;
    let receiver = annotations.get(seccomp::RECEIVER).map(String::as_str);
    let seccomp = linux.seccomp.map(|asked| seccomp::seccomp(asked, receiver)).transpose()?.flatten();
    let context_type = annotations.get(rootfs::CONTEXT_TYPE).cloned();
    let config = Config {
        root,
        process,
        hostname: said(spec.hostname),
        domainname: said(spec.domainname),
        mounts,
        hooks: spec.hooks.as_ref().map(hooks::hooks).transpose()?.unwrap_or_default(),
        annotations,
        uid_mappings,
        gid_mappings,
        time_offsets: linux.time_offsets.map(namespace::time_offsets).transpose()?.unwrap_or_default(),
        devices: device::devices(linux.devices.unwrap_or_default())?,
        net_devices: linux.net_devices.map(device::net_devices).transpose()?.unwrap_or_default(),
        cgroups_path: rootfs::cgroups_path(linux.cgroups_path)?,
        resources: resources::resources(linux.resources.unwrap_or_default())?,
        intel_rdt: linux.intel_rdt.map(|rdt| placement::intel_rdt(rdt, &mut warnings)).transpose()?,
        memory_policy: linux.memory_policy.map(placement::memory_policy).transpose()?,
        seccomp,
        sysctl: linux.sysctl.map(|pairs| sysctl::sysctls(pairs, &namespaces)).transpose()?.unwrap_or_default(),
        namespaces,
        rootfs_propagation: rootfs::propagation(linux.rootfs_propagation)?,
        masked_paths: rootfs::paths("linux.maskedPaths", linux.masked_paths)?,
        readonly_paths: rootfs::paths("linux.readonlyPaths", linux.readonly_paths)?,
        mount_label: rootfs::mount_label(linux.mount_label, context_type.as_deref())?,
        personality: linux.personality.as_ref().map(placement::personality).transpose()?,
    };
    rules::check(&config)?;
    Ok(Converted { config, warnings })
}

/// Reads a `process` object alone: the file of `exec --process`. Fields are called `process.…`.
///
/// Rights and limits of which it says nothing are those of `own`, the container's process (runc's rule): capabilities,
/// labels, rlimits, OOM score, scheduling. Not so `noNewPrivileges`: programs in Go leave out what is `false`.
///
/// # Errors
/// The first thing that is refused. Whether the container maps the ids is asked of [`user_is_mapped`].
pub fn convert_process(bytes: &[u8], own: Option<&Process>) -> Result<(Process, Vec<Warning>), Invalid> {
    let mut warnings = Vec::new();
    let asked: spec::Process = spec::read(bytes, "process")?;
    let says_capabilities = asked.capabilities.is_some();
    let mut process = process::process(asked, &mut warnings)?;
    if let Some(own) = own {
        if !says_capabilities {
            process.capabilities = own.capabilities;
        }
        process::take_over_what_is_not_said(&mut process, own);
    }
    Ok((process, warnings))
}

/// Reads a `resources` object alone: the file of `update --resources`. Fields are called `linux.resources.…`.
///
/// # Errors
/// The first thing that is refused.
pub fn convert_resources(bytes: &[u8]) -> Result<Resources, Invalid> {
    resources::resources(spec::read(bytes, "linux.resources")?)
}
