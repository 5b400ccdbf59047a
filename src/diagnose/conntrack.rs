//! Whether connection tracking of a namespace is full or loses packets.
//!
//! Input: the table in one snapshot or two. Output: [`Table`], with what it did in between. Not here: who fills it.

use crate::diagnose::finding::Evidence;
use crate::diagnose::hypothesis::{Cause, Weight};
use crate::diagnose::reach::Leaving;
use crate::diagnose::view::View;
use crate::model::NetnsId;
use crate::model::conntrack::Conntrack;
use crate::text;

/// The cause that findings on silence share: a full table drops what is new.
pub const FULL: Cause = Cause {
    id: "conntrack-full",
    text: "the connection tracking table of this host is full and drops what is new",
    predicts: "the table has as many entries as it may have, and `drop` of /proc/net/stat/nf_conntrack grows",
    refuted_by: "room in the table, or segments that left this host while it was full",
    decided_by: "`sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max`, `conntrack -S`",
};

/// From here on the table counts as full: entries come and go between the reading of two files.
const FULL_PERCENT: f64 = 97.0;

/// The table of one namespace.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub entries: u64,
    pub limit: u64,
    pub now: Conntrack,
    /// Grown between the samples; `None` without two.
    pub dropped: Option<u64>,
    pub evicted: Option<u64>,
    pub clashed: Option<u64>,
    /// New entries, less those that went.
    pub grown: Option<u64>,
}

impl Table {
    /// `None` where nothing is tracked, or the numbers could not be read.
    #[must_use]
    pub fn of(view: &View<'_>, netns: Option<NetnsId>) -> Option<Table> {
        let now = view.netns(netns)?.conntrack?;
        let before = view.before.and_then(|b| b.netns(netns)?.conntrack);
        let delta = |value: fn(&Conntrack) -> Option<u64>| Some(value(&now)?.saturating_sub(value(&before?)?));
        Some(Table {
            entries: now.entries?,
            limit: now.limit.filter(|n| *n > 0)?,
            now,
            dropped: delta(|t| t.drop),
            evicted: delta(|t| t.early_drop),
            clashed: delta(|t| t.insert_failed),
            grown: delta(|t| t.entries),
        })
    }

    #[must_use]
    pub fn percent(&self) -> f64 {
        self.entries as f64 * 100.0 / self.limit as f64
    }

    /// Packets dropped between the samples because the table had no room; a lost race counts as a drop too.
    #[must_use]
    pub fn refused(&self) -> Option<u64> {
        Some(self.dropped?.saturating_sub(self.clashed?))
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.percent() >= FULL_PERCENT
    }

    fn words(&self) -> String {
        let lost = self.dropped.filter(|n| *n > 0).map_or_else(String::new, |n| {
            format!(", {} dropped between the samples", text::count(n, "packet", "packets"))
        });
        format!("{} of {} entries{lost}", text::grouped(self.entries), text::grouped(self.limit))
    }
}

/// The state of the table for findings that it may explain; `None` while it has room and loses nothing.
#[must_use]
pub fn evidence(view: &View<'_>, netns: Option<NetnsId>) -> Option<Evidence> {
    let table = Table::of(view, netns)?;
    (table.is_full() || table.dropped > Some(0)).then(|| Evidence::Text(table.words()))
}

/// What the table says of [`FULL`].
#[must_use]
pub fn weigh(view: &View<'_>, netns: Option<NetnsId>, leaving: Leaving) -> Weight {
    let Some(table) = Table::of(view, netns) else {
        return Weight::Refuted("no connection is tracked in this namespace".into());
    };
    match leaving {
        _ if !table.is_full() => Weight::Refuted(format!("its table has room: {}", table.words())),
        Leaving::Leaves(_) => Weight::Refuted("what was repeated left this host while the table was full".into()),
        Leaving::Fails(_) if table.refused() > Some(0) => Weight::Proven,
        _ => Weight::Possible(0.6),
    }
}
