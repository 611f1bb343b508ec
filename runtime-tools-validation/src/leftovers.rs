//! What a program leaves behind when it, or the runtime, fails half way: containers, cgroups, mounts, directories.
//!
//! Only what is certainly this program's is removed. A container is, if its bundle lies in the program's scratch
//! directory. A mount is, if it lies there. A cgroup is, if it has one of the suite's fixed names and was not there
//! before the program began; no other run of ours is on, the lock in `main` sees to that.

use crate::program;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first components of the suite's two cgroup paths, `/cgrouptest` and `testdir/cgrouptest/container`.
const CGROUP_NAMES: [&str; 2] = ["cgrouptest", "testdir"];

/// What was there before a program began.
pub struct Leftovers {
    cgroups: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks before the program begins.
    pub fn look() -> Leftovers {
        Leftovers { cgroups: suite_cgroups() }
    }

    /// Removes what the program left, and says what it was.
    pub fn sweep(&self, program: &str, runtime: &Path, scratch: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        match containers(runtime, scratch) {
            Ok(ids) => {
                for id in ids {
                    let removed = quiet(Command::new(runtime).args(["delete", "--force", &id]));
                    notes.push(format!("container {id}{}", if removed { "" } else { ", which cannot be deleted" }));
                }
            }
            Err(why) => notes.push(why),
        }
        for cgroup in suite_cgroups() {
            if self.cgroups.contains(&cgroup) {
                notes.push(format!("cgroup {} was there before; left alone", cgroup.display()));
                continue;
            }
            let held = processes(&cgroup);
            held.iter().for_each(|pid| program::kill(pid));
            match remove_cgroup(&cgroup) {
                // An empty parent directory is no fault: the specification asks a runtime to remove the container's
                // own cgroup only.
                Ok(()) if held.is_empty() => {}
                Ok(()) => notes.push(format!("cgroup {} with {} processes", cgroup.display(), held.len())),
                Err(e) => notes.push(format!("cgroup {}, which cannot be removed: {e}", cgroup.display())),
            }
        }
        // The suite makes its bundles in `tmp` and removes them again.
        let bundles = fs::read_dir(scratch.join("tmp")).map_or(0, |entries| entries.count());
        if bundles > 0 {
            notes.push(format!("bundles: {bundles}"));
        }
        // Later mounts first: they may lie on earlier ones.
        let mounts = mounts_beneath(scratch);
        for mount in mounts.iter().rev() {
            quiet(Command::new("umount").arg("--lazy").arg("--").arg(mount));
        }
        if !mounts.is_empty() {
            notes.push(format!("mounts: {}", mounts.len()));
        }
        if let Err(why) = remove_tree(scratch) {
            notes.push(format!("{}, which cannot be removed: {why}", scratch.display()));
        }
        notes.into_iter().map(|note| format!("{program}: {note}")).collect()
    }
}

/// The ids of the runtime's containers whose bundle lies in `scratch`.
fn containers(runtime: &Path, scratch: &Path) -> Result<Vec<String>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("cannot see which containers are left: list --format json: {e}");
    let output = Command::new(runtime)
        .args(["list", "--format", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| wrong(&e))?;
    if !output.status.success() {
        return Err(wrong(&output.status));
    }
    // An empty list is `null` with runc, and nothing at all with others.
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let list: Value = serde_json::from_slice(&output.stdout).map_err(|e| wrong(&e))?;
    let ours = |container: &&Value| {
        container.get("bundle").and_then(Value::as_str).is_some_and(|bundle| Path::new(bundle).starts_with(scratch))
    };
    let id = |container: &Value| container.get("id").and_then(Value::as_str).map(str::to_owned);
    Ok(list.as_array().into_iter().flatten().filter(ours).filter_map(id).collect())
}

/// Every cgroup that exists under one of the suite's names, at the top of a hierarchy or below our own cgroup in it: a
/// runtime may take a relative path either way.
fn suite_cgroups() -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own: Vec<&str> = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let mut found = Vec::new();
    for hierarchy in mounts().into_iter().filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2") {
        for below in own.iter().map(|own| own.trim_start_matches('/')).chain([""]) {
            for name in CGROUP_NAMES {
                let cgroup = hierarchy.point.join(below).join(name);
                if cgroup.is_dir() && !found.contains(&cgroup) {
                    found.push(cgroup);
                }
            }
        }
    }
    found
}

/// The processes in a cgroup and below it.
fn processes(cgroup: &Path) -> Vec<String> {
    let own = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let below = subdirectories(cgroup).unwrap_or_default();
    own.lines().map(str::to_owned).chain(below.iter().flat_map(|dir| processes(dir))).collect()
}

/// The files in a cgroup cannot be unlinked; removing the directories, the lowest first, is all it takes.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    for dir in subdirectories(cgroup)? {
        remove_cgroup(&dir)?;
    }
    // A killed process leaves its cgroup a moment later.
    let mut last = Ok(());
    for _ in 0..50 {
        last = fs::remove_dir(cgroup);
        match &last {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            _ => break,
        }
    }
    last
}

fn subdirectories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a directory and what is in it, but never goes into another file system. A runtime that was told to make no
/// mount namespace mounts `/proc` and `/sys` below the bundle on the host, and those are not to be emptied.
fn remove_tree(dir: &Path) -> Result<(), String> {
    if let Some(mount) = mounts_beneath(dir).first() {
        return Err(format!("{} is still mounted", mount.display()));
    }
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev());
    fn walk(dir: &Path, home: u64, device: &dyn Fn(&Path) -> io::Result<u64>) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                fs::remove_file(&path)?;
            } else if device(&path)? == home {
                walk(&path, home, device)?;
            }
        }
        fs::remove_dir(dir)
    }
    device(dir).and_then(|home| walk(dir, home, &device)).map_err(|e| e.to_string())
}

/// A line of mountinfo, the two fields we need.
struct Mount {
    point: PathBuf,
    kind: String,
}

fn mounts() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let read = |line: &str| {
        let point = unescape(line.split(' ').nth(4)?);
        let kind = line.split_once(" - ")?.1.split(' ').next()?.to_owned();
        Some(Mount { point: PathBuf::from(point), kind })
    };
    table.lines().filter_map(read).collect()
}

fn mounts_beneath(dir: &Path) -> Vec<PathBuf> {
    mounts().into_iter().map(|mount| mount.point).filter(|point| point.starts_with(dir)).collect()
}

/// The kernel writes a space, tab, newline or backslash in a path as a backslash and three octal digits.
fn unescape(field: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Runs a command for its exit status only.
fn quiet(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        assert_eq!(unescape(r"/a\040b\134c"), OsStr::new(r"/a b\c"));
        assert_eq!(unescape(r"/a\04"), OsStr::new(r"/a\04"));
    }
}
