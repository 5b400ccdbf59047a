//! A recorded snapshot as a source: what was asked of the kernel then is answered from it.
//!
//! Input: a snapshot. Output: a [`Live`] whose rows, owners and facts are those of the snapshot. Nothing of this host is read.

use std::ops::ControlFlow;

use rustc_hash::FxHashSet;

use crate::collect::clock::{monotonic_ns, wall_ms};
use crate::collect::live::{Host, Live, SourceChoice};
use crate::collect::netns::NetnsHandle;
use crate::collect::netns_source::NetnsSource;
use crate::collect::owners::{OwnerRoute, Route, Search};
use crate::collect::proc::ProcRoot;
use crate::collect::query::{Query, Sink};
use crate::model::column::Names;
use crate::model::counter::Counters;
use crate::model::gap::Missing;
use crate::model::names::NameTable;
use crate::model::resources::Descriptors;
use crate::model::snapshot::Netns;
use crate::model::{Gap, NetnsId, OwnerTable, Snapshot, State};

impl Live {
    /// The source that a recorded snapshot is. Its namespaces cannot be entered.
    #[must_use]
    pub(crate) fn replay(snapshot: Snapshot) -> Live {
        let mut live = Live::closed(SourceChoice::Auto, ProcRoot::default());
        live.owner_route = Some(OwnerRoute { via: Route::Proc, why: "they were recorded".into() });
        live.turn_to(snapshot);
        live
    }

    /// Turns to another snapshot of a recording.
    pub(crate) fn turn_to(&mut self, mut snapshot: Snapshot) {
        snapshot.looker.is_recorded = true;
        self.host = Host { name: snapshot.host.clone(), kernel: snapshot.kernel.clone() };
        let space = |netns: &Netns| NetnsHandle::current(netns.inode).named(netns.name.clone());
        self.spaces = snapshot.netns.iter().map(|netns| NetnsSource::new(space(netns), None)).collect();
        self.recorded = Some(Box::new(snapshot));
    }

    /// The snapshot that is replayed.
    #[must_use]
    pub(crate) fn recorded(&self) -> Option<&Snapshot> {
        self.recorded.as_deref()
    }

    /// Of when its answers are: milliseconds since the epoch, and nanoseconds of the monotonic clock.
    #[must_use]
    pub(crate) fn clock(&self) -> (u64, u64) {
        match &self.recorded {
            Some(recorded) => (recorded.taken_at_ms, recorded.monotonic_ms.saturating_mul(1_000_000)),
            None => (wall_ms(), monotonic_ns()),
        }
    }

    /// Pushes the recorded rows of a query into the sink.
    pub(super) fn recorded_sockets(snapshot: &Snapshot, query: &Query, sink: Sink<'_>) {
        let wanted = snapshot.sockets.iter().filter(|s| query.states.contains(s.state));
        for socket in wanted.filter(|s| query.families.contains(s.family)) {
            if sink(socket) == ControlFlow::Break(()) {
                return;
            }
        }
    }

    /// What the recorder could not see of what a query asks.
    pub(super) fn recorded_gaps(snapshot: &Snapshot, query: &Query) -> Vec<Gap> {
        let asked = query.attributes.list();
        let concerns = |gap: &&Gap| match &gap.missing {
            Missing::Inspection { .. } | Missing::Trace(_) => false,
            Missing::BoundInactive => query.states.contains(State::BoundInactive),
            _ => true,
        };
        let narrowed = |gap: &Gap| {
            let Missing::Attributes(list) = &gap.missing else { return Some(gap.clone()) };
            let list: Vec<_> = list.iter().copied().filter(|attribute| asked.contains(attribute)).collect();
            (!list.is_empty()).then(|| Gap { missing: Missing::Attributes(list), ..gap.clone() })
        };
        snapshot.gaps.iter().filter(concerns).filter_map(narrowed).collect()
    }

    /// The recorded owners, as the result of a search.
    pub(super) fn recorded_search(&self) -> Option<Search> {
        let recorded = self.recorded.as_ref()?;
        let route = OwnerRoute { via: Route::Proc, why: "they were recorded".into() };
        Some(Search::known(recorded.owners.clone(), route))
    }

    /// The recorded descriptors of the processes of an owner table.
    pub(super) fn recorded_descriptors(snapshot: &Snapshot, owners: &OwnerTable) -> Vec<Descriptors> {
        let of = |pid: u32| {
            let facts = snapshot.processes.get(&pid);
            facts.map_or_else(Descriptors::default, |f| Descriptors {
                used: f.fd_used,
                soft: f.fd_soft,
                hard: f.fd_hard,
            })
        };
        owners.processes.iter().map(|process| of(process.pid)).collect()
    }

    /// The recorded counters, summed over the namespaces.
    pub(super) fn recorded_counters(snapshot: &Snapshot) -> Counters {
        let mut all = snapshot.netns.iter().map(|netns| &netns.counters);
        let first = all.next().cloned().unwrap_or_default();
        all.fold(first, |sum, counters| sum.plus(counters))
    }

    /// What the recorded rows are told to lack by every source of their kind.
    pub(super) fn recorded_lacks(snapshot: &Snapshot) -> Option<Gap> {
        snapshot.gaps.iter().find(|gap| gap.missing == Missing::SockDiagFields).cloned()
    }
}

/// Keeps what belongs to one of these namespaces, by name or inode; the words that name none are returned. No word, and `all`,
/// keep everything.
pub(crate) fn keep_namespaces(snapshot: &mut Snapshot, words: &[String]) -> Vec<String> {
    if words.is_empty() || words.iter().any(|word| word == "all") {
        return Vec::new();
    }
    let is = |netns: &Netns, word: &str| {
        netns.name.as_deref() == Some(word) || netns.inode.is_some_and(|inode| inode.to_string() == word)
    };
    let unknown = |word: &&String| !snapshot.netns.iter().any(|netns| is(netns, word));
    let unknown: Vec<String> = words.iter().filter(unknown).cloned().collect();
    snapshot.netns.retain(|netns| words.iter().any(|word| is(netns, word)));
    let kept: Vec<Option<NetnsId>> = snapshot.netns.iter().map(|netns| netns.inode).collect();
    snapshot.sockets.retain(|socket| kept.contains(&socket.netns));
    unknown
}

/// Adds what the numbers of a snapshot are called, as far as they have a name here.
pub(crate) fn add_names(snapshot: &Snapshot, names: &dyn Names, table: &mut NameTable) {
    let mut users: FxHashSet<u32> = snapshot.owners.processes.iter().filter_map(|p| p.uid).collect();
    let mut interfaces: FxHashSet<(Option<NetnsId>, u32)> = FxHashSet::default();
    let mut cgroups: FxHashSet<u64> = FxHashSet::default();
    for socket in &snapshot.sockets {
        users.extend(socket.uid);
        interfaces.extend(socket.ifindex.filter(|n| *n != 0).map(|n| (socket.netns, n)));
        cgroups.extend(socket.cgroup);
    }
    users.retain(|uid| !table.users.contains_key(uid));
    interfaces.retain(|key| !table.interfaces.contains_key(key));
    cgroups.retain(|id| !table.cgroups.contains_key(id));
    table.users.extend(users.into_iter().filter_map(|uid| Some((uid, names.user(uid)?.to_string()))));
    let interface = |(netns, index)| Some(((netns, index), names.interface(netns, index)?.to_string()));
    table.interfaces.extend(interfaces.into_iter().filter_map(interface));
    let mut cgroups: Vec<u64> = cgroups.into_iter().collect();
    cgroups.sort_unstable();
    for id in cgroups {
        table.cgroups.extend(names.cgroup(id).map(|path| (id, path.to_string())));
        table.identities.extend(names.identity(id).map(|identity| (id, (*identity).clone())));
    }
    for inode in snapshot.netns.iter().filter_map(|netns| netns.inode) {
        if !table.netns.contains_key(&inode) {
            table.netns.extend(names.netns(inode).map(|name| (inode, name.to_string())));
            table.netns_identities.extend(names.netns_identity(inode).map(|identity| (inode, (*identity).clone())));
        }
    }
}
