//! The rules of the house, as tests (docs/architecture.md): layers, `unsafe`, module docs, names, sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Who may import whom: only a lower rank, and its own module. `error` is nameable by everyone above `sys`.
const RANKS: &[(u8, &[&str])] = &[
    (1, &["sys"]),
    (2, &["compat", "error"]),
    (
        3,
        &[
            "rootfs",
            "cgroup",
            "namespaces",
            "identity",
            "seccomp",
            "limits",
            "terminal",
            "network",
            "notify",
            "hooks",
            "program",
            "rdt",
            "sysctl",
            "signal",
            "seal",
            "host",
        ],
    ),
    (4, &["plan"]),
    (5, &["launch"]),
    (6, &["container"]),
    (7, &["cli"]),
];

/// What architecture.md 3.3 to 3.5 allow beside the ranks: (who, whom, why).
const EXCEPTIONS: &[(&str, &str, &str)] = &[("sys", "refused", "a macro of sys itself, exported at the crate's root")];

/// Names that say nothing.
const FORBIDDEN_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "misc", "manager", "handler", "impl", "base", "types"];

/// A file longer than this is two files.
const MOST_LINES: usize = 900;

/// One Rust file of the product, without its unit tests.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Top-level module: `src/rootfs/mount.rs` is `rootfs`.
    fn module(&self) -> String {
        let first = self
            .path
            .strip_prefix(repository().join("src"))
            .ok()
            .and_then(|path| path.iter().next().map(PathBuf::from));
        first.map_or(String::new(), |path| path.file_stem().unwrap().to_string_lossy().into_owned())
    }

    /// Whether the file holds nothing but unit tests.
    fn is_test(&self) -> bool {
        let path = self.path.strip_prefix(repository()).unwrap();
        path.ends_with("tests.rs") || path.iter().skip(1).any(|part| part == "tests")
    }

    /// Lines of code with their numbers: without comments, and without the test module at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !self.is_test() && line.trim() != "#[cfg(test)]")
            .map(|(number, line)| (number + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.strip_prefix(repository()).unwrap().display())
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &[&str]) -> Vec<Source> {
    let mut todo: Vec<PathBuf> = below.iter().map(|dir| repository().join(dir)).collect();
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source { path, text });
        }
    }
    assert!(found.len() > 3, "looked in the wrong place: {below:?}");
    found
}

#[track_caller]
fn none(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// Modules named after `crate::` in a line: `use crate::{sys, error::Result}` names two.
fn imported(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        // `$crate::` of a macro, and words that only end in `crate`, are ours to skip.
        if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let word =
            |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(word(&std::mem::take(&mut item))),
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            found.push(word(&item));
        } else {
            found.push(word(rest));
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn nothing_imports_upward_or_sideways() {
    let ranks: BTreeMap<&str, u8> =
        RANKS.iter().flat_map(|(rank, names)| names.iter().map(|name| (*name, *rank))).collect();
    let mut offences = Vec::new();
    for source in sources(&["src"]) {
        let module = source.module();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(&rank) = ranks.get(module.as_str()) else {
            offences.push(format!(
                "{} is a module without a rank: add it to RANKS and to src/lib.rs's table",
                source.place(1)
            ));
            continue;
        };
        // Imports over several lines are joined, so that a list is seen whole.
        let mut statement = String::new();
        for (number, line) in source.code() {
            let continues = statement.starts_with("use ")
                || statement.starts_with("pub use ")
                || statement.starts_with("pub(crate) use ");
            if !continues {
                statement.clear();
            }
            statement.push_str(line.trim());
            let is_use = statement.starts_with("use ")
                || statement.starts_with("pub use ")
                || statement.starts_with("pub(crate) use ");
            if is_use && !statement.ends_with(';') {
                continue;
            }
            for name in imported(&statement) {
                let Some(&other) = ranks.get(name.as_str()) else { continue };
                let allowed = name == module || other < rank || (name == "error" && rank >= 2);
                if !allowed && !EXCEPTIONS.iter().any(|(who, whom, _)| *who == module && *whom == name) {
                    offences.push(format!(
                        "{} ({module}, rank {rank}) imports {name} (rank {other})",
                        source.place(number)
                    ));
                }
            }
            statement.clear();
        }
    }
    none("nothing imports upward, and modules of one rank do not import each other", offences);
}

#[test]
fn unsafe_code_lives_in_sys_and_nowhere_else() {
    let mut offences = Vec::new();
    for source in sources(&["src", "specconv/src", "runtime-tools-validation/src"]) {
        if source.module() == "sys" {
            continue;
        }
        for (number, line) in source.code() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.clone().any(|word| word == "unsafe")
                || (line.contains("unsafe_code") && line.contains("allow") && source.module() != "lib")
            {
                offences.push(source.place(number));
            }
        }
    }
    none("unsafe belongs into src/sys", offences);
}

#[test]
fn every_module_says_what_it_is() {
    let mut offences = Vec::new();
    for source in sources(&["src", "specconv/src", "runtime-tools-validation/src", "tests", "benches"]) {
        let documented = source.text.lines().take(3).any(|line| line.starts_with("//!"));
        if !documented && !source.path.ends_with("tests.rs") {
            offences.push(source.place(1));
        }
    }
    none("a file begins with its module documentation", offences);
}

#[test]
fn modules_have_names_that_say_something() {
    let mut offences = Vec::new();
    for source in sources(&["src", "specconv/src", "runtime-tools-validation/src", "tests", "benches"]) {
        for part in source.path.strip_prefix(repository()).unwrap() {
            let name = Path::new(part).file_stem().unwrap().to_string_lossy();
            if FORBIDDEN_NAMES.contains(&&*name) {
                offences.push(source.place(1));
            }
        }
    }
    none("a module is a noun of the specification or of the kernel", offences);
}

#[test]
fn nothing_panics_on_purpose() {
    let mut offences = Vec::new();
    for source in sources(&["src", "specconv/src", "runtime-tools-validation/src"]) {
        for (number, line) in source.code() {
            for word in [
                ".unwrap()",
                ".expect(\"",
                "panic!(",
                "unreachable!(",
                "todo!(",
                "unimplemented!(",
                "dbg!(",
                "clippy::unwrap_used",
                "clippy::expect_used",
                "clippy::panic",
            ] {
                if line.contains(word) {
                    offences.push(format!("{}: {word}", source.place(number)));
                }
            }
        }
    }
    none("errors travel as values", offences);
}

#[test]
fn files_are_of_a_size_to_be_read() {
    let mut offences = Vec::new();
    for source in sources(&["src", "specconv/src", "runtime-tools-validation/src", "tests", "benches"]) {
        let lines = source.text.lines().count();
        if lines > MOST_LINES && !source.is_test() {
            offences.push(format!("{}: {lines} lines", source.place(1)));
        }
    }
    none(&format!("no file is longer than {MOST_LINES} lines"), offences);
}

/// The header of a file of `src/compat` as a row: what is needed (and since when), what happens instead, what that loses.
fn compat_row(source: &Source) -> Result<String, String> {
    let mut words: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in source.text.lines().map_while(|line| line.strip_prefix("//!")) {
        let word = ["needs", "since", "instead", "loses"]
            .into_iter()
            .find(|word| line.trim().starts_with(&format!("{word} ")));
        match (word, current) {
            (Some(word), _) => {
                words.insert(word, line.trim()[word.len()..].trim().to_owned());
                current = Some(word);
            }
            // A line that is indented goes on with the one above.
            (None, Some(above)) if line.starts_with("   ") => {
                let text = words.entry(above).or_default();
                text.push(' ');
                text.push_str(line.trim());
            }
            _ => break,
        }
    }
    let word =
        |name: &str| words.get(name).cloned().ok_or_else(|| format!("{}: no `//! {name}` line", source.place(1)));
    let since = words.get("since").map_or(String::new(), |since| format!(", {since}"));
    let name = source.path.file_stem().unwrap().to_string_lossy();
    Ok(format!("| `{name}` | {}{since} | {} | {} |", word("needs")?, word("instead")?, word("loses")?))
}

/// `ORLOP_BLESS=1 cargo tidy` writes the table anew.
#[test]
fn kernel_features_are_documented_as_they_are_coded() {
    let path = repository().join("docs/kernel-features.md");
    let mut rows = Vec::new();
    let mut offences = Vec::new();
    for source in sources(&["src"]) {
        if source.module() == "compat" && !source.path.ends_with("mod.rs") && !source.is_test() {
            match compat_row(&source) {
                Ok(row) => rows.push(row),
                Err(offence) => offences.push(offence),
            }
        }
    }
    none("a file of src/compat begins with needs, instead and loses", offences);
    rows.sort();
    let document = std::fs::read_to_string(&path).unwrap_or_default();
    let (head, table) = document.split_once(TABLE_HEAD).unwrap_or((&document, ""));
    let wanted = format!("{}\n", rows.join("\n"));
    if std::env::var_os("ORLOP_BLESS").is_some() {
        std::fs::write(&path, format!("{head}{TABLE_HEAD}{wanted}")).unwrap();
    } else {
        assert_eq!(table, wanted, "docs/kernel-features.md is not the table of src/compat: ORLOP_BLESS=1 cargo tidy");
    }
}

const TABLE_HEAD: &str = "| file | needs | instead | what that loses |\n|---|---|---|---|\n";

/// What no kernel at hand has is listed, and each entry leads to tests that are there.
#[test]
fn what_is_tested_only_as_data_is_listed() {
    #[derive(serde::Deserialize)]
    struct Only {
        what: String,
        tests: Vec<String>,
    }
    #[derive(serde::Deserialize)]
    struct List {
        only: Vec<Only>,
    }
    let list: List = toml::from_str(include_str!("only_as_data.toml")).unwrap();
    let sources = sources(&["src"]);
    let mut offences = Vec::new();
    for Only { what, tests } in list.only {
        for test in tests {
            if !sources.iter().any(|source| source.text.contains(&format!("fn {test}()"))) {
                offences.push(format!("{what}: there is no test {test}"));
            }
        }
    }
    none("tests/only_as_data.toml names tests that are there", offences);
}

#[test]
fn conformance_names_what_is_there() {
    let text = std::fs::read_to_string(repository().join("docs/conformance.md")).unwrap();
    let (tables, _) = text.split_once("\n## Where we read").unwrap();
    let is_name =
        |word: &str| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '0'..='9'));
    let unit = sources(&["src"]);
    let mut offences = Vec::new();
    let mut named = 0;
    for word in tables.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2))
    {
        let there = if let Some((topic, test)) = word.split_once("::") {
            ["suite", "security"].iter().any(|suite| {
                let file = repository().join(format!("tests/{suite}/{topic}.rs"));
                std::fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {test}()")))
            })
        } else if word.ends_with(".rs") || word.ends_with(".toml") {
            ["src", "."].iter().any(|below| repository().join(below).join(word).is_file())
        } else if is_name(word) {
            unit.iter().any(|source| source.text.contains(&format!("fn {word}()")))
        } else {
            continue;
        };
        named += 1;
        if !there {
            offences.push(word.to_owned());
        }
    }
    assert!(named > 100, "the tables have another form now");
    none("docs/conformance.md names files and tests that are there", offences);
}

#[test]
fn the_rules_themselves_can_fail() {
    assert_eq!(imported("use crate::{sys, error::{Error, Result}, plan::Plan};"), ["sys", "error", "plan"]);
    assert_eq!(imported("let x = crate::launch::run(crate::plan::Plan::new());"), ["launch", "plan"]);
    assert!(imported("use specconv::Config;").is_empty());
}
