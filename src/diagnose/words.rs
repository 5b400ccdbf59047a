//! Small words for sentences: durations, counts, and how a rule ends its list.
//!
//! Comes in: numbers. Goes out: text for a summary. Never here: what a rule has to say.

use crate::diagnose::finding::{Evidence, Finding};

/// How many findings one rule gives before the rest become one line.
const FINDINGS: usize = 5;
/// How many of the rest that line names.
const NAMED: usize = 10;

/// `0.4 s`, `12 s`, `4 min`, `3 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// `512 bytes`, `64 KiB`, `3.2 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => count(n, "byte", "bytes"),
        1024..1_048_576 => format!("{} KiB", n / 1024),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

/// `1 client`, `3 clients`.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Keeps the worst findings and names the others in the last of them.
#[must_use]
pub fn worst(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| b.confidence.total_cmp(&a.confidence)));
    if findings.len() <= FINDINGS {
        return findings;
    }
    let rest = findings.split_off(FINDINGS);
    let mut named: Vec<String> = rest.iter().take(NAMED).map(|f| f.summary.clone()).collect();
    if rest.len() > NAMED {
        named.push(format!("and {} more", rest.len() - NAMED));
    }
    if let Some(last) = findings.last_mut() {
        last.evidence.push(("others", Evidence::List(named)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::Severity;

    #[test]
    fn durations_and_counts_read_as_people_say_them() {
        for (ms, text) in [(0, "0.0 s"), (1999, "1.9 s"), (10_000, "10 s"), (130_000, "2 min"), (7_200_000, "2 h")] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(
            (count(1, "client", "clients"), count(0, "client", "clients")),
            ("1 client".into(), "0 clients".into())
        );
    }

    #[test]
    fn sizes_read_as_people_say_them() {
        for (n, text) in [(1, "1 byte"), (1023, "1023 bytes"), (65_536, "64 KiB"), (3_355_443, "3.2 MiB")] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn the_worst_five_stay_and_the_others_are_named() {
        let finding = |n: usize| {
            let severity = if n == 7 { Severity::Critical } else { Severity::Info };
            Finding::new("r", severity, 0.5, format!("number {n}"))
        };
        let kept = worst((0..8).map(finding).collect());
        assert_eq!(kept.iter().map(|f| f.summary.as_str()).collect::<Vec<_>>()[..2], ["number 7", "number 0"]);
        let Evidence::List(others) = &kept[4].evidence[0].1 else { panic!("{kept:?}") };
        assert_eq!(others, &["number 4", "number 5", "number 6"]);
        assert_eq!(worst((0..5).map(finding).collect()).len(), 5);
    }
}
