//! What a trace reports beside changes of state: resets, and repeated segments.
//!
//! Input: what a tracer recorded. Output: facts, one type for each kind, `None` for what the source does not report. What
//! they mean for a connection is in `aggregate`.

use crate::model::addr::{Endpoint, Family};
use crate::model::errno::Errno;
use crate::model::id::NetnsId;
use crate::model::state::State;
use crate::model::transition::{By, Transition};

/// Whatever a trace reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A socket changed its state.
    Change(Transition),
    /// This host sent a RST.
    ResetSent(ResetSent),
    /// A RST came for a socket, and was accepted.
    ResetReceived(ResetReceived),
    /// A segment was sent again.
    Retransmit(Retransmit),
}

impl Event {
    /// The monotonic clock.
    #[must_use]
    pub const fn monotonic_ns(&self) -> u64 {
        match self {
            Event::Change(change) => change.monotonic_ns,
            Event::ResetSent(ResetSent { at, .. })
            | Event::ResetReceived(ResetReceived { at })
            | Event::Retransmit(Retransmit { at, .. }) => at.monotonic_ns,
        }
    }

    /// The change, if it is one.
    #[must_use]
    pub const fn change(&self) -> Option<&Transition> {
        match self {
            Event::Change(change) => Some(change),
            _ => None,
        }
    }
}

/// What one call in the kernel reports of one socket, a change of state and a fault, lies this far apart at most: its task may
/// be preempted in between.
pub const ONE_CALL_NS: u64 = 25_000_000;

/// When and where something happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sighting {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// The monotonic clock, for durations.
    pub monotonic_ns: u64,
    /// Inode of the network namespace; `None` if it is not known.
    pub netns: Option<NetnsId>,
    /// `None` also where there is no socket, or it had no cookie yet.
    pub cookie: Option<u64>,
    /// The socket's kernel address, as changes of state have it; `None`: there is no socket, or it is not known.
    pub address: Option<u64>,
    pub family: Family,
    pub local: Endpoint,
    pub peer: Endpoint,
    /// The state of the socket at that moment; `None`: there is no socket.
    pub state: Option<State>,
    /// What held the socket; `None`: the source cannot tell.
    pub by: Option<By>,
}

#[cfg(test)]
impl Sighting {
    /// Where and when a change of state was, with the state that it led to.
    pub fn of(change: &Transition) -> Sighting {
        Sighting {
            at_us: change.at_us,
            monotonic_ns: change.monotonic_ns,
            netns: change.netns,
            cookie: change.cookie,
            address: change.address,
            family: change.family,
            local: change.local,
            peer: change.peer,
            state: Some(change.new),
            by: change.by,
        }
    }
}

/// A RST that this host sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResetSent {
    pub at: Sighting,
    /// `None`: this kernel does not say (before Linux 6.10).
    pub reason: Option<ResetReason>,
}

/// A RST that a socket accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResetReceived {
    pub at: Sighting,
}

/// A segment that was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retransmit {
    pub at: Sighting,
    /// Why it did not leave this host; `None`: it left, or this kernel reports only those that do.
    pub failed: Option<Errno>,
}

/// Declares the reasons: variant, the kernel's name without `SK_RST_REASON_`, the key, what it means.
macro_rules! reasons {
    ($($(#[$doc:meta])* $Reason:ident $kernel:literal, $key:literal, $text:literal;)*) => {
        /// Why this host sent a RST (`enum sk_rst_reason`, `include/net/rstreason.h`). The numbers differ between
        /// kernels; the names do not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ResetReason {
            $($(#[$doc])* $Reason,)*
            /// One that this version does not know, by the kernel's number.
            Unknown(u32),
        }

        impl ResetReason {
            /// The key of each reason, for the schema.
            pub const KEYS: &[&str] = &[$($key,)* "unknown"];

            /// The reason by its name in the kernel.
            #[must_use]
            pub fn from_kernel(name: &str) -> Option<ResetReason> {
                match name.strip_prefix("SK_RST_REASON_").unwrap_or(name) {
                    $($kernel => Some(ResetReason::$Reason),)*
                    _ => None,
                }
            }

            /// The reason by its number, given those that this kernel has.
            #[must_use]
            pub fn from_number(known: &[(u32, ResetReason)], number: u32) -> ResetReason {
                let of = known.iter().find(|(n, _)| *n == number);
                of.map_or(ResetReason::Unknown(number), |(_, reason)| *reason)
            }

            /// The key that JSON prints.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(ResetReason::$Reason => $key,)*
                    ResetReason::Unknown(_) => "unknown",
                }
            }

            /// The reason as half a sentence.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(ResetReason::$Reason => $text,)*
                    ResetReason::Unknown(_) => "for a reason that this version does not know",
                }
            }
        }
    };
}

reasons! {
    NotSpecified "NOT_SPECIFIED", "not_specified", "for a reason that the kernel does not name";
    /// No socket listens there, or the connection is not known (any more).
    NoSocket "NO_SOCKET", "no_socket", "no socket is there";
    InvalidAck "TCP_INVALID_ACK_SEQUENCE", "invalid_ack", "the acknowledgement is not valid";
    Paws "TCP_RFC7323_PAWS", "paws", "the timestamp is too old";
    TooOldAck "TCP_TOO_OLD_ACK", "too_old_ack", "the acknowledgement is too old";
    AckUnsentData "TCP_ACK_UNSENT_DATA", "ack_unsent_data", "it acknowledges data that was never sent";
    Flags "TCP_FLAGS", "flags", "the flags are not valid";
    OldAck "TCP_OLD_ACK", "old_ack", "the acknowledgement is old";
    /// Data came after the process had closed the socket.
    AbortOnData "TCP_ABORT_ON_DATA", "abort_on_data", "data came after the socket was closed";
    TimeWait "TCP_TIMEWAIT_SOCKET", "timewait", "the connection was in TIME_WAIT";
    InvalidSyn "INVALID_SYN", "invalid_syn", "a SYN came inside the connection";
    /// The process closed the socket with unread data in it.
    AbortOnClose "TCP_ABORT_ON_CLOSE", "abort_on_close", "it was closed with unread data";
    /// The process closed it with a negative `TCP_LINGER2`.
    AbortOnLinger "TCP_ABORT_ON_LINGER", "abort_on_linger", "it was closed with a negative TCP_LINGER2";
    AbortOnMemory "TCP_ABORT_ON_MEMORY", "abort_on_memory", "memory of TCP or orphans had run out";
    /// `tcp_disconnect`: close() with `SO_LINGER` of 0 s, or connect() to no address.
    Disconnected "TCP_STATE", "disconnected", "it was cut off by SO_LINGER 0 or a disconnect";
    KeepaliveTimeout "TCP_KEEPALIVE_TIMEOUT", "keepalive_timeout", "the peer did not answer keepalive";
    DisconnectWithData "TCP_DISCONNECT_WITH_DATA", "disconnect_with_data", "it was disconnected with data unsent";
    MptcpUnspecified "MPTCP_RST_EUNSPEC", "mptcp_unspecified", "MPTCP gave no reason";
    Mptcp "MPTCP_RST_EMPTCP", "mptcp", "an MPTCP error";
    MptcpResource "MPTCP_RST_ERESOURCE", "mptcp_resource", "MPTCP lacked a resource";
    MptcpProhibited "MPTCP_RST_EPROHIBIT", "mptcp_prohibited", "MPTCP prohibits the subflow";
    MptcpTooMuchData "MPTCP_RST_EWQ2BIG", "mptcp_too_much_data", "MPTCP had too much unacknowledged data";
    MptcpPerformance "MPTCP_RST_EBADPERF", "mptcp_performance", "the MPTCP subflow was too slow";
    MptcpMiddlebox "MPTCP_RST_EMIDDLEBOX", "mptcp_middlebox", "a middlebox broke MPTCP";
    Error "ERROR", "error", "an error of the kernel";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_the_kernel_does_not_name_stays_a_number() {
        let known = [(7, ResetReason::NoSocket)];
        assert_eq!(ResetReason::from_number(&known, 7), ResetReason::NoSocket);
        assert_eq!(ResetReason::from_number(&known, 8), ResetReason::Unknown(8));
    }

    #[test]
    fn a_reason_is_found_by_its_name_with_or_without_prefix() {
        assert_eq!(ResetReason::from_kernel("SK_RST_REASON_NO_SOCKET"), Some(ResetReason::NoSocket));
        assert_eq!(ResetReason::from_kernel("TCP_ABORT_ON_CLOSE"), Some(ResetReason::AbortOnClose));
        assert_eq!(ResetReason::from_kernel("MAX"), None);
    }
}
