//! `struct inet_diag_msg` and its attributes, read in place.
//!
//! Input: the bytes of one message, from any kernel. Output: a [`Socket`], or why the bytes are not one. Nothing is
//! allocated per socket except the first `tcp_info` of a scratch row.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::model::socket::Congestion;
use crate::model::{Endpoint, Family, Inode, NetnsId, RowKind, SkMem, Socket, State, Timer, TimerKind};

/// `struct inet_diag_msg` (`include/uapi/linux/inet_diag.h`), 72 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct InetDiagMsg {
    family: u8,
    state: u8,
    timer: u8,
    retrans: u8,
    sport: U16,
    dport: U16,
    src: [u8; 16],
    dst: [u8; 16],
    interface: [u8; 4],
    cookie: [[u8; 4]; 2],
    expires: [u8; 4],
    rqueue: [u8; 4],
    wqueue: [u8; 4],
    uid: [u8; 4],
    inode: [u8; 4],
}

// Attribute numbers, `enum` in include/uapi/linux/inet_diag.h.
const INFO: u16 = 2;
const CONG: u16 = 4;
const TOS: u16 = 5;
const TCLASS: u16 = 6;
const SKMEMINFO: u16 = 7;
const SHUTDOWN: u16 = 8;
const SKV6ONLY: u16 = 11;
const MARK: u16 = 15;
const MD5SIG: u16 = 18;
const ULP_INFO: u16 = 19;
/// Inside it, `INET_ULP_INFO_NAME`.
const ULP_NAME: u16 = 1;
const CGROUP_ID: u16 = 21;
const SOCKOPT: u16 = 22;

/// Why bytes are not a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than `struct inet_diag_msg`.
    Short(usize),
    /// Neither `AF_INET` nor `AF_INET6`.
    Family(u8),
    /// An attribute that reaches beyond the message.
    Attribute,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Malformed::Short(n) => write!(f, "an answer of {n} bytes is shorter than inet_diag_msg"),
            Malformed::Family(n) => write!(f, "an answer has address family {n}"),
            Malformed::Attribute => f.write_str("an attribute reaches beyond its message"),
        }
    }
}

/// Decodes one message into `socket`, reusing its allocations.
///
/// # Errors
/// When the bytes are not a socket; `socket` is then unspecified but valid.
pub fn decode_into(bytes: &[u8], netns: Option<NetnsId>, socket: &mut Socket) -> Result<(), Malformed> {
    let Ok((msg, mut rest)) = InetDiagMsg::ref_from_prefix(bytes) else {
        return Err(Malformed::Short(bytes.len()));
    };
    let family = match i32::from(msg.family) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(Malformed::Family(msg.family)),
    };
    socket.netns = netns;
    socket.family = family;
    // A dump reports bound-inactive sockets, and only them, as TCP_CLOSE (tcp_diag_dump).
    socket.state = match State::from_kernel(msg.state) {
        State::Close => State::BoundInactive,
        state => state,
    };
    socket.local = Endpoint::new(address(family, &msg.src), msg.sport.get());
    socket.peer = Endpoint::new(address(family, &msg.dst), msg.dport.get());
    socket.ifindex = Some(u32::from_ne_bytes(msg.interface));
    let [low, high] = msg.cookie.map(u32::from_ne_bytes);
    socket.cookie = Some(u64::from(high) << 32 | u64::from(low));
    let timer = TimerKind::from_kernel(msg.timer);
    socket.timer =
        timer.map(|kind| Timer { kind, remaining_ms: u32::from_ne_bytes(msg.expires), retransmits: msg.retrans });
    socket.recv_q_bytes = u32::from_ne_bytes(msg.rqueue);
    socket.send_q_bytes = Some(u32::from_ne_bytes(msg.wqueue));
    socket.inode = Inode::new(u32::from_ne_bytes(msg.inode).into());
    socket.shutdown = None;
    socket.v6only = None;
    socket.mark = None;
    socket.cgroup = None;
    socket.sockopt = None;
    socket.tos = None;
    socket.tclass = None;
    socket.congestion = None;
    socket.skmem = None;
    (socket.ulp, socket.mptcp, socket.md5_key) = (false, false, false);
    let mut has_info = false;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        // The two top bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let Some(payload) = rest.get(4..len) else {
            return Err(Malformed::Attribute);
        };
        match kind {
            INFO => {
                socket.info.get_or_insert_default().load(payload);
                has_info = true;
            }
            SHUTDOWN => socket.shutdown = payload.first().copied(),
            CGROUP_ID => socket.cgroup = payload.first_chunk().map(|b| u64::from_ne_bytes(*b)),
            SOCKOPT => socket.sockopt = payload.first_chunk().map(|b| u16::from_le_bytes(*b)),
            SKMEMINFO => socket.skmem = skmem(payload),
            CONG => socket.congestion = Some(Congestion::new(payload)),
            TOS => socket.tos = payload.first().copied(),
            TCLASS => socket.tclass = payload.first().copied(),
            SKV6ONLY => socket.v6only = payload.first().map(|b| *b != 0),
            MARK => socket.mark = payload.first_chunk().map(|b| u32::from_ne_bytes(*b)),
            // What the key is concerns nobody.
            MD5SIG => socket.md5_key = true,
            ULP_INFO => (socket.ulp, socket.mptcp) = (true, is_mptcp(payload)),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    if !has_info {
        socket.info = None;
    }
    socket.kind = RowKind::decide(socket.state, timer, Some(socket.shutdown.is_some()));
    socket.uid = match socket.kind {
        // inet_twsk_diag_fill and inet_req_diag_fill write a literal 0.
        RowKind::TimeWaitMini | RowKind::Request => None,
        _ => Some(u32::from_ne_bytes(msg.uid)),
    };
    Ok(())
}

/// Whether `INET_ULP_INFO_NAME`, the first attribute inside, says `mptcp`.
fn is_mptcp(ulp: &[u8]) -> bool {
    let Some((head, name)) = ulp.split_first_chunk::<4>() else { return false };
    u16::from_ne_bytes([head[2], head[3]]) == ULP_NAME && name.starts_with(b"mptcp\0")
}

fn address(family: Family, bytes: &[u8; 16]) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(*bytes)),
    }
}

/// `SK_MEMINFO_*`: nine words, the last of which came in Linux 4.7.
fn skmem(bytes: &[u8]) -> Option<SkMem> {
    let word = |i: usize| bytes.get(4 * i..4 * i + 4)?.try_into().ok().map(u32::from_ne_bytes);
    Some(SkMem {
        rmem_alloc_bytes: word(0)?,
        rcvbuf_bytes: word(1)?,
        wmem_alloc_bytes: word(2)?,
        sndbuf_bytes: word(3)?,
        fwd_alloc_bytes: word(4)?,
        wmem_queued_bytes: word(5)?,
        optmem_bytes: word(6)?,
        backlog_bytes: word(7)?,
        drops: word(8),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message of Linux 6.18 for a CLOSE_WAIT socket, with its original attributes.
    pub(crate) fn sample() -> Vec<u8> {
        let mut bytes = vec![2, 8, 2, 0];
        bytes.extend_from_slice(&443u16.to_be_bytes());
        bytes.extend_from_slice(&5u16.to_be_bytes());
        bytes.extend_from_slice(&[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for word in [0u32, 0x1f, 1, 5000, 1, 0, 1000, 123] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        let mut attribute = |kind: u16, payload: &[u8]| {
            let len = u16::try_from(4 + payload.len()).unwrap();
            bytes.extend_from_slice(&len.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(payload);
            while bytes.len() % 4 != 0 {
                bytes.push(0);
            }
        };
        attribute(SHUTDOWN, &[1]);
        attribute(CGROUP_ID, &77u64.to_ne_bytes());
        attribute(SOCKOPT, &[2, 1]);
        attribute(INFO, &[8; 280]);
        attribute(SKMEMINFO, &[1; 36]);
        attribute(CONG, b"cubic\0");
        bytes
    }

    #[test]
    fn a_full_socket_reads_field_by_field() {
        let mut socket = Socket::default();
        decode_into(&sample(), NetnsId::new(9), &mut socket).unwrap();
        assert_eq!((socket.state, socket.kind, socket.netns), (State::CloseWait, RowKind::Full, NetnsId::new(9)));
        assert_eq!(socket.local.to_string(), "10.0.0.1:443");
        assert_eq!(socket.peer.to_string(), "10.0.0.2:5");
        assert_eq!(socket.cookie, Some(0x1_0000_001f));
        assert_eq!(socket.timer, Some(Timer { kind: TimerKind::Keepalive, remaining_ms: 5000, retransmits: 0 }));
        assert_eq!((socket.recv_q_bytes, socket.send_q_bytes), (1, Some(0)));
        assert_eq!((socket.uid, socket.inode, socket.shutdown), (Some(1000), Inode::new(123), Some(1)));
        assert_eq!((socket.cgroup, socket.bind_address_no_port()), (Some(77), Some(true)));
        assert_eq!(socket.info.as_ref().unwrap().rtt_us(), Some(0x0808_0808));
        assert_eq!(socket.skmem.unwrap().drops, Some(0x0101_0101));
        assert_eq!(socket.congestion.unwrap().as_str(), "cubic");
    }

    #[test]
    fn a_subflow_is_told_by_the_name_of_its_protocol() {
        let decoded = |name: &[u8]| {
            let mut bytes = sample();
            let name_len = u16::try_from(4 + name.len()).unwrap();
            for word in [4 + name_len, ULP_INFO, name_len, ULP_NAME] {
                bytes.extend_from_slice(&word.to_ne_bytes());
            }
            bytes.extend_from_slice(name);
            let mut socket = Socket::default();
            decode_into(&bytes, None, &mut socket).unwrap();
            (socket.ulp, socket.mptcp)
        };
        assert_eq!(decoded(b"mptcp\0"), (true, true));
        assert_eq!([decoded(b"tls\0"), decoded(b"mptcp2\0"), decoded(b"")], [(true, false); 3]);
    }

    #[test]
    fn a_key_is_told_and_not_what_it_is() {
        let mut socket = Socket::default();
        decode_into(&sample(), None, &mut socket).unwrap();
        assert!(!socket.md5_key);
        let mut bytes = sample();
        bytes.extend_from_slice(&104u16.to_ne_bytes());
        bytes.extend_from_slice(&MD5SIG.to_ne_bytes());
        bytes.extend_from_slice(&[7; 100]);
        decode_into(&bytes, None, &mut socket).unwrap();
        assert!(socket.md5_key);
        decode_into(&sample(), None, &mut socket).unwrap();
        assert!(!socket.md5_key);
    }

    #[test]
    fn what_an_answer_lacks_does_not_stay_from_the_one_before() {
        let mut socket = Socket::default();
        decode_into(&sample(), NetnsId::new(9), &mut socket).unwrap();
        let mut mini = sample()[..72].to_vec();
        (mini[1], mini[2]) = (6, 3);
        decode_into(&mini, NetnsId::new(9), &mut socket).unwrap();
        assert_eq!(socket.kind, RowKind::TimeWaitMini);
        assert!(socket.info.is_none() && socket.skmem.is_none() && socket.shutdown.is_none());
        assert_eq!(socket.uid, None);
    }

    #[test]
    fn unknown_numbers_stay_visible() {
        let mut bytes = sample();
        (bytes[1], bytes[2]) = (14, 9);
        let mut socket = Socket::default();
        decode_into(&bytes, None, &mut socket).unwrap();
        assert_eq!(socket.state, State::Unknown(14));
        assert_eq!(socket.timer.unwrap().kind, TimerKind::Unknown(9));
        bytes[0] = 1;
        assert_eq!(decode_into(&bytes, None, &mut socket), Err(Malformed::Family(1)));
    }

    #[test]
    fn bytes_cut_anywhere_never_panic() {
        let full = sample();
        for len in 0..full.len() {
            let mut socket = Socket::default();
            let result = decode_into(&full[..len], None, &mut socket);
            assert_eq!(result.is_err(), len < 72 || matches!(result, Err(Malformed::Attribute)), "{len}");
        }
    }
}
