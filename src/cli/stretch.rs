//! A part of a recording: from one moment to another, snapshot by snapshot.
//!
//! Input: what `--from`, `--since` and `--until` name. Output: the snapshots in their order, each with what was traced since the
//! one that was taken before it. Not here: what is made of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::aggregate::joined::joined;
use crate::capture::Recorded;
use crate::cli::args::Replay;
use crate::cli::history::{self, History, Moment, Step};
use crate::cli::saved::{self, Opened, Saved};
use crate::cli::session;
use crate::collect::clock::millis;
use crate::collect::rights;
use crate::model::capability::Capability;
use crate::model::names::NameTable;
use crate::model::traced::TracedInterval;
use crate::render::gap::hint;
use crate::text;

/// Where the flight recorder of a host writes (packaging/systemd/tcpstate-record.service).
pub(crate) const FLIGHT_RECORDER: &str = "/var/lib/tcpstate";

/// A snapshot comes this much too early at most, where one per interval is wanted.
const EARLY_MS: u64 = 100;

/// Which part of a recording.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Range {
    /// Of a recording the part from this moment on: 10m before its end, 12:30:00 (UTC), 2026-11-29T12:30:00Z
    #[arg(long, value_name = "MOMENT", value_parser = history::since, allow_hyphen_values = true)]
    #[arg(help_heading = "Source")]
    pub since: Option<Moment>,
    /// And up to this moment, likewise [default: its end]
    #[arg(long, value_name = "MOMENT", value_parser = history::since, allow_hyphen_values = true)]
    #[arg(help_heading = "Source")]
    pub until: Option<Moment>,
}

impl Range {
    /// Of a command that has `--at`, its options exclude that one.
    pub(crate) fn without_at(arg: clap::Arg) -> clap::Arg {
        let is_of_range = ["since", "until"].contains(&arg.get_id().as_str());
        if is_of_range { arg.conflicts_with("at") } else { arg }
    }

    /// Whether a part of a recording is asked for, and not one moment.
    pub(crate) fn is_named(self) -> bool {
        self.since.is_some() || self.until.is_some()
    }
}

/// The snapshots of a part of a recording, one after the other.
pub(crate) struct Stretch {
    history: History,
    /// The options that open it.
    pub replay: Replay,
    steps: Vec<Step>,
    /// The next one.
    place: usize,
    /// When the latest one was taken.
    latest_ms: Option<u64>,
    /// Snapshots that could not be read.
    unread: u64,
}

impl Stretch {
    /// Opens a part of what was recorded of one host.
    pub(crate) fn open(replay: &Replay, range: Range) -> anyhow::Result<Stretch> {
        let (mut stretches, _) = Stretch::open_all(replay, range)?;
        match (stretches.pop(), stretches.is_empty()) {
            (Some(stretch), true) => Ok(stretch),
            (last, _) => {
                let hosts = stretches.iter().chain(&last).filter_map(Stretch::host);
                Err(session::several(&hosts.collect::<Vec<_>>()))
            }
        }
    }

    /// Opens a part of what `--from` names, of each host; without it of what the flight recorder of this host has. Sentences tell
    /// which hosts have none of it.
    pub(crate) fn open_all(replay: &Replay, range: Range) -> anyhow::Result<(Vec<Stretch>, Vec<String>)> {
        let replay = if replay.from.is_empty() {
            Replay { from: vec![flight_recorder()?], ..replay.clone() }
        } else {
            replay.clone()
        };
        let Opened { hosts, mut notes } = saved::open(&Replay { at: None, ..replay.clone() })?;
        let (mut stretches, mut failed, is_one) = (Vec::new(), None, hosts.len() == 1);
        for saved in hosts {
            let Saved::Capture(history) = saved else {
                bail!("{} is a single snapshot; this takes a recording made by `tcpstate record`", shown(&replay));
            };
            let host = history.host().map_or_else(|| shown(&replay), str::to_owned);
            match history.stretch(range.since, range.until).with_context(|| host) {
                Ok(steps) => {
                    let replay = if is_one { replay.clone() } else { of_host(&replay, &history) };
                    stretches.push(Stretch { history, replay, steps, place: 0, latest_ms: None, unread: 0 });
                }
                Err(error) => {
                    notes.push(format!("{error:#}"));
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if stretches.is_empty() => Err(error),
            _ => Ok((stretches, notes)),
        }
    }

    /// Whose it is, where there are several.
    pub(crate) fn host(&self) -> Option<&str> {
        self.history.host()
    }

    /// What it is read from, as one types it.
    pub(crate) fn name(&self) -> String {
        shown(&self.replay)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Leaves out what comes so long after the first snapshot.
    pub(crate) fn cut(&mut self, limit: Duration) {
        let end = self.ends().0.saturating_add(millis(limit));
        self.steps.retain(|step| step.taken_at_ms <= end);
    }

    /// What numbers are called, as the last snapshot has it: names are kept from snapshot to snapshot.
    pub(crate) fn names(&mut self) -> Option<NameTable> {
        let recorded = self.history.read(*self.steps.last()?).ok()?;
        Some(recorded.names)
    }

    /// When the first and the last snapshot were taken.
    pub(crate) fn ends(&self) -> (u64, u64) {
        let at = |step: Option<&Step>| step.map_or(0, |step| step.taken_at_ms);
        (at(self.steps.first()), at(self.steps.last()))
    }

    /// The time between two looks: as it is given, else that of the doctor of a running system, or so much that no more looks come of
    /// a stretch of any length than people wait for.
    pub(crate) fn pace(&self, given: Option<Duration>) -> Duration {
        const LOOKS: u64 = 300;
        const LEAST: Duration = Duration::from_secs(2);
        let (from, to) = self.ends();
        given.unwrap_or_else(|| LEAST.max(Duration::from_millis(to.saturating_sub(from) / LOOKS)))
    }

    /// Goes on with another snapshot.
    pub(crate) fn seek(&mut self, place: usize) {
        self.place = place.min(self.steps.len().saturating_sub(1));
        self.latest_ms = None;
    }

    /// The snapshot before the first one, to compare with.
    pub(crate) fn before(&mut self) -> Option<Recorded> {
        self.history.just_before(*self.steps.first()?)
    }

    /// The next snapshot that comes so long after the latest one, or is the last; `None` at the end. It has what was traced
    /// since the latest one. What is damaged is passed over.
    pub(crate) fn next(&mut self, every: Duration) -> anyhow::Result<Option<Recorded>> {
        let every = millis(every).saturating_sub(EARLY_MS);
        let mut between: Option<TracedInterval> = None;
        while let Some(step) = self.steps.get(self.place).copied() {
            self.place += 1;
            let is_due = self.latest_ms.is_none_or(|latest| step.taken_at_ms.saturating_sub(latest) >= every);
            let is_last = self.place == self.steps.len();
            if !is_due && !is_last {
                match self.history.traced(step) {
                    Ok(traced) => between = joined(between, traced),
                    Err(error) => self.skip(error)?,
                }
                continue;
            }
            match self.history.read(step) {
                Ok(mut recorded) => {
                    self.latest_ms = Some(step.taken_at_ms);
                    let traced = recorded.snapshot.traced.take();
                    recorded.snapshot.traced = joined(between, traced);
                    return Ok(Some(recorded));
                }
                Err(error) => self.skip(error)?,
            }
        }
        Ok(None)
    }

    /// Passes over a snapshot that is damaged, or builds on one that is.
    fn skip(&mut self, error: crate::capture::Error) -> anyhow::Result<()> {
        use crate::capture::Error;
        match error {
            Error::Damaged { .. } | Error::Broken { .. } => {
                self.unread += 1;
                Ok(())
            }
            other => Err(other).with_context(|| self.name()),
        }
    }

    /// What of it could not be read, in a sentence.
    pub(crate) fn note(&self) -> Option<String> {
        let many = text::count(self.unread, "snapshot is", "snapshots are");
        (self.unread > 0).then(|| format!("{}: {many} damaged, and left out", self.name()))
    }
}

fn of_host(replay: &Replay, history: &History) -> Replay {
    Replay { host: history.host().map(str::to_owned), ..replay.clone() }
}

/// What was named.
fn shown(replay: &Replay) -> String {
    let paths: Vec<String> = replay.from.iter().map(|path| path.display().to_string()).collect();
    let host = replay.host.as_ref().map_or_else(String::new, |host| format!(" ({host})"));
    format!("{}{host}", paths.join(" "))
}

/// The folder of the flight recorder, if it has recordings.
fn flight_recorder() -> anyhow::Result<PathBuf> {
    let folder = Path::new(FLIGHT_RECORDER);
    if history::captures(folder).is_ok_and(|found| !found.is_empty()) {
        return Ok(folder.to_owned());
    }
    if std::fs::read_dir(folder).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
        let way_out = hint(rights::own().way_out(&[Capability::DacReadSearch]));
        let ways: Vec<&str> = way_out.as_deref().into_iter().chain(["give --from FILE"]).collect();
        bail!("cannot read {FLIGHT_RECORDER}: permission denied; {}", ways.join("; or "));
    }
    bail!(
        "--since and --until need a recording: give --from FILE, or run tcpstate-record.service, which writes to \
         {FLIGHT_RECORDER}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_end_needs_no_sign() {
        let ten = Moment::BeforeEnd(Duration::from_secs(600));
        assert_eq!((history::since("10m"), history::since("-10m")), (Ok(ten), Ok(ten)));
        assert!(matches!(history::since("12:30"), Ok(Moment::TimeOfDay(_))));
        assert!(history::since("soon").unwrap_err().contains("is no moment"));
    }
}
