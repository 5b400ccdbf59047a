//! Segments to a peer are lost on the way: a notable share of them was sent again between two samples.
//!
//! Input: segments and repetitions per peer between two samples; with a trace the repetitions of connections that left no
//! row. Output: a finding per peer, per prefix of peers, or for all peers of a namespace. Not here: peers that are silent
//! (`dead-peer-retransmit`), and full-size segments that die (`mtu-black-hole`).
//!
#![doc = include_str!("../../../docs/rules/lossy-destination.md")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::aggregate::Prefix;
use crate::diagnose::Outcome;
use crate::diagnose::delivery;
use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::diagnose::host_drops::{self, Dropped};
use crate::diagnose::hypothesis::{Weighed, Weight};
use crate::diagnose::loss::{self, CAUSES, Sent};
use crate::diagnose::measure::Share;
use crate::diagnose::mtu;
use crate::diagnose::peers::{self, Peers};
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::snapshot::Asked;
use crate::model::traced::Retransmits;
use crate::model::{Endpoint, NetnsId, Socket};
use crate::text;

pub(super) const RULE: Rule =
    rule!("lossy-destination", Established, Two, "segments to a peer are lost on the way", check, [TEXT])
        .title("loss on the path")
        .identity(Identity::Destination)
        .causes(CAUSES)
        .traced();

const FIND: &str =
    "Find where they are lost: `mtr -T -P {port} {addr}` in both directions, then the devices of that hop";
const LOCAL: &str = "Look at this host's own end: `ip -s link` (errors, dropped), `tc -s qdisc` (dropped), `ethtool -S`, \
                     `nstat -az | grep -i drop`";
const QUEUE: &str = "Keep the queue short: fq_codel or cake at the bottleneck, fewer parallel transfers, or pacing (`tc qdisc \
                     replace dev DEVICE root fq` with BBR)";
const PEER: &str = "On the peer: `nstat -az | grep -i -e prune -e drop -e overflow`, and `tcpstate doctor`";
const ACCEPT: &str = "On the peer compare Recv-Q and Send-Q of the listener (`ss -ltn`): its accept queue is too short for the \
                      bursts, or its program accepts too slowly";
const REORDER: &str = "Look for a path that reorders: bonding or ECMP that spreads one connection over several links";

const TEXT: Text = Text {
    why: "Each loss costs a round trip at best and a timeout of 200 ms or more at worst, and TCP sends more slowly after it: 1 % \
          of loss cuts a transfer over a long path to a fraction, and 5 % makes requests hang for seconds.",
    remedy: &[FIND, LOCAL, QUEUE, REORDER, ACCEPT, PEER],
    avoid: &[
        "Don't raise buffers or windows: more segments under way lose more of them",
        "Don't restart the programs: they do nothing wrong",
    ],
};

/// So many lost segments are no chance (policy).
const LOST: u64 = 10;
/// From this share on it is worth an explanation, in percent (policy).
const SOME_PERCENT: f64 = 1.0;
/// So many segments tell that a peer loses none, at the shares that this rule reports.
const MEASURED: u64 = 50;
/// From so many lossy peers on they are told as one.
const TOGETHER: usize = 3;
/// What a prefix of peers is.
const NETWORK: Prefix = Prefix { v4: 24, v6: 64 };
/// A queue shows by so many milliseconds at least.
const QUEUE_MS: u64 = 10;
/// Percent of the interval in which the peer's window held its connections back, from which on the peer is short of room.
const WINDOW_PERCENT: u64 = 10;
/// One sample: repetitions of a connection so far that make a second sample worth its time.
const SUSPECTED: u32 = 5;

/// The peers that a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Peer(IpAddr),
    /// So many peers of one network.
    Network(IpAddr, u8, usize),
    /// So many of the peers that were sent to.
    All(usize, usize),
}

pub(super) fn check(view: &View<'_>) -> Outcome {
    if view.before.is_none() {
        return suspicion(view);
    }
    let mut by_address = loss::by_address(view);
    // Full-size segments that die are not lost by chance.
    let holes = if by_address.values().any(is_lossy) { mtu::black_holes(view) } else { BTreeMap::new() };
    let ends = Peers::new(view);
    by_address.retain(|place, _| !holes.contains_key(place));
    let mut findings = Vec::new();
    for netns in view.now.netns.iter().map(|n| n.inode) {
        let sent: Vec<(IpAddr, &Sent<'_>)> =
            by_address.iter().filter(|((of, _), _)| *of == netns).map(|((_, addr), sent)| (*addr, sent)).collect();
        let places = places(&sent);
        if places.is_empty() {
            findings.extend(traced_only(view, netns));
        }
        findings.extend(places.into_iter().map(|(place, lossy)| finding(view, &ends, netns, place, &lossy, &sent)));
    }
    let destinations = by_address.iter().filter(|(_, sent)| is_lossy(sent)).map(|(place, _)| *place).take(8);
    let asked = Asked { destinations: destinations.collect(), ..Asked::default() };
    Outcome { asked, ..Outcome::findings(findings) }
}

/// Connections that repeated more than chance does, so far.
fn suspicion(view: &View<'_>) -> Outcome {
    let is = |socket: &&Socket| {
        let info = socket.info.as_deref()?;
        // Most rows repeated nothing, which one field tells.
        let repeated = info.total_retrans().filter(|n| *n >= SUSPECTED)?;
        let lately = info.last_data_sent_ms()? < 5000;
        Some(lately && u64::from(repeated) * 100 >= u64::from(info.data_segs_out()?))
    };
    match view.now.sockets.iter().filter(|s| s.state.has_peer()).filter(|s| is(s) == Some(true)).count() {
        0 => Outcome::default(),
        n => Outcome::wants_second(format!(
            "whether the path still loses what {} send",
            text::count(n as u64, "connection", "connections")
        )),
    }
}

fn is_lossy(sent: &Sent<'_>) -> bool {
    sent.repeated >= LOST && Share::of(sent.repeated, sent.segments).is_some_and(|s| s.percent() >= SOME_PERCENT)
}

/// The lossy peers of a namespace: all together when most peers are, else by network, else each for itself.
fn places<'s, 'a>(sent: &[(IpAddr, &'s Sent<'a>)]) -> Vec<(Place, Vec<&'s Sent<'a>>)> {
    let lossy: Vec<&(IpAddr, &Sent<'_>)> = sent.iter().filter(|(_, s)| is_lossy(s)).collect();
    let measured =
        |peers: &[&(IpAddr, &'s Sent<'a>)]| peers.iter().filter(|(_, s)| is_lossy(s) || s.segments >= MEASURED).count();
    let all: Vec<&(IpAddr, &Sent<'_>)> = sent.iter().collect();
    if lossy.len() >= TOGETHER && lossy.len() * 2 > measured(&all) {
        return vec![(Place::All(lossy.len(), measured(&all)), lossy.iter().map(|(_, s)| *s).collect())];
    }
    let mut networks: BTreeMap<(IpAddr, u8), Vec<&(IpAddr, &Sent<'_>)>> = BTreeMap::new();
    for peer in lossy {
        networks.entry(NETWORK.of(peer.0)).or_default().push(peer);
    }
    let mut places = Vec::new();
    for ((network, length), peers) in networks {
        let beside: Vec<_> = sent.iter().filter(|(addr, _)| NETWORK.of(*addr) == (network, length)).collect();
        if peers.len() >= TOGETHER && peers.len() * 2 > measured(&beside) {
            let place = Place::Network(network, length, peers.len());
            places.push((place, peers.iter().map(|(_, s)| *s).collect()));
        } else {
            places.extend(peers.iter().map(|(addr, s)| (Place::Peer(*addr), vec![*s])));
        }
    }
    places
}

/// How many peers were sent to and lost nothing that counts.
fn clean(all: &[(IpAddr, &Sent<'_>)]) -> u64 {
    all.iter().filter(|(_, s)| !is_lossy(s) && s.segments >= MEASURED).count() as u64
}

/// Where only the first data of new connections is repeated: so many handshakes of the namespace were, too, of which each is
/// two segments or more that the same path carries. A full accept queue drops some SYNs as well.
fn first_words_alone(view: &View<'_>, netns: Option<NetnsId>, sum: &Sent<'_>) -> Option<u64> {
    let alone = sum.first_words >= LOST && sum.first_words * 10 >= sum.repeated * 9;
    view.delta(netns, Counter::TcpExtTcpSynRetrans).filter(|_| alone)
}

/// Whether the peer's window held these connections back, so that it is short of room.
fn is_short_of_window(view: &View<'_>, sum: &Sent<'_>) -> bool {
    let all_us = view.interval_ms().unwrap_or(0) * 1000 * sum.rows.len() as u64;
    all_us > 0 && sum.window_us * 100 >= all_us * WINDOW_PERCENT
}

fn weigh(
    view: &View<'_>,
    netns: Option<NetnsId>,
    place: Place,
    sum: &Sent<'_>,
    clean: u64,
    dropped: Option<u64>,
) -> Weighed {
    let first = first_words_alone(view, netns, sum);
    // Of data on connections whose handshake went through, no path drops all.
    let all = first.is_some() && sum.first_words * 10 >= sum.segments * 9;
    let fewer = all || first.is_some_and(|syns| syns * 2 < sum.first_words);
    let here = dropped.is_some_and(|n| n * 2 >= sum.lost());
    let queue = sum.round_trips_ms();
    let has_queue = queue.is_some_and(|(now, least)| now >= (2 * least).max(QUEUE_MS));
    Weighed::of(CAUSES, |cause| match cause.id {
        "reordering" if sum.needless * 2 > sum.repeated => Weight::Proven,
        _ if sum.needless * 2 > sum.repeated => Weight::Refuted(format!(
            "the peer had {} of {} repeated segments already",
            text::grouped(sum.needless),
            text::grouped(sum.repeated)
        )),
        "reordering" => Weight::Refuted(match sum.needless {
            0 => "the peer reports no segment that it had already".to_owned(),
            n => format!("the peer had only {} of {}", text::grouped(n), text::grouped(sum.repeated)),
        }),
        "this-host" => match dropped {
            Some(0) => Weight::Refuted("nothing that this host counts was dropped meanwhile".to_owned()),
            Some(_) if here => Weight::Proven,
            Some(_) => Weight::Possible(0.2),
            None => Weight::Possible(0.1),
        },
        _ if here => Weight::Refuted("this host dropped about as many itself".to_owned()),
        "peer-accept-queue-full" if fewer => Weight::Possible(0.8),
        "peer-accept-queue-full" if first.is_some() => Weight::Possible(0.4),
        "peer-accept-queue-full" => Weight::Refuted("not only first data of new connections was sent again".to_owned()),
        "peer-drops" => Weight::Possible(if is_short_of_window(view, sum) { 0.4 } else { 0.1 }),
        _ if first == Some(0) => Weight::Refuted(format!(
            "no handshake was sent again, and the first data of {}",
            text::count(sum.begun, "new connection was", "new connections was")
        )),
        "queue" => match queue {
            Some((now, least)) if !has_queue => {
                Weight::Refuted(format!("the round trip is {now} ms, {least} ms at its shortest"))
            }
            Some(_) => Weight::Possible(0.6),
            None => Weight::Possible(0.3),
        },
        "all-peers" => match place {
            Place::All(..) => Weight::Possible(0.6),
            _ if clean > 0 => {
                Weight::Refuted(format!("{} lose nothing", text::count(clean, "other peer", "other peers")))
            }
            _ => Weight::Possible(0.2),
        },
        "path" if fewer => Weight::Possible(0.2),
        _ if has_queue => Weight::Possible(0.3),
        _ => Weight::Possible(0.7),
    })
}

fn severity(view: &View<'_>, place: Place, sum: &Sent<'_>, causes: &Weighed, clean: u64) -> Severity {
    let percent = sum.share().map_or(0.0, Share::percent);
    let likeliest = causes.left.first().map(|h| h.cause.id);
    let by_itself = matches!(likeliest, Some("reordering" | "queue"));
    // Of many clients some always have a bad line; that is nobody's fault here.
    let one_of_many =
        matches!(place, Place::Peer(_)) && clean >= 10 && sum.rows.iter().any(|s| silent_peer::is_accepted(view, s));
    if sum.lost() < LOST || percent < view.thresholds.loss_percent || by_itself || one_of_many {
        Severity::Info
    } else {
        Severity::Warning
    }
}

fn where_to(place: Place) -> String {
    match place {
        Place::Peer(addr) => addr.to_string(),
        Place::Network(network, length, n) => format!("{} peers of {network}/{length}", text::grouped(n as u64)),
        Place::All(n, of) if n == of => format!("all {} peers that much was sent to", text::grouped(n as u64)),
        Place::All(n, of) => format!("{} peers that much was sent to", text::of(n as u64, of as u64)),
    }
}

fn finding<'a>(
    view: &View<'a>,
    ends: &Peers<'_, 'a>,
    netns: Option<NetnsId>,
    place: Place,
    lossy: &[&Sent<'a>],
    all: &[(IpAddr, &Sent<'a>)],
) -> Finding {
    let mut sum = Sent { timeouts: Some(0), ..Sent::default() };
    for sent in lossy {
        sum.add(sent);
    }
    let clean = clean(all);
    let dropped = host_drops::dropped(view, netns);
    let causes = weigh(view, netns, place, &sum, clean, dropped.as_ref().map(Dropped::sum));
    let level = severity(view, place, &sum, &causes, clean);
    let owner = sum.rows.first().and_then(|s| ends.owner(s));
    let owner = owner.filter(|p| sum.rows.iter().all(|s| ends.owner(s).is_some_and(|o| o.pid == p.pid)));
    let destination = peers::common_peer(&sum.rows);
    let subject = match owner {
        Some(process) => Subject { destination, ..view.subject_of(process, netns) },
        None => Subject { netns, destination, ..Subject::default() },
    };
    let share = Share::of(sum.repeated, sum.segments);
    let why = causes.named().map_or_else(String::new, |cause| format!(": {}", cause.text));
    let summary = format!(
        "{} of {} to {} were sent again within {}{}{why}",
        text::grouped(sum.repeated),
        text::count(sum.segments, "segment", "segments"),
        where_to(place),
        text::duration(view.interval_ms().unwrap_or_default()),
        share.map_or_else(String::new, |share| format!(" ({share})")),
    );
    let likeliest = causes.left.first().map(|h| h.cause.id);
    let steps: &[&str] = match (likeliest, place) {
        (Some("reordering"), _) => &[REORDER],
        (Some("queue"), _) => &[QUEUE, LOCAL],
        (Some("this-host"), _) => &[LOCAL, QUEUE],
        (Some("peer-accept-queue-full"), _) => &[ACCEPT, PEER],
        (Some("peer-drops"), _) => &[PEER, FIND, LOCAL],
        (_, Place::All(..)) => &[LOCAL, FIND],
        _ if is_short_of_window(view, &sum) => &[FIND, PEER, LOCAL],
        _ => &[FIND, LOCAL],
    };
    let rows = sum.rows.len() as u64;
    let (rtt, least) = sum.round_trips_ms().unzip();
    let addr = match (place, sum.rows.first()) {
        (Place::Peer(addr), _) => addr.to_string(),
        (_, Some(first)) => first.peer.normalised().addr.to_string(),
        _ => String::new(),
    };
    let port = destination.map_or(0, |to| to.port);
    let traced = view.now.traced.as_ref().map(|traced| {
        let of = |r: &&Retransmits| r.netns == netns && sum.rows.iter().any(|s| s.peer.normalised().addr == r.peer);
        traced.retransmits.iter().filter(of).map(|r| r.handshake).sum()
    });
    let finding = RULE
        .finding(level, 0.9, summary)
        .because("the kernel counts every segment and every repetition of each connection")
        .causes(causes)
        .subject(subject)
        .about(sum.rows.iter().copied())
        .steps(steps.iter().copied())
        .fill("addr", addr)
        .fill("port", if port == 0 { sum.rows.first().map_or(443, |s| s.peer.port) } else { port })
        .evidence("connections", Evidence::Count(rows))
        .evidence("segments", Evidence::Count(sum.segments))
        .evidence("repeated", Evidence::Count(sum.repeated))
        .evidence("repeated_percent", share.map_or(Evidence::Unknown, |s| Evidence::Percent(s.percent())))
        .evidence("needless", Evidence::Count(sum.needless))
        .evidence("timeouts", Evidence::count(sum.timeouts))
        .evidence("handshakes_repeated", Evidence::count(traced))
        .evidence("rtt_ms", Evidence::millis(rtt))
        .evidence("min_rtt_ms", Evidence::millis(least))
        .evidence("peers_without_loss", Evidence::Count(clean))
        .next(match place {
            Place::Peer(addr) => format!("tcpstate list -i -o -p --peer {addr}"),
            _ => "tcpstate summary --by peer-addr/24 -c retrans-share,bytes-retrans --sort retrans-share".to_owned(),
        });
    finding.evidence_if("dropped_by_this_host", dropped.map(Dropped::evidence))
}

/// Connections too short for two samples: the trace has what was repeated to whom, the kernel's counters have what was
/// sent by the namespace, of which the peer's part is not known.
fn traced_only(view: &View<'_>, netns: Option<NetnsId>) -> Option<Finding> {
    let traced = view.now.traced.as_ref()?;
    let repeated = view.delta(netns, Counter::TcpRetransSegs)?;
    let sent = view.delta(netns, Counter::TcpOutSegs)?;
    // A FIN that is sent again may be one that a filter drops: no data is lost then.
    let of_data = |r: &Retransmits| r.segments.saturating_sub(r.closing);
    let most = traced.retransmits.iter().filter(|r| r.netns == netns).max_by_key(|r| of_data(r))?;
    let segments = of_data(most).saturating_sub(delivery::repeated_in_vain(view, netns, most.peer));
    let answers = traced.connects.iter().any(|c| c.netns == netns && c.to.addr == most.peer && c.succeeded > 0);
    // All that this namespace sent is more than what went to the peer, so that the true share is larger.
    let share = Share::of(segments, sent + repeated)?;
    let counts = segments >= LOST && share.percent() >= view.thresholds.loss_percent && most.failed == 0;
    if !counts || !answers {
        return None;
    }
    let summary = format!(
        "{} to {} were sent again within {}, at least {share} of what went there, on connections too short to measure",
        text::count(segments, "segment", "segments"),
        most.peer,
        text::duration(traced.duration_ms),
    );
    let mut ports = traced.connects.iter().filter(|c| c.to.addr == most.peer).map(|c| c.to.port);
    let port = ports.next().unwrap_or(443);
    let of_one_port = if ports.all(|other| other == port) { port } else { 0 };
    let fins_pass = loss::fins_pass(traced, most);
    let finding = RULE
        .finding(Severity::Warning, 0.75, summary)
        .because("each repetition was traced; what was sent is counted for the whole namespace")
        .causes(Weighed::of(CAUSES, |cause| match (cause.id, &fins_pass) {
            ("peer-accept-queue-full", Some(_)) => Weight::Possible(0.8),
            ("this-host" | "peer-drops", Some(_)) => Weight::Possible(0.1),
            (_, Some(why)) => Weight::Refuted(why.clone()),
            ("path", None) if view.delta(netns, Counter::TcpExtTcpSynRetrans) != Some(0) => Weight::Possible(0.5),
            ("path" | "peer-accept-queue-full", None) => Weight::Possible(0.3),
            _ => Weight::Possible(0.2),
        }))
        .subject(Subject { netns, destination: Some(Endpoint::new(most.peer, of_one_port)), ..Subject::default() })
        .steps(if fins_pass.is_some() { [ACCEPT, PEER, LOCAL] } else { [FIND, LOCAL, PEER] })
        .fill("addr", most.peer)
        .fill("port", port)
        .evidence("repeated", Evidence::Count(segments))
        .evidence("closing_repeated", Evidence::Count(most.closing))
        .evidence("handshakes_repeated", Evidence::Count(most.handshake))
        .evidence("sent_by_namespace", Evidence::Count(sent + repeated))
        .next(format!("tcpstate trace --retransmits dst {}", most.peer));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, listen, row, timer};
    use crate::model::traced::{Connects, Counts, Ends, TracedInterval};
    use crate::model::{State, TimerKind};

    /// What a connection did in two seconds: segments, of these repeated, of these needless; and its round trips in ms.
    #[derive(Clone, Copy)]
    struct Flow(u64, u64, u64, (u64, u64));

    fn world(flows: &[(&str, Flow)]) -> World {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 128)).hold(7, "nginx", 3, 80 << 16);
        for (peer, Flow(_, _, _, (rtt, least))) in flows {
            let fields = [
                ("data_segs_out", 1000),
                ("total_retrans", 3),
                ("rtt_us", rtt * 1000),
                ("min_rtt_us", least * 1000),
                ("last_data_sent_ms", 10),
                ("delivered", 990),
            ];
            let socket = info(row(State::Established, "10.0.0.1:80", peer), &fields);
            world.hold(7, "nginx", u32::from(socket.peer.port), socket.inode).add(socket);
        }
        world.now.netns[0].drops = Some(std::collections::BTreeMap::new());
        world.later(2000);
        for (socket, (_, Flow(segments, repeated, needless, _))) in world.now.sockets[1..].iter_mut().zip(flows) {
            let info = socket.info.as_mut().unwrap();
            assert!(info.set("data_segs_out", 1000 + segments) && info.set("total_retrans", 3 + repeated));
            assert!(info.set("dsack_dups", *needless) && info.set("delivered", 990 + segments - repeated));
        }
        world
    }

    fn one(flows: &[(&str, Flow)]) -> Finding {
        let mut outcome = world(flows).check(check);
        assert_eq!(outcome.findings.len(), 1, "{outcome:#?}");
        outcome.findings.remove(0)
    }

    const STEADY: (u64, u64) = (30, 28);

    #[test]
    fn a_peer_that_loses_more_than_one_in_twenty_is_a_warning_with_its_share() {
        let finding = one(&[("10.9.0.2:5000", Flow(500, 60, 0, STEADY)), ("10.9.0.3:5000", Flow(500, 0, 0, STEADY))]);
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(7)));
        assert_eq!(finding.summary, "60 of 500 segments to 10.9.0.2 were sent again within 2.0 s (12 %)");
        assert!(finding.causes.left[0].cause.id == "path" && finding.remedy[0].contains("mtr -T -P 5000 10.9.0.2"));
    }

    #[test]
    fn few_a_small_share_a_dead_peer_and_another_interval_are_silent() {
        for flow in [Flow(500, 9, 0, STEADY), Flow(5000, 49, 0, STEADY)] {
            assert_eq!(world(&[("10.9.0.2:5000", flow)]).check(check).findings, []);
        }
        assert_eq!(world(&[("10.9.0.2:5000", Flow(20, 20, 0, STEADY))]).check(check).findings, [], "nothing arrives");
        let mut rests = world(&[("10.9.0.2:5000", Flow(500, 60, 0, STEADY))]);
        assert!(rests.now.sockets[1].info.as_mut().unwrap().set("last_data_sent_ms", 2001));
        assert_eq!(rests.check(check).findings, []);
        assert_eq!(one(&[("10.9.0.2:5000", Flow(1000, 20, 0, STEADY))]).severity, Severity::Info);
    }

    #[test]
    fn a_queue_that_the_transfer_fills_and_reordering_hurt_less() {
        let queue = one(&[("10.9.0.2:5000", Flow(500, 60, 0, (300, 28)))]);
        assert_eq!((queue.severity, queue.causes.left[0].cause.id), (Severity::Info, "queue"));
        let reordering = one(&[("10.9.0.2:5000", Flow(500, 60, 55, STEADY))]);
        assert!(reordering.causes.is("reordering") && reordering.severity == Severity::Info);
    }

    #[test]
    fn peers_of_one_network_are_one_and_most_peers_are_all() {
        let bad = Flow(500, 60, 0, STEADY);
        let good = Flow(500, 0, 0, STEADY);
        let network = [("10.9.0.2:1", bad), ("10.9.0.3:1", bad), ("10.9.0.4:1", bad)];
        let rest = [("10.8.1.2:1", good), ("10.8.2.2:1", good), ("10.8.3.2:1", good)];
        let finding = one(&[&network[..], &rest[..]].concat());
        assert!(finding.summary.contains("to 3 peers of 10.9.0.0/24 were"), "{}", finding.summary);
        let all = one(&network);
        assert!(all.summary.contains("to all 3 peers"), "{}", all.summary);
        assert!(all.causes.left.iter().any(|h| h.cause.id == "all-peers") && all.remedy[0].contains("ip -s link"));
    }

    #[test]
    fn one_bad_line_among_many_clients_is_an_explanation() {
        let peers: Vec<String> = (0..11).map(|n| format!("10.{n}.0.2:5000")).collect();
        let flows: Vec<(&str, Flow)> = peers
            .iter()
            .enumerate()
            .map(|(n, p)| (p.as_str(), Flow(500, if n == 0 { 60 } else { 0 }, 0, STEADY)))
            .collect();
        assert_eq!(one(&flows).severity, Severity::Info);
        assert_eq!(one(&flows[..10]).severity, Severity::Warning);
    }

    #[test]
    fn one_sample_asks_for_a_second() {
        let mut world = world(&[("10.9.0.2:5000", Flow(500, 60, 0, STEADY))]);
        world.before = None;
        assert!(world.check(check).wants_second.is_some());
        assert!(world.now.sockets[1].info.as_mut().unwrap().set("total_retrans", 14));
        assert_eq!(world.check(check), Outcome::default());
    }

    #[test]
    fn first_data_of_new_connections_alone_is_no_path() {
        let of = |handshakes: u64, old: bool| {
            let mut world = world(&[]);
            world
                .counter(Counter::TcpExtTcpSynRetrans, 7)
                .later(2000)
                .counter(Counter::TcpExtTcpSynRetrans, 7 + handshakes);
            let fields = [("data_segs_out", 2), ("total_retrans", 1), ("delivered", 2), ("last_data_sent_ms", 10)];
            for port in 40_000..40_012 {
                world.add(info(row(State::Established, &format!("10.0.0.1:{port}"), "10.9.0.2:80"), &fields));
            }
            if old {
                let mut used = info(row(State::Established, "10.0.0.1:41000", "10.9.0.2:80"), &fields);
                assert!(used.info.as_mut().unwrap().set("data_segs_out", 9));
                assert!(used.info.as_mut().unwrap().set("total_retrans", 6));
                world.add(used);
            }
            world.check(check).findings.remove(0)
        };
        let first = of(0, false);
        assert_eq!(first.causes.left[0].cause.id, "peer-accept-queue-full", "{first:?}");
        assert!(first.causes.ruled_out.iter().any(|(c, _)| c.id == "path") && first.remedy == [ACCEPT, PEER]);
        let few = of(5, false).causes;
        assert!(few.left[0].cause.id == "peer-accept-queue-full" && few.left.iter().any(|h| h.cause.id == "path"));
        assert_eq!(
            of(6, false).causes.left[0].cause.id,
            "path",
            "as many handshakes were repeated as a path would lose"
        );
        assert_eq!(of(0, true).causes.left[0].cause.id, "path", "one that sends more repeats as well");
    }

    #[test]
    fn a_fin_that_is_sent_again_is_no_loss() {
        let mut world = world(&[("10.9.0.2:5000", Flow(500, 60, 0, STEADY))]);
        world.now.sockets[1].state = State::FinWait1;
        world.now.sockets[1].send_q_bytes = Some(1);
        assert_eq!(world.check(check).findings, []);
        world.now.sockets[1].send_q_bytes = Some(1449);
        assert_eq!(world.check(check).findings.len(), 1);
    }

    #[test]
    fn short_connections_are_judged_by_the_trace_and_the_counters() {
        const SILENT: [(&str, u64); 3] = [("total_retrans", 46), ("last_ack_recv_ms", 9000), ("rto_us", 400_000)];
        let mut world = World::new();
        world.counter(Counter::TcpOutSegs, 0).counter(Counter::TcpRetransSegs, 0);
        world.later(2000).counter(Counter::TcpOutSegs, 450).counter(Counter::TcpRetransSegs, 50);
        let peer: IpAddr = "10.9.0.2".parse().unwrap();
        let repeated = Retransmits {
            netns: crate::diagnose::testkit::NETNS,
            peer,
            handshake: 4,
            segments: 50,
            closing: 4,
            failed: 0,
        };
        let reached = Connects { succeeded: 30, ..Connects::none(repeated.netns, Endpoint::new(peer, 443)) };
        let traced = TracedInterval {
            duration_ms: 2000,
            connects: vec![reached],
            retransmits: vec![repeated],
            ..TracedInterval::default()
        };
        world.now.traced = Some(traced);
        let findings = world.check(check).findings;
        assert!(findings[0].summary.contains("at least 9 %"), "{findings:#?}");
        let stuck = row(State::Established, "10.0.0.1:50000", "10.9.0.2:443");
        let stuck = info(timer(stuck, TimerKind::Retransmit, 900, 4), &SILENT);
        world.add(Socket { send_q_bytes: Some(500), ..stuck });
        assert_eq!(world.check(check).findings, [], "one that nobody acknowledges repeats them all");
        world.now.sockets.clear();
        assert_eq!(findings[0].subject.destination, Some(Endpoint::new(peer, 443)));
        let ended = Counts { answered: 40, ..Counts::default() };
        let traced = world.now.traced.as_mut().unwrap();
        traced.retransmits[0] = Retransmits { handshake: 20, closing: 1, ..traced.retransmits[0] };
        let service = Endpoint::new(peer, 443);
        traced.ends = vec![Ends::new(traced.retransmits[0].netns, service, false, ended)];
        let queue = world.check(check).findings.remove(0);
        assert_eq!(queue.causes.left[0].cause.id, "peer-accept-queue-full", "{queue:#?}");
        assert!(queue.causes.left.iter().all(|h| h.cause.id != "path") && queue.remedy[0] == ACCEPT);
        world.now.traced.as_mut().unwrap().retransmits[0].closing = 50;
        assert_eq!(world.check(check).findings, [], "nothing but FINs");
        world.now.traced.as_mut().unwrap().retransmits[0].closing = 4;
        world.now.traced.as_mut().unwrap().connects.clear();
        assert_eq!(world.check(check).findings, [], "nothing tells that it answers");
    }
}
