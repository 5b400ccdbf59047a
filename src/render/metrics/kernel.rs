//! The kernel's own counters as metrics: a line for each.

use super::Metric;
use crate::model::counter::Counter as C;

pub(super) const KERNEL: &[Metric] = &[
    Metric::kernel(
        "tcpstate_active_opens_total",
        C::TcpActiveOpens,
        "Connections that programs here began with connect().",
    ),
    Metric::kernel("tcpstate_passive_opens_total", C::TcpPassiveOpens, "Connections that came in on listeners."),
    Metric::kernel(
        "tcpstate_attempt_fails_total",
        C::TcpAttemptFails,
        "Handshakes that failed, outgoing and incoming.",
    ),
    Metric::kernel(
        "tcpstate_established_resets_total",
        C::TcpEstabResets,
        "Connections that went from ESTABLISHED or CLOSE_WAIT straight to CLOSE: by a reset or a timeout.",
    ),
    Metric::kernel("tcpstate_segments_received_total", C::TcpInSegs, "TCP segments received, damaged ones included."),
    Metric::kernel("tcpstate_segments_sent_total", C::TcpOutSegs, "TCP segments sent, retransmissions excluded."),
    Metric::kernel("tcpstate_segments_retransmitted_total", C::TcpRetransSegs, "TCP segments retransmitted."),
    Metric::kernel("tcpstate_syns_retransmitted_total", C::TcpExtTcpSynRetrans, "SYNs and SYN-ACKs retransmitted."),
    Metric::kernel(
        "tcpstate_retransmits_failed_total",
        C::TcpExtTcpRetransFail,
        "Retransmissions that could not leave: no route, or dropped by a local filter or queue.",
    ),
    Metric::kernel("tcpstate_checksum_errors_total", C::TcpInCsumErrors, "Segments received with a wrong checksum."),
    Metric::kernel("tcpstate_resets_sent_total", C::TcpOutRsts, "Resets (RST) sent."),
    Metric::kernel(
        "tcpstate_listen_overflows_total",
        C::TcpExtListenOverflows,
        "Handshakes dropped because the accept queue was full.",
    ),
    Metric::kernel(
        "tcpstate_listen_drops_total",
        C::TcpExtListenDrops,
        "Handshakes that listeners dropped for any reason, a full accept queue included.",
    ),
    Metric::kernel(
        "tcpstate_syn_queue_drops_total",
        C::TcpExtTcpReqQFullDrop,
        "SYNs dropped because the SYN queue was full and SYN cookies were off.",
    ),
    Metric::kernel("tcpstate_syncookies_sent_total", C::TcpExtSyncookiesSent, "SYN cookies sent."),
    Metric::kernel("tcpstate_syncookies_received_total", C::TcpExtSyncookiesRecv, "Valid SYN cookies received."),
    Metric::kernel(
        "tcpstate_syncookies_failed_total",
        C::TcpExtSyncookiesFailed,
        "ACKs received with an invalid SYN cookie.",
    ),
    Metric::kernel(
        "tcpstate_time_waits_total",
        C::TcpExtTw,
        "Connections that entered TIME_WAIT, or FIN_WAIT2 in the small form that no process holds.",
    ),
    Metric::kernel(
        "tcpstate_time_wait_overflows_total",
        C::TcpExtTcpTimeWaitOverflow,
        "Connections closed without TIME_WAIT because the limit (tcp_max_tw_buckets) was reached.",
    ),
    Metric::kernel(
        "tcpstate_paws_time_wait_total",
        C::TcpExtPawsTimewait,
        "Segments for a connection in TIME_WAIT that were rejected because their timestamp was too old.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_close_total",
        C::TcpExtTcpAbortOnClose,
        "Connections reset because a program closed them with data unread.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_data_total",
        C::TcpExtTcpAbortOnData,
        "Connections reset because data came after close().",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_linger_total",
        C::TcpExtTcpAbortOnLinger,
        "Orphans reset in place of a wait in FIN_WAIT2 (TCP_LINGER2 below 0).",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_memory_total",
        C::TcpExtTcpAbortOnMemory,
        "Orphans reset because memory, or their limit (tcp_max_orphans), was used up.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_timeout_total",
        C::TcpExtTcpAbortOnTimeout,
        "Connections ended because the peer did not answer in time.",
    ),
    Metric::kernel(
        "tcpstate_backlog_drops_total",
        C::TcpExtTcpBacklogDrop,
        "Segments dropped because the backlog of a socket in use was full.",
    ),
    Metric::kernel(
        "tcpstate_receive_drops_total",
        C::TcpExtTcpRcvQDrop,
        "Segments dropped because the receive queue was full.",
    ),
    Metric::kernel(
        "tcpstate_receive_prunes_total",
        C::TcpExtPruneCalled,
        "Times that a receive queue exceeded its memory and was compacted.",
    ),
    Metric::kernel(
        "tcpstate_zero_window_drops_total",
        C::TcpExtTcpZeroWindowDrop,
        "Segments dropped because the receive window was zero.",
    ),
    Metric::kernel(
        "tcpstate_memory_pressures_total",
        C::TcpExtTcpMemoryPressures,
        "Times that TCP memory went above the pressure threshold (second number of tcp_mem).",
    ),
];
