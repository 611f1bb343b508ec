//! A tree beside the bundle that no runtime may touch, and what betrays that it did (security.md 0.3).

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// One object: everything that an unwanted touch would change. The change time betrays chown and chmod.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    mode: String,
    owner: (u32, u32),
    inode: u64,
    device: u64,
    changed: (i64, i64),
    content: String,
}

/// The tree, and how it was when it was made.
pub struct Canary {
    root: PathBuf,
    before: BTreeMap<PathBuf, Facts>,
}

impl Canary {
    /// Plants the tree: files with the names that runtimes touch, an odd owner, a directory.
    pub fn plant(root: PathBuf) -> Canary {
        std::fs::create_dir_all(root.join("dir")).unwrap();
        for name in
            ["ptmx", "null", "console", "core", "fd", "stdin", "stdout", "stderr", "passwd", "target", "dir/secret"]
        {
            let path = root.join(name);
            std::fs::write(&path, "canary\n").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            if super::is_root() {
                chown(&path, Some(12345), Some(54321)).unwrap();
            }
        }
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
        let before = snapshot(&root);
        Canary { root, before }
    }

    /// Where it stands on the host.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What was created, removed, written, chowned or chmodded since.
    pub fn touched(&self) -> Vec<String> {
        let now = snapshot(&self.root);
        let paths: std::collections::BTreeSet<_> = self.before.keys().chain(now.keys()).collect();
        let differs = |path: &&&PathBuf| self.before.get(**path) != now.get(**path);
        let shown =
            |path: &PathBuf| format!("{}: was {:?}, is {:?}", path.display(), self.before.get(path), now.get(path));
        paths.iter().filter(differs).map(|path| shown(path)).collect()
    }
}

fn snapshot(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            kind if kind.is_file() => std::fs::read(&path).unwrap(),
            kind if kind.is_dir() => {
                todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Vec::new()
            }
            _ => Vec::new(),
        };
        let facts = Facts {
            mode: format!("{:o}", meta.mode()),
            owner: (meta.uid(), meta.gid()),
            inode: meta.ino(),
            device: meta.rdev(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            content: String::from_utf8_lossy(&content).into_owned(),
        };
        found.insert(path, facts);
    }
    found
}
