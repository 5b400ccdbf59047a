//! The indices of one snapshot: listeners, rows at work, rows by cookie and by addresses, queues.
//!
//! Input: a snapshot. Output: rows of it; each index is built when it is first used. Not here: a second snapshot, roles, owners.

use std::net::IpAddr;
use std::sync::OnceLock;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::Listeners;
use crate::diagnose::by_key::ByKey;
use crate::diagnose::queues::Queues;
use crate::model::snapshot::{Netns, Snapshot};
use crate::model::sysctl::PORT_RANGE;
use crate::model::{FourTuple, NetnsId, RowKind, Socket, State, TimerKind};

type TupleIndex = ByKey<(Option<NetnsId>, FourTuple)>;

/// A snapshot with its indices.
pub(super) struct Index<'a> {
    snapshot: &'a Snapshot,
    listeners: OnceLock<FxHashMap<Option<NetnsId>, Listeners>>,
    active: OnceLock<Vec<u32>>,
    cookies: OnceLock<ByKey<(Option<NetnsId>, u64)>>,
    tuples: OnceLock<TupleIndex>,
    pairs: OnceLock<TupleIndex>,
    queues: OnceLock<Queues<'a>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Index<'a> {
        Index {
            snapshot,
            listeners: OnceLock::new(),
            active: OnceLock::new(),
            cookies: OnceLock::new(),
            tuples: OnceLock::new(),
            pairs: OnceLock::new(),
            queues: OnceLock::new(),
        }
    }

    /// The listeners of each namespace that has one.
    pub(super) fn listeners(&self) -> &FxHashMap<Option<NetnsId>, Listeners> {
        self.listeners.get_or_init(|| listeners_of(self.snapshot))
    }

    /// The rows that are not idle, with their places.
    pub(super) fn active(&self) -> impl Iterator<Item = (&'a Socket, usize)> + Clone {
        let places = self.active.get_or_init(|| {
            let rows = self.snapshot.sockets.iter().zip(0u32..);
            rows.filter(|(s, _)| !is_idle(s)).map(|(_, place)| place).collect()
        });
        let sockets = &self.snapshot.sockets;
        places.iter().map(|place| (&sockets[*place as usize], *place as usize))
    }

    /// The queues of every listener.
    pub(super) fn queues(&self) -> &Queues<'a> {
        self.queues.get_or_init(|| Queues::new(self.active().map(|(socket, _)| socket), self.listeners()))
    }

    /// The socket with this cookie.
    pub(super) fn with_cookie(&self, netns: Option<NetnsId>, cookie: u64) -> Option<&'a Socket> {
        let sockets = &self.snapshot.sockets;
        let cookies = self.cookies.get_or_init(|| ByKey::new(sockets, |s| Some((s.netns, s.cookie?)), |_| true));
        self.row(cookies.get(sockets, &(netns, cookie))?)
    }

    /// The connected socket with this four-tuple, on any interface.
    pub(super) fn at(&self, netns: Option<NetnsId>, tuple: FourTuple) -> Option<&'a Socket> {
        let tuples = self.tuples.get_or_init(|| index_of(&self.snapshot.sockets, |_| true));
        let wanted = (netns, FourTuple { ifindex: 0, ..tuple.normalised() });
        self.row(tuples.get(&self.snapshot.sockets, &wanted)?)
    }

    /// The other half of a connection: first in the same namespace, then in every other one.
    pub(super) fn other_half(&self, socket: &Socket) -> Option<&'a Socket> {
        let pairs = self.pairs.get_or_init(|| pair_index(&self.snapshot.sockets));
        let wanted = FourTuple { ifindex: 0, ..socket.four_tuple().normalised().swapped() };
        let others = || self.snapshot.netns.iter().filter(|n| n.inode != socket.netns);
        let of = |netns| pairs.get(&self.snapshot.sockets, &(netns, wanted));
        self.row(of(socket.netns).or_else(|| others().find_map(|n| of(n.inode)))?)
    }

    fn row(&self, place: u32) -> Option<&'a Socket> {
        self.snapshot.sockets.get(place as usize)
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

fn index_of(sockets: &[Socket], is_wanted: impl Fn(&Socket) -> bool + Sync) -> TupleIndex {
    let key = |s: &Socket| Some((s.netns, FourTuple { ifindex: 0, ..s.four_tuple().normalised() }));
    ByKey::new(sockets, key, |s| s.state.has_peer() && is_wanted(s))
}
