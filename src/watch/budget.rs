//! How much time the rules and the search for owners may take.
//!
//! Input: the cost of a run. Output: whether the next one is due.

use std::time::Duration;

/// When the rules run again: at an interval, and less often where they exceed their share of the CPU. The cost is
/// CPU time: on a loaded host a run takes longer, but costs the same. A run is only possible with a sample, and these
/// are not exact to the millisecond: a tenth of the interval may be missing, or it would often be one sample more.
#[derive(Clone, Copy, Debug)]
pub(super) struct JudgePace {
    every: Duration,
    /// The rules may take one part in this many of one CPU.
    share: u32,
    cpu_cost: Duration,
}

impl JudgePace {
    pub(super) fn new(every: Duration, share: u32) -> JudgePace {
        JudgePace { every, share, cpu_cost: Duration::ZERO }
    }

    /// Takes the CPU time of the latest run.
    pub(super) fn spent(&mut self, cpu: Duration) {
        self.cpu_cost = cpu;
    }

    /// Whether a run is due this long after the start of the latest one; `None` before the first.
    pub(super) fn is_due(&self, since_latest: Option<Duration>) -> bool {
        let pause = self.every.max(self.cpu_cost * self.share);
        since_latest.is_none_or(|since| since + self.every / 10 >= pause)
    }
}

/// Time that may be spent on a task: a share of the elapsed time, part of which accumulates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    saved: Duration,
    most: Duration,
    /// What the latest run took.
    pub cost: Duration,
}

impl Credit {
    /// Half of the maximum is available at the start.
    pub(super) fn new(most: Duration) -> Credit {
        Credit { saved: most / 2, most, cost: Duration::ZERO }
    }

    /// Adds a share of the elapsed time, and returns whether a run like the latest fits.
    pub(super) fn earn(&mut self, passed: Duration, share: u32) -> bool {
        self.saved = (self.saved + passed / share).min(self.most);
        self.saved >= self.cost
    }

    /// Takes the time of a run.
    pub(super) fn spend(&mut self, cost: Duration) {
        self.cost = cost;
        self.saved = self.saved.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_rules_keep_their_pace_until_they_cost_more_than_their_share_of_the_cpu() {
        let mut pace = JudgePace::new(ms(3000), 50);
        assert!(pace.is_due(None));
        pace.spent(ms(60));
        assert!(!pace.is_due(Some(ms(2000))));
        assert!(pace.is_due(Some(ms(3000))), "60 ms of CPU are 2 % of 3 s, however long the run waited for it");
        assert!(pace.is_due(Some(ms(2990))), "the third sample may be a little early");
        pace.spent(ms(200));
        assert!(!pace.is_due(Some(ms(9000))));
        assert!(pace.is_due(Some(ms(10_000))));
        pace.spent(ms(1));
        assert!(pace.is_due(Some(ms(3000))), "a cheap run restores the pace");
    }

    #[test]
    fn credit_is_saved_up_to_a_limit_and_spent() {
        let mut credit = Credit::new(ms(1000));
        credit.spend(ms(400));
        assert!(!credit.earn(ms(1000), 50), "100 left of 500, and 20 earned");
        assert!(credit.earn(ms(14_000), 50));
        assert!(credit.earn(ms(3_600_000), 50));
        credit.spend(ms(900));
        assert!(!credit.earn(Duration::ZERO, 50), "never more than 1000 is saved");
        credit.spend(ms(10));
        assert!(credit.earn(Duration::ZERO, 50));
    }
}
