//! What lists have in common: which part is visible, the headings, and how an address fits into a column.

use super::hits::Target;
use super::order::{Order, Table};
use super::pen::Pen;
use crate::model::Endpoint;

/// The headings of a table.
pub(super) struct Headings(pub Table, pub Order);

impl Headings {
    /// One that begins at a column.
    pub(super) fn left(&self, x: u16, column: &'static str, text: &str, pen: &mut Pen<'_>) {
        let end = pen.text(x, 0, text, pen.theme.heading());
        self.mark((x, end), column, pen);
    }

    /// One that ends at a column, as its numbers do.
    pub(super) fn right(&self, end: u16, column: &'static str, text: &str, pen: &mut Pen<'_>) {
        pen.right(end, 0, text, pen.theme.heading());
        let len = u16::try_from(text.len()).unwrap_or(end);
        self.mark((end.saturating_sub(len), end), column, pen);
    }

    /// Says by which column the table is sorted; a click sorts by this one.
    fn mark(&self, (x, end): (u16, u16), column: &'static str, pen: &mut Pen<'_>) {
        pen.text(end, 0, self.1.mark(column), pen.theme.heading());
        pen.target((x, 0), (end + 1 - x, 1), Target::Sort(self.0, column));
    }
}

/// Where a list that is longer than its room begins, and how much of it is visible.
pub(super) fn window(len: usize, cursor: usize, rows: usize) -> (usize, usize) {
    if len <= rows {
        return (0, len);
    }
    // One line is for the note with the number of the others.
    let rows = rows.saturating_sub(1).max(1);
    let first = (cursor + 1).saturating_sub(rows).min(len - rows);
    (first, rows)
}

/// An address in this many cells. One that is too long loses the end of the address, marked by an ellipsis, and
/// never a digit of its port: that would be another port.
pub(super) fn within(at: Endpoint, room: usize) -> String {
    let text = at.to_string();
    if text.len() <= room {
        return text;
    }
    let (address, port) = text.split_at(text.rfind(':').unwrap_or(text.len()));
    let kept = room.saturating_sub(port.len() + 1);
    format!("{}…{port}", &address[..kept.min(address.len())])
}
