//! A screen as a file: an SVG picture with the same cells, or the text alone. Text stays text; the dots of a chart are drawn,
//! because fonts have them in other widths than letters.

use std::borrow::Cow;
use std::fmt::Write;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

const CELL_WIDTH: f64 = 8.0;
const CELL_HEIGHT: u32 = 17;
const MARGIN: u32 = 12;
const PAPER: &str = "#16181d";
const INK: &str = "#d7dae0";

/// The text of the cells.
#[must_use]
pub fn text(buf: &Buffer) -> String {
    let mut out = String::new();
    for y in buf.area.rows() {
        let line: String = y.positions().map(|at| buf[at].symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Draws the cells.
#[must_use]
pub fn svg(buf: &Buffer) -> String {
    let area = buf.area;
    let width = f64::from(area.width) * CELL_WIDTH + 2.0 * f64::from(MARGIN);
    let height = u32::from(area.height) * CELL_HEIGHT + 2 * MARGIN;
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{PAPER}\"/>"
    );
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            let first = &buf[(area.x + x, area.y + y)];
            let look = (first.fg, first.bg, first.modifier);
            let mut text = String::new();
            let start = x;
            while x < area.width {
                let cell = &buf[(area.x + x, area.y + y)];
                if (cell.fg, cell.bg, cell.modifier) != look {
                    break;
                }
                text.push_str(cell.symbol());
                x += 1;
            }
            run(&mut out, start, y, x - start, &text, look);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Cells of one style.
fn run(out: &mut String, x: u16, y: u16, cells: u16, text: &str, (fg, _, modifier): (Color, Color, Modifier)) {
    let reversed = modifier.contains(Modifier::REVERSED);
    let left = f64::from(MARGIN) + f64::from(x) * CELL_WIDTH;
    let top = MARGIN + u32::from(y) * CELL_HEIGHT;
    let length = f64::from(cells) * CELL_WIDTH;
    let ink = ink(fg);
    if reversed {
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{length}\" height=\"{CELL_HEIGHT}\" fill=\"{ink}\"/>"
        );
    }
    let weight = if modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let faint = if modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
    let ink = if reversed { PAPER } else { &ink };
    let dots = dots(text, left, f64::from(top));
    if !dots.is_empty() {
        let _ = writeln!(out, "<path fill=\"{ink}\"{faint} d=\"{dots}\"/>");
    }
    let text: String = text.chars().map(|c| if braille(c).is_some() { ' ' } else { c }).collect();
    // Blanks at the ends need no text, and their room must not be stretched over it.
    let lead = text.len() - text.trim_start_matches(' ').len();
    let shown = text.trim_matches(' ');
    if shown.is_empty() {
        return;
    }
    let left = left + lead as f64 * CELL_WIDTH;
    let length = shown.chars().count() as f64 * CELL_WIDTH;
    let mut clean = String::with_capacity(shown.len());
    for c in shown.chars() {
        match c {
            '&' => clean.push_str("&amp;"),
            '<' => clean.push_str("&lt;"),
            '>' => clean.push_str("&gt;"),
            c => clean.push(c),
        }
    }
    let base = top + 13;
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{base}\" textLength=\"{length}\" xml:space=\"preserve\" fill=\"{ink}\"{weight}{faint}>{clean}</text>"
    );
}

/// The dots of a pattern: a bit for each.
fn braille(c: char) -> Option<u32> {
    let code = u32::from(c);
    (0x2800..0x2900).contains(&code).then(|| code - 0x2800)
}

/// The dots of a text as a path of squares.
fn dots(text: &str, left: f64, top: f64) -> String {
    /// Where each bit is: column, line.
    const PLACES: [(f64, f64); 8] =
        [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0), (1.0, 0.0), (1.0, 1.0), (1.0, 2.0), (0.0, 3.0), (1.0, 3.0)];
    let mut path = String::new();
    for (cell, bits) in text.chars().enumerate().filter_map(|(cell, c)| Some((cell, braille(c)?))) {
        for (column, line) in PLACES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, place)| place)
        {
            let x = left + (cell as f64 + column / 2.0) * CELL_WIDTH + 1.0;
            let y = top + (line / 4.0) * f64::from(CELL_HEIGHT) + 1.0;
            // Writing into a String cannot fail.
            let _ = write!(path, "M{x} {y}h2v2h-2z");
        }
    }
    path
}

fn ink(color: Color) -> Cow<'static, str> {
    Cow::Borrowed(match color {
        Color::Rgb(r, g, b) => return format!("#{r:02x}{g:02x}{b:02x}").into(),
        Color::LightBlue => "#7aa8f0",
        Color::LightRed => "#f07878",
        Color::Magenta => "#cf8ee0",
        _ => INK,
    })
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn dots_are_drawn_where_they_are_and_text_stays_text() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 8, 1));
        buf.set_string(0, 0, "a⢀ ⠉b", Style::new());
        let picture = svg(&buf);
        // The lower right one of the second cell, both upper ones of the fourth.
        assert!(picture.contains("d=\"M25 25.75h2v2h-2zM37 13h2v2h-2zM41 13h2v2h-2z\""), "{picture}");
        assert!(picture.contains(">a   b</text>") && !picture.contains('⠉'), "{picture}");
        assert_eq!(text(&buf), "a⢀ ⠉b\n", "a file of text has them");
    }
}
