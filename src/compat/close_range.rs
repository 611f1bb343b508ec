//! needs    close_range(2) with CLOSE_RANGE_CLOEXEC
//! since    Linux 5.11
//! instead  one close(2) or fcntl(2) for each descriptor in the caller's /proc/self/fd
//! loses    nothing; where the caller has no /proc, one call for each of a million numbers, which takes up to a second, and
//!          numbers above that (where fs.nr_open was raised) are missed
//!
//! No /proc is read that the container may have made: only init's first deed, and whoever is not init, looks into it.
//! What is open afterwards this program has opened itself, close-on-exec.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use super::Road;
use super::own_fd::PROC_MAGIC;
use crate::sys::descriptor::{self, close_range_cloexec, set_cloexec};
use crate::sys::file::{self, CWD, Mode, OFlags};
use crate::sys::{Errno, Result};

/// close_range(2) itself.
static ROAD: Road = Road::new();

/// The same, where it knows the flag.
static CLOEXEC: Road = Road::new();

/// Numbers from here upwards are our own, since [`close_all_but`]; negative before it.
static OURS: AtomicI32 = AtomicI32::new(-1);

/// fs.nr_open as kernels are delivered.
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
    for number in inherited(first) {
        match set_cloexec(number, true) {
            Err(refused) if refused.errno != Errno::EBADF => return Err(refused),
            _ => {}
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` upwards but these, which are our own.
///
/// To be called while the caller's /proc is in view.
pub fn close_all_but(first: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    if ROAD.take(|| close_around(first, kept), || descriptor::close_range(NONE, NONE))?.is_none() {
        let stays = |number: i32| kept.iter().any(|fd| fd.as_raw_fd() == number);
        inherited(first).into_iter().filter(|number| !stays(*number)).for_each(descriptor::close);
    }
    OURS.store(i32::try_from(first).unwrap_or(i32::MAX), Ordering::Relaxed);
    Ok(())
}

fn close_around(first: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).filter(|number| *number >= first).collect();
    kept.sort_unstable();
    let mut next = first;
    for number in kept.into_iter().map(Some).chain([None]) {
        let last = number.map_or(u32::MAX, |number| number.saturating_sub(1));
        if next <= last {
            descriptor::close_range(next, last)?;
        }
        next = number.map_or(u32::MAX, |number| number + 1);
    }
    Ok(())
}

/// Numbers from `first` upwards that may be open, and whose descriptors may come from whoever executed us.
fn inherited(first: u32) -> Vec<i32> {
    let first = i32::try_from(first).unwrap_or(i32::MAX);
    let ours = OURS.load(Ordering::Relaxed);
    if ours >= 0 {
        return (first..ours).collect();
    }
    let mut numbers = listed().unwrap_or_else(|| (first..HIGHEST).collect());
    numbers.retain(|number| *number >= first);
    numbers
}

/// What /proc/self/fd lists, if it is a procfs's and about this process.
fn listed() -> Option<Vec<i32>> {
    let dir = file::openat(CWD, Path::new("/proc/self/fd"), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).ok()?;
    if file::fstatfs(dir.as_fd()).ok()?.magic != PROC_MAGIC {
        return None;
    }
    let names = file::getdents(dir.as_fd()).ok()?;
    let numbers: Vec<i32> = names.iter().filter_map(|(name, _)| name.to_str()?.parse().ok()).collect();
    // It is itself open while it is read.
    numbers.contains(&dir.as_raw_fd()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_open_is_listed_whatever_its_kind() {
        let file = file::openat(CWD, Path::new("/"), OFlags::PATH, Mode::empty()).unwrap();
        let (reader, writer) = descriptor::pipe().unwrap();
        let numbers = listed().unwrap();
        for open in [file.as_raw_fd(), reader.as_raw_fd(), writer.as_raw_fd()] {
            assert!(numbers.contains(&open), "{open} in {numbers:?}");
        }
        let first = writer.as_raw_fd() as u32;
        assert!(inherited(first).contains(&writer.as_raw_fd()));
        assert!(inherited(first).iter().all(|number| *number >= writer.as_raw_fd()), "only from {first} upwards");
    }
}
