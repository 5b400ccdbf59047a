//! The running system as a source of sockets and owners.
//!
//! Input: which source and which namespaces. Output: what can be queried, what it cannot show ([`Gap`]), and the
//! owners of sockets. `dump` runs the queries.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashSet;

use crate::collect::containers::Containers;
use crate::collect::drops;
use crate::collect::error::Error;
use crate::collect::members::members;
use crate::collect::netlink::Channel;
use crate::collect::netns::{self, NetnsHandle};
use crate::collect::netns_follow::Following;
use crate::collect::netns_source::NetnsSource;
use crate::collect::owners::{Finder, OwnerRoute, OwnersVia, Route, Search};
use crate::collect::probe::NetnsProbe;
use crate::collect::proc::{self, ProcRoot};
use crate::collect::query::Query;
use crate::collect::rights;
use crate::model::counter::Counters;
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::resources::Descriptors;
use crate::model::rights::Looker;
use crate::model::snapshot::Netns;
use crate::model::sysctl::Sysctl;
use crate::model::{Gap, Inode, NetnsId, OwnerTable, Snapshot, Source, State, StateSet};

/// The settings that decide which ports connect() may take, and the limits of memory.
const LIMITS: [Sysctl; 5] = [
    Sysctl::Ipv4IpLocalPortRange,
    Sysctl::Ipv4TcpTwReuse,
    Sysctl::Ipv4TcpTwReuseDelay,
    Sysctl::Ipv4TcpTimestamps,
    Sysctl::Ipv4TcpMem,
];

/// What bounds the sockets of a namespace or of the host.
const HELD: [Sysctl; 3] = [Sysctl::Ipv4TcpMem, Sysctl::Ipv4TcpMaxOrphans, Sysctl::Ipv4TcpMaxTwBuckets];

/// The first kernel that lists sockets which are bound but neither listen nor connect.
pub(super) const BOUND_INACTIVE_SINCE: (u32, u32) = (6, 8);

/// Which source to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SourceChoice {
    /// `sock_diag`, and `/proc` where there is none.
    #[default]
    Auto,
    Netlink,
    Proc,
}

/// The host and kernel that an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    pub name: String,
    pub kernel: String,
}

impl Host {
    #[must_use]
    pub fn here() -> Host {
        let uname = rustix::system::uname();
        Host {
            name: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
        }
    }

    /// Major and minor version of the kernel, 0.0 when it cannot be read.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        let mut parts = self.kernel.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// The running system as a source.
pub struct Live {
    pub(super) root: ProcRoot,
    pub(super) choice: SourceChoice,
    /// The namespaces to scan, each once.
    pub(super) spaces: Vec<NetnsSource>,
    /// Whether `sock_diag` works.
    pub(super) netlink: bool,
    /// Why `/proc` is used although it was not requested.
    pub(super) fallback: Option<Fallback>,
    /// The kernel refused one dump for both families; request each.
    pub(super) two_passes: bool,
    pub(super) host: Host,
    /// How many walks over a socket table were requested.
    pub(super) dumps: u64,
    /// What the search for namespaces could not see.
    netns_gaps: Vec<Gap>,
    /// What is looked for again.
    pub(super) following: Following,
    /// Namespaces that could not be entered.
    netns_not_scanned: u32,
    /// Whether to read the cgroups of processes that hold sockets.
    pub cgroups: bool,
    /// What container runtimes keep on disk.
    containers: Arc<Containers>,
    /// How to find owners.
    pub owners_via: OwnersVia,
    /// How the owners were found last time.
    pub owner_route: Option<OwnerRoute>,
    /// Snapshots have every attribute of a row, not only what the rules read.
    pub(crate) every_attribute: bool,
    /// What is replayed instead of the running system.
    pub(super) recorded: Option<Box<Snapshot>>,
}

/// Why `/proc` replaces `sock_diag`, and what to do about it.
pub(super) struct Fallback {
    error: String,
    way_out: WayOut,
}

impl Fallback {
    pub(super) fn new(error: &Error) -> Fallback {
        // A unit with RestrictAddressFamilies= returns EAFNOSUPPORT, a container's seccomp profile EPERM.
        let way_out = if error.is_permission() || error.is_unsupported_family() {
            WayOut::AllowNetlink
        } else {
            WayOut::LoadInetDiag
        };
        Fallback { error: error.to_string(), way_out }
    }
}

impl Live {
    /// Opens the source.
    ///
    /// # Errors
    /// When the chosen source does not exist here.
    pub fn open(choice: SourceChoice, root: ProcRoot) -> Result<Live, Error> {
        let mut live = Live::closed(choice, root);
        let netns = live.spaces.first().and_then(|place| place.space.inode);
        // A host's /proc mounted elsewhere shows the host; our own netlink socket would show our namespace.
        if choice == SourceChoice::Auto && !live.root.is_own() {
            live.choice = SourceChoice::Proc;
        }
        if live.choice != SourceChoice::Proc {
            match Channel::open(netns) {
                Ok(channel) => {
                    live.spaces[0].keep_channel(channel);
                    live.netlink = true;
                }
                Err(e) if live.choice == SourceChoice::Netlink => return Err(e.hint("try `--source proc`")),
                Err(e) => live.fallback = Some(Fallback::new(&e)),
            }
        }
        Ok(live)
    }

    /// A source that nothing was asked of yet.
    pub(super) fn closed(choice: SourceChoice, root: ProcRoot) -> Live {
        let netns_link =
            if root.is_own() { root.path().join("thread-self/ns/net") } else { root.path().join("1/ns/net") };
        let netns = std::fs::metadata(netns_link).ok().and_then(|m| NetnsId::new(m.ino()));
        Live {
            containers: Arc::new(Containers::new(&root)),
            root,
            choice,
            spaces: vec![NetnsSource::new(NetnsHandle::current(netns), None)],
            netlink: false,
            fallback: None,
            two_passes: false,
            host: Host::here(),
            dumps: 0,
            netns_gaps: Vec::new(),
            following: Following::default(),
            netns_not_scanned: 0,
            cgroups: false,
            owners_via: OwnersVia::Auto,
            owner_route: None,
            every_attribute: false,
            recorded: None,
        }
    }

    /// The source of the sockets.
    #[must_use]
    pub fn source(&self) -> Source {
        match (&self.recorded, self.netlink) {
            (Some(recorded), _) if recorded.source == Source::Text => Source::Text,
            (Some(_), _) => Source::Capture,
            (None, true) => Source::Netlink,
            (None, false) => Source::Proc,
        }
    }

    /// Who looks, or looked.
    #[must_use]
    pub fn looker(&self) -> Looker {
        self.recorded.as_ref().map_or_else(|| Looker::here(rights::own()), |recorded| recorded.looker)
    }

    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether the kernel refused one walk for both families.
    #[must_use]
    pub fn two_passes(&self) -> bool {
        self.two_passes
    }

    /// The names of containers, needed for rows without a process too.
    #[must_use]
    pub fn containers(&self) -> Arc<Containers> {
        Arc::clone(&self.containers)
    }

    /// Switches to namespaces other than this process's own.
    ///
    /// # Errors
    /// When a named one does not exist or cannot be entered.
    pub fn enter(&mut self, wanted: &[netns::Wanted]) -> Result<(), Error> {
        let own = self.spaces.iter().find(|p| p.space.is_own()).and_then(|p| p.space.inode);
        let mut channel = self.spaces.iter_mut().find_map(|p| p.channel.take());
        let found = netns::find(wanted, &self.root, own, &self.containers, &|| NetnsProbe::read(&self.root))?;
        self.spaces = found.spaces.into_iter().map(|(space, seen)| NetnsSource::new(space, Some(seen))).collect();
        for place in &mut self.spaces {
            if place.space.is_own() {
                place.channel = channel.take();
            }
        }
        self.netns_gaps = found.gaps;
        self.following = Following::of(wanted);
        self.netns_not_scanned = found.refused;
        Ok(())
    }

    /// Inode of the network namespace in view; `None` if unknown, or if there are several.
    #[must_use]
    pub fn netns(&self) -> Option<NetnsId> {
        match &self.spaces[..] {
            [one] => one.space.inode,
            _ => None,
        }
    }

    /// The network namespace of this process; `None` if unknown, or if it is not in view.
    #[must_use]
    pub fn own_netns(&self) -> Option<NetnsId> {
        self.spaces.iter().find(|p| p.space.is_own()).and_then(|p| p.space.inode)
    }

    /// Whether any process is in a container or a pod.
    #[must_use]
    pub fn has_members(&self) -> bool {
        if let Some(recorded) = &self.recorded {
            let identities = recorded.owners.processes.iter().map(|process| &process.identity);
            return identities.into_iter().any(|i| i.container_label().is_some() || i.pod_label().is_some());
        }
        !members(&self.root, &self.containers).is_empty()
    }

    /// The namespaces in view.
    pub fn spaces(&self) -> impl ExactSizeIterator<Item = &NetnsHandle> {
        self.spaces.iter().map(|p| &p.space)
    }

    /// Namespaces that exist but could not be entered.
    #[must_use]
    pub fn netns_not_scanned(&self) -> u32 {
        self.netns_not_scanned
    }

    /// How many walks over a socket table have been requested so far.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    #[must_use]
    pub fn root(&self) -> &ProcRoot {
        &self.root
    }

    /// What one visit to every namespace reads: the range of its ports, and the counts and memory of its sockets.
    #[must_use]
    pub fn visits(&mut self) -> Vec<Netns> {
        if let Some(recorded) = &self.recorded {
            return recorded.netns.clone();
        }
        let visit = |place: &mut NetnsSource| {
            let facts = place.visit(&self.root).map(|seen| seen.facts.clone()).unwrap_or_default();
            Netns { inode: place.space.inode, name: place.space.name.clone(), ..facts }
        };
        self.spaces.iter_mut().map(visit).collect()
    }

    /// Adds to visits, where there are sockets, what else decides which ports connect() may take, and the limits of memory.
    pub fn add_limits(&self, visits: &mut [Netns]) {
        if self.recorded.is_some() {
            return;
        }
        for (place, netns) in self.spaces.iter().zip(visits) {
            let is_wanted = place.seen.as_ref().is_some_and(|seen| !seen.empty);
            let read = || (proc::counters::sysctls(&self.root, &LIMITS), proc::counters::reserved_ports(&self.root));
            if is_wanted && let Ok((sysctls, reserved_ports)) = place.space.inside(read) {
                (netns.sysctls, netns.reserved_ports) = (sysctls, reserved_ports);
            }
        }
    }

    /// Descriptors of the processes of an owner table, and their limits, in its order.
    #[must_use]
    pub fn descriptors(&self, owners: &OwnerTable) -> Vec<Descriptors> {
        if let Some(recorded) = &self.recorded {
            return Live::recorded_descriptors(recorded, owners);
        }
        proc::processes::descriptors(&self.root, owners.processes.iter().map(|p| p.pid))
    }

    /// How long these processes have run; of a recording that is not known here.
    #[must_use]
    pub fn running_ms(&self, pids: impl Iterator<Item = u32>) -> Vec<Option<u64>> {
        match &self.recorded {
            Some(_) => pids.map(|_| None).collect(),
            None => proc::processes::running_ms(&self.root, pids),
        }
    }

    /// The size of a page of memory.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.recorded.as_ref().map_or_else(proc::counters::page_bytes, |recorded| recorded.system.page_bytes)
    }

    /// Counters and sysctls of the namespace; of the first, if there are several.
    #[must_use]
    pub fn netns_facts(&self) -> Netns {
        if let Some(recorded) = &self.recorded {
            return recorded.netns.first().cloned().unwrap_or_default();
        }
        self.spaces.first().map(|p| self.facts_of(&p.space)).unwrap_or_default()
    }

    /// Of the same namespace what bounds its sockets, and how much is used; no counters.
    #[must_use]
    pub fn netns_limits(&self) -> Netns {
        if self.recorded.is_some() {
            return self.netns_facts();
        }
        let read = || Netns {
            sysctls: proc::counters::sysctls(&self.root, &HELD),
            sockstat: proc::counters::sockstat(&self.root),
            ..Netns::default()
        };
        self.spaces.first().and_then(|place| place.space.inside(read).ok()).unwrap_or_default()
    }

    /// The counters alone, summed over the namespaces, with those that have ended since; empty when one cannot be
    /// read, because a partial sum means something else.
    #[must_use]
    pub fn counters(&self) -> Counters {
        if let Some(recorded) = &self.recorded {
            return Live::recorded_counters(recorded);
        }
        let mut sum = self.following.ended().cloned();
        for space in self.spaces() {
            let Ok(counters) = space.inside(|| proc::counters::counters(&self.root)) else {
                return Counters::default();
            };
            sum = Some(sum.map_or_else(|| counters.clone(), |sum| sum.plus(&counters)));
        }
        sum.unwrap_or_default()
    }

    pub(super) fn facts_of(&self, space: &NetnsHandle) -> Netns {
        let read = || {
            let facts = proc::counters::netns(&self.root, space.inode, space.name.clone());
            Netns { drops: drops::read(&self.root), ..facts }
        };
        space.inside(read).unwrap_or_else(|_| Netns {
            inode: space.inode,
            name: space.name.clone(),
            incomplete: true,
            ..Default::default()
        })
    }

    /// What this source cannot report for such a query.
    #[must_use]
    pub fn gaps(&self, query: &Query) -> Vec<Gap> {
        if let Some(recorded) = &self.recorded {
            return Live::recorded_gaps(recorded, query);
        }
        let mut gaps = self.netns_gaps.clone();
        if let Some(Fallback { error, way_out }) = &self.fallback {
            gaps.push(Gap::new(Missing::SockDiag, Why::Error(error.clone()), *way_out));
        }
        let bound = query.states.contains(State::BoundInactive);
        if self.source() == Source::Proc {
            let attributes = query.attributes.list();
            if !attributes.is_empty() {
                let way_out = WayOut::SourceNetlink { since: None };
                gaps.push(Gap::new(Missing::Attributes(attributes), Why::ProcNetTcp, way_out));
            }
            if bound {
                let way_out = WayOut::SourceNetlink { since: Some(BOUND_INACTIVE_SINCE) };
                gaps.push(Gap::new(Missing::BoundInactive, Why::ProcNetTcp, way_out));
            }
        } else if bound && self.host.version() < BOUND_INACTIVE_SINCE {
            let why = Why::KernelTooOld { release: self.host.kernel.clone() };
            gaps.push(Gap::new(Missing::BoundInactive, why, WayOut::Kernel { since: BOUND_INACTIVE_SINCE }));
        }
        gaps
    }

    /// What every row of this source lacks.
    #[must_use]
    pub fn lacks(&self) -> Option<Gap> {
        if let Some(recorded) = &self.recorded {
            return Live::recorded_lacks(recorded);
        }
        let way_out = WayOut::SourceNetlink { since: None };
        (self.source() == Source::Proc).then(|| Gap::new(Missing::SockDiagFields, Why::ProcNetTcp, way_out))
    }

    /// Finds owners; it needs nothing from this source, so a thread can run it beside a dump.
    #[must_use]
    pub fn finder(&self) -> Finder {
        Finder {
            root: self.root.clone(),
            via: self.owners_via,
            cgroups: self.cgroups,
            containers: Arc::clone(&self.containers),
            files: OnceLock::new(),
            without_descriptors: false,
        }
    }

    /// Starts the search for the processes that hold sockets, and for their cgroups if wanted. Without descriptors,
    /// the table takes half the memory.
    #[must_use]
    pub fn search_owners(&mut self, cgroups: bool, descriptors: bool) -> Search {
        if let Some(search) = self.recorded_search() {
            return search;
        }
        self.cgroups = cgroups;
        let mut finder = self.finder();
        finder.without_descriptors = !descriptors;
        finder.start()
    }

    /// Every process that holds a TCP socket (with the walk over `/proc`: any socket); with `wanted`, only of those
    /// inodes.
    ///
    /// # Errors
    /// When the process list cannot be read, or BPF was required and is unavailable.
    pub fn owners(&mut self, wanted: Option<&FxHashSet<Inode>>) -> Result<OwnerTable, Error> {
        if let Some(recorded) = &self.recorded {
            return Ok(recorded.owners.clone());
        }
        let (table, route) = self.finder().find(wanted)?;
        self.owner_route = Some(route);
        Ok(table)
    }

    /// Whether BPF may be taken where `/proc` does not suffice.
    pub(super) fn may_take_bpf(&self) -> bool {
        self.owners_via == OwnersVia::Auto && self.root.is_own()
    }

    /// Scans again for the holders of some sockets. Where `/proc` refused a process (even root is refused one or
    /// two), BPF may still see it.
    ///
    /// # Errors
    /// As [`Live::owners`].
    pub fn second_look(&mut self, refused: bool, missing: &FxHashSet<Inode>) -> Result<OwnerTable, Error> {
        if refused
            && self.recorded.is_none()
            && self.may_take_bpf()
            && let Ok(table) = self.finder().by_bpf(Some(missing))
        {
            return Ok(table);
        }
        self.owners(Some(missing))
    }

    /// Scans a second time for sockets without an owner: late holders are found now, and sockets that still exist
    /// without one are separated from those that have vanished.
    ///
    /// # Errors
    /// When the kernel refuses the second query.
    pub fn settle(&mut self, table: &mut OwnerTable, missing: &FxHashSet<Inode>) -> Result<(), Error> {
        if self.recorded.is_some() {
            return Ok(());
        }
        let later = self.second_look(table.unreadable > 0, missing)?;
        let mut unheld: FxHashSet<Inode> = FxHashSet::default();
        let query = Query::states(StateSet::BIG);
        self.sockets(&query, &mut Vec::new(), &mut |socket| {
            if let Some(inode) = socket.inode
                && missing.contains(&inode)
                && later.holders(Some(inode)).is_empty()
            {
                unheld.insert(inode);
            }
            ControlFlow::Continue(())
        })?;
        if !unheld.is_empty() && table.unreadable == 0 && self.owner_route.as_ref().is_some_and(|r| r.via == Route::Bpf)
        {
            // Sockets missing from the BPF pass may belong to a process hidden from us, as a few systems do.
            (table.unreadable, table.unlisted) = proc::owners::unreadable(&self.root)?;
        }
        table.settle(later, unheld.into_iter().collect());
        Ok(())
    }
}
