//! `tcpstate list`: one row per socket.
//!
//! Input: its arguments. Output: rows in the chosen format, written as they arrive; only sorting keeps them. Not here:
//! formatting a value.

use std::cmp::Ordering;
use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::bail;

use crate::cli::args::ListArgs;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::select;
use crate::cli::session::Session;
use crate::model::Socket;
use crate::model::column::{self, COLUMNS, Column, Group, Row};
use crate::render::rows::{self, FORMATS, Format, Listing};
use crate::render::value;

pub(crate) fn run(args: &ListArgs, env: &mut Env) -> anyhow::Result<Exit> {
    if args.list_columns {
        return list_columns(env);
    }
    let columns = columns(args)?;
    let sort = args.sort.as_deref().map(sort_column).transpose()?;
    let format = format(args)?;
    let chosen = args.columns.is_some();
    let mut needs = columns.iter().fold((format.needs)(&columns, chosen), |n, c| n.union(c.needs));
    if let Some((column, _)) = sort {
        needs = needs.union(column.needs);
    }
    let mut session = Session::open(&args.common)?;
    let filter = select::expression(&args.selection, &session.names)?;
    let mut work = session.plan(&filter, needs, &args.common)?;
    if work.needs.owners && !args.common.no_owners {
        session.look_for_owners(work.needs.cgroups, true);
    }
    if args.explain_plan {
        session.explain(&mut work, env)?;
        return Ok(Exit::Done);
    }
    let mut writer = (format.writer)(Listing {
        head: session.head("list"),
        columns,
        chosen,
        style: env.style(args.common.color),
        header: !args.no_header,
    });
    // Nothing is written before there is a row, or the certainty that there is none: an error leaves no half document.
    let mut begun = false;
    let mut write = |out: &mut dyn Write, row: &Row<'_>| {
        if !std::mem::replace(&mut begun, true) {
            writer.begin(out)?;
        }
        writer.row(out, row)
    };
    let mut shown = 0u64;
    let mut failed: Option<io::Error> = None;
    let mut kept: Vec<Socket> = Vec::new();
    session.rows(&mut work, &mut |row| {
        shown += 1;
        if sort.is_some() {
            kept.push(row.socket.clone());
            return ControlFlow::Continue(());
        }
        match write(&mut env.stdout, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    session.gaps.extend(session.live.lacks());
    if let Some((column, descending)) = sort {
        let (owners, names) = (session.owners(), &session.names);
        kept.sort_by(|a, b| order(column, descending, &Row::new(a, owners, names), &Row::new(b, owners, names)));
        for socket in &kept {
            write(&mut env.stdout, &Row::new(socket, owners, names))?;
        }
    }
    if !begun {
        writer.begin(&mut env.stdout)?;
    }
    writer.finish(&mut env.stdout, &session.gaps)?;
    if !writer.writes_gaps() {
        session.print_gaps(env, &args.common)?;
    }
    Ok(if args.common.strict && !session.gaps.is_empty() {
        Exit::Failed
    } else if args.exists && shown == 0 {
        Exit::Found
    } else {
        Exit::Done
    })
}

fn format(args: &ListArgs) -> anyhow::Result<&'static Format> {
    let json = if args.common.json { rows::find("json") } else { None };
    match (json, args.format) {
        (Some(json), Some(format)) if json.name != format.name => {
            bail!("--json and --format say different things; give one")
        }
        (json, format) => Ok(format.or(json).unwrap_or(&FORMATS[0])),
    }
}

/// The columns to show: the default ones, those of the letters, those of `-c`.
fn columns(args: &ListArgs) -> anyhow::Result<Vec<&'static Column>> {
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
    let Some(list) = &args.columns else {
        chosen.extend(process);
        return Ok(chosen);
    };
    let adds = list.trim_start().starts_with('+');
    if !adds {
        chosen.clear();
    }
    for word in list.split(',').map(|w| w.trim().trim_start_matches('+')).filter(|w| !w.is_empty()) {
        let column = find_column(word)?;
        if !chosen.iter().any(|c| c.name == column.name) {
            chosen.push(column);
        }
    }
    if adds {
        chosen.extend(process.filter(|p| !chosen.iter().any(|c| c.name == p.name)));
    }
    if chosen.is_empty() {
        bail!("--columns: no column given; see `tcpstate list --list-columns`");
    }
    Ok(chosen)
}

fn find_column(word: &str) -> anyhow::Result<&'static Column> {
    if let Some(column) = column::find(word) {
        return Ok(column);
    }
    match column::nearest(word) {
        Some(near) => bail!("`{word}` is not a column; did you mean `{near}`? see `tcpstate list --list-columns`"),
        None => bail!("`{word}` is not a column; see `tcpstate list --list-columns`"),
    }
}

fn sort_column(word: &str) -> anyhow::Result<(&'static Column, bool)> {
    let descending = word.starts_with('-');
    Ok((find_column(word.trim_start_matches(['-', '+']))?, descending))
}

/// The order of two rows; what is not known comes last either way.
fn order(column: &Column, descending: bool, a: &Row<'_>, b: &Row<'_>) -> Ordering {
    let (a, b) = ((column.get)(a), (column.get)(b));
    let missing = |v: &column::Value<'_>| matches!(v, column::Value::Unknown | column::Value::Absent);
    if descending && !missing(&a) && !missing(&b) { value::compare(&b, &a) } else { value::compare(&a, &b) }
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
