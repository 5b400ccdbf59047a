//! Clients on this host: which namespace has the address that they call, which listener they mean, and whether that one
//! drops them.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::diagnose::listen_drops;
use crate::diagnose::queues::{Queue, Queues};
use crate::diagnose::view::View;
use crate::model::snapshot::Netns;
use crate::model::{Endpoint, Inode, NetnsId, Socket, State};

/// Whether a queue overflows or just did: it is over its limit in a sample, or one of its listeners dropped meanwhile. A
/// client whose last ACK it dropped believes to be connected, and the server has a half-open row or, with SYN cookies,
/// nothing.
#[must_use]
pub fn overflows(view: &View<'_>, queue: &Queue<'_>) -> bool {
    let before = view.queues_before().and_then(|q| q.get(queue.netns, queue.local));
    queue.is_over_limit()
        || before.is_some_and(Queue::is_over_limit)
        || queue.listeners.iter().any(|l| listen_drops::between(view, l).is_some_and(|d| d.at_least > 0))
}

/// How many connection attempts that nobody answers each queue of this host has, from the callers' side.
#[must_use]
pub fn local_callers(view: &View<'_>) -> FxHashMap<(Option<NetnsId>, Endpoint), u64> {
    let mut callers = FxHashMap::default();
    for socket in view.active().filter(|s| s.state == State::SynSent) {
        if let Some(queue) = called(view, socket) {
            *callers.entry((queue.netns, queue.local)).or_default() += 1;
        }
    }
    callers
}

/// The queue of this host that a socket's peer address leads to.
#[must_use]
pub fn called<'v>(view: &'v View<'_>, socket: &Socket) -> Option<&'v Queue<'v>> {
    let netns = if crate::aggregate::roles::is_local(socket) {
        socket.netns
    } else {
        home(view, socket.netns, socket.peer.addr.to_canonical())?.inode
    };
    listening(view, netns, socket.peer)
}

/// The queue of a namespace that takes what is sent to an address and port of it.
#[must_use]
pub fn listening<'v>(view: &'v View<'_>, netns: Option<NetnsId>, at: Endpoint) -> Option<&'v Queue<'v>> {
    let listeners = view.listeners(netns);
    let local = listeners.get(listeners.matching(netns, at)?).local;
    view.queues().get(netns, local)
}

/// A restart within a longer time explains no more than a part of what happened in it (policy).
const RESTART_MS: u64 = 10_000;

/// Whether whatever serves an address and port of this host ended, and was started again: its listener is another one than in
/// the first sample, or a trace saw several of the port closed and none stayed. Listeners that are handed on (a reload, socket
/// activation) stay the same. Over a long interval one restart says nothing of what else happened in it.
#[must_use]
pub fn is_restarted(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> bool {
    let Some(before) = view.queues_before().filter(|_| view.interval_ms().is_some_and(|ms| ms <= RESTART_MS)) else {
        return false;
    };
    let anywhere = |any: Endpoint| Endpoint::new(any.addr, at.port);
    let of = |queues: &Queues<'_>| -> Vec<(Option<u64>, Option<Inode>)> {
        let places = [at, at.normalised(), anywhere(Endpoint::UNSPECIFIED_V4), anywhere(Endpoint::UNSPECIFIED_V6)];
        let queues = places.iter().filter_map(|place| queues.get(netns, *place));
        queues.flat_map(|queue| &queue.listeners).map(|l| (l.cookie, l.inode)).collect()
    };
    let (were, are) = (of(before), of(view.queues()));
    if were.iter().any(|listener| are.contains(listener)) {
        return false;
    }
    let mut closed = view.now.traced.iter().flat_map(|traced| &traced.unlistened);
    let is_often_closed = closed.any(|c| c.netns == netns && c.local_port == at.port && c.count > 1);
    !were.is_empty() && !are.is_empty() || is_often_closed
}

/// Where a service that is called from a namespace is: the one that has its address, else where the caller is, which knows it alone.
/// The same address and port, above all of loopback, is another service in another namespace.
#[must_use]
pub fn place(view: &View<'_>, from: Option<NetnsId>, service: Endpoint) -> (Option<NetnsId>, Endpoint) {
    (home(view, from, service.addr.to_canonical()).map_or(from, |n| n.inode), service)
}

/// The namespace that has an address, as seen from one of them: that one itself, or the only other one that was read and has
/// it. Where several have it (private networks repeat), none can be told.
#[must_use]
pub fn home<'a>(view: &View<'a>, from: Option<NetnsId>, addr: IpAddr) -> Option<&'a Netns> {
    let own = view.netns(from);
    if addr.is_loopback() || own.is_some_and(|n| n.addresses.contains(&addr)) {
        return own;
    }
    let mut others = view.now.netns.iter().filter(|n| n.addresses.contains(&addr));
    others.next().filter(|_| others.next().is_none())
}
