//! What leaked sockets cost a process: its share of the descriptor limit, and when that limit will be met.
//!
//! Input: how many sockets of a process are leaked and how fast they become more. Output: numbers and the severity that
//! follows. Not here: which socket is leaked.

use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::measure;
use crate::diagnose::thresholds::Thresholds;
use crate::diagnose::view::View;
use crate::model::resources::is_lowered;
use crate::text;

/// Percent of the limit from which on leaked sockets are why it is reached.
const CAUSE_PERCENT: f64 = 10.0;

/// Descriptors of a process, and what a leak does to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    pub fd_used: Option<u64>,
    /// Soft `RLIMIT_NOFILE`; `None` when it is unlimited or could not be read.
    pub fd_soft: Option<u64>,
    /// The leaked ones, percent of the limit.
    pub percent: Option<f64>,
    /// Until no descriptor is left (EMFILE), at a rate that two samples show.
    pub emfile_in_ms: Option<u64>,
}

impl Share {
    /// The share of `leaked` sockets that become more at `per_second`, if two samples show so.
    #[must_use]
    pub fn new(view: &View<'_>, pid: u32, leaked: u64, per_second: Option<f64>) -> Share {
        let facts = view.process(pid);
        let (fd_used, fd_soft) = (facts.and_then(|f| f.fd_used), facts.and_then(|f| f.fd_soft));
        let percent = fd_soft.filter(|s| *s > 0).map(|soft| leaked as f64 * 100.0 / soft as f64);
        let share = Share { fd_used, fd_soft, percent, emfile_in_ms: None };
        Share { emfile_in_ms: per_second.and_then(|rate| share.lasts_ms(rate)), ..share }
    }

    /// How long the free descriptors last at a rate.
    #[must_use]
    pub fn lasts_ms(&self, per_second: f64) -> Option<u64> {
        emfile_in_ms(self.fd_soft?, self.fd_used?, per_second)
    }

    /// The ladder of every leak of descriptors: many of them harm nobody while they do not become more.
    #[must_use]
    pub fn severity(&self, grows: bool, thresholds: &Thresholds) -> Severity {
        let percent = self.percent.unwrap_or(0.0);
        let full = self.fd_used.zip(self.fd_soft).is_some_and(|(used, soft)| used >= soft && !is_lowered(used, soft));
        let soon = self.emfile_in_ms.is_some_and(|ms| (ms as f64) < thresholds.fd_eta_high_hours * 3_600_000.0);
        let much = percent >= thresholds.fd_high_percent;
        if full && percent >= CAUSE_PERCENT {
            Severity::Critical
        } else if grows && (much || soon) {
            Severity::High
        } else if grows || much {
            Severity::Warning
        } else {
            Severity::Info
        }
    }

    /// Adds the numbers to a finding.
    #[must_use]
    pub fn onto(self, finding: Finding) -> Finding {
        let finding = finding
            .evidence("fd_used", Evidence::count(self.fd_used))
            .evidence("fd_soft_limit", Evidence::count(self.fd_soft))
            .evidence("share_of_limit_percent", self.percent.map_or(Evidence::Unknown, Evidence::Percent));
        match self.emfile_in_ms {
            Some(ms) => finding.evidence("emfile_in_ms", Evidence::Millis(ms)),
            None => finding,
        }
    }

    /// `, 24 % of its 1,024 descriptors`; nothing where the limit is not known.
    #[must_use]
    pub fn words(&self, leaked: u64) -> String {
        let of = self.fd_soft.and_then(|soft| Some((measure::Share::of(leaked, soft)?, soft)));
        of.map_or_else(String::new, |(share, soft)| format!(", {share} of its {} descriptors", text::grouped(soft)))
    }
}

/// Time until `used` reaches `soft`.
#[must_use]
pub fn emfile_in_ms(soft: u64, used: u64, per_second: f64) -> Option<u64> {
    let seconds = soft.saturating_sub(used) as f64 / per_second;
    if !(seconds.is_finite() && seconds >= 0.0) {
        return None;
    }
    // A century is long enough, and far inside the range of the type.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above and below")]
    Some((seconds.min(3.2e9) * 1000.0) as u64)
}

/// `990 of 1,024`; `all 1,024`.
#[must_use]
pub fn of(used: u64, limit: u64) -> String {
    if used < limit { text::of(used, limit) } else { format!("all {}", text::grouped(limit)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_the_ladder_is_reached_by_growth_share_or_time() {
        let t = Thresholds::default();
        let share = |percent, minutes: Option<u64>| Share {
            percent: Some(percent),
            emfile_in_ms: minutes.map(|m| m * 60_000),
            fd_used: Some(1000),
            fd_soft: Some(1024),
        };
        for (percent, minutes, grows, severity) in [
            (0.9, None, false, Severity::Info),
            (49.9, None, false, Severity::Info),
            (50.0, None, false, Severity::Warning),
            (0.9, None, true, Severity::Warning),
            (49.9, Some(61), true, Severity::Warning),
            (50.0, Some(61), true, Severity::High),
            (0.9, Some(59), true, Severity::High),
        ] {
            assert_eq!(share(percent, minutes).severity(grows, &t), severity, "{percent} {minutes:?} {grows}");
        }
        let full = |percent| Share { fd_used: Some(1024), ..share(percent, None) };
        assert_eq!(full(10.0).severity(false, &t), Severity::Critical);
        assert_eq!(full(9.9).severity(false, &t), Severity::Info, "something else fills it");
        assert_eq!(Share::default().severity(true, &t), Severity::Warning);
    }

    #[test]
    fn a_share_is_told_only_of_a_known_limit() {
        let share = Share { fd_soft: Some(1024), ..Share::default() };
        assert_eq!(share.words(249), ", 24 % of its 1,024 descriptors");
        assert_eq!((Share::default().words(5), share.words(2000)), (String::new(), String::new()));
    }

    #[test]
    fn the_time_until_emfile_is_what_is_left_over_the_rate() {
        assert_eq!(emfile_in_ms(1024, 24, 10.0), Some(100_000));
        assert_eq!(emfile_in_ms(1024, 2000, 10.0), Some(0));
        assert_eq!(emfile_in_ms(1024, 24, 0.0), None);
        assert_eq!(emfile_in_ms(1024, 24, -1.0), None);
    }
}
