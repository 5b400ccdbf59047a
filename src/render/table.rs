//! A list as a table, written as it comes.
//!
//! Comes in: columns and rows. Goes out: lines. On a terminal the first rows decide the widths, later rows may be wider,
//! and the last column is cut at the edge; elsewhere cells are separated by one tab and nothing is cut or padded. Never
//! here: holding the whole table.

use std::io::{self, Write};

use crate::model::State;
use crate::model::column::{Column, Kind, Row, Value};
use crate::render::style::{self, Style};
use crate::render::value;

/// Rows that decide the widths.
const MEASURED_ROWS: usize = 1000;
/// The last column is cut at the edge only if so much of it stays; else the terminal wraps the line, as a process without its
/// pid is no answer.
const LEAST_CUT: usize = 24;
/// Buffered rows take the cells as one string with this between them; it cannot occur in a cell, as all text is clean.
const CELL_END: char = '\u{1f}';

/// Writes rows under a header.
pub struct TableWriter<'c> {
    columns: Vec<&'c Column>,
    style: Style,
    header: bool,
    widths: Vec<usize>,
    measured: Option<Vec<(String, State)>>,
    line: String,
    cells: String,
}

impl<'c> TableWriter<'c> {
    #[must_use]
    pub fn new(columns: Vec<&'c Column>, style: Style, header: bool) -> TableWriter<'c> {
        let widths = columns.iter().map(|c| if header { c.name.len() } else { 0 }).collect();
        TableWriter {
            columns,
            style,
            header,
            widths,
            measured: style.width.is_some().then(Vec::new),
            line: String::new(),
            cells: String::new(),
        }
    }

    /// Takes one row.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        if self.style.width.is_none() {
            return self.plain_row(out, row);
        }
        self.cells.clear();
        for (i, column) in self.columns.iter().enumerate() {
            let start = self.cells.len();
            value::write_human(&mut self.cells, column.kind, &(column.get)(row));
            if self.measured.is_some() {
                self.widths[i] = self.widths[i].max(width(&self.cells[start..]));
            }
            self.cells.push(CELL_END);
        }
        if let Some(rows) = &mut self.measured {
            rows.push((self.cells.clone(), row.socket.state));
            return if rows.len() >= MEASURED_ROWS { self.release(out) } else { Ok(()) };
        }
        let cells = std::mem::take(&mut self.cells);
        let result = self.aligned(out, &cells, Some(row.socket.state));
        self.cells = cells;
        result
    }

    fn plain_row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        if std::mem::take(&mut self.header) {
            let names: Vec<String> = self.columns.iter().map(|c| c.name.to_ascii_uppercase()).collect();
            writeln!(out, "{}", names.join("\t"))?;
        }
        self.line.clear();
        for (i, column) in self.columns.iter().enumerate() {
            if i > 0 {
                self.line.push('\t');
            }
            value::write_human(&mut self.line, column.kind, &(column.get)(row));
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }

    /// Writes what was held back to measure it.
    fn release(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let Some(rows) = self.measured.take() else { return Ok(()) };
        if std::mem::take(&mut self.header) {
            let mut names = String::new();
            for column in &self.columns {
                names.push_str(&column.name.to_ascii_uppercase());
                names.push(CELL_END);
            }
            self.aligned(out, &names, None)?;
        }
        for (cells, state) in rows {
            self.aligned(out, &cells, Some(state))?;
        }
        Ok(())
    }

    /// One line, padded; `state` is `None` for the header.
    fn aligned(&mut self, out: &mut dyn Write, cells: &str, state: Option<State>) -> io::Result<()> {
        let edge = self.style.width.unwrap_or(usize::MAX);
        self.line.clear();
        let mut used = 0;
        let last = self.columns.len().saturating_sub(1);
        for (i, cell) in cells.split_terminator(CELL_END).enumerate() {
            if i > 0 {
                self.line.push(' ');
                used += 1;
            }
            let len = width(cell);
            let pad = self.widths[i].saturating_sub(len);
            let right = self.columns[i].kind.is_numeric();
            if right {
                self.line.extend(std::iter::repeat_n(' ', pad));
            }
            let room = edge.saturating_sub(used);
            if i == last && i > 0 && len > room && room >= LEAST_CUT {
                self.line.extend(cell.chars().take(room - 1));
                self.line.push('…');
            } else {
                match state {
                    Some(s) if self.columns[i].kind == Kind::State => {
                        self.line.push_str(&self.style.paint(style::state(s), cell));
                    }
                    None => self.line.push_str(&self.style.heading(cell)),
                    _ => self.line.push_str(cell),
                }
            }
            if !right && i < last {
                self.line.extend(std::iter::repeat_n(' ', pad));
            }
            used += len.max(self.widths[i]);
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }

    /// Ends the table; without a row only the header is written.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.style.width.is_some() {
            return self.release(out);
        }
        if std::mem::take(&mut self.header) {
            let names: Vec<String> = self.columns.iter().map(|c| c.name.to_ascii_uppercase()).collect();
            writeln!(out, "{}", names.join("\t"))?;
        }
        Ok(())
    }
}

/// Columns of text on a terminal, for the text that reaches us: addresses, numbers and clean names.
fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// The cell of one column for people.
#[must_use]
pub fn cell(column: &Column, row: &Row<'_>) -> String {
    let mut out = String::new();
    let value: Value<'_> = (column.get)(row);
    value::write_human(&mut out, column.kind, &value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::column::{NoNames, find};
    use crate::model::{Endpoint, OwnerTable, Socket};

    fn render(style: Style, rows: usize) -> String {
        let columns = ["state", "recv-q", "local", "process"].map(|n| find(n).unwrap()).to_vec();
        let mut table = TableWriter::new(columns, style, true);
        let mut out = Vec::new();
        let owners = OwnerTable::default();
        for i in 0..rows {
            let socket = Socket {
                state: if i % 2 == 0 { State::Listen } else { State::CloseWait },
                recv_q_bytes: u32::try_from(i * 1000).unwrap(),
                local: Endpoint::new("10.0.0.1".parse().unwrap(), 80),
                ..Socket::default()
            };
            table.row(&mut out, &Row::new(&socket, &owners, &NoNames)).unwrap();
        }
        table.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn on_a_terminal_columns_are_aligned_and_lines_end_without_blanks() {
        let text = render(Style { color: false, width: Some(80) }, 2);
        assert_eq!(
            text,
            "STATE      RECV-Q LOCAL       PROCESS\n\
             LISTEN          0 10.0.0.1:80 -\n\
             CLOSE_WAIT   1000 10.0.0.1:80 -\n"
        );
        let owner = "(not accepted by anybody, for a very long time)";
        let mut table = TableWriter::new(
            vec![find("state").unwrap(), find("congestion").unwrap()],
            Style { color: false, width: Some(40) },
            false,
        );
        let mut out = Vec::new();
        table.widths = vec![6, 0];
        table.aligned(&mut out, &format!("LISTEN{CELL_END}{owner}{CELL_END}"), Some(State::Listen)).unwrap();
        let cut = String::from_utf8(out).unwrap();
        assert_eq!(cut.trim_end().chars().count(), 40, "{cut}");
    }

    #[test]
    fn elsewhere_nothing_is_padded() {
        assert_eq!(
            render(Style::PLAIN, 2),
            "STATE\tRECV-Q\tLOCAL\tPROCESS\nLISTEN\t0\t10.0.0.1:80\t-\nCLOSE_WAIT\t1000\t10.0.0.1:80\t-\n"
        );
    }

    #[test]
    fn long_tables_stream_after_the_measured_rows() {
        let text = render(Style { color: false, width: Some(80) }, 2 * MEASURED_ROWS);
        assert_eq!(text.lines().count(), 2 * MEASURED_ROWS + 1);
    }
}
