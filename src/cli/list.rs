//! `tcpstate list`: one row per socket.
//!
//! Input: its arguments. Output: rows in the chosen format, written as they arrive; only sorting keeps them.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::cli::args::{Common, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::parse::{self, Chosen, SortBy};
use crate::cli::select;
use crate::cli::session::Session;
use crate::model::Socket;
use crate::model::column::{self, COLUMNS, Column, Group, Row};
use crate::render::rows::{Format, Listing};
use crate::render::{self, FORMATS};

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
    /// All states: the default
    #[arg(long, short = 'a', help_heading = "Letters of ss")]
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
    let columns = columns(args);
    let format = format(args)?;
    let chosen = !args.columns.is_empty();
    let mut needs = columns.iter().fold((format.needs)(&columns, chosen), |n, c| n.union(c.needs));
    if let Some(SortBy { column, .. }) = args.sort {
        needs = needs.union(column.needs);
    }
    let mut session = Session::open(&args.common)?;
    let filter = select::of_command_line(&args.selection, &args.common.origin, &session.names, env)?;
    let head = session.head("list");
    let needs = needs.union(filter.needs());
    let search = (needs.owners && !args.common.no_owners).then(|| session.live.search_owners(needs.cgroups, true));
    let scan = session.scan(&filter, needs, search, &args.common)?;
    if args.explain_plan {
        env.stdout.write_all(scan.explain()?.as_bytes())?;
        return Ok(Exit::Done);
    }
    let mut writer = (format.writer)(Listing {
        head,
        columns,
        chosen,
        style: env.style(args.common.color),
        header: !args.no_header,
    });
    // Nothing is written before the first row, or before it is certain that there is none: an error leaves no
    // partial document.
    let mut begun = false;
    let mut write = |out: &mut dyn Write, row: &Row<'_>| {
        if !std::mem::replace(&mut begun, true) {
            writer.begin(out)?;
        }
        writer.row(out, row)
    };
    let mut shown = 0u64;
    let mut kept: Vec<Socket> = Vec::new();
    let (failed, scanned) = scan.rows(|row| {
        shown += 1;
        if args.sort.is_some() {
            kept.push(row.socket.clone());
            return ControlFlow::Continue(());
        }
        match write(&mut env.stdout, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    session.keep(scanned);
    session.gaps.extend(session.live.lacks());
    if let Some(SortBy { column, descending }) = args.sort {
        let (owners, names) = (&session.owners, &session.names);
        kept.sort_by(|a, b| {
            let (a, b) = (Row::new(a, owners, names), Row::new(b, owners, names));
            column::order(&(column.get)(&a), &(column.get)(&b), descending)
        });
        for socket in &kept {
            write(&mut env.stdout, &Row::new(socket, owners, names))?;
        }
    }
    if !begun {
        writer.begin(&mut env.stdout)?;
    }
    writer.finish(&mut env.stdout, &session.gaps)?;
    if writer.writes_gaps() {
        session.print_notes(env)?;
    } else {
        session.print_gaps(env, &args.common)?;
    }
    Ok(if args.common.strict && !session.gaps.is_empty() {
        Exit::Failed
    } else if args.exists && shown == 0 {
        Exit::No
    } else {
        Exit::Done
    })
}

fn format(args: &ListArgs) -> anyhow::Result<&'static Format> {
    let json = if args.common.json { render::format("json") } else { None };
    match (json, args.format) {
        (Some(json), Some(format)) if json.name != format.name => {
            bail!("--json and --format say different things; give one")
        }
        (json, format) => Ok(format.or(json).unwrap_or(&FORMATS[0])),
    }
}

/// The columns to show: the default ones, those of the letters, those of `-c`.
fn columns(args: &ListArgs) -> Vec<&'static Column> {
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
