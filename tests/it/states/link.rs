//! Situations in which packets are lost, on a [`VethPair`] that is cut. Comes in: the wire, ports, a count. Goes out:
//! [`Held`], whose rows are those of the namespace named in each function. Never here: mending the wire.

use std::time::Duration;

use tcpstate::model::state::State;

use super::Held;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};

/// Clients near whose SYNs vanish: SYN_SENT with a running retransmission timer, and nothing at the far side.
#[track_caller]
pub fn syn_black_hole(wire: &VethPair<'_>, port: u16, count: u16) -> Held {
    wire.cut(Side::Near);
    wire.near.run(|| {
        let mut held = Held::default();
        for _ in 0..count {
            let sock = Sock::connecting(Side::Far.at(port), None);
            held.keep("syn_black_hole", sock, State::SynSent, 0, 1);
        }
        held.settle(wire.near)
    })
}

/// Handshakes whose SYN-ACK is lost: SYN_RECV near, SYN_SENT far. The rows are the near side's.
#[track_caller]
pub fn syn_recv_lost(wire: &VethPair<'_>, port: u16, count: u16) -> Held {
    let listener = wire.near.run(|| Sock::listening(Side::Near.at(port), 128));
    wire.cut(Side::Near);
    let mut held = Held::default();
    let clients: Vec<Sock> = wire.far.run(|| (0..count).map(|_| Sock::connecting(Side::Near.at(port), None)).collect());
    for client in clients {
        held.unheld("syn_recv_lost/request", State::SynRecv, (Side::Near.at(port), client.local()), (Some(0), Some(0)));
        // Held for as long as the requests, but a row of the other namespace.
        held.socks.push(client);
    }
    wire.near.run(|| held.keep("syn_recv_lost/listener", listener, State::Listen, 0, 128));
    held.settle(wire.near)
}

/// What the near side did last, before the wire was cut behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Sent this many bytes, and waits for them to be acknowledged: ESTABLISHED.
    Sent(u16),
    /// Closed: an orphan whose FIN nobody answers, FIN_WAIT1.
    Closed,
    /// Closed after the far side had: LAST_ACK, an orphan.
    ClosedAfterPeer,
    /// Nothing; keepalive probes, the first after a second and then every ten, find nobody: ESTABLISHED.
    Keepalive,
}

/// Connections from near to far whose peer cannot be reached any more, `count` for each thing the near side did
/// last, on
/// `first_port` and the ports after it. All are made before the cut: mending the wire for one would let the
/// retransmissions of another through. The rows are the near side's.
#[track_caller]
pub fn unreachable(wire: &VethPair<'_>, first_port: u16, count: u16, lasts: &[Last]) -> Held {
    let mut held = Held::default();
    let mut pairs: Vec<(Last, Sock, Sock)> = Vec::new();
    for (port, last) in (first_port..).zip(lasts) {
        let listener = wire.far.run(|| Sock::listening(Side::Far.at(port), count.max(128)));
        for _ in 0..count {
            let client = wire.near.run(|| Sock::connected(Side::Far.at(port), None));
            let server = listener.accept();
            if *last == Last::ClosedAfterPeer {
                server.shutdown();
                client.wait(State::CloseWait);
            }
            pairs.push((*last, client, server));
        }
        held.socks.push(listener);
    }
    wire.cut(Side::Near);
    for (last, client, server) in pairs {
        let ends = (client.local(), client.peer());
        match last {
            Last::Sent(bytes) => {
                client.send(usize::from(bytes));
                held.keep("unreachable/sent", client, State::Established, 0, u32::from(bytes));
            }
            Last::Closed => {
                client.close();
                held.unheld("unreachable/closed", State::FinWait1, ends, (Some(0), Some(1)));
            }
            Last::ClosedAfterPeer => {
                client.close();
                // The far side's FIN was never read, and still counts.
                held.unheld("unreachable/closed_after_peer", State::LastAck, ends, (Some(1), Some(1)));
            }
            Last::Keepalive => {
                client.set_keepalive(Duration::from_secs(1), Duration::from_secs(10));
                held.keep("unreachable/keepalive", client, State::Established, 0, 0);
            }
        }
        held.socks.push(server);
    }
    held.settle(wire.near)
}
