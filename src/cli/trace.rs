//! `tcpstate trace`: every change of state as it happens.
//!
//! Comes in: its arguments. Goes out: a line for each change, or for each connection that ended, or one matrix; what the
//! source cannot see, what was lost, and totals at the end. Never here: how a change is recorded.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Map, json};

use crate::aggregate::lives::Lives;
use crate::cli::args::{Common, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::{parse, select, signal};
use crate::collect::bpf::trace::Lost;
use crate::collect::changes::Changes;
use crate::collect::names::SystemNames;
use crate::collect::timewait::TimewaitLookup;
use crate::filter::Expr;
use crate::model::column::Row;
use crate::model::gap::{Missing, Tracer, WayOut, Why};
use crate::model::transition::{By, Transition};
use crate::model::{Gap, Holder, NetnsId, OwnerStatus, OwnerTable, Process, Socket, State};
use crate::render::{gap as words, json as out, trace as lines};

/// How long a wait for changes may last: a bound on how late losses are told.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ViaArg {
    /// The first of the following that works here
    #[default]
    Auto,
    /// A BPF program on the kernel's tracepoint, or fail
    Bpf,
    /// The same tracepoint through the trace file system, or fail
    Tracefs,
    /// Differences of two looks at the sockets
    Poll,
}

const EXAMPLES: &str = "\
Examples:
  tcpstate trace                            a line per change, of all network namespaces
  tcpstate trace state close-wait           whose peers have closed
  tcpstate trace --life dport = :443        a line per connection that ended: who opened, who closed first
  tcpstate trace --summary 10s              which changes, and how many
  tcpstate trace --json --duration 1m       JSON lines
  tcpstate trace --netns web                one network namespace, from where you stand
  tcpstate trace --poll --interval 100ms    without any right: differences of two looks

A process in [brackets] held the socket while a packet was handled; without them it made the change by a system call.
TIME_WAIT with an asterisk is inferred. Interrupt it for the totals.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TraceArgs {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub selection: Selection,
    /// How changes are seen
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = "Trace")]
    pub via: ViaArg,
    /// The same as --via poll
    #[arg(long, conflicts_with = "via", help_heading = "Trace")]
    pub poll: bool,
    /// For polling: the time between two looks
    #[arg(long, value_name = "TIME", value_parser = parse::interval, default_value = "200ms", help_heading = "Trace")]
    pub interval: Duration,
    /// This network namespace only; without it and without --netns, all of the host
    #[arg(long, conflicts_with = "netns", help_heading = "Trace")]
    pub this_netns: bool,
    /// Room for changes that were not read yet; a change takes 136 bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::ring_bytes, default_value = "8M", help_heading = "Trace")]
    pub ring_size: usize,
    /// A line per connection that has ended
    #[arg(long, help_heading = "Output")]
    pub life: bool,
    /// Count for this time, and print how often each change was seen
    #[arg(long, value_name = "TIME", value_parser = parse::duration, help_heading = "Output")]
    pub summary: Option<Duration>,
    /// Stop after so many lines
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub count: Option<u64>,
    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = parse::duration, help_heading = "Output")]
    pub duration: Option<Duration>,
}

pub(crate) fn run(args: &TraceArgs, env: &mut Env) -> anyhow::Result<Exit> {
    let limit = match (args.summary, args.duration) {
        (Some(_), Some(_)) => bail!("--summary and --duration both say how long; give one"),
        (summary, duration) => summary.or(duration),
    };
    if args.summary.is_some() && args.life {
        bail!("--summary and --life are two outputs; give one");
    }
    signal::watch();
    let mut session = Session::open(&args.common)?;
    let names = std::mem::take(&mut session.names);
    let filter = select::expression(&args.selection, &names)?;
    if filter.is_kernel_only() {
        bail!("only the kernel's socket tables know `autobound`; a change of state does not tell it");
    }
    let mut head = session.head("trace");
    let place = place(args, &session)?;
    let mut gaps = Vec::new();
    let mut remains = None;
    let mut changes = if let Some(changes) = traced(args, args.ring_size, &place, &filter, &mut gaps)? {
        head.source = changes.via();
        head.netns = place.one();
        remains = args.life.then(|| TimewaitLookup::of(&session.live));
        changes
    } else {
        if place == Place::Host && args.common.origin.netns.is_empty() {
            gaps.push(Gap::new(Missing::OtherNetns, Why::NoneNamed, WayOut::AllNetns));
        }
        Changes::poll(session.live, args.interval)?
    };
    let where_ = match &changes {
        Changes::Poll(poll) => poll.place(),
        _ => place.words(),
    };
    gaps.extend(changes.gaps());
    let mut trace = Trace {
        args,
        filter,
        names,
        layout: env.width.map_or(lines::Layout::Tabs, lines::Layout::Terminal),
        lives: Lives::default(),
        remains,
        matrix: lines::Matrix::new(),
        shown: 0,
        seen: 0,
        told_lost: 0,
        started: Instant::now(),
        text: String::new(),
        bytes: Vec::new(),
    };
    let mut head = out::head(&head);
    head.insert("via".into(), json!(changes.via()));
    trace.begin(env, head, &changes, &where_, &gaps)?;
    let late = trace.follow(env, &mut changes, limit)?;
    let lost = changes.lost().map(|l| l.total());
    trace.end(env, lost, changes.unseen())?;
    let imperfect = !gaps.is_empty() || late || lost.is_some_and(|n| n > 0);
    Ok(if args.common.strict && imperfect { Exit::Failed } else { Exit::Done })
}

/// The network namespaces to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// All of the host.
    Host,
    /// Those with these inodes.
    Among(Vec<u32>),
}

impl Place {
    /// The inode, if it is one.
    fn one(&self) -> Option<u64> {
        match self {
            Place::Among(inodes) if inodes.len() == 1 => inodes.first().copied().map(u64::from),
            _ => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Place::Host => "all network namespaces".into(),
            Place::Among(inodes) if inodes.len() == 1 => "one network namespace".into(),
            Place::Among(inodes) => format!("{} network namespaces", inodes.len()),
        }
    }
}

fn place(args: &TraceArgs, session: &Session) -> anyhow::Result<Place> {
    let all = args.common.origin.netns.iter().any(|word| word == "all");
    if all || (args.common.origin.netns.is_empty() && !args.this_netns) {
        return Ok(Place::Host);
    }
    let inode = |id: Option<NetnsId>| u32::try_from(id?.get()).ok();
    match session.live.spaces().map(|space| inode(space.inode)).collect() {
        Some(inodes) => Ok(Place::Among(inodes)),
        None => bail!("the network namespace of this process cannot be told; mount /proc"),
    }
}

/// The first source that works of those that record every change; `None` to poll. Why a better one does not work is a
/// gap, or an error where it was demanded.
fn traced(
    args: &TraceArgs,
    ring_bytes: usize,
    place: &Place,
    filter: &Expr,
    gaps: &mut Vec<Gap>,
) -> anyhow::Result<Option<Changes>> {
    let via = if args.poll { ViaArg::Poll } else { args.via };
    let bpf = || match place {
        Place::Host => Changes::bpf(ring_bytes, None),
        Place::Among(inodes) => Changes::bpf_among(ring_bytes, inodes),
    };
    let tracefs = || match place {
        Place::Host => Changes::tracefs(ring_bytes, args.life, filter.event_filter().as_deref()),
        Place::Among(_) => Err(Gap::new(Missing::Trace(Some(Tracer::Tracefs)), Why::TracefsScope, WayOut::None)),
    };
    let sources: &[&dyn Fn() -> Result<Changes, Gap>] = match via {
        ViaArg::Auto => &[&bpf, &tracefs],
        ViaArg::Bpf => &[&bpf],
        ViaArg::Tracefs => &[&tracefs],
        ViaArg::Poll => &[],
    };
    for open in sources {
        match open() {
            Ok(changes) => return Ok(Some(changes)),
            Err(gap) if via != ViaArg::Auto => bail!("{}", words::line(&gap)),
            Err(gap) => gaps.push(gap),
        }
    }
    Ok(None)
}

struct Trace<'a> {
    args: &'a TraceArgs,
    filter: Expr,
    names: SystemNames,
    layout: lines::Layout,
    lives: Lives,
    remains: Option<TimewaitLookup>,
    matrix: lines::Matrix,
    shown: u64,
    seen: u64,
    told_lost: u64,
    started: Instant,
    text: String,
    bytes: Vec<u8>,
}

impl Trace<'_> {
    fn json(&self) -> bool {
        self.args.common.json
    }

    fn begin(
        &mut self,
        env: &mut Env,
        head: Map<String, serde_json::Value>,
        changes: &Changes,
        where_: &str,
        gaps: &[Gap],
    ) -> anyhow::Result<()> {
        if self.json() {
            out::line(&mut env.stdout, "header", head)?;
        } else {
            let what = match changes {
                Changes::Bpf(_) => "a BPF program",
                Changes::Tracefs(_) => "tracefs",
                Changes::Poll(_) => "differences of two looks",
            };
            writeln!(env.stderr, "trace: from {what}, {where_}")?;
            if self.args.summary.is_none() {
                self.text.clear();
                lines::write_header(&mut self.text, self.args.life, self.layout);
                env.stdout.write_all(self.text.as_bytes())?;
            }
        }
        self.tell(env, gaps)?;
        env.stdout.flush()?;
        Ok(())
    }

    /// Gaps, each as soon as it is known.
    fn tell(&self, env: &mut Env, gaps: &[Gap]) -> anyhow::Result<()> {
        for gap in gaps {
            if self.json() {
                out::line(&mut env.stdout, "gap", words::object(gap))?;
            } else {
                writeln!(env.stderr, "note: {}", words::line(gap))?;
            }
        }
        Ok(())
    }

    /// Shows changes until something ends it. Says whether anything went wrong on the way.
    fn follow(&mut self, env: &mut Env, changes: &mut Changes, limit: Option<Duration>) -> anyhow::Result<bool> {
        let mut late = false;
        loop {
            // Asked before the last look, so that what came until then is in it.
            let interrupted = signal::interrupted();
            let left = limit.map_or(PATIENCE, |limit| limit.saturating_sub(self.started.elapsed()));
            let left = if interrupted { Duration::ZERO } else { left };
            let mut failed = None;
            let troubles = changes.next(left.min(PATIENCE), &mut |t| {
                if failed.is_none() && !self.is_full() {
                    failed = self.take(env, &t).err();
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            late |= !troubles.is_empty();
            self.tell(env, &troubles)?;
            self.tell_lost(env, changes.lost())?;
            env.stdout.flush()?;
            if left.is_zero() || self.is_full() {
                return Ok(late);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.args.count.is_some_and(|n| self.shown >= n)
    }

    /// One change: counted, and shown if it is wanted.
    fn take(&mut self, env: &mut Env, t: &Transition) -> anyhow::Result<()> {
        self.seen += 1;
        let (in_old_ns, life) = self.lives.add(t);
        if self.args.life {
            let Some(mut life) = life else { return Ok(()) };
            // The end of a connection is judged by the addresses that it had.
            let ended = Transition { local: life.local, peer: life.peer, ..t.clone() };
            if !self.wants(&ended) {
                return Ok(());
            }
            self.shown += 1;
            if life.inferred
                && let (Some(remains), Some(cookie)) = (&mut self.remains, life.cookie)
            {
                let found = remains.state(life.netns, life.family, (life.local, life.peer), cookie);
                life.inferred = found != Some(State::TimeWait);
            }
            if self.json() {
                self.bytes.clear();
                lines::write_life_json(&mut self.bytes, &life)?;
                env.stdout.write_all(&self.bytes)?;
            } else {
                self.text.clear();
                lines::write_life(&mut self.text, &life, &self.names, self.layout);
                env.stdout.write_all(self.text.as_bytes())?;
            }
            return Ok(());
        }
        if !self.wants(t) {
            return Ok(());
        }
        self.shown += 1;
        if self.args.summary.is_some() {
            *self.matrix.entry((t.old.map(State::kernel), t.new.kernel())).or_default() += 1;
        } else if self.json() {
            self.bytes.clear();
            lines::write_change_json(&mut self.bytes, t, in_old_ns)?;
            env.stdout.write_all(&self.bytes)?;
        } else {
            self.text.clear();
            lines::write_change(&mut self.text, t, in_old_ns, &self.names, self.layout);
            env.stdout.write_all(self.text.as_bytes())?;
        }
        Ok(())
    }

    /// Whether the filter wants it: its state is the new one, its owner the process that held it.
    fn wants(&self, t: &Transition) -> bool {
        if self.filter.is_all() {
            return true;
        }
        let socket = Socket {
            netns: t.netns,
            family: t.family,
            state: t.new,
            local: t.local,
            peer: t.peer,
            cookie: t.cookie,
            ..Socket::default()
        };
        let actor = t.by.as_ref().and_then(By::actor);
        let process = actor.map(|a| Process { pid: a.pid, comm: a.comm.clone(), ..Process::default() });
        let holders: &[Holder] = if process.is_some() { &[Holder { inode: None, process: 0, fd: 0 }] } else { &[] };
        let status = if process.is_some() { OwnerStatus::Known } else { OwnerStatus::NotCollected };
        let owners = OwnerTable::new(process.into_iter().collect(), holders.to_vec(), 0);
        self.filter.matches(&Row { socket: &socket, status, holders, owners: &owners, names: &self.names })
    }

    /// Says what was lost since the last time.
    fn tell_lost(&mut self, env: &mut Env, lost: Option<Lost>) -> anyhow::Result<()> {
        let total = lost.map_or(0, |l| l.total());
        let new = total.saturating_sub(self.told_lost);
        if new == 0 {
            return Ok(());
        }
        self.told_lost = total;
        if self.json() {
            let mut map = Map::new();
            map.insert("records".into(), json!(new));
            map.insert("total".into(), json!(total));
            out::line(&mut env.stdout, "lost", map)?;
        } else {
            writeln!(
                env.stderr,
                "lost: {new} changes ({total} in all): read too slowly, or give a larger --ring-size"
            )?;
        }
        Ok(())
    }

    fn end(&mut self, env: &mut Env, lost: Option<u64>, unseen: Option<u64>) -> anyhow::Result<()> {
        let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.json() {
            if self.args.summary.is_some() {
                out::line(&mut env.stdout, "matrix", lines::matrix_json(&self.matrix, duration_ms))?;
            }
            let mut map = Map::new();
            map.insert("total".into(), json!(self.shown));
            map.insert("transitions".into(), json!(self.seen));
            map.insert("lost".into(), json!(lost));
            map.insert("unseen".into(), json!(unseen));
            map.insert("forgotten".into(), json!(self.lives.forgotten()));
            map.insert("duration_ms".into(), json!(duration_ms));
            out::line(&mut env.stdout, "end", map)?;
            env.stdout.flush()?;
            return Ok(());
        }
        if self.args.summary.is_some() {
            self.text.clear();
            lines::write_matrix(&mut self.text, &self.matrix);
            env.stdout.write_all(self.text.as_bytes())?;
        }
        env.stdout.flush()?;
        let lost = match (lost, unseen) {
            (Some(n), _) => format!("{n} lost"),
            (None, Some(n)) => format!("an unknown number not seen; {n} sockets came and went between two looks"),
            (None, None) => "an unknown number not seen".into(),
        };
        let time = lines::span(duration_ms.saturating_mul(1_000_000));
        writeln!(env.stderr, "trace: {} shown of {} changes in {time}, {lost}", self.shown, self.seen)?;
        if self.lives.forgotten() > 0 {
            writeln!(env.stderr, "note: {} connections were too many to follow", self.lives.forgotten())?;
        }
        Ok(())
    }
}
