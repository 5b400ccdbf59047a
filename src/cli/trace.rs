//! `tcpstate trace`: every change of state as it happens.
//!
//! Input: its arguments. Output: a line for each change, or for each connection that ended, or one matrix; what the
//! source cannot see, what was lost, and totals at the end.

mod recorded;

use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::{Map, json};

use crate::aggregate::endings::Endings;
use crate::aggregate::lives::{Closer, End, EndedBy, Life, Lives, Opener};
use crate::cli::args::{Common, Selection};
use crate::cli::env::Env;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::stretch::Range;
use crate::cli::{parse, select, signal};
use crate::collect::changes::{self, Changes, Faults, Lost, Request, Scope, Source};
use crate::collect::clock::millis;
use crate::collect::names::SystemNames;
use crate::collect::timewait::TimewaitLookup;
use crate::filter::Expr;
use crate::model::cgroup::Identity;
use crate::model::column::Change;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::transition::{By, Transition, Via};
use crate::model::{Event, Gap, NetnsId, State};
use crate::render::{gap as words, json as out, trace as lines};
use crate::text;

/// Longest wait for changes; it bounds how late losses are reported.
const PATIENCE: Duration = Duration::from_millis(100);

/// Which source to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViaArg {
    Auto,
    One(Via),
}

impl ViaArg {
    const ALL: [ViaArg; Via::ALL.len() + 1] = {
        let mut all = [ViaArg::Auto; Via::ALL.len() + 1];
        let mut i = 0;
        while i < Via::ALL.len() {
            all[i + 1] = ViaArg::One(Via::ALL[i]);
            i += 1;
        }
        all
    };
}

impl ValueEnum for ViaArg {
    fn value_variants<'a>() -> &'a [ViaArg] {
        const { &ViaArg::ALL }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            ViaArg::Auto => PossibleValue::new("auto").help("The first of the following that works here"),
            ViaArg::One(via) => PossibleValue::new(via.key()).help(via.help()),
        })
    }
}

const EXAMPLES: &str = "\
Examples:
  tcpstate trace                            a line per change, of all network namespaces
  tcpstate trace state close-wait           whose peers have closed
  tcpstate trace --life dport = :443        a line per connection that ended: who opened, who closed first
  tcpstate trace --failed dport = :443      connects that fail: refused, timed out, given up
  tcpstate trace --resets                   who sent a RST, and why
  tcpstate trace --summary 10s              which changes, and how many
  tcpstate trace --json --duration 1m       JSON lines
  tcpstate trace --netns web                one network namespace, from where you stand
  tcpstate trace --poll --interval 100ms    without privileges: differences of two samples
  tcpstate trace --from now.tcps.zst --since 5m      what changed in the last 5 minutes of a recording

A process in [brackets] held the socket while a packet was handled; without them it made the change by a system call.
TIME_WAIT with an asterisk is inferred. Interrupt it for the totals.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, mut_args(Range::without_at))]
pub struct TraceArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// How to observe changes
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW", help_heading = "Trace")]
    pub via: ViaArg,
    /// The same as --via poll
    #[arg(long, conflicts_with = "via", help_heading = "Trace")]
    pub poll: bool,
    /// For polling: the time between two samples
    #[arg(long, value_name = "TIME", value_parser = parse::interval, default_value = "200ms", help_heading = "Trace")]
    pub interval: Duration,
    /// This network namespace only; without it and without --netns, the whole host
    #[arg(long, conflicts_with_all = ["netns", "container", "pod"], help_heading = "Trace")]
    pub this_netns: bool,
    /// Buffer for unread changes; a change takes 136 bytes
    #[arg(long, value_name = "SIZE", value_parser = parse::ring_bytes, default_value = "8M", help_heading = "Trace")]
    pub ring_size: usize,
    /// A line per connection that has ended
    #[arg(long, help_heading = "Output")]
    pub life: bool,
    /// A line per connect that failed, with what ended it
    #[arg(long, conflicts_with = "summary", help_heading = "Output")]
    pub failed: bool,
    /// A line per reset, sent or received, with the kernel's reason; needs BPF or tracefs
    #[arg(long, conflicts_with_all = ["summary", "life", "failed"], help_heading = "Output")]
    pub resets: bool,
    /// A line per segment that is sent again; needs BPF or tracefs
    #[arg(long, conflicts_with_all = ["summary", "life", "failed"], help_heading = "Output")]
    pub retransmits: bool,
    /// Count for this time, and print how often each change was seen
    #[arg(long, value_name = "TIME", value_parser = parse::duration, help_heading = "Output")]
    pub summary: Option<Duration>,
    /// Stop after this many lines
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub count: Option<u64>,
    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = parse::duration, help_heading = "Output")]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub range: Range,
    #[command(flatten)]
    pub common: Common,
}

impl TraceArgs {
    /// What is printed a line for.
    fn lines(&self) -> lines::Lines {
        if self.life || self.failed {
            lines::Lines::Lives
        } else if self.resets || self.retransmits {
            lines::Lines::Faults
        } else {
            lines::Lines::Changes
        }
    }

    /// What is needed beside changes: lives tell the reset that ended them.
    fn faults(&self) -> Faults {
        let mut faults = if self.retransmits { Faults::RETRANSMITS } else { Faults::NONE };
        faults.resets = self.resets || self.lines() == lines::Lines::Lives;
        faults
    }
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
    let (mut session, of_recording) = match recorded::open(args, limit)? {
        Some(recorded::Recorded { session, snapshots, interval, span_ms, told }) => {
            (session, Some((snapshots, interval, span_ms, told)))
        }
        None => (Session::open(&args.common)?, None),
    };
    let names = std::mem::take(&mut session.names);
    let filter = select::of_command_line(&args.selection, &args.common.origin, &names, env)?;
    if filter.is_kernel_only() {
        bail!("only the kernel's socket tables know `autobound`; a change of state does not have it");
    }
    if let Some(column) = filter.unmatched_by_changes() {
        bail!("filter: a change of state has no `{column}`, so that none would match; `tcpstate list` can test it");
    }
    let mut head = session.head("trace");
    let scope = scope(args, &session)?;
    let (replay, interval, recording) = match of_recording {
        Some((snapshots, interval, span_ms, told)) => (Some(snapshots), interval, Some((span_ms, told))),
        None => (None, args.interval, None),
    };
    let has_members = scope != Scope::Among(vec![session.live.own_netns()]) && session.live.has_members();
    let lives = args.lines() == lines::Lines::Lives;
    let timewait = lives.then(|| TimewaitLookup::of(&session.live));
    let mut request = Request {
        scope: scope.clone(),
        ring_bytes: args.ring_size,
        lives,
        changes: Changes::All,
        faults: args.faults(),
        event_filter: filter.event_filter(),
        live: Some(session.live),
        interval,
        replay,
    };
    let (mut changes, mut gaps) = match args.via {
        _ if args.poll || recording.is_some() => changes::begin_first(&[Via::Poll], &mut request)?,
        ViaArg::Auto => changes::begin_first(Via::ALL, &mut request)?,
        ViaArg::One(via) => changes::begin_first(&[via], &mut request)?,
    };
    let via = changes.via();
    head.source = changes.source();
    if via == Via::Poll {
        if recording.is_none() && scope == Scope::Host && !args.common.origin.names_netns() {
            gaps.push(Gap::new(Missing::OtherNetns, Why::NoneNamed, WayOut::AllNetns));
        }
    } else {
        head.netns = scope.one().map(NetnsId::get);
    }
    gaps.extend(changes.gaps());
    if via == Via::Poll {
        let wanted = [
            ("sock:inet_sk_error_report", lives),
            ("tcp:tcp_send_reset", args.resets),
            ("tcp:tcp_retransmit_skb", args.retransmits),
        ];
        let names = wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name);
        gaps.extend(names.map(|name| Gap::new(Missing::Tracepoint { name }, Why::OnlyTraced, WayOut::UseTrace)));
    }
    let members = filter.needs().cgroups || has_members;
    let mut trace = TraceRun {
        args,
        filter,
        names,
        layout: env.width.map_or(lines::Layout::Tabs, lines::Layout::Terminal),
        lives: Lives::default(),
        endings: Endings::default(),
        // Polling sees TIME_WAIT itself.
        timewait: timewait.filter(|_| via != Via::Poll),
        matrix: lines::Matrix::new(),
        identifies: args.common.json || members,
        members,
        shown: 0,
        seen: 0,
        reported_lost: 0,
        recording,
        started: Instant::now(),
        turned: Instant::now(),
        text: String::new(),
        bytes: Vec::new(),
    };
    let mut head = out::head(&head);
    head.insert("via".into(), json!(via.key()));
    trace.begin(env, head, &*changes, &gaps)?;
    // The time of a recording is its own.
    let late = trace.follow(env, &mut *changes, limit.filter(|_| trace.recording.is_none()))?;
    let lost = changes.lost().map(|l| l.total());
    trace.end(env, lost, changes.unseen())?;
    let imperfect = !gaps.is_empty() || late || lost.is_some_and(|n| n > 0);
    Ok(if args.common.strict && imperfect { Exit::Failed } else { Exit::Done })
}

/// The network namespaces to trace.
fn scope(args: &TraceArgs, session: &Session) -> anyhow::Result<Scope> {
    let origin = &args.common.origin;
    // A container that restarts has another namespace: then its changes are told by the filter.
    let all = origin.netns.iter().any(|word| word == "all") || (origin.netns.is_empty() && origin.names_members());
    if all || (!origin.names_netns() && !args.this_netns) {
        return Ok(Scope::Host);
    }
    let inodes: Vec<Option<NetnsId>> = session.live.spaces().map(|space| space.inode).collect();
    if inodes.contains(&None) {
        bail!("cannot read the inode of this network namespace; mount /proc");
    }
    Ok(Scope::Among(inodes))
}

/// The origin of a trace, as text.
fn scope_label(scope: &Scope) -> String {
    match scope {
        Scope::Host => "all network namespaces".into(),
        Scope::Among(inodes) if inodes.len() == 1 => "one network namespace".into(),
        Scope::Among(inodes) => format!("{} network namespaces", inodes.len()),
    }
}

struct TraceRun<'a> {
    args: &'a TraceArgs,
    filter: Expr,
    names: SystemNames,
    layout: lines::Layout,
    lives: Lives,
    endings: Endings,
    timewait: Option<TimewaitLookup>,
    matrix: lines::Matrix,
    /// Whether anything asks what a change belongs to.
    identifies: bool,
    /// Whether lines have a column for it.
    members: bool,
    shown: u64,
    seen: u64,
    reported_lost: u64,
    /// How long a recording is, and what it is called.
    recording: Option<(u64, String)>,
    started: Instant,
    /// When a round of [`Endings`] ended.
    turned: Instant,
    text: String,
    bytes: Vec<u8>,
}

impl TraceRun<'_> {
    fn json(&self) -> bool {
        self.args.common.json
    }

    fn begin(
        &mut self,
        env: &mut Env,
        head: Map<String, serde_json::Value>,
        changes: &dyn Source,
        gaps: &[Gap],
    ) -> anyhow::Result<()> {
        if self.json() {
            out::line(&mut env.stdout, "header", head)?;
        } else {
            let (what, scope) = (changes.via().name(), scope_label(&changes.scope()));
            match &self.recording {
                Some((_, told)) => writeln!(env.stderr, "trace: from {told}")?,
                None => writeln!(env.stderr, "trace: from {what}, {scope}")?,
            }
            if self.args.summary.is_none() {
                self.text.clear();
                lines::write_header(&mut self.text, self.args.lines(), self.layout, self.members);
                env.stdout.write_all(self.text.as_bytes())?;
            }
        }
        self.report_gaps(env, gaps)?;
        env.stdout.flush()?;
        Ok(())
    }

    /// Reports each gap as soon as it is known.
    fn report_gaps(&self, env: &mut Env, gaps: &[Gap]) -> anyhow::Result<()> {
        for gap in gaps {
            if self.json() {
                out::line(&mut env.stdout, "gap", words::object(gap))?;
            } else {
                env.note(&words::line(gap))?;
            }
        }
        Ok(())
    }

    /// Shows changes until something ends it. Returns whether anything failed on the way.
    fn follow(&mut self, env: &mut Env, changes: &mut dyn Source, limit: Option<Duration>) -> anyhow::Result<bool> {
        let mut late = false;
        loop {
            // Read before the last drain, so that the drain has everything up to then.
            let interrupted = signal::interrupted();
            let left = limit.map_or(PATIENCE, |limit| limit.saturating_sub(self.started.elapsed()));
            let left = if interrupted { Duration::ZERO } else { left };
            let mut failed = None;
            let troubles = changes.drain(left.min(PATIENCE), &mut |event| {
                if failed.is_none() && !self.is_full() {
                    failed = self.apply(env, &event).err();
                }
            })?;
            let is_last = left.is_zero() || changes.has_ended();
            // A round is long enough for a task that was preempted in the call that makes both.
            if is_last || self.recording.is_some() || self.turned.elapsed() >= PATIENCE {
                self.endings.turn(is_last);
                self.turned = Instant::now();
            }
            self.write_lives(env)?;
            if let Some(error) = failed {
                return Err(error);
            }
            late |= !troubles.is_empty();
            self.report_gaps(env, &troubles)?;
            self.report_lost(env, changes.lost())?;
            env.stdout.flush()?;
            if is_last || self.is_full() {
                return Ok(late);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.args.count.is_some_and(|n| self.shown >= n)
    }

    /// One event: counted, and shown if it matches.
    fn apply(&mut self, env: &mut Env, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Change(t) => self.change(env, t),
            _ if self.args.lines() == lines::Lines::Lives => {
                match event {
                    Event::ResetSent(reset) => {
                        self.lives.reset(&reset.at, EndedBy::ResetSent(reset.reason));
                        self.endings.reset(reset);
                    }
                    Event::ResetReceived(reset) => self.lives.reset(&reset.at, EndedBy::ResetReceived),
                    _ => {}
                }
                self.write_lives(env)
            }
            _ => self.fault(env, event),
        }
    }

    /// A reset or a repeated segment, where they are shown.
    fn fault(&mut self, env: &mut Env, event: &Event) -> anyhow::Result<()> {
        let Some(fault) = lines::Fault::of(event).filter(|_| self.args.lines() == lines::Lines::Faults) else {
            return Ok(());
        };
        let identity = self.identity(fault.at.netns, fault.at.by.as_ref());
        if !self.wants(&fault.as_change(), identity.as_deref()) {
            return Ok(());
        }
        self.shown += 1;
        self.bytes.clear();
        self.text.clear();
        if self.json() {
            lines::write_fault_json(&mut self.bytes, &fault, identity.as_deref())?;
            env.stdout.write_all(&self.bytes)?;
        } else {
            let mut text = std::mem::take(&mut self.text);
            lines::write_fault(&mut text, &fault, &self.line(identity.as_deref()));
            self.text = text;
            env.stdout.write_all(self.text.as_bytes())?;
        }
        Ok(())
    }

    fn change(&mut self, env: &mut Env, t: &Transition) -> anyhow::Result<()> {
        self.seen += 1;
        self.endings.pass(t);
        // Now, because a process may be gone when its connection ends.
        let identity = self.identity(t.netns, t.by.as_ref());
        let (in_old_ns, life) = self.lives.add(t);
        match self.args.lines() {
            lines::Lines::Faults => return Ok(()),
            lines::Lines::Lives => {
                let Some(life) = life.filter(|l| !self.args.failed || l.ended == Some(End::Failed)) else {
                    return Ok(());
                };
                // At its end a connection may have lost its addresses.
                let ended = Transition { local: life.local, peer: life.peer, ..*t };
                let identity = self.of_life(&life);
                if self.wants(&ended, identity.as_deref()) {
                    self.endings.add(Life { identity, ..life }, t);
                }
                return self.write_lives(env);
            }
            lines::Lines::Changes => {}
        }
        if !self.wants(t, identity.as_deref()) {
            return Ok(());
        }
        self.shown += 1;
        if self.args.summary.is_some() {
            *self.matrix.entry((t.old.map(State::kernel), t.new.kernel())).or_default() += 1;
        } else if self.json() {
            self.bytes.clear();
            lines::write_change_json(&mut self.bytes, t, in_old_ns, identity.as_deref())?;
            env.stdout.write_all(&self.bytes)?;
        } else {
            self.text.clear();
            let mut text = std::mem::take(&mut self.text);
            lines::write_change(&mut text, t, in_old_ns, &self.line(identity.as_deref()));
            self.text = text;
            env.stdout.write_all(self.text.as_bytes())?;
        }
        Ok(())
    }

    /// Shows the lives that wait for nothing more.
    fn write_lives(&mut self, env: &mut Env) -> anyhow::Result<()> {
        while !self.is_full()
            && let Some(mut life) = self.endings.next()
        {
            self.shown += 1;
            if life.inferred
                && let (Some(timewait), Some(cookie)) = (&mut self.timewait, life.cookie)
            {
                let found = timewait.state(life.netns, life.family, (life.local, life.peer), cookie);
                life.inferred = found != Some(State::TimeWait);
            }
            if self.json() {
                self.bytes.clear();
                lines::write_life_json(&mut self.bytes, &life)?;
                env.stdout.write_all(&self.bytes)?;
            } else {
                self.text.clear();
                let mut text = std::mem::take(&mut self.text);
                text.clear();
                lines::write_life(&mut text, &life, &self.line(life.identity.as_deref()));
                self.text = text;
                env.stdout.write_all(self.text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// What a change belongs to, while that can be read; nothing where nobody asks.
    fn identity(&self, netns: Option<NetnsId>, by: Option<&By>) -> Option<Rc<Identity>> {
        self.identifies.then(|| self.names.belongs(netns, by.and_then(By::actor).map(|actor| actor.pid))).flatten()
    }

    /// The same of a connection that has ended: by the process of this end that closed or opened it.
    fn of_life(&self, life: &Life) -> Option<Rc<Identity>> {
        let actor = match (&life.closed_first, &life.opened) {
            (Some(Closer::Local(Some(actor))), _) | (_, Some(Opener::Local(Some(actor)))) => Some(actor.pid),
            _ => None,
        };
        self.identifies.then(|| self.names.belongs(life.netns, actor)).flatten()
    }

    fn line<'l>(&'l self, identity: Option<&'l Identity>) -> lines::Line<'l> {
        lines::Line { names: &self.names, layout: self.layout, identity, members: self.members }
    }

    fn wants(&self, t: &Transition, identity: Option<&Identity>) -> bool {
        self.filter.is_all() || self.filter.matches(&Change { transition: t, names: &self.names, identity })
    }

    /// Reports what was lost since the last report.
    fn report_lost(&mut self, env: &mut Env, lost: Option<Lost>) -> anyhow::Result<()> {
        let total = lost.map_or(0, |l| l.total());
        let new = total.saturating_sub(self.reported_lost);
        if new == 0 {
            return Ok(());
        }
        self.reported_lost = total;
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
        let passed_ms = millis(self.started.elapsed());
        let duration_ms = self.recording.as_ref().map_or(passed_ms, |(span_ms, _)| *span_ms);
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
            (None, Some(n)) => format!("an unknown number not seen; {n} sockets came and went between two samples"),
            (None, None) => "an unknown number not seen".into(),
        };
        let time = text::compact_ms(duration_ms);
        writeln!(env.stderr, "trace: {} shown of {} changes in {time}, {lost}", self.shown, self.seen)?;
        if self.lives.forgotten() > 0 {
            env.note(&format!("{} connections were too many to follow", self.lives.forgotten()))?;
        }
        Ok(())
    }
}
