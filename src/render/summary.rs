//! The screen of `summary`: counts per state, the largest groups, what could not be seen, in 80 columns.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::aggregate::groups::processes_label;
use crate::aggregate::{Amount, Census, Counts, Group, Grouping, Key, KeyValue, Sum, Sums};
use crate::model::column::{Kind, Names};
use crate::model::{Family, Gap, OwnerTable, State, StateSet};
use crate::render::style::{self, Style};
use crate::render::{gap, json::Unseen, sanitize};
use crate::text;

/// What a summary shows besides its counts.
pub struct Header<'a> {
    pub host: &'a str,
    pub kernel: &'a str,
    pub source: &'a str,
    pub time: &'a str,
}

/// Appends the head line and the counts per state.
pub fn write_states(out: &mut String, header: &Header<'_>, census: &Census, unseen: Unseen, style: Style) {
    let all = census.all();
    let title = format!("{} TCP socket{} on ", text::grouped(all.total()), if all.total() == 1 { "" } else { "s" });
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "{}{}  {}",
        style.heading(&title),
        style.heading(&sanitize::clean(header.host)),
        style.dim(&format!("kernel {}, {}, {}", sanitize::clean(header.kernel), header.source, header.time))
    );
    out.push('\n');
    let mut table = small_table(style);
    table.set_header(
        [
            ("STATE", CellAlignment::Left),
            ("TOTAL", CellAlignment::Right),
            ("IPV4", CellAlignment::Right),
            ("IPV6", CellAlignment::Right),
        ]
        .map(|(text, align)| Cell::new(style.heading(text)).set_alignment(align)),
    );
    let mut none = Vec::new();
    for state in State::ALL {
        let n = all.get(state);
        if n == 0 {
            if !unseen.0.contains(state) {
                none.push(state.name());
            }
            continue;
        }
        let mut row = vec![Cell::new(style.paint(style::state(state), state.name()))];
        row.push(number(n));
        row.extend(Family::ALL.iter().map(|f| number(census.family(*f).get(state))));
        table.add_row(row);
    }
    if all.unknown() > 0 {
        let mut row = vec![Cell::new("UNKNOWN STATE")];
        row.push(number(all.unknown()));
        row.extend(Family::ALL.iter().map(|f| number(census.family(*f).unknown())));
        table.add_row(row);
    }
    if all.total() > 0 {
        push_table(out, &table);
    }
    if !none.is_empty() {
        let screen = Style { width: style.width.or(Some(80)), ..style };
        screen.push_wrapped(out, [0, 2], &format!("none in {}", none.join(", ")), style::DIM);
    }
    for state in unseen.0.iter().filter(|s| all.get(*s) == 0) {
        let _ = writeln!(out, "{}", style.dim(&format!("{} could not be counted here", state.name())));
    }
}

/// Appends one crossing as a table: a line per group, a column per chosen sum, and if wanted one per state that occurs.
#[allow(clippy::too_many_arguments, reason = "a table is what it shows and how")]
pub fn write_groups(
    out: &mut String,
    title: &str,
    grouping: &Grouping,
    top: usize,
    owners: &OwnerTable,
    names: &dyn Names,
    with_states: bool,
    style: Style,
) {
    let (groups, rest) = grouping.top(top);
    if groups.is_empty() && rest.is_none() {
        return;
    }
    let mut sum = Counts::default();
    for group in &groups {
        sum.merge(&group.counts);
    }
    if let Some(rest) = &rest {
        sum.merge(&rest.counts);
    }
    let label_width = 40.min(style.width.unwrap_or(100) / 2);
    let labels: Vec<String> =
        groups.iter().map(|g| shorten(&label(g, grouping, owners, names), label_width, style)).collect();
    let rest_label = rest.as_ref().map(|rest| format!("other ({} more)", rest.groups));
    let widest = labels.iter().chain(&rest_label).map(|l| l.chars().count()).max().unwrap_or(0).max(title.len());
    let chosen = &grouping.wanted.sums;
    let cells = |sums: Option<&Sums>| chosen.iter().map(|sum| amount(*sum, sums)).collect::<Vec<String>>();
    let measured: Vec<Vec<String>> =
        groups.iter().map(|g| g.sums.as_deref()).chain(rest.iter().map(|r| r.sums.as_ref())).map(cells).collect();
    let sum_width = |i: usize, sum: &Sum| {
        2 + measured.iter().map(|cells| cells[i].chars().count()).max().unwrap_or(0).max(sum.name().len())
    };
    let taken: usize = chosen.iter().enumerate().map(|(i, sum)| sum_width(i, sum)).sum();
    let columns = if with_states {
        columns_that_fit(&sum, widest + taken, style.width.unwrap_or(160))
    } else {
        StateColumns { shown: Vec::new(), rest: false }
    };
    let mut table = small_table(style);
    let mut head = vec![Cell::new(style.heading(title)), right(&style.heading("TOTAL"))];
    head.extend(chosen.iter().map(|sum| right(&style.heading(&sum.name().to_ascii_uppercase()))));
    head.extend(columns.shown.iter().map(|s| right(&style.heading(short(*s)))));
    if columns.rest {
        head.push(right(&style.heading("OTHER")));
    }
    table.set_header(head);
    let lines = groups.iter().map(|g| &g.counts).chain(rest.iter().map(|r| &r.counts));
    for ((label, counts), sums) in labels.into_iter().chain(rest_label).zip(lines).zip(measured) {
        let mut row = vec![Cell::new(label), number(counts.total())];
        row.extend(sums.iter().map(|text| right(text)));
        row.extend(columns.shown.iter().map(|s| number(counts.get(*s))));
        if columns.rest {
            let shown: u64 = columns.shown.iter().map(|s| counts.get(*s)).sum();
            row.push(number(counts.total() - shown));
        }
        table.add_row(row);
    }
    out.push('\n');
    push_table(out, &table);
}

/// Appends what could not be seen.
pub fn write_gaps(out: &mut String, gaps: &[Gap], style: Style) {
    for gap in gaps {
        let text = format!("note: {}", sanitize::clean(&gap::line(gap)));
        style.push_wrapped(out, [0, 2], &text, style::DIM);
    }
}

struct StateColumns {
    shown: Vec<State>,
    /// Some states did not fit and share one column.
    rest: bool,
}

fn columns_that_fit(sum: &Counts, label: usize, width: usize) -> StateColumns {
    let mut present: Vec<State> = StateSet::ALL.iter().filter(|s| sum.get(*s) > 0).collect();
    let cost = |s: &State| 2 + short(*s).len().max(text::grouped(sum.get(*s)).len());
    let total = label + 2 + text::grouped(sum.total()).len().max(5);
    let all: usize = present.iter().map(cost).sum();
    if total + all <= width && sum.unknown() == 0 {
        return StateColumns { shown: present, rest: false };
    }
    let mut used = total + 2 + 7;
    present.sort_by_key(|s| std::cmp::Reverse(sum.get(*s)));
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

fn label(group: &Group, grouping: &Grouping, owners: &OwnerTable, names: &dyn Names) -> String {
    let mut text = String::new();
    for (key, value) in grouping.keys.iter().zip(&group.values) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        let part = match value {
            KeyValue::State(state) => state.to_string(),
            KeyValue::Family(family) => family.key().to_owned(),
            KeyValue::Endpoint(endpoint) => endpoint.to_string(),
            KeyValue::Addr(addr) => addr.to_string(),
            KeyValue::Net(addr, length) => format!("{addr}/{length}"),
            KeyValue::Port(port) => format!(":{port}"),
            KeyValue::Tuple(tuple) => tuple.to_string(),
            KeyValue::Processes(indices) => processes_label(indices, owners),
            KeyValue::NoProcess(status) => status.words().to_owned(),
            KeyValue::User(uid) => names.user(*uid).map_or_else(|| uid.to_string(), |n| n.to_string()),
            KeyValue::Netns(inode) => names.netns(*inode).map_or_else(|| inode.to_string(), |n| n.to_string()),
            KeyValue::Text(text) => text.clone(),
            KeyValue::None => format!("(no {})", key.name()),
        };
        sanitize::push(&mut text, &part);
    }
    text
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

fn small_table(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if style.color {
        table.enforce_styling();
    }
    table
}

fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn number(n: u64) -> Cell {
    right(&text::grouped(n))
}

/// Appends a table without trailing blanks and without the one that begins its lines.
fn push_table(out: &mut String, table: &Table) {
    for line in table.lines() {
        out.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Listeners;
    use crate::model::sysctl::PORT_RANGE;

    #[test]
    fn the_screen_names_every_state_once() {
        let mut census = Census::new(Listeners::new(PORT_RANGE), Vec::new());
        census.counts[0].add_many(State::Established, 72_000);
        census.counts[1].add_many(State::CloseWait, 9);
        let mut out = String::new();
        let header = Header { host: "h\x1b[31m", kernel: "6.18", source: "netlink", time: "11:00:00" };
        write_states(&mut out, &header, &census, Unseen(StateSet::of(&[State::BoundInactive])), Style::PLAIN);
        for state in State::ALL {
            assert_eq!(out.matches(state.name()).count() - usize::from(state == State::Close), 1, "{state}: {out}");
        }
        assert!(out.contains("72,000") && out.contains("h\\x1b[31m") && !out.contains('\x1b'), "{out}");
        assert!(out.lines().all(|l| l.len() <= 80 && !l.ends_with(' ')), "{out}");
    }
}
