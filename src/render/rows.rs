//! What a format of `list` is: a [`Format`] in the table of `render`, and a [`RowWriter`] in a file of its own.
//!
//! Input: rows, one at a time. Output: text of the chosen format, written as the rows arrive.
//!
//! Circle with `json`: a listing has the head of the JSON documents, and the JSON formats are row writers.

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::model::column::{Column, Needs, Row};
use crate::render::json::Head;
use crate::render::style::Style;

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

    /// Writes what comes after the last row; `gaps`, and how many rows a limit left out, only if
    /// [`RowWriter::writes_gaps`].
    ///
    /// # Errors
    /// When the stream fails.
    fn finish(&mut self, out: &mut dyn Write, gaps: &[Json], left_out: Option<u64>) -> io::Result<()>;

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
