//! Bytes that the application wrote do not leave this host, or are not acknowledged.
//!
//! Input: held connections with the same unacknowledged data twice. Output: one finding per owner and set of causes that is
//! left. Not here: rows that `zero-window-peer` or `dead-peer-retransmit` reports.
//!
#![doc = include_str!("../../../docs/rules/send-queue-stuck.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::delivery;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::reach::{self, Leaving};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{Socket, State, TcpInfo, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("send-queue-stuck", Established, Two, "written bytes do not leave or are not acknowledged", check, [TEXT])
        .states(&[State::Established, State::CloseWait, State::FinWait1])
        .title("send queue stuck")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES);

const READER: &str = "Check the reader on the other side; zero-window-peer reports it when it lasts";
const PEER: &str = "Check the peer and the path; dead-peer-retransmit reports it after three repetitions";
const SNDBUF: &str = "Remove a hard-coded SO_SNDBUF from the program: it switches auto-tuning off";
const CORK: &str = "Look for TCP_CORK or MSG_MORE that is never taken back";
const WAY_OUT: &str = "Check the way out: `ip route get` of the peer, rules of OUTPUT, the state of the interface";
const QUEUE: &str = "Look at the queues of this host: `tc -s qdisc` (backlog, a shaper that is too slow), `ip -s link`";
const LOSS: &str = "Check loss, the MTU and shaping on the way to the peer";
const DEADLINE: &str = "Give writes a time limit in the application";

const TEXT: Text = Text {
    why: "The write returned when the kernel took the data, so the application may believe that it was delivered. \
          Something downstream stopped the connection, and the time limits that the kernel counts say what.",
    remedy: &[READER, PEER, LOSS, WAY_OUT, QUEUE, SNDBUF, CORK, DEADLINE],
    avoid: &[
        "Don't raise tcp_wmem first: it hides the stop and delays the error",
        "Don't change the congestion control as a first step",
    ],
};

const STATES: [State; 3] = [State::Established, State::CloseWait, State::FinWait1];
/// Neither data nor acknowledgements for a second: worth a second look.
const QUIET_MS: u64 = 1000;
/// TCP_CORK and MSG_MORE hold data back for so long at most (tcp(7)).
const CORK_MS: u64 = 200;
/// Percent of the interval that count as all of it.
const NEARLY_ALL: u64 = 90;

const CAUSES: &[Cause] = &[
    Cause {
        id: "peer-window",
        text: "the peer's window is zero",
        predicts: "the window probe timer runs, and the peer offers no window",
        refuted_by: "a window above 0",
        decided_by: "`tcpstate list -o -i`: the timer and `snd_wnd`",
    },
    Cause {
        id: "no-answer",
        text: "the peer, or the way to it, no longer answers",
        predicts: "segments are repeated, and no acknowledgement of any kind comes",
        refuted_by: "acknowledgements that still come, or no segment that was repeated",
        decided_by: "a longer look: dead-peer-retransmit after three repetitions",
    },
    Cause {
        id: "path-loss",
        text: "the path loses these segments (loss, or full-size segments above the MTU)",
        predicts: "segments are repeated, and other acknowledgements come",
        refuted_by: "segments that wait in a queue of this host, or never left",
        decided_by: "`mtr -T` to the peer; `ping -M do -s 1472`; tcpdump at both ends",
    },
    Cause {
        id: "does-not-leave",
        text: "segments do not leave this host (no route, no interface, or a local filter)",
        predicts: "probes fail with an open window and nothing in flight, or TCPRetransFail grows with each repetition",
        refuted_by: "segments in flight that were not repeated, or repeated while TCPRetransFail did not grow",
        decided_by: "`ip route get` of the peer, rules of OUTPUT (`nft list ruleset`), `ip -s link`",
    },
    Cause {
        id: "host-queue",
        text: "a queue or a shaper of this host holds the segments",
        predicts: "the timeout passes and nothing is repeated, as the original is still in a queue here",
        refuted_by: "a segment that was repeated, or nothing in flight",
        decided_by: "`tc -s qdisc`: backlog; TCPSpuriousRtxHostQueues in `nstat -az`",
    },
    Cause {
        id: "send-buffer",
        text: "the send buffer is too small for the path",
        predicts: "nearly all the time limited by the send buffer, everything written in flight",
        refuted_by: "less of the time, or data that waits unsent",
        decided_by: "the buffer in `tcpstate list -m` against bandwidth times round trip; SO_SNDBUF in the program",
    },
    Cause {
        id: "held-back",
        text: "the program holds the data back (TCP_CORK, MSG_MORE)",
        predicts: "nothing in flight and an open window, no probe due yet",
        refuted_by: "data in flight, a zero window, or a probe that failed",
        decided_by: "`strace -e trace=network -p PID`: TCP_CORK set, or MSG_MORE in each send",
    },
];

pub(super) fn check(view: &View<'_>) -> Outcome {
    let waiting = view.active().filter(|s| s.send_q_bytes.is_some_and(|n| n > 0) && peers::is_held(s, &STATES));
    let unreported = waiting.filter(|s| !delivery::lasts_shut(view, s) && !delivery::is_unanswered(view, s));
    if view.before.is_none() {
        return match unreported.filter(|s| is_suspect(s)).count() as u64 {
            0 => Outcome::default(),
            n => Outcome::wants_second(format!(
                "{} data that nothing has moved for a second",
                text::count(n, "connection has", "connections have")
            )),
        };
    }
    let mut pictures: BTreeMap<Vec<&'static str>, (Weighed, Vec<&Socket>)> = BTreeMap::new();
    for socket in unreported {
        if let Some(causes) = causes(view, socket) {
            let left = causes.left.iter().map(|h| h.cause.id).collect();
            pictures.entry(left).or_insert_with(|| (causes, Vec::new())).1.push(socket);
        }
    }
    if pictures.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let mut findings = Vec::new();
    for (causes, rows) in pictures.into_values() {
        findings.extend(ends.groups(rows, true).iter().map(|g| finding(view, g, &causes)));
    }
    Outcome::findings(findings)
}

/// Nothing of it moves, as far as one sample can tell.
fn is_suspect(socket: &Socket) -> bool {
    let quiet = |i: &TcpInfo| Some(i.last_data_sent_ms()?.min(i.last_ack_recv_ms()?));
    match socket.info.as_deref().and_then(quiet) {
        Some(ms) => u64::from(ms) >= QUIET_MS || socket.timer.is_some_and(|t| t.retransmits > 0),
        // Without `tcp_info` only a timer that has fired says so.
        None => socket.timer.is_some_and(|t| t.retransmits > 0),
    }
}

/// Why nothing moved between the samples; `None` when something did, or when too little time passed to say so.
fn causes(view: &View<'_>, socket: &Socket) -> Option<Weighed> {
    let earlier = view.earlier(socket)?;
    let interval = view.interval_ms()?;
    let (now, before) = (socket.info.as_deref()?, earlier.info.as_deref()?);
    let stuck = earlier.send_q_bytes.is_some_and(|n| n > 0) && now.bytes_acked()? == before.bytes_acked()?;
    if !stuck || interval <= 2 * peers::base_rto_ms(socket)? {
        return None;
    }
    let fired = |s: &Socket| s.timer.filter(|t| t.kind == TimerKind::Retransmit).map_or(0, |t| t.retransmits);
    let probing = socket.timer.is_some_and(|t| t.kind == TimerKind::ZeroWindowProbe);
    let picture = Picture {
        shut: delivery::is_zero_window(socket),
        window_bytes: now.snd_wnd_bytes(),
        in_flight: now.unacked().map(|n| n > 0),
        fired: fired(socket) > 0,
        repeated: now.total_retrans() > before.total_retrans(),
        // The timeout passed once more, and the retransmission was not made.
        swallowed: fired(socket) > fired(earlier) && now.total_retrans() == before.total_retrans(),
        failed: view.delta(socket.netns, Counter::TcpExtTcpRetransFail),
        leaving: reach::leaving(view, socket.netns, &[socket]),
        probes_failed: probing && socket.timer.is_some_and(|t| t.retransmits > 0),
        cannot_leave: peers::cannot_leave(socket),
        is_silent: delivery::is_silent(socket),
        buffer_limited: view
            .grown(socket, TcpInfo::sndbuf_limited_us)
            .map(|us| us / 1000 * 100 >= interval * NEARLY_ALL),
    };
    // Data that is not to be sent yet stays so for a moment (TCP_CORK's limit).
    let moment = probing && !picture.shut && interval <= 2 * CORK_MS;
    (!moment).then(|| Weighed::of(CAUSES, |cause| picture.weigh(cause)))
}

/// What two samples show of one connection that stands still.
struct Picture {
    shut: bool,
    window_bytes: Option<u32>,
    in_flight: Option<bool>,
    /// The retransmission timer has run out at least once.
    fired: bool,
    /// A segment was repeated between the samples.
    repeated: bool,
    /// It ran out between the samples, and no segment was repeated.
    swallowed: bool,
    /// Retransmissions of the namespace that failed.
    failed: Option<u64>,
    leaving: Leaving,
    /// A probe with an open window did not leave.
    probes_failed: bool,
    cannot_leave: bool,
    is_silent: Option<bool>,
    buffer_limited: Option<bool>,
}

impl Picture {
    fn weigh(&self, cause: &'static Cause) -> Weight {
        let refuted = |why: &str| Weight::Refuted(why.to_owned());
        let repeats = self.repeated || (self.fired && !self.swallowed);
        match cause.id {
            "peer-window" if self.shut => Weight::Proven,
            "peer-window" => {
                let window =
                    self.window_bytes.map_or("a window".to_owned(), |n| format!("{} of window", text::bytes(n.into())));
                Weight::Refuted(format!("the peer offers {window}"))
            }
            "no-answer" if !repeats => refuted("no segment was repeated"),
            "no-answer" => match self.is_silent {
                Some(false) => refuted("acknowledgements still come"),
                Some(true) => Weight::Possible(0.6),
                None => Weight::Possible(0.4),
            },
            "path-loss" if self.swallowed && self.failed == Some(0) => {
                refuted("nothing was repeated when the timeout passed")
            }
            "path-loss" if self.in_flight == Some(false) => refuted("nothing is in flight"),
            "path-loss" if repeats => Weight::Possible(if self.is_silent == Some(false) { 0.7 } else { 0.3 }),
            "path-loss" => Weight::Possible(0.2),
            "does-not-leave" if self.cannot_leave => Weight::Proven,
            "does-not-leave" => match self.leaving {
                Leaving::Leaves(_) if !self.swallowed => refuted("repeated segments left this host"),
                Leaving::Fails(_) => Weight::Possible(0.7),
                _ if self.probes_failed => Weight::Possible(0.7),
                _ if self.in_flight == Some(false) => Weight::Possible(0.3),
                _ if repeats => Weight::Possible(0.1),
                _ => refuted("segments are in flight, and none failed to leave"),
            },
            "host-queue" if self.swallowed && self.failed == Some(0) => Weight::Proven,
            "host-queue" if self.in_flight == Some(false) => refuted("nothing is in flight"),
            "host-queue" if repeats => refuted("a segment was repeated, so it was in no queue of this host any more"),
            "host-queue" => Weight::Possible(0.5),
            "send-buffer" => match self.buffer_limited {
                Some(true) => Weight::Possible(0.5),
                Some(false) => refuted("the send buffer limited it for less than nine tenths of the time"),
                None => Weight::Possible(0.1),
            },
            _ if self.in_flight == Some(true) => refuted("data is in flight"),
            _ if self.probes_failed => refuted("a probe was due and did not leave"),
            _ => Weight::Possible(0.5),
        }
    }
}

/// How long it has been so, at least: the interval, or longer when neither data left nor an answer came for longer;
/// data that was written later than that shows in the time that the connection had anything to send.
fn lasted_ms(view: &View<'_>, socket: &Socket) -> u64 {
    let interval = view.interval_ms().unwrap_or(0);
    let longer = || {
        let info = socket.info.as_deref()?;
        let quiet = info.last_data_sent_ms()?.min(info.last_ack_recv_ms()?);
        Some(u64::from(quiet).min(info.busy_time_us()? / 1000))
    };
    interval.max(longer().unwrap_or(0))
}

fn finding(view: &View<'_>, group: &Group<'_>, causes: &Weighed) -> Finding {
    let rows = &group.rows;
    let n = rows.len() as u64;
    let lasted = Measure::AtLeast(rows.iter().map(|s| lasted_ms(view, s)).max().unwrap_or(0));
    let long = delivery::reaches(lasted.low(), view.thresholds.send_stuck_warn_seconds);
    let severity = if long { Severity::Warning } else { Severity::Info };
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let far = group.other.map_or_else(String::new, |p| format!(" (held there by {} of this host)", text::name(p)));
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    let summary = format!(
        "{} of {} {}{far} did not move {} for {}{why}",
        text::count(n, "connection", "connections"),
        group.name(view),
        peers::with_whom(rows),
        send_q.map_or_else(|| "their data".to_owned(), text::bytes),
        lasted.text(text::duration),
    );
    let most = |value: fn(&TcpInfo) -> Option<u64>| rows.iter().filter_map(|s| value(s.info.as_deref()?)).max();
    let least = |value: fn(&TcpInfo) -> Option<u64>| rows.iter().filter_map(|s| value(s.info.as_deref()?)).min();
    let unsent: u64 = rows.iter().filter_map(|s| s.info.as_deref()?.notsent_bytes()).map(u64::from).sum();
    let ms = |field: fn(&TcpInfo) -> Option<u64>| {
        Evidence::millis(rows.iter().filter_map(|s| view.grown(s, field)).max().map(|us| us / 1000))
    };
    let window = least(|i| i.snd_wnd_bytes().map(u64::from));
    let timers = || rows.iter().filter_map(|s| s.timer);
    let finding = RULE
        .finding(severity, 0.7, summary)
        .because("nothing was acknowledged between two samples while data waited, for two timeouts or more")
        .causes(causes.clone())
        .lasting(Some(lasted))
        .subject(group.subject(view))
        .about(rows.iter().copied())
        .evidence("count", Evidence::Count(n))
        .evidence("lasted_ms", Evidence::Millis(lasted.low()))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("in_flight_bytes", send_q.map_or(Evidence::Unknown, |q| Evidence::Bytes(q.saturating_sub(unsent))))
        .evidence("not_sent_bytes", Evidence::Bytes(unsent))
        .evidence("peer_window_min_bytes", window.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("congestion_window_min_segments", Evidence::count(least(|i| i.snd_cwnd().map(u64::from))))
        .evidence("retransmissions_max", Evidence::count(timers().map(|t| t.retransmits.into()).max()))
        .evidence("backoff_max", Evidence::count(most(|i| i.backoff().map(u64::from))))
        .evidence("busy_between_samples_ms", ms(TcpInfo::busy_time_us))
        .evidence("limited_by_window_between_samples_ms", ms(TcpInfo::rwnd_limited_us))
        .evidence("limited_by_send_buffer_between_samples_ms", ms(TcpInfo::sndbuf_limited_us))
        .evidence("peers", closing::peers_evidence(rows));
    let steps = causes.left.iter().map(|h| step(h.cause.id));
    finding.steps(steps.chain([DEADLINE])).next(format!("tcpstate list -o -i{}", group.selection()))
}

/// What helps against each cause.
fn step(cause: &str) -> &'static str {
    match cause {
        "peer-window" => READER,
        "no-answer" => PEER,
        "path-loss" => LOSS,
        "does-not-leave" => WAY_OUT,
        "host-queue" => QUEUE,
        "send-buffer" => SNDBUF,
        _ => CORK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};

    fn waiting(port: u16, fields: &[(&str, u64)]) -> Socket {
        let base =
            Socket { send_q_bytes: Some(5000), ..row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:80") };
        let mut all = vec![
            ("rto_us", 204_000),
            ("bytes_acked", 700),
            ("last_data_sent_ms", 3000),
            ("last_ack_recv_ms", 3000),
            ("busy_time_us", 3_000_000),
            ("snd_wnd_bytes", 65_535),
            ("notsent_bytes", 4000),
        ];
        all.extend(fields);
        timer(info(base, &all), TimerKind::Retransmit, 100, 0)
    }

    fn world(rows: impl IntoIterator<Item = Socket>, then: &[(&str, u64)]) -> World {
        let mut world = World::new();
        for socket in rows {
            world.hold(812, "writer", u32::from(socket.local.port), socket.inode).add(socket);
        }
        world.later(2000);
        for socket in &mut world.now.sockets {
            for (name, value) in then {
                assert!(socket.info.as_mut().unwrap().set(name, *value));
            }
        }
        world
    }

    fn found(world: &World) -> Option<(Severity, Vec<&'static str>)> {
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { return None };
        Some((finding.severity, finding.causes.left.iter().map(|h| h.cause.id).collect()))
    }

    #[test]
    fn a_cause_is_named_when_timer_and_accounts_leave_one() {
        let left = |world: &World| found(world).map(|(_, left)| left).unwrap_or_default();
        let sent = ("unacked", 3);
        assert_eq!(left(&world([waiting(1, &[sent])], &[])), ["host-queue", "path-loss"]);
        let small = world([waiting(1, &[sent])], &[("sndbuf_limited_us", 1_800_000)]);
        assert_eq!(left(&small), ["host-queue", "send-buffer", "path-loss"]);
        let less = world([waiting(1, &[sent])], &[("sndbuf_limited_us", 1_799_000)]);
        assert_eq!(left(&less), ["host-queue", "path-loss"]);
        let shut = timer(waiting(1, &[("snd_wnd_bytes", 0)]), TimerKind::ZeroWindowProbe, 100, 0);
        assert_eq!(left(&world([shut], &[])), ["peer-window"]);
        let corked = timer(waiting(1, &[]), TimerKind::ZeroWindowProbe, 100, 0);
        assert_eq!(left(&world([corked.clone()], &[])), ["held-back", "does-not-leave"]);
        let failed = |probes| timer(corked.clone(), TimerKind::ZeroWindowProbe, 100, probes);
        assert_eq!(left(&world([failed(2)], &[])), ["does-not-leave"]);
    }

    #[test]
    fn what_became_of_the_repetitions_decides() {
        let repeated = |grown: u64, failed: Option<u64>, ack_ms: u64| {
            let row = waiting(1, &[("unacked", 3), ("total_retrans", 4), ("last_ack_recv_ms", ack_ms)]);
            let mut world = world([row], &[("total_retrans", 4 + grown)]);
            let socket = world.now.sockets[0].clone();
            world.now.sockets[0] = timer(socket, TimerKind::Retransmit, 100, 2);
            for (side, n) in [(world.before.as_mut(), Some(7)), (Some(&mut world.now), failed.map(|n| 7 + n))] {
                if let (Some(side), Some(n)) = (side, n) {
                    side.netns[0].counters.insert(Counter::TcpExtTcpRetransFail, n);
                }
            }
            found(&world).unwrap().1
        };
        assert_eq!(repeated(2, Some(0), 3000), ["no-answer", "path-loss"], "they left, nothing came");
        assert_eq!(repeated(2, Some(0), 300), ["path-loss"], "they left, and something came");
        assert_eq!(repeated(2, Some(2), 3000), ["does-not-leave", "no-answer", "path-loss"]);
        assert_eq!(repeated(0, Some(0), 3000), ["host-queue"], "the timeout passed and nothing was repeated");
        assert_eq!(repeated(0, None, 3000), ["host-queue", "path-loss"], "no counter says whether it failed");
    }

    #[test]
    fn a_minute_is_a_warning_and_the_numbers_are_told() {
        let minute = [("last_data_sent_ms", 60_000), ("last_ack_recv_ms", 60_000), ("busy_time_us", 60_000_000)];
        let outcome = world([waiting(1, &[]), waiting(2, &[])], &minute).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "2 connections of writer (812) with 10.0.0.2:80 did not move 9 KiB for at least 60 s"
        );
        assert_eq!(finding.lasting_ms, Some(Measure::AtLeast(60_000)));
        let less = [("last_data_sent_ms", 59_999), ("last_ack_recv_ms", 60_000), ("busy_time_us", 60_000_000)];
        assert_eq!(found(&world([waiting(1, &[])], &less)).unwrap().0, Severity::Info);
        assert!(finding.evidence.contains(&("in_flight_bytes", Evidence::Bytes(2000))));
        // Written two seconds ago to a connection that had been idle for a minute.
        let late = [("last_data_sent_ms", 60_000), ("last_ack_recv_ms", 60_000), ("busy_time_us", 2_000_000)];
        assert_eq!(found(&world([waiting(1, &[])], &late)).unwrap().0, Severity::Info);
    }

    #[test]
    fn what_moves_what_others_report_and_short_intervals_are_silent() {
        assert_eq!(found(&world([waiting(1, &[])], &[("bytes_acked", 701)])), None);
        assert_eq!(found(&world([waiting(1, &[("rto_us", 1_000_000)])], &[])), None, "2 s are two timeouts");
        let shut = timer(
            waiting(1, &[("snd_wnd_bytes", 0), ("last_data_sent_ms", 20_000), ("backoff", 6)]),
            TimerKind::ZeroWindowProbe,
            100,
            0,
        );
        assert_eq!(found(&world([shut], &[])), None);
        assert_eq!(found(&world([timer(waiting(1, &[]), TimerKind::Retransmit, 100, 5)], &[])), None);
        assert_eq!(found(&world([unheld(waiting(1, &[]))], &[])), None);
        assert_eq!(found(&world([Socket { send_q_bytes: Some(0), ..waiting(1, &[]) }], &[])), None);
        // Just written in the second sample.
        let mut fresh = world([waiting(1, &[])], &[]);
        fresh.before.as_mut().unwrap().sockets[0].send_q_bytes = Some(0);
        assert_eq!(found(&fresh), None);
    }

    #[test]
    fn one_sample_suspects_only_what_stands_still() {
        let once = |socket: Socket| {
            let mut world = World::new();
            world.add(socket);
            let outcome = world.check(check);
            assert!(outcome.findings.is_empty());
            outcome.wants_second.is_some()
        };
        assert!(once(waiting(1, &[])));
        assert!(!once(waiting(1, &[("last_ack_recv_ms", 20)])));
        assert!(once(timer(waiting(1, &[("last_ack_recv_ms", 20)]), TimerKind::Retransmit, 100, 1)));
    }
}
