//! What the runtime itself makes and reads: its state folder, the directory for sd_notify, the bundle, volumes at /dev.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use serde_json::json;

use crate::require;
use crate::support::mountinfo;
use crate::support::outcome::Outcome;
use crate::support::{Bundle, is_orlop, is_root};
use crate::trap::Trap;

/// T40: whoever can write to a state directory says whom `delete` kills and which hooks it runs. A `--root` may lie in a
/// place of many owners.
#[test]
fn t40_a_state_directory_of_somebody_else_is_not_believed() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::new();
    let caught = trap.scratch("caught");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo > {}", caught.display())]}]);
    trap.edit(|spec| spec["hooks"] = json!({"poststop": hook}));
    trap.create().ok();
    trap.kill("KILL").ok();
    trap.wait_for_status("stopped");
    let state = trap.state_root().join(trap.id());
    let owned_by = |owner: u32| {
        for entry in std::fs::read_dir(&state).unwrap().flatten() {
            std::os::unix::fs::lchown(entry.path(), Some(owner), Some(owner)).unwrap();
        }
        chown(&state, Some(owner), Some(owner)).unwrap();
    };
    owned_by(1234);
    let outcomes = [trap.delete(), trap.delete_force(), trap.start(), trap.kill("KILL"), trap.exec("true")];
    assert!(!caught.exists(), "ran the hooks that somebody else may have written");
    outcomes.into_iter().for_each(|outcome| drop(outcome.fails()));
    owned_by(0);
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o777)).unwrap();
    trap.delete().fails();
    assert!(!caught.exists());
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o711)).unwrap();
    trap.delete().ok();
    assert!(caught.exists(), "the twin: its own hooks run");
}

/// T57: what stands in the fifo's place is not opened: a link to a fifo of the host, a file, another kind.
#[test]
fn t57_a_replaced_fifo_is_not_opened() {
    require!(is_root() && is_orlop(), "a runtime that does not trust its own state folder");
    for kind in ["link", "file", "missing", "directory"] {
        let trap = Trap::new();
        trap.create().ok();
        let fifo = trap.state_root().join(trap.id()).join("exec.fifo");
        let kept = trap.scratch("kept");
        std::fs::rename(&fifo, &kept).unwrap();
        match kind {
            "link" => symlink(trap.canary.path().join("pipe"), &fifo).unwrap(),
            "file" => std::fs::write(&fifo, "").unwrap(),
            "directory" => std::fs::create_dir(&fifo).unwrap(),
            _ => {}
        }
        trap.start().fails();
        trap.delete_force().ok();
        trap.assert_gone();
        std::fs::remove_file(kept).unwrap();
    }
}

/// T01 by way of a mount: a volume lands on /dev, over a link of the image, and the devices are made in the volume.
#[test]
fn t01_cve_2026_41579_a_link_leads_a_volume_onto_dev() {
    require!(is_root(), "root of the host");
    for target in ["dev", "/dev", "../../dev", "dev/."] {
        let mut trap = Trap::new();
        trap.without_dev();
        symlink(target, trap.rootfs("x")).unwrap();
        let volume = trap.canary.path().to_owned();
        trap.mount(json!({"destination": "/x", "type": "bind", "source": volume, "options": ["bind"]}));
        trap.survive();
    }
    // Twin: what the config itself binds there is the container's /dev, and nothing is made in it.
    let mut trap = Trap::new();
    trap.without_dev();
    let volume = trap.canary.path().to_owned();
    trap.mount(json!({"destination": "/dev", "type": "bind", "source": volume, "options": ["bind"]}));
    trap.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    trap.run();
}

/// A service manager's socket, and the command with it in the environment.
fn notified(bundle: &Bundle, words: &[String]) -> (UnixDatagram, Outcome) {
    let path = bundle.scratch(&format!("manager.{}", words[0]));
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = bundle.command(words);
    command.env("NOTIFY_SOCKET", &path);
    (manager, bundle.finish(command))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// T51: the places that the runtime makes by itself, planted as links to the canary.
#[test]
fn t51_cve_2025_24965_the_runtimes_own_files_are_planted() {
    require!(is_root(), "root of the host");
    for (place, target) in [
        ("run/notify", "../../outside/dir"),
        ("run/notify", "../../outside/new"),
        ("run", "../outside"),
        ("work", "../outside/new"),
        ("run/.containerenv", "../../outside/target"),
        (".krun_config.json", "../outside/target"),
        ("dev", "../outside"),
    ] {
        let mut trap = Trap::new();
        let place = trap.rootfs(place);
        let _ = std::fs::remove_dir(&place);
        symlink(target, &place).unwrap();
        trap.writable().edit(|spec| spec["process"]["cwd"] = json!("/work/below")).write();
        let (_manager, outcome) = notified(&trap, &trap.with_bundle(&["create"]));
        trap.compare(format_args!("create with {target}: {outcome}"));
        trap.delete_force();
        assert!(!trap.canary.path().join("new").exists());
        trap.survive();
    }
}

/// T52: what the container mounts on the directory for sd_notify must not appear in the state folder.
#[test]
fn t52_the_notify_directory_is_private() {
    require!(is_root(), "root of the host");
    for propagation in ["rprivate", "rslave", "rshared"] {
        let mut trap = Trap::sh("grep ' /run/notify' /proc/self/mountinfo; true");
        // A mount of its own, as /run is: the one that the root filesystem lies in is made private in any case.
        let state = trap.state_root();
        std::fs::create_dir(&state).unwrap();
        mount(Some("state"), &state, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        trap.host_changed_on_purpose();
        trap.writable().edit(|spec| spec["linux"]["rootfsPropagation"] = json!(propagation)).write();
        let (_manager, outcome) = notified(&trap, &trap.with_bundle(&["create"]));
        trap.compare(format_args!("create: {outcome}"));
        // Without a service manager of its own, `start` waits for nobody.
        trap.start().ok();
        trap.wait_for_status("stopped");
        let said = std::fs::read_to_string(outcome.ok().stdout_path()).unwrap();
        let mounts = mountinfo::parse(&said);
        // crun shows the directory at start.
        assert!(mounts.len() == 1 || !is_orlop(), "{said}");
        // With a shared root it is shared as well, but with nobody on the host.
        let host = mountinfo::parse(&std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap());
        for group in mounts.iter().flat_map(|mount| &mount.propagation).filter(|word| word.starts_with("shared:")) {
            assert!(!host.iter().any(|mount| mount.propagation.contains(group)), "{propagation}: {said}");
        }
        trap.delete_force().ok();
        nix::mount::umount2(&state, nix::mount::MntFlags::MNT_DETACH).unwrap();
        trap.host_changed_on_purpose();
    }
}

/// T52: a container with CAP_SYS_ADMIN makes the directory writable for itself and prepares it for `start`.
#[test]
fn t52_the_notify_socket_is_planted_by_the_container() {
    require!(is_root(), "root of the host");
    for plant in ["ln -s CANARY/target", "ln -s CANARY/new", "ln -s CANARY/socket", "mkfifo", "mkdir -p", "touch"] {
        let mut trap = Trap::new();
        trap.all_capabilities().writable().args(&["sleep", "1000"]).write();
        let (_manager, created) = notified(&trap, &trap.with_bundle(&["create"]));
        created.ok();
        let plant = plant.replace("CANARY", &trap.canary.path().display().to_string());
        let script = format!("mount -o remount,bind,rw /run/notify && {plant} /run/notify/notify.sock; true");
        trap.exec(&script).ok();
        let words = words(&["start", trap.id()]);
        // It may wait for a word of readiness that never comes.
        let path = trap.scratch("manager");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let mut start = trap.command(&words);
        start.env("NOTIFY_SOCKET", &path);
        let start = trap.spawn(start);
        std::thread::sleep(std::time::Duration::from_millis(150));
        trap.compare(format_args!("start with {plant}"));
        trap.delete_force();
        start.wait();
        trap.compare(format_args!("the end of start with {plant}"));
        trap.assert_gone();
    }
}

/// The exec fifo, the state folder and the lock are not to be had from inside: nothing of `--root` is in sight of init, even
/// while it waits (T54, T57).
#[test]
fn t54_nothing_of_the_state_folder_is_in_init() {
    require!(is_root(), "root of the host");
    let trap = Trap::new();
    trap.create().ok();
    let pid = trap.pid();
    let state = trap.state_root().display().to_string();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        seen.push(link.clone());
        let meta = std::fs::metadata(entry.path());
        let directory = meta.is_ok_and(|meta| meta.is_dir());
        assert!(!directory, "init holds the directory {link:?} of the host");
        let fifo = link == Path::new(&format!("{state}/{}/exec.fifo", trap.id()));
        assert!(fifo || !link.starts_with(&state), "init holds {link:?}");
        assert!(!link.starts_with("/sys/fs/cgroup"), "init holds {link:?}");
    }
    assert!(seen.len() < 12, "{seen:?}");
    trap.delete_force().ok();
}
