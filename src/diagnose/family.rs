//! Processes of one program that do one job: the workers of a master, what serves one listener, a service or container.
//!
//! Input: a process, and where its connections came in. Output: its [`Kin`], which is the same for all that belong
//! together, and the words for them. Not here: what is wrong with their connections.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnose::finding::{Evidence, Finding};
use crate::diagnose::view::View;
use crate::model::{Endpoint, NetnsId, Process};
use crate::text;

/// What makes processes of one program one. What a shell starts one by one has none of these in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tie {
    /// Their connections came in there. Whoever started them may have ended, as what inetd starts does.
    Listener(Endpoint),
    /// The service of systemd or the container that they run in.
    Place(String),
    /// The first of their ancestors that has sockets: a master, or a supervisor.
    Master(u32),
}

/// A program with its job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kin {
    netns: Option<NetnsId>,
    pub program: String,
    tie: Tie,
}

impl Kin {
    /// Of a process, whose connections came in on this listener if there is one.
    #[must_use]
    pub fn of(view: &View<'_>, process: &Process, netns: Option<NetnsId>, listener: Option<Endpoint>) -> Kin {
        let tie = match (listener, place(process)) {
            (Some(at), _) => Tie::Listener(at),
            (None, Some(place)) => Tie::Place(place.to_owned()),
            (None, None) => Tie::Master(master(view, process)),
        };
        Kin { netns, program: view.now.program(process).to_owned(), tie }
    }
}

/// Whose rows they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Culprit {
    Process(u32),
    /// Several processes of one program, of which each has a few.
    Family(Kin),
    /// The process is not known.
    User(Option<u32>),
}

/// Of groups of rows, each of one process, the kin that it shares with another process. What keeps groups apart
/// otherwise is `K`; a group has no kin when it has so many rows that its process speaks for itself.
pub fn of_several<K: Ord>(groups: impl Iterator<Item = (K, Option<(u32, Kin)>)>) -> Vec<Option<Kin>> {
    let groups: Vec<(K, Option<(u32, Kin)>)> = groups.collect();
    let mut pids: BTreeMap<(&K, &Kin), BTreeSet<u32>> = BTreeMap::new();
    for (key, member) in &groups {
        if let Some((pid, kin)) = member {
            pids.entry((key, kin)).or_default().insert(*pid);
        }
    }
    let shared = |(key, member): &(K, Option<(u32, Kin)>)| {
        let (_, kin) = member.as_ref()?;
        (pids[&(key, kin)].len() > 1).then(|| kin.clone())
    };
    groups.iter().map(shared).collect()
}

/// A container, or a unit that runs one service: a scope is a session, with whatever was typed there.
fn place(process: &Process) -> Option<&str> {
    let identity = &process.identity;
    let service = identity.unit.as_deref().filter(|unit| unit.ends_with(".service"));
    identity.container.as_deref().or(service)
}

/// Where its line of ancestors that are known ends: at the first that runs another program, or is not known.
fn master(view: &View<'_>, process: &Process) -> u32 {
    let program = |pid: u32| view.process(pid).and_then(|f| f.program());
    let own = program(process.pid);
    let mut line = vec![process.pid];
    while let Some(parent) = line.last().and_then(|pid| view.process(*pid)?.parent) {
        if parent <= 1 || line.contains(&parent) || view.process(parent).is_none() {
            break;
        }
        line.push(parent);
        if program(parent) != own {
            break;
        }
    }
    line.last().copied().unwrap_or(process.pid)
}

/// Some processes of one kin that have rows, and how many.
#[derive(Clone, Debug, Default)]
pub struct Members<'a> {
    rows: BTreeMap<u32, (&'a Process, usize)>,
}

impl<'a> Members<'a> {
    /// Of the holders of some rows, one for each.
    #[must_use]
    pub fn of(holders: impl IntoIterator<Item = &'a Process>) -> Members<'a> {
        let mut members = Members::default();
        for process in holders {
            members.rows.entry(process.pid).or_insert((process, 0)).1 += 1;
        }
        members
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Sorted.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.rows.keys().copied().collect()
    }

    /// The one with most rows, and of equals the first.
    #[must_use]
    pub fn lead(&self) -> Option<(&'a Process, usize)> {
        self.rows.values().rev().max_by_key(|(_, n)| *n).copied()
    }

    /// The parent that all have in common, unless it is that of every orphan.
    fn parent(&self, view: &View<'_>) -> Option<u32> {
        let mut parents = self.rows.keys().map(|pid| view.process(*pid).and_then(|f| f.parent));
        let first = parents.next()??;
        (first > 1 && parents.all(|parent| parent == Some(first))).then_some(first)
    }

    /// `30 processes of gunicorn (children of 812)`, `(web.service)` without such a parent; `gunicorn (815)` of one.
    #[must_use]
    pub fn name(&self, view: &View<'_>) -> String {
        let Some((lead, _)) = self.lead() else { return "an unknown process".into() };
        if self.len() == 1 {
            return text::name(lead);
        }
        let of = match (self.parent(view), place(lead)) {
            (Some(parent), _) => format!(" (children of {parent})"),
            (None, Some(_)) => {
                let unit = lead.identity.container_label().or(lead.identity.unit.as_deref());
                unit.map_or_else(String::new, |unit| format!(" ({unit})"))
            }
            (None, None) => String::new(),
        };
        format!("{} processes of {}{of}", text::grouped(self.len() as u64), lead.comm)
    }

    /// Adds how many there are, and who started them, when there are several.
    #[must_use]
    pub fn onto(&self, view: &View<'_>, finding: Finding) -> Finding {
        if self.len() < 2 {
            return finding;
        }
        let name = |pid: u32| view.named(pid).map_or_else(|| pid.to_string(), text::name);
        finding
            .evidence("processes", Evidence::Count(self.len() as u64))
            .evidence("most_of_one_process", Evidence::count(self.lead().map(|(_, n)| n as u64)))
            .evidence_if("parent", self.parent(view).map(|pid| Evidence::Text(name(pid))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Severity;
    use crate::diagnose::testkit::{World, info, listen, row};
    use crate::model::{Socket, State};

    const MASTER: u32 = 812;

    /// A connection that its peer closed so long ago, after our answer to its request.
    fn closed(ms: u64, local: &str, peer: &str, recv_q_bytes: u32) -> Socket {
        let times = [
            ("last_ack_recv_ms", ms),
            ("last_data_recv_ms", ms + 20),
            ("last_data_sent_ms", ms + 10),
            ("bytes_sent", 100),
            ("bytes_received", 900),
        ];
        info(Socket { recv_q_bytes, ..row(State::CloseWait, local, peer) }, &times)
    }

    fn parent(world: &mut World, pid: u32, parent: u32) {
        world.now.processes.get_mut(&pid).unwrap().parent = Some(parent);
    }

    /// `master` listens, and its children hold one connection each, this one of so many closed 200 ms after the next.
    fn children(n: u32, comm: &str, connection: impl Fn(u64, u32) -> Socket) -> World {
        let mut world = World::new();
        world.add(listen("10.0.0.1:80", 0, 128)).hold(MASTER, "server", 3, 80 << 16);
        for i in 0..n {
            let socket = connection(u64::from(i) * 200, i);
            world.hold(900 + i, comm, 0, socket.inode).add(socket);
            parent(&mut world, 900 + i, MASTER);
        }
        world
    }

    fn accepted(recv_q_bytes: u32) -> impl Fn(u64, u32) -> Socket {
        move |ms, i| closed(ms, "10.0.0.1:80", &format!("10.0.0.9:{}", 40_000 + i), recv_q_bytes)
    }

    fn outgoing(recv_q_bytes: u32) -> impl Fn(u64, u32) -> Socket {
        move |ms, i| closed(ms, &format!("10.0.0.1:{}", 40_000 + i), "10.0.0.9:5432", recv_q_bytes)
    }

    /// As a second sample, 2 s later: what was closed since was open in the first.
    fn leaks(mut world: World) -> Vec<Finding> {
        world.later(2000);
        let before = world.before.as_mut().unwrap();
        before.sockets.retain(|s| s.state != State::CloseWait || s.state_age().is_none_or(|a| a.min_ms >= 2000));
        warnings(&world)
    }

    fn warnings(world: &World) -> Vec<Finding> {
        let found = world.diagnose().findings.into_iter();
        found.filter(|f| f.rule == "close-wait-leak" && f.severity > Severity::Info).collect()
    }

    #[test]
    fn one_row_each_of_many_children_is_one_leak_that_names_them_all() {
        let found = leaks(children(40, "server", accepted(1)));
        let [leak] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(
            leak.summary,
            "40 processes of server (children of 812) do not close connections on 10.0.0.1:80 that the other side closed: \
             40 in CLOSE_WAIT, 5.0 a second more, the oldest for 7.8 s; EOF is unread"
        );
        assert_eq!((leak.severity, leak.subject.pid, leak.subject.pids.len()), (Severity::Warning, Some(900), 40));
        assert!(leak.evidence.contains(&("processes", Evidence::Count(40))), "{leak:#?}");
        assert!(leak.evidence.contains(&("parent", Evidence::Text("server (812)".into()))), "{leak:#?}");
        assert_eq!(leak.exhausted_in_ms, None, "no process runs out of descriptors");
        assert_eq!(leaks(children(40, "server", accepted(5000))).len(), 1, "requests that nobody read");
        assert!(leaks(children(15, "server", accepted(1))).is_empty());
    }

    #[test]
    fn what_an_activator_started_is_tied_by_its_listener_though_its_parents_are_gone() {
        let mut world = children(40, "sleep", accepted(1));
        for pid in 900..940 {
            parent(&mut world, pid, 1);
        }
        let found = leaks(world);
        let [leak] = &found[..] else { panic!("{found:#?}") };
        assert!(leak.summary.starts_with("40 processes of sleep do not close"), "{}", leak.summary);
        assert!(leak.causes.left.iter().any(|h| h.cause.id == "inherited"), "another program listens: {leak:#?}");
    }

    #[test]
    fn children_that_are_at_work_that_end_or_that_have_a_pool_each_are_no_leak() {
        let half_closed = |ms: u64, i: u32| {
            let mut socket = accepted(1)(ms, i);
            for (field, value) in [("last_data_recv_ms", ms), ("last_data_sent_ms", ms + 30), ("bytes_sent", 0)] {
                assert!(socket.info.as_mut().unwrap().set(field, value));
            }
            socket
        };
        assert!(leaks(children(60, "server", half_closed)).is_empty(), "the client waits for its answer");
        for recv_q in [0, 1, 32] {
            assert!(leaks(children(60, "server", outgoing(recv_q))).is_empty(), "one idle connection each");
        }
        // For each that comes one ends, with its process.
        let mut world = children(40, "server", accepted(1));
        for n in 0..10u32 {
            let left = accepted(1)(9000, 100 + n);
            world.hold(2000 + n, "server", 0, left.inode).add(left);
        }
        world.later(2000);
        let owners = world.now.owners.clone();
        world.now.sockets.truncate(41);
        let before = world.before.as_mut().unwrap();
        before.owners = owners;
        before.sockets.retain(|s| s.state != State::CloseWait || s.state_age().is_none_or(|a| a.min_ms >= 2000));
        assert!(warnings(&world).is_empty());
    }

    #[test]
    fn answers_that_no_worker_reads_are_summed_up_by_master_or_unit_and_never_of_what_a_shell_started() {
        let found = leaks(children(40, "worker", outgoing(5000)));
        assert_eq!(found[0].summary.split(" (").next(), Some("40 processes of worker"), "a supervisor with sockets");
        let mut alone = children(40, "curl", outgoing(5000));
        for pid in 900..940 {
            parent(&mut alone, pid, 77);
        }
        let mut service = World::new();
        service.now = alone.now.clone();
        assert!(leaks(alone).is_empty(), "nothing is known of what started them");
        for process in &mut service.now.owners.processes {
            process.identity.unit = Some("fetch.service".into());
        }
        assert!(leaks(service)[0].summary.starts_with("40 processes of curl (children of 77) do not close"));
    }

    #[test]
    fn rows_that_stay_are_told_once_for_all_workers() {
        let mut world = children(6, "server", |_, i| outgoing(1)(300_000, i));
        world.later(2000);
        let found: Vec<Finding> =
            world.diagnose().findings.into_iter().filter(|f| f.rule == "close-wait-leak").collect();
        let [finding] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(
            finding.summary,
            "6 processes of server (children of 812) keep 6 connections to 10.0.0.9:5432 open that the other side closed, \
             the oldest for 5 min; EOF is unread"
        );
    }
}
