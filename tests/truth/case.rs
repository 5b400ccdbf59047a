//! A case as data: how a fault is made, and what a true diagnosis of it says.
//!
//! A case is one bash script in `tests/truth/cases`. Its `#: ` lines are TOML and say what is expected; the rest makes
//! the state with real programs, calls `ready`, and waits. `tests/truth/lib.sh` has what scripts share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tcpstate::diagnose::{RULES, Severity};

/// What a script says about itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What is wrong, or what is healthy here, in one line.
    pub title: String,
    /// Kind of mistake that the case guards against: K1 (unproven number), K2 (wrong cause), K3 (no row), K4 (severity),
    /// K5 (incidents), K6 (identity), K7 (missing rule).
    pub kind: String,
    /// Programs that must be installed.
    #[serde(default)]
    pub needs: Vec<String>,
    /// How long the case takes in all. Cases below [`FAST_SECONDS`] run with `cargo test`.
    pub seconds: u32,
    /// Namespaces to diagnose: `c` is the client's, `s` the server's (see `lib.sh`).
    #[serde(default = "client")]
    pub look_from: String,
    /// Arguments of `doctor`; every set is tried.
    #[serde(default)]
    pub doctor: Vec<Vec<String>>,
    /// Diagnose as an unprivileged user.
    #[serde(default)]
    pub nobody: bool,
    /// How often each set of arguments is tried.
    #[serde(default = "once")]
    pub times: u32,
    /// Nothing is wrong: no finding may be a warning or worse.
    #[serde(default)]
    pub healthy: bool,
    /// Every one of these must be found.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// Rules that are true here too, and need not fire.
    #[serde(default)]
    pub also: Vec<String>,
    /// After `cure` (a function of the script) nothing may be found any more, this many seconds later.
    pub silent_after_cure_seconds: Option<u32>,
}

fn client() -> String {
    "c".to_owned()
}

fn once() -> u32 {
    1
}

/// One finding that a true diagnosis has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Any of these rules.
    pub rule: Vec<String>,
    /// Name of the process that is named.
    pub comm: Option<String>,
    /// `ADDR:PORT`, or `:PORT`.
    pub destination: Option<String>,
    pub listener: Option<String>,
    /// Identifier of the cause that is named, or leads the hypotheses.
    pub cause: Option<String>,
    /// Causes that must not be named.
    #[serde(default)]
    pub never_cause: Vec<String>,
    /// Texts that neither headline nor remedy may contain: what would send a person the wrong way.
    #[serde(default)]
    pub never_said: Vec<String>,
    /// Texts of which one must be in headline, remedy or reason.
    #[serde(default)]
    pub said: Vec<String>,
    pub severity_at_least: Option<String>,
    pub severity_at_most: Option<String>,
    /// Evidence by key: from, to.
    #[serde(default)]
    pub numbers: BTreeMap<String, [f64; 2]>,
}

/// Cases that take less run with every `cargo test`.
pub const FAST_SECONDS: u32 = 10;

/// A script and its header.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub script: PathBuf,
    pub header: Header,
}

impl Case {
    /// Reads a script.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with its header.
    pub fn read(script: &Path) -> Result<Case, String> {
        let at = script.display();
        let text = std::fs::read_to_string(script).map_err(|e| format!("cannot read {at}: {e}"))?;
        let lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("#:")).map(str::trim).collect();
        let header: Header = toml::from_str(&lines.join("\n")).map_err(|e| format!("{at}: {}", e.message()))?;
        let name = script.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let case = Case { name, script: script.to_owned(), header };
        match case.mistake() {
            Some(why) => Err(format!("{at}: {why}")),
            None => Ok(case),
        }
    }

    fn mistake(&self) -> Option<String> {
        let h = &self.header;
        if h.healthy != h.expect.is_empty() {
            return Some("a case is healthy, or has an [[expect]]".into());
        }
        let rules = h.expect.iter().flat_map(|e| &e.rule).chain(&h.also);
        if let Some(unknown) = rules.into_iter().find(|id| !RULES.iter().any(|r| r.id == **id)) {
            // A rule that is still to be written is missed, not an error.
            if !unknown.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit()) {
                return Some(format!("`{unknown}` cannot be a rule"));
            }
        }
        let severities = h.expect.iter().flat_map(|e| [&e.severity_at_least, &e.severity_at_most]).flatten();
        for word in severities {
            if Severity::parse(word).is_none() {
                return Some(format!("`{word}` is no severity"));
            }
        }
        None
    }

    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.header.seconds < FAST_SECONDS
    }
}
