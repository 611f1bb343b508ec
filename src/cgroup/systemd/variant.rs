//! Properties of a unit that annotations ask for: `org.systemd.property.TimeoutStopUSec = "uint64 5000000"`.
//!
//! The value is text in GVariant's format (GLib, "GVariant Text Format"), which runc and crun take: booleans, numbers,
//! strings, arrays, and tuples; no dictionaries, which no property of a unit is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::dbus::wire::{Value, first_type};
use super::property::{Origin, Property};
use crate::error::{Error, Result};

/// What such annotations begin with.
const PREFIX: &str = "org.systemd.property.";

/// Properties that say something of the container's own unit and of nothing else. Engines hand annotations of their
/// tenants on (CVE-2024-3154), and others reach far: `PIDs` takes any process of the host into the unit, `Conflicts` and
/// `Requires` stop and start units, `SuccessAction` turns the host off, `DeviceAllow` opens what the config closes.
const HARMLESS: [&str; 17] = [
    "After",
    "Before",
    "CollectMode",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "FinalKillSignal",
    "KillMode",
    "KillSignal",
    "OOMPolicy",
    "RestartKillSignal",
    "RuntimeMaxUSec",
    "RuntimeRandomizedExtraUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "TimeoutStopUSec",
    "WatchdogSignal",
];

/// What the names of limits begin with (systemd.resource-control(5)).
const LIMITS: [&str; 14] = [
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "BlockIO",
    "CPU",
    "DefaultMemory",
    "DefaultStartupMemory",
    "IO",
    "IPAccounting",
    "IPAddressAllow",
    "IPAddressDeny",
    "ManagedOOM",
    "Memory",
    "Startup",
    "TasksMax",
];

fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name) || LIMITS.iter().any(|limit| name.starts_with(limit))
}

/// How deep arrays and tuples may lie in one another.
const DEEPEST: u32 = 8;

/// Letters of a signature (the D-Bus specification, "Valid Signatures").
const LONGEST_SIGNATURE: usize = 255;

/// The properties that annotations ask for. Pure.
///
/// A time in seconds becomes the one in microseconds that D-Bus knows: `TimeoutStopSec` is `TimeoutStopUSec`.
///
/// # Errors
/// A name that no property has, one that reaches beyond the container's own unit, a value that is not in the format.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let ours = annotations.iter().filter_map(|(key, text)| Some((key, key.strip_prefix(PREFIX)?, text)));
    ours.map(|(key, name, text)| {
        let invalid = |why: &str| Error::invalid(format!("annotations[{key:?}]"), why);
        if name.len() < 3 || !name.bytes().all(|letter| letter.is_ascii_alphabetic()) {
            return Err(invalid("the name of a property is made of letters, three at least"));
        }
        let value =
            parse(text).ok_or_else(|| invalid(&format!("{text:?} is not a value in GVariant's text format")))?;
        let seconds =
            name.strip_suffix("Sec").filter(|stem| stem.ends_with(|letter: char| letter.is_ascii_lowercase()));
        let (name, value) = match seconds {
            None => (name.to_owned(), value),
            Some(stem) => {
                let value = microseconds(&value).ok_or_else(|| invalid("is not a number of seconds"))?;
                (format!("{stem}USec"), Value::U64(value))
            }
        };
        if !is_harmless(&name) {
            return Err(invalid("is a property that reaches beyond the container's own unit, or of no use to it"));
        }
        Ok(Property::new(name, value, Origin::Annotation(key.clone())))
    })
    .collect()
}

fn microseconds(value: &Value) -> Option<u64> {
    let whole = match value {
        Value::Byte(number) => i128::from(*number),
        Value::I16(number) => i128::from(*number),
        Value::U16(number) => i128::from(*number),
        Value::I32(number) => i128::from(*number),
        Value::U32(number) => i128::from(*number),
        Value::I64(number) => i128::from(*number),
        Value::U64(number) => i128::from(*number),
        Value::Double(number) => {
            let micro = number * 1e6;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds of u64")]
            return (0.0..1e18).contains(&micro).then_some(micro as u64);
        }
        _ => return None,
    };
    u64::try_from(whole.checked_mul(1_000_000)?).ok()
}

/// A value from its text; `None` where it is none.
pub fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    parser.skip();
    (parser.rest.is_empty() && has_signature(&value)).then_some(value)
}

/// Whether the type of a value can be told, which takes at most 255 letters.
fn has_signature(value: &Value) -> bool {
    value.signature().len() <= LONGEST_SIGNATURE
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Letters and digits, and what numbers are written with.
    fn word(&mut self) -> &'a str {
        self.skip();
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// One value, of the type that is known, or of the one that the text itself says.
    fn value(&mut self, known: Option<&str>, depth: u32) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.skip();
        match self.rest.chars().next()? {
            '@' => {
                self.rest = self.rest.get(1..)?;
                let (kind, rest) = first_type(self.rest)?;
                self.rest = rest;
                if known.is_some_and(|known| known != kind) {
                    return None;
                }
                self.value(Some(kind), depth + 1)
            }
            '[' => self.array(known, depth),
            '(' => self.tuple(known, depth),
            '<' if known.is_none_or(|known| known == "v") => {
                self.rest = self.rest.get(1..)?;
                let inner = self.value(None, depth + 1)?;
                (self.eat(">") && has_signature(&inner)).then(|| Value::Variant(Box::new(inner)))
            }
            quote @ ('\'' | '"') => {
                let text = self.quoted(quote)?;
                typed_text(text, known.unwrap_or("s"))
            }
            _ => {
                let word = self.word();
                match (keyword(word), known) {
                    (Some(said), known) if known.is_none_or(|known| known == said) => self.value(Some(said), depth + 1),
                    (Some(_), _) => None,
                    (None, known) => typed_word(word, known),
                }
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => text.push(match letters.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                letter if letter == quote => {
                    self.rest = self.rest.get(at + quote.len_utf8()..)?;
                    return Some(text);
                }
                letter => text.push(letter),
            }
        }
        None
    }

    fn array(&mut self, kind: Option<&str>, depth: u32) -> Option<Value> {
        let mut element = match kind {
            None => None,
            Some(kind) => Some(kind.strip_prefix('a')?.to_owned()),
        };
        let mut values = Vec::new();
        self.eat("[");
        while !self.eat("]") {
            if !values.is_empty() && !self.eat(",") {
                return None;
            }
            let value = self.value(element.as_deref(), depth + 1)?;
            element.get_or_insert_with(|| value.signature().into_owned());
            values.push(value);
        }
        // Nothing says what an empty one is an array of.
        Some(Value::Array(Cow::Owned(element?), values))
    }

    fn tuple(&mut self, kind: Option<&str>, depth: u32) -> Option<Value> {
        let mut kinds = match kind {
            None => None,
            Some(kind) => Some(kind.strip_prefix('(')?.strip_suffix(')')?),
        };
        let mut values = Vec::new();
        self.eat("(");
        while !self.eat(")") {
            if !values.is_empty() && !self.eat(",") {
                return None;
            }
            let next = match kinds {
                None => None,
                Some(kinds_left) => {
                    let (first, rest) = first_type(kinds_left)?;
                    kinds = Some(rest);
                    Some(first)
                }
            };
            values.push(self.value(next, depth + 1)?);
        }
        (!values.is_empty() && kinds.is_none_or(str::is_empty)).then_some(Value::Struct(values))
    }
}

/// The types that text names by a word.
fn keyword(word: &str) -> Option<&'static str> {
    Some(match word {
        "boolean" => "b",
        "byte" => "y",
        "int16" => "n",
        "uint16" => "q",
        "int32" => "i",
        "uint32" => "u",
        "int64" => "x",
        "uint64" => "t",
        "double" => "d",
        "string" => "s",
        "objectpath" => "o",
        "signature" => "g",
        _ => return None,
    })
}

fn typed_text(text: String, kind: &str) -> Option<Value> {
    match kind {
        "s" => Some(Value::Text(text)),
        "o" => is_object_path(&text).then_some(Value::Path(text)),
        "g" => is_signature(&text).then_some(Value::Signature(text)),
        _ => None,
    }
}

/// Who gets a message with a path that is none hangs up (the D-Bus specification, "Valid Object Paths").
fn is_object_path(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = text.strip_prefix('/');
    text == "/" || names.is_some_and(|names| names.split('/').all(|name| !name.is_empty() && name.chars().all(fits)))
}

fn is_signature(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = first_type(rest) {
        rest = after;
    }
    rest.is_empty() && text.len() <= LONGEST_SIGNATURE
}

fn typed_word(word: &str, kind: Option<&str>) -> Option<Value> {
    if let "true" | "false" = word {
        return kind.is_none_or(|kind| kind == "b").then_some(Value::Bool(word == "true"));
    }
    let kind = kind.unwrap_or(if word.contains(['.', 'e']) && !word.starts_with("0x") { "d" } else { "i" });
    if kind == "d" {
        return word.parse().ok().map(Value::Double);
    }
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    // As in C, and as GLib reads them.
    let (radix, digits) = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(digits), _) => (16, digits),
        (None, Some(digits)) if !digits.is_empty() => (8, digits),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = sign * i128::from_str_radix(digits, radix).ok()?;
    match kind {
        "y" => number.try_into().ok().map(Value::Byte),
        "n" => number.try_into().ok().map(Value::I16),
        "q" => number.try_into().ok().map(Value::U16),
        "i" => number.try_into().ok().map(Value::I32),
        "u" => number.try_into().ok().map(Value::U32),
        "x" => number.try_into().ok().map(Value::I64),
        "t" => number.try_into().ok().map(Value::U64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn text_becomes_values() {
        let strings = |list: &[&str]| Value::texts(list.iter().map(|text| (*text).to_owned()));
        let cases = [
            ("true", Value::Bool(true)),
            (" 'inactive-or-failed' ", Value::text("inactive-or-failed")),
            ("\"a\\\"b\"", Value::text("a\"b")),
            ("'it\\'s'", Value::text("it's")),
            ("5", Value::I32(5)),
            ("-5", Value::I32(-5)),
            ("0x1f", Value::I32(31)),
            ("010", Value::I32(8)),
            ("uint64 5000000", Value::U64(5_000_000)),
            ("int64 -1", Value::I64(-1)),
            ("uint32 7", Value::U32(7)),
            ("int32 7", Value::I32(7)),
            ("byte 0xff", Value::Byte(255)),
            ("@t 9", Value::U64(9)),
            ("1.5", Value::Double(1.5)),
            ("['a', 'b']", strings(&["a", "b"])),
            ("@as []", strings(&[])),
            ("[uint32 1, 2]", Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)])),
            (
                "[('/dev/null', 'rwm')]",
                Value::Array("(ss)".into(), vec![Value::Struct(vec![Value::text("/dev/null"), Value::text("rwm")])]),
            ),
            ("@a(ss) []", Value::Array("(ss)".into(), vec![])),
            ("<'x'>", Value::Variant(Box::new(Value::text("x")))),
        ];
        for (text, value) in cases {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "yes",
            "'open",
            "[",
            "[]",
            "['a' 'b']",
            "['a', 1]",
            "uint32 -1",
            "byte 256",
            "uint64 uint32 5",
            "5 6",
            "@",
            "@z 5",
            "int32 5 'x'",
            "()",
            "{'a': 1}",
            "99999999999",
            "0x",
            "--5",
            "é",
            "@s 5",
            "@i <5>",
            "@ai [1, <2>]",
            "@ai [1, @s 'x']",
            "signature 'z'",
            "objectpath 'a/b'",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    /// Annotations may be long, and our stack is not.
    #[test]
    fn what_no_message_can_hold_is_refused() {
        let many = |text: &str| text.repeat(100_000);
        for bad in [
            "[".repeat(50) + "1" + &"]".repeat(50),
            many("@i ") + "5",
            many("byte ") + "5",
            format!("@{}i []", many("a")),
            format!("@{} 5", many("(")),
            format!("signature '{}'", "i".repeat(256)),
            format!("({})", "1, ".repeat(300)),
            format!("[<({})>]", "1, ".repeat(300)),
        ] {
            assert_eq!(parse(&bad), None, "{}...", &bad[..20]);
        }
    }

    #[test]
    fn paths_and_signatures_are_looked_at() {
        assert_eq!(parse("objectpath '/a/b_1'"), Some(Value::Path("/a/b_1".into())));
        assert_eq!(parse("objectpath '/'"), Some(Value::Path("/".into())));
        assert_eq!(parse("signature 'a(ss)i'"), Some(Value::Signature("a(ss)i".into())));
    }

    #[test]
    fn t42_cve_2024_3154_no_property_reaches_beyond_the_unit() {
        let refused = |name: &str, text: &str| {
            let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
            annotated(&annotations).is_err()
        };
        for (name, text) in [
            ("ExecStartPre", "[('/bin/sh', ['sh'], false)]"),
            ("ExecStopPost", "[('/bin/sh', ['sh'], false)]"),
            ("PIDs", "[uint32 1]"),
            ("Conflicts", "['sshd.service']"),
            ("Requires", "['rescue.target']"),
            ("Wants", "['rescue.target']"),
            ("BindsTo", "['sshd.service']"),
            ("PropagatesStopTo", "['sshd.service']"),
            ("OnFailure", "['rescue.target']"),
            ("OnSuccess", "['rescue.target']"),
            ("RequiresMountsFor", "['/mnt']"),
            ("SuccessAction", "'poweroff-force'"),
            ("FailureAction", "'reboot-force'"),
            ("JobTimeoutAction", "'reboot-force'"),
            ("JobTimeoutSec", "1"),
            ("Slice", "'system.slice'"),
            ("Controller", "':1.1'"),
            ("User", "'root'"),
            ("Delegate", "true"),
            ("DeviceAllow", "[('block-*', 'rwm')]"),
            ("DevicePolicy", "'auto'"),
            ("BPFProgram", "[('egress', '/sys/fs/bpf/x')]"),
            ("IPEgressFilterPath", "['/sys/fs/bpf/x']"),
        ] {
            assert!(refused(name, text), "{name}");
        }
        // What CRI-O and podman ask for.
        for (name, text) in [
            ("After", "['crio.service']"),
            ("DefaultDependencies", "true"),
            ("TimeoutStopUSec", "uint64 10000000"),
            ("TimeoutStopSec", "10"),
            ("CollectMode", "'inactive-or-failed'"),
            ("KillSignal", "15"),
            ("MemoryHigh", "uint64 1"),
            ("CPUWeight", "uint64 100"),
        ] {
            assert!(!refused(name, text), "{name}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        let of = |name: &str, text: &str| {
            let annotations =
                BTreeMap::from([(format!("{PREFIX}{name}"), text.to_owned()), ("other".into(), "x".into())]);
            annotated(&annotations).map(|list| list.into_iter().map(|one| (one.name.into_owned(), one.value)).next())
        };
        let time = |value| Some(("TimeoutStopUSec".to_owned(), Value::U64(value)));
        assert_eq!(of("TimeoutStopUSec", "uint64 5").unwrap(), time(5));
        assert_eq!(of("TimeoutStopSec", "5").unwrap(), time(5_000_000));
        assert_eq!(of("TimeoutStopSec", "1.5").unwrap(), time(1_500_000));
        assert_eq!(of("CollectMode", "'x'").unwrap(), Some(("CollectMode".to_owned(), Value::text("x"))));
        for (name, text) in
            [("TimeoutStopSec", "'5'"), ("TimeoutStopSec", "-1"), ("Ab", "1"), ("A-Bc", "1"), ("Abc", "?")]
        {
            let error = of(name, text).unwrap_err().to_string();
            assert!(error.contains(&format!("{PREFIX}{name}")), "{error}");
        }
    }
}
