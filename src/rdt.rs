//! Intel RDT: a class of service for the container's processes, and a group that counts what they use.
//!
//! The kernel shows both as directories of a filesystem of their own, resctrl (the kernel's filesystems/resctrl.rst):
//! a class has a file `schemata` with its share of caches and of memory bandwidth, a file `tasks` with its members,
//! and `mon_groups` with groups that count. Members are single threads, and whoever they bear is one too: so a process
//! is put there while it is young. Only where `linux.intelRdt` is set is resctrl touched at all
//! (config-linux.md#intelrdt).
//!
//! A class that others share is neither changed nor removed: removing one with members moves them to the default.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use specconv::IntelRdt;

use crate::error::{Context, Error, Kind, Result};
use crate::sys::Errno;
use crate::sys::cgroupfs::{self, RDTGROUP_SUPER_MAGIC};
use crate::sys::mountinfo;

mod stats;

#[cfg(any(test, fuzzing))]
pub(crate) use stats::line_with;
pub use stats::{BandwidthInfo, BandwidthUsed, CacheInfo, CacheUsed, Stats};

/// Where resctrl is mounted, unless somebody likes another place better.
const USUAL: &str = "/sys/fs/resctrl";

const FIELD: &str = "linux.intelRdt";

/// Directories at the top of resctrl that are no classes.
const NOT_CLASSES: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// Longest file that is read here: the members of a class.
const LONGEST: usize = 4 << 20;

/// What the container asks for: all decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The class's directory below the mount point; `.` for the default class.
    class: String,
    /// Whether the class is the container's alone, and goes with it.
    own: bool,
    /// Lines that an existing class must have, and that a new one gets.
    fixed: Vec<String>,
    /// Lines that are written in any case, after those.
    schemata: Vec<String>,
    /// The counting group below the mount point.
    monitor: Option<String>,
}

/// What the record keeps. Paths are relative to the mount point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Where resctrl is mounted.
    pub mount: PathBuf,
    /// The class; `.` for the default one.
    pub class: String,
    /// The counting group.
    pub monitor: Option<String>,
    /// The directories among them that were made for this container and go with it, the inner one last.
    pub made: Vec<String>,
}

/// The mounted resctrl filesystem.
#[derive(Debug)]
pub struct Resctrl {
    root: OwnedFd,
    mount: PathBuf,
}

/// A class that exists, and the container's counting group in it.
#[derive(Debug)]
pub struct Group {
    resctrl: Resctrl,
    class: OwnedFd,
    monitor: Option<OwnedFd>,
    saved: Saved,
}

/// Decides what is made. Pure.
///
/// # Errors
/// A class with the name of one of the kernel's own directories.
pub fn plan(asked: &IntelRdt, id: &str) -> Result<Plan> {
    let named = asked.clos_id.as_deref();
    let class = match named {
        Some("/") => ".",
        Some(name) => name,
        None => id,
    };
    if NOT_CLASSES.contains(&class) {
        return Err(Error::invalid(
            "linux.intelRdt.closID",
            format!("{class:?} is a directory of the kernel's, and no class"),
        ));
    }
    Ok(Plan {
        class: class.to_owned(),
        own: named.is_none(),
        fixed: asked.fixed.clone(),
        schemata: asked.schemata.clone(),
        monitor: asked.enable_monitoring.then(|| format!("{class}/mon_groups/{id}")),
    })
}

impl Resctrl {
    /// Finds the mounted filesystem. What is mounted is proved by its handle.
    ///
    /// # Errors
    /// Where none is mounted in the runtime's mount namespace.
    pub fn find() -> Result<Resctrl> {
        if let Some(found) = Resctrl::open(Path::new(USUAL))? {
            return Ok(found);
        }
        let table = mountinfo::read().doing("look for resctrl")?;
        for place in mounted(&table) {
            if let Some(found) = Resctrl::open(&place)? {
                return Ok(found);
            }
        }
        let why = "no resctrl filesystem is mounted: this kernel or processor may have no Intel RDT, or nobody has \
                   mounted it (mount -t resctrl resctrl /sys/fs/resctrl)";
        Err(Error::unsupported(FIELD, why))
    }

    /// `None` for anything else than resctrl.
    fn open(mount: &Path) -> Result<Option<Resctrl>> {
        let root = match cgroupfs::open_directory(mount) {
            Ok(root) => root,
            Err(refused) if matches!(refused.errno, Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(refused) => return Err(refused).doing("open resctrl"),
        };
        let found = cgroupfs::fstatfs_type(root.as_fd())? == RDTGROUP_SUPER_MAGIC;
        Ok(found.then(|| Resctrl { root, mount: mount.to_owned() }))
    }

    /// What [`Group::saved`] will say once [`Resctrl::make`] has made it: recorded before, so that a runtime that is
    /// killed in between leaves nothing that cannot be found.
    pub fn forecast(&self, plan: &Plan) -> Saved {
        let missing = |path: &String| cgroupfs::openat_directory(self.root.as_fd(), path).is_err();
        let class = Some(&plan.class).filter(|class| plan.own && missing(class));
        let monitor = plan.monitor.as_ref().filter(|monitor| missing(monitor));
        self.saved(plan, class.into_iter().chain(monitor).cloned().collect())
    }

    fn saved(&self, plan: &Plan, made: Vec<String>) -> Saved {
        Saved { mount: self.mount.clone(), class: plan.class.clone(), monitor: plan.monitor.clone(), made }
    }

    /// Makes the class and the counting group, or finds the class as it is asked for. What was made is removed on
    /// failure.
    ///
    /// # Errors
    /// A class that must be there and is not, or that is there and has other values; and what the kernel refuses, with
    /// the reason that resctrl gives.
    pub fn make(self, plan: &Plan) -> Result<Group> {
        let mut undo = Undo { root: self.root.as_fd(), made: Vec::new() };
        let done = self.make_class(plan, &mut undo).and_then(|class| {
            let monitor = plan.monitor.as_ref().map(|path| self.make_monitor(path, &mut undo)).transpose()?;
            Ok((class, monitor))
        });
        let (class, monitor) = self.explained(done).at(|| FIELD.to_owned())?;
        let mut made = std::mem::take(&mut undo.made);
        drop(undo);
        made.retain(|path| plan.own || *path != plan.class);
        let saved = self.saved(plan, made);
        Ok(Group { resctrl: self, class, monitor, saved })
    }

    fn make_class<'a>(&'a self, plan: &Plan, undo: &mut Undo<'a>) -> Result<OwnedFd> {
        let must_exist = !plan.own && plan.fixed.is_empty() && plan.schemata.is_empty();
        let there = match cgroupfs::openat_directory(self.root.as_fd(), &plan.class) {
            Ok(class) => Some(class),
            Err(refused) if refused.errno == Errno::ENOENT && !must_exist => None,
            Err(refused) => {
                let doing = format!("find the class {:?}, which must exist where no schema is given", plan.class);
                return Err(refused).doing(doing);
            }
        };
        if let Some(class) = there {
            self.compare(plan, class.as_fd())?;
            write_schemata(class.as_fd(), &plan.schemata)?;
            return Ok(class);
        }
        cgroupfs::mkdirat(self.root.as_fd(), &plan.class).doing("make the class")?;
        undo.made.push(plan.class.clone());
        let class = cgroupfs::openat_directory(self.root.as_fd(), &plan.class)?;
        let all: Vec<String> = plan.fixed.iter().chain(&plan.schemata).cloned().collect();
        write_schemata(class.as_fd(), &all)?;
        Ok(class)
    }

    /// Others may share a class that is there: it must be what is asked for.
    fn compare(&self, plan: &Plan, class: BorrowedFd<'_>) -> Result<()> {
        if plan.fixed.is_empty() {
            return Ok(());
        }
        let text = read(class, "schemata")?;
        for line in &plan.fixed {
            let name = line.split(':').next().unwrap_or_default();
            let step = self.number(&format!("info/{name}/bandwidth_gran"));
            if !stands(line, &text, step) {
                let now: Vec<&str> = text.lines().map(str::trim).collect();
                let why = format!("the class {:?} exists and has not {line:?}, but {:?}", plan.class, now.join("\n"));
                return Err(Error::new(Kind::Invalid, why));
            }
        }
        Ok(())
    }

    /// One that is there counts for somebody else, and would not go with the container.
    fn make_monitor<'a>(&'a self, path: &str, undo: &mut Undo<'a>) -> Result<OwnedFd> {
        cgroupfs::mkdirat(self.root.as_fd(), path).doing("make the group that monitors the container")?;
        undo.made.push(path.to_owned());
        Ok(cgroupfs::openat_directory(self.root.as_fd(), path)?)
    }

    /// Adds what resctrl itself says about its last refusal.
    fn explained<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|error| {
            let said = read(self.root.as_fd(), "info/last_cmd_status").unwrap_or_default();
            match said.trim() {
                "" | "ok" => error,
                said if error.errno().is_some() => error.doing(format!("resctrl says {said:?}")),
                _ => error,
            }
        })
    }

    fn number(&self, file: &str) -> Option<u64> {
        read(self.root.as_fd(), file).ok()?.trim().parse().ok()
    }
}

/// Directories that were made, to be removed again unless all goes well.
struct Undo<'a> {
    root: BorrowedFd<'a>,
    made: Vec<String>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            let _ = cgroupfs::rmdirat(self.root, path);
        }
    }
}

impl Saved {
    /// The class of a record; `None` where it is gone.
    ///
    /// # Errors
    /// A recorded path that leads elsewhere, and what cannot be opened.
    pub fn open(&self) -> Result<Option<Group>> {
        let Some(resctrl) = self.resctrl()? else { return Ok(None) };
        let open = |path: &str| match cgroupfs::openat_directory(resctrl.root.as_fd(), path) {
            Ok(handle) => Ok(Some(handle)),
            Err(refused) if refused.errno == Errno::ENOENT => Ok(None),
            Err(refused) => Err(refused),
        };
        let Some(class) = open(&self.class).doing("open the container's class of Intel RDT")? else { return Ok(None) };
        let monitor = match &self.monitor {
            Some(path) => open(path).doing("open the group that monitors the container")?,
            None => None,
        };
        Ok(Some(Group { resctrl, class, monitor, saved: self.clone() }))
    }

    /// Removes what was made for the container. What is gone already, or with the whole filesystem, is no error.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&self) -> Result<()> {
        let Some(resctrl) = self.resctrl()? else { return Ok(()) };
        self.made.iter().rev().try_for_each(|path| match cgroupfs::rmdirat(resctrl.root.as_fd(), path) {
            Err(refused) if refused.errno != Errno::ENOENT => {
                Err(refused).doing_with(|| format!("remove {} from resctrl", self.mount.join(path).display()))
            }
            _ => Ok(()),
        })
    }

    fn resctrl(&self) -> Result<Option<Resctrl>> {
        let below = |path: &str| !path.starts_with('/') && path.split('/').all(|name| !name.is_empty() && name != "..");
        let mut paths = self.made.iter().chain(&self.monitor).chain([&self.class]);
        if !paths.all(|path| below(path)) {
            return Err(Error::new(Kind::Invalid, "the recorded class of Intel RDT lies outside of resctrl"));
        }
        Resctrl::open(&self.mount)
    }
}

impl Group {
    /// What the record keeps.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Makes a process a member of the class, and of the counting group. It should have no other thread and no child:
    /// these would stay where they are.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn enter(&self, pid: i32) -> Result<()> {
        // A counting group takes only who is in its class.
        let doors = [Some(&self.class), self.monitor.as_ref()];
        let done = doors.into_iter().flatten().try_for_each(|door| write(door.as_fd(), "tasks", &pid.to_string()));
        self.resctrl.explained(done).doing_with(|| format!("put process {pid} into its class of Intel RDT"))
    }

    /// Writes other shares into the class: for all its members, whosever they are. Returns what stood there.
    ///
    /// # Errors
    /// The kernel's refusal; nothing has changed then.
    pub fn change(&self, lines: &[String]) -> Result<Vec<String>> {
        let before = read(self.class.as_fd(), "schemata").doing("read the schemata of Intel RDT")?;
        self.resctrl.explained(write_schemata(self.class.as_fd(), lines))?;
        Ok(before.lines().map(|line| line.trim().to_owned()).collect())
    }
}

fn read(directory: BorrowedFd<'_>, file: &str) -> Result<String> {
    let file = cgroupfs::openat_read(directory, file)?;
    Ok(cgroupfs::read(file.as_fd(), LONGEST)?)
}

fn write(directory: BorrowedFd<'_>, file: &str, text: &str) -> Result<()> {
    let file = cgroupfs::openat_write(directory, file)?;
    Ok(cgroupfs::write(file.as_fd(), text)?)
}

/// All lines in one write: the kernel takes all of them or none. It wants the last line ended too.
fn write_schemata(class: BorrowedFd<'_>, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    write(class, "schemata", &text).doing("write the schemata of Intel RDT")
}

/// Whether a line asks for what stands in a class's `schemata` already. `step` is what the kernel rounds up to.
///
/// As text the two differ: the kernel pads names and numbers, and orders the caches.
pub(crate) fn stands(asked: &str, schemata: &str, step: Option<u64>) -> bool {
    let parts = |line: &str| line.split_once(':').map(|(name, rest)| (name.trim().to_owned(), rest.to_owned()));
    let Some((name, asked)) = parts(asked) else { return false };
    let Some((_, now)) = schemata.lines().filter_map(parts).find(|(other, _)| *other == name) else { return false };
    // Masks of caches are hexadecimal, bandwidths are not.
    let radix = if name.starts_with('L') { 16 } else { 10 };
    let value = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), radix).ok();
    let domains = |line: &str| -> Option<Vec<(u64, u64)>> {
        let words = line.split(';').filter(|word| !word.trim().is_empty());
        words
            .map(|word| word.split_once('=').and_then(|(id, to)| Some((id.trim().parse().ok()?, value(to)?))))
            .collect()
    };
    let (Some(asked), Some(now)) = (domains(&asked), domains(&now)) else { return false };
    let rounded = |to: u64| step.filter(|step| *step > 0).map_or(to, |step| to.div_ceil(step).saturating_mul(step));
    asked.iter().all(|(id, to)| now.iter().any(|(other, now)| other == id && (now == to || *now == rounded(*to))))
}

/// Mount points of resctrl in a table of mounts.
pub(crate) fn mounted(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    mountinfo::mounts(table).filter(|mount| mount.fstype == b"resctrl").map(|mount| mount.point.path())
}

/// The kernel of the machine that these were written on has no resctrl (tests/only_as_data.toml): the lines and the
/// parsers are tested as data, and the code that writes is tested on a tree of plain files, which takes everything.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn asked(clos_id: Option<&str>, fixed: &[&str], schemata: &[&str]) -> IntelRdt {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        IntelRdt {
            clos_id: clos_id.map(str::to_owned),
            fixed: own(fixed),
            schemata: own(schemata),
            enable_monitoring: false,
        }
    }

    #[test]
    fn where_the_container_goes() {
        let place = |clos_id| {
            let plan = plan(&IntelRdt { enable_monitoring: true, ..asked(clos_id, &[], &[]) }, "web").unwrap();
            (plan.class, plan.own, plan.monitor.unwrap())
        };
        assert_eq!(place(None), ("web".into(), true, "web/mon_groups/web".into()));
        assert_eq!(place(Some("gold")), ("gold".into(), false, "gold/mon_groups/web".into()));
        assert_eq!(place(Some("/")), (".".into(), false, "./mon_groups/web".into()));
        for kernels in NOT_CLASSES {
            assert!(plan(&asked(Some(kernels), &[], &[]), "web").is_err());
            assert!(plan(&asked(None, &[], &[]), kernels).is_err());
        }
    }

    #[test]
    fn lines_are_compared_by_what_they_mean() {
        let now = "    MB:0= 20;1=100\n    L3:0=00ff;1=fffff\nL3CODE:0=3\n";
        for (line, expected) in [
            ("L3:0=ff", true),
            ("L3:1=fffff;0=0xff", true),
            ("L3:0=ff;1=ffff", false),
            ("L3:2=ff", false),
            ("L3CODE:0=3", true),
            ("L2:0=ff", false),
            ("MB:0=20;1=100", true),
            ("MB:0=15", true),
            ("MB:0=10", false),
            ("MB:0=x", false),
            ("MB", false),
        ] {
            assert_eq!(stands(line, now, Some(10)), expected, "{line}");
        }
        assert!(!stands("MB:0=15", now, None));
    }

    #[test]
    fn resctrl_is_found_where_it_is_mounted() {
        let table = "22 1 0:20 / /sys rw - sysfs sysfs rw\n90 22 0:50 / /sys/fs/resctrl rw,relatime - resctrl resctrl rw\n\
                     91 1 0:50 / /mnt/a\\040b rw - resctrl x rw,mba_MBps\n92 1 8:1 / /resctrl rw - ext4 resctrl rw";
        let found: Vec<PathBuf> = mounted(table.as_bytes()).collect();
        assert_eq!(found, [PathBuf::from("/sys/fs/resctrl"), PathBuf::from("/mnt/a b")]);
        assert!(Resctrl::open(Path::new("/proc")).unwrap().is_none(), "another filesystem is not taken for it");
    }

    /// Plain files in the places of resctrl's.
    struct LooksLikeResctrl(PathBuf);

    impl LooksLikeResctrl {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("orlop-rdt-{}-{name}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            LooksLikeResctrl(root)
        }

        fn handle(&self) -> Resctrl {
            Resctrl { root: cgroupfs::open_directory(&self.0).unwrap(), mount: self.0.clone() }
        }

        fn text(&self, file: &str) -> String {
            std::fs::read_to_string(self.0.join(file)).unwrap()
        }
    }

    impl Drop for LooksLikeResctrl {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const GOLD: [(&str, &str); 6] = [
        ("gold/schemata", "L3:0=ff\n"),
        ("gold/tasks", ""),
        ("gold/mon_groups/other/tasks", ""),
        ("schemata", "L3:0=fffff\n"),
        ("tasks", ""),
        ("info/last_cmd_status", "ok\n"),
    ];

    #[test]
    fn a_shared_class_is_used_as_it_is() {
        let tree = LooksLikeResctrl::new("shared", &GOLD);
        let wish = IntelRdt { enable_monitoring: true, ..asked(Some("gold"), &["L3:0=0ff"], &[]) };
        let group = tree.handle().make(&plan(&wish, "web").unwrap()).unwrap();
        std::fs::write(tree.0.join("gold/mon_groups/web/tasks"), "").unwrap();
        group.enter(42).unwrap();
        assert_eq!((tree.text("gold/tasks"), tree.text("gold/mon_groups/web/tasks")), ("42".into(), "42".into()));
        assert_eq!(tree.text("gold/schemata"), "L3:0=ff\n", "not written again");
        assert_eq!(group.saved().made, ["gold/mon_groups/web"], "nothing else of it is ours");
        let taken = tree.handle().make(&plan(&wish, "other").unwrap()).unwrap_err();
        assert_eq!(taken.errno(), Some(Errno::EEXIST), "a group of its own or none: {taken}");
        assert!(tree.0.join("gold/mon_groups/other").exists());
        let other = plan(&asked(Some("gold"), &["L3:0=f"], &[]), "web").unwrap();
        let refused = tree.handle().make(&other).unwrap_err().to_string();
        assert!(refused.contains("the class \"gold\" exists and has not \"L3:0=f\""), "{refused}");
    }

    #[test]
    fn lines_go_in_one_write_in_their_order() {
        let tree = LooksLikeResctrl::new("lines", &GOLD);
        let wish = asked(Some("/"), &[], &["L3:0=f;1=f", "MB:0=50;1=50"]);
        tree.handle().make(&plan(&wish, "web").unwrap()).unwrap().enter(7).unwrap();
        assert_eq!((tree.text("schemata"), tree.text("tasks")), ("L3:0=f;1=f\nMB:0=50;1=50\n".into(), "7".into()));
    }

    #[test]
    fn a_class_must_exist_where_nothing_says_what_it_is() {
        let tree = LooksLikeResctrl::new("absent", &GOLD);
        let refused = tree.handle().make(&plan(&asked(Some("silver"), &[], &[]), "web").unwrap()).unwrap_err();
        assert!(refused.to_string().contains("which must exist"), "{refused}");
        assert!(!tree.0.join("silver").exists());
    }

    #[test]
    fn what_was_made_goes_on_failure_and_with_the_container() {
        // A plain directory has no schemata: the write fails.
        let tree = LooksLikeResctrl::new("undo", &[("info/last_cmd_status", "Mask f has too few bits\n")]);
        let wish = plan(&asked(None, &["L3:0=f"], &[]), "web").unwrap();
        assert_eq!(tree.handle().forecast(&wish).made, ["web"]);
        let refused = tree.handle().make(&wish).unwrap_err().to_string();
        assert!(refused.contains("resctrl says \"Mask f has too few bits\""), "{refused}");
        assert!(!tree.0.join("web").exists());
        let group = tree.handle().make(&plan(&asked(None, &[], &[]), "web").unwrap()).unwrap();
        assert_eq!(group.saved().made, ["web"]);
        assert!(group.saved().open().unwrap().is_none(), "a record does not lead to what is not resctrl");
        let outside = Saved { class: "../x".into(), ..group.saved().clone() };
        assert!(outside.open().is_err() && outside.remove().is_err());
    }

    #[test]
    fn statistics_have_the_names_of_runcs() {
        let mut files = GOLD.to_vec();
        files.extend([
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "2\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
            ("gold/mon_data/mon_L3_00/llc_occupancy", "1000\n"),
            ("gold/mon_data/mon_L3_00/mbm_total_bytes", "30\n"),
            ("gold/mon_data/mon_L3_00/mbm_local_bytes", "Unavailable\n"),
        ]);
        let tree = LooksLikeResctrl::new("stats", &files);
        let group = tree.handle().make(&plan(&asked(Some("gold"), &[], &[]), "web").unwrap()).unwrap();
        assert_eq!(
            serde_json::to_string(&group.stats().unwrap()).unwrap(),
            concat!(
                r#"{"l3_cache_info":{"cbm_mask":"fffff","min_cbm_bits":2,"num_closids":16},"#,
                r#""l3_cache_schema_root":"L3:0=fffff","l3_cache_schema":"L3:0=ff","schemata":["L3:0=ff"],"#,
                r#""mbm_stats":[{"mbm_total_bytes":30,"mbm_local_bytes":0}],"cmt_stats":[{"llc_occupancy":1000}]}"#
            )
        );
        assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), "{}");
        assert_eq!(group.change(&["L3:0=f".to_owned()]).unwrap(), ["L3:0=ff"]);
        assert!(tree.text("gold/schemata").starts_with("L3:0=f\n"));
    }
}
