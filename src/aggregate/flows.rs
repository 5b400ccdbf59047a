//! The accounts: what the kernel's counters report, less what samples showed, is what went unseen.
//!
//! Input: counters of a namespace and the [`Tick`] of a sample. Output: a [`Ledger`] per interval and since the
//! start. Nothing is guessed: where a counter is missing, or only a share of the rows is tracked, the unseen part is
//! `None`.
//!
//! The kernel counts every connection once where it begins (`ActiveOpens` in `tcp_connect`, `PassiveOpens` in
//! `tcp_create_openreq_child`) and every TIME_WAIT or small FIN_WAIT2 once where it is made (`TW` or `TWKilled` in
//! `inet_twsk_schedule`), so the sums are exact. Counters and table cannot be read at one instant. Counters read
//! *before* the table lack what began in between and was seen, so counter less seen is never more than what is truly
//! unseen, and equals it as soon as nothing happens in between. The unseen part is therefore the largest difference
//! so far: it never shrinks, and nothing counts as unseen that a later sample shows. For the same reason the first
//! reading must come *after* the first sample.

use crate::aggregate::traced::TracedSums;
use crate::aggregate::tracker::Tick;
use crate::model::counter::{Counter, Counters};

/// The counters used here, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reading {
    pub active: Option<u64>,
    pub passive: Option<u64>,
    pub failed: Option<u64>,
    pub resets: Option<u64>,
    pub remainders: Option<u64>,
}

impl Reading {
    /// Takes the counters of a namespace that it needs.
    #[must_use]
    pub fn of(counters: &Counters) -> Reading {
        let get = |counter| counters.get(counter).copied();
        Reading {
            active: get(Counter::TcpActiveOpens),
            passive: get(Counter::TcpPassiveOpens),
            failed: get(Counter::TcpAttemptFails),
            resets: get(Counter::TcpEstabResets),
            // Both count the same event, split by the length of the timer.
            remainders: get(Counter::TcpExtTw).zip(get(Counter::TcpExtTwKilled)).map(|(tw, killed)| tw + killed),
        }
    }

    fn opened(&self) -> Option<u64> {
        Some(self.active? + self.passive?)
    }

    fn since(&self, start: &Reading) -> Reading {
        let less = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Reading {
            active: less(self.active, start.active),
            passive: less(self.passive, start.passive),
            failed: less(self.failed, start.failed),
            resets: less(self.resets, start.resets),
            remainders: less(self.remainders, start.remainders),
        }
    }
}

/// One kind of event: how often samples showed it, how often only the trace did, and how often neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flow {
    pub seen: u64,
    /// In no sample, but traced.
    pub traced: u64,
    /// `None`: cannot be known.
    pub unseen: Option<u64>,
}

impl Flow {
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        Some(self.seen + self.traced + self.unseen?)
    }
}

/// What happened to all connections of the namespace, in one interval or since the start.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ledger {
    pub elapsed_ms: u64,
    /// Connections that began; both ends of a local one count.
    pub opened: Flow,
    /// Connections that became TIME_WAIT, or the small FIN_WAIT2 before it.
    pub time_wait: Flow,
    /// Connections that ended otherwise: a last ACK, a reset, a timeout, a failed attempt. What began, less what
    /// became TIME_WAIT, less the growth of the population; a late counter may make a single interval negative.
    pub ended: Option<i64>,
    pub active_opens: Option<u64>,
    pub passive_opens: Option<u64>,
    /// ESTABLISHED or CLOSE_WAIT straight to CLOSE (`tcp_set_state`): a reset by either side.
    pub resets: Option<u64>,
    pub attempt_fails: Option<u64>,
}

impl Ledger {
    /// Adds an interval.
    pub fn merge(&mut self, later: &Ledger) {
        let sum = |a: &mut Option<u64>, b: Option<u64>, first: bool| {
            *a = match (*a, b) {
                (Some(a), Some(b)) => Some(a + b),
                (None, b) if first => b,
                _ => None,
            };
        };
        // An empty sum takes what the first interval knows; after that, unknown stays unknown.
        let first = *self == Ledger::default();
        self.elapsed_ms += later.elapsed_ms;
        self.opened.seen += later.opened.seen;
        self.time_wait.seen += later.time_wait.seen;
        self.opened.traced += later.opened.traced;
        self.time_wait.traced += later.time_wait.traced;
        sum(&mut self.opened.unseen, later.opened.unseen, first);
        sum(&mut self.time_wait.unseen, later.time_wait.unseen, first);
        sum(&mut self.active_opens, later.active_opens, first);
        sum(&mut self.passive_opens, later.passive_opens, first);
        sum(&mut self.resets, later.resets, first);
        sum(&mut self.attempt_fails, later.attempt_fails, first);
        self.ended = match (self.ended, later.ended) {
            (Some(a), Some(b)) => Some(a + b),
            (None, b) if first => b,
            _ => None,
        };
    }
}

/// The running accounts of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    start: Option<Reading>,
    last: Reading,
    /// Largest difference between counters and rows so far.
    hidden: [u64; 2],
    /// The part of it that was not traced either.
    unseen: [u64; 2],
    connections: u64,
    total: Ledger,
}

impl Accounts {
    /// Enters a sample. The reading must be taken before the rows (for the first sample, after them), and what was
    /// traced since the first sample after the rows.
    pub fn enter(&mut self, reading: &Reading, tick: &Tick, traced: Option<TracedSums>) -> Ledger {
        let Some(start) = self.start else {
            self.start = Some(*reading);
            self.last = *reading;
            self.connections = tick.connections;
            let known = |counter: Option<u64>| counter.map(|_| 0);
            self.total = Ledger {
                opened: Flow { unseen: known(reading.opened()), ..Flow::default() },
                time_wait: Flow { unseen: known(reading.remainders), ..Flow::default() },
                ended: reading.opened().and(reading.remainders).map(|_| 0),
                active_opens: known(reading.active),
                passive_opens: known(reading.passive),
                resets: known(reading.resets),
                attempt_fails: known(reading.failed),
                elapsed_ms: 0,
            };
            return self.total.clone();
        };
        let now = reading.since(&start);
        let (opened_seen, remainders_seen) =
            (self.total.opened.seen + tick.opened, self.total.time_wait.seen + tick.remainders);
        let whole = tick.shift == 0;
        let mut flow = |i: usize, in_rows: u64, counted: Option<u64>, seen: u64, traced: Option<u64>| {
            let Some(counted) = counted.filter(|_| whole) else {
                return Flow { seen: in_rows, ..Flow::default() };
            };
            let hidden = self.hidden[i].max(counted.saturating_sub(seen));
            let grown = hidden - self.hidden[i];
            self.hidden[i] = hidden;
            // Traced events beyond those seen began after the counters were read, or are in no sample. Lost records
            // show up as the rest and are never taken back either.
            let by_trace = traced.map_or(0, |t| t.saturating_sub(seen)).min(hidden);
            let unseen = (hidden - by_trace).saturating_sub(self.unseen[i]).min(grown);
            self.unseen[i] += unseen;
            Flow { seen: in_rows, traced: grown - unseen, unseen: Some(unseen) }
        };
        let opened = flow(0, tick.opened, now.opened(), opened_seen, traced.map(|t| t.opened));
        let time_wait = flow(1, tick.remainders, now.remainders, remainders_seen, traced.map(|t| t.remainders));
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let grown = signed(tick.connections) - signed(self.connections);
        self.connections = tick.connections;
        let step = reading.since(&self.last);
        let ledger = Ledger {
            elapsed_ms: tick.elapsed_ms.unwrap_or(0),
            opened,
            time_wait,
            ended: opened.total().zip(time_wait.total()).map(|(o, t)| signed(o) - signed(t) - grown),
            active_opens: step.active,
            passive_opens: step.passive,
            resets: step.resets,
            attempt_fails: step.failed,
        };
        self.last = *reading;
        self.total.merge(&ledger);
        ledger
    }

    /// The sum since the first sample.
    #[must_use]
    pub fn since_start(&self) -> &Ledger {
        &self.total
    }
}
