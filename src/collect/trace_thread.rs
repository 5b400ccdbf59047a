//! A BPF trace beside whatever the program does: a thread empties the kernel's ring a few times a second, however rarely
//! anybody asks.
//!
//! Input: namespaces, what is traced, and a sink. Output: the sink, with every event up to now. Not here: what events
//! mean.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::collect::changes::{self, Changes, Faults, Scope, Source};
use crate::collect::error::reason;
use crate::cores;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::{Event, Gap, NetnsId};

/// Maximum number of namespaces that the kernel's program compares.
const FEW: usize = 16;

/// Takes the events, in their order.
pub trait EventSink: Send + 'static {
    fn add(&mut self, event: &Event);
}

/// What is traced, and how.
#[derive(Clone, Copy, Debug)]
pub struct TraceSetup {
    pub ring_bytes: usize,
    /// How often the thread empties the ring.
    pub round: Duration,
    pub changes: Changes,
    pub faults: Faults,
    /// Namespaces may come later, so that the whole host is traced.
    pub follows: bool,
}

struct Shared<S> {
    source: Box<dyn Source>,
    sink: S,
    failed: Option<String>,
}

impl<S: EventSink> Shared<S> {
    fn drain(&mut self) {
        let Shared { source, sink, failed } = self;
        if failed.is_none() {
            let drained = source.drain(Duration::ZERO, &mut |event| sink.add(&event));
            *failed = drained.err().map(|e| e.to_string());
        }
    }
}

/// A running trace; dropping it ends it.
pub struct TraceThread<S> {
    shared: Arc<Mutex<Shared<S>>>,
    /// Dropping it ends the thread.
    _stop: Sender<()>,
}

impl<S: EventSink> TraceThread<S> {
    /// Begins to trace some namespaces. With many, the whole host is traced, and the sink ignores the others.
    ///
    /// # Errors
    /// Why it cannot be done here, with the way out.
    pub fn begin(spaces: &[Option<NetnsId>], setup: TraceSetup, sink: S) -> Result<TraceThread<S>, Gap> {
        if spaces.contains(&None) {
            return Err(Gap::new(Missing::Trace(None), Why::NetnsUnknown, WayOut::MountProc));
        }
        let scope = if spaces.len() <= FEW && !setup.follows { Scope::Among(spaces.to_vec()) } else { Scope::Host };
        let source = changes::bpf(setup.ring_bytes, scope, setup.changes, setup.faults)?;
        let shared = Arc::new(Mutex::new(Shared { source, sink, failed: None }));
        let (stop, stopped) = channel();
        let theirs = Arc::clone(&shared);
        cores::start_detached(move || {
            while matches!(stopped.recv_timeout(setup.round), Err(RecvTimeoutError::Timeout)) {
                lock(&theirs).drain();
            }
        })
        .map_err(|e| Gap::new(Missing::Trace(None), Why::NoThread { error: reason(&e) }, WayOut::MoreThreads))?;
        Ok(TraceThread { shared, _stop: stop })
    }

    /// Works with the sink, in which every event up to now is, and with how many events were lost so far.
    pub fn with<R>(&self, work: impl FnOnce(&mut S, u64) -> R) -> R {
        let mut shared = lock(&self.shared);
        shared.drain();
        let lost = lost(&*shared.source);
        work(&mut shared.sink, lost)
    }

    /// Reads the sink as it is.
    pub fn peek<R>(&self, read: impl FnOnce(&S) -> R) -> R {
        read(&lock(&self.shared).sink)
    }

    /// The key of the source.
    pub fn via(&self) -> &'static str {
        lock(&self.shared).source.via().key()
    }

    /// Whether resets are traced too.
    pub fn has_resets(&self) -> bool {
        !lock(&self.shared).source.gaps().iter().any(|gap| matches!(gap.missing, Missing::Tracepoint { .. }))
    }

    /// What the source cannot report, and what was lost so far.
    pub fn gaps(&self) -> Vec<Gap> {
        let shared = lock(&self.shared);
        let mut gaps = shared.source.gaps();
        let lost = lost(&*shared.source);
        if lost > 0 {
            gaps.push(Gap::new(Missing::TracedChanges { lost }, Why::BufferFull, WayOut::None));
        }
        gaps
    }

    /// Why it has ended, if it has.
    pub fn failure(&self) -> Option<Gap> {
        let failed = lock(&self.shared).failed.clone()?;
        Some(Gap::new(Missing::TraceEnd, Why::Error(failed), WayOut::None))
    }
}

fn lost(source: &dyn Source) -> u64 {
    source.lost().map_or(0, |l| l.total())
}

/// A thread that panicked has left valid sums.
fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
