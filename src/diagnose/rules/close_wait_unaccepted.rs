#![doc = include_str!("../../../docs/rules/close-wait-unaccepted.md")]
//!
//! Comes in: CLOSE_WAIT rows without a file. Goes out: one finding per listener. Never here: who is to blame beyond the
//! listener's owner.

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::queues;
use crate::diagnose::view::View;
use crate::model::{Socket, State};

const ID: &str = "close-wait-unaccepted";

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for queue in view.queues().all() {
        let (netns, at, listeners) = (queue.netns, queue.local, &queue.listeners);
        let rows: Vec<&Socket> = queue.waiting.iter().copied().filter(|s| s.state == State::CloseWait).collect();
        if rows.is_empty() {
            continue;
        }
        // Since the handshake, not since the FIN: it is accept() that is late.
        let oldest = rows.iter().filter_map(|s| queues::wait_ms(s)).max();
        // A row that is about to be accepted looks the same: one second in the queue, seen twice.
        if oldest.is_some_and(|ms| (ms as f64) < view.thresholds.accept_wait_warn_seconds * 1000.0) {
            continue;
        }
        let seen_before = rows.iter().filter(|s| view.earlier(s).is_some_and(Socket::is_unaccepted)).count();
        if view.before.is_none() {
            outcome.wants_second =
                Some(format!("{} connections to {at} were closed by their clients before accept()", rows.len()));
            continue;
        }
        if seen_before == 0 {
            continue;
        }
        let full = queue.is_over_limit();
        let owner = listeners.iter().flat_map(|l| view.processes(l)).next();
        let subject = Subject {
            listener: Some(at),
            ..owner.map_or_else(|| Subject { netns: Some(netns), ..Subject::default() }, |p| view.subject_of(p, netns))
        };
        let who = owner.map_or_else(|| "its owner".to_owned(), |p| format!("{} ({})", p.comm, p.pid));
        let severity = if full { Severity::High } else { Severity::Warning };
        let mut finding = Finding::new(
            ID,
            severity,
            0.97,
            format!("{} clients of {at} gave up while {who} had not accepted their connection", rows.len()),
        )
        .because("a CLOSE_WAIT row without a socket file can only wait in an accept queue")
        .subject(subject)
        .evidence("count", Evidence::Count(rows.len() as u64))
        .evidence("oldest_wait_ms", Evidence::millis(oldest));
        for listener in listeners {
            finding = finding
                .evidence("accept_queue", Evidence::Count(listener.recv_q_bytes.into()))
                .evidence("backlog", Evidence::count(listener.backlog().map(u64::from)))
                .evidence("listener_drops", Evidence::count(listener.skmem.and_then(|m| m.drops).map(u64::from)));
        }
        if let Some(process) = owner {
            finding = finding.inspect(process.pid, listeners);
        }
        outcome.findings.push(
            finding
                .why(
                    "The kernel finished the handshake and queued the connection; the client then closed its end, so \
                     the queued socket went to CLOSE_WAIT. Nobody has called accept() for it, so no process has it yet.",
                )
                .remedy([
                    "find out why accept() is slow: a blocked loop, too few workers, no free descriptor, a stopped \
                     process",
                    "raise the listen() backlog in the application together with net.core.somaxconn, then listen again",
                ])
                .avoid(["a larger backlog alone: it only serves more clients that have already left"])
                .next(format!("tcpstate list -e --local {at}")),
        );
    }
    outcome
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
    fn one_sample_only_suspects_and_a_fresh_row_is_silent() {
        let outcome = world(5000, 1).check(check);
        assert!(outcome.findings.is_empty() && outcome.wants_second.is_some());
        assert_eq!(world(200, 1).later(2000).check(check), Outcome::default());
    }
}
