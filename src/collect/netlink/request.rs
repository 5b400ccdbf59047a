//! Requests to `sock_diag`, as bytes.
//!
//! Input: states, families, attributes and filter bytecode. Output: one netlink message.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagMessage, constants};

use crate::model::gap::Attribute;
use crate::model::{Family, FourTuple, StateSet};

/// `TCPDIAG_GETSOCK` (`include/uapi/linux/inet_diag.h`): the old request type, still supported, and the only one
/// that walks the table once for both families (`inet_diag_dump_compat` uses `AF_UNSPEC`).
pub const TCPDIAG_GETSOCK: u16 = 18;
/// `SOCK_DESTROY` (`include/uapi/linux/sock_diag.h`).
const SOCK_DESTROY: u16 = 21;
/// `INET_DIAG_REQ_BYTECODE`.
const REQ_BYTECODE: u16 = 1;

/// Attributes to request: bit `n - 1` for attribute `n` (`idiag_ext`). All others are sent always or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes(u8);

impl Attributes {
    pub const NONE: Attributes = Attributes(0);
    /// `INET_DIAG_INFO`: `struct tcp_info`.
    pub const INFO: Attributes = Attributes(1 << 1);
    /// `INET_DIAG_CONG`.
    pub const CONGESTION: Attributes = Attributes(1 << 3);
    /// `INET_DIAG_TOS` and `INET_DIAG_TCLASS`.
    pub const TOS: Attributes = Attributes((1 << 4) | (1 << 5));
    /// `INET_DIAG_SKMEMINFO`.
    pub const SKMEM: Attributes = Attributes(1 << 6);

    #[must_use]
    pub const fn union(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }

    #[must_use]
    pub const fn contains(self, other: Attributes) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Each of them.
    #[must_use]
    pub fn list(self) -> Vec<Attribute> {
        [
            (Attributes::INFO, Attribute::TcpInfo),
            (Attributes::CONGESTION, Attribute::Congestion),
            (Attributes::TOS, Attribute::Tos),
            (Attributes::SKMEM, Attribute::SkMemInfo),
        ]
        .into_iter()
        .filter(|(bit, _)| self.contains(*bit))
        .map(|(_, attribute)| attribute)
        .collect()
    }
}

/// The families that one dump walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Both in one pass, with the old request type.
    Both,
    /// One family, with `SOCK_DIAG_BY_FAMILY`.
    One(Family),
}

/// One dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub walk: Walk,
    pub states: StateSet,
    pub attributes: Attributes,
    /// `inet_diag` bytecode; empty for none.
    pub bytecode: Vec<u8>,
}

impl Request {
    /// The message to send.
    #[must_use]
    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut message = match self.walk {
            Walk::Both => self.encode_compat(sequence),
            Walk::One(family) => encode_inet(
                family,
                self.states,
                self.attributes,
                SocketId::new_v4(),
                NLM_F_REQUEST | NLM_F_DUMP,
                sequence,
            ),
        };
        if !self.bytecode.is_empty() {
            let len = u16::try_from(4 + self.bytecode.len()).unwrap_or(u16::MAX);
            message.extend_from_slice(&len.to_ne_bytes());
            message.extend_from_slice(&REQ_BYTECODE.to_ne_bytes());
            message.extend_from_slice(&self.bytecode);
            while message.len() % 4 != 0 {
                message.push(0);
            }
            set_length(&mut message);
        }
        message
    }

    /// `struct inet_diag_req`, which no crate encodes: family, source and destination length, extensions, an
    /// empty socket id with no cookie, states, dbs.
    fn encode_compat(&self, sequence: u32) -> Vec<u8> {
        let mut message = Vec::with_capacity(16 + 60);
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(&TCPDIAG_GETSOCK.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        message.extend_from_slice(&sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(&[0, 0, 0, self.attributes.bits()]);
        message.extend_from_slice(&[0; 40]);
        message.extend_from_slice(&[0xff; 8]);
        message.extend_from_slice(&self.states.bits().to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        set_length(&mut message);
        message
    }
}

/// Requests one socket by its four-tuple; the answer is one message, or `ENOENT`.
#[must_use]
pub fn encode_lookup(family: Family, tuple: FourTuple, cookie: u64, attributes: Attributes, sequence: u32) -> Vec<u8> {
    encode_inet(family, StateSet::ALL, attributes, socket_id(tuple, cookie), NLM_F_REQUEST, sequence)
}

/// Destroys one socket by its four-tuple and cookie; the answer is an acknowledgement or an error. The crate encodes the
/// body, which is that of a look-up, and has no name for this type of message.
#[must_use]
pub fn encode_destroy(family: Family, tuple: FourTuple, cookie: u64, sequence: u32) -> Vec<u8> {
    let id = socket_id(tuple, cookie);
    let mut message = encode_inet(family, StateSet::ALL, Attributes::NONE, id, NLM_F_REQUEST | NLM_F_ACK, sequence);
    message[4..6].copy_from_slice(&SOCK_DESTROY.to_ne_bytes());
    message
}

fn socket_id(tuple: FourTuple, cookie: u64) -> SocketId {
    SocketId {
        source_port: tuple.local.port,
        destination_port: tuple.peer.port,
        source_address: tuple.local.addr,
        destination_address: tuple.peer.addr,
        interface_id: tuple.ifindex,
        cookie: cookie.to_ne_bytes(),
    }
}

fn encode_inet(
    family: Family,
    states: StateSet,
    attributes: Attributes,
    socket_id: SocketId,
    flags: u16,
    sequence: u32,
) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let request = InetRequest {
        family: match family {
            Family::V4 => constants::AF_INET,
            Family::V6 => constants::AF_INET6,
        },
        protocol: constants::IPPROTO_TCP,
        extensions: ExtensionFlags::from_bits_retain(attributes.bits()),
        states: StateFlags::from_bits_retain(states.bits()),
        socket_id: match (family, socket_id.source_address) {
            (Family::V6, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => SocketId::new_v6(),
            _ => socket_id,
        },
    };
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(SockDiagMessage::InetRequest(request)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn set_length(message: &mut [u8]) {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&len.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::State;

    #[test]
    fn a_dump_request_has_the_layout_of_the_kernel_header() {
        let request = Request {
            walk: Walk::Both,
            states: StateSet::of(&[State::CloseWait]),
            attributes: Attributes::INFO,
            bytecode: vec![1, 2, 3, 4],
        };
        let bytes = request.encode(7);
        assert_eq!(bytes.len(), 16 + 60 + 8);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()), 84);
        assert_eq!(u16::from_ne_bytes(bytes[4..6].try_into().unwrap()), 18);
        assert_eq!(bytes[19], 2);
        assert_eq!(u32::from_ne_bytes(bytes[68..72].try_into().unwrap()), 1 << 8);
        assert_eq!(&bytes[76..84], &[8, 0, 1, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_socket_is_destroyed_by_addresses_ports_interface_and_cookie() {
        use crate::model::Endpoint;
        let at = |last, port| Endpoint::new([10, 0, 0, last].into(), port);
        let tuple = FourTuple { local: at(1, 80), peer: at(2, 4000), ifindex: 3 };
        let bytes = encode_destroy(Family::V4, tuple, 0x1_0000_0002, 9);
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(&bytes[4..8], &[21, 0, 5, 0]);
        assert_eq!((&bytes[16..18], &bytes[24..28]), (&[2, 6][..], &[0, 80, 15, 160][..]));
        assert_eq!((&bytes[28..32], &bytes[44..48]), (&[10, 0, 0, 1][..], &[10, 0, 0, 2][..]));
        assert_eq!((&bytes[60..64], &bytes[64..72]), (&[3, 0, 0, 0][..], &[2, 0, 0, 0, 1, 0, 0, 0][..]));
    }

    #[test]
    fn a_request_for_one_family_keeps_states_that_the_crate_does_not_name() {
        let request = Request {
            walk: Walk::One(Family::V6),
            states: StateSet::of(&[State::BoundInactive]),
            attributes: Attributes::NONE,
            bytecode: Vec::new(),
        };
        let bytes = request.encode(1);
        assert_eq!(bytes.len(), 16 + 56);
        assert_eq!(u16::from_ne_bytes(bytes[4..6].try_into().unwrap()), 20);
        assert_eq!(&bytes[16..20], &[10, 6, 0, 0]);
        assert_eq!(u32::from_ne_bytes(bytes[20..24].try_into().unwrap()), 1 << 13);
    }
}
