//! The kernel's table of TIME_WAIT sockets is full, so connections are closed without their TIME_WAIT.
//!
//! Input: sockstat, `tcp_max_tw_buckets` and counters of each namespace. Output: one finding per namespace at its limit.
//! Not here: advice to lower it.
//!
#![doc = include_str!("../../../docs/rules/time-wait-bucket-overflow.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::{Counter, SockStat};
use crate::model::sysctl::Sysctl;
use crate::model::{NetnsId, RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("time-wait-bucket-overflow", Ports, OneOrTwo, "the table of TIME_WAIT sockets is full", check, [TEXT])
        .title("TIME_WAIT table full")
        .identity(Identity::Object)
        .causes(CAUSES)
        .states(&[State::TimeWait]);

const TEXT: Text = Text {
    why: "A namespace keeps a limited number of TIME_WAIT sockets; beyond it a connection is forgotten at once. \
          Nothing fails, but late segments of the old connection may reach a new one on the same four-tuple.",
    remedy: &[
        "Reduce the churn: reuse connections",
        "Raise net.ipv4.tcp_max_tw_buckets; an entry costs about 300 bytes",
    ],
    avoid: &["Don't lower tcp_max_tw_buckets to get rid of TIME_WAIT: that is this very fault, made on purpose"],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "churn",
        text: "more connections end within a minute than the table holds",
        predicts: "entries that are made in a minute at the present rate are as many as the limit",
        refuted_by: "fewer",
        decided_by: "time-wait-client-churn and time-wait-server-churn, which name who closes",
    },
    Cause {
        id: "small-limit",
        text: "the limit is small: set by hand, or that of a namespace with a small hash table",
        predicts: "a limit below 16,384",
        refuted_by: "a limit of 16,384 or more",
        decided_by: "net.ipv4.tcp_max_tw_buckets in /etc/sysctl.d; net.ipv4.tcp_ehash_entries",
    },
    Cause {
        id: "peers-do-not-close",
        text: "FIN_WAIT2 remainders take the places",
        predicts: "half of the entries or more are in FIN_WAIT2",
        refuted_by: "less than half",
        decided_by: "fin-wait2-orphan-pileup, which names the peers",
    },
];

/// A smaller limit is none that a kernel chooses for a host of today (policy).
const SMALL_LIMIT: u64 = 16_384;

/// Which causes are left; `minute`: entries that are made in a minute.
fn causes(limit: u64, minute: Option<f64>, remainders: u64, entries: u64) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    Weighed::of(CAUSES, |cause| match cause.id {
        "churn" => match minute {
            Some(n) if n >= limit as f64 => Weight::Possible(0.7),
            Some(_) => refuted("fewer are made in a minute"),
            None => Weight::Possible(0.4),
        },
        "small-limit" if limit < SMALL_LIMIT => Weight::Possible(0.6),
        "small-limit" => refuted("it is not small"),
        _ if remainders > 0 && remainders * 2 >= entries => Weight::Possible(0.6),
        _ => refuted("less than half of the entries are in FIN_WAIT2"),
    })
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut judged = false;
    for netns in &view.now.netns {
        let (Some(limit), Some(now)) = (netns.sysctl(Sysctl::Ipv4TcpMaxTwBuckets), netns.sockstat(SockStat::TcpTw))
        else {
            continue;
        };
        judged = true;
        let overflows = view.delta(netns.inode, Counter::TcpExtTcpTimeWaitOverflow);
        let made = view.delta(netns.inode, Counter::TcpExtTw);
        let rate = made.zip(view.interval_ms()).and_then(|(n, ms)| Rate::of(n, ms));
        let at_limit = limit > 0 && now >= limit;
        let filling =
            rate.filter(|r| r.per_second() * 60.0 >= limit as f64 && stay(view, netns.inode, now, r.per_second()));
        let overflowing = overflows.is_some_and(|n| n > 0);
        let before = netns.counter(Counter::TcpExtTcpTimeWaitOverflow).unwrap_or(0);
        if view.before.is_none() && limit > 0 && (at_limit || before > 0 && now * 2 >= limit) {
            let (used, before) = (text::of(now, limit), text::grouped(before));
            outcome.wants_second = Some(format!("{used} TIME_WAIT entries, and {before} did not fit since boot"));
        }
        if !(at_limit || filling.is_some() || overflowing) {
            continue;
        }
        // Connections end either way: without their TIME_WAIT they may meet late segments, and none fails.
        let severity = if overflowing { Severity::Warning } else { Severity::Info };
        let left_ms = filling.filter(|_| !at_limit).map(|r| r.lasts_ms(limit - now));
        let in_use = format!("{} TIME_WAIT entries are in use", text::of(now, limit));
        let summary = match (overflows.filter(|n| *n > 0), rate, left_ms) {
            (Some(n), ..) => format!(
                "{in_use}, and {} without TIME_WAIT in the last {}",
                text::count(n, "connection ended", "connections ended"),
                text::duration(view.interval_ms().unwrap_or(0))
            ),
            (None, Some(rate), Some(ms)) => {
                format!("{in_use}, {rate} are made, and the rest lasts about {}", text::duration(ms))
            }
            _ if overflows.is_some() => format!("{in_use}, and none did not fit between the samples"),
            _ => format!("{in_use}: the next connection ends without one"),
        };
        outcome.findings.push(
            RULE.finding(severity, if overflowing || at_limit { 0.97 } else { 0.85 }, summary)
                .exhausted_in(left_ms.map(Measure::Estimate))
                .because("the kernel counts both the entries and what did not fit")
                .about(entries(view, netns.inode))
                .causes(causes(limit, rate.map(|r| r.per_second() * 60.0), remainders(view, netns.inode), now))
                .subject(Subject {
                    netns: netns.inode,
                    object: Some("net.ipv4.tcp_max_tw_buckets".into()),
                    ..Subject::default()
                })
                .evidence("time_wait", Evidence::Count(now))
                .evidence("limit", Evidence::Count(limit))
                .evidence("overflows", Evidence::count(overflows))
                .evidence("entries_per_second", rate.map_or(Evidence::Unknown, |r| Evidence::PerSecond(r.per_second())))
                .next("tcpstate summary --by destination state time-wait"),
        );
    }
    if !judged {
        return Outcome::not_checked("tcp_max_tw_buckets or sockstat could not be read");
    }
    outcome
}

/// What stands in the table of a namespace.
fn entries<'a>(view: &View<'a>, netns: Option<NetnsId>) -> impl Iterator<Item = &'a Socket> {
    view.active().filter(move |s| s.netns == netns && s.kind == RowKind::TimeWaitMini)
}

/// FIN_WAIT2 remainders of a namespace, which share the table.
fn remainders(view: &View<'_>, netns: Option<NetnsId>) -> u64 {
    entries(view, netns).filter(|s| s.state == State::FinWait2).count() as u64
}

/// Whether those that enter at this rate stay for their minute: the number grows as fast as they enter, at least by half.
/// Where ports are used again at once (`tcp_tw_reuse`, a newer SYN) it does not.
fn stay(view: &View<'_>, netns: Option<NetnsId>, now: u64, rate: f64) -> bool {
    let before = view.before.and_then(|b| b.netns(netns)).and_then(|n| n.sockstat(SockStat::TcpTw));
    let (Some(before), Some(ms)) = (before, view.interval_ms()) else { return true };
    now.saturating_sub(before) as f64 * 1000.0 / ms as f64 * 2.0 >= rate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::World;

    fn world(now: u64, limit: u64) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpMaxTwBuckets, &[limit]);
        world.now.netns[0].sockstat.insert(SockStat::TcpTw, now);
        world
    }

    #[test]
    fn rate_limit_and_remainders_tell_what_fills_the_table() {
        let left = |limit, minute, remainders| -> Vec<_> {
            causes(limit, minute, remainders, 100).left.iter().map(|h| h.cause.id).collect()
        };
        assert_eq!(left(16_384, Some(16_384.0), 49), ["churn"]);
        assert_eq!(left(16_383, Some(16_382.0), 50), ["small-limit", "peers-do-not-close"]);
        assert_eq!(left(16_383, None, 0), ["small-limit", "churn"]);
    }

    #[test]
    fn a_full_table_is_an_explanation_until_something_does_not_fit() {
        let full = world(100, 100).check(check);
        assert!(full.findings[0].severity == Severity::Info && full.wants_second.is_some());
        assert!(world(99, 100).check(check).findings.is_empty());
        let mut overflowing = world(90, 100);
        overflowing.counter(Counter::TcpExtTcpTimeWaitOverflow, 5);
        assert!(overflowing.check(check).wants_second.is_some());
        overflowing.later(2000);
        assert_eq!(overflowing.check(check), Outcome::default());
        overflowing.counter(Counter::TcpExtTcpTimeWaitOverflow, 9);
        let outcome = overflowing.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        assert!(outcome.findings[0].summary.contains("4 connections ended without TIME_WAIT"), "{outcome:?}");
        assert!(World::new().check(check).not_checked.is_some());
    }

    #[test]
    fn a_table_that_fills_says_how_long_it_lasts() {
        let mut fast = world(10, 100);
        fast.counter(Counter::TcpExtTw, 0).later(2000).counter(Counter::TcpExtTw, 10);
        // As many leave as enter: ports that are used again at once.
        assert!(fast.check(check).findings.is_empty());
        fast.now.netns[0].sockstat.insert(SockStat::TcpTw, 20);
        let finding = fast.check(check).findings.remove(0);
        assert_eq!((finding.severity, finding.exhausted_in_ms), (Severity::Info, Some(Measure::Estimate(16_000))));
    }
}
