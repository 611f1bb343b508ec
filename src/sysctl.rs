//! Kernel parameters of the container's own namespaces (config-linux.md#sysctl), and its names.
//!
//! All in init: the kernel takes the network, IPC and user namespace of the process that writes.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use specconv::Sysctl;

use crate::compat::openat2::{self, Mounts};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, Mode, OFlags};
use crate::sys::{Errno, uts};

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
    let path = PathBuf::from(format!("sys/{}", parameter.path));
    let file = match openat2::open_beneath(proc, &path, OFlags::WRONLY, Mode::empty(), Mounts::Stay) {
        Err(refused) if refused.errno == Errno::ENOENT => {
            return Err(refused).doing("this kernel, or the container's namespace, does not have the parameter");
        }
        Err(refused) if refused.errno == Errno::EXDEV => {
            return Err(refused).doing("something is mounted over this part of /proc");
        }
        other => other?,
    };
    let value = parameter.value.as_bytes();
    // The kernel takes a parameter in one write; a second one would set another value.
    let written = file::write(&file, value).doing_with(|| format!("write {:?}", parameter.value))?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::fd::AsFd;

    use specconv::NamespaceKind;

    use super::*;

    fn parameter(path: &str, value: &str) -> Sysctl {
        Sysctl {
            key: path.replace('/', "."),
            path: path.to_owned(),
            value: value.to_owned(),
            namespace: NamespaceKind::Network,
        }
    }

    #[test]
    fn nothing_but_a_file_below_proc_sys_is_opened() {
        let proc = std::fs::File::open("/proc").unwrap();
        for path in [
            "../version",
            "kernel/../../version",
            "../self/comm",
            "../self/root/etc/passwd",
            "/proc/sys/kernel/hostname",
            "kernel",
            "kernel/no_such_parameter",
        ] {
            let error = write(proc.as_fd(), &[parameter(path, "1")]).unwrap_err();
            assert!(error.to_string().contains("linux.sysctl[\""), "{error}");
            assert!(error.errno().is_some_and(|errno| errno != Errno::EINVAL), "{path}: {error}");
        }
    }

    #[test]
    fn a_tree_that_is_not_what_it_seems_is_refused() {
        let dir = std::env::temp_dir().join(format!("orlop-sysctl-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sys/net")).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.join("sys/net/link")).unwrap();
        std::fs::write(dir.join("sys/net/real"), "").unwrap();
        let root = std::fs::File::open(&dir).unwrap();
        let error = write(root.as_fd(), &[parameter("net/link/x", "1")]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ELOOP), "{error}");
        write(root.as_fd(), &[parameter("net/real", "1 2")]).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("sys/net/real")).unwrap(), "1 2");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
