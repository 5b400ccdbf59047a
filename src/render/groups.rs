//! A table of groups: a line per group, a column per chosen sum or state, and what is limited beside them.
//!
//! Input: one crossing, counted. Output: the lines of a table. Not here: what the groups are of (`aggregate::groups`).

use comfy_table::Cell;

use crate::aggregate::groups::processes_label;
use crate::aggregate::{AcceptQueue, Amount, Counts, Group, Grouping, Key, KeyValue, Legend, Limits, Rest, Sum, Sums};
use crate::model::column::Kind;
use crate::model::pattern;
use crate::model::resources::Descriptors;
use crate::model::{OwnerTable, State, StateSet};
use crate::render::grid::{lines_of, number, right, small_table};
use crate::render::sanitize;
use crate::render::style::{self, Style};
use crate::text;

/// A crossing and how it is shown.
pub struct GroupTable<'a> {
    pub title: String,
    pub grouping: &'a Grouping,
    /// How many groups; the others are added up.
    pub top: usize,
    /// Of each host, in the order of [`Group::host`].
    pub legends: Vec<Legend<'a>>,
    /// Whether states that occur have a column.
    pub with_states: bool,
    /// What is limited, for the tables of the summary; the most urgent groups then come first.
    pub limits: Option<Limits<'a>>,
}

/// A column beside the counts, with one cell per group and one for the others.
struct Column {
    title: &'static str,
    cells: Vec<String>,
    /// Which of them are at their limit.
    full: Vec<bool>,
}

impl GroupTable<'_> {
    /// The lines of the table; none without a group.
    #[must_use]
    pub fn lines(&self, style: Style) -> Vec<String> {
        let (groups, cut) = match self.limits {
            Some(limits) => limits.split(self.grouping, self.top),
            None => self.grouping.split(self.top),
        };
        let rest = self.grouping.rest(&cut);
        if groups.is_empty() && rest.is_none() {
            return Vec::new();
        }
        let mut sum = Counts::default();
        for group in &groups {
            sum.merge(&group.counts);
        }
        if let Some(rest) = &rest {
            sum.merge(&rest.counts);
        }
        let label_width = 40.min(style.width.unwrap_or(100) / 2);
        let labels = self
            .labels(&groups, style.width.map_or(usize::MAX, |_| label_width / 2))
            .into_iter()
            .map(|label| shorten(&label, label_width, style));
        let rest_label = rest.as_ref().map(|rest| format!("other ({} more)", text::grouped(rest.groups as u64)));
        let labels: Vec<String> = labels.chain(rest_label).collect();
        let widest = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).max(self.title.len());
        let chosen = self.chosen(&groups, rest.as_ref());
        let beside = self.beside(&groups, &cut);
        let taken: usize = chosen.iter().chain(&beside).map(Column::width).sum();
        let states = if self.with_states {
            columns_that_fit(&sum, self.hidden(), widest + taken, style.width.unwrap_or(160))
        } else {
            StateColumns { shown: Vec::new(), rest: false }
        };
        let mut table = small_table(style);
        let mut head = vec![Cell::new(style.heading(&self.title)), right(&style.heading("TOTAL"))];
        head.extend(chosen.iter().map(|c| right(&style.heading(&c.title.to_ascii_uppercase()))));
        head.extend(states.shown.iter().map(|s| right(&style.heading(short(*s)))));
        if states.rest {
            head.push(right(&style.heading("OTHER")));
        }
        head.extend(beside.iter().map(|c| right(&style.heading(c.title))));
        table.set_header(head);
        let counts = groups.iter().map(|g| &g.counts).chain(rest.iter().map(|r| &r.counts));
        for (i, (label, counts)) in labels.into_iter().zip(counts).enumerate() {
            let mut row = vec![Cell::new(label), number(counts.total())];
            row.extend(chosen.iter().map(|c| c.cell(i, style)));
            row.extend(states.shown.iter().map(|s| number(counts.get(*s))));
            if states.rest {
                let shown: u64 = states.shown.iter().map(|s| counts.get(*s)).sum();
                let hidden: u64 = self.hidden().iter().map(|s| counts.get(s)).sum();
                row.push(number(counts.total() - shown - hidden));
            }
            row.extend(beside.iter().map(|c| c.cell(i, style)));
            table.add_row(row);
        }
        lines_of(&table)
    }

    /// The state that every listener is in says nothing beside its queue.
    fn hidden(&self) -> StateSet {
        let is_listeners = self.limits.is_some() && self.grouping.keys.ends_with(&[Key::Listener]);
        if is_listeners { StateSet::LISTEN } else { StateSet::EMPTY }
    }

    /// The sums that were chosen.
    fn chosen(&self, groups: &[&Group], rest: Option<&Rest>) -> Vec<Column> {
        let column = |sum: &Sum| {
            let of_groups = groups.iter().map(|g| g.sums.as_deref());
            let all = of_groups.chain(rest.map(|r| r.sums.as_ref()));
            Column::new(sum.name(), all.map(|sums| (amount(*sum, sums), false)))
        };
        self.grouping.wanted.sums.iter().map(column).collect()
    }

    /// What is limited.
    fn beside(&self, groups: &[&Group], cut: &[&Group]) -> Vec<Column> {
        let Some(limits) = self.limits else { return Vec::new() };
        // The groups below the cut are one line.
        let lines: Vec<&[&Group]> = groups.chunks(1).chain(std::iter::once(cut).filter(|c| !c.is_empty())).collect();
        match self.grouping.keys.last() {
            Some(Key::Listener) => {
                let queues: Vec<Option<AcceptQueue>> = lines.iter().map(|line| limits.queue(line)).collect();
                vec![
                    Column::new("QUEUE", queues.iter().map(|q| queue_cell(q.as_ref()))),
                    Column::new("DROPS", queues.iter().map(|q| (q.map_or("-".into(), |q| known(q.drops)), false))),
                ]
            }
            Some(Key::Process) if !limits.resources.descriptors.is_empty() => {
                let cell = |line: &&[&Group]| match limits.fullest(line) {
                    Some((_, open)) => descriptors_cell(&open, limits.resources.near_percent),
                    None => (if line.iter().any(|g| is_unknown(g)) { "?" } else { "-" }.into(), false),
                };
                vec![Column::new("FDS/LIMIT", lines.iter().map(cell))]
            }
            _ => Vec::new(),
        }
    }

    /// The labels, the values of each key below each other where none takes more than `most` columns.
    fn labels(&self, groups: &[&Group], most: usize) -> Vec<String> {
        let labels: Vec<Vec<String>> = groups.iter().map(|g| self.parts(g)).collect();
        let last = self.grouping.keys.len().saturating_sub(1);
        let wide = |key: usize| labels.iter().map(|parts| parts[key].chars().count()).max().unwrap_or(0).min(most);
        let widths: Vec<usize> = (0..last).map(wide).collect();
        let pad = |parts: &Vec<String>| {
            let mut label = String::new();
            for (part, width) in parts.iter().zip(widths.iter().copied()) {
                label.push_str(&format!("{part:width$}  "));
            }
            label + parts.last().map_or("", String::as_str)
        };
        labels.iter().map(pad).collect()
    }

    /// The value of each key.
    fn parts(&self, group: &Group) -> Vec<String> {
        let Some(legend) = self.legends.get(group.host as usize) else { return Vec::new() };
        let mut parts = parts(group, self.grouping, *legend);
        let queue = self.limits.filter(|_| self.grouping.keys.ends_with(&[Key::Listener]));
        let queue = queue.and_then(|limits| limits.queue(&[group]));
        if let (Some(queue), Some(last)) = (queue.filter(|q| q.sockets > 1), parts.last_mut()) {
            last.push_str(&format!(" x{}", queue.sockets));
        }
        parts
    }
}

/// From this share of its limit on a process has it beside the numbers.
const WORTH_PERCENT: f64 = 50.0;

/// Whether processes that could not be found hold its sockets.
fn is_unknown(group: &Group) -> bool {
    group.values.iter().any(|value| matches!(value, KeyValue::NoProcess(status) if !status.holders_are_known()))
}

/// `3/511`, `129/128 full`: who waits in the fullest queue, and its limit.
fn queue_cell(queue: Option<&AcceptQueue>) -> (String, bool) {
    let Some(queue) = queue else { return ("-".into(), false) };
    let (waiting, limit) = queue.fullest;
    let (is_full, limit) = (queue.full > 0, known(limit.map(u64::from)));
    (format!("{}/{limit}{}", text::grouped(waiting.into()), if is_full { " full" } else { "" }), is_full)
}

/// `1,655/2,048 81%`.
fn descriptors_cell(open: &Descriptors, near_percent: f64) -> (String, bool) {
    let percent = open.percent();
    let share = percent.filter(|p| *p >= WORTH_PERCENT).map_or_else(String::new, |p| format!(" {p:.0}%"));
    (format!("{}/{}{share}", known(open.used), known(open.soft)), percent.is_some_and(|p| p >= near_percent))
}

fn known(n: Option<u64>) -> String {
    n.map_or_else(|| "?".to_owned(), text::grouped)
}

impl Column {
    fn new(title: &'static str, cells: impl Iterator<Item = (String, bool)>) -> Column {
        let (cells, full) = cells.unzip();
        Column { title, cells, full }
    }

    fn width(&self) -> usize {
        2 + self.cells.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(self.title.len())
    }

    fn cell(&self, row: usize, style: Style) -> Cell {
        let text = self.cells.get(row).map_or("", String::as_str);
        if self.full.get(row) == Some(&true) { right(&style.paint(style::FULL, text)) } else { right(text) }
    }
}

struct StateColumns {
    shown: Vec<State>,
    /// Some states did not fit and share one column.
    rest: bool,
}

fn columns_that_fit(sum: &Counts, hidden: StateSet, label: usize, width: usize) -> StateColumns {
    let is_shown = |s: &State| sum.get(*s) > 0 && !hidden.contains(*s);
    let mut present: Vec<State> = StateSet::ALL.iter().filter(is_shown).collect();
    let cost = |s: &State| 2 + short(*s).len().max(text::grouped(sum.get(*s)).len());
    let total = label + 2 + text::grouped(sum.total()).len().max(5);
    let all: usize = present.iter().map(cost).sum();
    if total + all <= width && sum.unknown() == 0 {
        return StateColumns { shown: present, rest: false };
    }
    let mut used = total + 2 + 7;
    // What does not go away by itself keeps its column.
    present.sort_by_key(|s| (*s != State::CloseWait, std::cmp::Reverse(sum.get(*s))));
    present.retain(|s| {
        used += cost(s);
        used <= width
    });
    present.sort_unstable();
    StateColumns { shown: present, rest: true }
}

/// The name of a state as a column head.
const fn short(state: State) -> &'static str {
    match state {
        State::Established => "ESTAB",
        State::BoundInactive => "BOUND",
        other => other.name(),
    }
}

/// `curl, 37 processes`.
fn short_lived_label(indices: &[u32], owners: &OwnerTable) -> String {
    let comm = indices.first().map_or("", |i| owners.processes[*i as usize].comm.as_str());
    text::short_lived(comm, indices.len() as u64)
}

fn parts(group: &Group, grouping: &Grouping, legend: Legend<'_>) -> Vec<String> {
    let Legend { owners, names } = legend;
    let part = |(key, value): (&Key, &KeyValue)| {
        let part = match value {
            KeyValue::State(state) => state.to_string(),
            KeyValue::Family(family) => family.key().to_owned(),
            KeyValue::Endpoint(endpoint) => endpoint.to_string(),
            KeyValue::Addr(addr) => addr.to_string(),
            KeyValue::Net(addr, length) => format!("{addr}/{length}"),
            KeyValue::Port(port) => format!(":{port}"),
            KeyValue::Tuple(tuple) => tuple.to_string(),
            KeyValue::Processes(indices) => processes_label(indices, owners),
            KeyValue::ShortLived(indices) => short_lived_label(indices, owners),
            KeyValue::NoProcess(status) => status.words().to_owned(),
            KeyValue::User(uid) => names.user(*uid).map_or_else(|| uid.to_string(), |n| n.to_string()),
            KeyValue::Netns(inode) => names.netns(*inode).map_or_else(|| inode.to_string(), |n| n.to_string()),
            KeyValue::Text(text) if matches!(key, Key::Container | Key::Pod) => pattern::shortened(text).to_owned(),
            KeyValue::Text(text) => text.clone(),
            KeyValue::None if key.is_of_peer() => "(no peer)".to_owned(),
            KeyValue::None => format!("(no {})", key.name()),
        };
        let mut text = String::new();
        sanitize::push(&mut text, &part);
        text
    };
    grouping.keys.iter().zip(&group.values).map(part).collect()
}

/// Cuts a label on a terminal in the middle, where the least is lost.
fn shorten(label: &str, width: usize, style: Style) -> String {
    if style.width.is_none() || label.chars().count() <= width || width < 5 {
        return label.to_owned();
    }
    text::shorten_middle(label, width)
}

/// The title of the table for some keys.
#[must_use]
pub fn title(keys: &[Key]) -> String {
    keys.iter().map(|k| k.label().to_ascii_uppercase()).collect::<Vec<_>>().join(" / ")
}

/// A sum as text: `?` where no socket of the group has it.
fn amount(sum: Sum, sums: Option<&Sums>) -> String {
    match sums.and_then(|s| s.get(sum)) {
        None => "?".into(),
        Some(Amount::Share(share)) => format!("{:.2}%", share * 100.0),
        Some(Amount::Number(n)) => match sum.kind() {
            Some(Kind::Micros) => text::compact_us(n).to_string(),
            Some(Kind::Bytes) => text::bytes(n),
            _ => text::grouped(n),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Listeners, Role};
    use crate::model::column::{NoNames, Row};
    use crate::model::sysctl::PORT_RANGE;
    use crate::model::{Endpoint, Socket};

    #[test]
    fn values_of_several_keys_are_below_each_other_and_a_listener_has_no_peer() {
        let mut grouping = Grouping::new(vec![Key::PeerAddr, Key::LocalPort]);
        let (owners, listeners) = (OwnerTable::default(), Listeners::new(PORT_RANGE));
        for (state, peer) in [
            (State::Established, "10.0.0.1"),
            (State::Established, "10.0.0.1"),
            (State::Established, "192.168.100.101"),
            (State::Listen, "0.0.0.0"),
        ] {
            let local = Endpoint::new("10.0.0.9".parse().unwrap(), 80);
            let socket = Socket { state, local, peer: Endpoint::new(peer.parse().unwrap(), 9), ..Socket::default() };
            grouping.add(&Row::new(&socket, &owners, &NoNames), Role::Unknown, &listeners);
        }
        let table = GroupTable {
            title: title(&grouping.keys),
            grouping: &grouping,
            top: 10,
            legends: vec![Legend { owners: &owners, names: &NoNames }],
            with_states: false,
            limits: None,
        };
        for width in [None, Some(80)] {
            let lines = table.lines(Style { color: false, width });
            let at = |text: &str| lines.iter().find(|l| l.contains(text)).and_then(|l| l.find(":80"));
            assert_eq!(at("10.0.0.1 "), at("192.168.100.101"), "{lines:?}");
            assert!(at("(no peer)").is_some() && at("0.0.0.0").is_none(), "{lines:?}");
        }
    }
}
