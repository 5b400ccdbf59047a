//! The remote application has stopped reading, so its window is zero and our data cannot leave.
//!
//! Comes in: held connections whose window probe timer runs. Goes out: one finding per writer, and per reader when it
//! is on this host. Never here: orphans with a shut window (see `fin-wait1-stuck`).
//!
#![doc = include_str!("../../../docs/rules/zero-window-peer.md")]

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::delivery::{is_window_shut, reaches, window_shut_ms};
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::{Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("zero-window-peer", Established, OneOrTwo, "the remote program does not read", check, [TEXT]).states(&[
        State::Established,
        State::CloseWait,
        State::FinWait1,
    ]);

const LOCAL_READER: &str = "Find out why {reader} does not read: see recv-queue-stuck for it";
const REMOTE_READER: &str = "Find the reader on the other side and what blocks it";
const WRITE_TIMEOUT: &str = "Give writes a time limit, and disconnect clients that do not read";
const BOUND_QUEUES: &str = "Bound the queues in user space, so that one slow reader does not hold everything";
const USER_TIMEOUT: &str =
    "Set TCP_USER_TIMEOUT: it also ends connections whose peer answers probes and never opens its window";

const TEXT: Text = Text {
    why: "A window of zero means that the peer's receive buffer is full because its application does not read. Our \
          kernel asks again and again, and goes on forever while the peer answers, so the writer blocks or buffers \
          without bound.",
    remedy: &[LOCAL_READER, REMOTE_READER, WRITE_TIMEOUT, BOUND_QUEUES, USER_TIMEOUT],
    avoid: &[
        "Don't raise tcp_wmem or SO_SNDBUF: the data only waits in a larger buffer",
        "Don't change keepalive settings: probes are sent already",
    ],
};

/// Probes without an answer from which on the peer counts as gone: one may be on its way.
const UNANSWERED: u8 = 2;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut stuck = Vec::new();
    let mut without_times = 0u64;
    for socket in view.active().filter(|s| is_window_shut(s)) {
        match window_shut_ms(socket) {
            Some(ms) if reaches(ms, view.thresholds.zero_window_warn_seconds) => stuck.push(socket),
            Some(_) => {}
            None => without_times += 1,
        }
    }
    if stuck.is_empty() {
        return match without_times {
            0 => Outcome::default(),
            n => Outcome::not_checked(format!(
                "{} a window, and this source does not tell for how long",
                text::count(n, "connection probes", "connections probe")
            )),
        };
    }
    let groups = Peers::new(view).groups(stuck, true);
    Outcome::findings(ranking::worst(groups.iter().map(|g| finding(view, g)).collect()))
}

fn finding(view: &View<'_>, group: &Group<'_>) -> Finding {
    let rows = &group.rows;
    let n = rows.len() as u64;
    let lasted = rows.iter().filter_map(|s| window_shut_ms(s)).max().unwrap_or(0);
    let gone = rows.iter().filter(|s| s.timer.is_some_and(|t| t.retransmits >= UNANSWERED)).count();
    let high = reaches(lasted, view.thresholds.zero_window_high_seconds);
    let severity = if high { Severity::High } else { Severity::Warning };
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let waiting = send_q.map_or_else(String::new, |b| format!(", {} waiting", text::bytes(b)));
    let doing = match (group.other, gone == rows.len()) {
        (Some(other), _) => format!("{} on this host does not read", text::name(other)),
        (None, true) => "the peer shut its window and no longer answers".to_owned(),
        (None, false) => "the peer does not read".to_owned(),
    };
    let summary = format!(
        "{} cannot send on {} {} for {}{waiting}: {doing}",
        group.name(view),
        text::count(n, "connection", "connections"),
        peers::with_whom(rows),
        text::duration(lasted)
    );
    let most = |value: fn(&TcpInfo) -> Option<u64>| rows.iter().filter_map(|s| value(s.info.as_deref()?)).max();
    let limited = |s: &&Socket| s.info.as_deref()?.rwnd_limited_us();
    let grown = rows.iter().filter_map(|s| Some(limited(s)?.saturating_sub(limited(&view.earlier(s)?)?) / 1000)).max();
    let mut finding = RULE
        .finding(severity, 0.95, summary)
        .because(if gone == rows.len() {
            "the window is shut and our probes go unanswered"
        } else {
            "the kernel probes a shut window and the peer answers, so host and path are alive"
        })
        .subject(group.subject(view))
        .evidence("count", Evidence::Count(n))
        .evidence("lasted_ms", Evidence::Millis(lasted))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("peers_that_do_not_answer", Evidence::Count(gone as u64))
        .evidence("peer_silence_ms", Evidence::millis(closing::silence_ms(rows).map(|(longest, _)| longest)))
        .evidence("limited_by_window_ms", Evidence::millis(most(|i| i.rwnd_limited_us().map(|us| us / 1000))))
        .evidence("backoff_max", Evidence::count(most(|i| i.backoff().map(u64::from))))
        .evidence("send_memory_bytes", Evidence::Bytes(closing::send_memory_bytes(rows.iter().copied())))
        .evidence("peers", closing::peers_evidence(rows));
    if let Some(ms) = grown {
        finding = finding.evidence("limited_by_window_between_samples_ms", Evidence::Millis(ms));
    }
    let (first, reader) = match group.other {
        Some(other) => (LOCAL_READER, text::name(other)),
        None => (REMOTE_READER, String::new()),
    };
    let next = match group.other {
        Some(other) => format!("tcpstate list --pid {} -o -i", other.pid),
        None => format!("tcpstate list -o -i{}", group.selection()),
    };
    finding.steps([first, WRITE_TIMEOUT, BOUND_QUEUES, USER_TIMEOUT]).fill("reader", reader).next(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::TimerKind;

    fn shut(port: u16, since_ms: u64, fields: &[(&str, u64)]) -> Socket {
        let base = Socket {
            send_q_bytes: Some(65_536),
            ..row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:9000")
        };
        let mut all = vec![
            ("last_data_sent_ms", since_ms),
            ("rwnd_limited_us", (since_ms + 5) * 1000),
            ("last_ack_recv_ms", 300),
            ("backoff", 5),
        ];
        all.extend(fields);
        timer(info(base, &all), TimerKind::ZeroWindowProbe, 900, 0)
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        for socket in rows {
            world.hold(812, "writer", u32::from(socket.local.port), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn the_writer_is_named_with_how_long_and_how_much() {
        let outcome = world([shut(5000, 12_000, &[]), shut(5001, 11_000, &[])]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "writer (812) cannot send on 2 connections with 10.0.0.2:9000 for 12 s, 128 KiB waiting: the peer does not \
             read"
        );
        assert!(finding.evidence.contains(&("lasted_ms", Evidence::Millis(12_000))));
    }

    #[test]
    fn a_minute_is_high_and_unanswered_probes_are_said() {
        assert_eq!(world([shut(5000, 59_999, &[])]).check(check).findings[0].severity, Severity::Warning);
        assert_eq!(world([shut(5000, 60_000, &[])]).check(check).findings[0].severity, Severity::High);
        let gone = timer(shut(5000, 20_000, &[]), TimerKind::ZeroWindowProbe, 900, 2);
        assert!(world([gone]).check(check).findings[0].summary.contains("no longer answers"));
    }

    #[test]
    fn a_reader_on_this_host_is_named_with_the_writer() {
        let mut world = world([shut(5000, 12_000, &[])]);
        let far = Socket { recv_q_bytes: 4000, ..row(State::Established, "10.0.0.2:9000", "10.0.0.1:5000") };
        world.hold(900, "reader", 9, far.inode).add(far);
        let outcome = world.check(check);
        let finding = &outcome.findings[0];
        assert_eq!((finding.subject.pid, &finding.subject.pids[..]), (Some(812), &[812, 900][..]));
        assert!(finding.summary.ends_with("reader (900) on this host does not read"), "{}", finding.summary);
        assert_eq!(finding.next, "tcpstate list --pid 900 -o -i");
    }

    #[test]
    fn a_moment_an_open_window_an_orphan_and_a_late_writer_are_silent() {
        let orphan = unheld(Socket { state: State::FinWait1, shutdown: Some(3), ..shut(5002, 90_000, &[]) });
        let rows = [
            shut(5000, 9_999, &[]),
            // Corked: the timer runs, the window is open.
            shut(5001, 90_000, &[("snd_wnd_bytes", 1)]),
            orphan,
            // The last data left long ago, and the window has limited it for two seconds only.
            shut(5003, 90_000, &[("rwnd_limited_us", 2_000_000)]),
            Socket { send_q_bytes: Some(0), ..shut(5004, 90_000, &[]) },
        ];
        assert_eq!(world(rows).check(check), Outcome::default());
    }

    #[test]
    fn a_source_without_times_is_not_judged() {
        let outcome = world([Socket { info: None, ..shut(5000, 0, &[]) }]).check(check);
        assert!(outcome.findings.is_empty() && outcome.not_checked.is_some());
    }
}
