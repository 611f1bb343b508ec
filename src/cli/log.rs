//! Messages for people and engines: `--log`, `--log-format`, `--log-level`, `--debug`.
//!
//! One line, one write(2), always by the parent. The shapes are logrus', which engines decode. An error goes to
//! standard error too when the log is a file. The log file is made even if nothing is said, and in json it holds no
//! warnings (except with `--debug`): podman decodes the whole file as one object.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use crate::container::timestamp::rfc3339;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// logrus' text.
    Text,
    /// One JSON object.
    Json,
}

/// How grave a message is, gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The command has failed.
    Error,
    /// It has not.
    Warning,
    /// Told with `--debug` alone.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

/// Where messages go.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    format: Format,
    least: Level,
}

impl Log {
    /// Standard error alone: for what goes wrong before the flags are read.
    pub fn to_stderr() -> Self {
        Log { file: None, format: Format::Text, least: Level::Warning }
    }

    /// Opens the log. `path` may have crun's `file:` in front; empty, it is standard error.
    ///
    /// # Errors
    /// A file that cannot be opened; crun's `journald:` and `syslog:`, which are not supported.
    pub fn open(path: Option<&str>, format: Format, least: Level) -> anyhow::Result<Self> {
        let path = path.unwrap_or_default();
        for unsupported in ["journald:", "syslog:"] {
            if path.starts_with(unsupported) {
                bail!("--log={path} is not supported by this version of orlop");
            }
        }
        let path = path.strip_prefix("file:").unwrap_or(path);
        let file = if path.is_empty() { None } else { Some(open(path)?) };
        Ok(Log { file, format, least })
    }

    /// A message that the command has failed; the last of all.
    pub fn error(&self, message: &str) {
        self.tell(Level::Error, message);
        if self.file.is_some() {
            to_stderr(&format!("{message}\n"));
        }
    }

    /// A message about something that did not stop the command.
    pub fn warning(&self, message: &str) {
        self.tell(Level::Warning, message);
    }

    /// A message that helps to find out why.
    pub fn debug(&self, message: &str) {
        self.tell(Level::Debug, message);
    }

    fn tell(&self, level: Level, message: &str) {
        let only_errors = self.format == Format::Json && self.least < Level::Debug;
        if level > self.least || (only_errors && level > Level::Error) {
            return;
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = match self.format {
            Format::Text => text(level, message, seconds),
            Format::Json => json(level, message, seconds),
        };
        match &self.file {
            // There is nobody left to tell that the log cannot be written.
            Some(file) => drop((&mut &*file).write_all(line.as_bytes())),
            None => to_stderr(&line),
        }
    }
}

fn open(path: &str) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o644)
        .custom_flags(libc::O_SYNC | libc::O_NOCTTY)
        .open(path)
        .with_context(|| format!("cannot open the log {path}"))
}

fn to_stderr(line: &str) {
    drop(std::io::stderr().write_all(line.as_bytes()));
}

fn json(level: Level, message: &str, seconds: u64) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        level: &'a str,
        msg: &'a str,
        time: String,
    }
    let line = Line { level: level.name(), msg: message, time: rfc3339(seconds) };
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

fn text(level: Level, message: &str, seconds: u64) -> String {
    format!("time=\"{}\" level={} msg={}\n", rfc3339(seconds), level.name(), quoted(message))
}

/// As logrus quotes: plain words stay, everything else is a string of Go.
fn quoted(message: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !message.is_empty() && message.chars().all(plain) {
        return message.to_owned();
    }
    let mut text = String::from("\"");
    for c in message.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if c.is_control() => {
                let _never_fails = write!(text, "\\x{:02x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn lines_look_as_logrus_writes_them() {
        assert_eq!(
            text(Level::Error, "runc: \"create\" requires exactly 1 argument(s)", 0),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"runc: \\\"create\\\" requires exactly 1 argument(s)\"\n"
        );
        assert_eq!(text(Level::Warning, "plain", 0), "time=\"1970-01-01T00:00:00Z\" level=warning msg=plain\n");
        assert_eq!(
            json(Level::Error, "no \"x\"\nhere", 0),
            "{\"level\":\"error\",\"msg\":\"no \\\"x\\\"\\nhere\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(quoted("a\u{1}\u{e4}"), "\"a\\x01\u{e4}\"");
        assert_eq!(quoted(""), "\"\"");
    }

    #[test]
    fn a_json_log_is_made_and_holds_the_error_alone() {
        let path = std::env::temp_dir().join(format!("orlop-log-{}", std::process::id()));
        let log = Log::open(path.to_str(), Format::Json, Level::Warning).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        log.warning("careful");
        log.debug("detail");
        log.error("broken");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["msg"], "broken");
    }

    #[test]
    fn other_destinations_are_refused() {
        assert!(Log::open(Some("journald:x"), Format::Text, Level::Error).is_err());
        assert!(Log::open(Some(""), Format::Text, Level::Error).unwrap().file.is_none());
    }
}
