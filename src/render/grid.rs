//! Small tables without borders, as lines that can stand beside others.
//!
//! Input: cells. Output: lines without trailing blanks. Not here: what is in them.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::render::style::Style;
use crate::text;

/// A table without borders.
pub(super) fn small_table(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if style.color {
        table.enforce_styling();
    }
    table
}

pub(super) fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

pub(super) fn number(n: u64) -> Cell {
    right(&text::grouped(n))
}

/// The lines of a table without trailing blanks and without the one that begins its lines.
pub(super) fn lines_of(table: &Table) -> Vec<String> {
    table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect()
}

/// Columns of a line without its colours.
pub(super) fn visible(line: &str) -> usize {
    let mut chars = line.chars();
    let mut columns = 0;
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(|c| *c == 'm');
        } else {
            columns += 1;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style;

    #[test]
    fn colours_take_no_column() {
        let style = Style { color: true, width: None };
        let mut table = small_table(style);
        table.set_header(vec![Cell::new(style.heading("STATE")), right("TOTAL")]);
        table.add_row(vec![Cell::new(style.paint(style::FULL, "LISTEN")), number(1234)]);
        let lines = lines_of(&table);
        assert_eq!(lines.iter().map(|l| visible(l)).collect::<Vec<_>>(), [13, 13], "{lines:?}");
        assert!(lines[1].contains('\x1b') && lines[1].ends_with("1,234"), "{lines:?}");
    }
}
