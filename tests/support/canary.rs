//! A tree beside the bundle that no runtime may touch, and what betrays that it did (security.md 0.3).

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// One object: everything that an unwanted touch would change. The change time betrays chown and chmod.
type Facts = (u32, u32, u32, u64, u64, i64, i64, Vec<u8>);

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
        let before = snapshot(&root);
        Canary { root, before }
    }

    /// Where it stands on the host.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Nothing was created, removed, written, chowned or chmodded.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let now = snapshot(&self.root);
        for (path, facts) in &now {
            assert_eq!(self.before.get(path), Some(facts), "the runtime touched {}", path.display());
        }
        assert_eq!(now.len(), self.before.len(), "the runtime removed something from {}", self.root.display());
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
        let facts =
            (meta.mode(), meta.uid(), meta.gid(), meta.ino(), meta.rdev(), meta.ctime(), meta.ctime_nsec(), content);
        found.insert(path, facts);
    }
    found
}
