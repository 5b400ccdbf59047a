//! Connections that fail in ways that the test makes itself, against what each source of a trace says of them. Input: some
//! 2,000 connections on loopback of a private namespace, IPv4 and IPv6 (`TCPSTATE_TESTS_FAILURES`: how many). Output: what
//! ended each, its errno, the reason of its reset and its process, exact; and that what succeeds is no failure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt;
use serde_json::Value as Json;
use tcpstate::model::State;

use super::{Trace, bpf_works, of, works};
use crate::harness::oracle::installed;
use crate::harness::sock::Sock;
use crate::harness::{Netns, descriptors, finish, in_netns, skip, wait_for};
use crate::product;

/// How a connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nobody listens.
    Refused,
    /// A firewall answers the SYN with a RST.
    RefusedByFirewall,
    /// The SYN is dropped, and `TCP_USER_TIMEOUT` ends it.
    TimedOut,
    /// The SYN is dropped, and the process closes the socket.
    GivenUp,
    HostUnreachable,
    /// ICMP says that nobody listens.
    PortUnreachable,
    /// Closed with `SO_LINGER` 0 before anything was sent.
    CutByServer,
    CutByClient,
    /// Closed with unread data.
    UnreadByServer,
    UnreadByClient,
    /// A firewall answers the request with a RST; then the server is cut off.
    CutByFirewall,
    /// The request is dropped, and `TCP_USER_TIMEOUT` ends it; then the server is cut off.
    Unanswered,
}

use Way::{
    CutByClient, CutByFirewall, CutByServer, GivenUp, HostUnreachable, PortUnreachable, Refused, RefusedByFirewall,
    TimedOut, Unanswered, UnreadByClient, UnreadByServer,
};

const WAYS: [Way; 12] = [
    Refused,
    RefusedByFirewall,
    TimedOut,
    GivenUp,
    HostUnreachable,
    PortUnreachable,
    CutByServer,
    CutByClient,
    UnreadByServer,
    UnreadByClient,
    CutByFirewall,
    Unanswered,
];
/// Ports of one run of the tests: those of the ways, then that of connections that succeed.
const PORTS: u16 = 13;

/// The first of our ports. A trace by tracefs hears all namespaces, also those of another run on this host: no other test
/// uses these, and each run has its own.
fn first_port() -> u16 {
    let run = u16::try_from(std::process::id() % 1_500).expect("below 1,500");
    10_000 + run * PORTS
}

/// Each, with the port of its server.
fn ways() -> impl Iterator<Item = (Way, u16)> {
    WAYS.into_iter().zip(first_port()..)
}

fn port_of(way: Way) -> u16 {
    ways().find(|(w, _)| *w == way).expect("a way").1
}

/// Where connections succeed.
fn healthy_port() -> u16 {
    first_port() + PORTS - 1
}

/// Matches our connections with servers on these ports.
fn ours(first: u16, last: u16) -> String {
    format!(
        "(dport >= :{first} and dport <= :{last} or sport >= :{first} and sport <= :{last}) \
         and (src 127.67.0.1 or dst 127.67.0.1 or src ::1)"
    )
}

fn rules() -> String {
    let [by_firewall, timed_out, given_up, host, port, cut, unanswered] =
        [RefusedByFirewall, TimedOut, GivenUp, HostUnreachable, PortUnreachable, CutByFirewall, Unanswered]
            .map(port_of);
    format!(
        "table inet f {{
chain i {{
    type filter hook input priority 0;
    tcp dport {by_firewall} reject with tcp reset
    tcp dport {{ {timed_out}, {given_up} }} drop
    tcp dport {host} reject with icmpx type host-unreachable
    tcp dport {port} reject with icmpx type port-unreachable
    tcp dport {cut} tcp flags & psh == psh reject with tcp reset
    tcp dport {unanswered} tcp flags & psh == psh drop
}}
}}"
    )
}

/// So many sockets of one kind are open at a time.
const AT_ONCE: usize = 200;

impl Way {
    /// What a life says of the end of the client, and of that of the server if there is one.
    fn ends(self) -> (End, Option<End>) {
        let end = |ended, by, errno, reason| End { ended, by, errno, reason };
        let failed = |by, errno| (end("failed", by, errno, None), None);
        let received = end("cut", "reset_received", None, None);
        let sent = |reason| end("cut", "reset_sent", None, Some(reason));
        match self {
            Refused | RefusedByFirewall => failed("refused", None),
            TimedOut => failed("error", Some("ETIMEDOUT")),
            GivenUp => failed("given_up", None),
            HostUnreachable => failed("error", Some("EHOSTUNREACH")),
            PortUnreachable => failed("error", Some("ECONNREFUSED")),
            CutByServer | CutByFirewall => (received, Some(sent("disconnected"))),
            CutByClient => (sent("disconnected"), Some(received)),
            UnreadByServer => (received, Some(sent("abort_on_close"))),
            UnreadByClient => (sent("abort_on_close"), Some(received)),
            Unanswered => (end("cut", "error", Some("ETIMEDOUT"), None), Some(sent("disconnected"))),
        }
    }

    /// The reason of the reset that this host sends, and whether a socket receives one.
    fn resets(self) -> (Option<&'static str>, bool) {
        match self {
            Refused => (Some("no_socket"), true),
            RefusedByFirewall => (None, true),
            TimedOut | GivenUp | HostUnreachable | PortUnreachable => (None, false),
            CutByServer | CutByClient | CutByFirewall => (Some("disconnected"), true),
            UnreadByServer | UnreadByClient => (Some("abort_on_close"), true),
            Unanswered => (Some("disconnected"), false),
        }
    }

    /// Whether something is sent again.
    fn repeats(self) -> bool {
        matches!(self, TimedOut | HostUnreachable | PortUnreachable | Unanswered)
    }

    /// Makes so many, at most [`AT_ONCE`].
    fn make(self, at: SocketAddr, count: usize) {
        let (_, served) = self.ends();
        if served.is_some() {
            let listener = Sock::listening(at, 8);
            let pairs: Vec<(Sock, Sock)> =
                (0..count).map(|_| Sock::connected(at, None)).map(|client| (client, listener.accept())).collect();
            for (client, server) in &pairs {
                self.spoil(client, server);
            }
            for (client, server) in pairs {
                self.end(client, server);
            }
            return;
        }
        let attempts: Vec<Sock> = (0..count).map(|_| self.attempt(at)).collect();
        if self != GivenUp {
            attempts.iter().for_each(wait_for_end);
        }
        attempts.into_iter().for_each(Sock::close);
    }

    fn attempt(self, at: SocketAddr) -> Sock {
        if self != TimedOut {
            return Sock::connecting(at, None);
        }
        let socket = Sock::new(at);
        sockopt::set_tcp_user_timeout(&socket, 300).expect("TCP_USER_TIMEOUT");
        rustix::io::ioctl_fionbio(&socket, true).expect("nonblocking");
        assert_eq!(rustix::net::connect(&socket, &at), Err(rustix::io::Errno::INPROGRESS));
        socket
    }

    /// What is sent before the end.
    fn spoil(self, client: &Sock, server: &Sock) {
        match self {
            UnreadByServer => client.send(7),
            UnreadByClient => server.send(7),
            CutByFirewall => client.send_at_once(7),
            Unanswered => {
                sockopt::set_tcp_user_timeout(client, 100).expect("TCP_USER_TIMEOUT");
                client.send_at_once(7);
            }
            _ => {}
        }
    }

    fn end(self, client: Sock, server: Sock) {
        let (first, second) = match self {
            // A socket that is dropped has SO_LINGER 0.
            CutByServer => {
                drop(server);
                wait_for_end(&client);
                return client.close();
            }
            CutByClient => {
                drop(client);
                wait_for_end(&server);
                return server.close();
            }
            UnreadByServer => (server, client),
            UnreadByClient => (client, server),
            _ => {
                wait_for_end(&client);
                client.close();
                return drop(server);
            }
        };
        wait_for("data", || (first.unread() == 7).then_some(()).ok_or_else(|| first.unread().to_string()));
        first.close();
        wait_for_end(&second);
        second.close();
    }
}

/// Waits until a connection is over, without fetching its error. (An ICMP message makes it readable for poll(2) before.)
fn wait_for_end(socket: &Sock) {
    socket.wait(State::Close);
}

/// What a life says of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    ended: &'static str,
    by: &'static str,
    errno: Option<&'static str>,
    reason: Option<&'static str>,
}

impl End {
    #[track_caller]
    fn check(self, way: Way, via: &str, life: &Json) {
        let shown = ["ended", "ended_by", "errno", "reset_reason"].map(|key| life[key].as_str());
        assert_eq!(shown, [Some(self.ended), Some(self.by), self.errno, self.reason], "{via}, {way:?}: {life}");
    }
}

fn families() -> [IpAddr; 2] {
    [Ipv4Addr::new(127, 67, 0, 1).into(), Ipv6Addr::LOCALHOST.into()]
}

/// All of them, in a thread with a descriptor table of its own: a child that a parallel test starts must not hold sockets.
/// One thread: where tasks preempt each other the kernel passes over a BPF program that the other one was running.
fn make_all(each: usize) {
    descriptors::with_own(&[], || {
        for address in families() {
            for (way, port) in ways() {
                let mut left = each;
                while left > 0 {
                    let now = left.min(AT_ONCE);
                    way.make(SocketAddr::new(address, port), now);
                    left -= now;
                }
            }
        }
    });
}

/// Lets the firewall drop and reject, and ICMP through however often it is sent.
fn firewall(ns: &Netns) -> bool {
    if !installed("nft") {
        skip("nft is not installed");
        return false;
    }
    if !finish(ns.command("nft").arg(rules())).status.success() {
        skip("nft cannot filter here");
        return false;
    }
    for name in ["ipv4/icmp_ratemask", "ipv6/icmp/ratemask"] {
        ns.set_sysctl(name, "0");
    }
    true
}

fn way_at(port: u64) -> Way {
    let found = ways().find(|(_, at)| u64::from(*at) == port);
    found.unwrap_or_else(|| panic!("no server has port {port}")).0
}

/// The way of a connection, and whether this is its client.
fn way_of(line: &Json) -> (Way, bool) {
    let [local, peer] = ["local", "peer"].map(|end| line[end]["port"].as_u64().expect("a port"));
    let is_client = (first_port()..healthy_port()).any(|port| u64::from(port) == peer);
    (way_at(if is_client { peer } else { local }), is_client)
}

fn check_lives(via: &str, lines: &[Json], each: usize, only_failed: bool) {
    let mut counts: BTreeMap<(u16, String, bool), usize> = BTreeMap::new();
    for life in of(lines, "life") {
        let (way, is_client) = way_of(life);
        let (client, server) = way.ends();
        let end = if is_client { Some(client) } else { server };
        end.unwrap_or_else(|| panic!("{way:?} has no server: {life}")).check(way, via, life);
        let opener = life["opener"]["pid"].as_u64();
        assert_eq!(opener, is_client.then(|| std::process::id().into()), "{via}, {way:?}: {life}");
        *counts.entry((port_of(way), life["family"].to_string(), is_client)).or_default() += 1;
    }
    let mut wanted = BTreeMap::new();
    for (way, port) in ways() {
        let (client, server) = way.ends();
        for family in ["\"ipv4\"", "\"ipv6\""] {
            if !only_failed || client.ended == "failed" {
                wanted.insert((port, family.to_owned(), true), each);
            }
            if server.is_some() && !only_failed {
                wanted.insert((port, family.to_owned(), false), each);
            }
        }
    }
    assert_eq!(counts, wanted, "{via}");
}

fn check_faults(via: &str, lines: &[Json], each: usize) {
    for (way, port) in ways() {
        let ours = |line: &&&Json| ["local", "peer"].iter().any(|end| line[end]["port"].as_u64() == Some(port.into()));
        let (reason, received) = way.resets();
        let all = of(lines, "reset_sent");
        let sent: Vec<_> = all.iter().filter(ours).collect();
        assert_eq!(sent.len(), if reason.is_some() { 2 * each } else { 0 }, "{via}, {way:?}: {:?}", sent.first());
        for line in sent {
            assert_eq!(line["reset_reason"].as_str(), reason, "{via}, {way:?}: {line}");
            // Nobody holds what is not there.
            let process = (way != Refused).then(|| std::process::id().into());
            assert_eq!(line["process"]["pid"].as_u64(), process, "{via}, {way:?}: {line}");
        }
        let all = of(lines, "reset_received");
        let came: Vec<_> = all.iter().filter(ours).collect();
        assert_eq!(came.len(), if received { 2 * each } else { 0 }, "{via}, {way:?}: {:?}", came.first());
        let state = if way.ends().1.is_none() { "syn_sent" } else { "established" };
        assert!(came.iter().all(|line| line["state"] == state), "{via}, {way:?}: {:?}", came.first());
        let again = of(lines, "retransmit").iter().filter(ours).count();
        assert!(if way.repeats() { again >= 2 * each } else { again == 0 }, "{via}, {way:?}: {again}");
    }
}

/// Where and what, but for namespace, cookie and time: what every source must tell of the same fault.
fn facts(lines: &[Json]) -> Vec<String> {
    let kinds = ["reset_sent", "reset_received", "retransmit"];
    let keys = ["type", "family", "local", "peer", "state", "reset_reason", "errno", "by", "process"];
    let all = lines.iter().filter(|line| kinds.iter().any(|kind| line["type"] == *kind));
    let mut facts: Vec<String> = all.map(|line| keys.map(|key| line[key].to_string()).join(" ")).collect();
    facts.sort_unstable();
    facts
}

#[test]
fn what_ended_a_connection_is_exact_whichever_way_it_fails() {
    in_netns(|ns| {
        if !bpf_works(ns) || !works(ns, "tracefs") || !firewall(ns) {
            return;
        }
        let count: usize = std::env::var("TCPSTATE_TESTS_FAILURES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
        let each = count.div_ceil(2 * WAYS.len());
        let start = |via: &str, words: &[&str]| {
            let here: &[&str] = if via == "bpf" { &["--this-netns"] } else { &[] };
            let ours = ours(first_port(), healthy_port() - 1);
            let all = [&["trace", "--json", "--ring-size", "64M", "--via", via], here, words, &[&ours]].concat();
            Trace::start(product::with(ns, &all))
        };
        let views: [&[&str]; 3] = [&["--life"], &["--failed"], &["--resets", "--retransmits"]];
        // While other tracers come and go the kernel passes over a BPF program now and then (docs/trace.md), and tracefs sees
        // what that one missed. What is wrong in three rounds is wrong here.
        for last in [false, false, true] {
            let traces = ["bpf", "tracefs"].map(|via| (via, views.map(|words| start(via, words))));
            make_all(each);
            let told = traces.map(|(via, traces)| (via, traces.map(Trace::interrupt)));
            let [bpf, tracefs] = told.each_ref().map(|(_, [.., faults])| facts(faults));
            let passed_over = bpf != tracefs && !last;
            for (via, [lives, failed, faults]) in told {
                if via == "bpf" && passed_over {
                    continue;
                }
                for lines in [&lives, &failed, &faults] {
                    assert_eq!(lines.last().unwrap()["lost"].as_u64(), Some(0), "{via}: {:?}", lines.last());
                    let lacks = of(lines, "gap").into_iter().any(|gap| gap["missing"] == "tracepoint");
                    assert!(!lacks, "{via}: {:?}", of(lines, "gap"));
                }
                check_lives(via, &lives, each, false);
                check_lives(via, &failed, each, true);
                check_faults(via, &faults, each);
            }
            if !passed_over {
                assert_eq!(bpf, tracefs, "both sources tell the same");
                return;
            }
        }
    });
}

/// Connections of nine milliseconds, of each family.
const EACH: usize = 20;

/// A connection of a few milliseconds that succeeds is no failure, whoever closes it, and each one ends by its FINs.
#[test]
fn a_connection_of_nine_milliseconds_that_succeeds_is_a_success() {
    in_netns(|ns| {
        if !bpf_works(ns) || !works(ns, "tracefs") {
            return;
        }
        let start = |via: &str, words: &[&str]| {
            let ours = ours(healthy_port(), healthy_port());
            Trace::start(product::with(ns, &[&["trace", "--json", "--via", via], words, &[&ours]].concat()))
        };
        let traces = ["bpf", "tracefs"].map(|via| (via, start(via, &["--life"]), start(via, &["--failed"])));
        descriptors::with_own(&[], || {
            for address in families() {
                let listener = Sock::listening(SocketAddr::new(address, healthy_port()), 8);
                for i in 0..EACH {
                    let client = Sock::connecting(listener.local(), None);
                    let server = listener.accept();
                    std::thread::sleep(Duration::from_millis(9));
                    let (first, second) = if i % 2 == 0 { (client, server) } else { (server, client) };
                    first.shutdown();
                    second.wait(State::CloseWait);
                    second.close();
                    first.close();
                }
            }
        });
        for (via, lives, failed) in traces {
            let (lives, failed) = (lives.interrupt(), failed.interrupt());
            assert_eq!(of(&failed, "life"), Vec::<&Json>::new(), "{via}");
            let lives = of(&lives, "life");
            assert_eq!(lives.len(), 4 * EACH, "{via}");
            for life in lives {
                let local = life["closed_first"] == "local";
                assert_eq!(life["ended"], if local { "time_wait" } else { "closed" }, "{via}: {life}");
                // The last word of a socket that no process held may come too late for tracefs.
                let unknown = via == "tracefs" && !local && life["ended_by"].is_null();
                assert!(unknown || life["ended_by"] == "fin", "{via}: {life}");
                assert!(life["duration_us"].as_u64() >= Some(9_000), "{via}: {life}");
            }
        }
    });
}
