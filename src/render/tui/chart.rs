//! A value over time: as a line of dots with its scale, and as a curve of one line.
//!
//! Input: a value at each sample. Output: cells. Both grow from the right, one dot for each sample, and what is not known yet
//! is blank. The scale is from the least to the greatest value shown, and both are printed; a constant is a thin, dim line.
//! Not here: which value, and how far back.

use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::Widget;
use ratatui::widgets::canvas::{Canvas, Line, Points};

use super::history::SAMPLES;
use super::pen::Pen;
use crate::text::{self, grouped};
use crate::watch::Sighting;

/// A value at each of some moments, in milliseconds since the epoch.
pub(super) type Values = Vec<(u64, Option<f64>)>;

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

/// The same in few cells.
fn short(n: f64) -> String {
    match n {
        n if n < 10_000.0 => number(n),
        n if n < 1e6 => format!("{:.1}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// `610…1,032`: from the least to the greatest; short, where the two still differ.
fn scale((low, high): (f64, f64)) -> String {
    let (from, to) = (short(low), short(high));
    if from == to { format!("{}…{}", number(low), number(high)) } else { format!("{from}…{to}") }
}

/// A curve of one line.
pub(super) struct Curve {
    pub y: u16,
    pub values: Values,
    pub style: Style,
}

/// A curve is no shorter than this for its scale.
const CURVE: u16 = 10;
/// No scale is wider.
const SCALE: u16 = 17;

/// Draws curves below each other: all end in the same column, each with its least and greatest value behind it where there is
/// room. A cell has two samples, the newest at its right.
pub(super) fn curves(curves: &[Curve], x: u16, pen: &mut Pen<'_>) {
    const LEFT: [u8; 5] = [0, 0x40, 0x44, 0x46, 0x47];
    const RIGHT: [u8; 5] = [0, 0x80, 0xa0, 0xb0, 0xb8];
    let room = pen.area.width.saturating_sub(x);
    let varies = |(low, high): &(f64, f64)| high > low;
    let scales = curves.iter().filter_map(|curve| range(&curve.values).filter(varies).map(scale));
    let widest = scales.map(|text| text.chars().count()).max().unwrap_or(0);
    let beside = u16::try_from(widest).unwrap_or(SCALE).clamp(1, SCALE) + 1;
    let with_scale = room >= CURVE + beside;
    let cells = if with_scale { room - beside } else { room };
    for curve in curves {
        let values = &curve.values[curve.values.len().saturating_sub(2 * usize::from(cells))..];
        let Some((low, high)) = range(values) else { continue };
        let constant = high <= low;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
        let dots = |n: Option<f64>| n.map_or(0, |n| 1 + ((n - low) / (high - low) * 3.0).round() as usize % 4);
        for (cell, pair) in values.rchunks(2).enumerate() {
            let (left, right) = (pair.len().checked_sub(2).and_then(|at| pair[at].1), pair.last().and_then(|v| v.1));
            let at = x + cells - 1 - u16::try_from(cell).unwrap_or(0);
            let known = left.is_some() || right.is_some();
            let symbol = match known {
                false => ' ',
                true if constant => '─',
                true => char::from_u32(0x2800 + u32::from(LEFT[dots(left)] | RIGHT[dots(right)])).unwrap_or(' '),
            };
            let style = if constant { pen.theme.dim() } else { curve.style };
            pen.text(at, curve.y, symbol.encode_utf8(&mut [0; 4]), style);
        }
        if with_scale && !constant {
            pen.text(x + cells + 1, curve.y, &scale((low, high)), pen.theme.dim());
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
    /// Between two samples, where only one is known.
    pub interval_ms: u64,
}

impl Chart<'_> {
    /// How far back the chart reaches: one sample for each column of dots, of a longer history all of it.
    fn span_ms(&self, plot_width: u16) -> u64 {
        let (Some((from_ms, _)), Some((to_ms, _))) = (self.values.first(), self.values.last()) else { return 0 };
        let known_ms = to_ms.saturating_sub(*from_ms);
        let usual_ms = known_ms / (self.values.len() as u64 - 1).max(1);
        let columns = (2 * u64::from(plot_width)).min(SAMPLES as u64) - 1;
        known_ms.max(usual_ms.max(self.interval_ms) * columns)
    }
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
    let Some((to_ms, _)) = chart.values.last() else { return };
    let Some((low, high)) = range(chart.values) else {
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
    let span_ms = chart.span_ms(plot_width).max(1);
    plot(chart.values, span_ms, bounds, style, &mut pen.part(label + 1, 1, plot_width, plot_height));
    let axis = height - 1;
    let since = format!("-{}", text::compact_ms(span_ms));
    let begun = pen.text(label + 1, axis, &since, theme.dim());
    pen.right(width, axis, "now", theme.dim());
    // Where a finding was first seen.
    let from_ms = to_ms.saturating_sub(span_ms);
    for sighting in chart.findings.iter().filter(|s| s.first_ms >= from_ms && s.first_ms <= *to_ms) {
        let along = (sighting.first_ms - from_ms) * u64::from(plot_width - 1) / span_ms;
        let x = label + 1 + u16::try_from(along).unwrap_or(0);
        if x > begun && x + 4 < width {
            pen.text(x, axis, "▲", theme.severity(sighting.finding.severity));
        }
    }
}

/// The line itself, up to the right edge. It is broken where samples are missing.
fn plot(values: &[(u64, Option<f64>)], span_ms: u64, y_bounds: [f64; 2], style: Style, pen: &mut Pen<'_>) {
    let (first_ms, last_ms) = (values.first().map_or(0, |v| v.0), values.last().map_or(0, |v| v.0));
    // Longer than three usual distances is a gap.
    let usual_ms = (last_ms - first_ms) / (values.len() as u64).saturating_sub(1).max(1);
    let color = style.fg.unwrap_or(Color::Reset);
    let x = |ms: u64| span_ms as f64 - last_ms.saturating_sub(ms) as f64;
    Canvas::default()
        .marker(Marker::Braille)
        .x_bounds([0.0, span_ms as f64])
        .y_bounds(y_bounds)
        .paint(|canvas| {
            for pair in values.windows(2) {
                let [(a_ms, Some(a)), (b_ms, Some(b))] = pair else { continue };
                if b_ms.saturating_sub(*a_ms) <= usual_ms.saturating_mul(3) {
                    canvas.draw(&Line { x1: x(*a_ms), y1: *a, x2: x(*b_ms), y2: *b, color });
                }
            }
            // The first sample has no line yet.
            if let Some((ms, Some(n))) = values.last() {
                canvas.draw(&Points { coords: &[(x(*ms), *n)], color });
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

    /// What is drawn in an area of 40 columns and 8 lines.
    fn drawn(draw: impl FnOnce(&mut Pen<'_>)) -> Vec<String> {
        let area = Rect::new(0, 0, 40, 8);
        let mut buf = Buffer::empty(area);
        let mut hits = Hits::default();
        draw(&mut Pen { buf: &mut buf, hits: &mut hits, area, theme: Theme::PLAIN });
        let row = |y| (0..40).map(|x| buf[(x, y)].symbol()).collect::<String>();
        (0..8).map(row).collect()
    }

    fn each_second(values: &[f64]) -> Values {
        values.iter().enumerate().map(|(i, n)| (i as u64 * 1000, Some(*n))).collect()
    }

    fn chart(values: &[f64]) -> Vec<String> {
        let values = each_second(values);
        let chart =
            Chart { title: "X", notes: &[], values: &values, style: Style::new(), findings: &[], interval_ms: 1000 };
        drawn(|pen| draw(&chart, pen))
    }

    fn is_drawn(c: char) -> bool {
        c == '─' || ('\u{2801}'..='\u{28ff}').contains(&c)
    }

    /// The first and the last cell of a row that have dots.
    fn ends(row: &str) -> Option<(usize, usize)> {
        let cells: Vec<usize> = row.chars().enumerate().filter(|(_, c)| is_drawn(*c)).map(|(i, _)| i).collect();
        Some((*cells.first()?, *cells.last()?))
    }

    #[test]
    fn a_leak_rises_from_corner_to_corner_however_large_it_is_and_both_ends_have_numbers() {
        for offset in [0.0, 1_000_000.0] {
            let values: Vec<f64> = (0..200).map(|n| offset + f64::from(n)).collect();
            let rows = chart(&values);
            assert!(rows[1].trim_start().starts_with(&number(offset + 199.0)), "{rows:#?}");
            assert!(rows[6].trim_start().starts_with(&number(offset)), "{rows:#?}");
            let (top, bottom) = (ends(&rows[1]).unwrap(), ends(&rows[6]).unwrap());
            let edge = rows[1].chars().position(|c| c == '│').unwrap();
            assert!(bottom.0 == edge + 1 && top.0 > 24 && top.1 == 38, "{rows:#?}");
            assert!(rows[7].contains("-3m19s") && rows[7].trim_end().ends_with("now"), "{rows:#?}");
        }
    }

    #[test]
    fn a_chart_grows_from_the_right_and_the_unknown_past_is_blank() {
        // 36 columns of plot: 72 dots, one a sample.
        for (samples, from) in [(1, 38), (2, 38), (10, 34), (40, 19), (72, 3)] {
            let values: Vec<f64> = (0..samples).map(f64::from).collect();
            let rows = chart(&values);
            let (first, last) =
                rows[1..7].iter().filter_map(|row| ends(row)).fold((99, 0), |(a, b), (c, d)| (a.min(c), b.max(d)));
            assert_eq!(last, 38, "{samples}: {rows:#?}");
            assert!(first.abs_diff(from) <= 1, "{samples} from {first}: {rows:#?}");
            assert!(rows[7].contains("-1m1"), "{samples}: {rows:#?}");
        }
    }

    #[test]
    fn curves_grow_from_the_right_end_alike_and_have_their_scale() {
        let values = |values: &[f64]| Curve { y: 0, values: each_second(values), style: Style::new() };
        let all = [
            Curve { y: 0, ..values(&[1.0, 2.0, 3.0, 4.0]) },
            Curve { y: 1, ..values(&[20_000.0, 21_500.0, 22_000.0]) },
            Curve { y: 2, ..values(&[5.0; 3]) },
            Curve { y: 3, values: vec![(0, None), (1000, None)], style: Style::new() },
            Curve { y: 4, ..values(&[20_001.0, 20_003.0]) },
        ];
        let rows = drawn(|pen| curves(&all, 8, pen));
        // 40 cells: the curves end where the widest scale begins.
        assert_eq!(rows[0].trim(), "⣠⣾ 1…4", "{rows:#?}");
        assert!(rows[1].contains(" 20.0k…22.0k") && rows[4].contains(" 20,001…20,003"), "{rows:#?}");
        assert_eq!(ends(&rows[1]).map(|e| e.1), ends(&rows[0]).map(|e| e.1));
        assert_eq!((ends(&rows[2]).map(|e| e.1 - e.0), rows[2].contains('…')), (Some(1), false), "a constant is thin");
        assert_eq!(rows[3].trim(), "", "nothing is known");
        // Where there is no room for a scale the curve has it all.
        let rows = drawn(|pen| curves(&all[..1], 30, pen));
        assert_eq!((ends(&rows[0]), rows[0].contains('…')), (Some((38, 39)), false));
    }

    #[test]
    fn a_constant_is_one_flat_line_with_one_number() {
        let rows = chart(&[5.0; 20]);
        assert_eq!(rows.iter().filter(|row| ends(row).is_some()).count(), 1, "{rows:#?}");
        assert_eq!(rows[1..7].iter().filter(|row| row.starts_with('5')).count(), 1, "{rows:#?}");
    }
}
