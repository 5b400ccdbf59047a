//! Everything known at one moment: the input of the rules.
//!
//! Facts only, each `None` or absent when it could not be read. Rates and judgements are computed from one or two
//! snapshots and are not stored.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::addr::Endpoint;
use crate::model::conntrack::{Connection, Conntrack, NatPorts, Tracked};
use crate::model::counter::{Counter, Counters, SockStat, SockStats};
use crate::model::drops::DropPlace;
use crate::model::gap::Gap;
use crate::model::id::{Inode, NetnsId, netns_label};
use crate::model::owner::{Holder, OwnerTable, Process};
use crate::model::path::{Destination, NextHop};
use crate::model::rights::Looker;
use crate::model::socket::Socket;
use crate::model::source::Source;
use crate::model::sysctl::{PORT_RANGE, Sysctl, Sysctls};
use crate::model::traced::TracedInterval;

/// What rules ask about a snapshot; each list is sorted, without repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// What these processes do with their sockets.
    pub pids: Vec<u32>,
    /// Over which neighbour these destinations are reached.
    pub destinations: Vec<Destination>,
    /// What tracking tables have of these connections.
    pub connections: Vec<Connection>,
    /// Which ports source translation has taken in these namespaces.
    pub translators: Vec<Option<NetnsId>>,
    /// How the window that the peers of these connections offer goes on.
    pub windows: Vec<Connection>,
}

impl Asked {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Asked::default()
    }

    /// Adds what somebody else asks.
    pub fn extend(&mut self, other: Asked) {
        self.pids.extend(other.pids);
        self.destinations.extend(other.destinations);
        self.connections.extend(other.connections);
        self.translators.extend(other.translators);
        self.windows.extend(other.windows);
    }

    /// Sorts each list and drops repeats.
    pub fn tidy(&mut self) {
        fn tidy<T: Ord>(list: &mut Vec<T>) {
            list.sort_unstable();
            list.dedup();
        }
        tidy(&mut self.pids);
        tidy(&mut self.destinations);
        tidy(&mut self.connections);
        tidy(&mut self.translators);
        tidy(&mut self.windows);
    }
}

/// What tracking tables were asked and said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrackingAnswers {
    /// Entries of connections; `None`: the table was read and has none.
    pub entries: BTreeMap<Connection, Option<Tracked>>,
    /// The ports that source translation has taken, by namespace; the destination with the most first.
    pub ports: BTreeMap<Option<NetnsId>, Vec<NatPorts>>,
}

/// A transfer at one of the moments at which it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowLook {
    /// Since the first of them.
    pub after_ms: u64,
    /// What the peer offered (`snd_wnd`).
    pub window_bytes: u32,
    /// What it had acknowledged since the connection was made.
    pub acked_bytes: u64,
}

/// Transfers that were looked at several times, by namespace and addresses as the row has them.
pub type Windows = BTreeMap<Connection, Vec<WindowLook>>;

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Answers {
    pub processes: BTreeMap<u32, ProcessFacts>,
    pub next_hops: BTreeMap<Destination, NextHop>,
    pub tracking: TrackingAnswers,
    pub windows: Windows,
    pub gaps: Vec<Gap>,
}

/// One snapshot of one host.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Milliseconds since the epoch.
    pub taken_at_ms: u64,
    /// Milliseconds of the monotonic clock, for intervals.
    pub monotonic_ms: u64,
    pub host: String,
    pub kernel: String,
    pub source: Source,
    /// Who took it.
    pub looker: Looker,
    /// Every namespace that was scanned; rows refer to them by inode.
    pub netns: Vec<Netns>,
    pub sockets: Vec<Socket>,
    pub owners: OwnerTable,
    /// What is known of processes that hold sockets, by pid.
    pub processes: BTreeMap<u32, ProcessFacts>,
    /// Descriptors of TCP sockets that no table of a scanned namespace lists; `None` if not scanned for.
    pub closed_tcp: Option<Vec<Holder>>,
    pub system: System,
    pub gaps: Vec<Gap>,
    /// How many namespaces exist that were not scanned.
    pub netns_not_scanned: u32,
    /// Owners seen earlier of sockets that have none any more, by namespace and cookie.
    pub known_owners: BTreeMap<(Option<NetnsId>, u64), KnownOwner>,
    /// What a trace saw between the snapshot before and this one; `None`: nothing was traced.
    pub traced: Option<TracedInterval>,
    /// The next hop to destinations that are silent; others are not asked about.
    pub next_hops: BTreeMap<Destination, NextHop>,
    /// What tracking tables say of connections that nobody answers.
    pub tracking: TrackingAnswers,
    /// How the windows went that hold transfers back.
    pub windows: Windows,
}

impl Snapshot {
    /// Facts of a namespace by its inode.
    #[must_use]
    pub fn netns(&self, inode: Option<NetnsId>) -> Option<&Netns> {
        self.netns.iter().find(|n| n.inode == inode)
    }

    /// The program that a process runs: the file that it executes, else its name.
    #[must_use]
    pub fn program<'a>(&'a self, process: &'a Process) -> &'a str {
        self.processes.get(&process.pid).and_then(ProcessFacts::program).unwrap_or(&process.comm)
    }
}

/// One network namespace.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Netns {
    pub inode: Option<NetnsId>,
    /// `/run/netns` name, where it has one.
    pub name: Option<String>,
    pub counters: Counters,
    pub sockstat: SockStats,
    /// As read inside the namespace.
    pub sysctls: Sysctls,
    /// `ip_local_reserved_ports`, as ranges with both ends included.
    pub reserved_ports: Vec<(u16, u16)>,
    /// Addresses of the interfaces of the namespace.
    pub addresses: Vec<IpAddr>,
    /// Its table of tracked connections; `None` where the kernel has none.
    pub conntrack: Option<Conntrack>,
    /// Where IPVS balances TCP connections.
    pub virtual_services: Vec<Endpoint>,
    /// What its devices and queues have dropped, without what is 0; `None` where nothing could be read.
    pub drops: Option<BTreeMap<DropPlace, u64>>,
    /// Rows of the namespace are missing because of an incomplete dump.
    pub incomplete: bool,
}

impl Netns {
    /// Its name, or its number.
    #[must_use]
    pub fn label(&self) -> String {
        netns_label(self.name.as_deref(), self.inode)
    }

    /// A counter; `None` when this kernel lacks it or it could not be read.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> Option<u64> {
        self.counters.get(counter).copied()
    }

    /// A count of `/proc/net/sockstat`.
    #[must_use]
    pub fn sockstat(&self, count: SockStat) -> Option<u64> {
        self.sockstat.get(count).copied()
    }

    /// The first number of a sysctl.
    #[must_use]
    pub fn sysctl(&self, sysctl: Sysctl) -> Option<u64> {
        self.sysctls.get(sysctl)?.first().copied()
    }

    /// `ip_local_port_range`, or the kernel's default where it could not be read.
    #[must_use]
    pub fn port_range(&self) -> (u16, u16) {
        let port = |n: &u64| u16::try_from(*n).ok();
        match self.sysctls.get(Sysctl::Ipv4IpLocalPortRange).map(Vec::as_slice) {
            Some([low, high]) => port(low).zip(port(high)).unwrap_or(PORT_RANGE),
            _ => PORT_RANGE,
        }
    }

    #[must_use]
    pub fn is_reserved(&self, port: u16) -> bool {
        is_within(&self.reserved_ports, port)
    }

    /// How many ports connect() can choose from: the range less the reserved ones.
    #[must_use]
    pub fn usable_ports(&self) -> u32 {
        let (low, high) = self.port_range();
        let ports = |low: u16, high: u16| (u32::from(high) + 1).saturating_sub(low.into());
        // The kernel prints the reserved ports of a bitmap: no range overlaps another.
        let reserved: u32 = self.reserved_ports.iter().map(|(from, to)| ports(low.max(*from), high.min(*to))).sum();
        ports(low, high).saturating_sub(reserved)
    }
}

/// Whether the port lies in one of these ranges, both ends included.
#[must_use]
pub fn is_within(ranges: &[(u16, u16)], port: u16) -> bool {
    ranges.iter().any(|(low, high)| (*low..=*high).contains(&port))
}

/// The process that held a socket while it still had an owner.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KnownOwner {
    pub pid: u32,
    pub comm: String,
    /// 0 to 1, as `aggregate::attribution` rates such evidence.
    pub confidence: f64,
    pub reason: String,
}

/// Host-wide numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct System {
    /// `fs.file-nr`: descriptors in use and the limit.
    pub files_used: Option<u64>,
    pub files_max: Option<u64>,
    pub page_bytes: u64,
    pub machine: Machine,
    /// Cumulative: neighbours that found no room in the table (`table_fulls`), of both families.
    pub neighbour_table_full: Option<u64>,
    /// Cumulative: packets for which the queue of a CPU had no room (`/proc/net/softnet_stat`), of all CPUs.
    pub softnet_dropped: Option<u64>,
}

/// What the firmware says of the machine (`/sys/class/dmi/id`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// `sys_vendor`: "Amazon EC2".
    pub vendor: Option<String>,
    /// `bios_version`.
    pub bios: Option<String>,
    /// `chassis_asset_tag`.
    pub asset_tag: Option<String>,
}

/// What is known of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessFacts {
    pub pid: u32,
    /// State letter of `/proc/PID/stat`: R, S, D, T, t, Z.
    pub state: Option<char>,
    pub threads: Option<u32>,
    pub parent: Option<u32>,
    /// How long ago the process started.
    pub running_ms: Option<u64>,
    /// Descriptors in use.
    pub fd_used: Option<u64>,
    /// Soft and hard `RLIMIT_NOFILE`; `None` also for unlimited.
    pub fd_soft: Option<u64>,
    pub fd_hard: Option<u64>,
    /// Base name of the executable, where it could be read.
    pub exe: Option<String>,
    /// Command line, its words.
    pub cmdline: Vec<String>,
    /// Read only for processes named in a finding; `None` if not read or not permitted.
    pub inspection: Option<Inspection>,
    /// Whether its control group (version 2) is frozen; `None` if not known. Read only with the inspection.
    pub frozen: Option<bool>,
    /// How often the quota of its control groups kept it from running; `None` without a quota, or if not known. Read only
    /// with the inspection.
    pub cpu_quota: Option<CpuQuota>,
    /// Whether its listeners were handed to it by socket activation (`LISTEN_PID` of sd_listen_fds(3)); `None` if not
    /// known. Read only with the inspection.
    pub is_activated: Option<bool>,
    /// What limits the memory of its control group; `None` if not known. Read only with the inspection.
    pub group_memory: Option<GroupMemory>,
    /// Inode of its network namespace; `None` when it could not be read.
    pub netns: Option<NetnsId>,
    /// Whether it is a Go program; `None` if not known. Only processes named in a finding are examined, and no file
    /// is opened that may be on an unresponsive server.
    pub is_go: Option<bool>,
}

impl ProcessFacts {
    /// Whether any of its control groups was seen: only then no quota means that it has none.
    #[must_use]
    pub fn has_seen_groups(&self) -> bool {
        self.cpu_quota.is_some() || self.frozen.is_some() || self.group_memory.is_some()
    }

    /// The file that it executes. A program that was replaced on disk while it runs is still the same program.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        self.exe.as_deref().map(|exe| exe.strip_suffix(" (deleted)").unwrap_or(exe))
    }
}

/// What `cpu.stat` says of a control group with a quota (`cpu.max`, `cpu.cfs_quota_us`), since the group exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuQuota {
    /// Periods in which something of the group wanted to run.
    pub periods: u64,
    /// Those of them in which the quota was used up, so that it had to wait for the next one.
    pub throttled: u64,
}

impl CpuQuota {
    /// The share of periods that were throttled, 0 to 1; `None` of too few periods to be a share.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        const FEWEST: u64 = 20;
        (self.periods >= FEWEST).then(|| self.throttled as f64 / self.periods as f64)
    }
}

/// The limit of memory that is nearest above a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMemory {
    /// The control group that has it, by its path.
    pub group: String,
    pub used_bytes: u64,
    /// `None`: neither the group nor one above it has a limit.
    pub limit_bytes: Option<u64>,
    /// How often the limit was reached since the group was made (`failcnt`, `max` of `memory.events`). Version 1 counts it
    /// for TCP before Linux 6.14 only.
    pub hits: Option<u64>,
    /// The most that was in use at a time since then, where the kernel keeps it.
    pub most_bytes: Option<u64>,
    /// The limit is that of TCP (version 1), not of all memory.
    pub tcp_alone: bool,
    /// Of what is used: sockets.
    pub socket_bytes: Option<u64>,
}

/// What a process does with its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// How many epoll instances it has.
    pub epoll_sets: u32,
    /// Every target of every epoll instance.
    pub watches: Vec<EpollWatch>,
    /// How many io_uring instances it has.
    pub io_urings: u32,
    pub threads: Vec<ThreadState>,
    /// Threads beyond those that were read.
    pub threads_not_read: u32,
    /// Jars it has open (names) and libraries it has mapped (name and folder), sorted.
    pub parts: Vec<String>,
    /// Whether its executable, or a library other than the C library, imports `accept()`. `None` if not known: only
    /// processes with one thread and no epoll instance are examined, and no file is opened that may be on an
    /// unresponsive server.
    pub imports_accept: Option<bool>,
}

/// One target of one epoll instance (`/proc/PID/fdinfo/EPFD`, `ep_show_fdinfo` in `fs/eventpoll.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EpollWatch {
    pub epoll_fd: u32,
    pub target_fd: u32,
    /// Inode of the target file; it must match the socket's, because descriptor numbers are reused.
    pub inode: Option<Inode>,
    /// Mask as `epoll_ctl` keeps it: `EPOLLIN` 1, `EPOLLOUT` 4, `EPOLLRDHUP` 0x2000, `EPOLLONESHOT` 1<<30, `EPOLLET` 1<<31.
    pub events: u32,
}

/// Where a thread is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadState {
    pub tid: u32,
    pub name: String,
    pub state: Option<char>,
    /// Kernel function in which it sleeps (`/proc/PID/task/TID/wchan`); `None` when it runs or the kernel hides it.
    pub wchan: Option<String>,
    /// Number of the system call it is in (`/proc/PID/task/TID/syscall`).
    pub syscall: Option<u64>,
    /// First argument of that call: a descriptor for read, recv, accept, epoll_wait.
    pub syscall_arg0: Option<u64>,
}
