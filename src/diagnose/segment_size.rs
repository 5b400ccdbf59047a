//! How large the segments are that nobody acknowledges, and those that were acknowledged before.
//!
//! Input: a connection that repeats a segment. Output: whether its size may be why. Not here: who loses it (`silent_peer`, `mtu`).

use crate::model::{Socket, TcpInfo};

/// Behind an interface with jumbo frames may be a link of Ethernet's 1,500 bytes, which loses all that is larger: what fills
/// that (less the headers of IPv4 and TCP with timestamps) counts as full-size.
const ETHERNET_BYTES: u32 = 1448;

/// What a full-size segment carries here.
fn full_bytes(info: &TcpInfo) -> Option<u32> {
    Some(info.snd_mss_bytes()?.min(ETHERNET_BYTES)).filter(|n| *n > 0)
}

/// What is repeated is of full size, and what was acknowledged before was small. Messages that left one by one and were merged
/// when they were sent again (`tcp_retrans_try_collapse`) are small ones: the first of them was lost, and no size explains that.
#[must_use]
pub fn is_about_size(socket: &Socket) -> bool {
    repeats_full_size(socket) == Some(true) && is_small_before(socket)
}

/// Whether what is in flight is of full size, but perhaps for the end of it, and so was what was sent again.
#[must_use]
pub fn repeats_full_size(socket: &Socket) -> Option<bool> {
    let info = socket.info.as_deref()?;
    let (segments, mss) = (u64::from(info.unacked()?), u64::from(full_bytes(info)?));
    if sent_share(socket).is_some_and(|share| share < 0.5) {
        return Some(false);
    }
    let whole = segment_share(socket)? >= 0.9;
    // A loss probe repeats the last one, which may be short.
    let again = info.bytes_retrans().zip(info.total_retrans()).filter(|(_, n)| *n > 0);
    let again = again.map(|(bytes, n)| bytes * 2 >= u64::from(n) * mss);
    let in_flight = u64::from(socket.send_q_bytes?.checked_sub(info.notsent_bytes()?)?);
    let but_the_last = segments > 1 && in_flight + mss > segments * mss;
    match (whole, again) {
        (true, Some(false)) => None,
        (true, _) => Some(true),
        (false, _) => Some(but_the_last && again == Some(true)),
    }
}

/// Nothing but small segments was acknowledged: less than half of a full one in the mean, or the handshake alone before which
/// the peer could not have said anything.
#[must_use]
pub fn is_small_before(socket: &Socket) -> bool {
    acknowledged_share(socket).is_some_and(|share| share < 0.5) || is_fresh(socket)
}

/// The peer acknowledged our SYN-ACK and sent something, and acknowledged none of our data.
#[must_use]
pub fn is_fresh(socket: &Socket) -> bool {
    let of = || {
        let info = socket.info.as_deref()?;
        Some(info.bytes_acked()? <= 1 && info.bytes_received()? > 0)
    };
    of() == Some(true)
}

/// What is in flight, as a share of full-size segments.
fn segment_share(socket: &Socket) -> Option<f64> {
    let info = socket.info.as_deref()?;
    let (segments, mss) = (info.unacked().filter(|n| *n > 0)?, full_bytes(info)?);
    let bytes = socket.send_q_bytes?.checked_sub(info.notsent_bytes()?)?;
    Some(f64::from(bytes) / (f64::from(segments) * f64::from(mss)))
}

/// How large the segments in flight were when they first left, in the mean, as a share of full-size ones: what was sent and not
/// repeated, less what was acknowledged. A repeated SYN counts as a segment and has no bytes, so it can only hide one of these.
fn sent_share(socket: &Socket) -> Option<f64> {
    let info = socket.info.as_deref()?;
    let in_flight = socket.send_q_bytes?.checked_sub(info.notsent_bytes()?)?;
    let sent = u64::from(info.data_segs_out()?).checked_sub(info.total_retrans()?.into())?;
    // The handshake counts as one that was delivered.
    let segments = sent.checked_sub(u64::from(info.delivered()?.saturating_sub(1))).filter(|n| *n > 0)?;
    let mss = full_bytes(info)?;
    Some(f64::from(in_flight) / (segments as f64 * f64::from(mss)))
}

/// How large the acknowledged segments were in the mean, as a share of full-size ones.
fn acknowledged_share(socket: &Socket) -> Option<f64> {
    let info = socket.info.as_deref()?;
    let (segments, mss) = (info.delivered().filter(|n| *n > 0)?, full_bytes(info)?);
    // The SYN counts as a byte.
    let bytes = info.bytes_acked().filter(|n| *n > 1)?;
    Some(bytes as f64 / (f64::from(segments) * f64::from(mss)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{info, row};
    use crate::model::State;

    #[test]
    fn behind_a_jumbo_interface_what_fills_ethernet_is_of_full_size() {
        // ssh over 9,000 bytes: the banner was acknowledged, the key exchange of two segments is repeated.
        let exchange = |in_flight: u32, repeated: u64| {
            let fields = [
                ("snd_mss_bytes", 8948),
                ("unacked", 2),
                ("notsent_bytes", 0),
                ("bytes_retrans", repeated),
                ("total_retrans", 6),
                ("data_segs_out", 9),
                ("delivered", 3),
                ("bytes_acked", 42),
            ];
            let socket = row(State::Established, "10.5.0.2:58220", "10.5.0.1:22");
            info(Socket { send_q_bytes: Some(in_flight), ..socket }, &fields)
        };
        assert!(is_about_size(&exchange(2768, 9360)));
        assert!(!is_about_size(&exchange(900, 2700)), "small ones die too");
    }
}
