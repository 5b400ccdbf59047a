//! What `--from` names: a capture, or a folder of captures of one host, and a moment in it.
//!
//! Input: a path, and `--at`. Output: the snapshot of that moment, and those before it. What is damaged is told on standard
//! error.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::capture::{self, Capture, Recorded};
use crate::cli::parse;
use crate::collect::clock::millis;
use crate::collect::error::reason;
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

/// A snapshot of a recording: which capture, which snapshot in it, and when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    part: usize,
    place: usize,
    pub taken_at_ms: u64,
}

/// Captures in the order of their times, and the moment that was asked for.
pub(crate) struct History {
    parts: Vec<Part>,
    /// Which capture, and which snapshot in it.
    place: (usize, usize),
}

impl History {
    /// Opens what `--from` names, at the moment of `--at`, or at the end.
    pub(crate) fn open(path: &Path, at: Option<Moment>) -> anyhow::Result<History> {
        let mut parts = Vec::new();
        for path in files(path)? {
            let shown = path.display();
            let file = File::open(&path).map_err(|e| anyhow!("cannot open {shown}: {}", reason(&e)))?;
            let capture = match Capture::open(BufReader::new(file)) {
                Ok(capture) => capture,
                // The one that is being written may have no snapshot yet.
                Err(capture::Error::Empty) if !parts.is_empty() => continue,
                Err(error) => return Err(error).with_context(|| format!("{shown}")),
            };
            parts.push(Part { path, capture });
        }
        let first_of = |part: &Part| part.capture.entries().first().map_or(0, |entry| entry.taken_at_ms);
        parts.sort_by_key(first_of);
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            bail!("{}: there is no capture ({SUFFIX}) in this folder", path.display());
        };
        let (from, to) = (first_of(first), last.capture.entries().last().map_or(0, |entry| entry.taken_at_ms));
        let wanted = at.map_or(Some(to), |at| resolve(at, to)).filter(|wanted| *wanted >= from);
        let Some(place) = wanted.and_then(|wanted| place_at(&parts, wanted)) else {
            bail!("{}: it begins at {}, after the moment of --at", path.display(), clock(from));
        };
        Ok(History { parts, place })
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
        // Recordings of several hosts overlap.
        steps.sort_by_key(|step| step.taken_at_ms);
        let (Some(first), Some(last)) = (steps.first().copied(), steps.last().copied()) else {
            bail!("there is no snapshot");
        };
        let end = last.taken_at_ms;
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

/// Whether a folder has captures.
pub(crate) fn has_captures(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().ends_with(SUFFIX))
}

/// The file itself, or the captures of a folder.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|e| anyhow!("cannot read {}: {}", path.display(), reason(&e)))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| anyhow!("cannot read {}: {}", path.display(), reason(&e)))?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            found.push(path);
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
