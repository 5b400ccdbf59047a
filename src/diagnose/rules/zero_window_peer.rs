//! The peer keeps its receive window at zero, so that data written here cannot leave.
//!
//! Input: held connections whose window probe timer runs. Output: one finding per writing program, and per reader when it
//! is on this host. Not here: orphans with a zero window (see `fin-wait1-stuck`).
//!
#![doc = include_str!("../../../docs/rules/zero-window-peer.md")]

use crate::aggregate::Role;
use crate::diagnose::delivery::{is_zero_window, reaches, zero_window_ms};
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::reader::{Pressed, Reader};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class};
use crate::diagnose::{Outcome, closing};
use crate::model::{Process, Socket, State, TcpInfo};
use crate::text;

mod not_reopened;

pub(super) const RULE: Rule =
    rule!("zero-window-peer", Established, OneOrTwo, "the remote program does not read", check, [TEXT])
        .states(&[State::Established, State::CloseWait, State::FinWait1])
        .title("zero window")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES);

const LOCAL_READER: &str = "Find out why {reader} does not read: see recv-queue-stuck for it";
const REMOTE_READER: &str = "Find the reader on the other side and what blocks it";
const WRITE_TIMEOUT: &str = "Give writes a time limit, and disconnect clients that do not read";
const BOUND_QUEUES: &str = "Bound the queues in user space, so that one slow reader does not hold everything";
const COMPARE: &str = "Compare the answers to the probes at both ends (`tcpdump`): a window of zero at this end only is the work \
                       of a device between (NAT, firewall, load balancer); a window above zero that this kernel ignores is its \
                       fault";
const OLD_KERNEL: &str = "Take a kernel with the repair of tcp_rcv_established() (Linux 5.10 and the stable versions of October \
                          2020): before it a connection that had received 2 GiB could ignore each later window";
const AGAIN: &str = "Close the connection and open it anew: it moves nothing any more";
const USER_TIMEOUT: &str =
    "Set TCP_USER_TIMEOUT: it also ends connections whose peer answers probes and never opens its window";

const TEXT: Text = Text {
    why: "A window of zero means that the peer's receive buffer is full: its application reads slowly or not at all. Our \
          kernel asks again and again, and goes on forever while the peer answers, so the writer blocks or buffers \
          without bound.",
    remedy: &[LOCAL_READER, REMOTE_READER, WRITE_TIMEOUT, BOUND_QUEUES, COMPARE, OLD_KERNEL, AGAIN, USER_TIMEOUT],
    avoid: &[
        "Don't raise tcp_wmem or SO_SNDBUF: the data only waits in a larger buffer",
        "Don't change keepalive settings: probes are sent already",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "reader-halted",
        text: "the reader is stopped or frozen",
        predicts: "state T, or frozen 1 in cgroup.events, at the process that holds the other end",
        refuted_by: "a reader that runs, or took bytes between the samples",
        decided_by: "the state in /proc/PID/stat of the reader; on another host `ps` there",
    },
    Cause {
        id: "reader-stuck",
        text: "the reader is stuck: its loop or its threads wait for something else",
        predicts: "no thread of the reader waits for this connection, and nothing is taken",
        refuted_by: "bytes that were taken between the samples",
        decided_by: "a stack of the reader; recv-queue-stuck on its host",
    },
    Cause {
        id: "reader-slow",
        text: "the reader takes data, more slowly than it is written",
        predicts: "the window opens from time to time: bytes are acknowledged between two samples",
        refuted_by: "a reader that never took a byte",
        decided_by: "a longer look: `tcpstate doctor --interval 60s --rule zero-window-peer`",
    },
    Cause {
        id: "reader-holds-back",
        text: "the reader holds back on purpose: a pager, a paused download, a relay whose own peer is slow",
        predicts: "a reader that is alive, and takes nothing for as long as it likes",
        refuted_by: "a reader that is stopped, frozen or stuck",
        decided_by: "what the reader is; Send-Q of its other connections",
    },
    Cause {
        id: "window-not-reopened",
        text: "the reader has taken all, and the window that its kernel offers since does not arrive: a device between, or the kernel of \
               one end",
        predicts: "an empty Recv-Q and a window above 0 (rcv-wnd) at the reader, while the window stays at zero here",
        refuted_by: "unread data at the reader",
        decided_by: "Recv-Q and rcv-wnd of the other end: `tcpstate list -i` there; then `tcpdump` of the answers to the probes at both \
                     ends: a window that is zero at one of them only was changed by a device between, and one that is above zero here is \
                     ignored by this kernel",
    },
    Cause {
        id: "peer-gone",
        text: "the peer, or the way to it, is gone since",
        predicts: "two probes or more in a row without an answer",
        refuted_by: "probes that are answered",
        decided_by: "`ping`, or another connection to the same address",
    },
];

/// Probes without an answer from which on the peer counts as gone: one may be on its way.
const UNANSWERED: u8 = 2;

/// So much unsent data of one program is memory that others lack.
const MUCH_BYTES: u64 = 32 << 20;
/// So many clients at once are no choice of each.
const MANY_CLIENTS: usize = 10;
/// From so many blocked threads on a pool runs short, if they are half of it.
const MANY_THREADS: usize = 4;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut stuck = Vec::new();
    let mut shut = Vec::new();
    let mut without_times = 0u64;
    for socket in view.active().filter(|s| is_zero_window(s)) {
        match zero_window_ms(socket) {
            // The other half with an empty queue has read: its window is about to open, or never does.
            Some(ms) if reaches(ms, view.thresholds.zero_window_warn_seconds) => {
                let has_read = view.mirror(socket).is_some_and(|reader| reader.recv_q_bytes == 0);
                if has_read { &mut shut } else { &mut stuck }.push(socket);
            }
            Some(_) => {}
            None => without_times += 1,
        }
    }
    let wants_second = (view.before.is_none() && !shut.is_empty()).then(|| {
        format!("whether {} opens after its reader took all", text::count(shut.len() as u64, "window", "windows"))
    });
    let lost = not_reopened::findings(view, shut);
    if stuck.is_empty() && lost.is_empty() && wants_second.is_none() {
        return match without_times {
            0 => Outcome::default(),
            n => Outcome::not_checked(format!(
                "{} a window, and this source does not tell for how long",
                text::count(n, "connection probes", "connections probe")
            )),
        };
    }
    let mut programs: Vec<Vec<Group<'_>>> = Vec::new();
    for group in Peers::new(view).groups(stuck, true) {
        match programs.iter_mut().find(|p| is_same(view, &p[0], &group)) {
            Some(same) => same.push(group),
            None => programs.push(vec![group]),
        }
    }
    let findings = programs.iter().map(|p| finding(view, p)).chain(lost).collect();
    Outcome { wants_second, ..Outcome::findings(findings) }
}

/// One writing program, one reading program, and connections in the same direction.
fn is_same(view: &View<'_>, a: &Group<'_>, b: &Group<'_>) -> bool {
    let same = |p: Option<&Process>, q: Option<&Process>| match (p, q) {
        (Some(p), Some(q)) => (&p.comm, p.uid, &p.identity.unit) == (&q.comm, q.uid, &q.identity.unit),
        (None, None) => true,
        _ => false,
    };
    a.netns == b.netns
        && a.owner.is_some()
        && same(a.owner, b.owner)
        && same(a.other, b.other)
        && is_accepted(view, a) == is_accepted(view, b)
}

/// Whether most of the rows were accepted: their peers are clients.
fn is_accepted(view: &View<'_>, group: &Group<'_>) -> bool {
    group.rows.iter().filter(|s| silent_peer::is_accepted(view, s)).count() * 2 > group.rows.len()
}

/// Threads of the writers that wait in a call on these connections, and of how many.
fn blocked_threads(view: &View<'_>, groups: &[Group<'_>]) -> Option<(usize, usize)> {
    let of = |g: &Group<'_>| wait_state::in_calls(view, g.owner?.pid, &g.rows);
    groups.iter().map(of).try_fold((0, 0), |(blocked, all), one| one.map(|(b, n)| (blocked + b, all + n)))
}

/// Processes of the same program that can accept what these would: the workers that are left.
fn other_workers(view: &View<'_>, groups: &[Group<'_>]) -> usize {
    let listeners = groups.iter().flat_map(|g| &g.rows).flat_map(|s| view.listener_rows(s));
    let mut holders: Vec<u32> = listeners.flat_map(|l| view.processes(l)).map(|p| p.pid).collect();
    holders.sort_unstable();
    holders.dedup();
    holders.iter().filter(|pid| !groups.iter().any(|g| g.owner.is_some_and(|p| p.pid == **pid))).count()
}

/// The reader at the other end, when it is on this host.
struct Local {
    reader: Reader,
    /// It accepted these connections: others wait for it.
    serves: bool,
    /// It has never taken a byte of any of them.
    never_read: bool,
    /// It took some between the samples; `None` without a second one.
    took: Option<bool>,
}

impl Local {
    fn of(view: &View<'_>, groups: &[Group<'_>]) -> Option<Local> {
        let other = groups[0].other?;
        let mirrors: Vec<&Socket> = groups.iter().flat_map(|g| &g.rows).filter_map(|s| view.mirror(s)).collect();
        let serves = mirrors.iter().any(|m| silent_peer::is_accepted(view, m));
        let took = |m: &&Socket| Some(m.consumed_bytes()? > view.earlier(m)?.consumed_bytes()?);
        Some(Local {
            reader: Reader::of(view, Some(other), &mirrors, serves, Pressed::Not),
            serves,
            never_read: mirrors.iter().all(|m| m.consumed_bytes() == Some(0)),
            took: mirrors.iter().map(took).try_fold(false, |any, one| one.map(|t| any || t)),
        })
    }

    fn is_stuck(&self) -> bool {
        self.reader.is_halted() || self.reader.is_blocked || self.never_read || self.waits_elsewhere()
    }

    fn waits_elsewhere(&self) -> bool {
        self.reader.class() == Some(Class::LoopStuck)
    }
}

/// Which causes are left.
fn causes(view: &View<'_>, rows: &[&Socket], local: Option<&Local>) -> Weighed {
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    let gone = rows.iter().filter(|s| s.timer.is_some_and(|t| t.retransmits >= UNANSWERED)).count();
    let answered = rows.iter().all(|s| s.timer.is_some_and(|t| t.retransmits == 0));
    let acked = |s: &&Socket| {
        let bytes = |s: &Socket| s.info.as_deref()?.bytes_acked();
        Some(bytes(s)? > bytes(view.earlier(s)?)?)
    };
    let moved = rows.iter().filter_map(acked).any(|moved| moved) || local.is_some_and(|l| l.took == Some(true));
    Weighed::of(CAUSES, |cause| match (cause.id, local) {
        ("peer-gone", None) if gone == rows.len() => Weight::Proven,
        ("peer-gone", None) if gone > 0 => Weight::Possible(0.5),
        ("peer-gone", None) if answered => refuted("every probe was answered"),
        ("peer-gone", None) => Weight::Possible(0.1),
        ("peer-gone", Some(_)) => refuted("the other half is on this host"),
        ("window-not-reopened", Some(_)) => refuted("the reader has left data unread"),
        ("window-not-reopened", None) if moved || gone > 0 => Weight::Possible(0.05),
        ("window-not-reopened", None) if rows.iter().any(|s| not_reopened::may_be_deaf(view, s)) => {
            Weight::Possible(0.6)
        }
        ("window-not-reopened", None) => Weight::Possible(0.1),
        ("reader-slow", _) if moved => Weight::Possible(0.8),
        ("reader-slow", Some(l)) if l.never_read => refuted("it has never taken a byte"),
        ("reader-slow", _) => Weight::Possible(0.3),
        (_, _) if moved && cause.id != "reader-holds-back" => refuted("bytes were taken between the samples"),
        ("reader-halted", Some(l)) if l.reader.is_halted() => Weight::Proven,
        ("reader-halted", Some(l)) if l.reader.class().is_some() => refuted("the reader is neither stopped nor frozen"),
        ("reader-halted", _) => Weight::Possible(0.1),
        ("reader-stuck", Some(l)) if l.waits_elsewhere() || l.reader.is_blocked => Weight::Possible(0.9),
        ("reader-stuck", _) => Weight::Possible(0.4),
        (_, Some(l)) if l.waits_elsewhere() => refuted("the loop of the reader does not turn"),
        _ => Weight::Possible(0.2),
    })
}

/// Whom it hurts. See "Severity" on the page.
fn severity(view: &View<'_>, groups: &[Group<'_>], local: Option<&Local>, lasted: u64, waiting_bytes: u64) -> Severity {
    let long = reaches(lasted, view.thresholds.zero_window_high_seconds);
    if let Some(local) = local {
        return match (local.serves && local.is_stuck(), long) {
            (true, true) => Severity::High,
            (true, false) => Severity::Warning,
            (false, _) => of_clients(view, groups, waiting_bytes),
        };
    }
    if is_accepted(view, &groups[0]) {
        return of_clients(view, groups, waiting_bytes);
    }
    // A server that takes nothing for a minute; before that it may be slow.
    if long { Severity::Warning } else { Severity::Info }
}

/// A client reads when it likes; it hurts when it takes what others need.
fn of_clients(view: &View<'_>, groups: &[Group<'_>], waiting_bytes: u64) -> Severity {
    let rows = groups.iter().map(|g| g.rows.len()).sum::<usize>();
    let many = rows >= MANY_CLIENTS || waiting_bytes >= MUCH_BYTES;
    let (blocked, threads) = blocked_threads(view, groups).unwrap_or((0, 0));
    let all = threads > 0 && blocked == threads;
    let accepts = groups.iter().flat_map(|g| &g.rows).any(|s| matches!(view.role(s), Role::Server(_)));
    let short = blocked >= MANY_THREADS && blocked * 2 >= threads;
    // Whoever could accept the next client is blocked by these, or at least half of those.
    let starved = all && accepts && groups.len() >= other_workers(view, groups);
    let queued = || {
        let mut listeners = groups.iter().flat_map(|g| &g.rows).flat_map(|s| view.listener_rows(s));
        listeners.any(|l| l.recv_q_bytes > 0)
    };
    match starved {
        true if queued() => Severity::High,
        true => Severity::Warning,
        false if many || (short && !all) => Severity::Warning,
        false => Severity::Info,
    }
}

fn finding(view: &View<'_>, groups: &[Group<'_>]) -> Finding {
    let rows: Vec<&Socket> = groups.iter().flat_map(|g| g.rows.iter().copied()).collect();
    let group = Group { rows: rows.clone(), ..groups[0].clone() };
    let n = rows.len() as u64;
    let lasted = rows.iter().filter_map(|s| zero_window_ms(s)).max().unwrap_or(0);
    let gone = rows.iter().filter(|s| s.timer.is_some_and(|t| t.retransmits >= UNANSWERED)).count();
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let local = Local::of(view, groups);
    let severity = severity(view, groups, local.as_ref(), lasted, send_q.unwrap_or(0));
    let causes = causes(view, &rows, local.as_ref());
    let waiting = send_q.map_or_else(String::new, |b| format!(", {} waiting", text::bytes(b)));
    let doing = match (group.other, gone == rows.len()) {
        (Some(other), _) => {
            let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
            format!("{} on this host does not read{why}", text::name(other))
        }
        (None, true) => "the peer closed its receive window and no longer answers".to_owned(),
        (None, false) => "the peer keeps its window at zero".to_owned(),
    };
    let lasting = Measure::AtLeast(lasted);
    let name = match groups.len() {
        1 => group.name(view),
        workers => format!("{} and {} more", group.name(view), workers - 1),
    };
    let summary = format!(
        "{name} cannot send on {} {} for {}{waiting}: {doing}",
        text::count(n, "connection", "connections"),
        peers::with_whom(&rows),
        lasting.text(text::duration)
    );
    let most = |value: fn(&TcpInfo) -> Option<u64>| rows.iter().filter_map(|s| value(s.info.as_deref()?)).max();
    let grown = rows.iter().filter_map(|s| Some(view.grown(s, TcpInfo::rwnd_limited_us)? / 1000)).max();
    let mut subject = group.subject(view);
    let mut pids: Vec<u32> = groups.iter().flat_map(|g| peers::both(g.owner, g.other)).collect();
    pids.extend(groups.iter().filter_map(|g| g.owner).map(|p| p.pid));
    pids.sort_unstable();
    pids.dedup();
    subject.pids = if pids.len() > 1 { pids } else { Vec::new() };
    let mut finding = RULE
        .finding(severity, 0.95, summary)
        .because(if gone == rows.len() {
            "the window is zero and our probes go unanswered"
        } else {
            "the kernel probes a zero window and the peer answers, so host and path are alive"
        })
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes)
        .lasting(Some(lasting))
        .evidence("count", Evidence::Count(n))
        .evidence("lasted_ms", Evidence::Millis(lasted))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("peers_that_do_not_answer", Evidence::Count(gone as u64))
        .evidence("peer_silence_ms", Evidence::millis(closing::silence_ms(&rows).map(|(longest, _)| longest)))
        .evidence("limited_by_window_ms", Evidence::millis(most(|i| i.rwnd_limited_us().map(|us| us / 1000))))
        .evidence("backoff_max", Evidence::count(most(|i| i.backoff().map(u64::from))))
        .evidence("send_memory_bytes", Evidence::Bytes(closing::send_memory_bytes(rows.iter().copied())))
        .evidence("peers", closing::peers_evidence(&rows));
    if let Some(ms) = grown {
        finding = finding.evidence("limited_by_window_between_samples_ms", Evidence::Millis(ms));
    }
    if let Some((blocked, threads)) = blocked_threads(view, groups) {
        finding = finding
            .evidence("threads_blocked_in_send", Evidence::Count(blocked as u64))
            .evidence("threads_of_writers", Evidence::Count(threads as u64));
    }
    for group in groups {
        finding = group.inspect(finding);
        if let Some(other) = group.other {
            finding = finding.inspect(other.pid, &[]);
        }
    }
    let (first, reader) = match group.other {
        Some(other) => (LOCAL_READER, text::name(other)),
        None => (REMOTE_READER, String::new()),
    };
    let next = format!("tcpstate list -o -i{}", group.selection());
    let deaf = finding.causes.left.first().is_some_and(|h| h.cause.id == "window-not-reopened");
    let steps =
        if deaf { vec![OLD_KERNEL, AGAIN, first, WRITE_TIMEOUT] } else { vec![first, WRITE_TIMEOUT, BOUND_QUEUES] };
    finding.steps(steps.into_iter().chain([USER_TIMEOUT])).fill("reader", reader).next(next)
}

#[cfg(test)]
mod tests;
