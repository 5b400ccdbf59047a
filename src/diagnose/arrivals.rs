//! How fast rows arrive that never leave, from their ages alone.
//!
//! Comes in: the ages of the rows of one snapshot. Goes out: a rate, if they arrive steadily up to the present. Never here:
//! rows that leave again, whose ages say nothing of a rate.

/// Scales at which arrival is looked for, finest first.
const WIDTHS_MS: [u64; 6] = [20_000, 60_000, 600_000, 3_600_000, 6 * 3_600_000, 24 * 3_600_000];
/// Arrival in this many consecutive stretches of time, the last one included, is steady. A burst (a peer that went away
/// and took all its connections along) fills one.
const STRETCHES: usize = 3;

/// Steady arrival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrivals {
    pub per_second: f64,
    /// The time that was looked at.
    pub over_ms: u64,
}

/// The rate of arrival, from rows that are at least `from_ms` old: rows of every stretch up to `from_ms` ago at the finest
/// scale that shows them. `None` when there is no such scale: then they came in a burst, or long ago.
#[must_use]
pub fn steady(ages_ms: &[u64], from_ms: u64) -> Option<Arrivals> {
    WIDTHS_MS.iter().find_map(|width| {
        let mut rows = [0u64; STRETCHES];
        for age in ages_ms.iter().filter_map(|age| age.checked_sub(from_ms)) {
            let stretch = usize::try_from(age / width).unwrap_or(usize::MAX);
            if let Some(n) = rows.get_mut(stretch) {
                *n += 1;
            }
        }
        let over_ms = width * STRETCHES as u64;
        let per_second = rows.iter().sum::<u64>() as f64 * 1000.0 / over_ms as f64;
        rows.iter().all(|n| *n > 0).then_some(Arrivals { per_second, over_ms })
    })
}

/// Whether rows came in each of the three last stretches of time: of the length of the interval, or of a short one, else at
/// a coarser scale. A peer that goes away and takes all its connections along fills one.
#[must_use]
pub fn keep_coming(ages_ms: &[u64], interval_ms: u64) -> bool {
    let widths = [interval_ms.max(SHORTEST_MS), interval_ms.clamp(SHORTEST_MS, SHORT_MS)];
    widths.into_iter().any(|width| fill_stretches(ages_ms, width)) || steady(ages_ms, 0).is_some()
}

/// A shorter stretch of time is one moment.
const SHORTEST_MS: u64 = 1000;
/// Who watches for longer sees no less than who watches for so long (policy).
const SHORT_MS: u64 = 2000;

/// Whether rows arrived in each of the three last stretches of this length.
fn fill_stretches(ages_ms: &[u64], width_ms: u64) -> bool {
    let mut filled = [false; STRETCHES];
    for age in ages_ms {
        let stretch = usize::try_from(age / width_ms.max(1)).unwrap_or(usize::MAX);
        if let Some(it) = filled.get_mut(stretch) {
            *it = true;
        }
    }
    filled.iter().all(|it| *it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(seconds: u64, rows: u64) -> Vec<u64> {
        (0..rows).map(|n| 61_000 + n * seconds * 1000).collect()
    }

    #[test]
    fn a_long_interval_sees_what_a_short_one_sees() {
        let young: Vec<u64> = (0..70).map(|n| n * 200).collect();
        assert!([1000, 2000, 10_000].iter().all(|interval| keep_coming(&young, *interval)));
        let at_once: Vec<u64> = (0..70).map(|n| 5000 + n).collect();
        assert!([1000, 2000, 10_000].iter().all(|interval| !keep_coming(&at_once, *interval)));
    }

    #[test]
    fn a_steady_leak_has_its_rate_at_any_scale() {
        for (seconds, rows) in [(1, 500), (10, 100), (50, 40), (400, 20), (3000, 20), (40_000, 9)] {
            let found = steady(&every(seconds, rows), 60_000).unwrap();
            let expected = 1.0 / seconds as f64;
            let off = found.per_second / expected;
            assert!((0.66..=1.5).contains(&off), "every {seconds} s: {found:?}");
        }
    }

    #[test]
    fn a_burst_a_leak_that_ended_and_too_few_rows_have_none() {
        let burst: Vec<u64> = (0..500).map(|n| 300_000 + n).collect();
        assert_eq!(steady(&burst, 60_000), None);
        let ended: Vec<u64> = every(10, 100).iter().map(|age| age + 10 * 3_600_000).collect();
        assert_eq!(steady(&ended, 60_000), None);
        assert_eq!(steady(&every(10, 2), 60_000), None);
        assert_eq!(steady(&[], 60_000), None);
        assert_eq!(steady(&[1000, 2000, 3000], 60_000), None, "younger than asked for");
    }

    #[test]
    fn stretches_are_filled_by_a_stream_and_not_by_a_burst() {
        assert!(fill_stretches(&[100, 2500, 5900], 2000));
        assert!(!fill_stretches(&[100, 500, 1900, 2100], 2000));
        assert!(!fill_stretches(&[2500, 4500], 2000), "none of late");
    }
}
