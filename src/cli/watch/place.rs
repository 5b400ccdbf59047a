//! Where one row of a sample goes: into the counts, the groups, the drill-down.
//!
//! Comes in: a row, what the tracker knew of it, its owner. Goes out: sums. Never here: asking the kernel.
#![allow(clippy::iter_over_hash_type, reason = "every entry is treated alike, in whichever order")]

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::sampler::{Want, WantLines};
use crate::aggregate::owner::{Owner, OwnerId, SetId};
use crate::aggregate::ownership::{Known, Ownership};
use crate::aggregate::tracker::Sight;
use crate::aggregate::{Counts, Coverage, Listeners, Role, Tracker};
use crate::collect::names::SystemNames;
use crate::filter::Expr;
use crate::model::cgroup::Identity;
use crate::model::column::{Names, Row};
use crate::model::{Holder, OwnerStatus, OwnerTable, RowKind, Socket, State};
use crate::render::watch::{Attribution, GroupBy, GroupId, Line, Whose};

/// What a sample adds up to.
pub(crate) struct Placed {
    pub counts: [Counts; 2],
    pub coverage: Coverage,
    pub groups: Option<FxHashMap<GroupId, Counts>>,
    pub attribution: Attribution,
    pub lines: Option<(Vec<Line>, u64)>,
    most_lines: usize,
    /// Labels by owner: the sum per owner is made by number and becomes text once.
    by_owner: FxHashMap<SetId, Counts>,
}

impl Placed {
    pub(crate) fn new(want: &Want, most_lines: usize) -> Placed {
        Placed {
            counts: [Counts::default(); 2],
            coverage: Coverage::default(),
            groups: want.by.map(|_| FxHashMap::default()),
            attribution: Attribution::default(),
            lines: want.lines.as_ref().map(|_| (Vec::new(), 0)),
            most_lines,
            by_owner: FxHashMap::default(),
        }
    }

    /// Turns owners into labels.
    pub(crate) fn name_owners(&mut self, ownership: &Ownership) {
        let Some(groups) = &mut self.groups else { return };
        #[allow(clippy::iter_over_hash_type, reason = "sums are the same in any order")]
        for (owner, counts) in self.by_owner.drain() {
            let id = ownership.label(owner).map_or(GroupId::Nobody(OwnerStatus::Raced), GroupId::Owner);
            groups.entry(id).or_default().merge(&counts);
        }
    }
}

/// Everything that is needed to place a row.
pub(crate) struct Place<'a> {
    pub want: &'a Want,
    /// The selection whatever the state: who belongs to the population that is followed.
    pub members: &'a Expr,
    /// Every row is wanted.
    pub everything: bool,
    pub tracker: &'a mut Tracker,
    pub ownership: &'a mut Ownership,
    pub listeners: &'a Listeners,
    pub names: &'a SystemNames,
    pub with_owners: bool,
    /// Several namespaces are watched.
    pub several: bool,
}

impl Place<'_> {
    /// Takes an owner that was just read.
    pub(crate) fn own(&mut self, socket: &Socket, table: &OwnerTable, holders: &[Holder], sight: &Sight) -> OwnerId {
        let owner = self.ownership.remember(table, holders);
        if owner != sight.owner {
            self.tracker.own(socket, owner, false);
            if let Some(set) = owner.set() {
                self.ownership.learn(socket, self.listeners.role(socket), self.listeners, set, sight.came());
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
            Owner::Nobody if self.ownership.table().unreadable > 0 => OwnerStatus::NoPermission,
            // There was no time for it yet.
            Owner::NotSought => OwnerStatus::NotCollected,
            // Looked for once, while it may have been closing: whether it is the kernel's own is not known.
            Owner::Nobody => OwnerStatus::Raced,
            Owner::Set(_) => OwnerStatus::Known,
        }
    }

    /// Counts a row everywhere it belongs.
    pub(crate) fn put(&mut self, socket: &Socket, sight: &Sight, owner: OwnerId, placed: &mut Placed) {
        let status = self.status(socket, owner);
        let (member, shown) = if self.everything {
            (true, true)
        } else {
            let holders = owner.set().map_or(&[][..], |set| self.ownership.holders(set));
            let row = Row { socket, status, holders, owners: self.ownership.table(), names: self.names };
            (self.members.matches(&row), self.want.filter.matches(&row))
        };
        let mut sight = *sight;
        sight.owner = owner;
        self.tracker.count(socket, &sight, member);
        if !shown {
            return;
        }
        placed.counts[super::sampler::family_index(socket.family)].add(socket.state);
        placed.coverage.add(status);
        let remainder = socket.kind == RowKind::TimeWaitMini || socket.state == State::TimeWait;
        let by = self.want.by;
        let by_role = matches!(by, Some(GroupBy::Listener | GroupBy::Destination));
        let lines = self.want.lines.as_ref();
        let asks_role = by_role || lines.is_some();
        let set = owner.set();
        // Roles cost a look-up or two; only what is asked for pays them.
        let role = if asks_role || (remainder && set.is_none() && self.with_owners) {
            self.listeners.role(socket)
        } else {
            Role::Unknown
        };
        let known = if remainder && self.with_owners {
            let known = self.ownership.attribute(socket, (owner, sight.traced), role, self.listeners);
            match known {
                Known::Exact(_) => placed.attribution.exact += 1,
                Known::Closer(_) => {
                    placed.attribution.exact += 1;
                    placed.attribution.traced += 1;
                }
                Known::Likely { .. } => placed.attribution.likely += 1,
                Known::Unknown => placed.attribution.unknown += 1,
            }
            known
        } else {
            match set {
                None => Known::Unknown,
                Some(set) if sight.traced => Known::Closer(set),
                Some(set) => Known::Exact(set),
            }
        };
        if let (Some(by), Some(groups)) = (by, &mut placed.groups) {
            if let (GroupBy::Process, Some(owner)) = (by, known.owner()) {
                placed.by_owner.entry(owner).or_default().add(socket.state);
            } else {
                let id = self.group(by, socket, role, &known, status);
                groups.entry(id).or_default().add(socket.state);
            }
        }
        if let (Some(lines), Some((kept, total))) = (lines, &mut placed.lines)
            && self.is_in(lines, socket, role, &known, status, owner)
        {
            *total += 1;
            if kept.len() < placed.most_lines {
                let now_ms = sight.seen_ms;
                kept.push(Line {
                    socket: socket.clone(),
                    whose: self.whose(socket, &known, status),
                    in_state_ms: (now_ms - sight.since_ms, sight.since_known),
                    known_ms: now_ms - sight.first_ms,
                });
            }
        }
    }

    fn group(&self, by: GroupBy, socket: &Socket, role: Role, known: &Known, status: OwnerStatus) -> GroupId {
        let text = |get: for<'i> fn(&'i Identity) -> Option<&'i str>| {
            let held = known.owner().and_then(|owner| self.ownership.holders(owner).first());
            let id = |text: Option<&str>| text.map_or(GroupId::None, |t| GroupId::Text(Arc::from(t)));
            match held {
                Some(holder) => id(get(&self.ownership.table().process(holder).identity)),
                // What no process holds has a cgroup of its own, unless it is in TIME_WAIT.
                None => id(socket.cgroup.and_then(|c| self.names.identity(c)).as_deref().and_then(get)),
            }
        };
        let at = |endpoint| GroupId::Endpoint(endpoint, self.several.then_some(socket.netns).flatten());
        match by {
            GroupBy::Process => match known {
                Known::Exact(owner) | Known::Closer(owner) => {
                    self.ownership.label(*owner).map_or(GroupId::Nobody(status), GroupId::Owner)
                }
                Known::Likely { comm, .. } => GroupId::Likely(Arc::clone(comm)),
                Known::Unknown => GroupId::Nobody(status),
            },
            GroupBy::Listener => match role {
                Role::Listener(i) | Role::Server(i) => at(self.listeners.get(i).local),
                Role::FormerServer => at(socket.local),
                _ => GroupId::None,
            },
            GroupBy::Destination => match role {
                Role::Client => at(socket.peer),
                Role::Unknown if socket.state.has_peer() && socket.peer.port <= socket.local.port => at(socket.peer),
                _ => GroupId::None,
            },
            GroupBy::User => socket.uid.map_or(GroupId::None, GroupId::User),
            GroupBy::Unit => text(|i| i.unit.as_deref()),
            GroupBy::Container => text(Identity::container_label),
            GroupBy::Pod => text(Identity::pod_label),
            GroupBy::Netns => {
                let Some(id) = socket.netns else { return GroupId::Text(Arc::from("?")) };
                let name = self.names.netns(id);
                GroupId::Text(name.map_or_else(|| Arc::from(id.to_string()), |n| Arc::from(&*n)))
            }
        }
    }

    fn is_in(
        &self,
        wanted: &WantLines,
        socket: &Socket,
        role: Role,
        known: &Known,
        status: OwnerStatus,
        owner: OwnerId,
    ) -> bool {
        if let Some(only) = &wanted.only {
            return match (only.cookie, socket.cookie) {
                (Some(a), Some(b)) => a == b && only.netns == socket.netns,
                _ => only.four_tuple() == socket.four_tuple() && only.netns == socket.netns,
            };
        }
        let in_group = |(by, id): &(GroupBy, GroupId)| id.includes(&self.group(*by, socket, role, known, status));
        let holders = owner.set().map_or(&[][..], |set| self.ownership.holders(set));
        let holders = holders.iter().map(|h| self.ownership.table().process(h).pid);
        wanted.rows.includes(socket, holders) && wanted.group.as_ref().is_none_or(in_group)
    }

    fn whose(&self, socket: &Socket, known: &Known, status: OwnerStatus) -> Whose {
        match known {
            Known::Exact(owner) => match self.ownership.label(*owner) {
                Some(label) if socket.inode.is_some() => Whose::Now(label),
                Some(label) => Whose::Before(label),
                None => Whose::Nobody(status),
            },
            Known::Closer(owner) => self.ownership.label(*owner).map_or(Whose::Nobody(status), Whose::Closer),
            Known::Likely { comm, confidence, why } => Whose::Likely(Arc::clone(comm), *confidence, why),
            Known::Unknown => Whose::Nobody(status),
        }
    }
}
