//! What one sample contains beside counts: the filter, the groups, the rows.
//!
//! Input: the options and keys of a user. Output: a [`SampleRequest`] for the sampler. Not here: how it is answered.

use std::cmp::Ordering;

use super::frame::FrameGroup;
use super::rows::RowRequest;
use crate::aggregate::Key;
use crate::filter::Expr;
use crate::model::State;

/// What one sample shall contain beside counts.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    pub filter: Expr,
    pub interval_ms: u64,
    pub by: Option<Key>,
    /// Groups that are kept, the first of this order; the others are summed.
    pub top: usize,
    pub order: GroupOrder,
    pub rows: Option<RowRequest>,
    /// Every change of one socket.
    pub events: bool,
    /// Sums for outputs that keep series, of each kind the largest, at most so many.
    pub measures: Option<usize>,
}

/// What groups can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupColumn {
    Name,
    Total,
    State(State),
}

/// The order of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOrder {
    pub column: GroupColumn,
    pub descending: bool,
}

impl GroupOrder {
    /// The largest first.
    pub const LARGEST: GroupOrder = GroupOrder { column: GroupColumn::Total, descending: true };

    /// Groups that are alike are in the order of their size, then of their names.
    pub(super) fn compare(self, a: &FrameGroup, b: &FrameGroup) -> Ordering {
        let (first, second) = if self.descending { (b, a) } else { (a, b) };
        let wanted = match self.column {
            GroupColumn::Name => first.id.cmp(&second.id),
            GroupColumn::Total => first.counts.total().cmp(&second.counts.total()),
            GroupColumn::State(state) => first.counts.get(state).cmp(&second.counts.get(state)),
        };
        wanted.then_with(|| b.counts.total().cmp(&a.counts.total())).then_with(|| a.id.cmp(&b.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testkit;

    #[test]
    fn groups_are_ordered_by_any_of_their_columns() {
        let rows = testkit::frame().groups.unwrap().rows;
        let first = |column, descending| {
            let order = GroupOrder { column, descending };
            rows.iter().min_by(|a, b| order.compare(a, b)).unwrap().counts
        };
        assert_eq!(first(GroupColumn::Total, true).total(), 20_003);
        assert_eq!(first(GroupColumn::Total, false).total(), 17);
        assert_eq!(first(GroupColumn::State(State::CloseWait), true).get(State::CloseWait), 34);
        assert_eq!(first(GroupColumn::State(State::Established), true).get(State::Established), 1178);
        assert_eq!(first(GroupColumn::Name, false).total(), 20_003, "curl(4711)");
        assert_eq!(GroupOrder::LARGEST.compare(&rows[0], &rows[1]), Ordering::Less);
    }
}
