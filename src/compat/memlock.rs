//! needs    programs that count against the memory cgroup, not against RLIMIT_MEMLOCK
//! since    Linux 5.11
//! instead  lift RLIMIT_MEMLOCK of this process, which its children before now do not inherit, and try again
//! loses    nothing

use std::os::fd::OwnedFd;

use crate::sys::bpf::Instruction;
use crate::sys::{self, Errno, bpf};

/// How often the verifier may be interrupted by a signal (EAGAIN).
const TRIES: u32 = 30;

/// Loads a device program.
///
/// # Errors
/// The kernel's refusal; EPERM means that a right is missing.
pub fn load_device_program(program: &[Instruction]) -> sys::Result<OwnedFd> {
    let mut lifted = false;
    let mut tries = 0;
    loop {
        match bpf::prog_load_cgroup_device(program) {
            Err(refused) if refused.errno == Errno::EPERM && !lifted && bpf::missing_rights().is_empty() => {
                lifted = true;
                if bpf::lift_memlock().is_err() {
                    return Err(refused);
                }
            }
            Err(refused) if refused.errno == Errno::EAGAIN && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}
