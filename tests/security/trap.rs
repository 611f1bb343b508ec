//! A bundle that is a trap, with its canary and the sentinels of the host: compared after each command.

use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use super::host::Host;
use crate::support::canary::Canary;
use crate::support::outcome::{Outcome, called_by};
use crate::support::{Bundle, is_orlop};

/// The trap. Its commands shadow those of [`Bundle`]: they do the same, and then compare.
pub struct Trap {
    bundle: Bundle,
    /// The tree at `bundle/outside` that nobody may touch.
    pub canary: Canary,
    host: Host,
    /// Whether a change of `/dev/null` counts. crun 1.8.1 gives it to the container's user each time, which is T19's matter
    /// and would make every other trap look red.
    pub null_counts: bool,
}

/// What an image, or a volume, may have in the place of something else.
#[derive(Debug, Clone, Copy)]
pub enum Plant<'a> {
    /// A symbolic link with this text.
    Link(&'a str),
    /// A symbolic link to this name in the canary, by its absolute path.
    Out(&'a str),
    File(&'a [u8]),
    /// A file of this length that is one hole.
    Sparse(u64),
    Fifo,
    Directory,
    FullDirectory,
    Char(u32, u32),
    Block(u32, u32),
    Nothing,
}

/// What the commands of a whole life answered. A step that could not be reached is `None`.
#[derive(Debug)]
pub struct Life {
    pub run: Outcome,
    pub create: Outcome,
    pub start: Option<Outcome>,
    pub exec: Option<Outcome>,
}

impl Life {
    /// Looks at what the program wrote: once for `run`, once for `exec`; not where the runtime refused.
    pub fn said(&self, look: impl Fn(&str)) {
        for outcome in std::iter::once(&self.run).chain(&self.exec).filter(|outcome| outcome.status.success()) {
            look(&outcome.stdout);
        }
    }
}

impl Trap {
    /// A bundle as [`Bundle::new`] makes it, in namespaces of this test's own.
    pub fn new() -> Trap {
        super::host::enter();
        let bundle = Bundle::new();
        let canary = Canary::plant(bundle.path().join("outside"));
        let host = Host::observe(bundle.id());
        Trap { bundle, canary, host, null_counts: is_orlop() }
    }

    /// One whose program is a shell script.
    pub fn sh(script: &str) -> Trap {
        let mut trap = Trap::new();
        trap.args(&["sh", "-c", script]);
        trap
    }

    /// Puts something into the rootfs, for all to read, in the place of what is there.
    pub fn plant(&self, place: &str, what: Plant<'_>) {
        self.plant_at(&self.rootfs(place), what);
    }

    /// As [`Trap::plant`], anywhere on the host.
    pub fn plant_at(&self, at: &Path, what: Plant<'_>) {
        let _ = std::fs::remove_file(at).or_else(|_| std::fs::remove_dir(at));
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        let node = |kind, major, minor| mknod(at, kind, Mode::S_IRWXU, makedev(major, minor)).unwrap();
        match what {
            Plant::Link(text) => symlink(text, at).unwrap(),
            Plant::Out(name) => symlink(self.canary.path().join(name), at).unwrap(),
            Plant::File(content) => std::fs::write(at, content).unwrap(),
            Plant::Sparse(length) => std::fs::File::create(at).unwrap().set_len(length).unwrap(),
            Plant::Fifo => mkfifo(at, Mode::S_IRWXU).unwrap(),
            Plant::Directory => std::fs::create_dir(at).unwrap(),
            Plant::FullDirectory => std::fs::create_dir_all(at.join("full")).unwrap(),
            Plant::Char(major, minor) => node(SFlag::S_IFCHR, major.into(), minor.into()),
            Plant::Block(major, minor) => node(SFlag::S_IFBLK, major.into(), minor.into()),
            Plant::Nothing => {}
        }
        if !matches!(what, Plant::Link(_) | Plant::Out(_) | Plant::Nothing) {
            // The umask has no say.
            std::fs::set_permissions(at, PermissionsExt::from_mode(0o777)).unwrap();
        }
    }

    /// `run` under strace(1) with these options; compared. Also returns the lines of its log.
    #[track_caller]
    pub fn traced(&self, options: &[&str]) -> (Outcome, Vec<String>) {
        let log = self.scratch("trace");
        let mut words = vec!["strace", "-f", "-qq", "-s", "200", "-o", log.to_str().unwrap()];
        words.extend(options);
        let mut command = called_by(&words, &self.write().command(&self.with_bundle(&["run"])));
        command.stdin(Stdio::null());
        let outcome = self.finish(command);
        self.compare(format_args!("run with {options:?}: {outcome}"));
        let text = std::fs::read(&log).unwrap_or_default();
        (outcome, String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// No procfs is mounted, and so nothing of it is masked.
    pub fn without_proc(&mut self) -> &mut Self {
        self.no_mount("/proc").edit(|spec| {
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
        });
        self
    }

    /// Nothing is mounted on `/dev`, and the root is writable: the runtime works in the image's own `/dev`.
    pub fn without_dev(&mut self) -> &mut Self {
        for place in ["/dev/shm", "/dev/pts", "/dev/mqueue", "/dev"] {
            self.no_mount(place);
        }
        self.writable();
        self
    }

    /// Looks for what was touched since the trap was set. `step` says what was done.
    #[track_caller]
    pub fn compare(&self, step: impl std::fmt::Display) {
        let mut touched = self.canary.touched();
        touched
            .extend(self.host.changed().into_iter().filter(|line| self.null_counts || !line.starts_with("/dev/null:")));
        if !touched.is_empty() {
            self.host.restore();
            panic!("touched on the host:\n  {}\nafter {step}", touched.join("\n  "));
        }
    }

    /// What changed on the host, and is meant to: the comparisons that follow start from here.
    pub fn host_changed_on_purpose(&mut self) {
        self.host = Host::observe(self.bundle.id());
    }

    #[track_caller]
    fn compared(&self, step: &str, outcome: Outcome) -> Outcome {
        self.compare(format_args!("{step}: {outcome}"));
        outcome
    }

    /// `run`; compared.
    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.compared("run", self.bundle.run())
    }

    /// `create`; compared.
    #[track_caller]
    pub fn create(&self) -> Outcome {
        self.compared("create", self.bundle.create())
    }

    /// `start`; compared.
    #[track_caller]
    pub fn start(&self) -> Outcome {
        self.compared("start", self.bundle.start())
    }

    /// `exec` of a shell script; compared.
    #[track_caller]
    pub fn exec(&self, script: &str) -> Outcome {
        self.compared("exec", self.bundle.exec(script))
    }

    /// `exec` with these options and words; compared.
    #[track_caller]
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Outcome {
        self.compared("exec", self.bundle.exec_with(options, args))
    }

    /// `kill`; compared.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Outcome {
        self.compared("kill", self.bundle.kill(signal))
    }

    /// `delete`; compared.
    #[track_caller]
    pub fn delete(&self) -> Outcome {
        self.compared("delete", self.bundle.delete())
    }

    /// `delete --force`; compared.
    #[track_caller]
    pub fn delete_force(&self) -> Outcome {
        self.compared("delete --force", self.bundle.delete_force())
    }

    /// `run --detach` of a program that sleeps, or of the trap's own; compared, and successful.
    #[track_caller]
    pub fn up(&mut self) -> &mut Self {
        self.bundle.up();
        self.compare("run --detach");
        self
    }

    /// The whole life of two containers, whatever comes of it: one that `run` runs to its end, and one that is created,
    /// started, entered by `exec` with the trap's own program, killed and deleted. A failed one leaves nothing.
    #[track_caller]
    pub fn survive(&mut self) -> Life {
        let run = self.run();
        if !self.state_root().join(self.id()).exists() {
            self.assert_gone_where_ours();
        }
        let program = std::mem::replace(&mut self.spec["process"]["args"], json!(["sleep", "1000"]));
        let create = self.create();
        self.spec["process"]["args"] = program.clone();
        let mut life = Life { run, create, start: None, exec: None };
        if life.create.status.success() {
            life.start = Some(self.start());
            let words: Vec<&str> = program.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            life.exec = Some(self.exec_with(&[], &words));
            self.kill("KILL");
            self.delete_force();
        }
        self.assert_gone_where_ours();
        life
    }

    /// The positive twin: the same bundle without the trap works, at every step.
    #[track_caller]
    pub fn works(&mut self) -> Life {
        let life = self.survive();
        for outcome in [Some(&life.run), Some(&life.create), life.start.as_ref(), life.exec.as_ref()] {
            let outcome = outcome.expect("create failed");
            assert!(outcome.status.success(), "{outcome}");
        }
        life
    }

    /// `run` and `create` fail by themselves, with these words where orlop is asked, and leave nothing.
    #[track_caller]
    pub fn refused(&mut self, words: &str) {
        for outcome in [self.run(), self.create()] {
            outcome.fails_saying(words);
            self.assert_gone_where_ours();
        }
    }

    /// A failure leaves nothing. That a peer leaves a cgroup behind is another matter, and must not make a trap look red.
    #[track_caller]
    fn assert_gone_where_ours(&self) {
        if is_orlop() {
            self.assert_gone();
        }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        let there = self.state_root().join(self.id()).exists();
        if there {
            self.bundle.delete_force();
        }
        if !is_orlop() {
            self.left().sweep();
        }
        if std::thread::panicking() {
            self.host.restore();
        } else if there {
            self.compare("delete --force at the end of the test");
        }
    }
}

impl Deref for Trap {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.bundle
    }
}

impl DerefMut for Trap {
    fn deref_mut(&mut self) -> &mut Bundle {
        &mut self.bundle
    }
}
