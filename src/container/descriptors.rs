//! Descriptors that the caller hands down: `--preserve-fds`, and socket activation (sd_listen_fds(3)).

use crate::error::{Error, Kind, Result};
use crate::sys::descriptor;

/// What a service manager handed down.
#[derive(Debug, Default)]
struct Listen {
    /// How many descriptors, from 3 on.
    count: u32,
    /// What the program is to be told; its process id is 1 in the container's eyes, as runc says it.
    env: Vec<(&'static str, String)>,
}

/// Reads LISTEN_FDS, if it is meant for us (LISTEN_PID).
fn listen_fds() -> Listen {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Listen::default();
    }
    match number("LISTEN_FDS") {
        None | Some(0) => Listen::default(),
        Some(count) => {
            let mut env = vec![("LISTEN_FDS", count.to_string()), ("LISTEN_PID", "1".to_owned())];
            if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
                env.push(("LISTEN_FDNAMES", names));
            }
            Listen { count, env }
        }
    }
}

/// Refuses `--preserve-fds` (and what a service manager says it hands down) where a descriptor is not open.
///
/// To be asked before anything else is opened: a later descriptor would get the missing number, and go into the
/// container in its place.
pub fn check_preserved(count: u32) -> Result<()> {
    handed_down(count).map(drop)
}

/// How many descriptors from 3 on go into the container, `--preserve-fds` and a service manager's together, all of them
/// open; and what the program is told of the latter.
pub(super) fn handed_down(preserved: u32) -> Result<(u32, Vec<(&'static str, String)>)> {
    let listen = listen_fds();
    let count = preserved.saturating_add(listen.count);
    check_open(count)?;
    Ok((count, listen.env))
}

/// Refuses to hand down what is not there: the number would come to mean one of our own descriptors.
fn check_open(count: u32) -> Result<()> {
    for number in (3..).take(count as usize) {
        if !descriptor::is_open(number) {
            let sentence = format!("--preserve-fds: descriptor {number} is not open");
            return Err(Error::new(Kind::Invalid, sentence));
        }
    }
    Ok(())
}
