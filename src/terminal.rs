//! Terminals: the pseudo-terminal, the console socket, and standing in for a terminal in the foreground.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use specconv::TerminalSize;

use crate::compat::openat2::{Mounts, open_beneath};
use crate::compat::pidfd;
use crate::compat::pty_peer;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::descriptor::{Progress, Watch, poll, read, set_nonblocking, write, write_all};
use crate::sys::file::{Mode, OFlags, fstatfs};
use crate::sys::process::{self, Child, Ended, reap_any, waitid_nohang};
use crate::sys::signal::{Set, next_signal, set_mask, signalfd};
use crate::sys::socket::{connect_unix, receive_with_fds, send_with_fds};
use crate::sys::{Errno, pty};

/// DEVPTS_SUPER_MAGIC (statfs(2)).
const DEVPTS: u64 = 0x1cd1;

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
        Ok(pty::set_window_size(self.master.as_fd(), (size.height, size.width))?)
    }
}

/// Opens a pseudo-terminal of the devpts at `/dev/pts` beneath `root`.
///
/// Nothing is opened by name that the image could have made: `/dev/pts` must be a devpts, reached without a
/// link; ptmx is opened in that very file system, where nobody can make nodes, and the peer through the
/// master (CVE-2025-52565, CVE-2026-88264).
pub fn open_pair(root: BorrowedFd<'_>) -> Result<Pair> {
    open_pair_in(root).doing("make a terminal").at(|| "process.terminal".to_owned())
}

fn open_pair_in(root: BorrowedFd<'_>) -> Result<Pair> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = open_beneath(root, Path::new("dev/pts"), flags, Mode::empty(), Mounts::Cross)?;
    if fstatfs(directory.as_fd())?.magic != DEVPTS {
        return Err(Error::new(Kind::Invalid, "/dev/pts of the container is not a devpts; mount one there"));
    }
    // Not something that was mounted on the node.
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = open_beneath(directory.as_fd(), Path::new("ptmx"), flags, Mode::empty(), Mounts::Stay)?;
    pty::unlockpt(master.as_fd())?;
    let peer = pty_peer::open(directory.as_fd(), master.as_fd())?;
    let name = pty::ptsname(master.as_fd())?;
    Ok(Pair { master, peer, name })
}

/// Connects to `--console-socket`; the parent does it before there is a container.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    connect_unix(path).doing("connect to the console socket")
}

/// Sends the master over a connected console socket: one descriptor, and the peer's name as data.
pub fn send(socket: BorrowedFd<'_>, pair: &Pair) -> Result<()> {
    // A stream takes a message this short in one piece or not at all.
    send_with_fds(&socket, pair.name.as_bytes(), &[pair.master.as_fd()])
        .doing("send the terminal to its console socket")?;
    Ok(())
}

/// Receives the master that init sent with [`send`] over a socket pair (a foreground `run -t`).
pub fn receive(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut name = [0; 4096];
    let mut received = receive_with_fds(&socket, &mut name).doing("receive the terminal")?;
    match (received.fds.pop(), received.fds.is_empty()) {
        // It comes from a process beside others: what we copy to and from must be what it should be.
        (Some(master), true) if pty::ptsname(master.as_fd()).is_ok() => Ok(master),
        (Some(_), true) => Err(Error::new(Kind::Other, "receive the terminal: what came is not its master")),
        _ => Err(Error::new(Kind::Other, "receive the terminal: expected exactly one descriptor")),
    }
}

/// Makes the peer the controlling terminal of this process, which leads its session, and its 0, 1 and 2.
pub fn adopt(peer: OwnedFd) -> Result<()> {
    pty::set_controlling_terminal(peer.as_fd()).doing("take the terminal over")?;
    pty::become_stdio(&peer).doing("take the terminal over")?;
    Ok(())
}

/// Something else to be served while we wait in the foreground.
pub trait Guest: std::fmt::Debug {
    /// Readable when there is something to do.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Does it for this process; `true` when there will be nothing more to do.
    fn serve(&mut self, child: &Child) -> bool;
}

/// Standing in the foreground for a process: signals forwarded to it, its terminal copied, its end awaited.
#[derive(Debug)]
pub struct Foreground {
    guest: Option<Box<dyn Guest>>,
    signals: OwnedFd,
    mask_before: Set,
    screen: Option<Screen<'static>>,
    reaps: bool,
}

/// What must not wait in a queue: faults of our own, SIGPIPE (our own writes), and SIGURG, which Go programs send
/// themselves all the time; 32 and 33 are the C library's.
const FORWARDED: Set = Set::ALL
    .without(libc::SIGKILL)
    .without(libc::SIGSTOP)
    .without(libc::SIGSEGV)
    .without(libc::SIGBUS)
    .without(libc::SIGFPE)
    .without(libc::SIGILL)
    .without(libc::SIGTRAP)
    .without(libc::SIGABRT)
    .without(libc::SIGSYS)
    .without(libc::SIGPIPE)
    .without(libc::SIGURG)
    .without(32)
    .without(33);

impl Foreground {
    /// Begins to collect signals instead of dying of them. To be called before the process is started, so that
    /// none is lost; a program executed by us gets a clean mask ([`crate::signal::reset_all`]).
    pub fn begin() -> Result<Self> {
        let signals = signalfd(FORWARDED).doing("collect signals")?;
        Ok(Foreground { signals, mask_before: set_mask(FORWARDED), screen: None, reaps: false, guest: None })
    }

    /// Makes us the parent of the process's orphans, and reaps whatever child of ours ends.
    ///
    /// For a program whose children are all the container's, not for a library's caller.
    pub fn adopt_orphans(&mut self) -> Result<()> {
        process::set_child_subreaper()?;
        self.reaps = true;
        Ok(())
    }

    /// Serves a guest as well.
    pub fn invite(&mut self, guest: impl Guest + 'static) {
        self.guest = Some(Box::new(guest));
    }

    /// Connects our own terminal, now in raw mode, with the process's.
    pub fn attach(&mut self, master: OwnedFd) -> Result<()> {
        self.screen = Some(Screen::new(master, Streams::ours()).doing("connect the terminals")?);
        Ok(())
    }

    /// Serves until the process, a child of ours, ends; returns its exit code, or 128 and the signal that killed it.
    ///
    /// Our terminal has its modes back when this returns, in whatever way.
    pub fn wait(mut self, child: &Child) -> Result<i32> {
        let ended = self.serve(child).doing("wait for the container")?;
        if let Some(screen) = &mut self.screen {
            screen.drain();
        }
        Ok(ended.code())
    }

    fn serve(&mut self, child: &Child) -> Result<Ended> {
        loop {
            let (input, output, room) =
                self.screen.as_ref().map_or((Watch::Nothing, Watch::Nothing, Watch::Nothing), Screen::watches);
            let guest = self.guest.as_ref().map_or(Watch::Nothing, |guest| Watch::Read(guest.fd()));
            let (signals, end) = (Watch::Read(self.signals.as_fd()), Watch::Read(child.pidfd.as_fd()));
            let watches = [signals, end, input, output, room, guest];
            let pause = self.screen.as_ref().and_then(|screen| screen.hung_up.then_some(REOPENED));
            let [signal, ended, input, output, room, guest] = poll(&watches, pause)?;
            if guest && self.guest.as_mut().is_none_or(|guest| guest.serve(child)) {
                self.guest = None;
            }
            if let Some(screen) = &mut self.screen {
                screen.copy(input, output, room)?;
            }
            if signal && let Some(ended) = self.forward(child)? {
                return Ok(ended);
            }
            if ended && let Some(ended) = waitid_nohang(child.pidfd.as_fd())? {
                return Ok(ended);
            }
        }
    }

    /// Hands the signals on that came; tells the end of the process if one of them was about that.
    fn forward(&mut self, child: &Child) -> Result<Option<Ended>> {
        while let Some(signal) = next_signal(self.signals.as_fd())? {
            match (signal, &self.screen) {
                (libc::SIGCHLD, _) if self.reaps => {
                    while let Some((pid, ended)) = reap_any()? {
                        if pid == child.pid {
                            return Ok(Some(ended));
                        }
                    }
                }
                (libc::SIGCHLD, _) => {}
                (libc::SIGWINCH, Some(screen)) => screen.resize()?,
                _ => match pidfd::signal(child, signal) {
                    Err(refused) if refused.errno != Errno::ESRCH => return Err(refused.into()),
                    _ => {}
                },
            }
        }
        Ok(None)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        set_mask(self.mask_before);
    }
}

/// How often to look whether somebody has reopened a terminal that everybody had closed (an init system does that).
const REOPENED: Duration = Duration::from_millis(100);

/// How long a dead process's last words may take through the terminal.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The streams on our side of the terminal.
#[derive(Debug)]
struct Streams<'a> {
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    /// Whichever of our streams is a terminal, if one is.
    terminal: Option<BorrowedFd<'a>>,
}

impl Streams<'static> {
    fn ours() -> Self {
        use rustix::stdio::{stderr, stdin, stdout};
        let terminal = [stdin(), stdout(), stderr()].into_iter().find(|stream| pty::is_terminal(*stream));
        Streams { input: stdin(), output: stdout(), terminal }
    }
}

/// A terminal of the container's shown on ours.
#[derive(Debug)]
struct Screen<'a> {
    master: OwnedFd,
    streams: Streams<'a>,
    modes: Option<pty::Modes>,
    /// Typed, and not yet taken by the terminal.
    typed: Vec<u8>,
    input_over: bool,
    /// Nobody has the peer open at the moment.
    hung_up: bool,
}

impl<'a> Screen<'a> {
    fn new(master: OwnedFd, streams: Streams<'a>) -> Result<Self> {
        set_nonblocking(&master)?;
        let mut screen = Screen { master, streams, modes: None, typed: Vec::new(), input_over: false, hung_up: false };
        if !pty::is_terminal(screen.streams.output) {
            // A file or a pipe gets the lines as they were written, as from runc.
            pty::keep_line_ends(screen.master.as_fd())?;
        }
        if let Some(terminal) = screen.streams.terminal {
            screen.resize()?;
            screen.modes = Some(pty::make_raw(terminal)?);
        }
        Ok(screen)
    }

    /// Gives the container's terminal the size of ours.
    fn resize(&self) -> Result<()> {
        if let Some(terminal) = self.streams.terminal {
            pty::set_window_size(self.master.as_fd(), pty::window_size(terminal)?)?;
        }
        Ok(())
    }

    /// Our input, its output, room for what was typed.
    fn watches(&self) -> (Watch<'_>, Watch<'_>, Watch<'_>) {
        let waiting = !self.typed.is_empty();
        (
            if self.input_over || waiting { Watch::Nothing } else { Watch::Read(self.streams.input) },
            if self.hung_up { Watch::Nothing } else { Watch::Read(self.master.as_fd()) },
            if waiting && !self.hung_up { Watch::Write(self.master.as_fd()) } else { Watch::Nothing },
        )
    }

    fn copy(&mut self, input: bool, output: bool, room: bool) -> Result<()> {
        let mut buffer = [0; 4096];
        if input {
            match read(&self.streams.input, &mut buffer)? {
                Progress::Bytes(length) => self.typed.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Progress::Later => {}
                Progress::Over => self.input_over = true,
            }
        }
        if (input || room) && !self.typed.is_empty() {
            match write(&self.master, &self.typed)? {
                Progress::Bytes(length) => drop(self.typed.drain(..length)),
                Progress::Later => {}
                Progress::Over => self.typed.clear(),
            }
        }
        if output || self.hung_up {
            self.hung_up = self.show(&mut buffer)? == Progress::Over;
        }
        Ok(())
    }

    /// Copies what the terminal has to show, once.
    fn show(&self, buffer: &mut [u8]) -> Result<Progress> {
        let progress = read(&self.master, buffer)?;
        if let Progress::Bytes(length) = progress {
            // Where nobody looks any more, the process must go on all the same.
            let _ = write_all(&self.streams.output, buffer.get(..length).unwrap_or_default());
        }
        Ok(progress)
    }

    /// Shows what is still on its way, until the last peer is closed or nothing more comes.
    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok([true]) = poll(&[Watch::Read(self.master.as_fd())], Some(LAST_WORDS)) {
            match self.show(&mut buffer) {
                Ok(Progress::Bytes(_)) => {}
                _ => break,
            }
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        if let (Some(terminal), Some(modes)) = (self.streams.terminal, &self.modes) {
            let _ = pty::restore(terminal, modes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::sys::spawn::{Program, spawn};
    use std::ffi::CString;
    use std::io::Read;

    fn root() -> OwnedFd {
        std::fs::File::open("/").unwrap().into()
    }

    /// A shell whose terminal is the peer.
    fn shell(pair: &Pair, script: &str) -> Child {
        let args: Vec<CString> = ["sh", "-c", script].iter().map(|arg| CString::new(*arg).unwrap()).collect();
        let peer = pair.peer.as_fd();
        let program = Program { path: c"/bin/sh", args: &args, env: &[], stdio: [peer, peer, peer] };
        spawn(&program, &mut || {
            process::setsid()?;
            pty::set_controlling_terminal(rustix::stdio::stdin())?;
            crate::sys::signal::reset_all();
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn only_a_master_is_received() {
        let (ours, theirs) = crate::sys::socket::socketpair_seqpacket().unwrap();
        let pair = open_pair(root().as_fd()).unwrap();
        send(theirs.as_fd(), &pair).unwrap();
        assert!(receive(ours.as_fd()).is_ok());
        let (null, root) = (std::fs::File::open("/dev/null").unwrap(), root());
        for other in [pair.peer.as_fd(), null.as_fd(), root.as_fd()] {
            send_with_fds(&theirs, b"/dev/pts/0", &[other]).unwrap();
            assert!(receive(ours.as_fd()).unwrap_err().to_string().contains("not its master"));
        }
    }

    fn foreground_with(master: OwnedFd, input: BorrowedFd<'static>, output: BorrowedFd<'static>) -> Foreground {
        let mut foreground = Foreground::begin().unwrap();
        foreground.screen = Some(Screen::new(master, Streams { input, output, terminal: None }).unwrap());
        foreground
    }

    #[test]
    fn a_pair_is_a_terminal_of_its_size() {
        let pair = open_pair(root().as_fd()).unwrap();
        pair.resize(TerminalSize { height: 7, width: 13 }).unwrap();
        assert!(pair.name.starts_with("/dev/pts/"), "{}", pair.name);
        assert_eq!(pty::window_size(pair.peer.as_fd()).unwrap(), (7, 13));
        let device = rustix::fs::fstat(&pair.peer).unwrap().st_rdev;
        assert_eq!(rustix::fs::major(device), 136);
        assert_eq!(rustix::fs::stat(pair.name.as_str()).unwrap().st_rdev, device);
        assert!(rustix::io::fcntl_getfd(&pair.master).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert!(rustix::io::fcntl_getfd(&pair.peer).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_false_devpts_is_refused() {
        let fake = std::env::temp_dir().join(format!("orlop-pts-{}", std::process::id()));
        std::fs::create_dir_all(fake.join("dev/pts")).unwrap();
        std::os::unix::fs::symlink("/dev/ptmx", fake.join("dev/pts/ptmx")).unwrap();
        let at = std::fs::File::open(&fake).unwrap();
        let message = open_pair(at.as_fd()).unwrap_err().to_string();
        assert!(message.contains("not a devpts"), "{message}");
        std::fs::remove_dir_all(fake.join("dev/pts")).unwrap();
        std::os::unix::fs::symlink("/dev/pts", fake.join("dev/pts")).unwrap();
        let error = open_pair(at.as_fd()).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ELOOP), "{error}");
        std::fs::remove_dir_all(&fake).unwrap();
    }

    #[test]
    fn a_console_socket_gets_one_descriptor_and_the_name() {
        let directory = std::env::temp_dir().join(format!("orlop-{}-{}", "d".repeat(120), std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        // Bound by its short name; the path of it is longer than an address holds.
        let held = std::fs::File::open(&directory).unwrap();
        use std::os::fd::AsRawFd;
        let listener =
            std::os::unix::net::UnixListener::bind(format!("/proc/self/fd/{}/c.sock", held.as_raw_fd())).unwrap();
        let socket = connect(&directory.join("c.sock")).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let pair = open_pair(root().as_fd()).unwrap();
        send(socket.as_fd(), &pair).unwrap();
        let mut buffer = [0; 4096];
        let received = receive_with_fds(&accepted, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], pair.name.as_bytes());
        assert_eq!(received.fds.len(), 1);
        assert_eq!(pty::ptsname(received.fds[0].as_fd()).unwrap(), pair.name);
        send(socket.as_fd(), &pair).unwrap();
        assert_eq!(pty::ptsname(receive(accepted.as_fd()).unwrap().as_fd()).unwrap(), pair.name);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_foreground_copies_both_ways_and_knows_the_exit() {
        let pair = open_pair(root().as_fd()).unwrap();
        let child = shell(&pair, "tty; read line; echo got $line; exit 7");
        let name = pair.name.clone();
        drop(pair.peer);
        let (input, typing) = crate::sys::descriptor::pipe().unwrap();
        let (shown, output) = crate::sys::descriptor::pipe().unwrap();
        write_all(&typing, b"hello\n").unwrap();
        drop(typing);
        let (input, output): (&'static OwnedFd, &'static OwnedFd) = (Box::leak(input.into()), Box::leak(output.into()));
        let code = foreground_with(pair.master, input.as_fd(), output.as_fd()).wait(&child).unwrap();
        assert_eq!(code, 7);
        let mut text = [0; 4096];
        let length = std::fs::File::from(shown).read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        assert!(text.contains(&name) && text.contains("got hello\n"), "{text:?}");
    }

    #[test]
    fn signals_are_forwarded() {
        let pair = open_pair(root().as_fd()).unwrap();
        let foreground = Foreground::begin().unwrap();
        let child = shell(&pair, "exec sleep 60");
        // To this thread alone; the other tests' threads would die of it.
        nix::sys::signal::raise(nix::sys::signal::SIGUSR1).unwrap();
        assert_eq!(foreground.wait(&child).unwrap(), 128 + libc::SIGUSR1);
    }
}
