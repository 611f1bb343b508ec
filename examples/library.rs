//! A container's life through the library: `cargo run --example library BUNDLE [ORLOP]`, as root.
//!
//! With the path of orlop's program it forks nothing itself, as a caller with threads must not.

use std::path::Path;
use std::time::Duration;

use orlop::container::{self, Container, Deletion, Deputy, ExecRequest, Notice, PressureLevel, Request, Status, Whom};
use orlop::{Kind, Result};

/// Where the containers' state is kept.
const ROOT: &str = "/run/orlop-example";

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let Some(bundle) = words.next() else {
        println!("usage: library BUNDLE [ORLOP]");
        return Ok(());
    };
    let deputy = words.next().map(Deputy::new);
    let request = Request::new(ROOT, "example", std::path::absolute(&bundle).unwrap_or_else(|_| bundle.into()));
    let created = match &deputy {
        Some(deputy) => deputy.create(&request)?,
        None => container::create(&request)?,
    };
    created.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    let mut container = created.container;
    let lived = live(&mut container, deputy.as_ref());
    // Whatever happened: nothing of it stays.
    container::delete(Path::new(ROOT), "example", Deletion::Force)?;
    lived
}

fn live(container: &mut Container, deputy: Option<&Deputy>) -> Result<()> {
    container.start()?;
    println!("{} is {}", container.id(), container.status()?);

    // A second process.
    let request = ExecRequest::new(&["true"]);
    let execed = match deputy {
        Some(deputy) => deputy.exec(container, &request)?,
        None => container.exec(&request)?,
    };
    println!("exec: process {}, processes {:?}", execed.process.pid(), container.processes()?);

    // What it uses, and other limits.
    let stats = container.stats()?;
    println!("{} bytes of memory, {} ns of processors", stats.memory.usage.usage, stats.cpu.total);
    if let Some(rdt) = container.rdt_stats()? {
        println!("Intel RDT: {:?}", rdt.schemata);
    }
    container.update(br#"{"pids": {"limit": 100}}"#)?;

    // All at rest, and on again.
    container.pause()?;
    assert_eq!(container.status()?, Status::Paused);
    container.resume()?;

    // Being told: two descriptors to poll, for whoever has a loop, or a call that waits.
    match container.notify_memory_pressure(PressureLevel::Low) {
        Ok(pressure) => println!("{} descriptors tell of pressure", pressure.fds().len()),
        Err(error) if error.kind() == Kind::Unsupported => println!("{error}"),
        Err(error) => return Err(error),
    }
    let mut notices = container.notify_oom().or_else(|_| container.notify_end())?;
    container.kill(libc::SIGTERM, Whom::Init)?;
    if notices.wait(Some(Duration::from_secs(1)))? != Notice::Ended {
        container.kill(libc::SIGKILL, Whom::All)?;
    }
    Ok(())
}
