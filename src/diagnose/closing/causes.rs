//! What keeps closing connections from their end: the causes, and what the rows and the other connections of the host say
//! of each.
//!
//! Input: the stuck rows of one place. Output: the causes with their weights. Not here: how bad it is.

use std::net::IpAddr;

use rustc_hash::FxHashSet;

use super::{Group, is_zero_window, silence_ms};
use crate::diagnose::delivery;
use crate::diagnose::hypothesis::{Cause, Weighed, Weight};
use crate::diagnose::peers;
use crate::diagnose::reach::{self, Leaving, Reach};
use crate::diagnose::silent_peer;
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Socket};
use crate::text;

/// What keeps a FIN, or the data before it, from being acknowledged. Rules about closing states share them.
pub const CAUSES: &[Cause] = &[
    Cause {
        id: "zero-window",
        text: "the program at the other end does not read what is left",
        predicts: "the window probe timer runs, and the peer offers no window",
        refuted_by: "a window above 0",
        decided_by: "Recv-Q of the other half: `ss -tn` on the peer; recv-queue-stuck names the reader",
    },
    Cause {
        id: "local-drop",
        text: "our segments do not leave this host (no route, no interface, or a local filter)",
        predicts: "probes fail with an open window and nothing in flight, or TCPRetransFail grows with each repetition",
        refuted_by: "repetitions that left while TCPRetransFail did not grow",
        decided_by: "`ip route get` of the peer, rules of OUTPUT (`nft list ruleset`), `ip -s link`",
    },
    Cause {
        id: "ours-lost",
        text: "the peer's segments arrive, and ours are lost on the way",
        predicts: "the peer is heard within our own timeout, and what we repeat stays unacknowledged",
        refuted_by: "a peer that is silent for longer",
        decided_by: "tcpdump at both ends: rules by direction, asymmetric routes, reverse-path checks at the peer",
    },
    Cause {
        id: "peer-gone",
        text: "the peer, or the way to it, is gone",
        predicts: "nothing comes from its address on any connection",
        refuted_by: "a segment from its address since these fell silent",
        decided_by: "`ping` to the peer, or a new connection to it",
    },
    Cause {
        id: "flow-forgotten",
        text: "a firewall or a NAT on the way forgot these flows",
        predicts: "other connections of the same peer are answered, and these are not",
        refuted_by: "a peer that is heard on these",
        decided_by: "the device's timeout for half-closed flows; rules here that drop conntrack state INVALID",
    },
    Cause {
        id: "fin-filtered",
        text: "a filter on the way drops segments that end a connection (FIN)",
        predicts: "nothing but the FIN is repeated, on connections that were in use until then, and the peer's others work",
        refuted_by: "data that is repeated too",
        decided_by: "`tcpdump` at both ends: the FIN leaves here and does not arrive; rules on TCP flags in between",
    },
];

/// Probes without an answer from which on the peer counts as gone: one may be on its way.
const UNANSWERED: u8 = 2;

/// Which addresses were heard while these rows were not.
pub struct Facts<'v, 'a> {
    reach: Reach<'v, 'a>,
}

impl<'v, 'a> Facts<'v, 'a> {
    #[must_use]
    pub fn new(view: &'v View<'a>, groups: &[Group<'a>]) -> Facts<'v, 'a> {
        let peers: FxHashSet<(Option<NetnsId>, Endpoint)> =
            groups.iter().flat_map(|g| &g.rows).map(|s| (s.netns, s.peer.normalised())).collect();
        Facts { reach: Reach::new(view, peers.into_iter()) }
    }

    /// Which causes are left for the rows of a place.
    #[must_use]
    pub fn weigh(&self, view: &View<'a>, group: &Group<'a>) -> Weighed {
        let rows = &group.rows;
        let most = |is: &dyn Fn(&Socket) -> bool| rows.iter().filter(|s| is(s)).count() * 2 > rows.len();
        let heard = rows.iter().filter_map(|s| is_heard(s));
        let picture = Picture {
            // Probes without an answer point to a peer that is gone since.
            shut: most(&|s| is_zero_window(s) && s.timer.is_some_and(|t| t.retransmits < UNANSWERED)),
            any_shut: rows.iter().any(|s| is_zero_window(s)),
            cannot_leave: most(&peers::cannot_leave),
            leaving: reach::leaving(view, group.netns, rows),
            heard: heard.clone().count() > 0 && heard.clone().all(|h| h),
            silent: heard.clone().count() > 0 && heard.clone().all(|h| !h),
            only_fin: rows.iter().all(|s| delivery::has_only_its_fin(s)),
            rested: most(&|s| silent_peer::idle_ms(s).is_some_and(|ms| ms >= silent_peer::IDLE_MS)),
            answering: self.answering(group),
            peers: rows.iter().map(|s| s.peer.normalised().addr).collect::<FxHashSet<_>>().len(),
        };
        Weighed::of(CAUSES, |cause| picture.weigh(cause))
    }

    /// The peers of the place that were heard on another connection since all of these fell silent.
    fn answering(&self, group: &Group<'_>) -> usize {
        let Some((_, since_ms)) = silence_ms(&group.rows) else { return 0 };
        let addrs: FxHashSet<IpAddr> = group.rows.iter().map(|s| s.peer.normalised().addr).collect();
        let own = |s: &Socket| group.rows.iter().any(|row| std::ptr::eq(*row, s));
        let heard = |addr: &&IpAddr| self.reach.address(group.netns, **addr, since_ms).any(|s| !own(s));
        addrs.iter().filter(heard).count()
    }
}

/// Whether the peer was heard within our own timeout, which has backed off as its FIN's has: its segments arrive.
#[must_use]
pub fn is_heard(socket: &Socket) -> Option<bool> {
    let info = socket.info.as_deref()?;
    Some(u64::from(info.last_ack_recv_ms()?) * 1000 <= u64::from(info.rto_us()?))
}

struct Picture {
    /// Most of the rows have a zero window before them.
    shut: bool,
    any_shut: bool,
    cannot_leave: bool,
    leaving: Leaving,
    /// Every row of which it is known was heard, or none was.
    heard: bool,
    silent: bool,
    /// Nothing but the FIN of each is unacknowledged.
    only_fin: bool,
    /// Most had said nothing for a while before they were closed, so that a device could forget them.
    rested: bool,
    /// So many of the peers answer on other connections.
    answering: usize,
    peers: usize,
}

impl Picture {
    fn weigh(&self, cause: &'static Cause) -> Weight {
        let refuted = |why: &str| Weight::Refuted(why.to_owned());
        match cause.id {
            "zero-window" if self.shut => Weight::Proven,
            "zero-window" if self.any_shut => Weight::Possible(0.3),
            "zero-window" => refuted("the peers offer a window"),
            "local-drop" if self.cannot_leave => Weight::Proven,
            "local-drop" => match self.leaving {
                Leaving::Leaves(n) => Weight::Refuted(format!("{} left", text::count(n, "repetition", "repetitions"))),
                Leaving::Fails(_) => Weight::Possible(0.7),
                Leaving::Unknown => Weight::Possible(0.1),
            },
            "ours-lost" if self.heard => Weight::Possible(0.8),
            "ours-lost" if self.silent => refuted("the peer is silent"),
            "ours-lost" => Weight::Possible(0.2),
            "fin-filtered" if !self.only_fin => refuted("data is repeated too"),
            "fin-filtered" if self.answering == 0 => Weight::Possible(0.1),
            "fin-filtered" => Weight::Possible(if self.rested { 0.2 } else { 0.6 }),
            _ if self.heard => refuted("the peer is heard on these connections"),
            "peer-gone" if self.answering == self.peers => refuted("its address was heard on other connections since"),
            "peer-gone" if self.answering > 0 => Weight::Possible(0.4),
            "peer-gone" => Weight::Possible(0.6),
            // A flow of a moment ago is not forgotten yet.
            _ if !self.rested && self.only_fin && self.answering > 0 => Weight::Possible(0.2),
            _ if self.answering == self.peers => Weight::Possible(0.7),
            _ if self.answering > 0 => Weight::Possible(0.4),
            _ => Weight::Possible(0.2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::groups;
    use super::*;
    use crate::diagnose::testkit::{World, info, row, timer, unheld};
    use crate::model::counter::Counter;
    use crate::model::{State, TimerKind};

    /// A LAST_ACK row whose FIN was repeated so often, with the peer last heard so long ago.
    fn stuck(port: u16, peer: &str, repeats: u8, silent_ms: u64) -> Socket {
        let base = Socket { shutdown: Some(3), ..unheld(row(State::LastAck, &format!("10.0.0.1:{port}"), peer)) };
        let fields = [("rto_us", 1_600_000), ("last_ack_recv_ms", silent_ms), ("last_data_recv_ms", 50_000)];
        timer(info(base, &fields), TimerKind::Retransmit, 500, repeats)
    }

    fn left(world: &World) -> Vec<&'static str> {
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        let groups = groups(&view, |s| s.state == State::LastAck);
        let weighed = Facts::new(&view, &groups).weigh(&view, &groups[0]);
        weighed.left.iter().map(|h| h.cause.id).collect()
    }

    /// Another connection of the same peer that was heard so long ago.
    fn other(peer: &str, heard_ms: u64) -> Socket {
        let heard = [("last_ack_recv_ms", heard_ms), ("last_data_recv_ms", heard_ms)];
        info(row(State::Established, "10.0.0.1:22", peer), &heard)
    }

    #[test]
    fn silence_of_the_peer_on_all_connections_or_on_these_decides() {
        let mut world = World::new();
        world.add(stuck(40_000, "10.0.0.9:80", 4, 9000));
        assert_eq!(left(&world), ["peer-gone", "flow-forgotten", "local-drop"]);
        world.add(other("10.0.0.9:5000", 9001));
        assert_eq!(left(&world), ["peer-gone", "flow-forgotten", "local-drop"], "heard before these fell silent");
        world.now.sockets[1] = other("10.0.0.9:5000", 9000);
        assert_eq!(left(&world), ["flow-forgotten", "local-drop"]);
    }

    #[test]
    fn a_fin_alone_on_connections_in_use_points_to_a_filter() {
        let of = |idle_ms: u64, queue| {
            let mut world = World::new();
            for port in 40_000..40_002 {
                // Repeated for 1.4 s.
                let mut socket = stuck(port, "10.0.0.9:80", 3, 1400 + idle_ms);
                socket.send_q_bytes = Some(queue);
                let info = socket.info.as_mut().unwrap();
                assert!(info.set("backoff", 3) && info.set("last_data_recv_ms", 1400 + idle_ms));
                world.add(socket);
            }
            world.add(other("10.0.0.9:5000", 10));
            left(&world)
        };
        assert_eq!(of(300, 1), ["fin-filtered", "flow-forgotten", "local-drop"]);
        assert_eq!(of(60_000, 1), ["flow-forgotten", "fin-filtered", "local-drop"]);
        assert_eq!(of(300, 1001), ["flow-forgotten", "local-drop"], "data waits, too");
    }

    #[test]
    fn repetitions_that_left_name_the_path_and_those_that_failed_this_host() {
        let twice = |silent_ms, failed: u64| {
            let mut world = World::new();
            world.add(stuck(40_000, "10.0.0.9:80", 3, silent_ms)).counter(Counter::TcpExtTcpRetransFail, 7).later(2000);
            world.now.sockets[0] = stuck(40_000, "10.0.0.9:80", 4, silent_ms);
            world.counter(Counter::TcpExtTcpRetransFail, 7 + failed);
            left(&world)
        };
        assert_eq!(twice(1600, 0), ["ours-lost"], "heard within the timeout of 1.6 s");
        assert_eq!(twice(1601, 0), ["peer-gone", "flow-forgotten"]);
        assert_eq!(twice(1600, 1), ["ours-lost", "local-drop"]);
    }

    #[test]
    fn a_shut_window_and_probes_that_cannot_leave_are_proven() {
        let with = |window: u64, probes: u8| {
            let mut world = World::new();
            let socket = stuck(40_000, "10.0.0.9:80", 0, 300);
            let info = [("rto_us", 1_600_000), ("snd_wnd_bytes", window), ("backoff", 4), ("last_ack_recv_ms", 300)];
            world.add(timer(crate::diagnose::testkit::info(socket, &info), TimerKind::ZeroWindowProbe, 500, probes));
            left(&world)
        };
        assert_eq!((with(0, 1), with(9000, 3)), (vec!["zero-window"], vec!["local-drop"]));
        assert!(with(0, 2).contains(&"zero-window") && with(0, 2).len() > 1, "probes that nobody answers");
    }
}
