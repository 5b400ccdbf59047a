//! The sockets behind a line, and one of them with everything known of it.
//!
//! Input: the rows of a frame. Output: cells. A port is never cut: it would be another port.

use ratatui::style::{Modifier, Style};

use super::hits::Target;
use super::list::{Headings, window, within};
use super::order::Table;
use super::pen::Pen;
use super::state::App;
use super::theme::Theme;
use crate::model::column::{COLUMNS, Column, Names, Row, Value};
use crate::model::{Endpoint, OwnerStatus, OwnerTable};
use crate::render::watch::{owner_reason, owner_text};
use crate::render::{table, value};
use crate::text::{self, grouped};
use crate::watch::{DEFAULT_SORT, Detail, Frame, Line, Lines};

/// How many lines the list of sockets takes.
pub(super) fn height(frame: &Frame, lines: &Lines) -> u16 {
    let note = u16::from(absent(frame, lines).is_some());
    let left_out = u16::from(lines.total > lines.lines.len() as u64);
    u16::try_from(lines.lines.len().max(1)).unwrap_or(u16::MAX).saturating_add(1 + note + left_out)
}

/// The sockets behind a state, a group or a finding.
pub(super) fn list(app: &App, frame: &Frame, lines: &Lines, names: &dyn Names, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let sort = app.sort();
    let columns = columns(pen.area.width, &lines.lines, sort, names);
    let headings = Headings(Table::Sockets, app.order(Table::Sockets));
    let mut x = 1;
    for (name, w, right) in &columns {
        let text = name.to_ascii_uppercase();
        if *right {
            headings.right(x + w - 2, name, &text, pen);
        } else {
            headings.left(x, name, &text, pen);
        }
        x += w;
    }
    let note = absent(frame, lines);
    let height = pen.area.height.saturating_sub(u16::from(note.is_some()));
    if let Some(note) = note {
        pen.marked(1, height, &note, theme.alert());
    }
    let rows = usize::from(height.saturating_sub(1));
    let (first, shown) = window(lines.lines.len(), app.cursor(), rows);
    for (i, line) in lines.lines.iter().enumerate().skip(first).take(shown) {
        let y = u16::try_from(i - first + 1).unwrap_or(u16::MAX);
        row(
            line,
            y,
            &columns,
            &|column, line| match cell(column, line, frame.interval_ms, theme) {
                Some(known) => known,
                None => (attribute(sort, line, names), Style::new()),
            },
            pen,
        );
        pen.target((0, y), (pen.area.width, 1), Target::Socket(i));
        if i == app.cursor() {
            pen.select(y);
        }
    }
    let below = lines.total - (first + shown) as u64;
    if below > 0 {
        pen.text(1, height - 1, &format!("{} more", grouped(below)), theme.dim());
    } else if lines.lines.is_empty() {
        pen.text(1, 1, "none in this sample", theme.dim());
    }
}

/// One row in these columns.
fn row(
    line: &Line,
    y: u16,
    columns: &[(&'static str, u16, bool)],
    text_of: &dyn Fn(&str, &Line) -> (String, Style),
    pen: &mut Pen<'_>,
) {
    let mut x = 1;
    for (name, w, right) in columns {
        let (text, style) = text_of(name, line);
        let mut part = pen.part(x, y, w - 1, 1);
        if *right {
            let end = part.area.width.saturating_sub(1);
            part.right(end, 0, &text, style);
        } else if let Some(at) = endpoint(name, line) {
            let room = usize::from(part.area.width);
            part.text(0, 0, &within(at, room), style);
        } else {
            part.marked(0, 0, &text, style);
        }
        x += w;
    }
}

/// Other sockets in the usual columns; those that have no room are counted. Returns the next free line.
pub(super) fn others(all: &[Line], total: u64, interval_ms: u64, names: &dyn Names, pen: &mut Pen<'_>) -> u16 {
    let columns = columns(pen.area.width, all, DEFAULT_SORT, names);
    let rows = usize::from(pen.area.height);
    let shown = if total > rows as u64 { rows.saturating_sub(1) } else { all.len() };
    for (line, y) in all.iter().take(shown).zip(0..) {
        let theme = pen.theme;
        row(line, y, &columns, &|column, line| cell(column, line, interval_ms, theme).unwrap_or_default(), pen);
    }
    let end = u16::try_from(shown).unwrap_or(u16::MAX);
    let left = total - shown as u64;
    if left > 0 {
        pen.text(1, end, &format!("{} more", grouped(left)), pen.theme.dim());
    }
    end + u16::from(left > 0)
}

/// How many of the sockets of a finding are not listed, and why.
fn absent(frame: &Frame, lines: &Lines) -> Option<String> {
    let sockets = lines.of_finding?.sockets;
    let n = grouped(sockets.checked_sub(lines.total).filter(|n| *n > 0)?);
    // What does not match may not even have been asked for.
    let why = if frame.filter.is_empty() { "gone" } else { "gone, or not among what the filter selects" };
    Some(format!("{n} of the {} that it is about are {why}", text::count(sockets, "socket", "sockets")))
}

/// The columns that fit, with their widths and whether they are numbers. The one that rows are sorted by is among them.
/// What does not fit costs the queues first, then the age, then the beginning of an address; a port is always whole.
fn columns(width: u16, lines: &[Line], sort: &'static Column, names: &dyn Names) -> Vec<(&'static str, u16, bool)> {
    // The smallest screens show the peer of a socket, and its owner.
    let narrow = width < 60;
    let cells = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    let longest = |text: &dyn Fn(&Line) -> String| lines.iter().map(|l| text(l).chars().count()).max().unwrap_or(0);
    let address = |get: fn(&Line) -> Endpoint| cells(longest(&|l| get(l).to_string())).clamp(6, width) + 1;
    let state = cells(longest(&|l| l.socket.state.to_string())).max(6) + 2;
    // Any other column that rows are sorted by has its own place.
    let other = !SHOWN.contains(&sort.name);
    let extra = if other { cells(longest(&|l| attribute(sort, l, names)).max(sort.name.len())).min(24) + 2 } else { 0 };
    // Room for the name of a process, however long addresses are.
    let owner = if narrow { 8 } else { 14 };
    let free = width.saturating_sub(1 + state + extra + owner);
    let peer = address(|l| l.socket.peer);
    let local = if narrow && sort.name != "local" { 0 } else { address(|l| l.socket.local) };
    let age = sort.name == "age" || !narrow && (local + peer + AGE <= free || width >= 100);
    let queues = width >= 110 && local + peer + AGE + 18 <= free;
    let queue = |name: &str| if queues || sort.name == name { 9 } else { 0 };
    let (received, sent) = (queue("recv-q"), queue("send-q"));
    let room = free.saturating_sub(if age { AGE } else { 0 } + received + sent);
    let peer = peer.min(room - local.min(room / 2));
    let local = local.min(room - peer);
    let all = [
        ("state", state, false),
        (sort.name, extra, sort.kind.is_numeric()),
        ("age", if age { AGE } else { 0 }, true),
        ("recv-q", received, true),
        ("send-q", sent, true),
        ("local", local, false),
        ("peer", peer, false),
        ("process", width, false),
    ];
    all.into_iter().filter(|(_, width, _)| *width > 0).collect()
}

/// The width of the age.
const AGE: u16 = 9;

/// The columns that are shown whatever rows are sorted by.
const SHOWN: [&str; 7] = ["state", "age", "recv-q", "send-q", "local", "peer", "process"];

/// A value that is shown only because rows are sorted by it.
fn attribute(column: &Column, line: &Line, names: &dyn Names) -> String {
    let (owners, status) = (OwnerTable::default(), OwnerStatus::NotCollected);
    table::cell(column, &Row { socket: &line.socket, status, holders: &[], owners: &owners, names })
}

/// The address that a column shows.
fn endpoint(column: &str, line: &Line) -> Option<Endpoint> {
    match column {
        "local" => Some(line.socket.local),
        "peer" => Some(line.socket.peer),
        _ => None,
    }
}

/// What one of the usual columns shows.
fn cell(column: &str, line: &Line, interval_ms: u64, theme: Theme) -> Option<(String, Style)> {
    let s = &line.socket;
    Some(match column {
        "state" => (s.state.to_string(), theme.state(s.state)),
        "age" => (age(line, interval_ms), Style::new()),
        "local" => (s.local.to_string(), Style::new()),
        "peer" => (s.peer.to_string(), Style::new()),
        "process" => {
            let known = line.owner.confidence().is_some_and(|c| c > 0.97);
            (owner_text(&line.owner), if known { Style::new() } else { theme.dim() })
        }
        "recv-q" => (s.recv_q_bytes.to_string(), Style::new()),
        "send-q" => (s.send_q_bytes.map_or_else(|| "?".into(), |n| n.to_string()), Style::new()),
        _ => return None,
    })
}

/// How long it has been in its state. `>`: longer than this, because it was so when first seen, or because the kernel's timers tell
/// no more, and the range has no room.
fn age(line: &Line, interval_ms: u64) -> String {
    let age = line.age();
    if line.is_aged_by_sight() {
        return format!(">{}", text::compact_ms(age.min_ms));
    }
    if age.is_exact() && age.min_ms == 0 {
        return format!("<{}", text::compact_ms(interval_ms));
    }
    let mut text = String::new();
    value::write_age(&mut text, age);
    if text.chars().count() < usize::from(AGE) { text } else { format!(">{}", text::compact_ms(age.min_ms)) }
}

/// Fewer cells say nothing of what a value means.
const WORDS: u16 = 30;
/// Where the values begin that have a line each.
const VALUES: u16 = 15;

/// One socket with everything known of it; returns how far it can be scrolled.
pub(super) fn detail(app: &App, names: &dyn Names, pen: &mut Pen<'_>) -> usize {
    let theme = pen.theme;
    let Some(line) = &app.detail else { return 0 };
    // Until the next sample the rows are those of the list.
    let lines = app.frame().and_then(|f| f.lines.as_ref()).filter(|l| l.only);
    let now = lines.and_then(|l| l.lines.first());
    let shown = now.unwrap_or(line);
    let s = &shown.socket;
    let mut x = pen.text(1, 0, &s.state.to_string(), theme.state(s.state).add_modifier(Modifier::BOLD));
    if now.is_none() && lines.is_some() {
        x = pen.text(x, 0, "  gone", theme.alert());
    }
    let ends = format!("{} > {}", s.local, s.peer);
    let on_one_line = usize::from(pen.area.width.saturating_sub(x + 2)) >= ends.len();
    // These may be long: a line each, before the columns.
    let mut first = Vec::new();
    if on_one_line {
        pen.text(x + 2, 0, &ends, theme.heading());
    } else {
        let room = usize::from(pen.area.width.saturating_sub(VALUES));
        first.extend([("local", within(s.local, room)), ("peer", within(s.peer, room))]);
    }
    first.push(("whose", owner_text(&shown.owner)));
    if let Some(confidence) = shown.owner.confidence() {
        first.push(("certainty", format!("{confidence:.2}, {}", owner_reason(&shown.owner))));
    }
    let interval_ms = app.frame().map_or(0, |f| f.interval_ms);
    let seen = format!("{}; first seen {} ago", age(shown, interval_ms), text::compact_ms(shown.known_ms));
    first.push(("in this state", seen));
    let mut top = if on_one_line { 2 } else { 1 };
    for (name, value) in &first {
        pen.text(1, top, name, theme.dim());
        pen.marked(VALUES, top, value, Style::new());
        top += 1;
    }
    let known = lines.and_then(|l| l.detail.as_ref()).map(|detail| attributes(detail, names)).unwrap_or_default();
    if known.is_empty() {
        return 0;
    }
    let height = usize::from(pen.area.height.saturating_sub(top)).max(1);
    // A name is never overwritten by its value.
    let longest = known.iter().map(|(column, _)| column.name.len()).max().unwrap_or(0);
    let label = u16::try_from(longest).unwrap_or(u16::MAX).clamp(15, 40) + 3;
    // Where there is room, each line says what it means; the longest meanings are cut.
    let meaning = label + 22;
    let needed = u16::try_from(known.len().div_ceil(height)).unwrap_or(u16::MAX).max(1);
    let words = known.iter().map(|(column, _)| column.help.len()).max().unwrap_or(0);
    let in_words = meaning + u16::try_from(words).unwrap_or(u16::MAX).min(100) + 1;
    let share = (pen.area.width / needed).min(in_words);
    let with_words = share >= meaning + WORDS;
    let per_column = if with_words { share } else { meaning };
    let columns = usize::from((pen.area.width / per_column).max(1));
    let rows = known.len().div_ceil(columns).max(height.min(known.len()));
    let end = rows.saturating_sub(height);
    let scroll = app.detail_scroll.min(end);
    for (i, (told, value)) in known.iter().enumerate() {
        let (column, row) = (i / rows, i % rows);
        let Some(y) = row.checked_sub(scroll).filter(|y| *y < height) else { continue };
        let (x, y) = (u16::try_from(column).unwrap_or(0) * per_column, u16::try_from(y).unwrap_or(0) + top);
        let last = column == (known.len() - 1) / rows;
        let width = if last { pen.area.width.saturating_sub(x) } else { per_column };
        let mut cell = pen.part(x, y, width, 1);
        cell.text(1, 0, told.name, theme.dim());
        let after = cell.marked(label, 0, value, Style::new());
        if with_words && after < meaning {
            cell.marked(meaning, 0, told.help, theme.dim());
        }
    }
    end
}

/// Every column that says something about a socket, with its value.
fn attributes(detail: &Detail, names: &dyn Names) -> Vec<(&'static Column, String)> {
    // These are in the head of the view, where the owner of a TIME_WAIT is named too.
    const ABOVE: [&str; 12] = [
        "state",
        "local",
        "peer",
        "process",
        "owner-status",
        "local-addr",
        "local-port",
        "peer-addr",
        "peer-port",
        "pid",
        "comm",
        "fd",
    ];
    let row = Row::new(&detail.socket, &detail.owners, names);
    let says = |column: &&Column| {
        !ABOVE.contains(&column.name) && !matches!((column.get)(&row), Value::Unknown | Value::Absent)
    };
    COLUMNS.iter().filter(says).map(|column| (column, table::cell(column, &row))).collect()
}
