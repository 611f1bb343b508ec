//! The library in a process with threads, as this one is: a deputy forks in its place.

use std::time::Duration;

use orlop::Kind;
use orlop::container::{self, Container, Deletion, Deputy, ExecRequest, Request, Status, Whom};
use serde_json::json;

use crate::require;
use crate::support::{Bundle, binary, is_orlop, is_root, patience, wait_until};

fn request(bundle: &Bundle) -> Request {
    bundle.write();
    Request::new(bundle.state_root(), bundle.id(), bundle.path())
}

fn soon() -> Option<Duration> {
    Some(patience(10))
}

#[test]
fn a_caller_with_threads_does_not_fork() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "the library");
    let mut bundle = Bundle::new();
    let refused = container::create(&request(bundle.args(&["sleep", "1000"]))).unwrap_err();
    assert!(refused.to_string().contains("cannot fork a process with"), "{refused}");
    bundle.assert_gone();
}

#[test]
fn a_deputy_makes_containers_as_the_library_does() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "the library");
    let mut bundle = Bundle::new();
    bundle.writable().args(&["sleep", "1000"]).edit(|spec| {
        spec["linux"]["resources"]["cpu"] = json!({"idle": 1, "shares": 500});
    });
    let deputy = Deputy::new(binary());
    let created = deputy.create(&request(&bundle)).unwrap();
    assert!(created.warnings.iter().any(|warning| warning.contains("linux.resources.cpu.shares")), "{created:?}");
    assert_eq!(created.init.pid(), bundle.pid());
    let mut container = created.container;
    assert_eq!(container.status().unwrap(), Status::Created);
    container.start().unwrap();

    let execed = deputy.exec(&container, &ExecRequest::new(&["touch", "/tmp/from-exec"])).unwrap();
    assert!(execed.process.wait_for_end(soon()).unwrap());
    assert!(bundle.rootfs("tmp/from-exec").exists());
    assert_eq!(container.processes().unwrap(), [created.init.pid()]);

    container.update(br#"{"pids": {"limit": 33}}"#).unwrap();
    assert_eq!(container.stats().unwrap().pids.limit, 33);
    assert_eq!(container.rdt_stats().unwrap(), None);
    container.pause().unwrap();
    assert_eq!(container.status().unwrap(), Status::Paused);
    container.resume().unwrap();

    let mut end = container.notify_end().unwrap();
    container.kill(9, Whom::Init).unwrap();
    assert_eq!(end.wait(soon()).unwrap(), container::Notice::Ended);
    assert!(created.init.wait_for_end(soon()).unwrap());
    wait_until("it has stopped", || container.status().unwrap() == Status::Stopped);
    container::delete(&bundle.state_root(), bundle.id(), Deletion::Gentle).unwrap();
    bundle.assert_gone();
}

#[test]
fn a_deputys_errors_are_the_librarys() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "the library");
    let mut bundle = Bundle::new();
    bundle.args(&["sleep", "1000"]);
    let deputy = Deputy::new(binary());
    let request = request(&bundle);
    let created = deputy.create(&request).unwrap();
    let again = deputy.create(&request).unwrap_err();
    assert_eq!((again.kind(), again.to_string().as_str()), (Kind::Exists, "container with given ID already exists"));
    let absent = deputy.exec(&created.container, &ExecRequest::new(&["/nonexistent"])).unwrap_err();
    assert!(absent.to_string().contains("/nonexistent"), "{absent}");
    let mut wrong = request.clone();
    wrong.id = "no/id".to_owned();
    assert_eq!(deputy.create(&wrong).unwrap_err().kind(), Kind::Invalid);
    container::delete(&bundle.state_root(), bundle.id(), Deletion::Force).unwrap();
    let gone = deputy.exec(&created.container, &ExecRequest::new(&["true"])).unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
    // What is no deputy, and what is none at all.
    let silent = Deputy::new("/bin/true").create(&request).unwrap_err();
    assert!(silent.to_string().contains("the deputy has ended without an answer"), "{silent}");
    let missing = Deputy::new("/nonexistent").create(&request).unwrap_err();
    assert_eq!(missing.errno(), Some(nix::errno::Errno::ENOENT), "{missing}");
    assert!(Container::load(&bundle.state_root(), bundle.id()).is_err());
    bundle.assert_gone();
}

/// The terminal's master and descriptors cross as they do in the library.
#[test]
fn a_deputy_hands_the_terminal_back() {
    require!(is_root(), "root of the host");
    require!(is_orlop(), "the library");
    let mut bundle = Bundle::sh("echo from the terminal");
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    let mut request = request(&bundle);
    request.detach = false;
    let created = Deputy::new(binary()).create(&request).unwrap();
    let master = created.foreground.expect("a terminal to serve");
    let mut container = created.container;
    container.start().unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 256];
    // The end of a terminal is an error, EIO.
    while let Ok(length @ 1..) = std::io::Read::read(&mut std::fs::File::from(master.try_clone().unwrap()), &mut buffer)
    {
        said.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(String::from_utf8_lossy(&said).trim(), "from the terminal");
    assert!(created.init.wait_for_end(soon()).unwrap());
    container::delete(&bundle.state_root(), bundle.id(), Deletion::Force).unwrap();
    bundle.assert_gone();
}
