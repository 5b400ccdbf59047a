//! What connection tracking (`nf_conntrack`) of one network namespace says of itself, and of one connection.

use std::net::IpAddr;

use crate::model::addr::{Endpoint, FourTuple};
use crate::model::id::NetnsId;

/// A connection as its caller has it (without interface), in the namespace whose table is meant.
pub type Connection = (Option<NetnsId>, FourTuple);

/// The entry of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tracked {
    /// Where the packets of the caller go.
    pub sent_to: Endpoint,
    /// Which source they have then.
    pub sent_from: Endpoint,
    /// A packet came back.
    pub is_answered: bool,
}

/// The ports of one address that source translation (SNAT, MASQUERADE) has taken for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatPorts {
    pub source: IpAddr,
    pub to: Endpoint,
    pub taken: u32,
    /// Those that are not the port of the client itself.
    pub chosen: u32,
    pub lowest: u16,
    pub highest: u16,
}

/// The state of the table; each number `None` when this kernel lacks it or it could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conntrack {
    /// `nf_conntrack_count`: entries of this namespace.
    pub entries: Option<u64>,
    /// `nf_conntrack_max`: how many a namespace may have.
    pub limit: Option<u64>,
    /// `nf_conntrack_tcp_timeout_established`: how long an idle connection keeps its entry, in seconds.
    pub established_timeout_s: Option<u64>,
    /// Cumulative: packets dropped because they could not get an entry, or their entry could not be inserted.
    pub drop: Option<u64>,
    /// Cumulative: entries thrown out before their time to make room.
    pub early_drop: Option<u64>,
    /// Cumulative: packets lost because another packet had taken the same tuple first.
    pub insert_failed: Option<u64>,
    /// Cumulative: packets that fit no entry and may not make one.
    pub invalid: Option<u64>,
}
