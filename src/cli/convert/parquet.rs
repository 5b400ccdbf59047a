//! Rows as Parquet: a column for each of `list --list-columns`, typed where it is a number or a flag.
//!
//! Input: rows, one at a time. Output: a file in groups of rows, compressed, with a schema that does not depend on what is in it. Not
//! here: which rows, and in which file.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type as SchemaType, TypePtr};

use crate::model::column::{COLUMNS, Column, Row, Type, Value};
use crate::render::value;

/// Rows that are kept until they are written: some 20 MB.
const GROUP: usize = 20_000;
/// The level of the captures.
const LEVEL: i32 = 3;

/// What the cells of a column are. Every one may be null: unknown, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cells {
    /// Milliseconds since the epoch, UTC.
    Time,
    Number,
    Flag,
    Text,
}

/// A column of the file, and what it shows.
struct Field {
    name: String,
    cells: Cells,
    shows: Shows,
}

#[derive(Clone, Copy)]
enum Shows {
    TakenAt,
    Host,
    Value(&'static Column),
    /// The ends of an age that is not exact.
    Least(&'static Column),
    Most(&'static Column),
}

/// The columns of the file, in their order; names are the keys of JSON.
fn fields() -> Vec<Field> {
    let field = |name: &str, cells, shows| Field { name: name.to_owned(), cells, shows };
    let mut fields = vec![field("taken_at", Cells::Time, Shows::TakenAt), field("host", Cells::Text, Shows::Host)];
    for column in COLUMNS.iter().filter(|column| column.name != "host") {
        let key = column.json.key;
        match column.json.ty {
            Type::Age => {
                let stem = key.strip_suffix("_ms").unwrap_or(key);
                fields.push(field(&format!("{stem}_min_ms"), Cells::Number, Shows::Least(column)));
                fields.push(field(&format!("{stem}_max_ms"), Cells::Number, Shows::Most(column)));
            }
            Type::Integer | Type::Port => fields.push(field(key, Cells::Number, Shows::Value(column))),
            Type::Flag => fields.push(field(key, Cells::Flag, Shows::Value(column))),
            // A list has spaces between its values, as in CSV.
            _ => fields.push(field(key, Cells::Text, Shows::Value(column))),
        }
    }
    fields
}

fn schema(fields: &[Field]) -> Result<TypePtr> {
    let one = |field: &Field| {
        let (physical, logical) = match field.cells {
            Cells::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
            Cells::Number => (Physical::INT64, None),
            Cells::Flag => (Physical::BOOLEAN, None),
            Cells::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let builder = SchemaType::primitive_type_builder(&field.name, physical);
        builder.with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build().map(Arc::new)
    };
    let all = fields.iter().map(one).collect::<Result<Vec<TypePtr>>>()?;
    SchemaType::group_type_builder("socket").with_fields(all).build().map(Arc::new)
}

enum Values {
    Numbers(Vec<i64>),
    Flags(Vec<bool>),
    Texts(Vec<ByteArray>),
}

/// What of a column waits to be written: its values, and for each row whether it has one.
struct Waiting {
    values: Values,
    present: Vec<i16>,
}

/// A file that is being written.
pub(super) struct Table {
    file: SerializedFileWriter<File>,
    fields: Vec<Field>,
    waiting: Vec<Waiting>,
    rows: usize,
    scratch: String,
}

impl Table {
    pub(super) fn begin(file: File) -> Result<Table> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(LEVEL)?);
        let properties = WriterProperties::builder().set_compression(compression).build();
        let fields = fields();
        let file = SerializedFileWriter::new(file, schema(&fields)?, Arc::new(properties))?;
        let waiting = |field: &Field| Waiting {
            values: match field.cells {
                Cells::Time | Cells::Number => Values::Numbers(Vec::new()),
                Cells::Flag => Values::Flags(Vec::new()),
                Cells::Text => Values::Texts(Vec::new()),
            },
            present: Vec::new(),
        };
        let waiting = fields.iter().map(waiting).collect();
        Ok(Table { file, fields, waiting, rows: 0, scratch: String::new() })
    }

    /// Adds a row.
    pub(super) fn row(&mut self, taken_at_ms: u64, host: &str, row: &Row<'_>) -> Result<()> {
        for (field, waiting) in self.fields.iter().zip(&mut self.waiting) {
            let is_present = match field.shows {
                Shows::TakenAt => waiting.number(Some(taken_at_ms)),
                Shows::Host => waiting.text(host),
                Shows::Value(column) => waiting.value(column, &(column.get)(row), &mut self.scratch),
                Shows::Least(column) => waiting.number(age(column, row).map(|(least, _)| least)),
                Shows::Most(column) => waiting.number(age(column, row).and_then(|(_, most)| most)),
            };
            waiting.present.push(i16::from(is_present));
        }
        self.rows += 1;
        if self.rows == GROUP { self.write() } else { Ok(()) }
    }

    /// Writes the rows that wait.
    fn write(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for Waiting { values, present } in &mut self.waiting {
            let Some(mut column) = group.next_column()? else { break };
            match values {
                Values::Numbers(list) => {
                    column.typed::<Int64Type>().write_batch(list, Some(present), None)?;
                    list.clear();
                }
                Values::Flags(list) => {
                    column.typed::<BoolType>().write_batch(list, Some(present), None)?;
                    list.clear();
                }
                Values::Texts(list) => {
                    column.typed::<ByteArrayType>().write_batch(list, Some(present), None)?;
                    list.clear();
                }
            }
            present.clear();
            column.close()?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// Ends the file: without its end nobody can read it.
    pub(super) fn end(mut self) -> Result<()> {
        self.write()?;
        self.file.close().map(drop)
    }
}

impl Waiting {
    fn number(&mut self, number: Option<u64>) -> bool {
        let (Values::Numbers(list), Some(number)) = (&mut self.values, number.and_then(|n| i64::try_from(n).ok()))
        else {
            return false;
        };
        list.push(number);
        true
    }

    fn text(&mut self, text: &str) -> bool {
        let (Values::Texts(list), false) = (&mut self.values, text.is_empty()) else { return false };
        list.push(ByteArray::from(text));
        true
    }

    fn value(&mut self, column: &Column, value: &Value<'_>, scratch: &mut String) -> bool {
        match (&mut self.values, value) {
            (Values::Numbers(_), Value::Number(n) | Value::Named(n, _)) => self.number(Some(*n)),
            (Values::Flags(list), Value::Flag(flag)) => {
                list.push(*flag);
                true
            }
            (Values::Texts(_), value) => {
                scratch.clear();
                value::write_raw(scratch, column.kind, value);
                self.text(scratch)
            }
            _ => false,
        }
    }
}

fn age(column: &Column, row: &Row<'_>) -> Option<(u64, Option<u64>)> {
    match (column.get)(row) {
        Value::Age(age) => Some((age.min_ms, age.max_ms)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field as Read;

    use super::*;
    use crate::collect::names::SystemNames;
    use crate::model::names::NameTable;
    use crate::model::{Endpoint, Holder, Inode, OwnerTable, Process, Socket, State};

    #[test]
    fn what_is_read_is_what_was_written_and_the_unknown_is_null() {
        let mut file = tempfile::tempfile().unwrap();
        let process = |pid, comm: &str| Process { pid, comm: comm.into(), ..Process::default() };
        let holder = |inode, process| Holder { inode: Inode::new(inode), process, fd: 3 };
        let owners = OwnerTable::new(vec![process(7, "a\"b"), process(8, "c")], vec![holder(1, 0), holder(2, 1)], 0);
        let names = SystemNames::recorded(NameTable::default()).on("web1");
        let mut table = Table::begin(file.try_clone().unwrap()).unwrap();
        // More than a group.
        let many = GROUP as u64 + 3;
        for n in 0..many {
            let socket = Socket {
                state: if n % 2 == 0 { State::Established } else { State::CloseWait },
                local: Endpoint::new("2001:db8::1".parse().unwrap(), 443),
                inode: Inode::new(1 + n % 3),
                recv_q_bytes: u32::try_from(n % 7).unwrap(),
                uid: (n % 5 != 0).then_some(33),
                ..Socket::default()
            };
            table.row(1_764_417_600_000 + n, "web1", &Row::new(&socket, &owners, &names)).unwrap();
        }
        table.end().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let kept: Vec<String> =
            reader.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.name().to_owned()).collect();
        assert_eq!(kept, fields().into_iter().map(|field| field.name).collect::<Vec<_>>());
        let (mut states, mut comms, mut without_user, mut rows) = (BTreeMap::new(), BTreeMap::new(), 0, 0u64);
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let get: BTreeMap<&String, &Read> = row.get_column_iter().collect();
            let at = |name: &str| get[&name.to_owned()].clone();
            assert_eq!(at("taken_at"), Read::TimestampMillis(1_764_417_600_000 + i64::try_from(rows).unwrap()));
            assert_eq!(at("recv_q_bytes"), Read::Long(i64::try_from(rows % 7).unwrap()));
            assert_eq!(at("rtt_us"), Read::Null, "nobody measured it");
            assert_eq!(at("local"), Read::Str("[2001:db8::1]:443".into()));
            *states.entry(at("state").to_string()).or_insert(0u64) += 1;
            *comms.entry(at("comms").to_string()).or_insert(0u64) += 1;
            without_user += u64::from(at("uid") == Read::Null);
            rows += 1;
        }
        assert_eq!((rows, without_user), (many, many.div_ceil(5)));
        let half = |name: &str| states[&format!("\"{name}\"")];
        assert_eq!((half("established"), half("close_wait")), (many.div_ceil(2), many / 2));
        assert_eq!(comms.len(), 3, "two processes, and none: {comms:?}");
    }
}
