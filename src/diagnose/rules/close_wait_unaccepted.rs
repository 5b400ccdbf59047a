//! Clients connected, waited, gave up and closed before the server called `accept()` for them.
//!
//! Input: CLOSE_WAIT rows without a file. Output: one finding per listener, with why nobody accepts. Not here: the clients.
//!
#![doc = include_str!("../../../docs/rules/close-wait-unaccepted.md")]

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

pub(super) const RULE: Rule =
    rule!("close-wait-unaccepted", CloseWait, OneOrTwo, "clients gave up before `accept()`", check, [TEXT, RESERVED])
        .states(&[State::CloseWait])
        .topic(Topic::AcceptQueue)
        .title("clients gave up")
        .identity(Identity::Listener)
        .causes(accepting::CAUSES);

const TEXT: Text = Text {
    why: "The kernel finished the handshake and queued the connection; the client then closed its end, so the queued \
          socket went to CLOSE_WAIT. Nobody has called accept() for it, so no process has it yet.",
    remedy: &[
        "Find out why accept() is late: a blocked loop, too few workers, no free descriptor, a stopped process; see \
         accept-queue-stalled",
        "Check for EOF before expensive work, so that none of it is done for clients that have left",
        "Make a very large backlog smaller once accept() is fast again",
    ],
    avoid: &[
        "Don't hunt for a missing close(): the program has never seen these sockets",
        "Don't raise the backlog: the queue of clients that have left only gets longer",
        "Don't set tcp_abort_on_overflow: it is about connections that do not fit",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut findings = Vec::new();
    for queue in view.queues().all() {
        let gone = queue.waiting.iter().copied().filter(|s| s.state == State::CloseWait);
        let rows: Vec<&Socket> = gone.filter(|s| has_waited(view, s)).collect();
        if rows.is_empty() {
            continue;
        }
        if view.before.is_none() {
            let n = text::count(rows.len() as u64, "client", "clients");
            outcome.wants_second.get_or_insert_with(|| format!("{n} of {} left before accept()", queue.local));
        } else if rows.iter().any(|s| view.earlier(s).is_some_and(Socket::is_unaccepted)) {
            findings.push(finding(view, queue, &rows));
        }
    }
    outcome.findings = ranking::alike(findings);
    outcome
}

/// A row that is about to be accepted looks the same but for its wait; a source that does not tell the wait (no
/// `tcp_info`) shows the row in two samples.
fn has_waited(view: &View<'_>, socket: &Socket) -> bool {
    match queues::wait_ms(socket) {
        Some(ms) => ms as f64 >= view.thresholds.accept_wait_warn_seconds * 1000.0,
        None => view.before.is_none() || view.earlier(socket).is_some_and(Socket::is_unaccepted),
    }
}

/// See "Severity" on the page.
fn severity(owner: Option<&Owner<'_>>, full: bool, taken: Option<Taken>) -> Severity {
    // Whoever starts a service on demand, or holds it in a debugger, knows that it does not run.
    let known = owner.is_some_and(|o| o.is_activator || o.halted == Some(listener_owner::DEBUGGED));
    // Nobody ever empties that queue; whoever still waits in it is told by accept-queue-stalled.
    let is_reserver = owner.is_some_and(|o| o.is_reserver);
    match (full, taken) {
        (true, _) if !known => Severity::High,
        (false, _) if is_reserver => Severity::Info,
        (false, Some(Taken { at_least: 1.., .. })) => Severity::Info,
        _ => Severity::Warning,
    }
}

fn finding(view: &View<'_>, queue: &Queue<'_>, rows: &[&Socket]) -> Finding {
    let (netns, at, listeners) = (queue.netns, queue.local, &listener_owner::standing(view, queue));
    let owner = Owner::of(view, listeners);
    let n = rows.len() as u64;
    let oldest = rows.iter().filter_map(|s| queues::wait_ms(s)).max();
    let left = rows.iter().filter_map(|s| Some(s.state_age()?.min_ms)).max();
    let full = listeners.iter().any(|l| queues::is_over_limit(l));
    let them = if n == 1 { "had not accepted it" } else { "had not accepted them" };
    let why = accepting::why(view, owner.as_ref(), queue, listeners);
    let acts = why.acts(owner.as_ref(), them);
    // That other listeners of the port accept says nothing of these.
    let taken = accepting::taken(view, queue).filter(|_| listeners.len() == queue.listeners.len());
    let queued = listeners.iter().map(|l| u64::from(l.recv_q_bytes)).sum();
    let waited = oldest.map_or(String::new(), |ms| format!(", the oldest connected {} ago", text::duration(ms)));
    let summary = format!("{} of {at} gave up{waited}: {acts}", text::count(n, "client", "clients"));
    let drops: Option<u64> = listeners.iter().map(|l| l.skmem?.drops.map(u64::from)).sum();
    let limit: Option<u64> = listeners.iter().map(|l| l.backlog().map(u64::from)).sum();
    let mut finding = RULE
        .finding(severity(owner.as_ref(), full, taken), 0.97, summary)
        .because("a CLOSE_WAIT row without a socket file can only wait in an accept queue")
        .subject(listener_owner::subject(view, owner.as_ref(), netns, at))
        .about(rows.iter().copied())
        .evidence("count", Evidence::Count(n))
        .evidence("oldest_wait_ms", Evidence::millis(oldest))
        .evidence("left_since_ms", Evidence::millis(left))
        .evidence("accept_queue", Evidence::Count(queued))
        .evidence("accepted_at_least", Evidence::count(taken.map(|t| t.at_least)))
        .evidence("backlog", Evidence::count(limit))
        .evidence("listener_drops", Evidence::count(drops))
        .evidence("owner_state", owner.as_ref().map_or(Evidence::Unknown, |o| listener_owner::owner_states(view, o)));
    if let Some(facts) = owner.as_ref().and_then(|o| view.process(o.process.pid)) {
        finding = finding
            .evidence("fd_used", Evidence::count(facts.fd_used))
            .evidence("fd_soft_limit", Evidence::count(facts.fd_soft));
    }
    why.onto(listener_owner::inspect_owners(finding, view, listeners, owner.as_ref()), owner.as_ref())
        .next(format!("tcpstate list -l -e -p --local {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};

    fn world(wait_ms: u64, queue: u32) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", queue, 4)).hold(812, "server", 3, 80 << 16);
        let waiting = unheld(row(State::CloseWait, "10.0.0.1:80", "10.0.0.2:40000"));
        world.add(info(
            waiting,
            &[("last_data_sent_ms", wait_ms), ("last_ack_recv_ms", wait_ms), ("last_data_recv_ms", wait_ms)],
        ));
        world
    }

    #[test]
    fn a_client_that_left_before_accept_is_found_with_the_listener_s_owner() {
        let outcome = world(5000, 1).later(2000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert!(finding.evidence.contains(&("oldest_wait_ms", Evidence::Millis(5000))));
        assert_eq!(world(5000, 5).later(2000).check(check).findings[0].severity, Severity::High);
    }

    #[test]
    fn a_server_that_accepts_meanwhile_is_information() {
        let severity = |gone: u16, queue: u32| {
            let mut world = world(5000, queue);
            for n in 0..gone {
                world.add(info(
                    unheld(row(State::Established, "10.0.0.1:80", &format!("10.0.0.3:{}", 40_000 + n))),
                    &[("last_data_sent_ms", 6000)],
                ));
            }
            world.later(2000).now.sockets.truncate(2);
            world.before.as_mut().unwrap().sockets[0].recv_q_bytes = queue + u32::from(gone);
            world.check(check).findings[0].severity
        };
        assert_eq!((severity(1, 1), severity(0, 1)), (Severity::Info, Severity::Warning));
        assert_eq!(severity(1, 5), Severity::High, "over its limit of 4");
        assert_eq!(severity(1, 4), Severity::Info);
        let mut debugged = world(5000, 5);
        debugged.now.processes.get_mut(&812).unwrap().state = Some('t');
        assert_eq!(debugged.later(2000).check(check).findings[0].severity, Severity::Warning);
    }

    #[test]
    fn why_nobody_accepts_is_named_when_it_is_seen() {
        let mut world = world(5000, 1);
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        let finding = world.later(2000).check(check).findings.remove(0);
        assert!(finding.causes.is("stopped"), "{finding:?}");
    }

    #[test]
    fn the_wait_began_with_the_handshake_and_not_with_the_fin() {
        let mut world = world(5000, 1);
        // The client waited 4.8 s and left 200 ms ago.
        let socket = world.now.sockets[1].clone();
        world.now.sockets[1] = info(socket, &[("last_data_sent_ms", 5000), ("last_ack_recv_ms", 200)]);
        world.add(info(
            unheld(row(State::CloseWait, "10.0.0.1:80", "10.0.0.2:40001")),
            &[("last_data_sent_ms", 300), ("last_ack_recv_ms", 100)],
        ));
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        let outcome = world.later(2000).check(check);
        let evidence = &outcome.findings[0].evidence;
        assert!(evidence.contains(&("oldest_wait_ms", Evidence::Millis(5000))), "{evidence:?}");
        assert!(evidence.contains(&("count", Evidence::Count(1))), "the other one has only just come");
        assert_eq!(
            outcome.findings[0].summary,
            "1 client of 0.0.0.0:80 gave up, the oldest connected 5.0 s ago: server (812) is stopped by a signal (state T)"
        );
        assert!(evidence.contains(&("doing_class", Evidence::Text("stopped".into()))));
    }

    #[test]
    fn a_worker_that_accepts_is_not_blamed_for_the_queue_of_another() {
        let mut world = world(5000, 0);
        let mut stuck = listen("0.0.0.0:80", 3, 4);
        (stuck.inode, stuck.cookie) = (crate::model::Inode::new(77), Some(77));
        world.add(stuck).hold(813, "server", 3, 77).later(2000);
        let mut served = row(State::Established, "10.0.0.1:80", "10.0.0.3:40000");
        served.cookie = Some(4711);
        world.hold(812, "server", 4, served.inode).add(served);
        let finding = world.check(check).findings.remove(0);
        assert_eq!((finding.subject.pid, finding.severity), (Some(813), Severity::Warning));
        assert!(finding.summary.ends_with(": server (813) had not accepted it"), "{}", finding.summary);
        assert!(finding.evidence.contains(&("accept_queue", Evidence::Count(3))), "{:?}", finding.evidence);
    }

    #[test]
    fn one_sample_only_suspects_and_a_fresh_row_is_silent() {
        let outcome = world(5000, 1).check(check);
        assert!(outcome.findings.is_empty() && outcome.wants_second.is_some());
        assert_eq!(world(200, 1).later(2000).check(check), Outcome::default());
    }
}
