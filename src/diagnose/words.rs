//! Small words for sentences: durations, counts, and how a rule ends its list.
//!
//! Comes in: numbers. Goes out: text for a summary. Never here: what a rule has to say.

use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};

/// How many findings one rule gives before the rest become one line.
const FINDINGS: usize = 5;
/// How many of the rest that line names.
const NAMED: usize = 10;
/// From how many on findings that are alike become one.
const ALIKE: usize = 3;

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

/// Keeps the worst findings and names the others in the last of them. Explanations of processes that are alike (the workers
/// of one program) are one.
#[must_use]
pub fn worst(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings = alike(findings);
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

/// Folds explanations of one rule about one program and one place into the first of them, from three on.
fn alike(findings: Vec<Finding>) -> Vec<Finding> {
    let same = |a: &Finding, b: &Finding| {
        let (x, y) = (&a.subject, &b.subject);
        let whom = |s: &Subject| (s.netns, s.uid, s.listener, s.destination, s.source);
        a.severity == Severity::Info
            && (a.rule, a.severity) == (b.rule, b.severity)
            && x.pid.is_some()
            && y.pid.is_some()
            && x.comm.is_some()
            && x.comm == y.comm
            && whom(x) == whom(y)
    };
    let mut groups: Vec<Vec<Finding>> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|g| same(&g[0], &finding)) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups.into_iter().flat_map(|g| if g.len() < ALIKE { g } else { folded(g) }).collect()
}

fn folded(mut group: Vec<Finding>) -> Vec<Finding> {
    let rest = group.split_off(1);
    let Some(first) = group.first_mut() else { return group };
    let comm = first.subject.comm.clone().unwrap_or_default();
    first.summary = format!("{}; {} other processes of {comm} are alike", first.summary, rest.len());
    let all = rest.iter().flat_map(|f| f.subject.pid.iter().chain(&f.subject.pids).copied());
    first.subject.pids.extend(all.chain(first.subject.pid));
    first.subject.pids.sort_unstable();
    first.subject.pids.dedup();
    let mut named: Vec<String> = rest.iter().take(NAMED).map(|f| f.summary.clone()).collect();
    if rest.len() > NAMED {
        named.push(format!("and {} more", rest.len() - NAMED));
    }
    first.evidence.push(("alike", Evidence::List(named)));
    group
}

/// The words as one argument of a shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Commands that look at sockets, and can be told where.
const LOOKING: [&str; 5] = ["list", "summary", "doctor", "watch", "trace"];

/// A command of this program, told where to look (`--netns blue`); any other stays as it is.
#[must_use]
pub fn within(command: &str, scope: &str) -> String {
    let ours = command.strip_prefix("tcpstate ").map(|words| words.split_once(' ').unwrap_or((words, "")));
    match ours {
        Some((name, rest)) if !scope.is_empty() && LOOKING.contains(&name) && !rest.starts_with(scope) => {
            format!("tcpstate {name} {scope} {rest}").trim_end().to_owned()
        }
        _ => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_looks_where_this_one_did() {
        let scope = "--netns blue";
        for (command, told) in [
            ("tcpstate list -p", "tcpstate list --netns blue -p"),
            ("tcpstate doctor", "tcpstate doctor --netns blue"),
            ("tcpstate list --netns blue -p", "tcpstate list --netns blue -p"),
            ("tcpstate explain time-wait", "tcpstate explain time-wait"),
            ("sysctl net.ipv4.tcp_mem", "sysctl net.ipv4.tcp_mem"),
        ] {
            assert_eq!(within(command, scope), told);
            assert_eq!(within(command, ""), command);
        }
    }

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
    fn explanations_of_alike_workers_are_one() {
        let of = |pid, severity| {
            let mut finding = Finding::new("r", severity, 0.5, format!("php-fpm ({pid}) has one"));
            finding.subject = Subject { pid: Some(pid), comm: Some("php-fpm".into()), ..Subject::default() };
            finding
        };
        let two = worst(vec![of(1, Severity::Info), of(2, Severity::Info)]);
        assert_eq!(two.len(), 2);
        let mut other = of(9, Severity::Info);
        other.subject.comm = Some("java".into());
        let mut all: Vec<Finding> = (1..=8).map(|pid| of(pid, Severity::Info)).collect();
        all.push(other);
        all.push(of(10, Severity::Warning));
        let kept = worst(all);
        let summaries: Vec<&str> = kept.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(
            summaries,
            [
                "php-fpm (10) has one",
                "php-fpm (1) has one; 7 other processes of php-fpm are alike",
                "php-fpm (9) has one"
            ]
        );
        assert_eq!(kept[1].subject.pids, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(kept[1].evidence.iter().any(|(name, _)| *name == "alike"));
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
