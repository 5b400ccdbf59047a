//! Lines of `trace`: changes of state, lives, the matrix of a summary, as text or JSON. Nothing is allocated per
//! line.

mod json;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::aggregate::lives::{Closer, End, EndedBy, Life, Opener};
use crate::model::addr::write_endpoint;
use crate::model::cgroup::Identity;
use crate::model::column::Names;
use crate::model::digits::Digits;
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Endpoint, NetnsId, State};
use crate::render::sanitize;
use crate::text::{self, width};

pub use json::{Fault, matrix_json, write_change_json, write_fault_json, write_life_json};

/// How often each change was seen.
pub type Matrix = BTreeMap<(Option<u8>, u8), u64>;

/// A change with the time that the socket spent in the old state.
struct Step {
    transition: Transition,
    in_old_ns: Option<u64>,
}

/// What a cell may use.
struct Cell<'a> {
    names: &'a dyn Names,
    identity: Option<&'a Identity>,
    /// The terminal is small.
    small: bool,
    /// Columns that are left, for the last cell.
    room: usize,
}

/// A column over changes, or over lives.
struct Column<T> {
    name: &'static str,
    /// Its width where everything has room; the last one ends the line.
    wide: usize,
    /// Its width on a small terminal; `None`: omitted there.
    narrow: Option<usize>,
    /// Only where containers run.
    member: bool,
    write: fn(&mut String, &T, &Cell<'_>),
}

const fn column<T>(
    name: &'static str,
    wide: usize,
    narrow: Option<usize>,
    write: fn(&mut String, &T, &Cell<'_>),
) -> Column<T> {
    Column { name, wide, narrow, member: false, write }
}

/// The container, or the pod where it is one of several.
const fn container<T>() -> Column<T> {
    Column {
        name: "CONTAINER",
        wide: MEMBER,
        narrow: None,
        member: true,
        write: |out, _, cell| match cell.identity {
            None => out.push('?'),
            Some(identity) => match identity.short_label().or(identity.pod_label()) {
                Some(name) => sanitize::push(out, name),
                None => out.push('-'),
            },
        },
    }
}

const CHANGE: [Column<Step>; 9] = [
    column("TIME", 15, Some(10), |out, s, cell| clock(out, s.transition.at_us, cell.small)),
    column("NETNS", 10, None, |out, s, cell| netns(out, s.transition.netns, cell.names)),
    container(),
    column("LOCAL", 21, Some(15), |out, s, _| endpoint(out, s.transition.local)),
    column("PEER", 21, Some(15), |out, s, _| endpoint(out, s.transition.peer)),
    column("OLD", 11, Some(11), |out, s, _| shown(out, s.transition.old)),
    column("NEW", 11, Some(11), |out, s, _| shown(out, Some(s.transition.new))),
    column("IN-OLD", 8, None, |out, s, _| shown(out, s.in_old_ns.map(|ns| text::compact_us(ns / 1000)))),
    column("PROCESS", 0, Some(0), |out, s, cell| match &s.transition.by {
        None | Some(By::UnknownProcess) => out.push('?'),
        Some(By::Network) => out.push('-'),
        Some(By::Process(actor) | By::KernelThread(actor)) => named(out, actor, !s.transition.by_call, cell.room),
    }),
];
const LIFE: [Column<Life>; 13] = [
    column("TIME", 15, Some(10), |out, life, cell| clock(out, life.at_us, cell.small)),
    column("NETNS", 10, None, |out, life, cell| netns(out, life.netns, cell.names)),
    container(),
    column("LOCAL", 21, Some(15), |out, life, _| endpoint(out, life.local)),
    column("PEER", 21, Some(15), |out, life, _| endpoint(out, life.peer)),
    column("DURATION", 8, Some(8), |out, life, _| shown(out, life.duration_ns.map(|ns| text::compact_us(ns / 1000)))),
    column("ENDED", 11, None, |out, life, _| {
        shown(out, life.ended.map(End::key));
        if life.ended.is_some() && life.inferred {
            out.push('*');
        }
    }),
    column("ENDED-BY", 25, Some(12), |out, life, cell| match life.ended_by {
        Some(EndedBy::ResetSent(Some(reason))) if !cell.small => drop(write!(out, "RST sent: {}", reason.key())),
        Some(EndedBy::ResetSent(_)) => out.push_str("RST sent"),
        Some(EndedBy::ResetReceived) => out.push_str("RST received"),
        Some(EndedBy::Error(errno)) => drop(write!(out, "{errno}")),
        Some(by) => out.push_str(by.key()),
        None => out.push('?'),
    }),
    column("OPENED", 14, None, |out, life, cell| match &life.opened {
        Some(Opener::Local(actor)) => local(out, actor.as_ref(), cell),
        Some(Opener::Peer) => out.push_str("peer"),
        None => out.push('?'),
    }),
    column("CLOSED-FIRST", 14, Some(0), |out, life, cell| match (&life.closed_first, life.ended) {
        (Some(Closer::Local(actor)), _) => local(out, actor.as_ref(), cell),
        (Some(Closer::Peer), _) => out.push_str("peer"),
        (Some(Closer::Abort), _) => out.push_str("abort"),
        (None, Some(End::Failed)) => out.push('-'),
        (None, _) => out.push('?'),
    }),
    column("SENT", 8, None, |out, life, _| number(out, life.traffic.map(|t| t.sent_bytes))),
    column("RECEIVED", 8, None, |out, life, _| number(out, life.traffic.and_then(|t| t.received_bytes))),
    column("STATES", 0, None, |out, life, _| {
        let start = out.len();
        for (state, ns) in &life.states {
            let blank = if out.len() == start { "" } else { " " };
            // Writing into a String cannot fail.
            let _ = write!(out, "{blank}{state} {}", text::compact_us(ns / 1000));
        }
        if !life.complete {
            out.push_str(if out.len() == start { "(incomplete)" } else { " (incomplete)" });
        }
    }),
];
const FAULT: [Column<Fault>; 9] = [
    column("TIME", 15, Some(10), |out, f, cell| clock(out, f.at.at_us, cell.small)),
    column("NETNS", 10, None, |out, f, cell| netns(out, f.at.netns, cell.names)),
    container(),
    column("LOCAL", 21, Some(15), |out, f, _| endpoint(out, f.at.local)),
    column("PEER", 21, Some(15), |out, f, _| endpoint(out, f.at.peer)),
    column("STATE", 11, Some(11), |out, f, _| match f.at.state {
        Some(state) => shown(out, Some(state)),
        None => out.push('-'),
    }),
    column("EVENT", 12, Some(12), |out, f, _| {
        out.push_str(match f.kind {
            "reset_sent" => "RST sent",
            "reset_received" => "RST received",
            _ => "retransmit",
        });
    }),
    column("WHY", 19, None, |out, f, _| match (f.kind, f.reason, f.errno) {
        (_, Some(reason), _) => out.push_str(reason.key()),
        (_, _, Some(errno)) => shown(out, Some(errno)),
        ("reset_sent", None, None) => out.push('?'),
        _ => out.push('-'),
    }),
    column("PROCESS", 0, Some(0), |out, f, cell| match &f.at.by {
        None | Some(By::UnknownProcess) => out.push('?'),
        Some(By::Network) => out.push('-'),
        Some(By::Process(actor) | By::KernelThread(actor)) => named(out, actor, false, cell.room),
    }),
];
/// Terminals with fewer columns are small: for changes, for faults, and for lives.
const CHANGE_WIDE: usize = 120;
const FAULT_WIDE: usize = 140;
const LIFE_WIDE: usize = 186;
/// What the column of containers takes, with the gap before it.
const MEMBER: usize = 14;
/// Minimum of a process name that is shown.
const SHORTEST_NAME: usize = 2;

/// How lines are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Not for a terminal: all cells, one tab between them.
    Tabs,
    /// A terminal with this many columns.
    Terminal(usize),
}

/// How a line is written, and what it belongs to.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub names: &'a dyn Names,
    pub layout: Layout,
    pub identity: Option<&'a Identity>,
    /// Containers have a column.
    pub members: bool,
}

/// A line of cells; `None`: the names of the columns.
fn line<T>(out: &mut String, columns: &[Column<T>], wide: usize, of: Option<&T>, how: &Line<'_>) {
    let wide = if how.members { wide + MEMBER + 2 } else { wide };
    let (small, gap, terminal) = match how.layout {
        Layout::Tabs => (false, "\t", None),
        Layout::Terminal(width) if width < wide => (true, " ", Some(width)),
        Layout::Terminal(width) => (false, "  ", Some(width)),
    };
    let mut used = 0;
    for column in columns.iter().filter(|c| how.members || !c.member) {
        let Some(padded) = (if small { column.narrow } else { Some(column.wide) }) else { continue };
        if used > 0 {
            out.push_str(gap);
            used += gap.len();
        }
        let last = padded == 0;
        let room = terminal.filter(|_| last).map_or(usize::MAX, |terminal| terminal.saturating_sub(used));
        let start = out.len();
        match of {
            Some(of) => {
                (column.write)(out, of, &Cell { names: how.names, identity: how.identity, small, room });
            }
            None => out.push_str(column.name),
        }
        let written = width(&out[start..]);
        used += written;
        if terminal.is_some() && !last {
            let blanks = padded.saturating_sub(written);
            out.extend(std::iter::repeat_n(' ', blanks));
            used += blanks;
        }
    }
    out.push('\n');
}

/// What a trace prints a line for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    Changes,
    Lives,
    Faults,
}

/// The names of the columns.
pub fn write_header(out: &mut String, of: Lines, layout: Layout, members: bool) {
    let how = &Line { names: &crate::model::column::NoNames, layout, identity: None, members };
    match of {
        Lines::Changes => line(out, &CHANGE, CHANGE_WIDE, None, how),
        Lines::Lives => line(out, &LIFE, LIFE_WIDE, None, how),
        Lines::Faults => line(out, &FAULT, FAULT_WIDE, None, how),
    }
}

/// One reset or repeated segment as a line.
pub fn write_fault(out: &mut String, fault: &Fault, how: &Line<'_>) {
    line(out, &FAULT, FAULT_WIDE, Some(fault), how);
}

/// One change as a line. A process in brackets held the socket, but did not necessarily ask for the change.
pub fn write_change(out: &mut String, t: &Transition, in_old_ns: Option<u64>, how: &Line<'_>) {
    line(out, &CHANGE, CHANGE_WIDE, Some(&Step { transition: *t, in_old_ns }), how);
}

/// One life as a line.
pub fn write_life(out: &mut String, life: &Life, how: &Line<'_>) {
    line(out, &LIFE, LIFE_WIDE, Some(life), how);
}

/// The time of day, in UTC; to the tenth of a second on a small terminal.
fn clock(out: &mut String, at_us: i64, small: bool) {
    let format = if small { "%H:%M:%S%.1f" } else { "%H:%M:%S%.6f" };
    shown(out, jiff::Timestamp::from_microsecond(at_us).ok().as_ref().map(|at| at.strftime(format)));
}

fn endpoint(out: &mut String, endpoint: Endpoint) {
    write_endpoint(out, endpoint, None);
}

/// A value, `?` where it is not known.
fn shown(out: &mut String, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => drop(write!(out, "{value}")),
        None => out.push('?'),
    }
}

fn number(out: &mut String, n: Option<u64>) {
    out.push_str(n.map(Digits::new).as_ref().map_or("?", Digits::as_str));
}

fn netns(out: &mut String, id: Option<NetnsId>, names: &dyn Names) {
    match id.and_then(|id| names.netns(id)) {
        Some(name) => sanitize::push(out, &name),
        None => shown(out, id),
    }
}

fn local(out: &mut String, actor: Option<&Actor>, cell: &Cell<'_>) {
    match actor {
        Some(actor) => named(out, actor, false, cell.room),
        None => out.push_str("local"),
    }
}

/// A process; its name is shortened where there is not enough room.
fn named(out: &mut String, actor: &Actor, bracketed: bool, room: usize) {
    let pid = Digits::new(actor.pid.into());
    let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
    let fixed = open.len() + "()".len() + pid.as_str().len() + close.len();
    out.push_str(open);
    let start = out.len();
    sanitize::push(out, &actor.comm.text());
    text::cut_end(out, start, room.saturating_sub(fixed).max(SHORTEST_NAME));
    for part in ["(", pid.as_str(), ")", close] {
        out.push_str(part);
    }
}

/// The matrix, the most frequent change first.
pub fn write_matrix(out: &mut String, matrix: &Matrix) {
    for ((old, new), count) in by_count(matrix) {
        let old = old.map_or_else(|| "?".into(), |n| State::from_kernel(n).to_string());
        let _ = writeln!(out, "{count:>10}  {old:<11} -> {}", State::from_kernel(new));
    }
}

fn by_count(matrix: &Matrix) -> Vec<((Option<u8>, u8), u64)> {
    let mut rows: Vec<_> = matrix.iter().map(|(k, n)| (*k, *n)).collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    #[test]
    fn a_line_fits_a_small_terminal_and_a_pipe_has_every_cell() {
        let t = Transition {
            at_us: 1_000_001,
            monotonic_ns: 0,
            netns: NetnsId::new(4_026_531_840),
            cookie: Some(1),
            address: None,
            family: Family::V4,
            local: Endpoint::new("127.0.0.1".parse().unwrap(), 34916),
            peer: Endpoint::new("127.0.0.1".parse().unwrap(), 443),
            old: Some(State::Established),
            new: State::FinWait1,
            by: Some(By::Process(Actor { pid: 4_194_304, comm: "a-long-name\u{1b}".into() })),
            by_call: false,
            traffic: None,
            error: None,
        };
        let line_with = |layout, members| {
            let mut text = String::new();
            let names = &crate::model::column::NoNames;
            let identity = Identity { container: Some("c".repeat(64)), ..Identity::default() };
            let how = Line { names, layout, identity: Some(&identity), members };
            write_change(&mut text, &t, Some(5000), &how);
            assert_eq!(text.pop(), Some('\n'));
            text
        };
        let line = |layout| line_with(layout, false);
        let small = line(Layout::Terminal(80));
        assert_eq!(line_with(Layout::Terminal(80), true), small);
        assert_eq!(small, "00:00:01.0 127.0.0.1:34916 127.0.0.1:443   ESTABLISHED FIN_WAIT1   [a…(4194304)]");
        assert_eq!(small.chars().count(), 80);
        let roomy = line(Layout::Terminal(100));
        assert!(
            roomy.ends_with("(4194304)]") && roomy.contains("[a-long-name") && roomy.chars().count() <= 100,
            "{roomy}"
        );
        let wide = line(Layout::Terminal(200));
        assert!(wide.contains("4026531840") && wide.contains("5us") && wide.starts_with("00:00:01.000001  "), "{wide}");
        assert_eq!(line_with(Layout::Tabs, true).split('\t').count(), CHANGE.len());
        assert_eq!(line_with(Layout::Tabs, true).split('\t').nth(2), Some("cccccccccccc"));
        assert_eq!(line(Layout::Tabs).split('\t').count(), CHANGE.len() - 1);
        for width in [80, 120, 140, 160, 186, 200] {
            for of in [Lines::Changes, Lines::Lives, Lines::Faults] {
                for members in [false, true] {
                    let mut header = String::new();
                    write_header(&mut header, of, Layout::Terminal(width), members);
                    assert!(header.trim_end().chars().count() <= width, "{header}");
                }
            }
        }
    }

    #[test]
    fn the_most_frequent_change_comes_first() {
        let matrix = Matrix::from([((Some(1), 4), 2), ((None, 1), 5), ((Some(1), 8), 2)]);
        let mut text = String::new();
        write_matrix(&mut text, &matrix);
        let lines: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["5 ? -> ESTABLISHED", "2 ESTABLISHED -> FIN_WAIT1", "2 ESTABLISHED -> CLOSE_WAIT"]);
    }
}
