//! What is asked of the kernel only when a finding needs it: processes, and the next hop to a silent destination.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::gap::Gap;
use crate::model::id::NetnsId;
use crate::model::snapshot::ProcessFacts;

/// A destination in a namespace.
pub type Destination = (Option<NetnsId>, IpAddr);

/// What rules ask about a snapshot; each list is sorted, without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// What these processes do with their sockets.
    pub pids: Vec<u32>,
    /// Over which neighbour these destinations are reached.
    pub destinations: Vec<Destination>,
}

impl Asked {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.destinations.is_empty()
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Answers {
    pub processes: BTreeMap<u32, ProcessFacts>,
    pub next_hops: BTreeMap<Destination, NextHop>,
    pub gaps: Vec<Gap>,
}

/// Where the kernel sends what goes to an address (`RTM_GETROUTE`, without mark or rule by port).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextHop {
    /// It is an address of this host.
    Local,
    /// No route: the error.
    NoRoute {
        errno: i32,
    },
    Neighbour(Neighbour),
}

/// The next host on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// The gateway; `None` when the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub device: Option<String>,
    /// Its link-layer address; `None` where the kernel has no entry, or cannot be asked for one.
    pub resolution: Option<Resolution>,
}

/// State of a neighbour entry (`NUD_*` of `include/uapi/linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolution {
    /// Nobody answered the requests.
    Failed,
    /// So many requests were sent and none is answered yet.
    Incomplete { requests: u32 },
    /// An address is known, and was confirmed lately or needs no confirmation.
    Known,
    /// An address is known and being confirmed, or is old.
    Unconfirmed,
}

/// Requests without an answer that mean that nobody is there: they are a second apart (`retrans_time_ms`).
const UNANSWERED: u32 = 2;

impl Neighbour {
    /// Whether nobody answers at that address.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self.resolution {
            Some(Resolution::Failed) => true,
            Some(Resolution::Incomplete { requests }) => requests >= UNANSWERED,
            _ => false,
        }
    }
}
