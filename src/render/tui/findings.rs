//! What the doctor found: as a list with the selected finding in full, and the worst of it in one line.
//!
//! Input: the findings of a frame over time. Output: cells.

use ratatui::style::Style;

use super::hits::Target;
use super::list::window;
use super::pen::Pen;
use super::state::{App, Tab};
use crate::render::report::{self, Length};
use crate::render::style::Style as Plain;
use crate::render::watch::clock;
use crate::text;
use crate::watch::{Frame, Sighting};

/// What the doctor found, and the report of the selected finding.
pub(super) fn draw(app: &App, frame: &Frame, pen: &mut Pen<'_>) {
    let y = list(frame, pen, 0, Some(app.cursor())) + 1;
    let Some(sighting) = frame.findings.get(app.cursor()) else { return };
    let height = pen.area.height.saturating_sub(y);
    report(sighting, Length::Full, &mut pen.part(0, y, pen.area.width, height));
}

/// One finding on the whole screen; returns how far it can be scrolled.
pub(super) fn full(app: &App, pen: &mut Pen<'_>) -> usize {
    let Some(sighting) = app.sighting() else { return 0 };
    let below = write(sighting, Length::Full, app.detail_scroll, pen);
    if below > 0 {
        let more = format!("{} more below: arrows, PgDn", text::count(below as u64, "line", "lines"));
        pen.marked(1, pen.area.height - 1, &more, pen.theme.selected());
    }
    app.detail_scroll + below
}

/// The report of a finding, or its beginning; returns the next free line.
pub(super) fn report(sighting: &Sighting, length: Length, pen: &mut Pen<'_>) -> u16 {
    let below = write(sighting, length, 0, pen);
    if below > 0 {
        let more = format!("{} more: d shows all of it", text::count(below as u64, "line", "lines"));
        pen.marked(1, pen.area.height - 1, &more, pen.theme.selected());
        return pen.area.height;
    }
    u16::try_from(text_of(sighting, length, pen).lines().count()).unwrap_or(u16::MAX)
}

/// The usual report where it has room as a whole, or the shortest.
pub(super) fn fitting(sighting: &Sighting, pen: &Pen<'_>) -> Length {
    let fits = text_of(sighting, Length::Usual, pen).lines().count() <= usize::from(pen.area.height);
    if fits { Length::Usual } else { Length::Short }
}

fn text_of(sighting: &Sighting, length: Length, pen: &Pen<'_>) -> String {
    let mut text = String::new();
    let room = usize::from(pen.area.width.saturating_sub(1));
    report::write_finding(&mut text, &sighting.finding, length, Plain { color: false, width: Some(room) });
    text
}

/// Writes a report from a line on; returns how many lines are below. The last line of the area is free then.
fn write(sighting: &Sighting, length: Length, scroll: usize, pen: &mut Pen<'_>) -> usize {
    let text = text_of(sighting, length, pen);
    let lines: Vec<&str> = text.lines().skip(scroll).collect();
    let height = usize::from(pen.area.height);
    let shown = if lines.len() > height { height.saturating_sub(1) } else { lines.len() };
    for (line, y) in lines.iter().take(shown).zip(0..) {
        let heading = line.starts_with(|c: char| c.is_ascii_uppercase());
        let style = if heading { pen.theme.severity(sighting.finding.severity) } else { Style::new() };
        pen.marked(1, y, line, style);
    }
    lines.len() - shown
}

/// The list alone; returns the next free line.
pub(super) fn list(frame: &Frame, pen: &mut Pen<'_>, top: u16, cursor: Option<usize>) -> u16 {
    let theme = pen.theme;
    pen.text(1, top, "FINDINGS", theme.heading());
    let judged = match frame.judged_at_ms {
        None => "not run yet".to_owned(),
        Some(at) => format!("as of {}", clock(at)),
    };
    let x = pen.text(11, top, &judged, theme.dim());
    // Where nothing can be chosen, the lines are cut and nothing else of a finding is shown.
    if cursor.is_none() && !frame.findings.is_empty() {
        pen.marked(x + 2, top, "4: in full", theme.dim());
    }
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
        pen.target((0, y), (pen.area.width, 1), Target::Line(Tab::Findings, i));
        if cursor == Some(i) {
            pen.select(y);
        }
        y += 1;
    }
    y
}

/// The worst of what is wrong, in one line from a column on; returns whether anything is.
pub(super) fn worst(frame: &Frame, x: u16, pen: &mut Pen<'_>) -> bool {
    let Some(Sighting { finding, .. }) = frame.present().next() else { return false };
    let x = pen.text(x, 0, finding.severity.key(), pen.theme.severity(finding.severity));
    pen.marked(x + 1, 0, &finding.summary, Style::new());
    true
}
