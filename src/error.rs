//! What went wrong: what we were doing, which field asked for it, and which call refused.
//!
//! An error is made where it happens and gains words on its way up ([`Context::doing`], [`Context::at`]);
//! nothing logs and returns. It prints as one line:
//! `cannot create web: mounts[3] (/data): attach mount: move_mount(...): invalid argument (EINVAL)`.
//! It is plain data, so that init's failure crosses to the parent whole.

use std::borrow::Cow;
use std::fmt;

use crate::sys::{Errno, Refused};

/// What the library's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is, for callers who must branch. The sentences that engines match come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Kind {
    /// None of the kinds below.
    #[default]
    Other,
    /// The config (or the command line) asks for something that makes no sense.
    Invalid,
    /// The config asks for something that this host, or this version of orlop, does not have.
    Unsupported,
    /// `container with given ID already exists`.
    Exists,
    /// `container does not exist`.
    NotFound,
    /// `container not running`.
    NotRunning,
    /// `container paused` and its kin: the container is in the wrong state for the request.
    WrongState,
}

/// A failure, with its whole story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    /// Innermost first.
    context: Vec<Cow<'static, str>>,
    cause: Cause,
}

/// Where the story began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused a call.
    Refused(Refused),
    /// We refused, in a sentence.
    Said(Cow<'static, str>),
}

impl Error {
    /// A refusal of our own, in a sentence.
    pub fn new(kind: Kind, sentence: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, context: Vec::new(), cause: Cause::Said(sentence.into()) }
    }

    /// The config asks for something that makes no sense.
    pub fn invalid(field: impl fmt::Display, why: impl fmt::Display) -> Self {
        Error::new(Kind::Invalid, format!("{field}: {why}"))
    }

    /// The config asks for something that cannot be had here.
    pub fn unsupported(field: impl fmt::Display, why: impl fmt::Display) -> Self {
        Error::new(Kind::Unsupported, format!("{field}: {why}"))
    }

    /// A failure of this kind rebuilt from its parts (innermost context first), as it came over the link.
    pub fn from_parts(kind: Kind, context: Vec<Cow<'static, str>>, cause: Cause) -> Self {
        Error { kind, context, cause }
    }

    /// The same failure, told with what we were doing. ([`Context::doing`] does this to the failure in a result.)
    #[must_use]
    pub fn doing(mut self, what: impl Into<Cow<'static, str>>) -> Self {
        self.context.push(what.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Innermost first: what we were doing, and which field asked.
    pub fn context(&self) -> &[Cow<'static, str>] {
        &self.context
    }

    /// Where it began.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What the kernel answered, where it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match &self.cause {
            Cause::Refused(refused) => Some(refused.errno),
            Cause::Said(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for words in self.context.iter().rev() {
            write!(f, "{words}: ")?;
        }
        match &self.cause {
            Cause::Refused(refused) => refused.fmt(f),
            Cause::Said(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Error { kind: Kind::Other, context: Vec::new(), cause: Cause::Refused(refused) }
    }
}

impl From<specconv::Invalid> for Error {
    fn from(invalid: specconv::Invalid) -> Self {
        Error::new(Kind::Invalid, invalid.to_string())
    }
}

/// Adds words to a failure on its way up.
pub trait Context<T> {
    /// What we were doing: `attach mount`.
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T>;

    /// What we were doing, where the words cost something to make.
    fn doing_with(self, what: impl FnOnce() -> String) -> Result<T>;

    /// Which field of `config.json` asked for it: `mounts[3] (/data)`.
    fn at(self, field: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|error| error.into().doing(what))
    }

    fn doing_with(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.into().doing(what()))
    }

    fn at(self, field: impl FnOnce() -> String) -> Result<T> {
        self.doing_with(field)
    }
}
