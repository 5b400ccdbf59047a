//! What this host itself dropped between the samples: devices, queues, damaged segments.
//!
//! Input: cumulative counts of two snapshots. Output: those that grew. Not here: what was lost elsewhere.

use crate::diagnose::finding::Evidence;
use crate::diagnose::view::View;
use crate::model::NetnsId;
use crate::model::counter::Counter;

/// What this host dropped: where, with how much, the most first.
#[derive(Clone, Debug, Default)]
pub struct Dropped(Vec<(String, u64)>);

impl Dropped {
    /// Segments in all places.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, n)| n).sum()
    }

    /// The places, for a finding on silence or loss.
    #[must_use]
    pub fn evidence(self) -> Evidence {
        if self.0.is_empty() {
            return Evidence::Count(0);
        }
        Evidence::List(self.0.into_iter().map(|(place, n)| format!("{place}: {n}")).collect())
    }
}

/// What grew between the samples; `None` where nothing tells.
#[must_use]
pub fn dropped(view: &View<'_>, netns: Option<NetnsId>) -> Option<Dropped> {
    let (now, before) = (view.netns(netns)?.drops.as_ref()?, view.before?.netns(netns)?.drops.as_ref()?);
    let mut grown: Vec<(String, u64)> = now
        .iter()
        .filter_map(|(place, n)| {
            let by = n.checked_sub(before.get(place).copied().unwrap_or(0)).filter(|by| *by > 0)?;
            Some((place.words(), by))
        })
        .collect();
    let host = |count: fn(&View<'_>) -> Option<u64>| count(view).filter(|n| *n > 0);
    let backlog = |v: &View<'_>| v.now.system.softnet_dropped?.checked_sub(v.before?.system.softnet_dropped?);
    grown.extend(host(backlog).map(|n| ("softnet drops (net.core.netdev_max_backlog)".to_owned(), n)));
    let damaged = view.delta(netns, Counter::TcpInCsumErrors).filter(|n| *n > 0);
    grown.extend(damaged.map(|n| ("segments with a wrong checksum".to_owned(), n)));
    grown.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    Some(Dropped(grown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World};
    use crate::model::drops::DropPlace;

    #[test]
    fn only_what_grew_between_the_samples_counts_and_unknown_is_not_zero() {
        let qdisc = || DropPlace::Qdisc { device: "eth0".into() };
        let errors = DropPlace::ReceiveErrors { device: "eth0".into() };
        let mut world = World::new();
        world.now.netns[0].drops = Some([(qdisc(), 5), (errors, 9)].into_iter().collect());
        world.counter(Counter::TcpInCsumErrors, 1).later(2000).counter(Counter::TcpInCsumErrors, 3);
        world.now.netns[0].drops.as_mut().unwrap().insert(qdisc(), 45);
        let of = |world: &World| {
            let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
            dropped(&view, NETNS).map(|dropped| dropped.0)
        };
        let expected = [("eth0 qdisc drops".to_owned(), 40), ("segments with a wrong checksum".to_owned(), 2)];
        assert_eq!(of(&world).unwrap(), expected);
        world.before.as_mut().unwrap().netns[0].drops = None;
        assert_eq!(of(&world), None);
    }
}
