//! What a filter costs: `cargo bench --bench seccomp`.
//!
//! Docker's profile for three architectures and for one: how long compiling takes, how many instructions the filter has,
//! how long the kernel takes to load it (in a child each time: filters never go away), and how many instructions it
//! runs for a call that is decided by its number alone, over all numbers that there are. Beside it a filter of one
//! instruction, which is what the kernel takes in any case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use orlop::seccomp::compiler::compile;
use orlop::seccomp::{Abi, Unknown, sock_filter};
use orlop::sys::seccomp::{Flags, set_mode_filter};
use serde_json::json;

#[path = "../tests/syscalls/cbpf.rs"]
mod cbpf;
#[path = "../tests/syscalls/docker.rs"]
mod docker;

/// Times as long as they are worth something, and the best and the middle one.
fn timed(mut once: impl FnMut() -> Duration) -> (Duration, Duration) {
    let mut times: Vec<_> = (0..200).map(|_| once()).collect();
    times.sort();
    (times[0], times[times.len() / 2])
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

fn main() {
    let native = Abi::native().unwrap();
    for architectures in [&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"][..], &["SCMP_ARCH_X86_64"]] {
        let mut profile = docker::docker();
        profile["architectures"] = json!(architectures);
        let config = json!({"ociVersion": "1.0.2", "root": {"path": "r"}, "linux": {"seccomp": profile}});
        let profile = specconv::convert(config.to_string().as_bytes()).unwrap().config.seccomp.unwrap();
        let program = compile(&profile, native, Unknown::Enosys).unwrap();
        println!("Docker's profile, {} architectures: {} instructions", architectures.len(), program.len());
        let (best, middle) = timed(|| {
            let start = Instant::now();
            std::hint::black_box(compile(&profile, native, Unknown::Enosys).unwrap());
            start.elapsed()
        });
        println!("  compile   best {best:>9.1?}   median {middle:>9.1?}");
        let (best, middle) = timed(|| load(&program));
        println!("  load      best {best:>9.1?}   median {middle:>9.1?}");
        for name in architectures {
            let abi = Abi::named(name).unwrap();
            let base = if *name == "SCMP_ARCH_X32" { 0x4000_0000 } else { 0 };
            let asking = ["socket", "personality", "clone", "socketcall"].map(|name| abi.number_of(name));
            let steps: Vec<usize> = (base..base + 600)
                .filter(|number| !asking.contains(&Some(*number)))
                .map(|number| cbpf::run(&program, &cbpf::Data { number, arch: abi.audit(), args: [0; 6] }).1)
                .collect();
            let sum: usize = steps.iter().sum();
            let most = steps.iter().max().unwrap();
            println!(
                "  {name:<17} at most {most} instructions for a number, {:.1} on average",
                sum as f64 / steps.len() as f64
            );
        }
    }
    let allow = [sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }];
    let (best, middle) = timed(|| load(&allow));
    println!("one instruction\n  load      best {best:>9.1?}   median {middle:>9.1?}");
}
