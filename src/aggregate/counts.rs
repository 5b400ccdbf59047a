//! ESTABLISHED without a dump of ESTABLISHED, from the kernel's own counters.
//!
//! Input: counts of all other states, the counters of the namespace. Output: how many are ESTABLISHED, or why the
//! counters do not agree. A number that two sources do not confirm is not returned.
//!
//! `CurrEstab` counts ESTABLISHED and CLOSE_WAIT (kernels before mid-2024: ESTABLISHED alone, `tcp_set_state`);
//! `sockstat` counts every hashed full socket, per family (`sock_prot_inuse_add`). Either yields the number;
//! together they check each other and show which kind of kernel it is.

use crate::aggregate::state_counts::Counts;
use crate::model::counter::{Counter, SockStat};
use crate::model::gap::CounterMismatch;
use crate::model::snapshot::Netns;
use crate::model::{Family, State};

/// ESTABLISHED per family, in the order of [`Family::ALL`], when both sources agree.
///
/// `full` are the full sockets of all other states per family: no TIME_WAIT, request or bound-inactive rows.
///
/// # Errors
/// What the sources disagree about, or which of them this kernel lacks.
pub fn established(netns: &Netns, full: &[Counts; 2]) -> Result<[u64; 2], CounterMismatch> {
    let Some(current) = netns.counter(Counter::TcpCurrEstab) else { return Err(CounterMismatch::NoCurrEstab) };
    let in_use = |count| netns.sockstat(count);
    let Some(v4) = in_use(SockStat::TcpInuse) else { return Err(CounterMismatch::NoSockstat) };
    // A kernel without IPv6 has neither this line nor such sockets.
    let v6 = in_use(SockStat::Tcp6Inuse).unwrap_or(0);
    let rest = |family: Family, all: u64| all.checked_sub(full[family as usize].total());
    let (Some(v4), Some(v6)) = (rest(Family::V4, v4), rest(Family::V6, v6)) else {
        return Err(CounterMismatch::SockstatTooLow);
    };
    let close_wait = full[0].get(State::CloseWait) + full[1].get(State::CloseWait);
    if v4 + v6 == current || v4 + v6 + close_wait == current {
        return Ok([v4, v6]);
    }
    Err(CounterMismatch::Differ { sockstat: v4 + v6, curr_estab: current, close_wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netns(current: u64, v4: u64, v6: u64) -> Netns {
        let mut netns = Netns::default();
        netns.counters.insert(Counter::TcpCurrEstab, current);
        netns.sockstat.insert(SockStat::TcpInuse, v4);
        netns.sockstat.insert(SockStat::Tcp6Inuse, v6);
        netns
    }

    #[test]
    fn both_kinds_of_kernel_yield_the_number_and_disagreement_none() {
        let mut full = [Counts::default(); 2];
        full[0].add_many(State::Listen, 2);
        full[0].add_many(State::CloseWait, 10);
        full[1].add_many(State::Listen, 1);
        assert_eq!(established(&netns(115, 112, 6), &full), Ok([100, 5]), "CurrEstab with CLOSE_WAIT");
        assert_eq!(established(&netns(105, 112, 6), &full), Ok([100, 5]), "CurrEstab without");
        let differ = CounterMismatch::Differ { sockstat: 105, curr_estab: 111, close_wait: 10 };
        assert_eq!(established(&netns(111, 112, 6), &full), Err(differ));
        assert_eq!(established(&netns(111, 3, 6), &full), Err(CounterMismatch::SockstatTooLow));
        assert_eq!(established(&Netns::default(), &full), Err(CounterMismatch::NoCurrEstab));
    }
}
