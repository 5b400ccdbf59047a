//! CSV (RFC 4180): a header of column names, raw values.
//!
//! Comes in: columns and rows. Goes out: lines. Never here: units in cells; the unit is the column's, as
//! `--list-columns` prints it.

use std::io::{self, Write};

use crate::model::column::{Column, Row};
use crate::render::value;

/// Writes the header.
///
/// # Errors
/// When the stream fails.
pub fn header(out: &mut dyn Write, columns: &[&Column]) -> io::Result<()> {
    let names: Vec<&str> = columns.iter().map(|c| c.name).collect();
    writeln!(out, "{}", names.join(","))
}

/// Writes one row; `line` and `cell` are buffers to reuse.
///
/// # Errors
/// When the stream fails.
pub fn row(
    out: &mut dyn Write,
    columns: &[&Column],
    row: &Row<'_>,
    line: &mut String,
    cell: &mut String,
) -> io::Result<()> {
    line.clear();
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        cell.clear();
        value::write_raw(cell, column.kind, &(column.get)(row));
        push_cell(line, cell);
    }
    line.push('\n');
    out.write_all(line.as_bytes())
}

fn push_cell(line: &mut String, cell: &str) {
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
