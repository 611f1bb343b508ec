//! The spellings of runc and crun, made one: what stands between the argument vector and clap.
//!
//! runc (Go's flag package) takes `-flag`, `--flag=false`, flags after the operands and a value that begins with a
//! dash; crun (argp) takes `-dt` and unique abbreviations; youki (clap) takes clap's ways. All of them work here: each
//! flag is looked up in the clap command that will read it, and written as clap cannot misread it. What is wrong with
//! a spelling is said in Go's words, because engines look for them (`flag needs an argument`).

use clap::{Arg, ArgAction, Command};

/// The words after a command's name, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Every flag as `--name` or `--name=value`.
    pub flags: Vec<String>,
    /// What is no flag, in order.
    pub operands: Vec<String>,
}

/// Where the flags end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flags {
    /// At `--` alone.
    Anywhere,
    /// At the first operand: what follows belongs to somebody else's command line.
    BeforeOperands,
}

/// Why the words cannot be used as they are.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// `-h`, `--help`, and crun's `-?` and `--usage`.
    Help,
    /// `-v`, `-V`, `--version`, where the command has none of these for its own.
    Version,
    /// A mistake.
    Misuse(String),
}

/// Sorts the words after a command's name.
///
/// # Errors
/// Help was asked for, or a flag is unknown, lacks its value or has one that it cannot have.
pub fn sort(command: &Command, place: Flags, words: impl IntoIterator<Item = String>) -> Result<Words, Stop> {
    let mut sorted = Words::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            sorted.operands.push(word);
            if place == Flags::BeforeOperands {
                break;
            }
            continue;
        };
        if word == "--" {
            break;
        }
        one_flag(command, flag, &mut words, &mut sorted.flags)?;
    }
    sorted.operands.extend(words);
    Ok(sorted)
}

/// `word` is without its first dash.
fn one_flag(
    command: &Command,
    word: &str,
    rest: &mut impl Iterator<Item = String>,
    flags: &mut Vec<String>,
) -> Result<(), Stop> {
    let long = word.strip_prefix('-').unwrap_or(word);
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (long, None),
    };
    if let Some(arg) = find(command, name) {
        return write(arg, name, value, rest, flags);
    }
    match name {
        "h" | "help" | "?" | "usage" => return Err(Stop::Help),
        "v" | "V" | "version" => return Err(Stop::Version),
        _ => {}
    }
    let unknown = || Stop::Misuse(format!("flag provided but not defined: -{name}"));
    if word.starts_with('-') {
        // A unique abbreviation, as argp takes it.
        let arg = abbreviated(command, name).ok_or_else(unknown)?;
        return write(arg, name, value, rest, flags);
    }
    bundle(command, word, rest, flags).ok_or_else(unknown)?
}

/// `-dt`, and `-bDIR`: short flags without a space between; `None` where one of them is unknown.
fn bundle(
    command: &Command,
    word: &str,
    rest: &mut impl Iterator<Item = String>,
    flags: &mut Vec<String>,
) -> Option<Result<(), Stop>> {
    let mut written = Vec::new();
    for (at, letter) in word.char_indices() {
        let name = letter.to_string();
        let arg = find(command, &name)?;
        let after = word.get(at + letter.len_utf8()..).unwrap_or_default();
        if takes(arg) == Takes::Value || after.starts_with('=') {
            let value = after.strip_prefix('=').unwrap_or(after);
            let value = (!after.is_empty()).then(|| value.to_owned());
            let done = write(arg, &name, value, rest, &mut written);
            flags.append(&mut written);
            return Some(done);
        }
        if let Err(stop) = write(arg, &name, None, rest, &mut written) {
            return Some(Err(stop));
        }
    }
    flags.append(&mut written);
    Some(Ok(()))
}

fn write(
    arg: &Arg,
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = String>,
    flags: &mut Vec<String>,
) -> Result<(), Stop> {
    let long = arg.get_long().unwrap_or(name);
    match (takes(arg), value) {
        (Takes::Nothing, None) => flags.push(format!("--{long}")),
        (Takes::Nothing, Some(value)) => {
            if boolean(name, &value)? {
                flags.push(format!("--{long}"));
            } else {
                // The last one wins, so an earlier `true` is taken back.
                let spelled = format!("--{long}");
                flags.retain(|flag| *flag != spelled);
            }
        }
        (Takes::Boolean, None) => flags.push(format!("--{long}=true")),
        (Takes::Boolean, Some(value)) => flags.push(format!("--{long}={}", boolean(name, &value)?)),
        (Takes::Value, Some(value)) => flags.push(format!("--{long}={value}")),
        (Takes::Value, None) => {
            // Go takes the next word whatever it looks like.
            let value = rest.next().ok_or_else(|| Stop::Misuse(format!("flag needs an argument: -{name}")))?;
            flags.push(format!("--{long}={value}"));
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Takes {
    /// There or not.
    Nothing,
    /// `true`, `false`, or not there.
    Boolean,
    /// A word.
    Value,
}

fn takes(arg: &Arg) -> Takes {
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::Count => Takes::Nothing,
        _ if arg.get_num_args().is_some_and(|range| range.min_values() == 0) => Takes::Boolean,
        _ => Takes::Value,
    }
}

/// What Go's strconv.ParseBool takes, and argp's `no` of crun.
fn boolean(name: &str, text: &str) -> Result<bool, Stop> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "yes" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" | "no" => Ok(false),
        _ => Err(Stop::Misuse(format!("invalid boolean value {text:?} for -{name}: parse error"))),
    }
}

fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut letters = name.chars();
    let letter = letters.next().filter(|_| letters.as_str().is_empty());
    command.get_arguments().find(|arg| {
        let short = letter.is_some_and(|letter| {
            arg.get_short() == Some(letter) || arg.get_all_short_aliases().is_some_and(|all| all.contains(&letter))
        });
        short || arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    })
}

fn abbreviated<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut fitting = command
        .get_arguments()
        .filter(|arg| !name.is_empty() && arg.get_long().is_some_and(|long| long.starts_with(name)));
    fitting.next().filter(|_| fitting.next().is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn command() -> Command {
        Command::new("test").args([
            Arg::new("bundle").long("bundle").short('b').num_args(1),
            Arg::new("detach").long("detach").short('d').action(ArgAction::SetTrue),
            Arg::new("no-subreaper").long("no-subreaper").action(ArgAction::SetTrue),
            Arg::new("tty").long("tty").short('t').num_args(0..=1),
            Arg::new("env").long("env").short('e').action(ArgAction::Append),
            Arg::new("pid-file").long("pid-file").num_args(1),
        ])
    }

    fn sorted(place: Flags, words: &[&str]) -> (String, String) {
        let words = sort(&command(), place, words.iter().map(|word| (*word).to_owned())).unwrap();
        (words.flags.join(" "), words.operands.join(" "))
    }

    fn stopped(words: &[&str]) -> Stop {
        sort(&command(), Flags::Anywhere, words.iter().map(|word| (*word).to_owned())).unwrap_err()
    }

    fn flags(words: &[&str]) -> String {
        sorted(Flags::Anywhere, words).0
    }

    #[test]
    fn every_spelling_of_a_flag() {
        for words in [["--bundle", "x"].as_slice(), &["-bundle", "x"], &["--bundle=x"], &["-bundle=x"], &["-b", "x"]] {
            assert_eq!(flags(words), "--bundle=x", "{words:?}");
        }
        for words in [["-b=x"].as_slice(), &["-bx"], &["--bun", "x"], &["--bun=x"]] {
            assert_eq!(flags(words), "--bundle=x", "{words:?}");
        }
        assert_eq!(flags(&["-no-subreaper"]), "--no-subreaper");
        assert_eq!(flags(&["-dt"]), "--detach --tty=true");
        assert_eq!(flags(&["-dbx"]), "--detach --bundle=x");
        assert_eq!(flags(&["-db", "x"]), "--detach --bundle=x");
        assert_eq!(flags(&["-e", "A=1", "--env=B=2"]), "--env=A=1 --env=B=2");
        assert_eq!(flags(&["--bundle", "--detach"]), "--bundle=--detach");
        assert_eq!(flags(&["--bundle="]), "--bundle=");
    }

    #[test]
    fn booleans_with_values() {
        assert_eq!(flags(&["--detach=true"]), "--detach");
        assert_eq!(flags(&["--detach=false"]), "");
        assert_eq!(flags(&["-d", "-d=0"]), "");
        assert_eq!(flags(&["-t"]), "--tty=true");
        assert_eq!(flags(&["-t=no"]), "--tty=false");
        let wrong = "invalid boolean value \"x\" for -d: parse error";
        assert_eq!(stopped(&["-d=x"]), Stop::Misuse(wrong.into()));
    }

    #[test]
    fn flags_and_operands() {
        assert_eq!(sorted(Flags::Anywhere, &["id", "-d", "TERM"]), ("--detach".into(), "id TERM".into()));
        assert_eq!(sorted(Flags::Anywhere, &["-d", "--", "-x", "-d"]), ("--detach".into(), "-x -d".into()));
        assert_eq!(sorted(Flags::Anywhere, &["-", "-d"]), ("--detach".into(), "-".into()));
        assert_eq!(sorted(Flags::BeforeOperands, &["-d", "id", "ls", "-t"]), ("--detach".into(), "id ls -t".into()));
        assert_eq!(sorted(Flags::BeforeOperands, &["id", "", "-h"]), (String::new(), "id  -h".into()));
    }

    #[test]
    fn mistakes_in_gos_words() {
        assert_eq!(stopped(&["-x"]), Stop::Misuse("flag provided but not defined: -x".into()));
        assert_eq!(stopped(&["--xyz=1"]), Stop::Misuse("flag provided but not defined: -xyz".into()));
        assert_eq!(stopped(&["-dx"]), Stop::Misuse("flag provided but not defined: -dx".into()));
        assert_eq!(stopped(&["--pid-file"]), Stop::Misuse("flag needs an argument: -pid-file".into()));
        assert_eq!(stopped(&["-d", "-h"]), Stop::Help);
        assert_eq!(stopped(&["-?"]), Stop::Help);
        assert_eq!(stopped(&["--version"]), Stop::Version);
    }
}
