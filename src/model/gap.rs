//! What an answer lacks, why, and what would help: as facts.
//!
//! Code decides by these types; `render::gap` alone puts them into words. A string in here is foreign text: a name,
//! a path, a kernel release, the text of an error.

pub use crate::model::capability::Capability;
use crate::model::capability::{Capabilities, Denial};
use crate::model::owner::Unlisted;
use crate::model::transition::Via;

/// Something that the answer lacks. A gap is data, not an error: it is printed with the result, and `--strict` turns
/// it into a failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Gap {
    pub missing: Missing,
    pub why: Why,
    pub way_out: WayOut,
}

impl Gap {
    #[must_use]
    pub const fn new(missing: Missing, why: Why, way_out: WayOut) -> Gap {
        Gap { missing, why, way_out }
    }

    /// The same for what was recorded.
    #[must_use]
    pub fn when_recorded(self) -> Gap {
        Gap { way_out: self.way_out.when_recorded(), ..self }
    }

    /// Whether both tell the same, numbers apart: a series of samples tells it once, however its size varies.
    #[must_use]
    pub fn is_like(&self, other: &Gap) -> bool {
        let same_reason = std::mem::discriminant(&self.why) == std::mem::discriminant(&other.why);
        same_reason && self.missing.uncounted() == other.missing.uncounted()
    }
}

/// What is missing or incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Missing {
    /// `sock_diag`: `/proc/net/tcp` was read instead.
    SockDiag,
    /// These attributes, for every socket.
    Attributes(Vec<Attribute>),
    /// What only `sock_diag` reports of every socket: cookie, backlog limit, mark.
    SockDiagFields,
    /// Sockets that are bound, but neither listening nor connected.
    BoundInactive,
    /// Every socket of one network namespace.
    NetnsSockets { netns: String },
    /// Some rows of a dump; `netns` is set when there are several namespaces.
    Rows { netns: Option<String> },
    /// Lines of a table in `/proc`.
    Lines { missing: u64, of: u64 },
    /// Owners of sockets.
    Owners { known: u64, of: u64 },
    /// Owners of sockets opened since the last scan of processes.
    NewOwners { sockets: u64 },
    /// What the processes named in findings do with their sockets.
    Inspection { processes: u32 },
    /// `SO_MARK`, which the filter tests.
    Marks,
    /// The network namespaces of these processes.
    ProcessNetns { processes: u32 },
    /// Network namespaces; how many is unknown.
    SomeNetns,
    /// Network namespaces of processes that are not listed.
    UnlistedNetns,
    /// Network namespaces that only a descriptor keeps alive.
    NetnsHeldByFd,
    /// Network namespaces that exist and were not read; the first few by name.
    ClosedNetns { count: u32, names: Vec<String> },
    /// What network namespaces had before they were found; the first few by name.
    NetnsBefore { count: u32, names: Vec<String> },
    /// What would come of network namespaces that have ended; the first few by name.
    NetnsAfter { count: u32, names: Vec<String> },
    /// Network namespaces other than this one, in a trace.
    OtherNetns,
    /// A trace from this source; `None`: from any.
    Trace(Option<Via>),
    /// Changes between two samples, and the process behind any change.
    ChangesBetweenSamples,
    /// Destroy events of sockets.
    DestroyEvents { lost: u64 },
    /// Processes in a trace.
    TraceProcesses,
    /// Network namespaces in a trace, and cookies of sockets that are open.
    TraceNetns,
    /// What this tracepoint reports.
    Tracepoint { name: &'static str },
    /// Errors of sockets that no process holds, in other network namespaces.
    OrphanErrors,
    /// Why resets were sent, and those that answer a packet without a socket.
    ResetReasons,
    /// State changes in a trace.
    TracedChanges { lost: u64 },
    /// Which process closed connections; `None`: how many is not known.
    Closers { connections: Option<u64> },
    /// The rest of a trace.
    TraceEnd,
    /// Changes of sockets that are not tracked: one in `scale` is.
    Unfollowed { scale: u64 },
    /// Single changes; they are only counted.
    ListedChanges { count: u64 },
    /// Findings: the rules did not run.
    Findings,
    /// The kernel's own count of ESTABLISHED.
    EstablishedCounter,
}

impl Missing {
    /// The same without its numbers.
    fn uncounted(&self) -> Missing {
        match self {
            Missing::Lines { .. } => Missing::Lines { missing: 0, of: 0 },
            Missing::Owners { .. } => Missing::Owners { known: 0, of: 0 },
            Missing::NewOwners { .. } => Missing::NewOwners { sockets: 0 },
            Missing::Inspection { .. } => Missing::Inspection { processes: 0 },
            Missing::ProcessNetns { .. } => Missing::ProcessNetns { processes: 0 },
            Missing::DestroyEvents { .. } => Missing::DestroyEvents { lost: 0 },
            Missing::TracedChanges { .. } => Missing::TracedChanges { lost: 0 },
            Missing::Closers { .. } => Missing::Closers { connections: None },
            Missing::Unfollowed { .. } => Missing::Unfollowed { scale: 0 },
            Missing::ListedChanges { .. } => Missing::ListedChanges { count: 0 },
            other => other.clone(),
        }
    }

    /// Every key, for the schema.
    pub const KEYS: [&'static str; 34] = [
        "sock_diag",
        "attributes",
        "sock_diag_fields",
        "bound_inactive",
        "netns_sockets",
        "rows",
        "lines",
        "owners",
        "new_owners",
        "inspection",
        "marks",
        "process_netns",
        "some_netns",
        "unlisted_netns",
        "netns_held_by_fd",
        "closed_netns",
        "netns_before",
        "netns_after",
        "other_netns",
        "trace",
        "changes_between_samples",
        "destroy_events",
        "trace_processes",
        "trace_netns",
        "tracepoint",
        "orphan_errors",
        "reset_reasons",
        "traced_changes",
        "closers",
        "trace_end",
        "unfollowed",
        "listed_changes",
        "findings",
        "established_counter",
    ];

    /// The key that JSON prints. It stays the same when the words change.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Missing::SockDiag => "sock_diag",
            Missing::Attributes(_) => "attributes",
            Missing::SockDiagFields => "sock_diag_fields",
            Missing::BoundInactive => "bound_inactive",
            Missing::NetnsSockets { .. } => "netns_sockets",
            Missing::Rows { .. } => "rows",
            Missing::Lines { .. } => "lines",
            Missing::Owners { .. } => "owners",
            Missing::NewOwners { .. } => "new_owners",
            Missing::Inspection { .. } => "inspection",
            Missing::Marks => "marks",
            Missing::ProcessNetns { .. } => "process_netns",
            Missing::SomeNetns => "some_netns",
            Missing::UnlistedNetns => "unlisted_netns",
            Missing::NetnsHeldByFd => "netns_held_by_fd",
            Missing::ClosedNetns { .. } => "closed_netns",
            Missing::NetnsBefore { .. } => "netns_before",
            Missing::NetnsAfter { .. } => "netns_after",
            Missing::OtherNetns => "other_netns",
            Missing::Trace(_) => "trace",
            Missing::ChangesBetweenSamples => "changes_between_samples",
            Missing::DestroyEvents { .. } => "destroy_events",
            Missing::TraceProcesses => "trace_processes",
            Missing::TraceNetns => "trace_netns",
            Missing::Tracepoint { .. } => "tracepoint",
            Missing::OrphanErrors => "orphan_errors",
            Missing::ResetReasons => "reset_reasons",
            Missing::TracedChanges { .. } => "traced_changes",
            Missing::Closers { .. } => "closers",
            Missing::TraceEnd => "trace_end",
            Missing::Unfollowed { .. } => "unfollowed",
            Missing::ListedChanges { .. } => "listed_changes",
            Missing::Findings => "findings",
            Missing::EstablishedCounter => "established_counter",
        }
    }
}

/// An attribute that a request has to ask for (`INET_DIAG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    TcpInfo,
    Congestion,
    Tos,
    SkMemInfo,
}

impl Attribute {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Attribute::TcpInfo => "tcp_info",
            Attribute::Congestion => "congestion",
            Attribute::Tos => "tos",
            Attribute::SkMemInfo => "skmeminfo",
        }
    }
}

/// Why it is missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// An operation failed, with the text of its error.
    Error(String),
    /// `/proc/net/tcp` does not have it.
    ProcNetTcp,
    /// This kernel release does not report it.
    KernelTooOld { release: String },
    /// The kernel shows it only with this capability.
    Capability(Capability),
    /// Descriptors of processes could not be read, or processes are not listed.
    Descriptors { refused: u32, denial: Denial, unlisted: Option<Unlisted> },
    /// Processes are not listed.
    Unlisted(Unlisted),
    /// A security module, or a user namespace above, denies it although every capability is there.
    Forbidden,
    /// Sockets opened or closed during the scan of processes.
    Raced { sockets: u64 },
    /// Finding owners takes this long, so not every sample does it.
    ScanCost { ms: u128 },
    /// The processes have exited, or may not be read.
    ExitedOrRefused,
    /// The processes have more descriptors than one run reads.
    TooManyDescriptors { limit: u64 },
    /// The host has more open files than one scan reads.
    TooManyOpenFiles { limit: u64 },
    /// Entering a namespace is not permitted: the last error.
    EnterRefused { error: String },
    /// No thread could be started: the system's error.
    NoThread { error: String },
    /// A dump is incomplete.
    Dump(Incomplete),
    /// A file is truncated, or not in the kernel's format.
    Malformed { path: String },
    /// It was made, or its container started, after this program.
    NetnsCame,
    /// No process is in it and no mount holds it any more.
    NetnsEnded,
    /// Polling reads only namespaces given by name, and none was.
    NoneNamed,
    /// Sockets are sampled this often.
    Sampled { interval_ms: u128 },
    /// The kernel's buffer was full.
    BufferFull,
    /// The kernel's tracepoint does not carry it.
    Tracepoint,
    /// This kernel does not have it.
    NotInKernel,
    /// Two samples do not have it.
    OnlyTraced,
    /// tracefs records do not carry the namespace, and only some namespaces are wanted.
    TracefsScope,
    /// The inode of the network namespace is not known.
    NetnsUnknown,
    /// State changes were lost.
    ChangesLost { lost: u64 },
    /// The sockets have no cookie yet, so a change cannot be matched to what is left of the connection.
    NoCookie,
    /// More changes in one interval than are kept.
    TooManyChanges,
    /// More changes a second than this cost too much.
    TraceCost { per_second: u64 },
    /// More sockets than are tracked.
    TrackLimit,
    /// The rules would take too long over this many sockets.
    TooManySockets { sockets: u64 },
    /// The rules judge a host at a time.
    SeveralHosts,
    /// The kernel's counters do not confirm each other.
    Counters(CounterMismatch),
    /// Only what matched this filter was recorded.
    Recorded { filter: String },
    /// The text that another tool printed does not have it.
    SavedText,
}

/// Why rows of a dump may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Incomplete {
    /// The table changed while it was read: `NLM_F_DUMP_INTR`.
    Interrupted,
    /// The stream ended without `NLMSG_DONE`.
    NoDone,
    /// The kernel ended the dump with an error.
    Failed(String),
    /// A datagram was larger than the buffer.
    Truncated { bytes: usize, room: usize },
    /// A message is longer than its datagram.
    LongMessage,
    /// A datagram ends inside a message header.
    CutHeader,
    /// A row could not be decoded: the error of the decoder.
    Undecoded(String),
}

/// How `CurrEstab` and `sockstat` fail to confirm each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CounterMismatch {
    NoCurrEstab,
    NoSockstat,
    /// `sockstat` counts fewer sockets than the table has.
    SockstatTooLow,
    /// ESTABLISHED by `sockstat`, and `CurrEstab` less these in CLOSE_WAIT.
    Differ {
        sockstat: u64,
        curr_estab: u64,
        close_wait: u64,
    },
}

/// What would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WayOut {
    /// Nothing known.
    None,
    Root,
    /// Root in the initial user namespace.
    HostRoot,
    /// Root, or all of these.
    RootOr(&'static [Capability]),
    /// A recording made as root, or with all of these.
    RecordWith(&'static [Capability]),
    /// Root has these not, and needs them.
    Grant(Capabilities),
    /// A recording by root that has these.
    RecordGranted(Capabilities),
    MountProc,
    /// The host's `/proc`, or its PID namespace.
    HostProc,
    /// The host's PID namespace alone.
    HostPidNamespace,
    /// `--source netlink`, on this kernel version or a later one.
    SourceNetlink {
        since: Option<(u32, u32)>,
    },
    Kernel {
        since: (u32, u32),
    },
    NewerKernel,
    /// BTF: `/sys`, or `CONFIG_DEBUG_INFO_BTF`.
    KernelTypes,
    /// `CONFIG_EVENT_TRACING`.
    EventTracing,
    /// A sandbox that permits AF_NETLINK.
    AllowNetlink,
    LoadInetDiag,
    RunAgain,
    RaiseOpenFiles,
    /// A higher thread limit.
    MoreThreads,
    /// `--netns /proc/PID/fd/N`.
    NetnsByPath,
    /// `--netns all`, or `--this-netns`.
    AllNetns,
    UseBpf,
    /// BPF or tracefs.
    UseTrace,
    /// BPF, or a shorter `--interval`.
    BpfOrInterval,
    ShorterInterval,
    /// A recording with a shorter `--interval`.
    RecordOftener,
    /// A shorter interval, or a filter.
    IntervalOrFilter,
    /// A higher `--track`, or a filter.
    TrackOrFilter,
    RunDoctor,
    /// `--rule`, or a manual check.
    OneRule,
    /// `--trace`.
    InsistOnTrace,
    /// `record` instead of saved text.
    Record,
}

impl WayOut {
    /// Root, or the privileges to read any process's descriptors.
    pub const READ_DESCRIPTORS: WayOut = WayOut::RootOr(Capability::READ_DESCRIPTORS);
    pub const PTRACE: WayOut = WayOut::RootOr(&[Capability::SysPtrace]);
    pub const NET_ADMIN: WayOut = WayOut::RootOr(&[Capability::NetAdmin]);
    pub const SYS_ADMIN: WayOut = WayOut::RootOr(&[Capability::SysAdmin]);
    pub const BPF: WayOut = WayOut::RootOr(Capability::BPF);

    /// The same for what was recorded: who reads it now can change nothing.
    #[must_use]
    pub fn when_recorded(self) -> WayOut {
        match self {
            WayOut::RootOr(wanted) => WayOut::RecordWith(wanted),
            WayOut::Grant(lacks) => WayOut::RecordGranted(lacks),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_no_other_gap() {
        let raced =
            |known, of| Gap::new(Missing::Owners { known, of }, Why::Raced { sockets: of - known }, WayOut::None);
        assert!(raced(95, 97).is_like(&raced(101, 102)));
        let refused = Gap { why: Why::Capability(Capability::SysPtrace), ..raced(95, 97) };
        assert!(!raced(95, 97).is_like(&refused), "another reason");
        let rows = |netns: &str| Gap { missing: Missing::Rows { netns: Some(netns.into()) }, ..refused.clone() };
        assert!(!rows("a").is_like(&rows("b")));
    }
}
