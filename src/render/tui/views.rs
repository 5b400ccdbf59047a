//! The views of the machine, the groups and the keys.
//!
//! Input: the state of the screen and the frame on it. Output: cells.

use ratatui::style::Style;

use super::chart::{self, Chart, Curve};
use super::history::{SAMPLES, Series};
use super::hits::Target;
use super::list::{Headings, window, within};
use super::machine as picture;
use super::order::Table;
use super::pen::Pen;
use super::playback;
use super::state::{App, Tab};
use crate::aggregate::Counts;
use crate::model::State;
use crate::model::column::Names;
use crate::render::gap;
use crate::render::watch::{group_label, line_label, plain};
use crate::text::{self, grouped};
use crate::watch::{Frame, GroupId};

/// The state machine: the picture, the edges as a table, and the selected state over time, as far as there is room.
pub(super) fn machine(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>) {
    let (width, height) = (pen.area.width, pen.area.height);
    if width < picture::WIDTH || height < picture::HEIGHT {
        // The picture needs 80 columns and 24 lines.
        picture::table(app, frame, pen);
        return;
    }
    let states = app.states();
    let shown = picture::Shown::new(app, frame, &states, app.per_second);
    picture::draw(frame, &shown, &mut pen.part(0, 0, picture::WIDTH, picture::HEIGHT));
    let beside = width >= picture::WIDTH + TABLE_WIDTH;
    // The table has a line for each edge, if the chart below it then has room.
    let upper = if beside && height >= picture::TABLE_HEIGHT + 8 { picture::TABLE_HEIGHT } else { picture::HEIGHT };
    if beside {
        let table = if height >= picture::TABLE_HEIGHT + 8 { upper } else { height };
        picture::table(app, frame, &mut pen.part(picture::WIDTH + 1, 0, width, table));
    }
    let (top, left) = (upper + 1, if beside && upper == picture::HEIGHT { picture::WIDTH } else { width });
    let rest = height.saturating_sub(top);
    let Some(series) = app.series().filter(|_| rest >= 4) else { return };
    if beside || rest < 16 {
        history(app, frame, &series, names, &mut pen.part(1, top, left - 2, rest));
    } else {
        history(app, frame, &series, names, &mut pen.part(1, top, left - 2, rest / 2));
        picture::table(app, frame, &mut pen.part(0, top + rest / 2 + 1, width, rest));
    }
}

/// From this width on, a table stands beside the picture of the machine.
const TABLE_WIDTH: u16 = 38;

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
    let mut notes = Vec::new();
    let (title, style) = match series {
        Series::State(state) => {
            if let Some(stay) = frame.times_in_state.iter().find(|s| s.state == *state) {
                let stay = text::compact_ms(stay.median_ms.1);
                notes = vec![format!("half of those that left stayed <{stay}"), format!("half stay <{stay}")];
            }
            (state.name().to_owned(), pen.theme.state(*state))
        }
        Series::Group(id) => (group_label(id, names), pen.theme.curve()),
        Series::Rate(rate) => (rate.name().to_owned(), pen.theme.curve()),
    };
    let (findings, interval_ms) = (&frame.findings, frame.interval_ms);
    chart::draw(&Chart { title: &title, notes: &notes, values: &values, style, findings, interval_ms }, pen);
}

/// The width of the column of states that have none of their own.
const OTHER: u16 = 9;

/// The groups of a frame over the whole area, with the curve of each where there is room.
pub(super) fn group_table(app: &App, frame: &Frame, names: &dyn Names, pen: &mut Pen<'_>, cursor: Option<usize>) {
    let Some(groups) = &frame.groups else { return };
    let theme = pen.theme;
    let rows = usize::from(pen.area.height.saturating_sub(1));
    let mut sum = groups.rest.as_ref().map_or_else(Counts::default, |(_, c)| *c);
    for group in &groups.rows {
        sum.merge(&group.counts);
    }
    let width = pen.area.width;
    let label_width = (width / 8 * 3).clamp(20, 44);
    let mut columns: Vec<State> = State::ALL.into_iter().filter(|s| sum.get(*s) > 0).collect();
    columns.sort_by_key(|s| std::cmp::Reverse(sum.get(*s)));
    let cell = |s: &State| u16::try_from(short(*s).len().max(grouped(sum.get(*s)).len()) + 2).unwrap_or(12);
    let all = columns.len();
    let fit = |room: u16| {
        let mut used = label_width + 9;
        let fits = columns.iter().take_while(|s| {
            used += cell(s);
            used <= room
        });
        fits.count()
    };
    // What has no column is added up in one, which alone would repeat the total.
    let (most, fewer) = (fit(width), fit(width.saturating_sub(OTHER)));
    let with_other = most < all && fewer > 0;
    columns.truncate(if with_other { fewer } else { most });
    columns.sort_by_key(|s| s.index());
    let headings = Headings(Table::Groups, app.order(Table::Groups));
    headings.left(1, "name", &format!("BY {}", groups.by.name().to_ascii_uppercase()), pen);
    let total_end = label_width + 8;
    headings.right(total_end, "total", "TOTAL", pen);
    let mut end = total_end;
    for state in &columns {
        end += cell(state);
        headings.right(end, state.key(), short(*state), pen);
    }
    if with_other {
        end += OTHER;
        pen.right(end, 0, "OTHER", theme.heading());
    }
    if width >= end + 24 {
        pen.text(end + 2, 0, "HISTORY", theme.heading());
    }
    if groups.rows.is_empty() {
        pen.text(1, 1, &format!("no socket has a {}", groups.by.name()), theme.dim());
    }
    // The selected group stays visible.
    let (first, shown) = window(groups.rows.len(), cursor.unwrap_or(0), rows);
    let mut curves = Vec::new();
    let mut y = 1;
    for (i, group) in groups.rows.iter().enumerate().skip(first).take(shown) {
        let room = usize::from(label_width - 1);
        match &group.id {
            GroupId::Endpoint(at, None) => pen.text(1, y, &within(*at, room), Style::new()),
            _ => pen.part(1, y, label_width - 1, 1).marked(0, 0, &line_label(group, names), Style::new()),
        };
        pen.right(total_end, y, &grouped(group.counts.total()), Style::new());
        let mut end = total_end;
        for state in &columns {
            end += cell(state);
            let n = group.counts.get(*state);
            pen.right(end, y, &grouped(n), if n == 0 { theme.dim() } else { theme.state(*state) });
        }
        if with_other {
            end += OTHER;
            let n = group.counts.total() - columns.iter().map(|s| group.counts.get(*s)).sum::<u64>();
            pen.right(end, y, &grouped(n), theme.dim());
        }
        if width >= end + 24 {
            let values = app.history.curve(&Series::Group(group.id.clone()), frame.seq, SAMPLES);
            curves.push(Curve { y, values, style: theme.curve() });
        }
        pen.target((0, y), (width, 1), Target::Line(Tab::Groups, i));
        y += 1;
    }
    chart::curves(&curves, end + 2, pen);
    if let Some(at) = cursor.and_then(|at| at.checked_sub(first)).filter(|at| *at < shown) {
        pen.select(u16::try_from(at + 1).unwrap_or(u16::MAX));
    }
    let below = groups.rows.len() - first - shown;
    let rest = groups.rest.as_ref().map_or(0, |(n, _)| *n) + below;
    if rest > 0 && y < pen.area.height {
        pen.text(1, y, &format!("{rest} more"), theme.dim());
    }
}

const fn short(state: State) -> &'static str {
    match state {
        State::Established => "ESTAB",
        State::BoundInactive => "BOUND",
        other => other.name(),
    }
}

/// What could not be seen, then the keys; returns how far it can be scrolled.
pub(super) fn help(app: &App, frame: &Frame, pen: &mut Pen<'_>) -> usize {
    const KEYS: [(&str, &str); 18] = [
        ("1 2 3 4  Tab", "states, machine, groups, findings"),
        ("arrows  j k", "move; PgUp PgDn Home End too"),
        ("Enter", "the sockets behind the line; then everything about one"),
        ("Esc", "back; from the first screen: drop the filter"),
        ("g", "group by process, listener, destination, user, unit, pod..."),
        ("t", "edges of the machine: of the last minute, or per second"),
        ("/", "filter, in the language of `tcpstate list`"),
        ("s  r  < >", "sort by a column; reverse; by the one beside it"),
        ("p  space", "pause and resume; counting continues"),
        ("left right", "step back through the last minutes, and forward"),
        ("+ -", "sample more slowly, faster"),
        ("mouse", "click: choose, again: open; heading: sort; M: select text"),
        ("c", "copy the command at the foot of the screen"),
        ("e  E", "write the screen to a new file: as SVG, as text"),
        ("ctrl-l  ctrl-z", "redraw; suspend"),
        ("?  q", "this page; quit"),
        ("", "CHANGE, IN, OUT: means of the last five seconds"),
        ("", "AGE >9s: in the state before it was seen, 9s ago; 9s+: at least"),
    ];
    const UNSEEN: &str = "unseen: lived and died between two samples, and not traced either; counted by the kernel, so that \
                          the sums are exact";
    let theme = pen.theme;
    let (width, height) = (usize::from(pen.area.width), usize::from(pen.area.height));
    let mut lines: Vec<(&str, String, Style)> = Vec::new();
    for gap in &frame.gaps {
        let note = format!("note: {}", gap::line(gap));
        lines.extend(wrapped(&note, width - 2).into_iter().map(|line| ("", line, theme.alert())));
    }
    if !frame.gaps.is_empty() {
        lines.push(("", String::new(), Style::new()));
    }
    let notes = lines.len();
    let recorded = playback::KEYS.into_iter().filter(|_| app.playback.is_some());
    let keys = KEYS.into_iter().chain(recorded).chain([("", UNSEEN)]);
    for (key, what) in keys {
        let parts = wrapped(what, width.saturating_sub(usize::from(BESIDE_KEY) + 1).max(10)).into_iter().enumerate();
        lines.extend(parts.map(|(i, part)| (if i == 0 { key } else { "" }, part, Style::new())));
    }
    let changes = frame.changes_text();
    let last = if changes.is_empty() { String::new() } else { format!("last sample: {changes}") };
    let keys = lines.len();
    lines.extend(wrapped(&last, width - 2).into_iter().map(|line| ("", line, theme.dim())));
    // The last line says that there is more, where there is.
    let room = if lines.len() > height { height - 1 } else { height };
    let end = lines.len().saturating_sub(room);
    let scroll = app.help_scroll.min(end);
    for (y, (i, (key, what, style))) in (0..).zip(lines.iter().enumerate().skip(scroll).take(room)) {
        pen.text(1, y, key, theme.heading());
        pen.foreign(if (notes..keys).contains(&i) { BESIDE_KEY } else { 1 }, y, what, *style);
    }
    if end > 0 {
        let below = end - scroll;
        let more = if below > 0 { format!("{below} more below: arrows, PgDn") } else { "the end: arrows, PgUp".into() };
        pen.text(1, pen.area.height - 1, &more, theme.selected());
    }
    end
}

/// Where the meaning of a key begins.
const BESIDE_KEY: u16 = 17;

impl Frame {
    fn changes_text(&self) -> String {
        plain::changes_text(self)
    }
}

/// A text in lines of so many cells, broken between words; a word that is longer is broken too.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let room = room.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > room {
            used = 0;
        }
        while !word.is_empty() {
            if let Some(line) = lines.last_mut().filter(|_| used > 0) {
                line.push(' ');
                line.extend(&word);
                used += 1 + word.len();
                word.clear();
            } else {
                let rest = word.split_off(word.len().min(room));
                used = if rest.is_empty() { word.len() } else { 0 };
                lines.push(word.into_iter().collect());
                word = rest;
            }
        }
    }
    lines
}

/// How many lines wrapped text takes.
pub(super) fn lines(pen: &Pen<'_>, x: u16, text: &str) -> u16 {
    let room = usize::from(pen.area.width.saturating_sub(x + 1)).max(10);
    u16::try_from(wrapped(text, room).len()).unwrap_or(u16::MAX)
}

/// Wrapped text; returns the number of lines.
pub(super) fn paragraph(pen: &mut Pen<'_>, x: u16, y: u16, text: &str, style: Style) -> u16 {
    let room = usize::from(pen.area.width.saturating_sub(x + 1)).max(10);
    let lines = wrapped(text, room);
    for (line, y) in lines.iter().zip(y..) {
        pen.foreign(x, y, line, style);
    }
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}
