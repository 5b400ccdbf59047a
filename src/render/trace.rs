//! Lines of `trace`: changes of state, lives, the matrix of a summary.
//!
//! Comes in: transitions and lives. Goes out: a line of text or of JSON for each. Never here: deciding which are shown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;

use serde_json::{Map, Value as Json, json};

use crate::aggregate::lives::{Closer, End, Life, Opener};
use crate::model::column::Names;
use crate::model::transition::{Actor, By, Transition};
use crate::model::{Endpoint, Family, NetnsId, State};
use crate::render::json::object::{Object, key};
use crate::render::sanitize;

/// How often each change was seen.
pub type Matrix = BTreeMap<(Option<u8>, u8), u64>;

/// A column on a terminal.
struct Column {
    name: &'static str,
    /// Its width where there is room for everything; the last one ends the line.
    wide: usize,
    /// Its width on a small terminal; `None`: left out there.
    narrow: Option<usize>,
}

const fn column(name: &'static str, wide: usize, narrow: Option<usize>) -> Column {
    Column { name, wide, narrow }
}

const CHANGE: [Column; 8] = [
    column("TIME", 15, Some(10)),
    column("NETNS", 10, None),
    column("LOCAL", 21, Some(15)),
    column("PEER", 21, Some(15)),
    column("OLD", 11, Some(11)),
    column("NEW", 11, Some(11)),
    column("IN-OLD", 8, None),
    column("PROCESS", 0, Some(0)),
];
const LIFE: [Column; 11] = [
    column("TIME", 15, Some(10)),
    column("NETNS", 10, None),
    column("LOCAL", 21, Some(15)),
    column("PEER", 21, Some(15)),
    column("DURATION", 8, Some(8)),
    column("ENDED", 11, Some(11)),
    column("OPENED", 14, None),
    column("CLOSED-FIRST", 14, Some(0)),
    column("SENT", 8, None),
    column("RECEIVED", 8, None),
    column("STATES", 0, None),
];
/// Terminals with fewer columns are small: for changes, and for lives.
const CHANGE_WIDE: usize = 120;
const LIFE_WIDE: usize = 160;
/// What is left of the name of a process at least.
const SHORTEST_NAME: usize = 2;

/// How lines are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Not for a terminal: all cells, one tab between them.
    Tabs,
    /// A terminal with so many columns.
    Terminal(usize),
}

/// A cell: text, or a process whose name can be shortened.
enum Cell {
    Text(String),
    Process { open: &'static str, comm: String, pid: String, close: &'static str },
}

impl Cell {
    /// Its text, in so much room if the name of a process can give way.
    fn within(&self, room: usize) -> String {
        let (open, comm, pid, close) = match self {
            Cell::Text(text) => return text.clone(),
            Cell::Process { open, comm, pid, close } => (open, comm, pid, close),
        };
        let room = room.saturating_sub(open.len() + pid.len() + close.len()).max(SHORTEST_NAME);
        if comm.chars().count() <= room {
            format!("{open}{comm}{pid}{close}")
        } else {
            let cut: String = comm.chars().take(room - 1).collect();
            format!("{open}{cut}…{pid}{close}")
        }
    }
}

/// Cells as a line.
fn cells<const N: usize>(out: &mut String, columns: &[Column; N], wide: usize, values: &[Cell; N], layout: Layout) {
    let (small, gap, terminal) = match layout {
        Layout::Tabs => (false, "\t", None),
        Layout::Terminal(width) if width < wide => (true, " ", Some(width)),
        Layout::Terminal(width) => (false, "  ", Some(width)),
    };
    let mut used = 0;
    for (value, column) in values.iter().zip(columns) {
        let Some(width) = (if small { column.narrow } else { Some(column.wide) }) else { continue };
        if used > 0 {
            out.push_str(gap);
            used += gap.len();
        }
        let ends = width == 0;
        let room = match terminal {
            Some(terminal) if ends => terminal.saturating_sub(used),
            _ => usize::MAX,
        };
        let text = value.within(room);
        out.push_str(&text);
        used += text.chars().count();
        if terminal.is_some() && !ends {
            for _ in text.chars().count()..width {
                out.push(' ');
                used += 1;
            }
        }
    }
    out.push('\n');
}

/// The names of the columns.
pub fn write_header(out: &mut String, lives: bool, layout: Layout) {
    let name = |column: Column| Cell::Text(column.name.into());
    if lives {
        cells(out, &LIFE, LIFE_WIDE, &LIFE.map(name), layout);
    } else {
        cells(out, &CHANGE, CHANGE_WIDE, &CHANGE.map(name), layout);
    }
}

/// The time of day, in UTC; to the tenth of a second on a small terminal.
fn clock(at_us: i64, small: bool) -> Cell {
    let format = if small { "%H:%M:%S%.1f" } else { "%H:%M:%S%.6f" };
    let at = jiff::Timestamp::from_microsecond(at_us).map(|t| t.strftime(format).to_string());
    Cell::Text(at.unwrap_or_else(|_| "?".into()))
}

fn is_small(layout: Layout, wide: usize) -> bool {
    matches!(layout, Layout::Terminal(width) if width < wide)
}

/// A duration of nanoseconds in three or four digits: `12us`, `3.4ms`, `2.10s`, `125s`.
#[must_use]
pub fn span(ns: u64) -> String {
    let us = ns / 1000;
    match us {
        0..1_000 => format!("{us}us"),
        1_000..100_000 => format!("{}.{}ms", us / 1000, us / 100 % 10),
        100_000..1_000_000 => format!("{}ms", us / 1000),
        1_000_000..100_000_000 => format!("{}.{:02}s", us / 1_000_000, us / 10_000 % 100),
        _ => format!("{}s", us / 1_000_000),
    }
}

fn named(actor: &Actor, bracketed: bool) -> Cell {
    let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
    Cell::Process { open, comm: sanitize::clean(&actor.comm.text()), pid: format!("({})", actor.pid), close }
}

fn word(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn or_unknown(text: Option<impl Into<String>>) -> Cell {
    text.map_or_else(|| word("?"), word)
}

fn netns(id: Option<NetnsId>, names: &dyn Names) -> Cell {
    let name = |id| names.netns(id).map(|name| sanitize::clean(&name));
    or_unknown(id.map(|id| name(id).unwrap_or_else(|| id.to_string())))
}

/// One change as a line. A process in brackets held the socket, and did not necessarily want the change.
pub fn write_change(out: &mut String, t: &Transition, in_old_ns: Option<u64>, names: &dyn Names, layout: Layout) {
    let process = match &t.by {
        None | Some(By::UnknownProcess) => word("?"),
        Some(By::Network) => word("-"),
        Some(By::Process(actor) | By::KernelThread(actor)) => named(actor, !t.by_call),
    };
    let values = [
        clock(t.at_us, is_small(layout, CHANGE_WIDE)),
        netns(t.netns, names),
        word(t.local.to_string()),
        word(t.peer.to_string()),
        or_unknown(t.old.map(|s| s.to_string())),
        word(t.new.to_string()),
        or_unknown(in_old_ns.map(span)),
        process,
    ];
    cells(out, &CHANGE, CHANGE_WIDE, &values, layout);
}

/// One life as a line.
pub fn write_life(out: &mut String, life: &Life, names: &dyn Names, layout: Layout) {
    let or_local = |actor: &Option<Actor>| actor.as_ref().map_or_else(|| word("local"), |actor| named(actor, false));
    let opened = match &life.opened {
        Some(Opener::Local(actor)) => or_local(actor),
        Some(Opener::Peer) => word("peer"),
        None => word("?"),
    };
    let closed = match (&life.closed_first, life.ended) {
        (Some(Closer::Local(actor)), _) => or_local(actor),
        (Some(Closer::Peer), _) => word("peer"),
        (Some(Closer::Abort), _) => word("abort"),
        (None, Some(End::Failed)) => word("-"),
        (None, _) => word("?"),
    };
    let mut states = String::new();
    for (state, ns) in &life.states {
        let blank = if states.is_empty() { "" } else { " " };
        // Writing into a String cannot fail.
        let _ = write!(states, "{blank}{state} {}", span(*ns));
    }
    if !life.complete {
        states.push_str(if states.is_empty() { "(incomplete)" } else { " (incomplete)" });
    }
    let mark = if life.inferred { "*" } else { "" };
    let values = [
        clock(life.at_us, is_small(layout, LIFE_WIDE)),
        netns(life.netns, names),
        word(life.local.to_string()),
        word(life.peer.to_string()),
        or_unknown(life.duration_ns.map(span)),
        or_unknown(life.ended.map(|end| format!("{}{mark}", end.key()))),
        opened,
        closed,
        or_unknown(life.traffic.map(|t| t.sent_bytes.to_string())),
        or_unknown(life.traffic.and_then(|t| t.received_bytes).map(|n| n.to_string())),
        word(states),
    ];
    cells(out, &LIFE, LIFE_WIDE, &values, layout);
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

fn state(state: State) -> Json {
    match state {
        State::Unknown(_) => json!(state.to_string()),
        known => json!(known.key()),
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// Appends one change as a JSON line.
///
/// # Errors
/// Never: a buffer takes everything.
pub fn write_change_json(out: &mut Vec<u8>, t: &Transition, in_old_ns: Option<u64>) -> io::Result<()> {
    let mut o = Object::begin(out);
    o.word(key!("type"), "transition")?;
    connection(&mut o, t.at_us, t.netns, t.family, t.cookie, (t.local, t.peer))?;
    match t.old {
        Some(old) => o.state(key!("old"), old)?,
        None => o.null(key!("old"))?,
    }
    o.state(key!("new"), t.new)?;
    o.value(key!("in_old_us"), &in_old_ns.map(|ns| ns / 1000))?;
    word_or_null(&mut o, key!("by"), t.by.as_ref().map(By::key))?;
    o.value(key!("by_call"), &t.by_call)?;
    actor(&mut o, key!("process"), t.by.as_ref().and_then(By::actor))?;
    o.end();
    out.push(b'\n');
    Ok(())
}

/// Appends one life as a JSON line.
///
/// # Errors
/// Never: a buffer takes everything.
pub fn write_life_json(out: &mut Vec<u8>, life: &Life) -> io::Result<()> {
    let (opened, opener) = match &life.opened {
        None => (None, None),
        Some(Opener::Local(actor)) => (Some("local"), actor.as_ref()),
        Some(Opener::Peer) => (Some("peer"), None),
    };
    let (closed, closer) = match &life.closed_first {
        None => (None, None),
        Some(Closer::Local(actor)) => (Some("local"), actor.as_ref()),
        Some(Closer::Peer) => (Some("peer"), None),
        Some(Closer::Abort) => (Some("abort"), None),
    };
    let mut o = Object::begin(out);
    o.word(key!("type"), "life")?;
    connection(&mut o, life.at_us, life.netns, life.family, life.cookie, (life.local, life.peer))?;
    word_or_null(&mut o, key!("opened_by"), opened)?;
    actor(&mut o, key!("opener"), opener)?;
    word_or_null(&mut o, key!("closed_first"), closed)?;
    actor(&mut o, key!("closer"), closer)?;
    word_or_null(&mut o, key!("ended"), life.ended.map(End::key))?;
    o.value(key!("inferred"), &life.inferred)?;
    o.value(key!("duration_us"), &life.duration_ns.map(|ns| ns / 1000))?;
    o.value(key!("sent_bytes"), &life.traffic.map(|t| t.sent_bytes))?;
    o.value(key!("received_bytes"), &life.traffic.and_then(|t| t.received_bytes))?;
    let states = o.key(key!("states"));
    states.push(b'[');
    for (i, (state, ns)) in life.states.iter().enumerate() {
        if i > 0 {
            states.push(b',');
        }
        let mut step = Object::begin(states);
        step.state(key!("state"), *state)?;
        step.value(key!("duration_us"), &(ns / 1000))?;
        step.end();
    }
    states.push(b']');
    o.value(key!("complete"), &life.complete)?;
    o.end();
    out.push(b'\n');
    Ok(())
}

/// Whose connection.
fn connection(
    o: &mut Object<'_>,
    at_us: i64,
    netns: Option<NetnsId>,
    family: Family,
    cookie: Option<u64>,
    (local, peer): (Endpoint, Endpoint),
) -> io::Result<()> {
    match jiff::Timestamp::from_microsecond(at_us) {
        Ok(at) => io::Write::write_fmt(o.key(key!("at")), format_args!("\"{at}\""))?,
        Err(_) => o.null(key!("at"))?,
    }
    o.value(key!("netns"), &netns.map(NetnsId::get))?;
    o.word(key!("family"), family.key())?;
    o.hex(key!("cookie"), cookie)?;
    o.endpoint(key!("local"), local)?;
    o.endpoint(key!("peer"), peer)
}

fn word_or_null(o: &mut Object<'_>, key: &'static str, word: Option<&'static str>) -> io::Result<()> {
    match word {
        Some(word) => o.word(key, word),
        None => o.null(key),
    }
}

fn actor(o: &mut Object<'_>, key: &'static str, actor: Option<&Actor>) -> io::Result<()> {
    let Some(actor) = actor else {
        return o.null(key);
    };
    let mut inner = Object::begin(o.key(key));
    inner.value(key!("pid"), &actor.pid)?;
    inner.value(key!("comm"), &*actor.comm.text())?;
    inner.end();
    Ok(())
}

/// The matrix as the fields of a JSON line.
#[must_use]
pub fn matrix_json(matrix: &Matrix, duration_ms: u64) -> Map<String, Json> {
    let rows: Vec<Json> = by_count(matrix)
        .into_iter()
        .map(|((old, new), count)| {
            let old = old.map(|n| state(State::from_kernel(n)));
            json!({ "old": old, "new": state(State::from_kernel(new)), "count": count })
        })
        .collect();
    object(json!({ "duration_ms": duration_ms, "transitions": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_three_digits() {
        let shown = [0, 999_999, 3_450_000, 99_999_000, 123_000_000, 2_100_000_000, 125_000_000_000].map(span);
        assert_eq!(shown, ["0us", "999us", "3.4ms", "99.9ms", "123ms", "2.10s", "125s"]);
    }

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
        };
        let line = |layout| {
            let mut text = String::new();
            write_change(&mut text, &t, Some(5000), &crate::model::column::NoNames, layout);
            assert_eq!(text.pop(), Some('\n'));
            text
        };
        let small = line(Layout::Terminal(80));
        assert_eq!(small, "00:00:01.0 127.0.0.1:34916 127.0.0.1:443   ESTABLISHED FIN_WAIT1   [a…(4194304)]");
        assert_eq!(small.chars().count(), 80);
        let roomy = line(Layout::Terminal(100));
        assert!(
            roomy.ends_with("(4194304)]") && roomy.contains("[a-long-name") && roomy.chars().count() <= 100,
            "{roomy}"
        );
        let wide = line(Layout::Terminal(200));
        assert!(wide.contains("4026531840") && wide.contains("5us") && wide.starts_with("00:00:01.000001  "), "{wide}");
        assert_eq!(line(Layout::Tabs).split('\t').count(), CHANGE.len());
        for width in [80, 120, 160, 200] {
            for lives in [false, true] {
                let mut header = String::new();
                write_header(&mut header, lives, Layout::Terminal(width));
                assert!(header.trim_end().chars().count() <= width, "{header}");
            }
        }
    }

    #[test]
    fn json_lines_take_any_name_and_tell_unknown_from_zero() {
        let comm = "a\"b\\\u{1b}[31m".to_owned();
        let unknown = Transition {
            at_us: 0,
            monotonic_ns: 0,
            netns: None,
            cookie: None,
            address: Some(1),
            family: Family::V6,
            local: Endpoint::new("::1".parse().unwrap(), 0),
            peer: Endpoint::new("::1".parse().unwrap(), 80),
            old: None,
            new: State::Unknown(14),
            by: None,
            by_call: false,
            traffic: None,
        };
        let parse = |t: &Transition| -> Json {
            let mut out = Vec::new();
            write_change_json(&mut out, t, None).unwrap();
            assert_eq!(out.pop(), Some(b'\n'));
            serde_json::from_slice(&out).unwrap()
        };
        let json = parse(&unknown);
        assert_eq!(
            (&json["at"], &json["new"]),
            (&json!("1970-01-01T00:00:00Z"), &json!(State::Unknown(14).to_string()))
        );
        for key in ["netns", "cookie", "old", "in_old_us", "by", "process"] {
            assert!(json[key].is_null() && json.get(key).is_some(), "{key}: {json}");
        }
        let known = Transition {
            by: Some(By::Process(Actor { pid: 7, comm: comm.as_str().into() })),
            cookie: Some(31),
            ..unknown
        };
        let json = parse(&known);
        assert_eq!((&json["process"], &json["by"]), (&json!({ "pid": 7, "comm": comm }), &json!("process")));
        assert_eq!((&json["cookie"], json["local"]["port"].as_u64()), (&json!("0x1f"), Some(0)));
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
