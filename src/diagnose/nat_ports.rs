//! Whether a source translation (SNAT, MASQUERADE) has ports left for a destination, here or on the way.
//!
//! Input: what tracking tables have, and their counters between two samples. Output: the destinations for which nothing is left,
//! and what that says of attempts without an answer. Not here: reading a table (`collect`), which is done only where entries fail.

use crate::diagnose::callers;
use crate::diagnose::conntrack::Table;
use crate::diagnose::hypothesis::{Cause, Weight};
use crate::diagnose::next_hop::Way;
use crate::diagnose::reach::{self, Leaving};
use crate::diagnose::translation;
use crate::diagnose::view::View;
use crate::model::conntrack::NatPorts;
use crate::model::exposure::Exposure;
use crate::model::snapshot::Netns;
use crate::model::{Endpoint, NetnsId, Socket};
use crate::text;

/// The cause of attempts without an answer while others work.
pub const EXHAUSTED: Cause = Cause {
    id: "nat-exhausted",
    text: "the NAT on the way has no port left for this destination, or no room in its table",
    predicts: "connections that are open work, new ones get no answer; on the gateway `insert_failed` or `drop` of \
               /proc/net/stat/nf_conntrack grows",
    refuted_by: "a destination on the link or on this host, while no entry fails here",
    decided_by: "on the gateway `conntrack -S`, and `conntrack -L -p tcp --orig-dst` the address beside the ports of its rule",
};

/// From here on the ports of a range count as taken: the kernel tries a part of them only, and the table changes while it is
/// read.
const TAKEN_PERCENT: u64 = 90;
/// Fewer ports in a row may be chance (policy).
const FEW: u32 = 4;
/// So many are no row of one client's own ports, which a translation keeps where it can (policy).
const MANY: u32 = 10_000;
/// Fewer attempts than these, beside as many that are open, make no NAT likely where nothing else tells that there is one (policy).
const MANY_ATTEMPTS: usize = 5;

/// A destination for which all ports of a translated address are taken, while entries fail.
#[derive(Clone, Copy, Debug)]
pub struct Exhausted<'v> {
    pub netns: &'v Netns,
    pub ports: &'v NatPorts,
    /// Packets of the namespace that got no entry between the samples, to whatever destination.
    pub failed: u64,
}

/// How many ports there are between the lowest and the highest that are taken.
#[must_use]
pub fn range(ports: &NatPorts) -> u32 {
    u32::from(ports.highest) - u32::from(ports.lowest.min(ports.highest)) + 1
}

fn are_taken(ports: &NatPorts) -> bool {
    let most = u64::from(ports.taken) * 100 >= u64::from(range(ports)) * TAKEN_PERCENT;
    most && ports.taken >= FEW && (ports.chosen >= ports.taken.div_ceil(2) || ports.taken >= MANY)
}

/// Packets of a namespace that got no entry between the samples, because another had its addresses and ports.
#[must_use]
pub fn failed(view: &View<'_>, netns: Option<NetnsId>) -> Option<u64> {
    Table::of(view, netns)?.clashed
}

/// Whether packets of a namespace ever got no entry.
#[must_use]
pub fn ever_failed(netns: &Netns) -> bool {
    netns.conntrack.and_then(|table| table.insert_failed).is_some_and(|n| n > 0)
}

/// The destinations for which the translation of a namespace has nothing left, and packets failed between the samples.
pub fn exhausted<'v>(view: &'v View<'_>, netns: &'v Netns) -> impl Iterator<Item = Exhausted<'v>> {
    used_up(view, netns).filter(|e| e.failed > 0)
}

/// The same where packets failed at any time: waiting clients repeat their SYNs seldom.
fn used_up<'v>(view: &'v View<'_>, netns: &'v Netns) -> impl Iterator<Item = Exhausted<'v>> {
    let failed = failed(view, netns.inode).unwrap_or(0);
    let groups = view.nat_ports(netns.inode).iter().filter(|ports| ever_failed(netns) && are_taken(ports));
    groups.map(move |ports| Exhausted { netns, ports, failed })
}

/// What the tables say of [`EXHAUSTED`] for attempts to one destination, and by which namespace.
#[derive(Clone, Debug)]
pub struct Nat<'v> {
    pub weight: Weight,
    pub exhausted: Option<Exhausted<'v>>,
}

impl Exhausted<'_> {
    /// Whose NAT has nothing left, and how much it had.
    #[must_use]
    pub fn words(&self) -> String {
        let (taken, range) = (text::grouped(self.ports.taken.into()), text::grouped(range(self.ports).into()));
        let of = self.netns.label();
        format!(
            "the NAT of network namespace {of} has no port left: {taken} of {range} ports of {} are taken",
            self.ports.source
        )
    }
}

impl<'v> Nat<'v> {
    /// `open`: other connections of the caller's namespace to the destination.
    #[must_use]
    pub fn of(
        view: &'v View<'_>,
        (netns, to): (Option<NetnsId>, Endpoint),
        (rows, open): (&[&Socket], &[&Socket]),
        way: &Way,
        others: Others,
    ) -> Nat<'v> {
        // A gateway is on their way when its table has the open ones.
        let is_on_way = |e: &Exhausted<'_>| {
            let asked = translation::connections(view, open);
            asked.into_iter().any(|c| c.0 == e.netns.inode && view.tracked(c).flatten().is_some())
        };
        let all: Vec<Exhausted<'_>> =
            view.now.netns.iter().flat_map(|n| used_up(view, n)).filter(|e| e.ports.to == to).collect();
        let found = all.iter().copied().find(is_on_way);
        let weight = match found {
            // Each of them was repeated, and no fewer packets failed.
            Some(e) if (1..=e.failed).contains(&reach::repeated(view, rows)) => Weight::Proven,
            Some(_) => Weight::Possible(0.9),
            None if all.len() == 1 => Weight::Possible(0.6),
            None => unproven(view, netns, way, rows, others),
        };
        Nat { weight, exhausted: found }
    }
}

/// How other connects to the destination stand.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    pub working: u64,
    /// Of these, those that are not over.
    pub open: u64,
    /// Each of those has got data.
    pub are_served: bool,
    /// New ones are answered, or a router answers for the host: there is a port left.
    pub pass: bool,
}

/// Whether these come from private addresses and go to a public one, so that somebody translates them.
fn are_translated(rows: &[&Socket]) -> bool {
    let is = |addr: std::net::IpAddr, wanted| Exposure::of_addr(addr) == wanted;
    rows.iter().all(|s| is(s.local.addr, Exposure::Private) && is(s.peer.addr, Exposure::Public))
}

fn unproven(view: &View<'_>, netns: Option<NetnsId>, way: &Way, rows: &[&Socket], others: Others) -> Weight {
    let leaving = reach::leaving(view, netns, rows);
    let is_known = are_translated(rows) || rows.len() >= MANY_ATTEMPTS && others.open >= MANY_ATTEMPTS as u64;
    // A full table of the caller's own namespace is a cause of its own.
    let fails = |n: &Netns| {
        failed(view, n.inode).is_some_and(|n| n > 0)
            || n.inode != netns && Table::of(view, n.inode).is_some_and(|t| t.is_full() && t.refused() > Some(0))
    };
    let own_fails = view.netns(netns).is_some_and(fails);
    let gateway = way.gateway().map(|addr| callers::home(view, netns, addr));
    match (gateway, leaving) {
        _ if own_fails && !matches!(leaving, Leaving::Leaves(_)) => Weight::Possible(0.3),
        (None, _) if way.is_direct() => Weight::Refuted("no gateway is on the way".into()),
        (Some(Some(gate)), _) if fails(gate) => Weight::Possible(0.6),
        (Some(Some(gate)), Leaving::Leaves(_)) if view.before.is_some() => Weight::Refuted(format!(
            "the gateway, network namespace {}, dropped no packet because an entry failed",
            gate.label()
        )),
        _ if others.pass => Weight::Possible(0.05),
        (Some(_), _) if others.working > 0 && others.are_served && is_known => Weight::Possible(0.6),
        _ if others.working > 0 => Weight::Possible(0.2),
        _ => Weight::Possible(0.03),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_when_hardly_one_between_them_is_free_and_the_translation_chose_them() {
        let taken = |taken, chosen, lowest, highest| {
            let (source, to) = ("10.0.0.1".parse().unwrap(), Endpoint::new("10.0.0.2".parse().unwrap(), 80));
            are_taken(&NatPorts { source, to, taken, chosen, lowest, highest })
        };
        assert!(taken(17, 17, 1024, 1040) && taken(16, 9, 1024, 1040));
        assert!(!taken(15, 15, 1024, 1040), "two are free");
        assert!(!taken(3, 3, 1024, 1026), "three may be chance");
        assert!(!taken(400, 2, 49_152, 49_551), "a client that counts its ports up");
        assert!(!taken(5000, 5000, 1024, 65_535) && taken(64_000, 900, 1024, 65_535));
    }
}
