//! Local ports that connections take from connect(), per source address and destination.
//!
//! Input: the settings of a namespace, and rows with their roles. Output: which rows take a port, and of what kind;
//! [`LocalPorts`] counts a whole table while its rows stream by. Not here: rates and judgements (`diagnose::ports`).
//!
//! A connection is source and destination address and port; with a fixed source address and destination only the source
//! port is left, so each pair of them has the whole range for itself (`__inet_hash_connect` in
//! `net/ipv4/inet_hashtables.c`). A port that a listener or a bound socket has is denied to all.

use std::cmp::Ordering;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::roles::Role;
use crate::model::snapshot::{Netns, is_within};
use crate::model::socket::TIME_WAIT_MS;
use crate::model::sysctl::{Sysctl, TCP_TW_REUSE_DELAY_MS};
use crate::model::{Endpoint, NetnsId, Socket, State};

/// What decides in one namespace whether connect() may take a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRules {
    range: (u16, u16),
    reserved: Vec<(u16, u16)>,
    /// The range less the reserved ports.
    pub usable: u32,
    /// The `tcp_tw_reuse` mode.
    pub reuse_mode: Option<u64>,
    timestamps: bool,
    /// Milliseconds after which a TIME_WAIT may be taken over.
    pub reuse_delay_ms: u32,
}

impl PortRules {
    #[must_use]
    pub fn of(netns: &Netns) -> PortRules {
        // A fixed second before Linux 6.14.
        let delay = netns.sysctl(Sysctl::Ipv4TcpTwReuseDelay).unwrap_or(TCP_TW_REUSE_DELAY_MS);
        PortRules {
            range: netns.port_range(),
            reserved: netns.reserved_ports.clone(),
            usable: netns.usable_ports(),
            reuse_mode: netns.sysctl(Sysctl::Ipv4TcpTwReuse),
            timestamps: netns.sysctl(Sysctl::Ipv4TcpTimestamps) != Some(0),
            reuse_delay_ms: u32::try_from(delay).unwrap_or(u32::MAX),
        }
    }

    /// Whether the port lies in the range, reserved or not.
    #[must_use]
    pub fn is_in_range(&self, port: u16) -> bool {
        is_within(&[self.range], port)
    }

    #[must_use]
    pub fn is_reserved(&self, port: u16) -> bool {
        is_within(&self.reserved, port)
    }

    /// Whether connect() may take over a TIME_WAIT between these addresses.
    #[must_use]
    pub fn reuse_applies(&self, source: IpAddr, destination: IpAddr) -> bool {
        let loopback = source.is_loopback() || destination.is_loopback();
        self.timestamps && (self.reuse_mode == Some(1) || (self.reuse_mode == Some(2) && loopback))
    }

    /// Whether the row has a port of the range that connect() chose, or could have chosen.
    #[must_use]
    pub fn is_called(&self, socket: &Socket, role: Role) -> bool {
        matches!((role, socket.state), (Role::Client, _) | (Role::Unknown, State::TimeWait))
            && self.is_in_range(socket.local.port)
    }

    /// Whether the row denies its port to every connect().
    #[must_use]
    pub fn is_bound(&self, socket: &Socket) -> bool {
        matches!(socket.state, State::Listen | State::BoundInactive) && self.is_in_range(socket.local.port)
    }
}

/// Ports that the connections of one source address to one destination have, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub live: u32,
    /// What is left of orphans in FIN_WAIT2.
    pub fin_wait2_minis: u32,
    /// TIME_WAIT that may not be taken over.
    pub time_wait: u32,
    /// TIME_WAIT that connect() may take over already.
    pub reusable: u32,
}

impl Taken {
    /// Counts a row for which [`PortRules::is_called`] holds; `reuse`: whether [`PortRules::reuse_applies`].
    pub fn add(&mut self, socket: &Socket, rules: &PortRules, reuse: bool) {
        if rules.is_reserved(socket.local.port) {
            return;
        }
        let age_ms = socket.timer.map_or(0, |timer| TIME_WAIT_MS.saturating_sub(timer.remaining_ms));
        match socket.state {
            State::TimeWait if reuse && age_ms > rules.reuse_delay_ms => self.reusable += 1,
            State::TimeWait => self.time_wait += 1,
            State::FinWait2 if socket.inode.is_none() && socket.shutdown.is_none() => self.fin_wait2_minis += 1,
            _ => self.live += 1,
        }
    }
}

/// The ports of one source address towards one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse {
    pub netns: Option<NetnsId>,
    pub source: IpAddr,
    pub destination: Endpoint,
    pub taken: Taken,
    /// Ports of the range that bind() took, whoever did, and that no row counted in `taken` has.
    pub bound: u32,
    /// Ports that connect() may choose from.
    pub usable: u32,
}

impl PortUse {
    /// Ports that connect() cannot take now.
    #[must_use]
    pub fn blocked(&self) -> u32 {
        self.taken.live + self.taken.fin_wait2_minis + self.taken.time_wait + self.bound
    }

    /// Percent of the range.
    #[must_use]
    pub fn fill_percent(&self) -> f64 {
        f64::from(self.blocked()) * 100.0 / f64::from(self.usable.max(1))
    }
}

/// Connections of one source address to one destination.
type Route = (Option<NetnsId>, IpAddr, Endpoint);

/// The ports of whole namespaces, counted while their rows stream by.
#[derive(Debug, Default)]
pub struct LocalPorts {
    spaces: FxHashMap<Option<NetnsId>, Space>,
    routes: FxHashMap<Route, Taken>,
}

#[derive(Debug)]
struct Space {
    rules: PortRules,
    bound: PortSet,
    /// Ports of connections, to whatever destination.
    called: PortSet,
}

impl LocalPorts {
    /// No row yet. Rows of a namespace whose `ip_local_port_range` could not be read are not counted.
    #[must_use]
    pub fn new<'a>(namespaces: impl IntoIterator<Item = &'a Netns>) -> LocalPorts {
        let known = namespaces.into_iter().filter(|n| n.sysctl(Sysctl::Ipv4IpLocalPortRange).is_some());
        let space =
            |n: &Netns| Space { rules: PortRules::of(n), bound: PortSet::default(), called: PortSet::default() };
        LocalPorts { spaces: known.map(|n| (n.inode, space(n))).collect(), routes: FxHashMap::default() }
    }

    /// Whether the range of some namespace is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.spaces.is_empty()
    }

    /// Counts a row.
    pub fn add(&mut self, socket: &Socket, role: Role) {
        let Some(space) = self.spaces.get_mut(&socket.netns) else { return };
        let port = socket.local.port;
        if space.rules.is_bound(socket) {
            space.bound.insert(port);
        } else if space.rules.is_called(socket, role) {
            let (source, destination) = (socket.local.normalised().addr, socket.peer.normalised());
            let reuse = space.rules.reuse_applies(source, destination.addr);
            space.called.insert(port);
            self.routes.entry((socket.netns, source, destination)).or_default().add(socket, &space.rules, reuse);
        }
    }

    /// The fullest of all, if there is a connection. A port that is bound and has a connection to another destination
    /// besides is left out: then it is more by so many.
    #[must_use]
    pub fn fullest(&self) -> Option<PortUse> {
        self.uses().max_by(|a, b| fuller(b, a))
    }

    /// The fullest first, at most so many; as [`LocalPorts::fullest`].
    #[must_use]
    pub fn fullest_of(&self, most: usize) -> Vec<PortUse> {
        let mut all: Vec<PortUse> = self.uses().collect();
        if all.len() > most {
            all.select_nth_unstable_by(most, fuller);
            all.truncate(most);
        }
        all.sort_unstable_by(fuller);
        all
    }

    fn uses(&self) -> impl Iterator<Item = PortUse> {
        let bound = |space: &Space| {
            let denied = |port: u16| !space.called.contains(port) && !space.rules.is_reserved(port);
            u32::try_from(space.bound.ports().filter(|port| denied(*port)).count()).unwrap_or(u32::MAX)
        };
        let bound: FxHashMap<Option<NetnsId>, u32> =
            self.spaces.iter().map(|(netns, space)| (*netns, bound(space))).collect();
        self.routes.iter().filter_map(move |((netns, source, destination), taken)| {
            let (bound, usable) = (*bound.get(netns)?, self.spaces.get(netns)?.rules.usable);
            let (netns, source, destination, taken) = (*netns, *source, *destination, *taken);
            Some(PortUse { netns, source, destination, taken, bound, usable })
        })
    }
}

/// The fuller one first; of two that are alike the first by address, so that the same table gives the same answer.
fn fuller(a: &PortUse, b: &PortUse) -> Ordering {
    let place = |ports: &PortUse| (ports.netns, ports.source, ports.destination);
    b.fill_percent().total_cmp(&a.fill_percent()).then_with(|| place(a).cmp(&place(b)))
}

/// A set of ports, in 8 KiB once it has one.
#[derive(Debug, Default)]
struct PortSet(Option<Box<[u64; 1024]>>);

impl PortSet {
    fn insert(&mut self, port: u16) {
        let words = self.0.get_or_insert_with(|| Box::new([0; 1024]));
        words[usize::from(port >> 6)] |= 1 << (port & 63);
    }

    fn contains(&self, port: u16) -> bool {
        self.0.as_ref().is_some_and(|words| words[usize::from(port >> 6)] >> (port & 63) & 1 == 1)
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(|port| self.contains(*port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Timer, TimerKind};

    fn row(state: State, local: &str, peer: &str) -> Socket {
        let (local, peer) = (Endpoint::at(local), Endpoint::at(peer));
        Socket { family: Family::of(local.addr), state, local, peer, ..Socket::default() }
    }

    fn netns(range: [u64; 2], reserved: &[(u16, u16)]) -> Netns {
        let mut netns = Netns { reserved_ports: reserved.to_vec(), ..Netns::default() };
        netns.sysctls.insert(Sysctl::Ipv4IpLocalPortRange, range.to_vec());
        netns.sysctls.insert(Sysctl::Ipv4TcpTwReuse, vec![2]);
        netns
    }

    #[test]
    fn the_fullest_destination_is_counted_with_what_is_bound_and_without_what_is_reserved() {
        let mut ports = LocalPorts::new([&netns([20_000, 20_099], &[(20_010, 20_019)])]);
        for port in 20_000..20_030 {
            ports.add(&row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:80"), Role::Client);
            // Half as many from another address are another range.
            if port % 2 == 0 {
                ports.add(&row(State::Established, &format!("10.0.0.9:{port}"), "10.0.0.2:80"), Role::Client);
            }
        }
        // Of an IPv6 socket it is the same place.
        ports.add(&row(State::SynSent, "[::ffff:10.0.0.1]:20040", "[::ffff:10.0.0.2]:80"), Role::Client);
        // Bound and free; bound, and connected from besides; reserved; outside of the range.
        for port in [20_050, 20_000, 20_015, 8080] {
            ports.add(&row(State::Listen, &format!("0.0.0.0:{port}"), "0.0.0.0:0"), Role::Listener(0));
        }
        ports.add(&row(State::BoundInactive, "0.0.0.0:20060", "0.0.0.0:0"), Role::Bound);
        // The other end, and what connected by a port of its own choice.
        ports.add(&row(State::Established, "10.0.0.1:80", "10.0.0.7:20001"), Role::Server(0));
        ports.add(&row(State::Established, "10.0.0.1:1023", "10.0.0.2:80"), Role::Client);
        let fullest = ports.fullest().unwrap();
        assert_eq!((fullest.source, fullest.destination.port), ("10.0.0.1".parse().unwrap(), 80));
        assert_eq!((fullest.taken.live, fullest.bound, fullest.usable), (21, 2, 90));
        assert_eq!(fullest.blocked(), 23);
        let all = ports.fullest_of(9);
        assert_eq!(all.iter().map(PortUse::blocked).collect::<Vec<_>>(), [23, 12], "the fullest first");
        assert_eq!(ports.fullest_of(1), [fullest]);
        assert_eq!(ports.fullest_of(0), []);
    }

    #[test]
    fn time_wait_that_may_be_taken_over_blocks_nothing() {
        let timed = |local: &str, peer: &str, remaining_ms| Socket {
            timer: Some(Timer { kind: TimerKind::TimeWait, remaining_ms, retransmits: 0 }),
            ..row(State::TimeWait, local, peer)
        };
        let mut ports = LocalPorts::new([&netns([20_000, 20_099], &[])]);
        ports.add(&timed("127.0.0.1:20000", "127.0.0.1:80", 59_500), Role::Unknown);
        ports.add(&timed("127.0.0.1:20001", "127.0.0.1:80", 30_000), Role::Client);
        ports.add(&row(State::FinWait2, "127.0.0.1:20002", "127.0.0.1:80"), Role::Client);
        let Taken { live, fin_wait2_minis, time_wait, reusable } = ports.fullest().unwrap().taken;
        assert_eq!((live, fin_wait2_minis, time_wait, reusable), (0, 1, 1, 1));
    }

    #[test]
    fn nothing_is_said_of_a_range_that_could_not_be_read() {
        let mut ports = LocalPorts::new([&Netns::default()]);
        ports.add(&row(State::Established, "10.0.0.1:40000", "10.0.0.2:80"), Role::Client);
        assert_eq!(ports.fullest(), None);
    }
}
