//! Takes the samples: asks the kernel for what is wanted and no more, follows the rows, finds the owners of newcomers.
//!
//! Comes in: the flags once, and a [`Want`] per sample. Goes out: a [`Frame`]. Never here: output, waiting.
//!
//! What is asked of the kernel:
//!
//! - the states that the selection names. Where owners are wanted, every connected state besides: a TIME_WAIT row has
//!   the owner that its socket was seen with before, so its socket must have been seen;
//! - with TIME_WAIT also FIN_WAIT2, whose small form becomes TIME_WAIT;
//! - no attributes, but for the one socket that is looked at closely;
//! - owners only of sockets that are new, and that not for more than one part in fifty of the time.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use rustc_hash::{FxHashMap, FxHashSet};

use super::WatchArgs;
use super::place::{Place, Placed};
use super::tracing::BackgroundTrace;
use crate::aggregate::owner::OwnerId;
use crate::aggregate::ownership::Ownership;
use crate::aggregate::tracker::Sight;
use crate::aggregate::{Accounts, Listeners, Reading, TracedSums, Tracker};
use crate::cli::select;
use crate::cli::session::Session;
use crate::collect::clock::monotonic_ms;
use crate::collect::{Ahead, Families, Query};
use crate::diagnose::{Rows, Thresholds};
use crate::filter::{self, Abilities, Expr};
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::sysctl::Sysctl;
use crate::model::{Family, Gap, Inode, OwnerStatus, OwnerTable, Snapshot, Socket, State, StateSet};
use crate::render::watch::{Frame, Group, GroupBy, GroupId, Groups, Line, Lines, Sighting, Sort, Stay, Whose};

/// What the next sample should bring beside counts.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub filter: Expr,
    pub interval_ms: u64,
    pub by: Option<GroupBy>,
    pub top: usize,
    pub lines: Option<WantLines>,
    pub events: bool,
}

/// Which rows a drill-down shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct WantLines {
    pub rows: Rows,
    pub group: Option<(GroupBy, GroupId)>,
    pub sort: Sort,
    pub descending: bool,
    /// One socket: everything about it.
    pub only: Option<Box<Socket>>,
}

/// Rows of a drill-down that are sent; sorting happens before.
const LINES: usize = 2000;
/// Rows of a drill-down that are sorted.
const SORTED: usize = 50_000;
/// Newcomers without owner that are held back until the processes were read.
const HELD_BACK: usize = 10_000;
/// Looking for owners may take one part in this many of the time; what is not used is saved, up to a second.
const WALK_THRIFT: u32 = 50;
const SAVED: Duration = Duration::from_secs(1);
/// Running the rules may take one part in this many of the time.
const JUDGE_THRIFT: u32 = 200;
/// Owners are read anew at least so seldom: a descriptor may be passed on.
const REFRESH: Duration = Duration::from_secs(10);
/// Rules are run at least so seldom.
const JUDGE: Duration = Duration::from_secs(5);
/// Up to so many sockets the rules are run.
const JUDGED_SOCKETS: u64 = 50_000;
/// Below this size of the kernel's hash table (`tcp_ehash_entries`) a dump under churn misses rows.
const SMALL_TABLE: u64 = 4096;

/// Everything that lasts from sample to sample.
pub(crate) struct Sampler {
    session: Session,
    with_owners: bool,
    with_findings: bool,
    tracker: Tracker,
    ownership: Ownership,
    accounts: Accounts,
    listeners: Listeners,
    host: Arc<str>,
    kernel: Arc<str>,
    samples: u64,
    /// The filter that the rows were followed under; another one begins a new life.
    followed: Option<Expr>,
    /// When the credit was last reckoned, and what there is of it.
    reckoned: Instant,
    credit: Duration,
    walk_cost: Duration,
    refreshed: Option<Instant>,
    judged: Option<Instant>,
    judged_at_ms: Option<u64>,
    judge_cost: Duration,
    thresholds: Thresholds,
    before: Option<Snapshot>,
    findings: Arc<Vec<Sighting>>,
    skipped: u64,
    judge_gaps: Vec<Gap>,
    trace: BackgroundTrace,
}

impl Sampler {
    pub(crate) fn open(args: &WatchArgs, thresholds: Thresholds) -> anyhow::Result<Sampler> {
        let mut session = Session::open(&args.common)?;
        let listeners = session.listeners()?;
        session.live.cgroups = true;
        let host = session.live.host().clone();
        let mut tracker = Tracker::new(args.track);
        let entries = session.live.netns_facts().sysctl(Sysctl::Ipv4TcpEhashEntries);
        tracker.tolerant = entries.is_some_and(|n| n < SMALL_TABLE);
        Ok(Sampler {
            session,
            with_owners: !args.common.no_owners,
            with_findings: !args.no_findings && !args.common.no_owners,
            tracker,
            ownership: Ownership::default(),
            accounts: Accounts::default(),
            listeners,
            host: host.name.into(),
            kernel: host.kernel.into(),
            samples: 0,
            followed: None,
            reckoned: Instant::now(),
            credit: SAVED / 2,
            walk_cost: Duration::ZERO,
            refreshed: None,
            judged: None,
            judged_at_ms: None,
            judge_cost: Duration::ZERO,
            thresholds,
            before: None,
            findings: Arc::default(),
            skipped: 0,
            judge_gaps: Vec::new(),
            // Without owners and unasked it would be for the sums alone.
            trace: BackgroundTrace::new(args.trace, !args.no_trace && !args.common.no_owners),
        })
    }

    /// Says that so many intervals passed without a sample.
    pub(crate) fn skip(&mut self, intervals: u64) {
        self.skipped += intervals;
    }

    /// The states to ask for.
    fn states(&self, filter: &Expr) -> StateSet {
        let mut states = filter.state_bound();
        if states.contains(State::TimeWait) {
            states = states.union(StateSet::of(&[State::FinWait2]));
        }
        if self.with_owners { states.union(StateSet::CONNECTED) } else { states }
    }

    /// Takes a sample.
    pub(crate) fn sample(&mut self, want: &Want) -> anyhow::Result<Frame> {
        let started = Instant::now();
        if self.followed.as_ref() != Some(&want.filter) {
            let tracker = std::mem::replace(&mut self.tracker, Tracker::new(0));
            self.tracker = tracker.renewed();
            self.accounts = Accounts::default();
            self.samples = 0;
            self.followed = Some(want.filter.clone());
        }
        self.samples += 1;
        let first = self.samples == 1;
        let members = select::whatever_state(&want.filter);
        let compiled = filter::compile(&members, Abilities { mark: false, cgroup: false });
        if let Some(why) = compiled.unpushable {
            bail!("filter: {why}");
        }
        let asked = self.states(&want.filter);
        let families = match want.filter.family_bound() {
            Some(family) => Families::Only(family),
            None => Families::Both,
        };
        let needs = want.filter.needs();
        let query = Query {
            ahead: Ahead::No,
            states: asked,
            families,
            attributes: crate::collect::plan::attributes(needs),
            bytecode: compiled.program,
        };
        self.session.gaps.clear();
        self.trace.begin(&self.session.live)?;
        self.roles()?;
        self.trace.learn(self.samples, self.session.live.root(), &mut self.ownership);
        let fresh = if self.with_owners && self.refresh_is_due() { Some(self.walk(None)?) } else { None };
        if fresh.is_some() {
            self.refreshed = Some(Instant::now());
        }
        let mut reading = Reading::default();
        if !first {
            reading = Reading::of(&self.session.live.counters());
        }
        let taken_at_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        self.tracker.keep_events = want.events;
        self.tracker.begin(monotonic_ms());
        let mut held: Vec<(Socket, Sight)> = Vec::new();
        let mut missing: FxHashSet<Inode> = FxHashSet::default();
        let mut placed = Placed::new(want, SORTED);
        let dump_started = Instant::now();
        {
            let (session, tracker, ownership) = (&mut self.session, &mut self.tracker, &mut self.ownership);
            let Session { live, gaps, names, .. } = session;
            let trace = &self.trace;
            let several = live.spaces().len() > 1;
            let mut place = Place {
                want,
                members: &members,
                everything: want.filter.is_all(),
                tracker,
                ownership,
                listeners: &self.listeners,
                names,
                with_owners: self.with_owners,
                several,
            };
            live.sockets(&query, gaps, &mut |socket| {
                let sight = place.tracker.see(socket);
                if sight.repeated {
                    return ControlFlow::Continue(());
                }
                let mut owner = sight.owner;
                let mut sight = sight;
                if let (None, Some(closer)) = (owner.set(), trace.closer(socket)) {
                    (owner, sight.traced) = (closer, true);
                    place.tracker.own(socket, owner, true);
                }
                if place.with_owners && socket.inode.is_some() {
                    let holders = fresh.as_ref().map_or(&[][..], |table| table.holders(socket.inode));
                    if let (Some(table), false) = (&fresh, holders.is_empty()) {
                        owner = place.own(socket, table, holders, &sight);
                        sight.traced = false;
                    } else if owner == OwnerId::NOT_SOUGHT && held.len() < HELD_BACK {
                        missing.extend(socket.inode);
                        held.push((socket.clone(), sight));
                        return ControlFlow::Continue(());
                    }
                }
                place.put(socket, &sight, owner, &mut placed);
                ControlFlow::Continue(())
            })?;
        }
        let dump_us = u64::try_from(dump_started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.settle(&members, want, held, &missing, &mut placed)?;
        if first {
            reading = Reading::of(&self.session.live.counters());
        }
        self.tracker.finish();
        if first {
            self.trace.restart();
        }
        placed.name_owners(&self.ownership);
        self.frame(want, &query, &reading, placed, (taken_at_ms, started, dump_us))
    }

    /// Looks for the owners of newcomers, and counts these last.
    fn settle(
        &mut self,
        members: &Expr,
        want: &Want,
        held: Vec<(Socket, Sight)>,
        missing: &FxHashSet<Inode>,
        placed: &mut Placed,
    ) -> anyhow::Result<()> {
        let look = !missing.is_empty() && (self.samples == 1 || self.may_walk());
        let table = if look { Some(self.walk(Some(missing))?) } else { None };
        let mut place = Place {
            want,
            members,
            everything: want.filter.is_all(),
            tracker: &mut self.tracker,
            ownership: &mut self.ownership,
            listeners: &self.listeners,
            names: &self.session.names,
            with_owners: self.with_owners,
            several: self.session.live.spaces().len() > 1,
        };
        for (socket, sight) in held {
            let mut owner = sight.owner;
            if let Some(table) = &table {
                let holders = table.holders(socket.inode);
                if holders.is_empty() {
                    // Not to be asked for again before the next look at everything.
                    owner = OwnerId::NOBODY;
                    place.tracker.own(&socket, owner, false);
                } else {
                    owner = place.own(&socket, table, holders, &sight);
                }
            }
            place.put(&socket, &sight, owner, placed);
        }
        let (tracker, ownership, trace) = (&self.tracker, &mut self.ownership, &self.trace);
        ownership.forget(|mark| {
            tracker.mark_owners(mark);
            trace.mark_owners(mark);
        });
        Ok(())
    }

    /// LISTEN is a table of its own, and costs next to nothing.
    fn roles(&mut self) -> anyhow::Result<()> {
        if !self.with_owners && self.listeners.all().len() > 4096 {
            return Ok(());
        }
        self.listeners = self.session.listeners()?;
        Ok(())
    }

    fn refresh_is_due(&self) -> bool {
        self.refreshed.is_none_or(|at| at.elapsed() >= REFRESH.max(self.walk_cost * WALK_THRIFT * 2))
    }

    /// Whether there is time for another walk like the last.
    fn may_walk(&mut self) -> bool {
        // A trace names the closers: what it costs is saved here.
        let thrift = if self.trace.is_on() { 2 * WALK_THRIFT } else { WALK_THRIFT };
        self.credit = (self.credit + self.reckoned.elapsed() / thrift).min(SAVED);
        self.reckoned = Instant::now();
        self.credit >= self.walk_cost
    }

    fn walk(&mut self, wanted: Option<&FxHashSet<Inode>>) -> anyhow::Result<OwnerTable> {
        let started = Instant::now();
        let live = &mut self.session.live;
        let table = match wanted {
            None => live.owners(None),
            Some(wanted) => live.second_look(self.ownership.table().unreadable > 0, wanted),
        };
        let table = table.map_err(|e| anyhow!("{e}; use --no-owners to do without"))?;
        self.walk_cost = started.elapsed();
        self.credit = self.credit.saturating_sub(self.walk_cost);
        if wanted.is_none() {
            self.ownership.looked(&table);
        }
        Ok(table)
    }

    /// Puts the frame together.
    fn frame(
        &mut self,
        want: &Want,
        query: &Query,
        reading: &Reading,
        placed: Placed,
        (taken_at_ms, started, dump_us): (u64, Instant, u64),
    ) -> anyhow::Result<Frame> {
        let since = self.trace.since();
        let (ledger, ledger_gap, tick) = self.balance(want, query, reading, since.as_ref().map(|s| s.sums));
        let owners = tick.events.iter().filter_map(|event| event.owner.set());
        let labels = owners.filter_map(|set| Some((set, self.ownership.label(set)?))).collect();
        let mut gaps = std::mem::take(&mut self.session.gaps);
        gaps.extend(self.session.live.gaps(query));
        if self.with_owners {
            let root = rustix::process::geteuid().is_root();
            gaps.extend(placed.coverage.gap(self.ownership.table(), root));
            let later = placed.coverage.get(OwnerStatus::NotCollected);
            if later > 0 {
                gaps.push(Gap::new(
                    Missing::NewOwners { sockets: later },
                    Why::ScanCost { ms: self.walk_cost.as_millis() },
                    WayOut::None,
                ));
            }
        }
        if tick.shift > 0 {
            gaps.push(Gap::new(Missing::Unfollowed { scale: tick.scale() }, Why::TrackLimit, WayOut::TrackOrFilter));
        }
        if tick.events_dropped > 0 {
            gaps.push(Gap::new(
                Missing::ListedChanges { count: tick.events_dropped },
                Why::TooManyChanges,
                WayOut::IntervalOrFilter,
            ));
        }
        gaps.extend(self.judge_gaps.iter().cloned());
        // Changes are not asked whether the selection wants them.
        let trace = self.trace.report(since, select::whatever_state(&want.filter).is_all(), &mut gaps);
        self.session.gaps.clone_from(&gaps);
        let unseen = self.session.unseen();
        let stays = State::ALL.into_iter().filter_map(|state| {
            let dwell = &self.tracker.dwell[state.index()];
            Some(Stay {
                state,
                count: dwell.count,
                mean_ms: dwell.mean_ms()?,
                median_ms: dwell.median_ms()?,
                max_ms: dwell.max_ms,
            })
        });
        let stays = stays.collect();
        let lines = match placed.lines {
            None => None,
            Some((lines, total)) => Some(Arc::new(self.lines(want, lines, total)?)),
        };
        Ok(Frame {
            seq: self.samples,
            taken_at_ms,
            interval_ms: want.interval_ms,
            elapsed_ms: tick.elapsed_ms,
            sample_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            dump_us,
            skipped: std::mem::take(&mut self.skipped),
            source: self.session.live.source().key(),
            host: Arc::clone(&self.host),
            kernel: Arc::clone(&self.kernel),
            filter: if want.filter.is_all() { "".into() } else { want.filter.to_string().into() },
            shown: want.filter.state_bound(),
            unseen,
            counts: placed.counts,
            matrix: tick.matrix,
            scale: 1 << tick.shift,
            followed: tick.followed,
            ledger,
            since_start: self.accounts.since_start().clone(),
            ledger_gap,
            trace,
            stays,
            groups: placed.groups.map(|groups| largest(groups, want)),
            attribution: self.with_owners.then_some(placed.attribution),
            findings: Arc::clone(&self.findings),
            judged_at_ms: self.judged_at_ms,
            lines,
            events: tick.events,
            labels,
            gaps,
        })
    }

    /// The books of this sample; what they cannot know under this selection they do not say.
    fn balance(
        &mut self,
        want: &Want,
        query: &Query,
        reading: &Reading,
        traced: Option<TracedSums>,
    ) -> (crate::aggregate::Ledger, Option<&'static str>, crate::aggregate::Tick) {
        let tick = self.tracker.take_tick();
        let whole = select::whatever_state(&want.filter).is_all() && query.families == Families::Both;
        let everything = StateSet::CONNECTED.intersection(query.states.complement()).is_empty();
        let remainders = query.states.contains(State::TimeWait) && query.states.contains(State::FinWait2);
        let mut reading = *reading;
        let gap = if !whole {
            reading = Reading::default();
            Some("the kernel counts the whole namespace, not a selection")
        } else if !everything {
            reading.active = None;
            if !remainders {
                reading.remainders = None;
            }
            Some("not every state is looked at")
        } else if tick.shift > 0 {
            Some("more sockets than are followed")
        } else {
            None
        };
        let ledger = self.accounts.enter(&reading, &tick, traced);
        let missing = gap.is_none() && ledger.opened.unseen.is_none();
        (ledger, if missing { Some("this kernel has no such counters") } else { gap }, tick)
    }

    /// The rows of a drill-down, sorted and cut; one socket with everything that can be asked.
    fn lines(&mut self, want: &Want, mut lines: Vec<Line>, total: u64) -> anyhow::Result<Lines> {
        let Some(wanted) = &want.lines else { return Ok(Lines::default()) };
        sort(&mut lines, wanted.sort, wanted.descending);
        lines.truncate(LINES);
        let mut detail = Vec::new();
        if wanted.only.is_some()
            && let Some(line) = lines.first()
        {
            detail = super::detail::of(&mut self.session, line, self.with_owners)?;
        }
        Ok(Lines { lines, total, only: wanted.only.is_some(), detail })
    }

    /// Whether it is time to run the rules.
    pub(crate) fn judge_is_due(&self) -> bool {
        self.with_findings && self.judged.is_none_or(|at| at.elapsed() >= JUDGE.max(self.judge_cost * JUDGE_THRIFT))
    }

    /// Runs the rules over a whole snapshot; gives what has come or gone since.
    pub(crate) fn judge(&mut self, sockets: u64) -> anyhow::Result<Vec<Sighting>> {
        self.judge_gaps.clear();
        self.judged = Some(Instant::now());
        if sockets > JUDGED_SOCKETS {
            self.judge_gaps.push(Gap::new(Missing::Findings, Why::TooManySockets { sockets }, WayOut::RunDoctor));
            self.before = None;
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let mut now = self.session.live.snapshot(true)?;
        let diagnosis = self.session.examine(&mut now, self.before.as_ref(), None, &self.thresholds);
        let at_ms = now.taken_at_ms;
        self.before = Some(now);
        let mut news = Vec::new();
        let mut all: Vec<Sighting> = self.findings.as_ref().clone();
        for old in &mut all {
            let same =
                diagnosis.findings.iter().find(|f| f.rule == old.finding.rule && f.subject == old.finding.subject);
            match same {
                Some(finding) => {
                    let changed = old.gone || finding.severity != old.finding.severity;
                    if old.gone {
                        old.first_ms = at_ms;
                    }
                    *old = Sighting { finding: finding.clone(), last_ms: at_ms, gone: false, ..old.clone() };
                    if changed {
                        news.push(old.clone());
                    }
                }
                None if !old.gone => {
                    old.gone = true;
                    news.push(old.clone());
                }
                None => {}
            }
        }
        for finding in diagnosis.findings {
            if !all.iter().any(|s| s.finding.rule == finding.rule && s.finding.subject == finding.subject) {
                let sighting = Sighting { finding, first_ms: at_ms, last_ms: at_ms, gone: false };
                news.push(sighting.clone());
                all.push(sighting);
            }
        }
        all.sort_by(|a, b| {
            (a.gone, std::cmp::Reverse(a.finding.severity), a.first_ms).cmp(&(
                b.gone,
                std::cmp::Reverse(b.finding.severity),
                b.first_ms,
            ))
        });
        all.truncate(100);
        self.findings = Arc::new(all);
        self.judged_at_ms = Some(at_ms);
        self.judge_cost = started.elapsed();
        Ok(news)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn since_start(&self) -> &crate::aggregate::Ledger {
        self.accounts.since_start()
    }

    pub(crate) fn names(&self) -> &crate::collect::names::SystemNames {
        &self.session.names
    }
}

fn largest(groups: FxHashMap<GroupId, crate::aggregate::Counts>, want: &Want) -> Groups {
    let mut rows: Vec<Group> = groups.into_iter().map(|(id, counts)| Group { id, counts }).collect();
    rows.sort_unstable_by(|a, b| b.counts.total().cmp(&a.counts.total()).then_with(|| a.id.cmp(&b.id)));
    let mut groups = Groups { by: want.by.unwrap_or(GroupBy::Process), rows, rest: None };
    groups.keep(want.top);
    groups
}

fn sort(lines: &mut [Line], by: Sort, descending: bool) {
    let text = |w: &Whose| w.text();
    lines.sort_by(|a, b| {
        let order = match by {
            Sort::State => a.socket.state.index().cmp(&b.socket.state.index()),
            Sort::Age => a.in_state_ms.0.cmp(&b.in_state_ms.0),
            Sort::Local => a.socket.local.cmp(&b.socket.local),
            Sort::Peer => a.socket.peer.cmp(&b.socket.peer),
            Sort::Owner => text(&a.whose).cmp(&text(&b.whose)),
            Sort::RecvQ => a.socket.recv_q_bytes.cmp(&b.socket.recv_q_bytes),
            Sort::SendQ => a.socket.send_q_bytes.cmp(&b.socket.send_q_bytes),
        };
        let order = if descending { order.reverse() } else { order };
        order.then_with(|| (a.socket.local, a.socket.peer).cmp(&(b.socket.local, b.socket.peer)))
    });
}

/// Rows of both families are counted apart.
pub(crate) fn family_index(family: Family) -> usize {
    family as usize
}
