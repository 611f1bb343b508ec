//! Programs of cgroup v2 (bpf(2)).
//!
//! Linux 6.17 to 7.1 write `query.revision`, at offset 56 of the attribute, whatever size the caller named
//! (fixed by commit 21c4b99b27f3): so every call here passes a zeroed attribute of [`ATTR_SIZE`] bytes, which is
//! more than any field we use needs. Older kernels accept the longer attribute as long as its end is zero.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::{Result, fd, refused};

/// Bytes of the attribute that is passed, always whole.
pub const ATTR_SIZE: usize = 256;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// Other programs may be attached to the same cgroup; all of them must agree.
pub const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
/// Takes the place of the program named with it (Linux 5.6).
pub const BPF_F_REPLACE: u32 = 1 << 2;

/// Most programs that a cgroup can have (BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: usize = 64;

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, operation, source.
    pub code: u8,
    registers: u8,
    /// Distance of a jump, or of a load.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction; the two registers share a byte, in the order of the machine's bit fields.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        let registers =
            if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
        Instruction { code, registers, offset, immediate }
    }

    /// The register that is changed.
    pub const fn destination(&self) -> u8 {
        if cfg!(target_endian = "little") { self.registers & 15 } else { self.registers >> 4 }
    }

    /// The register that is read.
    pub const fn source(&self) -> u8 {
        if cfg!(target_endian = "little") { self.registers >> 4 } else { self.registers & 15 }
    }
}

/// `union bpf_attr`, zero but for what a call sets.
#[repr(C, align(8))]
struct Attr([u8; ATTR_SIZE]);

impl Attr {
    fn new() -> Self {
        Attr([0; ATTR_SIZE])
    }

    fn set(mut self, offset: usize, bytes: &[u8]) -> Self {
        if let Some(place) = self.0.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self
    }

    fn u32(self, offset: usize, value: u32) -> Self {
        self.set(offset, &value.to_ne_bytes())
    }

    fn fd(self, offset: usize, value: BorrowedFd<'_>) -> Self {
        self.set(offset, &value.as_raw_fd().to_ne_bytes())
    }

    fn pointer<T>(self, offset: usize, value: *const T) -> Self {
        self.set(offset, &(value.expose_provenance() as u64).to_ne_bytes())
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        if let Some(place) = self.0.get(offset..offset + 4) {
            bytes.copy_from_slice(place);
        }
        u32::from_ne_bytes(bytes)
    }
}

/// bpf(2). The attribute's pointers must be good for what the command does with them.
fn bpf(command: libc::c_long, attr: &mut Attr) -> nix::Result<i32> {
    // SAFETY: the attribute is ATTR_SIZE bytes that we own, aligned as the kernel's union, and longer than what
    // any kernel writes back. The pointers in it are set by the functions of this module alone, each of which
    // keeps the memory alive (and, for a query, writable and of the length it names) until this returns.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), ATTR_SIZE) };
    Errno::result(done).map(|value| i32::try_from(value).unwrap_or(-1))
}

fn owned(number: i32) -> OwnedFd {
    // SAFETY: bpf(2) has just returned this descriptor to us, close-on-exec, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Loads a program that decides on access to devices. bpf(2) BPF_PROG_LOAD, Linux 4.15 for this type.
///
/// The kernel's EAGAIN (a signal interrupted the verifier) is passed on, as is everything else.
pub fn prog_load_cgroup_device(program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let count = u32::try_from(program.len()).unwrap_or(u32::MAX);
    let mut attr = Attr::new()
        .u32(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .u32(4, count)
        .pointer(8, program.as_ptr())
        .pointer(16, license.as_ptr());
    bpf(BPF_PROG_LOAD, &mut attr)
        .map(owned)
        .map_err(refused!("bpf", "BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {count} instructions"))
}

/// Attaches a program to a cgroup. bpf(2) BPF_PROG_ATTACH. `replaced` goes with [`BPF_F_REPLACE`].
pub fn prog_attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let mut attr = Attr::new().fd(0, cgroup).fd(4, program).u32(8, BPF_CGROUP_DEVICE).u32(12, flags);
    if let Some(replaced) = replaced {
        attr = attr.fd(16, replaced);
    }
    match bpf(BPF_PROG_ATTACH, &mut attr) {
        Ok(_) => Ok(()),
        Err(errno) => {
            Err(refused!("bpf", "BPF_PROG_ATTACH, {}, BPF_CGROUP_DEVICE, flags {flags:#x}", fd(&cgroup))(errno))
        }
    }
}

/// Detaches a program from a cgroup. bpf(2) BPF_PROG_DETACH.
pub fn prog_detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attr = Attr::new().fd(0, cgroup).fd(4, program).u32(8, BPF_CGROUP_DEVICE);
    match bpf(BPF_PROG_DETACH, &mut attr) {
        Ok(_) => Ok(()),
        Err(errno) => Err(refused!("bpf", "BPF_PROG_DETACH, {}, BPF_CGROUP_DEVICE", fd(&cgroup))(errno)),
    }
}

/// Ids of the device programs that are attached to a cgroup itself. bpf(2) BPF_PROG_QUERY, Linux 4.16.
pub fn prog_query(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let most = u32::try_from(ids.len()).unwrap_or(0);
    let mut attr = Attr::new().fd(0, cgroup).u32(4, BPF_CGROUP_DEVICE).pointer(16, ids.as_mut_ptr()).u32(24, most);
    if let Err(errno) = bpf(BPF_PROG_QUERY, &mut attr) {
        return Err(refused!("bpf", "BPF_PROG_QUERY, {}, BPF_CGROUP_DEVICE", fd(&cgroup))(errno));
    }
    let count = usize::try_from(attr.read_u32(24)).unwrap_or(0);
    Ok(ids.iter().copied().take(count).collect())
}

/// A handle on a loaded program. bpf(2) BPF_PROG_GET_FD_BY_ID, Linux 4.13.
pub fn prog_get_fd_by_id(id: u32) -> Result<OwnedFd> {
    bpf(BPF_PROG_GET_FD_BY_ID, &mut Attr::new().u32(0, id))
        .map(owned)
        .map_err(refused!("bpf", "BPF_PROG_GET_FD_BY_ID, {id}"))
}

/// The rights that loading and attaching a device program takes and this process does not have
/// (capabilities(7); before Linux 5.8 CAP_SYS_ADMIN stood for both).
pub fn missing_rights() -> Vec<&'static str> {
    use caps::{CapSet, Capability};
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if has(Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    [(Capability::CAP_BPF, "CAP_BPF"), (Capability::CAP_NET_ADMIN, "CAP_NET_ADMIN")]
        .into_iter()
        .filter(|(capability, _)| !has(*capability))
        .map(|(_, name)| name)
        .collect()
}

/// Lifts RLIMIT_MEMLOCK, against which kernels before 5.11 count programs. setrlimit(2).
pub fn lift_memlock() -> Result<()> {
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited)
        .map_err(refused!("setrlimit", "RLIMIT_MEMLOCK, unlimited"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::os::fd::AsFd;

    use super::*;

    /// T47: what lies behind the attribute stays as it was, on kernels with the bug too.
    #[test]
    fn a_query_writes_nothing_beyond_the_attribute() {
        let Ok(tree) = std::fs::File::open("/sys/fs/cgroup/unified").or_else(|_| std::fs::File::open("/sys/fs/cgroup"))
        else {
            return;
        };
        #[repr(C)]
        struct Guarded {
            attr: Attr,
            guard: [u8; 256],
        }
        let mut ids = [0_u32; MOST_PROGRAMS];
        let attr = Attr::new().fd(0, tree.as_fd()).u32(4, BPF_CGROUP_DEVICE).pointer(16, ids.as_mut_ptr()).u32(24, 64);
        let mut guarded = Guarded { attr, guard: [0xa5; 256] };
        let _ = bpf(BPF_PROG_QUERY, &mut guarded.attr);
        // Where the kernel has no such bug, this alone tells that there was room for it.
        assert!(size_of_val(&guarded.attr) >= 128);
        assert!(guarded.guard.iter().all(|byte| *byte == 0xa5));
        // The kernel's `revision` lies well inside.
        assert!(guarded.attr.0.iter().skip(64).all(|byte| *byte == 0));
    }

    #[test]
    fn instructions_have_the_kernels_layout() {
        assert_eq!(std::mem::size_of::<Instruction>(), 8);
        let instruction = Instruction::new(0x61, 2, 1, 4, 0);
        assert_eq!((instruction.destination(), instruction.source()), (2, 1));
    }
}
