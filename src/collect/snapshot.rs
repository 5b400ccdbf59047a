//! A whole snapshot: sockets with `tcp_info`, owners, processes, counters and sysctls of one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::collect::clock::{monotonic_ms, wall_ms};
use crate::collect::error::Error;
use crate::collect::live::Live;
use crate::collect::netlink::Attributes;
use crate::collect::netlink::route::Routes;
use crate::collect::netlink::tracking::Tracking;
use crate::collect::numbers::Numbers;
use crate::collect::owners::{OwnerRoute, Route, Search};
use crate::collect::proc::groups::{Groups, Mounts};
use crate::collect::proc::{cgroups, counters, group_memory, processes};
use crate::collect::query::{Ahead, Query};
use crate::collect::rights;
use crate::collect::windows;
use crate::cores;
use crate::model::gap::{Capability, Missing, WayOut, Why};
use crate::model::path::{Destination, NextHop};
use crate::model::snapshot::{Answers, Asked, Inspection, ProcessFacts, TrackingAnswers};
use crate::model::tcp_info::Packing;
use crate::model::{FourTuple, Gap, Inode, NetnsId, Snapshot, Socket, State, StateSet};

/// Descriptors that one diagnosis reads to see what processes do with their sockets: about 60 ms.
const DESCRIPTORS_INSPECTED: u64 = 20_000;
/// This many descriptors known to be sockets are listed in the time it takes to read one.
const KNOWN_PER_READ: u64 = 10;

impl Live {
    /// Takes a snapshot. Sockets without a known owner are searched for a second time.
    ///
    /// # Errors
    /// When no sockets can be read at all.
    pub fn snapshot(&mut self, with_owners: bool) -> Result<Snapshot, Error> {
        let search = (with_owners && self.recorded.is_none()).then(|| self.finder().start());
        self.snapshot_with(search)
    }

    /// The same with a search for owners that already runs, or none.
    ///
    /// # Errors
    /// As [`Live::snapshot`].
    pub fn snapshot_with(&mut self, owners: Option<Search>) -> Result<Snapshot, Error> {
        if let Some(recorded) = &self.recorded {
            return Ok((**recorded).clone());
        }
        let mut snapshot = Snapshot {
            taken_at_ms: wall_ms(),
            monotonic_ms: monotonic_ms(),
            host: self.host().name.clone(),
            kernel: self.host().kernel.clone(),
            looker: self.looker(),
            ..Snapshot::default()
        };
        let query =
            Query { attributes: self.snapshot_attributes(), ahead: Ahead::Rows, ..Query::states(StateSet::ALL) };
        // A dump may repeat a row of a bucket that changed during the read.
        let mut seen = Numbers::default();
        let many: u64 = (0..self.spaces.len()).filter_map(|place| self.threads(place)).sum();
        // A few more may arrive meanwhile.
        let many = usize::try_from(many).map_or(0, |many: usize| many + many / 16);
        snapshot.sockets = Vec::with_capacity(many);
        let mut infos = Infos::default();
        for place in 0..self.spaces.len() {
            let before = snapshot.gaps.len();
            let sockets = &mut snapshot.sockets;
            let read = self.sockets_of(place, &query, &mut snapshot.gaps, &mut |socket| {
                if seen.is_new(socket.cookie) {
                    infos.push(sockets, socket);
                }
                ControlFlow::Continue(())
            });
            let label = self.spaces[place].space.label();
            match read {
                Err(e) if self.spaces.len() == 1 => return Err(e),
                Err(e) => {
                    let missing = Missing::NetnsSockets { netns: label };
                    snapshot.gaps.push(Gap::new(missing, Why::Error(e.to_string()), WayOut::None));
                }
                Ok(_) => {}
            }
            // Counters are read right after the sockets, so that both describe the same moment as nearly as
            // possible.
            let mut netns = self.facts_of(&self.spaces[place].space);
            netns.incomplete |= snapshot.gaps.len() > before;
            snapshot.netns.push(netns);
        }
        infos.hand_out(&mut snapshot.sockets);
        snapshot.netns_not_scanned = self.netns_not_scanned();
        snapshot.system = counters::system(self.root());
        snapshot.gaps.extend(self.gaps(&query));
        snapshot.source = self.source();
        if let Some(owners) = owners {
            let (owners, route) = owners.finish()?;
            snapshot.owners = owners;
            self.owner_route = Some(route);
            self.find_other_holders(&mut snapshot);
            self.settle_snapshot(&mut snapshot)?;
            snapshot.processes = processes::facts(self.root(), snapshot.owners.processes.iter().map(|p| p.pid));
            self.find_closed(&mut snapshot);
        }
        Ok(snapshot)
    }

    fn snapshot_attributes(&self) -> Attributes {
        let judged = Attributes::INFO.union(Attributes::SKMEM);
        if self.every_attribute { judged.union(Attributes::CONGESTION).union(Attributes::TOS) } else { judged }
    }

    /// Where `/proc` refused a process, as it does even to root, that one may be the server of a listener whose known
    /// holders have no connection: one BPF pass sees the descriptors of all.
    fn find_other_holders(&mut self, snapshot: &mut Snapshot) {
        let owners = &snapshot.owners;
        if owners.unreadable == 0 || owners.unlisted.is_some() || !self.may_take_bpf() {
            return;
        }
        let mut connected = vec![false; owners.processes.len()];
        for socket in snapshot.sockets.iter().filter(|s| s.state.has_peer()) {
            owners.holders(socket.inode).iter().for_each(|h| connected[h.process as usize] = true);
        }
        let is_unserved = |s: &Socket| {
            let holders = owners.holders(s.inode);
            s.state == State::Listen && !holders.is_empty() && holders.iter().all(|h| !connected[h.process as usize])
        };
        if snapshot.sockets.iter().any(is_unserved)
            && let Ok(all) = self.finder().by_bpf(None)
        {
            let why = format!("/proc refused {} of the processes, and a listener may be theirs", owners.unreadable);
            snapshot.owners = all;
            self.owner_route = Some(OwnerRoute { via: Route::Bpf, why });
        }
    }

    fn settle_snapshot(&mut self, snapshot: &mut Snapshot) -> Result<(), Error> {
        use crate::model::OwnerStatus::{NoPermission, OtherPidns, Raced};
        let owners = &snapshot.owners;
        let is_missing = cores::map(&snapshot.sockets, |s| match owners.of(s).0 {
            Raced => !owners.is_settled(s.inode),
            // A listener is not a newcomer: it belongs to a process that we cannot read.
            NoPermission | OtherPidns => s.state != State::Listen && !owners.is_settled(s.inode),
            _ => false,
        });
        let rows = snapshot.sockets.iter().zip(is_missing);
        let missing: FxHashSet<Inode> = rows.filter_map(|(s, missing)| s.inode.filter(|_| missing)).collect();
        if missing.is_empty() || snapshot.owners.processes.is_empty() {
            return Ok(());
        }
        self.settle(&mut snapshot.owners, &missing)
    }

    /// Descriptors of TCP sockets that are in no table: the connection is dead and the descriptor is open. Only of
    /// processes whose own namespace was scanned: the live sockets of others are in tables that were not read.
    fn find_closed(&self, snapshot: &mut Snapshot) {
        let mut listed = Numbers::default();
        for inode in snapshot.sockets.iter().filter_map(|s| s.inode) {
            listed.insert(inode.get());
        }
        let mut asked: FxHashMap<Inode, bool> = FxHashMap::default();
        let mut closed = Vec::new();
        let read: Vec<bool> = snapshot
            .owners
            .processes
            .iter()
            .map(|p| {
                snapshot.processes.get(&p.pid).and_then(|f| f.netns).is_some_and(|n| snapshot.netns(Some(n)).is_some())
            })
            .collect();
        for holder in snapshot.owners.all_holders() {
            let Some(inode) = holder.inode else { continue };
            if !read[holder.process as usize] || listed.contains(inode.get()) {
                continue;
            }
            let tcp = *asked.entry(inode).or_insert_with(|| {
                let pid = snapshot.owners.process(holder).pid;
                processes::is_tcp(self.root(), pid, holder.fd, inode).unwrap_or(false)
            });
            if tcp {
                closed.push(*holder);
            }
        }
        snapshot.closed_tcp = Some(closed);
    }

    /// Answers what rules ask about a snapshot: what processes do with their sockets, over which neighbour silent
    /// destinations are reached, what tracking tables have of connections, and how windows go on.
    #[must_use]
    pub fn inspect(&self, snapshot: &Snapshot, asked: &Asked) -> Answers {
        // What was found out then is in the snapshot.
        if self.recorded.is_some() {
            return Answers::default();
        }
        let mut answers = Answers::default();
        (answers.processes, answers.gaps) = self.inspect_processes(snapshot, &asked.pids);
        for place in &self.spaces {
            let netns = place.space.inode;
            let mut wanted: Vec<IpAddr> =
                asked.destinations.iter().filter(|(n, _)| *n == netns).map(|(_, to)| *to).collect();
            let connections: Vec<FourTuple> =
                asked.connections.iter().filter(|(n, _)| *n == netns).map(|(_, tuple)| *tuple).collect();
            let ports = asked.translators.contains(&netns);
            // In a host's /proc mounted elsewhere, the routes and the table would be ours.
            if (wanted.is_empty() && connections.is_empty() && !ports) || !self.root.is_own() {
                continue;
            }
            let look = move || {
                let tracking = tracked(netns, &connections, ports);
                // Where a translation sends them is a destination too.
                wanted.extend(tracking.entries.values().flatten().map(|entry| entry.sent_to.addr));
                wanted.sort_unstable();
                wanted.dedup();
                (tracking, next_hops(netns, &wanted))
            };
            let Ok((tracking, hops)) = place.space.inside(look) else { continue };
            answers.next_hops.extend(hops);
            answers.tracking.entries.extend(tracking.entries);
            answers.tracking.ports.extend(tracking.ports);
        }
        if self.root.is_own() {
            answers.windows = windows::look(self, &asked.windows);
        }
        answers
    }

    /// Examines what the processes named in findings do with their sockets, and returns their facts with it. This
    /// reads every descriptor of a process that is not known to be a socket, so there is a limit, and what it leaves
    /// out is a gap.
    fn inspect_processes(&self, snapshot: &Snapshot, pids: &[u32]) -> (BTreeMap<u32, ProcessFacts>, Vec<Gap>) {
        let mut inspected = BTreeMap::new();
        let mut gaps = Vec::new();
        let (mut refused, mut left_out) = (0, 0);
        let mut budget = DESCRIPTORS_INSPECTED;
        let mounts = if pids.is_empty() { Mounts::default() } else { Mounts::find(self.root()) };
        let mut sockets: BTreeMap<u32, FxHashSet<u32>> = pids.iter().map(|pid| (*pid, FxHashSet::default())).collect();
        for holder in snapshot.owners.all_holders() {
            if let Some(fds) = sockets.get_mut(&snapshot.owners.process(holder).pid) {
                fds.insert(holder.fd);
            }
        }
        for (pid, sockets) in sockets {
            let Some(facts) = snapshot.processes.get(&pid) else { continue };
            let known = sockets.len() as u64;
            let cost = facts.fd_used.unwrap_or(0).saturating_sub(known) + known / KNOWN_PER_READ;
            let Some(rest) = budget.checked_sub(cost) else {
                left_out += 1;
                continue;
            };
            budget = rest;
            let (inspection, is_go) = processes::inspect(self.root(), pid, &sockets, facts.fd_used).unzip();
            refused += u32::from(inspection.is_none());
            let is_go = is_go.flatten();
            let groups = Groups::of(self.root(), pid);
            let groups = groups.as_ref();
            let frozen = groups.and_then(|groups| cgroups::is_frozen(&mounts, groups));
            let cpu_quota = groups.and_then(|groups| cgroups::cpu_quota(&mounts, groups));
            // The environment is behind the lock that a thread in uninterruptible sleep may hold.
            let is_waiting = |i: &Inspection| i.threads.iter().any(|t| t.state == Some('D'));
            let is_readable = inspection.as_ref().is_some_and(|i| !is_waiting(i));
            let is_activated = if is_readable { processes::is_activated(self.root(), pid) } else { None };
            let group_memory = groups.and_then(|groups| group_memory::of(&mounts, groups));
            let facts =
                ProcessFacts { inspection, frozen, cpu_quota, is_activated, group_memory, is_go, ..facts.clone() };
            inspected.insert(pid, facts);
        }
        if refused > 0 {
            gaps.push(Gap::new(
                Missing::Inspection { processes: refused },
                Why::ExitedOrRefused,
                rights::own().way_out(&[Capability::SysPtrace]),
            ));
        }
        if left_out > 0 {
            gaps.push(Gap::new(
                Missing::Inspection { processes: left_out },
                Why::TooManyDescriptors { limit: DESCRIPTORS_INSPECTED },
                WayOut::OneRule,
            ));
        }
        (inspected, gaps)
    }
}

/// The next hops to some addresses, in the namespace of this thread.
fn next_hops(netns: Option<NetnsId>, wanted: &[IpAddr]) -> Vec<(Destination, NextHop)> {
    let Ok(mut routes) = Routes::open() else { return Vec::new() };
    wanted.iter().filter_map(|to| Some(((netns, *to), routes.next_hop(*to).ok()?))).collect()
}

/// What the tracking table of this thread's namespace has; nothing where it may not be read.
fn tracked(netns: Option<NetnsId>, connections: &[FourTuple], ports: bool) -> TrackingAnswers {
    let mut answers = TrackingAnswers::default();
    if connections.is_empty() && !ports {
        return answers;
    }
    let Ok(mut tracking) = Tracking::open() else { return answers };
    // The first refusal holds for all of them.
    let entries = connections.iter().map_while(|tuple| Some(((netns, *tuple), tracking.entry(*tuple).ok()?)));
    answers.entries = entries.collect();
    if ports && let Ok(taken) = tracking.nat_ports() {
        answers.ports.insert(netns, taken);
    }
    answers
}

/// The `tcp_info` of rows, in short lists: a heap block per row costs more, and a long list would be attached after
/// its rows have left the cache.
#[derive(Default)]
struct Infos {
    list: Packing,
    /// The rows they belong to.
    rows: Vec<usize>,
}

impl Infos {
    /// Adds a row whose `tcp_info` follows later.
    fn push(&mut self, sockets: &mut Vec<Socket>, socket: &Socket) {
        if let Some(info) = socket.info.as_deref() {
            self.list.push(info);
            self.rows.push(sockets.len());
        }
        sockets.push(Socket { info: None, ..*socket });
        if self.list.is_full() {
            self.hand_out(sockets);
        }
    }

    fn hand_out(&mut self, sockets: &mut [Socket]) {
        for (row, info) in self.rows.drain(..).zip(self.list.finish()) {
            sockets[row].info = Some(info);
        }
    }
}
