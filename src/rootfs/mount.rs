//! `mounts`: each made detached, complete with its attributes, and then attached by handle (config.md#mounts).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use specconv::{Attributes, Bind, Filesystem, Mount, MountKind, Propagation, PropagationKind};

use super::target::{self, Guest, Links, Missing, Target};
use super::{Entry, Plan, cgroup, copy_up};
use crate::compat::mount_api::{self, Detached, Reach, Recipe};
use crate::compat::mount_setattr::{self, Change, attribute, attributes_of};
use crate::compat::own_fd::{self, Procfs};
use crate::compat::procfs;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::file::{self, CWD, FileType};
use crate::sys::mount::{MountAttr, OpenTreeFlags};
use crate::sys::{Errno, Refused};

/// Where mounts are made: the root, and a procfs for the old roads.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    pub plan: &'a Plan,
    pub root: BorrowedFd<'a>,
    pub proc: &'a Procfs,
}

/// A mount that becomes read-only at the end, because until then it is filled.
#[derive(Debug)]
pub(super) struct Late {
    pub mount: OwnedFd,
    pub recursive: bool,
}

impl Site<'_> {
    /// Attaches a finished mount at a resolved place.
    pub fn attach(&self, mount: Detached, at: &Target) -> Result<OwnedFd> {
        mount.attach(at.fd.as_fd(), self.proc, || at.again(self.root))
    }
}

/// Makes one mount. What comes back has to become read-only later.
pub(super) fn make(site: Site<'_>, mount: &Mount, lent: Option<OwnedFd>) -> Result<Option<Late>> {
    let (attached, late) = match &mount.kind {
        MountKind::Bind(bind) => match bind_at(site, mount, bind, lent)? {
            Some(attached) => (attached, None),
            None => return Ok(None),
        },
        MountKind::Filesystem(fs) => filesystem_at(site, mount, fs, lent)?,
        MountKind::Cgroup(fs) => (cgroup::mount(site, mount, fs)?, None),
        MountKind::Remount(fs) => (remount(site, mount, fs)?, None),
        MountKind::Propagate => (existing(site, mount)?.fd, None),
    };
    if mount.kind == MountKind::Propagate {
        change_attached(site, mount, attached.as_fd())?;
    }
    for propagation in &mount.propagation {
        let change = spread(*propagation);
        mount_setattr::set_attached(attached.as_fd(), &change, site.proc).doing("set the propagation")?;
    }
    match late {
        Some(recursive) => Ok(Some(Late { mount: attached, recursive })),
        None => Ok(None),
    }
}

/// The change that a propagation asks for.
pub(super) fn spread(propagation: Propagation) -> Change<'static> {
    const MS_UNBINDABLE: u64 = 1 << 17;
    const MS_PRIVATE: u64 = 1 << 18;
    const MS_SLAVE: u64 = 1 << 19;
    const MS_SHARED: u64 = 1 << 20;
    let kind = match propagation.kind {
        PropagationKind::Shared => MS_SHARED,
        PropagationKind::Slave => MS_SLAVE,
        PropagationKind::Private => MS_PRIVATE,
        PropagationKind::Unbindable => MS_UNBINDABLE,
    };
    Change { what: MountAttr { propagation: kind, ..MountAttr::default() }, recursive: propagation.recursive }
}

/// Resolves the destination of a mount.
fn find(site: Site<'_>, mount: &Mount, missing: impl Fn() -> Result<Missing>) -> Result<Target> {
    let links = if mount.target.nofollow { Links::KeepLast } else { Links::Follow };
    target::resolve(site.root, &mount.destination, links, missing).doing("find the destination")
}

/// Resolves the directory that a filesystem is to stand on, and judges it.
pub(super) fn directory_of(site: Site<'_>, mount: &Mount) -> Result<Target> {
    let target = find(site, mount, || Ok(Missing::Directory))?;
    judge(&target, mount, Guest::Other)?;
    Ok(target)
}

/// As [`target::judge`]; and what is not meant to be `/dev` must not become it over a link of the image: devices and
/// links would be made in a volume, and its `ptmx` removed (CVE-2026-41579 by way of a mount).
fn judge(target: &Target, mount: &Mount, guest: Guest) -> Result<()> {
    if target.path == Path::new("dev") && target::clean(&mount.destination) != target.path {
        return Err(Error::new(Kind::Invalid, "a symbolic link of the image leads it onto /dev"));
    }
    target::judge(&target.path, guest)
}

/// What is there already, for mounts that only change it.
fn existing(site: Site<'_>, mount: &Mount) -> Result<Target> {
    find(site, mount, || Ok(Missing::Refuse))
}

// ---- binds

/// Opens the source of a bind, detached from where it is.
pub(super) fn open_source(plan: &Plan, bind: &Bind) -> Result<Detached> {
    let reach = if bind.recursive { Reach::Tree } else { Reach::One };
    let itself = bind.source_nofollow || bind.copy_symlink;
    let flags = if itself { OpenTreeFlags::AT_SYMLINK_NOFOLLOW } else { OpenTreeFlags::empty() };
    let source = plan.bundle.join(&bind.source);
    Detached::copy(CWD, &source, reach, flags).doing_with(|| format!("open the source {source:?}"))
}

/// What was lent, or our own copy of the very same where we can have one: our mount namespace is the host's as a user
/// namespace with fewer rights may have it, and what its mounts forbid (`ro`, `nodev`) is locked in our copies
/// (mount_namespaces(7)). In a copy that the parent made it is not, and the container's root could take it away.
fn own_rather_than(lent: OwnedFd, plan: &Plan, mount: &Mount, bind: &Bind) -> Result<Detached> {
    if plan.user_namespace && mount.id_map.is_none() && !is_door(&bind.source) {
        let object = |fd: BorrowedFd<'_>| file::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        // Refused where a directory on the way, or what is mounted below, is not for the container's root to see.
        if let Ok(own) = open_source(plan, bind)
            && let Some(fd) = own.fd()
            && object(fd)? == object(lent.as_fd())?
        {
            return Ok(own);
        }
    }
    Ok(Detached::lent(lent))
}

fn bind_at(site: Site<'_>, mount: &Mount, bind: &Bind, lent: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
    let mut tree = match lent {
        Some(tree) => own_rather_than(tree, site.plan, mount, bind)?,
        None => open_source(site.plan, bind)?,
    };
    let kind = match tree.fd() {
        Some(source) => FileType::from_raw_mode(file::fstat(source)?.st_mode),
        None => FileType::Directory,
    };
    if let Some(link) = tree.fd()
        && bind.copy_symlink
        && kind == FileType::Symlink
    {
        copy_link(site, mount, link)?;
        return Ok(None);
    }
    if site.plan.entry == Entry::Chroot {
        // In one mount namespace a copy of a shared mount is its peer: what is mounted on it, or unmounted from it,
        // would be so at the source as well.
        let slave = Propagation { kind: PropagationKind::Slave, recursive: true };
        tree.change(&spread(slave)).doing("cut the mount off from its source")?;
    }
    change_bind(&mut tree, mount)?;
    let missing = if kind == FileType::Directory { Missing::Directory } else { Missing::File };
    let target = find(site, mount, || Ok(missing))?;
    let guest = match tree.fd() {
        Some(fd) if target.path == Path::new("proc") && procfs::is_whole(fd)? => Guest::Proc,
        _ => Guest::Other,
    };
    judge(&target, mount, guest)?;
    site.attach(tree, &target).doing("attach the mount").map(Some)
}

/// `copy-symlink`: a source that is a link is made again in the container.
fn copy_link(site: Site<'_>, mount: &Mount, link: BorrowedFd<'_>) -> Result<()> {
    let text = file::readlinkat(link, Path::new(""))?;
    let (parent, name) = target::parent_of(site.root, &mount.destination).doing("find the destination")?;
    target::judge(&parent.path.join(&name), Guest::Other)?;
    let (parent, name) = (parent.fd.as_fd(), Path::new(&name));
    match file::symlinkat(&text, parent, name) {
        Err(refused)
            if refused.errno == Errno::EEXIST && file::readlinkat(parent, name).is_ok_and(|there| there == text) =>
        {
            Ok(())
        }
        other => other.doing("copy the symbolic link"),
    }
}

/// Attributes of a bind: what the user did not name stays as the source has it.
fn change_bind(tree: &mut Detached, mount: &Mount) -> Result<()> {
    for (attributes, recursive) in [(mount.attributes, false), (mount.recursive, true)] {
        if attributes == Attributes::default() {
            continue;
        }
        let what = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
        match tree.change(&Change { what, recursive }) {
            Err(refused) if refused.errno == Errno::EPERM && attributes.clear != 0 => {
                keep_locked(tree, attributes, recursive, refused)?;
            }
            other => other.doing("set the options")?,
        }
    }
    Ok(())
}

/// In a user namespace the attributes that a mount came with are locked. Those that the user asked to lose are an
/// error, except `ro`: engines write `rw` on every bind without meaning it.
fn keep_locked(tree: &mut Detached, attributes: Attributes, recursive: bool, refused: Refused) -> Result<()> {
    let Some(fd) = tree.fd() else { return Err(refused.into()) };
    let has = attributes_of(file::fstatfs(fd)?.flags);
    let locked = has & attributes.clear & !attribute::ATIME;
    if locked & !attribute::RDONLY != 0 || locked == 0 || attributes.clear & attribute::ATIME != 0 {
        return Err(refused).doing("clear options of the source that are locked in this user namespace");
    }
    let what = MountAttr { set: attributes.set, clear: attributes.clear & !attribute::RDONLY, ..MountAttr::default() };
    tree.change(&Change { what, recursive }).doing("set the options")
}

// ---- new filesystems

/// Filesystems whose superblock is not ours alone: read-only is then a matter of the mount, not of the superblock.
const SHARED: [&str; 4] = ["sysfs", "mqueue", "cgroup", "cgroup2"];

/// Filesystems that take no `context=` (they label their files themselves, or not at all).
const UNLABELLED: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// Attributes of a mount that has nothing below it and nothing inherited.
pub(super) fn fresh_attributes(mount: &Mount) -> u64 {
    let once = mount.attributes.set;
    once & !mount.recursive.clear | mount.recursive.set
}

/// Flags of the superblock, and the filesystem's own options.
fn options_of(fs: &Filesystem) -> Vec<mount_api::FsOption<'_>> {
    // `silent` asks for fewer lines in the kernel's log; the new calls print none.
    let spoken = |flag: &&&str| !matches!(**flag, "silent" | "loud");
    let flags = fs.superblock_flags.iter().filter(spoken).map(|flag| (*flag, None));
    flags.chain(fs.data.iter().map(|option| (option.key.as_str(), option.value.as_deref()))).collect()
}

/// Says what a new filesystem is to be, with `mode` for a tmpfs that has none.
pub(super) fn recipe<'a>(plan: &'a Plan, fs: &'a Filesystem, attributes: u64, mode: Option<&'a str>) -> Recipe<'a> {
    let mut options = options_of(fs);
    if attributes & attribute::RDONLY != 0 && !SHARED.contains(&fs.fstype.as_str()) {
        options.push(("ro", None));
    }
    if let Some(mode) = mode {
        options.push(("mode", Some(mode)));
    }
    if let Some(label) = &plan.mount_label
        && !UNLABELLED.contains(&fs.fstype.as_str())
        && !options.iter().any(|(own, _)| excludes(own, label.option))
    {
        options.push((label.option, Some(&label.label)));
    }
    Recipe { fstype: &fs.fstype, source: fs.source.as_deref(), options, attributes }
}

/// Whether the label that a mount's own options give it leaves no room for another: the kernel takes one of a kind, and not
/// one for all files beside one for those that have none (mount(8), "context=").
fn excludes(own: &str, other: &str) -> bool {
    own == other || matches!((own, other), ("context", "defcontext") | ("defcontext", "context"))
}

fn filesystem_at(
    site: Site<'_>,
    mount: &Mount,
    fs: &Filesystem,
    lent: Option<OwnedFd>,
) -> Result<(OwnedFd, Option<bool>)> {
    let kernel_view = matches!(fs.fstype.as_str(), "proc" | "sysfs");
    let target = if kernel_view { ordinary_directory(site, mount, fs)? } else { directory_of(site, mount)? };
    let wanted = fresh_attributes(mount);
    let (attributes, late) = deferred(&target, fs, mount, wanted);
    let mode = match inherits_mode(fs) && !target.made {
        true => Some(format!("{:o}", file::fstat(target.fd.as_fd())?.st_mode & 0o7777)),
        false => None,
    };
    let made = match lent {
        Some(tree) => Ok(Detached::lent(tree)),
        None => Detached::filesystem(&recipe(site.plan, fs, attributes, mode.as_deref())),
    };
    let tree = match made {
        Err(error) if error.errno() == Some(Errno::EPERM) && fs.fstype == "sysfs" => {
            return super::sysfs::borrow_host(site, mount, &target).map(|attached| (attached, None));
        }
        Err(error) if error.errno() == Some(Errno::EPERM) && fs.fstype == "proc" => {
            return Err(error).doing(
                "make a procfs (in a user namespace this takes a pid namespace of its own, and a host /proc \
                 with nothing mounted over it)",
            );
        }
        other => other.doing_with(|| format!("make a {}", fs.fstype))?,
    };
    if fs.copy_up
        && let Some(root) = tree.fd()
    {
        copy_up::copy(target.fd.as_fd(), root).doing("copy what the tmpfs covers")?;
    }
    let covered = match fs.copy_up && tree.fd().is_none() {
        true => Some(target.again(site.root)?),
        false => None,
    };
    let attached = match site.attach(tree, &target) {
        // On the old road making and attaching are one call, and so is its refusal.
        Err(error) if error.errno() == Some(Errno::EPERM) && fs.fstype == "sysfs" => {
            return super::sysfs::borrow_host(site, mount, &target).map(|attached| (attached, None));
        }
        other => other.doing("attach the mount")?,
    };
    if let Some(covered) = covered {
        copy_up::copy(covered.as_fd(), attached.as_fd()).doing("copy what the tmpfs covers")?;
    }
    if fs.fstype == "mqueue"
        && let Some(label) = &site.plan.mount_label
    {
        let set = || file::setxattr(&own_fd::own(attached.as_fd()), "security.selinux", label.label.as_bytes());
        site.proc.within(set).doing("label the mount")?;
    }
    Ok((attached, late))
}

/// What must still be filled becomes read-only at the end: `/dev`, and a tmpfs, which begins empty. The answer is
/// what to mount it with, and whether (and how far down) that has to follow.
fn deferred(target: &Target, fs: &Filesystem, mount: &Mount, wanted: u64) -> (u64, Option<bool>) {
    let late = wanted & attribute::RDONLY != 0 && (fs.fstype == "tmpfs" || target.path == Path::new("dev"));
    match late {
        true => (wanted & !attribute::RDONLY, Some(mount.recursive.set & attribute::RDONLY != 0)),
        false => (wanted, None),
    }
}

/// A tmpfs without a mode takes that of the directory it covers. (Where nothing was, it keeps its own 1777: a
/// directory made for it alone has no mode of its own to pass on.)
fn inherits_mode(fs: &Filesystem) -> bool {
    fs.fstype == "tmpfs" && !fs.data.iter().any(|option| option.key == "mode")
}

/// procfs and sysfs only go where no link has led: whoever reads /proc must get this one (CVE-2019-19921,
/// CVE-2023-27561, CVE-2025-54867).
fn ordinary_directory(site: Site<'_>, mount: &Mount, fs: &Filesystem) -> Result<Target> {
    let must = || {
        let sentence = format!("filesystem {:?} must be mounted on ordinary directory", fs.fstype);
        Error::new(Kind::Invalid, sentence)
    };
    let target = match target::resolve(site.root, &mount.destination, Links::Refuse, || Ok(Missing::Directory)) {
        Err(error) if matches!(error.errno(), Some(Errno::ELOOP | Errno::ENOTDIR)) => return Err(must()),
        other => other.doing("find the destination")?,
    };
    let guest = if fs.fstype == "proc" { Guest::Proc } else { Guest::Other };
    target::judge(&target.path, guest)?;
    Ok(target)
}

// ---- changes to what is there

fn remount(site: Site<'_>, mount: &Mount, fs: &Filesystem) -> Result<OwnedFd> {
    let target = existing(site, mount)?;
    if !fs.data.is_empty() || !fs.superblock_flags.is_empty() {
        let options = options_of(fs);
        mount_api::reconfigure(target.fd.as_fd(), &options, site.proc).doing("change the filesystem's options")?;
    }
    change_attached(site, mount, target.fd.as_fd())?;
    Ok(target.fd)
}

/// Attributes of a mount that is in its place already.
pub(super) fn change_attached(site: Site<'_>, mount: &Mount, at: BorrowedFd<'_>) -> Result<()> {
    for (attributes, recursive) in [(mount.attributes, false), (mount.recursive, true)] {
        if attributes != Attributes::default() {
            let what = MountAttr { set: attributes.set, clear: attributes.clear, ..MountAttr::default() };
            mount_setattr::set_attached(at, &Change { what, recursive }, site.proc).doing("set the options")?;
        }
    }
    Ok(())
}

/// Whether a bind's source names something of another process, which only the parent's namespaces contain.
pub(super) fn is_door(source: &Path) -> bool {
    let mut names = source.iter().skip(1);
    names.next() == Some(OsStr::new("proc"))
        && names.next().is_some()
        && names.any(|name| ["fd", "root", "cwd", "map_files"].iter().any(|door| name == OsStr::new(door)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn doors_are_known() {
        for (path, door) in [
            ("/proc/12/fd/3", true),
            ("/proc/self/root/etc", true),
            ("/proc/1/task/1/cwd", true),
            ("/proc", false),
            ("/proc/sys/fd", true),
            ("/data/proc/1/fd/2", false),
            ("fd", false),
        ] {
            assert_eq!(is_door(Path::new(path)), door, "{path}");
        }
    }
}
