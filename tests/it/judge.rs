//! Rules on the real kernel, without the command line between. Comes in: a namespace, names of rules. Goes out: what they
//! say of one snapshot, or of two with something done in between. Never here: what they should say.

use std::time::Duration;

use tcpstate::collect::owners::Search;
use tcpstate::collect::proc::ProcRoot;
use tcpstate::collect::{Live, OwnerRoute, Route, SourceChoice};
use tcpstate::diagnose::{self, Diagnosis, Evidence, Finding, Severity, Thresholds, View};
use tcpstate::model::owner::Holder;
use tcpstate::model::{OwnerTable, Snapshot};

use crate::harness::{Netns, wait_for};

/// A snapshot with owners, taken in this namespace.
///
/// A child that a parallel test starts holds the sockets of this process until it executes its program; then another one
/// is taken. A test that shares its sockets for good gets the last of a few.
#[track_caller]
pub fn snapshot(ns: &Netns) -> Snapshot {
    let mut taken = take(ns, |live| live.snapshot(true));
    for _ in 0..20 {
        if !is_shared(&taken) {
            break;
        }
        pause(50);
        taken = take(ns, |live| live.snapshot(true));
    }
    taken
}

/// Whether another process holds a socket of this one.
fn is_shared(taken: &Snapshot) -> bool {
    let ours = |holder: &Holder| taken.owners.process(holder).pid == std::process::id();
    let sockets = taken.owners.all_holders().chunk_by(|a, b| a.inode == b.inode);
    sockets.into_iter().any(|holders| holders.iter().any(ours) && !holders.iter().all(ours))
}

/// One without owners: a polling test does not walk all processes of the machine each time.
#[track_caller]
pub fn glance(ns: &Netns) -> Snapshot {
    take(ns, |live| {
        let route = OwnerRoute { via: Route::Proc, why: "nobody is to be found".into() };
        live.snapshot_with(Some(Search::known(OwnerTable::new(Vec::new(), Vec::new(), 0), route)))
    })
}

#[track_caller]
fn take(ns: &Netns, how: impl FnOnce(&mut Live) -> Result<Snapshot, tcpstate::collect::Error>) -> Snapshot {
    ns.run(|| {
        let mut live = Live::open(SourceChoice::Netlink, ProcRoot::default()).expect("open the kernel's tables");
        how(&mut live).expect("take a snapshot")
    })
}

/// What the rules say of one snapshot, or of two.
pub fn judge(now: &Snapshot, before: Option<&Snapshot>, rules: &[&str]) -> Diagnosis {
    diagnose::run(&View::new(now, before, &Thresholds::default()), Some(rules))
}

/// What the rules say of one snapshot.
#[track_caller]
pub fn once(ns: &Netns, rules: &[&str]) -> Diagnosis {
    judge(&snapshot(ns), None, rules)
}

/// What the rules say of two, between which something was done.
#[track_caller]
pub fn twice(ns: &Netns, rules: &[&str], between: impl FnOnce()) -> Diagnosis {
    let before = snapshot(ns);
    between();
    judge(&snapshot(ns), Some(&before), rules)
}

/// Waits until the rules have something to say, and returns it, from a snapshot with owners.
#[track_caller]
pub fn until_found(ns: &Netns, rules: &[&str]) -> Diagnosis {
    wait_for("a finding", || {
        if judge(&glance(ns), None, rules).findings.is_empty() {
            return Err("none".to_owned());
        }
        let diagnosis = once(ns, rules);
        if diagnosis.findings.is_empty() { Err("none any more".into()) } else { Ok(diagnosis) }
    })
}

pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// The only finding.
#[track_caller]
pub fn only(diagnosis: &Diagnosis) -> &Finding {
    let [finding] = &diagnosis.findings[..] else { panic!("not one finding: {diagnosis:#?}") };
    finding
}

/// Nothing found, nothing suspected, nothing left unjudged.
#[track_caller]
pub fn silent(diagnosis: &Diagnosis) {
    // How many owners are known says nothing of trouble.
    let mut nothing = Diagnosis::default();
    nothing.coverage = diagnosis.coverage;
    assert_eq!(diagnosis, &nothing);
}

/// Nothing above an explanation.
#[track_caller]
pub fn calm(diagnosis: &Diagnosis) {
    let loud: Vec<&Finding> = diagnosis.findings.iter().filter(|f| f.severity > Severity::Info).collect();
    assert!(loud.is_empty(), "{loud:#?}");
}

/// A number among the evidence.
#[track_caller]
pub fn number(finding: &Finding, name: &str) -> u64 {
    match finding.evidence.iter().find(|(n, _)| *n == name) {
        Some((_, Evidence::Count(n) | Evidence::Millis(n) | Evidence::Bytes(n))) => *n,
        other => panic!("{name} is {other:?} in {finding:#?}"),
    }
}

/// Words among the evidence.
#[track_caller]
pub fn words<'a>(finding: &'a Finding, name: &str) -> &'a str {
    match finding.evidence.iter().find(|(n, _)| *n == name) {
        Some((_, Evidence::Text(text))) => text,
        other => panic!("{name} is {other:?} in {finding:#?}"),
    }
}
