//! Writes the manual pages and the completions of shells into a directory: `cargo run --example manual DIR`.
//!
//! Made from the table that the command line is read with. Not a command of the program: each start would pay for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use clap::{Arg, Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use orlop::cli::args::{COMMANDS, Entry, Global};

/// `<container-id> [signal]`: what is in angle brackets is required.
fn operands(text: &'static str) -> Vec<Arg> {
    let usual = text.split("||").next().unwrap_or_default();
    let words = usual.split_inclusive(['>', ']']).map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let name = word.trim_matches(['<', '>', '[', ']']);
            Arg::new(name).value_name(name).required(word.starts_with('<'))
        })
        .collect()
}

fn command(entry: &Entry) -> Command {
    let bare = Command::new(entry.name).disable_help_flag(true).disable_version_flag(true);
    // What the structs of the flags say of themselves is for programmers.
    (entry.augment)(bare).about(entry.about).long_about(None).args(operands(entry.operands))
}

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("the directory to write to"));
    std::fs::create_dir_all(&folder).unwrap();
    let program = Command::new("orlop")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(COMMANDS.iter().map(command));
    let mut program = Global::augment_args(program).about("a low-level OCI container runtime").long_about(None);

    let page = |of: Command, name: &str| {
        let mut text = Vec::new();
        Man::new(of)
            .title(name)
            .section("8")
            .source(concat!("orlop ", env!("CARGO_PKG_VERSION")))
            .render(&mut text)
            .unwrap();
        std::fs::write(folder.join(format!("{name}.8")), text).unwrap();
    };
    page(program.clone(), "orlop");
    for entry in COMMANDS {
        let name = format!("orlop-{}", entry.name);
        page(command(entry).display_name(name.clone()).bin_name(format!("orlop {}", entry.name)), &name);
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut program, "orlop", &folder).unwrap();
    }
}
