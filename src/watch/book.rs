//! The accounts of what was seen and what was not, over one sample and since the start.
//!
//! Input: the changes of a sample, the kernel's counters, the sums of a trace. Output: a [`Ledger`], and why it has
//! no unseen part where the selection does not allow one.

use crate::aggregate::{Accounts, Ledger, Reading, Tick, TracedSums};
use crate::collect::{Families, Query};
use crate::filter::Expr;
use crate::model::{State, StateSet};

/// The accounts of a watch.
#[derive(Default)]
pub(super) struct Book {
    accounts: Accounts,
}

impl Book {
    /// Enters a sample. What cannot be known under this selection stays unknown; returns the reason.
    pub(super) fn enter(
        &mut self,
        filter: &Expr,
        query: &Query,
        reading: &Reading,
        tick: &Tick,
        traced: Option<TracedSums>,
    ) -> (Ledger, Option<&'static str>) {
        let whole = filter.ignoring_state().is_all() && query.families == Families::Both;
        let every_state = StateSet::CONNECTED.intersection(query.states.complement()).is_empty();
        let remainders = query.states.contains(State::TimeWait) && query.states.contains(State::FinWait2);
        let mut reading = *reading;
        let gap = if !whole {
            reading = Reading::default();
            Some("the kernel counts the whole namespace, not a selection")
        } else if !every_state {
            reading.active = None;
            if !remainders {
                reading.remainders = None;
            }
            Some("not every state is sampled")
        } else if tick.shift > 0 {
            Some("more sockets than are followed")
        } else {
            None
        };
        let ledger = self.accounts.enter(&reading, tick, traced);
        let missing = gap.is_none() && ledger.opened.unseen.is_none();
        (ledger, if missing { Some("this kernel has no such counters") } else { gap })
    }

    pub(super) fn since_start(&self) -> &Ledger {
        self.accounts.since_start()
    }
}
