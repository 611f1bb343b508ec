//! From a bundle to a container that waits for `start`.

use super::{Created, Request};
use crate::{Error, Result};

/// Makes a container; its program does not run before [`super::Container::start`].
pub fn create(_request: &Request) -> Result<Created> {
    Err(Error::unsupported("create", "not built yet"))
}
