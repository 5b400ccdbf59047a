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
    if case.is_young() {
        // A program that is about to close them looks the same.
        return Weighed::default();
    }
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
mod tests;
