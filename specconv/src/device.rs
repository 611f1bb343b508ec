//! Device nodes, the rules about what may be done with devices, and network devices (config-linux.md#devices,
//! #allowed-device-list, #network-devices).

use std::path::Path;

use oci_spec::runtime as oci;

use crate::field::{absolute, id, interface, refuse, said};
use crate::mount::cleaned;
use crate::resources::device_number;
use crate::spec::{self, Pairs};
use crate::{Device, DeviceAccess, DeviceKind, DeviceRule, Invalid, NetDevice};

/// `linux.devices`.
pub(crate) fn devices(asked: Vec<spec::Device>) -> Result<Vec<Device>, Invalid> {
    let mut devices: Vec<Device> = Vec::with_capacity(asked.len());
    for (index, device) in asked.into_iter().enumerate() {
        absolute(format_args!("linux.devices[{index}].path"), &device.path)?;
        let path = cleaned(Path::new(&device.path));
        if path == Path::new("/") {
            return refuse(format_args!("linux.devices[{index}].path"), "the root of the container is no device");
        }
        let kind = match device.typ.as_str() {
            "c" | "u" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            "p" => DeviceKind::Fifo,
            other => {
                return refuse(
                    format_args!("linux.devices[{index}].type"),
                    format_args!("{other:?} is not \"c\", \"b\", \"u\" or \"p\""),
                );
            }
        };
        let (major, minor) = match (kind, device.major, device.minor) {
            (DeviceKind::Fifo, _, _) => (0, 0),
            (_, Some(major), Some(minor)) => device_number(format_args!("linux.devices[{index}]"), major, minor)?,
            _ => return refuse(format_args!("linux.devices[{index}]"), "major and minor are missing"),
        };
        let converted = Device {
            index,
            path,
            kind,
            major,
            minor,
            // Go's encoder may leave the kind of file, and Go's own bits, in the upper part.
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            uid: id(format_args!("linux.devices[{index}].uid"), device.uid.unwrap_or(0))?,
            gid: id(format_args!("linux.devices[{index}].gid"), device.gid.unwrap_or(0))?,
        };
        let same = |earlier: &&Device| earlier.path == converted.path;
        if let Some(earlier) = devices.iter().find(same)
            && (earlier.kind, earlier.major, earlier.minor) != (converted.kind, converted.major, converted.minor)
        {
            return refuse(
                format_args!("linux.devices[{index}].path"),
                format_args!("{:?} is another device in linux.devices[{}]", converted.path, earlier.index),
            );
        }
        devices.push(converted);
    }
    Ok(devices)
}

/// `linux.resources.devices`, in order; rules of no type are about all devices.
pub(crate) fn rules(asked: &[spec::DeviceRule]) -> Result<Vec<DeviceRule>, Invalid> {
    asked.iter().enumerate().map(|(index, asked)| rule(index, asked)).collect()
}

fn rule(index: usize, asked: &spec::DeviceRule) -> Result<DeviceRule, Invalid> {
    let kind = match asked.typ.as_deref() {
        None | Some("" | "a") => None,
        Some("c") => Some(DeviceKind::Char),
        Some("b") => Some(DeviceKind::Block),
        Some(other) => {
            return refuse(
                format_args!("linux.resources.devices[{index}].type"),
                format_args!("{other:?} is not \"a\", \"c\" or \"b\""),
            );
        }
    };
    let number = |field: &str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => refuse(
                format_args!("linux.resources.devices[{index}].{field}"),
                format_args!("{number} is no device number, and not -1 (any)"),
            ),
        },
    };
    let mut access = DeviceAccess::default();
    for letter in asked.access.as_deref().unwrap_or_default().chars() {
        match letter {
            'r' => access.read = true,
            'w' => access.write = true,
            'm' => access.mknod = true,
            _ => {
                return refuse(
                    format_args!("linux.resources.devices[{index}].access"),
                    format_args!("{:?} has other letters than r, w and m", asked.access.as_deref().unwrap_or_default()),
                );
            }
        }
    }
    // To guess here would widen what is allowed, or narrow what is denied.
    if access == DeviceAccess::default() {
        return refuse(format_args!("linux.resources.devices[{index}].access"), "the rule is about no access");
    }
    Ok(DeviceRule {
        index,
        allow: asked.allow.unwrap_or(false),
        kind,
        major: number("major", asked.major)?,
        minor: number("minor", asked.minor)?,
        access,
    })
}

/// `linux.netDevices`: names are checked as the kernel will, and no two devices may get one name.
pub(crate) fn net_devices(pairs: Pairs<oci::LinuxNetDevice>) -> Result<Vec<NetDevice>, Invalid> {
    let mut devices: Vec<NetDevice> = Vec::with_capacity(pairs.0.len());
    for (host, device) in pairs.0 {
        interface(format_args!("linux.netDevices[{host:?}]"), &host)?;
        let name = said(device.name().clone()).unwrap_or_else(|| host.clone());
        // `eth%d`: a number that is free makes the name.
        let template = name.strip_suffix("%d").filter(|_| name.len() < 16);
        interface(format_args!("linux.netDevices[{host:?}].name"), template.unwrap_or(&name))?;
        let taken = |earlier: &NetDevice| earlier.host == host || earlier.name == name && template.is_none();
        if devices.iter().any(taken) {
            return refuse(
                format_args!("linux.netDevices[{host:?}]"),
                format_args!("another device is to be {name:?} already"),
            );
        }
        devices.push(NetDevice { host, name });
    }
    Ok(devices)
}
