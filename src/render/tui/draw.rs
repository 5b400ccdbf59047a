//! The frame of every screen: the head, the tabs, the keys, the next command, and the view between them.
//!
//! Input: an [`App`]. Output: cells; the same state always yields the same cells.

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::hits::{Hits, Target};
use super::order::Table;
use super::pen::Pen;
use super::state::{App, Input, Tab};
use super::theme::Theme;
use super::{about, dashboard, findings, playback, sockets, views};
use crate::model::column::Names;
use crate::render::watch::clock;
use crate::text::{self, grouped};
use crate::watch::Frame;

/// A key and what it does.
type Key = (&'static str, &'static str);

/// How to quit, and where the other keys are: visible at any width.
const ALWAYS: [Key; 2] = [("?", "help"), ("q", "quit")];

/// Below this there is no room for anything.
const SMALLEST: (u16, u16) = (40, 10);

/// What was drawn, for the keys and the mouse.
#[derive(Debug, Default)]
pub struct Drawn {
    /// Lines of a page.
    pub page: usize,
    /// How far what is on screen can be scrolled.
    pub scroll: usize,
    pub hits: Hits,
}

/// Draws everything.
pub fn draw(app: &App, names: &dyn Names, theme: Theme, area: Rect, buf: &mut Buffer) -> Drawn {
    buf.set_style(area, Style::reset());
    let mut drawn = Drawn { page: 1, ..Drawn::default() };
    let mut pen = Pen { buf, hits: &mut drawn.hits, area, theme };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        pen.text(0, 0, "too small: 40x10 at least", theme.alert());
        return drawn;
    }
    head(app, &mut pen);
    let foot_at = area.height - 2;
    let mut bottom = foot_at;
    if let (Some(playback), Some(frame)) = (app.playback, app.frame()) {
        bottom -= 1;
        playback::draw(playback, frame, &mut pen.part(0, bottom, area.width, 1));
    }
    let mut body = pen.part(0, 2, area.width, bottom - 2);
    drawn.page = usize::from(body.area.height.saturating_sub(2));
    match app.frame() {
        None => {
            body.text(1, 1, "the first sample is on its way", theme.dim());
        }
        Some(frame) if app.help => drawn.scroll = views::help(app, frame, &mut body),
        Some(_) if app.full => drawn.scroll = findings::full(app, &mut body),
        Some(_) if app.detail.is_some() => drawn.scroll = sockets::detail(app, names, &mut body),
        Some(frame) if app.drill.is_some() => about::draw(app, frame, names, &mut body),
        Some(frame) => match app.tab {
            Tab::States => dashboard::draw(app, frame, names, &mut body),
            Tab::Machine => views::machine(app, frame, names, &mut body),
            Tab::Groups => views::groups(app, frame, names, &mut body),
            Tab::Findings => findings::draw(app, frame, &mut body),
        },
    }
    foot(app, &mut pen, foot_at);
    drawn
}

fn head(app: &App, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let Some(frame) = app.frame() else {
        pen.text(0, 0, "tcpstate watch", theme.heading());
        return;
    };
    let live = app.history.latest().map_or(0, |f| f.taken_at_ms);
    let behind = live.saturating_sub(frame.taken_at_ms);
    let (word, style) = if let Some(playback) = app.playback {
        let behind = app.is_held().then(|| text::compact_ms(behind).to_string());
        let (word, is_loud) = playback::word(playback, behind.as_deref());
        (word, if is_loud { theme.alert() } else { theme.dim() })
    } else if app.is_held() {
        (format!("HELD {} back (p: live)", text::compact_ms(behind)), theme.alert())
    } else if app.stale || frame.is_late() {
        (format!("STALE: a sample takes {}", text::compact_ms(frame.sample_us / 1000)), theme.alert())
    } else {
        ("live".to_owned(), theme.dim())
    };
    let (traced, traced_style) = match &frame.trace {
        Some(trace) if trace.lost > 0 => (format!("  traced, {} LOST", grouped(trace.lost)), theme.alert()),
        Some(_) => ("  traced".to_owned(), theme.dim()),
        None => (String::new(), theme.dim()),
    };
    let sockets = format!("  {} sockets  ", grouped(frame.all().total()));
    let when = format!("{} UTC  every {}  ", clock(frame.taken_at_ms), text::compact_ms(app.interval_ms));
    // Whether it is live matters most; the host name and the time make room for it.
    let width = |text: &str| text.chars().count();
    let room = usize::from(pen.area.width).saturating_sub(width(&sockets) + width(&word) + width(&traced));
    let with_time = width(&frame.host) + width(&when) <= room;
    let mut x =
        if with_time || width(&frame.host) <= room { pen.foreign(0, 0, &frame.host, theme.heading()) } else { 0 };
    x = pen.text(x, 0, if x == 0 { sockets.trim_start() } else { &sockets }, Style::new());
    if with_time {
        x = pen.text(x, 0, &when, theme.dim());
    }
    x = pen.marked(x, 0, &word, style);
    pen.marked(x, 0, &traced, traced_style);
    path(app, frame, pen);
}

/// The second line: the tabs, what is open, how much is not seen, the filter, what is wrong.
fn path(app: &App, frame: &Frame, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let findings = frame.present().count();
    let count = if findings > 0 { format!(" {findings}") } else { String::new() };
    let gaps = match frame.gaps.len() {
        0 => String::new(),
        1 => "  1 gap (?)".to_owned(),
        n => format!("  {n} gaps (?)"),
    };
    let open = app.drill.as_ref().map_or(0, |drill| drill.title.chars().count() + 3) + gaps.len();
    let open = open + if app.detail.is_some() { " > socket".len() } else { 0 };
    let all: usize = Tab::ALL.iter().map(|tab| tab.name().len() + 4).sum::<usize>() + count.len();
    // Where there is no room for all names, the others are numbers; where there is none for those either, only this tab.
    let room = usize::from(pen.area.width).saturating_sub(open);
    let few = 9 + app.tab.name().len() + 4 + count.len();
    let mut x = 0;
    for (i, tab) in Tab::ALL.into_iter().enumerate() {
        let here = tab == app.tab;
        if !here && room < few && room < all {
            continue;
        }
        let count = if tab == Tab::Findings { count.as_str() } else { "" };
        let name = if here || room >= all { format!(" {}{count}", tab.name()) } else { String::new() };
        let style = if here { theme.selected() } else { theme.dim() };
        let from = x;
        x = pen.text(x, 1, &format!(" {}{name} ", i + 1), style);
        pen.target((from, 1), (x - from, 1), Target::Tab(tab));
    }
    if let Some(drill) = &app.drill {
        x = pen.text(x, 1, " > ", theme.dim());
        let from = x;
        x = pen.marked(x, 1, &drill.title, theme.heading());
        if app.detail.is_some() {
            pen.target((from, 1), (x - from, 1), Target::Back);
        }
    }
    if app.detail.is_some() {
        x = pen.text(x, 1, " > socket", theme.heading());
    }
    // Before a filter, which may be long.
    x = pen.text(x, 1, &gaps, theme.alert());
    if !frame.filter.is_empty() {
        x = pen.marked(x, 1, "  filter: ", theme.dim());
        x = pen.marked(x, 1, &frame.filter, theme.heading());
    }
    // The worst of what is wrong, where the view does not list it, and is not about one itself.
    let room = pen.area.width.saturating_sub(x + 2);
    if room >= 24
        && app.sighting().is_none()
        && (app.drill.is_some() || !matches!(app.tab, Tab::States | Tab::Findings))
    {
        findings::worst(frame, 0, &mut pen.part(x + 2, 1, room, 1));
    }
}

fn foot(app: &App, pen: &mut Pen<'_>, y: u16) {
    let theme = pen.theme;
    match &app.input {
        Some(Input::Filter(text)) => return filter_line(app, text, pen, y),
        Some(Input::Sort(table, text, at)) => return sort_line(app, *table, (text, *at), pen, y),
        None => {}
    }
    if let Some(notice) = &app.notice {
        // A long one, such as a command that the terminal may not have copied, gets the line of keys as well.
        let width = usize::from(pen.area.width);
        let first: String = notice.chars().take(width).collect();
        let rest: String = notice.chars().skip(width).collect();
        pen.foreign(0, y, &first, theme.alert());
        if !rest.is_empty() {
            pen.marked(0, y + 1, &rest, theme.alert());
            return;
        }
    } else {
        let x = pen.text(0, y, "next: ", theme.dim());
        pen.marked(x, y, &app.command(), Style::new());
    }
    keys(app, &mut pen.part(0, y + 1, pen.area.width, 1));
}

/// The keys of a view, the most useful first.
fn keys_of(app: &App) -> &'static [Key] {
    if app.detail.is_some() || app.full {
        &[("Esc", "back"), ("arrows", "scroll"), ("c", "copy")]
    } else if app.drill.is_some() && app.sighting().is_some() {
        &[
            ("Enter", "socket"),
            ("Esc", "back"),
            ("d", "report"),
            ("s", "sort"),
            ("r", "reverse"),
            ("/", "filter"),
            ("c", "copy"),
        ]
    } else if app.drill.is_some() {
        &[("Enter", "socket"), ("Esc", "back"), ("s", "sort"), ("r", "reverse"), ("/", "filter"), PAUSE, ("c", "copy")]
    } else if app.tab == Tab::Machine {
        &[("Enter", "rows"), ("t", "minute or rate"), ("/", "filter"), PAUSE, ("arrows", "step"), ("c", "copy"), SLOWER]
    } else if app.tab == Tab::Findings {
        &[("Enter", "its sockets"), ("d", "in full"), ("/", "filter"), PAUSE, ("arrows", "step"), ("c", "copy"), SLOWER]
    } else {
        &[
            ("Enter", "rows"),
            ("g", "group"),
            ("/", "filter"),
            ("s", "sort"),
            PAUSE,
            ("arrows", "step"),
            ("c", "copy"),
            SLOWER,
        ]
    }
}

const PAUSE: Key = ("p", "pause");
const SLOWER: Key = ("+-", "slower");

/// The line of keys: as many as fit, each a place to click.
fn keys(app: &App, pen: &mut Pen<'_>) {
    const RECORDED: [Key; 3] = [PAUSE, ("n", "next finding"), (", .", "seek")];
    let theme = pen.theme;
    let is_recorded = app.playback.is_some();
    let recorded = RECORDED.into_iter().filter(|_| is_recorded);
    let words = keys_of(app).iter().copied().filter(|word| !is_recorded || *word != PAUSE);
    let cells = |(key, what): &Key| key.len() + 1 + what.len() + 2;
    let mut room = usize::from(pen.area.width + 2).saturating_sub(ALWAYS.iter().map(cells).sum());
    let fitting = recorded.chain(words).filter(|word| {
        let fits = cells(word) <= room;
        room -= if fits { cells(word) } else { 0 };
        fits
    });
    let shown: Vec<Key> = fitting.collect();
    let mut x = 0;
    for (key, what) in shown.into_iter().chain(ALWAYS) {
        let from = x;
        x = pen.text(x, 0, key, theme.heading());
        x = pen.text(x + 1, 0, what, theme.dim());
        let code = match key {
            "Enter" => Some(KeyCode::Enter),
            "Esc" => Some(KeyCode::Esc),
            _ => key.chars().next().filter(|_| key.len() == 1).map(KeyCode::Char),
        };
        if let Some(code) = code {
            pen.target((from, 0), (x - from, 1), Target::Key(code));
        }
        x += 2;
    }
}

/// The line of a filter that is being typed, and what it is for or what is wrong with it.
fn filter_line(app: &App, text: &str, pen: &mut Pen<'_>, y: u16) {
    let theme = pen.theme;
    let x = pen.text(0, y, "filter: ", theme.heading());
    // The end of a long filter is what is being typed.
    let room = usize::from(pen.area.width.saturating_sub(x + 1));
    let long = text.chars().count().saturating_sub(room);
    let shown: String = text.chars().skip(long).collect();
    let end = pen.foreign(x, y, &shown, Style::new());
    pen.text(end, y, " ", theme.selected());
    let hint = app.notice.as_deref().unwrap_or("Enter: use it   Esc: leave it   empty: every socket");
    pen.marked(0, y + 1, hint, if app.notice.is_some() { theme.alert() } else { theme.dim() });
}

/// The name of a column that is being typed, and the columns that it may mean.
fn sort_line(app: &App, table: Table, (text, at): (&str, usize), pen: &mut Pen<'_>, y: u16) {
    let theme = pen.theme;
    let x = pen.text(0, y, "sort by: ", theme.heading());
    let end = pen.foreign(x, y, text, Style::new());
    let end = pen.text(end, y, " ", theme.selected());
    pen.marked(end + 2, y, "Enter: sort   Tab: the next   Esc: leave it", theme.dim());
    if let Some(notice) = &app.notice {
        pen.marked(0, y + 1, notice, theme.alert());
        return;
    }
    let matching = table.matching(text);
    // The chosen one is in sight.
    let width = usize::from(pen.area.width);
    let mut first = at;
    let mut used = matching.get(at).map_or(0, |name| name.len() + 2);
    while first > 0 && used + matching[first - 1].len() + 2 <= width {
        first -= 1;
        used += matching[first].len() + 2;
    }
    let mut x = 0;
    for (i, column) in matching.iter().enumerate().skip(first) {
        if usize::from(x) + column.len() + 2 > width {
            break;
        }
        let style = if i == at { theme.selected() } else { theme.dim() };
        let from = x;
        x = pen.text(x, y + 1, &format!(" {column} "), style);
        pen.target((from, y + 1), (x - from, 1), Target::Choice(i));
    }
}
