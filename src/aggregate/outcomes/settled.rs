//! Groups of a trace, settled: which service, and whose, once everything that tells was seen.
//!
//! Input: the groups of [`Outcomes`], facts. Output: resets and ends by service and program.

use std::collections::{BTreeMap, BTreeSet};

use super::Outcomes;
use crate::aggregate::service::{Beside, Facts, Place, Whose};
use crate::model::traced::{Counts, Ends, Program, Resets, SentFor};
use crate::model::transition::Actor;

/// Ends by program: its processes, and what they got.
type Callers = BTreeMap<String, (BTreeSet<u32>, Counts)>;
/// Ends by process of the service, by its number.
type Closers = BTreeMap<u32, (Program, Counts)>;

impl Outcomes {
    /// What tells the ends of connections that began before the trace.
    pub(super) fn facts<'a>(&self, beside: &Beside<'a>) -> Facts<'a> {
        let groups = self.resets.keys().map(|(whose, _, _)| whose).chain(self.ends.keys().map(|(whose, _)| whose));
        let untold = groups.filter_map(|whose| match whose {
            Whose::Untold(conn) => Some(*conn),
            Whose::Told(_) => None,
        });
        let mut facts = Facts::of(&untold.collect::<Vec<_>>(), beside.snapshots);
        facts.came = self.listeners.ports().collect();
        facts.called = self.connects.iter().filter(|(_, sums)| sums.succeeded > 0).map(|((to, _), _)| *to).collect();
        facts
    }

    /// Resets by service, kind, and program.
    pub(super) fn resets(
        &self,
        facts: &Facts<'_>,
        program: &mut dyn FnMut(Option<Actor>) -> Option<Program>,
    ) -> Vec<Resets> {
        type Group = (Place, Option<SentFor>, Option<String>);
        let mut groups: BTreeMap<Group, (Resets, BTreeSet<u32>)> = BTreeMap::new();
        // In an order, so that the same events give the same process of several.
        let known =
            self.resets.iter().filter_map(|((whose, sent, pid), sums)| Some((settled(whose, facts)?, sent, pid, sums)));
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|((place, _), sent, pid, _)| (*place, *sent, *pid));
        for ((place, holder), sent, _, sums) in known {
            let program = program(sums.actor).or(holder);
            let pid = program.as_ref().map(|p| p.pid);
            let key = (place, *sent, program.as_ref().map(|p| p.comm.clone()));
            let (all, pids) = groups.entry(key).or_insert_with(|| (empty(place, *sent, program), BTreeSet::new()));
            let here = |n: u64| if place.served_here { n } else { 0 };
            let there = |n: u64| if place.served_here { 0 } else { n };
            // Where the kernel reports no reset that came, those that cut a connection are known.
            all.count += sums.count.max(sums.open);
            all.open += sums.open;
            all.unanswered += sums.unanswered + here(sums.silent);
            all.after_fin += there(sums.after_fin);
            all.in_use += sums.in_use;
            // What a client cuts off itself says nothing of the service.
            all.fresh += if sent.is_some() { here(sums.fresh) } else { sums.fresh };
            all.late += here(sums.late);
            all.waited += there(sums.waited);
            pids.extend(pid);
        }
        let mut resets: Vec<Resets> = groups.into_values().map(|(resets, pids)| numbered(resets, &pids)).collect();
        resets.sort_by_key(|r| (std::cmp::Reverse(r.count), r.netns, r.service, r.sent));
        resets
    }

    /// Ends by service, with those of each program.
    pub(super) fn ends(
        &self,
        facts: &Facts<'_>,
        program: &mut dyn FnMut(Option<Actor>) -> Option<Program>,
    ) -> Vec<Ends> {
        let mut services: BTreeMap<Place, (Counts, Callers, Closers)> = BTreeMap::new();
        let known = self.ends.iter().filter_map(|((whose, pid), sums)| Some((settled(whose, facts)?, pid, sums)));
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|((place, _), pid, _)| (*place, *pid));
        for ((place, holder), _, sums) in known {
            let (all, callers, closers) = services.entry(place).or_default();
            let counts = if place.served_here { sums.served } else { sums.called };
            all.add(counts);
            match program(sums.actor).or(holder) {
                Some(closer) if place.served_here => {
                    closers.entry(closer.pid).or_insert((closer, Counts::default())).1.add(counts);
                }
                Some(caller) => {
                    let (pids, of_program) = callers.entry(caller.comm).or_default();
                    pids.insert(caller.pid);
                    of_program.add(counts);
                }
                None => {}
            }
        }
        let ends = services.into_iter().map(|(place, (counts, callers, closers))| {
            let Place { netns, service, served_here } = place;
            let of = |(comm, (pids, counts)): (String, (BTreeSet<u32>, Counts))| {
                let pid = pids.first().copied().unwrap_or_default();
                (Program { pid, comm, processes: pids.len() as u64 }, counts)
            };
            let callers = callers.into_iter().map(of).collect();
            Ends {
                netns,
                service,
                served_here,
                counts,
                callers,
                closers: most_unserved_first(closers.into_values().collect()),
            }
        });
        let mut ends: Vec<Ends> = ends.collect();
        ends.sort_by_key(|e| (e.netns, e.service, e.served_here));
        ends
    }
}

/// The service of a group, and the process that held a connection which began before the trace.
fn settled(whose: &Whose, facts: &Facts<'_>) -> Option<(Place, Option<Program>)> {
    match whose {
        Whose::Told(place) => Some((*place, None)),
        Whose::Untold(conn) => Some((facts.place(conn)?, facts.holder(conn))),
    }
}

/// Processes that are kept of those that closed.
const CLOSERS: usize = 16;

/// Those that closed most without serving, at the front, and only so many.
pub(in crate::aggregate) fn most_unserved_first(mut closers: Vec<(Program, Counts)>) -> Vec<(Program, Counts)> {
    closers
        .sort_by_key(|(program, c)| (std::cmp::Reverse(c.unanswered + c.brief + c.at_once.unwrap_or(0)), program.pid));
    closers.truncate(CLOSERS);
    closers
}

fn empty(Place { netns, service, served_here }: Place, sent: Option<SentFor>, program: Option<Program>) -> Resets {
    Resets { sent, program, ..Resets::none(netns, service, served_here) }
}

/// With the number of its processes, and one of them.
fn numbered(mut resets: Resets, pids: &BTreeSet<u32>) -> Resets {
    if let (Some(program), Some(first)) = (&mut resets.program, pids.first()) {
        (program.pid, program.processes) = (*first, pids.len() as u64);
    }
    resets
}
