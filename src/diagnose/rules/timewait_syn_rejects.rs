//! New connections are refused because their SYN runs into an old TIME_WAIT socket of the same four-tuple and looks
//! older than it.
//!
//! Comes in: counters of refused segments, `tcp_tw_recycle`. Goes out: one finding per namespace. Never here: advice to
//! switch timestamps off.
//!
#![doc = include_str!("../../../docs/rules/timewait-syn-rejects.md")]

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject};
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;

pub(super) const RULE: Rule =
    rule!("timewait-syn-rejects", Ports, Two, "old TIME_WAIT sockets refuse new connections", check, [TEXT, RECYCLE])
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

const RECYCLE: Text = Text {
    why: "With tcp_tw_recycle the kernel compares a SYN's timestamp with the last one of the same address. Clients \
          behind one NAT have different clocks, so those that are behind are refused in silence.",
    remedy: &["Set net.ipv4.tcp_tw_recycle=0 now"],
    avoid: &["Don't set tcp_timestamps=0 in its place"],
};

const COUNTERS: [Counter; 2] = [Counter::TcpExtPawsTimewait, Counter::TcpExtTcpAckSkippedTimeWait];

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for netns in &view.now.netns {
        let subject = || Subject { netns: netns.inode, ..Subject::default() };
        if netns.sysctl(Sysctl::Ipv4TcpTwRecycle) == Some(1) {
            outcome.findings.push(
                RULE.finding(
                    Severity::Critical,
                    0.97,
                    "tcp_tw_recycle is on: connections of clients behind one NAT address are dropped at random",
                )
                .text(&RECYCLE)
                .because("the sysctl says so")
                .subject(Subject { object: Some("net.ipv4.tcp_tw_recycle".into()), ..subject() })
                .evidence("tcp_tw_recycle", Evidence::Count(1))
                .next("tcpstate explain time-wait"),
            );
        }
        let refused: u64 = COUNTERS.iter().filter_map(|c| view.delta(netns.inode, *c)).sum();
        if refused == 0 {
            let ever: u64 = COUNTERS.iter().filter_map(|c| netns.counter(*c)).sum();
            let server_side =
                || view.restless_rows().any(|(s, role)| s.state == State::TimeWait && matches!(role, Role::Server(_)));
            if view.before.is_none() && ever > 0 && server_side() {
                outcome.wants_second = Some(format!("{ever} segments were refused by TIME_WAIT since boot"));
            }
            continue;
        }
        outcome.findings.push(
            RULE.finding(
                Severity::Warning,
                0.7,
                format!(
                    "{refused} segments of new connections were refused because an old TIME_WAIT has their four-tuple"
                ),
            )
            .because("the counter is exact; that clients notice is likely and not seen from here")
            .subject(subject())
            .evidence("refused", Evidence::Count(refused))
            .evidence("paws_timewait", Evidence::count(view.delta(netns.inode, COUNTERS[0])))
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
        assert_eq!(world.check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn recycling_is_critical_by_itself() {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpTwRecycle, &[1]);
        assert_eq!(world.check(check).findings[0].severity, Severity::Critical);
    }
}
