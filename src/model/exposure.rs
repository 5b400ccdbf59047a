//! From where a listener can be reached, by the address that it is bound to.
//!
//! Input: a socket. Output: a word, or `None` where it does not listen. The address alone is judged: no filter, NAT, proxy,
//! route or `route_localnet` of the host is in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{Socket, State};

/// The index of `lo` in every network namespace (`LOOPBACK_IFINDEX`, `include/net/flow.h`).
const LOOPBACK_IFINDEX: u32 = 1;

/// The range of addresses that a listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// 127.0.0.0/8, ::1, or any address on the interface `lo`.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// RFC 1918, RFC 6598 (carriers' NAT), RFC 4193 (ULA).
    Private,
    /// Every other unicast address that the IANA registries do not exclude from the internet.
    Public,
    /// What is registered for another purpose, or for none: documentation, benchmarks, multicast, what is not assigned.
    Reserved,
    /// A wildcard: every address that its network namespace has.
    Any,
}

impl Exposure {
    pub const ALL: [Exposure; 6] = [
        Exposure::Loopback,
        Exposure::LinkLocal,
        Exposure::Private,
        Exposure::Public,
        Exposure::Reserved,
        Exposure::Any,
    ];

    /// The key that JSON prints.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Exposure::Loopback => "loopback",
            Exposure::LinkLocal => "link_local",
            Exposure::Private => "private",
            Exposure::Public => "public",
            Exposure::Reserved => "reserved",
            Exposure::Any => "any",
        }
    }

    /// That of a socket; `None` unless it listens.
    #[must_use]
    pub fn of(socket: &Socket) -> Option<Exposure> {
        if socket.state != State::Listen {
            return None;
        }
        // `SO_BINDTODEVICE`: only what arrives on `lo` finds it (`inet_lookup_listener`, `compute_score`).
        if socket.ifindex == Some(LOOPBACK_IFINDEX) {
            return Some(Exposure::Loopback);
        }
        Some(Exposure::of_addr(socket.local.addr))
    }

    /// The range that an address is in.
    #[must_use]
    pub fn of_addr(addr: IpAddr) -> Exposure {
        match addr.to_canonical() {
            IpAddr::V4(addr) => of_v4(addr),
            IpAddr::V6(addr) => of_v6(addr),
        }
    }
}

/// By <https://www.iana.org/assignments/iana-ipv4-special-registry>.
fn of_v4(addr: Ipv4Addr) -> Exposure {
    match addr.octets() {
        [0, 0, 0, 0] => Exposure::Any,
        [127, ..] => Exposure::Loopback,
        [169, 254, ..] => Exposure::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Exposure::Private,
        // Anycast addresses of PCP and TURN.
        [192, 0, 0, 9 | 10] => Exposure::Public,
        [0 | 224..=255, ..] | [192, 0, 0 | 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Exposure::Reserved
        }
        _ => Exposure::Public,
    }
}

/// By <https://www.iana.org/assignments/iana-ipv6-special-registry>, and the blocks that IANA has allocated at all.
fn of_v6(addr: Ipv6Addr) -> Exposure {
    match addr.segments() {
        _ if addr.is_unspecified() => Exposure::Any,
        _ if addr.is_loopback() => Exposure::Loopback,
        [0xfe80..=0xfebf, ..] => Exposure::LinkLocal,
        [0xfc00..=0xfdff, ..] => Exposure::Private,
        // NAT64 by RFC 6052.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Exposure::Public,
        // Of 2001::/23 Teredo, the anycast of PCP, TURN and DNS-SD, AMT, AS112, ORCHIDv2 and DRIP.
        [0x2001, 1, 0, 0, 0, 0, 0, 1..=3] | [0x2001, 3 | 0x20..=0x3f, ..] | [0x2001, 4, 0x112, ..] => Exposure::Public,
        [0x2001, 1..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Exposure::Reserved,
        [0x2000..=0x3fff, ..] => Exposure::Public,
        _ => Exposure::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;

    fn listener(addr: &str) -> Socket {
        Socket { state: State::Listen, local: Endpoint::new(addr.parse().unwrap(), 80), ..Socket::default() }
    }

    #[test]
    fn the_bound_address_decides() {
        for (word, addrs) in [
            (Exposure::Loopback, "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1"),
            (Exposure::LinkLocal, "169.254.1.1 fe80::1 febf::1 ::ffff:169.254.0.1"),
            (
                Exposure::Private,
                "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.255 fc00::1 fdff::1 ::ffff:10.0.0.1",
            ),
            (
                Exposure::Public,
                "1.1.1.1 9.255.255.255 11.0.0.1 172.15.0.1 172.32.0.1 100.63.0.1 100.128.0.1 192.0.0.9 192.0.1.1 198.17.0.1 \
                 198.20.0.1 223.255.255.255 2a00::1 2001:200::1 2001:1::1 2001:20::1 2000::1 3fff:1000::1 64:ff9b::1 2001::1 2002::1 \
                 ::ffff:8.8.8.8",
            ),
            (
                Exposure::Reserved,
                "0.0.0.1 192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 \
                 2001:db8::1 2001:2::1 2001:10::1 3fff::1 100::1 64:ff9b:1::1 fec0::1 ff02::1 4000::1 ::2",
            ),
            (Exposure::Any, "0.0.0.0 :: ::ffff:0.0.0.0"),
        ] {
            for addr in addrs.split_whitespace() {
                assert_eq!(Exposure::of(&listener(addr)), Some(word), "{addr}");
            }
        }
    }

    #[test]
    fn only_a_listener_has_one_and_lo_keeps_others_out() {
        let established = Socket { state: State::Established, ..listener("1.1.1.1") };
        assert_eq!(Exposure::of(&established), None);
        let on = |ifindex| Exposure::of(&Socket { ifindex: Some(ifindex), ..listener("0.0.0.0") });
        assert_eq!((on(1), on(0), on(2)), (Some(Exposure::Loopback), Some(Exposure::Any), Some(Exposure::Any)));
    }
}
