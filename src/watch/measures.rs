//! What a sample sums up beside its counts, for outputs that keep series: by program, by listener, by destination.
//!
//! Input: rows as they are counted. Output: [`Measures`], bounded by the number that is asked for; what is beyond it is
//! added up. Not here: names and formats.
#![allow(clippy::iter_over_hash_type, reason = "sums are the same in any order")]

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::aggregate::owner::SetId;
use crate::aggregate::ownership::{Known, Ownership};
use crate::aggregate::tracker::Tracked;
use crate::aggregate::{AcceptQueue, Counts, Listeners, LocalPorts, Matrix, PortUse, Role};
use crate::collect::Live;
use crate::model::counter::{Counters, SockStat};
use crate::model::resources::TcpMemory;
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;
use crate::model::{Endpoint, NetnsId, OwnerStatus, Socket, State};

/// Whose sockets were added up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Processes of this name in the same unit, container and pod.
    Program {
        comm: Arc<str>,
        unit: Option<Arc<str>>,
        container: Option<Arc<str>>,
        pod: Option<Arc<str>>,
    },
    /// Probably processes of this name; the rows themselves name none.
    Likely(Arc<str>),
    Nobody(OwnerStatus),
}

/// Sockets of one program, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub counts: Counts,
    pub recv_q_bytes: u64,
    pub send_q_bytes: u64,
    /// How long the one that has been longest in CLOSE_WAIT has been there, at least.
    pub close_wait_ms: Option<u64>,
}

impl Held {
    fn add(&mut self, socket: &Socket, tracked: &Tracked) {
        self.counts.add(socket.state);
        // The queues of a listener count connections.
        if socket.state != State::Listen {
            self.recv_q_bytes += u64::from(socket.recv_q_bytes);
            self.send_q_bytes += u64::from(socket.send_q_bytes.unwrap_or(0));
        }
        if socket.state == State::CloseWait {
            self.close_wait_ms = self.close_wait_ms.max(Some(tracked.seen_ms.saturating_sub(tracked.since_ms)));
        }
    }

    fn merge(&mut self, other: &Held) {
        self.counts.merge(&other.counts);
        self.recv_q_bytes += other.recv_q_bytes;
        self.send_q_bytes += other.send_q_bytes;
        self.close_wait_ms = self.close_wait_ms.max(other.close_wait_ms);
    }
}

/// One listening endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSum {
    pub netns: Option<NetnsId>,
    pub local: Endpoint,
    /// The first process that holds it, by name.
    pub comm: Option<Arc<str>>,
    pub queue: AcceptQueue,
    /// Handshakes under way.
    pub syn_recv: u64,
}

/// What is limited; `None` where this kernel or this namespace does not tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: Option<TcpMemory>,
    pub page_bytes: u64,
    /// Sockets that no process holds, on the whole host.
    pub orphans: Option<u64>,
    pub orphans_limit: Option<u64>,
    /// Of one namespace; `None` where several are in view.
    pub time_wait_limit: Option<u64>,
}

impl Limits {
    fn of(live: &Live) -> Limits {
        let facts = live.netns_limits();
        Limits {
            memory: TcpMemory::of(std::slice::from_ref(&facts)),
            page_bytes: live.page_bytes(),
            orphans: facts.sockstat(SockStat::TcpOrphan),
            orphans_limit: facts.sysctl(Sysctl::Ipv4TcpMaxOrphans),
            time_wait_limit: facts.sysctl(Sysctl::Ipv4TcpMaxTwBuckets).filter(|_| live.spaces().len() == 1),
        }
    }
}

/// What a sample sums up beside its counts.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// The programs with the most sockets first.
    pub programs: Vec<(Whose, Held)>,
    /// All others.
    pub other_programs: Option<Held>,
    /// In the order of their addresses.
    pub listeners: Vec<ListenerSum>,
    /// Listeners beyond those.
    pub other_listeners: u64,
    /// The fullest ranges of local ports first; empty also where no range could be read.
    pub ports: Vec<PortUse>,
    /// The kernel's own, of all namespaces in view.
    pub counters: Counters,
    pub limits: Limits,
    /// Every change since the first sample; `None` without a trace.
    pub transitions: Option<Matrix>,
    /// Several namespaces are in view.
    pub several: bool,
}

/// The sums of a sample under way.
pub(super) struct MeasureSums {
    by_owner: FxHashMap<SetId, Held>,
    likely: FxHashMap<Arc<str>, Held>,
    nobody: BTreeMap<OwnerStatus, Held>,
    ports: LocalPorts,
    syn_recv: FxHashMap<u32, u64>,
    listener_owners: FxHashMap<u32, SetId>,
}

impl MeasureSums {
    /// No row yet, in these namespaces.
    pub(super) fn new(visits: &[Netns]) -> MeasureSums {
        MeasureSums {
            by_owner: FxHashMap::default(),
            likely: FxHashMap::default(),
            nobody: BTreeMap::new(),
            ports: LocalPorts::new(visits),
            syn_recv: FxHashMap::default(),
            listener_owners: FxHashMap::default(),
        }
    }

    /// Counts a row.
    pub(super) fn add(&mut self, socket: &Socket, tracked: &Tracked, role: Role, known: &Known, status: OwnerStatus) {
        self.ports.add(socket, role);
        if let (Role::Server(listener), State::SynRecv) = (role, socket.state) {
            *self.syn_recv.entry(listener).or_default() += 1;
        }
        if let (Role::Listener(listener), Some(owner)) = (role, known.owner()) {
            self.listener_owners.entry(listener).or_insert(owner);
        }
        let held = match known {
            Known::Exact(owner) | Known::Closer(owner) => self.by_owner.entry(*owner).or_default(),
            Known::Likely { comm, .. } => self.likely.entry(Arc::clone(comm)).or_default(),
            Known::Unknown => self.nobody.entry(status).or_default(),
        };
        held.add(socket, tracked);
    }

    /// The largest of each kind, and the sum of the others.
    pub(super) fn finish(
        self,
        most: usize,
        ownership: &Ownership,
        listeners: &Listeners,
        live: &Live,
        counters: Counters,
    ) -> Measures {
        let mut sums: BTreeMap<Whose, Held> = BTreeMap::new();
        for (owner, held) in &self.by_owner {
            let whose = program(ownership, *owner).unwrap_or(Whose::Nobody(OwnerStatus::Raced));
            sums.entry(whose).or_default().merge(held);
        }
        sums.extend(self.likely.into_iter().map(|(comm, held)| (Whose::Likely(comm), held)));
        for (status, held) in self.nobody {
            sums.entry(Whose::Nobody(status)).or_default().merge(&held);
        }
        let mut programs: Vec<(Whose, Held)> = sums.into_iter().collect();
        programs.sort_by(|a, b| b.1.counts.total().cmp(&a.1.counts.total()).then_with(|| a.0.cmp(&b.0)));
        let mut other_programs = None;
        for (_, held) in programs.drain(most.min(programs.len())..) {
            other_programs.get_or_insert_with(Held::default).merge(&held);
        }
        let sum = |(i, l): (usize, &crate::aggregate::roles::Listener)| {
            let i = u32::try_from(i).unwrap_or(u32::MAX);
            let comm = self.listener_owners.get(&i).and_then(|owner| ownership.comm(*owner));
            let syn_recv = self.syn_recv.get(&i).copied().unwrap_or(0);
            ListenerSum { netns: l.netns, local: l.local, comm, queue: l.queue, syn_recv }
        };
        let mut all: Vec<ListenerSum> = listeners.all().iter().enumerate().map(sum).collect();
        let other_listeners = all.len().saturating_sub(most) as u64;
        if other_listeners > 0 {
            // The busiest are kept; which these are changes less than a queue does.
            all.sort_by_key(|l| (std::cmp::Reverse((l.queue.drops, l.queue.waiting, l.syn_recv)), l.netns, l.local));
            all.truncate(most);
        }
        all.sort_by_key(|l| (l.netns, l.local));
        Measures {
            programs,
            other_programs,
            listeners: all,
            other_listeners,
            ports: self.ports.fullest_of(most),
            counters,
            limits: Limits::of(live),
            transitions: None,
            several: live.spaces().len() > 1 || live.follows_netns(),
        }
    }
}

/// The name of the first process of a set, and where it runs.
fn program(ownership: &Ownership, owner: SetId) -> Option<Whose> {
    let holder = ownership.holders(owner).first()?;
    let identity = &ownership.table().process(holder).identity;
    let text = |text: Option<&str>| text.map(Arc::from);
    Some(Whose::Program {
        comm: ownership.comm(owner)?,
        unit: text(identity.unit.as_deref()),
        container: text(identity.container_label()),
        pod: text(identity.pod_label()),
    })
}
