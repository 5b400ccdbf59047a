//! A service closes connections without an answer, or after one line: it crashes, refuses, or is at its limit.
//!
//! Input: how traced connections ended, by service, seen from either end. Output: a finding per service. Not here: resets in the
//! middle (`reset-source`), refused connects (`connect-failures`), and services that say nothing and do not close (`no-answer`).
//!
#![doc = include_str!("../../../docs/rules/closed-without-answer.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::at_once::AtOnce;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::listener_owner::Owner;
use crate::diagnose::measure::{Measure, Share};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::traced_program;
use crate::diagnose::view::View;
use crate::diagnose::{Outcome, callers, programs};
use crate::model::traced::{Connects, Counts, Program};
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
const BEHIND: &str = "Look at what {service} passes connections on to: connects of its program fail meanwhile";
const BY_HAND: &str = "Ask by hand, with what the clients send: the answer, or the line before the end, tells";

const TEXT: Text = Text {
    why: "A FIN is no error to TCP, so no counter moves and no errno tells; the client reads the end of the stream where it \
          expects an answer, and reports an empty reply or a lost connection.",
    remedy: &[LOG, CRASH, LIMIT, NOT_DUE, BEHIND, BY_HAND],
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
        text: "the service refuses these clients: their protocol (TLS, PROXY), their login, their address or their rate",
        predicts: "the same processes go on, and others are answered",
        refuted_by: "what is refused has worked until then",
        decided_by: "the service's log; the same request by hand",
    },
    Cause {
        id: "nothing-behind",
        text: "it only passes connections on, and what it passes them to takes none",
        predicts: "connects of the same program fail meanwhile",
        refuted_by: "no connect of it fails, or a line came back",
        decided_by: "connect-failures of its program; its log",
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
/// Beside so few it is told that new ones end as soon as they come (policy).
const FEW_BESIDE: u64 = 3;
/// A worker that waits for requests is older; a process that is started for one connection has closed the listener by then (policy).
const WORKER_MS: u64 = 100;
/// Protocols in which the client ends the session, and a server that ends it after a line has refused it: MySQL, PostgreSQL,
/// PgBouncer, Redis, memcached, MongoDB, AMQP, MQTT.
const SESSION_PORTS: [u16; 8] = [3306, 5432, 6432, 6379, 11_211, 27_017, 5672, 1883];
/// HTTP: who asks there is owed an answer, as in the protocols below.
const ANSWER_PORTS: [u16; 4] = [80, 443, 8080, 8443];
/// Protocols in which the server speaks first and the client ends the session: a server that closes before the client said anything
/// serves it not. FTP, SSH, SMTP, POP3, IMAP, submission, MySQL.
const GREETING_PORTS: [u16; 7] = [21, 22, 25, 110, 143, 587, 3306];
/// PostgreSQL and PgBouncer: a session begins with more bytes than an error has, and a client that has read an error often closes first.
const POSTGRES_PORTS: [u16; 2] = [5432, 6432];

fn check(view: &View<'_>) -> Outcome {
    let Some(traced) = &view.now.traced else { return Outcome::default() };
    let mut at_once = AtOnce::all(view, traced);
    at_once.retain(|_, it| it.count() >= SEVERAL);
    let several = || traced.ends.iter().filter(|e| e.counts.unanswered.max(brief(e.service, e.counts)) >= SEVERAL);
    let services = several().map(|e| e.service).chain(at_once.keys().map(|(_, service)| *service)).collect();
    let rows = Rows::of(view, &services);
    let mut stories: BTreeMap<(Option<NetnsId>, Endpoint), Story<'_>> = BTreeMap::new();
    for (place, at_once) in at_once {
        let served_here = at_once.served_here;
        stories.insert(place, Story { served_here, at_once, ..Story::of(view, place, &rows) });
    }
    for ends in &traced.ends {
        let service = ends.service;
        let place = if ends.served_here { (ends.netns, service) } else { callers::place(view, ends.netns, service) };
        if !stories.contains_key(&place) && ends.counts.unanswered.max(brief(service, ends.counts)) < SEVERAL {
            continue;
        }
        let story = stories.entry(place).or_insert_with(|| Story::of(view, place, &rows));
        // Both ends tell of the same connections.
        story.counts = most(story.counts, ends.counts);
        story.callers = if ends.callers.is_empty() { story.callers } else { &ends.callers };
        story.closers = if ends.closers.is_empty() { story.closers } else { &ends.closers };
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
    /// Those that each of its processes closed first.
    closers: &'a [(Program, Counts)],
    served_here: bool,
    /// A connection that is there, or was a moment ago, has got something of it.
    has_answered: bool,
    /// Who holds its listener, and did before where one of them did: a worker may be gone before it can be named.
    server: Option<&'a Process>,
    /// Other connections of the service that are open now.
    open: u64,
    /// Of these, connections on which nothing moved between the samples.
    unmoved: u64,
    /// Peers of those, if the service is here.
    unmoved_peers: FxHashSet<IpAddr>,
    /// New ones that it ended as soon as they came.
    at_once: AtOnce<'a>,
    /// How many connects of its program failed meanwhile; `None`: the program is not known.
    own_connects_failed: Option<u64>,
    /// Its limit, from its command line.
    limit: Option<u64>,
    /// The processes that hold its listener.
    holders: Vec<u32>,
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
        let unmoved: Vec<&Socket> = open.iter().copied().filter(|s| has_rested(view, s)).collect();
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
            closers: &[],
            has_answered: all.any(|s| has_answered(s)),
            served_here: false,
            holders: owner.as_ref().map(|owner| owner.holders.clone()).unwrap_or_default(),
            new_processes: owner.as_ref().and_then(|owner| new_processes(view, owner)),
            server,
            open: open.len() as u64,
            unmoved: unmoved.len() as u64,
            unmoved_peers: unmoved.iter().filter(|s| of_server(s)).map(|s| s.peer.addr.to_canonical()).collect(),
            at_once: AtOnce::default(),
            own_connects_failed: server.map(|server| connects_failed(view, netns, server)),
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
    fn shows_harm(&self) -> bool {
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

    /// Whether its port is one at which answers are due.
    fn is_due(&self) -> bool {
        ANSWER_PORTS.contains(&self.service.port) || self.is_session() || self.greets()
    }

    fn greets(&self) -> bool {
        GREETING_PORTS.contains(&self.service.port)
    }

    fn is_postgres(&self) -> bool {
        POSTGRES_PORTS.contains(&self.service.port)
    }

    fn is_session(&self) -> bool {
        SESSION_PORTS.contains(&self.service.port)
    }

    /// The process that closed nearly all of them, if it holds the listener.
    fn closer(&self, of: fn(&Counts) -> u64) -> Option<u32> {
        let (first, counts) = self.closers.iter().max_by_key(|(_, counts)| of(counts))?;
        let all = of(&self.counts);
        let is_known = all >= SEVERAL && of(counts) * 10 >= all * 9 && self.holders.contains(&first.pid);
        is_known.then_some(first.pid)
    }

    /// Whether its clients are turned away after a line: nearly all that end, beside many that stay. What they had asked was read,
    /// so that elsewhere such a line may be an answer, and the end what they asked for (QUIT).
    fn turns_away(&self) -> bool {
        (self.is_postgres() || self.at_limit())
            && self.brief() >= SEVERAL
            && self.percent(self.brief()) >= MOST_PERCENT
            && (self.at_limit() || self.limit.is_none() && self.unmoved >= BESIDE)
    }

    /// Whether clients that hold unused connections come for more: no rule of access keeps them out.
    fn knows_clients(&self) -> bool {
        self.at_once.peers.iter().any(|peer| self.unmoved_peers.contains(peer))
    }

    /// What the picture is, and how bad.
    fn kind(&self, view: &View<'_>) -> Option<(Severity, Kind)> {
        let silent = self.percent(self.counts.unanswered);
        let is_silent = self.counts.unanswered >= SEVERAL && silent >= view.thresholds.connect_failure_percent;
        let of_silent = match () {
            // A port alone shows that an answer may be due, and not that nobody wanted it so (`return 444`, a probe).
            () if !self.shows_harm() => Severity::Info,
            () if silent >= MOST_PERCENT => Severity::High,
            () => Severity::Warning,
        };
        let of_silent = is_silent.then_some(of_silent);
        let of_brief = if self.at_limit() { Severity::High } else { Severity::Warning };
        let of_brief = self.turns_away().then_some(of_brief);
        let kinds = [(of_silent, Kind::Silent), (of_brief, Kind::Brief), (self.ends_at_once(), Kind::AtOnce)];
        let known = kinds.into_iter().filter_map(|(severity, kind)| Some((severity?, kind)));
        known.reduce(|worst, next| if next.0 > worst.0 { next } else { worst })
    }

    /// How bad it is that new connections end as soon as they come.
    fn ends_at_once(&self) -> Option<Severity> {
        let (n, came) = (self.at_once.count(), self.at_once.came());
        let share = Share::of(n, came).map_or(0.0, Share::percent);
        if n < SEVERAL || share < MOST_PERCENT {
            return None;
        }
        let stay = self.unmoved >= FEW_BESIDE;
        match () {
            () if self.at_limit() => Some(Severity::High),
            () if self.at_once.called_here && (stay || self.greets()) => Some(Severity::Warning),
            () if stay && self.knows_clients() => Some(Severity::Warning),
            () if stay => Some(Severity::Info),
            () => None,
        }
    }

    fn causes(&self, kind: Kind) -> Weighed {
        let (line, at_once) = (kind == Kind::Brief, kind == Kind::AtOnce);
        Weighed::of(CAUSES, |cause| match cause.id {
            "own-limit" if self.at_limit() => Weight::Proven,
            "own-limit" if self.limit.is_some() => {
                let limit = self.limit.map_or_else(String::new, text::grouped);
                Weight::Refuted(format!("{} of {limit} are in use", text::grouped(self.open)))
            }
            "own-limit" => Weight::Possible(if kind == Kind::Silent { 0.25 } else { 0.6 }),
            "worker-dies" | "nothing-behind" if line => Weight::Refuted("a line came back".to_owned()),
            "worker-dies" => match self.new_processes {
                Some(0) => Weight::Refuted("the processes behind the listener are the same as before".to_owned()),
                Some(_) => Weight::Possible(2.0),
                None => Weight::Possible(if at_once { 0.15 } else { 0.4 }),
            },
            "nothing-behind" => match self.own_connects_failed {
                Some(0) => Weight::Refuted("no connect of its program failed meanwhile".to_owned()),
                Some(n) if n * 2 >= self.counts.unanswered => Weight::Possible(2.0),
                Some(_) => Weight::Possible(0.3),
                None => Weight::Possible(0.1),
            },
            "no-answer-due" if line => Weight::Refuted("a line came back".to_owned()),
            "no-answer-due" if at_once && self.at_once.by_reset() == 0 => {
                Weight::Refuted("it took nothing in".to_owned())
            }
            "no-answer-due" if self.answers() => Weight::Refuted("others got an answer".to_owned()),
            "no-answer-due" if self.is_due() => Weight::Possible(0.1),
            "no-answer-due" if self.shows_harm() => Weight::Possible(0.2),
            "no-answer-due" => Weight::Possible(1.0),
            "refuses" if at_once && self.knows_clients() => Weight::Possible(0.15),
            // Those who stay come from elsewhere.
            "refuses" if at_once && self.served_here && !self.at_once.called_here => Weight::Possible(0.7),
            "refuses" => Weight::Possible(0.3),
            _ if !line && self.brief() == 0 => Weight::Refuted("nothing came back".to_owned()),
            _ if kind == Kind::Silent => Weight::Refuted("nothing came back".to_owned()),
            _ if self.is_session() || self.greets() => {
                Weight::Refuted("the client ends a session of this protocol".to_owned())
            }
            _ if at_once => Weight::Possible(0.15),
            _ => Weight::Possible(0.5),
        })
    }
}

/// What the clients of a service meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not a byte came back.
    Silent,
    /// A line, and the end.
    Brief,
    /// The end before they had asked.
    AtOnce,
}

/// How many connects of a program failed meanwhile.
fn connects_failed(view: &View<'_>, netns: Option<NetnsId>, server: &Process) -> u64 {
    let connects = view.now.traced.iter().flat_map(|traced| &traced.connects);
    let own = connects.filter(|c| c.netns == netns && c.comm() == Some(server.comm.as_str()));
    own.map(Connects::failures).sum()
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

/// The headline.
fn summary(story: &Story<'_>, kind: Kind, who: &str, duration_ms: u64) -> String {
    let counts = story.counts;
    let span = text::duration(duration_ms);
    if kind == Kind::AtOnce {
        return summary_at_once(story, who, &span);
    }
    let of = of(kind);
    let hurt = story.hurt(of);
    let whole = hurt.filter(|(_, its)| of(its) == of(&counts));
    let of_whom = hurt.map_or_else(String::new, |(program, its)| match whole {
        Some(_) => format!(" of {}", traced_program::name(program)),
        // Who opened the others before the trace is not known.
        None => format!(", {} of them of {},", text::grouped(of(its)), traced_program::name(program)),
    });
    let all = whole.map_or(story.ended(), |(_, its)| ended(its));
    let ended = text::grouped(all);
    if kind == Kind::Brief {
        let beside = beside(story);
        let n = text::grouped(story.brief());
        return if story.brief() > counts.brief {
            format!(
                "{who} answered {n} of {ended} connections{of_whom} with a message and no session within {span}; {beside}"
            )
        } else {
            format!("{who} closed {n} of {ended} connections{of_whom} after a few bytes within {span}; {beside}")
        };
    }
    let new = match story.new_processes.filter(|n| *n > 0) {
        Some(n) => format!("; {} behind it began meanwhile", text::count(n, "process", "processes")),
        None => String::new(),
    };
    let others = match story.ended().saturating_sub(all) {
        0 => String::new(),
        n => format!("; {} of others got one", text::grouped(n)),
    };
    format!(
        "{who} closed {} of {ended} connections{of_whom} within {span} without a byte of an answer{others}{new}",
        text::grouped(counts.unanswered)
    )
}

fn summary_at_once(story: &Story<'_>, who: &str, span: &str) -> String {
    let at_once = &story.at_once;
    let of_whom = at_once.caller().map_or_else(String::new, |p| format!(" of {}", traced_program::name(p)));
    let resets = match at_once.by_reset() {
        0 => String::new(),
        n => format!(", {} of them by reset", text::grouped(n)),
    };
    format!(
        "{who} ended {} new connections{of_whom} within {span} as soon as they came, with a line at most{resets}; {}",
        text::of(at_once.count(), at_once.came()),
        beside(story)
    )
}

/// What stands open beside those that end.
fn beside(story: &Story<'_>) -> String {
    let open = text::grouped(story.open);
    match story.limit.filter(|_| story.at_limit()) {
        Some(limit) => format!("{open} of the {limit} that its command line permits are open"),
        None => format!("{open} others to it stand open, {} unused", text::grouped(story.unmoved)),
    }
}

/// Which ends are of a kind.
fn of(kind: Kind) -> fn(&Counts) -> u64 {
    match kind {
        Kind::Silent => |c| c.unanswered,
        Kind::Brief => |c| c.brief.max(c.message.unwrap_or(0)),
        Kind::AtOnce => |c| c.at_once.unwrap_or(0),
    }
}

fn finding(view: &View<'_>, story: &Story<'_>, duration_ms: u64) -> Option<Finding> {
    let (severity, kind) = story.kind(view)?;
    let service = story.service;
    let closer = story.closer(of(kind)).and_then(|pid| view.named(pid));
    let server = closer.or(story.server);
    let who = match server {
        Some(process) if closer.is_some() && story.closers.len() > 1 && story.holders.len() > 1 => {
            format!("{}, one of {} processes at {service},", text::name(process), story.holders.len())
        }
        Some(process) => format!("{} at {service}", text::name(process)),
        None => service.to_string(),
    };
    let causes = story.causes(kind);
    let steps = match causes.left.first().map(|h| h.cause.id) {
        Some("worker-dies") => [CRASH, LOG, BY_HAND],
        Some("own-limit") => [LIMIT, LOG, BY_HAND],
        Some("no-answer-due") => [NOT_DUE, BY_HAND, LOG],
        Some("nothing-behind") => [BEHIND, LOG, BY_HAND],
        _ => [LOG, BY_HAND, LIMIT],
    };
    let caller = match kind {
        Kind::AtOnce => story.at_once.caller(),
        _ => story.hurt(of(kind)).map(|(program, _)| program),
    };
    let subject = match server {
        Some(process) => Subject { listener: Some(service), ..view.subject_of(process, story.netns) },
        None => traced_program::caller(view, story.netns, service, caller),
    };
    let finding = RULE
        .finding(
            severity,
            if kind == Kind::Silent || story.at_limit() { 0.85 } else { 0.6 },
            summary(story, kind, &who, duration_ms),
        )
        .because("a trace saw each of them end, with its bytes and with who ended it first")
        .causes(causes)
        .lasting(Some(Measure::AtLeast(duration_ms)))
        .subject(subject)
        .steps(steps)
        .fill("service", service)
        .evidence("unanswered", Evidence::Count(story.counts.unanswered))
        .evidence("closed_after_a_line", Evidence::Count(story.brief()))
        .evidence("answered", Evidence::Count(story.counts.answered))
        .evidence("ended_at_once", Evidence::Count(story.at_once.count()))
        .evidence("at_once_by_reset", Evidence::Count(story.at_once.by_reset()))
        .evidence("open", Evidence::Count(story.open))
        .evidence("unused_meanwhile", Evidence::Count(story.unmoved))
        .evidence("connection_limit", Evidence::count(story.limit))
        .evidence("new_processes", Evidence::count(story.new_processes));
    let side = if story.served_here { format!("--local {service}") } else { format!("--peer {service}") };
    Some(finding.next(format!("tcpstate trace {side}")))
}

#[cfg(test)]
mod tests;
