//! Sockets: pairs, messages with descriptors, netlink.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::{Errno, Refused, Result, fd, refused};

/// Most descriptors one message carries here.
const MOST_FDS: usize = 8;

/// Two connected sockets whose messages keep their borders: socketpair(2), AF_UNIX, SOCK_SEQPACKET.
pub fn socketpair_seqpacket() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(refused!("socketpair", "AF_UNIX, SOCK_SEQPACKET"))
}

/// A stream connected to the socket at `path`: socket(2), connect(2), unix(7).
///
/// A path longer than `sun_path` (107 bytes) goes through a descriptor of its directory in `/proc/self/fd`, so
/// this is for the host's side only, where that name can be trusted.
pub fn connect_unix(path: &Path) -> Result<OwnedFd> {
    connect(path, SocketType::STREAM)
}

/// As [`connect_unix`], or to an abstract socket (`@name`), for somebody who may be too busy to take us in: EAGAIN after
/// this long. socket(7), SO_SNDTIMEO.
pub fn connect_unix_within(path: &Path, patience: std::time::Duration) -> Result<OwnedFd> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(refused!("socket", "AF_UNIX, SOCK_STREAM"))?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience)).map_err(refused!(
        "setsockopt",
        "{}, SO_SNDTIMEO, {patience:?}",
        fd(&socket)
    ))?;
    with_address(path, "connect", |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// A datagram socket connected to the socket at `path`, or to an abstract one (`@name`); else as [`connect_unix`].
pub fn connect_unix_datagram(path: &Path) -> Result<OwnedFd> {
    connect(path, SocketType::DGRAM)
}

/// A datagram socket bound to a new name in `directory`: socket(2), bind(2), unix(7).
///
/// The directory goes by its descriptor in `/proc/self/fd`: for the host's side only.
pub fn bind_unix_datagram(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(refused!("socket", "AF_UNIX, SOCK_DGRAM"))?;
    let failed = refused!("bind", "{}, {name:?}", fd(&directory));
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    SocketAddrUnix::new(path).and_then(|address| rustix::net::bind(&socket, &address)).map_err(failed)?;
    Ok(socket)
}

fn connect(path: &Path, kind: SocketType) -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(refused!("socket", "AF_UNIX, {kind:?}"))?;
    with_address(path, "connect", |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// Calls with an address for `path`, by way of its directory where it is too long.
fn with_address(
    path: &Path,
    call: &'static str,
    action: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> Result<()> {
    let failed = |errno: rustix::io::Errno| Refused::new(call, format_args!("{path:?}"), errno);
    if let Some(name) = path.as_os_str().as_bytes().strip_prefix(b"@") {
        return SocketAddrUnix::new_abstract_name(name).and_then(|address| action(&address)).map_err(failed);
    }
    if let Ok(address) = SocketAddrUnix::new(path) {
        return action(&address).map_err(failed);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(rustix::io::Errno::NAMETOOLONG));
    };
    use rustix::fs::{Mode, OFlags};
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let mut short = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    short.extend_from_slice(name.as_bytes());
    let address = SocketAddrUnix::new(short.as_slice()).map_err(failed)?;
    action(&address).map_err(failed)
}

/// Sends one message with descriptors: sendmsg(2) with SCM_RIGHTS. Never raises SIGPIPE.
///
/// Returns how many bytes were taken; on a stream that may be fewer than all.
pub fn send_with_fds<S: AsFd>(socket: &S, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Refused::new("sendmsg", format_args!("{}, {} fds", fd(socket), fds.len()), Errno::E2BIG));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(data)], &mut ancillary, SendFlags::NOSIGNAL)
    })
    .map_err(refused!("sendmsg", "{}, {} bytes, {} fds", fd(socket), data.len(), fds.len()))
}

/// What [`receive_with_fds`] got.
#[derive(Debug)]
pub struct Received {
    /// Bytes written into the buffer; 0 is the end of the connection.
    pub length: usize,
    /// The descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Receives one message with its descriptors: recvmsg(2) with MSG_CMSG_CLOEXEC.
///
/// A message or a list of descriptors that did not fit is an error (EMSGSIZE): half of one is of no use.
pub fn receive_with_fds<S: AsFd>(socket: &S, buffer: &mut [u8]) -> Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(refused!("recvmsg", "{}", fd(socket)))?;
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Refused::new("recvmsg", format_args!("{}", fd(socket)), Errno::EMSGSIZE));
    }
    Ok(Received { length: message.bytes, fds })
}
