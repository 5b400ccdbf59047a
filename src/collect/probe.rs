//! What one visit to a network namespace reads: the range of ports, and about how many sockets it has.
//!
//! Input: `/proc` as seen from inside. Output: a [`NetnsProbe`], which serves the next query.

use std::time::{Duration, Instant};

use crate::collect::proc::{self, ProcRoot};
use crate::model::counter::SockStat;
use crate::model::sysctl::{PORT_RANGE, Sysctl};

/// How long "no socket in this namespace" stays valid: less than the time between two samples of a watch.
const FRESH: Duration = Duration::from_millis(50);

/// What one visit to a namespace reads: entering costs more than reading, and there may be hundreds.
#[derive(Debug)]
pub(super) struct NetnsProbe {
    at: Instant,
    /// `ip_local_port_range`.
    pub(super) ephemeral: (u16, u16),
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
        let range = std::fs::read_to_string(root.path().join("sys/net").join(Sysctl::Ipv4IpLocalPortRange.name()))
            .unwrap_or_default();
        let mut words = range.split_ascii_whitespace().map(str::parse);
        NetnsProbe {
            at: Instant::now(),
            ephemeral: match (words.next(), words.next()) {
                (Some(Ok(low)), Some(Ok(high))) => (low, high),
                _ => PORT_RANGE,
            },
            sockets: [SockStat::TcpInuse, SockStat::TcpTw, SockStat::Tcp6Inuse]
                .into_iter()
                .filter_map(|n| sockstat.get(n))
                .sum(),
            empty: proc::counters::is_without_sockets(root, &sockstat),
            used: false,
        }
    }

    /// Whether it is recent enough for a query to rely on.
    pub(super) fn is_fresh(&self) -> bool {
        !self.used && self.at.elapsed() < FRESH
    }
}
