//! The flags of `update`, as the `linux.resources` object that they mean.

use std::io::Read;
use std::str::FromStr;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::args::Update;
use super::quantity;

/// What `update` asks for: a `linux.resources` object as JSON, and what the user should know.
///
/// # Errors
/// A flag that makes no sense, and a file that cannot be read.
pub fn asked(update: &Update) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let mut warnings = Vec::new();
    let flags = of_flags(update, &mut warnings)?;
    let Some(file) = given(&update.resources) else { return Ok((Value::Object(flags).to_string().into(), warnings)) };
    if !flags.is_empty() {
        warnings.push("the other options are ignored beside --resources".to_owned());
    }
    let mut text = Vec::new();
    if file == "-" {
        std::io::stdin().lock().read_to_end(&mut text).context("cannot read the resources from standard input")?;
    } else {
        text = std::fs::read(file).with_context(|| format!("cannot read the resources from {file}"))?;
    }
    Ok((text, warnings))
}

/// The lines of Intel RDT's schemata that `update` asks for; they may be given beside `--resources`, as in crun.
///
/// # Errors
/// A flag that makes no sense.
pub fn schemata(update: &Update) -> anyhow::Result<Vec<String>> {
    Ok(specconv::rdt_schemata(update.l3_cache_schema.clone(), update.mem_bw_schema.clone())?)
}

/// An empty word is a flag that was not given, as in runc.
fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

fn of_flags(update: &Update, warnings: &mut Vec<String>) -> anyhow::Result<Map<String, Value>> {
    let mut flags = Map::new();
    let mut put = |section: &str, key: &str, value: Value| {
        if let Value::Object(fields) = flags.entry(section).or_insert_with(|| json!({})) {
            fields.insert(key.to_owned(), value);
        }
    };
    let sizes = [
        ("limit", "memory", &update.memory),
        ("reservation", "memory-reservation", &update.memory_reservation),
        ("swap", "memory-swap", &update.memory_swap),
    ];
    for (key, flag, value) in sizes {
        if let Some(text) = given(value) {
            let bytes = quantity::size(text).with_context(|| format!("invalid value for {flag}"))?;
            put("memory", key, bytes.into());
        }
    }
    let unsigned = [
        ("period", "cpu-period", &update.cpu_period),
        ("realtimePeriod", "cpu-rt-period", &update.cpu_rt_period),
        ("shares", "cpu-share", &update.cpu_share),
        ("burst", "cpu-burst", &update.cpu_burst),
    ];
    for (key, flag, value) in unsigned {
        if let Some(text) = given(value) {
            put("cpu", key, number::<u64>(flag, text)?.into());
        }
    }
    let signed = [
        ("quota", "cpu-quota", &update.cpu_quota),
        ("realtimeRuntime", "cpu-rt-runtime", &update.cpu_rt_runtime),
        ("idle", "cpu-idle", &update.cpu_idle),
    ];
    for (key, flag, value) in signed {
        if let Some(text) = given(value) {
            put("cpu", key, number::<i64>(flag, text)?.into());
        }
    }
    for (key, value) in [("cpus", &update.cpuset_cpus), ("mems", &update.cpuset_mems)] {
        if let Some(list) = given(value) {
            put("cpu", key, list.into());
        }
    }
    if let Some(text) = given(&update.blkio_weight) {
        put("blockIO", "weight", number::<u16>("blkio-weight", text)?.into());
    }
    if let Some(text) = given(&update.pids_limit) {
        put("pids", "limit", number::<i64>("pids-limit", text)?.into());
    }
    if given(&update.kernel_memory).is_some() || given(&update.kernel_memory_tcp).is_some() {
        // runc's words.
        warnings.push("Kernel memory settings are ignored and will be removed".to_owned());
    }
    Ok(flags)
}

fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(flag: &str, text: &str) -> anyhow::Result<T> {
    text.parse().with_context(|| format!("invalid value for {flag}: {text:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use clap::{Args, FromArgMatches};

    use super::*;

    fn of(words: &[&str]) -> anyhow::Result<(Value, usize)> {
        let matches = Update::augment_args(clap::Command::new("update").no_binary_name(true)).get_matches_from(words);
        let (text, warnings) = asked(&Update::from_arg_matches(&matches).unwrap())?;
        Ok((serde_json::from_slice(&text).unwrap(), warnings.len()))
    }

    #[test]
    fn flags_are_fields() {
        let words = [
            "--memory=64m",
            "--memory-reservation=1k",
            "--memory-swap=-1",
            "--cpu-period=100",
            "--cpu-quota=-1",
            "--cpu-share=7",
            "--cpu-rt-period=1",
            "--cpu-rt-runtime=2",
            "--cpu-burst=0",
            "--cpu-idle=1",
            "--cpuset-cpus=0-1",
            "--cpuset-mems=0",
            "--blkio-weight=50",
            "--pids-limit=-1",
        ];
        let expected = json!({
            "memory": {"limit": 67_108_864, "reservation": 1024, "swap": -1},
            "cpu": {"period": 100, "quota": -1, "shares": 7, "realtimePeriod": 1, "realtimeRuntime": 2, "burst": 0,
                "idle": 1, "cpus": "0-1", "mems": "0"},
            "blockIO": {"weight": 50}, "pids": {"limit": -1}
        });
        assert_eq!(of(&words).unwrap(), (expected, 0));
        assert_eq!(of(&["--memory=", "--cpuset-cpus="]).unwrap(), (json!({}), 0));
        assert_eq!(of(&["--kernel-memory=5"]).unwrap(), (json!({}), 1));
    }

    #[test]
    fn mistakes_name_their_flag() {
        for (word, words) in [
            ("--memory=x", "invalid value for memory"),
            ("--cpu-share=-1", "invalid value for cpu-share"),
            ("--pids-limit=many", "invalid value for pids-limit"),
            ("--resources=/nonexistent", "cannot read the resources from /nonexistent"),
        ] {
            let error = format!("{:#}", of(&[word]).unwrap_err());
            assert!(error.contains(words), "{word}: {error}");
        }
    }
}
