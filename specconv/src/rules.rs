//! Rules across fields: each about one pair, each citing where it comes from. They run on the finished [`Config`].

use crate::field::{invalid, refuse};
use crate::namespace::mapped;
use crate::{Config, Invalid, Mount, MountIdMap, MountIds, MountKind, NamespaceKind, Process};

/// All of them.
pub(crate) fn check(config: &Config) -> Result<(), Invalid> {
    names_need_a_uts_namespace(config)?;
    id_maps_need_a_user_namespace(config)?;
    offsets_need_a_new_time_namespace(config)?;
    what_changes_mounts_needs_a_mount_namespace(config)?;
    net_devices_need_a_network_namespace(config)?;
    mount_ids_are_known(config)?;
    match &config.process {
        Some(process) => user_is_mapped(config, process),
        None => Ok(()),
    }
}

/// Else it would be the host that is renamed (runc, validate.uts); __NEW_UTS_LEN is 64.
fn names_need_a_uts_namespace(config: &Config) -> Result<(), Invalid> {
    for (field, name) in [("hostname", &config.hostname), ("domainname", &config.domainname)] {
        let Some(name) = name else { continue };
        if !config.namespaces.has(NamespaceKind::Uts) {
            return refuse(field, format_args!("unable to set {field} without a private UTS namespace"));
        }
        if name.len() > 64 {
            return refuse(field, format_args!("{} bytes; the kernel takes 64", name.len()));
        }
    }
    Ok(())
}

/// config-linux.md#user-namespace-mappings. A joined user namespace has its maps already; whether they are the same is
/// seen when it is there.
fn id_maps_need_a_user_namespace(config: &Config) -> Result<(), Invalid> {
    let maps = [("linux.uidMappings", &config.uid_mappings), ("linux.gidMappings", &config.gid_mappings)];
    if !config.namespaces.has(NamespaceKind::User) {
        return match maps.iter().find(|(_, map)| !map.is_empty()) {
            Some((field, _)) => refuse(field, "there is no user namespace in linux.namespaces"),
            None => Ok(()),
        };
    }
    match maps.iter().find(|(_, map)| map.is_empty()) {
        Some((field, _)) if config.namespaces.is_new(NamespaceKind::User) => {
            refuse(field, "it is missing; a new user namespace needs ids")
        }
        _ => Ok(()),
    }
}

/// time_namespaces(7): offsets can be written only before the first process is in.
fn offsets_need_a_new_time_namespace(config: &Config) -> Result<(), Invalid> {
    if config.time_offsets.is_empty() || config.namespaces.is_new(NamespaceKind::Time) {
        return Ok(());
    }
    refuse("linux.timeOffsets", "there is no new time namespace in linux.namespaces")
}

/// Without a mount namespace the container's mounts are made among the host's, below its root filesystem, and can be
/// taken away again. What would change a mount that is not the container's is refused; for the masks in runc's words
/// (validate.security; security.md T28).
fn what_changes_mounts_needs_a_mount_namespace(config: &Config) -> Result<(), Invalid> {
    if config.namespaces.has(NamespaceKind::Mount) {
        return Ok(());
    }
    const MASKS: &str = "unable to restrict sys entries without a private MNT namespace";
    const HOST: &str = "there is no mount namespace in linux.namespaces; this would change the host";
    let asked = [
        ("linux.maskedPaths", !config.masked_paths.is_empty(), MASKS),
        ("linux.readonlyPaths", !config.readonly_paths.is_empty(), MASKS),
        ("linux.rootfsPropagation", config.rootfs_propagation.is_some(), HOST),
        ("root.readonly", config.root.readonly, HOST),
    ];
    if let Some((field, _, why)) = asked.iter().find(|(_, asked, _)| *asked) {
        return refuse(field, why);
    }
    // What is there already is the host's: a volume that an engine has mounted into the root filesystem.
    let changes = |mount: &&Mount| matches!(mount.kind, MountKind::Remount(_) | MountKind::Propagate);
    match config.mounts.iter().find(changes) {
        Some(mount) => refuse(format_args!("mounts[{}]", mount.index), HOST),
        None => Ok(()),
    }
}

/// config-linux.md#network-devices.
fn net_devices_need_a_network_namespace(config: &Config) -> Result<(), Invalid> {
    if config.net_devices.is_empty() || config.namespaces.has(NamespaceKind::Network) {
        return Ok(());
    }
    refuse("linux.netDevices", "unable to move network devices without a network namespace")
}

/// `idmap` without a mapping is the container's, so it must have one; and `uid=`, `gid=` are read inside the user
/// namespace, where the kernel refuses what has no mapping with a bare EINVAL.
fn mount_ids_are_known(config: &Config) -> Result<(), Invalid> {
    for mount in &config.mounts {
        if matches!(&mount.id_map, Some(MountIdMap { ids: MountIds::Container, .. }))
            && !config.namespaces.has(NamespaceKind::User)
        {
            return refuse(
                format_args!("mounts[{}]", mount.index),
                "it has no id map, and the container has no user namespace whose map it could take",
            );
        }
        let MountKind::Filesystem(filesystem) = &mount.kind else { continue };
        if !matches!(filesystem.fstype.as_str(), "tmpfs" | "devpts") || !config.namespaces.is_new(NamespaceKind::User) {
            continue;
        }
        for option in &filesystem.data {
            let (maps, what) = match option.key.as_str() {
                "uid" => (&config.uid_mappings, "uidMappings"),
                "gid" => (&config.gid_mappings, "gidMappings"),
                _ => continue,
            };
            let Some(id) = option.value.as_ref().and_then(|value| value.parse().ok()) else { continue };
            let at = option.index.map(|at| format!(".options[{at}]")).unwrap_or_default();
            mapped(format_args!("mounts[{}]{at}", mount.index), maps, id, what)?;
        }
    }
    Ok(())
}

/// Whether a process could take its ids in this container; also for the process that `exec` brings.
///
/// setresuid(2) and setgroups(2) would refuse them with a bare EINVAL, after all the work.
pub fn user_is_mapped(config: &Config, process: &Process) -> Result<(), Invalid> {
    if !config.namespaces.is_new(NamespaceKind::User) {
        return Ok(());
    }
    let user = &process.user;
    mapped(format_args!("process.user.uid"), &config.uid_mappings, user.uid, "uidMappings")?;
    mapped(format_args!("process.user.gid"), &config.gid_mappings, user.gid, "gidMappings")?;
    for (index, gid) in user.additional_gids.iter().enumerate() {
        mapped(format_args!("process.user.additionalGids[{index}]"), &config.gid_mappings, *gid, "gidMappings")?;
    }
    Ok(())
}

/// config.md#specification-version: SemVer 2.0.0, and only versions of the same major number are compatible.
pub(crate) fn version(version: Option<&str>) -> Result<(), Invalid> {
    const FIELD: &str = "ociVersion";
    let version = version.filter(|version| !version.is_empty()).ok_or_else(|| invalid(FIELD, "it is missing"))?;
    match major(version) {
        Some("1") => Ok(()),
        Some(_) => refuse(FIELD, format_args!("{version:?} is not supported; orlop implements 1.0.0 to 1.3.0")),
        None => refuse(FIELD, format_args!("{version:?} is not a version such as \"1.3.0\"")),
    }
}

/// The first number of a version, `1.0.2-dev.1+build`; `None` where it is not SemVer.
fn major(version: &str) -> Option<&str> {
    let (rest, build) = version.split_once('+').map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let sound = core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|before| before.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word));
    core.split('.').next().filter(|_| sound)
}
