//! The rows behind a state, a group or a finding: which, in what order, how many.
//!
//! Input: rows as they are counted. Output: the first of them, sorted by a column.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;

use super::frame::{Line, Others, RowOwner, RowsOf};
use crate::filter::Expr;
use crate::model::column::{self, COLUMNS, Column, Needs, NoNames, Row, Value};
use crate::model::socket::AgeBracket;
use crate::model::{FourTuple, NetnsId, OwnerStatus, OwnerTable, RowKind, Socket, State, StateSet};

/// Rows in a frame; sorting happens first.
const SENT: usize = 2000;
/// Rows that are sorted.
const SORTED: usize = 50_000;
/// Rows beside those of a finding: more than a screen has lines.
const OTHERS: usize = 200;

/// The columns that these rows can be sorted by: all that `list` has, with one for the process.
pub fn sort_columns() -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(|column| column.name == "process" || !column.needs.owners)
}

/// The initial sort column.
pub static DEFAULT_SORT: &Column = &COLUMNS[0];

/// Which rows a frame has.
#[derive(Clone, Debug)]
pub struct RowRequest {
    pub of: RowsOf,
    pub sort: &'static Column,
    pub descending: bool,
    /// Only this socket, with every attribute.
    pub only: Option<Box<Socket>>,
    /// The filter of the command for the same rows, which may select others.
    pub command: Option<Expr>,
}

impl RowRequest {
    /// What the rows are sorted by needs of the kernel. Ages have a way of their own, and a process is none of a row's
    /// attributes.
    pub(super) fn needs(&self) -> Needs {
        if matches!(self.sort.name, "age" | "process") { Needs::NONE } else { self.sort.needs }
    }

    /// Whether this is the requested socket.
    pub(super) fn is_only(only: &Socket, socket: &Socket) -> bool {
        only.netns == socket.netns
            && match (only.cookie, socket.cookie) {
                (Some(a), Some(b)) => a == b,
                _ => only.four_tuple() == socket.four_tuple(),
            }
    }
}

/// The rows kept of a sample, and how many there were.
#[derive(Default)]
pub(super) struct Kept {
    pub lines: Vec<Line>,
    pub total: u64,
    /// What the sockets of a finding have in common, or the command for those of a group, selects others too, or not all of
    /// them.
    pub differs: bool,
    /// Other sockets of the processes that a finding is about.
    pub others: Others,
}

impl Kept {
    /// Counts a row, and keeps it while there is room.
    pub(super) fn add(&mut self, line: impl FnOnce() -> Line) {
        self.total += 1;
        if self.lines.len() < SORTED {
            self.lines.push(line());
        }
    }

    /// Counts a row of the same processes, and keeps the first.
    pub(super) fn add_other(&mut self, state: State, line: impl FnOnce() -> Line) {
        self.others.counts.add(state);
        if self.others.lines.len() < OTHERS {
            self.others.lines.push(line());
        }
    }

    /// The rows that lack what they are shown or sorted with, by index, and their states: `tcp_info` has the age of
    /// some.
    pub(super) fn incomplete(&self, more: Needs) -> (StateSet, FxHashMap<(Option<NetnsId>, FourTuple), usize>) {
        let tells = |s: &Socket| s.kind == RowKind::Full && (s.state == State::CloseWait || s.is_unaccepted());
        let lacks = |s: &Socket| more != Needs::NONE || s.info.is_none() && tells(s);
        let asked = self.lines.iter().enumerate().filter(|(_, l)| lacks(&l.socket));
        let mut states = StateSet::EMPTY;
        let mut places = FxHashMap::default();
        for (place, line) in asked {
            states = states.union(StateSet::of(&[line.socket.state]));
            places.insert((line.socket.netns, line.socket.four_tuple()), place);
        }
        (states, places)
    }

    /// Sorts the rows and keeps the first of them.
    pub(super) fn finish(&mut self, request: &RowRequest) {
        let owners = OwnerTable::default();
        self.lines.sort_by(|a, b| {
            let order =
                column::order(&a.value(request.sort, &owners), &b.value(request.sort, &owners), request.descending);
            order.then_with(|| by_addresses(a, b))
        });
        self.lines.truncate(SENT);
        self.others.lines.sort_by(|a, b| a.socket.state.cmp(&b.socket.state).then_with(|| by_addresses(a, b)));
    }
}

fn by_addresses(a: &Line, b: &Line) -> Ordering {
    (a.socket.local, a.socket.peer).cmp(&(b.socket.local, b.socket.peer))
}

impl Line {
    /// How long the socket has been in its state: as the kernel reports it, else since this program saw it there.
    #[must_use]
    pub fn age(&self) -> AgeBracket {
        let (seen_ms, entry_seen) = self.in_state_ms;
        match self.socket.state_age() {
            Some(age) if !entry_seen => age,
            // It entered between two samples.
            Some(age) if age.min_ms > seen_ms => AgeBracket::exact(age.min_ms),
            _ if entry_seen => AgeBracket::exact(seen_ms),
            _ => AgeBracket { min_ms: seen_ms, max_ms: None },
        }
    }

    /// Whether its age is only the time since this program first saw it: the kernel reports none, and it was in the state
    /// already.
    #[must_use]
    pub fn is_aged_by_sight(&self) -> bool {
        !self.in_state_ms.1 && self.socket.state_age().is_none()
    }

    /// The value of a column. Owner and age are those that the watch knows, not only those of the row.
    fn value<'a>(&'a self, column: &Column, owners: &'a OwnerTable) -> Value<'a> {
        match column.name {
            "process" => match &self.owner {
                RowOwner::Unknown(_) => Value::Unknown,
                owner => Value::Text(owner.label().unwrap_or_default().into()),
            },
            "age" => Value::Age(self.age()),
            _ => {
                let row = Row {
                    socket: &self.socket,
                    status: OwnerStatus::NotCollected,
                    holders: &[],
                    owners,
                    names: &NoNames,
                };
                (column.get)(&row)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TcpInfo;
    use crate::watch::testkit;

    #[test]
    fn rows_are_sorted_by_any_of_the_columns_and_the_unknown_come_last() {
        let lines = testkit::frame().lines.unwrap().lines.clone();
        let sorted = |name: &str, descending| {
            let sort = column::find(name).unwrap_or_else(|| panic!("{name}"));
            let mut kept = Kept { lines: lines.clone(), total: 4, ..Kept::default() };
            kept.finish(&RowRequest { of: RowsOf::default(), sort, descending, only: None, command: None });
            kept.lines
        };
        let ages = |descending| sorted("age", descending).iter().map(|l| l.age().min_ms).collect::<Vec<_>>();
        assert_eq!(ages(false), [10, 18_800, 18_800, 250_000]);
        assert_eq!(ages(true), [250_000, 18_800, 18_800, 10]);
        for descending in [false, true] {
            let last = sorted("process", descending).pop().unwrap();
            assert!(matches!(last.owner, RowOwner::Unknown(_)), "{:?}", last.owner);
        }
        for column in sort_columns() {
            assert_eq!(sorted(column.name, true).len(), 4);
        }
        assert_eq!(sort_columns().next().map(|column| column.name), Some(DEFAULT_SORT.name));
    }

    #[test]
    fn the_kernel_knows_the_age_of_a_close_wait_that_was_there_before() {
        let mut kept = Kept { lines: testkit::frame().lines.unwrap().lines.clone(), total: 4, ..Kept::default() };
        let (states, places) = kept.incomplete(Needs::NONE);
        assert_eq!(
            (states, places.values().copied().collect::<Vec<_>>()),
            (StateSet::of(&[State::CloseWait]), vec![0])
        );
        let line = &mut kept.lines[0];
        assert_eq!(line.age(), AgeBracket { min_ms: 250_000, max_ms: None }, "since it was first seen, at least");
        assert!(line.is_aged_by_sight());
        let mut info = TcpInfo::default();
        info.load(&[0; 280]);
        for (field, ms) in
            [("last_ack_recv_ms", 605_000), ("last_data_recv_ms", 605_000), ("last_data_sent_ms", 900_000)]
        {
            assert!(info.set(field, ms), "{field}");
        }
        line.socket.info = Some(info.into());
        assert_eq!(line.age(), AgeBracket::exact(605_000));
        assert!(!line.is_aged_by_sight());
        assert!(kept.incomplete(Needs::NONE).1.is_empty());
        assert_eq!(kept.incomplete(Needs::SKMEM).1.len(), 4, "what rows are sorted by is read of all");
    }
}
