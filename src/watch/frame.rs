//! The model of one sample of `watch`, which every output draws. It has facts and no words.

use std::collections::HashMap;
use std::sync::Arc;

use super::measures::Measures;
use crate::aggregate::attribution::OwnerEvidence;
use crate::aggregate::flows::Ledger;
use crate::aggregate::owner::SetId;
use crate::aggregate::tracker::{Matrix, StateChange};
use crate::aggregate::{Counts, Key};
use crate::diagnose::{Finding, Rows};
use crate::model::{Endpoint, Gap, NetnsId, OwnerStatus, OwnerTable, Socket, State, StateSet};

/// What identifies a group from one frame to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupId {
    /// A process, or a set of them, by its label.
    Owner(Arc<str>),
    /// Processes of one command that come and go.
    ShortLived(Arc<str>),
    /// Probably a process of this name; the row itself has none.
    Likely(Arc<str>),
    Nobody(OwnerStatus),
    /// With its namespace, where several are watched: the same address in two of them means two places.
    Endpoint(Endpoint, Option<NetnsId>),
    User(u32),
    Text(Arc<str>),
    None,
}

impl GroupId {
    /// Whether rows of the other group match this one; without a namespace it matches in any.
    #[must_use]
    pub fn includes(&self, other: &GroupId) -> bool {
        match (self, other) {
            (GroupId::Endpoint(a, netns), GroupId::Endpoint(b, of)) => {
                a == b && (netns.is_none() || of.is_none() || netns == of)
            }
            _ => self == other,
        }
    }
}

/// One group.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameGroup {
    pub id: GroupId,
    pub counts: Counts,
    /// How many processes, where the id does not say it.
    pub processes: Option<u64>,
}

/// The largest groups of a frame, and the sum of the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    pub by: Key,
    pub rows: Vec<FrameGroup>,
    pub rest: Option<(usize, Counts)>,
}

impl Groups {
    /// Keeps the largest; the others go into the sum.
    pub fn keep(&mut self, most: usize) {
        if self.rows.len() <= most {
            return;
        }
        let (n, sum) = self.rest.get_or_insert_with(|| (0, Counts::default()));
        *n += self.rows.len() - most;
        for group in &self.rows[most..] {
            sum.merge(&group.counts);
        }
        self.rows.truncate(most);
        self.rows.shrink_to_fit();
    }
}

/// TIME_WAIT rows by how well their owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TimeWaitOwners {
    /// The process was seen while the socket still had it, or traced closing it.
    pub exact: u64,
    /// Of these, those that were traced.
    pub traced: u64,
    /// By its listener, or by the programs that connect to the same destination.
    pub likely: u64,
    pub unknown: u64,
}

impl TimeWaitOwners {
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.exact + self.likely + self.unknown
    }
}

/// The process that a row belongs to, and how this is known.
#[derive(Clone, Debug, PartialEq)]
pub enum RowOwner {
    /// Holds the socket now.
    Holds(Arc<str>),
    /// Held the socket when it was last read, before the row lost its owner.
    Held(Arc<str>),
    /// Closed the socket, as traced.
    Closed(Arc<str>),
    /// Probably a process of this name; the row itself names none.
    Likely {
        comm: Arc<str>,
        confidence: f64,
        why: &'static str,
    },
    Unknown(OwnerStatus),
}

impl RowOwner {
    /// The label of the process, where one is named.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            RowOwner::Holds(label) | RowOwner::Held(label) | RowOwner::Closed(label) => Some(label),
            RowOwner::Likely { comm, .. } => Some(comm),
            RowOwner::Unknown(_) => None,
        }
    }

    /// 0 to 1, where a process is named.
    #[must_use]
    pub fn confidence(&self) -> Option<f64> {
        match self {
            RowOwner::Holds(_) => Some(1.0),
            RowOwner::Held(_) => Some(OwnerEvidence::SeenBefore.confidence()),
            RowOwner::Closed(_) => Some(OwnerEvidence::Traced.confidence()),
            RowOwner::Likely { confidence, .. } => Some(*confidence),
            RowOwner::Unknown(_) => None,
        }
    }
}

/// One socket of a drill-down.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub socket: Socket,
    pub owner: RowOwner,
    /// Time in its state as this program has seen it; `false`: at least that long.
    pub in_state_ms: (u64, bool),
    /// Time since it was first seen.
    pub known_ms: u64,
}

/// The sockets of a drill-down, up to a limit.
#[allow(clippy::struct_field_names, reason = "the lines of the frame, beside what sums them up")]
#[derive(Clone, Debug, Default)]
pub struct Lines {
    pub lines: Vec<Line>,
    /// How many there were.
    pub total: u64,
    /// One socket was requested: it is the only line, or gone.
    pub only: bool,
    /// That one with every attribute and its holders.
    pub detail: Option<Detail>,
    /// Set where they are those of a finding.
    pub of_finding: Option<OfFinding>,
    /// Whether the command that goes with a group lists these and no others; `None`: not asked.
    pub is_as_command: Option<bool>,
    /// Other sockets of the processes that a finding is about.
    pub others: Others,
    /// What they are the rows of; `None`: of whatever is open.
    pub of: Option<Box<RowsOf>>,
}

/// Sockets beside those of a list.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// The first of them.
    pub lines: Vec<Line>,
    /// All of them.
    pub counts: Counts,
}

/// What rows are of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowsOf {
    pub rows: Rows,
    pub group: Option<(Key, GroupId)>,
    /// The very sockets of the finding of this id, as the rules found it last.
    pub finding: Option<String>,
    /// The processes whose other sockets are told as well.
    pub beside: Vec<u32>,
}

/// What the rows of a finding are to the finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfFinding {
    /// How many sockets the rules found; some may be gone since.
    pub sockets: u64,
    /// What they have in common selects these rows and no others.
    pub is_selection: bool,
}

/// One socket with every attribute that the kernel reports, and its holders.
#[derive(Clone, Debug)]
pub struct Detail {
    pub socket: Socket,
    pub owners: OwnerTable,
}

/// A finding over time. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    pub finding: Finding,
    pub first_ms: u64,
    pub last_ms: u64,
    /// When the rules no longer found it; `None` while they do.
    pub gone_ms: Option<u64>,
}

impl Sighting {
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone_ms.is_some()
    }
}

/// What a trace saw since the previous sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStatus {
    /// Its source, as `trace` calls it.
    pub via: &'static str,
    pub changes: u64,
    /// Since it began.
    pub lost: u64,
    /// Every change, where the selection is everything.
    pub matrix: Option<Matrix>,
    /// Of the ends in FIN_WAIT2, CLOSING and LAST_ACK those by an error; `None` where the source does not tell.
    pub cut: Option<Matrix>,
}

/// Time that sockets spent in a state, of those seen entering and leaving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeInState {
    pub state: State,
    pub count: u64,
    pub mean_ms: u64,
    /// The median lies between these.
    pub median_ms: (u64, u64),
    pub max_ms: u64,
}

/// The result of one sample.
#[derive(Clone, Debug)]
pub struct Frame {
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub taken_at_ms: u64,
    pub interval_ms: u64,
    /// Since the previous sample.
    pub elapsed_ms: Option<u64>,
    /// How long the sample took, and the kernel's table alone.
    pub sample_us: u64,
    pub dump_us: u64,
    /// Intervals that passed without a sample before this one.
    pub skipped: u64,
    pub source: &'static str,
    pub host: Arc<str>,
    pub kernel: Arc<str>,
    /// The filter in effect, in its own language.
    pub filter: Arc<str>,
    /// States that the selection shows.
    pub shown: StateSet,
    /// States that this source cannot see.
    pub unseen: StateSet,
    /// Sockets that the selection shows, by family.
    pub counts: [Counts; 2],
    /// Changes of the sockets that match the selection, in any state.
    pub matrix: Matrix,
    /// The factor for the matrix: 1 unless only a share of the sockets is tracked.
    pub scale: u64,
    pub followed: u64,
    pub ledger: Ledger,
    pub since_start: Ledger,
    /// The state of the trace; `None` without one.
    pub trace: Option<TraceStatus>,
    /// Why the ledger has no unseen part.
    pub ledger_gap: Option<&'static str>,
    pub times_in_state: Vec<TimeInState>,
    pub groups: Option<Groups>,
    /// `None` where owners were not requested.
    pub time_wait_owners: Option<TimeWaitOwners>,
    pub findings: Arc<Vec<Sighting>>,
    /// When rules were last run, milliseconds since the epoch; `None` before the first time.
    pub judged_at_ms: Option<u64>,
    /// Rows of the drill-down, where one is open.
    pub lines: Option<Arc<Lines>>,
    pub events: Vec<StateChange>,
    /// Labels of the owners that the events name.
    pub labels: HashMap<SetId, Arc<str>>,
    /// `None` where they were not requested.
    pub measures: Option<Box<Measures>>,
    pub gaps: Vec<Gap>,
}

impl Frame {
    /// Both families together.
    #[must_use]
    pub fn all(&self) -> Counts {
        let mut all = self.counts[0];
        all.merge(&self.counts[1]);
        all
    }

    /// This many per second, if this frame can be compared with an earlier one.
    #[must_use]
    pub fn per_second(&self, n: u64) -> Option<f64> {
        let ms = self.elapsed_ms.filter(|ms| *ms > 0)?;
        Some((n * self.scale) as f64 * 1000.0 / ms as f64)
    }

    /// The findings that are there.
    pub fn present(&self) -> impl Iterator<Item = &Sighting> {
        self.findings.iter().filter(|sighting| !sighting.is_gone())
    }

    /// Whether the sample took longer than the interval.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.skipped > 0 || self.sample_us > self.interval_ms * 1000
    }
}
