//! Signals: their names, and a clean slate of them before a program is executed.

use crate::error::{Context, Error, Kind, Result};
use crate::sys;

/// Names of the signals; the number is the place, counted from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The first and last real-time signals as programs see them: glibc keeps 32 and 33 for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads a signal as `kill` takes it: a number, `TERM`, `SIGTERM`, in any case, `RTMIN+3`, `RTMAX-1`.
///
/// # Errors
/// `unknown signal "X"`, runc's words.
pub fn parse(text: &str) -> Result<i32> {
    let unknown = || Error::new(Kind::Invalid, format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        // 0 asks whether the process could be signalled at all (kill(2)).
        return if (0..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    number_of(upper.strip_prefix("SIG").unwrap_or(&upper)).ok_or_else(unknown)
}

fn number_of(name: &str) -> Option<i32> {
    if let Some(place) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(place + 1).ok();
    }
    match name {
        "IOT" => return Some(6),
        "CLD" => return Some(17),
        "POLL" => return Some(29),
        "RTMIN" => return Some(RTMIN),
        "RTMAX" => return Some(RTMAX),
        _ => {}
    }
    let number = if let Some(above) = name.strip_prefix("RTMIN+") {
        RTMIN.checked_add(distance(above)?)?
    } else {
        RTMAX.checked_sub(distance(name.strip_prefix("RTMAX-")?)?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// Digits alone: `parse` would also take a sign.
fn distance(digits: &str) -> Option<i32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Takes back what our caller did to signals, as far as our own work needs it: an ignored SIGCHLD would have the kernel reap
/// our children before we ask how they ended (wait(2)), and SIGXFSZ would end us with everything left to be undone, where
/// EFBIG says the same (setrlimit(2)). To be called at the start of `main`; no program gets it ([`reset_all`]).
pub fn prepare() {
    sys::signal::take_by_default(libc::SIGCHLD);
    sys::signal::ignore(libc::SIGXFSZ);
}

/// Lets whoever asks init to end be heard before there is a program to hear it. Being the first process of its pid
/// namespace it would not die of them, and a created container could be ended with SIGKILL alone; runc's ends.
///
/// # Errors
/// None that a kernel is known to have.
pub fn end_when_asked() -> Result<()> {
    let all = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    all.into_iter().try_for_each(sys::signal::end_on).doing("be ready to end when asked")?;
    // Our caller may have blocked them.
    sys::signal::set_mask(sys::signal::Set::NONE);
    Ok(())
}

/// Gives every signal its default disposition and unblocks them all, as a program expects it at its start.
///
/// An ignored signal and the mask survive execve(2); Rust ignores SIGPIPE, and our caller may have ignored more.
pub fn reset_all() {
    sys::signal::reset_all();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("Term", 15),
            ("0", 0),
            ("64", 64),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("RTMAX", 64),
            ("poll", 29),
            ("iot", 6),
            ("CLD", 17),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn unknown_ones() {
        for text in [
            "",
            "SIG",
            "FOO",
            "-1",
            "65",
            "9x",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN++1",
            "RTMIN+-1",
            "SIGSIGKILL",
            "RTMIN+",
            " 9",
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("unknown signal {text:?}"));
        }
    }
}
