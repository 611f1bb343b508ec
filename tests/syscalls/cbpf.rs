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
    fn word(&self, offset: u32) -> u32 {
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
    let (mut accumulator, mut at, mut steps) = (0u32, 0usize, 0usize);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
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
}

/// Whether a comparison looks at the wrong word: at different ones, depending on the way to it, or at the architecture
/// where a number is meant.
///
/// libseccomp 2.5 shares blocks of instructions that rely on what an earlier block has loaded, and now and then
/// reaches them from one that has loaded something else, or nothing: it then compares the low word of an argument with
/// what was asked of the high one, or a call's number with the architecture.
pub fn is_miscompiled(program: &[sock_filter], architectures: &[u32]) -> bool {
    type Word = (u32, u32);
    let mut before: Vec<Vec<Word>> = vec![Vec::new(); program.len()];
    for (at, instruction) in program.iter().enumerate() {
        let sock_filter { code, jt, jf, k } = *instruction;
        let words = before[at].clone();
        if matches!(code, 0x15 | 0x25 | 0x35 | 0x45)
            && (words.len() > 1 || words[0].0 == 4 && !architectures.contains(&k))
        {
            return true;
        }
        let (next, words) = match code {
            0x20 => (vec![at + 1], vec![(k, u32::MAX)]),
            0x54 => (vec![at + 1], words.iter().map(|(offset, mask)| (*offset, mask & k)).collect()),
            0x05 => (vec![at + 1 + k as usize], words),
            0x06 => (vec![], words),
            _ => (vec![at + 1 + usize::from(jt), at + 1 + usize::from(jf)], words),
        };
        for next in next {
            for word in &words {
                if !before[next].contains(word) {
                    before[next].push(*word);
                }
            }
        }
    }
    false
}
