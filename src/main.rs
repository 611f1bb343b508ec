//! orlop: parse, seal where the command enters containers, dispatch, exit.

use std::process::ExitCode;

use orlop::{cli, seal, signal};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    signal::prepare();
    // First of all, and before anything of the host is open: the sealed copy starts again from here.
    let sealed = if cli::enters_containers(&words) { seal::ensure_sealed() } else { Ok(()) };
    ExitCode::from(cli::run(words, sealed))
}
