//! The end of a container.

use std::path::Path;

use crate::{Error, Result};

/// Removes what a stopped container left; with `Force`, ends it first.
pub fn delete(_root: &Path, _id: &str, _how: Deletion) -> Result<Vec<String>> {
    Err(Error::unsupported("delete", "not built yet"))
}

/// How a container is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Only a stopped or created one.
    Gentle,
    /// Whatever it is doing.
    Force,
}
