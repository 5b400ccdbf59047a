//! When the kernel repeats a segment and when it gives up.
//!
//! Comes in: counts, sysctls, a row's timer. Goes out: milliseconds. Never here: the clock.

use crate::model::snapshot::Netns;
use crate::model::sysctl::{Sysctl, TCP_RTO_MAX_MS};
use crate::model::{Socket, TimerKind};

/// `TCP_RTO_MIN` (`include/net/tcp.h`).
const RTO_MIN_MS: u64 = 200;
/// `TCP_TIMEOUT_INIT`.
const INITIAL_RTO_MS: u64 = 1000;
/// What `tcp_orphan_retries` 0 stands for while the timeout is below its maximum (`net/ipv4/tcp_timer.c`).
const ORPHAN_RETRIES: u64 = 8;

fn rto_max_ms(netns: Option<&Netns>) -> u64 {
    netns.and_then(|n| n.sysctl(Sysctl::Ipv4TcpRtoMaxMs)).unwrap_or(TCP_RTO_MAX_MS).max(INITIAL_RTO_MS)
}

/// Milliseconds from a SYN to the timeout with this number, the first being 1.
///
/// The first `tcp_syn_linear_timeouts` (Linux 6.5) repeat after a second each, then the wait doubles
/// (`tcp_retransmit_timer`); without that sysctl it doubles from the start.
#[must_use]
pub fn syn_timeout_ms(number: u64, netns: Option<&Netns>) -> u64 {
    let linear = netns.and_then(|n| n.sysctl(Sysctl::Ipv4TcpSynLinearTimeouts)).unwrap_or(0);
    let longest = rto_max_ms(netns);
    let waits = (0..number.min(255)).map(|done| {
        let doublings = u32::try_from(done.saturating_sub(linear)).unwrap_or(u32::MAX);
        INITIAL_RTO_MS.checked_shl(doublings.min(20)).unwrap_or(longest).min(longest)
    });
    waits.sum()
}

/// How long a SYN_SENT row has been trying, and how long it will still, unless `TCP_SYNCNT` says otherwise.
#[must_use]
pub fn syn_sent_ms(socket: &Socket, netns: Option<&Netns>) -> (Option<u64>, Option<u64>) {
    let timer = socket.timer.filter(|t| t.kind == TimerKind::Retransmit);
    // The running timer ends exactly at the next timeout of the schedule.
    let age = timer.map(|t| {
        let next = syn_timeout_ms(u64::from(t.retransmits) + 1, netns);
        next.saturating_sub(t.remaining_ms.into())
    });
    let last = netns.and_then(|n| {
        let retries = n.sysctl(Sysctl::Ipv4TcpSynRetries)?;
        let linear = n.sysctl(Sysctl::Ipv4TcpSynLinearTimeouts).unwrap_or(0);
        Some(syn_timeout_ms(retries + linear + 1, netns))
    });
    (age, last.zip(age).map(|(last, age)| last.saturating_sub(age)))
}

/// The time that so many retransmissions stand for when none is counted (`tcp_model_timeout`): doubling from the
/// smallest timeout to the largest, then constant. 15 give 924.6 s, 8 give 102.2 s.
#[must_use]
pub fn model_ms(retries: u64, netns: Option<&Netns>) -> u64 {
    let longest = rto_max_ms(netns);
    let doubling = u64::from((longest / RTO_MIN_MS).max(1).ilog2());
    let bits = u32::try_from(retries.min(doubling) + 1).unwrap_or(0);
    let rising = (1u64 << bits).saturating_sub(1) * RTO_MIN_MS;
    rising.saturating_add(retries.saturating_sub(doubling).saturating_mul(longest))
}

/// How long the kernel will still repeat the FIN, or the data before it, of a row whose retransmission timer runs;
/// `None` when the row does not tell since when. A zero-window probe of a live peer has no such end.
#[must_use]
pub fn closing_ends_in_ms(socket: &Socket, netns: Option<&Netns>) -> Option<u64> {
    let timer = socket.timer.filter(|t| t.kind == TimerKind::Retransmit)?;
    let orphan_retries = netns?.sysctl(Sysctl::Ipv4TcpOrphanRetries)?;
    let retries = match (socket.is_orphan(), orphan_retries) {
        (true, 0) => ORPHAN_RETRIES,
        (true, n) => n,
        (false, _) => netns?.sysctl(Sysctl::Ipv4TcpRetries2)?,
    };
    let trying = socket.info.as_deref()?.total_rto_time_ms()?;
    Some(model_ms(retries, netns).saturating_sub(trying.into()).max(timer.remaining_ms.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timer;

    fn netns(values: &[(Sysctl, u64)]) -> Netns {
        Netns { sysctls: values.iter().map(|(k, v)| (*k, vec![*v])).collect(), ..Netns::default() }
    }

    #[test]
    fn the_syn_schedule_is_the_kernel_s() {
        let new = netns(&[(Sysctl::Ipv4TcpSynLinearTimeouts, 4), (Sysctl::Ipv4TcpSynRetries, 6)]);
        let times: Vec<u64> = (1..=11).map(|n| syn_timeout_ms(n, Some(&new)) / 1000).collect();
        assert_eq!(times, [1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]);
        assert_eq!((1..=7).map(|n| syn_timeout_ms(n, None) / 1000).collect::<Vec<_>>(), [1, 3, 7, 15, 31, 63, 127]);
        let timer = Timer { kind: TimerKind::Retransmit, remaining_ms: 3500, retransmits: 6 };
        let row = Socket { timer: Some(timer), ..Socket::default() };
        assert_eq!(syn_sent_ms(&row, Some(&new)), (Some(7500), Some(123_500)));
        assert_eq!(syn_sent_ms(&row, None).1, None);
        assert!(syn_timeout_ms(u64::MAX, None) > 0, "no number overflows");
    }

    #[test]
    fn the_model_of_retries_gives_the_documented_times() {
        assert_eq!((model_ms(15, None), model_ms(8, None)), (924_600, 102_200));
        assert!(model_ms(u64::MAX, None) >= model_ms(15, None));
        assert_eq!(model_ms(15, Some(&netns(&[(Sysctl::Ipv4TcpRtoMaxMs, 1000)]))), 1400 + 13 * 1000);
    }
}
