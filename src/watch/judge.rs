//! The rules over time: when they run, what they say by now, and what a trace added up between the runs.
//!
//! Input: an open source, the trace. Output: [`Verdicts`], and the sightings that changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Error;
use super::budget::JudgePace;
use super::config::Config;
use super::frame::Sighting;
use super::request::SampleRequest;
use super::sightings::Sightings;
use super::tracing::BackgroundTrace;
use crate::aggregate::joined::joined;
use crate::collect::Live;
use crate::collect::clock::cpu_time;
use crate::diagnose::{Severity, Sockets};
use crate::model::column::Names;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::traced::{ConnectFailure, SentFor, TracedInterval};
use crate::model::{Gap, Snapshot};

/// Minimum interval between runs of the rules, and the part of one CPU that they may take. What needs two runs is
/// named within 10 s, also where a run costs 80 ms.
const EVERY: Duration = Duration::from_secs(3);
const SHARE: u32 = 50;
/// A recorded snapshot is due as much too early.
const EARLY: Duration = Duration::from_millis(100);
/// Sockets up to which the rules are run.
const JUDGED_SOCKETS: u64 = 50_000;

/// What became of connects and which resets there were, since the trace began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub connects: u64,
    pub connects_failed: BTreeMap<ConnectFailure, u64>,
    /// By the reason that the kernel gives; `None`: the peer sent them. Empty also where resets cannot be traced.
    pub resets: BTreeMap<Option<&'static str>, u64>,
    pub resets_traced: bool,
}

impl Traffic {
    fn add(&mut self, interval: &TracedInterval) {
        for connects in &interval.connects {
            self.connects += connects.succeeded + connects.failures();
            for (failure, n) in &connects.failed {
                *self.connects_failed.entry(*failure).or_default() += n;
            }
        }
        for resets in &interval.resets {
            let reason = resets.sent.map(|sent| match sent {
                SentFor::Reason(reason) => reason.key(),
                SentFor::Unknown => "unknown",
            });
            *self.resets.entry(reason).or_default() += resets.count;
        }
        self.resets_traced |= interval.resets_traced;
    }
}

/// A fault that findings have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenIncident {
    /// The id of the finding that explains the others.
    pub id: String,
    pub rule: &'static str,
    pub severity: Severity,
    pub findings: usize,
}

/// What the rules say by now.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    /// The present ones first, the most severe first.
    pub sightings: Arc<Vec<Sighting>>,
    pub incidents: Vec<OpenIncident>,
    /// When the rules were last run, milliseconds since the epoch; `None` before the first time, and where they are not
    /// run any more.
    pub judged_at_ms: Option<u64>,
    /// `None` without a trace.
    pub traffic: Option<Traffic>,
}

impl Verdicts {
    /// The same where the rules are run; what they said before holds no longer where they are not.
    #[must_use]
    pub fn current(&self) -> Option<&Verdicts> {
        self.judged_at_ms.map(|_| self)
    }

    /// The findings that are there.
    pub fn present(&self) -> impl Iterator<Item = &Sighting> {
        self.sightings.iter().filter(|sighting| !sighting.is_gone())
    }
}

/// The rules over time.
pub(super) struct Judge {
    pace: JudgePace,
    judged: Option<Instant>,
    pub(super) judged_at_ms: Option<u64>,
    before: Option<Snapshot>,
    pub(super) sightings: Sightings,
    incidents: Vec<OpenIncident>,
    traffic: Option<Traffic>,
    pub(super) gaps: Vec<Gap>,
    /// Of a recording: what was traced since the rules were run.
    passed: Option<TracedInterval>,
}

impl Judge {
    pub(super) fn new() -> Judge {
        Judge {
            pace: JudgePace::new(EVERY, SHARE),
            judged: None,
            judged_at_ms: None,
            before: None,
            sightings: Sightings::default(),
            incidents: Vec::new(),
            traffic: None,
            gaps: Vec::new(),
            passed: None,
        }
    }

    /// Whether they are due. Those over a recording cost nobody anything.
    pub(super) fn is_due(&self, live: &Live) -> bool {
        let Some(recorded) = live.recorded() else { return self.pace.is_due(self.judged.map(|at| at.elapsed())) };
        let before = self.judged_at_ms.unwrap_or(0);
        let passed = Duration::from_millis(recorded.taken_at_ms.abs_diff(before));
        passed + EARLY >= EVERY
    }

    /// Keeps what was traced up to a snapshot of a recording.
    pub(super) fn pass(&mut self, traced: Option<TracedInterval>) {
        self.passed = joined(self.passed.take(), traced);
    }

    /// The sockets of the finding whose rows are requested; none when nothing is known of it any more.
    pub(super) fn sockets(&self, request: &SampleRequest) -> Option<Sockets> {
        let id = request.rows.as_ref()?.of.finding.as_deref()?;
        Some(self.sightings.sockets(id))
    }

    pub(super) fn verdicts(&self) -> Verdicts {
        let is_current = !self.gaps.iter().any(|gap| gap.missing == Missing::Findings);
        Verdicts {
            sightings: self.sightings.all(),
            incidents: self.incidents.clone(),
            judged_at_ms: self.judged_at_ms.filter(|_| is_current),
            traffic: self.traffic.clone(),
        }
    }

    /// Runs them over a whole snapshot, and returns the findings that appeared, changed or disappeared.
    pub(super) fn run(
        &mut self,
        live: &mut Live,
        trace: &mut BackgroundTrace,
        config: &Config,
        names: &dyn Names,
        sockets: u64,
    ) -> Result<Vec<Sighting>, Error> {
        self.gaps.clear();
        self.judged = Some(Instant::now());
        if sockets > JUDGED_SOCKETS {
            self.gaps.push(Gap::new(Missing::Findings, Why::TooManySockets { sockets }, WayOut::RunDoctor));
            self.before = None;
            return Ok(Vec::new());
        }
        let cpu_before = cpu_time();
        let mut now = live.snapshot(true)?;
        let around: Vec<&Snapshot> = self.before.iter().chain([&now]).collect();
        let traced = match live.recorded() {
            Some(_) => self.passed.take(),
            None => trace.outcomes(live.root(), &around),
        };
        now.traced = traced;
        if let Some(interval) = &now.traced {
            self.traffic.get_or_insert_default().add(interval);
        }
        let diagnosis = live.diagnose(&mut now, self.before.as_ref(), None, &config.thresholds);
        let diagnosis = diagnosis.within(&config.scope, names);
        let at_ms = now.taken_at_ms;
        self.before = Some(now);
        self.judged_at_ms = Some(at_ms);
        self.pace.spent(cpu_time().saturating_sub(cpu_before));
        let incident = |incident: &crate::diagnose::Incident| {
            let cause = &diagnosis.findings[incident.cause];
            let (id, rule) = (cause.id.clone(), cause.rule);
            OpenIncident { id, rule, severity: incident.severity, findings: 1 + incident.consequences.len() }
        };
        self.incidents = diagnosis.incidents.iter().map(incident).collect();
        Ok(self.sightings.update(diagnosis.findings, at_ms))
    }
}
