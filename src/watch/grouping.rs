//! Where one row of a sample goes: into the counts, the groups, the rows behind a line.
//!
//! Input: a row, what the tracker knows of it, its owner. Output: sums. Not here: asking the kernel.
#![allow(clippy::iter_over_hash_type, reason = "every entry is treated alike, in whichever order")]

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::frame::{FrameGroup, GroupId, Groups, Line, RowOwner, TimeWaitOwners};
use super::measures::MeasureSums;
use super::request::SampleRequest;
use super::rows::{Kept, RowRequest};
use crate::aggregate::owner::{Owner, OwnerId, SetId};
use crate::aggregate::ownership::{Known, Ownership};
use crate::aggregate::tracker::Tracked;
use crate::aggregate::{Counts, Key, Listeners, Role, Tracker};
use crate::collect::names::SystemNames;
use crate::diagnose::Sockets;
use crate::filter::Expr;
use crate::model::cgroup::Identity;
use crate::model::column::{Names, Row};
use crate::model::{Coverage, Holder, OwnerStatus, OwnerTable, RowKind, Socket, State};

/// The keys by which a watch can group, in the order of the key that switches them.
pub const GROUP_KEYS: [Key; 8] =
    [Key::Process, Key::Listener, Key::Destination, Key::User, Key::Unit, Key::Container, Key::Pod, Key::Netns];

/// The next key; without owners, the next that needs none.
#[must_use]
pub fn next_key(key: Key, owners: bool) -> Key {
    let at = GROUP_KEYS.iter().position(|k| *k == key).unwrap_or(0);
    let usable = |k: &Key| owners || !k.needs_owners();
    GROUP_KEYS.into_iter().cycle().skip(at + 1).take(GROUP_KEYS.len()).find(usable).unwrap_or(key)
}

/// The sockets of one set of processes.
#[derive(Default)]
struct OfOwner {
    counts: Counts,
    /// It holds one of them now; the others are what is left of those that it closed.
    holds: bool,
}

/// The sums of a sample.
pub(super) struct SampleTotals {
    pub counts: [Counts; 2],
    pub coverage: Coverage,
    pub groups: Option<FxHashMap<GroupId, Counts>>,
    pub time_wait_owners: TimeWaitOwners,
    pub rows: Option<Kept>,
    pub measures: Option<MeasureSums>,
    /// Labels by owner: the sum per owner is made by number and becomes text once.
    by_owner: FxHashMap<SetId, OfOwner>,
    /// How many processes are in each group of those that come and go.
    short_lived: FxHashMap<Arc<str>, u64>,
}

impl SampleTotals {
    pub(super) fn new(request: &SampleRequest, measures: Option<MeasureSums>) -> SampleTotals {
        SampleTotals {
            counts: [Counts::default(); 2],
            coverage: Coverage::default(),
            groups: request.by.map(|_| FxHashMap::default()),
            time_wait_owners: TimeWaitOwners::default(),
            rows: request.rows.as_ref().map(|_| Kept::default()),
            measures,
            by_owner: FxHashMap::default(),
            short_lived: FxHashMap::default(),
        }
    }

    /// The first of the groups as they were ordered, and the sum of the others.
    pub(super) fn take_groups(&mut self, request: &SampleRequest) -> Option<Groups> {
        let by = request.by?;
        let processes = |id: &GroupId| match id {
            GroupId::ShortLived(comm) => self.short_lived.get(comm).copied(),
            _ => None,
        };
        let group = |(id, counts)| FrameGroup { processes: processes(&id), id, counts };
        let mut rows: Vec<FrameGroup> = self.groups.take()?.into_iter().map(group).collect();
        rows.sort_unstable_by(|a, b| request.order.compare(a, b));
        let mut groups = Groups { by, rows, rest: None };
        groups.keep(request.top);
        Some(groups)
    }

    /// Turns owners into labels. `runs`: whether the process of this id still has this name.
    pub(super) fn name_owners(&mut self, ownership: &mut Ownership, runs: impl FnMut(u32, &str) -> bool) {
        let Some(groups) = &mut self.groups else { return };
        ownership.part_short_lived(self.by_owner.iter().map(|(set, of)| (*set, of.holds)), runs);
        // One process may be in several sets.
        let mut counted: FxHashSet<u32> = FxHashSet::default();
        #[allow(clippy::iter_over_hash_type, reason = "sums are the same in any order")]
        for (owner, of) in self.by_owner.drain() {
            let id = group_of(ownership, owner).unwrap_or(GroupId::Nobody(OwnerStatus::Raced));
            if let GroupId::ShortLived(comm) = &id {
                *self.short_lived.entry(Arc::clone(comm)).or_default() +=
                    ownership.holders(owner).iter().filter(|h| counted.insert(h.process)).count() as u64;
            }
            groups.entry(id).or_default().merge(&of.counts);
        }
    }
}

/// The group of a set of processes.
fn group_of(ownership: &Ownership, owner: SetId) -> Option<GroupId> {
    ownership.short_lived(owner).map(GroupId::ShortLived).or_else(|| ownership.label(owner).map(GroupId::Owner))
}

/// Routes each row of a sample into the sums that it belongs to.
pub(super) struct RowRouter<'a> {
    pub request: &'a SampleRequest,
    /// The selection without its states: the population that is tracked.
    pub members: &'a Expr,
    /// Every row matches.
    pub everything: bool,
    pub tracker: &'a mut Tracker,
    pub ownership: &'a mut Ownership,
    pub listeners: &'a Listeners,
    pub names: &'a SystemNames,
    pub with_owners: bool,
    /// Several namespaces are watched.
    pub several: bool,
    /// The sockets of the finding whose rows are requested.
    pub of_finding: Option<&'a Sockets>,
}

impl RowRouter<'_> {
    /// Takes an owner that was just found.
    pub(super) fn set_owner(
        &mut self,
        socket: &Socket,
        table: &OwnerTable,
        holders: &[Holder],
        tracked: &Tracked,
    ) -> OwnerId {
        let owner = self.ownership.remember(table, holders);
        if owner != tracked.owner {
            self.tracker.set_owner(socket, owner, false);
            if let Some(set) = owner.set() {
                self.ownership.learn(socket, self.listeners.role(socket), self.listeners, set, tracked.is_new());
            }
        }
        owner
    }

    fn status(&self, socket: &Socket, owner: OwnerId) -> OwnerStatus {
        if !self.with_owners {
            return OwnerStatus::NotCollected;
        }
        if let Some(status) = OwnerStatus::without_holder(socket) {
            return status;
        }
        match owner.get() {
            Owner::Nobody if self.ownership.table().unreadable > 0 => self.ownership.table().hidden(),
            // There was no time for it yet.
            Owner::NotSought => OwnerStatus::NotCollected,
            // One search may have caught it while closing: whether it is the kernel's own is unknown.
            Owner::Nobody => OwnerStatus::Raced,
            Owner::Set(_) => OwnerStatus::Known,
        }
    }

    /// Counts a row in every sum that it belongs to.
    pub(super) fn count(&mut self, socket: &Socket, tracked: &Tracked, owner: OwnerId, totals: &mut SampleTotals) {
        let status = self.status(socket, owner);
        let (member, shown) = if self.everything {
            (true, true)
        } else {
            let holders = owner.set().map_or(&[][..], |set| self.ownership.holders(set));
            let row = Row { socket, status, holders, owners: self.ownership.table(), names: self.names };
            (self.members.matches(&row), self.request.filter.matches(&row))
        };
        let mut tracked = *tracked;
        tracked.owner = owner;
        self.tracker.count(socket, &tracked, member);
        if !shown {
            return;
        }
        totals.counts[socket.family as usize].add(socket.state);
        totals.coverage.add(status);
        let remainder = socket.kind == RowKind::TimeWaitMini || socket.state == State::TimeWait;
        let by = self.request.by;
        let by_role = matches!(by, Some(Key::Listener | Key::Destination));
        let wanted = self.request.rows.as_ref();
        let asks_role = by_role || wanted.is_some() || totals.measures.is_some();
        let set = owner.set();
        // Roles cost a look-up or two, so only sums that need them pay.
        let role = if asks_role || (remainder && set.is_none() && self.with_owners) {
            self.listeners.role(socket)
        } else {
            Role::Unknown
        };
        let known = if remainder && self.with_owners {
            let known = self.ownership.attribute(socket, (owner, tracked.traced), role, self.listeners);
            match known {
                Known::Exact(_) => totals.time_wait_owners.exact += 1,
                Known::Closer(_) => {
                    totals.time_wait_owners.exact += 1;
                    totals.time_wait_owners.traced += 1;
                }
                Known::Likely { .. } => totals.time_wait_owners.likely += 1,
                Known::Unknown => totals.time_wait_owners.unknown += 1,
            }
            known
        } else {
            match set {
                None => Known::Unknown,
                Some(set) if tracked.traced => Known::Closer(set),
                Some(set) => Known::Exact(set),
            }
        };
        if let Some(measures) = &mut totals.measures {
            measures.add(socket, &tracked, role, &known, status);
        }
        if let (Some(by), Some(groups)) = (by, &mut totals.groups) {
            if let (Key::Process, Some(owner)) = (by, known.owner()) {
                let of = totals.by_owner.entry(owner).or_default();
                of.counts.add(socket.state);
                of.holds |= socket.inode.is_some();
            } else {
                let id = self.group(by, socket, role, &known, status);
                groups.entry(id).or_default().add(socket.state);
            }
        }
        if let (Some(wanted), Some(kept)) = (wanted, &mut totals.rows) {
            let now_ms = tracked.seen_ms;
            let line = || Line {
                socket: socket.clone(),
                owner: self.row_owner(socket, &known, status),
                in_state_ms: (now_ms - tracked.since_ms, tracked.since_known),
                known_ms: now_ms - tracked.first_ms,
            };
            let mut is_in = self.is_in(wanted, socket, role, &known, status, owner);
            if let (Some(sockets), None) = (self.of_finding, &wanted.only) {
                let is_told = sockets.contains(socket);
                kept.differs |= is_told != is_in;
                is_in = is_told;
                if !is_in && self.pids(owner).any(|pid| wanted.of.beside.contains(&pid)) {
                    kept.add_other(socket.state, line);
                }
            } else if let (Some(command), None) = (&wanted.command, &wanted.only) {
                kept.differs |= self.is_listed(command, socket, status, owner) != is_in;
            }
            if is_in {
                kept.add(line);
            }
        }
    }

    /// The processes of an owner.
    fn pids(&self, owner: OwnerId) -> impl Iterator<Item = u32> {
        let holders = owner.set().map_or(&[][..], |set| self.ownership.holders(set));
        holders.iter().map(|h| self.ownership.table().process(h).pid)
    }

    /// Whether `list` shows a row behind this filter. It knows only who holds the socket now.
    fn is_listed(&self, filter: &Expr, socket: &Socket, status: OwnerStatus, owner: OwnerId) -> bool {
        let set = owner.set().filter(|_| socket.inode.is_some());
        let holders = set.map_or(&[][..], |set| self.ownership.holders(set));
        filter.matches(&Row { socket, status, holders, owners: self.ownership.table(), names: self.names })
    }

    fn group(&self, by: Key, socket: &Socket, role: Role, known: &Known, status: OwnerStatus) -> GroupId {
        let text = |get: for<'i> fn(&'i Identity) -> Option<&'i str>| {
            let held = known.owner().and_then(|owner| self.ownership.holders(owner).first());
            let id = |text: Option<&str>| text.map_or(GroupId::None, |t| GroupId::Text(Arc::from(t)));
            match held {
                Some(holder) => id(get(&self.ownership.table().process(holder).identity)),
                None => id(self.names.unheld_identity(socket).as_deref().and_then(get)),
            }
        };
        let at = |endpoint| GroupId::Endpoint(endpoint, self.several.then_some(socket.netns).flatten());
        match by {
            Key::Process => match known {
                Known::Exact(owner) | Known::Closer(owner) => {
                    group_of(self.ownership, *owner).unwrap_or(GroupId::Nobody(status))
                }
                Known::Likely { comm, .. } => GroupId::Likely(Arc::clone(comm)),
                Known::Unknown => GroupId::Nobody(status),
            },
            Key::Listener => match role {
                Role::Listener(i) | Role::Server(i) => at(self.listeners.get(i).local),
                Role::FormerServer => at(socket.local),
                _ => GroupId::None,
            },
            Key::Destination => match role {
                Role::Client => at(socket.peer),
                Role::Unknown if socket.state.has_peer() && socket.peer.port <= socket.local.port => at(socket.peer),
                _ => GroupId::None,
            },
            Key::User => socket.uid.map_or(GroupId::None, GroupId::User),
            Key::Unit => text(|i| i.unit.as_deref()),
            Key::Container => text(Identity::container_label),
            Key::Pod => text(Identity::pod_label),
            Key::Netns => {
                let Some(id) = socket.netns else { return GroupId::Text(Arc::from("?")) };
                let name = self.names.netns(id);
                GroupId::Text(name.map_or_else(|| Arc::from(id.to_string()), |n| Arc::from(&*n)))
            }
            // Keys that `GROUP_KEYS` lacks have no groups here.
            Key::Host
            | Key::State
            | Key::Family
            | Key::Local
            | Key::LocalAddr
            | Key::LocalNet(_)
            | Key::PeerNet(_)
            | Key::LocalPort
            | Key::Peer
            | Key::PeerAddr
            | Key::PeerPort
            | Key::FourTuple => GroupId::None,
        }
    }

    fn is_in(
        &self,
        wanted: &RowRequest,
        socket: &Socket,
        role: Role,
        known: &Known,
        status: OwnerStatus,
        owner: OwnerId,
    ) -> bool {
        if let Some(only) = &wanted.only {
            return RowRequest::is_only(only, socket);
        }
        // A list of one process stays its list.
        let is_its = |id: &GroupId| match (id, known.owner()) {
            (GroupId::Owner(label), Some(owner)) => self.ownership.label(owner).is_some_and(|own| own == *label),
            _ => false,
        };
        let in_group =
            |(by, id): &(Key, GroupId)| is_its(id) || id.includes(&self.group(*by, socket, role, known, status));
        wanted.of.rows.includes(socket, self.pids(owner)) && wanted.of.group.as_ref().is_none_or(in_group)
    }

    fn row_owner(&self, socket: &Socket, known: &Known, status: OwnerStatus) -> RowOwner {
        match known {
            Known::Exact(owner) => match self.ownership.label(*owner) {
                Some(label) if socket.inode.is_some() => RowOwner::Holds(label),
                Some(label) => RowOwner::Held(label),
                None => RowOwner::Unknown(status),
            },
            Known::Closer(owner) => self.ownership.label(*owner).map_or(RowOwner::Unknown(status), RowOwner::Closed),
            Known::Likely { comm, confidence, why } => {
                RowOwner::Likely { comm: Arc::clone(comm), confidence: *confidence, why }
            }
            Known::Unknown => RowOwner::Unknown(status),
        }
    }
}
