//! needs    fsopen(2), fsmount(2), open_tree(2), move_mount(2)
//! since    Linux 5.2
//! instead  mount(2) on a trusted /proc/self/fd/N, whose new mount is then opened again by its path
//! loses    completeness before visibility, mounts lent by another namespace, and the file system's own words

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::Road;
use super::mount_setattr::{self, Change, attribute};
use super::own_fd::{Procfs, own};
use crate::error::{Cause, Context, Error, Kind, Result};
use crate::sys::file::{self, FileType, Mode, OFlags};
use crate::sys::mount::{self, MountFlags, OpenTreeFlags};
use crate::sys::{self, Refused};

pub(crate) static CONTEXTS: Road = Road::new();
pub(crate) static TREES: Road = Road::new();
static MOVES: Road = Road::new();

const MS_REMOUNT: u32 = 0x20;
const MS_MOVE: u32 = 0x2000;

/// An option of a filesystem: a word, or a word with a value.
pub type FsOption<'a> = (&'a str, Option<&'a str>);

/// A new filesystem, as both roads need it said.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// Type, as in /proc/filesystems.
    pub fstype: &'a str,
    /// Source: a device, or a name for show.
    pub source: Option<&'a str>,
    /// Options of the filesystem and flags of the superblock (`ro`, `sync`), in order.
    pub options: Vec<FsOption<'a>>,
    /// MOUNT_ATTR_* of the mount.
    pub attributes: u64,
}

/// A mount nobody can see yet.
#[derive(Debug)]
pub struct Detached(Way);

#[derive(Debug)]
enum Way {
    /// The mount itself, and changes that must wait until it is attached.
    Tree(OwnedFd, Vec<Change<'static>>),
    /// The old road: what will be done at the target.
    Promise(Promise),
}

#[derive(Debug)]
struct Promise {
    what: Promised,
    later: Vec<Change<'static>>,
}

#[derive(Debug)]
enum Promised {
    Bind { source: OwnedFd, recursive: bool },
    Filesystem { fstype: String, source: Option<String>, flags: u64, data: String },
}

/// Whether a copy takes along what is mounted below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This mount alone.
    One,
    /// And everything below it.
    Tree,
}

impl Detached {
    /// A mount that came complete from another process.
    pub fn lent(tree: OwnedFd) -> Self {
        Detached(Way::Tree(tree, Vec::new()))
    }

    /// A new filesystem.
    ///
    /// # Errors
    /// Carry what the filesystem itself said, where it said something.
    pub fn filesystem(recipe: &Recipe<'_>) -> Result<Self> {
        Self::filesystem_of(recipe, None)
    }

    /// A new procfs, which shows the processes of this pid namespace instead of our own (Linux 6.18).
    pub fn procfs_of(recipe: &Recipe<'_>, pid_namespace: BorrowedFd<'_>) -> Result<Self> {
        Self::filesystem_of(recipe, Some(pid_namespace))
    }

    fn filesystem_of(recipe: &Recipe<'_>, pid_namespace: Option<BorrowedFd<'_>>) -> Result<Self> {
        if !can_attach() || !can_say(recipe.source, &recipe.options) {
            return Ok(promise(recipe)?);
        }
        let Some(context) = CONTEXTS.take(|| mount::fsopen(recipe.fstype), harmless_context)? else {
            return Ok(promise(recipe)?);
        };
        match configure(context.as_fd(), recipe, pid_namespace) {
            Err(refused) if refused.errno == sys::Errno::ENOSYS => {
                CONTEXTS.close();
                Ok(promise(recipe)?)
            }
            other => other.map_err(|refused| explain(context.as_fd(), refused)),
        }
    }

    /// A copy of what is mounted at `path`, following links unless `flags` has AT_SYMLINK_NOFOLLOW; an empty
    /// `path` is `dir` itself.
    pub fn copy(dir: BorrowedFd<'_>, path: &Path, reach: Reach, flags: OpenTreeFlags) -> sys::Result<Self> {
        let mut all = flags | OpenTreeFlags::OPEN_TREE_CLONE;
        if reach == Reach::Tree {
            all |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = match can_attach() {
            true => TREES.take(|| mount::open_tree(dir, path, all), harmless_tree)?,
            false => None,
        };
        if let Some(tree) = tree {
            return Ok(Self::lent(tree));
        }
        let mut open = OFlags::PATH;
        if flags.contains(OpenTreeFlags::AT_SYMLINK_NOFOLLOW) {
            open |= OFlags::NOFOLLOW;
        }
        let source = if path.as_os_str().is_empty() {
            dir.try_clone_to_owned().map_err(sys::refused!("fcntl", "{}, F_DUPFD_CLOEXEC", sys::fd(&dir)))?
        } else {
            file::openat(dir, path, open, Mode::empty())?
        };
        let what = Promised::Bind { source, recursive: reach == Reach::Tree };
        Ok(Detached(Way::Promise(Promise { what, later: Vec::new() })))
    }

    /// What is (or will be) at the mount's root; `None` where it does not exist yet.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Way::Tree(tree, _) => Some(tree.as_fd()),
            Way::Promise(Promise { what: Promised::Bind { source, .. }, .. }) => Some(source.as_fd()),
            Way::Promise(_) => None,
        }
    }

    /// The mount itself, to be lent to another process.
    ///
    /// # Errors
    /// `Unsupported` on the old road: there a mount exists only where it is mounted.
    pub fn lend(self) -> Result<OwnedFd> {
        match self.0 {
            Way::Tree(tree, later) if later.is_empty() => Ok(tree),
            _ => Err(Error::new(Kind::Unsupported, "lending a mount to another namespace needs Linux 5.12")),
        }
    }

    /// Changes attributes, propagation or mapping before anybody sees the mount.
    pub fn change(&mut self, change: &Change<'_>) -> sys::Result<()> {
        let what = change.what;
        if what.user_namespace.is_some() && !matches!(self.0, Way::Tree(..)) {
            return Err(Refused::new("mount_setattr", format_args!("MOUNT_ATTR_IDMAP"), sys::Errno::ENOSYS));
        }
        let later = match &mut self.0 {
            Way::Tree(tree, later) => {
                if mount_setattr::set(tree.as_fd(), change)? {
                    return Ok(());
                }
                later
            }
            Way::Promise(promise) => &mut promise.later,
        };
        let (set, clear, propagation) = (what.set, what.clear, what.propagation);
        let what = mount::MountAttr { set, clear, propagation, user_namespace: None };
        later.push(Change { what, recursive: change.recursive });
        Ok(())
    }

    /// Attaches it at `at`, and returns the handle of what is then there. `again` opens the same place anew: the
    /// old road needs it, because its handle still lies below the mount.
    pub fn attach(self, at: BorrowedFd<'_>, proc: &Procfs, again: impl FnOnce() -> Result<OwnedFd>) -> Result<OwnedFd> {
        let (attached, later) = match self.0 {
            Way::Tree(tree, later) => {
                move_onto(tree.as_fd(), at)?;
                (tree, later)
            }
            Way::Promise(promise) => {
                promise.what.keep(at, proc)?;
                (again().doing("open what was mounted")?, promise.later)
            }
        };
        for change in later {
            mount_setattr::set_attached(attached.as_fd(), &change, proc)?;
        }
        Ok(attached)
    }
}

impl Promised {
    fn keep(&self, at: BorrowedFd<'_>, proc: &Procfs) -> Result<()> {
        let target = own(at);
        match self {
            Promised::Bind { source, recursive } => {
                let flags = MountFlags::BIND | if *recursive { MountFlags::REC } else { MountFlags::empty() };
                proc.within(|| mount::mount(Some(&own(source.as_fd())), &target, None, flags, None))
            }
            Promised::Filesystem { fstype, source, flags, data } => {
                let source = source.as_deref().map(Path::new);
                let flags = MountFlags::from_bits_retain(*flags as u32);
                proc.within(|| mount::mount(source, &target, Some(fstype), flags, Some(data)))
            }
        }
    }
}

/// As move_mount(2), with mount(2)'s answer where a directory and another kind of file meet, for which engines look: `ENOTDIR`
/// and not `EINVAL`.
fn move_onto(tree: BorrowedFd<'_>, at: BorrowedFd<'_>) -> sys::Result<()> {
    let is_directory = |fd| file::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    match mount::move_mount(tree, at) {
        Err(refused) if refused.errno == sys::Errno::EINVAL && is_directory(tree)? != is_directory(at)? => {
            Err(Refused { errno: sys::Errno::ENOTDIR, ..refused })
        }
        other => other,
    }
}

/// Moves an attached mount over `/`.
pub fn move_over_root(mount: BorrowedFd<'_>, proc: &Procfs) -> Result<()> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let root = file::openat(file::CWD, Path::new("/"), directory, Mode::empty())?;
    let moved = TREES.take(|| mount::move_mount(mount, root.as_fd()), harmless_tree)?;
    match moved {
        Some(()) => Ok(()),
        None => {
            let flags = MountFlags::from_bits_retain(MS_MOVE);
            proc.within(|| mount::mount(Some(&own(mount)), Path::new("/"), None, flags, None))
        }
    }
}

/// Gives the filesystem mounted at the handle new options.
///
/// # Errors
/// Carry what the filesystem itself said, where it said something.
pub fn reconfigure(at: BorrowedFd<'_>, options: &[FsOption<'_>], proc: &Procfs) -> Result<()> {
    let picked = match can_say(None, options) {
        true => CONTEXTS.take(|| mount::fspick(at), harmless_context)?,
        false => None,
    };
    if let Some(context) = picked {
        let context = context.as_fd();
        return give(context, options)
            .and_then(|()| mount::fsconfig_reconfigure(context))
            .map_err(|refused| explain(context, refused));
    }
    let (flags, data) = words(options)?;
    // A remount replaces the attributes of the mount as well.
    let kept = mount_setattr::mount_flags(mount_setattr::attributes_of(file::fstatfs(at)?.flags));
    let flags = MountFlags::from_bits_retain((flags | kept) as u32 | MS_REMOUNT);
    proc.within(|| mount::mount(None, &own(at), None, flags, Some(&data)))
}

/// Whether a mount can be made here and lent to another process.
pub fn can_lend() -> bool {
    can_attach() && CONTEXTS.take(|| mount::fsopen("proc"), harmless_context).is_ok_and(|taken| taken.is_some())
}

/// Whether what is made detached can be attached later: nothing but move_mount(2) does that.
fn can_attach() -> bool {
    let probe = || match mount::move_mount_probe() {
        Err(refused) if refused.errno == sys::Errno::ENOSYS => Err(refused),
        _ => Ok(()),
    };
    MOVES.is_open() || MOVES.take(probe, || Ok(())).is_ok_and(|taken| taken.is_some())
}

/// Whether fsconfig(2) can be told this: it takes no string longer than 255 bytes, which lists of overlay's layers are, and
/// has no word for SB_I_VERSION.
fn can_say(source: Option<&str>, options: &[FsOption<'_>]) -> bool {
    const LONGEST: usize = 255;
    let flags_alone = |(key, value): &FsOption<'_>| value.is_none() && matches!(*key, "iversion" | "noiversion");
    source.is_none_or(|source| source.len() <= LONGEST)
        && options.iter().all(|(_, value)| value.is_none_or(|value| value.len() <= LONGEST))
        && !options.iter().any(flags_alone)
}

/// Only a filter, or a kernel without the call, refuses this: without a copy nobody's rights are asked.
fn harmless_tree() -> sys::Result<()> {
    mount::open_tree(file::CWD, Path::new("/"), OpenTreeFlags::empty()).map(drop)
}

fn harmless_context() -> sys::Result<()> {
    mount::fsopen("tmpfs").map(drop)
}

fn give(context: BorrowedFd<'_>, options: &[FsOption<'_>]) -> sys::Result<()> {
    for (key, value) in options {
        match value {
            Some(value) => mount::fsconfig_set_string(context, key, value)?,
            None => mount::fsconfig_set_flag(context, key)?,
        }
    }
    Ok(())
}

fn configure(
    context: BorrowedFd<'_>,
    recipe: &Recipe<'_>,
    pid_namespace: Option<BorrowedFd<'_>>,
) -> sys::Result<Detached> {
    if let Some(source) = recipe.source {
        mount::fsconfig_set_string(context, "source", source)?;
    }
    if let Some(of) = pid_namespace {
        mount::fsconfig_set_fd(context, "pidns", of)?;
    }
    give(context, &recipe.options)?;
    mount::fsconfig_create(context)?;
    mount::fsmount(context, recipe.attributes as u32).map(Detached::lent)
}

/// Adds what the filesystem said: its errno alone seldom tells which option it meant.
fn explain(context: BorrowedFd<'_>, refused: Refused) -> Error {
    let mut said = Vec::new();
    // The kernel keeps the last few lines only.
    while said.len() < 8
        && let Some(line) = mount::read_message(context)
    {
        // `e tmpfs: Bad value`: the letter tells error, warning or information.
        said.push(line.get(2..).unwrap_or_default().to_owned());
    }
    let context = if said.is_empty() { Vec::new() } else { vec![said.join("; ").into()] };
    Error::from_parts(Kind::Other, context, Cause::Refused(refused))
}

/// Options as mount(2) takes them: flags for those that are the superblock's, and one string for the rest.
///
/// # Errors
/// `E2BIG` for more than a page of them: the kernel would leave out the rest and say nothing.
fn words(options: &[FsOption<'_>]) -> sys::Result<(u64, String)> {
    /// The smallest page of any machine; its last byte is the string's end.
    const PAGE: usize = 4096;
    let mut flags = 0;
    let mut data: Vec<String> = Vec::new();
    for (key, value) in options {
        let flag = match *key {
            "ro" => 0x1,
            "sync" => 0x10,
            "mand" => 0x40,
            "dirsync" => 0x80,
            "iversion" => 1 << 23,
            "lazytime" => 1 << 25,
            _ => 0,
        };
        match value {
            None if flag != 0 => flags |= flag,
            // What is not said is not set: mount(2) with MS_REMOUNT replaces all flags.
            None if matches!(*key, "async" | "nomand" | "noiversion" | "nolazytime") => {}
            None => data.push((*key).to_owned()),
            // The categories of a SELinux context are separated by commas, as options are.
            Some(value) if matches!(*key, "context" | "fscontext" | "defcontext" | "rootcontext") => {
                data.push(format!("{key}=\"{value}\""))
            }
            Some(value) => data.push(format!("{key}={value}")),
        }
    }
    let data = data.join(",");
    if data.len() >= PAGE {
        return Err(Refused::new("mount", format_args!("{} bytes of options", data.len()), sys::Errno::E2BIG));
    }
    Ok((flags, data))
}

fn promise(recipe: &Recipe<'_>) -> sys::Result<Detached> {
    let (flags, data) = words(&recipe.options)?;
    let what = Promised::Filesystem {
        fstype: recipe.fstype.to_owned(),
        source: recipe.source.map(str::to_owned),
        flags: flags | mount_setattr::mount_flags(recipe.attributes & !attribute::IDMAP),
        data,
    };
    Ok(Detached(Way::Promise(Promise { what, later: Vec::new() })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::{can_say, words};
    use crate::sys::Errno;

    #[test]
    fn a_context_is_one_option_whatever_its_commas() {
        let options = [("ro", None), ("mode", Some("755")), ("context", Some("a:b:c:s0:c1,c2"))];
        assert_eq!(words(&options), Ok((1, "mode=755,context=\"a:b:c:s0:c1,c2\"".to_owned())));
    }

    #[test]
    fn flags_of_the_superblock_are_no_data() {
        let options = [("sync", None), ("iversion", None), ("nolazytime", None), ("size", Some("1m"))];
        assert_eq!(words(&options), Ok((0x10 | 1 << 23, "size=1m".to_owned())));
        let long = "x".repeat(4091);
        assert_eq!(words(&[("size", Some(&long))]).unwrap_err().errno, Errno::E2BIG);
    }

    #[test]
    fn the_new_calls_cannot_say_everything() {
        let (short, long) = ("x".repeat(255), "x".repeat(256));
        assert!(can_say(Some(&short), &[("lowerdir", Some(&short)), ("sync", None)]));
        assert!(!can_say(Some(&long), &[]));
        assert!(!can_say(None, &[("lowerdir", Some(&long))]));
        assert!(!can_say(None, &[("iversion", None)]));
    }
}
