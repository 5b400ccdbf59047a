//! This host drops packets that come in by another interface than the answer would leave by.
//!
//! Input: the counter of the reverse path filter. Output: one finding per namespace. Not here: the clients, which see a connect without
//! an answer (`syn-sent-pileup`).
//!
#![doc = include_str!("../../../docs/rules/reverse-path-filter.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::NetnsId;
use crate::model::counter::Counter;
use crate::text;

pub(super) const RULE: Rule =
    rule!("reverse-path-filter", System, Two, "packets are dropped for the way they came", check, [TEXT])
        .title("reverse path filter")
        .identity(Identity::Object);

const TEXT: Text = Text {
    why: "A strict reverse path filter drops what comes in by another interface than the route back to its source leaves by. On a host \
          with several interfaces, or behind an asymmetric way, that hits real clients: their SYNs arrive and nothing here sees them, no \
          listener, no half-open row, no trace of TCP.",
    remedy: &[
        "Find whose they are: `sysctl -w net.ipv4.conf.all.log_martians=1` for a moment, then `dmesg`; `tcpdump -ni any` shows them too",
        "If they are clients, let the answer leave by the interface that the request came in by: a routing table and a rule for the \
         second address (`ip rule add from ADDRESS table N`)",
        "Else, or until then, loosen the filter of that interface: net.ipv4.conf.NAME.rp_filter = 2, and net.ipv4.conf.all.rp_filter, of \
         which the larger one counts",
    ],
    avoid: &["Don't switch the filter off on interfaces that face the internet: it is what drops forged sources"],
};

/// One may be a stray broadcast (policy).
const DROPPED: u64 = 2;
/// One for so many connections that came is worth a second look (policy).
const SHARE: u64 = 20;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_some() {
        return Outcome::findings(view.now.netns.iter().filter_map(|n| dropped(view, n.inode)).collect());
    }
    let is_worth = view.now.netns.iter().any(|netns| {
        let count = |counter| netns.counter(counter).unwrap_or(0);
        let ever = count(Counter::TcpExtIpReversePathFilter);
        ever >= DROPPED && ever * SHARE >= count(Counter::TcpPassiveOpens)
    });
    let wants_second = is_worth.then(|| "whether the reverse path filter drops packets now".to_owned());
    Outcome { wants_second, ..Outcome::default() }
}

fn dropped(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let dropped = view.delta(netns, Counter::TcpExtIpReversePathFilter).filter(|n| *n >= DROPPED)?;
    let summary = format!(
        "the reverse path filter of this host dropped {} within {}: the way back to their source leaves by another interface",
        text::count(dropped, "packet", "packets"),
        text::duration(view.interval_ms()?),
    );
    let finding = RULE
        .finding(Severity::Info, 0.9, summary)
        .because("the counter is exact; whose packets they were, and whether of TCP, it does not tell")
        .subject(Subject { netns, object: Some("reverse path filter".to_owned()), ..Subject::default() })
        .evidence("dropped", Evidence::Count(dropped))
        .evidence("connections_accepted", Evidence::count(view.delta(netns, Counter::TcpPassiveOpens)))
        .next("nstat -az TcpExtIPReversePathFilter");
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::World;

    #[test]
    fn what_the_filter_drops_between_two_looks_is_told_as_an_explanation() {
        let mut world = World::new();
        world.counter(Counter::TcpExtIpReversePathFilter, 1);
        assert_eq!(world.check(check), Outcome::default());
        world.counter(Counter::TcpExtIpReversePathFilter, 9);
        assert!(world.check(check).wants_second.is_some());
        world.counter(Counter::TcpPassiveOpens, 181);
        assert_eq!(world.check(check), Outcome::default(), "of long ago, or rare");
        world.later(2000).counter(Counter::TcpExtIpReversePathFilter, 10);
        assert_eq!(world.check(check), Outcome::default());
        let finding = world.counter(Counter::TcpExtIpReversePathFilter, 17).check(check).findings.remove(0);
        assert_eq!(finding.severity, Severity::Info, "forged sources and broadcasts count too");
        assert!(finding.summary.contains("dropped 8 packets within 2.0 s"), "{}", finding.summary);
    }
}
