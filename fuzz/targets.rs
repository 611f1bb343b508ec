//! What `cargo fuzz` calls: each function takes bytes of somebody else's, and must come back whatever they are.
//!
//! Not part of the program: only test builds and fuzzers have it. The programs in `fuzz/fuzz_targets` do nothing but call
//! these functions; the corpus in `fuzz/corpus` is replayed by the test below.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use specconv::{Seccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompRule};

use crate::cgroup::wire::Message;
use crate::cgroup::{DeviceRules, Driver, Hierarchy, Instance, Layout, Mode, Systemd};
use crate::container::Record;
use crate::host::Host;
use crate::launch::rendezvous;
use crate::plan::{self, Facts, ProgramWishes, Wishes};
use crate::seccomp::{Abi, Unknown, compiler};
use crate::{cgroup, cli, container, identity, network, notify, program, rdt, rootfs, signal, sys};

/// A config.json: what it means, and what this program would then do on a host of cgroup v2 with systemd, and on one of both
/// versions.
pub fn config(bytes: &[u8]) {
    let config = match specconv::convert(bytes) {
        Ok(converted) => converted.config,
        Err(invalid) => return assert!(!invalid.why.is_empty()),
    };
    let host =
        Host { uid: 0, gid: 0, in_user_namespace: false, setgroups_denied: false, selinux: true, apparmor: true };
    let systemd = Systemd { instance: Instance::System, root: String::new() };
    for (own, mounts, driver) in
        [("0::/\n", UNIFIED, Driver::Systemd), ("4:memory:/a\n1:cpu,cpuacct:/\n0::/user\n", HYBRID, Driver::Cgroupfs)]
    {
        let facts = Facts {
            host: &host,
            layout: &Layout::from_mounts(own, mounts),
            helpers: None,
            systemd: Some(&systemd),
            lending: true,
            rootfs: PathBuf::from("/b/rootfs"),
            bundle: PathBuf::from("/b"),
        };
        let program = ProgramWishes {
            id: "web",
            no_new_keyring: false,
            preserve_fds: 0,
            listen_env: Vec::new(),
            seccomp_receiver: None,
        };
        let wishes = Wishes { driver, rootless_cgroups: false, no_pivot: false, program };
        if let Err(error) = plan::plan(config.clone(), &facts, &wishes) {
            assert!(!error.to_string().is_empty());
        }
    }
}

const UNIFIED: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";

const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

/// What `exec --process` and `update --resources` read.
pub fn parts(bytes: &[u8]) {
    specconv::convert_process(bytes, None).ok();
    specconv::convert_resources(bytes).ok();
}

/// What `update` merges, parted by a zero byte: what a container has, and what is asked for. What it has afterwards can be
/// updated again, and asking for the same changes nothing more.
pub fn update(bytes: &[u8]) {
    let half = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (current, asked) = (&bytes[..half], bytes.get(half + 1..).unwrap_or(b"{}"));
    specconv::resources_of_config(current).ok();
    let Ok(update) = specconv::update(current, asked) else { return };
    let again = specconv::update(&update.remembered, asked).unwrap();
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(json(&again.remembered), json(&update.remembered));
    let layout = Layout::from_mounts("4:memory:/a\n1:cpu,cpuacct:/\n0::/user\n", HYBRID);
    let request = cgroup::Request {
        id: "web",
        cgroups_path: None,
        driver: Driver::Cgroupfs,
        resources: &update.changes,
        rootless: false,
        in_user_namespace: false,
        delegate_to: None,
        annotations: &BTreeMap::new(),
        systemd: None,
        delegated: None,
    };
    for layout in [layout, Layout::from_mounts("0::/\n", UNIFIED)] {
        cgroup::plan_update(&request, DeviceRules::Change, &layout).ok();
    }
}

/// One mount, a word a line: its destination, type and source, then its options; what a config with it means.
pub fn mount(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split('\n');
    let mut next = || words.next().unwrap_or_default();
    let mount = json!({"destination": next(), "type": next(), "source": next(), "options": words.collect::<Vec<_>>()});
    let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let spec = json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
        "mounts": [mount],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "pid"}], "uidMappings": maps, "gidMappings": maps},
    });
    config(spec.to_string().as_bytes());
}

/// A state file: what was understood is written again as it was. And what the library tells its deputy.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let again = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&again).unwrap(), record);
    }
    assert!(container::crosses_whole(bytes));
}

/// A command line, a word a line; and what such words can be.
pub fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for word in text.split('\n') {
        signal::parse(word).ok();
        cli::size(word).ok();
        cli::duration(word).ok();
        specconv::parse_user(word).ok();
    }
    cli::read(&text.split('\n').collect::<Vec<_>>());
}

/// The image's /etc/passwd: what comes out can be given to a program.
pub fn passwd(bytes: &[u8]) {
    for uid in [0, 33, 1000, u32::MAX] {
        if let Some(home) = program::home_in(bytes, uid) {
            assert!(!home.is_empty() && !home.contains(['\0', ':', '\n']), "{home:?}");
        }
        cli::account(&String::from_utf8_lossy(bytes), uid);
    }
}

/// What ps(1) prints, in which users' command lines stand: no process of others is shown.
pub fn ps(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(rows) = cli::rows_of(&text, &[1, 42]) else { return };
    let column = rows.lines().next().unwrap().split_whitespace().position(|title| title == "PID").unwrap();
    for row in rows.lines().skip(1) {
        let pid = row.split_whitespace().nth(column).unwrap().parse::<i32>().unwrap();
        assert!([1, 42].contains(&pid), "{row:?}");
    }
}

/// The first bytes of a program of the image, which could not be executed.
pub fn executable(bytes: &[u8]) {
    let read = |offset: u64, length: usize| {
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        rest.get(..length).unwrap_or(rest).to_vec()
    };
    program::format_of(read);
}

/// Files of /proc, in which users' names of mount points and programs stand.
pub fn procfs(bytes: &[u8]) {
    container::parse_start_time(bytes);
    identity::label::is_unconfined(bytes);
    let text = String::from_utf8_lossy(bytes);
    rdt::mounted(bytes).for_each(drop);
    let (own, mounts) = text.split_once('\0').unwrap_or(("0::/\n", &text));
    for hierarchy in Layout::from_mounts(own, mounts).hierarchies {
        assert!(hierarchy.is_v2() || !hierarchy.controllers.is_empty());
    }
    sys::mountinfo::mounts(bytes).filter_map(rootfs::kernel_view).for_each(drop);
    for mount in rootfs::points_below(mounts.as_bytes(), Path::new("/b/rootfs")) {
        assert!(!mount.as_os_str().is_empty() && mount.is_relative(), "{mount:?}");
    }
}

/// Files of cgroups and of resctrl, whose lines newer kernels add to; two of them, parted by a zero byte.
pub fn cgroup_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    cgroup::stats::all(&text);
    cgroup::watch::sum(&text, &["oom_kill", "max"]);
    if let Some(understood) = cgroup::understood(&text) {
        assert_eq!(cgroup::understood(&understood).as_ref(), Some(&understood));
    }
    let (asked, schemata) = text.split_once('\0').unwrap_or(("L3:0=f", &text));
    rdt::line_with(schemata, "L3:");
    for step in [None, Some(0), Some(10)] {
        rdt::stands(asked, schemata, step);
    }
}

/// A cgroupsPath, an id, and the runtime's own cgroup with the root of its mount, a line each: no cgroup lies outside of the
/// mount, and no unit of systemd's is a path.
pub fn cgroup_path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (wish, id, own, root) = (next(), next(), next(), next());
    let plain = |path: &str| path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    for (controllers, mode) in [(vec![], Mode::Unified), (vec![], Mode::Hybrid), (vec!["cpu".to_owned()], Mode::Legacy)]
    {
        let hierarchy = Hierarchy { mount_point: "/m".into(), root: root.into(), controllers, own: own.into() };
        for wish in [None, Some(wish)] {
            if let Ok(place) = cgroup::place::place(wish, id, &hierarchy, mode) {
                assert!(plain(&place.path), "{place:?}");
            }
        }
        if let Ok(place) = cgroup::place::place_of_unit(own, &hierarchy) {
            assert!(plain(&place.path), "{place:?}");
        }
    }
    let Ok((unit, slice)) = cgroup::unit(Some(wish), id, Instance::System) else { return };
    assert!(plain(&unit.name), "{unit:?}");
    if let Ok(path) = unit.path(&slice) {
        assert!(plain(&path), "{path:?}");
    }
    cgroup::expand(&slice).ok();
}

/// A property of systemd's in an annotation, as text: what is understood can be told over D-Bus.
pub fn property(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(value) = cgroup::variant::parse(text) {
        crosses_the_bus(&[value]);
    }
    let annotations =
        ["TimeoutStopUSec", "KillMode"].map(|name| (format!("org.systemd.property.{name}"), text.to_owned()));
    cgroup::variant::annotated(&annotations.into()).ok();
}

/// What comes from a bus: messages that were understood can be told again. Also the address of one.
pub fn dbus(bytes: &[u8]) {
    let mut waiting = bytes.to_vec();
    while let Ok(Some(message)) = Message::take(&mut waiting) {
        if let Some(values) = message.values() {
            crosses_the_bus(&values);
        }
    }
    for address in cgroup::Address::parse(&String::from_utf8_lossy(bytes)) {
        assert!(address.is_bus);
    }
}

fn crosses_the_bus(values: &[cgroup::wire::Value]) {
    let call = |values: &[cgroup::wire::Value]| Message::call("a.b", "/a", "a.b", "C", values).encode();
    let mut told = call(values);
    let bytes = told.clone();
    let heard = Message::take(&mut told).unwrap().unwrap();
    // Not the values themselves: no number that is none is equal to itself.
    assert_eq!(call(&heard.values().unwrap()), bytes, "{values:?}");
}

/// What the kernel says of network devices, whose names and addresses are others', and what a program says to its
/// service manager.
pub fn datagram(bytes: &[u8]) {
    notify::is_ready(bytes);
    let mut answers = Vec::new();
    sys::netlink::take(bytes, &mut answers).ok();
    for answer in answers {
        for (_, value) in network::attributes(&answer.body) {
            assert!(value.len() <= answer.body.len());
        }
    }
}

/// What init says to its parent: a failure that was understood crosses again as it was.
pub fn link(bytes: &[u8]) {
    let error = rendezvous::decode(bytes);
    let again = rendezvous::encode(&error);
    assert!(again.len() < 32 * 1024, "{}", again.len());
    let arrived = rendezvous::decode(&again);
    assert_eq!(arrived.kind(), error.kind());
    if again.len() < 4000 {
        assert_eq!(arrived, error);
    }
}

/// A profile drawn from the bytes: the filter is one that the kernel takes, and answers with what the profile says.
pub fn seccomp(bytes: &[u8]) {
    let profile = Bytes(bytes).profile();
    for unknown in [Unknown::Enosys, Unknown::Default] {
        let Ok(program) = compiler::compile(&profile, Abi::native().unwrap(), unknown) else { continue };
        assert!(!program.is_empty() && program.len() <= 4096, "{}", program.len());
        for (at, instruction) in program.iter().enumerate() {
            let next = match instruction.code {
                // BPF_LD | BPF_W | BPF_ABS of struct seccomp_data.
                0x20 => {
                    assert!(instruction.k % 4 == 0 && instruction.k < 64, "{instruction:?}");
                    vec![at + 1]
                }
                // BPF_ALU | BPF_AND | BPF_K.
                0x54 => vec![at + 1],
                // BPF_JMP | BPF_JA, then the comparisons.
                0x05 => vec![at + 1 + instruction.k as usize],
                0x15 | 0x25 | 0x35 | 0x45 => {
                    vec![at + 1 + usize::from(instruction.jt), at + 1 + usize::from(instruction.jf)]
                }
                // BPF_RET | BPF_K.
                0x06 => {
                    assert!(answers(&profile, unknown).contains(&instruction.k), "{:#x}", instruction.k);
                    vec![]
                }
                other => panic!("{other:#x} is no instruction of ours"),
            };
            for next in next {
                assert!(next < program.len(), "{at} leads out of the program");
            }
        }
    }
}

fn answers(profile: &Seccomp, unknown: Unknown) -> Vec<u32> {
    let rules = profile.syscalls.iter().map(|rule| rule.action).chain([profile.default_action]);
    let mut answers: Vec<u32> = rules.map(crate::seccomp::code).chain([0]).collect();
    if unknown == Unknown::Enosys {
        answers.push(crate::seccomp::code(SeccompAction::Errno(libc::ENOSYS as u16)));
    }
    answers
}

/// Bytes as a source of choices; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn number(&mut self, length: usize) -> u64 {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn below(&mut self, end: usize) -> usize {
        self.number(2) as usize % end
    }

    fn action(&mut self) -> SeccompAction {
        match self.number(1) % 8 {
            0 => SeccompAction::Allow,
            1 => SeccompAction::Errno(self.number(1) as u16),
            2 => SeccompAction::KillThread,
            3 => SeccompAction::KillProcess,
            4 => SeccompAction::Trap,
            5 => SeccompAction::Trace(self.number(1) as u16),
            6 => SeccompAction::Notify,
            _ => SeccompAction::Log,
        }
    }

    fn condition(&mut self) -> SeccompArg {
        use SeccompOperator::*;
        let operators = [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual, MaskedEqual];
        let width = [1, 4, 8][self.below(3)];
        SeccompArg {
            index: self.below(6) as u32,
            op: operators[self.below(7)],
            value: self.number(width),
            value_two: self.number(width),
        }
    }

    fn profile(&mut self) -> Seccomp {
        const ARCHITECTURES: [&str; 8] = [
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_RISCV64",
            "SCMP_ARCH_S390X",
            "SCMP_ARCH_MIPS",
        ];
        let names: Vec<&str> = crate::seccomp::names().chain(["no_such_call"]).collect();
        let default_action = self.action();
        let chosen = self.number(1);
        let architectures = ARCHITECTURES.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
        let architectures = architectures.map(|(_, name)| (*name).to_owned()).collect();
        let mut syscalls = Vec::new();
        while !self.0.is_empty() && syscalls.len() < 200 {
            let of_rule = 1 + self.below(4);
            syscalls.push(SeccompRule {
                names: (0..of_rule).map(|_| names[self.below(names.len())].to_owned()).collect(),
                action: self.action(),
                args: (0..self.below(4)).map(|_| self.condition()).collect(),
            });
        }
        Seccomp { default_action, architectures, flags: None, syscalls, listener_path: None, listener_metadata: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One function here, and its name.
    type Target = (&'static str, fn(&[u8]));

    /// Every function here by its name, which is that of its program and of its corpus.
    const TARGETS: [Target; 17] = [
        ("config", config),
        ("parts", parts),
        ("update", update),
        ("mount", mount),
        ("record", record),
        ("command_line", command_line),
        ("passwd", passwd),
        ("ps", ps),
        ("executable", executable),
        ("procfs", procfs),
        ("cgroup_files", cgroup_files),
        ("cgroup_path", cgroup_path),
        ("property", property),
        ("dbus", dbus),
        ("datagram", datagram),
        ("link", link),
        ("seccomp", seccomp),
    ];

    /// What was found once is tried for ever; and no target is without a corpus and a program.
    #[test]
    fn the_corpus_is_survived() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in TARGETS {
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
            let mut tried = 0;
            for entry in std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap() {
                let path = entry.unwrap().path();
                // Named first: a panic alone would not tell which it was.
                println!("{}", path.display());
                target(&std::fs::read(path).unwrap());
                tried += 1;
            }
            assert!(tried > 0, "{name}");
        }
    }
}
