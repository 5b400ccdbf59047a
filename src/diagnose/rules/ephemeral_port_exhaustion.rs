//! New outgoing connections to one destination are about to fail, or already fail, because every local port that could
//! be used for it is taken.
//!
//! Comes in: routes with their ports. Goes out: one finding per route that is short of them. Never here: the count of
//! TIME_WAIT by itself.
//!
#![doc = include_str!("../../../docs/rules/ephemeral-port-exhaustion.md")]

use crate::diagnose::Outcome;
use crate::diagnose::attribution::{self, Candidate};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject, Topic};
use crate::diagnose::ports::{self, Route};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::Socket;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::text;

pub(super) const RULE: Rule =
    rule!("ephemeral-port-exhaustion", Ports, OneOrTwo, "no local port is left for one destination", check, [TEXT])
        .topic(Topic::PortExhaustion)
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

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.now.netns.iter().all(|n| n.sysctl(Sysctl::Ipv4IpLocalPortRange).is_none()) {
        return Outcome::not_checked("ip_local_port_range could not be read");
    }
    let mut findings = Vec::new();
    for route in view.routes() {
        let Some(severity) = ports::severity(route, view.thresholds) else { continue };
        findings.push(finding(view, route, severity));
    }
    Outcome::findings(ranking::worst(findings))
}

fn finding(view: &View<'_>, route: &Route<'_>, severity: Severity) -> Finding {
    let owners = owners(view, route);
    let lead = owners.first();
    let who = lead.map_or_else(|| "an unknown process".to_owned(), |c| text::named(&c.comm, c.pid).to_string());
    let end = route.exhausted_in_ms();
    let state = match end {
        Some(0) => "no port is left: connect() fails with EADDRNOTAVAIL".to_owned(),
        Some(ms) => format!("they run out in {} at {:.0} new ones a second", text::duration(ms), route.rate),
        None => format!("{:.0} % of the range", route.fill_percent()),
    };
    let (low, high) = view.netns(route.netns).map_or((0, 0), crate::model::snapshot::Netns::port_range);
    let bound_style = parity_suggests_bind(route, low);
    let (confidence, reason) = if bound_style {
        (0.7, "the ports look as if bound before connecting, and such ports are denied to other destinations too")
    } else {
        (0.95, "every blocked port was counted against the range of this namespace")
    };
    let mut finding = RULE
        .finding(
            severity,
            confidence,
            format!(
                "{who} uses {} of {} ports from {} to {}: {state}",
                route.blocked(),
                route.usable,
                route.source,
                route.destination
            ),
        )
        .because(reason)
        .subject(Subject {
            netns: route.netns,
            pid: lead.map(|c| c.pid),
            comm: lead.map(|c| c.comm.clone()),
            pids: owners.iter().map(|c| c.pid).collect(),
            source: Some(route.source),
            destination: Some(route.destination),
            ..Subject::default()
        })
        .evidence("ports_blocked", Evidence::Count(route.blocked().into()))
        .evidence("ports_usable", Evidence::Count(route.usable.into()))
        .evidence("fill_percent", Evidence::Percent(route.fill_percent()))
        .evidence("time_wait", Evidence::Count(route.time_wait.into()))
        .evidence("live", Evidence::Count(route.live.into()))
        .evidence("fin_wait2_minis", Evidence::Count(route.fin_wait2_minis.into()))
        .evidence("bound_or_listening", Evidence::Count(route.bound.into()))
        .evidence("time_wait_reusable", Evidence::Count(route.reusable.into()))
        .evidence("connects_per_second", Evidence::PerSecond(route.rate))
        .evidence("sustainable_per_second", Evidence::PerSecond(route.sustainable()))
        .evidence("exhausted_in_ms", Evidence::millis(end))
        .evidence("port_range", Evidence::Text(format!("{low}-{high}")))
        .evidence("tcp_tw_reuse", Evidence::count(route.reuse_mode))
        .evidence("reuse_applies", Evidence::Text(if route.reuse_applies { "yes" } else { "no" }.into()));
    if !owners.is_empty() {
        finding = finding.evidence("owners", Evidence::List(attribution::in_words(&owners)));
    }
    if let Some(recycled) = view.delta(route.netns, Counter::TcpExtTwRecycled) {
        finding = finding.evidence("time_wait_recycled", Evidence::Count(recycled));
    }
    finding.next(match lead {
        Some(_) => format!("tcpstate list -o --peer {}", route.destination),
        // TIME_WAIT has no owner; who opens connections now does.
        None => "tcpstate doctor --trace 5s --rule ephemeral-port-exhaustion".to_owned(),
    })
}

/// Live rows name their owner; what is left behind is attributed.
fn owners(view: &View<'_>, route: &Route<'_>) -> Vec<Candidate> {
    let mut held: std::collections::BTreeMap<u32, (usize, String)> = std::collections::BTreeMap::new();
    for row in route.rows.iter().filter(|s| s.inode.is_some()) {
        for process in view.processes(row) {
            held.entry(process.pid).or_insert((0, process.comm.clone())).0 += 1;
        }
    }
    let left: Vec<&Socket> = route.rows.iter().copied().filter(|s| s.inode.is_none()).collect();
    let total: usize = held.values().map(|(n, _)| n).sum();
    if total > left.len() {
        let mut owners: Vec<Candidate> = held
            .into_iter()
            .map(|(pid, (n, comm))| Candidate {
                pid,
                comm,
                pids: vec![pid],
                share: n as f64 / total as f64,
                confidence: 0.97,
                reason: format!("it holds {n} of these connections"),
            })
            .collect();
        owners.sort_by(|a, b| b.share.total_cmp(&a.share));
        owners.truncate(3);
        return owners;
    }
    attribution::attribute(view, &left)
}

/// connect() takes the ports of the parity of the range's first one; bind(0) takes the others.
fn parity_suggests_bind(route: &Route<'_>, low: u16) -> bool {
    let other = route.rows.iter().filter(|s| s.local.port % 2 != low % 2).count();
    let same = route.rows.len() - other;
    route.rows.len() >= 16 && other * 10 >= route.rows.len() * 9 && same * 2 < route.usable as usize / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, row, time_wait};
    use crate::model::State;

    fn world(left: u32, per_second: u32, live: u32) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4IpLocalPortRange, &[20_000, 20_199]).sysctl(Sysctl::Ipv4TcpTwReuse, &[2]);
        for i in 0..left {
            let age = (i * 1000 / per_second).min(59_000);
            world.add(time_wait(&format!("10.0.0.1:{}", 20_000 + i), "10.0.0.2:80", 60_000 - age));
        }
        for i in 0..live {
            let socket = row(State::Established, &format!("10.0.0.1:{}", 20_199 - i), "10.0.0.2:80");
            let inode = socket.inode;
            world.add(socket).hold(77, "load", 3 + i, inode);
        }
        world
    }

    fn judged(world: &World) -> Option<(Severity, Option<u32>)> {
        let outcome = world.check(check);
        assert!(outcome.findings.len() <= 1);
        outcome.findings.first().map(|f| (f.severity, f.subject.pid))
    }

    #[test]
    fn the_ladder_follows_fill_rate_and_time() {
        assert_eq!(judged(&world(40, 4, 3)), None, "a fifth of the range at a rate that fits nearly");
        assert_eq!(judged(&world(105, 2, 3)), Some((Severity::Warning, Some(77))), "past half");
        assert_eq!(judged(&world(60, 5, 3)), Some((Severity::High, Some(77))), "out within a minute");
        assert_eq!(judged(&world(150, 40, 3)), Some((Severity::Critical, Some(77))), "out within ten seconds");
        assert_eq!(judged(&world(197, 200, 3)), Some((Severity::Critical, Some(77))), "used up");
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
