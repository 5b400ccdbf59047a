//! What one visit to a network namespace reads: the range of its ports, and about how many sockets it has.
//!
//! Input: `/proc` as seen from inside. Output: a [`NetnsProbe`], which serves the next query.

use std::time::{Duration, Instant};

use crate::collect::proc::{self, ProcRoot};
use crate::model::counter::SockStat;
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;

/// How long "no socket in this namespace" stays valid: less than the time between two samples of a watch.
const FRESH: Duration = Duration::from_millis(50);

/// What one visit to a namespace reads: entering costs more than reading, and there may be hundreds.
#[derive(Debug)]
pub(super) struct NetnsProbe {
    at: Instant,
    /// The range of ports, and the counts of sockets.
    pub(super) facts: Netns,
    /// About how many sockets there are.
    pub(super) sockets: u64,
    /// Certainly none, if the reader has none there.
    pub(super) empty: bool,
    /// A query has used it.
    pub(super) used: bool,
}

impl NetnsProbe {
    /// Reads it from inside.
    pub(super) fn read(root: &ProcRoot) -> NetnsProbe {
        let sockstat = proc::counters::sockstat(root);
        let empty = proc::counters::is_without_sockets(root, &sockstat);
        let sockets = [SockStat::TcpInuse, SockStat::TcpTw, SockStat::Tcp6Inuse];
        NetnsProbe {
            at: Instant::now(),
            sockets: sockets.into_iter().filter_map(|n| sockstat.get(n)).sum(),
            empty,
            used: false,
            facts: Netns {
                sysctls: proc::counters::sysctls(root, &[Sysctl::Ipv4IpLocalPortRange]),
                sockstat,
                ..Netns::default()
            },
        }
    }

    /// Whether it is recent enough for a query to rely on.
    pub(super) fn is_fresh(&self) -> bool {
        !self.used && self.at.elapsed() < FRESH
    }
}
