//! Signals for a container.

use super::Container;
use crate::{Error, Result};

impl Container {
    /// Sends a signal to init, or with `All` to every process of the container.
    pub fn kill(&self, _signal: i32, _whom: Whom) -> Result<()> {
        Err(Error::unsupported("kill", "not built yet"))
    }
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Init.
    Init,
    /// Every process of the container.
    All,
}
