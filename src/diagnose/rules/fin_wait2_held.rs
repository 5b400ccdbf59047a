//! A program shut down its sending side, keeps the socket open, and the peer never closes its side.
//!
//! Input: FIN_WAIT2 rows that a process holds. Output: one finding per process, or per program where many processes have a
//! few each. Not here: remainders (see `fin-wait2-orphan-pileup`).
//!
#![doc = include_str!("../../../docs/rules/fin-wait2-held.md")]

use std::collections::BTreeMap;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::close_wait::{LEAK_ROWS, Moves};
use crate::diagnose::departed::departed;
use crate::diagnose::descriptors::Share;
use crate::diagnose::family::{self, Culprit, Kin, Members};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::last_word::{self, By};
use crate::diagnose::measure::Measure;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::view::View;
use crate::diagnose::{arrivals, closing, peers, ranking};
use crate::model::sysctl::TCP_FIN_TIMEOUT_MS;
use crate::model::{Endpoint, NetnsId, Process, RowKind, Socket, State, TcpInfo, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("fin-wait2-held", Closing, OneOrTwo, "a program waits forever for the peer's FIN", check, [TEXT])
        .states(&[State::FinWait2])
        .title("half-closed and held")
        .identity(Identity::Program)
        .causes(CAUSES);

const AWAITED: Cause = Cause {
    id: "awaits-answer",
    text: "the answer is still in the making, and the program waits for it",
    predicts: "each row goes when its answer came",
    refuted_by: "the other end is held by a program that has lost it",
    decided_by: "the other end: does its program work on the request?",
};
const NEVER_CLOSED: Cause = Cause {
    id: "peer-never-closes",
    text: "the other side read our FIN, or never will, and does not close",
    predicts: "rows that only come, and CLOSE_WAIT at the other end",
    refuted_by: "rows that go",
    decided_by: "close-wait-leak at the other end",
};
const CAUSES: &[Cause] = &[AWAITED, NEVER_CLOSED];
/// Percent of the descriptors: what becomes more and has this share hurts, whatever the cause.
const MUCH_PERCENT: f64 = 10.0;
/// For how long servers wait by default for the FIN of a client, before they close (`lingering_time` of nginx,
/// `MAX_SECS_TO_LINGER` of Apache).
const LINGER_MS: u64 = 30_000;

const TEXT: Text = Text {
    why: "The process called shutdown() for writing, the peer acknowledged the FIN and has not sent its own. For a \
          socket that a process holds the kernel sets no time limit, so row and descriptor stay forever.",
    remedy: &[
        "After shutdown() read until EOF with a time limit, then close() whatever came",
        "If nothing more is expected, close() instead of shutdown(): tcp_fin_timeout then ends the wait",
        "Fix the peer: there the same connection is a CLOSE_WAIT that nobody closes",
    ],
    avoid: &[
        "Don't change tcp_fin_timeout: it is for sockets that no process holds",
        "Don't rely on keepalive: the peer's kernel answers the probes as long as its socket exists",
    ],
};

/// A row on which nothing comes.
#[derive(Clone, Copy)]
struct Half<'a> {
    socket: &'a Socket,
    holder: Option<&'a Process>,
    /// Set when it was accepted: the listener.
    listener: Option<Endpoint>,
    /// What we asked for was answered, or the answer was ours: nothing is due.
    is_over: bool,
    /// No segment of the peer for so long.
    silent_ms: u64,
    is_new: bool,
    has_stayed: bool,
}

impl<'a> Half<'a> {
    /// The row, unless something came since the sample before: a download goes on.
    fn of(view: &View<'a>, socket: &'a Socket, role: Role) -> Option<Half<'a>> {
        let silent_ms = u64::from(socket.info.as_deref()?.last_ack_recv_ms()?);
        let earlier = view.earlier(socket).filter(|e| is_held(e));
        let received = |s: &Socket| s.info.as_deref().and_then(TcpInfo::bytes_received);
        if earlier.is_some_and(|e| received(e) != received(socket)) {
            return None;
        }
        let listener = match role {
            Role::Server(at) => Some(view.listeners(socket.netns).get(at).local),
            Role::FormerServer => Some(socket.local.normalised()),
            _ => None,
        };
        let is_over = match last_word::of(socket).map(|word| word.by) {
            Some(By::Either) => true,
            Some(By::Us) => listener.is_some(),
            Some(By::Peer) => listener.is_none(),
            _ => false,
        };
        let holder = view.holder(socket);
        let (is_new, has_stayed) = (view.before.is_some() && earlier.is_none(), earlier.is_some());
        Some(Half { socket, holder, listener, is_over, silent_ms, is_new, has_stayed })
    }
}

fn is_held(socket: &Socket) -> bool {
    socket.state == State::FinWait2
        && socket.kind == RowKind::Full
        && socket.inode.is_some()
        && socket.shutdown == Some(2)
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut by_process: BTreeMap<(Option<NetnsId>, Option<u32>, bool), Vec<Half<'_>>> = BTreeMap::new();
    for (socket, role) in view.restless_rows().filter(|(s, _)| is_held(s)) {
        let Some(half) = Half::of(view, socket, role) else { continue };
        by_process.entry((socket.netns, half.holder.map(|p| p.pid), half.is_over)).or_default().push(half);
    }
    let kins = family::of_several(by_process.iter().map(|((netns, pid, is_over), rows)| {
        let first = rows.first().filter(|_| rows.len() < LEAK_ROWS);
        let kin = first.and_then(|r| Some(Kin::of(view, r.holder?, *netns, r.listener)));
        (*is_over, pid.zip(kin))
    }));
    let mut groups: BTreeMap<(Option<NetnsId>, Culprit, bool), Vec<Half<'_>>> = BTreeMap::new();
    for (((netns, pid, is_over), rows), kin) in by_process.into_iter().zip(kins) {
        let alone = || pid.map_or(Culprit::User(rows[0].socket.uid), Culprit::Process);
        let whose = kin.map_or_else(alone, Culprit::Family);
        groups.entry((netns, whose, is_over)).or_default().extend(rows);
    }
    let mut outcome = Outcome::default();
    let departed = departed(view, is_held);
    let mut findings = Vec::new();
    for ((netns, whose, is_over), rows) in groups {
        let n = text::count(rows.len() as u64, "half-closed connection", "half-closed connections");
        if view.before.is_none() && rows.len() >= LEAK_ROWS {
            outcome.wants_second = Some(format!("{n} may become more"));
        }
        let gone = departed.iter().filter(|d| d.socket.netns == netns && d.was_of(&whose)).count() as u64;
        let case = Case::new(view, netns, rows, is_over, gone);
        findings.extend(case.map(|case| case.finding(view)));
    }
    outcome.findings = ranking::alike(findings);
    outcome
}

/// Rows of one process or family, and what they prove.
struct Case<'a> {
    netns: Option<NetnsId>,
    rows: Vec<Half<'a>>,
    members: Members<'a>,
    is_over: bool,
    /// Set when they only come.
    moves: Option<Moves>,
    /// Of those that are told as many as were there before; `None` without a second sample.
    before: Option<u64>,
}

impl<'a> Case<'a> {
    /// All of them when they only come; else those of a minute, or a pile on which nothing moves.
    fn new(view: &View<'_>, netns: Option<NetnsId>, all: Vec<Half<'a>>, is_over: bool, gone: u64) -> Option<Case<'a>> {
        let count = |of: fn(&Half<'_>) -> bool| all.iter().filter(|r| of(r)).count() as u64;
        let moves = view.interval_ms().map(|over_ms| Moves {
            new: count(|r| r.is_new),
            stayed: count(|r| r.has_stayed),
            gone,
            over_ms,
        });
        let ages: Vec<u64> = all.iter().map(|r| r.silent_ms).collect();
        let lingers = is_over && all.iter().any(|r| r.listener.is_some()) && ages.iter().all(|ms| *ms < LINGER_MS);
        let moves = moves.filter(|m| {
            let more = m.only_come() && m.stayed > 0 && all.len() >= LEAK_ROWS;
            more && !lingers && arrivals::keep_coming(&ages, m.over_ms)
        });
        let stays = count(|r| r.has_stayed) as f64 >= view.thresholds.pileup_rows;
        let rows: Vec<Half<'a>> = match moves {
            Some(_) => all,
            None if all.iter().any(is_old) => all.into_iter().filter(is_old).collect(),
            None => all.into_iter().filter(|r| stays && r.has_stayed).collect(),
        };
        if rows.is_empty() {
            return None;
        }
        let was_told = |r: &&Half<'_>| view.earlier(r.socket).is_some_and(|e| is_held(e) && is_silent(e));
        let before = view.before.map(|_| rows.iter().filter(was_told).count() as u64);
        let members = Members::of(rows.iter().filter_map(|r| r.holder));
        Some(Case { netns, rows, members, is_over, moves, before })
    }

    fn sockets(&self) -> Vec<&'a Socket> {
        self.rows.iter().map(|r| r.socket).collect()
    }

    fn severity(&self, view: &View<'_>, share: Share) -> Severity {
        // One more that has come of age beside others: it grows. A first one is no growth.
        let aged = self.before.is_some_and(|b| b > 0 && self.rows.len() as u64 > b);
        // A half-close is legal and may last: unless nothing is due any more it hurts by its number.
        let much = share.percent.is_some_and(|p| p >= MUCH_PERCENT);
        let grows = if self.moves.is_some() { self.is_over || much } else { aged && much };
        share.severity(grows, view.thresholds)
    }

    fn causes(&self) -> Weighed {
        let grows = self.moves.is_some();
        Weighed::of(CAUSES, |cause| match cause.id {
            "awaits-answer" if self.is_over => Weight::Possible(if grows { 0.1 } else { 0.2 }),
            _ => Weight::Possible(0.5),
        })
    }

    /// Who does not close.
    fn peer(&self, view: &View<'_>) -> String {
        let rows = self.sockets();
        if let Some((end, _, _)) = closing::other_ends(view, &rows).first() {
            return format!("{} ({}) on this host has not closed", end.comm, end.pid);
        }
        match peers::common_peer(&rows) {
            Some(peer) if peer.port != 0 => format!("{peer} has not closed"),
            Some(peer) => format!("{} has not closed", peer.addr),
            None => "their peers have not closed".to_owned(),
        }
    }

    fn subject(&self, view: &View<'_>) -> Subject {
        let rows = self.sockets();
        let named = match self.members.lead() {
            Some((process, _)) => view.subject_of(process, self.netns),
            None => Subject { netns: self.netns, uid: rows[0].uid, ..Subject::default() },
        };
        let pids = if self.members.len() > 1 { self.members.pids() } else { Vec::new() };
        let listener = self.rows[0].listener;
        if listener.is_some() && self.rows.iter().all(|r| r.listener == listener) {
            return Subject { pids, listener, ..named };
        }
        Subject { pids, destination: peers::common_peer(&rows), ..named }
    }

    fn finding(&self, view: &View<'_>) -> Finding {
        let rows = self.sockets();
        let n = rows.len() as u64;
        let lead = self.members.lead();
        let share = lead.map_or_else(Share::default, |(p, n)| Share::new(view, p.pid, n as u64, None));
        let who = if lead.is_some() { self.members.name(view) } else { peers::nobody(view, rows.first().copied()) };
        let keep = if self.members.len() > 1 { "keep" } else { "keeps" };
        let half = text::count(n, "half-closed connection", "half-closed connections");
        let more = self.moves.and_then(Moves::rate).map_or_else(String::new, |rate| format!(", {rate} more"));
        let oldest = closing::silence_ms(&rows).map(|(longest, _)| longest);
        let silent = oldest.map_or_else(String::new, |ms| format!(", silent for up to {}", text::duration(ms)));
        let summary = format!("{who} {keep} {half}{more}{silent}: {}", self.peer(view));
        let (confidence, reason) = match self.moves {
            Some(_) => (0.9, "more came between the samples, and hardly any went"),
            None => (0.8, "the process sent its FIN, holds the socket, and nothing comes"),
        };
        let keepalive = rows.iter().filter(|s| s.timer.is_some_and(|t| t.kind == TimerKind::Keepalive)).count() as u64;
        let mut finding = RULE
            .finding(self.severity(view, share), confidence, summary)
            .because(reason)
            .causes(self.causes())
            .lasting(oldest.map(Measure::AtLeast))
            .subject(self.subject(view))
            .about(rows.iter().copied())
            .evidence("count", Evidence::Count(n))
            .evidence("nothing_due", Evidence::Count(if self.is_over { n } else { 0 }))
            .evidence("oldest_at_least_ms", Evidence::millis(oldest))
            .evidence("count_before", Evidence::count(self.before));
        if let Some(moves) = self.moves {
            finding = finding
                .evidence("growth", Evidence::Text(format!("{:+}", moves.net())))
                .evidence("growth_over_ms", Evidence::Millis(moves.over_ms));
        }
        finding = self
            .members
            .onto(view, finding)
            .evidence("fd_limit_percent", share.percent.map_or(Evidence::Unknown, Evidence::Percent))
            .evidence("with_keepalive", Evidence::Count(keepalive))
            .evidence("peers", closing::peers_evidence(&rows));
        if let Some((end, mirror, count)) = closing::other_ends(view, &rows).first() {
            let text = format!("{} ({}): {count} in {}", end.comm, end.pid, mirror.state);
            finding = finding.evidence("other_end", Evidence::Text(text));
        }
        let next = lead.filter(|_| self.members.len() == 1).map(|(p, _)| format!(" --pid {}", p.pid));
        finding.next(format!("tcpstate list --state fin-wait2 -o -i -p{}", next.unwrap_or_default()))
    }
}

/// No segment of the peer for a minute: a download that goes on would have brought some.
fn is_silent(socket: &Socket) -> bool {
    socket.info.as_deref().and_then(TcpInfo::last_ack_recv_ms).is_some_and(|ms| u64::from(ms) >= TCP_FIN_TIMEOUT_MS)
}

fn is_old(half: &Half<'_>) -> bool {
    half.silent_ms >= TCP_FIN_TIMEOUT_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, unheld};

    /// One that asked for something and was not answered.
    fn held(client: u16, silent_ms: u64) -> Socket {
        let base = row(State::FinWait2, &format!("10.0.0.1:{client}"), "10.0.0.9:80");
        let fields = [("last_ack_recv_ms", silent_ms), ("last_data_sent_ms", silent_ms), ("bytes_sent", 9)];
        info(Socket { shutdown: Some(2), ..base }, &fields)
    }

    /// One that was answered before it sent its FIN.
    fn answered(client: u16, silent_ms: u64) -> Socket {
        let mut socket = held(client, silent_ms);
        let fields = [("last_data_sent_ms", silent_ms + 900), ("last_data_recv_ms", silent_ms), ("bytes_received", 9)];
        for (field, value) in fields {
            assert!(socket.info.as_mut().unwrap().set(field, value));
        }
        socket
    }

    fn world(rows: u16, silent_ms: u64) -> World {
        let mut world = World::new();
        for n in 0..rows {
            let socket = held(40_000 + n, silent_ms);
            world.hold(812, "client", 3 + u32::from(n), socket.inode).add(socket);
        }
        world
    }

    /// So many, of which one came every 300 ms; each is that of a process of its own if `forked`.
    fn coming(rows: u16, forked: bool, make: fn(u16, u64) -> Socket) -> World {
        let mut world = World::new();
        for n in 0..rows {
            let socket = make(40_000 + n, u64::from(n) * 300);
            let pid = 812 + if forked { 1 + u32::from(n) } else { 0 };
            world.hold(pid, "client", 3 + u32::from(n), socket.inode).add(socket);
            world.now.processes.get_mut(&pid).unwrap().parent = Some(812);
        }
        world.hold(812, "client", 3, 9);
        world.later(2000);
        let silent = |s: &Socket| u64::from(s.info.as_deref().unwrap().last_ack_recv_ms().unwrap());
        world.before.as_mut().unwrap().sockets.retain(|s| silent(s) >= 2000);
        world
    }

    #[test]
    fn a_half_close_is_an_explanation_until_it_takes_half_of_the_descriptors() {
        let outcome = world(10, 90_000).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Info, Some(812)));
        assert_eq!(
            finding.summary,
            "client (812) keeps 10 half-closed connections, silent for up to 90 s: 10.0.0.9:80 has not closed"
        );
        assert_eq!(world(511, 90_000).check(check).findings[0].severity, Severity::Info, "of 1024");
        assert_eq!(world(512, 90_000).check(check).findings[0].severity, Severity::Warning, "of 1024");
    }

    #[test]
    fn growth_is_a_warning_from_a_tenth_of_the_descriptors_on() {
        for (rows, severity) in [(101, Severity::Info), (102, Severity::Warning)] {
            let mut grows = world(rows, 70_000);
            grows.later(2000);
            let more = held(41_000, 60_500);
            grows.hold(812, "client", 999, more.inode).add(more);
            assert_eq!(grows.check(check).findings[0].severity, severity, "one more than {rows} of 1024");
        }
        let mut first = world(1, 59_000);
        first.later(2000).now.sockets[0] = held(40_000, 61_000);
        assert_eq!(first.check(check).findings[0].severity, Severity::Info);
    }

    #[test]
    fn what_only_comes_warns_within_seconds_when_nothing_is_due() {
        let outcome = coming(20, false, answered).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.causes.left[0].cause.id), (Severity::Warning, "peer-never-closes"));
        assert_eq!(
            finding.summary,
            "client (812) keeps 20 half-closed connections, 3.5 a second more, silent for up to 5.7 s: 10.0.0.9:80 has not \
             closed"
        );
        assert_eq!(finding.subject.destination.map(|d| d.to_string()).as_deref(), Some("10.0.0.9:80"));
        let jobs = coming(20, false, held).check(check);
        assert_eq!(jobs.findings[0].severity, Severity::Info, "answers in the making");
        assert_eq!(coming(110, false, held).check(check).findings[0].severity, Severity::Warning, "a tenth");
        // Five went for seven that came: nobody waits without an end.
        let mut churns = coming(20, false, answered);
        for n in 0..5 {
            let left = answered(50_000 + n, 5000);
            churns.hold(812, "client", 900 + u32::from(n), left.inode);
            let owners = churns.now.owners.clone();
            let before = churns.before.as_mut().unwrap();
            before.sockets.push(left);
            before.owners = owners;
        }
        assert_eq!(churns.check(check).findings[0].severity, Severity::Info, "a pile");
    }

    #[test]
    fn one_row_each_of_many_processes_is_one_finding() {
        let outcome = coming(20, true, answered).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert!(
            finding.summary.starts_with("20 processes of client (children of 812) keep 20 half-closed connections, ")
        );
        assert_eq!((finding.severity, finding.subject.pids.len()), (Severity::Warning, 20));
    }

    #[test]
    fn a_server_may_linger_for_half_a_minute() {
        let lingering = |longest: u64| {
            let mut world = World::new();
            world.add(listen("10.0.0.1:80", 0, 128)).hold(812, "server", 3, 80 << 16);
            for n in 0..20u16 {
                let ms = u64::from(n) * longest / 19;
                let base = row(State::FinWait2, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n));
                let fields = [
                    ("last_ack_recv_ms", ms),
                    ("last_data_sent_ms", ms),
                    ("last_data_recv_ms", ms + 90),
                    ("bytes_sent", 9),
                    ("bytes_received", 9),
                ];
                let socket = info(Socket { shutdown: Some(2), ..base }, &fields);
                world.hold(812, "server", 9 + u32::from(n), socket.inode).add(socket);
            }
            world.later(2000);
            let silent = |s: &Socket| s.info.as_deref().is_none_or(|i| i.last_ack_recv_ms().unwrap() >= 2000);
            world.before.as_mut().unwrap().sockets.retain(silent);
            world.check(check).findings.first().map(|f| f.severity)
        };
        assert_eq!((lingering(29_000), lingering(31_000)), (Some(Severity::Info), Some(Severity::Warning)));
    }

    #[test]
    fn a_pile_that_stays_is_told_before_its_minute_and_a_few_are_not() {
        let mut pile = world(10, 20_000);
        assert_eq!(pile.check(check), Outcome::default());
        assert_eq!(pile.later(2000).check(check).findings[0].severity, Severity::Info);
        assert_eq!(world(9, 20_000).later(2000).check(check), Outcome::default());
        assert!(world(16, 20_000).check(check).wants_second.is_some());
    }

    #[test]
    fn downloads_orphans_and_the_young_are_silent() {
        assert_eq!(world(9, 59_999).check(check), Outcome::default());
        let mut orphan = World::new();
        orphan.add(Socket { shutdown: Some(3), ..unheld(held(40_000, 90_000)) });
        orphan.add(Socket { info: None, ..held(40_001, 0) });
        assert_eq!(orphan.check(check), Outcome::default());
        let mut download = world(20, 20_000);
        download.later(2000);
        for socket in &mut download.now.sockets {
            assert!(socket.info.as_mut().unwrap().set("bytes_received", 1000));
        }
        assert_eq!(download.check(check), Outcome::default());
    }

    #[test]
    fn a_peer_on_this_host_is_named() {
        let mut world = world(1, 70_000);
        let mirror = row(State::CloseWait, "10.0.0.9:80", "10.0.0.1:40000");
        world.hold(900, "backend", 7, mirror.inode).add(mirror);
        let finding = world.check(check).findings.remove(0);
        assert!(finding.summary.ends_with("backend (900) on this host has not closed"), "{finding:?}");
        assert!(finding.evidence.contains(&("other_end", Evidence::Text("backend (900): 1 in CLOSE_WAIT".into()))));
    }
}
