//! What a rule sees: one snapshot, perhaps the one before, and the questions that many rules ask.
//!
//! Input: snapshots and thresholds. Output: roles, pairs, earlier rows, differences of counters; each is computed when the
//! first rule asks. Not here: the indices of one snapshot (`index`), a rule's own decision.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::aggregate::{Listeners, Role};
use crate::cores;
use crate::diagnose::finding::Subject;
use crate::diagnose::index::Index;
use crate::diagnose::ports::{self, Route};
use crate::diagnose::queues::Queues;
use crate::diagnose::thresholds::Thresholds;
use crate::model::conntrack::{Connection, NatPorts, Tracked};
use crate::model::counter::Counter;
use crate::model::path::{Destination, NextHop};
use crate::model::snapshot::{Answers, Netns, ProcessFacts, Snapshot, WindowLook};
use crate::model::sysctl::{PORT_RANGE, Sysctl, TCP_FIN_TIMEOUT_MS};
use crate::model::{
    Coverage, Family, FourTuple, Holder, NetnsId, OwnerStatus, Process, RowKind, Socket, State, TcpInfo, TimerKind,
};

/// What was found out after the snapshot.
pub type Inspected = OnceLock<Answers>;

/// Processes by the listener that they hold: its namespace and its place in the list there.
type ListenerHolders = FxHashMap<(Option<NetnsId>, u32), Vec<u32>>;

/// A snapshot, or two, with indices.
pub struct View<'a> {
    pub now: &'a Snapshot,
    /// The snapshot before, if there is one.
    pub before: Option<&'a Snapshot>,
    pub thresholds: &'a Thresholds,
    inspected: Option<&'a Inspected>,
    /// Somebody asked for what an inspection may change.
    has_looked: AtomicBool,
    shared: Arc<Shared<'a>>,
}

/// What all views of the same snapshots share; nothing of it depends on an inspection.
struct Shared<'a> {
    index: Index<'a>,
    index_before: Option<Index<'a>>,
    roles: OnceLock<Vec<Role>>,
    held: OnceLock<Vec<(OwnerStatus, &'a [Holder])>>,
    heard: OnceLock<Vec<Option<u64>>>,
    latest_heard: OnceLock<FxHashMap<(Option<NetnsId>, Family), u64>>,
    empty: Listeners,
    routes: OnceLock<Vec<Route<'a>>>,
    by_pid: OnceLock<FxHashMap<u32, &'a Process>>,
    listener_holders: OnceLock<ListenerHolders>,
    sockets_held: OnceLock<FxHashMap<u32, u64>>,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn new(now: &'a Snapshot, before: Option<&'a Snapshot>, thresholds: &'a Thresholds) -> View<'a> {
        let shared = Shared {
            index: Index::new(now),
            index_before: before.map(Index::new),
            roles: OnceLock::new(),
            held: OnceLock::new(),
            heard: OnceLock::new(),
            latest_heard: OnceLock::new(),
            empty: Listeners::new(PORT_RANGE),
            routes: OnceLock::new(),
            by_pid: OnceLock::new(),
            listener_holders: OnceLock::new(),
            sockets_held: OnceLock::new(),
        };
        let has_looked = AtomicBool::new(false);
        View { now, before, thresholds, inspected: None, has_looked, shared: Arc::new(shared) }
    }

    /// The same view for one rule, of which [`View::has_looked`] then speaks.
    pub(super) fn for_one_rule(&self) -> View<'a> {
        View { has_looked: AtomicBool::new(false), shared: Arc::clone(&self.shared), ..*self }
    }

    /// Whether somebody asked this view for what an inspection may change. What was concluded without it stays true.
    pub(super) fn has_looked(&self) -> bool {
        self.has_looked.load(Ordering::Relaxed)
    }

    /// What an inspection found out, if there was one.
    fn answers(&self) -> Option<&'a Answers> {
        self.has_looked.store(true, Ordering::Relaxed);
        self.inspected?.get()
    }

    /// Takes what processes do from here as soon as it is there: no other answer of a view depends on it, so what was
    /// worked out before they were inspected still holds.
    #[must_use]
    pub fn with_inspected(self, inspected: &'a Inspected) -> View<'a> {
        View { inspected: Some(inspected), ..self }
    }

    /// Milliseconds between the two snapshots.
    #[must_use]
    pub fn interval_ms(&self) -> Option<u64> {
        Some(self.now.monotonic_ms.saturating_sub(self.before?.monotonic_ms)).filter(|ms| *ms > 0)
    }

    /// The listeners of a namespace.
    #[must_use]
    pub fn listeners(&self, netns: Option<NetnsId>) -> &Listeners {
        self.shared.index.listeners().get(&netns).unwrap_or(&self.shared.empty)
    }

    /// Facts of the namespace of a row.
    #[must_use]
    pub fn netns(&self, inode: Option<NetnsId>) -> Option<&'a Netns> {
        self.now.netns(inode)
    }

    /// The role of every socket, in the order of the rows.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        self.shared.roles.get_or_init(|| cores::map(&self.now.sockets, |s| self.role(s)))
    }

    /// Every row with its role.
    pub fn rows(&self) -> impl Iterator<Item = (&'a Socket, Role)> + Clone {
        self.now.sockets.iter().zip(self.roles().iter().copied())
    }

    /// The rows in which something happens or waits: all but connections at rest, which are most of a busy host, and of
    /// which most rules need no row.
    pub fn active(&self) -> impl Iterator<Item = &'a Socket> + Clone {
        self.shared.index.active().map(|(socket, _)| socket)
    }

    /// The same with their roles.
    pub fn restless_rows(&self) -> impl Iterator<Item = (&'a Socket, Role)> + Clone {
        let roles = self.roles();
        self.shared.index.active().map(|(socket, place)| (socket, roles[place]))
    }

    /// The role of one socket.
    #[must_use]
    pub fn role(&self, socket: &Socket) -> Role {
        match self.shared.index.listeners().get(&socket.netns) {
            Some(listeners) => listeners.role(socket),
            None => Listeners::new(self.netns(socket.netns).map_or(PORT_RANGE, Netns::port_range)).role(socket),
        }
    }

    /// The LISTEN rows that a connection belongs to (several with `SO_REUSEPORT`).
    #[must_use]
    pub fn listener_rows(&self, socket: &Socket) -> Vec<&'a Socket> {
        let Some(index) = self.listeners(socket.netns).matching(socket.netns, socket.local) else { return Vec::new() };
        let listener = self.listeners(socket.netns).get(index);
        self.now
            .sockets
            .iter()
            .filter(|s| {
                s.state == State::Listen
                    && s.netns == socket.netns
                    && s.local == listener.local
                    && s.family == listener.family
            })
            .collect()
    }

    /// The queues of every listener.
    #[must_use]
    pub fn queues(&self) -> &Queues<'a> {
        self.shared.index.queues()
    }

    /// The queues as they were in the snapshot before.
    #[must_use]
    pub fn queues_before(&self) -> Option<&Queues<'a>> {
        self.shared.index_before.as_ref().map(Index::queues)
    }

    /// Every route that is worth a look, the fullest first.
    #[must_use]
    pub fn routes(&self) -> &[Route<'a>] {
        self.shared.routes.get_or_init(|| ports::routes(&self.now.netns, self.rows()))
    }

    /// Owners of a socket, or why there is none.
    #[must_use]
    pub fn owners(&self, socket: &Socket) -> (OwnerStatus, &'a [Holder]) {
        match place(&self.now.sockets, socket) {
            Some(row) => self.held()[row],
            None => self.now.owners.of(socket),
        }
    }

    /// The owners of every socket, in the order of the rows: looked up once, as each look-up of a long list misses the
    /// cache, and many rules ask.
    fn held(&self) -> &[(OwnerStatus, &'a [Holder])] {
        self.shared.held.get_or_init(|| cores::map(&self.now.sockets, |s| self.now.owners.of(s)))
    }

    /// How long ago the peer of a socket was last heard: read once, as several rules ask of most
    /// rows and each answer misses the cache.
    pub fn heard_ms(&self, socket: &Socket) -> Option<u64> {
        let all = self.shared.heard.get_or_init(|| cores::map(&self.now.sockets, |s| heard(self, s)));
        match place(&self.now.sockets, socket) {
            Some(row) => all[row],
            None => heard(self, socket),
        }
    }

    /// The latest word from beyond this host, over each family of a namespace.
    pub fn latest_heard(&self) -> &FxHashMap<(Option<NetnsId>, Family), u64> {
        self.shared.latest_heard.get_or_init(|| {
            let mut latest = FxHashMap::default();
            for socket in &self.now.sockets {
                let peer = socket.peer.addr.to_canonical();
                if peer.is_loopback() {
                    continue;
                }
                let Some(ms) = self.heard_ms(socket) else { continue };
                let kept = latest.entry((socket.netns, Family::of(peer))).or_insert(u64::MAX);
                *kept = ms.min(*kept);
            }
            latest
        })
    }

    /// The first process that holds a socket.
    #[must_use]
    pub fn holder(&self, socket: &Socket) -> Option<&'a Process> {
        Some(self.now.owners.process(self.owners(socket).1.first()?))
    }

    /// How many sockets have an owner, and why the others have none.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        self.held().iter().for_each(|(status, _)| coverage.add(*status));
        coverage
    }

    /// The processes that hold a socket, each once.
    #[must_use]
    pub fn processes(&self, socket: &Socket) -> Vec<&'a Process> {
        self.holding(socket).collect()
    }

    /// The same one by one, for a walk over every socket.
    pub fn holding(&self, socket: &Socket) -> impl Iterator<Item = &'a Process> + use<'a> {
        let (holders, now) = (self.owners(socket).1, self.now);
        let mut last = None;
        let first = move |h: &&Holder| last.replace(h.process) != Some(h.process);
        holders.iter().filter(first).map(move |h| now.owners.process(h))
    }

    /// How many sockets a process holds.
    #[must_use]
    pub fn sockets_held(&self, pid: u32) -> u64 {
        let all = self.shared.sockets_held.get_or_init(|| {
            let processes = &self.now.owners.processes;
            // By the place of the process in the table: no look-up for each row.
            let mut counts = vec![0u64; processes.len()];
            for (_, holders) in self.held() {
                let mut last = None;
                for holder in holders.iter().filter(|h| last.replace(h.process) != Some(h.process)) {
                    counts[holder.process as usize] += 1;
                }
            }
            let mut by_pid = FxHashMap::default();
            for (process, count) in processes.iter().zip(counts) {
                *by_pid.entry(process.pid).or_default() += count;
            }
            by_pid
        });
        all.get(&pid).copied().unwrap_or(0)
    }

    /// What is known of a process.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&'a ProcessFacts> {
        let inspected = self.answers().and_then(|found| found.processes.get(&pid));
        inspected.or_else(|| self.now.processes.get(&pid))
    }

    /// Every next hop that is known, by destination.
    pub fn next_hops(&self) -> impl Iterator<Item = (&Destination, &NextHop)> {
        let asked = self.answers().map(|found| found.next_hops.iter());
        asked.into_iter().flatten().chain(&self.now.next_hops)
    }

    /// The next hop to a destination, if the kernel was asked.
    #[must_use]
    pub fn next_hop(&self, netns: Option<NetnsId>, to: IpAddr) -> Option<&NextHop> {
        let asked = self.answers().and_then(|found| found.next_hops.get(&(netns, to)));
        asked.or_else(|| self.now.next_hops.get(&(netns, to)))
    }

    /// What a tracking table has of a connection; `None`: it was not read.
    #[must_use]
    pub fn tracked(&self, connection: Connection) -> Option<Option<Tracked>> {
        let asked = self.answers().and_then(|found| found.tracking.entries.get(&connection));
        asked.or_else(|| self.now.tracking.entries.get(&connection)).copied()
    }

    /// The ports that source translation of a namespace has taken, by destination, if its table was read.
    #[must_use]
    pub fn nat_ports(&self, netns: Option<NetnsId>) -> &[NatPorts] {
        let asked = self.answers().and_then(|found| found.tracking.ports.get(&netns));
        asked.or_else(|| self.now.tracking.ports.get(&netns)).map_or(&[], Vec::as_slice)
    }

    /// How the window that the peer of a connection offers went, if it was looked at.
    #[must_use]
    pub fn window_looks(&self, socket: &Socket) -> &[WindowLook] {
        let connection = (socket.netns, socket.four_tuple());
        let asked = self.answers().and_then(|found| found.windows.get(&connection));
        asked.or_else(|| self.now.windows.get(&connection)).map_or(&[], Vec::as_slice)
    }

    /// Whether two processes run the same program: by the file they execute, else by name.
    #[must_use]
    pub fn is_same_program(&self, a: &Process, b: &Process) -> bool {
        let exe = |p: &Process| self.process(p.pid)?.program();
        match (exe(a), exe(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a.comm == b.comm,
        }
    }

    /// The same socket in the snapshot before, by cookie, else by four-tuple.
    #[must_use]
    pub fn earlier(&self, socket: &Socket) -> Option<&'a Socket> {
        let before = self.shared.index_before.as_ref()?;
        if let Some(cookie) = socket.cookie {
            return before.with_cookie(socket.netns, cookie);
        }
        let tuple = socket.four_tuple();
        // The index holds one row per four-tuple; link-local addresses can be the same on another interface.
        before.at(socket.netns, tuple).filter(|earlier| earlier.four_tuple().ifindex == tuple.ifindex)
    }

    /// Whether a row of the snapshot before has none now: the connection ended in between.
    #[must_use]
    pub fn is_gone(&self, earlier: &Socket) -> bool {
        let by_cookie = earlier.cookie.and_then(|cookie| self.shared.index.with_cookie(earlier.netns, cookie));
        by_cookie.is_none() && self.shared.index.at(earlier.netns, earlier.four_tuple()).is_none()
    }

    /// The other half of a connection whose both ends are seen: swapped four-tuple, IPv4-mapped as IPv4, first in the
    /// same namespace and then in every other one.
    #[must_use]
    pub fn mirror(&self, socket: &Socket) -> Option<&'a Socket> {
        self.shared.index.other_half(socket)
    }

    /// The other half as it was in the snapshot before.
    #[must_use]
    pub fn mirror_before(&self, socket: &Socket) -> Option<&'a Socket> {
        self.shared.index_before.as_ref()?.other_half(socket)
    }

    /// The socket with this four-tuple now.
    #[must_use]
    pub fn at(&self, netns: Option<NetnsId>, tuple: FourTuple) -> Option<&'a Socket> {
        self.shared.index.at(netns, tuple)
    }

    /// Growth of a counter of a namespace between the snapshots; `None` without a second one or such a counter.
    #[must_use]
    pub fn delta(&self, netns: Option<NetnsId>, counter: Counter) -> Option<u64> {
        let before = self.before?.netns(netns)?.counter(counter)?;
        Some(self.netns(netns)?.counter(counter)?.saturating_sub(before))
    }

    /// How much a field of a row's `tcp_info` grew between the samples.
    pub fn grown(&self, socket: &Socket, field: fn(&TcpInfo) -> Option<u64>) -> Option<u64> {
        let before = field(self.earlier(socket)?.info.as_deref()?)?;
        Some(field(socket.info.as_deref()?)?.saturating_sub(before))
    }

    /// For how long the remainder of a closed connection waits in FIN_WAIT2 (`tcp_fin_timeout`).
    #[must_use]
    pub fn fin_timeout_ms(&self, netns: Option<NetnsId>) -> u64 {
        let set = self.netns(netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpFinTimeout));
        set.map_or(TCP_FIN_TIMEOUT_MS, |seconds| seconds.saturating_mul(1000))
    }

    /// Growth of a counter per second.
    #[must_use]
    pub fn rate(&self, netns: Option<NetnsId>, counter: Counter) -> Option<f64> {
        Some(self.delta(netns, counter)? as f64 * 1000.0 / self.interval_ms()? as f64)
    }

    /// A process of the owner table.
    #[must_use]
    pub fn named(&self, pid: u32) -> Option<&'a Process> {
        let by_pid = || self.now.owners.processes.iter().map(|p| (p.pid, p)).collect();
        self.shared.by_pid.get_or_init(by_pid).get(&pid).copied()
    }

    /// The processes that hold a listener, by its place in the list of its namespace.
    #[must_use]
    pub fn listener_holders(&self, netns: Option<NetnsId>, index: u32) -> &[u32] {
        let all = self.shared.listener_holders.get_or_init(|| {
            let mut all = ListenerHolders::default();
            for socket in self.active().filter(|s| s.state == State::Listen) {
                if let Role::Listener(index) = self.role(socket) {
                    let holders = all.entry((socket.netns, index)).or_default();
                    holders.extend(self.processes(socket).iter().map(|p| p.pid));
                    holders.sort_unstable();
                    holders.dedup();
                }
            }
            all
        });
        all.get(&(netns, index)).map_or(&[], Vec::as_slice)
    }

    /// Adds what the owner table knows of a subject's process, so that no rule need think of it.
    pub fn complete(&self, subject: &mut Subject) {
        let Some(process) = subject.pid.and_then(|pid| self.named(pid)) else { return };
        let known = self.subject_of(process, None);
        subject.comm = subject.comm.take().or(known.comm);
        subject.uid = subject.uid.or(known.uid);
        subject.unit = subject.unit.take().or(known.unit);
        subject.container = subject.container.take().or(known.container);
        subject.pod = subject.pod.take().or(known.pod);
    }

    /// A subject that names a process.
    #[must_use]
    pub fn subject_of(&self, process: &Process, netns: Option<NetnsId>) -> Subject {
        Subject {
            netns,
            pid: Some(process.pid),
            comm: Some(process.comm.clone()),
            uid: process.uid,
            unit: process.identity.unit.clone(),
            container: process.identity.container_label().map(str::to_owned),
            pod: process.identity.pod_label().map(str::to_owned),
            ..Subject::default()
        }
    }
}

/// How long ago the peer was last heard: data, an ACK, or what ended the connection. `None` where no row tells.
fn heard(view: &View<'_>, socket: &Socket) -> Option<u64> {
    if !socket.state.has_peer() || matches!(socket.state, State::SynSent | State::SynRecv) {
        return None;
    }
    if socket.kind == RowKind::TimeWaitMini {
        // The timer starts with the peer's last segment; in FIN_WAIT2 with the acknowledgement of our FIN.
        let left = || Some(u64::from(socket.timer.filter(|t| t.kind == TimerKind::TimeWait)?.remaining_ms));
        return match socket.state {
            State::FinWait2 => left().map(|left| view.fin_timeout_ms(socket.netns).saturating_sub(left)),
            _ => socket.state_age().map(|age| age.min_ms),
        };
    }
    let info = socket.info.as_deref()?;
    let stamp = u64::from(info.last_heard_ms()?);
    let segments = |s: &Socket| s.info.as_deref()?.segs_in();
    let grew = view.earlier(socket).is_some_and(|e| segments(socket) > segments(e));
    // A repeated SYN-ACK counts as a segment and moves no stamp.
    Some(view.interval_ms().filter(|_| grew).map_or(stamp, |interval| stamp.min(interval)))
}

/// The place of a socket in a list that it is a part of.
fn place(sockets: &[Socket], socket: &Socket) -> Option<usize> {
    let offset = std::ptr::from_ref(socket).addr().checked_sub(sockets.as_ptr().addr())?;
    let place = offset / size_of::<Socket>();
    sockets.get(place).filter(|row| std::ptr::eq(*row, socket)).map(|_| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::row;

    #[test]
    fn a_row_without_cookie_is_found_again_on_its_own_interface_only() {
        let on = |ifindex| {
            let row = row(State::Established, "10.0.0.1:80", "10.0.0.2:5432");
            Snapshot { sockets: vec![Socket { cookie: None, ifindex, ..row }], ..Snapshot::default() }
        };
        let (second, third, thresholds) = (on(Some(2)), on(Some(3)), Thresholds::default());
        let view = View::new(&second, Some(&second), &thresholds);
        assert!(view.earlier(&second.sockets[0]).is_some());
        assert!(view.earlier(&third.sockets[0]).is_none());
    }
}
