//! `docs/cve.md` held to the tests: what it names exists, each test has its row, its sums are right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a test was seen to fail, as the last table says it.
const PLACES: [&str; 3] = ["runc", "crun", "undone"];

/// A row of the last table.
struct Row {
    recipe: String,
    test: String,
    seen: String,
}

impl Row {
    /// The places at the beginning of the cell: `runc, crun; undone: links are followed`.
    fn places(&self) -> BTreeSet<&'static str> {
        let words: BTreeSet<&str> = self.seen.split([',', ';', ':', ' ']).collect();
        PLACES.into_iter().filter(|place| words.contains(place)).collect()
    }

    fn is_to_come(&self) -> bool {
        self.test == "to come"
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(repository().join("docs/cve.md")).unwrap()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect()
}

fn rows(document: &str) -> Vec<Row> {
    let (_, table) = document.split_once("\n## The tests\n").expect("a section named The tests");
    let body = table.lines().filter(|line| line.starts_with("| T"));
    let row = |line: &str| match cells(line).as_slice() {
        [recipe, test, seen] => Row {
            recipe: (*recipe).to_owned(),
            test: (*test).to_owned(),
            seen: seen.trim_matches('|').trim().to_owned(),
        },
        other => panic!("not three cells: {other:?}"),
    };
    body.filter(|line| !line.starts_with("| T |")).map(row).collect()
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut todo = vec![repository().join(below)];
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// Names of this binary's tests of recipes.
fn written() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, text) in sources("tests/security") {
        let functions = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn t")?.split_once("()"));
        found.extend(
            functions
                .map(|(name, _)| format!("t{name}"))
                .filter(|name| name.as_bytes().get(1..3).is_some_and(|number| number.iter().all(u8::is_ascii_digit))),
        );
    }
    found
}

/// Whether a test of that name is somewhere: `words` here, `topic::words` in the suite, `module::tests::words` in `src`.
fn exists(name: &str, here: &BTreeSet<String>) -> bool {
    let Some((path, function)) = name.rsplit_once("::") else { return here.contains(name) };
    let file = format!("{}.rs", path.split("::").next().unwrap_or(path));
    let wanted = format!("fn {function}(");
    let inside = |below: &str| {
        sources(below).iter().any(|(path, text)| {
            let named = path.ends_with(&file)
                || path.iter().any(|part| Some(part.to_string_lossy().as_ref()) == file.strip_suffix(".rs"));
            named && text.contains(&wanted)
        })
    };
    inside("tests") || inside("src") || inside("specconv")
}

#[test]
fn what_is_named_exists_and_each_test_has_its_row() {
    let (document, here) = (document(), written());
    assert!(here.len() > 20, "looked in the wrong place");
    let rows = rows(&document);
    let missing: Vec<_> =
        rows.iter().filter(|row| !row.is_to_come() && !exists(&row.test, &here)).map(|row| &row.test).collect();
    assert!(missing.is_empty(), "docs/cve.md names tests that are not there: {missing:#?}");
    let unlisted: Vec<_> = here.iter().filter(|name| !rows.iter().any(|row| row.test == **name)).collect();
    assert!(unlisted.is_empty(), "tests without a row in docs/cve.md: {unlisted:#?}");
    for row in &rows {
        let number = row.recipe.to_lowercase();
        let ours = row.test.starts_with('t') && !row.test.contains("::") && !row.is_to_come();
        assert!(!ours || row.test.starts_with(&number), "{} is not of {}", row.test, row.recipe);
    }
}

/// Rows of the tables of holes have five cells; the files that they name are there.
#[test]
fn defences_are_where_the_table_says() {
    let document = document();
    for path in document.split('`').filter(|word| word.starts_with("src/") || word.starts_with("specconv/")) {
        assert!(repository().join(path).exists(), "docs/cve.md names {path}");
    }
    for path in document.split('`').filter(|word| word.starts_with("tests/")) {
        assert!(repository().join(path).exists(), "docs/cve.md names {path}");
    }
}

/// What a peer fails is in `tests/expected_differences.toml` as well, where `cargo peers` holds it to the truth.
#[test]
fn what_was_seen_red_on_a_peer_is_expected_there() {
    #[derive(serde::Deserialize)]
    struct Difference {
        test: String,
        runtime: String,
    }
    #[derive(serde::Deserialize)]
    struct Differences {
        difference: Vec<Difference>,
    }
    let table: Differences = toml::from_str(include_str!("../expected_differences.toml")).unwrap();
    let mut wrong = Vec::new();
    for row in rows(&document()) {
        let ends = |test: &str| test == row.test || test.ends_with(&format!("::{}", row.test));
        for peer in ["runc", "crun"] {
            let listed = table.difference.iter().any(|other| other.runtime == peer && ends(&other.test));
            let seen = row.places().contains(peer);
            // A test of the suite may fail there for a reason that is no hole.
            let of_the_suite = row.test.contains("::");
            if (seen && !listed) || (listed && !seen && !of_the_suite) {
                wrong.push(format!("{} on {peer}: listed there: {listed}", row.test));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/cve.md and tests/expected_differences.toml differ: {wrong:#?}");
}

/// The head's numbers and the last column of the tables of holes are sums of the last table.
#[test]
fn the_sums_are_right() {
    let document = document();
    let wanted = with_sums(&document);
    if std::env::var_os("ORLOP_BLESS").is_some() {
        // At once, for the other tests are reading it.
        let fresh = repository().join("docs/cve.md.new");
        std::fs::write(&fresh, wanted).unwrap();
        std::fs::rename(fresh, repository().join("docs/cve.md")).unwrap();
    } else {
        assert!(
            document == wanted,
            "the sums of docs/cve.md are old: ORLOP_BLESS=1 cargo test --test security register"
        );
    }
}

fn with_sums(document: &str) -> String {
    let rows = rows(document);
    let mut places: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &rows {
        places.entry(&row.recipe).or_default().extend(row.places());
    }
    let tests: BTreeSet<&str> = rows.iter().filter(|row| !row.is_to_come()).map(|row| row.test.as_str()).collect();
    let red: BTreeSet<&str> = rows.iter().filter(|row| !row.places().is_empty()).map(|row| row.test.as_str()).collect();
    let open: Vec<&str> = rows.iter().filter(|row| row.is_to_come()).map(|row| row.recipe.as_str()).collect();
    let still = if open.is_empty() { String::new() } else { format!(" Still to come: {}.", open.join(", ")) };
    let (before, rest) = document.split_once("\n\n").unwrap();
    let (_, rest) = rest.split_once("\n\n").unwrap();
    let head = format!("**{} tests; {} of them were seen red elsewhere.**{still}", tests.len(), red.len());
    let (holes, last) = rest.split_once("\n## The tests\n").unwrap();
    let line = |line: &str| -> String {
        let columns = cells(line);
        if !line.starts_with("| ") || columns.len() < 4 || columns[0] == "id" {
            return line.to_owned();
        }
        let (front, _) = line.trim_end().trim_end_matches('|').rsplit_once(" | ").unwrap();
        let recipes: Vec<&str> = columns[3].split(", ").filter(|word| word.starts_with('T')).collect();
        let unknown: Vec<_> = recipes.iter().filter(|recipe| !rows.iter().any(|row| row.recipe == **recipe)).collect();
        assert!(unknown.is_empty(), "no test of {unknown:?}, which {} names", columns[0]);
        let seen: BTreeSet<&str> = recipes.iter().filter_map(|recipe| places.get(recipe)).flatten().copied().collect();
        let seen: Vec<&str> = PLACES.into_iter().filter(|place| seen.contains(place)).collect();
        format!("{front} | {} |", if seen.is_empty() { "–".to_owned() } else { seen.join(", ") })
    };
    let holes: Vec<String> = holes.lines().map(line).collect();
    format!("{before}\n\n{head}\n\n{}\n\n## The tests\n{last}", holes.join("\n").trim_end())
}
