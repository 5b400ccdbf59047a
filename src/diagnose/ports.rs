//! Ephemeral ports: how many of them one destination has taken, and when they run out at a given rate.
//!
//! Input: the rows of a snapshot, in one pass. Output: one [`Route`] per (namespace, source, destination, port) that is
//! large enough to matter. How fast ports go and who takes them needs two samples: see [`crate::diagnose::port_use`].
//!
//! What takes a port, and of what kind, is counted as in `aggregate::local_ports`, which counts every route of a table that
//! streams by; here the rows of the large ones are kept.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::{PortRules, PortUse, Role, Taken};
use crate::model::snapshot::Netns;
use crate::model::socket::TIME_WAIT_MS;
use crate::model::{Endpoint, NetnsId, Socket, State};

/// Routes smaller than this part of the range are left alone.
const WORTH: u32 = 16;

/// Connections of one source address to one destination.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    pub ports: PortUse,
    /// Every client row whose port lies in the range.
    pub rows: Vec<&'a Socket>,
    /// The `tcp_tw_reuse` mode, and whether it helps this route.
    pub reuse_mode: Option<u64>,
    pub reuse_applies: bool,
    /// Milliseconds after which reuse is allowed.
    reuse_delay_ms: u32,
}

impl Route<'_> {
    /// How many connections per second fit in the long run.
    #[must_use]
    pub fn sustainable(&self) -> f64 {
        let held_ms = if self.reuse_applies { self.reuse_delay_ms } else { TIME_WAIT_MS };
        f64::from(self.ports.usable.saturating_sub(self.held())) * 1000.0 / f64::from(held_ms.max(1))
    }

    /// Ports that no time gives back.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.ports.taken.live + self.ports.bound
    }

    /// When the range is used up at so many new connections a second: the first tenth of a second at which what lives,
    /// what of today's TIME_WAIT is still there, and what is added by then fill the range. `None` if it never does.
    #[must_use]
    pub fn exhausted_in_ms(&self, per_second: f64) -> Option<u64> {
        if self.ports.blocked() >= self.ports.usable {
            return Some(0);
        }
        let mut left: Vec<u32> =
            self.rows.iter().filter(|s| s.state == State::TimeWait).filter_map(|s| remaining(s)).collect();
        left.sort_unstable();
        let life_ms = if self.reuse_applies { self.reuse_delay_ms } else { TIME_WAIT_MS };
        let base = self.held();
        (0..=600u32).map(|tenth| tenth * 100).find_map(|at| {
            // With reuse a remainder blocks only until it may be taken over.
            let gone_at =
                if self.reuse_applies { at + TIME_WAIT_MS - self.reuse_delay_ms.min(TIME_WAIT_MS) } else { at };
            let still = left.len() - left.partition_point(|ms| *ms <= gone_at);
            let added = per_second * f64::from(at.min(life_ms)) / 1000.0;
            let blocked = f64::from(base) + still as f64 + added;
            (at > 0 && blocked >= f64::from(self.ports.usable)).then(|| u64::from(at))
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
    let rules: FxHashMap<Option<NetnsId>, PortRules> =
        namespaces.iter().map(|netns| (netns.inode, PortRules::of(netns))).collect();
    let calls =
        |(socket, role): &(&Socket, Role)| rules.get(&socket.netns).is_some_and(|rules| rules.is_called(socket, *role));
    let mut sieve = Sieve::new(rules.values().map(|rules| fewest(rules.usable)).min().unwrap_or(0));
    for (socket, _) in rows.clone().filter(calls) {
        sieve.add(socket.peer);
    }
    for (socket, role) in rows {
        if rules.get(&socket.netns).is_some_and(|rules| rules.is_bound(socket)) {
            bound.entry(socket.netns).or_default().insert(socket.local.port);
        } else if sieve.may_hold(socket.peer) && calls(&(socket, role)) {
            let key = (socket.netns, socket.local.normalised().addr, socket.peer.normalised());
            groups.entry(key).or_default().push(socket);
        }
    }
    let mut routes: Vec<Route<'_>> = groups
        .into_iter()
        .filter_map(|((netns, source, destination), rows)| {
            let rules = rules.get(&netns)?;
            let few = u32::try_from(rows.len()).unwrap_or(u32::MAX) < fewest(rules.usable);
            if few || rules.usable == 0 {
                return None;
            }
            Some(route(rules, (netns, source, destination), rows, bound.get(&netns)))
        })
        .collect();
    let place = |r: &Route<'_>| (r.ports.netns, r.ports.source, r.ports.destination);
    routes.sort_by(|a, b| b.ports.blocked().cmp(&a.ports.blocked()).then_with(|| place(a).cmp(&place(b))));
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
    rules: &PortRules,
    (netns, source, destination): (Option<NetnsId>, IpAddr, Endpoint),
    rows: Vec<&'a Socket>,
    bound: Option<&FxHashSet<u16>>,
) -> Route<'a> {
    let reuse_applies = rules.reuse_applies(source, destination.addr);
    let mut taken = Taken::default();
    let mut own = FxHashSet::default();
    for row in &rows {
        taken.add(row, rules, reuse_applies);
        own.insert(row.local.port);
    }
    let others = bound.map_or(0, |b| b.iter().filter(|p| !own.contains(p) && !rules.is_reserved(**p)).count());
    let bound = u32::try_from(others).unwrap_or(u32::MAX);
    Route {
        ports: PortUse { netns, source, destination, taken, bound, usable: rules.usable },
        rows,
        reuse_mode: rules.reuse_mode,
        reuse_applies,
        reuse_delay_ms: rules.reuse_delay_ms,
    }
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
    use crate::model::sysctl::Sysctl;

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
        let PortUse { taken, .. } = routes[0].ports;
        (routes[0].ports.blocked(), taken.live, taken.reusable, routes[0].exhausted_in_ms(10.0))
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
