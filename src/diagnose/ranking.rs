//! What of a rule's findings is shown: the worst, with the rest named, and those that are alike as one.

use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};

/// How many findings one rule gives before the rest become one line.
const FINDINGS: usize = 5;
/// How many of the rest that line names.
const NAMED: usize = 10;
/// From how many on findings that are alike become one.
const ALIKE: usize = 3;

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
#[must_use]
pub fn alike(findings: Vec<Finding>) -> Vec<Finding> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
