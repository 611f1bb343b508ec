//! Regular expressions as the C library has them: what crun's `--regex` takes.

use std::ffi::CString;

/// A POSIX extended regular expression, compiled by the C library: what crun's `--regex` takes.
pub struct Pattern(Box<libc::regex_t>);

impl Pattern {
    /// Compiles an expression; `None` where it is none.
    ///
    /// regcomp(3) with REG_EXTENDED and REG_NOSUB.
    pub fn new(expression: &str) -> Option<Self> {
        let expression = CString::new(expression).ok()?;
        let mut compiled = Box::new(std::mem::MaybeUninit::<libc::regex_t>::zeroed());
        // SAFETY: the first argument points to writable memory of the right size, which regcomp initialises
        // when it returns 0; the second is a NUL-terminated string that outlives the call.
        let failed =
            unsafe { libc::regcomp(compiled.as_mut_ptr(), expression.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if failed != 0 {
            return None;
        }
        // SAFETY: regcomp returned 0, so it has initialised the whole value.
        Some(Pattern(unsafe { compiled.assume_init() }))
    }

    /// Whether the expression is found anywhere in `text`.
    ///
    /// regexec(3).
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the pattern was compiled by regcomp and not freed; the text is NUL-terminated; no matches are
        // asked for, so the null array of length 0 is never written.
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp, freed once, never used again.
        unsafe { libc::regfree(&raw mut *self.0) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn extended_expressions() {
        let web = Pattern::new("^web-(a|b)[0-9]+$").unwrap();
        assert!(web.matches("web-a12"));
        assert!(!web.matches("web-c12"));
        assert!(!web.matches("xweb-a12"));
        assert!(Pattern::new("b").unwrap().matches("abc"));
        assert!(Pattern::new("a(").is_none());
        assert!(Pattern::new("a\0b").is_none());
    }
}
