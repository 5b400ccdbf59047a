//! Connections that are on their way out: whose they are, and what keeps them.
//!
//! Input: rows after the first FIN. Output: groups by listener or destination, with the numbers that every rule on them
//! shows, and how much they weigh. Not here: why they are stuck (`causes`).

pub mod causes;

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::peers;
use crate::diagnose::retries;
use crate::diagnose::view::View;
use crate::model::counter::SockStat;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, NetnsId, Process, Socket, TimerKind};
use crate::text;

/// What the connections of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// They came in on this listener.
    Listener(Endpoint),
    /// They went out to this endpoint.
    Destination(Endpoint),
    /// Which end connected cannot be told.
    Peer(IpAddr),
}

impl Place {
    /// `of 0.0.0.0:80`, `to 10.0.0.2:80`, `with 10.0.0.2`.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Place::Listener(at) => format!("of {at}"),
            Place::Destination(at) => format!("to {at}"),
            Place::Peer(addr) => format!("with {addr}"),
        }
    }

    /// The selection of `tcpstate list` that shows them.
    #[must_use]
    pub fn selection(self) -> String {
        match self {
            // Accepted connections have the address that the client called, not the wildcard.
            Place::Listener(at) if at.is_wildcard() => format!("--port {}", at.port),
            Place::Listener(at) => format!("--local {at}"),
            Place::Destination(at) => format!("--peer {at}"),
            Place::Peer(addr) => format!("--peer {addr}"),
        }
    }
}

/// Connections of one place.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub netns: Option<NetnsId>,
    pub place: Place,
    pub rows: Vec<&'a Socket>,
}

/// The rows that are wanted (none of them at rest), by place, the largest group first.
#[must_use]
pub fn groups<'a>(view: &View<'a>, wanted: impl Fn(&Socket) -> bool) -> Vec<Group<'a>> {
    let mut places: BTreeMap<(Option<NetnsId>, Place), Vec<&'a Socket>> = BTreeMap::new();
    for socket in view.active().filter(|s| wanted(s)) {
        let place = match view.role(socket) {
            Role::Server(i) => Place::Listener(view.listeners(socket.netns).get(i).local),
            Role::FormerServer => Place::Listener(socket.local),
            Role::Client => Place::Destination(socket.peer.normalised()),
            _ => Place::Peer(socket.peer.addr.to_canonical()),
        };
        places.entry((socket.netns, place)).or_default().push(socket);
    }
    let mut groups: Vec<Group<'a>> =
        places.into_iter().map(|((netns, place), rows)| Group { netns, place, rows }).collect();
    groups.sort_by_key(|g| std::cmp::Reverse(g.rows.len()));
    groups
}

/// Whether the peer does not take the FIN, or the data before it: repeated as often as no loss explains, or refused by
/// a zero window for so many probes.
#[must_use]
pub fn is_stuck(view: &View<'_>, socket: &Socket) -> bool {
    let limit = peers::retries1(view, socket);
    let Some(timer) = socket.timer else { return false };
    let reaches = |n: u8| u64::from(n) >= limit;
    match timer.kind {
        TimerKind::Retransmit => reaches(timer.retransmits),
        TimerKind::ZeroWindowProbe => {
            reaches(timer.retransmits)
                || socket.info.as_deref().and_then(crate::model::TcpInfo::backoff).is_some_and(reaches)
        }
        _ => false,
    }
}

/// Whether the peer refuses data: its window is zero and we probe. With an open one the probes do not even leave.
#[must_use]
pub fn is_zero_window(socket: &Socket) -> bool {
    socket.timer.is_some_and(|t| t.kind == TimerKind::ZeroWindowProbe) && !peers::cannot_leave(socket)
}

/// Memory of the send queues, as far as it was told.
#[must_use]
pub fn send_memory_bytes<'a>(rows: impl IntoIterator<Item = &'a Socket>) -> u64 {
    rows.into_iter().filter_map(|s| s.skmem).map(|m| u64::from(m.wmem_queued_bytes)).sum()
}

/// Orphans of the whole host and their limit, which only the initial namespace shows.
#[must_use]
pub fn orphans(view: &View<'_>) -> (Option<u64>, Option<u64>) {
    let orphans = view.now.netns.iter().find_map(|n| n.sockstat(SockStat::TcpOrphan));
    let limit = view.now.netns.iter().find_map(|n| n.sysctl(Sysctl::Ipv4TcpMaxOrphans));
    (orphans, limit)
}

/// Whether the host has so many orphans that the kernel may begin to kill them (`tcp_out_of_resources` shifts their
/// number by up to 2).
#[must_use]
pub fn orphans_near_limit(view: &View<'_>) -> bool {
    matches!(orphans(view), (Some(n), Some(limit)) if limit > 0 && n >= limit.div_ceil(4))
}

/// What such connections use up; `None` where a namespace does not show the host's limits.
pub struct Limits {
    pub orphans: Option<u64>,
    pub memory_bytes: Option<u64>,
    orphan_percent: f64,
}

impl Limits {
    #[must_use]
    pub fn new(view: &View<'_>) -> Limits {
        let pages = view.now.netns.iter().find_map(|n| n.sysctls.get(Sysctl::Ipv4TcpMem)?.get(2).copied());
        let page_bytes = Some(view.now.system.page_bytes).filter(|b| *b > 0);
        Limits {
            orphans: orphans(view).1,
            memory_bytes: pages.zip(page_bytes).map(|(pages, bytes)| pages.saturating_mul(bytes)),
            orphan_percent: view.thresholds.orphan_warn_percent,
        }
    }

    fn weigh<'a>(&self, rows: impl Iterator<Item = &'a Socket> + Clone) -> bool {
        let orphans = rows.clone().filter(|s| s.is_orphan()).count() as f64;
        let memory = send_memory_bytes(rows) as f64;
        self.orphans.is_some_and(|limit| orphans > 0.0 && orphans * 100.0 >= limit as f64 * self.orphan_percent)
            || self.memory_bytes.is_some_and(|limit| memory > 0.0 && memory * 100.0 >= limit as f64)
    }

    /// How bad each of the groups is, which come largest first: both ends have closed, so that nobody waits, unless they use up
    /// what others need. The limits are the host's: when all of them together weigh, the largest is where to begin.
    #[must_use]
    pub fn severities(&self, groups: &[Group<'_>]) -> Vec<Severity> {
        let together = self.weigh(groups.iter().flat_map(|g| g.rows.iter().copied()));
        let of = |(place, group): (usize, &Group<'_>)| {
            let weighs = self.weigh(group.rows.iter().copied()) || (together && place == 0);
            if weighs { Severity::Warning } else { Severity::Info }
        };
        groups.iter().enumerate().map(of).collect()
    }
}

/// The processes on this host at the other end of these rows, the one with most of them first.
#[must_use]
pub fn other_ends<'a>(view: &View<'a>, rows: &[&Socket]) -> Vec<(&'a Process, &'a Socket, u64)> {
    let mut count: FxHashMap<u32, (&'a Process, &'a Socket, u64)> = FxHashMap::default();
    for row in rows {
        let Some(mirror) = view.mirror(row) else { continue };
        if let Some(process) = view.holder(mirror) {
            count.entry(process.pid).or_insert((process, mirror, 0)).2 += 1;
        }
    }
    let mut ends: Vec<_> = count.into_values().collect();
    ends.sort_by_key(|(process, _, n)| (std::cmp::Reverse(*n), process.pid));
    ends
}

/// The peers with most rows: `10.0.0.2: 17`.
#[must_use]
pub fn top_peers(rows: &[&Socket], most: usize) -> Vec<(IpAddr, u64)> {
    let mut counts: FxHashMap<IpAddr, u64> = FxHashMap::default();
    for row in rows {
        *counts.entry(row.peer.addr.to_canonical()).or_default() += 1;
    }
    let mut peers: Vec<(IpAddr, u64)> = counts.into_iter().collect();
    peers.sort_by_key(|(addr, n)| (std::cmp::Reverse(*n), *addr));
    peers.truncate(most);
    peers
}

/// Peers as evidence.
#[must_use]
pub fn peers_evidence(rows: &[&Socket]) -> Evidence {
    Evidence::List(top_peers(rows, 5).into_iter().map(|(addr, n)| format!("{addr}: {n}")).collect())
}

/// Whose the rows are: who holds them, or who listens where they came in. Nobody holds an orphan, and a uid of 0 is
/// what kernels before 6.17 print instead (`sock_i_uid`).
#[must_use]
pub fn subject(view: &View<'_>, group: &Group<'_>) -> Subject {
    let mut holders: Vec<&Process> = group.rows.iter().flat_map(|s| view.processes(s)).collect();
    holders.sort_by_key(|p| p.pid);
    holders.dedup_by_key(|p| p.pid);
    let place = match group.place {
        Place::Listener(at) => Subject { listener: Some(at), ..Subject::default() },
        Place::Destination(at) => Subject { destination: Some(at), ..Subject::default() },
        Place::Peer(addr) => Subject { destination: Some(Endpoint::new(addr, 0)), ..Subject::default() },
    };
    let named = if let Some(process) = holders.first() {
        let pids: Vec<u32> = holders.iter().map(|p| p.pid).collect();
        Subject { pids: if pids.len() > 1 { pids } else { Vec::new() }, ..view.subject_of(process, group.netns) }
    } else if let Place::Listener(at) = group.place
        && let Some(queue) = view.queues().get(group.netns, at)
        && let Some(owner) = Owner::of(view, &queue.listeners)
    {
        listener_owner::subject(view, Some(&owner), group.netns, at)
    } else {
        let uid = group.rows.iter().find_map(|s| s.uid.filter(|uid| *uid != 0));
        Subject { netns: group.netns, uid, ..Subject::default() }
    };
    Subject { listener: place.listener, destination: place.destination, ..named }
}

/// How long the peer has been silent, at most and at least among the rows.
#[must_use]
pub fn silence_ms(rows: &[&Socket]) -> Option<(u64, u64)> {
    let silences = || rows.iter().filter_map(|s| s.info.as_deref()?.last_ack_recv_ms()).map(u64::from);
    silences().max().zip(silences().min())
}

/// What every rule on stuck closing connections shows.
#[must_use]
pub fn evidence(view: &View<'_>, finding: Finding, group: &Group<'_>) -> Finding {
    let rows = &group.rows;
    let netns = view.netns(group.netns);
    let most = |value: fn(&Socket) -> Option<u64>| rows.iter().filter_map(|s| value(s)).max();
    let orphans = rows.iter().filter(|s| s.is_orphan()).count() as u64;
    let ends = rows.iter().filter_map(|s| retries::closing_ends_in_ms(s, netns)).max();
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    finding
        .about(rows.iter().copied())
        .evidence("count", Evidence::Count(rows.len() as u64))
        .evidence("orphans", Evidence::Count(orphans))
        .evidence("retransmissions_max", Evidence::count(most(|s| s.timer.map(|t| t.retransmits.into()))))
        .evidence("backoff_max", Evidence::count(most(|s| s.info.as_deref()?.backoff().map(u64::from))))
        .evidence("peer_silence_ms", Evidence::millis(silence_ms(rows).map(|(longest, _)| longest)))
        .evidence("zero_window", Evidence::Count(rows.iter().filter(|s| is_zero_window(s)).count() as u64))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("send_memory_bytes", Evidence::Bytes(send_memory_bytes(rows.iter().copied())))
        .evidence("ends_within_ms", Evidence::millis(ends))
        .evidence("peers", peers_evidence(rows))
}

/// What is seen of the rows, and the cause when it is known: `the peer does not acknowledge the FIN and was last heard 12 s
/// ago`.
#[must_use]
pub fn words(view: &View<'_>, group: &Group<'_>, weighed: &Weighed) -> String {
    let cause = weighed.named();
    let shut = weighed.is("zero-window");
    let ends = other_ends(view, &group.rows);
    let who = ends.first().map(|(process, _, _)| format!("{} on this host", text::name(process)));
    let silence = silence_ms(&group.rows).map(|(longest, _)| text::duration(longest));
    match (cause, who, silence) {
        (Some(_), Some(who), _) if shut => format!("{who} does not read what is left (window at zero)"),
        (Some(_), None, _) if shut => "the peer does not read what is left (window at zero)".into(),
        (Some(cause), _, _) => cause.text.to_owned(),
        (None, Some(who), _) => format!("{who} does not acknowledge the FIN"),
        (None, None, Some(silence)) => {
            format!("the peer does not acknowledge the FIN and was last heard {silence} ago")
        }
        (None, None, None) => "the peer does not acknowledge the FIN".into(),
    }
}
