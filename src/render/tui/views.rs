//! The views: states, machine, groups, findings, the sockets behind them, one socket, help.
//!
//! Input: the state of the screen and the frame on it. Output: cells.

use std::fmt::Write;

use ratatui::style::{Modifier, Style};

use super::chart::{self, Chart};
use super::history::{SAMPLES, Series};
use super::machine as picture;
use super::pen::Pen;
use super::state::App;
use crate::aggregate::Counts;
use crate::model::column::{COLUMNS, Column, Names, Row, Value};
use crate::model::{Endpoint, State};
use crate::render::style::Style as Plain;
use crate::render::value;
use crate::render::watch::plain;
use crate::render::watch::{clock, owner_reason, owner_text};
use crate::render::{gap, report, table};
use crate::text::{self, grouped};
use crate::watch::{Detail, Frame, GroupId, Line};

/// The state machine with counts and rates.
pub(super) fn machine(app: &App, frame: &Frame, pen: &mut Pen<'_>) {
    if pen.area.width < picture::WIDTH || pen.area.height < picture::HEIGHT {
        let text = "the picture needs 80 columns and 24 lines; the same counts are under 1";
        paragraph(pen, 1, 1, text, pen.theme.dim());
        return;
    }
    picture::draw(frame, app.states().get(app.cursor()).copied(), pen);
}

/// The largest groups.
pub(super) fn groups(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let Some(groups) = &frame.groups else {
        pen.text(1, 1, "no groups: owners are not searched", theme.dim());
        return;
    };
    if groups.rows.is_empty() {
        pen.text(1, 1, &format!("no socket has a {}", groups.by.name()), theme.dim());
        return;
    }
    let (width, height) = (pen.area.width, pen.area.height);
    // The chart gets a third of a large screen, and what the list leaves free.
    let lines = u16::try_from(groups.rows.len() + 2).unwrap_or(u16::MAX);
    let chart = if width >= 60 && height >= 24 { height.saturating_sub(lines).max(height / 3) } else { 0 };
    if let Some(series) = app.series().filter(|_| chart > 0) {
        history(app, frame, &series, names, &mut pen.part(1, 0, width - 2, chart));
    }
    group_table(app, frame, names, &mut pen.part(0, chart, width, height - chart), Some(app.cursor()));
}

/// The chart of a state, a group or a rate.
pub(super) fn history(app: &App, frame: &Frame, series: &Series, names: &dyn Names, pen: &mut Pen<'_>) {
    let values = app.history.curve(series, frame.seq, SAMPLES);
    let mut note = String::new();
    let (title, style) = match series {
        Series::State(state) => {
            if let Some(stay) = frame.times_in_state.iter().find(|s| s.state == *state) {
                note = format!("half of those that left stayed <{}", text::compact_ms(stay.median_ms.1));
            }
            (state.name().to_owned(), pen.theme.state(*state))
        }
        Series::Group(id) => (App::label(id, names), pen.theme.curve()),
        Series::Rate(rate) => (rate.name().to_owned(), pen.theme.curve()),
    };
    chart::draw(&Chart { title: &title, note: &note, values: &values, style, findings: &frame.findings }, pen);
}

/// The groups of a frame over the whole area, with the curve of each where there is room.
pub(super) fn group_table(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>, cursor: Option<usize>) {
    let Some(groups) = &frame.groups else { return };
    let theme = pen.theme;
    let rows = usize::from(pen.area.height.saturating_sub(1));
    let top = 0;
    let mut sum = groups.rest.as_ref().map_or_else(Counts::default, |(_, c)| *c);
    for group in &groups.rows {
        sum.merge(&group.counts);
    }
    let width = pen.area.width;
    let label_width = (width / 2).clamp(20, 44);
    let mut columns: Vec<State> = State::ALL.into_iter().filter(|s| sum.get(*s) > 0).collect();
    columns.sort_by_key(|s| std::cmp::Reverse(sum.get(*s)));
    let cell = |s: &State| u16::try_from(short(*s).len().max(grouped(sum.get(*s)).len()) + 2).unwrap_or(12);
    let mut used = label_width + 9;
    columns.retain(|s| {
        used += cell(s);
        used <= width
    });
    columns.sort_by_key(|s| s.index());
    let title = format!("BY {}", groups.by.name().to_ascii_uppercase());
    pen.text(1, top, &title, theme.heading());
    let total_end = label_width + 8;
    pen.right(total_end, top, "TOTAL", theme.heading());
    let mut end = total_end;
    for state in &columns {
        end += cell(state);
        pen.right(end, top, short(*state), theme.heading());
    }
    if width >= end + 24 {
        pen.text(end + 2, top, "HISTORY", theme.heading());
    }
    // The selected group stays visible.
    let (first, shown) = window(groups.rows.len(), cursor.unwrap_or(0), rows);
    let mut y = top + 1;
    for (i, group) in groups.rows.iter().enumerate().skip(first).take(shown) {
        let room = usize::from(label_width - 1);
        match &group.id {
            GroupId::Endpoint(at, None) => pen.text(1, y, &within(*at, room), Style::new()),
            id => pen.part(1, y, label_width - 1, 1).marked(0, 0, &App::label(id, names), Style::new()),
        };
        pen.right(total_end, y, &grouped(group.counts.total()), Style::new());
        let mut end = total_end;
        for state in &columns {
            end += cell(state);
            let n = group.counts.get(*state);
            pen.right(end, y, &grouped(n), if n == 0 { theme.dim() } else { theme.state(*state) });
        }
        if width >= end + 24 {
            let values = app.history.curve(&Series::Group(group.id.clone()), frame.seq, SAMPLES);
            chart::line(&values, end + 2, y, theme.curve(), pen);
        }
        if cursor == Some(i) {
            pen.select(y);
        }
        y += 1;
    }
    let below = groups.rows.len() - first - shown;
    let rest = groups.rest.as_ref().map_or(0, |(n, _)| *n) + below;
    if rest > 0 && y < pen.area.height {
        pen.text(1, y, &format!("{rest} more"), theme.dim());
    }
}

/// Where a list that is longer than its room begins, and how much of it is visible.
fn window(len: usize, cursor: usize, rows: usize) -> (usize, usize) {
    if len <= rows {
        return (0, len);
    }
    // One line is for the note with the number of the others.
    let rows = rows.saturating_sub(1).max(1);
    let first = (cursor + 1).saturating_sub(rows).min(len - rows);
    (first, rows)
}

const fn short(state: State) -> &'static str {
    match state {
        State::Established => "ESTAB",
        State::BoundInactive => "BOUND",
        other => other.name(),
    }
}

/// What the doctor found, and the selected finding in full.
pub(super) fn findings(app: &App, frame: &Frame, pen: &mut Pen<'_>) {
    let y = finding_list(frame, pen, 0, Some(app.cursor()));
    let Some(sighting) = frame.findings.get(app.cursor()) else { return };
    let mut text = String::new();
    let room = usize::from(pen.area.width.saturating_sub(1));
    report::write_finding(&mut text, &sighting.finding, Plain { color: false, width: Some(room) });
    for (line, y) in text.lines().zip(y + 1..pen.area.height) {
        let heading = line.starts_with(|c: char| c.is_ascii_uppercase());
        let style = if heading { pen.theme.severity(sighting.finding.severity) } else { Style::new() };
        pen.text(1, y, line, style);
    }
}

pub(super) fn finding_list(frame: &Frame, pen: &mut Pen<'_>, top: u16, cursor: Option<usize>) -> u16 {
    let theme = pen.theme;
    pen.text(1, top, "FINDINGS", theme.heading());
    let judged = match frame.judged_at_ms {
        None => "not run yet".to_owned(),
        Some(at) => format!("as of {}", clock(at)),
    };
    pen.text(11, top, &judged, theme.dim());
    if frame.findings.is_empty() {
        if frame.judged_at_ms.is_some() {
            pen.text(1, top + 1, "nothing wrong found", theme.dim());
        }
        return top + 2;
    }
    let rows = if cursor.is_some() { usize::from(pen.area.height / 3).max(3) } else { usize::from(pen.area.height) };
    let (first, shown) = window(frame.findings.len(), cursor.unwrap_or(0), rows);
    let mut y = top + 1;
    for (i, sighting) in frame.findings.iter().enumerate().skip(first).take(shown) {
        let gone = sighting.is_gone();
        let word = if gone { "gone" } else { sighting.finding.severity.key() };
        let style = if gone { theme.dim() } else { theme.severity(sighting.finding.severity) };
        pen.text(1, y, word, style);
        // How long it lasts, or has been gone.
        let since = frame.taken_at_ms.saturating_sub(sighting.gone_ms.unwrap_or(sighting.first_ms));
        pen.right(17, y, &text::compact_ms(since).to_string(), theme.dim());
        pen.marked(19, y, &sighting.finding.summary, if gone { theme.dim() } else { Style::new() });
        if cursor == Some(i) {
            pen.select(y);
        }
        y += 1;
    }
    y
}

/// The sockets behind a state, a group or a finding.
pub(super) fn sockets(app: &App, frame: &Frame, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let Some(lines) = &frame.lines else {
        let why = if app.is_held() { "rows are kept for the newest samples only" } else { "the rows are on their way" };
        pen.text(1, 1, why, theme.dim());
        return;
    };
    let width = pen.area.width;
    let columns = socket_columns(width, &lines.lines);
    let mut x = 1;
    for (name, w, right) in &columns {
        let mark = match (*name == app.sort.name, app.descending) {
            (true, false) => "▲",
            (true, true) => "▼",
            _ => "",
        };
        let name = format!("{}{mark}", name.to_ascii_uppercase());
        if *right {
            pen.right(x + w - 2, 0, &name, theme.heading());
        } else {
            pen.text(x, 0, &name, theme.heading());
        }
        x += w;
    }
    let rows = usize::from(pen.area.height.saturating_sub(1));
    let (first, shown) = window(lines.lines.len(), app.drill_cursor, rows);
    for (i, line) in lines.lines.iter().enumerate().skip(first).take(shown) {
        let y = u16::try_from(i - first + 1).unwrap_or(u16::MAX);
        let mut x = 1;
        for (name, w, right) in &columns {
            let (text, style) = socket_cell(name, line, frame.interval_ms, theme);
            let mut cell = pen.part(x, y, w - 1, 1);
            if *right {
                let end = cell.area.width.saturating_sub(1);
                cell.right(end, 0, &text, style);
            } else if let Some(at) = endpoint(name, line) {
                let room = usize::from(cell.area.width);
                cell.text(0, 0, &within(at, room), style);
            } else {
                cell.foreign(0, 0, &text, style);
            }
            x += w;
        }
        if i == app.drill_cursor {
            pen.select(y);
        }
    }
    let below = lines.total - (first + shown) as u64;
    if below > 0 {
        pen.text(1, pen.area.height - 1, &format!("{} more", grouped(below)), theme.dim());
    } else if lines.lines.is_empty() {
        pen.text(1, 1, "none in this sample", theme.dim());
    }
}

/// The columns that fit, with their widths and whether they are numbers. What does not fit costs the queues first, then
/// the age, then the beginning of an address; a port is always whole.
fn socket_columns(width: u16, lines: &[Line]) -> Vec<(&'static str, u16, bool)> {
    // The smallest screens show the peer of a socket, and its owner.
    let narrow = width < 60;
    let longest = |get: fn(&Line) -> Endpoint| lines.iter().map(|l| get(l).to_string().len()).max().unwrap_or(0);
    let need = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).clamp(6, width) + 1;
    let peer = need(longest(|l| l.socket.peer));
    let local = if narrow { 0 } else { need(longest(|l| l.socket.local)) };
    let state = 15;
    // Room for the name of a process, however long addresses are.
    let owner = if narrow { 8 } else { 14 };
    let free = width.saturating_sub(1 + state + owner);
    let age = !narrow && (local + peer + 9 <= free || width >= 100);
    let queues = width >= 110 && local + peer + 9 + 18 <= free;
    let room = free - if age { 9 } else { 0 } - if queues { 18 } else { 0 };
    let peer = peer.min(room - local.min(room / 2));
    let local = local.min(room - peer);
    let mut columns = vec![("state", state, false)];
    if age {
        columns.push(("age", 9, true));
    }
    if queues {
        columns.extend([("recv-q", 9, true), ("send-q", 9, true)]);
    }
    if !narrow {
        columns.push(("local", local, false));
    }
    columns.extend([("peer", peer, false), ("process", width, false)]);
    columns
}

/// The address that a column shows.
fn endpoint(column: &str, line: &Line) -> Option<Endpoint> {
    match column {
        "local" => Some(line.socket.local),
        "peer" => Some(line.socket.peer),
        _ => None,
    }
}

/// An address in this many cells. One that is too long loses the end of the address, marked by an ellipsis, and
/// never a digit of its port: that would be another port.
fn within(at: Endpoint, room: usize) -> String {
    let text = at.to_string();
    if text.len() <= room {
        return text;
    }
    let (address, port) = text.split_at(text.rfind(':').unwrap_or(text.len()));
    let kept = room.saturating_sub(port.len() + 1);
    format!("{}…{port}", &address[..kept.min(address.len())])
}

fn socket_cell(column: &str, line: &Line, interval_ms: u64, theme: super::Theme) -> (String, Style) {
    let s = &line.socket;
    match column {
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
        _ => (String::new(), Style::new()),
    }
}

/// How long it has been in its state. `+`: at least this long, because its entry into the state was not seen.
fn age(line: &Line, interval_ms: u64) -> String {
    let age = line.age();
    if age.is_exact() && age.min_ms == 0 {
        return format!("<{}", text::compact_ms(interval_ms));
    }
    let mut text = String::new();
    value::write_age(&mut text, age);
    text
}

/// One socket with everything known of it.
pub(super) fn detail(app: &App, names: &dyn Names, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let Some(line) = &app.detail else { return };
    // Until the next sample the rows are those of the list.
    let lines = app.frame().and_then(|f| f.lines.as_ref()).filter(|l| l.only);
    let now = lines.and_then(|l| l.lines.first());
    let shown = now.unwrap_or(line);
    let s = &shown.socket;
    let mut x = pen.text(1, 0, &s.state.to_string(), theme.state(s.state).add_modifier(Modifier::BOLD));
    x = pen.text(x, 0, &format!("  {} > {}", s.local, s.peer), theme.heading());
    let gone = now.is_none() && lines.is_some();
    if gone {
        pen.text(x, 0, "  gone", theme.alert());
    }
    // These may be long: a line each, before the columns.
    let mut first = vec![("whose", owner_text(&shown.owner))];
    if let Some(confidence) = shown.owner.confidence() {
        first.push(("certainty", format!("{confidence:.2}, {}", owner_reason(&shown.owner))));
    }
    let interval_ms = app.frame().map_or(0, |f| f.interval_ms);
    let seen = format!("{}; first seen {} ago", age(shown, interval_ms), text::compact_ms(shown.known_ms));
    first.push(("in this state", seen));
    let mut top = 2;
    for (name, value) in &first {
        pen.text(1, top, name, theme.dim());
        pen.foreign(18, top, value, Style::new());
        top += 1;
    }
    let known = lines.and_then(|l| l.detail.as_ref()).map(|detail| attributes(detail, names)).unwrap_or_default();
    if known.is_empty() {
        return;
    }
    let height = usize::from(pen.area.height.saturating_sub(top)).max(1);
    // A name is never overwritten by its value.
    let longest = known.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let label = u16::try_from(longest).unwrap_or(u16::MAX).clamp(15, 40) + 3;
    let per_column = label + 22;
    let columns = usize::from((pen.area.width / per_column).max(1));
    let rows = known.len().div_ceil(columns).max(height.min(known.len()));
    let scroll = app.detail_scroll.min(rows.saturating_sub(height));
    for (i, (name, value)) in known.iter().enumerate() {
        let (column, row) = (i / rows, i % rows);
        let Some(y) = row.checked_sub(scroll).filter(|y| *y < height) else { continue };
        let (x, y) = (u16::try_from(column).unwrap_or(0) * per_column, u16::try_from(y).unwrap_or(0) + top);
        let last = column == (known.len() - 1) / rows;
        let width = if last { pen.area.width.saturating_sub(x) } else { per_column };
        let mut cell = pen.part(x, y, width, 1);
        cell.text(1, 0, name, theme.dim());
        cell.foreign(label, 0, value, Style::new());
    }
}

/// Every column that says something about a socket, as name and value.
fn attributes(detail: &Detail, names: &dyn Names) -> Vec<(&'static str, String)> {
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
    COLUMNS.iter().filter(says).map(|column| (column.name, table::cell(column, &row))).collect()
}

/// The keys, and what could not be seen.
pub(super) fn help(frame: &Frame, pen: &mut Pen<'_>) {
    const KEYS: [(&str, &str); 14] = [
        ("1 2 3 4  Tab", "states, machine, groups, findings"),
        ("arrows  j k", "move; PgUp PgDn Home End too"),
        ("Enter", "the sockets behind the line; then everything about one"),
        ("Esc", "back; from the first screen: drop the filter"),
        ("g", "group by process, listener, destination, user, unit, pod..."),
        ("/", "filter, in the language of `tcpstate list`"),
        ("s  r", "sort the sockets by the next column; reverse the order"),
        ("p  space", "pause and resume; counting continues"),
        ("left right", "step back through the last minutes, and forward"),
        ("+ -", "sample more slowly, faster"),
        ("c", "copy the command at the foot of the screen"),
        ("ctrl-l  ctrl-z", "redraw; suspend"),
        ("?  q", "this page; quit"),
        ("", "CHANGE, IN, OUT: means of the last five seconds"),
    ];
    let theme = pen.theme;
    let mut y = 0;
    for (key, what) in KEYS {
        pen.text(1, y, key, theme.heading());
        pen.text(17, y, what, Style::new());
        y += 1;
    }
    y += paragraph(
        pen,
        17,
        y,
        "unseen: lived and died between two samples, and not traced either; counted by the kernel, so that the sums are exact",
        Style::new(),
    );
    if !frame.changes_text().is_empty() {
        y += paragraph(pen, 1, y, &format!("last sample: {}", frame.changes_text()), theme.dim());
    }
    for gap in &frame.gaps {
        y += paragraph(pen, 1, y, &format!("note: {}", gap::line(gap)), theme.alert());
    }
}

impl Frame {
    fn changes_text(&self) -> String {
        plain::changes_text(self)
    }
}

/// Wrapped text; returns the number of lines.
pub(super) fn paragraph(pen: &mut Pen<'_>, x: u16, y: u16, text: &str, style: Style) -> u16 {
    let room = usize::from(pen.area.width.saturating_sub(x + 1)).max(10);
    let mut lines = 0;
    let mut line = String::new();
    let flush = |line: &mut String, lines: &mut u16, pen: &mut Pen<'_>| {
        if !line.is_empty() {
            pen.foreign(x, y + *lines, line, style);
            *lines += 1;
            line.clear();
        }
    };
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            flush(&mut line, &mut lines, pen);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // Writing into a String cannot fail.
        let _ = write!(line, "{word}");
    }
    flush(&mut line, &mut lines, pen);
    lines
}
