//! One line for one cgroup file, as data.

use std::borrow::Cow;

use specconv::{Limit, Warning};

/// One line for one cgroup file, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which controller: of a hierarchy of v1, or of v2.
    pub controller: Controller,
    /// Name of the file.
    pub file: Cow<'static, str>,
    /// What is written, in one write(2).
    pub value: String,
    /// The field of `config.json`.
    pub field: Cow<'static, str>,
    /// When it is written.
    pub when: When,
    /// What a missing file means.
    pub absent: Absent,
    /// What EINVAL means.
    pub refused: Refused,
}

/// A controller, in the version of cgroups that has it on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Controller {
    /// In its hierarchy of cgroup v1.
    V1(&'static str),
    /// In the tree of cgroup v2; `cgroup` for the files of the core.
    V2(Cow<'static, str>),
}

/// When a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the first process enters: without it the kernel would refuse the process.
    BeforeEntry,
    /// Once the processes that make the container are born: a limit of one task must not stop them.
    Limit,
}

/// What a missing file means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The controller is off, or the kernel is too old.
    IsAnError,
    /// There is nothing to limit: the value is what holds anyway.
    MeansAlreadySo,
    /// Another name for the same thing, with its own scale.
    Instead {
        /// Name of the other file.
        file: &'static str,
        /// What is written there.
        value: String,
    },
}

/// What EINVAL means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The value is wrong.
    IsAnError,
    /// The value may not fit the old value of another file: it is tried once more after all others.
    TryAgainLast,
}

impl Absent {
    /// For a value that may be the one which holds without the file.
    pub fn already_so_if(so: bool) -> Absent {
        if so { Absent::MeansAlreadySo } else { Absent::IsAnError }
    }
}

impl Write {
    /// A line whose missing file and whose refusal are errors.
    pub fn new(
        controller: Controller,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        field: impl Into<Cow<'static, str>>,
    ) -> Self {
        Write {
            controller,
            file: file.into(),
            value: value.into(),
            field: field.into(),
            when: When::Limit,
            absent: Absent::IsAnError,
            refused: Refused::IsAnError,
        }
    }

    /// The same line, before the first process enters.
    pub fn before_entry(self) -> Self {
        Write { when: When::BeforeEntry, ..self }
    }

    /// The same line, for a file that may be missing.
    pub fn absent(self, absent: Absent) -> Self {
        Write { absent, ..self }
    }

    /// The same line, tried once more at the end.
    pub fn again_last(self) -> Self {
        Write { refused: Refused::TryAgainLast, ..self }
    }
}

impl Controller {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Controller::V1(name) => name,
            Controller::V2(name) => name,
        }
    }
}

/// What the tables of v1 and v2 fill.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    /// Lines to write, in order.
    pub writes: Vec<Write>,
    /// What was asked and does nothing.
    pub warnings: Vec<Warning>,
}

impl Rows {
    /// Adds a line.
    pub fn push(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Adds a warning.
    pub fn warn(&mut self, field: &str, what: impl Into<String>) {
        self.warnings.push(Warning { field: field.to_owned(), what: what.into() });
    }
}

/// The limit, unless it is 0: engines send 0 for a limit that is not set, and no container could live with it.
pub fn set(limit: Option<Limit>) -> Option<Limit> {
    limit.filter(|limit| *limit != Limit::Max(0))
}

/// The number, unless it is 0, which engines send for one that is not set.
pub fn above_zero(number: Option<u64>) -> Option<u64> {
    number.filter(|number| *number != 0)
}
