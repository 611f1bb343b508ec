//! The home directory of a user, from the container's `/etc/passwd` (passwd(5)).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;

/// More than any real passwd file; what comes after is not read (a 10 MB line, `/dev/zero` behind a link).
const MOST_BYTES: u64 = 1 << 20;

/// The home directory of the user with this number, `/` where there is none. Inside the container.
///
/// The number is compared with the third field alone, never with a name (CVE-2016-3697). A FIFO does not block, a
/// device or a directory is not read.
pub fn home(uid: u32) -> String {
    open().and_then(|file| home_in(file.take(MOST_BYTES), uid)).unwrap_or_else(|| "/".to_owned())
}

fn open() -> Option<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/etc/passwd").ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}

fn home_in(passwd: impl Read, uid: u32) -> Option<String> {
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
