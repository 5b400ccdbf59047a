//! Keepalive probes of idle connections have no answer: the other end, or the way to it, is gone.
//!
//! Input: held connections whose keepalive timer counts probes. Output: one finding per owner and peer. Not here: data that is not
//! acknowledged (`dead-peer-retransmit`), and connections that nothing checks (`idle-no-keepalive`).
//!
#![doc = include_str!("../../../docs/rules/keepalive-unanswered.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::reach::Reach;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::{Endpoint, Socket, State, TimerKind};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "keepalive-unanswered",
    Established,
    One,
    "keepalive probes of idle connections have no answer",
    check,
    [TEXT]
)
.states(&[State::Established])
.topic(Topic::Keepalive)
.title("keepalive unanswered")
.identity(Identity::ProgramAndDestination)
.causes(CAUSES);

const HOST: &str = "Check that the host of {peer} runs and is reached: `ping`, its console, the way to it";
const LIMIT: &str = "Find the idle limit on the way (NAT, firewall, load balancer) and set TCP_KEEPIDLE below it, so that no flow is \
                     forgotten";
const DROP: &str =
    "Let the program drop these connections, or wait: the kernel ends each with ETIMEDOUT after TCP_KEEPCNT probes";

const TEXT: Text = Text {
    why: "An idle connection to a host that is gone looks open. Keepalive asks, and nobody answers: whatever is sent on it next is \
          lost, and its program learns of that only when the kernel gives up.",
    remedy: &[HOST, LIMIT, DROP],
    avoid: &["Don't turn keepalive off: without it the connections stay open for ever"],
};

/// What keeps the answers away.
const CAUSES: &[Cause] = &[
    Cause {
        id: "peer-gone",
        text: "the peer's host, or the way to it, is down",
        predicts: "no connection to the address is heard any more",
        refuted_by: "a segment from the address since the probes began",
        decided_by: "`ping` to the address, the console of that host",
    },
    Cause {
        id: "backend-gone",
        text: "one of several hosts behind that address is gone",
        predicts: "some connections of the address die while others work",
        refuted_by: "no other connection to the address is heard",
        decided_by: "the load balancer's list of backends, if the address is one's",
    },
    Cause {
        id: "path-forgot-flow",
        text: "a NAT or firewall on the path forgot these connections",
        predicts: "they were idle before the probes, and other connections to the address work",
        refuted_by: "nothing: a device may forget some and not others",
        decided_by: "the idle limit of NAT, firewall or load balancer against the time that they were idle",
    },
];

/// The answer to one probe may be on its way.
const UNANSWERED: u8 = 2;
/// Connections of one program to one peer that are no chance (policy).
const SEVERAL: usize = 2;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let rows: Vec<&Socket> = view.active().filter(|s| is_unanswered(s)).collect();
    if rows.is_empty() {
        return Outcome::default();
    }
    let places = rows.iter().map(|s| (s.netns, Endpoint::new(s.peer.normalised().addr, 0)));
    let reach = Reach::new(view, places);
    let groups = Peers::new(view).groups(rows.iter().copied(), false);
    let mut findings = Vec::new();
    for group in &groups {
        // Each peer by itself, and what we opened apart from what clients did.
        let mut places: BTreeMap<(IpAddr, bool), Vec<&Socket>> = BTreeMap::new();
        for row in &group.rows {
            let is_client = silent_peer::is_accepted(view, row);
            places.entry((row.peer.normalised().addr, is_client)).or_default().push(*row);
        }
        findings.extend(places.into_iter().map(|(place, rows)| finding(view, &reach, group, place, &rows)));
    }
    Outcome::findings(ranking::alike(findings))
}

/// Keepalive probes since the peer was heard (`icsk_probes_out`, which any segment of it clears).
fn probes(socket: &Socket) -> u8 {
    socket.timer.filter(|t| t.kind == TimerKind::Keepalive).map_or(0, |t| t.retransmits)
}

/// Whether the peer is silent to several of them.
fn is_unanswered(socket: &Socket) -> bool {
    probes(socket) >= UNANSWERED && peers::is_held(socket, &[State::Established]) && socket.send_q_bytes == Some(0)
}

/// For how long nothing of the peer came.
fn silent_ms(socket: &Socket) -> Option<u64> {
    socket.info.as_deref()?.last_heard_ms().map(u64::from)
}

/// For how long probes have gone out in vain, at least: the wait that is left is a part of the time between two.
fn probed_ms(socket: &Socket) -> Option<u64> {
    Some(u64::from(probes(socket).saturating_sub(1)) * u64::from(socket.timer?.remaining_ms))
}

fn finding(
    view: &View<'_>,
    reach: &Reach<'_, '_>,
    group: &Group<'_>,
    (addr, is_client): (IpAddr, bool),
    rows: &[&Socket],
) -> Finding {
    let n = rows.len() as u64;
    let silent = rows.iter().filter_map(|s| silent_ms(s)).min();
    let least = rows.iter().map(|s| u64::from(probes(s))).min().unwrap_or(0);
    // What was heard before the probes began says nothing, nor does a connection that is probed itself.
    let since = rows.iter().filter_map(|s| probed_ms(s)).max().unwrap_or(0);
    let others = reach.address(group.netns, addr, since).filter(|other| probes(other) == 0).count() as u64;
    // Clients come and go, and a server loses nothing by those that are gone.
    let severity = if !is_client && rows.len() >= SEVERAL { Severity::Warning } else { Severity::Info };
    let works = || format!("{} to the address were heard since", text::count(others, "connection", "connections"));
    let causes = Weighed::of(CAUSES, |cause| match cause.id {
        "peer-gone" if others > 0 => Weight::Refuted(works()),
        "peer-gone" => Weight::Possible(0.6),
        "backend-gone" if others == 0 => {
            Weight::Refuted("no other connection to the address was heard since".to_owned())
        }
        "backend-gone" => Weight::Possible(0.4),
        _ => Weight::Possible(0.4),
    });
    let silence = silent.map_or_else(String::new, |ms| format!(", silent for {} or more", text::duration(ms)));
    let summary = format!(
        "{} of {} {} {} {least} keepalive probes or more without an answer{silence}",
        text::count(n, "idle connection", "idle connections"),
        group.name(view),
        peers::with_whom(rows),
        if n == 1 { "has" } else { "have" },
    );
    let steps: Vec<&str> =
        causes.left.iter().map(|h| if h.cause.id == "path-forgot-flow" { LIMIT } else { HOST }).collect();
    RULE.finding(severity, 0.9, summary)
        .because("the kernel counts the probes since it last heard the peer")
        .causes(causes)
        .steps(steps.into_iter().chain([DROP]))
        .fill("peer", addr)
        .lasting(silent.map(Measure::AtLeast))
        .subject(group.subject(view))
        .about(rows.iter().copied())
        .evidence("connections", Evidence::Count(n))
        .evidence("probes_unanswered_min", Evidence::Count(least))
        .evidence("silent_min_ms", Evidence::millis(silent))
        .evidence("heard_to_the_address", Evidence::Count(others))
        .next(format!("tcpstate list --state established -o -i{}", group.selection()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, timer};

    fn probed(local: &str, peer: &str, probes: u8) -> Socket {
        let stamps = [("last_ack_recv_ms", 13_000), ("last_data_recv_ms", 14_000)];
        timer(info(row(State::Established, local, peer), &stamps), TimerKind::Keepalive, 600, probes)
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        world.add(listen("10.0.0.1:22", 0, 128));
        for socket in rows {
            world.hold(812, "pool", u32::from(socket.local.port), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn a_pool_whose_probes_nobody_answers_is_a_warning() {
        let rows = [probed("10.0.0.1:40000", "10.0.0.2:5432", 5), probed("10.0.0.1:40001", "10.0.0.2:5432", 6)];
        let finding = world(rows.clone()).check(check).findings.remove(0);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)), "{finding:#?}");
        assert_eq!(
            finding.summary,
            "2 idle connections of pool (812) with 10.0.0.2:5432 have 5 keepalive probes or more without an answer, silent for \
             13 s or more"
        );
        assert_eq!(finding.causes.left[0].cause.id, "peer-gone");
        // Another connection to the host is heard.
        let stamps = [("last_ack_recv_ms", 50), ("last_data_recv_ms", 50)];
        let lives = info(row(State::Established, "10.0.0.1:40002", "10.0.0.2:5432"), &stamps);
        // Heard before the probes began, and probed itself.
        let early = probed("10.0.0.1:40003", "10.0.0.2:5432", 1);
        let old = info(
            row(State::Established, "10.0.0.1:40004", "10.0.0.2:5432"),
            &[("last_ack_recv_ms", 12_000), ("last_data_recv_ms", 12_000)],
        );
        let neither = world(rows.clone().into_iter().chain([early, old])).check(check).findings.remove(0);
        assert_eq!(neither.causes.left[0].cause.id, "peer-gone", "{neither:#?}");
        let beside = world(rows.into_iter().chain([lives])).check(check).findings.remove(0);
        let left: Vec<&str> = beside.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["backend-gone", "path-forgot-flow"], "{beside:#?}");
    }

    #[test]
    fn one_connection_or_a_client_that_is_gone_is_no_warning() {
        let one = world([probed("10.0.0.1:40000", "10.0.0.2:5432", 5)]).check(check);
        assert_eq!(one.findings[0].severity, Severity::Info);
        let clients = [probed("10.0.0.1:22", "10.0.0.9:5000", 5), probed("10.0.0.1:22", "10.0.0.9:5001", 5)];
        assert!(world(clients).check(check).findings.iter().all(|f| f.severity == Severity::Info));
    }

    #[test]
    fn probes_that_are_answered_or_not_due_are_silent() {
        let rows = [
            probed("10.0.0.1:40000", "10.0.0.2:5432", 0),
            probed("10.0.0.1:40001", "10.0.0.2:5432", 1),
            timer(row(State::FinWait2, "10.0.0.1:40002", "10.0.0.2:5432"), TimerKind::Keepalive, 600, 3),
        ];
        assert_eq!(world(rows).check(check), Outcome::default());
    }
}
