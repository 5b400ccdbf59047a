//! A program of this host has read requests and does not answer them, and its clients give up.
//!
//! Input: accepted connections on which the client had the last word, what a trace saw end, and what the program itself waits
//! for. Output: one finding per listener. Not here: requests that nobody accepts (`accept-queue-stalled`) or reads
//! (`recv-queue-stuck`).
//!
#![doc = include_str!("../../../docs/rules/answers-owed.md")]

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::callers;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::last_word::{self, By};
use crate::diagnose::measure::Measure;
use crate::diagnose::passed_requests::Upstream;
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silence::{self, FIRST_MS, LONG_MS, VERY_LONG_MS};
use crate::diagnose::view::View;
use crate::model::traced::Counts;
use crate::model::{Endpoint, NetnsId, RowKind, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("answers-owed", Established, One, "requests are read and not answered, and clients give up", check, [TEXT])
        .states(&[State::Established, State::CloseWait])
        .title("answers owed")
        .identity(Identity::Listener)
        .causes(CAUSES);

const LOOK: &str = "Look what the program does with a request: a stack trace of each thread, its queue, its pool of connections or \
                    threads";
const UPSTREAM: &str = "Look at {upstream} first: what the program asks there is not answered either";
const TIMEOUT: &str =
    "Give what the program waits for a deadline shorter than that of its clients, so that it answers with an error";
const SHED: &str = "Refuse requests beyond what it can answer, instead of queueing them";

const TEXT: Text = Text {
    why: "The program has taken the request out of the socket, so no queue of the kernel shows it: for its client the \
          service is open and silent. Whoever gives up leaves work behind of which nobody needs the result.",
    remedy: &[UPSTREAM, LOOK, TIMEOUT, SHED],
    avoid: &[
        "Don't raise the backlog or the buffers: nothing waits in the kernel",
        "Don't raise the timeout of the clients alone: more of them then wait at a time",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "upstream",
        text: "the program waits for an answer of another service to which it passed them on",
        predicts: "it has a connection of its own for each of them, on which it sent something when the request came, and got nothing",
        refuted_by: "none of its own connections waits for an answer",
        decided_by: "the service at the other end of these connections",
    },
    Cause {
        id: "program-stuck",
        text: "the program, or the part that should answer, is blocked or full: a lock, a pool, a queue, a disk, a resolver",
        predicts: "no connection of its own waits for an answer, or fewer than there are requests",
        refuted_by: "a connection of its own for each of them that waits for an answer",
        decided_by: "a stack trace of the language, twice; the program's own count of what waits",
    },
    Cause {
        id: "long-request",
        text: "the requests are long ones (a long poll, a blocking read, a heavy query)",
        predicts: "clients wait for as long as they mean to",
        refuted_by: "the protocol answers at once",
        decided_by: "what was asked: the program's log",
    },
];

/// Requests, and clients that gave up, that make a pattern (policy).
const SEVERAL: u64 = 3;
/// A client that gives up after this, or later, has waited for an answer.
const GAVE_UP_MS: u64 = 1000;
/// So long one of the requests waits, where nobody is answered (policy).
const UNANSWERED_MS: u64 = 5000;
/// Nobody waits longer for an answer: the protocol has none, or does not answer each message (policy).
const NOBODY_WAITS_MS: u64 = 600_000;
/// What clients left lately, as long as their own host knows of it (`TCP_FIN_TIMEOUT_MAX`).
const LATELY_MS: u64 = 60_000;

/// A listener: its namespace, and its place in the list there.
type Place = (Option<NetnsId>, u32);

/// What a listener's connections wait for.
#[derive(Default)]
struct Owed<'a> {
    /// Requests that were read, and for how long they wait.
    waiting: Vec<(&'a Socket, u64)>,
    /// First requests among them: those connections never got a byte.
    first: u64,
    /// The same of clients that closed meanwhile, and the program has not.
    left: Vec<(&'a Socket, u64)>,
    /// How long ago others were answered, or closed.
    answers: Vec<u64>,
}

/// Whether a client has closed its side.
enum End {
    None,
    /// With its request or soon after: it may have said that this is complete (or it was the last word of TLS).
    OfTheRequest,
    /// After it had waited.
    Left,
    /// When is not known, or is long ago.
    Unknown,
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut places: FxHashMap<Place, Owed<'_>> = FxHashMap::default();
    for (socket, place) in served(view) {
        let Some(ms) = request_ms(socket) else { continue };
        let owed = places.entry(place).or_default();
        match end(socket, ms) {
            End::OfTheRequest if !is_first(socket) => {}
            End::None | End::OfTheRequest => {
                owed.first += u64::from(is_first(socket));
                owed.waiting.push((socket, ms));
            }
            End::Left => owed.left.push((socket, ms)),
            End::Unknown => {}
        }
    }
    places.retain(|_, owed| owed.count() >= SEVERAL && owed.longest_ms() >= UNANSWERED_MS);
    if places.is_empty() {
        return Outcome::default();
    }
    for (socket, place) in served(view) {
        if let Some(owed) = places.get_mut(&place) {
            owed.answers.extend(answered_ms(socket));
        }
    }
    let ends = Peers::new(view);
    let mut findings: Vec<Finding> = places
        .into_iter()
        .filter_map(|((netns, index), owed)| {
            let at = view.listeners(netns).get(index).local;
            Case::of(owed, traced(view, netns, at)).map(|case| case.finding(view, &ends, netns, at))
        })
        .collect();
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.summary.cmp(&b.summary)));
    Outcome::findings(findings)
}

/// The connections of listeners, those that are over included.
fn served<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = (&'a Socket, Place)> + use<'v, 'a> {
    view.rows().filter_map(|(socket, role)| match role {
        Role::Server(index) if socket.state.has_peer() => Some((socket, (socket.netns, index))),
        _ => None,
    })
}

/// For how long a request has been read and not answered. A FIN that was not read yet counts as a byte in the queue, and
/// one that came as a byte that was received.
fn request_ms(socket: &Socket) -> Option<u64> {
    let fin = u32::from(socket.state == State::CloseWait);
    let is_read = socket.recv_q_bytes <= fin && socket.send_q_bytes == Some(0);
    if !is_read || !peers::is_held(socket, &[State::Established, State::CloseWait]) {
        return None;
    }
    let received = socket.info.as_deref()?.bytes_received()?;
    let last = last_word::of(socket)?;
    let is_theirs = last.by == By::Peer && received > u64::from(fin);
    (is_theirs && (GAVE_UP_MS..NOBODY_WAITS_MS).contains(&last.ago_ms)).then_some(last.ago_ms)
}

/// A first request that followed the handshake at once: nothing was sent, so the stamp of our data is that of the accepted
/// connection.
fn is_first(socket: &Socket) -> bool {
    let stamps = socket.info.as_deref().and_then(|i| Some((i.last_data_sent_ms()?, i.last_data_recv_ms()?)));
    last_word::has_sent(socket) == Some(false)
        && stamps.is_some_and(|(made, received)| u64::from(made.saturating_sub(received)) <= FIRST_MS)
}

/// Whether the client has closed, and had waited for its answer then.
fn end(socket: &Socket, request_ms: u64) -> End {
    if socket.state != State::CloseWait {
        return End::None;
    }
    let Some(age) = socket.state_age() else { return End::Unknown };
    let is_late = age.max_ms.is_some_and(|ms| ms <= LATELY_MS);
    match request_ms.saturating_sub(age.min_ms) {
        waited if waited < GAVE_UP_MS => End::OfTheRequest,
        _ if is_late => End::Left,
        _ => End::Unknown,
    }
}

/// How long ago the program did anything for a client: it sent data, or it closed its side.
fn answered_ms(socket: &Socket) -> Option<u64> {
    match socket.state {
        State::TimeWait => socket.state_age().map(|age| age.min_ms),
        _ if socket.kind == RowKind::Full && last_word::has_sent(socket) == Some(true) => {
            socket.info.as_deref()?.last_data_sent_ms().map(u64::from)
        }
        _ => None,
    }
}

/// What a trace saw end at a listener.
fn traced(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> Option<Counts> {
    let traced = view.now.traced.as_ref()?;
    let of_listener = traced.ends.iter().filter(|ends| {
        ends.served_here
            && ends.netns == netns
            && ends.service.port == at.port
            && callers::listening(view, netns, ends.service).is_some_and(|queue| queue.local == at)
    });
    Some(of_listener.fold(Counts::default(), |mut all, ends| {
        all.answered += ends.counts.answered;
        all.given_up += ends.counts.given_up;
        all
    }))
}

impl<'a> Owed<'a> {
    /// Requests that were read and not answered.
    fn count(&self) -> u64 {
        (self.waiting.len() + self.left.len()) as u64
    }

    fn requests(&self) -> impl Iterator<Item = &(&'a Socket, u64)> {
        self.waiting.iter().chain(&self.left)
    }

    fn longest_ms(&self) -> u64 {
        self.requests().map(|(_, ms)| *ms).max().unwrap_or(0)
    }

    fn rows(&self) -> impl Iterator<Item = &'a Socket> {
        self.requests().map(|(socket, _)| *socket)
    }
}

/// A listener whose clients give up.
struct Case<'a> {
    owed: Owed<'a>,
    severity: Severity,
    given_up: u64,
    answers: u64,
    is_traced: bool,
}

impl<'a> Case<'a> {
    fn of(owed: Owed<'a>, traced: Option<Counts>) -> Option<Case<'a>> {
        let longest_ms = owed.longest_ms();
        let sent = owed.answers.iter().filter(|ms| **ms < longest_ms).count() as u64;
        let left = owed.left.len() as u64;
        let counts = traced.unwrap_or_default();
        let given_up = left + counts.given_up;
        let answers = sent.max(counts.answered);
        let long = || owed.waiting.iter().filter(|(_, ms)| *ms >= LONG_MS);
        let (for_long, first_for_long) = (long().count() as u64, long().filter(|(s, _)| is_first(s)).count() as u64);
        let stalled = long().filter(|(s, ms)| *ms >= VERY_LONG_MS && silence::is_exchange(s)).count() as u64;
        // What a trace saw leave had never got a byte: those that wait are like it only if they have not either.
        let alike = left > 0 || owed.first >= SEVERAL;
        let severity = match (given_up >= SEVERAL && alike, answers) {
            (true, 0) if traced.is_some() => Severity::High,
            (true, 0) => Severity::Warning,
            (true, _) if for_long >= SEVERAL && owed.first >= SEVERAL => Severity::Warning,
            (_, 0) if given_up > 0 && owed.first >= SEVERAL => Severity::Info,
            (_, 0) if first_for_long + stalled >= SEVERAL => Severity::Info,
            _ => return None,
        };
        Some(Case { owed, severity, given_up, answers, is_traced: traced.is_some() })
    }

    fn causes(&self, upstream: &Upstream<'a>) -> Weighed {
        Weighed::of(CAUSES, |cause| match cause.id {
            "upstream" if upstream.carries_most(self.owed.waiting.len().max(1)) => Weight::Proven,
            "upstream" if !upstream.is_known => Weight::Possible(0.2),
            "upstream" if upstream.waiting.is_empty() => {
                Weight::Refuted("none of its own connections waits for an answer".into())
            }
            "upstream" => Weight::Possible(0.4),
            "program-stuck" if upstream.carries_most(self.owed.waiting.len().max(1)) => {
                Weight::Refuted("it has passed them on, and waits for each".into())
            }
            "program-stuck" => Weight::Possible(if self.given_up > 0 { 0.5 } else { 0.35 }),
            _ => Weight::Possible(match self.given_up {
                0 => 0.45,
                SEVERAL.. => 0.15,
                _ => 0.3,
            }),
        })
    }

    fn finding(&self, view: &View<'a>, ends: &Peers<'_, 'a>, netns: Option<NetnsId>, at: Endpoint) -> Finding {
        let groups = ends.groups(self.owed.rows(), false);
        let upstream = Upstream::of(view, &groups);
        let causes = self.causes(&upstream);
        let n = self.owed.count();
        let (who, has) = holders(view, &groups);
        let others = match self.answers {
            0 => "nobody was answered meanwhile".to_owned(),
            n => format!("{} meanwhile", text::count(n, "other was answered", "others were answered")),
        };
        let waits_for = match upstream.to() {
            Some(to) if causes.is("upstream") => format!("; it waits for an answer of {to}"),
            None if causes.is("upstream") => "; it waits for answers of other services".to_owned(),
            _ => String::new(),
        };
        let given_up = match self.given_up {
            0 => String::new(),
            n => format!("{}, ", text::count(n, "client gave up", "clients gave up")),
        };
        let summary = format!(
            "{who} {has} read requests on {} of {at} and not answered them, for up to {}; {given_up}{others}{waits_for}",
            text::count(n, "connection", "connections"),
            text::duration(self.owed.longest_ms()),
        );
        let mut subject = groups.first().map(|group| group.subject(view)).unwrap_or_default();
        (subject.netns, subject.listener, subject.destination, subject.source) = (netns, Some(at), None, None);
        let (confidence, because) = match self.severity {
            Severity::Info => (0.5, "that nothing was sent is exact; whether an answer is due the program knows"),
            _ if self.answers > 0 => {
                (0.75, "whole connections never got a byte while others are answered, and their clients gave up")
            }
            _ if self.is_traced => {
                (0.85, "clients closed what was never answered; no connection of the listener got a byte meanwhile")
            }
            _ => (0.7, "clients closed and the program has not; no connection of the listener got a byte meanwhile"),
        };
        let steps: &[&str] = if causes.is("upstream") { &[UPSTREAM, TIMEOUT, SHED] } else { &[LOOK, TIMEOUT, SHED] };
        RULE.finding(self.severity, confidence, summary)
            .because(because)
            .steps(steps.iter().copied())
            .fill("upstream", upstream.to().unwrap_or_else(|| "those services".to_owned()))
            .causes(causes)
            .lasting(Some(Measure::AtLeast(self.owed.longest_ms())))
            .subject(subject)
            .about(self.owed.rows())
            .evidence("waiting", Evidence::Count(self.owed.waiting.len() as u64))
            .evidence("longest_wait_ms", Evidence::Millis(self.owed.longest_ms()))
            .evidence("never_got_a_byte", Evidence::Count(self.owed.first))
            .evidence("given_up", Evidence::Count(self.given_up))
            .evidence("given_up_and_not_closed", Evidence::Count(self.owed.left.len() as u64))
            .evidence("answers_here", Evidence::Count(self.answers))
            .evidence("waits_for", Evidence::List(upstream.names()))
            .evidence("passed_on", Evidence::Count(upstream.passed_on))
            .next(format!("tcpstate list -o -i -p --local {at}"))
    }
}

/// Who has the requests, with its verb: `haproxy (812)`, `postgres (812) and 4 others`.
fn holders(view: &View<'_>, groups: &[Group<'_>]) -> (String, &'static str) {
    match groups {
        [] => ("its owner".to_owned(), "has"),
        [one] => (one.name(view), "has"),
        [first, rest @ ..] => {
            (format!("{} and {}", first.name(view), text::count(rest.len() as u64, "other", "others")), "have")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, listen, row, time_wait, with_info};
    use crate::model::traced::{Ends, TracedInterval};

    /// What a connection of :80 has: a request `asked_ms` ago, made `made_ms` ago, and so many bytes of an answer.
    fn request(state: State, client: u16, asked_ms: u64, made_ms: u64, sent: u64) -> Socket {
        let fields = [
            ("last_data_recv_ms", asked_ms),
            ("last_data_sent_ms", made_ms),
            ("last_ack_recv_ms", asked_ms),
            ("bytes_received", 90),
            ("bytes_sent", sent),
        ];
        info(row(state, "10.0.0.1:80", &format!("10.0.0.9:{client}")), &fields)
    }

    fn add(world: &mut World, socket: Socket) {
        let fd = u32::from(socket.local.port) + u32::from(socket.peer.port);
        world.hold(812, "proxy", fd, socket.inode).add(socket);
    }

    /// So many first requests, each second one, and so many clients that a trace saw give up.
    fn world(requests: u16, given_up: u64) -> World {
        let mut world = World::new();
        let listener = listen("0.0.0.0:80", 0, 128);
        world.hold(812, "proxy", 3, listener.inode).add(listener);
        for n in 0..requests {
            let asked_ms = 1200 + 1000 * u64::from(n);
            add(&mut world, request(State::Established, 40_000 + n, asked_ms, asked_ms + 3, 0));
        }
        let service = Endpoint::new("10.0.0.1".parse().unwrap(), 80);
        let counts = Counts { given_up, ..Counts::default() };
        let ends = vec![Ends::new(NETNS, service, true, counts)];
        world.now.traced = Some(TracedInterval { duration_ms: 2000, ends, ..TracedInterval::default() });
        world
    }

    /// A client that gave up `ago_ms` ago after 3 s, and that the program has not closed.
    fn left(client: u16, ago_ms: u64) -> Socket {
        let socket = request(State::CloseWait, client, ago_ms + 3000, ago_ms + 3003, 0);
        Socket { recv_q_bytes: 1, ..with_info(socket, &[("last_ack_recv_ms", ago_ms)]) }
    }

    fn told(world: &World) -> Option<(Severity, String, &'static str)> {
        let finding = world.check(check).findings.pop()?;
        Some((finding.severity, finding.summary, finding.causes.left[0].cause.id))
    }

    #[test]
    fn clients_that_give_up_what_was_read_and_never_answered_are_hurt() {
        let (severity, summary, cause) = told(&world(8, 3)).unwrap();
        assert_eq!((severity, cause), (Severity::High, "program-stuck"));
        assert_eq!(
            summary,
            "proxy (812) has read requests on 8 connections of 0.0.0.0:80 and not answered them, for up to 8.2 s; 3 \
             clients gave up, nobody was answered meanwhile"
        );
        let few = told(&world(8, 1)).unwrap();
        assert_eq!(few.0, Severity::Info, "one may have another reason");
        let mut unclosed = world(8, 0);
        for n in 0..3 {
            add(&mut unclosed, left(41_000 + n, 2000));
        }
        unclosed.now.traced = None;
        assert_eq!(told(&unclosed).unwrap().0, Severity::Warning);
        // Each gives up after 3 s, so that none waits for long, and none is closed.
        let mut leak = world(2, 0);
        for n in 0..20 {
            add(&mut leak, left(41_000 + n, 1000 * u64::from(n)));
        }
        let (severity, summary, _) = told(&leak).unwrap();
        assert_eq!(severity, Severity::High);
        assert_eq!(
            summary,
            "proxy (812) has read requests on 22 connections of 0.0.0.0:80 and not answered them, for up to 22 s; 20 \
             clients gave up, nobody was answered meanwhile"
        );
    }

    #[test]
    fn a_client_that_says_at_once_that_its_request_is_complete_may_wait() {
        let mut jobs = world(0, 0);
        for n in 0..5_u16 {
            let asked_ms = 1000 * u64::from(n) + 8000;
            let job = request(State::CloseWait, 41_000 + n, asked_ms, asked_ms + 3, 0);
            add(&mut jobs, with_info(job, &[("last_ack_recv_ms", asked_ms - 2), ("bytes_received", 5)]));
        }
        assert_eq!(told(&jobs).unwrap().0, Severity::Info);
    }

    #[test]
    fn without_clients_that_give_up_nobody_is_said_to_be_hurt() {
        let silent = |world: &World| assert_eq!(told(world), None);
        silent(&world(11, 0));
        let patient = told(&world(14, 0)).unwrap();
        assert_eq!((patient.0, patient.2), (Severity::Info, "long-request"), "three have waited for 10 s");
        assert!(patient.1.ends_with("for up to 14 s; nobody was answered meanwhile"), "{}", patient.1);
        let sessions = |segments: u64, asked_ms: u64| {
            let mut world = world(0, 0);
            for n in 0..3 {
                let socket = request(State::Established, 40_000 + n, asked_ms, asked_ms + 9000, 700);
                add(&mut world, with_info(socket, &[("data_segs_in", segments + 1), ("data_segs_out", segments)]));
            }
            told(&world).map(|t| t.0)
        };
        assert_eq!(sessions(3, 30_000), Some(Severity::Info), "sessions that all wait");
        assert_eq!((sessions(3, 29_000), sessions(1, 30_000)), (None, None));
        silent(&world(2, 9));
        silent(&world(4, 9));
        // Others are answered, and these wait for a moment only.
        let answered = |requests: u16, ago_ms: u32| {
            let mut world = world(requests, 9);
            world.add(time_wait("10.0.0.1:80", "10.0.0.8:5000", 60_000 - ago_ms));
            world
        };
        silent(&answered(8, 1000));
        assert_eq!(told(&answered(14, 1000)).unwrap().0, Severity::Warning, "three have waited for 10 s");
        assert_eq!(told(&answered(8, 9000)).unwrap().0, Severity::High, "before all of them");
        // Not read: another rule. Sends now and then: a protocol without answers. Long ago: nobody waits so long.
        let changed = |change: fn(&mut Socket)| {
            let mut world = world(8, 9);
            world.now.sockets.iter_mut().filter(|s| s.state != State::Listen).for_each(change);
            world
        };
        silent(&changed(|s| s.recv_q_bytes = 90));
        silent(&changed(|s| *s = with_info(s.clone(), &[("last_data_sent_ms", 90_000)])));
        silent(&changed(|s| {
            *s = with_info(s.clone(), &[("last_data_recv_ms", 700_000), ("last_data_sent_ms", 700_001)]);
        }));
        // A leak of long ago, and a client that left at once.
        for (client, ago_ms, asked_ms) in [(41_000, 90_000, 93_000), (42_000, 2000, 2500)] {
            let mut leak = world(8, 0);
            for n in 0..5 {
                add(&mut leak, with_info(left(client + n, ago_ms), &[("last_data_recv_ms", asked_ms)]));
            }
            silent(&leak);
        }
    }

    #[test]
    fn whoever_the_requests_were_passed_to_is_named() {
        let passed = |every: u16, later: u64| {
            let mut world = world(8, 3);
            for n in (0..8u16).step_by(usize::from(every)) {
                let asked_ms = 1200 + 1000 * u64::from(n) - later;
                let own = row(State::Established, &format!("10.0.0.1:{}", 50_000 + n), "10.0.0.7:8443");
                let fields = [
                    ("last_data_sent_ms", asked_ms),
                    ("last_data_recv_ms", asked_ms + 1),
                    ("bytes_sent", 517),
                    ("bytes_received", 0),
                ];
                add(&mut world, info(own, &fields));
            }
            world.check(check).findings.remove(0)
        };
        let named = passed(1, 2);
        assert!(named.causes.is("upstream"), "{:?}", named.causes);
        assert!(named.summary.ends_with("; it waits for an answer of 10.0.0.7:8443"), "{}", named.summary);
        assert!(named.remedy[0].starts_with("Look at 10.0.0.7:8443 first"), "{:?}", named.remedy);
        for (case, finding) in [("half of them", passed(2, 2)), ("at other times", passed(1, 190))] {
            let left: Vec<&str> = finding.causes.left.iter().map(|h| h.cause.id).collect();
            assert_eq!(left, ["program-stuck", "upstream", "long-request"], "{case}");
        }
        let mut itself = world(8, 3);
        for n in 0..8u16 {
            let asked_ms = 1200 + 1000 * u64::from(n);
            let fields = [("last_data_sent_ms", asked_ms), ("last_data_recv_ms", asked_ms + 3), ("bytes_sent", 90)];
            let caller = row(State::Established, &format!("10.0.0.9:{}", 40_000 + n), "10.0.0.1:80");
            add(&mut itself, info(caller, &fields));
        }
        let itself = itself.check(check).findings.remove(0);
        assert!(!itself.causes.is("upstream"), "the other ends are no service: {:?}", itself.causes);
        let alone = world(8, 3).check(check).findings.remove(0);
        assert!(alone.causes.ruled_out.iter().any(|(cause, _)| cause.id == "upstream"));
    }
}
