//! The SYN queue of a listener: how full it is, what the kernel did about it, and whether it looks like an attack.
//!
//! Input: request sockets per listener, the counters of SYN cookies and drops. Output: a [`Pressure`] per listening
//! endpoint that matters. Which rule reports it is decided by its [`AttackKind`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashSet;

use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::{self, Queue};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, RowKind, Socket};
use crate::text;

/// Fewer half-open connections than these are traffic, whatever the limit (policy).
const FEW: u64 = 4;
/// What makes many sources (policy): a return path that is broken shows few networks.
const FLOOD_SOURCES: usize = 16;
const FLOOD_NETWORKS: usize = 8;
const FEW_NETWORKS: usize = 2;
/// Fewer sources than these make no flood that could be told from a broken client (policy).
const FEW_SOURCES: usize = 4;
/// Share of the rows whose SYN-ACK was repeated, in percent, that no healthy population shows (policy).
const REPEATED_PERCENT: u64 = 80;
/// Cookies between two samples of which one in ten or fewer came back, or SYNs that were dropped (policy).
const COOKIES_OF_A_FLOOD: u64 = 100;

/// What fills a SYN queue. Both rules about it share them.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "accept-queue-full",
        text: "the accept queue is full as well, so that last ACKs are dropped too",
        predicts: "the accept queue is over its limit in both samples, or this listener dropped connections between them \
                   because it was",
        refuted_by: "an accept queue with room",
        decided_by: "accept-queue-overflow and accept-queue-stalled of this listener",
    },
    Cause {
        id: "burst",
        text: "the clients are real, and came in a burst",
        predicts: "half of the cookies or more come back, or SYN-ACKs are answered at once",
        refuted_by: "SYN-ACKs that were repeated without an answer on nearly all rows",
        decided_by: "SyncookiesRecv beside SyncookiesSent in `nstat -az`",
    },
    Cause {
        id: "return-path",
        text: "our SYN-ACKs do not reach these clients",
        predicts: "nearly all SYN-ACKs were repeated, and none of the sources has a connection that got through",
        refuted_by: "one of these sources that got through, or cookies that come back",
        decided_by: "tcpdump at a client; routes back, rp_filter, rules by direction",
    },
    Cause {
        id: "scanner",
        text: "a scanner or a broken client never finishes its handshakes",
        predicts: "one or two networks, of which nobody got through",
        refuted_by: "many networks",
        decided_by: "who these addresses are",
    },
    Cause {
        id: "flood",
        text: "a SYN flood: sources that never finish, often forged",
        predicts: "many sources of many networks, SYN-ACKs repeated without an answer, hardly a cookie comes back, SYNs come faster \
                   than those clients would repeat them",
        refuted_by: "one to three sources, or cookies that come back",
        decided_by: "whether the same addresses answer a SYN of ours; the packet rate upstream",
    },
];

/// What the half-open connections look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackKind {
    /// Many sources that never finish, and whose cookies do not come back.
    Flood,
    /// Few networks that never finish: our SYN-ACKs do not arrive.
    ReturnPath,
    /// The cookies come back: real clients.
    Burst,
    Unclear,
}

/// The state of one listener's SYN queue.
pub struct Pressure<'v> {
    pub queue: &'v Queue<'v>,
    pub severity: Severity,
    pub flavour: AttackKind,
    pub limit: u64,
    /// SYN_RECV rows that wait for data and not for an ACK (`TCP_DEFER_ACCEPT`).
    pub deferred: u64,
    pub repeated: u64,
    pub sources: usize,
    pub networks: usize,
    /// Growth between the samples, of the namespace.
    pub cookies_sent: u64,
    pub drops: u64,
    pub at_limit: bool,
    /// Nearly all SYN-ACKs were repeated.
    pub unanswered: bool,
    /// More SYNs were turned away in a second than twice the rows: clients repeat theirs more slowly.
    pub pours: bool,
    /// One of the sources has a connection that got through.
    pub finished: bool,
    /// The accept queue was over its limit in both samples, or connections were dropped for it between them.
    pub overflows: bool,
}

impl Pressure<'_> {
    /// Which causes are left.
    #[must_use]
    pub fn causes(&self) -> Weighed {
        Weighed::of(CAUSES, |cause| self.weigh(cause))
    }

    fn weigh(&self, cause: &'static Cause) -> Weight {
        let refuted = |why: &str| Weight::Refuted(why.to_owned());
        let burst = self.flavour == AttackKind::Burst;
        let few_networks = self.networks <= FEW_NETWORKS;
        match cause.id {
            "accept-queue-full" if self.overflows => Weight::Proven,
            "accept-queue-full" => refuted("the accept queue has room"),
            "burst" if self.overflows => refuted("the accept queue is full: those that got through wait there"),
            "burst" if burst => Weight::Proven,
            "burst" if self.unanswered => refuted("nearly all SYN-ACKs were repeated without an answer"),
            "burst" => Weight::Possible(0.5),
            _ if burst => refuted("half of the cookies or more came back"),
            "return-path" | "scanner" if self.finished => refuted("one of these sources got through"),
            "return-path" => Weight::Possible(if self.unanswered && few_networks { 0.6 } else { 0.3 }),
            "scanner" if few_networks => Weight::Possible(0.2),
            "scanner" => refuted("the sources are of many networks"),
            _ if self.flavour == AttackKind::Flood => Weight::Possible(0.6),
            _ if self.sources < FEW_SOURCES => refuted("the sources are one to three"),
            _ if self.finished => Weight::Possible(0.1),
            // Forged addresses may be of one network as well.
            _ if self.unanswered && self.pours => Weight::Possible(0.8),
            _ if self.unanswered => Weight::Possible(0.4),
            _ => Weight::Possible(0.2),
        }
    }
}

/// What both rules make of a view.
pub struct Assessment<'v> {
    pub pressures: Vec<Pressure<'v>>,
    pub wants_second: Option<String>,
    pub not_checked: Option<String>,
}

/// Looks at every listener that has half-open connections.
#[must_use]
pub fn assess<'v>(view: &'v View<'_>) -> Assessment<'v> {
    let mut assessment = Assessment { pressures: Vec::new(), wants_second: None, not_checked: None };
    for queue in view.queues().all().iter().filter(|q| !q.half_open.is_empty()) {
        let Some(limit) = limit(view, queue) else {
            if queue.half_open.len() as u64 >= FEW {
                assessment.not_checked =
                    Some(format!("source {} does not tell the backlog of a listener", view.now.source));
            }
            continue;
        };
        let fresh: Vec<&Socket> = queue.half_open.iter().copied().filter(|s| !is_deferred(view, s)).collect();
        let waiting = fresh.len() as u64;
        let half = |n: u64| is_half(n, limit);
        if view.before.is_none() {
            if half(waiting) {
                assessment.wants_second.get_or_insert_with(|| {
                    let [waiting, limit] = [waiting, limit].map(text::grouped);
                    format!("{waiting} half-open connections of {}, of which {limit} fit", queue.local)
                });
            }
            // A repeated SYN-ACK is a second old: a queue full of them has stood for that long.
            let stood = fresh.iter().filter(|s| s.timer.is_some_and(|t| t.retransmits > 0)).count() as u64;
            if waiting < FEW || waiting < limit || stood * 2 < waiting {
                continue;
            }
        }
        let before = view.queues_before().and_then(|q| q.get(queue.netns, queue.local));
        let half_before = before.is_some_and(|q| half(q.half_open.len() as u64));
        if let Some(pressure) = pressure(view, queue, &fresh, limit, half(waiting) && half_before) {
            assessment.pressures.push(pressure);
        }
    }
    assessment
}

/// Whether half-open connections fill the queue, or half of it while some were turned away: then others tell, with the cause.
#[must_use]
pub fn is_pressed(view: &View<'_>, queue: &Queue<'_>) -> bool {
    let Some(limit) = limit(view, queue) else { return false };
    let rows = queue.half_open.len() as u64;
    let turned_away = || {
        let cookies = view.delta(queue.netns, Counter::TcpExtSyncookiesSent).unwrap_or(0);
        cookies > 0 || queue.listeners.iter().any(|l| new_drops(view, l) > Some(0))
    };
    rows >= limit || is_half(rows, limit) && turned_away()
}

/// Whether half-open connections fill half of the queue in one of the samples.
#[must_use]
pub fn is_half_full(view: &View<'_>, queue: &Queue<'_>) -> bool {
    let Some(limit) = limit(view, queue) else { return false };
    let before = view.queues_before().and_then(|q| q.get(queue.netns, queue.local));
    let rows = before.map_or(0, |q| q.half_open.len()).max(queue.half_open.len()) as u64;
    is_half(rows, limit)
}

fn is_half(rows: u64, limit: u64) -> bool {
    rows >= FEW && rows * 2 >= limit
}

/// How many half-open connections the listeners hold: one more than their backlog (`inet_csk_reqsk_queue_is_full`
/// tests "greater than"), and without SYN cookies no more than about three quarters of `tcp_max_syn_backlog`
/// (`tcp_conn_request`).
fn limit(view: &View<'_>, queue: &Queue<'_>) -> Option<u64> {
    let backlog = queue.capacity()?;
    let netns = view.netns(queue.netns);
    let setting = |sysctl| netns.and_then(|n| n.sysctl(sysctl));
    match (setting(Sysctl::Ipv4TcpSyncookies), setting(Sysctl::Ipv4TcpMaxSynBacklog)) {
        (Some(0), Some(most)) => {
            let each = most.saturating_sub(most >> 2) + 1;
            Some(backlog.min(each * queue.listeners.len() as u64))
        }
        _ => Some(backlog),
    }
}

/// Whether a half-open row waits for data and not for the ACK: a SYN-ACK that was not repeated though its timeout has
/// passed, because the ACK came (`reqsk_timer_handler` in `net/ipv4/inet_connection_sock.c`).
fn is_deferred(view: &View<'_>, row: &Socket) -> bool {
    let Some(timer) = row.timer.filter(|t| t.retransmits == 0) else { return false };
    // The first timeout is a second; a longer one is a later one. The timer may be late by a tick or two.
    u64::from(timer.remaining_ms) > queues::INITIAL_RTO_MS + 50
        || (view.interval_ms().is_some_and(|ms| ms >= queues::INITIAL_RTO_MS * 3 / 2)
            && view.earlier(row).is_some_and(|e| e.kind == RowKind::Request))
}

fn pressure<'v>(
    view: &View<'_>,
    queue: &'v Queue<'v>,
    fresh: &[&Socket],
    limit: u64,
    half_twice: bool,
) -> Option<Pressure<'v>> {
    let delta = |counter| view.delta(queue.netns, counter).unwrap_or(0);
    let syncookies = view.netns(queue.netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpSyncookies));
    let rows = queue.half_open.len() as u64;
    let at_limit = rows >= limit;
    // Only a queue that is near its limit can have made the namespace's counters grow.
    let near = at_limit || is_half(rows, limit);
    // With tcp_syncookies=2 every SYN is answered by a cookie, and counted as if the queue were full.
    let cookies_sent = match syncookies {
        Some(2) => 0,
        _ if near => delta(Counter::TcpExtTcpReqQFullDoCookies).max(delta(Counter::TcpExtSyncookiesSent)),
        _ => 0,
    };
    let own_drops: Option<u64> = queue.listeners.iter().map(|l| new_drops(view, l)).sum();
    let full_drops = if near { delta(Counter::TcpExtTcpReqQFullDrop) } else { 0 };
    // Entries time out and come anew: a queue may have a place free at the instant of the sample.
    let was_full = at_limit || near && own_drops > Some(0) && delta(Counter::TcpExtListenOverflows) == 0;
    let listen_drops = if was_full { delta(Counter::TcpExtListenDrops) } else { 0 };
    // Drops of the namespace are another listener's when this one tells that it had none.
    let drops = if own_drops == Some(0) { 0 } else { full_drops };
    let at_limit_drops = was_full && listen_drops > 0 && own_drops != Some(0);
    let drops = if at_limit_drops { drops.max(own_drops.unwrap_or(listen_drops)) } else { drops };
    let pressed = cookies_sent > 0 || drops > 0;
    let before = view.queues_before().and_then(|q| q.get(queue.netns, queue.local));
    let over = [queue.is_over_limit(), before.is_some_and(Queue::is_over_limit)];
    let stays_over = over == [true; 2];
    // An overflow is counted beside the drop (`tcp_conn_request`, `tcp_v4_syn_recv_sock`). A server that accepts now and
    // then has a place free at the instant of a sample.
    let overflowed = delta(Counter::TcpExtListenOverflows);
    let dropped_for_it = own_drops > Some(0)
        && overflowed > 0
        && (over.contains(&true) || overflowed == delta(Counter::TcpExtListenDrops));
    let turned_away = drops + cookies_sent;
    let pours = view.interval_ms().is_some_and(|ms| turned_away * 1000 >= 2 * rows * ms);
    let severity = if pressed && stays_over {
        Severity::Critical
    } else if drops > 0 {
        Severity::High
    } else if cookies_sent > 0 {
        Severity::Warning
    } else if view.before.is_none() {
        // Full, as the caller saw; whether any were turned away no single sample tells.
        Severity::Warning
    } else if half_twice {
        Severity::Info
    } else {
        return None;
    };
    let repeated = fresh.iter().filter(|s| s.timer.is_some_and(|t| t.retransmits > 0)).count() as u64;
    let sources: FxHashSet<IpAddr> = fresh.iter().map(|s| s.peer.addr.to_canonical()).collect();
    let networks: FxHashSet<IpAddr> = fresh.iter().map(|s| network(s.peer.addr)).collect();
    let cookies_received = delta(Counter::TcpExtSyncookiesRecv);
    let unanswered = !fresh.is_empty() && repeated * 100 >= REPEATED_PERCENT * fresh.len() as u64;
    // While a flood lasts the kernel drops old entries for new ones, so that many rows are too young to be judged; that
    // hardly any cookie comes back tells the same.
    let lost = (turned_away >= COOKIES_OF_A_FLOOD || view.before.is_none()) && repeated * 2 >= fresh.len() as u64;
    let finished = any_finished(view, queue, &sources);
    let flavour = if cookies_sent > 0 && cookies_received * 2 >= cookies_sent {
        AttackKind::Burst
    } else if (unanswered || lost)
        && sources.len() >= FLOOD_SOURCES
        && networks.len() >= FLOOD_NETWORKS
        && (pressed || view.before.is_none())
        && cookies_received * 10 <= cookies_sent
    {
        AttackKind::Flood
    } else if unanswered && networks.len() <= FEW_NETWORKS && !finished {
        AttackKind::ReturnPath
    } else {
        AttackKind::Unclear
    };
    Some(Pressure {
        queue,
        severity,
        flavour,
        limit,
        deferred: rows - fresh.len() as u64,
        repeated,
        sources: sources.len(),
        networks: networks.len(),
        cookies_sent,
        drops,
        pours,
        at_limit,
        unanswered,
        finished,
        overflows: stays_over || dropped_for_it,
    })
}

fn new_drops(view: &View<'_>, listener: &Socket) -> Option<u64> {
    let drops = |s: &Socket| s.skmem?.drops.map(u64::from);
    Some(drops(listener)?.saturating_sub(drops(view.earlier(listener)?)?))
}

/// `/24` of IPv4, `/48` of IPv6: about one site.
fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() & 0xffff_ff00).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() & !(u128::MAX >> 48)).into()),
    }
}

/// Whether any of these sources has a connection with this listener's port that got through.
fn any_finished(view: &View<'_>, queue: &Queue<'_>, sources: &FxHashSet<IpAddr>) -> bool {
    view.now.sockets.iter().any(|s| {
        s.netns == queue.netns
            && s.local.port == queue.local.port
            && s.kind != RowKind::Request
            && s.state.has_peer()
            && sources.contains(&s.peer.addr.to_canonical())
    })
}

/// What both findings show.
#[must_use]
pub fn evidence(view: &View<'_>, finding: Finding, p: &Pressure<'_>, owner: Option<&Owner<'_>>) -> Finding {
    let queue = p.queue;
    let netns = queue.netns;
    let mut repeats: BTreeMap<u8, u64> = BTreeMap::new();
    for timer in queue.half_open.iter().filter_map(|s| s.timer) {
        *repeats.entry(timer.retransmits).or_default() += 1;
    }
    let grown = |counter| Evidence::count(view.delta(netns, counter));
    finding
        .causes(p.causes())
        .subject(listener_owner::subject(view, owner, netns, queue.local))
        .about(queue.listeners.iter().chain(&queue.half_open).copied())
        .evidence("half_open", Evidence::Count(queue.half_open.len() as u64))
        .evidence("limit", Evidence::Count(p.limit))
        .evidence("sources", Evidence::Count(p.sources as u64))
        .evidence("networks", Evidence::Count(p.networks as u64))
        .evidence("syn_ack_repeated", Evidence::Count(p.repeated))
        .evidence("syn_ack_repeats", Evidence::List(repeats.iter().map(|(n, rows)| format!("{n}: {rows}")).collect()))
        .evidence("deferred_accept", Evidence::Count(p.deferred))
        .evidence("cookies_sent", grown(Counter::TcpExtSyncookiesSent))
        .evidence("cookies_received", grown(Counter::TcpExtSyncookiesRecv))
        .evidence("cookies_failed", grown(Counter::TcpExtSyncookiesFailed))
        .evidence("syn_queue_full_drops", grown(Counter::TcpExtTcpReqQFullDrop))
        .evidence("netns_listen_drops", grown(Counter::TcpExtListenDrops))
        .evidence("embryonic_resets", grown(Counter::TcpExtEmbryonicRsts))
        .evidence("accept_queue", Evidence::Count(queue.queued()))
        .evidence(
            "tcp_syncookies",
            Evidence::count(view.netns(netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpSyncookies))),
        )
}

/// `server (812)` behind the endpoint, and what became of the SYNs that did not fit.
#[must_use]
pub fn outcome_words(p: &Pressure<'_>) -> String {
    match (p.drops, p.cookies_sent) {
        (0, 0) if p.at_limit => "the next ones get SYN cookies or are dropped".into(),
        (0, 0) => "none was turned away yet".into(),
        (0, n) => format!("{} answered with a SYN cookie", text::count(n, "SYN was", "SYNs were")),
        (n, 0) => format!("{} dropped", text::count(n, "SYN was", "SYNs were")),
        (n, m) => {
            let dropped = text::count(n, "SYN was", "SYNs were");
            format!("{dropped} dropped and {} answered with a SYN cookie", text::grouped(m))
        }
    }
}

#[must_use]
pub fn next(at: Endpoint) -> String {
    format!("tcpstate list --state syn-recv -o --port {}", at.port)
}
