//! What keeps written data from being delivered: a peer whose window is zero, or one that does not answer.

use std::net::IpAddr;

use crate::diagnose::peers;
use crate::diagnose::view::View;
use crate::model::{NetnsId, Socket, State, TcpInfo, TimerKind};

/// Where a process can still have data to send.
const STATES: [State; 3] = [State::Established, State::CloseWait, State::FinWait1];

/// Whether the window has been shut for as long as `zero-window-peer` reports, so that others need not.
#[must_use]
pub fn lasts_shut(view: &View<'_>, socket: &Socket) -> bool {
    is_zero_window(socket)
        && zero_window_ms(socket).is_some_and(|ms| reaches(ms, view.thresholds.zero_window_warn_seconds))
}

/// The probe timer runs, data waits, and the peer offers no window. With a window that is open, however small, the
/// timer means data that the application itself holds back (`tcp_check_probe_timer`).
#[must_use]
pub fn is_zero_window(socket: &Socket) -> bool {
    socket.timer.is_some_and(|t| t.kind == TimerKind::ZeroWindowProbe)
        && socket.send_q_bytes.is_some_and(|n| n > 0)
        && peers::is_held(socket, &STATES)
        && socket.info.as_deref().is_none_or(|i| i.snd_wnd_bytes().is_none_or(|w| w == 0))
}

/// `TCP_RTO_MIN`, `TCP_RTO_MAX` (`include/net/tcp.h`) in milliseconds: the least and the longest wait between probes.
const PROBE_MS: (u64, u64) = (200, 120_000);

/// How long data has waited for the window to open, at least. Not longer than since data last left.
#[must_use]
pub fn zero_window_ms(socket: &Socket) -> Option<u64> {
    Some(probed_ms(socket)?.min(u64::from(socket.info.as_deref()?.last_data_sent_ms()?)))
}

/// For how long the peer has been probed: the probes that were due, each after twice the wait of the one before up to a limit
/// (`tcp_probe0_when`), and the part of the present wait that is over.
#[must_use]
pub fn probed_ms(socket: &Socket) -> Option<u64> {
    let info = socket.info.as_deref()?;
    let base = (u64::from(info.rto_us()?) / 1000).max(PROBE_MS.0);
    let wait = |n: u32| base.checked_shl(n).map_or(PROBE_MS.1, |ms| ms.min(PROBE_MS.1));
    let sent = u32::from(info.backoff()?);
    let present = socket.timer.map_or(0, |t| wait(sent).saturating_sub(u64::from(t.remaining_ms)));
    Some((0..sent).map(wait).sum::<u64>() + present)
}

/// Whether a time is as long as a threshold in seconds.
#[must_use]
pub fn reaches(ms: u64, seconds: f64) -> bool {
    ms as f64 >= seconds * 1000.0
}

/// Whether this row is one that `dead-peer-retransmit` reports, so that others need not.
#[must_use]
pub fn is_unanswered(view: &View<'_>, socket: &Socket) -> bool {
    repeats(view, socket) && is_silent(socket) == Some(true)
}

/// How many segments to an address were repeated between the samples on connections that get no word at all: no loss, but
/// `dead-peer-retransmit`.
#[must_use]
pub fn repeated_in_vain(view: &View<'_>, netns: Option<NetnsId>, addr: IpAddr) -> u64 {
    let is_silent = |s: &&Socket| s.netns == netns && s.peer.normalised().addr == addr && is_unanswered(view, s);
    let repeated = |s: &Socket| s.info.as_deref().and_then(TcpInfo::total_retrans).map_or(0, u64::from);
    let grown = |s: &Socket| repeated(s).saturating_sub(view.earlier(s).map_or(0, repeated));
    view.now.sockets.iter().filter(is_silent).map(grown).sum()
}

/// Whether the same segment was repeated more often than loss explains, or cannot leave this host.
#[must_use]
pub fn repeats(view: &View<'_>, socket: &Socket) -> bool {
    let repeated = socket.timer.is_some_and(|t| t.kind == TimerKind::Retransmit && t.retransmits > 1);
    (repeated || peers::cannot_leave(socket))
        && peers::is_held(socket, &STATES)
        && socket.timer.is_some_and(|t| u64::from(t.retransmits) >= peers::retries1(view, socket))
}

/// Whether no acknowledgement came for two timeouts. On a link that merely loses segments they keep coming. The timeout
/// of the row has doubled with each retransmission; it is the one before that which tells how soon the peer answers.
#[must_use]
pub fn is_silent(socket: &Socket) -> Option<bool> {
    let silence = u64::from(socket.info.as_deref()?.last_ack_recv_ms()?);
    Some(silence > 2 * peers::base_rto_ms(socket)?)
}

/// Whether nothing but its FIN is unacknowledged: what is sent again then says of the path that it drops FINs.
#[must_use]
pub fn has_only_its_fin(socket: &Socket) -> bool {
    matches!(socket.state, State::FinWait1 | State::Closing | State::LastAck) && socket.send_q_bytes == Some(1)
}
