//! Remedies of the rules on ports and TIME_WAIT. Input: programs that open a connection for each request, or keep one; that
//! bind too early, or not. Output: the first step of each finding, and silence about the program that follows it.
//!
//! TIME_WAIT lasts a minute, which nothing shortens: the changed program runs in a second namespace.

use std::net::SocketAddr;

use tcpstate::diagnose::Diagnosis;
use tcpstate::model::State;

use super::{Doctor, cured, told, wait_for_rows};
use crate::harness::oracle::installed;
use crate::harness::script::Script;
use crate::harness::sock::Sock;
use crate::harness::veth::{Side, VethPair};
use crate::harness::{Netns, finish, in_netns, kernel_at_least, skip};
use crate::judge::pause;

/// A client with its server. Arguments: how many requests, and how: `each` on a connection of its own that the client closes,
/// `one` connection for all, or each on one that the `server` closes.
const REQUESTS: &str = r#"
import socket, sys, threading, time
count, how = int(sys.argv[1]), sys.argv[2]
L = socket.create_server(("10.9.0.1", 7000), backlog=64)
def serve(a):
    while a.recv(1):
        a.sendall(b"a")
        if how == "server": break
    a.close()
def accept():
    while True: threading.Thread(target=serve, args=(L.accept()[0],), daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
def ask(c):
    c.sendall(b"q"); c.recv(1)
    if how == "server": c.recv(1)
print("ready", flush=True)
sys.stdin.readline()
kept = socket.create_connection(("10.9.0.1", 7000)) if how == "one" else None
for _ in range(count):
    c = kept or socket.create_connection(("10.9.0.1", 7000))
    ask(c)
    if not kept: c.close()
    time.sleep(0.005)
print("done", flush=True)
sys.stdin.readline()
"#;

/// What the doctor says of so many requests in a namespace with few ports: it looks before and after them.
fn requests(ns: &Netns, count: u16, how: &str, prepare: impl FnOnce(&Netns)) -> Option<Diagnosis> {
    // An address that is not loopback to `tcp_tw_reuse`.
    let output = finish(ns.command("ip").args(["addr", "add", "10.9.0.1/32", "dev", "lo"]));
    assert!(output.status.success(), "{output:?}");
    ns.set_sysctl("ipv4/ip_local_port_range", "20000 20199");
    prepare(ns);
    let mut script = Script::start(ns, REQUESTS, &[&count.to_string(), how])?;
    assert_eq!(script.line(), "ready");
    Some(Doctor::of(ns).looks(|| {
        script.go_on();
        assert_eq!(script.line(), "done");
    }))
}

#[test]
pub fn one_connection_for_all_requests_leaves_the_ports_free() {
    in_netns(|ns| {
        let rule = "ephemeral-port-exhaustion";
        let Some(ill) = requests(ns, 140, "each", |_| {}) else { return };
        told(&ill, rule, "Reuse connections in the named process: HTTP keep-alive, a connection pool");
        let Some(well) = requests(&Netns::new(), 140, "one", |_| {}) else { return };
        cured(&well, rule);
    });
}

#[test]
pub fn one_connection_for_all_requests_leaves_no_time_wait() {
    in_netns(|ns| {
        // A third of the ports.
        let wider = |ns: &Netns| ns.set_sysctl("ipv4/ip_local_port_range", "20000 20499");
        let Some(_) = requests(ns, 165, "each", wider) else { return };
        let ill = Doctor::of(ns).look();
        told(&ill, "time-wait-client-churn", "Reuse connections in the named process: keep-alive, a pool");
        let Some(well) = requests(&Netns::new(), 165, "one", wider) else { return };
        cured(&well, "time-wait-client-churn");
    });
}

#[test]
pub fn one_connection_for_all_requests_needs_no_larger_table() {
    in_netns(|ns| {
        let small = |ns: &Netns| ns.set_sysctl("ipv4/tcp_max_tw_buckets", "20");
        let Some(ill) = requests(ns, 40, "each", small) else { return };
        told(&ill, "time-wait-bucket-overflow", "Reduce the churn: reuse connections");
        let Some(well) = requests(&Netns::new(), 40, "one", small) else { return };
        cured(&well, "time-wait-bucket-overflow");
    });
}

#[test]
pub fn clients_that_close_first_take_the_time_wait() {
    in_netns(|ns| {
        let wide = |ns: &Netns| ns.set_sysctl("ipv4/ip_local_port_range", "20000 29999");
        let Some(ill) = requests(ns, 110, "server", wide) else { return };
        told(&ill, "time-wait-server-churn", "To have less of it, leave keep-alive on and let clients");
        let Some(well) = requests(&Netns::new(), 110, "each", wide) else { return };
        cured(&well, "time-wait-server-churn");
    });
}

/// Two hosts behind one address, which are one kernel with two timestamp clocks: connections from the same ports, first with
/// the clock of one, then with that of the other.
fn two_hosts(wire: &VethPair<'_>, port: u16, server_closes_first: bool) -> Diagnosis {
    let listener = Sock::listening(Side::Near.at(port), 64);
    // About half of the addresses have a clock that is behind.
    let addresses = (10..26).map(|n| SocketAddr::from(([10, 77, 0, n], 40_000 + port % 100)));
    wire.far.set_sysctl("ipv4/tcp_timestamps", "1");
    for from in addresses.clone() {
        let client = wire.far.run(|| Sock::connected(Side::Near.at(port), Some(from)));
        let server = listener.accept();
        let (first, second) = if server_closes_first { (server, client) } else { (client, server) };
        first.close();
        second.receive_eof();
        second.close();
    }
    if server_closes_first {
        wait_for_rows(wire.near, State::TimeWait, 16);
    }
    wire.far.set_sysctl("ipv4/tcp_timestamps", "2");
    let mut held = Vec::new();
    Doctor::of(wire.near).looks(|| {
        held.extend(addresses.map(|from| wire.far.run(|| Sock::connecting(Side::Near.at(port), Some(from)))));
        // Those that were refused repeat their SYN after a second.
        held.extend((0..16).map(|_| listener.accept()));
    })
}

#[test]
pub fn a_second_host_behind_the_address_gets_in_when_the_first_closed_first() {
    in_netns(|ns| {
        let wire = match VethPair::new(ns) {
            Ok(wire) => wire,
            Err(reason) => return skip(&reason),
        };
        for n in 10..26 {
            let output =
                finish(wire.far.command("ip").args(["addr", "add", &format!("10.77.0.{n}/24"), "dev", "far0"]));
            assert!(output.status.success(), "{output:?}");
            // As the wire's own ends: no address resolution interferes.
            let line = format!("neigh replace 10.77.0.{n} lladdr 02:00:00:00:00:02 dev near0 nud permanent");
            let output = finish(ns.command("ip").args(line.split(' ')));
            assert!(output.status.success(), "{output:?}");
        }
        // The device between them forgets a connection when it has ended.
        wire.far.set_sysctl("ipv4/tcp_max_tw_buckets", "0");
        let rule = "timewait-syn-rejects";
        told(&two_hosts(&wire, 8301, true), rule, "Let the clients or the load balancer close first");
        cured(&two_hosts(&wire, 8302, false), rule);
    });
}

/// Binds 127.0.0.1 before each of 24 connections. Arguments: port, and `port` to take a port with it, or `no-port`.
const BINDS: &str = r#"
import socket, sys
L = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
held = []
for _ in range(24):
    c = socket.socket()
    if sys.argv[2] == "no-port": c.setsockopt(socket.IPPROTO_IP, 24, 1)
    c.bind(("127.0.0.1", 0)); c.connect(L.getsockname())
    held += [c, L.accept()[0]]
print("ready", flush=True)
sys.stdin.readline()
"#;

#[test]
pub fn binding_the_address_alone_takes_no_whole_port() {
    in_netns(|ns| {
        ns.set_sysctl("ipv4/ip_local_port_range", "20000 20999");
        for (port, how) in [("7001", "port"), ("7002", "no-port")] {
            let Some(mut script) = Script::start(ns, BINDS, &[port, how]) else { return };
            assert_eq!(script.line(), "ready");
            let diagnosis = Doctor::of(ns).look();
            if how == "port" {
                let step = "Set IP_BIND_ADDRESS_NO_PORT on the socket before bind()";
                told(&diagnosis, "bind-before-connect", step);
            } else {
                cured(&diagnosis, "bind-before-connect");
            }
        }
    });
}

/// Binds and is refused, 40 times. Argument: whether it `keeps` the socket or `closes` it.
const REFUSED: &str = r#"
import socket, sys
held = []
for n in range(40):
    s = socket.socket(); s.bind(("127.0.0.1", 20000 + n))
    try: s.connect(("127.0.0.1", 9))
    except OSError: pass
    if sys.argv[1] == "closes": s.close()
    held.append(s)
print("ready", flush=True)
sys.stdin.readline()
"#;

#[test]
pub fn a_socket_that_is_closed_when_connect_fails_keeps_no_port() {
    if !kernel_at_least(6, 8) {
        return skip("kernels before 6.8 do not list bound sockets");
    }
    in_netns(|ns| {
        ns.set_sysctl("ipv4/ip_local_port_range", "20000 20999");
        for how in ["keeps", "closes"] {
            let Some(mut script) = Script::start(ns, REFUSED, &[how]) else { return };
            assert_eq!(script.line(), "ready");
            let diagnosis = Doctor::of(ns).look();
            if how == "keeps" {
                told(&diagnosis, "bound-inactive-leak", "Close the socket when connect() or listen() fails");
            } else {
                cured(&diagnosis, "bound-inactive-leak");
            }
        }
    });
}

#[test]
pub fn more_ports_of_a_translation_let_the_waiting_clients_in() {
    in_netns(|ns| {
        let rule = "nat-port-exhaustion";
        if !installed("nft") {
            return skip("nft is not installed");
        }
        let nft = |script: &str| finish(ns.command("nft").arg(script)).status.success();
        let translate =
            |ports: &str| nft(&format!("add rule ip n p ip daddr 127.0.0.2 tcp dport 7450 snat to 127.0.0.9:{ports}"));
        let chain = "add table ip n; add chain ip n p { type nat hook postrouting priority 100; }";
        if !nft(chain) || !translate("1024-1031") {
            return skip("this kernel translates no source addresses");
        }
        let to = SocketAddr::from(([127, 0, 0, 2], 7450));
        let listener = Sock::listening(to, 64);
        let open: Vec<(Sock, Sock)> = (0..8)
            .map(|_| {
                let client = Sock::connected(to, None);
                let server = listener.accept();
                server.send(1);
                client.receive(1);
                (client, server)
            })
            .collect();
        let waiting: Vec<Sock> = (0..3).map(|_| Sock::connecting(to, None)).collect();
        pause(2300);
        let ill = Doctor::of(ns).looks(|| pause(2300));
        told(&ill, rule, "Widen the ports of the rule, or drop their limit");
        let attempts = told(&ill, "syn-sent-pileup", "Look at the gateway that translates on the way");
        assert!(attempts.summary.contains("8 of 8 ports of 127.0.0.9 are taken"), "{attempts:#?}");
        assert!(nft("flush chain ip n p") && translate("1024-1099"));
        for client in &waiting {
            client.wait(State::Established);
        }
        let well = Doctor::of(ns).looks(|| pause(500));
        cured(&well, rule);
        drop(open);
    });
}
