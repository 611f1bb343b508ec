//! What a filter costs: `cargo bench --bench seccomp`.
//!
//! Docker's profile for three architectures and for one: how long compiling takes, how many instructions the filter has,
//! how long the kernel takes to load it (in a child each time: filters never go away), and how many instructions it
//! runs for a call that is decided by its number alone, over all numbers that there are. Beside it the tree that
//! libseccomp makes of the same profile, loaded in turns with ours, and a filter of one instruction, which is what the
//! kernel takes in any case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use orlop::seccomp::compiler::compile;
use orlop::seccomp::{Abi, Unknown, sock_filter};
use orlop::sys::seccomp::{Flags, set_mode_filter};

#[path = "../tests/syscalls/cbpf.rs"]
mod cbpf;
#[path = "../tests/syscalls/docker.rs"]
mod docker;
#[path = "../tests/syscalls/reference.rs"]
mod reference;

/// The best and the middle time of each, taken in turns.
fn timed<const N: usize>(once: [&dyn Fn() -> Duration; N]) -> [(Duration, Duration); N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..200 {
        times.iter_mut().zip(once).for_each(|(times, once)| times.push(once()));
    }
    times.map(|mut times| {
        times.sort();
        (times[0], times[times.len() / 2])
    })
}

/// Loads in a child, which tells how long that took.
fn load(program: &[sock_filter]) -> Duration {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    // SAFETY: this program has one thread, and the child only loads, writes and ends.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let start = Instant::now();
            let loaded = set_mode_filter(program, Flags::SPEC_ALLOW);
            let took = start.elapsed().as_nanos() as u64;
            let _ = nix::unistd::write(&writer, &took.to_ne_bytes());
            orlop::sys::process::exit(loaded.is_err().into())
        }
        nix::unistd::ForkResult::Parent { child } => {
            let mut took = [0; 8];
            nix::unistd::read(&reader, &mut took).unwrap();
            nix::sys::wait::waitpid(child, None).unwrap();
            Duration::from_nanos(u64::from_ne_bytes(took))
        }
    }
}

fn show(what: &str, (best, middle): (Duration, Duration)) {
    println!("  {what:<16} best {best:>9.1?}   median {middle:>9.1?}");
}

fn main() {
    let native = Abi::native().unwrap();
    let mut libseccomp = reference::Reference::start();
    let allow = [sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }];
    for architectures in [&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"][..], &["SCMP_ARCH_X86_64"]] {
        let profile = reference::docker(architectures);
        let program = compile(&profile, native, Unknown::Enosys).unwrap();
        libseccomp.ask(&profile, architectures[0], true);
        let tree = libseccomp.answer().unwrap();
        println!(
            "Docker's profile, {} architectures: {} instructions, libseccomp's tree {}",
            architectures.len(),
            program.len(),
            tree.len()
        );
        let compiled = timed([&|| {
            let start = Instant::now();
            std::hint::black_box(compile(&profile, native, Unknown::Enosys).unwrap());
            start.elapsed()
        }]);
        show("compile", compiled[0]);
        let loaded = timed([&|| load(&program), &|| load(&tree), &|| load(&allow)]);
        show("load", loaded[0]);
        show("load, the tree", loaded[1]);
        show("load, one alone", loaded[2]);
        for name in architectures {
            let abi = Abi::named(name).unwrap();
            let base = if *name == "SCMP_ARCH_X32" { 0x4000_0000 } else { 0 };
            let asking = ["socket", "personality", "clone", "socketcall"].map(|name| abi.number_of(name));
            let numbers = (base..base + 600).filter(|number| !asking.contains(&Some(*number)));
            let steps = |program: &[sock_filter]| -> Vec<usize> {
                let call = |number| cbpf::Data { number, arch: abi.audit(), args: [0; 6] };
                numbers.clone().map(|number| cbpf::run(program, &call(number)).1).collect()
            };
            let told = [steps(&program), steps(&tree)].map(|steps| {
                let average = steps.iter().sum::<usize>() as f64 / steps.len() as f64;
                format!("at most {}, {average:.1} on average", steps.iter().max().unwrap())
            });
            println!("  {name:<17} instructions for a number {}; the tree {}", told[0], told[1]);
        }
    }
}
