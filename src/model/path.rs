//! The next hop to a destination, asked of the kernel only when a finding needs it.

use std::net::IpAddr;

use crate::model::id::NetnsId;

/// A destination in a namespace.
pub type Destination = (Option<NetnsId>, IpAddr);

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
    /// How long ago it was last confirmed to be there, by an answer to a request for its address or by TCP (`NDA_CACHEINFO`);
    /// `None` where there is no entry, or one that nobody confirms.
    pub confirmed_ms: Option<u64>,
    /// Whether the interface has a carrier; `None` where the kernel does not say.
    pub has_carrier: Option<bool>,
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
    /// Whether nobody answers at that address, or nothing can be asked there.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self.resolution {
            _ if self.has_carrier == Some(false) => true,
            Some(Resolution::Failed) => true,
            Some(Resolution::Incomplete { requests }) => requests >= UNANSWERED,
            _ => false,
        }
    }
}
