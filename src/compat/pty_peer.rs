//! needs    ioctl_tty(2) with TIOCGPTPEER
//! since    Linux 4.13
//! instead  the node that has the master's number, in the devpts that the master was opened in
//! loses    nothing: nobody can make nodes in a devpts, and what is mounted over one is not taken

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::openat2::{Mounts, open_beneath};
use crate::sys::file::{self, FileType, Mode, OFlags};
use crate::sys::{Errno, Refused, Result, pty};

/// Opens the peer of a master that was opened as `ptmx` in `devpts`.
pub fn open(devpts: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<OwnedFd> {
    match pty::open_peer(master) {
        Err(refused) if matches!(refused.errno, Errno::EINVAL | Errno::ENOTTY | Errno::EIO) => {
            by_number(devpts, master)
        }
        other => other,
    }
}

fn by_number(devpts: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let name = pty::ptsname(master)?;
    let number = Path::new(&name).file_name().map(Path::new).unwrap_or(Path::new(""));
    let peer = open_beneath(devpts, number, OFlags::RDWR | OFlags::NOCTTY, Mode::empty(), Mounts::Stay)?;
    let stat = file::fstat(peer.as_fd())?;
    match FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && pty::is_peer(stat.st_rdev) {
        true => Ok(peer),
        false => Err(Refused::new("openat2", format_args!("{number:?} in a devpts"), Errno::ENXIO)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn both_roads_lead_to_one_peer() {
        let devpts = std::fs::File::open("/dev/pts").unwrap();
        let (flags, stay) = (OFlags::RDWR | OFlags::NOCTTY, Mounts::Stay);
        let master = open_beneath(devpts.as_fd(), Path::new("ptmx"), flags, Mode::empty(), stay).unwrap();
        pty::unlockpt(master.as_fd()).unwrap();
        let peers = [open(devpts.as_fd(), master.as_fd()).unwrap(), by_number(devpts.as_fd(), master.as_fd()).unwrap()];
        let [new, old] = peers.map(|peer| file::fstat(peer.as_fd()).unwrap());
        assert_eq!((new.st_ino, new.st_rdev), (old.st_ino, old.st_rdev));
    }
}
