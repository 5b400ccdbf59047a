//! Connection attempts to one destination get no answer at all, not even a refusal.
//!
//! Comes in: SYN_SENT rows. Goes out: one finding per destination, with what hints at the cause. Never here: ages from
//! `tcp_info`, which mean nothing in this state; refusals, which never show.
//!
#![doc = include_str!("../../../docs/rules/syn-sent-pileup.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::diagnose::Outcome;
use crate::diagnose::callers;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::listener_owner;
use crate::diagnose::ranking;
use crate::diagnose::retries;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::{Endpoint, NetnsId, Process, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("syn-sent-pileup", Connecting, One, "connection attempts get no answer at all", check, [TEXT, SCANNER])
        .states(&[State::SynSent]);

const TEXT: Text = Text {
    why: "A closed port answers a SYN with a reset at once; an attempt that stays in SYN_SENT got no answer. Packets \
          are dropped, the host is down, or the way back is broken, and each attempt blocks its caller until the \
          kernel gives up.",
    remedy: &[
        "Check the target: does it run, does it listen, is its accept queue full",
        "Check the path: security groups, firewalls that drop, routes, the way back",
        "Set a connect timeout of a few seconds in the application, and a circuit breaker or back-off",
        "Take dead targets out of the client's list (service discovery, DNS, load balancer)",
    ],
    avoid: &[
        "Don't raise tcp_syn_retries: callers only wait longer for the same silence",
        "Don't lower it for the whole host either: set the timeout in the application, or TCP_SYNCNT on the socket",
    ],
};

const SCANNER: Text = Text {
    why: "Scanners, peer-to-peer programs and clients with a stale list of addresses call many hosts of which some \
          are gone. A SYN without an answer is repeated until the kernel gives up.",
    remedy: &["Nothing, if that is what the program is for; else refresh its list of addresses"],
    avoid: &["Don't lower tcp_syn_retries for the whole host"],
};

/// One or none is ordinary loss.
const REPEATS: u8 = 2;
/// One program that has a single attempt to each of so many destinations looks for somebody (policy).
const SCAN: usize = 16;

/// Attempts to one destination that nobody answers.
struct Group<'a> {
    netns: Option<NetnsId>,
    to: Endpoint,
    rows: Vec<&'a Socket>,
    /// Connections to the same destination that got through.
    successes: u64,
    /// Connections to other ports of the same address that did.
    other_ports: u64,
    owners: Vec<(&'a Process, u64)>,
}

/// Whether somebody answered the SYN of this connection.
fn is_answered(socket: &Socket) -> bool {
    socket.state.has_peer() && !matches!(socket.state, State::SynSent | State::SynRecv)
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut places: BTreeMap<(Option<NetnsId>, Endpoint), Vec<&Socket>> = BTreeMap::new();
    for socket in view.active() {
        if socket.state == State::SynSent && socket.timer.is_some_and(|t| t.retransmits >= REPEATS) {
            places.entry((socket.netns, socket.peer.normalised())).or_default().push(socket);
        }
    }
    if places.is_empty() {
        return Outcome::default();
    }
    let wanted: FxHashSet<(Option<NetnsId>, IpAddr)> = places.keys().map(|(netns, to)| (*netns, to.addr)).collect();
    let mut answered: FxHashMap<(Option<NetnsId>, IpAddr), FxHashMap<u16, u64>> = FxHashMap::default();
    let mut held_by: FxHashMap<u32, u64> = FxHashMap::default();
    for socket in &view.now.sockets {
        for process in view.processes(socket) {
            *held_by.entry(process.pid).or_default() += 1;
        }
        let peer = socket.peer.normalised();
        if is_answered(socket) && wanted.contains(&(socket.netns, peer.addr)) {
            *answered.entry((socket.netns, peer.addr)).or_default().entry(peer.port).or_default() += 1;
        }
    }
    let groups: Vec<Group<'_>> = places
        .into_iter()
        .map(|((netns, to), rows)| {
            let ports = answered.get(&(netns, to.addr));
            let successes = ports.and_then(|p| p.get(&to.port)).copied().unwrap_or(0);
            let all: u64 = ports.map_or(0, |p| p.values().sum());
            let owners = owners(view, &rows);
            Group { netns, to, rows, successes, other_ports: all - successes, owners }
        })
        .collect();
    Outcome::findings(findings(view, &groups, &held_by))
}

fn owners<'a>(view: &View<'a>, rows: &[&'a Socket]) -> Vec<(&'a Process, u64)> {
    let mut counts: BTreeMap<u32, (&'a Process, u64)> = BTreeMap::new();
    for process in rows.iter().flat_map(|s| view.processes(s)) {
        counts.entry(process.pid).or_insert((process, 0)).1 += 1;
    }
    let mut owners: Vec<_> = counts.into_values().collect();
    owners.sort_by_key(|(process, n)| (std::cmp::Reverse(*n), process.pid));
    owners
}

fn findings(view: &View<'_>, groups: &[Group<'_>], held_by: &FxHashMap<u32, u64>) -> Vec<Finding> {
    let mut singles: FxHashMap<u32, usize> = FxHashMap::default();
    for group in groups.iter().filter(|g| g.rows.len() == 1) {
        if let Some((process, _)) = group.owners.first() {
            *singles.entry(process.pid).or_default() += 1;
        }
    }
    let scanner = |g: &Group<'_>| {
        let pid = g.owners.first().map(|(p, _)| p.pid)?;
        (g.rows.len() == 1 && g.successes == 0 && singles.get(&pid).is_some_and(|n| *n >= SCAN)).then_some(pid)
    };
    let mut networks: FxHashMap<(Option<NetnsId>, IpAddr), FxHashSet<IpAddr>> = FxHashMap::default();
    for group in groups {
        networks.entry((group.netns, network(group.to.addr))).or_default().insert(group.to.addr);
    }
    let mut scans: BTreeMap<u32, Vec<&Group<'_>>> = BTreeMap::new();
    let mut out = Vec::new();
    for group in groups {
        if let Some(pid) = scanner(group) {
            scans.entry(pid).or_default().push(group);
        } else {
            let alike = networks.get(&(group.netns, network(group.to.addr))).map_or(1, FxHashSet::len);
            out.push(finding(view, group, alike, held_by));
        }
    }
    out.extend(scans.into_values().map(|groups| scan(view, &groups)));
    ranking::worst(out)
}

/// `/24` of IPv4, `/64` of IPv6: what one route or one filter covers.
fn network(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() & 0xffff_ff00).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() & !(u128::MAX >> 64)).into()),
    }
}

/// What hints at the cause, the surest first.
fn cause(view: &View<'_>, group: &Group<'_>, alike: usize) -> Option<String> {
    if let Some(queue) = group.rows.first().and_then(|s| callers::called(view, s)) {
        let owner = listener_owner::Owner::of(view, &queue.listeners);
        let who = listener_owner::name(owner.as_ref());
        if queue.is_over_limit() {
            return Some(format!("it is on this host, and the accept queue of {who} is full"));
        }
        return Some(format!("it is on this host, where {who} listens"));
    }
    if group.other_ports > 0 {
        return Some("other ports of that address answer, so a filter drops this one".into());
    }
    if alike >= 3 {
        return Some(format!("{alike} addresses of that network are silent: a route, or a firewall that drops"));
    }
    let same = |value: fn(&Socket) -> Option<u32>| {
        let first = value(group.rows[0]).filter(|v| *v != 0)?;
        group.rows.iter().all(|s| value(s) == Some(first)).then_some(first)
    };
    if let Some(mark) = same(|s| s.mark) {
        return Some(format!("all have mark {mark:#x}: perhaps policy routing"));
    }
    same(|s| s.ifindex).map(|device| format!("all are bound to interface {device}: perhaps its route"))
}

fn subject(view: &View<'_>, group: &Group<'_>) -> Subject {
    let mut pids: Vec<u32> = group.owners.iter().map(|(p, _)| p.pid).collect();
    pids.sort_unstable();
    let named = group.owners.first().map_or_else(
        || Subject { netns: group.netns, uid: group.rows[0].uid, ..Subject::default() },
        |(process, _)| view.subject_of(process, group.netns),
    );
    let mut sources: Vec<IpAddr> = group.rows.iter().map(|s| s.local.addr.to_canonical()).collect();
    sources.sort_unstable();
    sources.dedup();
    let source = if let [one] = sources[..] { Some(one) } else { None };
    let pids = if pids.len() > 1 { pids } else { Vec::new() };
    Subject { destination: Some(group.to), source, pids, ..named }
}

fn finding(view: &View<'_>, group: &Group<'_>, alike: usize, held_by: &FxHashMap<u32, u64>) -> Finding {
    let n = group.rows.len() as u64;
    let top = group.owners.first();
    let share = top.and_then(|(process, count)| Some(*count as f64 * 100.0 / *held_by.get(&process.pid)? as f64));
    let many = n as f64 >= view.thresholds.syn_sent_high_count && group.successes == 0;
    let severity =
        if many || (n >= 2 && share.is_some_and(|s| s >= 50.0)) { Severity::High } else { Severity::Warning };
    let netns = view.netns(group.netns);
    let times: Vec<_> = group.rows.iter().map(|s| retries::syn_sent_ms(s, netns)).collect();
    let oldest = times.iter().filter_map(|(age, _)| *age).max();
    let last = times.iter().filter_map(|(_, left)| *left).max();
    let who = match group.owners.len() {
        0 => "nobody known".to_owned(),
        1 => top.map(|(p, _)| text::name(p)).unwrap_or_default(),
        more => top.map(|(p, _)| format!("{} ({}) and {} more", p.comm, p.pid, more - 1)).unwrap_or_default(),
    };
    let hint = cause(view, group, alike);
    let reason = hint.as_ref().map_or_else(String::new, |h| format!(": {h}"));
    let age = oldest.map_or_else(String::new, |ms| format!(", the oldest after {}", text::duration(ms)));
    let attempts = text::count(n, "connection attempt", "connection attempts");
    let get = if n == 1 { "gets" } else { "get" };
    let timers = || group.rows.iter().filter_map(|s| s.timer);
    let grown = |counter| Evidence::count(view.delta(group.netns, counter));
    let summary = format!("{attempts} of {who} to {} {get} no answer at all{age}{reason}", group.to);
    RULE.finding(severity, 0.9, summary)
        .because("SYNs were repeated and not even a refusal came back; the cause is less sure (0.6)")
        .subject(subject(view, group))
        .evidence("count", Evidence::Count(n))
        .evidence("connections_that_work", Evidence::Count(group.successes))
        .evidence("repeats_max", Evidence::count(timers().map(|t| t.retransmits.into()).max()))
        .evidence("oldest_ms", Evidence::millis(oldest))
        .evidence("next_syn_in_ms", Evidence::millis(timers().map(|t| t.remaining_ms.into()).min()))
        .evidence("gives_up_within_ms", Evidence::millis(last))
        .evidence("share_of_owner_percent", share.map_or(Evidence::Unknown, Evidence::Percent))
        .evidence("cause", hint.map_or(Evidence::Unknown, Evidence::Text))
        .evidence("syn_retransmissions", grown(Counter::TcpExtTcpSynRetrans))
        .evidence("failed_attempts", grown(Counter::TcpAttemptFails))
        .next(format!("tcpstate list --state syn-sent -o -p --peer {}", group.to))
}

/// One program that tries many destinations once each: a scanner, peer-to-peer, or a client with a stale list.
fn scan(view: &View<'_>, groups: &[&Group<'_>]) -> Finding {
    let process = groups[0].owners[0].0;
    let some = groups.iter().take(5).map(|g| g.to.to_string()).collect();
    let summary = format!(
        "{} ({}) tries {} destinations once each and none of them answers",
        process.comm,
        process.pid,
        groups.len()
    );
    RULE.finding(Severity::Info, 0.9, summary)
        .text(&SCANNER)
        .because(
            "SYNs were repeated and nothing came back; single attempts to many addresses are usual for some programs",
        )
        .subject(view.subject_of(process, groups[0].netns))
        .evidence("destinations", Evidence::Count(groups.len() as u64))
        .evidence("some_of_them", Evidence::List(some))
        .next(format!("tcpstate list --state syn-sent -o --pid {}", process.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, row, timer};
    use crate::model::TimerKind;
    use crate::model::sysctl::Sysctl;

    fn attempt(client: u16, to: &str, repeats: u8) -> Socket {
        timer(row(State::SynSent, &format!("10.0.0.1:{client}"), to), TimerKind::Retransmit, 500, repeats)
    }

    /// Attempts of pid 812, which holds as many other sockets.
    fn world(rows: u16, to: &str, repeats: u8) -> World {
        let mut world = World::new();
        for n in 0..rows {
            let socket = attempt(40_000 + n, to, repeats);
            world.hold(812, "client", 3 + u32::from(n), socket.inode).add(socket);
        }
        for n in 0..=rows {
            let other = row(State::Established, &format!("10.0.0.1:{}", 30_000 + n), "10.5.5.5:5432");
            world.hold(812, "client", 300 + u32::from(n), other.inode).add(other);
        }
        world.sysctl(Sysctl::Ipv4TcpSynLinearTimeouts, &[4]).sysctl(Sysctl::Ipv4TcpSynRetries, &[6]);
        world
    }

    #[test]
    fn numbers_come_from_the_timer_and_severity_from_the_count() {
        let outcome = world(4, "10.9.9.9:443", 6).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "4 connection attempts of client (812) to 10.9.9.9:443 get no answer at all, the oldest after 10 s"
        );
        assert!(finding.evidence.contains(&("oldest_ms", Evidence::Millis(10_500))));
        assert!(finding.evidence.contains(&("gives_up_within_ms", Evidence::Millis(120_500))));
        assert_eq!(world(5, "10.9.9.9:443", 2).check(check).findings[0].severity, Severity::High);
    }

    #[test]
    fn success_beside_it_lowers_the_severity_and_half_of_the_owner_s_sockets_raise_it() {
        let mut some = world(5, "10.9.9.9:443", 2);
        some.add(row(State::Established, "10.0.0.1:50000", "10.9.9.9:443"));
        assert_eq!(some.check(check).findings[0].severity, Severity::Warning);
        let mut half = world(2, "10.9.9.9:443", 2);
        half.now.sockets.pop();
        assert_eq!(half.check(check).findings[0].severity, Severity::High);
        let mut single = World::new();
        let only = attempt(40_000, "10.9.9.9:443", 3);
        single.hold(812, "curl", 3, only.inode).add(only);
        assert_eq!(single.check(check).findings[0].severity, Severity::Warning, "one attempt of one program");
    }

    #[test]
    fn ordinary_loss_is_silent() {
        assert_eq!(world(50, "10.9.9.9:443", 1).check(check), Outcome::default());
        assert_eq!(World::new().check(check), Outcome::default());
    }

    #[test]
    fn the_cause_is_hinted_at() {
        let hint = |world: &World| world.check(check).findings[0].summary.clone();
        let mut port = world(1, "10.9.9.9:443", 2);
        port.add(row(State::TimeWait, "10.0.0.1:50000", "10.9.9.9:80"));
        assert!(hint(&port).ends_with("other ports of that address answer, so a filter drops this one"));
        let mut full = world(1, "10.0.0.1:80", 2);
        full.add(listen("0.0.0.0:80", 5, 4)).hold(900, "server", 3, 80 << 16);
        assert!(hint(&full).ends_with("it is on this host, and the accept queue of server (900) is full"));
        let mut net = world(1, "10.9.9.9:443", 2);
        net.add(attempt(41_000, "10.9.9.10:443", 2)).add(attempt(41_001, "10.9.9.11:443", 2));
        assert!(hint(&net).contains("3 addresses of that network are silent"));
        let mut mark = world(2, "10.9.9.9:443", 2);
        mark.now.sockets[..2].iter_mut().for_each(|s| s.mark = Some(0x10));
        assert!(hint(&mark).contains("mark 0x10"));
    }

    #[test]
    fn a_scanner_is_one_explanation() {
        let mut world = World::new();
        for n in 0..16u16 {
            let socket = attempt(40_000 + n, &format!("10.{n}.0.1:22"), 2);
            world.hold(812, "masscan", 3 + u32::from(n), socket.inode).add(socket);
        }
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!(finding.severity, Severity::Info);
        assert!(finding.summary.starts_with("masscan (812) tries 16 destinations once each"));
    }
}
