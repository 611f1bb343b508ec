//! The mount API by descriptor (Linux 5.2 and 5.12), and the old mount(2).
//!
//! The new calls take handles with empty paths wherever the target lies in a rootfs: there is then no string
//! left for a hostile rootfs to answer with a symbolic link.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags};
pub use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags};

use super::{Errno, Refused, Result, fd, refused};

/// Opens a context for a new filesystem of this type.
///
/// fsopen(2), Linux 5.2.
pub fn fsopen(fstype: &str) -> Result<OwnedFd> {
    rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(refused!("fsopen", "{fstype:?}"))
}

/// Opens a context for an existing filesystem, the one mounted at the handle.
///
/// fspick(2), Linux 5.2.
pub fn fspick(at: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::mount::fspick(at, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH).map_err(refused!(
        "fspick",
        "{}, \"\"",
        fd(&at)
    ))
}

/// Gives an option with a value to a filesystem context.
///
/// fsconfig(2) with FSCONFIG_SET_STRING, Linux 5.2.
pub fn fsconfig_set_string(context: BorrowedFd<'_>, key: &str, value: &str) -> Result<()> {
    rustix::mount::fsconfig_set_string(context, key, value)
        .map_err(refused!("fsconfig", "SET_STRING, {key:?}, {value:?}"))
}

/// Gives a bare option to a filesystem context.
///
/// fsconfig(2) with FSCONFIG_SET_FLAG, Linux 5.2.
pub fn fsconfig_set_flag(context: BorrowedFd<'_>, key: &str) -> Result<()> {
    rustix::mount::fsconfig_set_flag(context, key).map_err(refused!("fsconfig", "SET_FLAG, {key:?}"))
}

/// Gives an option that is a descriptor to a filesystem context.
///
/// fsconfig(2) with FSCONFIG_SET_FD, Linux 5.2.
pub fn fsconfig_set_fd(context: BorrowedFd<'_>, key: &str, value: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::fsconfig_set_fd(context, key, value).map_err(refused!("fsconfig", "SET_FD, {key:?}, {}", fd(&value)))
}

/// Makes (or finds) the superblock that a context describes.
///
/// fsconfig(2) with FSCONFIG_CMD_CREATE, Linux 5.2.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::fsconfig_create(context).map_err(refused!("fsconfig", "CMD_CREATE"))
}

/// Gives a picked superblock its new options.
///
/// fsconfig(2) with FSCONFIG_CMD_RECONFIGURE, Linux 5.2.
pub fn fsconfig_reconfigure(context: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::fsconfig_reconfigure(context).map_err(refused!("fsconfig", "CMD_RECONFIGURE"))
}

/// The next message of a filesystem context (`e tmpfs: Bad value for 'size'`); `None` when there is none.
///
/// read(2) on the context, Linux 5.2.
pub fn read_message(context: BorrowedFd<'_>) -> Option<String> {
    let mut buffer = [0_u8; 1024];
    let length = rustix::io::read(context, &mut buffer).ok()?;
    let text = String::from_utf8_lossy(buffer.get(..length)?);
    Some(text.trim_end().to_owned())
}

/// Makes a detached mount of a created filesystem, with these MOUNT_ATTR_* attributes.
///
/// fsmount(2), Linux 5.2.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u32) -> Result<OwnedFd> {
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes))
        .map_err(refused!("fsmount", "{attributes:#x}"))
}

/// Takes hold of the mount at `path`, or with OPEN_TREE_CLONE of a detached copy of it.
///
/// open_tree(2), Linux 5.2. OPEN_TREE_CLOEXEC is added, and AT_EMPTY_PATH where `path` is empty.
pub fn open_tree(dir: BorrowedFd<'_>, path: &Path, flags: OpenTreeFlags) -> Result<OwnedFd> {
    let mut all = flags | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        all |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(dir, path, all).map_err(refused!("open_tree", "{}, {path:?}, {flags:?}", fd(&dir)))
}

/// Attaches the mount behind `from` at `at`.
///
/// move_mount(2), Linux 5.2. Empty paths on both sides: a handle is moved onto a handle.
pub fn move_mount(from: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::move_mount(
        from,
        c"",
        at,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .map_err(refused!("move_mount", "{}, {}", fd(&from), fd(&at)))
}

/// Whether there is a move_mount(2) at all: it is called with flags that do not exist.
///
/// # Errors
/// Always: `EINVAL` (or `EPERM`, which is looked at before) where it exists, `ENOSYS` where not.
pub fn move_mount_probe() -> Result<()> {
    let flags = MoveMountFlags::from_bits_retain(u32::MAX);
    let cwd = rustix::fs::CWD;
    rustix::mount::move_mount(cwd, c"", cwd, c"", flags).map_err(refused!("move_mount", "a probe"))
}

/// What [`mount_setattr`] changes (`struct mount_attr`).
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr<'a> {
    /// MOUNT_ATTR_* to switch on.
    pub set: u64,
    /// MOUNT_ATTR_* to switch off.
    pub clear: u64,
    /// One of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE; 0 leaves the propagation.
    pub propagation: u64,
    /// User namespace whose mapping the mount gets (with MOUNT_ATTR_IDMAP in `set`).
    pub user_namespace: Option<BorrowedFd<'a>>,
}

/// `struct mount_attr` as the kernel reads it (MOUNT_ATTR_SIZE_VER0).
#[repr(C)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of the mount behind the handle; `recursive`: and of all below it.
///
/// mount_setattr(2), Linux 5.12.
pub fn mount_setattr(at: BorrowedFd<'_>, recursive: bool, change: &MountAttr<'_>) -> Result<()> {
    let raw = RawMountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        // A descriptor is never negative.
        userns_fd: change.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is borrowed for the length of the call, the path is a NUL-terminated literal, and
    // the structure is initialised, of the size given, and only read by the kernel.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    if done == 0 {
        return Ok(());
    }
    let MountAttr { set, clear, propagation, .. } = change;
    Err(Refused::new(
        "mount_setattr",
        format_args!(
            "{}, {}set {set:#x}, clear {clear:#x}, propagation {propagation:#x}",
            fd(&at),
            if recursive { "AT_RECURSIVE, " } else { "" }
        ),
        Errno::last(),
    ))
}

/// Mounts, binds, remounts, moves or changes propagation, by path.
///
/// mount(2). For the old roads of `crate::compat` alone: `target` is a name below a trusted /proc/self/fd.
pub fn mount(
    source: Option<&Path>,
    target: &Path,
    fstype: Option<&str>,
    flags: MountFlags,
    data: Option<&str>,
) -> Result<()> {
    nix::mount::mount(source, target, fstype, nix::mount::MsFlags::from_bits_retain(u64::from(flags.bits()) as _), data)
        .map_err(refused!("mount", "{source:?}, {target:?}, {fstype:?}, {flags:?}, {data:?}"))
}

/// Detaches the mount at `path`.
///
/// umount2(2); MNT_DETACH since Linux 2.4.11, UMOUNT_NOFOLLOW since 2.6.34.
pub fn umount2(path: &Path, flags: UnmountFlags) -> Result<()> {
    rustix::mount::unmount(path, flags).map_err(refused!("umount2", "{path:?}, {flags:?}"))
}

/// Makes `new_root` the root mount, and hangs the old one at `put_old`.
///
/// pivot_root(2), Linux 2.3.41.
pub fn pivot_root(new_root: &Path, put_old: &Path) -> Result<()> {
    rustix::process::pivot_root(new_root, put_old).map_err(refused!("pivot_root", "{new_root:?}, {put_old:?}"))
}
