//! The trace beside the samples of `doctor`: what happened between them, and which process closed what.
//!
//! Input: the namespaces of a session. Output: sums of an interval, and the closers. Not here: what they mean. A thread empties
//! the kernel's ring while the samples are taken.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::aggregate::attribution::OwnerEvidence;
use crate::aggregate::outcomes::Outcomes;
use crate::cli::session::Session;
use crate::collect::changes::{self, Changes, Faults, Scope, Source};
use crate::collect::clock::monotonic_ns;
use crate::collect::error::reason;
use crate::collect::proc::{ProcRoot, processes};
use crate::cores;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::snapshot::KnownOwner;
use crate::model::traced::TracedInterval;
use crate::model::transition::By;
use crate::model::{Event, Gap, NetnsId, State};

/// Room for 60,000 unread events.
const RING_BYTES: usize = 8 << 20;
/// How often the thread empties the ring.
const ROUND: Duration = Duration::from_millis(100);
/// Maximum number of namespaces that the kernel's program compares.
const FEW: usize = 16;
/// Closers that are kept: a few megabytes.
const CLOSERS: usize = 50_000;

pub(crate) type Closers = BTreeMap<(Option<NetnsId>, u64), KnownOwner>;

struct Shared {
    source: Box<dyn Source>,
    outcomes: Outcomes,
    closers: Closers,
    failed: Option<String>,
}

impl Shared {
    fn drain(&mut self) {
        let Shared { source, outcomes, closers, failed } = self;
        if failed.is_some() {
            return;
        }
        let drained = source.drain(Duration::ZERO, &mut |event| {
            outcomes.add(&event);
            if let Event::Change(t) = event
                && t.new == State::FinWait1
                && t.by_call
                && let (Some(cookie), Some(By::Process(actor))) = (t.cookie, &t.by)
                && closers.len() < CLOSERS
            {
                let owner = KnownOwner {
                    pid: actor.pid,
                    comm: actor.comm.to_string(),
                    confidence: OwnerEvidence::Traced.confidence(),
                    reason: "it sent the first FIN, as traced".into(),
                };
                closers.insert((t.netns, cookie), owner);
            }
        });
        *failed = drained.err().map(|e| e.to_string());
    }

    fn lost(&self) -> u64 {
        self.source.lost().map_or(0, |l| l.total())
    }
}

/// A running trace; dropping it ends it.
pub(crate) struct IntervalTrace {
    shared: Arc<Mutex<Shared>>,
    /// Dropping it ends the thread.
    _stop: Sender<()>,
    root: ProcRoot,
}

impl IntervalTrace {
    /// Begins to trace the namespaces of a session.
    ///
    /// # Errors
    /// Why it cannot be done here, with the way out.
    pub(crate) fn begin(session: &Session) -> Result<IntervalTrace, Gap> {
        let spaces: Vec<Option<NetnsId>> = session.live.spaces().map(|space| space.inode).collect();
        if spaces.contains(&None) {
            return Err(Gap::new(Missing::Trace(None), Why::NetnsUnknown, WayOut::MountProc));
        }
        let scope = if spaces.len() <= FEW { Scope::Among(spaces.clone()) } else { Scope::Host };
        let source = changes::bpf(RING_BYTES, scope, Changes::Connects, Faults::ALL)?;
        let outcomes = Outcomes::new(spaces, monotonic_ns());
        let shared = Arc::new(Mutex::new(Shared { source, outcomes, closers: Closers::new(), failed: None }));
        let (stop, stopped) = channel();
        let theirs = Arc::clone(&shared);
        cores::start_detached(move || {
            while matches!(stopped.recv_timeout(ROUND), Err(RecvTimeoutError::Timeout)) {
                lock(&theirs).drain();
            }
        })
        .map_err(|e| Gap::new(Missing::Trace(None), Why::NoThread { error: reason(&e) }, WayOut::MoreThreads))?;
        Ok(IntervalTrace { shared, _stop: stop, root: session.live.root().clone() })
    }

    /// What it cannot report, and what it lost so far.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let shared = lock(&self.shared);
        let mut gaps = shared.source.gaps();
        if shared.lost() > 0 {
            let missing = Missing::TracedChanges { lost: shared.lost() };
            gaps.push(Gap::new(missing, Why::BufferFull, WayOut::None));
        }
        if let Some(why) = &shared.failed {
            gaps.push(Gap::new(Missing::TraceEnd, Why::Error(why.clone()), WayOut::None));
        }
        gaps
    }

    /// Who sent the first FIN of which connection, so far.
    pub(crate) fn closers(&self) -> Closers {
        let mut shared = lock(&self.shared);
        shared.drain();
        shared.closers.clone()
    }

    /// Begins the sums anew.
    pub(crate) fn restart(&self) {
        let mut shared = lock(&self.shared);
        shared.drain();
        shared.outcomes.restart(monotonic_ns());
    }

    /// The sums so far.
    pub(crate) fn interval(&self) -> TracedInterval {
        let mut shared = lock(&self.shared);
        shared.drain();
        let resets = !shared.source.gaps().iter().any(|gap| matches!(gap.missing, Missing::Tracepoint { .. }));
        let name = |pid| processes::name(&self.root, pid);
        shared.outcomes.interval(monotonic_ns(), shared.lost(), resets, &name)
    }
}

/// A thread that panicked has left valid sums.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
