//! The frame of every screen: the head, the tabs, the keys, the next command, and the view between them.
//!
//! Input: an [`App`]. Output: cells; the same state always yields the same cells.
//!
//! Circle with `views`: the frame draws the view inside it, and views use its lines and cells.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::state::{App, Tab};
use super::theme::Theme;
use super::views;
use crate::model::column::Names;
use crate::render::sanitize;
use crate::render::watch::clock;
use crate::text::{self, grouped};

/// How to quit, and where the other keys are: visible at any width.
const ALWAYS: &str = "? help  q quit";

/// Below this there is no room for anything.
const SMALLEST: (u16, u16) = (40, 10);

/// Writes cells, and never beyond its area.
pub(super) struct Pen<'a> {
    pub buf: &'a mut Buffer,
    pub area: Rect,
    pub theme: Theme,
}

impl Pen<'_> {
    /// Writes text at a position in the area, cut at its edge; returns the column after it.
    pub(super) fn text(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        if x >= self.area.width || y >= self.area.height {
            return x;
        }
        let room = usize::from(self.area.width - x);
        let (end, _) = self.buf.set_stringn(self.area.x + x, self.area.y + y, text, room, style);
        end - self.area.x
    }

    /// The same with foreign text.
    pub(super) fn foreign(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        self.text(x, y, &sanitize::clean(text), style)
    }

    /// The same, with an ellipsis where it is cut: half a number is another number.
    pub(super) fn marked(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        let end = self.foreign(x, y, text, style);
        let cut = sanitize::clean(text).chars().count() > usize::from(self.area.width.saturating_sub(x));
        if cut && x < self.area.width { self.text(self.area.width - 1, y, "…", style) } else { end }
    }

    /// Writes text that ends at a column.
    pub(super) fn right(&mut self, end: u16, y: u16, text: &str, style: Style) {
        let width = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
        self.text(end.saturating_sub(width), y, text, style);
    }

    /// Reverses a line.
    pub(super) fn select(&mut self, y: u16) {
        if y < self.area.height {
            let line = Rect { y: self.area.y + y, height: 1, ..self.area };
            self.buf.set_style(line, self.theme.selected());
        }
    }

    /// The part of the area from one line on, with this many lines.
    pub(super) fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let (x, y) = (x.min(self.area.width), y.min(self.area.height));
        let area = Rect {
            x: self.area.x + x,
            y: self.area.y + y,
            width: width.min(self.area.width - x),
            height: height.min(self.area.height - y),
        };
        Pen { buf: self.buf, area, theme: self.theme }
    }
}

/// Draws everything; returns how many lines a page has.
pub fn draw(app: &App, names: &dyn Names, theme: Theme, area: Rect, buf: &mut Buffer) -> usize {
    buf.set_style(area, Style::reset());
    let mut pen = Pen { buf, area, theme };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        pen.text(0, 0, "too small: 40x10 at least", theme.alert());
        return 1;
    }
    head(app, &mut pen);
    let bottom = area.height - 2;
    let mut body = pen.part(0, 2, area.width, bottom - 2);
    let page = usize::from(body.area.height.saturating_sub(2));
    match app.frame() {
        None => {
            body.text(1, 1, "the first sample is on its way", theme.dim());
        }
        Some(frame) if app.help => views::help(frame, &mut body),
        Some(_) if app.detail.is_some() => views::detail(app, names, &mut body),
        Some(frame) if app.drill.is_some() => views::sockets(app, frame, &mut body),
        Some(frame) => match app.tab {
            Tab::States => views::states(app, frame, names, &mut body),
            Tab::Machine => views::machine(app, frame, &mut body),
            Tab::Groups => views::groups(app, frame, names, &mut body),
            Tab::Findings => views::findings(app, frame, &mut body),
        },
    }
    foot(app, &mut pen, bottom);
    page
}

fn head(app: &App, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let Some(frame) = app.frame() else {
        pen.text(0, 0, "tcpstate watch", theme.heading());
        return;
    };
    let live = app.history.latest().map_or(0, |f| f.taken_at_ms);
    let behind = live.saturating_sub(frame.taken_at_ms);
    let (word, style) = if app.is_held() {
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
    x = pen.text(x, 0, &word, style);
    pen.text(x, 0, &traced, traced_style);
    let mut x = 0;
    for (i, tab) in Tab::ALL.into_iter().enumerate() {
        let here = tab == app.tab;
        let findings = frame.findings.iter().filter(|s| !s.is_gone()).count();
        let count = if tab == Tab::Findings && findings > 0 { format!(" {findings}") } else { String::new() };
        let style = if here { theme.selected() } else { theme.dim() };
        x = pen.text(x, 1, &format!(" {} {}{count} ", i + 1, tab.name()), style);
    }
    if let Some(drill) = &app.drill {
        x = pen.text(x, 1, " > ", theme.dim());
        x = pen.foreign(x, 1, &drill.title, theme.heading());
    }
    if app.detail.is_some() {
        x = pen.text(x, 1, " > socket", theme.heading());
    }
    if !frame.filter.is_empty() {
        x = pen.text(x, 1, "  filter: ", theme.dim());
        x = pen.foreign(x, 1, &frame.filter, theme.heading());
    }
    if !frame.gaps.is_empty() {
        let n = frame.gaps.len();
        pen.text(x, 1, &format!("  {n} gap{} (?)", if n == 1 { "" } else { "s" }), theme.alert());
    }
}

fn foot(app: &App, pen: &mut Pen<'_>, y: u16) {
    let theme = pen.theme;
    if let Some(text) = &app.input {
        let x = pen.text(0, y, "filter: ", theme.heading());
        // The end of a long filter is what is being typed.
        let room = usize::from(pen.area.width.saturating_sub(x + 1));
        let long = text.chars().count().saturating_sub(room);
        let shown: String = text.chars().skip(long).collect();
        let end = pen.foreign(x, y, &shown, Style::new());
        pen.text(end, y, " ", theme.selected());
        let hint = app.notice.as_deref().unwrap_or("Enter: use it   Esc: leave it   empty: every socket");
        pen.foreign(0, y + 1, hint, if app.notice.is_some() { theme.alert() } else { theme.dim() });
        return;
    }
    if let Some(notice) = &app.notice {
        // A long one, such as a command that the terminal may not have copied, gets the line of keys as well.
        let width = usize::from(pen.area.width);
        let first: String = notice.chars().take(width).collect();
        let rest: String = notice.chars().skip(width).collect();
        pen.foreign(0, y, &first, theme.alert());
        if !rest.is_empty() {
            pen.foreign(0, y + 1, &rest, theme.alert());
            return;
        }
    } else {
        let x = pen.text(0, y, "next: ", theme.dim());
        pen.marked(x, y, &app.command(), Style::new());
    }
    let keys = if app.detail.is_some() {
        "Esc back  arrows scroll  c copy  ? help  q quit"
    } else if app.drill.is_some() {
        "Enter socket  Esc back  s sort  r reverse  / filter  p pause  ? help  q quit"
    } else {
        "Enter rows  g group  / filter  p pause  arrows step  +- slower  ? help  q quit"
    };
    let fits = keys.len() <= usize::from(pen.area.width);
    let keys = if fits { keys.to_owned() } else { format!("{ALWAYS}  {}", keys.trim_end_matches(ALWAYS)) };
    pen.text(0, y + 1, &keys, theme.dim());
}
