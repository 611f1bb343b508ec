//! Network interfaces: netlink(7), rtnetlink(7), netdevice(7).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Errno, Refused, Result, fd, refused};

/// Length of nlmsghdr, which begins every message.
pub const HEADER: usize = 16;

/// nlmsg_type of answers that are no data.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// nlmsg_flags of [`request`]s: a request that wants an acknowledgement.
const REQUEST_ACK: u16 = 1 | 4;
/// All objects, not one.
pub const DUMP: u16 = 0x300;
/// Make it, and it must not be there yet.
pub const CREATE_NEW: u16 = 0x400 | 0x200;

/// No answer of the kernel's is longer.
const LONGEST: usize = 64 * 1024;

/// A route socket in the caller's network namespace, in which it stays. socket(2), AF_NETLINK.
pub fn route_socket() -> Result<OwnedFd> {
    // NETLINK_ROUTE is protocol 0.
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(refused!("socket", "AF_NETLINK, NETLINK_ROUTE"))
}

/// An answer that carries data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// nlmsg_type: `RTM_NEWLINK`.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// Sends one request (`what` names it in messages) and collects the answers until the kernel says it is done.
///
/// sendto(2), recvfrom(2). The kernel's refusal is the error.
pub fn request(socket: BorrowedFd<'_>, what: &'static str, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Answer>> {
    let failed = |errno: Errno| Refused::new("sendto", format_args!("{}, {what}", fd(&socket)), errno);
    let length = u32::try_from(HEADER + body.len()).map_err(|_| failed(Errno::EMSGSIZE))?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
    // Sequence number and port id: one request at a time needs neither.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    rustix::io::retry_on_intr(|| rustix::net::send(socket, &message, SendFlags::empty())).map_err(refused!(
        "sendto",
        "{}, {what}",
        fd(&socket)
    ))?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let (_, length) = rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::TRUNC))
            .map_err(refused!("recvfrom", "{}", fd(&socket)))?;
        let datagram = buffer.get(..length).ok_or_else(|| failed(Errno::EMSGSIZE))?;
        if take(datagram, &mut answers).map_err(failed)? {
            return Ok(answers);
        }
    }
}

/// Takes a datagram's messages; tells whether the kernel is done.
pub(crate) fn take(mut datagram: &[u8], answers: &mut Vec<Answer>) -> std::result::Result<bool, Errno> {
    while let Some((header, rest)) = datagram.split_first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, ..] = *header;
        let body = (u32::from_ne_bytes([l0, l1, l2, l3]) as usize).checked_sub(HEADER).ok_or(Errno::EPROTO)?;
        let body = rest.get(..body).ok_or(Errno::EPROTO)?;
        match u16::from_ne_bytes([k0, k1]) {
            ERROR => {
                let code = i32::from_ne_bytes(*body.first_chunk().ok_or(Errno::EPROTO)?);
                return if code == 0 { Ok(true) } else { Err(Errno::from_raw(code.wrapping_neg())) };
            }
            DONE => return Ok(true),
            kind => answers.push(Answer { kind, body: body.to_vec() }),
        }
        datagram = rest.get(body.len().next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Brings an interface of the caller's network namespace up. netdevice(7) SIOCSIFFLAGS.
///
/// The kernel changes only those flags that can be changed so; the kinds (IFF_LOOPBACK) are not among them.
pub fn bring_up(name: &CStr) -> Result<()> {
    // Any socket will do; this one is there in every kernel.
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(refused!("socket", "AF_UNIX, SOCK_DGRAM"))?;
    // SAFETY: all zeros is a valid ifreq, which is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(refused!("ioctl", "SIOCSIFFLAGS, {name:?}")(Errno::ENAMETOOLONG));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request takes an ifreq, which lives through the call; its name is NUL-terminated.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw mut request) };
    Errno::result(done).map(drop).map_err(refused!("ioctl", "SIOCSIFFLAGS, {name:?}, IFF_UP"))
}
