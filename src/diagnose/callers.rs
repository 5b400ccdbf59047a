//! Clients on this host: which listener of it they call, and whether that one drops them.

use rustc_hash::FxHashMap;

use crate::diagnose::listen_drops;
use crate::diagnose::queues::Queue;
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State};

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
    let peer = socket.peer.addr.to_canonical();
    let own = crate::aggregate::roles::is_local(socket)
        || view.netns(socket.netns).is_some_and(|n| n.addresses.contains(&peer));
    let netns = if own {
        socket.netns
    } else {
        view.now.netns.iter().find(|n| n.addresses.contains(&peer) && !peer.is_loopback())?.inode
    };
    let listeners = view.listeners(netns);
    let at = listeners.get(listeners.matching(netns, socket.peer)?).local;
    view.queues().get(netns, at)
}
