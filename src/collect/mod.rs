//! The only folder that asks the kernel, or reads a file.
//!
//! Comes in: a [`Query`] (states, families, attributes). Goes out: sockets pushed into a sink, owners, and a [`Gap`] for
//! everything that could not be seen. Never here: counting, judging, printing.
#![allow(clippy::disallowed_methods, reason = "this is the folder that may do I/O")]

pub mod bpf;
pub mod changes;
pub mod clock;
pub mod containers;
pub mod error;
pub mod kernel_users;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod numbers;
pub mod owners;
pub mod plan;
pub mod poll;
pub mod proc;
pub mod snapshot;
pub mod timewait;
pub mod tracefs;

use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::cores;
use crate::model::counter::{Counters, SockStat};
use crate::model::gap::{Missing, WayOut, Why};
use crate::model::sysctl::{PORT_RANGE, Sysctl};
use crate::model::{Family, Gap, Inode, NetnsId, OwnerTable, Socket, Source, State, StateSet};
use containers::Containers;
pub use error::Error;
use netlink::request::Walk;
use netlink::{Attributes, Channel, Request};
use netns::NetnsHandle;
pub use owners::{Finder, OwnerRoute, OwnersVia, Route};
use proc::{ProcRoot, net_tcp};

/// Which source to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SourceChoice {
    /// `sock_diag`, and `/proc` where there is none.
    #[default]
    Auto,
    Netlink,
    Proc,
}

/// Which families to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Families {
    #[default]
    Both,
    Only(Family),
}

impl Families {
    #[must_use]
    pub fn contains(self, family: Family) -> bool {
        match self {
            Families::Both => true,
            Families::Only(only) => only == family,
        }
    }
}

/// One question about sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub states: StateSet,
    pub families: Families,
    pub attributes: Attributes,
    /// Filter bytecode for the kernel; the sink must check again what it needs exactly.
    pub bytecode: Vec<u8>,
    /// What the sink does meanwhile, so whether receiving pays in a thread of its own.
    pub ahead: Ahead,
}

/// How far receiving may run ahead of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ahead {
    /// Not at all: the answer is expected to be short.
    #[default]
    No,
    /// The sink takes its time with every row (it counts or formats them).
    Rows,
    /// The sink waits for something before it takes the first row.
    Start,
}

impl Query {
    #[must_use]
    pub fn states(states: StateSet) -> Query {
        Query { states, families: Families::Both, attributes: Attributes::NONE, bytecode: Vec::new(), ahead: Ahead::No }
    }

    /// The states to ask for by themselves beside the rest, as (rest, these): the kernel walks the table of bound ports
    /// first and the table of connections then, and asked twice it walks both at once.
    fn beside(&self) -> Option<(StateSet, StateSet)> {
        let bound = StateSet::of(&[State::BoundInactive]);
        let rest = self.states.intersection(bound.complement());
        let walked = !rest.intersection(StateSet::LISTEN.complement()).is_empty();
        (walked && self.states.contains(State::BoundInactive)).then_some((rest, bound))
    }

    fn request(&self, walk: Walk, states: StateSet) -> Request {
        Request { walk, states, attributes: self.attributes, bytecode: self.bytecode.clone() }
    }
}

/// What takes the sockets.
pub type Sink<'a> = &'a mut dyn FnMut(&Socket) -> ControlFlow<()>;

/// The host and kernel that an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    root: ProcRoot,
    choice: SourceChoice,
    /// The namespaces to look into, each once.
    spaces: Vec<NetnsSource>,
    /// Whether `sock_diag` answers.
    netlink: bool,
    /// Why `/proc` is used although nobody asked for it.
    fallback: Option<Fallback>,
    /// One dump for both families was refused; ask for each.
    two_passes: bool,
    host: Host,
    /// How many walks over a table of sockets the kernel was asked for.
    dumps: u64,
    /// What finding the namespaces could not see.
    netns_gaps: Vec<Gap>,
    /// Namespaces that could not be entered.
    netns_not_scanned: u32,
    /// Whether to read the cgroups of processes that hold sockets.
    pub cgroups: bool,
    /// What runtimes of containers keep on disk.
    containers: Arc<Containers>,
    /// How to look for owners.
    pub owners_via: OwnersVia,
    /// How the owners were found the last time.
    pub owner_route: Option<OwnerRoute>,
}

/// Why `/proc` stands in for `sock_diag`, and what to do about it.
struct Fallback {
    error: String,
    way_out: WayOut,
}

impl Fallback {
    fn new(error: &Error) -> Fallback {
        // EAFNOSUPPORT is what a unit with RestrictAddressFamilies= gets, EPERM what a container's seccomp profile gives.
        let way_out = if error.is_permission() || error.is_unsupported_family() {
            WayOut::AllowNetlink
        } else {
            WayOut::LoadInetDiag
        };
        Fallback { error: error.to_string(), way_out }
    }
}

/// A namespace to look into.
struct NetnsSource {
    space: NetnsHandle,
    /// Kept open in our own namespace; in others it lives as long as a dump, as there may be hundreds.
    channel: Option<Channel>,
    /// What the last visit saw.
    seen: Option<NetnsProbe>,
}

/// What one visit to a namespace sees: entering costs more than reading, and there may be hundreds.
#[derive(Debug)]
struct NetnsProbe {
    at: Instant,
    /// `ip_local_port_range`.
    ephemeral: (u16, u16),
    /// About how many sockets there are.
    sockets: u64,
    /// Certainly none, if the reader has none there.
    empty: bool,
    /// A question was answered by it.
    used: bool,
}

impl NetnsProbe {
    /// Reads what is seen from within.
    fn look(root: &ProcRoot) -> NetnsProbe {
        let sockstat = proc::counters::sockstat(root);
        let range = std::fs::read_to_string(root.path().join("sys/net").join(Sysctl::Ipv4IpLocalPortRange.name()))
            .unwrap_or_default();
        let mut words = range.split_ascii_whitespace().map(str::parse);
        NetnsProbe {
            at: Instant::now(),
            ephemeral: match (words.next(), words.next()) {
                (Some(Ok(low)), Some(Ok(high))) => (low, high),
                _ => PORT_RANGE,
            },
            sockets: [SockStat::TcpInuse, SockStat::TcpTw, SockStat::Tcp6Inuse]
                .into_iter()
                .filter_map(|n| sockstat.get(n))
                .sum(),
            empty: proc::counters::is_without_sockets(root, &sockstat),
            used: false,
        }
    }

    /// Whether it is so new that a question may rely on it.
    fn is_fresh(&self) -> bool {
        !self.used && self.at.elapsed() < FRESH
    }
}

impl NetnsSource {
    fn new(space: NetnsHandle, seen: Option<NetnsProbe>) -> NetnsSource {
        NetnsSource { space, channel: None, seen }
    }

    /// What there is to see now.
    fn look(&mut self, root: &ProcRoot) -> Result<&NetnsProbe, Error> {
        let seen = match self.seen.take().filter(NetnsProbe::is_fresh) {
            Some(seen) => seen,
            None => self.space.inside(|| NetnsProbe::look(root))?,
        };
        Ok(self.seen.insert(seen))
    }

    /// A channel that sees this namespace: the one that is open, else a new one; none if there is nothing to see. Only
    /// other namespaces can be without a socket, as the channel is one. What a visit saw serves one question; that for
    /// listeners alone, which goes before the one for all rows, leaves it.
    fn take_channel(&mut self, root: &ProcRoot, states: StateSet) -> Result<Option<Channel>, Error> {
        if let Some(channel) = self.channel.take() {
            return Ok(Some(channel));
        }
        let (inode, own) = (self.space.inode, self.space.is_own());
        // A netlink socket belongs to the namespace of the thread that made it, whoever uses it later.
        let open = || Channel::open(inode).map(Some);
        if own {
            return open();
        }
        let seen = &mut self.seen;
        let channel = match seen.as_ref().filter(|s| s.is_fresh()).map(|s| s.empty) {
            Some(true) => Ok(None),
            Some(false) => self.space.inside(open)?,
            None => self.space.inside(|| if seen.insert(NetnsProbe::look(root)).empty { Ok(None) } else { open() })?,
        };
        if let Some(seen) = seen {
            seen.used |= states != StateSet::LISTEN;
        }
        channel
    }

    /// Keeps a channel for the next question.
    fn keep_channel(&mut self, channel: Channel) {
        self.channel = self.space.is_own().then_some(channel);
    }
}

/// The first kernel that lists sockets which are bound and neither listen nor connect.
const BOUND_INACTIVE_SINCE: (u32, u32) = (6, 8);
/// Sockets of a namespace, or open files of the host, above which threads save more than they cost.
const LARGE_TABLE: u64 = cores::LARGE as u64;
/// How long it may be ago that a namespace was seen to have no socket: less than the time between any two looks of a watch.
const FRESH: Duration = Duration::from_millis(50);
/// What may wait for a sink that does not take rows yet: less with many sockets, as the table of their owners takes
/// memory at the same time.
const WAITING_BYTES: u64 = 8 << 20;
const OWNER_BYTES: u64 = 8;

impl Live {
    /// Opens the source.
    ///
    /// # Errors
    /// When the chosen source does not exist here.
    pub fn open(choice: SourceChoice, root: ProcRoot) -> Result<Live, Error> {
        let netns_link =
            if root.is_own() { root.path().join("thread-self/ns/net") } else { root.path().join("1/ns/net") };
        let netns = std::fs::metadata(netns_link).ok().and_then(|m| NetnsId::new(m.ino()));
        let mut live = Live {
            containers: Arc::new(Containers::new(&root)),
            root,
            choice,
            spaces: vec![NetnsSource::new(NetnsHandle::own(netns), None)],
            netlink: false,
            fallback: None,
            two_passes: false,
            host: Host::here(),
            dumps: 0,
            netns_gaps: Vec::new(),
            netns_not_scanned: 0,
            cgroups: false,
            owners_via: OwnersVia::Auto,
            owner_route: None,
        };
        // A host's /proc mounted elsewhere tells of the host; our own netlink socket would tell of us.
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

    /// Where the sockets come from.
    #[must_use]
    pub fn source(&self) -> Source {
        if self.netlink { Source::Netlink } else { Source::Proc }
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

    /// The names of containers, which rows without a process need too.
    #[must_use]
    pub fn containers(&self) -> Arc<Containers> {
        Arc::clone(&self.containers)
    }

    /// Looks into other namespaces than that of this process.
    ///
    /// # Errors
    /// When one that is named does not exist or may not be entered.
    pub fn enter(&mut self, wanted: &[netns::Wanted]) -> Result<(), Error> {
        let own = self.spaces.iter().find(|p| p.space.is_own()).and_then(|p| p.space.inode);
        let mut channel = self.spaces.iter_mut().find_map(|p| p.channel.take());
        let found = netns::find(wanted, &self.root, own, &|| NetnsProbe::look(&self.root))?;
        self.spaces = found.spaces.into_iter().map(|(space, seen)| NetnsSource::new(space, Some(seen))).collect();
        for place in &mut self.spaces {
            if place.space.is_own() {
                place.channel = channel.take();
            }
        }
        self.netns_gaps = found.gaps;
        self.netns_not_scanned = found.refused;
        Ok(())
    }

    /// Inode of the network namespace that is seen; `None` if unknown, or if there are several.
    #[must_use]
    pub fn netns(&self) -> Option<NetnsId> {
        match &self.spaces[..] {
            [one] => one.space.inode,
            _ => None,
        }
    }

    /// The namespaces that are seen.
    pub fn spaces(&self) -> impl ExactSizeIterator<Item = &NetnsHandle> {
        self.spaces.iter().map(|p| &p.space)
    }

    /// Namespaces that exist and could not be entered.
    #[must_use]
    pub fn netns_not_scanned(&self) -> u32 {
        self.netns_not_scanned
    }

    /// How many walks over a table of sockets the kernel was asked for so far.
    #[must_use]
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    #[must_use]
    pub fn root(&self) -> &ProcRoot {
        &self.root
    }

    /// `ip_local_port_range` of every namespace by its inode; the kernel's default where it cannot be read.
    #[must_use]
    pub fn ephemeral_ports(&mut self) -> Vec<(Option<NetnsId>, (u16, u16))> {
        let places = self.spaces.iter_mut();
        places.map(|p| (p.space.inode, p.look(&self.root).map_or(PORT_RANGE, |seen| seen.ephemeral))).collect()
    }

    /// Counters and sysctls of the namespace; of the first, if there are several.
    #[must_use]
    pub fn netns_facts(&self) -> crate::model::snapshot::Netns {
        self.spaces.first().map(|p| self.facts_of(&p.space)).unwrap_or_default()
    }

    /// The counters alone, added up over the namespaces; empty when those of one cannot be read, as a sum without it would
    /// be of something else.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum: Option<Counters> = None;
        for space in self.spaces() {
            let Ok(counters) = space.inside(|| proc::counters::counters(&self.root)) else {
                return Counters::default();
            };
            sum = Some(sum.map_or_else(|| counters.clone(), |sum| sum.plus(&counters)));
        }
        sum.unwrap_or_default()
    }

    fn facts_of(&self, space: &NetnsHandle) -> crate::model::snapshot::Netns {
        let read = || proc::counters::netns(&self.root, space.inode, space.name.clone());
        space.inside(read).unwrap_or_else(|_| crate::model::snapshot::Netns {
            inode: space.inode,
            name: space.name.clone(),
            incomplete: true,
            ..Default::default()
        })
    }

    /// What this source cannot tell about such a query.
    #[must_use]
    pub fn gaps(&self, query: &Query) -> Vec<Gap> {
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
        let way_out = WayOut::SourceNetlink { since: None };
        (self.source() == Source::Proc).then(|| Gap::new(Missing::SockDiagFields, Why::ProcNetTcp, way_out))
    }

    /// Pushes every socket that matches into the sink, and says what is missing.
    ///
    /// # Errors
    /// When the source gives nothing at all.
    pub fn sockets(&mut self, query: &Query, gaps: &mut Vec<Gap>, sink: Sink<'_>) -> Result<(), Error> {
        let mut given = false;
        for place in 0..self.spaces.len() {
            let result = self.sockets_of(place, query, gaps, &mut |socket| {
                given = true;
                sink(socket)
            });
            match result {
                Ok(true) => break,
                Ok(false) => given = true,
                // Whoever asked can ask otherwise as long as nothing was given; later it would come twice.
                Err(e) if !given => return Err(e),
                Err(e) => {
                    let netns = self.spaces[place].space.label();
                    gaps.push(Gap::new(Missing::NetnsSockets { netns }, Why::Error(e.to_string()), WayOut::None));
                }
            }
        }
        Ok(())
    }

    /// The same for one namespace; true when the sink has enough.
    fn sockets_of(&mut self, place: usize, query: &Query, gaps: &mut Vec<Gap>, sink: Sink<'_>) -> Result<bool, Error> {
        if self.netlink {
            let mut given = false;
            match self.netlink_sockets(place, query, gaps, &mut |socket| {
                given = true;
                sink(socket)
            }) {
                // With bytecode it may be the bytecode that is refused: whoever made it can make another.
                Err(e)
                    if self.choice == SourceChoice::Auto
                        && !given
                        && query.bytecode.is_empty()
                        && (e.is_missing() || e.is_permission()) =>
                {
                    self.netlink = false;
                    self.fallback = Some(Fallback::new(&e));
                }
                other => return other,
            }
        }
        self.proc_sockets(place, query, gaps, sink)
    }

    fn netlink_sockets(
        &mut self,
        place: usize,
        query: &Query,
        gaps: &mut Vec<Gap>,
        sink: Sink<'_>,
    ) -> Result<bool, Error> {
        let threads = (query.ahead != Ahead::No).then(|| self.threads(place)).flatten();
        let waiting_bytes = match (query.ahead, threads) {
            (Ahead::Start, Some(sockets)) => WAITING_BYTES.saturating_sub(OWNER_BYTES * sockets),
            _ => 0,
        };
        let beside = query.beside().filter(|_| threads.is_some() && self.host.version() >= BOUND_INACTIVE_SINCE);
        let walks: &[Walk] = match query.families {
            Families::Only(family) => &[Walk::One(family)],
            Families::Both if self.two_passes => &[Walk::One(Family::V4), Walk::One(Family::V6)],
            Families::Both => &[Walk::Both],
        };
        for (i, walk) in walks.iter().enumerate() {
            let Some(mut channel) = self.spaces[place].take_channel(&self.root, query.states)? else {
                return Ok(false);
            };
            self.dumps += 1;
            let second =
                if beside.is_some() { self.spaces[place].take_channel(&self.root, query.states)? } else { None };
            let beside = beside.zip(second);
            let request = query.request(*walk, beside.as_ref().map_or(query.states, |((rest, _), _)| *rest));
            let dumped = if let Some(((_, bound), mut second)) = beside {
                self.dumps += 1;
                let bound = query.request(*walk, bound);
                channel.dump_ahead(&request, Some((&mut second, &bound)), bytes_of(waiting_bytes), sink)
            } else if threads.is_some() {
                channel.dump_ahead(&request, None, bytes_of(waiting_bytes), sink)
            } else {
                channel.dump(&request, sink)
            };
            let report = match dumped {
                Err(e) if *walk == Walk::Both && e.is_missing() => {
                    self.two_passes = true;
                    self.spaces[place].keep_channel(channel);
                    return self.netlink_sockets(place, query, gaps, sink);
                }
                // The second family may not exist in this kernel.
                Err(e) if i > 0 && e.is_missing() => continue,
                other => other?,
            };
            if let Some(why) = report.incomplete {
                let netns = (self.spaces.len() > 1).then(|| self.spaces[place].space.label());
                gaps.push(Gap::new(Missing::Rows { netns }, Why::Dump(why), WayOut::RunAgain));
            }
            if report.stopped {
                // What was asked for is still on its way in this channel; the next question opens another.
                return Ok(true);
            }
            self.spaces[place].keep_channel(channel);
        }
        Ok(false)
    }

    /// About how many sockets the namespace has, when they are so many that threads pay for themselves.
    fn threads(&mut self, place: usize) -> Option<u64> {
        let place = &mut self.spaces[place];
        // It need not be of now.
        let size = match &place.seen {
            Some(seen) => seen.sockets,
            None => place.look(&self.root).map_or(0, |seen| seen.sockets),
        };
        (size >= LARGE_TABLE && cores::count() > 1).then_some(size)
    }

    /// The namespaces whose tables are so large that threads receive ahead of the decoder.
    pub fn large_tables(&mut self) -> usize {
        if self.source() == Source::Proc {
            return 0;
        }
        (0..self.spaces.len()).filter(|place| self.threads(*place).is_some()).count()
    }

    /// The namespaces that have no socket, and are not asked.
    #[must_use]
    pub fn empty_namespaces(&mut self) -> usize {
        if self.source() == Source::Proc {
            return 0;
        }
        let others = self.spaces.iter_mut().filter(|place| !place.space.is_own());
        others.filter_map(|place| place.look(&self.root).ok().map(|seen| seen.empty)).filter(|empty| *empty).count()
    }

    fn proc_sockets(&self, place: usize, query: &Query, gaps: &mut Vec<Gap>, sink: Sink<'_>) -> Result<bool, Error> {
        let space = &self.spaces[place].space;
        for (family, file) in [(Family::V4, "tcp"), (Family::V6, "tcp6")] {
            if !query.families.contains(family) {
                continue;
            }
            // The table belongs to the namespace of the thread that opens it, whoever reads it later.
            let path = self.root.net().join(file);
            let opened = space.inside(|| std::fs::File::open(&path))?;
            let read = opened.and_then(|table| {
                net_tcp::parse(table, family, space.inode, &mut |socket| {
                    if query.states.contains(socket.state) { sink(socket) } else { ControlFlow::Continue(()) }
                })
            });
            let table = match read {
                // A kernel without IPv6 has no such table, and no such sockets.
                Err(e) if family == Family::V6 && e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    return Err(
                        Error::new("read", path.display().to_string(), e).hint("is a proc file system mounted there?")
                    );
                }
                Ok(table) => table,
            };
            if table.unreadable_lines > 0 {
                let missing = table.unreadable_lines;
                gaps.push(Gap::new(
                    Missing::Lines { missing, of: table.rows + missing },
                    Why::Malformed { path: path.display().to_string() },
                    WayOut::None,
                ));
            }
            if table.stopped {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What finds owners; it needs nothing of this source, so a thread can run it beside a dump.
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

    /// Every process that holds a TCP socket (with the walk over `/proc`: any socket); with `wanted`, only of those inodes.
    ///
    /// # Errors
    /// When the process list cannot be read, or BPF was demanded and is not to be had.
    pub fn owners(&mut self, wanted: Option<&FxHashSet<Inode>>) -> Result<OwnerTable, Error> {
        let (table, route) = self.finder().find(wanted)?;
        self.owner_route = Some(route);
        Ok(table)
    }

    /// Looks once more for the holders of some sockets. Where `/proc` refused a process (even root is refused one or
    /// two), BPF may still tell.
    ///
    /// # Errors
    /// As [`Live::owners`].
    pub fn second_look(&mut self, refused: bool, missing: &FxHashSet<Inode>) -> Result<OwnerTable, Error> {
        if refused
            && self.owners_via == OwnersVia::Auto
            && self.root.is_own()
            && let Ok(table) = self.finder().by_bpf(Some(missing))
        {
            return Ok(table);
        }
        self.owners(Some(missing))
    }

    /// Looks a second time for sockets that had no owner: who was late is found now, and what still exists without one
    /// is told apart from what has vanished.
    ///
    /// # Errors
    /// When the kernel refuses the second question.
    pub fn settle(&mut self, table: &mut OwnerTable, missing: &FxHashSet<Inode>) -> Result<(), Error> {
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
            // What the one pass did not show may belong to a process that is closed to us: a few systems hide one.
            (table.unreadable, table.unlisted) = proc::owners::unreadable(&self.root)?;
        }
        table.settle(later, unheld.into_iter().collect());
        Ok(())
    }
}

fn bytes_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}
