//! Data was sent and no acknowledgement comes: the peer or the path to it is gone, and the kernel keeps trying.
//!
//! Input: connections whose retransmission timer runs, and those that their program closed meanwhile. Output: one finding
//! per silent peer, with the causes that are left. Not here: peers that answer with a zero window (`zero-window-peer`).
//!
#![doc = include_str!("../../../docs/rules/dead-peer-retransmit.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::aggregate::Role;
use crate::diagnose::Outcome;
use crate::diagnose::closing;
use crate::diagnose::conntrack;
use crate::diagnose::delivery::{is_silent, repeats};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::host_drops::{self, Dropped};
use crate::diagnose::hypothesis::Weighed;
use crate::diagnose::measure::Measure;
use crate::diagnose::mtu;
use crate::diagnose::peers::{self, Peers};
use crate::diagnose::ranking;
use crate::diagnose::reach::Reach;
use crate::diagnose::retries;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer::{self, CAUSES, Facts};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, NetnsId, Process, Socket, State, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("dead-peer-retransmit", Established, OneOrTwo, "data sent, no acknowledgement", check, [TEXT])
        .title("peer does not acknowledge")
        .identity(Identity::Destination)
        .causes(CAUSES);

const WAY_OUT: &str = "Check the way out: `ip route get {peer}`, the state of the interface, rules of OUTPUT";
const TIMEOUTS: &str = "Set request and write timeouts in the application, and close the connection when they fire";
const USER_TIMEOUT: &str = "Set TCP_USER_TIMEOUT on the sockets to the time after which an answer is of no use";
const SHARED_PATH: &str =
    "Several peers are silent at once: check the path they share (VPN, security groups, a gateway, the MTU)";
const ONE_HOST: &str = "Check that host and the path to it: `ping {peer}`, `ip route get {peer}`";
const MTU: &str = "Set net.ipv4.tcp_mtu_probing = 1 on the sender, clamp the MSS on the tunnel or router (`tcp option \
                   maxseg size set rt mtu`), and let ICMP \"fragmentation needed\" pass";
const KEEPALIVE: &str = "Use keepalive with TCP_KEEPIDLE below the idle timeout of the NAT or firewall, or close idle \
                         connections of the pool before it";
const BACKEND: &str = "If that address is a load balancer's, check its backends and let it reset the connections of a dead \
                       one";
const FILTER: &str = "Check filters for that port of {peer}: firewalls here, at the peer and between, security groups";
const WAY: &str = "Check the way to {peer} for filters: firewalls here, at the peer and between, security groups";
const ONE_WAY: &str = "Find where our segments to {peer} end: `tcpdump` at both ends; filters by direction, asymmetric routes, \
                       rp_filter at the peer";
const LOSS: &str = "Measure loss to {peer}: `mtr -T {peer}`, drops in `ip -s link`";
const QUEUE: &str = "On the peer compare Recv-Q and Send-Q of the listener (`ss -ltn`): its program accepts too slowly";
const CONTENT: &str = "Compare what these requests carry with those that pass (the name in TLS or HTTP, the size), and ask who filters by \
                       content on the way to {peer}";
const GATEWAY: &str = "Look at the gateway that does not answer: the finding neighbour-failure names it";
const TRACKING: &str =
    "Make room in the connection tracking table of this host: the finding conntrack-pressure says how";
const RETRIES2: &str = "Last, tcp_retries2 for the whole host, not below 8";

const TEXT: Text = Text {
    why: "Data was sent and no acknowledgement comes back; a host that had merely restarted would answer with RST, unless a \
          firewall on the way drops that. The kernel doubles the wait after each repetition and goes on for about 15 minutes by \
          default; until then a write or a request without a time limit just waits.",
    remedy: &[
        WAY_OUT,
        MTU,
        KEEPALIVE,
        BACKEND,
        QUEUE,
        CONTENT,
        ONE_HOST,
        ONE_WAY,
        FILTER,
        WAY,
        LOSS,
        TRACKING,
        GATEWAY,
        SHARED_PATH,
        TIMEOUTS,
        USER_TIMEOUT,
        RETRIES2,
    ],
    avoid: &[
        "Don't set tcp_retries2 below 8: short outages would kill healthy connections (RFC 1122 asks for 100 s)",
        "Don't rely on keepalive: it does not run while data is unacknowledged",
    ],
};

/// 13 s of silence with the smallest timeout, on so many sockets to one peer (policy, as the page says).
const BACKOFF_HIGH: u8 = 6;
const BACKOFF_HIGH_SOCKETS: usize = 2;
/// Accepted connections of one address: fewer are clients that vanished (policy).
const CLIENTS: usize = 3;
/// Silence that is high by itself (policy, as the page says).
const SILENCE_HIGH_MS: u64 = 60_000;

/// What helps against each cause. A peer that calls this host has no port of its own to look at.
fn step(cause: &str, calls_us: bool) -> Option<&'static str> {
    Some(match cause {
        "port-filtered" if calls_us => WAY,
        "ours-lost" => ONE_WAY,
        "host-down" => ONE_HOST,
        "port-filtered" => FILTER,
        "mtu-black-hole" => MTU,
        "path-forgot-flow" => KEEPALIVE,
        "one-backend-down" => BACKEND,
        "lossy-path" => LOSS,
        "peer-accept-queue-full" => QUEUE,
        "content-filtered" => CONTENT,
        "local-drop" => WAY_OUT,
        "conntrack-full" => TRACKING,
        "gateway-down" => GATEWAY,
        _ => return None,
    })
}

/// The connections to one address that wait for an acknowledgement.
#[derive(Default)]
struct Silent<'a> {
    held: Vec<&'a Socket>,
    /// Closed by their program, which may have given up waiting: the kernel still tries to deliver.
    orphans: Vec<&'a Socket>,
    /// Attempts to the same address that have no answer yet.
    attempts: Vec<&'a Socket>,
}

impl<'a> Silent<'a> {
    fn rows(&self) -> Vec<&'a Socket> {
        self.held.iter().chain(&self.orphans).copied().collect()
    }
}

/// A connection of ours that its program closed with data or the FIN unacknowledged, and that is silent since.
fn is_given_up(view: &View<'_>, socket: &Socket) -> bool {
    let repeated = |s: &Socket| {
        s.timer.is_some_and(|t| t.kind == TimerKind::Retransmit && u64::from(t.retransmits) >= peers::retries1(view, s))
    };
    socket.state == State::FinWait1
        && socket.is_orphan()
        && repeated(socket)
        && view.role(socket) == Role::Client
        && is_silent(socket) == Some(true)
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut peers: BTreeMap<(Option<NetnsId>, IpAddr), Silent<'_>> = BTreeMap::new();
    let mut without_ages = 0u64;
    for socket in view.active() {
        let at = (socket.netns, socket.peer.normalised().addr);
        if is_given_up(view, socket) {
            peers.entry(at).or_default().orphans.push(socket);
        } else if repeats(view, socket) {
            match is_silent(socket) {
                Some(true) => peers.entry(at).or_default().held.push(socket),
                Some(false) => {}
                None => without_ages += 1,
            }
        }
    }
    for socket in view.active().filter(|s| s.state == State::SynSent) {
        if let Some(silent) = peers.get_mut(&(socket.netns, socket.peer.normalised().addr)) {
            silent.attempts.push(socket);
        }
    }
    // What a program closed harms nobody, unless it calls again and waits.
    peers.retain(|_, silent| !silent.held.is_empty() || silent.orphans.len() > 1 && !silent.attempts.is_empty());
    // A peer that was heard since is no dead one.
    let holes = if peers.is_empty() { BTreeMap::new() } else { mtu::black_holes(view) };
    peers.retain(|place, silent| !silent.attempts.is_empty() || !holes.contains_key(place));
    if peers.is_empty() {
        return match without_ages {
            0 => Outcome::default(),
            n => Outcome::not_checked(format!(
                "{} repeated a segment, and this source does not tell when the peer last answered",
                text::count(n, "connection", "connections")
            )),
        };
    }
    let ends = Peers::new(view);
    let endpoint = |addr: &IpAddr, rows: &[&Socket]| peers::common_peer(rows).unwrap_or(Endpoint::new(*addr, 0));
    let reach = Reach::new(view, peers.iter().map(|((netns, addr), s)| (*netns, endpoint(addr, &s.rows()))));
    let silent_peers = peers.len() as u64;
    let findings: Vec<Finding> = peers
        .into_iter()
        .filter_map(|(place, silent)| finding(view, &ends, &reach, place, &silent, silent_peers))
        .collect();
    let undecided = findings.iter().any(|f| f.causes.left.len() > 1) && view.before.is_none();
    let wants_second =
        undecided.then(|| "which connections to the same address are heard meanwhile decides the cause".to_owned());
    Outcome { findings, wants_second, ..Outcome::default() }
}

/// Until the kernel gives up (`retransmits_timed_out`), at least: `total_rto_time` also counts earlier recoveries, and
/// the silence began before the first timeout.
fn gives_up_in_ms(view: &View<'_>, socket: &Socket) -> Option<u64> {
    let netns = view.netns(socket.netns);
    if peers::cannot_leave(socket) {
        return None;
    }
    let info = socket.info.as_deref()?;
    let silence = u64::from(info.last_ack_recv_ms()?);
    let trying = info.total_rto_time_ms().map_or(silence, |ms| silence.min(ms.into()));
    let all = retries::model_ms(netns?.sysctl(Sysctl::Ipv4TcpRetries2)?, netns);
    Some(all.saturating_sub(trying).max(socket.timer?.remaining_ms.into()))
}

/// Harm: a client that vanished harms nobody; a service that several connections and attempts wait for does.
fn severity(view: &View<'_>, silent: &Silent<'_>, facts: &Facts<'_>, silence_ms: u64) -> Severity {
    let rows = silent.rows();
    let accepted = rows.iter().all(|s| silent_peer::is_accepted(view, s));
    let backed_off = |s: &&&Socket| s.info.as_deref().and_then(crate::model::TcpInfo::backoff) >= Some(BACKOFF_HIGH);
    let long = silence_ms >= SILENCE_HIGH_MS || rows.iter().filter(backed_off).count() >= BACKOFF_HIGH_SOCKETS;
    let fails_now = rows.len() > 1 && !silent.attempts.is_empty() && facts.working == 0;
    match (accepted, rows.len()) {
        (true, ..CLIENTS) => Severity::Info,
        (true, _) => Severity::Warning,
        _ if long && !silent.held.is_empty() || fails_now => Severity::High,
        _ => Severity::Warning,
    }
}

/// The cause in the words of a headline, when it is known.
fn named(facts: &Facts<'_>, causes: &Weighed) -> String {
    match (causes.named(), facts.overflowing) {
        (Some(cause), Some(queue)) if cause.id == "peer-accept-queue-full" => {
            format!(": the accept queue of {} on this host overflows, and the server never heard of them", queue.local)
        }
        (Some(cause), _) => format!(": {}", cause.text),
        (None, _) => String::new(),
    }
}

fn who_of(view: &View<'_>, owners: &[(&Process, u64)], rows: &[&Socket]) -> String {
    match owners {
        [] => peers::nobody(view, rows.first().copied()),
        [(process, _)] => text::name(process),
        [(process, _), rest @ ..] => {
            let others = text::count(rest.len() as u64, "other process", "other processes");
            format!("{} and {others}", text::name(process))
        }
    }
}

fn finding<'a>(
    view: &View<'a>,
    ends: &Peers<'_, 'a>,
    reach: &Reach<'_, 'a>,
    (netns, peer): (Option<NetnsId>, IpAddr),
    silent: &Silent<'a>,
    silent_peers: u64,
) -> Option<Finding> {
    let rows = &silent.rows();
    let facts = Facts::new(view, reach, (netns, peer), rows, &silent.attempts);
    if silent.held.is_empty() && facts.working > 0 {
        return None;
    }
    let info =
        |value: fn(&crate::model::TcpInfo) -> Option<u64>| rows.iter().filter_map(move |s| value(s.info.as_deref()?));
    let silence = closing::silence_ms(rows).map_or(0, |(longest, _)| longest);
    let waiting = rows.iter().filter_map(|s| silent_peer::waiting_ms(s)).max();
    let of = if silent.held.is_empty() { &silent.attempts } else { &silent.held };
    let owners = ranking::by_rows(of.iter().filter_map(|s| ends.owner(s)));
    let other = rows.iter().find_map(|s| ends.other(s));
    let first = owners.first().map(|(process, _)| *process);
    let who = who_of(view, &owners, rows);
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let at_stake = send_q.map_or_else(String::new, |b| format!(", {} waiting", text::bytes(b)));
    let far = other.map_or_else(String::new, |p| format!(", held there by {} of this host,", text::name(p)));
    let endpoint = peers::common_peer(rows).unwrap_or(Endpoint::new(peer, 0));
    let to = if endpoint.port == 0 { peer.to_string() } else { endpoint.to_string() };
    let causes = facts.weigh();
    let n = rows.len() as u64;
    let given_up = match (silent.held.len(), silent.orphans.len()) {
        (_, 0) => String::new(),
        (0, _) => ", all closed by the program meanwhile".to_owned(),
        (_, orphans) => format!(", {} of them closed by the program meanwhile", text::grouped(orphans as u64)),
    };
    let beside = match (facts.working, silent.attempts.len() as u64) {
        (0, 0) => String::new(),
        (0, attempts) => {
            format!(", and {} without an answer", text::count(attempts, "new attempt", "new attempts"))
        }
        (1, _) => ", while 1 other to it works".to_owned(),
        (more, _) => format!(", while {} others to it work", text::grouped(more)),
    };
    let since = waiting.map_or_else(String::new, |ms| format!(" for at least {}", text::duration(ms)));
    let summary = format!(
        "{} of {who} to {to}{far} {} no acknowledgement{since}{at_stake}{given_up}{beside}{}",
        text::count(n, "connection", "connections"),
        if n == 1 { "gets" } else { "get" },
        named(&facts, &causes)
    );
    let mut pids: Vec<u32> = owners.iter().map(|(p, _)| p.pid).chain(other.map(|p| p.pid)).collect();
    pids.sort_unstable();
    pids.dedup();
    let subject = Subject {
        destination: Some(endpoint),
        pids: if pids.len() > 1 { pids } else { Vec::new() },
        ..match first {
            Some(process) => view.subject_of(process, netns),
            None => Subject { netns, uid: rows[0].uid, ..Subject::default() },
        }
    };
    let timeout = info(|i| i.rto_us().map(|us| u64::from(us) / 1000)).max();
    let timers = || rows.iter().filter_map(|s| s.timer);
    let calls_us = rows.iter().all(|s| silent_peer::is_accepted(view, s));
    let shared = (silent_peers > 2).then_some(SHARED_PATH);
    let steps = causes.left.iter().filter_map(|h| step(h.cause.id, calls_us)).take(3).chain(shared);
    let steps: Vec<&str> = steps.chain([TIMEOUTS, USER_TIMEOUT, RETRIES2]).collect();
    let mut finding = RULE
        .finding(severity(view, silent, &facts, silence), 0.9, summary)
        .because(match facts.heard {
            0 => "the same segment was repeated and no acknowledgement of any kind came in the meantime",
            _ => "the same segment was repeated, and what came in the meantime acknowledged nothing of it",
        })
        .subject(subject)
        .about(rows.iter().copied())
        .causes(causes)
        .lasting(waiting.map(Measure::AtLeast))
        .evidence("count", Evidence::Count(n))
        .evidence("closed_meanwhile", Evidence::Count(silent.orphans.len() as u64))
        .evidence("attempts_without_answer", Evidence::Count(silent.attempts.len() as u64))
        .evidence("connections_that_work", Evidence::Count(facts.working))
        .evidence("heard_on_them", Evidence::Count(facts.heard))
        .evidence("peer_silence_ms", Evidence::Millis(silence))
        .evidence("retransmissions_max", Evidence::count(timers().map(|t| t.retransmits.into()).max()))
        .evidence("backoff_max", Evidence::count(info(|i| i.backoff().map(u64::from)).max()))
        .evidence("gives_up_in_ms", Evidence::millis(silent.held.iter().filter_map(|s| gives_up_in_ms(view, s)).min()))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("unacknowledged_segments", Evidence::Count(info(|i| i.unacked().map(u64::from)).sum()))
        .evidence("retransmission_timeout_ms", Evidence::millis(timeout))
        .evidence("retransmitted_bytes", Evidence::Bytes(info(crate::model::TcpInfo::bytes_retrans).sum()))
        .evidence("cannot_leave_this_host", Evidence::Count(facts.kept))
        .evidence("silent_peers", Evidence::Count(silent_peers));
    finding = finding.evidence_if("dropped_by_this_host", host_drops::dropped(view, netns).map(Dropped::evidence));
    finding = finding.evidence_if("connection_tracking", conntrack::evidence(view, netns));
    finding = finding.evidence_if("next_hop", facts.way.words().map(Evidence::Text));
    if owners.len() > 1 {
        let list = owners.iter().take(5).map(|(p, n)| format!("{}: {n}", text::name(p))).collect();
        finding = finding.evidence("owners", Evidence::List(list));
    }
    Some(finding.steps(steps).fill("peer", peer).next(format!("tcpstate list -o -i -p --peer {peer}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, timer, unheld};
    use crate::model::TimerKind;

    /// A connection that has repeated its segment so often, `silence` after the last answer.
    fn dead(port: u16, retransmits: u8, silence: u64) -> Socket {
        let local = format!("10.0.0.1:{port}");
        let base = Socket { send_q_bytes: Some(100), ..row(State::Established, &local, "10.0.0.2:5432") };
        let fields = [
            ("backoff", u64::from(retransmits)),
            ("rto_us", 200_000 << retransmits),
            ("last_ack_recv_ms", silence),
            ("total_rto_time_ms", silence.saturating_sub(200)),
            ("total_rto_recoveries", 1),
            ("unacked", 1),
        ];
        timer(info(base, &fields), TimerKind::Retransmit, 200 << retransmits, retransmits)
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        world.sysctl(Sysctl::Ipv4TcpRetries1, &[3]).sysctl(Sysctl::Ipv4TcpRetries2, &[15]);
        for socket in rows {
            world.hold(812, "java", u32::from(socket.local.port), socket.inode).add(socket);
        }
        world
    }

    #[test]
    fn a_silent_peer_is_named_with_what_is_at_stake_and_when_it_ends() {
        let outcome = world([dead(5000, 4, 4500)]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(finding.subject.destination.unwrap().to_string(), "10.0.0.2:5432");
        assert_eq!(
            finding.summary,
            "1 connection of java (812) to 10.0.0.2:5432 gets no acknowledgement for at least 4.3 s, 100 bytes waiting"
        );
        assert!(finding.evidence.contains(&("gives_up_in_ms", Evidence::Millis(924_600 - 4300))), "{finding:?}");
        assert!(finding.evidence.contains(&("retransmissions_max", Evidence::Count(4))));
    }

    #[test]
    fn long_silence_or_two_sockets_far_backed_off_are_high() {
        let severity = |rows: Vec<Socket>| world(rows).check(check).findings[0].severity;
        assert_eq!(severity(vec![dead(5000, 6, 13_000)]), Severity::Warning);
        assert_eq!(severity(vec![dead(5000, 6, 13_000), dead(5001, 6, 13_000)]), Severity::High);
        assert_eq!(severity(vec![dead(5000, 4, 59_999)]), Severity::Warning);
        assert_eq!(severity(vec![dead(5000, 4, 60_000)]), Severity::High);
    }

    #[test]
    fn loss_probes_orphans_and_answering_peers_are_silent() {
        // Two repetitions; a running timer without any; an orphan; a lossy link on which answers keep coming.
        let orphan = unheld(Socket { state: State::FinWait1, shutdown: Some(3), ..dead(5002, 7, 20_000) });
        let rows = [dead(5000, 2, 20_000), dead(5001, 0, 20_000), orphan, dead(5003, 3, 399)];
        assert_eq!(world(rows).check(check), Outcome::default());
        assert_eq!(world([dead(5003, 3, 401)]).check(check).findings.len(), 1);
        // A sysctl that asks for more.
        assert_eq!(world([dead(5000, 3, 5000)]).sysctl(Sysctl::Ipv4TcpRetries1, &[4]).check(check), Outcome::default());
    }

    #[test]
    fn segments_that_do_not_leave_this_host_are_told_from_a_silent_peer() {
        let held_back = |probes, window: u64| {
            let row = info(
                Socket { send_q_bytes: Some(100), ..row(State::Established, "10.0.0.1:5000", "10.0.0.2:5432") },
                &[("snd_wnd_bytes", window), ("rto_us", 200_000), ("last_ack_recv_ms", 20_000)],
            );
            world([timer(row, TimerKind::ZeroWindowProbe, 900, probes)]).check(check)
        };
        let outcome = held_back(3, 64_512);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert!(finding.summary.ends_with("do not leave this host (no route, no interface, or a local firewall)"));
        assert!(finding.remedy[0].contains("ip route get 10.0.0.2"), "{:?}", finding.remedy);
        assert_eq!(held_back(3, 0), Outcome::default(), "a zero window");
        assert_eq!(held_back(2, 64_512), Outcome::default());
    }

    #[test]
    fn a_client_that_an_accept_queue_of_this_host_dropped_is_told_why() {
        let mut world = world([dead(5000, 4, 4500)]);
        world.now.netns[0].addresses = vec!["10.0.0.2".parse().unwrap()];
        world.add(listen("0.0.0.0:5432", 6, 5));
        let summary = |world: &World| world.check(check).findings[0].summary.clone();
        assert!(summary(&world).ends_with(
            ": the accept queue of 0.0.0.0:5432 on this host overflows, and the server never heard of them"
        ));
        world.now.sockets[1].recv_q_bytes = 5;
        assert!(summary(&world).ends_with("100 bytes waiting"), "{}", summary(&world));
    }

    #[test]
    fn a_peer_on_this_host_is_named_too() {
        let mut world = world([dead(5000, 4, 4500)]);
        let far = row(State::Established, "10.0.0.2:5432", "10.0.0.1:5000");
        world.hold(900, "postgres", 9, far.inode).add(far);
        let outcome = world.check(check);
        assert_eq!(outcome.findings[0].subject.pids, [812, 900]);
        assert!(outcome.findings[0].summary.contains("postgres (900)"), "{}", outcome.findings[0].summary);
    }

    /// A connection of the same client that was heard just now.
    fn works(port: u16, more: &[(&str, u64)]) -> Socket {
        let base = row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:5432");
        info(base, &[&[("last_ack_recv_ms", 50), ("last_data_recv_ms", 50)], more].concat())
    }

    fn with(mut socket: Socket, fields: &[(&str, u64)]) -> Socket {
        let mut known = socket.info.as_deref().cloned().unwrap();
        for (name, value) in fields {
            assert!(known.set(name, *value), "{name}");
        }
        socket.info = Some(known.into());
        socket
    }

    fn leads(rows: impl IntoIterator<Item = Socket>) -> (&'static str, Vec<&'static str>) {
        let causes = world(rows).check(check).findings.remove(0).causes;
        (causes.left[0].cause.id, causes.ruled_out.iter().map(|(c, _)| c.id).collect())
    }

    #[test]
    fn rivals_of_a_dead_host_are_weighed() {
        let heard = |port, idle: u64| {
            with(
                dead(port, 5, 9000 + idle),
                &[
                    ("bytes_received", 9),
                    ("bytes_acked", 10),
                    ("last_data_recv_ms", 9000 + idle),
                    ("total_rto_time_ms", 9000),
                    ("total_rto_recoveries", 1),
                    ("snd_mss_bytes", 1448),
                    ("delivered", 3),
                ],
            )
        };
        let (first, out) = leads([heard(5000, 0), heard(5001, 0)]);
        assert_eq!(first, "host-down");
        assert!(out.contains(&"mtu-black-hole") && out.contains(&"one-backend-down") && out.contains(&"lossy-path"));
        // New connections work: the idle ones were forgotten, those in use had another backend.
        let (first, out) = leads([heard(5000, 3000), heard(5001, 3000), works(5002, &[])]);
        assert!(first == "path-forgot-flow" && out.contains(&"host-down"), "{first}");
        assert_eq!(leads([heard(5000, 2999), heard(5001, 2999), works(5002, &[])]).0, "one-backend-down");
        // Full-size segments after small ones.
        let large = |port| {
            let size = [("snd_mss_bytes", 1448), ("unacked", 10), ("bytes_acked", 1001), ("delivered", 11)];
            Socket { send_q_bytes: Some(14_480), ..with(heard(port, 0), &size) }
        };
        assert_eq!(leads([large(5000), large(5001)]).0, "mtu-black-hole");
        let full_before = with(large(5000), &[("bytes_acked", 14_481)]);
        assert_eq!(leads([full_before.clone()]).0, "host-down");
        assert!(leads([large(5000), heard(5001, 0)]).1.contains(&"mtu-black-hole"), "one repeats a small segment");
        assert!(leads([dead(5000, 5, 9000), works(5001, &[])]).0 == "peer-accept-queue-full", "never heard");
        // New attempts fail too: nothing was forgotten, and a SYN is small.
        let syn =
            |repeats| timer(row(State::SynSent, "10.0.0.1:5009", "10.0.0.2:5432"), TimerKind::Retransmit, 300, repeats);
        let (first, out) = leads([large(5000), large(5001), syn(1)]);
        assert!(first == "host-down" && out.contains(&"path-forgot-flow") && out.contains(&"mtu-black-hole"));
        assert_eq!(leads([large(5000), large(5001), syn(0)]).0, "mtu-black-hole", "it may be answered yet");
        // Another port of the address is heard, this one is not, and takes nothing new.
        let elsewhere =
            Socket { peer: row(State::Established, "10.0.0.1:5010", "10.0.0.2:80").peer, ..works(5010, &[]) };
        let (first, out) = leads([heard(5000, 0), heard(5001, 0), syn(1), elsewhere.clone()]);
        assert_eq!(first, "port-filtered");
        assert!(out.contains(&"host-down") && out.contains(&"path-forgot-flow"), "{out:?}");
        assert!(!leads([heard(5000, 0), syn(0), elsewhere]).1.contains(&"path-forgot-flow"), "it may be answered yet");
        assert!(leads([heard(5000, 0), works(5002, &[])]).1.contains(&"port-filtered"));
    }

    #[test]
    fn what_the_program_gave_up_counts_while_it_calls_again() {
        let given_up = |port| unheld(Socket { state: State::FinWait1, shutdown: Some(3), ..dead(port, 5, 7000) });
        let mut world = world([given_up(45_000), given_up(45_001)]);
        assert_eq!(world.check(check), Outcome::default(), "nobody calls");
        let syn = timer(row(State::SynSent, "10.0.0.1:45002", "10.0.0.2:5432"), TimerKind::Retransmit, 300, 0);
        world.hold(812, "java", 9, syn.inode).add(syn);
        let outcome = world.check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::High, Some(812)));
        assert_eq!(
            finding.summary,
            "2 connections of java (812) to 10.0.0.2:5432 get no acknowledgement for at least 6.8 s, 200 bytes waiting, \
             all closed by the program meanwhile, and 1 new attempt without an answer"
        );
        world.add(works(45_003, &[]));
        assert_eq!(world.check(check).findings, [], "others are answered");
    }

    #[test]
    fn a_client_that_vanished_is_an_explanation_and_several_at_one_address_a_warning() {
        let of = |n: u16| {
            let mut world = World::new();
            world.add(listen("0.0.0.0:80", 0, 128)).hold(900, "nginx", 3, 80 << 16);
            for port in 5000..5000 + n {
                let base = row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{port}"));
                let socket = Socket { info: dead(port, 7, 70_000).info, timer: dead(port, 7, 0).timer, ..base };
                world.hold(900, "nginx", u32::from(port), socket.inode).add(socket);
            }
            world.check(check).findings[0].severity
        };
        assert_eq!((of(2), of(3)), (Severity::Info, Severity::Warning));
    }

    #[test]
    fn without_tcp_info_the_rule_says_that_it_could_not_judge() {
        let outcome = world([Socket { info: None, ..dead(5000, 9, 0) }]).check(check);
        assert!(outcome.findings.is_empty() && outcome.not_checked.is_some());
    }
}
