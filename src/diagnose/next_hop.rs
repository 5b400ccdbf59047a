//! Whether the next hop to a silent destination answers.
//!
//! Input: what the kernel said of the way to a destination, once it was asked. Output: the neighbour, and weights for the
//! causes that depend on it. Not here: asking (`collect`), which is done only for destinations that are silent.

use std::net::IpAddr;

use crate::diagnose::hypothesis::{Cause, Weight};
use crate::diagnose::view::View;
use crate::model::path::{Neighbour, NextHop, Resolution};
use crate::model::{NetnsId, Socket};

/// The cause that findings on silence share: the way ends at the first router.
pub const GATEWAY: Cause = Cause {
    id: "gateway-down",
    text: "the gateway does not answer address resolution: it, or the link to it, is down",
    predicts: "the neighbour entry of the gateway is FAILED, or INCOMPLETE after several requests, or the interface has no \
               carrier",
    refuted_by: "a gateway whose address is known, or a destination on the link",
    decided_by: "`ip route get` the address, then `ip neigh show to` its gateway",
};

/// The way to a destination, if it was asked for and known.
#[derive(Clone, Debug, Default)]
pub struct Way {
    hop: Option<NextHop>,
}

impl Way {
    /// A mark or a bound interface may take another route than the one that was asked for.
    #[must_use]
    pub fn of(view: &View<'_>, netns: Option<NetnsId>, to: IpAddr, rows: &[&Socket]) -> Way {
        let odd = |s: &&Socket| s.mark.is_some_and(|m| m != 0) || s.ifindex.is_some_and(|i| i != 0);
        let hop = if rows.iter().any(odd) { None } else { view.next_hop(netns, to).cloned() };
        Way { hop }
    }

    fn neighbour(&self) -> Option<&Neighbour> {
        match &self.hop {
            Some(NextHop::Neighbour(neighbour)) => Some(neighbour),
            _ => None,
        }
    }

    /// The first router on the way.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.neighbour().and_then(|n| n.gateway)
    }

    /// The destination is this host, or on the link.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        matches!(self.hop, Some(NextHop::Local)) || self.neighbour().is_some_and(|n| n.gateway.is_none())
    }

    /// The destination itself is on the link and answers no request for its address.
    #[must_use]
    pub fn host_is_silent(&self) -> bool {
        self.neighbour().is_some_and(|n| n.gateway.is_none() && n.is_silent())
    }

    /// The next hop answers no request for its address, so nothing leaves.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.neighbour().is_some_and(Neighbour::is_silent)
    }

    /// As [`Way::is_silent`] for what has waited longer than an address takes to be resolved: no request that is under way
    /// will be answered, and no route is none.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        self.is_silent()
            || matches!(self.hop, Some(NextHop::NoRoute { .. }))
            || self.neighbour().is_some_and(|n| matches!(n.resolution, Some(Resolution::Incomplete { .. })))
    }

    /// The destination is on the link, and its host was asked for its address and has one.
    #[must_use]
    pub fn host_is_resolved(&self) -> bool {
        let known = |n: &Neighbour| matches!(n.resolution, Some(Resolution::Known | Resolution::Unconfirmed));
        self.neighbour().is_some_and(|n| n.gateway.is_none() && known(n) && !n.is_silent())
    }

    /// The destination is on the link, and answered for itself within so many milliseconds. Another may answer in its place
    /// (proxy ARP), so it is no proof.
    #[must_use]
    pub fn host_was_there(&self, within_ms: u64) -> bool {
        self.neighbour().is_some_and(|n| n.gateway.is_none() && n.confirmed_ms.is_some_and(|ms| ms < within_ms))
    }

    /// What the way says of [`GATEWAY`]; `heard` is what refutes it without asking.
    #[must_use]
    pub fn weigh_gateway(&self, heard: Option<String>) -> Weight {
        match (&self.hop, self.neighbour(), heard) {
            (_, Some(n), _) if n.gateway.is_some() && n.is_silent() => Weight::Proven,
            (_, _, Some(why)) => Weight::Refuted(why),
            (_, Some(n), _) if n.gateway.is_none() => Weight::Refuted("the address is on the link".into()),
            (_, Some(n), _) if n.resolution.is_some() => {
                Weight::Refuted("the gateway's link-layer address is known".into())
            }
            (Some(NextHop::Local), ..) => Weight::Refuted("the address is one of this host".into()),
            _ => Weight::Possible(0.05),
        }
    }

    /// In words, for the evidence; `None` while nothing is known.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        match self.hop.as_ref()? {
            NextHop::Local => Some("this host".into()),
            NextHop::NoRoute { .. } => Some("no route".into()),
            NextHop::Neighbour(n) => {
                let to = n.gateway.map_or_else(|| "on the link".to_owned(), |gateway| format!("via {gateway}"));
                let device = n.device.as_ref().map_or_else(String::new, |d| format!(" on {d}"));
                let state = match n.resolution {
                    Some(Resolution::Failed) => ", FAILED",
                    Some(Resolution::Incomplete { .. }) => ", INCOMPLETE",
                    Some(Resolution::Known) => ", its address is known",
                    Some(Resolution::Unconfirmed) => ", its address is not confirmed",
                    _ => ", without a neighbour entry",
                };
                let link = if n.has_carrier == Some(false) { ", no carrier" } else { "" };
                Some(format!("{to}{device}{state}{link}"))
            }
        }
    }
}
