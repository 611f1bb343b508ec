//! Strings that another parser might read otherwise: spellings of a path, odd characters, long values, numbers of things.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::require;
use crate::support::{is_orlop, is_root, mountinfo};
use crate::trap::Trap;

/// One link written in six ways.
const SPELLINGS: [&str; 6] = ["/m", "/m/", "/m/.", "/./m", "//m//", "/x/../m"];

fn kinds(trap: &Trap, destination: &str) -> [Value; 4] {
    let volume = trap.scratch("volume");
    let file = trap.scratch("file");
    [
        json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": destination, "type": "bind", "source": volume, "options": ["bind"]}),
        json!({"destination": destination, "type": "bind", "source": file, "options": ["bind"]}),
        json!({"destination": destination, "type": "proc", "source": "proc"}),
    ]
}

/// T48: a slash behind a link makes openat(2) follow it in spite of O_NOFOLLOW. Both ends of the spectrum: a link to a
/// directory of the canary, and one to a name that is not there and would be made.
#[test]
fn t48_cve_2026_39822_a_slash_behind_a_link_changes_nothing() {
    require!(is_root(), "root of the host");
    for end in ["dir", "new"] {
        let mut trap = Trap::sh("cat /proc/self/mountinfo");
        std::fs::create_dir(trap.scratch("volume")).unwrap();
        trap.file("file", "x");
        symlink(format!("../outside/{end}"), trap.rootfs("m")).unwrap();
        trap.writable();
        let plain = trap.spec["mounts"].clone();
        for spelling in SPELLINGS {
            for mount in kinds(&trap, spelling) {
                let kind = mount["type"].clone();
                trap.mount(mount);
                let outcome = trap.run();
                trap.spec["mounts"] = plain.clone();
                // Where it was mounted at all, it is where the link leads as seen from inside.
                let mounts = mountinfo::parse(&outcome.stdout);
                let there = mounts.iter().any(|mount| mount.at == format!("/outside/{end}"));
                assert!(there || !outcome.status.success(), "{spelling}: {outcome}");
                assert!(!is_orlop() || kind != "proc" || !outcome.status.success(), "{spelling}: {outcome}");
            }
        }
    }
}

/// T48 for the other paths of a config: devices, masks, the working directory.
#[test]
fn t48_other_paths_with_a_slash_behind_a_link() {
    require!(is_root(), "root of the host");
    for end in ["dir", "new", "target"] {
        let mut trap = Trap::new();
        symlink(format!("../outside/{end}"), trap.rootfs("m")).unwrap();
        trap.writable();
        let plain = trap.spec.clone();
        for spelling in SPELLINGS.into_iter().chain(["/m/below", "/m/./below/"]) {
            let device =
                json!([{"path": spelling, "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 7, "gid": 7}]);
            for (pointer, value) in [
                ("/linux/maskedPaths", json!([spelling])),
                ("/linux/readonlyPaths", json!([spelling])),
                ("/linux/devices", device),
                ("/process/cwd", json!(spelling)),
            ] {
                let (object, key) = pointer.rsplit_once('/').unwrap();
                trap.spec.pointer_mut(object).unwrap()[key] = value;
                trap.run();
                trap.spec = plain.clone();
            }
        }
    }
}

/// T50: names that forge a line where they are written into one (`mnt[key]:value` of CRIU, mountinfo, the data of
/// mount(2)) are names like any other.
#[test]
fn t50_cve_2026_119101_odd_characters_are_characters() {
    require!(is_root(), "root of the host");
    for name in ["a]:b", "a:b", "a,b", "a\\b", "a\\040b", "a b", "a\nb", "a\tb", "a=b", "[a", "-a", "a\u{e9}"] {
        let mut trap = Trap::new();
        let source = trap.file(&format!("from {name}"), "it is this one");
        let place = format!("/mnt/{name}/f");
        // A volume with a link whose text is such a name: what the destination resolves to.
        symlink(format!("/mnt/{name}"), trap.rootfs("link")).unwrap();
        trap.writable().args(&["cat", &place, "/link/g"]);
        for destination in [place.as_str(), "/link/g"] {
            trap.mount(
                json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", "ro"]}),
            );
        }
        trap.works().said(|text| assert_eq!(text, "it is this oneit is this one", "{name:?}"));
    }
}

/// T50: an option is one option: a comma in it does not begin another.
#[test]
fn t50_a_comma_in_an_option_begins_no_other() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("stat -c %a /mnt");
    let options = json!(["size=64k,mode=0707", "mode=0755"]);
    trap.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options}));
    trap.survive().said(|text| assert_ne!(text.trim(), "707"));
    let mut twin = Trap::sh("stat -c %a /mnt");
    twin.mount(
        json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "mode=0707"]}),
    );
    twin.works().said(|text| assert_eq!(text.trim(), "707"));
}

/// T32: an attribute of 64 KiB overflowed a length of 16 bits in runc's bootstrap message, and what followed was read as
/// attributes: namespaces off. Here: two thousand sources of two hundred bytes in a user namespace.
#[test]
fn t32_cve_2021_43784_a_long_list_of_sources_turns_nothing_off() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::sh("cat /proc/self/uid_map; readlink /proc/self/ns/net; tail -c 5 /mnt/1999");
    let directory = trap.scratch(&"d".repeat(200));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("f"), "whole").unwrap();
    trap.writable().user_namespace(100_000);
    for number in 0..2000 {
        let destination = format!("/mnt/{number}");
        let source = directory.join("f");
        trap.mount(json!({"destination": destination, "type": "bind", "source": source, "options": ["bind", "ro"]}));
    }
    let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string();
    let outcome = trap.run();
    if outcome.status.success() {
        let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
        assert_eq!(words[..3], ["0", "100000", "65536"], "{outcome}");
        assert_ne!(words[3], ours, "{outcome}");
        assert_eq!(words[4], "whole", "{outcome}");
    }
    assert!(!is_orlop() || outcome.status.success(), "{outcome}");
}

/// T32: values around the borders of 16 bits, and characters that end a line or a string.
#[test]
fn t32_long_values_go_in_whole_or_not_at_all() {
    require!(is_root(), "root of the host");
    for length in [65_534, 65_535, 65_536, 65_537, 131_000] {
        let mut trap = Trap::sh("echo ${#LONG} ${#1} \"$2\"");
        let long = "x".repeat(length);
        trap.edit(|spec| {
            spec["process"]["env"].as_array_mut().unwrap().push(json!(format!("LONG={long}")));
            let args = spec["process"]["args"].as_array_mut().unwrap();
            args.extend([json!("sh"), json!(long), json!("two\nlines")]);
            spec["annotations"] = json!({"long": long, "lines": "two\nlines"});
        });
        trap.works().said(|text| assert_eq!(text, format!("{length} {length} two\nlines\n")));
    }
}

/// T32: a NUL ends a string of C, and what a check has seen is not what the kernel gets.
#[test]
fn t32_a_nul_is_refused_in_every_string() {
    require!(is_root(), "root of the host");
    for pointer in
        ["/process/args/0", "/process/env/0", "/process/cwd", "/hostname", "/root/path", "/linux/cgroupsPath"]
    {
        let mut trap = Trap::new();
        let value = trap.spec.pointer_mut(pointer).unwrap();
        *value = json!(format!("{}\0/../../outside", value.as_str().unwrap()));
        trap.refused("NUL");
    }
    let mount = json!({"destination": "/mnt\0x", "type": "tmpfs", "source": "tmpfs"});
    let bind = json!({"destination": "/mnt", "type": "bind", "source": "/etc\0x", "options": ["bind"]});
    for mount in [mount, bind] {
        let mut trap = Trap::new();
        trap.mount(mount);
        trap.refused("NUL");
    }
}
