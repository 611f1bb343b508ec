//! What a config means, and what is refused, in files: `BLESS=1 cargo test -p specconv --test cases` writes them.
//!
//! - `cases/NAME.json` with `NAME.config` (the meaning, a field a line) or `NAME.invalid` (the refusal);
//! - `cases/*.table`: a line each, `PATH = JSON && PATH = JSON => OUTCOME`, over a minimal config. The outcome is the
//!   refusal, or `ok` and the lines of the meaning in which it differs from the minimal config's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use specconv::{Config, Converted, Resources, Seccomp, convert};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// What most mounts say, and is left out to keep the files short.
const ORDINARY: [&str; 9] = [
    ", attributes: Attributes { set: 0, clear: 0 }",
    ", recursive: Attributes { set: 0, clear: 0 }",
    ", propagation: []",
    ", id_map: None",
    ", target: MountTarget { nofollow: false }",
    ", superblock_flags: []",
    ", copy_up: false",
    ", copy_symlink: false",
    ", source_nofollow: false",
];

/// A field a line, an item of a list a line.
fn meaning(converted: &Converted) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn Debug| {
        let mut value = format!("{value:?}");
        for ordinary in ORDINARY {
            value = value.replace(ordinary, "");
        }
        writeln!(text, "{name}: {value}").unwrap();
    };
    let Config {
        root,
        process,
        hostname,
        domainname,
        mounts,
        hooks,
        annotations,
        namespaces,
        uid_mappings,
        gid_mappings,
        time_offsets,
        devices,
        net_devices,
        cgroups_path,
        resources,
        intel_rdt,
        memory_policy,
        seccomp,
        sysctl,
        rootfs_propagation,
        masked_paths,
        readonly_paths,
        mount_label,
        personality,
    } = &converted.config;
    line("root", root);
    if let Some(process) = process {
        line("process.terminal", &process.terminal);
        line("process.user", &process.user);
        line("process.args", &process.args);
        line("process.env", &process.env);
        line("process.cwd", &process.cwd);
        line("process.capabilities", &process.capabilities);
        each(&mut line, "process.rlimits", &process.rlimits);
        line("process.no_new_privileges", &process.no_new_privileges);
        line("process.labels", &(&process.apparmor_profile, &process.selinux_label));
        line("process.oom_score_adj", &process.oom_score_adj);
        line("process.scheduler", &process.scheduler);
        line("process.io_priority", &process.io_priority);
        line("process.exec_cpu_affinity", &process.exec_cpu_affinity);
    }
    line("names", &(hostname, domainname));
    each(&mut line, "mounts", mounts);
    line("hooks", hooks);
    line("annotations", annotations);
    each(&mut line, "namespaces", &namespaces.0);
    line("uid_mappings", uid_mappings);
    line("gid_mappings", gid_mappings);
    line("time_offsets", time_offsets);
    each(&mut line, "devices", devices);
    line("net_devices", net_devices);
    line("cgroups_path", cgroups_path);
    let Resources { devices, memory, cpu, pids, block_io, hugepage_limits, network, rdma, unified } = resources;
    each(&mut line, "resources.devices", devices);
    line("resources.memory", memory);
    line("resources.cpu", cpu);
    line("resources.pids", pids);
    line("resources.block_io", block_io);
    line("resources.hugepage_limits", hugepage_limits);
    line("resources.network", network);
    line("resources.rdma", rdma);
    line("resources.unified", unified);
    line("intel_rdt", intel_rdt);
    line("memory_policy", memory_policy);
    if let Some(Seccomp { default_action, architectures, flags, syscalls, listener_path, listener_metadata }) = seccomp
    {
        line("seccomp", &(default_action, architectures, flags, listener_path, listener_metadata));
        each(&mut line, "seccomp.syscalls", syscalls);
    }
    each(&mut line, "sysctl", sysctl);
    line("rootfs_propagation", rootfs_propagation);
    line("masked_paths", masked_paths);
    line("readonly_paths", readonly_paths);
    line("mount_label", mount_label);
    line("personality", personality);
    for warning in &converted.warnings {
        line("warning", &format_args!("{warning}"));
    }
    text
}

fn each<T: Debug>(line: &mut impl FnMut(&str, &dyn Debug), name: &str, items: &[T]) {
    for (index, item) in items.iter().enumerate() {
        line(&format!("{name}[{index}]"), item);
    }
}

#[test]
fn whole_configs() {
    let mut wrong = Vec::new();
    for path in files("json") {
        let (found, extension) = match convert(&std::fs::read(&path).unwrap()) {
            Ok(converted) => (meaning(&converted), "config"),
            Err(invalid) => (format!("{invalid}\n"), "invalid"),
        };
        let expectation = path.with_extension(extension);
        if blessing() {
            std::fs::write(&expectation, &found).unwrap();
        } else if std::fs::read_to_string(&expectation).unwrap_or_default() != found {
            wrong.push(format!("{} is not\n{found}", expectation.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn engines_are_understood_without_a_refusal() {
    for path in files("json") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["containerd", "docker", "podman"].iter().any(|engine| name.starts_with(engine)) {
            let converted = convert(&std::fs::read(&path).unwrap());
            assert!(converted.is_ok_and(|converted| converted.warnings.is_empty()), "{name}");
        }
    }
}

fn minimal() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "mounts": [],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}
            ],
        }
    })
}

fn assign(config: &mut Value, assignment: &str) {
    let (path, value) = assignment.split_once('=').expect("PATH = JSON");
    let value: Value = serde_json::from_str(value.trim()).unwrap_or_else(|why| panic!("{assignment}: {why}"));
    let mut place = config;
    for key in path.trim().split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = place.as_object_mut().unwrap().entry(key).or_insert(Value::Null);
    }
    *place = value;
}

fn outcome(line: &str, plain: &str) -> String {
    let mut config = minimal();
    for assignment in line.split("&&") {
        assign(&mut config, assignment);
    }
    match convert(config.to_string().as_bytes()) {
        Err(invalid) => invalid.to_string(),
        Ok(converted) => {
            let meaning = meaning(&converted);
            let new = meaning.lines().filter(|line| !plain.lines().any(|plain| plain == *line));
            std::iter::once("ok").chain(new).collect::<Vec<_>>().join(" | ")
        }
    }
}

#[test]
fn tables() {
    let plain = meaning(&convert(minimal().to_string().as_bytes()).unwrap());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for path in files("table") {
        let table = std::fs::read_to_string(&path).unwrap();
        let mut blessed = String::new();
        for line in table.lines() {
            if line.is_empty() || line.starts_with('#') {
                writeln!(blessed, "{line}").unwrap();
                continue;
            }
            let (case, expected) = line.split_once(" => ").unwrap_or((line.trim_end().trim_end_matches("=>"), ""));
            let found = outcome(case, &plain);
            if found != expected {
                wrong.push(format!("{case}\n  found     {found}\n  expected  {expected}"));
            }
            writeln!(blessed, "{} => {found}", case.trim_end()).unwrap();
            count += 1;
        }
        if blessing() {
            std::fs::write(&path, blessed).unwrap();
        }
    }
    assert!(blessing() || wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 120, "{count}");
}

/// `cargo test --release -p specconv --test cases -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a test"]
fn speed() {
    for path in files("json") {
        let bytes = std::fs::read(&path).unwrap();
        let best = (0..500)
            .map(|_| {
                let start = std::time::Instant::now();
                std::hint::black_box(convert(std::hint::black_box(&bytes))).ok();
                start.elapsed()
            })
            .min()
            .unwrap();
        println!("{best:>10.1?}  {:>6} bytes  {}", bytes.len(), path.file_name().unwrap().to_string_lossy());
    }
}
