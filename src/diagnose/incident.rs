//! Findings of one fault, told once: the cause leads, its consequences follow.
//!
//! Two findings belong together when [`EXPLAINS`] says that one rule's fault makes the other's picture, and they are
//! about the same process, listener, destination or connections (either end). Findings of one rule about one program
//! are one incident too.

use std::cell::OnceCell;

use rustc_hash::FxHashSet;

use crate::diagnose::Subject;
use crate::diagnose::finding::{Evidence, Finding, Rows, Severity};
use crate::diagnose::measure::Measure;
use crate::diagnose::view::View;
use crate::model::{Endpoint, FourTuple, NetnsId, Socket};

/// Findings of one fault, as indices into [`crate::diagnose::Diagnosis::findings`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incident {
    /// The finding that explains the others.
    pub cause: usize,
    /// What follows from it or is like it, in the order of the findings.
    pub consequences: Vec<usize>,
    /// The worst of all of them.
    pub severity: Severity,
}

impl Incident {
    /// The cause and everything else, as indices.
    pub fn members(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.cause).chain(self.consequences.iter().copied())
    }
}

/// Which rule's fault makes which other pictures. What comes earlier is nearer to the cause.
const EXPLAINS: &[(&str, &[&str])] = &[
    (
        "tcp-memory-pressure",
        &["rcvbuf-pruning", "recv-queue-stuck", "send-queue-stuck", "zero-window-peer", "orphan-limit"],
    ),
    ("conntrack-pressure", &["syn-sent-pileup", "dead-peer-retransmit"]),
    ("nat-port-exhaustion", &["syn-sent-pileup"]),
    ("neighbour-failure", &["syn-sent-pileup", "dead-peer-retransmit"]),
    ("close-wait-inherited-fd", &["close-wait-leak", "fin-wait2-held", "fin-wait2-orphan-pileup"]),
    (
        "close-wait-leak",
        &[
            "fd-exhaustion",
            "fin-wait2-held",
            "fin-wait2-orphan-pileup",
            "accept-queue-overflow",
            "accept-queue-stalled",
        ],
    ),
    ("closed-socket-fd-leak", &["fd-exhaustion"]),
    ("bound-inactive-leak", &["fd-exhaustion", "ephemeral-port-exhaustion"]),
    ("connection-pool-growth", &["fd-exhaustion", "ephemeral-port-exhaustion", "accept-queue-overflow"]),
    (
        "fd-exhaustion",
        &["accept-queue-stalled", "accept-queue-overflow", "close-wait-unaccepted", "accept-queue-dead-entries"],
    ),
    (
        "inherited-listener",
        &["accept-queue-stalled", "accept-queue-overflow", "close-wait-unaccepted", "accept-queue-dead-entries"],
    ),
    ("slow-requests", &["accept-queue-stalled", "accept-queue-overflow", "listener-drops-since-open"]),
    (
        "accept-queue-stalled",
        &[
            "answers-owed",
            "accept-queue-overflow",
            "close-wait-unaccepted",
            "accept-queue-dead-entries",
            "listener-drops-since-open",
            "syn-sent-pileup",
            "syn-queue-pressure",
            "fin-wait2-held",
            "fin-wait2-orphan-pileup",
            "fin-wait1-stuck",
            "send-queue-stuck",
        ],
    ),
    (
        "accept-queue-overflow",
        &[
            "close-wait-unaccepted",
            "accept-queue-dead-entries",
            "listener-drops-since-open",
            "syn-sent-pileup",
            "syn-queue-pressure",
            "fin-wait2-held",
            "fin-wait2-orphan-pileup",
        ],
    ),
    ("close-wait-unaccepted", &["fin-wait2-held", "fin-wait2-orphan-pileup"]),
    (
        "recv-queue-stuck",
        &["answers-owed", "zero-window-peer", "send-queue-stuck", "fin-wait1-stuck", "rcvbuf-pruning"],
    ),
    ("zero-window-peer", &["send-queue-stuck", "fin-wait1-stuck", "last-ack-stuck"]),
    ("syn-flood", &["syn-queue-pressure", "listener-drops-since-open"]),
    ("syn-ack-unanswered", &["syn-queue-pressure"]),
    ("syn-queue-pressure", &["listener-drops-since-open"]),
    ("reuseport-imbalance", &["accept-queue-stalled", "accept-queue-overflow", "listener-drops-since-open"]),
    ("bind-before-connect", &["ephemeral-port-exhaustion"]),
    ("no-answer", &["answers-owed", "fin-wait2-orphan-pileup"]),
    ("reset-source", &["abort-storm"]),
    ("time-wait-client-churn", &["ephemeral-port-exhaustion", "time-wait-bucket-overflow"]),
    ("path-idle-limit", &["dead-peer-retransmit", "idle-no-keepalive", "send-queue-stuck"]),
    ("mtu-black-hole", &["dead-peer-retransmit", "send-queue-stuck", "fin-wait1-stuck"]),
    (
        "lossy-destination",
        &["dead-peer-retransmit", "send-queue-stuck", "fin-wait1-stuck", "last-ack-stuck", "syn-ack-unanswered"],
    ),
    (
        "dead-peer-retransmit",
        &["send-queue-stuck", "fin-wait1-stuck", "last-ack-stuck", "closing-stuck", "syn-sent-pileup"],
    ),
    ("syn-sent-pileup", &["fin-wait1-stuck", "last-ack-stuck"]),
    ("orphan-limit", &["fin-wait1-stuck", "last-ack-stuck"]),
];

/// Rules about a whole namespace, with the cause by which findings on connections name their fault.
const NAMED_AS: &[(&str, &str)] = &[
    ("conntrack-pressure", "conntrack-full"),
    ("nat-port-exhaustion", "nat-exhausted"),
    ("neighbour-failure", "gateway-down"),
];

/// What counts for a whole namespace belongs to the finding that has half of it or more: the rules, and the evidence of both.
const SUMS: &[(&str, &str, &str)] = &[("reset-source", "abort-storm", "resets")];

/// Causes by which a finding says that the fault is another program's.
const OF_OTHERS: &[(&str, &str)] = &[("close-wait-leak", "passed-on")];

/// Where the rule of a finding stands in [`EXPLAINS`], behind findings of the same rule that blame nobody else; what explains
/// nothing comes last.
fn rank(finding: &Finding) -> (usize, bool) {
    let named = finding.causes.named().map(|c| c.id);
    let is_of_others = OF_OTHERS.iter().any(|(rule, id)| *rule == finding.rule && named == Some(*id));
    let place = EXPLAINS.iter().position(|(cause, _)| *cause == finding.rule);
    (place.unwrap_or(EXPLAINS.len()), is_of_others)
}

/// What a queue names as its cause where descriptors are the fault behind it: none is left, or the program keeps some back.
const FOR_LACK_OF_DESCRIPTORS: &[&str] = &["out-of-descriptors", "accept-paused"];

/// What shows at a service that somebody waits for.
const AT_SERVICES: &[&str] = &[
    "no-answer",
    "zero-window-peer",
    "send-queue-stuck",
    "dead-peer-retransmit",
    "syn-sent-pileup",
    "connect-failures",
    "neighbour-failure",
];

/// Those who should accept were seen waiting for the very service that this finding is about.
fn is_waited_for(cause: &Finding, other: &Finding) -> bool {
    let service = cause.subject.destination.filter(|_| AT_SERVICES.contains(&cause.rule));
    cause.subject.netns == other.subject.netns
        && service.is_some_and(|service| other.waits_for.contains(&service.normalised()))
}

fn explains(cause: &Finding, other: &Finding) -> bool {
    EXPLAINS.iter().any(|(rule, others)| *rule == cause.rule && others.contains(&other.rule))
        && (cause.rule != "fd-exhaustion" || is_for_lack_of_descriptors(cause, other))
}

/// Descriptors that are left explain a queue only where the program is seen to keep away from it.
fn is_for_lack_of_descriptors(cause: &Finding, other: &Finding) -> bool {
    let none_left = cause.exhausted_in_ms == Some(Measure::Exact(0));
    other.causes.named().map_or(none_left, |named| FOR_LACK_OF_DESCRIPTORS.contains(&named.id))
}

/// Groups findings, which come most severe first, into incidents in the same order.
#[must_use]
pub fn incidents(view: &View<'_>, findings: &[Finding]) -> Vec<Incident> {
    let mut of: Vec<usize> = (0..findings.len()).collect();
    // The rows are walked only for a pair that nothing else decides.
    let sets: Vec<OnceCell<FxHashSet<Pair>>> = findings.iter().map(|_| OnceCell::new()).collect();
    let connections = |i: usize| sets[i].get_or_init(|| connections_of(view, &findings[i]));
    for a in 0..findings.len() {
        for b in 0..findings.len() {
            let linked = a != b
                && (is_waited_for(&findings[a], &findings[b])
                    || explains(&findings[a], &findings[b])
                        && (are_related(view, &findings[a], &findings[b], is_by_process(&findings[a]))
                            || is_named_by(&findings[a], &findings[b])
                            || is_most_of(&findings[a], &findings[b])
                            || !connections(a).is_disjoint(connections(b)))
                    || a < b && are_alike(&findings[a], &findings[b]));
            if linked {
                let (keep, join) = (of[a].min(of[b]), of[a].max(of[b]));
                for group in &mut of {
                    if *group == join {
                        *group = keep;
                    }
                }
            }
        }
    }
    let mut incidents: Vec<Incident> = Vec::new();
    for group in (0..findings.len()).filter(|i| of[*i] == *i) {
        let mut members: Vec<usize> = (0..findings.len()).filter(|i| of[*i] == group).collect();
        let severity = members.iter().map(|i| findings[*i].severity).max().unwrap_or(Severity::Info);
        // A cause that harms nobody by itself still leads: what to do is written there.
        let waits = |i: usize| members.iter().any(|c| is_waited_for(&findings[*c], &findings[i]));
        let serves = |i: usize| members.iter().any(|o| is_waited_for(&findings[i], &findings[*o]));
        let key = |i: &usize| (waits(*i), !serves(*i), rank(&findings[*i]), *i);
        let cause = members.iter().copied().min_by_key(key).unwrap_or(group);
        members.retain(|i| *i != cause);
        incidents.push(Incident { cause, consequences: members, severity });
    }
    incidents.sort_by_key(|incident| std::cmp::Reverse(incident.severity));
    incidents
}

/// Both ends of a connection give the same key. One that stays in its namespace has that too: others have equal addresses.
type Pair = (Option<NetnsId>, FourTuple);

fn pair(view: &View<'_>, socket: &Socket) -> Pair {
    let tuple = FourTuple { local: socket.local, peer: socket.peer, ifindex: 0 }.normalised();
    let stays = has_address(view, socket.netns, socket.peer);
    let both =
        if tuple.local <= tuple.peer { tuple } else { FourTuple { local: tuple.peer, peer: tuple.local, ifindex: 0 } };
    (socket.netns.filter(|_| stays), both)
}

/// Whether an address is one of the namespace itself.
fn has_address(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> bool {
    let addr = at.addr.to_canonical();
    addr.is_loopback() || view.netns(netns).is_some_and(|n| n.addresses.iter().any(|own| own.to_canonical() == addr))
}

fn connections_of(view: &View<'_>, finding: &Finding) -> FxHashSet<Pair> {
    let rows: Rows = finding.rows();
    if rows.is_all() {
        return FxHashSet::default();
    }
    view.active()
        .filter(|s| s.state.has_peer())
        .filter(|s| rows.includes(s, view.holding(s).map(|p| p.pid)))
        .map(|s| pair(view, s))
        .collect()
}

/// The other finding has this one's fault as its likeliest cause.
fn is_named_by(cause: &Finding, other: &Finding) -> bool {
    let leads = other.causes.left.first().map(|h| h.cause.id);
    // A gateway is in a namespace of its own.
    let same_destination =
        cause.subject.destination.is_some() && cause.subject.destination == other.subject.destination;
    (cause.subject.netns == other.subject.netns || same_destination)
        && NAMED_AS.iter().any(|(rule, id)| *rule == cause.rule && leads == Some(*id))
}

/// The other finding counts for the namespace what this one has half of, or more.
fn is_most_of(part: &Finding, sum: &Finding) -> bool {
    let rules = SUMS.iter().find(|(of_part, of_sum, _)| (*of_part, *of_sum) == (part.rule, sum.rule));
    let Some((_, _, key)) = rules.filter(|_| part.subject.netns == sum.subject.netns) else { return false };
    let count = |finding: &Finding| match finding.evidence.iter().find(|(name, _)| name == key) {
        Some((_, Evidence::Count(n))) => Some(*n),
        _ => None,
    };
    count(part).zip(count(sum)).is_some_and(|(part, sum)| part * 2 >= sum)
}

/// What keeps a process from everything that it does.
const HALTS: &[&str] = &["frozen", "stopped", "stuck-in-kernel", "cpu-throttled", "out-of-descriptors"];

/// Whether what else its process does follows from it. Of a queue only what its clients see does, unless the process does nothing at
/// all: it may wait for somebody else, and that is then why it does not accept.
fn is_by_process(cause: &Finding) -> bool {
    let is_queue = matches!(cause.rule, "accept-queue-stalled" | "accept-queue-overflow");
    !is_queue || cause.causes.named().is_some_and(|named| HALTS.contains(&named.id))
}

/// The same listener or destination, or process where that counts; or one calls where the other listens.
fn are_related(view: &View<'_>, a: &Finding, b: &Finding, by_process: bool) -> bool {
    let (a, b) = (&a.subject, &b.subject);
    let pids = |s: &crate::diagnose::Subject| s.pids.iter().copied().chain(s.pid).collect::<FxHashSet<u32>>();
    let same = |x: Option<Endpoint>, y: Option<Endpoint>| x.zip(y).is_some_and(|(x, y)| is_same_place(x, y));
    (by_process && !pids(a).is_disjoint(&pids(b)))
        || (a.netns == b.netns && (same(a.listener, b.listener) || same(a.destination, b.destination)))
        || leads_to(view, b, a)
        || leads_to(view, a, b)
}

/// Whether what the caller calls is where the other one listens. In another namespace (a container) every program may listen on
/// 0.0.0.0:80: there the address must be one of that namespace, and of no other that the caller would reach first.
fn leads_to(view: &View<'_>, caller: &Subject, server: &Subject) -> bool {
    let Some((to, listener)) = caller.destination.zip(server.listener) else { return false };
    if !is_same_place(to, listener) {
        return false;
    }
    caller.netns == server.netns
        || !has_address(view, caller.netns, to) && !to.addr.is_unspecified() && has_address(view, server.netns, to)
}

/// Equal, or one is the wildcard address of the other's port.
fn is_same_place(a: Endpoint, b: Endpoint) -> bool {
    a.port == b.port
        && (a.addr.to_canonical() == b.addr.to_canonical() || a.addr.is_unspecified() || b.addr.is_unspecified())
}

/// One rule about several processes of one program.
fn are_alike(a: &Finding, b: &Finding) -> bool {
    a.rule == b.rule
        && a.subject.netns == b.subject.netns
        && a.subject.comm.is_some()
        && a.subject.comm == b.subject.comm
        && a.subject.unit == b.subject.unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::RULES;
    use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
    use crate::diagnose::testkit::World;
    use crate::diagnose::testkit::row;
    use crate::model::State;
    use crate::model::snapshot::Netns;

    fn at(text: &str) -> Endpoint {
        let at: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(at.ip(), at.port())
    }

    fn finding(rule: &'static str, severity: Severity, subject: Subject) -> Finding {
        Finding::new(rule, severity, 0.9, rule).subject(subject)
    }

    fn told(findings: &[Finding]) -> Vec<(usize, Vec<usize>)> {
        let world = World::new();
        let view = View::new(&world.now, None, &world.thresholds);
        incidents(&view, findings).into_iter().map(|i| (i.cause, i.consequences)).collect()
    }

    #[test]
    fn every_rule_that_explains_or_is_explained_exists() {
        for (cause, others) in EXPLAINS {
            for id in [cause].into_iter().chain(*others) {
                assert!(RULES.iter().any(|r| r.id == *id), "{id}");
            }
        }
    }

    #[test]
    fn a_leak_explains_the_descriptors_and_the_queue_of_its_process() {
        let leak = Subject { pid: Some(10), ..Subject::default() };
        let queue = Subject { pid: Some(10), listener: Some(at("0.0.0.0:80")), ..Subject::default() };
        let none_left = Some(Measure::Exact(0));
        let findings = [
            finding("fd-exhaustion", Severity::Critical, leak.clone()).exhausted_in(none_left),
            finding("accept-queue-overflow", Severity::Critical, queue),
            finding("close-wait-leak", Severity::High, leak),
            finding("close-wait-leak", Severity::High, Subject { pid: Some(11), ..Subject::default() }),
        ];
        assert_eq!(told(&findings), [(2, vec![0, 1]), (3, vec![])]);
    }

    #[test]
    fn descriptors_that_are_left_explain_only_a_queue_that_the_program_keeps_away_from() {
        let process = Subject { pid: Some(10), ..Subject::default() };
        let few = finding("fd-exhaustion", Severity::Warning, process.clone());
        let queue = |cause: &str| {
            let all = crate::diagnose::accepting::CAUSES;
            let weigh = |c: &Cause| if c.id == cause { Weight::Proven } else { Weight::Refuted(String::new()) };
            finding("accept-queue-stalled", Severity::High, process.clone()).causes(Weighed::of(all, weigh))
        };
        for (cause, one) in [("accept-paused", true), ("out-of-descriptors", true), ("stopped", false)] {
            assert_eq!(told(&[queue(cause), few.clone()]).len() == 1, one, "{cause}");
        }
        let unknown = finding("accept-queue-stalled", Severity::High, process);
        assert_eq!(told(&[unknown, few]).len(), 2);
    }

    #[test]
    fn a_service_that_those_who_should_accept_wait_for_leads() {
        let waiting = |service: &str| {
            let all = crate::diagnose::accepting::CAUSES;
            let weigh =
                |c: &Cause| if c.id == "waits-for-service" { Weight::Proven } else { Weight::Refuted(String::new()) };
            let subject = Subject { pid: Some(10), listener: Some(at("0.0.0.0:80")), ..Subject::default() };
            let mut finding = finding("accept-queue-stalled", Severity::High, subject).causes(Weighed::of(all, weigh));
            finding.waits_for = vec![at(service)];
            finding
        };
        let to = Subject { pid: Some(10), destination: Some(at("10.0.0.2:5140")), ..Subject::default() };
        let stuck = finding("send-queue-stuck", Severity::Info, to);
        assert_eq!(told(&[waiting("10.0.0.2:5140"), stuck.clone()]), [(1, vec![0])]);
        // What the process has waiting elsewhere is another matter.
        assert_eq!(told(&[waiting("10.0.0.3:5432"), stuck]), [(0, vec![]), (1, vec![])]);
    }

    #[test]
    fn who_calls_a_stalled_listener_is_its_consequence_and_others_are_not() {
        let listener = Subject { listener: Some(at("0.0.0.0:80")), pid: Some(1), ..Subject::default() };
        let to = |peer: &str| Subject { destination: Some(at(peer)), pid: Some(2), ..Subject::default() };
        let findings = [
            finding("accept-queue-stalled", Severity::High, listener),
            finding("syn-sent-pileup", Severity::High, to("10.0.0.1:80")),
            finding("syn-sent-pileup", Severity::High, to("10.0.0.1:81")),
        ];
        assert_eq!(told(&findings), [(0, vec![1]), (2, vec![])]);
    }

    /// Every container may listen on 0.0.0.0:80.
    #[test]
    fn a_listener_of_another_namespace_is_the_one_with_the_address() {
        let (web, shop, clients) = (NetnsId::new(2), NetnsId::new(3), NetnsId::new(4));
        let mut world = World::new();
        for (inode, own) in [(web, "10.0.0.2"), (shop, "10.0.0.3"), (clients, "10.0.0.4")] {
            let addresses = vec![own.parse().unwrap()];
            world.now.netns.push(Netns { inode, addresses, ..Netns::default() });
        }
        let stalled = |netns| {
            let subject = Subject { listener: Some(at("0.0.0.0:80")), netns, ..Subject::default() };
            finding("accept-queue-stalled", Severity::High, subject)
        };
        let connecting = |netns, to: &str| {
            let subject = Subject { destination: Some(at(to)), netns, ..Subject::default() };
            finding("syn-sent-pileup", Severity::High, subject)
        };
        let view = View::new(&world.now, None, &world.thresholds);
        for (netns, to, server, one) in [
            (clients, "10.0.0.2:80", web, true),
            (clients, "10.0.0.2:80", shop, false),
            (clients, "10.9.9.9:80", web, false),
            (clients, "127.0.0.1:80", web, false),
            (web, "127.0.0.1:80", web, true),
        ] {
            let told = incidents(&view, &[stalled(server), connecting(netns, to)]);
            assert_eq!(told.len() == 1, one, "{netns:?} {to} {server:?}");
        }
    }

    #[test]
    fn connections_of_two_namespaces_with_equal_addresses_are_two() {
        let world = World::new();
        let view = View::new(&world.now, None, &world.thresholds);
        let of = |netns, local: &str, peer: &str| {
            pair(&view, &Socket { netns: NetnsId::new(netns), ..row(State::Established, local, peer) })
        };
        let (client, server) = ("127.0.0.1:40000", "127.0.0.1:80");
        assert_eq!(of(2, client, server), of(2, server, client));
        assert_ne!(of(2, client, server), of(3, client, server));
        // A connection between two namespaces is one.
        assert_eq!(of(2, "10.0.0.2:40000", "10.0.0.3:80"), of(3, "10.0.0.3:80", "10.0.0.2:40000"));
    }

    #[test]
    fn a_gateway_explains_clients_of_another_namespace_that_name_it() {
        let (gateway, client) = (crate::model::NetnsId::new(2), crate::model::NetnsId::new(1));
        let at = |netns, to| Subject { netns, destination: Some(at(to)), ..Subject::default() };
        let named = |to| {
            let weigh = |_| Weight::Proven;
            let causes = Weighed::of(std::slice::from_ref(&crate::diagnose::nat_ports::EXHAUSTED), weigh);
            finding("syn-sent-pileup", Severity::High, at(client, to)).causes(causes)
        };
        let nat = finding("nat-port-exhaustion", Severity::High, at(gateway, "10.9.9.9:443"));
        assert_eq!(told(&[named("10.9.9.9:443"), nat.clone()]), [(1, vec![0])]);
        assert_eq!(told(&[named("10.9.9.9:80"), nat]), [(0, vec![]), (1, vec![])]);
    }

    #[test]
    fn workers_of_one_program_are_one_incident() {
        let worker = |pid| Subject { pid: Some(pid), comm: Some("php-fpm".into()), ..Subject::default() };
        let findings: Vec<Finding> =
            (1..=6).map(|pid| finding("recv-queue-stuck", Severity::Warning, worker(pid))).collect();
        assert_eq!(told(&findings), [(0, vec![1, 2, 3, 4, 5])]);
    }

    #[test]
    fn the_resets_of_a_namespace_belong_to_the_service_that_has_half_of_them() {
        let of = |rule, netns, resets, pid| {
            let subject = Subject { netns: crate::model::NetnsId::new(netns), pid, ..Subject::default() };
            finding(rule, Severity::Info, subject).evidence("resets", Evidence::Count(resets))
        };
        let one = |other: Finding| {
            let world = World::new();
            let view = View::new(&world.now, None, &world.thresholds);
            incidents(&view, &[of("reset-source", 1, 20, Some(7)), other]).len()
        };
        assert_eq!(one(of("abort-storm", 1, 40, Some(9))), 1);
        assert_eq!(one(of("abort-storm", 1, 41, Some(9))), 2, "most are of others");
        assert_eq!(one(of("abort-storm", 2, 20, None)), 2, "another namespace");
    }
}
