//! Takes the samples: requests only what is needed, tracks the rows, finds the owners of new sockets.
//!
//! Input: an open source and a [`Config`] once, a [`SampleRequest`] per sample. Output: a [`Frame`].
//!
//! What the kernel is asked for:
//!
//! - the states of the selection. Where owners are needed, every connected state as well: a TIME_WAIT row has the
//!   owner that its socket was seen with, so its socket must have been seen;
//! - with TIME_WAIT also FIN_WAIT2, whose small form becomes TIME_WAIT;
//! - no attributes, except for the one socket that is shown with all of them, `tcp_info` for rows whose age needs it, and
//!   what rows are sorted by;
//! - owners of new sockets only, within a share of the time.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::book::Book;
use super::config::Config;
use super::frame::{Frame, Lines, OfFinding, Sighting, TimeInState, TraceStatus};
use super::grouping::{RowRouter, SampleTotals};
use super::judge::{Judge, Verdicts};
use super::listeners::listeners;
use super::measures::{MeasureSums, Measures};
use super::owners::Owners;
use super::request::SampleRequest;
use super::rows::{Kept, RowRequest};
use super::tracing::BackgroundTrace;
use super::{Error, detail};
use crate::aggregate::owner::OwnerId;
use crate::aggregate::tracker::Tracked;
use crate::aggregate::{Ledger, Listeners, Matrix, Reading, Tick, Tracker};
use crate::collect::names::SystemNames;
use crate::collect::proc::{ProcRoot, processes};
use crate::collect::{Ahead, Families, Live, Query, plan};
use crate::filter::{self, Abilities, Expr};
use crate::model::column::Needs;
use crate::model::counter::Counters;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::sysctl::Sysctl;
use crate::model::{Gap, Inode, OwnerStatus, OwnerTable, Snapshot, Socket, State, StateSet};

/// New sockets without an owner that are held back until the processes were scanned.
const HELD_BACK: usize = 10_000;
/// Listeners up to which roles are read for each sample although no owners are requested.
const LISTENERS: usize = 4096;
/// Below this size of the kernel's hash table (`tcp_ehash_entries`) a dump under churn misses rows.
const SMALL_TABLE: u64 = 4096;

/// Everything that lasts from sample to sample.
pub struct Sampler {
    live: Live,
    names: SystemNames,
    config: Config,
    host: Arc<str>,
    kernel: Arc<str>,
    tracker: Tracker,
    book: Book,
    listeners: Listeners,
    owners: Owners,
    trace: BackgroundTrace,
    judge: Judge,
    /// Every traced change since the first sample.
    transitions: Matrix,
    samples: u64,
    /// The filter of the tracked rows; another one starts over.
    followed: Option<Expr>,
    skipped: u64,
    /// When the latest snapshot of a recording was taken, by the monotonic clock.
    replayed_ms: Option<u64>,
}

/// A row without owner that is counted last, and what the tracker knows of it.
type Newcomer = (Socket, Tracked);

/// When a sample began, and how long the kernel's table took.
struct Timing {
    taken_at_ms: u64,
    started: Instant,
    dump_us: u64,
}

impl Sampler {
    /// Prepares to sample an open source.
    ///
    /// # Errors
    /// When the listeners cannot be read.
    pub fn new(mut live: Live, names: SystemNames, config: Config) -> Result<Sampler, Error> {
        let visits = live.visits();
        let listeners = listeners(&mut live, &visits)?;
        live.cgroups = true;
        let mut tracker = Tracker::new(config.track);
        let entries = live.netns_facts().sysctl(Sysctl::Ipv4TcpEhashEntries);
        tracker.tolerant = entries.is_some_and(|n| n < SMALL_TABLE);
        let host = live.host().clone();
        Ok(Sampler {
            live,
            names,
            host: host.name.into(),
            kernel: host.kernel.into(),
            tracker,
            book: Book::default(),
            listeners,
            owners: Owners::new(),
            // Without owners, and not requested, it would serve the sums alone.
            trace: BackgroundTrace::new(config.insist_on_trace, config.trace && config.with_owners),
            judge: Judge::new(),
            transitions: Matrix::default(),
            samples: 0,
            followed: None,
            skipped: 0,
            replayed_ms: None,
            config,
        })
    }

    /// Turns to another snapshot of a recording. The next sample is of it.
    pub fn turn_to(&mut self, recorded: Snapshot, names: SystemNames) {
        let now_ms = recorded.monotonic_ms;
        if self.replayed_ms.replace(now_ms).is_some_and(|before| now_ms < before) {
            // The host was started anew, or it is another one: nothing can be compared.
            self.followed = None;
        }
        self.judge.pass(recorded.traced.clone());
        (self.host, self.kernel) = (recorded.host.as_str().into(), recorded.kernel.as_str().into());
        self.names = names;
        self.live.turn_to(recorded);
    }

    /// Counts intervals that passed without a sample.
    pub fn skip(&mut self, intervals: u64) {
        self.skipped += intervals;
    }

    #[must_use]
    pub fn since_start(&self) -> &Ledger {
        self.book.since_start()
    }

    /// The names without the sampler.
    #[must_use]
    pub fn into_names(self) -> SystemNames {
        self.names
    }

    #[must_use]
    pub fn names(&self) -> &SystemNames {
        &self.names
    }

    /// The query to the kernel.
    fn query(&self, filter: &Expr, followed: &Expr) -> Result<Query, Error> {
        let compiled = filter::compile(followed, Abilities { mark: false, cgroup: false });
        if let Some(why) = compiled.unpushable {
            return Err(Error::Filter(why));
        }
        let mut states = filter.state_bound();
        if states.contains(State::TimeWait) {
            states = states.union(StateSet::of(&[State::FinWait2]));
        }
        if self.config.with_owners {
            states = states.union(StateSet::CONNECTED);
        }
        Ok(Query {
            ahead: Ahead::No,
            states,
            families: filter.family_bound().map_or(Families::Both, Families::Only),
            attributes: plan::attributes(filter.needs()),
            bytecode: compiled.program,
        })
    }

    /// Starts over when the filter has changed.
    fn follow(&mut self, filter: &Expr) {
        if self.followed.as_ref() != Some(filter) {
            let tracker = std::mem::replace(&mut self.tracker, Tracker::new(0));
            self.tracker = tracker.renewed();
            self.book = Book::default();
            self.samples = 0;
            self.followed = Some(filter.clone());
        }
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// When the sockets or their owners cannot be read, or a trace was required and cannot be started.
    pub fn sample(&mut self, request: &SampleRequest) -> Result<Frame, Error> {
        let started = Instant::now();
        self.follow(&request.filter);
        self.samples += 1;
        let first = self.samples == 1;
        let members = request.filter.ignoring_state();
        let query = self.query(&request.filter, &members)?;
        let mut gaps = self.live.look_again();
        if !gaps.is_empty() {
            self.names.follow(self.live.spaces().cloned());
            self.trace.watch(&self.live);
        }
        self.trace.begin(&self.live)?;
        // LISTEN has its own table, and costs next to nothing.
        if self.config.with_owners || self.listeners.all().len() <= LISTENERS {
            let visits = self.live.visits();
            self.listeners = listeners(&mut self.live, &visits)?;
        }
        self.trace.learn(self.samples, self.live.root(), &mut self.owners.known);
        let fresh = if self.config.with_owners { self.owners.refresh(&mut self.live)? } else { None };
        // Before the table: what begins in between is seen before it is counted.
        let mut counters = if first { Counters::default() } else { self.live.counters() };
        let (taken_at_ms, now_ns) = self.live.clock();
        self.tracker.keep_events = request.events;
        self.tracker.begin(now_ns / 1_000_000);
        let measures = request.measures.map(|_| self.begin_measures());
        let mut totals = SampleTotals::new(request, measures);
        let dump_started = Instant::now();
        let (held, missing) = self.dump(request, &members, &query, fresh.as_ref(), &mut gaps, &mut totals)?;
        let dump_us = micros(dump_started);
        let found = self.owners.find(&mut self.live, &missing, first, self.trace.is_on())?;
        self.settle(request, &members, held, found.as_ref(), &mut totals);
        if first {
            counters = self.live.counters();
        }
        self.tracker.finish();
        if first {
            self.trace.restart();
        }
        let (root, is_recorded) = (self.live.root().clone(), self.live.recorded().is_some());
        // Of a recording nothing is known of a process without a socket.
        totals.name_owners(&mut self.owners.known, |pid, comm| is_recorded || is_running(&root, pid, comm));
        self.owners.known.at(now_ns / 1_000_000);
        self.frame(request, &query, counters, totals, gaps, &Timing { taken_at_ms, started, dump_us })
    }

    /// Counts the rows of the kernel's table. Returns the new ones without an owner, and their inodes.
    fn dump(
        &mut self,
        request: &SampleRequest,
        members: &Expr,
        query: &Query,
        fresh: Option<&OwnerTable>,
        gaps: &mut Vec<Gap>,
        totals: &mut SampleTotals,
    ) -> Result<(Vec<Newcomer>, FxHashSet<Inode>), Error> {
        let mut held: Vec<Newcomer> = Vec::new();
        let mut missing: FxHashSet<Inode> = FxHashSet::default();
        let several = self.live.spaces().len() > 1 || self.live.follows_netns();
        let of_finding = self.judge.sockets(request);
        let (live, trace) = (&mut self.live, &self.trace);
        let mut router = RowRouter {
            request,
            members,
            everything: request.filter.is_all(),
            tracker: &mut self.tracker,
            ownership: &mut self.owners.known,
            listeners: &self.listeners,
            names: &self.names,
            with_owners: self.config.with_owners,
            several,
            of_finding: of_finding.as_ref(),
        };
        live.sockets(query, gaps, &mut |socket| {
            let mut tracked = router.tracker.track(socket);
            if tracked.repeated {
                return ControlFlow::Continue(());
            }
            let mut owner = tracked.owner;
            if let (None, Some(closer)) = (owner.set(), trace.closer(socket)) {
                (owner, tracked.traced) = (closer, true);
                router.tracker.set_owner(socket, owner, true);
            }
            if router.with_owners && socket.inode.is_some() {
                let holders = fresh.map_or(&[][..], |table| table.holders(socket.inode));
                if let (Some(table), false) = (fresh, holders.is_empty()) {
                    owner = router.set_owner(socket, table, holders, &tracked);
                    tracked.traced = false;
                } else if owner == OwnerId::NOT_SOUGHT && held.len() < HELD_BACK {
                    missing.extend(socket.inode);
                    held.push((socket.clone(), tracked));
                    return ControlFlow::Continue(());
                }
            }
            router.count(socket, &tracked, owner, totals);
            ControlFlow::Continue(())
        })?;
        Ok((held, missing))
    }

    /// Counts the new sockets, with the owners that were found.
    fn settle(
        &mut self,
        request: &SampleRequest,
        members: &Expr,
        held: Vec<Newcomer>,
        found: Option<&OwnerTable>,
        totals: &mut SampleTotals,
    ) {
        let of_finding = self.judge.sockets(request);
        let mut router = RowRouter {
            request,
            members,
            everything: request.filter.is_all(),
            tracker: &mut self.tracker,
            ownership: &mut self.owners.known,
            listeners: &self.listeners,
            names: &self.names,
            with_owners: self.config.with_owners,
            several: self.live.spaces().len() > 1 || self.live.follows_netns(),
            of_finding: of_finding.as_ref(),
        };
        for (socket, tracked) in held {
            let mut owner = tracked.owner;
            if let Some(table) = found {
                let holders = table.holders(socket.inode);
                if holders.is_empty() {
                    // Not searched for again before the next scan of all descriptors.
                    owner = OwnerId::NOBODY;
                    router.tracker.set_owner(&socket, owner, false);
                } else {
                    owner = router.set_owner(&socket, table, holders, &tracked);
                }
            }
            router.count(&socket, &tracked, owner, totals);
        }
        let (tracker, trace) = (&self.tracker, &self.trace);
        self.owners.known.forget(|mark| {
            tracker.mark_owners(mark);
            trace.mark_owners(mark);
        });
    }

    /// What this sample cannot report.
    fn gaps(&self, query: &Query, totals: &SampleTotals, tick: &Tick, mut gaps: Vec<Gap>) -> Vec<Gap> {
        gaps.extend(self.live.gaps(query));
        if self.config.with_owners {
            gaps.extend(totals.coverage.gap(self.owners.known.table(), self.live.looker()));
            let later = totals.coverage.get(OwnerStatus::NotCollected);
            if later > 0 {
                let why = Why::ScanCost { ms: self.owners.cost().as_millis() };
                gaps.push(Gap::new(Missing::NewOwners { sockets: later }, why, WayOut::None));
            }
        }
        if tick.shift > 0 {
            gaps.push(Gap::new(Missing::Unfollowed { scale: tick.scale() }, Why::TrackLimit, WayOut::TrackOrFilter));
        }
        if tick.events_dropped > 0 {
            let missing = Missing::ListedChanges { count: tick.events_dropped };
            gaps.push(Gap::new(missing, Why::TooManyChanges, WayOut::IntervalOrFilter));
        }
        gaps.extend(self.judge.gaps.iter().cloned());
        gaps
    }

    /// Assembles the frame.
    fn frame(
        &mut self,
        request: &SampleRequest,
        query: &Query,
        counters: Counters,
        mut totals: SampleTotals,
        gaps: Vec<Gap>,
        timing: &Timing,
    ) -> Result<Frame, Error> {
        let filter = &request.filter;
        let traced = self.trace.since();
        let tick = self.tracker.take_tick();
        let (ledger, ledger_gap) =
            self.book.enter(filter, query, &Reading::of(&counters), &tick, traced.as_ref().map(|since| since.sums));
        let owners = tick.events.iter().filter_map(|event| event.owner.set());
        let labels = owners.filter_map(|set| Some((set, self.owners.known.label(set)?))).collect();
        let mut gaps = self.gaps(query, &totals, &tick, gaps);
        // The trace does not know the selection.
        let trace = self.trace.report(traced, filter.ignoring_state().is_all(), &mut gaps);
        let measures = self.measures(request, &mut totals, counters, trace.as_ref());
        let bound_unseen = gaps.iter().any(|g| g.missing == Missing::BoundInactive);
        let lines = match (&request.rows, totals.rows.take()) {
            (Some(wanted), Some(kept)) => Some(Arc::new(self.lines(request, wanted, kept)?)),
            _ => None,
        };
        Ok(Frame {
            seq: self.samples,
            taken_at_ms: timing.taken_at_ms,
            interval_ms: request.interval_ms,
            elapsed_ms: tick.elapsed_ms,
            sample_us: micros(timing.started),
            dump_us: timing.dump_us,
            skipped: std::mem::take(&mut self.skipped),
            source: self.live.source().key(),
            host: Arc::clone(&self.host),
            kernel: Arc::clone(&self.kernel),
            filter: if filter.is_all() { "".into() } else { filter.to_string().into() },
            shown: filter.state_bound(),
            unseen: if bound_unseen { StateSet::of(&[State::BoundInactive]) } else { StateSet::EMPTY },
            counts: totals.counts,
            scale: tick.scale(),
            followed: tick.followed,
            ledger,
            since_start: self.book.since_start().clone(),
            ledger_gap,
            trace,
            times_in_state: self.times_in_state(),
            groups: totals.take_groups(request),
            time_wait_owners: self.config.with_owners.then_some(totals.time_wait_owners),
            findings: self.judge.sightings.all(),
            judged_at_ms: self.judge.judged_at_ms,
            lines,
            matrix: tick.matrix,
            events: tick.events,
            labels,
            measures,
            gaps,
        })
    }

    /// The settings that decide which local ports are left.
    fn begin_measures(&mut self) -> MeasureSums {
        let mut visits = self.live.visits();
        self.live.add_limits(&mut visits);
        MeasureSums::new(&visits)
    }

    fn measures(
        &mut self,
        request: &SampleRequest,
        totals: &mut SampleTotals,
        counters: Counters,
        trace: Option<&TraceStatus>,
    ) -> Option<Box<Measures>> {
        let (most, sums) = (request.measures?, totals.measures.take()?);
        let mut measures = sums.finish(most, &self.owners.known, &self.listeners, &self.live, counters);
        if let Some(matrix) = trace.and_then(|trace| trace.matrix.as_ref()) {
            self.transitions.add_times(matrix, 1);
            measures.transitions = Some(self.transitions.clone());
        }
        Some(Box::new(measures))
    }

    fn times_in_state(&self) -> Vec<TimeInState> {
        let times = State::ALL.into_iter().filter_map(|state| {
            let dwell = &self.tracker.dwell[state.index()];
            Some(TimeInState {
                state,
                count: dwell.count,
                mean_ms: dwell.mean_ms()?,
                median_ms: dwell.median_ms()?,
                max_ms: dwell.max_ms,
            })
        });
        times.collect()
    }

    /// The requested rows, sorted and cut; one socket with every attribute.
    fn lines(&mut self, request: &SampleRequest, wanted: &RowRequest, mut kept: Kept) -> Result<Lines, Error> {
        let only = wanted.only.is_some();
        let of_finding = self.judge.sockets(request).filter(|_| !only);
        let of_finding = of_finding.map(|found| OfFinding { sockets: found.len() as u64, is_selection: !kept.differs });
        let mut detail = None;
        if !only {
            self.complete(wanted, &mut kept)?;
        } else if let Some(line) = kept.lines.first_mut() {
            let all = detail::of(&mut self.live, &line.socket, self.config.with_owners)?;
            line.socket = all.socket.clone();
            detail = Some(all);
        }
        kept.finish(wanted);
        let of = Some(Box::new(wanted.of.clone()));
        let is_as_command = wanted.command.as_ref().filter(|_| !only).map(|_| !kept.differs);
        let Kept { lines, total, others, .. } = kept;
        Ok(Lines { lines, total, only, detail, of_finding, is_as_command, others, of })
    }

    /// Reads what rows are shown and sorted with, by a query for their states alone.
    fn complete(&mut self, wanted: &RowRequest, kept: &mut Kept) -> Result<(), Error> {
        let more = wanted.needs();
        let (states, mut places) = kept.incomplete(more);
        if places.is_empty() {
            return Ok(());
        }
        let attributes = plan::attributes(Needs::INFO.union(more));
        let query = Query { attributes, ..Query::states(states) };
        // What this pass cannot see, the pass over all sockets reports too.
        self.live.sockets(&query, &mut Vec::new(), &mut |socket| {
            if let Some(line) = places.remove(&(socket.netns, socket.four_tuple())).map(|place| &mut kept.lines[place])
                && (line.socket.cookie, line.socket.state) == (socket.cookie, socket.state)
            {
                line.socket.clone_from(socket);
            }
            if places.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(())
    }

    /// Whether the rules are due.
    #[must_use]
    pub fn judge_is_due(&self) -> bool {
        self.config.with_findings && self.judge.is_due(&self.live)
    }

    /// Runs the rules over a whole snapshot, and returns the findings that appeared, changed or disappeared.
    ///
    /// # Errors
    /// When there is no snapshot.
    pub fn judge(&mut self, sockets: u64) -> Result<Vec<Sighting>, Error> {
        self.judge.run(&mut self.live, &mut self.trace, &self.config, &self.names, sockets)
    }

    /// What the rules say by now.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        self.judge.verdicts()
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Whether the process of this id still has this name.
fn is_running(root: &ProcRoot, pid: u32, comm: &str) -> bool {
    processes::name(root, pid).is_some_and(|name| name == comm)
}
