//! Names of the machine, as its UTS namespace has them (uts_namespaces(7)).

use super::{Result, refused};

/// Sets the host name, up to 64 bytes. sethostname(2).
pub fn sethostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).map_err(refused!("sethostname", "{name:?}"))
}

/// Sets the NIS domain name, up to 64 bytes. setdomainname(2).
pub fn setdomainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).map_err(refused!("setdomainname", "{name:?}"))
}
