//! Objects that the image brought: nodes, configuration of libraries, programs, trees to copy.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::{is_orlop, is_root};
use crate::trap::{Plant, Trap};

/// T31: a node that the image brought is the device it should be, or is replaced, or the start fails.
#[test]
fn t31_nodes_of_the_image_are_checked() {
    require!(is_root(), "root of the host");
    for plant in [Plant::Char(1, 1), Plant::Block(1, 5), Plant::File(b"not zero")] {
        let mut trap = Trap::sh("stat -c '%F %t:%T' /dev/zero /dev/urandom");
        trap.without_dev();
        trap.plant("dev/zero", plant);
        trap.survive().said(|text| assert_eq!(text, "character special file 1:5\ncharacter special file 1:9\n"));
    }
}

/// T31: what the image has at the place of a device is that device, or the start fails; links and directories do not lead
/// its owner or mode anywhere.
#[test]
fn t31_places_of_devices_are_traps() {
    require!(is_root(), "root of the host");
    let links = ["../../outside/target", "../../outside/new"].map(Plant::Link);
    for plant in links.into_iter().chain([Plant::Directory, Plant::File(b""), Plant::Fifo, Plant::Block(10, 229)]) {
        let mut trap = Trap::sh("stat -c '%F %t:%T %a %u:%g' /dev/fuse");
        trap.without_dev();
        trap.plant("dev/fuse", plant);
        trap.edit(|spec| {
            spec["linux"]["devices"] =
                json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 33, "gid": 44}]);
        });
        trap.survive().said(|text| assert_eq!(text, "character special file a:e5 640 33:44\n", "{plant:?}"));
    }
}

/// T36: CVE-2019-14271: of all that a C library would read in the image, HOME's passwd alone is opened, and nothing hangs.
#[test]
fn t36_cve_2019_14271_the_runtime_reads_nothing_of_the_image() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("echo fine");
    LOADED.iter().for_each(|name| trap.plant(name, Plant::Fifo));
    trap.works().said(|text| assert_eq!(text, "fine\n"));
    require!(is_orlop(), "a runtime of many roads");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    LOADED.iter().for_each(|name| trap.plant(name, Plant::File(b"/evil.so\n")));
    // A static program: what is opened, the runtime opens.
    trap.args(&["true"]);
    let (outcome, lines) = trap.traced(&["-e", "trace=open,openat,openat2,access,stat,newfstatat,statx,pivot_root"]);
    outcome.ok();
    let pid = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let entered = lines.iter().position(|line| line.contains("pivot_root(")).unwrap();
    let init = pid(&lines[entered]);
    let inside: Vec<_> = lines[entered..].iter().filter(|line| pid(line) == init).collect();
    assert!(
        inside.iter().any(|line| line.contains("/etc/passwd")),
        "the trace does not show what it should: {lines:#?}"
    );
    for name in LOADED.into_iter().chain(["etc/group"]) {
        let looked: Vec<_> = inside.iter().filter(|line| line.contains(&format!("{name}\""))).collect();
        assert!(looked.is_empty(), "{looked:#?}");
    }
}

/// What C libraries, their name services and their loaders look for.
const LOADED: [&str; 10] = [
    "etc/localtime",
    "etc/nsswitch.conf",
    "etc/ld.so.preload",
    "etc/ld.so.cache",
    "etc/host.conf",
    "etc/resolv.conf",
    "lib/x86_64-linux-gnu/libnss_files.so.2",
    "lib/libnss_compat.so.2",
    "usr/lib/locale/locale-archive",
    "usr/lib/gconv/gconv-modules",
];

/// T53: what tmpcopyup copies is the thing itself, never what a link points to.
#[test]
fn t53_copy_up_copies_links_as_links() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh(
        "cat /data/secret 2>/dev/null; readlink /data/secret; test -p /data/pipe && echo pipe; stat -c %a /data/suid; true",
    );
    trap.plant("data/secret", Plant::Out("target"));
    trap.plant("data/pipe", Plant::Fifo);
    trap.plant("data/suid", Plant::File(b""));
    std::fs::set_permissions(trap.rootfs("data/suid"), PermissionsExt::from_mode(0o4755)).unwrap();
    trap.mount(json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    trap.survive().said(|text| {
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("/outside/target\npipe\n4755\n"), "{text}");
    });
}

/// T53: what tmpcopyup meets in an image can be of any size and shape.
#[test]
fn t53_copy_up_ends() {
    require!(is_root(), "root of the host");
    for (shape, seen) in [
        (Some(Plant::Sparse(1 << 40)), "regular file 1099511627776 thing"),
        (Some(Plant::Link("..")), "symbolic link 2 thing"),
        (Some(Plant::Char(1, 5)), "character special file 0 thing"),
        // Two thousand levels.
        (None, "directory"),
    ] {
        let mut trap = Trap::sh("cd /data && stat -c '%F %s %n' thing; true");
        let data = trap.rootfs("data");
        match shape {
            Some(plant) => trap.plant("data/thing", plant),
            None => {
                std::fs::create_dir(&data).unwrap();
                let mut here = std::os::fd::OwnedFd::from(std::fs::File::open(&data).unwrap());
                for _ in 0..2_000 {
                    rustix::fs::mkdirat(&here, "thing", rustix::fs::Mode::RWXU).unwrap();
                    here = rustix::fs::openat(&here, "thing", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                        .unwrap();
                }
            }
        }
        trap.mount(
            json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=64m"]}),
        );
        // Neither descriptors nor the stack are the image's to exhaust: with 10,000 levels it overflowed.
        trap.prelude("ulimit -n $(ulimit -Hn)");
        let life = trap.survive();
        life.said(|text| assert!(text.starts_with(seen), "{shape:?}: {text}"));
        let copied = match shape {
            Some(_) => life.run.status.success(),
            None => life.run.stderr.contains("1000 directories deep"),
        };
        assert!(!is_orlop() || copied, "{}", life.run);
        // Longer than a path may be: not for remove_dir_all.
        crate::support::outcome::host(&trap.scratch(""), &["rm", "-rf", data.to_str().unwrap()]).ok();
    }
}

/// T60: what stands at /etc/passwd and /etc/group is read within bounds, and only where it is a file.
#[test]
fn t60_files_that_are_read_end() {
    require!(is_root(), "root of the host");
    let long = vec![b'x'; 20 << 20];
    for plant in [
        Plant::Fifo,
        Plant::Char(1, 5),
        Plant::Directory,
        Plant::Link("/pipe"),
        Plant::Link("/proc/self/fd/0"),
        Plant::Link("/dev/zero"),
        Plant::Link("passwd"),
        Plant::Out("passwd"),
        Plant::File(&long),
        Plant::Sparse(1 << 40),
    ] {
        let mut trap = Trap::sh("echo $HOME; grep ^Uid: /proc/self/status");
        trap.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
        trap.plant("pipe", Plant::Fifo);
        trap.plant("etc/passwd", plant);
        trap.plant("etc/group", plant);
        let life = trap.survive();
        life.said(|text| assert_eq!(text, "/\nUid:\t1000\t1000\t1000\t1000\n"));
        assert!(!is_orlop() || life.exec.is_some_and(|exec| exec.status.success()), "{}", life.run);
    }
}
