//! Whatever the bytes, there is an answer: no panic, no endless loop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use specconv::{convert, convert_process, convert_resources};

/// Numbers that look random and are the same in each run (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

fn bundles() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    ["docker-26.1", "podman-5.4-rootless", "order", "nulls"]
        .iter()
        .map(|name| std::fs::read(format!("{folder}/{name}.json")).unwrap())
        .collect()
}

fn all(bytes: &[u8]) {
    let converted = convert(bytes);
    if let Err(invalid) = &converted {
        assert!(!invalid.why.is_empty());
    }
    convert_process(bytes, None).ok();
    convert_resources(bytes).ok();
}

#[test]
fn any_bytes() {
    let mut dice = Dice(0x5eed);
    for bundle in bundles() {
        for _ in 0..60 {
            let mut bytes = bundle.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                match dice.below(4) {
                    0 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
                    1 => bytes.truncate(at.max(1)),
                    2 => drop(bytes.splice(at..at, *b"\\u0000")),
                    _ => drop(bytes.remove(at)),
                }
            }
            all(&bytes);
        }
    }
}

/// Puts one hostile value in the place of each value in turn.
#[test]
fn any_value_anywhere() {
    let hostile = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1.5),
        json!(""),
        json!("\0"),
        json!("/../.."),
        json!("é=\n,\"\\#;@"),
        json!("0-4294967295"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"": ""}),
    ];
    let config: Value = serde_json::from_slice(EVERYTHING.as_bytes()).unwrap();
    assert!(convert(EVERYTHING.as_bytes()).is_ok(), "{:?}", convert(EVERYTHING.as_bytes()));
    let mut places = Vec::new();
    collect(&config, String::new(), &mut places);
    assert!(places.len() > 150, "{}", places.len());
    for place in &places {
        for value in &hostile {
            let mut changed = config.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            let text = changed.to_string();
            convert(text.as_bytes()).ok();
            if let Some(resources) = changed.pointer("/linux/resources") {
                convert_resources(resources.to_string().as_bytes()).ok();
            }
        }
    }
}

fn collect(value: &Value, path: String, places: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(value, format!("{path}/{key}"), places)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect(item, format!("{path}/{index}"), places));
        }
        _ => {}
    }
    places.push(path);
}

#[test]
fn parts_are_read_alone_and_name_the_same_fields() {
    let (process, warnings) =
        convert_process(br#"{"args": ["id"], "cwd": "/", "capabilities": {"bounding": ["CAP_X"]}}"#, None).unwrap();
    assert_eq!(process.args, ["id"]);
    assert_eq!(warnings[0].field, "process.capabilities.bounding[0]");
    let refused = |text: &str| convert_process(text.as_bytes(), None).unwrap_err().field;
    assert_eq!(refused(r#"{"args": ["id"], "cwd": "x"}"#), "process.cwd");
    assert_eq!(refused(r#"{"args": ["id", 5], "cwd": "x"}"#), "process.args[1]");
    assert_eq!(refused(r#"{"args": ["id", "\u0000"], "cwd": "/"}"#), "process.args[1]");
    assert_eq!(refused("{"), "process");

    let resources = convert_resources(br#"{"pids": {"limit": 0}}"#).unwrap();
    assert_eq!(resources.pids, Some(specconv::Limit::Max(0)));
    let refused = |text: &str| convert_resources(text.as_bytes()).unwrap_err().field;
    assert_eq!(refused(r#"{"memory": {"limit": "1"}}"#), "linux.resources.memory.limit");
    assert_eq!(refused(r#"{"memory": {"swap": 1}}"#), "linux.resources.memory.swap");
}

#[test]
fn a_user_of_exec_is_judged_by_the_containers_maps() {
    let config = convert(EVERYTHING.as_bytes()).unwrap().config;
    let mut process = config.process.clone().unwrap();
    assert_eq!(specconv::user_is_mapped(&config, &process), Ok(()));
    process.user.additional_gids = vec![0, 70_000];
    let refused = specconv::user_is_mapped(&config, &process).unwrap_err();
    assert_eq!(refused.field, "process.user.additionalGids[1]");
}

/// Every field of the Linux part of the specification.
const EVERYTHING: &str = include_str!("cases/everything.json");
