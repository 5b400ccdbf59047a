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
use crate::diagnose::reader::{self, Pressed, Reader, Unread, is_pressed, peer_is_blocked, untouched_ms};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{Class, THAW};
use crate::diagnose::{Outcome, close_wait, closing, delivery, looks, ranking};
use crate::model::{Process, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule =
    rule!("recv-queue-stuck", Established, OneOrTwo, "the local program does not read", check, [TEXT])
        .states(&[State::Established, State::FinWait1, State::FinWait2, State::CloseWait])
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
const BOTH: &str =
    "Let one side read while it writes: as long as both only write, neither moves; a time limit on writing ends it";
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
        BOTH,
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
/// So many clients that gave up behind a stuck reader are hurt, however short their patience was (policy).
const GAVE_UP: usize = 3;
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
    for (socket, role) in view.restless_rows() {
        let accepted = matches!(role, Role::Server(_) | Role::FormerServer);
        if !(held(socket) || accepted && gave_up(socket)) {
            continue;
        }
        let waited_ms = socket.info.as_deref().and_then(TcpInfo::last_data_recv_ms).map(u64::from);
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

/// Whether a client closed while its request was unread: one that was answered before and asked again, or one that waited and
/// never got a byte. What has been closed for long is `close-wait-leak`'s.
fn gave_up(socket: &Socket) -> bool {
    // Recv-Q counts the FIN.
    close_wait::is_held(socket)
        && socket.recv_q_bytes > 1
        && !socket.ulp
        && close_wait::old_enough(socket).is_none()
        && (was_answered(socket) || is_ignored(socket))
}

fn was_answered(socket: &Socket) -> bool {
    socket.info.as_deref().and_then(TcpInfo::bytes_acked).is_some_and(|n| n > 1)
}

/// Whether a client was never read nor answered, waited for a second after its last byte, and closed. One that closes at once
/// had said all it has to say, and so may this one: it proves nothing of a program that can read.
fn is_ignored(socket: &Socket) -> bool {
    let info = socket.info.as_deref();
    let asked_ms = info.and_then(TcpInfo::last_data_recv_ms).map(u64::from);
    let waited_ms =
        asked_ms.zip(socket.state_age()).map(|(asked, left)| asked.saturating_sub(left.max_ms.unwrap_or(asked)));
    socket.state == State::CloseWait
        && !was_answered(socket)
        && info.and_then(TcpInfo::bytes_sent) == Some(0)
        && socket.consumed_bytes() == Some(0)
        && waited_ms.is_some_and(|ms| ms >= TRANSIENT_MS)
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
    let judged = ends.groups(unread.iter().map(|u| u.socket), false).into_iter().filter_map(|group| {
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

/// `None` when only clients are left that may have waited for nothing.
fn judge<'a>(view: &View<'a>, mut group: Group<'a>, mut unread: Vec<Unread<'a>>, pressed: usize) -> Option<Judged<'a>> {
    let owed: Vec<Unread<'a>> = unread.iter().filter(|u| !is_ignored(u.socket)).copied().collect();
    let ignored = unread.len() - owed.len();
    let mut reader = reader(view, &group, &unread, pressed);
    let inspected = group.owner.and_then(|p| view.process(p.pid)).is_some_and(|f| f.inspection.is_some());
    if ignored > 0 && !reader.0.cannot_serve() && (inspected || ignored < GAVE_UP) {
        if owed.is_empty() {
            return None;
        }
        group.rows = owed.iter().map(|u| u.socket).collect();
        unread.clone_from(&owed);
        reader = self::reader(view, &group, &unread, pressed);
    }
    let (reader, by) = reader;
    let hurt = if reader.cannot_serve() { &unread } else { &owed };
    let severity = severity(view, &reader, hurt, by != Pressed::Not);
    Some(Judged { group, unread, reader, severity })
}

fn reader(view: &View<'_>, group: &Group<'_>, unread: &[Unread<'_>], pressed: usize) -> (Reader, Pressed) {
    let accepted = unread.iter().filter(|u| u.accepted).count() * 2 >= unread.len();
    let by_these = group.rows.iter().filter(|s| is_pressed(view, s)).count();
    let by = match pressed {
        n if n < unread.len() => Pressed::Not,
        n if n <= by_these => Pressed::ByThese,
        _ => Pressed::ByOthers,
    };
    (Reader::of(view, group.owner, &group.rows, accepted, by), by)
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
    if reader.both_write {
        return if unread.iter().any(|u| limit(stands_ms(u))) { Severity::Warning } else { Severity::Info };
    }
    let requests = !clients.is_empty() && clients.iter().all(|u| u.socket.recv_q_bytes <= reader::SHORT_QUEUE_BYTES);
    let in_call = reader.class() == Some(Class::InCall);
    if pressed || in_call || reader.is_busy || (reader.pipe && !requests) {
        return Severity::Info;
    }
    let stuck = matches!(reader.class(), Some(Class::LoopStuck | Class::OneShotSpent))
        || (reader.is_blocked && reader.class() == Some(Class::NoEpoll));
    let gone = clients.iter().filter(|u| u.socket.state == State::CloseWait).count();
    if stuck && gone >= GAVE_UP && view.before.is_some() {
        return Severity::High;
    }
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

/// For how long nobody has read from a full buffer: the window that we offer is shut since the last byte came.
fn stands_ms(unread: &Unread<'_>) -> u64 {
    unread.untouched_ms.max(unread.waited_ms).unwrap_or(0)
}

fn finding(view: &View<'_>, ends: &Peers<'_, '_>, same: &[Judged<'_>]) -> Finding {
    let first = &same[0];
    let unread: Vec<&Unread<'_>> = same.iter().flat_map(|j| &j.unread).collect();
    let rows: Vec<&Socket> = unread.iter().map(|u| u.socket).collect();
    let group = Group { rows: rows.clone(), ..first.group.clone() };
    let bytes: u64 = rows.iter().map(|s| u64::from(s.recv_q_bytes)).sum();
    let blocked = rows.iter().filter(|s| peer_is_blocked(s)).count() as u64;
    let both_write = first.reader.both_write;
    let left = unread.iter().map(|u| if both_write { stands_ms(u) } else { u.left_ms() }).max();
    let left = left.filter(|ms| *ms > 0).map(Measure::AtLeast);
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
    let gone = rows.iter().filter(|s| s.state == State::CloseWait).count() as u64;
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
        .evidence("clients_gone", Evidence::Count(gone))
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
    let states = if gone > 0 { "established,close-wait" } else { "established" };
    let likeliest = first.reader.causes.left.first();
    let how = looks::with_rights(view).filter(|_| likeliest.is_none() && view.now.owners.unreadable > 0);
    let look = how.map(|how| looks::step(view, &how));
    finding
        .steps([likeliest.map_or(BLOCKED, |h| step(h.cause.id)), STACK, LIMITS])
        .first(look)
        .next(format!("tcpstate list --state {states} -m -i -p{}", group.selection()))
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
    let gave_up = unread.iter().filter(|u| u.socket.state == State::CloseWait).count() as u64;
    let gone = match gave_up {
        0 => String::new(),
        1 if n == 1 => "; the client gave up".to_owned(),
        _ if gave_up == n => "; the clients gave up".to_owned(),
        _ => format!("; {} gave up", text::count(gave_up, "client", "clients")),
    };
    let why = same[0].reader.causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    format!(
        "{who} left {} unread on {} {}{lasted}{far}{full}{gone}{why}",
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
        "both-write" => BOTH,
        _ => BLOCKED,
    }
}

/// The processes at the other ends that are on this host, the one with most of them first.
fn other_ends<'a>(ends: &Peers<'_, 'a>, rows: &[&Socket]) -> Vec<&'a Process> {
    let found = ranking::by_rows(rows.iter().filter_map(|s| ends.other(s)));
    found.into_iter().map(|(process, _)| process).collect()
}

#[cfg(test)]
mod tests;
