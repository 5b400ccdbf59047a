//! A recording as what a trace follows: changes of state as the differences of its snapshots.
//!
//! Input: the arguments. Output: the first snapshot as a session, and where the others come from. Not here: how a difference becomes
//! a change (`collect::poll`).

use std::io;
use std::time::Duration;

use anyhow::bail;

use super::{TraceArgs, ViaArg};
use crate::cli::history;
use crate::cli::session::Session;
use crate::cli::stretch::{Range, Stretch};
use crate::collect::changes::Replay as Snapshots;
use crate::collect::names::SystemNames;
use crate::collect::replay::keep_namespaces;
use crate::model::transition::Via;

/// A part of a recording that was opened.
pub(super) struct Recorded {
    pub session: Session,
    pub snapshots: Snapshots,
    /// What is between two snapshots, as a rule.
    pub interval: Duration,
    /// From the first snapshot to the last.
    pub span_ms: u64,
    /// Its name, and its times.
    pub told: String,
}

/// Opens what `--from` names; `None` for the running system. `limit` is a time of the recording.
pub(super) fn open(args: &TraceArgs, limit: Option<Duration>) -> anyhow::Result<Option<Recorded>> {
    let replay = &args.common.replay;
    if replay.from.is_empty() {
        if args.range.is_named() {
            bail!("--since and --until are of a recording; give --from FILE");
        }
        return Ok(None);
    }
    if args.resets || args.retransmits {
        bail!(
            "a recording has how many resets and repeated segments there were, and not each of them; `tcpstate doctor --from` \
             judges them"
        );
    }
    if let ViaArg::One(via) = args.via
        && via != Via::Poll
    {
        bail!(
            "--via {} needs the running system; of a recording the differences of its snapshots are shown",
            via.key()
        );
    }
    let range = Range { since: args.range.since.or(replay.at), ..args.range };
    let mut stretch = Stretch::open(replay, range)?;
    if let Some(limit) = limit {
        stretch.cut(limit);
    }
    let (first_ms, last_ms) = stretch.ends();
    let (name, steps) = (stretch.name(), stretch.steps().len() as u64);
    let names = stretch.names();
    let Some(first) = stretch.next(Duration::ZERO)? else {
        bail!("{name}: no snapshot of this stretch can be read");
    };
    let mut session = Session::replay(first, &args.common)?;
    let host = session.live.host().name.clone();
    session.names = names.map_or(session.names, |names| SystemNames::recorded(names).on(&host));
    let words = args.common.origin.netns.clone();
    let snapshots: Snapshots = Box::new(move || {
        let next = stretch.next(Duration::ZERO).map_err(io::Error::other)?;
        Ok(next.map(|mut recorded| {
            // A namespace that is not there now may come.
            drop(keep_namespaces(&mut recorded.snapshot, &words));
            recorded.snapshot
        }))
    });
    let span_ms = last_ms.saturating_sub(first_ms);
    Ok(Some(Recorded {
        session,
        snapshots,
        interval: Duration::from_millis(span_ms / steps.saturating_sub(1).max(1)),
        span_ms,
        told: format!("{name}, {} to {}", history::clock(first_ms), history::clock(last_ms)),
    }))
}
