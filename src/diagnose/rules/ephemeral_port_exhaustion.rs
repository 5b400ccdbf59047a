//! New outgoing connections to one destination are about to fail, or already fail, because every local port that could
//! be used for it is taken.
//!
//! Input: routes with their ports. Output: one finding per route that is short of them. Not here: the count of TIME_WAIT
//! by itself.
//!
#![doc = include_str!("../../../docs/rules/ephemeral-port-exhaustion.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::{Measure, Share};
use crate::diagnose::port_choice;
use crate::diagnose::port_use::{self, Use, Users};
use crate::diagnose::ports::{self, Route};
use crate::diagnose::rate::Rate;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("ephemeral-port-exhaustion", Ports, OneOrTwo, "no local port is left for one destination", check, [TEXT])
        .topic(Topic::PortExhaustion)
        .title("local ports run out")
        .identity(Identity::Destination)
        .causes(CAUSES)
        .cost(4);

const TEXT: Text = Text {
    why: "A connection is its two addresses and two ports; with source address and destination fixed only the local \
          port is left, and the side that closes first keeps its port for 60 s in TIME_WAIT. So about a sixtieth of \
          the range can be opened per second, and past half of it every connect() searches thousands of ports.",
    remedy: &[
        "Reuse connections in the named process: HTTP keep-alive, a connection pool, HTTP/2, pipelining",
        "Let the server close first, and stop retry storms",
        "If the client binds a source address before connecting, set IP_BIND_ADDRESS_NO_PORT",
        "Spread over more destination addresses or ports, or more source addresses",
        "Only then widen net.ipv4.ip_local_port_range, with listeners in ip_local_reserved_ports",
        "Last, set net.ipv4.tcp_tw_reuse=1 with timestamps on; it helps outgoing connections only",
    ],
    avoid: &[
        "Don't set tcp_tw_recycle: it is gone since Linux 4.12, and it dropped clients behind NAT",
        "Don't lower tcp_fin_timeout: it does not touch TIME_WAIT",
        "Don't lower tcp_max_tw_buckets: connections then end without the protection of TIME_WAIT",
        "Don't set ip_autobind_reuse; IP_BIND_ADDRESS_NO_PORT does what it is meant for",
        "Don't use SO_LINGER with a time of zero as a habit: it resets, and loses data",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "churn",
        text: "connections are opened and closed faster than TIME_WAIT lets go of their ports",
        predicts: "most of the blocked ports are in TIME_WAIT",
        refuted_by: "less than a tenth of them is",
        decided_by: "who closes: `tcpstate doctor --trace 5s --rule ephemeral-port-exhaustion`",
    },
    Cause {
        id: "held",
        text: "connections are kept open and become more: a pool without a limit, or a leak",
        predicts: "most of the blocked ports belong to live connections",
        refuted_by: "less than a tenth of them does",
        decided_by: "the pool's limit beside the number of its connections; close-wait-leak",
    },
    Cause {
        id: "peer-does-not-close",
        text: "the peers do not close after us, and FIN_WAIT2 remainders keep the ports",
        predicts: "most of the blocked ports are in FIN_WAIT2 without a process",
        refuted_by: "less than a tenth of them is",
        decided_by: "fin-wait2-orphan-pileup, which names the peers",
    },
    Cause {
        id: "bound",
        text: "ports of the range are bound or listened on",
        predicts: "most of the blocked ports were taken by bind(), whoever did",
        refuted_by: "less than a tenth of them was, and this program does not bind before it connects",
        decided_by: "bind-before-connect and bound-inactive-leak; listeners inside the range",
    },
    Cause {
        id: "small-range",
        text: "the range of ports is small",
        predicts: "fewer usable ports than half of the kernel's default of 28,232",
        refuted_by: "as many or more",
        decided_by: "net.ipv4.ip_local_port_range and ip_local_reserved_ports",
    },
];

/// Usable ports of the default range, 32768 to 60999.
const DEFAULT_PORTS: u32 = 28_232;
/// Percent of the blocked ports below which a kind of them is no reason.
const LITTLE_PERCENT: f64 = 10.0;

/// What the blocked ports are: the kinds add up to all of them.
fn causes(route: &Route<'_>, binds: bool) -> Weighed {
    let share = |part: u32| Share::of(part.into(), route.ports.blocked().into());
    let of_kind = |part: u32, also: bool| match share(part) {
        Some(s) if s.percent() >= LITTLE_PERCENT || also => Weight::Possible(s.percent().max(LITTLE_PERCENT)),
        Some(s) => Weight::Refuted(format!("{s} of the blocked ports")),
        None => Weight::Possible(LITTLE_PERCENT),
    };
    Weighed::of(CAUSES, |cause| match cause.id {
        "churn" => of_kind(route.ports.taken.time_wait, false),
        "held" => of_kind(route.ports.taken.live, false),
        "peer-does-not-close" => of_kind(route.ports.taken.fin_wait2_minis, false),
        "bound" => of_kind(route.ports.bound, binds),
        _ if route.ports.usable >= DEFAULT_PORTS / 2 => {
            Weight::Refuted(format!("{} ports are usable", text::grouped(route.ports.usable.into())))
        }
        _ => Weight::Possible(20.0),
    })
}

/// Steps of the text that only a program that binds needs, and that do not help one.
const FOR_BINDERS: usize = 2;
const NOT_FOR_BINDERS: usize = 3;

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.now.netns.iter().all(|n| n.sysctl(Sysctl::Ipv4IpLocalPortRange).is_none()) {
        return Outcome::not_checked("ip_local_port_range could not be read");
    }
    let mut outcome = Outcome::default();
    for route in view.routes() {
        let used = port_use::of(view, route);
        if used.wants_second {
            outcome.wants_second.get_or_insert_with(|| {
                format!(
                    "{} ports from {} to {} are in use; are more taken?",
                    text::of(route.ports.blocked().into(), route.ports.usable.into()),
                    route.ports.source,
                    route.ports.destination
                )
            });
        }
        if let Some(severity) = used.severity {
            outcome.findings.push(finding(view, route, &used, severity));
        }
    }
    outcome
}

fn finding(view: &View<'_>, route: &Route<'_>, used: &Use, severity: Severity) -> Finding {
    let users = port_use::users(view, route);
    let lead = users.lead.as_ref();
    let (low, high) = view.netns(route.ports.netns).map_or((0, 0), crate::model::snapshot::Netns::port_range);
    let held: Vec<&Socket> = route.rows.iter().copied().filter(|s| s.inode.is_some()).collect();
    let plain = || route.rows.iter().filter(|s| s.local.port % 2 == low % 2).count();
    let binds =
        held.len() * 2 > route.rows.len() && port_choice::choice(&held, low, route.ports.usable, plain).is_bind();
    let (confidence, reason) = match lead {
        Some(user) => (user.confidence, format!("every port was counted against the range; {}", user.reason)),
        None => (0.95, format!("every port was counted against the range; {}", users.unknown)),
    };
    let steps = TEXT.remedy.iter().enumerate();
    let steps = steps.filter(|(i, _)| *i != if binds { NOT_FOR_BINDERS } else { FOR_BINDERS }).map(|(_, step)| *step);
    let left = used.left_ms.map(|ms| if ms == 0 { Measure::Exact(0) } else { Measure::Estimate(ms) });
    let mut finding = RULE
        .finding(severity, confidence, summary(view, route, used, &users))
        .steps(steps)
        .because(reason)
        .causes(causes(route, binds))
        .about(route.rows.iter().copied())
        .subject(Subject {
            netns: route.ports.netns,
            pid: lead.and_then(port_use::User::pid),
            comm: lead.map(|user| user.comm.clone()),
            pids: lead.map(|user| user.pids.clone()).unwrap_or_default(),
            source: Some(route.ports.source),
            destination: Some(route.ports.destination),
            ..Subject::default()
        })
        .exhausted_in(left)
        .evidence("ports_blocked", Evidence::Count(route.ports.blocked().into()))
        .evidence("ports_usable", Evidence::Count(route.ports.usable.into()))
        .evidence("fill_percent", Evidence::Percent(route.ports.fill_percent()))
        .evidence("time_wait", Evidence::Count(route.ports.taken.time_wait.into()))
        .evidence("live", Evidence::Count(route.ports.taken.live.into()))
        .evidence("fin_wait2_minis", Evidence::Count(route.ports.taken.fin_wait2_minis.into()))
        .evidence("bound_or_listening", Evidence::Count(route.ports.bound.into()))
        .evidence("time_wait_reusable", Evidence::Count(route.ports.taken.reusable.into()))
        .evidence("youngest_time_wait_ms", Evidence::millis(ports::youngest_ms(&route.rows)));
    if view.before.is_some() {
        finding = finding
            .evidence("new_per_second", Evidence::PerSecond(used.rate.map_or(0.0, Rate::per_second)))
            .evidence("sustainable_per_second", Evidence::PerSecond(route.sustainable()))
            .evidence("exhausted_in_ms", Evidence::millis(used.left_ms));
    }
    finding = finding
        .evidence("port_range", Evidence::Text(format!("{low}-{high}")))
        .evidence("tcp_tw_reuse", Evidence::count(route.reuse_mode))
        .evidence("reuse_applies", Evidence::Text(if route.reuse_applies { "yes" } else { "no" }.into()));
    if !users.list.is_empty() {
        finding = finding.evidence("programs", Evidence::List(users.list));
    }
    if let Some(recycled) = view.delta(route.ports.netns, Counter::TcpExtTwRecycled) {
        finding = finding.evidence("time_wait_recycled", Evidence::Count(recycled));
    }
    finding.next(match lead {
        Some(_) => format!("tcpstate list -o --peer {}", route.ports.destination),
        // TIME_WAIT has no owner; a trace sees who closes.
        None => "tcpstate doctor --trace 5s --rule ephemeral-port-exhaustion".to_owned(),
    })
}

fn summary(view: &View<'_>, route: &Route<'_>, used: &Use, users: &Users) -> String {
    let who = users.lead.as_ref().map(|user| format!("{}: ", user.name())).unwrap_or_default();
    let head = format!(
        "{who}{} ports from {} to {} are in use",
        text::of(route.ports.blocked().into(), route.ports.usable.into()),
        route.ports.source,
        route.ports.destination
    );
    match (used.left_ms, used.rate) {
        (Some(0), _) => format!("{head}: connect() to there fails now (EADDRNOTAVAIL)"),
        (Some(ms), Some(rate)) => {
            format!("{head}, {rate} more are taken, and the rest lasts about {}", text::duration(ms))
        }
        (_, Some(rate)) => format!("{head}; {rate} are taken, and as many become free in time"),
        (_, None) if view.before.is_some() => format!("{head}; no more were taken in the last {}", interval(view)),
        (_, None) => {
            let left = route.rows.iter().filter(|s| s.state == State::TimeWait).count();
            match left {
                0 => head,
                n => {
                    let n = text::count(n as u64, "connection", "connections");
                    format!("{head}; at least {n} to there ended in the last minute")
                }
            }
        }
    }
}

fn interval(view: &View<'_>) -> String {
    view.interval_ms().map(text::duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, time_wait};
    use crate::model::State;

    #[test]
    fn what_the_blocked_ports_are_is_the_cause() {
        let left = |old, live| -> Vec<_> {
            let finding = world(old, 0, live).check(check).findings.remove(0);
            finding.causes.left.iter().map(|h| h.cause.id).collect()
        };
        assert_eq!(left(120, 0), ["churn", "small-range"]);
        assert_eq!(left(0, 190), ["held", "small-range"]);
        assert_eq!(left(90, 10), ["churn", "small-range", "held"], "a tenth of the blocked ports");
        assert_eq!(left(100, 11), ["churn", "small-range"], "less than a tenth");
    }

    /// A range of 200 ports: `old` TIME_WAIT rows, then `new` that appeared in the last two seconds, and a pool.
    fn world(old: u32, new: u32, live: u32) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_199]).sysctl(Sysctl::Ipv4TcpTwReuse, &[2]);
        for i in 0..old {
            world.add(time_wait(
                &format!("10.0.0.1:{}", 20_000 + i),
                "10.0.0.2:80",
                57_000 - i * (57_000 / old.max(1)),
            ));
        }
        for i in 0..live {
            let socket = row(State::Established, &format!("10.0.0.1:{}", 20_199 - i), "10.0.0.2:80");
            let inode = socket.inode;
            world.add(socket).hold(77, "pool", 3 + i, inode);
        }
        world.later(2000);
        for i in 0..new {
            let at = format!("10.0.0.1:{}", 20_000 + old + i);
            world.add(time_wait(&at, "10.0.0.2:80", 60_000 - i * 2000 / new));
        }
        world
    }

    fn judged(world: &World) -> Option<Severity> {
        let outcome = world.check(check);
        assert!(outcome.findings.len() <= 1);
        outcome.findings.first().map(|f| f.severity)
    }

    #[test]
    fn the_ladder_follows_what_was_taken_between_the_samples() {
        assert_eq!(judged(&world(90, 6, 3)), None, "below half, and 3 a second fit");
        assert_eq!(judged(&world(98, 0, 2)), Some(Severity::Info), "half, and nothing is taken any more");
        assert_eq!(judged(&world(96, 6, 2)), Some(Severity::Info), "half, and 3 a second fit");
        assert_eq!(judged(&world(60, 16, 3)), Some(Severity::Warning), "out within a minute");
        assert_eq!(judged(&world(100, 40, 3)), Some(Severity::High), "out within ten seconds");
        assert_eq!(judged(&world(196, 0, 3)), Some(Severity::Info), "one is left and nobody wants it");
        assert_eq!(judged(&world(193, 3, 3)), Some(Severity::Critical), "taken as soon as it expires");
        assert_eq!(judged(&world(197, 0, 3)), Some(Severity::Critical), "none is left");
        assert_eq!(judged(&world(0, 0, 179)), Some(Severity::Info), "a large pool");
        assert_eq!(judged(&world(0, 0, 180)), Some(Severity::Warning), "no room");
    }

    #[test]
    fn one_sample_proves_no_rate_and_asks_for_a_second() {
        let mut once = world(90, 60, 3);
        once.before = None;
        let outcome = once.check(check);
        assert!(outcome.wants_second.is_some());
        let finding = &outcome.findings[0];
        assert_eq!((finding.severity, finding.exhausted_in_ms), (Severity::Info, None));
        assert!(finding.summary.contains("at least 150 connections"), "{}", finding.summary);
        // The newest is three seconds old: a burst that has ended.
        let mut over = world(150, 0, 3);
        over.before = None;
        assert_eq!(over.check(check).wants_second, None);
    }

    #[test]
    fn a_burst_that_ended_between_the_samples_is_no_rate() {
        let mut ended = world(60, 40, 3);
        for row in ended.now.sockets.iter_mut().rev().take(40) {
            row.timer.as_mut().unwrap().remaining_ms -= 1500;
        }
        assert_eq!(judged(&ended), Some(Severity::Info));
    }

    #[test]
    fn who_turns_connections_over_is_named_and_not_who_has_a_pool() {
        let mut world = world(100, 40, 30);
        let unknown = world.check(check).findings.remove(0);
        assert_eq!((unknown.subject.pid, unknown.subject.comm), (None, None));
        assert!(unknown.confidence_reason.contains("not known which of pool (77)"), "{}", unknown.confidence_reason);
        // Three that live are new, and in the hands of another.
        for i in 0..3 {
            let socket = row(State::Established, &format!("10.0.0.1:{}", 20_145 + i), "10.0.0.2:80");
            let inode = socket.inode;
            world.add(socket).hold(78, "bench", 3 + i, inode);
        }
        let named = world.check(check).findings.remove(0);
        assert_eq!((named.subject.pid, named.subject.comm.as_deref()), (Some(78), Some("bench")));
        assert!(named.summary.starts_with("bench (78): "), "{}", named.summary);
    }

    #[test]
    fn the_same_count_over_many_destinations_is_silent() {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_199]).sysctl(Sysctl::Ipv4TcpTwReuse, &[2]);
        for i in 0..190u32 {
            world.add(time_wait(
                &format!("10.0.0.1:{}", 20_000 + i),
                &format!("10.0.1.{}:80", i % 40 + 1),
                60_000 - i * 250,
            ));
        }
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn server_side_remainders_use_no_ephemeral_port() {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_199]).add(crate::diagnose::testkit::listen(
            "10.0.0.2:80",
            0,
            5,
        ));
        for i in 0..190u32 {
            world.add(time_wait("10.0.0.2:80", &format!("10.0.0.1:{}", 20_000 + i), 30_000));
        }
        assert_eq!(world.check(check), Outcome::default());
    }
}
