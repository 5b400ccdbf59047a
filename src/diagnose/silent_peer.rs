//! Why sent data is not acknowledged: the causes, and what the rows and their neighbours say of each.
//!
//! Input: the connections to one address that repeat a segment. Output: the causes with their weights, and how long the
//! data has waited. Not here: how bad it is.

use std::net::IpAddr;

use crate::aggregate::Role;
use crate::diagnose::callers;
use crate::diagnose::conntrack;
use crate::diagnose::delivery;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::next_hop::{self, Way};
use crate::diagnose::peers;
use crate::diagnose::queues::Queue;
use crate::diagnose::reach::{self, Leaving, Reach};
use crate::diagnose::segment_size::{is_fresh, is_small_before, repeats_full_size};
use crate::diagnose::view::View;
use crate::model::{NetnsId, Socket, State, TcpInfo, TimerKind};
use crate::text;

/// What keeps acknowledgements away.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "host-down",
        text: "the peer's host, or the way to it, is down",
        predicts: "no connection to the address is heard any more, no new one is made",
        refuted_by: "a segment from the address since the data was first repeated",
        decided_by: "`ping` to the address, the console of that host",
    },
    Cause {
        id: "port-filtered",
        text: "a filter drops what goes to this port or comes from it",
        predicts: "other ports of the address are heard, no connection to this one is, and no new one is made",
        refuted_by: "a connection to the same address and port that is heard",
        decided_by: "`tcpdump` at the peer: the segments do not arrive, or no answer leaves; `nft list ruleset` on both hosts",
    },
    Cause {
        id: "mtu-black-hole",
        text: "the path loses full-size segments and passes small ones (MTU)",
        predicts: "small segments were acknowledged on the same connections, what is repeated is of full size",
        refuted_by: "a small segment that is repeated too, of these connections or of new attempts",
        decided_by: "pings of the size of the path MTU and below (`ping -M do -s`); the connections recover with \
                     net.ipv4.tcp_mtu_probing = 1",
    },
    Cause {
        id: "path-forgot-flow",
        text: "a NAT or firewall on the path forgot these connections",
        predicts: "they were idle before, and newer connections to the same address and port work",
        refuted_by: "new connections fail too",
        decided_by: "the idle timeout of NAT, firewall or load balancer against the time that they were idle",
    },
    Cause {
        id: "one-backend-down",
        text: "one of several hosts behind that address is gone (a backend, or a client behind a NAT)",
        predicts: "some connections of the address die while others of the same service work, idle or not",
        refuted_by: "no other connection of that service works",
        decided_by: "the load balancer's list of backends, or whose address the NAT has, if the address is one's",
    },
    Cause {
        id: "content-filtered",
        text: "a filter on the path drops them by what they carry (a name in TLS or HTTP)",
        predicts: "the handshake passes and the first data never does, while other connections to the same port are served",
        refuted_by: "the peer acknowledged data on them before, or no other connection of that service works",
        decided_by: "the same request with another name (`curl --resolve`); `tcpdump` at the peer: the first data does not arrive",
    },
    Cause {
        id: "lossy-path",
        text: "the path loses many segments",
        predicts: "acknowledgements come now and then; other connections to the address repeat data too",
        refuted_by: "very many repetitions in a row without one acknowledgement",
        decided_by: "`mtr -T` to the port; drops in `ip -s link` on both hosts",
    },
    Cause {
        id: "peer-accept-queue-full",
        text: "the peer never took them: its accept queue was full at the end of the handshake",
        predicts: "nothing was ever received or acknowledged on these connections",
        refuted_by: "the peer acknowledged data on them before",
        decided_by: "`ss -ltn` on the peer: Recv-Q above Send-Q, or ListenOverflows grows",
    },
    Cause {
        id: "local-drop",
        text: "our segments do not leave this host (no route, no interface, or a local firewall)",
        predicts: "nothing is in flight though the window is open, or TCPRetransFail grows with each repetition",
        refuted_by: "segments that were repeated while TCPRetransFail did not grow",
        decided_by: "`ip route get`, rules of OUTPUT (`nft list ruleset`), `tc -s qdisc`",
    },
    Cause {
        id: "ours-lost",
        text: "the peer's segments arrive, and ours are lost on the way",
        predicts: "the peer is heard on these connections while what we repeat stays unacknowledged",
        refuted_by: "nothing that came on them since the data was first repeated",
        decided_by: "`tcpdump` at both ends: rules by direction, asymmetric routes, reverse-path checks at the peer",
    },
    conntrack::FULL,
    next_hop::GATEWAY,
];

/// A pause before the fatal write that a forgetful device could have used (policy).
pub const IDLE_MS: u64 = 3000;
/// So many repetitions in a row, over several connections, are no loss.
const REPEATS_LOST: u64 = 10;

/// How long the oldest unacknowledged data of a row has waited, at least. The whole time of recovery is this one's when
/// it is the first (the kernel counts the unfinished one too); else the doublings of the timeout add up to it.
#[must_use]
pub fn waiting_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let silence = u64::from(info.last_ack_recv_ms()?);
    let doublings = || {
        // Probes that cannot leave do not raise the timeout.
        if peers::cannot_leave(socket) {
            return delivery::probed_ms(socket);
        }
        repeated_ms(socket)
    };
    let recovery = info.total_rto_time_ms().filter(|_| info.total_rto_recoveries() == Some(1)).map(u64::from);
    Some(recovery.filter(|ms| *ms > 0).or_else(doublings)?.min(silence))
}

/// For how long the segment has been repeated: the timeouts that have passed add up to this.
#[must_use]
pub fn repeated_ms(socket: &Socket) -> Option<u64> {
    let now_ms = u64::from(socket.info.as_deref()?.rto_us()?) / 1000;
    Some(now_ms.saturating_sub(peers::base_rto_ms(socket)?))
}

/// The same with the part of the present timeout that is over, less a timeout: the last word of the peer may have been on
/// its way when the first repetition was.
#[must_use]
pub fn repeating_ms(socket: &Socket) -> Option<u64> {
    let timeout_ms = u64::from(socket.info.as_deref()?.rto_us()?) / 1000;
    let timer = socket.timer.filter(|t| t.kind == TimerKind::Retransmit)?;
    let present = timeout_ms.saturating_sub(u64::from(timer.remaining_ms));
    (repeated_ms(socket)? + present).checked_sub(peers::base_rto_ms(socket)?)
}

/// Whether something came on the connection since its data was first repeated. What acknowledges that data would have ended
/// the repetitions, so it acknowledged nothing new.
fn is_heard_since(view: &View<'_>, socket: &Socket) -> bool {
    let since = repeating_ms(socket);
    since.is_some_and(|since| view.heard_ms(socket).is_some_and(|ms| ms < since))
}

/// What is known of connections to one address whose data is not acknowledged.
pub struct Facts<'v> {
    /// Connections to the same address and port that are heard since the data was first repeated; where the peer calls this
    /// host, those of the address to the same port here.
    pub working: u64,
    /// On so many of these something came since their data was first repeated.
    pub heard: u64,
    address_works: u64,
    works_with_loss: bool,
    here: bool,
    /// The queue of this host that dropped the end of their handshakes.
    pub overflowing: Option<&'v Queue<'v>>,
    /// New attempts that repeated their SYN in vain: to the same port where nothing there works, and to any port where
    /// nothing of the address does.
    unanswered: u64,
    /// Rows whose segments do not leave: most of them.
    pub kept: u64,
    leaving: Leaving,
    /// What connection tracking of this host says.
    tracking: Weight,
    /// The next hop, if the kernel was asked.
    pub way: Way,
    full_size: usize,
    small: usize,
    small_before: usize,
    /// Of these, those on which nothing but the handshake was acknowledged.
    fresh: usize,
    idle: usize,
    never_heard: bool,
    /// Of those that we opened: the peer repeated its SYN-ACK.
    greeted_again: usize,
    repeats: u64,
    rows: usize,
}

impl<'v> Facts<'v> {
    #[must_use]
    pub fn new<'a>(
        view: &'v View<'a>,
        reach: &Reach<'_, 'a>,
        (netns, addr): (Option<NetnsId>, IpAddr),
        rows: &[&'a Socket],
        attempts: &[&'a Socket],
    ) -> Facts<'v> {
        let since = reach::median(rows.iter().filter_map(|s| waiting_ms(s))).unwrap_or(0);
        let works = |s: &&Socket| !rows.iter().any(|r| std::ptr::eq(*r, *s));
        let comes = rows.iter().all(|s| is_accepted(view, s));
        let service = |s: &Socket| if comes { s.local.port } else { s.peer.port };
        let ports: Vec<u16> = rows.iter().map(|s| service(s)).collect();
        let all: Vec<&Socket> = reach.address(netns, addr, since).filter(works).collect();
        let info = |s: &Socket, value: fn(&TcpInfo) -> Option<u64>| s.info.as_deref().and_then(value);
        let sum = |value: fn(&TcpInfo) -> Option<u64>| all.iter().filter_map(|s| info(s, value)).sum::<u64>();
        let lost = sum(TcpInfo::bytes_retrans);
        let unheard = |s: &&Socket| view.mirror(s).is_none_or(|m| m.state == State::SynRecv);
        let overflowing = rows
            .iter()
            .copied()
            .filter(unheard)
            .find_map(|s| callers::called(view, s).filter(|q| callers::overflows(view, q)));
        let leaving = reach::leaving(view, netns, rows);
        let count = |is: &dyn Fn(&Socket) -> bool| rows.iter().filter(|s| is(s)).count();
        let is_here = |s: &&&Socket| ports.contains(&service(s)) && (!comes || is_accepted(view, s));
        let more = |own, theirs, rows: &[&Socket]| {
            let with_row = rows.iter().filter(|s| view.earlier(s).is_none()).count() as u64;
            reach::traced(view, (netns, addr), since, (own, theirs)).saturating_sub(with_row)
        };
        let working: Vec<&Socket> = all.iter().filter(is_here).copied().collect();
        let traced = if comes { (Some(&ports[..]), Some(&[][..])) } else { (Some(&[][..]), Some(&ports[..])) };
        let working = working.len() as u64 + more(traced.0, traced.1, &working);
        let address_works = all.len() as u64 + more(None, None, &all);
        let in_vain = |s: &&&Socket| {
            let is_here = !comes && ports.contains(&s.peer.port);
            s.timer.is_some_and(|t| t.retransmits > 0) && (address_works == 0 || working == 0 && is_here)
        };
        Facts {
            working,
            heard: count(&|s| is_heard_since(view, s)) as u64,
            address_works,
            works_with_loss: lost > 0 && lost * 100 >= sum(TcpInfo::bytes_sent),
            here: rows.iter().any(|s| view.mirror(s).is_some()),
            overflowing,
            unanswered: attempts.iter().filter(in_vain).count() as u64,
            kept: count(&peers::cannot_leave) as u64,
            leaving,
            way: Way::of(view, netns, addr, rows),
            tracking: conntrack::weigh(view, netns, leaving),
            full_size: count(&|s| repeats_full_size(s) == Some(true)),
            small: count(&|s| repeats_full_size(s) == Some(false)),
            small_before: count(&is_small_before),
            fresh: count(&is_fresh),
            idle: count(&|s| idle_ms(s).is_some_and(|ms| ms >= IDLE_MS)),
            never_heard: rows.iter().all(|s| {
                info(s, |i| i.bytes_acked().filter(|n| *n <= 1)).is_some()
                    && info(s, TcpInfo::bytes_received) == Some(0)
            }),
            greeted_again: if comes { 0 } else { count(&is_greeted_again) },
            repeats: rows.iter().filter_map(|s| s.timer).map(|t| u64::from(t.retransmits)).sum(),
            rows: rows.len(),
        }
    }

    /// Which causes are left.
    #[must_use]
    pub fn weigh(&self) -> Weighed {
        Weighed::of(CAUSES, |cause| match cause.id {
            "host-down" => self.host_down(),
            "port-filtered" => self.port_filtered(),
            "mtu-black-hole" => self.black_hole(),
            "path-forgot-flow" => self.forgot_flow(),
            "one-backend-down" => self.backend_down(),
            "content-filtered" => self.content_filtered(),
            "lossy-path" => self.lossy_path(),
            "peer-accept-queue-full" => self.queue_full(),
            "ours-lost" => self.ours_lost(),
            "conntrack-full" => self.tracking.clone(),
            "gateway-down" => self.way.weigh_gateway((self.address_works > 0).then(|| Self::works(self.address_works))),
            _ => self.local_drop(),
        })
    }

    /// Most rows repeat a full-size segment after small ones were acknowledged.
    #[must_use]
    pub fn is_about_size(&self) -> bool {
        self.unanswered == 0 && self.small == 0 && self.full_size > 0 && self.small_before == self.rows
    }

    fn works(n: u64) -> String {
        let n = text::count(n, "connection", "connections");
        format!("{n} to the same address were heard since the data was first repeated")
    }

    /// New attempts that get no answer either: their SYNs are small, and no flow of theirs could be forgotten.
    fn new_ones_fail(&self) -> Option<Weight> {
        let n = text::count(self.unanswered, "new attempt gets", "new attempts get");
        (self.unanswered > 0).then(|| Weight::Refuted(format!("{n} no answer either")))
    }

    fn host_down(&self) -> Weight {
        match self {
            _ if self.way.host_is_silent() => Weight::Proven,
            _ if self.address_works > 0 => Weight::Refuted(Self::works(self.address_works)),
            _ if self.heard > 0 => Weight::Refuted(self.is_heard()),
            _ if self.here => Weight::Refuted("the other half is on this host".into()),
            _ if self.is_greeted() => Weight::Refuted(self.greetings()),
            // A pool at rest does not notice what died meanwhile, the host or what a device knew of it.
            _ if self.idle * 2 > self.rows && self.unanswered == 0 => Weight::Possible(0.4),
            // A host that died in the middle of the first answers looks the same.
            _ if self.is_about_size() && self.fresh == 0 => Weight::Possible(if self.rows > 1 { 0.3 } else { 0.5 }),
            _ if self.is_about_size() => Weight::Possible(0.5),
            _ => Weight::Possible(0.6),
        }
    }

    fn port_filtered(&self) -> Weight {
        match self {
            _ if self.working > 0 => Weight::Refuted("other connections of that address and service work".into()),
            _ if self.heard > 0 => Weight::Possible(0.2),
            _ if self.is_about_size() && self.unanswered == 0 => Weight::Possible(0.1),
            _ if self.address_works > 0 && self.unanswered > 0 => Weight::Possible(0.9),
            _ if self.address_works > 0 && self.idle * 2 > self.rows => Weight::Possible(0.2),
            _ if self.address_works > 0 => Weight::Possible(0.4),
            _ => Weight::Possible(0.1),
        }
    }

    fn black_hole(&self) -> Weight {
        if let Some(refuted) = self.new_ones_fail().filter(|_| self.small == 0) {
            return refuted;
        }
        match self {
            _ if self.small > 0 => {
                let n = text::count(self.small as u64, "connection waits", "connections wait");
                Weight::Refuted(format!("{n} for the acknowledgement of less than a full-size segment"))
            }
            _ if self.full_size == 0 => Weight::Possible(0.05),
            // One alone beside others that lose some and live: it lost them, too.
            _ if self.works_with_loss && self.rows as u64 * 2 <= self.working => Weight::Possible(0.2),
            _ if self.is_about_size() => Weight::Possible(0.7),
            _ => Weight::Possible(0.15),
        }
    }

    fn forgot_flow(&self) -> Weight {
        if let Some(refuted) = self.new_ones_fail() {
            return refuted;
        }
        let idle = self.idle * 2 > self.rows;
        match (self.working > 0, idle) {
            _ if self.heard > 0 => Weight::Possible(0.05),
            (true, true) => Weight::Possible(0.8),
            (true, false) => Weight::Possible(0.25),
            (false, true) => Weight::Possible(0.3),
            (false, false) => Weight::Possible(0.05),
        }
    }

    fn backend_down(&self) -> Weight {
        match self {
            _ if self.working == 0 => Weight::Refuted("no other connection of that service works".into()),
            _ if self.heard > 0 => Weight::Refuted(self.is_heard()),
            _ if self.idle * 2 > self.rows => Weight::Possible(0.1),
            _ if self.is_about_size() => Weight::Possible(0.2),
            _ => Weight::Possible(0.5),
        }
    }

    fn content_filtered(&self) -> Weight {
        match self {
            _ if self.overflowing.is_some() => Weight::Possible(0.05),
            _ if !self.never_heard => Weight::Refuted("the peer sent or acknowledged data on them before".into()),
            _ if self.working == 0 => Weight::Refuted("no other connection of that service works".into()),
            _ => Weight::Possible(0.4),
        }
    }

    fn lossy_path(&self) -> Weight {
        match self {
            _ if self.rows > 1 && self.repeats >= REPEATS_LOST => {
                Weight::Refuted(format!("none of {} repetitions was acknowledged", text::grouped(self.repeats)))
            }
            _ if self.works_with_loss => Weight::Possible(0.4),
            _ => Weight::Possible(0.1),
        }
    }

    fn queue_full(&self) -> Weight {
        match self {
            _ if self.overflowing.is_some() => Weight::Proven,
            _ if self.never_heard => Weight::Possible(if self.working > 0 || self.is_greeted() { 0.6 } else { 0.3 }),
            _ => Weight::Refuted("the peer sent or acknowledged data on them before".into()),
        }
    }

    fn ours_lost(&self) -> Weight {
        match self {
            _ if self.is_greeted() => Weight::Possible(0.5),
            _ if self.heard == 0 => Weight::Refuted("nothing came on them since the data was first repeated".into()),
            _ if self.working > 0 || self.is_about_size() => Weight::Possible(0.2),
            _ => Weight::Possible(0.8),
        }
    }

    /// The peer repeats the SYN-ACKs of most of them: it lives, and has not got our ACKs, or does not take them.
    fn is_greeted(&self) -> bool {
        self.greeted_again * 2 > self.rows
    }

    fn greetings(&self) -> String {
        format!("SYN-ACKs came again on {} of these: the host answers", text::grouped(self.greeted_again as u64))
    }

    fn is_heard(&self) -> String {
        let n = text::grouped(self.heard);
        format!("the peer was heard on {n} of these since the data was first repeated")
    }

    fn local_drop(&self) -> Weight {
        match self.leaving {
            _ if self.tracking == Weight::Proven || self.way.is_silent() => Weight::Possible(0.05),
            _ if self.kept * 2 > self.rows as u64 => Weight::Proven,
            Leaving::Fails(_) => Weight::Proven,
            Leaving::Leaves(n) => {
                let segments = text::count(n, "segment was", "segments were");
                Weight::Refuted(format!("{segments} repeated between the samples and left this host"))
            }
            Leaving::Unknown if self.working > 0 => Weight::Refuted(Self::works(self.working)),
            Leaving::Unknown => Weight::Possible(0.05),
        }
    }
}

/// Whether more than one segment came, and none of them had data or an acknowledgement of ours: SYN-ACKs.
fn is_greeted_again(socket: &Socket) -> bool {
    let bare = |i: &TcpInfo| Some(i.bytes_acked()? <= 1 && i.bytes_received()? == 0 && i.data_segs_in()? == 0);
    socket.info.as_deref().is_some_and(|i| bare(i) == Some(true) && i.segs_in() > Some(1))
}

/// Whether the peer called this host.
#[must_use]
pub fn is_accepted(view: &View<'_>, socket: &Socket) -> bool {
    matches!(view.role(socket), Role::Server(_) | Role::FormerServer)
}

/// The same as [`idle_ms`], at least: recovery begins with the first timeout, before which there may be a loss probe. `None`
/// where this kernel does not count the time of recovery (before Linux 6.7), or counts an earlier one with it.
#[must_use]
pub fn idle_at_least_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let recovery = info.total_rto_time_ms().filter(|_| info.total_rto_recoveries() == Some(1))?;
    let heard = u64::from(info.last_heard_ms()?);
    Some(heard.saturating_sub(u64::from(recovery) + 3 * peers::base_rto_ms(socket)?))
}

/// How long the connection had been silent when the data that waits was sent, at most: how long that waited is a lower bound.
#[must_use]
pub fn idle_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let heard = u64::from(info.last_heard_ms()?);
    Some(heard.saturating_sub(waiting_ms(socket)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{NETNS, World, info, listen, row, timer, with_info};
    use crate::model::traced::{Accepted, TracedInterval};

    /// What a client of the server here does not acknowledge for 6.2 s, after being used 300 ms before; its port, what waits.
    fn hangs(port: u16, heard_ms: u64, (bytes, segments): (u32, u64)) -> Socket {
        let base =
            Socket { send_q_bytes: Some(bytes), ..row(State::Established, "10.0.0.1:80", &format!("10.0.0.9:{port}")) };
        let fields = [
            ("rto_us", 6_400_000),
            ("backoff", 5),
            ("unacked", segments),
            ("snd_mss_bytes", 1448),
            ("bytes_received", 75),
            ("delivered", 1),
            ("total_retrans", 5),
            ("bytes_retrans", 5 * 1448.min(u64::from(bytes))),
            ("last_ack_recv_ms", heard_ms),
            ("last_data_recv_ms", heard_ms),
        ];
        timer(info(base, &fields), TimerKind::Retransmit, 5400, 5)
    }

    fn lives(local: &str) -> Socket {
        let base = row(State::Established, local, "10.0.0.9:7000");
        info(base, &[("last_ack_recv_ms", 50), ("last_data_recv_ms", 50)])
    }

    fn world(rows: &[Socket]) -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 128)).add(listen("0.0.0.0:22", 0, 128));
        for socket in rows {
            world.add(socket.clone());
        }
        world
    }

    fn weighed(world: &World) -> (u64, Weighed) {
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        let rows: Vec<&Socket> = world.now.sockets.iter().filter(|s| s.timer.is_some()).collect();
        let place = (NETNS, "10.0.0.9".parse().unwrap());
        let reach = Reach::new(&view, [(place.0, crate::model::Endpoint::new(place.1, 0))].into_iter());
        let facts = Facts::new(&view, &reach, place, &rows, &[]);
        (facts.working, facts.weigh())
    }

    fn out(weighed: &Weighed) -> Vec<&'static str> {
        weighed.ruled_out.iter().map(|(c, _)| c.id).collect()
    }

    const SMALL: (u32, u64) = (200, 1);

    #[test]
    fn a_client_is_compared_by_its_address_and_the_port_here() {
        let rows = [hangs(5000, 9000, SMALL), hangs(5001, 9000, SMALL)];
        let (working, alone) = weighed(&world(&rows));
        assert_eq!((working, alone.left[0].cause.id), (0, "host-down"));
        let (working, same) = weighed(&world(&[&rows[..], &[lives("10.0.0.1:80")]].concat()));
        assert_eq!((working, same.left[0].cause.id), (1, "one-backend-down"));
        assert!(out(&same).contains(&"host-down") && out(&same).contains(&"port-filtered"), "{same:?}");
        let (working, other) = weighed(&world(&[&rows[..], &[lives("10.0.0.1:22")]].concat()));
        assert_eq!((working, other.left[0].cause.id), (0, "port-filtered"), "another service of this host");
    }

    #[test]
    fn a_peer_that_repeats_its_syn_ack_lives_and_has_not_got_ours() {
        let opened = |port: u16, segments| {
            let ends = row(State::Established, &format!("10.0.0.1:{port}"), "10.0.0.9:8080");
            let socket = Socket { local: ends.local, peer: ends.peer, ..hangs(port, 9000, SMALL) };
            with_info(socket, &[("bytes_acked", 1), ("bytes_received", 0), ("data_segs_in", 0), ("segs_in", segments)])
        };
        let of = |segments| weighed(&world(&[opened(40_000, segments), opened(40_001, segments)])).1;
        assert!(out(&of(4)).contains(&"host-down") && !out(&of(4)).contains(&"ours-lost"), "{:?}", of(4));
        assert_eq!(of(4).left[0].cause.id, "peer-accept-queue-full");
        assert!(!out(&of(1)).contains(&"host-down"), "that of the handshake alone");
    }

    #[test]
    fn connections_that_left_no_row_show_that_the_peer_lives() {
        let mut world = world(&[hangs(5000, 12_000, SMALL), hangs(5001, 12_000, SMALL)]);
        let came = |at_ms, local_port| Accepted {
            netns: NETNS,
            local_port,
            peer: "10.0.0.9".parse().unwrap(),
            count: 3,
            at_ms,
        };
        let traced = |accepted| {
            Some(TracedInterval { duration_ms: 10_000, accepted: vec![accepted], ..TracedInterval::default() })
        };
        world.now.traced = traced(came((5000, 9000), 80));
        let (working, causes) = weighed(&world);
        assert_eq!((working, causes.left[0].cause.id), (3, "path-forgot-flow"), "they were idle before");
        world.now.traced = traced(came((1000, 9000), 80));
        assert_eq!(weighed(&world).0, 1, "of the others it is not known whether they came since");
        world.now.traced = traced(came((1000, 2000), 80));
        assert_eq!(weighed(&world).0, 0, "before the data was repeated");
        world.now.traced = traced(came((5000, 9000), 22));
        assert!(weighed(&world).0 == 0 && out(&weighed(&world).1).contains(&"host-down"));
        // Without a trace: one that was there in the first sample, and has ended.
        world.now.traced = None;
        world.add(lives("10.0.0.1:80")).later(2000);
        world.now.sockets.pop();
        assert_eq!(weighed(&world).0, 1);
    }

    #[test]
    fn probes_that_cannot_leave_have_waited_for_the_sum_of_their_doublings() {
        let open = [
            ("rto_us", 204_000),
            ("backoff", 5),
            ("unacked", 0),
            ("snd_wnd_bytes", 66_000),
            ("last_ack_recv_ms", 8988),
        ];
        let socket = info(row(State::Established, "10.1.0.2:60298", "10.2.0.2:80"), &open);
        assert_eq!(waiting_ms(&timer(socket, TimerKind::ZeroWindowProbe, 4000, 5)), Some(204 * 31 + (204 * 32 - 4000)));
    }

    #[test]
    fn a_peer_that_is_heard_on_them_is_not_down_and_ours_are_lost() {
        // Repeated for 6.2 s and a second of the present timeout, less a timeout on the way: 7.0 s.
        let causes = |heard| weighed(&world(&[hangs(5000, heard, SMALL), hangs(5001, 9000, SMALL)])).1;
        assert_eq!(causes(6999).left[0].cause.id, "ours-lost");
        assert!(out(&causes(6999)).contains(&"host-down"));
        assert_eq!(causes(7000).left[0].cause.id, "host-down");
    }

    #[test]
    fn full_segments_after_a_handshake_may_be_a_black_hole_or_a_host_that_died() {
        let left = |waits| {
            let causes = weighed(&world(&[hangs(5000, 9000, waits), hangs(5001, 9000, waits)])).1;
            causes.left.iter().take(2).map(|h| h.cause.id).collect::<Vec<_>>()
        };
        assert_eq!(left((15_928, 11)), ["mtu-black-hole", "host-down"]);
        assert_eq!(left((5000, 4)), ["mtu-black-hole", "host-down"], "the last one is short");
        assert_eq!(left((1600, 2))[0], "mtu-black-hole");
        assert_eq!(left((1400, 2))[0], "host-down", "none is full");
        // Ten messages of 500 bytes left one by one, after one that was acknowledged, and are merged since.
        let mut merged = hangs(5000, 9000, (5000, 4));
        assert!(merged.info.as_mut().unwrap().set("data_segs_out", 10 + 5));
        let causes = weighed(&world(&[merged.clone(), merged])).1;
        assert_eq!(causes.left[0].cause.id, "host-down", "{causes:#?}");
        assert!(out(&causes).contains(&"mtu-black-hole"));
        let mut header = hangs(5000, 9000, (14_680, 11));
        assert!(header.info.as_mut().unwrap().set("bytes_retrans", 5 * 200));
        let causes = weighed(&world(&[header.clone(), header])).1;
        assert_eq!(causes.left[0].cause.id, "host-down", "the first one is short, and it is what is repeated");
    }
}
