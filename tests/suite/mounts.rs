//! `mounts`: kinds, options, targets, propagation, and what the host sees of it.

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use serde_json::{Value, json};

use crate::require;
use crate::support::mountinfo::{self, Mount};
use crate::support::outcome::called_by;
use crate::support::{Bundle, flavour, is_orlop, is_root};

fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})
}

/// Runs the container and reads its own mountinfo.
#[track_caller]
fn mounts_of(bundle: &mut Bundle) -> Vec<Mount> {
    mountinfo::parse(&bundle.args(&["cat", "/proc/self/mountinfo"]).output())
}

/// A directory of the host in the scratch directory.
fn source(bundle: &Bundle, name: &str) -> String {
    let path = bundle.scratch(name);
    std::fs::create_dir_all(&path).unwrap();
    path.display().to_string()
}

/// Flags, and the words of mountinfo that must and must not be there.
const FLAGS: &[(&str, &[&str], &[&str])] = &[
    ("ro", &["ro"], &["rw"]),
    ("rw", &["rw"], &["ro"]),
    ("nosuid", &["nosuid", "rw"], &[]),
    ("nodev", &["nodev"], &[]),
    ("noexec", &["noexec"], &[]),
    ("noatime", &["noatime"], &["relatime"]),
    ("nodiratime", &["nodiratime"], &[]),
    ("relatime", &["relatime"], &["noatime"]),
    ("strictatime", &[], &["noatime", "relatime"]),
];

#[track_caller]
fn flags_hold(flags: &[(&str, &[&str], &[&str])], kind: &str) {
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source");
    for (option, _, _) in flags {
        let place = format!("/mnt/{option}");
        match kind {
            "bind" => bundle.writable().mount(bind(&from, &place, &["bind", option])),
            _ => bundle.writable().mount(tmpfs(&place, &[option])),
        };
    }
    let mounts = mounts_of(&mut bundle);
    for (option, present, absent) in flags {
        let mount = mountinfo::at(&mounts, &format!("/mnt/{option}"));
        assert!(present.iter().all(|word| mount.has(word)), "{kind} {option}: {:?}", mount.options);
        assert!(!absent.iter().any(|word| mount.has(word)), "{kind} {option}: {:?}", mount.options);
    }
}

#[test]
fn every_flag_reaches_a_bind_mount() {
    require!(is_root(), "root of the host");
    flags_hold(FLAGS, "bind");
}

#[test]
fn every_flag_reaches_a_tmpfs() {
    require!(is_root(), "root of the host");
    flags_hold(FLAGS, "tmpfs");
}

#[test]
fn nosymfollow_reaches_the_mount() {
    require!(is_root(), "root of the host");
    // Linux 5.10; runc since 1.1.4, crun not yet in 1.8.
    flags_hold(&[("nosymfollow", &["nosymfollow"], &[]), ("symfollow", &[], &["nosymfollow"])], "bind");
}

#[test]
fn flags_of_the_source_stay_unless_they_are_cleared() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source");
    bundle.prelude(&format!("mount -t tmpfs -o nosuid,nodev,noexec,ro tmpfs {from}"));
    bundle.writable().mount(bind(&from, "/mnt/kept", &["bind"]));
    bundle.mount(bind(&from, "/mnt/added", &["bind", "noatime"]));
    bundle.mount(bind(&from, "/mnt/cleared", &["bind", "suid", "dev", "exec", "rw"]));
    let mounts = mounts_of(&mut bundle);
    let kept = mountinfo::at(&mounts, "/mnt/kept");
    assert!(["nosuid", "nodev", "noexec", "ro"].iter().all(|flag| kept.has(flag)), "{:?}", kept.options);
    let cleared = mountinfo::at(&mounts, "/mnt/cleared");
    assert!(!["nosuid", "nodev", "noexec", "ro"].iter().any(|flag| cleared.has(flag)), "{:?}", cleared.options);
    assert!(mountinfo::at(&mounts, "/mnt/added").has("noatime"));
}

#[test]
fn flags_are_enforced_and_not_only_shown() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "touch /mnt/ro/x 2>&1; touch /mnt/rw/x && echo wrote; cp /bin/busybox /mnt/noexec/sh && /mnt/noexec/sh -c 'echo ran' 2>&1; \
         mknod /mnt/nodev/null c 1 3 && cat /mnt/nodev/null 2>&1; true",
    );
    let from = source(&bundle, "source");
    bundle.writable().mount(bind(&from, "/mnt/ro", &["bind", "ro"])).mount(bind(&from, "/mnt/rw", &["bind"]));
    bundle.mount(tmpfs("/mnt/noexec", &["noexec"])).mount(tmpfs("/mnt/nodev", &["nodev"]));
    bundle.all_capabilities();
    bundle.edit(|spec| spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]));
    let text = bundle.output();
    assert!(text.contains("/mnt/ro/x: Read-only file system"), "{text}");
    assert!(text.contains("wrote") && !text.contains("ran"), "{text}");
    assert_eq!(text.matches("Permission denied").count(), 2, "noexec and nodev: {text}");
}

/// Recursive flags (mount_setattr(2), Linux 5.12) change what is mounted below; the plain ones do not.
#[test]
fn recursive_flags_reach_what_is_mounted_below() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source/sub").trim_end_matches("/sub").to_owned();
    bundle.prelude(&format!("mount -t tmpfs tmpfs {from}; mkdir {from}/sub; mount -t tmpfs tmpfs {from}/sub"));
    let flags: &[(&str, &str)] = &[
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
    ];
    bundle.writable().mount(bind(&from, "/mnt/plain", &["rbind", "ro", "nosuid"]));
    for (option, _) in flags {
        bundle.mount(bind(&from, &format!("/mnt/{option}"), &["rbind", option]));
    }
    let mounts = mounts_of(&mut bundle);
    let (top, below) = (mountinfo::at(&mounts, "/mnt/plain"), mountinfo::at(&mounts, "/mnt/plain/sub"));
    assert!(top.has("ro") && top.has("nosuid") && below.has("rw") && !below.has("nosuid"));
    for (option, shown) in flags {
        for place in [format!("/mnt/{option}"), format!("/mnt/{option}/sub")] {
            assert!(mountinfo::at(&mounts, &place).has(shown), "{option} at {place}");
        }
    }
}

#[test]
fn recursive_flags_can_be_cleared() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source");
    let flags = "nosuid,nodev,noexec,ro";
    bundle
        .prelude(&format!("mount -t tmpfs tmpfs {from}; mkdir {from}/sub; mount -t tmpfs -o {flags} tmpfs {from}/sub"));
    bundle.writable().mount(bind(&from, "/mnt/cleared", &["rbind", "rrw", "rsuid", "rdev", "rexec"]));
    let mounts = mounts_of(&mut bundle);
    let below = mountinfo::at(&mounts, "/mnt/cleared/sub");
    assert!(!["nosuid", "nodev", "noexec", "ro"].iter().any(|flag| below.has(flag)), "{:?}", below.options);
}

#[test]
fn bind_and_rbind_differ_below() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source");
    bundle.prelude(&format!("mkdir {from}/sub; mount -t tmpfs tmpfs {from}/sub"));
    bundle.writable().mount(bind(&from, "/mnt/one", &["bind"])).mount(bind(&from, "/mnt/all", &["rbind"]));
    let mounts = mounts_of(&mut bundle);
    assert!(mounts.iter().any(|mount| mount.at == "/mnt/all/sub"));
    assert!(!mounts.iter().any(|mount| mount.at == "/mnt/one/sub"));
}

#[test]
fn propagation_is_what_the_options_ask() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source");
    bundle.prelude(&format!(
        "mount -t tmpfs tmpfs {from}; mount --make-shared {from}; mkdir {from}/sub; mount -t tmpfs tmpfs {from}/sub"
    ));
    bundle.writable();
    for option in ["private", "slave", "shared", "rprivate", "rslave", "rshared"] {
        bundle.mount(bind(&from, &format!("/mnt/{option}"), &["rbind", option]));
    }
    bundle.edit(|spec| spec["linux"]["rootfsPropagation"] = json!("rslave"));
    let mounts = mounts_of(&mut bundle);
    let begins =
        |place: &str, word: &str| mountinfo::at(&mounts, place).propagation.iter().any(|have| have.starts_with(word));
    for option in ["shared", "rshared"] {
        assert!(begins(&format!("/mnt/{option}"), "shared:"), "{option}: {mounts:#?}");
    }
    for option in ["slave", "rslave"] {
        let place = format!("/mnt/{option}");
        assert!(begins(&place, "master:") && !begins(&place, "shared:"), "{option}");
    }
    for option in ["private", "rprivate"] {
        let place = format!("/mnt/{option}");
        assert!(!begins(&place, "master:") && !begins(&place, "shared:"), "{option}");
    }
    assert!(!begins("/mnt/rprivate/sub", "shared:") && !begins("/mnt/rprivate/sub", "master:"));
    assert!(begins("/mnt/rshared/sub", "shared:"));
}

#[test]
fn unbindable_is_kept() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "source");
    bundle.writable().mount(bind(&from, "/mnt/x", &["bind", "unbindable"]));
    assert_eq!(mountinfo::at(&mounts_of(&mut bundle), "/mnt/x").propagation, ["unbindable"]);
}

#[test]
fn the_root_has_the_propagation_that_was_asked() {
    require!(is_root(), "root of the host");
    for (asked, shown) in [("shared", "shared:"), ("private", ""), ("slave", ""), ("unbindable", "unbindable")] {
        let mut bundle = Bundle::new();
        bundle.edit(|spec| spec["linux"]["rootfsPropagation"] = json!(asked));
        let mounts = mounts_of(&mut bundle);
        let have = mountinfo::at(&mounts, "/").propagation.join(",");
        assert!(have.starts_with(shown) && (shown.is_empty() || !have.is_empty()), "{asked}: {have:?}");
        assert!(asked == "shared" || !have.contains("shared:"), "{asked}: {have:?}");
    }
}

/// config-linux.md#rootfs-mount-propagation: what the host mounts in a shared root filesystem is for slaves alone.
#[test]
fn a_slave_root_sees_what_the_host_mounts() {
    require!(is_root(), "root of the host");
    for (asked, seen) in [("slave", "seen"), ("rslave", "seen"), ("private", "unseen"), ("unbindable", "unseen")] {
        let mut bundle = Bundle::sh(
            "touch /tmp/ready; until [ -e /tmp/mounted ]; do sleep 0.02; done; [ -e /home/new ] && echo seen || echo unseen",
        );
        let root = bundle.rootfs("").display().to_string();
        bundle.writable().edit(|spec| spec["linux"]["rootfsPropagation"] = json!(asked)).prelude(&format!(
            "cd {root}; mount --bind . .; mount --make-shared {root}; cd {root}
             {{ until [ -e tmp/ready ]; do sleep 0.02; done; mount -t tmpfs new home; touch home/new tmp/mounted; }} &
             cd /"
        ));
        assert_eq!(bundle.output(), seen, "{asked}");
    }
}

#[test]
fn a_file_is_bound_on_a_file_that_need_not_exist() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /etc/given /deep/er/made; test -f /deep/er/made");
    let from = bundle.file("content", "words\n").display().to_string();
    std::fs::write(bundle.rootfs("etc/given"), "covered\n").unwrap();
    bundle.mount(bind(&from, "/etc/given", &["bind", "ro"])).mount(bind(&from, "/deep/er/made", &["bind"]));
    assert_eq!(bundle.output(), "words\nwords");
    assert_eq!(std::fs::read_to_string(bundle.rootfs("etc/given")).unwrap(), "covered\n");
}

#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/x/file");
    std::fs::create_dir(bundle.path().join("volume")).unwrap();
    std::fs::write(bundle.path().join("volume/file"), "relative").unwrap();
    bundle.writable().mount(bind("volume", "/mnt/x", &["bind"]));
    assert_eq!(bundle.output(), "relative");
}

#[test]
fn a_missing_source_is_named() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.mount(bind("/no/such/source", "/mnt/x", &["bind"]));
    let outcome = bundle.run().fails_with("/no/such/source");
    assert!(outcome.stderr.contains("mounts[7]") || !is_orlop(), "which mount? {outcome}");
    assert!(!bundle.rootfs("mnt/x").exists() || !is_orlop(), "a refused mount leaves no target behind");
    bundle.assert_gone();
}

#[test]
fn mounts_nest_in_the_order_of_the_config() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/a/b/c/file; ls /mnt/a");
    let (outer, inner) = (source(&bundle, "outer"), source(&bundle, "inner"));
    std::fs::create_dir(bundle.scratch("outer/b")).unwrap();
    std::fs::write(bundle.scratch("inner/file"), "deep\n").unwrap();
    bundle.writable().mount(bind(&outer, "/mnt/a", &["bind"])).mount(tmpfs("/mnt/a/b", &["mode=755"]));
    bundle.mount(bind(&inner, "/mnt/a/b/c", &["bind"]));
    assert_eq!(bundle.output(), "deep\nb");
}

/// dockerd looks for "not a directory" to explain it.
#[test]
fn files_and_directories_are_not_mounted_on_each_other() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let file = bundle.file("content", "x").display().to_string();
    let directory = source(&bundle, "directory");
    for mount in
        [bind(&file, "/mnt", &["bind"]), bind(&directory, "/bin/busybox", &["bind"]), tmpfs("/bin/busybox", &[])]
    {
        let place = mount["destination"].as_str().unwrap().to_owned();
        let outcome = bundle.mount(mount).run().fails();
        assert!(!is_orlop() || outcome.stderr.contains("not a directory"), "{outcome}");
        bundle.assert_gone();
        bundle.no_mount(&place);
    }
}

/// crun's `copy-symlink`, also where the container's root could not reach the link.
#[test]
fn a_link_is_copied_when_that_is_asked() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh(
        "readlink /mnt/link; readlink /mnt/new/link; cat /mnt/file; grep -c ' /mnt/.*link ' /proc/self/mountinfo; true",
    );
    let file = bundle.file("hidden/file", "content\n").display().to_string();
    let link = bundle.scratch("hidden/link");
    symlink("some/where", &link).unwrap();
    std::fs::set_permissions(bundle.scratch("hidden"), PermissionsExt::from_mode(0o700)).unwrap();
    let link = link.display().to_string();
    bundle.writable();
    for (from, to) in [(&link, "/mnt/link"), (&link, "/mnt/new/link"), (&file, "/mnt/file")] {
        bundle.mount(bind(from, to, &["bind", "copy-symlink"]));
    }
    for _ in 0..2 {
        assert_eq!(bundle.output(), "some/where\nsome/where\ncontent\n0");
    }
    // It says something else now.
    std::fs::remove_file(bundle.rootfs("mnt/link")).unwrap();
    symlink("elsewhere", bundle.rootfs("mnt/link")).unwrap();
    bundle.run().fails();
    std::fs::remove_file(bundle.rootfs("mnt/link")).unwrap();
    std::fs::remove_file(bundle.rootfs("mnt/new/link")).unwrap();
    bundle.user_namespace(100_000);
    assert_eq!(bundle.output(), "some/where\nsome/where\ncontent\n0");
}

#[test]
fn a_later_mount_covers_an_earlier_one() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/x/file");
    for name in ["one", "two"] {
        source(&bundle, name);
        std::fs::write(bundle.scratch(name).join("file"), name).unwrap();
    }
    let (one, two) = (source(&bundle, "one"), source(&bundle, "two"));
    bundle.writable().mount(bind(&one, "/mnt/x", &["bind"])).mount(bind(&two, "/mnt/x", &["bind"]));
    assert_eq!(bundle.output(), "two");
}

#[test]
fn options_of_a_tmpfs_reach_the_filesystem() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c '%a %u %g' /mnt/t; df -k /mnt/t | tail -1 | awk '{print $2}'");
    bundle.writable().mount(tmpfs("/mnt/t", &["size=512k", "mode=1750", "uid=7", "gid=8"]));
    assert_eq!(bundle.output(), "1750 7 8\n512");
}

/// A remount changes what it names: also flags of the superblock, which only words like `async` switch off.
#[test]
fn a_remount_changes_the_filesystem() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.writable();
    for (place, first, then) in [
        ("/mnt/off", ["sync", "lazytime"].as_slice(), ["remount", "async", "nolazytime"].as_slice()),
        ("/mnt/on", &["size=1m"], &["remount", "sync", "size=2m", "loud"]),
        ("/mnt/version", &["sync"], &["remount", "iversion", "sync"]),
    ] {
        bundle.mount(tmpfs(place, first)).mount(tmpfs(place, then));
    }
    let mounts = mounts_of(&mut bundle);
    let has = |place: &str, word: &str| mountinfo::at(&mounts, place).superblock.iter().any(|option| option == word);
    assert!(!has("/mnt/off", "sync") && !has("/mnt/off", "lazytime"));
    assert!(has("/mnt/on", "sync") && has("/mnt/on", "size=2048k"));
    assert!(has("/mnt/version", "sync"));
}

#[test]
fn a_tmpfs_without_a_mode_takes_that_of_what_it_covers() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c %a /mnt/t /dev/shm");
    std::fs::create_dir(bundle.rootfs("mnt/t")).unwrap();
    std::fs::set_permissions(bundle.rootfs("mnt/t"), PermissionsExt::from_mode(0o2751)).unwrap();
    bundle.mount(tmpfs("/mnt/t", &[]));
    assert_eq!(bundle.output().lines().last(), Some("1777"), "an asked mode stays");
    assert!(bundle.output().starts_with("2751") || bundle.output().starts_with("751"), "{}", bundle.output());
}

#[test]
fn a_copied_up_tmpfs_starts_with_what_was_there() {
    require!(is_root(), "root of the host");
    let mut bundle =
        Bundle::sh("cat /data/file; stat -c '%a %u' /data/file /data; readlink /data/link; touch /data/new");
    std::fs::create_dir(bundle.rootfs("data")).unwrap();
    std::fs::write(bundle.rootfs("data/file"), "kept\n").unwrap();
    std::fs::set_permissions(bundle.rootfs("data/file"), PermissionsExt::from_mode(0o644)).unwrap();
    chown(bundle.rootfs("data/file"), Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(bundle.rootfs("data"), PermissionsExt::from_mode(0o711)).unwrap();
    symlink("/nowhere", bundle.rootfs("data/link")).unwrap();
    bundle.mount(tmpfs("/data", &["tmpcopyup"]));
    assert_eq!(bundle.output(), "kept\n644 1000\n711 0\n/nowhere");
    assert!(!bundle.rootfs("data/new").exists());
}

#[test]
fn the_kernel_filesystems_are_there() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let mounts = mounts_of(&mut bundle);
    for (place, fstype) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        assert_eq!(mountinfo::at(&mounts, place).fstype, fstype, "{place}");
    }
    assert!(mountinfo::at(&mounts, "/sys").has("ro"));
    assert!(mountinfo::at(&mounts, "/dev/pts").superblock.iter().any(|word| word == "gid=5"));
    // Nothing of the host is in sight.
    assert!(mounts.iter().all(|mount| !mount.at.contains("orlop-test")), "{mounts:#?}");
}

#[test]
fn the_container_sees_its_own_processes_alone() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("ls /proc | grep -c '^[0-9]'; echo $$");
    let text = bundle.output();
    let (count, pid) = text.split_once('\n').unwrap();
    assert!(count.parse::<u32>().unwrap() <= 4 && pid == "1", "{text}");
}

#[test]
fn an_overlay_shows_both_layers() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/o/low /mnt/o/up; echo new > /mnt/o/written");
    for dir in ["low", "up", "work"] {
        source(&bundle, dir);
    }
    std::fs::write(bundle.scratch("low/low"), "low\n").unwrap();
    std::fs::write(bundle.scratch("up/up"), "up\n").unwrap();
    let dir = |name: &str| bundle.scratch(name).display().to_string();
    let options =
        [format!("lowerdir={}", dir("low")), format!("upperdir={}", dir("up")), format!("workdir={}", dir("work"))];
    bundle
        .writable()
        .mount(json!({"destination": "/mnt/o", "type": "overlay", "source": "overlay", "options": options}));
    assert_eq!(bundle.output(), "low\nup");
    assert_eq!(std::fs::read_to_string(bundle.scratch("up/written")).unwrap(), "new\n");
}

/// fsconfig(2) ends a value at 255 bytes; mount(2) all of them together at a page.
#[test]
fn an_overlay_may_have_many_layers() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/*");
    let layers: Vec<String> = (0..20).map(|number| source(&bundle, &format!("layer{number}"))).collect();
    for (number, layer) in layers.iter().enumerate() {
        std::fs::write(format!("{layer}/{number:02}"), format!("{number} ")).unwrap();
    }
    let of = |layers: &[String]| {
        let lowerdir = format!("lowerdir={}", layers.join(":"));
        json!({"destination": "/mnt", "type": "overlay", "source": "overlay", "options": [lowerdir, "ro", "nodev"]})
    };
    bundle.mount(of(&layers));
    assert_eq!(bundle.output(), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19");
    bundle.no_mount("/mnt").mount(of(&vec![layers.join(":"); 10]));
    let outcome = bundle.create().fails();
    assert!(!is_orlop() || outcome.stderr.contains("E2BIG"), "{outcome}");
    bundle.assert_gone();
}

/// The words that a runtime MUST know (config.md#linux-mount-options), those of propagation and binds aside.
#[test]
fn the_words_of_the_specification_are_known() {
    require!(is_root(), "root of the host");
    let mut words =
        "async atime defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec \
                     noiversion nolazytime norelatime nostrictatime nosuid relatime ro rw silent strictatime suid sync"
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>();
    if flavour() == "runc" {
        // 1.1 gives it to the filesystem.
        words.retain(|word| *word != "defaults");
    }
    let mut bundle = Bundle::new();
    let from = source(&bundle, "volume");
    bundle.writable();
    for word in &words {
        bundle.mount(tmpfs(&format!("/mnt/{word}"), &[word]));
        bundle.mount(bind(&from, &format!("/mnt/bind-{word}"), &["bind", word]));
    }
    let mounts = mounts_of(&mut bundle);
    let of_superblock = |word: &str| mountinfo::at(&mounts, &format!("/mnt/{word}")).superblock.clone();
    for (word, shown) in
        [("sync", true), ("async", false), ("dirsync", true), ("lazytime", true), ("nolazytime", false)]
    {
        assert_eq!(of_superblock(word).iter().any(|option| option == word), shown, "{word}: {:?}", of_superblock(word));
    }
    assert!(words.iter().all(|word| mounts.iter().any(|mount| mount.at == format!("/mnt/bind-{word}"))));
}

#[test]
fn an_idmapped_bind_shifts_the_owners() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c '%u %g' /mnt/x/file; touch /mnt/x/made");
    let from = source(&bundle, "volume");
    std::fs::write(bundle.scratch("volume/file"), "").unwrap();
    chown(bundle.scratch("volume/file"), Some(70001), Some(70002)).unwrap();
    chown(bundle.scratch("volume"), Some(70000), Some(70000)).unwrap();
    let mut mount = bind(&from, "/mnt/x", &["bind"]);
    mount["uidMappings"] = json!([{"containerID": 70000, "hostID": 0, "size": 1000}]);
    mount["gidMappings"] = mount["uidMappings"].clone();
    bundle.writable().mount(mount);
    assert_eq!(bundle.output(), "1 2");
    let made = std::fs::metadata(bundle.scratch("volume/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 70000);
}

#[test]
fn an_idmapped_tmpfs_is_filled_before_it_is_readonly() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/file; stat -c %u /mnt/file; touch /mnt/x 2>&1; true");
    std::fs::write(bundle.rootfs("mnt/file"), "content\n").unwrap();
    let mut mount = tmpfs("/mnt", &["idmap", "tmpcopyup", "ro"]);
    mount["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 10}]);
    mount["gidMappings"] = mount["uidMappings"].clone();
    bundle.mount(mount);
    assert_eq!(bundle.output(), "content\n0\ntouch: /mnt/x: Read-only file system");
}

#[test]
fn idmap_takes_the_mapping_of_the_user_namespace() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("stat -c '%u %g' /mnt/x /mnt/plain");
    let from = source(&bundle, "volume");
    bundle.writable().user_namespace(100_000).mount(bind(&from, "/mnt/x", &["bind", "idmap"]));
    bundle.mount(bind(&from, "/mnt/plain", &["bind"]));
    assert_eq!(bundle.output(), "0 0\n65534 65534");
}

#[test]
fn three_hundred_mounts_go_into_a_user_namespace() {
    require!(is_root(), "root of the host");
    // SCM_MAX_FD is 253: a runtime that lends all sources in one message ends here. The sources are out of the
    // container root's reach, so init cannot open them itself.
    let mut bundle = Bundle::sh("ls /mnt | wc -l; cat /mnt/299/file");
    let closed = source(&bundle, "closed");
    std::fs::create_dir(bundle.scratch("closed/volume")).unwrap();
    std::fs::write(bundle.scratch("closed/volume/file"), "reached").unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    bundle.user_namespace(100_000);
    for count in 0..300 {
        std::fs::create_dir(bundle.rootfs(&format!("mnt/{count}"))).unwrap();
        bundle.mount(bind(&format!("{closed}/volume"), &format!("/mnt/{count}"), &["bind", "ro"]));
    }
    assert_eq!(bundle.output(), "300\nreached");
}

#[test]
fn masked_paths_cannot_be_read() {
    require!(is_root(), "root of the host");
    let mut bundle =
        Bundle::sh("wc -c < /etc/passwd; ls -A /home | wc -l; touch /home/x 2>&1; stat -c %t:%T /etc/passwd");
    bundle.writable().edit(|spec| spec["linux"]["maskedPaths"] = json!(["/etc/passwd", "/home", "/not/there"]));
    let text = bundle.output();
    assert!(text.starts_with("0\n0\n") && text.contains("Read-only file system") && text.ends_with("1:3"), "{text}");
}

#[test]
fn readonly_paths_cannot_be_written() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("touch /etc/new /tmp/new 2>&1; echo 1 > /proc/sys/kernel/domainname");
    bundle.writable().all_capabilities();
    bundle.edit(|spec| spec["linux"]["readonlyPaths"] = json!(["/etc", "/proc/sys", "/not/there"]));
    let outcome = bundle.run();
    assert!(outcome.stdout.contains("/etc/new: Read-only file system"), "{outcome}");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome}");
    assert!(bundle.rootfs("tmp/new").exists() && !bundle.rootfs("etc/new").exists());
}

/// What is mounted over the root is not seen by who has that root: neither a mask nor a read-only copy would do anything, but
/// for `exec`, which looks anew.
#[test]
fn the_root_can_be_a_readonly_path_and_no_masked_one() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("touch /x 2>&1; touch /dev/x && echo dev");
    bundle.writable().edit(|spec| spec["linux"]["readonlyPaths"] = json!(["/", "/proc/sys"]));
    assert_eq!(bundle.output(), "touch: /x: Read-only file system\ndev");
    // runc and crun go on without the mask.
    if is_orlop() {
        bundle.edit(|spec| spec["linux"]["maskedPaths"] = json!(["//"]));
        bundle.create().fails_with("linux.maskedPaths[0]");
        bundle.assert_gone();
    }
}

#[test]
fn readonly_paths_keep_the_flags_of_the_mount() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.writable().mount(tmpfs("/mnt/t", &["nosuid", "noexec", "mode=755"]));
    bundle.edit(|spec| spec["linux"]["readonlyPaths"] = json!(["/mnt/t"]));
    let mounts = mounts_of(&mut bundle);
    let mount = mountinfo::at(&mounts, "/mnt/t");
    assert!(
        mount.has("ro") && mount.has("nosuid") && mount.has("noexec") && !mount.has("nodev"),
        "{:?}",
        mount.options
    );
}

#[test]
fn a_readonly_root_is_readonly_and_its_mounts_are_not() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("touch /x 2>&1; touch /mnt/t/x && echo wrote");
    std::fs::create_dir(bundle.rootfs("mnt/t")).unwrap();
    bundle.mount(tmpfs("/mnt/t", &[]));
    let text = bundle.output();
    assert!(text.contains("/x: Read-only file system") && text.contains("wrote"), "{text}");
    assert!(!bundle.rootfs("x").exists());
}

#[test]
fn no_pivot_gives_the_same_root() {
    require!(is_root(), "root of the host");
    let bundle = Bundle::sh("ls -d /etc/passwd /proc/self; ls / | wc -l; cat /proc/self/mountinfo");
    bundle.write();
    let outcome = bundle.call(&bundle.with_bundle(&["run", "--no-pivot"])).ok();
    assert!(outcome.stdout.starts_with("/etc/passwd\n/proc/self\n"), "{outcome}");
    let visible = std::fs::read_dir(bundle.rootfs("")).unwrap().count();
    assert_eq!(outcome.stdout.lines().nth(2), Some(visible.to_string().as_str()));
}

#[test]
fn links_in_a_destination_are_followed_within_the_root() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /real/x/file /real/y/file; readlink /link; readlink /up");
    std::fs::create_dir(bundle.rootfs("real")).unwrap();
    symlink("/real", bundle.rootfs("link")).unwrap();
    symlink("../../../../../real", bundle.rootfs("up")).unwrap();
    let from = source(&bundle, "volume");
    std::fs::write(bundle.scratch("volume/file"), "in\n").unwrap();
    bundle.writable().mount(bind(&from, "/link/x", &["bind"])).mount(bind(&from, "/up/y", &["bind"]));
    assert_eq!(bundle.output(), "in\nin\n/real\n../../../../../real");
}

#[test]
fn dots_in_a_destination_do_not_leave_the_root() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /mnt/x/file");
    let from = source(&bundle, "volume");
    std::fs::write(bundle.scratch("volume/file"), "in").unwrap();
    bundle.writable().mount(bind(&from, "/../../mnt/./x/", &["bind"]));
    assert_eq!(bundle.output(), "in");
    assert!(!bundle.scratch("mnt").exists());
}

#[test]
fn the_host_sees_no_mount_come_or_go() {
    require!(is_root(), "root of the host");
    // In a namespace whose root is shared: what leaks would stay there.
    for propagation in ["shared", "slave", "private", "none"] {
        let mut bundle = Bundle::new();
        if propagation != "none" {
            bundle.edit(|spec| spec["linux"]["rootfsPropagation"] = json!(propagation));
        }
        bundle.write();
        let script = r#"mount --make-rshared /; cat /proc/self/mountinfo > $0.before; "$@"; e=$?; cat /proc/self/mountinfo > $0.after; exit $e"#;
        let inner = bundle.command(&bundle.with_bundle(&["run"]));
        let file = bundle.scratch("mountinfo");
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, file.to_str().unwrap()];
        bundle.finish(called_by(&words, &inner)).ok();
        let read = |which: &str| std::fs::read_to_string(file.with_extension(which)).unwrap();
        assert!(read("before").contains("shared:"));
        // A mount point that somebody else removes meanwhile takes its mount with it in every namespace.
        let (before, after) = (read("before"), read("after"));
        let place = |mount: &str| mount.split(' ').nth(4).unwrap().to_owned();
        let gone: std::collections::BTreeSet<String> =
            before.lines().map(place).filter(|place| !std::path::Path::new(place).exists()).collect();
        let stays = |mount: &&str| !gone.contains(&place(mount));
        let (before, after): (Vec<&str>, Vec<&str>) =
            (before.lines().filter(stays).collect(), after.lines().filter(stays).collect());
        assert_eq!(before, after, "{propagation}");
    }
}

#[test]
fn an_unknown_option_of_a_bind_is_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    let from = source(&bundle, "volume");
    bundle.mount(bind(&from, "/mnt", &["bind", "ro", "nosuchoption"]));
    let outcome = bundle.create().fails();
    if is_orlop() {
        assert!(outcome.stderr.contains("mounts[7].options[2]"), "which option? {outcome}");
    }
    bundle.assert_gone();
}

#[test]
fn an_unknown_option_of_a_filesystem_is_refused() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.mount(tmpfs("/mnt", &["nosuid", "nosuchoption=1"]));
    let outcome = bundle.create().fails();
    if is_orlop() {
        assert!(
            outcome.stderr.contains("mounts[7]") && outcome.stderr.contains("nosuchoption"),
            "which option? {outcome}"
        );
    }
    bundle.assert_gone();
}

#[test]
fn the_root_cannot_be_mounted_over_by_accident() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::new();
    bundle.mount(json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}));
    let outcome = bundle.run().fails();
    assert!(outcome.stderr.contains("/proc"), "{outcome}");
}

#[test]
fn lxcfs_files_may_cover_files_of_proc_and_others_may_not() {
    require!(is_root(), "root of the host");
    let mut bundle = Bundle::sh("cat /proc/cpuinfo");
    let from = bundle.file("cpuinfo", "fake\n").display().to_string();
    bundle.mount(bind(&from, "/proc/cpuinfo", &["bind", "ro"]));
    assert_eq!(bundle.output(), "fake");
    let mut bundle = Bundle::new();
    let from = bundle.file("status", "fake\n").display().to_string();
    bundle.mount(bind(&from, "/proc/self/status", &["bind"]));
    bundle.run().fails_with("/proc");
}
