//! A list as a table, written as it arrives.
//!
//! The first rows decide the widths, and a wider cell of a later row moves what follows it. On a terminal text is cut at
//! the edge; numbers and addresses never are, nor a process before its pid: the terminal wraps such a line. Of many processes
//! those that do not fit are counted. Elsewhere nothing is cut.

use std::io::{self, Write};

use serde_json::Value as Json;

use crate::model::State;
use crate::model::column::{Column, Kind, Row, Value};
use crate::model::pattern;
use crate::render::rows::{Listing, RowWriter};
use crate::render::style::{self, Style};
use crate::render::value;
use crate::text::{shorten_end, width};

/// Rows that decide the widths.
const MEASURED_ROWS: usize = 1000;
/// Minimum width of a last column of text, whatever the edge: a process with its pid.
const LAST_MIN: usize = 24;
/// Minimum width of a column of text.
const TEXT_MIN: usize = 10;
/// Buffered rows keep their cells as one string, separated by this; it cannot occur in a cell, because all text is
/// sanitised.
const CELL_END: char = '\u{1f}';

/// A block of spaces: a copy of fixed length is one instruction.
const SPACES: &str = "                ";

/// What a row of a table shows by colour, beside its cells.
#[derive(Clone, Copy)]
struct Mark {
    state: State,
    full_queue: bool,
}

impl Mark {
    fn of(row: &Row<'_>) -> Mark {
        Mark { state: row.socket.state, full_queue: row.socket.has_full_accept_queue() }
    }
}

/// Rows as a table.
#[must_use]
pub fn rows(listing: Listing) -> Box<dyn RowWriter> {
    Box::new(TableWriter::new(listing.columns, listing.style, listing.header))
}

/// Writes rows under a header.
struct TableWriter {
    columns: Vec<&'static Column>,
    style: Style,
    header: bool,
    widths: Vec<usize>,
    measured: Option<Vec<(String, Mark)>>,
    line: String,
    cells: String,
}

impl TableWriter {
    fn new(columns: Vec<&'static Column>, style: Style, header: bool) -> TableWriter {
        let widths = columns.iter().map(|c| if header { c.name.len() } else { 0 }).collect();
        TableWriter {
            columns,
            style,
            header,
            widths,
            measured: Some(Vec::new()),
            line: String::new(),
            cells: String::new(),
        }
    }

    /// Writes what was held back to measure it.
    fn release(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let Some(rows) = self.measured.take() else { return Ok(()) };
        self.narrow();
        if std::mem::take(&mut self.header) {
            let mut names = String::new();
            for column in &self.columns {
                names.push_str(&column.name.to_ascii_uppercase());
                names.push(CELL_END);
            }
            self.aligned(out, &names, None)?;
        }
        for (cells, mark) in rows {
            self.aligned(out, &cells, Some(mark))?;
        }
        Ok(())
    }

    /// Narrows the columns of text, the widest first, until lines fit.
    fn narrow(&mut self) {
        let Some(last) = self.columns.len().checked_sub(1) else { return };
        let edge = self.style.width.unwrap_or(usize::MAX);
        let wanted = |widths: &[usize]| {
            let end = if may_cut(self.columns[last]) { widths[last].min(LAST_MIN) } else { widths[last] };
            widths[..last].iter().sum::<usize>() + last + end
        };
        while wanted(&self.widths) > edge {
            let wide = (0..last).filter(|i| may_cut(self.columns[*i]) && self.widths[*i] > TEXT_MIN);
            let Some(widest) = wide.max_by_key(|i| self.widths[*i]) else { return };
            self.widths[widest] -= 1;
        }
    }

    /// One line, padded; `mark` is `None` for the header.
    fn aligned(&mut self, out: &mut dyn Write, cells: &str, mark: Option<Mark>) -> io::Result<()> {
        let edge = self.style.width.unwrap_or(usize::MAX);
        self.line.clear();
        let mut used = 0;
        let last = self.columns.len().saturating_sub(1);
        let lens = cells.split_terminator(CELL_END).map(width);
        // Where nothing is cut it is not summed up.
        let total = match self.style.width {
            Some(_) => last + lens.zip(&self.widths).map(|(len, width)| len.max(*width)).sum::<usize>(),
            None => 0,
        };
        for (i, cell) in cells.split_terminator(CELL_END).enumerate() {
            if i > 0 {
                self.line.push(' ');
                used += 1;
            }
            let column = self.columns[i];
            let room = if i == last { edge.saturating_sub(used).max(LAST_MIN) } else { self.widths[i] };
            let is_long = total > edge && may_cut(column) && width(cell) > room;
            let whole = || if column.name == "process" { whole_processes(cell, room) } else { None };
            let cut = is_long.then(|| whole().unwrap_or_else(|| shorten_end(cell, room)));
            let cell = cut.as_deref().unwrap_or(cell);
            let len = width(cell);
            let pad = self.widths[i].saturating_sub(len);
            let right = column.kind.is_numeric();
            if right {
                self.line.extend(std::iter::repeat_n(' ', pad));
            }
            match mark {
                Some(mark) if self.style.color && column.kind == Kind::State => {
                    self.line.push_str(&self.style.paint(style::state(mark.state), cell));
                }
                Some(Mark { full_queue: true, .. }) if is_queue(column) => {
                    self.line.push_str(&self.style.paint(style::FULL, cell));
                }
                None => self.line.push_str(&self.style.heading(cell)),
                _ => self.line.push_str(cell),
            }
            if !right && i < last {
                self.line.extend(std::iter::repeat_n(' ', pad));
            }
            used += len.max(self.widths[i]);
        }
        self.line.push('\n');
        out.write_all(self.line.as_bytes())
    }

    /// One line of a row that is neither cut nor coloured, each cell written in its place. False if a byte is not a column,
    /// and the line is of no use: not all of it is ASCII.
    fn streamed(&mut self, row: &Row<'_>) -> bool {
        let line = &mut self.line;
        line.clear();
        let last = self.columns.len().saturating_sub(1);
        for (i, (column, width)) in self.columns.iter().zip(&self.widths).enumerate() {
            if i > 0 {
                line.push(' ');
            }
            let start = line.len();
            if column.kind.is_numeric() {
                // Most numbers have one digit. What a longer one takes of the padding is taken out again.
                let room = width.saturating_sub(1);
                push_spaces(line, room);
                write_cell(line, column, row);
                let over = (line.len() - start).saturating_sub(*width).min(room);
                line.drain(start..start + over);
            } else {
                write_cell(line, column, row);
                if i < last {
                    push_spaces(line, width.saturating_sub(line.len() - start));
                }
            }
        }
        line.push('\n');
        line.is_ascii()
    }
}

impl RowWriter for TableWriter {
    /// The header waits for the rows that decide the widths.
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
        if self.measured.is_none() && self.style == Style::PLAIN && self.streamed(row) {
            return out.write_all(self.line.as_bytes());
        }
        self.cells.clear();
        for (i, column) in self.columns.iter().enumerate() {
            let start = self.cells.len();
            write_cell(&mut self.cells, column, row);
            if self.measured.is_some() {
                self.widths[i] = self.widths[i].max(width(&self.cells[start..]));
            }
            self.cells.push(CELL_END);
        }
        if let Some(rows) = &mut self.measured {
            rows.push((self.cells.clone(), Mark::of(row)));
            return if rows.len() >= MEASURED_ROWS { self.release(out) } else { Ok(()) };
        }
        let cells = std::mem::take(&mut self.cells);
        let result = self.aligned(out, &cells, Some(Mark::of(row)));
        self.cells = cells;
        result
    }

    /// Without a row only the header is written.
    fn finish(&mut self, out: &mut dyn Write, _: &[Json], _: Option<u64>) -> io::Result<()> {
        self.release(out)
    }
}

/// A cell. Of the ids in labels of containers and pods it has the digits that runtimes print.
fn write_cell(out: &mut String, column: &Column, row: &Row<'_>) {
    let start = out.len();
    value::write_human(out, column.kind, &(column.get)(row));
    if is_label(column) && out.len() - start > pattern::SHORT_ID {
        let short: Vec<&str> = out[start..].split(',').map(pattern::shortened).collect();
        let short = short.join(",");
        out.replace_range(start.., &short);
    }
}

/// Whether the column has a name, or an id where there is none.
fn is_label(column: &Column) -> bool {
    matches!(column.name, "container" | "pod")
}

fn push_spaces(line: &mut String, count: usize) {
    let end = line.len() + count;
    while line.len() < end {
        line.push_str(SPACES);
    }
    line.truncate(end);
}

/// Whether the column shows the fill or the limit of an accept queue.
fn is_queue(column: &Column) -> bool {
    matches!(column.name, "recv-q" | "send-q")
}

/// Whether a cell of this column may be cut: a number without some of its digits would be another number.
fn may_cut(column: &Column) -> bool {
    column.kind == Kind::Text
}

/// Of several processes those that have room, each whole, and how many descriptors there are besides: `nginx(812,fd=5) +3`.
/// `None` where not even one has room, or they are not processes.
fn whole_processes(cell: &str, room: usize) -> Option<String> {
    let ends: Vec<usize> = cell.match_indices(") ").map(|(at, _)| at + 1).collect();
    let parts = ends.iter().map(|end| &cell[..*end]).enumerate();
    parts.map(|(i, part)| format!("{part} +{}", ends.len() - i)).rfind(|text| width(text) <= room)
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
    use crate::model::{Endpoint, Holder, Inode, OwnerTable, Process, Socket};

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
        table.finish(&mut out, &[], None).unwrap();
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
    }

    #[test]
    fn words_are_cut_at_the_edge_and_numbers_and_addresses_never() {
        let columns = ["state", "recv-q", "peer", "process"].map(|n| find(n).unwrap()).to_vec();
        let holders: Vec<Holder> = (0..9).map(|fd| Holder { inode: Inode::new(7), process: 0, fd }).collect();
        let process = Process { pid: 4711, comm: "a-long-name".into(), ..Process::default() };
        let owners = OwnerTable::new(vec![process], holders, 0);
        let socket = Socket {
            state: State::Established,
            recv_q_bytes: u32::MAX,
            peer: Endpoint::new("2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(), 443),
            inode: Inode::new(7),
            shutdown: Some(0),
            ..Socket::default()
        };
        for edge in [60, 80, 100, 120] {
            let mut table = TableWriter::new(columns.clone(), Style { color: false, width: Some(edge) }, false);
            let mut out = Vec::new();
            table.row(&mut out, &Row::new(&socket, &owners, &NoNames)).unwrap();
            table.finish(&mut out, &[], None).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(
                text.contains(" 4294967295 [2001:db8:1111:2222:3333:4444:5555:6666]:443 a-long-name(4711,"),
                "{text}"
            );
            let len = text.trim_end().chars().count();
            assert!(len <= edge.max(68 + LAST_MIN), "{edge}: {text}");
        }
    }

    #[test]
    fn processes_without_room_are_counted_and_the_others_are_whole() {
        let cell = "nginx(9714,fd=5) nginx(9716,fd=5) nginx(9717,fd=5)";
        for (room, shown) in [
            (49, Some("nginx(9714,fd=5) nginx(9716,fd=5) +1")),
            (36, Some("nginx(9714,fd=5) nginx(9716,fd=5) +1")),
            (35, Some("nginx(9714,fd=5) +2")),
            (19, Some("nginx(9714,fd=5) +2")),
            (18, None),
        ] {
            assert_eq!(whole_processes(cell, room).as_deref(), shown, "{room}");
        }
        assert_eq!(whole_processes("nginx(9714,fd=5)", 8), None);
        assert_eq!(whole_processes("(no permission)", 8), None);
    }

    #[test]
    fn in_a_pipe_columns_are_aligned_too() {
        assert_eq!(render(Style::PLAIN, 2), render(Style { color: false, width: Some(80) }, 2));
    }

    #[test]
    fn a_full_accept_queue_is_painted_and_keeps_its_numbers() {
        let columns = ["state", "recv-q", "send-q"].map(|n| find(n).unwrap()).to_vec();
        let owners = OwnerTable::default();
        let row = |color, recv_q_bytes| {
            let mut table = TableWriter::new(columns.clone(), Style { color, width: None }, false);
            let mut out = Vec::new();
            let socket = Socket { state: State::Listen, recv_q_bytes, send_q_bytes: Some(5), ..Socket::default() };
            table.row(&mut out, &Row::new(&socket, &owners, &NoNames)).unwrap();
            table.finish(&mut out, &[], None).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(row(false, 6), "LISTEN 6 5\n");
        let full = format!("{}6{}", style::FULL.render(), style::FULL.render_reset());
        assert!(row(true, 6).contains(&full) && !row(true, 5).contains(&full[..5]), "{:?}", row(true, 5));
    }

    #[test]
    fn a_row_that_streams_is_the_same_as_one_that_is_measured() {
        let columns = ["process", "recv-q", "state", "send-q", "local"].map(|n| find(n).unwrap()).to_vec();
        let process = |comm: &str| Process { pid: 7, comm: comm.into(), ..Process::default() };
        let holders = [1, 2].map(|n| Holder { inode: Inode::new(n), process: u32::try_from(n - 1).unwrap(), fd: 3 });
        let owners = OwnerTable::new(vec![process("server"), process("sérvér")], holders.to_vec(), 0);
        let lines = |width, rows: &mut dyn Iterator<Item = u32>| {
            let mut table = TableWriter::new(columns.clone(), Style { color: false, width }, true);
            let mut out = Vec::new();
            for n in rows {
                let socket = Socket {
                    state: if n % 3 == 0 { State::Established } else { State::CloseWait },
                    recv_q_bytes: 7u32.saturating_pow(n % 13),
                    send_q_bytes: (n % 5 > 0).then_some(n % 17),
                    local: Endpoint::new("10.0.0.1".parse().unwrap(), u16::try_from(n * 31).unwrap()),
                    inode: Inode::new(u64::from(n % 4)),
                    shutdown: Some(0),
                    ..Socket::default()
                };
                table.row(&mut out, &Row::new(&socket, &owners, &NoNames)).unwrap();
            }
            table.finish(&mut out, &[], None).unwrap();
            String::from_utf8(out).unwrap()
        };
        // The widths are those of narrow rows at first, and then of all kinds of rows.
        for first in [1, 13] {
            let rows = || (0..MEASURED_ROWS).map(|n| u32::try_from(n % first).unwrap()).chain(0..200);
            let (streamed, measured) = (lines(None, &mut rows()), lines(Some(10_000), &mut rows()));
            assert!(streamed.contains("sérvér") && streamed.contains(" 4294967295 "), "{streamed}");
            assert!(streamed == measured, "{first}");
        }
    }

    #[test]
    fn long_tables_stream_after_the_measured_rows() {
        let text = render(Style { color: false, width: Some(80) }, 2 * MEASURED_ROWS);
        assert_eq!(text.lines().count(), 2 * MEASURED_ROWS + 1);
    }
}
