//! The root filesystem, really built: each case runs this test binary again inside new namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use specconv::{Attributes, Bind, Filesystem, FsOption, Mount, MountKind, MountTarget, Propagation, PropagationKind};

use super::*;
use crate::compat::{mount_api, openat2};
use crate::sys::mountinfo;

const RO: u64 = attribute::RDONLY;
const SAFE: u64 = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;

/// Runs `body` in new namespaces (flags of unshare(1)), by running the test `name` again in them.
fn inside(flags: &str, name: &str, body: impl FnOnce()) {
    inside_after("true", flags, name, body);
}

/// As [`inside`], after the shell command `prelude` has run in a mount namespace around them; it knows the test's
/// folder as `$ORLOP_INSIDE`.
fn inside_after(prelude: &str, flags: &str, name: &str, body: impl FnOnce()) {
    if std::env::var_os("ORLOP_INSIDE").is_some() {
        return body();
    }
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: needs root");
        return;
    }
    let folder = std::env::temp_dir().join(format!("orlop-rootfs-{name}-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "{prelude} && exec unshare {flags} -- {} --exact rootfs::tests::{name} --nocapture --test-threads=1",
        exe.display()
    );
    let done =
        Command::new("unshare").args(["-m", "--", "sh", "-c", &script]).env("ORLOP_INSIDE", &folder).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let told = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains("1 passed"), "{told}");
}

const ALL: &str = "-m -n -i -u -p -f";

/// A bundle, and beside it what must stay as it is.
struct Bundle {
    folder: PathBuf,
    before: String,
}

impl Bundle {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(std::env::var_os("ORLOP_INSIDE").unwrap()).join(name);
        fs::create_dir_all(folder.join("outside")).unwrap();
        fs::create_dir_all(folder.join("rootfs")).unwrap();
        for name in ["ptmx", "null", "console", "core", "fd", "stdin", "target"] {
            let file = folder.join("outside").join(name);
            fs::write(&file, "canary").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut bundle = Bundle { folder, before: String::new() };
        bundle.before = bundle.canary();
        bundle
    }

    fn root(&self, path: &str) -> PathBuf {
        self.folder.join("rootfs").join(path)
    }

    fn outside(&self) -> String {
        self.folder.join("outside").to_str().unwrap().to_owned()
    }

    /// Everything about what lies outside, the time of change included: that is what betrays a chown.
    fn canary(&self) -> String {
        let mut lines: Vec<String> = fs::read_dir(self.folder.join("outside"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let meta = fs::symlink_metadata(entry.path()).unwrap();
                format!("{:?} {:o} {}.{}\n", entry.file_name(), meta.mode(), meta.ctime(), meta.ctime_nsec())
            })
            .collect();
        lines.sort();
        lines.concat()
    }

    fn assert_untouched(&self) {
        assert_eq!(self.canary(), self.before, "something outside was touched");
    }

    fn plan(&self) -> Plan {
        Plan {
            path: fs::canonicalize(self.root("")).unwrap(),
            bundle: self.folder.clone(),
            readonly: false,
            entry: Entry::Pivot,
            propagation: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            user_namespace: false,
            procfs_is_lent: false,
            privileged: true,
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            mount_label: None,
            cgroup: CgroupView::None,
        }
    }

    fn with(&self, mounts: impl IntoIterator<Item = Mount>) -> Plan {
        let mut plan = self.plan();
        plan.mounts = mounts.into_iter().enumerate().map(|(index, mount)| Mount { index, ..mount }).collect();
        plan
    }

    fn with_default(&self, more: impl IntoIterator<Item = Mount>) -> Plan {
        self.with(defaults().into_iter().chain(more))
    }
}

fn mount(destination: &str, kind: MountKind, set: u64) -> Mount {
    Mount {
        index: 0,
        destination: destination.into(),
        kind,
        attributes: Attributes { set, clear: 0 },
        recursive: Attributes::default(),
        propagation: Vec::new(),
        id_map: None,
        target: MountTarget::default(),
    }
}

fn filesystem(fstype: &str, destination: &str, data: &str, set: u64) -> Mount {
    let data = data
        .split(',')
        .filter(|option| !option.is_empty())
        .map(|option| match option.split_once('=') {
            Some((key, value)) => FsOption { index: None, key: key.into(), value: Some(value.into()) },
            None => FsOption { index: None, key: option.into(), value: None },
        })
        .collect();
    let source = Some(fstype.to_owned());
    let fs = Filesystem { fstype: fstype.into(), source, data, superblock_flags: Vec::new(), copy_up: false };
    mount(destination, MountKind::Filesystem(fs), set)
}

fn bind(source: impl Into<PathBuf>, destination: &str, set: u64) -> Mount {
    let bind = Bind { source: source.into(), recursive: true, copy_symlink: false, source_nofollow: false };
    mount(destination, MountKind::Bind(bind), set)
}

fn defaults() -> Vec<Mount> {
    vec![
        filesystem("proc", "/proc", "", SAFE),
        filesystem("tmpfs", "/dev", "mode=755,size=65536k", attribute::NOSUID | attribute::STRICTATIME),
        filesystem("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", SAFE & !attribute::NODEV),
        filesystem("tmpfs", "/dev/shm", "mode=1777,size=65536k", SAFE),
        filesystem("mqueue", "/dev/mqueue", "", SAFE),
        filesystem("sysfs", "/sys", "", SAFE | RO),
    ]
}

fn masks(plan: &mut Plan) {
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
    plan.masked_paths = paths(&[
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/firmware",
        "/sys/fs",
        "/no/such/path",
    ]);
    plan.readonly_paths =
        paths(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/no/such/path"]);
}

fn go(plan: &Plan) -> Result<()> {
    let mut root = build(plan, lend(plan, &Owners { user: None, pid: None })?)?;
    root.enter()?;
    root.make_cwd(Path::new("/work/dir"))?;
    root.seal()
}

/// Lines of the container's mountinfo as (point, options, root, type).
fn table() -> Vec<(String, String, String, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let fstype = line.split(" - ").nth(1).unwrap().split(' ').next().unwrap();
            (words[4].into(), words[5].into(), words[3].into(), fstype.into())
        })
        .collect()
}

fn options_of(point: &str) -> String {
    table().into_iter().rfind(|line| line.0 == point).unwrap_or_else(|| panic!("{point}: {:?}", table())).1
}

fn is_device(path: &str, major: u32, minor: u32) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.file_type().is_char_device() && file::device_number(meta.rdev()) == (major, minor))
}

fn is_readonly(folder: &str) -> bool {
    let refused = fs::write(Path::new(folder).join("probe"), "");
    refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

fn refused(plan: &Plan) -> String {
    match go(plan) {
        Ok(()) => panic!("this must be refused"),
        Err(error) => error.to_string(),
    }
}

fn default_container() {
    let bundle = Bundle::new("default");
    fs::create_dir_all(bundle.folder.join("data/sub")).unwrap();
    fs::write(bundle.folder.join("file"), "content").unwrap();
    let mut plan = bundle.with_default([
        bind("data", "/data", RO),
        bind("file", "/etc/made/file", 0),
        filesystem("tmpfs", "/scratch", "", RO),
        bind("file", "/scratch/file", 0),
    ]);
    plan.readonly = true;
    masks(&mut plan);
    go(&plan).unwrap();

    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let path = format!("/dev/{name}");
        assert!(is_device(&path, major, minor), "{path}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o666);
    }
    assert_eq!(fs::read_link("/dev/ptmx").unwrap(), Path::new("pts/ptmx"));
    assert_eq!(fs::read_link("/dev/stderr").unwrap(), Path::new("/proc/self/fd/2"));
    assert!(fs::metadata("/dev/pts/ptmx").unwrap().file_type().is_char_device());
    assert_eq!(fs::metadata("/dev/shm").unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(fs::metadata("/proc").unwrap().mode() & 0o7777, 0o555);

    assert!(is_readonly("/") && is_readonly("/data") && is_readonly("/scratch"));
    assert_eq!(fs::read_to_string("/etc/made/file").unwrap(), "content");
    assert_eq!(fs::read_to_string("/scratch/file").unwrap(), "content");
    assert!(Path::new("/work/dir").is_dir());
    assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));

    assert!(is_device("/proc/keys", 1, 3) && is_device("/proc/timer_list", 1, 3));
    assert_eq!(fs::read_dir("/sys/firmware").unwrap().count(), 0);
    assert_eq!(fs::read_dir("/sys/fs").unwrap().count(), 0);
    assert!(is_readonly("/sys/fs"));
    assert!(options_of("/sys/fs").starts_with("ro"));
    assert!(fs::write("/proc/sys/kernel/hostname", "x").is_err());
    assert_eq!(options_of("/proc/sys"), "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(options_of("/proc"), "rw,nosuid,nodev,noexec,relatime");
    assert_eq!(options_of("/dev"), "rw,nosuid");
    assert_eq!(options_of("/sys"), "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(table().iter().filter(|line| line.0 == "/sys/firmware").count(), 1, "listed twice, covered once");
    let empties: Vec<_> = table().into_iter().filter(|line| ["/sys/firmware", "/sys/fs"].contains(&&*line.0)).collect();
    let device = |point: &str| fs::metadata(point).unwrap().dev();
    assert!(empties.len() == 2 && device("/sys/firmware") == device("/sys/fs"), "one tmpfs for all");
    assert!(table().iter().all(|line| !line.0.contains("orlop-rootfs")), "the host is gone: {:?}", table());
}

#[test]
fn a_default_container() {
    inside(ALL, "a_default_container", default_container);
}

#[test]
fn without_openat2() {
    inside(ALL, "without_openat2", || {
        openat2::ROAD.close();
        default_container();
    });
}

#[test]
fn without_mount_setattr() {
    inside(ALL, "without_mount_setattr", || {
        mount_setattr::ROAD.close();
        default_container();
    });
}

#[test]
fn without_the_mount_api() {
    inside(ALL, "without_the_mount_api", || {
        mount_api::TREES.close();
        mount_api::CONTEXTS.close();
        default_container();
    });
}

#[test]
fn on_a_kernel_before_all_of_them() {
    inside(ALL, "on_a_kernel_before_all_of_them", || {
        openat2::ROAD.close();
        mount_setattr::ROAD.close();
        mount_api::TREES.close();
        mount_api::CONTEXTS.close();
        default_container();
    });
}

#[test]
fn t01_dev_is_a_trap() {
    inside(ALL, "t01_dev_is_a_trap", || {
        for (number, text) in ["../../outside", "OUTSIDE", "/", ".", "/nowhere"].into_iter().enumerate() {
            let bundle = Bundle::new(&format!("t01-{number}"));
            let text = if text == "OUTSIDE" { bundle.outside() } else { text.to_owned() };
            symlink(text, bundle.root("dev")).unwrap();
            fs::create_dir(bundle.root("proc")).unwrap();
            let told = refused(&bundle.with([filesystem("proc", "/proc", "", SAFE)]));
            assert!(told.contains("/dev") && told.contains("ELOOP"), "{told}");
            bundle.assert_untouched();
        }
    });
}

#[test]
fn t01_names_in_dev_are_traps() {
    inside(ALL, "t01_names_in_dev_are_traps", || {
        let bundle = Bundle::new("t01b");
        fs::create_dir(bundle.root("dev")).unwrap();
        for name in ["ptmx", "fd", "stdin", "core"] {
            symlink(format!("{}/{name}", bundle.outside()), bundle.root("dev").join(name)).unwrap();
        }
        let plan = bundle.with([]);
        let mut root = build(&plan, Vec::new()).unwrap();
        bundle.assert_untouched();
        root.enter().unwrap();
        assert_eq!(fs::read_link("/dev/ptmx").unwrap(), Path::new("pts/ptmx"));
        assert!(is_device("/dev/null", 1, 3));
    });
}

#[test]
fn t31_wrong_nodes_are_refused() {
    inside(ALL, "t31_wrong_nodes_are_refused", || {
        for kind in ["link", "file", "zero", "directory"] {
            let bundle = Bundle::new(&format!("t31-{kind}"));
            fs::create_dir(bundle.root("dev")).unwrap();
            let null = bundle.root("dev/null");
            match kind {
                "link" => symlink(format!("{}/null", bundle.outside()), &null).unwrap(),
                "file" => fs::write(&null, "").unwrap(),
                "directory" => fs::create_dir(&null).unwrap(),
                _ => {
                    file::mknodat(file::CWD, &null, file::FileType::CharacterDevice, Mode::from_raw_mode(0o666), (1, 5))
                        .unwrap()
                }
            }
            let told = refused(&bundle.with([]));
            assert!(told.contains("make /dev/null"), "{told}");
            bundle.assert_untouched();
        }
    });
}

#[test]
fn t02_destinations_are_traps() {
    inside(ALL, "t02_destinations_are_traps", || {
        for (number, spelling) in ["/m/", "/m/x", "./m/.", "//m//x/", "/m"].into_iter().enumerate() {
            let bundle = Bundle::new(&format!("t02-{number}"));
            symlink("../../../../../../../outside", bundle.root("m")).unwrap();
            fs::create_dir(bundle.folder.join("data")).unwrap();
            fs::write(bundle.folder.join("data/here"), "").unwrap();
            let plan = bundle.with([bind("data", spelling, 0)]);
            let mut root = build(&plan, Vec::new()).unwrap();
            bundle.assert_untouched();
            assert_eq!(fs::read_dir(bundle.outside()).unwrap().count(), 7);
            if spelling == "/m" {
                root.enter().unwrap();
                assert!(Path::new("/outside/here").exists());
            }
        }
    });
}

#[test]
fn t03_a_volume_sets_a_trap() {
    inside(ALL, "t03_a_volume_sets_a_trap", || {
        for (number, text) in
            ["/", "../../outside", "/proc/self/cwd", "/proc/self/root", "/proc/1/root"].into_iter().enumerate()
        {
            let bundle = Bundle::new(&format!("t03-{number}"));
            fs::create_dir(bundle.folder.join("volume")).unwrap();
            symlink(text, bundle.folder.join("volume/b")).unwrap();
            let mounts = [
                filesystem("proc", "/proc", "", SAFE),
                bind("volume", "/a", 0),
                filesystem("tmpfs", "/a/b/outside", "", 0),
            ];
            let plan = bundle.with(mounts);
            let built = build(&plan, Vec::new());
            bundle.assert_untouched();
            if text.starts_with("/proc") {
                assert!(built.unwrap_err().to_string().contains("ELOOP"), "{text}");
            } else {
                let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
                let place = format!("{}/outside ", bundle.root("").display());
                assert!(!table.contains(&format!(" {} ", bundle.outside())), "{table}");
                assert!(table.contains(&place.replace("//", "/")) || text != "/", "{table}");
            }
        }
    });
}

#[test]
fn t07_proc_and_sys_are_links() {
    inside(ALL, "t07_proc_and_sys_are_links", || {
        for (fstype, planted) in [("proc", "link"), ("sysfs", "link"), ("proc", "file"), ("sysfs", "file")] {
            let bundle = Bundle::new(&format!("t07-{fstype}-{planted}"));
            let destination = if fstype == "proc" { "proc" } else { "sys" };
            match planted {
                "link" => symlink("real", bundle.root(destination)).unwrap(),
                _ => fs::write(bundle.root(destination), "").unwrap(),
            }
            fs::create_dir(bundle.root("real")).unwrap();
            let told = refused(&bundle.with([filesystem(fstype, &format!("/{destination}"), "", SAFE)]));
            assert!(told.contains("must be mounted on ordinary directory"), "{told}");
        }
    });
}

#[test]
fn t08_nothing_goes_into_proc() {
    inside(ALL, "t08_nothing_goes_into_proc", || {
        for (number, text) in ["/proc/self/attr", "/proc/sys", "/proc/1/../self", "/proc"].into_iter().enumerate() {
            let bundle = Bundle::new(&format!("t08-{number}"));
            symlink(text, bundle.root("p")).unwrap();
            let told = refused(&bundle.with([filesystem("proc", "/proc", "", SAFE), filesystem("tmpfs", "/p", "", 0)]));
            assert!(told.contains("inside /proc") || told.contains("on /proc"), "{told}");
        }
        let bundle = Bundle::new("t08-twin");
        fs::write(bundle.folder.join("fake"), "fake").unwrap();
        go(&bundle.with_default([bind("fake", "/proc/meminfo", 0)])).unwrap();
        assert_eq!(fs::read_to_string("/proc/meminfo").unwrap(), "fake");
    });
}

#[test]
fn t09_nothing_goes_on_the_root() {
    inside(ALL, "t09_nothing_goes_on_the_root", || {
        let bundle = Bundle::new("t09");
        symlink("/", bundle.root("self")).unwrap();
        for destination in ["/", ".", "/..", "//", "/a/..", "", "/self"] {
            let told = refused(&bundle.with([filesystem("tmpfs", destination, "", 0)]));
            assert!(told.contains("nothing can be mounted on `/`"), "{destination}: {told}");
        }
    });
}

#[test]
fn t15_null_is_a_trap() {
    inside(ALL, "t15_null_is_a_trap", || {
        for planted in ["link", "file", "zero", "missing"] {
            let bundle = Bundle::new(&format!("t15-{planted}"));
            fs::create_dir(bundle.folder.join("dev")).unwrap();
            let null = bundle.folder.join("dev/null");
            match planted {
                "link" => symlink("/proc/sys/kernel/hostname", &null).unwrap(),
                "file" => fs::write(&null, "").unwrap(),
                "missing" => {}
                _ => {
                    let (kind, mode) = (file::FileType::CharacterDevice, Mode::from_raw_mode(0o666));
                    file::mknodat(file::CWD, &null, kind, mode, (1, 5)).unwrap();
                }
            }
            // Bound, /dev is not filled by us.
            let mut plan = bundle.with([filesystem("proc", "/proc", "", SAFE), bind("dev", "/dev", 0)]);
            plan.masked_paths = vec!["/proc/keys".into(), "/proc/timer_list".into()];
            let root = build(&plan, Vec::new()).unwrap();
            // There is only one root to leave, so the masks alone are tried here.
            let told = mask::cover(root.site(), &plan.masked_paths).unwrap_err().to_string();
            assert!(told.contains("/dev/null"), "{planted}: {told}");
        }
    });
}

#[test]
fn t16_masks_go_where_links_lead_inside() {
    inside(ALL, "t16_masks_go_where_links_lead_inside", || {
        let bundle = Bundle::new("t16");
        fs::create_dir(bundle.root("secret")).unwrap();
        fs::write(bundle.root("secret/key"), "key").unwrap();
        symlink("/secret", bundle.root("alias")).unwrap();
        fs::create_dir_all(bundle.root("ro/below")).unwrap();
        let mut plan = bundle.with_default([filesystem("tmpfs", "/ro/below", "mode=755", 0)]);
        plan.masked_paths = vec!["/alias".into()];
        plan.readonly_paths = vec!["/ro".into()];
        go(&plan).unwrap();
        assert_eq!(fs::read_dir("/secret").unwrap().count(), 0);
        assert!(is_readonly("/secret") && is_readonly("/ro") && is_readonly("/ro/below"));
        assert!(!is_readonly("/work/dir"));
    });
}

#[test]
fn t17_a_missing_place_in_a_readonly_bind_is_an_error() {
    inside(ALL, "t17_a_missing_place_in_a_readonly_bind_is_an_error", || {
        let bundle = Bundle::new("t17");
        fs::create_dir(bundle.folder.join("volume")).unwrap();
        let told = refused(&bundle.with([bind("volume", "/a", RO), filesystem("tmpfs", "/a/b", "", 0)]));
        assert!(told.contains("mounts[1] (/a/b)") && told.contains("EROFS"), "{told}");
        assert_eq!(fs::read_dir(bundle.folder.join("volume")).unwrap().count(), 0);
    });
}

#[test]
fn t53_copy_up_trusts_nothing() {
    inside(ALL, "t53_copy_up_trusts_nothing", || {
        let bundle = Bundle::new("t53");
        let etc = bundle.root("etc");
        fs::create_dir_all(etc.join("sub")).unwrap();
        fs::set_permissions(&etc, fs::Permissions::from_mode(0o751)).unwrap();
        symlink(format!("{}/target", bundle.outside()), etc.join("link")).unwrap();
        fs::write(etc.join("sub/setuid"), "program").unwrap();
        fs::set_permissions(etc.join("sub/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::File::create(etc.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        file::mknodat(file::CWD, &etc.join("fifo"), file::FileType::Fifo, Mode::from_raw_mode(0o600), (0, 0)).unwrap();
        let mut covering = filesystem("tmpfs", "/etc", "", 0);
        if let MountKind::Filesystem(fs) = &mut covering.kind {
            fs.copy_up = true;
        }
        let plan = bundle.with_default([covering]);
        go(&plan).unwrap();
        assert!(fs::symlink_metadata("/etc/link").unwrap().is_symlink());
        assert_eq!(fs::metadata("/etc").unwrap().mode() & 0o7777, 0o751);
        assert_eq!(fs::metadata("/etc/sub/setuid").unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(fs::read_to_string("/etc/sub/setuid").unwrap(), "program");
        let sparse = fs::metadata("/etc/sparse").unwrap();
        assert_eq!((sparse.len(), sparse.blocks()), (1 << 40, 0));
        assert!(fs::symlink_metadata("/etc/fifo").unwrap().file_type().is_fifo());
    });
}

#[test]
fn binds_as_they_are_written() {
    inside(ALL, "binds_as_they_are_written", || {
        let bundle = Bundle::new("binds");
        fs::create_dir_all(bundle.folder.join("data/sub")).unwrap();
        fs::write(bundle.folder.join("file"), "content").unwrap();
        symlink("file", bundle.folder.join("link")).unwrap();
        let open = fs::File::open(bundle.folder.join("file")).unwrap();
        let door = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        let mut copied = bind("link", "/copied", 0);
        let mut kept = bind("link", "/kept", 0);
        if let MountKind::Bind(bind) = &mut copied.kind {
            bind.copy_symlink = true;
        }
        if let MountKind::Bind(bind) = &mut kept.kind {
            bind.source_nofollow = true;
        }
        let mut tree = bind("data", "/tree", SAFE);
        tree.recursive = Attributes { set: RO, clear: 0 };
        tree.propagation = vec![Propagation { kind: PropagationKind::Shared, recursive: true }];
        let remount = Mount {
            attributes: Attributes { set: attribute::NOATIME, clear: attribute::ATIME },
            ..mount("/tree", MountKind::Propagate, 0)
        };
        go(&bundle.with_default([bind(door, "/door", 0), copied, kept, tree, remount])).unwrap();
        assert_eq!(fs::read_to_string("/door").unwrap(), "content");
        assert_eq!(fs::read_link("/copied").unwrap(), Path::new("file"));
        assert_eq!(options_of("/tree"), "ro,nosuid,nodev,noexec,noatime");
        assert!(
            fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .lines()
                .any(|line| line.contains("/tree ") && line.contains("shared:"))
        );
    });
}

#[test]
fn errors_name_what_asked() {
    inside(ALL, "errors_name_what_asked", || {
        let bundle = Bundle::new("errors");
        let told = refused(&bundle.with([bind("/none/such", "/a", 0)]));
        assert!(
            told.contains("mounts[0] (/a)")
                && told.contains("/none/such")
                && told.contains("no such file or directory"),
            "{told}"
        );
        let told = refused(&bundle.with([filesystem("tmpfs", "/a", "size=nonsense", 0)]));
        assert!(told.contains("Bad value for 'size'"), "{told}");
        let told = refused(&bundle.with([filesystem("nosuchfs", "/a", "", 0)]));
        assert!(told.contains("make a nosuchfs"), "{told}");
        fs::create_dir(bundle.root("folder")).unwrap();
        fs::write(bundle.folder.join("file"), "").unwrap();
        let told = refused(&bundle.with([bind("file", "/folder", 0)]));
        assert!(told.contains("not a directory"), "{told}");
    });
}

#[test]
fn the_host_sees_nothing() {
    // The outer namespace shares with the inner one, as a host with systemd does.
    inside("-m -p -f --mount-proc --propagation shared", "the_host_sees_nothing", || {
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let kinds =
            [PropagationKind::Shared, PropagationKind::Slave, PropagationKind::Private, PropagationKind::Unbindable];
        for propagation in std::iter::once(None).chain(kinds.map(Some)) {
            for recursive in [true, false] {
                let done = Command::new("unshare")
                    .args(["-m", "-n", "-i", "--propagation", "unchanged", "--"])
                    .arg(std::env::current_exe().unwrap())
                    .args(["--exact", "rootfs::tests::one_container_in_a_shared_world", "--nocapture", "--ignored"])
                    .env("ORLOP_PROPAGATION", format!("{propagation:?} {recursive}"))
                    .output()
                    .unwrap();
                assert!(done.status.success(), "{propagation:?}: {}", String::from_utf8_lossy(&done.stdout));
                let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
                // A mount point that somebody else removes meanwhile takes its mount with it in every namespace.
                let stays = |line: &&str| now.contains(line) || Path::new(line.split(' ').nth(4).unwrap()).exists();
                let host: Vec<&str> = host.lines().filter(stays).collect();
                assert_eq!(now.lines().collect::<Vec<_>>(), host, "{propagation:?} {recursive}");
            }
        }
    });
}

#[test]
#[ignore = "the inner half of the_host_sees_nothing"]
fn one_container_in_a_shared_world() {
    let Ok(asked) = std::env::var("ORLOP_PROPAGATION") else { return };
    let bundle = Bundle::new(&asked);
    let mut plan = bundle.with_default([]);
    let recursive = asked.ends_with("true");
    let kind = [PropagationKind::Shared, PropagationKind::Slave, PropagationKind::Private, PropagationKind::Unbindable]
        .into_iter()
        .find(|kind| asked.contains(&format!("{kind:?}")));
    plan.propagation = kind.map(|kind| Propagation { kind, recursive });
    go(&plan).unwrap();
    let root = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = root.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap().to_owned();
    match kind {
        Some(PropagationKind::Shared) => assert!(root.contains("shared:"), "{root}"),
        Some(PropagationKind::Unbindable) => assert!(root.contains("unbindable"), "{root}"),
        Some(PropagationKind::Private) => assert!(!root.contains("shared:") && !root.contains("master:"), "{root}"),
        Some(PropagationKind::Slave) => assert!(!root.contains("shared:") && root.contains("master:"), "{root}"),
        None => assert!(!root.contains("shared:"), "{root}"),
    }
}

#[test]
fn a_user_namespace() {
    inside("-m -n -i -u -p -f -U -r", "a_user_namespace", || {
        let bundle = Bundle::new("userns");
        fs::create_dir_all(bundle.folder.join("data")).unwrap();
        let mut plan = bundle.with(defaults().into_iter().map(|mut mount| {
            if let MountKind::Filesystem(fs) = &mut mount.kind {
                // Group 5 is not mapped here.
                fs.data.retain(|option| option.key != "gid");
            }
            mount
        }));
        plan.mounts.push(bind("data", "/data", RO));
        plan.user_namespace = true;
        plan.privileged = false;
        plan.readonly = true;
        masks(&mut plan);
        go(&plan).unwrap();
        assert!(is_device("/dev/null", 1, 3) && is_device("/dev/tty", 5, 0));
        assert!(is_readonly("/") && is_readonly("/data"));
        assert!(is_device("/proc/keys", 1, 3));
    });
}

#[test]
fn sysfs_of_the_host_is_bound_readonly() {
    // No network namespace of its own: the kernel refuses a sysfs.
    inside("-m -i -u -p -f -U -r", "sysfs_of_the_host_is_bound_readonly", || {
        let bundle = Bundle::new("sysfs");
        let mut plan = bundle.with([
            filesystem("proc", "/proc", "", SAFE),
            filesystem("tmpfs", "/dev", "mode=755", attribute::NOSUID),
            filesystem("sysfs", "/sys", "", SAFE | RO),
        ]);
        plan.user_namespace = true;
        plan.privileged = false;
        go(&plan).unwrap();
        assert!(Path::new("/sys/kernel").exists());
        assert_eq!(fs::read_dir("/sys/fs/cgroup").unwrap().count(), 0, "the host's cgroups are hidden");
        for (point, options, ..) in table().into_iter().filter(|line| line.0.starts_with("/sys")) {
            assert!(options.starts_with("ro"), "{point} {options}");
        }
    });
}

#[test]
fn locked_options_are_kept_or_refused() {
    let prelude = "mkdir $ORLOP_INSIDE/locked && mount -t tmpfs -o ro,nosuid tmpfs $ORLOP_INSIDE/locked";
    inside_after(prelude, "-m -n -i -u -p -f -U -r", "locked_options_are_kept_or_refused", || {
        let bundle = Bundle::new("bundle");
        let clearing =
            |clear| Mount { attributes: Attributes { set: attribute::NOEXEC, clear }, ..bind("../locked", "/l", 0) };
        let of = |mount| {
            let mut plan = bundle.with([filesystem("proc", "/proc", "", SAFE), mount]);
            (plan.user_namespace, plan.privileged) = (true, false);
            plan
        };
        let told = build(&of(clearing(attribute::NOSUID)), Vec::new()).unwrap_err().to_string();
        assert!(told.contains("locked in this user namespace") && told.contains("mounts[1] (/l)"), "{told}");
        go(&of(clearing(RO))).unwrap();
        assert_eq!(options_of("/l"), "ro,nosuid,noexec,relatime", "rw is not meant, and the rest is kept");
    });
}

#[test]
fn a_container_without_a_mount_namespace() {
    // Even there it runs inside one, which it must not touch.
    inside("-m -p -f --propagation shared", "a_container_without_a_mount_namespace", || {
        let bundle = Bundle::new("chroot");
        let mut plan = bundle.plan();
        plan.entry = Entry::Chroot;
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut root = build(&plan, Vec::new()).unwrap();
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), table);
        root.enter().unwrap();
        root.seal().unwrap();
        assert!(is_device("/dev/null", 1, 3) && !Path::new("/proc").exists());
    });
}

#[test]
fn a_remount_changes_the_filesystem() {
    inside(ALL, "a_remount_changes_the_filesystem", || {
        let bundle = Bundle::new("remount");
        let size = |text: &str| match filesystem("tmpfs", "/t", text, 0).kind {
            MountKind::Filesystem(fs) => fs,
            _ => panic!("a filesystem"),
        };
        let again = mount("/t", MountKind::Remount(size("size=1m")), attribute::NOEXEC);
        go(&bundle.with_default([filesystem("tmpfs", "/t", "size=64k", attribute::NOSUID), again])).unwrap();
        assert_eq!(options_of("/t"), "rw,nosuid,noexec,relatime");
        assert!(fs::read_to_string("/proc/self/mountinfo").unwrap().contains("size=1024k"));
    });
}

#[test]
fn a_user_namespace_sees_its_own_cgroup() {
    let name = "a_user_namespace_sees_its_own_cgroup";
    // Without a cgroup namespace of its own it may not mount a cgroup2.
    inside("-m -n -i -u -p -f -U -r", name, || {
        let path = PathBuf::from("/sys/fs/cgroup/unified");
        if !path.join("cgroup.procs").exists() {
            eprintln!("skipped: this host has no cgroup v2 there");
            return;
        }
        let bundle = Bundle::new("cgroup2");
        let fs = Filesystem {
            fstype: "cgroup".into(),
            source: None,
            data: Vec::new(),
            superblock_flags: Vec::new(),
            copy_up: false,
        };
        let mut plan = bundle.with([
            filesystem("proc", "/proc", "", SAFE),
            filesystem("sysfs", "/sys", "", SAFE | RO),
            mount("/sys/fs/cgroup", MountKind::Cgroup(fs), SAFE | RO),
        ]);
        (plan.user_namespace, plan.privileged) = (true, false);
        plan.cgroup = CgroupView::V2 { path, host: None };
        go(&plan).unwrap();
        assert!(Path::new("/sys/fs/cgroup/cgroup.procs").exists());
        assert_eq!(options_of("/sys/fs/cgroup"), "ro,nosuid,nodev,noexec,relatime");
    });
}

#[test]
fn labels_go_where_the_kernel_takes_them() {
    inside(ALL, "labels_go_where_the_kernel_takes_them", || {
        let bundle = Bundle::new("label");
        for (fstype, own, kind, expected) in [
            ("tmpfs", "size=1m", "context", "size=1m context=label"),
            ("tmpfs", "", "fscontext", "fscontext=label"),
            ("tmpfs", "", "rootcontext", "rootcontext=label"),
            ("devpts", "", "defcontext", "defcontext=label"),
            // What the mount's own options say is meant.
            ("tmpfs", "context=own", "context", "context=own"),
            ("tmpfs", "context=own", "defcontext", "context=own"),
            ("tmpfs", "defcontext=own", "context", "defcontext=own"),
            ("tmpfs", "rootcontext=own", "context", "rootcontext=own context=label"),
            ("tmpfs", "fscontext=own", "fscontext", "fscontext=own"),
            ("proc", "", "context", ""),
            ("sysfs", "", "fscontext", ""),
            ("mqueue", "", "context", ""),
        ] {
            let mut plan = bundle.plan();
            plan.mount_label = Some(specconv::MountLabel { option: kind, label: "label".into() });
            let mount = filesystem(fstype, "/mnt", own, 0);
            let MountKind::Filesystem(fs) = &mount.kind else { unreachable!() };
            let recipe = super::mount::recipe(&plan, fs, 0, None);
            let told: Vec<String> =
                recipe.options.iter().map(|(key, value)| format!("{key}={}", value.unwrap())).collect();
            assert_eq!(told.join(" "), expected, "{fstype} {own} {kind}");
        }
    });
}

#[test]
fn a_bound_dev_is_left_alone() {
    inside(ALL, "a_bound_dev_is_left_alone", || {
        let bundle = Bundle::new("bound");
        let node = |path: &str, minor| specconv::Device {
            index: 0,
            path: path.into(),
            kind: specconv::DeviceKind::Char,
            major: 1,
            minor,
            mode: 0o640,
            uid: 7,
            gid: 8,
        };
        let before = fs::metadata("/dev/full").unwrap().ctime_nsec();
        let mut plan = bundle.with([bind("/dev", "/dev", 0)]);
        plan.devices = vec![node("/dev/missing", 7)];
        let told = build(&plan, Vec::new()).unwrap_err().to_string();
        assert!(told.contains("linux.devices[0] (/dev/missing)"), "{told}");
        assert!(!Path::new("/dev/missing").exists());
        plan.devices = vec![node("/dev/full", 7), node("/srv/own", 7)];
        go(&plan).unwrap();
        let own = fs::metadata("/srv/own").unwrap();
        assert_eq!((own.uid(), own.gid(), own.mode() & 0o7777), (7, 8, 0o640));
        assert_eq!(fs::metadata("/dev/full").unwrap().ctime_nsec(), before, "the host's node is not ours to change");
    });
}

#[test]
fn t04_a_storm_of_exchanges() {
    inside(ALL, "t04_a_storm_of_exchanges", || {
        let bundle = Bundle::new("t04");
        let volume = bundle.folder.join("volume");
        fs::create_dir_all(volume.join("dir")).unwrap();
        symlink(bundle.outside(), volume.join("link")).unwrap();
        let (one, other) = (volume.join("dir"), volume.join("link"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(file::CWD, &one, file::CWD, &other, flags).unwrap();
                }
            });
            for _ in 0..50 {
                let plan = bundle.with([bind("volume", "/a", 0), filesystem("tmpfs", "/a/dir/x/y", "", 0)]);
                // Either way it must be inside; an error is as good.
                let _ = build(&plan, Vec::new());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        bundle.assert_untouched();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(&format!(" {}", bundle.outside())), "{table}");
    });
}

#[test]
fn no_pivot_hides_the_host() {
    inside(ALL, "no_pivot_hides_the_host", no_pivot);
}

#[test]
fn no_pivot_without_the_mount_api() {
    inside(ALL, "no_pivot_without_the_mount_api", || {
        mount_api::TREES.close();
        mount_api::CONTEXTS.close();
        no_pivot();
    });
}

fn no_pivot() {
    let bundle = Bundle::new("nopivot");
    let mut plan = bundle.with_default([]);
    plan.entry = Entry::MoveRoot;
    // Opened before, it goes on to show all that can be reached from the host's root.
    let host = fs::File::open("/proc/self/mountinfo").unwrap();
    go(&plan).unwrap();
    assert!(is_device("/dev/null", 1, 3));
    let text = std::io::read_to_string(host).unwrap();
    let whole: Vec<_> = mountinfo::mounts(text.as_bytes()).filter_map(super::pivot::kernel_view).collect();
    assert_eq!(whole.len(), 2, "only the container's own: {text}");
}

#[test]
fn idmapped_binds() {
    inside("-m -n -i -u -p -f --mount-proc", "idmapped_binds", || {
        let bundle = Bundle::new("idmap");
        fs::create_dir_all(bundle.folder.join("data")).unwrap();
        fs::write(bundle.folder.join("data/file"), "").unwrap();
        let ids = vec![specconv::IdMap { container: 0, host: 1000, size: 10 }];
        let mut mapped = bind("data", "/data", 0);
        mapped.id_map = Some(specconv::MountIdMap {
            recursive: false,
            ids: specconv::MountIds::Explicit { uids: ids.clone(), gids: ids },
        });
        let plan = bundle.with_default([mapped]);
        assert!(lends(&plan));
        go(&plan).unwrap();
        assert_eq!(fs::metadata("/data/file").unwrap().uid(), 1000);
    });
}

#[test]
fn the_terminal_is_the_console() {
    inside(ALL, "the_terminal_is_the_console", || {
        let bundle = Bundle::new("console");
        let plan = bundle.with_default([]);
        let mut root = build(&plan, Vec::new()).unwrap();
        root.enter().unwrap();
        let peer = fs::File::open("/dev/full").unwrap();
        root.attach_console(peer.as_fd()).unwrap();
        assert!(is_device("/dev/console", 1, 7));
        fs::remove_file("/dev/stdin").unwrap();
        root.seal().unwrap();
    });
}

#[test]
fn t18_console_is_a_trap() {
    inside(ALL, "t18_console_is_a_trap", || {
        let bundle = Bundle::new("t18");
        fs::create_dir(bundle.root("dev")).unwrap();
        symlink(format!("{}/new", bundle.outside()), bundle.root("dev/console")).unwrap();
        let plan = bundle.with([]);
        let root = build(&plan, Vec::new()).unwrap();
        let peer = fs::File::open("/dev/null").unwrap();
        let told = root.attach_console(peer.as_fd()).unwrap_err().to_string();
        assert!(told.contains("/dev/console") && told.contains("ELOOP"), "{told}");
        bundle.assert_untouched();
    });
}

#[test]
fn cgroups_of_version_1() {
    inside(ALL, "cgroups_of_version_1", || {
        let host = Path::new("/sys/fs/cgroup");
        if !host.join("pids").exists() {
            eprintln!("skipped: this host has no cgroup v1");
            return;
        }
        let bundle = Bundle::new("cgroup1");
        let hierarchy = |name: &str, path: &str| Hierarchy {
            name: name.into(),
            fstype: "cgroup",
            options: vec![name.into()],
            path: host.join(path),
        };
        let fs = Filesystem {
            fstype: "cgroup".into(),
            source: None,
            data: Vec::new(),
            superblock_flags: Vec::new(),
            copy_up: false,
        };
        for namespace in [false, true] {
            let mut plan = bundle.with_default([mount("/sys/fs/cgroup", MountKind::Cgroup(fs.clone()), SAFE | RO)]);
            plan.cgroup = CgroupView::V1 {
                hierarchies: vec![
                    hierarchy("pids", "pids"),
                    Hierarchy { name: "freezer,joined".into(), ..hierarchy("freezer", "freezer") },
                ],
                namespace,
            };
            if !namespace {
                let root = build(&plan, Vec::new()).unwrap();
                drop(root);
                continue;
            }
            go(&plan).unwrap();
            assert!(Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists());
            assert_eq!(std::fs::read_link("/sys/fs/cgroup/joined").unwrap(), Path::new("freezer,joined"));
            assert!(Path::new("/sys/fs/cgroup/freezer/cgroup.procs").exists());
            assert!(
                options_of("/sys/fs/cgroup").starts_with("ro") && options_of("/sys/fs/cgroup/pids").starts_with("ro")
            );
        }
    });
}

#[test]
#[ignore = "a measurement, not a test"]
fn what_it_costs() {
    let bundle = Bundle::new("cost");
    for name in ["proc", "dev", "sys", "data"] {
        fs::create_dir(bundle.root(name)).unwrap();
    }
    let mut plan = bundle.with_default([]);
    masks(&mut plan);
    plan.readonly = true;
    let started = std::time::Instant::now();
    let mut root = build(&plan, Vec::new()).unwrap();
    let built = started.elapsed();
    root.enter().unwrap();
    let entered = started.elapsed();
    root.seal().unwrap();
    eprintln!("build {built:?}, enter {:?}, seal {:?}", entered - built, started.elapsed() - entered);
}
