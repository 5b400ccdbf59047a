//! A value over time: as a line of dots with its scale, and as a curve of one line.
//!
//! Input: a value at each sample. Output: cells. The scale is from the least to the greatest value shown, and both are
//! printed; a constant is a thin, dim line. Not here: which value, and how far back.

use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::{Canvas, Line};

use super::pen::Pen;
use crate::text::{self, grouped};
use crate::watch::Sighting;

/// The least and the greatest of the values that are known.
fn range(values: &[(u64, Option<f64>)]) -> Option<(f64, f64)> {
    let known = values.iter().filter_map(|(_, n)| *n);
    known.fold(None, |range, n| Some(range.map_or((n, n), |(low, high): (f64, f64)| (low.min(n), high.max(n)))))
}

/// A count without decimals, a rate with one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
fn number(n: f64) -> String {
    if n.fract() == 0.0 { grouped(n as u64) } else { format!("{n:.1}") }
}

/// A curve in eighths of a line, with its least and greatest value behind it where there is room.
pub(super) fn line(values: &[(u64, Option<f64>)], x: u16, y: u16, style: Style, pen: &mut Pen<'_>) {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const SCALE: u16 = 16;
    let room = pen.area.width.saturating_sub(x);
    let with_scale = room >= 2 * SCALE;
    let cells = usize::from(if with_scale { room - SCALE } else { room });
    let shown = &values[values.len().saturating_sub(cells)..];
    let Some((low, high)) = range(shown) else { return };
    let constant = high <= low;
    let style = if constant { pen.theme.dim() } else { style };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
    let cell = |n: &Option<f64>| match n {
        None => ' ',
        Some(_) if constant => '─',
        Some(n) => EIGHTHS[((n - low) / (high - low) * 7.0).round() as usize % 8],
    };
    let curve: String = shown.iter().map(|(_, n)| cell(n)).collect();
    let end = pen.text(x, y, &curve, style);
    if with_scale && !constant {
        let scale = format!("{}…{}", number(low), number(high));
        if scale.chars().count() < usize::from(SCALE) {
            pen.text(end + 1, y, &scale, pen.theme.dim());
        }
    }
}

/// What a chart is drawn of.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    /// What is said beside the title: the first of these that there is room for.
    pub notes: &'a [String],
    pub values: &'a [(u64, Option<f64>)],
    pub style: Style,
    pub findings: &'a [Sighting],
}

/// Draws a chart over the whole area: title, dots, and the time below.
pub(super) fn draw(chart: &Chart<'_>, pen: &mut Pen<'_>) {
    let theme = pen.theme;
    let (width, height) = (pen.area.width, pen.area.height);
    let x = pen.foreign(0, 0, chart.title, chart.style.patch(theme.heading()));
    let now = chart.values.last().and_then(|(_, n)| *n).map_or_else(|| "?".to_owned(), number);
    let x = pen.text(x + 2, 0, &now, theme.heading());
    let room = usize::from(width.saturating_sub(x + 2));
    if let Some(note) = chart.notes.iter().find(|note| note.chars().count() <= room) {
        pen.text(x + 2, 0, note, theme.dim());
    }
    let (Some((from_ms, _)), Some((to_ms, _))) = (chart.values.first(), chart.values.last()) else { return };
    let span_ms = to_ms.saturating_sub(*from_ms);
    let Some((low, high)) = range(chart.values).filter(|_| span_ms > 0) else {
        pen.text(0, 1, "the line begins with the second sample", theme.dim());
        return;
    };
    let constant = high <= low;
    let (top_text, bottom_text) = (number(high), number(low));
    let label = u16::try_from(top_text.len().max(bottom_text.len())).unwrap_or(8);
    let (plot_height, plot_width) = (height.saturating_sub(2), width.saturating_sub(label + 2));
    if plot_height < 2 || plot_width < 8 {
        return;
    }
    if constant {
        pen.right(label, plot_height.div_ceil(2), &top_text, theme.dim());
    } else {
        pen.right(label, 1, &top_text, theme.dim());
        pen.right(label, plot_height, &bottom_text, theme.dim());
    }
    for y in 1..=plot_height {
        pen.text(label, y, "│", theme.dim());
    }
    let style = if constant { theme.dim() } else { chart.style };
    let bounds = if constant { [low - 1.0, high + 1.0] } else { [low, high] };
    plot(chart.values, span_ms, bounds, style, &mut pen.part(label + 1, 1, plot_width, plot_height));
    let axis = height - 1;
    let since = format!("-{}", text::compact_ms(span_ms));
    let begun = pen.text(label + 1, axis, &since, theme.dim());
    pen.right(width, axis, "now", theme.dim());
    // Where a finding was first seen.
    for sighting in chart.findings.iter().filter(|s| s.first_ms >= *from_ms && s.first_ms <= *to_ms) {
        let along = (sighting.first_ms - from_ms) * u64::from(plot_width - 1) / span_ms;
        let x = label + 1 + u16::try_from(along).unwrap_or(0);
        if x > begun && x + 4 < width {
            pen.text(x, axis, "▲", theme.severity(sighting.finding.severity));
        }
    }
}

/// The line itself. It is broken where samples are missing.
fn plot(values: &[(u64, Option<f64>)], span_ms: u64, y_bounds: [f64; 2], style: Style, pen: &mut Pen<'_>) {
    let from_ms = values.first().map_or(0, |(ms, _)| *ms);
    // Longer than three usual distances is a gap.
    let usual_ms = span_ms / (values.len() as u64).saturating_sub(1).max(1);
    let color = style.fg.unwrap_or(Color::Reset);
    Canvas::default()
        .marker(Marker::Braille)
        .x_bounds([0.0, span_ms as f64])
        .y_bounds(y_bounds)
        .paint(|canvas| {
            for pair in values.windows(2) {
                let [(a_ms, Some(a)), (b_ms, Some(b))] = pair else { continue };
                if b_ms.saturating_sub(*a_ms) <= usual_ms.saturating_mul(3) {
                    let (x1, x2) = (a_ms.saturating_sub(from_ms) as f64, b_ms.saturating_sub(from_ms) as f64);
                    canvas.draw(&Line { x1, y1: *a, x2, y2: *b, color });
                }
            }
        })
        .render(pen.area, pen.buf);
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::*;
    use crate::render::tui::Theme;
    use crate::render::tui::hits::Hits;

    fn drawn(values: &[f64]) -> Vec<String> {
        let values: Vec<_> = values.iter().enumerate().map(|(i, n)| (i as u64 * 1000, Some(*n))).collect();
        let area = Rect::new(0, 0, 40, 8);
        let mut buf = Buffer::empty(area);
        let chart = Chart { title: "X", notes: &[], values: &values, style: Style::new(), findings: &[] };
        let mut hits = Hits::default();
        draw(&chart, &mut Pen { buf: &mut buf, hits: &mut hits, area, theme: Theme::PLAIN });
        let row = |y| (0..40).map(|x| buf[(x, y)].symbol()).collect::<String>();
        (0..8).map(row).collect()
    }

    #[test]
    fn a_leak_rises_from_corner_to_corner_however_large_it_is_and_both_ends_have_numbers() {
        for offset in [0.0, 1_000_000.0] {
            let values: Vec<f64> = (0..20).map(|n| offset + f64::from(n)).collect();
            let rows = drawn(&values);
            let column = |row: &str| row.chars().skip_while(|c| *c != '│').skip(1).position(|c| c != ' ' && c != '⠀');
            assert!(rows[1].trim_start().starts_with(&number(offset + 19.0)), "{rows:#?}");
            assert!(rows[6].trim_start().starts_with(&number(offset)), "{rows:#?}");
            let (top, bottom) = (column(&rows[1]).unwrap(), column(&rows[6]).unwrap());
            assert!(bottom == 0 && top > 20, "{rows:#?}");
            assert!(rows[7].contains("-19s") && rows[7].trim_end().ends_with("now"), "{rows:#?}");
        }
    }

    #[test]
    fn a_constant_is_one_flat_line_with_one_number() {
        let rows = drawn(&[5.0; 20]);
        let dots = |row: &str| row.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        assert_eq!(rows.iter().filter(|row| dots(row) > 0).count(), 1, "{rows:#?}");
        assert_eq!(rows[1..7].iter().filter(|row| row.starts_with('5')).count(), 1, "{rows:#?}");
    }
}
