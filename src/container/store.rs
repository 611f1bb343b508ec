//! The state directory: `<root>/<id>`, one for each container, and what lies in it.
//!
//! Making the directory is the exclusive claim on the id: whoever's mkdir succeeds creates the container.
//! Everything in it is reached through the handle of the directory, never following a symbolic link, and
//! changed by renaming a finished file over the old one, so a reader that takes no lock sees one state or the other.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::record::{LAYOUT, Record};
use crate::sys::Errno;
use crate::sys::file::{self, AtFlags, CWD, FileType, Mode, OFlags};
use crate::sys::lock::{self, Flock};
use crate::sys::process;
use crate::{Error, Kind, Result, error::Context};

/// Longest id, in bytes: it must be the name of a directory, and leave room in a cgroup's name.
pub const LONGEST_ID: usize = 250;

/// Name of the gate, the FIFO at which init waits for `start`.
pub const FIFO: &str = "exec.fifo";

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const RESOURCES: &str = "resources.json";

/// A record and a config of more bytes than this are not ours to read.
const LARGEST_FILE: u64 = 64 << 20;

/// The directory of one container, open.
#[derive(Debug)]
pub struct StateDir {
    dir: OwnedFd,
    path: PathBuf,
    id: String,
}

/// The sole right to change a container, held until dropped.
///
/// A fork copies the descriptor and with it the lock, so dropping unlocks instead of only closing.
#[derive(Debug)]
pub struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        let _closing_unlocks_too = lock::unlock(self.0.as_fd());
    }
}

/// Refuses what cannot be an id: anything but `[A-Za-z0-9_+.-]+`, and `.` and `..`.
pub fn check_id(id: &str) -> Result<()> {
    let sound = !id.is_empty()
        && id.len() <= LONGEST_ID
        && id != "."
        && id != ".."
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte));
    if sound {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, "invalid container ID format"))
}

/// The error for an id that nobody has.
pub fn does_not_exist() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

impl StateDir {
    /// Claims an id: makes `<root>/<id>` (mode 0711), and `root` (mode 0700) where it is missing.
    ///
    /// # Errors
    /// `container with given ID already exists` ([`Kind::Exists`]) for an id that is taken.
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        let mut made = file::mkdirat(CWD, &path, Mode::from_raw_mode(0o711));
        if made.as_ref().is_err_and(|refused| refused.errno == Errno::ENOENT) {
            make_root(root)?;
            made = file::mkdirat(CWD, &path, Mode::from_raw_mode(0o711));
        }
        match made {
            Ok(()) => {}
            Err(refused) if refused.errno == Errno::EEXIST => {
                return Err(Error::new(Kind::Exists, "container with given ID already exists"));
            }
            Err(refused) => return Err(refused).doing("make the state directory"),
        }
        Self::take(&path, id).inspect_err(|_| {
            let _ = file::unlinkat(CWD, &path, AtFlags::REMOVEDIR);
        })
    }

    /// Takes possession of the directory that was made.
    fn take(path: &Path, id: &str) -> Result<Self> {
        let dir = open_directory(CWD, path).doing("open the state directory")?;
        let claimed = StateDir { dir, path: path.to_owned(), id: id.to_owned() };
        claimed.check_owner()?;
        // The umask must not take the search permission that init, as the container's root, may need.
        file::fchmod(claimed.dirfd(), Mode::from_raw_mode(0o711)).doing("make the state directory")?;
        Ok(claimed)
    }

    /// Opens the directory of an id.
    ///
    /// # Errors
    /// `container does not exist` ([`Kind::NotFound`]).
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        match open_directory(CWD, &path) {
            Ok(dir) => Ok(StateDir { dir, path, id: id.to_owned() }),
            Err(refused) if matches!(refused.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                Err(does_not_exist())
            }
            Err(refused) => Err(refused).doing("open the state directory"),
        }
    }

    /// Refuses a directory that somebody else can write to: what lies in it says whom we kill, what we unmount and which
    /// hooks we run. Root of the host is trusted by everybody, and trusts itself alone.
    pub fn check_owner(&self) -> Result<()> {
        let about = file::fstat(self.dirfd())?;
        let (_, user) = process::user_ids();
        let why = match about.st_uid {
            owner if owner != user && owner != 0 => format!("it belongs to user {owner}"),
            _ if about.st_mode & 0o022 != 0 => format!("its mode is {:04o}", about.st_mode & 0o7777),
            _ => return Ok(()),
        };
        let sentence = format!("the state directory {} can be changed by others: {why}", self.path.display());
        Err(Error::new(Kind::Invalid, sentence))
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the directory is, for messages and for programs that need a path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    pub fn dirfd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Waits for the sole right to change this container, at most this long.
    ///
    /// # Errors
    /// `container does not exist` where it was removed in the meantime; [`Kind::WrongState`] where somebody
    /// else is still at work when the time is over.
    pub fn lock(&self, at_most: Duration) -> Result<Lock> {
        // An open file of its own: two locks on one handle would not exclude each other.
        let file = self.open_again()?;
        let end = Instant::now() + at_most;
        let mut pause = Duration::from_micros(200);
        while !lock::try_flock(file.as_fd(), Flock::Alone).doing("lock the container")? {
            if Instant::now() >= end {
                return Err(Error::new(Kind::WrongState, "another command is at work on this container"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        let lock = Lock(file);
        if !self.is_there()? {
            return Err(does_not_exist());
        }
        Ok(lock)
    }

    /// Whether somebody holds the lock right now: for a container that is still being made, whether its maker lives.
    pub fn is_locked(&self) -> Result<bool> {
        let file = self.open_again()?;
        let free = lock::try_flock(file.as_fd(), Flock::Shared).doing("look at the container's lock")?;
        if free {
            lock::unlock(file.as_fd()).doing("look at the container's lock")?;
        }
        Ok(!free)
    }

    /// Whether the directory still has its name.
    pub fn is_there(&self) -> Result<bool> {
        Ok(file::fstat(self.dirfd())?.st_nlink > 0)
    }

    /// Who owns the directory, and so the container.
    pub fn owner(&self) -> Result<u32> {
        Ok(file::fstat(self.dirfd())?.st_uid)
    }

    /// Replaces the record as a whole.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let mut text = serde_json::to_vec(record)
            .map_err(|why| Error::new(Kind::Other, format!("cannot write the container's state: {why}")))?;
        text.push(b'\n');
        self.replace(RECORD, &text).doing("save the container's state")
    }

    /// The record; `None` where creation has not come that far.
    pub fn read_record(&self) -> Result<Option<Record>> {
        let Some(text) = self.read(RECORD).doing("read the container's state")? else { return Ok(None) };
        let unreadable = |why: &dyn std::fmt::Display| {
            Error::new(Kind::Other, format!("{} cannot be understood: {why}", self.path.join(RECORD).display()))
        };
        let record: Record = serde_json::from_slice(&text).map_err(|why| unreadable(&why))?;
        if record.layout != LAYOUT {
            return Err(unreadable(&format_args!("it has layout {}, this orlop knows {LAYOUT}", record.layout)));
        }
        Ok(Some(record))
    }

    /// Keeps the bytes of the `config.json` that makes this container.
    pub fn save_config(&self, bytes: &[u8]) -> Result<()> {
        self.replace(CONFIG, bytes).doing("save the container's config.json")
    }

    /// The bytes of the `config.json` that made this container.
    pub fn config(&self) -> Result<Vec<u8>> {
        let text = self.read(CONFIG).doing("read the container's config.json")?;
        text.ok_or_else(|| Error::new(Kind::Other, "the container's saved config.json is gone"))
    }

    /// Keeps the resources (`linux.resources` as JSON) that `update` has given the container.
    pub fn save_resources(&self, bytes: &[u8]) -> Result<()> {
        self.replace(RESOURCES, bytes).doing("save the container's resources")
    }

    /// The resources that `update` has given the container; `None` where it still has those of its config.
    pub fn resources(&self) -> Result<Option<Vec<u8>>> {
        self.read(RESOURCES).doing("read the container's resources")
    }

    /// Makes the FIFO at which init waits (mode 0622: who starts the container may be somebody else than init).
    pub fn make_fifo(&self) -> Result<()> {
        let (fifo, mode) = (Path::new(FIFO), Mode::from_raw_mode(0o622));
        file::mknodat(self.dirfd(), fifo, FileType::Fifo, mode, (0, 0)).doing("make the start FIFO")?;
        // The umask has taken bits from the mode. Nobody else can have put a link here: the directory is ours alone.
        file::fchmodat(self.dirfd(), fifo, mode).doing("make the start FIFO")
    }

    /// Opens the FIFO; with WRONLY and NONBLOCK, ENXIO means that nobody is at its other end.
    ///
    /// # Errors
    /// Also for anything but a FIFO of that name.
    pub fn open_fifo(&self, flags: OFlags) -> Result<OwnedFd> {
        let fifo = file::openat(self.dirfd(), Path::new(FIFO), flags | OFlags::NOFOLLOW, Mode::empty())?;
        if FileType::from_raw_mode(file::fstat(fifo.as_fd())?.st_mode) != FileType::Fifo {
            return Err(Error::new(Kind::Other, "exec.fifo is not the FIFO that orlop made"));
        }
        Ok(fifo)
    }

    /// Whether the FIFO is there: the container was created and not started.
    pub fn has_fifo(&self) -> Result<bool> {
        match file::fstatat(self.dirfd(), Path::new(FIFO)) {
            Ok(_) => Ok(true),
            Err(refused) if refused.errno == Errno::ENOENT => Ok(false),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Takes the FIFO away: the container has been started. Its absence is fine.
    pub fn remove_fifo(&self) -> Result<()> {
        gone(unlink(self.dirfd(), FIFO.as_ref())).doing("remove the start FIFO")
    }

    /// Removes the directory and all that is in it, links as links. What is gone already is fine.
    pub fn remove(&self) -> Result<()> {
        if !self.is_there()? {
            return Ok(());
        }
        empty(self.dir.as_fd()).doing("remove the state directory")?;
        gone(file::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR)).doing("remove the state directory")
    }

    fn open_again(&self) -> Result<OwnedFd> {
        match open_directory(self.dirfd(), Path::new(".")) {
            Ok(file) => Ok(file),
            Err(refused) if refused.errno == Errno::ENOENT => Err(does_not_exist()),
            Err(refused) => Err(refused).doing("open the state directory"),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let draft = PathBuf::from(format!(".{name}.{}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let open = || file::openat(self.dirfd(), &draft, flags, Mode::from_raw_mode(0o600));
        let new = match open() {
            Err(refused) if refused.errno == Errno::EEXIST => {
                // Left behind by a process of our number that was killed.
                unlink(self.dirfd(), &draft)?;
                open()?
            }
            other => other?,
        };
        let done = file::write_all(new, bytes).and_then(|()| file::renameat(self.dirfd(), &draft, Path::new(name)));
        if done.is_err() {
            let _best_effort = unlink(self.dirfd(), &draft);
        }
        Ok(done?)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let found = match file::openat(self.dirfd(), Path::new(name), flags, Mode::empty()) {
            Ok(found) => found,
            Err(refused) if refused.errno == Errno::ENOENT => return Ok(None),
            Err(refused) => return Err(refused.into()),
        };
        let about = file::fstat(found.as_fd())?;
        let small = u64::try_from(about.st_size).is_ok_and(|size| size <= LARGEST_FILE);
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile || !small {
            return Err(Error::new(Kind::Other, format!("{name} is not a file that orlop wrote")));
        }
        Ok(Some(file::read_all(found, LARGEST_FILE)?))
    }
}

/// The ids under a root that may be containers, in the order of their names. A root that is missing has none.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    // The root itself may be a link: whoever names it has chosen it.
    let dir = open_directory(CWD, &root.join("."))?;
    let mut ids: Vec<String> = file::getdents(dir.as_fd())?
        .into_iter()
        .filter(|(_, kind)| matches!(kind, FileType::Directory | FileType::Unknown))
        .filter_map(|(name, _)| OsString::into_string(name).ok())
        .filter(|name| check_id(name).is_ok())
        .collect();
    ids.sort();
    Ok(ids)
}

fn make_root(root: &Path) -> Result<()> {
    if let Some(above) = root.parent().filter(|above| !above.as_os_str().is_empty())
        && !above.exists()
    {
        make_root(above)?;
    }
    match file::mkdirat(CWD, root, Mode::from_raw_mode(0o700)) {
        Err(refused) if refused.errno != Errno::EEXIST => Err(refused).doing("make the root of the state directories"),
        _ => Ok(()),
    }
}

/// Opens a directory to list and lock; the last component of the path must be no link.
fn open_directory(dir: BorrowedFd<'_>, path: &Path) -> crate::sys::Result<OwnedFd> {
    file::openat(dir, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

fn unlink(dir: BorrowedFd<'_>, name: &Path) -> crate::sys::Result<()> {
    file::unlinkat(dir, name, AtFlags::empty())
}

fn empty(dir: BorrowedFd<'_>) -> Result<()> {
    for (name, _) in file::getdents(dir)? {
        let name = Path::new(&name);
        match unlink(dir, name) {
            Err(refused) if refused.errno == Errno::EISDIR => {
                empty(open_directory(dir, name)?.as_fd())?;
                gone(file::unlinkat(dir, name, AtFlags::REMOVEDIR))?;
            }
            done => gone(done)?,
        }
    }
    Ok(())
}

fn gone(done: crate::sys::Result<()>) -> Result<()> {
    match done {
        Err(refused) if refused.errno == Errno::ENOENT => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::record::tests::example;
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("orlop-store-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Root(path)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn t40_ids() {
        for good in ["a", "web-1", "A_b+c.d", "..a", "a..", "-x"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_ID + 1);
        for bad in ["", ".", "..", "a/b", "/", "a\n", "a b", "ä", "a\0", &long, &"x".repeat(4096)] {
            assert_eq!(check_id(bad).unwrap_err().to_string(), "invalid container ID format", "{bad:?}");
        }
    }

    #[test]
    fn an_id_is_claimed_once() {
        let root = Root::new("claim");
        let below = root.0.join("a/b");
        let dir = StateDir::create(&below, "web").unwrap();
        assert_eq!(StateDir::create(&below, "web").unwrap_err().kind(), Kind::Exists);
        dir.remove().unwrap();
        assert_eq!(StateDir::open(&below, "web").unwrap_err().kind(), Kind::NotFound);
        dir.remove().unwrap();
    }

    #[test]
    fn files_come_back() {
        let root = Root::new("files");
        let dir = StateDir::create(&root.0, "web").unwrap();
        assert_eq!(dir.read_record().unwrap(), None);
        dir.write_record(&example()).unwrap();
        dir.write_record(&example()).unwrap();
        assert_eq!(dir.read_record().unwrap(), Some(example()));
        dir.save_config(b"{}").unwrap();
        assert_eq!(dir.config().unwrap(), b"{}");
        assert!(!dir.has_fifo().unwrap());
        dir.make_fifo().unwrap();
        assert!(dir.has_fifo().unwrap());
        assert_eq!(dir.open_fifo(OFlags::WRONLY | OFlags::NONBLOCK).unwrap_err().errno(), Some(Errno::ENXIO));
        dir.remove_fifo().unwrap();
        dir.remove_fifo().unwrap();
        assert!(!dir.has_fifo().unwrap());
        let names = file::getdents(dir.dirfd()).unwrap();
        assert_eq!(names.len(), 2, "no drafts stay: {names:?}");
    }

    #[test]
    fn a_lock_excludes_and_a_removed_directory_cannot_be_locked() {
        let root = Root::new("lock");
        let dir = StateDir::create(&root.0, "web").unwrap();
        let lock = dir.lock(Duration::ZERO).unwrap();
        assert!(dir.is_locked().unwrap());
        assert_eq!(dir.lock(Duration::from_millis(5)).unwrap_err().kind(), Kind::WrongState);
        drop(lock);
        assert!(!dir.is_locked().unwrap());
        dir.remove().unwrap();
        assert_eq!(dir.lock(Duration::ZERO).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn t40_links_are_removed_as_links_and_never_opened() {
        let root = Root::new("links");
        let canary = root.0.join("canary");
        std::fs::create_dir_all(canary.join("inside")).unwrap();
        let dir = StateDir::create(&root.0, "web").unwrap();
        std::os::unix::fs::symlink(&canary, dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(CONFIG)).unwrap();
        std::fs::create_dir_all(dir.path().join("deep/er")).unwrap();
        assert_eq!(dir.config().unwrap_err().errno(), Some(Errno::ELOOP));
        dir.remove().unwrap();
        assert!(canary.join("inside").exists());
        std::os::unix::fs::symlink(&canary, root.0.join("planted")).unwrap();
        assert_eq!(StateDir::open(&root.0, "planted").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(ids(&root.0).unwrap(), ["canary"]);
    }

    #[test]
    fn t40_a_directory_that_others_can_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let root = Root::new("others");
        StateDir::create(&root.0, "web").unwrap();
        for mode in [0o731, 0o713, 0o1777] {
            std::fs::set_permissions(root.0.join("web"), PermissionsExt::from_mode(mode)).unwrap();
            let error = StateDir::open(&root.0, "web").unwrap().check_owner().unwrap_err().to_string();
            assert!(error.contains("can be changed by others"), "{error}");
        }
        std::fs::set_permissions(root.0.join("web"), PermissionsExt::from_mode(0o711)).unwrap();
        StateDir::open(&root.0, "web").unwrap().check_owner().unwrap();
        if process::user_ids().1 == 0 {
            std::os::unix::fs::chown(root.0.join("web"), Some(1234), Some(1234)).unwrap();
            let error = StateDir::open(&root.0, "web").unwrap().check_owner().unwrap_err().to_string();
            assert!(error.contains("belongs to user 1234"), "{error}");
        }
    }

    #[test]
    fn a_fifo_in_place_of_the_record_does_not_hang() {
        let root = Root::new("fifo");
        let dir = StateDir::create(&root.0, "web").unwrap();
        file::mknodat(dir.dirfd(), RECORD.as_ref(), FileType::Fifo, Mode::from_raw_mode(0o600), (0, 0)).unwrap();
        assert!(dir.read_record().is_err());
    }
}
