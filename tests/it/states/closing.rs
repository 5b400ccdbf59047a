//! The way down: every state after the first FIN. Comes in: a namespace, ports, a count, who did what. Goes out:
//! [`Held`]. Never here: a lost packet (that is `link`).

use std::collections::BTreeSet;

use tcpstate::model::state::State;

use super::open::{full_pairs, narrow};
use super::{Held, Ports, Service};
use crate::harness::sock::Sock;
use crate::harness::{Netns, diag, wait_for};

/// Whether the process keeps its descriptor of the end that says goodbye, or closes it and leaves the kernel an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Held,
    Closed,
}

/// What the process did with a connection that its peer has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseWait {
    /// Never looked: the end of the stream counts as one byte of the receive queue.
    EofUnread,
    /// Saw the end and did not close: the classic leak, with an empty receive queue.
    EofRead,
    /// Left this many bytes and the end unread.
    DataUnread(u16),
    /// Read this many bytes to the last after the end had arrived, and did not ask for more: the process has not been
    /// told of the end, and yet the receive queue is empty. (The kernel merges a FIN into the unread data before it,
    /// `tcp_try_coalesce`, and the read of the last byte takes both, `found_fin_ok` in `tcp_recvmsg_locked`.)
    DataReadToTheLast(u16),
    /// Never even accepted it.
    NotAccepted,
}

/// What the peer did after its FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// Only shut down writing, and holds a full FIN_WAIT2.
    HalfClosed,
    /// Closed: the kernel keeps a FIN_WAIT2 of the small kind for `tcp_fin_timeout`.
    Closed,
    /// Closed, and its FIN_WAIT2 has run out (waits for `tcp_fin_timeout`, which this sets to one second).
    Gone,
}

/// Which side closes first, and so keeps the TIME_WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Client,
    Server,
}

/// Connections whose client said goodbye, and whose server did not: CLOSE_WAIT on the listener's port.
#[track_caller]
pub fn close_wait(ns: &Netns, ports: Ports, count: u16, kind: CloseWait, peer: PeerEnd) -> Held {
    if peer == PeerEnd::Gone {
        ns.set_sysctl("ipv4/tcp_fin_timeout", "1");
    }
    ns.run(|| {
        let mut held = Held::default();
        let backlog = count.max(128);
        let mut leaving = BTreeSet::new();
        let mut service = Service::prepared(ports, backlog, |_| {});
        for _ in 0..count {
            let client = service.client();
            let (local, remote) = service.seen_by_server(&client);
            let client_ends = (client.local(), client.peer());
            let server = (kind != CloseWait::NotAccepted).then(|| service.listener.accept());
            if let CloseWait::DataUnread(bytes) | CloseWait::DataReadToTheLast(bytes) = kind {
                client.send(usize::from(bytes));
            }
            if peer == PeerEnd::HalfClosed {
                client.shutdown();
                held.keep("close_wait/peer", client, State::FinWait2, 0, 0);
            } else {
                client.close();
                if peer == PeerEnd::Closed {
                    held.unheld("close_wait/peer", State::FinWait2, client_ends, (Some(0), Some(0)));
                } else {
                    leaving.insert(client_ends);
                }
            }
            let Some(server) = server else {
                held.unheld("close_wait/not_accepted", State::CloseWait, (local, remote), (Some(1), Some(0)));
                continue;
            };
            server.wait(State::CloseWait);
            let (what, recv_q) = match kind {
                CloseWait::EofUnread | CloseWait::NotAccepted => ("close_wait/eof_unread", 1),
                CloseWait::EofRead => {
                    server.receive_eof();
                    ("close_wait/eof_read", 0)
                }
                CloseWait::DataUnread(bytes) => ("close_wait/data_unread", u32::from(bytes) + 1),
                CloseWait::DataReadToTheLast(bytes) => {
                    server.receive(usize::from(bytes));
                    ("close_wait/data_read_to_the_last", 0)
                }
            };
            held.keep(what, server, State::CloseWait, recv_q, 0);
        }
        let waiting = if kind == CloseWait::NotAccepted { u32::from(count) } else { 0 };
        service.end(&mut held, "close_wait", waiting, u32::from(backlog));
        wait_for("the end of the peers", || {
            let left = diag::dump().iter().filter(|row| leaving.contains(&(row.local, row.peer))).count();
            if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
        });
        held.settle(ns)
    })
}

/// Clients that closed one direction and wait for the server to close the other, both ends held.
#[track_caller]
pub fn fin_wait2(ns: &Netns, ports: Ports, count: u16) -> Held {
    close_wait(ns, ports, count, CloseWait::EofRead, PeerEnd::HalfClosed)
}

/// Clients that closed altogether: small FIN_WAIT2 objects that no process holds.
#[track_caller]
pub fn fin_wait2_orphan(ns: &Netns, ports: Ports, count: u16) -> Held {
    close_wait(ns, ports, count, CloseWait::EofRead, PeerEnd::Closed)
}

/// Clients whose FIN waits behind data that the server does not read. Closed, they are orphans with pending data.
#[track_caller]
pub fn fin_wait1(ns: &Netns, ports: Ports, count: u16, ends: Ends) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = narrow(ports);
        for (client, server) in full_pairs(&mut service, count) {
            let (client_ends, waiting) = ((client.local(), client.peer()), client.unacknowledged() + 1);
            match ends {
                Ends::Held => {
                    client.shutdown();
                    held.keep("fin_wait1/client", client, State::FinWait1, 0, waiting);
                }
                Ends::Closed => {
                    client.close();
                    held.unheld("fin_wait1/orphan", State::FinWait1, client_ends, (Some(0), Some(waiting)));
                }
            }
            let unread = server.unread();
            held.keep("fin_wait1/server", server, State::Established, unread, 0);
        }
        service.end(&mut held, "fin_wait1", 0, 128);
        held.settle(ns)
    })
}

/// Both sides said goodbye before they heard the other: the client's FIN still waits behind data (CLOSING), the
/// server's arrived (FIN_WAIT2).
#[track_caller]
pub fn closing(ns: &Netns, ports: Ports, count: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = narrow(ports);
        for (client, server) in full_pairs(&mut service, count) {
            client.shutdown();
            client.wait(State::FinWait1);
            server.shutdown();
            client.wait(State::Closing);
            let (waiting, unread) = (client.unacknowledged(), server.unread());
            // The server's FIN stands at the head of the client's receive queue, as the one byte of it.
            held.keep("closing/client", client, State::Closing, 1, waiting);
            held.keep("closing/server", server, State::FinWait2, unread, 0);
        }
        service.end(&mut held, "closing", 0, 128);
        held.settle(ns)
    })
}

/// Clients that answered the server's FIN with their own, which waits behind data that the server does not read.
#[track_caller]
pub fn last_ack(ns: &Netns, ports: Ports, count: u16, ends: Ends) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = narrow(ports);
        let pairs: Vec<(Sock, Sock)> = (0..count).map(|_| service.pair()).collect();
        for (client, server) in &pairs {
            client.set_send_buffer(4096);
            server.shutdown();
            client.wait(State::CloseWait);
            client.receive_eof();
        }
        Sock::fill_all(pairs.iter().map(|(client, _)| client));
        for (client, server) in pairs {
            let (client_ends, waiting) = ((client.local(), client.peer()), client.unacknowledged() + 1);
            match ends {
                Ends::Held => {
                    client.shutdown();
                    held.keep("last_ack/client", client, State::LastAck, 0, waiting);
                }
                Ends::Closed => {
                    client.close();
                    held.unheld("last_ack/orphan", State::LastAck, client_ends, (Some(0), Some(waiting)));
                }
            }
            let unread = server.unread();
            held.keep("last_ack/server", server, State::FinWait2, unread, 0);
        }
        service.end(&mut held, "last_ack", 0, 128);
        held.settle(ns)
    })
}

/// Finished connections, whose TIME_WAIT stays for a minute with whoever closed first.
#[track_caller]
pub fn time_wait(ns: &Netns, ports: Ports, count: u16, first: First) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = Service::new(ports);
        for _ in 0..count {
            let (client, server) = service.pair();
            let ends = match first {
                First::Client => (client.local(), client.peer()),
                First::Server => service.seen_by_server(&client),
            };
            let (closes, answers) = match first {
                First::Client => (client, server),
                First::Server => (server, client),
            };
            closes.close();
            answers.wait(State::CloseWait);
            answers.close();
            let what = if first == First::Client { "time_wait/client" } else { "time_wait/server" };
            held.unheld(what, State::TimeWait, ends, (Some(0), Some(0)));
        }
        service.end(&mut held, "time_wait", 0, 128);
        held.settle(ns)
    })
}
