//! Sentinels of the host: what no container may change. And namespaces of a test's own, so that one that does harms nobody.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Values of the whole kernel, or of the test's own network, that an escape would write.
const VALUES: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/core_pipe_limit",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/poweroff_cmd",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/yama/ptrace_scope",
    "/proc/sys/fs/binfmt_misc/status",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/conf/all/forwarding",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/uevent_helper",
];

/// Files that the host's root believes.
const FILES: &[&str] =
    &["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/ld.so.preload", "/etc/hosts", "/etc/resolv.conf"];

/// Directories whose own mode and owner are looked at.
const DIRECTORIES: &[&str] = &["/", "/dev", "/etc", "/proc", "/sys", "/sys/fs/cgroup", "/tmp", "/usr/bin", "/usr/sbin"];

/// Names that a runtime makes in what it takes for the container's /dev.
const STRAY: &[&str] =
    &["null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr", "core", "console"];

/// How the host was: a name and what was seen there.
pub struct Host {
    seen: BTreeMap<String, String>,
    token: String,
}

impl Host {
    /// Looks at everything. Mounts of other tests, which run at the same time, do not carry this test's token.
    pub fn observe(token: &str) -> Host {
        let mut seen = BTreeMap::new();
        // Of this thread: its mount namespace is its own (see `enter`).
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        for line in mounts.lines().filter(|line| line.contains(token) || !line.contains("/orlop-test-")) {
            seen.insert(format!("mount {line}"), "there".to_owned());
        }
        for &path in VALUES {
            if let Ok(value) = std::fs::read_to_string(path) {
                seen.insert(path.to_owned(), value.trim_end().to_owned());
            }
        }
        for path in FILES {
            let content = std::fs::read(path).unwrap_or_default();
            seen.insert((*path).to_owned(), format!("{} {content:?}", facts(Path::new(path))));
        }
        for path in DIRECTORIES {
            let meta = std::fs::metadata(path).unwrap();
            seen.insert((*path).to_owned(), format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid()));
        }
        for entry in std::fs::read_dir("/dev").unwrap().flatten() {
            seen.insert(entry.path().display().to_string(), facts(&entry.path()));
        }
        for name in STRAY {
            seen.insert(format!("/{name}"), facts(&Path::new("/").join(name)));
        }
        let binary = crate::support::binary();
        seen.insert(binary.display().to_string(), facts(binary));
        let own = std::fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        for hierarchy in crate::support::cgroup::hierarchies() {
            // Others may mount hierarchies meanwhile; ours stay.
            let controllers = format!(":{}:", hierarchy.controllers.join(","));
            let line = own.lines().find_map(|line| line.split_once(&controllers));
            seen.insert(format!("own cgroup in {controllers}"), line.map_or("", |(_, path)| path).to_owned());
            let agent = hierarchy.at.join("release_agent");
            let meta = std::fs::metadata(&hierarchy.at).unwrap();
            let value = format!("{:o} {}:{} {:?}", meta.mode(), meta.uid(), meta.gid(), std::fs::read(agent).ok());
            seen.insert(hierarchy.at.display().to_string(), value);
        }
        Host { seen, token: token.to_owned() }
    }

    /// What is not as it was.
    pub fn changed(&self) -> Vec<String> {
        let now = Host::observe(&self.token).seen;
        let names: std::collections::BTreeSet<_> = self.seen.keys().chain(now.keys()).collect();
        let nothing = "nothing".to_owned();
        names
            .into_iter()
            .filter_map(|name| {
                let (before, now) = (self.seen.get(name).unwrap_or(&nothing), now.get(name).unwrap_or(&nothing));
                (before != now).then(|| format!("{name}: was {before}, is {now}"))
            })
            .collect()
    }

    /// Puts back what a test's namespaces do not keep from the machine.
    pub fn restore(&self) {
        for &path in VALUES {
            let now = std::fs::read_to_string(path).ok();
            if let Some(before) = self.seen.get(path).filter(|before| now.as_deref().map(str::trim_end) != Some(before))
            {
                let _ = std::fs::write(path, before);
            }
        }
        for name in STRAY {
            let path = Path::new("/").join(name);
            if self.seen.get(&path.display().to_string()).is_some_and(|before| before == "nothing") {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Everything of an object that a touch would change; its change time betrays chown, chmod and writing.
fn facts(path: &Path) -> String {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return "nothing".to_owned() };
    let ctime = if meta.file_type().is_char_device() || meta.is_dir() {
        // Writing to a device moves its times, and so does an entry in a directory.
        String::new()
    } else {
        format!(" {}.{:09}", meta.ctime(), meta.ctime_nsec())
    };
    let link = std::fs::read_link(path).unwrap_or_default();
    let size = if meta.is_dir() { 0 } else { meta.size() };
    format!(
        "{:o} {}:{} inode {} device {:x} size {size}{ctime} {}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.ino(),
        meta.rdev(),
        link.display()
    )
}

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

/// Takes this thread, and all that it starts, into mount, network, UTS and IPC namespaces of its own.
pub fn enter() {
    if ENTERED.replace(true) {
        return;
    }
    let all = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(all).unwrap();
    propagation(MsFlags::MS_PRIVATE);
    leave_others_behind();
    own_dev();
    // Shared again, among ourselves: a mount that leaves its container must be seen.
    propagation(MsFlags::MS_SHARED);
}

/// Mounts of tests that run at the same time came along as copies, and go when their tests end.
fn leave_others_behind() {
    let mountinfo = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    for at in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.contains("/orlop-test-")) {
        let _ = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn propagation(kind: MsFlags) {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>).unwrap();
}

/// Covers /dev with one that has the same nodes, but not the same inodes.
fn own_dev() {
    let mut nodes: Vec<(PathBuf, std::fs::Metadata)> = Vec::new();
    for entry in std::fs::read_dir("/dev").unwrap().flatten() {
        nodes.push((entry.path(), std::fs::symlink_metadata(entry.path()).unwrap()));
    }
    let pts = std::fs::File::open("/dev/pts").unwrap();
    mount(Some("orlop-dev"), "/dev", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).unwrap();
    for (path, meta) in nodes {
        let kind = meta.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            let kind =
                if kind.is_char_device() { nix::sys::stat::SFlag::S_IFCHR } else { nix::sys::stat::SFlag::S_IFBLK };
            nix::sys::stat::mknod(&path, kind, nix::sys::stat::Mode::empty(), meta.rdev()).unwrap();
            chown(&path, Some(meta.uid()), Some(meta.gid())).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(meta.mode() & 0o7777)).unwrap();
        }
    }
    for directory in ["pts", "shm", "mqueue"] {
        std::fs::create_dir(Path::new("/dev").join(directory)).unwrap();
    }
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), Path::new("/dev").join(name)).unwrap();
    }
    if !Path::new("/dev/ptmx").exists() {
        std::os::unix::fs::symlink("pts/ptmx", "/dev/ptmx").unwrap();
    }
    let held = format!("/proc/thread-self/fd/{}", pts.as_raw_fd());
    mount(Some(held.as_str()), "/dev/pts", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}
