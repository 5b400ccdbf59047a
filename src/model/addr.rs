//! Addresses: an endpoint, a family, a four-tuple, and the normal form that pairs the two halves of a connection.
//!
//! Names are not resolved.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::digits::{Digits, Dotted};

/// The address family of a row (`idiag_family`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(addr: IpAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The key that JSON and metrics print.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

/// One end of a connection: an address and a port (0 to 65535; 0 means none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub port: u16,
}

impl Endpoint {
    #[must_use]
    pub const fn new(addr: IpAddr, port: u16) -> Endpoint {
        Endpoint { addr, port }
    }

    /// The endpoint that a text is: `10.0.0.1:80`, `[::1]:80`.
    #[cfg(test)]
    pub(crate) fn at(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    /// `0.0.0.0:0`.
    pub const UNSPECIFIED_V4: Endpoint = Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    /// `[::]:0`.
    pub const UNSPECIFIED_V6: Endpoint = Endpoint::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

    /// The same endpoint with an IPv4-mapped address (`::ffff:a.b.c.d`) as plain IPv4.
    ///
    /// The IPv4 connections of a dual-stack listener are IPv6 rows while the client's half is an IPv4 row, so
    /// pairing needs this form. Output keeps the kernel's form.
    #[must_use]
    pub fn normalised(self) -> Endpoint {
        Endpoint { addr: self.addr.to_canonical(), port: self.port }
    }

    /// Whether the address is a wildcard (`0.0.0.0` or `::`).
    #[must_use]
    pub fn is_wildcard(self) -> bool {
        self.addr.is_unspecified()
    }
}

/// Without flow label and scope.
impl From<SocketAddr> for Endpoint {
    fn from(at: SocketAddr) -> Endpoint {
        Endpoint::new(at.ip(), at.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(48);
        write_endpoint(&mut text, *self, None);
        f.pad(&text)
    }
}

/// Appends `addr:port` in the spelling of ss: `*` for no port, brackets around IPv6, `%scope` behind the address.
pub fn write_endpoint(out: &mut String, endpoint: Endpoint, scope: Option<&str>) {
    match endpoint.addr {
        IpAddr::V4(a) => out.push_str(Dotted::new(a).as_str()),
        IpAddr::V6(a) => {
            let written = write!(out, "[{a}]");
            debug_assert!(written.is_ok(), "writing into a String cannot fail");
        }
    }
    if let Some(scope) = scope {
        out.push('%');
        out.push_str(scope);
    }
    out.push(':');
    match endpoint.port {
        0 => out.push('*'),
        port => out.push_str(Digits::new(port.into()).as_str()),
    }
}

/// Local and peer endpoint with the interface they are bound to (0: none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourTuple {
    pub local: Endpoint,
    pub peer: Endpoint,
    /// The scope of a link-local address or the device of `SO_BINDTODEVICE`; part of the key.
    pub ifindex: u32,
}

impl FourTuple {
    /// The form in which the two halves of a connection compare equal: IPv4-mapped addresses as IPv4.
    #[must_use]
    pub fn normalised(self) -> FourTuple {
        FourTuple { local: self.local.normalised(), peer: self.peer.normalised(), ifindex: self.ifindex }
    }

    /// The tuple as the other end sees it.
    #[must_use]
    pub fn swapped(self) -> FourTuple {
        FourTuple { local: self.peer, peer: self.local, ifindex: self.ifindex }
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.local, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(addr: &str, port: u16) -> Endpoint {
        Endpoint::new(addr.parse().unwrap(), port)
    }

    #[test]
    fn mapped_addresses_pair_with_plain_ones_and_show_as_they_are() {
        let server =
            FourTuple { local: endpoint("::ffff:10.0.0.1", 80), peer: endpoint("::ffff:10.0.0.2", 9), ifindex: 0 };
        let client = FourTuple { local: endpoint("10.0.0.2", 9), peer: endpoint("10.0.0.1", 80), ifindex: 0 };
        assert_ne!(server, client.swapped());
        assert_eq!(server.normalised(), client.swapped().normalised());
        assert_eq!(server.local.to_string(), "[::ffff:10.0.0.1]:80");
    }

    #[test]
    fn ports_of_nothing_print_as_a_star() {
        assert_eq!(Endpoint::UNSPECIFIED_V4.to_string(), "0.0.0.0:*");
        assert_eq!(endpoint("fe80::1", 5).to_string(), "[fe80::1]:5");
        let mut text = String::new();
        write_endpoint(&mut text, endpoint("fe80::1", 5), Some("eth0"));
        assert_eq!(text, "[fe80::1]%eth0:5");
    }
}
