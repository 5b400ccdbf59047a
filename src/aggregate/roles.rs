//! Which end of a connection a socket is: the one that listened or the one that connected.
//!
//! Input: the LISTEN rows, the ephemeral port range, a socket. Output: its [`Role`].

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::accept_queue::AcceptQueue;
use crate::model::snapshot::Netns;
use crate::model::sysctl::PORT_RANGE;
use crate::model::{Endpoint, Family, Inode, NetnsId, RowKind, Socket, State};

/// The role of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It listens: index into [`Listeners::all`].
    Listener(u32),
    /// It was accepted by (or waits for) a listener that still exists.
    Server(u32),
    /// It was accepted on this port, whose listener is gone.
    FormerServer,
    /// It connected to its peer.
    Client,
    /// Neither listening nor connected.
    Bound,
    /// Cannot be determined.
    Unknown,
}

/// A listening endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub netns: Option<NetnsId>,
    pub family: Family,
    pub local: Endpoint,
    /// `None` when the source does not report it (`/proc`): then a `::` listener is taken for dual-stack.
    pub v6only: Option<bool>,
    pub inode: Option<Inode>,
    pub queue: AcceptQueue,
}

/// Every listener, by port. Several sockets on one endpoint (`SO_REUSEPORT`) are one listener here.
#[derive(Clone, Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    by_port: FxHashMap<u16, Vec<u32>>,
    /// `ip_local_port_range`, both ends included.
    pub ephemeral: (u16, u16),
    /// The same for namespaces where it differs.
    ephemeral_of: FxHashMap<Option<NetnsId>, (u16, u16)>,
}

impl Listeners {
    /// No listener yet; `ephemeral` is `ip_local_port_range`.
    #[must_use]
    pub fn new(ephemeral: (u16, u16)) -> Listeners {
        Listeners { all: Vec::new(), by_port: FxHashMap::default(), ephemeral, ephemeral_of: FxHashMap::default() }
    }

    /// No listener yet, with `ip_local_port_range` of each namespace. The first applies to namespaces not named.
    #[must_use]
    pub fn within(namespaces: &[Netns]) -> Listeners {
        let mut listeners = Listeners::new(namespaces.first().map_or(PORT_RANGE, Netns::port_range));
        listeners.ephemeral_of.extend(namespaces.iter().skip(1).map(|n| (n.inode, n.port_range())));
        listeners
    }

    /// Takes a LISTEN row; other rows are ignored.
    pub fn add(&mut self, socket: &Socket) {
        if socket.state != State::Listen {
            return;
        }
        if let Some(known) = self.exact(socket) {
            return self.all[known as usize].queue.merge(&AcceptQueue::of(socket));
        }
        let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(Listener {
            netns: socket.netns,
            family: socket.family,
            local: socket.local,
            v6only: socket.v6only,
            inode: socket.inode,
            queue: AcceptQueue::of(socket),
        });
        self.by_port.entry(socket.local.port).or_default().push(index);
    }

    #[must_use]
    pub fn all(&self) -> &[Listener] {
        &self.all
    }

    /// The listener at the index in a [`Role`].
    #[must_use]
    pub fn get(&self, index: u32) -> &Listener {
        &self.all[index as usize]
    }

    /// What listens exactly there; `netns` where there are several.
    #[must_use]
    pub fn at(&self, netns: Option<NetnsId>, local: Endpoint) -> Option<&Listener> {
        let candidates = self.by_port.get(&local.port)?;
        let is_there = |l: &&Listener| l.local == local && (netns.is_none() || l.netns == netns);
        candidates.iter().map(|i| self.get(*i)).find(is_there)
    }

    fn exact(&self, socket: &Socket) -> Option<u32> {
        let candidates = self.by_port.get(&socket.local.port)?;
        candidates.iter().copied().find(|i| {
            let l = self.get(*i);
            l.netns == socket.netns && l.local == socket.local && l.family == socket.family
        })
    }

    /// The listener that a connection to `local` belongs to: exact address first, then the wildcard of its family,
    /// then a dual-stack `::`.
    #[must_use]
    pub fn matching(&self, netns: Option<NetnsId>, local: Endpoint) -> Option<u32> {
        let candidates = self.by_port.get(&local.port)?;
        let addr = local.addr.to_canonical();
        let mut best: Option<(u8, u32)> = None;
        for index in candidates {
            let listener = self.get(*index);
            if listener.netns != netns {
                continue;
            }
            let rank = if listener.local.addr.to_canonical() == addr {
                3
            } else if listener.local.is_wildcard() {
                match (listener.local.addr, addr) {
                    (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => 2,
                    (IpAddr::V6(_), IpAddr::V4(_)) if listener.v6only != Some(true) => 1,
                    _ => 0,
                }
            } else {
                0
            };
            if rank > best.map_or(0, |(r, _)| r) {
                best = Some((rank, *index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn is_ephemeral(&self, netns: Option<NetnsId>, port: u16) -> bool {
        let (low, high) = self.ephemeral_of.get(&netns).copied().unwrap_or(self.ephemeral);
        (low..=high).contains(&port)
    }

    /// The role of a socket.
    #[must_use]
    pub fn role(&self, socket: &Socket) -> Role {
        match (socket.state, socket.kind) {
            (State::Listen, _) => return self.exact(socket).map_or(Role::Unknown, Role::Listener),
            (State::BoundInactive | State::Close, _) => return Role::Bound,
            // Only connect() makes a SYN_SENT.
            (State::SynSent, _) => return Role::Client,
            _ => {}
        }
        self.proven(socket).unwrap_or_else(|| match socket.kind {
            RowKind::Request => Role::FormerServer,
            _ => self.likely(socket),
        })
    }

    /// The role of one end of a connection by who listens; `None`: nobody does.
    #[must_use]
    pub fn proven(&self, socket: &Socket) -> Option<Role> {
        let ours = self.matching(socket.netns, socket.local);
        let theirs = if is_local(socket) { self.matching(socket.netns, socket.peer) } else { None };
        match (ours, theirs) {
            (Some(ours), None) => Some(Role::Server(ours)),
            (None, Some(_)) => Some(Role::Client),
            (Some(ours), Some(theirs)) => {
                let exact = |i: u32, e: Endpoint| self.get(i).local.addr.to_canonical() == e.addr.to_canonical();
                Some(match (exact(ours, socket.local), exact(theirs, socket.peer)) {
                    (true, false) => Role::Server(ours),
                    (false, true) => Role::Client,
                    _ => Role::Unknown,
                })
            }
            (None, None) => None,
        }
    }

    /// The same by the range of ports that connect() takes.
    #[must_use]
    pub fn likely(&self, socket: &Socket) -> Role {
        let is_ephemeral = |end: Endpoint| self.is_ephemeral(socket.netns, end.port);
        match (is_ephemeral(socket.local), is_ephemeral(socket.peer)) {
            (true, false) => Role::Client,
            (false, true) => Role::FormerServer,
            _ => Role::Unknown,
        }
    }
}

/// Whether the peer is this host, as far as one row shows.
#[must_use]
pub fn is_local(socket: &Socket) -> bool {
    let peer = socket.peer.addr.to_canonical();
    peer.is_loopback() || peer == socket.local.addr.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: State, local: &str, peer: &str) -> Socket {
        let (local, peer) = (Endpoint::at(local), Endpoint::at(peer));
        let family = Family::of(local.addr);
        Socket { family, state, local, peer, ..Socket::default() }
    }

    fn listeners(rows: &[&str]) -> Listeners {
        let mut all = Listeners::new(PORT_RANGE);
        for at in rows {
            all.add(&row(State::Listen, at, if at.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }));
        }
        all
    }

    #[test]
    fn roles_follow_the_listeners_then_the_port_range() {
        let l = listeners(&["0.0.0.0:80", "127.0.0.1:80", "[::]:443", "10.0.0.1:9000"]);
        let role = |local: &str, peer: &str| l.role(&row(State::Established, local, peer));
        assert_eq!(role("10.0.0.1:80", "10.0.0.9:40000"), Role::Server(0));
        assert_eq!(role("127.0.0.1:80", "127.0.0.1:40000"), Role::Server(1), "the exact address wins");
        assert_eq!(role("127.0.0.1:40000", "127.0.0.1:80"), Role::Client);
        assert_eq!(role("[::ffff:10.0.0.1]:443", "[::ffff:10.0.0.2]:40000"), Role::Server(2), "dual stack");
        assert_eq!(role("10.0.0.1:443", "10.0.0.2:40000"), Role::Server(2));
        assert_eq!(role("10.0.0.1:40000", "10.9.9.9:80"), Role::Client, "a remote :80 is not our :80");
        assert_eq!(role("10.0.0.1:8081", "10.9.9.9:50000"), Role::FormerServer);
        assert_eq!(role("10.0.0.1:40000", "10.9.9.9:50000"), Role::Unknown);
        assert_eq!(l.role(&row(State::SynSent, "10.0.0.1:80", "10.0.0.2:80")), Role::Client);
        assert_eq!(l.role(&row(State::BoundInactive, "10.0.0.1:80", "0.0.0.0:0")), Role::Bound);
    }

    #[test]
    fn a_v6only_listener_takes_no_ipv4_connection() {
        let mut l = Listeners::new(PORT_RANGE);
        l.add(&Socket { v6only: Some(true), ..row(State::Listen, "[::]:443", "[::]:0") });
        assert_eq!(l.matching(None, row(State::Established, "10.0.0.1:443", "10.0.0.2:1").local), None);
    }

    #[test]
    fn several_sockets_on_one_endpoint_are_one_listener() {
        let l = listeners(&["0.0.0.0:80", "0.0.0.0:80"]);
        assert_eq!(l.all().len(), 1);
    }
}
