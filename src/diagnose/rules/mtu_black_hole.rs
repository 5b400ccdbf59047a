//! Full-size segments are lost on the way and small ones pass: the path has a smaller MTU than it admits.
//!
//! Input: connections that repeat a full-size segment, and proof that the peer is heard meanwhile. Output: one finding
//! per address. Not here: a peer that nobody hears any more (`dead-peer-retransmit`, which lists this as one cause).
//!
#![doc = include_str!("../../../docs/rules/mtu-black-hole.md")]

use std::net::IpAddr;

use crate::diagnose::Outcome;
use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::measure::Measure;
use crate::diagnose::mtu::{self, BlackHole};
use crate::diagnose::peers::{self, Group, Peers};
use crate::diagnose::ranking;
use crate::diagnose::rule::{Identity, Rule, Text, rule};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::counter::Counter;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, State};
use crate::text;

pub(super) const RULE: Rule = rule!(
    "mtu-black-hole",
    Established,
    OneOrTwo,
    "full-size segments die on the way while small ones pass",
    check,
    [TEXT]
)
.states(&[State::Established, State::CloseWait])
.title("MTU black hole")
.identity(Identity::Destination)
.causes(CAUSES);

const PROBE: &str = "At once, on this host: `sysctl -w net.ipv4.tcp_mtu_probing=1`; the kernel then tries smaller segments, \
                     and connections that hang recover";
const FIND: &str = "Find the size that passes: `ping -M do -s {size} {peer}`, larger and smaller; VPN, tunnel, PPPoE and \
                    overlay networks take 20 to 80 bytes";
const MEND: &str = "Give the interface or the route that MTU (`ip route change ... mtu 1400`), clamp the MSS at the router \
                    (`tcp option maxseg size set rt mtu`), or let ICMP \"fragmentation needed\" and \"packet too big\" pass";

const TEXT: Text = Text {
    why: "A router that cannot forward a segment has to say so by ICMP; where that is filtered the sender repeats the same \
          segment until it gives up. Handshakes and short messages fit and work, so the peer seems to be well.",
    remedy: &[PROBE, FIND, MEND],
    avoid: &[
        "Don't turn on keepalive or shorter timeouts for this: probes are small and pass",
        "Don't lower the MTU of every interface: only this path is narrower",
    ],
};

const CAUSES: &[Cause] = &[
    Cause {
        id: "mtu-black-hole",
        text: "the path loses full-size segments and passes small ones (MTU)",
        predicts: "every segment that is repeated is of full size, what was acknowledged before was small",
        refuted_by: "a full-size segment that was acknowledged, a small one that is repeated",
        decided_by: "pings of the size of the path MTU and below (`ping -M do -s`); the connections recover with \
                     net.ipv4.tcp_mtu_probing = 1",
    },
    Cause {
        id: "lossy-path",
        text: "the path loses many segments of every size",
        predicts: "some repetitions arrive; small segments are repeated too",
        refuted_by: "many repetitions of full-size segments of which none arrived",
        decided_by: "`mtr -T` to the port; drops in `ip -s link` on both hosts",
    },
    Cause {
        id: "these-flows-only",
        text: "the path or one of several backends lost just these connections, whatever their segments",
        predicts: "nothing at all is heard on them, while others work",
        refuted_by: "the peer is heard on the connections themselves",
        decided_by: "a large transfer on a new connection",
    },
];

/// So many repetitions in vain, over all connections, are no loss: one in two would have arrived.
const REPEATS_LOST: u64 = 8;

pub(super) fn check(view: &View<'_>) -> Outcome {
    let holes = mtu::black_holes(view);
    if holes.is_empty() {
        return Outcome::default();
    }
    let ends = Peers::new(view);
    let mut findings = Vec::new();
    for ((_, addr), hole) in &holes {
        let groups = ends.groups(hole.rows.iter().copied(), false);
        findings.extend(groups.first().map(|group| finding(view, group, *addr, hole)));
    }
    Outcome::findings(ranking::alike(findings))
}

fn finding(view: &View<'_>, group: &Group<'_>, addr: IpAddr, hole: &BlackHole<'_>) -> Finding {
    let rows = &hole.rows[..];
    let repeats: u64 = rows.iter().filter_map(|s| s.timer).map(|t| u64::from(t.retransmits)).sum();
    let largest = rows.iter().filter_map(|s| s.info.as_deref()?.snd_mss_bytes()).max();
    let pmtu = rows.iter().filter_map(|s| s.info.as_deref()?.pmtu_bytes()).max();
    let longest = rows.iter().filter_map(|s| silent_peer::repeated_ms(s)).max();
    let waits = rows.iter().map(|s| s.send_q_bytes.map(u64::from)).sum::<Option<u64>>();
    let probing = view.netns(group.netns).and_then(|n| n.sysctl(Sysctl::Ipv4TcpMtuProbing));
    let causes = Weighed::of(CAUSES, |cause| match cause.id {
        "lossy-path" if repeats >= REPEATS_LOST => {
            Weight::Refuted(format!("none of {} full-size repetitions arrived", text::grouped(repeats)))
        }
        "lossy-path" => Weight::Possible(0.15),
        "these-flows-only" if hole.heard > 0 => {
            Weight::Refuted("the peer was heard on such connections since".to_owned())
        }
        "these-flows-only" => Weight::Possible(0.3),
        _ => Weight::Possible(0.7),
    });
    let n = rows.len() as u64;
    let size = largest.map_or_else(String::new, |mss| format!(" of {} bytes", text::grouped(mss.into())));
    let alive = match (hole.heard, hole.others) {
        (0, others) => {
            format!("{} exchanged small ones meanwhile", text::count(others, "other connection", "other connections"))
        }
        _ => "the peer was heard meanwhile".to_owned(),
    };
    let summary = format!(
        "{} of {} to {addr} repeat{} full-size segments{size} in vain for {}; {alive}",
        text::count(n, "connection", "connections"),
        group.name(view),
        if n == 1 { "s" } else { "" },
        longest.map_or_else(|| "some time".to_owned(), |ms| format!("at least {}", text::duration(ms))),
    );
    let mut subject = group.subject(view);
    subject.destination = Some(peers::common_peer(rows).unwrap_or(Endpoint::new(addr, 0)));
    let steps: &[&str] = if probing.unwrap_or(0) == 0 { &[PROBE, FIND, MEND] } else { &[FIND, MEND] };
    RULE.finding(Severity::Warning, 0.85, summary)
        .because("the sizes of what was acknowledged and of what is repeated are exact; the peer was heard since")
        .causes(causes)
        .lasting(longest.map(Measure::AtLeast))
        .subject(subject)
        .about(rows.iter().copied())
        .steps(steps.iter().copied())
        .fill("peer", addr)
        .fill("size", smaller(pmtu, addr))
        .evidence("count", Evidence::Count(n))
        .evidence("repetitions", Evidence::Count(repeats))
        .evidence("segment_bytes", Evidence::count(largest.map(u64::from)))
        .evidence("path_mtu_bytes", Evidence::count(pmtu.map(u64::from)))
        .evidence("send_queue_bytes", waits.map_or(Evidence::Unknown, Evidence::Bytes))
        .evidence("heard_on_them", Evidence::Count(hole.heard))
        .evidence("others_heard", Evidence::Count(hole.others))
        .evidence("mtu_probing", Evidence::count(probing))
        .evidence("mtu_probes_lost", Evidence::count(view.delta(group.netns, Counter::TcpExtTcpMtupFail)))
        .next(format!("tcpstate list -o -i -p --peer {addr}"))
}

/// The payload of a ping that is 100 bytes less than the path is said to carry (28 or 48 bytes are headers).
fn smaller(pmtu: Option<u32>, addr: IpAddr) -> u32 {
    let headers = if addr.is_ipv4() { 28 } else { 48 };
    pmtu.unwrap_or(1500).saturating_sub(100 + headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer};
    use crate::model::{Socket, TimerKind};

    /// A connection that acknowledged small segments and repeats a full one for 1.4 s; heard `heard` ms ago.
    fn hangs(port: u16, heard: u64) -> Socket {
        let base = Socket {
            send_q_bytes: Some(14_000),
            ..row(State::Established, "10.0.0.1:80", &format!("10.0.0.2:{port}"))
        };
        let fields = [
            ("rto_us", 1_600_000),
            ("backoff", 3),
            ("unacked", 1),
            ("notsent_bytes", 12_552),
            ("snd_mss_bytes", 1448),
            ("pmtu_bytes", 1500),
            ("delivered", 10),
            ("bytes_acked", 1001),
            ("last_ack_recv_ms", heard),
            ("last_data_recv_ms", heard),
        ];
        timer(info(base, &fields), TimerKind::Retransmit, 900, 3)
    }

    fn world(rows: impl IntoIterator<Item = Socket>) -> World {
        let mut world = World::new();
        for socket in rows {
            world.hold(812, "server", u32::from(socket.peer.port), socket.inode).add(socket);
        }
        world
    }

    /// Another connection that was heard 100 ms ago.
    fn lives(port: u16) -> Socket {
        let base = row(State::Established, "10.0.0.1:80", &format!("10.0.0.2:{port}"));
        info(base, &[("last_ack_recv_ms", 100), ("last_data_recv_ms", 100), ("snd_mss_bytes", 1448)])
    }

    #[test]
    fn a_peer_that_is_heard_while_full_segments_die_is_no_dead_host() {
        let outcome = world([hangs(5000, 300), hangs(5001, 9000)]).check(check);
        let [finding] = &outcome.findings[..] else { panic!("{outcome:?}") };
        assert_eq!((finding.severity, finding.subject.pid), (Severity::Warning, Some(812)));
        assert_eq!(
            finding.summary,
            "2 connections of server (812) to 10.0.0.2 repeat full-size segments of 1,448 bytes in vain for at least \
             1.4 s; the peer was heard meanwhile"
        );
        assert_eq!(finding.causes.left[0].cause.id, "mtu-black-hole");
        assert!(finding.remedy[0].contains("tcp_mtu_probing") && finding.remedy[1].contains("10.0.0.2"));
        let mut probes = world([hangs(5000, 300)]);
        probes.sysctl(Sysctl::Ipv4TcpMtuProbing, &[1]);
        assert!(!probes.check(check).findings[0].remedy[0].contains("sysctl -w"), "it is on already");
    }

    #[test]
    fn others_that_work_prove_it_for_several_and_only_while_they_are_small() {
        let rows = || [hangs(5000, 9000), hangs(5001, 9000), lives(6000), lives(6001)];
        let outcome = world(rows()).check(check);
        assert!(outcome.findings[0].summary.ends_with("2 other connections exchanged small ones meanwhile"));
        assert!(outcome.findings[0].causes.left.iter().any(|h| h.cause.id == "these-flows-only"));
        let silent = |world: &World| assert_eq!(world.check(check), Outcome::default());
        silent(&world([hangs(5000, 9000), lives(6000), lives(6001)]));
        silent(&world([hangs(5000, 9000), hangs(5001, 9000), lives(6000)]));
        // Of another service: a filter may drop all of this one.
        let of = |port: u16, at: &str| Socket { local: row(State::Listen, at, "0.0.0.0:0").local, ..lives(port) };
        let elsewhere = [of(6000, "10.0.0.1:443"), of(6001, "10.0.0.1:443")];
        silent(&world([hangs(5000, 9000), hangs(5001, 9000)].into_iter().chain(elsewhere)));
        // Another one gets full-size segments through.
        let mut large = world(rows());
        large.later(2000);
        let works = large.now.sockets[2].info.as_mut().unwrap();
        assert!(works.set("bytes_acked", 14_480) && works.set("delivered", 10));
        silent(&large);
    }

    #[test]
    fn dead_hosts_loss_and_small_segments_are_silent() {
        let silent = |rows: Vec<Socket>| assert_eq!(world(rows).check(check), Outcome::default());
        silent(vec![hangs(5000, 1900), hangs(5001, 9000)]);
        let change = |field: &str, value| {
            let mut socket = hangs(5000, 300);
            assert!(socket.info.as_mut().unwrap().set(field, value));
            vec![socket]
        };
        silent(change("notsent_bytes", 13_900));
        silent(change("bytes_acked", 14_481));
        silent(change("delivered", 0));
        let few = timer(hangs(5000, 300), TimerKind::Retransmit, 900, 2);
        silent(vec![few]);
        // Beside it a small segment is repeated as well.
        silent([change("notsent_bytes", 13_900), vec![hangs(5001, 300)]].concat());
    }
}
