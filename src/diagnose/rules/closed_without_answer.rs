//! A service closes connections without an answer, or after one line: it crashes, refuses, or is at its limit.
//!
//! Input: how traced connections ended, by service, seen from either end. Output: a finding per service. Not here: resets
//! (`reset-source`), refused connects (`connect-failures`), and services that say nothing and do not close (`no-answer`).
//!
#![doc = include_str!("../../../docs/rules/closed-without-answer.md")]

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::listener_owner::Owner;
use crate::diagnose::measure::{Measure, Share};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::view::View;
use crate::diagnose::{Outcome, callers, programs};
use crate::model::traced::{Counts, Program};
use crate::model::{Endpoint, NetnsId, Process, Socket, State, TcpInfo};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "closed-without-answer",
    Established,
    Two,
    "a service closes connections without an answer, or after one line",
    check,
    [TEXT]
)
.title("closed without an answer")
.identity(Identity::Place)
.causes(CAUSES)
.traced();

const LOG: &str = "Read the log of {service}: a crash, a kill, or a limit says its name there";
const CRASH: &str = "Find what ends the workers while they handle a request: core dumps, `dmesg` (out of memory, segfault), a limit \
                     on time or memory of the worker";
const LIMIT: &str = "Free what holds the connections of {service}: close what is not used, bound the pools of its clients, and give it \
                     an idle timeout; then, if the sum of the pools needs it, raise its limit on connections";
const NOT_DUE: &str = "If {service} only takes in what it is sent (a log, a metric, a trigger), nothing is wrong";
const BY_HAND: &str = "Ask by hand, with what the clients send: the answer, or the line before the end, tells";

const TEXT: Text = Text {
    why: "A FIN is no error to TCP, so no counter moves and no errno tells; the client reads the end of the stream where it \
          expects an answer, and reports an empty reply or a lost connection.",
    remedy: &[LOG, CRASH, LIMIT, NOT_DUE, BY_HAND],
    avoid: &[
        "Don't look for lost segments on the way: both FINs came through",
        "Don't retry without a pause: each attempt may cost the server another worker or connection",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "own-limit",
        text: "the service is at its own limit on connections, and turns away whoever comes",
        predicts: "the number of its other connections does not move, and new ones end at once",
        refuted_by: "a limit that is known and not reached",
        decided_by: "the service's log; its count of connections against its limit",
    },
    Cause {
        id: "worker-dies",
        text: "the process that serves the request ends while it handles it",
        predicts: "no byte comes back, and workers that share the listener are new",
        refuted_by: "the processes behind the listener are the same as before, or each of them serves one connection by design (inetd)",
        decided_by: "the pids behind the listener, a moment apart; `dmesg` and core dumps",
    },
    Cause {
        id: "refuses",
        text: "the service refuses what it is sent: another protocol (TLS, PROXY), a login, an address",
        predicts: "the same processes go on, and others are answered",
        refuted_by: "what is refused has worked until then",
        decided_by: "the service's log; the same request by hand",
    },
    Cause {
        id: "no-answer-due",
        text: "no answer is due: the service only takes in what it is sent (a log, a metric, a trigger)",
        predicts: "nobody has ever got a byte of it",
        refuted_by: "an answer of the same service to anybody, or workers that end",
        decided_by: "the protocol; its configuration; the same request by hand",
    },
    Cause {
        id: "short-answers",
        text: "its answers are this short, and it closes after each of them",
        predicts: "a few bytes came back each time",
        refuted_by: "nothing came back, or a protocol of sessions (a database) that the client ends",
        decided_by: "the same request by hand",
    },
];

/// Ends without an answer, or after a line, that make a pattern in an interval.
const SEVERAL: u64 = 3;
/// Half of what ends: whoever comes is hurt.
const MOST_PERCENT: f64 = 50.0;
/// Slots that a server keeps for its administrators (PostgreSQL: `superuser_reserved_connections`, 3).
const RESERVED: u64 = 3;
/// So many open connections beside those that end at once are worth a word (policy).
const BESIDE: u64 = 10;
/// A worker that waits for requests is older; a process that is started for one connection has closed the listener by then (policy).
const WORKER_MS: u64 = 100;
/// Protocols in which the client ends the session, and a server that ends it after a line has refused it: MySQL, PostgreSQL,
/// PgBouncer, Redis, memcached, MongoDB, AMQP, MQTT.
const SESSION_PORTS: [u16; 8] = [3306, 5432, 6432, 6379, 11_211, 27_017, 5672, 1883];
/// PostgreSQL and PgBouncer: a session begins with more bytes than an error has, and a client that has read an error often closes first.
const POSTGRES_PORTS: [u16; 2] = [5432, 6432];

fn check(view: &View<'_>) -> Outcome {
    let Some(traced) = &view.now.traced else { return Outcome::default() };
    let mut stories: BTreeMap<(Option<NetnsId>, Endpoint), Story<'_>> = BTreeMap::new();
    for ends in traced.ends.iter().filter(|e| e.counts.unanswered.max(brief(e.service, e.counts)) >= SEVERAL) {
        let service = ends.service;
        let place = if ends.served_here { (ends.netns, service) } else { callers::place(view, ends.netns, service) };
        let story = stories.entry(place).or_insert_with(|| Story::of(view, place));
        // Both ends tell of the same connections.
        story.counts = most(story.counts, ends.counts);
        story.callers = if ends.callers.is_empty() { story.callers } else { &ends.callers };
        story.served_here |= ends.served_here;
    }
    let duration_ms = traced.duration_ms;
    Outcome::findings(stories.values().filter_map(|story| finding(view, story, duration_ms)).collect())
}

/// How many ended after a line that may say why.
fn brief(service: Endpoint, counts: Counts) -> u64 {
    if POSTGRES_PORTS.contains(&service.port) { counts.message.unwrap_or(0).max(counts.brief) } else { counts.brief }
}

fn ended(counts: &Counts) -> u64 {
    counts.answered + counts.unanswered + counts.given_up
}

fn most(a: Counts, b: Counts) -> Counts {
    if b.answered + b.unanswered > a.answered + a.unanswered { b } else { a }
}

/// How connections of one service ended, and what stands beside them.
struct Story<'a> {
    /// Of the service, where that is known.
    netns: Option<NetnsId>,
    service: Endpoint,
    counts: Counts,
    /// Those of each program that called, as far as they are known.
    callers: &'a [(Program, Counts)],
    served_here: bool,
    /// A connection that is there, or was a moment ago, has got something of it.
    has_answered: bool,
    /// Who holds its listener, and did before where one of them did: a worker may be gone before it can be named.
    server: Option<&'a Process>,
    /// Other connections of the service that are open now.
    open: u64,
    /// Of these, connections on which nothing moved between the samples.
    unmoved: u64,
    /// Its limit, from its command line.
    limit: Option<u64>,
    /// Workers that hold its listener now and did not before; `None`: not known.
    new_processes: Option<u64>,
}

impl<'a> Story<'a> {
    fn of(view: &View<'a>, place: (Option<NetnsId>, Endpoint)) -> Story<'a> {
        let (netns, service) = place;
        let queue = callers::listening(view, netns, service);
        let owner = queue.and_then(|q| Owner::of(view, &q.listeners));
        let server = owner.as_ref().map(|owner| lasting(view, owner));
        let limit = server.and_then(|p| programs::connection_limit(&view.process(p.pid)?.cmdline));
        let of_server = |s: &Socket| s.netns == netns && s.local.normalised() == service;
        let calls = |s: &Socket| s.peer.normalised() == service && callers::place(view, s.netns, service) == place;
        // Each connection once, where both of its ends are seen.
        let of_client = |s: &Socket| calls(s) && view.mirror(s).is_none();
        let open: Vec<&Socket> = view
            .now
            .sockets
            .iter()
            .filter(|s| s.state == State::Established && (of_server(s) || of_client(s)))
            .collect();
        let all = view.now.sockets.iter().chain(view.before.into_iter().flat_map(|before| &before.sockets));
        let has_answered = |s: &Socket| {
            let info = s.info.as_deref();
            match s.state {
                _ if of_server(s) => info.and_then(TcpInfo::bytes_sent).is_some_and(|n| n > 0),
                _ if !calls(s) => false,
                // What the peer's FIN adds is no answer.
                State::Established => info.and_then(TcpInfo::bytes_received).is_some_and(|n| n > 0),
                _ => info.and_then(TcpInfo::bytes_received).is_some_and(|n| n > 1),
            }
        };
        Story {
            netns,
            service,
            counts: Counts::default(),
            callers: &[],
            has_answered: all.filter(|s| s.state != State::Listen).any(has_answered),
            served_here: false,
            new_processes: owner.as_ref().and_then(|owner| new_processes(view, owner)),
            server,
            open: open.len() as u64,
            unmoved: open.iter().filter(|s| has_rested(view, s)).count() as u64,
            limit,
        }
    }

    fn ended(&self) -> u64 {
        ended(&self.counts)
    }

    /// Percent of all ends.
    fn percent(&self, n: u64) -> f64 {
        Share::of(n, self.ended().max(n)).map_or(0.0, Share::percent)
    }

    fn at_limit(&self) -> bool {
        self.limit.is_some_and(|limit| self.open + RESERVED >= limit)
    }

    /// Whether something shows that it answers when it is well: somebody was answered, or the workers that serve it end. What
    /// only takes data in (a log, a metric) closes without a word by design.
    fn owes_answers(&self) -> bool {
        self.answers() || self.new_processes.is_some_and(|n| n > 0) || self.at_limit()
    }

    fn answers(&self) -> bool {
        self.counts.answered > 0 || self.has_answered
    }

    /// The only program that is known to be hurt, if most of these connections were its, with its counts.
    fn hurt(&self, of: fn(&Counts) -> u64) -> Option<&(Program, Counts)> {
        let mut hurt = self.callers.iter().filter(|(_, counts)| of(counts) > 0);
        let first = hurt.next()?;
        (hurt.next().is_none() && of(&first.1) * 2 > of(&self.counts)).then_some(first)
    }

    fn brief(&self) -> u64 {
        brief(self.service, self.counts)
    }

    fn is_session(&self) -> bool {
        SESSION_PORTS.contains(&self.service.port)
    }

    /// Whether its clients are turned away after a line: nearly all that end, beside many that stay.
    fn turns_away(&self) -> bool {
        self.brief() >= SEVERAL
            && self.percent(self.brief()) >= MOST_PERCENT
            && (self.at_limit() || self.limit.is_none() && self.unmoved >= BESIDE)
    }

    fn causes(&self, brief: bool) -> Weighed {
        Weighed::of(CAUSES, |cause| match cause.id {
            "own-limit" if self.at_limit() => Weight::Proven,
            "own-limit" if self.limit.is_some() => {
                let limit = self.limit.map_or_else(String::new, text::grouped);
                Weight::Refuted(format!("{} of {limit} are in use", text::grouped(self.open)))
            }
            "own-limit" => Weight::Possible(if brief { 0.6 } else { 0.25 }),
            "worker-dies" if brief => Weight::Refuted("a line came back".to_owned()),
            "worker-dies" => match self.new_processes {
                Some(0) => Weight::Refuted("the processes behind the listener are the same as before".to_owned()),
                Some(_) => Weight::Possible(2.0),
                None => Weight::Possible(0.4),
            },
            "no-answer-due" if brief => Weight::Refuted("a line came back".to_owned()),
            "no-answer-due" if self.answers() => Weight::Refuted("others got an answer".to_owned()),
            "no-answer-due" if self.owes_answers() => Weight::Possible(0.2),
            "no-answer-due" => Weight::Possible(1.0),
            "refuses" => Weight::Possible(0.3),
            _ if !brief => Weight::Refuted("nothing came back".to_owned()),
            _ if self.is_session() => Weight::Refuted("the client ends a session of this protocol".to_owned()),
            _ => Weight::Possible(0.5),
        })
    }
}

/// Nothing was sent or received since the sample before.
fn has_rested(view: &View<'_>, socket: &Socket) -> bool {
    let grown = |field: fn(&TcpInfo) -> Option<u64>| view.grown(socket, field);
    grown(TcpInfo::bytes_sent) == Some(0) && grown(TcpInfo::bytes_received) == Some(0)
}

/// The process of an owner that has lasted: a master that starts workers.
fn lasting<'a>(view: &View<'a>, owner: &Owner<'a>) -> &'a Process {
    let known = |pid: &&u32| view.before.is_some_and(|before| before.owners.processes.iter().any(|p| p.pid == **pid));
    let lasting = owner.holders.iter().find(known).and_then(|pid| view.named(*pid));
    lasting.unwrap_or(owner.process)
}

/// Of the workers that share a listener those that held no socket in the sample before. A process that is gone by now, or that
/// has only just begun, has inherited the listener on its way to the one connection that it serves (inetd); and where nobody has
/// stayed, each process brings a listener of its own (nc in a loop).
fn new_processes(view: &View<'_>, owner: &Owner<'_>) -> Option<u64> {
    let before = &view.before?.owners;
    if !before.collected {
        return None;
    }
    let known: FxHashSet<u32> = before.processes.iter().map(|p| p.pid).collect();
    let has_waited = |pid: u32| view.process(pid).and_then(|p| p.running_ms).is_some_and(|ms| ms >= WORKER_MS);
    let (stayed, new): (Vec<u32>, Vec<u32>) = owner.holders.iter().partition(|pid| known.contains(*pid));
    Some(if stayed.is_empty() { 0 } else { new.into_iter().filter(|pid| has_waited(*pid)).count() as u64 })
}

fn finding(view: &View<'_>, story: &Story<'_>, duration_ms: u64) -> Option<Finding> {
    let counts = story.counts;
    let silent = story.percent(counts.unanswered);
    let is_silent = counts.unanswered >= SEVERAL && silent >= view.thresholds.connect_failure_percent;
    let brief = !is_silent && story.turns_away();
    let severity = match (is_silent, story.at_limit(), story.is_session()) {
        (true, ..) if !story.owes_answers() => Severity::Info,
        (true, ..) if silent >= MOST_PERCENT => Severity::High,
        (true, ..) => Severity::Warning,
        (false, true, _) if brief => Severity::High,
        (false, false, true) if brief => Severity::Warning,
        (false, false, false) if brief => Severity::Info,
        _ => return None,
    };
    let service = story.service;
    let who = match story.server {
        Some(process) => format!("{} at {service}", text::name(process)),
        None => service.to_string(),
    };
    let of: fn(&Counts) -> u64 = if brief { |c| c.brief.max(c.message.unwrap_or(0)) } else { |c| c.unanswered };
    let hurt = story.hurt(of);
    let whole = hurt.filter(|(_, its)| of(its) == of(&counts));
    let of_whom = hurt.map_or_else(String::new, |(program, its)| match whole {
        Some(_) => format!(" of {}", traced_program::name(program)),
        // Who opened the others before the trace is not known.
        None => format!(", {} of them of {},", text::grouped(of(its)), traced_program::name(program)),
    });
    let span = text::duration(duration_ms);
    let all = whole.map_or(story.ended(), |(_, its)| ended(its));
    let others = story.ended().saturating_sub(all);
    let ended = text::grouped(all);
    let summary = if brief {
        let beside = match story.limit.filter(|_| story.at_limit()) {
            Some(limit) => {
                format!("{} of the {limit} that its command line permits are open", text::grouped(story.open))
            }
            None => format!(
                "{} others to it stand open, {} unused",
                text::grouped(story.open),
                text::grouped(story.unmoved)
            ),
        };
        let n = text::grouped(story.brief());
        if story.brief() > counts.brief {
            format!(
                "{who} answered {n} of {ended} connections{of_whom} with a message and no session within {span}; {beside}"
            )
        } else {
            format!("{who} closed {n} of {ended} connections{of_whom} after a few bytes within {span}; {beside}")
        }
    } else {
        let new = match story.new_processes.filter(|n| *n > 0) {
            Some(n) => format!("; {} behind it began meanwhile", text::count(n, "process", "processes")),
            None => String::new(),
        };
        let beside = match others {
            0 => String::new(),
            n => format!("; {} of others got one", text::grouped(n)),
        };
        format!(
            "{who} closed {} of {ended} connections{of_whom} within {span} without a byte of an answer{beside}{new}",
            text::grouped(counts.unanswered)
        )
    };
    let causes = story.causes(brief);
    let steps = match causes.left.first().map(|h| h.cause.id) {
        Some("worker-dies") => [CRASH, LOG, BY_HAND],
        Some("own-limit") => [LIMIT, LOG, BY_HAND],
        Some("no-answer-due") => [NOT_DUE, BY_HAND, LOG],
        _ => [LOG, BY_HAND, LIMIT],
    };
    let subject = match story.server {
        Some(process) => Subject { listener: Some(service), ..view.subject_of(process, story.netns) },
        None => traced_program::caller(view, story.netns, service, hurt.map(|(program, _)| program)),
    };
    let finding = RULE
        .finding(severity, if brief && !story.at_limit() { 0.6 } else { 0.85 }, summary)
        .because("a trace saw each of them end, with its bytes and with who sent the first FIN")
        .causes(causes)
        .lasting(Some(Measure::AtLeast(duration_ms)))
        .subject(subject)
        .steps(steps)
        .fill("service", service)
        .evidence("unanswered", Evidence::Count(counts.unanswered))
        .evidence("closed_after_a_line", Evidence::Count(story.brief()))
        .evidence("answered", Evidence::Count(counts.answered))
        .evidence("open", Evidence::Count(story.open))
        .evidence("unused_meanwhile", Evidence::Count(story.unmoved))
        .evidence("connection_limit", Evidence::count(story.limit))
        .evidence("new_processes", Evidence::count(story.new_processes));
    let side = if story.served_here { format!("--local {service}") } else { format!("--peer {service}") };
    Some(finding.next(format!("tcpstate trace {side}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, listen, row};
    use crate::model::snapshot::Netns;
    use crate::model::traced::{Ends, TracedInterval};

    fn at(port: u16) -> Endpoint {
        Endpoint::new("10.0.0.1".parse().unwrap(), port)
    }

    /// A server with so many idle connections, two samples, and how others ended meanwhile.
    fn server(port: u16, cmdline: &str, idle: u16, counts: Counts) -> World {
        let mut world = World::new();
        let listener = listen(&format!("10.0.0.1:{port}"), 0, 128);
        world.hold(7, "app", 3, listener.inode).add(listener);
        for n in 0..idle {
            let socket = row(State::Established, &format!("10.0.0.1:{port}"), &format!("10.0.0.9:{}", 40_000 + n));
            let socket = info(socket, &[("bytes_sent", 90), ("bytes_received", 90)]);
            world.hold(7, "app", 4 + u32::from(n), socket.inode).add(socket);
        }
        let facts = world.now.processes.get_mut(&7).unwrap();
        facts.cmdline = cmdline.split(' ').map(str::to_owned).collect();
        world.later(2000);
        ended(&mut world, at(port), true, counts);
        world
    }

    fn ended(world: &mut World, service: Endpoint, served_here: bool, counts: Counts) {
        let ends = vec![Ends::new(NETNS, service, served_here, counts)];
        world.now.traced = Some(TracedInterval { duration_ms: 2000, ends, ..TracedInterval::default() });
    }

    fn first(finding: &Finding) -> &str {
        finding.causes.left[0].cause.id
    }

    const CRASHES: Counts = Counts { answered: 0, given_up: 0, unanswered: 6, brief: 0, message: Some(0) };
    const TURNED_AWAY: Counts = Counts { answered: 6, given_up: 0, unanswered: 0, brief: 6, message: Some(6) };

    #[test]
    fn a_worker_that_dies_at_each_request_is_told_by_its_new_processes() {
        let mut world = server(8000, "gunicorn", 0, CRASHES);
        let same = world.check(check).findings.remove(0);
        assert_eq!(same.severity, Severity::Info, "it may only take data in");
        assert!(same.causes.ruled_out.iter().any(|(cause, _)| cause.id == "worker-dies"), "{same:#?}");
        assert_eq!(first(&same), "no-answer-due");
        let listener = world.now.sockets[0].inode;
        world.hold(9, "app", 3, listener);
        let started = world.check(check).findings.remove(0);
        assert_eq!(started.severity, Severity::Info, "one for a connection, as inetd starts it");
        world.now.processes.get_mut(&9).unwrap().running_ms = Some(100);
        let finding = world.check(check).findings.remove(0);
        assert_eq!((first(&finding), finding.subject.listener), ("worker-dies", Some(at(8000))));
        assert_eq!(finding.severity, Severity::High);
        assert!(
            finding.summary.contains("closed 6 of 6 connections within 2.0 s without a byte"),
            "{}",
            finding.summary
        );
        assert!(finding.summary.ends_with("; 1 process behind it began meanwhile"), "{}", finding.summary);
        assert!(finding.remedy[0].starts_with("Find what ends the workers"));
    }

    #[test]
    fn only_the_connections_of_the_program_that_got_nothing_are_told_to_be_its() {
        let program = |pid, comm: &str| Program { pid, comm: comm.into(), processes: 1 };
        let (none, served) =
            (Counts { unanswered: 20, ..Counts::default() }, Counts { answered: 23, ..Counts::default() });
        let mut world = World::new();
        world.later(2000);
        ended(&mut world, at(80), false, Counts { answered: 23, unanswered: 20, ..Counts::default() });
        let ends = &mut world.now.traced.as_mut().unwrap().ends[0];
        ends.callers = vec![(program(7, "batchd"), none), (program(9, "curl"), served)];
        let finding = world.check(check).findings.remove(0);
        assert_eq!(
            finding.summary,
            "10.0.0.1:80 closed 20 of 20 connections of batchd (7) within 2.0 s without a byte of an answer; 23 of others got one"
        );
        assert_eq!(finding.severity, Severity::Warning);
        world.now.traced.as_mut().unwrap().ends[0].callers[1].1.unanswered = 1;
        let both = world.check(check).findings.remove(0);
        assert!(both.summary.starts_with("10.0.0.1:80 closed 20 of 43 connections within"), "{}", both.summary);
        // One of them began before the trace.
        world.now.traced.as_mut().unwrap().ends[0].callers =
            vec![(program(7, "batchd"), Counts { unanswered: 19, ..none })];
        let most = world.check(check).findings.remove(0);
        let told = "10.0.0.1:80 closed 20 of 43 connections, 19 of them of batchd (7), within";
        assert!(most.summary.starts_with(told), "{}", most.summary);
        assert_eq!(most.subject.comm.as_deref(), Some("batchd"));
    }

    #[test]
    fn an_answer_to_anybody_shows_that_answers_are_due_and_without_one_nothing_is_wrong() {
        let found = |got: u64| {
            let mut world = World::new();
            let socket = row(State::Established, "10.0.0.9:40000", "10.0.0.1:8000");
            world.add(info(socket, &[("bytes_sent", 90), ("bytes_received", got)])).later(2000);
            ended(&mut world, at(8000), false, CRASHES);
            world.check(check).findings.remove(0)
        };
        let (silent, answers) = (found(0), found(1));
        assert_eq!((silent.severity, first(&silent)), (Severity::Info, "no-answer-due"));
        assert!(silent.remedy[0].starts_with("If 10.0.0.1:8000 only takes in"), "{:?}", silent.remedy);
        assert_eq!(answers.severity, Severity::High);
        assert!(answers.causes.ruled_out.iter().any(|(cause, _)| cause.id == "no-answer-due"));
    }

    #[test]
    fn the_same_loopback_port_of_another_namespace_is_another_service() {
        let found = |netns| {
            let mut world = World::new();
            world.now.netns.push(Netns { inode: NetnsId::new(2), ..Netns::default() });
            let client = row(State::Established, "127.0.0.1:40000", "127.0.0.1:8000");
            let client = info(client, &[("bytes_sent", 90), ("bytes_received", 90)]);
            world.add(Socket { netns, ..client }).later(2000);
            ended(&mut world, Endpoint::new([127, 0, 0, 1].into(), 8000), false, CRASHES);
            world.check(check).findings.remove(0)
        };
        let (same, other) = (found(NETNS), found(NetnsId::new(2)));
        let open = |f: &Finding| f.evidence.iter().find(|(name, _)| *name == "open").map(|(_, value)| value.clone());
        assert_eq!((same.severity, open(&same)), (Severity::High, Some(Evidence::Count(1))));
        assert_eq!(
            (other.severity, open(&other)),
            (Severity::Info, Some(Evidence::Count(0))),
            "nobody else was answered"
        );
    }

    #[test]
    fn a_few_or_a_small_part_without_an_answer_are_silent() {
        let severity = |counts| server(8000, "app", 0, counts).check(check).findings.first().map(|f| f.severity);
        assert_eq!(severity(Counts { unanswered: 2, ..CRASHES }), None);
        assert_eq!(severity(Counts { answered: 54, ..CRASHES }), Some(Severity::Warning));
        assert_eq!(severity(Counts { answered: 55, ..CRASHES }), None, "under a tenth");
        assert_eq!(severity(Counts { answered: 6, ..CRASHES }), Some(Severity::High));
    }

    #[test]
    fn a_server_at_the_limit_of_its_command_line_turns_its_clients_away() {
        let cmdline = "postgres -c max_connections=30";
        let finding = server(5432, cmdline, 29, TURNED_AWAY).check(check).findings.remove(0);
        assert_eq!(finding.severity, Severity::High);
        assert!(finding.causes.is("own-limit"), "{:?}", finding.causes);
        assert!(
            finding.summary.ends_with("29 of the 30 that its command line permits are open"),
            "{}",
            finding.summary
        );
        assert!(server(5432, cmdline, 26, TURNED_AWAY).check(check).findings.is_empty(), "not reached");
        let served = Counts { answered: 13, ..TURNED_AWAY };
        assert!(server(5432, cmdline, 29, served).check(check).findings.is_empty(), "most sessions work");
    }

    #[test]
    fn seen_from_a_client_a_database_that_closes_after_a_line_beside_unused_connections_is_a_warning() {
        let found = |port: u16, idle: u16| {
            let mut world = World::new();
            for n in 0..idle {
                let socket = row(State::Established, &format!("10.0.0.9:{}", 40_000 + n), &format!("10.0.0.1:{port}"));
                let socket = info(socket, &[("bytes_sent", 90), ("bytes_received", 90)]);
                world.hold(812, "api", 4 + u32::from(n), socket.inode).add(socket);
            }
            world.later(2000);
            ended(&mut world, at(port), false, TURNED_AWAY);
            let api = Program { pid: 812, comm: "api".into(), processes: 1 };
            world.now.traced.as_mut().unwrap().ends[0].callers = vec![(api, TURNED_AWAY)];
            world.check(check).findings
        };
        let finding = &found(5432, 29)[0];
        assert_eq!((finding.severity, first(finding)), (Severity::Warning, "own-limit"));
        assert_eq!(
            finding.summary,
            "10.0.0.1:5432 closed 6 of 6 connections of api (812) after a few bytes within 2.0 s; 29 others to it stand \
             open, 29 unused"
        );
        assert_eq!(found(80, 29)[0].severity, Severity::Info, "HTTP closes after short answers too");
        assert!(found(5432, 9).is_empty());
    }

    #[test]
    fn a_client_that_closes_first_after_an_error_of_postgres_was_turned_away_too() {
        let closes_first = |port, message| {
            let counts = Counts { answered: 6, brief: 1, message: Some(message), ..Counts::default() };
            server(port, "postgres -c max_connections=30", 29, counts).check(check).findings
        };
        let found = closes_first(5432, 6);
        assert_eq!(found[0].severity, Severity::High, "{found:#?}");
        assert!(found[0].summary.contains("answered 6 of 6 connections with a message and no session"), "{found:#?}");
        assert!(closes_first(5432, 2).is_empty(), "sessions of usual length");
        assert!(closes_first(6379, 6).is_empty(), "a client that asks for one value ends its session itself");
    }
}
