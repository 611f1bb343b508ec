//! The built suite on disk: `validation/NAME/NAME.t` for each program, and beside `validation/` the two files that a
//! program expects in its working directory.

use std::path::{Path, PathBuf};

/// The name of the program that the suite runs inside its containers.
pub const RUNTIMETEST: &str = "runtimetest";

/// The suite, with every file it needs known to be there.
pub struct Suite {
    /// The runtime-tools tree.
    pub root: PathBuf,
    /// The programs to run, by name.
    pub programs: Vec<Program>,
    /// The root file system that each program unpacks.
    pub rootfs: PathBuf,
    /// What runs inside the containers.
    pub runtimetest: PathBuf,
}

/// One program of the suite.
pub struct Program {
    /// The name of its directory.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
}

impl Suite {
    /// Looks through `root`. With names in `only`, just those programs.
    pub fn find(root: &Path, only: &[String]) -> Result<Suite, String> {
        let root = root.canonicalize().map_err(|e| format!("--suite {}: {e}", root.display()))?;
        let rootfs = there(root.join(rootfs_name()))?;
        let runtimetest = there(root.join(RUNTIMETEST))?;
        let validation = root.join("validation");
        let reading = |e| format!("cannot read {}: {e}", validation.display());
        let mut programs = Vec::new();
        for entry in std::fs::read_dir(&validation).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            // A name that is not UTF-8 is not one of the suite's.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path().join(format!("{name}.t"));
            if path.is_file() && (only.is_empty() || only.contains(&name)) {
                programs.push(Program { name, path });
            }
        }
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(missing) = only.iter().find(|name| !programs.iter().any(|p| p.name == **name)) {
            return Err(format!("--only {missing}: no such program in {}", validation.display()));
        }
        if programs.is_empty() {
            return Err(format!("no built program (NAME/NAME.t) in {}", validation.display()));
        }
        Ok(Suite { root, programs, rootfs, runtimetest })
    }
}

/// The runtime as an absolute path. The name itself stays: a runtime may look at what it was called by.
pub fn runtime(given: &Path) -> Result<PathBuf, String> {
    let wrong = |e: std::io::Error| format!("--runtime {}: {e}", given.display());
    if given.components().count() > 1 {
        let path = std::path::absolute(given).map_err(wrong)?;
        return there(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(given))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("--runtime {}: not found in PATH", given.display()))
}

fn there(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_file() { Ok(path) } else { Err(format!("{}: no such file", path.display())) }
}

/// The suite names the tarball by Go's word for the machine.
pub fn rootfs_name() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    };
    format!("rootfs-{arch}.tar.gz")
}
