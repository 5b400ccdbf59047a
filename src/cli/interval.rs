//! The trace beside the samples of `doctor`: what happened between them, and which process closed what.
//!
//! Input: the namespaces of a session. Output: sums of an interval, and the closers. Not here: what they mean.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::aggregate::attribution::OwnerEvidence;
use crate::aggregate::outcomes::Outcomes;
use crate::aggregate::service::Beside;
use crate::cli::session::Session;
use crate::collect::changes::{Changes, Faults};
use crate::collect::clock::monotonic_ns;
use crate::collect::proc::{ProcRoot, processes};
use crate::collect::trace_thread::{EventSink, TraceSetup, TraceThread};
use crate::model::snapshot::KnownOwner;
use crate::model::traced::TracedInterval;
use crate::model::transition::By;
use crate::model::{Event, Gap, NetnsId, Snapshot, State};

/// Room for 60,000 unread events.
const SETUP: TraceSetup = TraceSetup {
    ring_bytes: 8 << 20,
    round: Duration::from_millis(100),
    changes: Changes::Connects,
    faults: Faults::ALL,
    follows: false,
};
/// Closers that are kept: a few megabytes.
const CLOSERS: usize = 50_000;

pub(crate) type Closers = BTreeMap<(Option<NetnsId>, u64), KnownOwner>;

struct Sums {
    outcomes: Outcomes,
    closers: Closers,
}

impl EventSink for Sums {
    fn add(&mut self, event: &Event) {
        self.outcomes.add(event);
        if let Event::Change(t) = event
            && t.new == State::FinWait1
            && t.by_call
            && let (Some(cookie), Some(By::Process(actor))) = (t.cookie, &t.by)
            && self.closers.len() < CLOSERS
        {
            let owner = KnownOwner {
                pid: actor.pid,
                comm: actor.comm.to_string(),
                confidence: OwnerEvidence::Traced.confidence(),
                reason: "it sent the first FIN, as traced".into(),
            };
            self.closers.insert((t.netns, cookie), owner);
        }
    }
}

/// A running trace; dropping it ends it.
pub(crate) struct IntervalTrace {
    trace: TraceThread<Sums>,
    root: ProcRoot,
}

impl IntervalTrace {
    /// Begins to trace the namespaces of a session.
    ///
    /// # Errors
    /// Why it cannot be done here, with the way out.
    pub(crate) fn begin(session: &Session) -> Result<IntervalTrace, Gap> {
        let spaces: Vec<Option<NetnsId>> = session.live.spaces().map(|space| space.inode).collect();
        let outcomes = Outcomes::new(spaces.iter().copied(), monotonic_ns());
        let trace = TraceThread::begin(&spaces, SETUP, Sums { outcomes, closers: Closers::new() })?;
        Ok(IntervalTrace { trace, root: session.live.root().clone() })
    }

    /// What it cannot report, and what it lost so far.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let mut gaps = self.trace.gaps();
        gaps.extend(self.trace.failure());
        gaps
    }

    /// Who sent the first FIN of which connection, so far.
    pub(crate) fn closers(&self) -> Closers {
        self.trace.with(|sums, _| sums.closers.clone())
    }

    /// The same of the connections in a snapshot that nothing holds any more.
    pub(crate) fn closers_of(&self, snapshot: &Snapshot) -> Closers {
        let unheld = snapshot.sockets.iter().filter(|socket| socket.inode.is_none());
        let keys = unheld.filter_map(|socket| Some((socket.netns, socket.cookie?)));
        self.trace.with(|sums, _| keys.filter_map(|key| Some((key, sums.closers.get(&key)?.clone()))).collect())
    }

    /// Begins the sums anew.
    pub(crate) fn restart(&self) {
        self.trace.with(|sums, _| sums.outcomes.restart(monotonic_ns()));
    }

    /// The sums so far, between these snapshots.
    pub(crate) fn interval(&self, snapshots: &[&Snapshot]) -> TracedInterval {
        let resets = self.trace.has_resets();
        let beside = Beside { name: &|pid| processes::name(&self.root, pid), snapshots };
        self.trace.with(|sums, lost| sums.outcomes.interval(monotonic_ns(), lost, resets, &beside))
    }
}
