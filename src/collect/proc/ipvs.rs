//! The virtual services of IPVS, which forgets an idle connection after 15 minutes.
//!
//! Input: the text of `/proc/net/ip_vs`. Output: the addresses and ports that it balances over TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::collect::proc::ProcRoot;
use crate::model::Endpoint;

/// Reads the services of the namespace that `root.net()` shows; none where the kernel has no IPVS.
#[must_use]
pub fn read(root: &ProcRoot) -> Vec<Endpoint> {
    services(&std::fs::read_to_string(root.net().join("ip_vs")).unwrap_or_default())
}

/// `TCP  C0A80001:0050 rr`, or `TCP  [2001:0db8:...:0001]:0050 rr` (`ip_vs_info_seq_show`).
fn services(text: &str) -> Vec<Endpoint> {
    let service = |line: &str| {
        let at = line.strip_prefix("TCP ")?.split_ascii_whitespace().next()?;
        let (addr, port) = at.rsplit_once(':')?;
        let addr: IpAddr = match addr.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
            Some(six) => six.parse::<Ipv6Addr>().ok()?.into(),
            None => Ipv4Addr::from_bits(u32::from_str_radix(addr, 16).ok()?).into(),
        };
        Some(Endpoint::new(addr, u16::from_str_radix(port, 16).ok()?))
    };
    text.lines().filter_map(service).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_both_families_are_read_and_the_rest_is_skipped() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port\n\
                    TCP  0A600001:01BB rr\n  -> 0AF40102:1BB Masq 1 0 0\nUDP  0A60000A:0035 rr\n\
                    TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 wlc\nTCP  zz:1 rr\nTCP\nFWM  00000001 rr\n";
        let found: Vec<String> = services(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.96.0.1:443", "[fd00::1]:80"]);
    }
}
