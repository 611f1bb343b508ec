//! needs    close_range(2) with CLOSE_RANGE_CLOEXEC
//! since    Linux 5.11
//! instead  one fcntl(2) for every number a descriptor can have
//! loses    about 50 ms
//!
//! The old road counts, it does not read /proc/self/fd: it is also taken where /proc is the container's.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::Road;
use crate::sys::descriptor::{self, close_range_cloexec, set_cloexec};
use crate::sys::{Errno, Result};

/// close_range(2) itself.
static ROAD: Road = Road::new();

/// The same, where it knows the flag.
static CLOEXEC: Road = Road::new();

/// fs.nr_open as kernels are delivered: no process has a descriptor above it, whatever its limits are now.
const HIGHEST: i32 = 1 << 20;

/// A number that no descriptor has.
const NONE: u32 = u32::MAX;

/// Marks every descriptor from `first` upwards to be closed by the next exec (CVE-2024-21626).
pub fn cloexec_from(first: u32) -> Result<()> {
    match CLOEXEC.take(|| close_range_cloexec(first), || close_range_cloexec(NONE)) {
        Ok(Some(())) => return Ok(()),
        // Linux 5.9 and 5.10 have the call but not the flag; there is no other reason for EINVAL.
        Err(refused) if refused.errno == Errno::EINVAL => CLOEXEC.close(),
        Err(refused) => return Err(refused),
        Ok(None) => {}
    }
    for number in i32::try_from(first).unwrap_or(HIGHEST)..HIGHEST {
        match set_cloexec(number, true) {
            Err(refused) if refused.errno != Errno::EBADF => return Err(refused),
            _ => {}
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` upwards but these.
pub fn close_all_but(first: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).filter(|number| *number >= first).collect();
    kept.sort_unstable();
    let mut next = first;
    for number in kept.into_iter().map(Some).chain([None]) {
        let last = number.map_or(u32::MAX, |number| number.saturating_sub(1));
        if next <= last {
            close_gap(next, last)?;
        }
        next = number.map_or(u32::MAX, |number| number + 1);
    }
    Ok(())
}

fn close_gap(first: u32, last: u32) -> Result<()> {
    if ROAD.take(|| descriptor::close_range(first, last), || descriptor::close_range(NONE, NONE))?.is_none() {
        for number in first..=last.min(HIGHEST as u32) {
            descriptor::close(number as i32);
        }
    }
    Ok(())
}
