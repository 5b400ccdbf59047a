//! Which end of a connection is the service, and whose the other one is: the one place that decides it for what a trace saw.
//!
//! Input: endpoints, what the trace saw of their ports, the snapshots around it. Output: the service, the side it is on, the
//! process. Not here: rows of a snapshot, which have a role (`roles`).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::roles::{Listeners, Role};
use crate::model::traced::Program;
use crate::model::transition::Actor;
use crate::model::{Endpoint, Family, NetnsId, Snapshot, Socket, State};

/// Sides of connections that are remembered: 64 bytes each.
const REMEMBERED: usize = 8192;
/// What an end sends after its close comes within this time.
const AFTERWARDS_NS: u64 = 5_000_000_000;

/// A connection, by what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conn {
    pub netns: Option<NetnsId>,
    pub local: Endpoint,
    pub peer: Endpoint,
    /// A segment came for it, and no socket was there (any more).
    pub is_gone: bool,
}

impl Conn {
    /// IPv4-mapped addresses as IPv4.
    #[must_use]
    pub fn new(netns: Option<NetnsId>, local: Endpoint, peer: Endpoint) -> Conn {
        Conn { netns, local: local.normalised(), peer: peer.normalised(), is_gone: false }
    }

    fn key(&self) -> (Option<NetnsId>, Endpoint, Endpoint) {
        (self.netns, self.local, self.peer)
    }

    /// The service has the lower number, as far as that goes.
    #[must_use]
    pub fn guessed(&self) -> Place {
        self.service(self.local.port < self.peer.port)
    }

    fn service(&self, served_here: bool) -> Place {
        Place { netns: self.netns, service: if served_here { self.local } else { self.peer }, served_here }
    }
}

/// A service, as one end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub netns: Option<NetnsId>,
    pub service: Endpoint,
    pub served_here: bool,
}

/// The place of a connection, as soon as the trace knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The trace saw which end connected.
    Told(Place),
    /// It began before the trace: what stands around it tells, once all was seen.
    Untold(Conn),
}

/// Which end connected, and which process.
#[derive(Clone, Copy)]
struct Side {
    served_here: bool,
    actor: Option<Actor>,
    closed_ns: Option<u64>,
}

/// The sides of the connections that the trace saw begin, by the socket's address in the kernel.
#[derive(Default)]
pub struct Sides {
    of: FxHashMap<u64, Side>,
    closed: usize,
    /// When those that are over were last taken out.
    swept_ns: u64,
}

impl Sides {
    /// A connection was made; `actor` called connect().
    pub fn began(&mut self, address: u64, served_here: bool, actor: Option<Actor>, now_ns: u64) {
        let is_due = now_ns.saturating_sub(self.swept_ns) >= AFTERWARDS_NS / 5;
        if is_due && self.of.len() >= REMEMBERED && self.closed > REMEMBERED / 4 {
            self.swept_ns = now_ns;
            self.of.retain(|_, side| side.closed_ns.is_none_or(|ns| now_ns.saturating_sub(ns) < AFTERWARDS_NS));
            self.closed = self.of.values().filter(|side| side.closed_ns.is_some()).count();
        }
        if self.of.len() < REMEMBERED || self.of.contains_key(&address) {
            self.of.insert(address, Side { served_here, actor, closed_ns: None });
        }
    }

    /// Its socket ended: the reset that it sends, or that ends it, may be told later.
    pub fn ended(&mut self, address: u64, now_ns: u64) {
        if let Some(side) = self.of.get_mut(&address) {
            self.closed += usize::from(side.closed_ns.is_none());
            side.closed_ns = Some(now_ns);
        }
    }

    /// The address is another socket's from now on.
    pub fn forget(&mut self, address: u64) {
        if self.of.remove(&address).is_some_and(|side| side.closed_ns.is_some()) {
            self.closed = self.closed.saturating_sub(1);
        }
    }

    /// Where a connection belongs, and who opened it here.
    #[must_use]
    pub fn whose(&self, conn: Conn, address: Option<u64>, state: Option<State>) -> (Whose, Option<Actor>) {
        if state == Some(State::Listen) {
            return (Whose::Told(conn.service(true)), None);
        }
        match address.and_then(|address| self.of.get(&address)) {
            Some(side) => (Whose::Told(conn.service(side.served_here)), side.actor),
            None => (Whose::Untold(Conn { is_gone: state.is_none(), ..conn }), None),
        }
    }
}

/// What stands beside a trace when its sums are read.
pub struct Beside<'a> {
    /// The name of a process; without one the name of its thread, as traced, stands for it.
    pub name: &'a dyn Fn(u32) -> Option<String>,
    /// The snapshots around it, as far as there are any.
    pub snapshots: &'a [&'a Snapshot],
}

/// What tells the ends of connections that began before the trace.
pub struct Facts<'a> {
    listeners: Listeners,
    /// Ports to which connections came.
    pub came: FxHashSet<(Option<NetnsId>, u16)>,
    /// What was connected to.
    pub called: FxHashSet<(Option<NetnsId>, Endpoint)>,
    holders: FxHashMap<(Option<NetnsId>, Endpoint, Endpoint), (u32, &'a str)>,
    /// How many connections an endpoint has.
    many: FxHashMap<(Option<NetnsId>, Endpoint), usize>,
}

impl<'a> Facts<'a> {
    /// Looks up these connections in the snapshots.
    #[must_use]
    pub fn of(conns: &[Conn], snapshots: &[&'a Snapshot]) -> Facts<'a> {
        let mut listeners = Listeners::within(snapshots.first().map_or(&[], |s| &s.netns));
        let mut facts_of = FxHashMap::default();
        let wanted: FxHashSet<_> = conns.iter().map(Conn::key).collect();
        let ends = |c: &Conn| [(c.netns, c.local), (c.netns, c.peer)];
        let known: FxHashSet<_> = conns.iter().flat_map(ends).collect();
        let mut pairs: FxHashSet<_> = conns.iter().filter(|c| !c.is_gone).map(Conn::key).collect();
        let snapshots = if conns.is_empty() { &[] } else { snapshots };
        for snapshot in snapshots {
            for socket in &snapshot.sockets {
                listeners.add(socket);
                let conn = Conn::new(socket.netns, socket.local, socket.peer);
                if !socket.state.has_peer() || !ends(&conn).iter().any(|end| known.contains(end)) {
                    continue;
                }
                pairs.insert(conn.key());
                if !wanted.contains(&conn.key()) || facts_of.contains_key(&conn.key()) {
                    continue;
                }
                if let Some(holder) = snapshot.owners.of(socket).1.first() {
                    let process = snapshot.owners.process(holder);
                    facts_of.insert(conn.key(), (process.pid, process.comm.as_str()));
                }
            }
        }
        let mut many: FxHashMap<_, usize> = FxHashMap::default();
        pairs.into_iter().flat_map(|(netns, local, peer)| [(netns, local), (netns, peer)]).for_each(|end| {
            *many.entry(end).or_default() += 1;
        });
        Facts { listeners, came: FxHashSet::default(), called: FxHashSet::default(), holders: facts_of, many }
    }

    /// The process that held the connection in a snapshot.
    #[must_use]
    pub fn holder(&self, conn: &Conn) -> Option<Program> {
        let (pid, comm) = self.holders.get(&conn.key())?;
        Some(Program { pid: *pid, comm: (*comm).to_owned(), processes: 1 })
    }

    /// The service of a connection. By proof: a listener, or an end that others of the trace were connected to; then by likelihood:
    /// the range of ports that connect() takes, the end that several connections share, the lower number. `None`: nothing tells, of a
    /// segment for which there was no socket.
    #[must_use]
    pub fn place(&self, conn: &Conn) -> Option<Place> {
        let row = Socket {
            netns: conn.netns,
            family: Family::of(conn.local.addr),
            state: State::Established,
            local: conn.local,
            peer: conn.peer,
            ..Socket::default()
        };
        let (came, called) =
            (self.came.contains(&(conn.netns, conn.local.port)), self.called.contains(&(conn.netns, conn.peer)));
        let served_here = match self.listeners.proven(&row) {
            Some(Role::Server(_)) => true,
            Some(Role::Client) => false,
            _ if came != called => came,
            _ => match self.listeners.likely(&row) {
                Role::Client => false,
                Role::FormerServer => true,
                _ if conn.is_gone => return None,
                _ => {
                    let many = |end| self.many.get(&(conn.netns, end)).copied().unwrap_or(0);
                    match many(conn.local).cmp(&many(conn.peer)) {
                        std::cmp::Ordering::Greater => true,
                        std::cmp::Ordering::Less => false,
                        std::cmp::Ordering::Equal => return Some(conn.guessed()),
                    }
                }
            },
        };
        Some(conn.service(served_here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::Netns;
    use crate::model::{Holder, Inode, OwnerTable, Process};

    fn at(text: &str) -> Endpoint {
        let at: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    }

    fn conn(local: &str, peer: &str) -> Conn {
        Conn::new(NetnsId::new(1), at(local), at(peer))
    }

    fn snapshot(rows: &[(State, &str, &str)]) -> Snapshot {
        let row = |(state, local, peer): &(State, &str, &str)| Socket {
            netns: NetnsId::new(1),
            state: *state,
            local: at(local),
            peer: at(peer),
            family: Family::of(at(local).addr),
            ..Socket::default()
        };
        let netns = vec![Netns { inode: NetnsId::new(1), ..Netns::default() }];
        Snapshot { netns, sockets: rows.iter().map(row).collect(), ..Snapshot::default() }
    }

    #[test]
    fn a_listener_or_who_connected_decides_whatever_the_numbers_of_the_ports_are() {
        let high = conn("10.0.0.1:60051", "10.0.0.9:40000");
        let listens = snapshot(&[(State::Listen, "0.0.0.0:60051", "0.0.0.0:0")]);
        let place = |conn: Conn, snapshots: &[&Snapshot]| Facts::of(&[conn], snapshots).place(&conn).unwrap();
        assert_eq!(place(high, &[&listens]), high.service(true));
        assert_eq!(place(high, &[&snapshot(&[])]), high.service(false), "the lower number, if nothing tells");
        let mut facts = Facts::of(&[high], &[]);
        facts.came.insert((NetnsId::new(1), 60051));
        assert_eq!(facts.place(&high), Some(high.service(true)));
        let (mut facts, client) = (Facts::of(&[high], &[]), conn("10.0.0.9:40000", "10.0.0.1:60051"));
        facts.called.insert((NetnsId::new(1), client.peer));
        assert_eq!(facts.place(&client), Some(client.service(false)));
        let others = snapshot(&[(State::Established, "10.0.0.1:60051", "10.0.0.8:40000")]);
        assert_eq!(place(high, &[&others]), high.service(true), "several have this end in common");
        assert_eq!(place(conn("10.0.0.1:40000", "10.0.0.9:443"), &[]).service, at("10.0.0.9:443"));
    }

    #[test]
    fn what_came_for_no_socket_has_a_place_only_where_something_tells() {
        let gone = |local: &str, peer: &str| Conn { is_gone: true, ..conn(local, peer) };
        // A scan from one port to all of this host.
        let scan = [gone("10.0.0.1:40001", "10.0.0.9:55748"), gone("10.0.0.1:40002", "10.0.0.9:55748")];
        let facts = Facts::of(&scan, &[]);
        assert_eq!((facts.place(&scan[0]), facts.place(&scan[1])), (None, None));
        let low = gone("10.0.0.1:81", "10.0.0.9:55748");
        assert_eq!(facts.place(&low), Some(low.service(true)));
        let listens = snapshot(&[(State::Listen, "10.0.0.1:40001", "0.0.0.0:0")]);
        assert_eq!(Facts::of(&scan, &[&listens]).place(&scan[0]), Some(scan[0].service(true)));
    }

    #[test]
    fn a_connection_from_before_the_trace_is_of_the_process_that_held_it() {
        let of = conn("10.0.0.1:40000", "10.0.0.9:80");
        let mut before = snapshot(&[(State::CloseWait, "10.0.0.1:40000", "[::ffff:10.0.0.9]:80")]);
        before.sockets[0].inode = Inode::new(5);
        let pool = Process { pid: 7, comm: "pool".into(), ..Process::default() };
        let inode = Inode::new(5);
        before.owners = OwnerTable::new(vec![pool], vec![Holder { inode, process: 0, fd: 3 }], 0);
        let other = conn("10.0.0.1:40001", "10.0.0.9:80");
        let facts = Facts::of(&[of, other], &[&before]);
        assert_eq!(facts.holder(&of), Some(Program { pid: 7, comm: "pool".into(), processes: 1 }));
        assert_eq!(facts.holder(&other), None);
    }

    #[test]
    fn the_side_of_a_connection_is_kept_until_its_last_reset_and_is_forgotten_with_its_address() {
        let mut sides = Sides::default();
        let curl = Actor { pid: 7, comm: "curl".into() };
        let of = conn("10.0.0.1:60051", "10.0.0.9:40000");
        sides.began(1, true, None, 0);
        sides.began(2, false, Some(curl), 0);
        sides.ended(2, 1);
        let whose = |sides: &Sides, address| sides.whose(of, Some(address), Some(State::Close));
        assert_eq!(whose(&sides, 1), (Whose::Told(of.service(true)), None));
        assert_eq!(whose(&sides, 2), (Whose::Told(of.service(false)), Some(curl)));
        sides.forget(2);
        assert_eq!(whose(&sides, 2).0, Whose::Untold(of));
        for address in 0..2 * REMEMBERED as u64 {
            sides.began(address, true, None, AFTERWARDS_NS * address);
            sides.ended(address, AFTERWARDS_NS * address);
        }
        assert!(sides.of.len() <= REMEMBERED && sides.of.contains_key(&(2 * REMEMBERED as u64 - 1)));
    }
}
