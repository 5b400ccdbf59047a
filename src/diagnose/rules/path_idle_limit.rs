//! Connections are silent for longer than a device on their path remembers them.
//!
//! Input: connections to other hosts, their silence and keepalive, and the limits that are known here. Output: per owner
//! what will be forgotten, and per destination what already died so. Not here: idle connections where no limit is known
//! (`idle-no-keepalive`).
//!
#![doc = include_str!("../../../docs/rules/path-idle-limit.md")]

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::delivery::{is_silent, repeats};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject, Topic};
use crate::diagnose::idle_limit::{Forgets, Limits};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Peers};
use crate::diagnose::ranking;
use crate::diagnose::reach::{self, Reach};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("path-idle-limit", Established, One, "silent for longer than the path remembers", check, [TEXT])
        .states(&[State::Established])
        .topic(Topic::Keepalive)
        .title("silent beyond path's limit")
        .identity(Identity::ProgramAndDestination);

const KEEPALIVE: &str = "Turn SO_KEEPALIVE on in the application, with TCP_KEEPIDLE below {limit}";
const POOL: &str = "Or let the pool close what is idle for longer than half of that, before the path forgets it";
const TIMEOUT: &str =
    "Set a time limit for requests, and try an idempotent one again on a new connection when it is reached";
const DEVICE: &str = "Or raise the idle limit of the device where it can be set, and let it reset what it forgot";
const TRACKING: &str = "Raise net.netfilter.nf_conntrack_tcp_timeout_established above the keepalive time";

const TEXT: Text = Text {
    why: "A NAT, a firewall or a load balancer forgets a connection that is silent for longer than its limit, and tells \
          neither end. What is sent later is dropped or reset, and a client without a time limit waits for minutes.",
    remedy: &[KEEPALIVE, POOL, TIMEOUT, DEVICE, TRACKING],
    avoid: &[
        "Don't only lower tcp_keepalive_time: it is the default of sockets that turned keepalive on",
        "Don't lower the time limit of the peer for idle connections without that of the pool: the race moves",
    ],
};

/// A known path forgets nothing sooner: the smallest limit in use (Azure).
const SMALLEST_MS: u64 = 240_000;

/// What a row says of the silence to come.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    limit_ms: u64,
    by: Forgets,
    idle_ms: u64,
    /// When the first probe goes out, counted from the last segment, at least; `None`: never.
    probe_ms: Option<u64>,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut limits: FxHashMap<Option<NetnsId>, Limits<'_>> = FxHashMap::default();
    let mut quiet: Vec<(&Socket, Quiet)> = Vec::new();
    let mut dead: BTreeMap<(Option<NetnsId>, Endpoint), Vec<&Socket>> = BTreeMap::new();
    for socket in view.now.sockets.iter().filter(|s| peers::is_held(s, &[State::Established])) {
        let limits = limits.entry(socket.netns).or_insert_with(|| Limits::of(view, socket.netns));
        let limit = limits.of_connection(socket);
        if let Some(row) = limit.and_then(|limit| silence(socket, limit)).filter(|_| leaves_host(view, socket)) {
            quiet.push((socket, row));
        } else if died_idle(view, socket, limit.map_or(SMALLEST_MS, |(ms, _)| ms)) {
            dead.entry((socket.netns, socket.peer.normalised())).or_default().push(socket);
        }
    }
    let mut findings = died(view, dead);
    if !quiet.is_empty() {
        findings.extend(will_be_forgotten(view, &quiet));
    }
    Outcome::findings(findings)
}

/// Whether a connection at rest reaches the limit before anything is sent: it is silent for half of it already, and no
/// probe comes in time.
fn silence(socket: &Socket, (limit_ms, by): (u64, Forgets)) -> Option<Quiet> {
    if socket.send_q_bytes != Some(0) {
        return None;
    }
    let info = socket.info.as_deref()?;
    let idle_ms = u64::from(info.last_heard_ms()?);
    let probe_ms = match socket.timer {
        None => None,
        // The timer is not moved by traffic: when it fires, the kernel counts from the last segment (tcp_keepalive_timer).
        Some(t) if t.kind == TimerKind::Keepalive && t.retransmits == 0 => Some(idle_ms + u64::from(t.remaining_ms)),
        Some(_) => return None,
    };
    let late = probe_ms.is_none_or(|ms| ms > limit_ms);
    (late && idle_ms >= limit_ms / 2).then_some(Quiet { limit_ms, by, idle_ms, probe_ms })
}

/// The other end is not on this host.
fn leaves_host(view: &View<'_>, socket: &Socket) -> bool {
    let peer = socket.peer.addr.to_canonical();
    !peer.is_loopback()
        && view.mirror(socket).is_none()
        && !view.now.netns.iter().any(|n| n.addresses.iter().any(|a| a.to_canonical() == peer))
}

/// It repeats a segment without an answer, and had been silent for so long when that was sent.
fn died_idle(view: &View<'_>, socket: &Socket, limit_ms: u64) -> bool {
    repeats(view, socket)
        && is_silent(socket) == Some(true)
        && silent_peer::idle_at_least_ms(socket).is_some_and(|ms| ms >= limit_ms)
        && leaves_host(view, socket)
}

fn died<'a>(view: &View<'a>, dead: BTreeMap<(Option<NetnsId>, Endpoint), Vec<&'a Socket>>) -> Vec<Finding> {
    if dead.is_empty() {
        return Vec::new();
    }
    let reach = Reach::new(view, dead.keys().copied());
    let ends = Peers::new(view);
    let mut findings = Vec::new();
    for ((netns, to), rows) in dead {
        let since = reach::median(rows.iter().filter_map(|s| silent_peer::waiting_ms(s))).unwrap_or(0);
        // Those that work and were as idle as the dead would mean another fault.
        let working = reach.to(netns, to, since).count() as u64;
        if working == 0 {
            continue;
        }
        for group in ends.groups(rows.iter().copied(), false) {
            let n = group.rows.len() as u64;
            let idle = || group.rows.iter().filter_map(|s| silent_peer::idle_at_least_ms(s));
            let (shortest, longest) = (idle().min().unwrap_or(0), idle().max().unwrap_or(0));
            let limit = Limits::of(view, netns).of_connection(group.rows[0]);
            let summary = format!(
                "{} of {} to {to} died of silence: idle for {} or more before the last write, which gets no answer, while {} \
                 in use to the same place {}",
                text::count(n, "connection", "connections"),
                group.name(view),
                text::duration(shortest),
                text::grouped(working),
                if working == 1 { "works" } else { "work" },
            );
            let limit_ms = limit.map_or(shortest, |(ms, _)| ms);
            let finding = RULE
                .finding(Severity::Warning, 0.85, summary)
                .because(
                    "only connections that had been silent for long are dead; the device that forgot them is not seen",
                )
                .subject(Subject { destination: Some(to), ..group.subject(view) })
                .about(group.rows.iter().copied())
                .lasting(group.rows.iter().filter_map(|s| silent_peer::waiting_ms(s)).max().map(Measure::AtLeast))
                .evidence("count", Evidence::Count(n))
                .evidence("idle_before_min_ms", Evidence::Millis(shortest))
                .evidence("idle_before_max_ms", Evidence::Millis(longest))
                .evidence("connections_that_work", Evidence::Count(working))
                .evidence("limit_ms", Evidence::millis(limit.map(|(ms, _)| ms)))
                .steps(steps(limit.map(|(_, by)| by)))
                .fill("limit", text::duration(limit_ms));
            findings.push(finding.next(format!("tcpstate list --state established -o -i --peer {to}")));
        }
    }
    findings
}

fn steps(by: Option<Forgets>) -> Vec<&'static str> {
    let device = if by == Some(Forgets::Conntrack) { TRACKING } else { DEVICE };
    vec![KEEPALIVE, POOL, TIMEOUT, device]
}

fn will_be_forgotten<'a>(view: &View<'a>, quiet: &[(&'a Socket, Quiet)]) -> Vec<Finding> {
    let of: FxHashMap<*const Socket, Quiet> = quiet.iter().map(|(s, q)| (std::ptr::from_ref(*s), *q)).collect();
    let groups = Peers::new(view).groups(quiet.iter().map(|(s, _)| *s), false);
    let finding = |group: &peers::Group<'a>| {
        let rows: Vec<Quiet> = group.rows.iter().filter_map(|s| of.get(&std::ptr::from_ref(*s)).copied()).collect();
        let first = rows.iter().min_by_key(|q| q.limit_ms)?;
        let n = rows.len() as u64;
        let beyond = rows.iter().filter(|q| q.idle_ms >= q.limit_ms).count() as u64;
        let probes = rows.iter().filter_map(|q| q.probe_ms).min();
        let unwatched = rows.iter().filter(|q| q.probe_ms.is_none()).count() as u64;
        let longest = rows.iter().map(|q| q.idle_ms).max().unwrap_or(0);
        let checked = match (unwatched, probes) {
            (0, Some(ms)) => format!("first checked after {} or more", text::duration(ms)),
            (m, _) if m == n => "that nothing ever checks".to_owned(),
            (m, _) => format!("of which nothing ever checks {}", text::grouped(m)),
        };
        let summary = format!(
            "{} keeps {} {} {checked}, silent for up to {}; {} forgets them after {}",
            group.name(view),
            text::count(n, "connection", "connections"),
            peers::with_whom(&group.rows),
            text::duration(longest),
            first.by.words(),
            text::duration(first.limit_ms),
        );
        let finding = RULE
            .finding(Severity::Info, if matches!(first.by, Forgets::Cloud(_)) { 0.6 } else { 0.9 }, summary)
            .because(match first.by {
                Forgets::Cloud(_) => {
                    "the machine is of that cloud; whether such a device is on the path does not show here"
                }
                _ => "the limit is known, and neither traffic nor a probe comes in time",
            })
            .subject(Subject { destination: None, ..group.subject(view) })
            .about(group.rows.iter().copied())
            .evidence("count", Evidence::Count(n))
            .evidence("beyond_limit", Evidence::Count(beyond))
            .evidence("never_checked", Evidence::Count(unwatched))
            .evidence("limit_ms", Evidence::Millis(first.limit_ms))
            .evidence("idle_max_ms", Evidence::Millis(longest))
            .evidence("first_probe_ms", Evidence::millis(probes))
            .evidence("peers", closing::peers_evidence(&group.rows))
            .steps(steps(Some(first.by)))
            .fill("limit", text::duration(first.limit_ms));
        Some(finding.next(format!("tcpstate list --state established -o -i{}", group.selection())))
    };
    ranking::alike(groups.iter().filter_map(finding).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer};

    fn heard(port: u16, to: &str, idle_ms: u64) -> Socket {
        let base = row(State::Established, &format!("10.0.0.1:{port}"), to);
        info(base, &[("last_ack_recv_ms", idle_ms), ("last_data_recv_ms", idle_ms), ("last_data_sent_ms", idle_ms)])
    }

    fn watched(port: u16, idle_ms: u64, probe_in_ms: u32) -> Socket {
        timer(heard(port, "10.0.0.2:6379", idle_ms), TimerKind::Keepalive, probe_in_ms, 0)
    }

    /// A path that forgets after 100 s.
    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        world.thresholds.set("path-idle-seconds", 100.0).unwrap();
        for socket in rows {
            world.hold(812, "java", u32::from(socket.local.port), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn what_reaches_the_limit_unchecked_is_an_explanation_with_the_limit() {
        let outcome = world([heard(5000, "10.0.0.2:6379", 120_000), watched(5001, 60_000, 7_140_000)]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(
            finding.summary,
            "java (812) keeps 2 connections with 10.0.0.2:6379 of which nothing ever checks 1, silent for up to 2 min; the \
             path (path-idle-seconds) forgets them after 100 s"
        );
        assert!(finding.evidence.contains(&("beyond_limit", Evidence::Count(1))));
        assert!(finding.evidence.contains(&("first_probe_ms", Evidence::Millis(7_200_000))));
        assert!(finding.remedy[0].ends_with("below 100 s"), "{:?}", finding.remedy);
    }

    #[test]
    fn what_is_checked_in_time_busy_or_local_is_silent() {
        let far = row(State::Established, "10.0.0.3:6379", "10.0.0.1:5009");
        let rows = [
            heard(5000, "10.0.0.2:6379", 49_999),
            watched(5001, 60_000, 40_000),
            Socket { send_q_bytes: Some(1), ..heard(5002, "10.0.0.2:6379", 120_000) },
            heard(5003, "127.0.0.1:6379", 120_000),
            heard(5009, "10.0.0.3:6379", 120_000),
            info(far, &[("last_ack_recv_ms", 5), ("last_data_recv_ms", 5)]),
            Socket { info: None, ..heard(5004, "10.0.0.2:6379", 0) },
            // Its probes are on their way.
            timer(heard(5005, "10.0.0.2:6379", 120_000), TimerKind::Keepalive, 500, 1),
        ];
        assert_eq!(world(rows).check(check), Outcome::default());
        let mut unknown = world([heard(5000, "10.0.0.2:6379", 9_000_000)]);
        unknown.thresholds.set("path-idle-seconds", 0.0).unwrap();
        assert_eq!(unknown.check(check), Outcome::default(), "no limit is known");
    }

    /// Data that was first sent `waiting_ms` ago, after the peer had been silent for `idle_ms`.
    fn dead(port: u16, idle_ms: u64, waiting_ms: u64) -> Socket {
        // Recovery begins after the first timeout, three at most.
        let silence = idle_ms + waiting_ms + 600;
        let base = row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:6379");
        let fields = [
            ("last_ack_recv_ms", silence),
            ("last_data_recv_ms", silence),
            ("last_data_sent_ms", waiting_ms),
            ("total_rto_time_ms", waiting_ms),
            ("total_rto_recoveries", 1),
            ("unacked", 1),
            ("retransmits", 5),
            ("backoff", 5),
            ("rto_us", 6_400_000),
        ];
        timer(info(Socket { send_q_bytes: Some(100), ..base }, &fields), TimerKind::Retransmit, 900, 5)
    }

    #[test]
    fn those_that_died_of_it_are_a_warning_only_beside_others_that_work() {
        let works = || heard(6000, "10.0.0.2:6379", 20);
        let outcome = world([dead(5000, 150_000, 9000), dead(5001, 120_000, 9000), works()]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.summary,
            "2 connections of java (812) to 10.0.0.2:6379 died of silence: idle for 2 min or more before the last write, \
             which gets no answer, while 1 in use to the same place works"
        );
        assert_eq!(world([dead(5000, 150_000, 9000)]).check(check), Outcome::default(), "the host may be gone");
        assert_eq!(world([dead(5000, 99_000, 9000), works()]).check(check), Outcome::default(), "not idle for so long");
        // Without a known limit the smallest in use counts.
        let of = |idle| {
            let mut world = world([dead(5000, idle, 9000), works()]);
            world.thresholds.set("path-idle-seconds", 0.0).unwrap();
            world.check(check).findings.len()
        };
        assert_eq!((of(239_000), of(240_000)), (0, 1));
    }

    #[test]
    fn the_dead_ones_are_one_incident_with_the_reason_in_front() {
        let rows = [dead(5000, 150_000, 9000), dead(5001, 120_000, 9000), heard(6000, "10.0.0.2:6379", 20)];
        let diagnosis = world(rows).diagnose();
        let leads = &diagnosis.incidents[0];
        assert_eq!(diagnosis.findings[leads.cause].rule, "path-idle-limit");
        assert!(leads.consequences.iter().any(|i| diagnosis.findings[*i].rule == "dead-peer-retransmit"));
    }
}
