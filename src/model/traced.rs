//! What a trace saw between two samples, summed up by destination: connects, resets, repeated segments.
//!
//! Input: sums of `aggregate::outcomes`. Output: facts of a snapshot. Not here: what they mean.

use crate::model::addr::Endpoint;
use crate::model::errno::Errno;
use crate::model::event::ResetReason;
use crate::model::id::NetnsId;

/// What was traced up to a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TracedInterval {
    pub duration_ms: u64,
    /// Events that were lost: then the sums are lower bounds.
    pub lost: u64,
    /// Whether resets are traced too.
    pub resets_traced: bool,
    pub connects: Vec<Connects>,
    pub resets: Vec<Resets>,
    pub retransmits: Vec<Retransmits>,
    /// How connections were closed in order, by service.
    pub ends: Vec<Ends>,
    /// Connections that came and whose handshake the peer ended.
    pub accepted: Vec<Accepted>,
    /// Listeners that were closed; empty in captures that do not tell.
    pub unlistened: Vec<Unlistened>,
    /// Connections whose first FIN this host sent.
    pub closed_here_first: u64,
    /// Resets that answered a segment for which there was no socket, by the addresses and ports of that segment: the most frequent
    /// ones. Refused SYNs are among them.
    pub strays: Vec<Stray>,
    /// Events that belong to none of the groups, of which only so many are kept.
    pub not_grouped: u64,
}

/// Segments for which there was no socket (`SK_RST_REASON_NO_SOCKET`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stray {
    pub netns: Option<NetnsId>,
    /// Where they went, IPv4-mapped addresses as IPv4.
    pub local: Endpoint,
    /// Whom they came from.
    pub peer: Endpoint,
    pub count: u64,
}

impl Stray {
    #[must_use]
    pub fn new(netns: Option<NetnsId>, local: Endpoint, peer: Endpoint, count: u64) -> Stray {
        Stray { netns, local, peer, count }
    }
}

/// What connect() calls a process made to one destination, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connects {
    pub netns: Option<NetnsId>,
    /// IPv4-mapped addresses as IPv4.
    pub to: Endpoint,
    /// Who called; `None`: they had begun before the trace.
    pub program: Option<Program>,
    pub succeeded: u64,
    /// Of these, so many were answered only after the SYN had been repeated, as far as the trace saw them begin; `None` in captures that
    /// do not tell.
    pub succeeded_late: Option<u64>,
    /// How the others failed, most frequent first.
    pub failed: Vec<(ConnectFailure, u64)>,
    /// Of those that failed, how long the shortest and the longest had waited.
    pub waited_ms: Option<(u64, u64)>,
    /// The first failure and the last, since the trace began.
    pub failed_at_ms: Option<(u64, u64)>,
    /// Between one failure and the next, the shortest time and the longest; `None`: fewer than two, or of several processes.
    pub pauses_ms: Option<(u64, u64)>,
    /// How many succeeded after the last failure.
    pub succeeded_since: u64,
    /// How long those that failed had waited, by how they failed; empty in captures that do not tell.
    pub waits: Vec<Waited>,
    /// Of those that succeeded and that the trace saw begin, how long the quickest and the slowest took.
    pub answered_ms: Option<(u64, u64)>,
    /// The first success and the last, since the trace began.
    pub succeeded_at_ms: Option<(u64, u64)>,
}

impl Connects {
    /// None yet.
    #[must_use]
    pub fn none(netns: Option<NetnsId>, to: Endpoint) -> Connects {
        Connects {
            netns,
            to,
            program: None,
            succeeded: 0,
            succeeded_late: Some(0),
            failed: Vec::new(),
            waited_ms: None,
            failed_at_ms: None,
            pauses_ms: None,
            succeeded_since: 0,
            waits: Vec::new(),
            answered_ms: None,
            succeeded_at_ms: None,
        }
    }
}

/// How long attempts that failed in one way had waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waited {
    pub failure: ConnectFailure,
    /// The shortest and the longest of those that the trace saw begin.
    pub ms: Option<(u64, u64)>,
    /// One of the others, which had begun before, waited for so long at least.
    pub at_least_ms: Option<u64>,
}

impl Waited {
    #[must_use]
    pub fn new(failure: ConnectFailure, ms: Option<(u64, u64)>, at_least_ms: Option<u64>) -> Waited {
        Waited { failure, ms, at_least_ms }
    }

    /// The longest, as far as it is known.
    #[must_use]
    pub fn longest_ms(&self) -> Option<u64> {
        self.ms.map(|(_, longest)| longest).max(self.at_least_ms)
    }
}

impl Connects {
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failed.iter().map(|(_, n)| n).sum()
    }

    /// For how long the longest of the failed ones had waited, at least: those that had begun before the trace waited for as much of it.
    #[must_use]
    pub fn longest_wait_ms(&self) -> Option<u64> {
        let at_least = self.waits.iter().filter_map(|w| w.at_least_ms).max();
        let known = self.waited_ms.map(|(_, longest)| longest).max(at_least);
        known.or(self.failed_at_ms.map(|(_, last)| last))
    }

    /// How long those that failed so had waited.
    #[must_use]
    pub fn waited(&self, failure: ConnectFailure) -> Option<Waited> {
        if self.waits.is_empty() {
            return self.waited_ms.map(|ms| Waited::new(failure, Some(ms), None));
        }
        self.waits.iter().copied().find(|w| w.failure == failure)
    }

    /// Some succeeded before the last failure: the service was there, and then was not for this one.
    #[must_use]
    pub fn failed_again(&self) -> bool {
        let (succeeded, failed) = (self.succeeded_at_ms, self.failed_at_ms);
        succeeded.zip(failed).is_some_and(|((first, _), (_, last))| first < last)
    }

    /// The name of the program that called.
    #[must_use]
    pub fn comm(&self) -> Option<&str> {
        self.program.as_ref().map(|p| p.comm.as_str())
    }
}

/// The process behind connects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// One of them.
    pub pid: u32,
    pub comm: String,
    /// How many processes of this name.
    pub processes: u64,
}

/// How a connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// A RST answered the SYN.
    Refused,
    /// Any other error; ECONNREFUSED without a RST came by ICMP.
    Errno(Errno),
    /// The process closed the socket before the handshake ended: its own timeout.
    GivenUp,
    /// The socket ended sooner than any timeout: the program was told something that the trace did not see.
    AtOnce,
    /// No local port was free.
    NoPort,
}

impl ConnectFailure {
    /// The key that JSON prints: a word, or the name of the errno.
    #[must_use]
    pub fn key(self) -> String {
        match self {
            ConnectFailure::Refused => "refused".into(),
            ConnectFailure::Errno(errno) => errno.to_string(),
            ConnectFailure::GivenUp => "given_up".into(),
            ConnectFailure::AtOnce => "at_once".into(),
            ConnectFailure::NoPort => "no_port".into(),
        }
    }
}

/// Resets of one kind at one place. One that answers a SYN is a refused connect and no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resets {
    pub netns: Option<NetnsId>,
    /// The service: the listener's address or port of connections that came in, the destination of those that went out.
    pub service: Endpoint,
    /// Whether the service is on this side of the connections.
    pub served_here: bool,
    /// `None`: the peer sent them.
    pub sent: Option<SentFor>,
    /// Who sent them, or whose connections ended; `None`: not known.
    pub program: Option<Program>,
    pub count: u64,
    /// Of those that came: the connection was open here, so that its process gets ECONNRESET.
    pub open: u64,
    /// Whoever got it had sent data, and nothing had come back yet.
    pub unanswered: u64,
    /// Of the open ones, at the client: used before, then closed by the service, and used again a while after that
    /// (`tcp_reset` sets EPIPE).
    pub after_fin: u64,
    /// Of the open ones: the peer had not closed its side.
    pub in_use: u64,
    /// Of the open ones: cut within a second of the handshake, before more than a line had come. Of those that the service sent: cut
    /// so soon by its process, after no more than a line.
    pub fresh: u64,
    /// Of the open ones, at the service: the client had closed its side, and the service sent after that.
    pub late: u64,
    /// Of those that a client sent: it had asked, and cut the connection off before a byte had come.
    pub waited: u64,
}

impl Resets {
    /// None yet.
    #[must_use]
    pub fn none(netns: Option<NetnsId>, service: Endpoint, served_here: bool) -> Resets {
        Resets {
            netns,
            service,
            served_here,
            sent: None,
            program: None,
            count: 0,
            open: 0,
            unanswered: 0,
            after_fin: 0,
            in_use: 0,
            fresh: 0,
            late: 0,
            waited: 0,
        }
    }
}

/// Connections of one service that ended with FINs and had carried something, by what the client got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// The service had sent something.
    pub answered: u64,
    /// The client closed first, a second or more after the handshake, and nothing had come back to what it had sent.
    pub given_up: u64,
    /// The service closed first, and had sent nothing after something had come.
    pub unanswered: u64,
    /// Of those answered: the service closed first, after no more bytes than a line that says why.
    pub brief: u64,
    /// Of those answered: so many bytes as an error message has, and no more, whoever closed first; `None` in captures that
    /// do not tell.
    pub message: Option<u64>,
    /// The service closed within 0.3 s of the handshake, after no more than a line (or nothing), and the client had said nothing;
    /// these need not have carried anything. `None` in captures that do not tell.
    pub at_once: Option<u64>,
}

impl Counts {
    /// Adds more of them.
    pub fn add(&mut self, more: Counts) {
        let Counts { answered, given_up, unanswered, brief, message, at_once } = more;
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b).or(a).or(b);
        self.answered += answered;
        self.given_up += given_up;
        self.unanswered += unanswered;
        self.brief += brief;
        self.message = sum(self.message, message);
        self.at_once = sum(self.at_once, at_once);
    }
}

/// The same with the service. The end that is the service is told as for [`Resets`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ends {
    pub netns: Option<NetnsId>,
    pub service: Endpoint,
    pub served_here: bool,
    pub counts: Counts,
    /// Those of each program that is known, at the client's end; empty in captures that do not tell.
    pub callers: Vec<(Program, Counts)>,
    /// Those of each process of the service that is known, the ones that left most unserved at the front; empty in captures that do not
    /// tell.
    pub closers: Vec<(Program, Counts)>,
}

impl Ends {
    /// Ends of which no program is known.
    #[must_use]
    pub fn new(netns: Option<NetnsId>, service: Endpoint, served_here: bool, counts: Counts) -> Ends {
        Ends { netns, service, served_here, counts, callers: Vec::new(), closers: Vec::new() }
    }
}

/// Why this host sent a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SentFor {
    Reason(ResetReason),
    /// This kernel does not say.
    Unknown,
}

/// Segments that were sent again to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retransmits {
    pub netns: Option<NetnsId>,
    pub peer: std::net::IpAddr,
    /// Of these SYNs, and SYN-ACKs of sockets.
    pub handshake: u64,
    pub segments: u64,
    /// Of the segments, those of connections that this host had closed: their FIN, or data before it.
    pub closing: u64,
    /// Of all, those that did not leave this host.
    pub failed: u64,
}

/// Connections of one peer to one port of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    pub netns: Option<NetnsId>,
    pub local_port: u16,
    pub peer: std::net::IpAddr,
    pub count: u64,
    /// When the first and the last came, since the trace began.
    pub at_ms: (u64, u64),
}

/// Listeners of one port of this host that were closed: by their program, or with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unlistened {
    pub netns: Option<NetnsId>,
    pub local_port: u16,
    pub count: u64,
}

impl Unlistened {
    #[must_use]
    pub fn new(netns: Option<NetnsId>, local_port: u16, count: u64) -> Unlistened {
        Unlistened { netns, local_port, count }
    }
}
