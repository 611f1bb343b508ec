//! Attaching the device program to a cgroup of v2.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::devices::FIELD;
use crate::compat;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::bpf::{self, BPF_F_ALLOW_MULTI, Instruction};
use crate::sys::{self, Errno};

/// Attaches the program to a cgroup that was just made and has none.
pub fn attach(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> Result<()> {
    let done = compat::memlock::load_device_program(program)
        .and_then(|program| bpf::prog_attach(cgroup, program.as_fd(), BPF_F_ALLOW_MULTI, None));
    explained(done, "attach the device program")
}

/// Puts the program in the place of those that the cgroup has, at no moment with none (T30).
///
/// Programs that may not be looked at (an LSM guards them) stay: another one can only take away.
pub fn replace(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> Result<()> {
    let done = compat::memlock::load_device_program(program).and_then(|program| {
        let old = attached(cgroup)?;
        compat::bpf_replace::replace(cgroup, program.as_fd(), &old)
    });
    explained(done, "replace the device program")
}

/// Detaches every program: all devices are allowed.
pub fn detach(cgroup: BorrowedFd<'_>) -> Result<()> {
    let done =
        attached(cgroup).and_then(|old| old.iter().try_for_each(|program| bpf::prog_detach(cgroup, program.as_fd())));
    explained(done, "detach the device program")
}

fn attached(cgroup: BorrowedFd<'_>) -> sys::Result<Vec<OwnedFd>> {
    let mut programs = Vec::new();
    for id in bpf::prog_query(cgroup)? {
        match bpf::prog_get_fd_by_id(id) {
            Ok(program) => programs.push(program),
            // It was detached a moment ago, or a security module guards it.
            Err(refused) if matches!(refused.errno, Errno::ENOENT | Errno::EACCES) => {}
            Err(refused) => return Err(refused),
        }
    }
    Ok(programs)
}

/// EPERM of bpf(2) does not tell what is missing; we do.
fn explained(done: sys::Result<()>, doing: &'static str) -> Result<()> {
    let Err(refused) = done else { return Ok(()) };
    let permission = matches!(refused.errno, Errno::EPERM | Errno::EACCES);
    let missing = if permission { bpf::missing_rights() } else { Vec::new() };
    let hint = match (permission, missing.is_empty()) {
        (false, _) => return Err(refused).doing(doing).at(|| FIELD.to_owned()),
        (true, false) => format!("this process lacks {}", missing.join(" and ")),
        (true, true) => {
            "its rights hold only in a user namespace, or a security module or filter forbids bpf(2)".into()
        }
    };
    Err(refused)
        .doing_with(|| format!("device programs need CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN): {hint}"))
        .doing(doing)
        .at(|| FIELD.to_owned())
}

/// The same for the lines of v1, which also meet EPERM where the cgroup above allows less than is asked for.
pub fn explained_v1(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.errno() == Some(Errno::EPERM) => {
            let hint = if bpf::missing_rights().is_empty() {
                "the cgroup above may not allow the device, or the right holds only in a user namespace"
            } else {
                "this process lacks it"
            };
            Err(error).doing(format!("device rules of cgroup v1 need CAP_SYS_ADMIN: {hint}"))
        }
        done => done,
    }
}

/// Whether the refusal is one for want of rights.
pub fn is_forbidden(error: &Error) -> bool {
    error.kind() == Kind::Other && matches!(error.errno(), Some(Errno::EPERM | Errno::EACCES))
}
