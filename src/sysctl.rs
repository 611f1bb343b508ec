//! Kernel parameters of the container's own namespaces (config-linux.md#sysctl), and its names.
//!
//! All in init: the kernel takes the network, IPC and user namespace of the process that writes.

use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use specconv::Sysctl;

use crate::error::{Context, Error, Kind, Result};
use crate::sys::{Errno, fd, refused, uts};

/// Writes the parameters through `proc`, the root of a procfs that the container cannot have tampered with.
///
/// The procfs must not be one with `subset=pid`, which has no `sys`. Below it no link is followed and no mount is
/// crossed, so that what is written is the parameter that specconv checked and nothing else (CVE-2025-52881).
///
/// # Errors
/// Names the key: `linux.sysctl["net.ipv4.ip_forward"]`.
pub fn write(proc: BorrowedFd<'_>, parameters: &[Sysctl]) -> Result<()> {
    for parameter in parameters {
        write_one(proc, parameter).at(|| format!("linux.sysctl[{:?}]", parameter.key))?;
    }
    Ok(())
}

fn write_one(proc: BorrowedFd<'_>, parameter: &Sysctl) -> Result<()> {
    let path = format!("sys/{}", parameter.path);
    let file = rustix::fs::openat2(
        proc,
        path.as_str(),
        OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(refused!("openat2", "{}, {path:?}, O_WRONLY", fd(&proc)));
    let file = match file {
        Err(refused) if refused.errno == Errno::ENOENT => {
            return Err(refused).doing("this kernel, or the container's namespace, does not have the parameter");
        }
        other => other?,
    };
    let value = parameter.value.as_bytes();
    // The kernel takes a parameter in one write; a second one would set another value.
    let written = rustix::io::write(&file, value).map_err(refused!("write", "{}, {:?}", fd(&file), parameter.value))?;
    if written != value.len() {
        return Err(Error::new(
            Kind::Other,
            format!("the kernel took {written} of the {} bytes of {:?}", value.len(), parameter.value),
        ));
    }
    Ok(())
}

/// Sets the host name of the UTS namespace we are in.
pub fn set_hostname(name: &str) -> Result<()> {
    uts::sethostname(name).at(|| "hostname".to_owned())
}

/// Sets the NIS domain name of the UTS namespace we are in.
pub fn set_domainname(name: &str) -> Result<()> {
    uts::setdomainname(name).at(|| "domainname".to_owned())
}
