//! Why execve refused a file that is there.
//!
//! ENOENT of execve most often means not the program but its interpreter, which the errno does not say. The file
//! is read only after the failure, and only as far as its headers.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::sys::Errno;
use crate::sys::file::{self, CWD, FileType, Mode, OFlags};

/// An interpreter may have an interpreter; the kernel follows five (binfmt, `bprm->buf` loop in fs/exec.c).
const MOST_INTERPRETERS: usize = 5;

/// A sentence about the file that tells more than the errno; `None` where there is nothing to add.
pub(super) fn why(path: &Path, errno: Errno) -> Option<Cow<'static, str>> {
    match errno {
        Errno::ENOENT => missing_interpreter(path, MOST_INTERPRETERS).map(Cow::Owned),
        Errno::ENOEXEC => File::open(path).map(|file| strange_format(&file)),
        Errno::EACCES => Some(Cow::Borrowed(
            "the file, its interpreter or a directory on the way may not be executed by this user, or its file \
             system is mounted noexec",
        )),
        Errno::ETXTBSY => Some(Cow::Borrowed("the file is open for writing")),
        Errno::E2BIG => Some(Cow::Borrowed("process.args and process.env are too large together")),
        Errno::EAGAIN => Some(Cow::Borrowed("the user has more processes than RLIMIT_NPROC allows")),
        _ => None,
    }
}

/// Follows the interpreters of an existing file to the one that is missing.
fn missing_interpreter(path: &Path, left: usize) -> Option<String> {
    let file = File::open(path)?;
    let (interpreter, from) = match file.format() {
        Format::Script { interpreter } => (interpreter, "its first line"),
        Format::Elf { interpreter: Some(interpreter), .. } => (interpreter, "its ELF header"),
        _ => return None,
    };
    if exists(&interpreter) {
        return missing_interpreter(&interpreter, left.checked_sub(1)?);
    }
    let dos = interpreter.as_os_str().as_encoded_bytes().ends_with(b"\r");
    let hint = if dos { ": the lines of the script end with CR LF, as DOS writes them" } else { "" };
    Some(format!("{} exists, but not the interpreter {interpreter:?} that {from} names{hint}", path.display()))
}

fn exists(path: &Path) -> bool {
    crate::sys::exec::stat_mode(path).is_ok()
}

fn strange_format(file: &File) -> Cow<'static, str> {
    match file.format() {
        Format::Empty => Cow::Borrowed("the file is empty"),
        Format::Elf { machine, .. } if Some(machine) != MACHINE => Cow::Owned(format!(
            "the program is built for {}, this machine is {}",
            machine_name(machine),
            std::env::consts::ARCH
        )),
        Format::Elf { .. } => Cow::Borrowed("the ELF file is damaged, or of a kind that this kernel does not run"),
        Format::Script { .. } => Cow::Borrowed("the first line of the script names no usable interpreter"),
        Format::Unknown => Cow::Borrowed("the file is neither an ELF program nor a script that begins with #!"),
    }
}

/// What kind of program a file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Empty,
    Script { interpreter: PathBuf },
    Elf { machine: u16, interpreter: Option<PathBuf> },
    Unknown,
}

/// An open program.
struct File(OwnedFd);

impl File {
    /// Opens regular files alone, without waiting: a FIFO must not keep the report back.
    fn open(path: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = file::openat(CWD, path, flags, Mode::empty()).ok()?;
        let stat = file::fstat(file.as_fd()).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(File(file))
    }

    fn format(&self) -> Format {
        format_of(|offset, length| {
            let mut bytes = vec![0; length];
            let got = file::pread(self.0.as_fd(), &mut bytes, offset).unwrap_or(0);
            bytes.truncate(got);
            bytes
        })
    }
}

/// Reads the headers through `read(offset, length)`, which may give less than it was asked for.
pub(crate) fn format_of(read: impl Fn(u64, usize) -> Vec<u8>) -> Format {
    /// BINPRM_BUF_SIZE: what the kernel looks at.
    const HEAD: usize = 256;
    let head = read(0, HEAD);
    if head.is_empty() {
        Format::Empty
    } else if let Some(line) = head.strip_prefix(b"#!") {
        script(line)
    } else if head.starts_with(b"\x7fELF") {
        elf(&head, read).unwrap_or(Format::Unknown)
    } else {
        Format::Unknown
    }
}

/// The interpreter is the first word of the line (fs/binfmt_script.c); a CR is part of it.
fn script(line: &[u8]) -> Format {
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0);
    let word = line.split(blank).find(|word| !word.is_empty()).unwrap_or_default();
    Format::Script { interpreter: path_of(word) }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// An ELF header of either class and byte order (elf(5)); `None` if it ends early.
fn elf(head: &[u8], read: impl Fn(u64, usize) -> Vec<u8>) -> Option<Format> {
    const PT_INTERP: u64 = 3;
    let wide = *head.get(4)? == 2;
    let order = if *head.get(5)? == 2 { Order::Big } else { Order::Little };
    let machine = u16::try_from(order.number(head, 18, 2)?).ok()?;
    let (table, size, count) = if wide {
        (order.number(head, 32, 8)?, order.number(head, 54, 2)?, order.number(head, 56, 2)?)
    } else {
        (order.number(head, 28, 4)?, order.number(head, 42, 2)?, order.number(head, 44, 2)?)
    };
    // The kernel takes no table above 64 KiB (load_elf_phdrs).
    let table = read(table, usize::try_from(size * count).ok()?.min(65536));
    let segment = table
        .chunks_exact(usize::try_from(size).ok()?.max(32))
        .find(|segment| order.number(segment, 0, 4) == Some(PT_INTERP));
    let interpreter = segment.and_then(|segment| {
        let (offset, length) = if wide {
            (order.number(segment, 8, 8)?, order.number(segment, 32, 8)?)
        } else {
            (order.number(segment, 4, 4)?, order.number(segment, 16, 4)?)
        };
        let text = read(offset, usize::try_from(length).ok()?.min(4096));
        Some(path_of(text.split(|&byte| byte == 0).next()?))
    });
    Some(Format::Elf { machine, interpreter })
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    /// The unsigned number of up to eight bytes at `at`.
    fn number(self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let digits = bytes.get(at..at.checked_add(length)?)?;
        let join = |number: u64, &digit: &u8| (number << 8) | u64::from(digit);
        Some(match self {
            Order::Little => digits.iter().rev().fold(0, join),
            Order::Big => digits.iter().fold(0, join),
        })
    }
}

/// EM_* of <linux/elf-em.h>, under the names that images have.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "mips"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// This machine, if it is one of those.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else if cfg!(target_arch = "riscv64") {
    Some(243)
} else {
    None
};

fn machine_name(machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    known.map_or_else(|| format!("ELF machine {machine}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn of(bytes: &[u8]) -> Format {
        format_of(|offset, length| {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            rest[..length.min(rest.len())].to_vec()
        })
    }

    fn script_of(text: &str) -> Format {
        Format::Script { interpreter: PathBuf::from(text) }
    }

    /// A header with one PT_INTERP, its string directly behind the program header.
    fn elf64(interpreter: &str) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 183;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 3;
        file[64 + 8] = 120;
        file[64 + 32] = interpreter.len() as u8 + 1;
        file.extend(interpreter.as_bytes());
        file.push(0);
        file
    }

    #[test]
    fn reads_first_lines_as_the_kernel_does() {
        assert_eq!(of(b"#!/bin/sh\necho"), script_of("/bin/sh"));
        assert_eq!(of(b"#! \t/usr/bin/env python\n"), script_of("/usr/bin/env"));
        assert_eq!(of(b"#!/bin/sh\r\necho\r\n"), script_of("/bin/sh\r"));
        assert_eq!(of(b"#!"), script_of(""));
        assert_eq!(of(b"echo hello"), Format::Unknown);
        assert_eq!(of(b""), Format::Empty);
    }

    #[test]
    fn finds_the_interpreter_of_an_elf_program() {
        let interpreter = Some(PathBuf::from("/lib/ld-musl-aarch64.so.1"));
        assert_eq!(of(&elf64("/lib/ld-musl-aarch64.so.1")), Format::Elf { machine: 183, interpreter });

        // 32 bits, big-endian: MIPS.
        let mut file = vec![0; 52 + 32];
        file[..6].copy_from_slice(b"\x7fELF\x01\x02");
        (file[19], file[31], file[43], file[45], file[55]) = (8, 52, 32, 1, 3);
        (file[59], file[71]) = (84, 9);
        file.extend(b"/lib/ld.1");
        assert_eq!(of(&file), Format::Elf { machine: 8, interpreter: Some(PathBuf::from("/lib/ld.1")) });
    }

    #[test]
    fn survives_any_elf_header() {
        let whole = elf64("/lib/ld.so");
        for length in 4..whole.len() {
            of(&whole[..length]);
        }
        for at in 4..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut file = whole.clone();
                file[at] = byte;
                of(&file);
            }
        }
        of(&[b"\x7fELF".as_slice(), &[0xff; 300]].concat());
    }

    #[test]
    fn names_the_interpreter_that_is_missing() {
        let dir = std::env::temp_dir().join(format!("orlop-diagnosis-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let script = write("script", b"#!/no/such/shell -e\n");
        let said = why(&script, Errno::ENOENT).unwrap();
        assert!(said.contains("\"/no/such/shell\"") && said.contains("first line"), "{said}");

        // The script's own interpreter exists, but not the loader which that one needs.
        let binary = write("binary", &elf64("/no/such/ld.so"));
        let script = write("script2", format!("#!{}\n", binary.display()).as_bytes());
        let said = why(&script, Errno::ENOENT).unwrap();
        assert!(said.contains("\"/no/such/ld.so\"") && said.contains("ELF header"), "{said}");

        let script = write("dos", b"#!/bin/sh\r\n");
        assert!(why(&script, Errno::ENOENT).unwrap().contains("CR LF"));

        // A script that is its own interpreter ends somewhere.
        let itself = dir.join("itself");
        std::fs::write(&itself, format!("#!{}\n", itself.display())).unwrap();
        assert_eq!(why(&itself, Errno::ENOENT), None);

        let said = why(&binary, Errno::ENOEXEC).unwrap();
        assert!(MACHINE == Some(183) || said.contains("built for aarch64"), "{said}");
        assert!(why(&write("empty", b""), Errno::ENOEXEC).unwrap().contains("empty"));
        assert!(why(&write("text", b"echo\n"), Errno::ENOEXEC).unwrap().contains("#!"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
