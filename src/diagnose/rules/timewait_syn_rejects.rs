//! New connections are refused because their SYN runs into an old TIME_WAIT socket of the same four-tuple and looks
//! older than it.
//!
//! Input: counters of refused segments. Output: one finding per namespace. Not here: `tcp_tw_recycle`, which is a
//! `sysctl-hazard`.
//!
#![doc = include_str!("../../../docs/rules/timewait-syn-rejects.md")]

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::model::counter::Counter;
use crate::text;

pub(super) const RULE: Rule =
    rule!("timewait-syn-rejects", Ports, Two, "old TIME_WAIT sockets refuse new connections", check, [TEXT])
        .title("TIME_WAIT refuses")
        .identity(Identity::Object)
        .states(&[State::TimeWait]);

const TEXT: Text = Text {
    why: "A client behind NAT, or with a reset timestamp clock, uses a port again while our TIME_WAIT still has it, \
          and its SYN looks older than the last segment. The kernel answers with the old ACK or not at all, and the \
          client waits.",
    remedy: &[
        "Let the clients or the load balancer close first, so that the server keeps no TIME_WAIT",
        "Give the NAT or load balancer more source ports or addresses, and per-connection timestamps",
    ],
    avoid: &[
        "Don't switch tcp_timestamps off everywhere: PAWS and the safe reopening of TIME_WAIT need them",
        "Don't set tcp_tw_recycle: it refuses more clients, not fewer",
    ],
};

/// Fewer may be segments that a slow path delivered late.
const STRAY: u64 = 3;

const COUNTERS: [Counter; 2] = [Counter::TcpExtPawsTimewait, Counter::TcpExtTcpAckSkippedTimeWait];

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for netns in &view.now.netns {
        let refused: u64 = COUNTERS.iter().filter_map(|c| view.delta(netns.inode, *c)).sum();
        if refused == 0 {
            let ever: u64 = COUNTERS.iter().filter_map(|c| netns.counter(*c)).sum();
            let server_side =
                || view.restless_rows().any(|(s, role)| s.state == State::TimeWait && matches!(role, Role::Server(_)));
            if view.before.is_none() && ever > 0 && server_side() {
                outcome.wants_second = Some(format!(
                    "{} refused by TIME_WAIT since boot",
                    text::count(ever, "segment was", "segments were")
                ));
            }
            continue;
        }
        let paws = view.delta(netns.inode, COUNTERS[0]);
        // An answer that was not sent for its rate may have been for any old segment.
        let severity = if paws.is_some_and(|n| n >= STRAY) { Severity::Warning } else { Severity::Info };
        outcome.findings.push(
            RULE.finding(
                severity,
                0.7,
                format!("TIME_WAIT sockets refused {} as too old", text::count(refused, "segment", "segments")),
            )
            .because("the counter is exact; whether they were SYNs of clients is not seen from here")
            .subject(Subject { netns: netns.inode, object: Some("TIME_WAIT".into()), ..Subject::default() })
            .evidence("refused", Evidence::Count(refused))
            .evidence("paws_timewait", Evidence::count(paws))
            .evidence("ack_skipped", Evidence::count(view.delta(netns.inode, COUNTERS[1])))
            .next("tcpstate summary --by peer-addr state time-wait"),
        );
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, time_wait};

    #[test]
    fn refusals_between_two_looks_are_found_and_old_ones_only_suspected() {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 5)).counter(COUNTERS[0], 7);
        assert_eq!(world.check(check), Outcome::default(), "no TIME_WAIT now");
        world.add(time_wait("10.0.0.1:80", "10.0.0.2:40000", 1000));
        assert!(world.check(check).wants_second.is_some());
        world.later(2000);
        assert_eq!(world.check(check), Outcome::default());
        world.counter(COUNTERS[0], 9);
        assert_eq!(world.check(check).findings[0].severity, Severity::Info, "two may be late segments");
        world.counter(COUNTERS[0], 10);
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn answers_that_were_not_sent_are_no_harm_by_themselves() {
        let mut world = World::new();
        world.counter(COUNTERS[1], 0).later(2000).counter(COUNTERS[1], 50);
        assert_eq!(world.check(check).findings[0].severity, Severity::Info);
    }
}
