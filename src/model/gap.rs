//! What could not be seen, why, and what would help.
//!
//! Comes in: the three sentences. Goes out: a value that travels with the data to the user. Never here: deciding
//! whether a gap matters.

use std::borrow::Cow;
use std::fmt;

/// Something that the answer lacks. A gap is data, not an error: it is printed with the result, and `--strict` turns
/// it into a failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// What is missing or incomplete: `owners known for 412 of 431 sockets`.
    pub what: Cow<'static, str>,
    /// Why: `no permission to read the descriptors of 19 processes`.
    pub why: Cow<'static, str>,
    /// The way out: `run as root, or with CAP_SYS_PTRACE`. Empty when there is none.
    pub hint: Cow<'static, str>,
}

impl Gap {
    pub fn new(
        what: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Gap {
        Gap { what: what.into(), why: why.into(), hint: hint.into() }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}
