//! Which processes have the most rows; and explanations of one rule that are alike are told as one. Nothing is cut.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::diagnose::finding::{Evidence, Finding, Severity, Subject};
use crate::model::Process;
use crate::text;

/// How many of those that are folded in the evidence names.
const NAMED: usize = 10;
/// From how many on findings that are alike become one.
const ALIKE: usize = 3;

/// The processes behind some rows, the one with most of them first, and how many each has.
#[must_use]
pub fn by_rows<'a>(holders: impl IntoIterator<Item = &'a Process>) -> Vec<(&'a Process, u64)> {
    let mut counts: BTreeMap<u32, (&'a Process, u64)> = BTreeMap::new();
    for process in holders {
        counts.entry(process.pid).or_insert((process, 0)).1 += 1;
    }
    let mut found: Vec<_> = counts.into_values().collect();
    found.sort_by_key(|(process, n)| (Reverse(*n), process.pid));
    found
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
    let others = text::grouped(rest.len() as u64);
    first.summary = format!("{}; {others} other processes of {comm} are alike", first.summary);
    let all = rest.iter().flat_map(|f| f.subject.pid.iter().chain(&f.subject.pids).copied());
    first.subject.pids.extend(all.chain(first.subject.pid));
    first.sockets = rest.iter().fold(first.sockets.clone(), |all, f| all.union(&f.sockets));
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
    fn the_process_with_most_rows_is_first_and_of_equals_the_lowest_pid() {
        let [a, b, c] = [7, 8, 9].map(|pid| Process { pid, ..Process::default() });
        let found: Vec<(u32, u64)> = by_rows([&c, &b, &b, &a]).into_iter().map(|(p, n)| (p.pid, n)).collect();
        assert_eq!(found, [(8, 2), (7, 1), (9, 1)]);
    }

    #[test]
    fn explanations_of_alike_workers_are_one() {
        let of = |pid, severity| {
            let mut finding = Finding::new("r", severity, 0.5, format!("php-fpm ({pid}) has one"));
            finding.subject = Subject { pid: Some(pid), comm: Some("php-fpm".into()), ..Subject::default() };
            finding
        };
        let two = alike(vec![of(1, Severity::Info), of(2, Severity::Info)]);
        assert_eq!(two.len(), 2);
        let mut other = of(9, Severity::Info);
        other.subject.comm = Some("java".into());
        let mut all: Vec<Finding> = (1..=8).map(|pid| of(pid, Severity::Info)).collect();
        all.push(other);
        all.push(of(10, Severity::Warning));
        let kept = alike(all);
        let summaries: Vec<&str> = kept.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(
            summaries,
            [
                "php-fpm (1) has one; 7 other processes of php-fpm are alike",
                "php-fpm (9) has one",
                "php-fpm (10) has one"
            ]
        );
        assert_eq!(kept[0].subject.pids, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(kept[0].evidence.iter().any(|(name, _)| *name == "alike"));
    }
}
