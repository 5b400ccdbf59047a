//! Data was sent and no acknowledgement comes: the peer or the path to it is gone, and the kernel keeps trying.
//!
//! Comes in: held connections whose retransmission timer runs. Goes out: one finding per silent peer. Never here:
//! orphans (see `fin-wait1-stuck`), and peers that answer with a shut window (see `zero-window-peer`).
//!
#![doc = include_str!("../../../docs/rules/dead-peer-retransmit.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnose::Outcome;
use crate::diagnose::callers;
use crate::diagnose::closing;
use crate::diagnose::delivery::{is_silent, repeats};
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::peers::{self, Peers};
use crate::diagnose::ranking;
use crate::diagnose::retries;
use crate::diagnose::rule::{Rule, Text, rule};
use crate::diagnose::view::View;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, NetnsId, Process, Socket, State};
use crate::text;

pub(super) const RULE: Rule =
    rule!("dead-peer-retransmit", Established, One, "data sent, no acknowledgement", check, [TEXT]);

const WAY_OUT: &str = "Check the way out: `ip route get {peer}`, the state of the interface, rules of OUTPUT";
const TIMEOUTS: &str = "Set request and write timeouts in the application, and close the connection when they fire";
const USER_TIMEOUT: &str = "Set TCP_USER_TIMEOUT on the sockets to the time after which an answer is of no use";
const SHARED_PATH: &str =
    "Several peers are silent at once: check the path they share (VPN, security groups, a gateway, the MTU)";
const ONE_HOST: &str = "Check that host and the path to it; large packets that alone get lost look like this too (MTU)";
const RETRIES2: &str = "Last, tcp_retries2 for the whole host, not below 8";

const TEXT: Text = Text {
    why: "Data was sent and not even a refusal comes back: a host that had merely restarted would answer with RST. \
          The kernel doubles the wait after each repetition and goes on for about 15 minutes by default; until then \
          a write or a request without a time limit just waits.",
    remedy: &[WAY_OUT, TIMEOUTS, USER_TIMEOUT, SHARED_PATH, ONE_HOST, RETRIES2],
    avoid: &[
        "Don't set tcp_retries2 below 8: short outages would kill healthy connections (RFC 1122 asks for 100 s)",
        "Don't rely on keepalive: it does not run while data is unacknowledged",
    ],
};

/// 13 s of silence with the smallest timeout, on so many sockets to one peer (policy, as the page says).
const BACKOFF_HIGH: u8 = 6;
const BACKOFF_HIGH_SOCKETS: usize = 2;
/// Silence that is high by itself (policy, as the page says).
const SILENCE_HIGH_MS: u64 = 60_000;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut peers: BTreeMap<(Option<NetnsId>, IpAddr), Vec<&Socket>> = BTreeMap::new();
    let mut without_ages = 0u64;
    for socket in view.active().filter(|s| repeats(view, s)) {
        match is_silent(socket) {
            Some(true) => peers.entry((socket.netns, socket.peer.normalised().addr)).or_default().push(socket),
            Some(false) => {}
            None => without_ages += 1,
        }
    }
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
    let silent_peers = peers.len() as u64;
    let findings =
        peers.into_iter().map(|((netns, peer), rows)| finding(view, &ends, netns, peer, &rows, silent_peers));
    Outcome::findings(ranking::worst(findings.collect()))
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

fn finding(
    view: &View<'_>,
    ends: &Peers<'_, '_>,
    netns: Option<NetnsId>,
    peer: IpAddr,
    rows: &[&Socket],
    silent_peers: u64,
) -> Finding {
    let n = rows.len() as u64;
    let info =
        |value: fn(&crate::model::TcpInfo) -> Option<u64>| rows.iter().filter_map(move |s| value(s.info.as_deref()?));
    let silence = closing::silence_ms(rows).map_or(0, |(longest, _)| longest);
    let backed_off = info(|i| i.backoff().map(u64::from)).filter(|b| *b >= BACKOFF_HIGH.into()).count();
    let high = silence >= SILENCE_HIGH_MS || backed_off >= BACKOFF_HIGH_SOCKETS;
    let owners = owners(ends, rows);
    let other = rows.iter().find_map(|s| ends.other(s));
    let first = owners.first().map(|(process, _)| *process);
    let who = match (first, owners.len()) {
        (Some(process), 1) => text::name(process),
        (Some(process), n) => {
            format!("{} and {}", text::name(process), text::count(n as u64 - 1, "other process", "other processes"))
        }
        (None, _) => peers::nobody(view, rows.first().copied()),
    };
    let send_q = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let at_stake = send_q.map_or_else(String::new, |b| format!(", {} not acknowledged", text::bytes(b)));
    let far = other.map_or_else(String::new, |p| format!(", held there by {} of this host,", text::name(p)));
    // Of this host, and never accepted: the server's queue dropped the end of the handshake.
    let unheard = |s: &&Socket| view.mirror(s).is_none_or(|m| m.state == State::SynRecv);
    let overflowing = rows
        .iter()
        .copied()
        .filter(unheard)
        .find_map(|s| callers::called(view, s).filter(|q| callers::overflows(view, q)));
    let kept = rows.iter().filter(|s| peers::cannot_leave(s)).count();
    let cause = match overflowing {
        Some(q) => {
            format!("; the accept queue of {} on this host overflows, and the server never heard of them", q.local)
        }
        None if kept * 2 > rows.len() => {
            "; our segments do not leave this host (no route, no interface, or a local firewall)".to_owned()
        }
        None => String::new(),
    };
    let summary = format!(
        "{} of {who} to {peer}{far} {} no answer: silent for {}{at_stake}{cause}",
        text::count(n, "connection", "connections"),
        if n == 1 { "gets" } else { "get" },
        text::duration(silence)
    );
    let endpoint = peers::common_peer(rows).unwrap_or(Endpoint::new(peer, 0));
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
    let mut finding = RULE
        .finding(if high { Severity::High } else { Severity::Warning }, 0.9, summary)
        .because("the same segment was repeated and no acknowledgement of any kind came in the meantime")
        .subject(subject)
        .evidence("count", Evidence::Count(n))
        .evidence("peer_silence_ms", Evidence::Millis(silence))
        .evidence("retransmissions_max", Evidence::count(timers().map(|t| t.retransmits.into()).max()))
        .evidence("backoff_max", Evidence::count(info(|i| i.backoff().map(u64::from)).max()))
        .evidence("gives_up_in_ms", Evidence::millis(rows.iter().filter_map(|s| gives_up_in_ms(view, s)).min()))
        .evidence("send_queue_bytes", send_q.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("unacknowledged_segments", Evidence::Count(info(|i| i.unacked().map(u64::from)).sum()))
        .evidence("retransmission_timeout_ms", Evidence::millis(timeout))
        .evidence("retransmitted_bytes", Evidence::Bytes(info(crate::model::TcpInfo::bytes_retrans).sum()))
        .evidence("cannot_leave_this_host", Evidence::Count(kept as u64))
        .evidence("silent_peers", Evidence::Count(silent_peers));
    if owners.len() > 1 {
        let list = owners.iter().take(5).map(|(p, n)| format!("{}: {n}", text::name(p))).collect();
        finding = finding.evidence("owners", Evidence::List(list));
    }
    let way_out = (kept > 0).then_some(WAY_OUT);
    let path = if silent_peers > 2 { SHARED_PATH } else { ONE_HOST };
    let steps = way_out.into_iter().chain([TIMEOUTS, USER_TIMEOUT, path, RETRIES2]);
    finding.steps(steps).fill("peer", peer).next(format!("tcpstate list -o -i -p --peer {peer}"))
}

/// The owners of rows, the one with most of them first.
fn owners<'a>(ends: &Peers<'_, 'a>, rows: &[&Socket]) -> Vec<(&'a Process, u64)> {
    let mut counts: BTreeMap<u32, (&'a Process, u64)> = BTreeMap::new();
    for process in rows.iter().filter_map(|s| ends.owner(s)) {
        counts.entry(process.pid).or_insert((process, 0)).1 += 1;
    }
    let mut owners: Vec<_> = counts.into_values().collect();
    owners.sort_by_key(|(process, n)| (std::cmp::Reverse(*n), process.pid));
    owners
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
            ("unacked", 1),
        ];
        timer(info(base, &fields), TimerKind::Retransmit, 900, retransmits)
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
            "1 connection of java (812) to 10.0.0.2 gets no answer: silent for 4.5 s, 100 bytes not acknowledged"
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
        assert_eq!(held_back(3, 0), Outcome::default(), "a shut window");
        assert_eq!(held_back(2, 64_512), Outcome::default());
    }

    #[test]
    fn a_client_that_an_accept_queue_of_this_host_dropped_is_told_why() {
        let mut world = world([dead(5000, 4, 4500)]);
        world.now.netns[0].addresses = vec!["10.0.0.2".parse().unwrap()];
        world.add(listen("0.0.0.0:5432", 6, 5));
        let summary = |world: &World| world.check(check).findings[0].summary.clone();
        assert!(summary(&world).ends_with(
            "; the accept queue of 0.0.0.0:5432 on this host overflows, and the server never heard of them"
        ));
        world.now.sockets[1].recv_q_bytes = 5;
        assert!(summary(&world).ends_with("not acknowledged"), "{}", summary(&world));
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

    #[test]
    fn without_tcp_info_the_rule_says_that_it_could_not_judge() {
        let outcome = world([Socket { info: None, ..dead(5000, 9, 0) }]).check(check);
        assert!(outcome.findings.is_empty() && outcome.not_checked.is_some());
    }
}
