//! Words in, words out: one arm per command.
//!
//! Standard output gets data alone (and help); errors go to the log and to standard error, last. A failed command
//! ends with 1, a failed `exec` with 255, an unknown one with 3, as runc's do.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Command, FromArgMatches};

pub mod args;
mod command;
mod events;
mod features;
mod limits;
pub mod log;
mod quantity;
mod report;
mod root;
pub mod words;

use crate::container::{check_preserved, deputy};
use args::{COMMANDS, Count, Entry, Global, LATER};
use log::{Level, Log};
use words::{Flags, Stop, Words};

/// Whether these words are of a command that enters containers, and so must not run from an executable that a
/// container could write. An id that looks like one of them only makes us careful without need.
pub fn enters_containers(words: &[OsString]) -> bool {
    words
        .iter()
        .skip(1)
        .any(|word| ["create", "run", "exec", "restore", deputy::COMMAND].iter().any(|command| word == command))
}

/// Runs the command that the words (the program's name first) ask for; returns the exit code.
///
/// `sealed` is what came of sealing the executable, where the command needed it: its failure is told where the
/// command's messages go.
pub fn run(words: Vec<OsString>, sealed: crate::Result<()>) -> u8 {
    if let [_, command, number] = words.as_slice()
        && command == deputy::COMMAND
    {
        return deputy::serve(number, sealed);
    }
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

/// What the words ask for.
enum Asked {
    /// Text for standard output.
    Print(String),
    /// A command by its name, with its flags, and its operands.
    Command(&'static str, Parsed, Vec<String>),
}

/// A command, with its flags as it wants them.
enum Parsed {
    Create(args::Create),
    Run(args::Run),
    Start,
    State,
    Kill(args::Kill),
    Delete(args::Delete),
    Exec(Box<args::Exec>),
    List(args::List),
    Ps(args::Ps),
    Pause,
    Resume,
    Update(Box<args::Update>),
    Events(args::Events),
    Spec(args::Spec),
    Features,
}

/// Who we are for the user.
struct Program {
    /// `orlop`, or `runc` where we are called so.
    name: &'static str,
    /// As we were called.
    called: String,
}

fn try_run(words: Vec<OsString>, sealed: crate::Result<()>, log: &mut Log) -> Result<u8, Failure> {
    let mut words = text(words)?.into_iter();
    let called = words.next().unwrap_or_default();
    let name = if called.rsplit('/').next() == Some("runc") { "runc" } else { "orlop" };
    let program = Program { name, called };

    let mut flags = bare(Global::augment_args);
    let sorted = match words::sort(&flags, Flags::BeforeOperands, words) {
        Ok(sorted) => sorted,
        Err(Stop::Help) => return print(&general_help(name, &mut flags)),
        Err(Stop::Version) => return print(&report::version(name)),
        Err(Stop::Misuse(why)) => return Err(misuse(&why, &general_help(name, &mut flags))),
    };
    let global: Global = parse(&mut flags, sorted.flags)?;
    let asked = ask(&program, sorted.operands, &mut flags);
    // The log is the first file we open: it must not take the number of a descriptor that is to be handed down.
    let handed_down = check_preserved(asked.as_ref().map_or(0, preserved));
    let least = if global.debug { Level::Debug } else { global.log_level.unwrap_or(Level::Warning) };
    *log = Log::open(global.log.as_deref(), global.log_format, least)?;
    sealed.context("cannot seal the executable")?;
    match asked? {
        Asked::Print(text) => print(&text),
        Asked::Command(command, parsed, operands) => {
            handed_down?;
            let (began, of) = (Instant::now(), operands.first().map_or(String::new(), |id| format!(" {id}")));
            log.debug(&format!("{name} {} begins to {command}{of}", env!("CARGO_PKG_VERSION")));
            let done = dispatch(name, &global, parsed, operands, log);
            log.debug(&format!("{command}{of} took {} ms", began.elapsed().as_millis()));
            done
        }
    }
}

/// Reads the words after the global flags. Opens nothing.
fn ask(program: &Program, operands: Vec<String>, global: &mut Command) -> Result<Asked, Failure> {
    let mut operands = operands.into_iter();
    let name = operands.next();
    let name = match name.as_deref() {
        None | Some("help" | "h") => {
            let Some(topic) = operands.next() else { return Ok(Asked::Print(general_help(program.name, global))) };
            let entry = known(&topic)?;
            return Ok(Asked::Print(command_help(program.name, entry, &mut bare(entry.augment))));
        }
        Some(name) => name,
    };
    let entry = known(name)?;
    let mut flags = bare(entry.augment);
    let Words { flags: spelled, operands } = match words::sort(&flags, entry.flags, operands) {
        Ok(sorted) => sorted,
        Err(Stop::Help) => return Ok(Asked::Print(command_help(program.name, entry, &mut flags))),
        Err(Stop::Version) => return Ok(Asked::Print(report::version(program.name))),
        Err(Stop::Misuse(why)) => return Err(misuse(&why, &command_help(program.name, entry, &mut flags))),
    };
    if let Err(why) = counted(entry, &program.called, operands.len()) {
        report::print(&format!("Incorrect Usage.\n\n{}", command_help(program.name, entry, &mut flags)))?;
        return Err(why.into());
    }
    let flags = &mut flags;
    let parsed = match entry.name {
        "create" => Parsed::Create(parse(flags, spelled)?),
        "run" => Parsed::Run(parse(flags, spelled)?),
        "start" => Parsed::Start,
        "state" => Parsed::State,
        "kill" => Parsed::Kill(parse(flags, spelled)?),
        "delete" => Parsed::Delete(parse(flags, spelled)?),
        "exec" => Parsed::Exec(Box::new(parse(flags, spelled)?)),
        "list" => Parsed::List(parse(flags, spelled)?),
        "ps" => Parsed::Ps(parse(flags, spelled)?),
        "pause" => Parsed::Pause,
        "resume" => Parsed::Resume,
        "update" => Parsed::Update(Box::new(parse(flags, spelled)?)),
        "events" => Parsed::Events(parse(flags, spelled)?),
        "spec" => Parsed::Spec(parse(flags, spelled)?),
        "features" => Parsed::Features,
        other => return Err(anyhow!("no such command: {other}").into()),
    };
    Ok(Asked::Command(entry.name, parsed, operands))
}

fn preserved(asked: &Asked) -> u32 {
    match asked {
        Asked::Command(_, Parsed::Create(create), _) => create.making.preserve_fds,
        Asked::Command(_, Parsed::Run(run), _) => run.making.preserve_fds,
        Asked::Command(_, Parsed::Exec(exec), _) => exec.preserve_fds,
        _ => 0,
    }
}

fn dispatch(program: &str, global: &Global, parsed: Parsed, operands: Vec<String>, log: &Log) -> Result<u8, Failure> {
    let done = match parsed {
        Parsed::Create(create) => command::create(global, create, operands, log)
            .map_err(|error| error.context(format!("{program} create failed"))),
        Parsed::Run(run) => {
            command::run(global, run, operands, log).map_err(|error| error.context(format!("{program} run failed")))
        }
        Parsed::Start => command::start(global, &operands),
        Parsed::State => command::state(global, &operands),
        Parsed::Kill(kill) => command::kill(global, &kill, &operands),
        Parsed::Delete(delete) => command::delete(global, &delete, &operands, log),
        Parsed::Exec(exec) => {
            return command::exec(global, *exec, operands, log)
                .map_err(|error| Failure { error: error.context("exec failed"), code: 255 });
        }
        Parsed::List(list) => command::list(global, &list),
        Parsed::Ps(ps) => command::ps(global, &ps, &operands),
        Parsed::Pause => command::pause(global, &operands),
        Parsed::Resume => command::resume(global, &operands),
        Parsed::Update(update) => command::update(global, &update, &operands, log),
        Parsed::Events(events) => command::events(global, &events, &operands, log),
        Parsed::Spec(spec) => command::spec(&spec),
        Parsed::Features => command::features(),
    };
    Ok(done?)
}

#[cfg(any(test, fuzzing))]
pub(crate) use quantity::{duration, size};
#[cfg(any(test, fuzzing))]
pub(crate) use report::{account, rows_of};

/// Reads a command line and the limits in it, and does nothing: for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(words: &[&str]) -> Option<()> {
    let own = |words: Vec<String>| words.into_iter();
    let mut flags = bare(Global::augment_args);
    let sorted = words::sort(&flags, Flags::BeforeOperands, words.iter().map(|word| (*word).to_owned())).ok()?;
    parse::<Global>(&mut flags, sorted.flags).ok()?;
    // What is misspelt or miscounted would be told on standard output.
    let entry = known(sorted.operands.first()?).ok()?;
    let rest = sorted.operands.get(1..)?.to_vec();
    let counted_words = words::sort(&bare(entry.augment), entry.flags, own(rest)).ok()?;
    counted(entry, "orlop", counted_words.operands.len()).ok()?;
    let program = Program { name: "orlop", called: "orlop".to_owned() };
    let asked = ask(&program, sorted.operands, &mut flags).ok()?;
    preserved(&asked);
    match asked {
        Asked::Command(_, Parsed::Update(update), _) if update.resources.is_none() => {
            limits::asked(&update).map(drop).ok()
        }
        Asked::Command(_, Parsed::Exec(exec), args) if exec.process.is_none() => {
            command::exec_request(*exec, args).map(drop).ok()
        }
        _ => Some(()),
    }
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

fn print(text: &str) -> Result<u8, Failure> {
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
        "NAME:\n   {program} - Open Container Initiative runtime\n\nUSAGE:\n   {program} [global options] command \
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
