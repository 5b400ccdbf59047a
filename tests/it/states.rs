//! The state factory. Comes in: a namespace, ports, how many. Goes out: real TCP sockets in the state asked for, held
//! for as long as the returned [`Held`] lives, with a list of every row the kernel should now show. Never here: the
//! product; root, netfilter or packet forgery (all but `link` needs only loopback).
//!
//! A factory returns when the kernel shows what it promises (its own dump, [`crate::harness::diag`]), so no test waits.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::str::FromStr;

use tcpstate::model::state::State;

use crate::harness::diag::{self, Row};
use crate::harness::oracle::Witness;
use crate::harness::sock::{Sock, nobody};
use crate::harness::{Netns, wait_for};

/// The way down: every state after the first FIN.
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
mod closing;
/// Situations that need a link which loses packets.
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
pub mod link;
/// Situations by name, for helper processes.
mod named;
/// The way up: listening, handshakes, open connections and what their queues show.
#[allow(dead_code, reason = "a library: each area of tests uses its part")]
mod open;

pub use closing::{
    CloseWait, Ends, First, PeerEnd, close_wait, closing, fin_wait1, fin_wait2, fin_wait2_orphan, last_ack, time_wait,
};
pub use named::by_name;
pub use open::{
    accept_queue_full, bound_inactive, established, keepalive, listen, only_v6, reuseport, syn_recv, syn_sent, unread,
    zero_window,
};

/// Which addresses a situation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    /// An IPv4 client of an IPv6 listener that takes both: one end shows as `::ffff:127.0.0.1`.
    Mapped,
}

impl Family {
    fn listener(self) -> SocketAddr {
        match self {
            Family::V4 => SocketAddr::from(([127, 0, 0, 1], 0)),
            Family::V6 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)),
            Family::Mapped => SocketAddr::from(([0; 8], 0)),
        }
    }

    fn client(self) -> SocketAddr {
        match self {
            Family::V4 | Family::Mapped => SocketAddr::from(([127, 0, 0, 1], 0)),
            Family::V6 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)),
        }
    }
}

/// The ports of a situation; the namespace is private, so fixed ones cannot clash and make output exact.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub server: u16,
    /// The port of the first client, counting up; 0 leaves the choice to the kernel.
    pub first_client: u16,
    pub family: Family,
}

impl Ports {
    /// A listener's port, IPv4, clients wherever the kernel puts them.
    pub fn server(server: u16) -> Ports {
        Ports { server, first_client: 0, family: Family::V4 }
    }

    /// A listener's port, IPv4, and the port of the first client.
    pub fn fixed(server: u16, first_client: u16) -> Ports {
        Ports { server, first_client, family: Family::V4 }
    }

    pub fn family(self, family: Family) -> Ports {
        Ports { family, ..self }
    }
}

/// A row that the kernel should show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Which part of which situation this is: `close_wait/eof_unread`.
    pub what: String,
    pub state: State,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// `None` where the kernel's own choices decide (how much fits into a buffer).
    pub recv_q: Option<u32>,
    pub send_q: Option<u32>,
    /// `None` where no descriptor holds the socket: a request, an orphan, a TIME_WAIT, a connection not yet accepted.
    pub inode: Option<u64>,
    pub fd: Option<RawFd>,
    /// The process that holds the descriptor.
    pub pid: Option<u32>,
}

/// Sockets, held, and the rows that they should make.
#[derive(Default)]
pub struct Held {
    pub socks: Vec<Sock>,
    pub rows: Vec<Expected>,
}

impl Held {
    /// Takes a socket and says what its row should be.
    pub fn keep(
        &mut self,
        what: &str,
        sock: Sock,
        state: State,
        recv_q: impl Into<Option<u32>>,
        send_q: impl Into<Option<u32>>,
    ) {
        self.rows.push(Expected {
            what: what.into(),
            state,
            local: sock.local(),
            peer: sock.peer(),
            recv_q: recv_q.into(),
            send_q: send_q.into(),
            inode: Some(sock.inode()),
            fd: Some(sock.fd()),
            pid: Some(std::process::id()),
        });
        self.socks.push(sock);
    }

    /// Says that there should be a row that no descriptor holds.
    pub fn unheld(
        &mut self,
        what: &str,
        state: State,
        ends: (SocketAddr, SocketAddr),
        queues: (Option<u32>, Option<u32>),
    ) {
        self.rows.push(Expected {
            what: what.into(),
            state,
            local: ends.0,
            peer: ends.1,
            recv_q: queues.0,
            send_q: queues.1,
            inode: None,
            fd: None,
            pid: None,
        });
    }

    /// Adds what another situation holds.
    pub fn merge(&mut self, other: Held) {
        self.socks.extend(other.socks);
        self.rows.extend(other.rows);
    }

    /// How many rows of each state there should be.
    pub fn census(&self) -> BTreeMap<State, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.state).or_default() += 1;
        }
        counts
    }

    /// The rows of one part of a situation.
    pub fn rows_of<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Expected> {
        self.rows.iter().filter(move |row| row.what == what)
    }

    /// The socket behind a row.
    pub fn sock(&self, row: &Expected) -> &Sock {
        self.socks.iter().find(|s| Some(s.fd()) == row.fd).expect("a socket held here")
    }

    /// Waits until the kernel shows every row as promised; other rows may be there too. Inside [`together`] that wait
    /// is left to its end.
    #[track_caller]
    pub fn settle(self, ns: &Netns) -> Held {
        if TOGETHER.get() {
            return self;
        }
        wait_for("the situation", || {
            let complaints = differences(&self.rows, &ns.run(diag::dump), Witness::Netlink, Others::Allowed);
            if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
        });
        self
    }
}

thread_local! {
    static TOGETHER: Cell<bool> = const { Cell::new(false) };
}

/// Makes several situations and waits for all of them once: what takes its time, like a delayed acknowledgement, then
/// takes it at the same time, and the kernel is dumped a few times rather than a few times for each.
#[track_caller]
pub fn together(ns: &Netns, make: impl FnOnce(&mut Held)) -> Held {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            TOGETHER.set(false);
        }
    }
    let mut held = Held::default();
    {
        let _end = End;
        TOGETHER.set(true);
        make(&mut held);
    }
    held.settle(ns)
}

/// Whether a witness may show rows that were not expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    Allowed,
    /// The namespace holds nothing else, so that one row too many is news.
    None,
}

/// How what a witness shows differs from what was promised; empty when it does not.
pub fn differences(expected: &[Expected], seen: &[Row], witness: Witness, others: Others) -> Vec<String> {
    let mut complaints = Vec::new();
    let key = |state: State, local: SocketAddr, peer: SocketAddr| (state, local, peer);
    let mut left: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in seen {
        left.entry(key(row.state, row.local, row.peer)).or_default().push(row);
    }
    for want in expected.iter().filter(|e| witness.shows(e.state)) {
        let name = format!("{} {} {} > {}", want.what, want.state, want.local, want.peer);
        let candidates = left.entry(key(want.state, want.local, want.peer)).or_default();
        // Listeners that share a port differ in their inode only.
        let Some(at) = candidates.iter().position(|row| row.inode == want.inode) else {
            let instead: Vec<String> = seen
                .iter()
                .filter(|row| (row.local, row.peer) == (want.local, want.peer))
                .map(|row| format!("{} inode {:?}", row.state, row.inode))
                .collect();
            complaints.push(format!("{name} inode {:?}: not shown; instead {instead:?}", want.inode));
            continue;
        };
        let row = candidates.remove(at);
        if want.recv_q.is_some_and(|q| q != row.recv_q) {
            complaints.push(format!("{name}: receive queue {:?}, shown {}", want.recv_q, row.recv_q));
        }
        if witness.shows_send_q(want.state) && want.send_q.is_some_and(|q| q != row.send_q) {
            complaints.push(format!("{name}: send queue {:?}, shown {}", want.send_q, row.send_q));
        }
    }
    if others == Others::None {
        complaints.extend(left.into_values().flatten().map(|row| format!("not expected: {row:?}")));
    }
    complaints
}

/// Every state at once in one namespace, ports 7000 to 7200 and their clients 10,000 higher: two rows or more of each
/// state that has a usual and an unusual form.
#[track_caller]
pub fn all_states(ns: &Netns) -> Held {
    let at = |server: u16| Ports::fixed(server, server + 10_000);
    together(ns, |held| {
        held.merge(listen(ns, at(7000), 128));
        held.merge(only_v6(ns, 7001));
        held.merge(established(ns, at(7010), 1));
        held.merge(established(ns, at(7011).family(Family::V6), 1));
        held.merge(established(ns, at(7012).family(Family::Mapped), 1));
        held.merge(syn_sent(ns, at(7020), 2));
        held.merge(syn_recv(ns, at(7030), 1));
        held.merge(syn_recv(ns, at(7031).family(Family::V6), 1));
        held.merge(fin_wait1(ns, at(7040), 1, Ends::Held));
        held.merge(fin_wait1(ns, at(7041), 1, Ends::Closed));
        held.merge(fin_wait2(ns, at(7050), 1));
        held.merge(fin_wait2_orphan(ns, at(7051), 1));
        held.merge(close_wait(ns, at(7060), 1, CloseWait::EofUnread, PeerEnd::Closed));
        held.merge(close_wait(ns, at(7061), 1, CloseWait::EofRead, PeerEnd::Closed));
        held.merge(close_wait(ns, at(7062), 1, CloseWait::DataUnread(100), PeerEnd::Closed));
        held.merge(close_wait(ns, at(7063), 1, CloseWait::NotAccepted, PeerEnd::Closed));
        held.merge(close_wait(ns, at(7064).family(Family::V6), 1, CloseWait::EofUnread, PeerEnd::HalfClosed));
        held.merge(closing(ns, at(7070), 1));
        held.merge(last_ack(ns, at(7080), 1, Ends::Closed));
        held.merge(last_ack(ns, at(7081), 1, Ends::Held));
        held.merge(time_wait(ns, at(7090), 1, First::Client));
        held.merge(time_wait(ns, at(7091), 1, First::Server));
        held.merge(time_wait(ns, at(7092).family(Family::V6), 1, First::Client));
        held.merge(bound_inactive(ns, at(7100)));
        held.merge(bound_inactive(ns, at(7101).family(Family::V6)));
    })
}

/// A listener, and a way to make connections to it.
struct Service {
    listener: Sock,
    ports: Ports,
    made: u16,
}

impl Service {
    /// A listener with a backlog of 128, or another.
    #[track_caller]
    fn new(ports: Ports) -> Service {
        Service::prepared(ports, 128, |_| {})
    }

    #[track_caller]
    fn prepared(ports: Ports, backlog: u16, prepare: impl FnOnce(&Sock)) -> Service {
        let mut address = ports.family.listener();
        address.set_port(ports.server);
        let listener = Sock::new(address);
        prepare(&listener);
        listener.bind(address);
        listener.listen(backlog);
        Service { listener, ports, made: 0 }
    }

    /// Where a client connects to.
    fn address(&self) -> SocketAddr {
        let mut to = self.ports.family.client();
        to.set_port(self.ports.server);
        to
    }

    /// The next client's own address, when its port is fixed.
    fn next_client(&mut self) -> Option<SocketAddr> {
        let mut from = self.ports.family.client();
        from.set_port(self.ports.first_client.checked_add(self.made).filter(|_| self.ports.first_client != 0)?);
        self.made += 1;
        Some(from)
    }

    #[track_caller]
    fn client(&mut self) -> Sock {
        let from = self.next_client();
        Sock::connected(self.address(), from)
    }

    #[track_caller]
    fn connecting(&mut self) -> Sock {
        let from = self.next_client();
        Sock::connecting(self.address(), from)
    }

    /// A connection: the client's end and the accepted one.
    #[track_caller]
    fn pair(&mut self) -> (Sock, Sock) {
        let client = self.client();
        let server = self.listener.accept();
        (client, server)
    }

    /// How the server's end of a connection names the two addresses.
    fn seen_by_server(&self, client: &Sock) -> (SocketAddr, SocketAddr) {
        (mapped(client.peer(), self.ports.family), mapped(client.local(), self.ports.family))
    }

    /// Puts the listener among the rows, with this many connections waiting to be accepted.
    fn end(self, held: &mut Held, what: &str, waiting: u32, backlog: u32) {
        held.keep(&format!("{what}/listener"), self.listener, State::Listen, waiting, backlog);
    }
}

fn mapped(address: SocketAddr, family: Family) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if family == Family::Mapped => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        other => other,
    }
}

impl fmt::Display for Expected {
    /// One line of the helper protocol; [`Expected::from_str`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_string(), |n| n.to_string());
        let (fd, pid) = (self.fd.and_then(|n| u64::try_from(n).ok()), self.pid.map(u64::from));
        write!(f, "{} {} {} {}", self.what, self.state.key(), self.local, self.peer)?;
        for field in [self.recv_q.map(u64::from), self.send_q.map(u64::from), self.inode, fd, pid] {
            write!(f, " {}", number(field))?;
        }
        Ok(())
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(line: &str) -> Result<Expected, String> {
        fn number<N: FromStr>(word: &str) -> Result<Option<N>, String> {
            if word == "-" { Ok(None) } else { word.parse().map(Some).map_err(|_| format!("`{word}` is no number")) }
        }
        let words: Vec<&str> = line.split(' ').collect();
        let &[what, state, local, peer, recv_q, send_q, inode, fd, pid] = words.as_slice() else {
            return Err(format!("`{line}` does not have nine words"));
        };
        let address = |word: &str| word.parse().map_err(|_| format!("`{word}` is no address"));
        Ok(Expected {
            what: what.into(),
            state: State::parse(state).ok_or_else(|| format!("`{state}` is no state"))?,
            local: address(local)?,
            peer: address(peer)?,
            recv_q: number(recv_q)?,
            send_q: number(send_q)?,
            inode: number(inode)?,
            fd: number(fd)?,
            pid: number(pid)?,
        })
    }
}
