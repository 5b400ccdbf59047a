//! Bytes that the application wrote do not leave this host, or are not acknowledged.
//!
//! Comes in: held connections with the same unacknowledged data twice. Goes out: one finding per owner and cause. Never
//! here: rows that `zero-window-peer` or `dead-peer-retransmit` reports.
//!
#![doc = include_str!("../../../docs/rules/send-queue-stuck.md")]

use std::collections::BTreeMap;

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::delivery;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Socket, State, TcpInfo, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("send-queue-stuck", Established, Two, "written bytes do not leave or are not acknowledged", check, [TEXT])
        .states(&[State::Established, State::CloseWait, State::FinWait1])
        .title("send queue stuck")
        .identity(Identity::ProgramAndDestination);

const READER: &str = "Check the reader on the other side; zero-window-peer reports it when it lasts";
const PEER: &str = "Check the peer and the path; dead-peer-retransmit reports it after three repetitions";
const SNDBUF: &str = "Remove a hard-coded SO_SNDBUF from the program: it switches auto-tuning off";
const CORK: &str = "Look for TCP_CORK or MSG_MORE that is never taken back, and for a shaper on this host";
const LOSS: &str = "Check loss, the MTU and shaping on the way, and the drops of this host's queues";
const DEADLINE: &str = "Give writes a time limit in the application";

const TEXT: Text = Text {
    why: "The write returned when the kernel took the data, so the application may believe that it was delivered. \
          Something downstream stopped the connection, and the time limits that the kernel counts say what.",
    remedy: &[READER, PEER, SNDBUF, CORK, LOSS, DEADLINE],
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

/// What stops a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Window,
    Silence,
    SendBuffer,
    HeldBack,
    Path,
}

impl Cause {
    fn words(self) -> &'static str {
        match self {
            Cause::Window => "the peer's window is shut",
            Cause::Silence => "the peer does not acknowledge",
            Cause::SendBuffer => "the send buffer is too small",
            Cause::HeldBack => "the window is open, and the data is held back on this host",
            Cause::Path => "the path or the congestion window holds it back",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Cause::Window => "peer_window",
            Cause::Silence => "no_acknowledgement",
            Cause::SendBuffer => "send_buffer",
            Cause::HeldBack => "held_back",
            Cause::Path => "path",
        }
    }
}

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
    let mut causes: BTreeMap<Cause, Vec<&Socket>> = BTreeMap::new();
    for socket in unreported {
        if let Some(cause) = cause(view, socket) {
            causes.entry(cause).or_default().push(socket);
        }
    }
    if causes.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let mut findings = Vec::new();
    for (cause, rows) in causes {
        findings.extend(ends.groups(rows, true).iter().map(|g| finding(view, g, cause)));
    }
    Outcome::findings(ranking::worst(findings))
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
fn cause(view: &View<'_>, socket: &Socket) -> Option<Cause> {
    let earlier = view.earlier(socket)?;
    let interval = view.interval_ms()?;
    let (now, before) = (socket.info.as_deref()?, earlier.info.as_deref()?);
    let stuck = earlier.send_q_bytes.is_some_and(|n| n > 0) && now.bytes_acked()? == before.bytes_acked()?;
    if !stuck || interval <= 2 * peers::base_rto_ms(socket)? {
        return None;
    }
    if delivery::is_window_shut(socket) {
        return Some(Cause::Window);
    }
    let small_buffer = grown(view, socket, TcpInfo::sndbuf_limited_us)? / 1000 * 100 >= interval * NEARLY_ALL;
    match socket.timer {
        Some(t) if t.kind == TimerKind::Retransmit && t.retransmits > 0 => Some(Cause::Silence),
        _ if small_buffer => Some(Cause::SendBuffer),
        // The probe timer with an open window: data that is not to be sent yet, and stays so beyond TCP_CORK's limit.
        Some(t) if t.kind == TimerKind::ZeroWindowProbe => (interval > 2 * CORK_MS).then_some(Cause::HeldBack),
        _ => Some(Cause::Path),
    }
}

fn grown(view: &View<'_>, socket: &Socket, field: fn(&TcpInfo) -> Option<u64>) -> Option<u64> {
    let before = field(view.earlier(socket)?.info.as_deref()?)?;
    Some(field(socket.info.as_deref()?)?.saturating_sub(before))
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

fn finding(view: &View<'_>, group: &Group<'_>, cause: Cause) -> Finding {
    let rows = &group.rows;
    let n = rows.len() as u64;
    let lasted = rows.iter().map(|s| lasted_ms(view, s)).max().unwrap_or(0);
    let long = lasted as f64 >= view.thresholds.send_stuck_warn_seconds * 1000.0;
    let severity = if long { Severity::Warning } else { Severity::Info };
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let far = group.other.map_or_else(String::new, |p| format!(" (held there by {} of this host)", text::name(p)));
    let summary = format!(
        "{} of {} {}{far} did not move {} for {}: {}",
        text::count(n, "connection", "connections"),
        group.name(view),
        peers::with_whom(rows),
        send_q.map_or_else(|| "their data".to_owned(), text::bytes),
        text::duration(lasted),
        cause.words()
    );
    let most = |value: fn(&TcpInfo) -> Option<u64>| rows.iter().filter_map(|s| value(s.info.as_deref()?)).max();
    let least = |value: fn(&TcpInfo) -> Option<u64>| rows.iter().filter_map(|s| value(s.info.as_deref()?)).min();
    let unsent: u64 = rows.iter().filter_map(|s| s.info.as_deref()?.notsent_bytes()).map(u64::from).sum();
    let ms = |field: fn(&TcpInfo) -> Option<u64>| {
        Evidence::millis(rows.iter().filter_map(|s| grown(view, s, field)).max().map(|us| us / 1000))
    };
    let window = least(|i| i.snd_wnd_bytes().map(u64::from));
    let timers = || rows.iter().filter_map(|s| s.timer);
    let finding = RULE
        .finding(severity, 0.7, summary)
        .because(
            "nothing was acknowledged between two samples while data waited; the cause is the kernel's own \
                  account",
        )
        .subject(group.subject(view))
        .evidence("count", Evidence::Count(n))
        .evidence("cause", Evidence::Text(cause.key().into()))
        .evidence("lasted_ms", Evidence::Millis(lasted))
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
    let first = match cause {
        Cause::Window => READER,
        Cause::Silence => PEER,
        Cause::SendBuffer => SNDBUF,
        Cause::HeldBack => CORK,
        Cause::Path => LOSS,
    };
    finding.steps([first, DEADLINE]).next(format!("tcpstate list -o -i{}", group.selection()))
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

    fn found(world: &World) -> Option<(Severity, String)> {
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { return None };
        let cause = finding.evidence.iter().find(|(n, _)| *n == "cause");
        let Some((_, Evidence::Text(cause))) = cause else { panic!("{finding:?}") };
        Some((finding.severity, cause.clone()))
    }

    #[test]
    fn the_cause_follows_timer_and_accounts() {
        let info = |cause: &str| Some((Severity::Info, cause.to_owned()));
        assert_eq!(found(&world([waiting(1, &[])], &[])), info("path"));
        assert_eq!(found(&world([waiting(1, &[])], &[("sndbuf_limited_us", 1_900_000)])), info("send_buffer"));
        let repeated = timer(waiting(1, &[]), TimerKind::Retransmit, 100, 2);
        assert_eq!(found(&world([repeated], &[])), info("no_acknowledgement"));
        let shut = timer(waiting(1, &[("snd_wnd_bytes", 0)]), TimerKind::ZeroWindowProbe, 100, 0);
        assert_eq!(found(&world([shut], &[])), info("peer_window"));
        let corked = timer(waiting(1, &[]), TimerKind::ZeroWindowProbe, 100, 0);
        assert_eq!(found(&world([corked], &[])), info("held_back"));
    }

    #[test]
    fn a_minute_is_a_warning_and_the_numbers_are_told() {
        let minute = [("last_data_sent_ms", 60_000), ("last_ack_recv_ms", 60_000), ("busy_time_us", 60_000_000)];
        let outcome = world([waiting(1, &[]), waiting(2, &[])], &minute).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "2 connections of writer (812) with 10.0.0.2:80 did not move 9 KiB for 60 s: the path or the congestion \
             window holds it back"
        );
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
