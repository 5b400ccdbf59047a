//! The filter language: which rows the user wants.
//!
//! Input: text such as `state time-wait and dport = :443`. Output: an [`Expr`] that matches rows, says what it needs
//! to know, and compiles the part that the kernel can check. The caller brings a [`Resolver`] for names.
//!
//! The language is a superset of ss's. `docs/filter.md` describes it for users.

mod bounds;
pub(crate) mod bytecode;
mod display;
mod eval;
mod event;
mod expr;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

pub use bytecode::{Abilities, Compiled, compile};
pub use expr::{Cmp, Col, End, Expr, Net, Pattern, Test};
pub use parse::{MAX_DEPTH, MAX_TEXT_BYTES, parse};

/// Names to numbers. `cli` looks them up; the parser only asks.
pub trait Resolver {
    /// The TCP port of a service (`/etc/services`).
    fn port(&self, service: &str) -> Option<u16>;
    /// The index of a network interface.
    fn interface(&self, name: &str) -> Option<u32>;
    /// The id of a user.
    fn user(&self, name: &str) -> Option<u32>;
    /// The id of a cgroup v2 directory, by its path below the cgroup mount.
    fn cgroup(&self, path: &str) -> Option<u64>;
    /// The addresses of a host; empty if it has none or is not known.
    fn addresses(&self, host: &str) -> Vec<IpAddr>;
}

/// Resolves nothing.
pub struct NoResolver;

impl Resolver for NoResolver {
    fn port(&self, _: &str) -> Option<u16> {
        None
    }
    fn interface(&self, _: &str) -> Option<u32> {
        None
    }
    fn user(&self, _: &str) -> Option<u32> {
        None
    }
    fn cgroup(&self, _: &str) -> Option<u64> {
        None
    }
    fn addresses(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}

/// Why a text is not a filter. Displays as three lines: the problem, the text, and a caret line under the word.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseError {
    /// The whole text.
    pub text: String,
    /// The byte range that is wrong; empty at the end of the text when something is missing.
    pub at: Range<usize>,
    /// What is wrong, as a sentence without a full stop: `` `99999` is not a port ``.
    pub found: String,
    /// What would be valid there.
    pub expected: String,
    /// The word that was probably meant by a misspelt one.
    pub meant: Option<String>,
}

/// Widest excerpt of the text in an error.
const EXCERPT_CHARS: usize = 96;

impl ParseError {
    /// The same in one line, for logs and commands that print one line per error.
    #[must_use]
    pub fn one_line(&self) -> String {
        format!("filter: {} ({})", self.found, self.advice())
    }

    /// What to write instead.
    fn advice(&self) -> String {
        match &self.meant {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("expected {}", self.expected),
        }
    }

    /// The excerpt, with the number of characters before the error in it and under it.
    fn excerpt(&self) -> (String, usize, usize) {
        let clean = |part: &str| -> Vec<char> { part.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
        let start = floor(&self.text, self.at.start);
        let end = floor(&self.text, self.at.end.max(start));
        let (before, word, after) =
            (clean(&self.text[..start]), clean(&self.text[start..end]), clean(&self.text[end..]));
        let word = &word[..word.len().min(EXCERPT_CHARS / 2)];
        let room = EXCERPT_CHARS - word.len();
        let left = before.len().min(room / 2);
        let right = after.len().min(room - left);
        let mut line = String::new();
        let mut indent = left;
        if left < before.len() {
            line.push_str("...");
            indent += 3;
        }
        line.extend(&before[before.len() - left..]);
        line.extend(word);
        line.extend(&after[..right]);
        if right < after.len() {
            line.push_str("...");
        }
        (line, indent, word.len().max(1))
    }
}

/// The largest character boundary that is not after `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, indent, width) = self.excerpt();
        writeln!(f, "filter: {}", self.found)?;
        writeln!(f, "  {line}")?;
        write!(f, "  {:indent$}{} {}", "", "^".repeat(width), self.advice())
    }
}

impl std::error::Error for ParseError {}

/// Parses a duration as filters spell it: `500ms`, `10s`, `1h30m`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(word: &str) -> Result<std::time::Duration, String> {
    value::duration_us(word).map(std::time::Duration::from_micros).map_err(Problem::one_line)
}

/// Parses a size in bytes as filters spell it: `4096`, `64k`, `1.5M`.
///
/// # Errors
/// What is wrong with it.
pub fn size(word: &str) -> Result<u64, String> {
    value::bytes(word).map_err(Problem::one_line)
}

/// What is wrong with a value, before its position in the text is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    found: String,
    expected: String,
    meant: Option<String>,
}

impl Problem {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Problem {
        Problem { found: found.into(), expected: expected.into(), meant: None }
    }

    fn one_line(self) -> String {
        format!("{} ({})", self.found, self.expected)
    }
}

/// The user's word in an error: quoted, short, without control characters.
fn show(word: &str) -> String {
    let mut shown: String = word.chars().take(48).map(|c| if c.is_control() { '?' } else { c }).collect();
    if word.chars().nth(48).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}
