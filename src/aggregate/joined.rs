//! What was traced in several intervals, one after the other, as one.
//!
//! Input: the intervals of the snapshots of a recording, in order. Output: the interval of all of them. Where a part was not
//! traced, the sum is of the others, and so is its duration.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::outcomes;
use crate::model::traced::{Accepted, Connects, Ends, Program, Resets, Retransmits, Stray, TracedInterval, Unlistened};

/// The sum of what was traced so far, and of what came after.
#[must_use]
pub fn joined(before: Option<TracedInterval>, after: Option<TracedInterval>) -> Option<TracedInterval> {
    let (mut sum, mut after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (before, after) => return before.or(after),
    };
    // Times count from the beginning of an interval.
    let began = sum.duration_ms;
    sum.duration_ms += after.duration_ms;
    sum.lost += after.lost;
    sum.resets_traced &= after.resets_traced;
    sum.closed_here_first += after.closed_here_first;
    sum.not_grouped += after.not_grouped;
    for connects in &mut after.connects {
        let shifted = |at: Option<(u64, u64)>| at.map(|(first, last)| (began + first, began + last));
        connects.failed_at_ms = shifted(connects.failed_at_ms);
        connects.succeeded_at_ms = shifted(connects.succeeded_at_ms);
    }
    for accepted in &mut after.accepted {
        accepted.at_ms = (began + accepted.at_ms.0, began + accepted.at_ms.1);
    }
    let program = |program: &Option<Program>| program.as_ref().map(|p| p.comm.clone());
    add(&mut sum.connects, after.connects, |c| (c.netns, c.to, program(&c.program)), add_connects);
    add(
        &mut sum.resets,
        after.resets,
        |r| (r.netns, r.service, r.served_here, r.sent, program(&r.program)),
        add_resets,
    );
    add(&mut sum.retransmits, after.retransmits, |r| (r.netns, r.peer), add_retransmits);
    add(&mut sum.ends, after.ends, |e| (e.netns, e.service, e.served_here), add_ends);
    add(&mut sum.accepted, after.accepted, |a| (a.netns, a.local_port, a.peer), add_accepted);
    add(&mut sum.unlistened, after.unlistened, |u| (u.netns, u.local_port), add_unlistened);
    add(&mut sum.strays, after.strays, |s| (s.netns, s.local, s.peer), add_strays);
    Some(sum)
}

fn add_strays(into: &mut Stray, later: &Stray) {
    into.count += later.count;
}

/// Adds each of a list to the one of the other list that has the same key.
fn add<T, K: Eq + Hash>(into: &mut Vec<T>, more: Vec<T>, key: impl Fn(&T) -> K, merge: fn(&mut T, &T)) {
    let mut places: FxHashMap<K, usize> = into.iter().enumerate().map(|(place, one)| (key(one), place)).collect();
    for one in more {
        match places.entry(key(&one)) {
            Entry::Occupied(place) => merge(&mut into[*place.get()], &one),
            Entry::Vacant(vacant) => {
                vacant.insert(into.len());
                into.push(one);
            }
        }
    }
}

fn add_unlistened(into: &mut Unlistened, later: &Unlistened) {
    into.count += later.count;
}

fn add_connects(into: &mut Connects, later: &Connects) {
    let processes = [&*into, later].map(|c| c.program.as_ref().map_or(0, |p| p.processes));
    // What succeeded later came after every earlier failure.
    let since = match later.failed_at_ms {
        Some(_) => later.succeeded_since,
        None => into.succeeded_since + later.succeeded,
    };
    let pauses = pauses(into, later);
    outcomes::merge(into, later);
    into.pauses_ms = pauses;
    into.succeeded_since = since;
    into.failed.sort_by_key(|(kind, n)| (std::cmp::Reverse(*n), *kind));
    if let Some(program) = &mut into.program {
        // The same ones went on, as far as anybody knows.
        program.processes = processes[0].max(processes[1]);
    }
}

/// The pauses between failures of one process: those of both intervals, and the one between them.
fn pauses(into: &Connects, later: &Connects) -> Option<(u64, u64)> {
    let (Some((_, last)), Some((first, _))) = (into.failed_at_ms, later.failed_at_ms) else {
        return into.pauses_ms.or(later.pauses_ms);
    };
    let pid = |c: &Connects| c.program.as_ref().map(|p| p.pid);
    let is_known = |c: &Connects| c.failures() < 2 || c.pauses_ms.is_some();
    if pid(into) != pid(later) || !is_known(into) || !is_known(later) {
        return None;
    }
    let between = first.saturating_sub(last);
    let all = [into.pauses_ms, later.pauses_ms, Some((between, between))].into_iter().flatten();
    all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

fn add_resets(into: &mut Resets, later: &Resets) {
    into.count += later.count;
    into.open += later.open;
    into.unanswered += later.unanswered;
    into.after_fin += later.after_fin;
    into.in_use += later.in_use;
    into.fresh += later.fresh;
    into.late += later.late;
    into.waited += later.waited;
}

fn add_retransmits(into: &mut Retransmits, later: &Retransmits) {
    into.handshake += later.handshake;
    into.segments += later.segments;
    into.closing += later.closing;
    into.failed += later.failed;
}

fn add_ends(into: &mut Ends, later: &Ends) {
    into.counts.add(later.counts);
    for (process, counts) in &later.closers {
        match into.closers.iter_mut().find(|(known, _)| known.pid == process.pid) {
            Some((_, so_far)) => so_far.add(*counts),
            None => into.closers.push((process.clone(), *counts)),
        }
    }
    into.closers = outcomes::most_unserved_first(std::mem::take(&mut into.closers));
    for (program, counts) in &later.callers {
        match into.callers.iter_mut().find(|(known, _)| known.comm == program.comm) {
            Some((known, so_far)) => {
                // The same ones went on, as far as anybody knows.
                known.processes = known.processes.max(program.processes);
                so_far.add(*counts);
            }
            None => into.callers.push((program.clone(), *counts)),
        }
    }
}

fn add_accepted(into: &mut Accepted, later: &Accepted) {
    into.count += later.count;
    into.at_ms.1 = later.at_ms.1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;
    use crate::model::traced::{ConnectFailure, Counts};

    fn connects(succeeded: u64, failed_at_ms: Option<(u64, u64)>) -> Connects {
        Connects {
            program: Some(Program { pid: 7, comm: "curl".into(), processes: 2 }),
            succeeded,
            failed: failed_at_ms.map(|_| (ConnectFailure::Refused, 3)).into_iter().collect(),
            waited_ms: failed_at_ms,
            failed_at_ms,
            pauses_ms: failed_at_ms.map(|(first, last)| ((last - first) / 2, last - first)),
            succeeded_at_ms: (succeeded > 0).then_some((1, 9)),
            ..Connects::none(None, Endpoint::new([10, 0, 0, 1].into(), 80))
        }
    }

    fn interval(connects: Vec<Connects>) -> TracedInterval {
        let came = Accepted { netns: None, local_port: 80, peer: [10, 0, 0, 9].into(), count: 4, at_ms: (100, 900) };
        TracedInterval {
            duration_ms: 1000,
            resets_traced: true,
            accepted: vec![came],
            connects,
            ..TracedInterval::default()
        }
    }

    #[test]
    fn ends_are_added_by_program() {
        let one = |comm: &str, unanswered| {
            let counts = Counts { unanswered, ..Counts::default() };
            let program = Program { pid: 7, comm: comm.into(), processes: 2 };
            let service = Endpoint::new([10, 0, 0, 1].into(), 80);
            let ends = Ends { callers: vec![(program, counts)], ..Ends::new(None, service, false, counts) };
            Some(TracedInterval { ends: vec![ends], ..TracedInterval::default() })
        };
        let sum = [one("curl", 1), one("curl", 2), one("wget", 4)].into_iter().fold(None, joined).unwrap();
        let [ends] = &sum.ends[..] else { panic!("{sum:?}") };
        assert_eq!(ends.counts.unanswered, 7);
        let of: Vec<_> = ends.callers.iter().map(|(p, c)| (p.comm.as_str(), p.processes, c.unanswered)).collect();
        assert_eq!(of, [("curl", 2, 3), ("wget", 2, 4)]);
    }

    #[test]
    fn three_seconds_are_told_as_one_interval() {
        let parts = [connects(0, Some((10, 20))), connects(5, None), connects(2, None)];
        let sum = parts.into_iter().fold(None, |sum, part| joined(sum, Some(interval(vec![part])))).unwrap();
        let [of] = &sum.connects[..] else { panic!("{sum:?}") };
        assert_eq!((sum.duration_ms, of.succeeded, of.failures(), of.succeeded_since), (3000, 7, 3, 7));
        assert_eq!((of.failed_at_ms, of.program.as_ref().unwrap().processes), (Some((10, 20)), 2));
        assert_eq!((of.succeeded_at_ms, of.failed_again()), (Some((1001, 2009)), false));
        assert_eq!((sum.accepted[0].count, sum.accepted[0].at_ms), (12, (100, 2900)));
        let again = joined(Some(sum), Some(interval(vec![connects(9, Some((5, 6)))]))).unwrap();
        assert_eq!((again.connects[0].failed_at_ms, again.connects[0].succeeded_since), (Some((10, 3006)), 0));
        assert_eq!(again.connects[0].pauses_ms, Some((0, 2985)), "from 20 ms to 3005 ms");
        assert!(again.connects[0].failed_again());
        assert_eq!(joined(None, None), None);
        let one = Some(interval(Vec::new()));
        assert_eq!((joined(None, one.clone()), joined(one.clone(), None)), (one.clone(), one));
    }
}
