//! The tables, and the real kernel: cgroups named `/orlop-test-PID-NAME` in every hierarchy of this host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;
use specconv::{
    BlockIo, Cpu, DeviceAccess, DeviceKind, DeviceRule, HugepageLimit, Limit, NetworkResources, RdmaLimit,
    ThrottleDevice, WeightDevice,
};

use super::write::{Absent, Refused};
use super::*;
use crate::error::Kind;
use crate::sys::process::{self, Birth, Side};

fn hierarchy(controllers: &[&str], mount_point: &str) -> Hierarchy {
    Hierarchy {
        mount_point: PathBuf::from(mount_point),
        root: "/".to_owned(),
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        own: "/user/1".to_owned(),
    }
}

fn unified() -> Layout {
    Layout { mode: Mode::Unified, hierarchies: vec![hierarchy(&[], "/sys/fs/cgroup")] }
}

fn legacy() -> Layout {
    let all = "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb rdma net_cls net_prio";
    let one = |name| hierarchy(&[name], &format!("/sys/fs/cgroup/{name}"));
    let mut hierarchies: Vec<Hierarchy> = all.split(' ').map(one).collect();
    hierarchies.push(hierarchy(&["name=systemd"], "/sys/fs/cgroup/systemd"));
    Layout { mode: Mode::Legacy, hierarchies }
}

fn hybrid() -> Layout {
    let hierarchies = ["cpu", "memory", "devices", "freezer"].map(|name| hierarchy(&[name], &format!("/c/{name}")));
    let v2 = hierarchy(&[], "/c/unified");
    Layout { mode: Mode::Hybrid, hierarchies: hierarchies.into_iter().chain([v2]).collect() }
}

static NONE: BTreeMap<String, String> = BTreeMap::new();

fn request<'a>(path: &'a str, resources: &'a Resources) -> Request<'a> {
    Request {
        id: "web",
        cgroups_path: Some(path),
        driver: Driver::Cgroupfs,
        resources,
        rootless: false,
        in_user_namespace: false,
        delegate_to: None,
        annotations: &NONE,
        systemd: None,
        delegated: None,
    }
}

fn planned(resources: &Resources, layout: &Layout) -> Plan {
    plan(&request("/web", resources), layout).unwrap()
}

/// Rows as text: `v1 memory.limit_in_bytes=7`, with `(first)`, `(again)` and `(or ..)` where they apply.
fn rows(resources: &Resources, layout: &Layout) -> Vec<String> {
    let text = |row: &Write| {
        let version = if matches!(row.controller, Controller::V1(_)) { "v1" } else { "v2" };
        let mut text = format!("{version} {}={}", row.file, row.value);
        if row.when == When::BeforeEntry {
            text.push_str(" (first)");
        }
        if row.refused == Refused::TryAgainLast {
            text.push_str(" (again)");
        }
        match &row.absent {
            Absent::IsAnError => {}
            Absent::MeansAlreadySo => text.push_str(" (if there)"),
            Absent::Instead { file, value } => text.push_str(&format!(" (or {file}={value})")),
        }
        text
    };
    planned(resources, layout).writes.iter().map(text).collect()
}

fn refusal(resources: &Resources, layout: &Layout) -> String {
    plan(&request("/web", resources), layout).unwrap_err().to_string()
}

fn with_memory(memory: Memory) -> Resources {
    Resources { memory, ..Resources::default() }
}

fn with_cpu(cpu: Cpu) -> Resources {
    Resources { cpu, ..Resources::default() }
}

fn max(bytes: u64) -> Option<Limit> {
    Some(Limit::Max(bytes))
}

#[test]
fn nothing_asked_writes_nothing() {
    let zeros = Resources {
        memory: Memory { limit: max(0), reservation: max(0), kernel: max(0), ..Memory::default() },
        cpu: Cpu { shares: Some(0), quota: max(0), period: Some(0), realtime_period: Some(0), ..Cpu::default() },
        block_io: BlockIo { weight: Some(0), leaf_weight: Some(0), ..BlockIo::default() },
        network: NetworkResources { class_id: Some(0), priorities: vec![] },
        ..Resources::default()
    };
    for resources in [Resources::default(), zeros] {
        for layout in [unified(), legacy(), hybrid()] {
            assert_eq!(rows(&resources, &layout), Vec::<String>::new());
            assert!(planned(&resources, &layout).warnings().is_empty());
        }
    }
}

#[test]
fn memory_and_swap() {
    let limited =
        with_memory(Memory { limit: max(100), swap: Some(Swap::Bytes(50)), reservation: max(7), ..Memory::default() });
    assert_eq!(
        rows(&limited, &legacy()),
        [
            "v1 memory.limit_in_bytes=100 (again)",
            "v1 memory.memsw.limit_in_bytes=150",
            "v1 memory.soft_limit_in_bytes=7"
        ]
    );
    assert_eq!(rows(&limited, &unified()), ["v2 memory.swap.max=50", "v2 memory.max=100", "v2 memory.low=7"]);

    let no_swap = with_memory(Memory { limit: max(100), swap: Some(Swap::Bytes(0)), ..Memory::default() });
    assert_eq!(rows(&no_swap, &unified()), ["v2 memory.swap.max=0 (if there)", "v2 memory.max=100"]);
    assert_eq!(rows(&no_swap, &legacy())[1], "v1 memory.memsw.limit_in_bytes=100");

    let lifted = with_memory(Memory { limit: Some(Limit::Unlimited), ..Memory::default() });
    assert_eq!(
        rows(&lifted, &legacy()),
        ["v1 memory.limit_in_bytes=-1 (again)", "v1 memory.memsw.limit_in_bytes=-1 (if there)"]
    );
    assert_eq!(rows(&lifted, &unified()), ["v2 memory.swap.max=max (if there)", "v2 memory.max=max"]);

    let swap_alone =
        with_memory(Memory { limit: Some(Limit::Unlimited), swap: Some(Swap::Bytes(9)), ..Memory::default() });
    assert_eq!(rows(&swap_alone, &unified()), ["v2 memory.swap.max=9", "v2 memory.max=max"]);
    assert!(refusal(&swap_alone, &legacy()).starts_with("linux.resources.memory.swap: "));
}

#[test]
fn memory_that_only_v1_has() {
    let swappiness = |value| with_memory(Memory { swappiness: Some(value), ..Memory::default() });
    assert_eq!(rows(&swappiness(0), &legacy()), ["v1 memory.swappiness=0"]);
    assert!(refusal(&swappiness(0), &unified()).starts_with("linux.resources.memory.swappiness: "));
    let usual = planned(&swappiness(60), &unified());
    assert_eq!((usual.writes().len(), usual.warnings().len()), (0, 1));

    let no_killer = with_memory(Memory { disable_oom_killer: Some(true), ..Memory::default() });
    assert_eq!(rows(&no_killer, &legacy()), ["v1 memory.oom_control=1"]);
    assert!(refusal(&no_killer, &unified()).contains("cannot disable OOM killer with cgroup v2"));

    let kernel = with_memory(Memory { kernel: max(5), kernel_tcp: max(5), ..Memory::default() });
    assert_eq!(rows(&kernel, &legacy()), ["v1 memory.kmem.tcp.limit_in_bytes=5"]);
    assert_eq!(planned(&kernel, &legacy()).warnings()[0].field, "linux.resources.memory.kernel");
    assert!(refusal(&kernel, &unified()).starts_with("linux.resources.memory.kernel: "));
    let buffers = |limit| with_memory(Memory { kernel_tcp: Some(limit), ..Memory::default() });
    assert!(refusal(&buffers(Limit::Max(5)), &unified()).starts_with("linux.resources.memory.kernelTCP: "));
    assert_eq!(rows(&buffers(Limit::Unlimited), &unified()), [""; 0], "there is none to lift");
}

#[test]
fn processor() {
    let cpu = with_cpu(Cpu {
        shares: Some(1024),
        quota: max(5000),
        period: Some(10_000),
        burst: Some(100),
        cpus: Some("0-1".to_owned()),
        mems: Some("0".to_owned()),
        ..Cpu::default()
    });
    assert_eq!(
        rows(&cpu, &legacy()),
        [
            "v1 cpu.shares=1024",
            "v1 cpu.cfs_period_us=10000 (again)",
            "v1 cpu.cfs_burst_us=100 (again)",
            "v1 cpu.cfs_quota_us=5000",
            "v1 cpuset.cpus=0-1 (first)",
            "v1 cpuset.mems=0 (first)"
        ]
    );
    assert_eq!(
        rows(&cpu, &unified()),
        [
            "v2 cpu.weight=100",
            "v2 cpu.max.burst=100 (again)",
            "v2 cpu.max=5000 10000",
            "v2 cpuset.cpus=0-1",
            "v2 cpuset.mems=0"
        ]
    );
    let lifted = with_cpu(Cpu { quota: Some(Limit::Unlimited), ..Cpu::default() });
    assert_eq!(rows(&lifted, &legacy()), ["v1 cpu.cfs_quota_us=-1"]);
    assert_eq!(rows(&lifted, &unified()), ["v2 cpu.max=max 100000"]);
    let period = with_cpu(Cpu { period: Some(7000), ..Cpu::default() });
    assert_eq!(rows(&period, &unified()), ["v2 cpu.max=max 7000"]);
    let idle = with_cpu(Cpu { idle: Some(1), shares: Some(2), ..Cpu::default() });
    assert_eq!(rows(&idle, &unified()), ["v2 cpu.idle=1"]);
    assert_eq!(rows(&idle, &legacy()), ["v1 cpu.idle=1"], "an idle group takes no shares");
    for layout in [unified(), legacy()] {
        assert_eq!(planned(&idle, &layout).warnings().len(), 1);
    }
    let busy = with_cpu(Cpu { idle: Some(0), shares: Some(2), ..Cpu::default() });
    assert_eq!(rows(&busy, &legacy()), ["v1 cpu.idle=0 (if there)", "v1 cpu.shares=2"]);
    let realtime = with_cpu(Cpu { realtime_runtime: Some(9), realtime_period: Some(10), ..Cpu::default() });
    assert_eq!(
        rows(&realtime, &legacy()),
        ["v1 cpu.rt_period_us=10 (first) (again)", "v1 cpu.rt_runtime_us=9 (first)"]
    );
    assert!(refusal(&realtime, &unified()).starts_with("linux.resources.cpu.realtimeRuntime: "));
}

/// Ends and defaults of both scales, and values that the other runtimes write (opencontainers/cgroups' table).
#[test]
fn weights() {
    for (shares, weight) in [(0, 1), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(v2::weight(shares), weight, "{shares}");
    }
    for (low, high) in (2..2000_u64).zip(3..) {
        assert!(v2::weight(low) <= v2::weight(high), "{low}");
    }
    for (old, new) in [(0, 1), (9, 1), (10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
        assert_eq!(v2::io_weight(old), new, "{old}");
    }
}

#[test]
fn tasks() {
    for (limit, value) in [(Limit::Unlimited, "max"), (Limit::Max(0), "1"), (Limit::Max(64), "64")] {
        let resources = Resources { pids: Some(limit), ..Resources::default() };
        assert_eq!(rows(&resources, &legacy()), [format!("v1 pids.max={value}")]);
        assert_eq!(rows(&resources, &unified()), [format!("v2 pids.max={value}")]);
    }
}

#[test]
fn block_devices() {
    let throttle = |rate| vec![ThrottleDevice { major: 8, minor: 16, rate }];
    let device = WeightDevice { major: 8, minor: 0, weight: Some(500), leaf_weight: None };
    let io = BlockIo {
        weight: Some(100),
        weight_device: vec![device],
        throttle_read_bps: throttle(600),
        throttle_write_iops: throttle(0),
        ..BlockIo::default()
    };
    let resources = Resources { block_io: io.clone(), ..Resources::default() };
    assert_eq!(
        rows(&resources, &legacy()),
        [
            "v1 blkio.weight=100 (or blkio.bfq.weight=100)",
            "v1 blkio.weight_device=8:0 500 (or blkio.bfq.weight_device=8:0 500)",
            "v1 blkio.throttle.read_bps_device=8:16 600",
            "v1 blkio.throttle.write_iops_device=8:16 0"
        ]
    );
    assert_eq!(
        rows(&resources, &unified()),
        [
            "v2 io.bfq.weight=100 (or io.weight=910)",
            "v2 io.bfq.weight=8:0 500 (or io.weight=8:0 4950)",
            "v2 io.max=8:16 rbps=600",
            "v2 io.max=8:16 wiops=max"
        ]
    );
    let leaf = Resources { block_io: BlockIo { leaf_weight: Some(10), ..io }, ..Resources::default() };
    assert!(refusal(&leaf, &unified()).starts_with("linux.resources.blockIO.leafWeight: "));
}

#[test]
fn pages_rdma_and_packets() {
    let resources = Resources {
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 9 }],
        rdma: vec![RdmaLimit { device: "mlx5".to_owned(), hca_handles: Some(3), hca_objects: None }],
        ..Resources::default()
    };
    assert_eq!(
        rows(&resources, &legacy()),
        [
            "v1 hugetlb.2MB.limit_in_bytes=9",
            "v1 hugetlb.2MB.rsvd.limit_in_bytes=9 (if there)",
            "v1 rdma.max=mlx5 hca_handle=3"
        ]
    );
    assert_eq!(
        rows(&resources, &unified()),
        ["v2 hugetlb.2MB.max=9", "v2 hugetlb.2MB.rsvd.max=9 (if there)", "v2 rdma.max=mlx5 hca_handle=3"]
    );
    let network = NetworkResources { class_id: Some(1), priorities: vec![("eth0".to_owned(), 5)] };
    let packets = Resources { network, ..Resources::default() };
    assert_eq!(rows(&packets, &legacy()), ["v1 net_cls.classid=1", "v1 net_prio.ifpriomap=eth0 5"]);
    assert!(refusal(&packets, &unified()).starts_with("linux.resources.network.classID: "));
    assert!(refusal(&packets, &hybrid()).contains("no cgroup hierarchy with the controller \"net_cls\""));
}

/// T25: a page size or a key never names a file elsewhere.
#[test]
fn t25_names_of_files() {
    let page = HugepageLimit { page_size: "/../../memory.max".to_owned(), limit: 1 };
    let pages = Resources { hugepage_limits: vec![page], ..Resources::default() };
    assert!(refusal(&pages, &unified()).starts_with("linux.resources.hugepageLimits[0]: "));
    for key in ["a/b.c", "../cgroup.procs", "memory", ".max", "memory.", "..", "a.b\0"] {
        let unified_keys = Resources { unified: vec![(key.to_owned(), "1".to_owned())], ..Resources::default() };
        let refused = refusal(&unified_keys, &unified());
        assert!(refused.starts_with("linux.resources.unified["), "{key:?}: {refused}");
    }
}

#[test]
fn files_of_ones_own() {
    let keys =
        vec![("memory.high".to_owned(), "9".to_owned()), ("io.max".to_owned(), "8:0 rbps=1\n8:16 rbps=2\n".to_owned())];
    let resources = Resources { unified: keys, pids: Some(Limit::Max(3)), ..Resources::default() };
    assert_eq!(
        rows(&resources, &unified()),
        ["v2 pids.max=3", "v2 memory.high=9", "v2 io.max=8:0 rbps=1", "v2 io.max=8:16 rbps=2"]
    );
    assert!(refusal(&resources, &hybrid()).contains("\"memory\" is mounted as cgroup v1"));
    let keys = vec![("cgroup.max.depth".to_owned(), "4".to_owned())];
    let resources = Resources { unified: keys, ..Resources::default() };
    assert_eq!(rows(&resources, &hybrid()), ["v2 cgroup.max.depth=4"]);
    assert!(refusal(&resources, &legacy()).contains("cannot use unified on cgroup v1"));
}

#[test]
fn each_controller_where_it_is() {
    let limited = Resources { pids: Some(Limit::Max(3)), ..with_memory(Memory { limit: max(9), ..Memory::default() }) };
    assert_eq!(rows(&limited, &hybrid()), ["v2 pids.max=3", "v1 memory.limit_in_bytes=9 (again)"]);
    let view = planned(&limited, &hybrid()).view();
    assert_eq!(view.len(), 5);
    assert_eq!(view[4], View { mount_point: "/c/unified".into(), controllers: vec![], path: "/c/unified/web".into() });
    assert_eq!(planned(&limited, &legacy()).view().last().unwrap().path, Path::new("/sys/fs/cgroup/systemd/web"));
}

#[test]
fn other_drivers() {
    let nothing = Resources::default();
    let with = |driver, resources| plan(&Request { driver, ..request("/web", resources) }, &legacy());
    let disabled = with(Driver::Disabled, &nothing).unwrap();
    assert_eq!(disabled.view()[0].path, Path::new("/sys/fs/cgroup/cpu/user/1"));
    assert_eq!(disabled.forecast().paths.len(), 0, "the runtime's own cgroup is nobody's to kill");
    assert!(make(&disabled).unwrap().pids().unwrap().is_empty());
    let limited = with_memory(Memory { limit: max(1 << 30), ..Memory::default() });
    assert!(with(Driver::Disabled, &limited).unwrap_err().to_string().starts_with("linux.resources.memory.limit: "));
    let none = Layout { mode: Mode::Absent, hierarchies: vec![] };
    assert!(plan(&request("/web", &nothing), &none).unwrap_err().to_string().contains("no cgroup hierarchy"));
}

#[test]
fn usage_is_checked_where_asked() {
    let memory = Memory { limit: max(10), swap: Some(Swap::Bytes(5)), check_before_update: true, ..Memory::default() };
    let check = UsageCheck { memory: Some(10), total: Some(15) };
    assert_eq!(planned(&with_memory(memory), &unified()).usage, Some(check));
    assert_eq!(planned(&with_memory(memory), &legacy()).usage, None);
    assert_eq!(planned(&with_memory(Memory { check_before_update: false, ..memory }), &unified()).usage, None);
}

// From here on with the kernel.

/// A cgroup of a test, removed whatever happens.
struct Scratch {
    path: String,
    layout: Layout,
}

impl Scratch {
    fn new(name: &str, layout: Layout) -> Scratch {
        Scratch { path: format!("/orlop-test-{}-{name}/c", std::process::id()), layout }
    }

    fn try_make(&self, resources: &Resources) -> Result<(Plan, Cgroup)> {
        let plan = plan(&request(&self.path, resources), &self.layout)?;
        let cgroup = make(&plan)?;
        Ok((plan, cgroup))
    }

    fn make(&self, resources: &Resources) -> (Plan, Cgroup) {
        self.try_make(resources).unwrap()
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.layout.hierarchies.iter().map(|hierarchy| hierarchy.mount_point.join(&self.path[1..])).collect()
    }

    fn file(&self, controller: &str, file: &str) -> String {
        let hierarchy = self.layout.legacy(controller).or_else(|| self.layout.v2()).unwrap();
        let path = hierarchy.mount_point.join(&self.path[1..]).join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|no| panic!("{}: {no}", path.display())).trim().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for directory in self.directories() {
            let _ = std::fs::remove_dir(&directory);
            let _ = std::fs::remove_dir(directory.parent().unwrap());
        }
    }
}

/// A process that sleeps, killed whatever happens.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    /// Waits for its end, which must come soon.
    fn signal(mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        for _ in 0..6000 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.signal();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it still lives");
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tree of v2 alone, wherever this host has it mounted.
fn v2_here() -> Option<Layout> {
    let layout = Layout::observe().unwrap();
    let v2 = layout.v2()?.clone();
    Some(Layout { mode: Mode::Unified, hierarchies: vec![v2] })
}

/// Every layout that can be tried here: this host's own, and v2 alone.
fn here() -> Vec<Layout> {
    if !nix::unistd::geteuid().is_root() {
        return Vec::new();
    }
    let own = Layout::observe().unwrap();
    let v2 = v2_here().filter(|_| own.mode != Mode::Unified);
    std::iter::once(own).chain(v2).collect()
}

#[test]
fn a_life() {
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("life{number}"), layout);
        let (plan, cgroup) = scratch.make(&Resources::default());
        assert!(scratch.directories().iter().all(|directory| directory.is_dir()));
        assert_eq!(cgroup.pids().unwrap(), Vec::<i32>::new());

        let sleeper = Sleeper::new();
        cgroup.attach(sleeper.pid()).unwrap();
        assert!(cgroup.apply(&plan).unwrap().is_empty());
        assert_eq!(cgroup.pids().unwrap(), [sleeper.pid().as_raw()]);
        let occupied = scratch.try_make(&Resources::default()).unwrap_err();
        assert_eq!(occupied.to_string(), "container's cgroup is not empty: 1 process(es) found");

        assert!(!cgroup.is_frozen().unwrap());
        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen().unwrap());
        cgroup.thaw().unwrap();
        assert!(!cgroup.is_frozen().unwrap());
        cgroup.freeze().unwrap();

        // Another run of orlop, which knows the record alone.
        let saved = cgroup.saved();
        assert_eq!(saved, plan.forecast_after_the_fact());
        let json = serde_json::to_string(&saved).unwrap();
        let again = Cgroup::open(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(again.pids().unwrap(), [sleeper.pid().as_raw()]);
        again.kill().unwrap();
        assert_eq!(sleeper.signal(), Some(9), "a frozen process dies too");
        assert_eq!(again.oom_kill_count().unwrap(), 0);

        // What a payload may leave behind.
        for directory in scratch.directories() {
            std::fs::create_dir_all(directory.join("sub/deep")).unwrap();
        }
        again.remove().unwrap();
        assert!(scratch.directories().iter().all(|directory| !directory.exists()));
        again.remove().unwrap();
        let gone = Cgroup::open(&saved).unwrap();
        assert!(gone.pids().unwrap().is_empty() && !gone.is_frozen().unwrap());
        assert!(gone.attach(Pid::this()).unwrap_err().to_string().contains("cgroup not exist"));
        gone.kill().unwrap();
    }
}

impl Plan {
    /// What `forecast` would have said before the directories were there.
    fn forecast_after_the_fact(&self) -> Saved {
        let made = self.places.iter().map(Place::directory).collect();
        Saved { made, ..self.forecast() }
    }
}

#[test]
fn what_was_there_before_is_not_ours() {
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("before{number}"), layout);
        let (_, first) = scratch.make(&Resources::default());
        first.freeze().unwrap();
        let frozen = scratch.try_make(&Resources::default()).unwrap_err();
        assert_eq!(frozen.to_string(), "container's cgroup unexpectedly frozen");
        first.thaw().unwrap();
        let (_, second) = scratch.make(&Resources::default());
        second.remove().unwrap();
        assert!(scratch.directories().iter().all(|directory| directory.exists()));
        first.remove().unwrap();
        assert!(scratch.directories().iter().all(|directory| !directory.exists()));
    }
}

#[test]
fn a_failure_leaves_nothing() {
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("failure{number}"), layout.clone());
        let wrong = if layout.legacy("cpuset").is_some() {
            with_cpu(Cpu { cpus: Some("4000".to_owned()), ..Cpu::default() })
        } else {
            Resources { unified: vec![("nosuch.max".to_owned(), "1".to_owned())], ..Resources::default() }
        };
        let refused = scratch.try_make(&wrong).unwrap_err().to_string();
        assert!(refused.starts_with("linux.resources.") || refused.contains(": linux.resources."), "{refused}");
        for directory in scratch.directories() {
            assert!(!directory.parent().unwrap().exists(), "{}", directory.display());
        }
    }
}

#[test]
fn limits_of_v1_arrive() {
    let Some(layout) = here().into_iter().next().filter(|layout| layout.legacy("memory").is_some()) else { return };
    let scratch = Scratch::new("limits", layout);
    let mib = 1 << 20;
    let resources = Resources {
        memory: Memory { limit: max(64 * mib), swap: Some(Swap::Bytes(16 * mib)), ..Memory::default() },
        cpu: Cpu {
            shares: Some(512),
            quota: max(20_000),
            period: Some(50_000),
            burst: Some(10_000),
            cpus: Some("0".to_owned()),
            ..Cpu::default()
        },
        pids: Some(Limit::Max(9)),
        ..Resources::default()
    };
    let (plan, cgroup) = scratch.make(&resources);
    assert_eq!(scratch.file("cpuset", "cpuset.cpus"), "0");
    assert_eq!(scratch.file("cpuset", "cpuset.mems"), "0");
    let sleeper = Sleeper::new();
    cgroup.attach(sleeper.pid()).unwrap();
    cgroup.apply(&plan).unwrap();
    let memory = |file: &str| scratch.file("memory", file).parse::<u64>().unwrap();
    assert_eq!((memory("memory.limit_in_bytes"), memory("memory.memsw.limit_in_bytes")), (64 * mib, 80 * mib));
    assert_eq!(scratch.file("cpu", "cpu.shares"), "512");
    assert_eq!(scratch.file("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(scratch.file("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(scratch.file("cpu", "cpu.cfs_burst_us"), "10000");
    assert_eq!(scratch.file("pids", "pids.max"), "9");

    // Up, down, and up again: the kernel's order of memory and swap, of quota and burst, differs each time.
    for (size, quota) in [(256, 100_000), (8, 5000), (128, 40_000)] {
        let memory_limits = Memory { limit: max(size * mib), swap: Some(Swap::Bytes(mib)), ..Memory::default() };
        let cpu = Cpu { quota: max(quota), period: Some(quota), burst: Some(quota / 2), ..Cpu::default() };
        let next = Resources { memory: memory_limits, cpu, ..Resources::default() };
        let next = super::plan(&request(&scratch.path, &next), &scratch.layout).unwrap();
        cgroup.update(&next).unwrap();
        assert_eq!(memory("memory.limit_in_bytes"), size * mib);
        assert_eq!(memory("memory.memsw.limit_in_bytes"), (size + 1) * mib);
        assert_eq!(scratch.file("cpu", "cpu.cfs_burst_us"), (quota / 2).to_string());
    }
    let lifted = with_memory(Memory { limit: Some(Limit::Unlimited), ..Memory::default() });
    cgroup.update(&super::plan(&request(&scratch.path, &lifted), &scratch.layout).unwrap()).unwrap();
    assert!(memory("memory.memsw.limit_in_bytes") > 1 << 60);
    cgroup.kill().unwrap();
    sleeper.signal();
    cgroup.remove().unwrap();
}

#[test]
fn a_limit_below_what_is_used_tells_the_use() {
    let Some(layout) = here().into_iter().next().filter(|layout| layout.legacy("memory").is_some()) else { return };
    let scratch = Scratch::new("toolow", layout);
    let (_, cgroup) = scratch.make(&Resources::default());
    let mut eater = Sleeper(
        Command::new("sh")
            .args(["-c", "read go; x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo $?; read go"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    cgroup.attach(eater.pid()).unwrap();
    eater.0.stdin.as_ref().unwrap().write_all(b"go\n").unwrap();
    std::io::Read::read_exact(eater.0.stdout.as_mut().unwrap(), &mut [0; 2]).unwrap();
    let low = Resources { memory: Memory { limit: max(4096), ..Memory::default() }, ..Resources::default() };
    let refused = cgroup.update(&plan(&request(&scratch.path, &low), &scratch.layout).unwrap());
    cgroup.kill().unwrap();
    eater.signal();
    cgroup.remove().unwrap();
    // A host with free swap may push everything out; then the limit stands, and holds.
    if let Err(refused) = refused {
        let said = "linux.resources.memory.limit: unable to set memory limit to 4096 (current usage: ";
        assert!(refused.to_string().starts_with(said), "{refused}");
    }
}

/// A shell that waits, is put into the cgroup, and then opens /dev/null and `device`.
fn opens(cgroup: &Cgroup, device: &str) -> bool {
    let script = format!("read go; true < /dev/null || exit 2; true < {device} || exit 1");
    let mut shell =
        Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    cgroup.attach(Pid::from_raw(shell.id().try_into().unwrap())).unwrap();
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    match shell.wait().unwrap().code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("{other:?}: /dev/null must always open"),
    }
}

const KMSG: &str = "/dev/kmsg";

fn device_rules(allow: bool) -> Resources {
    let access = DeviceAccess { read: true, write: true, mknod: true };
    let kmsg = DeviceRule { index: 0, allow, kind: Some(DeviceKind::Char), major: Some(1), minor: Some(11), access };
    Resources { devices: vec![kmsg], ..Resources::default() }
}

/// T30 with the kernel, by v1 and by a program: denied, then an update allows, then another denies again, and the
/// old program is gone each time.
#[test]
fn t30_device_rules_hold_and_are_replaced() {
    if std::fs::File::open(KMSG).is_err() {
        return;
    }
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("devices{number}"), layout);
        let (plan, cgroup) = scratch.make(&device_rules(false));
        let early = cgroup.legacy("devices").is_some();
        assert_eq!(opens(&cgroup, KMSG), !early, "on v1 the rules are there before anybody is");
        cgroup.apply(&plan).unwrap();
        assert!(!opens(&cgroup, KMSG));
        let everything = DeviceRule {
            index: 0,
            allow: true,
            kind: None,
            major: None,
            minor: None,
            access: DeviceAccess { read: true, write: true, mknod: true },
        };
        let all = Resources { devices: vec![everything], ..Resources::default() };
        for (resources, opened) in
            [(device_rules(true), true), (device_rules(false), false), (all, true), (device_rules(false), false)]
        {
            let next = super::plan(&request(&scratch.path, &resources), &scratch.layout).unwrap();
            Cgroup::open(&cgroup.saved()).unwrap().update(&next).unwrap();
            assert_eq!(opens(&cgroup, KMSG), opened, "{:?}", resources.devices);
            if let (Devices::V2(program), Some(fd)) = (&next.devices, cgroup.fd()) {
                let attached = crate::sys::bpf::prog_query(fd).unwrap();
                assert_eq!(attached.len(), usize::from(program.is_some()));
            }
        }
        cgroup.remove().unwrap();
    }
}

/// Capabilities are a thread's own: this drops them for this test alone.
#[test]
fn a_missing_right_is_named() {
    use caps::{CapSet, Capability};
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("rights{number}"), layout);
        let (plan, cgroup) = scratch.make(&device_rules(false));
        for lost in [Capability::CAP_SYS_ADMIN, Capability::CAP_BPF] {
            caps::drop(None, CapSet::Effective, lost).unwrap();
        }
        let refused = cgroup.update(&plan).unwrap_err().to_string();
        let lenient = cgroup.update(&Plan { lenient_devices: true, ..plan.clone() }).unwrap();
        for lost in [Capability::CAP_SYS_ADMIN, Capability::CAP_BPF] {
            caps::raise(None, CapSet::Effective, lost).unwrap();
        }
        let right = if matches!(plan.devices, Devices::V1(_)) { "CAP_SYS_ADMIN" } else { "this process lacks CAP_BPF" };
        assert!(refused.contains("linux.resources.devices: ") && refused.contains(right), "{refused}");
        assert!(refused.ends_with("operation not permitted (EPERM)"), "{refused}");
        assert_eq!(lenient.len(), 1);
        cgroup.remove().unwrap();
    }
}

#[test]
#[ignore = "prints times"]
fn how_long() {
    use std::time::Instant;
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("long{number}"), layout);
        let mut times = [std::time::Duration::ZERO; 6];
        let resources = Resources { pids: None, ..device_rules(false) };
        for _ in 0..100 {
            let sleeper = Sleeper::new();
            let mut mark = Instant::now();
            let mut lap = |index: usize| {
                times[index] += mark.elapsed();
                mark = Instant::now();
            };
            let _ = Layout::observe().unwrap();
            lap(0);
            let plan = super::plan(&request(&scratch.path, &resources), &scratch.layout).unwrap();
            lap(1);
            let cgroup = make(&plan).unwrap();
            lap(2);
            cgroup.attach(sleeper.pid()).unwrap();
            lap(3);
            cgroup.apply(&plan).unwrap();
            lap(4);
            cgroup.kill().unwrap();
            sleeper.signal();
            mark = Instant::now();
            cgroup.remove().unwrap();
            times[5] += mark.elapsed();
        }
        println!("observe, plan, make, attach, apply, remove: {:?}", times.map(|time| time / 100));
    }
}

#[test]
fn a_child_is_born_in_v2_and_walks_into_v1() {
    for (number, layout) in here().into_iter().enumerate() {
        let scratch = Scratch::new(&format!("born{number}"), layout);
        let (_, cgroup) = scratch.make(&Resources::default());
        let entrance = cgroup.entrance().unwrap();
        assert_eq!(entrance.is_empty(), scratch.layout.mode == Mode::Unified);
        let (theirs, ours) = nix::unistd::pipe().unwrap();
        match process::clone3(Birth { flags: 0, cgroup: cgroup.fd() }).unwrap() {
            Side::Child => {
                let entered = entrance.enter().is_ok();
                let _ = nix::unistd::write(&ours, &[u8::from(entered)]);
                loop {
                    nix::unistd::pause();
                }
            }
            Side::Parent(child) => {
                drop(ours);
                let mut entered = [0];
                nix::unistd::read(&theirs, &mut entered).unwrap();
                assert_eq!(entered, [1]);
                for directory in scratch.directories() {
                    let procs = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap();
                    assert_eq!(procs.trim(), child.pid.to_string(), "{}", directory.display());
                }
                assert_eq!(cgroup.pids().unwrap(), [child.pid]);
                cgroup.kill().unwrap();
                assert_eq!(process::waitid(child.pidfd.as_fd()).unwrap(), process::Ended::Killed(9));
            }
        }
        cgroup.remove().unwrap();
    }
}

#[test]
fn huge_pages_of_v2_are_limited_where_it_has_them() {
    for (number, layout) in here().into_iter().enumerate() {
        let Some(v2) = layout.v2().filter(|_| layout.legacy("hugetlb").is_none()) else { continue };
        let available = std::fs::read_to_string(v2.mount_point.join("cgroup.controllers")).unwrap();
        let sizes = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
        if !available.contains("hugetlb") || !sizes.exists() {
            continue;
        }
        let scratch = Scratch::new(&format!("pages{number}"), layout);
        let limit = HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 };
        let resources = Resources {
            hugepage_limits: vec![limit],
            unified: vec![("cgroup.max.depth".to_owned(), "3".to_owned())],
            ..Resources::default()
        };
        let (plan, cgroup) = scratch.make(&resources);
        cgroup.apply(&plan).unwrap();
        assert_eq!(scratch.file("hugetlb", "hugetlb.2MB.max"), (4 << 20).to_string());
        assert_eq!(scratch.file("", "cgroup.max.depth"), "3");
        cgroup.remove().unwrap();
    }
}

#[test]
fn a_controller_that_is_off_is_named_before_anything_is_made() {
    let Some(layout) = v2_here().filter(|_| nix::unistd::geteuid().is_root()) else { return };
    let scratch = Scratch::new("off", layout);
    let resources = Resources { rdma: vec![], ..Resources::default() };
    let resources = Resources { unified: vec![("nosuch.max".to_owned(), "1".to_owned())], ..resources };
    let refused = scratch.try_make(&resources).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.to_string().contains("controller \"nosuch\" not available"), "{refused}");
}

#[test]
fn a_record_leads_to_cgroups_only() {
    for path in ["relative", "/sys/fs/cgroup/../../../tmp", "/tmp", "/"] {
        let saved = Saved { paths: BTreeMap::from([(String::new(), PathBuf::from(path))]), ..Saved::default() };
        assert!(Cgroup::open(&saved).is_err(), "{path}");
    }
}
