//! Segments wait in a queue on the path.
//!
//! Input: the round trips of connections in use, in both samples. Output: one finding per address. Not here: a long path, whose
//! shortest round trip is long too, and loss (`lossy-destination`).
//!
#![doc = include_str!("../../../docs/rules/round-trip-grown.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::limited::MOVED_BYTES;
use crate::diagnose::peers::{self, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State, TcpInfo, TimerKind};
use crate::text;

pub(super) const RULE: Rule =
    rule!("round-trip-grown", Established, Two, "segments wait in a queue on the path", check, [TEXT])
        .states(&[State::Established])
        .title("long round trips")
        .identity(Identity::Destination)
        .causes(CAUSES);

const QUEUE: &str = "Where the path is narrowest give it a short, fair queue: `tc qdisc replace dev DEV root cake bandwidth RATE`, \
                     with a rate a little below that of the link";
const PACE: &str = "Limit the rate of the transfer (`--bwlimit`, `--limit-rate`, SO_MAX_PACING_RATE), or send it with \
                    net.ipv4.tcp_congestion_control = bbr, which keeps the queue short";
const PEER: &str = "Look whether the host of {peer} gets CPU time and is awake: a kernel acknowledges at once";

const TEXT: Text = Text {
    why: "A sender that fills the narrowest link of a path fills the queue before it too, until segments are lost. In a queue of \
          megabytes each segment waits for seconds, those of small requests as well.",
    remedy: &[QUEUE, PACE, PEER],
    avoid: &[
        "Don't raise tcp_wmem, tcp_rmem or txqueuelen: the queue becomes longer, and nothing faster",
        "Don't lengthen timeouts of requests alone: they wait behind the transfer all the same",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "own-transfer",
        text: "a transfer of this host fills a queue on the way",
        predicts: "a connection to the address has much in flight, and moves much",
        refuted_by: "little in flight on all connections to the address",
        decided_by: "the round trip while the transfer rests",
    },
    Cause {
        id: "others-transfer",
        text: "others fill a queue on the way, or the way back",
        predicts: "round trips that grow and shrink with their traffic",
        refuted_by: "a path that nobody shares",
        decided_by: "the counters of the links on the way (`ip -s link`, `tc -s qdisc`)",
    },
    Cause {
        id: "peer-late",
        text: "the peer's host acknowledges late: it gets no CPU time, or sleeps",
        predicts: "other hosts behind the same links answer at once",
        refuted_by: "`ping` to another host on the way that takes as long",
        decided_by: "`ping` to the peer and to the hop before it",
    },
];

/// A round trip this long is felt, whatever is asked (policy).
const LONG_US: u32 = 1_000_000;
/// So many times the shortest one: a queue, and no long path (policy).
const TIMES: u32 = 20;

type Place = (Option<NetnsId>, IpAddr);

pub(super) fn check(view: &View<'_>) -> Outcome {
    let mut places: BTreeMap<Place, Vec<&Socket>> = BTreeMap::new();
    for socket in view.restless_rows().map(|(s, _)| s).filter(|s| waits_on_the_way(view, s)) {
        places.entry((socket.netns, socket.peer.normalised().addr)).or_default().push(socket);
    }
    // Times of which none is fresh may be old ones.
    places.retain(|_, rows| rows.iter().any(|s| moved(view, s) > 0));
    if places.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let findings = places.into_iter().filter_map(|(place, rows)| finding(view, &ends, place, &rows)).collect();
    Outcome::findings(ranking::alike(findings))
}

/// The round trip was long in both samples, and is measured: something was acknowledged between them, or is under way in both. A
/// request that was sent again once may have been so for the queue alone.
fn waits_on_the_way(view: &View<'_>, socket: &Socket) -> bool {
    let is_long = |s: &Socket| {
        let info = s.info.as_deref()?;
        let (now, least) = (info.rtt_us()?, info.min_rtt_us().filter(|us| *us > 0)?);
        Some(now >= LONG_US && now / TIMES >= least)
    };
    let repeats = socket.timer.is_some_and(|t| t.kind == TimerKind::Retransmit && t.retransmits > 1);
    socket.state == State::Established
        && !repeats
        && view.mirror(socket).is_none()
        && is_long(socket) == Some(true)
        && view.earlier(socket).and_then(is_long) == Some(true)
        && (moved(view, socket) > 0 || in_flight(socket) > 0 && view.earlier(socket).is_some_and(|s| in_flight(s) > 0))
}

fn moved(view: &View<'_>, socket: &Socket) -> u64 {
    view.grown(socket, TcpInfo::bytes_acked).unwrap_or(0)
}

fn in_flight(socket: &Socket) -> u64 {
    let bytes = || u64::from(socket.send_q_bytes?).checked_sub(socket.info.as_deref()?.notsent_bytes()?.into());
    bytes().unwrap_or(0)
}

fn finding<'a>(view: &View<'a>, ends: &Peers<'_, 'a>, (netns, addr): Place, rows: &[&'a Socket]) -> Option<Finding> {
    let groups = ends.groups(rows.iter().copied(), false);
    let group = groups.first()?;
    let info = |value: fn(&TcpInfo) -> Option<u32>| rows.iter().filter_map(move |s| value(s.info.as_deref()?));
    let (rtt, least) = (info(TcpInfo::rtt_us).max()?, info(TcpInfo::min_rtt_us).filter(|us| *us > 0).min()?);
    let (flies, bulk): (u64, u64) =
        (rows.iter().map(|s| in_flight(s)).sum(), rows.iter().map(|s| moved(view, s)).sum());
    // Small requests wait in the queue of somebody else.
    let small = rows.iter().filter(|s| moved(view, s) < MOVED_BYTES && in_flight(s) < MOVED_BYTES).count() as u64;
    let causes = Weighed::of(CAUSES, |cause| match cause.id {
        "own-transfer" if flies >= MOVED_BYTES => Weight::Possible(0.8),
        "own-transfer" => Weight::Refuted(format!("{} in flight on all of them", text::bytes(flies))),
        "others-transfer" => Weight::Possible(if flies >= MOVED_BYTES { 0.15 } else { 0.6 }),
        _ => Weight::Possible(0.15),
    });
    let n = rows.len() as u64;
    let who = match groups.len() {
        1 => group.name(view),
        several => format!("{} and {}", group.name(view), text::count(several as u64 - 1, "other", "others")),
    };
    let victims = match small {
        0 => String::new(),
        small => format!("; {} of them carry little", text::grouped(small)),
    };
    let summary = format!(
        "segments to {addr} take {} there and back on {} of {who}, {} ms at the shortest{victims}",
        text::duration(u64::from(rtt) / 1000),
        text::count(n, "connection", "connections"),
        text::grouped(u64::from(least) / 1000),
    );
    let destination = peers::common_peer(rows).unwrap_or(Endpoint::new(addr, 0));
    let steps: &[&str] = if flies >= MOVED_BYTES { &[QUEUE, PACE] } else { &[QUEUE, PEER] };
    // Of many clients some always have a bad line; that is nobody's fault here.
    let is_their_line = flies < MOVED_BYTES && rows.iter().all(|s| silent_peer::is_accepted(view, s));
    let severity = if small > 0 && !is_their_line { Severity::Warning } else { Severity::Info };
    let finding = RULE
        .finding(severity, 0.85, summary)
        .because("the kernel measures each round trip; both samples have the long one, and the same connections had the short one")
        .causes(causes)
        .steps(steps.iter().copied())
        .subject(Subject { netns, destination: Some(destination), ..group.subject(view) })
        .about(rows.iter().copied())
        .fill("peer", addr)
        .evidence("count", Evidence::Count(n))
        .evidence("rtt_ms", Evidence::Millis(u64::from(rtt) / 1000))
        .evidence("min_rtt_ms", Evidence::Millis(u64::from(least) / 1000))
        .evidence("in_flight_bytes", Evidence::Bytes(flies))
        .evidence("moved_bytes", Evidence::Bytes(bulk))
        .evidence("small_ones", Evidence::Count(small))
        .next(format!("tcpstate list --state established -i -p --peer {addr}"));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer};

    /// A connection that moved so many bytes in two seconds, with a round trip in each sample and the shortest one.
    fn world(moves: &[u64], (before_us, now_us, least_us): (u64, u64, u64)) -> World {
        let mut world = World::new();
        for (port, _) in (40_000u32..).zip(moves) {
            let fields = [("rtt_us", before_us), ("min_rtt_us", least_us), ("bytes_acked", 1000), ("notsent_bytes", 0)];
            let base = row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.2:6379");
            let socket = Socket { send_q_bytes: Some(14), ..info(base, &fields) };
            world.hold(812, "app", port, socket.inode).add(socket);
        }
        world.later(2000);
        for (socket, moved) in world.now.sockets.iter_mut().zip(moves) {
            let bulk = *moved >= MOVED_BYTES;
            socket.send_q_bytes = Some(if bulk { 900_000 } else { 14 });
            let info = socket.info.as_mut().unwrap();
            assert!(
                info.set("rtt_us", now_us) && info.set("bytes_acked", 1000 + moved) && info.set("notsent_bytes", 0)
            );
        }
        world
    }

    const GROWN: (u64, u64, u64) = (4_800_000, 5_200_000, 11_000);

    #[test]
    fn small_requests_behind_a_transfer_are_a_warning() {
        let outcome = world(&[400_000, 14], GROWN).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "segments to 10.0.0.2 take 5.2 s there and back on 2 connections of app (812), 11 ms at the shortest; 1 of \
             them carry little"
        );
        assert_eq!(finding.causes.left[0].cause.id, "own-transfer");
        let waits = world(&[400_000, 0], GROWN).check(check).findings.remove(0);
        assert_eq!(waits.severity, Severity::Warning, "its request is under way in both samples");
        let others = world(&[14, 14], GROWN).check(check).findings.remove(0);
        assert_eq!((others.severity, others.causes.left[0].cause.id), (Severity::Warning, "others-transfer"));
        assert_eq!(world(&[400_000], GROWN).check(check).findings[0].severity, Severity::Info, "only itself");
    }

    #[test]
    fn long_paths_stale_times_and_repetitions_are_silent() {
        let silent = |world: World| assert_eq!(world.check(check), Outcome::default());
        silent(world(&[400_000, 14], (999_999, 5_200_000, 11_000)));
        silent(world(&[400_000, 14], (4_800_000, 999_999, 11_000)));
        silent(world(&[400_000, 14], (1_200_000, 1_200_000, 60_001)));
        silent(world(&[0, 0], GROWN));
        let mut repeats = world(&[14], GROWN);
        repeats.now.sockets[0] = timer(repeats.now.sockets[0].clone(), TimerKind::Retransmit, 500, 2);
        silent(repeats);
        let mut here = world(&[14], GROWN);
        here.add(row(State::Established, "10.0.0.2:6379", "10.0.0.1:40000"));
        silent(here);
    }
}
