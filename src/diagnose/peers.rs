//! The two ends of open connections: who holds this one, who holds the other when it is on this host too.
//!
//! Comes in: rows that a rule singled out. Goes out: groups by owner, names, subjects. Never here: severity, or what is
//! wrong with the rows.

use std::collections::BTreeMap;

use crate::diagnose::callers;
use crate::diagnose::fd_inheritance::FdInheritance;
use crate::diagnose::finding::{Finding, Subject};
use crate::diagnose::listener_owner::Owner;
use crate::diagnose::view::View;
use crate::model::sysctl::{Sysctl, TCP_RETR1};
use crate::model::{Endpoint, NetnsId, OwnerStatus, Process, RowKind, Socket, State, TimerKind};
use crate::text;

/// Sockets of a finding that its process is asked about: the others stand alike.
const INSPECTED: usize = 64;

/// Looks up owners; made once per rule.
pub struct Peers<'v, 'a> {
    view: &'v View<'a>,
    holding: FdInheritance<'v, 'a>,
}

/// Rows of one owner.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    pub netns: Option<NetnsId>,
    /// `None` when no process could be named.
    pub owner: Option<&'a Process>,
    /// Who holds the other ends, as far as they are on this host, when the rule groups by it.
    pub other: Option<&'a Process>,
    pub rows: Vec<&'a Socket>,
}

impl<'v, 'a> Peers<'v, 'a> {
    #[must_use]
    pub fn new(view: &'v View<'a>) -> Peers<'v, 'a> {
        Peers { view, holding: FdInheritance::new(view) }
    }

    /// The process whose connection it is.
    #[must_use]
    pub fn owner(&self, socket: &Socket) -> Option<&'a Process> {
        self.holding.principal(socket, self.view.role(socket))
    }

    /// The process at the other end, when that is on this host: its holder, or whoever has yet to accept it.
    #[must_use]
    pub fn other(&self, socket: &Socket) -> Option<&'a Process> {
        let mirror = self.view.mirror(socket)?;
        if mirror.is_unaccepted() {
            let queue = callers::called(self.view, socket)?;
            return Owner::of(self.view, &queue.listeners).map(|o| o.process);
        }
        self.owner(mirror)
    }

    /// The rows by owner, and by the process at the other end if asked to, the largest group first.
    #[must_use]
    pub fn groups(&self, rows: impl IntoIterator<Item = &'a Socket>, by_other: bool) -> Vec<Group<'a>> {
        let mut groups: BTreeMap<_, Group<'a>> = BTreeMap::new();
        for socket in rows {
            let owner = self.owner(socket);
            let other = if by_other { self.other(socket) } else { None };
            let key = (socket.netns, owner.map(|p| p.pid), other.map(|p| p.pid));
            let empty = || Group { netns: socket.netns, owner, other, rows: Vec::new() };
            groups.entry(key).or_insert_with(empty).rows.push(socket);
        }
        let mut groups: Vec<Group<'a>> = groups.into_values().collect();
        groups.sort_by_key(|g| std::cmp::Reverse(g.rows.len()));
        groups
    }
}

impl Group<'_> {
    /// `server (812)`, or why nobody can be named.
    #[must_use]
    pub fn name(&self, view: &View<'_>) -> String {
        self.owner.map_or_else(|| nobody(view, self.rows.first().copied()), text::name)
    }

    /// A subject that names the owner, and the other process beside it.
    #[must_use]
    pub fn subject(&self, view: &View<'_>) -> Subject {
        let named = match self.owner {
            Some(process) => view.subject_of(process, self.netns),
            None => Subject { netns: self.netns, uid: self.rows.first().and_then(|s| s.uid), ..Subject::default() },
        };
        Subject { pids: both(self.owner, self.other), destination: common_peer(&self.rows), ..named }
    }

    /// The options of `tcpstate list` that show them: ` --pid 812 --peer 10.0.0.9:80`, or what is known of it.
    #[must_use]
    pub fn selection(&self) -> String {
        let owner = self.owner.map_or_else(String::new, |p| format!(" --pid {}", p.pid));
        let peer = common_peer(&self.rows).map_or_else(String::new, |at| match at.port {
            0 => format!(" --peer {}", at.addr),
            _ => format!(" --peer {at}"),
        });
        owner + &peer
    }

    /// Asks for a look at what the owner does with these sockets.
    #[must_use]
    pub fn inspect(&self, finding: Finding) -> Finding {
        match self.owner {
            Some(process) => finding.inspect(process.pid, &self.rows[..self.rows.len().min(INSPECTED)]),
            None => finding,
        }
    }
}

/// Every one of these processes, sorted, if there are two.
#[must_use]
pub fn both(one: Option<&Process>, other: Option<&Process>) -> Vec<u32> {
    let mut pids: Vec<u32> = one.into_iter().chain(other).map(|p| p.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    if pids.len() > 1 { pids } else { Vec::new() }
}

/// `a process that is not known (no permission)`.
#[must_use]
pub fn nobody(view: &View<'_>, socket: Option<&Socket>) -> String {
    let status = socket.map_or(OwnerStatus::NotCollected, |s| view.owners(s).0);
    match status {
        OwnerStatus::NotCollected => "a process that was not looked for".to_owned(),
        other => format!("a process that is not known {}", other.words()),
    }
}

/// The endpoint that all rows have as their peer; their common address with port 0 if only that is the same.
#[must_use]
pub fn common_peer(rows: &[&Socket]) -> Option<Endpoint> {
    let first = rows.first()?.peer.normalised();
    if rows.iter().any(|s| s.peer.normalised().addr != first.addr) {
        return None;
    }
    let same_port = rows.iter().all(|s| s.peer.port == first.port);
    Some(Endpoint::new(first.addr, if same_port { first.port } else { 0 }))
}

/// `with 10.0.0.2:5432`, `with 10.0.0.2`, `with 7 peers`.
#[must_use]
pub fn with_whom(rows: &[&Socket]) -> String {
    match common_peer(rows) {
        Some(peer) if peer.port != 0 => format!("with {peer}"),
        Some(peer) => format!("with {}", peer.addr),
        None => {
            let mut peers: Vec<_> = rows.iter().map(|s| s.peer.normalised().addr).collect();
            peers.sort_unstable();
            peers.dedup();
            format!("with {} peers", text::grouped(peers.len() as u64))
        }
    }
}

/// Whether a process holds it and both directions were open at some time: the rows that these rules judge.
#[must_use]
pub fn is_held(socket: &Socket, states: &[State]) -> bool {
    socket.kind == RowKind::Full && socket.inode.is_some() && states.contains(&socket.state)
}

/// After so many retransmissions of one segment loss is no explanation (`tcp_retries1`).
#[must_use]
pub fn retries1(view: &View<'_>, socket: &Socket) -> u64 {
    view.netns(socket.netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpRetries1)).unwrap_or(TCP_RETR1).max(2)
}

/// The retransmission timeout before it was doubled for each retransmission (`tcp_retransmit_timer`), in milliseconds.
#[must_use]
pub fn base_rto_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    Some((u64::from(info.rto_us()?) / 1000) >> info.backoff()?.min(31))
}

/// Probes in a row that the kernel could not hand to a device.
const FAILED_PROBES: u8 = 3;

/// Whether segments fail to leave this host: nothing is in flight, the window is open, and yet the probe timer goes on
/// (`tcp_write_wakeup` would have sent the data). A route or an interface is gone, or a local firewall drops.
#[must_use]
pub fn cannot_leave(socket: &Socket) -> bool {
    socket.timer.is_some_and(|t| t.kind == TimerKind::ZeroWindowProbe && t.retransmits >= FAILED_PROBES)
        && socket.info.as_deref().is_some_and(|i| i.snd_wnd_bytes().is_some_and(|w| w > 0) && i.unacked() == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};

    #[test]
    fn both_ends_are_named_by_holder_or_by_listener() {
        let mut world = World::new();
        world.add(listen("127.0.0.1:80", 1, 128)).hold(10, "server", 3, 80 << 16);
        for port in [4000u32, 4001] {
            let client = row(State::Established, &format!("127.0.0.1:{port}"), "127.0.0.1:80");
            world.hold(20, "client", port, client.inode).add(client);
        }
        let accepted = row(State::Established, "127.0.0.1:80", "127.0.0.1:4000");
        world.hold(11, "worker", 4, accepted.inode).add(accepted);
        world.add(unheld(row(State::Established, "127.0.0.1:80", "127.0.0.1:4001")));
        let view = View::new(&world.now, None, &world.thresholds);
        let ends = Peers::new(&view);
        let clients: Vec<&Socket> = world.now.sockets.iter().filter(|s| s.peer.port == 80).collect();
        let groups = ends.groups(clients.iter().copied(), true);
        let pairs: Vec<_> = groups.iter().map(|g| (g.owner.unwrap().pid, g.other.unwrap().pid, g.rows.len())).collect();
        assert_eq!(pairs, [(20, 10, 1), (20, 11, 1)]);
        assert_eq!(groups[0].subject(&view).pids, [10, 20]);
        let all = ends.groups(clients.iter().copied(), false);
        assert_eq!((all.len(), all[0].other, with_whom(&all[0].rows)), (1, None, "with 127.0.0.1:80".to_owned()));
    }

    #[test]
    fn peers_read_as_one_endpoint_one_host_or_many() {
        let to = |peer: &str| row(State::Established, "10.0.0.1:5000", peer);
        let rows = [to("10.0.0.2:80"), to("10.0.0.2:81"), to("10.0.0.3:80")];
        let of = |n: usize| with_whom(&rows[..n].iter().collect::<Vec<_>>());
        assert_eq!(
            (of(1).as_str(), of(2).as_str(), of(3).as_str()),
            ("with 10.0.0.2:80", "with 10.0.0.2", "with 2 peers")
        );
    }

    #[test]
    fn the_timeout_is_taken_back_to_before_it_doubled() {
        let socket =
            info(row(State::Established, "10.0.0.1:1", "10.0.0.2:2"), &[("rto_us", 3_200_000), ("backoff", 4)]);
        assert_eq!(base_rto_ms(&socket), Some(200));
        assert_eq!(base_rto_ms(&Socket::default()), None);
    }
}
