//! Where a side stands in the table of [`super`].
//!
//! Every step of every side passes through [`Cursor::advance`]. So a failure knows its step; and the tests can hold,
//! fail or end any side at any step: `ORLOP_FAILPOINT=Init:BuildRoot=stop`. A release build knows nothing of that.

use super::Step;
use crate::error::Result;

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The runtime; also `start`, which hears the end of the last step.
    Parent,
    /// Who bears init, and ends.
    Usher,
    /// Who becomes the program.
    Init,
}

/// A side, and the step that it has reached.
#[derive(Debug)]
pub(super) struct Cursor {
    side: Side,
    step: Step,
}

impl Cursor {
    /// A side before its first step.
    pub(super) fn of(side: Side) -> Self {
        Cursor { side, step: Step::Prepare }
    }

    /// The side goes on to this step.
    pub(super) fn advance(&mut self, step: Step) -> Result<()> {
        self.step = step;
        #[cfg(debug_assertions)]
        failpoint::reached(self)?;
        Ok(())
    }

    /// Whom the usher bore goes on from where that stands.
    pub(super) fn become_init(&mut self) -> Result<()> {
        self.side = Side::Init;
        self.advance(self.step)
    }

    /// The step that was reached.
    pub(super) fn step(&self) -> Step {
        self.step
    }
}

#[cfg(debug_assertions)]
mod failpoint {
    use std::os::fd::AsFd;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Cursor;
    use crate::error::{Error, Kind, Result};
    use crate::sys::process;
    use crate::sys::signal::{self, Set, signalfd};

    /// `SIDE:STEP=ACTION`; read by the parent, before there is anybody else.
    static ASKED: OnceLock<String> = OnceLock::new();

    /// A step may be reached twice; who stood there goes on.
    static PASSED: AtomicBool = AtomicBool::new(false);

    pub(super) fn reached(cursor: &Cursor) -> Result<()> {
        let asked = ASKED.get_or_init(|| std::env::var("ORLOP_FAILPOINT").unwrap_or_default());
        let place = format!("{:?}:{:?}", cursor.side, cursor.step);
        let here = asked.split_once('=').filter(|(at, _)| *at == place);
        match here.filter(|_| !PASSED.swap(true, Ordering::Relaxed)) {
            None => Ok(()),
            Some((_, "fail")) => Err(Error::new(Kind::Other, format!("the failpoint at {place}"))),
            Some((_, "kill")) => process::exit(137),
            Some(_) => stop(),
        }
    }

    /// Shows that we are here by the name `failpoint`, and waits for SIGCONT. (Whoever is number 1 of a pid namespace
    /// cannot be stopped by SIGSTOP; what is blocked and waited for reaches it.)
    fn stop() -> Result<()> {
        let before = signal::set_mask(Set::ALL);
        let resumed = signalfd(Set::ALL)?;
        process::set_name(c"failpoint")?;
        while signal::next_signal(resumed.as_fd())? != Some(libc::SIGCONT) {
            process::poll_in(&[resumed.as_fd()], None)?;
        }
        process::set_name(c"orlop")?;
        signal::set_mask(before);
        Ok(())
    }
}
