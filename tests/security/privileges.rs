//! What the payload may do: who it is, its capabilities, its labels, its devices.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::require;
use crate::support::{executable, is_orlop, is_root};
use crate::trap::{Plant, Trap};

/// T21: CVE-2016-3697: an image's passwd and group, however made, do not say who a number is.
#[test]
fn t21_cve_2016_3697_a_number_is_never_a_name() {
    require!(is_root(), "root of the host");
    let hostile: [(&str, &[u8]); 6] = [
        ("numeric name", b"root:x:0:0::/root:/bin/sh\n1000:x:0:0::/stolen:/bin/sh\n"),
        ("missing fields", b"1000\n1000:\n:1000\n::1000\nroot\n"),
        ("odd bytes", b"1000:x:0:0::/\r\n\0:x:1000:0:\n\xff\xfe:x:1000\n"),
        ("no end of line", b"1000:x:0:0::/stolen:/bin/sh"),
        ("overflow", b"a:x:4294968296:0::/stolen:/bin/sh\nb:x:-1:0::/stolen:\nc:x: 1000:0::/stolen:\n"),
        ("empty", b""),
    ];
    for (kind, passwd) in hostile {
        let mut trap = Trap::sh("echo $(id -u) $(id -g) $HOME");
        std::fs::write(trap.rootfs("etc/passwd"), passwd).unwrap();
        std::fs::write(trap.rootfs("etc/group"), "1000:x:0:1000\n").unwrap();
        let right = |text: &str| assert!(text.starts_with("1000 1001") && !text.contains("stolen"), "{kind}: {text}");
        trap.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1001}));
        right(&trap.run().ok().stdout);
        trap.args(&["sleep", "1000"]).up();
        let words = ["sh", "-c", "echo $(id -u) $(id -g) $HOME"];
        right(&trap.exec_with(&["--user", "1000:1001"], &words).ok().stdout);
    }
}

/// T21: CVE-2026-30892: each shape of a user that is not a number is refused, and the number it begins with not taken.
#[test]
fn t21_cve_2026_30892_users_of_every_shape() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::new();
    trap.edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000})).up();
    // Nothing is what the config says.
    for user in ["1", "01", "1:1", "4294967294", ""] {
        let outcome = trap.exec_with(&["--user", user], &["id", "-u"]);
        let wanted = if user.is_empty() { "1000" } else { user.split(':').next().unwrap().trim_start_matches('0') };
        assert!(!outcome.status.success() || outcome.text() == wanted, "{user:?}: {outcome}");
    }
    for user in
        ["1:", ":1", "0x1", " 1", "1 ", "+1", "-1", "4294967295", "4294967296", "1x", "user", "user:group", "1:0x1"]
    {
        let outcome = trap.exec_with(&["--user", user], &["id", "-u"]);
        let became_root = outcome.status.success() && outcome.text() == "0";
        assert!(!became_root && (!is_orlop() || !outcome.status.success()), "{user:?}: {outcome}");
    }
}

/// The five sets, no_new_privs, and the groups, of /proc/self/status.
fn status(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).trim().to_owned()
}

/// T22: CVE-2022-29162, CVE-2022-24769, CVE-2022-27650, CVE-2025-27612, CVE-2016-8867: nothing is inheritable and nothing
/// ambient that was not asked for, in run and in exec, for root and for others.
#[test]
fn t22_cve_2022_29162_nothing_is_inherited() {
    require!(is_root(), "root of the host");
    for uid in [0, 1000] {
        let mut trap = Trap::new();
        trap.args(&["cat", "/proc/self/status"]).edit(|spec| {
            spec["process"]["user"] = json!({"uid": uid, "gid": uid});
            spec["process"]["noNewPrivileges"] = json!(false);
        });
        let right = |text: &str| {
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(status(text, set), "0000000000000000", "{uid}: {text}");
            }
            assert_eq!(status(text, "CapBnd"), "0000000020000420", "{uid}: {text}");
            let left = if uid == 0 { "0000000020000420" } else { "0000000000000000" };
            assert_eq!((status(text, "CapEff"), status(text, "CapPrm")), (left.into(), left.into()), "{uid}: {text}");
        };
        right(&trap.run().ok().stdout);
        trap.args(&["sleep", "1000"]).up();
        let user = format!("{uid}:{uid}");
        right(&trap.exec_with(&["--user", &user], &["cat", "/proc/self/status"]).ok().stdout);
        let outcome = trap.exec_with(&["--user", "1000", "--cap", "CAP_CHOWN"], &["cat", "/proc/self/status"]);
        if outcome.status.success() {
            assert_eq!(status(&outcome.stdout, "CapInh"), "0000000000000000", "{outcome}");
            assert_eq!(status(&outcome.stdout, "CapAmb"), "0000000000000000", "{outcome}");
        }
    }
}

/// T22: a file with inheritable capabilities gains nothing: that was what the bug was good for.
#[test]
fn t22_cve_2022_29162_a_file_with_capabilities_gains_nothing() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::new();
    let program = trap.rootfs("bin/capable");
    std::fs::copy("/bin/busybox", &program).unwrap();
    executable(&program);
    // vfs_cap_data of version 2: effective; nothing permitted; inheritable CAP_KILL and CAP_NET_BIND_SERVICE (capability.h).
    let mut data = Vec::new();
    for word in [0x0200_0001u32, 0, 0x420, 0, 0] {
        data.extend(word.to_le_bytes());
    }
    rustix::fs::setxattr(&program, "security.capability", &data, rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::remove_file(trap.rootfs("bin/cat")).unwrap();
    symlink("capable", trap.rootfs("bin/cat")).unwrap();
    trap.args(&["cat", "/proc/self/status"]).edit(|spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        spec["process"]["noNewPrivileges"] = json!(false);
    });
    let right = |text: &str| assert_eq!(status(text, "CapEff"), "0000000000000000", "{text}");
    right(&trap.run().ok().stdout);
    trap.args(&["sleep", "1000"]).up();
    right(&trap.exec_with(&["--user", "1000:1000"], &["cat", "/proc/self/status"]).ok().stdout);
}

/// T23: a label that cannot be had is an error, under every trap; never a container without it.
#[test]
fn t23_cve_2019_16884_a_label_is_had_or_there_is_no_container() {
    require!(is_root(), "root of the host");
    let lsm = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let mut fields = vec![("apparmorProfile", "orlop-has-no-such-profile")];
    if !lsm.contains("selinux") {
        fields.push(("selinuxLabel", "system_u:system_r:container_t:s0"));
    }
    for (field, label) in fields {
        for kind in ["plain", "planted files", "no proc", "a file bound on attr"] {
            let mut trap = Trap::new();
            for name in ["proc/self/attr", "proc/thread-self/attr/apparmor"] {
                for file in ["exec", "current", "keycreate"] {
                    trap.plant(&format!("{name}/{file}"), Plant::File(b"unconfined\n"));
                }
            }
            match kind {
                "no proc" => {
                    trap.without_proc();
                }
                "a file bound on attr" => {
                    let file = trap.file("attr", "");
                    for at in ["/proc/self/attr/exec", "/proc/1/attr/exec"] {
                        trap.mount(json!({"destination": at, "type": "bind", "source": file, "options": ["bind"]}));
                    }
                }
                _ => {}
            }
            trap.writable().edit(|spec| spec["process"][field] = json!(label));
            trap.run().fails();
            trap.create().fails();
        }
    }
}

/// T30: GHSA-g54h-m393-cpwq: a list that denies nothing, or is empty, or is not there, opens nothing.
#[test]
fn t30_ghsa_g54h_m393_cpwq_devices_are_denied_by_default() {
    require!(is_root(), "root of the host");
    let lists = [
        json!([]),
        json!(null),
        json!([{"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}]),
        // The kernel's own words for "all" after an allowed one.
        json!([{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}, {"allow": false, "access": "rwm"}]),
    ];
    // loop-control, kmsg, a disk, port memory.
    let script = "cd /tmp; for d in 'c 10 237' 'c 1 11' 'b 7 0' 'c 1 4' 'c 10 229'; do rm -f n; mknod n $d && \
        head -c 0 n 2>/dev/null && echo \"opened $d\"; done; head -c 1 /dev/zero > /dev/null && echo twin";
    for list in lists {
        let mut trap = Trap::sh(script);
        trap.capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        trap.writable()
            .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=777"]}));
        trap.edit(|spec| spec["linux"]["resources"]["devices"] = list.clone());
        if list.is_null() {
            trap.edit(|spec| drop(spec["linux"].as_object_mut().unwrap().remove("resources")));
        }
        trap.works().said(|text| assert_eq!(text, "twin\n", "{list}"));
    }
}
