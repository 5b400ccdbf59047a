//! What makes a finding the same finding in the next sample, the next run, and on the screen.
//!
//! Identity is the rule, where it is (container, unit or network namespace), and what the rule groups by: a listener, a
//! destination or a program. It never has a pid, a count or a guess, all of which change while the fault stays.

use crate::diagnose::finding::Finding;
use crate::diagnose::rule::Identity;
use crate::model::Snapshot;

/// Sets [`Finding::id`] of every finding. Findings that nothing but a pid keeps apart are numbered in the order of their
/// pids.
pub fn identify(findings: &mut [Finding], identity_of: impl Fn(&str) -> Identity, snapshot: &Snapshot) {
    for finding in findings.iter_mut() {
        finding.id = name(finding, identity_of(finding.rule), snapshot);
    }
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by(|a, b| {
        let key = |i: &usize| (&findings[*i].id, findings[*i].subject.pid, &findings[*i].subject.pids);
        key(a).cmp(&key(b))
    });
    let mut alike = 1;
    for i in 1..order.len() {
        let same = {
            let base = findings[order[i]].id.clone();
            let before = &findings[order[i - 1]].id;
            *before == base || (alike > 1 && before.rsplit_once('#').is_some_and(|(b, _)| b == base))
        };
        if same {
            alike += 1;
            let id = format!("{}#{alike}", findings[order[i]].id);
            findings[order[i]].id = id;
        } else {
            alike = 1;
        }
    }
}

fn name(finding: &Finding, identity: Identity, snapshot: &Snapshot) -> String {
    let subject = &finding.subject;
    let program = || {
        subject.unit.clone().or_else(|| subject.comm.clone()).unwrap_or_else(|| match subject.uid {
            Some(uid) => format!("uid {uid}"),
            None => "?".to_owned(),
        })
    };
    let destination = || match subject.destination {
        Some(to) if to.port == 0 => to.addr.to_string(),
        Some(to) => to.to_string(),
        None => String::new(),
    };
    let what = match (identity, subject.listener) {
        (Identity::Listener | Identity::Place, Some(at)) => at.to_string(),
        (Identity::Listener | Identity::Program, _) => program(),
        (Identity::Place | Identity::Destination, _) => destination(),
        (Identity::ProgramAndDestination, _) if subject.destination.is_none() => program(),
        (Identity::ProgramAndDestination, _) => format!("{} to {}", program(), destination()),
        (Identity::Object, _) => subject.object.clone().unwrap_or_default(),
    };
    let netns = || {
        let facts = snapshot.netns(subject.netns)?;
        facts.name.clone()
    };
    let place = subject.container.clone().or_else(netns);
    match place {
        Some(place) => format!("{}/{place}/{what}", finding.rule),
        None => format!("{}/{what}", finding.rule),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Severity, Subject};

    fn of(pid: u32, comm: &str) -> Finding {
        let subject = Subject { pid: Some(pid), comm: Some(comm.into()), ..Subject::default() };
        Finding::new("close-wait-leak", Severity::High, 0.9, "").subject(subject)
    }

    fn ids(mut findings: Vec<Finding>, identity: Identity) -> Vec<String> {
        identify(&mut findings, |_| identity, &Snapshot::default());
        findings.into_iter().map(|f| f.id).collect()
    }

    #[test]
    fn a_restart_and_another_lead_process_change_nothing() {
        assert_eq!(ids(vec![of(1, "java")], Identity::Program), ids(vec![of(2, "java")], Identity::Program));
        assert_eq!(ids(vec![of(1, "java")], Identity::Program), ["close-wait-leak/java"]);
    }

    #[test]
    fn processes_that_only_a_pid_tells_apart_are_numbered() {
        let found = ids(vec![of(9, "php"), of(3, "php"), of(5, "php"), of(1, "java")], Identity::Program);
        assert_eq!(
            found,
            ["close-wait-leak/php#3", "close-wait-leak/php", "close-wait-leak/php#2", "close-wait-leak/java"]
        );
    }
}
