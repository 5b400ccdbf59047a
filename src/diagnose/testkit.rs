//! Snapshots made by hand, for the unit tests of rules.
//!
//! Comes in: rows in a few words. Goes out: a snapshot, or a pair. Never here: anything the product uses.

use std::net::SocketAddr;

use crate::diagnose::accepting::STEPS;
use crate::diagnose::listener_owner::FIRST_AID;
use crate::diagnose::thresholds::Thresholds;
use crate::diagnose::view::View;
use crate::diagnose::{Diagnosis, Evidence, Finding, Outcome, RULES};
use crate::model::counter::Counter;
use crate::model::snapshot::{Netns, ProcessFacts, Snapshot};
use crate::model::sysctl::Sysctl;
use crate::model::{
    Endpoint, Family, Holder, Inode, NetnsId, OwnerTable, Process, RowKind, Socket, State, StateSet, TcpInfo, Timer,
    TimerKind,
};
use crate::render::tui::finding_tests::enter_lists_its_sockets;

/// The namespace of every row that says nothing else.
pub(crate) const NETNS: Option<NetnsId> = NetnsId::new(1);

/// A snapshot pair under construction.
pub(crate) struct World {
    pub(crate) now: Snapshot,
    pub(crate) before: Option<Snapshot>,
    pub(crate) thresholds: Thresholds,
    processes: Vec<Process>,
    holders: Vec<Holder>,
}

impl World {
    /// An empty host: default port range, no counters.
    pub(crate) fn new() -> World {
        let now = Snapshot {
            monotonic_ms: 1_000_000,
            netns: vec![Netns { inode: NETNS, ..Netns::default() }],
            ..Snapshot::default()
        };
        World { now, before: None, thresholds: Thresholds::default(), processes: Vec::new(), holders: Vec::new() }
    }

    /// Adds a row; a held row is one with an inode.
    pub(crate) fn add(&mut self, socket: Socket) -> &mut World {
        self.now.sockets.push(socket);
        self
    }

    /// A process that holds the socket with this inode as this descriptor.
    pub(crate) fn hold(&mut self, pid: u32, comm: &str, fd: u32, inode: impl IntoInode) -> &mut World {
        let at = self.processes.iter().position(|p| p.pid == pid).unwrap_or_else(|| {
            self.processes.push(Process { pid, comm: comm.into(), uid: Some(1000), ..Process::default() });
            self.now.processes.insert(
                pid,
                ProcessFacts {
                    pid,
                    state: Some('S'),
                    fd_used: Some(20),
                    fd_soft: Some(1024),
                    netns: NETNS,
                    ..ProcessFacts::default()
                },
            );
            self.processes.len() - 1
        });
        self.holders.push(Holder { inode: inode.into_inode(), process: u32::try_from(at).unwrap(), fd });
        self.now.owners = OwnerTable::new(self.processes.clone(), self.holders.clone(), 0);
        self
    }

    pub(crate) fn sysctl(&mut self, sysctl: Sysctl, values: &[u64]) -> &mut World {
        self.now.netns[0].sysctls.insert(sysctl, values.to_vec());
        self
    }

    pub(crate) fn counter(&mut self, counter: Counter, value: u64) -> &mut World {
        self.now.netns[0].counters.insert(counter, value);
        self
    }

    /// Takes the present as the snapshot before, `ms` earlier, and goes on from there.
    pub(crate) fn later(&mut self, ms: u64) -> &mut World {
        self.before = Some(self.now.clone());
        self.now.monotonic_ms += ms;
        self
    }

    /// Runs one rule.
    pub(crate) fn check(&self, rule: fn(&View<'_>) -> Outcome) -> Outcome {
        let outcome = rule(&View::new(&self.now, self.before.as_ref(), &self.thresholds));
        outcome.findings.iter().for_each(uses_its_text);
        outcome.findings.iter().for_each(|f| has_its_sockets(f, &self.now));
        outcome.findings.iter().for_each(|f| enter_lists_its_sockets(f, &self.now));
        outcome
    }

    /// Runs all rules.
    pub(crate) fn diagnose(&self) -> Diagnosis {
        crate::diagnose::run(&View::new(&self.now, self.before.as_ref(), &self.thresholds), None)
    }
}

/// What a finding advises is what the texts of its rule say, with every hole filled.
fn uses_its_text(finding: &Finding) {
    let rule = RULES.iter().find(|r| r.id == finding.rule).unwrap();
    let fits = |templates: Vec<&str>, line: &str| {
        let found = templates.iter().any(|t| is_filled(t, line));
        assert!(found, "{}: no text says: {line}", finding.rule);
    };
    fits(rule.texts.iter().map(|t| t.why).collect(), &finding.why);
    for step in &finding.remedy {
        fits(rule.texts.iter().flat_map(|t| t.remedy).chain(&FIRST_AID).chain(&STEPS).copied().collect(), step);
    }
    for line in &finding.avoid {
        fits(rule.texts.iter().flat_map(|t| t.avoid).copied().collect(), line);
    }
}

/// Kinds about what no table has: counters, descriptors of dead sockets, connections of others, or what has ended.
const WITHOUT_SOCKETS: [&str; 9] = [
    "abort-storm",
    "closed-socket-fd-leak",
    "closed-without-answer",
    "conntrack-pressure",
    "nat-port-exhaustion",
    "reset-source",
    "reverse-path-filter",
    "tcp-memory-pressure",
    "timewait-syn-rejects",
];
/// Kinds of which some findings are about a setting, a limit of the host, or a counter alone.
const SOME_WITHOUT: [&str; 9] = [
    "connect-failures",
    "fd-exhaustion",
    "late-connects",
    "lossy-destination",
    "neighbour-failure",
    "orphan-limit",
    "rcvbuf-pruning",
    "sysctl-hazard",
    "time-wait-bucket-overflow",
];

/// The sockets of a finding are rows of the snapshot, at least as many as it says, in the states of its rule; in a queue
/// stand others beside the listener, a table is full of FIN_WAIT2 too, and what is inherited may be open.
fn has_its_sockets(finding: &Finding, now: &Snapshot) {
    let rule = RULES.iter().find(|r| r.id == finding.rule).unwrap();
    let of: Vec<&Socket> = now.sockets.iter().filter(|s| finding.sockets.contains(s)).collect();
    assert!(of.len() >= finding.sockets.len(), "{}: rows of the snapshot", finding.rule);
    if WITHOUT_SOCKETS.contains(&finding.rule) || SOME_WITHOUT.contains(&finding.rule) && of.is_empty() {
        assert!(of.is_empty(), "{}", finding.rule);
        return;
    }
    assert!(!of.is_empty(), "{} names no socket: {}", finding.rule, finding.summary);
    let says = finding.evidence.iter().find(|(name, _)| *name == "count");
    if let Some((_, Evidence::Count(n))) = says {
        assert!(of.len() as u64 >= *n, "{}: {} of {n}", finding.rule, of.len());
    }
    let queue = rule.states.contains(State::Listen) || rule.id == "time-wait-bucket-overflow";
    let may_be_open = rule.id == "close-wait-inherited-fd";
    let any = rule.states == StateSet::EMPTY || may_be_open;
    let fits = |s: &&Socket| any || rule.states.contains(s.state);
    assert!(if queue { of.iter().any(fits) } else { of.iter().all(fits) }, "{}: {:?}", finding.rule, rule.states);
}

/// Whether a line is this template with something in each of its holes.
fn is_filled(template: &str, line: &str) -> bool {
    let Some((head, tail)) = template.split_once('{') else { return template == line };
    let (_, tail) = tail.split_once('}').unwrap();
    let Some(rest) = line.strip_prefix(head) else { return false };
    !line.contains('{') && (1..=rest.len()).any(|at| rest.is_char_boundary(at) && is_filled(tail, &rest[at..]))
}

/// A held full socket; inode and cookie come from the ports, so that they are the same in a later snapshot.
pub(crate) fn row(state: State, local: &str, peer: &str) -> Socket {
    let endpoint = |text: &str| {
        let at: SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    };
    let (local, peer) = (endpoint(local), endpoint(peer));
    let id = u64::from(local.port) << 16 | u64::from(peer.port);
    Socket {
        netns: NETNS,
        family: Family::of(local.addr),
        state,
        kind: RowKind::Full,
        local,
        peer,
        ifindex: Some(0),
        cookie: Some(id),
        send_q_bytes: Some(0),
        uid: Some(1000),
        inode: Inode::new(id),
        shutdown: Some(u8::from(state == State::CloseWait)),
        ..Socket::default()
    }
}

/// A LISTEN row with its queue and limit.
pub(crate) fn listen(local: &str, queue: u32, backlog: u32) -> Socket {
    let any = if local.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    Socket { recv_q_bytes: queue, send_q_bytes: Some(backlog), ..row(State::Listen, local, any) }
}

/// A TIME_WAIT row with this much of its minute left.
pub(crate) fn time_wait(local: &str, peer: &str, remaining_ms: u32) -> Socket {
    Socket {
        kind: RowKind::TimeWaitMini,
        inode: None,
        uid: None,
        shutdown: None,
        ..timer(row(State::TimeWait, local, peer), TimerKind::TimeWait, remaining_ms, 0)
    }
}

/// The row without a socket file: in an accept queue, or orphaned.
pub(crate) fn unheld(socket: Socket) -> Socket {
    Socket { inode: None, ..socket }
}

/// The row with a running timer.
pub(crate) fn timer(socket: Socket, kind: TimerKind, remaining_ms: u32, retransmits: u8) -> Socket {
    Socket { timer: Some(Timer { kind, remaining_ms, retransmits }), ..socket }
}

/// The row with these fields of `tcp_info`; all others up to the newest kernel are 0.
pub(crate) fn info(socket: Socket, fields: &[(&str, u64)]) -> Socket {
    let mut info = TcpInfo::default();
    info.load(&[0; 280]);
    for (name, value) in fields {
        assert!(info.set(name, *value), "no field {name}");
    }
    Socket { info: Some(info.into()), ..socket }
}

/// The same with some of its fields changed.
pub(crate) fn with_info(socket: Socket, fields: &[(&str, u64)]) -> Socket {
    let mut info = socket.info.as_deref().cloned().unwrap_or_default();
    for (name, value) in fields {
        assert!(info.set(name, *value), "no field {name}");
    }
    Socket { info: Some(info.into()), ..socket }
}

/// An inode as a test writes it: a number, or that of a row.
pub(crate) trait IntoInode {
    fn into_inode(self) -> Option<Inode>;
}

impl IntoInode for u64 {
    fn into_inode(self) -> Option<Inode> {
        Inode::new(self)
    }
}

impl IntoInode for Option<Inode> {
    fn into_inode(self) -> Option<Inode> {
        self
    }
}
