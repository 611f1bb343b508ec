//! The kernel's interpreter of classic BPF, as far as filters of system calls use it.

use orlop::seccomp::sock_filter;

/// What the kernel shows to a filter (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub number: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    /// The word at an offset.
    pub fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => (self.args[(offset as usize - 16) / 8] >> (8 * (offset % 8))) as u32,
        }
    }
}

/// What the filter answers, and how many instructions that took.
pub fn run(program: &[sock_filter], data: &Data) -> (u32, usize) {
    let (mut accumulator, mut at) = (0u32, 0usize);
    for steps in 1.. {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x45 => at += branch(accumulator & k != 0),
            0x06 => return (k, steps),
            _ => panic!("instruction {code:#x} at {}", at - 1),
        }
    }
    unreachable!("jumps go forward only")
}
