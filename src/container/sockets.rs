//! The sockets over which others get a handle of the container's: its terminal, its init, its filter's notifications.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::ProgramPlan;
use crate::seccomp;
use crate::sys::socket;
use crate::terminal;

/// runc's two rules about who gets the terminal, in its words.
pub(super) fn check_terminal(terminal: bool, detach: bool, console_socket: bool) -> Result<()> {
    let sentence = match (terminal, detach, console_socket) {
        (true, true, false) => "cannot allocate tty if runc will detach without setting console socket",
        (false, _, true) | (_, false, true) => "cannot use console socket if runc will not detach or allocate tty",
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Invalid, sentence))
}

/// Where the terminal's master goes: our end, where we are to serve it in the foreground, and the end it is sent
/// into.
pub(super) fn console(program: &ProgramPlan, socket: Option<&Path>) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if program.process.terminal.is_none() {
        return Ok((None, None));
    }
    match socket {
        Some(path) => Ok((None, Some(terminal::connect(path)?))),
        None => {
            let (ours, theirs) = socket::socketpair_seqpacket().doing("make a socket for the terminal")?;
            Ok((Some(ours), Some(theirs)))
        }
    }
}

/// Connects to who gets a pidfd of the process.
pub(super) fn pidfd_receiver(path: Option<&Path>) -> Result<Option<OwnedFd>> {
    let connect = |path| socket::connect_unix(path).doing("connect to the pidfd socket");
    path.map(connect).transpose()
}

/// Connects to who answers the filter's notifications.
pub(super) fn agent(program: &ProgramPlan) -> Result<Option<OwnedFd>> {
    program.seccomp.as_ref().and_then(|filter| filter.listener.as_ref()).map(seccomp::listener::connect).transpose()
}
