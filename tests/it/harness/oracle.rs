//! Witnesses that share no code with the product: `ss` and `/proc/net/tcp`. Comes in: a namespace. Goes out: [`Row`]s.
//! Never here: an opinion on which witness is right; what each of them cannot show is said by [`Witness`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use tcpstate::model::state::State;

use super::diag::{self, Row};
use super::{Netns, finish};

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// [`diag::dump`]: everything, bound-only sockets from Linux 6.8 on.
    Netlink,
    /// `ss -tanHe`: as netlink, but iproute2 before 6.9 does not ask for bound-only sockets.
    Ss,
    /// `/proc/net/tcp` and `tcp6`: no bound-only sockets, and no backlog of a listener.
    Proc,
}

impl Witness {
    /// What this witness says of a namespace; an error says why it cannot be heard here.
    ///
    /// # Errors
    /// When `ss` is not installed.
    pub fn hear(self, ns: &Netns) -> Result<Vec<Row>, String> {
        match self {
            Witness::Netlink => Ok(ns.run(diag::dump)),
            Witness::Ss => ss(ns),
            Witness::Proc => Ok(proc_tcp(ns)),
        }
    }

    /// Whether a socket in this state appears at all.
    pub fn shows(self, state: State) -> bool {
        state != State::BoundInactive || (self == Witness::Netlink && super::kernel_at_least(6, 8))
    }

    /// Whether the send queue column of this state means the same as in netlink.
    pub fn shows_send_q(self, state: State) -> bool {
        !(self == Witness::Proc && state == State::Listen)
    }
}

/// The rows of `ss -tanHe` inside a namespace, sorted.
///
/// # Errors
/// When `ss` is not installed.
pub fn ss(ns: &Netns) -> Result<Vec<Row>, String> {
    if !installed("ss") {
        return Err("ss (iproute2) is not installed".into());
    }
    let output = finish(ns.command("ss").args(["-tanHe"]));
    assert!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    let mut rows: Vec<Row> = String::from_utf8(output.stdout).expect("ss prints text").lines().map(ss_row).collect();
    rows.sort();
    Ok(rows)
}

/// Whether a program is on the path.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn ss_row(line: &str) -> Row {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [state, recv_q, send_q, local, peer, rest @ ..] = words.as_slice() else { panic!("ss printed `{line}`") };
    let tagged = |tag: &str| rest.iter().find_map(|w| w.strip_prefix(tag));
    let state = match *state {
        "ESTAB" => State::Established,
        "SYN-SENT" => State::SynSent,
        "SYN-RECV" => State::SynRecv,
        "FIN-WAIT-1" => State::FinWait1,
        "FIN-WAIT-2" => State::FinWait2,
        "TIME-WAIT" => State::TimeWait,
        "UNCONN" => State::BoundInactive,
        "CLOSE-WAIT" => State::CloseWait,
        "LAST-ACK" => State::LastAck,
        "LISTEN" => State::Listen,
        "CLOSING" => State::Closing,
        other => panic!("ss printed the state `{other}`"),
    };
    let local = ss_address(local);
    Row {
        state,
        local,
        peer: ss_address(peer),
        recv_q: recv_q.parse().expect("Recv-Q"),
        send_q: send_q.parse().expect("Send-Q"),
        inode: tagged("ino:").map(|n| n.parse().expect("ino:")).filter(|n| *n != 0),
        uid: tagged("uid:").map(|n| n.parse().expect("uid:")),
        cookie: tagged("sk:").map(|n| u64::from_str_radix(n, 16).expect("sk:")),
        timer: None,
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `0.0.0.0:*`, `127.0.0.1%lo:80`, and `*:80` for an IPv6 socket open to both families.
fn ss_address(text: &str) -> SocketAddr {
    let (host, port) = text.rsplit_once(':').expect("host:port");
    let host = host.trim_matches(['[', ']']);
    let host = host.split('%').next().unwrap_or(host);
    let ip: IpAddr = if host == "*" { Ipv6Addr::UNSPECIFIED.into() } else { host.parse().expect("address") };
    SocketAddr::new(ip, if port == "*" { 0 } else { port.parse().expect("port") })
}

/// The rows of `/proc/net/tcp` and `/proc/net/tcp6` of a namespace, sorted.
pub fn proc_tcp(ns: &Netns) -> Vec<Row> {
    let mut rows: Vec<Row> = ns.run(|| {
        // `/proc/net` is that of the main thread, whichever thread asks.
        ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
            .into_iter()
            .flat_map(|path| match std::fs::read_to_string(path) {
                Ok(text) => text.lines().skip(1).map(proc_row).collect::<Vec<_>>(),
                // A kernel without IPv6 has no second file.
                Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Vec::new(),
                Err(e) => panic!("read {path}: {e}"),
            })
            .collect()
    });
    rows.sort();
    rows
}

fn proc_row(line: &str) -> Row {
    let words: Vec<&str> = line.split_whitespace().collect();
    let hex = |text: &str| u32::from_str_radix(text, 16).expect("hexadecimal");
    let (send_q, recv_q) = words[4].split_once(':').expect("tx:rx");
    let (kind, remaining) = words[5].split_once(':').expect("timer:when");
    let inode: u64 = words[9].parse().expect("inode");
    let state = State::from_kernel(u8::try_from(hex(words[3])).expect("a state number"));
    Row {
        state,
        local: proc_address(words[1]),
        peer: proc_address(words[2]),
        recv_q: hex(recv_q),
        send_q: hex(send_q),
        inode: (inode != 0).then_some(inode),
        uid: Some(words[7].parse().expect("uid")),
        cookie: None,
        timer: (kind != "00").then(|| diag::Timer {
            kind: u8::try_from(hex(kind)).expect("a timer number"),
            // In ticks of USER_HZ, which is 100 wherever Linux runs today.
            remaining_ms: hex(remaining).saturating_mul(10),
            retransmits: u8::try_from(hex(words[6])).unwrap_or(u8::MAX),
        }),
    }
}

/// Words of four bytes in the byte order of the machine, then the port.
fn proc_address(text: &str) -> SocketAddr {
    let (host, port) = text.split_once(':').expect("address:port");
    let bytes: Vec<u8> = (0..host.len())
        .step_by(8)
        .flat_map(|at| u32::from_str_radix(&host[at..at + 8], 16).expect("address").to_ne_bytes())
        .collect();
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).expect("16 bytes")).into(),
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).expect("port"))
}
