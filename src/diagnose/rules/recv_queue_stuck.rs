//! Bytes have arrived on this connection and the local program does not read them.
//!
//! Comes in: held connections with unread bytes. Goes out: one finding per process that does not read. Never here:
//! CLOSE_WAIT (see `close-wait-leak`), and connections that nobody has accepted (see `accept-queue-stalled`).
//!
#![doc = include_str!("../../../docs/rules/recv-queue-stuck.md")]

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::delivery;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class};
use crate::model::{Inode, Process, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("recv-queue-stuck", Established, OneOrTwo, "the local program does not read", check, [TEXT]).states(&[
        State::Established,
        State::FinWait1,
        State::FinWait2,
    ]);

const PRESSED: &str = "Check the peer that the process cannot write to first: see zero-window-peer";
const RESUME: &str = "Continue the process (SIGCONT), or end the debugger that holds it";
const NOT_WATCHED: &str = "Put the descriptor into the epoll set, or close the connection that nobody needs";
const DRAIN: &str = "With EPOLLET read until EAGAIN each time, or register without EPOLLET";
const REARM: &str = "Arm the one-shot registration again after each event (EPOLL_CTL_MOD)";
const READING_OFF: &str = "Find why reading was never switched on again: back-pressure that did not resume";
const LOOP_STUCK: &str = "Find what keeps the event loop from turning: a blocking call, a lock, a long job";
const BLOCKED: &str =
    "Check where the threads of the owner are blocked: in a lock, in a full pool, stopped, or waiting for a disk";
const STACK: &str = "Take a stack of the process, and find the work that blocks its loop or the pool that is used up";
const LIMITS: &str = "If holding back is intended, give it an end: time limits, and a way to shed load";

const TEXT: Text = Text {
    why: "The kernel acknowledges data and keeps it until recv(). When the buffer is full our window goes to zero \
          and the peer stops: there it looks like a slow network, while the request in the buffer is not worked on.",
    remedy: &[PRESSED, RESUME, NOT_WATCHED, DRAIN, REARM, READING_OFF, LOOP_STUCK, BLOCKED, STACK, LIMITS],
    avoid: &[
        "Don't raise tcp_rmem or SO_RCVBUF: more data would wait",
        "Don't blame the network because the peer reports a shut window",
    ],
};

/// Where data can still arrive, and the peer still waits for it to be taken.
const STATES: [State; 3] = [State::Established, State::FinWait1, State::FinWait2];
/// Data younger than this is on its way to its reader (diagnosis, guard G2).
const TRANSIENT_MS: u64 = 1000;

/// One row that is not read.
#[derive(Clone, Copy)]
struct Unread<'a> {
    socket: &'a Socket,
    /// Nothing was taken for at least so long.
    at_least_ms: u64,
    /// Whether two samples say so.
    sure: bool,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut unread = Vec::new();
    let (mut suspects, mut without_times) = (0u64, 0u64);
    let limit = view.thresholds.queue_stuck_seconds * 1000.0;
    for socket in view.active().filter(|s| s.recv_q_bytes > 0 && peers::is_held(s, &STATES) && !s.ulp) {
        // Without `tcp_info` the queue itself must tell, which takes two samples.
        let last_data = socket.info.as_deref().and_then(TcpInfo::last_data_recv_ms).map(u64::from);
        if view.before.is_none() {
            match last_data {
                Some(ms) if ms as f64 >= limit => unread.push(Unread { socket, at_least_ms: ms, sure: false }),
                Some(ms) if ms >= TRANSIENT_MS => {}
                Some(_) => continue,
                None => {
                    without_times += 1;
                    continue;
                }
            }
            suspects += 1;
        } else if let Some(at_least_ms) = unread_for_ms(view, socket, last_data) {
            unread.push(Unread { socket, at_least_ms, sure: true });
        }
    }
    if suspects + without_times > 0 {
        outcome.wants_second =
            Some(format!("{} not read", text::count(suspects + without_times, "connection is", "connections are")));
    }
    if !unread.is_empty() {
        outcome.findings = findings(view, &unread);
    }
    outcome
}

/// How long nothing was read, if two samples show that nothing was: what the application has taken is exact.
fn unread_for_ms(view: &View<'_>, socket: &Socket, last_data: Option<u64>) -> Option<u64> {
    let earlier = view.earlier(socket)?;
    let interval = view.interval_ms()?;
    let untouched = match (earlier.consumed_bytes(), socket.consumed_bytes()) {
        (Some(before), Some(now)) => before == now,
        // A queue of the same length may have been read and filled again: only if nothing came since.
        _ => earlier.recv_q_bytes == socket.recv_q_bytes && last_data.is_none_or(|ms| ms >= interval),
    };
    (earlier.recv_q_bytes > 0 && untouched).then(|| interval.max(last_data.unwrap_or(0)))
}

/// Whether the peer can send no more: our buffer is full, or the window that we offer is shut.
fn peer_is_blocked(socket: &Socket) -> bool {
    let full = socket.skmem.is_some_and(|m| m.rcvbuf_bytes > 0 && m.rmem_alloc_bytes >= m.rcvbuf_bytes);
    full || socket.info.as_deref().and_then(TcpInfo::rcv_wnd_bytes) == Some(0)
}

fn findings<'a>(view: &View<'a>, unread: &[Unread<'a>]) -> Vec<Finding> {
    let ends = Peers::new(view);
    let groups = ends.groups(unread.iter().map(|u| u.socket), false);
    // Who cannot write for want of a window has a reason not to read: relays stop on both sides.
    let pressed: FxHashSet<u32> = view
        .now
        .sockets
        .iter()
        .filter(|s| delivery::is_window_shut(s))
        .filter_map(|s| Some((ends.owner(s)?.pid, ends.other(s).map(|p| p.pid))))
        // One that does not read what it writes itself has no such excuse.
        .filter(|(pid, other)| *other != Some(*pid))
        .map(|(pid, _)| pid)
        .collect();
    let by_inode: FxHashMap<Option<Inode>, &Unread<'a>> = unread.iter().map(|u| (u.socket.inode, u)).collect();
    let judge = |group: &Group<'a>| {
        let rows: Vec<&Unread<'a>> = group.rows.iter().filter_map(|s| by_inode.get(&s.inode).copied()).collect();
        finding(view, &ends, group, &rows, group.owner.is_some_and(|p| pressed.contains(&p.pid)))
    };
    ranking::worst(groups.iter().map(judge).collect())
}

fn finding(view: &View<'_>, ends: &Peers<'_, '_>, group: &Group<'_>, unread: &[&Unread<'_>], pressed: bool) -> Finding {
    let rows = &group.rows;
    let n = rows.len() as u64;
    let age = unread.iter().map(|u| u.at_least_ms).max().unwrap_or(0);
    let sure = unread.iter().any(|u| u.sure);
    let blocked = rows.iter().filter(|s| peer_is_blocked(s)).count() as u64;
    let long = age as f64 >= view.thresholds.queue_stuck_seconds * 1000.0;
    let severity = match (long, blocked > 0, pressed) {
        // A full buffer for a moment is flow control.
        (false, ..) | (_, _, true) => Severity::Info,
        (true, true, false) => Severity::High,
        (true, false, false) => Severity::Warning,
    };
    let bytes: u64 = rows.iter().map(|s| u64::from(s.recv_q_bytes)).sum();
    let others = other_ends(ends, rows);
    let far = others.first().map_or_else(String::new, |p| format!(", written by {} on this host", text::name(p)));
    let stopped = match blocked {
        0 => "",
        _ if n == 1 => "; the buffer is full and the peer is stopped",
        _ => "; buffers are full and peers are stopped",
    };
    let summary = format!(
        "{} has not read {} on {} {} for {}{}{far}{stopped}",
        group.name(view),
        text::bytes(bytes),
        text::count(n, "connection", "connections"),
        peers::with_whom(rows),
        if sure { "at least " } else { "perhaps " },
        text::duration(age)
    );
    let mut subject = group.subject(view);
    let mut pids: Vec<u32> = subject.pid.into_iter().chain(others.iter().map(|p| p.pid)).collect();
    pids.sort_unstable();
    pids.dedup();
    subject.pids = if pids.len() > 1 { pids } else { Vec::new() };
    let memory = rows.iter().filter_map(|s| s.skmem);
    let windows = rows.iter().filter_map(|s| s.info.as_deref()?.rcv_wnd_bytes());
    let mut finding = RULE
        .finding(severity, if sure { 0.95 } else { 0.6 }, summary)
        .because(if sure {
            "what the application has taken is exact, and did not change between two samples while data waited"
        } else {
            "one sample: data waits and none has come since, but a slow reader looks the same"
        })
        .subject(subject)
        .evidence("count", Evidence::Count(n))
        .evidence("unread_bytes", Evidence::Bytes(bytes))
        .evidence("not_read_for_ms", Evidence::Millis(age))
        .evidence("peers_blocked", Evidence::Count(blocked))
        .evidence("receive_memory_bytes", Evidence::Bytes(memory.clone().map(|m| u64::from(m.rmem_alloc_bytes)).sum()))
        .evidence("receive_buffer_bytes", Evidence::Bytes(memory.clone().map(|m| u64::from(m.rcvbuf_bytes)).sum()))
        .evidence("offered_window_min_bytes", windows.min().map_or(Evidence::Unknown, |w| Evidence::Bytes(w.into())))
        .evidence("drops", Evidence::count(memory.filter_map(|m| m.drops).map(u64::from).reduce(|a, b| a + b)))
        .evidence("peers", closing::peers_evidence(rows));
    if pressed {
        let text = "the process itself cannot write to a peer that does not read, so it may hold back on purpose";
        finding = finding.evidence("back_pressure", Evidence::Text(text.into()));
    }
    if let Some(state) = group.owner.and_then(|p| view.process(p.pid)?.state) {
        finding = finding.evidence("owner_state", Evidence::Text(state.into()));
    }
    let doing = group.owner.and_then(|p| wait_state::doing(view, p.pid, rows));
    let first = first_step(doing.as_ref().map(|d| d.class), pressed);
    if let Some(doing) = doing {
        finding = doing.onto(finding);
    }
    group
        .inspect(finding)
        .steps([first, STACK, LIMITS])
        .next(format!("tcpstate list --state established -m -i -p{}", group.selection()))
}

/// What to do first, by what the process is seen doing.
fn first_step(class: Option<Class>, pressed: bool) -> &'static str {
    match class {
        _ if pressed => PRESSED,
        Some(Class::Stopped) => RESUME,
        Some(Class::Forgotten) => NOT_WATCHED,
        Some(Class::EdgeNotDrained) => DRAIN,
        Some(Class::OneShotSpent) => REARM,
        Some(Class::ReadingOff) => READING_OFF,
        Some(Class::LoopStuck) => LOOP_STUCK,
        _ => BLOCKED,
    }
}

/// The processes at the other ends that are on this host, the one with most of them first.
fn other_ends<'a>(ends: &Peers<'_, 'a>, rows: &[&Socket]) -> Vec<&'a Process> {
    let mut counts: std::collections::BTreeMap<u32, (&'a Process, u64)> = std::collections::BTreeMap::new();
    for process in rows.iter().filter_map(|s| ends.other(s)) {
        counts.entry(process.pid).or_insert((process, 0)).1 += 1;
    }
    let mut found: Vec<_> = counts.into_values().collect();
    found.sort_by_key(|(process, n)| (std::cmp::Reverse(*n), process.pid));
    found.into_iter().map(|(process, _)| process).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::snapshot::{EpollWatch, Inspection};
    use crate::model::{SkMem, TimerKind};

    fn unread(port: u16, bytes: u32, taken: u64, last_data_ms: u64) -> Socket {
        let peer = format!("10.0.0.2:{port}");
        let base = Socket { recv_q_bytes: bytes, ..row(State::Established, "10.0.0.1:80", &peer) };
        let fields = [
            ("bytes_received", taken + u64::from(bytes)),
            ("last_data_recv_ms", last_data_ms),
            ("rcv_wnd_bytes", 9000),
        ];
        let skmem = SkMem { rmem_alloc_bytes: bytes * 2, rcvbuf_bytes: 131_072, ..SkMem::default() };
        Socket { skmem: Some(skmem), ..info(base, &fields) }
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        for socket in rows {
            world.hold(812, "server", u32::from(socket.peer.port), socket.inode).add(socket);
        }
        world
    }

    /// The same rows two seconds later, as `then` leaves them.
    fn later(mut world: World, then: impl Fn(&mut Socket)) -> World {
        world.later(2000);
        for socket in &mut world.now.sockets {
            if let Some(info) = socket.info.as_mut() {
                let age = u64::from(info.last_data_recv_ms().unwrap_or(0));
                assert!(info.set("last_data_recv_ms", age + 2000));
            }
            then(socket);
        }
        world
    }

    #[test]
    fn two_samples_name_the_process_that_takes_nothing() {
        let outcome = later(world([unread(5000, 100, 900, 11_000), unread(5001, 100, 0, 3000)]), |_| {}).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.confidence, finding.subject.pid), (Severity::Warning, 0.95, Some(812)));
        assert_eq!(
            finding.summary,
            "server (812) has not read 200 bytes on 2 connections with 10.0.0.2 for at least 13 s"
        );
        assert_eq!(finding.inspect, [(812, [5000, 5001].map(|n| Inode::new((80 << 16) + n).unwrap()).to_vec())]);
    }

    #[test]
    fn a_full_buffer_or_a_shut_window_is_a_step_worse() {
        let severity = |age, change: fn(&mut Socket)| {
            later(world([unread(5000, 100, 0, age)]), change).check(check).findings[0].severity
        };
        let full: fn(&mut Socket) =
            |s| s.skmem = Some(SkMem { rmem_alloc_bytes: 9, rcvbuf_bytes: 9, ..SkMem::default() });
        let shut: fn(&mut Socket) = |s| assert!(s.info.as_mut().unwrap().set("rcv_wnd_bytes", 0));
        assert_eq!((severity(20_000, full), severity(20_000, shut)), (Severity::High, Severity::High));
        assert_eq!((severity(7000, full), severity(7000, |_| {})), (Severity::Info, Severity::Info));
        assert_eq!(severity(8000, |_| {}), Severity::Warning);
    }

    #[test]
    fn one_sample_is_weak_and_asks_for_a_second() {
        let outcome = world([unread(5000, 100, 0, 10_000)]).check(check);
        assert_eq!((outcome.findings[0].severity, outcome.findings[0].confidence), (Severity::Warning, 0.6));
        assert!(outcome.wants_second.is_some() && outcome.findings[0].summary.contains("perhaps"));
        let young = world([unread(5000, 100, 0, 9_999)]).check(check);
        assert!(young.findings.is_empty() && young.wants_second.is_some());
        assert_eq!(world([unread(5000, 100, 0, 999)]).check(check), Outcome::default());
    }

    #[test]
    fn readers_however_slow_are_silent() {
        // It took some, and as much came again; all was read; another layer takes the data; nobody accepted it yet.
        let slow = later(world([unread(5000, 100, 0, 20_000)]), |s| {
            assert!(s.info.as_mut().unwrap().set("bytes_received", 150));
        });
        assert_eq!(slow.check(check), Outcome::default());
        let drained = later(world([unread(5000, 100, 0, 20_000)]), |s| s.recv_q_bytes = 0);
        assert_eq!(drained.check(check), Outcome::default());
        let tls = Socket { ulp: true, ..unread(5000, 100, 0, 20_000) };
        let leak = Socket { state: State::CloseWait, ..unread(5001, 100, 0, 20_000) };
        assert_eq!(
            later(world([tls, unheld(unread(5002, 9, 0, 20_000)), leak]), |_| {}).check(check),
            Outcome::default()
        );
        // It came after the first sample: `earlier` had nothing to read.
        let mut fresh = world([unread(5000, 0, 100, 20_000)]);
        fresh.later(2000).now.sockets[0] = unread(5000, 100, 100, 1000);
        assert_eq!(fresh.check(check), Outcome::default());
    }

    #[test]
    fn a_relay_whose_own_peer_does_not_read_only_explains() {
        let full = Socket { send_q_bytes: Some(9), ..row(State::Established, "10.0.0.1:7000", "10.0.0.7:90") };
        let full = timer(info(full, &[]), TimerKind::ZeroWindowProbe, 200, 0);
        let outcome = later(world([unread(5000, 100, 0, 20_000), full]), |_| {}).check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Info);
        assert!(outcome.findings[0].remedy[0].contains("zero-window-peer"));
    }

    #[test]
    fn the_writer_on_this_host_and_what_the_reader_does_are_told() {
        let mut world = later(world([unread(5000, 100, 0, 20_000)]), |_| {});
        let far = row(State::Established, "10.0.0.2:5000", "10.0.0.1:80");
        world.hold(900, "client", 9, far.inode).add(far);
        let watch = EpollWatch { epoll_fd: 4, target_fd: 5000, inode: Inode::new((80 << 16) + 5000), events: 1 << 30 };
        let inspection = Inspection { epoll_sets: 1, watches: vec![watch], ..Inspection::default() };
        world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
        let outcome = world.check(check);
        let finding = &outcome.findings[0];
        assert_eq!(finding.subject.pids, [812, 900]);
        assert!(finding.summary.contains("written by client (900) on this host"), "{}", finding.summary);
        assert!(finding.evidence.contains(&("doing_class", Evidence::Text("oneshot_not_rearmed".into()))));
        assert!(finding.remedy[0].contains("EPOLL_CTL_MOD"));
    }

    #[test]
    fn without_tcp_info_two_equal_queues_are_enough() {
        let bare = || Socket { info: None, ..unread(5000, 100, 0, 0) };
        assert!(world([bare()]).check(check).wants_second.is_some());
        assert_eq!(later(world([bare()]), |_| {}).check(check).findings.len(), 1);
        assert_eq!(later(world([bare()]), |s| s.recv_q_bytes = 99).check(check), Outcome::default());
    }
}
