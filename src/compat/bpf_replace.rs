//! needs    BPF_F_REPLACE, which puts one program in another's place
//! since    Linux 5.6
//! instead  attach the new program beside the old ones, then detach those
//! loses    nothing in safety: in between both must agree, so that access is narrower, never wider

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::bpf::{BPF_F_ALLOW_MULTI, BPF_F_REPLACE};
use crate::sys::{self, Errno, bpf};

/// Puts `new` where the programs `old` are: at no moment is there none.
///
/// # Errors
/// The kernel's refusal. The old programs then still stand.
pub fn replace(cgroup: BorrowedFd<'_>, new: BorrowedFd<'_>, old: &[OwnedFd]) -> sys::Result<()> {
    if let [only] = old {
        match bpf::prog_attach(cgroup, new, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, Some(only.as_fd())) {
            // An older kernel knows no such flag; or the program was attached by other means.
            Err(refused) if matches!(refused.errno, Errno::EINVAL | Errno::ENOENT) => {}
            done => return done,
        }
    }
    bpf::prog_attach(cgroup, new, BPF_F_ALLOW_MULTI, None)?;
    for program in old {
        bpf::prog_detach(cgroup, program.as_fd())?;
    }
    Ok(())
}
