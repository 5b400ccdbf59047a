//! Settings of a network namespace below `/proc/sys/net`, with the kernel's defaults.
//!
//! The table lists what some rule, column or command uses, and `collect` reads just that.

use crate::model::named::named;
use crate::model::socket::TIME_WAIT_MS;

/// `ip_local_port_range` (`inet_init_net`).
pub const PORT_RANGE: (u16, u16) = (32768, 60999);
/// `TCP_FIN_TIMEOUT` (`include/net/tcp.h`): how long an orphan stays in FIN_WAIT2. The kernel defines it as
/// `TCP_TIMEWAIT_LEN`.
pub const TCP_FIN_TIMEOUT_MS: u64 = TIME_WAIT_MS as u64;
/// `TCP_RETR1`: after this many retransmissions of a segment the kernel doubts the route.
pub const TCP_RETR1: u64 = 3;
/// `TCP_RTO_MAX`.
pub const TCP_RTO_MAX_MS: u64 = 120_000;
/// How old a TIME_WAIT must be before connect() may take its port.
pub const TCP_TW_REUSE_DELAY_MS: u64 = 1000;
/// `ip_local_reserved_ports`: ranges, not numbers, hence not in the table.
pub const RESERVED_PORTS: &str = "ipv4/ip_local_reserved_ports";

/// The table: a variant, its file below `net/`, and the default where it is a constant of the kernel.
macro_rules! sysctls {
    ($($(#[$doc:meta])* $Variant:ident $name:literal $(= $default:expr)?;)*) => {
        named! {
            /// A setting that is one number or several.
            Sysctl,
            /// The settings of one namespace; those this kernel lacks, or that could not be read, have no value.
            Sysctls of Vec<u64> {
                $($(#[$doc])* $Variant $name;)*
            }
        }

        impl Sysctl {
            /// The defaults of a current kernel; `None` when they depend on the host's memory.
            #[must_use]
            pub const fn default_values(self) -> Option<&'static [u64]> {
                match self {
                    $(Sysctl::$Variant => sysctls!(@default $($default)?),)*
                }
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some(&$default) };
}

sysctls! {
    /// 128 before Linux 5.4.
    CoreSomaxconn "core/somaxconn" = [4096];
    Ipv4IpLocalPortRange "ipv4/ip_local_port_range" = [PORT_RANGE.0 as u64, PORT_RANGE.1 as u64];
    Ipv4TcpAbortOnOverflow "ipv4/tcp_abort_on_overflow" = [0];
    /// 1: connects ask for it, 2: only who is asked.
    Ipv4TcpEcn "ipv4/tcp_ecn" = [2];
    /// A size, also when the table is shared with the parent namespace.
    Ipv4TcpEhashEntries "ipv4/tcp_ehash_entries";
    /// Seconds.
    Ipv4TcpFinTimeout "ipv4/tcp_fin_timeout" = [TCP_FIN_TIMEOUT_MS / 1000];
    /// Seconds.
    Ipv4TcpKeepaliveTime "ipv4/tcp_keepalive_time" = [7200];
    /// Visible in the initial namespace only.
    Ipv4TcpMaxOrphans "ipv4/tcp_max_orphans";
    Ipv4TcpMaxSynBacklog "ipv4/tcp_max_syn_backlog";
    Ipv4TcpMaxTwBuckets "ipv4/tcp_max_tw_buckets";
    /// Pages: low, pressure, high. Visible in the initial namespace only.
    Ipv4TcpMem "ipv4/tcp_mem";
    /// Since Linux 5.14.
    Ipv4TcpMigrateReq "ipv4/tcp_migrate_req" = [0];
    /// 0: no receive buffer grows.
    Ipv4TcpModerateRcvbuf "ipv4/tcp_moderate_rcvbuf" = [1];
    /// 1: after a black hole is suspected, 2: always.
    Ipv4TcpMtuProbing "ipv4/tcp_mtu_probing" = [0];
    /// 0 means 8 (`tcp_orphan_retries`).
    Ipv4TcpOrphanRetries "ipv4/tcp_orphan_retries" = [0];
    Ipv4TcpRetries1 "ipv4/tcp_retries1" = [TCP_RETR1];
    Ipv4TcpRetries2 "ipv4/tcp_retries2" = [15];
    /// Bytes of a receive buffer: least, first, most.
    Ipv4TcpRmem "ipv4/tcp_rmem";
    /// Since Linux 6.15, a constant before.
    Ipv4TcpRtoMaxMs "ipv4/tcp_rto_max_ms" = [TCP_RTO_MAX_MS];
    /// Since Linux 6.5; before that the first timeout already doubles.
    Ipv4TcpSynLinearTimeouts "ipv4/tcp_syn_linear_timeouts" = [4];
    Ipv4TcpSynRetries "ipv4/tcp_syn_retries" = [6];
    Ipv4TcpSyncookies "ipv4/tcp_syncookies" = [1];
    Ipv4TcpTimestamps "ipv4/tcp_timestamps" = [1];
    /// Until Linux 4.11.
    Ipv4TcpTwRecycle "ipv4/tcp_tw_recycle" = [0];
    /// 0 before Linux 4.19.
    Ipv4TcpTwReuse "ipv4/tcp_tw_reuse" = [2];
    /// Milliseconds. Since Linux 6.14, a constant before.
    Ipv4TcpTwReuseDelay "ipv4/tcp_tw_reuse_delay" = [TCP_TW_REUSE_DELAY_MS];
    Ipv4TcpWindowScaling "ipv4/tcp_window_scaling" = [1];
    /// Bytes of a send buffer: least, first, most.
    Ipv4TcpWmem "ipv4/tcp_wmem";
}

impl Sysctl {
    /// The first number of [`Sysctl::default_values`].
    #[must_use]
    pub fn default_value(self) -> Option<u64> {
        self.default_values()?.first().copied()
    }
}
