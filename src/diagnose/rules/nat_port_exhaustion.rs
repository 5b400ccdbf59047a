//! A source translation (SNAT, MASQUERADE) of this host has no port left for a destination.
//!
//! Input: the tracking table of a namespace, read where entries fail between the samples. Output: one finding per translated
//! address and destination. Not here: the clients that suffer (`syn-sent-pileup`), which name it as their cause.
//!
#![doc = include_str!("../../../docs/rules/nat-port-exhaustion.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::nat_ports::{self, Exhausted};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::text;

pub(super) const RULE: Rule =
    rule!("nat-port-exhaustion", System, Two, "a NAT has no port left for a destination", check, [TEXT])
        .title("NAT out of ports")
        .identity(Identity::Destination)
        .cause();

const TEXT: Text = Text {
    why: "A source translation gives each connection to one destination a source port of its own. When all are taken, the \
          kernel drops the first packet of the next connection, in silence: clients behind it see timeouts, while open \
          connections and other destinations work.",
    remedy: &[
        "Widen the ports of the rule, or drop their limit (`nft list ruleset`; `iptables-save -t nat`, --to-ports): without one \
         there are 64,512 for each destination",
        "Give the rule more addresses: `snat to ADDR1-ADDR2`; each has its own ports",
        "Let the clients keep connections open and use them again: a port may be held for 2 minutes after the end",
        "Look for entries of connections long gone (`conntrack -L -p tcp --orig-dst {addr}`): they last for \
         net.netfilter.nf_conntrack_tcp_timeout_established, which must stay above the keepalive time",
    ],
    avoid: &[
        "Don't raise nf_conntrack_max: the table has room, the ports are used up",
        "Don't flush the table: connections through NAT break",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for netns in &view.now.netns {
        match nat_ports::failed(view, netns.inode) {
            Some(1..) => outcome.asked.translators.push(netns.inode),
            None if view.before.is_none() && nat_ports::ever_failed(netns) => {
                outcome.wants_second = Some("whether packets get no entry in the tracking table now".into());
            }
            _ => {}
        }
        outcome.findings.extend(nat_ports::exhausted(view, netns).map(|e| finding(&e)));
    }
    outcome
}

fn finding(exhausted: &Exhausted<'_>) -> Finding {
    let Exhausted { netns, ports, failed } = exhausted;
    let range = nat_ports::range(ports);
    let summary = format!(
        "NAT has no port left for {}: {} of the {} ports {} to {} of {} are taken, and {} got no entry between the samples",
        ports.to,
        text::grouped(u64::from(ports.taken)),
        text::grouped(u64::from(range)),
        ports.lowest,
        ports.highest,
        ports.source,
        text::count(*failed, "packet", "packets"),
    );
    let subject =
        Subject { netns: netns.inode, destination: Some(ports.to), source: Some(ports.source), ..Subject::default() };
    RULE.finding(Severity::High, 0.95, summary)
        .because("every taken port is an entry of the table, and the kernel counts the packets that it dropped")
        .subject(subject)
        .evidence("ports_taken", Evidence::Count(ports.taken.into()))
        .evidence("ports_between", Evidence::Count(range.into()))
        .evidence("lowest_port", Evidence::Count(ports.lowest.into()))
        .evidence("highest_port", Evidence::Count(ports.highest.into()))
        .evidence("chosen_by_nat", Evidence::Count(ports.chosen.into()))
        .evidence("new_insert_failed", Evidence::Count(*failed))
        .fill("addr", ports.to.addr)
        .next(format!("conntrack -L -p tcp --orig-dst {}", ports.to.addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World};
    use crate::model::Endpoint;
    use crate::model::conntrack::{Conntrack, NatPorts};

    /// A gateway with so many packets that got no entry between the samples, and these ports.
    fn world(failed: u64, taken: u32, highest: u16) -> World {
        let table = |insert_failed| Conntrack {
            entries: Some(40),
            limit: Some(1000),
            drop: Some(insert_failed),
            insert_failed: Some(insert_failed),
            ..Conntrack::default()
        };
        let mut world = World::new();
        world.now.netns[0].conntrack = Some(table(5));
        world.later(1000);
        world.now.netns[0].conntrack = Some(table(5 + failed));
        let (source, to) = ("10.0.0.1".parse().unwrap(), Endpoint::new("10.9.9.9".parse().unwrap(), 443));
        let ports = NatPorts { source, to, taken, chosen: taken, lowest: 1024, highest };
        world.now.tracking.ports.insert(NETNS, vec![ports]);
        world
    }

    #[test]
    fn a_range_without_a_free_port_is_told_while_packets_fail() {
        let outcome = world(3, 17, 1040).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::High);
        assert_eq!(
            finding.summary,
            "NAT has no port left for 10.9.9.9:443: 17 of the 17 ports 1024 to 1040 of 10.0.0.1 are taken, and 3 packets \
             got no entry between the samples"
        );
        assert_eq!(outcome.asked.translators, [NETNS]);
        assert!(finding.remedy[3].contains("--orig-dst 10.9.9.9"));
    }

    #[test]
    fn a_lost_race_is_asked_about_and_silent_and_nothing_is_asked_for_nothing() {
        let race = world(3, 17, 9000).check(check);
        assert!(race.findings.is_empty() && race.asked.translators == [NETNS]);
        assert_eq!(world(0, 17, 1040).check(check), Outcome::default());
        let mut once = world(3, 17, 1040);
        once.before = None;
        let outcome = once.check(check);
        assert!(outcome.findings.is_empty() && outcome.asked.is_empty() && outcome.wants_second.is_some());
    }

    #[test]
    fn used_up_ports_are_no_race_for_the_rule_about_the_table() {
        let clashes = |world: &World| {
            let diagnosis = world.diagnose();
            diagnosis.findings.iter().map(|f| f.rule).collect::<Vec<_>>()
        };
        assert_eq!(clashes(&world(3, 17, 1040)), ["nat-port-exhaustion"]);
        assert_eq!(clashes(&world(3, 17, 9000)), ["conntrack-pressure"]);
    }
}
