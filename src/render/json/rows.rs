//! The rows of `list` as JSON: one document, or one object per line.
//!
//! Input: rows. Output: what docs/json.md promises, in blocks. Not here: the keys of a socket.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::{Head, gaps, head, line, socket};
use crate::model::Gap;
use crate::model::column::{Needs, Row};
use crate::render::rows::{Listing, RowWriter};

/// What a whole socket has beyond the columns.
pub const NEEDS: Needs = Needs { age: true, ..Needs::CGROUPS };

/// Rows are written in blocks of about this size: each would otherwise be copied into the stream's own buffer.
const BLOCK_BYTES: usize = 64 * 1024;

/// One document.
#[must_use]
pub fn document(listing: Listing) -> Box<dyn RowWriter> {
    Box::new(Document { head: listing.head, rows: Rows::new() })
}

/// One object per line: `header`, `socket`..., `gap`..., `end`.
#[must_use]
pub fn lines(listing: Listing) -> Box<dyn RowWriter> {
    Box::new(Lines { head: listing.head, rows: Rows::new() })
}

/// The rows that are not in the stream yet, and how many there were.
struct Rows {
    written: u64,
    buffer: Vec<u8>,
}

impl Rows {
    fn new() -> Rows {
        Rows { written: 0, buffer: Vec::with_capacity(BLOCK_BYTES + 4096) }
    }

    /// Writes the buffer once it holds this many bytes.
    fn pass_on(&mut self, from: usize, out: &mut dyn Write) -> io::Result<()> {
        if self.buffer.len() >= from {
            out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

struct Document {
    head: Head,
    rows: Rows,
}

impl RowWriter for Document {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = serde_json::to_string(&self.head)?;
        text.pop();
        out.write_all(text.as_bytes())?;
        out.write_all(b",\"sockets\":[")
    }

    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        let rows = &mut self.rows;
        rows.buffer.extend_from_slice(if rows.written > 0 { b",\n" } else { b"\n" });
        socket::write(&mut rows.buffer, None, row)?;
        rows.written += 1;
        rows.pass_on(BLOCK_BYTES, out)
    }

    fn finish(&mut self, out: &mut dyn Write, all_gaps: &[Gap]) -> io::Result<()> {
        self.rows.pass_on(0, out)?;
        writeln!(out, "\n],\"total\":{},\"gaps\":{}}}", self.rows.written, gaps(all_gaps))
    }

    fn writes_gaps(&self) -> bool {
        true
    }
}

struct Lines {
    head: Head,
    rows: Rows,
}

impl RowWriter for Lines {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        line(out, "header", head(&self.head))
    }

    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        let rows = &mut self.rows;
        socket::write(&mut rows.buffer, Some("socket"), row)?;
        rows.buffer.push(b'\n');
        rows.written += 1;
        rows.pass_on(BLOCK_BYTES, out)
    }

    /// Ends with the gaps and the total, by which a reader knows that the stream was complete.
    fn finish(&mut self, out: &mut dyn Write, all_gaps: &[Gap]) -> io::Result<()> {
        self.rows.pass_on(0, out)?;
        for gap in all_gaps {
            let Json::Array(mut one) = gaps(std::slice::from_ref(gap)) else { continue };
            if let Some(Json::Object(map)) = one.pop() {
                line(out, "gap", map)?;
            }
        }
        let mut map = Map::new();
        map.insert("total".into(), json!(self.rows.written));
        line(out, "end", map)
    }

    fn writes_gaps(&self) -> bool {
        true
    }
}
