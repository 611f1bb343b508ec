//! The sockets that tell the outside world: NOTIFY_SOCKET (sd_notify(3)) and `--pidfd-socket`.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::require;
use crate::support::{Bundle, is_orlop, is_root, patience};

/// A service manager's socket.
fn manager(bundle: &Bundle) -> (UnixDatagram, PathBuf) {
    let path = bundle.scratch("manager.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(patience(20))).unwrap();
    (socket, path)
}

fn next(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    // No room for a descriptor: the barrier's is closed by this.
    let length = manager.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Says something in the container's name, through the socket as the container sees it.
fn say(pid: i32, words: &str) {
    let path = format!("/proc/{pid}/root/run/notify/notify.sock");
    UnixDatagram::unbound().unwrap().send_to(words.as_bytes(), path).unwrap();
}

#[test]
fn start_waits_for_readiness_and_tells_nothing_else() {
    require!(is_root() && is_orlop(), "a relay that reads every line");
    let mut bundle = Bundle::sh("test -S \"$NOTIFY_SOCKET\" && echo $NOTIFY_SOCKET >/said; sleep 1000");
    let (manager, path) = manager(&bundle);
    bundle.writable().write();
    let mut create = bundle.command(&bundle.with_bundle(&["create"]));
    create.env("NOTIFY_SOCKET", &path);
    bundle.finish(create).ok();
    let pid = bundle.pid();
    let mut start = bundle.command(&["start", bundle.id()]);
    start.env("NOTIFY_SOCKET", &path);
    let start = bundle.spawn(start);
    let said = || std::fs::read_to_string(bundle.rootfs("said")).unwrap_or_default();
    crate::support::wait_until("the program has spoken", || said().ends_with('\n'));
    assert_eq!(said(), "/run/notify/notify.sock\n");
    say(pid, "MAINPID=1\nFDSTORE=1");
    say(pid, "STATUS=warm\nREADY=1\nMAINPID=1");
    let heard = next(&manager);
    assert!(heard.contains("READY=1") && heard.contains(&format!("MAINPID={pid}\n")), "{heard}");
    assert!(!heard.contains("MAINPID=1\n") && !heard.contains("FDSTORE"), "{heard}");
    assert!(next(&manager).starts_with("BARRIER=1"));
    start.wait().ok();
    bundle.finish_off();
    bundle.assert_gone();
}

#[test]
fn a_program_that_ends_unready_does_not_keep_start() {
    require!(is_root() && is_orlop(), "a relay that reads every line");
    let bundle = Bundle::new();
    let (_manager, path) = manager(&bundle);
    bundle.write();
    let mut run = bundle.command(&bundle.with_bundle(&["run", "--detach"]));
    run.env("NOTIFY_SOCKET", &path);
    bundle.finish(run).ok();
    bundle.wait_for_status("stopped");
    bundle.delete().ok();
    bundle.assert_gone();
}

#[test]
fn the_pidfd_goes_over_its_socket() {
    require!(is_root(), "root of the host");
    require!(crate::support::flavour() != "crun", "--pidfd-socket");
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let path = bundle.scratch("pidfd.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let words = bundle.with_bundle(&["create", "--pidfd-socket", path.to_str().unwrap()]);
    bundle.call(&words).ok();
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let (mut control, mut data) = (RecvAncillaryBuffer::new(&mut space), [0; 64]);
    let got = rustix::net::recvmsg(
        &stream,
        &mut [std::io::IoSliceMut::new(&mut data)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    assert_eq!(&data[..got.bytes], b"standard");
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    assert_eq!(fds.len(), 1);
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd())).unwrap();
    assert!(info.contains(&format!("Pid:\t{}\n", bundle.pid())), "{info}");
    bundle.finish_off();
    bundle.assert_gone();
}
