//! How fast the ports towards one destination go, whether that is proven, and who takes them.
//!
//! Ages of TIME_WAIT rows cannot tell whether a burst goes on: a rate comes only from rows that are new between two
//! samples, some of them of the later half. TIME_WAIT has no owner: a program is named by what it holds, or by what was
//! seen in its hands before.

use std::collections::BTreeMap;

use crate::diagnose::finding::Severity;
use crate::diagnose::ports::{self, Route};
use crate::diagnose::rate::Rate;
use crate::diagnose::view::View;
use crate::model::socket::TIME_WAIT_MS;
use crate::model::{Socket, State};
use crate::text;

/// Past half of the range every connect() searches the used half in vain first (`__inet_hash_connect`).
const SECOND_HALF_PERCENT: f64 = 50.0;
/// One TIME_WAIT life: what is exhausted within it cannot recover in time.
const ONE_LIFE_MS: u64 = TIME_WAIT_MS as u64;
/// With most of the range free a rate is the beginning of a burst and no trend.
const TREND_PERCENT: f64 = 25.0;
/// Connections that live and take so much of the range leave no room.
const CROWDED_PERCENT: f64 = 90.0;
/// Entries that expire while the table is read: 1 in so many ports.
const TURNOVER: u32 = 200;
/// Nothing that entered TIME_WAIT for so long: nobody closes connections there any more.
const QUIET_MS: u64 = 2_000;

/// What is known of the use of a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// `None` when the route is not short of ports.
    pub severity: Option<Severity>,
    /// New connections, when they go on.
    pub rate: Option<Rate>,
    /// When the ports run out at that rate; 0 when they have.
    pub left_ms: Option<u64>,
    /// A second sample may show that it goes on.
    pub wants_second: bool,
}

/// Judges a route.
#[must_use]
pub fn of(view: &View<'_>, route: &Route<'_>) -> Use {
    let rate = going_on(view, route);
    let fill = route.ports.fill_percent();
    // Where ports are taken as soon as they expire, a few are free in every sample.
    let slack = if rate.is_some() { route.ports.usable / TURNOVER } else { 0 };
    let is_used_up = route.ports.blocked() + slack >= route.ports.usable;
    let forecast = rate.filter(|_| fill >= TREND_PERCENT).and_then(|r| route.exhausted_in_ms(r.per_second()));
    let left_ms = if is_used_up { Some(0) } else { forecast };
    let soon_ms = view.thresholds.port_eta_high_seconds * 1000.0;
    let crowded = f64::from(route.held()) * 100.0 / f64::from(route.ports.usable.max(1)) >= CROWDED_PERCENT;
    let severity = match left_ms {
        Some(0) => Some(Severity::Critical),
        Some(ms) if (ms as f64) < soon_ms => Some(Severity::High),
        Some(ms) if ms < ONE_LIFE_MS => Some(Severity::Warning),
        _ if crowded => Some(Severity::Warning),
        _ => (fill >= SECOND_HALF_PERCENT).then_some(Severity::Info),
    };
    let is_quiet = ports::youngest_ms(&route.rows).is_some_and(|age| age > QUIET_MS);
    let wants_second = view.before.is_none() && !is_used_up && fill >= TREND_PERCENT && !is_quiet;
    Use { severity, rate, left_ms, wants_second }
}

/// The rate of new rows, unless they are all of the earlier half of the interval.
fn going_on(view: &View<'_>, route: &Route<'_>) -> Option<Rate> {
    let interval_ms = view.interval_ms()?;
    let new: Vec<&Socket> = route.rows.iter().copied().filter(|s| view.earlier(s).is_none()).collect();
    let ages = || new.iter().filter_map(|s| s.state_age()).map(|age| age.min_ms);
    let (ended, late) = (ages().count(), ages().filter(|ms| *ms < interval_ms / 2).count());
    // Of a steady stream half are of the later half.
    if late * 4 < ended {
        return None;
    }
    Rate::of(new.len() as u64, interval_ms)
}

/// The program that takes the ports.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub comm: String,
    /// Sorted, each once.
    pub pids: Vec<u32>,
    pub confidence: f64,
    pub reason: String,
}

impl User {
    /// The process, when it is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.pids[..] {
            [pid] => Some(pid),
            _ => None,
        }
    }

    /// `java (812)`, `curl`.
    #[must_use]
    pub fn name(&self) -> String {
        self.pid().map_or_else(|| self.comm.clone(), |pid| text::named(&self.comm, pid).to_string())
    }
}

/// Who takes the ports of a route, as far as it is proven.
#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    /// The program with the most of what is proven, if it is two thirds of that.
    pub lead: Option<User>,
    /// Why nobody is named.
    pub unknown: String,
    /// `java (812): holds 40, opened or closed 3`, the busiest first.
    pub list: Vec<String>,
}

#[derive(Clone, Default)]
struct Doings {
    pids: Vec<u32>,
    /// Live connections that it has now.
    held: usize,
    /// Connections that it opened or closed between the samples, or that a trace saw it close.
    turned: usize,
}

/// Works out who takes the ports.
#[must_use]
pub fn users(view: &View<'_>, route: &Route<'_>) -> Users {
    let mut programs: BTreeMap<&str, Doings> = BTreeMap::new();
    for row in &route.rows {
        if row.inode.is_some() {
            let Some(process) = view.holder(row) else { continue };
            let doings = programs.entry(&process.comm).or_default();
            doings.pids.push(process.pid);
            doings.held += 1;
            doings.turned += usize::from(view.before.is_some() && view.earlier(row).is_none());
        } else if let Some((comm, pid)) = left_by(view, row) {
            let doings = programs.entry(comm).or_default();
            doings.pids.push(pid);
            doings.turned += 1;
        }
    }
    for doings in programs.values_mut() {
        doings.pids.sort_unstable();
        doings.pids.dedup();
    }
    // What lives is held by somebody; what rests in TIME_WAIT was turned over.
    let by_hold = route.ports.taken.live > route.ports.taken.time_wait + route.ports.taken.fin_wait2_minis;
    let weight = |d: &Doings| if by_hold { d.held } else { d.turned };
    let mut ranked: Vec<(&str, Doings)> = programs.into_iter().collect();
    ranked.sort_by(|a, b| weight(&b.1).cmp(&weight(&a.1)).then_with(|| b.1.held.cmp(&a.1.held)));
    let total: usize = ranked.iter().map(|(_, d)| weight(d)).sum();
    let lead = ranked.first().filter(|(_, d)| weight(d) >= 2 && weight(d) * 3 >= total * 2).map(|(comm, d)| {
        let n = text::grouped(weight(d) as u64);
        let reason = if by_hold {
            format!("it holds {n} of the {} connections", text::grouped(route.ports.taken.live.into()))
        } else {
            format!("{n} connections to there that were opened or closed meanwhile were in its hands")
        };
        let confidence = if by_hold || weight(d) >= 5 { 0.95 } else { 0.85 };
        User { comm: (*comm).to_owned(), pids: d.pids.clone(), confidence, reason }
    });
    let named = |comm: &str, pids: &[u32]| match pids {
        [pid] => text::named(comm, *pid).to_string(),
        _ => format!("{comm} ({} processes)", pids.len()),
    };
    let unknown = if ranked.is_empty() {
        "TIME_WAIT has no owner, and nobody holds a connection to there now".to_owned()
    } else {
        let names: Vec<String> = ranked.iter().take(3).map(|(comm, d)| named(comm, &d.pids)).collect();
        format!("TIME_WAIT has no owner: it is not known which of {}, or a process that has ended", names.join(", "))
    };
    let line = |(comm, d): &(&str, Doings)| {
        let [held, turned] = [d.held, d.turned].map(|n| text::grouped(n as u64));
        match d.turned {
            0 => format!("{}: holds {held}", named(comm, &d.pids)),
            _ => format!("{}: holds {held}, opened or closed {turned}", named(comm, &d.pids)),
        }
    };
    Users { lead, unknown, list: ranked.iter().take(5).map(line).collect() }
}

/// Who had a row that nobody holds any more: as a trace saw, or as the sample before shows.
fn left_by<'a>(view: &View<'a>, row: &Socket) -> Option<(&'a str, u32)> {
    if let Some(known) = row.cookie.and_then(|cookie| view.now.known_owners.get(&(row.netns, cookie))) {
        return Some((&known.comm, known.pid));
    }
    // A remainder of the sample before was turned over earlier.
    let earlier = view.earlier(row).filter(|e| e.inode.is_some() && e.state != State::TimeWait)?;
    let before = view.before?;
    let process = before.owners.process(before.owners.of(earlier).1.first()?);
    Some((&process.comm, process.pid))
}
