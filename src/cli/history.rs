//! Captures that were opened, by host, and a moment in them.
//!
//! Input: files, and `--at`. Output: for each host the snapshot of that moment, and those before it. What is damaged is told on
//! standard error.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::capture::{self, Capture, Entry, Recorded};
use crate::cli::parse;
use crate::collect::clock::millis;
use crate::collect::error::reason;
use crate::collect::netns;
use crate::model::pattern;
use crate::model::traced::TracedInterval;
use crate::text;

/// How names of captures end.
pub(crate) const SUFFIX: &str = ".tcps.zst";

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long before the end.
    BeforeEnd(Duration),
    At(Timestamp),
    /// The latest such time of day, UTC.
    TimeOfDay(Time),
}

/// As one types it.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::BeforeEnd(before) => write!(f, "-{}ms", before.as_millis()),
            Moment::At(at) => write!(f, "{at}"),
            Moment::TimeOfDay(time) => write!(f, "{time}"),
        }
    }
}

/// `-5m`, `12:30`, `2026-11-29T12:30:00Z`.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    let text = text.trim();
    if let Some(before) = text.strip_prefix('-') {
        return parse::duration(before).map(Moment::BeforeEnd);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::At(at));
    }
    text.parse::<Time>().map(Moment::TimeOfDay).map_err(|_| {
        format!("`{text}` is no moment; use such as -5m before the end, 12:30:00 (UTC), or 2026-11-29T12:30:00Z")
    })
}

/// The same, where a time before the end needs no sign: `10m`.
pub(crate) fn since(text: &str) -> Result<Moment, String> {
    parse::duration(text.trim()).map(Moment::BeforeEnd).or_else(|_| moment(text))
}

struct Part {
    path: PathBuf,
    capture: Capture<BufReader<File>>,
}

impl Part {
    /// When its first and its last snapshot were taken.
    fn ends(&self) -> (u64, u64) {
        let at = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.taken_at_ms);
        (at(self.capture.entries().first()), at(self.capture.entries().last()))
    }
}

/// What captures were opened.
#[derive(Default)]
pub(crate) struct Opened {
    pub hosts: Vec<History>,
    /// Which were left out, in sentences.
    pub notes: Vec<String>,
}

/// A snapshot of a recording: which capture, which snapshot in it, and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    part: usize,
    place: usize,
    pub taken_at_ms: u64,
}

/// Captures of one host in the order of their times, and the moment that was asked for.
pub(crate) struct History {
    /// Whose they are; `None` where nobody asked, as there is one file only.
    host: Option<String>,
    parts: Vec<Part>,
    /// Which capture, and which snapshot in it.
    place: (usize, usize),
    /// When the last snapshot was taken that any of the hosts has: moments before the end are before this one.
    end_ms: u64,
}

impl History {
    /// Opens captures at the moment of `--at`, or at their ends: a history for each host, by its name. `only` is a host, or a pattern.
    pub(crate) fn open(files: &[PathBuf], only: Option<&str>, at: Option<Moment>) -> anyhow::Result<Opened> {
        let mut opened = Opened::default();
        let parts = open_parts(files)?;
        let by_host = if parts.len() == 1 && only.is_none() {
            BTreeMap::from([(None, parts)])
        } else {
            by_host(parts, &mut opened.notes)
        };
        let end_ms = by_host.values().flatten().map(|part| part.ends().1).max().unwrap_or(0);
        let (mut late, mut others): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (host, mut parts) in by_host {
            if !only.is_none_or(|only| host.as_ref().is_some_and(|host| pattern::is(only, host))) {
                others.extend(host);
                continue;
            }
            parts.sort_by_key(|part| part.ends().0);
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { continue };
            let (from, to) = (first.ends().0, last.ends().1);
            let wanted = at.map_or(Some(to), |at| resolve(at, end_ms)).filter(|wanted| *wanted >= from);
            if let Some(place) = wanted.and_then(|wanted| place_at(&parts, wanted)) {
                opened.hosts.push(History { host, parts, place, end_ms });
            } else {
                let path = first.path.display();
                late.push(format!("{path}: it begins at {}, after the moment of --at", clock(from)));
            }
        }
        if opened.hosts.is_empty() {
            if let (Some(only), true) = (only, late.is_empty()) {
                bail!("--host {only}: the captures are of {}", others.join(", "));
            }
            bail!("{}", late.join("; "));
        }
        opened.notes.extend(late);
        Ok(opened)
    }

    /// Whose captures they are.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The snapshot of the moment, or the latest one before it that can be read; with what was passed over.
    pub(crate) fn now(&mut self) -> anyhow::Result<(Recorded, Vec<String>)> {
        let (part, place) = self.place;
        let Part { path, capture } = &mut self.parts[part];
        let wanted = capture.entries()[place].taken_at_ms;
        let (found, recorded) = capture.read_until(place).with_context(|| format!("{}", path.display()))?;
        let mut notes: Vec<String> = capture
            .damage()
            .iter()
            .map(|d| format!("{}: bytes {} to {} are damaged: {}", path.display(), d.from, d.to, d.why))
            .collect();
        if found != place {
            let (of, at) = (clock(wanted), clock(recorded.snapshot.taken_at_ms));
            notes.push(format!("{}: the snapshot of {of} cannot be read; this is that of {at}", path.display()));
        }
        self.place.1 = found;
        Ok((recorded, notes))
    }

    /// The snapshots from one moment to another, both included, in the order of their times.
    pub(crate) fn stretch(&self, since: Option<Moment>, until: Option<Moment>) -> anyhow::Result<Vec<Step>> {
        let steps = self.parts.iter().enumerate().flat_map(|(part, of)| {
            let entries = of.capture.entries().iter().enumerate();
            entries.map(move |(place, entry)| Step { part, place, taken_at_ms: entry.taken_at_ms })
        });
        let mut steps: Vec<Step> = steps.collect();
        // Recordings may overlap.
        steps.sort_by_key(|step| step.taken_at_ms);
        let Some(first) = steps.first().copied() else { bail!("there is no snapshot") };
        let end = self.end_ms;
        // What begins before the recording begins with it.
        let from = since.map_or(first.taken_at_ms, |since| resolve(since, end).unwrap_or(0));
        let to = until.map_or(end, |until| resolve(until, end).unwrap_or(0));
        if since.is_none() && to < from {
            bail!("--until is {}, before the recording begins at {}", clock(to), clock(from));
        }
        if from > to {
            bail!("--since is {}, and --until is {} before it", clock(from), clock(to));
        }
        steps.retain(|step| (from..=to).contains(&step.taken_at_ms));
        if steps.is_empty() {
            let (first, from, to) = (clock(first.taken_at_ms), clock(from), clock(to));
            bail!("there is no snapshot from {from} to {to}; the recording is of {first} to {}", clock(end));
        }
        Ok(steps)
    }

    /// Reads one of them.
    pub(crate) fn read(&mut self, step: Step) -> Result<Recorded, capture::Error> {
        self.parts[step.part].capture.read(step.place)
    }

    /// What was traced up to it; the snapshot itself is not made.
    pub(crate) fn traced(&mut self, step: Step) -> Result<Option<TracedInterval>, capture::Error> {
        self.parts[step.part].capture.traced(step.place)
    }

    /// The snapshot before one of them; `None` for the first snapshot of a file.
    pub(crate) fn just_before(&mut self, step: Step) -> Option<Recorded> {
        let before = Step { place: step.place.checked_sub(1)?, ..step };
        self.read(before).ok()
    }

    /// The snapshot before the one that was read: the latest that is so much older at least, or the oldest there is.
    pub(crate) fn before(&mut self, older: Option<Duration>) -> Option<Recorded> {
        let (part, place) = self.place;
        let entries = self.parts[part].capture.entries();
        let at = match older {
            None => place.checked_sub(1)?,
            Some(older) => {
                let latest = entries[place].taken_at_ms.saturating_sub(millis(older));
                entries[..place].iter().rposition(|e| e.taken_at_ms <= latest).or((place > 0).then_some(0))?
            }
        };
        self.parts[part].capture.read_until(at).ok().map(|(_, recorded)| recorded)
    }
}

/// The time of a snapshot as people read it.
pub(crate) fn clock(ms: u64) -> String {
    text::timestamp(ms).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

fn resolve(moment: Moment, end_ms: u64) -> Option<u64> {
    let at = match moment {
        Moment::BeforeEnd(before) => return end_ms.checked_sub(millis(before)),
        Moment::At(at) => at,
        Moment::TimeOfDay(time) => {
            let end = text::timestamp(end_ms)?.to_zoned(TimeZone::UTC);
            let same_day = end.date().to_datetime(time).to_zoned(TimeZone::UTC).ok()?;
            let at = if same_day > end { same_day.checked_sub(1.day()).ok()? } else { same_day };
            at.timestamp()
        }
    };
    u64::try_from(at.as_millisecond()).ok()
}

fn place_at(parts: &[Part], wanted: u64) -> Option<(usize, usize)> {
    (0..parts.len()).rev().find_map(|part| Some((part, parts[part].capture.place_at(wanted)?)))
}

/// Opens files. The one that is being written may have no snapshot yet.
fn open_parts(files: &[PathBuf]) -> anyhow::Result<Vec<Part>> {
    netns::make_room(files.len() as u64);
    let (mut parts, mut empty) = (Vec::new(), None);
    for path in files {
        let shown = path.display();
        let file = File::open(path).map_err(|e| anyhow!("cannot open {shown}: {}", reason(&e)))?;
        match Capture::open(BufReader::new(file)) {
            Ok(capture) => parts.push(Part { path: path.clone(), capture }),
            Err(error @ capture::Error::Empty) => {
                empty = empty.or(Some(anyhow::Error::new(error).context(format!("{shown}"))));
            }
            Err(error) => return Err(error).with_context(|| format!("{shown}")),
        }
    }
    match empty {
        Some(error) if parts.is_empty() => Err(error),
        _ => Ok(parts),
    }
}

/// The captures of each host.
fn by_host(parts: Vec<Part>, notes: &mut Vec<String>) -> BTreeMap<Option<String>, Vec<Part>> {
    let mut by_host: BTreeMap<Option<String>, Vec<Part>> = BTreeMap::new();
    let mut unread = Vec::new();
    for mut part in parts {
        let known: Vec<String> = by_host.keys().flatten().cloned().collect();
        match part.capture.host(&known) {
            Some(host) => by_host.entry(Some(host)).or_default().push(part),
            None => unread.push(part),
        }
    }
    if by_host.is_empty() {
        by_host.insert(None, unread);
    } else {
        notes.extend(unread.iter().map(|part| format!("{}: no snapshot of it can be read", part.path.display())));
    }
    by_host
}

/// The captures of a folder, and of the folders in it: one for each host.
pub(crate) fn captures(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link may lead anywhere, also back.
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    for folder in folders {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(SUFFIX) && entry.path().is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_printed_as_one_types_it() {
        for text in ["-5m", "-1h30m", "-250ms", "12:30", "12:30:01.5", "2026-11-29T12:30:00Z"] {
            let parsed = moment(text).unwrap();
            assert_eq!(moment(&parsed.to_string()), Ok(parsed), "{text}");
        }
    }
}
