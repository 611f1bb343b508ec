//! `/proc/PID/mountinfo`, line by line (proc_pid_mountinfo(5)).

/// One mount.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Path within its filesystem that forms the root of the mount.
    pub root: String,
    /// Mount point.
    pub at: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// `shared:1`, `master:2`, `unbindable`.
    pub propagation: Vec<String>,
    pub fstype: String,
    pub source: String,
    /// Options of the superblock.
    pub superblock: Vec<String>,
}

impl Mount {
    /// Whether the mount has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|have| have == option)
    }
}

/// Every line of a mountinfo; lines of other output are passed over.
pub fn parse(text: &str) -> Vec<Mount> {
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let line = |line: &str| -> Option<Mount> {
        let (mount, filesystem) = line.trim_end().split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let filesystem: Vec<&str> = filesystem.split(' ').collect();
        Some(Mount {
            root: (*mount.get(3)?).to_owned(),
            at: (*mount.get(4)?).to_owned(),
            options: words(mount.get(5)?),
            propagation: mount[6..].iter().map(|&word| word.to_owned()).collect(),
            fstype: (*filesystem.first()?).to_owned(),
            source: (*filesystem.get(1)?).to_owned(),
            superblock: words(filesystem.get(2)?),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The topmost mount at this place.
#[track_caller]
pub fn at<'a>(mounts: &'a [Mount], place: &str) -> &'a Mount {
    mounts
        .iter()
        .rev()
        .find(|mount| mount.at == place)
        .unwrap_or_else(|| panic!("nothing mounted at {place}: {mounts:#?}"))
}
