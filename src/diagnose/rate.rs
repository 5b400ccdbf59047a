//! Events that go on, per second, proven by rows that appeared between the two samples.

use std::fmt;

use crate::diagnose::view::View;
use crate::model::Socket;
use crate::text;

/// Events that go on, per second. Made only from rows that appeared between the two samples: a rate from ages goes on
/// for ever after the last event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    events: u64,
    interval_ms: u64,
}

impl Rate {
    /// `None` when nothing happened, or no time passed: `0 a second` cannot be made.
    #[must_use]
    pub fn of(events: u64, interval_ms: u64) -> Option<Rate> {
        (events > 0 && interval_ms > 0).then_some(Rate { events, interval_ms })
    }

    /// The rows that are new since the sample before: their cookie was not there. `None` without a second sample, or
    /// when no row is new.
    pub fn of_new_rows<'a>(view: &View<'_>, rows: impl IntoIterator<Item = &'a Socket>) -> Option<Rate> {
        view.before?;
        let new = rows.into_iter().filter(|s| view.earlier(s).is_none()).count() as u64;
        Rate::of(new, view.interval_ms()?)
    }

    #[must_use]
    pub fn per_second(self) -> f64 {
        self.events as f64 * 1000.0 / self.interval_ms as f64
    }

    /// How long a stock lasts at this rate, in milliseconds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and the cast saturates")]
    pub fn lasts_ms(self, stock: u64) -> u64 {
        (stock as f64 * 1000.0 / self.per_second()) as u64
    }
}

impl fmt::Display for Rate {
    /// `1.4 a second`, `31 a second`, `2 in 10 s`: below one a second the events themselves are the honest number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_second() {
            r if r < 1.0 => write!(f, "{} in {:.0} s", self.events, self.interval_ms as f64 / 1000.0),
            r if r < 10.0 => write!(f, "{r:.1} a second"),
            r => write!(f, "{} a second", text::rounded(r)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::measure::Share;

    #[test]
    fn a_rate_of_nothing_cannot_be_made_and_a_slow_one_counts_events() {
        assert_eq!((Rate::of(0, 2000), Rate::of(5, 0)), (None, None));
        let text = |events, ms| Rate::of(events, ms).unwrap().to_string();
        assert_eq!(text(1, 2000), "1 in 2 s");
        assert_eq!(text(3, 2000), "1.5 a second");
        assert_eq!(text(62, 2000), "31 a second");
        assert_eq!(Rate::of(20, 2000).unwrap().lasts_ms(100), 10_000);
    }

    #[test]
    fn a_share_has_a_base_and_never_reads_as_nothing_or_all() {
        assert_eq!((Share::of(7, 1), Share::of(0, 0)), (None, None));
        let text = |part, whole| Share::of(part, whole).unwrap().to_string();
        assert_eq!(text(1, 20_000), "less than 1 %");
        assert_eq!(text(19_999, 20_000), "more than 99 %");
        assert_eq!((text(0, 5), text(5, 5), text(1, 8)), ("none".into(), "100 %".into(), "12 %".into()));
    }
}
