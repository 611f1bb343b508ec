//! Terminals: the pseudo-terminal, the console socket, and standing in for a terminal in the foreground.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use specconv::TerminalSize;

use crate::error::{Error, Result};

/// Both ends of a new pseudo-terminal.
#[derive(Debug)]
pub struct Pair {
    /// The end that the engine holds.
    pub master: OwnedFd,
    /// The end that the container's process uses.
    pub peer: OwnedFd,
    /// The peer's name in the container: `/dev/pts/0`.
    pub name: String,
}

impl Pair {
    /// Sets the size.
    pub fn resize(&self, size: TerminalSize) -> Result<()> {
        let _ = size;
        Err(Error::unsupported("process.terminal", "not built yet"))
    }
}

/// Opens a pseudo-terminal of the devpts at `/dev/pts` beneath `root`.
///
/// Nothing is opened by name that the image could have made: `/dev/pts` must be the root of a devpts, reached
/// without a link; ptmx is opened in that file system and the peer through the master (CVE-2025-52565).
pub fn open_pair(root: BorrowedFd<'_>) -> Result<Pair> {
    let _ = root;
    Err(Error::unsupported("process.terminal", "not built yet"))
}

/// Connects to `--console-socket`; the parent does it before there is a container.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let _ = path;
    Err(Error::unsupported("--console-socket", "not built yet"))
}

/// Sends the master over a connected console socket: one descriptor, and the peer's name as data.
pub fn send(socket: BorrowedFd<'_>, pair: &Pair) -> Result<()> {
    let _ = (socket, pair);
    Err(Error::unsupported("--console-socket", "not built yet"))
}

/// Receives the master that init sent with [`send`] over a socket pair (a foreground `run -t`).
pub fn receive(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let _ = socket;
    Err(Error::unsupported("process.terminal", "not built yet"))
}

/// Makes the peer the controlling terminal of this (session-leading) process and its 0, 1 and 2.
pub fn adopt(peer: OwnedFd) -> Result<()> {
    let _ = peer;
    Err(Error::unsupported("process.terminal", "not built yet"))
}

/// Standing in the foreground for a process: signals forwarded to it, its terminal copied, its end awaited.
#[derive(Debug)]
pub struct Foreground {
    master: Option<OwnedFd>,
}

impl Foreground {
    /// Begins to collect signals instead of dying of them. To be called before the process is made.
    pub fn begin() -> Result<Self> {
        Ok(Foreground { master: None })
    }

    /// Connects our own terminal, now in raw mode, with the process's.
    pub fn attach(&mut self, master: OwnedFd) -> Result<()> {
        self.master = Some(master);
        Ok(())
    }

    /// Serves until the process ends; returns its exit code, or 128 and the signal that killed it.
    pub fn wait(self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<i32> {
        let _ = (self.master.as_ref().map(|fd| fd.as_fd()), pidfd, pid);
        Err(Error::unsupported("run", "not built yet"))
    }
}
