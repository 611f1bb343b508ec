//! A kernel that has less: a seccomp filter around a command, in which some calls are answered with an error.
//!
//! With ENOSYS it plays an older kernel, with EPERM an engine whose filter refuses what it does not know. `cargo matrix`
//! runs the whole suite so: `$ORLOP_WITHOUT` holds the error and the calls, as in `EPERM openat2 clone3`.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use orlop::seccomp::Abi;

/// Puts a filter around the command in which these calls answer with `errno`. (The libc crate has the numbers of some of
/// them for some architectures only.)
pub fn without(command: &mut Command, calls: &[&str], errno: i32) {
    let native = Abi::native().unwrap();
    let number = |name: &str| native.number_of(name).unwrap_or_else(|| panic!("no call {name:?}"));
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // seccomp_data.nr is at offset 0.
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (index, call) in calls.iter().enumerate() {
        let to_refusal = (calls.len() - index) as u8;
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_refusal, 0, number(call)));
    }
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
    let install = move || {
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the filter and its instructions live until the call returns, and the kernel copies them. Between fork and
        // exec this closure makes one system call and allocates nothing.
        let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure is safe to run between fork and exec, as it says itself.
    unsafe { command.pre_exec(install) };
}

/// Puts the filter of `$ORLOP_WITHOUT` around the command, if there is one.
pub fn as_asked(command: &mut Command) {
    let Ok(asked) = std::env::var("ORLOP_WITHOUT") else { return };
    let (errno, calls) = asked.split_once(' ').expect("ORLOP_WITHOUT names an error and calls");
    let errno = match errno {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        other => panic!("ORLOP_WITHOUT: {other:?} is neither ENOSYS nor EPERM"),
    };
    let calls: Vec<_> = calls.split_whitespace().collect();
    without(command, &calls, errno);
}
