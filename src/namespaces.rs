//! Namespaces: open, check, join, make, map ids, time offsets.
//!
//! Which namespaces come from where, and in which order, has three reasons (user_namespaces(7), security.md 3.3):
//! objects born in a namespace belong to whom the maker is *at that moment*, so ids are mapped before any other
//! namespace is made; a namespace that the host owns can only be joined before the user namespace is entered, one
//! that the container's user namespace owns only after; and a pid or time namespace is felt by children alone.
//! Where the last two matter, an [`Usher`] goes in first, bears init as its own sibling, and leaves.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use specconv::{Config, IdMap, NamespaceKind, TimeOffset};

use crate::compat::openat2::{self, Mounts};
use crate::compat::procfs;
use crate::error::{Context, Error, Result};
use crate::sys::file::{self, Mode, OFlags, fstat};
use crate::sys::process::{Ended, Pid};
use crate::sys::spawn::{self, Output};
use crate::sys::{self, Errno, namespace, refused};

/// Everything decided about the container's namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Namespaces to join, in config order.
    pub join: Vec<Join>,
    /// CLONE_NEW* flags of the clone that bears init.
    pub bear: u64,
    /// CLONE_NEW* flags that init unshares itself, once its ids are mapped.
    pub unshare: u64,
    /// Who goes in before init, where somebody must.
    pub usher: Option<Usher>,
    /// Whether init unshares a cgroup namespace (after it was placed: the namespace's root is the current cgroup).
    pub new_cgroup: bool,
    /// Ids of a new user namespace.
    pub ids: Option<Ids>,
    /// Whether the container lives in a user namespace of its own, new or joined.
    pub user: bool,
    /// Whether a pid namespace is new: everything in it ends with init.
    pub new_pid: bool,
    /// Whether a network namespace is new, so that its loopback device is ours to bring up.
    pub new_network: bool,
    /// All kinds that the container has of its own, new or joined.
    pub kinds: Vec<NamespaceKind>,
}

impl Plan {
    /// Whether the usher bears init late ([`Usher::late`]).
    pub fn bears_late(&self) -> bool {
        self.usher.as_ref().is_some_and(|usher| usher.late)
    }
}

/// One namespace to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Position in `linux.namespaces`.
    pub index: usize,
    /// Kind that the path must be.
    pub kind: NamespaceKind,
    /// Where it is.
    pub path: PathBuf,
}

/// The short-lived process that enters what only a child can feel, bears init, and leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usher {
    /// It bears init when nothing of the host's is left to hold: others live in the pid namespace, and one of them with
    /// CAP_SYS_PTRACE could go through init to whatever that has in its hands. (In a user namespace nobody has that
    /// right over a program that was executed outside of it and is not dumpable; so init can be born early there.)
    pub late: bool,
    /// It makes the new user namespace.
    pub new_user: bool,
    /// It makes the new time namespace.
    pub new_time: bool,
    /// Offsets of that.
    pub time_offsets: Vec<TimeOffset>,
    /// The maps of ids that a joined user namespace must have, where the config names any.
    pub maps: Option<(Vec<IdMap>, Vec<IdMap>)>,
}

/// Ids of a new user namespace, and how they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User ids.
    pub uids: Vec<IdMap>,
    /// Group ids.
    pub gids: Vec<IdMap>,
    /// How they get into the kernel.
    pub how: Mapping,
}

/// How a map of ids is written (user_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapping {
    /// By ourselves, with root's rights over the parent namespace.
    Direct,
    /// By ourselves, without any right: one id, our own. The group map then costs setgroups(2) for ever.
    OwnId,
    /// By the setuid helpers of shadow-utils, found on the *host's* PATH before anything is entered.
    Helpers {
        /// newuidmap(1).
        newuidmap: PathBuf,
        /// newgidmap(1).
        newgidmap: PathBuf,
    },
}

/// The CLONE_NEW* flag of a kind.
pub fn flag(kind: NamespaceKind) -> u64 {
    let flag = match kind {
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => return 0x80,
    };
    flag as u32 as u64
}

/// The name of a kind below /proc/PID/ns.
pub fn proc_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Network => "net",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::User => "user",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// Decides who makes and who joins what. `lending`: whether this host can make a procfs here for another pid namespace,
/// which an init that is born late needs.
pub fn plan(config: &Config, mapping: Option<Mapping>, lending: bool) -> Plan {
    let namespaces = &config.namespaces;
    let join: Vec<Join> = namespaces
        .0
        .iter()
        .filter_map(|namespace| {
            let path = namespace.path.clone()?;
            Some(Join { index: namespace.index, kind: namespace.kind, path })
        })
        .collect();
    let joins = |kind| join.iter().any(|join: &Join| join.kind == kind);
    let new_user = namespaces.is_new(NamespaceKind::User);
    let new_time = namespaces.is_new(NamespaceKind::Time);

    let ushered = joins(NamespaceKind::User)
        || joins(NamespaceKind::Pid)
        || joins(NamespaceKind::Time)
        || new_time
        || (new_user && !join.is_empty());
    let late = joins(NamespaceKind::Pid) && !namespaces.has(NamespaceKind::User) && lending;

    let mut bear = 0;
    let mut unshare = 0;
    for kind in
        [NamespaceKind::Pid, NamespaceKind::Mount, NamespaceKind::Uts, NamespaceKind::Ipc, NamespaceKind::Network]
    {
        if !namespaces.is_new(kind) {
            continue;
        }
        // Born with a new user namespace, init may not make the others in the same breath: nobody has mapped its
        // ids yet, and what is born in them (mqueue's root) would belong to nobody. A pid namespace holds no such
        // object, and must be there from birth. And an usher who bears late makes for itself what init inherits.
        if late || new_user && !ushered && kind != NamespaceKind::Pid {
            unshare |= flag(kind);
        } else {
            bear |= flag(kind);
        }
    }
    if new_user && !ushered {
        bear |= flag(NamespaceKind::User);
    }
    let maps = (config.uid_mappings.clone(), config.gid_mappings.clone());
    let says_maps = !(maps.0.is_empty() && maps.1.is_empty());
    let usher = Usher {
        late,
        new_user,
        new_time,
        time_offsets: config.time_offsets.clone(),
        maps: (joins(NamespaceKind::User) && says_maps).then_some(maps),
    };
    Plan {
        join,
        bear,
        unshare,
        usher: ushered.then_some(usher),
        new_cgroup: namespaces.is_new(NamespaceKind::Cgroup),
        ids: mapping.filter(|_| new_user).map(|how| Ids {
            uids: config.uid_mappings.clone(),
            gids: config.gid_mappings.clone(),
            how,
        }),
        user: namespaces.has(NamespaceKind::User),
        new_pid: namespaces.is_new(NamespaceKind::Pid),
        new_network: namespaces.is_new(NamespaceKind::Network),
        kinds: namespaces.0.iter().map(|namespace| namespace.kind).collect(),
    }
}

/// A namespace to join, opened on the host and proved to be of its kind.
#[derive(Debug)]
pub struct Opened {
    index: usize,
    kind: NamespaceKind,
    fd: OwnedFd,
}

impl Opened {
    /// Which namespace it is.
    pub fn kind(&self) -> NamespaceKind {
        self.kind
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens every namespace to join, in the parent: afterwards the paths may mean something else.
///
/// # Errors
/// Where a path is missing, or is not a namespace of the kind that the config says.
pub fn open(joins: &[Join]) -> Result<Vec<Opened>> {
    joins.iter().map(|join| open_one(join).at(|| field(join.index))).collect()
}

/// The namespace of that kind among those to join.
pub fn opened(opened: &[Opened], kind: NamespaceKind) -> Option<BorrowedFd<'_>> {
    opened.iter().find(|one| one.kind == kind).map(|one| one.fd.as_fd())
}

fn open_one(join: &Join) -> Result<Opened> {
    let file =
        File::open(&join.path).map_err(refused!("open", "{:?}", join.path)).doing("open the namespace to join")?;
    let wanted = flag(join.kind);
    let found = match namespace::ns_get_nstype(file.as_fd()) {
        Ok(found) => found,
        Err(refused) if refused.errno == Errno::ENOTTY => 0,
        Err(refused) => return Err(refused).doing("look at the namespace to join"),
    };
    if found != wanted {
        return Err(Error::new(
            crate::Kind::Invalid,
            format!("{} is not a {} namespace", join.path.display(), proc_name(join.kind)),
        ));
    }
    Ok(Opened { index: join.index, kind: join.kind, fd: file.into() })
}

fn field(index: usize) -> String {
    format!("linux.namespaces[{index}].path")
}

/// Whether the namespace of this kind that is to be joined is the one we are in: then it keeps nothing from us.
pub fn is_ours(opened: &[Opened], kind: NamespaceKind) -> Result<bool> {
    let Some(one) = opened.iter().find(|one| one.kind == kind) else { return Ok(false) };
    let path = Path::new("/proc/self/ns").join(proc_name(kind));
    let ours = File::open(&path).map_err(refused!("open", "{path:?}")).doing("look at our own namespace")?;
    let [ours, theirs] = [ours.as_fd(), one.fd.as_fd()].map(fstat);
    let (ours, theirs) = (ours?, theirs?);
    Ok((ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino))
}

/// Joins every namespace opened before, the user namespace in the middle: what the host owns can be joined only
/// with the host's rights, what the container's user namespace owns only with the rights inside. `enter_user` is
/// called in between, to enter or make it.
pub fn join(mut opened: Vec<Opened>, enter_user: impl FnOnce(Option<BorrowedFd<'_>>) -> Result<()>) -> Result<()> {
    let user = opened.iter().position(|one| one.kind == NamespaceKind::User).map(|at| opened.swap_remove(at));
    // The mount namespace last: joining it moves our root directory. A pid namespace changes nothing for us.
    opened.sort_by_key(|one| (one.kind == NamespaceKind::Mount, one.index));
    let mut refused = Vec::new();
    for one in opened {
        match namespace::setns(one.fd.as_fd(), flag(one.kind)) {
            Ok(()) => {}
            Err(failure) if failure.errno == Errno::EPERM => refused.push(one),
            Err(failure) => return Err(failure).doing("join the namespace").at(|| field(one.index)),
        }
    }
    match &user {
        Some(user) => enter_user(Some(user.fd.as_fd())).at(|| field(user.index))?,
        None => enter_user(None)?,
    }
    for one in refused {
        namespace::setns(one.fd.as_fd(), flag(one.kind)).doing("join the namespace").at(|| field(one.index))?;
    }
    Ok(())
}

/// Checks that the user namespace that was just joined has these maps: a container whose ids are others than its config
/// says would give files to the wrong people (runc's rule).
///
/// # Errors
/// Names the map.
pub fn check_maps(uids: &[IdMap], gids: &[IdMap]) -> Result<()> {
    let proc = procfs::open_of_processes()?;
    let own = file::readlinkat(proc.as_fd(), Path::new("self"))?;
    for (field, name, wanted) in [("linux.uidMappings", "uid_map", uids), ("linux.gidMappings", "gid_map", gids)] {
        let map = openat2::open_beneath(proc.as_fd(), &own.join(name), OFlags::RDONLY, Mode::empty(), Mounts::Stay)?;
        let text = file::read_all(map, 1 << 16)?;
        let found = String::from_utf8_lossy(&text);
        if !same_map(&found, wanted) {
            let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
            let why = format!("the user namespace that is joined has another map: {found}");
            return Err(Error::new(crate::Kind::Invalid, why)).at(|| field.to_owned());
        }
    }
    Ok(())
}

/// Whether a map as the kernel shows it, and lines of a config, are the same in whatever order.
fn same_map(shown: &str, wanted: &[IdMap]) -> bool {
    let numbers: Vec<u32> = shown.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (shown, rest) = numbers.as_chunks::<3>();
    let mut shown = shown.to_vec();
    let mut wanted: Vec<_> = wanted.iter().map(|map| [map.container, map.host, map.size]).collect();
    shown.sort_unstable();
    wanted.sort_unstable();
    rest.is_empty() && shown == wanted
}

/// Becomes the root of the user namespace, where it has one: what is made next must belong to somebody.
///
/// # Errors
/// Also where the kernel has put us into the namespace without any right in it.
pub fn become_root() -> Result<()> {
    for (what, set) in
        [("gid", sys::credential::setresgid as fn(u32) -> sys::Result<()>), ("uid", sys::credential::setresuid)]
    {
        match set(0) {
            // Id 0 has no map: the one we have stays, and with it every capability inside.
            Err(refused) if refused.errno == Errno::EINVAL => {}
            done => done.doing_with(|| format!("become {what} 0 of the user namespace"))?,
        }
    }
    if sys::credential::capget()?.effective == 0 {
        return Err(Error::new(
            crate::Kind::Unsupported,
            "the kernel grants no capability in the user namespace; Ubuntu's does so to programs that no AppArmor \
             profile allows it (kernel.apparmor_restrict_unprivileged_userns)",
        ));
    }
    Ok(())
}

/// Writes the maps of `pid`'s new user namespace, in the parent.
///
/// # Errors
/// Where the kernel or newuidmap/newgidmap refuses; the field that asked is named.
pub fn map_ids(pid: Pid, ids: &Ids) -> Result<()> {
    if let Mapping::Helpers { newuidmap, newgidmap } = &ids.how {
        run_helper(newuidmap, pid, &ids.uids).at(|| "linux.uidMappings".into())?;
        return run_helper(newgidmap, pid, &ids.gids).at(|| "linux.gidMappings".into());
    }
    if ids.how == Mapping::OwnId {
        // CVE-2014-8989: without this, dropping groups would bypass permissions that deny a group.
        write_proc(pid, "setgroups", "deny").at(|| "linux.gidMappings".into())?;
    }
    write_proc(pid, "uid_map", &lines(&ids.uids)).at(|| "linux.uidMappings".into())?;
    write_proc(pid, "gid_map", &lines(&ids.gids)).at(|| "linux.gidMappings".into())
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container, map.host, map.size)).collect()
}

fn write_proc(pid: Pid, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(refused!("write", "{path:?}, {text:?}"))
        .doing("write the map of ids")
}

fn run_helper(helper: &Path, pid: Pid, maps: &[IdMap]) -> Result<()> {
    let text =
        |word: &[u8]| CString::new(word).map_err(|_nul| Error::invalid(helper.display(), "there is a zero byte in it"));
    let path = text(helper.as_os_str().as_bytes())?;
    let mut args = vec![path.clone(), text(pid.to_string().as_bytes())?];
    for number in maps.iter().flat_map(|map| [map.container, map.host, map.size]) {
        args.push(text(number.to_string().as_bytes())?);
    }
    let Output { ended, stderr, .. } = spawn::output(&path, &args, &[]).doing("map ids")?;
    if ended == Ended::Exited(0) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(Error::new(crate::Kind::Other, format!("{}: {ended}: {}", helper.display(), said.trim())))
}

/// Opens our own timens_offsets before any namespace is entered: the right to write is judged by who opened it.
pub fn open_time_offsets() -> Result<File> {
    let path = "/proc/self/timens_offsets";
    OpenOptions::new().write(true).open(path).map_err(refused!("open", "{path:?}")).doing("open the time offsets")
}

/// Makes the time namespace of our next child, with its offsets.
pub fn make_time(mut file: File, offsets: &[TimeOffset]) -> Result<()> {
    namespace::unshare(flag(NamespaceKind::Time)).doing("make the time namespace")?;
    if offsets.is_empty() {
        return Ok(());
    }
    let text: String =
        offsets.iter().map(|offset| format!("{} {} {}\n", offset.clock, offset.secs, offset.nanosecs)).collect();
    file.write_all(text.as_bytes())
        .map_err(refused!("write", "timens_offsets, {text:?}"))
        .doing("write the time offsets")
        .at(|| "linux.timeOffsets".into())
}

/// The setuid helpers on this PATH, where both are there.
pub fn find_helpers(path: &str) -> Option<Mapping> {
    let find = |name: &str| {
        path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| Path::new(dir).join(name)).find(|candidate| {
            let text = CString::new(candidate.as_os_str().as_encoded_bytes());
            text.is_ok_and(|text| rustix::fs::access(text.as_c_str(), rustix::fs::Access::EXEC_OK).is_ok())
        })
    };
    Some(Mapping::Helpers { newuidmap: find("newuidmap")?, newgidmap: find("newgidmap")? })
}

/// Opens a namespace of a process that is ours and not yet reaped.
pub fn open_of(pid: Pid, kind: NamespaceKind) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{}", proc_name(kind));
    File::open(&path).map(OwnedFd::from).map_err(refused!("open", "{path:?}")).doing("open init's namespace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_the_same_in_any_order() {
        let map = |container, host, size| IdMap { container, host, size };
        let wanted = [map(1, 200_000, 100), map(0, 1000, 1)];
        assert!(same_map("         0       1000          1\n         1     200000        100\n", &wanted));
        for other in ["", "0 1000 1", "0 1000 1 1 200000 101", "0 1000 1 1 200000", "0 1000 1 1 200000 100 2 2 2"] {
            assert!(!same_map(other, &wanted), "{other}");
        }
    }
}
