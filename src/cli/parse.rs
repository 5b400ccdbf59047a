//! Value parsers: from a word of the command line to a typed value.
//!
//! Input: the value of an argument, as clap splits it off. Output: a typed value, or an error with the word that was
//! probably meant. A parser of a vocabulary also lists its words, for completions. The filter language, and names
//! that the system has to look up, are parsed elsewhere.

use std::ffi::OsStr;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

use crate::aggregate::{By, Direction, Key, Sum};
use crate::cli::habits;
use crate::diagnose::thresholds::Refused;
use crate::diagnose::{RULES, Severity, Thresholds};
use crate::filter;
use crate::model::column::{self, COLUMNS, Column};
use crate::model::state::GROUPS;
use crate::model::{State, StateSet};
use crate::render::topics::TOPICS;
use crate::render::tui::Palette;
use crate::watch::GROUP_KEYS;

/// Longest list of words that an error prints in full.
const LISTED: usize = 20;

/// Parser of a word from a vocabulary.
#[derive(Clone)]
pub(crate) struct OneOf<T: 'static> {
    /// The kind of word, with an article.
    kind: &'static str,
    words: fn() -> Vec<&'static str>,
    find: fn(&str) -> Option<T>,
    /// Where all words are listed, when there are many.
    listed_by: &'static str,
}

impl<T> OneOf<T> {
    pub(crate) fn parse(&self, word: &str) -> Result<T, String> {
        let word = word.trim();
        (self.find)(word).ok_or_else(|| {
            let words = (self.words)();
            // `+age` and `-age` are a sign and a word.
            let word = word.trim_start_matches(['+', '-']);
            let found = format!("`{word}` is not {}", self.kind);
            let begun = |word: &str| -> Vec<&str> {
                words.iter().copied().filter(|known| word.len() > 2 && known.starts_with(&plain(word))).collect()
            };
            match near(word, words.iter().copied()) {
                Some(near) => format!("{found}; did you mean `{near}`?"),
                None if words.len() <= LISTED => format!("{found}; use one of {}", words.join(" ")),
                None if begun(word).len() > 1 => format!("{found}; use one of {}", begun(word).join(" ")),
                None => format!("{found}; `{}` lists all", self.listed_by),
            }
        })
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for OneOf<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        self.parse(&value.to_string_lossy()).map_err(|why| {
            let flag = arg.and_then(Arg::get_long).map_or_else(String::new, |long| format!("--{long}: "));
            Error::raw(ErrorKind::ValueValidation, flag + &why).with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.words)().into_iter().map(PossibleValue::new)))
    }
}

/// The word that was probably meant: what another tool calls so, the only one that begins so, or a close one.
pub(crate) fn near<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (word, words) = (plain(word), words.collect::<Vec<&str>>());
    let mut begun = words.iter().filter(|known| word.len() > 2 && known.starts_with(&word));
    let only = begun.next().filter(|_| begun.next().is_none());
    habits::meant(&word, &words).or(only.copied()).or_else(|| column::similar(&word, words.into_iter()))
}

fn plain(word: &str) -> String {
    word.trim().to_ascii_lowercase().replace('_', "-")
}

/// States and groups of states, in any spelling.
pub(crate) fn states() -> OneOf<StateSet> {
    OneOf { kind: "a TCP state", words: state_words, find: |word| StateSet::parse(word).ok(), listed_by: "" }
}

pub(crate) fn state_words() -> Vec<&'static str> {
    static HYPHENATED: OnceLock<Vec<String>> = OnceLock::new();
    let states = HYPHENATED.get_or_init(|| State::ALL.iter().map(|s| s.key().replace('_', "-")).collect());
    states.iter().map(String::as_str).chain(GROUPS.iter().map(|(name, ..)| *name)).collect()
}

pub(crate) fn severity() -> OneOf<Severity> {
    let words = || Severity::ALL.iter().map(|s| s.key()).collect();
    OneOf { kind: "a severity", words, find: Severity::parse, listed_by: "" }
}

/// The id of a rule.
pub(crate) fn rule() -> OneOf<&'static str> {
    let words = || RULES.iter().map(|r| r.id).collect();
    let find = |word: &str| RULES.iter().map(|r| r.id).find(|id| *id == plain(word));
    OneOf { kind: "a rule", words, find, listed_by: "tcpstate explain" }
}

/// A key of `summary --by`.
pub(crate) fn key() -> OneOf<Key> {
    let words = || Key::ALL.iter().map(|k| k.name()).collect();
    OneOf { kind: "a key", words, find: Key::parse, listed_by: "" }
}

/// A sum of `summary -c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenSum {
    pub sum: Sum,
    /// `+NAME`: beside the states.
    pub adds: bool,
}

pub(crate) fn sum() -> OneOf<ChosenSum> {
    OneOf {
        kind: "a column of groups",
        words: || Sum::ALL.iter().map(|s| s.name()).collect(),
        find: |word| Some(ChosenSum { sum: Sum::parse(word.trim_start_matches('+'))?, adds: word.starts_with('+') }),
        listed_by: "",
    }
}

/// What `summary --sort` orders groups by.
pub(crate) fn group_order() -> OneOf<(By, Direction)> {
    OneOf {
        kind: "a column of groups",
        words: || std::iter::once("total").chain(Sum::ALL.iter().map(|s| s.name())).collect(),
        find: |word| {
            let direction = if word.starts_with('-') { Direction::Descending } else { Direction::Ascending };
            let name = word.trim_start_matches(['-', '+']);
            let by = if plain(name) == "total" { By::Total } else { By::Sum(Sum::parse(name)?) };
            Some((by, direction))
        },
        listed_by: "",
    }
}

/// A key of `watch --by`.
pub(crate) fn group_by() -> OneOf<Key> {
    let words = || GROUP_KEYS.iter().map(|k| k.name()).collect();
    let find = |word: &str| GROUP_KEYS.into_iter().find(|k| k.name() == plain(word));
    OneOf { kind: "a key", words, find, listed_by: "" }
}

/// The colours of `watch --theme`.
pub(crate) fn theme() -> OneOf<Palette> {
    let words = || Palette::ALL.map(Palette::key).into();
    OneOf { kind: "a theme", words, find: |word| Palette::parse(&plain(word)), listed_by: "" }
}

fn column_words() -> Vec<&'static str> {
    COLUMNS.iter().map(|c| c.name).collect()
}

/// A column of `list -c`.
#[derive(Clone, Copy)]
pub struct Chosen {
    pub column: &'static Column,
    /// `+NAME`: in addition to the default ones.
    pub adds: bool,
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.adds { "+" } else { "" }, self.column.name)
    }
}

pub(crate) fn column() -> OneOf<Chosen> {
    OneOf {
        kind: "a column",
        words: column_words,
        find: |word| {
            let name = word.trim_start_matches('+');
            Some(Chosen { column: column::find(name)?, adds: name.len() < word.len() })
        },
        listed_by: "tcpstate list --list-columns",
    }
}

/// The column of `list --sort`.
#[derive(Clone, Copy)]
pub struct SortBy {
    pub column: &'static Column,
    /// `-NAME`: largest first.
    pub descending: bool,
}

impl fmt::Debug for SortBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.descending { "-" } else { "" }, self.column.name)
    }
}

pub(crate) fn sort() -> OneOf<SortBy> {
    OneOf {
        kind: "a column",
        words: column_words,
        find: |word| {
            let column = column::find(word.trim_start_matches(['-', '+']))?;
            Some(SortBy { column, descending: word.starts_with('-') })
        },
        listed_by: "tcpstate list --list-columns",
    }
}

/// A topic of `explain`, or a part of one: `close wait` is two words.
pub(crate) fn topic() -> OneOf<String> {
    OneOf { kind: "a topic", words: topics, find: |word| Some(word.to_owned()), listed_by: "tcpstate explain" }
}

pub(crate) fn topics() -> Vec<&'static str> {
    let mut words = vec!["machine", "bind"];
    words.extend(state_words().into_iter().take(State::ALL.len()));
    words.extend(TOPICS.iter().map(|t| t.name));
    words.extend(RULES.iter().map(|r| r.id));
    words.extend(column_words().into_iter().filter(|c| TOPICS.iter().all(|t| t.name != *c)));
    words
}

/// A duration: `2` (seconds), `0.5`, `500ms`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let seconds = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let text_with_unit = if seconds { format!("{text}s") } else { text.to_owned() };
    match filter::duration(&text_with_unit) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("`{text}` is not a duration; use seconds, such as 2, or a unit, such as 500ms or 1m30s")),
    }
}

/// A pause between two samples.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        pause if pause < Duration::from_millis(100) || pause > Duration::from_secs(86_400) => {
            Err(format!("`{}` is out of range; use 100ms to 1d", text.trim()))
        }
        pause => Ok(pause),
    }
}

/// The size of a ring buffer, in bytes.
pub(crate) fn ring_bytes(text: &str) -> Result<usize, String> {
    match filter::size(text.trim()).ok().and_then(|bytes| usize::try_from(bytes).ok()) {
        Some(bytes) if (4096..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err(format!("`{}` is not a size for it; use bytes, or k, M or G: 4k to 1G", text.trim())),
    }
}

pub(crate) fn at_least_one(text: &str) -> Result<u64, String> {
    let text = text.trim();
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{text}` is not a count; use 1 or more"))
}

pub(crate) fn pid(text: &str) -> Result<u32, String> {
    let text = text.trim();
    text.parse().map_err(|_| format!("`{text}` is not a process id; use a number such as 812"))
}

/// The name of a process.
pub(crate) fn process(text: &str) -> Result<String, String> {
    match text {
        "" => Err("no name given; use one such as nginx, or a pattern such as 'php*'".into()),
        name => Ok(name.to_owned()),
    }
}

/// The name of a systemd unit.
pub(crate) fn unit(text: &str) -> Result<String, String> {
    match text {
        "" => Err("no unit given; use one such as nginx.service, or a pattern such as 'php*'".into()),
        name => Ok(name.to_owned()),
    }
}

/// A threshold and its value, both known to be valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment {
    pub name: &'static str,
    pub value: f64,
}

pub(crate) fn threshold(text: &str) -> Result<Assignment, String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is not NAME=VALUE, such as fd-warn-percent=2"));
    };
    let Ok(value) = value.trim().parse() else {
        return Err(format!("`{}` in `{text}` is not a number", value.trim()));
    };
    let name = Thresholds::default().set(name, value).map_err(|refused| match refused {
        Refused::UnknownName { nearest: None, .. } => {
            format!("{refused}; `tcpstate doctor --show-thresholds` lists all")
        }
        _ => refused.to_string(),
    })?;
    Ok(Assignment { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grammar_of_times_and_sizes() {
        for (text, ms) in
            [("2", 2000), ("0.5", 500), (" 5s ", 5000), ("250ms", 250), ("1h30m", 5_400_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "0", "0s", "-1s", "soon", ".", "1x", "1e3"] {
            assert!(duration(bad).unwrap_err().contains("is not a duration"), "{bad}");
        }
        assert_eq!(interval("5"), Ok(Duration::from_secs(5)));
        assert!(interval("1us").unwrap_err().contains("100ms to 1d") && interval("2d").is_err());
        assert_eq!((ring_bytes("8M"), ring_bytes("4k"), ring_bytes("1G")), (Ok(8 << 20), Ok(4096), Ok(1 << 30)));
        for bad in ["", "k", "1", "2000M", "8G", "-4k"] {
            assert!(ring_bytes(bad).unwrap_err().contains("4k to 1G"), "{bad}");
        }
    }

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let of = |kind: Result<(), String>| kind.unwrap_err();
        for (error, hint) in [
            (of(states().parse("LISTNE").map(drop)), "did you mean `listen`?"),
            (of(states().parse("nope").map(drop)), "use one of established"),
            (of(rule().parse("close-wait-laek").map(drop)), "did you mean `close-wait-leak`?"),
            (of(rule().parse("nope").map(drop)), "`tcpstate explain` lists all"),
            (of(severity().parse("hgih").map(drop)), "did you mean `high`?"),
            (of(severity().parse("loud").map(drop)), "use one of info warning high critical"),
            (of(key().parse("proces").map(drop)), "did you mean `process`?"),
            (of(group_by().parse("hat").map(drop)), "use one of process"),
            (of(theme().parse("colour-blind").map(drop)), "did you mean `color-blind`?"),
            (of(sum().parse("byte-sent").map(drop)), "did you mean `bytes-sent`?"),
            (of(group_order().parse("-sent").map(drop)), "use one of total"),
            (of(column().parse("+uptime").map(drop)), "did you mean `age`?"),
            (of(column().parse("+colour").map(drop)), "`colour` is not a column; `tcpstate list --list-columns`"),
            (of(rule().parse("close-wait").map(drop)), "use one of close-wait-unaccepted close-wait-leak"),
            (of(sort().parse("-stat").map(drop)), "did you mean `state`?"),
        ] {
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn words_are_found_in_any_spelling() {
        assert_eq!(rule().parse("Close_Wait_Leak"), Ok("close-wait-leak"));
        assert_eq!(states().parse("TIME_WAIT"), Ok(StateSet::of(&[State::TimeWait])));
        assert!(column().parse("+age").is_ok_and(|c| c.adds && c.column.name == "age"));
        assert!(sort().parse("-recv_q").is_ok_and(|s| s.descending && s.column.name == "recv-q"));
        let set = Assignment { name: "fd-warn-percent", value: 2.0 };
        assert_eq!(threshold("fd_warn_percent=2"), Ok(set));
        for (bad, why) in
            [("x", "NAME=VALUE"), ("fd-warn-percent=x", "not a number"), ("fd-wran-percent=2", "did you mean")]
        {
            assert!(threshold(bad).unwrap_err().contains(why), "{bad}");
        }
        for vocabulary in [topics(), state_words(), column_words()] {
            assert!(vocabulary.iter().all(|word| *word == plain(word)), "{vocabulary:?}");
        }
        assert!(topics().iter().all(|t| topic().parse(t).is_ok()));
    }
}
