//! The pen that every view draws with.
//!
//! Input: text, a position, a style. Output: cells, cut at the edge of an area. Not here: what is drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::hits::{Hits, Target};
use super::theme::Theme;
use crate::render::sanitize;

/// Writes cells, and never beyond its area.
pub(super) struct Pen<'a> {
    pub buf: &'a mut Buffer,
    pub hits: &'a mut Hits,
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

    /// A click on these cells means this.
    pub(super) fn target(&mut self, (x, y): (u16, u16), (width, height): (u16, u16), target: Target) {
        let area = self.part(x, y, width, height).area;
        self.hits.add(area, target);
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
        Pen { buf: self.buf, hits: self.hits, area, theme: self.theme }
    }
}
