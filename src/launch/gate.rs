//! The gate: the FIFO that separates creation from start.
//!
//! Init holds it open for reading *and* writing (the parent opened it before the clone, so no path and no
//! procfs is needed inside) and blocks in read(2). `start` opens it for writing, sends one byte, and waits until
//! nobody reads any more: execve closes init's end, and so does its death. What init had to say before that
//! stays in the pipe, which lives as long as `start` holds it open; an empty pipe is success.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::Step;
use super::cursor::{Cursor, Side};
use super::rendezvous::{decode, encode_within};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::descriptor::{self, Progress};

/// The byte that opens the gate.
const GO: u8 = b'0';

/// Init: waits for `start`.
pub fn wait(gate: BorrowedFd<'_>) -> Result<()> {
    descriptor::read(&gate, &mut [0]).map(drop).doing("wait for start")
}

/// Init: tells `start` why the program is not started.
pub fn fail(gate: BorrowedFd<'_>, error: &Error) {
    // A pipe takes a page at once; a longer story would block with nobody reading.
    let _ = descriptor::write(&gate, &encode_within(error, 4096));
}

/// `start`: lets init go on, and waits until it has executed the program, or failed. `writer` is the FIFO opened for
/// writing; `reopen` opens it for reading, and not before it is called: a reader of ours would be one who reads.
///
/// # Errors
/// What init had to say; `container process is already dead` where it said nothing.
pub fn open(writer: OwnedFd, reopen: impl FnOnce() -> Result<OwnedFd>) -> Result<()> {
    Cursor::of(Side::Parent).advance(Step::Exec)?;
    descriptor::write(&writer, &[GO]).doing("tell init to start")?;
    descriptor::wait_for_no_reader(&writer).doing("wait for init to start")?;
    let mut message = vec![0; 8192];
    let length = match descriptor::read(&reopen()?, &mut message).doing("hear from init")? {
        Progress::Bytes(length) => length,
        Progress::Later | Progress::Over => 0,
    };
    match message.get(..length).unwrap_or_default() {
        [] => Ok(()),
        // Init died before it read our byte.
        [GO] => Err(dead()),
        said => Err(decode(said)),
    }
}

/// Nobody waits at the gate.
pub fn dead() -> Error {
    Error::new(Kind::NotRunning, "container process is already dead")
}
