//! Some connections in a listener's queue are already dead: their clients sent RST while they waited.
//!
//! Input: the length of each accept queue and the connections seen in it, twice. Output: one finding per listening endpoint,
//! with why nobody accepts. Not here: who reset them (no row is left to tell).
//!
#![doc = include_str!("../../../docs/rules/accept-queue-dead-entries.md")]

use crate::diagnose::Outcome;
use crate::diagnose::accepting::{self, RESERVED};
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::{Queue, Queues};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::Socket;
use crate::model::counter::Counter;
use crate::text;

pub(super) const RULE: Rule = rule!(
    "accept-queue-dead-entries",
    Listeners,
    Two,
    "connections in the accept queue are already dead",
    check,
    [TEXT, RESERVED]
)
.topic(Topic::AcceptQueue)
.title("dead queue entries")
.causes(accepting::CAUSES);

const TEXT: Text = Text {
    why: "A client that resets while it waits leaves every table at once, but its place in the queue is freed only \
          by accept(). The server will accept these sockets, and the first read on each fails.",
    remedy: &[
        "Make accept() faster: see accept-queue-stalled",
        "Let the accept loop treat ECONNRESET or EOF on a fresh connection as a cheap, normal event",
        "Find who resets: health checks and load balancers with short timeouts often do",
    ],
    avoid: &[
        "Don't raise the backlog: it makes room for more dead entries",
        "Don't drop RSTs in a firewall: the kernel then keeps connections that nobody wants",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut findings = Vec::new();
    for queue in view.queues().all() {
        let dead_now = dead(queue, view.queues());
        if dead_now == 0 {
            continue;
        }
        if view.netns(queue.netns).is_some_and(|n| n.incomplete) {
            outcome.not_checked = Some("rows are missing from the dump".into());
            continue;
        }
        let Some(before) = view.queues_before() else {
            outcome.wants_second.get_or_insert_with(|| {
                let n = text::count(dead_now, "connection", "connections");
                format!("{n} in the accept queue of {} cannot be seen", queue.local)
            });
            continue;
        };
        let Some(earlier) = before.get(queue.netns, queue.local) else { continue };
        let dead = dead_now.min(dead(earlier, before));
        if dead > 0 && stands_still(view, queue, earlier) {
            findings.push(finding(view, queue, dead));
        }
    }
    outcome.findings = ranking::alike(findings);
    outcome
}

/// Entries that count in the queue and are in no table.
fn dead(queue: &Queue<'_>, queues: &Queues<'_>) -> u64 {
    // MPTCP puts subflows in the queue that have no plain row; a transparent proxy's wait under foreign addresses.
    if queue.listeners.iter().chain(&queue.waiting).any(|s| s.ulp) {
        return 0;
    }
    let seen = queue.waiting.len() as u64 + queues.unmatched(queue.netns);
    queue.queued().saturating_sub(seen)
}

/// Listeners are dumped before connections, so the queue of a busy one looks longer than the rows in it. Believe the
/// difference only where the queue stands: an entry was there in both samples, it was over its limit in both, or
/// nothing at all was connected to this namespace in between.
fn stands_still(view: &View<'_>, queue: &Queue<'_>, earlier: &Queue<'_>) -> bool {
    queue.waiting.iter().any(|s| view.earlier(s).is_some_and(Socket::is_unaccepted))
        || (queue.is_over_limit() && earlier.is_over_limit())
        || view.delta(queue.netns, Counter::TcpPassiveOpens) == Some(0)
}

fn finding(view: &View<'_>, queue: &Queue<'_>, dead: u64) -> Finding {
    let (at, queued) = (queue.local, queue.queued());
    let limit = queue.listeners.iter().map(|l| l.backlog().map(u64::from)).sum::<Option<u64>>();
    let crowded = limit.is_some_and(|limit| queued * 2 > limit);
    let severity = if dead * 2 >= queued && crowded { Severity::Warning } else { Severity::Info };
    let owner = Owner::of(view, &queue.listeners);
    let why = accepting::why(view, owner.as_ref(), queue, &queue.listeners);
    let acts = why.acts(owner.as_ref(), "did not accept");
    let of = text::count(queued, "connection", "connections");
    let (n, are) = (text::grouped(dead), if dead == 1 { "is" } else { "are" });
    let finding = RULE
        .finding(
            severity,
            0.7,
            format!("{n} of {of} in the accept queue of {at} {are} already dead, reset while they waited: {acts}"),
        )
        .because("the queue is longer than the connections seen in it, in two samples")
        .subject(listener_owner::subject(view, owner.as_ref(), queue.netns, at))
        .about(queue.entries())
        .evidence("dead", Evidence::Count(dead))
        .evidence("accept_queue", Evidence::Count(queued))
        .evidence("backlog", Evidence::count(limit))
        .evidence("oldest_wait_ms", Evidence::millis(queue.oldest_wait_ms()))
        .evidence("owner_state", owner.as_ref().map_or(Evidence::Unknown, |o| listener_owner::owner_states(view, o)));
    why.onto(listener_owner::inspect_owners(finding, view, &queue.listeners, owner.as_ref()), owner.as_ref())
        .next(format!("tcpstate list -l -e -p --local {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, row, unheld};
    use crate::model::State;

    fn world(queue: u32, seen: u16, backlog: u32) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", queue, backlog)).hold(812, "server", 3, 80 << 16);
        for client in 0..seen {
            world.add(unheld(row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + client))));
        }
        world.counter(Counter::TcpPassiveOpens, 10);
        world
    }

    #[test]
    fn the_difference_is_told_and_its_weight_depends_on_the_room_left() {
        let outcome = world(3, 1, 128).later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert!(finding.summary.starts_with("2 of 3 connections in the accept queue of 0.0.0.0:80 are already dead"));
        let severity = |seen, backlog| world(3, seen, backlog).later(2000).check(check).findings[0].severity;
        assert_eq!((severity(1, 5), severity(1, 6)), (Severity::Warning, Severity::Info), "above half of the limit");
        assert_eq!((severity(1, 4), severity(2, 4)), (Severity::Warning, Severity::Info), "half of the queue");
        let mut stopped = world(3, 1, 4);
        stopped.now.processes.get_mut(&812).unwrap().state = Some('T');
        let finding = stopped.later(2000).check(check).findings.remove(0);
        assert!(finding.causes.is("stopped") && finding.summary.ends_with("(state T)"), "{finding:?}");
    }

    #[test]
    fn a_busy_queue_and_a_single_sample_are_not_believed() {
        let mut busy = world(3, 0, 128);
        busy.later(2000).counter(Counter::TcpPassiveOpens, 500);
        assert_eq!(busy.check(check), Outcome::default());
        let once = world(3, 1, 128).check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some());
        assert_eq!(world(3, 3, 128).check(check), Outcome::default());
        let mut gone = world(3, 2, 128);
        gone.later(2000).now.sockets[0].recv_q_bytes = 2;
        assert_eq!(gone.check(check), Outcome::default());
    }

    #[test]
    fn foreign_addresses_and_mptcp_explain_the_difference() {
        let mut proxy = world(1, 0, 128);
        proxy.add(unheld(row(State::Established, "93.184.216.34:443", "10.0.0.9:40000")));
        assert_eq!(proxy.later(2000).check(check), Outcome::default());
        let mut mptcp = world(3, 1, 128);
        mptcp.now.sockets[0].ulp = true;
        assert_eq!(mptcp.later(2000).check(check), Outcome::default());
    }

    #[test]
    fn an_incomplete_dump_is_not_judged() {
        let mut world = world(3, 1, 128);
        world.now.netns[0].incomplete = true;
        assert!(world.check(check).not_checked.is_some());
    }
}
