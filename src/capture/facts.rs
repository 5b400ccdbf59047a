//! The documents of processes, of what they do, and of what was asked about connections.

use serde_json::Value as Json;

use crate::capture::document::{Document, Refused, enums, structs};
use crate::model::cgroup::{Identity, Runtime};
use crate::model::conntrack::{NatPorts, Tracked};
use crate::model::event::ResetReason;
use crate::model::path::{Neighbour, NextHop, Resolution};
use crate::model::rights::Rights;
use crate::model::snapshot::{
    CpuQuota, EpollWatch, GroupMemory, Inspection, KnownOwner, ProcessFacts, ThreadState, TrackingAnswers, WindowLook,
};
use crate::model::traced::{
    Accepted, ConnectFailure, Connects, Counts, Ends, Program, Resets, Retransmits, SentFor, Stray, TracedInterval,
    Unlistened, Waited,
};
use crate::model::{Errno, FourTuple, Process};

structs! {
    Process { pid, comm, uid, identity }
    Identity { unit, container, runtime, pod, user, container_name, pod_name }
    ProcessFacts {
        pid, state, threads, parent, running_ms, fd_used, fd_soft, fd_hard, exe, cmdline, inspection, frozen, cpu_quota,
        group_memory, is_activated, netns, is_go,
    }
    CpuQuota { periods, throttled }
    GroupMemory { group, used_bytes, limit_bytes, hits, most_bytes, tcp_alone, socket_bytes }
    Inspection { epoll_sets, watches, io_urings, threads, threads_not_read, parts, imports_accept }
    EpollWatch { epoll_fd, target_fd, inode, events }
    Rights { is_root, effective }
    ThreadState { tid, name, state, wchan, syscall, syscall_arg0 }
    KnownOwner { pid, comm, confidence, reason }
    Neighbour { gateway, device, resolution, confirmed_ms, has_carrier }
    TrackingAnswers { entries, ports }
    Tracked { sent_to, sent_from, is_answered }
    NatPorts { source, to, taken, chosen, lowest, highest }
    FourTuple { local, peer, ifindex }
    WindowLook { after_ms, window_bytes, acked_bytes }
    TracedInterval {
        duration_ms, lost, resets_traced, connects, resets, retransmits, ends, accepted,
        closed_here_first, not_grouped; unlistened, strays
    }
    Stray { netns, local, peer, count }
    Connects {
        netns, to, program, succeeded, succeeded_late, failed, waited_ms, failed_at_ms, pauses_ms, succeeded_since, waits,
        answered_ms, succeeded_at_ms,
    }
    Waited { failure, ms, at_least_ms }
    Program { pid, comm, processes }
    Resets { netns, service, served_here, sent, program, count, open, unanswered, after_fin; in_use, fresh, late, waited }
    Ends { netns, service, served_here, counts, callers, closers }
    Counts { answered, given_up, unanswered, brief, message, at_once }
    Retransmits { netns, peer, handshake, segments, closing, failed }
    Accepted { netns, local_port, peer, count, at_ms }
    Unlistened { netns, local_port, count }
}

enums! {
    Runtime {
        Docker = "docker",
        Containerd = "containerd",
        CriO = "cri-o",
        Podman = "podman",
        Lxc = "lxc",
        Nspawn = "nspawn",
        Unnamed = "unnamed",
    }
    NextHop { Local = "local", NoRoute { errno } = "no_route", Neighbour(neighbour) = "neighbour" }
    Resolution {
        Failed = "failed",
        Incomplete { requests } = "incomplete",
        Known = "known",
        Unconfirmed = "unconfirmed",
    }
    ConnectFailure { Refused = "refused", Errno(errno) = "errno", GivenUp = "given_up", AtOnce = "at_once", NoPort = "no_port" }
    SentFor { Reason(reason) = "reason", Unknown = "unknown" }
    ResetReason {
        NotSpecified = "not_specified",
        NoSocket = "no_socket",
        InvalidAck = "invalid_ack",
        Paws = "paws",
        TooOldAck = "too_old_ack",
        AckUnsentData = "ack_unsent_data",
        Flags = "flags",
        OldAck = "old_ack",
        AbortOnData = "abort_on_data",
        TimeWait = "timewait",
        InvalidSyn = "invalid_syn",
        AbortOnClose = "abort_on_close",
        AbortOnLinger = "abort_on_linger",
        AbortOnMemory = "abort_on_memory",
        Disconnected = "disconnected",
        KeepaliveTimeout = "keepalive_timeout",
        DisconnectWithData = "disconnect_with_data",
        MptcpUnspecified = "mptcp_unspecified",
        Mptcp = "mptcp",
        MptcpResource = "mptcp_resource",
        MptcpProhibited = "mptcp_prohibited",
        MptcpTooMuchData = "mptcp_too_much_data",
        MptcpPerformance = "mptcp_performance",
        MptcpMiddlebox = "mptcp_middlebox",
        Error = "error",
        Unknown(number) = "unknown",
    }
}

/// Numbers of errors are those of Linux on the machine that recorded; most are the same everywhere.
impl Document for Errno {
    fn to_json(&self) -> Json {
        self.0.into()
    }

    fn from_json(json: &Json) -> Result<Errno, Refused> {
        i32::from_json(json).map(Errno)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Endpoint, Inode, NetnsId};

    #[track_caller]
    fn survives<T: Document + std::fmt::Debug + PartialEq>(value: &T) {
        let text = value.to_json().to_string();
        let read: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(T::from_json(&read).as_ref(), Ok(value), "{text}");
    }

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::from_json(&json!(text)).unwrap()
    }

    #[test]
    fn a_process_survives_with_what_it_does() {
        let thread = ThreadState {
            tid: 7,
            name: "w\u{1b}[31m".into(),
            state: Some('S'),
            wchan: Some("ep_poll".into()),
            syscall: Some(232),
            syscall_arg0: Some(4),
        };
        let inspection = Inspection {
            epoll_sets: 1,
            watches: vec![EpollWatch { epoll_fd: 4, target_fd: 5, inode: Inode::new(99), events: 1 << 31 }],
            threads: vec![thread],
            parts: vec!["libuv.so".into()],
            imports_accept: Some(false),
            ..Inspection::default()
        };
        survives(&ProcessFacts {
            pid: 12,
            state: Some('R'),
            running_ms: Some(5),
            exe: Some("a b".into()),
            cmdline: vec!["a".into(), String::new()],
            inspection: Some(inspection),
            is_go: Some(false),
            netns: NetnsId::new(4_026_531_840),
            ..ProcessFacts::default()
        });
        survives(&ProcessFacts::default());
    }

    #[test]
    fn what_a_trace_summed_up_survives() {
        let failed = [
            ConnectFailure::Refused,
            ConnectFailure::Errno(Errno::ETIMEDOUT),
            ConnectFailure::GivenUp,
            ConnectFailure::AtOnce,
            ConnectFailure::NoPort,
        ];
        let connects = Connects {
            netns: NetnsId::new(1),
            to: endpoint("10.0.0.1:80"),
            program: Some(Program { pid: 1, comm: "c".into(), processes: 2 }),
            succeeded: 1,
            succeeded_late: Some(1),
            pauses_ms: Some((200, 210)),
            failed: failed.into_iter().zip(1..).collect(),
            waited_ms: Some((0, 5)),
            failed_at_ms: None,
            succeeded_since: 0,
            waits: vec![Waited::new(ConnectFailure::GivenUp, Some((0, 5)), Some(9))],
            answered_ms: Some((1, 2)),
            succeeded_at_ms: Some((3, 4)),
        };
        let resets = |sent| Resets {
            netns: None,
            service: endpoint("[fe80::1]:443"),
            served_here: true,
            sent,
            program: None,
            count: 3,
            open: 1,
            unanswered: 0,
            after_fin: 1,
            in_use: 4,
            fresh: 1,
            late: 2,
            waited: 3,
        };
        let counts = Counts { answered: 1, given_up: 2, unanswered: 3, brief: 4, message: Some(5), at_once: Some(6) };
        let ends = Ends {
            netns: NetnsId::new(1),
            service: endpoint("10.0.0.1:80"),
            served_here: false,
            counts,
            callers: vec![(Program { pid: 1, comm: "a".into(), processes: 2 }, counts)],
            closers: vec![(Program { pid: 2, comm: "b".into(), processes: 1 }, counts)],
        };
        let reasons = ResetReason::KEYS.iter().map(|key| {
            let json = if *key == "unknown" { json!({ "is": "unknown", "value": 77 }) } else { json!(key) };
            let reason = ResetReason::from_json(&json).unwrap_or_else(|why| panic!("{key}: {why}"));
            assert_eq!(reason.key(), *key);
            Some(SentFor::Reason(reason))
        });
        let retransmits =
            Retransmits { netns: None, peer: "::1".parse().unwrap(), handshake: 1, segments: 2, closing: 1, failed: 3 };
        let accepted =
            Accepted { netns: None, local_port: 80, peer: "10.0.0.9".parse().unwrap(), count: 2, at_ms: (5, 900) };
        survives(&TracedInterval {
            duration_ms: 1000,
            lost: 2,
            resets_traced: true,
            connects: vec![connects],
            resets: reasons.chain([None, Some(SentFor::Unknown)]).map(resets).collect(),
            retransmits: vec![retransmits],
            ends: vec![ends],
            accepted: vec![accepted],
            unlistened: vec![Unlistened { netns: None, local_port: 80, count: 3 }],
            closed_here_first: 9,
            strays: vec![Stray::new(None, endpoint("10.0.0.1:4000"), endpoint("10.0.0.2:80"), 7)],
            not_grouped: 1,
        });
    }

    #[test]
    fn next_hops_and_tracked_connections_survive() {
        for resolution in [
            None,
            Some(Resolution::Failed),
            Some(Resolution::Incomplete { requests: 3 }),
            Some(Resolution::Known),
            Some(Resolution::Unconfirmed),
        ] {
            let gateway = Some("10.0.0.254".parse().unwrap());
            let has_carrier = Some(resolution.is_some());
            let confirmed_ms = Some(1230);
            survives(&NextHop::Neighbour(Neighbour { gateway, device: None, resolution, confirmed_ms, has_carrier }));
        }
        survives(&NextHop::Local);
        survives(&NextHop::NoRoute { errno: 113 });
        let tuple = FourTuple { local: endpoint("10.0.0.1:4"), peer: endpoint("10.0.0.2:80"), ifindex: 0 };
        let tracked = Tracked { sent_to: tuple.peer, sent_from: tuple.local, is_answered: false };
        let nat =
            NatPorts { source: tuple.local.addr, to: tuple.peer, taken: 4, chosen: 2, lowest: 1024, highest: u16::MAX };
        survives(&TrackingAnswers {
            entries: [((None, tuple), Some(tracked)), ((NetnsId::new(5), tuple), None)].into(),
            ports: [(None, vec![nat])].into(),
        });
        let look = |after_ms| WindowLook { after_ms, window_bytes: 65_536, acked_bytes: u64::MAX };
        survives(&crate::model::snapshot::Windows::from([((NetnsId::new(5), tuple), vec![look(0), look(25)])]));
    }
}
