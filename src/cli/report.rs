//! `tcpstate report`: a page on a part of a recording, to hand over.
//!
//! Input: a recording. Output: HTML or Markdown, in a file or on standard output. What is on the page is in `render::page`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::aggregate::Matrix;
use crate::cli::args::{Common, Replay};
use crate::cli::config;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::history::SUFFIX;
use crate::cli::parse;
use crate::cli::session::{self, Session};
use crate::cli::stretch::{Range, Stretch};
use crate::collect::clock::millis;
use crate::collect::names::SystemNames;
use crate::collect::replay::keep_namespaces;
use crate::diagnose::Thresholds;
use crate::filter::Expr;
use crate::model::column::{self, Column, Names, Row};
use crate::model::{Gap, Snapshot, State};
use crate::render::page::{self, Cell, GroupOverTime, Page, Point};
use crate::render::{value, watch as words};
use crate::watch::{Config, Frame, GroupOrder, Looks, SampleRequest, Sampler};

/// Rows of the table of sockets: a page of some hundred kilobytes.
const SOCKETS: usize = 2000;
/// Processes on the page.
const GROUPS: usize = 15;
/// Changes of state on the page.
const MOVES: usize = 20;
/// The columns of the table of sockets.
const COLUMNS: [&str; 7] = ["state", "recv-q", "send-q", "local", "peer", "age", "process"];

const EXAMPLES: &str = "\
Examples:
  tcpstate report now.tcps.zst -o incident.html              a page for a ticket
  tcpstate report now.tcps.zst --since 10m -o incident.html  the last 10 minutes
  tcpstate report now.tcps.zst > incident.md                 Markdown

The page has findings on a line of time with evidence and remedies, states and rates over time, changes of state, processes, and
the sockets at the end in a table to sort and search. It loads nothing. It names processes and addresses: share it as
carefully as the recording itself.

Exit codes: 0 done, 2 wrong usage or nothing could be read.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReportArgs {
    /// A recording, or a folder of recordings
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Of recordings of several hosts those of this one; `*` matches anything
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub host: Option<String>,
    /// Write to this file, HTML unless its name ends in .md [default: Markdown on standard output]
    #[arg(long, short = 'o', value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Time between two looks [default: 2s, or so long that there are 300 looks]
    #[arg(long, short = 'i', value_name = "TIME", value_parser = parse::interval, help_heading = "Source")]
    pub interval: Option<Duration>,
    #[command(flatten)]
    pub range: Range,
}

pub(crate) fn run(args: &ReportArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let thresholds = config::files(env)?.thresholds;
    if let Some(path) = args.output.as_ref().filter(|path| is_recording(path, &args.file)) {
        bail!("{} is the recording; give -o another name", path.display());
    }
    let told = Told::read(args, &thresholds)?;
    let is_markdown = args.output.as_ref().is_none_or(|path| path.extension().is_some_and(|end| end == "md"));
    let text = told.page(is_markdown);
    match &args.output {
        None => env.stdout.write_all(text.as_bytes())?,
        Some(path) => {
            env.write_file(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
            let told = crate::text::bytes(text.len() as u64);
            writeln!(env.stderr, "tcpstate: wrote {} ({told})", path.display())?;
        }
    }
    if let Some(note) = told.note {
        env.note(&note)?;
    }
    Ok(Exit::Done)
}

/// Whether a file is a recording that is read, or one of them.
fn is_recording(path: &Path, read: &Path) -> bool {
    let (Ok(path), Ok(read)) = (path.canonicalize(), read.canonicalize()) else { return false };
    path == read || path.starts_with(&read) && path.to_string_lossy().ends_with(SUFFIX)
}

/// What was read of a recording.
struct Told {
    looks: Looks,
    snapshots: u64,
    points: Vec<Point>,
    matrix: Matrix,
    groups: BTreeMap<String, GroupOverTime>,
    last: Snapshot,
    names: SystemNames,
    gaps: Vec<Gap>,
    file: String,
    again: String,
    note: Option<String>,
}

impl Told {
    fn read(args: &ReportArgs, thresholds: &Thresholds) -> anyhow::Result<Told> {
        let mut stretch = Stretch::open(&Replay { host: args.host.clone(), ..Replay::of(&args.file) }, args.range)?;
        let common = Common { replay: stretch.replay.clone(), ..Common::default() };
        let every = stretch.pace(args.interval);
        let request = request(every);
        let mut before = stretch.before().map(|recorded| recorded.snapshot);
        let (mut looks, mut points, mut matrix) = (Looks::default(), Vec::new(), Matrix::default());
        let mut groups: BTreeMap<String, GroupOverTime> = BTreeMap::new();
        let mut opened: Option<(Session, Sampler)> = None;
        while let Some(mut recorded) = stretch.next(every)? {
            drop(keep_namespaces(&mut recorded.snapshot, &common.origin.netns));
            let (snapshot, names) = (recorded.snapshot.clone(), recorded.names.clone());
            let (mut session, mut sampler) = if let Some(both) = opened.take() {
                both
            } else {
                let session = Session::replay(recorded.clone(), &common)?;
                let Session { live, names, .. } = Session::replay(recorded.clone(), &common)?;
                let sampler = Sampler::new(live, names, config(thresholds)).map_err(anyhow::Error::new)?;
                (session, sampler)
            };
            session.turn_to(recorded, &common);
            let names = SystemNames::recorded(names).on(&snapshot.host);
            sampler.turn_to(snapshot, names);
            let frame = sampler.sample(&request).map_err(anyhow::Error::new)?;
            matrix.add_times(&frame.matrix, frame.scale);
            group(&mut groups, &frame, sampler.names(), points.len());
            points.push(point(&frame));
            let mut now = session.live.snapshot(true)?;
            let diagnosis = session.examine(&mut now, before.as_ref(), None, thresholds);
            looks.add(diagnosis, now.taken_at_ms);
            before = Some(now);
            opened = Some((session, sampler));
        }
        let (Some((session, _)), Some(last)) = (opened, before) else {
            bail!("{}: no snapshot of this stretch can be read", args.file.display());
        };
        let mut gaps = last.gaps.clone();
        let mut coverage = crate::model::Coverage::default();
        last.sockets.iter().for_each(|socket| coverage.add(last.owners.of(socket).0));
        gaps.extend(coverage.gap(&last.owners, session.live.looker()));
        Ok(Told {
            looks,
            snapshots: stretch.steps().len() as u64,
            points,
            matrix,
            groups,
            names: session.names,
            last,
            gaps,
            file: args.file.display().to_string(),
            again: again(&common, stretch.ends()),
            note: stretch.note(),
        })
    }

    /// The page.
    fn page(&self, is_markdown: bool) -> String {
        let (mut course, diagnosis) = self.looks.clone().finish();
        course.snapshots = self.snapshots;
        let mut moves: Vec<(Option<State>, Option<State>, u64)> = self.matrix.changes();
        moves.sort_by_key(|(_, _, n)| std::cmp::Reverse(*n));
        moves.truncate(MOVES);
        let mut groups: Vec<GroupOverTime> = self.groups.values().cloned().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.most));
        groups.truncate(GROUPS);
        let columns: Vec<&'static Column> = COLUMNS.iter().filter_map(|name| column::find(name)).collect();
        let heads: Vec<&'static str> = columns.iter().map(|column| column.name).collect();
        let sockets: Vec<Vec<Cell>> =
            self.last.sockets.iter().take(SOCKETS).map(|socket| self.row(&columns, socket)).collect();
        let page = Page {
            host: &self.last.host,
            kernel: &self.last.kernel,
            file: &self.file,
            course: &course,
            diagnosis: &diagnosis,
            points: &self.points,
            moves: &moves,
            groups: &groups,
            heads: &heads,
            left_out: self.last.sockets.len() - sockets.len(),
            sockets: &sockets,
            gaps: &self.gaps,
            again: &self.again,
        };
        if is_markdown { page::markdown(&page) } else { page::html(&page) }
    }

    fn row(&self, columns: &[&'static Column], socket: &crate::model::Socket) -> Vec<Cell> {
        let row = Row::new(socket, &self.last.owners, &self.names);
        let cell = |column: &&'static Column| {
            let (mut text, mut raw) = (String::new(), String::new());
            let value = (column.get)(&row);
            value::write_human(&mut text, column.kind, &value);
            value::write_raw(&mut raw, column.kind, &value);
            // An age that is not exact has its least first.
            Cell { text, number: raw.split("..").next().and_then(|n| n.parse().ok()) }
        };
        columns.iter().map(cell).collect()
    }
}

fn config(thresholds: &Thresholds) -> Config {
    Config {
        with_owners: true,
        with_findings: false,
        trace: false,
        insist_on_trace: false,
        track: crate::aggregate::tracker::DEFAULT_CAP,
        thresholds: thresholds.clone(),
        scope: String::new(),
    }
}

fn request(every: Duration) -> SampleRequest {
    SampleRequest {
        filter: Expr::all(),
        interval_ms: millis(every),
        by: Some(crate::aggregate::Key::Process),
        top: 200,
        order: GroupOrder::LARGEST,
        rows: None,
        events: false,
        measures: None,
    }
}

/// What a look adds to the curves.
fn point(frame: &Frame) -> Point {
    let per_second = |n: Option<u64>| Some(n? as f64 * 1000.0 / frame.elapsed_ms.filter(|ms| *ms > 0)? as f64);
    let ledger = &frame.ledger;
    Point {
        at_ms: frame.taken_at_ms,
        counts: frame.all(),
        opened: per_second(ledger.opened.total()),
        failed: per_second(ledger.attempt_fails),
        resets: per_second(ledger.resets),
    }
}

/// What a look adds to the processes.
fn group(groups: &mut BTreeMap<String, GroupOverTime>, frame: &Frame, names: &dyn Names, looks: usize) {
    for group in groups.values_mut() {
        group.last = 0;
    }
    for group in frame.groups.iter().flat_map(|groups| &groups.rows) {
        let (label, n) = (words::group_label(&group.id, names), group.counts.total());
        let first = if looks == 0 { n } else { 0 };
        let sum = groups.entry(label.clone()).or_insert_with(|| GroupOverTime { label, first, most: 0, last: 0 });
        (sum.most, sum.last) = (sum.most.max(n), n);
    }
}

/// The command that judges the same again.
fn again(common: &Common, (from, to): (u64, u64)) -> String {
    let at = |ms: u64| crate::text::timestamp(ms).unwrap_or_default();
    format!("tcpstate doctor {} --since {} --until {}", session::scope(common), at(from), at(to))
}
