//! `tcpstate record`: writes what the other commands read, at an interval, into a file that they read later.
//!
//! Input: its arguments. Output: captures; what became of the recording on standard error. The format is in `capture`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::thread::{NanosleepRelativeResult, Timespec, nanosleep};

use crate::cli::args::{Common, Replay, Selection};
use crate::cli::config;
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::interval::IntervalTrace;
use crate::cli::recording::{Limit, Recording};
use crate::cli::session::Session;
use crate::cli::{parse, select, signal};
use crate::collect::clock::cpu_time;
use crate::collect::confine;
use crate::collect::replay::add_names;
use crate::diagnose::Thresholds;
use crate::filter::Expr;
use crate::model::column::Row;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::names::NameTable;
use crate::model::{Gap, Snapshot};

/// The rules, which say what to look into, may take one part in this many of one CPU.
const RULES_SHARE: u32 = 50;

const EXAMPLES: &str = "\
Examples:
  tcpstate record now.tcps.zst                       a snapshot each second, until Ctrl-C
  tcpstate record now.tcps.zst --interval 5s --duration 10m
  tcpstate record /var/lib/tcpstate/ --rotate 1h --keep 2G     a flight recorder
  tcpstate record nginx.tcps.zst --port 443          part of the sockets
  tcpstate doctor --from now.tcps.zst --at -5m       what was wrong five minutes before its end
  zstd -dc now.tcps.zst | jq -c 'select(.type == \"new\").socket'

summary, list, doctor, watch, trace and explain read it with --from. It has sockets, processes, command lines and addresses:
only its owner may read it.

Exit codes: 0 done, 2 wrong usage, or nothing could be read or written.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args(Replay::hide))]
pub struct RecordArgs {
    /// The file to write, which must not exist, or a folder; usually ends in .tcps.zst
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub selection: Selection,
    /// Time between two snapshots
    #[arg(long, value_name = "TIME", value_parser = parse::interval, default_value = "1s", help_heading = "Recording")]
    pub interval: Duration,
    /// End after this time [default: on a signal]
    #[arg(long, value_name = "TIME", value_parser = parse::duration, help_heading = "Recording")]
    pub duration: Option<Duration>,
    /// Begin another file after this time, or beyond this size: 1h, 100M. Names of files get the time of their start
    #[arg(long, value_name = "TIME|SIZE", value_parser = Limit::parse, help_heading = "Recording")]
    pub rotate: Option<Limit>,
    /// Remove the oldest of these files when they are older, or together larger: 7d, 2G
    #[arg(long, value_name = "TIME|SIZE", value_parser = Limit::parse, requires = "rotate", help_heading = "Recording")]
    pub keep: Option<Limit>,
    /// Do not trace between the snapshots; without this option connects and resets are traced where that is permitted
    #[arg(long, help_heading = "Recording")]
    pub no_trace: bool,
    #[command(flatten)]
    pub common: Common,
}

pub(crate) fn run(args: &RecordArgs, env: &mut Env) -> anyhow::Result<Exit> {
    args.common.replay.refuse("record")?;
    if args.common.json {
        bail!(
            "record prints nothing; `zstd -dc FILE` prints the lines of a capture, and `list --from FILE --json` rows"
        );
    }
    let settings = config::files(env)?;
    signal::watch();
    // Nothing was started yet: what is given up here no thread has.
    let folder = if args.file.is_dir() { &args.file } else { args.file.parent().unwrap_or(Path::new("")) };
    let enters_namespaces = args.common.origin.names_netns();
    confine::keep_what_is_used(confine::Mode { enters_namespaces, writes_in: Some(folder) })
        .context("give up capabilities")?;
    let mut recorder = Recorder::open(args, settings.thresholds, env)?;
    let mut recording = Recording::begin(&args.file, args.rotate, args.keep, &recorder.session.live.host().name)?;
    say(env, &recording.plan(args.interval, args.duration))?;
    let started = Instant::now();
    let mut due = started;
    let mut skipped = 0u64;
    loop {
        let snapshot = recorder.snapshot()?;
        if let Some(note) = recording.add(&snapshot, &recorder.names)? {
            say(env, &note)?;
        }
        if env.stderr_is_terminal {
            let line = recording.progress(snapshot.sockets.len() as u64);
            write!(env.stderr, "\r{line}\x1b[K")?;
        }
        recorder.before = Some(snapshot);
        due += args.interval;
        while due < Instant::now() {
            due += args.interval;
            skipped += 1;
        }
        let end = args.duration.map(|duration| started + duration);
        if end.is_some_and(|end| due >= end) || !wait_until(due) {
            break;
        }
    }
    let told = recording.end(skipped);
    say(env, &told)?;
    let missing = args.common.strict && recorder.before.is_some_and(|last| !last.gaps.is_empty());
    Ok(if missing || recording.snapshots() == 0 { Exit::Failed } else { Exit::Done })
}

/// A line of its own on standard error, also behind a progress line.
fn say(env: &mut Env, note: &str) -> anyhow::Result<()> {
    let start = if env.stderr_is_terminal { "\r\x1b[K" } else { "" };
    writeln!(env.stderr, "{start}tcpstate: {note}")?;
    Ok(())
}

/// False when a signal came.
fn wait_until(due: Instant) -> bool {
    loop {
        if signal::interrupted() {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let Ok(request) = Timespec::try_from(left) else { return true };
        // A signal ends it at once.
        if let NanosleepRelativeResult::Err(_) = nanosleep(&request) {
            return true;
        }
    }
}

/// What takes the snapshots.
struct Recorder {
    session: Session,
    filter: Expr,
    with_owners: bool,
    trace: Option<IntervalTrace>,
    /// Why nothing is traced.
    refused: Option<Gap>,
    thresholds: Thresholds,
    names: NameTable,
    before: Option<Snapshot>,
    judged: Option<(Instant, Duration)>,
}

impl Recorder {
    fn open(args: &RecordArgs, thresholds: Thresholds, env: &mut Env) -> anyhow::Result<Recorder> {
        let mut session = Session::open(&args.common)?;
        let filter = select::of_command_line(&args.selection, &args.common.origin, &session.names, env)?;
        let with_owners = !args.common.no_owners;
        if filter.needs().owners && !with_owners {
            bail!("the filter needs socket owners; remove --no-owners");
        }
        if filter.is_kernel_only() {
            bail!("filter: only the kernel knows `autobound`, and a recording is filtered here");
        }
        session.live.cgroups = with_owners;
        session.live.every_attribute = true;
        let elsewhere = args.common.origin.proc_root.is_some();
        let (trace, refused) = if args.no_trace || elsewhere {
            (None, None)
        } else {
            match IntervalTrace::begin(&session) {
                Ok(trace) => (Some(trace), None),
                Err(gap) => (None, Some(gap)),
            }
        };
        if let Some(trace) = &trace {
            trace.restart();
        }
        Ok(Recorder {
            session,
            filter,
            with_owners,
            trace,
            refused,
            thresholds,
            names: NameTable::default(),
            before: None,
            judged: None,
        })
    }

    /// The next snapshot, with what the rules want to know of it.
    fn snapshot(&mut self) -> anyhow::Result<Snapshot> {
        let mut now = self.session.live.snapshot(self.with_owners)?;
        if let Some(trace) = &self.trace {
            now.known_owners.extend(trace.closers_of(&now));
            // Before the first one there is no interval.
            let around: Vec<&Snapshot> = self.before.iter().chain([&now]).collect();
            let traced = trace.interval(&around);
            trace.restart();
            now.traced = self.before.is_some().then_some(traced);
            now.gaps.extend(trace.gaps());
        }
        now.gaps.extend(self.refused.clone());
        add_names(&now, &self.session.names, &mut self.names);
        self.examine(&mut now);
        self.select(&mut now);
        Ok(now)
    }

    /// Runs the rules: what they ask about processes and destinations becomes a part of the snapshot. A rule that needs two
    /// samples compares with the snapshot before.
    fn examine(&mut self, now: &mut Snapshot) {
        let is_due = self.judged.is_none_or(|(at, cost)| at.elapsed() >= cost * RULES_SHARE);
        if !self.with_owners || !is_due {
            return;
        }
        let (started, before) = (Instant::now(), cpu_time());
        // What is wrong is judged when the capture is read.
        drop(self.session.live.diagnose(now, self.before.as_ref(), None, &self.thresholds));
        self.judged = Some((started, cpu_time().saturating_sub(before)));
    }

    /// Keeps the rows that match, and says so.
    fn select(&self, now: &mut Snapshot) {
        if self.filter.is_all() {
            return;
        }
        let sockets = std::mem::take(&mut now.sockets);
        let matches =
            |socket: &crate::model::Socket| self.filter.matches(&Row::new(socket, &now.owners, &self.session.names));
        let kept = sockets.into_iter().filter(matches).collect();
        now.sockets = kept;
        let why = Why::Recorded { filter: self.filter.to_string() };
        now.gaps.push(Gap::new(Missing::Rows { netns: None }, why, WayOut::None));
    }
}
