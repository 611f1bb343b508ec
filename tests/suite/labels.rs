//! Security modules: AppArmor profiles, SELinux labels of processes and of mounts. What a host without them answers is
//! in `errors.rs`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::require;
use crate::support::{Bundle, flavour, is_orlop, is_root};

fn apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|answer| answer.starts_with(b"Y"))
        && Path::new("/usr/sbin/apparmor_parser").exists()
}

fn selinux() -> bool {
    Path::new("/sys/fs/selinux/policyvers").exists()
}

/// A loaded AppArmor profile that allows all but to read what is called `secret`.
struct Profile(String);

impl Profile {
    /// The bundle's id makes the name its own.
    fn load(bundle: &Bundle, name: &str) -> Profile {
        let profile = Profile(format!("{}-{name}", bundle.id()));
        profile.parse("--replace");
        profile
    }

    fn parse(&self, what: &str) {
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{
                file, capability, network, mount, umount, remount, pivot_root, ptrace, signal, unix,
                change_profile -> **,
                deny /secret r,
            }}\n",
            self.0
        );
        let mut parser = Command::new("/usr/sbin/apparmor_parser");
        parser.args([what, "--skip-cache", "--quiet"]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut parser = parser.spawn().unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "apparmor_parser {what}: {text}");
    }

    fn enforced(&self) -> String {
        format!("{} (enforce)", self.0)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.parse("--remove");
        }
    }
}

/// Who we are, and whether the profile's one prohibition holds.
const LOOK: &str = "cat /proc/self/attr/current; cat /secret 2>/dev/null || echo denied";

fn with_secret(script: &str) -> Bundle {
    let bundle = Bundle::sh(script);
    std::fs::write(bundle.rootfs("secret"), "read\n").unwrap();
    bundle
}

fn confined_by(bundle: &mut Bundle, profile: &str) {
    bundle.edit(|spec| spec["process"]["apparmorProfile"] = json!(profile));
}

#[test]
fn a_profile_confines_the_program() {
    require!(is_root(), "root of the host");
    require!(apparmor(), "AppArmor");
    for no_new_privileges in [true, false] {
        let mut bundle = with_secret(LOOK);
        let profile = Profile::load(&bundle, "shop");
        bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(no_new_privileges));
        assert!(bundle.output().ends_with("\nread"), "the trap works without a profile");
        confined_by(&mut bundle, &profile.0);
        assert_eq!(bundle.output(), format!("{}\ndenied", profile.enforced()));
        bundle.user_namespace(100_000);
        assert_eq!(bundle.output(), format!("{}\ndenied", profile.enforced()));
    }
}

/// CVE-2016-9962 and its kin: what holds for init and not for `exec` does not hold.
#[test]
fn a_profile_confines_exec_too() {
    require!(is_root(), "root of the host");
    require!(apparmor(), "AppArmor");
    for user_namespace in [false, true] {
        let mut bundle = with_secret("exec sleep 1000");
        let (profile, other) = (Profile::load(&bundle, "shop"), Profile::load(&bundle, "other"));
        confined_by(&mut bundle, &profile.0);
        if user_namespace {
            bundle.user_namespace(100_000);
        }
        bundle.up();
        assert_eq!(bundle.exec(LOOK).ok().text(), format!("{}\ndenied", profile.enforced()), "{user_namespace}");
        let named = bundle.exec_with(&["--apparmor", &other.0], &["sh", "-c", LOOK]).ok();
        assert_eq!(named.text(), format!("{}\ndenied", other.enforced()));
        // A file that says nothing of profiles.
        let process =
            json!({"args": ["sh", "-c", LOOK], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
        let file = bundle.file("process.json", process.to_string()).display().to_string();
        let filed = bundle.call(&["exec", "--process", &file, bundle.id()]).ok();
        assert_eq!(filed.text(), format!("{}\ndenied", profile.enforced()));
        bundle.exec_with(&["--apparmor", "orlop-test-no-such-profile"], &["true"]).fails();
        bundle.finish_off();
    }
}

#[test]
fn a_profile_that_is_not_loaded_is_refused() {
    require!(is_root(), "root of the host");
    require!(apparmor(), "AppArmor");
    let mut bundle = Bundle::new();
    confined_by(&mut bundle, "orlop-test-no-such-profile");
    let outcome = bundle.create().fails();
    if is_orlop() {
        for word in ["process.apparmorProfile: ", "`/proc/thread-self/attr/apparmor/exec`", "is not loaded"] {
            assert!(outcome.stderr.contains(word), "{word}: {outcome}");
        }
    }
    bundle.assert_gone();
}

/// Also where there is no AppArmor to be unconfined of.
#[test]
fn unconfined_is_what_it_says() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime that knows what is unconfined without AppArmor");
    let mut bundle = Bundle::new();
    confined_by(&mut bundle, "unconfined");
    bundle.up();
    let init = std::fs::read_to_string(format!("/proc/{}/attr/apparmor/current", bundle.pid()));
    assert!(!apparmor() || init.is_ok_and(|profile| profile == "unconfined\n"));
    bundle.exec("true").ok();
    bundle.finish_off();
}

/// T23: the image brings a /proc of its own, in which everything can be written (CVE-2019-16884, CVE-2023-28642).
#[test]
fn t23_a_profile_is_not_written_to_a_false_procfs() {
    require!(is_root(), "root of the host");
    require!(apparmor(), "AppArmor");
    for user_namespace in [false, true] {
        let mut bundle = with_secret("cat /secret 2>/dev/null || echo denied");
        let profile = Profile::load(&bundle, "shop");
        confined_by(&mut bundle, &profile.0);
        let attr = bundle.rootfs("proc/self/task/1/attr");
        std::fs::create_dir_all(attr.join("apparmor")).unwrap();
        std::os::unix::fs::symlink("self/task/1", bundle.rootfs("proc/thread-self")).unwrap();
        for file in ["current", "exec", "apparmor/current", "apparmor/exec"] {
            std::fs::write(attr.join(file), "unconfined\n").unwrap();
            std::fs::set_permissions(attr.join(file), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        }
        bundle.no_mount("/proc").edit(|spec| {
            let linux = spec["linux"].as_object_mut().unwrap();
            linux.remove("maskedPaths");
            linux.remove("readonlyPaths");
        });
        if user_namespace {
            bundle.user_namespace(100_000);
        }
        let outcome = bundle.run();
        assert!(
            !outcome.status.success() || outcome.text() == "denied",
            "neither refused nor confined: user namespace: {user_namespace}, {outcome}"
        );
        assert!(
            !is_orlop() || user_namespace || outcome.status.success(),
            "we need no /proc of the container: {outcome}"
        );
        for file in ["exec", "apparmor/exec"] {
            assert_eq!(std::fs::read_to_string(attr.join(file)).unwrap(), "unconfined\n", "{file} was written");
        }
    }
}

/// A runtime that is confined itself may under no_new_privs only add a profile to its own.
#[test]
fn who_is_confined_adds_a_profile_under_no_new_privileges() {
    require!(is_root(), "root of the host");
    require!(apparmor(), "AppArmor");
    require!(is_orlop(), "a runtime that stacks profiles");
    let mut bundle = with_secret(LOOK);
    let (outer, inner) = (Profile::load(&bundle, "outer"), Profile::load(&bundle, "inner"));
    confined_by(&mut bundle, &inner.0);
    bundle.prelude(&format!("printf 'exec {}' > /proc/self/attr/apparmor/exec", outer.0));
    bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    assert_eq!(bundle.output(), format!("{}\ndenied", inner.enforced()));
    bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(true));
    let told = bundle.output();
    let (both, denied) = told.split_once('\n').unwrap();
    assert!(both.contains("//&") && both.contains(&outer.0) && both.contains(&inner.0), "{told}");
    assert_eq!(denied, "denied");
    // What our caller has set binds the program too.
    bundle.prelude(&format!(
        "printf 'exec {}' > /proc/self/attr/apparmor/exec; set -- setpriv --no-new-privs -- \"$@\"",
        outer.0
    ));
    bundle.edit(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    assert!(bundle.output().contains("//&"));
}

const PROCESS_LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
const MOUNT_LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

#[test]
fn selinux_labels_the_program_and_exec() {
    require!(is_root(), "root of the host");
    require!(selinux(), "SELinux");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["process"]["selinuxLabel"] = json!(PROCESS_LABEL)).up();
    let current = |pid: &str| {
        let label = std::fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
        label.trim_end_matches(['\0', '\n']).to_owned()
    };
    assert_eq!(current(&bundle.pid().to_string()), PROCESS_LABEL);
    let look = "cat /proc/self/attr/current; echo; cat /proc/self/attr/exec /proc/self/attr/keycreate | wc -c";
    let own = bundle.exec(look).ok();
    assert_eq!(own.stdout.replace('\0', ""), format!("{PROCESS_LABEL}\n0\n"), "nothing is left for the next execve");
    let other = PROCESS_LABEL.replace("c1,c2", "c3");
    let named = bundle.exec_with(&["--process-label", &other], &["sh", "-c", look]).ok();
    assert_eq!(named.stdout.replace('\0', ""), format!("{other}\n0\n"));
    bundle.exec_with(&["--process-label", "no:such:label"], &["true"]).fails();
    bundle.finish_off();
    bundle.edit(|spec| spec["process"]["selinuxLabel"] = json!("no:such:label"));
    bundle.create().fails_saying("process.selinuxLabel");
    bundle.assert_gone();
}

#[test]
fn selinux_labels_the_mounts_that_can_be_labelled() {
    require!(is_root(), "root of the host");
    require!(selinux(), "SELinux");
    let mut bundle = Bundle::new();
    bundle.edit(|spec| spec["linux"]["mountLabel"] = json!(MOUNT_LABEL)).up();
    let init = bundle.pid();
    let mounts = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
    let label = format!("context=\"{MOUNT_LABEL}\"");
    for (place, labelled) in [("/dev", true), ("/dev/shm", true), ("/dev/pts", true), ("/proc", false), ("/sys", false)]
    {
        let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(place)).unwrap();
        assert_eq!(line.replace("\\040", " ").contains(&label), labelled, "{line}");
    }
    let mut text = [0_u8; 256];
    let mqueue = format!("/proc/{init}/root/dev/mqueue");
    let length = rustix::fs::getxattr(mqueue, "security.selinux", &mut text).unwrap();
    assert_eq!(String::from_utf8_lossy(&text[..length]).trim_end_matches('\0'), MOUNT_LABEL);
    bundle.finish_off();
    // crun's annotation: only the root of a new filesystem has the label, or the filesystem and not its files.
    require!(flavour() != "runc", "a reader of crun's annotations");
    for kind in ["rootcontext", "fscontext"] {
        bundle.edit(|spec| spec["annotations"]["run.oci.mount_context_type"] = json!(kind)).up();
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", bundle.pid())).unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/dev/shm")).unwrap();
        assert!(line.contains(&format!("{kind}=\"{MOUNT_LABEL}\"")), "{line}");
        bundle.finish_off();
    }
}
