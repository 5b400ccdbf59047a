//! Requests were acknowledged and nobody answers them.
//!
//! Input: open connections on which we had the last word, what closed lately, and the other destinations of the port.
//! Output: one finding per destination. Not here: requests that are not even acknowledged (`dead-peer-retransmit`), or a
//! program on this host that does not read (`recv-queue-stuck`).
//!
#![doc = include_str!("../../../docs/rules/no-answer.md")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Subject};
use crate::diagnose::last_word::{self, PROMPT_MS};
use crate::diagnose::measure::Measure;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silence::{self, LONG_MS, VERY_LONG_MS};
use crate::diagnose::silence_causes::{CAUSES, Picture, Silence};
use crate::diagnose::view::View;
use crate::model::traced::Counts;
use crate::model::{Endpoint, NetnsId, RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("no-answer", Established, One, "requests are acknowledged and nobody answers them", check, [TEXT])
        .states(&[State::Established, State::FinWait2])
        .title("no answer")
        .identity(Identity::ProgramAndDestination)
        .causes(CAUSES);

const TAKE_OUT: &str = "Take the address out of the pool or the load balancer until it answers";
const LOOK: &str =
    "Look at the program behind it: stopped, frozen, out of workers, deadlocked; `tcpstate doctor` there";
const CHECK: &str = "Let the health check ask for an answer of the application: a TCP connect succeeds at a program that \
                     does nothing";
const DEADLINE: &str = "Set a deadline per request and retry what is idempotent on another address";

const TEXT: Text = Text {
    why: "The peer's kernel acknowledges a request also when its program is stopped or stuck, so neither TCP nor a \
          check that only connects finds out. Whoever is sent to this address waits for the client's own deadline.",
    remedy: &[TAKE_OUT, LOOK, CHECK, DEADLINE],
    avoid: &[
        "Don't turn on keepalive for this: the peer's kernel answers the probes",
        "Don't lower tcp_retries2 or set TCP_USER_TIMEOUT: nothing is unacknowledged",
    ],
};

/// Requests, and answers of others, that make a pattern.
const SEVERAL: u64 = 3;
/// Without a trace, or before anybody gave up, first requests wait for so long before they are told (policy).
const NO_TRACE_MS: u64 = 5000;

type Places<'a> = BTreeMap<(Option<NetnsId>, Endpoint), To<'a>>;
/// The addresses of each port.
type ByPort<'p, 'a> = FxHashMap<(Option<NetnsId>, u16), Vec<(IpAddr, &'p To<'a>)>>;

/// What is known of one destination.
#[derive(Debug, Default)]
struct To<'a> {
    /// Acknowledged requests without an answer, each with its wait.
    waiting: Vec<(&'a Socket, u64)>,
    /// How long ago data came.
    answers: Vec<u64>,
    /// How long ago a connection was closed by both ends: whether anything had come on it the row does not tell.
    closed: Vec<u64>,
    /// We closed, and the peer's program has not for so long.
    given_up: Vec<u64>,
    /// What a trace saw of connections that ended there.
    traced: Option<Counts>,
}

impl To<'_> {
    /// How long ago the peer's program did anything.
    fn signs(&self) -> Vec<u64> {
        self.answers.iter().chain(&self.closed).copied().collect()
    }
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let waiting = waiting(view);
    if waiting.is_empty() {
        return Outcome::default();
    }
    let places = places(view, waiting);
    let mut by_port: ByPort<'_, '_> = FxHashMap::default();
    for ((netns, to), place) in &places {
        by_port.entry((*netns, to.port)).or_default().push((to.addr, place));
    }
    let ends = Peers::new(view);
    let mut findings = Vec::new();
    for ((netns, to), place) in &places {
        let all = by_port.get(&(*netns, to.port)).map_or(&[][..], Vec::as_slice);
        let groups = ends.groups(place.waiting.iter().map(|(s, _)| *s), false);
        let Some(case) = Case::of(view, place, to.addr, all, &groups) else { continue };
        findings.push(case.finding(view, &groups, *to));
    }
    findings.sort_by(|a, b| a.summary.cmp(&b.summary));
    Outcome::findings(ranking::alike(findings))
}

/// Acknowledged requests without an answer by destination.
fn waiting<'a>(view: &View<'a>) -> Places<'a> {
    let mut places = Places::default();
    for (socket, _) in view.rows().filter(is_ours) {
        if let Some(ms) = waiting_ms(view, socket) {
            places.entry((socket.netns, socket.peer.normalised())).or_default().waiting.push((socket, ms));
        }
    }
    places
}

/// Adds what was answered and given up lately, at the same places and at other addresses of their ports.
fn places<'a>(view: &View<'a>, mut places: Places<'a>) -> Places<'a> {
    let ports: FxHashSet<(Option<NetnsId>, u16)> = places.keys().map(|(netns, to)| (*netns, to.port)).collect();
    for (socket, _) in view.rows().filter(is_ours) {
        if !ports.contains(&(socket.netns, socket.peer.port)) {
            continue;
        }
        let key = (socket.netns, socket.peer.normalised());
        if let Some(ms) = given_up_ms(view, socket) {
            places.entry(key).or_default().given_up.push(ms);
        } else if let Some(ms) = answered_ms(socket) {
            places.entry(key).or_default().answers.push(ms);
        } else if socket.state == State::TimeWait {
            places.entry(key).or_default().closed.extend(socket.state_age().map(|age| age.min_ms));
        }
    }
    for ends in view.now.traced.iter().flat_map(|traced| &traced.ends).filter(|ends| !ends.served_here) {
        if let Some(place) = places.get_mut(&(ends.netns, ends.service)) {
            place.traced = Some(ends.counts);
        }
    }
    places
}

/// A connection of a client of this host, as far as that can be told.
fn is_ours((socket, role): &(&Socket, Role)) -> bool {
    matches!(role, Role::Client | Role::Unknown) && socket.state.has_peer()
}

/// For how long a request has been acknowledged and not answered. A program on this host that does not read has a rule
/// of its own, and one that reads is at work.
fn waiting_ms(view: &View<'_>, socket: &Socket) -> Option<u64> {
    let acknowledged = socket.send_q_bytes == Some(0) && socket.recv_q_bytes == 0;
    if !acknowledged || !peers::is_held(socket, &[State::Established]) {
        return None;
    }
    last_word::unanswered_ms(socket).filter(|_| view.mirror(socket).is_none())
}

/// How long ago the peer's program sent data.
fn answered_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref().filter(|i| socket.kind == RowKind::Full && i.bytes_received() > Some(0))?;
    info.last_data_recv_ms().map(u64::from)
}

/// For how long a connection that nobody here holds any more has waited for the peer's program to close it.
fn given_up_ms(view: &View<'_>, socket: &Socket) -> Option<u64> {
    let closed_here = socket.state == State::FinWait2 && socket.inode.is_none();
    let left = socket.timer.filter(|_| closed_here)?.remaining_ms;
    Some(view.fin_timeout_ms(socket.netns).saturating_sub(left.into()))
}

/// A destination that does not answer.
struct Case<'p, 'a> {
    place: &'p To<'a>,
    picture: Picture,
    longest_ms: u64,
    given_up: u64,
    answers_here: u64,
    /// Others to it ended in order.
    closed_here: u64,
    answers_elsewhere: u64,
    /// Other addresses of the port that answered.
    elsewhere: BTreeSet<IpAddr>,
    /// First requests that never got a byte.
    first: u64,
}

impl<'p, 'a> Case<'p, 'a> {
    fn of(
        view: &View<'_>,
        place: &'p To<'a>,
        addr: IpAddr,
        all: &[(IpAddr, &To<'a>)],
        groups: &[Group<'_>],
    ) -> Option<Case<'p, 'a>> {
        let longest_ms = place.waiting.iter().map(|(_, ms)| *ms).max()?;
        let given_up: Vec<u64> = place.given_up.iter().copied().filter(|ms| *ms >= PROMPT_MS).collect();
        let since = given_up.iter().copied().max().unwrap_or(0).max(longest_ms);
        let within = |times: &[u64]| times.iter().filter(|ms| **ms < since).count() as u64;
        let (answers, closed) = (|to: &To<'_>| within(&to.answers), |to: &To<'_>| within(&to.closed));
        let others = || all.iter().filter(|(other, to)| *other != addr && answers(to) + closed(to) > 0);
        let mut case = Case {
            place,
            picture: Picture::Waits,
            longest_ms,
            given_up: (given_up.len() as u64).max(place.traced.map_or(0, |t| t.given_up)),
            answers_here: answers(place).max(place.traced.map_or(0, |t| t.answered)),
            closed_here: closed(place),
            answers_elsewhere: others().map(|(_, to)| answers(to) + closed(to)).sum(),
            elsewhere: others().map(|(other, _)| *other).collect(),
            first: place.waiting.iter().filter(|(s, _)| silence::is_first(s)).count() as u64,
        };
        let rows: Vec<&Socket> = place.waiting.iter().map(|(s, _)| *s).collect();
        let at_once = silence::is_at_once(view, &rows, &place.signs(), case.given_up > 0);
        let at_once = at_once.then(|| case.stop(groups));
        case.picture = case.picture(given_up.len() as u64, at_once);
        (case.picture != Picture::Waits || case.is_worth_a_word()).then_some(case)
    }

    /// What fell silent at once. Workers that read from one queue run the same program, and none of them gives up.
    fn stop(&self, groups: &[Group<'_>]) -> Picture {
        let mut programs: Vec<&str> = groups.iter().filter_map(|g| g.owner.map(|p| p.comm.as_str())).collect();
        programs.sort_unstable();
        programs.dedup();
        let are_alike = groups.len() > 1 && programs.len() <= 1;
        if are_alike && self.given_up == 0 { Picture::AllWait } else { Picture::StoppedAtOnce }
    }

    fn picture(&self, unclosed: u64, at_once: Option<Picture>) -> Picture {
        let gave_up = self.given_up >= SEVERAL;
        // What closes without an answer may have asked for none; it is taken for a request beside some that wait for one.
        let alike = match self.place.traced {
            Some(traced) => traced.given_up > 0 && self.first > 0,
            None => unclosed >= SEVERAL && self.first >= SEVERAL && self.longest_ms >= NO_TRACE_MS,
        };
        let is_silent = self.answers_here + self.closed_here == 0;
        if unclosed >= SEVERAL && is_silent && self.answers_elsewhere >= SEVERAL {
            Picture::SilentAddress
        } else if gave_up && alike && is_silent {
            Picture::SilentToAll
        } else if gave_up && alike && self.first_for_long() >= SEVERAL {
            Picture::SilentInPart
        } else {
            at_once.unwrap_or(Picture::Waits)
        }
    }

    fn first_for_long(&self) -> u64 {
        self.place.waiting.iter().filter(|(s, ms)| *ms >= LONG_MS && silence::is_first(s)).count() as u64
    }

    /// Several wait for long while as many were answered, here or elsewhere, or without ever having got a byte, or less long
    /// where nobody was answered or somebody gave up, or very long after they had been answered: this may be what was
    /// asked for.
    fn is_worth_a_word(&self) -> bool {
        let long = self.place.waiting.iter().filter(|(_, ms)| *ms >= LONG_MS).count() as u64;
        let answers = self.answers_here + self.closed_here + self.answers_elsewhere;
        // Somebody found that it takes too long.
        let too_long = answers == 0 || self.given_up > 0;
        let first_in_vain = self.first >= SEVERAL && self.longest_ms >= NO_TRACE_MS && too_long;
        // A trace knows what was answered: most give up, and nobody gets a byte.
        let all_give_up =
            self.place.traced.is_some_and(|t| t.given_up >= SEVERAL && t.given_up * 2 >= self.first) && self.first > 0;
        let stalled = self.place.waiting.iter().filter(|(s, ms)| *ms >= VERY_LONG_MS && silence::is_exchange(s));
        long >= SEVERAL && (answers >= long || self.first_for_long() >= SEVERAL)
            || first_in_vain
            || answers == 0 && stalled.count() as u64 >= SEVERAL
            || all_give_up && self.answers_here == 0
    }

    fn finding(&self, view: &View<'_>, groups: &[Group<'_>], to: Endpoint) -> Finding {
        let n = self.place.waiting.len() as u64;
        let given_up = match (self.given_up, self.place.given_up.len()) {
            (0, _) => String::new(),
            (n, 0) => format!(", {} given up", text::grouped(n)),
            (n, _) => format!(", {} given up and not closed by the peer", text::grouped(n)),
        };
        let others = match (self.elsewhere.len() as u64, self.answers_here) {
            _ if matches!(self.picture, Picture::StoppedAtOnce | Picture::AllWait) => match self.first {
                0 => "it answered all of them before, and nobody since".into(),
                first => format!("it answered {} of them before, and nobody since", text::grouped(n - first)),
            },
            (0, 0) if self.closed_here > 0 && self.place.traced.is_none() => {
                format!("{} others ended in order meanwhile", text::grouped(self.closed_here))
            }
            (0, 0) => "it answered nobody meanwhile".to_owned(),
            (0, here) => format!("{} it answered meanwhile", text::grouped(here)),
            (1, 0) => format!("another address answered on port {} meanwhile", to.port),
            (n, 0) => format!("{} other addresses answered on port {} meanwhile", text::grouped(n), to.port),
            (_, here) => format!("it and others answered {} meanwhile", text::grouped(here + self.answers_elsewhere)),
        };
        let (who, plural) = waiters(view, groups);
        let summary = format!(
            "{who} {} for an answer of {to} on {}, for up to {}{given_up}; {others}",
            if plural { "wait" } else { "waits" },
            text::count(n, "connection", "connections"),
            text::duration(self.longest_ms),
        );
        let silence = Silence {
            picture: self.picture,
            given_up: self.given_up,
            answers_here: self.answers_here + self.closed_here,
            has_silent_connections: self.first_for_long() >= SEVERAL,
            is_traced: self.place.traced.is_some(),
        };
        let (severity, confidence, because) = silence.judged();
        let mut subject = groups.first().map_or_else(Subject::default, |group| group.subject(view));
        subject.destination = Some(to);
        RULE.finding(severity, confidence, summary)
            .because(because)
            .causes(silence.causes())
            .lasting(Some(Measure::AtLeast(self.longest_ms)))
            .subject(subject)
            .about(self.place.waiting.iter().map(|(s, _)| *s))
            .evidence("waiting", Evidence::Count(n))
            .evidence("longest_wait_ms", Evidence::Millis(self.longest_ms))
            .evidence("never_got_a_byte", Evidence::Count(self.first))
            .evidence("given_up", Evidence::Count(self.given_up))
            .evidence("answers_here", Evidence::Count(self.answers_here))
            .evidence("ended_in_order", Evidence::Count(self.closed_here))
            .evidence("answers_elsewhere", Evidence::Count(self.answers_elsewhere))
            .evidence("answering", Evidence::List(self.elsewhere.iter().take(5).map(ToString::to_string).collect()))
            .next(format!("tcpstate list -o -i -p --peer {to}"))
    }
}

/// Who waits, and whether that is more than one process: `curl (812)`, `'curl' (16 processes)`.
fn waiters(view: &View<'_>, groups: &[Group<'_>]) -> (String, bool) {
    let Some(first) = groups.first() else { return ("a process".to_owned(), false) };
    let others = groups.len() - 1;
    let comm = first.owner.map(|p| &p.comm);
    match comm {
        _ if others == 0 => (first.name(view), false),
        Some(comm) if groups.iter().all(|g| g.owner.is_some_and(|p| p.comm == *comm)) => {
            (format!("{} ({} processes)", text::quoted(comm), groups.len()), true)
        }
        _ => (format!("{} and {}", first.name(view), text::count(others as u64, "other", "others")), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::Severity;
    use crate::diagnose::testkit::{NETNS, World, info, row, time_wait, timer, unheld, with_info};
    use crate::model::TimerKind;
    use crate::model::traced::{Ends, TracedInterval};

    const SILENT: &str = "10.0.0.4:80";

    fn open(port: u16, to: &str, sent_ms: u64, received_ms: u64, received: u64) -> Socket {
        let fields = [
            ("last_data_sent_ms", sent_ms),
            ("last_data_recv_ms", received_ms),
            ("bytes_sent", 100),
            ("bytes_received", received),
        ];
        info(row(State::Established, &format!("10.0.0.1:{port}"), to), &fields)
    }

    /// A request that waits for its first answer.
    fn waits(port: u16, to: &str, ms: u64) -> Socket {
        open(port, to, ms, ms + 50, 0)
    }

    /// Closed here `ms` ago, and not by the peer.
    fn left(port: u16, to: &str, ms: u32) -> Socket {
        let socket = unheld(row(State::FinWait2, &format!("10.0.0.1:{port}"), to));
        Socket { kind: RowKind::TimeWaitMini, ..timer(socket, TimerKind::TimeWait, 60_000 - ms, 0) }
    }

    fn add(world: &mut World, socket: Socket) {
        if socket.inode.is_some() {
            world.hold(812, "proxy", u32::from(socket.local.port), socket.inode);
        }
        world.add(socket);
    }

    /// One of three addresses does not answer; three were given up.
    fn one_silent() -> World {
        let mut world = World::new();
        add(&mut world, waits(40_000, SILENT, 1500));
        for n in 0..3 {
            add(&mut world, left(40_001 + n, SILENT, 3000 + 2000 * u32::from(n)));
        }
        add(&mut world, open(40_010, "10.0.0.2:80", 400, 390, 5000));
        for n in 0..2 {
            world.add(time_wait(&format!("10.0.0.1:{}", 40_020 + n), "10.0.0.3:80", 59_000));
        }
        world
    }

    #[test]
    fn a_silent_backend_whose_clients_give_up_is_a_warning() {
        let outcome = one_silent().check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "proxy (812) waits for an answer of 10.0.0.4:80 on 1 connection, for up to 1.5 s, 3 given up and not closed \
             by the peer; 2 other addresses answered on port 80 meanwhile"
        );
        assert_eq!(finding.causes.left[0].cause.id, "program-stuck");
        assert!(finding.causes.ruled_out.iter().any(|(cause, _)| cause.id == "long-request"));
    }

    #[test]
    fn without_proof_that_somebody_is_hurt_nothing_is_a_warning() {
        let silent = |world: &World| assert_eq!(world.check(check), Outcome::default());
        // It answered since the first was given up; the others do not answer; too few gave up; they did so just now.
        let mut answers = one_silent();
        add(&mut answers, open(40_030, SILENT, 2000, 1990, 10));
        silent(&answers);
        let mut alone = one_silent();
        alone.now.sockets.retain(|s| s.peer.to_string() == SILENT);
        silent(&alone);
        let mut few = one_silent();
        few.now.sockets.remove(1);
        silent(&few);
        let mut now = one_silent();
        now.now.sockets[1] = left(40_001, SILENT, 999);
        silent(&now);
        // A program on this host reads it and is at work.
        let mut here = one_silent();
        here.add(row(State::Established, SILENT, "10.0.0.1:40000"));
        silent(&here);
    }

    #[test]
    fn long_polls_and_blocking_reads_beside_quick_answers_are_an_explanation() {
        let mut world = World::new();
        for n in 0..3 {
            add(&mut world, open(40_000 + n, "10.0.0.2:6379", 30_000, 31_000, 90));
            add(&mut world, open(40_100 + n, "10.0.0.2:6379", 40, 39, 5000));
        }
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(finding.causes.left[0].cause.id, "long-request");
        world.now.sockets.remove(0);
        assert_eq!(world.check(check), Outcome::default(), "two are no pattern");
    }

    #[test]
    fn sessions_that_wait_very_long_while_nobody_is_answered_are_an_explanation() {
        let sessions = |ms: u64, answers: u64, requests: u64| {
            let mut world = World::new();
            for n in 0..3 {
                let socket = open(40_000 + n, "10.0.0.2:5432", ms, ms + 20_000, 400);
                add(&mut world, with_info(socket, &[("data_segs_in", answers), ("data_segs_out", requests)]));
            }
            world.check(check).findings.pop().map(|f| (f.severity, f.causes.left[0].cause.id))
        };
        assert_eq!(sessions(30_000, 3, 4), Some((Severity::Info, "long-request")), "a lock that all wait for");
        assert_eq!(sessions(29_000, 3, 4), None, "not very long");
        assert_eq!(sessions(30_000, 3, 40), None, "a protocol without an answer to each message");
        assert_eq!(sessions(30_000, 1, 2), None, "a greeting");
    }

    fn traced(world: &mut World, counts: Counts) {
        let ends = Ends::new(NETNS, Endpoint::new("10.0.0.4".parse().unwrap(), 80), false, counts);
        world.now.traced = Some(TracedInterval { duration_ms: 2000, ends: vec![ends], ..TracedInterval::default() });
    }

    #[test]
    fn clients_that_give_up_what_nobody_answers_are_hurt() {
        let found = |counts: Counts, change: fn(&mut World)| {
            let mut world = World::new();
            for n in 0..4 {
                add(&mut world, waits(40_000 + n, SILENT, 2000 + 1000 * u64::from(n)));
            }
            traced(&mut world, counts);
            change(&mut world);
            world.check(check).findings
        };
        let counts = Counts { given_up: 3, ..Counts::default() };
        let [finding] = &found(counts, |_| ())[..] else { panic!("no finding") };
        assert_eq!((finding.severity, finding.causes.left[0].cause.id), (Severity::High, "program-stuck"));
        assert!(
            finding.summary.ends_with("for up to 5.0 s, 3 given up; it answered nobody meanwhile"),
            "{}",
            finding.summary
        );
        let silent = |counts, change: fn(&mut World)| assert!(found(counts, change).is_empty());
        assert_eq!(found(Counts { given_up: 2, ..counts }, |_| ())[0].severity, Severity::Info);
        assert_eq!(found(Counts { answered: 1, ..counts }, |_| ())[0].severity, Severity::Info);
        // The server closes what was given up, as one that is alive does: an explanation, and no answer is made of it.
        let closed = found(counts, |world| {
            for n in 0..4 {
                world.add(time_wait(&format!("10.0.0.1:{}", 42_000 + n), SILENT, 59_000));
            }
        });
        assert_eq!(closed[0].severity, Severity::Info);
        assert!(closed[0].summary.ends_with("3 given up; it answered nobody meanwhile"), "{}", closed[0].summary);
        // Protocols without answers: what is open has sent for long, too.
        silent(counts, |world| {
            for socket in &mut world.now.sockets {
                *socket = open(socket.local.port, SILENT, 2000, 90_000, 0);
            }
        });
        // Without a trace it takes several rows of each kind, and longer.
        let nobody = found(counts, |world| {
            world.now.traced = None;
            for n in 0..3 {
                add(world, left(41_000 + n, SILENT, 3000));
            }
        });
        assert_eq!(nobody[0].severity, Severity::Warning);
    }

    #[test]
    fn whole_connections_without_a_byte_beside_others_that_are_answered_point_to_a_part() {
        let found = |given_up, ms| {
            let mut world = World::new();
            for n in 0..3 {
                add(&mut world, waits(40_000 + n, SILENT, ms));
                add(&mut world, open(40_100 + n, SILENT, 40, 39, 5000));
            }
            traced(&mut world, Counts { given_up, answered: 40, ..Counts::default() });
            world.check(check).findings
        };
        let part = found(3, 12_000);
        assert_eq!((part[0].severity, part[0].causes.left[0].cause.id), (Severity::Warning, "program-stuck"));
        assert!(part[0].causes.ruled_out.is_empty(), "answers of others exclude nothing");
        let waits = found(2, 12_000);
        assert_eq!((waits[0].severity, waits[0].causes.left[0].cause.id), (Severity::Info, "program-stuck"));
        let too_long = found(9, 5000);
        assert_eq!((too_long[0].severity, too_long[0].causes.left[0].cause.id), (Severity::Info, "program-stuck"));
        assert!(found(9, 4999).is_empty(), "requests that are hedged are not old");
        let long = found(0, 12_000);
        assert_eq!((long[0].severity, long[0].causes.left[0].cause.id), (Severity::Info, "long-request"));
        assert!(long[0].causes.left[0].confidence < 0.5, "nothing tells: {:?}", long[0].causes);
    }

    #[test]
    fn all_connections_of_a_program_that_fall_silent_at_once_are_a_warning() {
        let mut world = World::new();
        for n in 0..6 {
            let socket = open(40_000 + n, SILENT, 13_900, 14_400, 900);
            let mut info = socket.info.as_deref().unwrap().clone();
            assert!(info.set("data_segs_out", 9) && info.set("data_segs_in", 8));
            add(&mut world, Socket { info: Some(info.into()), ..socket });
        }
        world.now.processes.get_mut(&812).unwrap().running_ms = Some(18_500);
        let finding = world.check(check).findings.remove(0);
        assert_eq!((finding.severity, finding.causes.left[0].cause.id), (Severity::Warning, "program-stuck"));
        assert_eq!(
            finding.summary,
            "proxy (812) waits for an answer of 10.0.0.4:80 on 6 connections, for up to 13 s; it answered all of them \
             before, and nobody since"
        );
        // Another program got an answer since.
        world.add(open(41_000, SILENT, 9000, 8999, 90));
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn processes_of_several_programs_that_fall_silent_at_once_are_a_warning_and_workers_alike_may_be_idle() {
        let found = |other: &str, given_up: u64| {
            let mut world = World::new();
            for n in 0..4u16 {
                let socket = open(40_000 + n, SILENT, 13_900, 14_400, 900);
                let socket = with_info(socket, &[("data_segs_out", 9), ("data_segs_in", 8)]);
                let pid = 900 + u32::from(n);
                world.hold(pid, if n == 0 { other } else { "app" }, 3, socket.inode).add(socket);
                world.now.processes.get_mut(&pid).unwrap().running_ms = Some(18_500);
            }
            traced(&mut world, Counts { given_up, ..Counts::default() });
            world.check(check).findings.remove(0)
        };
        let told = |finding: &Finding| (finding.severity, finding.causes.left[0].cause.id);
        let alike = found("app", 0);
        assert_eq!(told(&alike), (Severity::Info, "program-stuck"));
        assert!(alike.causes.left[0].confidence < 0.5, "nothing tells: {:?}", alike.causes);
        assert!(alike.summary.ends_with("it answered all of them before, and nobody since"), "{}", alike.summary);
        assert_eq!(told(&found("mailer", 0)), (Severity::Warning, "program-stuck"));
        assert_eq!(told(&found("app", 1)), (Severity::Warning, "program-stuck"), "one gave up");
    }

    #[test]
    fn several_processes_are_told_from_one() {
        let mut world = World::new();
        for n in 0..3u16 {
            let socket = waits(40_000 + n, SILENT, 12_000);
            world.hold(900 + u32::from(n), "curl", 3, socket.inode).add(socket);
        }
        let summary = world.check(check).findings.remove(0).summary;
        assert!(
            summary.starts_with("'curl' (3 processes) wait for an answer of 10.0.0.4:80 on 3 connections"),
            "{summary}"
        );
    }
}
