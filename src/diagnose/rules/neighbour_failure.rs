//! The next hop to silent destinations does not answer, or the kernel has no room for another neighbour.
//!
//! Input: destinations that are silent, and what the kernel says of the way to each. Output: one finding per next hop. Not
//! here: the connections that wait (`syn-sent-pileup`, `dead-peer-retransmit`), which name it as their cause.
//!
#![doc = include_str!("../../../docs/rules/neighbour-failure.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashSet;

use crate::diagnose::Outcome;
use crate::diagnose::delivery::{is_silent, repeats};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject, most_frequent};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::next_hop::Way;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::path::{Destination, Neighbour, NextHop};
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("neighbour-failure", Connecting, OneOrTwo, "the next hop does not answer", check, [TEXT, FULL])
        .title("next hop silent")
        .identity(Identity::Destination)
        .causes(CAUSES);

const HOST: &str = "Look at {hop} itself: its power, its console, its interface";
const LINK: &str =
    "Check the link here: `ip -s link show {device}`, carrier, VLAN, the bridge or the security group of the port";
const ROUTE: &str = "Check that the route is right: `ip route get` a destination, and whether the gateway has moved";

const TEXT: Text = Text {
    why: "A segment leaves only when the link-layer address of the next hop is known. Nobody answers the requests for it, \
          so the kernel holds a few segments back and drops the rest, while sockets count them as sent.",
    remedy: &[HOST, LINK, ROUTE],
    avoid: &["Don't add a permanent neighbour entry: it hides that nobody is there"],
};

const FULL: Text = Text {
    why: "Every host on the link that this one speaks with has an entry in the neighbour table, and so has every gateway. \
          When the table is full, the kernel sends nothing to a host without an entry.",
    remedy: &[
        "Raise net.ipv4.neigh.default.gc_thresh3 (and gc_thresh2 and gc_thresh1 with it) above the number of hosts on the \
         link; the same below net.ipv6",
        "Make the subnet smaller, or route to the pods or containers over a gateway",
    ],
    avoid: &["Don't flush the neighbour table: it fills again"],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "next-hop-off",
        text: "that host is off, or its address is no longer there",
        predicts: "nobody on the link resolves the address",
        refuted_by: "another host of the link that reaches it",
        decided_by: "`arping` from another host of the link; the console of that host",
    },
    Cause {
        id: "link-broken",
        text: "the link between is broken",
        predicts: "no carrier, or other neighbours on the same interface are silent too",
        refuted_by: "other neighbours on the same interface that answer",
        decided_by: "`ip -s link`, `ethtool` of the interface, the port of the switch",
    },
    Cause {
        id: "resolution-filtered",
        text: "requests or answers are filtered, or the address belongs to another network segment",
        predicts: "the host is up and others reach it",
        refuted_by: "requests that reach the host and that it answers",
        decided_by: "`tcpdump -ni` the interface `arp or icmp6` on both hosts",
    },
];

/// Destinations that are asked about in one examination.
const ASKED: usize = 64;

/// A next hop, and which silent destinations and rows are behind it.
type Behind<'a> = (&'a Neighbour, Vec<Destination>, Vec<&'a Socket>);

/// Destinations with a row that waits for an answer, and the rows.
fn silent<'a>(view: &View<'a>) -> BTreeMap<Destination, Vec<&'a Socket>> {
    let mut silent: BTreeMap<Destination, Vec<&Socket>> = BTreeMap::new();
    for socket in view.active() {
        let waits = match socket.state {
            State::SynSent => socket.timer.is_some_and(|t| t.retransmits > 0),
            _ => repeats(view, socket) && is_silent(socket) == Some(true),
        };
        let to = socket.peer.normalised().addr;
        if waits && !to.is_loopback() {
            silent.entry((socket.netns, to)).or_default().push(socket);
        }
    }
    silent
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.findings.extend(table_full(view));
    let silent = silent(view);
    outcome.asked.destinations = silent.keys().take(ASKED).copied().collect();
    let mut hops: BTreeMap<(Option<NetnsId>, IpAddr), Behind<'_>> = BTreeMap::new();
    for (to, rows) in &silent {
        let way = Way::of(view, to.0, to.1, rows);
        if let (true, Some(NextHop::Neighbour(neighbour))) = (way.is_silent(), view.next_hop(to.0, to.1)) {
            let at = (to.0, neighbour.gateway.unwrap_or(to.1));
            let (_, destinations, all) = hops.entry(at).or_insert((neighbour, Vec::new(), Vec::new()));
            destinations.push(*to);
            all.extend(rows);
        }
    }
    outcome.findings.extend(
        hops.into_iter().map(|((netns, hop), (neighbour, to, rows))| finding(view, netns, hop, neighbour, &to, &rows)),
    );
    outcome
}

fn finding(
    view: &View<'_>,
    netns: Option<NetnsId>,
    hop: IpAddr,
    neighbour: &Neighbour,
    to: &[Destination],
    rows: &[&Socket],
) -> Finding {
    let device = neighbour.device.as_deref().unwrap_or("?");
    let waiting = text::count(rows.len() as u64, "connection", "connections");
    let is_gateway = neighbour.gateway.is_some();
    let (what, severity) = match (is_gateway, rows.len()) {
        // Nothing leaves any more, whatever the finding on those who wait says of the peer.
        (false, 2..) if neighbour.has_carrier == Some(false) => {
            (format!("{hop} on the link of {device}"), Severity::High)
        }
        // What waits for that one host has findings of its own.
        (false, _) => (format!("{hop} on the link of {device}"), Severity::Info),
        (true, 1) => (format!("the gateway {hop} on {device}"), Severity::Warning),
        (true, _) => (format!("the gateway {hop} on {device}"), Severity::High),
    };
    let beyond = if is_gateway {
        format!(" to {}", text::count(to.len() as u64, "destination", "destinations"))
    } else {
        String::new()
    };
    let has_carrier = neighbour.has_carrier != Some(false);
    let summary = format!(
        "{what} {}, and {waiting}{beyond} {} for it",
        if has_carrier {
            "does not answer address resolution"
        } else {
            "cannot be reached: the interface has no carrier"
        },
        if rows.len() == 1 { "waits" } else { "wait" }
    );
    let mut pids: Vec<u32> = rows.iter().flat_map(|s| view.processes(s)).map(|p| p.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let failing: FxHashSet<IpAddr> = silent_neighbours(view, netns, neighbour);
    let causes = Weighed::of(CAUSES, |cause| match cause.id {
        "link-broken" if !has_carrier => Weight::Proven,
        _ if !has_carrier => Weight::Refuted("the interface has no carrier, so that nobody can answer".into()),
        "link-broken" if failing.len() > 1 => Weight::Possible(0.6),
        "link-broken" => Weight::Possible(0.2),
        "next-hop-off" => Weight::Possible(0.5),
        _ => Weight::Possible(0.15),
    });
    let subject = Subject { netns, destination: Some(Endpoint::new(hop, 0)), pids, ..Subject::default() };
    RULE.finding(severity, 0.95, summary)
        .because("the kernel's own neighbour entry says so")
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes)
        .evidence("waiting_connections", Evidence::Count(rows.len() as u64))
        .evidence("silent_destinations", Evidence::Count(to.len() as u64))
        .evidence("destinations", Evidence::List(most_frequent(rows.iter().map(|s| s.peer.to_string()), 5)))
        .evidence("is_gateway", Evidence::Text(if is_gateway { "yes" } else { "no" }.into()))
        .evidence("interface", Evidence::Text(device.into()))
        .evidence(
            "carrier",
            neighbour
                .has_carrier
                .map_or(Evidence::Unknown, |has| Evidence::Text(if has { "yes" } else { "no" }.into())),
        )
        .evidence("silent_neighbours", Evidence::Count(failing.len() as u64))
        .fill("hop", hop)
        .fill("device", device)
        .next(format!("ip neigh show to {hop}"))
}

/// The neighbours on the same interface that are known to be silent.
fn silent_neighbours(view: &View<'_>, netns: Option<NetnsId>, of: &Neighbour) -> FxHashSet<IpAddr> {
    view.next_hops()
        .filter_map(|((space, to), hop)| match hop {
            NextHop::Neighbour(n) if *space == netns && n.device == of.device && n.is_silent() => {
                Some(n.gateway.unwrap_or(*to))
            }
            _ => None,
        })
        .collect()
}

fn table_full(view: &View<'_>) -> Option<Finding> {
    let before = view.before?.system.neighbour_table_full?;
    let now = view.now.system.neighbour_table_full?;
    let refused = now.checked_sub(before).filter(|n| *n > 0)?;
    let summary = format!(
        "the neighbour table is full: {} could not get an entry between the samples",
        text::count(refused, "neighbour", "neighbours")
    );
    let subject = Subject { object: Some("net.ipv4.neigh.default.gc_thresh3".into()), ..Subject::default() };
    let finding = RULE.finding(Severity::Critical, 0.97, summary).text(&FULL).because("the kernel counts it");
    let finding = finding.subject(subject).evidence("refused", Evidence::Count(refused));
    Some(finding.evidence("refused_ever", Evidence::Count(now)).next("ip -s neigh show | wc -l"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, row, timer};
    use crate::model::TimerKind;
    use crate::model::path::Resolution;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn hop(gateway: Option<&str>, resolution: Option<Resolution>) -> NextHop {
        let device = Some("eth0".into());
        NextHop::Neighbour(Neighbour {
            gateway: gateway.map(addr),
            device,
            resolution,
            confirmed_ms: None,
            has_carrier: Some(true),
        })
    }

    fn syn(port: u16, to: &str) -> Socket {
        timer(row(State::SynSent, &format!("10.0.0.1:{port}"), to), TimerKind::Retransmit, 500, 3)
    }

    /// Two destinations beyond one gateway, asked for already.
    fn world(gateway: Option<&str>, resolution: Option<Resolution>) -> World {
        let mut world = World::new();
        for (port, to) in [(5000, "10.1.0.2:443"), (5001, "10.1.0.3:443")] {
            let socket = syn(port, to);
            world.hold(812, "client", u32::from(port), socket.inode).add(socket);
            world.now.next_hops.insert((NETNS, addr(&to[..8])), hop(gateway, resolution));
        }
        world
    }

    #[test]
    fn silent_destinations_are_asked_about_and_others_are_not() {
        let mut world = World::new();
        world.add(syn(5000, "10.1.0.2:443")).add(row(State::Established, "10.0.0.1:5001", "10.1.0.3:443"));
        world.add(timer(row(State::SynSent, "10.0.0.1:5002", "10.1.0.4:443"), TimerKind::Retransmit, 500, 0));
        let outcome = world.check(check);
        assert_eq!(outcome.asked.destinations, [(NETNS, addr("10.1.0.2"))]);
        assert_eq!(outcome.findings, []);
    }

    #[test]
    fn a_silent_gateway_is_named_with_all_that_wait_behind_it() {
        let failed = world(Some("10.0.0.254"), Some(Resolution::Failed)).check(check);
        let [finding] = &failed.findings[..] else { panic!("{failed:?}") };
        assert_eq!(finding.severity, Severity::High);
        assert_eq!(
            finding.summary,
            "the gateway 10.0.0.254 on eth0 does not answer address resolution, and 2 connections to 2 destinations wait for it"
        );
        assert_eq!((finding.subject.destination.unwrap().port, &finding.subject.pids[..]), (0, &[812][..]));
        let asking =
            |requests| world(Some("10.0.0.254"), Some(Resolution::Incomplete { requests })).check(check).findings;
        assert_eq!((asking(1).len(), asking(2).len()), (0, 1), "one request may be on its way");
    }

    #[test]
    fn an_interface_without_carrier_proves_the_link() {
        let mut world = world(Some("10.0.0.254"), Some(Resolution::Incomplete { requests: 0 }));
        for hop in world.now.next_hops.values_mut() {
            let NextHop::Neighbour(neighbour) = hop else { panic!() };
            neighbour.has_carrier = Some(false);
        }
        let finding = world.check(check).findings.remove(0);
        assert!(finding.causes.is("link-broken"), "{finding:#?}");
        assert!(finding.summary.contains("cannot be reached: the interface has no carrier"), "{}", finding.summary);
        for next_hop in world.now.next_hops.values_mut() {
            *next_hop = hop(None, Some(Resolution::Failed));
        }
        assert!(world.check(check).findings.iter().all(|f| f.severity == Severity::Info), "a host that is off");
        for hop in world.now.next_hops.values_mut() {
            let NextHop::Neighbour(neighbour) = hop else { panic!() };
            neighbour.has_carrier = Some(false);
        }
        world.now.next_hops.retain(|(_, to), _| *to == addr("10.1.0.2"));
        assert!(world.check(check).findings.iter().all(|f| f.severity == Severity::Info), "one waits");
        world.add(syn(5002, "10.1.0.2:443"));
        assert_eq!(world.check(check).findings[0].severity, Severity::High, "several do");
    }

    #[test]
    fn a_gateway_that_answers_and_one_that_is_not_known_are_silent() {
        for resolution in [Some(Resolution::Known), Some(Resolution::Unconfirmed), None] {
            assert_eq!(world(Some("10.0.0.254"), resolution).check(check).findings, []);
        }
        let mut marked = world(Some("10.0.0.254"), Some(Resolution::Failed));
        marked.now.sockets.iter_mut().for_each(|s| s.mark = Some(7));
        assert_eq!(marked.check(check).findings, [], "a mark may take another route");
    }

    #[test]
    fn it_is_the_named_cause_of_what_waits_and_one_incident_with_it() {
        let of = |gateway, resolution| {
            let diagnosis = world(gateway, resolution).diagnose();
            let named = |rule| diagnosis.findings.iter().find(|f| f.rule == rule).unwrap().causes.named().map(|c| c.id);
            let incident = &diagnosis.incidents[0];
            (named("syn-sent-pileup"), diagnosis.findings[incident.cause].rule, incident.consequences.len())
        };
        let failed = Some(Resolution::Failed);
        assert_eq!(of(Some("10.0.0.254"), failed), (Some("gateway-down"), "neighbour-failure", 2));
        let on_link = of(None, failed);
        assert_eq!((on_link.0, on_link.1), (Some("host-down"), "neighbour-failure"));
        assert_eq!(of(None, Some(Resolution::Known)).0, None);
    }

    #[test]
    fn a_full_table_is_critical_while_it_refuses() {
        let of = |before, now| {
            let mut world = World::new();
            world.now.system.neighbour_table_full = before;
            world.later(2000);
            world.now.system.neighbour_table_full = now;
            world.check(check).findings.iter().map(|f| f.severity).collect::<Vec<_>>()
        };
        assert_eq!(of(Some(3), Some(9)), [Severity::Critical]);
        assert_eq!((of(Some(9), Some(9)), of(None, Some(9))), (vec![], vec![]));
    }
}
