//! Findings over time: which is new, which lasts, which is gone and since when.
//!
//! Input: the findings of each run of the rules. Output: a [`Sighting`] for each condition, identified by
//! [`Finding::id`], which has no pid: that may be a guess, and change. What comes in bursts is one condition: it is gone
//! when no run has found it for some seconds.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::Sighting;
use crate::diagnose::{Finding, Sockets};

/// Sightings that are kept; resolved ones of the lowest severity are dropped first.
const MOST: usize = 100;
/// So long after the latest run that found it a condition is gone, and after the latest that found it as bad it is better.
pub(super) const GONE_AFTER_MS: u64 = 15_000;

/// All sightings, the present ones first, the most severe first.
#[derive(Default)]
pub(super) struct Sightings {
    all: Arc<Vec<Sighting>>,
    /// Conditions that may be gone, by id, and the first run that did not find them.
    absent: BTreeMap<String, u64>,
    /// By id, the latest run that found the severity that is shown, or a higher one.
    confirmed: BTreeMap<String, u64>,
}

impl Sightings {
    pub(super) fn all(&self) -> Arc<Vec<Sighting>> {
        Arc::clone(&self.all)
    }

    /// The sockets of the finding of this id, as it was found last.
    pub(super) fn sockets(&self, id: &str) -> Sockets {
        self.all.iter().find(|s| s.finding.id == id).map_or_else(Sockets::default, |s| s.finding.sockets.clone())
    }

    /// Takes the findings of a run, and returns those that appeared, changed severity or disappeared.
    pub(super) fn update(&mut self, findings: Vec<Finding>, at_ms: u64) -> Vec<Sighting> {
        let mut news = Vec::new();
        let mut all = self.all.as_ref().clone();
        let mut findings: BTreeMap<String, Finding> = findings.into_iter().map(|f| (f.id.clone(), f)).collect();
        for old in &mut all {
            match findings.remove(&old.finding.id) {
                Some(mut finding) => {
                    self.absent.remove(&finding.id);
                    let confirmed = self.confirmed.entry(finding.id.clone()).or_insert(at_ms);
                    let better = finding.severity < old.finding.severity && !old.is_gone();
                    if better && at_ms.saturating_sub(*confirmed) < GONE_AFTER_MS {
                        finding.severity = old.finding.severity;
                    } else {
                        *confirmed = at_ms;
                    }
                    let changed = old.is_gone() || finding.severity != old.finding.severity;
                    let first_ms = if old.is_gone() { at_ms } else { old.first_ms };
                    *old = Sighting { finding, first_ms, last_ms: at_ms, gone_ms: None };
                    news.extend(changed.then(|| old.clone()));
                }
                None if !old.is_gone() => {
                    let since = *self.absent.entry(old.finding.id.clone()).or_insert(at_ms);
                    if at_ms.saturating_sub(old.last_ms) >= GONE_AFTER_MS {
                        self.absent.remove(&old.finding.id);
                        self.confirmed.remove(&old.finding.id);
                        old.gone_ms = Some(since);
                        news.push(old.clone());
                    }
                }
                None => {}
            }
        }
        for finding in findings.into_values() {
            self.confirmed.insert(finding.id.clone(), at_ms);
            let sighting = Sighting { finding, first_ms: at_ms, last_ms: at_ms, gone_ms: None };
            news.push(sighting.clone());
            all.push(sighting);
        }
        all.sort_by_key(|s| (s.is_gone(), Reverse(s.finding.severity), s.first_ms));
        all.truncate(MOST);
        self.all = Arc::new(all);
        news
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::diagnose::Severity;
    use crate::diagnose::testkit::{World, listen, row, time_wait};
    use crate::model::State;

    fn finding(id: &str, pid: u32) -> Finding {
        let mut finding = Finding::new("time-wait-server-churn", Severity::Info, 0.9, "9 TIME_WAIT a second");
        finding.subject.pid = Some(pid);
        Finding { id: id.into(), ..finding }
    }

    fn events(news: &[Sighting]) -> Vec<(&str, bool)> {
        news.iter().map(|s| (&*s.finding.id, s.is_gone())).collect()
    }

    /// nginx with four workers, of which this one has the most connections that are open.
    fn four_workers(busiest: u32) -> World {
        let mut world = World::new();
        let mut inode = 0;
        world.add(listen("0.0.0.0:80", 0, 511));
        for worker in 900..904 {
            world.hold(worker, "nginx", 6, 80 << 16);
            for i in 0..if worker == busiest { 20 } else { 3 } {
                let open = row(State::Established, "10.0.0.1:80", &format!("10.2.0.{}:{}", worker - 899, 2000 + inode));
                let held = open.inode;
                world.add(open).hold(worker, "nginx", 10 + i, held);
                inode += 1;
            }
        }
        for i in 0..500 {
            world.add(time_wait("10.0.0.1:80", &format!("10.1.0.1:{}", 10_000 + i), 30_000));
        }
        world
    }

    #[test]
    fn a_steady_condition_of_four_workers_does_not_flap() {
        let mut sightings = Sightings::default();
        let mut news = Vec::new();
        let mut named = BTreeSet::new();
        for run in 0..24u32 {
            let findings = four_workers(900 + run * 7 % 4).diagnose().findings;
            let churn = |f: &&Finding| f.rule == "time-wait-server-churn";
            named.extend(findings.iter().filter(churn).map(|f| f.subject.pid));
            news.extend(sightings.update(findings, u64::from(run) * 5000));
        }
        assert_eq!(named, BTreeSet::from([None]), "which worker left them is not known, so none is named");
        let churn: Vec<_> = news.iter().filter(|s| s.finding.rule == "time-wait-server-churn").collect();
        assert_eq!(churn.iter().map(|s| (s.first_ms, s.gone_ms)).collect::<Vec<_>>(), [(0, None)]);
        assert!(news.iter().all(|s| !s.is_gone()), "{news:#?}");
    }

    #[test]
    fn what_is_gone_has_its_time_and_may_come_again() {
        let mut sightings = Sightings::default();
        sightings.update(vec![finding("a", 1), finding("b", 1)], 1000);
        for at_ms in [4000, 7000, 10_000, 13_000] {
            assert_eq!(events(&sightings.update(vec![finding("b", 1)], at_ms)), [], "it may come again at once");
        }
        assert_eq!(events(&sightings.update(vec![finding("b", 1)], 16_000)), [("a", true)]);
        assert_eq!(events(&sightings.update(vec![finding("b", 2)], 17_000)), []);
        let all = sightings.all();
        assert_eq!(events(&all), [("b", false), ("a", true)], "gone comes last");
        assert_eq!((all[0].finding.subject.pid, all[0].first_ms, all[0].last_ms), (Some(2), 1000, 17_000));
        assert_eq!((all[1].last_ms, all[1].gone_ms), (1000, Some(4000)), "the first run without it");
        let back = sightings.update(vec![finding("a", 1), finding("b", 1)], 19_000);
        assert_eq!((back.len(), back[0].first_ms, back[0].gone_ms), (1, 19_000, None));
        let worse = Finding { severity: Severity::High, ..finding("a", 1) };
        assert_eq!(events(&sightings.update(vec![worse, finding("b", 1)], 22_000)), [("a", false)]);
        assert_eq!(
            events(&sightings.update(vec![finding("b#2", 1)], 42_000)),
            [("a", true), ("b", true), ("b#2", false)],
            "where runs are rare one without it is enough"
        );
    }

    #[test]
    fn a_severity_at_a_limit_does_not_come_and_go() {
        let mut sightings = Sightings::default();
        let with = |severity| vec![Finding { severity, ..finding("leak", 1) }];
        let mut told = Vec::new();
        for run in 0..30u64 {
            let severity = if run % 2 == 0 { Severity::High } else { Severity::Warning };
            let news = sightings.update(with(severity), run * 3000);
            told.extend(news.iter().map(|s| s.finding.severity));
        }
        assert_eq!(told, [Severity::High]);
        let at_ms = |run: u64| 90_000 + run * 3000;
        let better = (0..6).find(|run| !sightings.update(with(Severity::Warning), at_ms(*run)).is_empty());
        assert_eq!(better.map(at_ms), Some(99_000), "15 s after the latest run that found it high");
        assert_eq!(sightings.update(with(Severity::Critical), 102_000).len(), 1, "worse is told at once");
    }

    #[test]
    fn bursts_are_one_condition() {
        let mut sightings = Sightings::default();
        let mut news = Vec::new();
        for run in 0..40u64 {
            let found = if run % 4 == 0 { vec![finding("resets", 1)] } else { Vec::new() };
            news.extend(sightings.update(found, run * 3000));
        }
        assert_eq!(events(&news), [("resets", false)]);
        let gone = sightings.update(Vec::new(), 123_000);
        assert_eq!((events(&gone), gone[0].gone_ms), (vec![("resets", true)], Some(111_000)), "the last was at 108 s");
    }
}
