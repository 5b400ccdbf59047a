//! The formats of `list`: one line of [`FORMATS`] and one file each.
//!
//! Input: rows, one at a time. Output: text of the chosen format, written as the rows arrive.
//!
//! Circle with `table`, `csv`, `json`: the list of formats names the file of each, and each has the trait that is
//! here.

use std::io::{self, Write};

use crate::model::Gap;
use crate::model::column::{Column, Needs, Row};
use crate::render::json::{self, Head};
use crate::render::style::Style;
use crate::render::{csv, table};

/// Writes rows in one format.
pub trait RowWriter {
    /// Writes what comes before the first row.
    ///
    /// # Errors
    /// When the stream fails.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Writes one row.
    ///
    /// # Errors
    /// When the stream fails.
    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()>;

    /// Writes what comes after the last row; `gaps` only if [`RowWriter::writes_gaps`].
    ///
    /// # Errors
    /// When the stream fails.
    fn finish(&mut self, out: &mut dyn Write, gaps: &[Gap]) -> io::Result<()>;

    /// Whether the gaps are part of the output; otherwise they are notes on standard error.
    fn writes_gaps(&self) -> bool {
        false
    }
}

/// What to write.
pub struct Listing {
    pub head: Head,
    pub columns: Vec<&'static Column>,
    /// Whether `-c` chose the columns.
    pub chosen: bool,
    pub style: Style,
    /// Whether to write the header line, for formats that have one.
    pub header: bool,
}

/// One format.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    pub help: &'static str,
    /// What it shows beyond the columns, with or without `-c`.
    pub needs: fn(columns: &[&Column], chosen: bool) -> Needs,
    pub writer: fn(Listing) -> Box<dyn RowWriter>,
}

fn nothing(_: &[&Column], _: bool) -> Needs {
    Needs::NONE
}

/// Every format, the default one first.
pub static FORMATS: [Format; 4] = [
    Format { name: "table", help: "Columns for people", needs: nothing, writer: table::rows },
    Format { name: "json", help: "One JSON document", needs: json::rows::needs, writer: json::rows::document },
    Format { name: "jsonl", help: "One JSON object per line", needs: json::rows::needs, writer: json::rows::lines },
    Format { name: "csv", help: "Comma-separated values", needs: nothing, writer: csv::rows },
];

/// The format of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
