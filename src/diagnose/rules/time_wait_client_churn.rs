//! A process on this host opens many short connections and closes them first, so their ports rest in TIME_WAIT.
//!
//! Comes in: routes with their ports. Goes out: one finding per route that churns and is not yet short of ports. Never
//! here: what `ephemeral-port-exhaustion` says already.
//!
#![doc = include_str!("../../../docs/rules/time-wait-client-churn.md")]

use crate::diagnose::Outcome;
use crate::diagnose::attribution;
use crate::diagnose::finding::{Evidence, Severity, Subject, Topic};
use crate::diagnose::ports;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("time-wait-client-churn", Ports, One, "a client opens and closes at a high rate", check, [TEXT])
        .states(&[State::TimeWait])
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

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut findings = Vec::new();
    for route in view.routes() {
        let left: Vec<&Socket> = route.rows.iter().copied().filter(|s| s.state == State::TimeWait).collect();
        let share = left.len() as f64 / f64::from(route.usable.max(1));
        let busy = route.rate >= 0.5 * ports::sustainable_of(route.usable);
        if ports::severity(route, view.thresholds).is_some() || left.len() < 5 || !(busy || share >= 0.25) {
            continue;
        }
        // What may be taken over at once presses nobody.
        let severity = if busy && !route.reuse_applies { Severity::Warning } else { Severity::Info };
        let owners = attribution::attribute(view, &left);
        let lead = owners.first();
        let who = lead.map_or_else(
            || "a client (it cannot be told which)".to_owned(),
            |c| text::named(&c.comm, c.pid).to_string(),
        );
        let live = route.rows.len() - left.len();
        findings.push(
            RULE.finding(
                severity,
                lead.map_or(0.5, |c| c.confidence),
                format!(
                    "{who} opens and closes {:.0} connections a second from {} to {} and closes first",
                    route.rate, route.source, route.destination
                ),
            )
            .because(lead.map_or_else(
                || {
                    "the churn is certain, its owner has exited or is idle; `tcpstate watch` attributes exactly"
                        .to_owned()
                },
                |c| c.reason.clone(),
            ))
            .subject(Subject {
                netns: route.netns,
                pid: lead.map(|c| c.pid),
                comm: lead.map(|c| c.comm.clone()),
                source: Some(route.source),
                destination: Some(route.destination),
                ..Subject::default()
            })
            .evidence("time_wait", Evidence::Count(left.len() as u64))
            .evidence("connects_per_second", Evidence::PerSecond(route.rate))
            .evidence("sustainable_per_second", Evidence::PerSecond(route.sustainable()))
            .evidence("share_of_ports_percent", Evidence::Percent(share * 100.0))
            .evidence("live", Evidence::Count(live as u64))
            .evidence("owners", Evidence::List(attribution::in_words(&owners)))
            .next(format!("tcpstate list -o state time-wait and dst {}", route.destination)),
        );
    }
    Outcome::findings(ranking::worst(findings))
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
    fn half_of_what_the_range_sustains_is_a_warning_and_a_quarter_of_the_ports_an_explanation() {
        // 1200 ports sustain 20 a second.
        let outcome = world(200, 12).check(check);
        assert_eq!(outcome.findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Warning]);
        let outcome = world(310, 6).check(check);
        assert_eq!(outcome.findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Info]);
        assert_eq!(world(200, 5).check(check), Outcome::default());
    }
}
