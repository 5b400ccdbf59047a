//! Ephemeral ports: how many of them one destination has taken, and when they run out at a given rate.
//!
//! Input: the rows of a snapshot, in one pass. Output: one [`Route`] per (namespace, source, destination, port) that is
//! large enough to matter. How fast ports go and who takes them needs two samples: see [`crate::diagnose::port_use`].
//!
//! A connection is source and destination address and port; with a fixed source address and destination only the source
//! port is left, so each route has the whole range for itself (`__inet_hash_connect` in `net/ipv4/inet_hashtables.c`).
//! A port that a listener or a bound socket has is denied to every route.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::Role;
use crate::model::snapshot::Netns;
use crate::model::socket::TIME_WAIT_MS;
use crate::model::sysctl::{Sysctl, TCP_TW_REUSE_DELAY_MS};
use crate::model::{Endpoint, NetnsId, Socket, State};

/// Routes smaller than this part of the range are left alone.
const WORTH: u32 = 16;

/// Connections of one source address to one destination.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    pub netns: Option<NetnsId>,
    pub source: IpAddr,
    pub destination: Endpoint,
    /// Every client row whose port lies in the range.
    pub rows: Vec<&'a Socket>,
    /// Ports that connect() may choose from.
    pub usable: u32,
    /// Rows that block a port: live, FIN_WAIT2 remainders, TIME_WAIT that may not be used again.
    pub live: u32,
    pub fin_wait2_minis: u32,
    pub time_wait: u32,
    /// TIME_WAIT that connect() may take over already.
    pub reusable: u32,
    /// Ports of the range that bind() took, whoever did.
    pub bound: u32,
    /// The `tcp_tw_reuse` mode, and whether it helps this route.
    pub reuse_mode: Option<u64>,
    pub reuse_applies: bool,
    /// Milliseconds after which reuse is allowed.
    reuse_delay_ms: u32,
}

impl Route<'_> {
    /// Ports that connect() cannot take now.
    #[must_use]
    pub fn blocked(&self) -> u32 {
        self.live + self.fin_wait2_minis + self.time_wait + self.bound
    }

    /// Percent of the range.
    #[must_use]
    pub fn fill_percent(&self) -> f64 {
        f64::from(self.blocked()) * 100.0 / f64::from(self.usable.max(1))
    }

    /// How many connections per second fit in the long run.
    #[must_use]
    pub fn sustainable(&self) -> f64 {
        let held_ms = if self.reuse_applies { self.reuse_delay_ms } else { TIME_WAIT_MS };
        f64::from(self.usable.saturating_sub(self.live + self.bound)) * 1000.0 / f64::from(held_ms.max(1))
    }

    /// When the range is used up at so many new connections a second: the first tenth of a second at which what lives,
    /// what of today's TIME_WAIT is still there, and what is added by then fill the range. `None` if it never does.
    #[must_use]
    pub fn exhausted_in_ms(&self, per_second: f64) -> Option<u64> {
        if self.blocked() >= self.usable {
            return Some(0);
        }
        let mut left: Vec<u32> =
            self.rows.iter().filter(|s| s.state == State::TimeWait).filter_map(|s| remaining(s)).collect();
        left.sort_unstable();
        let life_ms = if self.reuse_applies { self.reuse_delay_ms } else { TIME_WAIT_MS };
        let base = self.live + self.bound;
        (0..=600u32).map(|tenth| tenth * 100).find_map(|at| {
            // With reuse a remainder blocks only until it may be taken over.
            let gone_at =
                if self.reuse_applies { at + TIME_WAIT_MS - self.reuse_delay_ms.min(TIME_WAIT_MS) } else { at };
            let still = left.len() - left.partition_point(|ms| *ms <= gone_at);
            let added = per_second * f64::from(at.min(life_ms)) / 1000.0;
            let blocked = f64::from(base) + still as f64 + added;
            (at > 0 && blocked >= f64::from(self.usable)).then(|| u64::from(at))
        })
    }
}

fn remaining(socket: &Socket) -> Option<u32> {
    socket.timer.map(|t| t.remaining_ms)
}

/// Every route worth a look, the fullest first.
#[must_use]
pub fn routes<'a>(namespaces: &[Netns], rows: impl Iterator<Item = (&'a Socket, Role)> + Clone) -> Vec<Route<'a>> {
    let mut groups: FxHashMap<(Option<NetnsId>, IpAddr, Endpoint), Vec<&Socket>> = FxHashMap::default();
    let mut bound: FxHashMap<Option<NetnsId>, FxHashSet<u16>> = FxHashMap::default();
    let mut ranges: FxHashMap<Option<NetnsId>, ((u16, u16), u32)> = FxHashMap::default();
    for netns in namespaces {
        ranges.insert(netns.inode, (netns.port_range(), netns.usable_ports()));
    }
    let in_range = |socket: &Socket| {
        ranges.get(&socket.netns).is_some_and(|((low, high), _)| (*low..=*high).contains(&socket.local.port))
    };
    let calls = |(socket, role): &(&Socket, Role)| {
        matches!((role, socket.state), (Role::Client, _) | (Role::Unknown, State::TimeWait)) && in_range(socket)
    };
    let mut sieve = Sieve::new(ranges.values().map(|(_, usable)| fewest(*usable)).min().unwrap_or(0));
    for (socket, _) in rows.clone().filter(calls) {
        sieve.add(socket.peer);
    }
    for (socket, role) in rows {
        if matches!(socket.state, State::Listen | State::BoundInactive) && in_range(socket) {
            bound.entry(socket.netns).or_default().insert(socket.local.port);
        } else if sieve.may_hold(socket.peer) && calls(&(socket, role)) {
            let key = (socket.netns, socket.local.normalised().addr, socket.peer.normalised());
            groups.entry(key).or_default().push(socket);
        }
    }
    let mut routes: Vec<Route<'_>> = groups
        .into_iter()
        .filter_map(|((netns, source, destination), rows)| {
            let facts = namespaces.iter().find(|n| n.inode == netns)?;
            let (_, usable) = *ranges.get(&netns)?;
            let few = u32::try_from(rows.len()).unwrap_or(u32::MAX) < fewest(usable);
            if few || usable == 0 {
                return None;
            }
            Some(route(facts, source, destination, rows, usable, bound.get(&netns)))
        })
        .collect();
    routes.sort_by(|a, b| {
        b.blocked()
            .cmp(&a.blocked())
            .then_with(|| (a.netns, a.source, a.destination).cmp(&(b.netns, b.source, b.destination)))
    });
    routes
}

/// Rows below which a route is left alone.
fn fewest(usable: u32) -> u32 {
    (usable / WORTH).max(5)
}

/// Counts rows by a hash of their destination: where few fall together, no route is large, and most of a busy host's rows
/// need no look at their addresses.
struct Sieve {
    fewest: u32,
    counts: Vec<u32>,
}

impl Sieve {
    const SLOTS: usize = 1 << 12;

    fn new(fewest: u32) -> Sieve {
        Sieve { fewest, counts: vec![0; Self::SLOTS] }
    }

    fn slot(destination: Endpoint) -> usize {
        let low = match destination.addr {
            IpAddr::V4(a) => u32::from(a),
            // An IPv4-mapped address ends in the IPv4 one, and has to fall together with it.
            IpAddr::V6(a) => (u128::from(a) & 0xffff_ffff) as u32,
        };
        let hash = (low ^ u32::from(destination.port) << 16).wrapping_mul(0x9e37_79b9);
        (hash >> 20) as usize
    }

    fn add(&mut self, destination: Endpoint) {
        self.counts[Self::slot(destination)] += 1;
    }

    /// Whether the destination may have as many rows as matter.
    fn may_hold(&self, destination: Endpoint) -> bool {
        self.counts[Self::slot(destination)] >= self.fewest
    }
}

fn route<'a>(
    facts: &Netns,
    source: IpAddr,
    destination: Endpoint,
    rows: Vec<&'a Socket>,
    usable: u32,
    bound: Option<&FxHashSet<u16>>,
) -> Route<'a> {
    let reuse_mode = facts.sysctl(Sysctl::Ipv4TcpTwReuse);
    let timestamps = facts.sysctl(Sysctl::Ipv4TcpTimestamps) != Some(0);
    let loopback = source.is_loopback() || destination.addr.is_loopback();
    let reuse_applies = timestamps && (reuse_mode == Some(1) || (reuse_mode == Some(2) && loopback));
    // A fixed second before Linux 6.14.
    let delay = facts.sysctl(Sysctl::Ipv4TcpTwReuseDelay).unwrap_or(TCP_TW_REUSE_DELAY_MS);
    let delay = u32::try_from(delay).unwrap_or(u32::MAX);
    let mut route = Route {
        netns: facts.inode,
        source,
        destination,
        usable,
        live: 0,
        fin_wait2_minis: 0,
        time_wait: 0,
        reusable: 0,
        bound: 0,
        reuse_mode,
        reuse_applies,
        reuse_delay_ms: delay,
        rows: Vec::new(),
    };
    let mut ports = FxHashSet::default();
    for row in &rows {
        if facts.is_reserved(row.local.port) {
            continue;
        }
        ports.insert(row.local.port);
        let age_ms = remaining(row).map_or(0, |ms| TIME_WAIT_MS.saturating_sub(ms));
        match row.state {
            State::TimeWait if reuse_applies && age_ms > delay => route.reusable += 1,
            State::TimeWait => route.time_wait += 1,
            State::FinWait2 if row.inode.is_none() && row.shutdown.is_none() => route.fin_wait2_minis += 1,
            _ => route.live += 1,
        }
    }
    let others = bound.map_or(0, |b| b.iter().filter(|p| !ports.contains(p) && !facts.is_reserved(**p)).count());
    route.bound = u32::try_from(others).unwrap_or(u32::MAX);
    route.rows = rows;
    route
}

/// How long ago the newest of these entered TIME_WAIT.
#[must_use]
pub fn youngest_ms(rows: &[&Socket]) -> Option<u64> {
    let left = rows.iter().filter(|s| s.state == State::TimeWait).filter_map(|s| remaining(s)).max()?;
    Some(u64::from(TIME_WAIT_MS.saturating_sub(left)))
}

/// Connections per second that the whole range sustains without reuse.
#[must_use]
pub fn sustainable_of(usable: u32) -> f64 {
    f64::from(usable) * 1000.0 / f64::from(TIME_WAIT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, time_wait};
    use crate::diagnose::view::View;

    fn world(range: u64) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_000 + range - 1]);
        world.sysctl(Sysctl::Ipv4TcpTwReuse, &[2]);
        world.sysctl(Sysctl::Ipv4TcpTimestamps, &[1]);
        world
    }

    fn only(world: &World) -> (u32, u32, u32, Option<u64>) {
        let view = View::new(&world.now, None, &world.thresholds);
        let routes = routes(&world.now.netns, view.rows());
        assert_eq!(routes.len(), 1, "{routes:?}");
        (routes[0].blocked(), routes[0].live, routes[0].reusable, routes[0].exhausted_in_ms(10.0))
    }

    #[test]
    fn every_connection_to_one_destination_blocks_one_port() {
        let mut w = world(200);
        for i in 0..100u32 {
            // The last ten seconds' worth at ten a second.
            w.add(time_wait(&format!("10.0.0.1:{}", 20_000 + i), "10.0.0.2:80", 60_000 - i * 100));
        }
        for i in 0..20 {
            w.add(row(State::Established, &format!("10.0.0.1:{}", 20_150 + i), "10.0.0.2:80"));
        }
        let (blocked, live, reusable, end) = only(&w);
        assert_eq!((blocked, live, reusable), (120, 20, 0));
        // 80 are left at 10 a second.
        assert!((7_500..8_500).contains(&end.unwrap()), "{end:?}");
    }

    #[test]
    fn the_sieve_lets_every_large_route_through_and_no_small_one() {
        let end = |text: &str| -> Endpoint {
            let end: std::net::SocketAddr = text.parse().unwrap();
            Endpoint::new(end.ip(), end.port())
        };
        let mut sieve = Sieve::new(5);
        for _ in 0..2 {
            for destination in ["10.0.0.2:80", "[::ffff:10.0.0.2]:80", "[2001:db8::1]:443"] {
                sieve.add(end(destination));
            }
        }
        assert!(!sieve.may_hold(end("10.0.0.2:80")));
        sieve.add(end("10.0.0.2:80"));
        assert!(sieve.may_hold(end("10.0.0.2:80")) && sieve.may_hold(end("[::ffff:10.0.0.2]:80")));
        assert!(!sieve.may_hold(end("[2001:db8::1]:443")) && !sieve.may_hold(end("10.0.0.3:80")));
    }

    #[test]
    fn reuse_frees_loopback_and_what_it_may_free_and_nothing_else() {
        let fill = |world: &mut World, at: &str, to: &str| {
            for i in 0..100u32 {
                world.add(time_wait(&format!("{at}:{}", 20_000 + i), to, 30_000));
            }
        };
        let mut w = world(200);
        fill(&mut w, "127.0.0.1", "127.0.0.1:80");
        assert_eq!(only(&w).2, 100, "mode 2 covers loopback");
        let mut w = world(200);
        fill(&mut w, "10.0.0.1", "10.0.0.1:80");
        assert_eq!(only(&w).2, 0, "a host's own address is not loopback");
        w.sysctl(Sysctl::Ipv4TcpTwReuse, &[1]);
        assert_eq!(only(&w).2, 100);
        w.sysctl(Sysctl::Ipv4TcpTimestamps, &[0]);
        assert_eq!(only(&w).2, 0, "reuse needs timestamps");
    }
}
