//! A few clients never answer our SYN-ACKs: these, or the ACKs, are lost on the way.
//!
//! Input: half-open connections per listener, with the repeats of their SYN-ACKs. Output: one finding per listening
//! endpoint. Not here: many sources (`syn-flood`), or a queue that is full (`syn-queue-pressure`,
//! `accept-queue-overflow`).
//!
#![doc = include_str!("../../../docs/rules/syn-ack-unanswered.md")]

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, most_frequent};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::measure::Measure;
use crate::diagnose::queues::Queue;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::syn_queue;
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("syn-ack-unanswered", Listeners, OneOrTwo, "a few clients never answer our SYN-ACKs", check, [TEXT, HALF])
        .states(&[State::SynRecv])
        .title("SYN-ACK unanswered")
        .identity(Identity::Listener)
        .causes(CAUSES);

const TEXT: Text = Text {
    why: "The SYN came in, so the way from the client works; the answer went out several times and no ACK came back. \
          The client sees a connect that times out, while the server seems idle.",
    remedy: &[
        "Trace the way back: `ip route get CLIENT` here, and tcpdump for the SYN-ACK on the client",
        "If the answer leaves by another interface than the SYN came in, mend the routes (policy routing by source), or \
         let the firewall on the way see both directions",
        "Check rules that drop by direction: security groups, nftables on the client, conntrack state invalid",
    ],
    avoid: &["Don't raise tcp_max_syn_backlog or the backlog: the queue is not full", RETRIES],
};

const RETRIES: &str = "Don't raise tcp_synack_retries: the answers do not arrive, more of them do not either";

/// Of a queue that is half full or more.
const HALF: Text = Text { avoid: &[RETRIES], ..TEXT };

const CAUSES: &[Cause] = &[
    Cause {
        id: "asymmetric-route",
        text: "our SYN-ACKs take another way, on which they are lost",
        predicts: "the route to the client leaves by another interface than its SYN came in",
        refuted_by: "other connections of the same client are established",
        decided_by: "ip route get CLIENT; tcpdump of tcp[13]=18 on both ends",
    },
    Cause {
        id: "filter-one-way",
        text: "a filter drops our SYN-ACKs or the client's ACKs",
        predicts: "the SYN-ACK is on the wire here and not at the client, or the ACK the other way round",
        refuted_by: "other connections of the same client to this port are established",
        decided_by: "tcpdump on both ends; nft list ruleset; security groups",
    },
    Cause {
        id: "spoofed-sources",
        text: "the addresses are forged, and nobody waits for the answers",
        predicts: "many addresses with one attempt each",
        refuted_by: "few addresses with several attempts each",
        decided_by: "the number of addresses beside the number of attempts",
    },
];

/// Repeats after which an answer is more than late: sent at 0, 1, 3 and 7 s (`TCP_TIMEOUT_INIT`, doubled).
const REPEATS: u8 = 3;
/// The same of attempts that were there in the first look too.
const REPEATS_SEEN: u8 = 2;
/// How long an attempt with so many repeats has waited.
const WAITED_MS: [u64; 7] = [0, 1000, 3000, 7000, 15_000, 31_000, 63_000];
/// Attempts that make a pattern; a scanner leaves one or two per port (policy).
const ATTEMPTS: usize = 3;
/// More addresses than these, with less than two attempts each, are a flood's picture (policy).
const FEW_SOURCES: usize = 15;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let findings: Vec<Finding> = view.queues().all().iter().filter_map(|queue| unanswered(view, queue)).collect();
    // A client that gives up takes its row along: few live for as long as three repetitions take.
    let is_near = |q: &Queue<'_>| q.half_open.iter().filter(|s| (1..REPEATS).contains(&repeats(s))).count() >= ATTEMPTS;
    let may_be = || view.before.is_none() && findings.is_empty() && view.queues().all().iter().any(is_near);
    let wants_second = may_be().then(|| "whether our SYN-ACKs are repeated again".to_owned());
    Outcome { findings, wants_second, ..Outcome::default() }
}

/// Whether an answer is more than late: three repetitions, or two and the attempt is in both looks.
fn is_late(view: &View<'_>, row: &Socket) -> bool {
    let is_old = || view.earlier(row).is_some_and(|e| e.state == State::SynRecv && repeats(e) < repeats(row));
    repeats(row) >= REPEATS || repeats(row) >= REPEATS_SEEN && is_old()
}

fn repeats(row: &Socket) -> u8 {
    row.timer.map_or(0, |t| t.retransmits)
}

fn unanswered(view: &View<'_>, queue: &Queue<'_>) -> Option<Finding> {
    let rows: Vec<&Socket> = queue.half_open.iter().copied().filter(|s| is_late(view, s)).collect();
    if rows.len() < ATTEMPTS {
        return None;
    }
    // A full accept queue drops the ACKs of clients that did answer.
    let overflows = view.delta(queue.netns, Counter::TcpExtListenOverflows) > Some(0);
    let was_full = view.queues_before().and_then(|q| q.get(queue.netns, queue.local)).is_some_and(Queue::is_over_limit);
    if queue.is_over_limit() || was_full || overflows || syn_queue::is_pressed(view, queue) {
        return None;
    }
    let mut attempts: FxHashMap<IpAddr, usize> = FxHashMap::default();
    for row in &rows {
        *attempts.entry(row.peer.addr.to_canonical()).or_default() += 1;
    }
    let sources = attempts.len();
    let repeated_sources = attempts.values().filter(|n| **n > 1).count();
    if sources > FEW_SOURCES && repeated_sources * 2 < sources {
        return None;
    }
    let connected: FxHashSet<IpAddr> = view
        .now
        .sockets
        .iter()
        .filter(|s| {
            s.netns == queue.netns && s.kind != RowKind::Request && s.state.has_peer() && s.state != State::SynSent
        })
        .map(|s| s.peer.addr.to_canonical())
        .filter(|addr| attempts.contains_key(addr))
        .collect();
    // Those whose other connections finish suffer from loss or gave up; nothing is wrong with the way.
    if connected.len() == sources {
        return None;
    }
    Some(finding(view, queue, &rows, &attempts, connected.len()))
}

fn finding(
    view: &View<'_>,
    queue: &Queue<'_>,
    rows: &[&Socket],
    attempts: &FxHashMap<IpAddr, usize>,
    connected: usize,
) -> Finding {
    let at = queue.local;
    let owner = Owner::of(view, &queue.listeners);
    let sources = attempts.len();
    let weighed = Weighed::of(CAUSES, |cause| match cause.id {
        "spoofed-sources" if attempts.values().all(|n| *n > 1) => {
            Weight::Refuted("each address tries more than once".to_owned())
        }
        "spoofed-sources" => Weight::Possible(if sources * 2 > rows.len() { 0.4 } else { 0.1 }),
        "asymmetric-route" if connected > 0 => Weight::Possible(0.2),
        _ => Weight::Possible(0.45),
    });
    let most = rows.iter().map(|s| repeats(s)).max().unwrap_or(REPEATS);
    let least = rows.iter().map(|s| repeats(s)).min().unwrap_or(REPEATS_SEEN);
    let waited = WAITED_MS[usize::from(most).min(WAITED_MS.len() - 1)];
    let whom = match rows {
        [first, ..] if sources == 1 => first.peer.addr.to_canonical().to_string(),
        _ => format!("{} addresses", text::grouped(sources as u64)),
    };
    let summary = format!(
        "{} of {whom} to {at} ({}) never finish: our SYN-ACK was repeated {least} times or more without an ACK",
        text::count(rows.len() as u64, "connect", "connects"),
        listener_owner::name(owner.as_ref()),
    );
    let mut subject = listener_owner::subject(view, owner.as_ref(), queue.netns, at);
    subject.source = None;
    RULE.finding(Severity::Warning, 0.85, summary)
        .text(if syn_queue::is_half_full(view, queue) { &HALF } else { &TEXT })
        .because("the kernel counts the repeats of each SYN-ACK; where it is lost does not show from here")
        .causes(weighed)
        .lasting(Some(Measure::AtLeast(waited)))
        .subject(subject)
        .about(rows.iter().copied())
        .evidence("unanswered", Evidence::Count(rows.len() as u64))
        .evidence("half_open", Evidence::Count(queue.half_open.len() as u64))
        .evidence("sources", Evidence::List(most_frequent(rows.iter().map(|s| s.peer.addr.to_string()), 5)))
        .evidence("source_count", Evidence::Count(sources as u64))
        .evidence("sources_connected", Evidence::Count(connected as u64))
        .evidence("most_repeats", Evidence::Count(most.into()))
        .evidence("accept_queue", Evidence::Count(queue.queued()))
        .next(format!("tcpstate list --state syn-recv -o --port {}", at.port))
}

#[cfg(test)]
mod tests {
    use super::super::syn_queue_pressure::tests::{request, world};
    use super::*;
    use crate::diagnose::testkit::row;

    #[test]
    fn a_few_clients_without_an_ack_are_told_with_what_is_left() {
        let outcome = world(3, 3, false).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(finding.lasting_ms, Some(Measure::AtLeast(7000)));
        assert!(finding.summary.starts_with("3 connects of 10.9.9.9 to 0.0.0.0:80 (server (812)) never finish"));
        let left: Vec<&str> = finding.causes.left.iter().map(|h| h.cause.id).collect();
        assert_eq!(left, ["asymmetric-route", "filter-one-way"], "one address that tries again is no forgery");
        let spread = world(4, 3, true).check(check);
        assert!(spread.findings[0].causes.left.iter().any(|h| h.cause.id == "spoofed-sources"));
    }

    #[test]
    fn two_repetitions_are_enough_of_attempts_that_are_in_both_looks() {
        let looks = |first: u8, second: u8| {
            let mut both = world(6, first, false);
            both.later(2000);
            both.now.sockets = world(6, second, false).now.sockets;
            both.check(check).findings
        };
        let findings = looks(1, 2);
        assert!(findings[0].summary.contains("repeated 2 times or more"), "{findings:?}");
        assert_eq!(findings[0].lasting_ms, Some(Measure::AtLeast(3000)));
        assert!(looks(2, 2).is_empty() && looks(0, 1).is_empty());
    }

    #[test]
    fn a_full_syn_queue_is_told_by_its_rule_and_a_half_full_one_is_not_said_to_have_room() {
        let few = world(6, 3, false).check(check).findings.remove(0);
        assert!(few.avoid.iter().any(|line| line.contains("is not full")));
        let half = world(20, 3, false).check(check).findings.remove(0);
        assert!(half.avoid.iter().all(|line| !line.contains("is not full")), "{half:?}");
        assert_eq!(world(40, 3, false).check(check).findings, []);
        let mut turned_away = world(20, 3, false);
        turned_away.later(2000).counter(Counter::TcpExtSyncookiesSent, 9);
        assert_eq!(turned_away.check(check).findings, []);
    }

    #[test]
    fn scanners_floods_loss_and_full_queues_are_silent() {
        let silent = |world: &crate::diagnose::testkit::World| assert_eq!(world.check(check), Outcome::default());
        silent(&world(2, 5, false));
        let twice = world(9, 2, false);
        assert!(twice.check(check).findings.is_empty() && twice.check(check).wants_second.is_some());
        silent(&world(16, 3, true));
        assert_eq!(world(15, 3, true).check(check).findings.len(), 1);
        // Another connection of the same address is established.
        let mut lossy = world(3, 3, false);
        lossy.add(row(State::Established, "10.0.0.1:80", "10.9.9.9:50000"));
        silent(&lossy);
        lossy.add(request("10.8.8.8:1", 800, 3));
        assert_eq!(lossy.check(check).findings.len(), 1, "the other address has none");
        // The accept queue is full, or was between the samples.
        let mut full = world(3, 3, false);
        full.now.sockets[0].recv_q_bytes = 40;
        silent(&full);
        let mut overflowed = world(3, 3, false);
        overflowed.counter(Counter::TcpExtListenOverflows, 1).later(2000).counter(Counter::TcpExtListenOverflows, 2);
        silent(&overflowed);
    }
}
