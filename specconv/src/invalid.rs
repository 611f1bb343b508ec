//! The refusal of a config: where, and why.

use std::fmt;

/// A place in `config.json` and a sentence about what is wrong there.
///
/// Prints as `mounts[3].options[1]: "rdonly" is not an option of ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The field, with its index: `linux.resources.memory.limit`. Empty where the document as a whole is meant.
    pub field: String,
    /// Why it is refused.
    pub why: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.why);
        }
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for Invalid {}

/// Something the specification wants to be told about rather than refused.
///
/// Prints as an [`Invalid`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The field, with its index.
    pub field: String,
    /// What was done about it.
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}
