//! Socket owners, remembered beyond the moment at which they could be read.
//!
//! Input: owner tables, as they are scanned from time to time. Output: a small number per set of processes, kept by
//! a tracker with each row, so that a TIME_WAIT has the owner its socket had; and for a row first seen in TIME_WAIT,
//! its likely owner and the reason.
#![allow(clippy::iter_over_hash_type, reason = "every entry is treated alike, in whichever order")]

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::aggregate::attribution::OwnerEvidence;
use crate::aggregate::groups::processes_label;
use crate::aggregate::owner::{OwnerId, SetId};
use crate::aggregate::roles::{Listeners, Role};
use crate::aggregate::short_lived::SHORT_MS;
use crate::model::cgroup::Identity;
use crate::model::{Endpoint, Holder, NetnsId, OwnerTable, Process, Socket};

/// Most destinations remembered.
const DESTINATIONS: usize = 4096;
/// Names remembered per destination.
const NAMES: usize = 8;
/// Unused sets are dropped only when they outnumber the used ones by this many.
const SPARE: usize = 1024;

/// How an owner is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It was read from the socket itself, now or before it became a timewait socket.
    Exact(SetId),
    /// It was traced closing the socket.
    Closer(SetId),
    /// Probably a process of this name.
    Likely {
        comm: Arc<str>,
        confidence: f64,
        why: &'static str,
    },
    Unknown,
}

/// From this many ended processes of one command on, those that come and go are one group.
const COME_AND_GO: usize = 2;
/// Most processes asked at once whether they still run.
const ASKED: usize = 2000;

struct Set {
    /// Inode and descriptor are those of the first socket seen with this set: only the processes mean anything.
    holders: Box<[Holder]>,
    label: Arc<str>,
    comm: Arc<str>,
    /// When the oldest of its processes was first seen; `None`: it was there from the beginning on.
    came_ms: Option<u64>,
    /// None of its processes runs any more.
    ended: bool,
    /// One of those of its command that come and go.
    short_lived: bool,
}

/// A name that was seen connecting to a destination.
struct Caller {
    comm: Arc<str>,
    seen: u32,
    /// How many of these were seen to appear. Long-lived connections say little: timewait sockets come from those
    /// that come and go.
    came: u32,
}

/// The memory of owners.
#[derive(Default)]
pub struct Ownership {
    /// Processes of all sets; a table without holders of its own.
    table: OwnerTable,
    /// Index of a process (pid, name) in the table.
    places: FxHashMap<(u32, Arc<str>), u32>,
    /// When each process of the table was first seen, as in [`Set::came_ms`].
    arrived: Vec<Option<u64>>,
    sets: Vec<Option<Set>>,
    by_processes: FxHashMap<Box<[u32]>, SetId>,
    /// Freed set ids.
    free_sets: Vec<SetId>,
    free_processes: Vec<u32>,
    in_use: usize,
    /// Owner of each listening endpoint, by namespace.
    listeners: FxHashMap<(Option<NetnsId>, Endpoint), SetId>,
    /// Names seen connecting to each destination.
    destinations: FxHashMap<(Option<NetnsId>, Endpoint), Vec<Caller>>,
    names: FxHashSet<Arc<str>>,
    /// When what is learnt now was so; `None` at the beginning.
    now_ms: Option<u64>,
}

impl Known {
    /// The processes, where they are known and not only likely.
    #[must_use]
    pub fn owner(&self) -> Option<SetId> {
        match self {
            Known::Exact(owner) | Known::Closer(owner) => Some(*owner),
            Known::Likely { .. } | Known::Unknown => None,
        }
    }
}

impl Ownership {
    /// The processes that ids refer to.
    #[must_use]
    pub fn table(&self) -> &OwnerTable {
        &self.table
    }

    /// Takes from a scan whether every process could be read.
    pub fn note_coverage(&mut self, table: &OwnerTable) {
        self.table.collected = true;
        self.table.unreadable = table.unreadable;
        self.table.unlisted = table.unlisted;
    }

    /// The id for the processes of these holders; nobody for none.
    pub fn remember(&mut self, owners: &OwnerTable, holders: &[Holder]) -> OwnerId {
        let mut processes: Vec<u32> = Vec::with_capacity(holders.len());
        for holder in holders {
            let process = owners.process(holder);
            let key = (process.pid, self.name(&process.comm));
            let place = self.places.get(&key).copied().unwrap_or_else(|| {
                let place = self.free_processes.pop().unwrap_or_else(|| {
                    self.table.processes.push(process.clone());
                    self.arrived.push(None);
                    u32::try_from(self.table.processes.len() - 1).unwrap_or(u32::MAX)
                });
                self.table.processes[place as usize] = process.clone();
                self.arrived[place as usize] = self.now_ms;
                self.places.insert(key, place);
                place
            });
            // A container is renamed, or had no name yet.
            let known = &mut self.table.processes[place as usize].identity;
            if process.identity != Identity::default() && *known != process.identity {
                known.clone_from(&process.identity);
            }
            processes.push(place);
        }
        processes.sort_unstable();
        processes.dedup();
        if processes.is_empty() {
            return OwnerId::NOBODY;
        }
        if let Some(id) = self.by_processes.get(processes.as_slice()) {
            if let Some(Some(set)) = self.sets.get_mut(id.place()) {
                set.ended = false;
            }
            return (*id).into();
        }
        let fd = |place: u32| {
            let pid = self.table.processes[place as usize].pid;
            holders.iter().find(|h| owners.process(h).pid == pid).map_or(0, |h| h.fd)
        };
        let set = Set {
            holders: processes.iter().map(|p| Holder { inode: None, process: *p, fd: fd(*p) }).collect(),
            label: processes_label(&processes, &self.table).into(),
            comm: self.name(&self.table.processes[processes[0] as usize].comm.clone()),
            came_ms: processes.iter().map(|place| self.arrived[*place as usize]).min().flatten(),
            ended: false,
            short_lived: false,
        };
        let id = self.free_sets.pop().unwrap_or_else(|| {
            self.sets.push(None);
            SetId::new(self.sets.len() - 1)
        });
        self.sets[id.place()] = Some(set);
        self.by_processes.insert(processes.into_boxed_slice(), id);
        self.in_use += 1;
        id.into()
    }

    /// One shared text per name: short-lived clients come by the thousand under the same one.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The id for one traced process. `now` is its current name, if it still runs; the name in the trace is that of
    /// a thread.
    pub fn traced(&mut self, pid: u32, thread: &str, now: Option<String>) -> OwnerId {
        let lived = || self.table.processes.iter().rev().find(|p| p.pid == pid && self.is_known(p)).cloned();
        let process = match now {
            Some(comm) => {
                let known = self.places.get(&(pid, Arc::from(&*comm))).map(|p| &self.table.processes[*p as usize]);
                known.cloned().unwrap_or_else(|| Process { pid, comm, ..Process::default() })
            }
            None => lived().unwrap_or_else(|| Process { pid, comm: thread.to_owned(), ..Process::default() }),
        };
        let holder = Holder { inode: None, process: 0, fd: 0 };
        self.remember(&OwnerTable::new(vec![process], vec![holder], 0), &[holder])
    }

    /// Whether a process of the table is in use, and not a free slot.
    fn is_known(&self, process: &Process) -> bool {
        self.places.contains_key(&(process.pid, Arc::from(&*process.comm)))
    }

    fn set(&self, id: SetId) -> Option<&Set> {
        self.sets.get(id.place())?.as_ref()
    }

    /// The processes behind an id.
    #[must_use]
    pub fn holders(&self, id: SetId) -> &[Holder] {
        self.set(id).map_or(&[], |s| &s.holders)
    }

    /// The label of a set of processes: `nginx(812 +3)`.
    #[must_use]
    pub fn label(&self, id: SetId) -> Option<Arc<str>> {
        self.set(id).map(|s| Arc::clone(&s.label))
    }

    /// Name of the first process of a set.
    #[must_use]
    pub fn comm(&self, id: SetId) -> Option<Arc<str>> {
        self.set(id).map(|s| Arc::clone(&s.comm))
    }

    /// Sets the time of what is learnt from here on; what was learnt before any time was there from the beginning on.
    pub fn at(&mut self, now_ms: u64) {
        self.now_ms = Some(now_ms);
    }

    /// Tells the processes that come and go from those that stay: of a command of which several have ended, those, and those
    /// that came a moment ago. `sets`: those that have rows, and whether they hold one now. `runs`: whether the process of
    /// this id still has this name.
    pub fn part_short_lived(
        &mut self,
        sets: impl Iterator<Item = (SetId, bool)>,
        mut runs: impl FnMut(u32, &str) -> bool,
    ) {
        let mut asked = 0;
        let mut ended: FxHashMap<Arc<str>, usize> = FxHashMap::default();
        let sets: Vec<SetId> = sets
            .filter_map(|(id, holds)| {
                let set = self.sets.get_mut(id.place())?.as_mut()?;
                if holds {
                    set.ended = false;
                } else if !set.ended && asked < ASKED {
                    asked += 1;
                    set.ended = set.holders.iter().all(|holder| {
                        let process = self.table.process(holder);
                        !runs(process.pid, &process.comm)
                    });
                }
                if set.ended {
                    *ended.entry(Arc::clone(&set.comm)).or_default() += 1;
                }
                Some(id)
            })
            .collect();
        for id in sets {
            let Some(set) = self.sets[id.place()].as_mut() else { continue };
            let comes_and_goes = ended.get(&set.comm).is_some_and(|n| *n >= COME_AND_GO);
            let is_new = set.came_ms.zip(self.now_ms).is_some_and(|(came, now)| now.saturating_sub(came) < SHORT_MS);
            set.short_lived = comes_and_goes && (set.ended || is_new);
        }
    }

    /// The command of a set that is one of those that come and go.
    #[must_use]
    pub fn short_lived(&self, id: SetId) -> Option<Arc<str>> {
        self.set(id).filter(|set| set.short_lived).map(|set| Arc::clone(&set.comm))
    }

    /// Learns from a socket whose owner was just found; `came`: the previous sample did not have it.
    pub fn learn(&mut self, socket: &Socket, role: Role, listeners: &Listeners, owner: SetId, came: bool) {
        let Some(comm) = self.comm(owner) else { return };
        match role {
            Role::Listener(i) => {
                self.listeners.insert((socket.netns, listeners.get(i).local), owner);
            }
            Role::Client => {
                let key = (socket.netns, socket.peer.normalised());
                if self.destinations.len() >= DESTINATIONS && !self.destinations.contains_key(&key) {
                    // Names seen only once are worth the least.
                    self.destinations.retain(|_, names| names.iter().any(|caller| caller.seen > 1));
                    if self.destinations.len() >= DESTINATIONS {
                        return;
                    }
                }
                let names = self.destinations.entry(key).or_default();
                if let Some(caller) = names.iter_mut().find(|caller| caller.comm == comm) {
                    caller.seen = caller.seen.saturating_add(1);
                    caller.came = caller.came.saturating_add(came.into());
                } else if names.len() < NAMES {
                    names.push(Caller { comm, seen: 1, came: came.into() });
                }
            }
            Role::Server(_) | Role::FormerServer | Role::Bound | Role::Unknown => {}
        }
    }

    /// The likely owner of a row without holders.
    #[must_use]
    pub fn attribute(
        &self,
        socket: &Socket,
        (owner, traced): (OwnerId, bool),
        role: Role,
        listeners: &Listeners,
    ) -> Known {
        if let Some(set) = owner.set() {
            return if traced { Known::Closer(set) } else { Known::Exact(set) };
        }
        let likely = |comm: &Arc<str>, evidence: OwnerEvidence, why| Known::Likely {
            comm: Arc::clone(comm),
            confidence: evidence.confidence(),
            why,
        };
        let to = |seen: u32, share| OwnerEvidence::Destination { seen: seen.into(), share };
        match role {
            Role::Server(i) => {
                let listener = listeners.get(i);
                let Some(set) = self.listeners.get(&(socket.netns, listener.local)).and_then(|id| self.set(*id)) else {
                    return Known::Unknown;
                };
                let evidence = OwnerEvidence::Listener { exact: !listener.local.is_wildcard() };
                likely(&set.comm, evidence, "holds the listener")
            }
            Role::Client => {
                let Some(names) = self.destinations.get(&(socket.netns, socket.peer.normalised())) else {
                    return Known::Unknown;
                };
                let all: u32 = names.iter().map(|caller| caller.came).sum();
                match names.iter().max_by_key(|caller| caller.came) {
                    Some(Caller { comm, seen, .. }) if names.len() == 1 => {
                        likely(comm, to(*seen, None), "the only one seen connecting there")
                    }
                    Some(Caller { comm, seen, came }) if came * 2 > all => {
                        let share = f64::from(*came) / f64::from(all);
                        likely(comm, to(*seen, Some(share)), "most often seen coming there")
                    }
                    _ => Known::Unknown,
                }
            }
            Role::Listener(_) | Role::FormerServer | Role::Bound | Role::Unknown => Known::Unknown,
        }
    }

    /// Drops sets that no row has any more, once there are many. `each_in_use` must mark every set in use.
    pub fn forget(&mut self, each_in_use: impl FnOnce(&mut dyn FnMut(SetId))) {
        if self.in_use <= SPARE {
            return;
        }
        let mut marked = vec![false; self.sets.len()];
        let mut mark = |id: SetId| {
            if let Some(slot) = marked.get_mut(id.place()) {
                *slot = true;
            }
        };
        each_in_use(&mut mark);
        #[allow(clippy::iter_over_hash_type, reason = "marks are the same in any order")]
        for id in self.listeners.values() {
            mark(*id);
        }
        let (sets, free) = (&mut self.sets, &mut self.free_sets);
        self.by_processes.retain(|_, id| {
            let keep = marked[id.place()];
            if !keep {
                sets[id.place()] = None;
                free.push(*id);
            }
            keep
        });
        self.in_use = self.by_processes.len();
        let used: FxHashSet<u32> = self.by_processes.keys().flat_map(|p| p.iter().copied()).collect();
        let free = &mut self.free_processes;
        self.places.retain(|_, place| {
            let keep = used.contains(place);
            if !keep {
                free.push(*place);
            }
            keep
        });
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }

    /// How many sets are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.in_use
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sysctl::PORT_RANGE;
    use crate::model::{Inode, State};

    fn table(processes: &[(u32, &str)]) -> OwnerTable {
        let all: Vec<Process> = processes
            .iter()
            .map(|(pid, comm)| Process { pid: *pid, comm: (*comm).into(), ..Process::default() })
            .collect();
        let holders = (0..all.len())
            .map(|i| Holder { inode: Inode::new(9), process: u32::try_from(i).unwrap(), fd: 3 })
            .collect();
        OwnerTable::new(all, holders, 0)
    }

    fn socket(state: State, local: &str, peer: &str) -> Socket {
        Socket { state, local: Endpoint::at(local), peer: Endpoint::at(peer), ..Socket::default() }
    }

    #[test]
    fn the_same_processes_are_the_same_number_and_keep_their_label() {
        let mut ownership = Ownership::default();
        let (one, two) = (table(&[(1, "nginx"), (2, "nginx")]), table(&[(2, "nginx"), (1, "nginx")]));
        let id = ownership.remember(&one, one.holders(Inode::new(9)));
        assert_eq!(ownership.remember(&two, two.holders(Inode::new(9))), id);
        assert_eq!(ownership.label(id.set().unwrap()).as_deref(), Some("nginx(1 +1)"));
        assert_eq!(ownership.remember(&one, &[]), OwnerId::NOBODY);
        let again = table(&[(1, "postgres")]);
        assert_ne!(
            ownership.remember(&again, again.holders(Inode::new(9))),
            id,
            "a pid that was used again is another process"
        );
    }

    #[test]
    fn processes_that_come_and_go_are_told_from_those_that_stay() {
        let mut ownership = Ownership::default();
        let set = |ownership: &mut Ownership, pid| {
            let t = table(&[(pid, "curl")]);
            ownership.remember(&t, t.holders(Inode::new(9))).set().unwrap()
        };
        let stays = set(&mut ownership, 1);
        ownership.at(1000);
        let (first, second, idle) = (set(&mut ownership, 2), set(&mut ownership, 3), set(&mut ownership, 4));
        ownership.at(20_000);
        let new = set(&mut ownership, 5);
        let part = |ownership: &mut Ownership, running: &[u32]| {
            let sets = [(stays, true), (first, false), (second, false), (idle, false), (new, true)];
            ownership.part_short_lived(sets.into_iter(), |pid, _| running.contains(&pid));
            [stays, first, second, idle, new].map(|id| ownership.short_lived(id).is_some())
        };
        assert_eq!(part(&mut ownership, &[1, 3, 4, 5]), [false; 5], "one has ended: it may be a restart");
        assert_eq!(part(&mut ownership, &[1, 4, 5]), [false, true, true, false, true]);
        ownership.at(30_000);
        assert_eq!(part(&mut ownership, &[1, 4, 5]), [false, true, true, false, false], "it stayed");
        assert_eq!(ownership.short_lived(first).as_deref(), Some("curl"));
    }

    #[test]
    fn what_no_row_has_is_forgotten_and_its_place_used_again() {
        let mut ownership = Ownership::default();
        let keep = table(&[(1, "keep")]);
        let kept = ownership.remember(&keep, keep.holders(Inode::new(9))).set().unwrap();
        for pid in 10..5000 {
            let t = table(&[(pid, "curl")]);
            ownership.remember(&t, t.holders(Inode::new(9)));
            ownership.forget(|mark| mark(kept));
        }
        assert!(ownership.len() <= SPARE + 1, "{}", ownership.len());
        assert!(ownership.table().processes.len() <= SPARE + 2);
        assert_eq!(ownership.label(kept).as_deref(), Some("keep(1)"));
    }

    #[test]
    fn a_remainder_is_attributed_by_what_was_seen_there() {
        let mut ownership = Ownership::default();
        let mut listeners = Listeners::new(PORT_RANGE);
        let listen = socket(State::Listen, "10.0.0.1:80", "0.0.0.0:0");
        listeners.add(&listen);
        let nginx = table(&[(7, "nginx")]);
        let server = ownership.remember(&nginx, nginx.holders(Inode::new(9))).set().unwrap();
        ownership.learn(&listen, listeners.role(&listen), &listeners, server, false);
        let curl = table(&[(8, "curl")]);
        let client = ownership.remember(&curl, curl.holders(Inode::new(9))).set().unwrap();
        let out = socket(State::Established, "10.0.0.1:40000", "10.9.9.9:443");
        ownership.learn(&out, listeners.role(&out), &listeners, client, true);
        let of = |local, peer, owner| {
            let s = socket(State::TimeWait, local, peer);
            match ownership.attribute(&s, (owner, false), listeners.role(&s), &listeners) {
                Known::Likely { comm, confidence, .. } => format!("{comm} {confidence}"),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(of("10.0.0.1:80", "10.0.0.5:50000", OwnerId::NOT_SOUGHT), "nginx 0.92");
        assert_eq!(of("10.0.0.1:40001", "10.9.9.9:443", OwnerId::NOT_SOUGHT), "curl 0.6");
        assert_eq!(of("10.0.0.1:40001", "10.9.9.9:444", OwnerId::NOBODY), "Unknown");
        assert_eq!(of("10.0.0.1:40001", "10.9.9.9:444", client.into()), format!("Exact({client:?})"));
        // A permanent pool says nothing about the owner of timewait sockets; processes that come and go do.
        let pool = table(&[(9, "pool")]);
        let pool = ownership.remember(&pool, pool.holders(Inode::new(9))).set().unwrap();
        let to = |port| socket(State::Established, &format!("10.0.0.1:{port}"), "10.9.9.9:444");
        for port in 0..50 {
            ownership.learn(&to(41_000 + port), listeners.role(&to(41_000 + port)), &listeners, pool, false);
        }
        ownership.learn(&to(42_000), listeners.role(&to(42_000)), &listeners, client, false);
        let of = |ownership: &Ownership| {
            let s = socket(State::TimeWait, "10.0.0.1:40001", "10.9.9.9:444");
            match ownership.attribute(&s, (OwnerId::NOT_SOUGHT, false), listeners.role(&s), &listeners) {
                Known::Likely { comm, confidence, .. } => format!("{comm} {confidence}"),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(of(&ownership), "Unknown");
        ownership.learn(&to(42_001), listeners.role(&to(42_001)), &listeners, client, true);
        assert_eq!(of(&ownership), "curl 0.6");
    }
}
