//! Fakes: an image's `/dev/null`, console, procfs or masked path that is not what it says.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::outcome::after;
use crate::support::{is_orlop, is_root};
use crate::trap::{Plant, Trap};

/// T15: CVE-2025-31133, CVE-2025-62161: the image's /dev/null is not what masks. runc 1.1.5 binds the hostname file, rw.
#[test]
fn t15_cve_2025_31133_masks_are_made_of_the_real_null() {
    require!(is_root(), "root of the host");
    for null in [
        Plant::Link("/proc/sys/kernel/hostname"),
        Plant::File(b"fake"),
        Plant::Fifo,
        Plant::Char(1, 5),
        Plant::Directory,
        Plant::Nothing,
    ] {
        let mut trap = Trap::sh("stat -c '%F %t:%T' /proc/keys; cat /proc/keys | wc -c");
        trap.without_dev();
        trap.plant("dev/null", null);
        trap.edit(|spec| spec["linux"]["maskedPaths"] = json!(["/proc/keys"]));
        trap.survive().said(|text| assert!(text.starts_with("character special file 1:3\n0\n"), "{null:?}: {text}"));
    }
}

#[test]
fn t15_twin_a_real_null_masks() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("stat -c '%F %t:%T' /proc/keys; cat /proc/keys | wc -c");
    trap.works().said(|text| assert_eq!(text, "character special file 1:3\n0\n"));
}

/// T16: what is masked is masked: twice, one below the other, a directory, through a link that stays inside; only what
/// is missing is passed over.
#[test]
fn t16_masks_hold() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh(
        "cat /secret/file /secret/deep/file /single 2>/dev/null; ls /secret | wc -l; touch /secret/x 2>&1; ls -l /alias | wc -l; true",
    );
    std::fs::create_dir_all(trap.rootfs("secret/deep")).unwrap();
    for name in ["secret/file", "secret/deep/file", "single"] {
        std::fs::write(trap.rootfs(name), "told").unwrap();
    }
    symlink("secret/deep", trap.rootfs("alias")).unwrap();
    let masked = json!(["/missing", "/secret/deep", "/secret", "/secret", "/single", "/single", "/alias"]);
    trap.writable().edit(|spec| spec["linux"]["maskedPaths"] = masked);
    trap.works().said(|text| {
        assert!(!text.contains("told"), "{text}");
        assert!(text.starts_with("0\n") && text.contains("Read-only file system"), "{text}");
    });
}

/// CVE-2017-16539, CVE-2018-10892, CVE-2015-3630, GHSA-jq35-85cj-fj4p: what engines learned to mask, `spec` masks as well.
#[test]
fn t16_cve_2017_16539_spec_masks_todays_list() {
    require!(is_root(), "root of the host");
    let trap = Trap::new();
    let mut command = trap.command(&["spec", "--bundle", trap.path().to_str().unwrap()]);
    command.current_dir(trap.path());
    trap.finish(command).ok();
    let spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(trap.path().join("config.json")).unwrap()).unwrap();
    let lists = |field: &str, path: &str| spec["linux"][field].as_array().unwrap().contains(&json!(path));
    for path in [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ] {
        assert!(lists("maskedPaths", path), "{path} is not masked: {spec:#}");
    }
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        assert!(lists("readonlyPaths", path), "{path} is writable: {spec:#}");
    }
}

/// T17: CVE-2015-3630: a read-only path is read-only, also below what is mounted there and through a link; what is
/// missing is passed over.
#[test]
fn t17_cve_2015_3630_readonly_paths_hold() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh(
        "for f in /ro/x /ro/below/x /alias/x /proc/sys/kernel/hostname; do echo planted 2>&1 > $f && echo wrote $f; done; \
         touch /rw/x && echo twin",
    );
    for name in ["ro/below", "rw", "other"] {
        std::fs::create_dir_all(trap.rootfs(name)).unwrap();
    }
    symlink("other", trap.rootfs("alias")).unwrap();
    trap.writable().mount(json!({"destination": "/ro/below", "type": "tmpfs", "source": "tmpfs"}));
    trap.edit(|spec| spec["linux"]["readonlyPaths"] = json!(["/missing", "/ro", "/alias", "/proc/sys"]));
    trap.works().said(|text| assert!(!text.contains("wrote") && text.ends_with("twin\n"), "{text}"));
}

/// A container with a terminal, created with a console socket; compared at each step. `None` where it was refused.
fn on_terminal(trap: &Trap, look: impl FnOnce(&mut crate::support::console::Terminal)) {
    let socket = crate::support::console::ConsoleSocket::at(trap.scratch("console.sock"));
    let path = socket.path().display().to_string();
    let outcome = trap.write().call(&trap.with_bundle(&["create", "--console-socket", &path]));
    trap.compare(format_args!("create: {outcome}"));
    if outcome.status.success() {
        let mut terminal = socket.terminal();
        let outcome = trap.start();
        if outcome.status.success() {
            look(&mut terminal);
        }
    }
    trap.delete_force();
}

/// T18: CVE-2025-52565, CVE-2026-88264: dev/console of the image is a link. crun 1.8.1 makes the file on the host.
#[test]
fn t18_cve_2025_52565_the_console_is_a_link() {
    require!(is_root(), "root of the host");
    let links = ["../../outside/new", "../../outside/target", "/proc/sys/kernel/hostname"].map(Plant::Link);
    for link in links.into_iter().chain([Plant::Out("new"), Plant::Out("target")]) {
        let mut trap = Trap::new();
        trap.without_dev();
        trap.plant("dev/console", link);
        trap.edit(|spec| spec["process"]["terminal"] = json!(true));
        on_terminal(&trap, |_| {});
    }
}

/// T18: a false devpts, a false ptmx, a false peer: the payload's streams are a terminal or there is no payload.
#[test]
fn t18_cve_2025_52565_the_terminal_is_false() {
    require!(is_root(), "root of the host");
    for kind in ["ptmx is a file", "ptmx is a link", "pts is a link", "pts/0 is a file", "no devpts", "read-only /dev"]
    {
        let mut trap =
            Trap::sh("for i in 0 1 2; do test -t $i && echo terminal; done; stat -L -c %t /proc/self/fd/0; echo end");
        trap.without_dev();
        trap.plant("dev/pts", Plant::Directory);
        let devpts = json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]});
        match kind {
            "ptmx is a file" => trap.plant("dev/ptmx", Plant::File(b"")),
            "ptmx is a link" => trap.plant("dev/ptmx", Plant::Out("ptmx")),
            "pts is a link" => trap.plant("dev/pts", Plant::Link("../../outside/dir")),
            "pts/0 is a file" | "no devpts" => {
                for name in ["0", "1", "2", "ptmx"] {
                    trap.plant(&format!("dev/pts/{name}"), Plant::File(b"false"));
                }
            }
            _ => {
                trap.mount(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
            }
        }
        if kind != "no devpts" && kind != "pts is a link" {
            trap.mount(devpts);
        }
        trap.edit(|spec| spec["process"]["terminal"] = json!(true));
        on_terminal(&trap, |terminal| {
            let text = terminal.read_until("end");
            assert!(text.matches("terminal").count() == 3 && text.contains("88"), "{kind}: {text}");
        });
    }
}

#[test]
fn t18_twin_a_terminal_works() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("tty; test -c /dev/console && echo end");
    trap.edit(|spec| spec["process"]["terminal"] = json!(true));
    let mut seen = String::new();
    on_terminal(&trap, |terminal| seen = terminal.read_until("end"));
    assert!(seen.contains("/dev/"), "{seen:?}");
}

/// T19: CVE-2026-88265, runc#3674: /dev/null of the image is a link to a file of a bound directory.
/// runc 1.1.5 hands the payload a writable descriptor of it, crun 1.8.1 chowns it.
#[test]
fn t19_cve_2026_88265_null_leads_to_a_file_of_the_host() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("for i in 0 1 2; do readlink /proc/self/fd/$i; done; echo overwritten >&0; true");
    trap.without_dev();
    trap.null_counts = true;
    let source = trap.canary.path().to_owned();
    trap.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}));
    symlink("/mnt/target", trap.rootfs("dev/null")).unwrap();
    trap.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    trap.survive();
}

/// T19: CVE-2015-3627: streams of each kind arrive as they were passed, and keep their owner where they are not the
/// container's own.
#[test]
fn t19_cve_2015_3627_streams_are_those_that_were_passed() {
    require!(is_root(), "root of the host");
    for uid in [0, 1000] {
        for null in [Plant::Char(1, 3), Plant::File(b""), Plant::Nothing] {
            for passed in ["file", "null", "pipe", "socket", "terminal", "closed"] {
                streams_arrive(passed, null, uid);
            }
        }
    }
}

fn streams_arrive(passed: &str, null: Plant<'_>, uid: u32) {
    let mut trap =
        Trap::sh("for i in 0 1 2; do stat -L -c '%d:%i' /proc/self/fd/$i; done > /tmp/out 2>/dev/null; true");
    trap.without_dev();
    trap.null_counts = true;
    trap.plant("dev/null", null);
    trap.edit(|spec| spec["process"]["user"] = json!({"uid": uid, "gid": uid}));
    let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    let (mut others, pipe) = (Vec::<OwnedFd>::new(), trap.scratch("pipe"));
    let object = match passed {
        "file" => open(&trap.file("passed", "")),
        "null" => open(Path::new("/dev/null")),
        "pipe" => {
            trap.plant_at(&pipe, Plant::Fifo);
            open(&pipe)
        }
        "socket" => {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            others.push(ours.into());
            OwnedFd::from(theirs).into()
        }
        "terminal" => {
            let pty = nix::pty::openpty(None, None).unwrap();
            others.push(pty.master);
            pty.slave.into()
        }
        _ => File::open("/dev/null").unwrap(),
    };
    let before = object.metadata().unwrap();
    let inner = trap.write().command(&trap.with_bundle(&["run", "--detach"]));
    let mut command = after(if passed == "closed" { "exec <&- >&- 2>&-" } else { "exec >&0 2>&0" }, &inner);
    command.stdin(object.try_clone().unwrap());
    let outcome = trap.finish(command);
    trap.compare(format_args!("run with {passed} and {null:?} at /dev/null: {outcome}"));
    if outcome.status.success() {
        trap.wait_for_status("stopped");
        trap.delete();
        let said = std::fs::read_to_string(trap.rootfs("tmp/out")).unwrap_or_default();
        // 2 goes elsewhere while the payload writes this. Where nothing was passed, there must be a null device.
        let is = format!("{}:{}", before.dev(), before.ino());
        let (arrived, wanted) = (said.lines().next(), Some(is.as_str()));
        assert!(passed == "closed" || arrived == wanted, "{passed}, {null:?}, {uid}: not {is}: {said}");
    }
    let now = object.metadata().unwrap();
    // Files and devices are nobody's; the others were made for this container.
    let kept = now.uid() == before.uid();
    assert!(!["file", "null", "closed"].contains(&passed) || kept, "{passed} was given to {}", now.uid());
    assert_eq!(now.mode(), before.mode(), "{passed}");
}

/// T29: CVE-2026-115521: read-only without a mounted /proc, with a planted one.
#[test]
fn t29_cve_2026_115521_readonly_needs_no_proc_of_the_container() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("touch /x 2>&1; touch /mnt/x 2>&1; true");
    trap.without_proc();
    let from = trap.scratch("volume");
    std::fs::create_dir(&from).unwrap();
    trap.mount(json!({"destination": "/mnt", "type": "bind", "source": from, "options": ["bind", "ro"]}));
    for fd in 3..64 {
        trap.plant(&format!("proc/self/fd/{fd}"), Plant::Link("/tmp"));
    }
    let life = trap.survive();
    // runc 1.1.5 does not start without a procfs in the container.
    assert!(life.run.status.success(), "{}", life.run);
    life.said(|text| assert_eq!(text.matches("Read-only file system").count(), 2, "{text}"));
}

/// T29, T51: crun 1.31: a mount point that is missing in a read-only bind is not made in what is bound.
#[test]
fn t29_a_missing_place_in_a_readonly_bind_is_not_made() {
    require!(is_root(), "root of the host");
    for (kind, below) in [("tmpfs", "new"), ("tmpfs", "dir/new/er"), ("file", "newfile"), ("file", "dir/new")] {
        let mut trap = Trap::new();
        let source = trap.canary.path().to_owned();
        trap.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
        let (file, destination) = (trap.file("file", ""), format!("/mnt/{below}"));
        trap.mount(match kind {
            "tmpfs" => json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}),
            _ => json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
        });
        trap.refused("mounts[");
    }
}

/// T29: a neighbour that has the same volume never sees a read-only bind that can be written: it is read-only before it
/// is attached.
#[test]
fn t29_a_readonly_bind_is_so_before_it_is_seen() {
    require!(is_root() && is_orlop(), "a runtime of many roads");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut trap = Trap::new();
    let volume = trap.scratch("volume");
    std::fs::create_dir(&volume).unwrap();
    trap.mount(json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["rbind", "ro"]}));
    let (outcome, lines) = trap.traced(&["-e", "trace=open_tree,mount_setattr,move_mount"]);
    outcome.ok();
    let opened = lines.iter().position(|line| line.contains(&format!("{volume:?}"))).unwrap();
    let handle = lines[opened].rsplit_once("= ").unwrap().1;
    let calls = |call: &str| format!(" {call}({handle}, \"\"");
    let mut of_it = lines[opened..].iter().filter(|line| line.contains(&format!("({handle}, \"\"")));
    let (first, second) = (of_it.next().unwrap(), of_it.next().unwrap());
    assert!(first.contains(&calls("mount_setattr")) && first.contains("MOUNT_ATTR_RDONLY"), "{lines:#?}");
    assert!(second.contains(&calls("move_mount")), "{lines:#?}");
}
