//! The home directory of a user, from the container's `/etc/passwd` (passwd(5)).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

use crate::compat::magic_links;
use crate::sys::file::{self, FileType, OFlags};

/// More than any real passwd file; what comes after is not read (a 10 MB line, `/dev/zero` behind a link).
const MOST_BYTES: u64 = 1 << 20;

/// The home directory of the user with this number, `/` where there is none. Inside the container.
///
/// The number is compared with the third field alone, never with a name (CVE-2016-3697). A FIFO does not block, a
/// device or a directory is not read.
pub fn home(uid: u32) -> String {
    open().and_then(|file| home_in(file.take(MOST_BYTES), uid)).unwrap_or_else(|| "/".to_owned())
}

/// Not through a link like `/proc/self/fd/7`, which would lead out of the container.
fn open() -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = magic_links::open(Path::new("/etc/passwd"), flags).ok()?;
    let stat = file::fstat(file.as_fd()).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| File::from(file))
}

pub(crate) fn home_in(passwd: impl Read, uid: u32) -> Option<String> {
    let mut reader = BufReader::with_capacity(4096, passwd);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if let Some(home) = home_of(line.trim_ascii_end(), uid) {
            return Some(home);
        }
    }
}

/// The sixth field of a line, if the third is this number in plain decimal and the field is of use.
fn home_of(line: &[u8], uid: u32) -> Option<String> {
    let mut fields = line.split(|&byte| byte == b':');
    let number = std::str::from_utf8(fields.nth(2)?).ok()?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) || number.parse() != Ok(uid) {
        return None;
    }
    let home = std::str::from_utf8(fields.nth(2)?).ok()?;
    (!home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_from(passwd: &[u8], uid: u32) -> Option<String> {
        home_in(passwd, uid)
    }

    #[test]
    fn compares_the_third_field_as_a_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:Web,,,:/var/www:/bin/false\n";
        assert_eq!(home_from(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(home_from(passwd, 33).as_deref(), Some("/var/www"));
        assert_eq!(home_from(passwd, 1000), None);
        // CVE-2016-3697: a user named 1000.
        assert_eq!(home_from(b"1000:x:0:0::/evil:/bin/sh\n", 1000), None);
    }

    #[test]
    fn hostile_lines_are_passed_over() {
        for line in [
            "",
            ":",
            "#comment",
            "user",
            "user:x:7",
            "user:x:7:7:gecos",
            "user:x:7:7:gecos:",
            "user:x:+7:7:gecos:/evil:",
            "user:x: 7:7:gecos:/evil:",
            "user:x:-7:7:gecos:/evil:",
            "user:x:07x:7:gecos:/evil:",
            "user:x::7:gecos:/evil:",
            "user:x:4294967303:7:gecos:/evil:",
            "user:x:18446744073709551623:7:gecos:/evil:",
            "user:x:7:7:gecos:/e\0vil:",
        ] {
            let passwd = format!("{line}\nuser:x:7:7:gecos:/good:/bin/sh\n");
            assert_eq!(home_from(passwd.as_bytes(), 7).as_deref(), Some("/good"), "{line:?}");
        }
        assert_eq!(home_from(b"u:x:7:7:\xff:/good:\n", 7).as_deref(), Some("/good"));
        assert_eq!(home_from(b"u:x:7:7::/\xff:\n", 7), None);
        assert_eq!(home_from(b"u:x:7:7::/good", 7).as_deref(), Some("/good"), "no end of line");
        assert_eq!(home_from(b"u:x:7:7::/good\r\n", 7).as_deref(), Some("/good"), "DOS line ends");
        assert_eq!(home_from(b"0:x:0:0::/zero:\n", 0).as_deref(), Some("/zero"));
    }

    #[test]
    fn an_endless_line_ends() {
        let endless = std::io::repeat(b'x').take(MOST_BYTES);
        assert_eq!(home_in(endless, 0), None);
    }
}
