//! The whole examination of a snapshot: the rules, what they ask about, and the rules again.
//!
//! Input: one snapshot or two, and a function that looks at processes, routes and tracked
//! connections of this host. Output: the [`Diagnosis`]. Not here:
//! how that is looked up, which is I/O and is done by `collect`.

use crate::diagnose::thresholds::Thresholds;
use crate::diagnose::view::{Inspected, View};
use crate::diagnose::{Diagnosis, asked, choose, conclude, judge, judge_again};
use crate::model::Snapshot;
use crate::model::snapshot::{Answers, Asked};

/// Runs the rules that `wanted` names, or all. If some ask what a process does with its sockets, `inspect` is called
/// once with these pids in ascending order and the silent destinations, and the rules that look at what it may find out run
/// again over the same view. What was found out, and what could not be, becomes a part of `now`.
pub fn examine(
    now: &mut Snapshot,
    before: Option<&Snapshot>,
    wanted: Option<&[&str]>,
    thresholds: &Thresholds,
    inspect: impl FnOnce(&Snapshot, &Asked) -> Answers,
) -> Diagnosis {
    let inspected = Inspected::new();
    let view = View::new(now, before, thresholds).with_inspected(&inspected);
    let rules = choose(wanted);
    let mut judged = judge(&view, &rules);
    let asked = asked(&judged);
    if !asked.is_empty() {
        inspected.get_or_init(|| inspect(now, &asked));
        judge_again(&view, &rules, &mut judged);
    }
    let diagnosis = conclude(&view, &rules, judged);
    let answers = inspected.into_inner().unwrap_or_default();
    now.processes.extend(answers.processes);
    now.next_hops.extend(answers.next_hops);
    now.tracking.entries.extend(answers.tracking.entries);
    now.tracking.ports.extend(answers.tracking.ports);
    now.windows.extend(answers.windows);
    now.gaps.extend(answers.gaps);
    diagnosis
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::diagnose::run;
    use crate::diagnose::testkit::{World, info, listen, row};
    use crate::model::gap::{Missing, WayOut, Why};
    use crate::model::snapshot::{Answers, ProcessFacts};
    use crate::model::{Gap, State};

    /// A server that leaks a connection every 20 minutes.
    fn leaking() -> World {
        let mut world = World::new();
        world.add(listen("0.0.0.0:80", 0, 128)).hold(812, "server", 3, 80 << 16);
        for (n, age_s) in [600, 1800, 3600, 4200, 5400, 7500, 8100].into_iter().enumerate() {
            let times = ["last_ack_recv_ms", "last_data_recv_ms", "last_data_sent_ms"].map(|name| (name, age_s * 1000));
            let socket = info(row(State::CloseWait, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + n)), &times);
            let inode = socket.inode;
            world.add(socket).hold(812, "server", 4 + u32::try_from(n).unwrap(), inode);
        }
        world
    }

    #[test]
    fn processes_are_inspected_once_and_what_was_found_is_part_of_the_snapshot() {
        let World { mut now, thresholds, .. } = leaking();
        let gap = Gap::new(Missing::Inspection { processes: 1 }, Why::ExitedOrRefused, WayOut::PTRACE);
        let asked = RefCell::new(Vec::new());
        let diagnosis = examine(&mut now, None, Some(&["close-wait-leak"]), &thresholds, |snapshot, ask| {
            asked.borrow_mut().extend_from_slice(&ask.pids);
            let facts = ProcessFacts { is_go: Some(true), ..snapshot.processes[&812].clone() };
            Answers { processes: [(812, facts)].into(), gaps: vec![gap.clone()], ..Answers::default() }
        });
        assert_eq!(asked.into_inner(), [812]);
        assert_eq!(diagnosis.findings.len(), 1, "{diagnosis:#?}");
        assert_eq!(now.processes[&812].is_go, Some(true));
        assert_eq!(now.gaps, [gap]);
    }

    #[test]
    fn nothing_is_inspected_for_nothing() {
        let mut world = World::new();
        let thresholds = world.thresholds.clone();
        let diagnosis = examine(&mut world.now, None, None, &thresholds, |_, asked| {
            panic!("{asked:?} inspected without a finding")
        });
        assert!(diagnosis.findings.is_empty(), "{diagnosis:#?}");
    }

    #[test]
    fn rules_that_were_not_asked_again_would_say_the_same() {
        let World { mut now, thresholds, .. } = leaking();
        let facts = ProcessFacts { is_go: Some(true), state: Some('T'), ..now.processes[&812].clone() };
        let answers = Answers { processes: [(812, facts)].into(), ..Answers::default() };
        let inspected = Inspected::from(answers.clone());
        let all = run(&View::new(&now, None, &thresholds).with_inspected(&inspected), None);
        let without = run(&View::new(&now, None, &thresholds), None);
        let diagnosis = examine(&mut now, None, None, &thresholds, |_, _| answers);
        assert_eq!(diagnosis, all);
        assert_ne!(diagnosis, without, "the inspection changes nothing, so this proves nothing");
    }

    #[test]
    fn a_rule_is_asked_again_if_it_looked_at_what_an_inspection_may_change() {
        let World { now, thresholds, .. } = leaking();
        let view = View::new(&now, None, &thresholds);
        let has_looked = |id: &str| judge(&view, &choose(Some(&[id])))[0].has_looked;
        assert!(has_looked("close-wait-leak"));
        assert!(!has_looked("closing-stuck"));
    }
}
