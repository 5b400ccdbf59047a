//! The queues of every listener: who waits to be accepted, who has not finished the handshake.
//!
//! Comes in: the rows of a snapshot, in one pass. Goes out: one [`Queue`] per listening endpoint. Never here: who should
//! accept (`listener_owner`), or judgement.

use rustc_hash::FxHashMap;

use crate::aggregate::Listeners;
use crate::model::{Endpoint, NetnsId, RowKind, Socket, State};

/// `TCP_TIMEOUT_INIT` (`include/net/tcp.h`): the first repetition of a SYN or SYN-ACK comes after this.
pub const INITIAL_RTO_MS: u64 = 1000;

/// One listening endpoint with everything that stands in its queues.
#[derive(Clone, Debug)]
pub struct Queue<'a> {
    pub netns: Option<NetnsId>,
    pub local: Endpoint,
    /// LISTEN rows: several with `SO_REUSEPORT`, or on several devices.
    pub listeners: Vec<&'a Socket>,
    /// Finished connections that nobody has accepted. Which of several listeners has them no row tells.
    pub waiting: Vec<&'a Socket>,
    /// Request sockets: handshakes under way.
    pub half_open: Vec<&'a Socket>,
}

impl<'a> Queue<'a> {
    /// The listeners, and the connections that wait for `accept()`.
    pub fn entries(&self) -> impl Iterator<Item = &'a Socket> {
        self.listeners.iter().chain(&self.waiting).copied()
    }

    /// Connections that the listeners say wait, dead ones included.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.listeners.iter().map(|l| u64::from(l.recv_q_bytes)).sum()
    }

    /// How many connections fit: the kernel tests "greater than" (`sk_acceptq_is_full` in `include/net/sock.h`), so
    /// that each listener holds one more than its limit. `None` when the source does not tell the limit.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.listeners.iter().map(|l| Some(u64::from(l.backlog()?) + 1)).sum()
    }

    /// The longest wait for `accept()`, as far as rows tell it.
    #[must_use]
    pub fn oldest_wait_ms(&self) -> Option<u64> {
        self.waiting.iter().filter_map(|s| wait_ms(s)).max()
    }

    /// Whether some listener's queue is over its limit.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.listeners.iter().any(|l| is_over_limit(l))
    }
}

/// Whether the accept queue of this listener is full.
#[must_use]
pub fn is_over_limit(listener: &Socket) -> bool {
    listener.has_full_accept_queue()
}

/// For how long a connection has waited to be accepted: nobody can have sent on it, so the stamp is that of its making
/// (`tcp_create_openreq_child` in `net/ipv4/tcp_minisocks.c`).
#[must_use]
pub fn wait_ms(waiting: &Socket) -> Option<u64> {
    waiting.info.as_deref()?.last_data_sent_ms().map(u64::from)
}

/// Every queue of a snapshot.
#[derive(Clone, Debug)]
pub struct Queues<'a> {
    all: Vec<Queue<'a>>,
    places: FxHashMap<(Option<NetnsId>, Endpoint), u32>,
    unmatched: FxHashMap<Option<NetnsId>, u64>,
}

impl<'a> Queues<'a> {
    /// Sorts rows into the queues of their listeners. Of connections at rest none waits in one.
    #[must_use]
    pub fn new(
        rows: impl Iterator<Item = &'a Socket> + Clone,
        listeners: &FxHashMap<Option<NetnsId>, Listeners>,
    ) -> Queues<'a> {
        let mut queues = Queues { all: Vec::new(), places: FxHashMap::default(), unmatched: FxHashMap::default() };
        for socket in rows.clone().filter(|s| s.state == State::Listen) {
            let place = *queues.places.entry((socket.netns, socket.local)).or_insert_with(|| {
                queues.all.push(Queue {
                    netns: socket.netns,
                    local: socket.local,
                    listeners: Vec::new(),
                    waiting: Vec::new(),
                    half_open: Vec::new(),
                });
                u32::try_from(queues.all.len() - 1).unwrap_or(u32::MAX)
            });
            queues.all[place as usize].listeners.push(socket);
        }
        for socket in rows {
            let request = socket.kind == RowKind::Request;
            if !request && !socket.is_unaccepted() {
                continue;
            }
            let place = listeners.get(&socket.netns).and_then(|l| {
                let at = l.get(l.matching(socket.netns, socket.local)?).local;
                queues.places.get(&(socket.netns, at)).copied()
            });
            match place.map(|p| &mut queues.all[p as usize]) {
                Some(queue) if request => queue.half_open.push(socket),
                Some(queue) => queue.waiting.push(socket),
                None if request => {}
                None => *queues.unmatched.entry(socket.netns).or_default() += 1,
            }
        }
        queues
    }

    #[must_use]
    pub fn all(&self) -> &[Queue<'a>] {
        &self.all
    }

    /// The queue of a listening endpoint.
    #[must_use]
    pub fn get(&self, netns: Option<NetnsId>, listener: Endpoint) -> Option<&Queue<'a>> {
        self.all.get(*self.places.get(&(netns, listener))? as usize)
    }

    /// Connections of a namespace that wait in a queue which no address tells: a transparent proxy's.
    #[must_use]
    pub fn unmatched(&self, netns: Option<NetnsId>) -> u64 {
        self.unmatched.get(&netns).copied().unwrap_or(0)
    }
}
