//! Connections have been waiting for `accept()` for a second or more: the server is not picking them up.
//!
//! Input: connections that wait in accept queues, with their wait. Output: one finding per listening endpoint. Not here: the
//! limit of the queue.
//!
#![doc = include_str!("../../../docs/rules/accept-queue-stalled.md")]

use crate::diagnose::Outcome;
use crate::diagnose::accepting::{self, RESERVED, Taken};
use crate::diagnose::finding::{Evidence, Finding, Severity, Topic};
use crate::diagnose::listener_owner::{self, Owner};
use crate::diagnose::queues::{self, Queue};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Socket, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "accept-queue-stalled",
    Listeners,
    Two,
    "connections wait a second or more for `accept()`",
    check,
    [TEXT, RESERVED]
)
.topic(Topic::AcceptQueue)
.title("queue not accepted")
.identity(Identity::Listener)
.causes(accepting::CAUSES);

const TEXT: Text = Text {
    why: "For its client such a connection is open and the request is sent; for the server it does not exist before \
          accept(). A wait of a second means that the accept loop did not turn for a second.",
    remedy: &[
        "Check where the owner's threads are blocked: in a lock, in a full pool, in a busy loop, stopped, or waiting \
         for a disk",
        "Check that the listener is in an epoll set, armed, and accepted from until EAGAIN",
        "Check for descriptors at their limit: accept() then fails and the queue does not move",
        "Move slow work out of the accept loop, or add workers",
    ],
    avoid: &[
        "Don't raise the backlog first: a longer queue is a longer wait",
        "Don't set tcp_max_syn_backlog or tcp_abort_on_overflow: neither makes accept() faster",
    ],
};

/// So many clients have left the queue of a server that cannot run: nobody is served (policy).
const GAVE_UP: u64 = 3;

/// Seconds, a threshold, as milliseconds.
fn reaches(ms: u64, seconds: f64) -> bool {
    ms as f64 >= seconds * 1000.0
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut findings = Vec::new();
    for queue in view.queues().all() {
        // A TCP Fast Open child is in SYN_RECV until the client's ACK, and may be accepted before it.
        let waiting: Vec<&Socket> = queue.waiting.iter().copied().filter(|s| s.state != State::SynRecv).collect();
        let Some((oldest, exact)) = oldest_wait(view, &waiting) else { continue };
        if !reaches(oldest, view.thresholds.accept_wait_warn_seconds) && exact {
            continue;
        }
        if view.before.is_none() {
            outcome.wants_second.get_or_insert_with(|| {
                let n = text::count(waiting.len() as u64, "connection", "connections");
                if exact {
                    format!("{n} of {} waited {} for accept()", queue.local, text::duration(oldest))
                } else {
                    format!("{n} of {} wait for accept(), for how long this source does not tell", queue.local)
                }
            });
            // So long a wait is no moment of a busy loop, whatever a second sample says of the others.
            if exact && reaches(oldest, view.thresholds.accept_wait_high_seconds) {
                findings.push(finding(view, queue, &waiting, oldest, exact));
            }
            continue;
        }
        if reaches(oldest, view.thresholds.accept_wait_warn_seconds) && waited_before(view, queue, &waiting) {
            findings.push(finding(view, queue, &waiting, oldest, exact));
        }
    }
    outcome.findings = ranking::alike(findings);
    outcome
}

/// The longest wait and whether the rows tell it; without `tcp_info` a row that was there before has waited at least
/// the time between the samples.
fn oldest_wait(view: &View<'_>, waiting: &[&Socket]) -> Option<(u64, bool)> {
    if waiting.is_empty() {
        return None;
    }
    if let Some(told) = waiting.iter().filter_map(|s| queues::wait_ms(s)).max() {
        return Some((told, true));
    }
    let seen_before = waiting.iter().any(|s| view.earlier(s).is_some_and(Socket::is_unaccepted));
    Some((if seen_before { view.interval_ms().unwrap_or(0) } else { 0 }, false))
}

/// Whether the sample before shows the queue standing too: one of these very rows, or another that waited as long.
fn waited_before(view: &View<'_>, queue: &Queue<'_>, waiting: &[&Socket]) -> bool {
    if waiting.iter().any(|s| view.earlier(s).is_some_and(Socket::is_unaccepted)) {
        return true;
    }
    let before = view.queues_before().and_then(|q| q.get(queue.netns, queue.local)).and_then(Queue::oldest_wait_ms);
    before.is_some_and(|ms| reaches(ms, view.thresholds.accept_wait_warn_seconds))
}

fn finding(view: &View<'_>, queue: &Queue<'_>, waiting: &[&Socket], oldest: u64, exact: bool) -> Finding {
    let (at, netns) = (queue.local, queue.netns);
    let listeners = &listener_owner::standing(view, queue);
    let owner = Owner::of(view, listeners);
    let before = view.queues_before().and_then(|q| q.get(netns, at)).map(Queue::queued);
    let falls = before.is_some_and(|n| queue.queued() < n);
    let thresholds = view.thresholds;
    let why = accepting::why(view, owner.as_ref(), queue, listeners);
    let taken = accepting::taken(view, queue);
    let drains = falls && taken.is_some_and(|t| t.at_least > 0) && !queue.is_over_limit();
    // One that was reset stays in the queue until it is accepted, and has no row.
    let reset = queue.queued().saturating_sub(queue.waiting.len() as u64);
    let reset = if taken.is_some_and(Taken::is_none) { reset } else { 0 };
    let gone = waiting.iter().filter(|s| s.state == State::CloseWait).count() as u64 + reset;
    let fails = owner.as_ref().is_some_and(|o| o.halted.is_some()) && gone >= GAVE_UP;
    // Who came while there was no rule and gave up stays in a queue that nobody ever empties.
    let have_left = waiting.iter().all(|s| s.state == State::CloseWait);
    let is_remainder = owner.as_ref().is_some_and(|o| o.is_reserver) && have_left;
    let mut severity = if is_remainder || drains && before.is_some_and(|n| queue.queued() * 4 <= n * 3) {
        // A burst: those who wait are accepted before long.
        Severity::Info
    } else if reaches(oldest, thresholds.accept_wait_high_seconds) || fails {
        Severity::High
    } else {
        Severity::Warning
    };
    let starting = owner.as_ref().is_some_and(|o| o.is_activator);
    // Whoever holds it in a debugger knows that it does not run.
    let debugged = owner.as_ref().is_some_and(|o| o.halted == Some(listener_owner::DEBUGGED));
    if starting || debugged {
        severity = severity.min(Severity::Warning);
    }
    let acts = if starting {
        let who = listener_owner::name(owner.as_ref());
        format!("only {who} holds the listener: the service that it starts has not accepted")
    } else {
        why.acts(
            owner.as_ref(),
            if taken.is_some_and(Taken::is_none) { "accepted none meanwhile" } else { "has not accepted them" },
        )
    };
    let n = waiting.len() as u64;
    let verb = if n == 1 { "waits" } else { "wait" };
    let at_least = if exact { "" } else { "at least " };
    let summary = format!(
        "{} of {at} {verb} for accept(), the oldest for {at_least}{}: {acts}",
        text::count(n, "connection", "connections"),
        text::duration(oldest)
    );
    let unread = waiting.iter().map(|s| {
        // The FIN of a client that has left counts as one byte of the queue, and is none.
        u64::from(s.recv_q_bytes) - u64::from(s.state == State::CloseWait && s.recv_q_bytes > 0)
    });
    let limit = listeners.iter().map(|l| l.backlog().map(u64::from)).sum::<Option<u64>>();
    let finding = RULE
        .finding(severity, if exact { 0.95 } else { 0.85 }, summary)
        .because(if exact {
            "the kernel stamps a connection when its handshake ends, and nobody can have sent on it since"
        } else {
            "the same rows waited in both samples; this source does not tell for how long"
        })
        .subject(listener_owner::subject(view, owner.as_ref(), netns, at))
        .about(listeners.iter().chain(waiting).copied())
        .evidence("oldest_wait_ms", Evidence::Millis(oldest))
        .evidence("waiting", Evidence::Count(n))
        .evidence("clients_gone", Evidence::Count(gone))
        .evidence("owner_state", owner.as_ref().map_or(Evidence::Unknown, |o| listener_owner::owner_states(view, o)))
        .evidence("unread_bytes", Evidence::Bytes(unread.sum()))
        .evidence("accept_queue", Evidence::Count(queue.queued()))
        .evidence("accept_queue_before", Evidence::count(before))
        .evidence("backlog", Evidence::count(limit));
    why.onto(listener_owner::inspect_owners(finding, view, listeners, owner.as_ref()), owner.as_ref())
        .next(format!("tcpstate list -l -e -p --local {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};

    fn waiting(state: State, client: u16, wait_ms: u64) -> Socket {
        let peer = format!("10.0.0.9:{client}");
        info(unheld(row(state, "10.0.0.1:80", &peer)), &[("last_data_sent_ms", wait_ms)])
    }

    fn world(wait_ms: u64, rows: u16) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", rows.into(), 128)).hold(812, "server", 3, 80 << 16);
        for client in 0..rows {
            let state = if client == 0 { State::CloseWait } else { State::Established };
            world.add(Socket { recv_q_bytes: 101, ..waiting(state, 40_000 + client, wait_ms + u64::from(client)) });
        }
        world
    }

    fn age(world: &mut World, ms: u64) {
        for socket in world.now.sockets.iter_mut().filter(|s| s.inode.is_none()) {
            let info = socket.info.as_mut().unwrap();
            let wait = u64::from(info.last_data_sent_ms().unwrap());
            assert!(info.set("last_data_sent_ms", wait + ms));
        }
    }

    fn aged(wait_ms: u64, rows: u16) -> World {
        let mut world = world(wait_ms, rows);
        world.later(2000);
        age(&mut world, 2000);
        world
    }

    #[test]
    fn severity_follows_the_longest_wait_and_the_sentence_names_the_stopped_owner() {
        for (wait, severity) in [(999, Severity::Warning), (1000, Severity::High), (60_000, Severity::High)] {
            let outcome = aged(wait, 1).check(check);
            assert_eq!(outcome.findings[0].severity, severity, "{wait}");
        }
        let mut world = aged(12_000, 3);
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(
            finding.summary,
            "3 connections of 0.0.0.0:80 wait for accept(), the oldest for 14 s: server (812) is stopped by a signal \
             (state T)"
        );
        assert!(finding.evidence.contains(&("oldest_wait_ms", Evidence::Millis(14_002))));
        assert!(finding.evidence.contains(&("unread_bytes", Evidence::Bytes(302))));
        assert!(finding.evidence.contains(&("clients_gone", Evidence::Count(1))));
        assert_eq!(finding.inspect, [(812, vec![crate::model::Inode::new(80 << 16).unwrap()])]);
    }

    #[test]
    fn clients_that_gave_up_on_a_stopped_server_are_hurt_however_short_the_wait_of_those_that_came_since() {
        let found = |queued: u32, state| {
            let mut world = aged(500, 3);
            for snapshot in [&mut world.now, world.before.as_mut().unwrap()] {
                snapshot.sockets[0].recv_q_bytes = queued;
                snapshot.processes.get_mut(&812).unwrap().state = Some(state);
            }
            let finding = world.check(check).findings.remove(0);
            (finding.severity, finding.evidence.iter().find(|(name, _)| *name == "clients_gone").unwrap().1.clone())
        };
        assert_eq!(found(3, 'T'), (Severity::Warning, Evidence::Count(1)));
        assert_eq!(found(4, 'T'), (Severity::Warning, Evidence::Count(2)), "a row short");
        assert_eq!(found(5, 'T'), (Severity::High, Evidence::Count(3)));
        assert_eq!(found(5, 'S').0, Severity::Warning, "it may only be slow");
    }

    #[test]
    fn a_process_in_a_debugger_is_a_warning_at_most() {
        let mut world = aged(12_000, 3);
        world.now.processes.get_mut(&812).unwrap().state = Some('t');
        let finding = &world.check(check).findings[0];
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.summary.ends_with("is stopped by a debugger (state t)"), "{}", finding.summary);
    }

    #[test]
    fn a_burst_that_drains_is_an_explanation() {
        let mut world = aged(1500, 8);
        let severity = |world: &World| world.check(check).findings[0].severity;
        let accept = |world: &mut World, n: usize| {
            let waiting = world.now.sockets.iter().position(|s| s.inode.is_none()).unwrap();
            world.now.sockets.drain(waiting..waiting + n);
            world.now.sockets[0].recv_q_bytes -= u32::try_from(n).unwrap();
        };
        assert_eq!(severity(&world), Severity::High);
        accept(&mut world, 1);
        assert_eq!(severity(&world), Severity::High, "one in eight is no draining");
        accept(&mut world, 1);
        assert_eq!(severity(&world), Severity::Info);
        // Resets leave their places taken: nothing was accepted.
        let mut reset = aged(1500, 8);
        reset.now.sockets.truncate(6);
        assert_eq!(severity(&reset), Severity::High);
    }

    #[test]
    fn waits_below_a_second_and_single_samples_are_silent() {
        assert_eq!(world(900, 5).check(check), Outcome::default());
        assert_eq!(world(900, 5).later(100).check(check), Outcome::default());
        let once = world(1500, 1).check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some());
        // Other rows, and the sample before had none that waited: the queue moves.
        let mut moving = world(1200, 2);
        moving.later(2000);
        for socket in &mut moving.before.as_mut().unwrap().sockets {
            socket.cookie = socket.cookie.map(|c| c + 9);
            if let Some(info) = socket.info.as_mut() {
                assert!(info.set("last_data_sent_ms", 10));
            }
        }
        assert_eq!(moving.check(check), Outcome::default());
    }

    #[test]
    fn a_service_manager_that_has_not_started_its_service_is_only_a_warning() {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 1, 128)).hold(1, "systemd", 30, 80 << 16);
        world.add(waiting(State::Established, 40_000, 20_000)).later(2000);
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        assert!(outcome.findings[0].summary.contains("the service that it starts"));
        // BackgroundTrace the service itself the manager's copy of the listener does not matter.
        world.hold(900, "web", 3, 80 << 16);
        assert_eq!(world.check(check).findings[0].subject.pid, Some(900));
    }

    #[test]
    fn without_tcp_info_the_same_rows_twice_are_enough() {
        let mut world = world(0, 2);
        world.now.sockets.iter_mut().for_each(|s| s.info = None);
        assert!(world.check(check).wants_second.is_some());
        let outcome = world.later(2000).check(check);
        assert!(outcome.findings[0].summary.contains("at least 2.0 s"), "{outcome:?}");
    }
}
