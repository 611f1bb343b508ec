//! Words in, words out: one arm per command.
//!
//! Standard output gets data alone (and help); errors go to the log and to standard error, last. A failed command
//! ends with 1, a failed `exec` with 255, an unknown one with 3, as runc's do.

use std::ffi::OsString;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Command, FromArgMatches};

pub mod args;
mod command;
mod features;
pub mod log;
mod report;
mod root;
pub mod words;

use args::{COMMANDS, Count, Entry, Global, LATER};
use log::{Level, Log};
use words::{Flags, Stop, Words};

/// Whether these words are of a command that enters containers, and so must not run from an executable that a
/// container could write. An id that looks like one of them only makes us careful without need.
pub fn enters_containers(words: &[OsString]) -> bool {
    words.iter().skip(1).any(|word| ["create", "run", "exec", "restore"].iter().any(|command| word == command))
}

/// Runs the command that the words (the program's name first) ask for; returns the exit code.
///
/// `sealed` is what came of sealing the executable, where the command needed it: its failure is told where the
/// command's messages go.
pub fn run(words: Vec<OsString>, sealed: crate::Result<()>) -> u8 {
    let mut log = Log::to_stderr();
    match try_run(words, sealed, &mut log) {
        Ok(code) => code,
        Err(failure) => {
            log.error(&format!("{:#}", failure.error));
            failure.code
        }
    }
}

/// A failed command.
struct Failure {
    error: anyhow::Error,
    code: u8,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { error: error.into(), code: 1 }
    }
}

/// What every command knows.
struct Invocation {
    /// `orlop`, or `runc` where we are called so.
    program: &'static str,
    global: Global,
}

fn try_run(words: Vec<OsString>, sealed: crate::Result<()>, log: &mut Log) -> Result<u8, Failure> {
    let mut words = text(words)?.into_iter();
    let called = words.next().unwrap_or_default();
    let program = if called.rsplit('/').next() == Some("runc") { "runc" } else { "orlop" };

    let mut flags = bare(Global::augment_args);
    let sorted = match words::sort(&flags, Flags::BeforeOperands, words) {
        Ok(sorted) => sorted,
        Err(Stop::Help) => return help(&general_help(program, &mut flags)),
        Err(Stop::Version) => return help(&report::version(program)),
        Err(Stop::Misuse(why)) => return Err(misuse(&why, &general_help(program, &mut flags))),
    };
    let global: Global = parse(&mut flags, sorted.flags)?;
    let least = if global.debug { Level::Debug } else { global.log_level.unwrap_or(Level::Warning) };
    *log = Log::open(global.log.as_deref(), global.log_format, least)?;
    sealed.context("cannot seal the executable")?;

    let mut operands = sorted.operands.into_iter();
    let name = operands.next();
    let name = match name.as_deref() {
        None | Some("help" | "h") => match operands.next() {
            None => return help(&general_help(program, &mut flags)),
            Some(topic) => {
                let entry = known(&topic)?;
                return help(&command_help(program, entry, &mut bare(entry.augment)));
            }
        },
        Some(name) => name,
    };
    let entry = known(name)?;
    let mut flags = bare(entry.augment);
    let sorted = match words::sort(&flags, entry.flags, operands) {
        Ok(sorted) => sorted,
        Err(Stop::Help) => return help(&command_help(program, entry, &mut flags)),
        Err(Stop::Version) => return help(&report::version(program)),
        Err(Stop::Misuse(why)) => return Err(misuse(&why, &command_help(program, entry, &mut flags))),
    };
    if let Err(why) = counted(entry, &called, sorted.operands.len()) {
        report::print(&format!("Incorrect Usage.\n\n{}", command_help(program, entry, &mut flags)))?;
        return Err(why.into());
    }
    let invocation = Invocation { program, global };
    dispatch(&invocation, entry.name, flags, sorted, log)
}

fn dispatch(invocation: &Invocation, name: &str, mut flags: Command, words: Words, log: &Log) -> Result<u8, Failure> {
    let Words { flags: spelled, operands } = words;
    let global = &invocation.global;
    let failed = |error: anyhow::Error| error.context(format!("{} {name} failed", invocation.program));
    let done = match name {
        "create" => command::create(global, parse(&mut flags, spelled)?, operands, log).map_err(failed),
        "run" => command::run(global, parse(&mut flags, spelled)?, operands, log).map_err(failed),
        "start" => command::start(global, &operands),
        "state" => command::state(global, &operands),
        "kill" => command::kill(global, &parse(&mut flags, spelled)?, &operands),
        "delete" => command::delete(global, &parse(&mut flags, spelled)?, &operands, log),
        "exec" => {
            return command::exec(global, parse(&mut flags, spelled)?, operands, log)
                .map_err(|error| Failure { error: error.context("exec failed"), code: 255 });
        }
        "list" => command::list(global, &parse(&mut flags, spelled)?),
        "ps" => command::ps(global, &parse(&mut flags, spelled)?, &operands),
        "pause" => command::pause(global, &operands),
        "resume" => command::resume(global, &operands),
        "spec" => command::spec(&parse(&mut flags, spelled)?),
        "features" => command::features(),
        other => Err(anyhow!("no such command: {other}")),
    };
    Ok(done?)
}

/// The words as text: ids, paths and arguments all end in JSON.
fn text(words: Vec<OsString>) -> anyhow::Result<Vec<String>> {
    words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| anyhow!("the command line is not valid UTF-8: {word:?}")))
        .collect()
}

fn known(name: &str) -> Result<&'static Entry, Failure> {
    if LATER.contains(&name) {
        return Err(anyhow!("{name} is not supported yet by this version of orlop").into());
    }
    COMMANDS
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Failure { error: anyhow!("No help topic for '{name}'"), code: 3 })
}

fn bare(augment: fn(Command) -> Command) -> Command {
    let command = Command::new("orlop").no_binary_name(true).args_override_self(true);
    augment(command.disable_help_flag(true).disable_version_flag(true))
}

fn parse<T: FromArgMatches>(flags: &mut Command, spelled: Vec<String>) -> anyhow::Result<T> {
    let matches = flags.try_get_matches_from_mut(spelled).map_err(|error| anyhow!(report::complaint(&error)))?;
    T::from_arg_matches(&matches).map_err(|error| anyhow!(report::complaint(&error)))
}

fn counted(entry: &Entry, called: &str, count: usize) -> anyhow::Result<()> {
    let (limit, number) = match entry.count {
        Count::Exactly(number) if count != number => ("exactly", number),
        Count::Least(number) | Count::Between(number, _) if count < number => ("a minimum of", number),
        Count::Between(_, number) if count > number => ("a maximum of", number),
        _ => return Ok(()),
    };
    bail!("{called}: {:?} requires {limit} {number} argument(s)", entry.name)
}

fn help(text: &str) -> Result<u8, Failure> {
    report::print(text)?;
    Ok(0)
}

fn misuse(why: &str, help: &str) -> Failure {
    match report::print(&format!("Incorrect Usage: {why}\n\n{help}")) {
        Ok(()) => anyhow!("{why}").into(),
        Err(error) => error.into(),
    }
}

fn flags_of(flags: &mut Command) -> String {
    flags.clone().help_template("{options}").render_help().to_string().trim_end().to_owned()
}

fn command_help(program: &str, entry: &Entry, flags: &mut Command) -> String {
    let Entry { name, about, operands, .. } = entry;
    let options = flags_of(flags);
    let options = if options.is_empty() { options } else { format!("\nOPTIONS:\n{options}\n") };
    format!(
        "NAME:\n   {program} {name} - {about}\n\nUSAGE:\n   {program} {name} [command options] {operands}\n{options}"
    )
}

fn general_help(program: &str, flags: &mut Command) -> String {
    let commands: String = COMMANDS.iter().map(|entry| format!("   {:10}  {}\n", entry.name, entry.about)).collect();
    format!(
        "NAME:\n   {program} - a low-level OCI container runtime\n\nUSAGE:\n   {program} [global options] command \
         [command options] [arguments...]\n\nVERSION:\n   {version}\n\nCOMMANDS:\n{commands}   help        show this, or \
         the help of a command\n\nGLOBAL OPTIONS:\n{options}\n  -v, --version\n  -h, --help\n",
        version = env!("CARGO_PKG_VERSION"),
        options = flags_of(flags)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn counts_in_runcs_words() {
        let entry = |name| known(name).ok().unwrap();
        let error = |name, count| counted(entry(name), "runc", count).unwrap_err().to_string();
        assert_eq!(error("create", 0), "runc: \"create\" requires exactly 1 argument(s)");
        assert_eq!(error("kill", 0), "runc: \"kill\" requires a minimum of 1 argument(s)");
        assert_eq!(error("kill", 3), "runc: \"kill\" requires a maximum of 2 argument(s)");
        assert!(counted(entry("exec"), "runc", 7).is_ok());
    }

    #[test]
    fn unknown_and_later_commands() {
        assert_eq!(known("foo").err().unwrap().code, 3);
        for later in LATER {
            let failure = known(later).err().unwrap();
            assert_eq!(failure.code, 1);
            assert!(failure.error.to_string().contains("not supported yet by this version of orlop"));
        }
    }

    #[test]
    fn help_begins_as_runcs() {
        let text = command_help("runc", known("create").ok().unwrap(), &mut bare(args::Create::augment_args));
        assert!(text.starts_with("NAME:\n   runc create - "), "{text}");
        assert!(text.contains("--no-pivot"), "{text}");
        let text = general_help("orlop", &mut bare(Global::augment_args));
        assert!(text.starts_with("NAME:\n   orlop - "), "{text}");
        assert!(text.contains("--systemd-cgroup"), "{text}");
    }

    #[test]
    fn the_words_of_engines_parse() {
        let mut flags = bare(args::Exec::augment_args);
        let words = "--process /f --detach -pid-file /p -t=false -c CAP_A -c CAP_B web".split(' ').map(String::from);
        let sorted = words::sort(&flags, Flags::BeforeOperands, words).unwrap();
        assert_eq!(sorted.operands, ["web"]);
        let exec: args::Exec = parse(&mut flags, sorted.flags).unwrap();
        assert_eq!(exec.tty, Some(false));
        assert_eq!(exec.cap, ["CAP_A", "CAP_B"]);
        let mut flags = bare(Global::augment_args);
        let words = "--root=/r --root /s --cgroup-manager disabled --rootless=true --log= create".split(' ');
        let sorted = words::sort(&flags, Flags::BeforeOperands, words.map(String::from)).unwrap();
        let global: Global = parse(&mut flags, sorted.flags).unwrap();
        assert_eq!(global.root.unwrap().to_str(), Some("/s"));
        assert_eq!(global.cgroup_manager, Some(crate::container::Driver::Disabled));
        let wrong = parse::<Global>(&mut flags, vec!["--log-format=x".into()]).unwrap_err().to_string();
        assert!(wrong.contains("invalid log-format: x"), "{wrong}");
    }
}
