//! Which destinations provably answer: connections whose peer was heard a known time ago.
//!
//! Input: the rows of a snapshot, those of the one before that are gone, and what a trace saw come and answer. Output: per
//! destination those that were heard since some moment. An open connection
//! proves nothing by itself: its peer may have died an hour ago.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::traced::Accepted;
use crate::model::{Endpoint, Family, NetnsId, Socket, TimerKind};

/// A connection and how long ago its peer was heard.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    pub socket: &'a Socket,
    pub ms: u64,
}

/// The connections of some destinations whose peer was heard, by address and by port.
pub struct Reach<'v, 'a> {
    view: &'v View<'a>,
    by_addr: FxHashMap<(Option<NetnsId>, IpAddr), Vec<Heard<'a>>>,
    by_port: FxHashMap<(Option<NetnsId>, u16), Vec<Heard<'a>>>,
}

impl<'v, 'a> Reach<'v, 'a> {
    /// Collects what concerns these destinations.
    #[must_use]
    pub fn new(view: &'v View<'a>, destinations: impl Iterator<Item = (Option<NetnsId>, Endpoint)>) -> Self {
        let (mut addrs, mut ports) = (FxHashSet::default(), FxHashSet::default());
        for (netns, to) in destinations {
            addrs.insert((netns, to.addr));
            ports.insert((netns, to.port));
        }
        let mut reach = Reach { view, by_addr: FxHashMap::default(), by_port: FxHashMap::default() };
        if addrs.is_empty() {
            return reach;
        }
        // One that ended between the samples was heard before that.
        let gone = view.before.iter().flat_map(|before| &before.sockets);
        let interval = view.interval_ms().unwrap_or(0);
        let rows = view.now.sockets.iter().map(|s| (s, None)).chain(gone.map(|s| (s, Some(interval))));
        for (socket, ago) in rows {
            let peer = socket.peer.normalised();
            // Few rows lead there: what was heard is read for those only.
            let is_addr = addrs.contains(&(socket.netns, peer.addr));
            let is_port = ports.contains(&(socket.netns, peer.port));
            if !is_addr && !is_port {
                continue;
            }
            if ago.is_some() && !view.is_gone(socket) {
                continue;
            }
            let Some(ms) = view.heard_ms(socket).map(|ms| ms + ago.unwrap_or(0)) else { continue };
            let heard = Heard { socket, ms };
            if is_addr {
                reach.by_addr.entry((socket.netns, peer.addr)).or_default().push(heard);
            }
            if is_port {
                reach.by_port.entry((socket.netns, peer.port)).or_default().push(heard);
            }
        }
        reach
    }

    /// Connections to this very address and port that were heard within so many milliseconds.
    pub fn to(&self, netns: Option<NetnsId>, to: Endpoint, within_ms: u64) -> impl Iterator<Item = &'a Socket> {
        self.address(netns, to.addr, within_ms).filter(move |s| s.peer.port == to.port)
    }

    /// Connections to any port of this address.
    pub fn address(&self, netns: Option<NetnsId>, addr: IpAddr, within_ms: u64) -> impl Iterator<Item = &'a Socket> {
        let all = self.by_addr.get(&(netns, addr)).into_iter().flatten();
        all.filter(move |h| h.ms <= within_ms).map(|h| h.socket)
    }

    /// Connections to the same port of other addresses.
    pub fn elsewhere(&self, netns: Option<NetnsId>, to: Endpoint, within_ms: u64) -> impl Iterator<Item = &'a Socket> {
        let all = self.by_port.get(&(netns, to.port)).into_iter().flatten();
        all.filter(move |h| h.ms <= within_ms && h.socket.peer.normalised().addr != to.addr).map(|h| h.socket)
    }

    /// Whether anybody beyond this host was heard over the family of an address.
    #[must_use]
    pub fn family_works(&self, netns: Option<NetnsId>, addr: IpAddr, within_ms: u64) -> bool {
        self.view.latest_heard().get(&(netns, Family::of(addr))).is_some_and(|ms| *ms <= within_ms)
    }
}

/// Connections of an address that a trace saw come to one of these ports of ours, or succeed to one of these ports of the
/// address, within so many milliseconds; to any port without a list. They may have left no row.
#[must_use]
pub fn traced(
    view: &View<'_>,
    (netns, addr): (Option<NetnsId>, IpAddr),
    within_ms: u64,
    (own, theirs): (Option<&[u16]>, Option<&[u16]>),
) -> u64 {
    let Some(traced) = &view.now.traced else { return 0 };
    let is = |ports: Option<&[u16]>, port: u16| ports.is_none_or(|ports| ports.contains(&port));
    let since = |at_ms: u64| traced.duration_ms.saturating_sub(at_ms) <= within_ms;
    // Of several only the last is known to have come since, unless the first did.
    let of_came = |a: &Accepted| if since(a.at_ms.0) { a.count } else { u64::from(since(a.at_ms.1)) };
    let came = traced.accepted.iter().filter(|a| a.netns == netns && a.peer == addr && is(own, a.local_port));
    let reached = traced.connects.iter().filter(|c| c.netns == netns && c.to.addr == addr && is(theirs, c.to.port));
    // Nothing tells when a connect succeeded.
    let reached = reached.filter(|_| traced.duration_ms <= within_ms);
    came.map(of_came).sum::<u64>() + reached.map(|c| c.succeeded).sum::<u64>()
}

/// What became of the segments that some rows repeated between the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// So many were repeated, and each left this host.
    Leaves(u64),
    /// So many retransmissions of the namespace failed, no fewer than these rows made.
    Fails(u64),
    /// Nothing was repeated, or no second sample tells.
    Unknown,
}

/// Whether the retransmissions of these rows leave this host (`TCPRetransFail`).
#[must_use]
pub fn leaving(view: &View<'_>, netns: Option<NetnsId>, rows: &[&Socket]) -> Leaving {
    let repeated = repeated(view, rows);
    match view.delta(netns, Counter::TcpExtTcpRetransFail) {
        Some(0) if repeated > 0 => Leaving::Leaves(repeated),
        Some(failed) if repeated > 0 && failed >= repeated => Leaving::Fails(failed),
        _ => Leaving::Unknown,
    }
}

/// How many segments these rows repeated between the samples.
#[must_use]
pub fn repeated(view: &View<'_>, rows: &[&Socket]) -> u64 {
    let count = |s: &Socket| s.timer.filter(|t| t.kind == TimerKind::Retransmit).map(|t| u64::from(t.retransmits));
    rows.iter().filter_map(|s| Some(count(s)?.saturating_sub(count(view.earlier(s)?)?))).sum()
}

/// The middle one of some times.
#[must_use]
pub fn median(times: impl Iterator<Item = u64>) -> Option<u64> {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, row, time_wait, timer};
    use crate::model::State;

    fn at(text: &str) -> Endpoint {
        let at: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    }

    fn heard(port: u16, to: &str, ms: u64) -> Socket {
        let base = row(State::Established, &format!("10.0.0.1:{port}"), to);
        info(base, &[("last_ack_recv_ms", ms), ("last_data_recv_ms", ms + 50)])
    }

    #[test]
    fn only_what_was_heard_in_time_counts() {
        let mut world = World::new();
        world.add(heard(5000, "10.0.0.2:80", 900)).add(heard(5001, "10.0.0.2:80", 60_000));
        world.add(heard(5002, "10.0.0.3:80", 10)).add(heard(5003, "10.0.0.2:22", 10));
        world.add(row(State::SynSent, "10.0.0.1:5004", "10.0.0.2:80")).add(time_wait(
            "10.0.0.1:5005",
            "10.0.0.2:80",
            59_500,
        ));
        let view = View::new(&world.now, None, &world.thresholds);
        let reach = Reach::new(&view, [(NETNS, at("10.0.0.2:80"))].into_iter());
        let ports = |rows: Vec<&Socket>| rows.iter().map(|s| s.local.port).collect::<Vec<_>>();
        assert_eq!(ports(reach.to(NETNS, at("10.0.0.2:80"), 1000).collect()), [5000, 5005]);
        assert_eq!(ports(reach.address(NETNS, at("10.0.0.2:80").addr, 100).collect()), [5003]);
        assert_eq!(ports(reach.elsewhere(NETNS, at("10.0.0.2:80"), 100).collect()), [5002]);
        assert!(reach.family_works(NETNS, at("10.0.0.9:1").addr, 10));
        assert!(!reach.family_works(NETNS, at("[fd00::1]:1").addr, u64::MAX));
    }

    #[test]
    fn a_segment_between_the_samples_is_heard_though_no_stamp_moved() {
        let mut world = World::new();
        world.add(heard(5000, "10.0.0.2:80", 60_000)).later(1000);
        world.now.sockets[0] = info(
            world.now.sockets[0].clone(),
            &[("last_ack_recv_ms", 61_000), ("last_data_recv_ms", 61_000), ("segs_in", 3)],
        );
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        assert_eq!(view.heard_ms(&world.now.sockets[0]), Some(1000));
    }

    #[test]
    fn a_repeated_segment_left_or_failed_by_the_counter() {
        let syn =
            |repeats| timer(row(State::SynSent, "10.0.0.1:5000", "10.0.0.2:80"), TimerKind::Retransmit, 100, repeats);
        let of = |repeats, failed: u64| {
            let mut world = World::new();
            world.add(syn(3)).counter(Counter::TcpExtTcpRetransFail, 7).later(1000);
            world.now.sockets[0] = syn(repeats);
            world.counter(Counter::TcpExtTcpRetransFail, 7 + failed);
            let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
            leaving(&view, NETNS, &[&world.now.sockets[0]])
        };
        assert_eq!(
            (of(4, 0), of(4, 1), of(3, 1), of(3, 0)),
            (Leaving::Leaves(1), Leaving::Fails(1), Leaving::Unknown, Leaving::Unknown)
        );
        assert_eq!(of(5, 1), Leaving::Unknown, "some left");
    }
}
