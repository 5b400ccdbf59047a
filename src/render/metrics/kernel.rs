//! The kernel's own counters as metrics: a line for each.

use super::Metric;
use crate::model::counter::Counter as C;

pub(super) const KERNEL: &[Metric] = &[
    Metric::kernel("tcpstate_active_opens_total", C::TcpActiveOpens, "Connections that this side began."),
    Metric::kernel("tcpstate_passive_opens_total", C::TcpPassiveOpens, "Connections that listeners took."),
    Metric::kernel("tcpstate_attempt_fails_total", C::TcpAttemptFails, "Handshakes that failed, of either side."),
    Metric::kernel(
        "tcpstate_established_resets_total",
        C::TcpEstabResets,
        "Connections in ESTABLISHED or CLOSE_WAIT that a reset or a timeout ended.",
    ),
    Metric::kernel("tcpstate_segments_received_total", C::TcpInSegs, "Segments that came."),
    Metric::kernel("tcpstate_segments_sent_total", C::TcpOutSegs, "Segments that were sent, without repetitions."),
    Metric::kernel("tcpstate_segments_retransmitted_total", C::TcpRetransSegs, "Segments that were sent again."),
    Metric::kernel(
        "tcpstate_syns_retransmitted_total",
        C::TcpExtTcpSynRetrans,
        "SYNs and SYN-ACKs that were sent again.",
    ),
    Metric::kernel("tcpstate_retransmits_failed_total", C::TcpExtTcpRetransFail, "Repetitions that no device took."),
    Metric::kernel("tcpstate_checksum_errors_total", C::TcpInCsumErrors, "Segments that were damaged on the way."),
    Metric::kernel("tcpstate_resets_sent_total", C::TcpOutRsts, "RSTs that were sent."),
    Metric::kernel(
        "tcpstate_listen_overflows_total",
        C::TcpExtListenOverflows,
        "Handshakes that were dropped at a full accept queue.",
    ),
    Metric::kernel(
        "tcpstate_listen_drops_total",
        C::TcpExtListenDrops,
        "Handshakes that listeners dropped, for any reason.",
    ),
    Metric::kernel(
        "tcpstate_syn_queue_drops_total",
        C::TcpExtTcpReqQFullDrop,
        "SYNs that were dropped at a full SYN queue without cookies.",
    ),
    Metric::kernel("tcpstate_syncookies_sent_total", C::TcpExtSyncookiesSent, "SYN cookies that were sent."),
    Metric::kernel("tcpstate_syncookies_received_total", C::TcpExtSyncookiesRecv, "SYN cookies that came back."),
    Metric::kernel(
        "tcpstate_syncookies_failed_total",
        C::TcpExtSyncookiesFailed,
        "ACKs with a SYN cookie that is none.",
    ),
    Metric::kernel(
        "tcpstate_time_waits_total",
        C::TcpExtTw,
        "Sockets that entered TIME_WAIT, or the small FIN_WAIT2 before it.",
    ),
    Metric::kernel(
        "tcpstate_time_wait_overflows_total",
        C::TcpExtTcpTimeWaitOverflow,
        "Sockets that were closed without TIME_WAIT at its limit.",
    ),
    Metric::kernel(
        "tcpstate_paws_time_wait_total",
        C::TcpExtPawsTimewait,
        "Segments that TIME_WAIT rejected by their timestamp.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_close_total",
        C::TcpExtTcpAbortOnClose,
        "Connections that were reset because a program closed them with unread data.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_data_total",
        C::TcpExtTcpAbortOnData,
        "Connections that were reset because data came after close().",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_linger_total",
        C::TcpExtTcpAbortOnLinger,
        "Orphans that were reset instead of waiting in FIN_WAIT2.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_memory_total",
        C::TcpExtTcpAbortOnMemory,
        "Orphans that were reset for want of memory.",
    ),
    Metric::kernel(
        "tcpstate_aborts_on_timeout_total",
        C::TcpExtTcpAbortOnTimeout,
        "Connections that ended because a peer did not answer.",
    ),
    Metric::kernel(
        "tcpstate_backlog_drops_total",
        C::TcpExtTcpBacklogDrop,
        "Segments that were dropped at a busy socket.",
    ),
    Metric::kernel(
        "tcpstate_receive_drops_total",
        C::TcpExtTcpRcvQDrop,
        "Segments that were dropped at a full receive queue.",
    ),
    Metric::kernel(
        "tcpstate_receive_prunes_total",
        C::TcpExtPruneCalled,
        "Times that a receive queue was shrunk for memory.",
    ),
    Metric::kernel(
        "tcpstate_zero_window_drops_total",
        C::TcpExtTcpZeroWindowDrop,
        "Segments that were dropped because the window was shut.",
    ),
    Metric::kernel(
        "tcpstate_memory_pressures_total",
        C::TcpExtTcpMemoryPressures,
        "Times that TCP came under memory pressure.",
    ),
];
