//! From words to meaning: `config.json` to [`Config`].
//!
//! Pure: no file, no clock, no system call. Everything that can be said about a config without looking
//! at the host is said here, before any effect.

#![forbid(unsafe_code)]

mod config;
mod invalid;

pub use config::*;
pub use invalid::{Invalid, Warning};
