//! Interfaces of the kernel that a container could write, and the mounts of the host that it could change.

use serde_json::json;

use crate::require;
use crate::support::{View, executable, is_orlop, is_root};
use crate::trap::Trap;

/// T24: CVE-2022-0811: keys that leave /proc/sys, that have no namespace, or whose namespace is the host's.
#[test]
fn t24_cve_2022_0811_sysctls_of_the_host_are_refused() {
    require!(is_root(), "root of the host");
    let keys = [
        "kernel.core_pattern",
        "kernel..x",
        "kernel/../kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4.../../kernel/core_pattern",
        "net.ipv4.../../..",
        "net.ipv4.ip_forward+kernel.core_pattern",
        "/net/ipv4/ip_forward",
        "vm.overcommit_memory",
        "kernel.shmmax ",
        "net",
        ".",
    ];
    for key in keys {
        let mut trap = Trap::new();
        trap.edit(|spec| spec["linux"]["sysctl"] = json!({key: "1"}));
        let outcome = trap.run();
        assert!(!outcome.status.success(), "{key:?} was let through");
        trap.refused("sysctl");
    }
}

/// T24: a namespace that is listed, but is the host's by its path, keeps nothing from the host.
#[test]
fn t24_a_namespace_that_is_the_hosts_by_its_path() {
    require!(is_root(), "root of the host");
    for (kind, name, key) in [
        ("network", "net", "net.ipv4.ip_forward"),
        ("ipc", "ipc", "kernel.msgmax"),
        ("uts", "uts", "kernel.domainname"),
    ] {
        let mut trap = Trap::new();
        // The namespace of this thread, which is also the runtime's.
        let path = format!("/proc/{}/task/{}/ns/{name}", std::process::id(), rustix::thread::gettid().as_raw_nonzero());
        trap.no_namespace(kind).namespace(json!({"type": kind, "path": path}));
        trap.no_mount("/sys").edit(|spec| {
            spec["linux"]["sysctl"] = json!({key: "4321"});
            spec["hostname"] = json!("");
        });
        trap.refused("sysctl");
    }
}

#[test]
fn t24_twin_sysctls_of_the_container_are_set() {
    require!(is_root(), "root of the host");
    let mut trap =
        Trap::sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/conf/lo/forwarding");
    trap.edit(|spec| {
        spec["linux"]["sysctl"] =
            json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4321", "net/ipv4/conf/lo/forwarding": "0"});
    });
    trap.works().said(|text| assert_eq!(text, "1\n4321\n0\n"));
}

/// T25: GHSA-5g49-rx9x-qfc6 and crun 1.28: no name leads out of the container's cgroup.
#[test]
fn t25_ghsa_5g49_rx9x_qfc6_names_in_the_cgroup_do_not_climb() {
    require!(is_root(), "root of the host");
    let resources = [
        json!({"hugepageLimits": [{"pageSize": "../../x", "limit": 1}]}),
        json!({"hugepageLimits": [{"pageSize": "2MB/../../../x", "limit": 1}]}),
        json!({"unified": {"../cgroup.procs": "1"}}),
        json!({"unified": {"memory.max/../../x": "1"}}),
        json!({"unified": {"a/b.c": "1"}}),
        json!({"rdma": {"../x": {"hcaHandles": 1}}, "unified": {"cgroup.freeze/x": "1"}}),
    ];
    for view in [View::Host, View::V2] {
        for resource in &resources {
            let mut trap = Trap::new();
            trap.view(view).edit(|spec| {
                for (name, value) in resource.as_object().unwrap() {
                    spec["linux"]["resources"][name] = value.clone();
                }
            });
            trap.refused("linux.resources");
        }
    }
}

/// T25: a cgroup path that climbs is refused, or ends at the root of the hierarchy; never above, never beside.
#[test]
fn t25_cgroup_paths_do_not_climb() {
    require!(is_root(), "root of the host");
    for path in ["/../ID", "/../../ID", "../../../../ID", "/a/../../ID", "/../../../../tmp/ID/climbed", "./../ID"] {
        let mut trap = Trap::new();
        let path = path.replace("ID", trap.id());
        trap.edit(|spec| spec["linux"]["cgroupsPath"] = json!(path));
        trap.run();
        let above =
            crate::support::cgroup::hierarchies().into_iter().map(|hierarchy| hierarchy.at.join("..").join(trap.id()));
        let climbed: Vec<_> = above.filter(|place| std::fs::remove_dir(place).is_ok()).collect();
        assert!(climbed.is_empty() && !trap.scratch("climbed").exists(), "{path}: {climbed:?}");
    }
}

/// Files below /proc and /sys that the payload may open for writing, without those of processes.
const WRITABLE: &str = "for f in $(find /proc /sys -type f -perm /222 2>/dev/null | grep -v -E '^/proc/([0-9]+|self|thread-self)/'); do \
    true 2>/dev/null >> $f && echo $f; done; true";

/// T26: CVE-2023-25809, CVE-2022-0492: with all the namespaces or without some, the files that can be written are known.
#[test]
fn t26_cve_2023_25809_what_can_be_written_is_known() {
    require!(is_root(), "root of the host");
    for kind in [
        "all namespaces",
        "network of the host",
        "user namespace",
        "user namespace, network of the host",
        "cgroup namespace",
    ] {
        let mut trap = Trap::sh(WRITABLE);
        match kind {
            "network of the host" => {
                trap.no_namespace("network");
            }
            "user namespace" => {
                trap.user_namespace(100_000);
            }
            "user namespace, network of the host" => {
                trap.no_namespace("network").user_namespace(100_000);
            }
            "cgroup namespace" => {
                trap.namespace(json!({"type": "cgroup"}));
            }
            _ => {}
        }
        // As root of the container, with what a root's capability opens.
        trap.capabilities(&["CAP_DAC_OVERRIDE", "CAP_KILL"]);
        for hosts in [false, true] {
            if hosts && !kind.contains("network of the host") {
                continue;
            }
            if hosts {
                // The host's /sys, as rootless engines bind it: read-only all the way down.
                trap.no_mount("/sys").no_mount("/sys/fs/cgroup").mount(json!({"destination": "/sys", "type": "bind",
                    "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "rro"]}));
            }
            if hosts && !is_orlop() {
                continue;
            }
            let life = trap.survive();
            assert!(life.run.status.success() || !is_orlop(), "{kind}: {}", life.run);
            life.said(|text| {
                let odd: Vec<_> =
                    text.lines().filter(|file| !EXPECTED.iter().any(|known| file.starts_with(known))).collect();
                assert!(odd.is_empty(), "{kind}: {odd:#?}");
            });
        }
    }
}

/// What this kernel's procfs leaves writable by its mode, and a container's namespaces or capabilities guard: nobody's mask
/// lists them. (Not so `dynamic_debug`, of kernels that are built with it: root of a container without a user namespace says
/// what the kernel logs.)
const EXPECTED: &[&str] = &["/proc/dynamic_debug/control", "/proc/mtrr", "/proc/pressure/", "/proc/slabinfo"];

/// T26: CVE-2022-0492: the cgroup that the container sees is not its to write; nor is anybody's release_agent.
#[test]
fn t26_cve_2022_0492_cgroups_are_readonly() {
    require!(is_root(), "root of the host");
    for view in [View::Host, View::V2] {
        let mut trap = Trap::sh(
            // Opened, not written: where it succeeds, others' cgroups are at hand.
            "for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs); do true 2>/dev/null >> $f && echo opened $f; done; true",
        );
        trap.view(view).capabilities(&["CAP_DAC_OVERRIDE"]);
        let life = trap.survive();
        assert!(life.run.status.success() || !is_orlop(), "{}", life.run);
        life.said(|text| assert_eq!(text, ""));
    }
}

/// T27: runc 1.5.3, runc#2404: the host's mounts are the same at every step, whatever propagation was asked for.
#[test]
fn t27_no_mount_reaches_the_host() {
    require!(is_root(), "root of the host");
    let kinds = ["", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"];
    for kind in kinds {
        let mut trap = Trap::sh("mount -t tmpfs none /mnt; touch /mnt/x; true");
        trap.all_capabilities().edit(|spec| {
            if !kind.is_empty() {
                spec["linux"]["rootfsPropagation"] = json!(kind);
            }
        });
        trap.survive();
    }
}

/// T27: nor does a container that fails leave one: at its last mount, its hook, its program.
#[test]
fn t27_a_failed_create_leaves_no_mount() {
    require!(is_root(), "root of the host");
    for kind in ["mount", "hook", "program", "cwd", "mask"] {
        for shared in [false, true] {
            let mut trap = Trap::new();
            let file = trap.file("file", "");
            match kind {
                "mount" => drop(
                    trap.mount(json!({"destination": "/etc", "type": "bind", "source": file, "options": ["bind"]})),
                ),
                "hook" => {
                    trap.edit(|spec| spec["hooks"] = json!({"createContainer": [{"path": "/bin/false"}]}));
                }
                "program" => {
                    trap.args(&["/no/such/program"]);
                }
                "cwd" => {
                    trap.edit(|spec| spec["process"]["cwd"] = json!("/bin/busybox"));
                }
                _ => {
                    trap.edit(|spec| spec["linux"]["maskedPaths"] = json!(["/bin/busybox/x"]));
                }
            }
            if shared {
                trap.edit(|spec| spec["linux"]["rootfsPropagation"] = json!("rshared"));
            }
            trap.survive();
        }
    }
}

/// T28: runc#5479 and runc 1.5.3: without a mount namespace, what would change the host's mounts is refused.
#[test]
fn t28_without_a_mount_namespace_the_host_is_left_alone() {
    require!(is_root(), "root of the host");
    for kind in ["root.readonly", "maskedPaths", "readonlyPaths", "rootfsPropagation", "remount", "propagation"] {
        let mut trap = Trap::new();
        trap.no_namespace("mount").writable().edit(|spec| {
            spec["mounts"] = json!([]);
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
        });
        trap.edit(|spec| match kind {
            "root.readonly" => spec["root"]["readonly"] = json!(true),
            "maskedPaths" => spec["linux"]["maskedPaths"] = json!(["/etc/passwd"]),
            "readonlyPaths" => spec["linux"]["readonlyPaths"] = json!(["/etc"]),
            "rootfsPropagation" => spec["linux"]["rootfsPropagation"] = json!("rprivate"),
            "remount" => {
                spec["mounts"] =
                    json!([{"destination": "/etc", "type": "bind", "source": "/etc", "options": ["remount", "ro"]}])
            }
            _ => spec["mounts"] = json!([{"destination": "/etc", "source": "/etc", "options": ["rprivate"]}]),
        });
        trap.refused("");
    }
}

/// T28: with `--no-pivot` the host's root lies below the container's: who gets there finds no procfs and no sysfs.
#[test]
fn t28_no_pivot_leaves_no_proc_of_the_host() {
    require!(is_root(), "root of the host");
    let mut trap = Trap::new();
    std::fs::copy("/proc/self/exe", trap.rootfs("bin/payload")).unwrap();
    executable(&trap.rootfs("bin/payload"));
    trap.all_capabilities().writable();
    trap.args(&["/bin/payload", "kernel::breaks_out", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    trap.edit(|spec| spec["process"]["env"] = json!(["ORLOP_BREAKS_OUT=1"])).write();
    let outcome = trap.call(&trap.with_bundle(&["run", "--no-pivot"]));
    trap.compare(format_args!("run --no-pivot: {outcome}"));
    assert!(outcome.stdout.contains("outside: true"), "{outcome}");
    assert!(outcome.stdout.contains("proc: false") && outcome.stdout.contains("sys: false"), "{outcome}");
}

/// No test: the program of the one above. Takes the root filesystem away from over the host's root, and looks around.
#[test]
#[ignore = "run within a container by other tests"]
fn breaks_out() {
    if std::env::var_os("ORLOP_BREAKS_OUT").is_none() {
        return;
    }
    let namespace = std::fs::File::open("/proc/self/ns/mnt").unwrap();
    // The test's thread shares its root with the process's first.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
    // What lies over the host's root goes; entered anew, the namespace begins at what is left.
    nix::mount::umount2("/", nix::mount::MntFlags::MNT_DETACH).unwrap();
    nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let there = |path: &str| std::path::Path::new(path).exists();
    println!("outside: {}", there("/etc/debian_version"));
    println!("proc: {}", there("/proc/version"));
    println!("sys: {}", there("/sys/kernel"));
}
