//! What held a transfer back between the samples, as the kernel's own clocks tell (`tcp_chrono_start`).
//!
//! Input: a row of two samples. Output: the share of the interval, and what was moved. Not here: why a buffer is small.

use crate::diagnose::hypothesis::Weight;
use crate::diagnose::view::View;
use crate::model::{Socket, State, TcpInfo};

/// A transfer that something held back.
#[derive(Clone, Copy, Debug)]
pub struct Limited<'a> {
    pub socket: &'a Socket,
    /// Of the interval, at most 100.
    pub percent: u64,
    /// What the peer acknowledged between the samples.
    pub moved_bytes: u64,
    pub bytes_per_s: u64,
}

/// Less than this in an interval is no transfer (policy).
pub const MOVED_BYTES: u64 = 64 * 1024;
/// Percent of the interval from which on it is what limits.
pub const MOST: u64 = 50;

/// The transfers that one of the kernel's clocks says were held back by its reason for half of the interval.
pub fn transfers<'a>(view: &View<'a>, clock: fn(&TcpInfo) -> Option<u64>) -> Vec<Limited<'a>> {
    transfers_from(view, clock, MOST, MOVED_BYTES)
}

/// The same from so many percent of the interval and so many bytes on.
pub fn transfers_from<'a>(
    view: &View<'a>,
    clock: fn(&TcpInfo) -> Option<u64>,
    from_percent: u64,
    from_bytes: u64,
) -> Vec<Limited<'a>> {
    let Some(interval_ms) = view.interval_ms() else { return Vec::new() };
    let of = |socket: &'a Socket| {
        let percent = (view.grown(socket, clock)? / 10 / interval_ms).min(100);
        let moved_bytes = view.grown(socket, TcpInfo::bytes_acked)?;
        let bytes_per_s = moved_bytes.saturating_mul(1000) / interval_ms;
        let limited = Limited { socket, percent, moved_bytes, bytes_per_s };
        (percent >= from_percent && moved_bytes >= from_bytes).then_some(limited)
    };
    // A transfer that is held back has data in its queue.
    view.active().filter(|s| can_send(s)).filter_map(of).collect()
}

/// How many transfers were held back by that reason for so many percent of the time that they had data to send, so far.
pub fn suspects(view: &View<'_>, clock: fn(&TcpInfo) -> Option<u64>, from_percent: u64) -> u64 {
    let is = |socket: &&Socket| {
        let info = socket.info.as_deref()?;
        let busy_us = info.busy_time_us().filter(|us| *us >= 1_000_000)?;
        let lately = info.last_data_sent_ms()? < 1000 && info.bytes_acked()? >= MOVED_BYTES;
        Some(lately && clock(info)?.saturating_mul(100) >= busy_us.saturating_mul(from_percent))
    };
    view.active().filter(|s| can_send(s)).filter(|s| is(s) == Some(true)).count() as u64
}

fn can_send(socket: &Socket) -> bool {
    matches!(socket.state, State::Established | State::CloseWait) && socket.send_q_bytes.is_some_and(|n| n > 0)
}

/// How much of a window is moved in each round trip, in percent: near 100 when nothing but the window limits.
#[must_use]
pub fn window_percent(bytes_per_s: u64, rtt_us: u32, window_bytes: u32) -> Option<u64> {
    let in_flight = bytes_per_s.checked_mul(rtt_us.into())? / 1_000_000;
    (in_flight * 100).checked_div(window_bytes.into())
}

/// What the round trip says of acknowledgements that come late, be it for a queue on the path or a receiver that delays
/// them until it reads: it is longer than the shortest one.
#[must_use]
pub fn acknowledges_late(socket: &Socket) -> Weight {
    let info = socket.info.as_deref();
    let times = info.and_then(TcpInfo::rtt_us).zip(info.and_then(TcpInfo::min_rtt_us)).filter(|(_, min)| *min > 0);
    match times {
        Some((now, min)) if now.max(SHORT_US) < min.max(SHORT_US).saturating_mul(2) => {
            Weight::Refuted(format!("the round trip is {now} us, {min} us at its shortest"))
        }
        Some(_) => Weight::Possible(0.7),
        None => Weight::Possible(0.2),
    }
}

/// Round trips below this differ by the scheduler's doing and not by a queue's.
const SHORT_US: u32 = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{info, row};

    #[test]
    fn a_window_per_round_trip_is_the_whole_of_it() {
        // 1,000,000 bytes a second, 50 ms: 50,000 bytes are under way.
        assert_eq!(window_percent(1_000_000, 50_000, 50_000), Some(100));
        assert_eq!(window_percent(1_000_000, 500, 50_000), Some(1));
        assert_eq!(window_percent(1, 1, 0), None);
    }

    #[test]
    fn a_round_trip_that_doubled_tells_of_late_acknowledgements() {
        let late = |now, min| {
            let fields = [("rtt_us", now), ("min_rtt_us", min)];
            let row = info(row(State::Established, "10.0.0.1:1", "10.0.0.2:2"), &fields);
            matches!(acknowledges_late(&row), Weight::Possible(_))
        };
        assert!(late(40_000, 20_000) && !late(39_999, 20_000));
        assert!(!late(999, 40) && late(1000, 40), "on one host");
    }
}
