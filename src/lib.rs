//! orlop, a low-level OCI container runtime: what libcontainer offered, as a Rust library.
//!
//! The ranks, from the bottom; nothing imports upward, and the concerns of rank 3 do not import each other
//! (`tests/tidy.rs` holds this table):
//!
//! | rank | modules | what they say |
//! |---|---|---|
//! | 7 | `cli` | words in, words out |
//! | 6 | `container` | what may be done to a container; the only one who touches the state directory |
//! | 5 | `launch` | in which order |
//! | 4 | `plan` | what this host will do: every decision, no effects |
//! | 3 | `rootfs cgroup namespaces identity limits terminal network notify hooks program rdt seccomp sysctl signal seal`, `host` | how |
//! | 2 | `compat`, and `error` | how on an older kernel |
//! | 1 | `sys` | the only one who touches the kernel |
//!
//! The crate `specconv` stands beside them: what the user means.
//!
//! # A container's life
//!
//! [`container`] has all of it: [`container::create`] from a bundle, [`start`](container::Container::start),
//! [`exec`](container::Container::exec), [`processes`](container::Container::processes),
//! [`stats`](container::Container::stats), [`update`](container::Container::update),
//! [`pause`](container::Container::pause) and [`resume`](container::Container::resume),
//! [`notify_oom`](container::Container::notify_oom) and
//! [`notify_memory_pressure`](container::Container::notify_memory_pressure), [`kill`](container::Container::kill),
//! [`container::delete`]. Nothing of it starts a thread; what can be waited for is a descriptor. A caller who has threads
//! has a [`container::Deputy`] create and exec; one who may have been started with SIGCHLD ignored calls
//! [`signal::prepare`] first, or nobody learns how a child ended (wait(2)). `examples/library.rs` is the whole life as a program.
//!
//! ```no_run
//! use orlop::container::{self, Container, Deletion, Notice, Request};
//!
//! # fn main() -> orlop::Result<()> {
//! let root = std::path::Path::new("/run/orlop");
//! let mut container = container::create(&Request::new(root, "web", "/bundles/web"))?.container;
//! container.start()?;
//! let mut notices = container.notify_oom()?;
//! container.update(br#"{"memory": {"limit": 67108864}}"#)?;
//! println!("{} bytes", container.stats()?.memory.usage.usage);
//! while notices.wait(None)? == Notice::Happened {
//!     println!("a process was killed for want of memory");
//! }
//! container::delete(root, "web", Deletion::Gentle)?;
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

pub mod cgroup;
pub mod cli;
mod compat;
pub mod container;
pub mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../fuzz/targets.rs"]
pub mod fuzzing;
pub mod hooks;
pub mod host;
pub mod identity;
pub mod launch;
pub mod limits;
pub mod namespaces;
pub mod network;
pub mod notify;
pub mod plan;
pub mod program;
pub mod rdt;
pub mod rootfs;
pub mod seal;
pub mod seccomp;
pub mod signal;
#[allow(unsafe_code)]
pub mod sys;
pub mod sysctl;
pub mod terminal;

pub use error::{Error, Kind, Result};
