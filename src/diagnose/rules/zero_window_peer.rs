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
const USER_TIMEOUT: &str =
    "Set TCP_USER_TIMEOUT: it also ends connections whose peer answers probes and never opens its window";

const TEXT: Text = Text {
    why: "A window of zero means that the peer's receive buffer is full: its application reads slowly or not at all. Our \
          kernel asks again and again, and goes on forever while the peer answers, so the writer blocks or buffers \
          without bound.",
    remedy: &[LOCAL_READER, REMOTE_READER, WRITE_TIMEOUT, BOUND_QUEUES, USER_TIMEOUT],
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
    let mut without_times = 0u64;
    for socket in view.active().filter(|s| is_zero_window(s)) {
        match zero_window_ms(socket) {
            // The other half with an empty queue has read: its window is about to open.
            Some(ms) if reaches(ms, view.thresholds.zero_window_warn_seconds) => {
                stuck.extend(view.mirror(socket).is_none_or(|m| m.recv_q_bytes > 0).then_some(socket));
            }
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
    let mut programs: Vec<Vec<Group<'_>>> = Vec::new();
    for group in Peers::new(view).groups(stuck, true) {
        match programs.iter_mut().find(|p| is_same(view, &p[0], &group)) {
            Some(same) => same.push(group),
            None => programs.push(vec![group]),
        }
    }
    Outcome::findings(programs.iter().map(|p| finding(view, p)).collect())
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
    finding.steps([first, WRITE_TIMEOUT, BOUND_QUEUES, USER_TIMEOUT]).fill("reader", reader).next(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
    use crate::model::TimerKind;
    use crate::model::snapshot::{Inspection, ThreadState};

    /// Shut for so long, in a probe period of a minute or less.
    fn shut(port: u16, since_ms: u64, fields: &[(&str, u64)]) -> Socket {
        let base = Socket {
            send_q_bytes: Some(65_536),
            ..row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:9000")
        };
        let waits = |n: u32| 200u64 << n;
        let backoff = (0..9).find(|n| (0..=*n).map(waits).sum::<u64>() > since_ms).unwrap_or(9);
        let left = (0..=backoff).map(waits).sum::<u64>().saturating_sub(since_ms);
        let mut all = vec![
            ("last_data_sent_ms", since_ms + 50),
            ("rwnd_limited_us", (since_ms + 5) * 1000),
            ("last_ack_recv_ms", 300),
            ("rto_us", 200_000),
            ("backoff", u64::from(backoff)),
        ];
        all.extend(fields);
        timer(info(base, &all), TimerKind::ZeroWindowProbe, u32::try_from(left).unwrap(), 0)
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
        let outcome = world([shut(5000, 62_000, &[]), shut(5001, 11_000, &[])]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "writer (812) cannot send on 2 connections with 10.0.0.2:9000 for at least 62 s, 128 KiB waiting: the peer \
             keeps its window at zero"
        );
        assert_eq!(finding.lasting_ms, Some(Measure::AtLeast(62_000)));
    }

    #[test]
    fn a_server_that_takes_nothing_is_a_warning_after_a_minute() {
        assert_eq!(world([shut(5000, 59_999, &[])]).check(check).findings[0].severity, Severity::Info);
        assert_eq!(world([shut(5000, 60_000, &[])]).check(check).findings[0].severity, Severity::Warning);
        let gone = shut(5000, 20_000, &[]);
        let timer = gone.timer.map(|t| crate::model::Timer { retransmits: 2, ..t });
        let gone = Socket { timer, ..gone };
        assert!(world([gone]).check(check).findings[0].summary.contains("no longer answers"));
    }

    /// A server on port 80 of which `n` clients do not read, with these calls of its threads.
    fn clients(n: u16, send_q: u32, threads: &[(libc::c_long, u64)]) -> World {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        for port in 5000..5000 + n {
            let at = |s: Socket| Socket { send_q_bytes: Some(send_q), ..s };
            let base = row(State::Established, "10.0.0.1:80", &format!("10.0.0.2:{port}"));
            let shut = shut(port, 90_000, &[]);
            let socket = at(Socket { timer: shut.timer, info: shut.info.clone(), ..base });
            world.hold(812, "server", u32::from(port), socket.inode).add(socket);
        }
        let thread = |(call, arg): &(libc::c_long, u64)| ThreadState {
            tid: 812,
            name: "main".into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(*call).ok(),
            syscall_arg0: Some(*arg),
        };
        let inspection = Inspection { threads: threads.iter().map(thread).collect(), ..Inspection::default() };
        world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
        world
    }

    #[test]
    fn what_a_client_does_not_read_is_its_choice_until_it_takes_what_others_need() {
        let severity = |world: &World| world.check(check).findings[0].severity;
        let (poll, send) = ((libc::SYS_ppoll, 9), |port| (libc::SYS_sendto, port));
        assert_eq!(severity(&clients(9, 1 << 20, &[poll])), Severity::Info);
        assert_eq!(severity(&clients(10, 1 << 20, &[poll])), Severity::Warning, "many at once");
        assert_eq!(severity(&clients(8, 4 << 20, &[poll])), Severity::Warning, "32 MiB");
        assert_eq!(severity(&clients(1, 9, &[send(5000), poll])), Severity::Info, "a thread of its own");
        let pool = [send(5000), send(5001), send(5002), send(5003), poll];
        assert_eq!(severity(&clients(4, 9, &pool)), Severity::Warning, "four of five threads");
        assert_eq!(severity(&clients(3, 9, &pool[1..])), Severity::Info);
        let mut only = clients(1, 9, &[send(5000)]);
        assert_eq!(severity(&only), Severity::Warning, "its only thread");
        only.now.sockets[0].recv_q_bytes = 1;
        assert_eq!(severity(&only), Severity::High, "and somebody waits to be accepted");
        // Another worker is free to accept.
        for pid in [813, 814] {
            only.hold(pid, "server", 3, 80 << 16);
        }
        assert_eq!(severity(&only), Severity::Info);
    }

    #[test]
    fn a_reader_on_this_host_is_named_with_the_writer() {
        let mut world = world([shut(5000, 12_000, &[])]);
        let far = Socket { recv_q_bytes: 4000, ..row(State::Established, "10.0.0.2:9000", "10.0.0.1:5000") };
        let far = info(far, &[("bytes_received", 9000)]);
        world.hold(900, "reader", 9, far.inode).add(far).add(listen("10.0.0.2:9000", 0, 8));
        assert_eq!(world.check(check).findings[0].severity, Severity::Info, "it reads, if slowly");
        world.now.processes.get_mut(&900).unwrap().state = Some('T');
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].severity, Severity::Warning);
        let finding = &outcome.findings[0];
        assert_eq!((finding.subject.pid, &finding.subject.pids[..]), (Some(812), &[812, 900][..]));
        assert!(
            finding.summary.ends_with("reader (900) on this host does not read: the reader is stopped or frozen"),
            "{}",
            finding.summary
        );
        assert!(finding.causes.is("reader-halted"));
        assert_eq!(
            finding.next, "tcpstate list -o -i --pid 812 --peer 10.0.0.2:9000",
            "its rows, not those of the reader"
        );
        // Whose queue is empty has read.
        world.now.sockets[1].recv_q_bytes = 0;
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn what_the_other_end_does_not_show_is_listed() {
        let left = |rows: Vec<Socket>, acked: Option<u64>| -> Vec<&'static str> {
            let mut world = world(rows);
            if let Some(acked) = acked {
                world.later(2000);
                assert!(world.now.sockets[0].info.as_mut().unwrap().set("bytes_acked", acked));
            }
            world.check(check).findings[0].causes.left.iter().map(|h| h.cause.id).collect()
        };
        let one = || vec![shut(5000, 20_000, &[])];
        assert_eq!(left(one(), None), ["reader-stuck", "reader-slow", "reader-holds-back", "reader-halted"]);
        assert_eq!(left(one(), Some(0)), left(one(), None));
        assert_eq!(left(one(), Some(1)), ["reader-slow", "reader-holds-back"], "the window opened in between");
        let gone = |probes| {
            let row = shut(5000, 20_000, &[]);
            let timer = row.timer.map(|t| crate::model::Timer { retransmits: probes, ..t });
            vec![Socket { timer, ..row }]
        };
        assert_eq!(left(gone(2), None), ["peer-gone"]);
        assert!(left(gone(1), None).contains(&"peer-gone") && left(gone(1), None).len() == 5);
    }

    #[test]
    fn a_stuck_server_on_this_host_is_high_after_a_minute() {
        let severity = |since, taken: u64, serves: bool| {
            let mut world = world([shut(5000, since, &[])]);
            let far = Socket { recv_q_bytes: 4000, ..row(State::Established, "10.0.0.2:9000", "10.0.0.1:5000") };
            let far = info(far, &[("bytes_received", 4000 + taken)]);
            world.hold(900, "reader", 9, far.inode).add(far);
            if serves {
                world.add(listen("10.0.0.2:9000", 0, 8));
            }
            world.check(check).findings[0].severity
        };
        assert_eq!((severity(59_999, 0, true), severity(60_000, 0, true)), (Severity::Warning, Severity::High));
        assert_eq!(severity(60_000, 1, true), Severity::Info, "it reads, if slowly");
        assert_eq!(severity(60_000, 0, false), Severity::Info, "a client reads when it likes");
    }

    #[test]
    fn a_moment_an_open_window_an_orphan_and_a_late_writer_are_silent() {
        let orphan = unheld(Socket { state: State::FinWait1, shutdown: Some(3), ..shut(5002, 90_000, &[]) });
        let rows = [
            shut(5000, 9_999, &[]),
            // Corked: the timer runs, the window is open.
            shut(5001, 90_000, &[("snd_wnd_bytes", 1)]),
            orphan,
            // The last data left long ago, and the first probe is still to come: it was written just now.
            shut(5003, 90_000, &[("backoff", 0)]),
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
