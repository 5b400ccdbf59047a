//! Bytes have arrived on this connection and the local program does not read them.
//!
//! Input: held connections with unread bytes. Output: one finding per program and verdict. Not here: CLOSE_WAIT (see
//! `close-wait-leak`), connections that nobody has accepted (see `accept-queue-stalled`), and why a process does not
//! read (`reader`).
//!
#![doc = include_str!("../../../docs/rules/recv-queue-stuck.md")]

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::reader::{self, Pressed, Reader, Unread, peer_is_blocked, untouched_ms};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{Class, THAW};
use crate::diagnose::{Outcome, closing, delivery, ranking};
use crate::model::{Process, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("recv-queue-stuck", Established, OneOrTwo, "the local program does not read", check, [TEXT])
        .states(&[State::Established, State::FinWait1, State::FinWait2])
        .title("unread data")
        .identity(Identity::Program)
        .causes(reader::CAUSES);

const PRESSED: &str = "Check the peer that the process cannot write to first: see zero-window-peer";
const RESUME: &str = "Continue the process (SIGCONT), or end the debugger that holds it";
const PIPE: &str =
    "Find who should read the pipe that it writes to: a pager waits for a key, a log collector may be stuck";
const BUSY: &str = "Nothing, if requests may take so long; else find what the worker is doing";
const NOT_WATCHED: &str = "Put the descriptor into the epoll set, or close the connection that nobody needs";
const DRAIN: &str = "With EPOLLET read until EAGAIN each time, or register without EPOLLET";
const REARM: &str = "Arm the one-shot registration again after each event (EPOLL_CTL_MOD)";
const READING_OFF: &str = "Find why reading was never switched on again: back-pressure that did not resume";
const LOOP_STUCK: &str = "Find what keeps the event loop from turning: a blocking call, a lock, a long job";
const TASKS: &str = "Dump the goroutines or tasks: the one that reads this connection waits for something else";
const BLOCKED: &str = "Check where the threads of the owner are blocked: in a lock, in a full pool, waiting for a disk";
const LONGER: &str = "Sample for longer: tcpstate doctor --interval 15s tells a slow reader from one that never reads";
const STACK: &str = "Take a stack of the process, and find the work that blocks its loop or the pool that is used up";
const LIMITS: &str = "If holding back is intended, give it an end: time limits, and a way to shed load";

const TEXT: Text = Text {
    why: "The kernel acknowledges data and keeps it until recv(). When the buffer is full our window goes to zero \
          and the peer stops: there it looks like a slow network, while the request in the buffer is not worked on.",
    remedy: &[
        PRESSED,
        RESUME,
        THAW,
        PIPE,
        BUSY,
        NOT_WATCHED,
        DRAIN,
        REARM,
        READING_OFF,
        LOOP_STUCK,
        TASKS,
        BLOCKED,
        LONGER,
        STACK,
        LIMITS,
    ],
    avoid: &[
        "Don't raise tcp_rmem or SO_RCVBUF: more data would wait",
        "Don't blame the network because the peer reports a zero window",
    ],
};

/// Where data can still arrive, and the peer still waits for it to be taken.
const STATES: [State; 3] = [State::Established, State::FinWait1, State::FinWait2];
/// Data younger than this is on its way to its reader (diagnosis, guard G2).
const TRANSIENT_MS: u64 = 1000;
/// So few bytes behind a request are its end, not the next one: a record, a line end, a close_notify.
const TRAILING_BYTES: u32 = 64;
/// A stopped client with so many connections is a service.
const SERVICE_ROWS: usize = 5;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut unread = Vec::new();
    let mut suspects = 0u64;
    let held = |s: &Socket| s.recv_q_bytes > 0 && peers::is_held(s, &STATES) && !s.ulp;
    for (socket, role) in view.restless_rows().filter(|(s, _)| held(s)) {
        let waited_ms = socket.info.as_deref().and_then(TcpInfo::last_data_recv_ms).map(u64::from);
        let accepted = matches!(role, Role::Server(_) | Role::FormerServer);
        let row = Unread { socket, accepted, untouched_ms: None, waited_ms };
        if view.before.is_some() {
            if let Some(interval) = untouched_ms(view, socket, waited_ms) {
                unread.push(Unread { untouched_ms: Some(interval), ..row });
            }
            continue;
        }
        // Without `tcp_info` the queue itself must tell, which takes two samples.
        suspects += u64::from(waited_ms.is_none_or(|ms| ms >= TRANSIENT_MS));
        if delivery::reaches(row.left_ms(), view.thresholds.queue_stuck_seconds) {
            unread.push(row);
        }
    }
    if suspects > 0 {
        outcome.wants_second = Some(format!("{} not read", text::count(suspects, "connection is", "connections are")));
    }
    if !unread.is_empty() {
        outcome.findings = findings(view, &unread);
    }
    outcome
}

/// The rows of one process, and what is thought of them.
struct Judged<'a> {
    group: Group<'a>,
    unread: Vec<Unread<'a>>,
    reader: Reader,
    severity: Severity,
}

fn findings<'a>(view: &View<'a>, unread: &[Unread<'a>]) -> Vec<Finding> {
    let ends = Peers::new(view);
    let by_place: FxHashMap<*const Socket, &Unread<'a>> =
        unread.iter().map(|u| (std::ptr::from_ref(u.socket), u)).collect();
    let pressed = pressed(view, &ends);
    let judged = ends.groups(unread.iter().map(|u| u.socket), false).into_iter().map(|group| {
        let rows: Vec<Unread<'a>> =
            group.rows.iter().filter_map(|s| by_place.get(&std::ptr::from_ref(*s)).map(|u| **u)).collect();
        let others = group.owner.and_then(|p| pressed.get(&p.pid)).copied().unwrap_or(0);
        judge(view, group, rows, others)
    });
    // The workers of one program that do the same are one finding.
    let mut merged: Vec<Vec<Judged<'a>>> = Vec::new();
    for one in judged {
        match merged.iter_mut().find(|m| is_same(&m[0], &one)) {
            Some(same) => same.push(one),
            None => merged.push(vec![one]),
        }
    }
    merged.into_iter().map(|same| finding(view, &ends, &same)).collect()
}

/// One program, one verdict and the same likeliest cause.
fn is_same(a: &Judged<'_>, b: &Judged<'_>) -> bool {
    let (Some(p), Some(q)) = (a.group.owner, b.group.owner) else { return false };
    let cause = |j: &Judged<'_>| j.reader.causes.left.first().map(|h| h.cause.id);
    (a.group.netns, a.severity, cause(a)) == (b.group.netns, b.severity, cause(b))
        && (&p.comm, p.uid, &p.identity.unit) == (&q.comm, q.uid, &q.identity.unit)
}

/// How many connections each process has that do not take what it wrote: a relay that reads no more for that reason is
/// held up itself.
fn pressed(view: &View<'_>, ends: &Peers<'_, '_>) -> FxHashMap<u32, usize> {
    let mut pids = FxHashMap::default();
    for socket in view.active().filter(|s| is_pressed(view, s)) {
        let Some(owner) = ends.owner(socket) else { continue };
        // One that does not read what it writes itself has no such excuse.
        if ends.other(socket).is_none_or(|other| other.pid != owner.pid) {
            *pids.entry(owner.pid).or_default() += 1;
        }
    }
    pids
}

/// Whether data of ours has waited for the peer in both samples.
fn is_pressed(view: &View<'_>, socket: &Socket) -> bool {
    let unsent = |s: &Socket| s.info.as_deref().and_then(TcpInfo::notsent_bytes).is_some_and(|n| n > 0);
    socket.send_q_bytes.is_some_and(|n| n > 0)
        && (delivery::is_zero_window(socket) || (unsent(socket) && view.earlier(socket).is_some_and(unsent)))
}

fn judge<'a>(view: &View<'a>, group: Group<'a>, unread: Vec<Unread<'a>>, pressed: usize) -> Judged<'a> {
    let accepted = unread.iter().filter(|u| u.accepted).count() * 2 >= unread.len();
    let by_these = group.rows.iter().filter(|s| is_pressed(view, s)).count();
    let by = match pressed {
        n if n < unread.len() => Pressed::Not,
        n if n <= by_these => Pressed::ByThese,
        _ => Pressed::ByOthers,
    };
    let reader = Reader::of(view, group.owner, &group.rows, accepted, by);
    let severity = severity(view, &reader, &unread, by != Pressed::Not);
    Judged { group, unread, reader, severity }
}

/// Whom it hurts. See "Severity" on the page.
fn severity(view: &View<'_>, reader: &Reader, unread: &[Unread<'_>], pressed: bool) -> Severity {
    let limit = |ms: u64| delivery::reaches(ms, view.thresholds.queue_stuck_seconds);
    let clients: Vec<&Unread<'_>> = unread.iter().filter(|u| u.accepted).collect();
    if reader.is_halted() {
        let waits = |u: &&Unread<'_>| limit(u.left_ms().max(u.waited_ms.unwrap_or(0)));
        return match () {
            () if clients.iter().any(waits) => Severity::High,
            () if !clients.is_empty() || unread.len() >= SERVICE_ROWS => Severity::Warning,
            // Somebody stopped a client of his own.
            () => Severity::Info,
        };
    }
    let requests = !clients.is_empty() && clients.iter().all(|u| u.socket.recv_q_bytes <= reader::SHORT_QUEUE_BYTES);
    let in_call = reader.class() == Some(Class::InCall);
    if pressed || in_call || reader.is_busy || (reader.pipe && !requests) {
        return Severity::Info;
    }
    let stuck = matches!(reader.class(), Some(Class::LoopStuck | Class::OneShotSpent))
        || (reader.is_blocked && reader.class() == Some(Class::NoEpoll));
    let waiting: Vec<&&Unread<'_>> = clients.iter().filter(|u| limit(u.left_ms()) && u.is_unanswered()).collect();
    let never_read = |u: &Unread<'_>| u.socket.consumed_bytes() == Some(0);
    if !waiting.is_empty() {
        // More wait than threads could be at work for, or something has never been read: no request is under way.
        let starved = reader.class() == Some(Class::NoEpoll) && waiting.len() > reader.at_work;
        let harmed = stuck || starved || waiting.iter().any(|u| never_read(u));
        let trailing = waiting.len() == 1 && waiting[0].socket.recv_q_bytes <= TRAILING_BYTES;
        return match (harmed, trailing) {
            (true, _) if view.before.is_some() => Severity::High,
            (false, true) => Severity::Info,
            _ => Severity::Warning,
        };
    }
    // What a client reads, and when, is its own choice, unless it is seen to be unable to.
    let own = unread.iter().any(|u| !u.accepted && limit(u.left_ms()) && peer_is_blocked(u.socket));
    if own && (stuck || (reader.class() == Some(Class::Forgotten) && unread.iter().all(never_read))) {
        return Severity::Warning;
    }
    Severity::Info
}

fn finding(view: &View<'_>, ends: &Peers<'_, '_>, same: &[Judged<'_>]) -> Finding {
    let first = &same[0];
    let unread: Vec<&Unread<'_>> = same.iter().flat_map(|j| &j.unread).collect();
    let rows: Vec<&Socket> = unread.iter().map(|u| u.socket).collect();
    let group = Group { rows: rows.clone(), ..first.group.clone() };
    let bytes: u64 = rows.iter().map(|s| u64::from(s.recv_q_bytes)).sum();
    let blocked = rows.iter().filter(|s| peer_is_blocked(s)).count() as u64;
    let left = unread.iter().map(|u| u.left_ms()).max().filter(|ms| *ms > 0).map(Measure::AtLeast);
    let others = other_ends(ends, &rows);
    let mut subject = group.subject(view);
    let mut pids: Vec<u32> =
        same.iter().filter_map(|j| j.group.owner).map(|p| p.pid).chain(others.iter().map(|p| p.pid)).collect();
    pids.sort_unstable();
    pids.dedup();
    subject.pids = if pids.len() > 1 { pids } else { Vec::new() };
    let memory = rows.iter().filter_map(|s| s.skmem);
    let windows = rows.iter().filter_map(|s| s.info.as_deref()?.rcv_wnd_bytes());
    let waited = unread.iter().filter_map(|u| u.waited_ms).max();
    let two = view.before.is_some();
    let mut finding = RULE
        .finding(first.severity, if two { 0.95 } else { 0.6 }, summary(view, same, &group, &unread, &others, left))
        .because(if two {
            "what the application has taken is exact, and did not change between two samples while data waited"
        } else {
            "one sample: a queue that one read would empty has waited, or nothing was ever read"
        })
        .subject(subject)
        .about(rows.iter().copied())
        .causes(first.reader.causes.clone())
        .lasting(left)
        .evidence("count", Evidence::Count(rows.len() as u64))
        .evidence("unread_bytes", Evidence::Bytes(bytes))
        .evidence("not_read_for_ms", Evidence::millis(left.map(Measure::low)))
        .evidence("last_byte_age_ms", Evidence::millis(waited))
        .evidence("clients_waiting", Evidence::Count(unread.iter().filter(|u| u.accepted).count() as u64))
        .evidence("peers_blocked", Evidence::Count(blocked))
        .evidence("receive_memory_bytes", Evidence::Bytes(memory.clone().map(|m| u64::from(m.rmem_alloc_bytes)).sum()))
        .evidence("receive_buffer_bytes", Evidence::Bytes(memory.clone().map(|m| u64::from(m.rcvbuf_bytes)).sum()))
        .evidence("offered_window_min_bytes", windows.min().map_or(Evidence::Unknown, |w| Evidence::Bytes(w.into())))
        .evidence("drops", Evidence::count(memory.filter_map(|m| m.drops).map(u64::from).reduce(|a, b| a + b)))
        .evidence("peers", closing::peers_evidence(&rows));
    if let Some(state) = group.owner.and_then(|p| view.process(p.pid)?.state) {
        finding = finding.evidence("owner_state", Evidence::Text(state.into()));
    }
    if let Some(doing) = first.reader.doing.clone() {
        finding = doing.onto(finding);
    }
    for judged in same {
        finding = judged.group.inspect(finding);
    }
    let step = first.reader.causes.left.first().map_or(BLOCKED, |h| step(h.cause.id));
    finding
        .steps([step, STACK, LIMITS])
        .next(format!("tcpstate list --state established -m -i -p{}", group.selection()))
}

/// `server (812) has left 200 bytes unread on 2 connections with 10.0.0.2, the oldest for at least 13 s`.
fn summary(
    view: &View<'_>,
    same: &[Judged<'_>],
    group: &Group<'_>,
    unread: &[&Unread<'_>],
    others: &[&Process],
    left: Option<Measure<u64>>,
) -> String {
    let n = unread.len() as u64;
    let bytes: u64 = unread.iter().map(|u| u64::from(u.socket.recv_q_bytes)).sum();
    let who = match same.len() {
        1 => format!("{} has", group.name(view)),
        workers => format!("{} and {} more have", group.name(view), workers - 1),
    };
    let lasted = left.map_or_else(String::new, |left| {
        let whose = if n == 1 { "" } else { ", the oldest" };
        format!("{whose} for {}", left.text(text::duration))
    });
    let far = others.first().map_or_else(String::new, |p| format!(", written by {} on this host", text::name(p)));
    let blocked = unread.iter().filter(|u| peer_is_blocked(u.socket)).count();
    let full = match blocked {
        0 => "",
        _ if n == 1 => "; the buffer is full and the peer waits",
        _ => "; buffers are full and peers wait",
    };
    let why = same[0].reader.causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    format!(
        "{who} left {} unread on {} {}{lasted}{far}{full}{why}",
        text::bytes(bytes),
        text::count(n, "connection", "connections"),
        peers::with_whom(&group.rows),
    )
}

/// What to do first, by the likeliest cause.
fn step(cause: &str) -> &'static str {
    match cause {
        "back-pressure" => PRESSED,
        "stopped" => RESUME,
        "frozen" => THAW,
        "pipe-full" => PIPE,
        "worker-busy" => BUSY,
        "loop-stuck" => LOOP_STUCK,
        "not-registered" => NOT_WATCHED,
        "reading-paused" => READING_OFF,
        "task-blocked" => TASKS,
        "not-rearmed" => REARM,
        "edge-not-drained" => DRAIN,
        "slow-reader" => LONGER,
        _ => BLOCKED,
    }
}

/// The processes at the other ends that are on this host, the one with most of them first.
fn other_ends<'a>(ends: &Peers<'_, 'a>, rows: &[&Socket]) -> Vec<&'a Process> {
    let found = ranking::by_rows(rows.iter().filter_map(|s| ends.other(s)));
    found.into_iter().map(|(process, _)| process).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
    use crate::model::snapshot::{EpollWatch, Inspection, ThreadState};
    use crate::model::{Inode, SkMem, TimerKind};

    fn unread(port: u16, bytes: u32, taken: u64, last_data_ms: u64) -> Socket {
        let peer = format!("10.0.0.2:{port}");
        let base = Socket { recv_q_bytes: bytes, ..row(State::Established, "10.0.0.1:80", &peer) };
        let fields = [
            ("bytes_received", taken + u64::from(bytes)),
            ("last_data_recv_ms", last_data_ms),
            ("last_data_sent_ms", last_data_ms + 5),
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
                assert!(info.set("last_data_recv_ms", age + 2000) && info.set("last_data_sent_ms", age + 2005));
            }
            then(socket);
        }
        world
    }

    fn inspected(world: &mut World, threads: &[libc::c_long], watch: Option<EpollWatch>) {
        let thread = |call: &libc::c_long| ThreadState {
            tid: 812,
            name: "main".into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(*call).ok(),
            syscall_arg0: Some(3),
        };
        let inspection = Inspection {
            epoll_sets: u32::from(watch.is_some()),
            watches: watch.into_iter().collect(),
            threads: threads.iter().map(thread).collect(),
            ..Inspection::default()
        };
        let facts = world.now.processes.get_mut(&812).unwrap();
        (facts.inspection, facts.frozen) = (Some(inspection), Some(false));
    }

    /// A listener on port 80, so that the rows of the others are accepted ones.
    fn served(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = world(rows);
        world.add(listen("10.0.0.1:80", 0, 128));
        world
    }

    fn severity(world: &World) -> Option<Severity> {
        world.check(check).findings.first().map(|f| f.severity)
    }

    #[test]
    fn requests_that_nobody_ever_read_hurt_their_clients() {
        let outcome = later(served([unread(5000, 100, 0, 11_000), unread(5001, 100, 0, 3000)]), |_| {}).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.confidence, finding.subject.pid), (Severity::High, 0.95, Some(812)));
        assert_eq!(
            finding.summary,
            "server (812) has left 200 bytes unread on 2 connections with 10.0.0.2, the oldest for at least 13 s"
        );
        assert_eq!(finding.lasting_ms, Some(Measure::AtLeast(13_000)));
        assert_eq!(finding.inspect, [(812, [5000, 5001].map(|n| Inode::new((80 << 16) + n).unwrap()).to_vec())]);
        // Just below, and answered since: a server that only writes.
        assert_eq!(severity(&later(served([unread(5000, 100, 0, 7999)]), |_| {})), Some(Severity::Info));
        assert_eq!(severity(&later(served([unread(5000, 100, 0, 8000)]), |_| {})), Some(Severity::High));
        let answered = later(served([unread(5000, 100, 0, 11_000)]), |s| {
            if let Some(info) = s.info.as_mut() {
                assert!(info.set("last_data_sent_ms", 12_999));
            }
        });
        assert_eq!(severity(&answered), Some(Severity::Info));
    }

    #[test]
    fn a_long_queue_proves_no_more_than_the_interval() {
        // Half a minute without a segment: a reader that takes 64 KiB every 5 s looks the same.
        let row = || [unread(5000, 100_000, 900_000, 30_000)];
        for slow in [served(row()), world(row())] {
            let slow = later(slow, |s| {
                s.skmem = Some(SkMem { rmem_alloc_bytes: 9, rcvbuf_bytes: 9, ..SkMem::default() });
            });
            let finding = &slow.check(check).findings[0];
            assert_eq!((finding.severity, finding.lasting_ms), (Severity::Info, Some(Measure::AtLeast(2000))));
        }
        // Whoever reads takes four kilobytes at once.
        let short = |bytes| severity(&later(served([unread(5000, bytes, 9000, 30_000)]), |_| {}));
        assert_eq!((short(4096), short(4097)), (Some(Severity::Warning), Some(Severity::Info)));
        let mut longer = served([unread(5000, 100_000, 900_000, 30_000)]);
        longer.later(10_000);
        assert_eq!(severity(&longer), Some(Severity::Warning), "ten seconds between the samples prove ten seconds");
    }

    #[test]
    fn a_worker_at_work_and_the_end_of_a_request_are_information() {
        let with = |n: u16, threads: &[libc::c_long]| {
            let mut world = later(served((0..n).map(|p| unread(5000 + p, 100, 100, 20_000))), |_| {});
            inspected(&mut world, threads, None);
            severity(&world)
        };
        assert_eq!(with(1, &[libc::SYS_clock_nanosleep]), Some(Severity::Info));
        assert_eq!(with(2, &[libc::SYS_clock_nanosleep]), Some(Severity::High), "two wait for one thread");
        assert_eq!(with(1, &[libc::SYS_futex]), Some(Severity::High), "a lock that nobody lets go");
        let end = |bytes| severity(&later(served([unread(5000, bytes, 100, 20_000)]), |_| {}));
        assert_eq!((end(64), end(65)), (Some(Severity::Info), Some(Severity::Warning)));
    }

    #[test]
    fn workers_of_one_program_are_one_finding() {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 128));
        for n in 0..6 {
            let socket = unread(5000 + n, 8, 100, 20_000);
            world.hold(812 + u32::from(n), "php-fpm", 4, socket.inode).add(socket);
        }
        let outcome = later(world, |_| {}).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pids.len()), (Severity::Info, 6));
        assert!(finding.summary.starts_with("php-fpm (812) and 5 more have left 48 bytes"), "{}", finding.summary);
    }

    #[test]
    fn a_stopped_server_hurts_its_clients_and_a_stopped_client_nobody() {
        let stopped = |accepted: bool, n: u16, waited| {
            let rows = (0..n).map(|p| unread(5000 + p, 90_000, 500_000, waited));
            let mut world = later(if accepted { served(rows) } else { world(rows) }, |_| {});
            world.now.processes.get_mut(&812).unwrap().state = Some('T');
            let finding = world.check(check).findings.remove(0);
            assert!(finding.causes.is("stopped") && finding.remedy[0] == RESUME, "{finding:?}");
            finding.severity
        };
        assert_eq!((stopped(true, 1, 8000), stopped(true, 1, 7999)), (Severity::High, Severity::Warning));
        assert_eq!((stopped(false, 4, 90_000), stopped(false, 5, 90_000)), (Severity::Info, Severity::Warning));
        let mut frozen = later(served([unread(5000, 100, 0, 20_000)]), |_| {});
        frozen.now.processes.get_mut(&812).unwrap().frozen = Some(true);
        let finding = frozen.check(check).findings.remove(0);
        assert!(finding.severity == Severity::High && finding.causes.is("frozen") && finding.remedy[0] == THAW);
    }

    #[test]
    fn a_client_that_cannot_read_is_a_warning_when_its_loop_is_stuck() {
        let client = |threads: &[libc::c_long], full: bool| {
            let mut world = later(world([unread(5000, 100, 0, 20_000)]), |s| {
                assert!(s.info.as_mut().unwrap().set("rcv_wnd_bytes", if full { 0 } else { 9000 }));
            });
            let inode = Inode::new((80 << 16) + 5000);
            inspected(&mut world, threads, Some(EpollWatch { epoll_fd: 4, target_fd: 5000, inode, events: 0x19 }));
            severity(&world)
        };
        assert_eq!(client(&[libc::SYS_futex], true), Some(Severity::Warning));
        assert_eq!(client(&[libc::SYS_futex], false), Some(Severity::Info), "the peer can still send");
    }

    #[test]
    fn one_sample_is_weak_and_asks_for_a_second() {
        let outcome = served([unread(5000, 100, 0, 10_000)]).check(check);
        assert_eq!((outcome.findings[0].severity, outcome.findings[0].confidence), (Severity::Warning, 0.6));
        assert!(outcome.wants_second.is_some());
        for row in [unread(5000, 100, 0, 9999), unread(5000, 90_000, 9, 99_000)] {
            let silent = served([row]).check(check);
            assert!(silent.findings.is_empty() && silent.wants_second.is_some());
        }
        assert_eq!(served([unread(5000, 100, 0, 999)]).check(check), Outcome::default());
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
        let outcome = later(served([unread(5000, 100, 0, 20_000), full]), |_| {}).check(check);
        assert!(outcome.findings[0].severity == Severity::Info && outcome.findings[0].causes.is("back-pressure"));
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
