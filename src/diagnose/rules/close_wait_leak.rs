//! The other side has closed these connections and a program on this host never closes its end, so each one keeps a
//! descriptor for ever.
//!
//! Comes in: CLOSE_WAIT rows that a process holds. Goes out: one finding per process. Never here: rows that nobody has
//! accepted, or that only a helper holds; other rules have those.
//!
#![doc = include_str!("../../../docs/rules/close-wait-leak.md")]

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::arrivals::{self, Arrivals};
use crate::diagnose::close_wait::{Counted, FORGOTTEN_AFTER_MS, TRANSIENT_MS, counted, old_enough};
use crate::diagnose::descriptors::Share;
use crate::diagnose::fd_inheritance::FdInheritance;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject, Topic, most_frequent};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::wait_state::{self, Class, WaitState};
use crate::model::{NetnsId, RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("close-wait-leak", CloseWait, OneOrTwo, "the peer closed, the local program never does", check, [TEXT])
        .states(&[State::CloseWait])
        .topic(Topic::CloseWait)
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
const RESTART: &str = "Restart the process for relief; the leak starts anew";

const TEXT: Text = Text {
    why: "The other side sent its FIN, and the kernel now waits for our close() without any timer, forever. Each \
          such socket pins a descriptor until the program closes it or ends.",
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
        RESTART,
    ],
    avoid: &[
        "Don't look for a sysctl: none has an effect on CLOSE_WAIT",
        "Don't take SO_KEEPALIVE or `ss -K` as the cure: the row goes and the descriptor stays, an invisible leak",
        "Don't raise the limit of open files as the fix: it only buys time",
    ],
};

/// Stale pool entries that are few when the limit of descriptors is not known.
const FEW: usize = 10;
/// Rows in two samples that make a rate; fewer are chance.
const ROWS_FOR_A_RATE: i64 = 3;

/// What is unread says what kind of bug it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unread {
    Nothing,
    Eof,
    Data,
}

impl Unread {
    fn of(socket: &Socket) -> Unread {
        match socket.recv_q_bytes {
            0 => Unread::Nothing,
            1 => Unread::Eof,
            _ => Unread::Data,
        }
    }
}

/// The process, or where it is not known the user and the reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Culprit {
    Process(u32),
    User(Option<u32>),
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let held = |s: &&Socket| s.state == State::CloseWait && s.inode.is_some() && s.kind == RowKind::Full;
    let mut all = view.active().filter(held).peekable();
    if all.peek().is_none() {
        return Outcome::default();
    }
    if all.all(|s| s.info.is_none()) {
        return Outcome::not_checked(
            "this source does not tell how old a CLOSE_WAIT socket is; use `--source netlink`",
        );
    }
    let holding = FdInheritance::new(view);
    let mut groups: BTreeMap<Culprit, Vec<Counted<'_>>> = BTreeMap::new();
    let mut outcome = Outcome::default();
    for (socket, role) in view.restless_rows().filter(|(s, _)| held(s)) {
        let Some(row) = counted(view, socket, role) else { continue };
        if !row.certain && view.before.is_none() {
            outcome.wants_second = Some("CLOSE_WAIT sockets with keepalive hide their age".into());
            continue;
        }
        if holding.inherited(socket, role).is_some_and(|i| i.alone) {
            continue;
        }
        let culprit = holding.principal(socket, role).map_or(Culprit::User(socket.uid), |p| Culprit::Process(p.pid));
        groups.entry(culprit).or_default().push(row);
    }
    if groups.is_empty() {
        return outcome;
    }
    // A leak that is younger than what the ages of one sample show is told from a burst by its growth.
    if view.before.is_none() && outcome.wants_second.is_none() {
        let spread = |rows: &&Vec<Counted<'_>>| {
            let ages: Vec<u64> = rows.iter().map(|r| r.age.min_ms).collect();
            arrivals::moments(&ages, TRANSIENT_MS) >= 3 && arrivals::steady(&ages, FORGOTTEN_AFTER_MS).is_none()
        };
        outcome.wants_second = groups
            .values()
            .find(spread)
            .map(|rows| format!("{} CLOSE_WAIT sockets that came at different times may become more", rows.len()));
    }
    let gone = gone(view, &groups);
    let findings = groups.iter().map(|(culprit, rows)| {
        let growth = gone.as_ref().map(|g| newcomers(view, rows) - g.get(culprit).copied().unwrap_or(0));
        finding(view, &holding, *culprit, rows, growth)
    });
    outcome.findings = ranking::worst(findings.collect());
    outcome
}

/// Rows that did not count in the sample before.
fn newcomers(view: &View<'_>, rows: &[Counted<'_>]) -> i64 {
    let new = rows.iter().filter(|r| r.certain).filter(|r| {
        let earlier = view.earlier(r.socket);
        !earlier.is_some_and(|e| old_enough(e).is_some_and(|(_, certain)| certain))
    });
    i64::try_from(new.count()).unwrap_or(i64::MAX)
}

/// How many rows counted in the sample before and are no more, per culprit; `None` without one, or without cookies.
fn gone(view: &View<'_>, groups: &BTreeMap<Culprit, Vec<Counted<'_>>>) -> Option<BTreeMap<Culprit, i64>> {
    let before = view.before?;
    let rows = groups.values().flatten();
    let still: FxHashSet<(Option<NetnsId>, u64)> =
        rows.map(|r| Some((r.socket.netns, r.socket.cookie?))).collect::<Option<_>>()?;
    let mut gone = BTreeMap::new();
    for socket in &before.sockets {
        let counted = old_enough(socket).is_some_and(|(_, certain)| certain);
        if counted && socket.cookie.is_some_and(|c| !still.contains(&(socket.netns, c))) {
            let holders = before.owners.of(socket).1.iter();
            let culprit = holders
                .map(|h| Culprit::Process(before.owners.process(h).pid))
                .find(|c| groups.contains_key(c))
                .unwrap_or(Culprit::User(socket.uid));
            *gone.entry(culprit).or_default() += 1;
        }
    }
    Some(gone)
}

/// What the sentence, the severity and the evidence of one group come from.
struct Case<'a> {
    rows: &'a [Counted<'a>],
    by_unread: [usize; 3],
    cause: Unread,
    /// Lower bounds, sorted.
    ages_ms: Vec<u64>,
    exact: usize,
    arrivals: Option<Arrivals>,
    growth: Option<i64>,
    /// Most of them were opened by the process itself.
    outgoing: bool,
    share: Share,
    /// Stale entries of a connection pool: few, outgoing, nobody looks at them, and they do not become more.
    is_pool: bool,
    is_leak: bool,
}

impl<'a> Case<'a> {
    fn new(view: &View<'_>, pid: Option<u32>, rows: &'a [Counted<'a>], growth: Option<i64>) -> Case<'a> {
        let mut by_unread = [0; 3];
        for row in rows {
            by_unread[Unread::of(row.socket) as usize] += 1;
        }
        let kinds = [Unread::Nothing, Unread::Eof, Unread::Data];
        let cause = kinds.into_iter().max_by_key(|u| by_unread[*u as usize]).unwrap_or(Unread::Nothing);
        let mut ages_ms: Vec<u64> = rows.iter().map(|r| r.age.min_ms).collect();
        ages_ms.sort_unstable();
        let exact: Vec<u64> = rows.iter().filter(|r| r.age.is_exact()).map(|r| r.age.min_ms).collect();
        let arrivals = arrivals::steady(&exact, FORGOTTEN_AFTER_MS);
        let grows = growth.is_some_and(|g| g > 0);
        let outgoing = rows.iter().filter(|r| r.role == Role::Client).count() * 2 > rows.len();
        let leaked = rows.len() as u64;
        let share = pid.map_or_else(Share::default, |pid| Share::new(view, pid, leaked, None));
        let few = share.percent.map_or(rows.len() < FEW, |p| p < view.thresholds.fd_warn_percent);
        let is_pool = outgoing && cause == Unread::Eof && few && !grows;
        // Growth between two samples is one arrival; the ages of the others stand for the intervals before it.
        let apart_ms = view.interval_ms().unwrap_or(0).max(TRANSIENT_MS);
        let arrives = arrivals.is_some() || (grows && arrivals::moments(&exact, apart_ms) >= 3);
        let is_leak = arrives && !is_pool;
        let per_second = arrivals.map(|a| a.per_second).or_else(|| {
            let growth = growth.filter(|g| *g >= ROWS_FOR_A_RATE)?;
            Some(growth as f64 * 1000.0 / view.interval_ms()? as f64)
        });
        let share = match (pid, per_second) {
            (Some(pid), Some(rate)) if is_leak => Share::new(view, pid, leaked, Some(rate)),
            _ => share,
        };
        Case {
            rows,
            by_unread,
            cause,
            exact: exact.len(),
            ages_ms,
            arrivals,
            growth,
            outgoing,
            share,
            is_pool,
            is_leak,
        }
    }

    fn oldest_ms(&self) -> u64 {
        self.ages_ms.last().copied().unwrap_or(0)
    }

    /// The cause in words, from what is unread.
    fn cause_words(&self) -> String {
        let unread: u64 = self.rows.iter().map(|r| u64::from(r.socket.recv_q_bytes.saturating_sub(1))).sum();
        match self.cause {
            Unread::Nothing => "everything was read, EOF too, and close() is missing".into(),
            Unread::Eof => "EOF is unread, so nobody reads them".into(),
            Unread::Data => format!("{unread} bytes and EOF are unread, so the reader is stuck"),
        }
    }

    fn summary(&self, who: &str) -> String {
        let n = self.rows.len() as u64;
        let oldest = text::duration(self.oldest_ms());
        let connections = text::count(n, "connection", "connections");
        if self.is_pool {
            let to = most_frequent(self.rows.iter().map(|r| r.socket.peer.normalised().to_string()), 1)
                .pop()
                .unwrap_or_default();
            let to = to.rsplit_once(" (").map_or(to.as_str(), |(at, _)| at);
            return format!(
                "{who} keeps {} to {to}: the other side closed, {oldest} ago the oldest, and EOF is unread",
                text::count(n, "stale pooled connection", "stale pooled connections")
            );
        }
        let share = self.share.words();
        let cause = self.cause_words();
        if self.is_leak {
            let rate = self.arrivals.map_or(String::new(), |a| format!(", {} more", per(a.per_second)));
            format!("{who} leaks connections: {n} in CLOSE_WAIT, the oldest for {oldest}{rate}{share}; {cause}")
        } else {
            format!(
                "{who} has not closed {connections} that the other side closed, {oldest} ago the oldest{share}; {cause}"
            )
        }
    }

    fn confidence(&self, view: &View<'_>) -> (f64, &'static str) {
        let open = half_closed(view, self.rows);
        if !self.rows.iter().any(|r| r.certain) {
            (0.6, "keepalive of our own hides the age: the FIN may be younger than 60 s")
        } else if open * 2 > self.rows.len() {
            (0.6, "the other end, on this host, only shut down its sending side and may still wait for an answer")
        } else if self.is_leak {
            (0.95, "they arrive steadily, none leaves, and no kernel timer will ever end them")
        } else if self.cause == Unread::Nothing {
            (0.95, "EOF was consumed 60 s ago or more, and only close() can follow")
        } else {
            (0.8, "the FIN has been waiting unread for 60 s or more")
        }
    }
}

/// How many of the other ends are on this host and still held by a process: it did not close, it only shut down sending.
fn half_closed(view: &View<'_>, rows: &[Counted<'_>]) -> usize {
    let holds_on =
        |r: &&Counted<'_>| view.mirror(r.socket).is_some_and(|m| m.state == State::FinWait2 && m.inode.is_some());
    rows.iter().filter(holds_on).count()
}

/// `12 a minute`.
fn per(per_second: f64) -> String {
    let (rate, unit) = match per_second {
        r if r >= 1.0 => (r, "second"),
        r if r * 60.0 >= 1.0 => (r * 60.0, "minute"),
        r if r * 3600.0 >= 1.0 => (r * 3600.0, "hour"),
        r => (r * 86_400.0, "day"),
    };
    if rate >= 10.0 { format!("{rate:.0} a {unit}") } else { format!("{rate:.1} a {unit}") }
}

fn finding(
    view: &View<'_>,
    holding: &FdInheritance<'_, '_>,
    culprit: Culprit,
    rows: &[Counted<'_>],
    growth: Option<i64>,
) -> Finding {
    let pid = if let Culprit::Process(pid) = culprit { Some(pid) } else { None };
    let process = pid.and_then(|pid| holding.process(pid));
    let case = Case::new(view, pid, rows, growth);
    let sockets: Vec<&Socket> = rows.iter().map(|r| r.socket).collect();
    let doing = pid.and_then(|pid| wait_state::doing(view, pid, &sockets));
    let who = match (process, culprit) {
        (Some(p), _) => text::name(p),
        (None, Culprit::User(Some(uid))) => format!("a process of uid {uid}"),
        (None, _) => "an unknown process".into(),
    };
    let mut summary = case.summary(&who);
    if doing.as_ref().is_some_and(|d| d.class == Class::Stopped) {
        summary.push_str("; the process is stopped");
    }
    // Clients on this host that only shut down their sending side and hold the rest wait for an answer, so that what their
    // server does may take long and be right.
    let awaited = !case.is_leak && half_closed(view, rows) * 2 > rows.len();
    let severity =
        if case.is_pool || awaited { Severity::Info } else { case.share.severity(case.is_leak, view.thresholds) };
    let (confidence, reason) = case.confidence(view);
    let netns = rows[0].socket.netns;
    let mut subject = match (process, culprit) {
        (Some(p), _) => view.subject_of(p, netns),
        (None, Culprit::User(uid)) => Subject { netns, uid, ..Subject::default() },
        (None, Culprit::Process(pid)) => Subject { pid: Some(pid), ..Subject::default() },
    };
    subject.pids = pids_of(view, &sockets);
    let mut finding = RULE.finding(severity, confidence, summary).because(reason).subject(subject);
    finding = evidence(view, finding, &case);
    finding = case.share.onto(finding);
    finding = places(view, finding, rows, pid);
    if let Some(pid) = pid {
        finding = finding.inspect(pid, &sockets);
    }
    finding = finding
        .topic(if case.outgoing { Topic::CloseWait } else { Topic::CloseWaitServer })
        .steps(remedy(&case, doing.as_ref()))
        .next(pid.map_or_else(
            || "tcpstate list --state close-wait -p -e".to_owned(),
            |pid| format!("tcpstate list --state close-wait --pid {pid} -p -e -o"),
        ));
    match doing {
        Some(doing) => doing.onto(finding),
        None => finding,
    }
}

/// Every process that holds one of the sockets; empty when it is one.
fn pids_of(view: &View<'_>, sockets: &[&Socket]) -> Vec<u32> {
    let owners = &view.now.owners;
    let mut pids: Vec<u32> = sockets.iter().flat_map(|s| view.owners(s).1).map(|h| owners.process(h).pid).collect();
    pids.sort_unstable();
    pids.dedup();
    if pids.len() > 1 { pids } else { Vec::new() }
}

fn evidence(view: &View<'_>, finding: Finding, case: &Case<'_>) -> Finding {
    let rows = case.rows;
    let [nothing, eof, data] = case.by_unread.map(|n| Evidence::Count(n as u64));
    let unread: u64 = rows.iter().map(|r| u64::from(r.socket.recv_q_bytes.saturating_sub(1))).sum();
    let mut finding = finding
        .evidence("count", Evidence::Count(rows.len() as u64))
        .evidence("eof_consumed", nothing)
        .evidence("eof_unread", eof)
        .evidence("data_unread", data);
    if unread > 0 {
        finding = finding.evidence("unread_bytes", Evidence::Bytes(unread));
    }
    finding = finding
        .evidence("oldest_age_ms", Evidence::Millis(case.oldest_ms()))
        .evidence("median_age_ms", Evidence::Millis(case.ages_ms.get(rows.len() / 2).copied().unwrap_or(0)));
    let exact = case.exact;
    let ages = if exact == rows.len() { "exact".into() } else { format!("{exact} exact, the others at least that") };
    finding = finding.evidence("ages", Evidence::Text(ages));
    let most = rows.iter().filter(|r| !r.age.is_exact()).filter_map(|r| r.age.max_ms).max();
    if let Some(most) = most {
        finding = finding.evidence("oldest_possible_age_ms", Evidence::Millis(most));
    }
    if let Some(arrivals) = case.arrivals {
        finding = finding
            .evidence("arrivals_per_second", Evidence::PerSecond(arrivals.per_second))
            .evidence("arrivals_over_ms", Evidence::Millis(arrivals.over_ms));
    }
    if let (Some(growth), Some(interval)) = (case.growth, view.interval_ms()) {
        finding = finding
            .evidence("growth", Evidence::Text(format!("{growth:+}")))
            .evidence("growth_over_ms", Evidence::Millis(interval));
    }
    let open = half_closed(view, rows);
    if open > 0 {
        finding = finding.evidence("peers_half_closed", Evidence::Count(open as u64));
    }
    finding
}

/// Where the connections come from or go to, and under which numbers the process has them.
fn places(view: &View<'_>, finding: Finding, rows: &[Counted<'_>], pid: Option<u32>) -> Finding {
    let accepted = most_frequent(
        rows.iter().filter_map(|r| match r.role {
            Role::Server(at) => Some(view.listeners(r.socket.netns).get(at).local.to_string()),
            Role::FormerServer => Some(format!(":{} (no longer listening)", r.socket.local.port)),
            _ => None,
        }),
        3,
    );
    let connected = most_frequent(
        rows.iter().filter(|r| r.role == Role::Client).map(|r| r.socket.peer.normalised().to_string()),
        3,
    );
    let mut finding = finding;
    if !accepted.is_empty() {
        finding = finding.evidence("accepted_on", Evidence::List(accepted));
    }
    if !connected.is_empty() {
        finding = finding.evidence("connected_to", Evidence::List(connected));
    }
    finding = finding.evidence(
        "remotes",
        Evidence::List(most_frequent(rows.iter().map(|r| r.socket.peer.addr.to_canonical().to_string()), 3)),
    );
    let owners = &view.now.owners;
    let holders = rows.iter().flat_map(|r| view.owners(r.socket).1);
    let fds: Vec<String> =
        holders.filter(|h| Some(owners.process(h).pid) == pid).take(5).map(|h| h.fd.to_string()).collect();
    if fds.is_empty() {
        return finding
            .evidence("owner", Evidence::Text(view.owners(rows[0].socket).0.words().trim_matches(['(', ')']).into()));
    }
    finding.evidence("sample_fds", Evidence::List(fds))
}

fn remedy(case: &Case<'_>, doing: Option<&WaitState>) -> Vec<&'static str> {
    let first = match doing.map(|d| d.class) {
        Some(Class::Stopped) => Some(RESUME),
        Some(Class::Forgotten) => Some(NOT_WATCHED),
        Some(Class::LoopStuck) => Some(LOOP_STUCK),
        Some(Class::LoopIgnores) => Some(LOOP_IGNORES),
        Some(Class::EdgeNotDrained) => Some(DRAIN),
        Some(Class::OneShotSpent) => Some(REARM),
        Some(Class::ReadingOff) => Some(READING_OFF),
        _ => None,
    };
    let mut steps: Vec<&'static str> = first.into_iter().collect();
    steps.push(match case.cause {
        Unread::Nothing => CLOSE_ON_EOF,
        Unread::Eof if case.outgoing => VALIDATE,
        Unread::Eof => READ_OR_CLOSE,
        Unread::Data => UNBLOCK,
    });
    if case.outgoing && case.cause == Unread::Nothing {
        // An answer read to its exact length takes the FIN behind it along, and the pool does not notice.
        steps.push(VALIDATE);
    }
    steps.extend([TIMEOUTS, RESTART]);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
    use crate::model::{Process, TimerKind, snapshot::Inspection};

    /// A CLOSE_WAIT row whose FIN came so long ago, and on which nothing happened since.
    fn gone_for(seconds: u64, local: &str, peer: &str) -> Socket {
        let ms = seconds * 1000;
        let times = [("last_ack_recv_ms", ms), ("last_data_recv_ms", ms + 5), ("last_data_sent_ms", ms + 9)];
        info(row(State::CloseWait, local, peer), &times)
    }

    /// A server with one leaked connection per age.
    fn server(ages_s: &[u64]) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        for (n, age) in ages_s.iter().enumerate() {
            let socket = gone_for(*age, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n));
            let inode = socket.inode;
            world.add(socket).hold(812, "server", 4 + u32::try_from(n).unwrap(), inode);
        }
        world
    }

    /// A client of 10.0.0.9:443 whose pool has one stale entry per age.
    fn pool(ages_s: &[u64]) -> World {
        let mut world = World::new();
        for (n, age) in ages_s.iter().enumerate() {
            let socket = gone_for(*age, &format!("10.0.0.1:{}", 40_000 + n), "10.0.0.9:443");
            let inode = socket.inode;
            world.add(Socket { recv_q_bytes: 1, ..socket }).hold(700, "client", 5 + u32::try_from(n).unwrap(), inode);
        }
        world
    }

    fn only(outcome: &Outcome) -> &Finding {
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        finding
    }

    fn has(finding: &Finding, name: &str, value: &Evidence) -> bool {
        finding.evidence.iter().any(|(n, v)| *n == name && v == value)
    }

    #[test]
    fn a_burst_lingers_and_a_steady_stream_is_a_leak() {
        let outcome = server(&[300, 300, 301, 301]).check(check);
        let lingering = only(&outcome);
        assert_eq!((lingering.severity, lingering.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(
            lingering.summary,
            "server (812) has not closed 4 connections that the other side closed, 5 min ago the oldest, 0.4 % of its \
             1024 descriptors; everything was read, EOF too, and close() is missing"
        );
        assert!(has(lingering, "oldest_age_ms", &Evidence::Millis(301_000)), "{lingering:?}");
        assert!(has(lingering, "accepted_on", &Evidence::List(vec!["0.0.0.0:80 (4)".into()])), "{lingering:?}");
        assert_eq!(lingering.inspect.len(), 1);
        // One every 20 minutes over two hours; 1004 descriptors are free, so it takes two weeks.
        let outcome = server(&[600, 1800, 3600, 4200, 5400, 7500, 8100]).check(check);
        let leak = only(&outcome);
        assert_eq!((leak.severity, leak.confidence), (Severity::Warning, 0.95));
        assert!(leak.summary.starts_with("server (812) leaks connections: 7 in CLOSE_WAIT"), "{}", leak.summary);
    }

    #[test]
    fn a_leak_too_young_for_its_ages_to_show_is_looked_at_twice() {
        let young = server(&[61, 65, 70, 75]);
        let once = young.check(check);
        assert!(once.wants_second.is_some() && only(&once).severity == Severity::Info);
        assert_eq!(server(&[61, 61, 61, 62]).check(check).wants_second, None, "a burst");
    }

    #[test]
    fn an_accepted_connection_asks_for_the_advice_of_a_server() {
        assert_eq!(only(&server(&[300]).check(check)).topic, Some(Topic::CloseWaitServer));
        assert_eq!(only(&pool(&[300]).check(check)).topic, Some(Topic::CloseWait));
    }

    #[test]
    fn clients_that_hold_on_for_their_answer_are_no_warning() {
        let ages: Vec<u64> = std::iter::repeat_n(70, 15).collect();
        let mut world = server(&ages);
        assert_eq!(only(&world.check(check)).severity, Severity::Warning, "15 of 1024");
        for n in 0..15 {
            world.add(row(State::FinWait2, &format!("10.0.0.9:{}", 40_000 + n), "10.0.0.1:80"));
        }
        let outcome = world.check(check);
        assert_eq!((only(&outcome).severity, only(&outcome).confidence), (Severity::Info, 0.6));
    }

    #[test]
    fn severity_climbs_with_the_share_of_the_limit_and_with_the_time_that_is_left() {
        let burst = |n: usize| server(&vec![300; n]).check(check);
        for (n, severity) in
            [(10, Severity::Info), (11, Severity::Warning), (103, Severity::High), (512, Severity::Critical)]
        {
            assert_eq!(only(&burst(n)).severity, severity, "{n} of 1024");
        }
        // One a second: 1004 free descriptors last 17 minutes.
        let ages: Vec<u64> = (60..120).collect();
        let outcome = server(&ages).check(check);
        let fast = only(&outcome);
        assert_eq!(fast.severity, Severity::Critical);
        let (_, Evidence::Millis(left)) = fast.evidence.iter().find(|(n, _)| *n == "emfile_in_ms").unwrap() else {
            panic!()
        };
        assert!((1_000_000..1_020_000).contains(left), "{left}");
    }

    #[test]
    fn the_cause_follows_what_is_unread() {
        for (unread, words, confidence) in
            [(0, "close() is missing", 0.95), (1, "nobody reads them", 0.8), (101, "100 bytes and EOF are unread", 0.8)]
        {
            let mut world = server(&[300]);
            world.now.sockets[1].recv_q_bytes = unread;
            let outcome = world.check(check);
            let finding = only(&outcome);
            assert!(finding.summary.contains(words), "{}", finding.summary);
            assert!((finding.confidence - confidence).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_young_or_still_sends_is_silent() {
        assert_eq!(server(&[59]).check(check), Outcome::default());
        let with = |change: fn(&mut Socket)| {
            let mut world = server(&[300]);
            change(&mut world.now.sockets[1]);
            world.check(check)
        };
        assert_eq!(with(|s| s.send_q_bytes = Some(10)), Outcome::default(), "bytes still go out");
        let sends = |s: &mut Socket| assert!(s.info.as_mut().unwrap().set("last_data_sent_ms", 2000));
        assert_eq!(with(sends), Outcome::default(), "it sent two seconds ago");
        assert_eq!(with(|s| *s = unheld(s.clone())), Outcome::default(), "not accepted");
        let mut answering = server(&[300]);
        answering.later(2000);
        assert!(answering.now.sockets[1].info.as_mut().unwrap().set("bytes_sent", 500));
        assert_eq!(answering.check(check), Outcome::default(), "bytes_sent grows");
    }

    #[test]
    fn a_few_stale_pool_entries_are_only_mentioned() {
        // Closed by the server at different times: their ages alone look like a leak.
        let outcome = pool(&[70, 90, 110, 400]).check(check);
        let finding = only(&outcome);
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(
            finding.summary,
            "client (700) keeps 4 stale pooled connections to 10.0.0.9:443: the other side closed, 6 min ago the \
             oldest, and EOF is unread"
        );
        assert!(finding.remedy[0].contains("pool"), "{:?}", finding.remedy);
        assert_eq!(only(&pool(&vec![300; 30]).check(check)).severity, Severity::Warning, "not few");
    }

    #[test]
    fn own_keepalive_hides_the_age_so_a_second_look_decides() {
        let mut world = server(&[300]);
        let socket = world.now.sockets[1].clone();
        world.now.sockets[1] = info(
            timer(socket, TimerKind::Keepalive, 5000, 0),
            &[("last_ack_recv_ms", 4000), ("last_data_recv_ms", 300_000), ("last_data_sent_ms", 300_000)],
        );
        let once = world.check(check);
        assert!(once.findings.is_empty() && once.wants_second.is_some(), "{once:?}");
        let outcome = world.later(2000).check(check);
        let finding = only(&outcome);
        assert!((finding.confidence - 0.6).abs() < 1e-9);
        assert!(has(finding, "oldest_possible_age_ms", &Evidence::Millis(300_000)), "{finding:?}");
        // It was established in the sample before: the FIN has only just come.
        world.before.as_mut().unwrap().sockets[1].state = State::Established;
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn growth_counts_newcomers_less_those_gone() {
        let mut world = server(&[61, 400, 900]);
        world.later(2000);
        let before = world.before.as_mut().unwrap();
        // The first one was too young then.
        before.sockets[1] = info(before.sockets[1].clone(), &[("last_ack_recv_ms", 59_500)]);
        let outcome = world.check(check);
        assert!(has(only(&outcome), "growth", &Evidence::Text("+1".into())), "{outcome:?}");
        assert_eq!(only(&outcome).severity, Severity::Warning, "three moments of arrival, one of them just now");
        // Another one that counted then is gone now.
        let closed = world.now.sockets.remove(2);
        assert_eq!(closed.state, State::CloseWait);
        let outcome = world.check(check);
        assert!(has(only(&outcome), "growth", &Evidence::Text("+0".into())), "{outcome:?}");
        assert_eq!(only(&outcome).severity, Severity::Info);
    }

    #[test]
    fn a_stopped_owner_is_said_and_comes_first_in_the_remedy() {
        let mut world = server(&[300]);
        world.now.processes.get_mut(&812).unwrap().state = Some('T');
        let outcome = world.check(check);
        assert!(only(&outcome).summary.ends_with("the process is stopped"));
        assert!(only(&outcome).remedy[0].contains("SIGCONT"));
    }

    #[test]
    fn what_the_owner_does_is_part_of_the_evidence_once_it_was_inspected() {
        let mut world = server(&[300]);
        let inspection = Inspection { epoll_sets: 1, ..Inspection::default() };
        world.now.processes.get_mut(&812).unwrap().inspection = Some(inspection);
        let outcome = world.check(check);
        assert!(has(only(&outcome), "doing_class", &Evidence::Text("in_no_epoll_set".into())), "{outcome:?}");
    }

    #[test]
    fn the_master_of_a_prefork_server_is_named_once_for_all_holders() {
        let mut world = server(&[300, 400]);
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
        world.add(gone_for(300, "10.0.0.1:80", "10.0.0.9:40000"));
        world.now.owners = crate::model::OwnerTable::new(Vec::<Process>::new(), Vec::new(), 3);
        let outcome = world.check(check);
        assert_eq!((only(&outcome).subject.pid, only(&outcome).subject.uid), (None, Some(1000)));
        assert!(has(only(&outcome), "owner", &Evidence::Text("no permission".into())), "{outcome:?}");
    }

    #[test]
    fn without_tcp_info_the_rule_cannot_judge() {
        let mut world = server(&[300]);
        world.now.sockets[1].info = None;
        assert!(world.check(check).not_checked.is_some());
    }
}
