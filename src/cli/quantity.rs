//! Sizes and durations as the command lines of runc write them.

use std::time::Duration;

use anyhow::{Context, bail};

/// A number of bytes with a unit, `512m` or `1.5 GiB`, each a power of 1024; `-1` is no limit. As docker's go-units.
///
/// # Errors
/// Anything else, a negative size among it.
pub fn size(text: &str) -> anyhow::Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').map_or(0, |at| at + 1);
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        bail!(invalid());
    }
    let unit = unit.to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match letter {
        "" if unit == "ib" => bail!(invalid()),
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => bail!(invalid()),
    };
    let scale = 1_i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale).with_context(invalid);
    }
    let number: f64 = number.parse().ok().with_context(invalid)?;
    #[allow(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number * scale as f64;
    if !(bytes.is_finite() && bytes < 9.2e18) {
        bail!(invalid());
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked above; a fraction of a byte is nothing")]
    Ok(bytes as i64)
}

/// A duration as Go writes it: `5s`, `1m30s`, `1.5h`, `300ms`. A bare number, as youki takes it, is of seconds.
///
/// # Errors
/// Anything else, and a number that is too large.
pub fn duration(text: &str) -> anyhow::Result<Duration> {
    let invalid = || format!("invalid duration {text:?}");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    if text.is_empty() {
        bail!(invalid());
    }
    let (mut rest, mut sum) = (text.strip_prefix('+').unwrap_or(text), 0_f64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).with_context(invalid)?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let number: f64 = number.parse().ok().with_context(invalid)?;
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            _ => bail!(invalid()),
        };
        sum += number * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(sum).ok().with_context(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("-1", -1),
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("32Mb", 32 << 20),
            ("1.5g", 3 << 29),
            ("32 m", 32 << 20),
            ("2t", 2 << 40),
            ("1Pb", 1 << 50),
            ("0.5k", 512),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "k", "-2", "-1m", "1x", "1kk", "1ib", "1.2.3", "32 mm", "1e3", "9999999999p", "m1", "+1", "1m "]
        {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("5s", 5000),
            ("300ms", 300),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("2000us", 2),
            ("7", 7000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text).unwrap().as_millis(), milliseconds, "{text}");
        }
        for bad in ["", "s", "5x", "-5s", "5s3", "1..5s", ".", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
