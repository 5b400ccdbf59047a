//! The rows of `list` as JSON: one document, or one object per line (docs/json.md), written in blocks.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::columns::Projection;
use super::{Head, head, line, socket};
use crate::model::column::{Column, Group, Needs, Row, Type};
use crate::render::rows::{Listing, RowWriter};

/// What is needed beyond the columns: a whole socket has the identity of its owners and its age; TOS comes with
/// `-e`.
#[must_use]
pub fn needs(columns: &[&Column], chosen: bool) -> Needs {
    if !chosen {
        let tos = columns.iter().any(|column| column.group == Group::Extended);
        return Needs { age: true, tos, ..Needs::CGROUPS };
    }
    let owners = columns.iter().any(|column| matches!(column.json.ty, Type::Owners));
    if owners { Needs::CGROUPS } else { Needs::NONE }
}

/// Rows are written in blocks of about this size: each would otherwise be copied into the stream's own buffer.
const BLOCK_BYTES: usize = 64 * 1024;

/// One document.
#[must_use]
pub fn document(listing: Listing) -> Box<dyn RowWriter> {
    Box::new(Document { rows: RowBuffer::new(&listing), head: listing.head })
}

/// One object per line: `header`, `socket`..., `gap`..., `end`.
#[must_use]
pub fn lines(listing: Listing) -> Box<dyn RowWriter> {
    Box::new(JsonLines { rows: RowBuffer::new(&listing), head: listing.head })
}

/// The rows not yet written to the stream, and how many there were.
struct RowBuffer {
    written: u64,
    buffer: Vec<u8>,
    /// The columns of `-c`; without it sockets are written whole.
    chosen: Option<Projection>,
    /// Whether they are of several hosts, which the rows name then.
    of_hosts: bool,
}

impl RowBuffer {
    fn new(listing: &Listing) -> RowBuffer {
        let chosen = listing.chosen.then(|| Projection::new(&listing.columns));
        let of_hosts = !listing.head.hosts.is_empty();
        RowBuffer { written: 0, buffer: Vec::with_capacity(BLOCK_BYTES + 4096), chosen, of_hosts }
    }

    /// Appends one object, with its `type` first if it has a line of its own.
    fn push(&mut self, kind: Option<&'static str>, row: &Row<'_>) -> io::Result<()> {
        self.written += 1;
        match &self.chosen {
            None => socket::write(&mut self.buffer, kind, self.of_hosts, row),
            Some(columns) => columns.write(&mut self.buffer, kind, row),
        }
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
    rows: RowBuffer,
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
        rows.push(None, row)?;
        rows.pass_on(BLOCK_BYTES, out)
    }

    fn finish(&mut self, out: &mut dyn Write, all_gaps: &[Json], left_out: Option<u64>) -> io::Result<()> {
        self.rows.pass_on(0, out)?;
        let total = self.rows.written + left_out.unwrap_or(0);
        write!(out, "\n],\"total\":{total},\"gaps\":{}", json!(all_gaps))?;
        if let Some(left_out) = left_out {
            write!(out, ",\"left_out\":{{\"sockets\":{left_out}}}")?;
        }
        out.write_all(b"}\n")
    }

    fn writes_gaps(&self) -> bool {
        true
    }
}

struct JsonLines {
    head: Head,
    rows: RowBuffer,
}

impl RowWriter for JsonLines {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        line(out, "header", head(&self.head))
    }

    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        let rows = &mut self.rows;
        rows.push(Some("socket"), row)?;
        rows.buffer.push(b'\n');
        rows.pass_on(BLOCK_BYTES, out)
    }

    /// Ends with the gaps and the total, so that a reader knows the stream was complete.
    fn finish(&mut self, out: &mut dyn Write, all_gaps: &[Json], left_out: Option<u64>) -> io::Result<()> {
        self.rows.pass_on(0, out)?;
        for gap in all_gaps {
            if let Json::Object(map) = gap {
                line(out, "gap", map.clone())?;
            }
        }
        let mut map = Map::new();
        map.insert("total".into(), json!(self.rows.written + left_out.unwrap_or(0)));
        if let Some(left_out) = left_out {
            map.insert("left_out".into(), json!({ "sockets": left_out }));
        }
        line(out, "end", map)
    }

    fn writes_gaps(&self) -> bool {
        true
    }
}
