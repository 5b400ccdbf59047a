//! `tcpstate list`: one row per socket.
//!
//! Input: its arguments. Output: rows in the chosen format, written as they arrive; only sorting keeps them.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::Value as Json;

use crate::cli::args::{Common, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::parse::{self, Chosen, SortBy};
use crate::cli::select;
use crate::cli::session::{self, Session};
use crate::filter::Expr;
use crate::model::OwnerTable;
use crate::model::column::{self, COLUMNS, Column, Group, Names, Needs, Row};
use crate::model::row_list::RowList;
use crate::render::rows::{Format, Listing, RowWriter};
use crate::render::{self, FORMATS};
use crate::text;

/// Parses the name of a format of `list`.
fn format_name() -> impl TypedValueParser<Value = &'static Format> {
    let names = FORMATS.iter().map(|format| PossibleValue::new(format.name).help(format.help));
    PossibleValuesParser::new(names).try_map(|name| render::format(&name).ok_or("no format of this name"))
}

const EXAMPLES: &str = "\
Examples:
  tcpstate list                             every socket
  tcpstate list -l                          listeners: Recv-Q is the accept queue, Send-Q its limit
  tcpstate list --state close-wait -c +age --sort age
  tcpstate list --peer 10.0.0.0/8 --process nginx
  tcpstate list -tanop                      the letters of ss add their columns
  tcpstate list --format csv -c state,local,peer,rtt > sockets.csv

Columns are aligned, on a terminal and in a pipe; `--format tsv` has one tab between cells. A full accept queue is red on a
terminal: RECV-Q of a listener above SEND-Q. Run `tcpstate list --list-columns` for all columns.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// Accepted for ss compatibility (TCP is all there is)
    #[arg(long, short = 't', help_heading = "Letters of ss")]
    pub tcp: bool,
    /// All states: the default; behind -l it takes -l back, as in ss
    #[arg(long, short = 'a', overrides_with = "listening", help_heading = "Letters of ss")]
    pub all: bool,
    /// Numeric addresses and ports: the default
    #[arg(long, short = 'n', help_heading = "Letters of ss")]
    pub numeric: bool,
    /// Add the processes (a default column)
    #[arg(long, short = 'p', help_heading = "Letters of ss")]
    pub processes: bool,
    /// Add tcp_info: round-trip times, windows, bytes
    #[arg(long, short = 'i', help_heading = "Letters of ss")]
    pub info: bool,
    /// Add socket memory
    #[arg(long, short = 'm', help_heading = "Letters of ss")]
    pub memory: bool,
    /// Add timers
    #[arg(long, short = 'o', help_heading = "Letters of ss")]
    pub options: bool,
    /// Add age, user, inode, cookie, shutdown, cgroup
    #[arg(long, short = 'e', help_heading = "Letters of ss")]
    pub extended: bool,
    /// Output format
    #[arg(long, value_parser = format_name(), value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<&'static Format>,
    /// Columns to show, separated by commas; +NAME adds to the default ones
    #[arg(long, short = 'c', value_name = "COLUMNS", value_delimiter = ',', value_parser = parse::column())]
    #[arg(hide_possible_values = true, allow_hyphen_values = true, help_heading = "Output")]
    pub columns: Vec<Chosen>,
    /// Print every column with its kind and meaning
    #[arg(long, help_heading = "Output")]
    pub list_columns: bool,
    /// Sort by a column; -NAME for the largest first
    #[arg(long, value_name = "COLUMN", value_parser = parse::sort(), allow_hyphen_values = true)]
    #[arg(hide_possible_values = true, help_heading = "Output")]
    pub sort: Option<SortBy>,
    /// Show at most so many sockets, and count the rest
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub limit: Option<u64>,
    /// Cut nothing on a terminal
    #[arg(long, short = 'W', help_heading = "Output")]
    pub wide: bool,
    /// No header line
    #[arg(long, short = 'H', help_heading = "Output")]
    pub no_header: bool,
    /// Show the query sent to the kernel, then exit
    #[arg(long, help_heading = "Output")]
    pub explain_plan: bool,
    /// Exit with 1 when no socket matches
    #[arg(long, help_heading = "Output")]
    pub exists: bool,
    #[command(flatten)]
    pub common: Common,
}

pub(crate) fn run(args: &ListArgs, env: &mut Env) -> anyhow::Result<Exit> {
    if args.list_columns {
        return list_columns(env);
    }
    let formats = formats(args, env)?;
    // What programs read has the columns that they know.
    let is_table = formats.iter().all(|format| format.name == FORMATS[0].name);
    let mut sessions = Session::open_all(&args.common)?;
    let of_several = Several {
        hosts: sessions.len() > 1,
        namespaces: is_table && sessions.iter().any(|session| session.live.spaces().len() > 1),
    };
    let columns = columns(args, is_table, of_several);
    let chosen = !args.columns.is_empty();
    let mut needs = columns.iter().fold(Needs::NONE, |n, c| n.union(c.needs));
    for format in &formats {
        needs = needs.union((format.needs)(&columns, chosen));
    }
    if let Some(SortBy { column, .. }) = args.sort {
        needs = needs.union(column.needs);
    }
    let filters = select::of_each(&args.selection, &args.common.origin, &sessions, env)?;
    let head = session::head(&sessions, "list")?;
    let mut style = env.style(args.common.color);
    style.width = style.width.filter(|_| !args.wide);
    let listing = || Listing { head: head.clone(), columns: columns.clone(), chosen, style, header: !args.no_header };
    let mut sheets = Sheets {
        writers: formats.iter().map(|format| (format.writer)(listing())).collect(),
        begun: false,
        room: args.limit.unwrap_or(u64::MAX),
    };
    let mut matched = 0u64;
    let mut lists = Vec::with_capacity(sessions.len());
    for (session, filter) in sessions.iter_mut().zip(&filters) {
        let needs = needs.union(filter.needs());
        let search = (needs.owners && !args.common.no_owners).then(|| session.live.search_owners(needs.cgroups, true));
        let scan = session.scan(filter, needs, search, &args.common)?;
        if args.explain_plan {
            env.stdout.write_all(scan.explain()?.as_bytes())?;
            return Ok(Exit::Done);
        }
        let mut kept = RowList::default();
        let (failed, scanned) = scan.rows(|row| {
            matched += 1;
            if args.sort.is_some() {
                kept.push(row.socket);
                return ControlFlow::Continue(());
            }
            match sheets.row(env, row) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => ControlFlow::Break(e),
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        session.keep(scanned);
        session.gaps.extend(session.live.lacks());
        kept.finish();
        lists.push(kept);
    }
    if let Some(SortBy { column, descending }) = args.sort {
        let kept: Vec<Kept<'_>> = lists
            .iter()
            .zip(&sessions)
            .map(|(rows, session)| Kept { rows, owners: &session.owners, names: &session.names })
            .collect();
        for (host, place) in sorted(&kept, column, descending) {
            let Kept { rows, owners, names } = kept[usize::from(host)];
            if let Some(socket) = rows.get(place as usize) {
                sheets.row(env, &Row::new(&socket, owners, names))?;
            }
        }
    }
    let left_out = matched.saturating_sub(args.limit.unwrap_or(u64::MAX));
    let has_notes = sheets.finish(env, &session::gap_objects(&sessions), args.limit.map(|_| left_out))?;
    if has_notes {
        if let (Some(first), true) = (sessions.first_mut(), left_out > 0) {
            first
                .notes
                .push(format!("{} not shown (--limit)", text::count(left_out, "more socket is", "more sockets are")));
        }
        session::print_gaps(&sessions, env, &args.common)?;
    } else {
        sessions.iter().try_for_each(|session| session.print_notes(env))?;
    }
    if let (0, true, false, Some(filter)) = (matched, is_table, args.exists, filters.first()) {
        tell_nothing(filter, env)?;
    }
    Ok(if args.common.strict && sessions.iter().any(|session| !session.gaps.is_empty()) {
        Exit::Failed
    } else if args.exists && matched == 0 {
        Exit::No
    } else {
        Exit::Done
    })
}

/// The rows of a host that wait to be sorted, and what their numbers mean.
#[derive(Clone, Copy)]
struct Kept<'a> {
    rows: &'a RowList,
    owners: &'a OwnerTable,
    names: &'a dyn Names,
}

impl Kept<'_> {
    fn with<T>(&self, place: u32, use_row: impl FnOnce(&Row<'_>) -> T) -> Option<T> {
        let socket = self.rows.get(place as usize)?;
        Some(use_row(&Row::new(&socket, self.owners, self.names)))
    }
}

/// The places of rows, each with the place of its host, in the order of a column; of equals, the one that came first.
fn sorted(kept: &[Kept<'_>], column: &Column, descending: bool) -> Vec<(u16, u32)> {
    // The beginning of its value decides about most rows, which are not read again then. In halves, which are aligned
    // to 8 bytes: 24 a row.
    let mut prefixes: Vec<([u64; 2], u32, u16, bool)> = Vec::new();
    for (host, kept) in (0..).zip(kept) {
        for place in 0.. {
            let prefix = kept.with(place, |row| column::prefix(&(column.get)(row), descending));
            let Some((prefix, is_whole)) = prefix else { break };
            #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
            let halves = [(prefix >> 64) as u64, prefix as u64];
            prefixes.push((halves, place, host, is_whole));
        }
    }
    prefixes.sort_by(|(a, first, host, is_whole), (b, second, other, is_whole_too)| {
        a.cmp(b).then_with(|| {
            if *is_whole && *is_whole_too {
                return Ordering::Equal;
            }
            let order = kept[usize::from(*host)].with(*first, |a| {
                kept[usize::from(*other)]
                    .with(*second, |b| column::order(&(column.get)(a), &(column.get)(b), descending))
            });
            order.flatten().unwrap_or(Ordering::Equal)
        })
    });
    prefixes.into_iter().map(|(_, place, host, _)| (host, place)).collect()
}

/// The formats of one listing: what is chosen, and with a place for a document beside it also the table.
fn formats(args: &ListArgs, env: &Env) -> anyhow::Result<Vec<&'static Format>> {
    let json = if args.common.json { render::format("json") } else { None };
    if env.document.is_some() {
        return Ok(json.into_iter().chain([&FORMATS[0]]).collect());
    }
    match (json, args.format) {
        (Some(json), Some(format)) if json.name != format.name => {
            bail!("--json and --format say different things; give one")
        }
        (json, format) => Ok(vec![format.or(json).unwrap_or(&FORMATS[0])]),
    }
}

/// The rows in every format that is wanted.
struct Sheets {
    writers: Vec<Box<dyn RowWriter>>,
    begun: bool,
    /// How many more rows are shown.
    room: u64,
}

impl Sheets {
    /// Where a format goes: a document has a place of its own, if it is wanted beside the text.
    fn out<'e>(env: &'e mut Env, writer: &dyn RowWriter) -> &'e mut dyn Write {
        match &mut env.document {
            Some(document) if writer.writes_gaps() => document,
            _ => &mut env.stdout,
        }
    }

    /// Nothing is written before the first row, or before it is certain that there is none: an error leaves no partial
    /// document.
    fn begin(&mut self, env: &mut Env) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            for writer in &mut self.writers {
                writer.begin(Sheets::out(env, writer.as_ref()))?;
            }
        }
        Ok(())
    }

    fn row(&mut self, env: &mut Env, row: &Row<'_>) -> io::Result<()> {
        if self.room == 0 {
            return Ok(());
        }
        self.room -= 1;
        self.begin(env)?;
        for writer in &mut self.writers {
            writer.row(Sheets::out(env, writer.as_ref()), row)?;
        }
        Ok(())
    }

    /// Ends them. Returns whether one leaves it to notes what was not seen and not shown.
    fn finish(&mut self, env: &mut Env, gaps: &[Json], left_out: Option<u64>) -> io::Result<bool> {
        self.begin(env)?;
        for writer in &mut self.writers {
            writer.finish(Sheets::out(env, writer.as_ref()), gaps, left_out)?;
        }
        Ok(self.writers.iter().any(|writer| !writer.writes_gaps()))
    }
}

/// A header without a row may look like a failure.
fn tell_nothing(filter: &Expr, env: &mut Env) -> anyhow::Result<()> {
    let matches =
        if filter.is_all() { "there is no TCP socket".to_owned() } else { format!("no socket matches {filter}") };
    writeln!(env.stderr, "tcpstate: {matches}")?;
    Ok(())
}

/// Of what the rows are several.
#[derive(Clone, Copy, Default)]
struct Several {
    hosts: bool,
    /// Where a table shows them.
    namespaces: bool,
}

/// The columns to show: the default ones, those of the letters, those of `-c`. A table also has the column that it is sorted by,
/// and of several namespaces the namespace of each row; of several hosts every format has the host.
fn columns(args: &ListArgs, is_table: bool, several: Several) -> Vec<&'static Column> {
    let groups = [
        (true, Group::Default),
        (!args.common.no_owners || args.processes, Group::Process),
        (args.options, Group::Timer),
        (args.extended, Group::Extended),
        (args.memory, Group::Memory),
        (args.info, Group::Info),
    ];
    let mut chosen: Vec<&Column> = Vec::new();
    for (wanted, group) in groups {
        if wanted && group != Group::Process {
            chosen.extend(COLUMNS.iter().filter(|c| c.group == group));
        }
    }
    // Processes come last: they are the widest, and the only ones that may be cut.
    let process = groups[1].0.then(|| COLUMNS.iter().find(|c| c.group == Group::Process)).flatten();
    if is_table {
        if let Some(netns) = column::find("netns").filter(|_| several.namespaces) {
            chosen.insert(0, netns);
        }
        let is_shown = |c: &Column| chosen.iter().chain(&process).any(|shown| shown.name == c.name);
        if let Some(sorted) = args.sort.as_ref().map(|sort| sort.column).filter(|c| !is_shown(c)) {
            chosen.push(sorted);
        }
    }
    if let Some(host) = column::find("host").filter(|_| several.hosts) {
        chosen.insert(0, host);
    }
    let Some(first) = args.columns.first() else {
        chosen.extend(process);
        return chosen;
    };
    if !first.adds {
        chosen.clear();
    }
    for Chosen { column, .. } in &args.columns {
        if !chosen.iter().any(|c| c.name == column.name) {
            chosen.push(column);
        }
    }
    if first.adds {
        chosen.extend(process.filter(|p| !chosen.iter().any(|c| c.name == p.name)));
    }
    chosen
}

fn list_columns(env: &mut Env) -> anyhow::Result<Exit> {
    let widest = COLUMNS.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let key = COLUMNS.iter().map(|c| c.json.key.len()).max().unwrap_or(0);
    for column in COLUMNS {
        let letter = match column.group {
            Group::Default | Group::Process => "default",
            Group::Timer => "-o",
            Group::Extended => "-e",
            Group::Memory => "-m",
            Group::Info => "-i",
            Group::Other => "",
        };
        let (name, kind, json) = (column.name, column.kind.name(), column.json.key);
        writeln!(env.stdout, "{name:widest$}  {kind:8}  {letter:7}  {json:key$}  {}", column.help)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> ListArgs {
        let Command::List(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("{line}") };
        args
    }

    #[test]
    fn of_all_and_listening_the_later_one_counts_as_in_ss() {
        for (letters, listening) in [
            ("-plant", false),
            ("-lant", false),
            ("-tanlp", true),
            ("-tlnp", true),
            ("-l -a", false),
            ("--all --listening", true),
        ] {
            let args = args(&format!("tcpstate list {letters}"));
            assert_eq!(
                (args.selection.listening, args.all),
                (listening, !listening && letters != "-tlnp"),
                "{letters}"
            );
        }
    }

    #[test]
    fn a_table_has_the_column_it_is_sorted_by_and_of_several_namespaces_that_of_each_row() {
        let names = |line: &str, is_table, several| -> Vec<&str> {
            let several = Several { namespaces: several, ..Several::default() };
            columns(&args(line), is_table, several).iter().map(|c| c.name).collect()
        };
        let plain = ["state", "recv-q", "send-q", "local", "peer", "process"];
        for (line, shown) in [
            ("tcpstate list", &plain[..]),
            ("tcpstate list --sort recv-q", &plain),
            ("tcpstate list --sort process", &plain),
            ("tcpstate list --sort -age", &["state", "recv-q", "send-q", "local", "peer", "age", "process"]),
            ("tcpstate list -c state --sort -age", &["state"]),
            ("tcpstate list --no-owners --sort process", &["state", "recv-q", "send-q", "local", "peer", "process"]),
        ] {
            assert_eq!(names(line, true, false), shown, "{line}");
        }
        let of_hosts = Several { hosts: true, ..Several::default() };
        for (line, is_table) in [("tcpstate list", true), ("tcpstate list --format csv", false)] {
            assert_eq!(columns(&args(line), is_table, of_hosts)[0].name, "host");
        }
        assert_eq!(columns(&args("tcpstate list -c local"), true, of_hosts).len(), 1);
        assert_eq!(names("tcpstate list --sort -age", false, true), plain);
        assert_eq!(names("tcpstate list", true, true)[..2], ["netns", "state"]);
        assert_eq!(names("tcpstate list -c +netns", true, true).iter().filter(|n| **n == "netns").count(), 1);
        assert_eq!(names("tcpstate list -c local", true, true), ["local"]);
    }
}
