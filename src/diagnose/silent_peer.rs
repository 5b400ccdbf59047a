//! Why sent data is not acknowledged: the causes, and what the rows and their neighbours say of each.
//!
//! Input: the connections to one address that repeat a segment. Output: the causes with their weights, and how long the
//! data has waited. Not here: how bad it is.

use std::net::IpAddr;

use crate::diagnose::callers;
use crate::diagnose::conntrack;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::next_hop::{self, Way};
use crate::diagnose::peers;
use crate::diagnose::queues::Queue;
use crate::diagnose::reach::{self, Leaving, Reach};
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket, State, TcpInfo};
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
        decided_by: "`ping -M do -s 1472`; the connections recover with net.ipv4.tcp_mtu_probing = 1",
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
        text: "one of several backends behind that address is gone",
        predicts: "some connections to the address and port die while others work, idle or not",
        refuted_by: "nothing to that address and port works",
        decided_by: "the load balancer's list of backends, if the address is one's",
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
    conntrack::FULL,
    next_hop::GATEWAY,
];

/// A pause before the fatal write that a forgetful device could have used (policy).
const IDLE_MS: u64 = 3000;
/// So many repetitions in a row, over several connections, are no loss.
const REPEATS_LOST: u64 = 10;

/// How long the oldest unacknowledged data of a row has waited, at least. The whole time of recovery is this one's when
/// it is the first (the kernel counts the unfinished one too); else the doublings of the timeout add up to it.
#[must_use]
pub fn waiting_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let silence = u64::from(info.last_ack_recv_ms()?);
    let doublings = || Some((u64::from(info.rto_us()?) / 1000).saturating_sub(peers::base_rto_ms(socket)?));
    let recovery = info.total_rto_time_ms().filter(|_| info.total_rto_recoveries() == Some(1)).map(u64::from);
    Some(recovery.filter(|ms| *ms > 0).or_else(doublings)?.min(silence))
}

/// What is known of connections to one address whose data is not acknowledged.
pub struct Facts<'v> {
    /// Connections to the same address and port that are heard since the data was first repeated.
    pub working: u64,
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
    idle: usize,
    never_heard: bool,
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
        let to = peers::common_peer(rows).unwrap_or(Endpoint::new(addr, 0));
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
        let working = all.iter().filter(|s| s.peer.port == to.port).count() as u64;
        let in_vain = |s: &&&Socket| {
            s.timer.is_some_and(|t| t.retransmits > 0) && (all.is_empty() || working == 0 && s.peer.port == to.port)
        };
        Facts {
            working,
            address_works: all.len() as u64,
            works_with_loss: lost > 0 && lost * 100 >= sum(TcpInfo::bytes_sent),
            here: rows.iter().any(|s| view.mirror(s).is_some()),
            overflowing,
            unanswered: attempts.iter().filter(in_vain).count() as u64,
            kept: count(&peers::cannot_leave) as u64,
            leaving,
            way: Way::of(view, netns, addr, rows),
            tracking: conntrack::weigh(view, netns, leaving),
            full_size: count(&|s| segment_share(s).is_some_and(|share| share >= 0.9)),
            small: count(&|s| segment_share(s).is_some_and(|share| share < 0.9)),
            small_before: count(&|s| acknowledged_share(s).is_some_and(|share| share < 0.5)),
            idle: count(&|s| idle_ms(s).is_some_and(|ms| ms >= IDLE_MS)),
            never_heard: rows.iter().all(|s| {
                info(s, |i| i.bytes_acked().filter(|n| *n <= 1)).is_some()
                    && info(s, TcpInfo::bytes_received) == Some(0)
            }),
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
            "lossy-path" => self.lossy_path(),
            "peer-accept-queue-full" => self.queue_full(),
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
            _ if self.here => Weight::Refuted("the other half is on this host".into()),
            _ if self.is_about_size() => Weight::Possible(if self.rows > 1 { 0.15 } else { 0.4 }),
            _ => Weight::Possible(0.6),
        }
    }

    fn port_filtered(&self) -> Weight {
        match self {
            _ if self.working > 0 => Weight::Refuted("other connections to that address and port work".into()),
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
                let n = text::count(self.small as u64, "connection repeats", "connections repeat");
                Weight::Refuted(format!("{n} less than a full-size segment"))
            }
            _ if self.full_size == 0 => Weight::Possible(0.05),
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
            (true, true) => Weight::Possible(0.8),
            (true, false) => Weight::Possible(0.25),
            (false, true) => Weight::Possible(0.15),
            (false, false) => Weight::Possible(0.05),
        }
    }

    fn backend_down(&self) -> Weight {
        match self {
            _ if self.working == 0 => Weight::Refuted("no connection to that address and port works".into()),
            _ if self.idle * 2 > self.rows => Weight::Possible(0.1),
            _ => Weight::Possible(0.5),
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
            _ if self.never_heard => Weight::Possible(if self.working > 0 { 0.6 } else { 0.3 }),
            _ => Weight::Refuted("the peer sent or acknowledged data on them before".into()),
        }
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

/// What is in flight, as a share of full-size segments.
#[must_use]
pub fn segment_share(socket: &Socket) -> Option<f64> {
    let info = socket.info.as_deref()?;
    let (segments, mss) = (info.unacked().filter(|n| *n > 0)?, info.snd_mss_bytes().filter(|n| *n > 0)?);
    let bytes = socket.send_q_bytes?.checked_sub(info.notsent_bytes()?)?;
    Some(f64::from(bytes) / (f64::from(segments) * f64::from(mss)))
}

/// How large the acknowledged segments were in the mean, as a share of full-size ones.
#[must_use]
pub fn acknowledged_share(socket: &Socket) -> Option<f64> {
    let info = socket.info.as_deref()?;
    let (segments, mss) = (info.delivered().filter(|n| *n > 0)?, info.snd_mss_bytes().filter(|n| *n > 0)?);
    // The SYN counts as a byte.
    let bytes = info.bytes_acked().filter(|n| *n > 1)?;
    Some(bytes as f64 / (f64::from(segments) * f64::from(mss)))
}

/// The same as [`idle_ms`], at least: recovery begins with the first timeout, before which there may be a loss probe. `None`
/// where this kernel does not count the time of recovery (before Linux 6.7), or counts an earlier one with it.
#[must_use]
pub fn idle_at_least_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let recovery = info.total_rto_time_ms().filter(|_| info.total_rto_recoveries() == Some(1))?;
    let heard = u64::from(info.last_ack_recv_ms()?.min(info.last_data_recv_ms()?));
    Some(heard.saturating_sub(u64::from(recovery) + 3 * peers::base_rto_ms(socket)?))
}

/// How long the connection had been silent when the data that waits was sent, at most: how long that waited is a lower bound.
fn idle_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let heard = u64::from(info.last_ack_recv_ms()?.min(info.last_data_recv_ms()?));
    Some(heard.saturating_sub(waiting_ms(socket)?))
}
