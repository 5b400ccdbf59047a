//! Findings over a stretch of time: when each came, when it went, how often, and how many sockets it was about.
//!
//! Input: the diagnosis of each look, in the order of their times. Output: a [`Course`], and the diagnosis of all of it. A finding
//! that is missing for some seconds and comes again was there all the time, as in [`Sightings`](super::sightings).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::sightings::GONE_AFTER_MS;
use crate::diagnose::{Diagnosis, Finding, Incident};

/// A time in which a finding was there, in milliseconds since the epoch.
#[allow(clippy::struct_field_names, reason = "names carry their unit")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// The first look that found it, and the last.
    pub first_ms: u64,
    pub last_ms: u64,
    /// The first look that did not; `None`: none of this stretch.
    pub gone_ms: Option<u64>,
}

/// One finding over time.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: String,
    /// At least one, in order.
    pub spells: Vec<Spell>,
    /// How many looks found it.
    pub looks: u64,
    /// Sockets that it was about: at first, at most, at last.
    pub sockets: [usize; 3],
    /// As it was found last among those as severe.
    worst: Finding,
    /// The finding that explained it then.
    cause: Option<String>,
}

/// What was found over a stretch of time.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub runs: Vec<Run>,
    pub looks: u64,
    /// Snapshots of the stretch; a look is at one of them.
    pub snapshots: u64,
    /// The first look and the last.
    pub first_ms: u64,
    pub last_ms: u64,
}

/// Rules that could not be judged, with the reasons; those of every look so far.
type NotChecked = Vec<(&'static str, String)>;

/// Adds looks up.
#[derive(Clone, Default)]
pub struct Looks {
    runs: BTreeMap<String, Run>,
    course: Course,
    not_checked: Option<NotChecked>,
    latest: Diagnosis,
}

impl Looks {
    /// Takes the diagnosis of the next look.
    pub fn add(&mut self, diagnosis: Diagnosis, at_ms: u64) {
        if self.course.looks == 0 {
            self.course.first_ms = at_ms;
        }
        self.course.looks += 1;
        self.course.last_ms = at_ms;
        for incident in &diagnosis.incidents {
            for member in incident.members() {
                let cause = (member != incident.cause).then(|| diagnosis.findings[incident.cause].id.clone());
                self.found(&diagnosis.findings[member], cause, at_ms);
            }
        }
        for run in self.runs.values_mut() {
            if let Some(spell) = run.spells.last_mut().filter(|spell| spell.last_ms < at_ms) {
                spell.gone_ms.get_or_insert(at_ms);
            }
        }
        let not_checked = &diagnosis.not_checked;
        self.not_checked = Some(match self.not_checked.take() {
            None => not_checked.clone(),
            Some(before) => {
                let again = |(rule, _): &&(&'static str, String)| before.iter().any(|(id, _)| id == rule);
                not_checked.iter().filter(again).cloned().collect()
            }
        });
        self.latest = diagnosis;
    }

    fn found(&mut self, finding: &Finding, cause: Option<String>, at_ms: u64) {
        let sockets = finding.sockets.len();
        let spell = Spell { first_ms: at_ms, last_ms: at_ms, gone_ms: None };
        let run = self.runs.entry(finding.id.clone()).or_insert_with(|| Run {
            id: finding.id.clone(),
            spells: Vec::new(),
            looks: 0,
            sockets: [sockets; 3],
            worst: finding.clone(),
            cause: cause.clone(),
        });
        run.looks += 1;
        run.sockets = [run.sockets[0], run.sockets[1].max(sockets), sockets];
        if finding.severity >= run.worst.severity {
            run.worst = finding.clone();
            run.cause = cause;
        }
        match run.spells.last_mut() {
            Some(last) if at_ms.saturating_sub(last.last_ms) < GONE_AFTER_MS || last.gone_ms.is_none() => {
                (last.last_ms, last.gone_ms) = (at_ms, None);
            }
            _ => run.spells.push(spell),
        }
    }

    /// What there was, and a diagnosis of it: each finding at its worst, the fault that explains it as its cause.
    #[must_use]
    pub fn finish(self) -> (Course, Diagnosis) {
        let Looks { runs, mut course, not_checked, latest } = self;
        course.runs = runs.into_values().collect();
        course.runs.sort_by_key(|run| (Reverse(run.worst.severity), run.spells[0].first_ms));
        let findings: Vec<Finding> = course.runs.iter().map(|run| run.worst.clone()).collect();
        let incidents = incidents(&course.runs);
        let diagnosis = Diagnosis {
            findings,
            incidents,
            not_checked: not_checked.unwrap_or_default(),
            wants_second: Vec::new(),
            ..latest
        };
        (course, diagnosis)
    }
}

impl Course {
    /// The finding of this id over time.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.id == id)
    }

    /// Whether a spell began with the first look: then it may be older.
    #[must_use]
    pub fn began_before(&self, spell: &Spell) -> bool {
        spell.first_ms == self.first_ms
    }

    /// Whether a spell had not ended with the last look.
    #[must_use]
    pub fn goes_on(&self, spell: &Spell) -> bool {
        spell.last_ms == self.last_ms
    }
}

/// The findings by fault, the worst first.
fn incidents(runs: &[Run]) -> Vec<Incident> {
    let place = |id: &str| runs.iter().position(|run| run.id == id);
    // The cause of a cause explains both; two that name each other are one, led by the first.
    let head = |mut at: usize| {
        let mut passed = vec![at];
        while let Some(next) = runs[at].cause.as_deref().and_then(place) {
            if passed.contains(&next) {
                return passed.into_iter().min().unwrap_or(at);
            }
            passed.push(next);
            at = next;
        }
        at
    };
    let heads: Vec<usize> = (0..runs.len()).map(head).collect();
    let mut incidents: Vec<Incident> = Vec::new();
    for cause in 0..runs.len() {
        if heads[cause] != cause {
            continue;
        }
        let consequences: Vec<usize> = (0..runs.len()).filter(|at| *at != cause && heads[*at] == cause).collect();
        let all = consequences.iter().chain([&cause]);
        let severity = all.map(|at| runs[*at].worst.severity).max().unwrap_or(runs[cause].worst.severity);
        incidents.push(Incident { cause, consequences, severity });
    }
    incidents.sort_by_key(|incident| Reverse(incident.severity));
    incidents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Severity;

    fn look(found: &[(&str, Severity, Option<usize>)]) -> Diagnosis {
        let findings: Vec<Finding> = found
            .iter()
            .map(|(id, severity, _)| Finding {
                id: (*id).into(),
                ..Finding::new("close-wait-leak", *severity, 0.9, *id)
            })
            .collect();
        let causes = (0..found.len()).filter(|at| found[*at].2.is_none());
        let incident = |cause: usize| Incident {
            cause,
            consequences: (0..found.len()).filter(|at| found[*at].2 == Some(cause)).collect(),
            severity: found[cause].1,
        };
        let incidents = causes.map(incident).collect();
        Diagnosis { findings, incidents, not_checked: vec![("no-answer", "why".into())], ..Diagnosis::default() }
    }

    #[test]
    fn each_finding_has_its_times_and_its_worst() {
        use Severity::{High, Info, Warning};
        let mut looks = Looks::default();
        looks.add(look(&[("a", Info, None)]), 0);
        looks.add(look(&[("a", High, None), ("b", Warning, Some(0))]), 10_000);
        looks.add(look(&[("b", Warning, None)]), 20_000);
        looks.add(look(&[("a", Warning, None)]), 24_000);
        looks.add(look(&[]), 40_000);
        looks.add(look(&[("b", Warning, None)]), 60_000);
        let (course, diagnosis) = looks.finish();
        assert_eq!((course.looks, course.first_ms, course.last_ms), (6, 0, 60_000));
        let spell = |first_ms, last_ms, gone_ms| Spell { first_ms, last_ms, gone_ms };
        let a = course.of("a").unwrap();
        assert_eq!((&a.spells[..], a.looks), (&[spell(0, 24_000, Some(40_000))][..], 3), "14 s without it are no end");
        assert!(course.began_before(&a.spells[0]) && !course.goes_on(&a.spells[0]));
        let b = course.of("b").unwrap();
        assert_eq!(b.spells, [spell(10_000, 20_000, Some(24_000)), spell(60_000, 60_000, None)]);
        assert!(course.goes_on(&b.spells[1]) && !course.began_before(&b.spells[0]));
        assert_eq!(
            diagnosis.findings.iter().map(|f| (&*f.id, f.severity)).collect::<Vec<_>>(),
            [("a", High), ("b", Warning)]
        );
        // At its worst, last: b was alone then.
        assert_eq!(diagnosis.incidents.iter().map(|i| i.cause).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(diagnosis.not_checked, [("no-answer", "why".to_owned())]);
    }

    #[test]
    fn what_explains_another_leads_it() {
        use Severity::{High, Warning};
        let mut looks = Looks::default();
        looks.add(look(&[("a", Warning, None), ("b", High, Some(0)), ("c", Warning, Some(0))]), 0);
        let (_, diagnosis) = looks.finish();
        let ids = |at: &usize| diagnosis.findings[*at].id.clone();
        let [one] = &diagnosis.incidents[..] else { panic!("{diagnosis:?}") };
        assert_eq!((ids(&one.cause), one.severity), ("a".into(), High));
        assert_eq!(one.consequences.iter().map(ids).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(Looks::default().finish().1, Diagnosis::default(), "no look, no finding");
    }
}
