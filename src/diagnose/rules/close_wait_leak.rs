//! The other side has closed connections that a program on this host keeps open.
//!
//! Input: CLOSE_WAIT rows that a process holds. Output: one finding per place and kind that only become more, and one per
//! kind of the others: of a process, or of a program where many processes have a few each. Not here: rows that nobody has
//! accepted, or that only a helper holds; other rules have those.
//!
#![doc = include_str!("../../../docs/rules/close-wait-leak.md")]

use crate::diagnose::Outcome;
use crate::diagnose::close_wait::{self, Class, Unread};
use crate::diagnose::fd_inheritance::FdInheritance;
use crate::diagnose::finding::{Finding, Severity, Topic};
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::ranking;
use crate::diagnose::relay::{self, Halves, PassedOn};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::threads;
use crate::diagnose::unclosed::{CAUSES, Case, Cells};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class as Doing, WaitState};
use crate::model::State;
use crate::text;

pub(super) const RULE: Rule =
    rule!("close-wait-leak", CloseWait, OneOrTwo, "the peer closed, the local program does not", check, [TEXT])
        .states(&[State::CloseWait])
        .topic(Topic::CloseWait)
        .title("connection leak")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES)
        .cost(2);

const RESUME: &str = "Let the process continue (SIGCONT, or detach the debugger): it can close nothing now";
const NOT_WATCHED: &str = "Find where the connection is dropped without close(): it is in no epoll set";
const LOOP_STUCK: &str = "Find what the threads wait for: the event is there and the loop does not turn";
const LOOP_IGNORES: &str = "Check what the event loop does on EPOLLRDHUP and on a read of 0 bytes";
const DRAIN: &str = "Read until EAGAIN or 0 after every edge-triggered event";
const REARM: &str = "Arm the one-shot registration again (EPOLL_CTL_MOD) after every event";
const READING_OFF: &str = "Find why reading was never switched on again; keep EPOLLRDHUP registered";
const CLOSE_ON_EOF: &str =
    "Close the connection when read() returns 0 and on every error: try-with-resources, defer, context managers";
const VALIDATE: &str =
    "Make the pool validate or evict idle connections, with an idle limit below the server's keep-alive timeout";
const READ_OR_CLOSE: &str = "Find the objects that still own these connections and read, or close, them";
const UNBLOCK: &str = "Find what blocks the reader: a lock, a full queue, back-pressure that never ended";
const TIMEOUTS: &str = "Set read timeouts and register EPOLLRDHUP, so that a FIN is noticed while nobody reads";
const OTHER_SIDE: &str = "Find out why {whom} does not end its side: it has the same connections in CLOSE_WAIT; to close \
                          those of the clients helps nobody there";
const RELAY_LIMITS: &str = "Limit how long the relay waits for a side that does not end: `timeout client-fin` and `timeout \
                            server-fin` (HAProxy), `proxy_timeout` (nginx), `idle_timeout` (Envoy)";
const RESTART: &str = "Restart the process to buy time; the leak will start again";

const TEXT: Text = Text {
    why: "The other side sent its FIN, and the kernel now waits for our close() without any timer. The program may \
          still send; if it has nothing to send, the socket pins a descriptor until it is closed.",
    remedy: &[
        RESUME,
        NOT_WATCHED,
        LOOP_STUCK,
        LOOP_IGNORES,
        DRAIN,
        REARM,
        READING_OFF,
        CLOSE_ON_EOF,
        VALIDATE,
        READ_OR_CLOSE,
        UNBLOCK,
        TIMEOUTS,
        OTHER_SIDE,
        RELAY_LIMITS,
        RESTART,
    ],
    avoid: &[
        "Don't look for a sysctl: none has an effect on CLOSE_WAIT",
        "Don't take SO_KEEPALIVE or `ss -K` as the cure: the row goes and the descriptor stays, an invisible leak",
        "Don't raise the limit of open files as the fix: it only buys time",
    ],
};

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut all = view.active().filter(|s| close_wait::is_held(s)).peekable();
    if all.peek().is_none() {
        return Outcome::default();
    }
    if all.all(|s| s.info.is_none()) {
        return Outcome::not_checked(
            "this source does not tell how old a CLOSE_WAIT socket is; use `--source netlink`",
        );
    }
    let holding = FdInheritance::new(view);
    let cells = Cells::new(view, &holding);
    let mut outcome = Outcome::default();
    if view.before.is_none() {
        outcome.wants_second = cells.wants_second(view);
    }
    let cases = cells.cases(view);
    let halves = if cases.is_empty() { Halves::default() } else { Halves::new(view) };
    outcome.findings = ranking::alike(cases.iter().map(|case| finding(view, &holding, &halves, case)).collect());
    outcome
}

fn causes(
    case: &Case<'_>,
    view: &View<'_>,
    holding: &FdInheritance<'_, '_>,
    awaited: bool,
    doing: Option<&WaitState>,
    passed: Option<&PassedOn<'_>>,
) -> Weighed {
    let Class { outgoing, unread, answered } = case.class;
    let unheard = matches!(unread, Unread::Eof | Unread::LastWords);
    let locked = case.lead().and_then(|p| view.process(p.pid)?.inspection.as_ref()).is_some_and(threads::all_in_lock);
    let blocked = doing.is_some_and(|d| {
        use Doing::{EdgeNotDrained, LoopStuck, NoEpoll, OneShotSpent, ReadingOff, Stopped};
        let unheard = matches!(d.class, Stopped | LoopStuck | EdgeNotDrained | OneShotSpent | ReadingOff);
        unheard || (d.class == NoEpoll && locked)
    });
    let lost = doing.is_some_and(|d| d.class == Doing::Forgotten);
    let shared = case.rows.iter().any(|r| view.processes(r.socket).len() > 1);
    let strangers = case.rows.iter().any(|r| !holding.is_of_listener(r.socket, r.role));
    let refuted = |why: &str| Weight::Refuted(why.to_owned());
    let untaken = case.is_untaken();
    // Whoever reads the answers of new connections does not wait for something else.
    let reads_others = outgoing && unread != Unread::Data && case.reads_new_ones();
    Weighed::of(CAUSES, |cause| match cause.id {
        "leak"
            if case.is_leak && case.class.is_plain() && unread == Unread::Nothing && !awaited && passed.is_none() =>
        {
            Weight::Proven
        }
        "leak" if untaken => Weight::Possible(0.2),
        "leak" if case.is_leak && reads_others => Weight::Possible(1.5),
        "leak" if case.is_leak => Weight::Possible(0.7),
        "leak" => Weight::Possible(if awaited {
            0.1
        } else if lost {
            0.5
        } else {
            0.3
        }),
        "stale-pool" if !outgoing => refuted("the connections were accepted"),
        "stale-pool" if unread == Unread::Data => refuted("more than a few last words is unread"),
        "stale-pool" if case.is_leak => Weight::Possible(0.3),
        "stale-pool" => Weight::Possible(if unheard { 1.2 } else { 0.4 }),
        "reader-stuck" if unread == Unread::Nothing => refuted("everything was read, EOF too"),
        "reader-stuck" if reads_others => Weight::Possible(0.2),
        "reader-stuck" if blocked || untaken => Weight::Possible(2.0),
        "reader-stuck" => Weight::Possible(if unread == Unread::Data { 0.6 } else { 0.2 }),
        "half-closed-at-work" if outgoing => refuted("the program opened the connections itself"),
        "half-closed-at-work" if answered => refuted("our answer left before the FIN came"),
        "half-closed-at-work" => Weight::Possible(if awaited { 1.0 } else { 0.5 }),
        "passed-on" => relay::weigh(passed),
        _ if shared => Weight::Possible(0.1),
        _ if strangers => Weight::Possible(0.3),
        _ => refuted("one process alone holds each of them"),
    })
}

fn finding<'a>(view: &View<'a>, holding: &FdInheritance<'_, 'a>, halves: &Halves<'a>, case: &Case<'a>) -> Finding {
    let pid = case.lead().map(|p| p.pid);
    let sockets = case.sockets_of_lead();
    let doing = pid.and_then(|pid| wait_state::doing(view, pid, &sockets));
    let rows: Vec<_> = case.rows.iter().map(|r| (r.socket, r.holder)).collect();
    let passed = halves.of(view, &rows);
    let whom = passed.as_ref().filter(|p| p.is_proven()).map(PassedOn::whom);
    let mut summary = case.summary(&case.who(view), whom.as_deref());
    if case.members.len() > 1 {
        let is_stopped = |pid: &u32| view.process(*pid).is_some_and(|f| matches!(f.state, Some('T' | 't')));
        let stopped = case.members.pids().iter().filter(|pid| is_stopped(pid)).count();
        if stopped > 0 {
            summary.push_str(&format!("; {} stopped", text::count(stopped as u64, "process is", "processes are")));
        }
    } else if doing.as_ref().is_some_and(|d| d.class == Doing::Stopped) {
        summary.push_str("; the process is stopped");
    }
    // Clients on this host that only shut down their sending side and hold the rest wait for an answer, so that what their
    // server does may take long and be right.
    let awaited = !case.class.answered && case.peers_half_closed(view) * 2 > case.rows.len();
    let severity = if awaited { Severity::Info } else { case.share.severity(case.is_leak, view.thresholds) };
    let (confidence, reason) = case.confidence(awaited);
    let subject = case.subject(view);
    let next = match (pid, case.selection()) {
        (Some(pid), _) if case.members.len() == 1 => format!("tcpstate list --state close-wait --pid {pid} -p -e -o"),
        (Some(_), Some(place)) => format!("tcpstate list --state close-wait {place} -p -e -o"),
        _ => "tcpstate list --state close-wait -p -e".to_owned(),
    };
    let mut finding = RULE
        .finding(severity, confidence, summary)
        .because(reason)
        .causes(causes(case, view, holding, awaited, doing.as_ref(), passed.as_ref()))
        .lasting(case.oldest())
        .exhausted_in(case.exhausted_in().filter(|_| case.is_leak))
        .subject(subject)
        .about(case.rows.iter().map(|r| r.socket));
    finding = case.onto(view, finding);
    if let Some(passed) = &passed {
        finding = passed.onto(finding);
    }
    if let Some(pid) = pid {
        finding = finding.inspect(pid, &sockets);
    }
    finding = finding
        .topic(if case.class.outgoing { Topic::CloseWait } else { Topic::CloseWaitServer })
        .steps(if whom.is_some() { vec![OTHER_SIDE, RELAY_LIMITS] } else { remedy(case, doing.as_ref()) })
        .fill("whom", whom.unwrap_or_default())
        .next(next);
    match doing {
        Some(doing) => doing.onto(finding),
        None => finding,
    }
}

fn remedy(case: &Case<'_>, doing: Option<&WaitState>) -> Vec<&'static str> {
    let first = match doing.map(|d| d.class) {
        Some(Doing::Stopped) => Some(RESUME),
        // A request that waits for a free worker is often in no set.
        Some(Doing::Forgotten) if case.is_untaken() => None,
        Some(Doing::Forgotten) => Some(NOT_WATCHED),
        Some(Doing::LoopStuck) => Some(LOOP_STUCK),
        Some(Doing::LoopIgnores) => Some(LOOP_IGNORES),
        Some(Doing::EdgeNotDrained) => Some(DRAIN),
        Some(Doing::OneShotSpent) => Some(REARM),
        Some(Doing::ReadingOff) => Some(READING_OFF),
        _ => None,
    };
    let unheard = matches!(case.class.unread, Unread::Eof | Unread::LastWords);
    // An idle pool is in no epoll set by design, and does not need a restart.
    if unheard && case.class.outgoing && !case.is_leak {
        return first.filter(|step| *step == RESUME).into_iter().chain([VALIDATE]).collect();
    }
    let mut steps: Vec<&'static str> = first.into_iter().collect();
    steps.push(match case.class.unread {
        Unread::Nothing => CLOSE_ON_EOF,
        Unread::Eof | Unread::LastWords if case.class.outgoing => VALIDATE,
        Unread::Eof | Unread::LastWords => READ_OR_CLOSE,
        Unread::Data => UNBLOCK,
    });
    if case.class.outgoing && case.class.unread == Unread::Nothing {
        // An answer read to its exact length takes the FIN behind it along, and the pool does not notice.
        steps.push(VALIDATE);
    }
    steps.push(TIMEOUTS);
    if case.is_leak {
        steps.push(RESTART);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Evidence;
    use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
    use crate::model::snapshot::{Inspection, ThreadState};
    use crate::model::{Process, Socket, TimerKind};

    /// A CLOSE_WAIT row whose FIN came so long ago, an answer of ours 5 s before it and the request just before that.
    fn gone_for(ms: u64, local: &str, peer: &str) -> Socket {
        let times = [
            ("last_ack_recv_ms", ms),
            ("last_data_recv_ms", ms + 5010),
            ("last_data_sent_ms", ms + 5000),
            ("bytes_sent", 100),
            ("bytes_received", 900),
        ];
        info(row(State::CloseWait, local, peer), &times)
    }

    fn ms(ages_s: &[u64]) -> Vec<u64> {
        ages_s.iter().map(|s| s * 1000).collect()
    }

    /// A server with one connection per age that it answered and that its client closed.
    fn server(ages_ms: &[u64]) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        for (n, age) in ages_ms.iter().enumerate() {
            let socket = gone_for(*age, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n));
            let inode = socket.inode;
            world.add(socket).hold(812, "server", 4 + u32::try_from(n).unwrap(), inode);
        }
        world
    }

    /// The same, but each client sent its FIN with the request, and nothing was answered.
    fn half_closed_at(ages_ms: &[u64]) -> World {
        let mut world = server(ages_ms);
        for (socket, ms) in world.now.sockets[1..].iter_mut().zip(ages_ms) {
            let info = socket.info.as_mut().unwrap();
            for (field, value) in [("last_data_recv_ms", *ms), ("last_data_sent_ms", ms + 3000), ("bytes_sent", 0)] {
                assert!(info.set(field, value));
            }
        }
        world
    }

    /// A client of 10.0.0.9:443 with one connection per age, of which so much is unread.
    fn client(ages_ms: &[u64], recv_q: u32) -> World {
        let mut world = World::new();
        for (n, age) in ages_ms.iter().enumerate() {
            let socket = gone_for(*age, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.9:443");
            let inode = socket.inode;
            let fd = 5 + u32::try_from(n).unwrap();
            world.add(Socket { recv_q_bytes: recv_q, ..socket }).hold(700, "client", fd, inode);
        }
        world
    }

    /// The world as a sample 2 s later, in which the rows younger than that are new.
    fn twice(mut world: World) -> World {
        world.later(2000);
        let before = world.before.as_mut().unwrap();
        before.sockets.retain(|s| s.state != State::CloseWait || s.state_age().is_none_or(|a| a.min_ms >= 2000));
        world
    }

    fn only(outcome: &Outcome) -> &Finding {
        let [finding] = &outcome.findings[..] else { panic!("{outcome:#?}") };
        finding
    }

    fn has(finding: &Finding, name: &str, value: &Evidence) -> bool {
        finding.evidence.iter().any(|(n, v)| *n == name && v == value)
    }

    fn leading(finding: &Finding) -> &str {
        finding.causes.left.first().map_or("", |h| h.cause.id)
    }

    #[test]
    fn what_only_comes_is_a_leak_within_seconds_and_its_end_is_told() {
        // 20 a second for 6 s.
        let ages: Vec<u64> = (1..120).map(|n| n * 50).collect();
        for (world, who) in [
            (client(&ages, 0), "client (700) does not close connections to 10.0.0.9:443 that the other side closed"),
            (client(&ages, 1), "client (700) does not close"),
            (client(&ages, 5000), "client (700) does not close"),
            (server(&ages), "server (812) does not close connections on 0.0.0.0:80 that the other side closed"),
        ] {
            let once = world.check(check);
            assert!(once.findings.is_empty() && once.wants_second.is_some(), "{once:?}");
            let outcome = twice(world).check(check);
            let leak = only(&outcome);
            assert!(leak.summary.starts_with(who), "{}", leak.summary);
            assert!(leak.summary.contains("119 in CLOSE_WAIT, 20 a second more"), "{}", leak.summary);
            assert!(leak.summary.contains("out of descriptors in about 51 s"), "{}", leak.summary);
            assert_eq!((leak.severity, leading(leak)), (Severity::High, "leak"), "EMFILE within the hour");
        }
    }

    #[test]
    fn what_the_rows_show_tells_a_leak_from_a_reader_that_is_stuck() {
        let ages: Vec<u64> = (1..120).map(|n| n * 50).collect();
        let locked = |world: &mut World, pid: u32| {
            let thread = ThreadState {
                tid: pid,
                name: "main".into(),
                state: Some('S'),
                wchan: None,
                syscall: u64::try_from(libc::SYS_futex).ok(),
                syscall_arg0: Some(0),
            };
            let facts = world.now.processes.get_mut(&pid).unwrap();
            facts.inspection = Some(Inspection { threads: vec![thread], ..Inspection::default() });
        };
        // The answers of new connections were read: it does not wait for something else, whatever its threads show.
        let mut reads = client(&ages, 1);
        locked(&mut reads, 700);
        assert_eq!(leading(only(&twice(reads).check(check))), "leak");
        // Requests of which no byte was ever read: no worker has taken them.
        let mut untaken = server(&ages);
        for socket in untaken.now.sockets.iter_mut().filter(|s| s.state == State::CloseWait) {
            socket.recv_q_bytes = 900;
            assert!(socket.info.as_mut().unwrap().set("bytes_sent", 0));
        }
        let outcome = twice(untaken).check(check);
        assert_eq!(leading(only(&outcome)), "reader-stuck", "{:#?}", only(&outcome).causes.left);
        assert!(only(&outcome).remedy[0].starts_with("Find what blocks the reader"), "{:?}", only(&outcome).remedy);
    }

    #[test]
    fn one_a_second_is_found_and_one_that_goes_for_each_that_comes_is_not() {
        let ages: Vec<u64> = (0..20).map(|n| 500 + n * 1000).collect();
        let slow = twice(client(&ages, 0));
        let outcome = slow.check(check);
        assert_eq!(only(&outcome).severity, Severity::Warning, "two are no measured rate");
        assert!(only(&outcome).causes.is("leak"));
        let mut churns = slow;
        for n in 0..2 {
            let left = gone_for(9000, &format!("10.0.0.1:{}", 50_000 + n), "10.0.0.9:443");
            let inode = left.inode;
            churns.hold(700, "client", 90 + n, inode);
            let owners = churns.now.owners.clone();
            let before = churns.before.as_mut().unwrap();
            before.sockets.push(left);
            before.owners = owners;
        }
        assert_eq!(churns.check(check), Outcome::default());
    }

    #[test]
    fn a_burst_a_filling_pool_and_too_few_are_no_leak() {
        let burst: Vec<u64> = (0..60).map(|n| 1500 + n * 20).collect();
        assert_eq!(twice(client(&burst, 0)).check(check), Outcome::default(), "all connections within a second");
        let filling: Vec<u64> = (0..31).map(|n| n * 190).collect();
        assert_eq!(twice(client(&filling, 1)).check(check), Outcome::default(), "a pool of 31");
        let more: Vec<u64> = (0..32).map(|n| n * 185).collect();
        assert_eq!(only(&twice(client(&more, 1)).check(check)).severity, Severity::High, "no pool has 32");
        let few: Vec<u64> = (0..15).map(|n| n * 390).collect();
        assert_eq!(twice(client(&few, 0)).check(check), Outcome::default());
    }

    #[test]
    fn requests_that_were_half_closed_are_at_work_until_their_number_hurts() {
        let old: Vec<u64> = std::iter::repeat_n(64_000, 14).collect();
        let outcome = half_closed_at(&old).check(check);
        assert_eq!((only(&outcome).severity, leading(only(&outcome))), (Severity::Info, "half-closed-at-work"));
        let coming = |n: u64| twice(half_closed_at(&(0..n).map(|i| i * 60_000 / n).collect::<Vec<u64>>())).check(check);
        assert_eq!(coming(102), Outcome::default(), "jobs of a minute or more that come, 10 % of 1024");
        let outcome = coming(103);
        assert_eq!(only(&outcome).causes.named(), None, "either is possible");
        assert_eq!(only(&outcome).severity, Severity::High);
    }

    #[test]
    fn clients_on_this_host_that_hold_on_for_their_answer_are_no_warning() {
        let mut world = half_closed_at(&(0..200).map(|i| i * 300).collect::<Vec<u64>>());
        for n in 0..200 {
            world.add(row(State::FinWait2, &format!("10.0.0.9:{}", 40_000 + n), "10.0.0.1:80"));
        }
        let outcome = twice(world).check(check);
        assert_eq!((only(&outcome).severity, only(&outcome).confidence), (Severity::Info, 0.6));
    }

    #[test]
    fn ages_show_a_leak_that_is_slow() {
        // One every 20 minutes over two hours; 1004 descriptors are free, so it takes two weeks.
        let outcome = server(&ms(&[600, 1800, 3600, 4200, 5400, 6600, 7500, 8100])).check(check);
        let leak = only(&outcome);
        assert_eq!((leak.severity, leak.confidence), (Severity::Warning, 0.85));
        assert!(
            leak.summary.contains("8 in CLOSE_WAIT, about 2.7 an hour more, the oldest for 2 h, out of"),
            "{}",
            leak.summary
        );
        let seven = server(&ms(&[600, 1800, 3600, 4200, 5400, 7500, 8100])).check(check);
        assert_eq!(only(&seven).severity, Severity::Info);
    }

    #[test]
    fn severity_without_growth_needs_half_of_the_limit() {
        let burst = |n: usize| server(&vec![300_000; n]).check(check);
        for (n, severity) in [(10, Severity::Info), (511, Severity::Info), (512, Severity::Warning)] {
            assert_eq!(only(&burst(n)).severity, severity, "{n} of 1024");
        }
        let mut full = server(&vec![300_000; 200]);
        full.now.processes.get_mut(&812).unwrap().fd_used = Some(1024);
        assert_eq!(only(&full.check(check)).severity, Severity::Critical, "EMFILE, and a fifth is this");
    }

    #[test]
    fn idle_pools_are_explanations_and_a_body_that_is_unread_beside_them_is_no_pool() {
        for (recv_q, words) in
            [(1, "EOF is unread"), (32, "the last 31 bytes or fewer of each and EOF are unread"), (301, "last 300")]
        {
            let outcome = client(&ms(&[70, 90, 110, 400]), recv_q).check(check);
            let finding = only(&outcome);
            assert_eq!((finding.severity, leading(finding)), (Severity::Info, "stale-pool"));
            assert!(finding.summary.contains(words), "{}", finding.summary);
            assert!(finding.remedy[0].contains("evict idle connections"), "{:?}", finding.remedy);
        }
        assert_eq!(only(&client(&[300_000; 30], 1).check(check)).severity, Severity::Info, "30 of 1024 harm nobody");
        let mut mixed = client(&[300_000; 30], 32);
        for socket in mixed.now.sockets.iter_mut().take(10) {
            socket.recv_q_bytes = 32_001;
        }
        let outcome = mixed.check(check);
        let told: Vec<(&str, bool)> =
            outcome.findings.iter().map(|f| (leading(f), f.summary.contains("312 KiB and EOF"))).collect();
        assert_eq!(told, [("stale-pool", false), ("reader-stuck", true)]);
    }

    #[test]
    fn younger_rows_of_the_kind_are_counted_beside_those_of_a_minute() {
        let outcome = client(&ms(&[70, 70, 59, 20]), 1).check(check);
        assert_eq!(
            only(&outcome).summary,
            "client (700) keeps 2 of 4 connections to 10.0.0.9:443 open that the other side closed, those for a minute \
             or more, the oldest for 70 s; EOF is unread"
        );
        assert_eq!(client(&ms(&[59]), 1).check(check), Outcome::default());
    }

    #[test]
    fn what_sends_is_at_work() {
        let with = |change: fn(&mut Socket)| {
            let mut world = server(&[300_000]);
            change(&mut world.now.sockets[1]);
            world.check(check)
        };
        assert_eq!(with(|s| s.send_q_bytes = Some(10)), Outcome::default(), "bytes still go out");
        let sends = |s: &mut Socket| assert!(s.info.as_mut().unwrap().set("last_data_sent_ms", 2000));
        assert_eq!(with(sends), Outcome::default(), "it sent two seconds ago");
        assert_eq!(with(|s| *s = unheld(s.clone())), Outcome::default(), "not accepted");
        let mut answering = server(&[300_000]);
        answering.later(2000);
        assert!(answering.now.sockets[1].info.as_mut().unwrap().set("bytes_sent", 500));
        assert_eq!(answering.check(check), Outcome::default(), "bytes_sent grows");
    }

    #[test]
    fn own_keepalive_hides_the_age_so_a_second_look_decides() {
        let mut world = server(&[300_000]);
        let socket = world.now.sockets[1].clone();
        world.now.sockets[1] = info(
            timer(socket, TimerKind::Keepalive, 5000, 0),
            &[("last_ack_recv_ms", 4000), ("last_data_recv_ms", 300_000), ("last_data_sent_ms", 300_000)],
        );
        let once = world.check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some(), "{once:?}");
        let outcome = world.later(2000).check(check);
        assert!((only(&outcome).confidence - 0.6).abs() < 1e-9);
        assert!(has(only(&outcome), "oldest_possible_age_ms", &Evidence::Millis(300_000)), "{outcome:?}");
        // It was established in the sample before: the FIN has only just come.
        world.before.as_mut().unwrap().sockets[1].state = State::Established;
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn a_stopped_owner_is_said_and_comes_first_in_the_remedy() {
        let mut world = server(&[300_000]);
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        let outcome = world.check(check);
        assert!(only(&outcome).summary.ends_with("the process is stopped"));
        assert!(only(&outcome).remedy[0].contains("SIGCONT"));
    }

    #[test]
    fn what_the_owner_does_is_part_of_the_evidence_once_it_was_inspected() {
        let mut world = server(&[300_000]);
        let inspection = Inspection { epoll_sets: 1, ..Inspection::default() };
        world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
        let outcome = world.check(check);
        assert!(has(only(&outcome), "doing_class", &Evidence::Text("in_no_epoll_set".into())), "{outcome:?}");
        assert_eq!(only(&outcome).topic, Some(Topic::CloseWaitServer));
    }

    #[test]
    fn a_thread_that_waits_for_a_lock_is_why_a_request_stays_unread() {
        let mut world = server(&[300_000]);
        world.now.sockets[1].recv_q_bytes = 5000;
        let thread = |call: libc::c_long| ThreadState {
            tid: 812,
            name: "server".into(),
            state: Some('S'),
            wchan: None,
            syscall: u64::try_from(call).ok(),
            syscall_arg0: Some(3),
        };
        for call in [libc::SYS_flock, libc::SYS_clock_nanosleep] {
            let inspection = Inspection { threads: vec![thread(call)], ..Inspection::default() };
            world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
            let outcome = world.check(check);
            let certain = only(&outcome).causes.left[0].confidence > 0.7;
            assert_eq!((leading(only(&outcome)), certain), ("reader-stuck", call == libc::SYS_flock), "{outcome:?}");
        }
    }

    #[test]
    fn the_master_of_a_prefork_server_is_named_once_for_all_holders() {
        let mut world = server(&[300_000, 400_000]);
        for socket in world.now.sockets.clone() {
            world.hold(813, "server", 9, socket.inode);
        }
        world.now.processes.get_mut(&813).unwrap().parent = Some(812);
        let outcome = world.check(check);
        assert_eq!((only(&outcome).subject.pid, &only(&outcome).subject.pids[..]), (Some(812), &[812, 813][..]));
    }

    #[test]
    fn an_owner_that_may_not_be_seen_is_a_user() {
        let mut world = World::new();
        world.add(gone_for(300_000, "10.0.0.1:80", "10.0.0.9:40000"));
        world.now.owners = crate::model::OwnerTable::new(Vec::<Process>::new(), Vec::new(), 3);
        let outcome = world.check(check);
        assert_eq!((only(&outcome).subject.pid, only(&outcome).subject.uid), (None, Some(1000)));
        assert!(has(only(&outcome), "owner", &Evidence::Text("no permission".into())), "{outcome:?}");
    }

    #[test]
    fn without_tcp_info_the_rule_cannot_judge() {
        let mut world = server(&[300_000]);
        world.now.sockets[1].info = None;
        assert!(world.check(check).not_checked.is_some());
    }
}
