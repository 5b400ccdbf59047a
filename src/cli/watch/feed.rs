//! What a watch samples: the running system, or the snapshots of a recording one after the other.
//!
//! Input: the arguments. Output: a sampler, turned to the next snapshot before each sample. Not here: when samples are due.

use std::time::Duration;

use super::{WatchArgs, complaint};
use crate::capture::Recorded;
use crate::cli::args::Common;
use crate::cli::session::{self, Session};
use crate::cli::stretch::{Range, Stretch};
use crate::collect::names::SystemNames;
use crate::collect::replay::keep_namespaces;
use crate::diagnose::Thresholds;
use crate::watch::{Config, Sampler};

/// A source of samples.
pub(super) struct Feed {
    pub sampler: Sampler,
    replay: Option<Replayed>,
}

/// A recording that is replayed.
struct Replayed {
    stretch: Stretch,
    /// Snapshots that come sooner after the one that was shown are passed over.
    every: Duration,
    /// The sampler has the next snapshot already.
    is_first: bool,
    config: Config,
    common: Common,
}

impl Feed {
    /// Opens what the arguments name.
    pub(super) fn open(args: &WatchArgs, thresholds: Thresholds) -> anyhow::Result<Feed> {
        let with_owners = !args.common.no_owners;
        let is_replay = !args.common.replay.from.is_empty();
        let config = Config {
            with_owners,
            with_findings: with_owners && !args.no_findings,
            trace: !args.no_trace && !is_replay,
            insist_on_trace: args.trace,
            track: args.track,
            thresholds,
            scope: session::scope(&args.common),
        };
        if !is_replay {
            let Session { live, names, .. } = Session::open(&args.common)?;
            let sampler = Sampler::new(live, names, config).map_err(complaint)?;
            return Ok(Feed { sampler, replay: None });
        }
        if args.trace {
            anyhow::bail!("--trace needs the running system; a recording has what was traced when it was made");
        }
        let replay = &args.common.replay;
        let range = Range { since: args.range.since.or(replay.at), ..args.range };
        let mut stretch = Stretch::open(replay, range)?;
        let (common, every) = (args.common.clone(), args.interval.unwrap_or_default());
        let first = stretch.next(every)?;
        let sampler = sampler_of(first, &stretch, &common, config.clone())?;
        Ok(Feed { sampler, replay: Some(Replayed { stretch, every, is_first: true, config, common }) })
    }

    /// Turns to the next snapshot; false when there is none any more. The running system always has one.
    pub(super) fn advance(&mut self) -> anyhow::Result<bool> {
        let Some(replay) = &mut self.replay else { return Ok(true) };
        if std::mem::take(&mut replay.is_first) {
            return Ok(true);
        }
        let Some(Recorded { mut snapshot, names }) = replay.stretch.next(replay.every)? else { return Ok(false) };
        // A namespace that is not there now may come.
        drop(keep_namespaces(&mut snapshot, &replay.common.origin.netns));
        let names = SystemNames::recorded(names).on(&snapshot.host);
        self.sampler.turn_to(snapshot, names);
        Ok(true)
    }

    /// The time of the recording at which the sampler is, and those of its ends; `None` for the running system.
    pub(super) fn ends(&self) -> Option<(u64, u64)> {
        self.replay.as_ref().map(|replay| replay.stretch.ends())
    }

    /// The names without the sampler; of a recording those of its end, which has them all.
    pub(super) fn into_names(self) -> SystemNames {
        let of_end = self.replay.and_then(|mut replay| replay.stretch.names().map(SystemNames::recorded));
        of_end.unwrap_or_else(|| self.sampler.into_names())
    }

    /// What of the recording could not be read.
    pub(super) fn note(&self) -> Option<String> {
        self.replay.as_ref().and_then(|replay| replay.stretch.note())
    }

    /// Goes to the snapshot of a moment, or the first after it. What was known of sockets is forgotten.
    pub(super) fn seek(&mut self, at_ms: u64) -> anyhow::Result<()> {
        let Some(replay) = &mut self.replay else { return Ok(()) };
        let steps = replay.stretch.steps();
        let place = steps.partition_point(|step| step.taken_at_ms < at_ms);
        replay.stretch.seek(place);
        let first = replay.stretch.next(replay.every)?;
        self.sampler = sampler_of(first, &replay.stretch, &replay.common, replay.config.clone())?;
        replay.is_first = true;
        Ok(())
    }
}

/// A sampler of the first snapshot of a recording.
fn sampler_of(first: Option<Recorded>, stretch: &Stretch, common: &Common, config: Config) -> anyhow::Result<Sampler> {
    let Some(first) = first else {
        anyhow::bail!("{}: no snapshot of this stretch can be read", stretch.name());
    };
    let Session { live, names, .. } = Session::replay(first, common)?;
    Sampler::new(live, names, config).map_err(complaint)
}
