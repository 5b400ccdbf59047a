//! Open connections by what they are counted by: a process and its destination, or a listener and its client.
//!
//! Input: the rows of two samples with the part each plays. Output: the rows of each place that has enough of them, and how
//! many it had before. Not here: what it means that they become more.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::aggregate::Role;
use crate::diagnose::peers;
use crate::diagnose::view::View;
use crate::model::snapshot::Snapshot;
use crate::model::{Endpoint, NetnsId, Socket, State};

/// Places are sorted out by so many counts, far more than there are on most hosts.
const SLOTS: usize = 1 << 16;

/// What connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    To { destination: Endpoint, pid: Option<u32> },
    From { listener: Endpoint, client: IpAddr },
}

pub type Key = (Option<NetnsId>, Place);

/// The place of an open connection without the process that holds it.
fn place(view: &View<'_>, socket: &Socket, role: Role) -> Option<Key> {
    if !peers::is_held(socket, &[State::Established]) {
        return None;
    }
    let place = match role {
        Role::Client => Place::To { destination: socket.peer.normalised(), pid: None },
        Role::Server(index) => Place::From {
            listener: view.listeners(socket.netns).get(index).local,
            client: socket.peer.addr.to_canonical(),
        },
        _ => return None,
    };
    Some((socket.netns, place))
}

/// Adds the process to a place that is counted by it.
fn with_holder((netns, place): Key, holder: impl FnOnce() -> Option<u32>) -> Key {
    match place {
        Place::To { destination, .. } => (netns, Place::To { destination, pid: holder() }),
        Place::From { .. } => (netns, place),
    }
}

/// The open connections by place, of places that have `least` or more.
#[must_use]
pub fn with_at_least<'a>(view: &View<'a>, least: usize) -> FxHashMap<Key, Vec<&'a Socket>> {
    let placed = |(socket, role)| Some((place(view, socket, role)?, socket));
    // Most places of a busy host have a connection or two: counted by a hash first, they need no list.
    let mut counts = vec![0u32; SLOTS];
    for (key, _) in view.rows().filter_map(placed) {
        counts[slot(&key)] += 1;
    }
    let mut groups: FxHashMap<Key, Vec<&Socket>> = FxHashMap::default();
    for (key, socket) in view.rows().filter_map(placed).filter(|(key, _)| counts[slot(key)] as usize >= least) {
        groups.entry(with_holder(key, || view.holder(socket).map(|p| p.pid))).or_default().push(socket);
    }
    groups.retain(|_, rows| rows.len() >= least);
    groups
}

/// Where the connections of a place are counted.
fn slot(key: &Key) -> usize {
    usize::try_from(FxBuildHasher.hash_one(key) % SLOTS as u64).unwrap_or(0)
}

/// How many connections each of these places had in the earlier sample.
#[must_use]
pub fn counts(view: &View<'_>, before: &Snapshot, groups: &FxHashMap<Key, Vec<&Socket>>) -> FxHashMap<Key, u64> {
    let mut counts = FxHashMap::default();
    for socket in &before.sockets {
        let owners = &before.owners;
        let holder = || Some(owners.process(owners.of(socket).1.first()?).pid);
        let key = place(view, socket, view.role(socket)).map(|key| with_holder(key, holder));
        if let Some(key) = key.filter(|key| groups.contains_key(key)) {
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}
