//! Many connections that this host has closed completely wait for peers that do not close their side.
//!
//! Input: FIN_WAIT2 remainders, beside the TIME_WAIT of the same place. Output: one finding per listener or
//! destination. Not here: the local process as the culprit (it has closed).
//!
#![doc = include_str!("../../../docs/rules/fin-wait2-orphan-pileup.md")]

use rustc_hash::FxHashMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing::{self, Group, Place};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{NetnsId, RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("fin-wait2-orphan-pileup", Closing, One, "many peers do not close after us", check, [TEXT])
        .states(&[State::FinWait2])
        .title("peers do not close")
        .identity(Identity::Place)
        .causes(CAUSES);

const CLOSE: &str = "Fix the program at the other end: it does not close after our FIN";
const ACCEPT: &str = "Find out why the program at the other end does not accept: accept-queue-stalled on its host";
const PROXY: &str = "If a proxy or load balancer is the peer, check its half-close and idle timeouts";
const VANISHED: &str = "Nothing, if clients come and go by radio: what vanished is forgotten after tcp_fin_timeout";
const TABLE: &str = "Only when the table or the ports run out: fewer connections, then a larger tcp_max_tw_buckets";

const TEXT: Text = Text {
    why: "After our close() and the ACK of our FIN the kernel keeps a small entry until the peer's FIN comes, or \
          until tcp_fin_timeout. A pile-up means that peers stay in CLOSE_WAIT: the missing close() is theirs.",
    remedy: &[CLOSE, ACCEPT, PROXY, VANISHED, TABLE],
    avoid: &[
        "Don't raise tcp_fin_timeout above 60: the kernel then counts it twice",
        "Don't lower tcp_max_tw_buckets: the entries that do not fit are dropped without TIME_WAIT",
        "Don't search in the local process: it has closed",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "peer-keeps-open",
        text: "the program at the other end does not close",
        predicts: "the other half is in CLOSE_WAIT, and a process holds it",
        refuted_by: "another half that nobody has accepted",
        decided_by: "close-wait-leak on the host of the peer",
    },
    Cause {
        id: "not-accepted",
        text: "the program at the other end has not accepted the connections",
        predicts: "the other half waits in an accept queue, without a process",
        refuted_by: "another half that a process holds; connections that we accepted",
        decided_by: "accept-queue-stalled and close-wait-unaccepted on the host of the peer",
    },
    Cause {
        id: "peer-timeout",
        text: "a proxy or load balancer keeps its half until its own timeout",
        predicts: "entries that all turn into TIME_WAIT at the same age",
        refuted_by: "another half on this host that a program holds",
        decided_by: "the half-close and idle timeouts of the device",
    },
    Cause {
        id: "peers-vanish",
        text: "clients vanish without closing: phones, laptops, machines that are switched off",
        predicts: "accepted connections of many peers, each with a few",
        refuted_by: "connections that we opened; most of them to one peer; another half that is there",
        decided_by: "the addresses of the peers: mobile networks, or one program",
    },
];

/// A peer that closes does so within a round trip.
const SETTLED_MS: u64 = 1000;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut totals: FxHashMap<Option<NetnsId>, u64> = FxHashMap::default();
    for socket in view.active().filter(|s| is_settled(view, s)) {
        *totals.entry(socket.netns).or_default() += 1;
    }
    let pileup = view.thresholds.pileup_rows;
    if totals.values().all(|n| (*n as f64) < pileup) {
        return Outcome::default();
    }
    let mut findings = Vec::new();
    let mut largest_done: Vec<Option<NetnsId>> = Vec::new();
    for group in closing::groups(view, |s| s.kind == RowKind::TimeWaitMini) {
        let time_wait = group.rows.iter().filter(|s| s.state == State::TimeWait).count() as u64;
        let rows: Vec<&Socket> = group.rows.iter().copied().filter(|s| is_settled(view, s)).collect();
        let count = rows.len() as u64;
        let group = Group { rows, ..group };
        if (count as f64) < pileup || count <= time_wait {
            continue;
        }
        let limit = view.netns(group.netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpMaxTwBuckets));
        let weighs = |n: u64| limit.is_some_and(|l| n as f64 * 100.0 >= l as f64 * view.thresholds.orphan_warn_percent);
        // The limit is the namespace's: when all of them together weigh, the largest group is where to begin.
        let largest = !largest_done.contains(&group.netns);
        largest_done.push(group.netns);
        let total = totals.get(&group.netns).copied().unwrap_or(count);
        let severity = if weighs(count) || (largest && weighs(total)) { Severity::Warning } else { Severity::Info };
        findings.push(finding(view, &group, time_wait, limit, severity));
    }
    Outcome::findings(ranking::alike(findings))
}

/// A remainder that has waited longer than a healthy peer lets it.
fn is_settled(view: &View<'_>, socket: &Socket) -> bool {
    if socket.kind != RowKind::TimeWaitMini || socket.state != State::FinWait2 {
        return false;
    }
    let timeout_ms = view.fin_timeout_ms(socket.netns);
    socket.timer.is_some_and(|t| u64::from(t.remaining_ms) + SETTLED_MS <= timeout_ms)
}

fn finding(view: &View<'_>, group: &Group<'_>, time_wait: u64, limit: Option<u64>, severity: Severity) -> Finding {
    let count = group.rows.len() as u64;
    let ends = closing::other_ends(view, &group.rows);
    let place = closing::subject(view, group);
    let (subject, who, confidence, because) = match ends.first() {
        Some((end, mirror, n)) => (
            Subject { listener: place.listener, destination: place.destination, ..view.subject_of(end, mirror.netns) },
            format!("{} on this host holds {} of them in {}", text::name(end), text::grouped(*n), mirror.state),
            0.97,
            "the other halves are on this host",
        ),
        None => (
            Subject {
                netns: place.netns,
                listener: place.listener,
                destination: place.destination,
                ..Subject::default()
            },
            "the peers got our FIN and do not close".to_owned(),
            0.9,
            "a healthy peer closes within a round trip; these have waited longer",
        ),
    };
    let causes = causes(view, group);
    let steps: Vec<&str> = causes.left.iter().map(|h| step(h.cause.id)).chain([TABLE]).collect();
    let who = if causes.is("not-accepted") { format!("{who}, not accepted") } else { who };
    let n = text::count(count, "connection", "connections");
    // The subject is who does not close, and so is its namespace.
    let elsewhere = subject.netns != group.netns;
    let closed =
        if elsewhere { ", closed in another network namespace of this host, wait" } else { " closed here wait" };
    let mut finding = RULE
        .finding(
            severity,
            confidence,
            format!("{n} {}{closed} for the other side in FIN_WAIT2: {who}", group.place.words()),
        )
        .because(because)
        .causes(causes)
        .subject(subject)
        .about(group.rows.iter().copied())
        .evidence("count", Evidence::Count(count))
        .evidence("time_wait", Evidence::Count(time_wait))
        .evidence("tcp_max_tw_buckets", Evidence::count(limit))
        .evidence(
            "tcp_fin_timeout_seconds",
            Evidence::count(view.netns(group.netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpFinTimeout))),
        )
        .evidence("peers", closing::peers_evidence(&group.rows));
    if let Some(netns) = group.netns.filter(|_| elsewhere) {
        finding = finding.evidence("closed_in_netns", Evidence::Text(netns.to_string()));
    }
    for (end, mirror, _) in ends.iter().take(1) {
        finding = finding.inspect(end.pid, &[*mirror]);
    }
    finding.steps(steps).next(format!("tcpstate list --state fin-wait2 -o {}", group.place.selection()))
}

/// What helps against each cause.
fn step(cause: &str) -> &'static str {
    match cause {
        "peer-keeps-open" => CLOSE,
        "not-accepted" => ACCEPT,
        "peer-timeout" => PROXY,
        _ => VANISHED,
    }
}

/// What the other halves show, where they are on this host, and who the peers are.
fn causes(view: &View<'_>, group: &Group<'_>) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    let halves: Vec<&Socket> = group.rows.iter().filter_map(|s| view.mirror(s)).collect();
    let queued = halves.iter().filter(|m| m.is_unaccepted()).count();
    let held = halves.iter().filter(|m| m.inode.is_some()).count();
    let seen = halves.len() == group.rows.len();
    let opened = matches!(group.place, Place::Destination(_));
    let to_one = closing::top_peers(&group.rows, 1).first().map_or(0, |(_, n)| *n);
    Weighed::of(CAUSES, |cause| match cause.id {
        "peer-keeps-open" if seen && held == halves.len() => Weight::Proven,
        "peer-keeps-open" if seen && held == 0 => refuted("no process holds the other halves"),
        "peer-keeps-open" => Weight::Possible(0.6),
        "not-accepted" if seen && queued == halves.len() => Weight::Proven,
        "not-accepted" if !opened => refuted("we accepted the connections"),
        "not-accepted" if seen && queued == 0 => refuted("none of the other halves waits in an accept queue"),
        "not-accepted" => Weight::Possible(0.2),
        "peer-timeout" if seen => refuted("the other halves are on this host"),
        "peer-timeout" => Weight::Possible(0.2),
        _ if seen => refuted("the other halves are there"),
        _ if opened => refuted("we opened the connections"),
        _ if to_one * 2 > group.rows.len() as u64 => refuted("most of them are of one peer"),
        _ => Weight::Possible(0.5),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, row, time_wait, timer, unheld};
    use crate::model::TimerKind;
    use crate::model::snapshot::Netns;

    fn remainder(client: u16, remaining_ms: u32) -> Socket {
        let base = row(State::FinWait2, &format!("10.0.0.1:{client}"), "10.0.0.9:80");
        Socket {
            kind: RowKind::TimeWaitMini,
            inode: None,
            uid: None,
            shutdown: None,
            ..timer(base, TimerKind::TimeWait, remaining_ms, 0)
        }
    }

    fn world(remainders: u16, time_waits: u16) -> World {
        let mut world = World::new();
        for n in 0..remainders {
            world.add(remainder(40_000 + n, 30_000));
        }
        for n in 0..time_waits {
            world.add(time_wait(&format!("10.0.0.1:{}", 50_000 + n), "10.0.0.9:80", 30_000));
        }
        world.sysctl(Sysctl::Ipv4TcpMaxTwBuckets, &[100]).sysctl(Sysctl::Ipv4TcpFinTimeout, &[60]);
        world
    }

    #[test]
    fn more_than_the_time_wait_of_the_place_is_told_and_a_quarter_of_the_table_warns() {
        let outcome = world(24, 20).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(
            finding.summary,
            "24 connections to 10.0.0.9:80 closed here wait for the other side in FIN_WAIT2: the peers got our FIN \
             and do not close"
        );
        let left: Vec<_> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["peer-keeps-open", "not-accepted", "peer-timeout"]);
        assert_eq!(world(25, 20).check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn a_peer_on_this_host_is_the_culprit() {
        let mut world = world(12, 0);
        for n in 0..12u16 {
            let mirror = row(State::CloseWait, "10.0.0.9:80", &format!("10.0.0.1:{}", 40_000 + n));
            world.hold(900, "backend", 7 + u32::from(n), mirror.inode).add(mirror);
        }
        let finding = world.check(check).findings.remove(0);
        assert_eq!(finding.subject.pid, Some(900));
        assert!(
            finding.confidence >= 0.97 && finding.summary.contains("holds 12 of them in CLOSE_WAIT"),
            "{finding:?}"
        );
    }

    #[test]
    fn what_another_namespace_closed_is_not_closed_here() {
        let mut world = world(12, 0);
        let keeper = NetnsId::new(8);
        world.now.netns.push(Netns { inode: keeper, ..Netns::default() });
        for n in 0..12u16 {
            let mirror = row(State::CloseWait, "10.0.0.9:80", &format!("10.0.0.1:{}", 40_000 + n));
            let mirror = Socket { netns: keeper, ..mirror };
            world.hold(900, "backend", 7 + u32::from(n), mirror.inode).add(mirror);
        }
        let finding = world.check(check).findings.remove(0);
        assert_eq!((finding.subject.pid, finding.subject.netns), (Some(900), keeper));
        assert!(finding.summary.contains("closed in another network namespace of this host"), "{finding:?}");
        let evidence = finding.evidence.iter().find(|(key, _)| *key == "closed_in_netns");
        assert_eq!(evidence.map(|(_, value)| value), Some(&Evidence::Text("1".into())));
    }

    #[test]
    fn other_halves_in_an_accept_queue_and_clients_that_vanish_are_told_apart() {
        let mut queued = world(12, 0);
        for n in 0..12u16 {
            let mirror = row(State::CloseWait, "10.0.0.9:80", &format!("10.0.0.1:{}", 40_000 + n));
            queued.add(unheld(mirror));
        }
        let finding = queued.check(check).findings.remove(0);
        assert!(finding.causes.is("not-accepted"), "{finding:?}");
        // Accepted from 12 addresses, or from one.
        let left = |hosts: u16| {
            let mut world = World::new();
            world.add(listen("10.0.0.1:80", 0, 8));
            for n in 0..12u16 {
                let peer = format!("10.0.1.{}:{}", n % hosts, 40_000 + n);
                let socket =
                    Socket { kind: RowKind::TimeWaitMini, ..unheld(row(State::FinWait2, "10.0.0.1:80", &peer)) };
                world.add(timer(socket, TimerKind::TimeWait, 30_000, 0));
            }
            let finding = world.check(check).findings.remove(0);
            finding.causes.left.iter().map(|h| h.cause.id).collect::<Vec<_>>()
        };
        assert_eq!(left(12), ["peer-keeps-open", "peers-vanish", "peer-timeout"]);
        assert_eq!(left(1), ["peer-keeps-open", "peer-timeout"]);
    }

    #[test]
    fn few_fresh_or_outnumbered_remainders_are_silent() {
        assert_eq!(world(9, 0).check(check), Outcome::default());
        assert_eq!(world(20, 20).check(check), Outcome::default());
        let mut fresh = World::new();
        for n in 0..20u16 {
            fresh.add(remainder(40_000 + n, 59_500));
        }
        assert_eq!(fresh.check(check), Outcome::default());
    }
}
