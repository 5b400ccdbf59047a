//! The way up: listeners, handshakes under way, open connections and what their queues and timers show. Comes in: a
//! namespace, ports, a count. Goes out: [`Held`]. Never here: a FIN.

use std::time::Duration;

use tcpstate::model::state::State;

use super::{Held, Ports, Service, nobody};
use crate::harness::Netns;
use crate::harness::sock::Sock;

/// A listener that nobody calls.
#[track_caller]
pub fn listen(ns: &Netns, ports: Ports, backlog: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        Service::prepared(ports, backlog, |_| {}).end(&mut held, "listen", 0, u32::from(backlog));
        held.settle(ns)
    })
}

/// A listener on `[::]` that does not take IPv4.
#[track_caller]
pub fn only_v6(ns: &Netns, port: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let ports = Ports::server(port).family(super::Family::Mapped);
        Service::prepared(ports, 128, Sock::set_only_v6).end(&mut held, "only_v6", 0, 128);
        held.settle(ns)
    })
}

/// This many listeners on one port, and connections that the kernel spread over them, none accepted.
#[track_caller]
pub fn reuseport(ns: &Netns, ports: Ports, listeners: u16, connections: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut services: Vec<Service> =
            (0..listeners).map(|_| Service::prepared(ports, 1024, Sock::set_reuseport)).collect();
        for _ in 0..connections {
            let client = services[0].client();
            let ends = services[0].seen_by_server(&client);
            held.unheld("reuseport/waiting", State::Established, ends, (Some(0), Some(0)));
            held.keep("reuseport/client", client, State::Established, 0, 0);
        }
        for service in services {
            // Which of them gets a connection is the kernel's hash, so that the queue is not foretold.
            held.keep("reuseport/listener", service.listener, State::Listen, None, 1024);
        }
        held.settle(ns)
    })
}

/// Open connections on which nothing happens, both ends held.
#[track_caller]
pub fn established(ns: &Netns, ports: Ports, count: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = Service::new(ports);
        for _ in 0..count {
            let (client, server) = service.pair();
            held.keep("established/client", client, State::Established, 0, 0);
            held.keep("established/server", server, State::Established, 0, 0);
        }
        service.end(&mut held, "established", 0, 128);
        held.settle(ns)
    })
}

/// Open idle connections whose clients probe for a dead peer, after an hour.
#[track_caller]
pub fn keepalive(ns: &Netns, ports: Ports, count: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = Service::new(ports);
        for _ in 0..count {
            let (client, server) = service.pair();
            client.set_keepalive(Duration::from_secs(3600), Duration::from_secs(75));
            held.keep("keepalive/client", client, State::Established, 0, 0);
            held.keep("keepalive/server", server, State::Established, 0, 0);
        }
        service.end(&mut held, "keepalive", 0, 128);
        held.settle(ns)
    })
}

/// Open connections on which each client sent this many bytes that the server does not read.
#[track_caller]
pub fn unread(ns: &Netns, ports: Ports, count: u16, bytes: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = Service::new(ports);
        for _ in 0..count {
            let (client, server) = service.pair();
            client.send(usize::from(bytes));
            held.keep("unread/client", client, State::Established, 0, 0);
            held.keep("unread/server", server, State::Established, u32::from(bytes), 0);
        }
        service.end(&mut held, "unread", 0, 128);
        held.settle(ns)
    })
}

/// Open connections whose server reads nothing until its window is zero: the client's data waits, and its timer probes.
#[track_caller]
pub fn zero_window(ns: &Netns, ports: Ports, count: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = narrow(ports);
        for (client, server) in full_pairs(&mut service, count) {
            let (waiting, unread) = (client.unacknowledged(), server.unread());
            held.keep("zero_window/client", client, State::Established, 0, waiting);
            held.keep("zero_window/server", server, State::Established, unread, 0);
        }
        service.end(&mut held, "zero_window", 0, 128);
        held.settle(ns)
    })
}

/// A listener whose connections have a small receive buffer.
#[track_caller]
pub(super) fn narrow(ports: Ports) -> Service {
    Service::prepared(ports, 128, |listener| listener.set_receive_buffer(4096))
}

/// Connections through which the client sent until the server's window was shut.
#[track_caller]
pub(super) fn full_pairs(service: &mut Service, count: u16) -> Vec<(Sock, Sock)> {
    let pairs: Vec<(Sock, Sock)> = (0..count).map(|_| service.pair()).collect();
    for (client, _) in &pairs {
        client.set_send_buffer(4096);
    }
    Sock::fill_all(pairs.iter().map(|(client, _)| client));
    pairs
}

/// An accept queue filled by nobody accepting: `backlog + 1` connections wait in it (the kernel compares with `>`,
/// `sk_acceptq_is_full` in include/net/sock.h), and `beyond` further clients stay in SYN_SENT.
#[track_caller]
pub fn accept_queue_full(ns: &Netns, ports: Ports, backlog: u16, beyond: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = Service::prepared(ports, backlog, |_| {});
        for _ in 0..=backlog {
            let client = service.client();
            held.unheld(
                "accept_queue_full/waiting",
                State::Established,
                service.seen_by_server(&client),
                (Some(0), Some(0)),
            );
            held.keep("accept_queue_full/client", client, State::Established, 0, 0);
        }
        for _ in 0..beyond {
            // A SYN counts as one byte of the send queue.
            held.keep("accept_queue_full/refused", service.connecting(), State::SynSent, 0, 1);
        }
        service.end(&mut held, "accept_queue_full", u32::from(backlog) + 1, u32::from(backlog));
        held.settle(ns)
    })
}

/// Clients whose SYN nobody answers: those beyond a full accept queue of the smallest kind.
#[track_caller]
pub fn syn_sent(ns: &Netns, ports: Ports, count: u16) -> Held {
    accept_queue_full(ns, ports, 0, count)
}

/// Handshakes that the server side does not finish, because it waits for data that the client never sends.
///
/// The client believes itself to be ESTABLISHED. After the time given to `TCP_DEFER_ACCEPT`, here a minute, it would
/// be.
#[track_caller]
pub fn syn_recv(ns: &Netns, ports: Ports, count: u16) -> Held {
    ns.run(|| {
        let mut held = Held::default();
        let mut service = Service::prepared(ports, 128, |listener| {
            listener.set_defer_accept(Duration::from_secs(60));
        });
        for _ in 0..count {
            let client = service.client();
            held.unheld("syn_recv/request", State::SynRecv, service.seen_by_server(&client), (Some(0), Some(0)));
            held.keep("syn_recv/client", client, State::Established, 0, 0);
        }
        service.end(&mut held, "syn_recv", 0, 128);
        held.settle(ns)
    })
}

/// A socket with an address and no purpose yet; Linux shows it from 6.8 on.
#[track_caller]
pub fn bound_inactive(ns: &Netns, ports: Ports) -> Held {
    ns.run(|| {
        let mut address = ports.family.listener();
        address.set_port(ports.server);
        let sock = Sock::bound(address);
        assert_eq!(sock.peer(), nobody(address));
        let mut held = Held::default();
        held.keep("bound_inactive", sock, State::BoundInactive, 0, 0);
        if crate::harness::kernel_at_least(6, 8) { held.settle(ns) } else { held }
    })
}
