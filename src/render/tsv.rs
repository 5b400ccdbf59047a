//! A list with one tab between cells, for `cut` and spreadsheets: the cells of the table, never cut or padded.
//!
//! Input: rows, one at a time. Output: a line each. Not here: raw values without units, which are CSV.

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::model::column::{Column, Row};
use crate::render::rows::{Listing, RowWriter};
use crate::render::value;

/// Rows as tab-separated cells.
#[must_use]
pub fn rows(listing: Listing) -> Box<dyn RowWriter> {
    Box::new(Tsv { columns: listing.columns, header: listing.header, line: String::new() })
}

struct Tsv {
    columns: Vec<&'static Column>,
    header: bool,
    line: String,
}

impl RowWriter for Tsv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.header {
            return Ok(());
        }
        let names: Vec<String> = self.columns.iter().map(|c| c.name.to_ascii_uppercase()).collect();
        writeln!(out, "{}", names.join("\t"))
    }

    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        self.line.clear();
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                self.line.push('\t');
            }
            // Foreign text is sanitised: no cell has a tab of its own.
            value::write_human(&mut self.line, column.kind, &(column.get)(row));
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }

    fn finish(&mut self, _: &mut dyn Write, _: &[Json], _: Option<u64>) -> io::Result<()> {
        Ok(())
    }
}
