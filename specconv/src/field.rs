//! Naming a place in `config.json`, and refusing or warning there.
//!
//! A field's name is text that is made when it is needed: pass `format_args!("mounts[{i}].source")`, which
//! costs nothing as long as all is well.

use std::fmt;

use crate::{Invalid, Warning};

/// A refusal at `field`, because of `why`.
pub(crate) fn invalid(field: impl fmt::Display, why: impl fmt::Display) -> Invalid {
    Invalid { field: field.to_string(), why: why.to_string() }
}

/// The same as an early return.
pub(crate) fn refuse<T>(field: impl fmt::Display, why: impl fmt::Display) -> Result<T, Invalid> {
    Err(invalid(field, why))
}

/// Notes that something was passed over, as the specification or runc does.
pub(crate) fn warn(warnings: &mut Vec<Warning>, field: impl fmt::Display, what: impl fmt::Display) {
    warnings.push(Warning { field: field.to_string(), what: what.to_string() });
}

/// A text that says something; engines write `""` for what they leave out.
pub(crate) fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A path that starts at `/`.
pub(crate) fn absolute(field: impl fmt::Display, path: &str) -> Result<(), Invalid> {
    if path.starts_with('/') {
        return Ok(());
    }
    refuse(field, format_args!("{path:?} is not an absolute path"))
}

/// `4294967295` is (uid_t)-1, which setresuid(2) and chown(2) read as "leave it".
pub(crate) fn id(field: impl fmt::Display, id: u32) -> Result<u32, Invalid> {
    if id == u32::MAX {
        return refuse(field, "4294967295 is not an id: the kernel reads it as \"unchanged\"");
    }
    Ok(id)
}

/// The highest number a list may name. Above the largest CPU and node counts that Linux can be built for, and low
/// enough that a list never asks for much memory.
const LIST_MAX: u32 = 65_535;

/// A list such as `0-3,7` (the list format of cpuset(7), without its strides). Spaces and empty items between commas are
/// passed over, as the specification's schema, the kernel and runc have it.
pub(crate) fn list(field: impl fmt::Display, text: &str) -> Result<Vec<u32>, Invalid> {
    let mut ranges = Vec::new();
    for part in text.split(',').map(|part| part.trim_matches(' ')).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (list_number(first), list_number(last)) else {
            return refuse(field, format_args!("{text:?} is not a list such as \"0-3,7\""));
        };
        if first > last {
            return refuse(field, format_args!("{part:?} in {text:?} runs backwards"));
        }
        if last > LIST_MAX {
            return refuse(field, format_args!("{last} in {text:?} is more than {LIST_MAX}"));
        }
        ranges.push((first, last));
    }
    if ranges.is_empty() {
        return refuse(field, format_args!("{text:?} names nothing"));
    }
    // In order, so that a range that stands there many times is counted out once.
    ranges.sort_unstable();
    let (mut numbers, mut next) = (Vec::new(), 0);
    for (first, last) in ranges {
        numbers.extend(first.max(next)..=last);
        next = next.max(last + 1);
    }
    Ok(numbers)
}

fn list_number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `dev_valid_name` of the kernel (net/core/dev.c), and no `%`, which the kernel would fill with a number.
pub(crate) fn interface(field: impl fmt::Display, name: &str) -> Result<(), Invalid> {
    let valid = !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.bytes().any(|byte| matches!(byte, b'/' | b':' | b'%') || byte.is_ascii_whitespace());
    if valid {
        return Ok(());
    }
    refuse(field, format_args!("{name:?} is not a name for a network device"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_is_read_in_full_or_refused() {
        assert_eq!(list("f", "0-3,7").unwrap(), [0, 1, 2, 3, 7]);
        assert_eq!(list("f", "7,0-1,1").unwrap(), [0, 1, 7]);
        assert_eq!(list("f", " 0-1, 3,,7 ,").unwrap(), [0, 1, 3, 7]);
        for bad in
            ["", ",", " ", "0-", "-1", "3-1", "0 -1", "0 3", "1\n", "+1", "0x1", "1-2-3", "65536", "4294967296", "a"]
        {
            assert!(list("f", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_list_repeated_does_not_grow() {
        let many = vec!["0-65535"; 64].join(",");
        assert_eq!(list("f", &many).unwrap().len(), 65_536);
    }
}
