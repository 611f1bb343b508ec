//! needs    procfs's option `pidns`, which takes a descriptor
//! since    Linux 6.18
//! instead  a process born in that pid namespace makes the mount, in an empty root and with nothing of the host's in its hands
//! loses    who has CAP_SYS_PTRACE there may take over that process, which has all capabilities, for the few calls that it lives

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::mount_api::{Detached, Recipe};
use super::{clone3, close_range};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::process::{self, Birth, Side};
use crate::sys::{descriptor, file, mount, namespace, socket, spawn};

const CLONE_NEWPID: u64 = libc::CLONE_NEWPID as u64;

/// Makes a procfs of another pid namespace than ours, detached.
///
/// # Errors
/// Where mounts cannot be lent at all; what procfs said of its options.
pub fn make(recipe: &Recipe<'_>, of: BorrowedFd<'_>) -> Result<OwnedFd> {
    if takes_a_namespace(of) {
        return Detached::procfs_of(recipe, of)?.lend();
    }
    let (ours, theirs) = socket::socketpair_seqpacket()?;
    let (side, _) = clone3::bear(Birth::default()).doing("bear who makes the mount")?;
    let Side::Parent(child) = side else {
        drop(ours);
        let done = go_in(recipe, of, theirs.as_fd());
        if let Err(error) = &done {
            let _ = socket::send_with_fds(&theirs, error.to_string().as_bytes(), &[]);
        }
        process::exit(done.is_err().into())
    };
    drop(theirs);
    let mut words = [0; 4096];
    let mut received = socket::receive_with_fds(&ours, &mut words)?;
    process::waitid(child.as_fd())?;
    received.fds.pop().ok_or_else(|| {
        let said = String::from_utf8_lossy(words.get(..received.length).unwrap_or_default()).into_owned();
        Error::new(Kind::Other, if said.is_empty() { "the process that makes it died".to_owned() } else { said })
    })
}

fn takes_a_namespace(of: BorrowedFd<'_>) -> bool {
    mount::fsopen("proc").and_then(|context| mount::fsconfig_set_fd(context.as_fd(), "pidns", of)).is_ok()
}

/// Not in the pid namespace yet, and so out of sight: lets go of all that is the host's, and bears who makes the mount.
fn go_in(recipe: &Recipe<'_>, of: BorrowedFd<'_>, link: BorrowedFd<'_>) -> Result<()> {
    process::set_death_signal(libc::SIGKILL)?;
    close_range::close_all_but(0, &[link, of])?;
    let nothing = Recipe {
        fstype: "tmpfs",
        source: Some("tmpfs"),
        options: vec![("nr_blocks", Some("1")), ("nr_inodes", Some("2")), ("ro", None)],
        attributes: 0,
    };
    let nothing = Detached::filesystem(&nothing)?.lend()?;
    spawn::wipe_environment();
    file::fchdir(nothing.as_fd())?;
    file::chroot(Path::new("."))?;
    drop(nothing);
    namespace::setns(of, CLONE_NEWPID)?;
    descriptor::close(of.as_raw_fd());
    match clone3::bear(Birth::default())? {
        (Side::Parent(maker), _) => process::waitid(maker.as_fd()).map(drop).map_err(Error::from),
        (Side::Child, _) => {
            let made = Detached::filesystem(recipe).and_then(Detached::lend);
            let sent = match &made {
                Ok(tree) => socket::send_with_fds(&link, b"", &[tree.as_fd()]),
                Err(error) => socket::send_with_fds(&link, error.to_string().as_bytes(), &[]),
            };
            process::exit(sent.is_err().into())
        }
    }
}
