//! Descriptors that become readable when something happens: eventfd and inotify.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::EventfdFlags;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::{Errno, Result, fd, refused};

/// A counter that whoever holds it can raise; reads do not block. eventfd2(2), Linux 2.6.27.
pub fn eventfd() -> Result<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    rustix::event::eventfd(0, flags).map_err(refused!("eventfd2", "0, EFD_CLOEXEC|EFD_NONBLOCK"))
}

/// A queue of what happens to watched files; reads do not block. inotify_init1(2), Linux 2.6.27.
pub fn inotify_init() -> Result<OwnedFd> {
    inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .map_err(refused!("inotify_init1", "IN_CLOEXEC|IN_NONBLOCK"))
}

/// Tells the queue of every change of a file's content. inotify_add_watch(2) with IN_MODIFY.
///
/// The files of cgroup v2 that count events say so themselves (the kernel's `kernfs_notify`).
pub fn inotify_watch_changes(queue: BorrowedFd<'_>, path: &Path) -> Result<()> {
    inotify::add_watch(queue, path, WatchFlags::MODIFY).map(|_| ()).map_err(refused!(
        "inotify_add_watch",
        "{}, {path:?}, IN_MODIFY",
        fd(&queue)
    ))
}

/// Takes what the descriptor has to tell, so that it is quiet again; whether there was anything. read(2).
pub fn drain(events: BorrowedFd<'_>) -> Result<bool> {
    let mut any = false;
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(events, &mut buffer) {
            Ok(0) => return Ok(any),
            // An eventfd gives its whole count at once and then has nothing.
            Ok(_) => any = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(any),
            Err(errno) => return Err(refused!("read", "{}", fd(&events))(Errno::from_raw(errno.raw_os_error()))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn counters_and_queues_tell_once() {
        let counter = eventfd().unwrap();
        assert!(!drain(counter.as_fd()).unwrap());
        rustix::io::write(&counter, &3_u64.to_ne_bytes()).unwrap();
        assert!(drain(counter.as_fd()).unwrap());
        assert!(!drain(counter.as_fd()).unwrap());
        let path = std::env::temp_dir().join(format!("orlop-event-{}", std::process::id()));
        std::fs::write(&path, "a").unwrap();
        let queue = inotify_init().unwrap();
        inotify_watch_changes(queue.as_fd(), &path).unwrap();
        assert!(!drain(queue.as_fd()).unwrap());
        std::fs::write(&path, "b").unwrap();
        assert!(drain(queue.as_fd()).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
