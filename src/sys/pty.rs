//! Pseudo-terminals and terminals: pty(7), ioctl_tty(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use super::{Result, fd, file, refused};

/// Lets the peer of a master be opened. TIOCSPTLCK.
pub fn unlockpt(master: BorrowedFd<'_>) -> Result<()> {
    rustix::pty::unlockpt(master).map_err(refused!("ioctl", "{}, TIOCSPTLCK", fd(&master)))
}

/// Name of a master's peer in the file system it comes from: `/dev/pts/0`. TIOCGPTN.
pub fn ptsname(master: BorrowedFd<'_>) -> Result<String> {
    let name = rustix::pty::ptsname(master, Vec::new()).map_err(refused!("ioctl", "{}, TIOCGPTN", fd(&master)))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Whether this is the number of a peer: the majors of Unix98 pseudo-terminals (Documentation/admin-guide/devices.txt).
pub fn is_peer(device: u64) -> bool {
    (136..=143).contains(&file::major(device))
}

/// Opens the peer of a master, without any name. TIOCGPTPEER, Linux 4.13.
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::pty::ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .map_err(refused!("ioctl", "{}, TIOCGPTPEER", fd(&master)))
}

/// Makes a terminal the controlling one of this session's leader. TIOCSCTTY.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).map_err(refused!("ioctl", "{}, TIOCSCTTY", fd(&terminal)))
}

/// Rows and columns of a terminal. TIOCGWINSZ.
pub fn window_size(terminal: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).map_err(refused!("ioctl", "{}, TIOCGWINSZ", fd(&terminal)))?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets rows and columns; the kernel tells the foreground group by SIGWINCH. TIOCSWINSZ.
pub fn set_window_size(terminal: BorrowedFd<'_>, (rows, columns): (u16, u16)) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).map_err(refused!(
        "ioctl",
        "{}, TIOCSWINSZ, {rows}x{columns}",
        fd(&terminal)
    ))
}

/// Whether it is a terminal at all. TCGETS.
pub fn is_terminal(file: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(file)
}

/// The modes a terminal had.
#[derive(Debug)]
pub struct Modes(Termios);

/// Hands every byte through as it is, and returns the modes before. termios(3) cfmakeraw.
pub fn make_raw(terminal: BorrowedFd<'_>) -> Result<Modes> {
    let before = rustix::termios::tcgetattr(terminal).map_err(refused!("ioctl", "{}, TCGETS", fd(&terminal)))?;
    let mut raw = before.clone();
    raw.make_raw();
    set(terminal, &raw)?;
    Ok(Modes(before))
}

/// Hands line ends through as the programs on the terminal write them, without a carriage return. termios(3) ONLCR.
pub fn keep_line_ends(terminal: BorrowedFd<'_>) -> Result<()> {
    let mut modes = rustix::termios::tcgetattr(terminal).map_err(refused!("ioctl", "{}, TCGETS", fd(&terminal)))?;
    modes.output_modes -= rustix::termios::OutputModes::ONLCR;
    set(terminal, &modes)
}

/// Gives a terminal its modes back.
pub fn restore(terminal: BorrowedFd<'_>, modes: &Modes) -> Result<()> {
    set(terminal, &modes.0)
}

fn set(terminal: BorrowedFd<'_>, modes: &Termios) -> Result<()> {
    rustix::termios::tcsetattr(terminal, OptionalActions::Drain, modes).map_err(refused!(
        "ioctl",
        "{}, TCSETSW",
        fd(&terminal)
    ))
}

/// Makes one file this process's standard input, output and error. dup2(2).
pub fn become_stdio<F: AsFd>(file: &F) -> Result<()> {
    rustix::stdio::dup2_stdin(file).map_err(refused!("dup2", "{}, 0", fd(file)))?;
    rustix::stdio::dup2_stdout(file).map_err(refused!("dup2", "{}, 1", fd(file)))?;
    rustix::stdio::dup2_stderr(file).map_err(refused!("dup2", "{}, 2", fd(file)))
}
