//! Lets a created container's init run the program.

use super::Container;
use crate::{Error, Result};

impl Container {
    /// Lets init run the program, and runs the `poststart` hooks.
    pub fn start(&self) -> Result<()> {
        Err(Error::unsupported("start", "not built yet"))
    }
}
