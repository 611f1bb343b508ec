//! Device nodes and the links of `/dev` (config-linux.md#devices, #default-devices).
//!
//! `/dev` itself must be no link: whoever made the image would else have us make nodes elsewhere
//! (CVE-2026-41579, CVE-2026-47766). A node is made with its final mode, and looked at again by handle before its
//! owner changes; what is bound from the host is never changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use specconv::{Device, DeviceKind, MountKind};

use super::mount::Site;
use super::target::{self, Links, Missing, Target, clean};
use super::{Entry, Plan};
use crate::compat::mount_api::{Detached, Reach};
use crate::compat::openat2::{Mounts, open_beneath};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use crate::sys::mount::OpenTreeFlags;
use crate::sys::{Errno, Refused};

/// The nodes every container has: name, major and minor number; all for everybody, 0666.
const DEFAULTS: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The links every container has.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// A node to make.
#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    /// On the host, where it is bound from if it cannot be made.
    host: &'a Path,
    kind: FileType,
    number: (u32, u32),
    mode: u32,
    owner: (u32, u32),
}

/// Makes the default nodes, the configured ones and the links.
///
/// Where `/dev` is bound from elsewhere nothing is made in it: it is then the host's. The configured nodes must be
/// there already.
pub(super) fn populate(site: Site<'_>) -> Result<()> {
    let bound = is_bound(site.plan);
    if !bound {
        let missing = || Ok(Missing::Directory);
        let dev = target::resolve(site.root, Path::new("/dev"), Links::Refuse, missing).doing("open /dev")?;
        defaults(site, &dev)?;
        links(dev.fd.as_fd())?;
    }
    for device in site.plan.devices.iter().filter(|device| !is_ptmx(device)) {
        configured(site, device, bound)
            .at(|| format!("linux.devices[{}] ({})", device.index, device.path.display()))?;
    }
    Ok(())
}

/// Engines list every device of the host for a privileged container, `ptmx` among them. The container's opens
/// terminals of its own devpts, and is a link that is there already (config-linux.md#default-devices); runc and crun
/// pass over it too.
fn is_ptmx(device: &Device) -> bool {
    device.path == Path::new("/dev/ptmx")
}

fn is_bound(plan: &Plan) -> bool {
    plan.mounts
        .iter()
        .any(|mount| matches!(mount.kind, MountKind::Bind(_)) && clean(&mount.destination) == Path::new("dev"))
}

fn defaults(site: Site<'_>, dev: &Target) -> Result<()> {
    for (name, major, minor) in DEFAULTS {
        let host = Path::new("/dev").join(name);
        if site.plan.devices.iter().any(|device| device.path == host) {
            continue;
        }
        let kind = FileType::CharacterDevice;
        let node = Node { host: &host, kind, number: (major, minor), mode: 0o666, owner: (0, 0) };
        make(site, dev, Path::new(name), &node).doing_with(|| format!("make /dev/{name}"))?;
    }
    Ok(())
}

fn configured(site: Site<'_>, device: &Device, bound: bool) -> Result<()> {
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let node = Node {
        host: &device.path,
        kind,
        number: (device.major, device.minor),
        mode: device.mode,
        owner: (device.uid, device.gid),
    };
    if bound && clean(&device.path).starts_with("dev") {
        let path = clean(&device.path);
        let there = open_beneath(site.root, &path, OFlags::PATH, Mode::empty(), Mounts::Cross)?;
        return examine(&file::fstat(there.as_fd())?, &node);
    }
    let (parent, name) = target::parent_of(site.root, &device.path)?;
    make(site, &parent, Path::new(&name), &node)
}

fn make(site: Site<'_>, parent: &Target, name: &Path, node: &Node<'_>) -> Result<()> {
    // A FIFO needs nobody's leave; devices are refused in a user namespace, whatever the capabilities.
    if site.plan.user_namespace && node.kind != FileType::Fifo && site.plan.entry != Entry::Chroot {
        return bind(site, parent, name, node);
    }
    match file::mknodat(parent.fd.as_fd(), name, node.kind, Mode::from_raw_mode(node.mode), node.number) {
        Ok(()) if node.owner == (0, 0) => Ok(()),
        Ok(()) => own(parent.fd.as_fd(), name, node),
        Err(refused) if refused.errno == Errno::EEXIST => examine(&file::fstatat(parent.fd.as_fd(), name)?, node),
        Err(refused) if refused.errno == Errno::EPERM && site.plan.entry != Entry::Chroot => {
            bind(site, parent, name, node)
        }
        Err(refused) => Err(refused.into()),
    }
}

/// Gives a node that we have just made its owner, if it still is what we made.
fn own(parent: BorrowedFd<'_>, name: &Path, node: &Node<'_>) -> Result<()> {
    let made = file::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    examine(&file::fstat(made.as_fd())?, node)?;
    let (uid, gid) = node.owner;
    file::fchown(made.as_fd(), uid, gid).doing("set the owner")
}

/// What exists at the path of a device must be that device (config-linux.md#devices).
fn examine(there: &Stat, node: &Node<'_>) -> Result<()> {
    let kind = FileType::from_raw_mode(there.st_mode);
    // The type first: other files have the number 0:0, which says nothing.
    let same = kind == node.kind && (kind == FileType::Fifo || file::device_number(there.st_rdev) == node.number);
    if same {
        return Ok(());
    }
    let (major, minor) = node.number;
    let sentence = format!("what exists there is not the {:?} {major}:{minor}", node.kind);
    Err(Error::new(Kind::Invalid, sentence))
}

/// Binds the host's node, proved to be the right one, on an empty file.
fn bind(site: Site<'_>, parent: &Target, name: &Path, node: &Node<'_>) -> Result<()> {
    let host = Detached::copy(CWD, node.host, Reach::One, OpenTreeFlags::empty())
        .doing_with(|| format!("bind the host's {}", node.host.display()))?;
    if let Some(fd) = host.fd() {
        examine(&file::fstat(fd)?, node)?;
    }
    let at = file_at(parent.fd.as_fd(), name)?;
    let target = Target::known(at, parent.path.join(name));
    site.attach(host, &target).map(drop)
}

/// An empty file to mount on, O_PATH. A file or node that is there already serves as well; a link does not.
pub(super) fn file_at(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
    match file::openat(parent, name, create, Mode::from_raw_mode(0o644)) {
        Err(refused) if refused.errno != Errno::EEXIST => return Err(refused.into()),
        _ => {}
    }
    let at = file::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    match FileType::from_raw_mode(file::fstat(at.as_fd())?.st_mode) {
        FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice => Ok(at),
        FileType::Symlink => Err(Refused::new("openat", format_args!("{name:?}, O_NOFOLLOW"), Errno::ELOOP).into()),
        other => Err(Error::new(Kind::Invalid, format!("there is a {other:?} in its place"))),
    }
}

fn links(dev: BorrowedFd<'_>) -> Result<()> {
    for (name, text) in LINKS {
        link(dev, name, text)?;
    }
    // As runc does: only where the host has one.
    if file::fstatat(CWD, Path::new("/proc/kcore")).is_ok() {
        link(dev, "core", "/proc/kcore")?;
    }
    // The host's ptmx, or the image's, would open terminals of another devpts.
    let (name, text) = (Path::new("ptmx"), Path::new("pts/ptmx"));
    match file::symlinkat(text, dev, name) {
        Err(refused) if refused.errno == Errno::EEXIST => file::unlinkat(dev, name, AtFlags::empty())
            .and_then(|()| file::symlinkat(text, dev, name))
            .doing("replace /dev/ptmx"),
        other => other.doing("make /dev/ptmx"),
    }
}

/// What the image has put there stays, as in runc.
fn link(dev: BorrowedFd<'_>, name: &str, text: &str) -> Result<()> {
    match file::symlinkat(Path::new(text), dev, Path::new(name)) {
        Err(refused) if refused.errno != Errno::EEXIST => Err(refused).doing_with(|| format!("make /dev/{name}")),
        _ => Ok(()),
    }
}
