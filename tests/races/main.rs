//! What others do to a launch while it runs: look into it, kill it, refuse it memory, move the ground under it.
//!
//! Races are held still by failpoints (`src/launch/cursor.rs`, in test builds alone), and then tried for real, a bounded
//! number of times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod failpoint;
mod faults;
mod injected;
mod shapes;
mod storms;
mod watched;
