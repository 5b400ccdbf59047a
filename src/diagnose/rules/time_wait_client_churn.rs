//! A process on this host opens many short connections and closes them first, so their ports rest in TIME_WAIT.
//!
//! Input: routes with their ports. Output: one explanation per route that churns and is not short of ports. Not here: what
//! `ephemeral-port-exhaustion` says already.
//!
#![doc = include_str!("../../../docs/rules/time-wait-client-churn.md")]

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Severity, Subject, Topic};
use crate::diagnose::port_use;
use crate::diagnose::ports;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("time-wait-client-churn", Ports, OneOrTwo, "a client opens and closes at a high rate", check, [TEXT])
        .states(&[State::TimeWait])
        .title("client without reuse")
        .identity(Identity::Destination)
        .topic(Topic::TimeWaitClient);

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

/// Part of the ports in TIME_WAIT, and part of the rate that the range sustains, that are worth an explanation.
const WORTH_PERCENT: f64 = 25.0;
const WORTH_RATE: f64 = 0.5;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut findings = Vec::new();
    for route in view.routes() {
        let left = route.rows.iter().filter(|s| s.state == State::TimeWait).count();
        let share = left as f64 * 100.0 / f64::from(route.usable.max(1));
        let used = port_use::of(view, route);
        let busy = used.rate.is_some_and(|r| r.per_second() >= WORTH_RATE * ports::sustainable_of(route.usable));
        if used.severity.is_some() || left < 5 || !(busy || share >= WORTH_PERCENT) {
            continue;
        }
        let users = port_use::users(view, route);
        let lead = users.lead.as_ref();
        let who = lead.map_or_else(|| "a client here".to_owned(), port_use::User::name);
        let so_far = format!(
            "{who} closes its connections from {} to {} first: {left} ended so in the last minute",
            route.source, route.destination
        );
        let summary = match (used.rate, ports::youngest_ms(&route.rows)) {
            (Some(rate), _) => format!("{so_far}, {rate} are opened"),
            (None, Some(ms)) => format!("{so_far}, the last of them {} ago", text::duration(ms)),
            (None, None) => so_far,
        };
        findings.push(
            RULE.finding(Severity::Info, lead.map_or(0.95, |user| user.confidence), summary)
                .because(lead.map_or_else(|| users.unknown.clone(), |user| user.reason.clone()))
                .subject(Subject {
                    netns: route.netns,
                    pid: lead.and_then(port_use::User::pid),
                    comm: lead.map(|user| user.comm.clone()),
                    pids: lead.map(|user| user.pids.clone()).unwrap_or_default(),
                    source: Some(route.source),
                    destination: Some(route.destination),
                    ..Subject::default()
                })
                .evidence("time_wait", Evidence::Count(left as u64))
                .evidence(
                    "new_per_second",
                    used.rate.map_or(Evidence::Unknown, |r| Evidence::PerSecond(r.per_second())),
                )
                .evidence("sustainable_per_second", Evidence::PerSecond(route.sustainable()))
                .evidence("share_of_ports_percent", Evidence::Percent(share))
                .evidence("live", Evidence::Count(route.live.into()))
                .evidence("programs", Evidence::List(users.list))
                .next(format!("tcpstate list -o state time-wait and dst {}", route.destination)),
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
