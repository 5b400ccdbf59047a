//! What changed between two looks: sockets per state, and what the kernel counted meanwhile.
//!
//! Input: counts and counters of both looks. Output: differences and rates. What one look lacks is unknown, not zero.

use crate::aggregate::state_counts::Counts;
use crate::model::State;
use crate::model::counter::{Counter, Counters};

/// Counts and counters of one look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Milliseconds of the monotonic clock.
    pub at_ms: u64,
    pub counts: Counts,
    pub counters: Counters,
}

/// The difference of two looks.
#[derive(Clone, Debug)]
pub struct Change {
    pub elapsed_ms: u64,
    before: Look,
    after: Look,
}

impl Change {
    #[must_use]
    pub fn between(before: Look, after: Look) -> Change {
        Change { elapsed_ms: after.at_ms.saturating_sub(before.at_ms), before, after }
    }

    /// By how many sockets a state grew or shrank.
    #[must_use]
    pub fn of(&self, state: State) -> i64 {
        self.after.counts.get(state).cast_signed() - self.before.counts.get(state).cast_signed()
    }

    /// By how many sockets all states together did.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.after.counts.total().cast_signed() - self.before.counts.total().cast_signed()
    }

    /// How much a counter grew; `None` where it could not be read.
    #[must_use]
    pub fn counted(&self, counter: Counter) -> Option<u64> {
        let (before, after) = (self.before.counters.get(counter)?, self.after.counters.get(counter)?);
        after.checked_sub(*before)
    }

    /// Connections that were opened, from here or to here.
    #[must_use]
    pub fn opened(&self) -> Option<u64> {
        Some(self.counted(Counter::TcpActiveOpens)? + self.counted(Counter::TcpPassiveOpens)?)
    }

    /// The part of all segments sent that had been sent before, 0 to 1; `None` when nothing was sent.
    #[must_use]
    pub fn retransmitted_share(&self) -> Option<f64> {
        // The kernel counts new segments and repeated ones apart (`__tcp_transmit_skb`, `__tcp_retransmit_skb`).
        let repeated = self.counted(Counter::TcpRetransSegs)?;
        let sent = self.counted(Counter::TcpOutSegs)? + repeated;
        (sent > 0).then(|| repeated as f64 / sent as f64)
    }

    /// So many per second.
    #[must_use]
    pub fn per_second(&self, n: f64) -> f64 {
        n * 1000.0 / self.elapsed_ms.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_ms: u64, established: u64, counters: &[(Counter, u64)]) -> Look {
        let mut counts = Counts::default();
        counts.add_many(State::Established, established);
        Look { at_ms, counts, counters: counters.iter().copied().collect() }
    }

    #[test]
    fn states_shrink_and_counters_that_one_look_lacks_are_unknown() {
        let before =
            look(1000, 7, &[(Counter::TcpRetransSegs, 10), (Counter::TcpOutSegs, 100), (Counter::TcpOutRsts, 5)]);
        let after =
            look(3000, 3, &[(Counter::TcpRetransSegs, 12), (Counter::TcpOutSegs, 106), (Counter::TcpActiveOpens, 5)]);
        let change = Change::between(before, after);
        assert_eq!((change.elapsed_ms, change.of(State::Established), change.total()), (2000, -4, -4));
        assert_eq!((change.counted(Counter::TcpRetransSegs), change.counted(Counter::TcpOutRsts)), (Some(2), None));
        assert_eq!((change.opened(), change.retransmitted_share()), (None, Some(0.25)));
        assert!((change.per_second(2.0) - 1.0).abs() < 1e-9);
    }
}
