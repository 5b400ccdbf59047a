//! CSV (RFC 4180): a header of column names, raw values without units (`--list-columns` prints the unit of a
//! column).

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::model::column::{Column, Row};
use crate::render::rows::{Listing, RowWriter};
use crate::render::{sanitize, value};

/// Rows as CSV.
#[must_use]
pub fn rows(listing: Listing) -> Box<dyn RowWriter> {
    let is_terminal = listing.style.width.is_some();
    let Listing { columns, header, .. } = listing;
    Box::new(Csv { columns, header, is_terminal, line: String::new(), cell: String::new() })
}

struct Csv {
    columns: Vec<&'static Column>,
    header: bool,
    /// Text of others may not command a terminal.
    is_terminal: bool,
    line: String,
    cell: String,
}

impl RowWriter for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.header {
            return Ok(());
        }
        let names: Vec<&str> = self.columns.iter().map(|c| c.name).collect();
        writeln!(out, "{}", names.join(","))
    }

    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        self.line.clear();
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                self.line.push(',');
            }
            self.cell.clear();
            value::write_raw(&mut self.cell, column.kind, &(column.get)(row));
            if self.is_terminal {
                self.cell = sanitize::clean(&self.cell);
            }
            push_cell(&mut self.line, &self.cell);
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }

    fn finish(&mut self, _: &mut dyn Write, _: &[Json], _: Option<u64>) -> io::Result<()> {
        Ok(())
    }
}

/// Appends a cell, in quotes where it needs them.
pub(crate) fn push_cell(line: &mut String, cell: &str) {
    if !cell.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        line.push_str(cell);
        return;
    }
    line.push('"');
    for c in cell.chars() {
        if c == '"' {
            line.push('"');
        }
        line.push(c);
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        let mut line = String::new();
        push_cell(&mut line, "a,\"b\"");
        assert_eq!(line, "\"a,\"\"b\"\"\"");
    }
}
