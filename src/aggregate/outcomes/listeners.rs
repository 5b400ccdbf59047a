//! Who came to the listeners of this host, and which of them were closed.
//!
//! Input: changes of state. Output: sums by port. Not here: what became of the connections that came.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::group;
use crate::model::NetnsId;
use crate::model::traced::{Accepted, Unlistened};
use crate::model::transition::Transition;

/// A namespace, a port of this host, and who called.
type Caller = (Option<NetnsId>, u16, IpAddr);

#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// How many connections came to a port from an address, and when the first and the last did.
    accepted: FxHashMap<Caller, (u64, u64, u64)>,
    closed: FxHashMap<(Option<NetnsId>, u16), u64>,
}

impl Listeners {
    /// A handshake was ended by the peer.
    pub(super) fn came(&mut self, t: &Transition, not_grouped: &mut u64) {
        let key = (t.netns, t.local.port, t.peer.normalised().addr);
        let Some((count, first, last)) = group(&mut self.accepted, key, not_grouped) else { return };
        *first = if *count == 0 { t.monotonic_ns } else { *first };
        (*count, *last) = (*count + 1, t.monotonic_ns);
    }

    /// A listener was closed.
    pub(super) fn end(&mut self, t: &Transition, not_grouped: &mut u64) {
        if let Some(count) = group(&mut self.closed, (t.netns, t.local.port), not_grouped) {
            *count += 1;
        }
    }

    /// The ports to which somebody came.
    pub(super) fn ports(&self) -> impl Iterator<Item = (Option<NetnsId>, u16)> {
        self.accepted.keys().map(|(netns, port, _)| (*netns, *port))
    }

    /// Those who came, most first. `since`: the milliseconds since the trace began.
    pub(super) fn accepted(&self, since: impl Fn(u64) -> u64) -> Vec<Accepted> {
        let sums = self.accepted.iter().map(|((netns, local_port, peer), (count, first, last))| Accepted {
            netns: *netns,
            local_port: *local_port,
            peer: *peer,
            count: *count,
            at_ms: (since(*first), since(*last)),
        });
        let mut accepted: Vec<Accepted> = sums.collect();
        accepted.sort_by_key(|a| (std::cmp::Reverse(a.count), a.netns, a.local_port, a.peer));
        accepted
    }

    /// Listeners that were closed, by port.
    pub(super) fn closed(&self) -> Vec<Unlistened> {
        let mut closed: Vec<Unlistened> =
            self.closed.iter().map(|((netns, port), count)| Unlistened::new(*netns, *port, *count)).collect();
        closed.sort_by_key(|u| (u.netns, u.local_port));
        closed
    }
}
