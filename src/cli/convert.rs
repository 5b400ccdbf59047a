//! `tcpstate convert`: every row of a recording, for programs that read tables.
//!
//! Input: a recording. Output: JSON lines or CSV, on standard output or in folders by host and day. Not here: what a row has (`render`).

#[cfg(feature = "parquet")]
mod parquet;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json, json};

use crate::cli::args::{Origin, Replay, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::history;
use crate::cli::stretch::{Range, Stretch};
use crate::cli::{parse, select};
use crate::collect::names::SystemNames;
use crate::filter::Expr;
use crate::model::Snapshot;
use crate::model::column::{COLUMNS, Row};
use crate::render::rows::{Listing, RowWriter};
use crate::render::style::Style;
use crate::render::{csv, json as out, sanitize};
use crate::text;

const EXAMPLES: &str = "\
Examples:
  tcpstate convert now.tcps.zst --to csv > rows.csv            every socket of every snapshot
  tcpstate convert captures/ --to jsonl -o rows/               in folders: rows/host=web3/date=2026-11-29/captures.jsonl
  tcpstate convert captures/ --to parquet -o rows/             the same for DuckDB, ClickHouse, Spark, polars
  tcpstate convert now.tcps.zst --to jsonl --since 10m --interval 10s state established
  duckdb -c \"select host, state, count(*) from read_json('rows/**/*.jsonl') group by all\"

A row has `taken_at` and `host`, and then what `list --json` has of a socket, or in CSV every column of `list --list-columns`; so
has Parquet, typed (docs/capture.md).

Exit codes: 0 done, 2 wrong usage, or nothing could be read or written.";

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// One JSON object per row
    Jsonl,
    /// A header, and comma-separated values (RFC 4180)
    Csv,
    /// Apache Parquet, compressed, in the folder of -o
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Target {
    const fn extension(self) -> &'static str {
        match self {
            Target::Jsonl => "jsonl",
            Target::Csv => "csv",
            #[cfg(feature = "parquet")]
            Target::Parquet => "parquet",
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ConvertArgs {
    /// A recording, or a folder of recordings, which may be of several hosts
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub selection: Selection,
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pub to: Target,
    /// Write below this folder, in host=NAME/date=YYYY-MM-DD [default: standard output]
    #[arg(long, short = 'o', value_name = "DIR", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Leave out snapshots that come sooner after the one before
    #[arg(long, short = 'i', value_name = "TIME", value_parser = parse::interval, help_heading = "Source")]
    pub interval: Option<Duration>,
    #[command(flatten)]
    pub range: Range,
}

pub(crate) fn run(args: &ConvertArgs, env: &mut Env) -> anyhow::Result<Exit> {
    #[cfg(feature = "parquet")]
    if args.to == Target::Parquet && args.output.is_none() {
        bail!("--to parquet writes files; give -o DIR");
    }
    let (stretches, mut notes) = Stretch::open_all(&Replay::of(&args.file), args.range)?;
    let mut folders = args.output.as_ref().map(|folder| Folders::below(folder, &args.file, args.to));
    let mut to_stdout = Rows::new(args.to, env.width);
    let (mut rows, mut snapshots) = (0u64, 0u64);
    for mut stretch in stretches {
        // A name in a filter is a number of this host.
        let names = stretch.names().map(SystemNames::recorded).unwrap_or_default();
        let filter = select::of_command_line(&args.selection, &Origin::default(), &names, env)?;
        if filter.is_kernel_only() {
            bail!("filter: only the kernel knows `autobound`, and a recording is filtered here");
        }
        while let Some(recorded) = stretch.next(args.interval.unwrap_or_default())? {
            let snapshot = recorded.snapshot;
            let names = SystemNames::recorded(recorded.names).on(&snapshot.host);
            snapshots += 1;
            rows += match &mut folders {
                Some(folders) => {
                    folders.of(&snapshot)?.write(&snapshot, &names, &filter).with_context(|| "cannot write rows")?
                }
                None => to_stdout.write(&mut env.stdout, &snapshot, &names, &filter)?,
            };
        }
        notes.extend(stretch.note());
        if let Some(folders) = &mut folders {
            folders.end_all_but(0)?;
        }
    }
    if let Some(folders) = folders {
        let files = folders.finish()?;
        let (rows, files) = (text::count(rows, "row", "rows"), text::count(files, "file", "files"));
        let snapshots = text::count(snapshots, "snapshot", "snapshots");
        writeln!(env.stderr, "tcpstate: wrote {rows} of {snapshots} to {files}")?;
    }
    for note in notes {
        env.note(&note)?;
    }
    Ok(Exit::Done)
}

/// What writes the rows of one file.
struct Rows {
    target: Target,
    csv: Box<dyn RowWriter>,
    on_terminal: bool,
    begun: bool,
}

impl Rows {
    /// `width`: that of the terminal that reads them.
    fn new(target: Target, width: Option<usize>) -> Rows {
        let listing = Listing {
            // CSV has none.
            head: out::Head {
                schema: out::SCHEMA,
                command: "convert",
                version: env!("CARGO_PKG_VERSION"),
                taken_at: String::new(),
                host: None,
                kernel: None,
                source: "",
                netns: None,
                hosts: Vec::new(),
            },
            // It comes first, beside the time.
            columns: COLUMNS.iter().filter(|column| column.name != "host").collect(),
            chosen: true,
            style: Style { width, ..Style::PLAIN },
            header: true,
        };
        Rows { target, csv: csv::rows(listing), on_terminal: width.is_some(), begun: false }
    }

    /// Writes the rows of a snapshot that match, and returns how many.
    fn write(
        &mut self,
        file: &mut dyn Write,
        snapshot: &Snapshot,
        names: &SystemNames,
        filter: &Expr,
    ) -> std::io::Result<u64> {
        let taken_at = text::timestamp(snapshot.taken_at_ms).unwrap_or_default().to_string();
        let mut host = String::new();
        let name = if self.on_terminal { sanitize::clean(&snapshot.host) } else { snapshot.host.as_str().into() };
        csv::push_cell(&mut host, &name);
        if self.target == Target::Csv && !std::mem::replace(&mut self.begun, true) {
            write!(file, "taken_at,host,")?;
            self.csv.begin(file)?;
        }
        let mut written = 0;
        for socket in &snapshot.sockets {
            let row = Row::new(socket, &snapshot.owners, names);
            if !filter.is_all() && !filter.matches(&row) {
                continue;
            }
            written += 1;
            match self.target {
                Target::Csv => {
                    write!(file, "{taken_at},{host},")?;
                    self.csv.row(file, &row)?;
                }
                Target::Jsonl => {
                    let mut object = Map::new();
                    object.insert("taken_at".into(), json!(taken_at));
                    object.insert("host".into(), json!(snapshot.host));
                    if let Json::Object(socket) = out::socket_value(&row)? {
                        object.extend(socket);
                    }
                    serde_json::to_writer(&mut *file, &object)?;
                    file.write_all(b"\n")?;
                }
                #[cfg(feature = "parquet")]
                Target::Parquet => return Err(std::io::Error::other("parquet is no text")),
            }
        }
        Ok(written)
    }
}

/// A file that is written.
enum Sink {
    Text(BufWriter<File>, Rows),
    #[cfg(feature = "parquet")]
    Table(Box<parquet::Table>),
}

impl Sink {
    #[cfg_attr(
        not(feature = "parquet"),
        allow(clippy::unnecessary_wraps, reason = "a table that is begun writes its head, and that may fail")
    )]
    fn begin(file: File, target: Target) -> anyhow::Result<Sink> {
        match target {
            #[cfg(feature = "parquet")]
            Target::Parquet => Ok(Sink::Table(Box::new(parquet::Table::begin(file)?))),
            _ => Ok(Sink::Text(BufWriter::new(file), Rows::new(target, None))),
        }
    }

    /// Writes the rows of a snapshot that match, and returns how many.
    fn write(&mut self, snapshot: &Snapshot, names: &SystemNames, filter: &Expr) -> anyhow::Result<u64> {
        match self {
            Sink::Text(file, rows) => Ok(rows.write(file, snapshot, names, filter)?),
            #[cfg(feature = "parquet")]
            Sink::Table(table) => {
                let mut written = 0;
                for socket in &snapshot.sockets {
                    let row = Row::new(socket, &snapshot.owners, names);
                    if filter.is_all() || filter.matches(&row) {
                        table.row(snapshot.taken_at_ms, &snapshot.host, &row)?;
                        written += 1;
                    }
                }
                Ok(written)
            }
        }
    }

    fn end(self) -> anyhow::Result<()> {
        match self {
            Sink::Text(mut file, _) => Ok(file.flush()?),
            #[cfg(feature = "parquet")]
            Sink::Table(table) => Ok(table.end()?),
        }
    }
}

/// So many days of a host are open at a time: a clock may step back over midnight.
const DAYS_OPEN: usize = 2;

/// A file for each host and day. Those that are done are ended, so that an error later leaves them whole.
struct Folders {
    folder: PathBuf,
    name: String,
    target: Target,
    files: BTreeMap<(String, String), Sink>,
    ended: u64,
}

impl Folders {
    fn below(folder: &Path, source: &Path, target: Target) -> Folders {
        let name = source.file_name().map_or_else(|| "rows".into(), |name| name.to_string_lossy().into_owned());
        let name = name.strip_suffix(history::SUFFIX).unwrap_or(&name).to_owned();
        Folders { folder: folder.to_owned(), name, target, files: BTreeMap::new(), ended: 0 }
    }

    /// The file of a snapshot. Only its owner may read it, like the recording.
    fn of(&mut self, snapshot: &Snapshot) -> anyhow::Result<&mut Sink> {
        let day = text::day(snapshot.taken_at_ms);
        // A name of a host is no path.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let host: String = snapshot.host.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let key = (host, day);
        if !self.files.contains_key(&key) {
            self.end_all_but(DAYS_OPEN - 1)?;
            let folder = self.folder.join(format!("host={}", key.0)).join(format!("date={}", key.1));
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
            let path = folder.join(format!("{}.{}", self.name, self.target.extension()));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = file.with_context(|| format!("cannot create {}", path.display()))?;
            self.files.insert(key.clone(), Sink::begin(file, self.target)?);
        }
        self.files.get_mut(&key).context("the file was opened")
    }

    /// Ends the files of the earliest days.
    fn end_all_but(&mut self, kept: usize) -> anyhow::Result<()> {
        while self.files.len() > kept {
            let Some((_, sink)) = self.files.pop_first() else { break };
            sink.end().with_context(|| format!("cannot write below {}", self.folder.display()))?;
            self.ended += 1;
        }
        Ok(())
    }

    /// How many files there are, all written.
    fn finish(mut self) -> anyhow::Result<u64> {
        self.end_all_but(0)?;
        Ok(self.ended)
    }
}
