//! A second opinion: a `sock_diag` dump decoded on its own, in the plainest way. Comes in: the calling thread's
//! namespace. Goes out: [`Row`]s. Never here: anything of the product's collector (only the names of states are its).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use tcpstate::model::state::State;

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY` (include/uapi/linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// Netlink flags (include/uapi/linux/netlink.h).
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = REQUEST | 0x300;
/// As a `sock_diag` request has them: one byte each.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;

/// One socket, as any of the oracles shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub state: State,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub recv_q: u32,
    pub send_q: u32,
    /// `None` where no descriptor holds the socket.
    pub inode: Option<u64>,
    pub uid: Option<u32>,
    pub cookie: Option<u64>,
    pub timer: Option<Timer>,
}

/// The timer fields of a row, undecoded: kind (1 retransmit, 2 keepalive, 3 TIME_WAIT, 4 zero-window probe), time
/// left, and how often it fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub kind: u8,
    pub remaining_ms: u32,
    pub retransmits: u8,
}

/// Every TCP socket of the calling thread's namespace, both families, sorted.
pub fn dump() -> Vec<Row> {
    let mut rows: Vec<Row> = messages().iter().filter_map(|m| decode(m)).collect();
    rows.sort();
    rows
}

/// Ends the orphans of the calling thread's namespace (`SOCK_DESTROY`), as far as this kernel can.
pub(super) fn destroy_orphans() {
    for message in messages() {
        let orphan = decode(&message).is_some_and(|row| row.inode.is_none() && row.state != State::TimeWait);
        if orphan {
            let family = message[0];
            // The row's own id: ports, addresses, interface and cookie.
            let _ = request(DESTROY, REQUEST | ACK, family, &message[4..52]);
        }
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut any = [0; 48];
    any[40..].fill(0xff); // INET_DIAG_NOCOOKIE
    [AF_INET, AF_INET6].into_iter().flat_map(|family| request(BY_FAMILY, DUMP, family, &any)).collect()
}

/// Sends one request (`struct inet_diag_req_v2`) and returns the bodies of the answers, each `struct inet_diag_msg`.
fn request(kind: u16, flags: u16, family: u8, id: &[u8]) -> Vec<Vec<u8>> {
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol).expect("netlink");
    let mut bytes = Vec::new();
    bytes.extend(72u32.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(id);
    assert_eq!(bytes.len(), 72);
    send(&socket, &bytes, SendFlags::empty()).expect("send a dump request");
    let mut answers = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, _) = recv(&socket, &mut buffer, RecvFlags::empty()).expect("receive a dump");
        let mut rest = &buffer[..length];
        while rest.len() >= 16 {
            let size = u32_at(rest, 0) as usize;
            let body = &rest[16..size];
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                2 if kind == DESTROY => return answers,
                2 => panic!("dump refused: {}", std::io::Error::from_raw_os_error(-u32_at(body, 0).cast_signed())),
                3 => {
                    let status = u32_at(body, 0);
                    assert_eq!(status, 0, "the dump ended with an error");
                    return answers;
                }
                _ => answers.push(body.to_vec()),
            }
            rest = &rest[size.next_multiple_of(4).min(rest.len())..];
        }
    }
}

fn decode(body: &[u8]) -> Option<Row> {
    let (family, state, timer, retransmits) = (body[0], body[1], body[2], body[3]);
    let address = |at: usize| -> Option<IpAddr> {
        match family {
            AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&body[at..at + 4]).ok()?).into()),
            AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&body[at..at + 16]).ok()?).into()),
            _ => None,
        }
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let inode = u64::from(u32_at(body, 68));
    // A socket that is only bound comes back as state 7, and nothing else in these tables does.
    let state = if state == 7 { State::BoundInactive } else { State::from_kernel(state) };
    Some(Row {
        state,
        local: SocketAddr::new(address(8)?, port(4)),
        peer: SocketAddr::new(address(24)?, port(6)),
        recv_q: u32_at(body, 56),
        send_q: u32_at(body, 60),
        inode: (inode != 0).then_some(inode),
        uid: Some(u32_at(body, 64)),
        cookie: Some(u64::from(u32_at(body, 44)) | u64::from(u32_at(body, 48)) << 32),
        timer: (timer != 0).then(|| Timer { kind: timer, remaining_ms: u32_at(body, 52), retransmits }),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
