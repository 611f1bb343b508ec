//! Limits as properties of a unit (systemd.resource-control(5)), from the lines for the cgroup's files.
//!
//! What is written into a file comes first and is the truth: a property says the same to systemd, so that it stands
//! again when systemd writes the file on its own account. A file that has no property here is one that systemd leaves
//! alone: `memory.swappiness`, `cpu.max.burst`, the limits of single devices, huge pages, RDMA, all of v1's cpuset.

use std::borrow::Cow;

use super::super::dbus::wire::Value;
use super::super::devices::{self, List};
use super::super::write::{Absent, Controller, Rows, Write};
use crate::error::{Error, Result};

/// How systemd says that there is no limit (`CGROUP_LIMIT_MAX`, `USEC_INFINITY`).
const INFINITY: u64 = u64::MAX;

/// Microseconds; the kernel's own period where none is given.
const DEFAULT_PERIOD: u64 = 100_000;

/// systemd counts processor time in whole percents of a second: 10 ms of microseconds.
const PERCENT: u64 = 10_000;

/// Fewer tasks than this might stop the making of the container itself.
const FEW_TASKS: u64 = 8;

/// One property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: Value,
    /// Who asked for it.
    pub origin: Origin,
}

/// Who asked for a property.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A container's unit is none without it.
    Needed,
    /// A line for a file, for this field of the config: the file gets it also where systemd does not know of it.
    Row(Cow<'static, str>),
    /// An annotation.
    Annotation(String),
}

impl Property {
    /// A property.
    pub fn new(name: impl Into<Cow<'static, str>>, value: Value, origin: Origin) -> Property {
        Property { name: name.into(), value, origin }
    }

    /// The field of the config that asked for it.
    pub fn field(&self) -> String {
        match &self.origin {
            Origin::Needed => String::new(),
            Origin::Row(field) => field.clone().into_owned(),
            Origin::Annotation(key) => format!("annotations[{key:?}]"),
        }
    }
}

/// Properties as systemd's methods take them: `a(sv)`.
pub fn list(properties: &[Property]) -> Value {
    let one = |property: &Property| {
        Value::Struct(vec![Value::text(&*property.name), Value::Variant(Box::new(property.value.clone()))])
    };
    Value::Array(Cow::Borrowed("(sv)"), properties.iter().map(one).collect())
}

/// Which property a refusal says this systemd does not know, where it can do without. Pure.
///
/// systemd's sentence is `Cannot set property NAME, or unknown property.`; before version 252 the weight 0, for an idle
/// group, is out of range to it.
pub fn unknown(properties: &[Property], error: &str, message: &str) -> Option<usize> {
    let named =
        |property: &Property| message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property.name);
    properties.iter().position(|property| {
        let spared = matches!(property.origin, Origin::Row(_));
        let idle = property.name == "CPUWeight" && property.value == Value::U64(0);
        spared && named(property) && (error.ends_with(".PropertyReadOnly") || (error.ends_with(".InvalidArgs") && idle))
    })
}

/// Rounds quotas of processor time up to what systemd can say, so that the file and the property are the same. Pure.
pub fn round_quotas(rows: &mut [Write]) {
    let period_of_v1 = |rows: &[Write]| {
        let period = rows.iter().rev().find(|row| row.file == "cpu.cfs_period_us");
        period.and_then(|row| row.value.parse().ok()).unwrap_or(DEFAULT_PERIOD)
    };
    let legacy = period_of_v1(rows);
    for row in rows {
        match (&row.controller, row.file.as_ref()) {
            (Controller::V2(_), "cpu.max") => {
                if let Some((Some(quota), period)) = cpu_max(&row.value) {
                    let rounded = round(quota, period);
                    if rounded != quota {
                        row.value = format!("{rounded} {period}");
                    }
                }
            }
            (Controller::V1("cpu"), "cpu.cfs_quota_us") => {
                if let Ok(quota) = row.value.parse::<u64>() {
                    row.value = round(quota, legacy).to_string();
                }
            }
            _ => {}
        }
    }
}

fn round(quota: u64, period: u64) -> u64 {
    let second = per_second(quota, period);
    let rounded = u64::try_from(u128::from(second) * u128::from(period) / 1_000_000);
    rounded.ok().filter(|_| second != INFINITY).unwrap_or(quota)
}

/// Microseconds of processor time in a second, rounded up to a percent.
fn per_second(quota: u64, period: u64) -> u64 {
    let Some(exact) = (u128::from(quota) * 1_000_000).checked_div(u128::from(period)) else { return INFINITY };
    u64::try_from(exact).ok().and_then(|exact| exact.checked_next_multiple_of(PERCENT)).unwrap_or(INFINITY)
}

/// `QUOTA [PERIOD]`; no quota is `max`.
fn cpu_max(value: &str) -> Option<(Option<u64>, u64)> {
    let mut words = value.split_whitespace();
    let quota = match words.next()? {
        "max" => None,
        number => Some(number.parse().ok()?),
    };
    let period = words.next().map_or(Ok(DEFAULT_PERIOD), str::parse).ok()?;
    words.next().is_none().then_some((quota, period))
}

/// The properties that say what the lines say. Pure; the last line about a thing wins, as in the files.
///
/// # Errors
/// A list of processors that makes no sense.
pub fn of_rows(rows: &[Write]) -> Result<Vec<Property>> {
    let mut properties: Vec<Property> = Vec::new();
    for row in rows {
        for (name, value) in of_row(row)? {
            properties.retain(|other| other.name != name);
            properties.push(Property::new(name, value, Origin::Row(row.field.clone())));
        }
    }
    // v1 has two files for what systemd has to be told together.
    let number = |file: &str| rows.iter().rev().find(|row| row.file == file).map(|row| row.value.parse::<u64>());
    if let Some(quota) = number("cpu.cfs_quota_us") {
        let period = number("cpu.cfs_period_us").and_then(std::result::Result::ok).unwrap_or(DEFAULT_PERIOD);
        let value = quota.map_or(INFINITY, |quota| per_second(quota, period));
        let field = Cow::Borrowed("linux.resources.cpu.quota");
        properties.push(Property::new("CPUQuotaPerSecUSec", Value::U64(value), Origin::Row(field)));
    }
    // An idle group has no weight; systemd has one property for both.
    let is_idle = rows.iter().any(|row| row.file == "cpu.idle" && row.value.trim() == "1");
    if let Some(weight) = properties.iter_mut().find(|property| is_idle && property.name == "CPUWeight") {
        weight.value = Value::U64(0);
    }
    Ok(properties)
}

fn of_row(row: &Write) -> Result<Vec<(&'static str, Value)>> {
    let number = |name| Ok(amount(&row.value).map(|number| (name, Value::U64(number))).into_iter().collect());
    match (&row.controller, row.file.as_ref()) {
        (Controller::V2(_), file) => match file {
            "memory.min" => number("MemoryMin"),
            "memory.low" => number("MemoryLow"),
            "memory.high" => number("MemoryHigh"),
            "memory.max" => number("MemoryMax"),
            "memory.swap.max" => number("MemorySwapMax"),
            "memory.zswap.max" => number("MemoryZSwapMax"),
            "pids.max" => number("TasksMax"),
            "cpu.weight" => number("CPUWeight"),
            "cpu.idle" if row.value.trim() == "1" => Ok(vec![("CPUWeight", Value::U64(0))]),
            "cpu.max" => {
                Ok(cpu_max(&row.value).map(|(quota, period)| quota_and_period(quota, period)).unwrap_or_default())
            }
            "cpuset.cpus" => Ok(vec![("AllowedCPUs", mask(row)?)]),
            "cpuset.mems" => Ok(vec![("AllowedMemoryNodes", mask(row)?)]),
            "io.weight" | "io.bfq.weight" => {
                Ok(io_weight(row).map(|weight| ("IOWeight", weight)).into_iter().collect())
            }
            _ => Ok(Vec::new()),
        },
        (Controller::V1(_), file) => match file {
            "memory.limit_in_bytes" => number("MemoryLimit"),
            "pids.max" => number("TasksMax"),
            "cpu.shares" => number("CPUShares"),
            "cpu.cfs_period_us" => number("CPUQuotaPeriodUSec"),
            "blkio.weight" => number("BlockIOWeight"),
            _ => Ok(Vec::new()),
        },
    }
}

fn quota_and_period(quota: Option<u64>, period: u64) -> Vec<(&'static str, Value)> {
    let second = quota.map_or(INFINITY, |quota| per_second(quota, period));
    vec![("CPUQuotaPeriodUSec", Value::U64(period)), ("CPUQuotaPerSecUSec", Value::U64(second))]
}

/// A number as the kernel reads it, with `K`, `M`, `G`, `T` (memparse); no limit is `max` or v1's -1. `None` for what only
/// the kernel can judge.
fn amount(text: &str) -> Option<u64> {
    let text = text.trim();
    if matches!(text, "max" | "-1") {
        return Some(INFINITY);
    }
    let shift = match text.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { text.get(..text.len() - 1)? };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The weight of all devices. systemd's is that of `io.weight`; where the kernel has only BFQ's, it converts.
fn io_weight(row: &Write) -> Option<Value> {
    let value = match &row.absent {
        Absent::Instead { file: "io.weight", value } => value,
        _ if row.file == "io.weight" => &row.value,
        _ => return None,
    };
    let value = value.trim();
    value.strip_prefix("default ").unwrap_or(value).parse().ok().map(Value::U64)
}

/// A list of numbers (`0-3,7`) as bits, lowest byte first.
fn mask(row: &Write) -> Result<Value> {
    /// More than any kernel's NR_CPUS.
    const MOST: usize = 65536;
    let invalid = || Error::invalid(&row.field, format!("{:?} is not a list like 0-3,7", row.value));
    let mut bytes: Vec<u8> = Vec::new();
    for part in row.value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST).ok_or_else(invalid);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        for bit in first..=last {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Ok(Value::Array(Cow::Borrowed("y"), bytes.into_iter().map(Value::Byte).collect()))
}

/// Takes out a limit of tasks so low that it could stop the making of the container; it is set when init is there. Pure.
pub fn without_few_tasks(properties: &[Property]) -> (Vec<Property>, Vec<Property>) {
    let is_few = |property: &&Property| {
        property.name == "TasksMax" && matches!(property.value, Value::U64(tasks) if tasks < FEW_TASKS)
    };
    let (few, rest): (Vec<_>, Vec<_>) = properties.iter().partition(is_few);
    let own = |list: Vec<&Property>| list.into_iter().cloned().collect();
    (own(rest), own(few))
}

/// The kernel's OOM killer ends all of the cgroup, or one process of it. systemd takes this only when a unit is made.
pub fn oom_policy(rows: &[Write]) -> Option<Property> {
    let row = rows.iter().rev().find(|row| row.file == "memory.oom.group")?;
    let policy = match row.value.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    Some(Property::new("OOMPolicy", Value::text(policy), Origin::Row(row.field.clone())))
}

/// Device rules for the devices controller of v1, which systemd writes anew at every daemon-reload. Pure.
///
/// On v2 it has its own program beside ours, which it would leave alone; a second opinion, in a language that cannot say
/// all that the rules say, is of no use there.
pub fn of_devices(list: &List, rows: &mut Rows) -> Vec<Property> {
    let property = |name: &'static str, value| Property::new(name, value, Origin::Row(Cow::Borrowed(devices::FIELD)));
    let allow = |pairs: Vec<Value>| property("DeviceAllow", Value::Array(Cow::Borrowed("(ss)"), pairs));
    let lost = |rows: &mut Rows, what: String| {
        rows.warn(devices::FIELD, format!("systemd cannot express {what}; a daemon-reload will lift that"));
    };
    // The empty list forgets the rules of before.
    if list.allows_by_default() {
        if list.exceptions().next().is_some() {
            lost(rows, "rules that allow all devices but some".to_owned());
        }
        return vec![property("DevicePolicy", Value::text("auto")), allow(Vec::new())];
    }
    let mut pairs = Vec::new();
    for exception in list.exceptions() {
        let kind = if exception.is_block { "block" } else { "char" };
        let node = match (exception.major, exception.minor) {
            (None, None) => format!("{kind}-*"),
            (Some(major), None) => format!("{kind}-{major}"),
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (None, Some(minor)) => {
                lost(rows, format!("the rule for {kind} *:{minor}"));
                continue;
            }
        };
        pairs.push(Value::Struct(vec![Value::Text(node), Value::Text(exception.access)]));
    }
    // systemd puts each before the ones it has.
    pairs.reverse();
    vec![property("DevicePolicy", Value::text("strict")), allow(Vec::new()), allow(pairs)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn v2(file: &'static str, value: &str) -> Write {
        Write::new(Controller::V2(Cow::Borrowed(file.split('.').next().unwrap())), file, value, "field")
    }

    fn v1(file: &'static str, value: &str) -> Write {
        Write::new(Controller::V1(file.split('.').next().unwrap()), file, value, "field")
    }

    fn told(rows: &[Write]) -> Vec<String> {
        let number = |value: &Value| match value {
            Value::U64(INFINITY) => "infinity".to_owned(),
            Value::U64(number) => number.to_string(),
            Value::Array(_, bytes) => format!(
                "{:?}",
                bytes.iter().map(|byte| if let Value::Byte(byte) = byte { *byte } else { 0 }).collect::<Vec<_>>()
            ),
            other => format!("{other:?}"),
        };
        of_rows(rows).unwrap().iter().map(|property| format!("{}={}", property.name, number(&property.value))).collect()
    }

    #[test]
    fn lines_of_v2_as_properties() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("memory.max", "1048576", &["MemoryMax=1048576"]),
            ("memory.max", "max", &["MemoryMax=infinity"]),
            ("memory.high", "64M", &["MemoryHigh=67108864"]),
            ("memory.low", "7", &["MemoryLow=7"]),
            ("memory.min", "7", &["MemoryMin=7"]),
            ("memory.swap.max", "0", &["MemorySwapMax=0"]),
            ("memory.zswap.max", "0", &["MemoryZSwapMax=0"]),
            ("pids.max", "1", &["TasksMax=1"]),
            ("cpu.weight", "79", &["CPUWeight=79"]),
            ("cpu.idle", "1", &["CPUWeight=0"]),
            ("cpu.idle", "0", &[]),
            ("cpu.max", "20000 100000", &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=200000"]),
            ("cpu.max", "max 50000", &["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=infinity"]),
            ("cpu.max", "5000", &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=50000"]),
            ("cpu.max", "what ever", &[]),
            ("cpuset.cpus", "0-1,9", &["AllowedCPUs=[3, 2]"]),
            ("cpuset.mems", "0", &["AllowedMemoryNodes=[1]"]),
            ("io.weight", "default 200", &["IOWeight=200"]),
            ("io.weight", "8:0 200", &[]),
            ("memory.swappiness", "5", &[]),
            ("hugetlb.2MB.max", "0", &[]),
        ];
        for (file, value, expected) in cases {
            assert_eq!(told(&[v2(file, value)]), *expected, "{file} {value}");
        }
        let bfq = v2("io.bfq.weight", "100").absent(Absent::Instead { file: "io.weight", value: "910".to_owned() });
        assert_eq!(told(&[bfq]), ["IOWeight=910"]);
        assert_eq!(told(&[v2("memory.max", "5"), v2("memory.max", "6")]), ["MemoryMax=6"]);
        assert_eq!(told(&[v2("cpu.idle", "1"), v2("cpu.weight", "5")]), ["CPUWeight=0"]);
    }

    #[test]
    fn lines_of_v1_as_properties() {
        let rows = [
            v1("memory.limit_in_bytes", "-1"),
            v1("memory.memsw.limit_in_bytes", "-1"),
            v1("cpu.shares", "512"),
            v1("cpu.cfs_period_us", "50000"),
            v1("cpu.cfs_quota_us", "25000"),
            v1("pids.max", "max"),
            v1("cpuset.cpus", "0"),
        ];
        let expected = [
            "MemoryLimit=infinity",
            "CPUShares=512",
            "CPUQuotaPeriodUSec=50000",
            "TasksMax=infinity",
            "CPUQuotaPerSecUSec=500000",
        ];
        assert_eq!(told(&rows), expected);
        assert_eq!(told(&[v1("cpu.cfs_quota_us", "-1")]), ["CPUQuotaPerSecUSec=infinity"]);
    }

    #[test]
    fn quotas_are_rounded_up_to_a_percent() {
        let cases = [
            ("20000 100000", "20000 100000"),
            ("12345 100000", "13000 100000"),
            ("1 100000", "1000 100000"),
            ("3000 7000", "3010 7000"),
            ("max 100000", "max 100000"),
            ("150000 100000", "150000 100000"),
        ];
        for (before, after) in cases {
            let mut rows = [v2("cpu.max", before)];
            round_quotas(&mut rows);
            assert_eq!(rows[0].value, after, "{before}");
            let again = rows.clone();
            round_quotas(&mut rows);
            assert_eq!(rows, again, "{before}: rounding is done once");
        }
        let mut rows = [v1("cpu.cfs_period_us", "50000"), v1("cpu.cfs_quota_us", "333"), v1("cpu.cfs_quota_us", "-1")];
        round_quotas(&mut rows);
        assert_eq!((rows[1].value.as_str(), rows[2].value.as_str()), ("500", "-1"));
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        for bad in ["a", "3-1", "0-", "70000", "-1"] {
            let error = of_rows(&[v2("cpuset.cpus", bad)]).unwrap_err().to_string();
            assert!(error.starts_with("field: "), "{error}");
        }
    }

    #[test]
    fn only_what_a_file_has_too_is_left_out() {
        let row = Property::new("AllowedCPUs", Value::U64(1), Origin::Row("f".into()));
        let idle = Property::new("CPUWeight", Value::U64(0), Origin::Row("f".into()));
        let asked = Property::new("Foo", Value::U64(1), Origin::Annotation("k".into()));
        let all = [asked, row, idle];
        let find = |error: &str, message: &str| unknown(&all, error, message);
        let read_only = "org.freedesktop.DBus.Error.PropertyReadOnly";
        assert_eq!(find(read_only, "Cannot set property AllowedCPUs, or unknown property."), Some(1));
        assert_eq!(find(read_only, "Cannot set property Foo, or unknown property."), None);
        assert_eq!(find(read_only, "Cannot set property AllowedCPUsX, or unknown property."), None);
        let invalid = "org.freedesktop.DBus.Error.InvalidArgs";
        assert_eq!(find(invalid, "Value specified in CPUWeight is out of range"), Some(2));
        assert_eq!(find(invalid, "Value specified in AllowedCPUs is out of range"), None);
    }

    #[test]
    fn few_tasks_come_later() {
        let tasks = |most| Property::new("TasksMax", Value::U64(most), Origin::Row("f".into()));
        let other = Property::new("CPUWeight", Value::U64(1), Origin::Row("f".into()));
        assert_eq!(without_few_tasks(&[tasks(1), other.clone()]), (vec![other.clone()], vec![tasks(1)]));
        assert_eq!(without_few_tasks(&[tasks(8), other.clone()]), (vec![tasks(8), other], vec![]));
    }
}
