//! Counts per group: states crossed with any part of the four-tuple, owners or roles.
//!
//! Input: sockets with role and owners. Output: groups with counts per state, largest first, and everything below
//! the cut as `other`, so that totals always match.
//!
//! A group's key is built as bytes in one reused buffer, so a socket of a known group allocates nothing.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use crate::aggregate::key::Key;
use crate::aggregate::roles::{Listeners, Role};
use crate::aggregate::state_counts::Counts;
use crate::aggregate::sums::{Amount, Sum, Sums};
use crate::model::cgroup::Identity;
use crate::model::column::{Names, Row};
use crate::model::{Endpoint, Family, FourTuple, NetnsId, OwnerStatus, OwnerTable, State};

/// The value of one key for one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValue {
    State(State),
    Family(Family),
    Endpoint(Endpoint),
    Addr(IpAddr),
    /// A network and the length of its prefix.
    Net(IpAddr, u8),
    Port(u16),
    Tuple(FourTuple),
    /// The processes that share the socket, as indices into the owner table, sorted.
    Processes(Vec<u32>),
    /// Short-lived processes of one name, as such indices; they share nothing.
    ShortLived(Vec<u32>),
    NoProcess(OwnerStatus),
    User(u32),
    Netns(NetnsId),
    Text(String),
    /// The key does not apply: no listener, no destination, no user.
    None,
}

/// Sockets that share the values of all keys.
#[derive(Clone, Debug)]
pub struct Group {
    pub values: Vec<KeyValue>,
    /// Whose numbers the values have: of several hosts, the place of the first that had the group.
    pub host: u32,
    pub counts: Counts,
    /// What was summed; `None` where nothing was asked for.
    pub sums: Option<Box<Sums>>,
}

/// What the numbers in the values of groups mean on one host.
#[derive(Clone, Copy)]
pub struct Legend<'a> {
    pub owners: &'a OwnerTable,
    pub names: &'a dyn Names,
}

/// The groups below the cut, together.
#[derive(Clone, Debug)]
pub struct Rest {
    pub groups: usize,
    pub counts: Counts,
    pub sums: Option<Sums>,
}

/// What a crossing sums up besides counting, and by what its groups are ordered.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub sums: Vec<Sum>,
    /// `None`: the largest first.
    pub order: Option<(By, Direction)>,
}

/// What groups are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Total,
    Sum(Sum),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

impl Wanted {
    /// The sums that are shown or ordered by.
    pub fn all(&self) -> impl Iterator<Item = Sum> {
        let ordered = match self.order {
            Some((By::Sum(sum), _)) => Some(sum),
            _ => None,
        };
        self.sums.iter().copied().chain(ordered)
    }

    /// Whether sums are needed at all, and round-trip times.
    fn needed(&self) -> (bool, bool) {
        (self.all().next().is_some(), self.all().any(|sum| matches!(sum, Sum::RttMedian | Sum::RttP99)))
    }
}

/// One crossing of keys, counted.
pub struct Grouping {
    pub keys: Vec<Key>,
    pub(super) groups: HashMap<Box<[u8]>, Group, foldhash::fast::RandomState>,
    scratch: Vec<u8>,
    /// The host whose rows are added, as a place among several.
    pub host: u32,
    /// Skip sockets for which every key is [`KeyValue::None`].
    pub skip_none: bool,
    pub wanted: Wanted,
    with_sums: bool,
    with_rtt: bool,
}

impl Grouping {
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Grouping {
        Grouping {
            keys,
            groups: HashMap::default(),
            scratch: Vec::with_capacity(64),
            host: 0,
            skip_none: false,
            wanted: Wanted::default(),
            with_sums: false,
            with_rtt: false,
        }
    }

    /// Sums up too, and orders by what is wanted.
    #[must_use]
    pub fn wanting(mut self, wanted: Wanted) -> Grouping {
        (self.with_sums, self.with_rtt) = wanted.needed();
        self.wanted = wanted;
        self
    }

    /// Counts a socket in its group.
    pub fn add(&mut self, row: &Row<'_>, role: Role, listeners: &Listeners) {
        self.scratch.clear();
        let mut any = false;
        for key in &self.keys {
            let applies = write_key(*key, row, role, listeners, &mut self.scratch);
            // A host or a namespace that was added before another key always applies, and means nothing alone.
            any |= applies && (!matches!(key, Key::Netns | Key::Host) || self.keys.len() == 1);
        }
        if self.skip_none && !any {
            return;
        }
        if let Some(group) = self.groups.get_mut(self.scratch.as_slice()) {
            group.counts.add(row.socket.state);
            if let Some(sums) = &mut group.sums {
                sums.add(row.socket, self.with_rtt);
            }
            return;
        }
        let values = self.keys.iter().map(|key| value(*key, row, role, listeners)).collect();
        let mut counts = Counts::default();
        counts.add(row.socket.state);
        let mut sums = self.with_sums.then(Box::<Sums>::default);
        if let Some(sums) = &mut sums {
            sums.add(row.socket, self.with_rtt);
        }
        self.groups.insert(self.scratch.clone().into_boxed_slice(), Group { values, host: self.host, counts, sums });
    }

    /// Adds the groups of another host, counted by the same keys.
    pub fn merge(&mut self, other: Grouping) {
        #[expect(clippy::iter_over_hash_type, reason = "sums are the same in any order")]
        for (key, group) in other.groups {
            match self.groups.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(group);
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.counts.merge(&group.counts);
                    if let (Some(mine), Some(theirs)) = (&mut known.sums, &group.sums) {
                        mine.merge(theirs);
                    }
                }
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The first `top` groups, and those below the cut.
    #[must_use]
    pub fn split(&self, top: usize) -> (Vec<&Group>, Vec<&Group>) {
        let mut groups = self.ordered();
        let cut = groups.split_off(top.min(groups.len()));
        (groups, cut)
    }

    /// The sum of the groups below the cut; `None` when there are none.
    #[must_use]
    pub fn rest(&self, cut: &[&Group]) -> Option<Rest> {
        if cut.is_empty() {
            return None;
        }
        let mut rest = Rest { groups: cut.len(), counts: Counts::default(), sums: self.with_sums.then(Sums::default) };
        for group in cut {
            rest.counts.merge(&group.counts);
            if let (Some(mine), Some(theirs)) = (&mut rest.sums, &group.sums) {
                mine.merge(theirs);
            }
        }
        Some(rest)
    }

    /// Every group in the order that was asked for; ties are ordered by size, then by value.
    #[must_use]
    pub fn ordered(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.values().collect();
        let larger = |a: &Group, b: &Group| b.counts.total().cmp(&a.counts.total());
        let by_value = |a: &Group, b: &Group| a.values.cmp(&b.values);
        match self.wanted.order {
            None | Some((By::Total, Direction::Descending)) => {
                groups.sort_unstable_by(|a, b| larger(a, b).then_with(|| by_value(a, b)));
            }
            Some((By::Total, Direction::Ascending)) => {
                groups.sort_unstable_by(|a, b| larger(b, a).then_with(|| by_value(a, b)));
            }
            Some((By::Sum(sum), direction)) => {
                // A quantile takes a sort of its own: once per group.
                let mut valued: Vec<(Option<Amount>, &Group)> =
                    groups.into_iter().map(|g| (g.sums.as_ref().and_then(|s| s.get(sum)), g)).collect();
                valued.sort_by(|(a, ga), (b, gb)| {
                    order(*a, *b, direction).then_with(|| larger(ga, gb)).then_with(|| by_value(ga, gb))
                });
                groups = valued.into_iter().map(|(_, group)| group).collect();
            }
        }
        groups
    }
}

/// What is unknown comes last in both directions.
fn order(a: Option<Amount>, b: Option<Amount>, direction: Direction) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => {
            let ascending = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if direction == Direction::Ascending { ascending } else { ascending.reverse() }
        }
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// The endpoint that accepted the socket, if it was accepted.
fn listener(row: &Row<'_>, role: Role, listeners: &Listeners) -> Option<Endpoint> {
    match role {
        Role::Listener(i) | Role::Server(i) => Some(listeners.get(i).local),
        Role::FormerServer => Some(Endpoint { port: row.socket.local.port, ..row.socket.local }),
        Role::Client | Role::Bound | Role::Unknown => None,
    }
}

/// Where a socket connected to. If neither end is known, the lower port is taken for the service.
fn destination(row: &Row<'_>, role: Role) -> Option<Endpoint> {
    let (local, peer) = (row.socket.local, row.socket.peer);
    match role {
        Role::Client => Some(peer),
        Role::Unknown if row.socket.state.has_peer() && peer.port <= local.port => Some(peer),
        _ => None,
    }
}

/// Appends the bytes that identify the value; false when the key does not apply.
fn write_key(key: Key, row: &Row<'_>, role: Role, listeners: &Listeners, out: &mut Vec<u8>) -> bool {
    let s = row.socket;
    if key.is_of_peer() && !s.state.has_peer() {
        return none(out);
    }
    match key {
        Key::Host => {
            out.extend_from_slice(row.names.host().unwrap_or_default().as_bytes());
            out.push(0);
        }
        Key::State => out.push(s.state.kernel()),
        Key::Family => out.push(s.family as u8),
        Key::Local => write_endpoint(s.local, out),
        Key::Peer => write_endpoint(s.peer, out),
        Key::LocalAddr => write_addr(s.local.addr, out),
        Key::PeerAddr => write_addr(s.peer.addr, out),
        Key::LocalNet(prefix) => write_addr(prefix.of(s.local.addr).0, out),
        Key::PeerNet(prefix) => write_addr(prefix.of(s.peer.addr).0, out),
        Key::LocalPort => out.extend_from_slice(&s.local.port.to_ne_bytes()),
        Key::PeerPort => out.extend_from_slice(&s.peer.port.to_ne_bytes()),
        Key::FourTuple => {
            write_endpoint(s.local, out);
            write_endpoint(s.peer, out);
            out.extend_from_slice(&s.ifindex.unwrap_or(0).to_ne_bytes());
        }
        Key::User => match s.uid {
            Some(uid) => out.extend_from_slice(&uid.to_ne_bytes()),
            None => return none(out),
        },
        Key::Netns => out.extend_from_slice(&s.netns.map_or(0, NetnsId::get).to_ne_bytes()),
        Key::Listener => match listener(row, role, listeners) {
            Some(endpoint) => write_endpoint(endpoint, out),
            None => return none(out),
        },
        Key::Destination => match destination(row, role) {
            Some(endpoint) => write_endpoint(endpoint, out),
            None => return none(out),
        },
        Key::Process => {
            if row.holders.is_empty() {
                out.extend_from_slice(&[0xff, row.status as u8]);
                return row.status != OwnerStatus::NotCollected;
            }
            let mut last = None;
            for holder in row.holders {
                // Holders are sorted, so descriptors of one process are adjacent.
                if last.replace(holder.process) != Some(holder.process) {
                    out.extend_from_slice(&holder.process.to_ne_bytes());
                }
            }
            out.extend_from_slice(&u32::MAX.to_ne_bytes());
        }
        Key::Unit | Key::Container | Key::Pod => match text(key, row) {
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            None => return none(out),
        },
    }
    true
}

fn none(out: &mut Vec<u8>) -> bool {
    out.push(0xfe);
    false
}

fn write_endpoint(endpoint: Endpoint, out: &mut Vec<u8>) {
    write_addr(endpoint.addr, out);
    out.extend_from_slice(&endpoint.port.to_ne_bytes());
}

fn write_addr(addr: IpAddr, out: &mut Vec<u8>) {
    match addr {
        IpAddr::V4(a) => {
            out.push(4);
            out.extend_from_slice(&a.octets());
        }
        IpAddr::V6(a) => {
            out.push(6);
            out.extend_from_slice(&a.octets());
        }
    }
}

/// Unit, container or pod of the first process that holds the socket; if none does, of the socket's own cgroup or of its
/// namespace.
fn text<'a>(key: Key, row: &Row<'a>) -> Option<Cow<'a, str>> {
    let part: for<'i> fn(&'i Identity) -> Option<&'i str> = match key {
        Key::Unit => |i| i.unit.as_deref(),
        Key::Container => Identity::container_label,
        Key::Pod => Identity::pod_label,
        _ => return None,
    };
    match row.first_process() {
        Some(process) => part(&process.identity).map(Cow::Borrowed),
        None => part(row.names.unheld_identity(row.socket)?.as_ref()).map(|text| Cow::Owned(text.to_owned())),
    }
}

fn net((addr, length): (IpAddr, u8)) -> KeyValue {
    KeyValue::Net(addr, length)
}

fn value(key: Key, row: &Row<'_>, role: Role, listeners: &Listeners) -> KeyValue {
    let s = row.socket;
    if key.is_of_peer() && !s.state.has_peer() {
        return KeyValue::None;
    }
    match key {
        Key::Host => row.names.host().map_or(KeyValue::None, |host| KeyValue::Text(host.to_owned())),
        Key::State => KeyValue::State(s.state),
        Key::Family => KeyValue::Family(s.family),
        Key::Local => KeyValue::Endpoint(s.local),
        Key::Peer => KeyValue::Endpoint(s.peer),
        Key::LocalAddr => KeyValue::Addr(s.local.addr),
        Key::PeerAddr => KeyValue::Addr(s.peer.addr),
        Key::LocalNet(prefix) => net(prefix.of(s.local.addr)),
        Key::PeerNet(prefix) => net(prefix.of(s.peer.addr)),
        Key::LocalPort => KeyValue::Port(s.local.port),
        Key::PeerPort => KeyValue::Port(s.peer.port),
        Key::FourTuple => KeyValue::Tuple(s.four_tuple()),
        Key::User => s.uid.map_or(KeyValue::None, KeyValue::User),
        Key::Netns => s.netns.map_or(KeyValue::None, KeyValue::Netns),
        Key::Listener => listener(row, role, listeners).map_or(KeyValue::None, KeyValue::Endpoint),
        Key::Destination => destination(row, role).map_or(KeyValue::None, KeyValue::Endpoint),
        Key::Process if row.holders.is_empty() => KeyValue::NoProcess(row.status),
        Key::Process => {
            let mut processes: Vec<u32> = row.holders.iter().map(|h| h.process).collect();
            processes.dedup();
            KeyValue::Processes(processes)
        }
        Key::Unit | Key::Container | Key::Pod => {
            text(key, row).map_or(KeyValue::None, |t| KeyValue::Text(t.into_owned()))
        }
    }
}

/// The label of a set of processes: `nginx(812)`, `nginx(812 +3)` for several of one name, `a(1) b(2)` for two
/// names.
#[must_use]
pub fn processes_label(indices: &[u32], owners: &OwnerTable) -> String {
    let mut label = String::new();
    let mut names: Vec<(&str, Vec<u32>)> = Vec::new();
    for index in indices {
        let process = &owners.processes[*index as usize];
        match names.iter_mut().find(|(name, _)| *name == process.comm) {
            Some((_, pids)) => pids.push(process.pid),
            None => names.push((&process.comm, vec![process.pid])),
        }
    }
    for (name, mut pids) in names {
        pids.sort_unstable();
        if !label.is_empty() {
            label.push(' ');
        }
        let more = if pids.len() > 1 { format!(" +{}", pids.len() - 1) } else { String::new() };
        label.push_str(&format!("{name}({}{more})", pids[0]));
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::prefix::Prefix;
    use crate::model::column::NoNames;
    use crate::model::sysctl::PORT_RANGE;
    use crate::model::{Socket, TcpInfo};

    #[test]
    fn a_listener_has_no_peer_to_be_grouped_by() {
        for key in [Key::Peer, Key::PeerAddr, Key::PeerPort, Key::PeerNet(Prefix::parse("24").unwrap())] {
            let mut grouping = Grouping::new(vec![key]);
            let (owners, listeners) = (OwnerTable::default(), Listeners::new(PORT_RANGE));
            for state in [State::Listen, State::BoundInactive, State::Established] {
                let peer = Endpoint::new("0.0.0.0".parse().unwrap(), 0);
                let socket = Socket { state, peer, ..Socket::default() };
                grouping.add(&Row::new(&socket, &owners, &NoNames), Role::Unknown, &listeners);
            }
            let groups = grouping.ordered();
            let none = groups.iter().find(|g| g.values == [KeyValue::None]).map(|g| g.counts.total());
            assert_eq!((groups.len(), none), (2, Some(2)), "{key:?}");
        }
    }

    #[test]
    fn groups_are_ordered_by_a_sum_and_the_unknown_comes_last() {
        let wanted =
            Wanted { sums: vec![Sum::BytesSent], order: Some((By::Sum(Sum::BytesSent), Direction::Descending)) };
        let mut grouping = Grouping::new(vec![Key::PeerPort]).wanting(wanted);
        let (owners, listeners) = (OwnerTable::default(), Listeners::new(PORT_RANGE));
        for (port, sent) in [(1, Some(10)), (2, None), (3, Some(500)), (3, Some(500)), (4, Some(20))] {
            let mut info = TcpInfo::default();
            info.load(&[0; 232]);
            let info = sent.map(|sent| {
                info.set("bytes_sent", sent);
                info.into()
            });
            let state = if info.is_some() { State::Established } else { State::TimeWait };
            let peer = Endpoint::new("10.0.0.1".parse().unwrap(), port);
            let socket = Socket { state, peer, info, ..Socket::default() };
            grouping.add(&Row::new(&socket, &owners, &NoNames), Role::Unknown, &listeners);
        }
        let (groups, cut) = grouping.split(10);
        let ports: Vec<&KeyValue> = groups.iter().map(|g| &g.values[0]).collect();
        assert_eq!(ports, [&KeyValue::Port(3), &KeyValue::Port(4), &KeyValue::Port(1), &KeyValue::Port(2)]);
        assert!(grouping.rest(&cut).is_none());
        let rest = grouping.rest(&grouping.split(1).1).unwrap();
        assert_eq!((rest.groups, rest.counts.total()), (3, 3));
        assert_eq!(rest.sums.unwrap().get(Sum::BytesSent), Some(Amount::Number(30)));
        grouping.wanted.order = Some((By::Sum(Sum::BytesSent), Direction::Ascending));
        assert_eq!(grouping.split(10).0[3].values, [KeyValue::Port(2)]);
    }
}
