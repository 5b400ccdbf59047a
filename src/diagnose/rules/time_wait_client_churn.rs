//! A process on this host opens many short connections and closes them first, so their ports rest in TIME_WAIT.
//!
//! Input: routes with their ports. Output: one explanation per route that churns and is not short of ports. Not here: what
//! `ephemeral-port-exhaustion` says already.
//!
#![doc = include_str!("../../../docs/rules/time-wait-client-churn.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::port_use;
use crate::diagnose::ports::{self, Route};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::model::counter::Counter;
use crate::text;

pub(super) const RULE: Rule =
    rule!("time-wait-client-churn", Ports, OneOrTwo, "a client opens and closes at a high rate", check, [TEXT])
        .states(&[State::TimeWait])
        .title("client without reuse")
        .identity(Identity::Destination)
        .topic(Topic::TimeWaitClient)
        .causes(CAUSES);

const TEXT: Text = Text {
    why: "The side that closes first keeps the connection in TIME_WAIT for 60 s, and with it one local port towards \
          this destination. The count by itself does no harm; the rate decides whether ports last.",
    remedy: &[
        "Reuse connections in the named process: keep-alive, a pool, HTTP/2",
        "Let the server close first where the protocol allows it",
    ],
    avoid: &[
        "Don't set tcp_tw_recycle: it is gone since Linux 4.12, and it dropped clients behind NAT",
        "Don't lower tcp_fin_timeout or tcp_max_tw_buckets: neither shortens TIME_WAIT",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "no-reuse",
        text: "the client makes a connection for each request",
        predicts: "no connection to the destination stays open",
        refuted_by: "connections to it that are held in both samples",
        decided_by: "`tcpstate trace`: how long each lives, and what it carries",
    },
    Cause {
        id: "pool-overflows",
        text: "a pool is too small, or its idle limit too short, and connections are made and closed around it",
        predicts: "connections to the destination that stay open beside those that end",
        refuted_by: "none that stays open",
        decided_by: "the size of the pool against the requests at one time",
    },
    Cause {
        id: "retries",
        text: "the client repeats what fails",
        predicts: "connection attempts that fail, or connections that end by reset, in the same time",
        refuted_by: "none of either between the samples",
        decided_by: "the errors in the client's log; AttemptFails and EstabResets in `nstat -az`",
    },
];

/// Which causes are left.
fn causes(view: &View<'_>, route: &Route<'_>) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    let open = |s: &&&crate::model::Socket| s.state == State::Established;
    let stays = route.rows.iter().filter(open).any(|s| view.earlier(s).is_some());
    let live = route.rows.iter().filter(open).count() > 0;
    let failed = [Counter::TcpAttemptFails, Counter::TcpEstabResets].map(|c| view.delta(route.ports.netns, c));
    let failed = failed.into_iter().try_fold(0, |sum, n| n.map(|n| sum + n));
    Weighed::of(CAUSES, |cause| match cause.id {
        "no-reuse" if stays => refuted("connections to it stay open"),
        "no-reuse" => Weight::Possible(0.7),
        "pool-overflows" if !live => refuted("none is open"),
        "pool-overflows" if view.before.is_some() && !stays => refuted("none stays open"),
        "pool-overflows" => Weight::Possible(if stays { 0.6 } else { 0.2 }),
        _ => match failed {
            Some(0) => refuted("no attempt failed, and none ended by reset"),
            Some(_) => Weight::Possible(0.3),
            None => Weight::Possible(0.1),
        },
    })
}

/// Part of the ports in TIME_WAIT, and part of the rate that the range sustains, that are worth an explanation.
const WORTH_PERCENT: f64 = 25.0;
const WORTH_RATE: f64 = 0.5;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut findings = Vec::new();
    for route in view.routes() {
        let left = route.rows.iter().filter(|s| s.state == State::TimeWait).count();
        let share = left as f64 * 100.0 / f64::from(route.ports.usable.max(1));
        let used = port_use::of(view, route);
        let busy = used.rate.is_some_and(|r| r.per_second() >= WORTH_RATE * ports::sustainable_of(route.ports.usable));
        if used.severity.is_some() || left < 5 || !(busy || share >= WORTH_PERCENT) {
            continue;
        }
        let users = port_use::users(view, route);
        let lead = users.lead.as_ref();
        let who = lead.map_or_else(|| "a client here".to_owned(), port_use::User::name);
        let so_far = format!(
            "{who} closes its connections from {} to {} first: {} ended so in the last minute",
            route.ports.source,
            route.ports.destination,
            text::grouped(left as u64)
        );
        let summary = match (used.rate, ports::youngest_ms(&route.rows)) {
            (Some(rate), _) => format!("{so_far}, {rate} are opened"),
            (None, Some(ms)) => format!("{so_far}, the last of them {} ago", text::duration(ms)),
            (None, None) => so_far,
        };
        findings.push(
            RULE.finding(Severity::Info, lead.map_or(0.95, |user| user.confidence), summary)
                .because(lead.map_or_else(|| users.unknown.clone(), |user| user.reason.clone()))
                .causes(causes(view, route))
                .about(route.rows.iter().copied().filter(|s| s.state == State::TimeWait))
                .subject(Subject {
                    netns: route.ports.netns,
                    pid: lead.and_then(port_use::User::pid),
                    comm: lead.map(|user| user.comm.clone()),
                    pids: lead.map(|user| user.pids.clone()).unwrap_or_default(),
                    source: Some(route.ports.source),
                    destination: Some(route.ports.destination),
                    ..Subject::default()
                })
                .evidence("time_wait", Evidence::Count(left as u64))
                .evidence(
                    "new_per_second",
                    used.rate.map_or(Evidence::Unknown, |r| Evidence::PerSecond(r.per_second())),
                )
                .evidence("sustainable_per_second", Evidence::PerSecond(route.sustainable()))
                .evidence("share_of_ports_percent", Evidence::Percent(share))
                .evidence("live", Evidence::Count(route.ports.taken.live.into()))
                .evidence("programs", Evidence::List(users.list))
                .next(format!("tcpstate list -o state time-wait and dst {}", route.ports.destination)),
        );
    }
    Outcome::findings(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, time_wait};
    use crate::model::sysctl::Sysctl;

    fn world(count: u32, per_second: u32) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 21_199]).sysctl(Sysctl::Ipv4TcpTwReuse, &[0]);
        for i in 0..count {
            world.add(time_wait(
                &format!("10.0.0.1:{}", 20_000 + i),
                "10.0.0.2:80",
                60_000 - (i * 1000 / per_second).min(59_000),
            ));
        }
        world
    }

    #[test]
    fn connections_that_stay_and_attempts_that_fail_tell_why() {
        let left = |pooled: bool, failed: u64| -> Vec<_> {
            let mut world = world(400, 5);
            if pooled {
                world.add(crate::diagnose::testkit::row(State::Established, "10.0.0.1:21000", "10.0.0.2:80"));
            }
            world.counter(Counter::TcpAttemptFails, 7).counter(Counter::TcpEstabResets, 7).later(2000);
            world.counter(Counter::TcpAttemptFails, 7 + failed);
            let finding = world.check(check).findings.remove(0);
            finding.causes.left.iter().map(|h| h.cause.id).collect()
        };
        assert_eq!(left(false, 0), ["no-reuse"]);
        assert_eq!(left(false, 1), ["no-reuse", "retries"]);
        assert_eq!(left(true, 0), ["pool-overflows"]);
    }

    #[test]
    fn a_quarter_of_the_ports_is_an_explanation_and_never_more() {
        let outcome = world(300, 6).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, None));
        assert!(finding.summary.contains("300 ended so in the last minute, the last of them 0.0 s ago"));
        assert_eq!(world(299, 6).check(check), Outcome::default());
        // Past half of the range another rule tells more.
        assert_eq!(world(600, 10).check(check), Outcome::default());
    }

    #[test]
    fn half_of_the_rate_that_fits_is_told_when_two_samples_prove_it() {
        // 1200 ports sustain 20 a second.
        for (new, found) in [(20, 1), (19, 0)] {
            let mut world = world(100, 12);
            world.later(2000);
            for i in 0..new {
                world.add(time_wait(&format!("10.0.0.1:{}", 20_900 + i), "10.0.0.2:80", 59_900 - i * 90));
            }
            assert_eq!(world.check(check).findings.len(), found, "{new}");
        }
    }
}
