//! Who most likely left TIME_WAIT rows of a listener behind, with how much certainty and why.
//!
//! Input: a view and the rows in question. Output: up to three [`Candidate`]s, the most certain first. The kernel keeps no
//! owner for these rows, so every name has its evidence: seen before with an owner (by cookie, else by four-tuple), else the
//! owner of the listener that the row belongs to. Who opens connections that go out is [`crate::diagnose::port_use`].

use rustc_hash::FxHashMap;

use crate::aggregate::Role;
use crate::aggregate::attribution::OwnerEvidence;
use crate::diagnose::view::View;
use crate::model::{Process, Socket, State};

/// Somebody who may have left rows behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub pid: u32,
    pub comm: String,
    /// Every process meant, when it is a service of several.
    pub pids: Vec<u32>,
    /// Part of the rows that this evidence gives to it, 0 to 1.
    pub share: f64,
    /// 0 to 1.
    pub confidence: f64,
    pub reason: String,
}

/// Candidates that are printed.
const TOP: usize = 3;

/// Works out who left these rows, which have one role, listener and destination in common.
#[must_use]
pub fn attribute(view: &View<'_>, rows: &[&Socket]) -> Vec<Candidate> {
    let Some(first) = rows.first() else { return Vec::new() };
    let mut candidates = seen_before(view, rows);
    let exact: f64 = candidates.iter().map(|c| c.share).sum();
    // What was seen before speaks for itself; the rest is guessed from what is there now.
    if exact < 0.999 {
        let guessed = match view.role(first) {
            Role::Server(_) => of_listener(view, first, rows),
            _ => Vec::new(),
        };
        for mut guess in guessed {
            guess.share *= 1.0 - exact;
            match candidates.iter_mut().find(|c| c.pid == guess.pid) {
                Some(known) => known.share += guess.share,
                None => candidates.push(guess),
            }
        }
    }
    candidates.sort_by(|a, b| (b.confidence * b.share).total_cmp(&(a.confidence * a.share)).then(a.pid.cmp(&b.pid)));
    candidates.truncate(TOP);
    candidates
}

/// `nginx (812) 92 %: it listens on 10.0.0.1:80`, for each candidate.
#[must_use]
pub fn in_words(candidates: &[Candidate]) -> Vec<String> {
    candidates
        .iter()
        .map(|c| format!("{} ({}) {:.0} % certain: {}", c.comm, c.pid, c.confidence * 100.0, c.reason))
        .collect()
}

fn candidate(process: &Process, share: f64, confidence: f64, reason: String) -> Candidate {
    Candidate { pid: process.pid, comm: process.comm.clone(), pids: vec![process.pid], share, confidence, reason }
}

/// Rows that were full sockets with an owner in the snapshot before, or that somebody has seen since.
fn seen_before(view: &View<'_>, rows: &[&Socket]) -> Vec<Candidate> {
    let mut by_pid: FxHashMap<u32, (usize, Candidate)> = FxHashMap::default();
    let total = rows.len() as f64;
    for row in rows {
        let known = row.cookie.and_then(|cookie| view.now.known_owners.get(&(row.netns, cookie)));
        if let Some(known) = known {
            let new = || Candidate {
                pid: known.pid,
                comm: known.comm.clone(),
                pids: vec![known.pid],
                share: 0.0,
                confidence: known.confidence,
                reason: known.reason.clone(),
            };
            by_pid.entry(known.pid).or_insert_with(|| (0, new())).0 += 1;
            continue;
        }
        let Some((before, earlier)) = view.before.zip(view.earlier(row)) else { continue };
        let Some(holder) = before.owners.of(earlier).1.first() else { continue };
        let process = before.owners.process(holder);
        let by_cookie = row.cookie.is_some() && row.cookie == earlier.cookie;
        let (evidence, how) = if by_cookie {
            (OwnerEvidence::SeenBefore, "cookie")
        } else {
            (OwnerEvidence::SameFourTuple, "four-tuple")
        };
        let new = || {
            candidate(process, 0.0, evidence.confidence(), format!("it held the same connection before (same {how})"))
        };
        by_pid.entry(process.pid).or_insert_with(|| (0, new())).0 += 1;
    }
    let mut found: Vec<Candidate> =
        by_pid.into_values().map(|(n, c)| Candidate { share: n as f64 / total, ..c }).collect();
    found.sort_by_key(|c| c.pid);
    found
}

/// The side that listened: the listener's owners.
fn of_listener(view: &View<'_>, first: &Socket, rows: &[&Socket]) -> Vec<Candidate> {
    let listeners = view.listener_rows(first);
    let Some(listener) = listeners.first() else { return Vec::new() };
    let mut owners: Vec<&Process> = listeners.iter().flat_map(|l| view.processes(l)).collect();
    owners.sort_by_key(|p| p.pid);
    owners.dedup_by_key(|p| p.pid);
    let exact = !listener.local.is_wildcard();
    let at = listener.local;
    match owners.as_slice() {
        [] => Vec::new(),
        [only] => {
            let mut confidence = OwnerEvidence::Listener { exact }.confidence();
            let mut reason = format!("it owns the listener {at}{}", container_behind(only));
            let oldest = rows.iter().filter_map(|s| s.state_age()).map(|a| a.min_ms).max();
            let started = view.process(only.pid).and_then(|p| p.running_ms);
            if started.zip(oldest).is_some_and(|(up, age)| up < age) {
                confidence -= 0.3;
                reason
                    .push_str(", though it started after the oldest of them: a previous instance may have left those");
            }
            vec![candidate(only, 1.0, confidence, reason)]
        }
        several => {
            // One service of several processes: accepted sockets that still live weigh who works most.
            let mut live: FxHashMap<u32, usize> = FxHashMap::default();
            for socket in &view.now.sockets {
                if socket.state == State::Established && socket.local.port == first.local.port && socket.inode.is_some()
                {
                    for process in view.processes(socket) {
                        *live.entry(process.pid).or_default() += 1;
                    }
                }
            }
            let lead = several.iter().max_by_key(|p| (live.get(&p.pid).copied().unwrap_or(0), u32::MAX - p.pid));
            lead.map(|lead| Candidate {
                pids: several.iter().map(|p| p.pid).collect(),
                ..candidate(
                    lead,
                    1.0,
                    OwnerEvidence::ListenerOfService.confidence(),
                    format!("{} processes own the listener {at} together; which one cannot be told", several.len()),
                )
            })
            .into_iter()
            .collect()
        }
    }
}

/// docker-proxy and conmon stand for a container.
fn container_behind(process: &Process) -> String {
    match process.identity.short_label() {
        Some(container) if matches!(process.comm.as_str(), "docker-proxy" | "conmon") => {
            format!(" for the container {container}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::testkit::{World, listen, row, time_wait};
    use crate::model::snapshot::KnownOwner;

    fn first(world: &World, rows: &[Socket]) -> Option<Candidate> {
        let rows: Vec<&Socket> = rows.iter().collect();
        let view = View::new(&world.now, world.before.as_ref(), &world.thresholds);
        attribute(&view, &rows).into_iter().next()
    }

    #[test]
    fn the_owner_of_the_listener_left_what_the_server_closed() {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 5)).hold(812, "nginx", 3, 80 << 16);
        let left = [time_wait("10.0.0.1:80", "10.9.9.9:40000", 30_000)];
        let found = first(&world, &left).unwrap();
        assert_eq!((found.pid, found.confidence), (812, 0.92));
        world.now.processes.get_mut(&812).unwrap().running_ms = Some(5_000);
        let found = first(&world, &left).unwrap();
        assert!((found.confidence - 0.62).abs() < 1e-9 && found.reason.contains("previous instance"), "{found:?}");
        world.hold(813, "nginx", 3, 80 << 16);
        let found = first(&world, &left).unwrap();
        assert_eq!((found.pids.len(), found.confidence), (2, 0.9));
    }

    #[test]
    fn what_was_seen_before_is_all_but_certain() {
        let mut world = World::new();
        let live = row(State::Established, "10.0.0.1:41000", "10.9.9.9:443");
        let inode = live.inode;
        world.add(live).hold(7, "java", 9, inode).later(2000);
        world.now.sockets = vec![time_wait("10.0.0.1:41000", "10.9.9.9:443", 59_000)];
        let found = first(&world, &world.now.sockets.clone()).unwrap();
        assert_eq!((found.pid, found.confidence), (7, 0.99));
        let mut world = World::new();
        let left = time_wait("10.0.0.1:41000", "10.9.9.9:443", 59_000);
        let owner = KnownOwner { pid: 9, comm: "wrk".into(), confidence: 0.98, reason: "it closed first".into() };
        world.now.known_owners.insert((left.netns, left.cookie.unwrap()), owner);
        assert_eq!(first(&world, &[left]).unwrap().pid, 9);
    }
}
