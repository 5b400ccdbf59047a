//! A program shut down its sending side, keeps the socket open, and the peer never closes its side.
//!
//! Input: FIN_WAIT2 rows that a process holds. Output: one finding per process. Not here: remainders (see
//! `fin-wait2-orphan-pileup`).
//!
#![doc = include_str!("../../../docs/rules/fin-wait2-held.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::descriptors::Share;
use crate::diagnose::finding::{Evidence, Finding, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::TCP_FIN_TIMEOUT_MS;
use crate::model::{NetnsId, OwnerStatus, RowKind, Socket, State, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("fin-wait2-held", Closing, OneOrTwo, "a program waits forever for the peer's FIN", check, [TEXT])
        .states(&[State::FinWait2])
        .title("half-closed and held")
        .identity(Identity::Program)
        .causes(CAUSES);

const AWAITED: Cause = Cause {
    id: "awaits-answer",
    text: "the answer is still in the making, and the program waits for it",
    predicts: "each row goes when its answer came",
    refuted_by: "the other end is held by a program that has lost it",
    decided_by: "the other end: does its program work on the request?",
};
const NEVER_CLOSED: Cause = Cause {
    id: "peer-never-closes",
    text: "the other side read our FIN, or never will, and does not close",
    predicts: "rows that only come, and CLOSE_WAIT at the other end",
    refuted_by: "rows that go",
    decided_by: "close-wait-leak at the other end",
};
const CAUSES: &[Cause] = &[AWAITED, NEVER_CLOSED];
/// Percent of the descriptors: what becomes more and has this share hurts, whatever the cause.
const MUCH_PERCENT: f64 = 10.0;

const TEXT: Text = Text {
    why: "The process called shutdown() for writing, the peer acknowledged the FIN and has not sent its own. For a \
          socket that a process holds the kernel sets no time limit, so row and descriptor stay forever.",
    remedy: &[
        "After shutdown() read until EOF with a time limit, then close() whatever came",
        "If nothing more is expected, close() instead of shutdown(): tcp_fin_timeout then ends the wait",
        "Fix the peer: there the same connection is a CLOSE_WAIT that nobody closes",
    ],
    avoid: &[
        "Don't change tcp_fin_timeout: it is for sockets that no process holds",
        "Don't rely on keepalive: the peer's kernel answers the probes as long as its socket exists",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut groups: BTreeMap<(Option<NetnsId>, Option<u32>), Vec<&Socket>> = BTreeMap::new();
    for socket in view.active().filter(|s| is_held(s) && is_silent(s)) {
        let pid = view.holder(socket).map(|p| p.pid);
        groups.entry((socket.netns, pid)).or_default().push(socket);
    }
    let findings = groups.into_iter().map(|((netns, pid), rows)| finding(view, netns, pid, &rows));
    Outcome::findings(ranking::alike(findings.collect()))
}

fn is_held(socket: &Socket) -> bool {
    socket.state == State::FinWait2
        && socket.kind == RowKind::Full
        && socket.inode.is_some()
        && socket.shutdown == Some(2)
}

/// No segment of the peer for a minute: a download that goes on would have brought some.
fn is_silent(socket: &Socket) -> bool {
    socket
        .info
        .as_deref()
        .and_then(crate::model::TcpInfo::last_ack_recv_ms)
        .is_some_and(|ms| u64::from(ms) >= TCP_FIN_TIMEOUT_MS)
}

fn finding(view: &View<'_>, netns: Option<NetnsId>, pid: Option<u32>, rows: &[&Socket]) -> Finding {
    let n = rows.len() as u64;
    let before = view
        .before
        .map(|_| rows.iter().filter(|s| view.earlier(s).is_some_and(|e| is_held(e) && is_silent(e))).count() as u64);
    // One more that has come of age beside others: it grows. A first one is no growth.
    let grows = before.is_some_and(|b| b > 0 && n > b);
    let share = pid.map_or_else(Share::default, |pid| Share::new(view, pid, n, None));
    let percent = share.percent;
    // A half-close is legal and may last: it hurts by its number.
    let grows = grows && percent.is_some_and(|p| p >= MUCH_PERCENT);
    let severity = share.severity(grows, view.thresholds);
    let causes = Weighed::of(CAUSES, |_| Weight::Possible(0.5));
    let process = rows.iter().flat_map(|s| view.processes(s)).find(|p| Some(p.pid) == pid);
    let unknown = rows.first().map_or(OwnerStatus::NotCollected, |s| view.owners(s).0);
    let who = process.map_or_else(|| format!("a process that is not known {}", unknown.words()), text::name);
    let oldest = closing::silence_ms(rows).map(|(longest, _)| longest);
    let ends = closing::other_ends(view, rows);
    let peer = match ends.first() {
        Some((end, _, _)) => format!("{} ({}) on this host has not closed", end.comm, end.pid),
        None => "their peers have not closed".to_owned(),
    };
    let silent = oldest.map_or_else(String::new, |ms| format!(", silent for up to {}", text::duration(ms)));
    let half = text::count(n, "half-closed connection", "half-closed connections");
    let keepalive = rows.iter().filter(|s| s.timer.is_some_and(|t| t.kind == TimerKind::Keepalive)).count() as u64;
    let subject = match process {
        Some(process) => view.subject_of(process, netns),
        None => Subject { netns, uid: rows[0].uid, ..Subject::default() },
    };
    let mut finding = RULE
        .finding(severity, 0.8, format!("{who} keeps {half}{silent}: {peer}"))
        .because("the process sent its FIN, holds the socket, and nothing came for a minute or more")
        .causes(causes)
        .lasting(oldest.map(Measure::AtLeast))
        .subject(subject)
        .evidence("count", Evidence::Count(n))
        .evidence("oldest_at_least_ms", Evidence::millis(oldest))
        .evidence("count_before", Evidence::count(before))
        .evidence("fd_limit_percent", percent.map_or(Evidence::Unknown, Evidence::Percent))
        .evidence("with_keepalive", Evidence::Count(keepalive))
        .evidence("peers", closing::peers_evidence(rows));
    if let Some((end, mirror, count)) = ends.first() {
        let text = format!("{} ({}): {count} in {}", end.comm, end.pid, mirror.state);
        finding = finding.evidence("other_end", Evidence::Text(text));
    }
    let next = pid.map_or_else(String::new, |pid| format!(" --pid {pid}"));
    finding.next(format!("tcpstate list --state fin-wait2 -o -i{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Severity;
    use crate::diagnose::testkit::{World, info, row, unheld};

    fn held(client: u16, silent_ms: u64) -> Socket {
        let base = row(State::FinWait2, &format!("10.0.0.1:{client}"), "10.0.0.9:80");
        info(Socket { shutdown: Some(2), ..base }, &[("last_ack_recv_ms", silent_ms)])
    }

    fn world(rows: u16, silent_ms: u64) -> World {
        let mut world = World::new();
        for n in 0..rows {
            let socket = held(40_000 + n, silent_ms);
            world.hold(812, "client", 3 + u32::from(n), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn a_half_close_is_an_explanation_until_it_takes_half_of_the_descriptors() {
        let outcome = world(10, 90_000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(
            finding.summary,
            "client (812) keeps 10 half-closed connections, silent for up to 90 s: their peers have not closed"
        );
        assert_eq!(world(511, 90_000).check(check).findings[0].severity, Severity::Info, "of 1024");
        assert_eq!(world(512, 90_000).check(check).findings[0].severity, Severity::Warning, "of 1024");
    }

    #[test]
    fn growth_is_a_warning_from_a_tenth_of_the_descriptors_on() {
        for (rows, severity) in [(101, Severity::Info), (102, Severity::Warning)] {
            let mut grows = world(rows, 70_000);
            grows.later(2000);
            let more = held(41_000, 60_500);
            grows.hold(812, "client", 999, more.inode).add(more);
            assert_eq!(grows.check(check).findings[0].severity, severity, "one more than {rows} of 1024");
        }
        let mut first = world(1, 59_000);
        first.later(2000).now.sockets[0] = held(40_000, 61_000);
        assert_eq!(first.check(check).findings[0].severity, Severity::Info);
    }

    #[test]
    fn downloads_orphans_and_the_young_are_silent() {
        assert_eq!(world(20, 59_999).check(check), Outcome::default());
        let mut orphan = World::new();
        orphan.add(Socket { shutdown: Some(3), ..unheld(held(40_000, 90_000)) });
        orphan.add(Socket { info: None, ..held(40_001, 0) });
        assert_eq!(orphan.check(check), Outcome::default());
    }

    #[test]
    fn a_peer_on_this_host_is_named() {
        let mut world = world(1, 70_000);
        let mirror = row(State::CloseWait, "10.0.0.9:80", "10.0.0.1:40000");
        world.hold(900, "backend", 7, mirror.inode).add(mirror);
        let finding = world.check(check).findings.remove(0);
        assert!(finding.summary.ends_with("backend (900) on this host has not closed"), "{finding:?}");
        assert!(finding.evidence.contains(&("other_end", Evidence::Text("backend (900): 1 in CLOSE_WAIT".into()))));
    }
}
