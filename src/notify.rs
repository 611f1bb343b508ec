//! sd_notify(3) for containers: a socket of ours inside, relayed to the service manager's outside.
//!
//! With `NOTIFY_SOCKET` set, `create` shows the container a part of its state directory at `/run/notify`, and tells it
//! of the socket there; whoever starts the container listens on it until the program says that it is ready, and then
//! tells the service manager, with the program's process id as it is outside. Nothing else goes through: what a
//! container says is not to be believed by a service manager (`MAINPID=`, `FDSTORE=1`).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use specconv::{Attributes, Bind, Config, Mount, MountKind, MountTarget, Propagation, PropagationKind};

use crate::compat::mount_setattr::attribute;
use crate::error::{Context, Result};
use crate::sys::Errno;
use crate::sys::descriptor::{Progress, Watch, pipe, poll, read, set_nonblocking};
use crate::sys::file::{AtFlags, Mode, OFlags, fchmodat, mkdirat, openat, umask, unlinkat};
use crate::sys::socket::{bind_unix_datagram, connect_unix_datagram, send_with_fds};

/// The directory in the state directory, and where the container sees it.
const DIRECTORY: &str = "notify";
const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";
/// The container has only to reach the socket.
const INERT: u64 = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;

/// How long a service manager may take to read what it was told (runc waits as long).
const BARRIER: Duration = Duration::from_secs(30);

/// The service manager's socket, if there is one: a path, or `@` and an abstract name.
pub fn requested() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
}

/// Adds the directory in `state_directory` and the variable to what the container will be.
pub fn show_in(config: &mut Config, state_directory: &Path) {
    config.mounts.push(Mount {
        index: config.mounts.len(),
        destination: PathBuf::from(INSIDE),
        kind: MountKind::Bind(Bind {
            source: state_directory.join(DIRECTORY),
            recursive: false,
            copy_symlink: false,
            source_nofollow: false,
        }),
        attributes: Attributes { set: INERT, clear: 0 },
        recursive: Attributes::default(),
        // With a shared root, what the container mounts there would appear in the state directory.
        propagation: vec![Propagation { kind: PropagationKind::Private, recursive: false }],
        id_map: None,
        target: MountTarget::default(),
    });
    if let Some(process) = &mut config.process {
        process.env.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    }
}

/// Makes the directory that [`show_in`] shows.
pub fn make_directory(state_directory: BorrowedFd<'_>) -> Result<()> {
    let (name, mode) = (Path::new(DIRECTORY), Mode::from_raw_mode(0o755));
    // Again without the umask: the program may be anybody.
    mkdirat(state_directory, name, mode)
        .and_then(|()| fchmodat(state_directory, name, mode))
        .doing("make the notify directory")
}

/// Listens inside, and tells outside.
#[derive(Debug)]
pub struct Relay {
    inside: OwnedFd,
    manager: OwnedFd,
}

impl Relay {
    /// Listens for a container that was created with [`show_in`]; `None` for one that was not. To be called before
    /// the program can run.
    pub fn listen(state_directory: BorrowedFd<'_>, manager: &OsString) -> Result<Option<Relay>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let directory = match openat(state_directory, Path::new(DIRECTORY), flags, Mode::empty()) {
            Err(refused) if refused.errno == Errno::ENOENT => return Ok(None),
            opened => opened?,
        };
        Relay::between(directory.as_fd(), manager).doing("listen for the container's notification").map(Some)
    }

    fn between(directory: BorrowedFd<'_>, manager: &OsString) -> Result<Relay> {
        let name = Path::new(SOCKET);
        match unlinkat(directory, name, AtFlags::empty()) {
            // One is left where a `start` failed.
            Err(refused) if refused.errno != Errno::ENOENT => return Err(refused.into()),
            _ => {}
        }
        // The program may be anybody. Not by chmod: a container with rights enough has another thing of that name by then.
        let mask = umask(Mode::empty());
        let inside = bind_unix_datagram(directory, name);
        umask(mask);
        let inside = inside?;
        set_nonblocking(&inside)?;
        Ok(Relay { inside, manager: connect_unix_datagram(Path::new(manager))? })
    }

    /// Readable when the container has said something; then [`Relay::relay`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }

    /// Hears what the container says; if it is that it is ready, tells the service manager, and answers `true`.
    pub fn relay(&self, pid: i32) -> Result<bool> {
        let mut datagram = [0; 4096];
        // Descriptors that come along are closed by the kernel, as nothing here receives them.
        while let Progress::Bytes(length) = read(&self.inside, &mut datagram)? {
            if is_ready(datagram.get(..length).unwrap_or_default()) {
                let text = format!("MAINPID={pid}\nREADY=1\n");
                send_with_fds(&self.manager, text.as_bytes(), &[]).doing("notify the service manager")?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until the container is ready or has ended, and until the service manager has heard of it: it believes
    /// only processes that are still there.
    pub fn serve(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        loop {
            let [said, ended] = poll(&[Watch::Read(self.fd()), Watch::Read(pidfd)], None)?;
            if said && self.relay(pid)? {
                return self.wait_until_heard();
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// sd_notify_barrier(3): the manager closes the descriptor when it has read all that came before.
    fn wait_until_heard(&self) -> Result<()> {
        let (ours, theirs) = pipe()?;
        send_with_fds(&self.manager, b"BARRIER=1", &[theirs.as_fd()]).doing("notify the service manager")?;
        drop(theirs);
        poll(&[Watch::Read(ours.as_fd())], Some(BARRIER))?;
        Ok(())
    }
}

/// Whether one of the lines is `READY=1`; runc looks at the first alone, and misses it after a `STATUS=`.
pub(crate) fn is_ready(datagram: &[u8]) -> bool {
    datagram.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::fs::File;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("orlop-notify-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn ready_may_stand_on_any_line() {
        assert!(is_ready(b"READY=1") && is_ready(b"STATUS=up\nREADY=1\n") && is_ready(b"READY=1\nSTATUS=READY"));
        assert!(!is_ready(b"STATUS=READY=1") && !is_ready(b"READY=10") && !is_ready(b"") && !is_ready(b"RELOADING=1"));
    }

    #[test]
    fn only_readiness_goes_through() {
        let path = folder("relay");
        let state = File::open(&path).unwrap();
        let manager = UnixDatagram::bind(path.join("manager.sock")).unwrap();
        let name = path.join("manager.sock").into_os_string();
        assert!(Relay::listen(state.as_fd(), &name).unwrap().is_none(), "the container knows of no socket");
        make_directory(state.as_fd()).unwrap();
        let relay = Relay::listen(state.as_fd(), &name).unwrap().unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.connect(path.join("notify/notify.sock")).unwrap();
        program.send(b"MAINPID=1\nFDSTORE=1").unwrap();
        assert!(!relay.relay(42).unwrap());
        program.send(b"STATUS=fine\nREADY=1\nMAINPID=1").unwrap();
        assert!(relay.relay(42).unwrap());
        let mut heard = [0; 100];
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"MAINPID=42\nREADY=1\n");
        // A second listener takes the place of the first.
        Relay::listen(state.as_fd(), &name).unwrap().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn an_abstract_manager_is_told_and_waited_for() {
        let path = folder("abstract");
        let state = File::open(&path).unwrap();
        let name = format!("orlop-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        make_directory(state.as_fd()).unwrap();
        let relay = Relay::listen(state.as_fd(), &format!("@{name}").into()).unwrap().unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.send_to(b"READY=1", path.join("notify/notify.sock")).unwrap();
        let pidfd = crate::sys::process::pidfd_open(std::process::id() as i32).unwrap();
        let listener = std::thread::spawn(move || {
            let mut heard = [0; 100];
            let first = manager.recv(&mut heard).unwrap();
            assert_eq!(&heard[..first], b"MAINPID=7\nREADY=1\n");
            // Receiving without room for the descriptor closes it: the barrier.
            let second = manager.recv(&mut heard).unwrap();
            assert_eq!(&heard[..second], b"BARRIER=1");
        });
        let begun = std::time::Instant::now();
        relay.serve(7, pidfd.as_fd()).unwrap();
        assert!(begun.elapsed() < BARRIER);
        listener.join().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }
}
