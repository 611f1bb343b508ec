//! The network namespace: the loopback interface, and devices moved into it (config-linux.md#network-devices).

use std::os::fd::BorrowedFd;

use specconv::NetDevice;

use crate::error::{Error, Result};

/// Brings `lo` up in the caller's (new) network namespace.
pub fn bring_loopback_up() -> Result<()> {
    Err(Error::unsupported("linux.namespaces", "not built yet"))
}

/// Moves network devices of the caller's namespace into `netns`, under the names asked for.
///
/// Move and rename are one step; permanent global addresses, which the kernel drops on the way, are set
/// again inside; then the device is brought up.
pub fn move_devices(devices: &[NetDevice], netns: BorrowedFd<'_>) -> Result<()> {
    let _ = netns;
    match devices.first() {
        None => Ok(()),
        Some(device) => Err(Error::unsupported(format!("linux.netDevices[{:?}]", device.host), "not built yet")),
    }
}
