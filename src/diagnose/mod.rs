//! The diagnosis: rules over one snapshot or two, findings most severe first.
//!
//! Comes in: snapshots and thresholds. Goes out: [`Finding`]s, and for every rule that could not be judged the reason.
//! No I/O and no clock: everything a rule needs is in the snapshot.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) mod accepting;
pub(crate) mod arrivals;
mod at_once;
pub(crate) mod attribution;
pub(crate) mod binding;
mod by_key;
pub(crate) mod callers;
pub(crate) mod close_wait;
pub(crate) mod closing;
pub(crate) mod connect_causes;
pub(crate) mod connect_harm;
pub(crate) mod conntrack;
pub(crate) mod cut_window;
pub(crate) mod delivery;
pub(crate) mod departed;
pub(crate) mod descriptors;
mod examine;
pub(crate) mod family;
pub(crate) mod fd_inheritance;
pub(crate) mod finding;
pub(crate) mod host_drops;
pub(crate) mod hypothesis;
pub(crate) mod identity;
pub(crate) mod idle_limit;
pub(crate) mod incident;
mod index;
pub(crate) mod last_word;
pub(crate) mod limited;
pub(crate) mod listen_drops;
pub(crate) mod listener_owner;
pub(crate) mod looks;
pub(crate) mod loss;
pub(crate) mod measure;
pub(crate) mod mtu;
pub(crate) mod nat_ports;
pub(crate) mod next_hop;
pub(crate) mod offered_window;
mod passed_requests;
pub(crate) mod peers;
pub(crate) mod places;
pub(crate) mod port_choice;
pub(crate) mod port_holders;
pub(crate) mod port_use;
pub(crate) mod ports;
pub(crate) mod programs;
pub(crate) mod queues;
pub(crate) mod ranking;
pub(crate) mod rate;
pub(crate) mod reach;
pub(crate) mod reader;
pub(crate) mod receive_room;
pub(crate) mod relay;
pub(crate) mod reset_owners;
pub(crate) mod resets;
pub(crate) mod retries;
pub(crate) mod rule;
pub(crate) mod rules;
pub(crate) mod segment_size;
pub(crate) mod silence;
mod silence_causes;
pub(crate) mod silent_peer;
pub(crate) mod sockets;
pub(crate) mod syn_queue;
#[cfg(test)]
#[allow(dead_code, reason = "a kit is wider than today's needs")]
#[allow(clippy::needless_pass_by_value, reason = "rows are built by wrapping one call in another")]
pub(crate) mod testkit;
pub(crate) mod threads;
pub(crate) mod thresholds;
pub(crate) mod traced_program;
pub(crate) mod translation;
pub(crate) mod unanswered;
pub(crate) mod unclosed;
mod untranslated;
pub(crate) mod view;
pub(crate) mod wait_class;
#[doc(hidden)]
pub mod wait_state;
mod window_course;

use crate::cores;
use crate::model::column::Names;
use crate::model::gap::{Missing, Why};
use crate::model::snapshot::Asked;
use crate::model::{Coverage, Gap, StateSet};
use crate::text;
pub use examine::examine;
pub use finding::{Evidence, Finding, Rows, Severity, Subject, Topic};
pub use hypothesis::{Cause, Hypothesis, Weighed};
pub use incident::Incident;
pub use measure::Measure;
pub use rule::{Chapter, Identity, Rule, Samples, Text};
pub use rules::RULES;
pub use sockets::Sockets;
pub use thresholds::{THRESHOLDS, Thresholds};
pub use view::View;

/// What one rule says of a view.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    pub findings: Vec<Finding>,
    /// Something points to a finding that only a second sample can confirm: what.
    pub wants_second: Option<String>,
    /// The rule could not be judged at all: why.
    pub not_checked: Option<String>,
    /// What is worth a look before the rule is judged again. A finding asks for processes itself ([`Finding::inspect`]);
    /// here are those of a rule that will not accuse anybody before it has looked.
    pub asked: Asked,
}

impl Outcome {
    /// Findings and nothing else.
    #[must_use]
    pub fn findings(findings: Vec<Finding>) -> Outcome {
        Outcome { findings, ..Outcome::default() }
    }

    #[must_use]
    pub fn wants_second(why: impl Into<String>) -> Outcome {
        Outcome { wants_second: Some(why.into()), ..Outcome::default() }
    }

    #[must_use]
    pub fn not_checked(why: impl Into<String>) -> Outcome {
        Outcome { not_checked: Some(why.into()), ..Outcome::default() }
    }
}

/// What all rules say.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Most severe first, then what runs out, then most certain, then by rule.
    pub findings: Vec<Finding>,
    /// The findings by fault, the worst first: every finding is in exactly one.
    pub incidents: Vec<Incident>,
    /// Rules that could not be judged, with the reason.
    pub not_checked: Vec<(&'static str, String)>,
    /// Rules that a second sample would let decide, with what they suspect.
    pub wants_second: Vec<(&'static str, String)>,
    /// What findings or rules ask.
    pub asked: Asked,
    /// How many sockets have an owner.
    pub coverage: Coverage,
}

impl Diagnosis {
    /// Whether a report from this severity on shows a finding: it is at or above it, or the cause of one that is.
    #[must_use]
    pub fn is_shown(&self, finding: usize, at_least: Severity) -> bool {
        self.findings[finding].severity >= at_least
            || self.incidents.iter().any(|i| i.cause == finding && i.severity >= at_least)
    }

    /// The same with the incidents that have a finding for which `wanted` is true, and with all of their findings.
    #[must_use]
    pub fn retain(mut self, wanted: impl Fn(&Finding) -> bool) -> Diagnosis {
        let wanted: Vec<bool> = self.findings.iter().map(wanted).collect();
        self.incidents.retain(|incident| incident.members().any(|i| wanted[i]));
        let mut kept = vec![false; wanted.len()];
        for i in self.incidents.iter().flat_map(Incident::members) {
            kept[i] = true;
        }
        let mut count = 0;
        let places: Vec<usize> = kept
            .iter()
            .map(|kept| {
                count += usize::from(*kept);
                count.saturating_sub(1)
            })
            .collect();
        for incident in &mut self.incidents {
            incident.cause = places[incident.cause];
            incident.consequences.iter_mut().for_each(|i| *i = places[*i]);
        }
        let mut kept = kept.into_iter();
        self.findings.retain(|_| kept.next().unwrap_or(false));
        self
    }

    /// The same with commands that look where this one did: `scope` is the options that say where (`--netns blue`). Of several
    /// namespaces a finding in one of them gets that one alone, and a command of another program is run inside it.
    #[must_use]
    pub fn within(mut self, scope: &str, names: &dyn Names) -> Diagnosis {
        let is_word = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        for finding in &mut self.findings {
            // The rows that the command lists, which may be elsewhere than who is to blame.
            let rows = finding.sockets.netns().or(finding.subject.netns.filter(|_| finding.sockets.is_empty()));
            let own = rows.and_then(|inode| {
                // A name that a shell would take apart is given by its number.
                let name = names.netns(inode).filter(|name| is_word(name));
                text::narrowed(scope, &name.map_or_else(|| inode.to_string(), |name| name.to_string()))
            });
            finding.next = text::within(&finding.next, own.as_deref().unwrap_or(scope));
            let name = finding.subject.netns.and_then(|inode| names.netns(inode)).filter(|name| is_word(name));
            if let Some(name) = name.filter(|_| text::leads_elsewhere(scope)) {
                finding.next = text::inside(&finding.next, &name);
            }
        }
        self
    }
}

/// What the table of incidents calls the fault that a rule finds.
#[must_use]
pub fn title(rule: &str) -> &str {
    RULES.iter().find(|r| r.id == rule).map_or(rule, |r| r.title)
}

/// Whether a finding explains what could not be seen of owners, and no fault.
#[must_use]
pub(crate) fn is_about_owners(finding: &Finding) -> bool {
    RULES.iter().any(|r| r.id == finding.rule && r.is_about_owners)
}

/// The incidents that say more than the gaps of the same answer: unknown owners are named once.
pub(crate) fn beyond<'a>(gaps: &[Gap], diagnosis: &'a Diagnosis) -> Vec<&'a Incident> {
    let is_owners = |gap: &Gap| matches!((&gap.missing, &gap.why), (Missing::Owners { .. }, Why::Descriptors { .. }));
    let is_told = gaps.iter().any(is_owners);
    let about_owners = |i: usize| is_about_owners(&diagnosis.findings[i]);
    diagnosis.incidents.iter().filter(|incident| !(is_told && incident.members().all(about_owners))).collect()
}

/// What a rule says, and whether an inspection may change it.
#[derive(Default)]
struct Judged {
    outcome: Outcome,
    has_looked: bool,
}

impl Judged {
    fn by(rule: &Rule, view: &View<'_>) -> Judged {
        let view = view.for_one_rule();
        let outcome = (rule.check)(&view);
        Judged { outcome, has_looked: view.has_looked() }
    }
}

/// The rules that `wanted` names, or all.
fn choose(wanted: Option<&[&str]>) -> Vec<&'static Rule> {
    RULES.iter().filter(|r| wanted.is_none_or(|w| w.contains(&r.id))).collect()
}

/// What each rule says, in their order. Rules do not see each other, so threads may share them out.
fn judge(view: &View<'_>, rules: &[&Rule]) -> Vec<Judged> {
    let large = view.now.sockets.len() >= cores::LARGE;
    let threads = if large { cores::count() } else { 1 };
    if threads.min(rules.len()) <= 1 {
        return rules.iter().map(|rule| Judged::by(rule, view)).collect();
    }
    let judged: Vec<OnceLock<Judged>> = rules.iter().map(|_| OnceLock::new()).collect();
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(rules[*i].cost));
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Nobody else has this number.
            drop(judged[*i].set(Judged::by(rules[*i], view)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(rules.len()) {
            // One that cannot be started leaves its share to the others.
            if cores::start(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    judged.into_iter().map(|j| j.into_inner().unwrap_or_default()).collect()
}

/// Asks those rules again that looked at what an inspection may have changed.
fn judge_again(view: &View<'_>, rules: &[&Rule], judged: &mut [Judged]) {
    let again: Vec<usize> = (0..rules.len()).filter(|i| judged[*i].has_looked).collect();
    let asked: Vec<&Rule> = again.iter().map(|i| rules[*i]).collect();
    for (i, answer) in again.into_iter().zip(judge(view, &asked)) {
        judged[i] = answer;
    }
}

/// What rules and their findings ask.
fn asked(judged: &[Judged]) -> Asked {
    let mut asked = Asked::default();
    for Judged { outcome, .. } in judged {
        asked.extend(outcome.asked.clone());
        asked.pids.extend(outcome.findings.iter().flat_map(|f| f.inspect.iter().map(|(pid, _)| *pid)));
        // What a program is made of (see `programs`) shows when it is inspected, which an explanation is not worth.
        let advised = outcome.findings.iter().filter(|f| f.topic.is_some() && f.severity > Severity::Info);
        asked.pids.extend(advised.filter_map(|f| f.subject.pid));
    }
    asked.tidy();
    asked
}

/// Runs the rules that `wanted` names, or all.
#[must_use]
pub fn run(view: &View<'_>, wanted: Option<&[&str]>) -> Diagnosis {
    let rules = choose(wanted);
    let judged = judge(view, &rules);
    conclude(view, &rules, judged)
}

/// The diagnosis that the judgements of the rules are together.
fn conclude(view: &View<'_>, rules: &[&Rule], judged: Vec<Judged>) -> Diagnosis {
    let mut diagnosis = Diagnosis { asked: asked(&judged), coverage: view.coverage(), ..Diagnosis::default() };
    for (rule, Judged { outcome, .. }) in rules.iter().zip(judged) {
        let about = (rule.states != StateSet::EMPTY).then_some(rule.states);
        diagnosis.findings.extend(outcome.findings.into_iter().map(|f| Finding { states: about, ..f }));
        diagnosis.wants_second.extend(outcome.wants_second.map(|why| (rule.id, why)));
        diagnosis.not_checked.extend(outcome.not_checked.map(|why| (rule.id, why)));
    }
    for finding in &mut diagnosis.findings {
        view.complete(&mut finding.subject);
        programs::advise(finding, view);
    }
    let is_cause = |f: &Finding| rules.iter().any(|r| r.is_cause && r.id == f.rule);
    diagnosis.findings.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then_with(|| is_cause(b).cmp(&is_cause(a)))
            .then_with(|| b.confidence.total_cmp(&a.confidence))
            .then_with(|| a.rule.cmp(b.rule))
            .then_with(|| a.summary.cmp(&b.summary))
    });
    let identity_of = |id: &str| rules.iter().find(|r| r.id == id).map_or(Identity::Listener, |r| r.identity);
    identity::identify(&mut diagnosis.findings, identity_of, view.now);
    diagnosis.incidents = incident::incidents(view, &diagnosis.findings);
    diagnosis
}
