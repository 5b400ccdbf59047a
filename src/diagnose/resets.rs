//! Why connections end by reset, as data: the causes, and what the kernel's reason and the trace prove of them.
//!
//! Input: traced resets of one service. Output: how many of them a cause explains. Not here: who sends them, and whom it hurts.

use crate::diagnose::callers;
use crate::diagnose::hypothesis::Cause;
use crate::diagnose::view::View;
use crate::model::event::ResetReason;
use crate::model::sysctl::Sysctl;
use crate::model::traced::{ConnectFailure, Connects, Resets, SentFor, TracedInterval};
use crate::model::{Endpoint, NetnsId};

pub const CAUSES: &[Cause] = &[
    Cause {
        id: "closed-unread",
        text: "its process closes with unread data",
        predicts: "the kernel's reason is abort_on_close",
        refuted_by: "another reason",
        decided_by: "`strace -e trace=read,recvfrom,close` of the process",
    },
    Cause {
        id: "gave-up",
        text: "it had asked, got no answer, and gave up waiting",
        predicts: "the end that asked cuts them off, and had not received a byte",
        refuted_by: "bytes that had come",
        decided_by: "the time limit of the program that asked, and what the other end does meanwhile: the finding no-answer",
    },
    Cause {
        id: "cut-off",
        text: "its process cuts them off with SO_LINGER 0",
        predicts: "the kernel's reason is disconnected",
        refuted_by: "another reason",
        decided_by: "SO_LINGER in the program; health checks and load testers set it on purpose",
    },
    Cause {
        id: "closed-too-early",
        text: "its process closes connections on which the other end still sends",
        predicts: "the kernel's reason is abort_on_data",
        refuted_by: "another reason",
        decided_by: "the limits for idle connections of both ends; requests that are answered before they were read whole",
    },
    Cause {
        id: "closed-before",
        text: "it had closed the connections itself some time before, and the other end sent on them all the same",
        predicts: "the kernel's reason is timewait: FIN_WAIT2 is left of the connection",
        refuted_by: "another reason",
        decided_by: "the keep-alive timeout of the server against the idle time of the client's pool; a TLS close_notify \
                     that comes late does the same, and hurts nobody",
    },
    Cause {
        id: "late-answer",
        text: "the client had closed them, or given them up, before all of the answer had come",
        predicts: "the client's kernel answers what the service sends with abort_on_data, timewait or no_socket",
        refuted_by: "a service that closed first",
        decided_by: "the time limits of the client against the time that the service takes; clients that end, or that need no \
                     more of the answer, do the same",
    },
    Cause {
        id: "used-after-close",
        text: "the peer had closed the connections before, and the program here used them again",
        predicts: "they had carried data, were in CLOSE_WAIT for a while when the program wrote, and the reset ended them with EPIPE",
        refuted_by: "the reset came before any FIN of the peer, or to a connection that was new",
        decided_by: "the idle time of the pool against the keep-alive timeout of the server; a TLS close_notify of our own \
                     does the same, and hurts nobody",
    },
    Cause {
        id: "turned-away",
        text: "the service ends new connections before it serves them (a limit or an access rule of its own, a worker that dies)",
        predicts: "they end within a second of the handshake, and carry no more than a line",
        refuted_by: "connections that had been in use",
        decided_by: "the log of the service; its limits on clients, workers and descriptors; `tcpstate doctor` on its host",
    },
    Cause {
        id: "not-known",
        text: "segments come for connections that it does not have",
        predicts: "the kernel's reason is no_socket",
        refuted_by: "another reason",
        decided_by: "what was restarted, and whether a device between forgot the connections or sends them elsewhere",
    },
    Cause {
        id: "no-listener",
        text: "nothing listens on that port here",
        predicts: "the kernel's reason is no_socket, and the port has no listener",
        refuted_by: "a listener of the port",
        decided_by: "`ss -ltn` of the port",
    },
    Cause {
        id: "kernel",
        text: "the kernel gives them up: memory, orphans, keepalive, TCP_LINGER2",
        predicts: "the kernel's reason is abort_on_memory, keepalive_timeout or abort_on_linger",
        refuted_by: "another reason",
        decided_by: "orphan-limit, tcp-memory-pressure, and the socket options of the program",
    },
    Cause {
        id: "outside",
        text: "the peer sends them, or a device between",
        predicts: "they come, and no socket of this host sent them",
        refuted_by: "this host sent as many",
        decided_by: "`tcpstate trace --resets` on the other side",
    },
];

/// What is known of the two ends beside the resets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// The service would be here, and nothing listens there.
    pub deaf: bool,
    /// Attempts to connect that clients here gave up.
    pub given_up: u64,
}

impl Ends {
    /// What else is known of a service and of its clients here.
    #[must_use]
    pub fn of(view: &View<'_>, traced: &TracedInterval, netns: Option<NetnsId>, service: Endpoint) -> Ends {
        let given_up = |c: &Connects| -> u64 {
            let is = |kind: ConnectFailure| matches!(kind, ConnectFailure::GivenUp | ConnectFailure::AtOnce);
            c.failed.iter().filter(|(kind, _)| is(*kind)).map(|(_, n)| n).sum()
        };
        Ends {
            deaf: !is_of_a_client(view, netns, service) && callers::listening(view, netns, service).is_none(),
            given_up: traced.connects.iter().filter(|c| c.to == service).map(given_up).sum(),
        }
    }
}

/// Whether the kernel gives this port to clients: where both ends have such a port, the lower one is not the service for sure.
fn is_of_a_client(view: &View<'_>, netns: Option<NetnsId>, at: Endpoint) -> bool {
    let range = view.netns(netns).and_then(|n| n.sysctls.get(Sysctl::Ipv4IpLocalPortRange));
    let port = u64::from(at.port);
    range
        .is_none_or(|range| range.first().is_none_or(|from| port >= *from) && range.get(1).is_none_or(|to| port <= *to))
}

/// How many of these prove a cause, by the kernel's reason and by what the trace saw of the connections.
#[must_use]
pub fn proven(cause: &str, resets: &Resets, ends: Ends) -> u64 {
    let Some(SentFor::Reason(reason)) = resets.sent else {
        return if cause == "gave-up" { resets.waited } else { 0 };
    };
    let of_client = !resets.served_here;
    let named = match reason {
        ResetReason::AbortOnClose => "closed-unread",
        ResetReason::Disconnected | ResetReason::DisconnectWithData => match cause {
            "gave-up" => return resets.waited,
            "cut-off" => return resets.count.saturating_sub(resets.waited),
            _ => return 0,
        },
        ResetReason::AbortOnData | ResetReason::TimeWait if of_client => "late-answer",
        // The SYN-ACKs of attempts that are over.
        ResetReason::NoSocket if of_client && ends.given_up * 2 >= resets.count => "late-answer",
        ResetReason::AbortOnData => "closed-too-early",
        ResetReason::TimeWait => "closed-before",
        ResetReason::NoSocket if ends.deaf && !of_client => "no-listener",
        ResetReason::NoSocket => "not-known",
        ResetReason::AbortOnMemory | ResetReason::KeepaliveTimeout | ResetReason::AbortOnLinger => "kernel",
        _ => return 0,
    };
    if cause == named { resets.count } else { 0 }
}
