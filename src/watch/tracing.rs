//! A trace beside the samples: which process closed what, and what happened in between.
//!
//! Input: whether it is wanted. Output: what was traced since the previous sample, and for the rules what became of connects
//! since they ran.
//!
//! Unless it was requested, a trace that costs too much is stopped, with a gap.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::Error;
use super::frame::TraceStatus;
use crate::aggregate::outcomes::Outcomes;
use crate::aggregate::owner::{OwnerId, SetId};
use crate::aggregate::ownership::Ownership;
use crate::aggregate::service::Beside;
use crate::aggregate::traced::{self, CloserOf};
use crate::aggregate::{Traced, TracedSums};
use crate::collect::Live;
use crate::collect::changes::{Changes, Faults};
use crate::collect::clock::{millis, monotonic_ns};
use crate::collect::proc::{ProcRoot, processes};
use crate::collect::trace_thread::{EventSink, TraceSetup, TraceThread};
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::traced::TracedInterval;
use crate::model::transition::Actor;
use crate::model::{Event, Gap, NetnsId, Snapshot, Socket};

/// Room for forty thousand changes between two rounds of the thread.
const SETUP: TraceSetup = TraceSetup {
    ring_bytes: 4 << 20,
    round: Duration::from_millis(200),
    changes: Changes::All,
    faults: Faults::RESETS,
    follows: false,
};
/// The first kernel whose trace programs can assign a socket its cookie.
const COOKIE_SINCE: (u32, u32) = (5, 12);
/// An unrequested trace stops above this rate: an event costs the kernel and this program about a microsecond each.
const TOO_MANY: u64 = 20_000;

/// The trace of a watch, and its phase.
pub(super) struct BackgroundTrace {
    phase: TracePhase,
    /// Why there is none, where there should be one.
    gap: Option<Gap>,
    /// The traced closers, by namespace and cookie, and the sample in which each was learnt.
    closers: FxHashMap<(Option<NetnsId>, u64), (OwnerId, u64)>,
}

enum TracePhase {
    /// Starts with the first sample; `true`: or the watch fails.
    Wanted(bool),
    On(Tracing),
    Off,
}

impl BackgroundTrace {
    pub(super) fn new(insisted: bool, wanted: bool) -> BackgroundTrace {
        let phase = if insisted || wanted { TracePhase::Wanted(insisted) } else { TracePhase::Off };
        BackgroundTrace { phase, gap: None, closers: FxHashMap::default() }
    }

    /// Starts, if it is due.
    pub(super) fn begin(&mut self, live: &Live) -> Result<(), Error> {
        let TracePhase::Wanted(insisted) = self.phase else { return Ok(()) };
        let spaces: Vec<Option<NetnsId>> = live.spaces().map(|s| s.inode).collect();
        self.phase = match Tracing::begin(&spaces, live.follows_netns(), insisted) {
            Ok(trace) => TracePhase::On(trace),
            Err(gap) if insisted => return Err(Error::Trace(Box::new(gap))),
            Err(gap) => {
                self.gap = Some(gap);
                TracePhase::Off
            }
        };
        Ok(())
    }

    /// Counts what happens in these namespaces too.
    pub(super) fn watch(&self, live: &Live) {
        let TracePhase::On(trace) = &self.phase else { return };
        trace.trace.with(|sums, _| {
            for space in live.spaces() {
                sums.traced.watch(space.inode);
                sums.outcomes.watch(space.inode);
            }
        });
    }

    /// Takes the traced closers before the rows of a sample are read.
    pub(super) fn learn(&mut self, sample: u64, root: &ProcRoot, ownership: &mut Ownership) {
        let TracePhase::On(trace) = &self.phase else { return };
        // A row takes it over with this sample or, where the dump was ahead of the trace or missed the row, with the
        // next two.
        self.closers.retain(|_, (_, learnt)| *learnt <= sample && *learnt + 2 >= sample);
        // One program closes thousands: it is looked up once.
        let mut known: FxHashMap<Actor, OwnerId> = FxHashMap::default();
        for CloserOf { netns, cookie, actor } in trace.closers() {
            let owner = known.get(&actor).copied().unwrap_or_else(|| {
                let now = processes::name(root, actor.pid);
                let owner = ownership.traced(actor.pid, &actor.comm.text(), now);
                known.insert(actor, owner);
                owner
            });
            self.closers.insert((netns, cookie), (owner, sample));
        }
    }

    /// The process traced closing this.
    pub(super) fn closer(&self, socket: &Socket) -> Option<OwnerId> {
        self.closers.get(&(socket.netns, socket.cookie?)).map(|(owner, _)| *owner)
    }

    /// Marks every owner that a row may still take over.
    #[allow(clippy::iter_over_hash_type, reason = "marks are the same in any order")]
    pub(super) fn mark_owners(&self, mark: &mut dyn FnMut(SetId)) {
        self.closers.values().filter_map(|(owner, _)| owner.set()).for_each(mark);
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self.phase, TracePhase::On(_))
    }

    /// Restarts the sums.
    pub(super) fn restart(&mut self) {
        if let TracePhase::On(trace) = &mut self.phase {
            trace.restart();
        }
    }

    /// What was traced until now.
    pub(super) fn since(&mut self) -> Option<Since> {
        match &mut self.phase {
            TracePhase::On(trace) => Some(trace.since()),
            TracePhase::Wanted(_) | TracePhase::Off => None,
        }
    }

    /// What became of connects since the latest call. It ends with a sample of the rules.
    pub(super) fn outcomes(&mut self, root: &ProcRoot, snapshots: &[&Snapshot]) -> Option<TracedInterval> {
        match &mut self.phase {
            TracePhase::On(trace) => Some(trace.outcomes(root, snapshots)),
            TracePhase::Wanted(_) | TracePhase::Off => None,
        }
    }

    /// Its status, with what the trace cannot report; stops it when it costs too much.
    pub(super) fn report(
        &mut self,
        since: Option<Since>,
        everything: bool,
        gaps: &mut Vec<Gap>,
    ) -> Option<TraceStatus> {
        let mut report = None;
        if let (TracePhase::On(trace), Some(since)) = (&self.phase, since) {
            gaps.extend(trace.gaps());
            let cut = (everything && !since.traced.unsure).then_some(since.traced.cut);
            let matrix = everything.then_some(since.traced.matrix);
            report = Some(TraceStatus { via: trace.via, changes: since.traced.changes, lost: since.lost, matrix, cut });
            if let Some(gap) = trace.too_costly() {
                self.gap = Some(gap);
                self.phase = TracePhase::Off;
            }
        }
        gaps.extend(self.gap.clone());
        report
    }
}

/// What was traced since the previous sample.
pub(super) struct Since {
    pub sums: TracedSums,
    pub traced: traced::Since,
    pub lost: u64,
}

struct Sums {
    traced: Traced,
    outcomes: Outcomes,
    /// Events that `outcomes` has no use for cost as much as others.
    events: u64,
    /// Events lost before the sums of `outcomes` began.
    lost_before: u64,
}

impl EventSink for Sums {
    fn add(&mut self, event: &Event) {
        self.events += 1;
        self.traced.observe(event);
        self.outcomes.add(event);
    }
}

/// A running trace.
struct Tracing {
    trace: TraceThread<Sums>,
    via: &'static str,
    /// It was requested, whatever it costs.
    insisted: bool,
    taken: Instant,
    /// Consecutive samples with too many changes.
    busy: u32,
}

impl Tracing {
    /// Starts, restricted to the watched namespaces.
    ///
    /// # Errors
    /// One line on why it cannot be done here, with the way out.
    fn begin(spaces: &[Option<NetnsId>], follows: bool, insisted: bool) -> Result<Tracing, Gap> {
        let traced = Traced::new(spaces.iter().copied());
        let outcomes = Outcomes::new(spaces.iter().copied(), monotonic_ns());
        let sums = Sums { traced, outcomes, events: 0, lost_before: 0 };
        let trace = TraceThread::begin(spaces, TraceSetup { follows, ..SETUP }, sums)?;
        Ok(Tracing { via: trace.via(), trace, insisted, taken: Instant::now(), busy: 0 })
    }

    /// What the source cannot report, and what failed.
    fn gaps(&self) -> Vec<Gap> {
        let mut gaps = self.trace.gaps();
        let (dropped, without_cookie) =
            self.trace.peek(|sums| (sums.traced.closers_dropped, sums.traced.closers_without_cookie));
        if dropped > 0 {
            let missing = Missing::Closers { connections: Some(dropped) };
            gaps.push(Gap::new(missing, Why::TooManyChanges, WayOut::ShorterInterval));
        }
        if without_cookie > 0 {
            let missing = Missing::Closers { connections: Some(without_cookie) };
            gaps.push(Gap::new(missing, Why::NoCookie, WayOut::Kernel { since: COOKIE_SINCE }));
        }
        gaps.extend(self.trace.failure());
        gaps
    }

    /// The closers until now.
    fn closers(&self) -> Vec<CloserOf> {
        self.trace.with(|sums, _| sums.traced.take_closers())
    }

    /// Restarts the sums.
    fn restart(&mut self) {
        self.trace.with(|sums, _| sums.traced.restart());
        self.taken = Instant::now();
    }

    /// What happened until now.
    fn since(&mut self) -> Since {
        let (since, events) = self.trace.with(|sums, lost| {
            let traced = sums.traced.take_since();
            (Since { sums: sums.traced.sums, traced, lost }, std::mem::take(&mut sums.events))
        });
        let ms = millis(self.taken.elapsed()).max(1);
        self.taken = Instant::now();
        self.busy = if events.saturating_mul(1000) / ms > TOO_MANY { self.busy + 1 } else { 0 };
        since
    }

    /// What became of connects since the latest call.
    fn outcomes(&self, root: &ProcRoot, snapshots: &[&Snapshot]) -> TracedInterval {
        let resets = self.trace.has_resets();
        let beside = Beside { name: &|pid| processes::name(root, pid), snapshots };
        self.trace.with(|sums, lost| {
            let now_ns = monotonic_ns();
            let outcomes = sums.outcomes.interval(now_ns, lost - sums.lost_before, resets, &beside);
            sums.outcomes.restart(now_ns);
            sums.lost_before = lost;
            outcomes
        })
    }

    /// Why it should stop, if it should: it was not requested, and has been costly in three consecutive samples.
    fn too_costly(&self) -> Option<Gap> {
        (self.busy >= 3 && !self.insisted)
            .then(|| Gap::new(Missing::TraceEnd, Why::TraceCost { per_second: TOO_MANY }, WayOut::InsistOnTrace))
    }
}
