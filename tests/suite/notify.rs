//! The sockets that tell the outside world: NOTIFY_SOCKET (sd_notify(3)) and `--pidfd-socket`.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;

use serde_json::json;

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
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]).write();
    let path = bundle.scratch("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let words = bundle.with_bundle(&["create", "--pidfd-socket", path.to_str().unwrap()]);
    bundle.call(&words).ok();
    assert_eq!(receive_pidfd(&listener, &bundle), b"standard");
    bundle.finish_off();
    bundle.assert_gone();
}

/// crun's way to ask for it.
#[test]
fn the_pidfd_goes_to_the_receiver_of_the_annotation() {
    require!(is_root(), "root of the host");
    require!(crate::support::flavour() != "runc", "run.oci.pidfd_receiver");
    let mut bundle = Bundle::new();
    let path = bundle.scratch("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.edit(|spec| spec["annotations"] = json!({"run.oci.pidfd_receiver": path}));
    bundle.args(&["sleep", "1000"]).create().ok();
    receive_pidfd(&listener, &bundle);
    bundle.finish_off();
    bundle.assert_gone();
}

/// What came with the one descriptor, which has to be a handle on init.
fn receive_pidfd(listener: &UnixListener, bundle: &Bundle) -> Vec<u8> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    use std::os::fd::AsRawFd;
    // Whoever sends it has connected before the command ended.
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let (mut control, mut data) = (RecvAncillaryBuffer::new(&mut space), [0; 64]);
    let mut into = [std::io::IoSliceMut::new(&mut data)];
    let got = rustix::net::recvmsg(&stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    assert_eq!(fds.len(), 1);
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd())).unwrap();
    assert!(info.contains(&format!("Pid:\t{}\n", bundle.pid())), "{info}");
    data[..got.bytes].to_vec()
}
