//! What a source of state changes is asked for, and what it answers.
//!
//! Input: a [`Request`]. Output: [`Source`], which `bpf`, `tracefs` and `poll` implement. Not here: which of them is taken.
//!
//! Circle with `bpf`: its reason for having no process numbers is what tracefs has too; `bpf::trace` implements the trait.

use std::io;
use std::time::Duration;

use crate::collect::Live;
use crate::model::transition::Via;
use crate::model::{Event, Gap, NetnsId, Snapshot};

/// The network namespaces of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// All of the host.
    Host,
    /// These; `None`: its inode is not known.
    Among(Vec<Option<NetnsId>>),
}

impl Scope {
    /// The inode, if it is one namespace.
    #[must_use]
    pub fn one(&self) -> Option<NetnsId> {
        match self {
            Scope::Among(ids) if ids.len() == 1 => ids.first().copied().flatten(),
            _ => None,
        }
    }
}

/// What a trace wants of its source.
#[non_exhaustive]
pub struct Request {
    pub scope: Scope,
    /// Room for changes that were not read yet.
    pub ring_bytes: usize,
    /// Whole connections are wanted: their cookies, bytes and errors at the end.
    pub lives: bool,
    /// Which changes are wanted at least.
    pub changes: Changes,
    /// What is wanted beside changes of state.
    pub faults: Faults,
    /// A filter for the event in the kernel that lets every wanted change pass.
    pub event_filter: Option<String>,
    /// For a source that compares dumps: what is dumped, and how often.
    pub live: Option<Live>,
    pub interval: Duration,
    /// For a recording: `live` is its first snapshot, and this the others.
    pub(crate) replay: Option<Replay>,
}

/// The next snapshot of a recording; `None` at its end.
pub(crate) type Replay = Box<dyn FnMut() -> io::Result<Option<Snapshot>> + Send>;

/// Which changes a source must report; it may report more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changes {
    #[default]
    All,
    /// How connects begin and end, which connections come, the first FIN of this host, and how connections end: more than
    /// half of all.
    Connects,
}

/// Events beside changes of state; each costs a program of its own in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// Resets, sent and received.
    pub resets: bool,
    /// Segments that are sent again.
    pub retransmits: bool,
}

impl Faults {
    pub const NONE: Faults = Faults { resets: false, retransmits: false };
    pub const RESETS: Faults = Faults { resets: true, retransmits: false };
    pub const RETRANSMITS: Faults = Faults { resets: false, retransmits: true };
    pub const ALL: Faults = Faults { resets: true, retransmits: true };
}

/// Room for 60,000 changes that were not read yet.
const RING_BYTES: usize = 8 << 20;
/// Between two dumps, for a source that compares them.
const INTERVAL: Duration = Duration::from_millis(200);

impl Request {
    /// Every change in the network namespaces of an open host: a ring of 8 MiB, or a dump each 200 ms where the kernel
    /// reports no changes. Change the fields before the trace begins.
    #[must_use]
    pub fn new(live: Live) -> Request {
        Request {
            scope: Scope::Among(live.spaces().map(|space| space.inode).collect()),
            ring_bytes: RING_BYTES,
            lives: false,
            changes: Changes::All,
            faults: Faults::NONE,
            event_filter: None,
            live: Some(live),
            interval: INTERVAL,
            replay: None,
        }
    }
}

/// Changes that were not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The ring was full: the reader was too slow, or the ring too small.
    pub ring_full: u64,
    /// The kernel skipped the program because it was already running on that CPU: a packet arrived while the program
    /// handled another socket. `None` where that is not counted.
    pub nested: Option<u64>,
}

impl Lost {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ring_full + self.nested.unwrap_or(0)
    }
}

/// A running source of changes; dropping it ends the trace.
pub trait Source: Send {
    fn via(&self) -> Via;

    /// Where it gets what it compares (JSON: `source`).
    fn source(&self) -> &'static str {
        self.via().key()
    }

    /// The network namespaces that it sees.
    fn scope(&self) -> Scope;

    /// What it cannot report here.
    fn gaps(&self) -> Vec<Gap>;

    /// Waits up to `patience` for events and reports those that came. A signal ends the wait. Returns what went wrong
    /// on the way.
    ///
    /// # Errors
    /// When the source fails.
    fn drain(&mut self, patience: Duration, each: &mut dyn FnMut(Event)) -> io::Result<Vec<Gap>>;

    /// What was lost since the beginning; `None`: the source cannot know.
    fn lost(&self) -> Option<Lost>;

    /// Whether nothing will come any more: a recording is at its end.
    fn has_ended(&self) -> bool {
        false
    }

    /// Connections that came and went unseen; `None` where that is not known, and from sources that see every change.
    fn unseen(&self) -> Option<u64> {
        None
    }
}
