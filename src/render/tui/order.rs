//! The tables that can be sorted, and by what.
//!
//! Input: the name of a column. Output: the order of a table. Not here: sorting; the sampler does it for groups and sockets,
//! which has more of them than a frame.

use crate::model::State;
use crate::model::column;
use crate::watch::{GroupColumn, GroupOrder, sort_columns};

/// A table with columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    States,
    Groups,
    Sockets,
}

/// The column that a table is sorted by, and the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub column: &'static str,
    pub descending: bool,
}

impl Order {
    /// What a heading shows behind the name of its column.
    #[must_use]
    pub fn mark(self, column: &str) -> &'static str {
        match (self.column == column, self.descending) {
            (true, false) => "▲",
            (true, true) => "▼",
            (false, _) => "",
        }
    }
}

impl Table {
    /// The order in which each begins.
    pub(super) const FIRST: [Order; 3] = [
        Order { column: "state", descending: false },
        Order { column: "total", descending: true },
        Order { column: "state", descending: false },
    ];

    /// The names of the columns that it can be sorted by.
    #[must_use]
    pub fn columns(self) -> Vec<&'static str> {
        match self {
            Table::States => vec!["state", "count", "change", "in", "out"],
            Table::Groups => ["name", "total"].into_iter().chain(State::ALL.map(State::key)).collect(),
            Table::Sockets => sort_columns().map(|column| column.name).collect(),
        }
    }

    /// The direction that shows first what is looked for: the most of a number, the first of a name.
    #[must_use]
    pub fn descends(self, column: &str) -> bool {
        match self {
            Table::States => column != "state",
            Table::Groups => column != "name",
            Table::Sockets => column::find(column).is_some_and(|column| column.kind.is_numeric()),
        }
    }

    /// The column of this name, those that begin so, then those that contain it.
    #[must_use]
    pub fn matching(self, text: &str) -> Vec<&'static str> {
        let wanted = text.trim().to_ascii_lowercase().replace('_', "-");
        let name = |column: &str| column.replace('_', "-");
        let (mut first, others): (Vec<_>, Vec<_>) =
            self.columns().into_iter().partition(|column| name(column).starts_with(&wanted));
        first.sort_by_key(|column| name(column) != wanted);
        first.extend(others.into_iter().filter(|column| name(column).contains(&wanted)));
        first
    }
}

/// The same for the sampler.
#[must_use]
pub fn of_groups(order: Order) -> GroupOrder {
    let column = match order.column {
        "name" => GroupColumn::Name,
        state => State::parse(state).map_or(GroupColumn::Total, GroupColumn::State),
    };
    GroupOrder { column, descending: order.descending }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_found_by_its_name_and_by_a_part_of_it() {
        for table in [Table::States, Table::Groups, Table::Sockets] {
            for column in table.columns() {
                assert_eq!(table.matching(column).first(), Some(&column), "{table:?}");
            }
            assert!(table.columns().contains(&Table::FIRST[table as usize].column));
        }
        assert_eq!(Table::Sockets.matching("ag")[0], "age");
        assert_eq!(Table::Sockets.matching("recv_q")[0], "recv-q");
        assert!(Table::Sockets.matching("rtt").contains(&"min-rtt"), "{:?}", Table::Sockets.matching("rtt"));
        assert_eq!(Table::Groups.matching("close-w"), ["close_wait"]);
        assert_eq!(Table::States.matching("no such"), [""; 0]);
        assert_eq!(
            Table::Sockets.columns().iter().filter(|name| **name == "pid").count(),
            0,
            "a process is one column"
        );
    }

    #[test]
    fn numbers_begin_with_the_most_and_names_with_the_first() {
        let of = |column| of_groups(Order { column, descending: true }).column;
        assert_eq!(of("close_wait"), GroupColumn::State(State::CloseWait));
        assert_eq!((of("name"), of("total")), (GroupColumn::Name, GroupColumn::Total));
        assert!(
            Table::Sockets.descends("age") && Table::Sockets.descends("recv-q") && !Table::Sockets.descends("peer")
        );
        assert!(Table::States.descends("change") && !Table::Groups.descends("name"));
    }
}
