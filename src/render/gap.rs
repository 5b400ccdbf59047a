//! The sentences for gaps; no other file has any.

use serde_json::{Map, Value as Json, json};

use crate::model::capability::Denial;
use crate::model::gap::{CounterMismatch, Gap, Incomplete, Missing, WayOut, Why};
use crate::model::owner::Unlisted;

use crate::text::{capabilities, container_options, count, grouped};

/// A gap in one line: what, why, and the way out.
#[must_use]
pub fn line(gap: &Gap) -> String {
    let line = format!("{}: {}", what(&gap.missing), why(&gap.why));
    match hint(gap.way_out) {
        Some(hint) => format!("{line}; {hint}"),
        None => line,
    }
}

/// A gap as JSON: the text, and the key that stays when the text changes.
#[must_use]
pub fn object(gap: &Gap) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("missing".into(), json!(gap.missing.key()));
    map.insert("what".into(), json!(what(&gap.missing)));
    map.insert("why".into(), json!(why(&gap.why)));
    map.insert("hint".into(), json!(hint(gap.way_out)));
    map
}

fn processes(n: u32) -> String {
    count(n.into(), "process", "processes")
}

/// What is missing.
#[must_use]
pub fn what(missing: &Missing) -> String {
    let fixed = match missing {
        Missing::SockDiag => "sockets were read from /proc/net/tcp instead of sock_diag",
        Missing::SockDiagFields => "no backlog limit, cookie, interface, mark, cgroup or shutdown for any socket",
        Missing::BoundInactive => "bound_inactive sockets were not counted",
        Missing::Marks => "marks are unknown, so the filter on them matches nothing",
        Missing::SomeNetns => "some network namespaces were not read",
        Missing::UnlistedNetns => "network namespaces of processes that are not listed were not searched for",
        Missing::NetnsHeldByFd => "network namespaces that only a file descriptor keeps alive were not searched for",
        Missing::OtherNetns => "other network namespaces are not traced",
        Missing::Trace(None) => "no trace",
        Missing::ChangesBetweenSamples => "changes between two samples, and the processes behind changes, are not seen",
        Missing::TraceProcesses => "the trace does not name processes",
        Missing::TraceNetns => "the trace has no network namespaces, and no cookies of open sockets",
        Missing::OrphanErrors => "what ended sockets that no process held, in other network namespaces, is unknown",
        Missing::ResetReasons => "no reasons of resets, and no resets that answer a packet without a socket",
        Missing::Closers { connections: None } => "the process that closed some connections is unknown",
        Missing::TraceEnd => "the trace has ended",
        Missing::Findings => "the rules were not run",
        Missing::EstablishedCounter => "ESTABLISHED was counted row by row",
        counted => return what_counted(counted),
    };
    fixed.to_owned()
}

/// A sentence on namespaces of which the first few have names: what it says of one, and of several.
fn some_netns(number: u32, names: &[String], [of_one, of_several]: [&str; 2]) -> String {
    let (spaces, end) = if number == 1 { ("network namespace", of_one) } else { ("network namespaces", of_several) };
    let more = (number as usize).saturating_sub(names.len());
    let names = names.join(", ");
    match (number, more) {
        (1, _) => format!("{spaces} {names} {end}"),
        (_, 0) => format!("{number} {spaces} ({names}) {end}"),
        _ => format!("{number} {spaces} ({names} and {more} more) {end}"),
    }
}

/// The same for those with numbers or names.
fn what_counted(missing: &Missing) -> String {
    match missing {
        Missing::Attributes(attributes) => {
            let names: Vec<&str> = attributes.iter().map(|a| a.name()).collect();
            format!("no {} for any socket", names.join(", "))
        }
        Missing::NetnsSockets { netns } => format!("sockets of network namespace {netns} were not read"),
        Missing::Rows { netns: None } => "the list of sockets is incomplete".into(),
        Missing::Rows { netns: Some(netns) } => {
            format!("the list of sockets of network namespace {netns} is incomplete")
        }
        Missing::Lines { missing, of } => {
            format!("{} of {} could not be read", grouped(*missing), count(*of, "line", "lines"))
        }
        Missing::Owners { known, of } => {
            let unknown = grouped(of.saturating_sub(*known));
            format!("owner unknown for {unknown} of {}", count(*of, "socket", "sockets"))
        }
        Missing::NewOwners { sockets } => {
            format!("owner not yet known for {}", count(*sockets, "new socket", "new sockets"))
        }
        Missing::Inspection { processes: n } => {
            count(u64::from(*n), "process named in findings was", "processes named in findings were") + " not inspected"
        }
        Missing::ProcessNetns { processes: n } => format!("the network namespace of {} is unknown", processes(*n)),
        Missing::ClosedNetns { count: n, names } => {
            let more = if *n as usize > names.len() { ", ..." } else { "" };
            let spaces = count(u64::from(*n), "network namespace was", "network namespaces were");
            format!("{spaces} not read ({}{more})", names.join(", "))
        }
        Missing::NetnsBefore { count, names } => some_netns(
            *count,
            names,
            ["is new: nothing of it was seen before", "are new: nothing of them was seen before"],
        ),
        Missing::NetnsAfter { count, names } => some_netns(
            *count,
            names,
            ["has ended: nothing more of it is seen", "have ended: nothing more of them is seen"],
        ),
        Missing::Trace(Some(via)) => format!("no trace from {}", via.name()),
        Missing::Tracepoint { name } => format!("nothing of {name} is traced"),
        Missing::DestroyEvents { lost } => count(*lost, "destroy event was", "destroy events were") + " lost",
        Missing::TracedChanges { lost } => {
            count(*lost, "state change was", "state changes were") + " lost to the trace"
        }
        Missing::Closers { connections } => {
            let connections = count(connections.unwrap_or(0), "connection", "connections");
            format!("the process that closed {connections} was traced and not kept")
        }
        Missing::Unfollowed { scale } => format!("changes are those of one socket in {scale}, scaled up"),
        Missing::ListedChanges { count: n } => count(*n, "change was", "changes were") + " counted but not listed",
        fixed => what(fixed),
    }
}

/// Why it is missing.
#[must_use]
pub fn why(why: &Why) -> String {
    match why {
        Why::Error(text) => text.clone(),
        Why::ProcNetTcp => "/proc/net/tcp does not have them".into(),
        Why::KernelTooOld { release } => format!("kernel {release} does not report them"),
        Why::Capability(capability) => format!("visible only with {}", capability.name()),
        Why::Descriptors { refused, denial, unlisted } => descriptors(*refused, *denial, *unlisted),
        Why::Unlisted(reason) => unlisted(*reason).into(),
        Why::Forbidden => "a security module or a parent user namespace denies it to root".into(),
        Why::Raced { sockets: 1 } => "it was opened or closed during the scan of processes".into(),
        Why::Raced { sockets } => format!("{} were opened or closed during the scan of processes", grouped(*sockets)),
        Why::ScanCost { ms } => format!("a scan of processes takes {ms} ms"),
        Why::ExitedOrRefused => "they have exited, or permission is denied".into(),
        Why::TooManyDescriptors { limit } => {
            format!("they have more file descriptors than are read at once ({})", grouped(*limit))
        }
        Why::TooManyOpenFiles { limit } => format!("more than {} files are open on this host", grouped(*limit)),
        Why::EnterRefused { error } => {
            format!("entering one takes CAP_SYS_ADMIN in the user namespace that owns it: {error}")
        }
        Why::NoThread { error } => format!("cannot start a thread: {error}"),
        Why::Dump(reason) => incomplete(reason),
        Why::Malformed { path } => format!("{path} is cut or not in the format of the kernel"),
        Why::NetnsCame => "made after the start".into(),
        Why::NetnsEnded => "no process or mount is left".into(),
        Why::NoneNamed => "polling covers only the namespaces that are named".into(),
        Why::Sampled { interval_ms } => format!("sockets are sampled every {interval_ms} ms"),
        Why::BufferFull => "the kernel's buffer was full".into(),
        Why::Tracepoint => "the kernel's tracepoint does not carry them".into(),
        Why::OnlyTraced => "two samples do not have it".into(),
        Why::NotInKernel => "this kernel does not have it".into(),
        Why::TracefsScope => "its records have no network namespace, and only some are wanted".into(),
        Why::NetnsUnknown => "the inode of the network namespace is unknown".into(),
        Why::ChangesLost { lost } => format!("the trace lost {}", count(*lost, "state change", "state changes")),
        Why::NoCookie => "this kernel gave their sockets no cookie".into(),
        Why::TooManyChanges => "too many in one interval".into(),
        Why::TraceCost { per_second } => {
            format!("more than {} changes a second cost more than watch may", grouped(*per_second))
        }
        Why::TrackLimit => "there are more sockets than --track allows".into(),
        Why::TooManySockets { sockets } => {
            format!("judging {} takes too long here", count(*sockets, "socket", "sockets"))
        }
        Why::SeveralHosts => "they are of one host at a time".into(),
        Why::Counters(mismatch) => counters(*mismatch),
        Why::Recorded { filter } => format!("only what matches `{filter}` was recorded"),
        Why::SavedText => "the saved text does not have it".into(),
    }
}

fn descriptors(refused: u32, denial: Denial, reason: Option<Unlisted>) -> String {
    let denied = || {
        let whose = processes(refused);
        match denial {
            Denial::NotRoot => format!("permission denied to the file descriptors of {whose}"),
            Denial::Lacks(missing) => {
                format!("root without {} may not read the file descriptors of {whose}", capabilities(missing))
            }
            Denial::Forbidden => {
                format!("a security module or a parent user namespace denies root the file descriptors of {whose}")
            }
        }
    };
    match reason.map(unlisted) {
        None => denied(),
        Some(unlisted) if refused == 0 => unlisted.into(),
        Some(unlisted) => format!("{}; {unlisted}", denied()),
    }
}

fn unlisted(reason: Unlisted) -> &'static str {
    match reason {
        Unlisted::NoProc => "there is no list of processes",
        Unlisted::Hidden => "processes of other users are hidden (hidepid)",
        Unlisted::PidNamespace => "processes outside this PID namespace are not visible",
    }
}

fn incomplete(reason: &Incomplete) -> String {
    match reason {
        Incomplete::Interrupted => "the table changed while it was read (NLM_F_DUMP_INTR)".into(),
        Incomplete::NoDone => "the dump ended without NLMSG_DONE".into(),
        Incomplete::Failed(error) => format!("the kernel aborted the dump: {error}"),
        Incomplete::Truncated { bytes, room } => format!(
            "datagrams of {} were truncated to {}",
            count(*bytes as u64, "byte", "bytes"),
            grouped(*room as u64)
        ),
        Incomplete::LongMessage => "a netlink message is longer than its datagram".into(),
        Incomplete::CutHeader => "a datagram ends inside a message header".into(),
        Incomplete::Undecoded(error) => error.clone(),
    }
}

fn counters(mismatch: CounterMismatch) -> String {
    let reason = match mismatch {
        CounterMismatch::NoCurrEstab => "there is no CurrEstab".into(),
        CounterMismatch::NoSockstat => "sockstat has no count of TCP sockets".into(),
        CounterMismatch::SockstatTooLow => "sockstat counts fewer sockets than the table has".into(),
        CounterMismatch::Differ { sockstat, curr_estab, close_wait } => {
            let [sockstat, estab, close_wait] = [sockstat, curr_estab, close_wait].map(grouped);
            format!("sockstat has {sockstat} ESTABLISHED, CurrEstab with {close_wait} CLOSE_WAIT has {estab}")
        }
    };
    format!("the kernel's own counters do not agree: {reason}")
}

/// The way out, if one is known.
#[must_use]
pub fn hint(way_out: WayOut) -> Option<String> {
    let fixed = match way_out {
        WayOut::None => return None,
        WayOut::RootOr(wanted) | WayOut::RecordWith(wanted) => {
            let names: Vec<&str> = wanted.iter().map(|c| c.name()).collect();
            let verb = if matches!(way_out, WayOut::RootOr(_)) { "run" } else { "record" };
            return Some(format!("{verb} as root, or with {}", names.join(" and ")));
        }
        WayOut::Grant(lacks) => {
            return Some(format!("grant {} (a container: {})", capabilities(lacks), container_options(lacks)));
        }
        WayOut::RecordGranted(lacks) => {
            return Some(format!("record with {} (a container: {})", capabilities(lacks), container_options(lacks)));
        }
        WayOut::SourceNetlink { since: Some((major, minor)) } => {
            return Some(format!("use --source netlink on Linux {major}.{minor} or later"));
        }
        WayOut::Kernel { since: (major, minor) } => return Some(format!("use Linux {major}.{minor} or later")),
        WayOut::SourceNetlink { since: None } => "use --source netlink",
        WayOut::Root => "run as root",
        WayOut::HostRoot => "run as root on the host",
        WayOut::MountProc => "mount a proc file system at /proc, or name one with --proc-root",
        WayOut::HostProc => {
            "run in the host's PID namespace (--pid=host), or mount its /proc and name it with --proc-root"
        }
        WayOut::HostPidNamespace => "run in the host's PID namespace",
        WayOut::NewerKernel => "use a newer kernel",
        WayOut::KernelTypes => "mount /sys, or use a kernel built with CONFIG_DEBUG_INFO_BTF",
        WayOut::EventTracing => "use Linux 4.16 or later with CONFIG_EVENT_TRACING",
        WayOut::AllowNetlink => "allow the address family AF_NETLINK in the sandbox that this program runs in",
        WayOut::LoadInetDiag => "load the kernel modules inet_diag and tcp_diag",
        WayOut::RunAgain => "run it again",
        WayOut::RaiseOpenFiles => "raise the limit of open files (ulimit -n)",
        WayOut::MoreThreads => "raise the limit of threads (pids.max, ulimit -u)",
        WayOut::NetnsByPath => "name one by its path: --netns /proc/PID/fd/N",
        WayOut::AllNetns => "use --netns all, or --this-netns if this one is enough",
        WayOut::UseBpf => "use the BPF program",
        WayOut::UseTrace => "trace with BPF or tracefs",
        WayOut::BpfOrInterval => "trace with BPF (CAP_BPF and CAP_PERFMON), or shorten --interval",
        WayOut::ShorterInterval => "shorten the interval",
        WayOut::RecordOftener => "record with a shorter --interval",
        WayOut::IntervalOrFilter => "shorten the interval, or narrow the selection",
        WayOut::TrackOrFilter => "raise --track, or narrow the selection",
        WayOut::RunDoctor => "run `tcpstate doctor`",
        WayOut::OneRule => "name one rule with --rule, or read /proc/PID/fdinfo of their epoll descriptors",
        WayOut::InsistOnTrace => "use --trace to keep it running",
        WayOut::Record => "record with `tcpstate record` where it was saved",
    };
    Some(fixed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capability::Capability;
    use crate::model::gap::Attribute;
    use crate::model::transition::Via;

    /// Values of an enum, at least one for each of its patterns; a variant without a pattern does not compile.
    macro_rules! every {
        ($type:ty: $($pattern:pat => [$($value:expr),+ $(,)?]),+ $(,)?) => {{
            let _ = |value: &$type| match value { $($pattern => ()),+ };
            vec![$($($value),+),+]
        }};
    }

    fn missing() -> Vec<Missing> {
        every!(Missing:
            Missing::SockDiag => [Missing::SockDiag],
            Missing::Attributes(_) => [Missing::Attributes(vec![
                Attribute::TcpInfo,
                Attribute::Congestion,
                Attribute::Tos,
                Attribute::SkMemInfo,
            ])],
            Missing::SockDiagFields => [Missing::SockDiagFields],
            Missing::BoundInactive => [Missing::BoundInactive],
            Missing::NetnsSockets { .. } => [Missing::NetnsSockets { netns: "blue".into() }],
            Missing::Rows { .. } => [Missing::Rows { netns: None }, Missing::Rows { netns: Some("blue".into()) }],
            Missing::Lines { .. } => [Missing::Lines { missing: 1, of: 3 }],
            Missing::Owners { .. } => [Missing::Owners { known: 6, of: 7 }, Missing::Owners { known: 0, of: 1 }],
            Missing::NewOwners { .. } => [Missing::NewOwners { sockets: 1 }, Missing::NewOwners { sockets: 12 }],
            Missing::Inspection { .. } => [Missing::Inspection { processes: 1 }, Missing::Inspection { processes: 2 }],
            Missing::Marks => [Missing::Marks],
            Missing::ProcessNetns { .. } => [
                Missing::ProcessNetns { processes: 1 },
                Missing::ProcessNetns { processes: 9 },
            ],
            Missing::SomeNetns => [Missing::SomeNetns],
            Missing::UnlistedNetns => [Missing::UnlistedNetns],
            Missing::NetnsHeldByFd => [Missing::NetnsHeldByFd],
            Missing::ClosedNetns { .. } => [
                Missing::ClosedNetns { count: 1, names: vec!["blue".into()] },
                Missing::ClosedNetns { count: 7, names: vec!["blue".into(), "net:[4026532300]".into()] },
            ],
            Missing::NetnsBefore { .. } => [
                Missing::NetnsBefore { count: 1, names: vec!["blue".into()] },
                Missing::NetnsBefore { count: 2, names: vec!["blue".into(), "red".into()] },
            ],
            Missing::NetnsAfter { .. } => [
                Missing::NetnsAfter { count: 1, names: vec!["net:[4026532300] of container web".into()] },
                Missing::NetnsAfter { count: 12, names: vec!["blue".into(), "red".into(), "green".into()] },
            ],
            Missing::OtherNetns => [Missing::OtherNetns],
            Missing::Trace(_) => [
                Missing::Trace(None),
                Missing::Trace(Some(Via::Bpf)),
                Missing::Trace(Some(Via::Tracefs)),
                Missing::Trace(Some(Via::Poll)),
            ],
            Missing::ChangesBetweenSamples => [Missing::ChangesBetweenSamples],
            Missing::DestroyEvents { .. } => [Missing::DestroyEvents { lost: 1 }, Missing::DestroyEvents { lost: 5 }],
            Missing::TraceProcesses => [Missing::TraceProcesses],
            Missing::TraceNetns => [Missing::TraceNetns],
            Missing::Tracepoint { .. } => [Missing::Tracepoint { name: "tcp:tcp_receive_reset" }],
            Missing::OrphanErrors => [Missing::OrphanErrors],
            Missing::ResetReasons => [Missing::ResetReasons],
            Missing::TracedChanges { .. } => [Missing::TracedChanges { lost: 1 }, Missing::TracedChanges { lost: 5 }],
            Missing::Closers { .. } => [
                Missing::Closers { connections: None },
                Missing::Closers { connections: Some(1) },
                Missing::Closers { connections: Some(5) },
            ],
            Missing::TraceEnd => [Missing::TraceEnd],
            Missing::Unfollowed { .. } => [Missing::Unfollowed { scale: 8 }],
            Missing::ListedChanges { .. } => [Missing::ListedChanges { count: 1 }, Missing::ListedChanges { count: 5 }],
            Missing::Findings => [Missing::Findings],
            Missing::EstablishedCounter => [Missing::EstablishedCounter],
        )
    }

    fn whys() -> Vec<Why> {
        let descriptors = |refused, denial, unlisted| Why::Descriptors { refused, denial, unlisted };
        let ptrace = Denial::Lacks([Capability::SysPtrace].into_iter().collect());
        let mut whys = every!(Why:
            Why::Error(_) => [Why::Error("cannot read /proc/net/tcp: permission denied".into())],
            Why::ProcNetTcp => [Why::ProcNetTcp],
            Why::KernelTooOld { .. } => [Why::KernelTooOld { release: "5.15.0".into() }],
            Why::Capability(_) => [Why::Capability(Capability::NetAdmin)],
            Why::Descriptors { .. } => [
                descriptors(1, Denial::NotRoot, None),
                descriptors(19, Denial::Forbidden, None),
                descriptors(5, ptrace, None),
                descriptors(0, Denial::NotRoot, Some(Unlisted::NoProc)),
                descriptors(0, Denial::NotRoot, Some(Unlisted::Hidden)),
                descriptors(2, Denial::NotRoot, Some(Unlisted::PidNamespace)),
            ],
            Why::Unlisted(_) => [Why::Unlisted(Unlisted::PidNamespace)],
            Why::Forbidden => [Why::Forbidden],
            Why::Raced { .. } => [Why::Raced { sockets: 1 }, Why::Raced { sockets: 3 }],
            Why::ScanCost { .. } => [Why::ScanCost { ms: 250 }],
            Why::ExitedOrRefused => [Why::ExitedOrRefused],
            Why::TooManyDescriptors { .. } => [Why::TooManyDescriptors { limit: 20_000 }],
            Why::TooManyOpenFiles { .. } => [Why::TooManyOpenFiles { limit: 20_000 }],
            Why::EnterRefused { .. } => [Why::EnterRefused { error: "operation not permitted".into() }],
            Why::NoThread { .. } => [Why::NoThread { error: "resource temporarily unavailable".into() }],
            Why::Dump(_) => [Why::Dump(Incomplete::Interrupted)],
            Why::Malformed { .. } => [Why::Malformed { path: "/proc/net/tcp".into() }],
            Why::NetnsCame => [Why::NetnsCame],
            Why::NetnsEnded => [Why::NetnsEnded],
            Why::NoneNamed => [Why::NoneNamed],
            Why::Sampled { .. } => [Why::Sampled { interval_ms: 500 }],
            Why::BufferFull => [Why::BufferFull],
            Why::Tracepoint => [Why::Tracepoint],
            Why::NotInKernel => [Why::NotInKernel],
            Why::OnlyTraced => [Why::OnlyTraced],
            Why::TracefsScope => [Why::TracefsScope],
            Why::NetnsUnknown => [Why::NetnsUnknown],
            Why::ChangesLost { .. } => [Why::ChangesLost { lost: 1 }, Why::ChangesLost { lost: 5 }],
            Why::NoCookie => [Why::NoCookie],
            Why::TooManyChanges => [Why::TooManyChanges],
            Why::TraceCost { .. } => [Why::TraceCost { per_second: 20_000 }],
            Why::TrackLimit => [Why::TrackLimit],
            Why::TooManySockets { .. } => [Why::TooManySockets { sockets: 12_000 }],
            Why::SeveralHosts => [Why::SeveralHosts],
            Why::Counters(_) => [Why::Counters(CounterMismatch::NoCurrEstab)],
            Why::Recorded { .. } => [Why::Recorded { filter: "dport = 443".into() }],
            Why::SavedText => [Why::SavedText],
        );
        whys.extend(
            every!(Incomplete:
                Incomplete::Interrupted => [Incomplete::Interrupted],
                Incomplete::NoDone => [Incomplete::NoDone],
                Incomplete::Failed(_) => [Incomplete::Failed("cannot allocate memory".into())],
                Incomplete::Truncated { .. } => [Incomplete::Truncated { bytes: 65_536, room: 32_768 }],
                Incomplete::LongMessage => [Incomplete::LongMessage],
                Incomplete::CutHeader => [Incomplete::CutHeader],
                Incomplete::Undecoded(_) => [Incomplete::Undecoded("shorter than inet_diag_msg".into())],
            )
            .into_iter()
            .map(Why::Dump),
        );
        let differ = CounterMismatch::Differ { sockstat: 105, curr_estab: 111, close_wait: 10 };
        whys.extend(
            every!(CounterMismatch:
                CounterMismatch::NoCurrEstab => [CounterMismatch::NoCurrEstab],
                CounterMismatch::NoSockstat => [CounterMismatch::NoSockstat],
                CounterMismatch::SockstatTooLow => [CounterMismatch::SockstatTooLow],
                CounterMismatch::Differ { .. } => [differ],
            )
            .into_iter()
            .map(Why::Counters),
        );
        whys
    }

    fn ways_out() -> Vec<WayOut> {
        every!(WayOut:
            WayOut::None => [WayOut::None],
            WayOut::Root => [WayOut::Root],
            WayOut::HostRoot => [WayOut::HostRoot],
            WayOut::RootOr(_) => [WayOut::PTRACE, WayOut::READ_DESCRIPTORS, WayOut::NET_ADMIN, WayOut::BPF],
            WayOut::RecordWith(_) => [WayOut::RecordWith(Capability::READ_DESCRIPTORS)],
            WayOut::Grant(_) => [
                WayOut::Grant([Capability::SysPtrace].into_iter().collect()),
                WayOut::Grant(Capability::BPF.iter().copied().collect()),
            ],
            WayOut::RecordGranted(_) => [WayOut::RecordGranted([Capability::SysPtrace].into_iter().collect())],
            WayOut::MountProc => [WayOut::MountProc],
            WayOut::HostProc => [WayOut::HostProc],
            WayOut::HostPidNamespace => [WayOut::HostPidNamespace],
            WayOut::SourceNetlink { .. } => [
                WayOut::SourceNetlink { since: None },
                WayOut::SourceNetlink { since: Some((6, 8)) },
            ],
            WayOut::Kernel { .. } => [WayOut::Kernel { since: (6, 8) }],
            WayOut::NewerKernel => [WayOut::NewerKernel],
            WayOut::KernelTypes => [WayOut::KernelTypes],
            WayOut::EventTracing => [WayOut::EventTracing],
            WayOut::AllowNetlink => [WayOut::AllowNetlink],
            WayOut::LoadInetDiag => [WayOut::LoadInetDiag],
            WayOut::RunAgain => [WayOut::RunAgain],
            WayOut::RaiseOpenFiles => [WayOut::RaiseOpenFiles],
            WayOut::MoreThreads => [WayOut::MoreThreads],
            WayOut::NetnsByPath => [WayOut::NetnsByPath],
            WayOut::AllNetns => [WayOut::AllNetns],
            WayOut::UseBpf => [WayOut::UseBpf],
            WayOut::UseTrace => [WayOut::UseTrace],
            WayOut::BpfOrInterval => [WayOut::BpfOrInterval],
            WayOut::ShorterInterval => [WayOut::ShorterInterval],
            WayOut::RecordOftener => [WayOut::RecordOftener],
            WayOut::IntervalOrFilter => [WayOut::IntervalOrFilter],
            WayOut::TrackOrFilter => [WayOut::TrackOrFilter],
            WayOut::RunDoctor => [WayOut::RunDoctor],
            WayOut::OneRule => [WayOut::OneRule],
            WayOut::InsistOnTrace => [WayOut::InsistOnTrace],
            WayOut::Record => [WayOut::Record],
        )
    }

    /// The one test that pins the sentences: nothing else may depend on them.
    #[test]
    fn every_sentence() {
        let mut table = String::new();
        for missing in missing() {
            table.push_str(&format!("what {:24} {}\n", missing.key(), what(&missing)));
        }
        for reason in whys() {
            table.push_str(&format!("why  {}\n", why(&reason)));
        }
        for way_out in ways_out() {
            table.push_str(&format!("hint {}\n", hint(way_out).as_deref().unwrap_or("(none)")));
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn every_key_is_in_the_list_and_has_no_twin() {
        let mut keys: Vec<&str> = missing().iter().map(Missing::key).collect();
        keys.dedup();
        assert_eq!(keys, Missing::KEYS);
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
    }

    #[test]
    fn a_line_has_all_three_parts_or_two() {
        let gap = Gap::new(Missing::Marks, Why::ProcNetTcp, WayOut::Root);
        let (what, why) = (what(&gap.missing), why(&gap.why));
        assert_eq!(line(&gap), format!("{what}: {why}; {}", hint(WayOut::Root).unwrap()));
        let gap = Gap { way_out: WayOut::None, ..gap };
        assert_eq!(line(&gap), format!("{what}: {why}"));
        assert_eq!(object(&gap)["hint"], Json::Null);
        assert_eq!(object(&gap)["missing"], "marks");
    }
}
