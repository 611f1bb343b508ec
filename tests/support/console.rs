//! The far end of a console socket, as an engine has it.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// A listening socket that gets one terminal.
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at this path.
    pub fn at(path: PathBuf) -> ConsoleSocket {
        ConsoleSocket { listener: UnixListener::bind(&path).unwrap(), path }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal: exactly one descriptor, and a little data with it (the slave's name).
    pub fn terminal(&self) -> Terminal {
        let (stream, _) = self.listener.accept().unwrap();
        let mut name = [0u8; 4096];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 4]);
        let mut data = [IoSliceMut::new(&mut name)];
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut data, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let mut fds = Vec::new();
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(more) = part {
                fds.extend(more);
            }
        }
        assert_eq!(fds.len(), 1, "a console socket gets exactly one descriptor");
        assert!(message.bytes > 0 && message.bytes < 4096, "engines refuse {} bytes", message.bytes);
        // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
        let master = unsafe { OwnedFd::from_raw_fd(fds[0]) };
        Terminal { master: std::fs::File::from(master) }
    }
}

/// The master side of a container's terminal.
pub struct Terminal {
    pub master: std::fs::File,
}

impl Terminal {
    /// Reads until the words have come, or the other side has closed.
    #[track_caller]
    pub fn read_until(&mut self, words: &str) -> String {
        let mut text = String::new();
        let start = Instant::now();
        while !text.contains(words) {
            assert!(start.elapsed() < super::patience(10), "no {words:?} in time: {text:?}");
            let mut ready = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let pause = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            if rustix::event::poll(&mut ready, Some(&pause)).unwrap() == 0 {
                continue;
            }
            let mut buffer = [0u8; 4096];
            // EIO: the last slave is closed.
            match self.master.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            }
        }
        assert!(text.contains(words), "the terminal closed without {words:?}: {text:?}");
        text
    }
}
