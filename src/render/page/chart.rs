//! Charts as SVG: curves over time, and bars for what was there when.
//!
//! Input: values at times, some of them unknown. Output: SVG whose colours are classes of the page's style.

use std::fmt::Write;

use super::html::escape;
use crate::text::time_within;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
/// Room for numbers on the left, and for times below.
const LEFT: f64 = 56.0;
const BELOW: f64 = 24.0;
const ABOVE: f64 = 8.0;

/// One curve.
pub(super) struct Curve {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

/// A number above the highest value that is easy to halve and to read: 1, 2 or 5 with zeros.
fn nice(most: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for factor in [1.0, 2.0, 5.0] {
            if step * factor >= most {
                return step * factor;
            }
        }
        step *= 10.0;
    }
}

/// Where a moment is, from the left.
fn across(ms: u64, (from, to): (u64, u64)) -> f64 {
    let span = to.saturating_sub(from).max(1) as f64;
    LEFT + (WIDTH - LEFT - 8.0) * (ms.saturating_sub(from) as f64 / span).min(1.0)
}

fn open(out: &mut String, height: f64, label: &str) {
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    );
}

/// The times at the foot of a chart.
fn times(out: &mut String, ends: (u64, u64), y: f64) {
    let middle = ends.0 + ends.1.saturating_sub(ends.0) / 2;
    for (ms, anchor) in [(ends.0, "start"), (middle, "middle"), (ends.1, "end")] {
        let x = across(ms, ends);
        let _ =
            write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", time_within(ms, ends));
    }
}

/// Curves over time, with a legend; `None` where no value is known.
pub(super) fn curves(label: &str, at_ms: &[u64], curves: &[Curve]) -> Option<String> {
    let ends = (*at_ms.first()?, *at_ms.last()?);
    let known = curves.iter().flat_map(|curve| curve.values.iter().flatten());
    let most = known.copied().fold(None, |most: Option<f64>, value| Some(most.map_or(value, |m| m.max(value))))?;
    let top = nice(most);
    let bottom = HEIGHT - BELOW;
    let height_of = |value: f64| bottom - (bottom - ABOVE) * (value / top);
    let mut out = String::new();
    open(&mut out, HEIGHT, label);
    for part in [0.0, 0.5, 1.0] {
        let y = height_of(top * part);
        let _ = write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - 8.0);
        let _ =
            write!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, y + 4.0, top * part);
    }
    times(&mut out, ends, HEIGHT - 6.0);
    for (place, curve) in curves.iter().enumerate() {
        // A curve ends where the value is not known, and begins anew.
        for piece in pieces(at_ms, &curve.values) {
            let points: Vec<String> =
                piece.iter().map(|(ms, value)| format!("{:.1},{:.1}", across(*ms, ends), height_of(*value))).collect();
            let name = escape(&curve.name);
            let _ = match &piece[..] {
                [(ms, value)] => write!(
                    out,
                    "<circle class=\"c{place}\" r=\"3\" cx=\"{:.1}\" cy=\"{:.1}\"><title>{name}</title></circle>",
                    across(*ms, ends),
                    height_of(*value)
                ),
                _ => write!(
                    out,
                    "<polyline class=\"c{place}\" points=\"{}\"><title>{name}</title></polyline>",
                    points.join(" ")
                ),
            };
        }
    }
    out.push_str("</svg>");
    if curves.len() > 1 {
        out.push_str("<p class=\"legend\">");
        for (place, curve) in curves.iter().enumerate() {
            let _ = write!(out, "<span><i class=\"c{place}\"></i>{}</span> ", escape(&curve.name));
        }
        out.push_str("</p>");
    }
    Some(out)
}

/// The stretches of values that are known.
fn pieces(at_ms: &[u64], values: &[Option<f64>]) -> Vec<Vec<(u64, f64)>> {
    let mut pieces = vec![Vec::new()];
    for (ms, value) in at_ms.iter().zip(values) {
        match (value, pieces.last_mut()) {
            (Some(value), Some(piece)) => piece.push((*ms, *value)),
            (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
            _ => {}
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// What was there when: a line of bars with its name and the class of its colour.
pub(super) struct Bars {
    pub name: String,
    pub class: &'static str,
    /// From when to when.
    pub spells: Vec<(u64, u64)>,
}

/// Bars below each other over one time.
pub(super) fn bars(label: &str, ends: (u64, u64), lines: &[Bars]) -> Option<String> {
    const LINE: f64 = 34.0;
    if lines.is_empty() {
        return None;
    }
    let height = LINE * lines.len() as f64 + BELOW;
    let mut out = String::new();
    open(&mut out, height, label);
    for (place, line) in lines.iter().enumerate() {
        let y = LINE * place as f64;
        let _ = write!(out, "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>", y + 13.0, escape(&line.name));
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            WIDTH - 8.0,
            y + 23.0,
            y + 23.0
        );
        for (from, to) in &line.spells {
            let (x, end) = (across(*from, ends), across(*to, ends));
            let _ = write!(
                out,
                "<rect class=\"{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\" rx=\"2\"><title>{} to {}</title></rect>",
                line.class,
                y + 18.0,
                // One look is seen too.
                (end - x).max(4.0),
                time_within(*from, ends),
                time_within(*to, ends)
            );
        }
    }
    times(&mut out, ends, height - 6.0);
    out.push_str("</svg>");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_numbers_that_people_read() {
        for (most, top) in [(0.0, 1.0), (1.0, 1.0), (3.0, 5.0), (120.0, 200.0), (501.0, 1000.0), (10_008.0, 20_000.0)] {
            assert!((nice(most) - top).abs() < 0.01, "{most}");
        }
    }

    #[test]
    fn what_is_not_known_is_a_hole_and_no_zero() {
        let values = [None, Some(1.0), Some(2.0), None, Some(3.0)];
        let at: Vec<u64> = (0..5).collect();
        assert_eq!(pieces(&at, &values), [vec![(1, 1.0), (2, 2.0)], vec![(4, 3.0)]]);
        let chart = curves("x", &at, &[Curve { name: "a".into(), values: values.to_vec() }]).unwrap();
        assert_eq!((chart.matches("<polyline").count(), chart.matches("<circle").count()), (1, 1));
        assert!(curves("x", &at, &[Curve { name: "a".into(), values: vec![None; 5] }]).is_none());
        assert!(curves("x", &[], &[]).is_none() && bars("x", (0, 1), &[]).is_none());
    }
}
