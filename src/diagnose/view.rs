//! What a rule sees: one snapshot, perhaps the one before, and the questions that many rules ask.
//!
//! Comes in: snapshots and thresholds. Goes out: roles, pairs, earlier rows, differences of counters; each index is made
//! when the first rule asks. Never here: a rule's own decision.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::{Listeners, Role};
use crate::cores;
use crate::diagnose::finding::Subject;
use crate::diagnose::ports::{self, Route};
use crate::diagnose::queues::Queues;
use crate::diagnose::thresholds::Thresholds;
use crate::model::counter::Counter;
use crate::model::snapshot::{Netns, ProcessFacts, Snapshot};
use crate::model::sysctl::PORT_RANGE;
use crate::model::{Coverage, FourTuple, Holder, NetnsId, OwnerStatus, Process, RowKind, Socket, State, TimerKind};

/// Facts of processes that were inspected after the snapshot.
pub type Inspected = OnceLock<BTreeMap<u32, ProcessFacts>>;

type TupleIndex = FxHashMap<(Option<NetnsId>, FourTuple), u32>;

/// A snapshot, or two, with indices.
pub struct View<'a> {
    pub now: &'a Snapshot,
    /// The snapshot before, if there is one.
    pub before: Option<&'a Snapshot>,
    pub thresholds: &'a Thresholds,
    inspected: Option<&'a Inspected>,
    listeners: FxHashMap<Option<NetnsId>, Listeners>,
    roles: OnceLock<Vec<Role>>,
    active: OnceLock<Vec<u32>>,
    held: OnceLock<Vec<(OwnerStatus, &'a [Holder])>>,
    tuples: OnceLock<TupleIndex>,
    pairs: OnceLock<TupleIndex>,
    cookies_before: OnceLock<FxHashMap<(Option<NetnsId>, u64), u32>>,
    tuples_before: OnceLock<TupleIndex>,
    pairs_before: OnceLock<TupleIndex>,
    empty: Listeners,
    queues: OnceLock<Queues<'a>>,
    queues_before: OnceLock<Queues<'a>>,
    routes: OnceLock<Vec<Route<'a>>>,
}

impl<'a> View<'a> {
    #[must_use]
    pub fn new(now: &'a Snapshot, before: Option<&'a Snapshot>, thresholds: &'a Thresholds) -> View<'a> {
        View {
            now,
            before,
            thresholds,
            inspected: None,
            listeners: listeners_of(now),
            roles: OnceLock::new(),
            active: OnceLock::new(),
            held: OnceLock::new(),
            tuples: OnceLock::new(),
            pairs: OnceLock::new(),
            cookies_before: OnceLock::new(),
            tuples_before: OnceLock::new(),
            pairs_before: OnceLock::new(),
            empty: Listeners::new(PORT_RANGE),
            queues: OnceLock::new(),
            queues_before: OnceLock::new(),
            routes: OnceLock::new(),
        }
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
        self.listeners.get(&netns).unwrap_or(&self.empty)
    }

    /// Facts of the namespace of a row.
    #[must_use]
    pub fn netns(&self, inode: Option<NetnsId>) -> Option<&'a Netns> {
        self.now.netns(inode)
    }

    /// The role of every socket, in the order of the rows.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        self.roles.get_or_init(|| cores::map(&self.now.sockets, |s| self.role(s)))
    }

    /// Every row with its role.
    pub fn rows(&self) -> impl Iterator<Item = (&'a Socket, Role)> + Clone {
        self.now.sockets.iter().zip(self.roles().iter().copied())
    }

    /// The rows in which something happens or waits: all but connections at rest, which are most of a busy host, and of
    /// which most rules need no row.
    pub fn active(&self) -> impl Iterator<Item = &'a Socket> + Clone {
        self.restless_rows().map(|(socket, _)| socket)
    }

    /// The same with their roles.
    pub fn restless_rows(&self) -> impl Iterator<Item = (&'a Socket, Role)> + Clone {
        let places = self.active.get_or_init(|| {
            let rows = self.now.sockets.iter().zip(0u32..);
            rows.filter(|(s, _)| !is_idle(s)).map(|(_, place)| place).collect()
        });
        places.iter().map(|place| (&self.now.sockets[*place as usize], self.roles()[*place as usize]))
    }

    /// The role of one socket.
    #[must_use]
    pub fn role(&self, socket: &Socket) -> Role {
        match self.listeners.get(&socket.netns) {
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
        self.queues.get_or_init(|| Queues::new(self.active(), &self.listeners))
    }

    /// The queues as they were in the snapshot before.
    #[must_use]
    pub fn queues_before(&self) -> Option<&Queues<'a>> {
        let before = self.before?;
        Some(self.queues_before.get_or_init(|| Queues::new(before.sockets.iter(), &listeners_of(before))))
    }

    /// Every route that is worth a look, the fullest first.
    #[must_use]
    pub fn routes(&self) -> &[Route<'a>] {
        self.routes.get_or_init(|| ports::routes(&self.now.netns, self.rows()))
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
        self.held.get_or_init(|| cores::map(&self.now.sockets, |s| self.now.owners.of(s)))
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
        let mut indices: Vec<u32> = self.owners(socket).1.iter().map(|h| h.process).collect();
        indices.dedup();
        indices.into_iter().map(|i| &self.now.owners.processes[i as usize]).collect()
    }

    /// What is known of a process.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&'a ProcessFacts> {
        let inspected = self.inspected.and_then(OnceLock::get).and_then(|facts| facts.get(&pid));
        inspected.or_else(|| self.now.processes.get(&pid))
    }

    /// Whether two processes run the same program: by the file they execute, else by name.
    #[must_use]
    pub fn is_same_program(&self, a: &Process, b: &Process) -> bool {
        let exe = |p: &Process| {
            let exe = self.process(p.pid)?.exe.as_deref()?;
            // A program that was replaced on disk while it runs is still the same program.
            Some(exe.strip_suffix(" (deleted)").unwrap_or(exe))
        };
        match (exe(a), exe(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a.comm == b.comm,
        }
    }

    /// The same socket in the snapshot before, by cookie, else by four-tuple.
    #[must_use]
    pub fn earlier(&self, socket: &Socket) -> Option<&'a Socket> {
        let before = self.before?;
        let row = match socket.cookie {
            Some(cookie) => *self
                .cookies_before
                .get_or_init(|| {
                    let rows = before.sockets.iter().zip(0u32..);
                    rows.filter_map(|(s, i)| Some(((s.netns, s.cookie?), i))).collect()
                })
                .get(&(socket.netns, cookie))?,
            None => *self
                .tuples_before
                .get_or_init(|| tuple_index(&before.sockets))
                .get(&(socket.netns, socket.four_tuple().normalised()))?,
        };
        before.sockets.get(row as usize)
    }

    /// The other half of a connection whose both ends are seen: swapped four-tuple, IPv4-mapped as IPv4, first in the
    /// same namespace and then in every other one.
    #[must_use]
    pub fn mirror(&self, socket: &Socket) -> Option<&'a Socket> {
        other_half(self.now, self.pairs.get_or_init(|| pair_index(&self.now.sockets)), socket)
    }

    /// The other half as it was in the snapshot before.
    #[must_use]
    pub fn mirror_before(&self, socket: &Socket) -> Option<&'a Socket> {
        let before = self.before?;
        other_half(before, self.pairs_before.get_or_init(|| pair_index(&before.sockets)), socket)
    }

    /// The socket with this four-tuple now.
    #[must_use]
    pub fn at(&self, netns: Option<NetnsId>, tuple: FourTuple) -> Option<&'a Socket> {
        let tuples = self.tuples.get_or_init(|| tuple_index(&self.now.sockets));
        self.now.sockets.get(*tuples.get(&(netns, FourTuple { ifindex: 0, ..tuple.normalised() }))? as usize)
    }

    /// Growth of a counter of a namespace between the snapshots; `None` without a second one or such a counter.
    #[must_use]
    pub fn delta(&self, netns: Option<NetnsId>, counter: Counter) -> Option<u64> {
        let before = self.before?.netns(netns)?.counter(counter)?;
        Some(self.netns(netns)?.counter(counter)?.saturating_sub(before))
    }

    /// Growth of a counter per second.
    #[must_use]
    pub fn rate(&self, netns: Option<NetnsId>, counter: Counter) -> Option<f64> {
        Some(self.delta(netns, counter)? as f64 * 1000.0 / self.interval_ms()? as f64)
    }

    /// Adds what the owner table knows of a subject's process, so that no rule need think of it.
    pub fn complete(&self, subject: &mut Subject) {
        let Some(process) = self.now.owners.processes.iter().find(|p| Some(p.pid) == subject.pid) else { return };
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

fn listeners_of(snapshot: &Snapshot) -> FxHashMap<Option<NetnsId>, Listeners> {
    let mut listeners: FxHashMap<Option<NetnsId>, Listeners> = FxHashMap::default();
    for socket in snapshot.sockets.iter().filter(|s| s.state == State::Listen) {
        listeners
            .entry(socket.netns)
            .or_insert_with(|| Listeners::new(snapshot.netns(socket.netns).map_or(PORT_RANGE, Netns::port_range)))
            .add(socket);
    }
    listeners
}

/// Whether a connection is established, belongs to somebody, has nothing in its queues and no timer but that of keepalive.
fn is_idle(socket: &Socket) -> bool {
    socket.state == State::Established
        && socket.kind == RowKind::Full
        && socket.inode.is_some()
        && socket.recv_q_bytes == 0
        && socket.send_q_bytes == Some(0)
        && socket.timer.is_none_or(|t| t.kind == TimerKind::Keepalive && t.retransmits == 0)
}

/// The place of a socket in a list that it is a part of.
fn place(sockets: &[Socket], socket: &Socket) -> Option<usize> {
    let offset = std::ptr::from_ref(socket).addr().checked_sub(sockets.as_ptr().addr())?;
    let place = offset / size_of::<Socket>();
    sockets.get(place).filter(|row| std::ptr::eq(*row, socket)).map(|_| place)
}

/// Every connected row by its four-tuple.
fn tuple_index(sockets: &[Socket]) -> TupleIndex {
    index_of(sockets, |_| true)
}

/// The rows that can be the other half of one: the address of their peer is the own address of some row.
fn pair_index(sockets: &[Socket]) -> TupleIndex {
    let mut own: FxHashSet<IpAddr> = FxHashSet::default();
    let mut last = None;
    for socket in sockets {
        // Rows of one address often follow each other.
        if last.replace(socket.local.addr) != Some(socket.local.addr) {
            own.insert(socket.local.addr.to_canonical());
        }
    }
    index_of(sockets, |s| own.contains(&s.peer.addr.to_canonical()))
}

fn other_half<'a>(of: &'a Snapshot, pairs: &TupleIndex, socket: &Socket) -> Option<&'a Socket> {
    let wanted = FourTuple { ifindex: 0, ..socket.four_tuple().normalised().swapped() };
    let own = pairs.get(&(socket.netns, wanted));
    let row = own
        .or_else(|| of.netns.iter().filter(|n| n.inode != socket.netns).find_map(|n| pairs.get(&(n.inode, wanted))))?;
    of.sockets.get(*row as usize)
}

fn index_of(sockets: &[Socket], wanted: impl Fn(&Socket) -> bool + Sync) -> TupleIndex {
    let wanted = cores::map(sockets, |s| s.state.has_peer() && wanted(s));
    let mut index = TupleIndex::default();
    index.reserve(wanted.iter().filter(|w| **w).count());
    for ((socket, place), _) in sockets.iter().zip(0u32..).zip(wanted).filter(|(_, wanted)| *wanted) {
        index.insert((socket.netns, FourTuple { ifindex: 0, ..socket.four_tuple().normalised() }), place);
    }
    index
}
