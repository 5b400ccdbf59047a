//! Addresses by prefix: `peer-addr/24`.
//!
//! Input: the text behind the name of a key, and addresses. Output: networks.

use std::net::IpAddr;

/// Lengths of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    pub v4: u8,
    pub v6: u8,
}

impl Prefix {
    /// `24`: IPv4 by /24, IPv6 by /64. `48`, which IPv4 has not: IPv6 by /48, IPv4 whole. `24/48`: both.
    #[must_use]
    pub fn parse(text: &str) -> Option<Prefix> {
        let number = |text: &str| text.parse::<u8>().ok();
        let prefix = match text.split_once('/') {
            Some((v4, v6)) => Prefix { v4: number(v4)?, v6: number(v6)? },
            None => match number(text)? {
                v4 @ 0..=32 => Prefix { v4, v6: 64 },
                v6 => Prefix { v4: 32, v6 },
            },
        };
        (prefix.v4 <= 32 && prefix.v6 <= 128).then_some(prefix)
    }

    /// The network of an address, and the length that applies. An IPv4-mapped address is IPv4.
    #[must_use]
    pub fn of(self, addr: IpAddr) -> (IpAddr, u8) {
        match addr.to_canonical() {
            IpAddr::V4(a) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4)).unwrap_or(0);
                (IpAddr::V4((u32::from(a) & mask).into()), self.v4)
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6)).unwrap_or(0);
                (IpAddr::V6((u128::from(a) & mask).into()), self.v6)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Key;

    #[test]
    fn prefixes_are_of_either_family() {
        for (text, v4, v6) in [("24", 24, 64), ("48", 32, 48), ("16/56", 16, 56), ("0", 0, 64), ("32/128", 32, 128)] {
            assert_eq!(Prefix::parse(text), Some(Prefix { v4, v6 }), "{text}");
        }
        for bad in ["", "129", "33/64", "24/129", "x", "24/", "-1"] {
            assert_eq!(Prefix::parse(bad), None, "{bad}");
        }
        let of = |prefix: &str, addr: &str| {
            let (net, length) = Prefix::parse(prefix).unwrap().of(addr.parse().unwrap());
            format!("{net}/{length}")
        };
        assert_eq!(of("24", "10.1.2.3"), "10.1.2.0/24");
        assert_eq!(of("24", "::ffff:10.1.2.3"), "10.1.2.0/24");
        assert_eq!(of("24", "2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        assert_eq!(of("0/0", "2001:db8::1"), "::/0");
        assert_eq!(of("0/0", "10.1.2.3"), "0.0.0.0/0");
        assert_eq!(of("32/128", "10.1.2.3"), "10.1.2.3/32");
        assert_eq!(Key::parse("Peer_Addr/24"), Some(Key::PeerNet(Prefix { v4: 24, v6: 64 })));
        assert_eq!((Key::parse("process/24"), Key::parse("peer-addr/")), (None, None));
    }
}
