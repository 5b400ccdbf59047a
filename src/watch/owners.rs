//! The owners of new sockets, found within a share of the time.
//!
//! Input: rows without an owner. Output: an owner table, if there was time for it. [`Ownership`] remembers the
//! owners of TIME_WAIT.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::Error;
use super::budget::Credit;
use crate::aggregate::ownership::Ownership;
use crate::collect::Live;
use crate::model::{Inode, OwnerTable};

/// The search may take one part in this many of the time; unused time accumulates, up to a second.
const SHARE: u32 = 50;
const SAVED: Duration = Duration::from_secs(1);
/// Minimum interval between scans of all descriptors, which may be passed between processes.
const REFRESH: Duration = Duration::from_secs(10);

/// What is known of owners, and the time that may still be spent on them.
pub(super) struct Owners {
    pub known: Ownership,
    credit: Credit,
    earned: Instant,
    refreshed: Option<Instant>,
}

impl Owners {
    pub(super) fn new() -> Owners {
        let credit = Credit::new(SAVED);
        Owners { known: Ownership::default(), credit, earned: Instant::now(), refreshed: None }
    }

    /// Scans for all owners, if it is due.
    pub(super) fn refresh(&mut self, live: &mut Live) -> Result<Option<OwnerTable>, Error> {
        let pause = REFRESH.max(self.credit.cost * SHARE * 2);
        // Of a recording they are known at once.
        if live.recorded().is_none() && self.refreshed.is_some_and(|at| at.elapsed() < pause) {
            return Ok(None);
        }
        let started = Instant::now();
        let table = live.owners(None).map_err(Error::Owners)?;
        self.credit.spend(started.elapsed());
        self.known.note_coverage(&table);
        self.refreshed = Some(Instant::now());
        Ok(Some(table))
    }

    /// Scans for the owners of these, if there is time for it or it `must` be.
    pub(super) fn find(
        &mut self,
        live: &mut Live,
        wanted: &FxHashSet<Inode>,
        must: bool,
        traced: bool,
    ) -> Result<Option<OwnerTable>, Error> {
        if wanted.is_empty() || !(must || self.may_search(traced)) {
            return Ok(None);
        }
        let started = Instant::now();
        let table = live.second_look(self.known.table().unreadable > 0, wanted).map_err(Error::Owners)?;
        self.credit.spend(started.elapsed());
        Ok(Some(table))
    }

    /// Whether there is time for another search like the latest.
    fn may_search(&mut self, traced: bool) -> bool {
        let passed = std::mem::replace(&mut self.earned, Instant::now()).elapsed();
        // A trace names the closers, so its cost is saved here.
        self.credit.earn(passed, if traced { 2 * SHARE } else { SHARE })
    }

    /// What the latest search took.
    pub(super) fn cost(&self) -> Duration {
        self.credit.cost
    }
}
