//! A trace beside the samples: which process closed what, and what happened in between.
//!
//! Input: whether it is wanted. Output: what was traced since the previous sample, and for the rules what became of connects
//! since they ran.
//!
//! A thread empties the kernel's ring a few times a second, however rarely a sample is taken; it ends when the trace
//! is dropped. Unless it was requested, a trace that costs too much is stopped, with a gap.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::Error;
use super::frame::TraceStatus;
use crate::aggregate::outcomes::Outcomes;
use crate::aggregate::owner::{OwnerId, SetId};
use crate::aggregate::ownership::Ownership;
use crate::aggregate::traced::CloserOf;
use crate::aggregate::{Matrix, Traced, TracedSums};
use crate::collect::Live;
use crate::collect::changes::{self, Changes, Faults, Scope, Source};
use crate::collect::clock::monotonic_ns;
use crate::collect::error::reason;
use crate::collect::proc::{ProcRoot, processes};
use crate::cores;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::traced::TracedInterval;
use crate::model::transition::Actor;
use crate::model::{Gap, NetnsId, Socket};

/// Room for forty thousand changes between two rounds of the thread.
const RING_BYTES: usize = 4 << 20;
/// The first kernel whose trace programs can assign a socket its cookie.
const COOKIE_SINCE: (u32, u32) = (5, 12);
/// Maximum number of namespaces that the kernel's program compares.
const FEW: usize = 16;
/// How often the thread empties the ring.
const ROUND: Duration = Duration::from_millis(200);
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
        self.phase = match Tracing::begin(&spaces, insisted) {
            Ok(trace) => TracePhase::On(trace),
            Err(gap) if insisted => return Err(Error::Trace(Box::new(gap))),
            Err(gap) => {
                self.gap = Some(gap);
                TracePhase::Off
            }
        };
        Ok(())
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
    pub(super) fn outcomes(&mut self, root: &ProcRoot) -> Option<TracedInterval> {
        match &mut self.phase {
            TracePhase::On(trace) => Some(trace.outcomes(root)),
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
            let matrix = everything.then_some(since.matrix);
            report = Some(TraceStatus { via: trace.via, changes: since.changes, lost: since.lost, matrix });
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
    pub matrix: Matrix,
    pub changes: u64,
    pub lost: u64,
}

struct Shared {
    changes: Box<dyn Source>,
    traced: Traced,
    outcomes: Outcomes,
    /// Events that `outcomes` has no use for cost as much as others.
    events: u64,
    /// Events lost before the sums of `outcomes` began.
    lost_before: u64,
    failed: Option<String>,
}

impl Shared {
    fn drain(&mut self) {
        let Shared { changes, traced, outcomes, events, failed, .. } = self;
        if failed.is_some() {
            return;
        }
        let drained = changes.drain(Duration::ZERO, &mut |event| {
            *events += 1;
            traced.observe(&event);
            outcomes.add(&event);
        });
        *failed = drained.err().map(|e| e.to_string());
    }

    fn lost(&self) -> u64 {
        self.changes.lost().map_or(0, |l| l.total())
    }
}

/// A running trace.
struct Tracing {
    shared: Arc<Mutex<Shared>>,
    /// Dropping it ends the thread.
    _stop: Sender<()>,
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
    fn begin(spaces: &[Option<NetnsId>], insisted: bool) -> Result<Tracing, Gap> {
        if spaces.contains(&None) {
            return Err(Gap::new(Missing::Trace(None), Why::NetnsUnknown, WayOut::MountProc));
        }
        // The kernel filters a few namespaces; with many, everything is traced and others are ignored here.
        let scope = if spaces.len() <= FEW { Scope::Among(spaces.to_vec()) } else { Scope::Host };
        let changes = changes::bpf(RING_BYTES, scope, Changes::All, Faults::RESETS)?;
        let via = changes.via().key();
        let traced = Traced::new(spaces.iter().copied());
        let outcomes = Outcomes::new(spaces.iter().copied(), monotonic_ns());
        let shared = Shared { changes, traced, outcomes, events: 0, lost_before: 0, failed: None };
        let shared = Arc::new(Mutex::new(shared));
        let (stop, stopped) = channel();
        let theirs = Arc::clone(&shared);
        cores::start_detached(move || {
            while matches!(stopped.recv_timeout(ROUND), Err(RecvTimeoutError::Timeout)) {
                lock(&theirs).drain();
            }
        })
        .map_err(|e| {
            let why = Why::NoThread { error: reason(&e) };
            Gap::new(Missing::Trace(None), why, WayOut::MoreThreads)
        })?;
        Ok(Tracing { shared, _stop: stop, via, insisted, taken: Instant::now(), busy: 0 })
    }

    /// What the source cannot report, and what failed.
    fn gaps(&self) -> Vec<Gap> {
        let shared = lock(&self.shared);
        let mut gaps = shared.changes.gaps();
        let lost = shared.lost();
        if lost > 0 {
            gaps.push(Gap::new(Missing::TracedChanges { lost }, Why::BufferFull, WayOut::None));
        }
        if shared.traced.closers_dropped > 0 {
            let missing = Missing::Closers { connections: Some(shared.traced.closers_dropped) };
            gaps.push(Gap::new(missing, Why::TooManyChanges, WayOut::ShorterInterval));
        }
        if shared.traced.closers_without_cookie > 0 {
            let missing = Missing::Closers { connections: Some(shared.traced.closers_without_cookie) };
            gaps.push(Gap::new(missing, Why::NoCookie, WayOut::Kernel { since: COOKIE_SINCE }));
        }
        if let Some(why) = &shared.failed {
            gaps.push(Gap::new(Missing::TraceEnd, Why::Error(why.clone()), WayOut::None));
        }
        gaps
    }

    /// The closers until now.
    fn closers(&self) -> Vec<CloserOf> {
        let mut shared = lock(&self.shared);
        shared.drain();
        shared.traced.take_closers()
    }

    /// Restarts the sums.
    fn restart(&mut self) {
        let mut shared = lock(&self.shared);
        shared.drain();
        shared.traced.restart();
        self.taken = Instant::now();
    }

    /// What happened until now.
    fn since(&mut self) -> Since {
        let mut shared = lock(&self.shared);
        shared.drain();
        let (matrix, changes) = shared.traced.take_matrix();
        let lost = shared.lost();
        let events = std::mem::take(&mut shared.events);
        let ms = u64::try_from(self.taken.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.taken = Instant::now();
        self.busy = if events.saturating_mul(1000) / ms > TOO_MANY { self.busy + 1 } else { 0 };
        Since { sums: shared.traced.sums, matrix, changes, lost }
    }

    /// What became of connects since the latest call.
    fn outcomes(&self, root: &ProcRoot) -> TracedInterval {
        let mut shared = lock(&self.shared);
        shared.drain();
        let resets = !shared.changes.gaps().iter().any(|gap| matches!(gap.missing, Missing::Tracepoint { .. }));
        let (now_ns, lost) = (monotonic_ns(), shared.lost());
        let name = |pid| processes::name(root, pid);
        let outcomes = shared.outcomes.interval(now_ns, lost - shared.lost_before, resets, &name);
        shared.outcomes.restart(now_ns);
        shared.lost_before = lost;
        outcomes
    }

    /// Why it should stop, if it should: it was not requested, and has been costly in three consecutive samples.
    fn too_costly(&self) -> Option<Gap> {
        (self.busy >= 3 && !self.insisted)
            .then(|| Gap::new(Missing::TraceEnd, Why::TraceCost { per_second: TOO_MANY }, WayOut::InsistOnTrace))
    }
}

/// A thread that panicked has left valid sums.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
