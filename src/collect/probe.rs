//! What one visit to a network namespace reads: the settings of its ports, and about how many sockets it has.
//!
//! Input: `/proc` as seen from inside. Output: a [`NetnsProbe`], which serves the next query.

use std::time::{Duration, Instant};

use crate::collect::proc::{self, ProcRoot};
use crate::model::counter::SockStat;
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;

/// How long "no socket in this namespace" stays valid: less than the time between two samples of a watch.
const FRESH: Duration = Duration::from_millis(50);

/// The settings that decide which ports connect() may take, and the limits of memory.
const SETTINGS: [Sysctl; 5] = [
    Sysctl::Ipv4IpLocalPortRange,
    Sysctl::Ipv4TcpTwReuse,
    Sysctl::Ipv4TcpTwReuseDelay,
    Sysctl::Ipv4TcpTimestamps,
    Sysctl::Ipv4TcpMem,
];

/// What one visit to a namespace reads: entering costs more than reading, and there may be hundreds.
#[derive(Debug)]
pub(super) struct NetnsProbe {
    at: Instant,
    /// What a summary needs of the namespace; of one without a socket the range of ports alone.
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
                sysctls: proc::counters::sysctls(root, if empty { &SETTINGS[..1] } else { &SETTINGS }),
                reserved_ports: if empty { Vec::new() } else { proc::counters::reserved_ports(root) },
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
