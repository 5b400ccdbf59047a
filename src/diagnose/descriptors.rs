//! What leaked sockets cost a process: its share of the descriptor limit, and when that limit will be met.
//!
//! Comes in: how many sockets of a process are leaked and how fast they become more. Goes out: numbers and the severity
//! that follows. Never here: which socket is leaked.

use crate::diagnose::finding::{Evidence, Finding, Severity};
use crate::diagnose::thresholds::Thresholds;
use crate::diagnose::view::View;

/// Descriptors of a process, and what a leak does to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    pub fd_used: Option<u64>,
    /// Soft `RLIMIT_NOFILE`; `None` when it is unlimited or could not be read.
    pub fd_soft: Option<u64>,
    /// The leaked ones, percent of the limit.
    pub percent: Option<f64>,
    /// Until no descriptor is left at this rate (EMFILE).
    pub emfile_in_ms: Option<u64>,
}

impl Share {
    /// The share of `leaked` sockets that become more at `per_second`.
    #[must_use]
    pub fn new(view: &View<'_>, pid: u32, leaked: u64, per_second: Option<f64>) -> Share {
        let facts = view.process(pid);
        let (fd_used, fd_soft) = (facts.and_then(|f| f.fd_used), facts.and_then(|f| f.fd_soft));
        let percent = fd_soft.filter(|s| *s > 0).map(|soft| leaked as f64 * 100.0 / soft as f64);
        let emfile_in_ms = fd_soft.zip(fd_used).and_then(|(soft, used)| emfile_in_ms(soft, used, per_second?));
        Share { fd_used, fd_soft, percent, emfile_in_ms }
    }

    /// The ladder of every leak of descriptors (diagnosis 2.2); nothing but the limit is the kernel's.
    #[must_use]
    pub fn severity(&self, grows: bool, thresholds: &Thresholds) -> Severity {
        let percent = self.percent.unwrap_or(0.0);
        let within = |hours: f64| self.emfile_in_ms.is_some_and(|ms| (ms as f64) < hours * 3_600_000.0);
        if percent >= thresholds.fd_crit_percent || within(thresholds.fd_eta_crit_hours) {
            Severity::Critical
        } else if percent >= thresholds.fd_high_percent || within(thresholds.fd_eta_high_hours) {
            Severity::High
        } else if percent >= thresholds.fd_warn_percent || grows {
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

    /// `, 24.4 % of its 1024 descriptors`; nothing where the limit is not known.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.percent, self.fd_soft) {
            (Some(percent), Some(soft)) => format!(", {percent:.1} % of its {soft} descriptors"),
            _ => String::new(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_the_ladder_is_reached_by_share_or_by_time() {
        let t = Thresholds::default();
        let share = |percent, hours: Option<u64>| Share {
            percent,
            emfile_in_ms: hours.map(|h| h * 3_600_000),
            ..Share::default()
        };
        for (percent, hours, grows, severity) in [
            (Some(0.9), None, false, Severity::Info),
            (None, None, false, Severity::Info),
            (None, None, true, Severity::Warning),
            (Some(1.0), None, false, Severity::Warning),
            (Some(10.0), None, false, Severity::High),
            (Some(0.1), Some(23), true, Severity::High),
            (Some(0.1), Some(25), true, Severity::Warning),
            (Some(50.0), None, false, Severity::Critical),
            (Some(0.1), Some(0), true, Severity::Critical),
        ] {
            assert_eq!(share(percent, hours).severity(grows, &t), severity, "{percent:?} {hours:?} {grows}");
        }
    }

    #[test]
    fn the_time_until_emfile_is_what_is_left_over_the_rate() {
        assert_eq!(emfile_in_ms(1024, 24, 10.0), Some(100_000));
        assert_eq!(emfile_in_ms(1024, 2000, 10.0), Some(0));
        assert_eq!(emfile_in_ms(1024, 24, 0.0), None);
        assert_eq!(emfile_in_ms(1024, 24, -1.0), None);
    }
}
