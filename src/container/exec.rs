//! A second process in a living container.

use super::{Container, ExecRequest, Execed};
use crate::{Error, Result};

impl Container {
    /// Starts a second process in the container.
    pub fn exec(&self, _request: &ExecRequest) -> Result<Execed> {
        Err(Error::unsupported("exec", "not built yet"))
    }
}
