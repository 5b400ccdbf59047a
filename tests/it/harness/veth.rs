//! Two namespaces and a wire between them that can be cut. Comes in: the test's namespace. Goes out: the same, with an
//! address on one end of a veth pair whose other end is in a second namespace. Never here: an address outside
//! 10.77.0.0/24 and fd77::/64, which exist only on that wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::oracle::installed;
use super::{Netns, finish};

const NEAR_MAC: &str = "02:00:00:00:00:01";
const FAR_MAC: &str = "02:00:00:00:00:02";
/// Nobody's: a frame to it is sent, and lost.
const WRONG_MAC: &str = "02:00:00:00:00:99";

/// One end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Near,
    Far,
}

impl Side {
    pub fn v4(self) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, self.number()).into()
    }

    pub fn v6(self) -> IpAddr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(self.number())).into()
    }

    pub fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.v4(), port)
    }

    fn number(self) -> u8 {
        if self == Side::Near { 1 } else { 2 }
    }

    fn device(self) -> &'static str {
        if self == Side::Near { "near0" } else { "far0" }
    }

    fn other(self) -> Side {
        if self == Side::Near { Side::Far } else { Side::Near }
    }

    fn mac(self) -> &'static str {
        if self == Side::Near { NEAR_MAC } else { FAR_MAC }
    }
}

/// A wire from the test's namespace to another.
pub struct VethPair<'a> {
    pub near: &'a Netns,
    pub far: Netns,
}

impl VethPair<'_> {
    /// Lays the wire.
    ///
    /// # Errors
    /// Why there can be none here: `ip` (iproute2) is not installed, or the kernel has no veth. The caller skips.
    pub fn new(near: &Netns) -> Result<VethPair<'_>, String> {
        if !installed("ip") {
            return Err("ip (iproute2) is not installed".into());
        }
        let pair = VethPair { near, far: Netns::new() };
        let far = pair.far.path();
        ip(near, &format!("link add near0 address {NEAR_MAC} type veth peer name far0 netns {}", far.display()))
            .map_err(|e| format!("no veth pair: {e}"))?;
        ip(&pair.far, &format!("link set far0 address {FAR_MAC}"))?;
        for (ns, side) in [(near, Side::Near), (&pair.far, Side::Far)] {
            let device = side.device();
            ip(ns, &format!("addr add {}/24 dev {device}", side.v4()))?;
            ip(ns, &format!("link set {device} up"))?;
            // Without duplicate detection the address can be used at once.
            ip(ns, &format!("addr add {}/64 dev {device} nodad", side.v6()))?;
        }
        for side in [Side::Near, Side::Far] {
            pair.mend(side);
        }
        Ok(pair)
    }

    pub fn ns(&self, side: Side) -> &Netns {
        if side == Side::Near { self.near } else { &self.far }
    }

    /// Loses every frame that this side sends, silently, in this direction only.
    #[track_caller]
    pub fn cut(&self, from: Side) {
        self.neighbour(from, WRONG_MAC);
    }

    /// Delivers again.
    #[track_caller]
    pub fn mend(&self, from: Side) {
        self.neighbour(from, from.other().mac());
    }

    /// Permanent neighbours: no address resolution ever interferes, and cutting is naming the wrong one.
    #[track_caller]
    fn neighbour(&self, from: Side, mac: &str) {
        let device = from.device();
        for ip_address in [from.other().v4(), from.other().v6()] {
            let line = format!("neigh replace {ip_address} lladdr {mac} dev {device} nud permanent");
            ip(self.ns(from), &line).unwrap_or_else(|e| panic!("ip {line}: {e}"));
        }
    }
}

fn ip(ns: &Netns, line: &str) -> Result<(), String> {
    let output = finish(ns.command("ip").args(line.split(' ')));
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_string()) }
}
