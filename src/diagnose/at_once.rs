//! New connections that their service ended as soon as they came, before it took anything from them.
//!
//! Input: a trace. Output: how many of a service, of how many that came, and from where. Not here: why (the rules).

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::callers;
use crate::diagnose::resets::{MANY, Place};
use crate::diagnose::view::View;
use crate::model::traced::{Program, Resets, TracedInterval};
use crate::model::{Endpoint, NetnsId};

/// Those of one service: it ended each as soon as it came, with no more than a line.
#[derive(Debug, Default)]
pub struct AtOnce<'a> {
    /// With a FIN 0.3 s after the handshake or sooner, and the client had said nothing.
    closed: u64,
    /// By reset within a second: as the service sent them, and as clients here met them.
    sent: u64,
    met: u64,
    /// Connections that came, as far as either end knows.
    came: u64,
    /// Where they came from, if the service is here.
    pub peers: FxHashSet<IpAddr>,
    /// Whose they were, at a client's end.
    callers: Vec<&'a Program>,
    /// A client of this host met them.
    pub called_here: bool,
    pub served_here: bool,
}

impl<'a> AtOnce<'a> {
    /// Those of every service that has some.
    #[must_use]
    pub fn all(view: &View<'_>, traced: &'a TracedInterval) -> BTreeMap<Place, AtOnce<'a>> {
        let mut all: BTreeMap<Place, AtOnce<'_>> = BTreeMap::new();
        let place = |netns, service: Endpoint, served_here: bool| {
            if served_here { (netns, service) } else { callers::place(view, netns, service) }
        };
        for ends in &traced.ends {
            let count = ends.counts.at_once.unwrap_or(0);
            if count == 0 {
                continue;
            }
            let it = all.entry(place(ends.netns, ends.service, ends.served_here)).or_default();
            // Both ends tell of the same connections.
            it.closed = it.closed.max(count);
            it.called_here |= !ends.served_here;
            it.served_here |= ends.served_here;
            it.callers.extend(ends.callers.iter().filter(|(_, c)| c.at_once > Some(0)).map(|(program, _)| program));
        }
        for resets in traced.resets.iter().filter(|r| r.fresh > 0) {
            let it = all.entry(place(resets.netns, resets.service, resets.served_here)).or_default();
            it.add_resets(resets);
        }
        if all.is_empty() {
            return all;
        }
        // Once over each list, whatever the number of services.
        let mut came: FxHashMap<(Option<NetnsId>, u16), (u64, FxHashSet<IpAddr>)> = FxHashMap::default();
        for accepted in &traced.accepted {
            let (count, peers) = came.entry((accepted.netns, accepted.local_port)).or_default();
            *count += accepted.count;
            peers.insert(accepted.peer.to_canonical());
        }
        let mut called: FxHashMap<Place, u64> = FxHashMap::default();
        for connects in &traced.connects {
            *called.entry(callers::place(view, connects.netns, connects.to)).or_default() += connects.succeeded;
        }
        for ((netns, service), it) in &mut all {
            let (count, peers) = came.get(&(*netns, service.port)).cloned().unwrap_or_default();
            let called = called.get(&(*netns, *service)).copied().unwrap_or(0);
            (it.came, it.peers) = (count.max(called).max(it.count()), peers);
        }
        all
    }

    fn add_resets(&mut self, resets: &'a Resets) {
        match (resets.sent.is_some(), resets.served_here) {
            (true, true) => {
                self.sent += resets.fresh;
                self.served_here = true;
            }
            (false, false) => {
                self.met += resets.fresh;
                self.called_here = true;
                self.callers.extend(&resets.program);
            }
            _ => {}
        }
    }

    /// How many of them by reset. Those of a client here that has many are what `reset-source` is about.
    #[must_use]
    pub fn by_reset(&self) -> u64 {
        if self.met >= MANY { 0 } else { self.sent.max(self.met) }
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.closed + self.by_reset()
    }

    /// All that came, these among them.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The only program of this host whose connections they were.
    #[must_use]
    pub fn caller(&self) -> Option<&'a Program> {
        let first = self.callers.first()?;
        self.callers.iter().all(|p| p.comm == first.comm).then_some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World};
    use crate::model::traced::{Accepted, Counts, Ends, SentFor};

    fn service() -> Endpoint {
        Endpoint::new([10, 0, 0, 1].into(), 22)
    }

    fn ends(served_here: bool, at_once: u64) -> Ends {
        Ends::new(NETNS, service(), served_here, Counts { at_once: Some(at_once), ..Counts::default() })
    }

    fn resets(sent: Option<SentFor>, served_here: bool, fresh: u64) -> Resets {
        Resets { sent, count: fresh, fresh, ..Resets::none(NETNS, service(), served_here) }
    }

    /// How many in all, how many by reset, and of how many.
    fn counted(traced: &TracedInterval) -> Option<(u64, u64, u64)> {
        let mut world = World::new();
        world.later(2000);
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        let all = AtOnce::all(&view, traced);
        all.get(&(NETNS, service())).map(|it| (it.count(), it.by_reset(), it.came()))
    }

    #[test]
    fn both_ends_tell_of_the_same_connections_and_resets_are_added() {
        let accepted =
            Accepted { netns: NETNS, local_port: 22, peer: [10, 0, 0, 9].into(), count: 9, at_ms: (0, 1900) };
        let traced = TracedInterval {
            ends: vec![ends(true, 3), ends(false, 3)],
            resets: vec![resets(Some(SentFor::Unknown), true, 2), resets(None, false, 2)],
            accepted: vec![accepted],
            ..TracedInterval::default()
        };
        assert_eq!(counted(&traced), Some((5, 2, 9)));
    }

    #[test]
    fn resets_of_clients_and_what_reset_source_tells_are_not_counted() {
        let of = |resets| counted(&TracedInterval { resets: vec![resets], ..TracedInterval::default() });
        assert_eq!(of(resets(Some(SentFor::Unknown), true, 9)), Some((9, 9, 9)), "as the service sent them");
        assert_eq!(of(resets(None, false, 4)), Some((4, 4, 4)), "as a client met them");
        assert_eq!(of(resets(None, false, 5)), Some((0, 0, 0)), "reset-source tells these");
        assert_eq!(of(resets(None, true, 9)), Some((0, 0, 0)), "the clients reset");
        assert_eq!(of(resets(None, true, 0)), None);
    }
}
