//! A server on this host closes connections first, so it keeps the TIME_WAIT that a client could have kept.
//!
//! Comes in: TIME_WAIT rows of our listeners. Goes out: one explanation per listener, a warning only where a peer or the
//! kernel suffers. Never here: an alarm over a count.
//!
#![doc = include_str!("../../../docs/rules/time-wait-server-churn.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::attribution;
use crate::diagnose::finding::{Evidence, Severity, Subject, Topic};
use crate::diagnose::ports;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{Endpoint, NetnsId, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("time-wait-server-churn", Ports, One, "a server closes first and keeps the TIME_WAIT", check, [TEXT])
        .states(&[State::TimeWait])
        .topic(Topic::TimeWaitServer);

const TEXT: Text = Text {
    why: "The side that closes first keeps TIME_WAIT for 60 s. On a server that costs a few hundred bytes each and \
          no ephemeral port, and a newer SYN may take the connection over at once.",
    remedy: &[
        "To have less of it, leave keep-alive on and let clients or the load balancer close",
        "Look for `Connection: close` and for health checks that open a connection each time",
    ],
    avoid: &[
        "Don't set tcp_tw_reuse for this: it does nothing for incoming connections",
        "Don't set tcp_tw_recycle: it drops clients behind NAT",
    ],
};

/// Fewer are not worth a line.
const WORTH: usize = 100;
/// Half of the ports that a peer with the kernel's default range has: it is about to run out of its own.
const PEER_LIMIT: usize = 14_116;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut by_listener: BTreeMap<(Option<NetnsId>, Endpoint), Vec<&Socket>> = BTreeMap::new();
    for (socket, role) in view.restless_rows() {
        if let (State::TimeWait, Role::Server(i)) = (socket.state, role) {
            let at = view.listeners(socket.netns).get(i).local;
            by_listener.entry((socket.netns, at)).or_default().push(socket);
        }
    }
    let mut findings = Vec::new();
    for ((netns, at), rows) in by_listener {
        if rows.len() < WORTH {
            continue;
        }
        let mut peers: FxHashMap<IpAddr, usize> = FxHashMap::default();
        for row in &rows {
            *peers.entry(row.peer.normalised().addr).or_default() += 1;
        }
        let mut peers: Vec<(IpAddr, usize)> = peers.into_iter().collect();
        peers.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let crowded = peers.first().is_some_and(|(_, n)| *n > PEER_LIMIT);
        let refused = [Counter::TcpExtPawsTimewait, Counter::TcpExtTcpAckSkippedTimeWait]
            .iter()
            .filter_map(|c| view.delta(netns, *c))
            .sum::<u64>();
        let severity = if crowded || refused > 0 { Severity::Warning } else { Severity::Info };
        let owners = attribution::attribute(view, &rows);
        let lead = owners.first();
        let who = lead.map_or_else(|| "the owner".to_owned(), |c| text::named(&c.comm, c.pid).to_string());
        let rate = ports::rate_of(&rows);
        let harm = match (crowded, refused) {
            (true, _) => format!("; {} holds {} of them and may run out of ports", peers[0].0, peers[0].1),
            (_, 1..) => format!("; {refused} segments of new connections were refused meanwhile"),
            _ => "; this needs no action".to_owned(),
        };
        findings.push(
            RULE.finding(
                severity,
                lead.map_or(0.5, |c| c.confidence),
                format!(
                    "{who} on {at} closes first and leaves {:.0} connections a second in TIME_WAIT ({} now){harm}",
                    rate,
                    rows.len()
                ),
            )
            .because(lead.map_or_else(|| "no process owns the listener any more".to_owned(), |c| c.reason.clone()))
            .subject(Subject {
                netns,
                pid: lead.map(|c| c.pid),
                comm: lead.map(|c| c.comm.clone()),
                pids: lead.map(|c| c.pids.clone()).unwrap_or_default(),
                listener: Some(at),
                ..Subject::default()
            })
            .evidence("time_wait", Evidence::Count(rows.len() as u64))
            .evidence("closes_per_second", Evidence::PerSecond(rate))
            .evidence("peers", Evidence::Count(peers.len() as u64))
            .evidence("top_peers", Evidence::List(peers.iter().take(3).map(|(a, n)| format!("{a}: {n}")).collect()))
            .evidence("refused_segments", Evidence::Count(refused))
            .evidence("owners", Evidence::List(attribution::in_words(&owners)))
            .next(if at.addr.is_unspecified() {
                format!("tcpstate summary --by peer-addr state time-wait and sport = :{}", at.port)
            } else {
                format!("tcpstate summary --by peer-addr state time-wait and src {at}")
            }),
        );
    }
    Outcome::findings(ranking::worst(findings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, time_wait};

    fn world(count: usize) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 511)).hold(9, "nginx", 6, 80 << 16);
        for i in 0..count {
            let peer = format!("10.1.{}.{}:{}", i / 60_000, 1, 1024 + i % 60_000);
            world.add(time_wait("10.0.0.1:80", &peer, 30_000));
        }
        world
    }

    #[test]
    fn many_are_explained_and_few_are_not_mentioned() {
        let outcome = world(3000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(9)));
        // No TIME_WAIT has the wildcard as its own address.
        assert_eq!(finding.next, "tcpstate summary --by peer-addr state time-wait and sport = :80");
        assert_eq!(world(WORTH - 1).check(check), Outcome::default());
    }

    #[test]
    fn a_peer_that_runs_out_or_refused_connections_are_a_warning() {
        assert_eq!(world(PEER_LIMIT + 1).check(check).findings[0].severity, Severity::Warning);
        let mut refused = world(200);
        refused.counter(Counter::TcpExtPawsTimewait, 5).later(2000).counter(Counter::TcpExtPawsTimewait, 6);
        assert_eq!(refused.check(check).findings[0].severity, Severity::Warning);
    }
}
