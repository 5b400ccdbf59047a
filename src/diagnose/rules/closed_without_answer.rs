//! A service closes connections without an answer, or after one line: it crashes, refuses, or is at its limit.
//!
//! Input: how traced connections ended, by service, seen from either end. Output: a finding per service. Not here: resets
//! (`reset-source`), refused connects (`connect-failures`), and services that say nothing and do not close (`no-answer`).
//!
#![doc = include_str!("../../../docs/rules/closed-without-answer.md")]

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

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
    let several = || traced.ends.iter().filter(|e| e.counts.unanswered.max(brief(e.service, e.counts)) >= SEVERAL);
    let rows = Rows::of(view, &several().map(|e| e.service).collect());
    for ends in several() {
        let service = ends.service;
        let place = if ends.served_here { (ends.netns, service) } else { callers::place(view, ends.netns, service) };
        let story = stories.entry(place).or_insert_with(|| Story::of(view, place, &rows));
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

/// The rows at some services and of their clients, by address and port of the service, in both samples.
struct Rows<'a> {
    now: FxHashMap<Endpoint, Vec<&'a Socket>>,
    before: FxHashMap<Endpoint, Vec<&'a Socket>>,
}

impl<'a> Rows<'a> {
    fn of(view: &View<'a>, services: &FxHashSet<Endpoint>) -> Rows<'a> {
        let by_service = |rows: &'a [Socket]| {
            let mut found: FxHashMap<Endpoint, Vec<&'a Socket>> = FxHashMap::default();
            for socket in if services.is_empty() { &[] } else { rows } {
                let (local, peer) = (socket.local.normalised(), socket.peer.normalised());
                let ends = [Some(local), Some(peer).filter(|peer| *peer != local)];
                for end in ends.into_iter().flatten().filter(|end| services.contains(end)) {
                    found.entry(end).or_default().push(socket);
                }
            }
            found
        };
        let before = view.before.map_or(&[][..], |before| &before.sockets);
        Rows { now: by_service(&view.now.sockets), before: by_service(before) }
    }
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
    fn of(view: &View<'a>, place: (Option<NetnsId>, Endpoint), rows: &Rows<'a>) -> Story<'a> {
        let (netns, service) = place;
        let queue = callers::listening(view, netns, service);
        let owner = queue.and_then(|q| Owner::of(view, &q.listeners));
        let server = owner.as_ref().map(|owner| lasting(view, owner));
        let limit = server.and_then(|p| programs::connection_limit(&view.process(p.pid)?.cmdline));
        let of_server = |s: &Socket| s.netns == netns && s.local.normalised() == service;
        let calls = |s: &Socket| s.peer.normalised() == service && callers::place(view, s.netns, service) == place;
        // Each connection once, where both of its ends are seen.
        let of_client = |s: &Socket| calls(s) && view.mirror(s).is_none();
        let [now, before] = [&rows.now, &rows.before].map(|rows| rows.get(&service).map_or(&[][..], Vec::as_slice));
        let is_open = |s: &&&Socket| s.state == State::Established && (of_server(s) || of_client(s));
        let open: Vec<&Socket> = now.iter().filter(is_open).copied().collect();
        let mut all = now.iter().chain(before).filter(|s| s.state != State::Listen);
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
            has_answered: all.any(|s| has_answered(s)),
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
mod tests;
