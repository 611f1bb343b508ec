//! The shape of system calls: what lies in the bundle is the image's and the volumes', and a path that is resolved there
//! may lead anywhere. So every call that takes a path either resolves it beneath a handle in a way that cannot lead out, or
//! names something of the host's. All calls of create, start, exec, kill and delete are looked at (security.md 0.3, "lint").

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::require;
use crate::support::{Bundle, is_orlop, is_root, wait_until};

/// Why a path may be resolved in the way it is.
struct Rule {
    /// What holds for the place, and why that is safe: printed with an offence.
    name: &'static str,
    why: &'static str,
    fits: fn(&Place<'_>) -> bool,
}

/// One path in one call.
struct Place<'a> {
    call: &'a Call,
    /// Where it starts: the path behind the handle; `None` is the working directory.
    from: Option<&'a str>,
    path: &'a str,
    /// Where the bundle is on the host.
    bundle: &'a str,
    /// Whether the process is in the container's root, so that no path leads out of that.
    inside: bool,
}

const RULES: &[Rule] = &[
    Rule {
        name: "a handle alone",
        why: "with an empty path nothing is resolved",
        fits: |place| place.path.is_empty() || place.path == ".",
    },
    Rule {
        name: "beneath a handle",
        why: "openat2(2) follows nothing out of the handle, and no magic link",
        fits: |place| {
            let has = |flag| place.call.text.contains(flag);
            place.call.name == "openat2"
                && place.from.is_some()
                && has("RESOLVE_NO_MAGICLINKS")
                && (has("RESOLVE_BENEATH") || has("RESOLVE_IN_ROOT"))
        },
    },
    Rule {
        name: "one name, not followed",
        why: "there is no way to go astray on; the calls that make and remove never follow the last name",
        fits: |place| {
            const NEVER_FOLLOW: [&str; 7] =
                ["mkdirat", "mknodat", "symlinkat", "unlinkat", "readlinkat", "renameat", "renameat2"];
            let has = |flag| place.call.text.contains(flag);
            let one = !place.path.contains('/') && place.path != "..";
            let still = NEVER_FOLLOW.contains(&place.call.name.as_str())
                || has("O_NOFOLLOW")
                || has("AT_SYMLINK_NOFOLLOW")
                || has("RESOLVE_NO_SYMLINKS");
            place.from.is_some() && one && still
        },
    },
    Rule {
        name: "outside of the bundle",
        why: "nobody but the host's root makes anything there",
        fits: |place| !place.inside && !place.full().starts_with(place.bundle) && place.from != Some("/"),
    },
    Rule {
        name: "the way to the bundle",
        why: "the caller names the bundle; its path is made free of links before it is used",
        fits: |place| {
            let looks = matches!(place.call.name.as_str(), "readlink" | "readlinkat" | "statx");
            !place.inside && (looks || place.full() == Path::new(place.bundle))
        },
    },
    Rule {
        name: "the root itself",
        why: "its name lies in the bundle, which is the caller's, and the last name is not followed",
        fits: |place| {
            let root = place.full() == Path::new(place.bundle).join("rootfs");
            !place.inside && root && place.call.text.contains("O_NOFOLLOW")
        },
    },
    Rule {
        name: "the sealed executable",
        why: "it lies in a mount of our own that nobody else sees, over a directory of the host",
        fits: |place| !place.inside && place.call.name == "execveat",
    },
    Rule {
        name: "the config",
        why: "it is the caller's",
        fits: |place| !place.inside && place.full() == Path::new(place.bundle).join("config.json"),
    },
    Rule {
        name: "the program, in the container's root",
        why: "that the image may lead anywhere in its own root is meant; magic links that lead out would be /proc's",
        fits: |place| {
            const LOOK: [&str; 6] = ["execve", "access", "faccessat", "faccessat2", "stat", "newfstatat"];
            place.inside && LOOK.contains(&place.call.name.as_str()) && !place.path.starts_with("/proc/")
        },
    },
    Rule {
        name: "the working directory, in the container's root",
        why: "where that leads is looked at afterwards: what getcwd(2) says must begin with / (CVE-2024-21626)",
        fits: |place| place.inside && place.call.name == "chdir",
    },
    Rule {
        name: "a file of the image, in the container's root",
        why: "without magic links no path leads out of the root that the process is in",
        fits: |place| place.inside && place.call.name == "openat2" && place.call.text.contains("RESOLVE_NO_MAGICLINKS"),
    },
];

impl Place<'_> {
    /// The place on the host, as far as the text tells.
    fn full(&self) -> PathBuf {
        Path::new(self.from.unwrap_or("/relative to the working directory")).join(self.path)
    }
}

/// A line of strace's.
struct Call {
    name: String,
    text: String,
}

/// Which arguments of a call are a handle with a path, or a path alone (`None`).
fn places(name: &str) -> Option<&'static [(Option<usize>, usize)]> {
    Some(match name {
        "open" | "creat" | "stat" | "lstat" | "access" | "chdir" | "chroot" | "mkdir" | "rmdir" | "unlink"
        | "readlink" | "chmod" | "chown" | "lchown" | "truncate" | "mknod" | "statfs" | "umount2" | "execve"
        | "utime" | "setxattr" | "lsetxattr" | "getxattr" | "lgetxattr" | "removexattr" => &[(None, 0)],
        "rename" | "link" | "pivot_root" => &[(None, 0), (None, 1)],
        "symlink" => &[(None, 1)],
        "mount" => &[(None, 0), (None, 1)],
        "openat" | "openat2" | "mkdirat" | "mknodat" | "unlinkat" | "readlinkat" | "newfstatat" | "statx"
        | "fchmodat" | "fchmodat2" | "fchownat" | "faccessat" | "faccessat2" | "utimensat" | "open_tree"
        | "mount_setattr" | "execveat" | "fspick" | "name_to_handle_at" | "futimesat" => &[(Some(0), 1)],
        "symlinkat" => &[(Some(1), 2)],
        "renameat" | "renameat2" | "linkat" | "move_mount" => &[(Some(0), 1), (Some(2), 3)],
        "inotify_add_watch" | "fanotify_mark" => &[(None, 1)],
        "getcwd" => &[],
        _ => return None,
    })
}

/// The arguments, parted at the commas outside of quotes and brackets.
fn arguments(text: &str) -> Vec<String> {
    let inner = text.split_once('(').map_or("", |(_, rest)| rest);
    let (mut parts, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0_i32, false, false);
    for letter in inner.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => break,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(letter);
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// The path behind a handle as strace shows it: `7</tmp/x>`; `None` for the working directory.
fn behind(handle: &str) -> Option<&str> {
    if handle.starts_with("AT_FDCWD") {
        return None;
    }
    handle.split_once('<').map(|(_, rest)| rest.trim_end_matches('>')).or(Some("?"))
}

/// What no rule allows.
fn offences(call: &Call, bundle: &str, inside: bool) -> Vec<String> {
    let parts = arguments(&call.text);
    let mut found = Vec::new();
    for (handle, path) in places(&call.name).unwrap_or_default() {
        let Some(path) = parts.get(*path).and_then(|path| path.strip_prefix('"')?.strip_suffix('"')) else { continue };
        // An absolute path starts at the root, whatever the handle is.
        let from = handle.and_then(|handle| behind(parts.get(handle)?)).filter(|_| !path.starts_with('/'));
        let place = Place { call, from, path, bundle, inside };
        if !RULES.iter().any(|rule| (rule.fits)(&place)) {
            found.push(call.text.clone());
        }
    }
    if places(&call.name).is_none() && call.text.contains("(\"/") {
        found.push(format!("a call that this test does not know: {}", call.text));
    }
    found
}

/// All offences of one process, and how many paths were looked at.
fn judge(trace: &str, bundle: &str) -> (Vec<String>, usize) {
    let (mut inside, mut found, mut count) = (false, Vec::new(), 0);
    for line in trace.lines().filter(|line| !line.starts_with(['-', '+'])) {
        let Some((name, _)) = line.split_once('(') else { continue };
        let call = Call { name: name.to_owned(), text: line.to_owned() };
        count += places(name).map_or(0, <[_]>::len);
        found.extend(offences(&call, bundle, inside));
        let done = line.ends_with("= 0");
        // setns with a mount namespace moves the root as well.
        inside |= done && (matches!(name, "pivot_root" | "chroot") || name == "setns" && line.contains("CLONE_NEWNS"));
        if name == "execve" && done && inside {
            // From here on it is the program.
            break;
        }
    }
    (found, count)
}

/// strace around a command; a file for each process, so that no line is cut in two.
fn traced(bundle: &Bundle, name: &str, args: &[String]) -> Command {
    let inner = bundle.command(args);
    let mut command = Command::new("strace");
    command.args([
        "-ff",
        "-y",
        "-qq",
        "-s",
        "4096",
        "-e",
        "trace=%file,pivot_root,chroot,setns,mount,open_tree,\
        move_mount,mount_setattr,fspick,openat2,?fchmodat2,clone3,clone",
    ]);
    command.arg("-o").arg(bundle.scratch(&format!("traces/{name}")));
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

/// A bundle in which everything that resolves a path has to.
fn everything() -> Bundle {
    let mut bundle = Bundle::new();
    let source = bundle.scratch("volume");
    std::fs::create_dir_all(source.join("below")).unwrap();
    let file = bundle.file("file", "x");
    std::os::unix::fs::symlink("mnt", bundle.rootfs("led")).unwrap();
    let bind = |to: &str, from: &Path, options: serde_json::Value| json!({"destination": to, "type": "bind", "source": from, "options": options});
    bundle
        .writable()
        .mount(bind("/mnt/new/dir", &source, json!(["rbind", "ro"])))
        .mount(bind("/led/link/file", &file, json!(["bind"])))
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]}))
        .args(&["sleep", "1000"]);
    bundle.edit(|spec| {
        spec["process"]["cwd"] = json!("/home/new/cwd");
        spec["root"]["readonly"] = json!(true);
        spec["linux"]["maskedPaths"] = json!(["/proc/keys", "/sys/firmware", "/etc/passwd", "/led/link/file"]);
        spec["linux"]["readonlyPaths"] = json!(["/proc/sys", "/mnt/new"]);
        spec["linux"]["devices"] = json!([{"path": "/dev/deep/null", "type": "c", "major": 1, "minor": 3}]);
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    bundle
}

/// Traces a container's whole life. Answers with what each process did, by command.
fn life(bundle: &Bundle) -> Vec<(String, String)> {
    std::fs::create_dir_all(bundle.scratch("traces")).unwrap();
    // What cannot be made cannot be traced.
    bundle.create().ok();
    bundle.delete_force().ok();
    let id = bundle.id().to_owned();
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    // strace stays with init, which outlives `create`.
    let create = bundle.spawn(traced(bundle, "create", &bundle.with_bundle(&["create"])));

    let state = || bundle.call(&["state", &id]);
    wait_until("the container is created", || state().stdout.contains("\"created\""));
    for (name, args) in [
        ("start", words(&["start", &id])),
        ("exec", words(&["exec", "--cwd", "/mnt/new", &id, "true"])),
        ("kill", words(&["kill", &id, "KILL"])),
    ] {
        bundle.finish(traced(bundle, name, &args)).ok();
    }
    create.wait();
    bundle.finish(traced(bundle, "delete", &words(&["delete", &id]))).ok();
    let mut traces: Vec<_> = std::fs::read_dir(bundle.scratch("traces"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    traces.sort();
    traces
}

#[test]
fn no_path_of_the_image_is_resolved_but_beneath_a_handle() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "a runtime whose calls all have a shape");
    require!(Command::new("strace").arg("-V").output().is_ok(), "strace");
    let mut sandbox = Bundle::new();
    sandbox.up();
    let shared = format!("/proc/{}/ns/pid", sandbox.pid());
    for variant in ["plain", "the image's own /dev", "a user namespace", "a joined pid namespace", "no mount namespace"]
    {
        let mut bundle = everything();
        match variant {
            "the image's own /dev" => {
                for place in ["/dev/shm", "/dev/pts", "/dev/mqueue", "/dev"] {
                    bundle.no_mount(place);
                }
                bundle.edit(|spec| spec["linux"]["maskedPaths"] = json!([]));
            }
            "a user namespace" => {
                // Devices are the host's there, and the host has no such one.
                bundle.user_namespace(100_000).edit(|spec| spec["linux"]["devices"] = json!([]));
            }
            "a joined pid namespace" => {
                bundle.no_namespace("pid").namespace(json!({"type": "pid", "path": shared}));
            }
            "no mount namespace" => {
                bundle.no_namespace("mount").edit(|spec| {
                    spec["linux"]["maskedPaths"] = json!([]);
                    spec["linux"]["readonlyPaths"] = json!([]);
                    spec["root"]["readonly"] = json!(false);
                    spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/tmp");
                });
            }
            _ => {}
        }
        let (mut all, mut count) = (Vec::new(), 0);
        for (name, trace) in life(&bundle) {
            let (found, looked_at) = judge(&trace, bundle.path().to_str().unwrap());
            count += looked_at;
            all.extend(found.into_iter().map(|line| format!("{name}: {line}")));
        }
        assert!(count > 200, "{variant}: {count} paths: strace saw too little");
        let rules: Vec<_> = RULES.iter().map(|rule| format!("{}: {}", rule.name, rule.why)).collect();
        assert!(all.is_empty(), "{variant}: no rule allows:\n{}\nThe rules:\n{}", all.join("\n"), rules.join("\n"));
        println!("{variant}: {count} paths");
    }
    sandbox.finish_off();
}

/// The rules can refuse: shapes from the history of runtimes, and of ours with a flag taken out.
#[test]
fn bad_shapes_are_refused() {
    const BUNDLE: &str = "/b";
    let bad = [
        (false, r#"openat(AT_FDCWD</>, "/b/rootfs/dev/null", O_RDWR|O_CLOEXEC) = 5"#),
        (false, r#"openat(7</b/rootfs>, "dev/null", O_RDWR|O_NOFOLLOW|O_CLOEXEC) = 5"#),
        (false, r#"openat(7</b/rootfs/dev>, "null", O_RDWR|O_CLOEXEC) = 5"#),
        (false, r#"openat(7</>, "null", O_PATH|O_CLOEXEC) = 5"#),
        (false, r#"openat(7</>, "..", O_PATH|O_NOFOLLOW|O_CLOEXEC) = 5"#),
        (false, r#"openat2(7</b/rootfs>, "dev/null", {flags=O_PATH, resolve=RESOLVE_NO_MAGICLINKS}, 24) = 5"#),
        (false, r#"openat2(7</b/rootfs>, "dev/null", {flags=O_PATH, resolve=RESOLVE_IN_ROOT}, 24) = 5"#),
        (false, r#"mkdir("/b/rootfs/mnt", 0755) = 0"#),
        (false, r#"mkdirat(7</b/rootfs>, "mnt/new", 0755) = 0"#),
        (false, r#"mount("tmpfs", "/b/rootfs/mnt", "tmpfs", 0, NULL) = 0"#),
        (false, r#"mount("/b/volume", "/proc/self/fd/7", NULL, MS_BIND, NULL) = 0"#),
        (false, r#"umount2("/b/rootfs/mnt", MNT_DETACH) = 0"#),
        (false, r#"symlinkat("/proc/self/fd", 7</b/rootfs>, "dev/fd") = 0"#),
        (false, r#"fchmodat(7</b/rootfs/dev>, "null", 0666) = 0"#),
        (false, r#"fchownat(7</b/rootfs/dev>, "null", 0, 0, 0) = 0"#),
        (false, r#"unlink("/b/rootfs/dev/ptmx") = 0"#),
        (false, r#"renameat(7</b/rootfs>, "a", 7</b/rootfs>, "x/b") = 0"#),
        (false, r#"move_mount(7</>, "", 8</b/rootfs>, "proc/x", 0) = 0"#),
        (false, r#"open_tree(7</b/rootfs>, "dev/null", OPEN_TREE_CLONE) = 0"#),
        (false, r#"newfstatat(7</b/rootfs/dev>, "null", {}, 0) = 0"#),
        (false, r#"quotactl_of_the_future("/b/rootfs/x") = 0"#),
        (true, r#"openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 5"#),
        (true, r#"openat(AT_FDCWD</>, "/proc/self/fd/7", O_RDONLY|O_CLOEXEC) = 5"#),
        (true, r#"openat2(AT_FDCWD</>, "/etc/passwd", {flags=O_RDONLY, resolve=0}, 24) = 5"#),
        (true, r#"mount("none", "/proc/self/fd/7", NULL, MS_REMOUNT, NULL) = 0"#),
        (true, r#"mkdir("/home/new", 0755) = 0"#),
    ];
    for (inside, text) in bad {
        let call = Call { name: text.split_once('(').unwrap().0.to_owned(), text: text.to_owned() };
        assert!(!offences(&call, BUNDLE, inside).is_empty(), "no rule refuses {text}");
    }
}
