//! The documents of gaps: what is missing, why, and what would help.

use serde_json::Value as Json;

use crate::capture::document::{Document, Refused, enums, structs};
use crate::model::capability::{Capabilities, Capability, Denial};
use crate::model::gap::{Attribute, CounterMismatch, Incomplete, Missing, WayOut, Why};
use crate::model::transition::Via;
use crate::model::{Gap, Unlisted};

structs! {
    Gap { missing, why, way_out }
}

enums! {
    Missing {
        SockDiag = "sock_diag",
        Attributes(list) = "attributes",
        SockDiagFields = "sock_diag_fields",
        BoundInactive = "bound_inactive",
        NetnsSockets { netns } = "netns_sockets",
        Rows { netns } = "rows",
        Lines { missing, of } = "lines",
        Owners { known, of } = "owners",
        NewOwners { sockets } = "new_owners",
        Inspection { processes } = "inspection",
        Marks = "marks",
        ProcessNetns { processes } = "process_netns",
        SomeNetns = "some_netns",
        UnlistedNetns = "unlisted_netns",
        NetnsHeldByFd = "netns_held_by_fd",
        ClosedNetns { count, names } = "closed_netns",
        NetnsBefore { count, names } = "netns_before",
        NetnsAfter { count, names } = "netns_after",
        OtherNetns = "other_netns",
        Trace(via) = "trace",
        ChangesBetweenSamples = "changes_between_samples",
        DestroyEvents { lost } = "destroy_events",
        TraceProcesses = "trace_processes",
        TraceNetns = "trace_netns",
        Tracepoint { name } = "tracepoint",
        OrphanErrors = "orphan_errors",
        ResetReasons = "reset_reasons",
        TracedChanges { lost } = "traced_changes",
        Closers { connections } = "closers",
        TraceEnd = "trace_end",
        Unfollowed { scale } = "unfollowed",
        ListedChanges { count } = "listed_changes",
        Findings = "findings",
        EstablishedCounter = "established_counter",
    }
    Attribute { TcpInfo = "tcp_info", Congestion = "congestion", Tos = "tos", SkMemInfo = "skmeminfo" }
    Via { Bpf = "bpf", Tracefs = "tracefs", Poll = "poll" }
    Unlisted { NoProc = "no_proc", Hidden = "hidden", PidNamespace = "pid_namespace" }
    Why {
        Error(text) = "error",
        ProcNetTcp = "proc_net_tcp",
        KernelTooOld { release } = "kernel_too_old",
        Capability(capability) = "capability",
        Descriptors { refused, denial, unlisted } = "descriptors",
        Unlisted(reason) = "unlisted",
        Forbidden = "forbidden",
        Raced { sockets } = "raced",
        ScanCost { ms } = "scan_cost",
        ExitedOrRefused = "exited_or_refused",
        TooManyDescriptors { limit } = "too_many_descriptors",
        TooManyOpenFiles { limit } = "too_many_open_files",
        EnterRefused { error } = "enter_refused",
        NoThread { error } = "no_thread",
        Dump(incomplete) = "dump",
        Malformed { path } = "malformed",
        NetnsCame = "netns_came",
        NetnsEnded = "netns_ended",
        NoneNamed = "none_named",
        Sampled { interval_ms } = "sampled",
        BufferFull = "buffer_full",
        Tracepoint = "tracepoint",
        NotInKernel = "not_in_kernel",
        OnlyTraced = "only_traced",
        TracefsScope = "tracefs_scope",
        NetnsUnknown = "netns_unknown",
        ChangesLost { lost } = "changes_lost",
        NoCookie = "no_cookie",
        TooManyChanges = "too_many_changes",
        TraceCost { per_second } = "trace_cost",
        TrackLimit = "track_limit",
        TooManySockets { sockets } = "too_many_sockets",
        SeveralHosts = "several_hosts",
        Counters(mismatch) = "counters",
        Recorded { filter } = "recorded",
        SavedText = "saved_text",
    }
    Capability {
        NetAdmin = "net_admin",
        SysPtrace = "sys_ptrace",
        DacReadSearch = "dac_read_search",
        Bpf = "bpf",
        Perfmon = "perfmon",
        SysAdmin = "sys_admin",
    }
    Denial { NotRoot = "not_root", Lacks(capabilities) = "lacks", Forbidden = "forbidden" }
    Incomplete {
        Interrupted = "interrupted",
        NoDone = "no_done",
        Failed(error) = "failed",
        Truncated { bytes, room } = "truncated",
        LongMessage = "long_message",
        CutHeader = "cut_header",
        Undecoded(error) = "undecoded",
    }
    CounterMismatch {
        NoCurrEstab = "no_curr_estab",
        NoSockstat = "no_sockstat",
        SockstatTooLow = "sockstat_too_low",
        Differ { sockstat, curr_estab, close_wait } = "differ",
    }
    WayOut {
        None = "none",
        Root = "root",
        HostRoot = "host_root",
        RootOr(capabilities) = "root_or",
        RecordWith(capabilities) = "record_with",
        Grant(capabilities) = "grant",
        RecordGranted(capabilities) = "record_granted",
        MountProc = "mount_proc",
        HostProc = "host_proc",
        HostPidNamespace = "host_pid_namespace",
        SourceNetlink { since } = "source_netlink",
        Kernel { since } = "kernel",
        NewerKernel = "newer_kernel",
        KernelTypes = "kernel_types",
        EventTracing = "event_tracing",
        AllowNetlink = "allow_netlink",
        LoadInetDiag = "load_inet_diag",
        RunAgain = "run_again",
        RaiseOpenFiles = "raise_open_files",
        MoreThreads = "more_threads",
        NetnsByPath = "netns_by_path",
        AllNetns = "all_netns",
        UseBpf = "use_bpf",
        UseTrace = "use_trace",
        BpfOrInterval = "bpf_or_interval",
        ShorterInterval = "shorter_interval",
        RecordOftener = "record_oftener",
        IntervalOrFilter = "interval_or_filter",
        TrackOrFilter = "track_or_filter",
        RunDoctor = "run_doctor",
        OneRule = "one_rule",
        InsistOnTrace = "insist_on_trace",
        Record = "record",
    }
}

/// The tracepoints that a gap may name.
const TRACEPOINTS: [&str; 6] = [
    "sock:inet_sock_set_state",
    "sock:inet_sk_error_report",
    "tcp:tcp_receive_reset",
    "tcp:tcp_send_reset",
    "tcp:tcp_retransmit_skb",
    "tcp:tcp_destroy_sock",
];

/// The name of a tracepoint.
impl Document for &'static str {
    fn to_json(&self) -> Json {
        (*self).into()
    }

    fn from_json(json: &Json) -> Result<&'static str, Refused> {
        let word = json.as_str().unwrap_or_default();
        Ok(TRACEPOINTS.into_iter().find(|name| *name == word).unwrap_or("another tracepoint"))
    }
}

/// A set of capabilities.
impl Document for Capabilities {
    fn to_json(&self) -> Json {
        Json::Array(self.iter().map(|c| c.to_json()).collect())
    }

    fn from_json(json: &Json) -> Result<Capabilities, Refused> {
        Ok(Vec::<Capability>::from_json(json)?.into_iter().collect())
    }
}

/// The capabilities of a way out.
impl Document for &'static [Capability] {
    fn to_json(&self) -> Json {
        Json::Array(self.iter().map(Document::to_json).collect())
    }

    fn from_json(json: &Json) -> Result<&'static [Capability], Refused> {
        let wanted = Vec::<Capability>::from_json(json)?;
        [WayOut::READ_DESCRIPTORS, WayOut::PTRACE, WayOut::NET_ADMIN, WayOut::BPF, WayOut::SYS_ADMIN]
            .into_iter()
            .find_map(|way_out| match way_out {
                WayOut::RootOr(list) if list == wanted => Some(list),
                _ => None,
            })
            .ok_or_else(|| format!("{json} is no way out that this version knows"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A document with every field that some variant has.
    fn with(word: &str, value: &Json) -> Json {
        json!({
            "is": word, "value": value, "netns": "web", "missing": 1, "of": 7, "known": 3, "sockets": 9, "processes": 2,
            "count": 3, "names": ["a"], "lost": 4, "name": "tcp:tcp_send_reset", "connections": 5, "scale": 8,
            "release": "4.19.0", "refused": 6, "denial": "not_root", "unlisted": "hidden", "ms": 11, "limit": 12,
            "error": "no", "path": "/proc/net/tcp", "interval_ms": 1000, "per_second": 13, "bytes": 14, "room": 15,
            "filter": "dport = 443", "sockstat": 16, "curr_estab": 17, "close_wait": 18, "since": [6, 8],
        })
    }

    #[track_caller]
    fn check<T: Document + std::fmt::Debug + PartialEq>(words: &[&str], values: &[Json]) {
        for word in words {
            let read = |value: &Json| T::from_json(&with(word, value)).ok();
            let found = values.iter().find_map(read).unwrap_or_else(|| panic!("{word}"));
            let written = found.to_json();
            assert!(written == json!(word) || written["is"] == json!(word), "{word}: {written}");
            assert_eq!(T::from_json(&written).as_ref(), Ok(&found), "{word}");
        }
    }

    #[test]
    fn every_gap_survives() {
        let values = [
            json!("text"),
            json!("bpf"),
            json!(["tcp_info", "tos"]),
            json!("no_done"),
            json!("no_sockstat"),
            json!("hidden"),
            json!(["bpf", "perfmon"]),
        ];
        check::<Missing>(&Missing::KEYS, &values);
        let whys = "error proc_net_tcp kernel_too_old capability descriptors unlisted forbidden raced scan_cost exited_or_refused \
            too_many_descriptors too_many_open_files enter_refused no_thread dump malformed netns_came netns_ended none_named \
            sampled buffer_full tracepoint not_in_kernel only_traced tracefs_scope netns_unknown changes_lost no_cookie \
            too_many_changes trace_cost track_limit too_many_sockets counters recorded saved_text";
        check::<Why>(&whys.split_whitespace().collect::<Vec<_>>(), &values);
        let ways = "none root host_root root_or record_with grant record_granted mount_proc host_proc host_pid_namespace source_netlink \
            kernel newer_kernel kernel_types event_tracing allow_netlink load_inet_diag run_again raise_open_files \
            more_threads netns_by_path all_netns use_bpf use_trace bpf_or_interval shorter_interval interval_or_filter \
            track_or_filter run_doctor one_rule insist_on_trace record";
        check::<WayOut>(&ways.split_whitespace().collect::<Vec<_>>(), &values);
        let incomplete = ["interrupted", "no_done", "failed", "truncated", "long_message", "cut_header", "undecoded"];
        check::<Incomplete>(&incomplete, &values);
        check::<Denial>(&["not_root", "lacks", "forbidden"], &values);
        check::<CounterMismatch>(&["no_curr_estab", "no_sockstat", "sockstat_too_low", "differ"], &values);
    }
}
