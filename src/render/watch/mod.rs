//! One look of `watch`, and its forms off a full screen: blocks for people, lines for programs.
//!
//! Comes in: what one sample gave, already counted and compared. Goes out: a [`Frame`] that every output draws. Never
//! here: sampling, counting, a terminal.

mod lines;
pub(crate) mod plain;
pub mod schema;

use std::collections::HashMap;
use std::sync::Arc;

use crate::aggregate::Counts;
use crate::aggregate::flows::Ledger;
use crate::aggregate::owner::SetId;
use crate::aggregate::tracker::{Matrix, Transition};
use crate::diagnose::Finding;
use crate::model::{Endpoint, Family, Gap, NetnsId, OwnerStatus, Socket, State, StateSet};
pub use lines::{end_line, finding_line, gap_line, snapshot_line, transition_line};
pub use plain::write_block;

/// What the groups of a frame are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupBy {
    Process,
    Listener,
    Destination,
    User,
    Unit,
    Container,
    Pod,
    Netns,
}

impl GroupBy {
    pub const ALL: [GroupBy; 8] = [
        GroupBy::Process,
        GroupBy::Listener,
        GroupBy::Destination,
        GroupBy::User,
        GroupBy::Unit,
        GroupBy::Container,
        GroupBy::Pod,
        GroupBy::Netns,
    ];

    /// The word on the command line and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GroupBy::Process => "process",
            GroupBy::Listener => "listener",
            GroupBy::Destination => "destination",
            GroupBy::User => "user",
            GroupBy::Unit => "unit",
            GroupBy::Container => "container",
            GroupBy::Pod => "pod",
            GroupBy::Netns => "netns",
        }
    }

    /// Whether the owners must be known.
    #[must_use]
    pub const fn needs_owners(self) -> bool {
        matches!(self, GroupBy::Process | GroupBy::Unit | GroupBy::Container | GroupBy::Pod)
    }

    /// The next one, for a key that switches.
    #[must_use]
    pub fn next(self, owners: bool) -> GroupBy {
        let at = GroupBy::ALL.iter().position(|g| *g == self).unwrap_or(0);
        let usable = |g: &GroupBy| owners || !g.needs_owners();
        GroupBy::ALL.into_iter().cycle().skip(at + 1).take(GroupBy::ALL.len()).find(usable).unwrap_or(self)
    }
}

/// What identifies a group from one frame to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GroupId {
    /// A process, or a set of them, by its label.
    Owner(Arc<str>),
    /// Most likely a process of this name; the row itself has none.
    Likely(Arc<str>),
    Nobody(OwnerStatus),
    /// With its namespace, where several are watched: the same address in two of them is two places.
    Endpoint(Endpoint, Option<NetnsId>),
    User(u32),
    Text(Arc<str>),
    None,
}

impl GroupId {
    /// Whether rows of the other group are wanted, where this one is; without a namespace it is the same place in any.
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
pub struct Group {
    pub id: GroupId,
    pub counts: Counts,
}

/// The largest groups of a frame, and the sum of the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    pub by: GroupBy,
    pub rows: Vec<Group>,
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

/// How well the owners of TIME_WAIT rows are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attribution {
    /// The process was seen while the socket still had it, or traced closing it.
    pub exact: u64,
    /// Of these, those that were traced.
    pub traced: u64,
    /// By its listener, or by who connects to the same place.
    pub likely: u64,
    pub unknown: u64,
}

impl Attribution {
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.exact + self.likely + self.unknown
    }
}

/// Whose a row is, and how that is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Whose {
    /// Held now.
    Now(Arc<str>),
    /// Held when it was last looked at, before the row lost its owner.
    Before(Arc<str>),
    /// It was traced closing it.
    Closer(Arc<str>),
    /// Most likely a process of this name.
    Likely(Arc<str>, f64, &'static str),
    Nobody(OwnerStatus),
}

impl Whose {
    /// The text of a cell: `curl(12)`, `curl(12) before`, `curl(12) closed`, `~curl 75%`, `(not accepted)`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Whose::Now(label) => label.to_string(),
            Whose::Before(label) => format!("{label} before"),
            Whose::Closer(label) => format!("{label} closed"),
            Whose::Likely(comm, confidence, _) => format!("~{comm} {:.0}%", confidence * 100.0),
            Whose::Nobody(status) => nobody(*status).to_owned(),
        }
    }

    /// 0 to 1, where somebody is named.
    #[must_use]
    pub fn confidence(&self) -> Option<f64> {
        match self {
            Whose::Now(_) => Some(1.0),
            Whose::Before(_) => Some(crate::aggregate::ownership::SEEN_BEFORE),
            Whose::Closer(_) => Some(crate::aggregate::ownership::TRACED),
            Whose::Likely(_, confidence, _) => Some(*confidence),
            Whose::Nobody(_) => None,
        }
    }

    /// Why it is named, in a few words.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Whose::Now(_) => "holds it now",
            Whose::Before(_) => "seen before: it held the socket that this is the remainder of",
            Whose::Closer(_) => "traced: it closed this end",
            Whose::Likely(_, _, why) => why,
            Whose::Nobody(_) => "",
        }
    }
}

/// One socket of a drill-down.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub socket: Socket,
    pub whose: Whose,
    /// In its state for so long as far as this program has seen; `false`: at least that long.
    pub in_state_ms: (u64, bool),
    /// First seen so long ago.
    pub known_ms: u64,
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    State,
    Age,
    Local,
    Peer,
    Owner,
    RecvQ,
    SendQ,
}

impl Sort {
    pub const ALL: [Sort; 7] = [Sort::State, Sort::Age, Sort::Local, Sort::Peer, Sort::Owner, Sort::RecvQ, Sort::SendQ];

    /// Head of its column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Sort::State => "STATE",
            Sort::Age => "AGE",
            Sort::Local => "LOCAL",
            Sort::Peer => "PEER",
            Sort::Owner => "PROCESS",
            Sort::RecvQ => "RECV-Q",
            Sort::SendQ => "SEND-Q",
        }
    }
}

/// The sockets of a drill-down, as far as they are kept.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Lines {
    pub lines: Vec<Line>,
    /// How many there were.
    pub total: u64,
    /// One socket was asked for: it is the only line, or gone.
    pub only: bool,
    /// Everything that can be asked about that one, as name and value.
    pub detail: Vec<(String, String)>,
}

/// A finding with the times of its sightings.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    pub finding: Finding,
    /// Milliseconds since the epoch.
    pub first_ms: u64,
    pub last_ms: u64,
    /// It was not found any more the last time.
    pub gone: bool,
}

/// What a trace saw since the look before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its source, as `trace` calls it.
    pub via: &'static str,
    pub changes: u64,
    /// Since it began.
    pub lost: u64,
    /// Every change, where the selection is everything.
    pub matrix: Option<Matrix>,
}

/// How long sockets stayed in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    pub state: State,
    pub count: u64,
    pub mean_ms: u64,
    /// The median lies between these.
    pub median_ms: (u64, u64),
    pub max_ms: u64,
}

/// Everything that one sample has to say.
#[derive(Clone, Debug)]
pub struct Frame {
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub taken_at_ms: u64,
    pub interval_ms: u64,
    /// Since the sample before.
    pub elapsed_ms: Option<u64>,
    /// How long the sample took, and how much of it was the kernel's table.
    pub sample_us: u64,
    pub dump_us: u64,
    /// Intervals that passed without a sample before this one.
    pub skipped: u64,
    pub source: &'static str,
    pub host: Arc<str>,
    pub kernel: Arc<str>,
    /// The filter in force, in its own language.
    pub filter: Arc<str>,
    /// States that the selection shows.
    pub shown: StateSet,
    /// States that this source cannot see.
    pub unseen: StateSet,
    /// Sockets that the selection shows, by family.
    pub counts: [Counts; 2],
    /// Changes of the sockets that match the selection, in whichever state.
    pub matrix: Matrix,
    /// By what the matrix is to be multiplied: 1 unless only a share of the sockets is followed.
    pub scale: u64,
    pub followed: u64,
    pub ledger: Ledger,
    pub since_start: Ledger,
    /// What a trace says; `None` without one.
    pub trace: Option<Trace>,
    /// Why the ledger does not say what is unseen.
    pub ledger_gap: Option<&'static str>,
    pub stays: Vec<Stay>,
    pub groups: Option<Groups>,
    /// `None` where owners were not asked for.
    pub attribution: Option<Attribution>,
    pub findings: Arc<Vec<Sighting>>,
    /// When rules were last run, milliseconds since the epoch; `None` before the first time.
    pub judged_at_ms: Option<u64>,
    /// Rows of the drill-down, where one is open.
    pub lines: Option<Arc<Lines>>,
    pub events: Vec<Transition>,
    /// Labels of the owners that the events name.
    pub labels: HashMap<SetId, Arc<str>>,
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

    #[must_use]
    pub fn family(&self, family: Family) -> &Counts {
        &self.counts[family as usize]
    }

    /// So many per second, if this frame can be compared with one before.
    #[must_use]
    pub fn per_second(&self, n: u64) -> Option<f64> {
        let ms = self.elapsed_ms.filter(|ms| *ms > 0)?;
        Some((n * self.scale) as f64 * 1000.0 / ms as f64)
    }

    /// Whether it took longer to look than the time between two looks.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.skipped > 0 || self.sample_us > self.interval_ms * 1000
    }
}

/// A rate in at most five characters: `0`, `3.2`, `140`, `12k`.
#[must_use]
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(r) if r < 9.95 => format!("{r:.1}"),
        Some(r) if r < 9999.5 => format!("{r:.0}"),
        Some(r) if r < 999_500.0 => format!("{:.0}k", r / 1e3),
        Some(r) => format!("{:.1}M", r / 1e6),
    }
}

/// Why nobody is named. A watch that looks for owners does not look for those of every newcomer at once.
fn nobody(status: OwnerStatus) -> &'static str {
    match status {
        OwnerStatus::NotCollected => "(not looked for yet)",
        other => other.words(),
    }
}

/// The label of a group.
#[must_use]
pub fn group_label(id: &GroupId, names: &dyn crate::model::column::Names) -> String {
    match id {
        GroupId::Owner(label) => label.to_string(),
        GroupId::Likely(comm) => format!("~{comm} (likely)"),
        GroupId::Nobody(status) => nobody(*status).to_owned(),
        GroupId::Endpoint(endpoint, None) => endpoint.to_string(),
        GroupId::Endpoint(endpoint, Some(inode)) => match names.netns(*inode) {
            Some(name) => format!("{name}  {endpoint}"),
            None => format!("{inode}  {endpoint}"),
        },
        GroupId::User(uid) => names.user(*uid).map_or_else(|| uid.to_string(), |n| n.to_string()),
        GroupId::Text(text) => text.to_string(),
        GroupId::None => "(none)".into(),
    }
}

/// The time of day of a moment, in UTC, to the tenth of a second.
#[must_use]
pub fn clock(ms: u64) -> String {
    let in_day = ms % 86_400_000;
    let (h, m, s) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    format!("{h:02}:{m:02}:{s:02}.{}", in_day % 1000 / 100)
}

#[cfg(test)]
pub(crate) mod testkit;
