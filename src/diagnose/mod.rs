//! The diagnosis: rules over one snapshot or two, findings most severe first.
//!
//! Comes in: snapshots and thresholds. Goes out: [`Finding`]s, and for every rule that could not be judged the reason.
//! Never here: I/O, a clock; what a rule needs is in the snapshot, hence in every capture, hence replayable.

pub mod arrivals;
pub mod attribution;
pub mod closing;
pub mod descriptors;
pub mod doing;
pub mod ends;
pub mod finding;
pub mod holding;
pub mod ports;
pub mod programs;
pub mod queues;
pub mod retries;
pub mod rules;
#[cfg(test)]
#[allow(dead_code, reason = "a kit is wider than today's needs")]
#[allow(clippy::needless_pass_by_value, reason = "rows are built by wrapping one call in another")]
pub(crate) mod testkit;
pub mod thresholds;
pub mod view;
pub mod words;

pub use finding::{Evidence, Finding, Severity, Subject, Topic};
pub use rules::{RULES, Rule, Samples};
pub use thresholds::Thresholds;
pub use view::View;

/// What one rule says of a view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    /// Something points to a finding that only a second sample can confirm: what.
    pub wants_second: Option<String>,
    /// The rule could not be judged at all: why.
    pub not_checked: Option<String>,
    /// Processes that the rule cannot judge before they were inspected. A finding asks for itself
    /// ([`Finding::inspect`]); this is for a rule that will not accuse anybody before it has looked.
    pub inspect: Vec<u32>,
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
pub struct Diagnosis {
    /// Most severe first, then most certain, then by rule.
    pub findings: Vec<Finding>,
    /// Rules that could not be judged, with the reason.
    pub not_checked: Vec<(&'static str, String)>,
    /// Rules that a second sample would let decide, with what they suspect.
    pub wants_second: Vec<(&'static str, String)>,
    /// Processes that findings or rules ask to have inspected, sorted, each once.
    pub inspect: Vec<u32>,
}

/// Runs the rules that `wanted` names, or all.
#[must_use]
pub fn run(view: &View<'_>, wanted: Option<&[&str]>) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    for rule in RULES.iter().filter(|r| wanted.is_none_or(|w| w.contains(&r.id))) {
        let outcome = (rule.check)(view);
        diagnosis.inspect.extend(outcome.inspect);
        diagnosis.inspect.extend(outcome.findings.iter().flat_map(|f| f.inspect.iter().map(|(pid, _)| *pid)));
        diagnosis.findings.extend(outcome.findings);
        if let Some(why) = outcome.wants_second {
            diagnosis.wants_second.push((rule.id, why));
        }
        if let Some(why) = outcome.not_checked {
            diagnosis.not_checked.push((rule.id, why));
        }
    }
    diagnosis.inspect.sort_unstable();
    diagnosis.inspect.dedup();
    for finding in &mut diagnosis.findings {
        programs::advise(finding, view);
    }
    diagnosis.findings.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then_with(|| b.confidence.total_cmp(&a.confidence))
            .then_with(|| a.rule.cmp(b.rule))
            .then_with(|| a.summary.cmp(&b.summary))
    });
    diagnosis
}
